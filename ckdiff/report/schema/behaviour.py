"""Records of behaviour: answers, choices, neutral texts and the history of a training."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from ckdiff.report.schema.brief import Brief
from ckdiff.report.schema.layout import Ids, Named, Ragged, Rows, Says, Share

ANSWER_SETS = ("target", "unrelated")
"""The sets of open questions, in the order in which everything shows them."""


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over questions (or texts) with its 95 % interval; the ends are NaN where there is one question only."""

    ENDS: ClassVar[Mapping[str, str]] = {"value": "", "low": "_low", "high": "_high"}

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class AnswerRecord:
    """One open question, what both models say, and how far apart that is.

    Attributes:
        text: the question as it was asked, stripped.
        answer_base: the base's greedy answer, decoded for reading, without the end token.
        answer_unlearned: the same of the unlearned model.
        answer_base_ids, answer_unlearned_ids: the ids that were generated, the end token included.
        bleu: of the unlearned answer against the base's, sentence level, in [0, 1].
        exact: the two answers are the same ids.
        logprob_base: mean over the base's answer tokens of log p(base), in nats.
        logprob_unlearned: the same of the unlearned model, on the same tokens.
        chrf: as `bleu`, in characters, so that it means the same in every script; NaN where it was not measured.
        cluster: questions of one cluster ask about one fact, and count as one; -1 in older files: one of its own.
        answer_given: the answer that the question file gives; "" where it gives none.
    """

    text: str
    answer_base: str
    answer_unlearned: str
    answer_base_ids: Ids
    answer_unlearned_ids: Ids
    bleu: Share
    exact: bool
    logprob_base: float
    logprob_unlearned: float
    chrf: float = math.nan
    cluster: int = -1
    answer_given: str = ""


@dataclass(frozen=True, slots=True)
class FieldMeasure:
    """One figure that benchmarks of the field report, of both models.

    Attributes:
        name: "probability", "rouge_l_recall", ...: a key of `probes.behaviour.field_scores.MEASURES`.
        base, unlearned: means over questions, in [0, 1]; of a truth ratio r those of min(r, 1/r) for what was to be
            unlearned, and of max(0, 1 - r) elsewhere.
        each_base, each_unlearned: the value of each question, in their order; NaN where a question lacks what it takes.
        reference, each_reference: the same of a model that never knew; NaN, and none, without one.
    """

    name: str
    base: Mean
    unlearned: Mean
    each_base: Annotated[tuple[float, ...], Ragged("answer")]
    each_unlearned: Annotated[tuple[float, ...], Ragged("answer")]
    reference: Mean = Mean(math.nan, math.nan, math.nan)
    each_reference: Annotated[tuple[float, ...], Ragged("answer_of_reference")] = ()


@dataclass(frozen=True, slots=True, repr=False)
class AnswerSet(Brief):
    """Open questions of one kind.

    Attributes:
        name: "target" (what was to be unlearned) or "unrelated".
        source: one line for people: file, format, concept.
        digest: of the questions.
        bleu, exact: means over questions, in [0, 1].
        logprob_base, logprob_unlearned: means over questions of the mean over tokens, in nats.
        perplexity_base, perplexity_unlearned: exp(- sum of log p / number of tokens) over all answer tokens.
        chrf: as `bleu`; NaN where it was not measured.
        given_digest: of everything that was given to be asked, where some of it was left out; else "".
        field_against: the answers that `field` is about: "given" by the question file, or the "base"'s own; "" in older
            files.
        field: what benchmarks of the field report.
    """

    GIST = ("questions",)

    name: str
    source: str
    digest: str
    bleu: Mean
    exact: Mean
    logprob_base: Mean
    logprob_unlearned: Mean
    perplexity_base: float
    perplexity_unlearned: float
    questions: Annotated[tuple[AnswerRecord, ...], Rows("question", inside=True)]
    chrf: Mean = Mean(math.nan, math.nan, math.nan)
    given_digest: str = ""
    field_against: str = ""
    field: Annotated[tuple[FieldMeasure, ...], Rows("measure", "name")] = ()


@dataclass(frozen=True, slots=True)
class ChoiceRecord:
    """One multiple-choice question.

    Attributes:
        text: the question.
        choices: the texts to choose from.
        answer: index of the right one.
        logprob_base: log p(choice | question) of each choice, summed over its tokens, in nats.
        logprob_unlearned: the same of the unlearned model.
        picked_base, picked_unlearned: index of the most probable choice by mean log p a token; the first of equals.
    """

    text: str
    choices: Annotated[tuple[str, ...], Ragged("choice")]
    answer: int
    logprob_base: Annotated[tuple[float, ...], Ragged("choice")]
    logprob_unlearned: Annotated[tuple[float, ...], Ragged("choice")]
    picked_base: int
    picked_unlearned: int


@dataclass(frozen=True, slots=True, repr=False)
class ChoiceSet(Brief):
    """Multiple-choice questions: recognition can stay, or rise, where generation is suppressed.

    Attributes:
        accuracy_base, accuracy_unlearned: shares of right picks.
        probability_base, probability_unlearned: mean over questions of the right choice's share of exp(mean log p).
        chance: accuracy of guessing, mean of 1 / number of choices.
    """

    GIST = ("questions",)

    name: str
    source: str
    digest: str
    accuracy_base: Mean
    accuracy_unlearned: Mean
    probability_base: Mean
    probability_unlearned: Mean
    chance: float
    questions: Annotated[tuple[ChoiceRecord, ...], Rows("question", inside=True)]


