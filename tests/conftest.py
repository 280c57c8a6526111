from __future__ import annotations

import gc
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest

# Matrices of a few dozen rows are not worth a second thread, and the tests run in as many processes as there are cores.
# Torch and the commands under test read it; `benchmarks/processors.py` gives another number.
THREADS = int(os.environ.setdefault("OMP_NUM_THREADS", "1"))
SEED = int(os.environ.get("CKDIFF_TEST_SEED", "0"))

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from tests.tiny_pairs import Folders

    Share = Callable[[str, Callable[[Path], object]], Path]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """No garbage is looked for among a million objects of modules, neither while they are imported nor later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def seed() -> int:
    """Of trainings that are judged; `benchmarks/processors.py` gives others."""
    return SEED


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Folders]:
    """By name of a tiny family: two checkpoints, made when first asked for."""
    from tests.tiny_pairs import save_pair

    made: dict[str, Folders] = {}

    def make(name: str) -> Folders:
        if name not in made:
            made[name] = save_pair(name, tmp_path_factory.mktemp(name))
        return made[name]

    return make


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Share:
    """By name a folder that is filled once for all processes of a run: whoever comes meanwhile waits. To be copied."""
    root = tmp_path_factory.getbasetemp()
    return sharing(root.parent if "PYTEST_XDIST_WORKER" in os.environ else root)


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Share:
    """The same for this process alone: a fixture that modules import from each other is made for each of them."""
    return sharing(tmp_path_factory.getbasetemp())


def sharing(root: Path) -> Share:
    def share(name: str, make: Callable[[Path], object]) -> Path:
        from ckdiff.locks import alone

        place = root / f"shared-{name}"
        place.mkdir(exist_ok=True)
        with alone(place):
            if not (place / "whole").exists():
                make(place / "made")
                (place / "whole").touch()
        return place / "made"

    return share


@pytest.fixture(scope="module")
def remembering() -> Iterator[None]:
    """Intervals of the same losses are found once a file of tests: hundreds of its reports differ in one place."""
    from ckdiff.scoring import scores

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scores, "_distinct_ends", once(scores._distinct_ends))
        yield


def once(find: Callable[..., Any]) -> Callable[..., Any]:
    """The same function of arrays and numbers, each call of which is made one time."""
    known: dict[object, Any] = {}

    def found(*given: Any) -> Any:
        key = tuple((one.shape, one.tobytes()) if hasattr(one, "tobytes") else one for one in given)
        if key not in known:
            known[key] = find(*given)
        return known[key].copy()

    return found


@pytest.fixture(scope="session")
def learned(shared: Share, seed: int) -> Path:
    """`base`, which knows all facts of the invented world, `target.jsonl` and `unrelated.jsonl`: to be copied."""
    from ckdiff.unlearn.world import make_base

    return shared("learned", lambda place: make_base(place, seed=seed))


@pytest.fixture(scope="session")
def demo(shared: Share, seed: int) -> Path:
    """What `ckdiff demo` makes in a new place: to be copied."""
    from ckdiff.cli.app import run

    def make(place: Path) -> None:
        assert run(["demo", str(place / "new" / "place"), "--seed", str(seed), "--quiet"]) == 0

    return shared("demo", make) / "new" / "place"


@pytest.fixture(scope="session")
def honest(shared: Share, seed: int) -> Path:
    """What `ckdiff demo --gone` makes in a new place, and prints into `said.txt`: to be copied."""
    import contextlib

    from ckdiff.cli.app import run

    def make(place: Path) -> None:
        place.mkdir()
        with (place / "said.txt").open("w") as said, contextlib.redirect_stdout(said):
            assert run(["demo", str(place / "pair"), "--gone", "--seed", str(seed), "--quiet"]) == 0

    return shared("honest", make)


@pytest.fixture(scope="session")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory for PATH whose `ckdiff` and `python` have imported everything already."""
    from tests.warm import warm_commands

    with warm_commands(tmp_path_factory.mktemp("warm") / "bin") as folder:
        yield folder


@pytest.fixture
def warm_python(warm: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """That `python`, which commands that run in this process begin others with, too."""
    monkeypatch.setattr(sys, "executable", str(warm / "python"))
    return sys.executable


@pytest.fixture(scope="session", autouse=True)
def _without_waiting_for_the_disk() -> Iterator[None]:
    """What tests write need not outlive this machine: thousands of reports would each wait for the disk, twice."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)
        yield


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    """Commands set the number of torch's threads, for the whole process."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(THREADS)
