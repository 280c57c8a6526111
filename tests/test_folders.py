"""More than one set of weights in a directory, and indexes that are wrong: read as transformers does, and said."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ckdiff.errors import CheckpointError
from ckdiff.weights.opening import open_checkpoint
from ckdiff.weights.storage import Mapped
from tests.tiny_families import build

if TYPE_CHECKING:
    from pathlib import Path

    from ckdiff.shapes import AnyArray
    from ckdiff.weights.checkpoint import Checkpoint

    Tensors = dict[str, AnyArray]

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
DOWN = "model.layers.0.mlp.down_proj.weight"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("saved")
    build("llama").save_pretrained(root)
    return root


@pytest.fixture
def model(saved: Path, tmp_path: Path) -> Path:
    """A tiny Llama with a config and no weights yet."""
    root = tmp_path / "model"
    root.mkdir()
    shutil.copy(saved / "config.json", root)
    return root


@pytest.fixture(scope="module")
def tensors(saved: Path) -> Tensors:
    return load_file(saved / SINGLE)


def scaled(tensors: Tensors, factor: float, names: str = "") -> Tensors:
    return {name: value * np.float32(factor) for name, value in tensors.items() if names in name}


def index(root: Path, weight_map: dict[str, str], name: str = INDEX) -> None:
    (root / name).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def sharded(root: Path, tensors: Tensors) -> dict[str, str]:
    names = sorted(tensors)
    parts = {"a.safetensors": names[: len(names) // 2], "b.safetensors": names[len(names) // 2 :]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, root / file, {"format": "pt"})
    weight_map = {name: file for file, part in parts.items() for name in part}
    index(root, weight_map)
    return weight_map


def values(checkpoint: Checkpoint) -> Tensors:
    with Mapped(checkpoint) as files:
        return {name: np.array(files.raw(name)) for name in checkpoint.shapes()}


def as_transformers_reads(root: Path) -> Checkpoint:
    """Open a directory, and hold every value against the one that transformers loads."""
    from transformers import AutoModelForCausalLM

    checkpoint = open_checkpoint(str(root))
    own = values(checkpoint)
    theirs: dict[str, Any] = AutoModelForCausalLM.from_pretrained(root).state_dict()
    for name, value in theirs.items():
        assert np.array_equal(own[name], value.numpy()), name
    return checkpoint


def test_an_overlay_is_read_in_the_place_of_stale_copies(model: Path, tensors: Tensors) -> None:
    weight_map = sharded(model, tensors)
    overlay = scaled(tensors, 1.5, "down_proj")
    save_file(overlay, model / "model-overlay.safetensors", {"format": "pt"})
    index(model, weight_map | dict.fromkeys(overlay, "model-overlay.safetensors"))
    checkpoint = as_transformers_reads(model)
    assert np.array_equal(values(checkpoint)[DOWN], tensors[DOWN] * np.float32(1.5))
    assert f'2 tensors (the first "{DOWN}") in two files' in checkpoint.notes[0]
    assert 'that of "model-overlay.safetensors" was read' in checkpoint.notes[0]
    assert "names another" not in checkpoint.notes[0]


def test_an_overlay_that_sorts_first_is_not_what_is_read(model: Path, tensors: Tensors) -> None:
    weight_map = sharded(model, tensors)
    overlay = scaled(tensors, 1.5, "down_proj")
    save_file(overlay, model / "_overlay.safetensors", {"format": "pt"})
    index(model, weight_map | dict.fromkeys(overlay, "_overlay.safetensors"))
    checkpoint = as_transformers_reads(model)
    assert np.array_equal(values(checkpoint)[DOWN], tensors[DOWN])
    assert "for 2 of them the index names another file" in checkpoint.notes[0]


def test_an_index_that_is_wrong_is_a_finding(model: Path, tensors: Tensors) -> None:
    weight_map = sharded(model, tensors)
    moved = {**weight_map, "model.norm.weight": "a.safetensors", "model.rotary_emb.inv_freq": "a.safetensors"}
    del moved["lm_head.weight"]
    index(model, moved)
    notes = as_transformers_reads(model).notes
    assert 'tensor "model.rotary_emb.inv_freq" named but in no file: left out' in notes[0]
    assert 'tensor "lm_head.weight" in its files but not named: read' in notes[1]
    assert 'tensor "model.norm.weight" not in the file that it names: read from where it lies' in notes[2]


def test_a_leftover_single_file_is_what_is_read(model: Path, tensors: Tensors) -> None:
    sharded(model, tensors)
    save_file(scaled(tensors, 2.0), model / SINGLE, {"format": "pt"})
    notes = as_transformers_reads(model).notes
    assert 'model.safetensors was read, as transformers does; not read: "a.safetensors", "b.safetensors"' in notes[0]


def test_the_file_that_the_config_names_is_what_is_read(model: Path, tensors: Tensors) -> None:
    save_file(tensors, model / SINGLE, {"format": "pt"})
    save_file(scaled(tensors, 2.0), model / "other.safetensors", {"format": "pt"})
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"transformers_weights": "other.safetensors"}))
    notes = as_transformers_reads(model).notes
    assert "which config.json names" in notes[0]
    assert 'not read: "model.safetensors"' in notes[1]
    (model / "config.json").write_text(json.dumps(config | {"transformers_weights": "../model.safetensors"}))
    with pytest.raises(CheckpointError, match="leaves the directory"):
        open_checkpoint(str(model))


@pytest.mark.parametrize(
    "other", ["consolidated.safetensors", "model.fp16.safetensors", "pytorch_model.bin", "original"]
)
def test_other_weights_are_named_and_not_read(model: Path, tensors: Tensors, other: str) -> None:
    save_file(tensors, model / SINGLE, {"format": "pt"})
    if other == "original":
        (model / other).mkdir()
    else:
        save_file(scaled(tensors, 2.0), model / other)
    (model / "optimizer.pt").write_bytes(b"")
    (note,) = as_transformers_reads(model).notes
    assert f'not read: "{other}' in note
    assert "optimizer" not in note


def test_several_indexes_are_told_apart(model: Path, tensors: Tensors) -> None:
    weight_map = sharded(model, tensors)
    index(model, weight_map, "model.safetensors.index.fp16.json")
    assert "index.fp16.json" in as_transformers_reads(model).notes[0]
    (model / INDEX).unlink()
    with pytest.raises(CheckpointError, match=r"name one of them, or model\.safetensors\.index\.fp16\.json"):
        open_checkpoint(str(model))


# ---------------------------------------------------------------------------------------------- adapter and model

Q = "model.layers.0.self_attn.q_proj"


def adapted(root: Path, base: Path) -> AnyArray:
    """Put an adapter into a directory; what it adds to the first layer's queries."""
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=shape).astype(np.float32) * np.float32(0.1) for shape in ((4, 32), (32, 4)))
    save_file(
        {f"base_model.model.{Q}.lora_A.weight": a, f"base_model.model.{Q}.lora_B.weight": b},
        root / "adapter_model.safetensors",
    )
    settings = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": f"{Q}", "bias": "none"}
    settings |= {"base_model_name_or_path": str(base), "init_lora_weights": True, "task_type": "CAUSAL_LM"}
    (root / "adapter_config.json").write_text(json.dumps(settings))
    return 2 * (b.astype(np.float64) @ a.astype(np.float64))


