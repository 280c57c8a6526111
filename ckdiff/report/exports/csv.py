"""A section of a report as CSV."""

from __future__ import annotations

import csv
import io
from dataclasses import fields
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, get_args

from ckdiff.report.schema.behaviour import NeutralRecord
from ckdiff.report.schema.comparison import Drift, TensorDrift
from ckdiff.report.schema.probe import CURVE_PARTS, SCORES, flat_run
from ckdiff.report.schema.report import Side
from ckdiff.report.words.behaviour import picked
from ckdiff.report.words.numbers import flat, shape_text
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ckdiff.report.schema.behaviour import AnswerSet, Behaviour, ChoiceSet, NeutralSet
    from ckdiff.report.schema.comparison import Comparison
    from ckdiff.report.schema.probe import Probe
    from ckdiff.report.schema.report import Report
    from ckdiff.report.schema.verdict import Verdict


Section = Literal["compare", "probe", "behaviour", "verdict"]


SECTIONS: tuple[Section, ...] = get_args(Section)
"""What CSV takes one of, in this order of preference."""


SIDES: tuple[Side, ...] = get_args(Side)


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
