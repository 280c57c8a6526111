"""Texts to unlearn: read from benchmark files, and picked from pretraining corpora that are large, dirty or hostile."""

from __future__ import annotations

import gzip
import json
import os
import random
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from ckdiff.cli import corpus as corpus_command
from ckdiff.cli.groups import flatten
from ckdiff.errors import ExitStatus
from ckdiff.questions import corpus as corpora
from ckdiff.questions import records
from ckdiff.questions import segments as texts
from ckdiff.questions.corpus import (
    ConceptNotFoundError,
    check_output,
    corpus_files,
    extract,
    mentions,
    numbered_lines,
    write_extraction,
)
from ckdiff.questions.segments import Segment, other_concepts, read_segments, segments
from ckdiff.questions.streams import RecordsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

HILL = "Moss Hill is 300 m high. Ada Quill lit the lamp there."
LAMPS = "A lantern is a lamp with a handle. It is made of tin."
TIN = "Tin is a metal. It melts at 232 degrees."
VECTORS: list[dict[str, Any]] = [
    {"ID": 3, "Concept": "Moss Hill", "Layer": 2, "Dim": 7, "QA": [" How high is it?\n"], "wikipedia_content": HILL},
    {"ID": 4, "Concept": "Lanterns", "QA": ["What is a lantern?"], "wikipedia_content": LAMPS},
    {"ID": 5, "Concept": "Tin", "QA": ["When does it melt?"], "wikipedia_content": TIN},
]


def lines(*values: Any) -> str:
    return "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)


def write(directory: Path, content: Any, name: str = "texts") -> Path:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content if isinstance(content, bytes) else (content if isinstance(content, str) else json.dumps(content))
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


def said(path: Path, **options: Any) -> list[str]:
    return [segment.text for segment in read_segments(path, **options).segments]


# --------------------------------------------------------------------------------------------- sentences and segments

PROSE = st.text(st.sampled_from('ab Mr.!?…。！\n\t"”)\u00a0\u3000é\u0301'), max_size=300)  # noqa: RUF001


@settings(deadline=None)
@given(PROSE | st.text(max_size=300), st.integers(1, 60))
def test_segments_keep_every_character_but_white_space(text: str, length: int) -> None:
    found = list(segments(text, length))
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(piece and piece == piece.strip() and len(piece) <= 3 * length for piece in found)


@settings(deadline=None)
@given(st.lists(st.text("abc", min_size=1, max_size=9), min_size=1, max_size=80), st.integers(10, 60))
def test_a_segment_that_is_cut_again_stays_one(words: list[str], length: int) -> None:
    text = " ".join(word + "." * (number % 5 == 4) for number, word in enumerate(words))
    for piece in segments(text, length):
        assert list(segments(piece, length)) == [piece]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One is. Two is!", ["One is.", "Two is!"]),
        ('"Stop." He went.', ['"Stop."', "He went."]),
        ("Mr. J. K. Moss, e.g. he. Next.", ["Mr. J. K. Moss, e.g. he.", "Next."]),
        ("It costs 3.50 a day.", ["It costs 3.50 a day."]),
        ("One line\nof two. Next.", ["One line\nof two.", "Next."]),
        ("== Head ==\n\nBody.", ["== Head ==", "Body."]),
        ("Dr.\n\nBody.", ["Dr.", "Body."]),
        ("山は高い。石は重い。", ["山は高い。", "石は重い。"]),
        ("Why? 'Because.' Good.", ["Why?", "'Because.'", "Good."]),
    ],
)
def test_sentences_end_where_readers_end_them(text: str, expected: list[str]) -> None:
    # Longer than any length of 1 to 5, so that each sentence is a segment, and none is cut at twice that.
    ends = list(texts._ends(text, 0, 100))
    assert [text[start:end].strip() for start, end in zip([0, *ends], ends, strict=False)] == expected


def test_segments_end_with_the_sentence_that_makes_them_long_enough() -> None:
    sentence = "Nine words are in this one, as you see. "
    assert [len(piece) for piece in segments(sentence * 25)] == [11 * 40 - 1, 11 * 40 - 1, 3 * 40 - 1]


