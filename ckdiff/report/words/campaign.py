"""A campaign in words, for every presenter: its rows as words, the best windows of its averages, its exit status.

Text that came with the report (names, reasons, notes) is untrusted: everything that comes back as text is printable.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ckdiff.errors import ExitStatus
from ckdiff.report.schema.probe import SCORES
from ckdiff.report.words.numbers import UNDEFINED, count_of, with_interval
from ckdiff.report.words.probe import best_window, beyond_chance, by_direction, loss_text, score_text, window_score
from ckdiff.report.words.verdict import OUTCOME_WORDS, band_text
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from ckdiff.report.schema.campaign import (
        AverageRun,
        Campaign,
        Cell,
        CellMeasure,
        GroupMean,
        JobRecord,
        PairRecord,
    )

SAMPLING = (
    "Concepts are the sampling unit, not questions: the pairs of a concept are averaged first, and intervals are over"
    " concepts."
)

AVERAGES_LEGEND = (
    f"{SAMPLING} Best: the window centre where the average of the score that ranks (krs_kl, what changes behaviour) is"
    " highest. A best window is a selected one: what is said of it rests on that score's band, which holds at all"
    " windows at once; in brackets that band, and the pointwise 95 % intervals of the others. top1: of the model so"
    " changed, and in parentheses of the unlearned model."
)

UNSURE_LEGEND = "unsure (n): highest at n, but the band reaches 0: nothing is shown there."

ALONE_LEGEND = "Without brackets: of one concept only, which has no interval."

OVERVIEW_LEGEND = (
    "Explained: krs_kl of what carries the effect, with the band that the verdict rests on; BLEU: of the unlearned"
    " answers against the base's, mean over questions."
)

MEASURE_WORDS = {
    "target_bleu": "target answers, BLEU",
    "target_exact": "target answers, word for word the base's",
    "unrelated_bleu": "unrelated answers, BLEU",
    "unrelated_exact": "unrelated answers, word for word the base's",
    "choice_accuracy_base": "multiple choice, base right",
    "choice_accuracy_unlearned": "multiple choice, unlearned right",
    "neutral_kl": "neutral text, KL a token in nats",
    "loss_kl": "scored answers, KL a token in nats",
    "top1": "scored positions, argmax is the base's",
    "explained": "explained (krs_kl)",
}

LOSSES = ("neutral_kl", "loss_kl")
"""Measures in nats; the others are shares."""

AVERAGE_HEADS = ("mode", "variant", "best", "width", *reversed(SCORES), "top1", "pairs", "concepts")

MEAN_HEADS = ("measure", "mean and 95 % interval", "pairs", "concepts")

NOTHING = "NOTHING WAS ASKED"

NOT_JUDGED = "not judged"


class OverviewRow(NamedTuple):
    """A pair and concept in words; an interval is empty where there is none."""

    pair: str
    concept: str
    label: str
    carrier: str
    explained: str
    interval: str
    target_bleu: str
    unrelated_bleu: str
    gate: str
    outcome: str


def overview(found: Campaign) -> Iterator[OverviewRow]:
    """A row for each pair and concept, in the order of the plan."""
    figures = Figures(found)
    for cell in found.cells:
        explained, *ends = figures.of(cell, "explained")
        target, unrelated = (score_text(figures.of(cell, f"{kind}_bleu")[0]) for kind in ("target", "unrelated"))
        yield OverviewRow(
            printable(cell.pair),
            printable(cell.concept),
            printable(cell.label) or NOT_JUDGED,
            carrier_text(cell),
            score_text(explained),
            "" if np.isnan(ends).any() else f"[{score_text(ends[0])}, {score_text(ends[1])}]",
            target,
            unrelated,
            gate_text(cell.gate),
            cell.gate,
        )


class Figures:
    """The measures of a campaign by pair, concept and name."""

    def __init__(self, found: Campaign) -> None:
        self._pairs = {pair.name: place for place, pair in enumerate(found.pairs)}
        self._concepts = {name: place for place, name in enumerate(found.concepts)}
        self._measures: Mapping[str, CellMeasure] = {measure.name: measure for measure in found.measures}

    def of(self, cell: Cell, name: str) -> tuple[float, float, float]:
        """The figure and both ends of its interval; NaN where it was not measured."""
        measure = self._measures.get(name)
        if measure is None:
            return math.nan, math.nan, math.nan
        place = self._pairs[cell.pair], self._concepts[cell.concept]
        return float(measure.value[place]), float(measure.low[place]), float(measure.high[place])


def carrier_text(cell: Cell) -> str:
    """The part that carries the effect, and where: `coefficients, 19-23`; a dash for nothing."""
    return ", ".join(filter(None, (printable(cell.component), printable(cell.layers)))) or UNDEFINED


def gate_text(outcome: str) -> str:
    """The outcome of a gate in capitals; a dash where no policy was given.

    >>> gate_text("failed"), gate_text("inconclusive")
    ('FAILED', 'NOT ENOUGH EVIDENCE')
    """
    return next((words for name, words in OUTCOME_WORDS.items() if name == outcome), UNDEFINED)


def campaign_facts(found: Campaign) -> Iterator[tuple[str, str]]:
    """Which campaign this is, as names and values."""
    groups = dict.fromkeys(pair.group for pair in found.pairs if pair.group)
    yield "campaign", printable(found.name) or "unnamed"
    sizes = [count_of(len(found.pairs), "pair"), count_of(len(found.concepts), "concept")]
    yield "holds", ", ".join([*sizes, count_of(len(found.jobs), "job")])
    if groups:
        yield "groups", ", ".join(map(printable, groups))
    types = dict.fromkeys(printable(pair.model_type) for pair in found.pairs if pair.model_type)
    yield "model type", ", ".join(types) or "not stated"


def pair_cells(pair: PairRecord) -> tuple[str, ...]:
    """A pair as name, group, both locations and the beginnings of both digests."""
    digests = (f"sha256 {one[:12]}" if one else "not hashed" for one in (pair.base_digest, pair.unlearned_digest))
    words = pair.name, pair.group, pair.base, pair.unlearned, *digests
    return tuple(map(printable, words))


def group_names(found: Campaign) -> list[str]:
    """The groups that something was averaged for, in their order."""
    names = [*(run.group for run in found.averages), *(one.group for one in found.means)]
    return list(dict.fromkeys(names))


def averages_of(found: Campaign, group: str) -> Iterator[tuple[str, list[AverageRun]]]:
    """The directions in which a group has averages, restore first, each with its runs."""
    return by_direction([run for run in found.averages if run.group == group])


def means_of(found: Campaign, group: str) -> list[GroupMean]:
    """The averaged measures of a group."""
    return [one for one in found.means if one.group == group]


def average_cells(run: AverageRun) -> tuple[str, ...]:
    """One average in the columns of `AVERAGE_HEADS`."""
    index, counts = best_window(run), (str(run.pairs), str(run.concepts))
    name = printable(run.mode), printable(run.variant)
    if index is None:
        return *name, "not measured", *(UNDEFINED,) * 5, *counts
    layer = int(run.layers[index])
    centre, width = ("all", UNDEFINED) if layer < 0 else (str(layer), str(run.window))
    scores = (window_score(run, score, index) for score in reversed(SCORES))
    top1 = band_text(float(run.top1[index]), float(run.top1_low[index]), float(run.top1_high[index]))
    top1 += f" ({score_text(run.top1_unrestored)})"
    return *name, centre if beyond_chance(run) else f"unsure ({centre})", width, *scores, top1, *counts


def sample_text(runs: Sequence[AverageRun]) -> str:
    """How much went into averages: `3 concepts (2 pairs)`, or `2 to 3 concepts` where that differs from run to run."""
    concepts = _span([run.concepts for run in runs], "concept")
    return f"{concepts} ({_span([run.pairs for run in runs], 'pair')})"


def _span(counts: Sequence[int], noun: str) -> str:
    most = count_of(max(counts), noun)
    return most if min(counts) == max(counts) else f"{min(counts):,} to {most}"


def averages_legend(found: Campaign) -> str:
    """How to read averages and means; what there is none of is not explained, and empty is for neither."""
    if not found.averages:
        return SAMPLING if found.means else ""
    words = [AVERAGES_LEGEND]
    if any(best_window(run) is not None and not beyond_chance(run) for run in found.averages):
        words.append(UNSURE_LEGEND)
    if any(run.concepts < 2 for run in found.averages):
        words.append(ALONE_LEGEND)
    return " ".join(words)


def mean_cells(found: GroupMean) -> tuple[str, ...]:
    """One averaged measure in the columns of `MEAN_HEADS`."""
    words = measure_text(found.measure)
    figure: Callable[[float], str] = loss_text if found.measure in LOSSES else score_text
    text = with_interval(found.value, found.low, found.high, figure)
    return words, text, str(found.pairs), str(found.concepts)


def measure_text(name: str) -> str:
    """A measure in words; one that this ckdiff does not know under its own name."""
    return MEASURE_WORDS.get(name, printable(name))


def open_jobs(jobs: Iterable[JobRecord]) -> list[JobRecord]:
    """The jobs without a result, in the order of the plan, those first without which the campaign is incomplete."""
    return sorted((job for job in jobs if job.state != "done"), key=lambda job: not job.required)


def job_line(job: JobRecord) -> str:
    """One job without a result: `gd, Harry Potter, probe: failed: out of memory`."""
    name = ", ".join(printable(word) for word in (job.pair, job.concept, job.run) if word)
    extra = "" if job.required else " (not required)"
    return ": ".join(filter(None, (f"{name}{extra}", job.state, printable(job.reason))))


def missing_jobs(found: Campaign) -> dict[tuple[str, str], str]:
    """By pair and concept the required jobs about it that are not done, in words; empty where all are.

    Those about the whole pair are about each of its concepts.
    """
    of_pair: dict[str, list[JobRecord]] = {}
    for job in open_jobs(found.jobs):
        if job.required:
            of_pair.setdefault(job.pair, []).append(job)
    return {
        (cell.pair, cell.concept): "; ".join(
            job_line(job) for job in of_pair.get(cell.pair, ()) if job.concept in ("", cell.concept)
        )
        for cell in found.cells
    }


def exit_status(found: Campaign) -> ExitStatus:
    """The worst of the gates; a campaign that passes but lacks a required job is inconclusive, as are open gates."""
    if found.outcome == "failed":
        return ExitStatus.DIFFERS
    if found.outcome == "inconclusive" or not found.complete:
        return ExitStatus.INCONCLUSIVE
    return ExitStatus.OK


def exit_text(found: Campaign) -> str:
    """The exit status with its reasons, in one line."""
    return f"exit status {int(exit_status(found))}: {gates_text(found)}; {complete_text(found)}"


def gates_text(found: Campaign) -> str:
    """How the gates ended: `2 of 8 gates failed, 1 has not enough evidence`."""
    gates = [cell.gate for cell in found.cells if cell.gate]
    if not gates:
        return "no policy was given, so that there is no gate"
    failed, unknown = (gates.count(name) for name in ("failed", "inconclusive"))
    count = f"{count_of(len(gates), 'gate')}"
    words = [f"{failed:,} of {count} failed"] if failed else []
    if unknown:
        words.append(f"{f'{unknown:,}' if words else f'{unknown:,} of {count}'} without enough evidence")
    return ", ".join(words) or ("the gate passed" if len(gates) == 1 else f"all {count} passed")


def complete_text(found: Campaign) -> str:
    """Whether every required job is done: `INCOMPLETE: 2 of 24 required jobs are not done`."""
    required = [job for job in found.jobs if job.required]
    left = len(open_jobs(required))
    if found.complete:
        return "complete"
    return f"INCOMPLETE: {left:,} of {count_of(len(required), 'required job')} {'is' if left == 1 else 'are'} not done"
