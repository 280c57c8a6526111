"""How far each component and layer moved, as a map, and the tensors that moved most."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ckdiff.report.page.parts import Part, cut, data_address
from ckdiff.report.words.compare import component_rows, drift_cells, top_tensors
from ckdiff.report.words.numbers import UNDEFINED, number, percent

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ckdiff.report.schema.comparison import Comparison, Grid
    from ckdiff.report.schema.report import Report
    from ckdiff.shapes import PerLayer

BINS = 8
"""Colours of the heatmap, from little to much."""

SHOWN = 20
"""Tensors that are listed."""

LEGEND = (("swatch same", "identical"), ("swatch none", "nothing there"), ("swatch odd", "not defined"))


class Cell(NamedTuple):
    """A layer of a component: its class in page.css, what stands in it, and its figures in words."""

    kind: str
    shown: str
    says: str


def show(report: Report) -> Mapping[str, object] | None:
    """The heatmap, the components, and the tensors that moved most."""
    found = report.compare
    if found is None:
        return None
    scales = [LogBins(values) for values in found.grid.one_minus_cosine]
    return {
        "found": found,
        "heat": list(_heat(found.grid, scales)) if found.grid.components else [],
        "ends": [(name, [scale.ends[place] for scale in scales]) for place, name in enumerate(("least", "greatest"))],
        "legend": LEGEND,
        "bins": BINS,
        "data": data_address(_data(found.grid)),
        "components": list(_components(found)),
        "tensors": [(cut(row.name, 120), *drift_cells(row.drift)[:3]) for row in top_tensors(found, SHOWN)],
    }


def _heat(grid: Grid, scales: Sequence[LogBins]) -> Iterator[tuple[int, list[Cell]]]:
    """Every layer with its cells, component by component."""
    for row, layer in enumerate(grid.layers.tolist()):
        yield layer, [_cell(grid, scales[column], column, row) for column in range(len(grid.components))]


def _data(grid: Grid) -> Iterator[Sequence[object]]:
    """The figures behind the heatmap, a row a component and layer."""
    yield ("component", "layer", "one_minus_cosine", "relative_l2", "changed_fraction")
    for column, name in enumerate(grid.components):
        figures = (grid.one_minus_cosine[column], grid.relative_l2[column], grid.changed_fraction[column])
        for layer, *values in zip(grid.layers.tolist(), *(part.tolist() for part in figures), strict=True):
            yield (name, layer, *(float(f"{value:.4g}") for value in values))


class LogBins:
    """Steps of equal ratio between the least and the greatest 1-cos above 0 of one component.

    Components have scales of their own: norms move a million times less than matrices, and on one scale either would
    be a single colour.
    """

    def __init__(self, values: PerLayer) -> None:
        positive = values[np.isfinite(values) & (values > 0)]
        low, high = (float(positive.min()), float(positive.max())) if positive.size else (1.0, 1.0)
        self.digits = int(low < high and _short(low) == _short(high))
        self.ends = (self.say(low), self.say(high)) if positive.size else (UNDEFINED, UNDEFINED)
        self.edges = np.geomspace(low, high, BINS + 1)

    def say(self, value: float) -> str:
        """A value in as few digits as tell the least from the greatest, two at most."""
        return _short(value, self.digits)

    def place(self, value: float) -> int:
        """The step of a value, 0 for the least and for what is 0 without being identical; one alone is the greatest."""
        return min(BINS - 1, int(np.searchsorted(self.edges[1:-1], value, side="right"))) if value > 0 else 0


def _cell(grid: Grid, scale: LogBins, column: int, row: int) -> Cell:
    value, length, changed = (
        float(values[column, row]) for values in (grid.one_minus_cosine, grid.relative_l2, grid.changed_fraction)
    )
    place = f"layer {int(grid.layers[row])}, {cut(grid.components[column], 40)}"
    if math.isnan(changed):
        return Cell("none", UNDEFINED, f"{place}: nothing there")
    if changed == 0:
        return Cell("same", "=", f"{place}: identical")
    figures = f"1-cos {number(value)}, relative L2 {number(length)}, {percent(changed)} changed"
    if math.isnan(value):
        return Cell("odd", "?", f"{place}: not defined; {figures}")
    return Cell(f"h{scale.place(value)}", scale.say(value), f"{place}: {figures}")


def _short(value: float, digits: int = 0) -> str:
    """A drift in at most five characters, `3e-7`, or in seven: `3.1e-7`."""
    return "0" if value == 0 else f"{value:.{digits}e}".replace("e-0", "e-").replace("e+00", "")


def _components(found: Comparison) -> Iterator[tuple[str, ...]]:
    for row in component_rows(found):
        tensors, parameters, cosine, length, _, changed, _ = row.cells
        name = cut(row.name, 40) + (" (tied)" if row.tied else "")
        yield name, tensors, parameters, "identical" if row.identical else cosine, length, changed


PARTS = (Part(30, "drift", "What moved", "drift.html", show),)
