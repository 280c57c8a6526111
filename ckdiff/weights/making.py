"""How an unlearned checkpoint was made, where `unlearning.json` beside its weights says: `read_making(root, digest)`.

The file is untrusted and only ever shown. One that is malformed, or about other weights, is left out with a note.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ckdiff.errors import CheckpointError
from ckdiff.report.schema.behaviour import HistoryPoint
from ckdiff.untrusted import quoted, strict_json
from ckdiff.weights.reader import inside

if TYPE_CHECKING:
    from pathlib import Path


FILE, FORMAT = "unlearning.json", "ckdiff-unlearning"


MAX_BYTES, MAX_POINTS, MAX_METHOD = 4_000_000, 10_000, 60


STATES = ("memory", "saved")


@dataclass(frozen=True, slots=True)
class Making:
    """The making of a checkpoint, as it says itself.

    Attributes:
        method: "npo", "graddiff", ...; "" where it says nothing.
        history: what was measured on the way.
        notes: why something was left out.
    """

    method: str = ""
    history: tuple[HistoryPoint, ...] = ()
    notes: tuple[str, ...] = ()


def read_making(root: Path | None, digest: str | None) -> Making:
    """Read `unlearning.json` of a checkpoint's directory; nothing is raised, what is wrong becomes a note.

    Args:
        root: the directory, or None.
        digest: of the weights beside it as they were measured; None where they were not hashed.
    """
    if root is None or not (root / FILE).is_file():
        return Making()
    try:
        value = _read(root)
        recorded = value.get("digest")
        if recorded is not None and not isinstance(recorded, str):
            raise ValueError("digest is no string")
        making = Making(_method(value.get("method")), _history(value.get("history")))
    except (ValueError, OSError, CheckpointError) as error:
        reason = " ".join(str(error).split())[:160]
        return Making(notes=(f"{FILE} of the unlearned checkpoint was left out: {reason}",))
    if recorded is not None and digest is not None and recorded != digest:
        return Making(notes=(f"{FILE} of the unlearned checkpoint is about other weights and was left out",))
    if recorded is None or digest is None:
        note = f"{FILE} of the unlearned checkpoint was not checked against its weights by digest"
        return Making(making.method, making.history, (note,))
    return making


def _read(root: Path) -> dict[str, Any]:
    path = inside(root, FILE)
    if path.stat().st_size > MAX_BYTES:
        raise ValueError(f"larger than {MAX_BYTES} bytes")
    value = strict_json(path.read_bytes())
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise ValueError(f"its format is not {FORMAT}")
    return value


def _method(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable() or not 0 < len(value) <= MAX_METHOD:
        raise ValueError(f"method is no short text: {quoted(str(value))}")
    return value


def _history(value: Any) -> tuple[HistoryPoint, ...]:
    if not isinstance(value, list) or len(value) > MAX_POINTS:
        raise ValueError(f"history is no list of at most {MAX_POINTS} points")
    return tuple(_point(number, item) for number, item in enumerate(value, 1))


def _point(number: int, item: Any) -> HistoryPoint:
    place = f"history {number}"
    if not isinstance(item, dict):
        raise ValueError(f"{place}: no object")
    step, state = item.get("step"), item.get("state")
    if type(step) is not int or not 0 <= step < 2**53:
        raise ValueError(f"{place}: step is no whole number")
    if state not in STATES:
        raise ValueError(f"{place}: state is none of {', '.join(STATES)}")
    epoch = _number(place, item, "epoch")
    if not epoch >= 0:
        raise ValueError(f"{place}: epoch is no number from 0 on")
    bleus = (_number(place, item, name) for name in ("target_bleu", "unrelated_bleu"))
    target, unrelated = bleus
    if any(bleu < 0 or bleu > 1 for bleu in (target, unrelated)):
        raise ValueError(f"{place}: a BLEU lies outside 0 and 1")
    return HistoryPoint(step, epoch, _number(place, item, "loss"), target, unrelated, state)


def _number(place: str, item: dict[str, Any], name: str) -> float:
    """A finite number, or NaN for null."""
    value = item.get(name)
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
        raise ValueError(f"{place}: {name} is no number")
    return float(value)