def near(found: AnyArray, expected: AnyArray) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


def test_an_adapter_beside_a_model_is_read_on_top_of_it(saved: Path, model: Path, tensors: Tensors) -> None:
    from transformers import AutoModelForCausalLM

    delta = adapted(model, saved)
    save_file(scaled(tensors, 3.0), model / SINGLE, {"format": "pt"})
    checkpoint = open_checkpoint(str(model))
    found = values(checkpoint)
    assert np.array_equal(found[DOWN], tensors[DOWN] * np.float32(3))
    np.testing.assert_allclose(
        found[Q + ".weight"], tensors[Q + ".weight"] * np.float32(3) + delta, rtol=1e-6, atol=1e-7
    )
    theirs = AutoModelForCausalLM.from_pretrained(model).state_dict()
    assert np.array_equal(theirs[f"{Q}.base_layer.weight"].numpy(), tensors[Q + ".weight"] * np.float32(3))
    assert "lora_A" in str(list(theirs))
    assert "counts twice" in checkpoint.notes[-1]
    assert str(model / SINGLE) in checkpoint.notes[-1]


def test_the_other_sets_are_had_as_the_note_says(saved: Path, model: Path, tensors: Tensors) -> None:
    delta = adapted(model, saved)
    save_file(scaled(tensors, 3.0), model / SINGLE, {"format": "pt"})
    alone = open_checkpoint(str(model / SINGLE))
    assert np.array_equal(values(alone)[Q + ".weight"], tensors[Q + ".weight"] * np.float32(3))
    elsewhere = open_checkpoint(str(model), adapter_base=str(saved))
    near(values(elsewhere)[Q + ".weight"], tensors[Q + ".weight"] + delta)
    assert "the model beside it was not" in elsewhere.notes[-1]


def test_without_a_config_the_adapters_own_base_is_read(saved: Path, model: Path, tensors: Tensors) -> None:
    from transformers import AutoModelForCausalLM

    delta = adapted(model, saved)
    save_file(scaled(tensors, 3.0), model / SINGLE, {"format": "pt"})
    (model / "config.json").unlink()
    checkpoint = open_checkpoint(str(model))
    near(values(checkpoint)[Q + ".weight"], tensors[Q + ".weight"] + delta)
    theirs = AutoModelForCausalLM.from_pretrained(model).state_dict()
    assert np.array_equal(theirs[f"{Q}.base_layer.weight"].numpy(), tensors[Q + ".weight"])
    assert "the model beside it was not" in checkpoint.notes[-1]


def test_a_base_that_holds_an_adapter_too_is_read_without_it(saved: Path, model: Path, tensors: Tensors) -> None:
    adapted(model, saved)
    save_file(scaled(tensors, 3.0), model / SINGLE, {"format": "pt"})
    other = model.parent / "other"
    other.mkdir()
    delta = adapted(other, model)
    found = values(open_checkpoint(str(other)))
    np.testing.assert_allclose(
        found[Q + ".weight"], tensors[Q + ".weight"] * np.float32(3) + delta, rtol=1e-6, atol=1e-7
    )
