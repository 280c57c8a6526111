"""A probe on a terminal.

First what was probed and how far the unlearned model is from the base; then the best window of each run with all three
scores side by side, because they disagree; the curves over the layers; the controls that say whether any of it counts.
"""

from __future__ import annotations

import warnings as python_warnings
from typing import TYPE_CHECKING

import numpy as np
from rich.text import Text

from ckdiff.report.schema.probe import SCORES
from ckdiff.report.terminal.parts import (
    RAMP,
    add_rows,
    bar,
    bare,
    bullets,
    dim,
    facts,
    pair_facts,
    plain_table,
    safe,
    warning,
    warnings,
    with_title,
    words_column,
)
from ckdiff.report.words import probe as words
from ckdiff.report.words.intervals import curves_text
from ckdiff.report.words.numbers import UNDEFINED, count_of, percent
from ckdiff.untrusted import printable, shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import RenderableType

    from ckdiff.report.schema.probe import NeuronSet, Probe, ProbeRun
    from ckdiff.report.schema.report import Report
    from ckdiff.report.words.sections import Selection
    from ckdiff.shapes import PerLayer

SHOWN = tuple(reversed(SCORES))
"""The scores from left to right and from top to bottom: the one about behaviour first."""

NONE = "·"
"""Mark of a score that is not above 0."""

CURVE_CELLS = 60

LABEL = 14
"""Characters before a curve."""

LISTED_NEURONS = 5

WRONG_PROMPT = "wrong prompt: the same window with another question's states; what it brings is not this knowledge"

LEGEND = (
    "krs_kl: what changes behaviour; krs: the paper's, which also counts a uniform",
    "shift. In brackets: of the score that ranks the windows (krs_kl) the 95 % band",
    "over all windows, since a best window is a selected one; of the other scores the",
    "pointwise 95 % interval there. by krs: where krs alone would put the window.",
)


def parts(report: Report, selection: Selection) -> Iterator[RenderableType]:
    """Everything a reader of `ckdiff probe` needs."""
    found = report.probe
    yield facts([*pair_facts(report), *(_facts_of(found) if found is not None else ())])
    yield from warnings(report, "NOTHING WAS PROBED" if found is None or not found.runs else "")
    if found is not None:
        yield from _scores(found)
        yield from _evidence(found, selection.questions)


def _facts_of(found: Probe) -> Iterator[tuple[str, str]]:
    yield "model type", f"{found.model_type or 'not stated'}, {count_of(found.layer_count, 'layer')}"
    yield "settings", words.settings_text(found) or "not stated"
    source = found.settings.get("questions_source")
    yield "questions", f"{len(found.questions):,}{f' from {shorten(source, 160)}' if source else ''}"
    loss = found.loss_unlearned
    yield "its losses", words.losses_text(loss)
    yield "", f"{percent(loss.shift_share)} of the raw loss is a uniform shift that softmax cannot see"
    yield "", f"top1 {percent(loss.top1)}: where it would still say what the base says"


def _scores(found: Probe) -> Iterator[RenderableType]:
    if reason := words.inconclusive(found):
        yield warning(f"INCONCLUSIVE: {reason}, so no score below counts")
    for direction, runs in words.by_direction(found.runs):
        yield with_title(f"Best windows, {words.direction_words(direction)}", _windows(runs))
    if found.runs:
        yield dim(*_legend(found))
    if lines := [line for run in found.runs for line in words.remarks(run)]:
        yield with_title("Read with care", bullets(lines))
    for direction, runs in words.by_direction(found.runs):
        if layered := [run for run in runs if len(run.layers) > 1]:
            yield with_title(f"By layer, {words.direction_words(direction)}", *_curves(layered))
    if spared := words.spared_text(found):
        yield dim(spared)


def _evidence(found: Probe, questions: int) -> Iterator[RenderableType]:
    if found.neurons:
        yield with_title("Which coefficients", *_neurons(found.neurons))
    yield with_title("Controls", _controls(found))
    if questions > 0 and found.questions:
        yield with_title("Questions", *_questions(found, questions))
    if found.notes:
        yield with_title("Notes", bullets(found.notes))


def _windows(runs: Iterable[ProbeRun]) -> RenderableType:
    """Two lines a run: mode, window and scores; variant and intervals."""
    table = bare(1)
    words_column(table, "mode")
    for name in ("best", *SHOWN, "top1", "best\nby krs"):
        table.add_column(Text(name), no_wrap=True)
    for run in runs:
        mode, variant, where, *figures = words.window_cells(run)
        cells = [Text(UNDEFINED)] if words.best_window(run) is None else _window_cells(where, figures)
        table.add_row(Text(f"{mode}\n {variant}"), *cells)
    return table


def _window_cells(where: str, figures: Sequence[str]) -> list[Text]:
    *scores, top1, by_krs = figures
    split = (f" {score}".replace(" [", "\n[", 1) if "[" in score else f" {score}\n" for score in scores)
    best = Text(where.replace(" (", "\n("), style="" if where.startswith("unsure") else "bold")
    return [best, *map(Text, split), Text(top1), Text(by_krs)]


