"""A probe on a terminal: `console.print(view(report))`.

First what was probed and how far the unlearned model is from the base; then the best window of each run with all three
scores side by side, because they disagree; the curves over the layers; the controls that say whether any of it counts.
"""

from __future__ import annotations

import itertools
import warnings
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from ckdiff.report.schema.probe import SCORES
from ckdiff.report.terminal.parts import RAMP, bar, bullets, facts, folded, pair_facts, plain_table, safe, titled
from ckdiff.report.words.numbers import UNDEFINED, counted, percent
from ckdiff.report.words.probe import (
    SET_HEADS,
    best_window,
    beyond_chance,
    by_direction,
    control_lines,
    curve,
    direction_words,
    first_neurons,
    inconclusive,
    interval_text,
    loss_text,
    losses_text,
    ranked_by,
    remarks,
    score_text,
    set_cells,
    set_legend,
    settings_text,
    window_text,
    wrong_prompt_lines,
)
from ckdiff.report.words.sections import WHOLE, Selection
from ckdiff.untrusted import printable, shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rich.console import RenderableType

    from ckdiff.report.schema.probe import NeuronSet, Probe, ProbeRun
    from ckdiff.report.schema.report import Report
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


def view(report: Report, selection: Selection = WHOLE) -> RenderableType:
    """Everything a reader of `ckdiff probe` needs, for a terminal of 80 columns and more."""
    parts: list[RenderableType] = []
    found = report.probe
    if not report.complete:
        parts.append(Text("INCOMPLETE: the run was interrupted", style="bold red"))
    if found is None or not found.runs:
        parts.append(Text("NOTHING WAS PROBED", style="bold red"))
    if found is not None:
        parts += _sections(found, selection.questions)
    head = facts([*pair_facts(report), *(_facts_of(found) if found is not None else ())])
    return Group(*itertools.chain.from_iterable((part, Text()) for part in (head, *parts)))


def _facts_of(found: Probe) -> Iterator[tuple[str, str]]:
    yield "model type", f"{found.model_type or 'not stated'}, {counted(found.layer_count, 'layer')}"
    yield "settings", settings_text(found) or "not stated"
    source = found.settings.get("questions_source")
    yield "questions", f"{len(found.questions):,}{f' from {shorten(source, 160)}' if source else ''}"
    loss = found.loss_unlearned
    yield "its losses", losses_text(loss)
    yield "", f"{percent(loss.shift_share)} of the raw loss is a uniform shift that softmax cannot see"
    yield "", f"top1 {percent(loss.top1)}: where it would still say what the base says"


def _sections(found: Probe, questions: int) -> Iterator[RenderableType]:
    if reason := inconclusive(found):
        yield Text(f"INCONCLUSIVE: {reason}, so no score below counts", style="bold red")
    for direction, runs in by_direction(found):
        yield titled(f"Best windows, {direction_words(direction)}", _windows(runs))
    if found.runs:
        yield _legend(found)
    if words := [line for run in found.runs for line in remarks(run)]:
        yield titled("Read with care", bullets(words))
    for direction, runs in by_direction(found):
        if layered := [run for run in runs if len(run.layers) > 1]:
            yield titled(f"By layer, {direction_words(direction)}", Group(*_curves(layered)))
    if found.neurons:
        yield titled("Which coefficients", _neurons(found.neurons))
    yield titled("Controls", _controls(found))
    if questions > 0 and found.questions:
        yield titled("Questions", _questions(found, questions))
    if found.notes:
        yield titled("Notes", bullets(found.notes))


def _windows(runs: Iterable[ProbeRun]) -> RenderableType:
    """Two lines a run: mode, window and scores; variant and intervals."""
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="dim")
    table.add_column("mode", overflow="fold")
    for name in ("best", *SHOWN, "top1", "best\nby krs"):
        table.add_column(Text(name), no_wrap=True)
    for run in runs:
        table.add_row(Text(f"{printable(run.mode)}\n {printable(run.variant)}"), *_window_cells(run))
    return table


def _window_cells(run: ProbeRun) -> Iterator[Text]:
    best = best_window(run)
    if best is None:
        yield Text(UNDEFINED)
        return
    where = window_text(run, best)
    yield Text(where, style="bold") if beyond_chance(run) else Text(f"unsure\n({where})")
    for name in SHOWN:
        yield Text(f" {score_text(curve(run, name).score[best])}\n{interval_text(run, name, best)}")
    yield Text(score_text(run.top1[best]))
    yield Text(window_text(run, best_window(run, "krs")))


