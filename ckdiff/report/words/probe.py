"""A probe in words, for every presenter: the best window, its intervals, and where the scores disagree, in words.

A best window is one chosen from many. So it is ranked by the score that is about behaviour, `krs_kl`, and what is said
about it rests on that score's simultaneous band. Everything that comes back as text is printable.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ckdiff.modes import MODES
from ckdiff.report.schema.probe import BOUNDED, SCORES, Curve
from ckdiff.report.words import numbers
from ckdiff.report.words.numbers import UNDEFINED
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ckdiff.report.schema.campaign import AverageRun
    from ckdiff.report.schema.probe import Control, LossSummary, NeuronSet, Probe, ProbeRun

RANKING = ("krs_kl", "krs_centred", "krs")
"""Scores by how much they say about behaviour; a best window is ranked by the first that was measured."""

DIRECTIONS = {
    "restore": "share of the loss recovered",
    "break": "share of the effect produced",
}
"""The directions in the order in which everything shows them, and what a score means in each."""

LARGEST_SHOWN = 99.5

MISLEADING = 0.5
"""A raw score from here on, with a krs_kl of less than half of it, is a disagreement that a reader must see."""

Run = TypeVar("Run", "ProbeRun", "AverageRun")
"""A run of one pair, or an average of a campaign."""


def by_direction(sweeps: Sequence[Run]) -> Iterator[tuple[str, list[Run]]]:
    """The directions that have runs, restore first, each with its runs in their own order."""
    for direction in dict.fromkeys((*DIRECTIONS, *(run.direction for run in sweeps))):
        if runs := [run for run in sweeps if run.direction == direction]:
            yield direction, runs


def run_name(run: ProbeRun) -> str:
    """Its direction, mode and variant."""
    return printable(f"{run.direction} {run.mode} {run.variant}")


def direction_words(direction: str) -> str:
    """A direction and what its scores mean."""
    return f"{printable(direction)}: {DIRECTIONS.get(direction, 'score')}"


def ranking_score(run: ProbeRun | AverageRun) -> str | None:
    """The score that ranks the windows of a run: the first of `RANKING` that was measured, or None."""
    return next((name for name in RANKING if not np.isnan(curve(run, name).score).all()), None)


def best_window(run: ProbeRun | AverageRun, score: str | None = None) -> int | None:
    """Index of the best window by a score, by default the one that ranks the run; None where it is not measured."""
    score = score or ranking_score(run)
    if score is None or np.isnan(curve(run, score).score).all():
        return None
    return int(np.nanargmax(curve(run, score).score))


def curve(run: ProbeRun | AverageRun, score: str) -> Curve:
    """One of the curves of a run, by the name of its score."""
    found = getattr(run, score)
    assert isinstance(found, Curve)
    return found


def window_text(run: ProbeRun, index: int | None) -> str:
    """The layers of a window: `21-25`, `7` where it is one layer, `all` for a mode that is about no single window."""
    if index is None:
        return UNDEFINED
    if run.layers[index] < 0:
        return "all"
    first, last = int(run.first[index]), int(run.last[index])
    return str(first) if first == last else f"{first}-{last}"


def interval(run: ProbeRun | AverageRun, score: str, index: int) -> tuple[float, float]:
    """The interval to show at a window: for the score that ranks the windows the band, for others the pointwise one."""
    found = curve(run, score)
    low, high = (found.band_low, found.band_high) if score == ranking_score(run) else (found.low, found.high)
    return float(low[index]), float(high[index])


def beyond_chance(run: ProbeRun | AverageRun, score: str | None = None) -> bool:
    """Whether the best window stands out: the low end of its band is above 0, or there is no band to tell.

    When an effect is broken into a model its score is positive by construction, so that this says nothing there.
    """
    score = score or ranking_score(run)
    index = best_window(run, score)
    if score is None or index is None:
        return False
    return run.direction != "restore" or not curve(run, score).band_low[index] <= 0


def score_text(value: float) -> str:
    """A score in at most five characters; far outside the scale only the side is said.

    >>> score_text(0.617), score_text(-0.001), score_text(-35.2), score_text(-4e5)
    ('0.62', '0.00', '-35', '<-99')
    """
    if np.isnan(value):
        return UNDEFINED
    if abs(value) >= LARGEST_SHOWN:
        return ">99" if value > 0 else "<-99"
    text = f"{value:.2f}" if abs(value) < 9.995 else f"{value:.0f}"
    return "0.00" if text == "-0.00" else text


def interval_text(run: ProbeRun | AverageRun, score: str, index: int) -> str:
    """The interval at a window as `[0.51, 0.70]`; empty where there is none (one question only)."""
    return numbers.interval_text(*interval(run, score, index), score_text)


def window_score(run: ProbeRun | AverageRun, score: str, index: int) -> str:
    """A score and its interval at a window: `0.62 [0.51, 0.70]`."""
    return f"{score_text(curve(run, score).score[index])} {interval_text(run, score, index)}".rstrip()


def window_cells(run: ProbeRun) -> list[str]:
    """Mode, variant, best window, the scores there (krs_kl first), top1, and where krs alone would put the window."""
    best, name = best_window(run), [printable(run.mode), printable(run.variant)]
    if best is None:
        return [*name, *("not measured",) * 6]
    where = window_text(run, best) if beyond_chance(run) else f"unsure ({window_text(run, best)})"
    scores = [window_score(run, score, best) for score in reversed(SCORES)]
    return [*name, where, *scores, score_text(run.top1[best]), window_text(run, best_window(run, "krs"))]


def bounded_text(run: ProbeRun) -> str:
    """The score of the loss that has a bound, with its interval, at the best window; a dash where it is not known."""
    best = best_window(run)
    return UNDEFINED if best is None else window_score(run, BOUNDED, best)


def remarks(run: ProbeRun) -> Iterator[str]:
    """Remarks that the numbers of a run alone would hide: that no window stands out, that the scores disagree."""
    best = best_window(run)
    if best is None:
        yield f"{run_name(run)}: not measured"
    elif not beyond_chance(run):
        where = _layers(run, best)
        yield f"{run_name(run)}: highest at {where}, but its band reaches 0: not told from nothing by these questions"
    if words := disagreement(run):
        yield words


def disagreement(run: ProbeRun) -> str | None:
    """A sentence that names both scores where `krs` and the ranking score tell two stories, or None.

    They do where their best windows lie further apart than one window is wide, and where `krs` is at least
    `MISLEADING` at a window at which the other is less than half of that. A `krs` that is itself no more than chance
    tells no story.
    """
    rank, raw = ranking_score(run), best_window(run, "krs")
    best = best_window(run, rank)
    if rank in (None, "krs") or best is None or raw is None or not beyond_chance(run, "krs"):
        return None
    if abs(int(run.layers[best]) - int(run.layers[raw])) > run.window:
        there = f"{_layers(run, best)} ({score_text(curve(run, rank).score[best])})"
        other = there if beyond_chance(run) else "is unsure"
        return f"{run_name(run)}: krs alone would name {_layers(run, raw)} ({_both(run, raw)} there), {rank} {other}"
    gap = _widest_gap(run)
    if gap is None:
        return None
    return f"{run_name(run)}: at {_layers(run, gap)} {_both(run, gap)}: the logits follow, the answers less so"


def _widest_gap(run: ProbeRun) -> int | None:
    """The window at which `krs` is high and furthest above a ranking score of less than half of it."""
    raw, other = run.krs.score, curve(run, ranking_score(run) or "krs").score
    misleads = (raw >= MISLEADING) & (other < raw / 2)
    gaps = np.full(len(raw), np.nan)
    gaps[misleads] = raw[misleads] - other[misleads]
    return None if np.isnan(gaps).all() else int(np.nanargmax(gaps))


def _layers(run: ProbeRun, index: int) -> str:
    text = window_text(run, index)
    return f"{'layers' if '-' in text else 'layer'} {text}" if text != "all" else "all layers"


def _both(run: ProbeRun, index: int) -> str:
    """`krs` and the ranking score at one window."""
    scores = dict.fromkeys(("krs", ranking_score(run) or "krs"))
    return ", ".join(f"{name} {score_text(curve(run, name).score[index])}" for name in scores)


def loss_text(value: float) -> str:
    """A loss in three digits, a dash where it is not defined."""
    return UNDEFINED if np.isnan(value) else f"{value:.3g}"


def losses_text(loss: LossSummary) -> str:
    """The three losses of the unlearned model."""
    return f"KL {loss_text(loss.kl)}, centred mse {loss_text(loss.mse_centred)}, mse {loss_text(loss.mse)}"


NOT_SHOWN = frozenset({"questions_source", "questions_digest", "logits_dtype", "bootstrap", "kl"})
"""Settings that a reader finds in the JSON and in the HDF5 report; the source of the questions has its own line."""


def settings_text(probe: Probe) -> str:
    """The settings on one line, without the source of the questions, which stands with their number."""
    return numbers.settings_line(probe.settings, NOT_SHOWN)


def spared_text(probe: Probe) -> str:
    """Of which modes no windows were swept, and why; empty where all were, or were not asked for."""
    if probe.settings.get("windows") != "needed":
        return ""
    swept = {run.mode for run in probe.runs if len(run.layers) and run.layers[0] >= 0}
    modes = dict.fromkeys(run.mode for run in probe.runs if run.mode in MODES and not MODES[run.mode].ancillary)
    spared = [mode for mode in modes if mode not in swept]
    if not spared:
        return ""
    return (
        f"of {', '.join(spared)} the score of the whole model only: the verdict places nothing in their windows, and"
        " these were not swept (--windows all sweeps every curve)"
    )


SET_HEADS = ("window", "neurons", "krs_kl", "of", "random sets")
"""The columns of `set_cells`."""


def set_cells(found: NeuronSet) -> tuple[str, ...]:
    """One set of neurons: where, how many, what they bring, what their window brings, what random ones bring."""
    spread = f"({score_text(found.random_low)} to {score_text(found.random_high)})"
    return (
        printable(f"{found.direction} {set_window(found)}"),
        f"{len(found.neurons):,} of {found.candidates:,}",
        numbers.with_interval(found.score, found.low, found.high, score_text),
        score_text(found.window_score),
        f"{score_text(found.random_score)} {spread}",
    )


def set_window(found: NeuronSet) -> str:
    """The layers of its window, as `window_text` says them."""
    if found.layer < 0:
        return "all"
    return str(found.first) if found.first == found.last else f"{found.first}-{found.last}"


def set_legend(found: Iterable[NeuronSet]) -> str:
    """The meaning of the columns of `set_cells`."""
    goals = " or ".join(dict.fromkeys(f"{100 * one.goal:.3g} %" for one in found))
    return (
        f"The fewest neurons whose coefficients, put back alone, bring {goals} of what their window brings (column of),"
        " confirmed by putting them back. Random sets: as many of each layer; mean, least and greatest krs_kl"
    )


def first_neurons(found: NeuronSet, limit: int) -> str:
    """The neurons that contribute most, with their layers and shares."""
    own = [f"{one.layer}/{one.neuron} {100 * one.contribution:.2g} %" for one in found.neurons[:limit]]
    left = len(found.neurons) - len(own)
    return f"{', '.join(own)}{f' and {left:,} more' if left else ''}"


def inconclusive(probe: Probe) -> str:
    """Why the scores are worth nothing: a control failed, there is none, or a score is not defined; else empty."""
    if not probe.controls:
        return "no control was measured"
    if not all(control.passed for control in probe.controls):
        return "a control failed"
    loss = probe.loss_unlearned
    if not np.isfinite([loss.mse, loss.mse_centred]).all():
        return "the losses are not finite"
    if not loss.mse > 0 or loss.mse_centred == 0 or loss.kl == 0:
        return "nothing to recover: the two models say the same"
    return ""


def control_lines(probe: Probe) -> Iterator[tuple[str, bool]]:
    """The controls that can fail, in words, and whether each passed; of those that passed only the tightest.

    Without any control nothing vouches for the scores, and that counts as failed.
    """
    if not probe.controls:
        yield inconclusive(probe), False
    held = [control for control in probe.controls if control.kind != "shown" or not control.passed]
    for _, group in groupby(sorted(held, key=_kind_of), key=_kind_of):
        controls = list(group)
        yield from ((control_text(control), False) for control in controls if not control.passed)
        if passed := [control for control in controls if control.passed]:
            yield control_text(max(passed, key=_tightness)), True


def _kind_of(control: Control) -> tuple[int, str, str]:
    names = list(DIRECTIONS)
    place = names.index(control.direction) if control.direction in names else len(names)
    return place, control.direction, control.name


def _tightness(control: Control) -> float:
    return control.value if control.kind == "at_most" else -control.value


def control_text(control: Control) -> str:
    """One control: what was measured, where, and what it is held to."""
    what = {
        "self_patch": "self-patch moves a logit by",
        "everything": f"everything put back at once: {control.score or 'score'}",
        "wrong_prompt": f"states of another question: {control.score or 'score'}",
    }.get(control.name, control.name)
    bounds = {"at_most": f" (at most {control.bound:.6g})", "at_least": f" (at least {control.bound:.6g})"}
    where = " ".join(word for word in (control.direction, control.mode, control.variant) if word)
    digits = ".1e" if control.name == "self_patch" else ".6g"
    return printable(f"{where}: {what} {control.value:{digits}}{bounds.get(control.kind, '')}")


def wrong_prompt(probe: Probe, run: ProbeRun) -> Control | None:
    """The control with another question's states that lies closest to the best window of a run, in its own score."""
    best = best_window(run)
    if best is None:
        return None
    own = run.direction, run.mode, run.variant
    found = [
        control
        for control in probe.controls
        if control.name == "wrong_prompt" and (control.direction, control.mode, control.variant) == own
    ]
    centre = int(run.layers[best])
    rank = ranking_score(run)
    return min(found, key=lambda one: (one.score != rank, abs((one.layer or 0) - centre)), default=None)


def wrong_prompt_lines(probe: Probe) -> Iterator[str]:
    """For each run with such a control: how much of its score another question's states bring as well."""
    for run in probe.runs:
        control = wrong_prompt(probe, run)
        if control is not None:
            against = "" if np.isnan(control.against) else f" against {score_text(control.against)}"
            where = f"{control.score or 'score'}, {_centre(run, control.layer)}"
            yield printable(f"{run_name(run)}: wrong prompt {score_text(control.value)}{against} ({where})")


def _centre(run: ProbeRun, layer: int | None) -> str:
    """The window with this centre, in words."""
    indices = [] if layer is None else np.flatnonzero(run.layers == layer).tolist()
    if indices:
        return _layers(run, indices[0])
    return "all layers" if layer is None or layer < 0 else f"layer {layer}"
