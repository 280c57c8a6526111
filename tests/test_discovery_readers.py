"""Several models that read at one time find what one after the other does, and leave nothing behind."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from ckdiff.calls.discover import discover
from ckdiff.discovery import readers
from ckdiff.discovery.opening import open_models
from ckdiff.discovery.readers import at_once, places
from ckdiff.probes import cost
from ckdiff.progress import Stopped
from ckdiff.weights.opening import open_checkpoint
from tests.test_discovery_resuming import spec, stop_after
from tests.test_probe_cli import made

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ckdiff.calls.specs import DiscoverSpec
    from ckdiff.probes.live.model import LiveModel

__all__ = ["made", "spec", "stop_after"]


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def models_of(made: Path) -> Any:
    base, unlearned = (open_checkpoint(str(made / side)) for side in ("base", "unlearned"))
    return open_models(base, unlearned, "float32", "cpu")


def test_as_many_read_as_have_a_thread_and_room(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = models_of(made)
    each = models.copy.parameter_bytes(4)
    for count, room, expected in ((1, 99.0, 1), (2, 99.0, 2), (9, 99.0, 4), (9, 3.1, 2), (9, 2.9, 1), (9, 0.0, 1)):
        torch.set_num_threads(count)
        monkeypatch.setattr(cost, "free_memory", lambda device, room=room: room * each)
        assert places(models.copy) == expected
    models.copy.device = torch.device("cuda")
    monkeypatch.setattr(cost, "free_memory", lambda device: 99 * each)
    assert places(models.copy) == 1


def test_each_thread_has_a_model_of_its_own_and_a_share_of_the_threads(made: Path) -> None:
    models = models_of(made)
    torch.set_num_threads(4)
    wait, seen = threading.Barrier(4), []

    def work(group: Any) -> Any:
        live = group.place()
        wait.wait(30)
        live.load()
        seen.append((live, torch.get_num_threads()))
        assert group.place() is live
        return live

    def fail() -> None:
        with at_once(models.copy) as group:
            for one in [group.crew.begin(work, group) for _ in range(4)]:
                one()
            assert torch.get_num_threads() == 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert len({id(live) for live, _ in seen}) == 4
    assert models.copy in [live for live, _ in seen]
    assert {count for _, count in seen} == {1}
    assert all(one.is_meta for live, _ in seen for _, one in live.parameters() if live is not models.copy)
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize("other", [True, False])
def test_what_is_under_way_stops_where_somebody_leaves(made: Path, other: bool) -> None:
    models = models_of(made)
    torch.set_num_threads(2)
    going, ended = threading.Event(), list[str]()

    def work(group: Any) -> None:
        with torch.inference_mode():
            live = models.base if other else group.place()
            live.load()
            try:
                for _ in range(3000):
                    live.forward(input_ids=torch.zeros(1, 2, dtype=torch.long))
                    going.set()
            except Stopped:
                ended.append("in a forward")
        try:
            live.load(group.pause)
        except Stopped:
            ended.append("while loading")

    def leave() -> None:
        with at_once(models.copy, others=(models.base,)) as group:
            group.crew.begin(work, group)
            assert going.wait(60)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        leave()
    assert ended == ["in a forward", "while loading"]
    with torch.inference_mode():
        models.base.load()
        models.base.forward(input_ids=torch.zeros(1, 2, dtype=torch.long))


def test_what_is_found_is_the_same(spec: DiscoverSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    expected = discover(spec).discovery
    torch.set_num_threads(2)
    counts = list[int]()

    def note(live: LiveModel) -> int:
        counts.append(places(live))
        return counts[-1]

    monkeypatch.setattr(readers, "places", note)
    found = discover(spec, keep=tmp_path / "x").discovery
    assert counts == [2, 2, 2]
    assert expected is not None
    assert found is not None
    assert [one.name for one in found.candidates] == [one.name for one in expected.candidates]
    assert np.allclose(found.form_scores, expected.form_scores, atol=1e-3, equal_nan=True)
    assert np.allclose(found.null_scores, expected.null_scores, atol=1e-3)
    assert [one.word for one in found.words] == [one.word for one in expected.words]
    assert found.kinds[0].null_kl == pytest.approx(expected.kinds[0].null_kl, rel=1e-4)
    assert not [one for one in threading.enumerate() if one.name.startswith("crew")]
