"""Which coefficients carry a window: the smallest set of neurons that brings back most of what the window brings.

    sets, notes = neuron_sets(job, finals, found)      # for every window that matters

The ranking. Every neuron of the window gets a gate g (see `gates`): all at 0 are the host itself, all at 1 the restored
window, and the loss L is the mean of KL(base || run). On the straight way between the two

    L(1) - L(0) = sum over neurons of  integral from 0 to 1 of dL/dg (t, ..., t) dt,

so that each neuron has a share of the window's effect and the shares add up to 1: nothing is left over and nothing is
counted twice (the gates' Aumann-Shapley values, integrated gradients along the gates). The integral is a Gauss-Legendre
sum with 8 nodes, or more until the shares add up to 1 within `COMPLETE`.

The set. A share is a share on that way and says little about a neuron alone. So the first so many in the ranking are
put back, these and no others, what they move is computed anew, and the smallest number that reaches the goal is looked
for among actual restorations; the number below it has been tried and falls short. Beside it stand random sets with as
many neurons of each layer.

Source: Aumann and Shapley 1974, Values of Non-Atomic Games; Sundararajan et al. 2017, arXiv:1703.01365.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ckdiff.probes.assembly import ByQuestion
from ckdiff.probes.losses import Scorer
from ckdiff.probes.neurons.gated_window import GatedWindow
from ckdiff.probes.preparation import DTYPES, chunk_of
from ckdiff.probes.prompts import batches
from ckdiff.report.schema.probe import NeuronRecord, NeuronSet
from ckdiff.scoring.scores import QuestionLosses, curve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from ckdiff.probes.assembly import Finals
    from ckdiff.probes.preparation import Job
    from ckdiff.report.schema.probe import Probe, ProbeRun
    from ckdiff.report.schema.report import Side
    from ckdiff.shapes import Float64, Int64

    Tick = Callable[[int, int, str], None]
    """Windows done, windows in all, what is done now."""


NODES = (8, 16, 32, 64)
"""Points on the way from nothing to the whole window; the next number where the shares do not add up."""


COMPLETE = {torch.float64: 1e-3, torch.float32: 1e-3, torch.bfloat16: 0.05, torch.float16: 0.05}
"""How far from 1 the sum of all shares may be."""


RANDOM_SETS = 10


SEED = 0


INTERIOR = 7
"""Sizes that are tried at one time between one that is too small and one that is enough."""


VARIANTS = ("open", "whole")
"""Of mode `coeff`: those whose windows are looked into."""


ROUNDING = 1e-9
"""A score this far below the goal reaches it."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The neurons of a window by their share of its effect.

    Attributes:
        shares: of every neuron, one layer after the other.
        nodes: points of the quadrature.
    """

    shares: Float64
    nodes: int

    @property
    def total(self) -> float:
        """Of all shares: 1, but for the quadrature's error."""
        return float(self.shares.sum())

    @property
    def order(self) -> Int64:
        """Neurons by falling share; equal ones in their own order."""
        found: Int64 = np.argsort(-self.shares, kind="stable")
        return found


def neuron_sets(
    job: Job, finals: Finals, found: Probe, tick: Tick, pause: Callable[[], None]
) -> tuple[tuple[NeuronSet, ...], list[str]]:
    """The sets of all windows that matter, and notes about windows that have none.

    Args:
        job: what is probed; its models are loaded, or where streamed what lies outside their layers.
        finals: what the sweep ended in.
        found: the probe whose windows are looked into.
        tick: told of progress.
        pause: called before each layer; it may raise.
    """
    chosen, notes = [], []
    for run in found.runs:
        if run.mode == "coeff" and run.variant in VARIANTS:
            index = best_window(run)
            reason = no_window(run) if index is None else mixture_reason(job, run, index)
            if index is None or reason:
                notes.append(f"no neurons were looked for in {run.direction} coeff {run.variant}: {reason}")
            else:
                chosen.append((run, index))
    sets = []
    for number, (run, index) in enumerate(chosen):
        where = f"{run.direction}, layers {run.first[index]}-{run.last[index]}"
        search = Search(job, finals, found, run, index, pause)
        tick(number, len(chosen), f"{where}: ranking {search.candidates} neurons")
        ranking = search.ranking()
        tick(number, len(chosen), f"{where}: the smallest set")
        sets.append(search.smallest(ranking))
        if abs(ranking.total - 1) > COMPLETE[DTYPES[job.settings.dtype]]:
            notes.append(
                f"{where}: the neurons' shares add up to {ranking.total:.3g}, not to 1, with {ranking.nodes} nodes; the"
                " set was confirmed by restoring it, but a smaller one may exist"
            )
    if chosen:
        tick(len(chosen), len(chosen), "")
    return tuple(sets), notes


def best_window(run: ProbeRun) -> int | None:
    """The best window by krs_kl among those whose band lies above 0, or None."""
    scores = np.where(run.krs_kl.band_low > 0, run.krs_kl.score, np.nan)
    return None if np.isnan(scores).all() else int(np.nanargmax(scores))


