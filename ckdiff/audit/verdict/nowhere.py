"""Where no one part carries the effect: several together, most of it, or nothing that was put back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ckdiff.audit.verdict.case import Case, Finding
from ckdiff.audit.verdict.enough import explains, in_both_directions
from ckdiff.audit.verdict.evidence import COUNTED
from ckdiff.audit.verdict.location import Place, locate
from ckdiff.audit.verdict.sentences import drift_text, score_text, surely_text
from ckdiff.modes import EVERY_MODE, WEIGHTS, kinds_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.report.schema.verdict import Explanation


SHARE = 0.1
"""Kinds of weights with less than this of the effect are not named as parts of it."""


def mixed(case: Case) -> Finding | None:
    """Several parts carry it together."""
    rows = [row for mode in COUNTED if (row := case.evidence.whole(mode, "restore")) is not None]
    best = max(rows, key=lambda row: row.kl)
    name = EVERY_MODE[best.mode].subject
    if not case.rule("partly", best.kl, f"the most comes back by {name}: {score_text(best)}"):
        return None
    if not case.rule("partly.firm", best.kl_low, surely_text(best)):
        return Finding("inconclusive", f"Too uncertain: {name} bring back {score_text(best)}.")
    pairs = [(mode, *in_both_directions(case.evidence, mode)) for mode in WEIGHTS]
    parts = sorted(((max(pair[1:]), pair) for pair in pairs if max(pair[1:]) >= SHARE), reverse=True)
    shares = ", ".join(
        f"{EVERY_MODE[mode].subject} {restored:.2f} / {broken:.2f}" for _, (mode, restored, broken) in parts
    )
    names = [EVERY_MODE[mode].subject for _, (mode, *_) in parts]
    places = [place for _, (mode, *_) in parts if (place := locate(case.evidence, mode)) is not None]
    layers = tuple(sorted({layer for place in places for layer in place.layers}))
    return Finding(
        "mixed",
        f"No one part carries the effect. By kind of weights, what it brings back / takes away alone:"
        f" {shares or 'nothing'}. The most comes back by {name}: {score_text(best)}.",
        best.mode,
        Place(layers, False, np.nan, ()) if layers else None,
        (best,),
        " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names),
    )


def together(case: Case) -> Finding | None:
    """Several kinds of weights bring the answers back together, and none of them alone: redundant edits."""
    subset = next((name for name in case.evidence.subsets() if explains(case, name)), "")
    if subset:
        rows = (case.evidence.whole(subset, way) for way in ("restore", "break"))
        restore, broken = (row for row in rows if row is not None)
        text = f"put back together they bring back {score_text(restore)}"
        return _redundant(case, subset, kinds_of(subset), text, (restore, broken))
    kinds = case.evidence.kinds_changed()
    if not 2 <= len(kinds) < len(WEIGHTS) or not case.evidence.only_weights_of(kinds):
        return None
    # All of them put back are the base itself, so that this need not be measured.
    return _redundant(case, "", kinds, "nothing else differs: put back together they are the base", ())


def _redundant(
    case: Case, mode: str, kinds: Sequence[str], text: str, decisive: tuple[Explanation, ...]
) -> Finding | None:
    rows = [(kind, case.evidence.whole(kind, "restore")) for kind in kinds]
    alone = ", ".join(f"{EVERY_MODE[kind].subject} {score_text(row)}" for kind, row in rows if row is not None)
    *most, last = (EVERY_MODE[kind].subject for kind in kinds)
    return Finding(
        "mixed",
        f"Each alone does not bring the answers back ({alone}), and {text}: edits that hide"
        " each other, or one training of all of them.",
        mode,
        decisive=decisive,
        name=f"{', '.join(most)} and {last}",
    )


def subsets_untried(case: Case) -> Finding | None:
    """Inconclusive, where several kinds of weights were not put back together: they might bring everything back."""
    lacking = [name for name in case.evidence.subsets() if not case.evidence.complete(name, "restore")]
    if not lacking:
        return None
    return Finding(
        "inconclusive",
        "Nothing that was put back alone is enough, and edits that hide each other were not looked for:"
        f" --mode {','.join(lacking)} --variant whole is missing.",
    )


def not_localised(case: Case) -> Finding | None:
    """Nothing that was put back brings the answers back."""
    rows = [row for mode in COUNTED if (row := case.evidence.whole(mode, "restore")) is not None]
    best = max(rows, key=lambda row: row.kl)
    most = max(rows, key=lambda row: np.inf if np.isnan(row.kl_high) else row.kl_high)
    text = f"{EVERY_MODE[most.mode].subject} bring back {score_text(most)}"
    if not case.rule("ruled out", most.kl_high, f"the highest upper end: {text}"):
        return Finding("inconclusive", f"Too uncertain to say that nothing brings the answers back: {text}.")
    return Finding(
        "not localised",
        f"Nothing that was put back alone brings back half of the answers (the most: {EVERY_MODE[best.mode].subject},"
        f" {score_text(best)}): {drift_text(case)}.",
        decisive=(best,),
    )
