"""`attest`: a signed statement about a report, and about the signatures of its models."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ckdiff.errors import CkdiffError
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securesystemslib.signer import CryptoSigner, SSlibKey

    from ckdiff.audit.models.model import Signed
    from ckdiff.report.schema.report import Report
    from ckdiff.report.schema.verdict import Verdict

MOST_ENVELOPE = 1 << 26
"""Bytes of a file that are looked at to see whether it is an attestation."""


@dataclass(frozen=True, slots=True)
class AttestSpec:
    """A report to sign, and how.

    Attributes:
        report: the file.
        key: the private key's file.
        output: the envelope to write, or None: the report's own name and ".intoto.json".
        base, unlearned: its checkpoints, as paths or hub ids, or None; the root digests of what their `model.sig` lists
            become subjects.
        base_key, unlearned_key: the public key of whoever must have signed that checkpoint, or None.
        sign_model: sign the unlearned checkpoint's directory, too, in its `model.sig`.
        bundle: write a Sigstore bundle in the place of a bare envelope.
        adapter_base: the base model of adapters whose own config names none.
    """

    report: Path
    key: Path
    output: Path | None = None
    base: str | None = None
    unlearned: str | None = None
    base_key: Path | None = None
    unlearned_key: Path | None = None
    sign_model: bool = False
    bundle: bool = False
    adapter_base: str | None = None


@dataclass(frozen=True, slots=True)
class Attested:
    """What was written.

    Attributes:
        place: of the envelope.
        keyid: of the key that signed.
        models: by checkpoint the signature beside it whose root digest is a subject.
        verdict: of the report, with its gate.
    """

    place: Path
    keyid: str
    models: Mapping[str, Signed]
    verdict: Verdict | None = None


def attest(spec: AttestSpec) -> Attested:
    """Sign a report that agrees with itself, in an in-toto test result.

    Raises:
        CkdiffError: the key, the report or a checkpoint cannot be used, they contradict each other, or it cannot be
            written.
    """
    from ckdiff.audit import signing
    from ckdiff.audit.models.bundle import elliptic_signer, make_bundle
    from ckdiff.audit.verify.verify import read_with_digest
    from ckdiff.report.exports.attestation import PAYLOAD_TYPE, payload, statement

    place, keys = _check_place(spec), _check_keys(spec)
    signer = elliptic_signer(spec.key) if spec.sign_model else signing.private_key(spec.key)
    report, sha256 = read_with_digest(spec.report)
    try:
        statement(report, sha256)
    except CkdiffError as error:
        raise CkdiffError(f"{spec.report}: {error}") from error
    models = _check_models(spec, report, keys)
    _check_report(spec.report, report)
    if spec.sign_model:
        models |= {"unlearned": _sign_model(spec, place, signer)}
    _check_neighbours(place)
    content = payload(statement(report, sha256, roots={side: one.root for side, one in models.items()}))
    _replace(place, make_bundle(content, signer) if spec.bundle else signing.sign(content, PAYLOAD_TYPE, signer))
    return Attested(place, str(signer.public_key.keyid), models, report.verdict)


def _check_place(spec: AttestSpec) -> Path:
    """Where the envelope goes.

    Raises:
        CkdiffError: something is there that is no attestation.
    """
    from ckdiff.audit.verify.verify import sidecar
    from ckdiff.files import read_small, sweep

    place = spec.output or sidecar(spec.report)
    sweep(place)
    if place.resolve() in (spec.report.resolve(), spec.key.resolve()):
        raise CkdiffError(f"{place}: is the report or the key itself; name another file with -o FILE")
    if place.is_file() and b'"payloadType"' not in read_small(place, MOST_ENVELOPE):
        raise CkdiffError(f"{place}: is there and is no attestation; name another file with -o FILE")
    return place


def _check_report(path: Path, report: Report) -> None:
    from ckdiff.audit.verify.report import check

    differences = check(report).found
    if differences:
        raise CkdiffError(
            f"{path}: contradicts itself ({differences[0]}); nobody should sign it: see `ckdiff verify`, and measure"
            " or judge again"
        )


def _check_keys(spec: AttestSpec) -> dict[str, SSlibKey | None]:
    """By checkpoint the key that must have signed it.

    Raises:
        CkdiffError: one is none that signs models, or options contradict each other.
    """
    from ckdiff.audit.verify.sides import SIDES, model_key

    if spec.sign_model and spec.unlearned is None:
        raise CkdiffError("--sign-model: signs the unlearned model's directory; give --unlearned DIR")
    if spec.sign_model and spec.unlearned_key is not None:
        raise CkdiffError("--sign-model and --unlearned-key: give one of them; a model is signed once")
    if spec.sign_model and not Path(spec.unlearned or "").is_dir():
        raise CkdiffError(f"{printable(spec.unlearned)}: --sign-model signs a directory; name that of the model")
    return {side: model_key(side, getattr(spec, side), getattr(spec, f"{side}_key")) for side in SIDES}


def _check_models(spec: AttestSpec, report: Report, keys: Mapping[str, SSlibKey | None]) -> dict[str, Signed]:
    """The signatures beside the checkpoints that were named; their files are the report's.

    Raises:
        CkdiffError: a checkpoint is not the report's, or not what its signature lists, or nobody signed it.
    """
    from ckdiff.audit.verify.differences import Differences
    from ckdiff.audit.verify.sides import SIDES, check_side

    found, models = Differences(), {}
    for side in SIDES:
        place: str | None = getattr(spec, side)
        signed = None if place is None else check_side(side, place, report, keys[side], spec.adapter_base, found)
        if found.found:
            raise CkdiffError(f"{found.found[0]}; nobody should sign that: see `ckdiff verify --{side}`")
        if signed is not None:
            models[side] = signed
        elif place is not None and not (spec.sign_model and side == "unlearned"):
            raise CkdiffError(f"--{side}: has no model.sig, so that it adds nothing to the attestation; leave it away")
    return models


def _sign_model(spec: AttestSpec, place: Path, signer: CryptoSigner) -> Signed:
    """Sign the unlearned model; the report and its envelope are left out where they lie in its directory."""
    from ckdiff.audit.models.model import sign_model

    folder = Path(os.path.abspath(spec.unlearned or ""))
    own = [Path(os.path.abspath(path)) for path in (spec.report, place)]
    return sign_model(folder, signer, [path.relative_to(folder) for path in own if path.is_relative_to(folder)])


def _check_neighbours(place: Path) -> None:
    """Refuse to put a file where a signature lists everything: it would no longer hold."""
    from ckdiff.audit.models.model import listed_above

    if (signature := listed_above(place)) is not None:
        raise CkdiffError(
            f"{printable(place)}: lies where {printable(signature)} lists everything; name another place with -o FILE"
        )


def _replace(place: Path, content: bytes) -> None:
    """Write a file, all of it or nothing."""
    from ckdiff.files import replace_file

    try:
        replace_file(place, content)
    except OSError as error:
        raise CkdiffError(f"{place}: cannot be written ({error.strerror}); use -o FILE") from error
