"""Figures 1 and 3 of the paper, averaged over concepts: `write_curves(pairs, "open", "figure1.svg")`.

Score against the window's centre, one line a mode, a row a score, a column a method; the shade is a 95 % Student t
interval over concepts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from averages import averages
from pairs import METHODS, centres, curves, probed

from ckdiff.errors import CkdiffError
from ckdiff.report.drawing import LOOKS, checked_suffix, image, label, write_image
from ckdiff.report.figures import LIMITS, PANEL, TICKS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from pairs import Pair

    from ckdiff.shapes import Float64, Int64

MODES = dict(zip(("coeff", "values", "attn", "attn+coeff"), LOOKS, strict=False))
"""What the paper restores, and how its line looks everywhere."""
SCORES = {
    "krs": "krs: the paper's score",
    "krs_centred": "krs_centred: without the uniform shift",
    "krs_kl": "krs_kl: what changes behaviour",
}


class Line(NamedTuple):
    """One mode in one panel."""

    mode: str
    layers: Int64
    middle: Float64
    low: Float64
    high: Float64


def line(pairs: Sequence[Pair], mode: str, variant: str, score: str) -> Line:
    """The averaged curve of a mode."""
    rows = curves(pairs, mode, variant, score)
    ends = np.array([(mean.value, mean.low, mean.high) for mean in averages(rows)]).reshape(-1, 3)
    return Line(mode, centres(pairs, mode, variant), ends[:, 0], ends[:, 1], ends[:, 2])


def write_curves(pairs: Sequence[Pair], variant: str, path: Path) -> None:
    """Draw one variant; the file is written whole or not at all.

    Raises:
        CkdiffError: nothing was probed, or the place cannot be written to.
    """
    suffix = checked_suffix(path)
    columns = {method: probed(pairs, method) for method in METHODS if probed(pairs, method)}
    if not columns:
        raise CkdiffError(f"{path}: no pair was probed; `run.py` does it")
    write_image(path, image(lambda: _figure(columns, variant), suffix))


def _figure(columns: dict[str, list[Pair]], variant: str) -> Figure:
    from matplotlib.figure import Figure

    width = max(1.6, len(columns)) * PANEL[0]
    figure = Figure(figsize=(width, len(SCORES) * PANEL[1] + 1.3), layout="constrained")
    grid = figure.subplots(len(SCORES), len(columns), squeeze=False, sharex=True, sharey=True)
    for row, (score, title) in zip(grid, SCORES.items(), strict=True):
        row[0].set_title(title, loc="left")
        row[0].set_ylabel(score)
        for axes, (method, pairs) in zip(row, columns.items(), strict=True):
            axes.set_title(label(method), loc="right", style="italic")
            _panel(axes, [line(pairs, mode, variant, score) for mode in MODES])
    for axes in grid[-1]:
        axes.set_xlabel("layer (window centre)")
    figure.suptitle(f"{variant}: share of the loss recovered", fontweight="bold")
    _legend(figure, caption(columns))
    return figure


def caption(columns: dict[str, list[Pair]]) -> str:
    """What lines and shades are."""
    counts = ", ".join(f"{method} {len({pair.concept for pair in pairs})}" for method, pairs in columns.items())
    return f"lines: mean over concepts ({counts}); shade: 95 % t interval over concepts, the sampling unit"


def _panel(axes: Axes, lines: Sequence[Line]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_ylim(*LIMITS)
    axes.set_yticks(TICKS)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for mode, layers, middle, low, high in lines:
        color, marker, dash = MODES[mode]
        every = max(1, len(layers) // 15)
        look = {"color": color, "marker": marker, "linestyle": dash, "markevery": every}
        axes.plot(layers, middle, **look, markersize=3.5, linewidth=1.4)  # type: ignore[arg-type]
        axes.fill_between(layers, low, high, color=color, alpha=0.15, linewidth=0)
    if cut := sum(int(np.count_nonzero((one.middle < LIMITS[0]) | (one.middle > LIMITS[1]))) for one in lines):
        words = f"{cut} value{'s' if cut > 1 else ''} outside {LIMITS[0]} to {LIMITS[1]} not shown"
        axes.text(0.02, 0.03, words, transform=axes.transAxes, fontsize=7, style="italic")


def _legend(figure: Figure, words: str) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=color, marker=marker, linestyle=dash, markersize=4, label=mode)  # type: ignore[arg-type]
        for mode, (color, marker, dash) in MODES.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, title=words, title_fontsize=8)
