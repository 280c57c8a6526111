"""A report of an erasure by the book, every figure of which can be changed: `erased(attack=rows(...))`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ckdiff.report.schema.attack import AttackQuestion, AttackRow, TierEvidence
from ckdiff.report.schema.behaviour import Mean
from tests.judged import answered, behaved, compared, report
from tests.reports import attacks, depth

if TYPE_CHECKING:
    from ckdiff.report.schema.attack import AttackReport
    from ckdiff.report.schema.behaviour import Behaviour
    from ckdiff.report.schema.report import Report

FACTS = 8
DIGEST = "ab" * 32
NAMES = {0: ("forms", "samples"), 1: ("quantise", "prune"), 2: ("ablate", "relearn")}
GAP = 5.0
"""Nats a token between base and reference, on every question."""
NOWHERE = Mean(0.2, -0.8, 1.2)


def row(attack: str, tier: int, **changes: Any) -> AttackRow:
    found = AttackRow(
        attack, tier, "a setting", 8 if attack == "relearn" else -1, "unlearned", True, 0, FACTS, 0.5, 0.4, -5.0,
        Mean(0.1, -0.1, 0.3), NOWHERE, 0.9, False, 0.5, 9,
    )  # fmt: skip
    return replace(found, **changes)


def tier(number: int, **changes: Any) -> TierEvidence:
    control = ("a copy lost 8, of which 6 came back", 6, 8) if number == 2 else ("", -1, -1)
    found = TierEvidence(
        number, ",".join(NAMES[number]), "", 0, FACTS, 0, "a worst one", 0.5, 0.4, 0.5, 1.5, True, NOWHERE, "an attack",
        0.25, *control, True, True, 6.0, 0.001, 0, 1.0,
    )  # fmt: skip
    return replace(found, **changes)


def question(number: int, **changes: Any) -> AttackQuestion:
    """Its answer is as probable to the unlearned model as to the reference, give or take."""
    found = AttackQuestion(
        f"target {number}?", f" Ada{number}", (5,), f" Ada{number}", number, True, 1.0, -0.1,
        -5.1 + 0.1 * (-1) ** number, 0.001, "no", -0.1 - GAP, 0.001,
    )  # fmt: skip
    return replace(found, **changes)


def attacked(**changes: Any) -> AttackReport:
    """All attacks of three tiers beside a reference: nothing came back, and everything could have."""
    rows = tuple(row(name, number) for number, names in NAMES.items() for name in names)
    found = attacks(
        clusters=FACTS,
        questions=tuple(map(question, range(FACTS))),
        rows=rows,
        returned=(),
        tiers=tuple(map(tier, NAMES)),
        settings={"questions_digest": DIGEST},
        reference_digest="e" * 64,
    )
    return replace(found, **changes)


def alone(**changes: Any) -> AttackReport:
    """The same without a reference."""
    none = Mean(*(float("nan"),) * 3)
    found = attacked()
    return replace(
        found,
        reference="",
        reference_digest="",
        rows=tuple(replace(one, above=none) for one in found.rows),
        tiers=tuple(
            replace(one, returned_reference=-1, p_reference=none.value, above=none, beyond=-1, chance=none.value)
            for one in found.tiers
        ),
        questions=tuple(
            replace(one, log_p_reference=float("nan"), leak_reference=float("nan")) for one in found.questions
        ),
    ) if not changes else replace(alone(), **changes)  # fmt: skip


def behaviour() -> Behaviour:
    """The base says every answer, the unlearned model none."""
    found = answered("target", 0.1, 0.0, 0.3, count=FACTS)
    rows = [
        replace(one, answer_base=f"Ada{n}", answer_given=f"Ada{n}", answer_unlearned="no", answer_base_ids=(5, n))
        for n, one in enumerate(found.questions)
    ]
    return behaved(replace(found, questions=tuple(rows)), answered("unrelated", 0.95, 0.9, 1.0, same=9))


def erased(**parts: Any) -> Report:
    """Nothing brings it back, and beside a reference it is as deep as it can be."""
    deep = depth(depth=Mean(0.9, 0.7, 1.0), reference_digest="e" * 64, settings={"questions_digest": DIGEST})
    whole = {"compare": compared(), "behaviour": behaviour(), "attack": attacked()}
    return report(**{**whole, "depth": deep, **parts})
