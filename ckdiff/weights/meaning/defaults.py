"""Settings that transformers puts where a config says nothing, measured from transformers itself (`defaults.json`)."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Kind:
    """The config of one model type.

    Attributes:
        names: other names of keys -> the name under which transformers keeps them.
        defaults: what a key is where it is not there.
        layers: keys that hold one value a layer -> the pattern that is repeated where they are not there.
        rope: the rotary settings where none are there, or None where the model has none.
    """

    names: Mapping[str, str]
    defaults: Mapping[str, Any]
    layers: Mapping[str, list[Any]]
    rope: Mapping[str, Any] | None


@functools.cache
def _table() -> Any:
    return json.loads(Path(__file__).with_name("defaults.json").read_bytes())


@functools.cache
def kind_of(model_type: str) -> Kind | None:
    """The defaults of a model type's config, or None."""
    table = _table()
    found = table["models"].get(model_type)
    return None if found is None else Kind(**{**found, "defaults": {**table["every"], **found["defaults"]}})


def generation_defaults() -> Mapping[str, Any]:
    """The settings of `generate` where generation_config.json says nothing."""
    defaults: dict[str, Any] = _table()["generation"]
    return defaults
