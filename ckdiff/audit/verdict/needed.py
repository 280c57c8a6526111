"""Whose windows a verdict needs: `next_modes(report)`, until nothing is new, so that `lacking_modes(report)` is empty.

Scores of the whole model say which modes matter. Windows say where, and a verdict asks that of the modes alone that it
names: so an audit puts everything back in the whole model first, and sweeps windows of what the verdict then asks for
(`windows = "needed"`). What it rests on is there in the end, with the same scores as if every window had been swept;
fewer curves have narrower bands over all of them, which can decide where it is close.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.audit.verdict.case import Case
from ckdiff.audit.verdict.evidence import OPEN, STATES, WHOLE, Evidence
from ckdiff.audit.verdict.verdict import decide
from ckdiff.modes import without_window
from ckdiff.scoring.settings import EVERY, NEEDED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.report.schema.probe import Probe
    from ckdiff.report.schema.report import Report


def sought_modes(report: Report) -> tuple[str, ...]:
    """Modes whose windows the verdict of a report asks for, measured or not, in the order in which it asks."""
    case = Case(report, Evidence(report))
    decide(case)
    return tuple(mode for mode in case.evidence.sought if not without_window(mode, OPEN))


def lacking_modes(report: Report, sought: Sequence[str] | None = None) -> tuple[str, ...]:
    """Of the sought modes those without windows in some direction in which they were put back in the whole model.

    Args:
        report: what was measured.
        sought: as `sought_modes` gives them, where they are known.
    """
    held = set() if report.probe is None else {(run.direction, run.mode, run.variant) for run in report.probe.runs}
    whole = [(direction, mode) for direction, mode, variant in held if variant == WHOLE]
    lacking = {mode for direction, mode in whole if (direction, mode, OPEN) not in held}
    return tuple(mode for mode in (sought_modes(report) if sought is None else sought) if mode in lacking)


def next_modes(report: Report) -> tuple[str, ...]:
    """Modes whose windows the verdict has looked at, and those that are to be swept next.

    Of states that lack windows only the smallest: a larger one is looked at where no window of the smaller is enough.
    """
    sought = sought_modes(report)
    later = [mode for mode in lacking_modes(report, sought) if mode in STATES][1:]
    return tuple(mode for mode in sought if mode not in later)


def windows_of(probe: Probe) -> str:
    """Whose windows a probe has swept: `NEEDED` or `EVERY`, which older reports mean."""
    return NEEDED if probe.settings.get("windows") == NEEDED else EVERY
