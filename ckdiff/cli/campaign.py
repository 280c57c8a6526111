"""`ckdiff campaign`: many pairs by one plan."""

from __future__ import annotations

import contextlib
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ckdiff.campaign.records import Ways
from ckdiff.cli.console import bars, duration, remark, write_lines
from ckdiff.cli.options import PLAN, QUIET
from ckdiff.cli.session import catch_stop
from ckdiff.errors import CkdiffError, ExitStatus
from ckdiff.options import OUTPUT, Argument, Option

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckdiff.campaign.records import Outcome, Plan, Task
    from ckdiff.campaign.run.run import Finished, Standing, Watcher
    from ckdiff.campaign.run.status import Status
    from ckdiff.cli.console import Show


ENGINE_NAMES = ("local", "inline", "ray")


SHARD = re.compile(r"(\d{1,5})/(\d{1,5})")


MOST_LINES = 20
"""Jobs without a result that are named, one a line; more are counted."""


ENGINE = Option("--engine", "local: processes; ray: a cluster; inline: this process.", known=ENGINE_NAMES)


def part(text: str) -> tuple[int, int]:
    """The value of `--shard`.

    >>> part("2/3")
    (2, 3)
    """
    found = SHARD.fullmatch(text.strip())
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise CkdiffError(f"--shard: {text[:40]!r} is no part; write I/N with I from 1 to N, such as 1/3")
    return int(found[1]), int(found[2])


PART = Option("--shard", "I/N: only the I-th of N parts, one job after the other.", read=part)


def campaign(
    plan: Annotated[Path, Argument("What to measure, on which pairs.", "PLAN.toml")],
    ways: Ways,
    output: Annotated[Path | None, OUTPUT.but("The results directory; else the plan's own.")] = None,
    show_plan: Annotated[bool, PLAN.but("List the jobs, what is done, memory and time, and stop.", "")] = False,
    status: Annotated[bool, Option("--status", "Say how far it is, from any terminal, and stop.")] = False,
    engine: Annotated[str | None, ENGINE] = None,
    shard: Annotated[tuple[int, int] | None, PART] = None,
    retry: Annotated[bool, Option("--retry", "Try again what has failed.")] = False,
    quiet: Annotated[bool, QUIET] = False,
) -> None:
    """Many pairs by one plan: compare, behave, probe or audit each, on one machine or on many."""
    from ckdiff.campaign.plan.plan import read_plan

    if status:
        print_status(results_folder(plan, output))
        return
    chosen = engine or ("inline" if shard else "local")
    if ways.address and chosen != "ray":
        raise CkdiffError("--address: is of a Ray cluster; give --engine ray as well")
    wanted = read_plan(plan, output)
    if show_plan:
        print_plan(wanted, shard, retry, ways)
        return
    from ckdiff.campaign.run.run import run

    with watch(quiet) as watcher:
        finished = run(wanted, chosen, ways, watcher, shard, retry)
    tell(finished, wanted, quiet)
    if finished.stopped:
        remark("what is done is kept; the same command goes on", quiet)
        raise KeyboardInterrupt
    raise typer.Exit(ExitStatus.OK if finished.done == finished.total else ExitStatus.INCONCLUSIVE)


def results_folder(plan: Path, output: Path | None) -> Path:
    """The directory named, or the plan's own."""
    from ckdiff.campaign.plan.plan import read_plan

    return output if output is not None else read_plan(plan, output).results


@contextlib.contextmanager
def watch(quiet: bool) -> Iterator[Watcher]:
    """A watcher for a campaign: bars on a terminal; the first Ctrl-C stops soon and keeps what is done."""
    from ckdiff.campaign.run.run import Watcher

    words = "stopping: jobs that run keep what they have done; Ctrl-C again stops at once"
    with bars(quiet) as show, catch_stop(lambda: words, quiet) as stop:
        tally = Tally(show, quiet)
        yield Watcher(tally.hash, tally.begin, tally.end, stop)


@dataclass(slots=True)
class Tally:
    """How far a campaign is, as its bars show it.

    Attributes:
        show: what the bars are told.
        weight, done: of all jobs, and of those that have ended.
        counts: jobs in all, with a result, and without one.
    """

    show: Show
    quiet: bool
    weight: float = 0.0
    done: float = 0.0
    counts: tuple[int, int, int] = (0, 0, 0)

    def hash(self, done: int, total: int) -> None:
        """So many bytes are hashed."""
        self.show("hashing weights", done, total, f"{done / 1e9:.1f} of {total / 1e9:.1f} GB")

    def begin(self, tasks: Sequence[Task], before: int) -> None:
        """These jobs are to be done; so many were."""
        self.weight, self.counts = sum(task.weight for task in tasks), (len(tasks) + before, before, 0)
        self._tell()

    def end(self, task: Task, outcome: Outcome) -> None:
        """A job has ended."""
        total, done, failed = self.counts
        if outcome.state == "done":
            done += 1
        elif outcome.state != "stopped":
            failed += 1
        self.counts, self.done = (total, done, failed), self.done + task.weight
        self._tell()
        if outcome.state in ("failed", "inconclusive"):
            remark(f"{task.name}: {outcome.reason}", self.quiet)

    def _tell(self) -> None:
        total, done, failed = self.counts
        without = f", {failed} without a result" if failed else ""
        self.show("jobs", self.done, self.weight, f"{done} of {total} done{without}")


