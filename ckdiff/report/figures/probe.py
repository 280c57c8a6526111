"""A probe as a figure: `write_figure(report, "probe.svg")`.

Score against layer (the window's centre), one line a mode: the layout of the paper's Figure 1 (variant `open`) and
Figure 3 (`isolated`) side by side, a row a score, with what the paper's figures lack: the band of the highest, and the
score that is about behaviour. Scores that are about no window stand beside them, a dot a mode.

Source: Hong et al. 2024, arXiv:2410.06606, figures 1 and 3.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.errors import ReportError
from ckdiff.report.figures.curves import (
    PANEL,
    TITLES,
    about_no_window,
    choose_runs,
    choose_scores,
    draw_dots,
    draw_line,
    fill_panel,
)
from ckdiff.report.figures.drawing import (
    LONGEST_TITLE,
    check_suffix,
    draw_image,
    label,
    mode_looks,
    put_title,
    write_image,
)
from ckdiff.report.words.intervals import by_text
from ckdiff.report.words.names import pair_title
from ckdiff.report.words.probe import by_direction, curve, direction_words, inconclusive
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from ckdiff.report.figures.drawing import Look
    from ckdiff.report.schema.probe import Curve, Probe, ProbeRun
    from ckdiff.report.schema.report import Report

WHOLE = "whole model"
"""The column of scores that are about no window."""

DOT = 0.16
"""Inches of a row of dots."""

LETTER = 0.06
"""Inches of a letter beside a row of dots."""

Columns = dict[str, list["ProbeRun"]]
"""Runs by the column that they stand in: a variant, or `WHOLE`."""


def write_figure(
    report: Report,
    path: str | Path,
    score: str | None = None,
    variant: str | None = None,
    direction: str | None = None,
    title: str | None = None,
) -> None:
    """Draw the probe of a report; the format is that of the suffix, `.svg`, `.png` or `.pdf`.

    With a score, a variant and a direction it is one pair of axes.

    Args:
        report: what was found.
        path: the file to write; it is written beside its place and moved there, whole or not at all.
        score: one of `SCORES`, or None for all that were measured.
        variant: the one to draw, or None for all that there are.
        direction: the same.
        title: over the figure; else the names of the pair, and how it was measured.

    Raises:
        ReportError: the report holds no such probe, the suffix is another, or the place cannot be written to.
    """
    name, suffix, found = printable(path), check_suffix(path), report.probe
    if found is None:
        raise ReportError(f"{name}: the report holds no probe to draw; run `ckdiff probe` first")
    runs = choose_runs(found.runs, variant, direction) if found.runs else []
    if variant is not None:  # what is about no window stands in every variant, and is drawn with those that have none
        runs = [run for run in runs if not about_no_window(run)] or runs
    scores = choose_scores(runs, score, f"{name}: report")
    lines = [title] if title is not None else [pair_title(report.provenance), _measured(found)]
    write_image(path, draw_image(lambda: _figure(found, runs, scores, _title(found, lines)), suffix))


def _measured(found: Probe) -> str:
    return f"{found.model_type or 'model'}, {found.layer_count} layers, {len(found.questions)} questions"


def _title(found: Probe, lines: Sequence[str]) -> str:
    """The title, and before it what every reader must know."""
    reason = inconclusive(found)
    told = [f"INCONCLUSIVE: {reason}"] if reason else []
    return "\n".join(label(line, LONGEST_TITLE) for line in (*told, *lines) if line)


def _figure(found: Probe, runs: Sequence[ProbeRun], scores: Sequence[str], title: str) -> Figure:
    from matplotlib.figure import Figure

    directions = list(by_direction(runs))
    columns = list(_columns(runs))
    figure = Figure(figsize=_size(directions, len(columns), len(scores)), layout="constrained")
    looks = mode_looks(run.mode for run in runs)
    areas = figure.subfigures(len(directions), 1, squeeze=False)[:, 0]
    for area, (direction, own) in zip(areas, directions, strict=True):
        area.suptitle(label(direction_words(direction)), fontweight="bold")
        _fill(area, own, scores, columns, looks)
    if title:
        put_title(figure, title, color="#C00000" if title.startswith("INCONCLUSIVE") else "black")
    _legend(figure, looks, runs, by_text(found.settings), wide=len(columns) > 1)
    return figure


def _size(directions: Sequence[tuple[str, Sequence[ProbeRun]]], columns: int, scores: int) -> tuple[float, float]:
    """Inches: room for the names of dots, and for the legend under a single pair of axes."""
    rows = [_rows(_columns(runs).get(WHOLE, [])) for _, runs in directions]
    names = max((len(name) for own in rows for name, _ in own), default=0)
    height = scores * max(PANEL[1], max(map(len, rows), default=0) * DOT + 0.6)
    return max(1.3, columns) * PANEL[0] + min(names, 40) * LETTER, len(directions) * (height + 0.5) + 1.1


def _columns(runs: Sequence[ProbeRun]) -> Columns:
    """The runs by variant; those that are about no window stand behind them, in a column of their own."""
    found: Columns = {}
    for run in runs:
        found.setdefault(WHOLE if about_no_window(run) else run.variant, []).append(run)
    whole = found.pop(WHOLE, [])
    return found | ({WHOLE: whole} if whole else {})


def _fill(
    area: SubFigure, runs: Sequence[ProbeRun], scores: Sequence[str], columns: Sequence[str], looks: dict[str, Look]
) -> None:
    """One direction: a row a score, a column a variant."""
    grid, own = area.subplots(len(scores), len(columns), squeeze=False, sharex="col"), _columns(runs)
    for row, score in zip(grid, scores, strict=True):
        row[0].set_title(TITLES[score], loc="left")
        row[0].set_ylabel("" if columns[0] == WHOLE else score)
        for axes, column in zip(row, columns, strict=True):
            axes.set_title(label(column), loc="right", style="italic")
            _draw(axes, column, own.get(column, []), score, looks)
    for row in grid:
        for axes, column in zip(row[1:], columns[1:], strict=True):
            axes.tick_params(labelleft=column == WHOLE)
    for axes, column in zip(grid[-1], columns, strict=True):
        axes.set_xlabel("score, of the whole model" if column == WHOLE else "layer (window centre)")


def _draw(axes: Axes, column: str, runs: Sequence[ProbeRun], score: str, looks: Mapping[str, Look]) -> None:
    """One pair of axes: scores against the layer, or a dot a mode."""
    if column == WHOLE and runs:
        draw_dots(axes, [(name, curve(run, score), looks[run.mode]) for name, run in _rows(runs)])
        return
    fill_panel(axes, runs, score, partial(_line, axes, looks, _highest(runs, score)))


def _rows(runs: Sequence[ProbeRun]) -> list[tuple[str, ProbeRun]]:
    """The runs about no window, each with its name: the mode, and its variant where another one says something else."""
    first = {run.mode: run for run in reversed(runs)}
    kept = [run for run in runs if run is first[run.mode] or run.krs_kl.score[0] != first[run.mode].krs_kl.score[0]]
    many = Counter(run.mode for run in kept)
    order = list(mode_looks(many))
    named = [(f"{run.mode}, {run.variant}" if many[run.mode] > 1 else run.mode, run) for run in kept]
    return sorted(named, key=lambda row: order.index(row[1].mode))


def _highest(runs: Sequence[ProbeRun], score: str) -> ProbeRun | None:
    """The run with the highest score, which is the one that its band is about."""
    known = [run for run in runs if not np.isnan(curve(run, score).score).all()]
    return max(known, key=lambda run: float(np.nanmax(curve(run, score).score)), default=None)


def _line(axes: Axes, looks: Mapping[str, Look], highest: ProbeRun | None, run: ProbeRun, values: Curve) -> None:
    """A run: its score against the layer, and of the highest the band over all windows.

    With the bands of all of them nothing could be read, and it is the best of many that needs one.
    """
    ends = (values.band_low, values.band_high) if run is highest else None
    draw_line(axes, run.layers, values, looks[run.mode], ends)


def _legend(figure: Figure, looks: dict[str, Look], runs: Sequence[ProbeRun], by: str, wide: bool) -> None:
    """Once for the whole figure: the modes that are lines, and what shade and whiskers are, and how they were made."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    lines = {run.mode for run in runs if not about_no_window(run)}
    handles: list[Line2D | Patch] = []
    for mode, look in looks.items():
        if mode in lines:
            shape: dict[str, Any] = {"linestyle": look.dash, "marker": look.marker, "markersize": 4}
            handles.append(Line2D([], [], color=look.color, label=label(mode), **shape))
    if lines:
        words = "95 % band over all windows, of the highest"
        handles.append(Patch(color="grey", alpha=0.3, linewidth=0, label=words))
    if any(map(about_no_window, runs)):
        handles.append(Line2D([], [], color="grey", marker="|", label="95 % interval"))
    made = {"title": f"intervals and bands: {by}", "title_fontsize": 8}
    # A single pair of axes has no room for a third column.
    figure.legend(handles=handles, loc="outside lower center", ncols=3 if wide else 2, frameon=False, **made)
