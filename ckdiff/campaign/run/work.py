"""One job, in whatever process: `perform(task, stop)` measures, writes the report and says how it ended.

A new kind of job is one function and one line in `WORK`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
import traceback
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ckdiff.cache import Cache
from ckdiff.campaign.records import Outcome
from ckdiff.campaign.run.store import Store, sha256_of, write_marker
from ckdiff.errors import CkdiffError, ExitStatus, is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TextIO

    from ckdiff.campaign.records import Stop, Task
    from ckdiff.progress import Listener
    from ckdiff.report.schema.report import Report


def perform(task: Task, stop: Stop) -> Outcome:
    """Do a job; its report, how it ended, and what it said are kept in the results directory.

    Nothing is raised but what ends a process (KeyboardInterrupt of a second Ctrl-C).
    """
    store, begun = Store(task.results), time.monotonic()
    peak = _watch_memory()
    marker = store.marker(task.key)
    write_marker(marker, {"key": task.key, "name": task.name, "pid": os.getpid(), "host": socket.gethostname()})
    try:
        with _log(store, task) as log:
            outcome = _perform(task, stop, store, log)
    finally:
        with contextlib.suppress(OSError):
            marker.unlink(missing_ok=True)
    outcome = replace(outcome, seconds=round(time.monotonic() - begun, 3), peak=peak())
    if outcome.state != "stopped":
        # With a full disk the report is there or it is not; what is lost is how long it took.
        with contextlib.suppress(OSError):
            store.keep(outcome)
    return outcome


def _perform(task: Task, stop: Stop, store: Store, log: TextIO) -> Outcome:
    from ckdiff.probes.kept_sweep import remove
    from ckdiff.progress import Listener, Stopped
    from ckdiff.report.hdf5.file import write_report

    listener = Listener(stop=stop, remark=lambda text: print(text, file=log, flush=True), cache=Cache(task.results))
    try:
        _set_threads(task)
        report = WORK[task.run](task, listener)
        place = store.report(task.key)
        write_report(report, place)
        remove(_partial(task))
        return Outcome(task.key, "done", sha256=sha256_of(place))
    except Stopped:
        return Outcome(task.key, "stopped", "stopped; what is done is kept")
    except CkdiffError as error:
        state = "inconclusive" if error.exit_status is ExitStatus.INCONCLUSIVE else "failed"
        return _end(task, state, str(error), log)
    except OSError as error:
        return _end(task, "failed", f"{error.filename or 'a file'}: {error.strerror or error}", log)
    except Exception as error:
        if is_out_of_memory(error):
            return _end(task, "failed", "not enough memory; in the plan: [resources] stream = 'on', or batch_size", log)
        traceback.print_exc(file=log)
        return _end(task, "failed", f"a bug in ckdiff: {type(error).__name__}: {error}; see its log", log)


def _end(task: Task, state: Any, reason: str, log: TextIO) -> Outcome:
    line = " ".join(reason.split())
    if " --" in line or line.startswith("--"):
        line += " (in a plan the options are keys of [measure] and [resources])"
    print(line, file=log, flush=True)
    return Outcome(task.key, state, line)


def _compare(task: Task, listener: Listener) -> Report:
    from ckdiff.calls.compare import compare_open
    from ckdiff.calls.provenance import open_pair

    return compare_open(*open_pair(task.spec), task.spec.hash, cache=listener.cache, threads=task.threads)


def _behave(task: Task, listener: Listener) -> Report:
    from ckdiff.calls.behave import behave

    return behave(_with_memory(task), listener)


def _probe(task: Task, listener: Listener) -> Report:
    from ckdiff.calls.probe import probe

    place = _partial(task)
    return probe(_with_memory(task), listener, None, place, place.exists())


def _audit(task: Task, listener: Listener) -> Report:
    from ckdiff.calls.audit import audit_pair

    place = _partial(task)
    return audit_pair(_with_memory(task), listener, None, None, place, place.exists())


def _attack(task: Task, listener: Listener) -> Report:
    from ckdiff.calls.attack import attack

    place = _partial(task)
    return attack(_with_memory(task), listener, None, place, place.exists())


def _depth(task: Task, listener: Listener) -> Report:
    from ckdiff.calls.depth import depth

    place = _partial(task)
    return depth(_with_memory(task), listener, None, place, place.exists())


WORK: dict[str, Callable[[Task, Listener], Report]] = {
    "compare": _compare,
    "behave": _behave,
    "probe": _probe,
    "audit": _audit,
    "attack": _attack,
    "depth": _depth,
}
"""By kind of job what does it."""


def _partial(task: Task) -> Any:
    from ckdiff.probes.kept_sweep import place

    return place(Store(task.results).report(task.key))


def _set_threads(task: Task) -> None:
    if task.run == "compare":
        return  # needs no torch
    import torch

    torch.set_num_threads(task.threads)


def _with_memory(task: Task) -> Any:
    """The spec, planning with the memory that the plan gives, or with all that the machine has.

    Never with what is free just now: streaming, and with it the last bits, would depend on the jobs beside it.
    """
    if task.memory:
        return task.spec
    settings = replace(task.spec.settings, memory=machine_memory(task.spec.settings.device))
    return replace(task.spec, settings=settings)


def machine_memory(device: str) -> int:
    """Bytes that a device has in all; of a CPU as far as a container's limit lets it."""
    from ckdiff.probes.cost import total_memory
    from ckdiff.probes.preparation import device_of

    return total_memory(device_of(device))


def _watch_memory() -> Callable[[], int]:
    """Gives the greatest resident memory from now on, where the system tells (Linux)."""
    with contextlib.suppress(OSError):
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
        return _peak
    return lambda: 0


def _peak() -> int:
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM:"))
    return 0


@contextlib.contextmanager
def _log(store: Store, task: Task) -> Iterator[TextIO]:
    """The job's log, begun anew; what libraries print goes there as well. Without a place for it, nowhere."""
    try:
        file = open(store.log(task.key), "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
    except OSError:
        file = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    with file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
        print(f"{task.name}: {task.run}, {task.threads} threads, key {task.key}", file=file, flush=True)
        yield file
        sys.stdout.flush()
