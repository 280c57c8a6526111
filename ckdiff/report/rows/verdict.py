"""The rows of a verdict: label and knowledge, then one a rule and one a check of its gate."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckdiff.report.schema.verdict import Verdict


def rows(found: Verdict | None) -> Iterator[Sequence[object]]:
    """The names of the columns, then statements, rules and checks; `outcome`: what each came to."""
    yield ["kind", "name", "outcome", "value", "sense", "threshold", "text"]
    if found is not None:
        yield ["statement", "label", found.label, found.explained, None, None, found.reason]
        yield ["statement", "knowledge", found.knowledge, None, None, None, found.knowledge_reason]
    for sentence in found.lacking if found else ():
        yield ["lacking", "knowledge", None, None, None, None, sentence]
    for rule in found.rules if found else ():
        outcome = "fired" if rule.fired else "not fired"
        yield ["rule", rule.name, outcome, rule.value, rule.sense, rule.threshold, rule.text]
    for check in found.gate.checks if found and found.gate else ():
        yield ["check", check.name, check.outcome, check.value, None, check.threshold, check.text]
    for note in found.gate.notes if found and found.gate else ():
        yield ["note", "policy", None, None, None, None, note]
