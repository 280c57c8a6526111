"""A verdict on a terminal: `console.print(view(report))`.

The verdict and why come first, then the gate, then what both rest on, and last which weights they are about. Every
outcome stands in words: colour only repeats it.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ckdiff.report.terminal.parts import bullets, facts, number_columns, pair_facts, plain_table, safe, titled
from ckdiff.report.words.sections import WHOLE, Selection
from ckdiff.report.words.verdict import (
    SHARES_LEGEND,
    check_cells,
    exit_text,
    fired,
    gate_count,
    gate_line,
    policy_text,
    rule_cells,
    ruled_out,
    share_cells,
    verdict_facts,
    verdict_line,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import RenderableType

    from ckdiff.report.schema.report import Report
    from ckdiff.report.schema.verdict import Explanation, Gate, Outcome, RuleResult, Verdict


NOTHING = "NOTHING WAS JUDGED"


STYLES: dict[Outcome, str] = {"passed": "bold green", "failed": "bold red", "inconclusive": "bold yellow"}


def view(report: Report, selection: Selection = WHOLE) -> RenderableType:
    """Everything a reader of `ckdiff audit` needs, for a terminal of 80 columns and more."""
    found = report.verdict
    parts: list[RenderableType] = []
    if not report.complete:
        parts.append(Text("INCOMPLETE: the run was interrupted", style="bold red"))
    if found is None:
        parts.append(Text(NOTHING, style="bold red"))
    else:
        parts += _sections(found)
    parts.append(titled("The weights that this is about", facts(pair_facts(report))))
    parts.append(Text(exit_text(found), style="dim"))
    return Group(*itertools.chain.from_iterable((part, Text()) for part in parts))


def _sections(found: Verdict) -> Iterator[RenderableType]:
    head = [Text(verdict_line(found), style="bold")]
    if found.gate is not None:
        head.append(Text(gate_line(found.gate), style=STYLES[found.gate.outcome]))
    yield Group(*head)
    yield facts(verdict_facts(found))
    if found.gate is not None:
        yield _gate(found.gate)
    if rules := fired(found):
        yield titled("Rules that hold", _rules(rules))
    if rules := ruled_out(found):
        yield titled("Rules that do not hold", _rules(rules))
    if found.explanations:
        yield titled("What brings the answers back, and what takes them away", _shares(found.explanations))
    if found.side_effects:
        yield titled("Side effects", bullets(found.side_effects))
    if found.unmeasured:
        yield titled("Not measured", bullets(found.unmeasured))


def _gate(gate: Gate) -> RenderableType:
    table = _columns()
    table.add_column("outcome", min_width=10, max_width=10)
    table.add_column("check", overflow="fold", max_width=30)
    table.add_column("what was found", overflow="fold", ratio=1)
    for check in gate.checks:
        outcome, name, _, _, text = check_cells(check)
        table.add_row(Text(outcome, style=STYLES[check.outcome]), safe(name), safe(text))
    return titled(f"Gate: policy {policy_text(gate)}", table if gate.checks else Text(gate_count(gate)))


def _rules(rules: Iterable[RuleResult]) -> RenderableType:
    table = _columns()
    table.add_column("rule", overflow="fold", max_width=20)
    number_columns(table, ("found", "needed"))
    table.add_column("what was looked at", overflow="fold", ratio=1)
    for rule in rules:
        table.add_row(*map(safe, rule_cells(rule)))
    return table


def _columns() -> Table:
    return Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")


def _shares(rows: Iterable[Explanation]) -> RenderableType:
    table = plain_table("put back", ())
    table.add_column("direction", overflow="fold")
    number_columns(table, ("layers", "krs_kl", "krs_centred"))
    for row in rows:
        table.add_row(*map(safe, share_cells(row)))
    return Group(table, Text(SHARES_LEGEND, style="dim"))
