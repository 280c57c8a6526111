"""A checkpoint against a report and against the signature beside it: `check_side(...)`, `model_key(...)`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.audit.models.bundle import elliptic_key
from ckdiff.audit.verify.differences import Difference
from ckdiff.errors import CkdiffError
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from pathlib import Path

    from securesystemslib.signer import SSlibKey

    from ckdiff.audit.models.model import Signed
    from ckdiff.audit.verify.differences import Differences
    from ckdiff.report.schema.report import Report

SIDES = ("base", "unlearned")


def model_key(side: str, place: str | None, path: Path | None) -> SSlibKey | None:
    """The key that must have signed a checkpoint, or None where nobody says.

    Raises:
        CkdiffError: it is none that signs models, or no checkpoint was named for it.
    """
    if path is None:
        return None
    if place is None:
        raise CkdiffError(f"--{side}-key: says who signed the {side}; give --{side} too, the checkpoint")
    return elliptic_key(path)


def check_reference(place: str, report: Report, adapter_base: str | None, found: Differences) -> None:
    """Hold a model that never knew against the digests of whatever was measured beside one.

    Raises:
        CkdiffError: it cannot be read, or nothing of the report was measured beside such a model.
    """
    from ckdiff.weights.hashing import ShardHasher, joint_digest
    from ckdiff.weights.opening import open_checkpoint

    beside = {"attack": report.attack, "depth": report.depth}
    stored = {name: one.reference_digest for name, one in beside.items() if one is not None and one.reference}
    if report.behaviour is not None and report.behaviour.reference is not None:
        stored["behaviour"] = report.behaviour.reference.digest
    if not stored:
        raise CkdiffError("--reference: nothing of the report was measured beside such a model; leave it out")
    checkpoint = open_checkpoint(place, adapter_base)
    hasher = ShardHasher(checkpoint.shards)
    try:
        digest = joint_digest([(shard.name, hasher.digest(shard)) for shard in checkpoint.shards])
    finally:
        hasher.close()
    for name, one in stored.items():
        found.exact(f"reference {checkpoint.location}: digest, of {name}", one, digest)


def check_side(
    side: str, place: str, report: Report, key: SSlibKey | None, adapter_base: str | None, found: Differences
) -> Signed | None:
    """Hold a checkpoint against the report, and against the signature beside it, if there is one.

    Args:
        side: which of the two.
        place: its path or hub id.
        report: whose files they must be.
        key: that must have signed it, or None: then a signature is held against the files alone.
        adapter_base: the base model of adapters whose own config names none.
        found: gets the differences.
    """
    from ckdiff.audit.models.model import check_model
    from ckdiff.audit.verify.files import check_files
    from ckdiff.weights.opening import open_checkpoint

    checkpoint = open_checkpoint(place, adapter_base)
    hashed = check_files(side, getattr(report.provenance, side), checkpoint, found)
    signed = check_model(checkpoint, place, key, hashed)
    if signed is not None:
        found.compared += signed.files
        where = f"{side} {signed.path}"
        found.found += [
            Difference(printable(f"{where}: {flaw.name}" if flaw.name else where), "", printable(flaw.text))
            for flaw in signed.flaws
        ]
    return signed
