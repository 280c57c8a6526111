"""The engine on Ray: a real one on this machine, two nodes, processes and nodes that are really lost."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("ray")

from ckdiff.campaign.engines import ENGINES
from ckdiff.campaign.engines.cluster import LOST, perform_there
from ckdiff.campaign.records import CampaignError, Ways
from tests import campaign_work as jobs
from tests.test_campaign import bytes_of, field, here, lose_some, reference
from tests.test_campaign_engines import alive, by_key, end_within, linux
from tests.test_probe_cli import ckdiff, made, place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ckdiff.campaign.records import Outcome, Task, Work
    from tests.test_campaign import Run

    Told = list[tuple[Task, Outcome]]

__all__ = ["ckdiff", "field", "here", "made", "place", "reference"]  # fixtures

ROOT = Path(__file__).parents[1]
pytestmark = [
    linux,
    pytest.mark.filterwarnings("ignore:.*:FutureWarning:ray.*"),
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:ray.*"),
    pytest.mark.filterwarnings("ignore:.*:ResourceWarning"),  # pipes and logs of Ray's own processes
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),  # the same, told late
]


@pytest.fixture(scope="module", autouse=True)
def _importable() -> Iterator[None]:
    """Workers find the work of these tests, wherever a test stands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        yield
    gc.collect()  # what Ray has left open is told of here, where it is expected


def services() -> list[int]:
    """Ray's own processes that run."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                name = (entry / "cmdline").read_bytes().split(b"\0")[0]
            except OSError:
                continue
            if name.endswith((b"/raylet", b"/gcs_server")) and alive(int(entry.name)):
                found.append(int(entry.name))
    return found


def ran(
    tasks: Sequence[Task],
    work: Work,
    address: str = "",
    stop: Callable[[], bool] | None = None,
    heard: Callable[[], object] | None = None,
) -> Told:
    told: Told = []
    caller = threading.get_ident()

    def ended(task: Task, outcome: Outcome) -> None:
        assert threading.get_ident() == caller
        told.append((task, outcome))
        if heard is not None:
            heard()

    ENGINES["ray"](tasks, work, ended, stop or (lambda: False), Ways(address=address))
    return told


# ------------------------------------------------------------------------------------------------------ this machine


def test_what_is_told_and_what_is_lost(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One Ray for all of it: ends of every kind, processes that die, and what no node can run."""
    before = set(services())
    orders: list[Any] = ["done", "inconclusive", "bug", "refused", "exits", "killed", ["killed", "done"], "quits"]
    tasks = jobs.tasks(tmp_path, orders)
    impossible = jobs.tasks(tmp_path, [*orders, "done"], gpus=3)[-1]
    found = by_key(ran([*tasks, impossible], jobs.told))
    killed = "its process was ended by signal 9 (SIGKILL), as happens when memory runs out; 2 attempts"
    assert [(one.state, one.reason.split("; there")[0], one.attempts) for _, one in sorted(found.items())] == [
        ("done", "", 1),
        ("inconclusive", "nothing to recover", 1),
        ("failed", "a bug in ckdiff: TypeError: two lines", 1),
        ("failed", "/a/b: no such checkpoint", 1),
        ("failed", "a bug in ckdiff: SystemExit: 5", 1),
        ("failed", killed, 2),
        ("done", "", 2),
        ("failed", "its process exited with status 3; 2 attempts", 2),
        ("failed", "no node has 1 CPU, 3 GPUs", 1),
    ]
    assert [len(jobs.trace(task)) for task in [*tasks, impossible]] == [1, 1, 1, 1, 1, 2, 2, 2, 0]
    assert capfd.readouterr().out == ""
    assert end_within(sorted(set(services()) - before), 10)


def test_running_jobs_are_asked_to_stop_and_no_more_begin(tmp_path: Path) -> None:
    tasks = jobs.tasks(tmp_path, [None] * 8)
    told = ran(tasks, jobs.until_stopped, stop=lambda: bool(jobs.trace(tasks[0])))
    running = [task for task in tasks if jobs.trace(task)]
    found = by_key(told)
    assert found["0000"].state == "stopped"
    assert len(running) < len(tasks)
    assert {outcome.state for outcome in found.values()} == {"stopped"}
    assert set(found) <= {task.key for task in running}


