"""Neutral texts: ckdiff's own, or a file's."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Any

from ckdiff.questions.questions import (
    QuestionsError,
    clean_text,
    counted,
    kind_of,
    lines_of,
    parsed_json,
    read_file,
)
from ckdiff.untrusted import quoted, strict_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts, stripped and each once.

    Attributes:
        source: one line for people.
        digest: sha256 over the canonical JSON of the texts.
        notes: plain sentences about what was left out.
    """

    texts: tuple[str, ...]
    source: str
    notes: tuple[str, ...] = ()
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", digest_of(list(self.texts)))


def neutral_texts() -> Texts:
    """The paragraphs that come with ckdiff: everyday and encyclopaedic prose, written for it."""
    text = resources.files("ckdiff.questions").joinpath("neutral_texts.txt").read_text(encoding="utf-8")
    return _collected(_paragraphs(text), "neutral texts of ckdiff")


def read_texts(path: Path) -> Texts:
    """Read neutral texts: paragraphs between blank lines, or a JSON list or JSON lines of strings or `text` objects.

    Raises:
        QuestionsError: the file cannot be read, is damaged, or holds no text.
    """
    text = read_file(path)
    name = path.name if path.name.isprintable() else quoted(path.name)
    try:
        if path.suffix in {".json", ".jsonl"} or _looks_like_json(text):
            items = [(place, _text_of(place, value)) for place, value in records(text)]
            return _collected(items, f"{name}, JSON")
        return _collected(_paragraphs(text), f"{name}, text")
    except ValueError as error:
        raise QuestionsError(f"{path}: {error}") from error


def records(text: str) -> list[tuple[str, Any]]:
    """The values of a JSON list, or of JSON lines, each with its place for messages.

    Raises:
        ValueError: it is neither, or empty.
    """
    lines = lines_of(text)
    if not lines:
        raise ValueError("the file is empty; write at least one entry")
    if lines[0][1].startswith("["):
        value = parsed_json(text)
        if not value:
            raise ValueError("the list is empty; write at least one entry")
        return [(f"entry {index}", item) for index, item in enumerate(value, 1)]
    if len(lines) > 1 and lines[0][1] == "{":
        return [("the object", parsed_json(text))]
    return [(place, parsed_json(line, place)) for place, line in lines]


def digest_of(value: Any) -> str:
    """Hex sha256 over the canonical JSON of lists, strings and numbers."""
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode("ascii")).hexdigest()


def _looks_like_json(text: str) -> bool:
    """A JSON value in whole, or a first line that is an object: prose may begin with a bracket too."""
    if text.lstrip().startswith("{"):
        return True
    try:
        return isinstance(strict_json(text), list)
    except ValueError:
        return False


def _paragraphs(text: str) -> list[tuple[str, str]]:
    blocks = re.split(r"\n\s*\n", text.replace("\r\n", "\n").replace("\r", "\n"))
    return [(f"paragraph {number}", block) for number, block in enumerate(blocks, 1)]


def _text_of(place: str, value: Any) -> str:
    found = value.get("text") if isinstance(value, dict) else value
    if not isinstance(found, str):
        what = f"text is {kind_of(found)}" if isinstance(value, dict) and "text" in value else "no text in it"
        raise ValueError(f"{place}: {what}; write a string, or an object with a text")
    return found


def _collected(items: Sequence[tuple[str, str]], source: str) -> Texts:
    cleaned = [clean_text(place, text) for place, text in items]
    once = tuple(dict.fromkeys(text for text in cleaned if text))
    if not once:
        raise ValueError("no text found; write at least one")
    repeated = sum(map(bool, cleaned)) - len(once)
    return Texts(once, source, counted(repeated, "repeated text", "left out"))
