"""Texts that a model is trained on, or away from, read from the files in which benchmarks keep them.

read_segments(Path("concepts.json"), concept="Super Mario")   # ConceptVectors: an encyclopedia article
read_segments(Path("mario.jsonl.gz"))                         # what `ckdiff corpus` has written
other_concepts(Path("concepts.json"), "Super Mario")          # the other articles: what is to be retained
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ckdiff.questions.layouts import ALTERNATE, fold, has, text_layout
from ckdiff.questions.records import Records, items_of, name_in_errors, read_records
from ckdiff.questions.streams import RecordsError
from ckdiff.questions.values import (
    canonical_digest,
    check_open,
    clean,
    count_note,
    kind_of,
    list_names,
    string_of,
    words_of,
)
from ckdiff.untrusted import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from ckdiff.questions.formats import Record


LENGTH = 400
"""Characters after which a segment ends with its sentence; ConceptVectors cuts its articles so."""


ENDING = re.compile(r"""(?<=[.!?…])["'”’»)\]]*\s+|(?<=[。！？])["'”’」』）]*\s*|\n\s*\n\s*""")  # noqa: RUF001
"""What lies between sentences: white space after their end, or an empty line."""


NO_ENDING = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|etc|cf|No|Vol|e\.g|i\.e|[A-Z])\.)\Z")
"""A full stop that ends no sentence, more often than not: a title, an abbreviation, an initial."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One text, stripped; with a prompt (a question) the text is its answer, `alternates` others of its kind."""

    text: str
    prompt: str | None = None
    alternates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TextSet:
    """Texts to train on, in order, each once.

    Attributes:
        source: one line for people: file name, format, concept.
        digest: sha256 over the canonical JSON of texts and prompts; equal sets have equal digests whatever their file.
        notes: plain sentences about what was left out.
    """

    segments: tuple[Segment, ...]
    source: str
    digest: str
    notes: tuple[str, ...] = ()


def read_segments(path: Path, *, concept: str | None = None, most: int | None = None, length: int = LENGTH) -> TextSet:
    """Read the texts of a file: paragraphs of text, or records with a text or with a question and its answer.

    Long texts are cut into `segments`; answers are kept whole.

    Args:
        path: the file.
        concept: picks the texts of one concept, subject or part of the file; case does not matter.
        most: how many segments are taken, from the beginning; all of them without it.
        length: characters after which a segment ends with its sentence.

    Raises:
        RecordsError: the file cannot be read, is of no known format, or does not hold what was asked for.
    """
    check_bounds(length, most)
    with name_in_errors(path):
        found = read_records(path, prose=True)
        picked, said = found.about(concept), found.kind
        if found.group is not None and found.group.target:
            said = f"{found.group.name}, concept {quoted(_name_of(found, picked[0]))}"
            if not found.group.text:
                picked = tuple(item for entry in picked for item in items_of(entry, found.group.target))
        pieces = (piece for entry in picked for piece in _segments_of(entry, found, length))
        return _collect(pieces, f"{found.name}, {said}", most)


def other_concepts(path: Path, concept: str, most: int | None = None, length: int = LENGTH) -> TextSet:
    """The articles about every other concept of a ConceptVectors file: one segment of each in turn, in file order.

    Raises:
        RecordsError: it is no such file, has no such concept, or no other one with a text.
    """
    check_bounds(length, most)
    with name_in_errors(path):
        found = read_records(path, prose=True)
        if found.group is None or not (found.group.target and found.group.text):
            raise ValueError("no concepts of ConceptVectors in it; name a file with texts to retain")
        named, column = quoted(_name_of(found, found.about(concept)[0])), found.group.text
        others = [entry for entry in found.entries if fold(_name_of(found, entry)) != fold(concept)]
        told = [entry for entry in others if isinstance(entry.value.get(fold(column)), str)]
        if not told:
            raise ValueError(f"no other concept than {named} with {column}; name a file with texts to retain")
        turns = itertools.chain.from_iterable(
            itertools.zip_longest(*(_segments_of(one, found, length) for one in told))
        )
        pieces = (piece for piece in turns if piece is not None)
        notes = count_note(len(others) - len(told), "other concept", f"without {column} left out")
        return _collect(pieces, f"{found.name}, {found.group.name}, concepts other than {named}", most, notes)


def holds_concepts(path: Path) -> bool:
    """Whether a file has entries of concepts or subjects, of which one can be chosen by name."""
    found = read_records(path, prose=True)
    return any(found.concept_of(entry) is not None for entry in found.entries)


def check_bounds(length: int, most: int | None) -> None:
    """Refuse a length or a number of segments that means nothing.

    Raises:
        RecordsError: it is below 1.
    """
    if length < 1:
        raise RecordsError(f"--length: {length} characters are no text; give 1 or more")
    if most is not None and most < 1:
        raise RecordsError(f"--most: {most} segments are nothing to train on; give 1 or more")


