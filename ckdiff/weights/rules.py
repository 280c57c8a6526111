"""The parts of a row about an architecture: `Rule`, `Sites`, `Architecture`. The rows are in `architectures`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ckdiff.shapes import Component


CONV1D_MODELS = frozenset({"gpt2", "openai-gpt", "imagegpt", "decision_transformer"})
CONV1D_NAMES = frozenset({"c_attn", "q_attn", "c_proj", "c_fc"})
"""Where transformers uses Conv1D, whose weight is [in, out]; there PEFT corrects `fan_in_fan_out` by itself."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One family of stored tensors and what it is.

    Attributes:
        pattern: name on disk; `{L}` stands for the layer, `{E}` for the expert, `{P}` for `weight` or `bias`.
        component: the component of the tensor, or "" when `split` names the components of its parts.
        role: what it is inside its component: q k v o gate up down ...; "" where nothing needs to tell.
        neuron_axis: the axis of the stored weight along which neurons lie (keys and value vectors only).
        expert_axis: the axis of experts when one stored tensor holds them all.
        split: the rule (a key of `components.SPLITS`) that cuts a fused tensor into its parts.
        module: the parameter's name in memory where it is not `pattern`.
        optional: some checkpoints of this model type do not have it.
        after_experts: its neurons are numbered after those of all routed experts (a shared expert).
        names: for another way of storing what other rules name: the role of a part ("" for the whole) -> the part's
            name in the usual way, with `{L}`, `{E}` and `{P}`.
        transposed: stored the other way round than in the usual way.
    """

    pattern: str
    component: Component | Literal[""]
    role: str = ""
    neuron_axis: int | None = None
    expert_axis: int | None = None
    split: str | None = None
    module: str | None = None
    optional: bool = False
    after_experts: bool = False
    names: tuple[tuple[str, str], ...] = ()
    transposed: bool = False


@dataclass(frozen=True, slots=True)
class Sites:
    """Module paths of a live model, relative to the model (`layers` ... `unembed`) or to a decoder layer (the rest).

    Attributes:
        layers: the list of decoder layers.
        attention: its output, before the residual addition, is the attention state A (first item when it is a tuple).
        attention_output: attention's output projection.
        mlp: the MLP module, or "" where its two matrices hang on the layer itself (OPT).
        value_vectors: the MLP's output projection W_V; its input is the coefficients m.
        keys: the MLP's first matrices W_K (gate and up, or fc1 alone).
        experts: the module of a mixture of experts, or "".
        layer_returns_tuple: the layer returns a tuple whose first item is the residual stream.
        attention_adds_residual: the attention module adds the residual stream itself, so that A is only seen at the
            output of `attention_output` (BLOOM).
    """

    layers: str = "model.layers"
    final_norm: str = "model.norm"
    embed: str = "model.embed_tokens"
    unembed: str = "lm_head"
    attention: str = "self_attn"
    attention_output: str = "self_attn.o_proj"
    mlp: str = "mlp"
    value_vectors: str = "mlp.down_proj"
    keys: tuple[str, ...] = ("mlp.gate_proj", "mlp.up_proj")
    experts: str = ""
    layer_returns_tuple: bool = False
    attention_adds_residual: bool = False


@dataclass(frozen=True, slots=True)
class Architecture:
    """One model type: its stored tensors, its sites, and what is peculiar about it.

    Attributes:
        prefixes: pairs (old, new): a stored name that starts with `old` and fits no rule is tried with `new` instead.
        ignore: regular expressions of stored buffers that carry no parameters (masks, rotary frequencies).
        tied: `tie_word_embeddings` where the config does not say.
        conv1d: matrices are stored (in, out) as in transformers' Conv1D, not (out, in).
        other_forms: rules of the other ways in which the same tensors are stored (experts stacked or one by one).
    """

    model_type: str
    rules: tuple[Rule, ...]
    sites: Sites = Sites()
    prefixes: tuple[tuple[str, str], ...] = ()
    ignore: tuple[str, ...] = ()
    tied: bool = False
    conv1d: bool = False
    other_forms: tuple[Rule, ...] = ()


def norms(prefix: str, names: str, optional: bool = False) -> tuple[Rule, ...]:
    """Norms of these names behind a prefix."""
    return tuple(Rule(f"{prefix}{name}.{{P}}", "norms", optional=optional) for name in names.split())


def qkv(prefix: str, out: str, q: str = "q_proj", k: str = "k_proj", v: str = "v_proj") -> tuple[Rule, ...]:
    """Queries, keys, values and the output projection, each a matrix."""
    return (
        Rule(f"{prefix}{q}.{{P}}", "attn_q", "q"),
        Rule(f"{prefix}{k}.{{P}}", "attn_k", "k"),
        Rule(f"{prefix}{v}.{{P}}", "attn_v", "v"),
        Rule(f"{prefix}{out}.{{P}}", "attn_o", "o"),
    )


def fused_qkv(prefix: str, fused: str, split: str, out: str) -> tuple[Rule, ...]:
    """Queries, keys and values in one matrix, cut by a split, and the output projection."""
    return Rule(f"{prefix}{fused}.{{P}}", "", "qkv", split=split), Rule(f"{prefix}{out}.{{P}}", "attn_o", "o")


def plain_mlp(prefix: str, first: str, second: str, conv1d: bool = False) -> tuple[Rule, ...]:
    """An MLP without a gate: two matrices."""
    axis = 1 if conv1d else 0
    return (
        Rule(f"{prefix}{first}.{{P}}", "keys", "up", neuron_axis=axis),
        Rule(f"{prefix}{second}.{{P}}", "value_vectors", "down", neuron_axis=1 - axis),
    )


def experts(prefix: str, gate: str, up: str, down: str, module: str = "") -> tuple[Rule, ...]:
    """One gated MLP an expert, stacked in memory."""
    at = f"{prefix}{{E}}."
    stacked = module or prefix
    return (
        Rule(f"{at}{gate}.weight", "keys", "gate", neuron_axis=0, module=f"{stacked}gate_up_proj"),
        Rule(f"{at}{up}.weight", "keys", "up", neuron_axis=0, module=f"{stacked}gate_up_proj"),
        Rule(f"{at}{down}.weight", "value_vectors", "down", neuron_axis=1, module=f"{stacked}down_proj"),
    )
