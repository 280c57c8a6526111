"""The page: complete, escaped, self-contained, small, readable by everyone, and written whole or not at all."""

from __future__ import annotations

import base64
import csv
import dataclasses
import hashlib
import itertools
import math
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import numpy as np
import pytest
from jinja2 import UndefinedError

from ckdiff.audit.verdict.verdict import judge
from ckdiff.cli.app import run as command_line
from ckdiff.errors import ReportError
from ckdiff.report import page
from ckdiff.report.hdf5.file import read_report, write_report
from ckdiff.report.page import Source, to_html, write_page
from ckdiff.report.page.compare import BINS, LogBins
from ckdiff.report.page.document import BEGINNING
from ckdiff.report.page.rendering import _ticked, file_text, render
from ckdiff.report.page.svg import BOTTOM, HIGHEST, LEFT, LOWEST, RIGHT, TOP
from ckdiff.report.schema import report as schema
from ckdiff.report.schema.attack import ReturnedAnswer
from ckdiff.report.schema.comparison import COMPONENTS, Grid, LayerAlignment, LowRank
from ckdiff.report.schema.layout import fields_of
from ckdiff.report.schema.probe import SCORES, Curve
from ckdiff.report.schema.verdict import LABELS, OUTCOMES, GateCheck, RuleResult
from ckdiff.report.words.attack import BORROWED_NOTE
from ckdiff.report.words.headlines import HEADLINES, TO_DO, UNFIT
from ckdiff.report.words.intervals import WIDER, means_text
from ckdiff.report.words.names import pair_names, pair_title
from ckdiff.report.words.numbers import UNDEFINED
from ckdiff.report.words.summary import in_short
from ckdiff.report.words.terms import TERMS
from ckdiff.report.words.verdict import SHARES_LEGEND
from tests import reports
from tests.reports import (
    attack_row,
    attacks,
    behaviour,
    behaviour_beside,
    comparison,
    depth,
    discovery,
    gate,
    probe,
    report,
    run,
    verdict,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ckdiff.report.schema.probe import ProbeRun
    from ckdiff.report.schema.report import Report
    from ckdiff.report.schema.verdict import Knowledge, Label, Outcome

SCHEMA = ("attack", "behaviour", "comparison", "depth", "discovery", "probe", "verdict")
CSV = "data:text/csv;charset=utf-8,"
VOID = {"meta", "link", "br", "hr"}
SVG = {"svg", "defs", "g", "path", "text", "circle", "use", "title"}


@dataclasses.dataclass
class Element:
    name: str
    attributes: dict[str, str | None]
    children: list[Element | str] = dataclasses.field(default_factory=list)

    def walk(self) -> Iterator[Element]:
        yield self
        for child in self.children:
            if isinstance(child, Element):
                yield from child.walk()

    def all(self, name: str, **attributes: str) -> list[Element]:
        wanted = {key.rstrip("_"): value for key, value in attributes.items()}
        found = [one for one in self.walk() if one.name == name]
        return [one for one in found if all(one.attributes.get(key) == value for key, value in wanted.items())]

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)


