from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from ckdiff.errors import CheckpointError
from ckdiff.weights.opening import open_checkpoint
from ckdiff.weights.storage import Mapped
from tests.checkpoints import llama, save

if TYPE_CHECKING:
    from collections.abc import Callable

INDEX = "model.safetensors.index.json"


def one_line(error: CheckpointError) -> None:
    assert "\n" not in str(error)


def refused(path: Path, *names: str) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(str(path))
    message = str(caught.value)
    assert "\n" not in message
    assert all(name in message for name in (path.name, *names))
    return message


def sharded(root: Path) -> Path:
    root.mkdir(exist_ok=True)
    save_file({"a": torch.zeros(2)}, root / "one.safetensors")
    save_file({"b": torch.ones(3)}, root / "two.safetensors")
    write_index(root, {"a": "one.safetensors", "b": "two.safetensors"})
    (root / "config.json").write_text('{"model_type": "llama"}')
    return root


def write_index(root: Path, weight_map: Any) -> None:
    (root / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_directory_index_file_and_lone_file(tmp_path: Path) -> None:
    root = sharded(tmp_path / "model")
    for path in (root, root / INDEX):
        checkpoint = open_checkpoint(str(path))
        assert checkpoint.shapes() == {"a": (2,), "b": (3,)}
        assert [shard.name for shard in checkpoint.shards] == ["one.safetensors", "two.safetensors"]
        assert checkpoint.config == {"model_type": "llama"}
        assert checkpoint.root == root
    lone = open_checkpoint(str(root / "one.safetensors"))
    assert (lone.root, lone.config, lone.shapes()) == (root, checkpoint.config, {"a": (2,)})
    (root / "config.json").unlink()
    assert open_checkpoint(str(root / "one.safetensors")).root is None


def swap(path: Path, make: Callable[[Path], None]) -> None:
    path.unlink()
    make(path)


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def drop_shard(root: Path) -> None:
    (root / "two.safetensors").unlink()


def link_out(root: Path) -> None:
    (root / "two.safetensors").rename(root.parent / "out.safetensors")
    (root / "two.safetensors").symlink_to(root.parent / "out.safetensors")


def absolute(root: Path) -> None:
    write_index(root, {"a": "one.safetensors", "b": "/etc/two.safetensors"})


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing shard": (drop_shard, "two.safetensors"),
    "relative path out": (lambda root: write_index(root, {"a": "../model2/one.safetensors"}), "leaves the directory"),
    "absolute path": (absolute, "leaves the directory"),
    "symlink out": (link_out, "leaves the directory"),
    "null in a name": (lambda root: write_index(root, {"a": "one\0"}), "cannot be followed"),
    "no map": (lambda root: write_index(root, []), "weight_map"),
    "empty map": (lambda root: write_index(root, {}), "weight_map"),
    "map of numbers": (lambda root: write_index(root, {"a": 1}), "not a file name"),
    "index not JSON": (lambda root: (root / INDEX).write_text("{"), "not JSON"),
    "index not an object": (lambda root: (root / INDEX).write_text("[]"), "not a JSON object"),
    "config not JSON": (lambda root: (root / "config.json").write_text("{"), "config.json"),
    "shard is a directory": (
        lambda root: swap(root / "two.safetensors", os.mkdir),
        "not a regular file",
    ),
    "shard is a FIFO": (
        lambda root: swap(root / "two.safetensors", os.mkfifo),
        "not a regular file",
    ),
    "index is a FIFO": (lambda root: swap(root / INDEX, os.mkfifo), "not a regular file"),
    "config is a FIFO": (
        lambda root: swap(root / "config.json", os.mkfifo),
        "not a regular file",
    ),
    "loop": (
        lambda root: swap(root / "two.safetensors", loop),
        "two.safetensors",
    ),
    "index lost": (lambda root: (root / INDEX).unlink(), INDEX),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_directories_are_refused_in_one_line(tmp_path: Path, case: str) -> None:
    root = sharded(tmp_path / "model")
    change, why = BROKEN[case]
    change(root)
    assert why in refused(root)


def test_places_without_weights(tmp_path: Path) -> None:
    assert "does not exist" in refused(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert "no .safetensors file" in refused(tmp_path / "empty")
    (tmp_path / "empty" / "pytorch_model.bin").write_bytes(b"\x80\x02")
    assert "pickle" in refused(tmp_path / "empty")
    (tmp_path / "loop").symlink_to("loop")
    refused(tmp_path / "loop")
    (tmp_path / "x.safetensors").mkdir()
    assert "no .safetensors file" in refused(tmp_path / "x.safetensors")
    refused(tmp_path / ("n" * 300))
    for text in ("", "a\0b"):
        with pytest.raises(CheckpointError):
            open_checkpoint(text)


def test_an_adapter_without_its_base(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    save_file({"base_model.model.x.lora_A.weight": torch.zeros(1, 1)}, tmp_path / "adapter_model.safetensors")
    assert "--adapter-base" in refused(tmp_path)


def test_the_single_file_wins_over_the_index_and_says_so(tmp_path: Path) -> None:
    root = sharded(tmp_path / "model")
    save_file({"w": torch.zeros(1)}, root / "model.safetensors")
    checkpoint = open_checkpoint(str(root))
    assert list(checkpoint.stored) == ["w"]
    assert INDEX in checkpoint.notes[0]


def fp8(rows: int, columns: int) -> torch.Tensor:
    return (torch.randn(rows, columns, generator=torch.Generator().manual_seed(1)) * 3).to(torch.float8_e4m3fn)


SCALES = {
    "0-d": ("weight_scale", torch.tensor(0.37)),
    "one element": ("weight_scale", torch.tensor([0.37])),
    "bf16": ("weight_scale", torch.tensor(0.37).bfloat16()),
    "per row": ("weight_scale", torch.rand(130)),
    "per row, column": ("weight_scale", torch.rand(130, 1)),
    "blocks": ("weight_scale_inv", torch.rand(2, 3)),
}


@pytest.mark.parametrize("case", SCALES)
def test_fp8_is_read_with_its_scale(tmp_path: Path, case: str) -> None:
    suffix, scale = SCALES[case]
    weight = fp8(130, 300)
    save_file({"l.weight": weight, f"l.{suffix}": scale, "n": torch.zeros(1)}, tmp_path / "model.safetensors")
    checkpoint = open_checkpoint(str(tmp_path))
    assert checkpoint.shapes() == {"l.weight": (130, 300), "n": (1,)}
    factor = scale.double().numpy()
    if case == "blocks":
        factor = np.kron(factor, np.ones((128, 128)))[:130, :300]
    elif case == "per row":
        factor = factor[:, None]
    with Mapped(checkpoint) as files:
        found = files.raw("l.weight")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, weight.double().numpy() * factor, rtol=1e-7, atol=0)
    assert "FP8" in checkpoint.notes[0]


def test_a_scale_that_fits_nothing_is_refused(tmp_path: Path) -> None:
    save_file({"l.weight": fp8(4, 6), "l.weight_scale": torch.rand(5)}, tmp_path / "model.safetensors")
    assert "l.weight_scale" in refused(tmp_path)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "c", ""]),
        st.one_of(
            st.sampled_from(
                ["one.safetensors", "two.safetensors", "./one.safetensors", "../x", "/", ".", "", "\0", "é"]
            ),
            st.text(max_size=8),
            st.none(),
            st.integers(),
            st.lists(st.integers(), max_size=1),
        ),
        max_size=3,
    ),
    st.binary(max_size=3),
)
def test_any_index_is_opened_or_refused(weight_map: dict[str, Any], tail: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = sharded(Path(folder) / "model")
        (root / INDEX).write_bytes(json.dumps({"weight_map": weight_map}).encode() + tail)
        try:
            checkpoint = open_checkpoint(str(root))
        except CheckpointError as error:
            one_line(error)
        else:
            files = {os.path.normpath(file) for file in weight_map.values()}
            held = {name for name, file in (("a", "one.safetensors"), ("b", "two.safetensors")) if file in files}
            assert set(checkpoint.stored) == held


def test_a_file_may_be_mapped_while_pages_of_another_are_given_back(tmp_path: Path) -> None:
    """As one thread does while another has measured its part."""
    files = Mapped(open_checkpoint(str(sharded(tmp_path))))
    first, *others = files.checkpoint.stored
    ranges = files._ranges(files.raw(first))
    assert len([files.raw(name) for _ in ranges for name in others]) == len(others) > 0


def test_stored_words_are_there_again_after_they_were_given_back(tmp_path: Path) -> None:
    tensors = llama()
    with Mapped(open_checkpoint(str(save(tmp_path / "model", tensors)))) as files:
        for name, values in tensors.items():
            array = files.raw(name)
            for part in (array, array[1:2], array[:0], values):
                files.need(part)
                files.give_back(part)
            np.testing.assert_array_equal(files.raw(name), values)
