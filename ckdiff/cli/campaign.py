"""`ckdiff campaign` and `ckdiff gather`: many pairs by one plan, and one report of all of them.

Part of the door: options become calls, progress becomes a bar, what was found becomes lines and an exit status.
"""

from __future__ import annotations

import contextlib
import math
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ckdiff.cli.console import duration, remark, to_reader
from ckdiff.cli.options import QuietOption
from ckdiff.errors import CkdiffError, ExitStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckdiff.campaign.records import Outcome, Plan, Task
    from ckdiff.campaign.run.run import Finished, Standing, Watcher
    from ckdiff.campaign.run.status import Status


ENGINE_NAMES = ("local", "inline", "ray")


INTERRUPTED = 130
"""What a shell calls a process that Ctrl-C ended."""


SHARD = re.compile(r"(\d{1,5})/(\d{1,5})")


MOST_LINES = 20
"""Jobs without a result that are named, one a line; more are counted."""


def campaign(
    plan: Annotated[Path, typer.Argument(metavar="PLAN.toml", help="What to measure, on which pairs.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The results directory; else the plan's own.")
    ] = None,
    show_plan: Annotated[
        bool, typer.Option("--plan", help="List the jobs, what is done, memory and time, and stop.")
    ] = False,
    status: Annotated[bool, typer.Option("--status", help="Say how far it is, from any terminal, and stop.")] = False,
    engine: Annotated[
        str | None, typer.Option("--engine", help="local: processes; ray: a cluster; inline: this process.")
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=0, max=1024, help="Jobs at a time (local); 0: what cores and memory allow.")
    ] = 0,
    address: Annotated[
        str, typer.Option("--address", help="A running Ray cluster: HOST:PORT, or auto; else one is started here.")
    ] = "",
    patience: Annotated[
        float, typer.Option("--patience", min=1, max=3600, help="Seconds to wait for a cluster's answer.")
    ] = 30.0,
    shard: Annotated[
        str | None, typer.Option("--shard", help="I/N: only the I-th of N parts, one job after the other.")
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Try again what has failed.")] = False,
    quiet: QuietOption = False,
) -> None:
    """Many pairs by one plan: compare, behave, probe or audit each, on one machine or on many."""
    from ckdiff.campaign.plan.plan import read_plan
    from ckdiff.campaign.records import Ways

    if status:
        _print_status(_results_folder(plan, output))
        return
    part = None if shard is None else _shard(shard)
    chosen = engine or ("inline" if part else "local")
    if chosen not in ENGINE_NAMES:
        raise CkdiffError(f"--engine: no {chosen!r}; there are {', '.join(ENGINE_NAMES)}")
    if address and chosen != "ray":
        raise CkdiffError("--address: is of a Ray cluster; give --engine ray as well")
    wanted = read_plan(plan, output)
    if show_plan:
        _print_plan(wanted, part, retry, workers)
        return
    from ckdiff.campaign.run.run import run

    with _watching(quiet) as watcher:
        found = run(wanted, chosen, Ways(workers, address, patience), watcher, part, retry)
    _tell(found, wanted, quiet)
    if found.stopped:
        remark("what is done is kept; the same command goes on", quiet)
        raise KeyboardInterrupt
    raise typer.Exit(ExitStatus.OK if found.done == found.total else ExitStatus.INCONCLUSIVE)


def _shard(text: str) -> tuple[int, int]:
    """The value of `--shard`.

    >>> _shard("2/3")
    (2, 3)
    """
    found = SHARD.fullmatch(text.strip())
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise CkdiffError(f"--shard: {text[:40]!r} is no part; write I/N with I from 1 to N, such as 1/3")
    return int(found[1]), int(found[2])


def _results_folder(plan: Path, output: Path | None) -> Path:
    from ckdiff.campaign.plan.plan import read_plan

    return output if output is not None else read_plan(plan, output).results


@contextlib.contextmanager
def _watching(quiet: bool) -> Iterator[Watcher]:
    """Progress on a terminal; the first Ctrl-C stops soon and keeps what is done, a second one stops at once."""
    from ckdiff.campaign.run.run import Watcher

    asked: list[int] = []

    def interrupt(number: int, frame: Any) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        remark("stopping: jobs that run keep what they have done; Ctrl-C again stops at once", quiet)

    with _bar(quiet) as (hashing, begun, ended):
        before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield Watcher(hashing, begun, ended, lambda text: remark(text, quiet), lambda: bool(asked))
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


