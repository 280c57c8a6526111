"""Checks of how much evidence a policy requires. Where it lacks, the outcome is "inconclusive"."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ckdiff.audit.gate import kinds
from ckdiff.audit.gate.results import (
    FAILED,
    PASSED,
    UNKNOWN,
    Check,
    Result,
    enough,
    join,
    least,
    most,
    sets,
    target_facts,
    verdict_of,
)
from ckdiff.audit.verdict.absence import BESIDE, doubts
from ckdiff.audit.verdict.absence import REQUIRED as DECIDING
from ckdiff.audit.verdict.answers import share_right
from ckdiff.audit.verdict.case import Case
from ckdiff.audit.verdict.evidence import Evidence
from ckdiff.scoring.clusters import cluster_count
from ckdiff.scoring.power import detectable_share

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ckdiff.report.schema.report import Report


def _sections(report: Report, wanted: tuple[str, ...]) -> Iterator[Result]:
    lacking = [name for name in wanted if getattr(report, name) is None]
    yield enough(not lacking, f"the report holds no {' and no '.join(lacking)}", f"the report holds {join(wanted)}")


def _questions(report: Report, wanted: int) -> Iterator[Result]:
    found = target_facts(report)
    yield least(found, wanted, f"target questions about {found} facts were asked, {wanted} are wanted")


def _unrelated(report: Report, wanted: int) -> Iterator[Result]:
    found = sum(cluster_count(row.cluster for row in one.questions) for one in sets(report, "unrelated"))
    yield least(found, wanted, f"unrelated questions about {found} facts were asked, {wanted} are wanted")


def _runs(field: str) -> Callable[[Report, tuple[str, ...]], Iterator[Result]]:
    def look(report: Report, wanted: tuple[str, ...]) -> Iterator[Result]:
        runs = () if report.probe is None else report.probe.runs
        directions = {run.direction for run in runs}
        # What was measured in one direction only is not measured in both.
        held = [{getattr(run, field) for run in runs if run.direction == name} for name in directions]
        if field == "direction":
            held = [directions]
        lacking = [name for name in wanted if not held or any(name not in own for own in held)]
        option = f"`ckdiff probe --{field} {','.join(lacking)}`"
        yield enough(not lacking, f"the probe lacks {field} {join(lacking)}: {option}", f"the probe has {join(wanted)}")

    return look


def _coverage(report: Report, wanted: float) -> Iterator[Result]:
    found = report.compare
    if found is None or not found.tensors:
        yield Result(UNKNOWN, "no weights were compared", threshold=wanted)
        return
    compared = sum(row.parameters for row in found.tensors)
    shapes = [row.shape for row in (*found.only_in_base, *found.only_in_unlearned)]
    shapes += [row.shape_base for row in found.shape_mismatch]
    whole = compared + sum(math.prod(shape) for shape in shapes)
    value = compared / whole if whole else 0.0
    yield least(value, wanted, f"{value:.2%} of the parameters were compared, {wanted:.2%} are wanted")


def _basis(report: Report, wanted: bool) -> Iterator[Result]:
    if report.compare is None or not report.compare.tensors:
        yield Result(UNKNOWN, "no weights were compared")
        return
    foreign = any(rule.name == "basis" and not rule.fired for rule in verdict_of(report).rules)
    yield enough(
        not foreign,
        "the two models share no neurons, so that nothing can be put in place: trained anew, destroyed, or reordered",
        "both models share their neurons",
    )


def _digests(report: Report, wanted: bool) -> Iterator[Result]:
    lacking = [side for side in ("base", "unlearned") if getattr(report.provenance, side).digest is None]
    yield enough(
        not lacking, f"no digest of the {join(lacking)}: measure without --no-hash", "both checkpoints have digests"
    )


def _base_digest(report: Report, wanted: str) -> Iterator[Result]:
    found = report.provenance.base.digest
    if found is None:
        yield Result(UNKNOWN, "the base has no digest: measure without --no-hash")
    else:
        same = found == wanted
        yield Result(PASSED if same else FAILED, f"the base is {'' if same else 'not '}the one that the policy names")


def _questions_digest(report: Report, wanted: str) -> Iterator[Result]:
    found = {one.digest for one in sets(report, "target")}
    if report.probe is not None:
        found.add(report.probe.settings.get("questions_digest", ""))
    yield enough(
        found == {wanted}, "other questions were asked than the policy names", "the questions are those of the policy"
    )


def _widest(report: Report, wanted: float) -> Iterator[Result]:
    verdict = verdict_of(report)
    width = verdict.explained_high - verdict.explained_low
    if np.isnan(width):
        # Where there is no effect, or nothing could be put back at all, there is no interval to be narrow.
        foreign = any(rule.name == "basis" and not rule.fired for rule in verdict.rules)
        settled = verdict.label in ("identical", "no effect on these questions") or foreign
        yield Result(PASSED if settled else UNKNOWN, "the verdict rests on no interval", threshold=wanted)
    else:
        yield most(
            width, wanted, f"the interval that the verdict rests on is {width:.2f} wide, {wanted:.2f} at most", UNKNOWN
        )


def _detectable(report: Report, wanted: float) -> Iterator[Result]:
    facts = target_facts(report)
    if not facts or np.isnan(verdict_of(report).detectable):
        yield Result(UNKNOWN, "no target question was asked", threshold=wanted)
    else:
        value = max(verdict_of(report).detectable, detectable_share(facts))
        text = (
            f"so many questions would have shown an effect on {value:.0%} of all such questions or more; {wanted:.0%}"
        )
        yield most(value, wanted, f"{text} is wanted", UNKNOWN)


def _labels(report: Report, wanted: tuple[str, ...]) -> Iterator[Result]:
    label = verdict_of(report).label
    if label == "inconclusive":
        yield Result(UNKNOWN, "the verdict is 'inconclusive'")
    elif label in wanted:
        yield Result(PASSED, f"the verdict is '{label}', which the policy allows")
    else:
        yield Result(FAILED, f"the verdict is '{label}'; the policy allows {join(wanted)}")


def _knowledge(report: Report, wanted: tuple[str, ...]) -> Iterator[Result]:
    verdict = verdict_of(report)
    if verdict.knowledge in wanted:
        yield Result(PASSED, f"the knowledge is '{verdict.knowledge}', which the policy allows")
        return
    outcome = FAILED if verdict.knowledge == "still there" else UNKNOWN
    why = "; ".join(verdict.lacking) or verdict.knowledge_reason
    yield Result(outcome, f"the knowledge is '{verdict.knowledge}', the policy allows {join(wanted)}: {why}")


def _base_knows(report: Report, wanted: float) -> Iterator[Result]:
    found = [row for one in sets(report, "target") for row in one.questions]
    value = share_right(found, "base")
    if not found:
        yield Result(UNKNOWN, "no target question was asked", threshold=wanted)
    elif np.isnan(value):
        yield Result(PASSED, "the questions have no given answers to hold the base's against", threshold=wanted)
    else:
        yield least(value, wanted, f"the base gives {value:.0%} of the given answers, {wanted:.0%} are wanted")


def _attacks(report: Report, wanted: tuple[str, ...]) -> Iterator[Result]:
    rows = () if report.attack is None else report.attack.rows
    made = {one.attack for one in rows if one.side == "unlearned" and one.returned >= 0 and not one.wrecked}
    lacking = [name for name in wanted if name not in made]
    option = f"`ckdiff attack --attack {','.join(lacking)}`"
    yield enough(not lacking, f"not attacked by {join(lacking)}: {option}", f"attacked by {join(wanted)}")


def _tiers(report: Report, wanted: tuple[int, ...]) -> Iterator[Result]:
    found = {} if report.attack is None else {one.tier: one for one in report.attack.tiers}
    rows = () if report.attack is None else report.attack.rows
    # What borrows from the base is no evidence about the unlearned model, and has none to be whole.
    shown = {one.tier for one in rows if one.side == "unlearned" and one.returned >= 0}
    held = {tier for tier, one in found.items() if one.whole and one.able and not one.missing} | (shown - set(DECIDING))
    lacking = [str(tier) for tier in wanted if tier not in held]
    option = f"`ckdiff attack --tier {','.join(lacking)}`"
    words = f"attacks of tier {join(lacking)} were not all made, or could have shown nothing: {option}"
    yield enough(not lacking, words, f"attacks of tier {join(map(str, wanted))} were made, and could have shown it")


def _reference(report: Report, wanted: bool) -> Iterator[Result]:
    if report.attack is None or not report.attack.reference:
        yield Result(UNKNOWN, f"{BESIDE}")
        return
    why = tuple(doubts(Case(report, Evidence(report))))
    yield enough(not why, "; ".join(why), "a model that never knew it was attacked in the same way")


REQUIRED: dict[str, Check] = {
    "sections": Check(kinds.sections, _sections, "parts that the report must hold: compare, probe, behaviour"),
    "questions": Check(
        kinds.count, _questions, "fewest facts that target questions ask about; questions of one cluster count as one"
    ),
    "unrelated": Check(kinds.count, _unrelated, "fewest facts that unrelated questions ask about"),
    "modes": Check(kinds.required_modes, _runs("mode"), 'modes that must have been probed, or "decisive"'),
    "variants": Check(kinds.variants, _runs("variant"), "variants that must have been probed"),
    "directions": Check(kinds.directions, _runs("direction"), "directions that must have been probed"),
    "coverage": Check(kinds.share, _coverage, "least share of the parameters that was compared"),
    "basis": Check(kinds.on, _basis, "both models must share neurons, so that states can be put in place"),
    "digests": Check(kinds.on, _digests, "both checkpoints must have digests"),
    "base_digest": Check(kinds.sha256, _base_digest, "the digest that the base must have"),
    "questions_digest": Check(kinds.sha256, _questions_digest, "the digest that the questions must have"),
    "widest_interval": Check(kinds.positive, _widest, "widest interval that the verdict may rest on"),
    "labels": Check(
        kinds.labels, _labels, "verdicts that are allowed; any other fails, `inconclusive` is inconclusive"
    ),
    "knowledge": Check(
        kinds.knowledge,
        _knowledge,
        "what may have become of the knowledge; `still there` fails, anything else is inconclusive",
    ),
    "base_knows": Check(kinds.share, _base_knows, "least share of the given answers that the base gives"),
    "attacks": Check(kinds.attacks, _attacks, "attacks that must have been made on the unlearned model, by name"),
    "tiers": Check(kinds.tiers, _tiers, "tiers of attacks that must have been made as a whole, able to show something"),
    "reference": Check(kinds.on, _reference, "a model that never knew must have been attacked in the same way"),
    "detectable": Check(kinds.share, _detectable, "largest share of changed answers that may go unseen"),
}
"""By the key of a policy's `[require]`."""
