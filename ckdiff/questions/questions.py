"""Questions: what both models are asked, read from the files in which unlearning benchmarks keep them.

    read_questions(Path("forget10.jsonl"))                         # TOFU: one object a line
    read_questions(Path("concepts.json"), concept="Super Mario")   # ConceptVectors: one entry of many

The format is told by content, not by name. A file is untrusted: it is checked whole, what is left out is counted in
`notes`, and whatever of it goes into a message is quoted and shortened.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any, NoReturn

from ckdiff.errors import CkdiffError
from ckdiff.untrusted import quoted, strict_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


MAX_BYTES = 100_000_000
"""More than any set of questions that somebody would wait for."""


TEXT_KEYS = ("question", "query")
"""Where a record keeps its question: TOFU and MUSE, RWKU."""


SUBJECT_KEY = "subject"
"""Where RWKU says whom a question is about."""


LISTED = 20
"""How many concepts a message lists."""


class QuestionsError(CkdiffError):
    """Questions that cannot be used: no file, no such format, no such concept, or nothing to ask."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question, stripped, and the answer that its file gives, or None."""

    text: str
    answer: str | None = None


@dataclass(frozen=True, slots=True)
class QuestionSet:
    """What is asked, in order, each text once.

    Attributes:
        source: one line for people: file name, format, concept.
        digest: sha256 over the canonical JSON of texts and answers; equal sets have equal digests whatever their file.
        notes: plain sentences about what was left out.
    """

    questions: tuple[Question, ...]
    source: str
    digest: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Shape:
    """The keys of a file that groups questions by concept."""

    name: str
    concept: str
    target: str
    unrelated: str


SHAPES = (
    Shape("ConceptVectors", "Concept", "QA", "unrelated_QA"),
    Shape("concept with questions", "concept", "target_questions", "unrelated_questions"),
)


@dataclass(frozen=True, slots=True)
class _Choice:
    """Which part of a file is asked for."""

    concept: str | None
    unrelated: bool


@dataclass(frozen=True, slots=True)
class _Found:
    """Entries that were picked, each with its place for messages, and how to call what they are."""

    items: list[tuple[str, Any]]
    kind: str
    concept: str | None = None
    notes: tuple[str, ...] = ()


def read_questions(path: Path, *, concept: str | None = None, unrelated: bool = False) -> QuestionSet:
    """Read the questions of a file.

    Formats: text, one question a line; a JSON list, or JSON lines, of strings or of objects with `question` (RWKU:
    `query`) and maybe `answer`; entries of ConceptVectors (`Concept`, `QA`, `unrelated_QA`), or of `concept`,
    `target_questions`, `unrelated_questions`.

    Args:
        path: the file.
        concept: picks the entries of one concept, or the records of one `subject`; case does not matter.
        unrelated: take a concept's unrelated questions instead of those about it.

    Raises:
        QuestionsError: the file cannot be read, is of no known format, or does not hold what was asked for.
    """
    text = read_file(path)
    try:
        return _questions(text, _Choice(concept, unrelated), path.name, as_json=path.suffix in {".json", ".jsonl"})
    except ValueError as error:
        raise QuestionsError(f"{path}: {error}") from error


def concepts_in(path: Path) -> tuple[str, ...]:
    """The concepts, or subjects, that `read_questions` can pick from a file, in its order; none of other formats.

    Raises:
        QuestionsError: the file cannot be read.
    """
    text = read_file(path)
    try:
        lines = lines_of(text)
        if not lines or not _says_json(lines, path.suffix in {".json", ".jsonl"}):
            return ()
        once: dict[str, str] = {}
        for name in filter(None, _concepts(_json_entries(text, lines)[0])):
            once.setdefault(_folded(name), clean_text("a concept's name", name))
        return tuple(once.values())
    except ValueError as error:
        raise QuestionsError(f"{path}: {error}") from error


def general_questions() -> QuestionSet:
    """Questions about nothing in particular, bundled with ckdiff: what else did unlearning break?"""
    text = resources.files("ckdiff.questions").joinpath("general_questions.txt").read_text(encoding="utf-8")
    return _collected(lines_of(text), "general questions of ckdiff")


def given_questions(texts: Sequence[str]) -> QuestionSet:
    """Questions as they were typed on the command line.

    Raises:
        QuestionsError: none of them says anything, or one is not text.
    """
    try:
        return _collected([(f"question {index}", text) for index, text in enumerate(texts, 1)], "command line")
    except ValueError as error:
        raise QuestionsError(f"--question: {error}") from error


def read_file(path: Path) -> str:
    """The text of a file that is small enough and is UTF-8.

    Raises:
        QuestionsError: it is not, or cannot be read.
    """
    try:
        if path.is_dir():
            raise QuestionsError(f"{path}: a directory; name a file with questions")
        if path.exists() and not path.is_file():
            raise QuestionsError(f"{path}: not a regular file; name a file with questions")
        if path.stat().st_size > MAX_BYTES:
            raise QuestionsError(f"{path}: larger than {MAX_BYTES} bytes; this is not a file of questions")
        raw = path.read_bytes()
    except OSError as error:
        raise QuestionsError(f"{path}: cannot be read ({error.strerror}); check the path and its rights") from error
    except ValueError as error:
        raise QuestionsError(f"{quoted(str(path))}: not a path ({error}); name a file with questions") from error
    if raw.startswith(b"version https://git-lfs"):
        raise QuestionsError(f"{path}: a git-lfs pointer, not the questions; run `git lfs pull` in its repository")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise QuestionsError(f"{path}: not UTF-8 at byte {error.start}; convert it") from error