def _legend(found: Probe) -> Iterator[str]:
    yield from LEGEND
    if any(not words.beyond_chance(run) for run in found.runs):
        yield "unsure (n-m): highest at n-m, but its band reaches 0: nothing is shown there"
    yield from (f"ranked by {rank}: {names}" for rank, names in _other_ranks(found).items())
    if len(found.questions) > 1:
        yield curves_text(found.settings)
    else:
        yield "no intervals: they need two questions and more"


def _other_ranks(found: Probe) -> dict[str, str]:
    """Runs whose windows another score than `krs_kl` ranks, by that score."""
    names: dict[str, list[str]] = {}
    for run in found.runs:
        rank = words.ranking_score(run)
        if rank not in (None, "krs_kl"):
            names.setdefault(str(rank), []).append(printable(f"{run.mode} {run.variant}"))
    return {rank: ", ".join(dict.fromkeys(runs)) for rank, runs in names.items()}


def _curves(runs: Iterable[ProbeRun]) -> Iterator[Text]:
    """Three lines a run and the layers under them; all on one ramp from 0 to 1."""
    for run in runs:
        yield Text(printable(f"{run.mode} {run.variant}, window {run.window}"))
        for name in SHOWN:
            yield Text(f"  {name}".ljust(LABEL), style="dim").append_text(_line(words.curve(run, name).score))
        yield Text("  layer".ljust(LABEL) + _scale(run.layers.tolist()), style="dim")
    legend = Text(f"{NONE} 0 or less; ", style="dim")
    for step in range(len(RAMP)):
        legend.append_text(bar(step, 1))
    yield legend.append(" 0 to 1 and above; a gap: not measured", style="dim")


def _line(scores: PerLayer) -> Text:
    line, width = Text(), _cell_width(len(scores))
    for value in _average_cells(scores):
        if np.isnan(value):
            line.append(" " * width)
        elif value <= 0:
            line.append(NONE * width, style="dim")
        else:
            line.append_text(bar(min(int(value * len(RAMP)), len(RAMP) - 1), width))
    return line


def _average_cells(scores: PerLayer) -> list[float]:
    """At most `CURVE_CELLS` values: neighbours averaged where there are more, NaN left out."""
    cells = np.array_split(scores, min(len(scores), CURVE_CELLS))
    with python_warnings.catch_warnings():
        python_warnings.simplefilter(
            "ignore", RuntimeWarning
        )  # The mean of a cell that is all NaN is NaN, as it should be.
        return [float(np.nanmean(cell)) for cell in cells]


def _cell_width(count: int) -> int:
    return 2 if 2 * count <= CURVE_CELLS else 1


def _scale(layers: list[int]) -> str:
    """Layer numbers, each above nothing but its own cell, with at least one space between them."""
    cells = np.array_split(np.array(layers), min(len(layers), CURVE_CELLS))
    text = ""
    for place, cell in enumerate(cells):
        start, layer = place * _cell_width(len(layers)), int(cell[0])
        if place == 0 or (layer % 5 == 0 and start >= len(text) + 2):
            text = text.ljust(start) + str(layer)
    return text


def _neurons(sets: Sequence[NeuronSet]) -> Iterator[RenderableType]:
    """A line a set and the neurons that contribute most, then what the columns mean."""
    cells = list(map(words.set_cells, sets))
    yield plain_table(words.SET_HEADS[0], words.SET_HEADS[1:], cells)
    yield dim(f"{words.set_legend(sets)}. Below: layer/neuron and its share of the window's effect.")
    first = (words.first_neurons(one, LISTED_NEURONS) for one in sets)
    yield bullets(f"{name}: {neurons}" for (name, *_), neurons in zip(cells, first, strict=True))


def _controls(found: Probe) -> RenderableType:
    lines: list[Text] = []
    for said, passed in words.control_lines(found):
        line = Text(said, style="" if passed else "bold red")
        lines.append(line.append(": passed", style="green") if passed else line.append(": FAILED, INCONCLUSIVE"))
    wrong = [*map(Text, words.wrong_prompt_lines(found))]
    return bullets([*lines, *wrong, *([dim(WRONG_PROMPT)] if wrong else [])])


def _questions(found: Probe, limit: int) -> Iterator[RenderableType]:
    table = plain_table("question and answer", ("KL", "centred mse", "mse", "top1"))
    for question in found.questions[:limit]:
        asked = Text(shorten(printable(question.text), 200))
        asked.append(f"\n  {shorten(printable(question.answer), 200)}", style="dim")
        losses = (words.loss_text(value) for value in (question.kl, question.mse_centred, question.mse))
        add_rows(table, [(asked, *losses, words.score_text(question.top1))])
    yield table
    if (left := len(found.questions) - limit) > 0:
        yield safe(f"… and {left:,} more")
