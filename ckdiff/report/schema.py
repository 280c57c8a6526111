"""The report: frozen records that every command fills and every presenter reads.

This module is the narrow waist of ckdiff. It knows NumPy and nothing else of the project but errors and shapes, so
that a report can be opened, shown and judged without torch. Field names are a contract with other people's scripts:
add, never rename, and raise `SCHEMA_VERSION` when the meaning of something changes.

`NaN` in a float field means "not defined here" and is written as `null` in JSON.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ckdiff.shapes import ComponentLayer, Float64, Int64, LayerNeuron, LayerQuestion, PerLayer

FORMAT = "ckdiff"
SCHEMA_VERSION = 1

Component = Literal[
    "embedding",
    "position_embedding",
    "unembedding",
    "norms",
    "value_vectors",
    "keys",
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_o",
    "router",
    "other",
]
COMPONENTS: tuple[Component, ...] = get_args(Component)
"""Every component id, in the order in which tables show them."""

Side = Literal["base", "unlearned"]


# ---------------------------------------------------------------------------------------------------- provenance


@dataclass(frozen=True, slots=True)
class ShardRecord:
    """One weight file: its name, its size in bytes, and its sha256 (None when hashing was switched off)."""

    name: str
    bytes: int
    sha256: str | None


@dataclass(frozen=True, slots=True)
class CheckpointRecord:
    """Which checkpoint was read.

    Attributes:
        location: absolute path, or hub id.
        revision: the hub commit, or None for a local path.
        digest: sha256 over the sorted lines "name sha256" of its shards, or None without hashes.
        shards: weight files, sorted by name.
    """

    location: str
    revision: str | None
    digest: str | None
    shards: tuple[ShardRecord, ...]


@dataclass(frozen=True, slots=True)
class Provenance:
    """The two checkpoints that every number of the report is about."""

    base: CheckpointRecord
    unlearned: CheckpointRecord


# ------------------------------------------------------------------------------------------------------- compare


@dataclass(frozen=True, slots=True)
class Drift:
    """How far b (unlearned) is from a (base), both taken as one long vector; sums in float64.

    Attributes:
        cosine: <a, b> / (|a| |b|), in [-1, 1]; exactly 1 where both are equal or both all-zero, NaN where one is.
        one_minus_cosine: 1 - cosine without its rounding, in [0, 2].
        relative_l2: |b - a| / |a|; 0 where both are all-zero, infinite where only a is.
        max_abs_diff: max |b_i - a_i|.
        norm_base: |a|.
        norm_unlearned: |b|.
        changed: number of elements whose values differ.
        changed_fraction: changed / parameters.
        nonfinite_base: NaN and infinite elements of a. Where either count is not zero, the other numbers are NaN
            unless the two are bitwise identical.
        nonfinite_unlearned: the same of b.
        identical: the stored values are equal, element by element.
    """

    cosine: float
    one_minus_cosine: float
    relative_l2: float
    max_abs_diff: float
    norm_base: float
    norm_unlearned: float
    changed: int
    changed_fraction: float
    nonfinite_base: int
    nonfinite_unlearned: int
    identical: bool


@dataclass(frozen=True, slots=True)
class TensorDrift:
    """The drift of one tensor, or of one part of a fused tensor (then the name ends in the part: `...weight[q]`).

    Attributes:
        layer: index of the decoder layer, or None outside the layers.
        tied: the tensor is a second name of another one (tied embeddings) and its bytes are stored once.
    """

    name: str
    component: str
    layer: int | None
    shape: tuple[int, ...]
    dtype_base: str
    dtype_unlearned: str
    parameters: int
    tied: bool
    drift: Drift


@dataclass(frozen=True, slots=True)
class ComponentDrift:
    """The drift of all tensors of one component, as one long vector, and over its tensors.

    Attributes:
        cosine_mean: mean of the tensors' cosines (those that are defined).
        cosine_min: the least of them.
        tied: every tensor of the component is a second name of another component's.
    """

    component: str
    tensors: int
    parameters: int
    cosine_mean: float
    cosine_min: float
    tied: bool
    drift: Drift


@dataclass(frozen=True, slots=True)
class Grid:
    """Drift per component and layer (tensors outside the layers are not in it); NaN where there is nothing."""

    components: tuple[str, ...]
    layers: Int64
    cosine: ComponentLayer
    one_minus_cosine: ComponentLayer
    relative_l2: ComponentLayer
    changed_fraction: ComponentLayer


@dataclass(frozen=True, slots=True)
class NeuronGrid:
    """Drift per layer and neuron, for one component that has neurons.

    In a mixture of experts, neurons are numbered expert by expert: neuron = expert * d_ff + index.
    """

    layers: Int64
    one_minus_cosine: LayerNeuron
    relative_l2: LayerNeuron


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor that only one of the checkpoints has."""

    name: str
    component: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class ShapeMismatch:
    """A tensor that both checkpoints have, in two shapes; it was not compared."""

    name: str
    component: str
    shape_base: tuple[int, ...]
    shape_unlearned: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """One key that differs in the files around the weights.

    Attributes:
        file: config.json, generation_config.json, tokenizer.json, chat_template ...
        key: dotted path inside the file.
        base: JSON text of the base's value, or None where it has no such key.
        unlearned: the same of the unlearned checkpoint.
    """

    file: str
    key: str
    base: str | None
    unlearned: str | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """What `ckdiff compare` found.

    Attributes:
        model_type: of the base's config, or "" where it has none.
        known_architecture: False: no row for this model type, everything is under `other`.
        neurons: by component (`value_vectors`, `keys`); missing where there are none.
        ignored: stored buffers without parameters that were left out by name.
        notes: plain sentences about what a reader must know (not measured, assumed, merged).
    """

    model_type: str
    known_architecture: bool
    tensors: tuple[TensorDrift, ...]
    components: tuple[ComponentDrift, ...]
    grid: Grid
    neurons: Mapping[str, NeuronGrid]
    only_in_base: tuple[TensorInfo, ...]
    only_in_unlearned: tuple[TensorInfo, ...]
    shape_mismatch: tuple[ShapeMismatch, ...]
    config_changes: tuple[ConfigChange, ...]
    ignored: tuple[str, ...]
    notes: tuple[str, ...]


