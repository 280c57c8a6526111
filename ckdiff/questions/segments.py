"""Texts that a model is trained on, or away from, read from the files in which benchmarks keep them.

    read_segments(Path("concepts.json"), concept="Super Mario")   # ConceptVectors: an encyclopedia article
    read_segments(Path("mario.jsonl.gz"))                         # what `ckdiff corpus` has written
    other_concepts(Path("concepts.json"), "Super Mario")          # the other articles: what is to be retained

The format is told by content, and by the name only where text looks like JSON. A file is untrusted: what is
decompressed is bounded, and whatever of it goes into a message is quoted and shortened.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ckdiff.questions.streams import EndsEarlyError, TextsError, chunks
from ckdiff.untrusted import quoted, strict_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


LENGTH = 400
"""Characters after which a segment ends with its sentence; ConceptVectors cuts its articles so."""


MAX_BYTES = 500_000_000
"""More than any text that a model is fine-tuned on, after decompression."""


CONCEPT, ARTICLE = "Concept", "wikipedia_content"
"""Where ConceptVectors keeps the name of a concept and its text."""


SUBJECT = "subject"
"""Where RWKU says whom a record is about."""


LISTED = 20
"""How many concepts a message lists."""


ENDING = re.compile(r"""(?<=[.!?…])["'”’»)\]]*\s+|(?<=[。！？])["'”’」』）]*\s*|\n\s*\n\s*""")  # noqa: RUF001
"""What lies between sentences: white space after their end, or an empty line."""


NO_ENDING = re.compile(r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|etc|cf|No|Vol|e\.g|i\.e|[A-Z])\.)\Z")
"""A full stop that ends no sentence, more often than not: a title, an abbreviation, an initial."""


@dataclass(frozen=True, slots=True)
class Segment:
    """One text, stripped; with a prompt (a question) the text is its answer."""

    text: str
    prompt: str | None = None


@dataclass(frozen=True, slots=True)
class TextSet:
    """What is trained on, in order, each text once.

    Attributes:
        source: one line for people: file name, format, concept.
        digest: sha256 over the canonical JSON of texts and prompts; equal sets have equal digests whatever their file.
        notes: plain sentences about what was left out.
    """

    segments: tuple[Segment, ...]
    source: str
    digest: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Entry:
    """One value of a file, and its place for messages."""

    place: str
    value: Any


def read_segments(path: Path, *, concept: str | None = None, most: int | None = None, length: int = LENGTH) -> TextSet:
    """Read the texts of a file, plain or compressed with gzip or zstd.

    Formats: entries of ConceptVectors (`Concept`, `wikipedia_content`); text, whose paragraphs are separated by empty
    lines; a JSON list, or JSON lines, of strings, of objects with `text`, or of objects with `question` and `answer`.
    Long texts are cut into `segments`; answers are kept whole.

    Args:
        path: the file.
        concept: picks one concept of ConceptVectors; case does not matter.
        most: how many segments are taken, from the beginning; all of them without it.
        length: characters after which a segment ends with its sentence.

    Raises:
        TextsError: the file cannot be read, is of no known format, or does not hold what was asked for.
    """
    check_bounds(length, most)
    text = _whole(path)
    try:
        kind, entries = _entries(text, path)
        if kind != "text" and any(_is_concept(entry.value) for entry in entries):
            name, articles = _articles_of(entries, concept)
            found = (Segment(piece) for article in articles for piece in segments(article, length))
            return _collected(found, _source(path, f"ConceptVectors, concept {quoted(name)}"), most)
        if concept is not None:
            raise ValueError(f"{kind} without concepts; leave out --concept, or name a file of ConceptVectors")
        return _collected(_records(entries, length), _source(path, kind), most)
    except ValueError as error:
        raise TextsError(f"{path}: {error}") from error


