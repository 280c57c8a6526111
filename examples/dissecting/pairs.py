"""The pairs that a campaign or `run.py` has measured, and their curves as arrays [pair, layer]."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jobs import REPORT, notes

from ckdiff import read_report
from ckdiff.campaign.gathering import file_name
from ckdiff.errors import CkdiffError
from ckdiff.report.probe_text import curve

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ckdiff.report.schema import AnswerSet, ProbeRun, Report
    from ckdiff.shapes import Float64, Int64

GATHERED = "reports"
"""Where `ckdiff gather --reports` puts the report of each pair, below OUT."""
METHODS = ("graddiff", "dpo", "npo", "npo_kl")
"""In the order in which everything shows them."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One concept, one method, and everything that was measured.

    Attributes:
        name: of the job's directory.
        data: name and sha256 of the file that holds the concept.
        seconds: by step how long it took.
        digest: sha256 of the report's file.
    """

    name: str
    concept: str
    method: str
    report: Report
    data: Mapping[str, str]
    seconds: Mapping[str, float]
    digest: str

    def run(self, mode: str, variant: str) -> ProbeRun | None:
        """The sweep of a mode and a variant in direction `restore`, where it was made."""
        runs = self.report.probe.runs if self.report.probe else ()
        found = [run for run in runs if (run.direction, run.mode, run.variant) == ("restore", mode, variant)]
        return found[0] if found else None

    def answers(self, name: str) -> AnswerSet | None:
        """The target or the unrelated answers, where they were asked for."""
        sets = self.report.behaviour.answers if self.report.behaviour else ()
        return next((found for found in sets if found.name == name), None)


def read_pairs(out: Path) -> list[Pair]:
    """Every job with a report, by concept and method.

    Raises:
        CkdiffError: there is none, one cannot be read, or they are not about one base.
    """
    folders = [path.parent for path in sorted(out.glob("*/job.json"))]
    found = [_pair(folder, place) for folder in folders if (place := _report(folder)) is not None]
    if not found:
        raise CkdiffError(f"{out}: holds no reports; `ckdiff gather --reports {out / GATHERED}` or `run.py` makes them")
    bases = {pair.report.provenance.base.digest for pair in found}
    if len(bases) != 1:
        raise CkdiffError(f"{out}: its reports are about {len(bases)} different bases; keep one base a directory")
    return sorted(found, key=lambda pair: (pair.concept, METHODS.index(pair.method)))


def _report(folder: Path) -> Path | None:
    """Where the report of a pair is: what a campaign has gathered, or else what `run.py` has measured."""
    gathered = folder.parent / GATHERED / file_name(folder.name, str(notes(folder).get("concept", "")))
    return next((path for path in (gathered, folder / REPORT) if path.exists()), None)


def _pair(folder: Path, path: Path) -> Pair:
    kept = notes(folder)
    try:
        concept, method, data = str(kept["concept"]), str(kept["method"]), dict(kept["data"])
        seconds = {step: float(value["seconds"]) for step, value in kept["steps"].items()}
    except (KeyError, TypeError, ValueError) as error:
        raise CkdiffError(f"{folder}: job.json does not say what was done; make it with run.py") from error
    if method not in METHODS:
        raise CkdiffError(f"{folder}: no method {method[:40]!r}; there are {', '.join(METHODS)}")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Pair(folder.name, concept, method, read_report(path), data, seconds, digest)


# ------------------------------------------------------------------------------------------------------------- chosen


def probed(pairs: Sequence[Pair], method: str | None = None) -> list[Pair]:
    """The pairs that were probed, of one method or of all."""
    return [pair for pair in pairs if pair.report.probe and method in (None, pair.method)]


def first_concept(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs of the concept with the most methods, which is what `run.py` makes of its first."""
    concepts = [pair.concept for pair in pairs]
    most = max(concepts, key=concepts.count)
    return [pair for pair in pairs if pair.concept == most]


def centres(pairs: Sequence[Pair], mode: str, variant: str) -> Int64:
    """The window centres of a sweep, the same in every pair that has it; empty where none has.

    Raises:
        CkdiffError: they differ, so that nothing can be averaged.
    """
    found = [run.layers for pair in pairs if (run := pair.run(mode, variant)) is not None]
    if any(not np.array_equal(found[0], layers) for layers in found):
        raise CkdiffError(f"{mode} {variant}: the pairs were probed in different windows; probe them in the same ones")
    return found[0] if found else np.array([], dtype=np.int64)


def curves(pairs: Sequence[Pair], mode: str, variant: str, score: str) -> Float64:
    """A score, or `top1`, of every concept that has the sweep [concept, layer]; a concept's methods are averaged."""
    rows: dict[str, list[Any]] = {}
    for pair in pairs:
        if (run := pair.run(mode, variant)) is not None:
            rows.setdefault(pair.concept, []).append(run.top1 if score == "top1" else curve(run, score).score)
    layers = len(centres(pairs, mode, variant))
    return np.array([np.mean(values, axis=0) for values in rows.values()], dtype=float).reshape(-1, layers)
