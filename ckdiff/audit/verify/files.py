"""Are these the files that a report is about? `check_files(side, record, checkpoint, found)` hashes them again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.weights.around import settings_digests
from ckdiff.weights.hashing import ShardHasher, joint_digest

if TYPE_CHECKING:
    from pathlib import Path

    from ckdiff.audit.verify.differences import Differences
    from ckdiff.report.schema.report import CheckpointRecord
    from ckdiff.weights.checkpoint import Checkpoint


def check_files(side: str, record: CheckpointRecord, checkpoint: Checkpoint, found: Differences) -> dict[Path, str]:
    """Hold names, sizes and sha256 of all weight files, and sha256 of the files around them, against a report's.

    A report without sha256 (`--no-hash`) says nothing about bytes, and that too is a difference.

    Returns:
        The sha256 of every weight file, by its path.

    Raises:
        CheckpointError: a file cannot be read.
    """
    where = f"{side} {checkpoint.location}"
    stored = {shard.name: shard for shard in record.shards}
    there = {shard.name: shard for shard in checkpoint.shards}
    for name in sorted(stored.keys() - there.keys()):
        found.add(f"{where}: {name}", f"{stored[name].bytes} bytes", "no such file")
    for name in sorted(there.keys() - stored.keys()):
        found.add(f"{where}: {name}", None, f"a file of {there[name].size} bytes")
    hasher = ShardHasher(checkpoint.shards)
    try:
        digests = {name: hasher.digest(shard) for name, shard in there.items()}
    finally:
        hasher.close()
    for name in sorted(stored.keys() & there.keys()):
        found.exact(f"{where}: {name}: bytes", stored[name].bytes, there[name].size)
        found.exact(f"{where}: {name}: sha256", stored[name].sha256, digests[name])
    found.exact(f"{where}: digest", record.digest, joint_digest(digests.items()))
    if record.settings:  # older reports say nothing of them
        _check_settings(where, record, checkpoint, found)
    return {shard.path: digests[name] for name, shard in there.items()}


def _check_settings(where: str, record: CheckpointRecord, checkpoint: Checkpoint, found: Differences) -> None:
    """Config, tokenizer and templates: the same weights answer otherwise with others."""
    stored, there = {one.name: one.sha256 for one in record.settings}, settings_digests(checkpoint)
    for name in sorted(stored.keys() | there.keys()):
        found.exact(f"{where}: {name}: sha256", stored.get(name, "no such file"), there.get(name, "no such file"))
