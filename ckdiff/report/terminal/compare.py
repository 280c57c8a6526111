"""The report on a terminal: `console.print(view(report))`.

What was compared comes first and what was not comes with it; then the components, the layers, the tensors and neurons
that moved most, and the settings. Names come from files that nobody vouches for: every one of them is made printable
and goes into a `Text`, never into markup.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Group
from rich.text import Text

from ckdiff.report.terminal.parts import (
    RAMP,
    bar,
    bullets,
    facts,
    folded,
    number_columns,
    pair_facts,
    plain_table,
    safe,
    titled,
)
from ckdiff.report.words.numbers import (
    UNDEFINED,
    amount,
    component_peaks,
    coverage_lines,
    is_complete,
    number,
    percent,
    sameness_line,
    top_neurons_of_all,
    top_tensors,
)
from ckdiff.report.words.sections import WHOLE, Selection
from ckdiff.untrusted import printable, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from ckdiff.report.schema.comparison import Comparison, ComponentDrift, Drift, Grid
    from ckdiff.report.schema.report import Report
    from ckdiff.shapes import Float64


STILL = "·"


CELL = 6
"""Characters of one cell of the map of layers."""


LISTED_CHANGES = 20


def view(report: Report, selection: Selection = WHOLE) -> RenderableType:
    """Everything a reader of `ckdiff compare` needs, for a terminal of 80 columns and more."""
    parts: list[RenderableType] = [_pair(report)]
    found = report.compare
    if not report.complete:
        parts.append(Text("INCOMPLETE: the run was interrupted", style="bold red"))
    if found is None or not found.tensors:
        parts.append(Text("NOTHING WAS COMPARED", style="bold red"))
    if found is not None:
        parts += _sections(found, selection.top)
    return Group(*itertools.chain.from_iterable((part, Text()) for part in parts))


def _sections(found: Comparison, top: int) -> Iterator[RenderableType]:
    yield titled("Coverage", bullets(coverage_lines(found)))
    if same := sameness_line(found):
        yield Text(same, style="bold green" if is_complete(found) else "bold yellow")
    elif found.tensors:
        yield titled("Components", _components(found))
        yield from _layers(found.grid)
        yield from _top(found, top)
    if found.config_changes:
        yield titled("Settings", _settings(found))
    if found.notes:
        yield titled("Notes", bullets(found.notes))


def _pair(report: Report) -> RenderableType:
    rows = pair_facts(report)
    if report.compare is not None:
        rows.append(("model type", report.compare.model_type or "not stated"))
    return facts(rows)


def _components(found: Comparison) -> RenderableType:
    """The components that moved, and one line for those that did not."""
    table = plain_table("component", ("tensors", "params", "1-cos", "rel. L2", "max\n1-cos", "changed", "max |Δ|"))
    peaks = component_peaks(found)
    for row in found.components:
        if not row.drift.identical:
            one_minus_cosine, length, changed, largest = _numbers(row.drift)
            peak = number(peaks.get(row.component, math.nan))
            size = f"{row.tensors:,}", amount(row.parameters)
            table.add_row(safe(_label(row)), *size, one_minus_cosine, length, peak, changed, largest)
    legend = ["all elements as one vector; max 1-cos: of its tensors"]
    if any(math.isnan(peaks.get(row.component, 0.0)) for row in found.components):
        legend[0] += f"; {UNDEFINED} not defined: one of them is all zeros or not finite"
    still = [f"{_label(row)} ({row.tensors:,})" for row in found.components if row.drift.identical]
    if still:
        legend.insert(0, f"identical: {', '.join(still)}")
    if any(row.tied for row in found.components):
        legend.append("* tied: a second name of another component's tensors")
    return Group(table, *(Text(line, style="dim") for line in legend))


def _label(row: ComponentDrift) -> str:
    return f"{row.component}*" if row.tied else row.component


def _top(found: Comparison, top: int) -> Iterator[RenderableType]:
    if tensors := top_tensors(found, top):
        table = plain_table("tensor", ())
        table.add_column("component", no_wrap=True)
        number_columns(table, ("1-cos", "rel. L2", "changed"))
        for row in tensors:
            table.add_row(safe(shorten(row.name, 160)), safe(row.component), *_numbers(row.drift)[:3])
        yield titled("Tensors that moved most", table)
    if neurons := top_neurons_of_all(found, top):
        table = plain_table("component", ("layer", "neuron", "1-cos", "rel. L2"))
        for found_neuron in neurons:
            where = str(found_neuron.layer), str(found_neuron.neuron)
            numbers = number(found_neuron.one_minus_cosine), number(found_neuron.relative_l2)
            table.add_row(safe(found_neuron.component), *where, *numbers)
        yield titled("Neurons that moved most", table)


def _settings(found: Comparison) -> RenderableType:
    lines = []
    for row in found.config_changes[:LISTED_CHANGES]:
        line = Text.assemble((printable(row.file), "dim"), " ", (printable(row.key), "bold"), ": ")
        lines.append(line.append(f"{_setting(row.base)} → {_setting(row.unlearned)}"))
    if len(found.config_changes) > LISTED_CHANGES:
        lines.append(Text(f"… and {len(found.config_changes) - LISTED_CHANGES:,} more", style="dim"))
    return folded(lines)


def _setting(value: str | None) -> str:
    return "(none)" if value is None else printable(shorten(value, 60))


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
    yield titled("Relative L2 by layer", Group(table, _legend(grid, scale)))


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


def _numbers(drift: Drift) -> tuple[str, str, str, str]:
    """1-cos, relative L2, changed share, largest difference."""
    changed = percent(drift.changed_fraction)
    return number(drift.one_minus_cosine), number(drift.relative_l2), changed, number(drift.max_abs_diff)