def test_an_error_of_the_caller_ends_what_runs(tmp_path: Path) -> None:
    before = set(services())
    handler = signal.getsignal(signal.SIGTERM)
    tasks = jobs.tasks(tmp_path, ["endless", "done"])

    def heard() -> None:
        jobs.wait_for(tmp_path / "0000.trace", size=1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ran(tasks, jobs.told, heard=heard)
    assert end_within([int(jobs.trace(tasks[0])[0]), *sorted(set(services()) - before)], 10)
    assert signal.getsignal(signal.SIGTERM) is handler


def test_ray_that_is_not_installed(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['ray'] = None\n"
        "from pathlib import Path\n"
        "from ckdiff.campaign.engines import ENGINES\n"
        "from ckdiff.campaign.records import CampaignError, Ways\n"
        "from tests import campaign_work as jobs\n"
        "try: ENGINES['ray'](jobs.tasks(Path(), [0]), jobs.empty, print, lambda: False, Ways())\n"
        "except CampaignError as error: print(error)\n"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert (told.stdout, told.stderr) == (
        "Ray is not installed; `pip install '.[ray]'` in ckdiff's checkout brings it\n",
        "",
    )


# --------------------------------------------------------------------------------------------------------- addresses


def refused(address: str, patience: float = 4.0) -> str:
    with pytest.raises(CampaignError) as caught:
        ENGINES["ray"](
            jobs.tasks(Path(), [0]), jobs.empty, print, lambda: False, Ways(address=address, patience=patience)
        )
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("address", ["nowhere", "ray://127.0.0.1:1", "127.0.0.1:", ":6379", "127.0.0.1:70000"])
def test_no_address(address: str) -> None:
    assert refused(address).startswith(f"{address}: no address of a Ray cluster; give HOST:PORT")


def test_nobody_and_somebody_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        assert refused(address).startswith(f"{address}: no Ray cluster answered within 4 seconds; ")
    assert refused(address).startswith(f"{address}: no Ray cluster answers: Connection refused; ")


# ----------------------------------------------------------------------------------------------------------- cluster


@pytest.fixture(scope="module")
def cluster(_importable: None) -> Iterator[Any]:
    """Two nodes on one machine."""
    from ray.cluster_utils import Cluster

    found: Any = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        found.add_node(num_cpus=2)
        yield found
    finally:
        found.shutdown()


def test_two_nodes_do_each_job_once_and_a_campaign_as_one_process_does(
    cluster: Any, ckdiff: Run, reference: tuple[Path, bytes], here: Path, tmp_path: Path
) -> None:
    tasks = jobs.tasks(tmp_path, [0.05] * 8)
    wide, none = (jobs.tasks(tmp_path, [0.05] * (8 + threads), threads=threads)[-1] for threads in (2, 3))
    found = by_key(ran([*tasks, wide, none], jobs.nap, cluster.address))
    assert found.pop(none.key).reason.startswith("no node has 3 CPUs, 0 GPUs; there are nodes of 1 CPU, 0 GPUs, ")
    assert {(one.state, one.attempts) for one in found.values()} == {("done", 1)}
    assert [len(jobs.trace(task)) for task in [*tasks, wide, none]] == [2] * 9 + [0]
    results = lose_some(reference[0], tmp_path / "results", runs=["compare", "behave"])
    assert ckdiff("campaign", "plan.toml", "-o", results, "--engine", "ray", "--address", cluster.address)[0] == 0
    assert bytes_of(ckdiff, tmp_path / "campaign.h5", results) == reference[1]


def test_a_node_is_lost(cluster: Any, tmp_path: Path) -> None:
    extra = cluster.add_node(num_cpus=2)
    cluster.wait_for_nodes()
    tasks = jobs.tasks(tmp_path, [0.3] * 12, retries=3)
    removed: list[Any] = []

    def heard() -> None:
        if not removed:
            removed.append(extra)
            cluster.remove_node(extra, allow_graceful=False)

    found = by_key(ran(tasks, jobs.nap, cluster.address, heard=heard))
    assert sorted(found) == [task.key for task in tasks]
    assert {outcome.state for outcome in found.values()} == {"done"}
    assert removed


def test_each_job_has_the_gpu_that_ray_gives_it(cluster: Any, tmp_path: Path) -> None:
    extra = cluster.add_node(num_cpus=2, num_gpus=2)
    cluster.wait_for_nodes()
    try:
        # Two at a time, each waits for the other. Pretended GPUs do.
        found = by_key(ran(jobs.tasks(tmp_path, [1, 0], gpus=1), jobs.meet, cluster.address))
    finally:
        cluster.remove_node(extra)
    assert sorted((outcome.state, outcome.reason) for outcome in found.values()) == [("done", "0"), ("done", "1")]


def test_a_job_whose_worker_ray_loses_again_and_again(cluster: Any, tmp_path: Path) -> None:
    """Where memory runs out Ray tries a job again without end, so that the job itself counts."""
    import ray

    [counted, endless] = jobs.tasks(tmp_path, [None, None], retries=1)
    found = by_key(ran([counted], jobs.takes_its_parent_along, cluster.address))["0000"]
    assert (found.state, found.reason) == ("failed", f"{LOST} (WorkerCrashedError)")
    assert len(jobs.trace(counted)) == 2
    ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
    try:
        again = ray.remote(perform_there).options(max_retries=-1).remote(jobs.takes_its_parent_along, endless)
        found = ray.get(again, timeout=60)
    finally:
        ray.shutdown()
    assert (found.state, found.reason, found.attempts) == ("failed", f"{LOST}; 2 attempts", 2)


def test_no_module_of_the_current_directory_is_run(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ray.py").write_text("import pathlib\npathlib.Path('planted').touch()\n")
    monkeypatch.chdir(tmp_path)
    found = by_key(ran(jobs.tasks(tmp_path, [None]), jobs.empty, cluster.address))
    assert found["0000"].state == "done"
    assert not (tmp_path / "planted").exists()


def test_a_campaign_on_a_local_ray(ckdiff: Run, reference: tuple[Path, bytes], here: Path, tmp_path: Path) -> None:
    results = lose_some(reference[0], tmp_path / "results", runs=["compare"])
    assert ckdiff("campaign", "plan.toml", "-o", results, "--engine", "ray")[0] == 0
    assert bytes_of(ckdiff, tmp_path / "campaign.h5", results) == reference[1]
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
