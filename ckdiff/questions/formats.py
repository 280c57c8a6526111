"""Formats of files, a row each: what tells one, and what reads its entries.

The content decides; a name only where content leaves it open. A new format is one row of `FORMATS` and its reader.
"""

from __future__ import annotations

import ast
import codecs
import contextlib
import csv
import io
import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ckdiff.errors import with_extra
from ckdiff.questions.layouts import choice_layout, concept_layout, fold, known_columns, question_layout, text_layout
from ckdiff.questions.values import fold_keys, kind_of, list_names
from ckdiff.untrusted import printable, quoted, strict_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


MAX_BYTES = 500_000_000
"""More than anybody asks, or than any text that a model is fine-tuned on; after decompression."""


BOMS = (
    (codecs.BOM_UTF8, "UTF-8-SIG"),
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
"""How encodings begin; UTF-32 before UTF-16, which begins in the same way."""


FOREIGN = (
    (b"PK\x03\x04", "a ZIP archive or an Excel workbook", "unpack it, or save it as CSV"),
    (b"\x80", "a pickle, which is never read", "save it as JSON lines"),
    (b"ARROW1", "an Arrow file", "save it as parquet"),
    (b"BZh", "compressed with bzip2", "unpack it"),
    (b"\xfd7zXZ", "compressed with xz", "unpack it"),
    (b"SQLite format 3", "a database", "save it as CSV"),
    (b"%PDF", "a PDF", "save its questions as CSV or JSON lines"),
    (b"\xd0\xcf\x11\xe0", "an Excel workbook or a Word document", "save it as CSV"),
)
"""What other files begin with, what they are, and what to do."""


UNREAD = {
    **dict.fromkeys((".yaml", ".yml"), "YAML"),
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "a spreadsheet"),
    **dict.fromkeys((".docx", ".pdf"), "a document"),
}
"""Endings of formats that are not read: their lines are no questions."""


LABELLED = re.compile(r"(- +)?[\"']?(question|query|prompt|answer|response)[\"']?:(\s|$)", re.IGNORECASE)
"""How a line of YAML, or of an interview, begins: it says which part it is, and is none by itself."""


MAX_LIST = 100_000
"""Characters of a cell in which a list is looked for."""


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of a file.

    Attributes:
        place: where it stands, for messages.
        value: what it is; the keys of objects are folded.
        part: the name of the part of the file in which it stands, where a file has named parts.
    """

    place: str
    value: Any
    part: str | None = None


@dataclass(frozen=True)
class Content:
    """The bytes of a file, before anybody knows its format.

    Attributes:
        ending: of its name, packing aside: ".csv".
        prose: text is paragraphs, not lines.
    """

    data: bytes
    ending: str = ""
    prose: bool = False

    @cached_property
    def text(self) -> str:
        """Decoded, without a byte-order mark."""
        for start, what, remedy in FOREIGN:
            if self.data.startswith(start):
                raise ValueError(f"{what}; {remedy}")
        encoding = next((name for bom, name in BOMS if self.data.startswith(bom)), "UTF-8")
        try:
            return self.data.decode(encoding)
        except UnicodeDecodeError as error:
            raise ValueError(f"not {encoding.removesuffix('-SIG')} at byte {error.start}; convert it") from error

    @cached_property
    def lines(self) -> list[Record]:
        """Lines that say anything; only CR and LF end a line."""
        lines = enumerate(re.split(r"\r\n|\r|\n", self.text), 1)
        return [Record(f"line {number}", line.strip()) for number, line in lines if line.strip()]


@dataclass(frozen=True, slots=True)
class Format:
    """A format: what it is called, how files of it end, what tells it, and its reader."""

    name: str
    endings: tuple[str, ...]
    fits: Callable[[Content], bool]
    read: Callable[[Content], Iterable[Record]]


def _parquet(content: Content) -> Iterator[Record]:
    """Rows, of the known columns alone; a string that many rows repeat is held once until a row is taken."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ValueError(with_extra("parquet, which needs a package", "parquet")) from error
    try:
        source = pyarrow.BufferReader(content.data)
        file = parquet.ParquetFile(source)
        names = file.schema_arrow.names
        columns = [name for name in names if fold(name) in known_columns()]
        if not columns:
            raise ValueError(f"no column that is known; it has: {list_names(names)}")
        leaves = [file.schema.column(index).path for index in range(len(file.schema.names))]
        file = parquet.ParquetFile(source, read_dictionary=leaves)
        number = size = 0
        for batch in file.iter_batches(1024, columns=columns):
            for row in range(batch.num_rows):
                number += 1
                (value,) = batch.slice(row, 1).to_pylist()
                size += _size(value)
                if size > MAX_BYTES:
                    raise ValueError(f"row {number}: more than {MAX_BYTES} bytes up to here; take a part of it")
                yield Record(f"row {number}", fold_keys(value, f"row {number}"))
    except (pyarrow.ArrowException, OSError) as error:
        why = printable(str(error).partition("\n")[0])[:200]
        raise ValueError(f"not parquet that can be read ({why}); download it again") from error


