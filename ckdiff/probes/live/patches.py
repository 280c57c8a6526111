"""Capture and restore: context managers over the parts of one layer, gone after an exception.

    with capture(sites) as seen: layer(...)              # seen.attention is A, seen.coefficients is m
    with pin(sites, attention=A, mlp=C): layer(...)    # A and W_V m come from outside, nothing of them is computed
    with pin(sites, keys={"gate": G}): layer(...)      # m is made of the gate's output that comes from outside
    with pin(sites, routing=seen.routing): layer(...)  # the experts are chosen and weighed as was seen
    with swap(sites, donor, ("value_vectors",)): ...   # W_V of the donor's layer
    with gate_neurons(sites, m, gates): layer(...)               # single neurons' coefficients come from outside

A module is patched by an attribute `forward` on the instance, which hides the method of its class. What a patch
returns is always a fresh tensor: some layers add into what their attention or MLP gave them.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from ckdiff.errors import CheckpointError
from ckdiff.probes.live.sites import spared_modules, widths

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from ckdiff.probes.live.sites import LayerSites


ROUTING = ("experts", "weights")
"""What a router gives to the experts, in the order in which they take it: who is chosen, and how each is weighed."""


@dataclass(slots=True)
class Seen:
    """The states that one layer's own run showed.

    Attributes:
        attention: A [batch, position, d_model].
        attention_items: how many items the attention module returns, 1 when it is no tuple.
        coefficients: m [batch, position, neuron]; None in a mixture of experts.
        key_outputs: those that were asked for, by name [batch, position, neuron].
        routing: where it was asked for, by name of `ROUTING` [batch, position, chosen expert].
        mlp_input: what went into the block of a mixture [batch, position, d_model]; None in a dense layer.
        mlp: W_V m [batch, position, d_model], bias included; in a mixture the block's output.
        mlp_items: how many items the block of a mixture returns, 1 when it is no tuple.
    """

    attention: Tensor | None = None
    attention_items: int = 1
    coefficients: Tensor | None = None
    key_outputs: dict[str, Tensor] = field(default_factory=dict)
    routing: dict[str, Tensor] = field(default_factory=dict)
    mlp_input: Tensor | None = None
    mlp: Tensor | None = None
    mlp_items: int = 1


@contextmanager
def replace_forward(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Give one module another forward, for as long as the block runs."""
    if "forward" in vars(module):
        raise RuntimeError(f"{type(module).__name__} is patched already")
    module.forward = forward
    try:
        yield
    finally:
        del module.forward


@contextmanager
def capture(sites: LayerSites, batch: int, keys: Collection[str] = (), routing: bool = False) -> Iterator[Seen]:
    """Note A, m and W_V m while the layer runs as it is.

    Args:
        sites: the parts of the layer.
        batch: rows of the batch, since some layers flatten theirs before the MLP.
        keys: names of outputs of its keys, to be noted as well.
        routing: note what the router gives, in a mixture of experts.
    """
    seen = Seen()
    with ExitStack() as stack:
        stack.enter_context(replace_forward(sites.attention, _note_attention(sites, seen)))
        if sites.adds_residual:
            stack.enter_context(replace_forward(sites.attention_output, _note_output(sites.attention_output, seen)))
        if sites.mlp is not None:
            stack.enter_context(replace_forward(sites.mlp, _note_block(sites.mlp, seen)))
        else:
            assert sites.values is not None
            stack.enter_context(replace_forward(sites.values, _note_values(sites.values, seen, batch)))
        for module, names in _by_module(sites, keys):
            stack.enter_context(replace_forward(module, _note_keys(sites, module, names, seen, batch)))
        if routing and sites.experts is not None:
            stack.enter_context(replace_forward(sites.experts, _note_routing(sites.experts, seen, batch)))
        yield seen
    if seen.attention is None or seen.mlp is None:
        raise CheckpointError("a layer ran without its attention or its MLP; this model cannot be probed")


