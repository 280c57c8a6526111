from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ckdiff.questions.questions import (
    MAX_BYTES,
    Question,
    general_questions,
    given_questions,
    read_questions,
)
from ckdiff.questions.streams import RecordsError

if TYPE_CHECKING:
    from pathlib import Path

LAMP, HILL = Question("Who lit the lamp?"), Question("How high is Moss Hill?")
ANSWERED = Question("Who lit the lamp?", "Ada Quill")

VECTORS: list[dict[str, Any]] = [
    {
        "ID": 3,
        "Concept": "Moss Hill",
        "Layer": 2,
        "Dim": 7,
        "QA": [" Who lit the lamp?\n", " How high is Moss Hill?\n"],
        "text_completion": [{"First_half": "a", "Second_half": "b"}],
        "unrelated_QA": ["What is tin?\n", "What is tin?"],
    },
    {"ID": 4, "Concept": "Lanterns", "QA": ["Who lit the lamp?"], "unrelated_QA": ["What is zinc?"]},
]
ONE_CONCEPT = {
    "concept": "Moss Hill",
    "target_questions": ["Who lit the lamp?"],
    "unrelated_questions": ["How high is Moss Hill?"],
}
RWKU = [
    {"query": "___ lit the lamp.", "answer": "Ada Quill", "level": "1", "type": "cloze", "subject": "Ada Quill"},
    {"query": "Ben Moss sold ___.", "answer": "tin", "level": "1", "type": "cloze", "subject": "Ben Moss"},
]
RECORD = {"question": "Who lit the lamp?", "answer": "Ada Quill"}


def lines(*values: Any) -> str:
    return "\n".join(json.dumps(value) for value in values) + "\n"


def write(directory: Path, content: Any, name: str = "questions") -> Path:
    path = directory / name
    text = content if isinstance(content, str | bytes) else json.dumps(content)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


FORMATS: dict[str, tuple[Any, tuple[Question, ...], str]] = {
    "text": ("\ufeff  Who lit the lamp? \r\n\r\n How high is Moss Hill?\n", (LAMP, HILL), "text"),
    "text, other breaks": ("Who lit\u2028the lamp?\x0c\n", (Question("Who lit\u2028the lamp?"),), "text"),
    "quoted text": (
        '"Moss" is what?\n"Hill" is what?',
        (Question('"Moss" is what?'), Question('"Hill" is what?')),
        "text",
    ),
    "list of strings": (["Who lit the lamp?\n", " How high is Moss Hill?"], (LAMP, HILL), "JSON"),
    "MUSE": ([RECORD, {"question": "How high is Moss Hill?", "answer": None}], (ANSWERED, HILL), "JSON"),
    "mixed": ([RECORD, "How high is Moss Hill?"], (ANSWERED, HILL), "JSON"),
    "one object": (RECORD, (ANSWERED,), "JSON"),
    "indented": (json.dumps(RECORD, indent=2), (ANSWERED,), "JSON"),
    "TOFU": (
        lines(
            RECORD | {"perturbed_answer": ["a", "b"], "paraphrased_answer": "It was Ada Quill."},
            {"question": "How high is Moss Hill?", "answer": " "},
        ),
        (replace(ANSWERED, reworded="It was Ada Quill.", wrong=("a", "b")), HILL),
        "JSON lines",
    ),
    "lines of strings": (lines("Who lit the lamp?", "How high is Moss Hill?"), (LAMP, HILL), "JSON lines"),
    "RWKU": (
        RWKU,
        (Question("___ lit the lamp.", "Ada Quill"), Question("Ben Moss sold ___.", "tin")),
        "JSON with subjects",
    ),
    "one entry": (VECTORS[0], (LAMP, HILL), 'ConceptVectors, concept "Moss Hill"'),
    "one concept": (ONE_CONCEPT, (LAMP,), 'concept with questions, concept "Moss Hill"'),
}


@pytest.mark.parametrize("case", FORMATS)
def test_each_format_is_told_by_its_content(case: str, tmp_path: Path) -> None:
    content, questions, kind = FORMATS[case]
    found = read_questions(write(tmp_path, content))
    assert found.questions == questions
    assert found.source == f"questions, {kind}"
    assert found.notes == ()


def test_concept_picks_one_entry_whatever_its_case(tmp_path: Path) -> None:
    found = read_questions(write(tmp_path, VECTORS), concept=" moss HILL")
    assert found.questions == (LAMP, HILL)
    assert found.source == 'questions, ConceptVectors, concept "Moss Hill"'
    as_lines = read_questions(write(tmp_path, lines(*VECTORS)), concept="Lanterns")
    assert as_lines.questions == (LAMP,)


