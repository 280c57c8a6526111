"""What the verdict makes of planted pairs: `print_scores(work, cases)`, from their reports alone.

A single-component plant that changes answers is *located* where the label is that of its component and, where layers
are asked, the verdict's layers hold a planted layer, and every one that is needed, and are no more than the planted
ones and one beside. A planted layer is needed where its part alone changes an answer; where none does, undoing any one
of them brings every answer back, so that any one is right. No layer is asked of `ancillary`, nor of a plant in every
layer, of which the smallest set that explains it is as right as any.

`never` is knowledge that was never there: the base learned it from the unlearned model by a little training. Its label
should be "not localised", and states alone cannot know that: they look as they do where a little training took it away.
Two balanced components are `mixed`; where neither is the value vectors, `suppressed` is as right by its definition.
A plant that changes no answer is *silent*: the right label is "no effect on these questions". Benign are copies,
rounded copies, and a little more training on what is known; a false alarm is any label there that names an effect.
The other statement, `knowledge`, is false where it is "never there" (every base knows its facts), "gone" of a model
that was suppressed or whose answers did not change, and "still there" of one that was trained without the facts.
"Even" are the pairs of even number, on which thresholds were chosen, "odd" the others, of other base models.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.audit.judge import judge_report
from ckdiff.report.hdf5.file import read_report
from ckdiff.report.schema.verdict import KNOWLEDGE, LABELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from ckdiff.report.schema.probe import ProbeRun
    from ckdiff.report.schema.report import Report
    from ckdiff.report.schema.verdict import Verdict

RIGHT = {
    "value_vectors": ("values edited",),
    "keys": ("keys edited",),
    "attention": ("attention rerouted",),
    "ancillary": ("ancillary",),
    "mixed": ("mixed",),
    "intact": ("mixed", "suppressed"),
    "benign": ("identical", "no effect on these questions"),
    "retrained": ("not localised",),
    "suppressed": ("suppressed",),
    "never": ("not localised",),
    "destroyed": ("not localised",),
}
FALSE_KNOWLEDGE = {"retrained": ("still there",), "never": ("still there",)}
FALSE_KNOWLEDGE |= {group: ("gone",) for group in ("suppressed", "benign", "silent")}
"""By group, beside "never there"."""
PLACED = ("value_vectors", "keys", "attention", "ancillary")
SUPPRESSED = ("suppressed",)
NOTHING = ("identical", "no effect on these questions")
HALVES = ("even", "odd")


@dataclass(frozen=True, slots=True)
class Case:
    """One pair: what is true of it, and what the verdict says."""

    truth: dict[str, Any]
    verdict: Verdict

    @property
    def half(self) -> str:
        """The one that it belongs to."""
        return HALVES[self.truth["number"] % 2]

    @property
    def group(self) -> str:
        """What the verdict should find; "silent" where nothing that was planted changes an answer."""
        group: str = self.truth["group"]
        return "silent" if group != "benign" and not self.truth["changed"] else group

    @property
    def label_right(self) -> bool:
        """The label is the right one."""
        return self.verdict.label in (NOTHING if self.group == "silent" else RIGHT[self.group])

    @property
    def false_knowledge(self) -> bool:
        """What it says of the knowledge is not so."""
        return self.verdict.knowledge in ("never there", *FALSE_KNOWLEDGE.get(self.group, ()))

    @property
    def layers_right(self) -> bool:
        """The layers are as the module says."""
        planted, found = set(self.truth["layers"]), set(self.verdict.layers)
        if self.group == "ancillary" or len(planted) > 2:
            return True
        return bool(planted & found) and set(self.truth["needed"]) <= found and len(found) <= len(planted) + 1

    @property
    def right(self) -> bool:
        """Label, and where they are asked the layers too."""
        return self.label_right and (self.group not in PLACED or self.layers_right)


def load(work: Path, name: str = "report.h5") -> Iterator[tuple[dict[str, Any], Report]]:
    """Every pair that has been measured."""
    for path in sorted(work.glob(f"[0-9]*/{name}")):
        truth = json.loads((path.parent / "truth.json").read_text(encoding="utf-8"))
        yield truth, read_report(path)


def judged_cases(work: Path, name: str = "report.h5") -> list[Case]:
    """Every pair, judged now."""
    found = []
    for truth, report in load(work, name):
        verdict = judge_report(report).verdict
        assert verdict is not None
        found.append(Case(truth, verdict))
    return found


def print_scores(work: Path, every: bool, name: str = "report.h5") -> None:
    """Confusion matrices, the aims, and every case that went wrong."""
    cases = judged_cases(work, name)
    out = sys.stdout.write
    out(f"{__doc__}\n{len(cases)} pairs\n")
    for half in (*HALVES, "both"):
        chosen = [case for case in cases if half in (case.half, "both")]
        out(f"\n{half}, {len(chosen)} pairs\n")
        out("\n".join(confusion(chosen)) + "\n")
        out("\n".join(aims(chosen)) + "\n")
        out("\n".join(statements(chosen)) + "\n")
    out("\nby kind (right of those that change answers; right of the silent ones)\n")
    out("\n".join(by_kind(cases)) + "\n")
    out("\nwrong\n" if not every else "\nevery pair\n")
    for case in cases:
        if every or not case.right:
            out(line(case) + "\n")


def confusion(cases: Sequence[Case]) -> list[str]:
    """Rows are what is true, columns what the verdict says."""
    groups = [*RIGHT, "silent"]
    counts = Counter((case.group, case.verdict.label) for case in cases)
    short = [label.split()[0][:10] if label != "no effect on these questions" else "no effect" for label in LABELS]
    rows = [f"{'':14}" + "".join(f"{name:>11}" for name in short)]
    for group in groups:
        cells = "".join(f"{counts[group, label] or '.':>11}" for label in LABELS)
        rows.append(f"{group:14}{cells}")
    return rows


def statements(cases: Sequence[Case]) -> list[str]:
    """Rows are what is true, columns what the verdict says of the knowledge."""
    found = Counter((case.group, case.verdict.knowledge) for case in cases)
    rows = [f"{'knowledge':14}" + "".join(f"{name:>15}" for name in KNOWLEDGE)]
    for group in (*RIGHT, "silent"):
        rows.append(f"{group:14}" + "".join(f"{found[group, name] or '.':>15}" for name in KNOWLEDGE))
    return [*rows, share("false statements of knowledge", [case.false_knowledge for case in cases])]


def aims(cases: Sequence[Case]) -> list[str]:
    """The figures that are aimed at, each with its count."""
    placed = [case for case in cases if case.group in PLACED]
    benign = [case for case in cases if case.group == "benign"]
    alarms = [case for case in benign if case.verdict.label not in (*NOTHING, "inconclusive")]
    silent = [case for case in cases if case.group == "silent"]
    rows = [
        share("located (label and layers)", [case.right for case in placed]),
        share("label alone", [case.label_right for case in placed]),
        share("false alarms, benign and identical", [case in alarms for case in benign]),
        share("false alarms, silent plants", [not case.label_right for case in silent]),
    ]
    for group in ("mixed", "intact", "suppressed", "retrained", "never", "destroyed"):
        rows.append(share(f"{group}: label", [case.label_right for case in cases if case.group == group]))
    for others in (("retrained",), ("retrained", "never")):
        ours, theirs = (
            [case.verdict.score for case in cases if case.group in wanted] for wanted in (SUPPRESSED, others)
        )
        sizes = f"{len(ours)} suppressed, {len(theirs)} {' or '.join(others)}"
        rows.append(f"  AUC of the score, {sizes}: {auc(ours, theirs):.3f}")
    return rows


def share(name: str, hits: Sequence[bool]) -> str:
    """A count of all, as a share with its exact 95 % interval."""
    low, high = exact(sum(hits), len(hits))
    value = f"{sum(hits) / len(hits):.1%} [{low:.1%}, {high:.1%}]" if hits else "-"
    return f"  {name}: {sum(hits)} of {len(hits)}, {value}"


def exact(hits: int, count: int) -> tuple[float, float]:
    """Clopper and Pearson's 95 % interval of a share, by bisection."""

    def at_least(p: float) -> float:
        return sum(math.comb(count, k) * p**k * (1 - p) ** (count - k) for k in range(hits, count + 1))

    def at_most(p: float) -> float:
        return sum(math.comb(count, k) * p**k * (1 - p) ** (count - k) for k in range(hits + 1))

    low = bisect(lambda p: at_least(p) < 0.025) if hits else 0.0
    return low, bisect(lambda p: at_most(p) > 0.025) if hits < count else 1.0


