"""ckdiff as functions: a frozen spec in, a frozen report out. Each command is one of these plus presentation."""

from __future__ import annotations

import importlib.metadata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ckdiff import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckdiff.report.schema import CheckpointRecord, Report, ShardRecord
    from ckdiff.weights.hashing import ShardHasher
    from ckdiff.weights.reader import Checkpoint


@dataclass(frozen=True, slots=True)
class CompareSpec:
    """What to compare, and how.

    Attributes:
        base: a directory, a .safetensors file, an index file, an adapter directory, or a hub id with @revision.
        unlearned: the same.
        hash: compute the sha256 of every weight file.
        adapter_base: the base model of adapters, where their own config does not name one that can be found.
    """

    base: str
    unlearned: str
    hash: bool = True
    adapter_base: str | None = None


def compare(
    spec: CompareSpec,
    progress: Callable[[int, int], None] | None = None,
    accept: Callable[[str, str], None] | None = None,
) -> Report:
    """Parameter drift between two checkpoints: per tensor, component, layer and neuron.

    Args:
        spec: what to compare.
        progress: called with (elements done, elements in all).
        accept: called with both locations once the headers are read; it raises where the work should not begin.

    Raises:
        CheckpointError: a checkpoint cannot be read; nothing has been written.
    """
    from ckdiff.weights.opening import open_checkpoint

    base = open_checkpoint(spec.base, spec.adapter_base)
    unlearned = open_checkpoint(spec.unlearned, spec.adapter_base)
    if accept is not None:
        accept(base.location, unlearned.location)
    hasher: ShardHasher | None = None
    if spec.hash:
        from ckdiff.weights.hashing import ShardHasher

        # Started before NumPy is imported: on two cores hashing is what takes longest.
        hasher = ShardHasher((*base.shards, *unlearned.shards))
    try:
        from ckdiff.report.schema import Provenance, Report
        from ckdiff.weights.pairs import compare_checkpoints

        comparison = compare_checkpoints(base, unlearned, progress)
        provenance = Provenance(_record(base, hasher), _record(unlearned, hasher))
    finally:
        if hasher is not None:
            hasher.close()
    return Report(provenance, compare=comparison, versions=_versions())


@dataclass(frozen=True, slots=True)
class Contents:
    """What a checkpoint holds, from its headers alone.

    Attributes:
        rows: component, tensors, parameters, dtypes; components in the order of the tables.
    """

    location: str
    model_type: str
    rows: tuple[tuple[str, int, int, str], ...]
    shards: tuple[ShardRecord, ...]
    notes: tuple[str, ...]


def inspect(checkpoint: str, adapter_base: str | None = None) -> Contents:
    """What a checkpoint holds, by component; no tensor's data is read.

    Raises:
        CheckpointError: it cannot be read.
    """
    import math

    from ckdiff.report.schema import COMPONENTS, ShardRecord
    from ckdiff.weights.components import layout
    from ckdiff.weights.opening import open_checkpoint

    opened = open_checkpoint(checkpoint, adapter_base)
    found = layout(opened.shapes(), opened.config)
    rows = []
    for component in COMPONENTS:
        pieces = [piece for piece in found.pieces if piece.component == component]
        if pieces:
            dtypes = sorted({opened.dtype(piece.tensor) for piece in pieces})
            size = sum(math.prod(piece.shape) for piece in pieces)
            rows.append((component, len(pieces), size, ", ".join(dtypes)))
    shards = tuple(ShardRecord(shard.name, shard.size, None) for shard in opened.shards)
    notes = (*opened.notes, *found.notes, *(f"ignored, no parameters: {name}" for name in found.ignored))
    return Contents(opened.location, found.model_type, tuple(rows), shards, notes)


def _record(checkpoint: Checkpoint, hasher: ShardHasher | None) -> CheckpointRecord:
    import hashlib

    from ckdiff.report.schema import CheckpointRecord, ShardRecord

    shards = tuple(
        ShardRecord(shard.name, shard.size, hasher.digest(shard) if hasher else None) for shard in checkpoint.shards
    )
    lines = sorted(f"{shard.name} {shard.sha256}\n" for shard in shards)
    digest = hashlib.sha256("".join(lines).encode()).hexdigest() if hasher else None
    return CheckpointRecord(checkpoint.location, checkpoint.revision, digest, shards)


def _versions() -> dict[str, str]:
    return {"ckdiff": __version__, "numpy": importlib.metadata.version("numpy")}
