"""A Ray cluster, or Ray on this machine: `run(tasks, work, ended, stop, ways)`.

Ray finds a place for each job, begins the job's command there (as the local engine does here), and tries it again where
its process, its node or its memory was lost. A job that memory ran out for it would try without end: the job itself
sees which attempt it is, and says that it was lost too often.

Ray is imported here and nowhere else.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from threading import Event
from typing import TYPE_CHECKING, Any

from ckdiff.campaign.engines.command import Signals, try_command
from ckdiff.campaign.engines.job import fail
from ckdiff.campaign.engines.local import cores
from ckdiff.campaign.records import CampaignError, Outcome
from ckdiff.errors import with_extra

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ckdiff.campaign.records import Ended, State, Stop, Task, Ways, Work

ASKED_EVERY = 0.2
"""Seconds between two looks at `stop`."""
NODES_EVERY = 2.0
"""Seconds between two looks at what the cluster has."""
GRACE = 30.0
"""Seconds that running jobs get to end once they are asked to; then they are ended."""
STORE = 100 * 2**20
"""Bytes of shared memory for a local Ray's objects: outcomes, which are small."""
LOST = "its process or its node was lost, as happens when memory runs out"
NOT_INSTALLED = with_extra("Ray is not installed", "ray")
ADDRESSES = "give HOST:PORT of its head, such as 10.0.0.1:6379, or auto"
QUIET: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
PROBE = """
import sys, ray
try:
    ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
    ray.shutdown()
except BaseException as error:
    said = str(error).strip() or type(error).__name__
    sys.exit("!" + " ".join(said.split()))
"""
"""Joins a cluster and leaves it. Ray itself waits for minutes, and can end the process that waits."""


def run(tasks: Sequence[Task], work: Work, ended: Ended, stop: Stop, ways: Ways) -> None:
    """Run every task as a job of Ray.

    A job whose process or node was lost is tried again, `task.retries` times. When `stop` turns True, jobs that have
    not begun are dropped, and those that run are asked to end and are waited for, `GRACE` seconds at most.

    Raises:
        CampaignError: Ray is not installed, the cluster does not answer, or this process is Ray's already.
        KeyboardInterrupt: Ctrl-C while waiting, or whatever `ended` and `stop` raise: every job has been ended.
    """
    if not tasks or stop():
        return
    with contextlib.redirect_stdout(sys.stderr), _ray(tasks, ways) as ray:  # Ray prints there what it lost
        jobs = _Jobs(ray, work, ended, ways.patience)
        try:
            jobs.begin(tasks)
            jobs.listen(stop)
        finally:
            jobs.cancel(force=True)


# ----------------------------------------------------------------------------------------------------------- connect


@contextlib.contextmanager
def _ray(tasks: Sequence[Task], ways: Ways) -> Iterator[Any]:
    """Ray, connected; at the end it is left, and a local one is gone."""
    ray = _imported()
    if ray.is_initialized():
        raise CampaignError("this process is connected to a Ray cluster; call ray.shutdown() before a campaign")
    with _handlers_kept():
        if ways.address:
            _join(ray, ways.address, ways.patience)
        else:
            _begin(ray, tasks, ways.workers)
    try:
        yield ray
    finally:
        with _handlers_kept():
            ray.shutdown()


def _imported() -> Any:
    """Ray, which reports nothing about its use to anybody."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        import ray
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise CampaignError(NOT_INSTALLED) from error
    return ray


def _begin(ray: Any, tasks: Sequence[Task], workers: int) -> None:
    """Start a Ray on this machine that carries at least one job at a time."""
    threads = max(task.threads for task in tasks)
    try:
        ray.init(
            address="local",
            num_cpus=workers * threads if workers else max(cores(), threads),
            include_dashboard=False,
            object_store_memory=STORE,
            **QUIET,
        )
    except Exception as error:
        ray.shutdown()
        raise CampaignError(f"Ray cannot be started on this machine: {_line(error)}; try --engine local") from error


def _join(ray: Any, address: str, patience: float) -> None:
    """Connect to a running cluster, once it is known that it answers.

    Raises:
        CampaignError: no cluster answers within `patience` seconds.
    """
    end = time.monotonic() + patience
    if address != "auto":
        _connect(address, patience)
    probe = [sys.executable, "-P", "-c", PROBE, address]
    try:
        found = subprocess.run(
            probe, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=max(1.0, end - time.monotonic())
        )
    except subprocess.TimeoutExpired as error:
        raise CampaignError(f"{address}: no Ray cluster answered within {patience:g} seconds; {ADDRESSES}") from error
    if found.returncode:
        said = [line[1:] for line in found.stderr.splitlines() if line.startswith("!")]
        raise CampaignError(f"{address}: no Ray cluster to run on: {said[-1] if said else 'Ray ended'}")
    try:
        ray.init(address=address, **QUIET)
    except Exception as error:
        ray.shutdown()
        raise CampaignError(f"{address}: no Ray cluster to run on: {_line(error)}") from error


def _connect(address: str, patience: float) -> None:
    """See that somebody listens there."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise CampaignError(f"{address}: no address of a Ray cluster; {ADDRESSES}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=patience).close()
    except OSError as error:
        raise CampaignError(f"{address}: no Ray cluster answers: {error.strerror or error}; {ADDRESSES}") from error


