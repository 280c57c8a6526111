from __future__ import annotations

import json
import shutil
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.numpy import load_file, save_file
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from ckdiff.errors import CheckpointError
from ckdiff.weights.architectures import ARCHITECTURES
from ckdiff.weights.opening import open_checkpoint
from ckdiff.weights.reader import is_adapter
from ckdiff.weights.storage import Mapped

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ckdiff.weights.checkpoint import Checkpoint
    from tests.tiny_pairs import Folders

WIDTH = 16


def llama(tied: bool = False, bias: bool = False) -> Any:
    config = LlamaConfig(
        hidden_size=WIDTH,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        vocab_size=32,
        tie_word_embeddings=tied,
        attention_bias=bias,
    )
    return LlamaForCausalLM(config)


def gpt2() -> Any:
    config = GPT2Config(n_embd=WIDTH, n_layer=2, n_head=2, vocab_size=32, n_positions=8, bos_token_id=0, eos_token_id=0)
    return GPT2LMHeadModel(config)


def make_pair(root: Path, model: Any, **settings: Any) -> dict[str, Any]:
    """Save base and adapter with random A and B; give back the merged model's own tensors."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter)
        model.save_pretrained(root / "base")
        wrapped: Any = get_peft_model(model, LoraConfig(**settings))
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name or "modules_to_save" in name or parameter.requires_grad:
                torch.nn.init.normal_(parameter, std=0.3)
        wrapped.save_pretrained(root / "adapter")
        config_path = root / "adapter" / "adapter_config.json"
        config = json.loads(config_path.read_text())
        config_path.write_text(json.dumps(config | {"base_model_name_or_path": "../base"}))
        merged: dict[str, Any] = wrapped.merge_and_unload().state_dict()
    return merged


def values(checkpoint: Checkpoint) -> dict[str, Any]:
    with Mapped(checkpoint) as files:
        return {name: np.array(files.raw(name)) for name in checkpoint.shapes()}


SETTINGS: dict[str, tuple[Callable[[], Any], dict[str, Any]]] = {
    "plain": (llama, {"r": 2, "lora_alpha": 16, "target_modules": ["q_proj", "down_proj"]}),
    "rslora": (llama, {"r": 4, "lora_alpha": 3, "use_rslora": True, "target_modules": ["v_proj", "up_proj"]}),
    "patterns": (
        llama,
        {
            "r": 2,
            "target_modules": "all-linear",
            "rank_pattern": {
                "q_proj": 5,
                r"model\.layers\.1\.mlp\.(up|gate)_proj": 3,
                "^model.layers.0.mlp.up_proj": 4,
            },
            "alpha_pattern": {"layers.1.self_attn.q_proj": 7, "proj": 11, "down_proj": 9},
        },
    ),
    "modules_to_save": (
        llama,
        {"r": 2, "target_modules": ["o_proj"], "modules_to_save": ["embed_tokens", "lm_head", "norm"]},
    ),
    "embedding": (llama, {"r": 2, "target_modules": ["embed_tokens", "q_proj", "lm_head"]}),
    "embedding tied": (lambda: llama(tied=True), {"r": 2, "target_modules": ["embed_tokens", "q_proj"]}),
    "bias all": (lambda: llama(bias=True), {"r": 2, "target_modules": ["q_proj"], "bias": "all"}),
    "bias lora_only": (lambda: llama(bias=True), {"r": 2, "target_modules": ["q_proj"], "bias": "lora_only"}),
    "lora_bias": (lambda: llama(bias=True), {"r": 2, "target_modules": ["q_proj", "k_proj"], "lora_bias": True}),
    "gaussian": (llama, {"r": 2, "target_modules": ["q_proj"], "init_lora_weights": "gaussian"}),
    "gpt2": (gpt2, {"r": 2, "target_modules": ["c_attn", "c_fc", "c_proj"], "fan_in_fan_out": True}),
    "gpt2 unset": (gpt2, {"r": 2, "target_modules": ["c_proj"]}),
    "gpt2 embedding": (gpt2, {"r": 2, "target_modules": ["wte", "wpe", "c_fc"], "fan_in_fan_out": True}),
    "gpt2 bias": (gpt2, {"r": 2, "target_modules": ["c_attn"], "bias": "all", "fan_in_fan_out": True}),
    "untied head": (gpt2, {"r": 2, "target_modules": ["c_fc"], "modules_to_save": ["lm_head"], "fan_in_fan_out": True}),
    "untied embedding": (lambda: llama(tied=True), {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}),
    "tied head": (lambda: llama(tied=True), {"r": 2, "target_modules": ["lm_head"]}),
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_merges_as_peft_does(tmp_path: Path, setting: str) -> None:
    build, settings = SETTINGS[setting]
    merged = make_pair(tmp_path, build(), **settings)
    checkpoint = open_checkpoint(str(tmp_path / "adapter"))
    found = values(checkpoint)
    assert found.keys() <= merged.keys()
    missing = merged.keys() - found.keys()
    assert all(name == "lm_head.weight" and checkpoint.config["tie_word_embeddings"] for name in missing)
    embedding = next(name for name in found if name.endswith(("embed_tokens.weight", "wte.weight")))
    for name, expected in merged.items():
        value = found.get(name, found[embedding])
        scale = np.abs(expected.numpy()).max()
        np.testing.assert_allclose(value, expected.numpy(), rtol=0, atol=1e-6 * scale, err_msg=name)
        assert value.dtype == np.float32
    base = values(open_checkpoint(str(tmp_path / "base")))
    assert any(not np.array_equal(base[name], found[name]) for name in base)


@pytest.mark.parametrize("name", [name for name, row in ARCHITECTURES.items() if row.tied])
def test_a_family_ties_its_embeddings_unsaid(pairs: Callable[[str], Folders], tmp_path: Path, name: str) -> None:
    """An adapter of the output matrix, where config.json does not say that it is the embedding's."""
    shutil.copytree(pairs(name).base, tmp_path / "base")
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    config.pop("tie_word_embeddings", None)
    (tmp_path / "base" / "config.json").write_text(json.dumps(config))
    base = values(open_checkpoint(str(tmp_path / "base")))
    embedding = next(key for key in base if key.split(".")[-2] in ("embed_tokens", "wte", "word_embeddings"))
    rows, width = base[embedding].shape
    (tmp_path / "adapter").mkdir()
    settings = {"peft_type": "LORA", "r": 1, "lora_alpha": 1, "target_modules": ["lm_head"]}
    settings |= {"base_model_name_or_path": str(tmp_path / "base")}
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(settings))
    factors = {"A": np.ones((1, width), np.float32), "B": np.ones((rows, 1), np.float32)}
    named = {f"base_model.model.lm_head.lora_{key}.weight": value for key, value in factors.items()}
    save_file(named, tmp_path / "adapter" / "adapter_model.safetensors")
    found = values(open_checkpoint(str(tmp_path / "adapter")))
    np.testing.assert_allclose(found[embedding], base[embedding] + 1, rtol=0, atol=1e-6)


