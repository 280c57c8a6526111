"""The margins of `gone`: a rule's number, or how far two models that never knew lie apart.

A measured margin only ever narrows: where two models that never knew differ by more than a rule allows, there is no
room to tell one that knows, and that is said. Whoever picks the second model can make a pass harder, never easier.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ckdiff.audit.verdict.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckdiff.report.schema.attack import AttackReport

IN_NATS = {"level": True, "probability": True, "behaviour": False, "depth": False}
"""By margin whether it is in nats a token, of which the rule holds a share of the gap."""
REMEDY = "(--margins REPORT of two that were trained alike)"


def margin_of(found: AttackReport, name: str, gap: float) -> float:
    """The number that one of the tests holds its figure against, in the unit of its rule.

    Args:
        found: of the report.
        name: a key of `IN_NATS`.
        gap: between base and reference, in nats a token.
    """
    if not is_measured(found, name):
        return RULES[name].threshold
    measured = float(getattr(found, f"margin_{name}")) / (gap if IN_NATS[name] else 1.0)
    # Of depth the margin is what may lack of 1; what is too improbable lies on the other side of the reference.
    return {"depth": 1 - measured, "probability": -measured}.get(name, measured)


def is_measured(found: AttackReport, name: str) -> bool:
    """Whether two models that never knew say how far they lie apart."""
    return bool(found.second) and math.isfinite(getattr(found, f"margin_{name}"))


def whose(found: AttackReport, name: str) -> str:
    """The words for a margin that was measured; nothing where it is the rule's."""
    known = is_measured(found, name)
    return " (margin: the 95th percentile of differences between two models that never knew)" if known else ""


def without_room(found: AttackReport, gap: float) -> Iterator[str]:
    """Two models that never knew which lie further apart than a rule allows: nobody could tell one that knows."""
    for name, nats in IN_NATS.items():
        if is_measured(found, name) and not RULES[name].holds(margin_of(found, name, gap)):
            measured = f"{getattr(found, f'margin_{name}'):.2f}" + (
                f" nats a token, of a gap of {gap:.2f}" if nats else ""
            )
            allowed = abs(RULES[name].threshold) if name != "depth" else 1 - RULES[name].threshold
            words = f"in {name} by {measured}, more than {allowed:g}" + (" of it" if nats else "")
            yield f"two models that never knew differ {words}: there is no room to tell one that knows {REMEDY}"
