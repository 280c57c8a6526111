"""Architectures as data: which stored tensor is which component, and where a live model keeps its parts.

A row says, for one `model_type`, what every tensor on disk is (`Rule`), which older spellings of the names exist, and
the module paths at which a live model has the sites that the probes need (`Sites`). Adding a family is one row here
and one tiny config in `tests/tiny_families.py`. Nothing in this module imports torch.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ckdiff.weights.experts import gpt_oss_forms, other_forms
from ckdiff.weights.rule_sets import (
    ATTENTION,
    BLOOM_ENDS,
    BLOOM_SITES,
    DENSE_4H,
    EMBED,
    FINAL_NORM,
    FUSED_GATED_MLP,
    GATED_MLP,
    GPT2_ENDS,
    GPT2_NORMS,
    GPT2_SITES,
    MASKS,
    MIXTRAL_EXPERTS,
    MOE_SITES,
    OLMO2,
    PARALLEL,
    PLAIN_LLAMA,
    POSITIONS,
    PRE_NORMS,
    QK_LLAMA,
    QK_NORMS,
    QWEN_MOE,
    ROTARY,
    ROUTED,
    SANDWICH_NORMS,
    SHARED_EXPERT,
    TRANSFORMER,
    WRAPPED,
    B,
    D,
    G,
    H,
    L,
    N,
)
from ckdiff.weights.rules import Architecture, Rule, Sites, fused_qkv, norms, plain_mlp, qkv

if TYPE_CHECKING:
    from collections.abc import Mapping


LLAMA = Architecture(
    "llama", EMBED + ATTENTION + GATED_MLP + PRE_NORMS + FINAL_NORM, prefixes=WRAPPED, ignore=(ROTARY,)
)


def _like_llama(model_type: str, rules: tuple[Rule, ...] | None = None, **changes: Any) -> Architecture:
    return replace(LLAMA, model_type=model_type, rules=LLAMA.rules if rules is None else rules, **changes)


_ROWS = (
    LLAMA,
    _like_llama("mistral"),
    _like_llama("ministral3"),
    _like_llama("qwen2"),
    _like_llama("gemma", tied=True),
    _like_llama("olmo", EMBED + ATTENTION + GATED_MLP),
    _like_llama("granite"),
    _like_llama("seed_oss"),
    _like_llama("ernie4_5", tied=True),
    _like_llama("smollm3", tied=True),
    _like_llama("ministral"),
    _like_llama("helium"),
    _like_llama("cohere", PARALLEL + tuple(replace(rule, optional=True) for rule in QK_NORMS), tied=True),
    _like_llama("cohere2", PARALLEL, tied=True),
    _like_llama(
        "stablelm",
        (
            *LLAMA.rules,
            Rule(L + "self_attn.q_layernorm.norms.{E}.{P}", "norms", optional=True),
            Rule(L + "self_attn.k_layernorm.norms.{E}.{P}", "norms", optional=True),
        ),
    ),
    _like_llama("qwen3", QK_LLAMA),
    _like_llama("exaone4", OLMO2),
    _like_llama("hunyuan_v1_dense", LLAMA.rules + norms(L + "self_attn.", "query_layernorm key_layernorm")),
    _like_llama("gemma2", EMBED + ATTENTION + GATED_MLP + SANDWICH_NORMS + FINAL_NORM, tied=True),
    _like_llama(
        "vaultgemma",
        EMBED + ATTENTION + GATED_MLP + norms(L, "input_layernorm pre_feedforward_layernorm") + FINAL_NORM,
        tied=True,
    ),
    _like_llama("gemma3_text", EMBED + ATTENTION + GATED_MLP + SANDWICH_NORMS + QK_NORMS + FINAL_NORM, tied=True),
    _like_llama("olmo2", OLMO2),
    _like_llama("olmo3", OLMO2),
    _like_llama("nemotron", PLAIN_LLAMA, sites=Sites(keys=("mlp.up_proj",))),
    _like_llama("arcee", PLAIN_LLAMA, sites=Sites(keys=("mlp.up_proj",))),
    _like_llama(
        "phi3",
        EMBED
        + fused_qkv(L + "self_attn.", "qkv_proj", "qkv_grouped", "o_proj")
        + FUSED_GATED_MLP
        + PRE_NORMS
        + FINAL_NORM,
        sites=Sites(keys=("mlp.gate_up_proj",)),
    ),
    _like_llama(
        "glm",
        EMBED + ATTENTION + FUSED_GATED_MLP + PRE_NORMS + FINAL_NORM,
        sites=Sites(keys=("mlp.gate_up_proj",)),
    ),
    _like_llama(
        "glm4",
        EMBED
        + ATTENTION
        + FUSED_GATED_MLP
        + PRE_NORMS
        + norms(L, "post_self_attn_layernorm post_mlp_layernorm")
        + FINAL_NORM,
        sites=Sites(keys=("mlp.gate_up_proj",)),
    ),
    _like_llama(
        "phi",
        EMBED
        + qkv(L + "self_attn.", "dense")
        + plain_mlp(L + "mlp.", "fc1", "fc2")
        + norms(L, "input_layernorm")
        + norms("model.", "final_layernorm")
        + norms(L + "self_attn.", "q_layernorm k_layernorm", optional=True),
        sites=Sites(
            final_norm="model.final_layernorm",
            attention_output="self_attn.dense",
            value_vectors="mlp.fc2",
            keys=("mlp.fc1",),
        ),
    ),
    _like_llama(
        "starcoder2",
        EMBED + ATTENTION + plain_mlp(L + "mlp.", "c_fc", "c_proj") + PRE_NORMS + FINAL_NORM,
        sites=Sites(value_vectors="mlp.c_proj", keys=("mlp.c_fc",)),
        tied=True,
    ),
    _like_llama("mixtral", ROUTED + MIXTRAL_EXPERTS, sites=MOE_SITES),
    _like_llama(
        "phimoe",
        (*ROUTED, replace(MIXTRAL_EXPERTS[0], module=L + "mlp.router.{P}"), *MIXTRAL_EXPERTS[1:]),
        sites=MOE_SITES,
    ),
    _like_llama("qwen3_moe", QWEN_MOE + QK_NORMS, sites=MOE_SITES),
    _like_llama("olmoe", QWEN_MOE + QK_NORMS, sites=MOE_SITES),
    _like_llama("qwen2_moe", QWEN_MOE + SHARED_EXPERT, sites=MOE_SITES),
    _like_llama(
        "gpt_oss",
        (
            *ROUTED,
            Rule(L + "self_attn.sinks", "other"),
            Rule(L + "mlp.router.{P}", "router"),
            Rule(L + "mlp.experts.gate_up_proj", "", "gate_up", 2, 0, "experts_interleaved"),
            Rule(L + "mlp.experts.gate_up_proj_bias", "", "gate_up", None, 0, "experts_interleaved"),
            Rule(L + "mlp.experts.down_proj", "value_vectors", "down", 1, 0, "experts"),
            Rule(L + "mlp.experts.down_proj_bias", "value_vectors", "down", None, 0, "experts"),
        ),
        sites=MOE_SITES,
        other_forms=gpt_oss_forms(L + "mlp.experts."),
    ),
    _like_llama(
        "granitemoe",
        (
            *ROUTED,
            Rule(G + "router.layer.{P}", "router", module=G + "router.{P}"),
            Rule(G + "input_linear.weight", "", "gate_up", 1, 0, "experts_gate_up", G + "experts.gate_up_proj"),
            Rule(G + "output_linear.weight", "value_vectors", "down", 2, 0, "experts", G + "experts.down_proj"),
        ),
        sites=replace(MOE_SITES, mlp="block_sparse_moe", experts="block_sparse_moe.experts"),
    ),
    Architecture(
        "gpt2",
        GPT2_ENDS
        + POSITIONS
        + fused_qkv(H + "attn.", "c_attn", "thirds_conv1d", "c_proj")
        + plain_mlp(H + "mlp.", "c_fc", "c_proj", conv1d=True)
        + GPT2_NORMS,
        GPT2_SITES,
        prefixes=TRANSFORMER,
        ignore=MASKS,
        tied=True,
        conv1d=True,
    ),
    Architecture(
        "gpt_bigcode",
        GPT2_ENDS
        + POSITIONS
        + fused_qkv(H + "attn.", "c_attn", "bigcode", "c_proj")
        + plain_mlp(H + "mlp.", "c_fc", "c_proj")
        + GPT2_NORMS,
        GPT2_SITES,
        prefixes=TRANSFORMER,
        ignore=MASKS,
        tied=True,
    ),
    Architecture(
        "gptj",
        GPT2_ENDS + qkv(H + "attn.", "out_proj") + plain_mlp(H + "mlp.", "fc_in", "fc_out") + norms(H, "ln_1"),
        replace(
            GPT2_SITES,
            attention_output="attn.out_proj",
            value_vectors="mlp.fc_out",
            keys=("mlp.fc_in",),
            layer_returns_tuple=True,
        ),
        prefixes=TRANSFORMER,
        ignore=MASKS,
    ),
    Architecture(
        "gpt_neo",
        GPT2_ENDS
        + POSITIONS
        + qkv(H + "attn.attention.", "out_proj")
        + plain_mlp(H + "mlp.", "c_fc", "c_proj")
        + GPT2_NORMS,
        replace(GPT2_SITES, attention_output="attn.attention.out_proj", layer_returns_tuple=True),
        prefixes=TRANSFORMER,
        ignore=MASKS,
        tied=True,
    ),
    Architecture(
        "gpt_neox",
        (
            Rule("gpt_neox.embed_in.weight", "embedding"),
            Rule("embed_out.{P}", "unembedding", module="lm_head.{P}", optional=True),
            *fused_qkv(N + "attention.", "query_key_value", "heads", "dense"),
            *plain_mlp(N + "mlp.", "dense_h_to_4h", "dense_4h_to_h"),
            *norms(N, "input_layernorm post_attention_layernorm"),
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
        ignore=MASKS,
    ),
    Architecture(
        "opt",
        (
            Rule("model.decoder.embed_tokens.weight", "embedding"),
            Rule("model.decoder.embed_positions.weight", "position_embedding"),
            Rule("lm_head.{P}", "unembedding", optional=True),
            *qkv(D + "self_attn.", "out_proj"),
            *plain_mlp(D, "fc1", "fc2"),
            *norms(D, "self_attn_layer_norm final_layer_norm"),
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
        BLOOM_ENDS
        + fused_qkv(H + "self_attention.", "query_key_value", "heads", "dense")
        + DENSE_4H
        + norms(H, "input_layernorm post_attention_layernorm")
        + norms("transformer.", "word_embeddings_layernorm"),
        replace(BLOOM_SITES, attention_adds_residual=True),
        prefixes=TRANSFORMER,
        tied=True,
    ),
    Architecture(
        "falcon",
        BLOOM_ENDS
        + fused_qkv(H + "self_attention.", "query_key_value", "falcon", "dense")
        + DENSE_4H
        + norms(H, "input_layernorm ln_attn ln_mlp post_attention_layernorm", optional=True),
        BLOOM_SITES,
        prefixes=TRANSFORMER,
        tied=True,
    ),
    Architecture(
        "mpt",
        (
            Rule("transformer.wte.weight", "embedding"),
            Rule("lm_head.{P}", "unembedding", optional=True),
            *fused_qkv(B + "attn.", "Wqkv", "thirds", "out_proj"),
            *plain_mlp(B + "ffn.", "up_proj", "down_proj"),
            *norms(B, "norm_1 norm_2"),
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
