"""Whether one mode alone carries the effect: `explains(case, mode)`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ckdiff.audit.verdict.evidence import STATES
from ckdiff.audit.verdict.rules import RULES
from ckdiff.audit.verdict.sentences import score_text, surely_text
from ckdiff.modes import EVERY_MODE

if TYPE_CHECKING:
    from ckdiff.audit.verdict.case import Case
    from ckdiff.audit.verdict.evidence import Evidence
    from ckdiff.report.schema.verdict import Explanation


def explains(case: Case, mode: str) -> bool:
    """Whether a mode alone brings the answers back, and of the unlearned model alone takes them away.

    What has the scores but not surely is noted as unsure.
    """
    restore, broken = (case.evidence.whole(mode, direction) for direction in ("restore", "break"))
    if restore is None:
        return False
    name = EVERY_MODE[mode].subject
    if not case.rule("restores", restore.kl, f"{name} of the base bring back {score_text(restore)}"):
        return False
    if broken is None:
        case.unsure.append(f"{name} bring back {score_text(restore)}, but --direction break was not measured")
        return False
    if mode not in STATES and not all(case.evidence.complete(mode, way) for way in ("restore", "break")):
        # The best window alone may be an edit's, and hide what stands beside it.
        case.unsure.append(f"{name} bring back {score_text(restore)}, but --variant whole was not measured")
        return False
    if not case.rule("produces", broken.kl, f"{name} of the unlearned model take away {score_text(broken)}"):
        return False
    # Weights that are surely enough when they are put back have been edited, however few questions show it.
    states = mode in STATES
    if states and not case.rule("produces.firm", broken.kl_low, f"{surely_text(broken)} of it"):
        case.unsure.append(f"{name} of the unlearned model take away {score_text(broken)}")
        return False
    wrong = case.evidence.wrong_prompt(restore)
    brought = f"{wrong:.2f} of that" if wrong > 0 else "nothing"
    if not np.isnan(wrong) and not case.rule("specific", wrong, f"{name} of another question bring back {brought}"):
        return False
    if not _answers_return(case, name, restore):
        return False
    firm = case.rule("restores.firm", restore.kl_low, f"{surely_text(restore)} by {name}")
    centred = "not measured" if np.isnan(restore.centred) else f"{restore.centred:.2f}"
    real = case.rule("restores.centred", restore.centred, f"krs_centred {centred} by {name}")
    if not firm or not real:
        case.unsure.append(f"{name} bring back {score_text(restore)}, krs_centred {centred}")
    return firm and real


def _answers_return(case: Case, name: str, restore: Explanation) -> bool:
    """Whether a loss that has a bound says the same, and answers come back whole; what was not measured says nothing.

    A model that is sure of what is wrong has so great a KL that less of it already looks like most of a recovery.
    """
    bounded = np.isnan(restore.js) or case.rule("restores.js", restore.js, f"krs_js {restore.js:.2f} by {name}")
    text = f"{restore.returned:.0%} of the lost answers come back whole by {name}"
    back = np.isnan(restore.returned) or case.rule("returned", restore.returned, text)
    return bounded and back


def in_both_directions(evidence: Evidence, mode: str) -> tuple[float, float]:
    """krs_kl of a mode in the whole model in both directions; 0 where it was not measured."""
    rows = (evidence.whole(mode, direction) for direction in ("restore", "break"))
    restored, broken = (0.0 if row is None else row.kl for row in rows)
    return restored, broken


def weak(case: Case, mode: str) -> bool:
    """Whether a mode surely brings back, or takes away, less than half."""
    found = [row for way in ("restore", "break") if (row := case.evidence.whole(mode, way)) is not None]
    return bool(found) and min(row.kl for row in found) < RULES["partly"].threshold
