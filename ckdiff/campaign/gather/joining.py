"""The reports of a pair and a concept as one, checked and judged: `joined_reports(results)`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ckdiff.audit.gate.policy import parse_policy
from ckdiff.audit.judge import judge_report
from ckdiff.calls.merge import merge_reports
from ckdiff.campaign.records import CampaignError
from ckdiff.campaign.run.store import sha256_of
from ckdiff.report.words.sections import SECTIONS
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from ckdiff.audit.gate.records import Policy
    from ckdiff.campaign.records import Found, Results, Slot
    from ckdiff.report.schema.report import Provenance, Report

    Read = Callable[[Path], Report]


ORDER = ("compare", "audit", "behave", "probe", "attack", "depth")
"""Reports are put together in this order: what was measured on purpose stands before what an audit measured too."""


HOLDS = {row.command: name for name, row in SECTIONS.items()}
"""By run, what its report cannot be without."""


REMEDY = "remove it and run the campaign again"


@dataclass(frozen=True, slots=True)
class Joined:
    """Everything that was measured of one pair and one concept, as one report.

    Attributes:
        report: with a verdict.
        versions: of each report that it is made of.
    """

    pair: str
    concept: str
    report: Report
    versions: tuple[Mapping[str, str], ...]


def jobs_by_place(results: Results) -> dict[tuple[str, str], tuple[Found, ...]]:
    """By pair and concept the jobs that are about it, both in the plan's order.

    A pair's comparison is about each of its concepts. Where a pair has nothing else, its one concept is "".
    """
    pairs: dict[str, list[Found]] = {}
    for found in results.found:
        pairs.setdefault(found.slot.pair, []).append(found)
    return {
        (pair, concept): tuple(one for one in rows if one.slot.concept == concept or _is_whole(one.slot))
        for pair, rows in pairs.items()
        for concept in dict.fromkeys(one.slot.concept for one in rows if not _is_whole(one.slot)) or ("",)
    }


def joined_reports(results: Results, policy: Policy | None, read: Read) -> Iterator[Joined]:
    """Each pair and concept of which something was measured, in the plan's order.

    The verdict of an audit stays, where nothing was measured beside it and no other policy is given.

    Raises:
        ReportError: a report was edited or is damaged.
        CampaignError: a report belongs to another job.
        PolicyError: a pair's policy cannot be read.
    """
    # A pair's comparison is read once, and forgotten with the pair.
    whole: dict[Path, Report] = {}
    last = None
    for (pair, concept), jobs in jobs_by_place(results).items():
        whole, last = (whole if pair == last else {}), pair
        done = sorted((one for one in jobs if one.report is not None), key=lambda one: ORDER.index(one.slot.run))
        reports = [_check_report(one, read, whole) for one in done]
        if not reports:
            continue
        report = reports[0]
        for newer in reports[1:]:
            report = merge_reports(report, newer)
        own = policy is None and done[-1].slot.run == "audit"
        report = _judge(report, policy or policy_of(jobs[0].slot), own)
        yield Joined(pair, concept, report, tuple(one.versions for one in reports))


def policy_of(slot: Slot) -> Policy | None:
    """The policy that the plan names for a pair."""
    return parse_policy(slot.policy, slot.policy_source or "policy of the plan") if slot.policy else None


def digest_of(path: Path) -> str:
    """sha256 of a report's file.

    Raises:
        CampaignError: it is gone, or cannot be read.
    """
    try:
        return sha256_of(path)
    except OSError as error:
        raise CampaignError(f"{printable(path)}: cannot be read ({error.strerror}); run the campaign again") from error


def _is_whole(slot: Slot) -> bool:
    return slot.run == "compare" and not slot.concept


def _judge(report: Report, held: Policy | None, own: bool) -> Report:
    """The report with a verdict: its own where that counts, and its gate is of the same policy; else a new one."""
    verdict = report.verdict if own else None
    gate = None if verdict is None else verdict.gate
    if verdict is not None and (held is None or (gate is not None and gate.digest == held.digest)):
        return report
    stored = None if report.verdict is None else report.verdict.gate
    if held is not None and held.folder is None and stored is not None and stored.digest == held.digest:
        # Whoever judged it knew where the policy's files lie.
        held = replace(held, files=stored.files)
    return judge_report(report, held)


def _check_report(found: Found, read: Read, whole: dict[Path, Report]) -> Report:
    """The report of a job, which it must be, under the names that the plan gives the checkpoints."""
    path, slot = found.report, found.slot
    assert path is not None
    if path in whole:
        return whole[path]
    report, name = read(path), printable(path)
    if found.outcome is not None and found.outcome.sha256 and digest_of(path) != found.outcome.sha256:
        raise CampaignError(f"{name}: is not the report that its job wrote (another sha256); {REMEDY}")
    for side, wanted in (("base", slot.base_digest), ("unlearned", slot.unlearned_digest)):
        digest = getattr(report.provenance, side).digest
        if digest is None or digest != wanted:
            raise CampaignError(
                f"{name}: is about other weights than its job ({side}: sha256 {printable(digest)[:12]}, the plan's"
                f" {printable(wanted)[:12] or 'not known'}); {REMEDY}"
            )
    if getattr(report, HOLDS[slot.run]) is None or not report.complete:
        lacks = f"holds no {HOLDS[slot.run]}" if report.complete else "is unfinished"
        raise CampaignError(f"{name}: {lacks}, and is no report of `{slot.run}`; {REMEDY}")
    report = replace(report, provenance=_rename_sides(report.provenance, slot))
    if _is_whole(slot):
        whole[path] = report
    return report


def _rename_sides(provenance: Provenance, slot: Slot) -> Provenance:
    """The same weights, where this pair has them: two pairs may name them by different paths."""
    base, unlearned = provenance.base, provenance.unlearned
    return replace(
        provenance, base=replace(base, location=slot.base), unlearned=replace(unlearned, location=slot.unlearned)
    )
