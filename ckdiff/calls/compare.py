"""`compare`: parameter drift between two checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.calls.paths import take_paths
from ckdiff.calls.provenance import hash_files, record_of, versions
from ckdiff.calls.specs import CompareSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckdiff.cache import Cache
    from ckdiff.report.schema.report import Report
    from ckdiff.weights.checkpoint import Checkpoint


@take_paths(CompareSpec)
def compare(
    spec: CompareSpec,
    progress: Callable[[int, int], None] | None = None,
    accept: Callable[[str, str], None] | None = None,
    threads: int = 0,
) -> Report:
    """A report of the drift between two checkpoints: per tensor, component, layer and neuron.

    Args:
        spec: what to compare.
        progress: called with (elements done, elements in all).
        accept: called with both locations once the headers are read; it raises where the work should not begin.
        threads: that do the arithmetic, and as many that hash files beside it; 0: one a core each.

    Raises:
        CheckpointError: a checkpoint cannot be read; nothing has been written.
    """
    from ckdiff.weights.opening import open_checkpoint

    base = open_checkpoint(spec.base, spec.adapter_base)
    unlearned = open_checkpoint(spec.unlearned, spec.adapter_base)
    if accept is not None:
        accept(base.location, unlearned.location)
    return compare_open(base, unlearned, spec.hash, progress, threads=threads)


def compare_open(
    base: Checkpoint,
    unlearned: Checkpoint,
    hashes: bool,
    progress: Callable[[int, int], None] | None = None,
    cache: Cache | None = None,
    threads: int = 0,
) -> Report:
    """A report of the drift between two open checkpoints; a cache may know their digests."""
    # Begun before NumPy is imported: on two cores hashing is what takes longest.
    with hash_files(base, unlearned, hashes, cache, threads) as hasher:
        from ckdiff.report.schema.report import Provenance, Report
        from ckdiff.weights.pairs import compare_checkpoints

        comparison = compare_checkpoints(base, unlearned, progress, threads)
        provenance = Provenance(record_of(base, hasher), record_of(unlearned, hasher))
    return Report(provenance, compare=comparison, versions=versions())
