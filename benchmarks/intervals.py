"""How often 95 % intervals hold the truth: simulated sets of questions, through `curve` and `mean` as reports use them.

Five tables, of shares and of ratios of widths to the interval of Student's t:
  scores   nine kinds of ratios with lognormal unlearned losses, 30 windows correlated between neighbours: coverage of
           one window's interval (mean over windows) and of the band (the whole curve);
  clusters eight modes of 30 windows each, each of one of these kinds, and questions in 1 to 4 wordings
           about one fact: coverage of one window's interval and of a mode's band (mean over modes, least), of the band
           over all modes and windows at once, and what the two first would be were each question a fact of its own;
           two groups of facts are not among them, of which few facts often show one only;
  averages of a campaign: means over concepts, whose scores are of these kinds, at 30 windows;
  means    of shares (exact matches, BLEU) and of log p: coverage and mean width;
  reports  with `--reports`: losses of these reports' questions, drawn with replacement from all of them together (each
           pair scaled to a mean unlearned loss of 1), and their BLEU and log p.
Every truth is known: by quadrature, by formula, or as the mean of what is drawn from. The same options give the same
numbers. The standard error of a share near 0.95 is 0.22 / sqrt(sets).

  python benchmarks/intervals.py [--sets 400] [--draws 1000] [--questions 5 10 20 30] [--reports A.h5 B.h5 ...]
                                 [--tables scores clusters averages means] [--sigma 0.7 1.2]
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ckdiff.report.hdf5.file import read_report
from ckdiff.scoring.bands import joint_limit
from ckdiff.scoring.clusters import cluster_count
from ckdiff.scoring.means import mean, mean_curve
from ckdiff.scoring.scores import curve
from ckdiff.scoring.student import t_quantile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ckdiff.report.schema.probe import Curve
    from ckdiff.shapes import Float64

WINDOWS = 30
NEIGHBOURS = 0.9
"""Correlation between a question's losses at neighbouring windows (of their latent normal)."""

HUMP = 0.8 * np.cos(2 * np.pi * np.arange(WINDOWS) / WINDOWS)[:, None]


def _logistic(value: Float64) -> Float64:
    found: Float64 = 1 / (1 + np.exp(-value))
    return found


@dataclass(frozen=True)
class Kind:
    """A ratio: share(window's own latent, the unlearned loss's latent, group) is what of the unlearned loss remains.

    Attributes:
        share: all arguments broadcast; latents are standard normal, group is 1 or 0.
        of_it: whether the loss is that share of the unlearned loss, or of a loss independent of it.
        rare: the share of questions of group 1.
    """

    share: Callable[[Float64, Float64, Float64], Float64]
    of_it: bool = True
    rare: float = 0.5


KINDS = {
    "high recovery": Kind(lambda own, size, group: _logistic(-2.2 + HUMP + 0.7 * own)),
    "middling": Kind(lambda own, size, group: _logistic(HUMP + own)),
    "low recovery": Kind(lambda own, size, group: _logistic(2.2 + HUMP + own)),
    "worse than none": Kind(lambda own, size, group: 0.9 + 0.7 * _logistic(HUMP + own)),
    "rising": Kind(lambda own, size, group: _logistic(HUMP - 0.5 + size + 0.5 * own)),
    "falling": Kind(lambda own, size, group: _logistic(HUMP - 0.5 - size + 0.5 * own)),
    "independent": Kind(lambda own, size, group: 0.4 * np.exp(HUMP / 2 + 0.7 * own), of_it=False),
    "two groups": Kind(lambda own, size, group: _logistic(HUMP + 3 * group - 2 + 0.4 * own)),
    "a rare group (1 of 5)": Kind(lambda own, size, group: _logistic(HUMP + 4 * group - 2 + 0.4 * own), rare=0.2),
}
"""The last is what no method can know from ten questions: one set in nine shows one group only."""


def truth(kind: Kind, spread: float) -> Float64:
    """E[loss] / E[unlearned] at every window, by Gauss-Hermite quadrature over both latents."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    own, size = (grid.ravel() for grid in np.meshgrid(nodes, nodes))
    both = np.outer(weights, weights).ravel() / weights.sum() ** 2
    unlearned = np.exp(spread * size)
    total: Float64 = np.zeros(WINDOWS)
    for group, share in ((1.0, kind.rare), (0.0, 1 - kind.rare)):
        lost = kind.share(own, size, np.array(group)) * (unlearned if kind.of_it else 1.0)
        total += share * (lost * both).sum(axis=1)
    return total / float((unlearned * both).sum())


def drawn(kind: Kind, spread: float, questions: int, generator: np.random.Generator) -> tuple[Float64, Float64]:
    """Losses [window, question] and unlearned losses [question] of one set of questions."""
    size, noise = generator.normal(size=questions), generator.normal(size=(WINDOWS, questions))
    own = noise.copy()
    for window in range(1, WINDOWS):
        own[window] = NEIGHBOURS * own[window - 1] + math.sqrt(1 - NEIGHBOURS**2) * noise[window]
    group = (generator.random(questions) < kind.rare).astype(np.float64)
    unlearned = np.exp(spread * size)
    return kind.share(own, size, group) * (unlearned if kind.of_it else 1.0), unlearned


@dataclass(frozen=True)
class Coverage:
    """Shares of sets held by the interval (mean over windows, least over windows), Student's, and the band; widths."""

    interval: float
    least: float
    student: float
    band: float
    width: float

    def __str__(self) -> str:
        return f"{self.student:9.3f}{self.interval:9.3f}{self.least:9.3f}{self.band:9.3f}{self.width:9.2f}"


