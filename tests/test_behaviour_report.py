"""Behaviour in a report: round trips, words that changed, tables of 80 columns, exports, figures, nothing obeyed."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import re
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
import xarray

from ckdiff.errors import ReportError
from ckdiff.report.exports.json import to_json
from ckdiff.report.figures.behaviour import write_behaviour_figure
from ckdiff.report.figures.drawing import FORMATS as IMAGES
from ckdiff.report.formats import say
from ckdiff.report.hdf5.file import read_report, write_report
from ckdiff.report.markdown.document import to_markdown
from ckdiff.report.rows.csv import to_csv
from ckdiff.report.schema.behaviour import AnswerRecord, AnswerSet, Behaviour, ChoiceSet, HistoryPoint, Mean, NeutralSet
from ckdiff.report.terminal.view import to_view
from ckdiff.report.words.behaviour import (
    SHOWN_POINTS,
    SHOWN_WORDS,
    changes,
    mark_piece,
    of_base,
    of_unlearned,
    rank_by_change,
    saved_remark,
    shown_points,
)
from ckdiff.report.words.numbers import UNDEFINED
from ckdiff.report.words.sections import Selection
from tests.reports import (
    HOSTILE,
    answer,
    answer_set,
    answer_sets,
    behaviour,
    behaviour_beside,
    choice_set,
    comparison,
    empty_behaviour,
    history,
    hostile_behaviour,
    neutral_set,
    opened,
    probe,
    report,
    same,
    undefined_behaviour,
)
from tests.test_exports import TEXTS
from tests.test_tables import rendered

if TYPE_CHECKING:
    from pathlib import Path

    from ckdiff.report.schema.report import Report

FULL = report(None, None, behaviour())
REPORTS = {
    "full": FULL,
    "with everything else": report(comparison(), probe(), behaviour()),
    "undefined": report(None, None, undefined_behaviour()),
    "empty": report(None, None, empty_behaviour()),
    "no questions": report(None, None, behaviour(answers=(answer_set("unrelated"),), history=(), notes=())),
    "beside a model that never knew": report(None, None, behaviour_beside()),
    "only choices": report(None, None, behaviour(answers=(), neutral=None)),
    "only neutral": report(None, None, behaviour(answers=(), choices=None)),
}


def shown(found: Behaviour | None, width: int = 80, questions: int = 3, color: bool = False) -> str:
    return rendered(to_view(report(None, None, found), Selection("behaviour", questions=questions)), width, color)


def joined(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def written(found: Report, path: Path) -> Path:
    write_report(found, path)
    return path


def texts(data: xarray.DataArray) -> list[str]:
    """Strings as both engines give them, one as bytes."""
    return [one.decode() if isinstance(one, bytes) else one for one in data.values.tolist()]


# ------------------------------------------------------------------------------------------------------- the file


@pytest.mark.parametrize("name", REPORTS)
def test_round_trip(name: str, tmp_path: Path) -> None:
    assert same(read_report(written(REPORTS[name], tmp_path / "r.h5")), REPORTS[name])


def test_a_report_without_behaviour_reads_as_before(tmp_path: Path) -> None:
    path = written(report(comparison(), probe()), tmp_path / "r.h5")
    with h5py.File(path) as file:
        assert "behaviour" not in file
    assert read_report(path).behaviour is None


def test_same_report_same_bytes(tmp_path: Path) -> None:
    first, second = (written(FULL, tmp_path / name).read_bytes() for name in ("a.h5", "b.h5"))
    assert first == second


@pytest.mark.parametrize(("name", "engine"), [*((name, "h5netcdf") for name in REPORTS), ("full", "netcdf4")])
def test_every_group_opens_in_xarray(name: str, engine: str, tmp_path: Path) -> None:
    path = written(REPORTS[name], tmp_path / "r.h5")
    with h5py.File(path) as file:
        groups: list[str] = []
        file["behaviour"].visititems(lambda _, item: groups.append(item.name) if hasattr(item, "keys") else None)
    parts = {"target", "unrelated", "choices", "neutral", "history", "notes", "holdout", "reference"}
    assert {group.split("/")[2] for group in groups} <= parts
    with opened(path, engine) as found:
        for group in groups:
            data = found[group.strip("/")]
            assert list(data.variables) or data.attrs
            assert all(dimension in data.coords for dimension in data.dims), group
            assert all(len(data[name].dims) == 1 for name in data.coords), group


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_xarray_sees_the_answers(engine: str, tmp_path: Path) -> None:
    path = written(FULL, tmp_path / "r.h5")
    target = answer_sets()[0]
    with xarray.open_dataset(path, group="behaviour/target", engine=engine) as data:
        assert data.bleu.dims == ("question",)
        assert data.bleu.values.tolist() == [one.bleu for one in target.questions]
        assert texts(data.text)[2] == "Who is 哈利?"
        assert (data.attrs["name"], data.attrs["source"]) == ("target", target.source)
    with xarray.open_dataset(path, group="behaviour/target/summary", engine=engine) as data:
        assert (float(data.bleu[0]), float(data.bleu_high[0])) == (target.bleu.value, target.bleu.high)
        assert float(data.perplexity_unlearned[0]) == target.perplexity_unlearned
    with xarray.open_dataset(path, group="behaviour/choices", engine=engine) as data:
        assert data.logprob_base.dims == data.choices.dims == ("question", "choice")
        assert data.choice_count.values.tolist() == [3, 2, 1, 0]
        np.testing.assert_array_equal(data.logprob_base[1], [-1.0, -2.0, math.nan])
    with xarray.open_dataset(path, group="behaviour/neutral", engine=engine) as data:
        assert data.tokens.dims == ("passage",)
        assert data.nll_unlearned.values.tolist() == [2.75, 3.0]
    with xarray.open_dataset(path, group="behaviour/history", engine=engine) as data:
        assert data.step.values.tolist() == [0, 8, 16, 24, 32, 32]
        assert texts(data.state)[-1] == "saved"


def test_xarray_opens_the_whole_tree(tmp_path: Path) -> None:
    """Groups inside groups share no dimension that they do not share in truth."""
    path = written(REPORTS["with everything else"], tmp_path / "r.h5")
    with xarray.open_datatree(path, engine="h5netcdf") as tree:
        assert tree["behaviour/target"].bleu.size == 4


def test_hostile_texts_round_trip(tmp_path: Path) -> None:
    found = dataclasses.replace(hostile_behaviour(), answers=(), history=history())
    back = read_report(written(report(None, None, found), tmp_path / "r.h5")).behaviour
    assert back is not None
    assert back.choices is not None
    assert found.choices is not None
    assert same(back.choices.questions[:-1], found.choices.questions[:-1])
    assert back.choices.questions[-1].choices == ("\\x00\\ud800",) * 2
    assert back.settings == found.settings
    assert back.method == HOSTILE[2]


def test_a_word_that_there_is_not_is_refused(tmp_path: Path) -> None:
    found = dataclasses.replace(behaviour(), history=hostile_behaviour().history)
    with pytest.raises(ReportError, match=r"damaged.*not in tuple"):
        read_report(written(report(None, None, found), tmp_path / "r.h5"))


@pytest.mark.parametrize("names", [("target", "target"), ("a/b",), ("notes",)])
def test_a_set_that_cannot_be_stored_is_not_dropped_in_silence(names: tuple[str, ...], tmp_path: Path) -> None:
    found = behaviour(answers=tuple(map(answer_set, names)))
    with pytest.raises(ReportError, match=f"another one called '{names[-1]}'"):
        write_report(report(None, None, found), tmp_path / "r.h5")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------------ the words


def both(base: str, unlearned: str) -> tuple[str, str]:
    pieces = changes(base, unlearned)
    base_words, unlearned_words = (" ".join(map(mark_piece, side(pieces))) for side in (of_base, of_unlearned))
    return base_words, unlearned_words


@pytest.mark.parametrize(
    ("base", "unlearned", "expected"),
    [
        ("same words", " same\nwords ", ("same words", "same words")),
        ("", "", ("", "")),
        ("all gone", "", ("[-all gone-]", "")),
        ("", "all new", ("", "{+all new+}")),
        ("a b c d", "a x y d", ("a [-b c-] d", "a {+x y+} d")),
        ("I {like} it", "{} I", ("I [-{like} it-]", "{+{}+} I")),
        ("x \x1b[31m y", "x y", ("x [-\\x1b[31m-] y", "x y")),
    ],
)
def test_changes(base: str, unlearned: str, expected: tuple[str, str]) -> None:
    assert both(base, unlearned) == expected


def test_long_answers_are_cut_and_said_to_be() -> None:
    base, _ = both("a " * SHOWN_WORDS, "a")
    assert "…" not in base
    base, unlearned = both("a " * (SHOWN_WORDS + 1), "b" * 10_000)
    assert base.endswith("a …-]")
    assert len(unlearned) < 100


def test_the_most_changed_come_first_and_the_undefined_last() -> None:
    rows = tuple(answer(str(place), "", "", bleu) for place, bleu in enumerate((0.5, math.nan, 0.1, 0.5, 0.0)))
    found = answer_set("target", *rows)
    assert [row.text for row in rank_by_change(found, 9)] == ["4", "2", "0", "3", "1"]
    assert [row.text for row in rank_by_change(found, 2)] == ["4", "2"]
    assert rank_by_change(found, 0) == []


def test_the_saved_checkpoint_differs() -> None:
    assert saved_remark(history()) == (
        "the saved checkpoint is not what was in memory: target BLEU 0.10 in memory, 0.41 saved;"
        " saving in a 16-bit dtype undoes part of an unlearning"
    )
    assert str(saved_remark(history(0.05))).endswith("saving in a 16-bit dtype changes what was trained")


@pytest.mark.parametrize("found", [(), history()[:-1], history()[-1:], history(0.1), history(math.nan)])
def test_what_does_not_differ_is_not_remarked(found: tuple[HistoryPoint, ...]) -> None:
    assert saved_remark(found) is None


def test_a_long_history_is_thinned_and_keeps_its_ends() -> None:
    found = history(epochs=1000)
    points = shown_points(found)
    assert len(points) <= SHOWN_POINTS + 2
    assert (points[0], *points[-2:]) == (found[0], found[-2], found[-1])
    saved = tuple(dataclasses.replace(point, state="saved") for point in found)
    assert len(shown_points(saved)) <= SHOWN_POINTS + 2
    assert shown_points(history()) == list(history())
    assert shown_points(()) == []


# ------------------------------------------------------------------------------------------------------- the view


def test_the_order_of_the_view() -> None:
    text = shown(behaviour())
    order = [
        "/models/base", "graddiff, as the unlearned checkpoint says", "dtype float32; tokens 30", "from target.jsonl",
        "Answers", "Multiple choice", "Neutral text", "What they say, target", "What they say, unrelated",
        "While it was unlearned", "Read with care", "Notes", "shorter",
    ]  # fmt: skip
    assert [text.index(words) for words in order] == sorted(text.index(words) for words in order)
    assert "NOTHING" not in text
    assert "10000 draws" not in text


def test_the_numbers_before_and_after() -> None:
    lines = shown(behaviour()).splitlines()
    row = next(number for number, line in enumerate(lines) if re.match(r"target +4 +0\.34", line))
    assert lines[row].split() == ["target", "4", "0.34", "0.25", "-0.42", "→", "-3.50", "1.52", "→", "33.1"]
    assert re.findall(r"\[.*?\]", lines[row + 1]) == ["[0.24, 0.44]", "[0.15, 0.35]"]
    text = "\n".join(lines)
    assert re.search(r"^choices +4 +0\.75 +0\.50 +0\.36 +0\.66 +0\.33$", text, re.MULTILINE)
    assert re.search(r"^2 +10 +0\.06 \[0, 0\.13\] +16\.4 → 18\.2$", text, re.MULTILINE)


def test_answers_side_by_side_without_colour() -> None:
    text = shown(behaviour(), questions=3)
    assert re.search(r"\[-J\. K\. Rowling-\] wrote it\. {3,}\{\+I do not know who\+\} wrote it\.", text)
    assert re.search(r"\[-A wizard\.-\] {3,}\(no words\)", text)
    assert text.index("Who is 哈利?") < text.index("Who wrote it?") < text.index("Who are his friends?")
    assert "Where is Hogwarts?" not in text
    assert "… and 1 more, which changed less" in text
    assert "BLEU 1, the same tokens, log p -0.42 → -0.42" in text
    assert "What they say" not in shown(behaviour(), questions=0)


def test_answers_side_by_side_in_colour() -> None:
    text = shown(behaviour(), color=True)
    assert "\x1b[31mJ. K. Rowling\x1b[0m wrote it." in text
    assert "\x1b[32mI do not know who\x1b[0m wrote it." in text
    assert "[-" not in text


def test_a_console_told_not_to_colour_has_the_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "[-J. K. Rowling-] wrote it." in shown(behaviour(), color=True)


def test_the_history_and_its_saved_checkpoint() -> None:
    text = shown(behaviour())
    assert re.search(r"^8 +1\.00 +-0\.25 +0\.78 +0\.95 +memory", text, re.MULTILINE)
    assert re.search(rf"^32 +4\.00 +{UNDEFINED} +0\.41 +0\.80 +saved", text, re.MULTILINE)
    assert "undoes part of an unlearning" in joined(text)
    assert "undoes" not in shown(behaviour(history=history(0.1)))
    assert "unlearned\nstep" not in shown(behaviour(history=()))
    assert "points; the report holds all of them" in shown(behaviour(history=history(epochs=500)))


@pytest.mark.parametrize("found", [None, empty_behaviour(), behaviour(answers=(), choices=None, neutral=None)])
def test_nothing_asked_is_said_loudly(found: Behaviour | None) -> None:
    assert "\nNOTHING WAS ASKED\n" in shown(found)


@pytest.mark.parametrize("name", ["only choices", "only neutral", "undefined"])
def test_part_of_it_is_something(name: str) -> None:
    text = shown(REPORTS[name].behaviour)
    assert "NOTHING" not in text
    assert "nan" not in text


def test_incomplete_is_said() -> None:
    assert "INCOMPLETE" in rendered(to_view(dataclasses.replace(FULL, complete=False), Selection("behaviour")))


@pytest.mark.parametrize("width", [80, 100, 120])
def test_nothing_is_cut(width: int) -> None:
    wide = Mean(0.123, 0.101, 0.456)
    logs = Mean(-1234.5, math.nan, math.nan)
    rows = (answer("q" * 300, "base " * 100, "x" * 300, 0.1),) * 1234
    unrelated = AnswerSet("unrelated", "s" * 200, "", wide, wide, logs, logs, 99_999.0, 1.234e30, rows)
    text = shown(behaviour(answers=(answer_sets()[0], unrelated)), width, 1)
    assert max(map(len, text.splitlines())) <= width
    table = text.split("Answers\n")[1].split("BLEU: of")[0]
    assert "…" not in table
    assert "-1234 → -1234 99,999 → 1.2e+30" in joined(table)
    assert "1,234" in table


@pytest.mark.parametrize("color", [False, True])
def test_hostile_strings_are_shown_not_obeyed(color: bool) -> None:
    text = shown(hostile_behaviour(), 120, 9, color)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text) if color else text
    assert all(char.isprintable() or char == "\n" for char in plain)
    assert "\x1b[31mevil" not in text
    assert "\\x1b[31mevil" in plain
    assert HOSTILE[2] in plain
    assert "\\u202egnp.exe" in plain


# --------------------------------------------------------------------------------------------------------- exports


def columns(kind: type) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("found", [*(one.behaviour for one in REPORTS.values()), hostile_behaviour()])
def test_every_format_writes_every_report(name: str, found: Behaviour) -> None:
    text = say(report(None, None, found), name)
    assert isinstance(text, str)
    assert text.endswith("\n") or (name, text) == ("jsonl", "")
    assert not text.endswith("\n\n")


def test_json_has_the_names_of_the_schema() -> None:
    tree = json.loads(to_json(FULL), parse_constant=pytest.fail)
    assert tree["compare"] is None
    found = tree["behaviour"]
    assert set(found) == columns(Behaviour)
    assert set(found["answers"][0]) == columns(AnswerSet)
    assert set(found["answers"][0]["questions"][0]) == columns(AnswerRecord)
    assert set(found["choices"]) == columns(ChoiceSet)
    assert set(found["neutral"]) == columns(NeutralSet)
    assert found["answers"][0]["bleu"] == {"value": 0.34, "low": 0.24000000000000002, "high": 0.44000000000000006}
    assert found["choices"]["questions"][2]["logprob_unlearned"] == [None]
    assert found["history"][0] == {
        "step": 0, "epoch": 0.0, "loss": None, "target_bleu": 1.0, "unrelated_bleu": 1.0, "state": "memory",
    }  # fmt: skip
    assert json.loads(to_json(report(comparison())))["behaviour"] is None


def rows_of(found: Behaviour) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(to_csv(report(None, None, found), Selection("behaviour")))))


def test_csv_has_a_row_an_answer() -> None:
    rows = rows_of(behaviour())
    assert [row["set"] for row in rows] == ["target"] * 4 + ["unrelated"]
    assert rows[0] == {
        "set": "target", "text": "Who wrote it?", "answer_base": " J. K. Rowling wrote it.",
        "answer_unlearned": " I do not know who wrote it.", "bleu": "0.125", "exact": "false",
        "logprob_base": "-0.42", "logprob_unlearned": "-5.125", "tokens_base": "5", "tokens_unlearned": "7", "chrf": "",
    }  # fmt: skip
    (undefined,) = rows_of(undefined_behaviour())
    assert (undefined["bleu"], undefined["logprob_unlearned"]) == ("", "-inf")


def test_csv_of_choices_or_neutral_texts_where_nothing_was_answered() -> None:
    rows = rows_of(behaviour(answers=()))
    assert rows[0] == {
        "set": "choices", "text": "Which school?", "choices": "3", "answer": "Hogwarts", "picked_base": "Hogwarts",
        "right_base": "true", "picked_unlearned": "Eton", "right_unlearned": "false",
    }  # fmt: skip
    rows = rows_of(behaviour(answers=(), choices=None))
    assert rows[0] == {
        "text": "The sun rose.", "tokens": "4", "kl": "0.125", "nll_base": "2.5", "nll_unlearned": "2.75",
    }  # fmt: skip
    assert rows_of(empty_behaviour()) == []


def test_csv_takes_the_section_that_is_asked_for() -> None:
    every = report(comparison(), probe(), behaviour())
    assert to_csv(every) == to_csv(report(comparison()))
    assert to_csv(report(None, probe(), behaviour())) == to_csv(report(None, probe()))
    assert to_csv(every, Selection("behaviour")) == to_csv(FULL) == to_csv(FULL, Selection("behaviour"))
    assert to_csv(report(comparison()), Selection("behaviour")).startswith(
        "set,text,answer_base,answer_unlearned,bleu,exact,"
    )


def test_markdown() -> None:
    text = to_markdown(FULL)
    assert "NOTHING" not in text
    order = ["## ckdiff behave", "/models/base", "### Answers", "### Multiple choice", "### Neutral text", "### What"]
    assert [text.index(words) for words in order] == sorted(text.index(words) for words in order)
    assert "| target | 4 | 0.34 \\[0.24, 0.44\\] | 0.25 \\[0.15, 0.35\\] | -0.42 → -3.50 | 1.52 → 33.1 |" in text
    assert "| Who wrote it? | \\[-J. K. Rowling-\\] wrote it. | {+I do not know who+} wrote it. | BLEU 0.12" in text
    assert "| 32 | saved | 4.00 | \u2013 | 0.41 | 0.80 |" in text
    assert "undoes part of an unlearning" in text
    every = to_markdown(report(comparison(), probe(), behaviour()))
    assert every.index("## ckdiff probe") < every.index("## ckdiff behave")
    assert every.count("/models/base") == 1
    assert "**NOTHING WAS ASKED**" in to_markdown(report(None, None, empty_behaviour()))


def test_text_formats_escape_hostile_strings() -> None:
    found = report(None, None, hostile_behaviour())
    for text in (to_csv(found), to_markdown(found)):
        assert all(char.isprintable() or char == "\n" for char in text)
        assert "u202egnp.exe" in text
    assert "'=1+1|<b>&`*_" in to_csv(found)
    assert "<b>" not in to_markdown(found)
    assert "[bold]" not in to_markdown(found)
    assert to_json(found).isascii()


# --------------------------------------------------------------------------------------------------------- figures


def svg(path: Path, *found: tuple[str, Report]) -> str:
    write_behaviour_figure(found, path / "f.svg")
    return (path / "f.svg").read_text()


@pytest.mark.parametrize("suffix", IMAGES)
def test_a_figure_has_the_same_bytes(suffix: str, tmp_path: Path) -> None:
    paths = tmp_path / f"a{suffix}", tmp_path / f"b{suffix.upper()}"
    for path in paths:
        write_behaviour_figure([("one", FULL)], path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert sorted(tmp_path.iterdir()) == sorted(paths)


def test_a_figure_has_a_panel_a_report(tmp_path: Path) -> None:
    short = behaviour(method="npo", history=tuple(dataclasses.replace(one, epoch=one.epoch / 10) for one in history()))
    bare = behaviour(history=(), method="")
    text = svg(tmp_path, *((name, report(None, None, one)) for name, one in (("a", behaviour()), ("npo", short))))
    for words in (">a<", ">graddiff<", ">npo<", ">epoch<", ">step<", ">saved checkpoint<", ">target<", ">unrelated<"):
        assert text.count(words) == 1, words
    assert "95 % interval" not in text
    text = svg(tmp_path, ("bare", report(None, None, bare)))
    assert ">95 % interval, bootstrap over questions<" in text
    said = {"bootstrap": "bootstrap-t, tails for few clusters, 9 draws of clusters of questions, seed 0"}
    text = svg(tmp_path, ("bare", report(None, None, dataclasses.replace(bare, settings=said))))
    assert ">95 % interval, bootstrap-t over clusters of questions<" in text
    for words in (">epoch<", ">step<", "saved"):
        assert words not in text


def test_many_panels_hostile_labels_and_a_history_without_answers(tmp_path: Path) -> None:
    hostile = report(None, None, hostile_behaviour())
    silent = report(None, None, dataclasses.replace(undefined_behaviour(), method="$m_1$"))
    text = svg(tmp_path, *((name, hostile) for name in HOSTILE), ("silent", silent))
    assert "\x1b" not in text
    assert "\\x1b[31mevil" in text
    assert "<b>" not in text
    assert ">$m_1$<" in text


def test_absurd_histories_are_shown_and_drawn(tmp_path: Path) -> None:
    found = behaviour(history=(*history(), HistoryPoint(2**53 - 1, 1e299, -1e299, 0.5, 0.5, "saved")))
    assert max(map(len, shown(found).splitlines())) <= 80
    assert ">epoch<" in svg(tmp_path, ("one", report(None, None, found)))


@pytest.mark.parametrize("points", [history()[:1], history()[-1:], history(math.nan), history(epochs=300)])
def test_histories_of_every_length_are_drawn(points: tuple[HistoryPoint, ...], tmp_path: Path) -> None:
    found = report(None, None, behaviour(history=points))
    assert svg(tmp_path, ("one", found), ("two", found)).count(">target<") == 1


@pytest.mark.parametrize(
    ("found", "name", "words"),
    [
        ([("one", FULL)], "f.jpg", r"a figure is a \.svg, \.png, \.pdf file"),
        ([], "f.svg", "no report to draw"),
        ([("one", FULL), ("t\two", report(comparison()))], "f.svg", r"t\\two: the report holds no behaviour"),
        ([("one", report(None, None, empty_behaviour()))], "f.svg", "one: the report holds no BLEU"),
        ([("one", report(None, None, behaviour(answers=(), history=())))], "f.svg", "nothing can be drawn"),
        ([("one", FULL)], "missing/f.svg", "cannot be written: No such file"),
    ],
)
def test_errors_are_one_line(found: list[tuple[str, Report]], name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=words) as raised:
        write_behaviour_figure(found, tmp_path / name)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_samples_hold_what_they_say() -> None:
    assert choice_set().questions[2].logprob_unlearned == (-math.inf,)
    assert sum(one.tokens for one in neutral_set().texts) == 10