def other_concepts(path: Path, concept: str, most: int | None = None, length: int = LENGTH) -> TextSet:
    """The articles about every other concept of a ConceptVectors file: one segment of each in turn, in file order.

    Raises:
        TextsError: it is no such file, has no such concept, or no other one with a text.
    """
    check_bounds(length, most)
    text = _whole(path)
    try:
        _, entries = _entries(text, path)
        if not any(_is_concept(entry.value) for entry in entries):
            raise ValueError("no concepts of ConceptVectors in it; name a file with texts to retain")
        named = quoted(_name(_picked(entries, concept)[0]))
        others = [entry for entry in entries if _folded(_name(entry)) != _folded(concept)]
        articles = [segments(_article(entry), length) for entry in others if isinstance(entry.value.get(ARTICLE), str)]
        if not articles:
            raise ValueError(f"no other concept than {named} with {ARTICLE}; name a file with texts to retain")
        turns = itertools.chain.from_iterable(itertools.zip_longest(*articles))
        notes = _counted(len(others) - len(articles), f"concept without {ARTICLE}", f"concepts without {ARTICLE}")
        source = _source(path, f"ConceptVectors, concepts other than {named}")
        return _collected((Segment(piece) for piece in turns if piece is not None), source, most, notes)
    except ValueError as error:
        raise TextsError(f"{path}: {error}") from error


def holds_concepts(path: Path) -> bool:
    """Whether a file has entries of concepts or subjects, of which one can be chosen by name."""
    try:
        _, entries = _entries(_whole(path), path)
    except ValueError:
        return False
    keys = {CONCEPT, CONCEPT.lower(), SUBJECT}
    return any(isinstance(entry.value, dict) and keys & entry.value.keys() for entry in entries)


def check_bounds(length: int, most: int | None) -> None:
    """Refuse a length or a number of segments that means nothing.

    Raises:
        TextsError: it is below 1.
    """
    if length < 1:
        raise TextsError(f"--length: {length} characters are no text; give 1 or more")
    if most is not None and most < 1:
        raise TextsError(f"--most: {most} segments are nothing to train on; give 1 or more")


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


def _whole(path: Path) -> str:
    held = bytearray()
    try:
        for chunk in chunks(path):
            held += chunk
            if len(held) > MAX_BYTES:
                raise TextsError(f"{path}: more than {MAX_BYTES} bytes; take a part of it, as `ckdiff corpus` does")
    except EndsEarlyError as error:
        raise TextsError(f"{path}: compressed, and cut off or damaged; download it again") from error
    try:
        return held.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TextsError(f"{path}: not UTF-8 at byte {error.start}; convert it") from error


def _entries(text: str, path: Path) -> tuple[str, list[_Entry]]:
    """How to call the format, and what the file holds."""
    if not text.strip():
        raise ValueError("no text found; the file is empty")
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() not in {".gz", ".zst"}]
    named = suffixes[-1] if suffixes else ""
    if named in {".txt", ".md"} or not _looks_like_json(text, named in {".json", ".jsonl", ".ndjson"}):
        paragraphs = re.split(r"\n[^\S\n]*\n\s*", re.sub(r"\r\n?", "\n", text).strip())
        return "text", [_Entry(f"paragraph {number}", part) for number, part in enumerate(paragraphs, 1)]
    lines = [_Entry(f"line {number}", line) for number, line in enumerate(_lines(text), 1) if line.strip()]
    # A broken first line must not turn JSON lines into one broken object.
    if len(lines) > 1 and (_is_record(lines[0].value) or all(line.value.startswith("{") for line in lines)):
        return "JSON lines", [_Entry(line.place, _parsed(line.value, line.place)) for line in lines]
    value = _parsed(text)
    if isinstance(value, list):
        return "JSON", [_Entry(f"entry {number}", entry) for number, entry in enumerate(value, 1)]
    return "JSON", [_Entry("the value", value)]


def _looks_like_json(text: str, named_so: bool) -> bool:
    start = text.lstrip()
    if named_so or start.startswith(("{", "[")):
        return True
    return start.startswith('"') and all(_is_record(line) for line in _lines(start) if line.strip())


def _lines(text: str) -> list[str]:
    """Only CR and LF end a line."""
    return re.split(r"\r\n|\r|\n", text)


def _is_record(line: str) -> bool:
    try:
        return isinstance(strict_json(line, constants=True), dict | str)
    except ValueError:
        return False


def _parsed(text: str, place: str = "") -> Any:
    try:
        return strict_json(text, constants=True)
    except json.JSONDecodeError as error:
        place = place or f"line {error.lineno}"
        raise ValueError(f"{place}: not JSON ({error.msg} at column {error.colno}); mend it") from error
    except ValueError as error:
        raise ValueError(f"{place or 'the value'}: not JSON ({error}); mend it") from error


def _is_concept(value: Any) -> bool:
    return isinstance(value, dict) and CONCEPT in value


def _articles_of(entries: list[_Entry], concept: str | None) -> tuple[str, list[str]]:
    """The name of a concept as its file spells it, and its texts."""
    picked = _picked(entries, concept)
    return _name(picked[0]), [_article(entry) for entry in picked]