class Reader(HTMLParser):
    """A tree of a page, with an error where an element is not closed by its own end tag."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Element("", {})
        self.open = [self.root]
        self.feed(text)
        self.close()
        assert self.open == [self.root], [one.name for one in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), (tag, attrs)
        found = Element(tag, dict(attrs))
        self.open[-1].children.append(found)
        if tag not in VOID:
            self.open.append(found)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in SVG, tag
        self.open[-1].children.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().name == tag

    def handle_data(self, data: str) -> None:
        self.open[-1].children.append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data}")

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(f"a declaration: {data}")


def tree(found: Report) -> Element:
    return Reader(to_html(found)).root


def full(**changes: Any) -> Report:
    """A report with everything that a schema holds."""
    moved = LayerAlignment(
        layer=3, kind="neurons", units=64, moved=60, rescaled=2, cosine_before=0.1, cosine_after=0.99
    )
    ranked = LowRank("model.layers.3.mlp.down_proj.weight", 1, 64, 1.0)
    compared, said = comparison(alignment=(moved,), low_rank=(ranked,)), behaviour_beside()
    found = report(compared, probe(), said, None, attacks(), depth())
    return dataclasses.replace(found, discovery=discovery(), verdict=verdict(gate=gate()), **changes)


def whole_run(mode: str = "coeff", direction: str = "restore", score: float = 0.83) -> ProbeRun:
    return run(mode, "whole", direction, ([score], [score - 0.1], [score - 0.2]))


ODD: dict[str, Callable[[], Report]] = {
    "full": full,
    "nothing": lambda: report(None),
    "compared": lambda: report(comparison()),
    "no layer": lambda: report(comparison(0)),
    "empty": lambda: report(reports.empty_comparison(), reports.empty_probe(), reports.empty_behaviour()),
    "undefined": lambda: report(comparison(1), reports.undefined_probe(), reports.undefined_behaviour()),
    "identical": lambda: report(reports.identical_comparison()),
    "hostile": lambda: dataclasses.replace(
        reports.hostile_report(),
        probe=reports.hostile_probe(),
        behaviour=reports.hostile_behaviour(),
        verdict=reports.hostile_verdict(),
    ),
    "interrupted": lambda: full(complete=False),
    "one window": lambda: report(None, probe(runs=(run(layers=np.array([7])),))),
    "no windows": lambda: report(None, probe(runs=(run(scores=((), (), ()), layers=np.zeros(0, "i8")),))),
}


# --------------------------------------------------------------------------------------------------------- structure


@pytest.mark.parametrize("name", ODD)
def test_every_report_gives_a_sound_page(name: str) -> None:
    found = tree(ODD[name]())
    ids = [one.attributes["id"] for one in found.walk() if "id" in one.attributes]
    assert len(ids) == len(set(ids))
    targets = [one.attributes["href"] for one in found.walk() if "href" in one.attributes and one.name != "link"]
    assert {one for one in targets if one and not one.startswith(CSV)} <= {f"#{name}" for name in ids}
    levels = [int(one.name[1]) for one in found.walk() if re.fullmatch("h[1-6]", one.name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(levels)), levels
    for one in found.walk():
        if one.name == "svg":
            assert one.attributes.get("aria-hidden") == "true" or one.attributes["aria-label"]
        if one.name == "table":
            assert one.attributes.get("aria-label") or one.all("caption")
            widths = {sum(child.name in ("th", "td") for child in row.walk()) for row in one.all("tr")}
            assert len(widths) == 1, one.all("caption")[0].text
        if one.name == "th":
            assert one.attributes["scope"] in ("row", "col")
        if one.name == "details":
            assert isinstance(one.children[0], Element)
            assert one.children[0].name == "summary"
        if one.name in ("th", "summary", "a", "h1", "h2", "h3"):
            assert one.text.strip(), one


def test_the_parts_stand_in_their_order() -> None:
    found = tree(full())
    names = [one.text for one in found.all("h2")]
    assert names == [
        *(
            "Verdict",
            "Answers side by side",
            "How it was judged",
            "What was compared",
            "Does it come back",
            "How deep it goes",
            "What was lost, without being told",
            "What moved",
            "Where the effect lives",
            "Neurons",
        ),
        *("How it was unlearned", "Controls", "Provenance", "Method and limits"),
    ]
    assert [one.text for one in found.all("nav")[0].all("a")] == names
    assert found.all("title")[0].text.startswith("SUPPRESSED")


def badges(found: Element) -> list[tuple[str | None, str]]:
    """The class and the text of each badge of the first part."""
    first = found.all("section", id="verdict")[0]
    return [
        (one.attributes["class"], one.text)
        for one in first.walk()
        if (one.attributes.get("class") or "").startswith("label")
    ]


@pytest.mark.parametrize("label", LABELS)
def test_the_verdict_comes_first_and_says_why(label: Label) -> None:
    given = verdict(label, gate=gate())
    found = tree(dataclasses.replace(full(), verdict=given))
    first, judged = (found.all("section", id=name)[0] for name in ("verdict", "judgement"))
    assert badges(found) == [
        ("label solid failed", "✗ Gate: failed"),
        ("label inconclusive", "Knowledge: unknown"),
    ]
    titles = [one.text for one in first.walk() if one.attributes.get("class", "") == "title"]
    assert titles == [f"{label}: {HEADLINES[label].title}"]
    caution = HEADLINES[label].action.removeprefix(UNFIT).lstrip(":. ")
    for words in (caution[1:], *given.side_effects, "0 of 1 unrelated answer changed as well"):
        assert words in first.text
    assert given.reason in judged.text
    for rule in given.rules:
        (folded,) = (one for one in judged.all("details")[1:] if rule.text in one.text)
        assert ("not hold" in folded.all("summary")[0].text) is not rule.fired, rule.name
    assert gate().digest in judged.text


def test_failed_checks_come_first_and_passed_ones_are_folded() -> None:
    given = dataclasses.replace(gate(), checks=gate().checks[::-1])
    found = tree(dataclasses.replace(full(), verdict=verdict(gate=given)))
    first, judged = (found.all("section", id=name)[0] for name in ("verdict", "judgement"))
    outcomes = [one.outcome for one in given.checks]
    assert outcomes == ["inconclusive", "failed", "passed"]
    marks = [row.all("th")[0].text.split()[1] for row in judged.all("table")[0].all("tbody")[0].all("tr")]
    assert marks == ["failed", "not"]
    assert "1 of 3 checks failed, 1 lacks evidence" in first.text
    assert [one.text.split()[1] for one in first.all("li") if one.all("span")] == ["failed:", "not"]
    for check in given.checks:
        folded = [one for one in judged.all("details")[1:] if check.text in one.text]
        assert bool(folded) is (check.outcome == "passed")
        assert (check.text in first.text) is (check.outcome != "passed")


def test_a_long_list_of_what_lacks_evidence_is_folded_where_something_failed() -> None:
    failed, lacking = gate().checks[1:]
    for checks, count in (((lacking,) * 3, 0), ((failed, *(lacking,) * 2), 0), ((failed, *(lacking,) * 3), 1)):
        given = verdict(gate=dataclasses.replace(gate(), checks=checks), lacking=())
        first = tree(dataclasses.replace(full(), verdict=given)).all("section", id="verdict")[0]
        assert len(first.all("details")) == count
        assert first.text.count(lacking.text) == checks.count(lacking)
        assert (first.text.index(failed.text) < first.text.index(lacking.text)) if failed in checks else True


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_finding_and_gate_are_two_badges_and_what_to_do_follows_the_gate(outcome: Outcome) -> None:
    """A policy may pass what is still there: no colour of the gate says anything about the model."""
    for knowledge, colour in (("still there", "failed"), ("gone", "passed"), ("not recovered", "inconclusive")):
        given = verdict(
            gate=gate(outcome=outcome, notes=("passes anything",)), knowledge=knowledge, lacking=("a test",)
        )
        found = tree(dataclasses.replace(full(), verdict=given))
        first = found.all("section", id="verdict")[0]
        (gated, _), (finding, words) = badges(found)
        assert (gated, finding) == (f"label solid {outcome}", f"label {colour}")
        assert words == f"Knowledge: {knowledge}"
        assert "passes anything" in found.all("section", id="judgement")[0].text
        assert "a test" in first.text
        assert TO_DO[outcome].strip() in first.text
        (short,) = (one.text for one in first.all("p") if one.attributes.get("class") == "short")
        assert short == in_short(full(), given)
        assert first.text.index(short) < first.text.index("Gate: ")
        assert sum(words.strip() in first.text for words in TO_DO.values()) == 1


def test_the_first_screen_has_three_answers_that_lead_to_the_rest() -> None:
    found = tree(full())
    first = found.all("section", id="verdict")[0]
    shown = [one for one in first.all("div") if one.attributes.get("class") == "qa"]
    assert [one.all("a")[0].text for one in shown] == ["Who is 哈利?", "Who wrote it?", "Who are his friends?"]
    assert [one.text for one in shown[1].all("p")[1:]] == ["J. K. Rowling wrote it.", "I do not know who wrote it."]
    for one in shown:
        (link,) = one.all("a")
        (article,) = found.all("article", id=(link.attributes["href"] or "")[1:])
        assert article.all("h4")[0].text.startswith(link.text)
    target, unrelated = behaviour().answers
    for answers, stem in ((target, "question"), (unrelated, "unrelated-question")):
        for number, question in enumerate(answers.questions, 1):
            assert found.all("article", id=f"{stem}-{number}")[0].all("h4")[0].text.startswith(question.text)
    asked = [row.all("th")[0].text for row in found.all("tr", id="scored-question-2")]
    assert asked == [probe().questions[1].text]
    assert tree(report(comparison(), probe(), behaviour())).all("section", id="verdict")[0].all("a")


def test_without_a_verdict_the_page_says_how_to_get_one() -> None:
    first = tree(report(comparison(), probe())).all("section", id="verdict")[0]
    for words in ("No verdict", "ckdiff audit BASE UNLEARNED", "ckdiff gate REPORT", "is not said on this page"):
        assert words in first.text
    assert "inconclusive" not in first.text
    failed = tree(report(None, probe(controls=reports.controls(passed=False)))).all("section", id="verdict")[0]
    assert "The probe is inconclusive: a control failed." in failed.text


def test_what_stands_between_ticks_is_to_be_typed() -> None:
    """Escaped like everything else; a tick alone stays."""
    assert str(_ticked("do `a <b>` & `c`, or d")) == "do <code>a &lt;b&gt;</code> &amp; <code>c</code>, or d"
    assert str(_ticked("it`s `a` so")) == "it<code>s </code>a` so"
    assert str(_ticked("one ` tick")) == "one ` tick"
    found = tree(dataclasses.replace(full(), verdict=verdict(lacking=("more facts (`ckdiff attack <x>`)",))))
    assert "ckdiff attack <x>" in [one.text for one in found.all("section", id="verdict")[0].all("code")]


def test_without_a_policy_the_page_says_so() -> None:
    found = tree(dataclasses.replace(full(), verdict=verdict()))
    assert "No policy was given" in found.all("section", id="judgement")[0].text
    assert badges(found) == [("label none", "No gate"), ("label inconclusive", "Knowledge: unknown")]


def test_what_was_not_measured_is_in_the_coverage() -> None:
    given = tree(full()).all("section", id="coverage")[0].text
    assert verdict().unmeasured[0].replace("`", "") in given
    bare = tree(report(comparison())).all("section", id="coverage")[0].text
    for command in ("ckdiff probe", "ckdiff behave"):
        assert command in bare
    assert "only in unlearned (5)" in bare
    assert "Not complete." in tree(ODD["interrupted"]()).text


# ----------------------------------------------------------------------------------------------------------- heatmap


def heat_cells(found: Element) -> list[list[Element]]:
    (heat,) = found.all("table", class_="heat")
    return [row.all("td") for row in heat.all("tbody")[0].all("tr")]


def test_the_heatmap_says_every_figure_of_the_grid() -> None:
    grid = comparison().grid
    cells = heat_cells(tree(full()))
    assert len(cells) == len(grid.layers)
    for row, layer in zip(cells, grid.layers.tolist(), strict=True):
        for column, (cell, name) in enumerate(zip(row, grid.components, strict=True)):
            title = cell.attributes["title"] or ""
            assert title.startswith(f"layer {layer}, {name}: ")
            value, changed = grid.one_minus_cosine[column, layer], grid.changed_fraction[column, layer]
            if changed == 0:
                assert (cell.attributes["class"], cell.text) == ("same", "=")
            else:
                assert f"1-cos {value:.1e}" in title
                assert float(cell.text) == float(f"{value:.0e}")


def test_one_cell_of_the_heatmap_is_reached_by_tab() -> None:
    cells = [cell for row in heat_cells(tree(full())) for cell in row]
    assert Counter(cell.attributes["tabindex"] for cell in cells) == {"0": 1, "-1": len(cells) - 1}


def odd_grid(values: list[float], changed: list[float]) -> Grid:
    row = np.array([values])
    return Grid(("keys",), np.arange(len(values)), 1 - row, row, np.sqrt(2 * np.abs(row)), np.array([changed]))


def test_colours_are_steps_of_equal_ratio() -> None:
    values = [10.0**-power for power in range(16, 0, -1)]
    scale = LogBins(np.array(values))
    # 16 powers of ten from 1e-16 to 0.1 are 15 decades; a step is 15/8 of one.
    expected = [min(BINS - 1, int((math.log10(value) + 16) * BINS / 15 + 1e-9)) for value in values]
    assert [scale.place(value) for value in values] == expected
    assert expected[0] == 0
    assert expected[-1] == BINS - 1


def test_each_component_has_a_scale_of_its_own() -> None:
    small, large = 10.0 ** -np.arange(12, 9, -1.0), 10.0 ** -np.arange(5, 2, -1.0)
    values = np.array([small, large])
    grid = Grid(("norms", "keys"), np.arange(3), 1 - values, values, values, np.ones_like(values))
    found = tree(report(dataclasses.replace(comparison(), grid=grid)))
    assert [[cell.attributes["class"] for cell in row] for row in heat_cells(found)] == [
        *(["h0", "h0"], ["h4", "h4"], ["h7", "h7"]),
    ]
    (heat,) = found.all("table", class_="heat")
    ends = [[cell.text for cell in row.walk() if cell.name in ("th", "td")] for row in heat.all("tfoot")[0].all("tr")]
    assert ends == [["least", "1e-12", "1e-5"], ["greatest", "1e-10", "1e-3"]]


def test_a_component_whose_least_and_greatest_look_alike_has_another_digit() -> None:
    near, far, alone = (LogBins(np.array(values)) for values in ([1.1e-4, 1.2e-4], [1.1e-4, 3e-4], [2e-7]))
    assert (near.ends, near.say(1.13e-4), near.say(0.0)) == (("1.1e-4", "1.2e-4"), "1.1e-4", "0")
    assert (far.ends, far.say(1.15e-4)) == (("1e-4", "3e-4"), "1e-4")
    assert alone.ends == ("2e-7", "2e-7")


def test_the_figures_behind_the_heatmap_are_a_file_inside_the_page() -> None:
    (link,) = (one for one in tree(full()).all("a") if "download" in one.attributes)
    assert link.attributes["download"] == "heatmap.csv"
    lines = unquote((link.attributes["href"] or "").removeprefix(CSV)).splitlines()
    grid = comparison().grid
    assert lines[0] == "component,layer,one_minus_cosine,relative_l2,changed_fraction"
    assert len(lines) == 1 + grid.changed_fraction.size
    name, layer, *figures = lines[2].split(",")
    assert (name, int(layer)) == (grid.components[0], grid.layers[1])
    expected = [values[0, 1] for values in (grid.one_minus_cosine, grid.relative_l2, grid.changed_fraction)]
    assert [float(one) for one in figures] == pytest.approx(expected, rel=1e-3)
    bad = dataclasses.replace(comparison(), grid=dataclasses.replace(grid, components=("=1+1", *grid.components[1:])))
    assert "%0A%27%3D1%2B1,0," in to_html(report(bad))


def test_identical_missing_undefined_and_zero_cells_look_different() -> None:
    nan = math.nan
    found = dataclasses.replace(comparison(), grid=odd_grid([0.0, nan, nan, 0.0, 1e-6], [0.0, nan, 0.5, 1e-9, 1.0]))
    cells = [row[0] for row in heat_cells(tree(report(found)))]
    assert [(cell.attributes["class"], cell.text) for cell in cells] == [
        *(("same", "="), ("none", UNDEFINED), ("odd", "?"), ("h0", "0"), ("h7", "1e-6")),
    ]
    assert "not defined" in (cells[2].attributes["title"] or "")


# ------------------------------------------------------------------------------------------------------------ curves


def points(path: str) -> list[tuple[float, float]]:
    """Corners of a path of `M x y`, `L x y`, `l dx dy` and `h0`, in its own coordinates."""
    found: list[tuple[float, float]] = []
    for kind, numbers in re.findall(r"([MLlhz])([-\d ]*)", path):
        values = [float(value) for value in re.findall(r"-?\d+", numbers)]
        if kind in "ML":
            found.append((values[0], values[1]))
        elif kind == "l":
            found.append((found[-1][0] + values[0], found[-1][1] + values[1]))
    return found


def test_curves_are_drawn_where_their_numbers_are() -> None:
    found = run(scores=(reports.bump(6, 5, 0.95), reports.bump(6, 2, 0.55), reports.bump(6, 2, 0.62)))
    (figure,) = tree(report(None, probe(runs=(found,)))).all("figure")
    per_pixel = (HIGHEST - LOWEST) / (BOTTOM - TOP)
    for name, kind in (("krs_kl", "kl"), ("krs_centred", "ce"), ("krs", "raw")):
        (line,) = figure.all("path", class_=f"l {kind}")
        curve: Curve = getattr(found, name)
        drawn = points(line.attributes["d"] or "")
        assert len(drawn) == 6
        for layer, ((x, y), score) in enumerate(zip(drawn, curve.score, strict=True)):
            assert LOWEST + (BOTTOM - y) * per_pixel == pytest.approx(score, abs=per_pixel)
            assert x == pytest.approx(LEFT + (layer + 0.5) * (RIGHT - LEFT) / 6, abs=0.51)
    # The area goes along the low ends and back along the high ones.
    area = points(figure.all("path", class_="i kl")[0].attributes["d"] or "")
    around = [*found.krs_kl.low, *found.krs_kl.high[::-1]]
    assert [LOWEST + (BOTTOM - y) * per_pixel for _, y in area] == pytest.approx(around, abs=per_pixel)
    assert [x for x, _ in area] == [x for x, _ in drawn] + [x for x, _ in drawn][::-1]
    band = points(figure.all("path", class_="b kl")[0].attributes["d"] or "")
    ends = [*found.krs_kl.band_low, *found.krs_kl.band_high]
    assert [LOWEST + (BOTTOM - y) * per_pixel for _, y in band] == pytest.approx(ends, abs=per_pixel)


def test_every_window_says_all_three_scores_with_intervals() -> None:
    found = probe().runs[0]
    figure = tree(full()).all("figure")[0]
    strips = figure.all("g", class_="strips")[0].all("path")
    assert [one.attributes.get("tabindex") for one in strips] == [None, None, "0", None, None, None]
    assert [one.attributes["id"] for one in strips] == [f"window-restore-coeff-open-{n}" for n in range(6)]
    assert strips[2].text == (
        "layers 1-3: krs_kl 0.62 [0.57, 0.67], krs_centred 0.55 [0.50, 0.60], krs 0.10 [0.05, 0.16]"
    )
    assert len(strips) == len(found.layers)
    rows = figure.all("tbody")[0].all("tr")
    assert [cell.text for cell in (*rows[2].all("th"), *rows[2].all("td"))][:4] == [
        *("1-3", "0.62", "0.57, 0.67", "0.52, 0.72"),
    ]


def test_every_window_has_an_address_of_its_own() -> None:
    scores = (reports.bump(6, 2, 0.9),) * 3
    wide = dataclasses.replace(run(scores=scores), window=5)
    again = dataclasses.replace(wide)
    runs = run(scores=scores), wide, run(variant="isolated", scores=scores), run("<b>", scores=scores), again
    found = tree(report(None, probe(runs=runs)))
    ids = [one.attributes["id"] or "" for group in found.all("g", class_="strips") for one in group.all("path")]
    assert len(set(ids)) == len(ids) == sum(len(one.layers) for one in runs)
    stems = {one.rpartition("-")[0] for one in ids}
    assert stems == {
        *("window-restore-coeff-open", "window-restore-coeff-open-of-5", "window-restore-coeff-isolated"),
        *("window-run-4", "window-run-5"),
    }


def test_the_head_says_who_judged_by_which_version_and_what_its_maker_notes() -> None:
    judged, bare = dataclasses.replace(full(), verdict=verdict(gate=gate())), report(comparison())
    head = tree(judged).all("header")[0].text
    digest = gate().digest[:12]
    assert f"Judged by the policy audit.toml, sha256 {digest}; ckdiff {judged.versions['ckdiff']}" in head
    assert "Judged by no policy; ckdiff " in tree(bare).all("header")[0].text
    assert "M. Meier" not in head
    noted = to_html(judged, note="M. Meier <b>, 28 Nov 2026")
    assert '<p class="pair">M. Meier &lt;b&gt;, 28 Nov 2026</p>' in noted
    assert noted != to_html(judged) == to_html(judged, note="")


@pytest.mark.parametrize(
    ("exact", "said"), [(True, "Every answer is as before"), (False, "fewest words with the base")]
)
def test_the_order_of_answers_is_said_as_it_is(exact: bool, said: str) -> None:
    given = reports.answer("Who?", "I", "I", 1.0), reports.answer("Where?", "a b", "a b", 1.0)
    rows = [dataclasses.replace(one, exact=exact or not n) for n, one in enumerate(given)]
    page = tree(report(None, None, behaviour(answers=(reports.answer_set("unrelated", *rows),)))).text
    assert said in page
    assert "Answers that changed most" not in page


def test_one_score_has_two_bands_where_a_verdict_stands_beside_and_that_is_said() -> None:
    alone = report(None, probe())
    judged = dataclasses.replace(alone, verdict=verdict(gate=gate()))
    assert (WIDER in tree(alone).text, WIDER in tree(judged).text) == (False, True)
    assert "over all modes and windows of a direction" in SHARES_LEGEND


def test_paper_holds_every_part_and_what_was_opened() -> None:
    """`benchmarks/page.mjs` prints it in a browser; this holds what does it."""
    page = to_html(full())
    print_style = page[page.index("@media print") :]
    for rule in (
        "thead{display:table-header-group}",
        ".wide::details-content{content-visibility:visible}",
        "details:not(.wide):not([open])",
        ".long tbody tr:nth-child(n+9 of :not([hidden])){display:none}",
    ):
        assert rule in print_style
    assert ".paper,.more{display:none}" in page.partition("@media print")[0]
    sections = {one.attributes["id"]: one.attributes.get("class") for one in tree(full()).all("section")}
    assert {name for name, kind in sections.items() if kind == "screen"} == {"neurons", "history"}
    assert "not printed: Neurons, How it was unlearned." in page
    assert "not printed" not in to_html(report(None))
    assert "counter(page)" in page
    assert 'addEventListener("beforeprint"' in page
    assert 'addEventListener("afterprint"' in page


@pytest.mark.parametrize(("count", "more"), [(10, 0), (11, 3), (40, 32)])
def test_paper_has_the_first_rows_of_a_long_table_and_says_how_many_more(count: int, more: int) -> None:
    checks = tuple(
        GateCheck(f"fail.{n}", outcome, "text", 1.0, 1.0) for outcome in ("failed", "passed") for n in range(count)
    )
    found = tree(report(None, verdict=verdict(gate=gate(checks=checks))))
    said = [one.text for one in found.all("p") if "more" in (one.attributes.get("class") or "").split()]
    # What failed is printed in whole.
    assert said == ([f"{more} rows more: in the report, not on paper."] if more else [])
    long = [one for one in found.all("table") if "long" in (one.attributes.get("class") or "").split()]
    assert len(long) == bool(more)


def test_a_narrow_screen_opens_part_by_part() -> None:
    first, *others = tree(full()).all("section")
    assert not [one for one in first.all("details") if one.attributes.get("class") == "wide"]
    for section in others:
        heading, folded = section.children
        assert isinstance(folded, Element)
        assert isinstance(heading, Element)
        assert (folded.attributes.get("class"), "open" in folded.attributes) == ("wide", True)
        # Each screen has one of the two: its style leaves the other out.
        assert heading.attributes["class"] == "roomy"
        assert folded.all("summary")[0].text == heading.text


def test_gaps_and_far_values_are_seen() -> None:
    scores = [0.5, math.nan, 0.25, 0.25, -7.0, math.inf]
    found = run(scores=(scores, scores, scores))
    (figure,) = tree(report(None, probe(runs=(found,)))).all("figure")
    assert (figure.all("path", class_="l kl")[0].attributes["d"] or "").count("M") == 2
    assert "6 scores beyond the drawing, at its edge." in figure.text
    drawn = points(figure.all("path", class_="l kl")[0].attributes["d"] or "")
    assert [y for _, y in drawn][-2:] == [BOTTOM, TOP]


def test_a_score_for_the_whole_model_is_a_row_and_no_curve() -> None:
    runs = (whole_run(), whole_run(direction="break", score=0.41), *probe().runs)
    section = tree(report(None, probe(runs=runs))).all("section", id="scores")[0]
    rows = [[cell.text for cell in (*row.all("th"), *row.all("td"))] for row in section.all("tr")]
    assert ["coeff", "whole", "0.63 [0.58, 0.68]", "", "0.73 [0.68, 0.78]", "0.83 [0.78, 0.88]", "63.0 %"] in rows
    assert any(row[:3] == ["coeff", "whole", "0.21 [0.16, 0.26]"] for row in rows)
    assert any(row[:2] == ["ancillary", "open"] for row in rows)
    assert len(section.all("figure")) == 4


# ------------------------------------------------------------------------------------------- answers, neurons, controls


def test_what_came_back_is_evidence_first_and_what_borrowed_from_the_base_says_so() -> None:
    blend = [ReturnedAnswer("blend", "50% of the way", -1, "unlearned", question, "said") for question in (0, 1)]
    again = ReturnedAnswer("forms", "plain", -1, "base", 1, "said")
    found = attacks(returned=(*blend, *attacks().returned, again))
    page = tree(report(comparison(), attack=found))
    rows = {
        table.attributes["aria-label"]: [
            [cell.text for cell in (*row.all("th"), *row.all("td"))][:3] for row in table.all("tbody")[0].all("tr")
        ]
        for table in page.all("table")
        if (table.attributes.get("aria-label") or "").startswith("What came back")
    }
    assert rows == {
        "What came back": [["forms", "as asked", "Who wrote it?"]],
        "What came back only with help": [["blend", "50% of the way", "Where is it?"]],
    }
    assert BORROWED_NOTE in page.text
    own = tree(report(comparison(), attack=attacks()))
    assert BORROWED_NOTE not in own.text
    lent = tree(report(comparison(), attack=attacks(returned=tuple(blend))))
    assert [one.text for one in lent.all("h3") if "came back" in one.text] == ["What came back only with help"]


@pytest.mark.parametrize(("knowledge", "told"), [("still there", True), ("unknown", False)])
def test_the_section_on_attacks_says_no_less_than_the_verdict(knowledge: Knowledge, told: bool) -> None:
    none = attacks(tiers=tuple(dataclasses.replace(one, returned=0) for one in attacks().tiers))
    rules = (RuleResult("matched", True, "0.4 % fit as well", 0.004, 0.01, "at_most"),)
    given = verdict(gate=gate(), knowledge=knowledge, rules=rules, lacking=())
    page = tree(report(comparison(), attack=none, verdict=given))
    attack, first = (page.all("section", id=name)[0].text for name in ("attack", "verdict"))
    assert "no answer came back word for word" in attack
    assert ("but right answers are told from wrong ones" in attack) is told
    assert ("No answer came back as text, but it tells the right answers from the wrong ones" in first) is told
    assert "gives it away" not in page.text
    assert ("With NEW for the new model and FILE for the questions: ckdiff audit /models/base NEW" in first) is told


@pytest.mark.parametrize(
    ("tried", "said", "left"),
    [
        ((), "token by token. Sampling, some other wordings, rounded weights, a few steps of training,", ""),
        (("samples",), "The attacks also tried sampling. Some other wordings, rounded", "Sampling"),
        (
            ("samples", "forms", "quantise", "relearn"),
            "a few steps of training. Other languages, wordings that",
            "Samp",
        ),
    ],
)
def test_the_limits_name_what_was_not_tried(tried: tuple[str, ...], said: str, left: str) -> None:
    rows = tuple(attack_row(name, 0, "plain") for name in tried)
    unmeasured = attack_row("relearn", 2, "not measured", returned=-1), attack_row("samples", 0, "16", side="base")
    method = tree(report(comparison(), attack=attacks(rows=(*rows, *unmeasured)))).all("section", id="method")[0].text
    assert said in " ".join(method.split())
    assert not left or f"{left}ing, some" not in method
    assert "Answers are greedy" not in method


def test_answers_that_changed_come_first_side_by_side() -> None:
    section = tree(full()).all("section", id="answers")[0]
    asked = [one.text for one in section.all("h4")]
    assert asked[:4] == [
        f"{words} #" for words in ("Who is 哈利?", "Who wrote it?", "Who are his friends?", "Where is Hogwarts?")
    ]
    wrote = section.all("article")[1]
    base, unlearned = (one for one in wrote.all("div") if one.attributes.get("class") == "side")
    # Four words of the base's answer are gone, and "wrote it." stays; on the other side six are new.
    assert [one.text for one in base.all("del")] == ["J. K. Rowling"]
    assert [one.text for one in unlearned.all("ins")] == ["I do not know who"]
    assert base.text == "baseJ. K. Rowling wrote it."
    assert {one.name for one in base.walk()} & {"del", "ins"} == {"del"}
    assert {one.name for one in unlearned.walk()} & {"del", "ins"} == {"ins"}


def test_a_long_list_is_cut_and_says_so() -> None:
    many = tuple(reports.answer(f"Question {n}?", "yes " * 140, "no " * 140, 0.0) for n in range(400))
    found = behaviour(answers=(reports.answer_set("target", *many),))
    text = to_html(report(None, None, found))
    shown = text.count("<article")
    assert 20 < shown < 400
    assert f"{400 - shown} answers more: in the report, not on this page." in text
    assert len(text) < 400_000


def test_neuron_sets_and_controls_are_told() -> None:
    found = tree(full())
    neurons = found.all("section", id="neurons")[0].text
    assert "0.50 [0.41, 0.66]" in neurons
    assert "2/17" in neurons
    failing = report(None, probe(controls=reports.controls(passed=False)))
    lines = [one.text for one in tree(failing).all("section", id="controls")[0].all("li")]
    assert [line.split()[1] for line in lines[:4]] == ["failed", "failed", "passed", "passed"]


def test_provenance_names_digests_revisions_versions_and_settings() -> None:
    section = tree(full()).all("section", id="provenance")[0].text
    for words in (
        "cd" * 32,
        "ab" * 32,
        "main",
        "/models/base",
        "b-ü.safetensors",
        "not hashed",
        "ckdiff 0.1",
        "tokens",
    ):
        assert words in section


# ---------------------------------------------------------------------------------------------------------- escaping


ATTACKS = (
    "<script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</style><img src=x onerror=alert(1)>",
    '"\' onfocus=alert(1) autofocus x="',
    "]]><!--",
    "javascript:alert(1)",
    "</title></svg></table></details><h1>",
    "\u202e\u2066gnp\u200b\ufeff",
    "\x00\x1b[31m\r\n\ud800&lt;&#60;",
    "data:text/html,<script>",
)


def free(found: Any) -> list[str]:
    """The fields of a record that may hold any text: not those that hold one of some known words."""
    fixed = {field.path[0] for field in fields_of(type(found)) if field.known}
    return [field.name for field in dataclasses.fields(found) if field.name not in fixed]


def attacked(found: Any, path: str, seen: dict[str, str]) -> Any:
    """The record with every free text replaced by an attack that carries its path; each is noted in `seen`."""
    if isinstance(found, str):
        seen[path] = f"{path}{' '.join(ATTACKS)}"
        return seen[path]
    if isinstance(found, tuple):
        return tuple(attacked(one, f"{path}.{n}", seen) for n, one in enumerate(found))
    if isinstance(found, Mapping):
        pairs = [
            (attacked(key, f"{path}.key", seen), attacked(one, f"{path}.{key}", seen)) for key, one in found.items()
        ]
        return {f"{key} {n}" if n else key: one for n, (key, one) in enumerate(pairs)}
    if dataclasses.is_dataclass(found) and not isinstance(found, type):
        changes = {name: attacked(getattr(found, name), f"{path}.{name}", seen) for name in free(found)}
        return dataclasses.replace(found, **changes)
    return found


def records(found: Any) -> set[type]:
    """Every kind of record in a report."""
    if isinstance(found, tuple):
        return set().union(*map(records, found))
    if isinstance(found, Mapping):
        return records(tuple(found.values()))
    if dataclasses.is_dataclass(found) and not isinstance(found, type):
        return {type(found)}.union(*(records(getattr(found, field.name)) for field in dataclasses.fields(found)))
    return set()


def test_the_full_report_has_every_record_of_the_schema() -> None:
    modules = (schema, *(import_module(f"{schema.__package__}.{name}") for name in SCHEMA))
    known = {
        one
        for module in modules
        for one in vars(module).values()
        if isinstance(one, type) and dataclasses.is_dataclass(one)
    }
    assert records(full()) == known


def is_csv(one: Element) -> bool:
    """Whether it is a link to a table inside the page, whose cells no spreadsheet runs."""
    href = one.attributes.get("href") or ""
    cells = [cell for line in unquote(href.removeprefix(CSV)).splitlines() for cell in next(csv.reader([line]))]
    return (
        "download" in one.attributes and href.startswith(CSV) and not any(cell[:1] in "=+@" for cell in cells if cell)
    )


def assert_harmless(text: str, sound: Element) -> None:
    """Nothing of a report became markup: one script, ours; no handler; no address but parts of the page."""
    found = Reader(text).root
    names = {one.name for one in found.walk()}
    assert names <= {one.name for one in sound.walk()} | {"i"}
    (script,) = found.all("script")
    assert script.text == (Path(page.__file__).parent / "page.js").read_text()
    for one in found.walk():
        assert not any(name.startswith("on") or name in ("style", "srcdoc", "src") for name in one.attributes), one
        href = one.attributes.get("href")
        assert href is None or href.startswith("#") or (one.name == "link" and href == "data:,") or is_csv(one)
        assert one.name not in ("iframe", "img", "object", "embed", "form", "base", "input")
    assert [one.attributes.get("name", one.attributes.get("http-equiv", "charset")) for one in found.all("meta")] == [
        *("charset", "generator", "Content-Security-Policy", "viewport", "color-scheme", "referrer"),
    ]
    bad = {char for char in text if not char.isprintable()}
    assert bad == {"\n"}
    text.encode("utf-8")


def test_every_text_of_the_schema_is_escaped() -> None:
    seen: dict[str, str] = {}
    found = attacked(full(), "R", seen)
    assert len(seen) > 200
    text = to_html(found)
    sound = tree(full())
    assert_harmless(text, sound)
    # What was replaced is on the page, as text: attacks were not merely dropped with their fields.
    shown = [path for path in seen if f"{path}&lt;script&gt;" in text]
    for part in ("provenance.base.location", "compare.model_type", "probe.runs.0.mode", "behaviour.method"):
        assert f"R.{part}" in shown, part
    for part in (
        "verdict.reason",
        "verdict.gate.checks.0.text",
        "verdict.rules.0.name",
        "compare.config_changes.0.key",
    ):
        assert f"R.{part}" in shown, part
    assert "\n<script>" not in text.replace(BEGINNING, "")


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_alone_in_every_text(attack: str) -> None:
    seen: dict[str, str] = {}
    attacked(full(), "", seen)

    def alone(found: Any) -> Any:
        if isinstance(found, str):
            return attack
        if isinstance(found, tuple):
            return tuple(map(alone, found))
        if isinstance(found, Mapping):
            return {f"{attack}{n}": alone(one) for n, one in enumerate(found.values())}
        if dataclasses.is_dataclass(found) and not isinstance(found, type):
            return dataclasses.replace(found, **{name: alone(getattr(found, name)) for name in free(found)})
        return found

    assert_harmless(to_html(alone(full())), tree(full()))


def test_markup_is_made_by_templates_alone() -> None:
    """What is put into a template is escaped, but for the page's own style and script, and for other templates."""
    folder = Path(page.__file__).parent
    made = {one.stem for one in folder.glob("*.py") if re.search(r"\bMarkup\([^)\s]", one.read_text())}
    assert made == {"document", "rendering"}
    templates = [one.read_text() for one in (folder / "templates").glob("*.html")]
    assert len(templates) > 10
    assert not [text for text in templates if re.search(r"\bsafe\b|autoescape|\bMarkup\b", text)]


