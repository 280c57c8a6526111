"""A new section put into an older report of the same pair."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ckdiff.errors import ReportError
from ckdiff.report.words.sections import MEASURED

if TYPE_CHECKING:
    from ckdiff.report.schema.probe import Probe
    from ckdiff.report.schema.report import Report


SCOPE = ("modes", "variants", "directions", "neurons")
"""Settings that say which runs were made; the others say how, and only equals can stand in one report."""


def merged(existing: Report | None, found: Report) -> Report:
    """A report with a new probe, put into an older report of the same pair; see `joined` and `combined`."""
    if existing is None or found.probe is None:
        return found
    return replace(joined(existing, found), probe=combined(existing.probe, found.probe))


def joined(existing: Report, found: Report) -> Report:
    """A report of a pair, put into an older one of the same pair: what is new replaces what it replaces.

    Raises:
        ReportError: the older one is about other weights.
    """
    for side in ("base", "unlearned"):
        old, new = getattr(existing.provenance, side), getattr(found.provenance, side)
        if old.location != new.location:
            raise ReportError(f"the report is about {old.location}, not {new.location}; use -o FILE, or --overwrite")
        if old.digest and new.digest and old.digest != new.digest:
            raise ReportError(
                f"{new.location}: its weights have changed since the report was written (sha256 {old.digest[:12]}, now"
                f" {new.digest[:12]}); use -o FILE, or --overwrite"
            )
    provenance = found.provenance if found.provenance.base.digest else existing.provenance
    return replace(
        found,
        provenance=provenance,
        **{name: getattr(found, name) or getattr(existing, name) for name in MEASURED},
        versions={**existing.versions, **found.versions},
    )


def combined(older: Probe | None, newer: Probe) -> Probe:
    """Two probes of one pair as one, where they asked the same questions in the same way; else the newer alone."""
    if older is None or not comparable(older, newer):
        return newer
    again = {(run.direction, run.mode, run.variant) for run in newer.runs}
    kept = tuple(run for run in older.runs if (run.direction, run.mode, run.variant) not in again)
    names = {(control.name, control.direction, control.mode, control.variant) for control in newer.controls}
    controls = tuple(row for row in older.controls if (row.name, row.direction, row.mode, row.variant) not in names)
    settings = {**older.settings, **newer.settings}
    for key in SCOPE:
        if key in older.settings and key in newer.settings:
            both = (*older.settings[key].split(","), *newer.settings[key].split(","))
            settings[key] = ",".join(dict.fromkeys(both))
    notes = tuple(dict.fromkeys((*older.notes, *newer.notes)))
    # A run made again has the same numbers, so that what was found in it stays true.
    found = {(one.direction, one.layer < 0) for one in newer.neurons}
    neurons = tuple(one for one in older.neurons if (one.direction, one.layer < 0) not in found) + newer.neurons
    runs, controls = kept + newer.runs, controls + newer.controls
    return replace(newer, runs=runs, controls=controls, settings=settings, notes=notes, neurons=neurons)


def comparable(older: Probe, newer: Probe) -> bool:
    """Whether the runs of two probes can stand in one report."""

    def how(found: Probe) -> dict[str, str]:
        return {key: value for key, value in found.settings.items() if key not in SCOPE}

    def asked(found: Probe) -> list[tuple[str, tuple[int, ...]]]:
        return [(question.text, question.answer_ids) for question in found.questions]

    return how(older) == how(newer) and asked(older) == asked(newer)