# --------------------------------------------------------------------------------------------------------- probe


SCORES = ("krs", "krs_centred", "krs_kl")
"""The three scores of a run, in the order in which everything shows them; `krs_kl` is the one about behaviour."""


@dataclass(frozen=True, slots=True)
class Curve:
    """One score at each window centre, with its pointwise 95 % interval and its simultaneous 95 % band.

    All five are NaN where the score was not asked for or not defined, the last four where there is one question only.
    A statement about the best of many windows rests on the band.
    """

    score: PerLayer
    low: PerLayer
    high: PerLayer
    band_low: PerLayer
    band_high: PerLayer


@dataclass(frozen=True, slots=True)
class ProbeRun:
    """One sweep: direction x mode x variant, a score at each window centre.

    Attributes:
        direction: "restore" (states of the base into the unlearned model) or "break" (the other way round).
        mode: what is put back, a key of `probes.modes.MODES`.
        variant: what else is held still, a key of `probes.modes.VARIANTS`.
        window: how many layers are restored together.
        layers: window centres; [-1] for a mode that is about no single window (`ancillary`).
        first, last: the first and the last layer of each window, both included; 0 and the last layer of the model for
            a mode that is about no single window.
        krs, krs_centred, krs_kl: restore: 1 - mean(loss) / mean(loss of the unlearned model); break: mean(loss) /
            mean(loss of the unlearned model).
        krs_mean_of_ratios: mean over questions of per-question `krs` (what the authors' notebook computes).
        top1: share of scored positions whose argmax is the base's, mean over questions.
        loss_mse, loss_mse_centred, loss_kl: per-question losses [layer, question].
        top1_questions: top1 per question [layer, question].
    """

    direction: str
    mode: str
    variant: str
    window: int
    layers: Int64
    first: Int64
    last: Int64
    krs: Curve
    krs_centred: Curve
    krs_kl: Curve
    krs_mean_of_ratios: PerLayer
    top1: PerLayer
    loss_mse: LayerQuestion
    loss_mse_centred: LayerQuestion
    loss_kl: LayerQuestion
    top1_questions: LayerQuestion


