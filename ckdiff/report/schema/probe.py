"""Records of a probe: runs, curves, questions, controls and neurons."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import numpy as np

from ckdiff.report.schema.brief import Brief
from ckdiff.report.schema.layout import Ids, Rank, Row, Rows, Says, Scale, Tree, Within
from ckdiff.shapes import Axes, Float64, Int64, LayerQuestion, PerLayer, PerQuestion

SCORES = ("krs", "krs_centred", "krs_kl")
"""The three scores of a run, in the order in which everything shows them; `krs_kl` is the one about behaviour."""


BOUNDED = "krs_js"
"""The score by a loss that has a bound: what a verdict asks beside `krs_kl`, which a single steep token can carry."""


MOST_LAYERS = 10_000
"""Of a model."""


SWEEP = ("direction", "mode", "variant")
"""What names a run."""


@dataclass(frozen=True, slots=True, repr=False)
class Curve(Brief):
    """One score at each window centre, with its pointwise 95 % interval and its simultaneous 95 % band.

    All five are NaN where the score was not asked for or not defined, the last four where there is one question only.
    A statement about the best of many windows rests on the band.
    """

    ENDS: ClassVar[Mapping[str, str]] = {
        "score": "",
        "low": "_low",
        "high": "_high",
        "band_low": "_band_low",
        "band_high": "_band_high",
    }

    score: PerLayer
    low: PerLayer
    high: PerLayer
    band_low: PerLayer
    band_high: PerLayer


UNMEASURED: Float64 = np.zeros(0)
"""In the place of an array that an older file lacks; the record that holds it puts NaN there, in the right shape."""


UNMEASURED_CURVE = Curve(UNMEASURED, UNMEASURED, UNMEASURED, UNMEASURED, UNMEASURED)


@dataclass(frozen=True, slots=True, repr=False)
class ProbeRun(Brief):
    """One sweep: direction x mode x variant, a score at each window centre.

    Attributes:
        direction: "restore" (states of the base into the unlearned model) or "break" (the other way round).
        mode: what is put back, a key of `modes.EVERY_MODE`.
        variant: what else is held still, a key of `modes.VARIANTS`.
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
        krs_js: as `krs_kl`, by the Jensen-Shannon divergence, which is at most ln 2 a position; NaN in older files.
        loss_js: the loss behind it [layer, question], in nats.
    """

    direction: str
    mode: str
    variant: str
    window: int
    layers: Annotated[Int64, Scale("layer"), Says("window centre; -1: the whole model")]
    first: Annotated[Int64, Axes("layer")]
    last: Annotated[Int64, Axes("layer")]
    krs: Curve
    krs_centred: Curve
    krs_kl: Curve
    krs_mean_of_ratios: PerLayer
    top1: PerLayer
    loss_mse: LayerQuestion
    loss_mse_centred: LayerQuestion
    loss_kl: LayerQuestion
    top1_questions: LayerQuestion
    krs_js: Curve = UNMEASURED_CURVE
    loss_js: LayerQuestion = field(default_factory=lambda: UNMEASURED)

    def __post_init__(self) -> None:
        """NaN in the place of what an older file lacks."""
        if self.krs_js.score is UNMEASURED:
            parts = (np.full(len(self.layers), np.nan) for _ in Curve.ENDS)
            object.__setattr__(self, "krs_js", Curve(*parts))
        if self.loss_js is UNMEASURED:
            object.__setattr__(self, "loss_js", np.full(self.loss_kl.shape, np.nan))


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
        js: as the other losses; NaN in older files.
        log_p_base, log_p_unlearned: log of the probability that each model gives to the scored answer, summed over its
            tokens, in nats, at most 0; NaN in older files.
        cluster: questions of one cluster ask about one fact, and count as one; -1 in older files: one of its own.
    """

    text: str
    answer: str
    answer_ids: Ids
    prompt_tokens: int
    mse: float
    mse_centred: float
    kl: float
    top1: float
    js: float = math.nan
    log_p_base: float = math.nan
    log_p_unlearned: float = math.nan
    cluster: int = -1


@dataclass(frozen=True, slots=True)
class LossSummary:
    """The unlearned model's mean losses over questions, and the share of `mse` that is a uniform shift.

    `js` is NaN in older files.
    """

    mse: float
    mse_centred: float
    kl: float
    top1: float
    shift_share: float
    js: float = math.nan


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
    value: Annotated[float, Rank(1)]
    bound: Annotated[float, Rank(2)]
    kind: Annotated[Literal["at_most", "at_least", "shown"], Rank(2)]
    passed: Annotated[bool, Rank(2)]
    mode: str = ""
    variant: str = ""
    layer: Annotated[int | None, Says("window centre; -1: not about a single window")] = None
    score: str = ""
    against: Annotated[float, Rank(1)] = float("nan")


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


@dataclass(frozen=True, slots=True, repr=False)
class NeuronSet(Brief):
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

    GIST = ("neurons",)

    direction: str
    layer: Annotated[int, Says("window centre; -1: the whole model")]
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
    sizes: Annotated[Int64, Scale("size")]
    sizes_score: Annotated[Float64, Axes("size")]
    loss_mse: PerQuestion
    loss_mse_centred: PerQuestion
    loss_kl: PerQuestion
    neurons: Annotated[tuple[NeuronRecord, ...], Rows("rank", inside=True), Rank(-1)]
    total: float = float("nan")
    nodes: int = 0


@dataclass(frozen=True, slots=True, repr=False)
class Probe(Brief):
    """What `ckdiff probe` found, and the settings that it ran under.

    Attributes:
        model_type: of the base's config.
        layer_count: decoder layers of the model.
        settings: what determines the numbers, as text (dtype, window, tokens, prompt, source of questions ...).
        notes: plain sentences about what a reader must know.
        neurons: of some windows the neurons that carry them; empty where they were not asked for.
    """

    GIST = ("runs", "questions")

    model_type: str
    layer_count: Annotated[int, Within(0, MOST_LAYERS)]
    runs: Annotated[tuple[ProbeRun, ...], Tree(SWEEP, inside=True), Rank(2)]
    loss_unlearned: Annotated[LossSummary, Row("summary")]
    controls: Annotated[tuple[Control, ...], Rows("control"), Rank(1)]
    questions: Annotated[tuple[QuestionRecord, ...], Rows("question")]
    settings: Mapping[str, str]
    notes: Annotated[tuple[str, ...], Rows("note"), Rank(1)] = ()
    neurons: Annotated[tuple[NeuronSet, ...], Rows("set"), Rank(1)] = ()