def tell(found: Finished, plan: Plan, quiet: bool) -> None:
    """Say how a run ended, one line a job without a result."""
    reasons = dict(found.unreadable)
    reasons |= {key[:12]: f"{one.reason} (--retry tries again)" for key, one in found.older.items()}
    for number, (name, reason) in enumerate(reasons.items()):
        if number == MOST_LINES:
            remark(f"and {len(reasons) - MOST_LINES} more", quiet)
            break
        remark(f"{name}: {reason}", quiet)
    new = len(found.outcomes)
    remark(f"{found.done} of {found.total} jobs done ({new} in this run); results: {plan.results}", quiet)
    if found.done == found.total:
        remark(f"`ckdiff gather {plan.results}` puts them together", quiet)


def print_plan(plan: Plan, shard: tuple[int, int] | None, retry: bool, ways: Ways) -> None:
    """List the jobs of a plan, and what is left to do."""
    from ckdiff.cache import Cache
    from ckdiff.campaign.run.run import survey_jobs
    from ckdiff.campaign.run.store import Store, check_folder
    from ckdiff.campaign.run.tasks import jobs

    if plan.results.exists() and check_folder(plan.results) != plan.name:
        raise CkdiffError(f"{plan.results}: holds the results of another plan; name another with -o DIR")
    store = Store(plan.results)
    found = jobs(plan, Cache(plan.results), shard, hashing=False)
    there = survey_jobs(plan, store, found, retry)
    write_lines(_plan_lines(plan, store, there, ways))


def _plan_lines(plan: Plan, store: Any, there: Standing, ways: Ways) -> Iterator[str]:
    from ckdiff.campaign.engines.local import places_for
    from ckdiff.campaign.run.estimate import estimates, seconds_left
    from ckdiff.campaign.run.tasks import name_of
    from ckdiff.report.words.numbers import count_of
    from ckdiff.untrusted import printable

    todo = {task.key for task in there.todo}
    for slot in there.jobs.slots:
        state = "done" if slot.key in there.done else "to do"
        if slot.reason:
            state = f"cannot be read: {slot.reason}"
        elif slot.key in there.ended:
            state = f"{there.ended[slot.key].state}: {there.ended[slot.key].reason}"
        elif not slot.key:
            state = "to do (its weights are not hashed yet)"
        yield f"{printable(name_of(slot))}: {printable(state)}"
    tasks = list(there.jobs.tasks.values())
    found = estimates(tasks, store, there.jobs.bytes)
    remaining = [found[key] for key in todo]
    count = places_for(there.todo, ways, []) if there.todo else 0
    memory = max((one.memory for one in remaining), default=0)
    seconds = seconds_left(remaining, count)
    yield f"jobs      {len(there.jobs.slots)}, {len(there.done)} done, {len(remaining)} to do, {len(there.ended)} ended"
    if not remaining:
        yield f"results   {plan.results}"
        return
    yield f"workers   {count} at a time, {count_of(plan.resources.threads, 'thread')} each"
    yield f"memory    {f'up to {memory / 1e9:.3g} GB a job' if memory else 'not known'}"
    yield f"reads     {sum(one.bytes for one in remaining) / 1e9:.3g} GB from the checkpoints, hashing aside"
    yield f"time      {'not known' if math.isnan(seconds) else f'about {duration(seconds)}, roughly'}"
    yield f"results   {plan.results}"


def print_status(folder: Path) -> None:
    """Say how far a campaign is."""
    from ckdiff.campaign.run.status import look

    write_lines(_status_lines(look(folder)))


def _status_lines(found: Status) -> Iterator[str]:
    from ckdiff.untrusted import printable

    total = found.done + found.inconclusive + found.failed + found.left
    yield f"{printable(found.name)}: {'running' if found.at_work else 'not running'}"
    yield f"done      {found.done} of {total}"
    yield f"running   {len(found.running)}{': ' if found.running else ''}{printable('; '.join(found.running))}"
    yield f"failed    {found.failed}, {found.inconclusive} more without a result"
    known = found.left and not math.isnan(found.seconds)
    yield f"left      {found.left}{f', about {duration(found.seconds)}' if known else ''}"
    for name, reason in list(found.reasons.items())[:MOST_LINES]:
        yield f"{printable(name)}: {printable(reason)}"
