"""What benchmarks of the field report (TOFU, MUSE, OpenUnlearning), so that figures can stand side by side. NumPy only.

    probability(log_p)                     # one answer's log p, token by token
    truth_ratio(correct, wrong)            # mean log p a token of the answer, and of false ones
    same_distribution(unlearned, trained_anew)    # forget quality, from truth ratios

Log-probabilities are natural, of teacher-forced tokens. Where a paper and OpenUnlearning's code differ, the docstring
says which of them this is.

Sources: TOFU, Maini et al. 2024, arXiv:2401.06121; MUSE, Shi et al. 2024, arXiv:2407.06460; OpenUnlearning, Dorna et
al. 2025, arXiv:2506.12618.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ckdiff.report.schema.behaviour import Mean
from ckdiff.scoring.means import mean
from ckdiff.scripts import set_apart

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from ckdiff.shapes import Float64

WORD = re.compile(r"[^\W_]+")


class Overlap(NamedTuple):
    """How much of a reference an answer says in its order; each in [0, 1].

    Attributes:
        recall: common words / words of the reference.
        precision: common words / words of the answer.
        f: their harmonic mean.
    """

    recall: float
    precision: float
    f: float


def probability(log_p: Float64) -> float:
    """The probability of an answer a token, exp(mean of log p), in (0, 1].

    The geometric mean over tokens, so that long answers are not improbable for their length alone.
    Source: TOFU, section 2.2, P(a|q)^(1/|a|).

    Args:
        log_p: of each token of the answer, in nats; one or more.
    """
    return math.exp(math.fsum(log_p) / len(log_p))


def share_of_probability(correct: float, wrong: Sequence[float]) -> float:
    """The right answer's share of the probability of all answers, p / (p + sum of the wrong ones' p), in [0, 1].

    Unlike a probability it is not lowered by a model that says everything with less certainty.
    Source: TOFU, section 2.2 (real authors, world facts).

    Args:
        correct: mean log p a token of the right answer, in nats.
        wrong: the same of each wrong one; one or more.
    """
    weights = np.exp(np.array([correct, *wrong]) - max(correct, *wrong))
    return float(weights[0] / weights.sum())


def exact_memorisation(first: npt.NDArray[np.bool_]) -> float:
    """The share of an answer's tokens that are the most likely ones where they stand, in [0, 1].

    Source: Tirumala et al. 2022, arXiv:2205.10770; OpenUnlearning's `exact_memorization`.

    Args:
        first: of each token, whether it is the most likely one after the question and the tokens before it.
    """
    return float(np.count_nonzero(first) / len(first))


def extraction_strength(first: npt.NDArray[np.bool_]) -> float:
    """The share of an answer that a model finishes by itself: 1 - (least prefix for that) / tokens, in [0, 1].

    1: the question alone is enough; 0: it does not even give the last token. OpenUnlearning's code gives 1 / tokens in
    this last case, where the definition's empty remainder gives 0.
    Source: Carlini et al. 2021, arXiv:2012.07805, as OpenUnlearning's `extraction_strength` has it.

    Args:
        first: as in `exact_memorisation`.
    """
    missed = np.flatnonzero(~first)
    return 1.0 - (int(missed[-1]) + 1) / len(first) if len(missed) else 1.0


def rouge_l(answer: str, reference: str) -> Overlap:
    """ROUGE-L: the longest run of words that both texts have in one order, gaps allowed.

    Words are letters and digits, in lower case. They are not stemmed, as OpenUnlearning's are: "book" and "books"
    differ here. A character of a script without blanks is a word. Where one text has no word, all three are 0.
    Source: Lin 2004, ACL W04-1013.

    Args:
        answer: what was said.
        reference: what it is held against.
    """
    said, wanted = (WORD.findall(set_apart(text.casefold())) for text in (answer, reference))
    common = _common_length(said, wanted)
    if common == 0:
        return Overlap(0.0, 0.0, 0.0)
    recall, precision = common / len(wanted), common / len(said)
    return Overlap(recall, precision, 2 * recall * precision / (recall + precision))


def _common_length(left: Sequence[str], right: Sequence[str]) -> int:
    """The length of the longest common subsequence."""
    row = [0] * (len(right) + 1)
    for word in left:
        before = row
        row = [0]
        for place, other in enumerate(right):
            row.append(before[place] + 1 if word == other else max(before[place + 1], row[place]))
    return row[-1]


def truth_ratio(correct: float, wrong: Sequence[float]) -> float:
    """How probable false answers are beside the right one: exp(mean log p of the false ones - that of the right one).

    In [0, inf]: about 0 where the model knows, 1 where it cannot tell. Over false answers it is the geometric mean, as
    in the code of TOFU and OpenUnlearning; the paper's text says the arithmetic one.
    Source: TOFU, section 2.2.

    Args:
        correct: mean log p a token of the right answer (its paraphrase, where there is one), in nats.
        wrong: the same of each false one; one or more.
    """
    with np.errstate(over="ignore"):
        return float(np.exp(math.fsum(wrong) / len(wrong) - correct))


def forgotten_truth(ratios: Float64) -> Float64:
    """The min(r, 1/r) of truth ratios of what was to be forgotten, in [0, 1]; 1: nothing tells answers apart.

    Source: TOFU; OpenUnlearning's `closer_to_1_better`.
    """
    with np.errstate(divide="ignore"):
        return np.minimum(ratios, 1 / ratios)


def kept_truth(ratios: Float64) -> Float64:
    """The max(0, 1 - r) of truth ratios of what was to be kept, in [0, 1]; 1: no false answer is believed.

    Source: TOFU; OpenUnlearning's `true_better`.
    """
    return np.maximum(0.0, 1 - ratios)


def same_distribution(left: Float64, right: Float64) -> float:
    """The p-value of the two-sample Kolmogorov-Smirnov test, two-sided and exact, in (0, 1].

    Of the truth ratios of an unlearned model and of one trained anew without the data it is TOFU's forget quality:
    small where the two can be told apart. Exact where no value comes twice; with ties it errs to the greater p, as
    scipy does. It is the chance that a path of random steps reaches a gap as large as the largest, summed from
    positive terms alone, so that small ones keep their digits.
    Source: TOFU, section 2.2; Hodges 1958, Arkiv för Matematik 3, 469-486.

    Args:
        left: one or more values, none NaN.
        right: the same.
    """
    left, right = np.sort(left), np.sort(right)
    if len(left) > len(right):
        left, right = right, left
    few, many = len(left), len(right)
    every = np.concatenate([left, right])
    below = [np.searchsorted(side, every, side="right") for side in (left, right)]
    gap = int(np.abs(below[0] * many - below[1] * few).max())
    places = np.arange(few + 1)
    chance = np.zeros(few + 1)
    for step in range(few + many + 1):
        rest = step - places
        if step:
            # A path of so many steps came by one on the left or by one on the right, in proportion.
            chance = (places * np.roll(chance, 1) + rest * chance) / step
        chance[np.abs(places * many - rest * few) >= gap] = 1.0
    return float(chance[few])


def min_k(log_p: Float64, share: float = 0.2) -> float:
    """Mean log p of an answer's least likely tokens, in nats; greater where a text was trained on.

    At least one token, else so much of them rounded down.
    Source: Shi et al. 2023, arXiv:2310.16789.

    Args:
        log_p: of each token, in nats; one or more.
        share: of the tokens; OpenUnlearning's default, and 0.4 in its TOFU and MUSE.
    """
    few = max(1, int(len(log_p) * share))
    return math.fsum(np.sort(log_p)[:few]) / few


def min_k_plus(log_p: Float64, mean: Float64, deviation: Float64, share: float = 0.2) -> float:
    """As `min_k`, of (log p - mean) / deviation: log p beside what the model expects at each position. Unitless.

    Source: Zhang et al. 2024, arXiv:2404.02936; the least deviation, 1e-3, is OpenUnlearning's.

    Args:
        log_p: of each token, in nats.
        mean: of log p over the model's own distribution at each position.
        deviation: its standard deviation there.
        share: as in `min_k`.
    """
    return min_k((log_p - mean) / np.maximum(deviation, 1e-3), share)


def member_auc(members: Float64, others: Float64) -> float:
    """How well a score tells texts that were trained on from hold-out texts, in [0, 1]; 0.5: not at all.

    The chance that a member's score is the greater one, ties counting half (Mann and Whitney's U over its maximum).

    Args:
        members: `min_k`, or another score that is greater for texts that were trained on; one or more.
        others: the same of texts that no model here was trained on.
    """
    ranked = np.sort(others)
    below = np.searchsorted(ranked, members, side="left") + np.searchsorted(ranked, members, side="right")
    return float(below.sum() / (2 * len(members) * len(others)))


def privacy_leak(unlearned: float, reference: float = 0.5) -> float:
    """MUSE's PrivLeak, in per cent: how far an unlearned model's AUC lies from that of one trained anew.

    100 ((1 - a) - (1 - r)) / (1 - r). Below 0: the texts still look trained on (too little unlearned); above: they
    look conspicuously strange (too much). MUSE writes AUC with hold-out texts first, which is 1 - `member_auc`.
    Source: MUSE, its third criterion; OpenUnlearning's `privleak`, whose default for the reference is 0.5, too.

    Args:
        unlearned: `member_auc` of the unlearned model.
        reference: the same of a model trained anew without the texts, below 1.
    """
    return 100 * (reference - unlearned) / (1 - reference)


def leak_beside(unlearned: float, reference: float | None) -> float:
    """`privacy_leak` beside a reference's AUC, or beside 0.5 where there is none; NaN where the reference's is 1."""
    if reference is None or math.isnan(reference):
        return privacy_leak(unlearned)
    return math.nan if reference == 1 else privacy_leak(unlearned, reference)


def forget_quality(unlearned: Float64, reference: Float64) -> float:
    """`same_distribution` of truth ratios, of questions that have one; NaN where none has."""
    left, right = unlearned[~np.isnan(unlearned)], reference[~np.isnan(reference)]
    return same_distribution(left, right) if len(left) and len(right) else math.nan


def mean_measure(name: str, values: Float64, clusters: Sequence[int], target: bool) -> Mean:
    """The mean of a measure over the questions that have it, with its 95 % interval over clusters; NaN of none.

    Args:
        name: of the measure; "truth_ratio" is what `forgotten_truth` and `kept_truth` make of it.
        values: of each question; NaN where one lacks what it takes.
        clusters: of the questions.
        target: they are about what was to be forgotten.
    """
    known = ~np.isnan(values)
    if not known.any():
        return Mean(math.nan, math.nan, math.nan)
    if name == "truth_ratio":
        values = (forgotten_truth if target else kept_truth)(values)
    return mean(values[known], 0.0, 1.0, [one for one, told in zip(clusters, known, strict=True) if told])
