"""An interrupted attack on disk: what each attack made of each model, as soon as it was done.

    kept = open_kept(place, key, resume)      # what is there of the same attack, or nothing
    kept.answers, kept.sides, kept.made       # what need not be done again
    kept.save()                               # all or nothing

One JSON file beside the report. Numbers are written to the last digit: what goes on from there ends in the same report
as an uninterrupted run. The key is a digest of everything that determines the numbers.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.attacks.case import Outcome, Reading
from ckdiff.files import replace_file
from ckdiff.probes.kept_sweep import PartialError
from ckdiff.untrusted import strict_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ckdiff.report.schema.attack import Attacked

Training = tuple[str, float, int, int]


@dataclass(frozen=True, slots=True)
class Side:
    """What one model said by itself: to the unrelated questions as ids, to the questions, and how it reads them."""

    own: list[list[int]]
    answers: list[str]
    plain: Reading


@dataclass(frozen=True, slots=True)
class KeptTwin:
    """How the suppressed copy of the base came about, in words, and which clusters it had lost."""

    says: str
    lost: list[int]


@dataclass(slots=True)
class Kept:
    """How far an attack has come.

    Attributes:
        place: the file, or None: nothing is kept.
        key: tells this attack from others.
        answers: the base's greedy answers to the questions; None before it was asked.
        floor: the table of a base that cannot know; None before it was measured.
        sides: by model what it said by itself.
        made: by attack and model what came of it.
        followed: trainings that controls repeat.
        twin: the suppressed copy, once there was one.
        lock: held by who changes what is made, and writes it.
    """

    place: Path | None = None
    key: str = ""
    answers: list[list[int]] | None = None
    floor: np.ndarray[Any, np.dtype[np.float64]] | None = None
    sides: dict[Attacked, Side] = field(default_factory=dict)
    made: dict[tuple[str, Attacked], list[Outcome]] = field(default_factory=dict)
    followed: list[Training] = field(default_factory=list)
    twin: KeptTwin | None = None
    lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def save(self) -> None:
        """Write it, all or nothing.

        Raises:
            OSError: there is no room, or no right.
        """
        if self.place is None:
            return
        tree = {
            "key": self.key,
            "answers": self.answers,
            "floor": None if self.floor is None else self.floor.tolist(),
            "sides": {name: asdict(one) | {"plain": _tree(one.plain)} for name, one in self.sides.items()},
            "made": [[*key, [_outcome_tree(one) for one in found]] for key, found in self.made.items()],
            "followed": self.followed,
            "twin": None if self.twin is None else asdict(self.twin),
        }
        self.place.parent.mkdir(parents=True, exist_ok=True)
        replace_file(self.place, json.dumps(tree).encode())


def open_kept(place: Path | None, key: str, resume: bool) -> Kept:
    """What is kept of an attack that is gone on with; of any other one nothing yet.

    Raises:
        PartialError: it belongs to another attack, or is damaged.
    """
    if place is None or not resume or not place.exists():
        return Kept(place, key)
    try:
        tree = strict_json(place.read_bytes(), constants=True)
        if tree["key"] == key:
            return _kept(place, tree)
    except Exception as error:
        raise PartialError(f"{place}: damaged ({str(error)[:100]}); leave out --resume to start anew") from error
    raise PartialError(
        f"{place}: an interrupted attack on other models, with other questions or settings; give those, or leave out"
        " --resume"
    )


def _kept(place: Path, tree: Any) -> Kept:
    twin = tree["twin"]
    return Kept(
        place,
        tree["key"],
        tree["answers"],
        None if tree["floor"] is None else _array(tree["floor"]),
        {name: Side(one["own"], one["answers"], _reading(one["plain"])) for name, one in tree["sides"].items()},
        {(attack, side): [_outcome(one) for one in found] for attack, side, found in tree["made"]},
        [(str(arm), float(rate), int(last), int(best)) for arm, rate, last, best in tree["followed"]],
        None if twin is None else KeptTwin(twin["says"], twin["lost"]),
    )


def _tree(reading: Reading) -> dict[str, Any]:
    arrays = {name: getattr(reading, name).tolist() for name in ("level", "log_p", "table")}
    return arrays | {"said": list(reading.said.items()), "unrelated": reading.unrelated, "texts": reading.texts}


def _reading(tree: Any) -> Reading:
    said = {int(place): str(text) for place, text in tree["said"]}
    arrays = {name: _array(tree[name]) for name in ("level", "log_p", "table")}
    return Reading(**arrays, said=said, unrelated=float(tree["unrelated"]), texts=int(tree["texts"]))


def _outcome_tree(one: Outcome) -> dict[str, Any]:
    return asdict(one) | {"reading": None if one.reading is None else _tree(one.reading)}


def _outcome(tree: Any) -> Outcome:
    held_out, groups, reading = tree["held_out"], tree["groups"], tree["reading"]
    return Outcome(
        **tree
        | {
            "reading": None if reading is None else _reading(reading),
            "held_out": None if held_out is None else tuple(held_out),
            "groups": None if groups is None else tuple(map(tuple, groups)),
        }
    )


def _array(values: Sequence[Any]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array(values, dtype=np.float64)
