"""A new section put into an older report of the same pair."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

from ckdiff.errors import ReportError
from ckdiff.modes import is_planned, without_window
from ckdiff.report.words.sections import JUDGED, MEASURED
from ckdiff.scoring.settings import NEEDED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ckdiff.report.schema.behaviour import Behaviour
    from ckdiff.report.schema.probe import Probe, ProbeRun
    from ckdiff.report.schema.report import Report


SCOPE = ("modes", "variants", "directions", "neurons")
"""Settings that list which runs were made."""


WHICH = (*SCOPE, "windows")
"""Settings that say which runs were made; the others say how, and only equals can stand in one report."""


def merge_reports(existing: Report | None, found: Report) -> Report:
    """A report of a pair, put into an older one of the same pair: new sections replace old ones, probes add up.

    A verdict stays where nothing that it rests on is new.

    Raises:
        ReportError: the older one is about other weights.
    """
    if existing is None:
        return found
    check_same_weights(existing, found)
    return replace(
        found,
        provenance=found.provenance if found.provenance.base.digest else existing.provenance,
        **{name: _merge(name, getattr(existing, name), getattr(found, name)) for name in MEASURED},
        verdict=found.verdict if _is_judged_anew(found) else found.verdict or existing.verdict,
        versions={**existing.versions, **found.versions},
    )


def _is_judged_anew(newer: Report) -> bool:
    """Whether it has a section that verdicts rest on."""
    return any(getattr(newer, name) is not None for name in JUDGED)


def _merge(name: str, older: Any, newer: Any) -> Any:
    """A section, new or old."""
    return combine_probes(older, newer) if name == "probe" and newer is not None else newer or older


def check_same_weights(existing: Report, found: Report) -> None:
    """Refuse to put a report into an older one that is about other weights.

    Raises:
        ReportError: and which checkpoint it is about.
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


def replaced_parts(older: Report | None, newer: Report) -> Iterator[str]:
    """The parts of an older report that a newer one takes the place of, each as a remark: "its earlier ..."."""
    if older is None:
        return
    if older.probe is not None and newer.probe is not None and not comparable(older.probe, newer.probe):
        yield "its earlier probe asked otherwise and is replaced"
    if older.behaviour is not None and newer.behaviour is not None and _how(older.behaviour) != _how(newer.behaviour):
        yield "its earlier answers were to other questions or settings and are replaced"
    if older.attack is not None and newer.attack is not None and older.attack.settings != newer.attack.settings:
        yield "its earlier attacks were others, or asked otherwise, and are replaced"
    if older.depth is not None and newer.depth is not None and older.depth.settings != newer.depth.settings:
        yield "its earlier depth was of other questions or settings and is replaced"
    if older.discovery and newer.discovery and older.discovery.settings != newer.discovery.settings:
        yield "its earlier discovery was on other texts or candidates and is replaced"
    if older.verdict is not None and _is_judged_anew(newer):
        yield "its verdict was about older measurements and is removed; `ckdiff gate --save` judges"


def _how(said: Behaviour) -> tuple[object, ...]:
    """Everything that determines the answers: questions by digest, and settings."""
    parts = (*said.answers, said.choices, said.neutral)
    return (dict(said.settings), *(None if part is None else part.digest for part in parts))


def combine_probes(older: Probe | None, newer: Probe) -> Probe:
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
    if settings.pop("windows", None) == NEEDED and _lacks_windows(settings, (*kept, *newer.runs)):
        settings["windows"] = NEEDED
    notes = tuple(dict.fromkeys((*older.notes, *newer.notes)))
    # A run made again has the same numbers, so that what was found in it stays true.
    found = {(one.direction, one.layer < 0) for one in newer.neurons}
    neurons = tuple(one for one in older.neurons if (one.direction, one.layer < 0) not in found) + newer.neurons
    runs, controls = kept + newer.runs, controls + newer.controls
    return replace(newer, runs=runs, controls=controls, settings=settings, notes=notes, neurons=neurons)


def _lacks_windows(settings: Mapping[str, str], runs: Iterable[ProbeRun]) -> bool:
    """Whether some curve of what was asked for is not there."""
    held = {(run.direction, run.mode, run.variant) for run in runs}
    asked = product(*(settings.get(key, "").split(",") for key in ("directions", "modes", "variants")))
    curves = (one for one in asked if is_planned(*one[1:]) and not without_window(*one[1:]))
    return not held.issuperset(curves)


def comparable(older: Probe, newer: Probe) -> bool:
    """Whether the runs of two probes can stand in one report."""

    def how(found: Probe) -> dict[str, str]:
        return {key: value for key, value in found.settings.items() if key not in WHICH}

    def texts_and_ids(found: Probe) -> list[tuple[str, tuple[int, ...]]]:
        return [(question.text, question.answer_ids) for question in found.questions]

    return how(older) == how(newer) and texts_and_ids(older) == texts_and_ids(newer)
