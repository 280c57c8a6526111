"""`inspect`: the contents of one checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ckdiff.report.schema.report import ShardRecord


@dataclass(frozen=True, slots=True)
class Contents:
    """The contents of a checkpoint, from its headers alone.

    Attributes:
        rows: component, tensors, parameters, dtypes; components in the order of the tables.
    """

    location: str
    model_type: str
    rows: tuple[tuple[str, int, int, str], ...]
    shards: tuple[ShardRecord, ...]
    notes: tuple[str, ...]


def inspect(location: str, adapter_base: str | None = None) -> Contents:
    """The contents of a checkpoint, by component; no tensor's data is read.

    Raises:
        CheckpointError: it cannot be read.
    """
    import math

    from ckdiff.report.schema.comparison import COMPONENTS
    from ckdiff.report.schema.report import ShardRecord
    from ckdiff.weights.components import layout
    from ckdiff.weights.opening import open_checkpoint

    checkpoint = open_checkpoint(location, adapter_base)
    found = layout(checkpoint.shapes(), checkpoint.config)
    rows = []
    for component in COMPONENTS:
        pieces = [piece for piece in found.pieces if piece.component == component]
        if pieces:
            dtypes = sorted({checkpoint.kind(piece.tensor) for piece in pieces})
            size = sum(math.prod(piece.shape) for piece in pieces)
            rows.append((component, len(pieces), size, ", ".join(dtypes)))
    shards = tuple(ShardRecord(shard.name, shard.size, None) for shard in checkpoint.shards)
    notes = (*checkpoint.notes, *found.notes, *(f"ignored, no parameters: {name}" for name in found.ignored))
    return Contents(checkpoint.location, found.model_type, tuple(rows), shards, notes)
