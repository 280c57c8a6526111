"""`Listener` and `Stopped`: what long work tells, and what it asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ckdiff.cache import Cache


def nothing_to_resume(place: Path) -> str:
    """What `--resume` says where nothing is kept.

    >>> from pathlib import Path
    >>> nothing_to_resume(Path("kept"))
    'nothing to resume: no unfinished work at kept; that is no error, what is not there yet is done from the start'
    """
    left = "that is no error, what is not there yet is done from the start"
    return f"nothing to resume: no unfinished work at {place}; {left}"


class Stopped(KeyboardInterrupt):
    """The user asked to stop, and what was done is kept."""


@dataclass(slots=True)
class Listener:
    """The one who is told how work goes, and asked whether to stop.

    Attributes:
        progress: called with (stage, done, in all, detail).
        stop: asked between layers; True stops the sweep and keeps what is done.
        remark: one line for the user.
        cache: knows what other work has found out about the same weights; None: nobody does.
        part: called with (name, number, in all) when a part of work begins that has several.
        expect: called before the first of them with what gives the seconds that each will take, about.
    """

    progress: Callable[[str, int, int, str], None] = lambda stage, done, total, detail: None
    stop: Callable[[], bool] = lambda: False
    remark: Callable[[str], None] = lambda text: None
    cache: Cache | None = None
    part: Callable[[str, int, int], None] = lambda name, number, total: None
    expect: Callable[[Callable[[], Mapping[str, float]]], None] = lambda seconds: None
