"""A probe in Markdown: the best windows, the controls, and what to beware of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.report.markdown.parts import bullet_list, escape, table
from ckdiff.report.schema.probe import BOUNDED, SCORES
from ckdiff.report.words import probe as words
from ckdiff.report.words.intervals import curves_text
from ckdiff.report.words.numbers import percent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckdiff.report.schema.probe import Probe
    from ckdiff.report.schema.report import Report

WINDOW_HEADS = ("mode", "variant", "best", *reversed(SCORES), "top1", "best by krs alone", BOUNDED)

CAUTION = (
    "A best window is selected from many: read it by the band of the score that ranks the windows (`krs_kl`, what"
    " changes behaviour), never by the raw `krs`, which also counts a uniform shift that softmax cannot see."
    " In brackets: its simultaneous 95 % band, and the pointwise 95 % intervals of the other scores."
)


def parts(report: Report) -> Iterator[str]:
    """Everything, a paragraph, list or table each."""
    yield "## ckdiff probe"
    if report.probe is not None:
        yield from _sections(report.probe)


def _sections(found: Probe) -> Iterator[str]:
    if reason := words.inconclusive(found):
        yield f"**INCONCLUSIVE: {reason}**"
    yield bullet_list(_facts(found))
    for direction, runs in words.by_direction(found.runs):
        yield f"### Best windows, {escape(words.direction_words(direction))}"
        cells = ([*words.window_cells(run), words.bounded_text(run)] for run in runs)
        yield table(WINDOW_HEADS, cells, left=3)
    yield f"{CAUTION} {curves_text(found.settings)}."
    if spared := words.spared_text(found):
        yield f"{escape(spared)}."
    if lines := [line for run in found.runs for line in words.remarks(run)]:
        yield bullet_list(lines)
    if found.neurons:
        yield "### Which coefficients"
        yield table(words.SET_HEADS, map(words.set_cells, found.neurons), left=1)
        yield f"{escape(words.set_legend(found.neurons))}."
    yield "### Controls"
    controls = words.control_lines(found)
    verdicts = [f"{line}: {'passed' if passed else 'FAILED: INCONCLUSIVE'}" for line, passed in controls]
    yield bullet_list([*verdicts, *words.wrong_prompt_lines(found)])
    if found.notes:
        yield "### Notes"
        yield bullet_list(found.notes)


def _facts(found: Probe) -> Iterator[str]:
    loss = found.loss_unlearned
    yield f"{found.model_type or 'model type not stated'}, {found.layer_count} layers, {len(found.questions)} questions"
    yield words.settings_text(found) or "settings not stated"
    shift = f"of which {percent(loss.shift_share)} is a uniform shift that softmax cannot see"
    yield f"unlearned model: {words.losses_text(loss)}, {shift}; top1 {percent(loss.top1)}"
