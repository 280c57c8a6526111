"""The report for other programs: JSON, CSV and Markdown. `FORMATS[name](report)` is the text, ending in a line end.

A new format is one function and one line in `FORMATS`.
"""

from __future__ import annotations

import csv
import html
import io
import json
import math
import re
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, Literal

from ckdiff.report.probe_text import (
    CURVE_PARTS,
    best_window,
    beyond_chance,
    by_direction,
    control_lines,
    direction_words,
    flat_run,
    inconclusive,
    losses_text,
    remarks,
    score_text,
    scored,
    settings_text,
    window_text,
    wrong_prompt_lines,
)
from ckdiff.report.schema import SCORES, Drift, TensorDrift
from ckdiff.report.text import (
    amount,
    component_peaks,
    coverage_lines,
    flat,
    number,
    percent,
    printable,
    shape_text,
    shorten,
    top_neurons,
    top_tensors,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ckdiff.report.schema import Comparison, Grid, Probe, ProbeRun, QuestionRecord, Report

TOP_NEURONS = 100
"""Neurons of each component in the JSON; the HDF5 report holds all of them."""
TOP_TENSORS = 20
LISTED_CHANGES = 50
NOTHING = "NOTHING WAS COMPARED"
CAUTION = (
    "A best window is selected from many: read it by the band of the score that ranks the windows (`krs_kl`, what"
    " changes behaviour), never by the raw `krs`, which also counts a uniform shift that softmax cannot see."
)


# ------------------------------------------------------------------------------------------------------------ JSON


def to_json(report: Report) -> str:
    """The report as one JSON object, with the names of the HDF5 report; NaN and infinities are null.

    Of the neurons only those that moved most are in it, `TOP_NEURONS` of each component.
    """
    tree = {
        "schema_version": report.schema_version,
        "complete": report.complete,
        "versions": dict(report.versions),
        "provenance": asdict(report.provenance),
        "compare": None if report.compare is None else _comparison(report.compare),
        "probe": None if report.probe is None else _probe(report.probe),
    }
    return json.dumps(_finite(tree), indent=2, allow_nan=False) + "\n"


def _comparison(found: Comparison) -> dict[str, Any]:
    grids = found.neurons.items()
    return {
        "model_type": found.model_type,
        "known_architecture": found.known_architecture,
        "tensors": [flat(row) for row in found.tensors],
        "components": [flat(row) for row in found.components],
        "grid": _grid(found.grid),
        "neurons": [asdict(row) for name, grid in grids for row in top_neurons(name, grid, TOP_NEURONS)],
        "only_in_base": [asdict(row) for row in found.only_in_base],
        "only_in_unlearned": [asdict(row) for row in found.only_in_unlearned],
        "shape_mismatch": [asdict(row) for row in found.shape_mismatch],
        "config_changes": [asdict(row) for row in found.config_changes],
        "ignored": list(found.ignored),
        "notes": list(found.notes),
    }


def _grid(grid: Grid) -> dict[str, Any]:
    arrays = {field.name: getattr(grid, field.name) for field in fields(grid) if field.name != "components"}
    return {"components": list(grid.components), **{name: array.tolist() for name, array in arrays.items()}}


def _probe(found: Probe) -> dict[str, Any]:
    return {
        "model_type": found.model_type,
        "layer_count": found.layer_count,
        "runs": [_run(run) for run in found.runs],
        "loss_unlearned": asdict(found.loss_unlearned),
        "controls": [asdict(control) for control in found.controls],
        "questions": [_question(question) for question in found.questions],
        "settings": dict(found.settings),
        "notes": list(found.notes),
    }


def _run(run: ProbeRun) -> dict[str, Any]:
    return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in flat_run(run).items()}


def _question(question: QuestionRecord) -> dict[str, Any]:
    return {**asdict(question), "tokens": len(question.answer_ids)}


def _finite(value: Any) -> Any:
    """The same tree with None for every float that JSON has no word for."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# ------------------------------------------------------------------------------------------------------------- CSV


def to_csv(report: Report, section: Literal["compare", "probe"] | None = None) -> str:
    """One section of a report as rows under the names of the report; an empty cell is "not defined".

    Args:
        report: what was found.
        section: `compare`, a row a tensor, or `probe`, a row a window of each run (layer -1: a run about no single
            window); by default the probe where that is all there is.
    """
    if section is None:
        section = "probe" if report.compare is None and report.probe is not None else "compare"
    output = io.StringIO()
    rows = _probe_rows(report.probe) if section == "probe" else _tensor_rows(report.compare)
    csv.writer(output, lineterminator="\n").writerows(rows)
    return output.getvalue()


def _tensor_rows(found: Comparison | None) -> Iterable[list[str]]:
    own = [field.name for field in fields(TensorDrift) if field.name != "drift"]
    names = [*own, *(field.name for field in fields(Drift))]
    yield names
    for row in found.tensors if found else ():
        values = flat(row)
        yield [_cell(values[name]) for name in names]


def _probe_rows(found: Probe | None) -> Iterable[list[str]]:
    own = ("direction", "mode", "variant", "window")
    curves = [score + end for score in SCORES for end in CURVE_PARTS]
    arrays = ("first", "last", *curves, "krs_mean_of_ratios", "top1")
    yield [*own, "layer", *arrays]
    for run in found.runs if found else ():
        values = flat_run(run)
        for index, layer in enumerate(run.layers.tolist()):
            at_window = (values[name][index].item() for name in arrays)
            yield [_cell(value) for value in (*(values[name] for name in own), layer, *at_window)]


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return shape_text(value)
    if isinstance(value, str):
        return _no_formula(printable(value))
    return "" if value is None or value != value else repr(value)


def _no_formula(text: str) -> str:
    """A spreadsheet runs a cell that begins like a formula: an apostrophe in front makes it text."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