HEADS = f"{'Student':>9}{'interval':>9}{'least':>9}{'band':>9}{'width':>9}"


def held(sets: Iterator[tuple[Float64, Float64]], truth: Float64, draws: int) -> Coverage:
    """Coverage of the ratios' intervals over these sets."""
    found = []
    for losses, unlearned in sets:
        one, count = curve(losses, unlearned, "break", draws=draws), len(unlearned)
        residuals = (losses - one.score[:, None] * unlearned) / unlearned.mean()
        reach = t_quantile(0.975, count - 1) * np.sqrt((residuals**2).sum(axis=1) / (count * (count - 1)))
        found.append((one, reach))
    return covered(found, truth)


def covered(found: list[tuple[Curve, Float64]], truth: Float64) -> Coverage:
    """Coverage of these curves, each with the reach of its Student's intervals."""
    inside = np.mean([(one.low <= truth) & (truth <= one.high) for one, _ in found], axis=0)
    plain = np.mean([np.abs(one.score - truth) <= reach for one, reach in found])
    whole = np.mean([((one.band_low <= truth) & (truth <= one.band_high)).all() for one, _ in found])
    width = np.median([one.high - one.low for one, _ in found]) / np.median([2 * reach for _, reach in found])
    return Coverage(float(inside.mean()), float(inside.min()), float(plain), float(whole), float(width))


def scores(questions: list[int], sets: int, draws: int, spreads: list[float]) -> None:
    """The first table."""
    print(f"{'scores':<34}{HEADS}")
    for spread in spreads:
        for count in questions:
            for name, kind in KINDS.items():
                generator = np.random.default_rng(1)
                many = (drawn(kind, spread, count, generator) for _ in range(sets))
                found = held(many, truth(kind, spread), draws)
                print(f"sigma {spread} {count:3d} {name:<22}{found}", flush=True)


# --------------------------------------------------------------------------------------------------------- clusters

ALIKE = 0.8
"""Correlation of what two questions about one fact lose (of their latent normals)."""


def of_facts(facts: list[int], rows: int, generator: np.random.Generator) -> Float64:
    """Standard normal latents [rows, question], alike where questions are about one fact."""
    shared, own = generator.normal(size=(rows, max(facts) + 1)), generator.normal(size=(rows, len(facts)))
    found: Float64 = math.sqrt(ALIKE) * shared[:, facts] + math.sqrt(1 - ALIKE) * own
    return found


def drawn_modes(spread: float, facts: list[int], generator: np.random.Generator) -> tuple[Float64, Float64]:
    """Losses [mode, window, question] of the eight modes of one set of questions, and unlearned losses [question]."""
    size = of_facts(facts, 1, generator)[0]
    unlearned, modes = np.exp(spread * size), []
    for kind in MODES:
        noise = of_facts(facts, WINDOWS, generator)
        own = noise.copy()
        for window in range(1, WINDOWS):
            own[window] = NEIGHBOURS * own[window - 1] + math.sqrt(1 - NEIGHBOURS**2) * noise[window]
        group = (generator.random(max(facts) + 1) < kind.rare).astype(np.float64)[facts]
        modes.append(kind.share(own, size, group) * (unlearned if kind.of_it else 1.0))
    return np.stack(modes), unlearned


MODES = [*list(KINDS.values())[:7], KINDS["middling"]]


