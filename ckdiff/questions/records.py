"""The one reader of records, for everything that is asked, shown or learned: `read_records(path)`.

A file is untrusted: it is bounded, read whole or refused, and whatever of it goes into a message is quoted and short.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ckdiff.hub import fetch_data, find_data_id
from ckdiff.questions.formats import FORMATS, MAX_BYTES, Content, Record
from ckdiff.questions.layouts import Layout, concept_layout, fold
from ckdiff.questions.streams import RecordsError, whole
from ckdiff.questions.values import fold_keys, kind_of, list_names
from ckdiff.untrusted import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Records:
    """The entries of a file, in order; at least one.

    Attributes:
        name: of the file, for people; of a data set of the hub its commit too.
        kind: its format.
        group: the row of `LAYOUTS` by which entries belong to concepts, if they do.
    """

    name: str
    kind: str
    entries: tuple[Record, ...]
    group: Layout | None

    @property
    def listing(self) -> bool:
        """Whether entries are about different things, each with its own opposite, so that one must be chosen."""
        return bool(self.group and self.group.unrelated) or any(entry.part is not None for entry in self.entries)

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
                raise ValueError(f"{different} concepts, name one with --concept: {list_names(names)}")
            return self.entries
        if not any(names):
            kinds = "ConceptVectors or RWKU"
            raise ValueError(f"{self.kind} without concepts; leave out --concept, or name a file of {kinds}")
        found = [one for one, name in zip(self.entries, names, strict=True) if name and fold(name) == fold(concept)]
        if not found:
            raise ValueError(f"no concept {quoted(concept)}; it has: {list_names(names)}")
        return tuple(found)


def items_of(entry: Record, column: str) -> list[Record]:
    """The items that a concept's entry lists in a column; some files put each item into a list of its own.

    Raises:
        ValueError: it has no such list.
    """
    items = entry.value.get(fold(column))
    if items is None:
        raise ValueError(f"{entry.place}: no {column}; add it, or ask for other questions")
    if not isinstance(items, list):
        raise ValueError(f"{entry.place}: {column} is {kind_of(items)}; write a list of questions")
    flat = [part for item in items for part in (item if isinstance(item, list) else [item])]
    places = (f"{entry.place}, {column} {index}" for index in range(1, len(flat) + 1))
    return [Record(place, fold_keys(item, place)) for place, item in zip(places, flat, strict=True)]


def read_records(path: Path, *, prose: bool = False, most: int | None = None) -> Records:
    """Read the entries of a file.

    Args:
        path: the file, plain or compressed with gzip or zstd; or a data set of the hub (`hub.parse_data_id`).
        prose: whether text is paragraphs between blank lines, rather than a question a line.
        most: bytes of its content; else `MAX_BYTES`.

    Raises:
        RecordsError: it cannot be read, is of no known format, or is empty.
    """
    most, data = most or MAX_BYTES, find_data_id(path)
    with name_in_errors(path):
        if data is None:
            if re.fullmatch(r"hf:/.*|[\w-]+/[\w.-]+", str(path)) and not path.parent.exists():
                raise ValueError("no such file; of the hub name hf://datasets/org/name/FILE or org/name:CONFIG:SPLIT")
            return _records(path.name, *_read(path, prose, most))
        root, commit, names = fetch_data(data, most, RecordsError)
        read = [(name, *_read(root / name, prose, most)) for name in names]
        entries = [replace(entry, place=f"{name}: {entry.place}") for name, _, found in read for entry in found]
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        return _records(f"{data.repo}@{commit}/{names[0]}{more}", read[0][1], entries)


def _read(path: Path, prose: bool, most: int) -> tuple[str, list[Record]]:
    """The format of a file and its entries."""
    endings = [ending.lower() for ending in path.suffixes if ending.lower() not in {".gz", ".zst"}]
    content = Content(whole(path, most), endings[-1] if endings else "", prose)
    found = next(row for row in FORMATS if row.fits(content))
    entries = list(found.read(content))
    if not entries:
        raise ValueError("nothing in it; write at least one entry")
    return found.name, entries


def _records(name: str, kind: str, entries: Sequence[Record]) -> Records:
    name = name if name.isprintable() else quoted(name)
    return Records(name, kind, tuple(entries), concept_layout(entry.value for entry in entries))


@contextlib.contextmanager
def name_in_errors(path: Path) -> Iterator[None]:
    """Turn what is wrong with a file's content into an error that names the file."""
    try:
        yield
    except ValueError as error:
        raise RecordsError(f"{find_data_id(path) or path}: {error}") from error
