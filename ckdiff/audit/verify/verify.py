"""The work of `ckdiff verify`: `verify(spec)` holds a report against itself, its files, its policy and its signature.

Only a report that agrees with itself and whose attestation is signed by the given key over this very file is verified.
Without a key the most that can be said is that it is consistent.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ckdiff.audit.models.bundle import check_bundle, is_bundle, read_bundle
from ckdiff.audit.signing import SignatureError, open_envelope, public_key, read_payload
from ckdiff.audit.verify.asked import check_questions
from ckdiff.audit.verify.differences import Difference
from ckdiff.audit.verify.report import check, compare_trees, holds_anything, measures_not_met
from ckdiff.audit.verify.sides import SIDES, check_reference, check_side, model_key
from ckdiff.errors import ReportError
from ckdiff.questions.questions import read_questions
from ckdiff.report.exports.attestation import FORMAT, PAYLOAD_TYPE, statement
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from securesystemslib.signer import SSlibKey

    from ckdiff.audit.gate.records import Policy
    from ckdiff.audit.models.model import Signed
    from ckdiff.audit.verify.differences import Differences
    from ckdiff.report.schema.report import Report
    from ckdiff.report.schema.verdict import GateCheck, Verdict


SUFFIX = ".intoto.json"


@dataclass(frozen=True, slots=True)
class VerifySpec:
    """A report to verify, and what to hold it against.

    Attributes:
        report: the file.
        base, unlearned: checkpoints that must be those of the report, as paths or hub ids, or None.
        reference: the same of the model that never knew.
        key: a public key's file, or None: then nothing is said about the origin.
        attestation: the envelope; None: the report's own name and `SUFFIX`.
        policy: what its gate must have been judged by, or None.
        adapter_base: the base model of adapters whose own config names none.
        base_key, unlearned_key: the public key of whoever must have signed that checkpoint, its `model.sig`, or None:
            then a signature is held against the files alone.
        questions: the file of the target questions, or None; `concept` picks those of one concept.
    """

    report: Path
    base: str | None = None
    unlearned: str | None = None
    key: Path | None = None
    attestation: Path | None = None
    policy: Policy | None = None
    adapter_base: str | None = None
    base_key: Path | None = None
    unlearned_key: Path | None = None
    questions: Path | None = None
    concept: str | None = None
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a verification.

    Attributes:
        differences: what does not agree, and how much was compared.
        keyid: of the key that signed, or None where no key was given or nothing is proved by it.
        empty: the report holds nothing that could be checked.
        files: checkpoints whose files were hashed.
        writer: the version of ckdiff that wrote the report, or "".
        otherwise: what was measured in another way than the policy says.
        models: by checkpoint the signature beside it, where there is one.
        verdict: of the report, with its own gate; None where it has none.
    """

    differences: Differences
    keyid: str | None
    empty: bool
    files: tuple[str, ...]
    writer: str = ""
    otherwise: tuple[GateCheck, ...] = ()
    models: Mapping[str, Signed] = field(default_factory=dict)
    verdict: Verdict | None = None


def sidecar(report: Path) -> Path:
    """Where the attestation of a report lies unless another place is named."""
    return report.with_name(f"{report.name}{SUFFIX}")


def verify(spec: VerifySpec) -> Outcome:
    """Hold a report against itself and against everything that a spec names.

    Raises:
        CkdiffError: the report, the key or a checkpoint cannot be read.
    """
    key = None if spec.key is None else public_key(spec.key)
    keys = {side: model_key(side, getattr(spec, side), getattr(spec, f"{side}_key")) for side in SIDES}
    report, sha256 = read_with_digest(spec.report)
    found = check(report, spec.policy)
    if spec.questions is not None:
        check_questions(report, read_questions(spec.questions, concept=spec.concept), found)
    files = tuple(_given_sides(spec))
    sides = {
        side: check_side(side, getattr(spec, side), report, keys[side], spec.adapter_base, found) for side in files
    }
    if spec.reference is not None:
        check_reference(spec.reference, report, spec.adapter_base, found)
        files = (*files, "reference")
    signed = None if key is None else _check_signature(spec, report, sha256, key, found, sides)
    writer, otherwise = str(report.versions.get("ckdiff", "")), measures_not_met(report, spec.policy)
    models = {side: one for side, one in sides.items() if one is not None}
    return Outcome(found, signed, not holds_anything(report), files, writer, otherwise, models, report.verdict)


def file_digest(path: Path) -> str:
    """The sha256 of a file.

    Raises:
        ReportError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ReportError(f"{printable(path)}: cannot be read ({error.strerror}); check its permissions") from error


def read_with_digest(path: Path) -> tuple[Report, str]:
    """A report, and the sha256 of the file that it was read from.

    Raises:
        ReportError: it cannot be read, or another command replaced it meanwhile.
    """
    from ckdiff.report.hdf5.file import read_report

    before = file_digest(path) if path.is_file() else ""
    report = read_report(path)
    if file_digest(path) != before:
        raise ReportError(f"{printable(path)}: was replaced while it was read; try again")
    return report, before


def _given_sides(spec: VerifySpec) -> list[str]:
    return [side for side in SIDES if getattr(spec, side) is not None]


def _form(signed: Any) -> int:
    """In which form a statement was signed: an older ckdiff signed less."""
    predicate = signed.get("predicate")
    own = predicate.get("ckdiff") if isinstance(predicate, dict) else None
    form = own.get("format") if isinstance(own, dict) else None
    return form if type(form) is int and 1 <= form < FORMAT else FORMAT


def _roots(signed: Any, where: str, sides: Mapping[str, Signed | None], found: Differences) -> dict[str, str]:
    """The root digests of models that are subjects of a statement; those of checkpoints at hand must be theirs."""
    subjects = signed.get("subject")
    rows = [row for row in subjects if isinstance(row, dict)] if isinstance(subjects, list) else []
    digests = {row.get("name"): row.get("digest") for row in rows if row.get("name") in SIDES}
    roots = {side: str(one.get("sha256")) for side, one in digests.items() if side and isinstance(one, dict)}
    for side in roots.keys() & sides.keys():
        there = sides[side]
        found.exact(f"{where}: root digest of the {side}", roots[side], "" if there is None else there.root)
    return roots


def _payload_of(place: Path, key: SSlibKey) -> bytes:
    """What a key has signed, in an envelope or in a bundle."""
    if not is_bundle(place):
        return open_envelope(place, PAYLOAD_TYPE, key)
    bundle = read_bundle(place)
    check_bundle(bundle, key)
    return bundle.payload


def _check_signature(
    spec: VerifySpec,
    report: Report,
    sha256: str,
    key: SSlibKey,
    found: Differences,
    sides: Mapping[str, Signed | None],
) -> str | None:
    """The key's id where the attestation is signed by it and says what the report says; else None and differences."""
    place = spec.attestation or sidecar(spec.report)
    where, before = f"attestation {place}", len(found.found)
    try:
        signed = read_payload(_payload_of(place, key))
        roots = _roots(signed, where, sides, found)
        compare_trees("attestation", signed, statement(report, sha256, _form(signed), roots), found)
    except SignatureError as error:
        found.found.append(Difference(printable(where), "", printable(error)))
    except ReportError as error:
        # What was signed had a verdict and hashes; this report has none.
        found.add(where, "a statement", error)
    return str(key.keyid) if len(found.found) == before else None
