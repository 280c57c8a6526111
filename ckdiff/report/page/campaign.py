"""The page of a campaign: a row a pair and concept, averages over concepts, jobs without a result, origin."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ckdiff.report.page.pair import version_text
from ckdiff.report.page.parts import Part, cut, data_address
from ckdiff.report.page.svg import Panel, Scale, panel
from ckdiff.report.words.campaign import (
    NOT_JUDGED,
    Figures,
    average_cells,
    averages_of,
    campaign_facts,
    complete_text,
    gates_text,
    group_names,
    job_line,
    mean_cells,
    means_of,
    missing_jobs,
    open_jobs,
    overview,
    sample_text,
)
from ckdiff.report.words.numbers import UNDEFINED, place_text
from ckdiff.report.words.probe import RANKING, best_window, curve, direction_words, score_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ckdiff.report.schema.campaign import AverageRun, Campaign

NOT_MEASURED = "not measured"

Ends = tuple[int, int]
"""First and last layer of a curve."""


def show_overview(found: Campaign) -> Mapping[str, object]:
    """The outcome, and a row a pair and concept."""
    outcome = found.outcome if found.outcome in ("passed", "failed", "inconclusive") else "none"
    if outcome != "failed" and not found.complete:
        outcome = "inconclusive"
    said = f"{gates_text(found)}; {complete_text(found)}."
    return {
        "outcome": outcome,
        "label": {"none": "No gate", "inconclusive": "Not enough evidence"}.get(outcome, outcome.capitalize()),
        "said": said[0].upper() + said[1:],
        "facts": [(name, cut(words)) for name, words in campaign_facts(found)],
        "rows": list(_rows(found)),
        "failures": [f"{place_text(cell.pair, cell.concept)}: {cell.checks}" for cell in found.cells if cell.checks],
        "reasons": [f"{place_text(cell.pair, cell.concept)}: {cell.verdict}" for cell in found.cells if cell.verdict],
    }


def _rows(found: Campaign) -> Iterator[tuple[object, ...]]:
    figures, missing = Figures(found), missing_jobs(found)
    for cell, row in zip(found.cells, overview(found), strict=True):
        lost = missing.get((cell.pair, cell.concept))
        label = f"{NOT_MEASURED}: jobs are missing" if row.label == NOT_JUDGED and lost else row.label
        explained = _figure(f"{row.explained} {row.interval}".strip())
        bleus = _figure(row.target_bleu), _figure(row.unrelated_bleu)
        mark = (cell.gate, row.gate.lower()) if cell.gate else None
        words = cut(row.pair, 100), cut(row.concept, 100), label, cut(row.carrier, 100)
        yield *words, explained, figures.of(cell, "explained"), *bleus, mark


def _figure(text: str) -> str:
    return NOT_MEASURED if text in ("", UNDEFINED) else text


def show_jobs(found: Campaign) -> Mapping[str, object] | None:
    """The jobs without a result, each with its reason."""
    lines = [job_line(job) for job in open_jobs(found.jobs)]
    return {"lines": lines} if lines else None


class Averages(NamedTuple):
    """The averages of a group of pairs in one direction: its best windows, its curves and their figures."""

    title: str
    cells: list[tuple[str, ...]]
    curves: list[tuple[str, Panel]]
    data: str
    opened: bool


def show_averages(found: Campaign) -> Mapping[str, object] | None:
    """The averages over concepts, group by group."""
    if not found.averages:
        return None
    ranges = dict.fromkeys(_ends(run) for run in found.averages if len(run.layers) > 1)
    scales = {ends: Scale(f"average-axes-{n}", *ends) for n, ends in enumerate(ranges)}
    groups = [_group(found, group, scales, not n) for n, group in enumerate(group_names(found))]
    return {"found": found, "scales": list(scales.values()), "parts": [part for group in groups for part in group]}


def _ends(run: AverageRun) -> Ends:
    return int(run.layers[0]), int(run.layers[-1])


def _group(found: Campaign, group: str, scales: Mapping[Ends, Scale], first: bool) -> Iterator[Averages]:
    for n, (direction, runs) in enumerate(averages_of(found, group)):
        title = f"{group}, {direction_words(direction)}, over {sample_text(runs)}"
        drawn = [run for run in runs if len(run.layers) > 1]
        curves = [_curve(run, group, scales[_ends(run)]) for run in drawn]
        yield Averages(title, [average_cells(run) for run in runs], curves, data_address(_data(drawn)), first and not n)


def _data(runs: Sequence[AverageRun]) -> Iterator[Sequence[object]]:
    """The figures behind curves, a row a mode, variant and layer, with the pointwise interval of each score."""
    yield ("mode", "variant", "layer", *(name + end for name in RANKING for end in ("", "_low", "_high")))
    for run in runs:
        curves = [curve(run, name) for name in RANKING]
        for n, layer in enumerate(run.layers.tolist()):
            values = (float(part[n]) for one in curves for part in (one.score, one.low, one.high))
            yield (run.mode, run.variant, layer, *(float(f"{value:.4g}") for value in values))


def _curve(run: AverageRun, group: str, scale: Scale) -> tuple[str, Panel]:
    says = [
        f"layer {int(layer)}: krs_kl {score_text(float(run.krs_kl.score[n]))}, krs_centred"
        f" {score_text(float(run.krs_centred.score[n]))}, krs {score_text(float(run.krs.score[n]))}"
        for n, layer in enumerate(run.layers)
    ]
    label = f"{group}, {run.mode} {run.variant}, {run.direction}"
    drawn = panel(run, scale, label, says, best_window(run) or 0)
    return f"{cut(run.mode, 60)} {cut(run.variant, 60)}", drawn


def show_means(found: Campaign) -> Mapping[str, object] | None:
    """The averaged measures, group by group."""
    groups = [(group, [mean_cells(one) for one in means_of(found, group)]) for group in group_names(found)]
    return {"groups": groups} if found.means else None


def show_drift(found: Campaign) -> Mapping[str, object] | None:
    """How far each component of each pair moved."""
    drift = found.drift
    if drift is None:
        return None
    figures = [[UNDEFINED if np.isnan(value) else f"{value:.1e}" for value in row] for row in drift.relative_l2]
    rows = [(cut(pair.name, 100), *row) for pair, row in zip(found.pairs, figures, strict=True)]
    return {"heads": ["pair", *(cut(name, 60) for name in drift.components)], "rows": rows}


def show_provenance(found: Campaign) -> Mapping[str, object]:
    """Which checkpoints, by which plan, with which versions."""
    pairs = [
        (
            *(cut(one.name, 100), cut(one.group, 100)),
            *(cut(one.base, 160), one.base_digest[:16] or "not known"),
            *(cut(one.unlearned, 160), one.unlearned_digest[:16] or "not known"),
        )
        for one in found.pairs
    ]
    return {"found": found, "pairs": pairs, "versions": version_text(found.versions)}


def show_method(found: Campaign) -> Mapping[str, object]:
    """The meaning of intervals and of the outcome, and the notes."""
    return {"notes": found.notes}


PARTS = (
    Part(10, "overview", "Pairs and concepts", "overview.html", show_overview),
    Part(20, "jobs", "Jobs without a result", "jobs.html", show_jobs),
    Part(30, "averages", "Averages over concepts", "averages.html", show_averages),
    Part(40, "means", "Means over concepts", "means.html", show_means),
    Part(50, "drift", "What moved", "pairs_drift.html", show_drift),
    Part(60, "provenance", "Provenance", "pairs_provenance.html", show_provenance),
    Part(70, "method", "Method and limits", "pairs_method.html", show_method),
)
