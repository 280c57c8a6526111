"""What a report says about the claim that something was unlearned: claims, evidence and counter-evidence.

The first claim is that of whoever released the model, and not ckdiff's: that it holds no longer what was to go. What
the report found stands among its evidence or its counter-evidence, and the statement of the verdict always among one of
them: only `gone` speaks for it.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ckdiff.report.cyclonedx.models import UNLEARNED, pair_reference
from ckdiff.report.words import verdict as words
from ckdiff.report.words.attack import tier_lines, tier_name
from ckdiff.report.words.campaign import carrier_text
from ckdiff.report.words.depth import headline as depth_line
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckdiff.report.schema.attack import TierEvidence
    from ckdiff.report.schema.campaign import Campaign, Cell
    from ckdiff.report.schema.report import Report
    from ckdiff.report.schema.verdict import Gate, GateCheck, RuleResult, Verdict

GONE = "What was to be unlearned is no longer in this model"
WHERE = "Where the effect lives"
POLICY = "This model meets the policy"

SCORES = {"passed": 1.0, "failed": 0.0, "inconclusive": 0.0}
"""Conformance by the outcome of a check; what was not shown does not conform."""


CHANCE = 0.05
"""A p-value that is no longer chance."""


@dataclass(slots=True)
class Claim:
    """A claim that is being made, and what speaks for and against it."""

    reference: str
    predicate: str
    reasoning: str
    target: str = UNLEARNED
    evidence: list[dict[str, Any]] = field(default_factory=list)
    counter: list[dict[str, Any]] = field(default_factory=list)

    def add(self, speaks_for: bool, name: str, text: str, **figures: object) -> None:
        """Add a piece of evidence, with what was counted or measured."""
        side = self.evidence if speaks_for else self.counter
        number = len(self.evidence) + len(self.counter)
        reference = f"{self.reference}/{number}"
        row: dict[str, Any] = {"bom-ref": reference, "propertyName": printable(f"ckdiff:{name}")}
        kept = {key: value for key, value in figures.items() if not isinstance(value, float) or math.isfinite(value)}
        if kept:
            content = {"contentType": "application/json", "content": json.dumps(kept, sort_keys=True, allow_nan=False)}
            row["data"] = [{"name": "figures", "contents": {"attachment": content}}]
        side.append(row | {"description": printable(text)})

    def tree(self) -> dict[str, Any]:
        """The claim as it is written."""
        found: dict[str, Any] = {"bom-ref": self.reference, "target": self.target, "predicate": self.predicate}
        found |= {"reasoning": self.reasoning}
        for name, rows in (("evidence", self.evidence), ("counterEvidence", self.counter)):
            if rows:
                found[name] = [row["bom-ref"] for row in rows]
        return found


def declarations_of(report: Report, verdict: Verdict) -> dict[str, Any]:
    """The claims about a pair, and how far they meet the policy."""
    claims = [_gone(report, verdict), _where(verdict)]
    found: dict[str, Any] = {}
    if verdict.gate is not None:
        claims.append(_policy(verdict.gate))
        found["attestations"] = [{"summary": words.gate_line(verdict.gate), "map": list(_map(verdict.gate))}]
    return found | _written(claims)


def _written(claims: list[Claim]) -> dict[str, Any]:
    rows = [row for one in claims for row in (*one.evidence, *one.counter)]
    return {"claims": [one.tree() for one in claims], "evidence": rows}


def _gone(report: Report, verdict: Verdict) -> Claim:
    """The claim that the knowledge is gone."""
    claim = Claim("claim:gone", GONE, words.knowledge_text(verdict))
    claim.add(
        words.finding(verdict) == "passed", "knowledge", words.knowledge_text(verdict), knowledge=verdict.knowledge
    )
    for tier in report.attack.tiers if report.attack is not None else ():
        _add_tier(claim, tier)
    if report.depth is not None:
        found = report.depth.depth
        # A depth is no threshold: it speaks for erasure where the verdict, which knows the whole case, says gone.
        speaks_for = words.finding(verdict) == "passed"
        claim.add(speaks_for, "depth", depth_line(report.depth), value=found.value, low=found.low, high=found.high)
    return claim


def _add_tier(claim: Claim, tier: TierEvidence) -> None:
    """What a tier of attacks says.

    Answers that came back beyond a reference's, and matching, speak against the claim; nothing speaks for it, where the
    tier could have shown something. Where it could not, it says nothing.
    """
    beyond = tier.returned if tier.beyond < 0 else tier.beyond
    against = beyond > 0 or (tier.informative and tier.p <= CHANCE)
    if not tier.ran or not (against or tier.able):
        return
    text = f"tier {tier_name(tier.tier)}: {tier.returned} of {tier.asked} answers came back word for word"
    text = ". ".join((text, *tier_lines(tier)))
    figures = {"returned": tier.returned, "asked": tier.asked, "z": tier.z, "p": tier.p, "able": tier.able}
    claim.add(not against, f"attack:tier-{tier.tier}", text, **figures)


def _where(verdict: Verdict) -> Claim:
    """The statement about where the effect lives, with the rules that it rests on."""
    claim = Claim("claim:where", f"{WHERE}: {words.verdict_line(verdict)}", printable(verdict.reason))
    for rule in words.rules_that_hold(verdict):
        claim.add(True, f"rule:{rule.name}", rule.text, **_figures(rule))
    return claim


def _figures(found: RuleResult | GateCheck) -> dict[str, object]:
    return {"value": found.value, "threshold": found.threshold}


# ---------------------------------------------------------------------------------------------------------- the policy


def standard_of(gate: Gate) -> dict[str, Any]:
    """The policy as a standard, a requirement each check."""
    rows = [
        {"bom-ref": _requirement(number), "identifier": printable(check.name)}
        for number, check in enumerate(gate.checks)
    ]
    found = {"bom-ref": "policy", "name": printable(gate.source) or "policy", "requirements": rows}
    return found | ({"version": printable(f"sha256:{gate.digest}")} if gate.digest else {})


def _requirement(number: int) -> str:
    return f"policy/check/{number}"


def _policy(gate: Gate) -> Claim:
    claim = Claim("claim:policy", POLICY, words.gate_line(gate))
    for check in gate.checks:
        claim.add(
            check.outcome == "passed", f"check:{check.name}", check.text, outcome=check.outcome, **_figures(check)
        )
    return claim


def _map(gate: Gate) -> Iterator[dict[str, Any]]:
    """Each requirement, and how far it is met."""
    for number, check in enumerate(gate.checks):
        side = "claims" if check.outcome == "passed" else "counterClaims"
        conformance = {"score": SCORES[check.outcome], "rationale": printable(f"{check.outcome}: {check.text}")}
        yield {"requirement": _requirement(number), side: ["claim:policy"], "conformance": conformance}


# ---------------------------------------------------------------------------------------------------------- a campaign


def campaign_declarations(found: Campaign) -> dict[str, Any]:
    """A claim each pair and concept that was judged."""
    numbers = {pair.name: number for number, pair in enumerate(found.pairs)}
    cells = [cell for cell in found.cells if cell.label]
    return _written([_cell(cell, number, numbers[cell.pair]) for number, cell in enumerate(cells)])


def _cell(cell: Cell, number: int, pair: int) -> Claim:
    concept = f" ({printable(cell.concept)})" if cell.concept else ""
    predicate = f"{POLICY}{concept}" if cell.gate else f"{WHERE}{concept}: {printable(cell.label)}"
    claim = Claim(f"claim:{number}", predicate, printable(cell.verdict), pair_reference(pair))
    claim.add(True, "verdict", f"{cell.label}: {cell.verdict}", carried_by=carrier_text(cell), questions=cell.questions)
    if cell.gate:
        claim.add(cell.gate == "passed", "gate", cell.checks or cell.gate, outcome=cell.gate)
    return claim
