"""Work for tests of the engines, found by name from other processes.

A task's spec is what it is told; its results directory is where work leaves traces.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from ckdiff.campaign.records import Outcome, Task
from ckdiff.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ckdiff.campaign.records import Stop


def tasks(results: Path, specs: Sequence[Any], **resources: int) -> list[Task]:
    return [Task(f"{i:04d}", f"job {i}", "test", spec, results, **resources) for i, spec in enumerate(specs)]


def note(task: Task, text: str) -> None:
    """One more line in the trace of a task."""
    with open(task.results / f"{task.key}.trace", "a", encoding="utf-8") as file:
        file.write(f"{text}\n")


def trace(task: Task) -> list[str]:
    place = task.results / f"{task.key}.trace"
    return place.read_text(encoding="utf-8").splitlines() if place.exists() else []


def wait_for(place: Path, seconds: float = 30.0, size: int = 0) -> None:
    """Wait until a file is there, with so many bytes in it: a trace is there before its first line is.

    Raises:
        TimeoutError: it never came.
    """
    end = time.monotonic() + seconds
    while not (place.exists() and place.stat().st_size >= size):
        if time.monotonic() > end:
            raise TimeoutError(place)
        time.sleep(0.01)


# -------------------------------------------------------------------------------------------------------------- work


def empty(task: Task, stop: Stop) -> Outcome:
    return Outcome(task.key, "done")


def square(task: Task, stop: Stop) -> Outcome:
    return Outcome(task.key, "done", reason=str(task.spec**2))


def told(task: Task, stop: Stop) -> Outcome:
    """Do what the spec names; a list is what each attempt is to do."""
    note(task, str(os.getpid()))
    spec = task.spec
    order = spec[len(trace(task)) - 1] if isinstance(spec, list) else spec
    return ORDERS[order](task, stop)


def surroundings(task: Task, stop: Stop) -> Outcome:
    """What a worker sees: threads, BLAS threads, GPU, and whether anything heavy was imported before."""
    heavy = ",".join(name for name in ("torch", "numpy", "h5py", "ray") if name in sys.modules)
    seen = [os.environ.get(name, "-") for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES")]
    return Outcome(task.key, "done", reason=" ".join([*seen, heavy or "-"]))


def loud(task: Task, stop: Stop) -> Outcome:
    os.write(1, b"said on descriptor 1\n")
    return Outcome(task.key, "done")


def unsendable(task: Task, stop: Stop) -> Outcome:
    return Outcome(task.key, "done", reason=lambda: "")  # type: ignore[arg-type]


def takes_its_parent_along(task: Task, stop: Stop) -> Outcome:
    note(task, str(os.getpid()))
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(600)
    raise AssertionError


def verbose(task: Task, stop: Stop) -> Outcome:
    return Outcome(task.key, "failed", "a" * 200_000)


def until_stopped(task: Task, stop: Stop) -> Outcome:
    """Work until asked to stop; the trace says that it runs."""
    note(task, str(os.getpid()))
    end = time.monotonic() + 30
    while not stop() and time.monotonic() < end:
        time.sleep(0.01)
    return Outcome(task.key, "stopped" if stop() else "failed", "as asked")


def endless(task: Task, stop: Stop) -> Outcome:
    """Never ends by itself, and hears nothing."""
    note(task, str(os.getpid()))
    time.sleep(600)
    return Outcome(task.key, "failed", "nobody ended it")


def busy(task: Task, stop: Stop) -> Outcome:
    """Never ends, and computes all the while."""
    note(task, str(os.getpid()))
    while True:
        sum(range(10_000))


def dies_when_stopped(task: Task, stop: Stop) -> Outcome:
    if until_stopped(task, stop).state == "stopped":
        os.kill(os.getpid(), signal.SIGKILL)
    return Outcome(task.key, "failed", "never asked")


def meet(task: Task, stop: Stop) -> Outcome:
    """Done when the task whose number the spec names runs as well."""
    note(task, str(os.getpid()))
    wait_for(task.results / f"{task.spec:04d}.trace", size=1)
    return Outcome(task.key, "done", os.environ.get("CUDA_VISIBLE_DEVICES", "-"))


def nap(task: Task, stop: Stop) -> Outcome:
    """A job of so many seconds, which says that it began and that it ended."""
    note(task, f"begun {os.getpid()}")
    time.sleep(task.spec)
    note(task, "ended")
    return Outcome(task.key, "done")


# ------------------------------------------------------------------------------------------------------------ orders


def _done(task: Task, stop: Stop) -> Outcome:
    return Outcome(task.key, "done", sha256="0" * 64, peak=7)


def _inconclusive(task: Task, stop: Stop) -> Outcome:
    return Outcome(task.key, "inconclusive", "nothing to recover")


def _bug(task: Task, stop: Stop) -> Outcome:
    raise TypeError("two\nlines")


def _exits(task: Task, stop: Stop) -> Outcome:
    sys.exit(5)


def _refused(task: Task, stop: Stop) -> Outcome:
    raise CheckpointError("/a/b: no such checkpoint")


def _allocates(task: Task, stop: Stop) -> Outcome:
    return Outcome(task.key, "done", str(len(bytearray(1 << 62))))


def _killed(task: Task, stop: Stop) -> Outcome:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def _segfaults(task: Task, stop: Stop) -> Outcome:
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def _quits(task: Task, stop: Stop) -> Outcome:
    os._exit(3)


ORDERS = {
    "done": _done,
    "inconclusive": _inconclusive,
    "bug": _bug,
    "exits": _exits,
    "refused": _refused,
    "allocates": _allocates,
    "killed": _killed,
    "segfaults": _segfaults,
    "quits": _quits,
    "endless": endless,
}
