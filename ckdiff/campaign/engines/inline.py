"""The engine that is none: one job after the other, in this process. What ends the process ends the campaign."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.campaign.engines.job import perform

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.campaign.records import Ended, Stop, Task, Ways, Work


def run(tasks: Sequence[Task], work: Work, ended: Ended, stop: Stop, ways: Ways) -> None:
    """Run every task in the order given; `ways` says nothing here."""
    for task in tasks:
        if stop():
            return
        ended(task, perform(work, task, stop))