@contextlib.contextmanager
def _handlers_kept() -> Iterator[None]:
    """Ray puts its own in the place of the program's answer to SIGTERM.

    Where a shell without job control started ckdiff in the background, SIGINT is ignored, and so it would be in Ray's
    processes, which call its handler when a job is cancelled and fail. What has a handler is not inherited.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if before[signal.SIGINT] is signal.SIG_IGN:
            signal.signal(signal.SIGINT, _let_pass)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


def _let_pass(number: int, frame: object) -> None:
    """An answer to a signal that is ignored."""


# -------------------------------------------------------------------------------------------------------------- jobs


@dataclass(slots=True)
class _Jobs:
    """The jobs that Ray has and that have not ended.

    Attributes:
        patience: seconds that a job waits for a node that could run it, once there was one.
        waiting: by Ray's reference to the result.
        unfit: kinds of resources that no node has, and since when.
        stopping: since when jobs are asked to end; 0: they are not.
    """

    ray: Any
    work: Work
    ended: Ended
    patience: float
    waiting: dict[Any, Task] = field(default_factory=dict)
    unfit: dict[tuple[float, float, float], float] = field(default_factory=dict)
    stopping: float = 0.0

    def begin(self, tasks: Sequence[Task]) -> None:
        """Give the tasks to Ray; those that no node can run have failed."""
        nodes = _nodes(self.ray)
        for task in tasks:
            if any(_fits(task, node) for node in nodes):
                self._give(task)
            else:
                self.ended(task, Outcome(task.key, "failed", _unfit(task, nodes)))

    def listen(self, stop: Stop) -> None:
        """Pass on how jobs ended until none is left."""
        looked = time.monotonic()
        while self.waiting:
            for reference in self.ray.wait(list(self.waiting), timeout=ASKED_EVERY)[0]:
                self._end(reference)
            now = time.monotonic()
            if self.stopping:
                if now - self.stopping > GRACE:
                    return
            elif stop():
                self.stopping = now
                self.cancel(force=False)
            elif now - looked > NODES_EVERY:
                looked = now
                self._look_at_nodes(now)

    def cancel(self, force: bool) -> None:
        """Ask jobs to end, or end them."""
        for reference in self.waiting:
            with contextlib.suppress(Exception):  # one that has ended meanwhile
                self.ray.cancel(reference, force=force)

    def _give(self, task: Task) -> None:
        kind = self.ray.remote(perform_there).options(
            num_cpus=task.threads,
            num_gpus=task.gpus,
            memory=task.memory or None,
            max_retries=task.retries,
            name=task.name,
        )
        try:
            self.waiting[kind.remote(self.work, task)] = task
        except Exception as error:  # such as what cannot be sent to another process
            self.ended(task, fail(task, error))

    def _end(self, reference: Any) -> None:
        """Tell how a job ended."""
        task = self.waiting.pop(reference)
        errors = self.ray.exceptions
        try:
            outcome = self.ray.get(reference)
        except errors.TaskCancelledError:
            if self.stopping:
                return  # it had not begun
            outcome = Outcome(task.key, "failed", "somebody cancelled it")
        except errors.RayTaskError as error:
            outcome = fail(task, error.cause)
        except errors.RayError as error:
            state: State = "stopped" if self.stopping else "failed"
            outcome = Outcome(task.key, state, f"{LOST} ({type(error).__name__})")
        self.ended(task, outcome)

    def _look_at_nodes(self, now: float) -> None:
        """Give up what waits for a node that is gone and that nobody has replaced for a while."""
        nodes = _nodes(self.ray)
        kinds = {_kind(task): task for task in self.waiting.values()}
        unfit = {kind for kind, task in kinds.items() if not any(_fits(task, node) for node in nodes)}
        self.unfit = {kind: self.unfit.get(kind, now) for kind in unfit}
        for reference, task in list(self.waiting.items()):
            if now - self.unfit.get(_kind(task), now) > self.patience:
                del self.waiting[reference]
                self.ray.cancel(reference, force=True)
                self.ended(task, Outcome(task.key, "failed", _unfit(task, nodes)))


def perform_there(work: Work, task: Task) -> Outcome:
    """Do a job on a node of the cluster; Ray asks a running one to end by an interrupt of its main thread."""
    import ray

    before = ray.get_runtime_context().worker.core_worker.get_current_task_attempt_number()
    if before > task.retries:
        return Outcome(task.key, "failed", f"{LOST}; {before} attempts", attempts=before)
    left, signals = replace(task, retries=task.retries - before), Signals(Event(), Event())
    with ThreadPoolExecutor(1) as threads:
        future = threads.submit(try_command, work, left, signals)
        try:
            while not future.done():
                try:
                    wait([future], ASKED_EVERY)  # not one long wait, which Ray's interrupt would not wake
                except KeyboardInterrupt:
                    signals.stopping.set()
        finally:
            signals.over.set()
    return replace(future.result(), attempts=future.result().attempts + before)


# ------------------------------------------------------------------------------------------------- resources, words


def _nodes(ray: Any) -> list[Mapping[str, float]]:
    """The resources of each living node."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _kind(task: Task) -> tuple[float, float, float]:
    return task.threads, task.gpus, task.memory


def _fits(task: Task, node: Mapping[str, float]) -> bool:
    there = (node.get(name, 0) for name in ("CPU", "GPU", "memory"))
    return all(wanted <= has for wanted, has in zip(_kind(task), there, strict=True))


def _unfit(task: Task, nodes: Sequence[Mapping[str, float]]) -> str:
    """The error that says what was asked for and what there is."""
    there = sorted({_amounts(*(node.get(name, 0) for name in ("CPU", "GPU", "memory"))) for node in nodes})
    return f"no node has {_amounts(*_kind(task))}; there are nodes of {', or of '.join(there) or 'nothing'}"


def _amounts(cpus: float, gpus: float, memory: float) -> str:
    told = [f"{cpus:g} CPU{'' if cpus == 1 else 's'}", f"{gpus:g} GPU{'' if gpus == 1 else 's'}"]
    return ", ".join([*told, f"{memory / 2**30:.1f} GiB of memory"] if memory else told)


def _line(error: BaseException) -> str:
    """An error's first line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
