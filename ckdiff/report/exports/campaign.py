"""A campaign for other programs: JSON, CSV, Markdown, JUnit. `FORMATS_CAMPAIGN[name](campaign)` is the text.

What each format looks like, and how it escapes, is that of a report about one pair (`exports`, `markdown`, `junit`).
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

import numpy as np

from ckdiff.report.exports.csv import _cell
from ckdiff.report.exports.json import _finite
from ckdiff.report.exports.junit import KINDS, _case, _Names, _out, _told
from ckdiff.report.exports.markdown import _escape, _listed, _table
from ckdiff.report.schema.campaign import DRIFTS, FORMAT, MEASURES
from ckdiff.report.words.campaign import (
    AVERAGE_HEADS,
    MEAN_HEADS,
    OVERVIEW_LEGEND,
    Figures,
    average_cells,
    averages_legend,
    averages_of,
    campaign_facts,
    complete_text,
    exit_text,
    flat_sweep,
    gates_text,
    group_names,
    job_line,
    lacking,
    mean_cells,
    means_of,
    overview,
    pair_cells,
    undone,
)
from ckdiff.report.words.probe import direction_words
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ckdiff.report.schema.campaign import AverageRun, Campaign, CampaignRun, Cell, CellMeasure, PairDrift


CASES = "ckdiff.campaign"


CELL_COLUMNS = ("label", "component", "layers", "gate", "questions")


NOTHING = "NOTHING WAS ASKED"


def to_json(found: Campaign) -> str:
    """The whole campaign as one JSON object, with the names of its records; NaN and infinities are null.

    A place of a pair and a concept without any figure of a curve is one null.
    """
    tree = {
        "format": FORMAT,
        "schema_version": found.schema_version,
        "name": found.name,
        "outcome": found.outcome,
        "complete": found.complete,
        "versions": dict(found.versions),
        "plan": found.plan,
        "pairs": [asdict(pair) for pair in found.pairs],
        "concepts": list(found.concepts),
        "jobs": [asdict(job) for job in found.jobs],
        "cells": [asdict(cell) for cell in found.cells],
        "drift": None if found.drift is None else _drift(found.drift),
        "measures": [_measure(one) for one in found.measures],
        "runs": [_sweep(run) for run in found.runs],
        "averages": [_sweep(run) for run in found.averages],
        "means": [asdict(one) for one in found.means],
        "notes": list(found.notes),
    }
    return json.dumps(_finite(tree), indent=2, allow_nan=False) + "\n"


def _drift(found: PairDrift) -> dict[str, Any]:
    return {"components": list(found.components), **{name: getattr(found, name).tolist() for name in DRIFTS}}


def _measure(found: CellMeasure) -> dict[str, Any]:
    arrays = {part: getattr(found, part).tolist() for part in ("value", "low", "high")}
    return {"name": found.name, **arrays}


def _sweep(run: CampaignRun | AverageRun) -> dict[str, Any]:
    return {name: _listed_array(value) for name, value in flat_sweep(run).items()}


def _listed_array(value: Any) -> Any:
    """An array as lists; in one over pairs and concepts, where most places may have no curve, such a place is None."""
    if not isinstance(value, np.ndarray):
        return value
    if value.ndim < 3:
        return value.tolist()
    return [[None if np.isnan(scores).all() else scores.tolist() for scores in row] for row in value]


def to_csv(found: Campaign) -> str:
    """A row for each pair and concept with all of its measures; an empty cell is "not measured"."""
    output = io.StringIO()
    csv.writer(output, lineterminator="\n").writerows(_rows(found))
    return output.getvalue()


def _rows(found: Campaign) -> Iterator[list[str]]:
    measures = [name + end for name in MEASURES for end in ("", "_low", "_high")]
    yield ["pair", "group", "concept", "required", *CELL_COLUMNS, *measures, "verdict", "checks", "not_done"]
    figures, left, pairs = Figures(found), lacking(found), {pair.name: pair for pair in found.pairs}
    for cell in found.cells:
        pair = pairs[cell.pair]
        own = (getattr(cell, name) for name in CELL_COLUMNS)
        numbers = (value for name in MEASURES for value in figures.of(cell, name))
        words = cell.verdict, cell.checks, left[cell.pair, cell.concept]
        values = (pair.name, pair.group, cell.concept, pair.required, *own, *numbers, *words)
        yield [_cell(value) for value in values]


def to_markdown(found: Campaign) -> str:
    """A summary to paste into an issue: a row for each pair and concept, averages, jobs without a result, notes."""
    return "\n\n".join(_sections(found)) + "\n"


def _sections(found: Campaign) -> Iterator[str]:
    (_, name), *rest = campaign_facts(found)
    yield f"## Campaign: {_escape(name)}"
    yield f"**{_escape(exit_text(found))}**"
    yield _listed(f"{label}: {value}" for label, value in rest)
    yield "### Pairs"
    if found.cells:
        heads = ("pair", "concept", "verdict", "carried by", "gate", "explained", "target BLEU", "unrelated BLEU")
        yield _table(heads, _overview_cells(found), left=5)
        yield _escape(OVERVIEW_LEGEND)
    else:
        yield f"**{NOTHING}**"
    if missed := [f"{_place(cell)}: {cell.checks}" for cell in found.cells if cell.checks]:
        yield "### Checks that did not pass"
        yield _listed(missed)
    for group in group_names(found):
        yield from _group_sections(found, group)
    if legend := averages_legend(found):
        yield _escape(legend)
    if jobs := undone(found.jobs):
        yield "### Jobs without a result"
        yield _listed(map(job_line, jobs))
    if found.notes:
        yield "### Notes"
        yield _listed(found.notes)
    yield "### What this is about"
    columns = ("pair", "group", "base", "unlearned", "base digest", "unlearned digest")
    yield _table(columns, map(pair_cells, found.pairs), left=6)
    yield f"ckdiff {_escape(found.versions.get('ckdiff', '(version not stated)'))}."


def _overview_cells(found: Campaign) -> Iterator[tuple[str, ...]]:
    for row in overview(found):
        explained = f"{row.explained} {row.interval}".rstrip()
        words = row.pair, row.concept, row.label, row.carrier, row.gate
        yield *words, explained, row.target_bleu, row.unrelated_bleu


def _group_sections(found: Campaign, group: str) -> Iterable[str]:
    for direction, runs in averages_of(found, group):
        yield f"### Averages of {_escape(group)} over concepts, {_escape(direction_words(direction))}"
        yield _table(AVERAGE_HEADS, map(average_cells, runs), left=3)
    if means := means_of(found, group):
        yield f"### Means of {_escape(group)} over concepts"
        yield _table(MEAN_HEADS, map(mean_cells, means), left=1)


def _place(cell: Cell) -> str:
    return f"{cell.pair}, {cell.concept}" if cell.concept else cell.pair


def to_junit(found: Campaign) -> str:
    """The gates as one suite: a case that says whether all was measured, and one for each pair and concept.

        gate passed              a case that passed
        gate failed              failure
        gate inconclusive, or a required job about it not done    error
        no policy                skipped: nothing was asked of it

    A failed gate is a failure, whatever is missing beside it.
    """
    suite, names = Element("testsuite", {"name": "ckdiff campaign"}), _Names()
    properties = SubElement(suite, "properties")
    for name, value in _properties(found):
        SubElement(properties, "property", {"name": name, "value": printable(value)})
    _add_complete(_case(suite, CASES, names.of(CASES, "complete")), found)
    left = lacking(found)
    for cell in found.cells:
        kind = printable(f"{CASES}.{cell.pair}")
        _add_cell(
            _case(suite, kind, names.of(kind, printable(cell.concept) or "all")), cell, left[cell.pair, cell.concept]
        )
    counts = {attribute: len(suite.findall(f"testcase/{kind}")) for kind, attribute in KINDS.items()}
    tests = str(len(suite.findall("testcase")))
    suite.attrib |= {"tests": tests, **{name: str(count) for name, count in counts.items()}, "time": "0"}
    indent(suite)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{tostring(suite, encoding="unicode")}\n'


def _properties(found: Campaign) -> Iterator[tuple[str, object]]:
    yield "campaign.name", found.name
    yield "campaign.outcome", found.outcome or "no policy"
    yield "campaign.complete", "true" if found.complete else "false"
    for pair in found.pairs:
        for side in ("base", "unlearned"):
            yield printable(f"{pair.name}.{side}.location"), getattr(pair, side)
            yield printable(f"{pair.name}.{side}.digest"), getattr(pair, f"{side}_digest") or "not hashed"
    for name, version in sorted(found.versions.items()):
        yield f"version.{printable(name)}", version


def _add_complete(case: Element, found: Campaign) -> None:
    if found.complete:
        _out(case, gates_text(found))
    else:
        left = "; ".join(job_line(job) for job in undone(found.jobs) if job.required)
        _told(case, "error", "incomplete", complete_text(found), left)


def _add_cell(case: Element, cell: Cell, left: str) -> None:
    said = f"{cell.label}: {cell.verdict}" if cell.label else "nothing was judged"
    reasons = "; ".join(filter(None, (cell.checks, left)))
    if cell.gate == "failed":
        _told(case, "failure", "failed", reasons or "the gate failed", said)
    elif cell.gate == "inconclusive" or left:
        _told(case, "error", "inconclusive", reasons or "not enough evidence", said)
    elif cell.gate == "passed":
        _out(case, said)
    else:
        _told(case, "skipped", "", f"held against no policy: {said}")


FORMATS_CAMPAIGN: dict[str, Callable[[Campaign], str]] = {
    "json": to_json,
    "csv": to_csv,
    "md": to_markdown,
    "junit": to_junit,
}
"""Name of the format, as `--format` takes it: the function that writes it."""