# -------------------------------------------------------------------------------------------------------- Markdown


def to_markdown(report: Report) -> str:
    """A summary to paste into an issue: what was compared, coverage, components, top tensors, changed settings.

    Of a probe: the best windows, the controls, and what to beware of.
    """
    sides = report.provenance.base.location, report.provenance.unlearned.location
    pair = f"base: {_escape(sides[0])}  \nunlearned: {_escape(sides[1])}"
    compared = report.compare is not None and bool(report.compare.tensors)
    parts = []
    if report.compare is not None or report.probe is None:
        parts += ["## ckdiff compare", pair, *([] if compared else [f"**{NOTHING}**"])]
    if report.compare is not None:
        parts += _sections(report.compare)
    if report.probe is not None:
        parts += ["## ckdiff probe", *([] if report.compare else [pair]), *_probe_sections(report.probe)]
    return "\n\n".join(parts) + "\n"


def _probe_sections(found: Probe) -> Iterable[str]:
    if reason := inconclusive(found):
        yield f"**INCONCLUSIVE: {reason}**"
    loss = found.loss_unlearned
    facts = [
        f"{found.model_type or 'model type not stated'}, {found.layer_count} layers, {len(found.questions)} questions",
        settings_text(found) or "settings not stated",
        f"unlearned model: {losses_text(loss)}, of which {percent(loss.shift_share)} is a uniform shift that softmax"
        f" cannot see; top1 {percent(loss.top1)}",
    ]
    yield _listed(facts)
    for direction, runs in by_direction(found):
        yield f"### Best windows, {_escape(direction_words(direction))}"
        heads = ("mode", "variant", "best", *reversed(SCORES), "top1", "best by krs alone")
        yield _table(heads, [_window_cells(run) for run in runs], left=3)
    yield CAUTION + " In brackets: its simultaneous 95 % band, and the pointwise 95 % intervals of the other scores."
    if words := [line for run in found.runs for line in remarks(run)]:
        yield _listed(words)
    yield "### Controls"
    verdicts = [f"{line}: {'passed' if passed else 'FAILED: INCONCLUSIVE'}" for line, passed in control_lines(found)]
    yield _listed([*verdicts, *wrong_prompt_lines(found)])
    if found.notes:
        yield "### Notes"
        yield _listed(found.notes)


def _listed(lines: Iterable[str]) -> str:
    return "\n".join(f"- {_escape(line)}" for line in lines)


def _window_cells(run: ProbeRun) -> list[str]:
    best = best_window(run)
    if best is None:
        return [run.mode, run.variant, *("not measured",) * 6]
    where = window_text(run, best) if beyond_chance(run) else f"unsure ({window_text(run, best)})"
    scores = [scored(run, name, best) for name in reversed(SCORES)]
    raw = window_text(run, best_window(run, "krs"))
    return [run.mode, run.variant, where, *scores, score_text(run.top1[best]), raw]


def _sections(found: Comparison) -> Iterable[str]:
    yield "### Coverage"
    yield "\n".join(f"- {_escape(line)}" for line in coverage_lines(found))
    if any(not row.drift.identical for row in found.tensors):
        yield "### Components"
        heads = (
            "component",
            "tensors",
            "parameters",
            "1-cos",
            "relative L2",
            "largest 1-cos",
            "changed",
            "max abs diff",
        )
        yield _table(heads, _component_cells(found), left=1)
    if rows := top_tensors(found, TOP_TENSORS):
        yield "### Tensors that moved most"
        cells = [[row.name, row.component, *_numbers(row.drift)] for row in rows]
        yield _table(("tensor", "component", "1-cos", "relative L2", "changed", "max abs diff"), cells, left=2)
    if found.config_changes:
        yield "### Settings"
        values = [(row.file, row.key, _setting(row.base), _setting(row.unlearned)) for row in found.config_changes]
        yield _table(("file", "key", "base", "unlearned"), values[:LISTED_CHANGES], left=4)
        if len(values) > LISTED_CHANGES:
            yield f"… and {len(values) - LISTED_CHANGES} more"


def _component_cells(found: Comparison) -> list[list[str]]:
    peaks = component_peaks(found)
    cells = []
    for row in found.components:
        one_minus_cosine, length, changed, largest = _numbers(row.drift)
        size = [f"{row.component} (tied)" if row.tied else row.component, str(row.tensors), amount(row.parameters)]
        peak = number(peaks.get(row.component, math.nan))
        cells.append([*size, one_minus_cosine, length, peak, changed, largest])
    return cells


def _numbers(drift: Drift) -> tuple[str, str, str, str]:
    """1-cos, relative L2, changed share, largest difference."""
    changed = percent(drift.changed_fraction)
    return number(drift.one_minus_cosine), number(drift.relative_l2), changed, number(drift.max_abs_diff)


def _setting(value: str | None) -> str:
    return "(none)" if value is None else shorten(value, 80)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> str:
    """A Markdown table whose first `left` columns are text and the others numbers."""
    rule = [":--" if column < left else "--:" for column in range(len(heads))]
    lines = [list(heads), rule, *([_escape(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escape(text: str) -> str:
    """Text that neither Markdown nor HTML reads as markup, link or mention."""
    safe = html.escape(printable(text), quote=False)
    safe = re.sub(r"([\\`*_\[\]|~$#!])", r"\\\1", safe)
    return safe.replace("@", "&#64;").replace("://", "&#58;//")


FORMATS: dict[str, Callable[[Report], str]] = {"json": to_json, "csv": to_csv, "md": to_markdown}
"""Name of the format, as `--format` takes it: the function that writes it."""
