"""config.json as transformers 5 reads it: `model_settings(config)`.

Keys have one name, rotary settings one place, and what says no more than the default is left out. Where it is not known
what transformers would make of something, it is kept as it stands: it may look like a change, never like none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckdiff.weights.meaning.defaults import Kind, kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping

IGNORED = frozenset(
    {"_name_or_path", "transformers_version", "_commit_hash", "_attn_implementation_autoset", "_from_model_config"}
)
"""Where and with what a checkpoint was written; nothing that it computes depends on them."""

ROPE_KEYS = frozenset(
    {"rope_parameters", "rope_scaling", "rope_theta", "partial_rotary_factor"}
    | {"rotary_emb_base", "rotary_pct", "rope_local_base_freq"}
)
"""Keys that end in `rope_parameters`."""

PATTERN_KEYS = ("sliding_window_pattern", "_sliding_window_pattern")
RENAMED = {"torch_dtype": "dtype"}
MOST_LAYERS = 10_000
STRETCHED = ("llama3", "yarn", "longrope")
"""Rotary types that know the length that the model was trained on."""


def model_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config in its one form; nested configs too. Two configs of one form make the same model."""
    kind = kind_of(str(config.get("model_type") or ""))
    found = {key: value for key, value in config.items() if key not in IGNORED}
    found = _rename_keys(found, RENAMED if kind is None else {**kind.names, **RENAMED})
    found = {key: model_settings(value) if _is_config(value) else value for key, value in found.items()}
    if kind is not None:
        found = _fill_in(found, kind)
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        if key in found:
            found[key] = one_or_many(found[key])
    if isinstance(found.get("dtype"), str):
        found["dtype"] = found["dtype"].removeprefix("torch.")
    return without_defaults(found, {} if kind is None else kind.defaults)


def one_or_many(value: Any) -> Any:
    """A list of one token is that token."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def place_of(key: str, config: Mapping[str, Any]) -> str:
    """The dotted key that a dotted key of config.json becomes in `model_settings`."""
    head, dot, rest = key.partition(".")
    value = config.get(head)
    if dot and isinstance(value, dict) and _is_config(value):
        return f"{head}.{place_of(rest, value)}"
    kind = kind_of(str(config.get("model_type") or ""))
    if head in ROPE_KEYS and (kind is None or kind.rope is not None):
        return "rope_parameters"
    if head in PATTERN_KEYS and kind is not None and kind.layers:
        return "layer_types"
    names = RENAMED if kind is None else {**kind.names, **RENAMED}
    return names.get(head, head) + dot + rest


def without_defaults(value: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that say more than their defaults; objects inside are looked at key by key."""
    found: dict[str, Any] = {}
    for key, item in value.items():
        default = defaults.get(key)
        if isinstance(item, dict) and isinstance(default, dict):
            item = without_defaults(item, default)
            if item:
                found[key] = item
        elif item != default or isinstance(item, bool) != isinstance(default, bool):
            found[key] = item
    return found


def _is_config(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("model_type"), str) and bool(value["model_type"])


