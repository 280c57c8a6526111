"""How far a campaign is, from its results directory alone: `look(folder)`. It opens no checkpoint and no report."""

from __future__ import annotations

import math
import os
import socket
from collections import Counter
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any

from ckdiff.campaign.run.store import Store, read_results
from ckdiff.campaign.run.tasks import WEIGHTS, name_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ckdiff.campaign.records import Found


@dataclass(frozen=True, slots=True)
class Status:
    """How far a campaign is.

    Attributes:
        done, inconclusive, failed, left: jobs; together all of the plan's.
        running: names of the jobs that run now.
        at_work: somebody does its jobs now.
        seconds: until the last job is done, about; NaN: not known.
        reasons: by name of a job without a result, why.
    """

    name: str
    done: int
    inconclusive: int
    failed: int
    left: int
    running: tuple[str, ...]
    at_work: bool
    seconds: float
    reasons: dict[str, str]


def look(folder: Path) -> Status:
    """How far the campaign of a results directory is.

    Raises:
        CampaignError: it is none, or it is damaged.
    """
    results = read_results([folder])
    store = Store(folder)
    at_work = store.is_at_work()
    running = [str(one.get("name", "?")) for one in store.running() if at_work and _is_alive(one)]
    states = {one: _state(one) for one in results.found}
    counts = Counter(states.values())
    reasons = {
        name_of(one.slot): one.outcome.reason if one.outcome else one.slot.reason
        for one, state in states.items()
        if state in ("inconclusive", "failed")
    }
    seconds = time_left(results.found, max(1, len(running)))
    return Status(
        name=results.name,
        done=counts["done"],
        inconclusive=counts["inconclusive"],
        failed=counts["failed"],
        left=counts[""],
        running=tuple(running),
        at_work=at_work,
        seconds=seconds,
        reasons=reasons,
    )


def _state(one: Found) -> str:
    if one.report is not None:
        return "done"
    if one.slot.reason:
        return "failed"
    return one.outcome.state if one.outcome is not None and one.outcome.state in ("inconclusive", "failed") else ""


def time_left(found: Sequence[Found], workers: int) -> float:
    """Seconds until the last job is done, about; NaN as long as none is.

    By the seconds of jobs of the same kind that are done, else by how heavy the kinds are beside each other.
    """
    told: dict[str, list[float]] = {}
    for one in found:
        if one.report is not None and one.outcome is not None and one.outcome.seconds > 0:
            told.setdefault(one.slot.run, []).append(one.outcome.seconds)
    if not told:
        return math.nan
    means = {run: fmean(values) for run, values in told.items()}
    unit = fmean(mean / WEIGHTS[run] for run, mean in means.items())
    left = [one.slot.run for one in found if not _state(one)]
    return sum(means.get(run, unit * WEIGHTS[run]) for run in left) / workers


def _is_alive(marker: dict[str, Any]) -> bool:
    """Whether the process of a marker is there, as far as that can be told from here."""
    if marker.get("host") != socket.gethostname():
        return True
    try:
        os.kill(int(marker["pid"]), 0)
    except PermissionError:
        return True
    except (OSError, KeyError, ValueError, TypeError, OverflowError):
        return False
    return True
