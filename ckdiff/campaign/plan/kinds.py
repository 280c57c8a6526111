"""Kinds of the values in a plan, and how a value of no kind is refused.

`KIND(value)` is the value, or a `ValueError` that says what is wanted, as in `audit.kinds`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from ckdiff.attacks.table import ATTACKS
from ckdiff.audit.gate import kinds
from ckdiff.audit.gate.measures import MEASURES as POLICY_MEASURES
from ckdiff.calls.attacking import ARMS, KINDS, TRAININGS
from ckdiff.campaign.records import RUNS, PlanError
from ckdiff.untrusted import printable, quoted, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Kind = Callable[[Any], Any]


NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")


LONGEST_NAME = 100


LONGEST_TOPIC = 200


LONGEST_PROBLEM = 600


MOST_THREADS = 4096


MOST_RETRIES = 100


MOST_MEMORY = 1 << 60


UNITS = {"b": 1} | {
    f"{letter}{ending}": base**power
    for ending, base in (("b", 1000), ("ib", 1024))
    for power, letter in enumerate("kmgt", 1)
}


MEMORY = re.compile(r"(\d{1,18}(?:\.\d{1,9})?)\s*([A-Za-z]{1,3})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a plan.

    Attributes:
        source: the file's name.
        key: as in `pairs[2].unlearned`; the first pair is `pairs[1]`.
    """

    source: str
    key: str = ""

    def at(self, key: str) -> Where:
        """A key of the table that is here."""
        return Where(self.source, f"{self.key}.{key}" if self.key else key)

    def refusal(self, problem: str) -> PlanError:
        """The error to raise: one line."""
        place = f"{self.source}: {self.key}" if self.key else self.source
        return PlanError(f"{printable(place)}: {shorten(printable(problem), LONGEST_PROBLEM)}")


def check_table(where: Where, what: str, table: Mapping[str, Any], known: Mapping[str, Kind]) -> dict[str, Any]:
    """The values of a table.

    Raises:
        PlanError: a key is unknown, or a value is not of its kind.
    """
    found = {}
    for key, value in table.items():
        if key not in known:
            raise where.refusal(f"no key {quoted(key)} in {what}; there are {', '.join(known)}")
        try:
            found[key] = known[key](value)
        except ValueError as error:
            raise where.at(key).refusal(f"must be {error}") from error
    return found


def plan_name(value: Any) -> str:
    """The name of a plan: letters, digits, points, dashes and underscores."""
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise ValueError("letters, digits, '.', '_' and '-', at most 100 of them")
    return value


def label(value: Any) -> str:
    """The name of a pair or of a group."""
    if not isinstance(value, str) or not fits(value, LONGEST_NAME) or "/" in value:
        raise ValueError(f"a text of at most {LONGEST_NAME} printable characters, with no / and no blank at its ends")
    return value


def fits(name: str, longest: int) -> bool:
    """Whether a name can stand in tables, files and terminals as it is."""
    return 0 < len(name) <= longest and name.isprintable() and name == name.strip()


def path(value: Any) -> str:
    """A path, or whatever else names a checkpoint."""
    if "\0" in kinds.text(value):
        raise ValueError("a path, without NUL characters")
    return str(value)


def paths(value: Any) -> tuple[str, ...]:
    """A path, or a list of paths."""
    listed = value if isinstance(value, list) else [value]
    if not listed or not all(isinstance(item, str) and item.strip() and "\0" not in item for item in listed):
        raise ValueError("a path, or a list of paths")
    return tuple(listed)


def concepts(value: Any) -> tuple[str, ...] | None:
    """A list of concepts; None for all of a file."""
    if value == "all":
        return None
    if not isinstance(value, list) or not value or not all(isinstance(item, str) and item.strip() for item in value):
        raise ValueError('"all", or a list of concepts')
    return tuple(value)


def runs(value: Any) -> tuple[str, ...]:
    """Some of `RUNS`, in its order."""
    given = kinds.some_of(RUNS)(value)
    return tuple(run for run in RUNS if run in given)


def table(value: Any) -> dict[str, Any]:
    """One table."""
    if not isinstance(value, dict):
        raise ValueError("a table")
    return value


def tables(value: Any) -> list[dict[str, Any]]:
    """Tables, one at least."""
    if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
        raise ValueError("one table [[pairs]] or more")
    return value


def whole(least: int, most: int) -> Kind:
    """A whole number between two."""

    def kind(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"a whole number from {least} to {most}")
        return value

    return kind


def memory(value: Any) -> int:
    """Bytes, or a text with a unit.

    >>> memory("1.5 GB"), memory("8 GiB"), memory(0)
    (1500000000, 8589934592, 0)
    """
    found = value if isinstance(value, int) and not isinstance(value, bool) else _bytes(value)
    if not 0 <= found < MOST_MEMORY:
        raise ValueError('a number of bytes, or a text such as "8 GB" or "8 GiB"')
    return found


def _bytes(value: Any) -> int:
    match = MEMORY.fullmatch(value.strip()) if isinstance(value, str) else None
    unit = 0 if match is None else UNITS.get(match[2].lower(), 0)
    return -1 if match is None or not unit else int(Fraction(match[1]) * unit)


def one_of(*known: str) -> Kind:
    """One of a few words."""

    def kind(value: Any) -> str:
        if not isinstance(value, str) or value not in known:
            raise ValueError(f"one of {', '.join(known)}")
        return value

    return kind


ASKED: dict[str, Kind] = {"questions": paths, "concepts": concepts, "concept": kinds.text}
"""What is asked: keys of `[measure]` and of a pair."""


PLAN: dict[str, Kind] = {
    "name": plan_name,
    "results": path,
    "base": path,
    "runs": runs,
    "policy": path,
    "reference": path,
    "reference_kind": one_of(*KINDS),
    "margins": path,
    "measure": table,
    "audit": table,
    "attack": table,
    "resources": table,
    "pairs": tables,
}


MEASURES: dict[str, Kind] = {key: row.kind for key, row in POLICY_MEASURES.items()} | ASKED


def tiers_or_none(value: Any) -> tuple[int, ...]:
    """A list of tiers of attacks; an empty one: none."""
    return () if value == [] else kinds.tiers(value)


AUDIT: dict[str, Kind] = {"tiers": tiers_or_none}
"""Keys of `[audit]`: which attacks an audit makes."""


ATTACK: dict[str, Kind] = {
    "tiers": kinds.tiers,
    "attacks": kinds.some_of(tuple(ATTACKS)),
    "reference": path,
    "reference_kind": one_of(*KINDS),
    "samples": whole(1, 10_000),
    "seed": whole(0, 1 << 32),
    "training": one_of(*TRAININGS),
    "arms": kinds.some_of(ARMS),
    "train_steps": whole(1, 10_000),
    "folds": whole(2, 100),
    "train_seeds": whole(1, 100),
}
"""Keys of `[attack]`: which attacks, as `ckdiff attack` has them."""


RESOURCES: dict[str, Kind] = {
    "threads": whole(1, MOST_THREADS),
    "gpus": whole(0, 1),
    "memory": memory,
    "retries": whole(0, MOST_RETRIES),
    "device": one_of("auto", "cpu", "cuda"),
    "stream": one_of("auto", "on", "off"),
    "batch_size": kinds.count,
}


PAIR: dict[str, Kind] = {
    "name": label,
    "group": label,
    "base": path,
    "unlearned": path,
    **ASKED,
    "runs": runs,
    "policy": path,
    "reference": path,
    "reference_kind": one_of(*KINDS),
    "margins": path,
    "required": kinds.flag,
    "adapter_base": path,
    "tokenizer": path,
}
