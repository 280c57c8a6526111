"""Attacks as a figure: `write_attack_figure([("pair", report)], "attack.svg")`.

Of each report the panels that it has numbers for: recovery against steps of training, a line a setting; the chance that
one of k samples is the answer, against k; and recovery by how weights are rounded, from many bits to few.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.errors import ReportError
from ckdiff.report.figures.drawing import (
    LONGEST_TITLE,
    LOOKS,
    SHARES,
    TITLE_LENGTH,
    check_suffix,
    choose_looks,
    draw_image,
    label,
    put_title,
    whiskers,
    write_image,
)
from ckdiff.report.words.intervals import OVER_FACTS
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ckdiff.report.schema.attack import AttackReport, AttackRow
    from ckdiff.report.schema.report import Report

    Draw = Callable[[Axes, AttackReport], None]

PANEL = (3.9, 3.0)
"""Inches of one pair of axes, width and height."""
RECOVERY = (-0.25, 1.25)
"""What lies outside is drawn at the edge."""
SAMPLES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
LONGEST_NAME = 24


def write_attack_figure(reports: Sequence[tuple[str, Report]], path: str | Path, title: str | None = None) -> None:
    """Draw the attacks of one or more reports, a row each; the format is that of the suffix, `.svg`, `.png` or `.pdf`.

    Args:
        reports: a label for each report, and the report.
        path: the file to write; it is written beside its place and moved there, whole or not at all.
        title: over the figure; else there is none.

    Raises:
        ReportError: a report has no attacks that can be drawn, the suffix is another, or the place cannot be written
            to.
    """
    suffix, rows = check_suffix(path), []
    for name, report in reports:
        found = report.attack
        draws = [] if found is None else [draw for draw, has in PANELS if has(found)]
        if found is None or not draws:
            words = "holds no attacks" if found is None else "holds no attack with steps, samples or bits to draw"
            raise ReportError(f"{printable(name)}: the report {words}; run `ckdiff attack` first")
        rows.append((name, found, draws))
    write_image(path, draw_image(lambda: _figure(rows, title), suffix))


def _figure(rows: Sequence[tuple[str, AttackReport, Sequence[Draw]]], title: str | None) -> Figure:
    from matplotlib.figure import Figure

    columns = max(len(draws) for _, _, draws in rows)
    figure = Figure(figsize=(columns * PANEL[0], len(rows) * PANEL[1]), layout="constrained")
    if title:
        put_title(figure, label(title, LONGEST_TITLE))
    grid = figure.subplots(len(rows), columns, squeeze=False)
    for line, (name, found, draws) in zip(grid, rows, strict=True):
        for axes in line[len(draws) :]:
            axes.set_axis_off()
        for axes, draw in zip(line, draws, strict=False):
            draw(axes, found)
        line[0].set_title(label(name, TITLE_LENGTH), loc="left")
    figure.supxlabel(f"recovery: {OVER_FACTS}", fontsize=7)
    return figure


def trained_rows(found: AttackReport) -> list[AttackRow]:
    """Rows of the unlearned model with steps of training and a recovery."""
    return [row for row in _recovered(found) if row.tier == 2 and row.step >= 0]


def rounded_rows(found: AttackReport) -> list[AttackRow]:
    """Rows of the unlearned model with rounded weights and a recovery, in the order in which they were made."""
    return [row for row in _recovered(found) if row.attack == "quantise"]


def sampled(found: AttackReport) -> bool:
    """Whether anything was sampled from the unlearned model."""
    return any(row.attack == "samples" and row.side == "unlearned" and row.returned >= 0 for row in found.rows)


def _recovered(found: AttackReport) -> list[AttackRow]:
    return [row for row in found.rows if row.side == "unlearned" and not math.isnan(row.recovery.value)]


def _steps(axes: Axes, found: AttackReport) -> None:
    from matplotlib.ticker import MaxNLocator

    rows = trained_rows(found)
    for setting, look in choose_looks(row.setting for row in rows).items():
        mine = sorted((row for row in rows if row.setting == setting), key=lambda row: row.step)
        steps, values = [row.step for row in mine], np.clip([row.recovery.value for row in mine], *RECOVERY)
        line: dict[str, Any] = {"color": look.color, "marker": look.marker, "markersize": 3.5, "linewidth": 1.4}
        axes.plot(steps, values, linestyle=look.dash, label=label(setting, LONGEST_NAME), **line)
        ends = np.clip([[row.recovery.low, row.recovery.high] for row in mine], *RECOVERY).T
        axes.fill_between(steps, *ends, color=look.color, alpha=0.1, linewidth=0)
        ruined = [place for place, row in enumerate(mine) if row.wrecked]
        axes.plot([steps[n] for n in ruined], values[ruined], linestyle="none", marker="x", color="black")
    axes.set_xlabel("steps of training (x: a ruined model)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=7, frameon=False)
    _shares(axes, "recovery", RECOVERY)


def _samples(axes: Axes, found: AttackReport) -> None:
    whole = [one.log_p_base * len(one.answer_ids) for one in found.questions]
    chances = {
        "base": np.exp(np.minimum(whole, 0.0)),
        "unlearned": np.array([q.leak_unlearned for q in found.questions]),
    }
    for (name, chance), look in zip(chances.items(), LOOKS, strict=False):
        values = [float((1 - (1 - chance.clip(0, 1)) ** k).mean()) for k in SAMPLES]
        axes.plot(
            SAMPLES, values, color=look.color, marker=look.marker, linestyle=look.dash, markersize=3.5, label=name
        )
    axes.set_xscale("log", base=2)
    axes.set_xlabel("samples of each question")
    axes.legend(fontsize=7, frameon=False)
    _shares(axes, "chance that one is the answer", SHARES)


def _bits(axes: Axes, found: AttackReport) -> None:
    rows, look = rounded_rows(found), LOOKS[0]
    for place, row in enumerate(rows):
        value, low, high = np.clip([row.recovery.value, row.recovery.low, row.recovery.high], *RECOVERY)
        reach = whiskers(value, low, high)
        axes.errorbar([place], [value], reach, color=look.color, marker=look.marker, markersize=5, capsize=3)
    names = [label(row.setting, LONGEST_NAME).replace(" ", "\n", 1) for row in rows]
    axes.set_xticks(range(len(rows)), names, fontsize=6)
    axes.set_xlim(-0.6, len(rows) - 0.4)
    _shares(axes, "recovery", RECOVERY)


def _shares(axes: Axes, name: str, limits: tuple[float, float]) -> None:
    axes.set_ylabel(name)
    axes.set_ylim(*limits)
    axes.axhline(0, color="black", linewidth=0.6)


PANELS: tuple[tuple[Draw, Callable[[AttackReport], object]], ...] = (
    (_steps, trained_rows),
    (_samples, sampled),
    (_bits, rounded_rows),
)
"""What is drawn, and whether a report has it; from left to right."""
