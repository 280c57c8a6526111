"""What a report says of attacks, computed again from what it stores of them: answers that came back, levels, z and p.

Tables and log p under attack are not stored: of what follows from them alone (a p that pays for its selection, the
chance of a guess) only the side on which it must lie is held.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from ckdiff.audit.verdict.rules import RULES
from ckdiff.audit.verify.differences import CLOSE
from ckdiff.report.schema.attack import UNDEFINED
from ckdiff.scoring.matching import LEAST, LEVEL
from ckdiff.scoring.recovery import gap_is_clear

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ckdiff.audit.verify.differences import Differences
    from ckdiff.report.schema.attack import Attacked, AttackQuestion, AttackReport, AttackRow, TierEvidence
    from ckdiff.report.schema.behaviour import Mean

    Place = tuple[str, str, int, str]

STORED = ("unlearned", "reference")
"""The models whose answers a report keeps where they came back."""
WEIGHTS = 2
"""The tier whose settings are named with their steps."""


def check_attack(stored: AttackReport, found: Differences) -> None:
    """Rows follow from answers and levels, tiers from rows, and the questions from each other."""
    clusters = {one.cluster for one in stored.questions}
    found.exact("attack: clusters", stored.clusters, len(clusters))
    if not stored.reference:
        found.exact("attack: digest of a reference that is not there", stored.reference_digest, "")
    _check_questions(stored, found)
    _check_answers(stored, found)
    _check_codes(stored, found)
    rows = {_place(row): row for row in stored.rows}
    for number, row in enumerate(stored.rows):
        _check_row(f"attack/rows/{number} ({row.attack}: {row.setting})", row, rows, stored, found)
    for tier in stored.tiers:
        _check_tier(f"attack/tiers/{tier.tier}", tier, stored, found)


def _place(row: AttackRow) -> Place:
    return row.attack, row.setting, row.step, row.side


def _measured(row: AttackRow) -> bool:
    """Whether anything came of an attack."""
    return row.returned >= 0


# -------------------------------------------------------------------------------------------- questions, answers, codes


def _check_questions(stored: AttackReport, found: Differences) -> None:
    """The probability of a whole answer is that of its tokens."""
    for number, one in enumerate(stored.questions):
        for side in STORED:
            level, leak = getattr(one, f"log_p_{side}"), getattr(one, f"leak_{side}")
            if side == "reference" and not stored.reference:
                found.close(f"attack/questions/{number}: log_p_reference without one", level, math.nan)
            elif not math.isnan(level) and one.answer_ids:
                again = math.exp(min(0.0, level * len(one.answer_ids)))
                found.close(f"attack/questions/{number}: leak_{side}", leak, again, CLOSE, 1e-300)


def _check_answers(stored: AttackReport, found: Differences) -> None:
    """An answer that came back belongs to a question where that proves something, and to an attack that was made."""
    rows = {_place(row) for row in stored.rows if _measured(row)}
    for number, one in enumerate(stored.returned):
        where = f"attack/returned/{number} ({one.attack}: {one.setting})"
        there = 0 <= one.question < len(stored.questions)
        found.exact(f"{where}: a question of the report", there, True)
        if there:
            found.exact(f"{where}: its answer proves something", stored.questions[one.question].counts, True)
        found.exact(f"{where}: an attack of the report", (one.attack, one.setting, one.step, one.side) in rows, True)


def _check_codes(stored: AttackReport, found: Differences) -> None:
    """The shares of all elements are those of the components together."""
    for setting in dict.fromkeys(one.setting for one in stored.codes):
        parts = [one for one in stored.codes if one.setting == setting and one.component != "all"]
        whole = [one for one in stored.codes if one.setting == setting and one.component == "all"]
        for one in whole if parts else ():
            where, elements = f"attack/codes ({setting}, all)", sum(part.elements for part in parts)
            found.exact(f"{where}: elements", one.elements, elements)
            for name in ("changed", "codes"):
                again = math.fsum(part.elements * getattr(part, name) for part in parts) / max(1, elements)
                found.close(f"{where}: {name}", getattr(one, name), again, CLOSE, CLOSE)


# ----------------------------------------------------------------------------------------------------------------- rows


def _check_row(
    where: str, row: AttackRow, rows: dict[Place, AttackRow], stored: AttackReport, found: Differences
) -> None:
    """What one attack made of one model."""
    if not _measured(row):
        found.exact(f"{where}: nothing was measured", bool(row.note), True)
        return
    found.exact(f"{where}: wrecked", row.wrecked, row.unrelated < RULES["kept"].threshold)
    if row.side in STORED:
        found.exact(f"{where}: returned", row.returned, len(_clusters_back(stored, [row])))
    _at_most(f"{where}: returned", row.returned, row.asked, found)
    _at_most(f"{where}: asked", row.asked, _facts(stored), found)
    if row.side != "unlearned" or math.isnan(row.z):
        found.close(f"{where}: detectable", row.detectable, math.nan)
    control = rows.get((row.attack, row.setting, row.step, "reference"))
    if row.side != "unlearned" or control is None or not _measured(control) or control.wrecked:
        found.close(f"{where}: above", row.above.value, math.nan)
    elif _even(stored.questions):
        again = row.level - control.level
        found.close(f"{where}: above", row.above.value, again, CLOSE, CLOSE)
    _check_recovery(where, row, rows.get((row.attack, row.setting, row.step, "base")), stored.questions, found)


def _check_recovery(
    where: str, row: AttackRow, base: AttackRow | None, questions: Sequence[AttackQuestion], found: Differences
) -> None:
    """The share of the gap that is closed: of the unlearned model's own, or of what rounding leaves of the base's."""
    plain, unlearned = (
        np.array([getattr(one, f"log_p_{side}") for one in questions]) for side in ("base", "unlearned")
    )
    gap, value = float((plain - unlearned).mean()) if len(questions) else math.nan, row.recovery.value
    clear = gap_is_clear(plain - unlearned, [one.cluster for one in questions])
    if row.side != "unlearned" or not clear or not math.isfinite(row.level):
        found.close(f"{where}: recovery", value, math.nan)
        return
    again = [1 - (float(plain.mean()) - row.level) / gap]
    if base is not None and _measured(base):
        # Which attacks damage both models is said by none of the rows.
        again.append(1 - (base.level - row.level) / gap)
    nearest = min(again, key=lambda one: abs(one - value)) if math.isfinite(value) else again[0]
    if not math.isnan(value) or (base is not None and _measured(base)):
        found.close(f"{where}: recovery", value, nearest, CLOSE, CLOSE)


def _even(questions: Sequence[AttackQuestion]) -> bool:
    """Whether every fact has as many questions as every other: then a mean over questions is one over facts."""
    return len(set(Counter(one.cluster for one in questions).values())) <= 1


def _facts(stored: AttackReport) -> int:
    """Facts whose answer proves something where it comes back."""
    return len({one.cluster for one in stored.questions if one.counts})


def _clusters_back(stored: AttackReport, rows: Iterable[AttackRow]) -> set[int]:
    """Facts whose answer came back in some of these rows."""
    places = {_place(row) for row in rows}
    return {
        stored.questions[one.question].cluster
        for one in stored.returned
        if (one.attack, one.setting, one.step, one.side) in places and 0 <= one.question < len(stored.questions)
    }


# ---------------------------------------------------------------------------------------------------------------- tiers


def _check_tier(where: str, tier: TierEvidence, stored: AttackReport, found: Differences) -> None:
    """The evidence of one tier, from its rows."""
    mine, theirs = (_deciding(stored, tier.tier, side) for side in STORED)
    beside = any(row.side == "reference" for row in stored.rows)
    back, said = _clusters_back(stored, mine), _clusters_back(stored, theirs)
    found.exact(f"{where}: ran", sorted(filter(None, tier.ran.split(","))), sorted({row.attack for row in mine}))
    found.exact(f"{where}: returned", tier.returned, len(back))
    found.exact(f"{where}: returned_reference", tier.returned_reference, len(said) if beside else -1)
    found.exact(f"{where}: asked", tier.asked, _facts(stored))
    if tier.beyond >= 0 or not beside:  # older reports do not say
        found.exact(f"{where}: beyond", tier.beyond, len(back - said) if beside else -1)
    _check_chance(where, tier, beside, found)
    _check_matching(where, tier, mine, theirs, found)
    _check_above(where, tier, mine, found)
    _check_able(where, tier, bool(mine), stored.clusters, found)


def _deciding(stored: AttackReport, tier: int, side: Attacked | str) -> list[AttackRow]:
    """Rows on one model that can be evidence and did not wreck it."""
    return [
        row
        for row in stored.rows
        if (row.tier, row.side) == (tier, side) and row.decides and _measured(row) and not row.wrecked
    ]


def _check_chance(where: str, tier: TierEvidence, beside: bool, found: Differences) -> None:
    """The chance of as many guesses is one, 1 where nothing came back beyond the reference, and unknown without one."""
    if not beside:
        found.close(f"{where}: chance", tier.chance, math.nan)
    elif not math.isnan(tier.chance):  # older reports say nothing where nothing came back
        if tier.beyond == 0:
            found.close(f"{where}: chance", tier.chance, 1.0)
        _at_most(f"{where}: chance", tier.chance, 1.0, found)


def _check_matching(
    where: str, tier: TierEvidence, mine: Sequence[AttackRow], theirs: Sequence[AttackRow], found: Differences
) -> None:
    """The worst setting has the z of its row, and a p that pays for the others; no floor lies below what is known."""
    worst = [row for row in mine if _name(row) == tier.worst]
    if tier.worst:
        found.exact(f"{where}: worst", bool(worst), True)
    for row in worst[:1]:
        found.close(f"{where}: z", tier.z, row.z, CLOSE, CLOSE)
        _at_most(f"{where}: p of that setting", row.p, tier.p, found)
    shown = [row.detectable for row in mine if math.isfinite(row.detectable)]  # older reports do not say
    if shown and math.isfinite(tier.detectable):
        _at_most(f"{where}: detectable of one setting", min(shown), tier.detectable, found)
    matched = [row for row in theirs if math.isfinite(row.p)]
    if matched:
        _at_most(f"{where}: p of the reference's", min(row.p for row in matched), tier.p_reference, found)
        _at_most(f"{where}: z of the reference's", max(row.z for row in matched), tier.floor, found)


def _check_above(where: str, tier: TierEvidence, mine: Sequence[AttackRow], found: Differences) -> None:
    """The greatest level over the reference's, of the attack with the greatest lower end."""
    told = [row for row in mine if not math.isnan(row.above.low)]
    most = max(told, key=lambda row: row.above.low, default=None)
    again: Mean = UNDEFINED if most is None else most.above
    found.exact(f"{where}: above_attack", tier.above_attack, "" if most is None else _name(most))
    for end in ("value", "low", "high"):
        found.close(f"{where}: above/{end}", getattr(tier.above, end), getattr(again, end), CLOSE, CLOSE)


