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

SUBJECTS = {
    "measured": "anything measured",
    "controls": "the probe's controls",
    "verdict": "a conclusive verdict",
    "facts": "facts enough to tell anything",
    "require.sections": "the parts of the report",
    "require.questions": "facts asked about",
    "require.unrelated": "unrelated facts asked about",
    "require.modes": "states put back",
    "require.variants": "variants of the probe",
    "require.directions": "directions of the probe",
    "require.coverage": "the share that was compared",
    "require.basis": "neurons in the same order",
    "require.digests": "digests of both models",
    "require.base_digest": "the base's digest",
    "require.questions_digest": "the questions' digest",
    "require.widest_interval": "narrow intervals",
    "require.labels": "where the effect lives",
    "require.knowledge": "what became of the knowledge",
    "require.base_knows": "whether the base knows it",
    "require.attacks": "the attacks named",
    "require.tiers": "whole tiers of attacks",
    "require.reference": "a model that never knew",
    "require.detectable": "questions enough to see a change",
    "fail.labels": "where the effect lives",
    "fail.recovered": "what the base's states bring back",
    "fail.scores": "scores of the probe",
    "fail.target_bleu": "BLEU of the target answers",
    "fail.probability": "the answers' probability",
    "fail.recovery": "what attacks bring back",
    "fail.leak": "the answers' probability under attack",
    "fail.unrelated_bleu_loss": "unrelated answers that changed",
    "fail.choices_loss": "multiple-choice accuracy",
    "fail.neutral_kl": "change on neutral text",
    "fail.drift": "weights that moved",
    "fail.config_changes_except": "settings that changed",
    "fail.unexpected_tensors": "unexpected tensors",
}
"""What each check of a gate is about, in words for a list of them; those of how it was measured are `MEASURED`."""

MEASURED = "measure."

ASKS = "require.knowledge"
"""The check of a policy that asks what became of the knowledge."""


def gate_text(found: Verdict | None) -> str:
    """What a gate came to, for the end of a line about something else, and what it never asked where it passed."""
    text, gate = GATE_TEXTS.get(gate_outcome(found), "not judged"), None if found is None else found.gate
    if found is None or gate is None or not passed_unasked(found):
        return text
    return f"{text}, by a policy ({printable(gate.source)}) that does not ask about the knowledge: '{found.knowledge}'"


def check_subject(name: str) -> str:
    """What a check is about: `narrow intervals` for `require.widest_interval`; an unknown name as it is."""
    if name.startswith(MEASURED):
        return f"how it was measured ({printable(name.removeprefix(MEASURED))})"
    return SUBJECTS.get(name, printable(name))


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
