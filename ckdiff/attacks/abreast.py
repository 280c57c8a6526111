"""Attacks that go on beside each other.

    with shared_threads(count), Abreast(case, lives, count) as crew:
        results = [crew.begin(work) for work in every]    # each `work` is called with a place's own case and models

Each place has models of its own, see `probes.live.beside`: what one attack alters or hooks no other sees, and which
place an attack gets shows in no digit. What a place has learned about the questions belongs to all of them.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import torch

from ckdiff.attacks.quantise import code_shares
from ckdiff.attacks.table import ATTACKS
from ckdiff.probes.live.beside import count_places, heard
from ckdiff.probes.live.model import LiveModel
from ckdiff.probes.sweep import Pair
from ckdiff.progress import Listener
from ckdiff.weights.crew import Crew

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType

    from ckdiff.attacks.case import Case
    from ckdiff.probes.behaviour.behaviour import AskJob
    from ckdiff.report.schema.attack import Attacked, CodeShare

    Lives = Mapping[Attacked, LiveModel]

T = TypeVar("T")


def places(task: AskJob, attacks: Sequence[str]) -> int:
    """How many of these attacks go on at one time."""
    if task.way.stream:
        return 1
    together = max((ATTACKS[name].together for name in attacks if not ATTACKS[name].trains), default=1)
    return count_places(task.job.pair.base, task.job.room, together)


class Abreast:
    """So many places at which attacks are made.

    Use as a context manager: leaving it by an exception stops what is under way before its next layer.
    """

    def __init__(self, case: Case, lives: Lives, count: int) -> None:
        """Make what each place needs.

        Args:
            case: what is attacked; the first place takes it and its models.
            lives: the models.
            count: of places; with 1 everything is done by the caller, in its order.
        """
        self.lives = lives
        self._over = threading.Event()
        self._lock = threading.Lock()
        own = replace(case, listener=self._told(case.listener))
        # Models are made here: transformers sets torch's own dtype meanwhile, for all threads.
        self._free = [*(_apart(own, lives) for _ in range(count - 1)), (own, lives)]
        self._crew, self._hooks, self._remark = Crew(count), ExitStack(), case.listener.remark

    def __enter__(self) -> Abreast:
        # By itself an attack pauses between texts, which may be half a minute; a crew of one is interrupted anywhere.
        for case, lives in self._free if self._crew.threads > 1 else ():
            self._hooks.enter_context(heard(lives.values(), case.listener.stop))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._hooks:
            if error is not None:
                self._over.set()
            if isinstance(error, KeyboardInterrupt) and self._crew.threads > 1:
                self._remark("stopping before the next layer")
            self._crew.__exit__(kind, error, trace)

    def begin(self, work: Callable[[Case, Lives], T]) -> Callable[[], T]:
        """Begin work on a place's own case and models; calling what is returned waits for its result."""
        return self._crew.begin(self._at_place, work)

    def _at_place(self, work: Callable[[Case, Lives], T]) -> T:
        with torch.inference_mode():
            return work(*self._crew.own(self._place))

    def _place(self) -> tuple[Case, Lives]:
        return self._free.pop()

    def _told(self, listener: Listener) -> Listener:
        """The same listener for a place: one tells at a time, and all stop where one of them failed."""

        def progress(stage: str, done: int, total: int, detail: str) -> None:
            with self._lock:
                listener.progress(stage, done, total, detail)

        def remark(text: str) -> None:
            with self._lock:
                listener.remark(text)

        return replace(listener, progress=progress, remark=remark, stop=lambda: self._over.is_set() or listener.stop())


@contextmanager
def codes_aside(task: AskJob, lives: Lives, wanted: bool) -> Iterator[Callable[[], tuple[CodeShare, ...]] | None]:
    """What codes tell of a pair, which hangs on no question: found out by a thread of its own while the base answers.

    Gives what waits for it, or None where it is not wanted. Leaving by an exception stops it before its next matrix.
    """
    if not wanted:
        yield None
        return
    over, own = threading.Event(), _fresh(task, {"base": lives["base"], "unlearned": lives["unlearned"]})

    def look() -> tuple[CodeShare, ...]:
        with torch.inference_mode():
            return code_shares(own["base"], own["unlearned"], Listener(stop=over.is_set))

    with Crew(2) as crew:
        try:
            yield crew.begin(look)
        finally:
            over.set()


def _fresh(task: AskJob, lives: Lives) -> dict[Attacked, LiveModel]:
    """Models of the same checkpoints, that nobody else has."""
    attention = task.job.settings.attention
    return {side: LiveModel(live.checkpoint, live.dtype, live.device, attention) for side, live in lives.items()}


def _apart(case: Case, lives: Lives) -> tuple[Case, Lives]:
    """The same case with models of its own."""
    fresh = _fresh(case.task, lives)
    job = replace(case.job, pair=Pair(fresh["base"], fresh["unlearned"]))
    return replace(case, task=replace(case.task, job=job)), fresh
