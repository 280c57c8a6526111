"""The figures of a report that say something about the unlearned model as a whole, each with its interval.

For formats that know of a figure no more than a name, a value, two ends and what it is about. Figures that are not
defined are left out, and so is what is finer: tensors, windows but the best one, questions.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, NamedTuple

from ckdiff.report.schema.behaviour import Mean
from ckdiff.report.schema.probe import BOUNDED, SCORES
from ckdiff.report.words import probe as words
from ckdiff.report.words.attack import tier_name
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckdiff.report.schema.attack import TierEvidence
    from ckdiff.report.schema.behaviour import Behaviour
    from ckdiff.report.schema.campaign import Campaign
    from ckdiff.report.schema.comparison import Comparison
    from ckdiff.report.schema.probe import Probe, ProbeRun
    from ckdiff.report.schema.report import Report

DRIFT = ("cosine", "one_minus_cosine", "relative_l2", "changed_fraction")


class Metric(NamedTuple):
    """A figure.

    Attributes:
        name: as in the report: `section.field`.
        about: what it is about: a set of questions, a component, a run and its window.
        value: of it; defined.
        low, high: the ends of its 95 % interval; NaN where it has none.
    """

    name: str
    about: str
    value: float
    low: float = math.nan
    high: float = math.nan


def metrics_of(report: Report) -> Iterator[Metric]:
    """Every figure of a report, section by section; texts are printable."""
    for one in _figures(report):
        if math.isfinite(one.value):
            yield one._replace(name=printable(one.name), about=printable(one.about))


def _figures(report: Report) -> Iterator[Metric]:
    if (found := report.verdict) is not None:
        place = found.component or "nothing"
        yield Metric("verdict.explained", place, found.explained, found.explained_low, found.explained_high)
        yield Metric("verdict.score", "", found.score)
        yield Metric("verdict.detectable", "", found.detectable)
    if report.behaviour is not None:
        yield from _behaviour(report.behaviour)
    for tier in report.attack.tiers if report.attack is not None else ():
        yield from _tier(tier)
    if report.depth is not None:
        yield from _means("depth", report.depth, "")
    if report.probe is not None:
        yield from _probe(report.probe)
    if report.compare is not None:
        yield from _drift(report.compare)


def _means(section: str, record: object, about: str) -> Iterator[Metric]:
    """Every field of a record that is a mean with an interval, and its perplexities."""
    assert dataclasses.is_dataclass(record)
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if isinstance(value, Mean):
            yield Metric(f"{section}.{field.name}", about, value.value, value.low, value.high)
        elif field.name.startswith("perplexity"):
            yield Metric(f"{section}.{field.name}", about, value)


def _behaviour(found: Behaviour) -> Iterator[Metric]:
    for one in found.answers:
        yield from _means("behaviour", one, f"{one.name} questions")
        for measure in one.field:
            for side, mean in (("base", measure.base), ("unlearned", measure.unlearned)):
                name = f"behaviour.{measure.name}_{side}"
                yield Metric(name, f"{one.name} questions", mean.value, mean.low, mean.high)
    if found.reference is not None:
        yield Metric("behaviour.forget_quality", "target questions", found.reference.forget_quality)
    for score in () if found.holdout is None else found.holdout.scores:
        for side in ("base", "unlearned", "reference"):
            yield Metric(f"behaviour.{score.name}_auc_{side}", "target answers", getattr(score, f"auc_{side}"))
        yield Metric(f"behaviour.{score.name}_leak", "target answers, per cent", score.leak)
    if found.choices is not None:
        yield from _means("behaviour", found.choices, "choices")
    if found.neutral is not None:
        yield from _means("behaviour", found.neutral, "neutral texts")


def _tier(found: TierEvidence) -> Iterator[Metric]:
    about = f"tier {tier_name(found.tier)}"
    if found.ran:
        yield Metric("attack.returned", f"{about}: facts whose answer came back", float(found.returned))
        yield Metric("attack.asked", f"{about}: facts that could have", float(found.asked))
    yield Metric("attack.z", f"{about}: {found.worst}", found.z)
    yield Metric("attack.p", f"{about}: {found.worst}", found.p)
    yield Metric("attack.detectable", about, found.detectable)
    yield from _means("attack", found, f"{about}: {found.above_attack}")


def _probe(found: Probe) -> Iterator[Metric]:
    for run in found.runs:
        for score in (*SCORES, BOUNDED):
            yield from _best(run, score)


def _best(run: ProbeRun, score: str) -> Iterator[Metric]:
    """The best window of a run by a score, with the band that holds over all of them."""
    index = words.best_window(run, score)
    if index is None:
        return
    found, many = words.curve(run, score), len(run.layers)
    layers = words.window_text(run, index)
    which = f"layers {layers}, the best of {many} windows" if many > 1 else f"layers {layers}"
    ends = (found.band_low, found.band_high) if many > 1 else (found.low, found.high)
    low, high = (float(end[index]) for end in ends)
    yield Metric(f"probe.{score}", f"{words.run_name(run)}, {which}", float(found.score[index]), low, high)


def _drift(found: Comparison) -> Iterator[Metric]:
    for row in found.components:
        for name in DRIFT:
            yield Metric(f"compare.{name}", row.component, float(getattr(row.drift, name)))


def campaign_metrics(found: Campaign, pair: int) -> Iterator[Metric]:
    """Every figure of a pair of a campaign, concept by concept; texts are printable."""
    for place, concept in enumerate(found.concepts):
        for one in found.measures:
            value, low, high = (float(getattr(one, name)[pair, place]) for name in ("value", "low", "high"))
            if math.isfinite(value):
                yield Metric(printable(one.name), printable(concept), value, low, high)
