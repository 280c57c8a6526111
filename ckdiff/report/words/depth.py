"""Depth in words, for every presenter: how much the unlearned model still carries, question by question, by layer."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ckdiff.report.schema.depth import LEAST_DROP
from ckdiff.report.words.attack import figure, span
from ckdiff.report.words.intervals import SHARES_OVER_FACTS
from ckdiff.report.words.numbers import UNDEFINED, count_of, interval_text
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckdiff.report.schema.depth import DepthQuestion, DepthReport

NO_DEPTH = "No depth was measured: no model that never knew stands in it"
LAYER_HEADS = ("layer", "depth", "95 % interval", "cost of unlearned", "cost of reference", "questions")
QUESTION_HEADS = ("question", "answer", "depth", "lens", "layers", "log p base", "unlearned", "reference")
LEGEND = (
    "depth: how much of what the reference's states cost the base's answer the unlearned model's cost it, 0: the",
    "unlearned model still carries all of it, 1: it is as ignorant as the reference; cost: log p a token that the base",
    "loses with that state behind the layer, in nats; lens: the same of log p read off each layer. No fixed number",
    "tells erased from held back: true erasures had depths of 0.59 to 0.93. In brackets:",
    f"{SHARES_OVER_FACTS}.",
)


def headline(found: DepthReport) -> str:
    """Depth and its lens twin in one line."""
    told = sum(one.layers > 0 for one in found.questions)
    return (
        f"Depth {span(found.depth)} (0: still carries all that the reference lacks, 1: as ignorant), by lens"
        f" {span(found.depth_lens)}; {told} of {count_of(len(found.questions), 'question')} tell"
    )


def facts_of(found: DepthReport) -> Iterator[tuple[str, str]]:
    """The reference, the questions and how they were asked."""
    digest = f", sha256 {found.reference_digest[:12]}" if found.reference_digest else ""
    kind = f", {found.reference_kind}" if found.reference_kind else ""
    yield "reference", printable(f"{found.reference}{kind}{digest}")
    count = len({one.cluster for one in found.questions})
    source = printable(found.settings.get("questions_source", "")) or "unnamed"
    yield "questions", f"{len(found.questions)} about {count_of(count, 'fact')}, from {source}"
    if not math.isnan(found.margin):
        yield "margin", printable(_margin_text(found))
    if found.compat:
        yield "last layer", "patched behind the final norm, as the published code does"


def _margin_text(found: DepthReport) -> str:
    """Whether it is as deep as a second model that never knew."""
    within = found.depth.low >= 1 - found.margin
    said = "as deep as that, within its interval" if within else "not shown to be as deep as that"
    other = f"is the depth of {found.second}, which never knew (95 % of its questions)"
    return f"{1 - found.margin:.2f} or more {other}; {said}"


def layer_cells(found: DepthReport) -> list[tuple[str, ...]]:
    """A row a layer."""
    rows = []
    for place, layer in enumerate(found.layers.tolist()):
        low, high = float(found.share_low[place]), float(found.share_high[place])
        ends = UNDEFINED if math.isnan(low) else interval_text(low, high, "{:.2f}".format)
        costs = (found.drop_unlearned[place], found.drop_reference[place])
        tells = sum(bool(cost > LEAST_DROP) for cost in found.drop_reference[place])
        means = (figure(float(cost.mean())) if len(cost) else UNDEFINED for cost in costs)
        rows.append((str(layer), figure(float(found.share[place])), ends, *means, str(tells)))
    return rows


def question_cells(one: DepthQuestion) -> tuple[str, ...]:
    """A question in one row."""
    figures = (one.log_p_base, one.log_p_unlearned, one.log_p_reference)
    words = printable(one.text), printable(one.answer.strip())
    return (*words, figure(one.depth), figure(one.depth_lens), str(one.layers), *map(figure, figures))


def carried(found: DepthReport) -> list[DepthQuestion]:
    """The questions, those that are carried most first; undefined ones last."""
    return sorted(found.questions, key=lambda one: math.inf if math.isnan(one.depth) else one.depth)


def every_note(found: DepthReport) -> Sequence[str]:
    """The notes, printable."""
    return [printable(note) for note in found.notes]
