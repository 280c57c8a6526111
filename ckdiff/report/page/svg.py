"""Curves with intervals and bands, and small bars, in coordinates: what `templates/drawings.html` draws.

Coordinates are whole half-pixels, and paths are relative, so that a page with many curves stays small. Colours and
strokes are classes of page.css, and so follow the reader's dark or light.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ckdiff.report.schema.probe import SCORES
from ckdiff.report.words.probe import RANKING, curve

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ckdiff.report.schema.campaign import AverageRun
    from ckdiff.report.schema.probe import Curve, ProbeRun
    from ckdiff.shapes import PerLayer

WIDTH, HEIGHT = 640, 310

LEFT, RIGHT, TOP, BOTTOM = 62, 626, 14, 254
"""The plot inside a panel of `WIDTH` x `HEIGHT`."""

MIDDLE = (LEFT + RIGHT) // 2

LOWEST, HIGHEST = -0.25, 1.05
"""Scores that are drawn; what lies outside is drawn at the edge and counted."""

TICKS = (0.0, 0.5, 1.0)

SPARK = 120
"""Width of a bar, for scores from `LOWEST` to `HIGHEST`."""

CLASSES = {"krs_kl": "kl", "krs_centred": "ce", "krs": "raw"}
"""By score its class in page.css."""

Path = tuple[str, str]
"""A path: its class and its `d`."""


class Scale(NamedTuple):
    """From layers to x: whole coordinates, so that relative paths do not drift.

    Attributes:
        name: under which panels of this scale find its axes.
        low, high: the first and the last layer.
    """

    name: str
    low: int
    high: int

    def x(self, layer: float) -> int:
        """The middle of a layer's strip."""
        return round(LEFT + (layer - self.low + 0.5) * self._step)

    def strip(self, layer: int) -> tuple[int, int]:
        """Where a layer's strip begins, and its width."""
        begin = round(LEFT + (layer - self.low) * self._step)
        return begin, max(1, round(LEFT + (layer - self.low + 1) * self._step) - begin)

    def ticks(self) -> list[tuple[int, str]]:
        """The layers that are named, and where."""
        every = max(1, -(-(self.high - self.low) // 6))
        return [(self.x(layer), str(layer)) for layer in range(self.low, self.high + 1, every)]

    @property
    def _step(self) -> float:
        return (RIGHT - LEFT) / max(1, self.high - self.low + 1)


def y(score: float) -> int:
    """Where a score stands, at the edge where it lies outside."""
    share = (min(max(score, LOWEST), HIGHEST) - LOWEST) / (HIGHEST - LOWEST)
    return round(BOTTOM - share * (BOTTOM - TOP))


def heights() -> list[tuple[int, str]]:
    """The scores that are named, and where."""
    return [(y(tick), f"{tick:g}") for tick in TICKS]


class Panel(NamedTuple):
    """The three scores of a run against the layer.

    Attributes:
        label: what it shows, for those who do not see it.
        axes: the name of its scale.
        strips: a path a window, what it says, and its address on the page, if it has one.
        start: index of the strip that the tab key reaches.
    """

    label: str
    axes: str
    paths: list[Path]
    strips: list[tuple[str, str, str]]
    start: int


def panel(
    run: ProbeRun | AverageRun, scale: Scale, label: str, values: Sequence[str], start: int, stem: str = ""
) -> Panel:
    """A run with a window a layer, as a drawing; `values` is what the strip of each window says.

    With a stem a window has an address of its own on the page, `stem-12`.
    """
    paths = [path for name in SCORES for path in _score(run.layers, curve(run, name), scale, CLASSES[name])]
    strips = [
        (_strip(int(layer), scale), says, f"{stem}-{layer}" if stem else "")
        for layer, says in zip(run.layers, values, strict=True)
    ]
    return Panel(label, scale.name, paths, strips, start)


def _score(layers: Iterable[int], values: Curve, scale: Scale, kind: str) -> list[Path]:
    """One score: its pointwise interval as an area and itself; of the score that ranks windows the band, as two lines.

    With the bands of all three nothing could be read; that of krs_centred stands with the numbers.
    """
    at = [scale.x(int(layer)) for layer in layers]
    ends = _runs(values.low + values.high)
    area = "".join(_line(at[cut], values.low[cut]) + _back(at[cut], values.high[cut]) for cut in ends)
    band = "".join(_line(at[cut], edge[cut]) for edge in (values.band_low, values.band_high) for cut in _runs(edge))
    line = "".join(_line(at[cut], values.score[cut]) for cut in _runs(values.score))
    paths = (("i", area), ("b", band if kind == CLASSES[RANKING[0]] else ""), ("l", line))
    return [(f"{shape} {kind}", path) for shape, path in paths if path]


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


def _strip(layer: int, scale: Scale) -> str:
    begin, width = scale.strip(layer)
    return f"M{begin} {TOP}h{width}V{BOTTOM}h-{width}z"


def outside(run: ProbeRun) -> int:
    """How many scores of a run are drawn at the edge because they lie beyond it."""
    return sum(int(((score < LOWEST) | (score > HIGHEST)).sum()) for score in (curve(run, one).score for one in SCORES))


class Bar(NamedTuple):
    """A score and its interval between 0 and 1, as places on a line; the ends are None where there is no interval."""

    at: int
    low: int | None
    high: int | None
    zero: int
    one: int


def bar(score: float, low: float, high: float) -> Bar | None:
    """A score to look at beside the figures; None where it was not measured."""
    if np.isnan(score):
        return None
    alone = bool(np.isnan(low) or np.isnan(high))
    first, last = (None, None) if alone else (_spark(low), _spark(high))
    return Bar(_spark(score), first, last, _spark(0), _spark(1))


def _spark(value: float) -> int:
    share = (min(max(value, LOWEST), HIGHEST) - LOWEST) / (HIGHEST - LOWEST)
    return round(4 + share * (SPARK - 8))


class Steps(NamedTuple):
    """Two shares (0 to 1) against the steps of a training."""

    label: str
    ticks: list[tuple[int, str]]
    paths: list[Path]


def steps(points: Sequence[tuple[float, float, float]], label: str) -> Steps:
    """A history of (step, first, second) as a drawing."""
    low, high = points[0][0], points[-1][0]
    width = (RIGHT - LEFT) / max(1e-9, high - low)
    at = [round(LEFT + (step - low) * width) for step, *_ in points]
    paths = [
        (f"l {kind}", _line(at[cut], values[cut]))
        for place, kind in ((1, "kl"), (2, "ce"))
        for values in [np.array([point[place] for point in points], dtype="f8")]
        for cut in _runs(values)
    ]
    return Steps(label, [(at[0], f"{low:g}"), (at[-1], f"{high:g}")], paths)
