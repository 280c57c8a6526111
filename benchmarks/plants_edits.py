"""Edits of known place and kind: `edited(model, "noise", names, strength, rng)` gives the tensors that change.

Every strength is relative to the tensor that it changes, so that one range serves every component.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from plants_models import OTHERS, TARGET, Facts, weights

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from torch import Tensor, nn

RIDGE = 0.01
"""Added to the inputs' second moments, as a share of their mean: there are fewer inputs than dimensions."""

Changed = dict[str, "Tensor"]


def names_of(component: str, layer: int) -> tuple[str, ...]:
    """The tensors of a component in one layer; `embedding`, `unembedding` and `final_norm` have no layer."""
    inside = {
        "value_vectors": ("mlp.down_proj",),
        "keys": ("mlp.gate_proj", "mlp.up_proj"),
        "attention": tuple(f"self_attn.{part}_proj" for part in "qkvo"),
        "norms": ("input_layernorm", "post_attention_layernorm"),
    }
    outside = {"embedding": "model.embed_tokens", "unembedding": "lm_head", "final_norm": "model.norm"}
    if component in outside:
        return (f"{outside[component]}.weight",)
    return tuple(f"model.layers.{layer}.{name}.weight" for name in inside[component])


def noise(weight: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """W + strength |W| times a random direction."""
    direction = torch.from_numpy(rng.normal(size=tuple(weight.shape))).float()
    share: Tensor = strength * weight.norm() / direction.norm()
    return weight + share * direction


def scale(weight: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Strength times W."""
    return weight * strength


def zero(weight: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """Nothing is left."""
    return torch.zeros_like(weight)


def prune(weight: Tensor, strength: float, rng: np.random.Generator) -> Tensor:
    """The smallest elements, a share `strength` of all, become zero."""
    least = weight.abs().flatten().kthvalue(max(1, round(strength * weight.numel()))).values
    return torch.where(weight.abs() > least, weight, torch.zeros_like(weight))


EDITS: dict[str, Callable[[Tensor, float, np.random.Generator], Tensor]] = {
    "noise": noise,
    "scale": scale,
    "zero": zero,
    "prune": prune,
}


def edited(model: nn.Module, action: str, names: Sequence[str], strength: float, rng: np.random.Generator) -> Changed:
    """The tensors that an action makes of those named."""
    if action == "permute":
        return permuted(model, names, strength, rng)
    if action == "target":
        return {name: aimed(model, name, strength) for name in names}
    own = weights(model)
    return {name: EDITS[action](own[name], strength, rng) for name in names}


def permuted(model: nn.Module, names: Sequence[str], share: float, rng: np.random.Generator) -> Changed:
    """A share of a layer's neurons hand their vectors on, round a random circle; gate and up go together."""
    own, found = weights(model), {}
    circles: dict[str, Tensor] = {}
    for name in names:
        weight = own[name]
        axis = 1 if "down_proj" in name else 0
        count = weight.shape[axis]
        layer = name.split(".")[2]
        if layer not in circles:
            circles[layer] = torch.from_numpy(rng.choice(count, max(2, round(share * count)), replace=False))
        order = torch.arange(count)
        order[circles[layer]] = circles[layer].roll(1)
        found[name] = weight.index_select(axis, order)
    return found


def aimed(model: nn.Module, name: str, strength: float) -> Tensor:
    """A rank-one edit that takes `strength` of W x away for the mean input x of the target facts, and little else.

    W - strength W x u^T / (u^T x) with u = (C + ridge)^-1 x and C the second moments of the other facts' inputs.
    Source: Meng et al. 2022, arXiv:2202.05262, eq. 2.
    """
    module = model.get_submodule(name.removesuffix(".weight"))
    key = inputs(model, module, Facts(TARGET)).mean(0)
    others = inputs(model, module, Facts(OTHERS))
    moments = others.T @ others / len(others)
    ridge = RIDGE * moments.diagonal().mean() * torch.eye(len(key), dtype=key.dtype)
    reach = torch.linalg.solve(moments + ridge, key)
    weight = weights(model)[name].double()
    taken: Tensor = strength * torch.outer(weight @ key, reach) / (reach @ key)
    return (weight - taken).float()


def inputs(model: nn.Module, module: nn.Module, facts: Facts) -> Tensor:
    """What goes into a linear module at the positions that say the answers [position, d], float64."""
    taken: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, args: taken.append(args[0][:, :-1][facts.labels >= 0]))
    try:
        with torch.no_grad():
            facts.logits(model)
    finally:
        handle.remove()
    return taken[0].double()


def as_int8(weight: Tensor) -> Tensor:
    """Rounded to 8 bits, one scale a row; vectors stay."""
    if weight.ndim < 2:
        return weight
    step = weight.abs().amax(1, keepdim=True).clamp(min=1e-12) / 127
    return (weight / step).round() * step
