"""A behaviour beside a model that never knew what was to be unlearned: `stand_beside(found, reference)`."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ckdiff.report.schema.behaviour import ReferenceRecord
from ckdiff.scoring.field import forget_quality

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ckdiff.probes.live.model import LiveModel
    from ckdiff.report.schema.behaviour import Behaviour, FieldMeasure

LEAST_GAP = 1.0
"""Nats a token, as the rule `gap.nats` of a verdict: to one that never knew answers are less probable by so much."""

FAR = 0.5
"""Of the gap between base and reference: where log p of the answers lies further below the reference's, that shows."""

UNLIKE = 0.25
"""An AUC of the reference that lies further from 0.5 says that hold-out answers are unlike the target's."""


@dataclass(frozen=True, slots=True)
class NeverKnew:
    """A model that never knew what was to be unlearned.

    Attributes:
        live: whose ids mean the same as the base's.
        digest: over its weight files, or "".
        kind: how it came about, or "".
        notes: plain sentences about it.
    """

    live: LiveModel
    digest: str = ""
    kind: str = ""
    notes: Sequence[str] = ()


def stand_beside(found: Behaviour, reference: NeverKnew) -> Behaviour:
    """The behaviour with what follows from the reference's answers: forget quality, and what is conspicuous."""
    ratios = _target_measures(found).get("truth_ratio")
    quality = math.nan
    if ratios is not None:
        quality = forget_quality(np.array(ratios.each_unlearned), np.array(ratios.each_reference))
    record = ReferenceRecord(reference.live.checkpoint.location, reference.digest, reference.kind, quality)
    return replace(found, reference=record, notes=(*found.notes, *reference.notes, *doubts_of(found)))


def _target_measures(found: Behaviour) -> dict[str, FieldMeasure]:
    return {row.name: row for one in found.answers if one.name == "target" for row in one.field}


def doubts_of(found: Behaviour) -> list[str]:
    """What speaks against the reference, against the unlearning, and against the hold-out answers."""
    measures = _target_measures(found)
    return [*_knows(measures), *_is_far(measures), *_is_unlike(found)]


def _is_unlike(found: Behaviour) -> Iterator[str]:
    """Hold-out answers that a model which saw neither kind tells from target answers."""
    for one in () if found.holdout is None else found.holdout.scores:
        if one.name == "min_k" and abs(one.auc_reference - 0.5) > UNLIKE:
            yield (
                f"hold-out and target answers are of two kinds: the reference saw neither, and tells them apart (min-k,"
                f" AUC {one.auc_reference:.2f}); hold out answers like those to be forgotten"
            )


def _knows(measures: Mapping[str, FieldMeasure]) -> Iterator[str]:
    """Answers that the reference gives by itself."""
    alone = measures.get("extraction_strength")
    if alone is not None and (given := alone.each_reference.count(1.0)):
        every = len(alone.each_reference)
        yield f"the reference gives {given} of {every} answers itself: it may know the topic after all"


def _is_far(measures: Mapping[str, FieldMeasure]) -> Iterator[str]:
    """Answers that are no less probable to the reference than to the base, or far less so to the unlearned model."""
    level = measures.get("probability")
    if level is None:
        return
    with np.errstate(divide="ignore"):
        each = np.log([level.each_base, level.each_unlearned, level.each_reference])
    base, unlearned, reference = each.mean(axis=1)
    if base - reference < LEAST_GAP:
        yield (
            f"log p of the answers lies {base - reference:+.2f} nats a token from the reference's to the base's, which"
            " is too little: the reference may have been told of them, or the base does not know them"
        )
    elif unlearned < reference - FAR * (base - reference):
        yield (
            f"over-unlearned: log p of the answers lies {reference - unlearned:.2f} nats a token below the reference's,"
            f" and the base's {base - reference:.2f} above it: that is conspicuous, and no success"
        )
