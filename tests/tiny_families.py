"""A tiny random model of every architecture that ckdiff knows, made by transformers itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

COMMON: dict[str, Any] = {
    "vocab_size": 72,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
EXPERTS: dict[str, Any] = {"num_experts": 3, "num_local_experts": 3, "num_experts_per_tok": 2}
GPT2: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 56, "n_positions": 64, "vocab_size": 72}
GPT2 |= {"bos_token_id": 1, "eos_token_id": 2}

LIKE_LLAMA = (
    *("llama", "mistral", "ministral3", "qwen2", "gemma", "olmo", "granite", "smollm3", "cohere", "cohere2"),
    *("stablelm", "qwen3", "exaone4", "hunyuan_v1_dense", "gemma2", "gemma3_text", "olmo2", "olmo3", "nemotron"),
    *("phi3", "glm4", "phi", "starcoder2", "seed_oss", "ernie4_5", "glm"),
    *("ministral", "helium", "arcee", "vaultgemma"),
)
CONFIGS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(LIKE_LLAMA, COMMON),
    "mixtral": COMMON | EXPERTS,
    "phimoe": COMMON | EXPERTS,
    "qwen3_moe": COMMON | EXPERTS | {"moe_intermediate_size": 24, "mlp_only_layers": [0]},
    "olmoe": COMMON | EXPERTS,
    "qwen2_moe": COMMON | EXPERTS | {"moe_intermediate_size": 24, "shared_expert_intermediate_size": 40},
    "gpt_oss": COMMON | EXPERTS,
    "granitemoe": COMMON | EXPERTS,
    "gpt2": GPT2,
    "gpt_bigcode": GPT2,
    "gptj": GPT2 | {"rotary_dim": 4},
    "gpt_neo": COMMON
    | {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": 8},
    "gpt_neox": COMMON,
    "opt": COMMON | {"ffn_dim": 56, "word_embed_proj_dim": 32},
    "bloom": {"vocab_size": 72, "hidden_size": 32, "n_layer": 2, "n_head": 4},
    "falcon": {key: value for key, value in COMMON.items() if key != "head_dim"} | {"ffn_hidden_size": 56},
    "mpt": {"vocab_size": 72, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 64},
}

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "falcon-new": ("falcon", CONFIGS["falcon"] | {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon-heads": ("falcon", CONFIGS["falcon"] | {"multi_query": False, "alibi": True}),
    "gpt_bigcode-heads": ("gpt_bigcode", GPT2 | {"multi_query": False}),
    "opt-projected": ("opt", CONFIGS["opt"] | {"word_embed_proj_dim": 16, "do_layer_norm_before": False}),
    "qwen2-tied": ("qwen2", COMMON | {"tie_word_embeddings": True}),
    "llama-biased": ("llama", COMMON | {"attention_bias": True, "mlp_bias": True}),
    "stablelm-qk": ("stablelm", COMMON | {"qk_layernorm": True}),
    "cohere-qk": ("cohere", COMMON | {"use_qk_norm": True}),
}
ALL: dict[str, tuple[str, dict[str, Any]]] = {name: (name, config) for name, config in CONFIGS.items()} | VARIANTS

EAGER_ONLY = ("gemma2", "vaultgemma", "gpt_oss", "gptj", "gpt_neo", "bloom", "mpt")
"""Families that transformers has no other attention for; a test says whose name is missing."""


def build(name: str, seed: int = 0) -> Any:
    """The model in memory: float32, every parameter random, biases and norms too."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    model_type, settings = ALL[name]
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **settings)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def save(name: str, directory: Path, seed: int = 0) -> Path:
    """The model as a checkpoint directory."""
    build(name, seed).save_pretrained(directory)
    return directory
