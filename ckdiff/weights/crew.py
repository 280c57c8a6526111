"""Threads that measure parts of tensors, and give what they found in the order in which it was asked for.

crew = Crew(2)
with crew:
    results = [crew.begin(measure, part) for part in parts]
    total = sum(result() for result in results)

What a part gives depends on nothing but the part, and the caller merges in one order: so the number of threads shows
in no digit. Only the standard library is imported.
"""

from __future__ import annotations

import functools
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

T = TypeVar("T")
P = ParamSpec("P")


class Crew:
    """So many threads at work; 1 works where its results are asked for, without a thread of its own.

    Use as a context manager: leaving it, by an exception too, drops what has not begun and waits for what has.
    """

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads or core_count()
        self._local = threading.local()
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="crew") if self.threads > 1 else None

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def begin(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> Callable[[], T]:
        """Begin work; calling what is returned waits for its result, or raises what the work raised."""
        if self._pool is None:
            return functools.partial(work, *arguments, **named)
        return self._pool.submit(work, *arguments, **named).result

    def own(self, make: Callable[[], T]) -> T:
        """What `make` made when this thread first asked for it: buffers that it uses again from part to part."""
        kept: dict[Any, Any] = self._local.__dict__
        if make not in kept:
            kept[make] = make()
        found: T = kept[make]
        return found


def core_count() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
