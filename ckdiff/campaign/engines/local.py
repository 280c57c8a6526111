"""Processes of this machine: `run(tasks, work, ended, stop, ways)`, on the standard library's pools.

A pool whose process dies is broken as a whole, and its other jobs are lost with it. So each place at work (`_Place`,
one thread here) has a pool of one process, and a death costs one attempt of one job.

Processes are spawned: each imports the caller's main module again, so that a script calls this under
`if __name__ == "__main__":`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, replace
from multiprocessing.context import SpawnContext
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from ckdiff.campaign.engines import worker
from ckdiff.campaign.records import CampaignError, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from multiprocessing.context import SpawnProcess

    from ckdiff.campaign.records import Ended, Stop, Task, Ways, Work

    News = tuple[Task, Outcome] | BaseException | None

ASKED_EVERY = 0.2
"""Seconds between two looks at `stop`."""
PATIENCE = 10.0
"""Seconds that a process without a job gets to end by itself."""
MEMORY_SHARE = 0.9
"""Of the free memory that jobs are given."""
GUARD = 'a script that runs a campaign calls it under `if __name__ == "__main__":`'


def run(tasks: Sequence[Task], work: Work, ended: Ended, stop: Stop, ways: Ways) -> None:
    """Run every task in a process of this machine, several at a time.

    A job whose process was lost is tried again in another, `task.retries` times. When `stop` turns True no job is
    begun, and those that run are asked to end and are waited for.

    Raises:
        CampaignError: processes cannot be started at all.
        KeyboardInterrupt: Ctrl-C while waiting, or whatever `ended` and `stop` raise: every process has been killed.
    """
    if not tasks or stop():
        return
    gpus = visible_gpus() if any(task.gpus for task in tasks) else []
    shared = _Shared(work)
    for task in tasks:
        shared.waiting.put(task)
    places = [_Place(shared, gpus[i % len(gpus)] if gpus else "") for i in range(places_for(tasks, ways, gpus))]
    with ThreadPoolExecutor(len(places), thread_name_prefix="campaign") as threads:
        try:
            for place in places:
                threads.submit(place.run)
            _listen(shared, len(places), ended, stop)
        finally:
            shared.over.set()
            for place in places:
                place.kill()


def _listen(shared: _Shared, working: int, ended: Ended, stop: Stop) -> None:
    """Pass on what the places tell until the last of them is empty."""
    while working:
        if not shared.stopping.value and stop():
            shared.stopping.value = 1
        try:
            news = shared.news.get(timeout=ASKED_EVERY)
        except Empty:
            continue
        if news is None:
            working -= 1
        elif isinstance(news, BaseException):
            raise news
        else:
            ended(*news)


# ------------------------------------------------------------------------------------------------------------- sizes


def places_for(tasks: Sequence[Task], ways: Ways, gpus: Sequence[str]) -> int:
    """Jobs at the same time: what was asked for, or as many as cores, GPUs and memory carry."""
    if ways.workers:
        return min(ways.workers, len(tasks))
    limits = [len(tasks), cores() // max(task.threads for task in tasks)]
    if gpus:
        limits.append(len(gpus))
    memory = max(task.memory for task in tasks)
    if memory:
        limits.append(int(MEMORY_SHARE * _free_memory()) // memory)
    return max(1, min(limits))


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """GPUs as CUDA_VISIBLE_DEVICES names them; several jobs share one only where more workers are asked for."""
    import torch

    there = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return named.split(",")[:there] if named else [str(number) for number in range(there)]


def _free_memory() -> int:
    import torch

    from ckdiff.probes.cost import free_memory

    return free_memory(torch.device("cpu"))


# ------------------------------------------------------------------------------------------------------------ places


class _Spawn(SpawnContext):
    """The spawn context, which keeps the process that it makes: an executor does not show its own."""

    made: SpawnProcess | None = None

    def Process(self, *args: Any, **kwargs: Any) -> SpawnProcess:  # type: ignore[override]  # noqa: N802
        self.made = super().Process(*args, **kwargs)
        return self.made


@dataclass(slots=True)
class _Shared:
    """What the places of one run share.

    Attributes:
        waiting: tasks that nobody has begun.
        news: for the caller: a job that ended, an error that ends the run, or None from a place that is done.
        stopping: a byte that processes read; see `worker`.
        begun: some process has begun, so that processes can be started here.
        over: every process is to be killed.
    """

    work: Work
    waiting: SimpleQueue[Task] = field(default_factory=SimpleQueue)
    news: SimpleQueue[News] = field(default_factory=SimpleQueue)
    stopping: Any = field(default_factory=lambda: SpawnContext().RawValue(ctypes.c_byte, 0))
    begun: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)


@dataclass(slots=True)
class _Place:
    """One place at work: takes a task, has it done in its process, and takes the next.

    Attributes:
        gpu: that its tasks get which want one.
        pool: of one process, or None.
        context: that made the process.
        kind: (threads, GPU) that its process was begun with.
    """

    shared: _Shared
    gpu: str = ""
    pool: ProcessPoolExecutor | None = None
    context: _Spawn = field(default_factory=_Spawn)
    kind: tuple[int, str] = (0, "")

    def run(self) -> None:
        """Work until no task is waiting, or the run ends; what goes wrong here goes to the caller."""
        try:
            while (task := self._next()) is not None:
                outcome = self._outcome(task)
                if outcome is not None:
                    self.shared.news.put((task, outcome))
            self._close()
        except BaseException as error:
            self.kill()
            self.shared.news.put(error)
        self.shared.news.put(None)

    def kill(self) -> None:
        """End the process at once, if there is one; from any thread."""
        process = self.context.made
        if process is not None and process.pid is not None:
            process.kill()

    def _next(self) -> Task | None:
        if self.shared.stopping.value or self.shared.over.is_set():
            return None
        with contextlib.suppress(Empty):
            return self.shared.waiting.get_nowait()
        return None

    def _outcome(self, task: Task) -> Outcome | None:
        """How a task ended, after as many attempts as it has; None where the run is over."""
        lost = 0
        while True:
            begun = time.monotonic()
            try:
                outcome = self._pool(task).submit(worker.call, self.shared.work, task).result()
                return replace(outcome, attempts=outcome.attempts + lost)
            except BrokenProcessPool:
                lost += 1
            except CampaignError:
                raise
            except Exception as error:  # such as what cannot be sent from one process to another
                return replace(worker.failed(task, error), attempts=lost + 1)
            reason = f"its process {self._ending()}; {lost} attempt{'s' if lost > 1 else ''}"
            if self.shared.over.is_set():
                return None
            seconds = round(time.monotonic() - begun, 3)
            if lost > task.retries:
                return Outcome(task.key, "failed", reason, seconds, attempts=lost)
            if self.shared.stopping.value:
                return Outcome(task.key, "stopped", reason, seconds, attempts=lost)

    def _pool(self, task: Task) -> ProcessPoolExecutor:
        """The pool, with a live process that has the task's threads and GPU.

        Raises:
            BrokenProcessPool: its process was lost while it began.
            CampaignError: it exited before it began, and none has ever begun.
        """
        kind = task.threads, self.gpu if task.gpus else ""
        process = self.context.made
        if self.pool is None or process is None or not process.is_alive() or self.kind != kind:
            self._close()
            self.kind = kind
            self.pool = self._begun()
        return self.pool

    def _begun(self) -> ProcessPoolExecutor:
        self.context = _Spawn()
        initial = (self.shared.stopping, *self.kind)
        self.pool = ProcessPoolExecutor(1, self.context, worker.begin, initial)
        try:
            with _interrupts_held_back():
                first = self.pool.submit(worker.ready)
            if self.shared.over.is_set():
                self.kill()
            first.result()
        except BrokenProcessPool as error:
            how = self._ending()
            if self.shared.begun.is_set() or self.shared.over.is_set() or "exited" not in how:
                raise
            raise CampaignError(f"a process for jobs {how} before it began; {GUARD}") from error
        except RuntimeError as error:
            if "bootstrapping" not in str(error):
                raise
            raise CampaignError(GUARD) from error
        self.shared.begun.set()
        return self.pool

    def _ending(self) -> str:
        """How the process ended, after "its process"; it has, or is about to."""
        process = self.context.made
        self._close()
        return "was lost" if process is None else ending(process.exitcode)

    def _close(self) -> None:
        """End pool and process; a process that does not end by itself is killed."""
        if self.pool is None:
            return
        guard = threading.Timer(PATIENCE, self.kill)
        guard.daemon = True
        guard.start()
        self.pool.shutdown(wait=True)
        guard.cancel()
        self.pool = None


def ending(code: int | None) -> str:
    """An exit code of `multiprocessing` in words; negative: a signal."""
    if code is None:
        return "was lost"
    if code >= 0:
        return f"exited with status {code}"
    try:
        name = f"{-code} ({signal.Signals(-code).name})"
    except ValueError:
        name = str(-code)
    return f"was ended by signal {name}" + (", as happens when memory runs out" if name.endswith("(SIGKILL)") else "")


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Processes that are started here do not hear Ctrl-C until they ask for it, not even while they start."""
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
