"""Scores: from losses per question to curves over window centres, each with an interval and a band.

    curve(losses, unlearned, "restore")    # losses [layer, question], unlearned [question]

A score is a ratio of two means over the same questions. Questions are the sample: every figure of uncertainty says how
much a score would move with other questions of the same kind, and nothing about another pair of checkpoints.

The interval is a bootstrap-t: each resample of questions gives an error of the ratio, studentised by the resample's
own standard error, and the quantiles of those errors times the jackknife standard error make the interval. Percentile
intervals and Student's t are too short for few questions and skewed losses, and of few questions the quantiles of the
bootstrap-t fall a little short too: `_tail` corrects them. Share of simulated sets of questions whose interval (of one
window) or band (over 30 windows, correlated) held the truth, mean and least over eight kinds of ratios (high, middling
and low recovery, worse than none; rising or falling with the unlearned loss; independent of it; two groups of
questions), and width against the interval of Student's t; `python benchmarks/intervals.py --tables scores`:

    unlearned loss         questions   Student      interval      band          width
    lognormal, sigma 0.7       5      0.87  0.82    0.96  0.94    0.98  0.94    2.2
                              10      0.89  0.86    0.96  0.95    0.98  0.95    1.7
                              20      0.91  0.88    0.96  0.94    0.97  0.93    1.3
                              30      0.92  0.91    0.96  0.95    0.96  0.94    1.2
    lognormal, sigma 1.2       5      0.78  0.68    0.95  0.91    0.97  0.92    3.0
                              10      0.81  0.73    0.95  0.92    0.97  0.92    2.3
                              20      0.84  0.77    0.95  0.90    0.96  0.90    1.7
                              30      0.86  0.81    0.95  0.93    0.96  0.93    1.5

No interval knows what no question showed: where one question in five is of another kind, which ten questions miss once
in nine times, coverage at ten questions is 0.87 and 0.85. 400 sets of each; the standard error of a share is 0.01.
Without the correction the intervals of 200 sets held it in 0.95 (least 0.93) and 0.93 (least 0.88) at ten questions.

Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap, sections 11.5 and 12.5.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import TYPE_CHECKING, TypedDict, Unpack

import numpy as np

from ckdiff.report.schema.probe import UNMEASURED, Curve, LossSummary, ProbeRun
from ckdiff.scoring.clusters import ALONE, by_cluster
from ckdiff.scoring.student import t_quantile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ckdiff.modes import Direction
    from ckdiff.shapes import Float64, Int64, LayerQuestion, PerLayer


METHOD = "bootstrap-t, tails for few clusters, 10000 draws of clusters of questions, seed 0"
"""How intervals are made, as a report keeps it: whoever computes them again must do the same. Change it with them."""


BEFORE_CLUSTERS = "bootstrap-t, tails for few questions, 10000 draws of questions, seed 0"
"""The same with every question a cluster of its own, as reports that know no clusters say it."""


DRAWS = 10_000
"""Resamples of the questions behind every interval."""


TAIL = 0.025
"""What a 95 % interval leaves out on each side."""


LOST = 4.0
"""So many questions' worth of its tail does a resampled quantile lose: `_tail`."""


LIMIT, BAND_LIMIT = 4.0, 8.0
"""The studentised quantile of an interval, and of a band, is no more than this many of Student's own.

With two to five questions many resamples hold one question only, and their error, divided by nothing, has no end.
"""


NO_SPREAD = 1e-12
"""Standard errors of a score below this are rounding: losses come from float32 logits."""


CHUNK = 1 << 22
"""Counts (draws x questions) held at one time; the numbers do not depend on it."""


KEPT = 1 << 20
"""Numbers of the resamples that are kept from one curve to the next."""


LOSS_OF = {"krs": "mse", "krs_centred": "mse_centred", "krs_kl": "kl", "krs_js": "js"}
"""By score the loss that it is a ratio of, as `QuestionLosses` and `QuestionRecord` name it."""


