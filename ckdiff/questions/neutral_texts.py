"""Neutral texts: ckdiff's own, or a file's."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING

from ckdiff.questions.records import name_in_errors, read_records
from ckdiff.questions.segments import text_of
from ckdiff.questions.values import canonical_digest, count_note

if TYPE_CHECKING:
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
        object.__setattr__(self, "digest", canonical_digest(list(self.texts)))


def neutral_texts() -> Texts:
    """The paragraphs that come with ckdiff: everyday and encyclopaedic prose, written for it."""
    with resources.as_file(resources.files("ckdiff.questions").joinpath("neutral_texts.txt")) as path:
        return read_texts(path, "neutral texts of ckdiff")


def read_texts(path: Path, source: str = "") -> Texts:
    """Read neutral texts: paragraphs between blank lines, or records with a text (`LAYOUTS`).

    Raises:
        RecordsError: the file cannot be read, is damaged, or holds no text.
    """
    with name_in_errors(path):
        found = read_records(path, prose=True)
        said = [text for text in map(text_of, found.entries) if text]
        once = tuple(dict.fromkeys(said))
        if not once:
            raise ValueError("no text found; write at least one")
        notes = count_note(len(said) - len(once), "repeated text")
        return Texts(once, source or f"{found.name}, {found.kind}", notes)
