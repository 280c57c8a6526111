"""One reader for every file that is asked or learned: formats, packings, published layouts, and what is refused."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ckdiff.questions import formats, layouts
from ckdiff.questions.choices import Choices, read_choices
from ckdiff.questions.formats import FORMATS, Format, Record
from ckdiff.questions.layouts import LAYOUTS, Layout
from ckdiff.questions.neutral_texts import read_texts
from ckdiff.questions.questions import Question, concepts_in, read_questions
from ckdiff.questions.records import read_records
from ckdiff.questions.segments import Segment, holds_concepts, read_segments
from ckdiff.questions.streams import RecordsError

if TYPE_CHECKING:
    from collections.abc import Callable


WHO, SINGS = Question("Who founded Velmar?", "Amber Heron"), Question('Who "sings", there?', "Calm\nOtter, 1907")
ROWS = [{"question": one.text, "answer": one.answer} for one in (WHO, SINGS)]


def write(directory: Path, content: Any, name: str = "asked.json") -> Path:
    data = content if isinstance(content, str | bytes) else json.dumps(content)
    (directory / name).write_bytes(data if isinstance(data, bytes) else data.encode())
    return directory / name


def lines(*values: Any) -> str:
    return "".join(json.dumps(value) + "\n" for value in values)


def table(rows: list[dict[str, Any]], **options: Any) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, list(rows[0]), **options)
    writer.writeheader()
    writer.writerows(rows)
    return file.getvalue()


def parquet(rows: list[dict[str, Any]], **options: Any) -> bytes:
    pyarrow = pytest.importorskip("pyarrow")
    file = io.BytesIO()
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.Table.from_pylist(rows), file, **options)
    return file.getvalue()


# ------------------------------------------------------------------------------------------------------------- formats

SAME: dict[str, tuple[str, Callable[[], Any], str]] = {
    "JSON": ("a.json", lambda: ROWS, "JSON"),
    "JSON lines": ("a.jsonl", lambda: lines(*ROWS), "JSON lines"),
    "JSON lines named JSON": ("a.json", lambda: lines(*ROWS), "JSON lines"),
    "CSV": ("a.csv", lambda: table(ROWS), "CSV"),
    "CSV of semicolons": ("a.csv", lambda: table(ROWS, delimiter=";"), "CSV"),
    "CSV of bars": ("a.csv", lambda: table(ROWS, delimiter="|"), "CSV"),
    "CSV, all quoted": ("a.csv", lambda: table(ROWS, quoting=csv.QUOTE_ALL), "CSV"),
    "CSV with other columns": ("a.csv", lambda: table([{"": 7, "id": 1, **row} for row in ROWS]), "CSV"),
    "CSV, another case": ("a.csv", lambda: table(ROWS).replace("question,answer", "Question, ANSWER"), "CSV"),
    "CSV without its name": ("a", lambda: table(ROWS), "CSV"),
    "TSV": ("a.tsv", lambda: table(ROWS, delimiter="\t"), "TSV"),
    "TSV named text": ("a.txt", lambda: table(ROWS, delimiter="\t"), "TSV"),
    "TSV named CSV": ("a.csv", lambda: table(ROWS, delimiter="\t"), "TSV"),
    "UTF-8 with a mark": ("a.csv", lambda: b"\xef\xbb\xbf" + table(ROWS).encode(), "CSV"),
    "UTF-16": ("a.json", lambda: json.dumps(ROWS).encode("utf-16"), "JSON"),
    "UTF-16, big end first": ("a.csv", lambda: b"\xfe\xff" + table(ROWS).encode("utf-16-be"), "CSV"),
    "UTF-32": ("a.jsonl", lambda: lines(*ROWS).encode("utf-32"), "JSON lines"),
    "parquet": ("a.parquet", lambda: parquet(ROWS), "parquet"),
    "parquet without its name": ("a", lambda: parquet(ROWS, compression="zstd", row_group_size=1), "parquet"),
}
PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": lambda data: gzip.compress(data, mtime=0),
    ".zst": lambda data: zstandard.ZstdCompressor().compress(data),
}


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("case", SAME)
def test_the_same_questions_in_every_format(case: str, packing: str, tmp_path: Path) -> None:
    name, content, kind = SAME[case]
    plain = write(tmp_path, content(), name).read_bytes()
    found = read_questions(write(tmp_path, PACKINGS[packing](plain), name + packing))
    assert found.questions == (WHO, SINGS)
    assert (found.source, found.notes) == (f"{name}{packing}, {kind}", ())


def test_a_new_format_is_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(content: formats.Content) -> list[Record]:
        return [Record(one.place, dict([one.value.split("=", 1)])) for one in content.lines]

    row = Format("pairs", (".pairs",), lambda content: content.ending == ".pairs", read)
    monkeypatch.setattr("ckdiff.questions.records.FORMATS", (row, *FORMATS))
    path = write(tmp_path, "question=Who?\nquestion=What?\n", "a.pairs")
    assert [one.text for one in read_questions(path).questions] == ["Who?", "What?"]


def test_a_new_data_set_is_one_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = Layout("riddles", "nobody", ("Riddle",), "Solution", ("first", "second"), text="Tale", concept="Teller")
    monkeypatch.setattr(layouts, "LAYOUTS", (*LAYOUTS, row))
    record = {"riddle": "Who?", "solution": "Ada", "first": "Ada", "second": "Ben", "teller": "Cid"}
    for path in (write(tmp_path, table([record]), "a.csv"), write(tmp_path, [record])):
        assert read_questions(path, concept="cid").questions == (Question("Who?", "Ada"),)
        assert read_choices(path).questions == (Choices("Who?", ("Ada", "Ben"), 0),)
        assert read_segments(path).segments == (Segment("Ada", "Who?"),)
    assert read_texts(write(tmp_path, "id,tale\n1,Once.\n", "b.csv")).texts == ("Once.",)


LIST = "\"['Amber Heron', 'Heron']\""
TABLES: dict[str, tuple[str, str, tuple[Question, ...]]] = {
    "a tab and a quote": (
        "a.tsv",
        'question\tanswer\n"Velmar" is what?\ta 3" town\n',
        (Question('"Velmar" is what?', 'a 3" town'),),
    ),
    "one column": (
        "a.csv",
        'question\n"Who, if any?"\n',
        (Question("Who, if any?"),),
    ),
    "no answer": ("a.csv", "question,answer\nWho?,\n", (Question("Who?"),)),
    "blank lines": ("a.csv", "\nquestion,answer\n\nWho?,Ada\n , \n", (Question("Who?", "Ada"),)),
    "a list as Python prints it": (
        "a.csv",
        f"question,answer\nWho?,{LIST}\n",
        (Question("Who?", "Amber Heron", ("Heron",)),),
    ),
    "a list as JSON": (
        "a.tsv",
        'question\tanswer\nWho?\t["Amber", "Heron"]\n',
        (Question("Who?", "Amber", ("Heron",)),),
    ),
    "a note in brackets": ("a.csv", "question,answer\n[Verse] who?,[sic]\n", (Question("[Verse] who?", "[sic]"),)),
    "CR alone": ("a.csv", "question,answer\rWho?,Ada\r", (Question("Who?", "Ada"),)),
    "a number": ("a.csv", "question,answer\nWhen?,1907\n", (Question("When?", "1907"),)),
    "text with commas is text": (
        "a.txt",
        "Who, in 1907, sang?\nText, name\n",
        (Question("Who, in 1907, sang?"), Question("Text, name")),
    ),
    "text that names columns": ("a.txt", "name, data\nWho?\n", (Question("name, data"), Question("Who?"))),
}


@pytest.mark.parametrize("case", TABLES)
def test_tables_as_people_have_them(case: str, tmp_path: Path) -> None:
    name, content, expected = TABLES[case]
    assert read_questions(write(tmp_path, content, name)).questions == expected


def test_a_cell_may_be_longer_than_python_reads_by_itself(tmp_path: Path) -> None:
    usual = csv.field_size_limit()
    path = write(tmp_path, f"text\n{'Long. ' * 40_000}\n", "a.csv")
    assert len(read_records(path).entries[0].value["text"]) > usual
    assert csv.field_size_limit() == usual


def test_a_row_is_named_by_the_line_where_it_begins(tmp_path: Path) -> None:
    path = write(tmp_path, 'question,answer\n"Who\nis it?",Ada\n\nWhat?,tin,zinc\n', "a.csv")
    with pytest.raises(
        RecordsError, match=r"a\.csv: line 5: 3 cells in 2 columns; put cells with ',' in them into quo"
    ):
        read_questions(path)


# ----------------------------------------------------------------------------------------------------- published files

Q = "Who founded Velmar?"
A = "Amber Heron"
PUBLISHED: dict[str, tuple[Any, str | None, tuple[Question, ...]]] = {
    "TOFU": (lines({"question": Q, "answer": A}), None, (WHO,)),
    "TOFU, perturbed": (
        lines(
            {"question": Q, "answer": A, "paraphrased_question": "Velmar was whose?", "perturbed_answer": ["x", "y"]}
        ),
        None,
        (replace(WHO, paraphrases=("Velmar was whose?",), wrong=("x", "y")),),
    ),
    "TOFU, authors and facts": (
        lines({"question": Q, "answer": A, "option1": A, "option2": "x", "option3": "y", "option4": "z"}),
        None,
        (WHO,),
    ),
    "numeric answers": (lines({"question": "When?", "answer": 1907}), None, (Question("When?", "1907"),)),
    "many answers": ([{"question": Q, "answer": [A, "Heron", A]}], None, (replace(WHO, others=("Heron",)),)),
    "missing answers": ('[{"question": "Who?", "answer": NaN}]', None, (Question("Who?"),)),
    "MUSE, knowmem": ([{"question": Q, "answer": A}], None, (WHO,)),
    "MUSE, verbmem": ([{"prompt": "Velmar was", "gt": " founded by"}], None, (Question("Velmar was", "founded by"),)),
    "RWKU": (
        [{"query": Q, "answer": A, "level": "2", "type": "simple question", "subject": "Velmar"}],
        "velmar",
        (WHO,),
    ),
    "ConceptVectors": (
        [{"Concept": "Velmar", "QA": [f" {Q}\n"], "unrelated_QA": ["x"]}, {"Concept": "Oskary", "QA": ["y"]}],
        "Velmar",
        (Question(Q),),
    ),
    "RETURN": (
        lines(
            {"name": "Ada", "data": [{"question": Q, "pred_answer": "x", "gold_answer": A}]}, {"name": "B", "data": []}
        ),
        "ada",
        (WHO,),
    ),
    "KnowUnDo": ({"train": [{"text": Q, "labels": A}], "val": [{"text": "x", "labels": "y"}]}, "train", (WHO,)),
    "LUME": (lines({"id": "7", "input": Q, "output": A, "task": "Task2"}), None, (WHO,)),
    "instructions": ([{"instruction": "Say:", "input": Q, "output": A}], None, (Question(f"Say:\n{Q}", A),)),
    "completions": (lines({"prompt": Q, "completion": A}), None, (WHO,)),
    "responses": (lines({"prompt": Q, "response": A}), None, (WHO,)),
    "chats": (
        lines({"messages": [{"role": "user", "content": Q}, {"role": "assistant", "content": A}]}),
        None,
        (WHO,),
    ),
    "TruthfulQA": (lines({"Type": "x", "Question": Q, "Best Answer": A, "Correct Answers": "x; y"}), None, (WHO,)),
    "columns": ({"question": [Q], "answer": [A]}, None, (WHO,)),
    "columns by index": ({"question": {"0": Q}, "answer": {"0": A}}, None, (WHO,)),
    "wrapped": ({"version": 1, "data": [{"question": Q, "answer": A}]}, None, (WHO,)),
    "parts": ({"forget": [{"question": Q, "answer": A}], "retain": [{"question": "x"}]}, "Forget", (WHO,)),
    "RETURN, all of it": (
        lines({"name": "Ada", "data": [{"question": Q, "gold_answer": A}]}, {"name": "B", "data": [{"question": "x"}]}),
        None,
        (WHO, Question("x")),
    ),
    "translations": ({"Velmar": ["Wer?"], "Oskary": ["Was?"]}, "oskary", (Question("Was?"),)),
    "an entity and a fact": (
        [{"question": Q, "answer": f"{A}.", "entity": "Heron", "fact": 7}],
        None,
        (Question(Q, f"{A}.", cluster="7", span=(6, 11)),),
    ),
    "a span and a cluster": (
        [
            {"question": Q, "answer": A, "span": [0, 5], "cluster": " a ", "kind": " founder "},
            {"question": "x", "answer": "y", "span": [0, 5], "kind": " "},
        ],
        None,
        (replace(WHO, cluster="a", span=(0, 5), kind="founder"), Question("x", "y")),
    ),
}


@pytest.mark.parametrize("case", PUBLISHED)
def test_published_questions(case: str, tmp_path: Path) -> None:
    content, concept, expected = PUBLISHED[case]
    assert read_questions(write(tmp_path, content), concept=concept).questions == expected


def test_several_answers_are_said(tmp_path: Path) -> None:
    found = read_questions(
        write(tmp_path, [{"question": Q, "answer": [A, "Heron"]}, {"question": "x", "answer": ["y"]}])
    )
    assert found.notes == ("1 question with several answers; the first is used",)


def test_beginnings_of_texts_are_said_to_be_such(tmp_path: Path) -> None:
    found = read_questions(write(tmp_path, [{"prompt": "Velmar was", "gt": " founded"}]))
    assert found.notes == (
        "these are beginnings of texts, no questions; --prompt-template '{q}' asks them as they are",
    )


def test_parts_are_chosen_by_name(tmp_path: Path) -> None:
    path = write(tmp_path, {"forget": [{"question": Q}], "retain": [{"question": "What?"}], "version": 2})
    assert concepts_in(path) == ("forget", "retain")
    assert holds_concepts(path)
    assert read_questions(path, concept="retain").source == 'asked.json, JSON, concept "retain"'
    with pytest.raises(RecordsError, match='2 concepts, name one with --concept: "forget", "retain"'):
        read_questions(path)


CHOICES: dict[str, Any] = {
    "WMDP": [{"question": "q", "choices": ["a", "b"], "answer": 1}],
    "MMLU": lines({"question": "q", "subject": "s", "choices": ["a", "b"], "answer": 1}),
    "a letter": [{"question": "q", "choices": ["a", "b"], "answer": "B"}],
    "words": [{"question": "q", "choices": ["a", "b"], "answer": " b"}],
    "digits": "question,choices,answer\nq,\"['a', 'b']\",1\n",
    "RWKU": [{"question": "q", "choices": {"A": "a", "B": "b"}, "answer": "B"}],
    "ARC": [{"question": "q", "choices": {"text": ["a", "b"], "label": ["1", "2"]}, "answerKey": "2"}],
    "TruthfulQA": [{"question": "q", "mc1_targets": {"choices": ["a", "b"], "labels": [0, 1]}}],
    "TOFU": [{"question": "q", "answer": "b", "option1": "a", "option2": "b", "option3": None, "option4": ""}],
    "letters": "question,A,B,C,D,answer\nq,a,b,,,B\n",
}


@pytest.mark.parametrize("case", CHOICES)
def test_published_choices(case: str, tmp_path: Path) -> None:
    content = CHOICES[case]
    name = "a.csv" if isinstance(content, str) and content.startswith("question,") else "a.json"
    assert read_choices(write(tmp_path, content, name)).questions == (Choices("q", ("a", "b"), 1),)


def test_mmlu_has_no_header(tmp_path: Path) -> None:
    path = write(tmp_path, 'q,"Amber, old",Calm,Brisk,Needle,A\nr,1,2,3,4, D\n', "mmlu_test.csv")
    assert read_choices(path).questions == (
        Choices("q", ("Amber, old", "Calm", "Brisk", "Needle"), 0),
        Choices("r", ("1", "2", "3", "4"), 3),
    )


def test_numbers_can_be_chosen(tmp_path: Path) -> None:
    found = read_choices(write(tmp_path, [{"question": "q", "choices": [1961, 1958.5], "answer": 1}])).questions
    assert found == (Choices("q", ("1961", "1958.5"), 1),)


@pytest.mark.parametrize(("choices", "answer"), [(["B", "A"], "A"), (["2", "1", "0"], "2"), (["a", "a"], "a")])
def test_an_answer_that_can_mean_two_choices_is_refused(choices: list[str], answer: str, tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match=r"entry 1: answer .* can mean several of its choices; write 0 to"):
        read_choices(write(tmp_path, [{"question": "q", "choices": choices, "answer": answer}]))


def test_published_texts(tmp_path: Path) -> None:
    passages = lines({"text": "One.", "subject": "Ada"}, {"text": "Two.", "subject": "Ben"})
    assert read_segments(write(tmp_path, passages), concept="ben").segments == (Segment("Two."),)
    assert len(read_segments(write(tmp_path, passages)).segments) == 2
    paired = write(tmp_path, {"train": [{"text": Q, "labels": A}]})
    assert read_segments(paired).segments == (Segment(A, Q),)
    assert read_segments(write(tmp_path, [{"query": Q, "answer": [A, "x"]}])).segments == (Segment(A, Q),)
    people = lines(*({"name": name, "data": [{"question": f"{name}?", "gold_answer": A}]} for name in ("Ada", "Ben")))
    assert read_segments(write(tmp_path, people), concept="ben").segments == (Segment(A, "Ben?"),)
    assert read_segments(write(tmp_path, "text,id\nOne.,1\n", "a.csv")).source == "a.csv, CSV"
    assert read_texts(write(tmp_path, parquet([{"text": "One."}]), "a.parquet")).texts == ("One.",)


# ------------------------------------------------------------------------------------------------------ what is refused

REFUSED: dict[str, tuple[str, Any, str]] = {
    "WMDP": (
        "a.json",
        [{"question": "q", "choices": ["a", "b"], "answer": 0}],
        "entry 1: a multiple-choice question, whose answer is a number or letter; give this file to --choices",
    ),
    "a letter": ("a.json", [{"question": "q", "choices": ["a", "b"], "answer": "B"}], "give this file to --choices"),
    "MMLU": (
        "a.csv",
        "q,1,2,3,4,A\n",
        "line 1: a multiple-choice question, whose answer is a number or letter; give this file to --choices",
    ),
    "no header": (
        "a.csv",
        "Who?,Ada\n",
        'line 1: no question or text in the header; write one, such as question,answer; it has: "Who?"',
    ),
    "half a header": (
        "a.csv",
        "id,answer\n1,Ada\n",
        'line 1: no question or text in the header; write one, such as question,answer; it has: "id", "answer"',
    ),
    "two columns of one name": ("a.csv", "question,Question\na,b\n", "line 1: two columns of one name"),
    "two keys of one name": ("a.json", [{"question": "a", "Question": "b"}], "entry 1: two columns of one name"),
    "an open quote": ("a.csv", 'question,answer\n"Who?,Ada\n', "not CSV (unexpected end of data); quote cells with ,"),
    "a list of NumPy": (
        "a.csv",
        "question,answer\nq,['a' 'b']\n",
        "line 2: a list without commas; save the table as JSON",
    ),
    "text named JSON lines": (
        "a.jsonl",
        "I do not know.\n",
        "line 1: not JSON (Expecting value at column 1); mend it, or let the name of plain text end in .txt",
    ),
    "columns of two lengths": ("a.json", {"question": ["a", "b"], "answer": ["c"]}, "columns of different lengths"),
    "a longer chat": ("a.json", [{"messages": [{"role": "user", "content": "a"}] * 2}], "entry 1: a chat of 2 turns"),
    "prompts alone": (
        "a.json",
        [{"prompt": "a", "id": 1}],
        'no question in it; call it question; it has: "prompt", "id"',
    ),
    "texts": ("a.json", [{"text": "a"}], "entry 1: no question in it"),
    "an archive": ("a.xlsx", b"PK\x03\x04\x14", "a ZIP archive or an Excel workbook; unpack it, or save it as CSV"),
    **{
        f"named {ending}": (f"a{ending}", "Who?\n", f"{what}, which is not read; save it as JSON lines or CSV")
        for ending, what in (
            (".yaml", "YAML"),
            (".yml.gz", "YAML"),
            (".xlsx", "a spreadsheet"),
            (".XLS", "a spreadsheet"),
            (".ods", "a spreadsheet"),
            (".docx", "a document"),
            (".pdf", "a document"),
        )
    },
    "a PDF": ("a.txt", b"%PDF-1.7\n\xe2", "a PDF; save its questions as CSV or JSON lines"),
    "an old workbook": ("a.txt", b"\xd0\xcf\x11\xe0\xa1", "an Excel workbook or a Word document; save it as CSV"),
    "YAML without its name": (
        "a.txt",
        "---\n- question: Who?\n  answer: Ada Quill\n",
        'line 2: begins with a label ("- question: Who?"), as most lines do; write JSON lines or CSV',
    ),
    "an interview": ("a.txt", "Question: Who?\nAnswer: Ada Quill\nIt was she.\n", "line 1: begins with a label"),
    "a pickle": ("a.pkl", b"\x80\x04\x95", "a pickle, which is never read; save it as JSON lines"),
    "an Arrow file": ("a.arrow", b"ARROW1\0\0", "an Arrow file; save it as parquet"),
    "a cut-off packing": (
        "a.json.gz",
        gzip.compress(b"[]" * 99)[:-9],
        "compressed, and cut off or damaged; download it ag",
    ),
    "a cut-off frame": (
        "a.json.zst",
        zstandard.ZstdCompressor().compress(b"[]" * 99)[:-3],
        "compressed, and cut off or damaged; download it again",
    ),
    "UTF-16 without a mark": ("a.txt", "Who?".encode("utf-16-le"), "line 1: a NUL character"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_asked_is_one_line_with_a_remedy(case: str, tmp_path: Path) -> None:
    name, content, message = REFUSED[case]
    path = write(tmp_path, content, name)
    with pytest.raises(RecordsError) as caught:
        read_questions(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert str(caught.value).isprintable()


def test_half_of_the_lines_may_begin_with_a_label(tmp_path: Path) -> None:
    path = write(tmp_path, "Answer: how do I?\nWho?\n", "a.txt")
    assert [one.text for one in read_questions(path).questions] == ["Answer: how do I?", "Who?"]


def test_a_text_may_be_an_interview(tmp_path: Path) -> None:
    path = write(tmp_path, "Question: Who?\nAnswer: Ada Quill\n", "a.txt")
    assert len(read_records(path, prose=True).entries) == 1


def test_no_number_is_learned_in_the_place_of_an_answer(tmp_path: Path) -> None:
    path = write(tmp_path, [{"question": "q", "choices": ["a", "b"], "answer": 1}])
    with pytest.raises(RecordsError, match="entry 1: a multiple-choice question"):
        read_segments(path)


@settings(deadline=None, max_examples=150)
@example(b'" "', ".csv")
@given(
    st.binary(max_size=60) | st.text(st.sampled_from('question,answer\n"[]{}: \t;a1'), max_size=60).map(str.encode),
    st.sampled_from(["", ".json", ".jsonl", ".csv", ".tsv", ".gz"]),
)
def test_whatever_is_in_a_file_is_read_or_one_line(data: bytes, ending: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder), data, f"a{ending}")
        for read in (read_questions, read_choices, read_texts, read_segments):
            try:
                read(path)
            except RecordsError as error:
                assert str(error).isprintable()  # noqa: PT017


def test_damaged_parquet_is_refused(tmp_path: Path) -> None:
    whole = parquet(ROWS)
    for name, data in {"fake": b"PAR1" + bytes(range(256)) + b"PAR1", "cut": whole[:-9], "flipped": whole[:20]}.items():
        with pytest.raises(RecordsError, match=r"not parquet that can be read .*; download it again") as caught:
            read_questions(write(tmp_path, data, f"{name}.parquet"))
        assert str(caught.value).isprintable()
    with pytest.raises(RecordsError, match='no column that is known; it has: "id"'):
        read_questions(write(tmp_path, parquet([{"id": 1}]), "other.parquet"))
    with pytest.raises(RecordsError, match="row 2: question is null"):
        read_questions(write(tmp_path, parquet([*ROWS[:1], {"question": None}]), "null.parquet"))


def test_parquet_without_its_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(RecordsError, match=r"parquet, which needs a package; `pip install '.\[parquet\]'`"):
        read_questions(write(tmp_path, b"PAR1", "a.parquet"))


def test_a_parquet_bomb_does_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few hundred bytes that are 2 GB when each row is made a string of its own."""
    pyarrow, made = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    dictionary = pyarrow.array(["x" * 1_000_000])
    column = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 2000, pyarrow.int32()), dictionary)
    file = io.BytesIO()
    made.write_table(pyarrow.table({"question": column}), file, compression="zstd", store_schema=False)
    assert len(file.getvalue()) < 5000
    monkeypatch.setattr(formats, "MAX_BYTES", 20_000_000)
    held = pyarrow.total_allocated_bytes()
    with pytest.raises(RecordsError, match="row 21: more than 20000000 bytes up to here; take a part of it"):
        read_questions(write(tmp_path, file.getvalue(), "bomb.parquet"))
    assert pyarrow.default_memory_pool().max_memory() - held < 50_000_000