@dataclass(frozen=True, slots=True)
class QuestionRecord:
    """One question, the answer that was scored, and how far the unlearned model is from it.

    Attributes:
        text: the question as it was asked, stripped.
        answer: the scored answer, decoded for reading (the ids below are what was scored).
        answer_ids: the answer's token ids.
        prompt_tokens: number of prompt tokens.
        mse, mse_centred, kl: the unlearned model's losses on this question.
        top1: share of its positions at which the unlearned model's argmax is the base's.
    """

    text: str
    answer: str
    answer_ids: tuple[int, ...]
    prompt_tokens: int
    mse: float
    mse_centred: float
    kl: float
    top1: float


@dataclass(frozen=True, slots=True)
class LossSummary:
    """The unlearned model's mean losses over questions, and the share of `mse` that is a uniform shift."""

    mse: float
    mse_centred: float
    kl: float
    top1: float
    shift_share: float


@dataclass(frozen=True, slots=True)
class Control:
    """One control of a probe: what was measured, the bound it must keep, and whether it did.

    Attributes:
        name: "self_patch" (largest change of a logit), "everything" (krs of restoring it all), or "wrong_prompt" (a
            score with the states of another question; `against` is the same score with the right ones).
        mode, variant: of the run that it belongs to; "" for a control of the whole direction.
        layer: window centre, or None.
        score: which score `value` is, one of `SCORES`; "" for `self_patch`.
        against: the figure to read `value` by, or NaN.
        bound: what `value` is held to, or NaN.
        kind: "at_most", "at_least", or "shown" (no bound: a figure to read the scores by).
    """

    name: str
    direction: str
    value: float
    bound: float
    kind: Literal["at_most", "at_least", "shown"]
    passed: bool
    mode: str = ""
    variant: str = ""
    layer: int | None = None
    score: str = ""
    against: float = float("nan")


@dataclass(frozen=True, slots=True)
class NeuronRecord:
    """One neuron whose coefficient is restored, at its place in the ranking.

    Attributes:
        layer, neuron: which one; in the numbering of `NeuronGrid`.
        contribution: the share of the window's effect that it carries by the ranking, unitless; over all candidates
            the shares add up to 1.
    """

    layer: int
    neuron: int
    contribution: float


@dataclass(frozen=True, slots=True)
class NeuronSet:
    """The smallest set of neurons whose coefficients, restored alone, bring back most of what their window brings.

    Attributes:
        direction: "restore" or "break", as in `ProbeRun`.
        layer: window centre; -1 for the whole model.
        first, last: the window's layers, both included.
        goal: the share of the window's krs_kl that the set must bring back.
        candidates: neurons of the window's layers.
        window_score: krs_kl of the whole window, all its coefficients restored.
        score, low, high: krs_kl of the set alone, by an actual restoration, and its 95 % interval over questions.
        krs, krs_centred: the other two scores of the set.
        random_score, random_low, random_high: mean krs_kl of random sets of the same size, the least and the greatest.
        random_sets: how many of them were restored.
        sizes, sizes_score: the sizes that were tried, ascending, and krs_kl of the first so many in the ranking.
        loss_mse, loss_mse_centred, loss_kl: per-question losses of the set, [question].
        neurons: the set, in the order of the ranking.
        total: the contributions of all candidates together: 1, but for the error of their computation.
        nodes: points of the quadrature behind the contributions.
    """

    direction: str
    layer: int
    first: int
    last: int
    goal: float
    candidates: int
    window_score: float
    score: float
    low: float
    high: float
    krs: float
    krs_centred: float
    random_score: float
    random_low: float
    random_high: float
    random_sets: int
    sizes: Int64
    sizes_score: Float64
    loss_mse: Float64
    loss_mse_centred: Float64
    loss_kl: Float64
    neurons: tuple[NeuronRecord, ...]
    total: float = float("nan")
    nodes: int = 0


@dataclass(frozen=True, slots=True)
class Probe:
    """What `ckdiff probe` found, and the settings that it ran under.

    Attributes:
        model_type: of the base's config.
        layer_count: decoder layers of the model.
        settings: what determines the numbers, as text (dtype, window, tokens, prompt, source of questions ...).
        notes: plain sentences about what a reader must know.
        neurons: of some windows the neurons that carry them; empty where they were not asked for.
    """

    model_type: str
    layer_count: int
    runs: tuple[ProbeRun, ...]
    questions: tuple[QuestionRecord, ...]
    loss_unlearned: LossSummary
    controls: tuple[Control, ...]
    settings: Mapping[str, str]
    notes: tuple[str, ...]
    neurons: tuple[NeuronSet, ...] = ()


