"""An interrupted discovery on disk, step by step: `open_kept(folder, key, resume, remark).once(name, make, form)`.

Each step is one JSON file beside the report, written whole or not at all. Numbers are written to the last digit: what
goes on from there ends in the same report as an uninterrupted run. The key is a digest of everything that determines
the numbers.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import torch

from ckdiff.discovery.asking import Round
from ckdiff.discovery.lost import Look
from ckdiff.discovery.texts import Texts
from ckdiff.files import replace_file
from ckdiff.probes.kept_sweep import PartialError
from ckdiff.probes.prompts import Prompt
from ckdiff.questions.questions import Question
from ckdiff.untrusted import strict_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

    from ckdiff.shapes import Float64

    Logs = list[list[Tensor]]
    Asked = tuple[list[Round], Logs, Logs]
    Shaken = tuple[Look, Logs]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Form(Generic[T]):
    """How what a step found is written as a tree of JSON, and read again."""

    write: Callable[[T], Any]
    read: Callable[[Any], T]


@dataclass(frozen=True, slots=True)
class Kept:
    """What is done of a discovery.

    Attributes:
        folder: where, or None: nothing is kept.
        key: tells this discovery from others.
        remark: told where there is no room.
    """

    folder: Path | None = None
    key: str = ""
    remark: Callable[[str], None] = lambda text: None

    def has(self, name: str) -> bool:
        """Whether a step is done already."""
        return self.folder is not None and self._place(name).exists()

    def find(self, name: str, form: Form[T]) -> T | None:
        """What a step found before; None where it is not done.

        Raises:
            PartialError: what is kept is of another discovery, or damaged.
        """
        return self._load(self._place(name), form) if self.has(name) else None

    def once(self, name: str, make: Callable[[], T], form: Form[T]) -> T:
        """What a step finds, found before or now.

        Raises:
            PartialError: what is kept is of another discovery, or damaged.
        """
        if self.has(name):
            return self._load(self._place(name), form)
        found = make()
        if self.folder is not None:
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                replace_file(self._place(name), json.dumps({"key": self.key, "found": form.write(found)}).encode())
            except OSError as error:
                self.remark(f"what is done could not be kept ({str(error)[:100]}); free some disk to use --resume")
        return found

    def _place(self, name: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{name}.json"

    def _load(self, place: Path, form: Form[T]) -> T:
        try:
            tree = strict_json(place.read_bytes(), constants=True)
            if tree["key"] == self.key:
                return form.read(tree["found"])
        except Exception as error:
            raise PartialError(f"{place}: damaged ({str(error)[:100]}); leave out --resume to start anew") from error
        raise PartialError(
            f"{place}: an interrupted discovery on other models, with other texts, candidates or settings; give those,"
            " or leave out --resume"
        )


def open_kept(folder: Path, key: str, resume: bool, remark: Callable[[str], None]) -> Kept:
    """What is kept of a discovery that is gone on with; of one that begins anew what another left there is removed."""
    if not resume and not folder.is_symlink():
        shutil.rmtree(folder, ignore_errors=True)
    return Kept(folder, key, remark)


def _arrays(found: Look) -> dict[str, list[Any]]:
    return {one.name: getattr(found, one.name).tolist() for one in fields(Look)}


def _look(tree: Any) -> Look:
    whole = {"lost", "gained", "texts"}
    arrays: dict[str, Any] = {
        one.name: np.array(tree[one.name], dtype=np.int64 if one.name in whole else np.float64) for one in fields(Look)
    }
    return Look(**arrays)


def _logs(found: Logs) -> list[list[list[float]]]:
    return [[one.tolist() for one in some] for some in found]


def _tensors(tree: Any) -> Logs:
    return [[torch.tensor(one, dtype=torch.float64) for one in some] for some in tree]


def _prompts(found: Sequence[Prompt]) -> list[list[Any]]:
    return [[one.question.text, one.ids, one.answer] for one in found]


def _read_prompts(tree: Any) -> list[Prompt]:
    return [Prompt(Question(text), tuple(ids), tuple(answer)) for text, ids, answer in tree]


def _texts(tree: Any) -> Texts:
    return Texts(_read_prompts(tree["prompts"]), tree["kinds"], tree["source"], tuple(tree["notes"]))


def _rounds(tree: Any) -> list[Round]:
    return [Round(form, _read_prompts(some), np.array(owners, dtype=np.int64)) for form, some, owners in tree]


def _float64(values: Any) -> Float64:
    return np.array(values, dtype=np.float64)


TEXTS: Form[Texts] = Form(
    lambda found: {
        "prompts": _prompts(found.prompts),
        "kinds": found.kinds,
        "source": found.source,
        "notes": found.notes,
    },
    _texts,
)
LOOK: Form[Look] = Form(_arrays, _look)
VALUES: Form[Float64] = Form(lambda found: found.tolist(), _float64)
ASKED: Form[Asked] = Form(
    lambda found: [
        [[one.form, _prompts(one.prompts), one.owners.tolist()] for one in found[0]],
        _logs(found[1]),
        _logs(found[2]),
    ],
    lambda tree: (_rounds(tree[0]), _tensors(tree[1]), _tensors(tree[2])),
)
SHAKEN: Form[Shaken] = Form(
    lambda found: [_arrays(found[0]), _logs(found[1])], lambda tree: (_look(tree[0]), _tensors(tree[1]))
)