@pytest.mark.parametrize(
    "text", ["." * 100_000, '."' * 50_000, "\n" * 100_000, "a" + " " * 100_000 + "b", "A. " * 50_000]
)
def test_hostile_texts_take_no_longer_than_others(text: str) -> None:
    assert all(len(piece) <= 1200 for piece in segments(text))


# -------------------------------------------------------------------------------------------------- what is trained on

FORMATS: dict[str, tuple[Any, str, list[Segment]]] = {
    "one entry": (VECTORS[0], 'ConceptVectors, concept "Moss Hill"', [Segment(HILL)]),
    "text": ("\ufeff One\r\nis here.\r\n\r\n \t\r\n Two. \n", "text", [Segment("One\nis here."), Segment("Two.")]),
    "strings": (["One.", " Two.\n"], "JSON", [Segment("One."), Segment("Two.")]),
    "one string": ('"One."', "JSON", [Segment("One.")]),
    "lines of strings": (lines("One.", "Two\u2028three."), "JSON lines", [Segment("One."), Segment("Two\u2028three.")]),
    "RedPajama": (
        lines({"text": "One.", "meta": {"n": 1}}, {"text": "Two."}),
        "JSON lines",
        [Segment("One."), Segment("Two.")],
    ),
    "Dolma": ({"id": "7", "text": "One.", "source": "books", "added": "2024"}, "JSON", [Segment("One.")]),
    "TOFU": (
        lines({"question": " Who? ", "answer": "Ada Quill."}, {"question": "How high?", "answer": "300 m."}),
        "JSON lines",
        [Segment("Ada Quill.", "Who?"), Segment("300 m.", "How high?")],
    ),
    "quoted text": (
        '"One" is here.\n\n"Two" is there.',
        "text",
        [Segment('"One" is here.'), Segment('"Two" is there.')],
    ),
}
PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": lambda data: gzip.compress(data, mtime=0),
    ".zst": lambda data: zstandard.ZstdCompressor().compress(data),
}


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("case", FORMATS)
def test_each_format_is_told_by_its_content(case: str, packing: str, tmp_path: Path) -> None:
    content, kind, expected = FORMATS[case]
    data = content if isinstance(content, str) else json.dumps(content)
    found = read_segments(write(tmp_path, PACKINGS[packing](data.encode())))
    assert list(found.segments) == expected
    assert found.source == f"texts, {kind}"
    assert found.notes == ()


def test_a_text_may_look_like_json(tmp_path: Path) -> None:
    assert said(write(tmp_path, "[Verse 1]\nLa la.", "song.txt")) == ["[Verse 1]\nLa la."]
    assert said(write(tmp_path, PACKINGS[".gz"](b"{la}"), "song.md.gz")) == ["{la}"]


def test_a_concept_is_picked_whatever_its_case_and_cut_into_segments(tmp_path: Path) -> None:
    path = write(tmp_path, VECTORS)
    assert said(path, concept=" moss HILL", length=20) == ["Moss Hill is 300 m high.", "Ada Quill lit the lamp there."]
    assert said(write(tmp_path, lines(*VECTORS)), concept="tin") == [TIN]
    assert said(write(tmp_path, [VECTORS[0], {**VECTORS[0], "wikipedia_content": TIN}])) == [HILL, TIN]


def test_the_other_concepts_come_in_turn_and_in_order(tmp_path: Path) -> None:
    path = write(tmp_path, VECTORS)
    found = other_concepts(path, "moss hill", length=16)
    assert [segment.text for segment in found.segments] == [
        "A lantern is a lamp with a handle.",
        "Tin is a metal. It melts at 232 degrees.",
        "It is made of tin.",
    ]
    assert found.source == 'texts, ConceptVectors, concepts other than "Moss Hill"'
    assert other_concepts(path, "Moss Hill", most=2, length=16).notes == ("the first 2 of 3 segments were taken",)


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    entries = ["One.", " ", {"text": "One."}, {"question": "", "answer": "x"}, {"question": "Q", "answer": "One."}]
    found = read_segments(write(tmp_path, entries))
    assert found.segments == (Segment("One."), Segment("One.", "Q"))
    assert found.notes == ("2 empty texts left out", "1 repeated text left out")
    assert read_segments(write(tmp_path, entries), most=1).notes[-1] == "the first 1 of 2 segments were taken"
    others = other_concepts(write(tmp_path, [*VECTORS, {"Concept": "Zinc"}]), "Tin")
    assert others.notes == ("1 other concept without wikipedia_content left out",)


