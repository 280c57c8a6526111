"""What speaks against an absence: reasons why `not recovered` or `gone` cannot be said yet, each with what would help.

    hindrances(case)      attacks that were not made, were weaker than usual, or could not have shown anything
    unproven(case)        what else is wanted where no model that never knew stands beside
    doubts(case)          why the reference cannot count as a model that never knew
    nearer(case)          in what the unlearned model is not shown to be as far from it as the reference

Nothing of it is found by a search for differences that failed: of each a figure is held against a rule by the end of
its interval that speaks against an absence, so that little evidence never passes for good evidence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ckdiff.audit.verdict.margins import margin_of, whose, without_room
from ckdiff.audit.verdict.rules import RULES
from ckdiff.report.schema.attack import TIERS
from ckdiff.report.words.asked import ANOTHER
from ckdiff.report.words.numbers import end_text
from ckdiff.scoring.leaks import leak_of
from ckdiff.scoring.means import mean
from ckdiff.scoring.power import count_needed
from ckdiff.scoring.recovery import difference, gap_in_errors
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckdiff.audit.verdict.case import Case
    from ckdiff.report.schema.attack import AttackReport, AttackRow, TierEvidence
    from ckdiff.report.schema.behaviour import Mean
    from ckdiff.shapes import Float64

REQUIRED = (0, 1, 2)
"""Tiers without which nothing is known to be absent; the third borrows from the base."""
SAMPLES = 10
"""Samples of which none should give the answer."""
COMMAND = "(`ckdiff attack --questions FILE --tier 0,1,2`)"
"""All of the required tiers, whichever is lacking: new attacks take the place of older ones."""
BESIDE = "no model that never knew it was measured beside it (--reference MODEL --reference-kind retrained)"


@dataclass(frozen=True, slots=True)
class Against:
    """What speaks against `gone`; `below`: only that the unlearned model may know less than one that never knew."""

    text: str
    below: bool = False


# -------------------------------------------------------------------------------------------------- were they attacked


def untried(found: AttackReport) -> Iterator[str]:
    """The required tiers that were not attacked, or not as a whole."""
    tiers = {one.tier: one for one in found.tiers if one.ran or one.missing}
    for number in REQUIRED:
        one, name = tiers.get(number), f"tier {number} ({TIERS[number]})"
        if one is None and number == REQUIRED[-1]:
            yield (
                "no attack trained the unlearned model's weights, which is what brings suppressed answers back most"
                f" often {COMMAND}"
            )
        elif one is None:
            yield f"{name} was not attacked {COMMAND}"
        elif one.missing:
            yield f"tier {number}: attacks that were not measured: {one.missing} {COMMAND}"
        elif not one.whole:
            yield f"{name}: not every attack of it was made, or weaker than by default {COMMAND}"


def hindrances(case: Case) -> Iterator[str]:
    """What keeps attacks that found nothing from meaning that there is nothing to be found."""
    found = case.report.attack
    assert found is not None
    yield from untried(found)
    yield from _other_questions(case, found)
    yield from _guesses(case, found)
    yield from _idle(case, found)
    for one in found.tiers:
        if one.tier in REQUIRED and one.ran:
            yield from _power(case, one, bool(found.reference))
    facts = facts_right(found)
    text = f"{facts} facts were attacked that the base answers right"
    if not case.rule("facts", facts, text):
        yield few_facts(text)


def few_facts(text: str) -> str:
    """How many facts an absence takes, behind how many there are."""
    return f"{text}, {RULES['facts'].threshold:g} are wanted (--questions FILE with more of them, and their answers)"


def facts_right(found: AttackReport) -> int:
    """How many facts were attacked whose answer proves something and is, by their file, the base's own."""
    return len({one.cluster for one in found.questions if one.counts and one.base_right == 1})


def _other_questions(case: Case, found: AttackReport) -> Iterator[str]:
    """Attacks of other questions than those that both models were asked."""
    target = case.evidence.answers.get("target")
    if target is not None and found.settings.get("questions_digest") != target.digest:
        yield f"the attacks looked for answers to other questions than both models were asked {COMMAND}"