def _size(value: Any) -> int:
    if isinstance(value, dict | list):
        return sum(map(_size, value.values() if isinstance(value, dict) else value))
    return len(value) if isinstance(value, str | bytes) else 8


DELIMITERS = {".csv": ",;\t|", ".tsv": "\t", ".tab": "\t"}


def _first_row(content: Content) -> tuple[str, list[str]]:
    """The delimiter that makes the most known columns of the first line, else the most cells; and those, folded."""
    line = content.lines[0].value[:MAX_LIST] if content.lines else ""
    every = DELIMITERS.get(content.ending, DELIMITERS[".csv"])
    found = [(one, [fold(cell) for cell in next(csv.reader([line], delimiter=one), [])]) for one in every]
    return max(found, key=lambda one: (len(known_columns().intersection(one[1])), len(one[1])))


def _is_table(content: Content) -> bool:
    """Named so; or a first line of nothing but known columns, two at least and one of them a question or a text."""
    cells = _first_row(content)[1]
    if content.ending in DELIMITERS:
        return bool(cells)
    return len(cells) > 1 and known_columns().issuperset(cells) and _is_header(cells)


def _is_header(cells: Iterable[str]) -> bool:
    """Whether cells name a question or a text."""
    return (question_layout(dict.fromkeys(cells)) or text_layout(dict.fromkeys(cells))) is not None


def _is_tsv(content: Content) -> bool:
    return _is_table(content) and _first_row(content)[0] == "\t"


def _table(content: Content) -> Iterator[Record]:
    """Rows by the names in their header."""
    delimiter, _ = _first_row(content)
    usual = csv.field_size_limit(MAX_BYTES)
    try:
        rows = list(_rows(content.text, delimiter, csv.QUOTE_MINIMAL))
    except csv.Error as error:
        # Tabs need no quotes: where they separate, a quote is often a mere character.
        if delimiter != "\t":
            raise ValueError(f"not CSV ({error}); quote cells with {delimiter} or a quote in them") from error
        rows = list(_rows(content.text, delimiter, csv.QUOTE_NONE))
    finally:
        csv.field_size_limit(usual)
    if not rows:
        return
    header = [fold(cell) for cell in rows[0].value]
    if not _is_header(header):
        header = _mmlu_header(rows)
    else:
        del rows[0]
    if len({*header} - {""}) < len(header) - header.count(""):
        raise ValueError(f"line 1: two columns of one name in {list_names(header)}; rename one")
    for row in rows:
        if len(row.value) != len(header):
            counts = f"{len(row.value)} cells in {len(header)} columns"
            raise ValueError(f"{row.place}: {counts}; put cells with {delimiter!r} in them into quotes")
        cells = zip(header, row.value, strict=True)
        yield Record(row.place, {name: _cell(row.place, cell) for name, cell in cells if name})


def _rows(text: str, delimiter: str, quoting: Any) -> Iterator[Record]:
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
    start = 1
    for cells in reader:
        if any(cell.strip() for cell in cells):
            yield Record(f"line {start}", cells)
        start = reader.line_num + 1


def _mmlu_header(rows: Sequence[Record]) -> list[str]:
    """MMLU has no header: question, four choices, the letter of the right one."""
    header = ["question", "a", "b", "c", "d", "answer"]
    if all(len(row.value) == len(header) and row.value[-1].strip() in tuple("ABCD") for row in rows):
        return header
    has = list_names(rows[0].value)
    raise ValueError(f"line 1: no question or text in the header; write one, such as question,answer; it has: {has}")


def _cell(place: str, text: str) -> Any:
    """A list where a cell holds one as Python or JSON writes it."""
    if not re.fullmatch(r"\[[^\[\]]*\]", text, re.DOTALL) or len(text) > MAX_LIST:
        return text
    for read in (strict_json, ast.literal_eval):
        with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            value = read(text)
            if isinstance(value, list):
                break
    else:
        return text
    # NumPy prints lists without commas, and Python reads neighbouring strings as one.
    if len(value) < len(re.findall(r"'\s+'|\"\s+\"", text)) + 1:
        raise ValueError(f"{place}: a list without commas; save the table as JSON lines or parquet instead")
    return value


