"""A campaign from its plan to its last job: `run(plan, engine, ways, ...)`.

Jobs whose report is there are skipped; an engine does the others. What ended is kept at once, so that an interruption
costs what was in flight.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ckdiff.cache import Cache
from ckdiff.campaign.engines import ENGINES
from ckdiff.campaign.run.store import open_store
from ckdiff.campaign.run.tasks import jobs, name_of
from ckdiff.campaign.run.work import perform

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ckdiff.campaign.records import Outcome, Plan, Stop, Task, Ways
    from ckdiff.campaign.run.store import Store
    from ckdiff.campaign.run.tasks import Jobs


@dataclass(slots=True)
class Watcher:
    """The one who is told how a campaign goes, and asked whether to stop.

    Attributes:
        hashing: called with (bytes hashed, bytes in all).
        begun: called with what is about to run: (tasks, those that were done before).
        ended: called with each job as it ends.
        stop: asked often; True ends the campaign soon, keeping what is done.
    """

    hashing: Callable[[int, int], None] = lambda done, total: None
    begun: Callable[[Sequence[Task], int], None] = lambda tasks, before: None
    ended: Callable[[Task, Outcome], None] = lambda task, outcome: None
    stop: Stop = lambda: False


@dataclass(slots=True)
class Finished:
    """How far a campaign has come.

    Attributes:
        total: jobs (of this shard).
        before: that were done before this call.
        outcomes: of the jobs that ended in it, by key.
        older: of the jobs that had failed before and were not tried again, by key.
        unreadable: names of jobs whose checkpoints cannot be read, with the reason.
        stopped: it was asked to stop.
    """

    total: int = 0
    before: int = 0
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    older: dict[str, Outcome] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)
    stopped: bool = False

    @property
    def done(self) -> int:
        """Jobs whose report is there."""
        return self.before + sum(outcome.state == "done" for outcome in self.outcomes.values())


@dataclass(frozen=True, slots=True)
class Standing:
    """The jobs of a plan, and what is there of them.

    Attributes:
        todo: that will run.
        done: keys whose report is there.
        ended: outcomes without a report that are not tried again, by key.
    """

    jobs: Jobs
    todo: tuple[Task, ...]
    done: frozenset[str]
    ended: dict[str, Outcome]


def run(
    plan: Plan,
    engine: str,
    ways: Ways,
    watcher: Watcher,
    shard: tuple[int, int] | None = None,
    retry: bool = False,
) -> Finished:
    """Run every job of a plan that is not done.

    Args:
        plan: what is asked.
        engine: a key of `ENGINES`.
        ways: how it runs jobs.
        watcher: told of progress, asked whether to stop.
        shard: (i, n): only the i-th of n parts of the jobs.
        retry: try again what failed before.

    Raises:
        CkdiffError: nothing was started: the plan, the results directory, a report in it, or the engine is no good.
    """
    store = open_store(plan.results, plan.name)
    label = "all" if shard is None else f"{shard[0]}-of-{shard[1]}"
    with store.at_work(label):
        store.tidy()
        found = survey_jobs(plan, store, jobs(plan, Cache(plan.results), shard, watcher.hashing), retry)
        store.write_manifest(plan.name, plan.text, found.jobs.slots, shard)
        return _run(found, store, engine, ways, watcher)


def survey_jobs(plan: Plan, store: Store, found: Jobs, retry: bool) -> Standing:
    """A plan's jobs, with those that are done and those that will run.

    Raises:
        ReportError: a report was changed after it was written.
    """
    from ckdiff.report.hdf5.file import check_sealed

    todo, done, ended = [], set(), {}
    for key, task in found.tasks.items():
        place = store.report(key)
        outcome = store.outcome(key)
        if place.exists():
            check_sealed(place)
            done.add(key)
        elif outcome is not None and outcome.state in ("failed", "inconclusive") and not retry:
            ended[key] = outcome
        else:
            todo.append(task)
    return Standing(found, tuple(todo), frozenset(done), ended)


def _run(found: Standing, store: Store, engine: str, ways: Ways, watcher: Watcher) -> Finished:
    slots = found.jobs.slots
    result = Finished(
        total=len(found.jobs.tasks),
        before=len(found.done),
        older=dict(found.ended),
        unreadable={name_of(slot): slot.reason for slot in slots if slot.reason},
    )
    result.total += len(result.unreadable)
    watcher.begun(found.todo, result.before)
    for task in found.todo:
        store.forget(task.key)

    def ended(task: Task, outcome: Outcome) -> None:
        result.outcomes[task.key] = outcome = _check(store, task, outcome)
        watcher.ended(task, outcome)

    if found.todo and not watcher.stop():
        ENGINES[engine](found.todo, perform, ended, watcher.stop, ways)
    result.stopped = watcher.stop()
    return result


def _check(store: Store, task: Task, outcome: Outcome) -> Outcome:
    """An engine's outcome, held against the files that are there; kept where the worker could not keep it itself."""
    if outcome.state == "done" and not store.report(task.key).exists():
        outcome = replace(
            outcome,
            state="failed",
            reason=f"it was done, and {store.report(task.key)} is not there: workers must see the same directory",
        )
    if outcome.state != "stopped" and store.outcome(task.key) != outcome:
        try:
            store.keep(outcome)
        except OSError as error:
            if outcome.state != "done":
                outcome = replace(outcome, reason=f"{outcome.reason} (not recorded: {error.strerror})")
    return outcome
