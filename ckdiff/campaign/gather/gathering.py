"""Many reports as one: `gather(read_results([folder]))`.

    results  ->  a report for each pair and concept, judged  ->  arrays over pairs and concepts, averages, gates

The plan's order is the order of everything, so that neither the order in which jobs ended nor that of directories
changes anything.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING

import numpy as np

from ckdiff.campaign.gather.averages import average_run, group_mean
from ckdiff.campaign.gather.cells import piece
from ckdiff.campaign.gather.joining import digest_of, jobs_by_place, joined_reports
from ckdiff.campaign.gather.remarks import Contents, remarks
from ckdiff.campaign.gather.sweeps import sweeps
from ckdiff.campaign.records import CampaignError
from ckdiff.report.hdf5.file import read_report
from ckdiff.report.schema.campaign import (
    ALL,
    DRIFTS,
    MEASURES,
    Campaign,
    Cell,
    CellMeasure,
    JobRecord,
    PairDrift,
    PairRecord,
)
from ckdiff.report.schema.comparison import COMPONENTS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ckdiff.audit.gate.records import Policy
    from ckdiff.campaign.gather.averages import Averaged
    from ckdiff.campaign.gather.cells import Piece
    from ckdiff.campaign.gather.joining import Read
    from ckdiff.campaign.gather.sweeps import Sweep
    from ckdiff.campaign.records import Found, Results
    from ckdiff.report.schema.campaign import GroupMean, JobState
    from ckdiff.report.schema.report import Report
    from ckdiff.shapes import Float64


LONGEST = 80
"""Characters of a pair's or a concept's name in a file's name."""


PLAIN = re.compile(rf"[a-z0-9-]{{1,{LONGEST}}}")
"""Names that stand in a file's name as they are."""


def gather(results: Results, policy: Policy | None = None, read: Read = read_report) -> Campaign:
    """Everything that a campaign found, as one report.

    Args:
        results: what was kept of it.
        policy: what every pair is held against, in the place of the plan's own policies.
        read: reads a report's file.

    Raises:
        ReportError: a report was edited or is damaged.
        CampaignError: a report belongs to another job, or pairs do not belong into one campaign.
        PolicyError: a policy of the plan cannot be read.
    """
    wanted, jobs = jobs_by_place(results), tuple(map(_job, results.found))
    concepts = tuple(dict.fromkeys(concept for _, concept in wanted))
    pieces, used = _read_pieces(results, policy, read)
    pairs = _pairs(results.found, pieces)
    names, groups = [pair.name for pair in pairs], groups_of(pairs)
    found = sweeps(pieces, names, concepts)
    measures = tuple(_measure(name, pieces, names, concepts) for name in MEASURES)
    averages, means = _average_groups(groups, found, measures)
    cells = tuple(_cells(wanted, pieces, policy is not None))
    runs = {place: frozenset(one.slot.run for one in rows if one.report is not None) for place, rows in wanted.items()}
    return Campaign(
        name=results.name,
        plan=results.plan,
        pairs=pairs,
        concepts=concepts,
        jobs=jobs,
        cells=cells,
        drift=_drift(pieces, names),
        measures=measures,
        runs=tuple(sweep.run for sweep in found),
        averages=tuple(one.run for one in averages),
        means=means,
        outcome=_outcome(cells),
        complete=all(job.state == "done" for job in jobs if job.required),
        notes=remarks(Contents(pairs, concepts, jobs, runs, pieces, found, groups, averages, means, used)),
        versions={name: ", ".join(numbers) for name, numbers in used.items()},
    )


def _read_pieces(results: Results, policy: Policy | None, read: Read) -> tuple[list[Piece], dict[str, list[str]]]:
    """Of every pair and concept what a campaign keeps, and all versions of what made it; no report stays open."""
    pieces: list[Piece] = []
    versions: list[Mapping[str, str]] = []
    for one in joined_reports(results, policy, read):
        pieces.append(piece(one.pair, one.concept, one.report))
        versions += one.versions
    return pieces, _versions(versions)


def merged_reports(
    results: Results, policy: Policy | None = None, read: Read = read_report
) -> Iterator[tuple[str, str, Report]]:
    """Each pair and concept of which something was measured, with all of it as one report and its verdict.

    These are the reports that `gather` rests on, and it takes and raises the same; a report is read when it is come to.
    """
    for one in joined_reports(results, policy, read):
        yield one.pair, one.concept, one.report


def file_name(pair: str, concept: str) -> str:
    """A file name for the report of a pair and a concept; no two have one, whatever characters are in their names.

    >>> file_name("lotr-npo", "hobbits"), file_name("lotr-npo", "")
    ('lotr-npo_hobbits.h5', 'lotr-npo.h5')
    >>> file_name("lotr-npo", "The Lord of the Rings")
    'lotr-npo_The-Lord-of-the-Rings.94a0ebedb740.h5'
    """
    names = [name for name in (pair, concept) if name]
    if all(PLAIN.fullmatch(name) for name in names):
        return f"{'_'.join(names)}.h5"
    # Cut, replaced and told apart by case alone (which not every disk does): the digest says which one it is.
    words = "_".join(re.sub(r"[^A-Za-z0-9]+", "-", name)[:LONGEST] for name in names)
    digest = hashlib.sha256(json.dumps([pair, concept]).encode()).hexdigest()
    return f"{words}.{digest[:12]}.h5"


