"""Where a live decoder layer keeps its parts: `layer_sites(layer, row, components)`.

A row of `weights.architectures` names module paths; names alone are no proof, so every site is confirmed by module
class and shape before anything is patched. What each site means:

    attention     its output, before the residual addition, is the attention state A
    keys          the MLP's first matrices W_K; in a dense layer their modules can be replaced by a stub
    value vectors the MLP's output projection W_V; in a dense layer its input is m, its output W_V m
    key outputs   in a gated dense layer what its keys give, the activation's input (gate) and its factor (up)
    mlp           in a mixture of experts: the whole block, router and shared expert with it
    experts       in a mixture of experts: what the router's choice and weights go into, beside the block's input
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from ckdiff.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ckdiff.weights.rules import Architecture


ATTENTION = "attention"
"""Beside the components: the weights of attention together, fused ones and a model's attention sinks among them."""


@dataclass(frozen=True, slots=True)
class Output:
    """The output of a projection, or some columns of it: two matrices may be stored as one."""

    module: nn.Module
    columns: slice


@dataclass(frozen=True, slots=True)
class LayerSites:
    """The parts of one decoder layer.

    Attributes:
        layer: the layer itself.
        attention: the attention module.
        attention_output: attention's output projection.
        adds_residual: the attention module adds the residual stream itself; A is seen at `attention_output`.
        values: W_V's module, or None in a mixture of experts.
        keys: W_K's modules; empty in a mixture of experts.
        key_outputs: by name of `modes.KEY_OUTPUTS`; empty where the MLP is not gated, or is a mixture of experts.
        mlp: the block of a mixture of experts, or None in a dense layer.
        experts: its experts, without a shared one, or None in a dense layer.
        parameters: by component, the names of its parameters relative to the layer; under `ATTENTION` everything that
            attention computes with, its norms left out.
    """

    layer: nn.Module
    attention: nn.Module
    attention_output: nn.Module
    adds_residual: bool
    values: nn.Module | None
    keys: tuple[nn.Module, ...]
    key_outputs: Mapping[str, Output]
    mlp: nn.Module | None
    experts: nn.Module | None
    parameters: Mapping[str, tuple[str, ...]]


def layer_sites(layer: nn.Module, row: Architecture, parameters: Mapping[str, tuple[str, ...]]) -> LayerSites:
    """Find and confirm the parts of one decoder layer.

    Args:
        layer: a decoder layer of a live model; its parameters may be on the meta device.
        row: the row of its model type.
        parameters: by component, names relative to the layer.

    Raises:
        CheckpointError: a part is missing or is not of the kind that the row says.
    """
    sites = row.sites
    parameters = {**parameters, ATTENTION: _attention_weights(layer, row, parameters)}
    attention = _find(layer, sites.attention, row)
    output = _projection(layer, sites.attention_output, row)
    experts = _maybe(layer, sites.experts) if sites.experts else None
    if experts is not None:
        mlp = _find(layer, sites.mlp, row)
        adds = sites.attention_adds_residual
        return LayerSites(layer, attention, output, adds, None, (), {}, mlp, experts, parameters)
    # A dense layer inside a mixture has the plain places of a gated MLP.
    values = _projection(layer, sites.value_vectors or f"{sites.mlp}.down_proj", row)
    paths = sites.keys or (f"{sites.mlp}.gate_proj", f"{sites.mlp}.up_proj")
    keys = {path: _projection(layer, path, row) for path in paths}
    _check_widths(tuple(keys.values()), values, row)
    outputs = _key_outputs(keys, row)
    adds, modules = sites.attention_adds_residual, tuple(keys.values())
    return LayerSites(layer, attention, output, adds, values, modules, outputs, None, None, parameters)


def widths(module: nn.Module) -> tuple[int, int]:
    """(inputs, outputs) of a projection: `nn.Linear` stores (out, in), transformers' Conv1D (in, out)."""
    weight = module.get_parameter("weight")
    if weight.dim() != 2:
        raise CheckpointError(f"{type(module).__name__}: not a matrix; this model cannot be probed")
    first, second = (int(size) for size in weight.shape)
    return (second, first) if isinstance(module, nn.Linear) else (first, second)


def spared_modules(sites: LayerSites, names: Collection[str]) -> list[nn.Module]:
    """The keys' modules that need not run where these of their outputs come from outside."""
    needed = [output.module for name, output in sites.key_outputs.items() if name not in names]
    given = {id(sites.key_outputs[name].module): sites.key_outputs[name].module for name in names}
    return [module for module in given.values() if all(module is not other for other in needed)]


def _key_outputs(keys: Mapping[str, nn.Module], row: Architecture) -> dict[str, Output]:
    """Where gate and up are, by the roles of the row's rules; in one matrix gate comes first."""
    found = {}
    for path, module in keys.items():
        width = widths(module)[1]
        role = _role(path, row)
        if role == "gate_up":
            found = {"gate": Output(module, slice(width // 2)), "up": Output(module, slice(width // 2, width))}
        else:
            found[role] = Output(module, slice(width))
    return found if "gate" in found else {}


def _role(path: str, row: Architecture) -> str:
    names = (f"{row.sites.layers}.{{L}}.{path}.{ending}" for ending in ("{P}", "weight"))
    wanted = set(names)
    return next((rule.role for rule in row.rules if (rule.module or rule.pattern) in wanted), "")


def _attention_weights(
    layer: nn.Module, row: Architecture, parameters: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...]:
    """Names of all parameters inside the attention module but those of norms."""
    inside, norms = f"{row.sites.attention}.", parameters.get("norms", ())
    names = (name for name, _ in layer.named_parameters())
    return tuple(name for name in names if name.startswith(inside) and name not in norms)


def _check_widths(keys: tuple[nn.Module, ...], values: nn.Module, row: Architecture) -> None:
    """Each neuron has one key (gate and up where gated) and one value vector."""
    neurons, d_model = widths(values)
    made = sum(widths(module)[1] for module in keys)
    if made not in (neurons, 2 * neurons) or any(widths(module)[0] != d_model for module in keys):
        raise CheckpointError(
            f"model_type {row.model_type!r}: {made} keys for {neurons} value vectors do not fit;"
            " its modules are not those of the known architecture"
        )


def _projection(layer: nn.Module, path: str, row: Architecture) -> nn.Module:
    module = _find(layer, path, row)
    if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D":
        return module
    raise CheckpointError(
        f"model_type {row.model_type!r}: {path} is a {type(module).__name__}, neither Linear nor Conv1D;"
        " this kind of checkpoint cannot be probed"
    )


def _find(layer: nn.Module, path: str, row: Architecture) -> nn.Module:
    module = _maybe(layer, path)
    if module is None:
        raise CheckpointError(
            f"model_type {row.model_type!r}: no module {path!r} in {type(layer).__name__}; cannot be probed"
        )
    return module


def _maybe(layer: nn.Module, path: str) -> nn.Module | None:
    found: object = layer
    for name in path.split("."):
        found = getattr(found, name, None)
    return found if isinstance(found, nn.Module) else None