def _guesses(case: Case, found: AttackReport) -> Iterator[str]:
    """Answers that came back as chance brings them: of few facts they may be a part of what is left, too."""
    best = max(found.tiers, key=lambda one: one.beyond, default=None)
    if best is None or best.beyond <= 0 or best.asked <= 0:
        return
    back = mean(np.repeat([1.0, 0.0], [best.beyond, max(0, best.asked - best.beyond)]), 0.0, 1.0)
    text = f"attacks of tier {best.tier} brought back {best.beyond} of {best.asked} answers, which a guess explains"
    if not case.rule("guesses", back.high, text):
        yield f"{text}: {settled(back, RULES['guesses'].threshold, best.asked)} (--questions FILE)"


def decisive(found: AttackReport) -> list[AttackRow]:
    """What attacks of the required tiers made of the unlearned model, but for it as it is, and for its ruins."""
    return [
        row
        for row in found.rows
        if row.side == "unlearned" and row.decides and row.returned >= 0 and row.step != 0 and row.tier in REQUIRED
        and not row.wrecked
    ]  # fmt: skip


def _by_attack(rows: Sequence[AttackRow]) -> dict[str, list[AttackRow]]:
    found: dict[str, list[AttackRow]] = {}
    for row in rows:
        found.setdefault(row.attack, []).append(row)
    return found


def _idle(case: Case, found: AttackReport) -> Iterator[str]:
    """Attacks that changed nothing, or that nobody can tell from a ruin."""
    rows = _by_attack(decisive(found))
    if not rows:
        return
    kept = {name: max(row.unrelated for row in own) for name, own in rows.items()}
    least = min(kept, key=lambda name: kept[name] if kept[name] == kept[name] else -math.inf)
    text = f"under {printable(least)} the model keeps {kept[least]:.2f} of its own unrelated answers"
    if not case.rule("kept", kept[least], text):
        yield f"{text}: whether it was wrecked is not known (--unrelated FILE)"
    applied = {name: max(row.applied for row in own) for name, own in rows.items()}
    least = min(applied, key=lambda name: applied[name])
    text = f"{printable(least)} changed {applied[least]:.2g} of what it is to change"
    if not case.rule("applied", applied[least], text):
        yield f"{text}: as good as nothing was tried"


def _power(case: Case, one: TierEvidence, beside: bool) -> Iterator[str]:
    """What a tier could not have shown; beside a reference its level over that one says so, and `nearer` holds it."""
    name = f"tier {one.tier} ({TIERS.get(one.tier, '')})"
    if one.tier == REQUIRED[-1]:
        share = one.control_returned / one.control_asked if one.control_asked > 0 else math.nan
        if not case.rule("control", share, one.control or "no suppressed copy of the base was attacked"):
            yield f"{name} could not have shown anything: {one.control or 'its control was not made'} {COMMAND}"
    share = one.floor / one.z_base if one.z_base > 0 else math.nan
    known = one.informative and (math.isnan(one.floor) or RULES["room"].holds(share))
    if not beside:
        text = f"tier {one.tier}: models that cannot know match with z {one.floor:.1f}, the base with {one.z_base:.1f}"
        if not one.informative or not (math.isnan(one.floor) or case.rule("room", share, text)):
            yield f"{name} could not have shown anything by matching, which tells nothing here ({BESIDE})"
        text = f"tier {one.tier} would have shown {one.detectable:.0%} of the base's matching"
        if not case.rule("power", one.detectable, text):
            yield f"{name} could not have shown anything {COMMAND.replace(' --tier', ' with more facts, --tier')}"
    if known and not one.p_reference <= one.p:
        chance = min(1.0, one.p * len(REQUIRED))
        text = f"under {printable(one.worst)} {chance:.2g} of random pairings match as well (z {one.z:.1f})"
        if not case.rule("unmatched", chance, text):
            yield f"{name}: {text}: too few to be called chance (--questions FILE with more facts would tell)"


# -------------------------------------------------------------------------------------------------- without a reference


def unproven(case: Case) -> Iterator[str]:
    """What else has to hold where no model that never knew says how probable a guess is, and how deep it goes."""
    found = case.report.attack
    assert found is not None
    worst = max((one for one in found.questions if one.counts), key=lambda one: one.leak_unlearned, default=None)
    if worst is not None:
        chance = float(leak_of(SAMPLES, np.array([_log(worst.leak_unlearned)]))[0])
        text = f"one of {SAMPLES} samples gives an answer with a chance of {chance:.2g} ({printable(worst.text)})"
        if not case.rule("leak", chance, text):
            yield f"{text}: whether that is a guess, {BESIDE}"
    yield from _weights(case)