@dataclass(frozen=True, slots=True, eq=False)
class QuestionLosses:
    """The losses of runs against the base, per question: [layer, question], or [question] for the unlearned model.

    Attributes:
        mse: mean over the vocabulary of squared logit differences, mean over positions; NaN where not measured.
        mse_centred: the same without the uniform shift of each position.
        kl: KL(base || run), in nats.
        top1: share of positions whose argmax is the base's, in [0, 1].
        js: Jensen-Shannon divergence of base and run, in nats, in [0, ln 2]; NaN where not measured.
    """

    mse: Float64
    mse_centred: Float64
    kl: Float64
    top1: Float64
    js: Float64 = field(default_factory=lambda: UNMEASURED)

    def __post_init__(self) -> None:
        """NaN in the place of what was not measured."""
        if self.js is UNMEASURED:
            object.__setattr__(self, "js", np.full_like(self.kl, np.nan))

    def row(self, number: int) -> QuestionLosses:
        """Those of one run, [question]."""
        return QuestionLosses(*(getattr(self, one.name)[number] for one in fields(self)))


class Sweep(TypedDict):
    """Which sweep it is, and the windows of its runs; every field as in `ProbeRun`."""

    direction: Direction
    mode: str
    variant: str
    window: int
    layers: Int64
    first: Int64
    last: Int64


def probe_run(
    *,
    losses: QuestionLosses,
    unlearned: QuestionLosses,
    clusters: Sequence[int] | None = None,
    draws: int = DRAWS,
    **sweep: Unpack[Sweep],
) -> ProbeRun:
    """One sweep as the report keeps it: four curves, the authors' mean of ratios, top1, and what they rest on.

    Args:
        losses: of the sweep's runs, [layer, question].
        unlearned: of the unlearned model, [question].
        clusters: as in `curve`.
        draws: as in `curve`.
        sweep: which one, and where its windows are.

    Raises:
        ValueError: the arrays' axes do not agree.
    """
    centres, first, last = len(sweep["layers"]), len(sweep["first"]), len(sweep["last"])
    if not centres == first == last == len(losses.mse):
        raise ValueError(f"{centres} centres, {first} first, {last} last, {len(losses.mse)} rows of losses")
    direction = sweep["direction"]
    curves = {
        score: curve(getattr(losses, loss), getattr(unlearned, loss), direction, clusters, draws=draws)
        for score, loss in LOSS_OF.items()
    }
    return ProbeRun(
        **sweep,
        **curves,
        krs_mean_of_ratios=mean_of_ratios(losses.mse, unlearned.mse, direction),
        top1=losses.top1.mean(axis=1),
        loss_mse=losses.mse,
        loss_mse_centred=losses.mse_centred,
        loss_kl=losses.kl,
        top1_questions=losses.top1,
        loss_js=losses.js,
    )


def loss_summary(
    mse: Float64, mse_centred: Float64, kl: Float64, top1: Float64, js: Float64 = UNMEASURED
) -> LossSummary:
    """Means over questions of the unlearned model's losses, and the share of `mse` that softmax cannot see.

    shift_share = 1 - mean(mse_centred) / mean(mse), in [0, 1]; NaN where mean(mse) is zero. It is that of the sums, so
    that questions with little loss do not drown the others. All arguments are [question].
    """
    shift = 1.0 - float(_ratio(mse_centred[None], mse)[0])
    means = (float(mse.mean()), float(mse_centred.mean()), float(kl.mean()), float(top1.mean()))
    return LossSummary(*means, shift, float(js.mean()) if len(js) else np.nan)


def method_of(said: str, clusters: Sequence[int]) -> str:
    """What a report of questions in such clusters must say of its intervals, given what it says.

    Where each question is one of its own, both spellings mean the same numbers.
    """
    unknown = all(cluster == ALONE for cluster in clusters)
    return BEFORE_CLUSTERS if unknown and said == BEFORE_CLUSTERS else METHOD


def mean_of_ratios(losses: LayerQuestion, unlearned: Float64, direction: Direction) -> PerLayer:
    """Mean over questions of each question's own score: what the authors' notebook computes.

    restore: mean of 1 - loss / unlearned; break: mean of loss / unlearned. Unitless, as `curve`, but questions with a
    small unlearned loss weigh as much as the others. Questions whose unlearned loss is zero have nothing to recover
    and are left out; NaN where none is left.
    """
    _check(losses, unlearned)
    counted = unlearned != 0
    if not counted.any():
        return np.full(len(losses), np.nan)
    with np.errstate(over="ignore", invalid="ignore"):
        ratios: PerLayer = (losses[:, counted] / unlearned[counted]).mean(axis=1)
    return 1.0 - ratios if direction == "restore" else ratios