def _check_able(where: str, tier: TierEvidence, made: bool, clusters: int, found: Differences) -> None:
    """Whether the tier could have shown anything, from its matching and its control."""
    if not math.isnan(tier.p_base):  # older reports do not say how the base matches
        room = math.isnan(tier.floor) or RULES["room"].holds(tier.floor / tier.z_base)
        found.exact(f"{where}: informative", tier.informative, bool(tier.p_base <= LEVEL and room))
    _at_most(f"{where}: control_returned", tier.control_returned, tier.control_asked, found)
    if tier.control_asked >= 0:
        numbers = [int(one) for one in re.findall(r"\d+", tier.control)]
        found.exact(f"{where}: control", numbers[-2:], [tier.control_asked, tier.control_returned])
    seen = tier.informative and RULES["power"].holds(tier.detectable)
    shown = tier.control_returned > 0 if tier.control_asked > 0 else seen
    found.exact(f"{where}: able", tier.able, bool(made and clusters >= LEAST and shown))


def _name(row: AttackRow) -> str:
    """Attack, setting and step as a tier names them."""
    step = f", step {row.step}" if row.step >= 0 and row.tier == WEIGHTS else ""
    return f"{row.attack}: {row.setting}{step}"


def _at_most(where: str, value: float, most: float, found: Differences) -> None:
    """The one may not exceed the other, but for rounding; NaN does."""
    found.compared += 1
    if not value <= most + CLOSE * max(1.0, abs(most)):
        found.add(where, value, f"at most {most:.6g}")
