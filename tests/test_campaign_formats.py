"""A campaign for people and programs: rows, best windows, exit status, the terminal, JSON, CSV, Markdown, JUnit."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from lxml import etree

from ckdiff.cli.app import run
from ckdiff.errors import ExitStatus
from ckdiff.report.exports.json import to_json
from ckdiff.report.exports.junit import to_junit
from ckdiff.report.formats import say
from ckdiff.report.hdf5.file import read_any, write_campaign
from ckdiff.report.markdown.document import to_markdown
from ckdiff.report.rows.csv import to_csv
from ckdiff.report.schema.campaign import ALL, MEASURES
from ckdiff.report.terminal.campaign import LISTED_JOBS
from ckdiff.report.terminal.view import to_view
from ckdiff.report.words.campaign import (
    MEASURE_WORDS,
    SAMPLING,
    average_cells,
    averages_legend,
    averages_of,
    exit_status,
    exit_text,
    gates_text,
    group_names,
    job_line,
    mean_cells,
    missing_jobs,
    open_jobs,
    overview,
)
from ckdiff.report.words.numbers import UNDEFINED
from ckdiff.report.words.probe import best_window, beyond_chance, ranking_score
from tests.campaigns import (
    CAMPAIGNS,
    CONCEPTS,
    PAIRS,
    average,
    campaign,
    cell,
    compared_campaign,
    empty_campaign,
    hostile_campaign,
    job,
    pair,
    passed_campaign,
)
from tests.reports import HOSTILE, bump, curve
from tests.test_exports import TEXTS
from tests.test_junit import SCHEMA
from tests.test_tables import rendered

if TYPE_CHECKING:
    from pathlib import Path

    from ckdiff.report.schema.campaign import Campaign

NAN = math.nan
ALL_CAMPAIGNS = {**CAMPAIGNS, "hostile": hostile_campaign()}


def shown(found: Campaign, width: int = 80) -> str:
    return rendered(to_view(found), width)


def joined(text: str) -> str:
    """With the lines that were broken put together again."""
    return re.sub(r"\s+", " ", text)


# --------------------------------------------------------------------------------------------------------- the words


def test_every_measure_has_words() -> None:
    assert tuple(MEASURE_WORDS) == MEASURES


def test_the_overview_has_a_row_for_each_cell_with_its_own_figures() -> None:
    found = campaign()
    rows = list(overview(found))
    assert [(row.pair, row.concept) for row in rows] == [(one.pair, one.concept) for one in found.cells]
    target = found.measures[MEASURES.index("target_bleu")].value
    explained = found.measures[MEASURES.index("explained")]
    for row in rows:
        place = PAIRS.index(row.pair), CONCEPTS.index(row.concept)
        if math.isnan(target[place]):
            assert (row.target_bleu, row.explained, row.interval) == (UNDEFINED, UNDEFINED, "")
            continue
        assert row.target_bleu == f"{target[place]:.2f}"
        assert row.explained == f"{explained.value[place]:.2f}"
        assert row.interval == f"[{explained.low[place]:.2f}, {explained.high[place]:.2f}]"
    by_place = {(row.pair, row.concept): row for row in rows}
    assert by_place["gd-2", "Harry Potter"].gate == "FAILED"
    assert by_place["gd-2", "Ωmega"][2:4] == ("not judged", UNDEFINED)
    assert by_place["gd-1", "Star Wars"].carrier == "coefficients, 2-3"
    assert by_place["npo-2", "Harry Potter"].gate == UNDEFINED


def test_the_best_window_is_ranked_by_krs_kl_and_stands_on_its_band() -> None:
    one = average()
    assert (ranking_score(one), best_window(one)) == ("krs_kl", 2)
    assert beyond_chance(one)
    cells = average_cells(one)
    assert cells[2:5] == ("2", "5", "0.80 [0.70, 0.90]")
    assert cells[5] == "0.72 [0.67, 0.77]"
    assert cells[7] == "0.50 [0.40, 0.60] (0.15)"


@pytest.mark.parametrize(("low", "out"), [(0.0, False), (-0.2, False), (0.01, True), (NAN, True)])
def test_a_band_that_reaches_0_shows_nothing(low: float, out: bool) -> None:
    one = average()
    ends = one.krs_kl.band_low.copy()
    ends[2] = low
    one = dataclasses.replace(one, krs_kl=dataclasses.replace(one.krs_kl, band_low=ends))
    assert beyond_chance(one) == out
    assert average_cells(one)[2] == ("2" if out else "unsure (2)")
    assert ("nothing is shown there" in averages_legend(campaign(averages=(one,)))) == (not out)
    assert beyond_chance(dataclasses.replace(one, direction="break"))


def test_without_krs_kl_the_next_score_ranks() -> None:
    gap = curve([NAN] * 6)
    one = average(krs_kl=gap)
    assert (ranking_score(one), best_window(one)) == ("krs_centred", 2)
    assert average_cells(one)[4:6] == (UNDEFINED, "0.72 [0.62, 0.82]")
    nothing = average(krs_kl=gap, krs_centred=gap, krs=gap)
    assert (best_window(nothing), beyond_chance(nothing)) == (None, False)
    assert average_cells(nothing)[2:] == ("not measured", *(UNDEFINED,) * 5, "4", "3")


def test_a_sweep_of_the_whole_model_names_no_layer() -> None:
    assert average_cells(average(variant="whole", kl=[0.97]))[2:4] == ("all", UNDEFINED)


def test_one_concept_has_no_interval_and_the_legend_says_so() -> None:
    scores = np.array(bump(6, 2, 0.8))
    gap = np.full(6, NAN)
    alone = dataclasses.replace(curve(list(scores)), low=gap, high=gap, band_low=gap, band_high=gap)
    one = average(krs_kl=alone, concepts=1, pairs=1)
    assert average_cells(one)[4] == "0.80"
    assert "of one concept only" in averages_legend(campaign(averages=(one,)))
    assert "of one concept only" not in averages_legend(campaign())


def test_groups_and_directions_come_in_their_order() -> None:
    found = campaign()
    assert group_names(found) == ["gd", "npo", ALL]
    assert [(name, len(runs)) for name, runs in averages_of(found, "gd")] == [("restore", 3), ("break", 1)]
    assert [name for name, _ in averages_of(found, "nobody")] == []
    odd = campaign(averages=(average(direction="sideways"), average(direction="break"), average()))
    assert [name for name, _ in averages_of(odd, ALL)] == ["restore", "break", "sideways"]


def test_means_are_shares_or_losses_in_nats() -> None:
    assert [mean_cells(one)[1] for one in campaign().means] == [
        "0.12 [0.05, 0.19]",
        "0.0046 [0.001, 0.0082]",
        "0.20",
        "0.93 [0.81, 1.00]",
    ]


def test_jobs_without_a_result_name_their_reasons_the_required_ones_first() -> None:
    lines = list(map(job_line, open_jobs(campaign().jobs)))
    assert lines == [
        "gd-2, Ωmega, probe: failed: out of memory: 40 GB are needed, 32 GB are there",
        "gd-2, Ωmega, behave: missing: not run",
        "npo-2, Star Wars, probe (not required): inconclusive: nothing to recover: the two models say the same",
    ]
    turned = open_jobs(campaign().jobs[::-1])
    assert [one.required for one in turned] == [True, True, False]


def test_a_job_of_the_whole_pair_is_lacking_in_each_of_its_concepts() -> None:
    found = passed_campaign()
    jobs = (job("gd-1", "", "compare", "failed", "corrupt"), *found.jobs[1:])
    left = missing_jobs(dataclasses.replace(found, jobs=jobs))
    assert {place for place, words in left.items() if words} == {("gd-1", concept) for concept in CONCEPTS}
    optional = (dataclasses.replace(jobs[0], required=False), *found.jobs[1:])
    assert not any(missing_jobs(dataclasses.replace(found, jobs=optional)).values())


@pytest.mark.parametrize(
    ("outcome", "complete", "status"),
    [
        ("failed", True, ExitStatus.DIFFERS),
        ("failed", False, ExitStatus.DIFFERS),
        ("inconclusive", True, ExitStatus.INCONCLUSIVE),
        ("inconclusive", False, ExitStatus.INCONCLUSIVE),
        ("passed", False, ExitStatus.INCONCLUSIVE),
        ("", False, ExitStatus.INCONCLUSIVE),
        ("passed", True, ExitStatus.OK),
        ("", True, ExitStatus.OK),
    ],
)
def test_the_exit_status_is_the_worst_of_the_gates_and_of_what_is_missing(
    outcome: str, complete: bool, status: ExitStatus
) -> None:
    found = campaign(outcome=outcome, complete=complete)
    assert exit_status(found) is status
    assert exit_text(found).startswith(f"exit status {int(status)}: ")


def test_the_last_line_says_how_the_gates_ended() -> None:
    assert exit_text(campaign()) == (
        "exit status 1: 1 of 10 gates failed, 2 without enough evidence; INCOMPLETE: 2 of 27 required jobs are not done"
    )
    assert exit_text(passed_campaign()) == "exit status 0: all 12 gates passed; complete"
    assert exit_text(compared_campaign()).startswith("exit status 0: no policy was given")
    one = (cell("gd-1", "Star Wars"),)
    assert gates_text(campaign(cells=one)) == "the gate passed"
    assert (
        gates_text(campaign(cells=(cell("gd-1", "Star Wars", "inconclusive"),)))
        == "1 of 1 gate without enough evidence"
    )


# --------------------------------------------------------------------------------------------------------- terminal


@pytest.mark.parametrize("width", [80, 100, 120])
@pytest.mark.parametrize("name", ALL_CAMPAIGNS)
def test_every_campaign_fits_the_terminal(name: str, width: int) -> None:
    text = shown(ALL_CAMPAIGNS[name], width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text


def test_a_reader_finds_everything_in_80_columns() -> None:
    text = shown(campaign())
    plain = joined(text)
    for words in (
        "INCOMPLETE: 2 of 27 required jobs are not done",
        "Averages of gd over 3 concepts (2 pairs), restore: share of the loss recovered",
        "Averages of gd over 3 concepts (2 pairs), break: share of the effect produced",
        "Averages of npo over 2 to 3 concepts (2 pairs), restore",
        "Means of all over concepts",
        SAMPLING,
        "out of memory: 40 GB are needed, 32 GB are there",
        "inconclusive: nothing to recover",
    ):
        assert words in plain, words
    assert plain.rstrip().endswith(exit_text(campaign()))
    for row, below in itertools.pairwise(text.splitlines()):
        if row.startswith("gd-2 ") and "Harry Potter" in below:
            assert row.split() == ["gd-2", "suppressed", "0.31", "0.13", "0.17", "FAILED"]
            assert below.split() == ["Harry", "Potter", "coefficients,", "2-3", "[0.26,", "0.36]"]
            break
    else:
        pytest.fail("no row of gd-2, Harry Potter")
    assert text.index("FAILED") < text.index("Averages") < text.index("Jobs without a result") < text.index("Notes")


def test_numbers_far_outside_the_scale_are_not_cut() -> None:
    wild = curve([-1e9] * 126, 1e10)
    runs = tuple(
        average(ALL, mode, "isolated", krs_kl=wild, krs_centred=wild, krs=wild, layers=np.arange(126, dtype="i8"),
                top1=np.full(126, 0.999), top1_low=np.full(126, 0.001), top1_high=np.full(126, 1.0))
        for mode in ("attn+coeff", "attn-weights")
    )  # fmt: skip
    text = shown(campaign(averages=runs))
    assert max(map(len, text.splitlines())) <= 80
    assert "[<-99, >99]" in text
    for words in ("attn+coeff", "attn-weights", " isolated", "[0.00, 1.00]"):
        assert words in text


def test_many_jobs_without_a_result_are_counted() -> None:
    many = tuple(job(f"p{number}", "", "compare", "missing", "not run") for number in range(LISTED_JOBS + 7))
    text = shown(campaign(jobs=many))
    assert f"Jobs without a result ({LISTED_JOBS + 7})" in text
    assert f"p{LISTED_JOBS - 1}, compare: missing: not run" in text
    assert f"p{LISTED_JOBS}, compare" not in text
    assert "and 7 others" in text


def test_empty_campaigns_say_so() -> None:
    text = shown(empty_campaign())
    assert "NOTHING WAS ASKED" in text
    assert "Averages" not in text
    assert "exit status 0: no policy was given" in joined(text)
    assert "NOTHING WAS ASKED" in to_markdown(empty_campaign())


@pytest.mark.parametrize("color", [False, True])
def test_hostile_strings_are_shown_not_obeyed(color: bool) -> None:
    text = rendered(to_view(hostile_campaign()), 120, color)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text) if color else text
    assert all(char.isprintable() or char == "\n" for char in plain)
    assert "[bold]markup[/bold]" in plain
    assert "\\x1b[31mevil\\x1b[0m" in plain


# ------------------------------------------------------------------------------------------------------------ formats


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("which", ALL_CAMPAIGNS)
def test_every_format_writes_every_campaign_the_same_each_time(name: str, which: str) -> None:
    text = say(ALL_CAMPAIGNS[which], name)
    assert isinstance(text, str)
    assert text.endswith("\n") or (name, text) == ("jsonl", "")
    assert not text.endswith("\n\n")
    assert say(ALL_CAMPAIGNS[which], name) == text


def test_json_is_the_whole_record() -> None:
    found = campaign()
    tree = json.loads(to_json(found), parse_constant=pytest.fail)
    assert set(tree) == {"format", *(field.name for field in dataclasses.fields(found))}
    assert (tree["format"], tree["schema_version"], tree["plan"]) == ("ckdiff-campaign", 1, found.plan)
    assert tree["pairs"][3] == dataclasses.asdict(found.pairs[3])
    assert [row["state"] for row in tree["jobs"]] == [one.state for one in found.jobs]
    assert tree["cells"][3] == dataclasses.asdict(found.cells[3])
    ends = ("", "_low", "_high", "_band_low", "_band_high")
    curves = {score + end for score in ("krs", "krs_centred", "krs_kl") for end in ends}
    assert set(tree["runs"][0]) == {"direction", "mode", "variant", "window", "layers", "top1", *curves}
    assert tree["runs"][0]["krs_kl"][0][0] == [*found.runs[0].krs_kl.score[0, 0, :6].tolist(), *[None] * 3]
    assert tree["runs"][0]["krs_kl"][3][1] == found.runs[0].krs_kl.score[3, 1].tolist()
    assert tree["runs"][0]["krs_kl"][1][2] is None
    assert tree["averages"][0]["krs_kl_band_low"] == found.averages[0].krs_kl.band_low.tolist()
    assert tree["averages"][4]["layers"] == list(range(9))
    assert tree["means"][2]["low"] is None
    assert tree["measures"][0]["value"][3] == [*found.measures[0].value[3, :2].tolist(), None]
    assert found.drift is not None
    assert tree["drift"]["relative_l2"][:3] == found.drift.relative_l2[:3].tolist()
    assert tree["drift"]["cosine"][3] == [None, None]
    assert json.loads(to_json(empty_campaign()))["drift"] is None


def test_json_keeps_hostile_names_as_they_are() -> None:
    text = to_json(hostile_campaign())
    assert text.isascii()
    assert "\x1b" not in text
    assert tuple(row["name"] for row in json.loads(text)["pairs"]) == HOSTILE


def rows(found: Campaign) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(to_csv(found))))


def test_csv_has_a_row_for_each_cell_with_all_measures() -> None:
    found = campaign()
    table = rows(found)
    assert [(row["pair"], row["concept"]) for row in table] == [(one.pair, one.concept) for one in found.cells]
    for row, one in zip(table, found.cells, strict=True):
        place = PAIRS.index(one.pair), CONCEPTS.index(one.concept)
        assert (row["label"], row["gate"], row["questions"]) == (one.label, one.gate, str(one.questions))
        for measure in found.measures:
            for end, values in (("", measure.value), ("_low", measure.low), ("_high", measure.high)):
                text = row[measure.name + end]
                assert (text == "") if math.isnan(values[place]) else float(text) == values[place]
    lost = next(row for row in table if (row["pair"], row["concept"]) == ("gd-2", "Ωmega"))
    assert "out of memory" in lost["not_done"]
    assert [row["required"] for row in table[-2:]] == ["false", "false"]
    some = rows(campaign(measures=found.measures[:1]))
    assert list(some[0]) == list(table[0])
    assert some[0]["explained"] == ""


def test_csv_has_no_formula_and_no_control_character() -> None:
    names = ("=1+1", "+cmd", "-2", "@x", 'a,b\n"c"')
    found = campaign(
        pairs=tuple(pair(name, name) for name in names),
        concepts=names,
        cells=tuple(cell(name, name, verdict=name, component=name) for name in names),
        measures=(),
    )
    text = to_csv(found)
    assert all(char.isprintable() or char == "\n" for char in text)
    for row, name in zip(rows(found), names, strict=True):
        for column in ("pair", "group", "concept", "verdict", "component"):
            assert row[column] == (f"'{name}" if name[0] in "=+-@" else 'a,b\\n"c"')
    hostile = to_csv(hostile_campaign())
    assert all(char.isprintable() or char == "\n" for char in hostile)
    assert "'=1+1|<b>" in hostile


def test_markdown_says_what_the_table_says() -> None:
    text = to_markdown(campaign())
    assert text.startswith("## Campaign: wizards\n")
    assert "**exit status 1: 1 of 10 gates failed" in text
    assert (
        "| gd-2 | Harry Potter | suppressed | coefficients, 2-3 | FAILED | 0.31 \\[0.26, 0.36\\] | 0.13 | 0.17 |"
        in text
    )
    assert "- gd-2, Harry Potter: fail.labels: the label is suppressed; require.questions: 3 of 10" in text
    assert "| coeff | open | unsure (7) | 5 | 0.05 \\[-0.05, 0.15\\]" in text
    assert "Concepts are the sampling unit, not questions" in text
    assert "- gd-2, Ωmega, behave: missing: not run" in text
    assert "| npo-2 | npo | /models/base | /models/npo-2 | sha256 abababababab | not hashed |" in text


def test_markdown_tables_have_one_width_whatever_the_names() -> None:
    text = to_markdown(hostile_campaign())
    assert all(char.isprintable() or char == "\n" for char in text)
    assert "<b>" not in text
    assert "[bold]" not in text
    widths: list[int] = []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            widths.append(re.sub(r"\\\\|\\\|", "", line).count("|"))
        else:
            assert len(set(widths)) <= 1, line
            widths = []


# -------------------------------------------------------------------------------------------------------------- JUnit


def suite_of(found: Campaign) -> Any:
    """The suite of a campaign, valid."""
    tree = etree.fromstring(to_junit(found).encode())
    etree.XMLSchema(etree.fromstring(SCHEMA)).assertValid(tree)
    return tree


def ends(suite: Any) -> dict[tuple[str, str], str]:
    return {(case.get("classname"), case.get("name")): case[0].tag for case in suite.findall("testcase")}


@pytest.mark.parametrize("name", ALL_CAMPAIGNS)
def test_every_campaign_is_a_valid_suite_with_right_counts(name: str) -> None:
    suite = suite_of(ALL_CAMPAIGNS[name])
    found = list(ends(suite).values())
    assert len(found) == int(suite.get("tests")) == 1 + len(ALL_CAMPAIGNS[name].cells)
    for attribute, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(suite.get(attribute)) == found.count(kind)


def test_each_case_ends_as_its_gate() -> None:
    found = ends(suite_of(campaign()))
    assert found["ckdiff.campaign", "complete"] == "error"
    assert found["ckdiff.campaign.gd-2", "Harry Potter"] == "failure"
    assert found["ckdiff.campaign.gd-2", "Ωmega"] == "error"
    assert found["ckdiff.campaign.gd-1", "Star Wars"] == "system-out"
    assert found["ckdiff.campaign.npo-2", "Harry Potter"] == "skipped"
    assert found["ckdiff.campaign.npo-2", "Star Wars"] == "error"
    assert set(ends(suite_of(passed_campaign())).values()) == {"system-out"}
    compared = ends(suite_of(compared_campaign()))
    assert compared["ckdiff.campaign.gd-1", "all"] == "skipped"


def test_a_required_job_that_is_missing_is_an_error_even_where_the_gate_passed_and_a_failure_stays_one() -> None:
    found = passed_campaign()
    lost = (job("gd-1", "", "compare", "missing", "not run"), *found.jobs[1:])
    broken = (cell("gd-1", "Harry Potter", "failed"), *found.cells[1:])
    suite = suite_of(dataclasses.replace(found, jobs=lost, cells=broken, complete=False))
    said = ends(suite)
    assert said["ckdiff.campaign.gd-1", "Harry Potter"] == "failure"
    assert said["ckdiff.campaign.gd-1", "Star Wars"] == said["ckdiff.campaign.gd-1", "Ωmega"] == "error"
    assert said["ckdiff.campaign.gd-2", "Star Wars"] == "system-out"
    (failure,) = suite.iter("failure")
    assert "fail.labels: the label is suppressed" in failure.get("message")
    assert "gd-1, compare: missing: not run" in failure.get("message")


def test_names_are_told_apart() -> None:
    found = campaign(
        pairs=(pair("p"),), concepts=("", "all"), cells=(cell("p", ""), cell("p", "all")), measures=(), jobs=()
    )
    assert ("ckdiff.campaign.p", "all 2") in ends(suite_of(found))


def test_properties_say_what_was_judged() -> None:
    found = {row.get("name"): row.get("value") for row in suite_of(campaign()).iter("property")}
    assert found["campaign.outcome"] == "failed"
    assert found["campaign.complete"] == "false"
    assert found["gd-1.base.digest"] == "ab" * 32
    assert found["npo-2.unlearned.digest"] == "not hashed"
    assert found["version.numpy"] == "2.1, 2.2"


def test_hostile_texts_are_escaped_in_junit() -> None:
    text = to_junit(hostile_campaign())
    assert all(char.isprintable() or char == "\n" for char in text)
    assert "<b>" not in text
    assert "\\x1b[31mevil" in "".join(etree.fromstring(text.encode()).itertext())


# ---------------------------------------------------------------------------------------------------------- the door


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    path = tmp_path / "campaign.h5"
    write_campaign(campaign(), path)
    return path


@pytest.mark.parametrize("name", TEXTS)
def test_show_prints_every_format(name: str, stored: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["show", str(stored), "--format", name]) == 0
    said = capfd.readouterr()
    assert said.out == say(campaign(), name)
    assert said.err == ""
    assert isinstance(read_any(stored), type(campaign()))


def test_show_prints_the_table(stored: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["show", str(stored)]) == 0
    assert joined(capfd.readouterr().out).rstrip().endswith(exit_text(campaign()))


def test_a_campaign_has_no_sections(stored: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["show", str(stored), "--section", "probe"]) == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err == f"ckdiff: {stored}: holds a campaign, which has no sections; leave --section and --beside away\n"


@pytest.mark.parametrize("arguments", [("gate", "--policy", "p.toml"), ("verify",)])
def test_commands_about_one_pair_refuse_a_campaign_in_one_line(
    arguments: tuple[str, ...], stored: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(stored.parent)
    (stored.parent / "p.toml").write_text('[fail]\nlabels = ["identical"]\n')
    command, *rest = arguments
    assert run([command, str(stored), *rest]) == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "holds a campaign of 4 pairs" in said.err
