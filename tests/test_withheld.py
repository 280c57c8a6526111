"""A report without texts: none is left anywhere, numbers stay, and every format says it."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ckdiff.cli.app import run
from ckdiff.report.exports.json import to_json
from ckdiff.report.hdf5.file import write_report
from ckdiff.report.page import to_html
from ckdiff.report.schema.verdict import RuleResult
from ckdiff.report.words.withheld import OTHER, SAME, WITHHELD, withhold
from tests.campaigns import campaign
from tests.reports import attack_row, attacks
from tests.test_page import attacked, full

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

    from ckdiff.report.schema.report import Report

STAYS = {
    "above_attack", "attack", "component", "control", "digest", "direction", "field_against",
    "forms", "given_digest", "kind", "location", "matched_by", "method", "missing", "mode",
    "model_type", "name", "note", "outcome", "ran", "reference", "reference_digest",
    "reference_kind", "score", "second", "second_digest", "setting", "side", "source", "state",
    "step", "text_kind", "twin", "variant", "worst",
}  # fmt: skip
"""Fields of measured sections that hold no text of a question or an answer. A new one is to be thought about."""


def texts(found: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every text of a report, with the names of the fields on the way."""
    if isinstance(found, str):
        yield path, found
    elif isinstance(found, tuple):
        for one in found:
            yield from texts(one, path)
    elif isinstance(found, Mapping):
        for one in found.values():
            yield from texts(one, (*path, "settings"))
    elif dataclasses.is_dataclass(found):
        for one in dataclasses.fields(found):
            yield from texts(getattr(found, one.name), (*path, one.name))


def test_of_every_text_it_is_known_whether_it_stays() -> None:
    seen: dict[str, str] = {}
    marked = attacked(full(), "R", seen)
    left = withhold(marked)
    marks = set(seen.values())
    sections = ("probe", "behaviour", "attack", "depth", "discovery")
    kept = {path[-1] for path, text in texts(left) if path[0] in sections and text in marks}
    assert kept - {"settings", "notes"} <= STAYS
    gone = {path[1:] for path, text in texts(marked) if path[0] in sections} - {
        path[1:] for path, text in texts(left) if path[0] in sections and text in marks
    }
    for path in (("questions", "text"), ("questions", "answer"), ("answers", "questions", "answer_given")):
        assert path in gone
    for path in (
        ("returned", "said"),
        ("choices", "questions", "choices"),
        ("words", "word"),
        ("neutral", "texts", "text"),
    ):
        assert path in gone


def numbers(report: Report) -> list[Any]:
    def walk(found: Any) -> Iterator[Any]:
        if isinstance(found, dict):
            for name, one in found.items():
                yield from walk([] if name.endswith("_ids") or name in ("token", "notes") else one)
        elif isinstance(found, list):
            for one in found:
                yield from walk(one)
        elif not isinstance(found, str):
            yield found

    return list(walk(json.loads(to_json(report))))


def test_numbers_stay_and_ids_are_as_many() -> None:
    found = full()
    left: Any = withhold(found)
    assert numbers(left) == numbers(found)
    for name in ("probe", "attack", "depth"):
        pairs = zip(getattr(found, name).questions, getattr(left, name).questions, strict=True)
        for before, after in pairs:
            assert after.answer_ids == (0,) * len(before.answer_ids)
    assert len(left.behaviour.answers[0].questions[0].answer_base_ids) > 0
    assert not any(left.behaviour.answers[0].questions[0].answer_base_ids)
    words = (*left.discovery.words, *left.discovery.gained, *left.discovery.weights)
    assert {(one.token, one.word.split()[0]) for one in words} == {(0, "word")}


def test_whether_an_answer_is_another_one_is_still_seen() -> None:
    found = full()
    left: Any = withhold(found)
    assert found.behaviour is not None
    for before, after in zip(found.behaviour.answers, left.behaviour.answers, strict=True):
        for number, (one, other) in enumerate(zip(before.questions, after.questions, strict=True), 1):
            assert other.text == f"question {number}"
            said = "" if not one.answer_unlearned else SAME if one.answer_unlearned == one.answer_base else OTHER
            assert (other.answer_base, other.answer_unlearned) == (SAME if one.answer_base else "", said)


def test_what_a_sentence_quotes_is_called_by_its_number() -> None:
    found = full()
    assert found.verdict is not None
    assert found.attack is not None
    asked = [dataclasses.replace(one, text=f"Who {n}?") for n, one in enumerate(found.attack.questions)]
    rule = RuleResult("leak", True, "a chance of 0.2 (Who 0?)", 0.2, 0.1, "at_most")
    row = attack_row("forms", 0, "role", note="holds ' Amber', ' Heron' of an answer: not scored")
    attack = attacks(questions=tuple(asked), rows=(row,))
    left: Any = withhold(
        dataclasses.replace(found, attack=attack, verdict=dataclasses.replace(found.verdict, rules=(rule,)))
    )
    assert left.verdict.rules[0].text == "a chance of 0.2 (question 1)"
    assert left.attack.rows[0].note == "holds a piece of an answer: not scored"


def test_a_campaign_holds_no_texts() -> None:
    found = campaign()
    assert withhold(found) is found


def test_page_and_formats_show_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = full()
    assert found.behaviour is not None
    row = dataclasses.replace(found.behaviour.answers[0].questions[0], text="Who?!", answer_base="Zanzibar")
    sets = (dataclasses.replace(found.behaviour.answers[0], questions=(row,)), *found.behaviour.answers[1:])
    found = dataclasses.replace(found, behaviour=dataclasses.replace(found.behaviour, answers=sets))
    assert "Zanzibar" in to_html(found)
    assert WITHHELD not in to_html(found)
    write_report(found, tmp_path / "r.h5")
    assert run(["html", str(tmp_path / "r.h5"), "-o", str(tmp_path / "p.html"), "--no-answers", "--note", "by me"]) == 0
    page = (tmp_path / "p.html").read_text()
    assert re.search(f"{re.escape(WITHHELD)}.*by me", page)
    assert page.count("question 1") >= 2
    assert "Zanzibar" not in page
    assert "Who?!" not in page
    capsys.readouterr()
    for name in ("md", "json", "table"):
        assert run(["show", str(tmp_path / "r.h5"), "--format", name, "--no-answers", "--show-questions", "9"]) == 0
        said = capsys.readouterr()
        assert "Zanzibar" not in said.out
        assert SAME in said.out or name == "table"
        assert said.err == f"{WITHHELD}\n"
