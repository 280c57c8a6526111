"""A campaign as a figure: `write_campaign_figure(campaign, "curves.svg")`, and what was forgotten against what was not.

Score against layer (the window's centre), averaged over concepts: a block a direction and variant, in it a row a score,
a column a group of pairs, a line a mode. The shade is a 95 % interval over concepts.

Source: Hong et al. 2024, arXiv:2410.06606, figures 1 and 3, which show no intervals.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ckdiff.errors import ReportError
from ckdiff.report.figures.curves import (
    PANEL,
    TITLES,
    about_no_window,
    choose_runs,
    choose_scores,
    draw_level,
    draw_line,
    fill_panel,
)
from ckdiff.report.figures.drawing import (
    LONGEST_TITLE,
    SHARES,
    TITLE_LENGTH,
    Look,
    check_suffix,
    choose_looks,
    draw_image,
    label,
    mode_looks,
    put_title,
    whiskers,
    write_image,
)
from ckdiff.report.schema.campaign import ALL
from ckdiff.report.words.campaign import Figures, complete_text, sample_text
from ckdiff.report.words.probe import by_direction, direction_words
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from ckdiff.report.schema.campaign import AverageRun, Campaign, GroupMean
    from ckdiff.report.schema.probe import Curve

CAPTION = "lines: means over concepts; shades: 95 % intervals by bootstrap-t over concepts, the sampling unit"

BLEU = ("unrelated_bleu", "target_bleu")
"""The measures that the figure of behaviour has across, and upwards."""

Looks = dict[str, Look]

Sweep = tuple[str, str]
"""A direction and a variant."""


def write_campaign_figure(
    found: Campaign,
    path: str | Path,
    score: str | None = None,
    variant: str | None = None,
    direction: str | None = None,
    title: str | None = None,
) -> None:
    """Draw the averages of a campaign; the format is that of the suffix, `.svg`, `.png` or `.pdf`.

    Args:
        found: what was found.
        path: the file to write; it is written beside its place and moved there, whole or not at all.
        score: one of `SCORES`, or None for all that were measured.
        variant: the one to draw, or None for all that there are.
        direction: the same.
        title: over the figure; else the campaign's name.

    Raises:
        ReportError: the campaign holds nothing of the kind, the suffix is another, or the place cannot be written to.
    """
    name, suffix = printable(path), check_suffix(path)
    if not found.averages:
        raise ReportError(f"{name}: the campaign holds no averages to draw; its plan must have a probe that was run")
    runs = choose_runs(found.averages, variant, direction, "this campaign")
    scores = choose_scores(runs, score, f"{name}: campaign")
    write_image(path, draw_image(lambda: _settle_layout(_figure(found, runs, scores, title)), suffix))


def _figure(found: Campaign, runs: Sequence[AverageRun], scores: Sequence[str], title: str | None) -> Figure:
    from matplotlib.figure import Figure

    groups, blocks = list(dict.fromkeys(run.group for run in runs)), _blocks(runs)
    looks = mode_looks(run.mode for run in runs)
    width = max(1.7, len(groups)) * PANEL[0]
    figure = Figure(figsize=(width, len(blocks) * (len(scores) * PANEL[1] + 0.6) + 1.1), layout="constrained")
    areas = figure.subfigures(len(blocks), 1, squeeze=False)[:, 0]
    for area, ((direction, variant), own) in zip(areas, blocks.items(), strict=True):
        area.suptitle(label(f"{variant}, {direction_words(direction)}"), fontweight="bold")
        _block(area, own, groups, scores, looks)
    _title(figure, found, title)
    _legend(figure, looks, runs)
    return figure


def _blocks(runs: Sequence[AverageRun]) -> dict[Sweep, list[AverageRun]]:
    """The runs by direction and variant, restore first."""
    found: dict[Sweep, list[AverageRun]] = {}
    for direction, own in by_direction(runs):
        for run in own:
            found.setdefault((direction, run.variant), []).append(run)
    return found


def _title(figure: Figure, found: Campaign, title: str | None) -> None:
    """What was asked for or the campaign's name, and in red what every reader must know of it."""
    name = label(title, LONGEST_TITLE) if title is not None else label(found.name or "campaign", TITLE_LENGTH)
    words = name if found.complete else f"{name} - {complete_text(found)}"
    put_title(figure, words, color="black" if found.complete else "#C00000")


