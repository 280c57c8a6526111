"""The rest of work in parts, by what each was expected to take and by what they did take: `Course`."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

UNLIKE = ("compare",)
"""Parts whose speed says nothing about the others': disks are no processors."""

SKIPPED = 0.05
"""A part that took less of what was expected was not done anew."""

SHOWN = 20.0
"""Seconds of whole work below which nobody needs to know."""


class Rest(NamedTuple):
    """What is left: seconds, and whether that is all, or at least so much."""

    seconds: float
    all: bool


@dataclass(slots=True)
class Course:
    """Work in parts, one after another.

    Attributes:
        expected: seconds by part, in the order in which they are done.
        clock: the time in seconds.
        taken: seconds by part that is done.
    """

    expected: dict[str, float] = field(default_factory=dict)
    clock: Callable[[], float] = time.monotonic
    taken: dict[str, float] = field(default_factory=dict)
    part: str = ""
    begun: float = 0.0

    def begin(self, part: str) -> None:
        """A part begins, and the one before it is done."""
        now = self.clock()
        if self.part:
            self.taken[self.part] = now - self.begun
        self.part, self.begun = part, now

    def rest(self) -> Rest | None:
        """What is left of the whole; None where nobody knows, or where it is little anyway.

        What was expected is set right by what the parts so far took. A part that takes longer than that has an
        unknown rest, and what comes behind it is the least that is left.
        """
        if self.part not in self.expected or sum(self.expected.values()) < SHOWN:
            return None
        factor = self._factor()
        later = [name for name in self.expected if name != self.part and name not in self.taken]
        here = self.expected[self.part] * factor - (self.clock() - self.begun)
        behind = factor * sum(self.expected[name] for name in later)
        return Rest(max(here, 0.0) + behind, here > 0)

    def _factor(self) -> float:
        """How many times as long as expected the parts so far took."""
        done = [
            (self.taken[name], wanted)
            for name, wanted in self.expected.items()
            if name not in UNLIKE and self.taken.get(name, 0.0) > SKIPPED * wanted > 0
        ]
        return sum(one for one, _ in done) / sum(one for _, one in done) if done else 1.0