def test_location_root_shards_and_notes(tmp_path: Path) -> None:
    make_pair(tmp_path, llama(), r=2, lora_alpha=16, target_modules=["q_proj"])
    (tmp_path / "adapter" / "tokenizer_config.json").write_text("{}")
    checkpoint = open_checkpoint(str(tmp_path / "adapter"))
    assert checkpoint.location == str(tmp_path / "adapter")
    assert checkpoint.root is not None
    assert checkpoint.root.resolve() == tmp_path / "base"
    assert [shard.name for shard in checkpoint.shards] == ["adapter_model.safetensors", "model.safetensors"]
    assert "2 tensors merged (scale 8)" in checkpoint.notes[0]
    assert "float32" in checkpoint.notes[0]
    assert "tokenizer" in checkpoint.notes[1]
    assert sorted(checkpoint.derived) == [f"model.layers.{layer}.self_attn.q_proj.weight" for layer in (0, 1)]
    assert is_adapter(tmp_path / "adapter")
    assert not is_adapter(tmp_path / "base")


def test_base_file_without_the_models_prefix(tmp_path: Path) -> None:
    merged = make_pair(tmp_path, gpt2(), r=2, target_modules=["c_attn"], fan_in_fan_out=True)
    file = tmp_path / "base" / "model.safetensors"
    save_file({name.removeprefix("transformer."): value for name, value in load_file(file).items()}, file)
    found = values(open_checkpoint(str(tmp_path / "adapter")))
    expected = merged["transformer.h.1.attn.c_attn.weight"].numpy()
    np.testing.assert_allclose(found["h.1.attn.c_attn.weight"], expected, rtol=0, atol=1e-6)


def test_bfloat16_is_merged_from_the_stored_words(tmp_path: Path) -> None:
    make_pair(tmp_path, llama().to(torch.bfloat16), r=2, target_modules=["down_proj"])
    name = "model.layers.0.mlp.down_proj"
    with Mapped(open_checkpoint(str(tmp_path / "adapter"))) as files:
        found = files.raw(f"{name}.weight")
    from safetensors.torch import load_file as load_torch

    adapter = load_torch(tmp_path / "adapter" / "adapter_model.safetensors")
    weight = load_torch(tmp_path / "base" / "model.safetensors")[f"{name}.weight"].double()
    a, b = (adapter[f"base_model.model.{name}.lora_{side}.weight"].double() for side in "AB")
    np.testing.assert_array_equal(found, (weight + 4.0 * (b @ a)).float().numpy())


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    make_pair(tmp_path, llama(), r=2, target_modules=["q_proj"])
    return tmp_path


