"""The same function in other numbers: `reorder(source, target)` shuffles and scales what a model may shuffle and scale.

It shares no code with what finds that out again: tensors are cut here by what transformers' modules do with them.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    Tensors = dict[str, Tensor]

HEADS, SHARED, SIZE = 4, 2, 8
"""Of the tiny families: query heads, key-value heads, numbers a head."""


def reorder(source: Path, target: Path, layers: range = range(4), scales: bool = True) -> Path:
    """A copy of a tiny checkpoint whose neurons, and of most families heads, are elsewhere; no answer changes."""
    shutil.copytree(source, target)
    place = target / "model.safetensors"
    tensors, generator = load_file(place), torch.Generator().manual_seed(0)
    kind = json.loads((target / "config.json").read_text())["model_type"]
    for layer in layers:
        REORDERED[kind](tensors, layer, generator, scales)
    save_file({name: value.contiguous() for name, value in tensors.items()}, place, metadata={"format": "pt"})
    return target


def _order(count: int, generator: torch.Generator) -> Tensor:
    return torch.randperm(count, generator=generator)


def _scales(count: int, generator: torch.Generator, wanted: bool) -> Tensor:
    """Factors of either sign between a third and three."""
    sizes = torch.exp(2.2 * torch.rand(count, generator=generator) - 1.1)
    return sizes * (torch.randint(0, 2, (count,), generator=generator) * 2 - 1) if wanted else torch.ones(count)


def _llama(tensors: Tensors, layer: int, generator: torch.Generator, scales: bool) -> None:
    at = f"model.layers.{layer}."
    gate, up, down = (f"{at}mlp.{name}_proj." for name in ("gate", "up", "down"))
    order = _order(len(tensors[f"{up}weight"]), generator)
    factor = _scales(len(order), generator, scales)
    tensors[f"{down}weight"] = tensors[f"{down}weight"][:, order] / factor
    for name, by in ((gate, torch.ones(len(order))), (up, factor)):
        for leaf in ("weight", "bias"):
            if name + leaf in tensors:
                value = tensors[name + leaf][order]
                tensors[name + leaf] = value * (by[:, None] if leaf == "weight" else by)
    each = HEADS // SHARED
    groups = _order(SHARED, generator)
    heads = torch.cat([each * group + _order(each, generator) for group in groups])
    by_key, by_value = (_scales(SHARED, generator, scales) for _ in range(2))
    parts = {"q": (heads, by_key.repeat_interleave(each)), "k": (groups, 1 / by_key), "v": (groups, by_value)}
    for part, (places, by) in parts.items():
        for leaf in ("weight", "bias"):
            name = f"{at}self_attn.{part}_proj.{leaf}"
            if name in tensors:
                rows = tensors[name].view(len(places), SIZE, -1)[places] * by[:, None, None]
                tensors[name] = rows.reshape(tensors[name].shape)
    name = f"{at}self_attn.o_proj.weight"
    wide = tensors[name].view(-1, HEADS, SIZE)[:, heads] / by_value.repeat_interleave(each)[None, :, None]
    tensors[name] = wide.reshape(tensors[name].shape)


def _phi3(tensors: Tensors, layer: int, generator: torch.Generator, scales: bool) -> None:
    at = f"model.layers.{layer}."
    both, down = f"{at}mlp.gate_up_proj.weight", f"{at}mlp.down_proj.weight"
    gate, up = tensors[both].chunk(2)
    order = _order(len(up), generator)
    factor = _scales(len(order), generator, scales)
    tensors[both] = torch.cat([gate[order], up[order] * factor[:, None]])
    tensors[down] = tensors[down][:, order] / factor
    name = f"{at}self_attn.qkv_proj.weight"
    q, k, v = tensors[name].split([HEADS * SIZE, SHARED * SIZE, SHARED * SIZE])
    swapped = [part.view(2, -1, part.shape[1]).flip(0).reshape(part.shape) for part in (q, k, v)]
    tensors[name] = torch.cat(swapped)
    name = f"{at}self_attn.o_proj.weight"
    tensors[name] = tensors[name].view(-1, 2, HEADS * SIZE // 2).flip(1).reshape(tensors[name].shape)


def _gpt2(tensors: Tensors, layer: int, generator: torch.Generator, scales: bool) -> None:
    at = f"transformer.h.{layer}."
    order = _order(tensors[f"{at}mlp.c_fc.weight"].shape[1], generator)
    tensors[f"{at}mlp.c_fc.weight"] = tensors[f"{at}mlp.c_fc.weight"][:, order]
    tensors[f"{at}mlp.c_fc.bias"] = tensors[f"{at}mlp.c_fc.bias"][order]
    tensors[f"{at}mlp.c_proj.weight"] = tensors[f"{at}mlp.c_proj.weight"][order]
    heads = _order(HEADS, generator)
    rows = (heads[:, None] * SIZE + torch.arange(SIZE)).ravel()
    for leaf in ("weight", "bias"):
        parts = tensors[f"{at}attn.c_attn.{leaf}"].chunk(3, -1)
        tensors[f"{at}attn.c_attn.{leaf}"] = torch.cat([part[..., rows] for part in parts], -1)
    tensors[f"{at}attn.c_proj.weight"] = tensors[f"{at}attn.c_proj.weight"][rows]


def _gpt_neox(tensors: Tensors, layer: int, generator: torch.Generator, scales: bool) -> None:
    at = f"gpt_neox.layers.{layer}."
    order = _order(len(tensors[f"{at}mlp.dense_h_to_4h.weight"]), generator)
    for leaf in ("weight", "bias"):
        tensors[f"{at}mlp.dense_h_to_4h.{leaf}"] = tensors[f"{at}mlp.dense_h_to_4h.{leaf}"][order]
    tensors[f"{at}mlp.dense_4h_to_h.weight"] = tensors[f"{at}mlp.dense_4h_to_h.weight"][:, order]
    heads = _order(HEADS, generator)
    for leaf in ("weight", "bias"):
        name = f"{at}attention.query_key_value.{leaf}"
        tensors[name] = tensors[name].view(HEADS, 3 * SIZE, -1)[heads].reshape(tensors[name].shape)
    name = f"{at}attention.dense.weight"
    tensors[name] = tensors[name].view(-1, HEADS, SIZE)[:, heads].reshape(tensors[name].shape)


def _opt(tensors: Tensors, layer: int, generator: torch.Generator, scales: bool) -> None:
    at = f"model.decoder.layers.{layer}."
    order = _order(len(tensors[f"{at}fc1.weight"]), generator)
    factor = _scales(len(order), generator, scales).abs()
    tensors[f"{at}fc1.weight"] = tensors[f"{at}fc1.weight"][order] * factor[:, None]
    tensors[f"{at}fc1.bias"] = tensors[f"{at}fc1.bias"][order] * factor
    tensors[f"{at}fc2.weight"] = tensors[f"{at}fc2.weight"][:, order] / factor


def _mixtral(tensors: Tensors, layer: int, generator: torch.Generator, scales: bool) -> None:
    for expert in range(3):
        at = f"model.layers.{layer}.block_sparse_moe.experts.{expert}."
        order = _order(len(tensors[f"{at}w1.weight"]), generator)
        factor = _scales(len(order), generator, scales)
        tensors[f"{at}w1.weight"] = tensors[f"{at}w1.weight"][order]
        tensors[f"{at}w3.weight"] = tensors[f"{at}w3.weight"][order] * factor[:, None]
        tensors[f"{at}w2.weight"] = tensors[f"{at}w2.weight"][:, order] / factor


REORDERED = {
    "llama": _llama,
    "phi3": _phi3,
    "gpt2": _gpt2,
    "gpt_neox": _gpt_neox,
    "opt": _opt,
    "mixtral": _mixtral,
}
