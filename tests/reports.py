"""Sample reports, and equality that knows arrays and NaN."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ckdiff.report.schema import (
    CheckpointRecord,
    Comparison,
    ComponentDrift,
    ConfigChange,
    Drift,
    Grid,
    NeuronGrid,
    Provenance,
    Report,
    ShapeMismatch,
    ShardRecord,
    TensorDrift,
    TensorInfo,
)

LAYERED = {"value_vectors": "mlp.down_proj", "keys": "mlp.up_proj", "attn_q": "self_attn.q_proj", "norms": "norm"}
SAME = Drift(1.0, 0.0, 0.0, 0.0, 2.0, 2.0, 0, 0.0, 0, 0, True)
UNDEFINED = Drift(math.nan, math.nan, math.nan, math.nan, math.nan, 2.0, 5, 0.5, 3, 0, False)


def moved(one_minus_cosine: float, changed: int = 900, parameters: int = 1000) -> Drift:
    length = math.sqrt(2 * one_minus_cosine)
    fraction = changed / parameters
    return Drift(1 - one_minus_cosine, one_minus_cosine, length, length / 10, 2.0, 2.1, changed, fraction, 0, 0, False)


def tensor(name: str, component: str, layer: int | None, drift: Drift, tied: bool = False) -> TensorDrift:
    return TensorDrift(
        name, component, layer, (20, 50), "BF16", "F32" if name == "lm_head.weight" else "BF16", 1000, tied, drift
    )


def checkpoint(name: str) -> CheckpointRecord:
    shards = (ShardRecord("a-00001.safetensors", 4_000_000_000, "ab" * 32), ShardRecord("b-ü.safetensors", 7, None))
    return CheckpointRecord(f"/models/{name}", None if name == "base" else "main", "cd" * 32, shards)


def component(name: str, tensors: list[TensorDrift]) -> ComponentDrift:
    largest = max(tensors, key=lambda row: row.drift.one_minus_cosine)
    least = min(row.drift.cosine for row in tensors)
    parameters = 1000 * len(tensors)
    return ComponentDrift(name, len(tensors), parameters, largest.drift.cosine, least, tensors[0].tied, largest.drift)


def comparison(layers: int = 6, **changes: Any) -> Comparison:
    """A comparison of a small model whose last layers' value vectors moved most."""
    tensors = [tensor("model.embed_tokens.weight", "embedding", None, SAME)]
    for layer in range(layers):
        for name, path in LAYERED.items():
            still = name == "norms" or layer < 2
            drift = SAME if still else moved(1e-9 * 10 ** min(layer, 7) * (3 if name == "value_vectors" else 1))
            tensors.append(tensor(f"model.layers.{layer}.{path}.weight", name, layer, drift))
    tensors.append(tensor("lm_head.weight", "unembedding", None, SAME, tied=True))
    names = ("embedding", "unembedding", *LAYERED)
    groups = {name: [row for row in tensors if row.component == name] for name in names}
    found = Comparison(
        model_type="llama",
        known_architecture=True,
        tensors=tuple(tensors),
        components=tuple(component(name, rows) for name, rows in groups.items() if rows),
        grid=grid(tensors, layers),
        neurons={name: neurons(layers) for name in ("value_vectors", "keys")},
        only_in_base=(TensorInfo("model.extra.weight", "other", (3,), "F32"),),
        only_in_unlearned=tuple(TensorInfo(f"lora.{n}", "other", (n,), "BF16") for n in range(5)),
        shape_mismatch=(ShapeMismatch("model.resized.weight", "embedding", (32000, 8), (32001, 8)),),
        config_changes=(
            ConfigChange("config.json", "vocab_size", "32000", "32001"),
            ConfigChange("config.json", "rope.θ", None, '"' + "long " * 60 + '"'),
        ),
        ignored=("model.layers.0.rotary.inv_freq",),
        notes=("model types differ: llama and mistral",),
    )
    return dataclasses.replace(found, **changes)


def grid(tensors: list[TensorDrift], layers: int) -> Grid:
    cells = {(row.component, row.layer): row.drift for row in tensors}
    names = tuple(LAYERED)

    def values(field: str) -> Any:
        return np.array([[getattr(cells[name, layer], field) for layer in range(layers)] for name in names], dtype="f8")

    fields = ("cosine", "one_minus_cosine", "relative_l2", "changed_fraction")
    return Grid(names, np.arange(layers, dtype="i8"), *(values(field).reshape(len(names), layers) for field in fields))


def neurons(layers: int, width: int = 40) -> NeuronGrid:
    values = np.random.default_rng(0).uniform(0, 1e-6, (layers, width)).astype("f4")
    values[-1:, 7] = 0.125
    values[-1:, 9] = np.nan
    return NeuronGrid(np.arange(layers, dtype="i8"), values, np.sqrt(2 * values))


def empty_comparison() -> Comparison:
    nothing = np.zeros((0, 0))
    return Comparison(
        "", False, (), (), Grid((), np.zeros(0, "i8"), nothing, nothing, nothing, nothing), {}, (), (), (), (), (), ()
    )


def identical_comparison() -> Comparison:
    tensors = tuple(tensor(f"model.layers.{n}.mlp.up_proj.weight", "keys", n, SAME) for n in range(3))
    return dataclasses.replace(
        empty_comparison(), model_type="llama", tensors=tensors, components=(component("keys", list(tensors)),)
    )


def report(found: Comparison | None) -> Report:
    return Report(Provenance(checkpoint("base"), checkpoint("unlearned")), found, versions={"ckdiff": "0.1", "a": "é"})


HOSTILE = (
    "\x1b[31mevil\x1b[0m",
    "two\nlines\r\ttabs",
    "[bold]markup[/bold]",
    "\u202egnp.exe",
    "=1+1|<b>&`*_",
    "\x00\ud800",
)


def hostile_report() -> Report:
    tensors = tuple(tensor(name, "other", None, moved(1e-4)) for name in HOSTILE)
    found = dataclasses.replace(
        empty_comparison(),
        model_type=HOSTILE[0],
        tensors=tensors,
        components=(component("other", list(tensors)),),
        only_in_base=tuple(TensorInfo(name, "other", (), name) for name in HOSTILE),
        shape_mismatch=tuple(ShapeMismatch(name, "other", (), (1,)) for name in HOSTILE),
        config_changes=tuple(ConfigChange(name, name, name, name) for name in HOSTILE),
        ignored=HOSTILE,
        notes=HOSTILE,
    )
    sides = (CheckpointRecord(HOSTILE[0], HOSTILE[1], HOSTILE[2], (ShardRecord(HOSTILE[3], 1, None),)),) * 2
    return Report(Provenance(*sides), found)


def same(a: Any, b: Any) -> bool:
    """Equal all the way down, arrays by dtype, shape and value, NaN equal to NaN."""
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=True)
    if dataclasses.is_dataclass(a):
        return type(a) is type(b) and all(
            same(getattr(a, field.name), getattr(b, field.name)) for field in dataclasses.fields(a)
        )
    if isinstance(a, Mapping):
        return sorted(a) == sorted(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, tuple):
        return isinstance(b, tuple) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    return type(a) is type(b) and bool(a == b)
