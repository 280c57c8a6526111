"""What `ckdiff gather` has left, by pair: `read_pairs(campaign, reports)`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ckdiff import read_report
from ckdiff.campaign.gather.gathering import file_name
from ckdiff.errors import CkdiffError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ckdiff.report.schema.behaviour import AnswerSet, HistoryPoint
    from ckdiff.report.schema.campaign import Campaign
    from ckdiff.report.schema.report import Report


@dataclass(frozen=True, slots=True)
class Pair:
    """One concept, one method, and all that was measured on it.

    Attributes:
        method: its group in the campaign.
        digest: of the unlearned checkpoint.
    """

    name: str
    concept: str
    method: str
    digest: str
    report: Report

    @property
    def history(self) -> tuple[HistoryPoint, ...]:
        """What was measured while it was unlearned."""
        return self.report.behaviour.history if self.report.behaviour else ()

    def answers(self, name: str) -> AnswerSet | None:
        """The target or the unrelated answers, where they were asked for."""
        sets = self.report.behaviour.answers if self.report.behaviour else ()
        return next((found for found in sets if found.name == name), None)


def read_pairs(campaign: Campaign, reports: Path) -> list[Pair]:
    """Every pair of a campaign, in its order, with its report out of a folder that `gather --reports` has filled.

    Raises:
        CkdiffError: a report is missing, damaged, or about other weights; or there is not one base.
    """
    known = {pair.name: pair for pair in campaign.pairs}
    if len({pair.base_digest for pair in campaign.pairs}) != 1:
        raise CkdiffError(f"{campaign.name}: its pairs do not have one base; keep one base a campaign")
    found = []
    for cell in campaign.cells:
        path, pair = reports / file_name(cell.pair, cell.concept), known[cell.pair]
        report = read_report(path)
        if report.provenance.unlearned.digest != pair.unlearned_digest:
            raise CkdiffError(f"{path}: is about other weights than the campaign; gather both again, by one command")
        found.append(Pair(pair.name, cell.concept, pair.group, pair.unlearned_digest, report))
    return found


def first_concept(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs of the concept with the most methods, which is what `make_pairs.py` makes of its first."""
    concepts = [pair.concept for pair in pairs]
    return [pair for pair in pairs if pair.concept == max(concepts, key=concepts.count)]