def _says_json(content: Content) -> bool:
    """Named so; or it begins as JSON does, and not as prose with a note in brackets does."""
    if not content.lines or (content.prose and content.ending in {".txt", ".md"}):
        return False
    text = content.text.lstrip()
    if content.ending in {".json", ".jsonl", ".ndjson"} or re.match(r"\{|\[\s*([\"{\[\]]|\Z)", text):
        return True
    return (text[:1] == "[" and _is_json(text, list)) or all(_is_json(line.value, str) for line in content.lines)


def _is_json_lines(content: Content) -> bool:
    """A broken first line must not turn JSON lines into one broken object."""
    if not _says_json(content) or content.lines[0].value.startswith("["):
        return False
    if content.ending in {".jsonl", ".ndjson"}:
        return True
    objects = all(line.value.startswith("{") for line in content.lines)
    return len(content.lines) > 1 and (objects or _is_json(content.lines[0].value, dict, str))


def _json_lines(content: Content) -> Iterator[Record]:
    for line in content.lines:
        yield Record(line.place, fold_keys(_parse_json(line.value, line.place), line.place))


def _json(content: Content) -> list[Record]:
    value = _parse_json(content.text)
    if isinstance(value, list):
        return _entries(value)
    if isinstance(value, dict):
        return _of_object(value)
    if isinstance(value, str):
        return [Record("the value", value)]
    raise ValueError(f"JSON, but {kind_of(value)}; write a list")


def _of_object(value: dict[str, Any]) -> list[Record]:
    """An object is one record, a table by columns, a wrapper of one list, or named parts."""
    record = fold_keys(value, "the object")
    row = question_layout(record) or text_layout(record)
    if row is not None and isinstance(record[fold((*row.question, row.text)[0])], list | dict):
        return _of_columns({key: column for key, column in record.items() if isinstance(column, list | dict)})
    lists = {key: one for key, one in value.items() if isinstance(one, list)}
    if not lists or row is not None or choice_layout(record) or concept_layout([record]):
        return [Record("the object", record)]
    named = len(lists) > 1
    return [one for key, items in lists.items() for one in _entries(items, f"{quoted(key)}, ", key if named else None)]


def _entries(values: list[Any], before: str = "", part: str | None = None) -> list[Record]:
    places = (f"{before}entry {number}" for number in range(1, len(values) + 1))
    return [Record(place, fold_keys(value, place), part) for place, value in zip(places, values, strict=True)]


def _of_columns(columns: dict[str, Any]) -> list[Record]:
    lists = {key: list(one.values()) if isinstance(one, dict) else one for key, one in columns.items()}
    if len(set(map(len, lists.values()))) > 1:
        raise ValueError(f"columns of different lengths: {list_names(lists)}; write a list of objects")
    rows = zip(*lists.values(), strict=True)
    return [Record(f"row {number}", dict(zip(lists, row, strict=True))) for number, row in enumerate(rows, 1)]


def _is_json(text: str, *types: type) -> bool:
    try:
        return isinstance(strict_json(text), types)
    except ValueError:
        return False


def _parse_json(text: str, place: str = "") -> Any:
    try:
        return strict_json(text, constants=True)
    except json.JSONDecodeError as error:
        place = place or f"line {error.lineno}"
        remedy = "mend it" if text.lstrip()[:1] in '{["' else "mend it, or let the name of plain text end in .txt"
        raise ValueError(f"{place}: not JSON ({error.msg} at column {error.colno}); {remedy}") from error
    except ValueError as error:
        raise ValueError(f"{place}{': ' if place else ''}not JSON ({error}); mend it") from error


def _text(content: Content) -> list[Record]:
    if content.ending in UNREAD:
        raise ValueError(f"{UNREAD[content.ending]}, which is not read; save it as JSON lines or CSV")
    if not content.prose:
        labelled = [line for line in content.lines if LABELLED.match(line.value)]
        if 2 * len(labelled) > len(content.lines):
            begins = quoted(labelled[0].value[:20])
            remedy = "write JSON lines or CSV with columns question and answer, or a question a line without it"
            raise ValueError(f"{labelled[0].place}: begins with a label ({begins}), as most lines do; {remedy}")
        return content.lines
    blocks = re.split(r"\n[^\S\n]*\n\s*", re.sub(r"\r\n?", "\n", content.text).strip())
    return [Record(f"paragraph {number}", block) for number, block in enumerate(blocks, 1) if block]


FORMATS = (
    Format("parquet", (".parquet",), lambda content: content.data.startswith(b"PAR1"), _parquet),
    Format("TSV", (".tsv", ".tab"), _is_tsv, _table),
    Format("CSV", (".csv",), _is_table, _table),
    Format("JSON lines", (".jsonl", ".ndjson"), _is_json_lines, _json_lines),
    Format("JSON", (".json",), _says_json, _json),
    Format("text", (".txt", ".md"), lambda _: True, _text),
)
"""Every format, in the order in which a file is tried."""