def _rename_keys(found: dict[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Keys under their one name; a key that is there under both keeps both, unless they agree or one is null."""
    result = {key: value for key, value in found.items() if key not in names}
    for key, value in found.items():
        if key in names:
            there = result.get(names[key])
            if there is None:
                result[names[key]] = value
            elif value is not None and value != there:
                result[key] = value
    return result


def _fill_in(found: dict[str, Any], kind: Kind) -> dict[str, Any]:
    """Settings that transformers computes from others: heads, rotary settings, the kinds of layers."""
    heads, width = found.get("num_attention_heads", found.get("n_head")), found.get("hidden_size")
    shared = 1 if found.get("multi_query", kind.defaults.get("multi_query")) else heads
    computed = {"num_key_value_heads": shared, "num_kv_heads": heads}
    if type(width) is int and type(heads) is int and heads > 0:
        computed["head_dim"] = width // heads
    result = dict(found)
    for key, value in computed.items():
        if key in result:
            result[key] = value if result[key] is None else result[key]
            if result[key] == value and kind.defaults.get(key) is None:
                del result[key]
    if "use_sliding_window" in kind.defaults and not result.get("use_sliding_window"):
        result = {key: value for key, value in result.items() if key not in ("sliding_window", "max_window_layers")}
    if kind.layers:
        result = _without_layer_patterns(result, kind)
    return result if kind.rope is None else _with_rope(result, kind.rope)


def _without_layer_patterns(found: dict[str, Any], kind: Kind) -> dict[str, Any]:
    """Lists of one value a layer are left out where they only repeat the pattern that is the default."""
    result, count = dict(found), found.get("num_hidden_layers", found.get("num_layers"))
    period = next((found[key] for key in PATTERN_KEYS if found.get(key) is not None), None)
    if type(count) is not int or not 0 < count < MOST_LAYERS or result.get("use_sliding_window"):
        return result
    if type(period) is int and period > 0 and "layer_types" in kind.layers:
        if result.get("layer_types") is None:
            whole = range(1, count + 1)
            result["layer_types"] = ["sliding_attention" if n % period else "full_attention" for n in whole]
        result = {key: value for key, value in result.items() if key not in PATTERN_KEYS}
    for key, repeated in kind.layers.items():
        if result.get(key) == [repeated[layer % len(repeated)] for layer in range(count)]:
            del result[key]
    return result


# --------------------------------------------------------------------------------------------------------- rotary


def _with_rope(found: dict[str, Any], default: Mapping[str, Any]) -> dict[str, Any]:
    """Rotary settings in one place, `rope_parameters`, whatever keys they came in; the default is left out."""
    result = {key: value for key, value in found.items() if key not in ROPE_KEYS}
    given = found.get("rope_scaling") or found.get("rope_parameters")
    usual = {**default, **{key: found[key] for key in default.keys() & {"max_position_embeddings"} if key in found}}
    if any(isinstance(value, dict) for value in default.values()):
        rope = _by_layer_type(found, default)
    elif not isinstance(given, dict) and default.get("rope_type") != "default":
        rope = usual
    else:
        rope = _plain_rope(found, given if isinstance(given, dict) else {}, default)
    rope = _rename_type(rope)
    if rope != _rename_type(usual):
        result["rope_parameters"] = rope
    return result


def _plain_rope(found: Mapping[str, Any], given: Mapping[str, Any], default: Mapping[str, Any]) -> dict[str, Any]:
    rope = dict(given)
    if any(isinstance(value, dict) for value in rope.values()):
        return rope
    theta = _first(found, "rope_theta", "rotary_emb_base", default=default.get("rope_theta"))
    part = _first(found, "partial_rotary_factor", "rotary_pct", default=default.get("partial_rotary_factor"))
    rope.setdefault("rope_theta", theta)
    if part is not None:
        rope.setdefault("partial_rotary_factor", part)
    if _rename_type(rope)["rope_type"] in STRETCHED:
        trained = found.get("original_max_position_embeddings")
        if trained is not None:
            rope["original_max_position_embeddings"] = trained
        rope.setdefault("original_max_position_embeddings", found.get("max_position_embeddings"))
    return rope


def _by_layer_type(found: Mapping[str, Any], default: Mapping[str, Any]) -> dict[str, Any]:
    """One group of settings for each type of layer (Gemma 3, OLMo 3)."""
    given = found.get("rope_parameters")
    groups = given.items() if isinstance(given, dict) else ()
    rope: dict[str, Any] = {key: dict(value) for key, value in groups if isinstance(value, dict)}
    rope |= {key: {"rope_type": "default"} for key in default if not rope.get(key)}
    scaling = found.get("rope_scaling")
    if isinstance(scaling, dict):
        rope["full_attention"].update(scaling)
    own = {key: value.get("rope_theta") for key, value in default.items()}
    rope["full_attention"].setdefault("rope_theta", _first(found, "rope_theta", default=own["full_attention"]))
    local = _first(found, "rope_local_base_freq", default=own["sliding_attention"])
    rope["sliding_attention"].setdefault("rope_theta", local)
    return rope


def _rename_type(rope: Mapping[str, Any]) -> dict[str, Any]:
    """`type` is `rope_type`, and "su" the old name of one."""
    if any(isinstance(value, dict) for value in rope.values()):
        return {key: _rename_type(value) if isinstance(value, dict) else value for key, value in rope.items()}
    kind = rope.get("rope_type", rope.get("type", "default"))
    found = {key: value for key, value in rope.items() if key != "type" and value is not None}
    return found | {"rope_type": "longrope" if kind == "su" else kind}


def _first(found: Mapping[str, Any], *keys: str, default: Any) -> Any:
    return next((found[key] for key in keys if found.get(key) is not None), default)