@dataclass(frozen=True, slots=True)
class NeutralRecord:
    """One neutral text: how many tokens were predicted, mean KL(base || unlearned) and mean -log p of both, in nats."""

    text: str
    tokens: int
    kl: float
    nll_base: float
    nll_unlearned: float


@dataclass(frozen=True, slots=True, repr=False)
class NeutralSet(Brief):
    """Neutral texts: what unlearning did to text that is about nothing in particular.

    Attributes:
        kl: mean over texts of the mean KL(base || unlearned) a token, in nats.
        perplexity_base, perplexity_unlearned: exp(sum of -log p / number of tokens) over all texts.
    """

    GIST = ("texts",)

    source: str
    digest: str
    kl: Mean
    perplexity_base: float
    perplexity_unlearned: float
    texts: Annotated[tuple[NeutralRecord, ...], Rows("passage", inside=True)]


@dataclass(frozen=True, slots=True)
class MemberScore:
    """How well a score that is greater for texts that a model was trained on tells target answers from hold-out ones.

    Attributes:
        name: a key of `probes.behaviour.member_scores.SCORES`.
        auc_base, auc_unlearned, auc_reference: chance that a target answer has the greater score, in [0, 1]; 0.5: it
            tells nothing. NaN of no reference.
        leak: MUSE's PrivLeak of the unlearned model, in per cent: beside the reference's AUC, else beside 0.5. Below 0:
            the answers still look trained on; above: they look stranger than ones that were never seen.
        target_base, target_unlearned, target_reference: the score of each target question's answer.
        holdout_base, holdout_unlearned, holdout_reference: the same of each hold-out question's.
    """

    name: str
    auc_base: float
    auc_unlearned: float
    auc_reference: float
    leak: float
    target_base: Annotated[tuple[float, ...], Ragged("member")]
    target_unlearned: Annotated[tuple[float, ...], Ragged("member")]
    target_reference: Annotated[tuple[float, ...], Ragged("member_of_reference")]
    holdout_base: Annotated[tuple[float, ...], Ragged("other")]
    holdout_unlearned: Annotated[tuple[float, ...], Ragged("other")]
    holdout_reference: Annotated[tuple[float, ...], Ragged("other_of_reference")]


@dataclass(frozen=True, slots=True, repr=False)
class HoldOut(Brief):
    """Questions with answers that no model here was trained on: do those of the target questions look otherwise?

    Attributes:
        source: one line for people.
        digest: of the questions.
        scores: see there.
    """

    GIST = ("scores",)

    source: str
    digest: str
    scores: Annotated[tuple[MemberScore, ...], Rows("score", "name", inside=True)]


@dataclass(frozen=True, slots=True)
class ReferenceRecord:
    """A model that never knew what was to be unlearned.

    Attributes:
        location: where it is.
        digest: over its weight files, or "".
        kind: how it came about, or "".
        forget_quality: TOFU's, in (0, 1]: the p-value of the Kolmogorov-Smirnov test of the target questions' truth
            ratios, unlearned model against this one; NaN without them.
    """

    location: str
    digest: str
    kind: str
    forget_quality: float


@dataclass(frozen=True, slots=True)
class HistoryPoint:
    """How far unlearning had come at one step, as `ckdiff unlearn` measured it.

    Attributes:
        step: optimiser steps so far; 0 is the base.
        epoch: passes over the forget text so far.
        loss: mean loss since the last point, NaN at step 0.
        target_bleu, unrelated_bleu: mean BLEU against the base's answers, in [0, 1]; NaN where there were no questions.
        state: "memory" (the weights as trained), or "saved" (rounded to the checkpoint's dtypes, as they are on disk).
    """

    step: int
    epoch: float
    loss: float
    target_bleu: float
    unrelated_bleu: float
    state: Annotated[
        Literal["memory", "saved"], Says("memory: as trained; saved: rounded to the checkpoint's dtypes, as on disk")
    ]


@dataclass(frozen=True, slots=True, repr=False)
class Behaviour(Brief):
    """What `ckdiff behave` found: answers before and after.

    Attributes:
        model_type: of the base's config.
        answers: at most one set a name, target first.
        choices: multiple-choice questions, or None where there were none.
        neutral: neutral texts, or None where they were left out.
        method: how the unlearned checkpoint was made, where it says so itself ("graddiff", "npo", ...); else "".
        history: what its maker measured while making it; empty where it says nothing.
        settings: what determines the numbers, as text.
        notes: plain sentences about what a reader must know.
        holdout: hold-out questions, or None where there were none.
        reference: a model that never knew, which was asked as well, or None.
    """

    GIST = ("answers",)

    model_type: str
    answers: Annotated[tuple[AnswerSet, ...], Named(ANSWER_SETS)]
    choices: ChoiceSet | None
    neutral: NeutralSet | None
    method: str
    history: Annotated[tuple[HistoryPoint, ...], Rows("point")]
    settings: Mapping[str, str]
    notes: Annotated[tuple[str, ...], Rows("note")] = ()
    holdout: HoldOut | None = None
    reference: ReferenceRecord | None = None
