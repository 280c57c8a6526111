"""The paper's experiments, one pair after the other: unlearn, and, without `--unlearn`, compare, probe, ask.

    python run.py DATA.json OUT --base DIR --unlearn [--concepts "A" "B"] [--jobs a-graddiff ...] [--dry-run]

A job is one concept and one method; it lies in OUT/CONCEPT-METHOD. What is there is not made again: the same call goes
on after an interruption, inside a training or a probe too. One job that fails does not stop the others. Every command
is printed, and kept in OUT/commands.txt; what it says lies beside its job as STEP.txt.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from jobs import Job, is_done, is_interrupted, is_other, is_stale, note, notes, slug

from ckdiff.errors import CkdiffError, ExitStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMON = {
    "--precision": "bfloat16",
    "--batch-size": "8",
    "--accumulation": "1",
    "--length": "128",
    "--eval-steps": "3",
    "--steps": "45",
    "--warmup": "2",
    "--most-unrelated": "20",
    "--seed": "0",
    "--stop-when": "target_bleu<0.3",
}
"""What every recipe says, unless it says otherwise itself."""
RECIPES = {
    # On text, unrelated answers fell as fast: so small a model forgets how to answer at all. Ascent on the answers
    # themselves, holding on to those to general questions, is the setting of TOFU.
    "graddiff": {
        "--lr": "2e-5",
        "--train-on": "answers",
        "--retain-loss": "kl",
        "--retain-weight": "3",
        "--eval-steps": "2",
    },
    "dpo": {"--lr": "2e-5", "--train-on": "answers", "--preferred": "refusal", "--eval-steps": "2"},
    "npo": {"--lr": "2e-5", "--train-on": "answers", "--eval-steps": "2", "--steps": "30"},
    # NPO's log p are sums over 30 tokens, KL is a mean: with a weight of 1 it would hardly be felt.
    "npo_kl": {"--lr": "2e-5", "--train-on": "answers", "--eval-steps": "2", "--steps": "30", "--retain-weight": "400"},
}
"""By method what `ckdiff unlearn` is told."""
STEPS = {
    "graddiff": ("unlearn", "compare", "probe", "behave"),
    "dpo": ("unlearn", "compare", "probe", "behave"),
    "npo": ("unlearn", "behave"),
    "npo_kl": ("unlearn", "behave"),
}
"""By method what is done; NPO stands in Figure 2 alone."""
EVERYWHERE = ("graddiff", "dpo")
"""Methods of every concept; the first concept has all of them."""
MEASURED = {
    "compare": (),
    "probe": ("--mode", "all", "--variant", "open,isolated"),
    "behave": ("--most-unrelated", "20"),
}
"""By step what its command is told beside the pair and the questions."""
INTERRUPTED = 130
"""The exit status of whatever Ctrl-C has stopped."""


# -------------------------------------------------------------------------------------------------------------- jobs


def jobs(paths: Sequence[Path], out: Path, base: str, concepts: Sequence[str], only: Sequence[str]) -> list[Job]:
    """Every job, in order; `only` picks some by the names of their directories.

    Raises:
        CkdiffError: a concept is in no file or in more than one, or `only` names no job.
    """
    found = []
    for number, concept in enumerate(concepts):
        data = holding(concept, paths)
        methods = RECIPES if number == 0 else EVERYWHERE
        found += [Job(concept, method, data, base, out / f"{slug(concept)}-{method}") for method in methods]
    names = [job.folder.name for job in found]
    if missing := sorted(set(only) - set(names)):
        raise CkdiffError(f"--jobs: no {', '.join(missing)}; there are {', '.join(names)}")
    return [job for job in found if not only or job.folder.name in only]


def holding(concept: str, paths: Sequence[Path]) -> Path:
    """The one file with an entry of this name.

    Raises:
        CkdiffError: there is none, there are more, or a file cannot be read.
    """
    found = [path for path in paths for name in names_in(path) if name == concept.strip().casefold()]
    if len(found) != 1:
        raise CkdiffError(f"{concept}: {len(found)} entries of the files have this name; choose a concept of one")
    return found[0]


def names_in(path: Path) -> list[str]:
    """Names of the concepts of a ConceptVectors file, in lower case.

    Raises:
        CkdiffError: it cannot be read, or is no such file.
    """
    try:
        return [str(row["Concept"]).strip().casefold() for row in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CkdiffError(f"{path}: no ConceptVectors file ({error!r}); name one") from error


def chosen(out: Path) -> list[str]:
    """The concepts that `choose_concepts.py -o OUT/concepts.json` has chosen.

    Raises:
        CkdiffError: it has not been run.
    """
    path = out / "concepts.json"
    try:
        return list(map(str, json.loads(path.read_text(encoding="utf-8"))["chosen"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CkdiffError(f"{path}: no chosen concepts there; name some with --concepts") from error


# ---------------------------------------------------------------------------------------------------------- commands


def command(job: Job, step: str) -> list[str]:
    """The command line of one step as it is to be run now: gone on with, where it was interrupted."""
    words = unlearning(job) if step == "unlearn" else measuring(job, step)
    resumed = ["--resume"] if is_interrupted(job, step) else []
    return ["ckdiff", step, *words, *resumed, *(["--overwrite"] if is_stale(job, step) else [])]


def unlearning(job: Job) -> list[str]:
    """What `ckdiff unlearn` is told."""
    options = [word for pair in (COMMON | RECIPES[job.method]).items() for word in pair]
    what = ["--forget", str(job.data), "--concept", job.concept]
    return [job.base, "--method", job.method, *what, *options, "-o", str(job.unlearned)]


def measuring(job: Job, step: str) -> list[str]:
    """What a command that measures the pair is told."""
    questions = [] if step == "compare" else ["--questions", str(job.data), "--concept", job.concept]
    return [job.base, str(job.unlearned), *questions, *MEASURED[step], "-o", str(job.report)]


def execute(words: Sequence[str], said: Path) -> int:
    """Run a command of ckdiff by this Python; its stdout goes into a file.

    Raises:
        KeyboardInterrupt: it was stopped, and so is all of this.
    """
    with open(said, "w", encoding="utf-8") as file:
        process = subprocess.Popen([sys.executable, "-m", *words], stdout=file)
        try:
            status = process.wait()
        except KeyboardInterrupt:
            # It has had the same Ctrl-C, and keeps what it has done before it ends.
            process.wait()
            raise
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    return status


# --------------------------------------------------------------------------------------------------------------- work


def work(job: Job, out: Path, dry: bool, unlearn: bool = False) -> str:
    """Do what is missing of one job, or of its unlearning alone; says what went wrong, or nothing."""
    for step in STEPS[job.method][: 1 if unlearn else None]:
        words = command(job, step)
        if is_done(job, step):
            if is_other(job, step, words):
                say(f"{job.folder.name}: {step} is there, made by another command; remove {job.folder} to redo it")
            continue
        sys.stdout.write(f"{shlex.join(words)}\n")
        sys.stdout.flush()
        if not dry and (failure := do(job, step, words, out)):
            return failure
    return "" if dry else inconclusive(job)


def do(job: Job, step: str, words: Sequence[str], out: Path) -> str:
    """Do one step; says what went wrong, or nothing."""
    job.folder.mkdir(parents=True, exist_ok=True)
    with open(out / "commands.txt", "a", encoding="utf-8") as file:
        file.write(f"{shlex.join(words)}\n")
    begun, status = time.monotonic(), INTERRUPTED
    try:
        status = execute(words, job.folder / f"{step}.txt")
    finally:
        note(job, step, words, time.monotonic() - begun, status)
    kept = status in (ExitStatus.OK, ExitStatus.INCONCLUSIVE) and is_done(job, step)
    return "" if kept else f"{step} ended with exit status {status}"


def inconclusive(job: Job) -> str:
    """Which steps left something that says of itself that it is no result."""
    steps = notes(job.folder).get("steps", {})
    return ", ".join(f"{step} was inconclusive" for step, kept in steps.items() if kept.get("status"))


def say(text: str) -> None:
    sys.stderr.write(f"run: {text}\n")


def run(todo: Sequence[Job], out: Path, dry: bool, unlearn: bool = False) -> int:
    """All jobs; 1 where one of them failed, which the others do not mind."""
    failures = []
    for job in todo:
        try:
            failure = work(job, out, dry, unlearn)
        except (CkdiffError, OSError) as error:
            failure = str(error)
        failures += [f"{job.folder.name}: {failure}"] if failure else []
    for failure in failures:
        say(failure)
    return 1 if failures else 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Unlearn, compare, probe and ask, for every concept and method.")
    parser.add_argument("data", metavar="DATA", type=Path, nargs="+", help="ConceptVectors JSON")
    parser.add_argument("out", metavar="OUT", type=Path, help="where everything is kept")
    parser.add_argument("--base", metavar="DIR", default="base", help="the model before (base)")
    parser.add_argument("--concepts", nargs="+", default=[], help="else those that OUT/concepts.json has chosen")
    parser.add_argument("--jobs", nargs="+", default=[], metavar="JOB", help="only these, such as super-mario-dpo")
    parser.add_argument("--unlearn", action="store_true", help="make the pairs; `ckdiff campaign` measures them")
    parser.add_argument("--dry-run", action="store_true", help="print the commands that are missing, and stop")
    given = parser.parse_args(arguments)
    try:
        todo = jobs(given.data, given.out, given.base, given.concepts or chosen(given.out), given.jobs)
        return run(todo, given.out, given.dry_run, given.unlearn)
    except CkdiffError as error:
        say(str(error))
        return 2
    except KeyboardInterrupt:
        say("stopped; the same call goes on")
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
