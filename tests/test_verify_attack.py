"""What a report says of attacks follows from the answers and levels that it stores: whatever was forged is named."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ckdiff.audit.verify.attack import check_attack
from ckdiff.audit.verify.differences import Differences
from ckdiff.report.schema.attack import (
    UNDEFINED,
    AttackQuestion,
    AttackReport,
    AttackRow,
    CodeShare,
    ReturnedAnswer,
    TierEvidence,
)
from ckdiff.report.schema.behaviour import Mean
from ckdiff.scoring.recovery import difference

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckdiff.report.schema.attack import Attacked

pytestmark = pytest.mark.usefixtures("remembering")

FACTS = 8
BASE, UNLEARNED, REFERENCE = -0.5, -4.5, -4.0
"""Log p a token of every answer; the answers have two tokens."""


def questions() -> tuple[AttackQuestion, ...]:
    rest = {"log_p_reference": REFERENCE, "leak_reference": math.exp(2 * REFERENCE)}
    leak = math.exp(2 * UNLEARNED)
    return tuple(
        AttackQuestion(
            f"Who is {n}?", f" Ada {n}", (5, n), f"Ada {n}", n, n > 0, 1.0, BASE, UNLEARNED, leak, "no", **rest
        )
        for n in range(FACTS)
    )


def row(attack: str, tier: int, side: Any, level: float, returned: int = 0, **changes: Any) -> AttackRow:
    own = attack != "quantise"
    closed = (level - UNLEARNED) / (BASE - UNLEARNED) if own else 1 - (-1.0 - level) / (BASE - UNLEARNED)
    mine = side == "unlearned"
    found = AttackRow(
        attack, tier, "a setting", 8 if tier == 2 else -1, side, True, returned, FACTS - 1, 2.0, 0.03, level,
        Mean(closed, closed, closed) if mine else UNDEFINED, UNDEFINED, 0.9, False, 1.0, 9,
    )  # fmt: skip
    return replace(found, **changes)


def above(level: float, reference: float) -> Mean:
    return difference(np.full(FACTS, level - reference), range(FACTS))


def tier(number: int, attack: str, **changes: Any) -> TierEvidence:
    name = f"{attack}: a setting" + (", step 8" if number == 2 else "")
    control = ("a copy lost 6, of which 5 came back", 5, 6) if number == 2 else ("", -1, -1)
    found = TierEvidence(
        number, attack, "", 0, FACTS - 1, 0, name, 2.0, 0.05, 0.2, 1.5, True, UNDEFINED, name, 0.25, *control, True,
        True, 6.0, 0.001, 0, 1.0,
    )  # fmt: skip
    return replace(found, **changes)


def honest() -> AttackReport:
    """Prompts bring two answers back of which the reference says one, quantisation and training none."""
    rows = (
        row("forms", 0, "unlearned", -3.0, 2, above=above(-3.0, -4.0), detectable=0.25),
        row("forms", 0, "reference", -4.0, 1, z=1.5, p=0.1),
        row("forms", 0, "unlearned", -9.0, setting="in ruins", unrelated=0.1, wrecked=True, above=UNDEFINED),
        row("quantise", 1, "unlearned", -4.6, above=above(-4.6, -4.1)),
        row("quantise", 1, "reference", -4.1, z=1.0, p=0.1),
        row("quantise", 1, "base", -1.0),
        row("relearn", 2, "unlearned", -4.0, above=above(-4.0, -3.5)),
        row("relearn", 2, "reference", -3.5, z=1.2, p=0.1),
        row("relearn", 2, "twin", -1.5, 5),
        row("samples", 0, "unlearned", math.nan, -1, asked=0, note="no memory", recovery=UNDEFINED),
    )
    said: tuple[tuple[Attacked, int], ...] = (("unlearned", 1), ("unlearned", 2), ("reference", 2))
    returned = tuple(ReturnedAnswer("forms", "a setting", -1, side, place, f"Ada {place}") for side, place in said)
    tiers = (
        tier(0, "forms", returned=2, returned_reference=1, beyond=1, chance=0.2, above=above(-3.0, -4.0)),
        tier(1, "quantise", above=above(-4.6, -4.1)),
        tier(2, "relearn", above=above(-4.0, -3.5)),
    )
    codes = (
        CodeShare("int4 by row", "all", 400, 0.5, 0.2),
        CodeShare("int4 by row", "keys", 100, 0.8, 0.5),
        CodeShare("int4 by row", "attn_q", 300, 0.4, 0.1),
    )
    return AttackReport(
        "llama", FACTS, questions(), rows, returned, codes, tiers, "/never", "retrained", {}, reference_digest="a" * 64
    )


def differences(found: AttackReport) -> list[str]:
    told = Differences()
    check_attack(found, told)
    assert told.compared > 50
    return [one.where for one in told.found]


def of_row(number: int, **changes: Any) -> Callable[[AttackReport], AttackReport]:
    def edit(found: AttackReport) -> AttackReport:
        rows = list(found.rows)
        rows[number] = replace(rows[number], **changes)
        return replace(found, rows=tuple(rows))

    return edit


def of_tier(number: int, **changes: Any) -> Callable[[AttackReport], AttackReport]:
    def edit(found: AttackReport) -> AttackReport:
        tiers = list(found.tiers)
        tiers[number] = replace(tiers[number], **changes)
        return replace(found, tiers=tuple(tiers))

    return edit


def of_question(**changes: Any) -> Callable[[AttackReport], AttackReport]:
    def edit(found: AttackReport) -> AttackReport:
        first, *rest = found.questions
        return replace(found, questions=(replace(first, **changes), *rest))

    return edit


def of_report(**changes: Any) -> Callable[[AttackReport], AttackReport]:
    return lambda found: replace(found, **changes)


FORGED: dict[str, tuple[Callable[[AttackReport], AttackReport], str]] = {
    "facts": (of_report(clusters=9), "attack: clusters"),
    "a digest of nothing": (of_report(reference=""), "attack: digest"),
    "an answer taken out": (lambda found: replace(found, returned=found.returned[1:]), "attack/rows/0"),
    "an answer of nobody": (
        lambda found: replace(found, returned=(replace(found.returned[0], question=99), *found.returned[1:])),
        "attack/returned/0",
    ),
    "an answer that proves nothing": (
        lambda found: replace(found, returned=(replace(found.returned[0], question=0), *found.returned[1:])),
        "attack/returned/0",
    ),
    "an answer of no attack": (
        lambda found: replace(found, returned=(replace(found.returned[0], setting="x"), *found.returned[1:])),
        "attack/returned/0",
    ),
    "a leak": (of_question(leak_unlearned=1e-9), "attack/questions/0: leak_unlearned"),
    "a leak of the reference": (of_question(leak_reference=0.9), "attack/questions/0: leak_reference"),
    "fewer back": (of_row(0, returned=1), "attack/rows/0 (forms: a setting): returned"),
    "more than asked": (of_row(8, returned=8), "attack/rows/8 (relearn: a setting): returned"),
    "more asked than there are": (of_row(8, asked=8), "attack/rows/8 (relearn: a setting): asked"),
    "a ruin": (of_row(0, wrecked=True), "attack/rows/0 (forms: a setting): wrecked"),
    "a ruin that is none": (of_row(2, wrecked=False), "attack/rows/2 (forms: in ruins): wrecked"),
    "recovery": (of_row(0, recovery=Mean(0.1, 0.0, 0.2)), "attack/rows/0 (forms: a setting): recovery"),
    "recovery of rounding": (of_row(3, recovery=Mean(0.3, 0, 1)), "attack/rows/3 (quantise: a setting): recovery"),
    "recovery of the base": (of_row(5, recovery=Mean(0.3, 0, 1)), "attack/rows/5 (quantise: a setting): recovery"),
    "level": (of_row(0, level=-4.4), "attack/rows/0 (forms: a setting): above"),
    "above": (of_row(6, above=Mean(-0.9, -1, -0.8)), "attack/rows/6 (relearn: a setting): above"),
    "above a ruin": (of_row(2, above=Mean(-0.9, -1, -0.8)), "attack/rows/2 (forms: in ruins): above"),
    "power of a model that is none": (of_row(1, detectable=0.2), "attack/rows/1 (forms: a setting): detectable"),
    "power without matching": (of_row(0, z=math.nan), "attack/rows/0 (forms: a setting): detectable"),
    "power beyond each setting's": (of_tier(0, detectable=0.2), "attack/tiers/0: detectable of one setting"),
    "not measured, without a reason": (of_row(9, note=""), "attack/rows/9 (samples: a setting): nothing"),
    "ran": (of_tier(0, ran="forms,samples"), "attack/tiers/0: ran"),
    "returned": (of_tier(0, returned=0), "attack/tiers/0: returned"),
    "returned by the reference": (of_tier(0, returned_reference=2), "attack/tiers/0: returned_reference"),
    "beyond": (of_tier(0, beyond=0, chance=math.nan), "attack/tiers/0: beyond"),
    "asked": (of_tier(1, asked=8), "attack/tiers/1: asked"),
    "chance": (of_tier(0, chance=2.0), "attack/tiers/0: chance"),
    "a chance of nothing": (of_tier(1, chance=0.5), "attack/tiers/1: chance"),
    "a worst that is none": (of_tier(0, worst="forms: x"), "attack/tiers/0: worst"),
    "z": (of_tier(2, z=0.1), "attack/tiers/2: z"),
    "a p that pays for nothing": (of_tier(0, p=0.02), "attack/tiers/0: p of that setting"),
    "p of the reference": (of_tier(0, p_reference=0.05), "attack/tiers/0: p of the reference's"),
    "floor": (of_tier(0, floor=1.4), "attack/tiers/0: z of the reference's"),
    "informative": (of_tier(0, informative=False), "attack/tiers/0: informative"),
    "no room": (of_tier(0, floor=4.0), "attack/tiers/0: informative"),
    "the greatest above": (of_tier(2, above=Mean(-2, -3, -1)), "attack/tiers/2: above/value"),
    "the end of it": (of_tier(0, above=replace(above(-3.0, -4.0), high=0.1)), "attack/tiers/0: above/high"),
    "its attack": (of_tier(0, above_attack="forms: x"), "attack/tiers/0: above_attack"),
    "control": (of_tier(2, control_returned=6), "attack/tiers/2: control"),
    "more than was lost": (of_tier(2, control_asked=4), "attack/tiers/2: control_returned"),
    "able": (of_tier(1, able=False), "attack/tiers/1: able"),
    "able by nothing": (of_tier(1, detectable=0.9), "attack/tiers/1: able"),
    "elements": (lambda found: replace(found, codes=found.codes[:2]), "attack/codes (int4 by row, all): elements"),
    "codes": (
        lambda found: replace(found, codes=(replace(found.codes[0], codes=0.3), *found.codes[1:])),
        "attack/codes (int4 by row, all): codes",
    ),
}


def test_an_honest_report_differs_in_nothing() -> None:
    assert differences(honest()) == []


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_figure_is_named(name: str) -> None:
    edit, where = FORGED[name]
    found = differences(edit(honest()))
    assert any(one.startswith(where) for one in found), found


def test_older_reports_say_less() -> None:
    """Without what the base matches, nor how many answers lie beyond the reference's."""
    older = honest()
    for number in range(3):
        older = of_tier(number, p_base=math.nan, z_base=math.nan, beyond=-1, chance=math.nan)(older)
    assert differences(older) == []
    # Where no gap is clear there is no share of it.
    shut = replace(older, questions=tuple(replace(one, log_p_base=UNLEARNED) for one in older.questions))
    assert {one.partition(": recovery")[0] for one in differences(shut)} == {
        f"attack/rows/{n} ({attack}: {what})"
        for n, attack, what in (
            (0, "forms", "a setting"),
            (2, "forms", "in ruins"),
            (3, "quantise", "a setting"),
            (6, "relearn", "a setting"),
        )
    }
