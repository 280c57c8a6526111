"""Threads that measure: in order, with their own buffers, and gone after a stop or an error."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from ckdiff.weights.crew import Crew, core_count
from ckdiff.weights.pairs import compare_checkpoints
from ckdiff.weights.reader import open_local
from tests.checkpoints import llama, save

if TYPE_CHECKING:
    from pathlib import Path


def at_work() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("crew")]


@pytest.mark.parametrize("threads", [1, 3])
def test_results_come_as_asked_and_errors_where_they_belong(threads: int) -> None:
    with Crew(threads) as crew:
        results = [crew.begin(lambda n: 6 // n, n) for n in (3, 2, 0, 1)]
        assert [results[0](), results[1](), results[3]()] == [2, 3, 6]
        with pytest.raises(ZeroDivisionError):
            results[2]()
    assert at_work() == []


def test_zero_threads_are_as_many_as_there_are_cores() -> None:
    with Crew(0) as crew:
        assert crew.threads == core_count() > 0


def test_each_thread_has_its_own() -> None:
    with Crew(2) as crew:
        meet = threading.Barrier(2)

        def own() -> tuple[list[int], list[int]]:
            meet.wait(10)
            return crew.own(list[int]), crew.own(list[int])

        first, second = [result() for result in [crew.begin(own), crew.begin(own)]]
    assert first[0] is first[1]
    assert first[0] is not second[0]


def test_a_stop_drops_what_has_not_begun() -> None:
    done: list[int] = []

    def work(n: int) -> None:
        time.sleep(0.01)
        done.append(n)

    def stop_amid_work() -> None:
        with Crew(2) as crew:
            for n in range(1000):
                crew.begin(work, n)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_amid_work()
    assert len(done) < 100
    assert at_work() == []


def test_a_stop_in_a_comparison_leaves_no_thread(tmp_path: Path) -> None:
    base = open_local(save(tmp_path / "base", llama()))
    heard: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        heard.append((done, total))
        if len(heard) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare_checkpoints(base, base, stop, 3)
    assert len(heard) == 5
    assert at_work() == []


@pytest.mark.parametrize("threads", [1, 3])
def test_progress_comes_in_order_and_ends_with_all(tmp_path: Path, threads: int) -> None:
    base = open_local(save(tmp_path / "base", llama()))
    heard: list[tuple[int, int]] = []
    size = sum(values.size for values in llama().values())
    compare_checkpoints(base, base, lambda done, total: heard.append((done, total)), threads)
    assert len(heard) == 21
    assert heard == sorted(heard)
    assert heard[-1] == (size, size)
