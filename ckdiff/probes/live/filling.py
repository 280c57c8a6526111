"""Which stored tensors fill which parameter of a live model, and what each parameter is.

Every stored tensor must have its place and every parameter its tensor: transformers itself would leave what is missing
at random. Names come from the rows of `weights.architectures`; experts stored one by one are stacked as transformers
keeps them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from ckdiff.errors import CheckpointError
from ckdiff.untrusted import quoted
from ckdiff.weights.components import claim
from ckdiff.weights.quantised.scaled import ACTIVATIONS
from ckdiff.weights.storage import Mapped

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import Tensor

    from ckdiff.weights.checkpoint import Checkpoint
    from ckdiff.weights.components import Claim
    from ckdiff.weights.rules import Architecture, Rule

FLOATS = ("F32", "F64", "BF16", "F16", "F8_E4M3", "F8_E5M2")


FUSED = {"gate_up": "keys", "qkv": "attn"}
"""Role of a fused tensor -> what its parameter counts as here."""


MOST_LAYERS = 1000
"""More layers than any model has."""


class Part(NamedTuple):
    """A stored tensor and the place in a parameter that it fills.

    Attributes:
        stored: its name.
        expert: which one of a stacked parameter it fills; None: all of them, or the parameter is not stacked.
        role: "gate" and "up" fill one half each, everything else the whole.
        interleaved: gate and up are every second one along the last axis; otherwise one behind the other along the
            axis of neurons.
        transposed: it is stored the other way round than the parameter.
    """

    stored: str
    expert: int | None = None
    role: str = ""
    interleaved: bool = False
    transposed: bool = False


def place(whole: Tensor, part: Part) -> Tensor:
    """The view of a parameter that a stored tensor fills: for one expert, or all of them stacked."""
    view = whole if part.expert is None else whole[part.expert]
    if part.role in ("gate", "up"):
        first = part.role == "gate"
        if part.interleaved:
            view = view[..., (0 if first else 1) :: 2]
        else:
            half = view.shape[-2] // 2
            view = view[..., :half, :] if first else view[..., half:, :]
    return view.transpose(-1, -2) if part.transposed else view


def part_of(stored: str, claim: Claim) -> Part:
    """Which place of its parameter a stored tensor fills, by the rule that it fits."""
    rule = claim.rule
    if rule.module is None:
        return Part(stored)
    stacked = "{E}" in rule.pattern and "{E}" not in rule.module
    halved = rule.role in ("gate", "up") and "gate_up" in rule.module
    return Part(
        stored,
        claim.expert if stacked else None,
        rule.role if halved else "",
        # Where the usual way of storing it is turned round, gate and up are interleaved as well.
        interleaved=halved and not rule.split and (rule.transposed or claim.is_bias),
        transposed=rule.transposed,
    )


def shared_names(model: Any) -> dict[str, tuple[str, ...]]:
    """Every parameter's name -> all names of the same parameter, the first one the key under which it is filled."""
    stored = set(model.state_dict())
    groups: dict[int, list[str]] = {}
    tensors = [*model.named_parameters(remove_duplicate=False)]
    tensors += [(name, value) for name, value in model.named_buffers(remove_duplicate=False) if name in stored]
    for name, value in tensors:
        groups.setdefault(id(value), []).append(name)
    return {name: tuple(names) for names in groups.values() for name in names}


def check_layer_count(checkpoint: Checkpoint, row: Architecture, config: Any) -> None:
    """Refuse absurdly many layers before a model of that many is built; a few too many are found later."""
    found = {layer.layer for layer in (claim(row, name) for name in checkpoint.shapes()) if layer is not None}
    stored = len(found - {None})
    claimed = getattr(config, "num_hidden_layers", stored)
    if not isinstance(claimed, int) or claimed > max(stored, MOST_LAYERS):
        raise CheckpointError(
            f"{checkpoint.location}: config.json says {claimed} layers, the weights have {stored};"
            " config.json and weights do not belong together"
        )


def sources(
    checkpoint: Checkpoint, row: Architecture, model: Any, names: dict[str, tuple[str, ...]]
) -> tuple[dict[str, list[Part]], list[str]]:
    """By parameter the stored tensors that fill it; every one of both is accounted for."""
    filling: dict[str, list[Part]] = {}
    notes: list[str] = []
    wrapper = "text_config" in checkpoint.config
    unknown: list[str] = []
    outside: list[str] = []
    activations: list[str] = []
    for stored in sorted(checkpoint.shapes()):
        found = claim(row, stored)
        name = None if found is None else memory_name(found.rule, found.layer, found.canonical)
        if found is None or name not in names:
            if stored.rpartition(".")[2] in ACTIVATIONS:
                activations.append(stored)
            elif not any(re.search(text, stored) for text in row.ignore):
                # A wrapper holds other models beside the language model: a vision tower, a projector.
                (outside if wrapper and found is None else unknown).append(stored)
            continue
        filling.setdefault(name, []).append(part_of(stored, found))
    if outside:
        notes.append(
            f"{checkpoint.location}: {len(outside)} tensors outside the language model were left out,"
            f" the first {quoted(outside[0])}"
        )
    if activations:
        notes.append(
            f"{checkpoint.location}: {len(activations)} scales of activations were left out, the first"
            f" {quoted(activations[0])}: activations are not quantised here"
        )
    if unknown:
        raise CheckpointError(
            f"{checkpoint.location}: tensor {quoted(unknown[0])} has no place in a {row.model_type} of this config"
            f" ({len(unknown)} such); config.json and weights do not belong together"
        )
    return _tied_sources(checkpoint, model, names, filling, notes), notes