def _picked(entries: list[_Entry], concept: str | None) -> list[_Entry]:
    """The entries of one concept; without a name, of the only one."""
    names = [_name(entry) for entry in entries]
    if concept is None:
        if len({_folded(name) for name in names}) > 1:
            raise ValueError(f"{len(names)} concepts, name one with --concept: {_listed(names)}")
        return entries
    picked = [entry for entry, name in zip(entries, names, strict=True) if _folded(name) == _folded(concept)]
    if not picked:
        raise ValueError(f"no concept {quoted(concept)}; it has: {_listed(names)}")
    return picked


def _name(entry: _Entry) -> str:
    name = entry.value.get(CONCEPT) if isinstance(entry.value, dict) else None
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"{entry.place}: no {CONCEPT} among entries of ConceptVectors; add its name")
    return name.strip()


def _article(entry: _Entry) -> str:
    text = entry.value.get(ARTICLE)
    if not isinstance(text, str):
        raise ValueError(
            f"{entry.place}: concept {quoted(_name(entry))} has no {ARTICLE}; add its text, or name a file of texts"
        )
    return clean(text, f"{entry.place}: {ARTICLE}")


def _folded(name: str) -> str:
    return name.strip().casefold()


def _listed(names: list[str]) -> str:
    once = list(dict.fromkeys(names))
    more = f" and {len(once) - LISTED} more" if len(once) > LISTED else ""
    return ", ".join(quoted(name) for name in once[:LISTED]) + more


def _records(entries: list[_Entry], length: int) -> Iterator[Segment]:
    """Segments of each entry; an entry that says nothing is one empty segment, so that it is counted."""
    for entry in entries:
        found = _record(entry)
        if found.prompt is None and found.text:
            yield from (Segment(piece) for piece in segments(found.text, length))
        else:
            yield found


def _record(entry: _Entry) -> Segment:
    value, place = entry.value, entry.place
    if isinstance(value, str):
        return Segment(clean(value, place))
    if not isinstance(value, dict):
        raise ValueError(f"{place}: {_kind(value)}; write a string, or an object with text")
    if "text" in value:
        return Segment(_string(value, "text", place))
    if "question" in value and "answer" in value:
        return Segment(_string(value, "answer", place), _string(value, "question", place))
    has = _listed(list(value)) if value else "nothing"
    raise ValueError(f"{place}: neither text nor question and answer in it; it has: {has}")


def _string(value: dict[str, Any], key: str, place: str) -> str:
    if not isinstance(value[key], str):
        raise ValueError(f"{place}: {key} is {_kind(value[key])}; write a string")
    return clean(value[key], f"{place}: {key}")


def clean(text: str, place: str = "text") -> str:
    """Stripped text that a tokenizer can take.

    Raises:
        ValueError: it holds a NUL character or half a surrogate pair.
    """
    if "\0" in text:
        raise ValueError(f"{place}: a NUL character; this is not text, mend it")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{place}: half a surrogate pair; this is not text, mend it") from error
    return text.strip()


def _collected(found: Iterable[Segment], source: str, most: int | None, notes: tuple[str, ...] = ()) -> TextSet:
    """Drop what is empty or was there already, and count what was dropped."""
    every = list(found)
    said = [segment for segment in every if segment.text and segment.prompt != ""]
    once = list(dict.fromkeys(said))
    taken = tuple(once[:most])
    if not taken:
        raise ValueError("no text found; write at least one")
    notes += _counted(len(every) - len(said), "empty text") + _counted(len(said) - len(once), "repeated text")
    notes += (f"the first {len(taken)} of {len(once)} segments were taken",) if len(taken) < len(once) else ()
    return TextSet(taken, source, text_digest(taken), notes)


def text_digest(found: Iterable[Segment]) -> str:
    """sha256 over the canonical JSON of texts and prompts."""
    canonical = json.dumps([[segment.text, segment.prompt] for segment in found], separators=(",", ":"))
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def _source(path: Path, kind: str) -> str:
    return f"{path.name if path.name.isprintable() else quoted(path.name)}, {kind}"


def _counted(count: int, one: str, many: str | None = None) -> tuple[str, ...]:
    return (f"{count} {one if count == 1 else many or one + 's'} left out",) if count else ()


def _kind(value: Any) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", str: "a string", list: "a list"}
    return "null" if value is None else names.get(type(value), "an object")
