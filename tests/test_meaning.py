"""Two spellings of one setting are one setting exactly where transformers makes the same of both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from transformers import AutoConfig, GenerationConfig

from ckdiff.weights.configs import Settings, compare_settings
from ckdiff.weights.meaning import model as settings_of_model
from ckdiff.weights.meaning.defaults import kind_of
from ckdiff.weights.meaning.model import model_settings
from ckdiff.weights.reader import open_local
from tests.config_defaults import measure, written
from tests.tiny_families import ALL

if TYPE_CHECKING:
    from collections.abc import Callable

Config = dict[str, Any]
KNOWN = [name for name, (model_type, _) in ALL.items() if kind_of(model_type) is not None]
"""Of another model type only what is written is compared: a change too many may be seen, never one too few."""


def theirs(config: Config) -> Config:
    """What transformers makes of a config, as JSON."""
    given = dict(config)
    found = AutoConfig.for_model(given.pop("model_type"), **given).to_dict()
    result: Config = json.loads(json.dumps(found, default=str))
    return result


def saved(name: str) -> Config:
    """The config of a tiny model as transformers 5 saves it."""
    model_type, given = ALL[name]
    found: Config = json.loads(AutoConfig.for_model(model_type, **given).to_json_string(use_diff=True))
    return found


def as_version_4(config: Config) -> Config:
    """The same config with rotary settings and dtype under their old names."""
    old = {key: value for key, value in config.items() if key not in ("rope_parameters", "dtype", "layer_types")}
    rope = dict(config.get("rope_parameters") or {})
    if "full_attention" in rope:
        old |= {"rope_theta": rope["full_attention"]["rope_theta"], "rope_scaling": None}
        if config["model_type"] == "gemma3_text":
            old["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
    elif rope:
        neox = config["model_type"] == "gpt_neox"
        old["rotary_emb_base" if neox else "rope_theta"] = rope.pop("rope_theta")
        if "partial_rotary_factor" in rope:
            old["rotary_pct" if neox else "partial_rotary_factor"] = rope.pop("partial_rotary_factor")
        kind = rope.pop("rope_type")
        old["rope_scaling"] = None if kind == "default" else {"type": kind, **rope}
    return old | {"torch_dtype": config.get("dtype"), "transformers_version": "4.44.0", "_name_or_path": "x"}


def test_the_table_is_what_the_installed_transformers_does() -> None:
    fresh = Path(settings_of_model.__file__).with_name("defaults.json").read_text() == written(measure())
    assert fresh, "stale: python -m tests.config_defaults > ckdiff/weights/meaning/defaults.json"


@pytest.mark.parametrize("name", KNOWN)
def test_what_is_given_and_what_is_saved_are_one_config(name: str) -> None:
    model_type, given = ALL[name]
    if model_type == "olmo3":
        # Transformers 5.23 has another default for local layers where only half of the settings are there.
        given = given | {"rope_parameters": saved(name)["rope_parameters"]}
    assert model_settings({"model_type": model_type, **given}) == model_settings(saved(name))


@pytest.mark.parametrize("name", KNOWN)
def test_the_spelling_of_version_4_is_the_same_config(name: str) -> None:
    new = saved(name)
    old = as_version_4(new)
    sides = theirs(old | {"_name_or_path": ""}), theirs(new)
    for side in sides:
        # What transformers leaves in the old place, where nothing reads it.
        (side.get("rope_parameters") or {}).pop("type", None)
        side.pop("partial_rotary_factor", None)
    assert sides[0] == sides[1]
    assert model_settings(old) == model_settings(new)


CHANGES: dict[str, Config] = {
    "theta": {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}},
    "eps": {"rms_norm_eps": 1e-4},
    "activation": {"hidden_act": "gelu"},
    "tied": {"tie_word_embeddings": True},
    "dtype": {"dtype": "float16"},
    "one for true": {"attention_bias": 1},
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_a_change_in_either_spelling(change: str) -> None:
    one = saved("llama")
    other = one | CHANGES[change]
    for spelling in (lambda config: config, as_version_4):
        assert model_settings(spelling(other)) != model_settings(one)
        assert model_settings(spelling(one)) != model_settings(other)


SCALED: dict[str, Config] = {
    "linear": {"type": "linear", "factor": 2.0},
    "llama3": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    },
    "yarn": {"rope_type": "yarn", "factor": 4.0},
    "dynamic": {"type": "dynamic", "factor": 2.0},
}


@pytest.mark.parametrize("kind", SCALED)
def test_scaled_rotary_settings_in_both_spellings(kind: str) -> None:
    config = {key: value for key, value in saved("llama").items() if key != "rope_parameters"}
    old = config | {"rope_theta": 3e4, "rope_scaling": SCALED[kind]}
    new = theirs(old)
    assert model_settings(old) == model_settings(new)
    assert model_settings(old | {"rope_scaling": SCALED[kind] | {"factor": 3.0}}) != model_settings(new)


@pytest.mark.parametrize("window", [False, True])
def test_a_window_that_is_not_used_is_none(window: bool) -> None:
    config = saved("qwen2") | {"use_sliding_window": window, "max_window_layers": 1, "sliding_window": 32}
    del config["layer_types"]
    bare = {key: value for key, value in config.items() if key not in ("sliding_window", "max_window_layers")}
    same = theirs(config)["layer_types"] == theirs(bare | {"sliding_window": None})["layer_types"]
    assert (model_settings(config) == model_settings(bare)) == same == (not window)


def test_a_model_type_that_nobody_knows_is_compared_as_it_stands() -> None:
    one = {"model_type": "new", "torch_dtype": "bfloat16", "a": 1, "b": None}
    assert model_settings(one) == model_settings({"model_type": "new", "dtype": "bfloat16", "a": 1})
    assert model_settings(one) != model_settings({"model_type": "new", "dtype": "bfloat16"})


def test_nested_configs_are_read_likewise() -> None:
    inner = saved("gemma3_text")
    wrapped = [{"model_type": "gemma3", "text_config": one} for one in (inner, as_version_4(inner))]
    assert model_settings(wrapped[0]) == model_settings(wrapped[1])


# ------------------------------------------------------------------------------------------------ whole checkpoints

Files = dict[str, Config]


@pytest.fixture
def compared(tmp_path: Path) -> Callable[[Files, Files], Settings]:
    def compare(base: Files, unlearned: Files) -> Settings:
        for side, files in (("base", base), ("unlearned", unlearned)):
            root = tmp_path / side
            root.mkdir(exist_ok=True)
            save_file({"w": np.zeros(1, np.float32)}, root / "model.safetensors")
            for name, value in files.items():
                (root / name).write_text(json.dumps(value))
        return compare_settings(open_local(tmp_path / "base"), open_local(tmp_path / "unlearned"))

    return compare


def token(text: str, **flags: bool) -> Config:
    return {"content": text, "lstrip": False, "rstrip": False, "single_word": False, "normalized": False, **flags}


TOKENIZER = {"version": "1.0", "added_tokens": [{"id": 1, "special": True, **token("<s>")}], "model": {"type": "BPE"}}
DECODER = {"1": {"special": True, **token("<s>")}}

ENDS = {"bos_token_id": 1, "eos_token_id": [2], "pad_token_id": 0}

SAME: dict[str, tuple[Files, Files]] = {
    "transformers 4 and 5": (
        {"config.json": as_version_4(saved("llama"))},
        {"config.json": saved("llama")},
    ),
    "token as object or string": (
        {"tokenizer_config.json": {"bos_token": token("<s>", __type="AddedToken")}},  # type: ignore[arg-type]
        {"tokenizer_config.json": {"bos_token": "<s>"}},
    ),
    "key or file of special tokens": (
        {"tokenizer_config.json": {"bos_token": "<s>"}, "special_tokens_map.json": {"bos_token": "<s>"}},
        {"tokenizer_config.json": {"bos_token": "<s>"}},
    ),
    "special tokens in their own file alone": (
        {"special_tokens_map.json": {"eos_token": token("</s>")}},
        {"tokenizer_config.json": {"eos_token": "</s>"}},
    ),
    "additional or extra special tokens": (
        {"tokenizer_config.json": {"additional_special_tokens": ["<a>", "<b>"]}},
        {"tokenizer_config.json": {"extra_special_tokens": [token("<a>"), "<b>"]}},
    ),
    "added tokens in the decoder, or in tokenizer.json": (
        {"tokenizer_config.json": {"added_tokens_decoder": DECODER}, "tokenizer.json": TOKENIZER},
        {"tokenizer_config.json": {}, "tokenizer.json": TOKENIZER},
    ),
    "added tokens in a file of their own": (
        {"tokenizer.json": TOKENIZER, "added_tokens.json": {"<s>": 1}},
        {"tokenizer.json": TOKENIZER},
    ),
    "flags beside a list of tokens": (
        {"tokenizer_config.json": {"bos_token": token("<s>", lstrip=True)}, "tokenizer.json": TOKENIZER},
        {"tokenizer_config.json": {"bos_token": "<s>"}, "tokenizer.json": TOKENIZER},
    ),
    "a saver's padding and truncation": (
        {"tokenizer.json": TOKENIZER | {"truncation": {"max_length": 8}, "padding": {"pad_id": 0}}},
        {"tokenizer.json": TOKENIZER | {"truncation": None}},
    ),
    "a tokenizer's class by its old name": (
        {"tokenizer_config.json": {"tokenizer_class": "LlamaTokenizerFast", "model_max_length": 10**30}},
        {"tokenizer_config.json": {"tokenizer_class": "LlamaTokenizer", "backend": "tokenizers"}},
    ),
    "generation settings from the config": (
        {"config.json": saved("llama")},
        {
            "config.json": saved("llama"),
            "generation_config.json": {"bos_token_id": 1, "eos_token_id": [2], "pad_token_id": 0},
        },
    ),
    "generation settings that say the default": (
        {"generation_config.json": {"eos_token_id": 2, "do_sample": False, "temperature": 1.0}},
        {"generation_config.json": {"eos_token_id": 2, "_from_model_config": True}},
    ),
}


@pytest.mark.parametrize("case", SAME)
def test_spellings_are_listed_apart(compared: Callable[[Files, Files], Settings], case: str) -> None:
    found = compared(*SAME[case])
    assert found.changes == ()
    assert found.uncompared == ()
    assert found.spellings


OTHER: dict[str, tuple[Files, Files, list[str]]] = {
    "theta in two spellings": (
        {"config.json": as_version_4(saved("llama"))},
        {"config.json": saved("llama") | {"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}},
        ["rope_parameters.rope_theta", "rope_parameters.rope_type", "rope_scaling", "rope_theta"],
    ),
    "a special token that is another": (
        {"tokenizer_config.json": {"eos_token": "</s>"}},
        {"tokenizer_config.json": {"eos_token": token("<eot>")}},
        ["eos_token", "eos_token.content", *(f"eos_token.{name}" for name in ("lstrip", "normalized", "rstrip"))],
    ),
    "a file that contradicts the settings": (
        {"tokenizer_config.json": {"eos_token": "</s>"}},
        {"tokenizer_config.json": {"eos_token": "</s>"}, "special_tokens_map.json": {"eos_token": "<eot>"}},
        ["eos_token"],
    ),
    "suppressed tokens": (
        {"generation_config.json": {"eos_token_id": 2}},
        {"generation_config.json": {"eos_token_id": 2, "suppress_tokens": [7, 8]}},
        ["suppress_tokens"],
    ),
    "suppressed tokens in the config": (
        {"config.json": saved("llama")},
        {"config.json": saved("llama") | {"suppress_tokens": [7]}},
        ["suppress_tokens"],
    ),
    "an added token of another number": (
        {"tokenizer.json": TOKENIZER},
        {"tokenizer.json": TOKENIZER | {"added_tokens": [{**TOKENIZER["added_tokens"][0], "id": 3}]}},  # type: ignore[index]
        ["added_tokens.0.id"],
    ),
}


@pytest.mark.parametrize("case", OTHER)
def test_what_means_something_else_is_a_change(compared: Callable[[Files, Files], Settings], case: str) -> None:
    base, unlearned, keys = OTHER[case]
    found = {row.key for row in compared(base, unlearned).changes}
    assert found & set(keys)
    assert not compared(base, unlearned).uncompared


def test_generation_defaults_are_those_of_generate() -> None:
    """The oracle: what `generate` falls back on where neither file says anything."""
    assert GenerationConfig().to_dict()["suppress_tokens"] is None
    for name, value in measure()["generation"].items():
        assert GenerationConfig._get_default_generation_params()[name] == value