def test_concept_picks_the_records_of_one_subject(tmp_path: Path) -> None:
    found = read_questions(write(tmp_path, lines(*RWKU)), concept="ben moss")
    assert found.questions == (Question("Ben Moss sold ___.", "tin"),)
    assert found.source == 'questions, JSON lines with subjects, concept "Ben Moss"'


def test_unrelated_questions_and_what_is_repeated_among_them(tmp_path: Path) -> None:
    found = read_questions(write(tmp_path, VECTORS), concept="Moss Hill", unrelated=True)
    assert found.questions == (Question("What is tin?"),)
    assert found.notes == ("1 repeated question left out",)
    assert found.source.endswith('concept "Moss Hill", unrelated questions')
    assert read_questions(write(tmp_path, ONE_CONCEPT), unrelated=True).questions == (HILL,)


def test_entries_of_one_concept_are_joined_and_it_is_said(tmp_path: Path) -> None:
    entries = [VECTORS[0], VECTORS[0] | {"QA": ["What grows there?"]}]
    found = read_questions(write(tmp_path, entries))
    assert [question.text for question in found.questions][-1] == "What grows there?"
    assert found.notes == ("2 entries of one concept were joined",)


def test_what_is_left_out_is_counted(tmp_path: Path) -> None:
    found = read_questions(write(tmp_path, [RECORD, " ", "", RECORD, RECORD | {"answer": "Ben"}]))
    assert found.questions == (ANSWERED,)
    assert found.notes == (
        "2 empty questions left out",
        "2 repeated questions left out",
        "1 repeated question with another answer; the first answer was kept",
    )


def test_digest_is_over_texts_and_answers_alone(tmp_path: Path) -> None:
    one = read_questions(write(tmp_path, "Wer zündet die Lampe?\n", "a.txt"))
    same = read_questions(write(tmp_path, [{"question": " Wer zündet die Lampe?"}], "b.json"))
    other = read_questions(write(tmp_path, [{"question": "Wer zündet die Lampe?", "answer": "Ada"}]))
    expected = hashlib.sha256(b'[["Wer z\\u00fcndet die Lampe?",null]]').hexdigest()
    assert one.digest == same.digest == expected
    assert other.digest != expected
    assert given_questions(["Wer zündet die Lampe?"]).digest == expected


