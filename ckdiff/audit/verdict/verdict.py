"""From a report to one label with its evidence: `judge(report)`.

The labels, and when each is given; the first that fits is the verdict (`DECISIONS`, in this order):

    inconclusive      nothing was measured, or a control failed
    identical         every stored value, setting and file is the same
    no effect on these questions
                      no answer changed, or the two models diverge no more than rounding makes them
    inconclusive      the pair looks as if it had been given the wrong way round: the base knows less
    inconclusive      an effect, but no probe, one direction only, or too few questions to say where it lives
    not localised     the two models share no basis: neurons of one mean nothing in the other (inconclusive where
                      embedding and unembedding are the same or rotated: then the basis is hidden)
    values edited     putting back the weights W_V alone brings the answers back, and W_V of the unlearned model alone
    keys edited       takes them away (W_K, the weights of attention, and embedding, norms and unembedding likewise:
    attention rerouted  what was edited is in those weights)
    ancillary
    suppressed        the states of the base bring the answers back although the unlearned value vectors stay in place,
                      the unlearned states take them away from the base, and those value vectors alone take away next to
                      nothing. `attention rerouted` where the attention states alone do it and the coefficients do not
    inconclusive      something reaches its threshold, but its interval does not; or not everything was put back
    mixed             several kinds of weights bring the answers back together, and none of them alone: edits that
                      hide each other; or something brings back more than half, nothing enough
    inconclusive      several kinds of weights that differ were not put back together
    not localised     nothing does, surely

Every threshold is a rule of `rules.RULES`. All scores are `krs_kl` with its simultaneous band, checked by
`krs_centred`; the raw `krs` decides nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ckdiff.audit.verdict.case import Case, Finding
from ckdiff.audit.verdict.direction import wrong_way
from ckdiff.audit.verdict.enough import explains, weak
from ckdiff.audit.verdict.evidence import COUNTED, STATES, Evidence, marked
from ckdiff.audit.verdict.knowledge import state_knowledge
from ckdiff.audit.verdict.location import locate
from ckdiff.audit.verdict.nowhere import mixed, not_localised, subsets_untried, together
from ckdiff.audit.verdict.rules import EDITION, RULES
from ckdiff.audit.verdict.sentences import carried_text, low_rank_text, score_text, settings_text
from ckdiff.audit.verdict.side_effects import side_effects, unmeasured
from ckdiff.modes import EVERY_MODE, WEIGHTS
from ckdiff.report.schema.verdict import Verdict
from ckdiff.report.words.numbers import layers_text
from ckdiff.scoring.power import detectable_share

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckdiff.report.schema.report import Report
    from ckdiff.report.schema.verdict import Label


EDITED: dict[str, Label] = {
    "values": "values edited",
    "keys": "keys edited",
    "attn-weights": "attention rerouted",
    "ancillary": "ancillary",
}
"""The label where the weights of one mode alone explain the effect."""


NAN = float("nan")


NOWHERE: tuple[Label, ...] = ("mixed", "not localised")
"""Labels under which all is shown that was put back, several kinds of weights together too."""


def judge(report: Report) -> Verdict:
    """The verdict of a report; the same report always gets the same one.

    A verdict that it already has is not looked at. `judge.judge_report` puts the gate of a policy beside it.
    """
    case = Case(report, Evidence(report))
    found = decide(case)
    known = state_knowledge(case, found.label)
    questions = len(case.evidence.agreement())
    carried = found.decisive[0] if found.decisive else None
    return Verdict(
        label=found.label,
        reason=found.reason + low_rank_text(case, found.label),
        component=found.name or (EVERY_MODE[found.mode].subject if found.mode else ""),
        layers=() if found.place is None else found.place.layers,
        explained=NAN if carried is None else carried.kl,
        explained_low=NAN if carried is None else carried.kl_low,
        explained_high=NAN if carried is None else carried.kl_high,
        score=share_recovered(case.evidence),
        rules=tuple(case.rules),
        explanations=marked(list(case.evidence.rows(found.label in NOWHERE)), found.decisive),
        side_effects=tuple(side_effects(report)),
        unmeasured=tuple(unmeasured(report, found.label)),
        detectable=detectable_share(questions) if questions else NAN,
        knowledge=known.knowledge,
        knowledge_reason=known.reason,
        lacking=known.lacking,
        edition=EDITION,
    )


def decide(case: Case) -> Finding:
    """The first of `DECISIONS` that finds something."""
    return next(finding for look in DECISIONS if (finding := look(case)) is not None)


def share_recovered(evidence: Evidence) -> float:
    """How far this is from an edit, an erasure or another training: see `Verdict.score`.

    R (1 - B) c, with R krs_kl of both the base's states put back in the whole model, B that of the unlearned value
    vectors broken into the base, and c the cosine of rule `basis`; each kept in [0, 1].
    """
    states, values = evidence.whole("attn+coeff", "restore"), evidence.whole("values", "break")
    if states is None or values is None:
        return NAN
    restored, produced, shared = np.clip([states.kl, values.kl, evidence.cosine()], 0, 1)
    return float(restored * (1 - produced) * shared)


def nothing(case: Case) -> Finding | None:
    """Nothing was measured at all."""
    report = case.report
    compared = report.compare is not None and bool(report.compare.tensors)
    if compared or report.probe is not None or case.evidence.answers:
        return None
    return Finding("inconclusive", "Nothing was measured: the report holds no comparison, no probe and no answers.")


def identical(case: Case) -> Finding | None:
    """Every stored value, and everything around the weights, is the same."""
    found = case.report.compare
    if found is None or not found.tensors:
        return None
    moved = sum(not row.drift.identical for row in found.tensors)
    unmatched = len(found.only_in_base) + len(found.only_in_unlearned) + len(found.shape_mismatch)
    settings, unknown = len(found.config_changes), len(found.config_uncompared)
    text = f"{moved} of {len(found.tensors)} tensors differ, {unmatched} are not in both, {settings} settings differ"
    text += f", {unknown} were not compared" if unknown else ""
    if not case.rule("identical", moved + unmatched + settings + unknown, text):
        return None
    count = sum(row.parameters for row in found.tensors)
    return Finding("identical", f"All {count:,} parameters and all settings are the same: nothing was unlearned.")


def controls(case: Case) -> Finding | None:
    """A control failed, or none was made: the scores are worth nothing."""
    probe = case.report.probe
    if probe is None or not probe.runs:
        return None
    failed = [control for control in probe.controls if not control.passed]
    count = len(failed) if probe.controls else 1
    names = ", ".join(dict.fromkeys(control.name for control in failed)) or ("none was made" if count else "all passed")
    if case.rule("controls", count, f"{len(probe.controls)} controls, {len(failed)} failed ({names})"):
        return None
    return Finding("inconclusive", f"A control of the probe failed ({names}): its scores are not to be trusted.")


def no_effect(case: Case) -> Finding | None:
    """The answers are as before."""
    agreement = case.evidence.agreement()
    if not agreement:
        return None
    # Two ways to see the same: of what they say of the same questions the worse counts.
    changed = sum(not value >= 1 for value in agreement)
    if len(case.evidence.kept()) == len(agreement):
        changed = max(changed, sum(not value >= 1 for value in case.evidence.kept()))
    share, divergence = changed / len(agreement), case.evidence.divergence()
    of = f"{changed} of {len(agreement)} answers differ from the base's"
    same = case.rule("answers", share, of)
    small = (
        not np.isnan(divergence)
        and case.rule("divergence", divergence, f"mean KL {divergence:.3g} nats a token")
        and case.rule(
            "agreement", float(np.mean(agreement)), f"{np.mean(agreement):.1%} of the answers' tokens are the base's"
        )
    )
    if not (same or small) or case.evidence.other_answers_changed():
        return None
    return Finding(
        "no effect on these questions",
        f"{of}: on these questions the unlearned model still says what the base says."
        if same
        else f"{of}, by no more than rounding does (mean KL {divergence:.3g} nats a token).",
    )


def swapped(case: Case) -> Finding | None:
    """The base knows less of it than the model that is said to have forgotten it."""
    reason = wrong_way(case)
    if not reason:
        return None
    return Finding("inconclusive", f"The pair looks as if it had been given the wrong way round ({reason}).")


def not_probed(case: Case) -> Finding | None:
    """There may be an effect, and nothing says where it lives."""
    evidence, probe, compare = case.evidence, case.report.probe, case.report.compare
    broken = [row.name for row in (() if compare is None else compare.tensors) if row.drift.nonfinite_unlearned]
    if broken and probe is None:
        return Finding("inconclusive", f"The unlearned model computes nothing: {broken[0]} holds NaN or infinity.")
    if not evidence.agreement():
        return Finding("inconclusive", "No question about what was to be unlearned was asked: nothing is known of it.")
    if probe is None or not probe.runs:
        return Finding("inconclusive", "The answers changed, and no probe says where that lives.")
    if not any(evidence.has(mode, "restore") for mode in COUNTED):
        return Finding(
            "inconclusive", "The probe holds no krs_kl of an open or whole restoration: where it lives is not known."
        )
    questions = len(probe.questions)
    if not case.rule("questions", questions, f"{questions} questions were scored"):
        return Finding("inconclusive", f"{questions} questions are too few to say where the effect lives.")
    return None


def weights_alone(case: Case) -> Finding | None:
    """The weights of one kind explain all of it."""
    found = [mode for mode in WEIGHTS if case.evidence.changed(mode) and explains(case, mode)]
    if not found:
        return None

    def strength(mode: str) -> float:
        rows = (case.evidence.whole(mode, direction) for direction in ("restore", "break"))
        return min(row.kl for row in rows if row is not None)

    return _finding(case, EDITED[max(found, key=strength)], max(found, key=strength))


def no_basis(case: Case) -> Finding | None:
    """The two models share no neurons: states of one mean nothing in the other."""
    cosine = case.evidence.cosine()
    if np.isnan(cosine) or case.rule("basis", cosine, f"the least cosine of a layer's neurons is {cosine:.3g}"):
        return None
    found, least = case.evidence.layer_cosines(), RULES["basis"]
    foreign = [layer for layer, value in found.items() if layer is not None and not least.holds(value)]
    where = "" if len(foreign) == len(found) else f" of {layers_text(foreign)}"
    ends = case.evidence.ends_cosine()
    if not np.isnan(ends) and case.rule("reordered", ends, f"of embedding and unembedding it is {ends:.3g}"):
        return Finding(
            "inconclusive",
            f"The two models share embedding or unembedding, as they are or rotated (cosine {ends:.3f}), and not the"
            f" neurons{where} (least cosine {cosine:.2g}): all of the model was rotated, or neurons were replaced, or"
            " reordered and edited so that none can be recognised. What is put in their place means nothing there.",
        )
    if case.evidence.compare is None or np.isnan(case.evidence.compare.ends_geometry):
        return Finding(
            "inconclusive",
            f"The two models share no neurons{where} (least cosine {cosine:.2g}): another training, or all of the model"
            " was rotated. Which of the two was not looked at: measure it with `ckdiff audit`.",
        )
    return Finding(
        "not localised",
        f"The two models share too little (the least cosine of a layer's neurons is {cosine:.2g}): this is another"
        " training, or the weights were destroyed, or all of the model stands in another basis, embedding and norms"
        " with it. States of the base mean nothing in the other model, so that what it lost cannot be put back piece by"
        " piece.",
    )


def states(case: Case) -> Finding | None:
    """The base's states bring the answers back although all weights of the unlearned model stay in place."""
    values = case.evidence.whole("values", "break")
    text = "the unlearned value vectors alone take away"
    if values is not None and not case.rule("in place", values.kl, f"{text} {score_text(values)}"):
        return None
    found = [mode for mode in STATES if explains(case, mode)]
    if not found:
        return None
    if values is None:
        case.unsure.append("what the unlearned value vectors do alone was not measured (--mode values)")
        return None
    if "attn" in found and "coeff" not in found and weak(case, "coeff"):
        return _finding(case, "attention rerouted", "attn")
    single = next((mode for mode in found if (place := locate(case.evidence, mode)) and place.single), found[0])
    return _finding(case, "suppressed", single)