def curve(
    losses: LayerQuestion,
    unlearned: Float64,
    direction: Direction,
    clusters: Sequence[int] | None = None,
    seed: int = 0,
    draws: int = DRAWS,
    band_limit: float = BAND_LIMIT,
) -> Curve:
    """The score at each window centre, its 95 % interval over questions, and the 95 % band over all centres.

    restore: 1 - mean(losses) / mean(unlearned); 1 is full recovery, 0 none, below 0 is worse than none.
    break: mean(losses) / mean(unlearned); 0 leaves the base as it is, 1 does all that unlearning did.
    Source: Hong et al. 2024, arXiv:2410.06606, eq. 3, with the means over questions taken first.

    Intervals and bands are those of `_ends`.

    NaN: everything where an unlearned loss is not finite or their mean is not above zero (nothing to recover);
    a centre with a loss that is not finite; intervals and bands where one question alone has all the unlearned loss.

    Args:
        losses: of the runs, [layer, question].
        unlearned: of the unlearned model, [question].
        direction: "restore" or "break".
        clusters: of the questions: what is resampled, a cluster's losses added up (see `clusters`); without it each
            question. Where each has one question, the numbers are those without.
        seed: of the resamples; the same inputs give the same numbers.
        draws: number of resamples.
        band_limit: instead of `BAND_LIMIT`.

    Raises:
        ValueError: the question axes do not agree, or are empty.
    """
    ratio = _ratio(losses, unlearned)
    ends = np.full((4, len(ratio)), np.nan)
    defined = np.isfinite(ratio)
    whole = by_cluster(unlearned, clusters)
    if defined.any() and _spread_known(whole):
        ends[:, defined] = _ends(ratio[defined], by_cluster(losses[defined], clusters), whole, seed, draws, band_limit)
    return Curve(ratio, *ends) if direction == "break" else Curve(1.0 - ratio, *(1.0 - ends[[1, 0, 3, 2]]))


def _check(losses: LayerQuestion, unlearned: Float64) -> None:
    if losses.ndim != 2 or unlearned.ndim != 1 or losses.shape[1] != len(unlearned) or not len(unlearned):
        raise ValueError(f"losses {losses.shape} and unlearned {unlearned.shape} do not share a question axis")


def _ratio(losses: LayerQuestion, unlearned: Float64) -> PerLayer:
    """mean(losses) / mean(unlearned) [layer]; NaN where it is not defined."""
    _check(losses, unlearned)
    ratio = np.full(len(losses), np.nan)
    defined = np.isfinite(losses).all(axis=1)
    reference = unlearned.mean()
    if np.isfinite(reference) and reference > 0:
        # A copy in C order: the sum over questions then runs the same way whatever lies beside a row.
        ratio[defined] = np.ascontiguousarray(losses[defined]).mean(axis=1) / reference
    return ratio


def _spread_known(unlearned: Float64) -> bool:
    """Whether leaving any one question out leaves something to divide by."""
    return bool(unlearned.sum() - unlearned.max() > NO_SPREAD * unlearned.sum())


def _ends(
    ratio: PerLayer, losses: LayerQuestion, unlearned: Float64, seed: int, draws: int, band_limit: float
) -> Float64:
    """Those of `_distinct_ends` for rows of which some may be alike, as two names of one run are: each once."""
    first: dict[bytes, int] = {}
    places = [first.setdefault(row.tobytes(), number) for number, row in enumerate(np.column_stack([ratio, losses]))]
    rows = list(first.values())
    ends = np.empty((4, len(ratio)))
    ends[:, rows] = _distinct_ends(ratio[rows], losses[rows], unlearned, seed, draws, band_limit)
    return ends[:, places]


