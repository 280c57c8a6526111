"""What a gate came to, in words for the end of a line about something else: `gate_text(verdict)`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.report.words.verdict import gate_outcome
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from ckdiff.report.schema.verdict import Outcome, Verdict

GATE_TEXTS: dict[Outcome | None, str] = {
    "passed": "the gate passed",
    "failed": "the gate failed",
    "inconclusive": "the gate was inconclusive",
}

OWN = "ckdiff's own, "
"""How a gate names a policy that ckdiff brings, before its name."""

ASKS = "require.knowledge"
"""The check of a policy that asks what became of the knowledge."""


def gate_text(found: Verdict | None) -> str:
    """What a gate came to, for the end of a line about something else, and what it never asked where it passed."""
    text, gate = GATE_TEXTS.get(gate_outcome(found), "not judged"), None if found is None else found.gate
    if found is None or gate is None or not passed_unasked(found):
        return text
    return f"{text}, by a policy ({printable(gate.source)}) that does not ask about the knowledge: '{found.knowledge}'"


def passed_unasked(found: Verdict) -> bool:
    """Whether its gate passed without a question about what became of the knowledge."""
    gate = found.gate
    return gate is not None and gate.outcome == "passed" and all(one.name != ASKS for one in gate.checks)


def replaced_text(before: Verdict | None, found: Verdict | None) -> str:
    """What another gate came to that this one takes the place of; "" where nothing is lost."""
    old, new = (None if one is None else one.gate for one in (before, found))
    if old is None or new is None or old.policy == new.policy:
        return ""
    return f"the gate by {printable(old.source)} ({old.outcome}) is replaced"