def clusters(questions: list[int], sets: int, draws: int, spreads: list[float]) -> None:
    """The table of clusters: 8 modes x 30 windows."""
    heads = ("facts", "interval", "least", "band", "least", "joint", "no facts", "band")
    print(f"\n{'clusters':<34}{''.join(f'{head:>9}' for head in heads)}")
    for spread in spreads:
        right = np.stack([truth(kind, spread) for kind in MODES])
        for count in questions:
            for size in (1, 2, 3, 4):
                facts, generator = [number // size for number in range(count)], np.random.default_rng(5)
                rows = [_of_modes(*drawn_modes(spread, facts, generator), facts, right, draws) for _ in range(sets)]
                inside, bands, joint, plain, loose = (np.mean(part, axis=0) for part in zip(*rows, strict=True))
                shares = (inside.mean(), inside.min(), bands.mean(), bands.min(), joint, plain.mean(), loose.mean())
                name = f"sigma {spread} {count:3d} in {size} wordings"
                print(f"{name:<34}{cluster_count(facts):9d}{''.join(f'{one:9.3f}' for one in shares)}", flush=True)


def _of_modes(
    losses: Float64, unlearned: Float64, facts: list[int], right: Float64, draws: int
) -> tuple[Float64, Float64, bool, Float64, Float64]:
    """By mode what share of windows the intervals hold, whether its band does; whether all do; both without facts."""
    each = [curve(mode, unlearned, "break", facts, draws=draws) for mode in losses]
    alone = cluster_count(facts) == len(facts)
    plain = each if alone else [curve(mode, unlearned, "break", draws=draws) for mode in losses]
    whole = curve(
        losses.reshape(-1, len(unlearned)),
        unlearned,
        "break",
        facts,
        draws=draws,
        band_limit=joint_limit(cluster_count(facts)),
    )
    flat = right.ravel()
    return (
        np.array([((one.low <= own) & (own <= one.high)).mean() for one, own in zip(each, right, strict=True)]),
        np.array(
            [((one.band_low <= own) & (own <= one.band_high)).all() for one, own in zip(each, right, strict=True)]
        ),
        bool(((whole.band_low <= flat) & (flat <= whole.band_high)).all()),
        np.array([((one.low <= own) & (own <= one.high)).mean() for one, own in zip(plain, right, strict=True)]),
        np.array(
            [((one.band_low <= own) & (own <= one.band_high)).all() for one, own in zip(plain, right, strict=True)]
        ),
    )


# --------------------------------------------------------------------------------------------------------- averages

CONCEPTS = (3, 5, 10, 20, 40)
SCORES_OF_CONCEPTS = KINDS | {
    "skewed": Kind(lambda own, size, group: 0.4 * np.exp(HUMP / 2 + 1.2 * own)),
}


def averages(sets: int, draws: int) -> None:
    """The table of a campaign's averages: scores are 1 - what remains, means over concepts."""
    print(f"\n{'averages':<34}{HEADS}")
    for count in CONCEPTS:
        for name, kind in SCORES_OF_CONCEPTS.items():
            generator = np.random.default_rng(6)
            many = (1 - drawn(kind, 0.0, count, generator)[0] for _ in range(sets))
            print(f"{count:3d} {name:<30}{_of_concepts(many, 1 - truth(kind, 0.0), draws)}", flush=True)


def _of_concepts(sets: Iterator[Float64], right: Float64, draws: int) -> Coverage:
    found = []
    for rows in sets:
        count = rows.shape[1]
        reach = t_quantile(0.975, count - 1) * rows.std(axis=1, ddof=1) / math.sqrt(count)
        found.append((mean_curve(rows, -math.inf, 1.0, draws=draws), reach))
    return covered(found, right)


# ------------------------------------------------------------------------------------------------------------ means


def _mixed(zero: float, one: float, a: float, b: float) -> tuple[Callable[[np.random.Generator, int], Float64], float]:
    """Shares that are 0 or 1 with these chances, else Beta(a, b); and their mean."""

    def draw(generator: np.random.Generator, count: int) -> Float64:
        place, between = generator.random(count), generator.beta(a, b, count)
        return np.where(place < zero, 0.0, np.where(place < zero + one, 1.0, between))

    return draw, one + (1 - zero - one) * a / (a + b)


def _losses(sigma: float) -> tuple[Callable[[np.random.Generator, int], Float64], float]:
    return lambda generator, count: np.exp(sigma * generator.normal(size=count)), math.exp(sigma**2 / 2)


SHARES = {
    **{f"exact, {share:.0%} are": _mixed(1 - share, share, 1, 1) for share in (0.02, 0.1, 0.3, 0.5, 0.9, 0.98, 1.0)},
    "BLEU, 4 of 10 are 0": _mixed(0.4, 0.0, 0.5, 2),
    "BLEU, 6 of 10 are 1": _mixed(0.0, 0.6, 1, 1.5),
    "BLEU, 9 of 10 are 1": _mixed(0.0, 0.9, 1, 1.5),
    "BLEU, 0, 1 and between": _mixed(0.35, 0.4, 1, 1.5),
    "BLEU, all between": _mixed(0.0, 0.0, 2, 2),
    "BLEU, small": _mixed(0.0, 0.0, 0.5, 5),
}
LOG_P = {"- log p, sigma 0.7": _losses(0.7), "- log p, sigma 1.2": _losses(1.2)}


def means(questions: list[int], sets: int) -> None:
    """The second table."""
    print(f"\n{'means':<34}{'held':>9}{'width':>9}")
    for count in questions:
        for most, table in ((1.0, SHARES), (math.inf, LOG_P)):
            for name, (draw, value) in table.items():
                generator = np.random.default_rng(2)
                share, width = of_means((draw(generator, count) for _ in range(sets)), value, most)
                print(f"{count:3d} {name:<30}{share:9.3f}{width:9.3f}", flush=True)


def of_means(sets: Iterator[Float64], value: float, most: float) -> tuple[float, float]:
    """The share of sets whose interval holds the value, and the mean width."""
    found = [mean(one, 0, most) for one in sets]
    rounding = 1e-12
    inside = [one.low - rounding <= value <= one.high + rounding for one in found]
    return float(np.mean(inside)), float(np.mean([one.high - one.low for one in found]))


# ---------------------------------------------------------------------------------------------------------- reports


def reports(paths: list[str], questions: list[int], sets: int, draws: int) -> None:
    """The third table: a mean over runs and windows, the least of a run, and the same of bands."""
    losses: dict[tuple[str, str], list[tuple[Float64, Float64]]] = defaultdict(list)
    values: dict[str, list[Float64]] = defaultdict(list)
    for path in paths:
        report = read_report(path)
        for run in report.probe.runs if report.probe is not None else ():
            if len(run.layers) < WINDOWS // 2:
                continue
            asked = report.probe.questions if report.probe is not None else ()
            for loss in ("kl", "mse", "mse_centred"):
                unlearned = np.array([getattr(question, loss) for question in asked])
                if np.isfinite(unlearned).all() and unlearned.mean() > 0:
                    name = f"{run.direction} {run.mode} {run.variant} {run.window}"
                    pair = (getattr(run, f"loss_{loss}") / unlearned.mean(), unlearned / unlearned.mean())
                    losses[loss, name].append(pair)
        for one in report.behaviour.answers if report.behaviour is not None else ():
            values[f"{one.name} BLEU"].append(np.array([row.bleu for row in one.questions]))
            values[f"{one.name} - log p"].append(-np.array([row.logprob_unlearned for row in one.questions]))
    print(f"\n{'reports':<34}{HEADS}")
    for count in questions:
        for loss in ("kl", "mse", "mse_centred"):
            found = [_pooled(pairs, count, sets, draws) for (which, _), pairs in losses.items() if which == loss]
            if found:
                parts = [[getattr(one, name) for one in found] for name in ("student", "interval", "band", "width")]
                student, interval, band, width = (float(np.mean(part)) for part in parts)
                table = Coverage(interval, min(parts[1]), student, band, width)
                print(f"{count:3d} {f'{loss}, {len(found)} runs':<30}{table}")
                print(f"{'':<34}{'':>27}{min(parts[2]):9.3f}  least of a run's bands", flush=True)
        for name, many in values.items():
            pool, generator = np.concatenate(many), np.random.default_rng(3)
            drawn_sets = (pool[generator.integers(0, len(pool), count)] for _ in range(sets))
            share, width = of_means(drawn_sets, float(pool.mean()), 1.0 if name.endswith("BLEU") else math.inf)
            print(f"{count:3d} {name:<30}{'':9}{share:9.3f}{'':18}{width:9.3f}", flush=True)


def _pooled(pairs: list[tuple[Float64, Float64]], count: int, sets: int, draws: int) -> Coverage:
    """Coverage where sets of questions are drawn from those of all pairs together."""
    lost, unlearned = np.concatenate([one for one, _ in pairs], axis=1), np.concatenate([one for _, one in pairs])
    generator = np.random.default_rng(4)
    chosen = [generator.integers(0, len(unlearned), count) for _ in range(sets)]
    return held(((lost[:, one], unlearned[one]) for one in chosen), lost.mean(axis=1) / unlearned.mean(), draws)


TABLES = ["scores", "clusters", "averages", "means"]


def main() -> None:
    """Print the tables that the options ask for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=400)
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--questions", type=int, nargs="+", default=[5, 10, 20, 30])
    parser.add_argument("--sigma", type=float, nargs="+", default=[0.7, 1.2], help="of the lognormal unlearned losses")
    parser.add_argument("--tables", nargs="*", choices=TABLES, default=TABLES)
    parser.add_argument("--reports", nargs="+", default=[])
    options = parser.parse_args()
    if "scores" in options.tables:
        scores(options.questions, options.sets, options.draws, options.sigma)
    if "clusters" in options.tables:
        clusters(options.questions, options.sets, options.draws, options.sigma)
    if "averages" in options.tables:
        averages(options.sets, options.draws)
    if "means" in options.tables:
        means(options.questions, options.sets)
    if options.reports:
        reports(options.reports, options.questions, options.sets, options.draws)


if __name__ == "__main__":
    main()