def _tied_sources(
    checkpoint: Checkpoint,
    model: Any,
    names: dict[str, tuple[str, ...]],
    filling: dict[str, list[Part]],
    notes: list[str],
) -> dict[str, list[Part]]:
    """Give each parameter its one source; a tied matrix that is stored twice with two values is untied."""
    filled: dict[str, list[Part]] = {}
    for group in dict.fromkeys(names.values()):
        there = [name for name in group if name in filling]
        if not there:
            raise CheckpointError(
                f"{checkpoint.location}: no tensor for parameter {quoted(group[0])}; fetch the checkpoint again"
            )
        for part in (part for name in there for part in filling[name]):
            if checkpoint.dtype(part.stored) not in FLOATS:
                raise CheckpointError(
                    f"{checkpoint.location}: tensor {quoted(part.stored)} is {checkpoint.dtype(part.stored)};"
                    " quantised weights cannot be probed, give the full-precision ones"
                )
        for name in there:
            _check_complete(checkpoint, name, filling[name], model)
        if len(there) > 1 and not _equal(checkpoint, [filling[name][0].stored for name in there]):
            for name in group:
                names[name] = (name,)
                filled[name] = filling[name]
                _untie(model, name)
            notes.append(f"{checkpoint.location}: {' and '.join(there)} are stored with two values, so not tied")
            continue
        filled[group[0]] = filling[there[0]]
    return filled


def twins(
    checkpoint: Checkpoint, row: Architecture, names: Mapping[str, tuple[str, ...]], filled: Mapping[str, list[Part]]
) -> dict[str, list[Part]]:
    """By parameter the stored tensors that repeat it: a tied matrix that is stored under both its names."""
    sourced = {part.stored for parts in filled.values() for part in parts}
    found: dict[str, list[Part]] = {}
    for stored in sorted(checkpoint.shapes().keys() - sourced):
        claimed = claim(row, stored)
        name = None if claimed is None else memory_name(claimed.rule, claimed.layer, claimed.canonical)
        if name is not None and name in names:
            found.setdefault(names[name][0], []).append(Part(stored))
    return found


def _check_complete(checkpoint: Checkpoint, name: str, parts: list[Part], model: Any) -> None:
    """One tensor for a whole parameter; of what is stored in pieces every expert, each once, with its gate and up."""
    pieces = {(part.expert, part.role) for part in parts}
    if (None, "") in pieces and len(parts) == 1:
        return
    if (None, "") in pieces or len(pieces) != len(parts):
        again = sorted(parts, key=lambda part: (part.expert or 0, part.role, part.stored))
        raise CheckpointError(
            f"{checkpoint.location}: tensors {quoted(again[0].stored)} and {quoted(again[1].stored)} are one"
            " parameter under two names; remove one"
        )
    experts = [None] if None in {part.expert for part in parts} else range(int(model.get_parameter(name).shape[0]))
    roles = {part.role for part in parts}
    wanted = {(expert, role) for expert in experts for role in ({"gate", "up"} if roles & {"gate", "up"} else roles)}
    extra = next((part for part in parts if (part.expert, part.role) not in wanted), None)
    if extra is not None:
        raise CheckpointError(
            f"{checkpoint.location}: tensor {quoted(extra.stored)} is of an expert that the config does not have"
            f" ({len(experts)} experts); config.json and weights do not belong together"
        )
    missing = sorted(wanted - pieces, key=lambda piece: (piece[0] or 0, piece[1]))
    if missing:
        raise CheckpointError(
            f"{checkpoint.location}: parameter {quoted(name)}: expert {missing[0][0] or 0} has no"
            f" {missing[0][1] or 'down'} matrix; fetch the checkpoint again"
        )


def _untie(model: Any, name: str) -> None:
    parent, _, leaf = name.rpartition(".")
    module = model.get_submodule(parent)
    module._parameters[leaf] = torch.nn.Parameter(torch.empty_like(module._parameters[leaf]), requires_grad=False)


def _equal(checkpoint: Checkpoint, stored: list[str]) -> bool:
    files = Mapped(checkpoint)
    first, *rest = (files.raw(name) for name in stored)
    dtypes = {checkpoint.dtype(name) for name in stored}
    result = len(dtypes) == 1 and all(np.array_equal(first, other) for other in rest)
    files.forget()
    return result


def memory_name(rule: Rule, layer: int | None, canonical: str) -> str:
    """The name in memory of a stored tensor that fits a rule."""
    if rule.module is None:
        return canonical
    name = rule.module.replace("{L}", str(layer))
    return name.replace("{P}", "bias" if canonical.endswith("bias") else "weight")


def components(row: Architecture, groups: Iterable[tuple[str, ...]]) -> dict[str, str]:
    """The component of every parameter, by its name in memory."""
    patterns = []
    for rule in row.rules:
        text = re.escape(rule.module or rule.pattern)
        text = text.replace(r"\{L\}", r"\d+").replace(r"\{E\}", r"\d+").replace(r"\{P\}", "(?:weight|bias)")
        patterns.append((re.compile(text), rule.component or FUSED.get(rule.role, "")))
    found = {}
    for name in {name for group in groups for name in group}:
        found[name] = next((component for pattern, component in patterns if pattern.fullmatch(name)), "other")
    return found


def inside(components: Mapping[str, str], prefix: str) -> dict[str, tuple[str, ...]]:
    """By component the names below a prefix, relative to it."""
    result: dict[str, list[str]] = {}
    for name in sorted(components):
        if name.startswith(prefix):
            result.setdefault(components[name], []).append(name.removeprefix(prefix))
    return {component: tuple(names) for component, names in result.items()}