def test_what_a_template_is_not_given_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="lines"):
        render("jobs.html", {})
    with pytest.raises(UndefinedError, match="warning"):
        render("verdict.html", {"found": None})


def test_a_policy_keeps_its_lines() -> None:
    text = to_html(dataclasses.replace(full(), verdict=verdict(gate=gate(policy="[fail]\n<b>\nlabels = []"))))
    assert "[fail]\n&lt;b&gt;\nlabels = []" in text


# ------------------------------------------------------------------------------------------------------ self-contained


def test_the_page_forbids_every_request_and_allows_its_own_style_and_script_alone() -> None:
    found = tree(full())
    (policy,) = found.all("meta", **{"http-equiv": "Content-Security-Policy"})
    rules = dict(rule.split(" ", 1) for rule in (policy.attributes["content"] or "").split("; "))
    assert rules["default-src"] == "'none'"
    assert set(rules) == {"default-src", "img-src", "style-src", "script-src", "base-uri", "form-action"}
    assert rules["img-src"] == "data:"
    for name, rule in (("style", "style-src"), ("script", "script-src")):
        (content,) = found.all(name)
        digest = base64.b64encode(hashlib.sha256(content.text.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    head = [one.name for one in found.all("head")[0].walk()]
    assert head.index("meta") < head.index("style")


def test_nothing_names_an_address() -> None:
    text = to_html(full())
    assert not re.findall(r"https?:|//[a-z]|url\(|@import|\bsrc=", text.split("<script>")[0])
    script = (Path(page.__file__).parent / "page.js").read_text()
    assert not re.findall(r"fetch|XMLHttp|import\(|eval|innerHTML|https?:", script)


def test_the_same_report_gives_the_same_bytes(tmp_path: Path) -> None:
    write_report(full(), tmp_path / "r.h5")
    write_page(full(), tmp_path / "a.html")
    write_page(read_report(tmp_path / "r.h5"), tmp_path / "b.html")
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes() == to_html(full()).encode()


def test_a_page_needs_no_torch_no_h5py_and_no_matplotlib() -> None:
    code = (
        "import sys; from ckdiff.report.page import to_html; import tests.reports as r;"
        "to_html(r.report(r.comparison()));"
        "print({'torch', 'h5py', 'matplotlib', 'rich', 'transformers'} & set(sys.modules))"
    )
    place = Path(page.__file__).parents[3]
    said = subprocess.run([sys.executable, "-c", code], check=True, cwd=place, capture_output=True, text=True)
    assert said.stdout == "set()\n"


# -------------------------------------------------------------------------------------------------------------- size


def large(layers: int = 32, questions: int = 50) -> Report:
    """A model of 32 layers, measured in every way: 8 modes, 4 variants, both directions, 50 questions of each kind."""
    random = np.random.default_rng(5)
    base = comparison(layers)
    names = COMPONENTS[3:]
    shape = len(names), layers
    drifts = [10.0 ** random.uniform(-12, -2, shape) for _ in range(4)]
    grid = Grid(names, np.arange(layers), *(1 - drifts[0], drifts[0], drifts[1], drifts[2]))
    tensors = tuple(
        reports.tensor(f"model.layers.{n}.{name}.weight", name, n, reports.moved(1e-6))
        for n in range(layers)
        for name in names
    )
    found = dataclasses.replace(base, grid=grid, tensors=tensors)
    modes = ("coeff", "values", "attn", "attn+coeff", "keys", "mlp", "attn-weights", "ancillary")
    runs = []
    for direction in ("restore", "break"):
        for mode in modes:
            for variant in ("open", "isolated", "direct", "whole"):
                single = mode == "ancillary" or variant == "whole"
                scores = tuple(random.uniform(-0.3, 1, 1 if single else layers).tolist() for _ in SCORES)
                runs.append(run(mode, variant, direction, scores, questions))
    words = [f"word{n}" for n in range(20)]
    sets = []
    for name in ("target", "unrelated"):
        asked = [
            reports.answer(
                f"{name} question {n}, which is about as long as real ones are?",
                " ".join(random.permutation(words)),
                " ".join(random.permutation(words)),
                float(random.uniform()),
            )
            for n in range(questions)
        ]
        sets.append(reports.answer_set(name, *asked))
    choice = reports.choice_set()
    choices = dataclasses.replace(choice, questions=choice.questions[:2] * (questions // 2))
    said = behaviour(answers=tuple(sets), choices=choices, history=reports.history(epochs=100))
    neurons = tuple(
        reports.neuron_set(direction, n, neurons=reports.neuron_set().neurons * 100)
        for direction in ("restore", "break")
        for n in range(4)
    )
    probed = dataclasses.replace(
        probe(layers),
        runs=tuple(runs),
        questions=tuple(map(reports.question, range(questions))),
        neurons=neurons,
    )
    judged = verdict(gate=gate(), explanations=verdict().explanations * 16, rules=verdict().rules * 20)
    return dataclasses.replace(report(found, probed, said), verdict=judged)


def test_a_page_of_a_large_model_is_under_a_megabyte() -> None:
    text = to_html(large())
    assert len(text.encode()) < 1_000_000
    assert len(Reader(text).root.all("figure")) == 2 * 7 * 3 + 1


# ----------------------------------------------------------------------------------------------------------- colours


CSS = (Path(page.__file__).parent / "page.css").read_text()


def palette(block: str) -> dict[str, str]:
    return dict(re.findall(r"--(\w+):(#[0-9a-f]{3,6})", block))


PALETTES = dict(zip(("light", "dark"), (palette(block) for block in re.findall(r":root\{[^}]*\}", CSS)), strict=True))


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[n : n + 2], 16) / 255 for n in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", PALETTES)
def test_text_has_contrast(name: str) -> None:
    found = PALETTES[name]
    assert set(found) == set(PALETTES["light"])
    pairs = [(ink, paper) for ink in ("ink", "muted", "link", "good", "bad", "open") for paper in ("paper", "raised")]
    pairs += [("ink", "gone"), ("ink", "new"), ("paper", "ink"), *((f"t{n}", f"h{n}") for n in range(BINS))]
    for ink, paper in pairs:
        assert contrast(found[ink], found[paper]) >= 4.5, (ink, paper)
    for line in ("kl", "ce", "raw", "focus"):
        assert contrast(found[line], found["paper"]) >= 3, line


@pytest.mark.parametrize("name", PALETTES)
def test_heat_is_told_by_lightness_alone(name: str) -> None:
    found = PALETTES[name]
    steps = [luminance(found[f"h{n}"]) for n in range(BINS)]
    assert steps == sorted(steps, reverse=name == "light")
    assert all(contrast(found[f"h{n}"], found[f"h{n + 1}"]) > 1.2 for n in range(BINS - 1))


def test_every_class_has_a_rule_and_prints_light() -> None:
    used = {name for one in tree(full()).walk() for name in (one.attributes.get("class") or "").split()}
    assert not {name for name in used if not re.search(rf"\.{re.escape(name)}\b", CSS)}
    assert "@media screen and (prefers-color-scheme:dark)" in CSS
    assert "@media print" in CSS


# ------------------------------------------------------------------------------------------------------------- writing


def test_an_older_page_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "p.html"
    write_page(report(comparison()), path)
    first = path.read_bytes()
    write_page(full(), path)
    assert path.read_bytes() != first
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("directory", "is a directory; name a file with -o FILE"),
        ("other.html", "is there and is no page of ckdiff's; use -o FILE, or replace it with --overwrite"),
        ("pipe", "is not a regular file"),
        ("missing/p.html", "cannot be written: No such file or directory"),
        ("other.html/p.html", "cannot be written: Not a directory"),
    ],
)
def test_places_that_are_refused(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "other.html").write_text("<!doctype html><p>mine")
    os.mkfifo(tmp_path / "pipe")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(ReportError, match=re.escape(words)) as raised:
        write_page(full(), tmp_path / name)
    assert "\n" not in str(raised.value)
    assert name in str(raised.value)
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "other.html").read_text() == "<!doctype html><p>mine"


