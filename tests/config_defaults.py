"""What transformers puts where a config says nothing: `python -m tests.config_defaults` prints the table of it.

The table lies in `ckdiff/weights/meaning/defaults.json`, and a test holds it against the installed transformers.
"""

from __future__ import annotations

import json
from typing import Any

from tests.tiny_families import CONFIGS

SIZES: dict[str, int] = {
    "hidden_size": 128,
    "num_attention_heads": 4,
    "num_hidden_layers": 6,
    "intermediate_size": 200,
    "max_position_embeddings": 96,
}
"""Given to a second config of each kind: what changes with them is no default but a consequence."""
LEFT_OUT = frozenset({"model_type", "transformers_version", "_name_or_path", "architectures", "task_specific_params"})
EVERY = frozenset({"id2label", "label2id", "return_dict", "output_attentions", "output_hidden_states"})


def measure() -> dict[str, Any]:
    """By model type: other names of keys, constant defaults, the rotary settings, and the pattern of layers."""
    from transformers import AutoConfig, GenerationConfig, PreTrainedConfig

    found: dict[str, Any] = {}
    common = PreTrainedConfig().to_dict()
    for model_type in CONFIGS:
        config, other = AutoConfig.for_model(model_type), AutoConfig.for_model(model_type, **_sizes(model_type))
        own, resized = config.to_dict(), other.to_dict()
        layers = {key: _period(value) for key, value in own.items() if _by_layer(value, config.num_hidden_layers)}
        defaults = {
            key: value
            for key, value in own.items()
            if key not in LEFT_OUT | layers.keys() | {"rope_parameters"} | EVERY
            and resized.get(key) == value
            and not (key == "num_key_value_heads" and "multi_query" in own)
            and (key not in common or common[key] != value)
        }
        found[model_type] = {
            "names": dict(config.attribute_map),
            "defaults": defaults,
            "layers": layers,
            "rope": own.get("rope_parameters") if _has_rope(own) else None,
        }
    every = {key: value for key, value in common.items() if key not in LEFT_OUT}
    return {
        "every": every,
        "generation": GenerationConfig._get_default_generation_params(),
        "models": found,
    }


def _sizes(model_type: str) -> dict[str, int]:
    # GPT-Neo's layers are as many as its attention_types say.
    return {key: value for key, value in SIZES.items() if model_type != "gpt_neo" or key != "num_hidden_layers"}


def _has_rope(own: dict[str, Any]) -> bool:
    return bool(own.get("rope_parameters"))


def _by_layer(value: Any, layers: int) -> bool:
    return isinstance(value, list) and len(value) == layers and layers > 2


def _period(values: list[Any]) -> list[Any]:
    """The shortest beginning that, repeated, is the list."""
    for size in range(1, len(values)):
        if all(value == values[place % size] for place, value in enumerate(values)):
            return values[:size]
    return values


def written(table: dict[str, Any]) -> str:
    """The table as it is kept: one model type a line."""
    models = ",\n".join(
        f"  {json.dumps(name)}: {json.dumps(row, sort_keys=True)}" for name, row in sorted(table["models"].items())
    )
    head = "".join(f"{json.dumps(key)}: {json.dumps(table[key], sort_keys=True)},\n" for key in ("every", "generation"))
    return f'{{\n{head}"models": {{\n{models}\n}}\n}}\n'


if __name__ == "__main__":
    print(written(measure()), end="")
