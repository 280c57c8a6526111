"""`ckdiff demo`: all of ckdiff on a fresh machine, without a network, in less than a minute."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import replace
from pathlib import Path
from shlex import quote
from textwrap import fill
from typing import TYPE_CHECKING, Annotated

import typer

from ckdiff.cli.console import present, remark, write, write_lines
from ckdiff.cli.options import DETAILS, QUIET, TABLE
from ckdiff.cli.session import set_threads, work
from ckdiff.errors import CkdiffError
from ckdiff.files import beside, is_left_behind, unwritable
from ckdiff.options import SEED, Argument, Option
from ckdiff.unlearn.recipe import check_installed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckdiff.errors import ExitStatus
    from ckdiff.progress import Listener
    from ckdiff.report.schema.report import Report

REPORT, FIGURES = "ckdiff.h5", ("probe.svg", "behaviour.svg")
PAGE, REFERENCE = "page.html", "reference"
PAIR = ("base", "unlearned", "target.jsonl", "unrelated.jsonl", ".unlearned.saving", ".unlearned.unlearning")
WIDTH = 100
"""Of the sentences at the end."""
GONE = Option("--gone", "An honest erasure instead, and its audit, which passes: trained anew without two towns.")
MARK = "demo"
"""What the hidden file is named after that lies in the directory until the demo has ended."""


class DemoError(CkdiffError):
    """A place that the demo cannot use."""


def demo(
    folder: Annotated[Path, Argument("A new or empty directory.")] = Path("ckdiff-demo"),
    gone: Annotated[bool, GONE] = False,
    seed: Annotated[int, SEED.but("Of the model and of the unlearning.")] = 0,
    details: Annotated[bool, DETAILS.but("Print everything that the commands print, not one screen.")] = False,
    quiet: Annotated[bool, QUIET] = False,
) -> None:
    """See all of it: make a tiny model that knows an invented world, unlearn one town, look what happened."""
    sweep_killed(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DemoError(f"{folder}: already exists and is not an empty directory; name a new one")
    check_installed()
    # A model of 192 thousand parameters is not worth a second thread, and one gives the same bytes everywhere.
    set_threads(1)

    def show_all(listener: Listener) -> Report:
        make_pair(folder, seed, listener)
        return look(folder, listener)

    if gone:
        raise typer.Exit(show_gone(folder, seed, details, quiet))
    with clear(folder):
        report = work(show_all, quiet)
    if details:
        present(report, TABLE, 3, show_questions=4)
        write("\n")
    write(f"{in_short(report, folder)}\n")
    for name in (REPORT, *FIGURES):
        remark(f"{folder / name}", quiet)


@contextlib.contextmanager
def clear(folder: Path) -> Iterator[None]:
    """Make the directory, and leave nothing of it behind when anything goes wrong."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DemoError(f"{folder}: cannot be made ({unwritable(error)}); name another place") from error
    mark = beside(folder / MARK)
    try:
        mark.touch()
        yield
        mark.unlink()
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def sweep_killed(folder: Path) -> None:
    """Remove what a killed demo left in its directory, and nothing else."""
    if not folder.is_dir():
        return
    left = [path for path in folder.iterdir() if is_left_behind(path)]
    marks = [path for path in left if path.name.startswith(f".{MARK}.")]
    if not marks:
        return
    made = (folder / name for name in (*PAIR, REFERENCE, REPORT, PAGE, *FIGURES))
    for path in (*made, *set(left).difference(marks), *marks):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def make_pair(folder: Path, seed: int, listener: Listener) -> None:
    """`folder/base` knows the facts of six towns; `folder/unlearned` has lost one of them."""
    from ckdiff.calls.unlearn import make_unlearned
    from ckdiff.unlearn.recipe import Recipe, UnlearnSpec
    from ckdiff.unlearn.world import FORGOTTEN, STEPS, make_base

    listener.remark("a tiny model learns 48 facts about six invented towns ...")
    says = "facts by heart"
    make_base(folder, STEPS, seed, lambda step: listener.progress("learning", step, STEPS, says))
    listener.remark(f"... and unlearns those about {FORGOTTEN} with Gradient Difference")
    target, unrelated = folder / "target.jsonl", folder / "unrelated.jsonl"
    recipe = Recipe(
        method="graddiff",
        retain_loss="kl",
        retain_weight=3.0,
        limit=3.0,
        lr=1e-4,
        # All is lost after 30; no condition on BLEU, which a guess of one of the two words can raise.
        steps=60,
        warmup=1,
        accumulation=1,
        weight_decay=0.0,
        evaluate_every=10,
        seed=seed,
        device="cpu",
    )
    make_unlearned(
        UnlearnSpec(
            str(folder / "base"),
            folder / "unlearned",
            forget=target,
            retain=unrelated,
            questions=target,
            unrelated=unrelated,
            recipe=recipe,
        ),
        listener,
    )


