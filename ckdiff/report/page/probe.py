"""Curves, single scores and controls: what `ckdiff probe` found."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from ckdiff.report.page.parts import Part, cut
from ckdiff.report.page.svg import Panel, Scale, outside, panel
from ckdiff.report.schema.probe import BOUNDED
from ckdiff.report.words.intervals import WIDER, curves_text
from ckdiff.report.words.numbers import UNDEFINED, count_of, interval_text, percent
from ckdiff.report.words.probe import (
    RANKING,
    best_window,
    by_direction,
    control_lines,
    curve,
    inconclusive,
    loss_text,
    ranking_score,
    remarks,
    score_text,
    window_score,
    window_text,
    wrong_prompt_lines,
)
from ckdiff.report.words.verdict import band_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ckdiff.report.schema.probe import ProbeRun, QuestionRecord
    from ckdiff.report.schema.report import Report

LEGEND = (
    ("line kl", "krs_kl: what changes behaviour"),
    ("line ce", "krs_centred"),
    ("line raw", "krs, the paper's"),
    ("swatch area", "95 % interval of one window"),
    ("swatch edge", "95 % band of krs_kl, all windows"),
)

BANDED = ("krs_kl", "krs_centred")
"""Scores whose simultaneous bands stand with the numbers: those that a verdict rests on."""

NUMBER_HEADS = (
    "layers",
    *(head for name in RANKING for head in (name, "interval", *(["band"] if name in BANDED else []))),
    "krs by ratios",
    "top1",
    BOUNDED,
    "interval",
)

SINGLE_HEADS = ("put back", "variant", RANKING[0], "0 to 1", *RANKING[1:], "top1")

Ends = tuple[int, int]
"""The first and the last layer of a curve."""


class Figure(NamedTuple):
    """A curve: what is drawn of it, and its numbers."""

    name: str
    best: str
    panel: Panel
    beyond: int
    caption: str
    numbers: list[tuple[str, ...]]


class Variant(NamedTuple):
    """The curves of one variant, under a heading that a reader opens."""

    name: str
    figures: list[Figure]


class Direction(NamedTuple):
    """Everything in one direction: scores for the whole model, curves, and where the scores disagree."""

    name: str
    first: bool
    singles: list[tuple[object, ...]]
    variants: list[Variant]
    said: list[str]


def show(report: Report) -> Mapping[str, object] | None:
    """Both directions, each with its curves by variant and its single scores."""
    probe = report.probe
    if probe is None:
        return None
    ranges = dict.fromkeys(layer_ends(run) for run in probe.runs if has_windows(run))
    scales = {ends: Scale(f"axes{n}", *ends) for n, ends in enumerate(ranges)}
    asked = sorted(enumerate(probe.questions, 1), key=lambda one: -one[1].kl if one[1].kl == one[1].kl else 1.0)
    stems = window_stems(probe.runs)
    return {
        "probe": probe,
        "scales": list(scales.values()),
        "reason": inconclusive(probe),
        "legend": LEGEND,
        "intervals": curves_text(probe.settings),
        "wider": WIDER if report.verdict is not None else "",
        "directions": [_direction(*one, scales, stems, not n) for n, one in enumerate(by_direction(probe.runs))],
        "single_heads": SINGLE_HEADS,
        "number_heads": NUMBER_HEADS,
        "questions": [_question(one) for _, one in asked],
        "anchors": [f"scored-question-{number}" for number, _ in asked],
    }


def window_stems(runs: Sequence[ProbeRun]) -> dict[int, str]:
    """By the identity of a run the beginning of its windows' addresses: `window-restore-coeff-open`.

    A second run of these names has the width of its windows as well; other names than ours are a number.
    """
    found: dict[int, str] = {}
    for number, run in enumerate(runs, 1):
        plain = f"window-{run.direction}-{run.mode}-{run.variant}"
        stems = [one for one in (plain, f"{plain}-of-{run.window}") if re.fullmatch(r"[a-z0-9+-]+", one)]
        found[id(run)] = next((one for one in stems if one not in found.values()), f"window-run-{number}")
    return found


def _question(one: QuestionRecord) -> tuple[str, ...]:
    return cut(one.text, 300), cut(one.answer, 300), loss_text(one.kl), percent(one.top1)


def layer_ends(run: ProbeRun) -> Ends:
    """The first and the last layer of a run with windows."""
    return int(run.layers.min()), int(run.layers.max())


def has_windows(run: ProbeRun) -> bool:
    """Whether a run has windows, and not one score for the whole model."""
    return bool(len(run.layers)) and bool((run.layers >= 0).all())


def _direction(
    name: str, runs: Sequence[ProbeRun], scales: Mapping[Ends, Scale], stems: Mapping[int, str], first: bool
) -> Direction:
    curves = [run for run in runs if has_windows(run)]
    variants = [
        _variant(name, variant, [run for run in curves if run.variant == variant], scales, stems)
        for variant in dict.fromkeys(run.variant for run in curves)
    ]
    singles = [row for run in runs if not has_windows(run) for row in _singles(run)]
    return Direction(name, first, singles, variants, [words for run in runs for words in remarks(run)])


def _variant(
    direction: str, variant: str, runs: Sequence[ProbeRun], scales: Mapping[Ends, Scale], stems: Mapping[int, str]
) -> Variant:
    widths = ", ".join(str(width) for width in dict.fromkeys(run.window for run in runs))
    layers = "layer" if widths == "1" else "layers"
    name = cut(f"{direction}, {variant}: {count_of(len(runs), 'curve')}, windows of {widths} {layers}", 120)
    return Variant(name, [_figure(run, scales[layer_ends(run)], stems[id(run)]) for run in runs])


def _figure(run: ProbeRun, scale: Scale, stem: str) -> Figure:
    best, name = best_window(run), cut(run.mode, 80)
    said = _best_text(run, best)
    values = [f"{_layers(run, n)}: {_all(run, n)}" for n in range(len(run.layers))]
    drawn = panel(run, scale, f"{name}: three scores by layer. {said}", values, best or 0, stem)
    caption = cut(f"{run.direction} {run.mode} {run.variant}", 120)
    return Figure(name, said, drawn, outside(run), caption, list(_numbers(run)))


def _best_text(run: ProbeRun, best: int | None) -> str:
    name = ranking_score(run)
    if best is None or name is None:
        return "Not measured."
    return f"Highest {name}: {window_score(run, name, best)} at {_layers(run, best)}."


def _layers(run: ProbeRun, index: int) -> str:
    """The layers of a window: `layer 3`, `layers 1-3`."""
    text = window_text(run, index)
    return f"layer {text}" if text.isdigit() else f"layers {text}"


def _all(run: ProbeRun, index: int) -> str:
    return ", ".join(f"{name} {_pointwise(run, name, index)}" for name in RANKING)


def _pointwise(run: ProbeRun, name: str, index: int) -> str:
    values = curve(run, name)
    return band_text(*(float(part[index]) for part in (values.score, values.low, values.high)))


def _numbers(run: ProbeRun) -> Iterator[tuple[str, ...]]:
    for n in range(len(run.layers)):
        scores = (text for name in RANKING for text in _score_cells(run, name, n))
        ratios, top1 = score_text(float(run.krs_mean_of_ratios[n])), percent(float(run.top1[n]))
        yield window_text(run, n), *scores, ratios, top1, *_score_cells(run, BOUNDED, n)


def _score_cells(run: ProbeRun, name: str, index: int) -> list[str]:
    values = curve(run, name)
    ends = [(values.low, values.high), (values.band_low, values.band_high)]
    shown = (interval_text(float(low[index]), float(high[index]), score_text) for low, high in ends)
    cells = [text.strip("[]") or ", ".join((UNDEFINED, UNDEFINED)) for text in shown]
    return [score_text(float(values.score[index])), *cells[: 2 if name in BANDED else 1]]


def _singles(run: ProbeRun) -> Iterator[tuple[object, ...]]:
    for index in range(len(run.layers)):
        first, *others = (_pointwise(run, name, index) for name in RANKING)
        ends = tuple(float(part[index]) for part in (run.krs_kl.score, run.krs_kl.low, run.krs_kl.high))
        yield cut(run.mode, 80), cut(run.variant, 80), first, ends, *others, percent(float(run.top1[index]))


def show_controls(report: Report) -> Mapping[str, object] | None:
    """Whether the instrument measured what it says; what failed comes first."""
    if report.probe is None:
        return None
    lines = sorted(control_lines(report.probe), key=lambda line: line[1])
    return {"lines": lines, "wrong": list(wrong_prompt_lines(report.probe))}


PARTS = (
    Part(40, "scores", "Where the effect lives", "scores.html", show),
    Part(80, "controls", "Controls", "controls.html", show_controls),
)
