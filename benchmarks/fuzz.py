"""Files that somebody made to harm their reader: mutants of every kind of file, each of which is read or refused.

  python benchmarks/fuzz.py WORK [--targets trees,images,...] [--mutants 1000] [--seconds 600]

A mutant is its number: the same one is the same file tomorrow. Each batch runs in a process of its own, and its mutants
in copies of it, so that a crash counts, and the next copy goes on behind it. What was done is kept in WORK, one file a
target, and gone on from there. A fault is an exception that is not ckdiff's own, the end of the process, more than
`MOST_SECONDS`, or more than `MOST_MEMORY` bytes beyond what the process had; each is a line in WORK/faults.jsonl.
"""

from __future__ import annotations

import argparse
import faulthandler
import json
import mmap
import os
import random
import resource
import selectors
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

BATCH = 2000
MOST_SECONDS = 5.0
"""Of a processor."""
MOST_MEMORY = 1 << 30
HANG = 60
"""Seconds by the clock, on a machine that is busy, after which a mutant hangs, and is ended with its process."""
PATIENCE = 90.0
"""The same, where that does not help."""


# ----------------------------------------------------------------------------------------------------------- one batch


def run_batch(name: str, first: int, count: int, folder: Path) -> None:
    """Try some mutants in copies of this process: one copy takes what is left, until a mutant ends it.

    A line on standard output says of each mutant its number, what came of it, and why it is a fault.
    """
    from fuzz_reports import READING
    from fuzz_targets import TARGETS

    warnings.simplefilter("error", RuntimeWarning)
    # What libraries print is no line of ours.
    lines = os.dup(1)
    os.dup2(2, 1)
    act, at = TARGETS[name](folder), mmap.mmap(-1, 8)
    while (begun := int.from_bytes(at, "little") + first) < first + count:
        child = os.fork()
        if not child:
            _run_copy(act, name, range(begun, first + count), at, lines)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            number = int.from_bytes(at, "little") + first
            # The library that reads a report may crash: ckdiff calls it in a process of its own. It may not hang.
            expected = bool(READING[0]) and status != -signal.SIGALRM
            _say(lines, number, "refused" if expected else "fault", f"the process ended with {status}")
            at[:], READING[0] = (number + 1 - first).to_bytes(8, "little"), 0


def _run_copy(act: Any, name: str, numbers: range, at: mmap.mmap, lines: int) -> None:
    """Try mutants, and end the process; `at` counts those that are done."""
    from fuzz_reports import COPY

    COPY[0] = True
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    faulthandler.disable()
    done, before = int.from_bytes(at, "little"), _peak()
    try:
        for number in numbers:
            signal.alarm(HANG)
            began = _seconds()
            what, detail = _try(act, random.Random(f"{name} {number}"))
            seconds, grown = _seconds() - began, _peak() - before
            if what != "fault" and (seconds > MOST_SECONDS or grown > MOST_MEMORY):
                what, detail = "fault", f"{seconds:.1f} s, {grown >> 20} MB"
            before = max(before, _peak()) if grown > MOST_MEMORY else before
            _say(lines, number, what, detail)
            done += 1
            at[:] = done.to_bytes(8, "little")
    except BaseException:
        os._exit(1)
    os._exit(0)


def _say(lines: int, number: int, what: str, detail: str) -> None:
    os.write(lines, (json.dumps({"number": number, "what": what, "detail": detail}) + "\n").encode())


def _seconds() -> float:
    """Of a processor, for this process and those that it waited for: other work on the machine does not count."""
    return sum(os.times()[:4])


def _try(act: Any, chance: random.Random) -> tuple[str, str]:
    from ckdiff.errors import CkdiffError

    try:
        return str(act(chance)), ""
    except CkdiffError:
        return "refused", ""
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return "fault", f"{type(error).__name__}: {error}"[:300] + _place(error)


def _place(error: BaseException) -> str:
    frame, place = error.__traceback__, ""
    while frame is not None:
        file = frame.tb_frame.f_code.co_filename
        place = f" ({Path(file).name}:{frame.tb_lineno})" if "ckdiff" in Path(file).parts else place
        frame = frame.tb_next
    return place


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


# --------------------------------------------------------------------------------------------------------- all batches


def fuzz(work: Path, name: str, most: int, end: float) -> dict[str, int]:
    """Go on with a target until it has so many mutants, or until time is over."""
    state = work / f"{name}.json"
    counts: dict[str, int] = json.loads(state.read_text()) if state.exists() else {"next": 0}
    while counts["next"] < most and time.monotonic() < end:
        rows, last = _apart(name, counts["next"], min(BATCH, most - counts["next"]))
        if last:
            rows.append({"number": counts["next"] + len(rows), "what": "fault", "detail": last})
        total = Counter(counts) + Counter(row["what"] for row in rows)
        counts = {**total, "next": counts["next"] + len(rows)}
        with (work / "faults.jsonl").open("a") as file:
            file.writelines(json.dumps({"target": name, **row}) + "\n" for row in rows if row["what"] == "fault")
        state.write_text(json.dumps(counts))
    return counts


def _apart(name: str, first: int, count: int) -> tuple[list[dict[str, Any]], str]:
    """A batch in a process of its own: its lines, and how it ended where it did not end well."""
    command = [sys.executable, __file__, "--batch", name, str(first), str(count)]
    root = Path(__file__).resolve().parent.parent
    rows: list[dict[str, Any]] = []
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=_environment(root)) as child,
        selectors.DefaultSelector() as selector,
    ):
        assert child.stdout is not None
        selector.register(child.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(PATIENCE):
                child.kill()
                return rows, f"no end within {PATIENCE:.0f} s"
            line = child.stdout.readline()
            if not line:
                break
            rows.append(json.loads(line))
        status = child.wait()
        errors.seek(0)
        said = errors.read().decode("utf-8", "replace").strip().splitlines()
    return rows, "" if len(rows) == count else f"the process ended with {status}: {said[-1] if said else ''}"[:300]


def _environment(root: Path) -> dict[str, str]:
    places = [str(root), str(root / "benchmarks"), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, places)), "OMP_NUM_THREADS": "1"}


def main() -> int:
    if sys.argv[1:2] == ["--batch"]:
        with tempfile.TemporaryDirectory() as folder:
            run_batch(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(folder))
        return 0
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from fuzz_targets import TARGETS

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("work", type=Path)
    parser.add_argument("--targets", default=",".join(TARGETS), help="some only, by name, with commas between")
    parser.add_argument("--mutants", type=int, default=1000, help="of each target, those of earlier runs included")
    parser.add_argument("--seconds", type=float, default=600, help="for each target")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    faults = 0
    for name in given.targets.split(","):
        counts = fuzz(given.work, name, given.mutants, time.monotonic() + given.seconds)
        faults += counts.get("fault", 0)
        said = ", ".join(f"{counts.get(what, 0)} {what}" for what in ("read", "refused", "fault"))
        sys.stdout.write(f"{name:12}{counts['next']:8} mutants: {said}\n")
        sys.stdout.flush()
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
