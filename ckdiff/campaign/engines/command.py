"""A job as a command, begun and waited for: `run_command(work, task, stopping, over)`.

The command has a session of its own, so that a terminal's Ctrl-C does not reach it: whoever began it decides what
becomes of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING

from ckdiff.campaign.engines.job import LENGTH, fail
from ckdiff.campaign.records import CampaignError, Outcome

if TYPE_CHECKING:
    from threading import Event

    from ckdiff.campaign.records import Task, Work

COMMAND = ("-P", "-m", "ckdiff.campaign.engines.job")
"""What the interpreter is told."""
LOOKED_EVERY = 0.1
"""Seconds between two looks at `stopping` and `over`."""


class LostError(Exception):
    """A job's process ended and did not say how the job did; the message follows on "its process"."""


@dataclass(frozen=True, slots=True)
class Signals:
    """The signals of those who began a job.

    Attributes:
        stopping: set: end soon, keeping what is done.
        over: set: every process is killed.
    """

    stopping: Event
    over: Event


def run_command(work: Work, task: Task, signals: Signals, gpu: str = "") -> Outcome:
    """Do a job in a process of its own and wait for it.

    Args:
        work: does the job; found by its name in the other process.
        task: the job.
        signals: looked at while it runs.
        gpu: an entry of CUDA_VISIBLE_DEVICES; "" leaves that as it is.

    Raises:
        LostError: the process ended otherwise.
        CampaignError: no process can be started.
    """
    try:
        content = pickle.dumps((work, task))
    except Exception as error:  # a job that cannot be sent to another process
        return fail(task, error)
    try:
        process = subprocess.Popen(
            [sys.executable, *COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(task.threads, gpu),
            start_new_session=True,
        )
    except OSError as error:
        raise CampaignError(f"no process can be started for a job: {error.strerror}") from error
    with process:
        try:
            _tell(process, len(content).to_bytes(LENGTH) + content)
            _wait(process, signals)
        finally:
            _kill(process)
        assert process.stdout is not None
        said = process.stdout.read()
    try:
        return Outcome(**json.loads(said))
    except (ValueError, TypeError) as error:
        raise LostError(describe_end(process.returncode)) from error


def try_command(work: Work, task: Task, signals: Signals, gpu: str = "") -> Outcome:
    """Do a job, in another process each time that one is lost, `task.retries` times more."""
    for lost in count(1):
        try:
            return replace(run_command(work, task, signals, gpu), attempts=lost)
        except LostError as error:
            reason = f"its process {error}; {lost} attempt{'s' if lost > 1 else ''}"
        if lost > task.retries:
            return Outcome(task.key, "failed", reason, attempts=lost)
        if signals.stopping.is_set() or signals.over.is_set():
            return Outcome(task.key, "stopped", reason, attempts=lost)
    raise AssertionError


def environment(threads: int, gpu: str = "") -> dict[str, str]:
    """The variables of a job's process; NumPy and torch read them once, when they are imported.

    Args:
        threads: of OpenMP, which torch's threads are; BLAS gets one, as the door sets it (see `cli.run`).
        gpu: an entry of CUDA_VISIBLE_DEVICES; "" leaves that as it is.
    """
    plain = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    if "OMP_WAIT_POLICY" not in os.environ:
        plain["GOMP_SPINCOUNT"] = "3000"
    own = {"OMP_NUM_THREADS": str(threads)} | ({"CUDA_VISIBLE_DEVICES": gpu} if gpu else {})
    return plain | os.environ | own


def describe_end(code: int) -> str:
    """An exit code of `subprocess` in words; negative: a signal."""
    if code >= 0:
        return f"exited with status {code}"
    try:
        name = f"{-code} ({signal.Signals(-code).name})"
    except ValueError:
        name = str(-code)
    return f"was ended by signal {name}" + (", as happens when memory runs out" if name.endswith("(SIGKILL)") else "")


def _wait(process: subprocess.Popen[bytes], signals: Signals) -> None:
    """Until the process has ended, or all are to be killed."""
    told = False
    while not signals.over.is_set():
        if signals.stopping.is_set() and not told:
            told = True
            _tell(process, b"\n")
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(LOOKED_EVERY)
            return


def _tell(process: subprocess.Popen[bytes], content: bytes) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(content)
        process.stdin.flush()
    except OSError:  # it has ended, which `_wait` finds out
        with contextlib.suppress(OSError):
            process.stdin.close()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process that still runs, and those that it began."""
    if process.poll() is not None:
        return
    if sys.platform == "win32":
        process.kill()
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
