"""Discovery as a figure: `write_discovery_figure([("pair", report)], "discovery.svg")`.

Of each report its lost words by rate, with intervals over texts, beside what noise reaches: a bar at the rate from
which a word's p-value, corrected for the number of tokens and kinds of text, is below 0.05. A word whose marker lies
beyond its bar stands out.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.errors import ReportError
from ckdiff.report.figures.drawing import (
    LONGEST_TITLE,
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
from ckdiff.report.schema.discovery import LEAST_TEXTS, SIGNIFICANT
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ckdiff.report.schema.discovery import DiscoveryReport
    from ckdiff.report.schema.report import Report

WIDTH, LINE, ROOM = 4.6, 0.22, 1.1
"""Inches of one pair of axes, of a word in it, and of what stands around the words."""
MOST = 20
"""Words of a report."""
LONGEST_WORD = 24


def write_discovery_figure(reports: Sequence[tuple[str, Report]], path: str | Path, title: str | None = None) -> None:
    """Draw the lost words of one or more reports, side by side; the format is that of the suffix.

    Args:
        reports: a label for each report, and the report.
        path: an `.svg`, `.png` or `.pdf` file; it is written beside its place and moved there, whole or not at all.
        title: over the figure; else there is none.

    Raises:
        ReportError: a report has no lost words, the suffix is another, or the place cannot be written to.
    """
    suffix, some = check_suffix(path), []
    for name, report in reports:
        found = report.discovery
        if found is None or not found.words:
            lacking = "no discovery" if found is None else "no lost words to draw"
            raise ReportError(f"{printable(name)}: the report holds {lacking}; run `ckdiff discover` first")
        some.append((name, found))
    write_image(path, draw_image(lambda: _figure(some, title), suffix))


def _figure(rows: Sequence[tuple[str, DiscoveryReport]], title: str | None) -> Figure:
    from matplotlib.figure import Figure

    most = max(min(MOST, len(found.words)) for _, found in rows)
    figure = Figure(figsize=(len(rows) * WIDTH, ROOM + most * LINE), layout="constrained")
    if title:
        put_title(figure, label(title, LONGEST_TITLE))
    (line,) = figure.subplots(1, len(rows), squeeze=False)
    for axes, (name, found) in zip(line, rows, strict=True):
        _words(axes, found)
        axes.set_title(label(name, TITLE_LENGTH), loc="left")
    return figure


def _words(axes: Axes, found: DiscoveryReport) -> None:
    words, least = found.words[:MOST], least_rates(found)
    for kind, look in choose_looks(one.name for one in found.kinds).items():
        mine = [(place, one) for place, one in enumerate(words) if one.kind == kind]
        for place, one in mine:
            reach = whiskers(one.rate.value, one.rate.low, one.rate.high)
            said = label(f"{kind} texts", LONGEST_WORD) if place == mine[0][0] else None
            style: dict[str, Any] = {"color": look.color, "marker": look.marker, "markersize": 4, "linestyle": "none"}
            axes.errorbar([one.rate.value], [place], xerr=reach, capsize=2, label=said, **style)
    bars = [(least[one.kind], place) for place, one in enumerate(words) if one.kind in least]
    if bars:
        axes.plot(
            *zip(*bars, strict=True), linestyle="none", marker="|", markersize=9, color="black", label="noise, p 0.05"
        )
    axes.set_yticks(range(len(words)), [label(one.word, LONGEST_WORD) for one in words], fontsize=7)
    axes.set_ylim(len(words) - 0.4, -0.6)
    axes.set_xlim(*SHARES)
    axes.set_xlabel("share of positions at which a word is lost")
    axes.legend(fontsize=7, frameon=False, loc="lower right")


def least_rates(found: DiscoveryReport) -> dict[str, float]:
    """By kind of text the rate at which a word's corrected p-value is 0.05, at most 1; none without a null.

    The tail's p(rate) = share exp(-(rate - threshold) / excess), times tokens and kinds, solved for the rate.
    """
    told = [one for one in found.kinds if one.texts >= LEAST_TEXTS and not math.isnan(one.threshold)]
    tests = len(told) * found.words_compared
    return {
        one.name: float(
            np.clip(one.threshold + one.excess * math.log(one.share * tests / SIGNIFICANT), one.threshold, 1)
        )
        for one in told
        if found.copies and one.excess > 0 and one.share > 0
    }
