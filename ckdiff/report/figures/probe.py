"""A probe as a figure: `write_figure(report, "probe.svg")`.

Score against layer (the window's centre), one line a mode: the layout of the paper's Figure 1 (variant `open`) and
Figure 3 (`isolated`) side by side, a row a score, with what the paper's figures lack: intervals, and the score that is
about behaviour.

Source: Hong et al. 2024, arXiv:2410.06606, figures 1 and 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ckdiff.errors import ReportError
from ckdiff.report.figures.drawing import LOOKS, checked_suffix, image, label, write_image
from ckdiff.report.schema.probe import SCORES
from ckdiff.report.words.probe import by_direction, curve, direction_words, inconclusive
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from ckdiff.report.schema.probe import Curve, Probe, ProbeRun
    from ckdiff.report.schema.report import Report
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


class Look(NamedTuple):
    """How one mode is drawn, everywhere in the figure."""

    color: str
    marker: str
    dash: Any


def write_figure(report: Report, path: str | Path, score: str | None = None) -> None:
    """Draw the probe of a report; the format is that of the suffix, `.svg`, `.png` or `.pdf`.

    Args:
        report: what was found.
        path: the file to write; it is written beside its place and moved there, whole or not at all.
        score: one of `SCORES`, or None for all that were measured.

    Raises:
        ReportError: the report holds no such probe, the suffix is another, or the place cannot be written to.
    """
    name, suffix, found = printable(path), checked_suffix(path), report.probe
    if score is not None and score not in SCORES:
        raise ReportError(f"{printable(score)!r} is no score; choose one of {', '.join(SCORES)}")
    if found is None:
        raise ReportError(f"{name}: the report holds no probe to draw; run `ckdiff probe` first")
    scores = [one for one in TITLES if score in (None, one) and _measured(found, one)]
    if not scores:
        raise ReportError(f"{name}: {score or 'no score'} was not measured in this report; nothing can be drawn")
    write_image(path, image(lambda: _figure(found, scores), suffix))


def _measured(found: Probe, score: str) -> bool:
    return any(not np.isnan(curve(run, score).score).all() for run in found.runs)


def _figure(found: Probe, scores: Sequence[str]) -> Figure:
    from matplotlib.figure import Figure

    directions = list(by_direction(found.runs))
    variants = list(dict.fromkeys(run.variant for run in found.runs))
    size = max(2, len(variants)) * PANEL[0], len(directions) * (len(scores) * PANEL[1] + 0.5) + 0.9
    figure = Figure(figsize=size, layout="constrained")
    looks = _looks(found)
    areas = figure.subfigures(len(directions), 1, squeeze=False)[:, 0]
    for area, (direction, runs) in zip(areas, directions, strict=True):
        area.suptitle(label(direction_words(direction)), fontweight="bold")
        _fill(area, runs, scores, variants, looks)
    figure.suptitle(_title(found), color="#C00000" if inconclusive(found) else "black")
    _legend(figure, looks, found)
    return figure


def _title(found: Probe) -> str:
    title = f"{found.model_type or 'model'}, {found.layer_count} layers, {len(found.questions)} questions"
    reason = inconclusive(found)
    return label(f"INCONCLUSIVE: {reason} ({title})" if reason else title)


def _looks(found: Probe) -> dict[str, Look]:
    modes = dict.fromkeys(run.mode for run in found.runs)
    return {mode: Look(*LOOKS[number % len(LOOKS)]) for number, mode in enumerate(modes)}


def _fill(
    area: SubFigure, runs: Sequence[ProbeRun], scores: Sequence[str], variants: Sequence[str], looks: dict[str, Look]
) -> None:
    """One direction: a row a score, a column a variant."""
    grid = area.subplots(len(scores), len(variants), squeeze=False, sharex=True, sharey=True)
    for row, score in zip(grid, scores, strict=True):
        row[0].set_title(TITLES[score], loc="left")
        row[0].set_ylabel(score)
        for axes, variant in zip(row, variants, strict=True):
            axes.set_title(label(variant), loc="right", style="italic")
            own = [run for run in runs if run.variant == variant]
            _panel(axes, own, score, looks)
    for axes in grid[-1]:
        axes.set_xlabel("layer (window centre)")


def _panel(axes: Axes, runs: Sequence[ProbeRun], score: str, looks: dict[str, Look]) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_ylim(*LIMITS)
    axes.set_yticks(TICKS)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for run in runs:
        values = curve(run, score)
        if len(run.layers) == 1 and run.layers[0] < 0:
            _level(axes, values, looks[run.mode])
        else:
            _line(axes, run.layers, values, looks[run.mode])
    if not runs:
        axes.text(0.5, 0.5, "not run", transform=axes.transAxes, ha="center", color="grey")
    if cut := sum(_outside(curve(run, score).score) for run in runs):
        words = f"{cut} value{'s' if cut > 1 else ''} outside {LIMITS[0]} to {LIMITS[1]} not shown"
        axes.text(0.02, 0.03, words, transform=axes.transAxes, fontsize=7, style="italic")


def _line(axes: Axes, layers: Any, values: Curve, look: Look) -> None:
    every = max(1, len(layers) // 15)
    line = {"color": look.color, "linestyle": look.dash, "marker": look.marker, "markevery": every}
    axes.plot(layers, values.score, **line, markersize=3.5, linewidth=1.4)
    axes.fill_between(layers, values.low, values.high, color=look.color, alpha=0.15, linewidth=0)
    for edge in (values.band_low, values.band_high):
        axes.plot(layers, edge, color=look.color, linestyle=":", linewidth=0.7, alpha=0.8)


def _level(axes: Axes, values: Curve, look: Look) -> None:
    """A mode that is about no single window: one score for the whole model."""
    if not np.isnan(values.score[0]):
        axes.axhline(float(values.score[0]), color=look.color, linestyle=(0, (6, 3)), linewidth=1.2)
    if not np.isnan(values.low[0]):
        axes.axhspan(float(values.low[0]), float(values.high[0]), color=look.color, alpha=0.08, linewidth=0)


def _outside(score: PerLayer) -> int:
    return int(np.count_nonzero((score < LIMITS[0]) | (score > LIMITS[1])))


def _legend(figure: Figure, looks: dict[str, Look], found: Probe) -> None:
    """Once for the whole figure: the modes, and what shade and dots mean."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    layered = {run.mode for run in found.runs if len(run.layers) > 1 or (run.layers >= 0).all()}
    handles: list[Line2D | Patch] = []
    for mode, look in looks.items():
        single = mode not in layered
        shape: dict[str, Any] = (
            {"linestyle": (0, (6, 3))} if single else {"linestyle": look.dash, "marker": look.marker, "markersize": 4}
        )
        words = label(f"{mode} (whole model)" if single else mode)
        handles.append(Line2D([], [], color=look.color, label=words, **shape))
    handles.append(Patch(color="grey", alpha=0.3, linewidth=0, label="95 % interval at each window"))
    handles.append(Line2D([], [], color="grey", linestyle=":", label="95 % band over all windows"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
