"""The reference that stands beside a pair: `digest_of_reference`, and that it is neither of the two."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.calls.provenance import digest_of
from ckdiff.errors import CkdiffError

if TYPE_CHECKING:
    from ckdiff.progress import Listener
    from ckdiff.report.schema.report import CheckpointRecord, Provenance
    from ckdiff.weights.checkpoint import Checkpoint


class ReferenceModelError(CkdiffError):
    """A model that cannot be one that never knew."""


def digest_of_reference(
    reference: Checkpoint | None, provenance: Provenance, hashing: bool, listener: Listener | None
) -> str:
    """The digest of a reference's weight files; "" without one, or where nothing is hashed.

    Raises:
        ReferenceModelError: it is the base, or the unlearned model, itself.
    """
    if reference is None:
        return ""
    digest = digest_of(reference, None if listener is None else listener.cache) if hashing else ""
    for side, record in (("base", provenance.base), ("unlearned model", provenance.unlearned)):
        if is_same(reference, digest, record):
            raise ReferenceModelError(
                f"--reference: {reference.location} is the {side} itself; name a model that never knew"
            )
    return digest


def is_same(reference: Checkpoint, digest: str, record: CheckpointRecord) -> bool:
    """Whether a reference holds the very files of a side, by digest, or by place where nothing was hashed."""
    if digest and record.digest:
        return digest == record.digest
    return (reference.location, reference.revision) == (record.location, record.revision)
