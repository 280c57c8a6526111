"""The parts of a campaign's page: a row a pair and concept, averages over concepts, jobs without a result, origin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.report.page.markup import Safe, cut, facts, folded, items, joined, left_out, paragraph, table, tag
from ckdiff.report.page.svg import Scale, axes, bar, definitions, panel
from ckdiff.report.page.words import outcome_mark
from ckdiff.report.words.campaign import (
    AVERAGE_HEADS,
    MEAN_HEADS,
    NOT_JUDGED,
    OVERVIEW_LEGEND,
    SAMPLING,
    Figures,
    average_cells,
    averages_legend,
    averages_of,
    best,
    campaign_facts,
    complete_text,
    gates_text,
    group_names,
    job_line,
    lacking,
    mean_cells,
    means_of,
    overview,
    sample_text,
    undone,
)
from ckdiff.report.words.numbers import UNDEFINED
from ckdiff.report.words.probe import direction_words, score_text
from ckdiff.untrusted import shorten

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckdiff.report.schema.campaign import AverageRun, Campaign, PairDrift
    from ckdiff.report.schema.verdict import Outcome

ROWS = 2000
"""Pairs and concepts that the page lists."""
LISTED = 200
"""Jobs, pairs and panels of each kind that it lists."""
NOT_MEASURED = "not measured"
Ends = tuple[int, int]
"""First and last layer of a curve."""
HEADS = ("pair", "concept", "verdict", "carried by", "explained", "0 to 1", "target BLEU", "unrelated BLEU", "gate")


def campaign_parts(found: Campaign) -> Iterator[tuple[str, str, Safe]]:
    """The parts that the page of a campaign has, as anchor, name and content."""
    yield "overview", "Pairs and concepts", _overview(found)
    if missing := undone(found.jobs):
        lines = [job_line(job) for job in missing[:LISTED]]
        yield "jobs", "Jobs without a result", joined(items(lines), left_out(len(missing) - LISTED, "job"))
    if found.averages:
        yield "averages", "Averages over concepts", _averages(found)
    if found.means:
        yield "means", "Means over concepts", _means(found)
    if found.drift is not None:
        yield "drift", "What moved", _drift(found, found.drift)
    yield "provenance", "Provenance", _provenance(found)
    yield "method", "Method and limits", _method(found)


# --------------------------------------------------------------------------------------------------------- overview


def _overview(found: Campaign) -> Safe:
    return joined(
        _outcome(found),
        facts((name, cut(words)) for name, words in campaign_facts(found)),
        table("What was found, a row a pair and concept", HEADS, _rows(found), words=(0, 1, 2, 3, 5, 8), said=False),
        left_out(len(found.cells) - ROWS, "row"),
        paragraph(OVERVIEW_LEGEND, class_="muted"),
        *_failures(found),
    )


def _outcome(found: Campaign) -> Safe:
    outcome = found.outcome if found.outcome in ("passed", "failed", "inconclusive") else "none"
    if outcome != "failed" and not found.complete:
        outcome = "inconclusive"
    words = {"none": "No gate", "inconclusive": "Not enough evidence"}.get(outcome, outcome.capitalize())
    said = f"{gates_text(found)}; {complete_text(found)}."
    return joined(tag("p", words, class_=f"label {outcome}"), tag("p", said[0].upper() + said[1:], class_="title"))


def _rows(found: Campaign) -> Iterator[tuple[str, ...]]:
    figures, missing = Figures(found), lacking(found)
    for cell, row in zip(found.cells[:ROWS], overview(found), strict=False):
        lost = missing.get((cell.pair, cell.concept))
        label = f"{NOT_MEASURED}: jobs are missing" if row.label == NOT_JUDGED and lost else row.label
        mark: Outcome | None = cell.gate or None  # type: ignore[assignment]  # read back as one of them, or empty
        yield (
            cut(row.pair, 100),
            cut(row.concept, 100),
            label,
            cut(row.carrier, 100),
            _figure(f"{row.explained} {row.interval}".strip()),
            bar(*figures.of(cell, "explained")),
            _figure(row.target_bleu),
            _figure(row.unrelated_bleu),
            UNDEFINED if mark is None else outcome_mark(mark, row.gate.lower()),
        )


def _figure(text: str) -> str:
    return NOT_MEASURED if text in ("", UNDEFINED) else text


def _failures(found: Campaign) -> Iterator[Safe]:
    """Why gates failed, folded away."""
    lines = [f"{cell.pair}, {cell.concept}: {cell.checks}" for cell in found.cells if cell.checks]
    reasons = [f"{cell.pair}, {cell.concept}: {cell.verdict}" for cell in found.cells if cell.verdict]
    for name, rows in (
        (f"Gates that did not pass ({len(lines)})", lines),
        (f"Reasons of the verdicts ({len(reasons)})", reasons),
    ):
        if rows:
            yield folded(name, items(rows[:LISTED]), left_out(len(rows) - LISTED, "row"))


# --------------------------------------------------------------------------------------------------------- averages


def _averages(found: Campaign) -> Safe:
    drawn = [run for run in found.averages if len(run.layers) > 1]
    names = {ends: f"average-axes-{n}" for n, ends in enumerate(dict.fromkeys(map(_ends, drawn)))}
    shared = definitions(axes(Scale(*ends), name) for ends, name in names.items()) if names else None
    groups = (_group(found, group, names, place == 0) for place, group in enumerate(group_names(found)))
    return joined(shared, paragraph(averages_legend(found), class_="muted"), *groups)


def _ends(run: AverageRun) -> Ends:
    return int(run.layers[0]), int(run.layers[-1])


def _group(found: Campaign, group: str, names: dict[Ends, str], first: bool) -> Safe:
    parts: list[Safe] = []
    for direction, runs in averages_of(found, group):
        title = f"{group}, {direction_words(direction)}, over {sample_text(runs)}"
        cells = [average_cells(run) for run in runs]
        shown = table(f"Best windows: {title}", AVERAGE_HEADS, cells, words=(0, 1, 2), folds=False, said=False)
        curves = [_panel(run, group, names) for run in runs if len(run.layers) > 1]
        kept = tag("div", *curves[:LISTED], class_="panels") if curves else None
        parts += [
            tag("h3", cut(title, 200)),
            shown,
            folded("Curves", kept, open_=first and not parts) if kept else Safe(),
        ]
    return joined(*parts)


def _panel(run: AverageRun, group: str, names: dict[Ends, str]) -> Safe:
    found = best(run)
    label = f"{group}, {run.mode} {run.variant}, {run.direction}"
    any_run: Any = run  # it has the layers and curves that a panel draws
    drawn = panel(any_run, Scale(*_ends(run)), names[_ends(run)], label, _said(run), found.index if found else 0)
    caption = tag("figcaption", f"{cut(run.mode, 60)} {cut(run.variant, 60)}")
    return tag("figure", caption, drawn)


def _said(run: AverageRun) -> Sequence[str]:
    return [
        f"layer {int(layer)}: krs_kl {score_text(float(run.krs_kl.score[n]))}, krs_centred"
        f" {score_text(float(run.krs_centred.score[n]))}, krs {score_text(float(run.krs.score[n]))}"
        for n, layer in enumerate(run.layers)
    ]


def _means(found: Campaign) -> Safe:
    tables = []
    for group in group_names(found):
        if rows := [mean_cells(one) for one in means_of(found, group)]:
            tables += [tag("h3", cut(group, 100)), table(f"Means of {group}", MEAN_HEADS, rows, said=False)]
    return joined(paragraph(SAMPLING, class_="muted"), *tables)


# ------------------------------------------------------------------------------------------------------------- rest


def _drift(found: Campaign, drift: PairDrift) -> Safe:
    heads = ("pair", *drift.components)
    rows = [
        (cut(pair.name, 100), *(_number(value) for value in drift.relative_l2[place]))
        for place, pair in enumerate(found.pairs[:LISTED])
    ]
    shown = table("Relative L2 by pair and component", [cut(head, 60) for head in heads], rows, folds=False)
    return joined(shown, left_out(len(found.pairs) - LISTED, "pair"))


def _number(value: float) -> str:
    return UNDEFINED if np.isnan(value) else f"{value:.1e}"


def _provenance(found: Campaign) -> Safe:
    heads = ("pair", "group", "base", "sha256", "unlearned", "sha256 ")
    rows = [
        (
            cut(one.name, 100),
            cut(one.group, 100),
            tag("code", cut(one.base, 160)),
            tag("code", one.base_digest[:16] or "not known"),
            tag("code", cut(one.unlearned, 160)),
            tag("code", one.unlearned_digest[:16] or "not known"),
        )
        for one in found.pairs[:ROWS]
    ]
    lines = [shorten(line, 500) for line in found.plan.splitlines()[:400]]
    plan = tag("pre", "\n".join(lines), tabindex=0, role="region", aria_label="Plan")
    said = ", ".join(f"{cut(name, 80)} {cut(version, 80)}" for name, version in sorted(found.versions.items()))
    return joined(
        table("Checkpoints", heads, rows, words=(0, 1, 2, 3, 4, 5), said=False),
        folded("The plan as it was read", plan),
        facts([("versions", said or "not recorded"), ("campaign schema", str(found.schema_version))]),
    )


def _method(found: Campaign) -> Safe:
    return joined(
        items(found.notes),
        paragraph(SAMPLING),
        paragraph(
            "An interval beside a pair and a concept is over its questions; one beside an average is a 95 % Student t"
            " interval over concepts. A band holds at all windows of a curve at once, and what is said of a best window"
            " rests on it. None of them says anything about other models."
        ),
        paragraph(
            "The outcome is the worst of the gates: failed, else not enough evidence where a gate or a required job"
            " lacks it, else passed. This page is not signed; each pair's own report can be, with ",
            tag("code", "ckdiff attest"),
            ".",
        ),
    )
