"""Small checkpoints written by hand, for tests that need no live model."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors.numpy import save_file

if TYPE_CHECKING:
    from pathlib import Path

    from ckdiff.shapes import AnyArray

CONFIG = {
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 4,
    "vocab_size": 20,
    "num_hidden_layers": 2,
    "tie_word_embeddings": False,
}


def llama(seed: int = 0, layers: int = 2) -> dict[str, AnyArray]:
    """Random float32 tensors with Llama's names."""
    rng = np.random.default_rng(seed)
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (20, 8), "lm_head.weight": (20, 8)}
    shapes["model.norm.weight"] = (8,)
    for n in range(layers):
        prefix = f"model.layers.{n}."
        shapes |= {
            prefix + "self_attn.q_proj.weight": (8, 8),
            prefix + "self_attn.k_proj.weight": (4, 8),
            prefix + "self_attn.v_proj.weight": (4, 8),
            prefix + "self_attn.o_proj.weight": (8, 8),
            prefix + "mlp.gate_proj.weight": (12, 8),
            prefix + "mlp.up_proj.weight": (12, 8),
            prefix + "mlp.down_proj.weight": (8, 12),
            prefix + "input_layernorm.weight": (8,),
            prefix + "post_attention_layernorm.weight": (8,),
        }
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def save(directory: Path, tensors: dict[str, AnyArray], shards: int = 1, **config: Any) -> Path:
    """Write tensors as a checkpoint directory of so many shards."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(CONFIG | config))
    if shards == 1:
        save_file(tensors, directory / "model.safetensors")
        return directory
    weight_map: dict[str, str] = {}
    for index in range(shards):
        file = f"model-{index + 1:05d}-of-{shards:05d}.safetensors"
        part = {name: tensors[name] for name in sorted(tensors)[index::shards]}
        save_file(part, directory / file)
        weight_map |= dict.fromkeys(part, file)
    (directory / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return directory
