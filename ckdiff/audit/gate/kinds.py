"""Kinds of a policy's values: each takes a value and returns it, or raises a `ValueError` that says what is wanted."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

from ckdiff.modes import DIRECTIONS, MODES, VARIANTS, decisive
from ckdiff.report.schema.attack import TIERS
from ckdiff.report.schema.comparison import COMPONENTS
from ckdiff.report.schema.probe import SCORES
from ckdiff.report.schema.verdict import KNOWLEDGE, LABELS
from ckdiff.report.words.sections import MEASURED
from ckdiff.scoring.settings import DTYPE_NAMES, EVERY, NEEDED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


MOST = 10**9
"""No count is larger."""


SCORE_KEYS = {"mode", "variant", "direction", "score", "at_least", "at_most"}


DRIFT_KEYS = {"components", "relative_l2"}


PROBABILITY_KEYS = {"at_most", "samples"}


SAMPLES = 10
"""Samples of which none should give the answer, where a policy does not say how many."""


ALL, DECISIVE = "all", "decisive"
"""In the place of a list of modes: every one that there is, and every one that a verdict rests on."""


def share(value: Any) -> float:
    """A number from 0 to 1."""
    found = number(value)
    if not 0 <= found <= 1:
        raise ValueError("a number from 0 to 1")
    return found


def number(value: Any) -> float:
    """A finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
        raise ValueError("a number")
    return float(value)


def positive(value: Any) -> float:
    """A finite number, 0 or more."""
    found = number(value)
    if found < 0:
        raise ValueError("a number, 0 or more")
    return found


def count(value: Any) -> int:
    """A whole number, 1 or more."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MOST:
        raise ValueError("a whole number, 1 or more")
    return value


def on(value: Any) -> bool:
    """The word true; a check that is not wanted is left out."""
    if value is not True:
        raise ValueError("true; leave the line out where it is not wanted")
    return True


def flag(value: Any) -> bool:
    """One of true and false."""
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def text(value: Any) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a text")
    return value


def template(value: Any) -> str:
    """A text with a place for the question."""
    if "{q}" not in text(value):
        raise ValueError("a text with {q} where the question goes")
    return str(value)


def dtype(value: Any) -> str:
    """The name of a number format that models run in."""
    if value not in DTYPE_NAMES:
        raise ValueError(f"one of {', '.join(DTYPE_NAMES)}")
    return str(value)


def path_or_flag(value: Any) -> str | bool:
    """A path, or true or false."""
    return value if isinstance(value, bool) else text(value)


def sha256(value: Any) -> str:
    """A sha256 in 64 hexadecimal digits."""
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{64}", value):
        raise ValueError("a sha256, 64 hexadecimal digits in lower case")
    return value


def names(value: Any) -> tuple[str, ...]:
    """A list of texts, empty or not."""
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise ValueError("a list of texts")
    return tuple(value)


def some_of(known: Sequence[str]) -> Callable[[Any], tuple[str, ...]]:
    """A list of some of the known names, one at least."""

    def kind(value: Any) -> tuple[str, ...]:
        found = names(value)
        unknown = [name for name in found if name not in known]
        if unknown or not found:
            raise ValueError(f"a list of some of: {', '.join(known)}" + (f" (not {unknown[0]!r})" if unknown else ""))
        return tuple(dict.fromkeys(found))

    return kind


def scores(value: Any) -> tuple[dict[str, Any], ...]:
    """Tables, each with mode, variant, direction and score, and at_least or at_most."""
    if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
        raise ValueError("one or more tables [[fail.scores]]")
    return tuple(_score(item) for item in value)


def _score(item: dict[str, Any]) -> dict[str, Any]:
    unknown = sorted(set(item) - SCORE_KEYS)
    if unknown:
        raise ValueError(f"tables with the keys {', '.join(sorted(SCORE_KEYS))} (not {unknown[0]!r})")
    if ("at_least" in item) == ("at_most" in item):
        raise ValueError("tables with one of at_least and at_most")
    found = {"variant": "open", "direction": "restore", "score": "krs_kl", **item}
    if "mode" not in item or not all(isinstance(found[key], str) for key in ("mode", "variant", "direction", "score")):
        raise ValueError("tables with a mode")
    if found["mode"] not in MODES or found["variant"] not in VARIANTS:
        raise ValueError(f"tables with a mode of {', '.join(MODES)} and a variant of {', '.join(VARIANTS)}")
    if found["score"] not in SCORES or found["direction"] not in DIRECTIONS:
        raise ValueError(f"tables with a score of {', '.join(SCORES)} and a direction of {', '.join(DIRECTIONS)}")
    number(item.get("at_least", item.get("at_most")))
    return found


def drift(value: Any) -> dict[str, Any]:
    """A table: components that may move, and the relative L2 that the others may move by."""
    if not isinstance(value, dict) or set(value) - DRIFT_KEYS or "components" not in value:
        raise ValueError("a table with components (which may move) and relative_l2 (how far the others may)")
    allowed = () if value["components"] == [] else some_of(COMPONENTS)(value["components"])
    return {"components": allowed, "relative_l2": positive(value.get("relative_l2", 0))}


labels = some_of(LABELS)


knowledge = some_of(KNOWLEDGE)


def probability(value: Any) -> dict[str, Any]:
    """A table: the greatest chance of the whole answer, and of how many samples."""
    if not isinstance(value, dict) or set(value) - PROBABILITY_KEYS or "at_most" not in value:
        raise ValueError("a table with at_most (a chance) and samples (how many)")
    return {"at_most": share(value["at_most"]), "samples": count(value.get("samples", SAMPLES))}


def windows(value: Any) -> str:
    """Whose windows are swept."""
    if value not in (NEEDED, EVERY):
        raise ValueError(f"one of {NEEDED}, {EVERY}")
    return str(value)


def modes(value: Any) -> tuple[str, ...]:
    """A list of some of the modes, or "all"."""
    return _modes(value, {ALL: tuple(MODES)})


def required_modes(value: Any) -> tuple[str, ...]:
    """A list of some of the modes, or "decisive"."""
    return _modes(value, {DECISIVE: decisive()})


def _modes(value: Any, words: Mapping[str, tuple[str, ...]]) -> tuple[str, ...]:
    if isinstance(value, str) and value in words:
        return words[value]
    try:
        return some_of(tuple(MODES))(value)
    except ValueError as error:
        raise ValueError(f"{error}, or {' or '.join(map(repr, words))}") from error


variants = some_of(tuple(VARIANTS))


sections = some_of(MEASURED)


def tiers(value: Any) -> tuple[int, ...]:
    """A list of tiers of attacks, one at least."""
    known = all(isinstance(one, int) and not isinstance(one, bool) and one in TIERS for one in _listed(value))
    if not known or not value:
        raise ValueError(f"a list of some of: {', '.join(map(str, TIERS))}")
    return tuple(sorted(set(value)))


def attacks(value: Any) -> tuple[str, ...]:
    """A list of names of attacks, one at least."""
    found = names(value)
    if not found:
        raise ValueError("a list of texts, one at least")
    return tuple(dict.fromkeys(found))


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [None]


directions = some_of(DIRECTIONS)