def _distinct_ends(
    ratio: PerLayer, losses: LayerQuestion, unlearned: Float64, seed: int, draws: int, band_limit: float
) -> Float64:
    """Low, high, band low and band high of ratios: [4, layer].

    With t* the studentised error of a resample, q its quantile over resamples, se the jackknife standard error and a
    the share of `_tail`, the interval of a ratio R is [R - se q(1 - a), R - se q(a)]. The band has instead the
    quantiles 0.975 of the greatest and 0.025 of the least t* over all centres: it holds all of the curve at one time.
    It is nowhere narrower than the interval. Quantiles are kept between one and `LIMIT` (a band's: `BAND_LIMIT`) of
    Student's with questions - 1 degrees of freedom. Losses are not negative, so that no end goes past R = 0. All
    centres share their resamples, and neither a score nor an interval changes with the others. A score that no
    question moves is its own interval.
    """
    weights = unlearned / unlearned.mean()
    residuals = losses / unlearned.mean() - ratio[:, None] * weights
    error = _jackknife_error(residuals, weights)
    still = error <= NO_SPREAD
    student, tail = t_quantile(1 - TAIL, len(unlearned) - 1), _tail(len(unlearned))
    most = band_limit * student
    spread = np.clip(_studentise(residuals, weights, seed, draws), -most, most)
    spread[still], error[still] = 0.0, 0.0
    under, over = np.quantile(spread, [tail, 1 - tail], axis=1)
    over, under = np.clip(over, student, LIMIT * student), np.clip(-under, student, LIMIT * student)
    over_all, under_all = np.quantile(spread.max(axis=0), 1 - TAIL), -np.quantile(spread.min(axis=0), TAIL)
    # The truth cannot lie below 0; a ratio that rounding has put there stays inside its own interval.
    floor = np.minimum(ratio, 0.0)
    low = np.maximum(ratio - error * over, floor)
    high = ratio + error * under
    band_low = np.maximum(ratio - error * np.maximum(over_all, over), floor)
    band_high = ratio + error * np.maximum(under_all, under)
    return np.stack([low, high, band_low, band_high])


def _tail(questions: int) -> float:
    """The share of resamples that an interval leaves out on each side, so that 0.025 of sets of questions are left out.

    0.025 * max(1/2, 1 - LOST / questions): resamples of few questions know nothing of what lies beyond the largest of
    them, and their quantiles fall short. `LOST` is from simulation (benchmarks/intervals.py); with many questions the
    correction goes away. A band, of the greatest of many errors, needs none.
    """
    return TAIL * max(0.5, 1 - LOST / questions)


def _jackknife_error(residuals: LayerQuestion, weights: Float64) -> PerLayer:
    """Standard error of each ratio from leaving out one question at a time (residuals add up to zero)."""
    count = len(weights)
    moved = residuals / (weights.sum() - weights)
    deviations = moved - moved.mean(axis=1, keepdims=True)
    error: PerLayer = np.sqrt((count - 1) / count * (deviations**2).sum(axis=1))
    return error


def _studentise(residuals: LayerQuestion, weights: Float64, seed: int, draws: int) -> Float64:
    """(R* - R) / se* of every ratio in every resample: [layer, draw]."""
    result = np.empty((len(residuals), draws))
    for drawn, counts in _resamples(len(weights), seed, draws):
        weight, square = _sums(counts, weights), _sums(counts, weights**2)
        for row, residual in zip(result, residuals, strict=True):
            total = _sums(counts, residual)
            shift = np.divide(total, weight, out=np.zeros_like(total), where=weight > 0)
            own = _sums(counts, residual**2) - shift * (2 * _sums(counts, residual * weights) - shift * square)
            row[drawn] = _quotient(total, np.sqrt(np.maximum(own, 0.0) * len(weights) / (len(weights) - 1)))
    return result


def _resamples(questions: int, seed: int, draws: int) -> Iterable[tuple[slice, Float64]]:
    """How often each question was drawn in each resample, [draw, question], a chunk of draws at a time."""
    return (_kept if questions * draws <= KEPT else _draw)(questions, seed, draws)


def _draw(questions: int, seed: int, draws: int) -> Iterator[tuple[slice, Float64]]:
    generator = np.random.default_rng(seed)
    rows = max(1, CHUNK // questions)
    for start in range(0, draws, rows):
        count = min(rows, draws - start)
        drawn = generator.integers(0, questions, size=(count, questions))
        cells = (drawn + questions * np.arange(count)[:, None]).ravel()
        counts = np.bincount(cells, minlength=count * questions).reshape(count, questions)
        yield slice(start, start + count), counts.astype(np.float64)


@lru_cache(maxsize=2)
def _kept(questions: int, seed: int, draws: int) -> tuple[tuple[slice, Float64], ...]:
    """The same of few questions, drawn once for all curves of a report: drawing takes as long as adding up."""
    return tuple(_draw(questions, seed, draws))


def _sums(counts: Float64, values: Float64) -> Float64:
    """Sum over questions in each resample; einsum, because BLAS may add a row up differently in a smaller chunk."""
    total: Float64 = np.einsum("dq,q->d", counts, values)
    return total


def _quotient(total: Float64, error: Float64) -> Float64:
    """The quotient total / error; 0 / 0 is 0, anything else over 0 is infinite."""
    limitless = np.where(total == 0, 0.0, np.copysign(np.inf, total))
    quotient: Float64 = np.divide(total, error, out=limitless, where=error > 0)
    return quotient