def segments(text: str, length: int = LENGTH) -> Iterator[str]:
    """Cut a text where a sentence ends, as soon as a segment has more than `length` characters.

    What looks like one sentence of more than twice that is cut between words, or anywhere, so that no segment is longer
    than three times `length`. Only white space is lost; a segment cut again stays one.

    >>> list(segments("One is here. Two is there. Three.", length=20))
    ['One is here. Two is there.', 'Three.']
    """
    start = end = len(text) - len(text.lstrip())
    for end in _ends(text, start, length):
        if end - start > length:
            if piece := text[start:end].strip():
                yield piece
            start = end
    if piece := text[start:end].strip():
        yield piece


def _ends(text: str, start: int, length: int) -> Iterator[int]:
    """Where each sentence ends, the white space after it included."""
    for ending in ENDING.finditer(text, start):
        paragraph = ending[0].count("\n") > 1
        if paragraph or not NO_ENDING.search(text, max(start, ending.start() - 12), ending.start()):
            yield from _cuts(text, start, ending.end(), length)
            start = ending.end()
    if start < len(text):
        yield from _cuts(text, start, len(text), length)


def _cuts(text: str, start: int, end: int, length: int) -> Iterator[int]:
    said = start + len(text[start:end].rstrip())
    while said - start > 2 * length:
        space = max(text.rfind(blank, start + 1, start + length) for blank in " \n\t")
        start = space + 1 if space > 0 else start + length
        yield start
    yield end


def _name_of(found: Records, entry: Record) -> str:
    name = found.concept_of(entry)
    if not name:
        raise ValueError(f"{entry.place}: an entry without the name of its concept; add its name")
    return name


def _segments_of(entry: Record, found: Records, length: int) -> Iterator[Segment]:
    """Segments of an entry; one that says nothing is one empty segment, so that it is counted."""
    item, place = entry.value, entry.place
    group = found.group if found.group and found.group.target and found.group.text else None
    if group is not None and not (isinstance(item, dict) and isinstance(item.get(fold(group.text)), str)):
        named = quoted(_name_of(found, entry))
        raise ValueError(f"{place}: concept {named} has no {group.text}; add its text, or name a file of texts")
    row = text_layout(item) if isinstance(item, dict) else None
    if row is not None and not has(item, row.text):
        prompt, answer = row.question[0], row.answer
        answers = item[fold(answer)]
        said = words_of(place, answer, answers[0] if isinstance(answers, list) and answers else answers)
        check_open(place, item, [said])
        yield Segment(said, string_of(place, prompt, item[fold(prompt)]), _alternates(place, item, said))
    else:
        yield from map(Segment, list(segments(text_of(entry), length)) or [""])


def _alternates(place: str, item: Mapping[str, Any], answer: str) -> tuple[str, ...]:
    """Other answers of the kind that an entry gives, each once, but not the right one."""
    column = next((name for name in ALTERNATE if item.get(name)), "")
    given = item[column] if column else []
    every = (words_of(place, column, one) for one in (given if isinstance(given, list) else [given]))
    return tuple(dict.fromkeys(one for one in every if one and one != answer))


def text_of(entry: Record) -> str:
    """The text of an entry.

    Raises:
        ValueError: it has none.
    """
    item, place = entry.value, entry.place
    if isinstance(item, str):
        return clean(item, place)
    if not isinstance(item, dict):
        raise ValueError(f"{place}: {kind_of(item)}; write a string, or an object with text")
    row = text_layout(item)
    if row is None or not has(item, row.text):
        raise ValueError(f"{place}: no text in it; call it text; it has: {list_names(item)}")
    return string_of(place, row.text, item[fold(row.text)])


def _collect(found: Iterable[Segment], source: str, most: int | None, notes: tuple[str, ...] = ()) -> TextSet:
    """Drop what is empty or was there already, and count what was dropped."""
    every = list(found)
    said = [segment for segment in every if segment.text and segment.prompt != ""]
    once = list(dict.fromkeys(said))
    taken = tuple(once[:most])
    if not taken:
        raise ValueError("no text found; write at least one")
    notes += count_note(len(every) - len(said), "empty text") + count_note(len(said) - len(once), "repeated text")
    notes += (f"the first {len(taken)} of {len(once)} segments were taken",) if len(taken) < len(once) else ()
    return TextSet(taken, source, text_digest(taken), notes)


def text_digest(found: Iterable[Segment]) -> str:
    """sha256 over the canonical JSON of texts and prompts, and of other answers where there are some."""
    return canonical_digest(
        [[one.text, one.prompt, *([list(one.alternates)] if one.alternates else [])] for one in found]
    )
