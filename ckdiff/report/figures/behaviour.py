"""Behaviour as a figure: `write_behaviour_figure([("npo", report), ("graddiff", other)], "behaviour.svg")`.

BLEU of the target's and of the unrelated answers over the epochs of an unlearning, a panel a report: the layout of the
paper's Figure 2. A hollow marker is the weights as the checkpoint on disk holds them, which is what others will run. A
report that says nothing about its making has two points with their intervals instead.

Source: Hong et al. 2024, arXiv:2410.06606, figure 2.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from ckdiff.errors import ReportError
from ckdiff.report.figures.drawing import (
    LONGEST_TITLE,
    LOOKS,
    SHARES,
    TITLE_LENGTH,
    Look,
    check_suffix,
    draw_image,
    label,
    put_title,
    whiskers,
    write_image,
)
from ckdiff.report.schema.behaviour import ANSWER_SETS
from ckdiff.report.words.behaviour import has_bleu
from ckdiff.report.words.intervals import by_text
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ckdiff.report.schema.behaviour import AnswerSet, Behaviour, HistoryPoint
    from ckdiff.report.schema.report import Report

PANEL = (2.9, 2.5)
"""Inches of one pair of axes, width and height."""

COLUMNS = 4
"""Panels side by side, before a second row begins."""

TICKS = (0, 0.25, 0.5, 0.75, 1)

STYLES = dict(zip(ANSWER_SETS, LOOKS, strict=False))

OTHER = Look("grey", "o", "-")


class Panel(NamedTuple):
    """The data of one report: a history, or else its answers."""

    title: str
    history: tuple[HistoryPoint, ...]
    answers: tuple[AnswerSet, ...]
    by: str = ""


def write_behaviour_figure(reports: Sequence[tuple[str, Report]], path: str | Path, title: str | None = None) -> None:
    """Draw the behaviour of one or more reports; the format is that of the suffix, `.svg`, `.png` or `.pdf`.

    Args:
        reports: a label for each report, and the report.
        path: the file to write; it is written beside its place and moved there, whole or not at all.
        title: over the figure; else there is none.

    Raises:
        ReportError: a report has no answers and no history to draw, the suffix is another, or the place cannot be
            written to.
    """
    suffix = check_suffix(path)
    if not reports:
        raise ReportError(f"{printable(path)}: no report to draw; name at least one")
    panels = [_panel_of(name, report) for name, report in reports]
    write_image(path, draw_image(lambda: _figure(panels, title), suffix))


def _panel_of(name: str, report: Report) -> Panel:
    found = report.behaviour
    if found is None:
        raise ReportError(f"{printable(name)}: the report holds no behaviour to draw; run `ckdiff behave` first")
    title = _title(name, found)
    if has_bleu(found.history):
        return Panel(title, found.history, ())
    answers = tuple(one for one in found.answers if not math.isnan(one.bleu.value))
    if not answers:
        words = "the report holds no BLEU, neither of answers nor over an unlearning; nothing can be drawn"
        raise ReportError(f"{printable(name)}: {words}")
    return Panel(title, (), answers, by_text(found.settings))


def _title(name: str, found: Behaviour) -> str:
    """The label, and under it how the checkpoint was made, where that says more."""
    lines = [name, *([found.method] if found.method and found.method != name else [])]
    return "\n".join(label(line, TITLE_LENGTH) for line in lines)


def _figure(panels: Sequence[Panel], title: str | None) -> Figure:
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    # A single panel is wide enough for the legend under it.
    size = max(1.5, columns) * PANEL[0], rows * PANEL[1] + 0.6
    figure = Figure(figsize=size, layout="constrained")
    if title:
        put_title(figure, label(title, LONGEST_TITLE))
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes, panel in zip(grid.flat, panels, strict=False):
        _draw(axes, panel)
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    for row in grid:
        row[0].set_ylabel("BLEU against the base's answers")
    figure.legend(handles=_legend(panels), loc="outside lower center", ncols=4, frameon=False)
    return figure


def _draw(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title)
    axes.set_ylim(*SHARES)
    axes.set_yticks(TICKS)
    if panel.history:
        _history(axes, panel.history)
    else:
        _answers(axes, panel.answers)


def _history(axes: Axes, history: Sequence[HistoryPoint]) -> None:
    """A line through the weights in memory, and hollow markers for the checkpoint that was saved."""
    from matplotlib.ticker import MaxNLocator

    # Under one epoch there would be nothing but fractions to read.
    unit = "epoch" if max(point.epoch for point in history) >= 1 else "step"
    axes.set_xlabel(unit)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    memory, saved = ([point for point in history if (point.state == "saved") is kept] for kept in (False, True))
    for name, look in STYLES.items():
        line = {"color": look.color, "marker": look.marker, "linewidth": 1.4, "markersize": 4}
        axes.plot(*_points(memory, unit, name), **line)  # type: ignore[arg-type]
        hollow = {"color": look.color, "marker": look.marker, "markersize": 8, "markeredgewidth": 1.5}
        axes.plot(*_points(saved, unit, name), **hollow, linestyle="none", markerfacecolor="none")  # type: ignore[arg-type]


def _points(points: Sequence[HistoryPoint], unit: str, name: str) -> tuple[list[float], list[float]]:
    return [getattr(point, unit) for point in points], [getattr(point, f"{name}_bleu") for point in points]


def _answers(axes: Axes, answers: Sequence[AnswerSet]) -> None:
    """A point a set, with its interval where there is one."""
    for place, found in enumerate(answers):
        look, mean = STYLES.get(found.name, OTHER), found.bleu
        interval = whiskers(mean.value, mean.low, mean.high)
        axes.errorbar([place], [mean.value], interval, color=look.color, marker=look.marker, markersize=6, capsize=4)
    axes.set_xticks(range(len(answers)), [label(found.name, 20) for found in answers])
    axes.set_xlim(-0.6, len(answers) - 0.4)


def _legend(panels: Sequence[Panel]) -> list[Artist]:
    """Once for the whole figure: the sets, and what a hollow marker and a whisker mean, where there are any."""
    from matplotlib.lines import Line2D

    handles: list[Artist] = [
        Line2D([], [], color=look.color, marker=look.marker, markersize=4, label=name) for name, look in STYLES.items()
    ]
    if any(point.state == "saved" for panel in panels for point in panel.history):
        hollow = {"marker": "o", "markersize": 8, "markerfacecolor": "none", "linestyle": "none"}
        handles.append(Line2D([], [], color="grey", label="saved checkpoint", **hollow))  # type: ignore[arg-type]
    if any(not math.isnan(found.bleu.low) for panel in panels for found in panel.answers):
        by = next(panel.by for panel in panels if panel.by)
        handles.append(Line2D([], [], color="grey", marker="_", label=f"95 % interval, {by}"))
    return handles
