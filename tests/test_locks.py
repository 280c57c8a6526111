from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from ckdiff.locks import BusyError, alone

if TYPE_CHECKING:
    from pathlib import Path


def test_the_second_is_refused_until_the_first_is_done(tmp_path: Path) -> None:
    with alone(tmp_path):
        with pytest.raises(BusyError), alone(tmp_path, wait=False):
            pass
        with alone(tmp_path.parent, wait=False):
            pass
    with alone(tmp_path, wait=False):
        pass
    assert list(tmp_path.iterdir()) == []


def test_who_waits_comes_after_who_holds(tmp_path: Path) -> None:
    order = []

    def second() -> None:
        with alone(tmp_path):
            order.append("second")

    with alone(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_an_error_inside_gives_the_lock_back(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="mine"), alone(tmp_path):
        raise ValueError("mine")
    with alone(tmp_path, wait=False):
        pass