def _block(
    area: SubFigure, runs: Sequence[AverageRun], groups: Sequence[str], scores: Sequence[str], looks: Looks
) -> None:
    """One direction and variant: a row a score, a column a group."""
    grid = area.subplots(len(scores), len(groups), squeeze=False, sharex="col", sharey=True)
    flat = all(map(about_no_window, runs))
    for row, score in zip(grid, scores, strict=True):
        row[0].set_ylabel(TITLES[score].replace(": ", ":\n"))
        for axes, group in zip(row, groups, strict=True):
            own = [run for run in runs if run.group == group]
            fill_panel(axes, own, score, partial(_draw, axes, looks, flat))
            if flat:
                axes.set_xticks([])
                axes.set_xlim(-0.6, len(looks) - 0.4)
    for axes, group in zip(grid[0], groups, strict=True):
        own = [run for run in runs if run.group == group]
        counts = f": {sample_text(own)}" if own else ""
        axes.set_title(f"{label(group, TITLE_LENGTH)}{counts}")
    for axes in grid[-1]:
        axes.set_xlabel("whole model" if flat else "layer (window centre)")


def _draw(axes: Axes, looks: Looks, flat: bool, run: AverageRun, values: Curve) -> None:
    """An average: a line against the layer, or a level; where nothing has a layer, a point a mode with its interval."""
    look = looks[run.mode]
    if flat:
        _point(axes, values, look, list(looks).index(run.mode))
    elif about_no_window(run):
        draw_level(axes, values, look.color, look.dash)
    else:
        draw_line(axes, run.layers, values, look, (values.low, values.high))


def _point(axes: Axes, values: Curve, look: Look, place: int) -> None:
    middle, low, high = (float(part[0]) for part in (values.score, values.low, values.high))
    if not math.isnan(middle):
        style: dict[str, Any] = {"color": look.color, "marker": look.marker, "capsize": 4, "markersize": 6}
        axes.errorbar([place], [middle], whiskers(middle, low, high), **style)


def _legend(figure: Figure, looks: Looks, runs: Sequence[AverageRun]) -> None:
    """Once for the whole figure: the modes, and what lines and shades are."""
    from matplotlib.lines import Line2D

    handles: list[Artist] = []
    for mode, look in looks.items():
        alone = all(about_no_window(run) for run in runs if run.mode == mode)
        words = label(f"{mode} (whole model)" if alone else mode)
        handles.append(
            Line2D([], [], color=look.color, marker=look.marker, linestyle=look.dash, markersize=4, label=words)
        )
    caption = CAPTION + ("; no shade: one concept only" if any(run.concepts < 2 for run in runs) else "")
    columns = min(4, len(handles))
    figure.legend(
        handles=handles, title=caption, title_fontsize=8, loc="outside lower center", ncols=columns, frameon=False
    )


def _settle_layout(figure: Figure) -> Figure:
    """The same figure, its layout done and rounded.

    The solver of the layout goes through sets: the last bits of what it finds differ from run to run, and the names of
    clips in an SVG are digests of them.
    """
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for part in figure.subfigs:
        part.bbox_relative.set_points(np.round(part.bbox_relative.get_points(), 4))
    for axes in figure.get_axes():
        axes.set_position(tuple(np.round(axes.get_position().bounds, 4).tolist()))
    return figure


class Point(NamedTuple):
    """A pair and a concept: (value, low, high) across and upwards."""

    group: str
    across: tuple[float, float, float]
    upwards: tuple[float, float, float]