def test_another_file_is_replaced_when_asked(tmp_path: Path) -> None:
    (tmp_path / "other.html").write_text("mine")
    write_page(full(), tmp_path / "other.html", overwrite=True)
    assert (tmp_path / "other.html").read_text() == to_html(full())


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_an_interrupted_write_leaves_the_old_page(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.html"
    write_page(report(comparison()), path)
    old = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(ReportError, match="No space left on device; use -o FILE"):
        write_page(full(), path)
    assert path.read_bytes() == old
    assert list(tmp_path.iterdir()) == [path]


# -------------------------------------------------------------------------------------------------------- command line


def test_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_report(full(), "r.h5")

    def call(*arguments: str) -> tuple[int, str, str]:
        status = command_line(["html", *arguments])
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    assert call("r.h5") == (0, "", "page: ckdiff.html\n")
    digest = hashlib.sha256(Path("r.h5").read_bytes()).hexdigest()
    (footer,) = Reader(Path("ckdiff.html").read_text()).root.all("footer")
    assert f"The report is r.h5, sha256 {digest}: sha256sum on the report says the same" in footer.text
    assert "ckdiff verify REPORT" in footer.text
    assert "sha256sum" not in to_html(full())
    assert Path("ckdiff.html").read_text() == to_html(full(), source=Source("r.h5", digest))
    assert call("r.h5", "-o", "page.html", "--quiet") == (0, "", "")
    assert Path("page.html").read_bytes() == Path("ckdiff.html").read_bytes()
    kept = Path("r.h5").read_bytes()
    for options in ((), ("--overwrite",)):
        status, out, err = call("r.h5", "-o", "r.h5", *options)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert "is the report itself" in err
    assert Path("r.h5").read_bytes() == kept
    for arguments in (("missing.h5",), ("page.html", "-o", "new.html"), ("r.h5", "-o", ".")):
        status, out, err = call(*arguments)
        assert (status, out, err.count("\n")) == (2, "", 1), arguments
    assert not Path("new.html").exists()


# -------------------------------------------------------------------------------------------------------------- words


def test_words_are_explained_where_they_stand_as_in_the_glossary() -> None:
    glossary = (Path(page.__file__).parents[3] / "docs" / "glossary.md").read_text()
    for name, meaning in TERMS.items():
        assert f"\n| {name} | {meaning} |\n" in glossary, name
    shown = {(one.text, one.attributes["title"]) for one in tree(full()).all("abbr")}
    assert shown <= set(TERMS.items())
    assert {"krs_kl", "top1", "1-cos", "z", "depth", "tier", "forms"} <= {name for name, _ in shown}
    reason = "most clearly at tier 1 (quantise: NF4, z 3.7), in all forms `NF4`"
    first = tree(dataclasses.replace(full(), verdict=verdict(knowledge_reason=reason))).all("section", id="verdict")[0]
    assert [one.text for one in first.all("abbr")] == ["tier", "quantise", "NF4", "z"]
    assert reason.replace("`", "") in first.text


def test_a_page_of_attacks_alone_says_what_was_asked() -> None:
    made = attacks()
    alone = report(None, attack=made)
    page = tree(dataclasses.replace(alone, verdict=dataclasses.replace(judge(alone), knowledge="unknown")))
    asked = page.all("section", id="coverage")[0].text
    assert "Nothing was asked" not in page.text
    assert f"attacks{len(made.questions)} questions from" in asked
    assert f"Attacks asked about {made.clusters} facts; what both models say" in page.text


def test_the_interval_of_a_side_effect_says_which_it_is() -> None:
    first = tree(dataclasses.replace(full(), verdict=verdict())).all("section", id="verdict")[0]
    assert f"In brackets: {means_text(full().behaviour.settings)}." in first.text  # type: ignore[union-attr]


def test_a_narrow_screen_has_the_verdict_before_the_contents() -> None:
    narrow = file_text("page.css").partition("(max-width:37.49rem)")[2]
    assert "nav{order:1}main>section,footer{order:2}main>section:first-child{order:0}" in narrow


def test_tables_become_cards_with_the_heading_of_each_column() -> None:
    for table in tree(full()).all("table"):
        if "cards" in (table.attributes["class"] or ""):
            heads = [one.text.strip() for one in table.all("thead")[0].all("th")]
            for row in table.all("tbody")[0].all("tr"):
                assert [one.attributes["data-label"] for one in row.all("td")] == heads[1:]


@pytest.mark.parametrize(
    ("base", "unlearned", "names"),
    [
        (("/a/base", None), ("/a/new", None), ("base", "new")),
        (("/a/model", None), ("/b/model", None), ("a/model", "b/model")),
        (("org/m", "0123456789abcdef"), ("org/m", "fedcba9876543210"), ("org/m@0123456789ab", "org/m@fedcba987654")),
        (("org/m", "0123456789abcdef"), ("other/m", None), ("org/m", "other/m")),
        (("", None), ("", None), ("", "")),
        (("/a/\x1b[31m", None), ("/a/<b>", None), ("\\x1b[31m", "<b>")),
    ],
)
def test_a_pair_has_names_that_tell_it_apart(
    base: tuple[str, str | None], unlearned: tuple[str, str | None], names: tuple[str, str]
) -> None:
    sides = (schema.CheckpointRecord(*one, None, ()) for one in (base, unlearned))
    assert pair_names(schema.Provenance(*sides)) == names


def test_the_heading_names_the_pair_or_is_what_was_asked_for() -> None:
    found = tree(full())
    assert found.all("h1")[0].text == f"What unlearning changed: {pair_title(full().provenance)}"
    assert found.all("title")[0].text.endswith(f"{pair_title(full().provenance)} - ckdiff")
    other = Reader(to_html(full(), "Release <7>")).root
    assert other.all("h1")[0].text == "Release <7>"
    assert "Release <7>" in other.all("title")[0].text