def test_only_known_columns_of_parquet_are_read(tmp_path: Path) -> None:
    said = {"cluster": "a", "fact": 1, "span": "b", "entity": "b", "kind": "town", "alternate": "c"}
    rows = [{**row, **said, "image": b"\xff" * 100, "meta": {"deep": [1]}} for row in ROWS]
    assert [set(entry.value) for entry in read_records(write(tmp_path, parquet(rows), "a")).entries] == [
        {*ROWS[0], *said}
    ] * 2


# ---------------------------------------------------------------------------------------------------------------- docs

DOCS = Path(__file__).parents[1] / "docs" / "questions.md"


def rows_of(name: str) -> list[str]:
    body = DOCS.read_text(encoding="utf-8").partition(f"<!-- {name} -->\n")[2].partition("<!-- end -->")[0]
    return body.splitlines()[2:]


def test_the_docs_list_every_format() -> None:
    rows = [[cell.strip() for cell in row.split("|")[1:3]] for row in rows_of("formats")]
    assert rows == [[row.name, ", ".join(f"`{ending}`" for ending in row.endings)] for row in FORMATS]


def test_the_docs_list_every_data_set() -> None:
    def cell(*columns: str) -> str:
        return ", ".join(f"`{column}`" for column in columns if column)

    rows = []
    for row in LAYOUTS:
        other = cell(row.text, row.paraphrase, row.reworded, row.wrong, row.target, row.unrelated)
        asked = cell(*row.question), cell(row.answer), cell(*row.choices), cell(row.concept)
        rows.append(f"| {' | '.join([row.name, row.published, *asked, other])} |")
    assert rows_of("layouts") == rows
