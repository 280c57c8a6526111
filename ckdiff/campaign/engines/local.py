"""Processes of this machine: `run(tasks, work, ended, stop, ways)`, a command for each job, several at a time."""

from __future__ import annotations

import os
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from queue import SimpleQueue
from threading import Event
from typing import TYPE_CHECKING

from ckdiff.campaign.engines.command import Signals, try_command

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from concurrent.futures import Future

    from ckdiff.campaign.records import Ended, Outcome, Stop, Task, Ways, Work

ASKED_EVERY = 0.2
"""Seconds between two looks at `stop`."""
MEMORY_SHARE = 0.9
"""Of the free memory that jobs are given."""


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
    places = places_for(tasks, ways, gpus)
    with ThreadPoolExecutor(places, thread_name_prefix="campaign") as threads:
        pool = _Pool(work, iter(tasks), threads)
        for number in range(places):
            pool.gpus.put(gpus[number % len(gpus)] if gpus else "")
        try:
            pool.begin(places)
            while pool.running:
                ready = pool.take()
                if stop():
                    pool.signals.stopping.set()
                else:
                    pool.begin(len(ready))
                for future in ready:
                    ended(*future.result())
        finally:
            pool.signals.over.set()


@dataclass(slots=True)
class _Pool:
    """The places at work, a thread each, which begins a command and waits for it.

    Attributes:
        waiting: tasks that nobody has begun.
        running: those that run.
        gpus: one entry a free place: the GPU that its task gets if it wants one.
    """

    work: Work
    waiting: Iterator[Task]
    threads: ThreadPoolExecutor
    signals: Signals = field(default_factory=lambda: Signals(Event(), Event()))
    running: set[Future[tuple[Task, Outcome]]] = field(default_factory=set)
    gpus: SimpleQueue[str] = field(default_factory=SimpleQueue)

    def begin(self, count: int) -> None:
        """Begin so many tasks, if there are."""
        self.running |= {self.threads.submit(self._do, task) for task in islice(self.waiting, count)}

    def take(self) -> set[Future[tuple[Task, Outcome]]]:
        """Those that have ended, after a short wait for the first of them."""
        ready, self.running = wait(self.running, ASKED_EVERY, FIRST_COMPLETED)
        return ready

    def _do(self, task: Task) -> tuple[Task, Outcome]:
        gpu = self.gpus.get()
        try:
            return task, try_command(self.work, task, self.signals, gpu if task.gpus else "")
        finally:
            self.gpus.put(gpu)


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