@contextlib.contextmanager
def _bar(quiet: bool) -> Iterator[tuple[Any, Any, Any]]:
    """What is called with bytes that were hashed, with jobs that begin, and with each that ends."""

    def failed(task: Task, outcome: Outcome) -> None:
        if outcome.state in ("failed", "inconclusive"):
            remark(f"{task.name}: {outcome.reason}", quiet)

    if quiet or not sys.stderr.isatty():
        yield lambda done, total: None, lambda tasks, before: None, failed
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[detail]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        rows: dict[str, Any] = {}
        counts = {"done": 0, "failed": 0}

        def hashing(done: int, total: int) -> None:
            if "hash" not in rows:
                rows["hash"] = bar.add_task("hashing weights", total=total, detail="")
            bar.update(rows["hash"], completed=done, total=total, detail=f"{done / 1e9:.1f} of {total / 1e9:.1f} GB")

        def begun(tasks: Sequence[Task], before: int) -> None:
            if "hash" in rows:
                bar.remove_task(rows.pop("hash"))
            counts["done"] = before
            total = sum(task.weight for task in tasks)
            rows["jobs"] = bar.add_task("jobs", total=total, detail=_counts(counts, len(tasks) + before))
            rows["count"] = len(tasks) + before

        def ended(task: Task, outcome: Outcome) -> None:
            counts["done" if outcome.state == "done" else "failed"] += outcome.state != "stopped"
            bar.update(rows["jobs"], advance=task.weight, detail=_counts(counts, rows["count"]))
            if outcome.state in ("failed", "inconclusive"):
                bar.console.print(f"{task.name}: {outcome.reason}", markup=False, highlight=False, soft_wrap=True)

        yield hashing, begun, ended


def _counts(counts: dict[str, int], total: int) -> str:
    failed = f", {counts['failed']} without a result" if counts["failed"] else ""
    return f"{counts['done']} of {total} done{failed}"


def _tell(found: Finished, plan: Plan, quiet: bool) -> None:
    """What a run came to, one line a job without a result."""
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


def _print_plan(plan: Plan, shard: tuple[int, int] | None, retry: bool, workers: int) -> None:
    from ckdiff.campaign.run.run import standing
    from ckdiff.campaign.run.store import SharedStore, Store, check_folder
    from ckdiff.campaign.run.tasks import jobs

    if plan.results.exists() and check_folder(plan.results) != plan.name:
        raise CkdiffError(f"{plan.results}: holds the results of another plan; name another with -o DIR")
    store = Store(plan.results)
    found = jobs(plan, SharedStore(plan.results), shard, hashing=False)
    there = standing(plan, store, found, retry)
    with to_reader():
        for line in _plan_lines(plan, store, there, workers):
            sys.stdout.write(f"{line}\n")


def _plan_lines(plan: Plan, store: Any, there: Standing, workers: int) -> Iterator[str]:
    from ckdiff.campaign.engines.local import places_for
    from ckdiff.campaign.records import Ways
    from ckdiff.campaign.run.estimate import estimates, left
    from ckdiff.campaign.run.tasks import name_of
    from ckdiff.report.words.numbers import counted
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
    count = places_for(there.todo, Ways(workers), []) if there.todo else 0
    memory = max((one.memory for one in remaining), default=0)
    seconds = left(remaining, count)
    yield f"jobs      {len(there.jobs.slots)}, {len(there.done)} done, {len(remaining)} to do, {len(there.ended)} ended"
    if not remaining:
        yield f"results   {plan.results}"
        return
    yield f"workers   {count} at a time, {counted(plan.resources.threads, 'thread')} each"
    yield f"memory    {f'up to {memory / 1e9:.3g} GB a job' if memory else 'not known'}"
    yield f"reads     {sum(one.bytes for one in remaining) / 1e9:.3g} GB from the checkpoints, hashing aside"
    yield f"time      {'not known' if math.isnan(seconds) else f'about {duration(seconds)}, roughly'}"
    yield f"results   {plan.results}"


def _print_status(folder: Path) -> None:
    from ckdiff.campaign.run.status import look

    with to_reader():
        for line in _status_lines(look(folder)):
            sys.stdout.write(f"{line}\n")


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
