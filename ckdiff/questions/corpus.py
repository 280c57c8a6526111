"""Pretraining corpora: every text that speaks of a concept, picked from RedPajama's or Dolma's files.

    found = extract([Path("redpajama/"), Path("dolma/")], "Super Mario", aliases=["Mario Bros."])
    write_extraction(found, Path("mario.jsonl"))

One JSON object a line, with `text`; plain, gzip or zstd; many files, which are read as a stream. Real corpora have bad
lines and files that were not downloaded whole: these are counted and named, and the rest is used.
After Hong et al. 2024, arXiv:2410.06606, who unlearn a concept on up to 6,000 segments of the corpus that a model was
trained on.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckdiff.errors import ExitStatus
from ckdiff.files import replace_file
from ckdiff.questions.segments import LENGTH, Segment, check_bounds, segments, text_digest
from ckdiff.questions.streams import EndsEarlyError, RecordsError, check_file, chunks, need_zstd
from ckdiff.questions.values import clean
from ckdiff.untrusted import quoted, strict_json

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence


MOST = 6000
"""The paper's number of segments."""


MAX_LINE = 1 << 24
"""Bytes of the longest line that is read, a book of three million words; a longer one is skipped, never held."""


SUFFIXES = tuple(kind + packing for kind in (".jsonl", ".json", ".ndjson") for packing in ("", ".gz", ".zst"))
"""What a directory is searched for."""


NAMED = 5
"""How many bad lines are named; all are counted."""


SPACELESS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Letters of scripts that put no space between words: Thai to Khmer, kana, Han."""


ALIKE = (frozenset("'’‘ʼʻ"), frozenset("-‐‑–—"))  # noqa: RUF001
"""Characters that name the same concept: Valentine's Day is written with either apostrophe."""


class ConceptNotFoundError(RecordsError):
    """A corpus that was read and does not speak of the concept."""

    exit_status = ExitStatus.INCONCLUSIVE


@dataclass(frozen=True, slots=True)
class Passage:
    """A segment that speaks of the concept, and the `file:line` that it comes from."""

    text: str
    source: str


@dataclass(slots=True)
class BadLines:
    """Lines that were not used: how many, and the first few as `file:line: reason`."""

    count: int = 0
    first: tuple[str, ...] = ()

    def add(self, line: str) -> None:
        """Count a line, and name it if it is one of the first."""
        self.count += 1
        self.first += (line,) if self.count <= NAMED else ()


@dataclass(slots=True)
class Extraction:
    """The texts of a corpus about a concept, in the order in which they stand, each text once; filled while it is read.

    Attributes:
        files, files_read: how many there are, and how many were begun before `most` was reached.
        documents: documents read. mentions: documents that name the concept.
        duplicates: segments that were dropped because they were there, whatever their case and spacing.
        malformed: lines that are no UTF-8, no JSON object, or have no `text`.
        oversized: lines longer than `MAX_LINE`.
        cut_short: compressed files that end early or are damaged; what came before was used.
        reached: `most` segments were found, and the rest of the corpus was not read.
    """

    concept: str
    aliases: tuple[str, ...]
    files: int
    passages: tuple[Passage, ...] = ()
    files_read: int = 0
    documents: int = 0
    mentions: int = 0
    duplicates: int = 0
    malformed: BadLines = field(default_factory=BadLines)
    oversized: BadLines = field(default_factory=BadLines)
    cut_short: tuple[str, ...] = ()
    reached: bool = False

    @property
    def digest(self) -> str:
        """The digest that `read_segments` gives to the file of this extraction."""
        return text_digest(Segment(passage.text) for passage in self.passages)

    def statistics(self) -> dict[str, Any]:
        """Numbers for people and scripts; words are what white space separates."""
        words = sum(len(passage.text.split()) for passage in self.passages)
        characters = sum(len(passage.text) for passage in self.passages)
        count = max(1, len(self.passages))
        return {
            "concept": self.concept,
            "aliases": list(self.aliases),
            "segments": len(self.passages),
            "words": words,
            "words_mean": words / count,
            "characters": characters,
            "characters_mean": characters / count,
            "documents": self.documents,
            "documents_with_concept": self.mentions,
            "duplicates": self.duplicates,
            "files": self.files,
            "files_read": self.files_read,
            "most_reached": self.reached,
            "malformed": self.malformed.count,
            "malformed_first": list(self.malformed.first),
            "oversized": self.oversized.count,
            "oversized_first": list(self.oversized.first),
            "cut_short": list(self.cut_short),
            "digest": self.digest,
        }


@dataclass(frozen=True, slots=True)
class CorpusFile:
    """One file of a corpus; its name is what it is called in the output, the same wherever the corpus lies."""

    path: Path
    name: str
    size: int


