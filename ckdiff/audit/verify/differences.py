"""What does not agree: `Differences` collects, for each figure that was computed again, whether it is the stored one.

The same code on the same numbers gives the same bits. Another machine's libraries may add up in another order, and
another sacrebleu may round otherwise, so that floats are held to `CLOSE` and not to the last bit: seven orders of
magnitude below what a table shows.
"""

from __future__ import annotations

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
        if not self.stored:
            return f"{self.where}: {self.found}"
        return f"{self.where}: stored {self.stored}, recomputed {self.found}"


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
        self.found.append(Difference(printable(where), _shown(stored), _shown(found)))

    def exact(self, where: str, stored: object, found: object) -> None:
        """The two must be equal."""
        self.compared += 1
        if stored != found:
            self.add(where, stored, found)

    def close(self, where: str, stored: float, found: float, relative: float = CLOSE, absolute: float = 0.0) -> None:
        """The two must be the same number but for rounding; NaN is NaN, and an infinity is the same one."""
        self.arrays(where, np.float64(stored), np.float64(found), relative, absolute)

    def arrays(self, where: str, stored: Any, found: Any, relative: float = CLOSE, absolute: float = 0.0) -> None:
        """The two must have one shape and, but for rounding, the same numbers; the first that differ are named."""
        if stored.shape != found.shape:
            self.add(where, f"shape {stored.shape}", f"shape {found.shape}")
            return
        self.compared += stored.size
        wrong = ~_near(stored.astype(float), found.astype(float), relative, absolute)
        for index in np.argwhere(wrong)[:1]:
            place = tuple(int(one) for one in index)
            more = f" and {int(wrong.sum()) - 1} more" if wrong.sum() > 1 else ""
            text = f"{where}[{', '.join(map(str, place))}]" if place else where
            self.add(text + more, float(stored[place]), float(found[place]))

    def present(self, where: str, wanted: Iterable[str], held: Iterable[str]) -> None:
        """Everything that is wanted must be held."""
        there = set(held)
        for name in wanted:
            self.compared += 1
            if name not in there:
                self.add(where, "nothing", name)


def _near(a: AnyArray, b: AnyArray, relative: float, absolute: float) -> AnyArray:
    with np.errstate(invalid="ignore", over="ignore"):
        near = np.abs(a - b) <= np.maximum(relative * np.maximum(np.abs(a), np.abs(b)), absolute)
    alike = (a == b) | (np.isnan(a) & np.isnan(b))
    found: AnyArray = np.where(np.isfinite(a) & np.isfinite(b), near, alike)
    return found


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = f"{value:.10g}" if isinstance(value, float) else f"{value}"
    return shorten(printable(text), LONGEST) or "''"


def compare_trees(where: str, stored: Any, wanted: Any, differences: Differences) -> None:
    """Two trees of plain data, such as a statement that was signed and the one that the report makes.

    Floats are held to `CLOSE`, everything else must be equal.
    """
    if isinstance(stored, dict) and isinstance(wanted, dict):
        for name in dict.fromkeys((*wanted, *stored)):
            if name in stored and name in wanted:
                compare_trees(f"{where}.{name}", stored[name], wanted[name], differences)
            else:
                differences.add(f"{where}.{name}", _brief(stored.get(name)), _brief(wanted.get(name)))
    elif isinstance(stored, list) and isinstance(wanted, list):
        if len(stored) != len(wanted):
            differences.add(f"{where}: how many", len(stored), len(wanted))
        for number, (one, other) in enumerate(zip(stored, wanted, strict=False)):
            compare_trees(f"{where}[{number}]", one, other, differences)
    elif {type(stored), type(wanted)} <= {int, float} and max(abs(stored), abs(wanted)) < 1 << 53:
        differences.close(where, stored, wanted)
    elif type(stored) is not type(wanted):
        differences.add(where, _brief(stored), _brief(wanted))
    else:
        differences.exact(where, _brief(stored), _brief(wanted))


def _brief(value: Any) -> Any:
    return f"{len(value)} values" if isinstance(value, dict | list) else value
