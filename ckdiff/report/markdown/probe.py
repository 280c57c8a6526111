"""A probe in Markdown: the best windows, the controls, and what to beware of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.report.markdown.parts import escape, listed, table
from ckdiff.report.schema.probe import SCORES
from ckdiff.report.words.numbers import percent
from ckdiff.report.words.probe import (
    SET_HEADS,
    best_window,
    beyond_chance,
    by_direction,
    control_lines,
    direction_words,
    inconclusive,
    losses_text,
    remarks,
    score_text,
    scored,
    set_cells,
    set_legend,
    settings_text,
    window_text,
    wrong_prompt_lines,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ckdiff.report.schema.probe import Probe, ProbeRun
    from ckdiff.report.schema.report import Report

CAUTION = (
    "A best window is selected from many: read it by the band of the score that ranks the windows (`krs_kl`, what"
    " changes behaviour), never by the raw `krs`, which also counts a uniform shift that softmax cannot see."
)


def parts(report: Report) -> Iterator[str]:
    """Everything, a paragraph, list or table each."""
    yield "## ckdiff probe"
    if report.probe is not None:
        yield from _sections(report.probe)


def _sections(found: Probe) -> Iterable[str]:
    if reason := inconclusive(found):
        yield f"**INCONCLUSIVE: {reason}**"
    loss = found.loss_unlearned
    facts = [
        f"{found.model_type or 'model type not stated'}, {found.layer_count} layers, {len(found.questions)} questions",
        settings_text(found) or "settings not stated",
        f"unlearned model: {losses_text(loss)}, of which {percent(loss.shift_share)} is a uniform shift that softmax"
        f" cannot see; top1 {percent(loss.top1)}",
    ]
    yield listed(facts)
    for direction, runs in by_direction(found):
        yield f"### Best windows, {escape(direction_words(direction))}"
        heads = ("mode", "variant", "best", *reversed(SCORES), "top1", "best by krs alone")
        yield table(heads, [_window_cells(run) for run in runs], left=3)
    yield CAUTION + " In brackets: its simultaneous 95 % band, and the pointwise 95 % intervals of the other scores."
    if words := [line for run in found.runs for line in remarks(run)]:
        yield listed(words)
    if found.neurons:
        yield "### Which coefficients"
        yield table(SET_HEADS, map(set_cells, found.neurons), left=1)
        yield f"{escape(set_legend(found.neurons))}."
    yield "### Controls"
    verdicts = [f"{line}: {'passed' if passed else 'FAILED: INCONCLUSIVE'}" for line, passed in control_lines(found)]
    yield listed([*verdicts, *wrong_prompt_lines(found)])
    if found.notes:
        yield "### Notes"
        yield listed(found.notes)


def _window_cells(run: ProbeRun) -> list[str]:
    best = best_window(run)
    if best is None:
        return [run.mode, run.variant, *("not measured",) * 6]
    where = window_text(run, best) if beyond_chance(run) else f"unsure ({window_text(run, best)})"
    scores = [scored(run, name, best) for name in reversed(SCORES)]
    raw = window_text(run, best_window(run, "krs"))
    return [run.mode, run.variant, where, *scores, score_text(run.top1[best]), raw]