def extract(
    paths: Sequence[Path],
    concept: str,
    aliases: Sequence[str] = (),
    most: int = MOST,
    length: int = LENGTH,
    tick: Callable[[int, int], object] | None = None,
) -> Extraction:
    """Pick the segments of a corpus that name a concept; memory does not grow with the corpus.

    Args:
        paths: files, or directories that are searched for JSON lines, in the order given and by name within each.
        concept: its name; case does not matter, words do: `Mario` is not in `Marionette`.
        aliases: other names of it.
        most: reading stops when so many segments are there.
        length: characters after which a segment ends with its sentence.
        tick: told (bytes read, bytes in all), as they lie on the disk.

    Raises:
        RecordsError: a path cannot be read, or nothing in it is such a corpus.
        ConceptNotFoundError: it is one, and does not speak of the concept.
    """
    check_bounds(length, most)
    speaks = mentions(concept, *aliases)
    files = corpus_files(paths)
    found = Extraction(concept, tuple(aliases), len(files))
    taken: dict[bytes, Passage] = {}
    with contextlib.closing(_documents(files, found, tick)) as documents:
        for passage in _passages(documents, speaks, length, found):
            found.duplicates += taken.setdefault(_sameness(passage.text), passage) is not passage
            if len(taken) == most:
                break
    if not taken:
        _refuse(concept, files, found)
    found.passages, found.reached = tuple(taken.values()), len(taken) == most
    return found


def _passages(
    documents: Iterable[tuple[str, str]], speaks: Callable[[str], bool], length: int, found: Extraction
) -> Iterator[Passage]:
    for place, text in documents:
        if speaks(text):
            found.mentions += 1
            yield from (Passage(piece, place) for piece in segments(text, length) if speaks(piece))


def _refuse(concept: str, files: list[CorpusFile], found: Extraction) -> None:
    where = f"{files[0].path}" + (f" and {len(files) - 1} more" if len(files) > 1 else "")
    if not found.documents:
        damaged = tuple(f"{name}: cut off or damaged" for name in found.cut_short)
        why = next(iter((*found.malformed.first, *found.oversized.first, *damaged)), "no line in it")
        raise RecordsError(f"{where}: no document found ({why}); give JSON lines with text, as RedPajama has")
    raise ConceptNotFoundError(
        f"{where}: {found.documents} documents, and none speaks of {quoted(concept)}; give its other names with --alias"
    )


def corpus_files(paths: Iterable[Path]) -> list[CorpusFile]:
    """The files of a corpus, each once: of a directory, those with a suffix of `SUFFIXES`, by name.

    In a directory what is hidden, and links to directories, are left out.

    Raises:
        RecordsError: there is no such path, it is no regular file, a directory holds no file of a corpus, or a file is
            zstd and its package is missing, which nobody wants to learn after hours of reading.
    """
    found: dict[str, CorpusFile] = {}
    for given in paths:
        for path in _within(given) if given.is_dir() else [given]:
            check_file(path)
            if path.suffix.lower() == ".zst":
                need_zstd(path)
            # Named from the directory that was given: neither where that lies nor how it was written matters.
            inside = Path(Path(os.path.abspath(given)).name, path.relative_to(given)).as_posix()
            name = inside.encode(errors="backslashreplace").decode()
            found.setdefault(os.path.realpath(path), CorpusFile(path, name, path.stat().st_size))
    if not found:
        raise RecordsError("no file of a corpus given; name files or directories with JSON lines")
    return list(found.values())


def _within(directory: Path) -> list[Path]:
    found: list[Path] = []
    for place, below, names in os.walk(directory):
        below[:] = [name for name in below if not name.startswith(".")]
        found += [Path(place, name) for name in names if name.lower().endswith(SUFFIXES) and not name.startswith(".")]
    if not found:
        raise RecordsError(f"{directory}: no file in it ends in {', '.join(SUFFIXES)}; name files or another directory")
    return sorted(found, key=lambda path: path.parts)


def _documents(
    files: list[CorpusFile], found: Extraction, tick: Callable[[int, int], object] | None
) -> Generator[tuple[str, str], None, None]:
    """The place and the text of every document; what is none is counted."""
    done, total = 0, sum(file.size for file in files)

    def advance(count: int) -> None:
        nonlocal done
        done += count
        if tick is not None:
            tick(done, max(done, total))

    for file in files:
        found.files_read += 1
        try:
            for number, line in numbered_lines(chunks(file.path, advance)):
                place = f"{file.name}:{number}"
                if line is None:
                    found.oversized.add(f"{place}: more than {MAX_LINE} bytes")
                elif line.strip():
                    yield from _document(line, place, found)
        except EndsEarlyError:
            found.cut_short += (file.name,)