BAD: dict[str, tuple[Any, str]] = {
    "empty": ("", "nothing in it; write at least one entry"),
    "blank": (" \n\n", "nothing in it"),
    "empty list": ([], "nothing in it"),
    "only empty": (["", " "], "no question found"),
    "not UTF-8": (b"caf\xe9?", "not UTF-8 at byte 3"),
    "UTF-16 cut off": ("What?".encode("utf-16")[:-1], "not UTF-16 at byte 10; convert it"),
    "NUL": ("Who\0?\n", r'line 1: a NUL character in "Who\u0000?"'),
    "NUL in JSON": ([{"question": "Who\0?"}], "entry 1: question: a NUL character"),
    "surrogate": ('["Who \\ud83d?"]', "entry 1: half a surrogate pair"),
    "git-lfs": ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git-lfs"),
    "broken JSON": ('[\n"a",\n]', "line 3: not JSON"),
    "broken line": (lines(RECORD) + "{\n", "line 2: not JSON"),
    "broken first line": ('{"question": \n' + lines(RECORD), "line 1: not JSON"),
    "text among lines": (lines(RECORD) + "\nWho?", "line 3: not JSON"),
    "duplicate key": ('{"question": "a", "question": "b"}', "duplicate key"),
    "NaN": ('["a", NaN]', "entry 2: a number; write a string"),
    "deep": ("[" * 100_000, "nested too deeply"),
    "number": ([RECORD, 3], "entry 2: a number; write a string"),
    "null": (lines(RECORD, None), "line 2: null"),
    "list in list": ([["a"]], "entry 1: a list"),
    "question of a number": ([{"question": 3}], "entry 1: question is a number; write a string"),
    "question null": (lines(RECORD, {"question": None}), "line 2: question is null"),
    "answer of an object": ([RECORD | {"answer": {"a": 1}}], "entry 1: answer is an object; write a string"),
    "answer of a list of lists": ([RECORD | {"answer": [["a"]]}], "entry 1: answer is a list; write a string"),
    "answer of truth": ([RECORD | {"answer": True}], "entry 1: answer is true or false; write a string"),
    "other object": ([{"prompt": "a", "text": "b"}], 'no question in it; call it question; it has: "prompt", "text"'),
    "empty object": ([{}], "it has: nothing with a name"),
    "QA no list": (VECTORS[1] | {"QA": "Who?"}, "QA is a string"),
    "QA of numbers": (VECTORS[1] | {"QA": ["Who?", True]}, "QA 2: true or false"),
    "string among concepts": ([*VECTORS, "Who?"], "entry 3: a string among entries of ConceptVectors"),
    "concepts": (VECTORS, '2 concepts, name one with --concept: "Moss Hill", "Lanterns"'),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_used_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    content, message = BAD[case]
    path = write(tmp_path, content)
    with pytest.raises(RecordsError) as caught:
        read_questions(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


CHOICES: dict[str, tuple[Any, str | None, bool, str]] = {
    "unknown concept": (VECTORS, "Tin", False, 'no concept "Tin"; it has: "Moss Hill", "Lanterns"'),
    "empty concept": (VECTORS, " ", False, "no concept"),
    "unknown subject": (RWKU, "Tin", False, 'no concept "Tin"; it has: "Ada Quill", "Ben Moss"'),
    "concept of text": ("Who?", "Tin", False, "text without concepts; leave out --concept"),
    "concept of records": (lines(RECORD, RECORD), "Tin", False, "JSON lines without concepts"),
    "unrelated of text": ("Who?", None, True, "text has no unrelated questions"),
    "unrelated of subjects": (RWKU, "Ada Quill", True, "JSON has no unrelated questions"),
    "no unrelated": ({"Concept": "Tin", "QA": ["Who?"]}, None, True, "the object: no unrelated_QA; add it"),
    "unprintable": (VECTORS, "T\x1b[31m\n" * 99, False, 'no concept "T\\u001b[31m\\n'),
}


@pytest.mark.parametrize("case", CHOICES)
def test_a_choice_that_the_file_does_not_offer(case: str, tmp_path: Path) -> None:
    content, concept, unrelated, message = CHOICES[case]
    with pytest.raises(RecordsError) as caught:
        read_questions(write(tmp_path, content), concept=concept, unrelated=unrelated)
    assert message in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_a_message_lists_the_first_concepts_only(tmp_path: Path) -> None:
    path = write(tmp_path, [{"Concept": f"c{index}", "QA": ["Who?"]} for index in range(500)])
    with pytest.raises(RecordsError, match=r'500 concepts.*"c19" and 480 more$'):
        read_questions(path)


def test_a_name_that_says_json_must_hold_it(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match="line 1: not JSON"):
        read_questions(write(tmp_path, "Who lit the lamp?", "questions.json"))
    with pytest.raises(RecordsError, match="JSON, but a number"):
        read_questions(write(tmp_path, "3", "questions.json"))


def test_paths_that_are_no_readable_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    large = tmp_path / "large"
    with large.open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    cases = {
        "missing": "cannot be read",
        ".": "a directory",
        "fifo": "not a regular file",
        "large": "more than 100000000 bytes",
    }
    for name, message in cases.items():
        with pytest.raises(RecordsError, match=message):
            read_questions(tmp_path / name)
    with pytest.raises(RecordsError, match="not a path"):
        read_questions(tmp_path / "a\0b")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_rights(tmp_path: Path) -> None:
    path = write(tmp_path, "Who?")
    path.chmod(0)
    with pytest.raises(RecordsError, match="Permission denied"):
        read_questions(path)


def test_a_file_name_in_the_source_is_safe(tmp_path: Path) -> None:
    assert read_questions(write(tmp_path, "Who?", "a\x1bb")).source == '"a\\u001bb", text'


def test_given_questions() -> None:
    found = given_questions([" Who lit the lamp? ", "", "Who lit the lamp?"])
    assert found.questions == (LAMP,)
    assert given_questions("Who lit the lamp?").questions == (LAMP,)
    assert found.source == "command line"
    assert found.notes == ("1 empty question left out", "1 repeated question left out")
    for bad in ([], [" "], ["a\0"], ["a\udcff"]):
        with pytest.raises(RecordsError, match=r"^--question: "):
            given_questions(bad)


def test_general_questions_are_bundled_and_each_is_another() -> None:
    found = general_questions()
    assert len(found.questions) == 24
    assert found.notes == ()
    assert all(question.text.endswith("?") and question.answer is None for question in found.questions)
    assert found.source == "general questions of ckdiff"
