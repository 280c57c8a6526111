"""Architectures as data: which stored tensor is which component, and where a live model keeps its parts.

A row says, for one `model_type`, what every tensor on disk is (`Rule`), which older spellings of the names exist, and
the module paths at which a live model has the sites that the probes need (`Sites`). Adding a family is one row here
and one tiny config in `tests/tiny_families.py`. Nothing in this module imports torch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ckdiff.weights.experts import gpt_oss_forms, other_forms
from ckdiff.weights.rules import Architecture, Rule, Sites, experts, fused_qkv, norms, plain_mlp, qkv

if TYPE_CHECKING:
    from collections.abc import Mapping


# ---------------------------------------------------------------------------------------------------------- rules


_L = "model.layers.{L}."
_EMBED = (
    Rule("model.embed_tokens.weight", "embedding"),
    Rule("lm_head.{P}", "unembedding", optional=True),
)
_ATTENTION = qkv(_L + "self_attn.", "o_proj")
_GATED_MLP = (
    Rule(_L + "mlp.gate_proj.{P}", "keys", "gate", neuron_axis=0),
    Rule(_L + "mlp.up_proj.{P}", "keys", "up", neuron_axis=0),
    Rule(_L + "mlp.down_proj.{P}", "value_vectors", "down", neuron_axis=1),
)
_FUSED_GATED_MLP = (
    Rule(_L + "mlp.gate_up_proj.{P}", "", "gate_up", neuron_axis=0, split="gate_up"),
    Rule(_L + "mlp.down_proj.{P}", "value_vectors", "down", neuron_axis=1),
)
_OPTIONAL_GATED_MLP = tuple(replace(rule, optional=True) for rule in _GATED_MLP)
_PRE_NORMS = norms(_L, "input_layernorm post_attention_layernorm")
_POST_NORMS = norms(_L, "post_attention_layernorm post_feedforward_layernorm")
_SANDWICH_NORMS = norms(
    _L, "input_layernorm post_attention_layernorm pre_feedforward_layernorm post_feedforward_layernorm"
)
_QK_NORMS = norms(_L + "self_attn.", "q_norm k_norm")
_FINAL_NORM = norms("model.", "norm")
_ROTARY = r"(^|\.)rotary_emb\.inv_freq$"
_WRAPPED = (
    ("language_model.model.", "model."),
    ("model.language_model.", "model."),
    ("language_model.lm_head", "lm_head"),
    ("embed_tokens.", "model.embed_tokens."),
    ("layers.", "model.layers."),
    ("norm.", "model.norm."),
)

LLAMA = Architecture(
    "llama", _EMBED + _ATTENTION + _GATED_MLP + _PRE_NORMS + _FINAL_NORM, prefixes=_WRAPPED, ignore=(_ROTARY,)
)


def _like_llama(model_type: str, rules: tuple[Rule, ...] | None = None, **changes: Any) -> Architecture:
    return replace(LLAMA, model_type=model_type, rules=LLAMA.rules if rules is None else rules, **changes)


_PARALLEL = _EMBED + _ATTENTION + _GATED_MLP + norms(_L, "input_layernorm") + _FINAL_NORM
_OLMO2 = _EMBED + _ATTENTION + _GATED_MLP + _POST_NORMS + _QK_NORMS + _FINAL_NORM
_PLAIN_LLAMA = _EMBED + _ATTENTION + plain_mlp(_L + "mlp.", "up_proj", "down_proj") + _PRE_NORMS + _FINAL_NORM
_QK_LLAMA = LLAMA.rules + _QK_NORMS
_MOE_SITES = Sites(experts="mlp.experts", value_vectors="", keys=())
_ROUTED = _EMBED + _ATTENTION + _PRE_NORMS + _FINAL_NORM
_QWEN_EXPERTS = experts(_L + "mlp.experts.", "gate_proj", "up_proj", "down_proj")
_QWEN_ROUTER = (Rule(_L + "mlp.gate.{P}", "router"),)
_MIXTRAL_EXPERTS = (
    Rule(_L + "block_sparse_moe.gate.{P}", "router", module=_L + "mlp.gate.{P}"),
    *experts(_L + "block_sparse_moe.experts.", "w1", "w3", "w2", _L + "mlp.experts."),
)
_QWEN_MOE = _ROUTED + _QWEN_ROUTER + _QWEN_EXPERTS + _OPTIONAL_GATED_MLP
_SHARED_EXPERT = (
    Rule(_L + "mlp.shared_expert.gate_proj.{P}", "keys", "gate", neuron_axis=0, after_experts=True),
    Rule(_L + "mlp.shared_expert.up_proj.{P}", "keys", "up", neuron_axis=0, after_experts=True),
    Rule(_L + "mlp.shared_expert.down_proj.{P}", "value_vectors", "down", neuron_axis=1, after_experts=True),
    Rule(_L + "mlp.shared_expert_gate.{P}", "router"),
)

_H = "transformer.h.{L}."
_TRANSFORMER: tuple[tuple[str, str], ...] = (
    ("h.", "transformer.h."),
    ("wte.", "transformer.wte."),
    ("wpe.", "transformer.wpe."),
)
_TRANSFORMER += (("ln_f.", "transformer.ln_f."), ("word_embeddings", "transformer.word_embeddings"))
_GPT2_ENDS = (
    Rule("transformer.wte.weight", "embedding"),
    Rule("lm_head.{P}", "unembedding", optional=True),
    *norms("transformer.", "ln_f"),
)
_POSITIONS = (Rule("transformer.wpe.weight", "position_embedding"),)
_GPT2_NORMS = norms(_H, "ln_1 ln_2")
_GPT2_SITES = Sites(
    layers="transformer.h",
    final_norm="transformer.ln_f",
    embed="transformer.wte",
    attention="attn",
    attention_output="attn.c_proj",
    value_vectors="mlp.c_proj",
    keys=("mlp.c_fc",),
)
_MASKS = (r"(^|\.)(attn|attention|self_attention)\.(attention\.)?(bias|masked_bias)$", _ROTARY)
_BLOOM_SITES = replace(
    _GPT2_SITES,
    embed="transformer.word_embeddings",
    attention="self_attention",
    attention_output="self_attention.dense",
    value_vectors="mlp.dense_4h_to_h",
    keys=("mlp.dense_h_to_4h",),
    layer_returns_tuple=True,
)
_BLOOM_ENDS = (
    Rule("transformer.word_embeddings.weight", "embedding"),
    Rule("lm_head.{P}", "unembedding", optional=True),
    *norms("transformer.", "ln_f"),
)
_DENSE_4H = plain_mlp(_H + "mlp.", "dense_h_to_4h", "dense_4h_to_h")
_D = "model.decoder.layers.{L}."
_N = "gpt_neox.layers.{L}."
_B = "transformer.blocks.{L}."
_G = _L + "block_sparse_moe."

_ROWS = (
    LLAMA,
    _like_llama("mistral"),
    _like_llama("ministral3"),
    _like_llama("qwen2"),
    _like_llama("gemma", tied=True),
    _like_llama("olmo", _EMBED + _ATTENTION + _GATED_MLP),
    _like_llama("granite"),
    _like_llama("seed_oss"),
    _like_llama("ernie4_5", tied=True),
    _like_llama("smollm3", tied=True),
    _like_llama("ministral"),
    _like_llama("helium"),
    _like_llama("cohere", _PARALLEL + tuple(replace(rule, optional=True) for rule in _QK_NORMS), tied=True),
    _like_llama("cohere2", _PARALLEL, tied=True),
    _like_llama(
        "stablelm",
        (
            *LLAMA.rules,
            Rule(_L + "self_attn.q_layernorm.norms.{E}.{P}", "norms", optional=True),
            Rule(_L + "self_attn.k_layernorm.norms.{E}.{P}", "norms", optional=True),
        ),
    ),
    _like_llama("qwen3", _QK_LLAMA),
    _like_llama("exaone4", _OLMO2),
    _like_llama("hunyuan_v1_dense", LLAMA.rules + norms(_L + "self_attn.", "query_layernorm key_layernorm")),
    _like_llama("gemma2", _EMBED + _ATTENTION + _GATED_MLP + _SANDWICH_NORMS + _FINAL_NORM, tied=True),
    _like_llama(
        "vaultgemma",
        _EMBED + _ATTENTION + _GATED_MLP + norms(_L, "input_layernorm pre_feedforward_layernorm") + _FINAL_NORM,
        tied=True,
    ),
    _like_llama("gemma3_text", _EMBED + _ATTENTION + _GATED_MLP + _SANDWICH_NORMS + _QK_NORMS + _FINAL_NORM, tied=True),
    _like_llama("olmo2", _OLMO2),
    _like_llama("olmo3", _OLMO2),
    _like_llama("nemotron", _PLAIN_LLAMA, sites=Sites(keys=("mlp.up_proj",))),
    _like_llama("arcee", _PLAIN_LLAMA, sites=Sites(keys=("mlp.up_proj",))),
    _like_llama(
        "phi3",
        _EMBED
        + fused_qkv(_L + "self_attn.", "qkv_proj", "qkv_grouped", "o_proj")
        + _FUSED_GATED_MLP
        + _PRE_NORMS
        + _FINAL_NORM,
        sites=Sites(keys=("mlp.gate_up_proj",)),
    ),
    _like_llama(
        "glm",
        _EMBED + _ATTENTION + _FUSED_GATED_MLP + _PRE_NORMS + _FINAL_NORM,
        sites=Sites(keys=("mlp.gate_up_proj",)),
    ),
    _like_llama(
        "glm4",
        _EMBED
        + _ATTENTION
        + _FUSED_GATED_MLP
        + _PRE_NORMS
        + norms(_L, "post_self_attn_layernorm post_mlp_layernorm")
        + _FINAL_NORM,
        sites=Sites(keys=("mlp.gate_up_proj",)),
    ),
    _like_llama(
        "phi",
        _EMBED
        + qkv(_L + "self_attn.", "dense")
        + plain_mlp(_L + "mlp.", "fc1", "fc2")
        + norms(_L, "input_layernorm")
        + norms("model.", "final_layernorm")
        + norms(_L + "self_attn.", "q_layernorm k_layernorm", optional=True),
        sites=Sites(
            final_norm="model.final_layernorm",
            attention_output="self_attn.dense",
            value_vectors="mlp.fc2",
            keys=("mlp.fc1",),
        ),
    ),
    _like_llama(
        "starcoder2",
        _EMBED + _ATTENTION + plain_mlp(_L + "mlp.", "c_fc", "c_proj") + _PRE_NORMS + _FINAL_NORM,
        sites=Sites(value_vectors="mlp.c_proj", keys=("mlp.c_fc",)),
        tied=True,
    ),
    _like_llama("mixtral", _ROUTED + _MIXTRAL_EXPERTS, sites=_MOE_SITES),
    _like_llama(
        "phimoe",
        (*_ROUTED, replace(_MIXTRAL_EXPERTS[0], module=_L + "mlp.router.{P}"), *_MIXTRAL_EXPERTS[1:]),
        sites=_MOE_SITES,
    ),
    _like_llama("qwen3_moe", _QWEN_MOE + _QK_NORMS, sites=_MOE_SITES),
    _like_llama("olmoe", _QWEN_MOE + _QK_NORMS, sites=_MOE_SITES),
    _like_llama("qwen2_moe", _QWEN_MOE + _SHARED_EXPERT, sites=_MOE_SITES),
    _like_llama(
        "gpt_oss",
        (
            *_ROUTED,
            Rule(_L + "self_attn.sinks", "other"),
            Rule(_L + "mlp.router.{P}", "router"),
            Rule(_L + "mlp.experts.gate_up_proj", "", "gate_up", 2, 0, "experts_interleaved"),
            Rule(_L + "mlp.experts.gate_up_proj_bias", "", "gate_up", None, 0, "experts_interleaved"),
            Rule(_L + "mlp.experts.down_proj", "value_vectors", "down", 1, 0, "experts"),
            Rule(_L + "mlp.experts.down_proj_bias", "value_vectors", "down", None, 0, "experts"),
        ),
        sites=_MOE_SITES,
        other_forms=gpt_oss_forms(_L + "mlp.experts."),
    ),
    _like_llama(
        "granitemoe",
        (
            *_ROUTED,
            Rule(_G + "router.layer.{P}", "router", module=_G + "router.{P}"),
            Rule(_G + "input_linear.weight", "", "gate_up", 1, 0, "experts_gate_up", _G + "experts.gate_up_proj"),
            Rule(_G + "output_linear.weight", "value_vectors", "down", 2, 0, "experts", _G + "experts.down_proj"),
        ),
        sites=replace(_MOE_SITES, mlp="block_sparse_moe", experts="block_sparse_moe.experts"),
    ),
    Architecture(
        "gpt2",
        _GPT2_ENDS
        + _POSITIONS
        + fused_qkv(_H + "attn.", "c_attn", "thirds_conv1d", "c_proj")
        + plain_mlp(_H + "mlp.", "c_fc", "c_proj", conv1d=True)
        + _GPT2_NORMS,
        _GPT2_SITES,
        prefixes=_TRANSFORMER,
        ignore=_MASKS,
        tied=True,
        conv1d=True,
    ),
    Architecture(
        "gpt_bigcode",
        _GPT2_ENDS
        + _POSITIONS
        + fused_qkv(_H + "attn.", "c_attn", "bigcode", "c_proj")
        + plain_mlp(_H + "mlp.", "c_fc", "c_proj")
        + _GPT2_NORMS,
        _GPT2_SITES,
        prefixes=_TRANSFORMER,
        ignore=_MASKS,
        tied=True,
    ),
    Architecture(
        "gptj",
        _GPT2_ENDS + qkv(_H + "attn.", "out_proj") + plain_mlp(_H + "mlp.", "fc_in", "fc_out") + norms(_H, "ln_1"),
        replace(
            _GPT2_SITES,
            attention_output="attn.out_proj",
            value_vectors="mlp.fc_out",
            keys=("mlp.fc_in",),
            layer_returns_tuple=True,
        ),
        prefixes=_TRANSFORMER,
        ignore=_MASKS,
    ),
    Architecture(
        "gpt_neo",
        _GPT2_ENDS
        + _POSITIONS
        + qkv(_H + "attn.attention.", "out_proj")
        + plain_mlp(_H + "mlp.", "c_fc", "c_proj")
        + _GPT2_NORMS,
        replace(_GPT2_SITES, attention_output="attn.attention.out_proj", layer_returns_tuple=True),
        prefixes=_TRANSFORMER,
        ignore=_MASKS,
        tied=True,
    ),
    Architecture(
        "gpt_neox",
        (
            Rule("gpt_neox.embed_in.weight", "embedding"),
            Rule("embed_out.{P}", "unembedding", module="lm_head.{P}", optional=True),
            *fused_qkv(_N + "attention.", "query_key_value", "heads", "dense"),
            *plain_mlp(_N + "mlp.", "dense_h_to_4h", "dense_4h_to_h"),
            *norms(_N, "input_layernorm post_attention_layernorm"),
            *norms("gpt_neox.", "final_layer_norm"),
        ),
        Sites(
            layers="gpt_neox.layers",
            final_norm="gpt_neox.final_layer_norm",
            embed="gpt_neox.embed_in",
            attention="attention",
            attention_output="attention.dense",
            value_vectors="mlp.dense_4h_to_h",
            keys=("mlp.dense_h_to_4h",),
        ),
        prefixes=(("layers.", "gpt_neox.layers."), ("lm_head.", "embed_out.")),
        ignore=_MASKS,
    ),
    Architecture(
        "opt",
        (
            Rule("model.decoder.embed_tokens.weight", "embedding"),
            Rule("model.decoder.embed_positions.weight", "position_embedding"),
            Rule("lm_head.{P}", "unembedding", optional=True),
            *qkv(_D + "self_attn.", "out_proj"),
            *plain_mlp(_D, "fc1", "fc2"),
            *norms(_D, "self_attn_layer_norm final_layer_norm"),
            *norms("model.decoder.", "final_layer_norm", optional=True),
            Rule("model.decoder.project_in.weight", "other", optional=True),
            Rule("model.decoder.project_out.weight", "other", optional=True),
        ),
        Sites(
            layers="model.decoder.layers",
            final_norm="model.decoder.final_layer_norm",
            embed="model.decoder.embed_tokens",
            attention_output="self_attn.out_proj",
            mlp="",
            value_vectors="fc2",
            keys=("fc1",),
        ),
        prefixes=(("decoder.", "model.decoder."),),
        tied=True,
    ),
    Architecture(
        "bloom",
        _BLOOM_ENDS
        + fused_qkv(_H + "self_attention.", "query_key_value", "heads", "dense")
        + _DENSE_4H
        + norms(_H, "input_layernorm post_attention_layernorm")
        + norms("transformer.", "word_embeddings_layernorm"),
        replace(_BLOOM_SITES, attention_adds_residual=True),
        prefixes=_TRANSFORMER,
        tied=True,
    ),
    Architecture(
        "falcon",
        _BLOOM_ENDS
        + fused_qkv(_H + "self_attention.", "query_key_value", "falcon", "dense")
        + _DENSE_4H
        + norms(_H, "input_layernorm ln_attn ln_mlp post_attention_layernorm", optional=True),
        _BLOOM_SITES,
        prefixes=_TRANSFORMER,
        tied=True,
    ),
    Architecture(
        "mpt",
        (
            Rule("transformer.wte.weight", "embedding"),
            Rule("lm_head.{P}", "unembedding", optional=True),
            *fused_qkv(_B + "attn.", "Wqkv", "thirds", "out_proj"),
            *plain_mlp(_B + "ffn.", "up_proj", "down_proj"),
            *norms(_B, "norm_1 norm_2"),
            *norms("transformer.", "norm_f"),
        ),
        Sites(
            layers="transformer.blocks",
            final_norm="transformer.norm_f",
            embed="transformer.wte",
            attention="attn",
            attention_output="attn.out_proj",
            mlp="ffn",
            value_vectors="ffn.down_proj",
            keys=("ffn.up_proj",),
            layer_returns_tuple=True,
        ),
        tied=True,
    ),
)

ARCHITECTURES: Mapping[str, Architecture] = {
    row.model_type: replace(row, other_forms=other_forms(row)) for row in _ROWS
}
"""Every model type that ckdiff knows, by its name in config.json."""

ALIASES: Mapping[str, str] = {"gemma3": "gemma3_text", "mistral3": "mistral"}
"""Wrappers whose language model is another row's."""


def architecture(model_type: str) -> Architecture | None:
    """The row of a model type, or None where there is none."""
    return ARCHITECTURES.get(ALIASES.get(model_type, model_type))
