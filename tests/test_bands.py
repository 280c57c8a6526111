"""One band for all that may be chosen from, against plain loops; and which answers a window gives back."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ckdiff.scoring.bands import joint_bands, returned
from ckdiff.scoring.means import mean
from ckdiff.scoring.scores import curve
from ckdiff.scoring.student import t_quantile
from tests import reports

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.report.schema.probe import Probe, ProbeRun
    from ckdiff.shapes import Float64

NAN = math.nan
CLUSTERS = (0, 0, 1, 2, 2, 3, 4, 5, 6)


def probed(direction: str = "restore", clusters: Sequence[int] = CLUSTERS) -> tuple[Probe, list[ProbeRun]]:
    """Two runs, of three windows and of one, and nine questions; their scores lie apart and spread differently."""
    generator, count = np.random.default_rng(7), len(clusters)
    unlearned = np.exp(0.6 * generator.normal(size=count))
    shares = np.array([0.2, 0.5, 0.9, 0.4])[:, None] * generator.uniform(0.4, 1.6, (4, count))
    questions = tuple(
        replace(reports.question(number), kl=float(kl), js=float(kl / 9), cluster=cluster)
        for number, (kl, cluster) in enumerate(zip(unlearned, clusters, strict=True))
    )
    rows = (shares * unlearned)[:3], (shares * unlearned)[3:]
    runs = [
        replace(
            reports.run("coeff", direction=direction, scores=((0.5,) * len(own),) * 3, questions=count),
            loss_kl=own,
            loss_js=own / 9 * np.linspace(1, 1.2, count),
        )
        for own in rows
    ]
    return replace(reports.probe(questions=count), runs=tuple(runs), questions=questions), runs


def summed(values: Float64, clusters: Sequence[int]) -> list[float]:
    return [
        math.fsum(v for v, own in zip(values, clusters, strict=True) if own == one) for one in sorted(set(clusters))
    ]


def plain_band(rows: Sequence[Float64], unlearned: Float64, clusters: Sequence[int], draws: int) -> list[list[float]]:
    """Low and high ends of each window's ratio, by loops over resamples of clusters: no array has two axes."""
    whole, count = summed(unlearned, clusters), len(set(clusters))
    losses = [summed(row, clusters) for row in rows]
    ratios = [math.fsum(row) / math.fsum(whole) for row in losses]
    errors = []
    for row in losses:
        left = [(sum(row) - row[i]) / (sum(whole) - whole[i]) for i in range(count)]
        errors.append(math.sqrt((count - 1) / count * sum((one - sum(left) / count) ** 2 for one in left)))
    student, limit = t_quantile(0.975, count - 1), 8 * max(1, 8 / count) ** 1.5
    generator, each, greatest, least = np.random.default_rng(0), [], [], []
    for _ in range(draws):
        drawn = generator.integers(0, count, size=count)
        found = []
        for row, ratio in zip(losses, ratios, strict=True):
            own = sum(row[i] for i in drawn) / sum(whole[i] for i in drawn)
            spread = sum((row[i] - own * whole[i]) ** 2 for i in drawn) * count / (count - 1)
            error = math.sqrt(spread) / sum(whole[i] for i in drawn)
            t = (own - ratio) / error if error > 1e-9 else math.copysign(math.inf, own - ratio)
            found.append(min(max(t, -limit * student), limit * student))
        each.append(found)
        greatest.append(max(found))
        least.append(min(found))
    tail = 0.025 * max(0.5, 1 - 4 / count)
    over_all, under_all = np.quantile(greatest, 0.975), -np.quantile(least, 0.025)
    ends = []
    for place, (ratio, error) in enumerate(zip(ratios, errors, strict=True)):
        own = [found[place] for found in each]
        over = min(max(float(np.quantile(own, 1 - tail)), student), 4 * student)
        under = min(max(float(-np.quantile(own, tail)), student), 4 * student)
        ends.append([max(ratio - error * max(over, over_all), 0.0), ratio + error * max(under, under_all)])
    return ends


FEW = (0, 0, 0, 1, 1, 2, 2, 2, 2)
"""Three clusters: one resample in nine is of one alone, and the band reaches as far as it may."""


@pytest.mark.parametrize(
    ("direction", "score", "clusters"),
    [
        ("restore", "krs_kl", CLUSTERS),
        ("break", "krs_kl", CLUSTERS),
        ("restore", "krs_js", CLUSTERS),
        ("restore", "krs_kl", FEW),
        ("break", "krs_kl", range(9)),
    ],
)
def test_bands_are_those_of_plain_loops(direction: str, score: str, clusters: Sequence[int]) -> None:
    probe, runs = probed(direction, clusters)
    found = joint_bands(probe, runs, score, draws=300)
    loss = score.removeprefix("krs_")
    rows = [row for run in runs for row in getattr(run, f"loss_{loss}")]
    unlearned = np.array([getattr(one, loss) for one in probe.questions])
    expected = plain_band(rows, unlearned, clusters, 300)
    if direction == "restore":
        expected = [[1 - high, 1 - low] for low, high in expected]
    assert [len(band.low) for band in found] == [3, 1]
    assert np.concatenate([band.low for band in found]) == pytest.approx([low for low, _ in expected], rel=1e-9)
    assert np.concatenate([band.high for band in found]) == pytest.approx([high for _, high in expected], rel=1e-9)