def groups_of(pairs: Sequence[PairRecord]) -> dict[str, list[int]]:
    """The groups that are averaged, each with its pairs as places: every group that has a name, and `ALL`.

    `ALL` is left out where it would say the same as the one group that there is.

    Raises:
        CampaignError: a group has the name of all.
    """
    names = dict.fromkeys(pair.group for pair in pairs)
    if ALL in names:
        raise CampaignError(f"group {ALL!r}: is what every pair together is called; give the group another name")
    found = {name: [place for place, pair in enumerate(pairs) if pair.group == name] for name in names if name}
    if len(names) > 1 or "" in names:
        found[ALL] = list(range(len(pairs)))
    return found


def _pairs(found: Sequence[Found], pieces: Sequence[Piece]) -> tuple[PairRecord, ...]:
    types = {one.pair: one.model_type for one in reversed(pieces) if one.model_type}
    rows: dict[str, list[Found]] = {}
    for one in found:
        rows.setdefault(one.slot.pair, []).append(one)
    return tuple(
        PairRecord(
            name,
            own[0].slot.group,
            any(one.slot.required for one in own),
            types.get(name, ""),
            own[0].slot.base,
            own[0].slot.unlearned,
            next((one.slot.base_digest for one in own if one.slot.base_digest), ""),
            next((one.slot.unlearned_digest for one in own if one.slot.unlearned_digest), ""),
        )
        for name, own in rows.items()
    )


def _job(found: Found) -> JobRecord:
    slot, (state, reason) = found.slot, _state(found)
    sha256 = "" if found.report is None else digest_of(found.report)
    return JobRecord(slot.pair, slot.concept, slot.run, slot.required, state, reason, slot.key, sha256)


def _state(found: Found) -> tuple[JobState, str]:
    ended = found.outcome
    if found.report is not None:
        return "done", ""
    if found.slot.reason:
        return "failed", found.slot.reason
    if ended is None:
        return "missing", "not run"
    if ended.state in ("failed", "inconclusive"):
        return ended.state, ended.reason
    return "missing", "its report is not here" if ended.state == "done" else ended.reason or "stopped before its end"


def _cells(wanted: Mapping[tuple[str, str], Sequence[Found]], pieces: Sequence[Piece], given: bool) -> Iterator[Cell]:
    """A row for each pair and concept; of what a required pair has not shown nobody can say that it passed."""
    there = {(one.pair, one.concept): one.cell for one in pieces}
    for place, jobs in wanted.items():
        slot = jobs[0].slot
        held = slot.required and (given or bool(slot.policy))
        gate, checks = ("inconclusive", "measured: nothing was measured") if held else ("", "")
        yield there.get(place) or Cell(*place, "", "", "", "", gate, checks, 0)


def _outcome(cells: Sequence[Cell]) -> str:
    gates = {cell.gate for cell in cells}
    return next((name for name in ("failed", "inconclusive", "passed") if name in gates), "")


def _measure(name: str, pieces: Sequence[Piece], pairs: Sequence[str], concepts: Sequence[str]) -> CellMeasure:
    arrays = np.full((3, len(pairs), len(concepts)), np.nan)
    for one in pieces:
        found = one.measures[name]
        arrays[:, pairs.index(one.pair), concepts.index(one.concept)] = found.value, found.low, found.high
    return CellMeasure(name, *arrays)


def _drift(pieces: Sequence[Piece], pairs: Sequence[str]) -> PairDrift | None:
    """The drift of each pair, from the first of its reports that has one: all of them are about the same weights."""
    moved = {one.pair: one.drift for one in reversed(pieces) if one.drift}
    if not moved:
        return None
    there = dict.fromkeys(name for pair in pairs for name in moved.get(pair, ()))
    components = tuple(sorted(there, key=_rank))
    arrays: dict[str, Float64] = {field: np.full((len(pairs), len(components)), np.nan) for field in DRIFTS}
    for row, pair in enumerate(pairs):
        for name, drift in moved.get(pair, {}).items():
            for field, values in arrays.items():
                values[row, components.index(name)] = getattr(drift, field)
    return PairDrift(components, **arrays)


def _rank(component: str) -> int:
    return COMPONENTS.index(component) if component in COMPONENTS else len(COMPONENTS)


def _average_groups(
    groups: Mapping[str, Sequence[int]], found: Sequence[Sweep], measures: Sequence[CellMeasure]
) -> tuple[list[Averaged], tuple[GroupMean, ...]]:
    """The averages of sweeps and of measures, group by group."""
    runs = [average_run(group, members, sweep) for group, members in groups.items() for sweep in found]
    means = [group_mean(group, members, measure) for group, members in groups.items() for measure in measures]
    return [one for one in runs if one is not None], tuple(one for one in means if one is not None)


def _versions(versions: Sequence[Mapping[str, str]]) -> dict[str, list[str]]:
    names = sorted({name for one in versions for name in one})
    return {name: sorted({one[name] for one in versions if name in one}) for name in names}