def in_short(report: Report, folder: Path) -> str:
    """The tables in a few lines, what follows from them, and what to type next."""
    from ckdiff.audit.verdict.verdict import judge
    from ckdiff.report.words.attack import headline
    from ckdiff.report.words.summary import summary_answers

    assert report.behaviour is not None
    assert report.probe is not None
    assert report.attack is not None
    town, others = report.behaviour.answers
    lines = [f" - answers as before: {town.exact.value:.0%} of the target's, {others.exact.value:.0%} of the others"]
    for run in report.probe.runs:
        if run.variant == "open":
            best = int(run.krs_kl.score.argmax())
            score = run.krs_kl.score[best]
            lines.append(f" - {run.mode} of the base put back in layer {best}: {score:.2f} recovered (krs_kl)")
    most = max(float(run.krs_kl.score.max()) for run in report.probe.runs)
    found = judge(report)
    base, unlearned, target, other = (quote(str(folder / name)) for name in PAIR[:4])
    answers = [f"   {one.question}  {one.base} → {one.unlearned}" for one in summary_answers(report)]
    return "\n".join(
        [
            "In short",
            *lines,
            " - the target's answers, base → unlearned:",
            *answers,
            f" - attacked, without the base's help: {headline(report.attack, found)}",
            fill(
                f"So: of what was lost (krs_kl), states of the base in one layer bring {most:.0%} back. That says where"
                f" the effect lives. What the unlearned model knows by itself, attacks tell: {found.knowledge}."
                f" {found.knowledge_reason} Next:",
                WIDTH,
            ),
            f"$ ckdiff audit {base} {unlearned} --questions {target} --unrelated {other} --window 1",
            f"$ ckdiff html {REPORT} --output page.html",
        ]
    )


def look(folder: Path, listener: Listener) -> Report:
    """Compare, probe, behave and attack, as the commands do; the report and its figures are written beside the pair."""
    from ckdiff.calls.attack import attack
    from ckdiff.calls.behave import behave
    from ckdiff.calls.compare import compare
    from ckdiff.calls.probe import probe
    from ckdiff.calls.specs import AttackSpec, BehaveSpec, CompareSpec, ProbeSpec
    from ckdiff.report.figures.behaviour import write_behaviour_figure
    from ckdiff.report.figures.probe import write_figure
    from ckdiff.report.hdf5.file import write_report
    from ckdiff.scoring.settings import Settings

    base, unlearned = str(folder / "base"), str(folder / "unlearned")
    target, unrelated = folder / "target.jsonl", folder / "unrelated.jsonl"
    settings = Settings(modes=("coeff", "attn", "values"), window=1, device="cpu")
    listener.remark("comparing, probing, asking both ...")
    report = compare(CompareSpec(base, unlearned), accept=None)
    report = probe(ProbeSpec(base, unlearned, target, settings=settings), listener, report)
    spec = BehaveSpec(base, unlearned, target, unrelated=unrelated, neutral=False, settings=settings)
    report = behave(spec, listener, report)
    listener.remark("... and attacking the unlearned one by prompts and by rounding its weights")
    report = attack(AttackSpec(base, unlearned, target, unrelated=unrelated, settings=settings), listener, report)
    write_report(report, folder / REPORT)
    write_figure(report, folder / FIGURES[0])
    write_behaviour_figure([("", report)], folder / FIGURES[1])
    return report


def show_gone(folder: Path, seed: int, details: bool, quiet: bool) -> ExitStatus:
    """Make an honest erasure, audit it as a release would be, and print what came of it; the gate's status."""
    from ckdiff.report.words.commands import break_command
    from ckdiff.report.words.verdict import exit_status

    def make_and_audit(listener: Listener) -> Report:
        make_honest_pair(folder, seed, listener)
        return audit_honest(folder, listener)

    with clear(folder):
        report = work(make_and_audit, quiet)
    typed, place = type_audit(folder), folder / REPORT
    write_lines([*break_command(f"ckdiff audit {' '.join(typed.values())} --output {quote(str(place))}", WIDTH), ""])
    present(report, TABLE, 10, "verdict", 0, not details, place, typed)
    for name in (REPORT, PAGE):
        remark(f"{folder / name}", quiet)
    return exit_status(report.verdict)


def type_audit(folder: Path) -> dict[str, str]:
    """The audit of an honest erasure as it would be typed: arguments and options by their names."""
    base, unlearned, target, unrelated, reference = (quote(str(folder / name)) for name in (*PAIR[:4], REFERENCE))
    return {
        "BASE": base,
        "UNLEARNED": unlearned,
        "--questions": f"--questions {target}",
        "--unrelated": f"--unrelated {unrelated}",
        "--no-neutral": "--no-neutral",
        "--window": "--window 1",
        "--tier": "--tier 0,1,2",
        "--reference": f"--reference {reference}",
        "--reference-kind": "--reference-kind retrained",
    }


def make_honest_pair(folder: Path, seed: int, listener: Listener) -> None:
    """`folder/base` knows the facts of six towns; `unlearned` and `reference` are trained anew without two of them."""
    from ckdiff.unlearn.world import STEPS, UNKNOWN, make_honest

    says = "facts by heart"
    towns = " and ".join(UNKNOWN)
    listener.remark(f"a tiny model learns 48 facts about six invented towns, two others all but those of {towns} ...")
    make_honest(folder, seed, lambda step: listener.progress("learning", step, 3 * STEPS, says))


def audit_honest(folder: Path, listener: Listener) -> Report:
    """Audit it with attacks of three tiers beside the model that never knew; report and page lie beside the models."""
    from ckdiff.audit.gate.policy import read_policy
    from ckdiff.calls.audit import audit_pair
    from ckdiff.calls.html import html
    from ckdiff.calls.specs import AuditSpec, audit_settings
    from ckdiff.report.hdf5.file import write_report

    listener.remark("... one of which is called unlearned, and audited beside the other: asked, attacked, trained ...")
    spec = AuditSpec(
        str(folder / "base"),
        str(folder / "unlearned"),
        questions=folder / "target.jsonl",
        unrelated=folder / "unrelated.jsonl",
        neutral=False,
        tiers=(0, 1, 2),
        reference=str(folder / REFERENCE),
        reference_kind="retrained",
        policy=read_policy(),
        settings=replace(audit_settings(), window=1, device="cpu"),
    )
    report = audit_pair(spec, listener)
    write_report(report, folder / REPORT)
    html(report, folder / PAGE)
    return report
