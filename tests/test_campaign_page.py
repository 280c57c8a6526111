"""The page of a campaign: everything is on it, nothing is asked for, and no text becomes markup."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest

from ckdiff.report.hdf5.file import write_campaign
from ckdiff.report.page import write_page
from ckdiff.report.page.document import to_html
from tests import campaigns

if TYPE_CHECKING:
    from pathlib import Path

    from ckdiff.report.schema.campaign import Campaign

HOSTILE = "<script>alert(1)</script>]]>\u202e"


@pytest.fixture(scope="module")
def found() -> Campaign:
    return campaigns.campaign()


def test_every_pair_and_concept_has_a_row(found: Campaign) -> None:
    page = to_html(found)
    rows = re.findall(r"<tr><th scope=\"row\">(.*?)</th><td class=\"w\" data-label=\"concept\">(.*?)</td>", page)
    expected = [(html.escape(cell.pair), html.escape(cell.concept)) for cell in found.cells]
    assert [row for row in rows if row in expected][: len(expected)] == expected
    assert f"Campaign {found.name}" in page


def test_what_was_not_measured_says_so(found: Campaign) -> None:
    assert "not measured" in to_html(found)


def test_jobs_without_a_result_are_listed_with_their_reasons(found: Campaign) -> None:
    page = to_html(found)
    reasons = [job.reason for job in found.jobs if job.state != "done" and job.reason]
    assert reasons
    for reason in reasons:
        assert html.escape(reason.splitlines()[0][:30], quote=True) in page


@pytest.mark.parametrize(
    ("outcome", "complete", "words"),
    [
        ("failed", False, "Failed"),
        ("failed", True, "Failed"),
        ("passed", True, "Passed"),
        ("passed", False, "Not enough evidence"),
        ("inconclusive", True, "Not enough evidence"),
        ("", True, "No gate"),
    ],
)
def test_the_outcome_is_said_as_the_exit_status_says_it(
    found: Campaign, outcome: str, complete: bool, words: str
) -> None:
    page = to_html(replace(found, outcome=outcome, complete=complete))
    assert re.search(r'<p class="label \w+">([^<]+)</p>', page)[1] == words  # type: ignore[index]


def test_text_stays_text(found: Campaign) -> None:
    cells = tuple(
        replace(one, verdict=HOSTILE, checks=HOSTILE, label=HOSTILE, component=HOSTILE) for one in found.cells
    )
    jobs = tuple(replace(one, reason=HOSTILE) for one in found.jobs)
    pairs = tuple(replace(one, base=HOSTILE, unlearned=HOSTILE, group=one.group) for one in found.pairs)
    page = to_html(
        replace(
            found,
            name=HOSTILE,
            plan=HOSTILE,
            cells=cells,
            jobs=jobs,
            pairs=pairs,
            notes=(HOSTILE,),
            versions={HOSTILE: HOSTILE},
        )
    )
    assert "<script>alert" not in page
    assert "\u202e" not in page
    assert page.count("<script>") == 1


def test_the_figures_of_averaged_curves_are_files_inside_the_page(found: Campaign) -> None:
    files = re.findall(r'href="data:text/csv;charset=utf-8,([^"]+)" download="averages-\d+.csv"', to_html(found))
    rows = [line.split(",") for file in files for line in unquote(file).splitlines()]
    drawn = [run for run in found.averages if len(run.layers) > 1]
    assert len(rows) == len(files) + sum(len(run.layers) for run in drawn)
    assert rows[0][:5] == ["mode", "variant", "layer", "krs_kl", "krs_kl_low"]
    expected = {(run.mode, str(layer), run.krs_kl.score[n]) for run in drawn for n, layer in enumerate(run.layers)}
    for mode, _, layer, score, low, high, *_ in (row for row in rows if row[0] != "mode"):
        wanted = pytest.approx(float(score or "nan"), rel=1e-3, nan_ok=True)
        assert any(one[:2] == (mode, layer) and one[2] == wanted for one in expected)
        assert not low or float(low) <= float(score) <= float(high)


def test_the_plan_keeps_its_lines(found: Campaign) -> None:
    assert "\n".join(html.escape(line, quote=True) for line in found.plan.splitlines()).replace(
        "&quot;", "&#34;"
    ) in to_html(found)


def test_nothing_is_asked_for_and_the_same_campaign_gives_the_same_page(found: Campaign) -> None:
    page = to_html(found)
    assert page == to_html(found)
    assert "default-src 'none'" in page.replace("&#x27;", "'")
    assert not re.search(r'(?:src|href)="(?!#|data:)', page)


def test_an_empty_campaign_has_a_page() -> None:
    assert "No gate" in to_html(campaigns.empty_campaign())


def test_six_hundred_rows_are_still_a_page(found: Campaign) -> None:
    pairs = tuple(replace(found.pairs[0], name=f"pair {n}") for n in range(60))
    names = tuple(f"concept {n}" for n in range(10))
    cells = tuple(replace(found.cells[0], pair=pair.name, concept=name) for pair in pairs for name in names)
    page = to_html(replace(found, pairs=pairs, concepts=names, cells=cells, jobs=(), drift=None, measures=()))
    assert len(page) < 1_500_000
    assert all(f"concept {n}<" in page for n in range(10))
    assert page.count("pair 59<") >= 10


def test_a_page_takes_the_place_of_a_page_only(found: Campaign, tmp_path: Path) -> None:
    place = tmp_path / "c.html"
    write_page(found, place)
    write_page(found, place)
    write_campaign(found, tmp_path / "c.h5")
    assert place.read_text(encoding="utf-8") == to_html(found)
