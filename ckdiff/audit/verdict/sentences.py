"""A finding in sentences: which weights or states, in which layers, how much, and what else the drift allows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ckdiff.audit.verdict.location import place_text
from ckdiff.modes import EVERY_MODE
from ckdiff.report.words.numbers import end_text, with_interval
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from ckdiff.audit.verdict.case import Case
    from ckdiff.audit.verdict.location import Place
    from ckdiff.report.schema.verdict import Explanation, Label


TWO_DIGITS = "{:.2f}".format


MEANING: dict[Label, str] = {
    "suppressed": "States suffice to bring the answers back while every weight of the unlearned model stays in place.",
    "values edited": "The value vectors were changed, and putting back these alone brings the answers back.",
    "keys edited": "The keys were changed, and putting back these alone brings the answers back.",
    "attention rerouted": "Attention was changed, and putting back these alone brings the answers back.",
    "ancillary": "What is around the layers was changed (embedding, norms, unembedding), and putting back these alone"
    " brings the answers back.",
}
"""What restoration shows, and no more: it borrows from the base, and so never says what the unlearned model knows."""


def settings_text(case: Case) -> str:
    """A sentence about settings that differ where no weight does; else nothing."""
    found = case.report.compare
    if found is None or not found.config_changes or any(not row.drift.identical for row in found.tensors):
        return ""
    if found.only_in_base or found.only_in_unlearned or found.shape_mismatch:
        return ""
    first = found.config_changes[0]
    return f" No weight differs: the effect is that of settings ({first.file}: {first.key})."


def carried_text(case: Case, label: Label, mode: str, place: Place | None) -> str:
    """A label with what carries it: how much it brings back and takes away, and in which layers."""
    restore, broken = (case.evidence.whole(mode, direction) for direction in ("restore", "break"))
    name = EVERY_MODE[mode].subject
    assert restore is not None
    there = place.rests_on[0] if place is not None and place.single else restore
    where, most = "", ""
    if place is not None and place.layers:
        text = place_text(place)
        where, most = (f" of {text}", "") if place.single else (" in all layers", f"; most of it is in {text}")
    took = "" if broken is None else f", and the unlearned model's take {broken.kl:.2f} of it from the base"
    back = f"The base's {name}{where} bring back {score_text(there)} of what was lost (krs_kl)"
    # States that are put back tell nothing of the weights that made them, whatever the label.
    meaning = MEANING["suppressed" if EVERY_MODE[mode].states else label]
    return f"{meaning} {back}{took}{most}."


WITHOUT_EFFECT = ("identical", "no effect on these questions")


def low_rank_text(case: Case, label: Label) -> str:
    """A sentence about matrices that differ in a few directions only, where the answers changed; else nothing."""
    found = () if case.report.compare is None else case.report.compare.low_rank
    if not found or label in WITHOUT_EFFECT:
        return ""
    least = min(found, key=lambda row: row.rank)
    more = f", and {len(found) - 1} more" if len(found) > 1 else ""
    return (
        f" {printable(least.name)} differs in {least.rank} of {least.full} directions only{more}: a low-rank change, as"
        " an override or an adapter is, which may act on some prompts and leave others as they were."
    )


def score_text(row: Explanation) -> str:
    """A share with its band: `0.85 [0.80, 0.90]`."""
    return with_interval(row.kl, row.kl_low, row.kl_high, TWO_DIGITS)


def surely_text(row: Explanation) -> str:
    """The low end of its band, never more of it than there is: `surely more than 0.79`."""
    return f"surely more than {end_text(row.kl_low, TWO_DIGITS, up=False)}"


def drift_text(case: Case) -> str:
    """The readings that the drift allows where nothing comes back: destroyed, erased, or retrained."""
    unrelated = case.evidence.answers.get("unrelated")
    if unrelated is not None and unrelated.bleu.high < 0.5:
        return "the other answers are gone as well, so that the model is destroyed rather than unlearned"
    cosine = case.evidence.cosine()
    if np.isnan(cosine):
        return "the weights were not compared, so that nothing more can be said"
    if cosine < 0.95:
        return f"the weights moved far (least cosine of a layer {cosine:.2f}), as in a retraining without the facts"
    return "the weights moved little, and which of them took the answers away was not found"