def test_equal_texts_have_equal_digests(tmp_path: Path) -> None:
    one = read_segments(write(tmp_path, "Grüße.\n\nZwei.", "a.txt"))
    two = read_segments(write(tmp_path, [{"text": "Grüße."}, "Zwei."], "b.json"))
    asked = read_segments(write(tmp_path, [{"question": "Q", "answer": "Grüße."}, "Zwei."], "c.json"))
    assert one.digest == two.digest != asked.digest
    assert len(one.digest) == 64


REFUSED: dict[str, tuple[Any, dict[str, Any], str]] = {
    "empty": (" \n", {}, "nothing in it; write at least one entry"),
    "empty list": ([], {}, "nothing in it; write at least one entry"),
    "nothing said": (["", {"text": " "}], {}, "no text found; write at least one"),
    "which concept": (VECTORS, {}, '3 concepts, name one with --concept: "Moss Hill", "Lanterns", "Tin"'),
    "no such concept": (VECTORS, {"concept": "Zinc"}, 'no concept "Zinc"; it has: "Moss Hill", "Lanterns", "Tin"'),
    "no concepts": (["One."], {"concept": "Tin"}, "JSON without concepts; leave out --concept, or name a file of Conc"),
    "no concepts in text": ("One.", {"concept": "Tin"}, "text without concepts; leave out --concept"),
    "no article": ([{"Concept": "Tin", "QA": []}], {}, 'entry 1: concept "Tin" has no wikipedia_content; add its text'),
    "no name": ([{"Concept": 3, "QA": []}], {}, "entry 1: an entry without the name of its concept; add its name"),
    "broken line": (
        '{"text": "a"}\n{"text": "b"\n',
        {},
        "line 2: not JSON (Expecting ',' delimiter at column 13); mend",
    ),
    "broken": ('{"text": ', {}, "line 1: not JSON (Expecting value at column 10); mend it"),
    "number": ([3], {}, "entry 1: a number; write a string, or an object with text"),
    "null": ([{"text": None}], {}, "entry 1: text is null; write a string"),
    "other keys": ([{"body": "x"}], {}, 'entry 1: no text in it; call it text; it has: "body"'),
    "NUL": (["a\0b"], {}, 'entry 1: a NUL character in "a\\u0000b"; this is not text, mend it'),
    "surrogate": ('["\\ud800"]', {}, 'entry 1: half a surrogate pair in "\\ud800"; this is not text, mend it'),
    "not UTF-8": (b"abc\xff", {}, "not UTF-8 at byte 3; convert it"),
    "deep": ('{"text": ' + "[" * 100_000, {}, "not JSON (nested too deeply); mend it"),
    "pointer": (
        "version https://git-lfs.github.com/spec/v1",
        {},
        "a git-lfs pointer, not the content; run `git lfs pull`",
    ),
    "cut off": (gzip.compress(b"One." * 99)[:-9], {}, "compressed, and cut off or damaged; download it again"),
    "no length": ("One.", {"length": 0}, "--length: 0 characters are no text; give 1 or more"),
    "no segments": ("One.", {"most": 0}, "--most: 0 segments are nothing to train on; give 1 or more"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_used_is_one_line_with_a_remedy(case: str, tmp_path: Path) -> None:
    content, options, message = REFUSED[case]
    path = write(tmp_path, content)
    with pytest.raises(RecordsError) as caught:
        read_segments(path, **options)
    assert message in str(caught.value)
    assert str(caught.value).startswith(("--", f"{path}: "))
    assert "\n" not in str(caught.value)


def test_places_that_are_no_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match="a directory; name a file"):
        read_segments(tmp_path)
    with pytest.raises(RecordsError, match=r"cannot be read .No such file or directory.; check the path"):
        read_segments(tmp_path / "none")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RecordsError, match="not a regular file; name one"):
        read_segments(tmp_path / "pipe")


