"""The engines that need nothing: this process, and commands on this machine that really die."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ckdiff.campaign.engines import ENGINES, command, local
from ckdiff.campaign.records import Ways
from tests import campaign_work as jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ckdiff.campaign.records import Outcome, Task, Work

    Told = list[tuple[Task, Outcome]]

ROOT = Path(__file__).parents[1]
BOTH = pytest.mark.parametrize("engine", ["inline", "local"])


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs find the work of these tests, wherever a test stands."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    before = children()
    yield
    assert children() <= before
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("campaign")] == []


def children() -> set[int]:
    """Processes that this one has begun and that run."""
    found = set()
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent, *_ = place.read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        except OSError:
            continue
        if int(parent) == os.getpid() and state != "Z":
            found.add(int(place.parent.name))
    return found


def ran(
    engine: str, tasks: Sequence[Task], work: Work, workers: int = 2, stop: Callable[[], bool] | None = None
) -> Told:
    told: Told = []
    caller = threading.get_ident()

    def ended(task: Task, outcome: Outcome) -> None:
        assert threading.get_ident() == caller
        told.append((task, outcome))

    ENGINES[engine](tasks, work, ended, stop or (lambda: False), Ways(workers=workers))
    return told


def by_key(told: Told) -> dict[str, Outcome]:
    assert len({task.key for task, _ in told}) == len(told)
    assert all(task.key == outcome.key for task, outcome in told)
    return {outcome.key: outcome for _, outcome in told}


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and that nobody has asked about does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def end_within(pids: Sequence[int], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while any(alive(pid) for pid in pids):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


linux = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")


# ------------------------------------------------------------------------------------------------------ what is told


@BOTH
def test_each_job_is_done_once(tmp_path: Path, engine: str) -> None:
    found = by_key(ran(engine, jobs.tasks(tmp_path, range(9)), jobs.square))
    assert {key: outcome.reason for key, outcome in found.items()} == {f"{i:04d}": str(i * i) for i in range(9)}
    assert {outcome.attempts for outcome in found.values()} == {1}


def test_both_engines_give_the_same_outcomes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    orders = ["done", "inconclusive", "bug", "refused", "exits", "allocates", "done"]
    outcomes = []
    for engine in ("inline", "local"):
        place = tmp_path / engine
        place.mkdir()
        outcomes.append(by_key(ran(engine, jobs.tasks(place, orders), jobs.told)))
        said = capfd.readouterr().err
        assert said.count("TypeError: two") == 1
    assert outcomes[0] == outcomes[1]
    assert [(found.state, found.reason) for _, found in sorted(outcomes[0].items())] == [
        ("done", ""),
        ("inconclusive", "nothing to recover"),
        ("failed", "a bug in ckdiff: TypeError: two lines"),
        ("failed", "/a/b: no such checkpoint"),
        ("failed", "a bug in ckdiff: SystemExit: 5"),
        ("failed", "not enough memory"),
        ("done", ""),
    ]


@BOTH
def test_no_tasks_are_no_work(engine: str) -> None:
    assert ran(engine, [], jobs.empty) == []


def test_inline_keeps_the_order(tmp_path: Path) -> None:
    told = ran("inline", jobs.tasks(tmp_path, range(9)), jobs.empty)
    assert [task.key for task, _ in told] == [f"{i:04d}" for i in range(9)]


def test_jobs_run_at_the_same_time(tmp_path: Path) -> None:
    """Each of two waits for the trace of the other, so that one place alone would never be done."""
    found = by_key(ran("local", jobs.tasks(tmp_path, [1, 0]), jobs.meet, workers=2))
    assert [outcome.state for outcome in found.values()] == ["done", "done"]


def test_what_cannot_be_sent_fails_its_job_only(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tasks = [*jobs.tasks(tmp_path, [None]), *jobs.tasks(tmp_path, [None, lambda: 0])[1:]]
    found = by_key(ran("local", tasks, jobs.empty, workers=1))
    assert found["0000"].state == "done"
    assert found["0001"].state == "failed"
    assert found["0001"].reason.startswith("a bug in ckdiff: ")
    told = by_key(ran("local", jobs.tasks(tmp_path, [None]), jobs.unsendable, workers=1))
    assert told["0000"].reason.startswith("a bug in ckdiff: TypeError: ")
    assert "pickle" in capfd.readouterr().err


def test_a_reason_of_any_length_comes_back(tmp_path: Path) -> None:
    """Nobody reads the pipe before the process has ended, and a pipe holds 64 KB."""
    outcome = by_key(ran("local", jobs.tasks(tmp_path, [None]), jobs.verbose))["0000"]
    assert (outcome.state, outcome.reason[:3], len(outcome.reason)) == ("failed", "aaa", 2000)


# ------------------------------------------------------------------------------------------------ processes that die


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ("killed", "its process was ended by signal 9 (SIGKILL), as happens when memory runs out; 2 attempts"),
        ("segfaults", "its process was ended by signal 11 (SIGSEGV); 2 attempts"),
        ("quits", "its process exited with status 3; 2 attempts"),
    ],
)
def test_a_lost_process_costs_its_job_only(tmp_path: Path, order: str, reason: str) -> None:
    tasks = jobs.tasks(tmp_path, ["done", "done", order, "done", "done", "done"])
    found = by_key(ran("local", tasks, jobs.told))
    bad = found.pop("0002")
    assert (bad.state, bad.reason, bad.attempts, bad.sha256) == ("failed", reason, 2, "")
    assert {(outcome.state, outcome.attempts) for outcome in found.values()} == {("done", 1)}
    assert [len(jobs.trace(task)) for task in tasks] == [1, 1, 2, 1, 1, 1]
    assert len(set(jobs.trace(tasks[2]))) == 2


@pytest.mark.parametrize(("retries", "state", "attempts"), [(0, "failed", 1), (1, "failed", 2), (2, "done", 3)])
def test_retries_are_counted(tmp_path: Path, retries: int, state: str, attempts: int) -> None:
    tasks = jobs.tasks(tmp_path, [["killed", "quits", "done"]], retries=retries)
    outcome = by_key(ran("local", tasks, jobs.told, workers=1))["0000"]
    assert (outcome.state, outcome.attempts, len(jobs.trace(tasks[0]))) == (state, attempts, attempts)
    if attempts == 1:
        assert outcome.reason.endswith("; 1 attempt")


def test_a_job_that_fails_by_itself_is_not_tried_again(tmp_path: Path) -> None:
    tasks = jobs.tasks(tmp_path, ["refused"], retries=5)
    assert by_key(ran("local", tasks, jobs.told))["0000"].attempts == 1
    assert len(jobs.trace(tasks[0])) == 1


@pytest.mark.parametrize(
    ("code", "words"),
    [(0, "exited with status 0"), (-15, "was ended by signal 15 (SIGTERM)"), (-40, "signal 40")],
)
def test_how_a_process_ended(code: int, words: str) -> None:
    assert words in command.describe_end(code)
    assert "memory" not in command.describe_end(code)


def test_processes_killed_at_random_lose_nothing(tmp_path: Path) -> None:
    tasks = jobs.tasks(tmp_path, [0.05] * 16, retries=1000)
    told: Told = []
    rng = random.Random(6)
    over = threading.Event()
    killed: list[int] = []
    before = children()

    def kill() -> None:
        # No more than so many: where processes start slowly, the last job would be killed again and again.
        while len(killed) < 8 and not over.wait(rng.uniform(0.05, 0.3)):
            if victims := sorted(children() - before):
                killed.append(rng.choice(victims))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(killed[-1], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        ENGINES["local"](
            tasks, jobs.nap, lambda task, outcome: told.append((task, outcome)), lambda: False, Ways(workers=2)
        )
    finally:
        over.set()
        killer.join()
    found = by_key(told)
    assert sorted(found) == [task.key for task in tasks]
    assert {outcome.state for outcome in found.values()} == {"done"}
    lost = sum(outcome.attempts - 1 for outcome in found.values())
    assert 0 < lost <= len(killed)
    for task in tasks:
        lines = jobs.trace(task)
        assert 1 <= sum(line.startswith("begun") for line in lines) <= found[task.key].attempts
        assert "ended" in lines


# -------------------------------------------------------------------------------------------------- stop, interrupts


@BOTH
def test_asked_to_stop_before_it_begins(tmp_path: Path, engine: str) -> None:
    tasks = jobs.tasks(tmp_path, ["done"] * 3)
    assert ran(engine, tasks, jobs.told, stop=lambda: True) == []
    assert [jobs.trace(task) for task in tasks] == [[], [], []]


@BOTH
def test_running_jobs_are_asked_to_stop_and_no_more_begin(tmp_path: Path, engine: str) -> None:
    tasks = jobs.tasks(tmp_path, [None] * 6)
    running = tasks[: 1 if engine == "inline" else 2]
    told = ran(engine, tasks, jobs.until_stopped, stop=lambda: all(jobs.trace(task) for task in running))
    assert {key: outcome.state for key, outcome in by_key(told).items()} == dict.fromkeys(
        [task.key for task in running], "stopped"
    )
    assert [bool(jobs.trace(task)) for task in tasks] == [task in running for task in tasks]


def test_a_job_lost_while_stopping_can_be_gone_on_with(tmp_path: Path) -> None:
    tasks = jobs.tasks(tmp_path, [None, None], retries=1)
    [(task, outcome)] = ran("local", tasks, jobs.dies_when_stopped, 1, lambda: bool(jobs.trace(tasks[0])))
    assert (task.key, outcome.state, outcome.attempts) == ("0000", "stopped", 1)
    assert "SIGKILL" in outcome.reason


@linux
def test_an_error_of_the_caller_kills_what_runs(tmp_path: Path) -> None:
    tasks = jobs.tasks(tmp_path, ["done", "endless"])

    def ended(task: Task, outcome: Outcome) -> None:
        jobs.wait_for(tmp_path / "0001.trace", size=1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        ENGINES["local"](tasks, jobs.told, ended, lambda: False, Ways(workers=2))
    assert end_within([int(jobs.trace(tasks[1])[0])], 5)


SCRIPT = """
import signal, sys
from pathlib import Path  # noqa: TC003  (Typer reads annotations when the program runs)
from ckdiff.campaign.engines import ENGINES
from ckdiff.campaign.records import Ways
from tests import campaign_work as jobs

