"""The work of `ckdiff verify`: `verify(spec)` holds a report against itself, its files, its policy and its signature.

Only a report that agrees with itself and whose attestation is signed by the given key over this very file is verified.
Without a key the most that can be said is that it is consistent.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ckdiff.audit.signing import SignatureError, open_envelope, public_key, read_payload
from ckdiff.audit.verify.differences import Difference
from ckdiff.audit.verify.report import check, compare_trees, holds_anything, measures_not_met
from ckdiff.errors import ReportError
from ckdiff.report.exports.attestation import FORMAT, PAYLOAD_TYPE, statement
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from pathlib import Path

    from securesystemslib.signer import SSlibKey

    from ckdiff.audit.gate.records import Policy
    from ckdiff.audit.verify.differences import Differences
    from ckdiff.report.schema.report import Report
    from ckdiff.report.schema.verdict import GateCheck


SUFFIX = ".intoto.json"


@dataclass(frozen=True, slots=True)
class VerifySpec:
    """A report to verify, and what to hold it against.

    Attributes:
        report: the file.
        base, unlearned: checkpoints that must be those of the report, as paths or hub ids, or None.
        key: a public key's file, or None: then nothing is said about the origin.
        attestation: the envelope; None: the report's own name and `SUFFIX`.
        policy: what its gate must have been judged by, or None.
        adapter_base: the base model of adapters whose own config names none.
    """

    report: Path
    base: str | None = None
    unlearned: str | None = None
    key: Path | None = None
    attestation: Path | None = None
    policy: Policy | None = None
    adapter_base: str | None = None


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
    """

    differences: Differences
    keyid: str | None
    empty: bool
    files: tuple[str, ...]
    writer: str = ""
    otherwise: tuple[GateCheck, ...] = ()


def sidecar(report: Path) -> Path:
    """Where the attestation of a report lies unless another place is named."""
    return report.with_name(f"{report.name}{SUFFIX}")


def verify(spec: VerifySpec) -> Outcome:
    """Hold a report against itself and against everything that a spec names.

    Raises:
        CkdiffError: the report, the key or a checkpoint cannot be read.
    """
    key = None if spec.key is None else public_key(spec.key)
    report, sha256 = read_with_digest(spec.report)
    found = check(report, spec.policy)
    files = tuple(
        _check_side(side, getattr(spec, side), report, spec.adapter_base, found) for side in _given_sides(spec)
    )
    signed = None if key is None else _check_signature(spec, report, sha256, key, found)
    writer, otherwise = str(report.versions.get("ckdiff", "")), measures_not_met(report, spec.policy)
    return Outcome(found, signed, not holds_anything(report), files, writer, otherwise)


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
    return [side for side in ("base", "unlearned") if getattr(spec, side) is not None]


def _check_side(side: str, place: str, report: Report, adapter_base: str | None, found: Differences) -> str:
    from ckdiff.audit.verify.files import check_files
    from ckdiff.weights.opening import open_checkpoint

    check_files(side, getattr(report.provenance, side), open_checkpoint(place, adapter_base), found)
    return side


def _form(signed: Any) -> int:
    """In which form a statement was signed: an older ckdiff signed less."""
    predicate = signed.get("predicate")
    own = predicate.get("ckdiff") if isinstance(predicate, dict) else None
    form = own.get("format") if isinstance(own, dict) else None
    return form if type(form) is int and 1 <= form < FORMAT else FORMAT


def _check_signature(spec: VerifySpec, report: Report, sha256: str, key: SSlibKey, found: Differences) -> str | None:
    """The key's id where the attestation is signed by it and says what the report says; else None and differences."""
    place = spec.attestation or sidecar(spec.report)
    where, before = f"attestation {place}", len(found.found)
    try:
        signed = read_payload(open_envelope(place, PAYLOAD_TYPE, key))
        compare_trees("attestation", signed, statement(report, sha256, _form(signed)), found)
    except SignatureError as error:
        found.found.append(Difference(printable(where), "", printable(error)))
    except ReportError as error:
        # What was signed had a verdict and hashes; this report has none.
        found.add(where, "a statement", error)
    return str(key.keyid) if len(found.found) == before else None
