"""A comparison on a terminal.

What was compared comes first and what was not comes with it; then the components, the layers, the tensors and neurons
that moved most, and the settings.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
from rich.text import Text

from ckdiff.report.terminal.parts import (
    RAMP,
    add_rows,
    bar,
    bullets,
    dim,
    facts,
    number_columns,
    pair_facts,
    plain_table,
    safe,
    warnings,
    with_title,
)
from ckdiff.report.words import compare as words
from ckdiff.report.words.numbers import UNDEFINED, number
from ckdiff.untrusted import printable, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from ckdiff.report.schema.comparison import Comparison, Grid
    from ckdiff.report.schema.report import Report
    from ckdiff.report.words.sections import Selection
    from ckdiff.shapes import Float64

STILL = "·"

CELL = 6
"""Characters of one cell of the map of layers."""

LISTED_CHANGES = 20

COMPONENT_HEADS = ("tensors", "params", "1-cos", "rel. L2", "max\n1-cos", "changed", "max |Δ|")

PEAK = 4
"""The column of the largest 1-cos."""


def parts(report: Report, selection: Selection) -> Iterator[RenderableType]:
    """Everything a reader of `ckdiff compare` needs."""
    found = report.compare
    kind = [] if found is None else [("model type", found.model_type or "not stated")]
    yield facts([*pair_facts(report), *kind])
    yield from warnings(report, words.NOTHING if found is None or not found.tensors else "")
    if found is None:
        return
    yield with_title("Coverage", bullets(words.coverage_lines(found)))
    if same := words.sameness_line(found):
        yield Text(same, style="bold green" if words.is_complete(found) else "bold yellow")
    elif found.tensors:
        yield with_title("Components", *_components(found))
        yield from _layers(found.grid)
        yield from _top(found, selection.top)
    if found.config_changes:
        yield with_title("Settings", _settings(found))
    if found.notes:
        yield with_title("Notes", bullets(found.notes))


def _components(found: Comparison) -> Iterator[RenderableType]:
    """The components that moved, and one line for those that did not."""
    rows = list(words.component_rows(found))
    named = [(f"{row.name}*" if row.tied else row.name, row) for row in rows]
    yield plain_table("component", COMPONENT_HEADS, [(name, *row.cells) for name, row in named if not row.identical])
    if still := [f"{name} ({row.cells[0]})" for name, row in named if row.identical]:
        yield dim(f"identical: {', '.join(still)}")
    gap = any(row.cells[PEAK] == UNDEFINED for row in rows)
    odd = f"; {UNDEFINED} not defined: one of them is all zeros or not finite" if gap else ""
    yield dim(f"all elements as one vector; max 1-cos: of its tensors{odd}")
    if any(row.tied for row in rows):
        yield dim("* tied: a second name of another component's tensors")


def _top(found: Comparison, top: int) -> Iterator[RenderableType]:
    if tensors := words.top_tensors(found, top):
        table = plain_table("tensor", ())
        table.add_column("component", no_wrap=True)
        number_columns(table, ("1-cos", "rel. L2", "changed"))
        moved = ((shorten(row.name, 160), row.component, *words.drift_cells(row.drift)[:3]) for row in tensors)
        yield with_title("Tensors that moved most", add_rows(table, moved))
    if neurons := words.top_neurons_of_all(found, top):
        heads = ("layer", "neuron", "1-cos", "rel. L2")
        yield with_title("Neurons that moved most", plain_table("component", heads, map(words.neuron_cells, neurons)))


def _settings(found: Comparison) -> RenderableType:
    lines = []
    for row in found.config_changes[:LISTED_CHANGES]:
        line = Text.assemble((printable(row.file), "dim"), " ", (printable(row.key), "bold"), ": ")
        lines.append(line.append(" → ".join(words.setting_text(value, 60) for value in (row.base, row.unlearned))))
    if len(found.config_changes) > LISTED_CHANGES:
        lines.append(dim(f"… and {len(found.config_changes) - LISTED_CHANGES:,} more"))
    return bullets(lines)


def _layers(grid: Grid) -> Iterator[RenderableType]:
    """Relative L2 of each component in each layer, as bars on a log scale; layers that did not move are one line."""
    values = grid.relative_l2
    columns = [n for n in range(len(grid.components)) if np.any(grid.changed_fraction[n] > 0)]
    if not columns:
        return
    scale = _bounds(values)
    table = plain_table("layer", ())
    for column in columns:
        heading = safe(grid.components[column].replace("_", " ")).plain.replace(" ", "\n")
        table.add_column(Text(heading), overflow="crop", no_wrap=True, min_width=CELL, vertical="top")
    for label, index in _runs(grid):
        cells = ((float(values[column, index]), grid.changed_fraction[column, index] > 0) for column in columns)
        table.add_row(label, *(_cell(value, bool(moved), scale) for value, moved in cells))
    yield with_title("Relative L2 by layer", table, _legend(grid, scale))


def _runs(grid: Grid) -> Iterator[tuple[str, int]]:
    """Each layer that moved, and each run of neighbours that did not, with the index of one of them."""
    still = ~np.any(grid.changed_fraction > 0, axis=0)
    for quiet, group in itertools.groupby(range(len(grid.layers)), key=lambda index: bool(still[index])):
        indices = list(group)
        first, last = grid.layers[indices[0]], grid.layers[indices[-1]]
        if quiet and len(indices) > 1:
            yield f"{first}-{last}", indices[0]
        else:
            yield from ((str(grid.layers[index]), index) for index in indices)


def _bounds(values: Float64) -> tuple[float, float]:
    """The least and the largest drift that is neither zero nor infinite, as logarithms."""
    finite = values[np.isfinite(values) & (values > 0)]
    return (math.log10(finite.min()), math.log10(finite.max())) if finite.size else (0.0, 0.0)


def _step(value: float, scale: tuple[float, float]) -> int:
    low, high = scale
    if math.isinf(value) or high - low < 1e-9:
        return len(RAMP) - 1
    return min(int((math.log10(value) - low) / (high - low) * len(RAMP)), len(RAMP) - 1)


def _cell(value: float, moved: bool, scale: tuple[float, float]) -> Text:
    if math.isnan(value):
        return Text("?" * CELL if moved else "")
    if value == 0:
        return Text(STILL, style="dim")
    return bar(_step(value, scale), CELL)


def _legend(grid: Grid, scale: tuple[float, float]) -> Text:
    low, high = scale
    odd = "; ? not finite" if np.any(np.isnan(grid.relative_l2) & (grid.changed_fraction > 0)) else ""
    legend = Text()
    if high - low < 1e-9:
        legend.append_text(bar(len(RAMP) - 1, 1)).append(f" {number(10**high)}", style="dim")
    else:
        for step in range(len(RAMP)):
            legend.append_text(bar(step, 1))
        factor = 10 ** ((high - low) / len(RAMP))
        legend.append(f" {number(10**low)} to {number(10**high)}, log scale, each step x{factor:.2g}", style="dim")
    return legend.append(f"; {STILL} exactly 0{odd}", style="dim")