# ----------------------------------------------------------------------------------------------------- behaviour


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean over questions (or texts) with its 95 % interval; the ends are NaN where there is one question only."""

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
    """

    text: str
    answer_base: str
    answer_unlearned: str
    answer_base_ids: tuple[int, ...]
    answer_unlearned_ids: tuple[int, ...]
    bleu: float
    exact: bool
    logprob_base: float
    logprob_unlearned: float


@dataclass(frozen=True, slots=True)
class AnswerSet:
    """Open questions of one kind.

    Attributes:
        name: "target" (what was to be unlearned) or "unrelated".
        source: one line for people: file, format, concept.
        digest: of the questions.
        bleu, exact: means over questions, in [0, 1].
        logprob_base, logprob_unlearned: means over questions of the mean over tokens, in nats.
        perplexity_base, perplexity_unlearned: exp(- sum of log p / number of tokens) over all answer tokens.
    """

    name: str
    source: str
    digest: str
    bleu: Mean
    exact: Mean
    logprob_base: Mean
    logprob_unlearned: Mean
    perplexity_base: float
    perplexity_unlearned: float
    questions: tuple[AnswerRecord, ...]


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
    choices: tuple[str, ...]
    answer: int
    logprob_base: tuple[float, ...]
    logprob_unlearned: tuple[float, ...]
    picked_base: int
    picked_unlearned: int


@dataclass(frozen=True, slots=True)
class ChoiceSet:
    """Multiple-choice questions: recognition can stay, or rise, where generation is suppressed.

    Attributes:
        accuracy_base, accuracy_unlearned: shares of right picks.
        probability_base, probability_unlearned: mean over questions of the right choice's share of exp(mean log p).
        chance: accuracy of guessing, mean of 1 / number of choices.
    """

    name: str
    source: str
    digest: str
    accuracy_base: Mean
    accuracy_unlearned: Mean
    probability_base: Mean
    probability_unlearned: Mean
    chance: float
    questions: tuple[ChoiceRecord, ...]


@dataclass(frozen=True, slots=True)
class NeutralRecord:
    """One neutral text: how many tokens were predicted, mean KL(base || unlearned) and mean -log p of both, in nats."""

    text: str
    tokens: int
    kl: float
    nll_base: float
    nll_unlearned: float


@dataclass(frozen=True, slots=True)
class NeutralSet:
    """Neutral texts: what unlearning did to text that is about nothing in particular.

    Attributes:
        kl: mean over texts of the mean KL(base || unlearned) a token, in nats.
        perplexity_base, perplexity_unlearned: exp(sum of -log p / number of tokens) over all texts.
    """

    source: str
    digest: str
    kl: Mean
    perplexity_base: float
    perplexity_unlearned: float
    texts: tuple[NeutralRecord, ...]


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
    state: Literal["memory", "saved"]