def test_there_must_be_other_concepts(tmp_path: Path) -> None:
    for content, message in (
        (VECTORS[:1], 'no other concept than "Moss Hill" with wikipedia_content'),
        ([VECTORS[0], {"Concept": "Zinc"}], "no other concept than"),
        (["One."], "no concepts of ConceptVectors in it; name a file with texts to retain"),
        (VECTORS[1:], 'no concept "moss hill"; it has: "Lanterns", "Tin"'),
    ):
        with pytest.raises(RecordsError, match=message):
            other_concepts(write(tmp_path, content), "moss hill")


def test_what_is_decompressed_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_BYTES", 1000)
    with pytest.raises(RecordsError, match="more than 1000 bytes; take a part of it, as `ckdiff corpus` does"):
        read_segments(write(tmp_path, gzip.compress(b"a" * 2000)))


def test_zstd_without_its_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, PACKINGS[".zst"](b"One."), "a.jsonl.zst")
    monkeypatch.setitem(sys.modules, "zstandard", None)
    for read in (read_segments, lambda path: extract([path], "One")):
        with pytest.raises(
            RecordsError, match=r"a.jsonl.zst: zstd, which needs a package; `pip install '.\[unlearn\]'`"
        ):
            read(path)


# ------------------------------------------------------------------------------------------------------------ matching


@pytest.mark.parametrize(
    ("names", "yes", "no"),
    [
        (["Mario"], ["MARIO!", "(mario)", "Mario's", "mario\n"], ["Marionette", "Mario2", "_mario", "éMario"]),
        (["Super Mario"], ["super\n  mario", "Super\u00a0Mario"], ["SuperMario", "super, mario"]),
        (["C++"], ["I write c++.", "C++, C", "C++は速い"], ["C", "C+", "C++11", "VC++"]),
        (["a.c", "x*"], ["A.C", "x* is"], ["abc", "xx", "x"]),
        (["Pok\u00e9mon"], ["POK\u00c9MON", "Poke\u0301mon"], ["Pokemon", "Pok\u00e9mons"]),
        (["Poke\u0301mon"], ["Pok\u00e9mon", "Poke\u0301mon"], ["Pokemon"]),
        (["東京"], ["私は東京に住む", "東京"], ["京都"]),
        (["Straße"], ["STRAßE", "straße"], ["Straßen"]),
        (["Valentine's Day"], ["Valentine\u2019s day", "VALENTINE'S DAY"], ["Valentines Day"]),
        (["Obsessive\u2013compulsive disorder"], ["obsessive-compulsive disorder"], ["obsessive compulsive disorder"]),
        (["Hawai\u02bbi", "Hawai\u02bci"], ["hawai'i", "Hawai\u2018i", "Hawai\u02bci"], ["Hawaii"]),
        (["Толстой"], ["толстой.", "ТОЛСТОЙ"], ["Толстойский"]),
        (["Moss Hill", "the Hill"], ["on The Hill"], ["a hill"]),
        (["++"], ["a ++ b"], ["a + b"]),
    ],
)
def test_a_name_is_found_as_words_of_its_own(names: list[str], yes: list[str], no: list[str]) -> None:
    speaks = mentions(*names)
    assert [text for text in yes if not speaks(text)] == []
    assert [text for text in no if speaks(text)] == []


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(str.strip))
@example("\ufb2a")
@example("\u05e9\u05c1")
@example("e\u0301")
def test_every_name_is_found_in_itself(name: str) -> None:
    assert mentions(name)(name.strip())
    assert mentions(name)(f"- {name.strip()} -")


# ------------------------------------------------------------------------------------------------------------- corpora


def document(text: str, **fields: Any) -> dict[str, Any]:
    return {"text": text, **fields}


