"""What an audit saves that sweeps only the windows that its verdict needs: CPU seconds of both, and both verdicts.

  python benchmarks/audit.py [BASE UNLEARNED --questions FILE] [--runs 1] [--work DIR] [-- OTHER OPTIONS]

Audits the pair in turn with `--windows all` and `--windows needed`, `--runs` times, each in a process of its own with
one thread, and prints the median CPU seconds of the process and the ratio; the same without what a process takes that
asks nothing (`--plan`: imports, configs, tokenizers); peak resident memory; and whether label, component, layers and
knowledge are the same. Without a pair it makes that of `ckdiff demo`. Exits with 1 where the verdicts differ.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from ckdiff.report.hdf5.file import read_report
from ckdiff.scoring.settings import EVERY, NEEDED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.report.schema.report import Report

WAYS = (EVERY, NEEDED)
DONE = {0, 1, 3}
"""Exit statuses of an audit that came to a verdict."""


def measure(arguments: Sequence[str], statuses: set[int]) -> tuple[float, float]:
    """CPU seconds and peak resident MB of one ckdiff process."""
    one = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "ckdiff", *arguments]
    process = subprocess.Popen(command, env={**os.environ, **one}, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in statuses:
        sys.exit(f"{' '.join(command)}: ended with {process.returncode}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def audit(pair: Sequence[str], way: str, place: Path) -> tuple[float, float]:
    """The same of one audit, whose report lies at a place."""
    options = ["--windows", way, "--threads", "1", "-o", str(place), "--overwrite", "--quiet"]
    return measure(["audit", *pair, *options], DONE)


def statement(report: Report) -> tuple[object, ...]:
    """Everything that a verdict says and that must not depend on the windows."""
    found = report.verdict
    assert found is not None
    return found.label, found.component, found.layers, found.knowledge


def describe(report: Report) -> str:
    """Runs with windows, windows, and what the verdict says."""
    assert report.probe is not None
    curves = [run for run in report.probe.runs if len(run.layers) and run.layers[0] >= 0]
    return f"{len(curves)} curves, {sum(len(run.layers) for run in curves)} windows; {statement(report)}"


def demo(work: Path) -> list[str]:
    """The arguments of an audit of the demo's pair."""
    folder = work / "demo"
    if not folder.exists():
        measure(["demo", str(folder), "--quiet"], {0})
    questions = ["--questions", str(folder / "target.jsonl"), "--unrelated", str(folder / "unrelated.jsonl")]
    return [str(folder / "base"), str(folder / "unlearned"), *questions]


def compare(pair: Sequence[str], runs: int, work: Path) -> bool:
    """Audit in both ways, print what it took, and say whether the verdicts are one."""
    places = {way: work / f"{way}.h5" for way in WAYS}
    taken: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for _ in range(runs):
        for way in WAYS:
            taken[way].append(audit(pair, way, places[way]))
    start = statistics.median(measure(["audit", *pair, "--plan", "--threads", "1"], {0})[0] for _ in range(runs))
    seconds = {way: statistics.median(cpu for cpu, _ in taken[way]) for way in WAYS}
    reports = {way: read_report(places[way]) for way in WAYS}
    out = sys.stdout.write
    for way in WAYS:
        peak = max(megabytes for _, megabytes in taken[way])
        out(f"--windows {way:7}{seconds[way]:9.1f} CPU s, {peak:7.0f} MB; {describe(reports[way])}\n")
    out(f"ratio {seconds[NEEDED] / seconds[EVERY]:.2f}\n")
    inner = {way: max(seconds[way] - start, 1e-9) for way in WAYS}
    out(f"ratio without the {start:.1f} s of starting {inner[NEEDED] / inner[EVERY]:.2f}\n")
    same = statement(reports[EVERY]) == statement(reports[NEEDED])
    out(f"verdicts {'are the same' if same else 'DIFFER'}\n")
    return same


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pair", nargs="*", help="BASE UNLEARNED, and other options of an audit behind --")
    parser.add_argument("--questions", help="of the pair")
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--work", type=Path, help="where pair and reports are kept; else they are removed")
    given = parser.parse_intermixed_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = given.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        asked = ["--questions", given.questions] if given.questions else []
        pair = [*given.pair, *asked] if given.pair else demo(work)
        return 0 if compare(pair, given.runs, work) else 1


if __name__ == "__main__":
    sys.exit(main())