def _questions(text: str, choice: _Choice, name: str, as_json: bool) -> QuestionSet:
    found = _found(text, choice, as_json)
    parts = [name if name.isprintable() else quoted(name), found.kind]
    parts += [] if found.concept is None else [f"concept {quoted(found.concept)}"]
    parts += ["unrelated questions"] if choice.unrelated else []
    return _collected(found.items, ", ".join(parts), found.notes)


def _found(text: str, choice: _Choice, as_json: bool) -> _Found:
    lines = lines_of(text)
    if not lines:
        raise ValueError("no question found; the file is empty")
    if _says_json(lines, as_json):
        return _of_entries(*_json_entries(text, lines), choice)
    _refuse(choice, "text")
    return _Found(lines, "text")


def _says_json(lines: list[tuple[str, Any]], as_json: bool) -> bool:
    return lines[0][1].startswith(("{", "[")) or as_json or all(_is_json(line, str) for _, line in lines)


def lines_of(text: str) -> list[tuple[str, Any]]:
    """Lines that say anything, each with its place; only CR and LF end a line."""
    lines = enumerate(re.split(r"\r\n|\r|\n", text), 1)
    return [(f"line {number}", line.strip()) for number, line in lines if line.strip()]


def _json_entries(text: str, lines: list[tuple[str, Any]]) -> tuple[list[tuple[str, Any]], str]:
    """Each entry with its place, and what the file is."""
    # A broken first line must not turn JSON lines into one broken object.
    if len(lines) > 1 and (_is_json(lines[0][1], dict, str) or all(line.startswith("{") for _, line in lines)):
        return [(place, parsed_json(line, place)) for place, line in lines], "JSON lines"
    value = parsed_json(text)
    if isinstance(value, dict | str):
        return [("the object", value)], "JSON"
    if not isinstance(value, list):
        raise ValueError(f"JSON, but {kind_of(value)}; write a list of questions")
    return [(f"entry {index}", entry) for index, entry in enumerate(value, 1)], "JSON"


def parsed_json(text: str, place: str = "") -> Any:
    """A value from JSON; a ValueError names the place."""
    try:
        return strict_json(text)
    except json.JSONDecodeError as error:
        place = place or f"line {error.lineno}"
        raise ValueError(f"{place}: not JSON ({error.msg} at column {error.colno}); mend it") from error
    except ValueError as error:
        raise ValueError(
            f"{place}: not JSON ({error}); mend it" if place else f"not JSON ({error}); mend it"
        ) from error


def _is_json(text: str, *types: type) -> bool:
    try:
        return isinstance(strict_json(text), types)
    except ValueError:
        return False


def _of_entries(entries: list[tuple[str, Any]], kind: str, choice: _Choice) -> _Found:
    if not entries:
        raise ValueError("no question found; the list is empty")
    for shape in SHAPES:
        if any(isinstance(entry, dict) and {shape.target, shape.unrelated} & entry.keys() for _, entry in entries):
            return _of_concepts(entries, shape, choice)
    if any(isinstance(entry, dict) and SUBJECT_KEY in entry for _, entry in entries) and not choice.unrelated:
        picked = _about(entries, _subject, choice.concept)
        subject = None if choice.concept is None else _subject(picked[0][1])
        return _Found(picked, f"{kind} with subjects", subject)
    _refuse(choice, kind)
    return _Found(entries, kind)


def _concepts(entries: list[tuple[str, Any]]) -> list[str | None]:
    """What `_of_entries` would pick by."""
    objects = [entry for _, entry in entries if isinstance(entry, dict)]
    for shape in SHAPES:
        if any({shape.target, shape.unrelated} & entry.keys() for entry in objects):
            return [_name(entry, shape) for entry in objects]
    return [_subject(entry) for entry in objects]


def _of_concepts(entries: list[tuple[str, Any]], shape: Shape, choice: _Choice) -> _Found:
    for place, entry in entries:
        if not isinstance(entry, dict):
            raise ValueError(f"{place}: {kind_of(entry)} among entries of {shape.name}; write an object")
    key = shape.unrelated if choice.unrelated else shape.target
    names = [_name(entry, shape) for _, entry in entries]
    if choice.concept is None and len({_folded(name) for name in names}) > 1:
        raise ValueError(f"{len(names)} concepts, name one with --concept: {_names(names)}")
    picked = _about(entries, lambda entry: _name(entry, shape), choice.concept)
    items = [item for place, entry in picked for item in _listed_questions(place, entry, key)]
    notes = (f"{len(picked)} entries of one concept were joined",) if len(picked) > 1 else ()
    return _Found(items, shape.name, _name(picked[0][1], shape), notes)


