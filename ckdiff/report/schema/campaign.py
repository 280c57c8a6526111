"""The report of a campaign: many pairs, many concepts, and what they say together.

Like `schema` it knows NumPy and nothing else of the project. Arrays run over pairs and concepts in the order of
`Campaign.pairs` and `Campaign.concepts`; NaN is "not measured".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, TypeAlias, get_args

from ckdiff.report.schema.behaviour import Mean
from ckdiff.report.schema.brief import Brief
from ckdiff.report.schema.layout import (
    As,
    OneOf,
    Places,
    Rank,
    Row,
    Rows,
    Says,
    Scale,
    Shared,
    Spread,
    Stacks,
    Tree,
)
from ckdiff.report.schema.probe import SWEEP, Curve
from ckdiff.report.schema.verdict import LABELS, OUTCOMES
from ckdiff.shapes import Axes, Float64, Int64, PerLayer

FORMAT = "ckdiff-campaign"


CAMPAIGN_VERSION = 1


ALL = "all"
"""The group of every pair."""


JobState = Literal["done", "inconclusive", "failed", "missing"]


JOB_STATES: tuple[JobState, ...] = get_args(JobState)
"""done; ended without a result, as it would again; failed; not run, or not here."""


MEASURES = (
    "target_bleu",
    "target_exact",
    "unrelated_bleu",
    "unrelated_exact",
    "choice_accuracy_base",
    "choice_accuracy_unlearned",
    "neutral_kl",
    "loss_kl",
    "top1",
    "explained",
)
"""Figures of a pair and a concept. target_*, unrelated_*: mean over questions of the unlearned answers against the
base's, in [0, 1]; choice_accuracy_*: share of right picks; neutral_kl, loss_kl: KL(base || unlearned) a token in nats,
on neutral text and on the scored answers; top1: share of scored positions whose argmax is the base's; explained: krs_kl
of what carries the effect, as the verdict names it."""


PairConcept: TypeAlias = Annotated[Float64, Axes("pair", "concept")]
"""float64 [pair, concept]; NaN where it was not measured"""


PairComponent: TypeAlias = Annotated[Float64, Axes("pair", "component")]
"""float64 [pair, component]"""


Windows = Axes("pair", "concept", "layer")


Centres: TypeAlias = Annotated[Int64, Scale("layer"), Says("window centre; -1: the whole model")]


DRIFTS = ("cosine", "one_minus_cosine", "relative_l2", "changed_fraction")


@dataclass(frozen=True, slots=True)
class PairRecord:
    """One pair.

    Attributes:
        name: of the plan; unique.
        group: of the plan, or "".
        required: without one of its jobs the campaign is incomplete.
        model_type: of the base's config; "" where nothing was measured.
        base, unlearned: locations.
        base_digest, unlearned_digest: of the weights; "" where they are not known.
    """

    name: str
    group: str
    required: bool
    model_type: str
    base: str
    unlearned: str
    base_digest: str
    unlearned_digest: str


@dataclass(frozen=True, slots=True)
class JobRecord:
    """One job of the plan.

    Attributes:
        concept: "" for a job that asks nothing.
        reason: why there is no result, in one line; else "".
        key: digest of everything that determines its result; "" where that could not be told.
        sha256: of its report's file; "" where there is none.
    """

    pair: str
    concept: str
    run: str
    required: bool
    state: JobState
    reason: str
    key: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Cell:
    """What was found about one pair and one concept; a row of the overview.

    Attributes:
        label: of the verdict; "" where nothing was judged.
        verdict: the verdict's reason; "" where nothing was judged.
        component: what carries the effect; "" for nothing.
        layers: where, such as "19-23"; "" for nowhere.
        gate: outcome of the gate ("passed", "failed", "inconclusive"); "" where no policy was given.
        checks: the checks that did not pass, in words; "" for none.
        questions: how many were probed, or else answered.
    """

    pair: str
    concept: str
    label: Annotated[str, OneOf(("", *LABELS))]
    verdict: str
    component: str
    layers: str
    gate: Annotated[str, OneOf(("", *OUTCOMES))]
    checks: str
    questions: int


@dataclass(frozen=True, slots=True)
class CellMeasure:
    """One of `MEASURES` for every pair and concept, with its 95 % interval over questions: [pair, concept] each."""

    name: str
    value: PairConcept
    low: PairConcept
    high: PairConcept


@dataclass(frozen=True, slots=True)
class PairDrift:
    """Drift of each component, of every pair: [pair, component] each, in the names of `Drift`."""

    components: Annotated[tuple[str, ...], Scale("component")]
    cosine: PairComponent
    one_minus_cosine: PairComponent
    relative_l2: PairComponent
    changed_fraction: PairComponent


@dataclass(frozen=True, slots=True, repr=False)
class CampaignRun(Brief):
    """One sweep (direction, mode, variant) of every pair and concept that has it.

    Attributes:
        layers: window centres of all pairs together, ascending; [-1] for a mode that is about no single window.
        krs, krs_centred, krs_kl: curves of arrays [pair, concept, layer]; intervals over questions, bands over windows.
        top1: [pair, concept, layer].
    """

    direction: str
    mode: str
    variant: str
    window: int
    layers: Centres
    krs: Annotated[Curve, Windows]
    krs_centred: Annotated[Curve, Windows]
    krs_kl: Annotated[Curve, Windows]
    top1: Annotated[Float64, Windows]


@dataclass(frozen=True, slots=True, repr=False)
class AverageRun(Brief):
    """One sweep, averaged over concepts: the pairs of a concept first, then the concepts, which are the sampling unit.

    Attributes:
        group: a group of pairs, or `ALL`.
        pairs, concepts: how many went into it.
        krs, krs_centred, krs_kl: [layer] each: mean over concepts, 95 % bootstrap-t interval over them, and the band
            that holds at all windows at once; ends are NaN for one concept. Older files: Student's t, and Bonferroni's
            bands; their notes say so.
        top1, top1_low, top1_high: the same of `top1`, without a band.
        top1_unrestored: of the unlearned model, to read `top1` by.
    """

    group: str
    direction: str
    mode: str
    variant: str
    window: int
    pairs: int
    concepts: int
    layers: Centres
    krs: Curve
    krs_centred: Curve
    krs_kl: Curve
    top1: PerLayer
    top1_low: PerLayer
    top1_high: PerLayer
    top1_unrestored: float


@dataclass(frozen=True, slots=True)
class GroupMean:
    """One of `MEASURES`, averaged in the same way, with its 95 % interval over concepts."""

    group: str
    measure: str
    pairs: Annotated[int, Rank(1)]
    concepts: Annotated[int, Rank(1)]
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, repr=False)
class Campaign(Brief):
    """Everything that a campaign found.

    Attributes:
        name: of the plan.
        plan: the plan's text, as it was read.
        pairs, concepts: the axes, in the plan's order.
        jobs: every job of the plan, in its order.
        cells: pair by pair and concept by concept, those that the plan asks for.
        drift: None where nothing was compared.
        outcome: the worst of the gates ("failed" is worse than "inconclusive", which is worse than "passed"); "" where
            no policy was given.
        complete: every required job is done.
        notes: plain sentences about what a reader must know.
        versions: of ckdiff and of the libraries behind the reports, each "a" or "a, b" where they differ.
    """

    GIST = ("pairs",)

    name: str
    plan: Annotated[str, Row("plan")]
    pairs: Annotated[tuple[PairRecord, ...], Rows("pair", key="name", shared=True)]
    concepts: Annotated[tuple[str, ...], Shared("concept", within="verdict")]
    jobs: Annotated[tuple[JobRecord, ...], Rows("job")]
    cells: Annotated[
        tuple[Cell, ...], As("verdict"), Places(("pair", "concept"), "place in the plan; -1: not asked", asked=True)
    ]
    measures: Annotated[tuple[CellMeasure, ...], Spread(MEASURES, Mean.ENDS)]
    drift: PairDrift | None
    runs: Annotated[tuple[CampaignRun, ...], As("probe"), Tree(SWEEP)]
    averages: Annotated[tuple[AverageRun, ...], Stacks(SWEEP, "group")]
    means: Annotated[
        tuple[GroupMean, ...], Places(("group", "measure"), "place in the list of means; -1: not measured")
    ]
    outcome: Annotated[str, OneOf(("", *OUTCOMES))]
    complete: bool
    notes: Annotated[tuple[str, ...], Rows("note")]
    versions: Mapping[str, str] = field(default_factory=dict)
    schema_version: int = CAMPAIGN_VERSION
