"""The other ways in which a mixture's experts are stored: `other_forms(row)`.

Publishers store one matrix an expert; transformers 5 keeps them stacked in memory, and so do FSDP's dumps,
`save_original_format=False`, and whatever else writes a state dict as it is. They are one model, so every way leads to
the names that the row's own rules give. The ways: stacked as in memory (gate and up behind each other), stacked one by
one (MLX), and split under either of the two usual sets of names, each in either of the two usual places.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from ckdiff.weights.rules import Rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckdiff.weights.rules import Architecture

SPLIT_NAMES = ({"gate": "gate_proj", "up": "up_proj", "down": "down_proj"}, {"gate": "w1", "up": "w3", "down": "w2"})
"""What one expert's matrices are called: Qwen's way and Mixtral's."""

PLACES = ("mlp.", "block_sparse_moe.")
"""Where a layer keeps its mixture."""


class Mixture(NamedTuple):
    """The experts of a row: by role the name that a matrix has in the usual way, and the stacked parameters.

    Attributes:
        layer: what stands before the mixture's place, `model.layers.{L}.`.
        names: gate, up and down -> the name of expert {E}'s matrix.
        gate_up: the parameter in memory that holds gate and up of all experts.
        down: the one that holds their output projections.
    """

    layer: str
    names: dict[str, str]
    gate_up: str
    down: str


def other_forms(row: Architecture) -> tuple[Rule, ...]:
    """Rules for every other way in which a row's tensors are stored; those that the row has already come first."""
    known = {rule.pattern for rule in (*row.rules, *row.other_forms)}
    forms = list(row.other_forms)
    for rule in (*_as_in_memory(row), *(form for mixture in _mixtures(row) for form in _forms(mixture))):
        if rule.pattern not in known:
            known.add(rule.pattern)
            forms.append(rule)
    return tuple(forms)


def _as_in_memory(row: Architecture) -> Iterator[Rule]:
    """Tensors under the names that they have in memory, each one to one: routers, above all."""
    for rule in row.rules:
        if rule.module is not None and ("{E}" in rule.pattern) == ("{E}" in rule.module):
            yield replace(rule, pattern=rule.module, names=(("", rule.pattern),), optional=True)


def _mixtures(row: Architecture) -> Iterator[Mixture]:
    """The row's routed experts, where it stores them one by one or stacked as [expert, neuron, d_model]."""
    split = {rule.role: rule for rule in row.rules if "{E}" in rule.pattern and rule.module is not None}
    if {"gate", "up", "down"} <= split.keys():
        names = {role: split[role].pattern for role in ("gate", "up", "down")}
        yield Mixture(_layer(names["down"]), names, str(split["gate"].module), str(split["down"].module))
    stacked = {rule.split: rule for rule in row.rules if rule.expert_axis == 0 and rule.module is not None}
    if {"experts_gate_up", "experts"} <= stacked.keys():
        both, down = stacked["experts_gate_up"], stacked["experts"]
        names = {role: f"{both.pattern}[{{E}}.{role}]" for role in ("gate", "up")} | {"down": f"{down.pattern}[{{E}}]"}
        yield Mixture(_layer(down.pattern), names, str(both.module), str(down.module))


def _layer(pattern: str) -> str:
    return pattern[: pattern.index("{L}.") + len("{L}.")]


def _forms(mixture: Mixture) -> Iterator[Rule]:
    for place in (mixture.layer + name for name in PLACES):
        yield from _stacked_rules(mixture, f"{place}experts.")
        yield from _stacked_singly(mixture, f"{place}switch_mlp.")
    for name, spelling in itertools.product(PLACES, SPLIT_NAMES):
        yield from _split(mixture, f"{mixture.layer}{name}experts.{{E}}.", spelling)


def _stacked_rules(mixture: Mixture, at: str) -> Iterator[Rule]:
    """Two tensors: [expert, 2 * neuron, d_model] with gate before up, and [expert, d_model, neuron]."""
    both = tuple((role, mixture.names[role]) for role in ("gate", "up"))
    common: dict[str, Any] = {"expert_axis": 0, "optional": True}
    yield Rule(
        f"{at}gate_up_proj", "", "gate_up", 1, split="experts_gate_up", module=mixture.gate_up, names=both, **common
    )
    yield Rule(
        f"{at}down_proj",
        "value_vectors",
        "down",
        2,
        split="experts",
        module=mixture.down,
        names=(("down", mixture.names["down"]),),
        **common,
    )


def _stacked_singly(mixture: Mixture, at: str) -> Iterator[Rule]:
    """Three tensors, as MLX writes them: gate and up [expert, neuron, d_model], down [expert, d_model, neuron]."""
    for role, name in mixture.names.items():
        down = role == "down"
        yield Rule(
            f"{at}{role}_proj.weight",
            "value_vectors" if down else "keys",
            role,
            2 if down else 1,
            expert_axis=0,
            split="experts",
            module=mixture.down if down else mixture.gate_up,
            optional=True,
            names=((role, name),),
        )


def _split(mixture: Mixture, at: str, spelling: dict[str, str]) -> Iterator[Rule]:
    """Three matrices an expert."""
    for role, name in mixture.names.items():
        down = role == "down"
        yield Rule(
            f"{at}{spelling[role]}.weight",
            "value_vectors" if down else "keys",
            role,
            1 if down else 0,
            module=mixture.down if down else mixture.gate_up,
            optional=True,
            names=(("", name),),
        )


def gpt_oss_forms(at: str) -> tuple[Rule, ...]:
    """GPT-OSS's experts as plain linear layers, which its own way of storing them has transposed and interleaved.

    Compressing tools write `experts.{E}.gate_proj`, Unsloth `experts.gate_up_projs.{E}`.

    Args:
        at: the mixture's place, `model.layers.{L}.mlp.experts.`.
    """
    forms: list[Rule] = []
    for kind, leaf in (("weight", ""), ("bias", "_bias")):
        matrix = kind == "weight"
        gate_up, down = f"{at}gate_up_proj{leaf}", f"{at}down_proj{leaf}"
        both = tuple((role, f"{gate_up}[{{E}}.{role}]") for role in ("gate", "up"))
        keys: dict[str, Any] = {"module": gate_up, "optional": True, "transposed": matrix}
        keys["neuron_axis"] = 1 if matrix else None
        forms += [
            Rule(f"{at}{{E}}.{role}_proj.{kind}", "keys", role, names=(("", name),), **keys) for role, name in both
        ]
        forms.append(
            Rule(f"{at}gate_up_projs.{{E}}.{kind}", "", "gate_up", split="rows_interleaved", names=both, **keys)
        )
        values = replace(
            Rule("", "value_vectors", "down", module=down, optional=True, names=(("", f"{down}[{{E}}]"),)),
            transposed=matrix,
            neuron_axis=0 if matrix else None,
        )
        forms += [
            replace(values, pattern=at + name) for name in (f"{{E}}.down_proj.{kind}", f"down_projs.{{E}}.{kind}")
        ]
    return tuple(forms)
