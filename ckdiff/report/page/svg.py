"""Inline SVG from numbers: curves with intervals and bands, and small bars; texts are escaped as everywhere.

Coordinates are whole half-pixels, and paths are relative, so that a page with many curves stays small. Colours and
strokes are classes of page.css, and so follow the reader's dark or light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ckdiff.report.page.markup import Safe, tag
from ckdiff.report.schema.probe import SCORES
from ckdiff.report.words.probe import RANKING, curve

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ckdiff.report.schema.probe import Curve, ProbeRun
    from ckdiff.shapes import PerLayer

WIDTH, HEIGHT = 640, 310
LEFT, RIGHT, TOP, BOTTOM = 62, 626, 14, 254
"""The plot inside a panel of `WIDTH` x `HEIGHT`."""
LOWEST, HIGHEST = -0.25, 1.05
"""Scores that are drawn; what lies outside is drawn at the edge and counted."""
TICKS = (0.0, 0.5, 1.0)
SPARK = 120
"""Width of a bar, for scores from `LOWEST` to `HIGHEST`."""
CLASSES = {"krs_kl": "kl", "krs_centred": "ce", "krs": "raw"}
"""By score its class in page.css."""


class Scale:
    """From layers to x: whole coordinates, so that relative paths do not drift."""

    def __init__(self, low: int, high: int) -> None:
        self.low, self.high = low, high
        self._step = (RIGHT - LEFT) / max(1, high - low + 1)

    def x(self, layer: float) -> int:
        """The middle of a layer's strip."""
        return round(LEFT + (layer - self.low + 0.5) * self._step)

    def strip(self, layer: int) -> tuple[int, int]:
        """Where a layer's strip begins, and its width."""
        begin = round(LEFT + (layer - self.low) * self._step)
        return begin, max(1, round(LEFT + (layer - self.low + 1) * self._step) - begin)


def y(score: float) -> int:
    """Where a score stands, at the edge where it lies outside."""
    share = (min(max(score, LOWEST), HIGHEST) - LOWEST) / (HIGHEST - LOWEST)
    return round(BOTTOM - share * (BOTTOM - TOP))


def axes(scale: Scale, name: str) -> Safe:
    """Lines and numbers that panels of one scale share, to be used by `name`."""
    parts = [f'<path class="rule" d="M{LEFT} {y(tick)}H{RIGHT}"/>' for tick in TICKS]
    parts += [f'<text class="end" x="{LEFT - 8}" y="{y(tick) + 7}">{tick:g}</text>' for tick in TICKS]
    parts += [f'<text class="mid" x="{scale.x(n)}" y="{BOTTOM + 26}">{n}</text>' for n in _ticks(scale)]
    parts.append(
        f'<text class="mid" x="{(LEFT + RIGHT) // 2}" y="{BOTTOM + 50}">layer in the middle of the window</text>'
    )
    return Safe(f'<g id="{name}">{"".join(parts)}</g>')


