"""The one reader of records, for everything that is asked, shown or learned: `read_records(path)`.

A file is untrusted: it is bounded, read whole or refused, and whatever of it goes into a message is quoted and short.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ckdiff.questions.formats import FORMATS, MAX_BYTES, Content, Record
from ckdiff.questions.layouts import Layout, fold, grouping
from ckdiff.questions.streams import RecordsError, whole
from ckdiff.questions.values import kind_of, listed
from ckdiff.untrusted import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Records:
    """The entries of a file, in order; at least one.

    Attributes:
        path: the file, as messages name it.
        name: the same for people, who need no directory.
        kind: its format.
        group: the row of `LAYOUTS` by which entries belong to concepts, if they do.
    """

    path: str
    name: str
    kind: str
    entries: tuple[Record, ...]
    group: Layout | None

    @property
    def listing(self) -> bool:
        """Whether each entry lists what is about its concept, so that one must be chosen."""
        return bool(self.group and self.group.target) or any(entry.part is not None for entry in self.entries)

    def concept_of(self, entry: Record) -> str | None:
        """Whom or what an entry is about, as its file spells it."""
        column = fold(self.group.concept) if self.group else ""
        name = entry.value.get(column) if isinstance(entry.value, dict) else None
        return name.strip() if isinstance(name, str) else entry.part

    def about(self, concept: str | None) -> tuple[Record, ...]:
        """The entries of one concept, whatever its case; all of them without a name.

        Raises:
            ValueError: it has no such concept, or several of which one must be named.
        """
        other = next((one for one in self.entries if not isinstance(one.value, dict)), None)
        if self.group and self.group.target and other:
            kind = kind_of(other.value)
            raise ValueError(f"{other.place}: {kind} among entries of {self.group.name}; write an object")
        names = [self.concept_of(entry) for entry in self.entries]
        if concept is None:
            different = len({fold(name or "") for name in names})
            if self.listing and different > 1:
                raise ValueError(f"{different} concepts, name one with --concept: {listed(names)}")
            return self.entries
        if not any(names):
            kinds = "ConceptVectors or RWKU"
            raise ValueError(f"{self.kind} without concepts; leave out --concept, or name a file of {kinds}")
        found = [one for one, name in zip(self.entries, names, strict=True) if name and fold(name) == fold(concept)]
        if not found:
            raise ValueError(f"no concept {quoted(concept)}; it has: {listed(names)}")
        return tuple(found)


def read_records(path: Path, *, prose: bool = False, most: int | None = None) -> Records:
    """Read the entries of a file.

    Args:
        path: the file, plain or compressed with gzip or zstd.
        prose: whether text is paragraphs between blank lines, rather than a question a line.
        most: bytes of its content; else `MAX_BYTES`.

    Raises:
        RecordsError: it cannot be read, is of no known format, or is empty.
    """
    with naming(path):
        endings = [ending.lower() for ending in path.suffixes if ending.lower() not in {".gz", ".zst"}]
        content = Content(whole(path, most or MAX_BYTES), endings[-1] if endings else "", prose)
        found = next(row for row in FORMATS if row.fits(content))
        entries = tuple(found.read(content))
        if not entries:
            raise ValueError("nothing in it; write at least one entry")
        name = path.name if path.name.isprintable() else quoted(path.name)
        return Records(str(path), name, found.name, entries, grouping(entry.value for entry in entries))


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn what is wrong with a file's content into an error that names the file."""
    try:
        yield
    except ValueError as error:
        raise RecordsError(f"{path}: {error}") from error