def _listed_questions(place: str, entry: dict[str, Any], key: str) -> list[tuple[str, Any]]:
    items = entry.get(key)
    if items is None:
        raise ValueError(f"{place}: no {key}; add it, or ask for other questions")
    if not isinstance(items, list):
        raise ValueError(f"{place}: {key} is {kind_of(items)}; write a list of questions")
    return [(f"{place}, {key} {index}", item) for index, item in enumerate(items, 1)]


def _about(
    entries: list[tuple[str, Any]], named: Callable[[Any], str | None], concept: str | None
) -> list[tuple[str, Any]]:
    """The entries of one concept, or all of them without one."""
    if concept is None:
        return entries
    names = [named(entry) for _, entry in entries]
    picked = [item for item, name in zip(entries, names, strict=True) if _folded(name) == _folded(concept)]
    if not picked or not concept.strip():
        raise ValueError(f"no concept {quoted(concept)}; it has: {_names(names)}")
    return picked


def _name(entry: dict[str, Any], shape: Shape) -> str | None:
    name = entry.get(shape.concept)
    return name.strip() if isinstance(name, str) else None


def _subject(entry: Any) -> str | None:
    subject = entry.get(SUBJECT_KEY) if isinstance(entry, dict) else None
    return subject.strip() if isinstance(subject, str) else None


def _folded(name: str | None) -> str:
    return "" if name is None else name.strip().casefold()


def _names(names: list[str | None]) -> str:
    once = list(dict.fromkeys(name.strip() for name in names if name is not None and name.strip()))
    listed = ", ".join(quoted(name) for name in once[:LISTED])
    more = f" and {len(once) - LISTED} more" if len(once) > LISTED else ""
    return f"{listed}{more}" if once else "none with a name"


def _refuse(choice: _Choice, kind: str) -> None:
    """Refuse to pick from a file that has no parts."""
    if choice.unrelated:
        raise ValueError(f"{kind} has no unrelated questions of its own; name a file that holds them")
    if choice.concept is not None:
        raise ValueError(f"{kind} without concepts; leave out --concept, or name a file of ConceptVectors or RWKU")


def _collected(items: list[tuple[str, Any]], source: str, notes: tuple[str, ...] = ()) -> QuestionSet:
    """Strip, drop what is empty or was asked already, and count what was dropped."""
    asked: dict[str, Question] = {}
    empty = repeated = contradicted = 0
    for place, item in items:
        question = _question(place, item)
        first = asked.setdefault(question.text, question)
        empty += not question.text
        repeated += bool(question.text) and first is not question
        contradicted += bool(question.text) and first.answer != question.answer
    questions = tuple(question for text, question in asked.items() if text)
    if not questions:
        raise ValueError("no question found; write at least one")
    notes += counted(empty, "empty question", "left out") + counted(repeated, "repeated question", "left out")
    notes += counted(contradicted, "repeated question", "with another answer; the first answer was kept")
    return QuestionSet(questions, source, digest_of(questions), notes)


def _question(place: str, item: Any) -> Question:
    if isinstance(item, str):
        return Question(clean_text(place, item))
    if not isinstance(item, dict):
        raise ValueError(f"{place}: {kind_of(item)}; write a string, or an object with a question")
    key = next((key for key in TEXT_KEYS if key in item), None)
    if key is None:
        has = _names(list(item)) if item else "nothing"
        raise ValueError(f"{place}: no {' or '.join(TEXT_KEYS)} in it; it has: {has}")
    answer = item.get("answer")
    return Question(
        string_of(place, key, item[key]), None if answer is None else string_of(place, "answer", answer) or None
    )


def string_of(place: str, key: str, value: Any) -> str:
    """The text of one key of a record; a ValueError where it is none."""
    if not isinstance(value, str):
        raise ValueError(f"{place}: {key} is {kind_of(value)}; write a string")
    return clean_text(f"{place}: {key}", value)


def clean_text(place: str, text: str) -> str:
    """Stripped text that a tokenizer can take."""
    if "\0" in text:
        _no_text(place, "a NUL character", text)
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        _no_text(place, "half a surrogate pair", text)
    return text.strip()


def _no_text(place: str, what: str, text: str) -> NoReturn:
    raise ValueError(f"{place}: {what} in {quoted(text)}; this is not text, mend it")


def counted(count: int, what: str, fate: str) -> tuple[str, ...]:
    """A note about how many, or none about nothing."""
    return (f"{count} {what}{'' if count == 1 else 's'} {fate}",) if count else ()


def digest_of(questions: tuple[Question, ...]) -> str:
    """The sha256 of the canonical JSON of texts and answers."""
    canonical = json.dumps([[question.text, question.answer] for question in questions], separators=(",", ":"))
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def kind_of(value: Any) -> str:
    """What a JSON value is, in words."""
    names = {bool: "true or false", int: "a number", float: "a number", str: "a string", list: "a list"}
    return "null" if value is None else names.get(type(value), "an object")