@dataclass(frozen=True, slots=True)
class Behaviour:
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
    """

    model_type: str
    answers: tuple[AnswerSet, ...]
    choices: ChoiceSet | None
    neutral: NeutralSet | None
    method: str
    history: tuple[HistoryPoint, ...]
    settings: Mapping[str, str]
    notes: tuple[str, ...]


# ------------------------------------------------------------------------------------------------------- verdict


Label = Literal[
    "identical",
    "no effect on these questions",
    "suppressed",
    "values edited",
    "keys edited",
    "attention rerouted",
    "ancillary",
    "mixed",
    "not localised",
    "inconclusive",
]
LABELS: tuple[Label, ...] = get_args(Label)
"""Every label of a verdict; what each one means stands in `audit.verdict`."""
Outcome = Literal["passed", "failed", "inconclusive"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
Sense = Literal["at_least", "at_most", "shown"]


@dataclass(frozen=True, slots=True)
class RuleResult:
    """One rule of the verdict that was looked at.

    Attributes:
        name: of the rule, a key of `audit.rules.RULES`.
        fired: it holds on this report. Rules that did not fire are kept too: they say what was ruled out.
        text: in plain words what was looked at, with its figures.
        value: the figure that was held against the threshold: of an interval the end that counts. NaN: no one figure.
        threshold: the documented number, or NaN.
        sense: whether value must be at least or at most the threshold; "shown" where there is no threshold.
    """

    name: str
    fired: bool
    text: str
    value: float
    threshold: float
    sense: Sense


@dataclass(frozen=True, slots=True)
class Explanation:
    """How much of the effect one mode explains in one direction: a window (or the whole model) as the verdict read it.

    Attributes:
        mode, variant, direction: of the run.
        first, last: the layers of the window, both included; 0 and the last layer for the whole model.
        kl, kl_low, kl_high: krs_kl there, and its simultaneous band; NaN where it was not measured.
        centred, centred_low, centred_high: the same of krs_centred.
        decisive: the verdict rests on it.
    """

    mode: str
    variant: str
    direction: str
    first: int
    last: int
    kl: float
    kl_low: float
    kl_high: float
    centred: float
    centred_low: float
    centred_high: float
    decisive: bool


@dataclass(frozen=True, slots=True)
class GateCheck:
    """One requirement of a policy, and whether the report meets it.

    Attributes:
        name: the policy's key, such as "fail.labels" or "require.questions".
        outcome: "inconclusive": the report lacks what the requirement is about.
        text: in plain words what was asked, and what was found.
        value: the figure that was held against the threshold, or NaN.
        threshold: the policy's number, or NaN.
    """

    name: str
    outcome: Outcome
    text: str
    value: float
    threshold: float


@dataclass(frozen=True, slots=True)
class Gate:
    """What a policy says about a report.

    Attributes:
        policy: the policy's text, as it was read (TOML), so that the gate can be judged again.
        digest: sha256 of that text in UTF-8.
        source: name of the policy's file, for people.
        outcome: the worst of the checks; "failed" is worse than "inconclusive", and no checks at all are inconclusive.
        checks: every requirement of the policy, in its order.
    """

    policy: str
    digest: str
    source: str
    outcome: Outcome
    checks: tuple[GateCheck, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the report means: one label, the reason, and everything that it rests on.

    Attributes:
        label: one of `LABELS`.
        reason: one or two plain sentences: what was found, in which component and layers, and how sure that is.
        component: the component or state that carries the effect ("value vectors", "coefficients", ...); "" for none.
        layers: the layers of the smallest set of windows that explains the effect; empty where there is none.
        explained, explained_low, explained_high: krs_kl of what carries it, restored, and the band it rests on; NaN
            where nothing does.
        score: how clearly the value vectors still hold it, in [0, 1]: R (1 - B) c with R krs_kl of both the base's
            states put back in the whole model, B that of the unlearned value vectors broken into the base, and c the
            greatest cosine of keys, value vectors and attention. Near 1 where the knowledge is held back; low where the
            value vectors were edited, where it is gone, and where the model was trained anew. NaN: not measured.
        rules: every rule that was looked at.
        explanations: a row a mode and direction.
        side_effects: plain sentences about what else changed.
        unmeasured: plain sentences about what was not measured, and with which command it would be.
        detectable: the smallest share of changed answers that so many questions would have shown with 95 % certainty;
            NaN without questions.
        gate: what a policy says, or None where none was given.
    """

    label: Label
    reason: str
    component: str
    layers: tuple[int, ...]
    explained: float
    explained_low: float
    explained_high: float
    score: float
    rules: tuple[RuleResult, ...]
    explanations: tuple[Explanation, ...]
    side_effects: tuple[str, ...]
    unmeasured: tuple[str, ...]
    detectable: float
    gate: Gate | None = None


# -------------------------------------------------------------------------------------------------------- report


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is known about one pair of checkpoints.

    Attributes:
        versions: of ckdiff and of the libraries whose arithmetic the numbers rest on.
        complete: False while a run that was interrupted has left some of its parts.
    """

    provenance: Provenance
    compare: Comparison | None = None
    probe: Probe | None = None
    behaviour: Behaviour | None = None
    verdict: Verdict | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    complete: bool = True
    schema_version: int = SCHEMA_VERSION
