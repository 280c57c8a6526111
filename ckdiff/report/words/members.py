"""Hold-out answers and a model that never knew, in words: what privacy measures of the field say of a behaviour."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ckdiff.report.words.behaviour import share_text, short_number
from ckdiff.report.words.numbers import UNDEFINED, count_of
from ckdiff.untrusted import printable, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckdiff.report.schema.behaviour import Behaviour

HEADS = ("score", "AUC, base", "unlearned", "reference", "PrivLeak, %")
TITLE = "Do the answers look trained on?"
LEGEND = (
    "AUC: the chance that a target answer has a greater score than a hold-out one; 0.5: nothing tells them apart.",
    "PrivLeak: below 0 they still look trained on, above 0 stranger than ones that were never seen.",
)


def member_rows(found: Behaviour) -> Iterator[tuple[str, ...]]:
    """Each score in a row; nothing without hold-out answers."""
    for one in () if found.holdout is None else found.holdout.scores:
        aucs = (one.auc_base, one.auc_unlearned, one.auc_reference)
        leak = UNDEFINED if math.isnan(one.leak) else f"{one.leak:+.0f}"
        yield one.name.replace("_", " ").replace(" plus", "++"), *map(share_text, aucs), leak


def member_note(found: Behaviour) -> str:
    """Which answers these are, and beside what PrivLeak stands."""
    if found.holdout is None or not found.holdout.scores:
        return ""
    one = found.holdout.scores[0]
    counts = count_of(len(one.target_base), "target answer"), count_of(len(one.holdout_base), "hold-out answer")
    beside = "an AUC of 0.5" if math.isnan(one.auc_reference) else "the reference's AUC"
    source = shorten(printable(found.holdout.source or "no stated source"), 120)
    return f"{' and '.join(counts)} (from {source}); PrivLeak beside {beside}."


def reference_lines(found: Behaviour) -> Iterator[str]:
    """The model that never knew, and forget quality beside it; nothing without one."""
    one = found.reference
    if one is not None:
        kind = f", {one.kind}" if one.kind else ""
        yield f"reference: {shorten(printable(one.location), 160)}{printable(kind)}"
    if one is not None and not math.isnan(one.forget_quality):
        yield (
            f"forget quality: {short_number(one.forget_quality)} (p of the Kolmogorov-Smirnov test, that truth ratios"
            " of both are of one distribution)"
        )
