"""Where a report comes from: both checkpoints, their digests, the versions of the libraries."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ckdiff.calls.merge import check_same_weights
from ckdiff.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckdiff.cache import Cache
    from ckdiff.calls.specs import Pair
    from ckdiff.progress import Listener
    from ckdiff.report.schema.report import CheckpointRecord, Provenance, Report
    from ckdiff.weights.checkpoint import Checkpoint
    from ckdiff.weights.hashing import ShardHasher


def open_pair(spec: Pair) -> tuple[Checkpoint, Checkpoint]:
    """Both checkpoints of a spec, their headers read."""
    from ckdiff.weights.opening import open_checkpoint

    return open_checkpoint(spec.base, spec.adapter_base), open_checkpoint(spec.unlearned, spec.adapter_base)


def begin_report(
    base: Checkpoint,
    unlearned: Checkpoint,
    hashes: bool,
    listener: Listener | None,
    existing: Report | None,
    *libraries: str,
) -> Report:
    """A report of a pair that holds nothing yet; refused where it could not be put into an older one."""
    from ckdiff.report.schema.report import Report

    cache = None if listener is None else listener.cache
    if listener is not None and hashes:
        listener.progress("hashing", 0, 1, "sha256 of the weight files")
    found = Report(provenance_of(base, unlearned, hashes, cache), versions=versions(*libraries))
    if listener is not None:
        listener.progress("hashing", 1, 1, "")
    if existing is not None:
        # Refused before the work, not after it.
        check_same_weights(existing, found)
    return found


def check_existing(spec: Pair, existing: Report | None) -> None:
    """Refuse, before any work, what could not be put into an older report; weights are not hashed for it.

    Raises:
        ReportError: it is about another pair.
    """
    if existing is not None:
        begin_report(*open_pair(spec), False, None, existing)


def provenance_of(base: Checkpoint, unlearned: Checkpoint, hashes: bool, cache: Cache | None) -> Provenance:
    """Both checkpoints as they stand on disk."""
    from ckdiff.report.schema.report import Provenance

    with hash_files(base, unlearned, hashes, cache) as hasher:
        return Provenance(record_of(base, hasher), record_of(unlearned, hasher))


@contextlib.contextmanager
def hash_files(
    base: Checkpoint, unlearned: Checkpoint, hashes: bool, cache: Cache | None, threads: int = 0, beside: bool = False
) -> Iterator[ShardHasher | None]:
    """Hash all weight files inside, or none; a cache may know some, and one that a command keeps learns the others.

    Args:
        base: the model before.
        unlearned: the model after.
        hashes: or none.
        cache: of digests.
        threads: in all; 0: one a core.
        beside: there is other work inside, for half of the threads.
    """
    if not hashes:
        yield None
        return
    from ckdiff.cache import state_of
    from ckdiff.weights.hashing import ShardHasher

    shards = (*base.shards, *unlearned.shards)
    keeps = cache if cache is not None and cache.both else None
    states = {shard.path: state_of(shard.path) for shard in shards} if keeps is not None else {}
    hasher = ShardHasher(shards, None if cache is None else cache.digest, threads, beside)
    try:
        yield hasher
        if keeps is not None:
            for shard in shards:
                keeps.add(shard.path, hasher.digest(shard), states[shard.path])
            with contextlib.suppress(OSError):
                keeps.save()
    finally:
        hasher.close()


def digest_of(checkpoint: Checkpoint, cache: Cache | None) -> str:
    """The digest of one checkpoint's weight files."""
    from ckdiff.weights.hashing import ShardHasher

    hasher = ShardHasher(checkpoint.shards, None if cache is None else cache.digest)
    try:
        return record_of(checkpoint, hasher).digest or ""
    finally:
        hasher.close()


def identity(base: Checkpoint, unlearned: Checkpoint, provenance: Provenance) -> str:
    """A text that tells these weights from others: their digests, or else the files' names, sizes and times."""
    digests = [side.digest for side in (provenance.base, provenance.unlearned)]
    if all(digests):
        return " ".join(map(str, digests))
    return " ".join(map(identity_of, (base, unlearned)))


def identity_of(checkpoint: Checkpoint) -> str:
    """The names, sizes and times of one checkpoint's files, where nobody has hashed them."""
    return " ".join(f"{shard.path} {shard.size} {shard.path.stat().st_mtime_ns}" for shard in checkpoint.shards)


def record_of(checkpoint: Checkpoint, hasher: ShardHasher | None) -> CheckpointRecord:
    """One checkpoint as it stands on disk, with digests where a hasher is given."""
    from ckdiff.report.schema.report import CheckpointRecord, SettingRecord, ShardRecord
    from ckdiff.weights.around import settings_digests
    from ckdiff.weights.hashing import joint_digest

    shards = tuple(
        ShardRecord(shard.name, shard.size, hasher.digest(shard) if hasher else None) for shard in checkpoint.shards
    )
    known = [(shard.name, shard.sha256) for shard in shards if shard.sha256 is not None]
    digest = joint_digest(known) if hasher else None
    settings = tuple(SettingRecord(*row) for row in settings_digests(checkpoint).items()) if hasher else ()
    return CheckpointRecord(checkpoint.location, checkpoint.revision, digest, shards, settings)


def versions(*libraries: str) -> dict[str, str]:
    """Versions of ckdiff, of NumPy, and of the libraries named."""
    from importlib.metadata import version

    return {"ckdiff": __version__} | {name: version(name) for name in ("numpy", *libraries)}