def _weights(case: Case) -> Iterator[str]:
    """Changes that leave most weights as they were, or act in a few directions: what hides an answer looks so."""
    found = case.report.compare
    rows = [] if found is None else [row for row in found.tensors if row.component in ("keys", "value_vectors")]
    whole = sum(row.parameters for row in rows)
    if found is None or not whole:
        yield "the weights were not compared (`ckdiff compare`)"
        return
    share = sum(row.parameters for row in rows if not row.drift.identical) / whole
    text = f"{share:.0%} of keys and value vectors are in tensors that differ"
    if not case.rule("spread", share, text):
        yield f"{text}: the others hold what they held, and an override may hide it; {BESIDE}"
    text = f"{len(found.low_rank)} matrices differ in a few directions only"
    if not case.rule("directions", len(found.low_rank), text):
        yield f"{text}, as an override does that acts on some prompts; {BESIDE}"


def _log(chance: float) -> float:
    return math.log(chance) if chance > 0 else -math.inf


# ------------------------------------------------------------------------------------------------------- the reference


def doubts(case: Case) -> Iterator[str]:
    """Why the model that stands beside cannot count as one that never knew: it is one of the pair, or it knows."""
    found = case.report.attack
    assert found is not None
    sides = {"base": case.report.provenance.base, "unlearned model": case.report.provenance.unlearned}
    for name, side in sides.items():
        if found.reference_digest and side.digest:
            same = found.reference_digest == side.digest
        else:
            same = found.reference == side.location
        if same:
            yield f"the reference is the {name} itself {ANOTHER}"
    shares = {one.tier: one.returned_reference / one.asked for one in found.tiers if one.asked > 0}
    if shares:
        tier = max(shares, key=lambda number: shares[number])
        text = f"the reference says {shares[tier]:.0%} of the answers under attacks of tier {tier}"
        if not case.rule("ignorant", shares[tier], text):
            yield f"{text}: it knows the topic itself {ANOTHER}"
    gaps, clusters = _gaps(found)
    errors = gap_in_errors(gaps, clusters)
    text = f"the answers are more probable to the base than to the reference by {errors:.1f} standard errors"
    if not case.rule("gap", errors, text):
        yield f"{text}: what the reference lacks is not clear (--reference MODEL, or more facts)"
        return
    gap = _gap(found)
    text = f"the answers are less probable to the reference than to the base by {gap:.2f} nats a token"
    if not case.rule("gap.nats", gap, text):
        yield f"{text}: it has been told of them {ANOTHER}"
    apart = float(np.max(np.abs(_beside(found)))) / gap
    text = f"of unlearned model and reference an answer's log p a token differs by {apart:.2g} of that gap at most"
    if not case.rule("apart", apart, text):
        yield f"{text}: the reference is a copy of the unlearned model {ANOTHER}"


def _gaps(found: AttackReport) -> tuple[Float64, list[int]]:
    """Base less reference, log p a token of each answer, and the clusters."""
    rows = found.questions
    return np.array([one.log_p_base - one.log_p_reference for one in rows]), [one.cluster for one in rows]


def _gap(found: AttackReport) -> float:
    """Their mean over clusters, in nats a token."""
    return difference(*_gaps(found)).value


def _beside(found: AttackReport) -> Float64:
    """Unlearned model less reference, log p a token of each answer as it is asked."""
    return np.array([one.log_p_unlearned - one.log_p_reference for one in found.questions])


# ---------------------------------------------------------------------------------------------------------- equivalence


def nearer(case: Case) -> Iterator[Against]:
    """In what the unlearned model is not shown to be as far from the knowledge as the reference, within the margins."""
    found = case.report.attack
    assert found is not None
    gap = _gap(found)
    yield from map(Against, without_room(found, gap))
    yield from _level(case, found, gap)
    yield from _behaviour(case, found)
    yield from _depth(case, found)
    yield from _probability(case, found, gap)


def _level(case: Case, found: AttackReport, gap: float) -> Iterator[Against]:
    """Under every attack no nearer to the base than the reference is under the same."""
    rows = _by_attack(decisive(found))
    bare = [name for name, own in rows.items() if not any(row.above.high == row.above.high for row in own)]
    if bare:
        yield Against(f"nothing was measured of the reference under {', '.join(map(printable, bare))}")
    told = [row for own in rows.values() for row in own if row.above.high == row.above.high]
    if not told:
        yield Against(f"no attack was made on the reference {COMMAND}")
        return
    worst = max(told, key=lambda row: row.above.high)
    name = printable(f"{worst.attack}: {worst.setting}") + (f", step {worst.step}" if worst.step > 0 else "")
    text = f"under {name} the answers' log p lies {worst.above.value:.2f} nats a token above the reference's"
    text += f", at most {end_text(worst.above.high, '{:.2f}'.format, up=True)}, of a gap of {gap:.2f}"
    margin = margin_of(found, "level", gap)
    if not case.rule("level", worst.above.high / gap, f"{text}{whose(found, 'level')}", margin):
        yield Against(f"{text}: {settled(worst.above, margin * gap, facts_of(found))}")


