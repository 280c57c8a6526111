"""Kept from one job for the next: sha256 of weight files, and the greedy answers of base models.

    cache = Cache(folder)
    cache.digest(path)          # of a file that was hashed before and has not changed since; else None
    cache.answers(key)          # what was kept under a key; else None
    cache.keep(key, answers)

Every file is written whole or not at all, so that several processes can use one folder: two that miss the same answers
both make them, and write the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from typing import TYPE_CHECKING, Any

from ckdiff.files import replace_file

if TYPE_CHECKING:
    from pathlib import Path


SHA256 = re.compile(r"[0-9a-f]{64}")


MOST_BYTES = 1 << 28
"""Of a file: more than the answers to ten thousand questions need."""


class Cache:
    """Digests in `digests.json` and answers in `base/KEY.json` of one folder; what is damaged counts as not there.

    Attributes:
        folder: where.
        both: what a command keeps for itself: both models' answers, to all questions together; else those of base
            models, set by set, so that other jobs find them.
    """

    def __init__(self, folder: Path, both: bool = False, recall: bool = True) -> None:
        """A cache; without `recall` what others left there is not looked at, and replaced."""
        self.folder, self.both = folder, both
        self._recall = recall
        self._digests = _read(folder / "digests.json") if recall else {}

    def digest(self, path: Path) -> str | None:
        """sha256 of a file in hexadecimal, where it was hashed and nothing about it has changed since."""
        try:
            known = self._digests.get(os.path.realpath(path))
            if (
                isinstance(known, list)
                and len(known) == 4
                and known[:3] == state_of(path)
                and SHA256.fullmatch(known[3])
            ):
                return str(known[3])
        except (OSError, TypeError):
            pass
        return None

    def add(self, path: Path, sha256: str, state: list[int]) -> None:
        """Remember the digest of a file that was in this state before it was hashed."""
        if state_of(path) == state:
            self._digests[os.path.realpath(path)] = [*state, sha256]

    def save(self) -> None:
        """Write the digests.

        Raises:
            OSError: the disk is full, or the folder cannot be written to.
        """
        self._write(self.folder / "digests.json", self._digests)

    def answers(self, key: str) -> list[list[int]] | None:
        """The answers that were kept under a key: lists of token ids."""
        if not self._recall:
            return None
        found = _read(self._place(key)).get("answers")
        if not isinstance(found, list) or not all(isinstance(one, list) and all(map(_is_id, one)) for one in found):
            return None
        return found

    def keep(self, key: str, answers: list[list[int]]) -> None:
        """Keep answers under a key; where there is no room, they are made again."""
        with contextlib.suppress(OSError):
            self._write(self._place(key), {"answers": answers})

    def _place(self, key: str) -> Path:
        return self.folder / "base" / f"{key}.json"

    def _write(self, path: Path, tree: dict[str, Any]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, (json.dumps(tree, indent=1) + "\n").encode("utf-8", "backslashreplace"))


def state_of(path: Path) -> list[int]:
    """The size of a file and two times, one of which nobody can set: they change when the file does."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _read(path: Path) -> dict[str, Any]:
    """The object that a file holds, or an empty one."""
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.stat().st_size <= MOST_BYTES else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