def numbered_lines(content: Iterable[bytes], longest: int = MAX_LINE) -> Iterator[tuple[int, bytes | None]]:
    """Lines from 1 on; None for a line of more than `longest` bytes, which is not held in memory."""
    number, size = 1, 0
    held = io.BytesIO()
    for chunk in content:
        for piece in io.BytesIO(chunk):
            size += len(piece)
            held = held if size <= longest else io.BytesIO()
            if size <= longest:
                held.write(piece)
            if piece.endswith(b"\n"):
                yield number, held.getvalue() if size <= longest else None
                number, size, held = number + 1, 0, io.BytesIO()
    if size:
        yield number, held.getvalue() if size <= longest else None


def _document(line: bytes, place: str, found: Extraction) -> Iterator[tuple[str, str]]:
    try:
        record = strict_json(line.decode("utf-8-sig").rstrip(), constants=True)
        if not isinstance(record, dict) or not isinstance(record.get("text"), str):
            raise ValueError("no object with text")
        text = clean(record["text"])
    except UnicodeDecodeError as error:
        found.malformed.add(f"{place}: not UTF-8 at byte {error.start}")
    except json.JSONDecodeError as error:
        found.malformed.add(f"{place}: not JSON ({error.msg} at column {error.colno})")
    except ValueError as error:
        found.malformed.add(f"{place}: {error}")
    else:
        found.documents += 1
        yield place, text


def mentions(*names: str) -> Callable[[str], bool]:
    """Whether a text holds one of some names as words of their own, whatever their case and the white space in them.

    >>> mentions("C++")("I write c++."), mentions("Mario")("A marionette.")
    (True, False)

    Raises:
        RecordsError: a name is empty.
    """
    if any(not name.strip() for name in names):
        raise RecordsError("--concept and --alias: an empty name is in every text; give one with letters")
    # An accent may be part of its letter or a character of its own, in a text as in a name: both are put into one form.
    forms = {unicodedata.normalize("NFC", name.strip()) for name in names}
    pattern = re.compile("|".join(sorted(map(_pattern, forms))), re.IGNORECASE)
    hints = {_hint(form) for form in forms}

    def speaks(text: str) -> bool:
        # Searching without case takes fifteen times as long as a look for one word.
        text = unicodedata.normalize("NFC", text)
        folded = text.casefold()
        return any(hint in folded for hint in hints) and pattern.search(text) is not None

    return speaks


def _pattern(name: str) -> str:
    """A name between characters that are no letters of it; scripts without spaces have no such places."""
    before = "" if re.match(f"[{SPACELESS}]", name) else rf"(?<![^\W{SPACELESS}])"
    after = "" if re.match(f"[{SPACELESS}]", name[-1]) else rf"(?![^\W{SPACELESS}])"
    return before + r"\s+".join("".join(map(_letter, word)) for word in name.split()) + after


def _letter(letter: str) -> str:
    return next((f"[{re.escape(''.join(sorted(group)))}]" for group in ALIKE if letter in group), re.escape(letter))


def _hint(name: str) -> str:
    """The longest word of a name, which every text with the name holds; nothing where the name has no word."""
    alike = re.escape("".join(sorted(frozenset().union(*ALIKE))))
    return max(re.findall(r"\w+", re.sub(f"[{alike}]", " ", name)), key=len, default="").casefold()


def _sameness(text: str) -> bytes:
    """A digest that is the same for texts that differ in case, spacing or composed accents alone."""
    same = " ".join(unicodedata.normalize("NFC", text).casefold().split())
    return hashlib.blake2b(same.encode(), digest_size=16).digest()


def check_output(path: Path, overwrite: bool = False, corpus: Sequence[Path] = ()) -> None:
    """Refuse, before a corpus is read, a place where no file can be written.

    Raises:
        RecordsError: it exists and is not to be replaced, is no file or one of the corpus, or its directory is missing
            or not writable.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise RecordsError(f"{path}: not a regular file; name a file with -o FILE.jsonl")
    if target.exists() and not overwrite:
        raise RecordsError(f"{path}: exists; replace it with --overwrite, or name another file with -o FILE.jsonl")
    if target.exists() and corpus and any(target.samefile(file.path) for file in corpus_files(corpus)):
        raise RecordsError(f"{path}: is a file of the corpus that is read; name another file with -o FILE.jsonl")
    if not target.parent.is_dir():
        raise RecordsError(f"{path}: the directory {target.parent} does not exist; create it, or use -o FILE.jsonl")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise RecordsError(f"{path}: the directory {target.parent} is not writable; use -o FILE.jsonl")


def write_extraction(found: Extraction, path: Path, overwrite: bool = False) -> None:
    """Write JSON lines with `text` and `source`, all of them or nothing; `read_segments` reads them again.

    Raises:
        RecordsError: the place cannot be written to, or a file is there and `overwrite` was not asked for.
    """
    check_output(path, overwrite)
    records = ({"text": passage.text, "source": passage.source} for passage in found.passages)
    lines = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    try:
        replace_file(path, lines.encode())
    except OSError as error:
        raise RecordsError(f"{path}: cannot be written: {error.strerror or error}; use -o FILE.jsonl") from error