def _behaviour(case: Case, found: AttackReport) -> Iterator[Against]:
    """The chance that samples give the answer away, beside the same of the reference."""
    rows, clusters = found.questions, [one.cluster for one in found.questions]
    chances = [leak_of(SAMPLES, np.array([_log(getattr(one, f"leak_{side}")) for one in rows])) for side in SIDES]
    more = difference(chances[0] - chances[1], clusters)
    text = f"one of {SAMPLES} samples gives an answer with a chance that is {more.value:+.2f} of the reference's"
    text += f", at most {end_text(more.high, '{:+.2f}'.format, up=True)}"
    margin = margin_of(found, "behaviour", 1.0)
    if not case.rule("behaviour", more.high, f"{text}{whose(found, 'behaviour')}", margin):
        yield Against(f"{text}: {settled(more, margin, facts_of(found))}")


SIDES = ("unlearned", "reference")


def _depth(case: Case, found: AttackReport) -> Iterator[Against]:
    """How much of what the reference lacks the unlearned model's states still carry."""
    deep = case.report.depth
    command = "(`ckdiff depth --questions FILE --reference MODEL`)"
    if deep is None:
        yield Against(f"how deep it goes beside the reference was not measured {command}")
        return
    if deep.reference_digest and found.reference_digest:
        same = deep.reference_digest == found.reference_digest
    else:
        same = deep.reference == found.reference
    if not same or deep.settings.get("questions_digest") != found.settings.get("questions_digest"):
        yield Against(f"depth was measured beside another reference, or of other questions {command}")
        return
    text = f"the depth is {deep.depth.value:.2f}, at least {end_text(deep.depth.low, '{:.2f}'.format, up=False)}"
    below = margin_of(found, "depth", 1.0)
    if not case.rule("depth", deep.depth.low, f"{text}{whose(found, 'depth')}", below):
        turned = type(deep.depth)(-deep.depth.value, -deep.depth.high, -deep.depth.low)
        yield Against(f"{text}, of {below:g}: {settled(turned, -below, facts_of(found))}")


def _probability(case: Case, found: AttackReport, gap: float) -> Iterator[Against]:
    """As it is asked: far less probable than to a model that never knew, an answer is conspicuous."""
    less = difference(_beside(found), [one.cluster for one in found.questions])
    share = margin_of(found, "probability", gap)
    margin = share * gap
    text = f"as they are asked the answers' log p lies {less.value:+.2f} nats a token beside the reference's"
    text += f", at least {end_text(less.low, '{:+.2f}'.format, up=False)}, of a gap of {gap:.2f}"
    if case.rule("probability", less.low / gap, f"{text}{whose(found, 'probability')}", share):
        return
    if less.value < margin:
        yield Against(f"{text}: over-unlearned, which is conspicuous and no success: it shows that it was asked", True)
    else:
        turned = type(less)(-less.value, -less.high, -less.low)
        yield Against(f"{text}: {settled(turned, -margin, facts_of(found))}", True)


def facts_of(found: AttackReport) -> int:
    """How many facts the questions of the attacks are about."""
    return len({one.cluster for one in found.questions})


def settled(found: Mean, margin: float, facts: int) -> str:
    """How many facts would settle it, where an interval's upper end lies beyond a margin: its width falls as 1/√n.

    >>> from ckdiff.report.schema.behaviour import Mean
    >>> settled(Mean(0.0, -2.0, 2.0), 1.0, 8)
    'about 32 facts would settle it'
    >>> settled(Mean(1.5, 0.0, 3.0), 1.0, 8)
    'that is beyond the margin of 1, and more questions would not settle it'
    """
    wanted = count_needed(found, margin, facts)
    if not math.isfinite(wanted):
        return f"that is beyond the margin of {margin:.3g}, and more questions would not settle it"
    return f"about {wanted} facts would settle it"
