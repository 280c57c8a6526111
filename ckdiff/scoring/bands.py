"""One band for all that is looked at together: `joint_bands(report.probe, runs)`; and which answers are back.

    runs = [run for run in report.probe.runs if run.direction == "restore" and run.variant in ("open", "whole")]
    bands = joint_bands(report.probe, runs)             # krs_kl: one `Band` a run, in the same order
    bands = joint_bands(report.probe, runs, "krs_js")
    bands[i].low[j], bands[i].high[j]                   # of window j of run i
    back = returned(report.probe, run, j)               # share of the lost answers that window j gives whole, a `Mean`

The best of eight modes is a selected one: its own curve's band, which holds for all windows of that mode, lies above
the truth far more often than in 2.5 % of all cases. Whoever says something about the best of several runs (that it is
enough, that nothing else is, which one is greatest) reads the ends of this band, with *all* runs given that could have
been chosen: of one direction, every mode and variant that the verdict looks at. Runs that are only shown stay outside.
Everything is computed from the losses that a report stores, so that old reports have it too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ckdiff.report.schema.behaviour import Mean
from ckdiff.scoring.clusters import cluster_count
from ckdiff.scoring.means import mean
from ckdiff.scoring.scores import BAND_LIMIT, DRAWS, LOSS_OF, curve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.report.schema.probe import Probe, ProbeRun
    from ckdiff.shapes import Float64, PerLayer


@dataclass(frozen=True, slots=True)
class Band:
    """Ends of one run's windows [layer], as scores; together with those of all other runs they hold in 95 % of sets.

    NaN where the score is not defined, and where the questions are of one cluster.
    """

    low: PerLayer
    high: PerLayer


def joint_limit(clusters: int) -> float:
    """The studentised quantile of a joint band of n clusters is no more than this many of Student's own.

    BAND_LIMIT max(1, 8 / n)^1.5: of seven and fewer the greatest error of so many windows is often greater than
    `BAND_LIMIT` lets it be. With that limit alone the bands of 4 clusters held 0.91 and 0.77 of 150 simulated sets
    (sigma 0.7 and 1.2), with this one 1.00 and 0.98; those of 8 clusters, where both are the same, 0.99 and 0.94.

    >>> joint_limit(8), joint_limit(40), joint_limit(2)
    (8.0, 8.0, 64.0)
    """
    return float(BAND_LIMIT * max(1.0, 8 / clusters) ** 1.5)


def joint_bands(probe: Probe, runs: Sequence[ProbeRun], score: str = "krs_kl", draws: int = DRAWS) -> tuple[Band, ...]:
    """The simultaneous 95 % band over all windows of several runs of one direction; one `Band` a run, in their order.

    The bootstrap of `scores.curve`, its maximum taken over the windows of all these runs: nowhere narrower than the
    band that each run has by itself.

    Args:
        probe: whose questions were scored.
        runs: of that probe, of one direction.
        score: `krs`, `krs_centred`, `krs_kl` or `krs_js`.
        draws: number of resamples.

    Raises:
        ValueError: the runs are of two directions.
    """
    if not runs:
        return ()
    (direction,) = {run.direction for run in runs}
    loss = LOSS_OF[score]
    rows: list[Float64] = [getattr(run, f"loss_{loss}") for run in runs]
    unlearned = np.array([getattr(question, loss) for question in probe.questions], dtype=np.float64)
    clusters = [question.cluster for question in probe.questions]
    limit = joint_limit(cluster_count(clusters))
    found = curve(
        np.concatenate(rows),
        unlearned,
        direction,  # type: ignore[arg-type]
        clusters,
        draws=draws,
        band_limit=limit,
    )
    ends = np.cumsum([len(row) for row in rows])[:-1]
    parts = zip(np.split(found.band_low, ends), np.split(found.band_high, ends), strict=True)
    return tuple(Band(low, high) for low, high in parts)


def returned(probe: Probe, run: ProbeRun, index: int) -> Mean:
    """The share of the lost answers that one window of a run gives back whole, with its 95 % interval over clusters.

    An answer is whole where the base's token is the most probable one at each of its positions: greedy decoding would
    give it token by token. Lost are the answers that are not whole in the unlearned model; the others say nothing.
    In direction "break" it is the share of the lost answers that the window takes from the base. In [0, 1]; NaN where
    no answer was lost, or nothing is known of it.
    """
    top1 = np.array([question.top1 for question in probe.questions], dtype=np.float64)
    found, lost = run.top1_questions[index], top1 < 1
    if not lost.any() or np.isnan(top1).any() or np.isnan(found).any():
        return Mean(np.nan, np.nan, np.nan)
    whole = found[lost] >= 1
    clusters = [question.cluster for question in probe.questions if question.top1 < 1]
    return mean((whole if run.direction == "restore" else ~whole).astype(np.float64), 0.0, 1.0, clusters)
