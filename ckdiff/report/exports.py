"""The report for other programs: JSON and CSV. `FORMATS[name](report)` is the text, ending in a line end.

A new format is one function and one line in `FORMATS`; a long one, like Markdown, has its own module.
"""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import asdict, fields, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, get_args

from ckdiff.report.behaviour_text import picked
from ckdiff.report.junit import to_junit
from ckdiff.report.markdown import to_markdown
from ckdiff.report.probe_text import CURVE_PARTS, flat_run
from ckdiff.report.schema import SCORES, Drift, NeutralRecord, Side, TensorDrift
from ckdiff.report.text import flat, printable, shape_text, top_neurons

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ckdiff.report.schema import (
        AnswerSet,
        Behaviour,
        ChoiceSet,
        Comparison,
        Grid,
        NeuronSet,
        NeutralSet,
        Probe,
        ProbeRun,
        QuestionRecord,
        Report,
        Verdict,
    )

TOP_NEURONS = 100
"""Neurons of each component in the JSON; the HDF5 report holds all of them."""
Section = Literal["compare", "probe", "behaviour", "verdict"]
SECTIONS: tuple[Section, ...] = get_args(Section)
"""What CSV takes one of, in this order of preference."""
SIDES: tuple[Side, ...] = get_args(Side)


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
        "behaviour": None if report.behaviour is None else _behaviour(report.behaviour),
        "verdict": None if report.verdict is None else asdict(report.verdict),
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
        "neurons": [_neurons(one) for one in found.neurons],
    }


def _neurons(found: NeuronSet) -> dict[str, Any]:
    return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in asdict(found).items()}


def _run(run: ProbeRun) -> dict[str, Any]:
    return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in flat_run(run).items()}


def _question(question: QuestionRecord) -> dict[str, Any]:
    return {**asdict(question), "tokens": len(question.answer_ids)}


def _behaviour(found: Behaviour) -> dict[str, Any]:
    return asdict(replace(found, settings=dict(found.settings)))


def _finite(value: Any) -> Any:
    """The same tree with None for every float that JSON has no word for."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


# ------------------------------------------------------------------------------------------------------------- CSV


def to_csv(report: Report, section: Section | None = None) -> str:
    """One section of a report as rows under the names of the report; an empty cell is "not defined".

    Args:
        report: what was found.
        section: `compare`, a row a tensor, or `probe`, a row a window of each run (layer -1: a run about no single
            window), or `behaviour`, a row a question that both models answered (where there was none, a row a
            multiple-choice question, or else a neutral text), or `verdict`, a row a rule and a row a check of its gate;
            by default the first of them that the report holds.
    """
    held: list[Section] = [name for name in SECTIONS if getattr(report, name) is not None]
    chosen = section or (*held, SECTIONS[0])[0]
    output = io.StringIO()
    csv.writer(output, lineterminator="\n").writerows(_rows(report, chosen))
    return output.getvalue()


def _rows(report: Report, section: Section) -> Iterable[list[str]]:
    if section == "probe":
        return _probe_rows(report.probe)
    if section == "verdict":
        return _verdict_rows(report.verdict)
    return _behaviour_rows(report.behaviour) if section == "behaviour" else _tensor_rows(report.compare)


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


def _behaviour_rows(found: Behaviour | None) -> Iterable[list[str]]:
    """Rows of the first kind of questions that was asked."""
    answered = found is not None and any(one.questions for one in found.answers)
    if found is not None and found.choices is not None and not answered:
        return _choice_rows(found.choices)
    if found is not None and found.neutral is not None and not answered:
        return _neutral_rows(found.neutral)
    return _answer_rows(found.answers if found else ())


def _answer_rows(sets: Iterable[AnswerSet]) -> Iterable[list[str]]:
    numbers = ("bleu", "exact", "logprob_base", "logprob_unlearned")
    names = ("text", "answer_base", "answer_unlearned", *numbers)
    yield ["set", *names, "tokens_base", "tokens_unlearned"]
    for one in sets:
        for row in one.questions:
            tokens = len(row.answer_base_ids), len(row.answer_unlearned_ids)
            yield [_cell(value) for value in (one.name, *(getattr(row, name) for name in names), *tokens)]


def _choice_rows(found: ChoiceSet) -> Iterable[list[str]]:
    yield ["set", "text", "choices", "answer", *(f"{name}_{side}" for side in SIDES for name in ("picked", "right"))]
    for row in found.questions:
        picks = [(picked(row, index), index == row.answer) for index in (row.picked_base, row.picked_unlearned)]
        values = (found.name, row.text, len(row.choices), picked(row, row.answer), *chain.from_iterable(picks))
        yield [_cell(value) for value in values]


def _neutral_rows(found: NeutralSet) -> Iterable[list[str]]:
    names = [field.name for field in fields(NeutralRecord)]
    yield names
    for row in found.texts:
        yield [_cell(getattr(row, name)) for name in names]


def _verdict_rows(found: Verdict | None) -> Iterable[list[str]]:
    """Rules, then checks of the gate; `outcome` is whether a rule fired, or what a check came to."""
    yield ["kind", "name", "outcome", "value", "sense", "threshold", "text"]
    for rule in found.rules if found else ():
        outcome = "fired" if rule.fired else "not fired"
        values = ("rule", rule.name, outcome, rule.value, rule.sense, rule.threshold, rule.text)
        yield [_cell(value) for value in values]
    for check in found.gate.checks if found and found.gate else ():
        yield [
            _cell(value) for value in ("check", check.name, check.outcome, check.value, "", check.threshold, check.text)
        ]


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


FORMATS: dict[str, Callable[[Report], str]] = {"json": to_json, "csv": to_csv, "md": to_markdown, "junit": to_junit}
"""Name of the format, as `--format` takes it: the function that writes it."""