def _legend(found: Probe) -> Text:
    lines = [*LEGEND]
    if any(not beyond_chance(run) for run in found.runs):
        lines.append("unsure (n-m): highest at n-m, but its band reaches 0: nothing is shown there")
    lines += [f"ranked by {rank}: {names}" for rank, names in _ranked_otherwise(found).items()]
    if len(found.questions) < 2:
        lines.append("no intervals: they need two questions and more")
    return Text("\n".join(lines), style="dim")


def _ranked_otherwise(found: Probe) -> dict[str, str]:
    """Runs whose windows another score than `krs_kl` ranks, by that score."""
    names: dict[str, list[str]] = {}
    for run in found.runs:
        rank = ranked_by(run)
        if rank not in (None, "krs_kl"):
            names.setdefault(str(rank), []).append(printable(f"{run.mode} {run.variant}"))
    return {rank: ", ".join(dict.fromkeys(runs)) for rank, runs in names.items()}


def _curves(runs: Iterable[ProbeRun]) -> Iterator[Text]:
    """Three lines a run and the layers under them; all on one ramp from 0 to 1."""
    for run in runs:
        yield Text(printable(f"{run.mode} {run.variant}, window {run.window}"))
        for name in SHOWN:
            yield Text(f"  {name}".ljust(LABEL), style="dim").append_text(_line(curve(run, name).score))
        yield Text("  layer".ljust(LABEL) + _scale(run.layers.tolist()), style="dim")
    legend = Text(f"{NONE} 0 or less; ", style="dim")
    for step in range(len(RAMP)):
        legend.append_text(bar(step, 1))
    yield legend.append(" 0 to 1 and above; a gap: not measured", style="dim")


def _line(scores: PerLayer) -> Text:
    line, width = Text(), _cell_width(len(scores))
    for value in _averaged(scores):
        if np.isnan(value):
            line.append(" " * width)
        elif value <= 0:
            line.append(NONE * width, style="dim")
        else:
            line.append_text(bar(min(int(value * len(RAMP)), len(RAMP) - 1), width))
    return line


def _averaged(scores: PerLayer) -> list[float]:
    """At most `CURVE_CELLS` values: neighbours averaged where there are more, NaN left out."""
    cells = np.array_split(scores, min(len(scores), CURVE_CELLS))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the mean of a cell that is all NaN is NaN, as it should be
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


def _neurons(sets: Sequence[NeuronSet]) -> RenderableType:
    """A line a set and the neurons that contribute most, then what the columns mean."""
    table = plain_table(SET_HEADS[0], SET_HEADS[1:])
    for one in sets:
        table.add_row(*map(Text, set_cells(one)))
    first = [f"{set_cells(one)[0]}: {first_neurons(one, LISTED_NEURONS)}" for one in sets]
    legend = Text(f"{set_legend(sets)}. Below: layer/neuron and its share of the window's effect.", style="dim")
    return Group(table, legend, bullets(first))


def _controls(found: Probe) -> RenderableType:
    lines: list[Text] = []
    for words, passed in control_lines(found):
        line = Text(words)
        lines.append(line.append(": passed", style="green") if passed else line.append(": FAILED, INCONCLUSIVE"))
        line.style = "" if passed else "bold red"
    wrong = [Text(line) for line in wrong_prompt_lines(found)]
    if wrong:
        wrong.append(Text(WRONG_PROMPT, style="dim"))
    return folded([*lines, *wrong])


def _questions(found: Probe, limit: int) -> RenderableType:
    table = plain_table("question and answer", ("KL", "centred mse", "mse", "top1"))
    for question in found.questions[:limit]:
        words = Text(shorten(printable(question.text), 200))
        words.append(f"\n  {shorten(printable(question.answer), 200)}", style="dim")
        numbers = (loss_text(value) for value in (question.kl, question.mse_centred, question.mse))
        table.add_row(words, *numbers, score_text(question.top1))
    left = len(found.questions) - limit
    return Group(table, safe(f"… and {left:,} more")) if left > 0 else table