def _ticks(scale: Scale) -> range:
    every = max(1, -(-(scale.high - scale.low) // 6))
    return range(scale.low, scale.high + 1, every)


def definitions(shared: Iterable[Safe]) -> Safe:
    """What drawings of the page share, itself not to be seen."""
    return tag("svg", tag("defs", *shared), class_="defs", aria_hidden="true", width=0, height=0)


def panel(run: ProbeRun, scale: Scale, axes_name: str, label: str, values: Sequence[str], start: int) -> Safe:
    """The three scores of a run against the layer; a strip a window says its values.

    Args:
        run: a run with a window a layer.
        scale: of its layers.
        axes_name: of the `axes` of that scale.
        label: what the drawing shows, for those who do not see it.
        values: for each window what its strip says.
        start: index of the strip that the tab key reaches.
    """
    shared = Safe(f'<use href="#{axes_name}"/>')
    lines = [_score(run.layers, curve(run, name), scale, CLASSES[name]) for name in SCORES]
    strips = [
        _strip(int(layer), scale, says, n == start)
        for n, (layer, says) in enumerate(zip(run.layers, values, strict=True))
    ]
    return tag(
        "svg",
        shared,
        *lines,
        tag("g", *strips, class_="strips"),
        class_="plot",
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="group",
        aria_label=label,
    )


def _score(layers: Iterable[int], values: Curve, scale: Scale, kind: str) -> Safe:
    """One score: its pointwise interval as an area and itself; of the score that ranks windows the band, as two lines.

    With the bands of all three nothing could be read; that of krs_centred stands with the numbers.
    """
    at = [scale.x(int(layer)) for layer in layers]
    ends = _runs(values.low + values.high)
    area = "".join(_line(at[cut], values.low[cut]) + _back(at[cut], values.high[cut]) for cut in ends)
    band = "".join(_line(at[cut], edge[cut]) for edge in (values.band_low, values.band_high) for cut in _runs(edge))
    line = "".join(_line(at[cut], values.score[cut]) for cut in _runs(values.score))
    paths = (("i", area), ("b", band if kind == CLASSES[RANKING[0]] else ""), ("l", line))
    return Safe("".join(f'<path class="{shape} {kind}" d="{path}"/>' for shape, path in paths if path))


def _runs(values: PerLayer) -> list[slice]:
    """Where values stand without a gap."""
    known = np.flatnonzero(~np.isnan(values))
    pieces = np.split(known, np.flatnonzero(np.diff(known) > 1) + 1)
    return [slice(int(piece[0]), int(piece[-1]) + 1) for piece in pieces if len(piece)]


def _line(at: Sequence[int], values: PerLayer) -> str:
    heights = [y(float(value)) for value in values]
    return f"M{at[0]} {heights[0]}{_steps(at, heights)}"


def _back(at: Sequence[int], values: PerLayer) -> str:
    """From the end of a line over the other edge to its beginning."""
    heights = [y(float(value)) for value in values][::-1]
    return f"L{at[-1]} {heights[0]}{_steps(at[::-1], heights)}z"


def _steps(at: Sequence[int], heights: Sequence[int]) -> str:
    if len(at) < 2:
        return "h0"  # a round line end makes it a dot
    return "".join(f"l{b - a} {d - c}" for a, b, c, d in zip(at, at[1:], heights, heights[1:], strict=False))


def _strip(layer: int, scale: Scale, says: str, first: bool) -> Safe:
    begin, width = scale.strip(layer)
    shape = f"M{begin} {TOP}h{width}V{BOTTOM}h-{width}z"
    return tag("path", tag("title", says), d=shape, role="img", tabindex=0 if first else None)


def outside(run: ProbeRun) -> int:
    """How many scores of a run are drawn at the edge because they lie beyond it."""
    return sum(int(((score < LOWEST) | (score > HIGHEST)).sum()) for score in (curve(run, one).score for one in SCORES))


def bar(score: float, low: float, high: float) -> Safe:
    """A score and its interval between 0 and 1, to look at beside the figures."""
    if np.isnan(score):
        return Safe()
    at = [_spark(value) for value in (score, low, high)]
    ends = "" if np.isnan(low) or np.isnan(high) else f'<path class="l kl" d="M{at[1]} 8H{at[2]}"/>'
    rules = f'<path class="rule" d="M{_spark(0)} 1v14M{_spark(1)} 1v14"/>'
    dot = f'<circle class="dot" cx="{at[0]}" cy="8" r="4"/>'
    start = f'<svg class="bar" viewBox="0 0 {SPARK} 16" width="{SPARK}" height="16" aria-hidden="true">'
    return Safe(f"{start}{rules}{ends}{dot}</svg>")


def _spark(value: float) -> int:
    if np.isnan(value):
        return 0
    share = (min(max(value, LOWEST), HIGHEST) - LOWEST) / (HIGHEST - LOWEST)
    return round(4 + share * (SPARK - 8))


def steps(points: Sequence[tuple[float, float, float]], label: str) -> Safe:
    """Two shares (0 to 1) against steps, as (step, first, second); for a history."""
    low, high = points[0][0], points[-1][0]
    width = (RIGHT - LEFT) / max(1e-9, high - low)
    at = [round(LEFT + (step - low) * width) for step, *_ in points]
    lines = []
    for place, kind in ((1, "kl"), (2, "ce")):
        values = np.array([point[place] for point in points], dtype="f8")
        lines += [f'<path class="l {kind}" d="{_line(at[cut], values[cut])}"/>' for cut in _runs(values)]
    grid = [f'<path class="rule" d="M{LEFT} {y(tick)}H{RIGHT}"/>' for tick in TICKS]
    grid += [f'<text class="end" x="{LEFT - 8}" y="{y(tick) + 7}">{tick:g}</text>' for tick in TICKS]
    grid += [f'<text class="mid" x="{x}" y="{BOTTOM + 26}">{n:g}</text>' for x, n in ((at[0], low), (at[-1], high))]
    grid.append(f'<text class="mid" x="{(LEFT + RIGHT) // 2}" y="{BOTTOM + 50}">optimiser steps</text>')
    drawn = Safe("".join((*grid, *lines)))
    return tag("svg", drawn, class_="plot", viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=label)
