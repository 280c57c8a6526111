"""A probe as a figure: `write_figure(report, "probe.svg")`.

Score against layer (the window's centre), one line a mode: the layout of the paper's Figure 1 (variant `open`) and
Figure 3 (`isolated`) side by side, a row a score, with what the paper's figures lack: intervals, and the score that is
about behaviour.

Source: Hong et al. 2024, arXiv:2410.06606, figures 1 and 3.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ckdiff.errors import ReportError
from ckdiff.report.figures.curves import (
    PANEL,
    TITLES,
    about_no_window,
    choose_scores,
    draw_level,
    draw_line,
    fill_panel,
)
from ckdiff.report.figures.drawing import check_suffix, choose_looks, draw_image, label, write_image
from ckdiff.report.words.probe import by_direction, direction_words, inconclusive
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from ckdiff.report.figures.drawing import Look
    from ckdiff.report.schema.probe import Curve, Probe, ProbeRun
    from ckdiff.report.schema.report import Report

WHOLE = (0, (6, 3))
"""The dash of a score for the whole model."""


def write_figure(report: Report, path: str | Path, score: str | None = None) -> None:
    """Draw the probe of a report; the format is that of the suffix, `.svg`, `.png` or `.pdf`.

    Args:
        report: what was found.
        path: the file to write; it is written beside its place and moved there, whole or not at all.
        score: one of `SCORES`, or None for all that were measured.

    Raises:
        ReportError: the report holds no such probe, the suffix is another, or the place cannot be written to.
    """
    name, suffix, found = printable(path), check_suffix(path), report.probe
    if found is None:
        raise ReportError(f"{name}: the report holds no probe to draw; run `ckdiff probe` first")
    scores = choose_scores(found.runs, score, f"{name}: report")
    write_image(path, draw_image(lambda: _figure(found, scores), suffix))


def _figure(found: Probe, scores: Sequence[str]) -> Figure:
    from matplotlib.figure import Figure

    directions = list(by_direction(found.runs))
    variants = list(dict.fromkeys(run.variant for run in found.runs))
    size = max(2, len(variants)) * PANEL[0], len(directions) * (len(scores) * PANEL[1] + 0.5) + 0.9
    figure = Figure(figsize=size, layout="constrained")
    looks = choose_looks(run.mode for run in found.runs)
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
            fill_panel(axes, own, score, partial(_draw, axes, looks))
    for axes in grid[-1]:
        axes.set_xlabel("layer (window centre)")


def _draw(axes: Axes, looks: Mapping[str, Look], run: ProbeRun, values: Curve) -> None:
    """A run: its score against the layer with interval and band, or one score for the whole model."""
    look = looks[run.mode]
    if about_no_window(run):
        draw_level(axes, values, look.color, WHOLE)
        return
    draw_line(axes, run.layers, values, look)
    for edge in (values.band_low, values.band_high):
        axes.plot(run.layers, edge, color=look.color, linestyle=":", linewidth=0.7, alpha=0.8)


def _legend(figure: Figure, looks: dict[str, Look], found: Probe) -> None:
    """Once for the whole figure: the modes, and what shade and dots mean."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    layered = {run.mode for run in found.runs if len(run.layers) > 1 or (run.layers >= 0).all()}
    handles: list[Line2D | Patch] = []
    for mode, look in looks.items():
        single = mode not in layered
        shape: dict[str, Any] = (
            {"linestyle": WHOLE} if single else {"linestyle": look.dash, "marker": look.marker, "markersize": 4}
        )
        words = label(f"{mode} (whole model)" if single else mode)
        handles.append(Line2D([], [], color=look.color, label=words, **shape))
    handles.append(Patch(color="grey", alpha=0.3, linewidth=0, label="95 % interval at each window"))
    handles.append(Line2D([], [], color="grey", linestyle=":", label="95 % band over all windows"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)
