"""A verdict as groups of a report file: `write_verdict(found)`, `read_verdict(node)`.

    attributes             label, reason, component, evidence (JSON)
    summary, layers        the figures, one row; the layers that carry the effect
    rules, explanations    rule; explanation
    side_effects, unmeasured
    policy, checks         the policy's text, one row; check: where there is a gate, and then as attributes also
                           gate (its outcome), policy_digest and policy_source

`evidence` says again what the groups hold, for readers of attributes; a file in which the two differ is refused. The
policy's text is no attribute, because an attribute holds at most 64 KB.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from ckdiff.report.hdf5.columns import (
    COUNT,
    FLAG,
    NUMBER,
    TEXT,
    Column,
    Line,
    Node,
    Table,
    encoded,
    read_table,
    scale,
    write_rows,
    write_table,
)
from ckdiff.report.schema.verdict import LABELS, OUTCOMES, Explanation, Gate, GateCheck, RuleResult, Sense, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence


def _one_of(known: Sequence[str]) -> Column:
    """A text that is one of some."""

    def decode(raw: bytes) -> str:
        return known[known.index(raw.decode())]

    return Column("S", encoded, decode)


FIGURES = ("explained", "explained_low", "explained_high", "score", "detectable")


SUMMARY = Table(dict, "summary", "", dict.fromkeys(FIGURES, NUMBER))


RULES = Table(
    RuleResult,
    "rule",
    "",
    {
        "name": TEXT,
        "fired": FLAG,
        "text": TEXT,
        "value": NUMBER,
        "threshold": NUMBER,
        "sense": _one_of(get_args(Sense)),
    },
)


EXPLANATIONS = Table(
    Explanation,
    "explanation",
    "",
    {
        **dict.fromkeys(("mode", "variant", "direction"), TEXT),
        **dict.fromkeys(("first", "last"), COUNT),
        **dict.fromkeys(("kl", "kl_low", "kl_high", "centred", "centred_low", "centred_high"), NUMBER),
        "decisive": FLAG,
    },
)


CHECKS = Table(
    GateCheck,
    "check",
    "",
    {"name": TEXT, "outcome": _one_of(OUTCOMES), "text": TEXT, "value": NUMBER, "threshold": NUMBER},
)


SENTENCE = Table(Line, "sentence", "", {"text": TEXT})


POLICY = Table(Line, "policy", "", {"text": TEXT})


VERDICT_TABLES = {"rules": RULES, "explanations": EXPLANATIONS}


SENTENCES = ("side_effects", "unmeasured")


GATE_PARTS = ("policy", "checks")


VERDICT_PARTS = ("summary", "layers", *VERDICT_TABLES, *SENTENCES)
"""Groups of every verdict; those of `GATE_PARTS` are there where a policy was given."""


def write_verdict(found: Verdict) -> Node:
    """A verdict as a group: its words as attributes, its figures and tables as groups inside."""
    evidence = json.dumps(_evidence(found), allow_nan=False)
    node = Node({"label": found.label, "reason": found.reason, "component": found.component, "evidence": evidence})
    node.groups["summary"] = write_rows(SUMMARY, [{name: getattr(found, name) for name in FIGURES}])
    node.groups["layers"] = Node(arrays={"layer": scale("layer", np.array(found.layers, dtype="i8"))})
    for name, table in VERDICT_TABLES.items():
        node.groups[name] = write_table(table, getattr(found, name))
    for name in SENTENCES:
        node.groups[name] = write_table(SENTENCE, map(Line, getattr(found, name)))
    if found.gate is not None:
        _write_gate(node, found.gate)
    return node


def read_verdict(node: Node) -> Verdict:
    """The verdict that a group holds.

    Raises:
        ValueError: a label or an outcome that there is not, or evidence that is not that of the tables.
    """
    (figures,) = read_table(SUMMARY, node.groups["summary"])
    held: dict[str, Any] = {name: read_table(table, node.groups[name]) for name, table in VERDICT_TABLES.items()}
    held |= {name: tuple(line.text for line in read_table(SENTENCE, node.groups[name])) for name in SENTENCES}
    found = Verdict(
        label=LABELS[LABELS.index(node.attributes["label"])],
        reason=str(node.attributes["reason"]),
        component=str(node.attributes["component"]),
        layers=tuple(node.groups["layers"].arrays["layer"].values.tolist()),
        gate=_read_gate(node) if "gate" in node.attributes else None,
        **figures,
        **held,
    )
    _check_evidence(json.loads(str(node.attributes["evidence"])), found)
    return found


def _write_gate(node: Node, gate: Gate) -> None:
    node.attributes |= {"gate": gate.outcome, "policy_digest": gate.digest, "policy_source": gate.source}
    node.groups["policy"] = write_table(POLICY, [Line(gate.policy)])
    node.groups["checks"] = write_table(CHECKS, gate.checks)


def _read_gate(node: Node) -> Gate:
    (policy,) = read_table(POLICY, node.groups["policy"])
    digest, source = (str(node.attributes[name]) for name in ("policy_digest", "policy_source"))
    outcome = OUTCOMES[OUTCOMES.index(node.attributes["gate"])]
    return Gate(policy.text, digest, source, outcome, read_table(CHECKS, node.groups["checks"]))


def _evidence(found: Verdict) -> dict[str, Any]:
    """What the label rests on, in short: layers, figures (null: not defined), and the rules that fired."""
    figures = {name: _finite(getattr(found, name)) for name in FIGURES}
    fired = [encoded(rule.name).decode() for rule in found.rules if rule.fired]
    return {"layers": list(found.layers), **figures, "rules": fired}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _check_evidence(stored: dict[str, Any], found: Verdict) -> None:
    """Refuse evidence that says something else than the tables; what another version says besides is left alone."""
    for name, value in _evidence(found).items():
        if name in stored and stored[name] != value:
            raise ValueError(f"the verdict's evidence and its tables differ in {name}")