def unsure(case: Case) -> Finding | None:
    """Something is high enough, and not surely so."""
    if not case.unsure:
        return None
    return Finding("inconclusive", f"Too uncertain: {'; '.join(dict.fromkeys(case.unsure))}.")


def incomplete(case: Case) -> Finding | None:
    """Inconclusive, where what was not put back might bring everything back."""
    evidence = case.evidence
    wanted = [mode for mode in (*STATES, *WEIGHTS) if evidence.changed(mode)]
    lacking = [mode for mode in wanted if not evidence.complete(mode, "restore")]
    if not lacking:
        return None
    return Finding(
        "inconclusive",
        f"Nothing that was put back is enough, and not everything was: --mode {','.join(lacking)} --variant whole is"
        " missing.",
    )


DECISIONS: tuple[Callable[[Case], Finding | None], ...] = (
    nothing,
    identical,
    controls,
    no_effect,
    swapped,
    not_probed,
    no_basis,
    weights_alone,
    states,
    unsure,
    incomplete,
    together,
    mixed,
    subsets_untried,
    not_localised,
)
"""In this order; the first that finds something is the verdict."""


def _finding(case: Case, label: Label, mode: str) -> Finding:
    """The finding that a mode carries the effect, with its place."""
    restore, broken = (case.evidence.whole(mode, direction) for direction in ("restore", "break"))
    place = locate(case.evidence, mode)
    windows = () if place is None else place.rests_on
    # The first is what is said to carry the effect: one window, or else all layers together.
    rows = (*windows, restore, broken) if place is not None and place.single else (restore, *windows, broken)
    decisive = tuple(dict.fromkeys(row for row in rows if row is not None))
    if place is not None and place.layers and not np.isnan(place.share):
        text = "one window carries {:.2f} of what the whole model does"
        text = text if place.single else "these windows produce {:.2f} of what all windows do"
        name = "window of weights" if mode in WEIGHTS else "window" if place.single else "windows"
        case.rule(name, place.share, text.format(place.share))
    return Finding(label, carried_text(case, label, mode, place) + settings_text(case), mode, place, decisive)
