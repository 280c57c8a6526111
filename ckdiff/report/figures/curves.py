"""Shared by figures of scores against layers: axes, lines with their intervals, and levels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.errors import ReportError
from ckdiff.report.figures.drawing import label, whiskers
from ckdiff.report.schema.probe import SCORES
from ckdiff.report.words.probe import curve
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes

    from ckdiff.report.figures.drawing import Look
    from ckdiff.report.schema.campaign import AverageRun
    from ckdiff.report.schema.probe import Curve, ProbeRun
    from ckdiff.report.words.probe import Run
    from ckdiff.shapes import PerLayer

TITLES = {
    "krs_kl": "krs_kl: what changes behaviour",
    "krs_centred": "krs_centred: without the uniform shift",
    "krs": "krs: the paper's score",
}
"""The scores from top to bottom, and what each one says."""

LIMITS = (-0.25, 1.05)

TICKS = (0, 0.25, 0.5, 0.75, 1)

PANEL = (3.9, 2.1)
"""Inches of one pair of axes, width and height."""

MARKED = 15
"""About how many markers a line has."""


def choose_scores(runs: Sequence[ProbeRun | AverageRun], score: str | None, where: str) -> list[str]:
    """The scores to draw, from top to bottom: the one that was asked for, or all that were measured.

    Args:
        runs: what is drawn.
        score: one of `SCORES`, or None.
        where: the file, and what holds the runs, for the error.

    Raises:
        ReportError: there is no such score, or nothing was measured.
    """
    if score is not None and score not in SCORES:
        raise ReportError(f"{printable(score)!r} is no score; choose one of {', '.join(SCORES)}")
    measured = [name for name in TITLES if any(not np.isnan(curve(run, name).score).all() for run in runs)]
    if chosen := [name for name in measured if score in (None, name)]:
        return chosen
    file, _, holder = where.partition(": ")
    raise ReportError(f"{file}: {score or 'no score'} was not measured in this {holder}; nothing can be drawn")


def choose_runs(
    runs: Sequence[Run], variant: str | None, direction: str | None, holder: str = "this report"
) -> list[Run]:
    """The runs of a variant and a direction, where they were chosen.

    Raises:
        ReportError: there are none.
    """
    for option, chosen in (("variant", variant), ("direction", direction)):
        there = list(dict.fromkeys(getattr(run, option) for run in runs))
        if chosen is not None and chosen not in there:
            names = ", ".join(map(printable, there))
            raise ReportError(f"--{option}: no {printable(chosen)!r} in {holder}; there are {names}")
    own = [run for run in runs if variant in (None, run.variant) and direction in (None, run.direction)]
    if not own:
        raise ReportError(f"--variant {printable(variant)}: {holder} has none with --direction {direction}")
    return own


def about_no_window(run: ProbeRun | AverageRun) -> bool:
    """Whether a run is one score for the whole model."""
    return len(run.layers) == 1 and int(run.layers[0]) < 0


def fill_panel(axes: Axes, runs: Sequence[Run], score: str, draw: Callable[[Run, Curve], None]) -> None:
    """One pair of axes: what `draw` draws of each run, and in words what is not to be seen there."""
    from matplotlib.ticker import MaxNLocator

    axes.set_ylim(*LIMITS)
    axes.set_yticks(TICKS)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for run in runs:
        draw(run, curve(run, score))
    if not runs:
        axes.text(0.5, 0.5, "not run", transform=axes.transAxes, ha="center", color="grey")
    note_beyond(axes, [curve(run, score).score for run in runs])


def draw_line(axes: Axes, layers: Any, values: Curve, look: Look, ends: tuple[PerLayer, PerLayer] | None) -> None:
    """A score against the layer, and between its ends a shade."""
    every = max(1, len(layers) // MARKED)
    line: dict[str, Any] = {"linestyle": look.dash, "marker": look.marker, "markevery": every}
    axes.plot(layers, values.score, color=look.color, **line, markersize=3.5, linewidth=1.4)
    if ends is not None:
        axes.fill_between(layers, *ends, color=look.color, alpha=0.15, linewidth=0)


def draw_level(axes: Axes, values: Curve, color: str, dash: Any) -> None:
    """One score for the whole model, and its interval as a stripe."""
    score, low, high = (float(part[0]) for part in (values.score, values.low, values.high))
    if not np.isnan(score):
        axes.axhline(score, color=color, linestyle=dash, linewidth=1.2)
    if not np.isnan([low, high]).any():
        axes.axhspan(low, high, color=color, alpha=0.08, linewidth=0)


def draw_dots(axes: Axes, rows: Sequence[tuple[str, Curve, Look]]) -> None:
    """One score a row, from top to bottom, with its interval as whiskers; the name of each stands beside it."""
    axes.set_xlim(*LIMITS)
    axes.set_xticks(TICKS)
    axes.axvline(0, color="black", linewidth=0.6)
    for place, (_, values, look) in enumerate(rows):
        score, low, high = (float(part[0]) for part in (values.score, values.low, values.high))
        if not np.isnan(score):
            style: dict[str, Any] = {"color": look.color, "marker": look.marker, "markersize": 4, "capsize": 2}
            axes.errorbar([score], [place], xerr=whiskers(score, low, high), linewidth=1.2, **style)
    axes.set_yticks(range(len(rows)), [label(name, 40) for name, _, _ in rows], fontsize=7)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    note_beyond(axes, [values.score for _, values, _ in rows])


def note_beyond(axes: Axes, scores: Sequence[PerLayer]) -> None:
    """Say in words how many scores lie outside the axes."""
    if cut := sum(int(np.count_nonzero((one < LIMITS[0]) | (one > LIMITS[1]))) for one in scores):
        words = f"{cut} value{'s' if cut > 1 else ''} outside {LIMITS[0]} to {LIMITS[1]} not shown"
        axes.text(0.02, 0.03, words, transform=axes.transAxes, fontsize=7, style="italic")