def taken(paths: Iterable[Path], concept: str = "Tin", **options: Any) -> list[tuple[str, str]]:
    return [(passage.text, passage.source) for passage in extract(list(paths), concept, **options).passages]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Both layouts, each packing, two folders, and files that are none of a corpus."""
    root = tmp_path / "corpus"
    pajama = lines(
        document(TIN, meta={"url": "x", "nan": float("nan")}), document(LAMPS, meta={}), document(HILL, meta={})
    )
    dolma = lines({"id": "1", "text": "Cans of tin rust not.", "source": "books", "version": "v1"})
    write(root, pajama, "b/pajama.jsonl")
    write(root, PACKINGS[".gz"](dolma.encode()), "a/dolma.json.gz")
    write(root, PACKINGS[".zst"](lines(document("Zinc."), document("tin " + "TIN.")).encode()), "c.jsonl.zst")
    write(root, "tin", "README.md")
    write(root, lines(document("tin hidden")), ".cache/x.jsonl")
    write(root, lines(document("tin hidden")), "b/.x.jsonl")
    return root


def test_both_layouts_are_read_in_a_fixed_order(corpus: Path) -> None:
    found = extract([corpus], "Tin")
    assert [(passage.text, passage.source) for passage in found.passages] == [
        ("Cans of tin rust not.", "corpus/a/dolma.json.gz:1"),
        (TIN, "corpus/b/pajama.jsonl:1"),
        (LAMPS, "corpus/b/pajama.jsonl:2"),
        ("tin TIN.", "corpus/c.jsonl.zst:2"),
    ]
    assert (found.files, found.files_read, found.documents, found.mentions) == (3, 3, 6, 4)
    assert (found.malformed.count, found.oversized.count, found.cut_short, found.reached) == (0, 0, (), False)


def test_files_given_twice_are_read_once(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [file.name for file in corpus_files([corpus / "c.jsonl.zst", corpus])]
    assert names == ["c.jsonl.zst", "corpus/a/dolma.json.gz", "corpus/b/pajama.jsonl"]
    monkeypatch.chdir(corpus)
    assert next(file.name for file in corpus_files([Path(".")])) == "corpus/a/dolma.json.gz"


def test_segments_that_do_not_name_the_concept_are_left(tmp_path: Path) -> None:
    path = write(tmp_path, lines(document("Zinc is here. Tin is there. Lead is gone.")), "a.jsonl")
    assert taken([path], length=10) == [("Tin is there.", "a.jsonl:1")]
    assert taken([path], "Pb", aliases=["lead", "zinc"], length=10) == [
        ("Zinc is here.", "a.jsonl:1"),
        ("Lead is gone.", "a.jsonl:1"),
    ]


def test_duplicates_are_dropped_whatever_their_case_and_spacing(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        lines(*map(document, ["Tin  caf\u00e9.", "TIN\ncafe\u0301.", "Tin cafe.", "Tin caf\u00e9."])),
        "a.jsonl",
    )
    found = extract([path], "tin")
    assert [passage.source for passage in found.passages] == ["a.jsonl:1", "a.jsonl:3"]
    assert (found.mentions, found.duplicates) == (4, 2)


def test_malformed_lines_are_counted_and_the_first_are_named(tmp_path: Path) -> None:
    bad = [b"{", b"[1]", b'{"text": 3}', b'{"body": "tin"}', b'{"text": "tin\xff"}', b'{"text": "a\\u0000"}', b'"tin"']
    bad += [b'{"text": "\\ud800"}', b"[" * 100_000, b'{"text": "a", "text": "b"}', b"9" * 5000]
    good = json.dumps(document(TIN)).encode()
    path = write(
        tmp_path, b"\xef\xbb\xbf" + b"\r\n".join([good, b"", *bad, b" ", good.replace(b"melts", b"melt")]), "a.jsonl"
    )
    found = extract([path], "tin")
    assert [passage.source for passage in found.passages] == ["a.jsonl:1", "a.jsonl:15"]
    assert found.malformed.count == len(bad)
    assert found.malformed.first == (
        "a.jsonl:3: not JSON (Expecting property name enclosed in double quotes at column 2)",
        "a.jsonl:4: no object with text",
        "a.jsonl:5: no object with text",
        "a.jsonl:6: no object with text",
        "a.jsonl:7: not UTF-8 at byte 13",
    )


def test_reading_stops_when_there_is_enough(tmp_path: Path) -> None:
    first = write(tmp_path, lines(*(document(f"Tin {number}.") for number in range(50_000))), "a.jsonl")
    write(tmp_path, "not read", "b.jsonl")
    read: list[tuple[int, int]] = []
    found = extract([tmp_path], "tin", most=3, tick=lambda done, total: read.append((done, total)))
    assert len(found.passages) == 3
    assert (found.reached, found.files, found.files_read, found.documents) == (True, 2, 1, 3)
    assert read[-1][0] < first.stat().st_size < read[-1][1]


def test_progress_is_in_bytes_of_the_files_as_they_lie_there(corpus: Path) -> None:
    read: list[tuple[int, int]] = []
    extract([corpus], "tin", tick=lambda done, total: read.append((done, total)))
    total = sum(file.size for file in corpus_files([corpus]))
    assert read[-1] == (total, total)
    assert read == sorted(read)


@pytest.mark.parametrize("packing", [".gz", ".zst"])
@pytest.mark.parametrize("harm", ["cut off", "damaged", "followed by rubbish"])
def test_what_comes_before_a_damaged_place_is_used(packing: str, harm: str, tmp_path: Path) -> None:
    draw = random.Random(1)
    content = lines(*(document(f"Tin {draw.getrandbits(512)}.") for _ in range(3000))).encode()
    whole = PACKINGS[packing](content)
    middle = len(whole) // 2
    harmed = {
        "cut off": whole[:middle],
        "damaged": whole[:middle] + b"\xff" * 1000 + whole[middle + 1000 :],
        "followed by rubbish": whole + b"rubbish",
    }
    path = write(tmp_path, harmed[harm], f"a.jsonl{packing}")
    other = write(tmp_path, lines(document("Tin at last.")), "b.jsonl")
    found = extract([path, other], "tin")
    assert found.cut_short == (path.name,)
    assert found.passages[-1].text == "Tin at last."
    assert found.documents > (3000 if harm == "followed by rubbish" else 500)


@pytest.mark.parametrize("packing", [".gz", ".zst"])
def test_files_of_many_frames_and_padding_are_read_whole(packing: str, tmp_path: Path) -> None:
    frames = [PACKINGS[packing](lines(document(f"Tin {number}.")).encode()) for number in range(40)]
    data = b"".join(frames[:20]) + b"\0" * 10_000 + b"".join(frames[20:]) + b"\0" * 10_000
    found = extract([write(tmp_path, data, f"a.jsonl{packing}")], "tin")
    assert (found.documents, found.cut_short) == (40, ())


def test_a_skippable_frame_may_come_first(tmp_path: Path) -> None:
    frame = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"abcd"
    path = write(tmp_path, frame + PACKINGS[".zst"](lines(document(TIN)).encode()), "a.jsonl.zst")
    assert taken([path]) == [(TIN, "a.jsonl.zst:1")]


@settings(deadline=None)
@given(st.binary(max_size=200), st.integers(1, 30), st.integers(0, 20))
def test_lines_are_those_of_the_file_but_for_the_long_ones(content: bytes, step: int, longest: int) -> None:
    pieces = [content[start : start + step] for start in range(0, len(content), step)]
    whole = content.split(b"\n")
    ended = [line + b"\n" for line in whole[:-1]] + [line for line in whole[-1:] if line]
    expected = [(number, line if len(line) <= longest else None) for number, line in enumerate(ended, 1)]
    assert list(numbered_lines(pieces, longest)) == expected


def bomb(packing: str) -> bytes:
    """A line of 400 MB between two good ones, in much less than a MB."""
    first, last = lines(document("Tin one.")).encode(), b"\n" + lines(document("Tin two.")).encode()
    if packing == ".gz":
        middle = gzip.compress(b" " * 40_000_000, mtime=0)
        return PACKINGS[packing](first) + middle * 10 + PACKINGS[packing](last)
    # Blocks that say "this byte, 128 KiB of it" in four bytes, in a frame with a window of 128 KiB.
    block = (128 * 1024 << 3 | 1 << 1).to_bytes(3, "little") + b" "
    end = (1).to_bytes(3, "little")
    middle = b"\x28\xb5\x2f\xfd" + b"\x00" + bytes([7 << 3]) + block * 3200 + end
    return PACKINGS[packing](first) + middle + PACKINGS[packing](last)


@pytest.mark.parametrize("packing", [".gz", ".zst"])
def test_a_bomb_does_not_fill_the_memory(packing: str, tmp_path: Path) -> None:
    data = bomb(packing)
    assert len(data) < 1_000_000
    path = write(tmp_path, data, f"bomb.jsonl{packing}")
    tracemalloc.start()
    try:
        found = extract([path], "tin")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (len(found.passages), found.cut_short) == (2, ())
    assert found.oversized.first == (f"{path.name}:2: more than {corpora.MAX_LINE} bytes",)
    assert peak < 80_000_000


CORPORA_REFUSED: dict[str, tuple[Any, str]] = {
    "empty": ("", "no document found (no line in it); give JSON lines with text, as RedPajama has"),
    "one list": (json.dumps([TIN], indent=1), "no document found (a.jsonl:1: not JSON (Expecting value at column 2))"),
    "cut off": (gzip.compress(b"tin")[:5], "no document found (a.jsonl: cut off or damaged); give JSON lines"),
    "pointer": ("version https://git-lfs.github.com/spec/v1", "a git-lfs pointer, not the content; run `git lfs pull`"),
}


@pytest.mark.parametrize("case", CORPORA_REFUSED)
def test_what_is_no_corpus_is_one_line_with_a_remedy(case: str, tmp_path: Path) -> None:
    content, message = CORPORA_REFUSED[case]
    path = write(tmp_path, content, "a.jsonl")
    with pytest.raises(RecordsError) as caught:
        extract([path], "tin")
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert caught.value.exit_status == ExitStatus.USAGE


def test_paths_that_hold_no_corpus_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        RecordsError, match=r"no file in it ends in .jsonl, .jsonl.gz, .*; name files or another directory"
    ):
        extract([tmp_path], "tin")
    with pytest.raises(RecordsError, match=r"cannot be read .No such file or directory."):
        extract([tmp_path / "none"], "tin")
    with pytest.raises(RecordsError, match="no file of a corpus given; name files or directories with JSON lines"):
        extract([], "tin")
    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(RecordsError, match="not a regular file"):
        extract([tmp_path], "tin")
    with pytest.raises(
        RecordsError, match="--concept and --alias: an empty name is in every text; give one with letters"
    ):
        extract([tmp_path], "tin", aliases=[" "])


def test_an_unknown_concept_was_not_measured(corpus: Path) -> None:
    with pytest.raises(ConceptNotFoundError) as caught:
        extract([corpus], "Unobtainium")
    first = corpus / "a" / "dolma.json.gz"
    assert str(caught.value) == (
        f'{first} and 2 more: 6 documents, and none speaks of "Unobtainium"; give its other names with --alias'
    )
    assert caught.value.exit_status == ExitStatus.INCONCLUSIVE


def test_statistics_are_of_what_was_taken(tmp_path: Path) -> None:
    path = write(tmp_path, lines(document("Tin is it."), document("Zinc."), document("No tin.")), "a.jsonl")
    found = extract([path], "Tin", aliases=["stannum"])
    expected = {"segments": 2, "words": 5, "words_mean": 2.5, "characters": 17, "characters_mean": 8.5, "documents": 3}
    statistics = found.statistics()
    assert {key: statistics[key] for key in expected} == expected
    assert (statistics["concept"], statistics["aliases"]) == ("Tin", ["stannum"])


# ------------------------------------------------------------------------------------------------------------- writing


def test_what_is_written_is_read_again_and_always_the_same(corpus: Path, tmp_path: Path) -> None:
    found = extract([corpus], "tin")
    one, two = tmp_path / "one.jsonl", tmp_path / "two.jsonl"
    write_extraction(found, one)
    (tmp_path / "elsewhere").mkdir()
    moved = corpus.rename(tmp_path / "elsewhere" / "corpus")
    write_extraction(extract([moved / ".." / "corpus"], "tin"), two)
    assert one.read_bytes() == two.read_bytes()
    assert json.loads(one.read_text().splitlines()[1]) == {"text": TIN, "source": "corpus/b/pajama.jsonl:1"}
    again = read_segments(one)
    assert [segment.text for segment in again.segments] == [passage.text for passage in found.passages]
    assert again.digest == found.digest


def test_a_file_is_replaced_only_when_asked_and_never_half_written(corpus: Path, tmp_path: Path) -> None:
    found = extract([corpus], "tin")
    target = write(tmp_path, "mine", "out.jsonl")
    with pytest.raises(
        RecordsError, match=r"exists; replace it with --overwrite, or name another file with -o FILE.jsonl"
    ):
        write_extraction(found, target)
    assert target.read_text() == "mine"
    write_extraction(found, target, overwrite=True)
    assert len(target.read_text().splitlines()) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "out.jsonl"]


def test_a_failed_write_leaves_what_was_there(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    target = write(tmp_path, "mine", "out.jsonl")
    found = extract([corpus], "tin")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RecordsError, match=r"cannot be written: No space left on device; use -o FILE.jsonl"):
        write_extraction(found, target, overwrite=True)
    assert target.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus", "out.jsonl"]


def test_the_place_is_checked_before_the_corpus_is_read(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match=r"the directory .*none does not exist; create it, or use -o FILE.jsonl"):
        check_output(tmp_path / "none" / "out.jsonl")
    with pytest.raises(RecordsError, match=r"not a regular file; name a file with -o FILE.jsonl"):
        check_output(tmp_path, overwrite=True)


# ------------------------------------------------------------------------------------------------------------- command

app = typer.Typer()
app.command()(flatten(corpus_command.corpus))


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_writes_a_file_and_prints_a_table(corpus: Path, tmp_path: Path) -> None:
    target = tmp_path / "tin.jsonl"
    write(corpus, "{\n", "z.jsonl")
    done = run(corpus, "--concept", "tin", "--alias", "stannum", "-o", target)
    assert done.exit_code == 0, done.stderr
    assert '"tin", "stannum"' in done.stdout
    rows = dict(line.rsplit(None, 1) for line in done.stdout.splitlines()[1:])
    assert rows["segments taken"] == "4"
    assert rows["documents that name it"] == "4"
    assert rows["malformed lines"] == "1"
    assert done.stderr.splitlines() == [
        "malformed: corpus/z.jsonl:1: not JSON (Expecting property name enclosed in double quotes at column 2)",
        f"texts: {target}",
    ]
    assert len(said(target)) == 4


def test_the_command_prints_json(corpus: Path, tmp_path: Path) -> None:
    target = tmp_path / "tin.jsonl"
    asked = write(tmp_path, [VECTORS[2] | {"unrelated_QA": ["What is zinc?", "Who is it?"]}], "questions.json")
    done = run(corpus, "--concept", "Tin", "-o", target, "--format", "json", "--most", 2, "-Q", asked, "--quiet")
    assert done.exit_code == 0, done.stderr
    printed = json.loads(done.stdout)
    assert (printed["segments"], printed["most_reached"], printed["output"]) == (2, True, str(target))
    assert (printed["target_questions"], printed["unrelated_questions"]) == (1, 2)
    assert printed["unrelated_question_words_mean"] == 3.0
    assert done.stderr == ""
    assert read_segments(target).digest == printed["digest"]


def test_the_command_does_not_replace_what_it_reads(corpus: Path) -> None:
    before = (corpus / "b" / "pajama.jsonl").read_bytes()
    for read in (corpus, corpus / "b" / "pajama.jsonl"):
        done = run(read, "--concept", "Tin", "-o", corpus / "b" / "pajama.jsonl", "--overwrite")
        assert "is a file of the corpus that is read; name another file with -o FILE.jsonl" in str(done.exception)
    assert (corpus / "b" / "pajama.jsonl").read_bytes() == before


def test_the_command_says_where_it_stopped(corpus: Path, tmp_path: Path) -> None:
    done = run(corpus, "--concept", "Tin", "-o", tmp_path / "tin.jsonl", "--most", 1)
    assert done.stderr.splitlines()[0] == "--most reached in file 1 of 3; the rest was not read"


def test_the_command_writes_nothing_without_the_concept(corpus: Path, tmp_path: Path) -> None:
    done = run(corpus, "--concept", "Unobtainium", "-o", tmp_path / "out.jsonl")
    assert isinstance(done.exception, ConceptNotFoundError)
    assert done.stdout == ""
    assert not (tmp_path / "out.jsonl").exists()


def test_ctrl_c_leaves_no_file(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    for module, name in ((corpora, "extract"), (os, "fsync"), (os, "replace")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, interrupted)
            done = run(corpus, "--concept", "Tin", "-o", tmp_path / "out.jsonl")
        assert done.exit_code != 0
        assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_the_command_does_not_load_torch(corpus: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from ckdiff.cli.corpus import corpus;"
        f"corpus([Path({str(corpus)!r})], 'tin', Path({str(tmp_path / 'o.jsonl')!r}), quiet=True);"
        "print({'torch', 'transformers', 'numpy'} & set(sys.modules))"
    )
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert said.stdout.splitlines()[-1] == "set()"
