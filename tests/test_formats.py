"""The table of formats and the table of sections: each is a promise, and here it is kept."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from typing import TYPE_CHECKING

import pytest

from ckdiff.cli.app import run
from ckdiff.report.formats import FORMATS, Format, say
from ckdiff.report.hdf5.file import write_campaign, write_report
from ckdiff.report.rows.csv import to_csv
from ckdiff.report.schema.report import Report
from ckdiff.report.words.cells import cell_text
from ckdiff.report.words.sections import SECTIONS, Selection, file_of
from tests.campaigns import campaign, hostile_campaign
from tests.reports import (
    attacks,
    behaviour,
    comparison,
    depth,
    discovery,
    gate,
    hostile_behaviour,
    hostile_report,
    probe,
    report,
    verdict,
)
from tests.test_tables import rendered

if TYPE_CHECKING:
    from pathlib import Path

    from ckdiff.report.schema.campaign import Campaign

FULL = report(comparison(), probe(), behaviour(), verdict(gate=gate()), attacks(), depth(), discovery())


def to_initials(found: Report | Campaign, selection: Selection) -> str:
    """A format that a test adds: the first letter of every cell of a row."""
    rows = csv.reader(io.StringIO(to_csv(found, selection)))
    return "".join("".join(cell[:1] for cell in row) + "\n" for row in rows)


@pytest.mark.parametrize("section", [*SECTIONS, None])
def test_a_format_is_one_row_and_one_function(
    section: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(FORMATS, "initials", Format(f"{__name__}:to_initials", "one"))
    path = tmp_path / "r.h5"
    if section is None:
        write_campaign(campaign(), path)
        expected = to_initials(campaign(), Selection())
    else:
        write_report(FULL, path)
        expected = to_initials(FULL, Selection(section))
    arguments = [] if section is None else ["--section", section]
    assert run(["show", str(path), "--format", "initials", *arguments]) == 0
    assert capfd.readouterr() == (expected, "")


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_says_every_section_and_a_campaign(name: str) -> None:
    carries = FORMATS[name].carries
    said = [rendered(say(campaign(), name)), *(rendered(say(FULL, name, Selection(one))) for one in SECTIONS)]
    assert all(len(text.splitlines()) > 3 for text in said)
    assert len(set(said)) == (2 if carries == "all" else 1 + len(SECTIONS))
    whole = rendered(say(FULL, name))
    assert (whole in said) == (carries != "any")


@pytest.mark.parametrize("section", [*SECTIONS, "campaign"])
def test_every_section_has_a_file_in_the_folder_of_each_format(section: str) -> None:
    for folder, function in (("terminal", "parts"), ("markdown", "parts"), ("rows", "rows")):
        assert callable(getattr(file_of(folder, section), function))


def test_sections_are_the_fields_of_a_report() -> None:
    fields = {field.name for field in dataclasses.fields(Report)}
    assert fields - {"provenance", "versions", "complete", "schema_version"} == set(SECTIONS)


@pytest.mark.parametrize("section", SECTIONS)
def test_tsv_has_the_rows_of_csv(section: str) -> None:
    evil = dataclasses.replace(hostile_report(), behaviour=hostile_behaviour())
    for found in (FULL, evil, campaign(), hostile_campaign()):
        selection = Selection("compare" if found is evil else section)
        one, other = (say(found, name, selection) for name in ("csv", "tsv"))
        assert isinstance(one, str)
        assert isinstance(other, str)
        expected = list(csv.reader(io.StringIO(one)))
        assert list(csv.reader(io.StringIO(other), delimiter="\t")) == expected
        assert [line.count("\t") + 1 for line in other.splitlines()] == [len(row) for row in expected]


@pytest.mark.parametrize("section", SECTIONS)
def test_jsonl_has_the_rows_of_csv(section: str) -> None:
    evil = dataclasses.replace(hostile_report(), behaviour=hostile_behaviour())
    for found in (FULL, evil, report(None), campaign(), hostile_campaign()):
        selection = Selection("compare" if found is evil else section)
        one, other = (say(found, name, selection) for name in ("csv", "jsonl"))
        assert isinstance(one, str)
        assert isinstance(other, str)
        names, *expected = csv.reader(io.StringIO(one))
        rows = [json.loads(line, parse_constant=pytest.fail) for line in other.splitlines()]
        assert all(list(row) == names for row in rows)
        assert [[_cell(value) for value in row.values()] for row in rows] == expected


def _cell(value: object) -> str:
    return cell_text(tuple(value) if isinstance(value, list) else value)


def test_jsonl_keeps_kinds_and_has_null_for_what_is_not_defined() -> None:
    rows = [json.loads(line) for line in str(say(FULL, "jsonl", Selection("verdict"))).splitlines()]
    label = rows[0]
    assert (label["kind"], label["sense"], label["threshold"]) == ("statement", None, None)
    assert isinstance(label["value"], float)


def test_a_format_that_is_not_there_is_refused_in_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["show", "r.h5", "--format", "xml"]) == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert all(name in said.err for name in FORMATS)


def test_a_format_that_carries_all_takes_no_section(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "r.h5"
    write_report(FULL, path)
    assert run(["show", str(path), "--section", "verdict", "--format", "json"]) == 2
    assert "--section: json carries all of a report" in capfd.readouterr().err
    assert run(["show", str(path), "--section", "verdict", "--format", "md"]) == 0
    said = capfd.readouterr().out
    assert said.startswith("## Verdict")
    assert said == say(FULL, "md", Selection("verdict"))
    assert len(said.splitlines()) < len(str(say(FULL, "md")).splitlines()) / 2
