"""LoRA's arithmetic: a base's tensors with B A added, and what an adapter makes of tied embeddings."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ckdiff.errors import CheckpointError
from ckdiff.untrusted import is_quick, quoted
from ckdiff.weights.architectures import architecture
from ckdiff.weights.checkpoint import Checkpoint, Derived

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ckdiff.shapes import AnyArray, Float32
    from ckdiff.weights.headers import Entry, Shard

EMBEDDING_NAMES = frozenset(["embed_tokens", "lm_head", "wte", "wpe", "embed_in", "embed_out", "word_embeddings"])
"""Modules that PEFT saves whole, unasked, when the embeddings are targeted or were resized."""

HEAD = "lm_head.weight"
TIED_NAMES = tuple([name, "weight"] for name in ("embed_tokens", "wte", "word_embeddings", "embed_in"))

_BLOCK_ROWS = 1024
MERGE = "merge it with peft's merge_and_unload and compare the result"


@dataclass(frozen=True, slots=True)
class Factors:
    """One change of one tensor: tensor += scale * left @ right, or scale * left where there is no right.

    The names are those of tensors in the adapter; `transposed` says that both are transposed and swapped.
    """

    a: str | None
    b: str
    scale: float
    transposed: bool


def untie(base: Checkpoint, shard: Shard) -> tuple[Checkpoint, str | None]:
    """A base whose output matrix has a name of its own, and the embedding that it was tied to.

    The base itself and None where nothing is tied, or where the adapter leaves both alone.
    """
    row = architecture(str(base.config.get("model_type")))
    default = row is not None and row.tied
    shapes = base.shapes()
    found = [name for name in shapes if name.split(".")[-2:] in TIED_NAMES]
    touched = any(set(name.split(".")) & EMBEDDING_NAMES - {"wpe"} for name in shard.entries)
    if not (base.config.get("tie_word_embeddings", default) and len(found) == 1 and touched) or HEAD in shapes:
        return base, None
    config = {**base.config, "tie_word_embeddings": False}
    if found[0] in base.derived:
        return replace(base, derived={**base.derived, HEAD: base.derived[found[0]]}, config=config), found[0]
    return replace(base, stored={**base.stored, HEAD: base.stored[found[0]]}, config=config), found[0]


def alone(shard: Shard) -> Checkpoint:
    """A file by itself, as a checkpoint of its stored tensors."""
    stored: dict[str, tuple[Shard, Entry]] = {name: (shard, entry) for name, entry in shard.entries.items()}
    return Checkpoint(str(shard.path), None, None, (shard,), stored, {})


def derive(source: Checkpoint, shard: Shard, name: str, factors: Factors) -> Derived:
    """A tensor of the base with a change of an adapter merged, computed a few rows at a time."""
    shape = source.shapes()[name]
    names = (name, *(tensor for tensor in (factors.a, factors.b) if tensor is not None))
    return Derived(shape, names, lambda start, stop: _merge_rows(source, shard, name, factors, start, stop))


def _merge_rows(source: Checkpoint, shard: Shard, name: str, factors: Factors, start: int, stop: int) -> AnyArray:
    """Rows of W + scale * left @ right, in float64 and rounded once to float32, so many rows at a time."""
    import numpy as np

    from ckdiff.weights.storage import Mapped, decode64

    adapter = alone(shard)
    with Mapped(source) as base_files, Mapped(adapter) as files:
        weight, dtype = base_files.array(name), source.dtype(name)
        b = decode64(files.raw(factors.b), adapter.dtype(factors.b))
        result: Float32 = np.empty((stop - start, *weight.shape[1:]), np.float32)
        if factors.a is None:
            result[...] = decode64(weight[start:stop], dtype) + factors.scale * b[start:stop]
            return result
        a = decode64(files.raw(factors.a), adapter.dtype(factors.a))
        left, right = (a.T, b.T) if factors.transposed else (b, a)
        for first in range(start, stop, _BLOCK_ROWS):
            rows = slice(first, min(first + _BLOCK_ROWS, stop))
            product = factors.scale * (left[rows] @ right)
            result[rows.start - start : rows.stop - start] = decode64(weight[rows], dtype) + product
    return result


def pattern_value(path: Path, patterns: Mapping[str, Any] | None, module: str, default: Any) -> Any:
    """The value of the first pattern that matches a module's name, as PEFT's get_pattern_key finds it."""
    for pattern, value in (patterns or {}).items():
        if not is_quick(pattern, module):
            raise CheckpointError(f"{path}: {quoted(pattern)} may match without end; name the modules, or {MERGE}")
        try:
            if re.match(rf"(.*\.)?({pattern})$", module):
                return value
        except (re.error, RecursionError, OverflowError) as error:
            raise CheckpointError(
                f"{path}: {quoted(pattern)} is not a regular expression ({error}); {MERGE}"
            ) from error
    return (patterns or {}).get(module, default)