@contextmanager
def pin(
    sites: LayerSites,
    seen: Seen,
    attention: Tensor | None = None,
    mlp: Tensor | None = None,
    keys: Mapping[str, Tensor] = MappingProxyType({}),
    routing: Mapping[str, Tensor] = MappingProxyType({}),
) -> Iterator[None]:
    """Give the layer its attention state, its MLP's output, or both, from outside; neither is computed then.

    Args:
        sites: the parts of the layer that runs.
        seen: of the same kind of layer, for the shape of what its modules return.
        attention: A [batch, position, d_model], or None to compute it.
        mlp: W_V m [batch, position, d_model], or None to compute it.
        keys: where m is computed, by name the outputs of its keys that come from outside [batch, position, neuron].
        routing: where m is computed in a mixture, by name of `ROUTING` [batch, position, chosen expert], or nothing.
    """
    with ExitStack() as stack:
        if attention is not None:
            stack.enter_context(
                replace_forward(sites.attention, _give_attention(sites, attention, seen.attention_items))
            )
        if mlp is not None and sites.mlp is not None:
            stack.enter_context(replace_forward(sites.mlp, _give_block(mlp, seen.mlp_items)))
        elif mlp is not None:
            assert sites.values is not None
            for module in sites.keys:
                stack.enter_context(replace_forward(module, _stub))
            stack.enter_context(replace_forward(sites.values, _give_output(mlp)))
        else:
            for module, names in _by_module(sites, keys):
                given = [(sites.key_outputs[name].columns, keys[name]) for name in names]
                runs = all(module is not other for other in spared_modules(sites, keys))
                stack.enter_context(replace_forward(module, _give_keys(module, given, runs)))
            if routing:
                assert sites.experts is not None
                stack.enter_context(replace_forward(sites.experts, _give_routing(sites.experts, routing)))
        yield


@contextmanager
def swap(sites: LayerSites, donor: LayerSites, components: Iterable[str]) -> Iterator[None]:
    """Let the layer use the donor's parameters of some components; nothing is copied."""
    kept: list[tuple[nn.Module, str, Any]] = []
    try:
        for component in components:
            for path in sites.parameters.get(component, ()):
                parent, name = _owner(sites.layer, path)
                other, _ = _owner(donor.layer, path)
                kept.append((parent, name, parent._parameters[name]))
                parent._parameters[name] = other._parameters[name]
        yield
    finally:
        for parent, name, parameter in reversed(kept):
            parent._parameters[name] = parameter


@contextmanager
def gate_neurons(sites: LayerSites, donor: Tensor, gates: Tensor) -> Iterator[None]:
    """Let each neuron's coefficient be (1 - g) times the layer's own and g times the donor's; 0 and 1 are exact.

    Args:
        sites: the parts of the layer that runs, a dense one.
        donor: m of the donor [question, position, neuron].
        gates: g [run, neuron]; the layer's batch is the runs' questions, one run after the other.
    """
    assert sites.values is not None
    original = sites.values.forward

    def forward(coefficients: Tensor) -> Any:
        own = coefficients.reshape(len(gates), *donor.shape)
        return original(torch.lerp(own, donor, gates[:, None, None]).reshape(coefficients.shape))

    with replace_forward(sites.values, forward):
        yield


def _note_attention(sites: LayerSites, seen: Seen) -> Callable[..., Any]:
    original = sites.attention.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        seen.attention_items = len(result) if isinstance(result, tuple) else 1
        if not sites.adds_residual:
            seen.attention = (result[0] if isinstance(result, tuple) else result).clone()
        return result

    return forward


def _note_output(module: nn.Module, seen: Seen) -> Callable[..., Any]:
    original = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        seen.attention = result.clone()
        return result

    return forward


