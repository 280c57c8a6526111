"""What every engine does around a job, and what a process of the local engine does before its first one."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from ckdiff.campaign.records import Outcome
from ckdiff.errors import CkdiffError

if TYPE_CHECKING:
    from ckdiff.campaign.records import Stop, Task, Work

_stopping: Any = None
"""A byte that this process shares with its parent; it has no lock, which a killed process would keep for ever."""


# ------------------------------------------------------------------------------------------------------ every engine


def performed(work: Work, task: Task, stop: Stop) -> Outcome:
    """Do a job; whatever it raises becomes a failed outcome, except for a Ctrl-C."""
    try:
        return work(task, stop)
    except (Exception, SystemExit) as error:
        return failed(task, error)


def failed(task: Task, error: BaseException) -> Outcome:
    """The outcome of a job that raised; a bug's traceback goes to stderr."""
    return Outcome(task.key, "failed", " ".join(_said(error).split()))


def _said(error: BaseException) -> str:
    if isinstance(error, CkdiffError):
        return str(error)
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"cannot write: {error.strerror}; free some disk"
    traceback.print_exception(error)
    return f"a bug in ckdiff: {type(error).__name__}: {error}"


def set_environment(threads: int, gpu: str = "") -> None:
    """Threads and GPU of this process, before NumPy and torch are imported, which read these once.

    Args:
        threads: of OpenMP, which torch's threads are; BLAS gets one, as the door sets it (see `cli.run`).
        gpu: an entry of CUDA_VISIBLE_DEVICES; "" leaves that as it is.
    """
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if gpu:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu


# -------------------------------------------------------------------------------------------------- the local engine


def begin(stopping: Any, threads: int, gpu: str) -> None:
    """Make this process a worker; it imports nothing heavy.

    Args:
        stopping: a shared byte; not zero: running jobs are to end soon.
        threads: as in `set_environment`.
        gpu: likewise.
    """
    global _stopping
    _stopping = stopping
    _leave_interrupts_to_the_parent()
    _end_with_the_parent()
    set_environment(threads, gpu)
    with contextlib.suppress(OSError):
        os.dup2(2, 1)  # stdout is for results, and those are the parent's
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("500")  # a job, rather than the campaign or somebody else, is what memory running out should cost


def ready() -> None:
    """Its result says that a process has begun."""


def call(work: Work, task: Task) -> Outcome:
    """Do a job in a worker."""
    return performed(work, task, _asked_to_stop)


def _asked_to_stop() -> bool:
    return bool(_stopping.value)


def _leave_interrupts_to_the_parent() -> None:
    """Ctrl-C reaches every process of the terminal; the parent decides what becomes of the jobs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _end_with_the_parent() -> None:
    """See to it that this process ends when its parent has, however that ended.

    Not by Linux's PR_SET_PDEATHSIG, which goes off when the *thread* ends that started this process.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent.sentinel,), name="parent", daemon=True).start()


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
