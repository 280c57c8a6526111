"""How it was shown that the unlearned model still knows: `shown_by(verdict)`, and what that is in plain words.

Whether answers came back, or only the right ones are told from the wrong ones, is no small difference to a reader.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ckdiff.report.schema.attack import AttackReport
    from ckdiff.report.schema.verdict import Verdict

Shown = Literal["same", "asked", "attacked", "matched", ""]
"""The weights are the base's; it says it when it is simply asked; attacks brought answers back; answers were matched
to their questions; "": it is not there, or an older report does not say."""

STILL: dict[Shown, str] = {
    "same": "still there: the two checkpoints are one model",
    "asked": "still there: the unlearned model says it when it is simply asked",
    "attacked": "still there: attacks on the unlearned model alone bring answers back",
    "matched": "still there: by itself the unlearned model tells right answers from wrong ones, whatever it says",
    "": "still there: the unlearned model alone shows it",
}
"""The statement with what it rests on."""


def shown_by(found: Verdict) -> Shown:
    """What a verdict's `still there` rests on, by the rules that hold, in the order in which they decide."""
    if found.knowledge != "still there":
        return ""
    if found.label == "identical":
        return "same"
    held = {rule.name: rule.fired for rule in found.rules}
    if held.get("answers kept"):
        return "asked"
    if held.get("answers back") and held.get("guessed", True):
        return "attacked"
    return "matched" if held.get("matched") else ""


def plainly(found: Verdict, attack: AttackReport | None) -> str:
    """What was seen, for somebody who reads one sentence; empty where that is not known."""
    by = shown_by(found)
    if by == "matched":
        said = attack is not None and any(one.returned > 0 for one in attack.tiers)
        none = "What came back as text may be guesses" if said else "No answer came back as text"
        return f"{none}, but it tells the right answers from the wrong ones far more often than by chance"
    return {"asked": "It says it when it is simply asked", "attacked": "Attacks got answers out of it"}.get(by, "")
