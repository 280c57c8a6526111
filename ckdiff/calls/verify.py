"""`verify`: a report is held against everything that it rests on."""

from __future__ import annotations

from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING

from ckdiff.errors import CkdiffError

if TYPE_CHECKING:
    from ckdiff.audit.gate.records import Policy
    from ckdiff.audit.verify.verify import Outcome

    Place = str | PathLike[str]


def verify(
    report: Place,
    base: Place | None = None,
    unlearned: Place | None = None,
    key: Place | None = None,
    attestation: Place | None = None,
    policy: Place | Policy | None = None,
    adapter_base: str | None = None,
    base_key: Place | None = None,
    unlearned_key: Place | None = None,
    questions: Place | None = None,
    concept: str | None = None,
    reference: Place | None = None,
) -> Outcome:
    """What differs in a report whose numbers, digests, verdict and signature are checked: `.differences.found`.

    Args:
        report: the file.
        base: a checkpoint that must be the report's.
        unlearned: the same.
        key: the public key of whoever must have signed; without one nothing is said of the origin.
        attestation: the envelope; else the report's name and ".intoto.json". Needs a key.
        policy: what the report must have been judged by.
        adapter_base: the base model of adapters whose own config names none.
        base_key: the public key of whoever must have signed the base, the `model.sig` in it.
        unlearned_key: the same of the unlearned model.
        questions: the file of the target questions, which must be the report's, of as many facts.
        concept: picks the questions of one concept of that file.
        reference: the model that never knew, which must be the report's.

    Raises:
        CkdiffError: the report, a key, the policy or a checkpoint cannot be read.
    """
    from ckdiff.audit.verify import verify as work

    if attestation is not None and key is None:
        raise CkdiffError("--attestation: a signature says nothing without a key; give --key, the signer's public key")
    given = (_text(base), _text(unlearned), _path(key), _path(attestation), _wanted(policy), adapter_base)
    more = (_path(base_key), _path(unlearned_key), _path(questions), concept, _text(reference))
    return work.verify(work.VerifySpec(Path(report), *given, *more))


def _wanted(policy: Place | Policy | None) -> Policy | None:
    from ckdiff.audit.gate.policy import read_policy

    return read_policy(Path(policy)) if isinstance(policy, (str, PathLike)) else policy


def _text(place: Place | None) -> str | None:
    return None if place is None else fspath(place)


def _path(place: Place | None) -> Path | None:
    return None if place is None else Path(place)
