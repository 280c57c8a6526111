"""Campaigns as functions: `run_campaign(read_plan(path))`, then `gather([folder])`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.audit.gate.records import Policy
    from ckdiff.campaign.records import Plan, Ways
    from ckdiff.campaign.run.run import Finished, Watcher
    from ckdiff.report.schema.campaign import Campaign


def run_campaign(
    plan: Plan,
    engine: str = "local",
    ways: Ways | None = None,
    watcher: Watcher | None = None,
    shard: tuple[int, int] | None = None,
    retry: bool = False,
) -> Finished:
    """Run every job of a plan that is not done; see `run.run`.

    Raises:
        CkdiffError: nothing was started.
    """
    from ckdiff.campaign.records import Ways
    from ckdiff.campaign.run.run import Watcher, run

    return run(plan, engine, ways or Ways(), watcher or Watcher(), shard, retry)


def gather(folders: Sequence[str | Path], policy: Policy | None = None) -> Campaign:
    """The results directories of one plan as one report; see `gathering.gather`.

    Raises:
        CkdiffError: they are no results of one plan, or a report was changed after it was written.
    """
    from ckdiff.campaign.gather.gathering import gather as put_together
    from ckdiff.campaign.run.store import read_results

    return put_together(read_results([Path(folder) for folder in folders]), policy)
