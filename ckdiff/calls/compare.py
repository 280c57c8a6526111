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
    meanwhile: Callable[[], None] | None = None,
) -> Report:
    """A report of the drift between two checkpoints: per tensor, component, layer and neuron.

    Args:
        spec: what to compare.
        progress: called with (elements done, elements in all).
        accept: called with both locations once the headers are read; it raises where the work should not begin.
        threads: in all; those that hash files beside the arithmetic are among them; 0: one a core.
        meanwhile: called when all is compared, while the last files are hashed.

    Raises:
        CheckpointError: a checkpoint cannot be read; nothing has been written.
    """
    from ckdiff.weights.opening import open_checkpoint

    base = open_checkpoint(spec.base, spec.adapter_base)
    unlearned = open_checkpoint(spec.unlearned, spec.adapter_base)
    return compare_open(base, unlearned, spec.hash, progress, threads=threads, accept=accept, meanwhile=meanwhile)


def compare_open(
    base: Checkpoint,
    unlearned: Checkpoint,
    hashes: bool,
    progress: Callable[[int, int], None] | None = None,
    cache: Cache | None = None,
    threads: int = 0,
    accept: Callable[[str, str], None] | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> Report:
    """A report of the drift between two open checkpoints; a cache may know their digests.

    Hashing begins before anything heavy is imported, and before an older report is looked at: on two cores it is what
    takes longest.
    """
    with hash_files(base, unlearned, hashes, cache, threads, beside=True) as hasher:
        if accept is not None:
            accept(base.location, unlearned.location)
        from ckdiff.report.schema.report import Provenance, Report
        from ckdiff.weights.pairs import compare_checkpoints

        comparison = compare_checkpoints(base, unlearned, progress, threads if hasher is None else hasher.left)
        if hasher is not None:
            hasher.hurry()
        if meanwhile is not None:
            meanwhile()
        provenance = Provenance(record_of(base, hasher), record_of(unlearned, hasher))
    return Report(provenance, compare=comparison, versions=versions())
