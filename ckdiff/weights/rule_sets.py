"""Rules that rows of the table of architectures share: the names of a layer's tensors in the usual spellings."""

from __future__ import annotations

from dataclasses import replace

from ckdiff.weights.rules import Rule, Sites, experts, norms, plain_mlp, qkv

L = "model.layers.{L}."
EMBED = (
    Rule("model.embed_tokens.weight", "embedding"),
    Rule("lm_head.{P}", "unembedding", optional=True),
)
ATTENTION = qkv(L + "self_attn.", "o_proj")
GATED_MLP = (
    Rule(L + "mlp.gate_proj.{P}", "keys", "gate", neuron_axis=0),
    Rule(L + "mlp.up_proj.{P}", "keys", "up", neuron_axis=0),
    Rule(L + "mlp.down_proj.{P}", "value_vectors", "down", neuron_axis=1),
)
FUSED_GATED_MLP = (
    Rule(L + "mlp.gate_up_proj.{P}", "", "gate_up", neuron_axis=0, split="gate_up"),
    Rule(L + "mlp.down_proj.{P}", "value_vectors", "down", neuron_axis=1),
)
OPTIONAL_GATED_MLP = tuple(replace(rule, optional=True) for rule in GATED_MLP)
PRE_NORMS = norms(L, "input_layernorm post_attention_layernorm")
POST_NORMS = norms(L, "post_attention_layernorm post_feedforward_layernorm")
SANDWICH_NORMS = norms(
    L, "input_layernorm post_attention_layernorm pre_feedforward_layernorm post_feedforward_layernorm"
)
QK_NORMS = norms(L + "self_attn.", "q_norm k_norm")
FINAL_NORM = norms("model.", "norm")
ROTARY = r"(^|\.)rotary_emb\.inv_freq$"
WRAPPED = (
    ("language_model.model.", "model."),
    ("model.language_model.", "model."),
    ("language_model.lm_head", "lm_head"),
    ("embed_tokens.", "model.embed_tokens."),
    ("layers.", "model.layers."),
    ("norm.", "model.norm."),
)

PARALLEL = EMBED + ATTENTION + GATED_MLP + norms(L, "input_layernorm") + FINAL_NORM
OLMO2 = EMBED + ATTENTION + GATED_MLP + POST_NORMS + QK_NORMS + FINAL_NORM
PLAIN_LLAMA = EMBED + ATTENTION + plain_mlp(L + "mlp.", "up_proj", "down_proj") + PRE_NORMS + FINAL_NORM
QK_LLAMA = EMBED + ATTENTION + GATED_MLP + PRE_NORMS + FINAL_NORM + QK_NORMS
MOE_SITES = Sites(experts="mlp.experts", value_vectors="", keys=())
ROUTED = EMBED + ATTENTION + PRE_NORMS + FINAL_NORM
QWEN_EXPERTS = experts(L + "mlp.experts.", "gate_proj", "up_proj", "down_proj")
QWEN_ROUTER = (Rule(L + "mlp.gate.{P}", "router"),)
MIXTRAL_EXPERTS = (
    Rule(L + "block_sparse_moe.gate.{P}", "router", module=L + "mlp.gate.{P}"),
    *experts(L + "block_sparse_moe.experts.", "w1", "w3", "w2", L + "mlp.experts."),
)
QWEN_MOE = ROUTED + QWEN_ROUTER + QWEN_EXPERTS + OPTIONAL_GATED_MLP
SHARED_EXPERT = (
    Rule(L + "mlp.shared_expert.gate_proj.{P}", "keys", "gate", neuron_axis=0, after_experts=True),
    Rule(L + "mlp.shared_expert.up_proj.{P}", "keys", "up", neuron_axis=0, after_experts=True),
    Rule(L + "mlp.shared_expert.down_proj.{P}", "value_vectors", "down", neuron_axis=1, after_experts=True),
    Rule(L + "mlp.shared_expert_gate.{P}", "router"),
)

H = "transformer.h.{L}."
TRANSFORMER: tuple[tuple[str, str], ...] = (
    ("h.", "transformer.h."),
    ("wte.", "transformer.wte."),
    ("wpe.", "transformer.wpe."),
)
TRANSFORMER += (("ln_f.", "transformer.ln_f."), ("word_embeddings", "transformer.word_embeddings"))
GPT2_ENDS = (
    Rule("transformer.wte.weight", "embedding"),
    Rule("lm_head.{P}", "unembedding", optional=True),
    *norms("transformer.", "ln_f"),
)
POSITIONS = (Rule("transformer.wpe.weight", "position_embedding"),)
GPT2_NORMS = norms(H, "ln_1 ln_2")
GPT2_SITES = Sites(
    layers="transformer.h",
    final_norm="transformer.ln_f",
    embed="transformer.wte",
    attention="attn",
    attention_output="attn.c_proj",
    value_vectors="mlp.c_proj",
    keys=("mlp.c_fc",),
)
MASKS = (r"(^|\.)(attn|attention|self_attention)\.(attention\.)?(bias|masked_bias)$", ROTARY)
BLOOM_SITES = replace(
    GPT2_SITES,
    embed="transformer.word_embeddings",
    attention="self_attention",
    attention_output="self_attention.dense",
    value_vectors="mlp.dense_4h_to_h",
    keys=("mlp.dense_h_to_4h",),
    layer_returns_tuple=True,
)
BLOOM_ENDS = (
    Rule("transformer.word_embeddings.weight", "embedding"),
    Rule("lm_head.{P}", "unembedding", optional=True),
    *norms("transformer.", "ln_f"),
)
DENSE_4H = plain_mlp(H + "mlp.", "dense_h_to_4h", "dense_4h_to_h")
D = "model.decoder.layers.{L}."
N = "gpt_neox.layers.{L}."
B = "transformer.blocks.{L}."
G = L + "block_sparse_moe."
