"""Changes of low rank, and embeddings that were rotated: what is found, and of what nothing is claimed."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ckdiff.calls.compare import compare_open
from ckdiff.weights import geometry
from ckdiff.weights.geometry import RANK, measure_geometry, numerical_rank, same_geometry
from ckdiff.weights.opening import open_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import Any

    from ckdiff.report.schema.comparison import Comparison
    from tests.tiny_pairs import Folders

RNG = np.random.default_rng(7)


def of_rank(rank: int, shape: tuple[int, int]) -> Any:
    return RNG.standard_normal((shape[0], rank)) @ RNG.standard_normal((rank, shape[1]))


@pytest.mark.parametrize("shape", [(200, 150), (150, 200)])
@pytest.mark.parametrize("rank", [1, 3, RANK])
def test_a_rank_is_that_of_the_difference(rank: int, shape: tuple[int, int]) -> None:
    before = RNG.standard_normal(shape).astype(np.float32)
    found, share = numerical_rank(before, (before + of_rank(rank, shape)).astype(np.float32))
    # The least of its directions may hold less than one in a hundred.
    assert max(1, rank - 2) <= found <= rank
    assert 0.99 <= share <= 1 + 1e-9


def test_what_has_many_directions_has_no_low_rank() -> None:
    before = RNG.standard_normal((200, 150))
    assert numerical_rank(before, before + of_rank(3 * RANK, before.shape))[0] == 0
    assert numerical_rank(before, before + RNG.standard_normal(before.shape))[0] == 0
    turns = np.linalg.qr(RNG.standard_normal((200, RANK + 4)))[0]
    assert numerical_rank(np.zeros((200, 200)), turns @ turns.T)[0] == 0
    # Nine tenths in one direction are not enough, 999 in a thousand are.
    step = of_rank(1, before.shape)
    noise = RNG.standard_normal(before.shape) * np.linalg.norm(step) / np.sqrt(before.size)
    assert numerical_rank(before, before + step + noise / 3)[0] == 0
    assert numerical_rank(before, before + step + noise / 32)[0] == 1
    assert numerical_rank(before, before)[0] == 0


def test_distances_outlive_a_rotation_and_no_other_training() -> None:
    points = RNG.standard_normal((60, 24)) + 5
    turn = np.linalg.qr(RNG.standard_normal((24, 24)))[0]
    assert same_geometry(points, 3 * points @ turn - 1) == pytest.approx(1, abs=1e-12)
    assert abs(same_geometry(points, RNG.standard_normal((60, 24)) + 5)) < 0.3
    assert np.isnan(same_geometry(points, np.ones((60, 24))))
    # In so many dimensions all lengths are alike, which says nothing.
    assert abs(same_geometry(RNG.standard_normal((60, 400)), RNG.standard_normal((60, 400)))) < 0.3


def measured(pair: Folders, place: Path, change: Callable[[dict[str, Any]], None]) -> Comparison:
    """The base beside itself with some tensors changed."""
    shutil.copytree(pair.base, place)
    (file,) = place.glob("*.safetensors")
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file, metadata={"format": "pt"})
    sides = open_checkpoint(str(pair.base)), open_checkpoint(str(place))
    found = compare_open(*sides, hashes=False).compare
    assert found is not None
    return measure_geometry(*sides, found)


def test_an_override_in_one_matrix_is_named(pairs: Callable[[str], Folders], tmp_path: Path) -> None:
    name, wide = "model.layers.1.mlp.down_proj.weight", "model.layers.1.self_attn.o_proj.weight"

    def override(tensors: dict[str, Any]) -> None:
        tensors[name] += of_rank(1, tensors[name].shape).astype(np.float32)
        other = "model.layers.0.mlp.down_proj.weight"
        tensors[other] += RNG.standard_normal(tensors[other].shape).astype(np.float32)
        # Directions of one strength, and one more of them than an eighth.
        turns = np.linalg.qr(RNG.standard_normal(tensors[wide].shape))[0]
        tensors[wide] += turns[:, : min(turns.shape) // 8 + 1] @ turns[:, : min(turns.shape) // 8 + 1].T

    found = measured(pairs("llama"), tmp_path / "other", override)
    assert [(row.name, row.rank) for row in found.low_rank] == [(name, 1)]
    assert found.low_rank[0].full == min(load_file(next((tmp_path / "other").glob("*.safetensors")))[name].shape)
    assert np.isnan(found.ends_geometry)


def test_neurons_in_another_order_are_no_change_of_low_rank(pairs: Callable[[str], Folders], tmp_path: Path) -> None:
    def exchange(tensors: dict[str, Any]) -> None:
        for part, axis in (("gate", 0), ("up", 0), ("down", 1)):
            name = f"model.layers.1.mlp.{part}_proj.weight"
            order = [1, 0, *range(2, tensors[name].shape[axis])]
            tensors[name] = np.ascontiguousarray(np.take(tensors[name], order, axis))

    found = measured(pairs("llama"), tmp_path / "other", exchange)
    assert found.alignment
    assert found.low_rank == ()


def test_of_large_matrices_nothing_is_claimed(
    pairs: Callable[[str], Folders], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def override(tensors: dict[str, Any]) -> None:
        for name in ("model.layers.1.mlp.down_proj.weight", "model.embed_tokens.weight"):
            tensors[name] -= 9 * of_rank(1, tensors[name].shape).astype(np.float32)

    monkeypatch.setattr(geometry, "MOST", 10)
    found = measured(pairs("llama"), tmp_path / "other", override)
    assert (found.low_rank, np.isnan(found.ends_geometry)) == ((), True)


def test_a_rotated_embedding_keeps_its_geometry(pairs: Callable[[str], Folders], tmp_path: Path) -> None:
    name = "model.embed_tokens.weight"

    def turn(tensors: dict[str, Any]) -> None:
        width = tensors[name].shape[1]
        tensors[name] = tensors[name] @ np.linalg.qr(RNG.standard_normal((width, width)))[0].astype(np.float32)

    def redraw(tensors: dict[str, Any]) -> None:
        tensors[name] = RNG.standard_normal(tensors[name].shape).astype(np.float32)

    assert measured(pairs("llama"), tmp_path / "turned", turn).ends_geometry > 0.999
    assert measured(pairs("llama"), tmp_path / "anew", redraw).ends_geometry < 0.9
