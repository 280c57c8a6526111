"""Curves, single scores, controls and the neurons of a window: what `ckdiff probe` found."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.report.page.markup import Safe, cut, folded, items, joined, left_out, paragraph, table, tag
from ckdiff.report.page.svg import Scale, axes, bar, definitions, outside, panel
from ckdiff.report.page.words import outcome_mark
from ckdiff.report.words.numbers import counted, percent
from ckdiff.report.words.probe import (
    RANKING,
    SET_HEADS,
    best_window,
    by_direction,
    control_lines,
    curve,
    direction_words,
    inconclusive,
    loss_text,
    losses_text,
    remarks,
    score_text,
    scored,
    set_cells,
    set_legend,
    window_text,
    wrong_prompt_lines,
)
from ckdiff.report.words.verdict import banded

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ckdiff.report.schema.probe import NeuronSet, Probe, ProbeRun
    from ckdiff.shapes import PerLayer

LISTED_NEURONS = 50
LISTED_QUESTIONS = 60
LISTED_CONTROLS = 60
LEGEND = (("kl", "krs_kl: what changes behaviour"), ("ce", "krs_centred"), ("raw", "krs, the paper's"))
BANDED = ("krs_kl", "krs_centred")
"""Scores whose simultaneous bands stand with the numbers: those that a verdict rests on."""
Axes = dict[tuple[int, int], str]


def scores(probe: Probe) -> Safe:
    """Both directions, each with its curves by variant and its single scores."""
    if not probe.runs:
        return joined(paragraph("The probe holds no run."), _questions(probe))
    shared = _shared_axes(probe.runs)
    drawn = [axes(Scale(*ends), name) for ends, name in shared.items()]
    parts = [_direction(*one, shared, not n) for n, one in enumerate(by_direction(probe))]
    return joined(definitions(drawn), _loss(probe), _legend(), *parts, _questions(probe))


def _loss(probe: Probe) -> Safe:
    reason = inconclusive(probe)
    loss = losses_text(probe.loss_unlearned)
    warning = paragraph(tag("strong", "Inconclusive: "), reason, ".") if reason else None
    return joined(
        warning, paragraph("How far the unlearned model is from the base's answers with nothing put back: ", loss, ".")
    )


def _questions(probe: Probe) -> Safe:
    """What was asked and scored, the most changed first."""
    order = sorted(probe.questions, key=lambda one: -one.kl if one.kl == one.kl else 1.0)[:LISTED_QUESTIONS]
    rows = [(cut(one.text, 300), cut(one.answer, 300), loss_text(one.kl), percent(one.top1)) for one in order]
    name = f"The questions and the answers that were scored ({len(probe.questions)})"
    heads = ("question", "answer", "KL", "top1")
    more = left_out(len(probe.questions) - LISTED_QUESTIONS, "question")
    return folded(name, table(name, heads, rows, words=(0, 1), said=False), more) if rows else Safe()


def _legend() -> Safe:
    lines = [tag("li", tag("span", class_=f"line {kind}"), " ", words) for kind, words in LEGEND]
    ends = [tag("li", tag("span", class_=f"swatch {kind}"), " ", words) for kind, words in _ENDS]
    return tag("ul", *lines, *ends, class_="legend", aria_label="Lines of the curves")


_ENDS = (("area", "95 % interval of one window"), ("edge", "95 % band of krs_kl, all windows"))


def _shared_axes(runs: Iterable[ProbeRun]) -> Axes:
    """A name for each range of layers that curves have."""
    ranges = dict.fromkeys(_ends(run) for run in runs if layered(run))
    return {ends: f"axes{n}" for n, ends in enumerate(ranges)}


def _ends(run: ProbeRun) -> tuple[int, int]:
    return int(run.layers.min()), int(run.layers.max())


def layered(run: ProbeRun) -> bool:
    """Whether a run has windows, and not one score for the whole model."""
    return bool(len(run.layers)) and bool((run.layers >= 0).all())


def _direction(direction: str, runs: Sequence[ProbeRun], shared: Axes, first: bool) -> Safe:
    single = [run for run in runs if not layered(run) and len(run.layers)]
    curves = [run for run in runs if layered(run)]
    variants = list(dict.fromkeys(run.variant for run in curves))
    folds = [
        _variant(direction, variant, [run for run in curves if run.variant == variant], shared, first and not n)
        for n, variant in enumerate(variants)
    ]
    said = [words for run in runs for words in remarks(run)]
    return joined(
        tag("h3", cut(direction_words(direction))),
        _singles(direction, single) if single else None,
        *folds,
        folded(f"Where the scores disagree, or show nothing ({len(said)})", items(said)) if said else None,
    )


# ---------------------------------------------------------------------------------------------------------- curves


def _variant(direction: str, variant: str, runs: Sequence[ProbeRun], shared: Axes, opened: bool) -> Safe:
    drawn = [_figure(run, shared) for run in runs]
    width = ", ".join(str(width) for width in dict.fromkeys(run.window for run in runs))
    name = cut(f"{direction}, {variant}: {counted(len(runs), 'curve')}, windows of {width} layers", 120)
    return folded(name, tag("div", *drawn, class_="panels"), open_=opened)


def _figure(run: ProbeRun, shared: Axes) -> Safe:
    best = best_window(run)
    name = cut(run.mode, 80)
    label = f"{name}: three scores by layer. {_best(run, best)}"
    ends = _ends(run)
    values = [f"layers {window_text(run, n)}: {_all(run, n)}" for n in range(len(run.layers))]
    beyond = outside(run)
    return tag(
        "figure",
        tag("figcaption", tag("b", name), " ", tag("span", _best(run, best), class_="muted")),
        panel(run, Scale(*ends), shared[ends], label, values, best or 0),
        paragraph(f"{counted(beyond, 'score')} beyond the drawing, at its edge.", class_="muted") if beyond else None,
        folded("Numbers", _numbers(run)),
    )


def _best(run: ProbeRun, best: int | None) -> str:
    if best is None:
        return "Not measured."
    name = next(score for score in RANKING if best_window(run, score) is not None)
    return f"Highest {name}: {scored(run, name, best)} at layers {window_text(run, best)}."


def _all(run: ProbeRun, index: int) -> str:
    return ", ".join(f"{name} {_pointwise(run, name, index)}" for name in RANKING)


def _pointwise(run: ProbeRun, name: str, index: int) -> str:
    values = curve(run, name)
    return banded(*(float(part[index]) for part in (values.score, values.low, values.high)))


def _numbers(run: ProbeRun) -> Safe:
    rows = [
        (
            window_text(run, n),
            *(text for name in RANKING for text in _score_cells(run, name, n)),
            score_text(float(run.krs_mean_of_ratios[n])),
            percent(float(run.top1[n])),
        )
        for n in range(len(run.layers))
    ]
    heads = ["layers"]
    for name in RANKING:
        heads += [name, "interval", "band"] if name in BANDED else [name, "interval"]
    return table(
        cut(f"{run.direction} {run.mode} {run.variant}", 120), [*heads, "krs by ratios", "top1"], rows, folds=False
    )


def _score_cells(run: ProbeRun, name: str, index: int) -> list[str]:
    values = curve(run, name)
    ends = [(values.low, values.high), (values.band_low, values.band_high)]
    shown = ends if name in BANDED else ends[:1]
    return [score_text(float(values.score[index])), *(_pair(one, index) for one in shown)]


def _pair(ends: tuple[PerLayer, PerLayer], index: int) -> str:
    return ", ".join(score_text(float(end[index])) for end in ends)


# --------------------------------------------------------------------------------------------------- single scores


def _singles(direction: str, runs: Sequence[ProbeRun]) -> Safe:
    rows = [
        (
            cut(run.mode, 80),
            cut(run.variant, 80),
            _pointwise(run, RANKING[0], index),
            _bar(run, index),
            *(_pointwise(run, name, index) for name in RANKING[1:]),
            percent(float(run.top1[index])),
        )
        for run in runs
        for index in range(len(run.layers))
    ]
    heads = ("put back", "variant", RANKING[0], "0 to 1", *RANKING[1:], "top1")
    caption = cut(f"{direction}: one score for the whole model, with 95 % intervals", 120)
    return table(caption, heads, rows, words=(0, 1, 3), folds=False)


def _bar(run: ProbeRun, index: int) -> Safe:
    return bar(*(float(part[index]) for part in (run.krs_kl.score, run.krs_kl.low, run.krs_kl.high)))


# --------------------------------------------------------------------------------------------------------- neurons


def neurons(sets: Sequence[NeuronSet]) -> Safe:
    """The sets of neurons that carry their window: a line a set, then its neurons and how much fewer or more bring."""
    if not sets:
        return Safe()
    rows = [tuple(cut(cell, 120) for cell in set_cells(one)) for one in sets]
    shown = table("Neurons whose coefficients carry a window", SET_HEADS, rows, folds=False)
    return joined(shown, paragraph(set_legend(sets), ".", class_="muted"), *map(_neuron_set, sets))


def _neuron_set(one: NeuronSet) -> Safe:
    name = cut(set_cells(one)[0], 120)
    members = [(f"{n.layer}/{n.neuron}", percent(n.contribution)) for n in one.neurons[:LISTED_NEURONS]]
    tried = zip(one.sizes.tolist(), one.sizes_score.tolist(), strict=True)
    sizes = [(f"{size:,}", score_text(score)) for size, score in tried]
    other = f"krs_centred of the set {score_text(one.krs_centred)}, krs {score_text(one.krs)}."
    shares = table(f"{name}: neurons by their share of the effect", ("layer/neuron", "share"), members)
    ranking = table(f"{name}: what the first of the ranking bring", ("neurons", "krs_kl"), sizes)
    return folded(name, paragraph(other), shares, left_out(len(one.neurons) - LISTED_NEURONS, "neuron"), ranking)


# -------------------------------------------------------------------------------------------------------- controls


def controls(probe: Probe) -> Safe:
    """Whether the instrument measured what it says; what failed comes first."""
    lines = sorted(control_lines(probe), key=lambda line: line[1])
    rows = [tag("li", _mark(passed), " ", cut(words)) for words, passed in lines]
    wrong = list(wrong_prompt_lines(probe))
    about = "With the states of another question little should come back: what does is not about this knowledge."
    return joined(
        tag("ul", *rows[:LISTED_CONTROLS], class_="plain"),
        left_out(len(rows) - LISTED_CONTROLS, "control"),
        folded(
            f"States of another question ({len(wrong)})",
            paragraph(about),
            items(wrong[:LISTED_CONTROLS]),
            left_out(len(wrong) - LISTED_CONTROLS, "line"),
        )
        if wrong
        else None,
    )


def _mark(passed: bool) -> Safe:
    return outcome_mark("passed", "passed") if passed else outcome_mark("failed", "failed")


def settings(name: str, found: Mapping[str, str]) -> Safe:
    """Every setting of a section, folded under its name."""
    rows = [(tag("code", cut(key, 80)), cut(value)) for key, value in found.items()]
    return folded(name, table(name, ("setting", "value"), rows, words=(0, 1), said=False)) if rows else Safe()