def edit(pair: Path, **keys: Any) -> None:
    path = pair / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


def refused(text: Path | str, base: str | None = None) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(str(text), base)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("use_dora", True),
        ("peft_type", "IA3"),
        ("alora_invocation_tokens", [1]),
        ("target_parameters", ["mlp.experts.gate_up_proj"]),
        ("trainable_token_indices", [1]),
        ("layer_replication", [[0, 1]]),
        ("megatron_config", {"a": 1}),
        ("init_lora_weights", "pissa_niter_4"),
        ("init_lora_weights", "olora"),
        ("init_lora_weights", "loftq"),
        ("init_lora_weights", 1),
        ("use_qalora", True),
        ("a_key_of_tomorrow", 1),
        ("rank_pattern", {"(": 1}),
        ("rank_pattern", [1]),
        ("r", 0),
        ("r", "two"),
        ("lora_alpha", True),
        ("bias", "some"),
        ("modules_to_save", "norm"),
        ("use_rslora", "yes"),
    ],
)
def test_settings_that_are_refused_by_name(pair: Path, key: str, value: Any) -> None:
    edit(pair, **{key: value})
    message = refused(pair / "adapter")
    assert "adapter_config.json" in message
    assert key in message or "(" in message


def retensor(pair: Path, change: Callable[[dict[str, Any]], None]) -> str:
    path = pair / "adapter" / "adapter_model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    message = refused(pair / "adapter")
    assert "adapter_model.safetensors" in message
    return message


Q = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("name", "shape", "why"),
    [
        (f"{Q}.lora_C.weight", (2, 2), "does not know"),
        (f"{Q}.lora_magnitude_vector", (16,), "does not know"),
        ("model.layers.0.x", (1,), "base_model.model."),
        (f"{Q}.lora_A.weight", (3, 16), "rank"),
        (f"{Q}.lora_A.weight", (2, 15), "does not fit"),
        (f"{Q}.lora_B.weight", (16, 3), "does not fit"),
        (f"{Q}.lora_B.bias", (16,), "does not belong"),
        (f"{Q}.lora_embedding_A", (2, 16), "does not belong"),
        (f"{Q}.weight", (16, 16), "does not know"),
        ("base_model.model.lm_head.weight", (33, 16), "is not the base's"),
        ("base_model.model.experts.q_proj.lora_A.weight", (2, 16), "beside it"),
    ],
)
def test_tensors_that_are_refused_by_name(pair: Path, name: str, shape: tuple[int, ...], why: str) -> None:
    message = retensor(pair, lambda tensors: tensors.update({name: np.ones(shape, np.float32)}))
    assert why in message


def test_half_a_pair_and_a_module_that_the_base_lacks(pair: Path) -> None:
    assert "lora_B.weight" in retensor(pair, lambda tensors: tensors.pop(f"{Q}.lora_B.weight"))

    def rename(tensors: dict[str, Any]) -> None:
        for name in list(tensors):
            tensors[name.replace("self_attn", "mixer")] = tensors.pop(name)
        tensors["base_model.model.model.layers.0.mixer.q_proj.lora_B.weight"] = np.ones((16, 2), np.float32)

    assert "has no tensor" in retensor(pair, rename)


def test_base_is_named_found_or_asked_for(pair: Path) -> None:
    shutil.move(pair / "base", pair / "moved")
    assert "--adapter-base" in refused(pair / "adapter")
    assert open_checkpoint(str(pair / "adapter"), str(pair / "moved")).derived
    edit(pair, base_model_name_or_path=None)
    assert "--adapter-base" in refused(pair / "adapter")
    assert "itself an adapter" in refused(pair / "adapter", str(pair / "adapter"))


def test_pickled_adapter_is_refused(pair: Path) -> None:
    (pair / "adapter" / "adapter_model.safetensors").rename(pair / "adapter" / "adapter_model.bin")
    assert "pickle" in refused(pair / "adapter")


@pytest.mark.parametrize(
    "way", ["_orig_mod.base_model.model.", "base_model.model._orig_mod.", "base_model.model.module."]
)
def test_an_adapter_of_a_wrapped_model_is_the_same_adapter(tmp_path: Path, way: str) -> None:
    merged = make_pair(tmp_path, llama(), r=2, target_modules=["q_proj"])
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    renamed = {name.replace("base_model.model.", way): value for name, value in load_file(file).items()}
    save_file(renamed, file)
    found = values(open_checkpoint(str(tmp_path / "adapter")))
    for name, value in merged.items():
        np.testing.assert_allclose(found[name], value.numpy(), rtol=2e-6, atol=1e-6)