def write_campaign_behaviour_figure(found: Campaign, path: str | Path, title: str | None = None) -> None:
    """Draw how much of the target's answers is left against how much of the unrelated ones, a point a pair and concept.

    Whiskers are 95 % intervals over questions, and a large ring is the mean of a group over concepts. The format is
    that of the suffix, `.svg`, `.png` or `.pdf`.

    Raises:
        ReportError: no pair has both, the suffix is another, or the place cannot be written to.
    """
    suffix = check_suffix(path)
    points = _behaviour_points(found)
    if not points:
        words = "no pair of the campaign has BLEU of target and of unrelated answers; its plan must have a behave"
        raise ReportError(f"{printable(path)}: {words} that was run")
    write_image(path, draw_image(lambda: _settle_layout(_behaviour(found, points, title)), suffix))


def _behaviour_points(found: Campaign) -> list[Point]:
    figures, groups = Figures(found), {pair.name: pair.group for pair in found.pairs}
    points = (Point(groups[cell.pair], *(figures.of(cell, name) for name in BLEU)) for cell in found.cells)
    return [point for point in points if not math.isnan(point.across[0] + point.upwards[0])]


def _behaviour(found: Campaign, points: Sequence[Point], title: str | None) -> Figure:
    from matplotlib.figure import Figure

    looks = choose_looks(pair.group for pair in found.pairs)
    figure = Figure(figsize=(5.4, 5.6), layout="constrained")
    axes = figure.subplots()
    axes.set_xlim(*SHARES)
    axes.set_ylim(*SHARES)
    axes.set_aspect("equal")
    axes.set_xlabel("unrelated answers: BLEU against the base's (1: all kept)")
    axes.set_ylabel("target answers: BLEU against the base's (0: all gone)")
    for point in points:
        _draw_pair(axes, point, looks[point.group])
    for group, look in looks.items():
        _ring(axes, [one for one in found.means if one.group == (group or ALL)], look)
    _title(figure, found, title)
    if left := len(found.cells) - len(points):
        axes.text(0.02, 0.97, f"{left} not measured, not shown", transform=axes.transAxes, fontsize=7, style="italic")
    _behaviour_legend(figure, looks, points)
    return figure


def _draw_pair(axes: Axes, point: Point, look: Look) -> None:
    (x, *_), (y, *_) = point.across, point.upwards
    style: dict[str, Any] = {"color": look.color, "alpha": 0.3, "linewidth": 0.8, "linestyle": "none"}
    axes.errorbar([x], [y], whiskers(*point.upwards), whiskers(*point.across), **style)
    axes.plot([x], [y], color=look.color, marker=look.marker, markersize=4.5, linestyle="none", alpha=0.8)


def _ring(axes: Axes, means: Sequence[GroupMean], look: Look) -> None:
    """Where a group is on average, if both of its means are known."""
    found = {one.measure: one.value for one in means}
    x, y = (found.get(name, math.nan) for name in BLEU)
    if not math.isnan(x + y):
        axes.plot([x], [y], color=look.color, marker=look.marker, **_RING)


_RING: dict[str, Any] = {"markersize": 11, "markerfacecolor": "none", "markeredgewidth": 1.8, "linestyle": "none"}


def _behaviour_legend(figure: Figure, looks: Looks, points: Sequence[Point]) -> None:
    from matplotlib.lines import Line2D

    handles: list[Artist] = []
    for group, look in looks.items():
        count = sum(point.group == group for point in points)
        words = f"{label(group, TITLE_LENGTH) or 'no group'} ({count})"
        handles.append(
            Line2D([], [], color=look.color, marker=look.marker, linestyle="none", markersize=4.5, label=words)
        )
    title = (
        "points: a pair and a concept each; whiskers: 95 % intervals by bootstrap-t over clusters of questions;\n"
        "large: mean of the group over concepts"
    )
    columns = min(4, len(handles))
    figure.legend(
        handles=handles, title=title, title_fontsize=8, loc="outside lower center", ncols=columns, frameon=False
    )
