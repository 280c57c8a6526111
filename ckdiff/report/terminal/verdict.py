"""A verdict on a terminal.

The verdict and why come first, then the gate, then what both rest on, and last which weights they are about. Every
outcome stands in words: colour only repeats it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from ckdiff.report.terminal.parts import (
    STYLES,
    add_rows,
    bare,
    bullets,
    dim,
    facts,
    number_columns,
    pair_facts,
    plain_table,
    warnings,
    with_title,
    words_column,
)
from ckdiff.report.words import verdict as words
from ckdiff.report.words.commands import complete_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import RenderableType

    from ckdiff.report.schema.report import Report
    from ckdiff.report.schema.verdict import Explanation, Gate, RuleResult, Verdict
    from ckdiff.report.words.sections import Selection

NOTHING = "NOTHING WAS JUDGED"


def parts(report: Report, selection: Selection) -> Iterator[RenderableType]:
    """Everything a reader of `ckdiff audit` needs."""
    found = report.verdict
    yield from warnings(report, NOTHING if found is None else "")
    if found is not None:
        yield from _judgement(report, found, selection)
    yield with_title("The weights that this is about", facts(pair_facts(report)))
    yield dim(words.exit_text(found))


def _judgement(report: Report, found: Verdict, selection: Selection) -> Iterator[RenderableType]:
    head, gate = Text(words.verdict_line(found), style="bold"), found.gate
    yield head if gate is None else Group(head, Text(words.gate_line(gate), style=STYLES[gate.outcome]))
    said = dict(words.verdict_facts(found))
    place, typed = selection.place, selection.typed
    yield facts((said | {"to do": complete_text(said["to do"], report, place, typed)}).items())
    if gate is not None:
        notes = [bullets(words.gate_notes(gate))] if gate.notes else []
        yield with_title(f"Gate: policy {words.policy_text(gate)}", _checks(gate), *notes)
    if rules := words.rules_that_hold(found):
        yield with_title("Rules that hold", _rules(rules))
    if rules := words.rules_that_do_not(found):
        yield with_title("Rules that do not hold", _rules(rules))
    if found.explanations:
        title = "What brings the answers back, and what takes them away"
        yield with_title(title, _shares(found.explanations), dim(words.SHARES_LEGEND))
    if found.side_effects:
        yield with_title("Side effects", bullets(found.side_effects))
    if found.lacking:
        yield with_title(
            "What it would take to say more of the knowledge",
            bullets(complete_text(text, report, place, typed) for text in found.lacking),
        )
    if found.unmeasured:
        yield with_title("Not measured", bullets(found.unmeasured))


def _checks(gate: Gate) -> RenderableType:
    if not gate.checks:
        return Text(words.gate_count(gate))
    table = bare()
    table.add_column("outcome", min_width=10, max_width=10)
    words_column(table, "check", max_width=30)
    words_column(table, "what was found", ratio=1)
    for check in gate.checks:
        outcome, name, _, _, text = words.check_cells(check)
        add_rows(table, [(Text(outcome, style=STYLES[check.outcome]), name, text)])
    return table


def _rules(rules: Iterable[RuleResult]) -> RenderableType:
    table = bare()
    words_column(table, "rule", max_width=20)
    number_columns(table, ("found", "needed"))
    words_column(table, "what was looked at", ratio=1)
    return add_rows(table, map(words.rule_cells, rules))


def _shares(rows: Iterable[Explanation]) -> RenderableType:
    table = plain_table("put back", ())
    words_column(table, "direction")
    number_columns(table, ("layers", "krs_kl", "krs_centred"))
    return add_rows(table, map(words.share_cells, rows))