results, work = Path(sys.argv[1]), sys.argv[2]
asked = []

def heard(signum, frame):
    asked.append(signum)
    (results / "heard").touch()
    signal.signal(signal.SIGINT, signal.default_int_handler)

signal.signal(signal.SIGINT, heard)
(results / "begun").touch()
tasks = jobs.tasks(results, [None] * 4)
ended = lambda task, outcome: print(task.key, outcome.state, outcome.reason)
ENGINES["local"](tasks, getattr(jobs, work), ended, lambda: bool(asked), Ways(workers=2))
print("returned")
"""


def script(folder: Path, work: str) -> subprocess.Popen[str]:
    """A user's script, in a process group of its own as a terminal gives it one."""
    place = folder / "script.py"
    place.write_text(SCRIPT, encoding="utf-8")
    return subprocess.Popen(
        [sys.executable, str(place), str(folder), work],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def workers_of(folder: Path) -> list[int]:
    """The processes of the two jobs that run."""
    for key in ("0000", "0001"):
        jobs.wait_for(folder / f"{key}.trace", size=1)
    return [int((folder / f"{key}.trace").read_text(encoding="utf-8").split()[0]) for key in ("0000", "0001")]


@linux
def test_ctrl_c_is_the_parents_business(tmp_path: Path) -> None:
    process = script(tmp_path, "until_stopped")
    pids = workers_of(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert sorted(out.splitlines()) == ["0000 stopped as asked", "0001 stopped as asked", "returned"]
    assert (process.returncode, err) == (0, "")
    assert not any(alive(pid) for pid in pids)


@linux
def test_ctrl_c_while_processes_start(tmp_path: Path) -> None:
    """Those that are still being started hear nothing of it either."""
    process = script(tmp_path, "until_stopped")
    jobs.wait_for(tmp_path / "begun")
    time.sleep(random.Random(6).uniform(0.01, 0.03))
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert out.splitlines()[-1] == "returned"


@linux
def test_a_second_ctrl_c_kills_what_runs(tmp_path: Path) -> None:
    process = script(tmp_path, "endless")
    pids = workers_of(tmp_path)
    os.killpg(process.pid, signal.SIGINT)
    jobs.wait_for(tmp_path / "heard")
    time.sleep(0.3)
    assert process.poll() is None
    assert all(alive(pid) for pid in pids)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    assert err.splitlines()[-1] == "KeyboardInterrupt"
    assert out == ""
    assert not any(alive(pid) for pid in pids)


@linux
@pytest.mark.parametrize("work", ["endless", "busy"])
def test_nothing_outlives_a_killed_parent(tmp_path: Path, work: str) -> None:
    process = script(tmp_path, work)
    pids = workers_of(tmp_path)
    assert all(alive(pid) for pid in pids)
    process.kill()
    process.communicate(timeout=30)  # the pipes are closed once the last process that holds them is gone
    assert process.returncode == -signal.SIGKILL
    assert end_within(pids, 2)


@linux
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_job_that_is_asked_by_itself_stops_alone(tmp_path: Path, number: int) -> None:
    """As a batch scheduler does it, which tells every process."""
    tasks = jobs.tasks(tmp_path, [None, None])

    def stop() -> bool:
        if jobs.trace(tasks[0]) and not jobs.trace(tasks[1]):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(jobs.trace(tasks[0])[0]), number)
        return len(jobs.trace(tasks[1])) > 0

    found = by_key(ran("local", tasks, jobs.until_stopped, 1, stop))
    assert [outcome.state for outcome in found.values()] == ["stopped", "stopped"]


# ------------------------------------------------------------------------------------------------ sizes, environment


def test_a_process_has_its_tasks_threads_and_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    signals = command.Signals(threading.Event(), threading.Event())
    seen = [
        command.run_command(jobs.surroundings, jobs.tasks(tmp_path, [None], threads=threads)[0], signals, gpu).reason
        for threads, gpu in ((1, ""), (3, "MIG-7"))
    ]
    assert seen == ["1 1 - -", "3 1 MIG-7 -"]


@pytest.mark.parametrize(("gpus", "seen"), [(0, ["-"] * 4), (1, ["7", "7", "9", "9"])])
def test_each_place_has_a_gpu_for_tasks_that_want_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: int, seen: list[str]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(local, "visible_gpus", lambda: ["7", "9"])
    # Two at a time, each waits for the other.
    tasks = jobs.tasks(tmp_path, [1, 0, 3, 2], gpus=gpus)
    found = by_key(ran("local", tasks, jobs.meet, workers=2))
    assert sorted(outcome.reason for outcome in found.values()) == seen


def test_what_a_worker_prints_is_no_result(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ran("local", jobs.tasks(tmp_path, [None]), jobs.loud)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "said on descriptor 1\n")


def test_as_many_places_as_the_machine_carries(tmp_path: Path) -> None:
    def places(count: int, workers: int = 0, gpus: Sequence[str] = (), **resources: int) -> int:
        return local.places_for(jobs.tasks(tmp_path, [None] * count, **resources), Ways(workers=workers), gpus)

    cores = local.cores()
    assert places(1000) == cores
    assert places(1) == 1
    assert places(1000, threads=cores) == 1
    assert places(1000, threads=10 * cores) == 1
    assert places(1000, gpus=["0"]) == 1
    assert places(1000, memory=1 << 60) == 1
    assert places(1000, memory=1) == cores
    assert places(1000, workers=7) == 7
    assert places(3, workers=7) == 3


def test_gpus_are_named_as_the_environment_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert local.visible_gpus() == [str(number) for number in range(len(local.visible_gpus()))]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert local.visible_gpus() == []