def test_runs_keep_their_order_and_are_nowhere_narrower_than_alone() -> None:
    probe, runs = probed()
    one, other = joint_bands(probe, runs, draws=300)
    backwards = joint_bands(probe, runs[::-1], draws=300)
    assert (backwards[1].low.tolist(), backwards[0].high.tolist()) == (one.low.tolist(), other.high.tolist())
    unlearned = np.array([question.kl for question in probe.questions])
    for run, band in zip(runs, (one, other), strict=True):
        alone = curve(run.loss_kl, unlearned, "restore", CLUSTERS, draws=300)
        assert (band.low <= alone.band_low).all()
        assert (band.high >= alone.band_high).all()
    # A single window is not the single one any more.
    assert other.low[0] < curve(runs[1].loss_kl, unlearned, "restore", CLUSTERS, draws=300).band_low[0]


def test_bands_resample_clusters() -> None:
    probe, runs = probed()
    alone = replace(probe, questions=tuple(replace(one, cluster=-1) for one in probe.questions))
    together = replace(probe, questions=tuple(replace(one, cluster=3) for one in probe.questions))
    assert joint_bands(alone, runs, draws=300)[0].low.tolist() != joint_bands(probe, runs, draws=300)[0].low.tolist()
    assert np.isnan(joint_bands(together, runs, draws=300)[0].low).all()


def test_no_runs_have_no_band_and_two_directions_none_together() -> None:
    probe, runs = probed()
    assert joint_bands(probe, []) == ()
    with pytest.raises(ValueError, match="too many values"):
        joint_bands(probe, [runs[0], replace(runs[1], direction="break")])


# --------------------------------------------------------------------------------------------------------- returned


def answered(
    top1: Sequence[float], windows: Sequence[Sequence[float]], clusters: Sequence[int]
) -> tuple[Probe, ProbeRun]:
    questions = tuple(
        replace(reports.question(number), top1=share, cluster=cluster)
        for number, (share, cluster) in enumerate(zip(top1, clusters, strict=True))
    )
    run = reports.run(scores=((0.5,) * len(windows),) * 3, questions=len(top1))
    run = replace(run, top1_questions=np.array(windows))
    return replace(reports.probe(questions=len(top1)), questions=questions, runs=(run,)), run


TOP1, WINDOWS = [0.5, 1.0, 0.0, 0.99, 0.2], [[1.0, 0.0, 1.0, 0.99, 1.0], [0.0, 1.0, 0.0, 0.0, 0.0]]
"""Of five answers the second is not lost; the first window gives three of the other four whole, the second none."""


def test_answers_are_back_where_every_token_is() -> None:
    probe, run = answered(TOP1, WINDOWS, [0, 1, 2, 3, 4])
    found = returned(probe, run, 0)
    assert (found.value, found.low, found.high) == pytest.approx((0.75, 0.1941, 0.9937), abs=5e-5)  # Clopper, Pearson
    assert returned(probe, run, 1).value == 0
    broken = replace(run, direction="break")
    assert returned(probe, broken, 0).value == 0.25
    assert returned(probe, broken, 0).high == pytest.approx(1 - 0.1941, abs=5e-5)
    assert returned(probe, broken, 1).value == 1


def test_what_is_back_is_resampled_by_the_clusters_of_what_was_lost() -> None:
    probe, run = answered(TOP1, WINDOWS, [0, 1, 0, 1, 1])
    assert returned(probe, run, 0) == mean(np.array([1.0, 1.0, 0.0, 1.0]), 0, 1, [0, 0, 1, 1])
    one, run = answered(TOP1, WINDOWS, [0, 1, 0, 0, 0])
    assert returned(one, run, 0).value == 0.75
    assert math.isnan(returned(one, run, 0).low)


@pytest.mark.parametrize("top1", [[1.0] * 5, [NAN, 0.5, 0.5, 0.5, 0.5]])
def test_nothing_is_said_where_nothing_was_lost_or_it_is_not_known(top1: list[float]) -> None:
    probe, run = answered(top1, WINDOWS, [0, 1, 2, 3, 4])
    assert math.isnan(returned(probe, run, 0).value)
    known, run = answered(TOP1, [[NAN, *WINDOWS[0][1:]], WINDOWS[1]], [0, 1, 2, 3, 4])
    assert math.isnan(returned(known, run, 0).value)
    assert returned(known, run, 1).value == 0