def bisect(before: Callable[[float], bool]) -> float:
    """Where a condition on [0, 1] stops to hold."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if before(middle) else (low, middle)
    return low


def auc(positive: Sequence[float], negative: Sequence[float]) -> float:
    """The chance that a positive has the greater score, ties half; NaN counts as the least of all."""
    if not positive or not negative:
        return math.nan
    ours, theirs = (np.nan_to_num(np.array(values), nan=-np.inf) for values in (positive, negative))
    above = (ours[:, None] > theirs[None]).mean() + (ours[:, None] == theirs[None]).mean() / 2
    return float(above)


def by_kind(cases: Iterable[Case]) -> list[str]:
    """A line a kind."""
    found: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        found[case.truth["kind"]].append(case)
    rows = []
    for kind, members in found.items():
        loud = [case.right for case in members if case.group != "silent"]
        silent = [case.right for case in members if case.group == "silent"]
        labels = Counter(case.verdict.label for case in members if case.group != "silent")
        says = ", ".join(f"{count} {label}" for label, count in labels.most_common())
        rows.append(f"  {kind:34} {sum(loud)}/{len(loud)}  {sum(silent)}/{len(silent)}  {says}")
    return rows


def line(case: Case) -> str:
    """One pair in words."""
    truth, verdict = case.truth, case.verdict
    mark = "ok   " if case.right else "WRONG"
    planted = f"{'+'.join(truth['parts'])} {truth['layers']} x{truth['strength']:.3g} {truth['note']}"
    alone = {key: value for key, value in truth["alone"].items() if len(truth["alone"]) > 1}
    return (
        f"{mark} {truth['number']:03d} {truth['kind']} ({truth['base']}): {planted.strip()}; changed"
        f" {truth['changed']:.2f}, others {truth['changed_others']:.2f} {alone or ''}\n"
        f"      -> {verdict.label} {list(verdict.layers)} score {verdict.score:.2f}: {verdict.reason}"
    )


# --------------------------------------------------------------------------------------------------------- figures


def print_figures(work: Path) -> None:
    """By kind the medians of krs_kl, restoring and breaking: the whole model, then the best window."""
    kinds: dict[str, list[tuple[dict[str, Any], Report]]] = defaultdict(list)
    for truth, report in load(work):
        if report.probe is not None and (truth["changed"] or truth["group"] == "benign"):
            kinds[truth["kind"]].append((truth, report))
    for variant in ("whole", "open"):
        modes = ("values", "keys", "attn-weights", "ancillary", "coeff", "attn", "attn+coeff", "mlp")
        sys.stdout.write(
            f"\nkrs_kl restore/break, {variant}{' (best window)' * (variant == 'open')}: median over the pairs"
            " of a kind that change answers\n"
            f"{'kind':34}  n changed    KL " + "".join(f"{mode:>13}" for mode in modes) + "\n"
        )
        for kind, members in kinds.items():
            changed = np.mean([truth["changed"] for truth, _ in members])
            kl = np.median([report.probe.loss_unlearned.kl for _, report in members if report.probe])
            cells = "".join(f"{cell(members, mode, variant):>13}" for mode in modes)
            sys.stdout.write(f"{kind:34} {len(members):2d}    {changed:.2f} {kl:7.3f} {cells}\n")


def cell(members: Sequence[tuple[dict[str, Any], Report]], mode: str, variant: str) -> str:
    """Median of restoring, and of breaking."""
    found = []
    for direction in ("restore", "break"):
        values = [
            float(np.nanmax(run.krs_kl.score))
            for _, report in members
            for run in runs(report)
            if (run.mode, run.variant, run.direction) == (mode, variant, direction)
            and not np.isnan(run.krs_kl.score).all()
        ]
        found.append(f"{np.median(values):.2f}" if values else "-")
    return "/".join(found)


def runs(report: Report) -> tuple[ProbeRun, ...]:
    """Of its probe."""
    return () if report.probe is None else report.probe.runs
