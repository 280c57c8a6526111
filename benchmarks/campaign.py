"""What a campaign costs beside its jobs: engines, processes, and what jobs of one base share.

    python benchmarks/campaign.py empty
    python benchmarks/campaign.py pairs PLAN.toml
    python benchmarks/campaign.py sharing PLAN.toml

`empty`: by engine the seconds until the first of its jobs has ended, and what each of 600 more costs: jobs that do
nothing, and jobs that do nothing but leave what a real one leaves (log, marker, a small report, a record). `pairs`: a
plan with one process and with two. `sharing`: a plan in which jobs share what is about their base, and in which they do
not (in this process, CPU seconds). The last two take turns, so that their ratios are of one run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ckdiff.cache import Cache
from ckdiff.campaign.engines import ENGINES
from ckdiff.campaign.plan.plan import read_plan
from ckdiff.campaign.records import CampaignError, Outcome, Task, Ways
from ckdiff.campaign.run import run as driving
from ckdiff.campaign.run.store import Store, sha256_of, write_marker
from ckdiff.files import replace_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckdiff.campaign.records import Plan, Stop

JOBS, TURNS = 600, 3
REPORT = bytes(40_000)


def nothing(task: Task, stop: Stop) -> Outcome:
    return Outcome(task.key, "done")


def kept(task: Task, stop: Stop) -> Outcome:
    """Everything that `work.perform` leaves, around no work."""
    store = Store(task.results)
    write_marker(store.marker(task.key), {"key": task.key})
    store.log(task.key).write_text(task.name)
    replace_file(store.report(task.key), REPORT)
    outcome = Outcome(task.key, "done", sha256=sha256_of(store.report(task.key)))
    store.marker(task.key).unlink()
    store.keep(outcome)
    return outcome


def timed(name: str, work: Callable[[Task, Stop], Outcome], count: int, workers: int) -> tuple[float, float]:
    """Seconds to the first job's end, and seconds of all the others."""
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder)
        for part in ("jobs", "running"):
            (results / part).mkdir()
        tasks = [Task(f"{n:064x}", f"job {n}", "test", None, results) for n in range(count + 1)]
        ends: list[float] = []
        begun = time.perf_counter()
        ENGINES[name](tasks, work, lambda task, outcome: ends.append(time.perf_counter()), lambda: False, Ways(workers))
        if len(ends) != count + 1:
            raise SystemExit(f"{name}: {len(ends)} of {count + 1} jobs ended")
        return ends[0] - begun, ends[-1] - ends[0]


def empty() -> None:
    print("engine     workers  work     first job s   600 jobs s   ms a job (best of 3)")
    for name, workers in (("inline", 1), ("local", 1), ("local", 2), ("ray", 2)):
        for work in (nothing, kept):
            try:
                turns = [timed(name, work, JOBS, workers) for _ in range(TURNS)]
            except CampaignError as error:
                print(f"{name:<10} {error}")
                break
            first, rest = min(one for one, _ in turns), min(other for _, other in turns)
            print(f"{name:<10} {workers:<8} {work.__name__:<8} {first:<13.2f} {rest:<12.2f} {rest / JOBS * 1000:.2f}")


def once(plan: Plan, engine: str, workers: int) -> tuple[float, float]:
    """Seconds of a whole campaign, and CPU seconds of this process meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        begun, computed = time.perf_counter(), time.process_time()
        results = replace(plan, results=Path(folder) / "results")
        found = driving.run(results, engine, Ways(workers), driving.Watcher())
        if found.done != found.total:
            raise SystemExit(f"{found.done} of {found.total} jobs done: {found.outcomes}")
        return time.perf_counter() - begun, time.process_time() - computed


def pairs(plan: Plan, turns: int) -> None:
    for _ in range(turns):
        one, two = (once(plan, "local", workers)[0] for workers in (1, 2))
        print(f"one process {one:.1f} s, two {two:.1f} s: {one / two:.2f} times as fast")


def shared(plan: Plan, turns: int) -> None:
    """In this process, by its CPU seconds; the first job of all, which imports everything, is not among them."""
    once(plan, "inline", 1)
    known = Cache.answers
    for _ in range(turns):
        together = once(plan, "inline", 1)[1]
        Cache.answers = lambda self, key: None  # type: ignore[method-assign]
        alone = once(plan, "inline", 1)[1]
        Cache.answers = known  # type: ignore[method-assign]
        print(f"each for itself {alone:.1f} CPU s, shared {together:.1f}: {1 - together / alone:.1%} saved")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("empty", "pairs", "sharing"))
    parser.add_argument("plan", type=Path, nargs="?")
    parser.add_argument("--turns", type=int, default=1)
    given = parser.parse_args()
    if given.what == "empty":
        empty()
    elif given.plan is None:
        sys.exit("name a plan")
    else:
        {"pairs": pairs, "sharing": shared}[given.what](read_plan(given.plan), given.turns)


if __name__ == "__main__":
    main()
