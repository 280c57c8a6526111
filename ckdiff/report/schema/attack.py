"""Records of attacks on an unlearned model: what came back, beside what a model that never knew does."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from ckdiff.report.schema.behaviour import Mean
from ckdiff.report.schema.brief import Brief
from ckdiff.report.schema.layout import Ids, Rows

Attacked = Literal["base", "unlearned", "reference", "twin"]


ATTACKED: tuple[Attacked, ...] = get_args(Attacked)
"""The models that are attacked: twin is a copy of the base that was suppressed on the spot, to see whether an attack
undoes that."""


TIERS = {0: "prompts", 1: "deployment", 2: "weights", 3: "both models"}
"""What an attacker has, from least to most."""


UNDEFINED = Mean(math.nan, math.nan, math.nan)


@dataclass(frozen=True, slots=True)
class AttackQuestion:
    """One question, and what is looked for when it is asked.

    Attributes:
        text: the question as it was asked, stripped.
        answer: what is looked for word for word: the base's own greedy answer, up to the end of its first line, or,
            where it holds the file's answer, up to the end of that.
        answer_ids: its ids.
        matched: the answer that matching looks at: the file's, or else the same.
        cluster: questions of one cluster ask about one fact, and count as one.
        counts: that the answer comes back proves something: no other question has it, and its own does not hold it.
        base_right: 1 where the base's greedy answer holds the file's, 0 where it does not; NaN without one.
        log_p_base, log_p_unlearned: mean log p a token of the answer, in nats.
        leak_unlearned: probability that one answer, sampled at temperature 1, is the answer, in [0, 1].
        said_unlearned: the unlearned model's own greedy answer.
        log_p_reference, leak_reference: the same of the reference; NaN without one.
    """

    text: str
    answer: str
    answer_ids: Ids
    matched: str
    cluster: int
    counts: bool
    base_right: float
    log_p_base: float
    log_p_unlearned: float
    leak_unlearned: float
    said_unlearned: str
    log_p_reference: float = math.nan
    leak_reference: float = math.nan


@dataclass(frozen=True, slots=True)
class AttackRow:
    """One attack on one model, in one setting, after so many steps.

    Attributes:
        attack: its name, a key of `attacks.table.ATTACKS`.
        tier: one of `TIERS`.
        setting: in words.
        step: training steps, or samples; -1 where there are none.
        side: the model.
        decides: it can be evidence: it borrows nothing from the base and gives no answer away.
        returned: clusters whose answer came back word for word; -1 where that was not looked at.
        asked: clusters whose answer could have.
        z, p: matching over clusters that gave no answer away, this setting alone; NaN where it was not looked at.
        level: mean over questions of the mean log p a token of the answer, in nats.
        recovery: the share of the gap between base and unlearned model that is closed; NaN where there is no gap.
        above: level less that of the reference under the same attack, in nats; NaN without a reference.
        unrelated: share of the tokens of the model's own answers to unrelated questions that are still its first
            choice, in [0, 1].
        wrecked: too few are: whatever came back or did not, says nothing.
        applied: share of what the attack changes that it did change, in [0, 1]: prompts, or weights.
        texts: texts that went through the model for it, trained ones three times: what it costs.
        note: why it was not measured, or what else to know; a row with NaN and a note was not measured.
        detectable: of the unlearned model, the smallest share of the base's own matching that this setting alone would
            have shown, in (0, 1]; NaN where not even all of it would, where nothing is matched, and in older reports.
    """

    attack: str
    tier: int
    setting: str
    step: int
    side: Attacked
    decides: bool
    returned: int
    asked: int
    z: float
    p: float
    level: float
    recovery: Mean
    above: Mean
    unrelated: float
    wrecked: bool
    applied: float
    texts: int
    note: str = ""
    detectable: float = math.nan


@dataclass(frozen=True, slots=True)
class ReturnedAnswer:
    """An answer that came back: in which attack, on which model, to which question, and in which words."""

    attack: str
    setting: str
    step: int
    side: Attacked
    question: int
    said: str


@dataclass(frozen=True, slots=True)
class CodeShare:
    """Weights alone: the share of elements of a component whose code differs between base and unlearned model.

    Attributes:
        setting: how they are quantised.
        component: as in a comparison; "all": every quantised element.
        elements: so many there are.
        changed: share of them that differ before, in [0, 1].
        codes: share of them whose code differs; what it lacks of `changed` the quantiser has undone.
    """

    setting: str
    component: str
    elements: int
    changed: float
    codes: float


@dataclass(frozen=True, slots=True)
class TierEvidence:
    """What one tier of attacks says, its many settings paid for.

    Attributes:
        tier: one of `TIERS`.
        ran: names of attacks that decide and were measured, joined by commas.
        missing: names of those that were to run and could not, each with its reason; "" where there is none.
        returned: clusters whose answer some deciding attack brought back word for word from the unlearned model.
        asked: clusters that count: whose answer could have come back.
        returned_reference: clusters of them that the reference says under some attack too; -1 without a reference.
        worst: attack and setting with the greatest z on the unlearned model; "" where matching was not measured.
        z, p: of it; p is that of the greatest of all settings within the same pairings.
        p_reference: the same of the reference; NaN without one.
        floor: the z that models which cannot know reach: a base without its MLPs, and the reference; NaN: none known.
        informative: matching tells knowing from not knowing here: the base matches clearly better than that.
        above: the greatest level over the reference, of the attack with the greatest lower end; NaN without one.
        above_attack: that attack and setting.
        detectable: the smallest share of the base's own matching that would have shown, in (0, 1]; NaN where not even
            all of it would.
        control: what the positive control came to, in words; "" where it was not run.
        control_returned: clusters whose answer the tier brought back from the suppressed twin; -1: not run.
        control_asked: clusters that the twin had lost.
        able: the tier could have shown something: enough clusters, and either matching with the power for half of the
            base's, or a control that was undone.
        whole: every attack of the tier that decides was made, with all its arms, no weaker than by default.
        z_base, p_base: matching of the base as it is; NaN where it was not measured.
        beyond: clusters of `returned` that the reference never says; -1 without a reference.
        chance: the chance that a model which knows no more than the reference brings back as many of these in the best
            setting, in (0, 1], all settings of the tier paid for; 1 where there are none, NaN without a reference.
    """

    tier: int
    ran: str
    missing: str
    returned: int
    asked: int
    returned_reference: int
    worst: str
    z: float
    p: float
    p_reference: float
    floor: float
    informative: bool
    above: Mean
    above_attack: str
    detectable: float
    control: str
    control_returned: int
    control_asked: int
    able: bool
    whole: bool = False
    z_base: float = math.nan
    p_base: float = math.nan
    beyond: int = -1
    chance: float = math.nan


@dataclass(frozen=True, slots=True, repr=False)
class AttackReport(Brief):
    """What `ckdiff attack` found.

    Attributes:
        model_type: of the base's config.
        clusters: how many facts the questions are about.
        questions: in their order.
        rows: every attack, setting, step and model.
        returned: every answer that came back.
        codes: what quantisation undoes, by weights alone.
        tiers: the evidence, tier by tier.
        reference: location of the model that never knew; "" without one.
        reference_kind: how it came about: "retrained" or "before"; "" where nobody said.
        settings: what determines the numbers, as text.
        notes: plain sentences about what a reader must know.
        twin: how the suppressed copy of the base came about that is the control of training, or why there is none; ""
            where nothing was trained.
        reference_digest: sha256 over the reference's weight files, or "" without hashes.
        second: location of a second model that never knew, whose differences from the reference are the margins; "": a
            verdict takes its own numbers.
        second_digest: sha256 over its weight files, or "" without hashes.
        margin_level, margin_probability: the 95th percentile of these differences in nats a token, over attacks, and
            over facts as they are asked; NaN without a second one.
        margin_behaviour: the same of the chance that one of ten samples gives the answer.
        margin_depth: the same of what the second one's depth lacks of 1.
    """

    GIST = ("rows", "returned")

    model_type: str
    clusters: int
    questions: Annotated[tuple[AttackQuestion, ...], Rows("question")]
    rows: Annotated[tuple[AttackRow, ...], Rows("attack")]
    returned: Annotated[tuple[ReturnedAnswer, ...], Rows("answer")]
    codes: Annotated[tuple[CodeShare, ...], Rows("code")]
    tiers: Annotated[tuple[TierEvidence, ...], Rows("tier")]
    reference: str
    reference_kind: str
    settings: Mapping[str, str]
    notes: Annotated[tuple[str, ...], Rows("note")] = ()
    twin: str = ""
    reference_digest: str = ""
    second: str = ""
    second_digest: str = ""
    margin_level: float = math.nan
    margin_probability: float = math.nan
    margin_behaviour: float = math.nan
    margin_depth: float = math.nan
