"""Figures that disagree: `Differences` collects, for each figure that was computed again, whether it is the stored one.

The same code on the same numbers gives the same bits. Another machine's libraries may add up in another order, and
another sacrebleu may round otherwise, so that floats are held to `CLOSE` and not to the last bit: seven orders of
magnitude below what a table shows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.untrusted import printable, shorten

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ckdiff.shapes import AnyArray


CLOSE = 1e-9
"""How far two floats may be apart, as a share of the greater one."""


LONGEST = 120


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that does not agree: where it stands, what is stored (or ""), and what was found instead."""

    where: str
    stored: str
    found: str

    def __str__(self) -> str:
        return (
            f"{self.where}: {self.found}"
            if not self.stored
            else f"{self.where}: stored {self.stored}, recomputed {self.found}"
        )


@dataclass(slots=True)
class Differences:
    """A list of differences that grows.

    Attributes:
        found: so far.
        compared: figures that were held against others so far.
    """

    found: list[Difference] = field(default_factory=list)
    compared: int = 0

    def add(self, where: str, stored: object, found: object) -> None:
        """Note a difference; texts are made safe to print."""
        self.found.append(Difference(printable(where), _show(stored), _show(found)))

    def exact(self, where: str, stored: object, found: object) -> None:
        """The two must be equal."""
        self.compared += 1
        if stored != found:
            self.add(where, stored, found)

    def close(self, where: str, stored: float, found: float, relative: float = CLOSE, absolute: float = 0.0) -> None:
        """The two must be the same number but for rounding; NaN is NaN, and an infinity is the same one."""
        self.compared += 1
        if not near(stored, found, relative, absolute):
            self.add(where, float(stored), float(found))

    def arrays(
        self, where: str, stored: AnyArray, found: AnyArray, relative: float = CLOSE, absolute: float = 0.0
    ) -> None:
        """The two must have one shape and, but for rounding, the same numbers; the first that differ are named."""
        if stored.shape != found.shape:
            self.add(where, f"shape {stored.shape}", f"shape {found.shape}")
            return
        self.compared += stored.size
        wrong = ~_near_all(stored.astype(float), found.astype(float), relative, absolute)
        for index in np.argwhere(wrong)[:1]:
            place = tuple(int(one) for one in index)
            more = int(wrong.sum()) - 1
            text = f"{where}[{', '.join(map(str, place))}]" + (f" and {more} more" if more else "")
            self.add(text, float(stored[place]), float(found[place]))

    def present(self, where: str, wanted: Iterable[str], held: Iterable[str]) -> None:
        """Everything that is wanted must be held."""
        there = set(held)
        for name in wanted:
            self.compared += 1
            if name not in there:
                self.add(where, "nothing", name)


def near(a: float, b: float, relative: float = CLOSE, absolute: float = 0.0) -> bool:
    """Whether two floats are the same but for rounding.

    >>> near(1.0, 1.0 + 1e-12), near(0.5, 0.501), near(math.nan, math.nan), near(math.inf, 1.0)
    (True, False, True, False)
    """
    if math.isnan(a) or math.isnan(b):
        return math.isnan(a) and math.isnan(b)
    return math.isclose(a, b, rel_tol=relative, abs_tol=absolute)


def _near_all(a: AnyArray, b: AnyArray, relative: float, absolute: float) -> AnyArray:
    with np.errstate(invalid="ignore", over="ignore"):
        near_enough = np.abs(a - b) <= np.maximum(relative * np.maximum(np.abs(a), np.abs(b)), absolute)
    alike = (a == b) | (np.isnan(a) & np.isnan(b))
    found: AnyArray = np.where(np.isfinite(a) & np.isfinite(b), near_enough, alike)
    return found


def _show(value: Any) -> str:
    if value is None:
        return "nothing"
    text = f"{value:.10g}" if isinstance(value, float) else f"{value}"
    return shorten(printable(text), LONGEST) or "''"
