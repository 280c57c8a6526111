"""Coverage, drift and the neurons that moved: what `ckdiff compare` found."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ckdiff.report.page.markup import Safe, cut, escaped, facts, folded, items, joined, left_out, paragraph, table, tag
from ckdiff.report.words.behaviour import source_lines
from ckdiff.report.words.numbers import (
    UNDEFINED,
    amount,
    counted,
    coverage_lines,
    number,
    percent,
    sameness_line,
    top_neurons_of_all,
    top_tensors,
)
from ckdiff.report.words.sections import MEASURED, SECTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckdiff.report.schema.comparison import Comparison, Grid
    from ckdiff.report.schema.report import Report

BINS = 8
"""Colours of the heatmap, from little to much."""
SHOWN = 20
"""Rows of a list of tensors, neurons or settings."""
NOTES = 60


# -------------------------------------------------------------------------------------------------------- coverage


def coverage(report: Report) -> Safe:
    """What was compared and asked, what was not, and what was not measured."""
    return joined(
        _warning(report),
        tag("h3", "Weights"),
        items(coverage_lines(report.compare)) if report.compare is not None else paragraph("Not compared."),
        _settings_that_differ(report.compare),
        tag("h3", "Questions"),
        facts(_asked(report)) or paragraph("Nothing was asked."),
        _notes(report),
        tag("h3", "Not measured"),
        items(_unmeasured(report)) or paragraph(_all_there(report)),
    )


def _all_there(report: Report) -> str:
    """What may be said where nothing is listed: without a verdict, only that no section is missing."""
    if report.verdict is None:
        return "Every section is there. What each of them lacks, a verdict lists: `ckdiff gate REPORT --save`."
    return "Nothing that ckdiff can measure was left out."


def _notes(report: Report) -> Safe:
    """What each section says about itself."""
    found = [(name, getattr(report, name)) for name in MEASURED]
    lines = [joined(tag("b", name), ": ", cut(note)) for name, part in found if part is not None for note in part.notes]
    shown = items(lines[:NOTES])
    return joined(tag("h3", "Notes"), shown, left_out(len(lines) - NOTES, "note")) if lines else Safe()


def _warning(report: Report) -> Safe | None:
    if report.complete:
        return None
    words = "A run was interrupted, and some of its parts are missing from this report."
    return paragraph(tag("strong", "Not complete. "), words)


def _asked(report: Report) -> Iterator[tuple[str, str]]:
    if report.probe is not None:
        source = report.probe.settings.get("questions_source", "no stated source")
        yield "probe", cut(f"{counted(len(report.probe.questions), 'question')} from {source}")
    if report.behaviour is not None:
        yield from ((cut(name, 80), cut(words)) for name, words in source_lines(report.behaviour))


def _unmeasured(report: Report) -> list[str]:
    """What the verdict says was not measured; without one, the sections that the report lacks."""
    if report.verdict is not None:
        return list(report.verdict.unmeasured)
    rows = [SECTIONS[name] for name in MEASURED if getattr(report, name) is None]
    return [joined(f"{row.lacking} (", tag("code", f"ckdiff {row.command}"), ").") for row in rows]


def _settings_that_differ(found: Comparison | None) -> Safe:
    if found is None or not found.config_changes:
        return Safe()
    rows = [
        (tag("code", cut(one.key, 120)), cut(one.file, 120), _json(one.base), _json(one.unlearned))
        for one in found.config_changes[: 2 * SHOWN]
    ]
    caption = "Settings and files around the weights that differ"
    return joined(
        table(caption, ("key", "file", "base", "unlearned"), rows, words=(0, 1, 2, 3)),
        left_out(len(found.config_changes) - 2 * SHOWN, "setting"),
    )


def _json(text: str | None) -> str:
    return "not there" if text is None else cut(text, 200)


# ----------------------------------------------------------------------------------------------------------- drift


def drift(found: Comparison) -> Safe:
    """The heatmap, the components, and the tensors that moved most."""
    same = sameness_line(found)
    return joined(
        paragraph(tag("strong", same)) if same else None,
        heatmap(found.grid),
        _components(found),
        folded("The tensors that moved most", _tensors(found)) if top_tensors(found, 1) else None,
    )


def heatmap(grid: Grid) -> Safe:
    """A table of layers and components, coloured by 1-cos on a logarithmic scale; every cell says its figures."""
    if not grid.components or not len(grid.layers):
        return paragraph("No tensor of a decoder layer was compared, so there is no map of layers.", class_="muted")
    scale = LogBins(grid)
    heads = [tag("th", tag("span", cut(name, 40)), scope="col") for name in grid.components]
    rows = [_heat_row(grid, scale, row) for row in range(len(grid.layers))]
    caption = "1-cos between base and unlearned, by layer and component"
    content = joined(
        tag("caption", caption),
        tag("thead", tag("tr", tag("th", "layer", scope="col"), *heads)),
        tag("tbody", *rows),
    )
    return joined(
        paragraph(
            "How far each part moved. Darker (on a dark screen: lighter) is further; the scale is logarithmic. ",
            "Point at a cell for all its figures, or reach the table with the tab key and move with the arrows.",
        ),
        tag(
            "div",
            tag("table", content, class_="heat"),
            class_="scroll",
            role="region",
            tabindex=0,
            aria_label="Heatmap",
        ),
        scale.legend(),
    )


class LogBins:
    """Steps of equal ratio between the least and the greatest 1-cos above 0."""

    def __init__(self, grid: Grid) -> None:
        positive = grid.one_minus_cosine[np.isfinite(grid.one_minus_cosine) & (grid.one_minus_cosine > 0)]
        self.empty = positive.size == 0
        low, high = (1.0, 1.0) if self.empty else (float(positive.min()), float(positive.max()))
        # One value alone is the greatest, and its scale a decade.
        self.edges = np.geomspace(low if low < high else high / 10, high, BINS + 1)

    def place(self, value: float) -> int:
        """The step of a value, 0 for the least; what is 0 without being identical is there too."""
        return min(BINS - 1, int(np.searchsorted(self.edges[1:-1], value, side="right"))) if value > 0 else 0

    def legend(self) -> Safe:
        """What the colours mean."""
        steps = [] if self.empty else [(f"h{n}", f"{self.edges[n]:.0e}") for n in range(BINS)]
        ends = [] if self.empty else [tag("li", f"to {self.edges[-1]:.0e}")]
        swatches = [tag("li", tag("span", class_=f"swatch {kind}"), " ", words) for kind, words in steps]
        marks = (("same", "identical"), ("none", "nothing there"), ("odd", "not defined"))
        signs = [tag("li", tag("span", class_=f"swatch {kind}"), " ", words) for kind, words in marks]
        return tag("ul", *swatches, *ends, *signs, class_="legend", aria_label="Colours of the heatmap: 1-cos from")


def _heat_row(grid: Grid, scale: LogBins, row: int) -> Safe:
    cells = [_heat_cell(grid, scale, column, row) for column in range(len(grid.components))]
    return tag("tr", tag("th", str(int(grid.layers[row])), scope="row"), *cells)


def _heat_cell(grid: Grid, scale: LogBins, column: int, row: int) -> Safe:
    kind, shown, words = _cell(grid, scale, column, row)
    says = f"layer {int(grid.layers[row])}, {cut(grid.components[column], 40)}: {words}"
    return tag("td", shown, class_=kind, title=says, tabindex=-1 if row or column else 0)


def _cell(grid: Grid, scale: LogBins, column: int, row: int) -> tuple[str, str, str]:
    """Its class, what stands in it, and its figures in words."""
    value, length, changed = (
        float(values[column, row]) for values in (grid.one_minus_cosine, grid.relative_l2, grid.changed_fraction)
    )
    if math.isnan(changed):
        return "none", UNDEFINED, "nothing there"
    if changed == 0:
        return "same", "=", "identical"
    figures = f"1-cos {number(value)}, relative L2 {number(length)}, {percent(changed)} of the elements changed"
    if math.isnan(value):
        return "odd", "?", f"not defined; {figures}"
    return f"h{scale.place(value)}", _short(value), figures


def _short(value: float) -> str:
    """A drift in at most five characters: `3e-7`."""
    return "0" if value == 0 else f"{value:.0e}".replace("e-0", "e-").replace("e+00", "")


def _components(found: Comparison) -> Safe:
    rows = [
        (
            escaped(cut(row.component, 40) + (" (tied)" if row.tied else "")),
            str(row.tensors),
            amount(row.parameters),
            "identical" if row.drift.identical else number(row.drift.one_minus_cosine),
            number(row.drift.relative_l2),
            percent(row.drift.changed_fraction),
        )
        for row in found.components
    ]
    heads = ("component", "tensors", "parameters", "1-cos", "relative L2", "changed")
    return table("Drift of each component, all its layers together", heads, rows)


def _tensors(found: Comparison) -> Safe:
    rows = [
        (
            tag("code", cut(row.name, 120)),
            number(row.drift.one_minus_cosine),
            number(row.drift.relative_l2),
            percent(row.drift.changed_fraction),
        )
        for row in top_tensors(found, SHOWN)
    ]
    return table("Tensors by 1-cos", ("tensor", "1-cos", "relative L2", "changed"), rows)


def moved_neurons(found: Comparison) -> Safe:
    """The neurons whose weights moved most."""
    rows = [
        (f"{row.layer}:{row.neuron}", cut(row.component, 40), number(row.one_minus_cosine), number(row.relative_l2))
        for row in top_neurons_of_all(found, SHOWN)
    ]
    if not rows:
        return paragraph("No neuron's weights moved, or none were compared.", class_="muted")
    heads = ("layer:neuron", "component", "1-cos", "relative L2")
    return folded(
        "Neurons whose weights moved most", table("Neurons by 1-cos of their weights", heads, rows, words=(0, 1))
    )