def no_window(run: ProbeRun) -> str:
    """Why a run has no window that matters."""
    if np.isnan(run.krs_kl.score).all():
        return "krs_kl is not defined"
    if np.isnan(run.krs_kl.band_low).all():
        return "without intervals no window is told from nothing; ask two questions or more"
    return "no window's band of krs_kl lies above 0"


def mixture_reason(job: Job, run: ProbeRun, index: int) -> str:
    """Why the neurons of a window cannot be told apart; empty where they can."""
    layers = range(int(run.first[index]), int(run.last[index]) + 1)
    several = [number for number in layers if job.pair.base.sites[number].mlp is not None]
    if not several:
        return ""
    return f"layer {several[0]} is a mixture of experts, whose coefficients belong to the experts that it chooses"


class Search:
    """One window whose neurons are ranked and put back.

    Attributes:
        candidates: neurons of the window's layers.
    """

    def __init__(
        self, job: Job, finals: Finals, found: Probe, run: ProbeRun, index: int, pause: Callable[[], None]
    ) -> None:
        """Bring both models to the window.

        Args:
            job: as in `neuron_sets`.
            finals: the same.
            found: the same.
            run: with the window.
            index: which of its windows.
            pause: called before each layer; it may raise.
        """
        self.run, self.index, self.goal = run, index, job.settings.neuron_goal
        self.host: Side = "unlearned" if run.direction == "restore" else "base"
        self.dtype, self.tolerance = DTYPES[job.settings.dtype], COMPLETE[DTYPES[job.settings.dtype]]
        self.by_question = ByQuestion([len(prompt.answer) for prompt in job.prompts])
        self.unlearned = QuestionLosses(
            *(
                np.array([getattr(one, name) for one in found.questions])
                for name in ("mse", "mse_centred", "kl", "top1")
            )
        )
        self.clusters = [one.cluster for one in found.questions]
        self.scorer = Scorer(finals.own["base"], finals.heads, RANDOM_SETS, kl=True, js=False)
        parts = batches(job.prompts, job.settings.batch_size, job.device, job.pair.regime)
        window = int(run.first[index]), int(run.last[index])
        self.window = GatedWindow(job.pair, self.host, parts, window, job.stream, chunk_of(job), pause)
        self.candidates = sum(self.window.neurons)
        # A run's states and their successors; for a gradient what enters every layer as well.
        each = sum(states.numel() * states.element_size() for states in self.window.start)
        room = job.spare - each * (window[1] - window[0] + 2)
        self.together = max(1, int(room // (4 * each)))
        self.nodes_together = max(1, int(room // ((len(job.pair.base.layers) - window[0] + 4) * each)))

    # ----------------------------------------------------------------------------------------------------- ranking

    def ranking(self) -> Ranking:
        """Every neuron's share of the window's effect."""
        shares, nodes = np.zeros(self.candidates), 0
        for nodes in NODES:
            shares = self._integral(nodes) / self._effect()
            if abs(shares.sum() - 1) <= self.tolerance:
                break
        return Ranking(shares, nodes)

    def _effect(self) -> float:
        """L(1) - L(0), as the sweep measured it."""
        before = self.unlearned.kl.mean() if self.host == "unlearned" else 0.0
        return float(self.run.loss_kl[self.index].mean() - before)

    def _integral(self, nodes: int) -> Float64:
        """Integral of dL/dg over the straight way [neuron]."""
        points, weights = np.polynomial.legendre.leggauss(nodes)
        total = np.zeros(self.candidates)
        for start in range(0, nodes, self.nodes_together):
            some = slice(start, start + self.nodes_together)
            gates = torch.tensor((points[some] + 1) / 2, dtype=self.dtype, device=self.scorer.hidden.device)
            found = self.window.slopes(gates[:, None].repeat(1, self.candidates), self._by_hidden)
            for slope, weight in zip(found.cpu().numpy(), weights[some] / 2, strict=True):
                total += weight * slope
        return total / self._scale

    @property
    def _scale(self) -> float:
        """Scored positions: in 16 bits a position's share of a mean over all of them would be rounded away."""
        return float(sum(self.by_question.counts))

    def _by_hidden(self, hidden: Tensor) -> Tensor:
        """Gradient of each run's L, `_scale` times, by what goes into the unembedding [run, position, d_model]."""
        counts = self.by_question.counts
        share = [self._scale / (len(counts) * count) for count in counts for _ in range(count)]
        weights = torch.tensor(share, dtype=self.scorer.dtype, device=hidden.device)[:, None]
        return torch.stack([self.scorer.slopes(self.host, one) * weights for one in hidden])

    # ------------------------------------------------------------------------------------------------------ search

    def losses(self, sets: Sequence[Int64]) -> QuestionLosses:
        """Losses [set, question] of putting back these neurons and no others."""
        found = []
        for start in range(0, len(sets), self.together):
            some = sets[start : start + self.together]
            gates = torch.zeros(len(some), self.candidates, dtype=self.dtype, device=self.scorer.hidden.device)
            for row, members in enumerate(some):
                gates[row, torch.from_numpy(members).to(gates.device)] = 1
            found += self.scorer.losses(self.host, list(self.window.finals(gates)))
        return self.by_question.losses(found)

    def score(self, losses: Float64, unlearned: Float64) -> Float64:
        """Scores [set] of losses [set, question]."""
        found: Float64 = curve(losses, unlearned, self.run.direction, draws=2).score  # type: ignore[arg-type]
        return found

    def smallest(self, ranking: Ranking) -> NeuronSet:
        """The smallest number of neurons, from the first in the ranking on, that reaches the goal, and its record."""
        order, tried = ranking.order, _Tried()
        enough = self.goal * float(self.run.krs_kl.score[self.index]) - ROUNDING
        sizes = list(first_sizes(self.candidates))
        while sizes:
            losses = self.losses([order[:size] for size in sizes])
            for row, size in enumerate(sizes):
                tried.add(size, float(self.score(losses.kl, self.unlearned.kl)[row]), losses.row(row))
            sizes = interior(*tried.bracket(enough))
        size = tried.bracket(enough)[1]
        members = order[:size]
        records = tuple(NeuronRecord(*self._place(int(one)), float(ranking.shares[one])) for one in members)
        return self._record(ranking, tried, size, records, self._random(members))

    def _random(self, members: Int64) -> Float64:
        """krs_kl of random sets with as many neurons of each layer."""
        ends = np.cumsum([0, *self.window.neurons])
        generator, sets = np.random.default_rng(SEED), []
        for _ in range(RANDOM_SETS):
            parts = [
                first + generator.permutation(last - first)[: np.count_nonzero((members >= first) & (members < last))]
                for first, last in itertools.pairwise(ends.tolist())
            ]
            sets.append(np.concatenate(parts))
        return self.score(self.losses(sets).kl, self.unlearned.kl)

    def _place(self, number: int) -> tuple[int, int]:
        """Layer and neuron of a candidate."""
        ends = np.cumsum(self.window.neurons)
        row = int(np.searchsorted(ends, number, side="right"))
        return self.window.first + row, number - int(ends[row] - self.window.neurons[row])

    def _record(
        self, ranking: Ranking, tried: _Tried, size: int, neurons: tuple[NeuronRecord, ...], random: Float64
    ) -> NeuronSet:
        run, index, losses = self.run, self.index, tried.losses[size]
        pairs = ((getattr(losses, name), getattr(self.unlearned, name)) for name in ("mse", "mse_centred", "kl"))
        raw, centred, kl = (
            curve(own[None], whole, run.direction, self.clusters)  # type: ignore[arg-type]
            for own, whole in pairs
        )
        return NeuronSet(
            direction=run.direction,
            layer=int(run.layers[index]),
            first=self.window.first,
            last=self.window.last,
            goal=self.goal,
            candidates=self.candidates,
            window_score=float(run.krs_kl.score[index]),
            score=float(kl.score[0]),
            low=float(kl.low[0]),
            high=float(kl.high[0]),
            krs=float(raw.score[0]),
            krs_centred=float(centred.score[0]),
            random_score=float(random.mean()),
            random_low=float(random.min()),
            random_high=float(random.max()),
            random_sets=len(random),
            sizes=np.array(sorted(tried.scores), dtype=np.int64),
            sizes_score=np.array([tried.scores[one] for one in sorted(tried.scores)]),
            loss_mse=losses.mse,
            loss_mse_centred=losses.mse_centred,
            loss_kl=losses.kl,
            neurons=neurons,
            total=ranking.total,
            nodes=ranking.nodes,
        )


class _Tried:
    """Sizes that were put back.

    Attributes:
        scores: krs_kl by size.
        losses: [question] by size.
    """

    def __init__(self) -> None:
        self.scores: dict[int, float] = {}
        self.losses: dict[int, QuestionLosses] = {}

    def add(self, size: int, score: float, losses: QuestionLosses) -> None:
        self.scores[size], self.losses[size] = score, losses

    def bracket(self, enough: float) -> tuple[int, int]:
        """The smallest size that reaches the goal, after the largest tried one below it; none put back is size 0."""
        reach = min((size for size, score in self.scores.items() if score >= enough), default=max(self.scores))
        return max((size for size in self.scores if size < reach), default=0), reach


def first_sizes(candidates: int) -> Iterator[int]:
    """1, 2, 4, ... and all of them."""
    size = 1
    while size < candidates:
        yield size
        size *= 2
    yield candidates


def interior(below: int, reach: int) -> list[int]:
    """At most `INTERIOR` sizes between two, evenly; none where they are neighbours.

    >>> interior(0, 1), interior(4, 8), interior(512, 1024)
    ([], [5, 6, 7], [576, 640, 704, 768, 832, 896, 960])
    """
    steps = min(INTERIOR, reach - below - 1)
    return [below + (reach - below) * (step + 1) // (steps + 1) for step in range(steps)]
