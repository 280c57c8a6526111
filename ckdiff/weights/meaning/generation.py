"""generation_config.json as `generate` reads it: `generation_settings(file, config)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckdiff.weights.meaning.defaults import generation_defaults
from ckdiff.weights.meaning.model import IGNORED, one_or_many, without_defaults

if TYPE_CHECKING:
    from collections.abc import Mapping

TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
NEUTRAL = {"output_attentions": False, "output_hidden_states": False, "output_logits": False}


def generation_settings(given: Mapping[str, Any] | None, config: Mapping[str, Any]) -> dict[str, Any]:
    """How answers are generated, without what only repeats the default.

    Args:
        given: generation_config.json; None where there is no such file: then config.json stands in for it.
        config: config.json.
    """
    if given is None:
        inner = config.get("text_config")
        outer = {**inner, **config} if isinstance(inner, dict) else config
        given = {key: value for key, value in outer.items() if key in TOKENS or key in generation_defaults()}
    found = {key: value for key, value in given.items() if key not in IGNORED}
    found |= {key: one_or_many(found[key]) for key in TOKENS if key in found}
    return without_defaults(found, {**generation_defaults(), **NEUTRAL})