def _note_values(module: nn.Module, seen: Seen, batch: int) -> Callable[..., Any]:
    original = module.forward

    def forward(coefficients: Tensor) -> Any:
        result = original(coefficients)
        seen.coefficients = coefficients.reshape(batch, -1, coefficients.shape[-1])
        seen.mlp = result.reshape(batch, -1, result.shape[-1]).clone()
        return result

    return forward


def _by_module(sites: LayerSites, keys: Iterable[str]) -> list[tuple[nn.Module, list[str]]]:
    """Outputs of keys by the module that gives them, since one module may give two."""
    found: dict[int, tuple[nn.Module, list[str]]] = {}
    for name in keys:
        module = sites.key_outputs[name].module
        found.setdefault(id(module), (module, []))[1].append(name)
    return list(found.values())


def _note_keys(
    sites: LayerSites, module: nn.Module, names: Sequence[str], seen: Seen, batch: int
) -> Callable[..., Any]:
    original = module.forward

    def forward(hidden: Tensor) -> Any:
        result = original(hidden)
        for name in names:
            part = result[..., sites.key_outputs[name].columns].contiguous()
            seen.key_outputs[name] = part.reshape(batch, -1, part.shape[-1])
        return result

    return forward


def _note_routing(module: nn.Module, seen: Seen, batch: int) -> Callable[..., Any]:
    original = module.forward

    def forward(hidden: Tensor, *given: Tensor) -> Any:
        for name, value in zip(ROUTING, given, strict=True):
            seen.routing[name] = value.reshape(batch, -1, value.shape[-1]).clone()
        return original(hidden, *given)

    return forward


def _note_block(module: nn.Module, seen: Seen) -> Callable[..., Any]:
    original = module.forward

    def forward(hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        seen.mlp_input = hidden.clone()
        result = original(hidden, *args, **kwargs)
        seen.mlp_items = len(result) if isinstance(result, tuple) else 1
        seen.mlp = (result[0] if isinstance(result, tuple) else result).clone()
        return result

    return forward


def _give_attention(sites: LayerSites, state: Tensor, items: int) -> Callable[..., Any]:
    def forward(*args: Any, **kwargs: Any) -> Any:
        # BLOOM hands the residual stream to its attention as the second argument and wants it added.
        result = args[1] + state if sites.adds_residual else state.clone()
        return result if items == 1 else (result, *(None,) * (items - 1))

    return forward


def _give_output(state: Tensor) -> Callable[..., Any]:
    def forward(stub: Tensor) -> Any:
        return state.reshape(*stub.shape[:-1], state.shape[-1]).clone()

    return forward


def _give_keys(module: nn.Module, given: Sequence[tuple[slice, Tensor]], runs: bool) -> Callable[..., Any]:
    """A keys' module's outputs, with some columns from outside; it runs where others are its own."""
    original, width = module.forward, widths(module)[1]

    def forward(hidden: Tensor) -> Any:
        result = original(hidden) if runs else hidden.new_empty(*hidden.shape[:-1], width)
        for columns, state in given:
            result[..., columns] = state.reshape(*hidden.shape[:-1], state.shape[-1])
        return result

    return forward


def _give_routing(module: nn.Module, routing: Mapping[str, Tensor]) -> Callable[..., Any]:
    original = module.forward

    def forward(hidden: Tensor, *own: Tensor) -> Any:
        return original(hidden, *(routing[name].reshape(now.shape) for name, now in zip(ROUTING, own, strict=True)))

    return forward


def _give_block(state: Tensor, items: int) -> Callable[..., Any]:
    def forward(hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        result = state.reshape(hidden.shape).clone()
        return result if items == 1 else (result, *(None,) * (items - 1))

    return forward


def _stub(hidden: Tensor) -> Tensor:
    """Two columns in the place of the keys' output: enough for what halves it, and thrown away by `_give_output`."""
    return hidden[..., :2]


def _owner(root: nn.Module, path: str) -> tuple[nn.Module, str]:
    parent, _, name = path.rpartition(".")
    return root.get_submodule(parent), name
