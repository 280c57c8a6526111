"""Sigstore bundles v0.3 of one DSSE envelope: `read_bundle(path)`, `check_bundle(bundle, key)`, `make_bundle(...)`.

A bundle names the key that signed by a hint, the sha256 of its PEM text, or holds a certificate. ckdiff checks
signatures by key; one by certificate, whose trust rests on a log elsewhere, can be read but not proved.

Source: sigstore/protobuf-specs, sigstore_bundle.proto; DSSE v1.0.2; sigstore/model-transparency 1.1.1.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ckdiff.audit.signing import KeyFileError, SignatureError, private_key, public_key, read_envelope
from ckdiff.untrusted import printable, shorten, strict_json

if TYPE_CHECKING:
    from pathlib import Path

    from securesystemslib.signer import CryptoSigner, SSlibKey

MEDIA_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"

PAYLOAD_TYPE = "application/vnd.in-toto+json"

SCHEMES = ("ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521")
"""The schemes that model signing knows; each curve has the hash of its own size."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """The parts of a bundle, nothing of it proved yet.

    Attributes:
        payload: what is said to be signed.
        signature: in DER.
        hint: which key is said to have signed, or "".
        certified: a certificate stands in the place of the key.
    """

    payload: bytes
    signature: bytes
    hint: str
    certified: bool


def read_bundle(path: Path) -> Bundle:
    """The one envelope of a bundle.

    Raises:
        SignatureError: there is no such file, or it is no bundle of this version with one signature.
    """
    content = read_envelope(path)
    try:
        tree = strict_json(content)
    except ValueError as error:
        raise SignatureError(f"no JSON ({shorten(printable(error), 100)}): cut off, or edited") from error
    if _text(tree, "mediaType") != MEDIA_TYPE:
        raise SignatureError(f"its media type is {_show(_text(tree, 'mediaType'))}, not {MEDIA_TYPE}")
    envelope, material = _part(tree, "dsseEnvelope"), _part(tree, "verificationMaterial")
    if _text(envelope, "payloadType") != PAYLOAD_TYPE:
        raise SignatureError(f"its payload is a {_show(_text(envelope, 'payloadType'))}, not {PAYLOAD_TYPE}")
    signatures = envelope.get("signatures")
    if not isinstance(signatures, list) or len(signatures) != 1:
        count = len(signatures) if isinstance(signatures, list) else 0
        raise SignatureError(f"it has {count} signatures; a bundle has one")
    certified = "certificate" in material or "x509CertificateChain" in material
    hint = "" if certified else _text(_part(material, "publicKey"), "hint")
    return Bundle(_bytes(envelope, "payload"), _bytes(signatures[0], "sig"), hint, certified)


def is_bundle(path: Path) -> bool:
    """Whether a file is a bundle, and no bare envelope; a file that cannot be read is neither."""
    try:
        return b'"dsseEnvelope"' in read_envelope(path)
    except SignatureError:
        return False


def check_bundle(bundle: Bundle, key: SSlibKey) -> None:
    """Prove that a key has signed a bundle's payload.

    Raises:
        SignatureError: it has not, or a certificate stands in the key's place.
    """
    from securesystemslib.signer import Signature

    if bundle.certified:
        raise SignatureError("it is signed with a certificate, not by a key; ask `model_signing verify` about that")
    if bundle.hint not in ("", _hint(key)):
        raise SignatureError(f"it is signed by another key ({_show(bundle.hint, 16)}), not by {_hint(key)[:16]}")
    try:
        key.verify_signature(Signature(key.keyid, bundle.signature.hex()), _preauthenticated(bundle.payload))
    except Exception as error:  # whatever goes wrong in the library, nothing is proved
        raise SignatureError("its signature is not one of this key over this payload") from error


def make_bundle(payload: bytes, signer: CryptoSigner) -> bytes:
    """A bundle of an in-toto statement, as JSON.

    Args:
        payload: what is signed.
        signer: from `elliptic_signer`, or of any other kind where no model is signed.
    """
    signature = signer.sign(_preauthenticated(payload)).signature
    tree = {
        "mediaType": MEDIA_TYPE,
        "verificationMaterial": {"publicKey": {"hint": _hint(signer.public_key)}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"sig": base64.b64encode(bytes.fromhex(signature)).decode(), "keyid": ""}],
        },
    }
    return (json.dumps(tree, indent=2) + "\n").encode("ascii")


def elliptic_key(path: Path) -> SSlibKey:
    """The public key of a file, of a kind that model signing knows.

    Raises:
        KeyFileError: it cannot be read, or is of another kind.
    """
    key = public_key(path)
    _check_kind(path, key)
    return key


def elliptic_signer(path: Path) -> CryptoSigner:
    """The signer of a private key's file, of a kind that model signing knows.

    Raises:
        KeyFileError: it cannot be read, or is of another kind.
    """
    signer = private_key(path)
    _check_kind(path, signer.public_key)
    return signer


def _check_kind(path: Path, key: SSlibKey) -> None:
    if key.scheme not in SCHEMES:
        raise KeyFileError(
            f"{printable(path)}: a key of kind {printable(key.scheme)}, which model signing does not know; give an"
            " ECDSA key: `ckdiff attest --new-key FILE --key-type p256` makes one"
        )


def _preauthenticated(payload: bytes) -> bytes:
    """What is signed in the place of a payload: its type and length before it."""
    return f"DSSEv1 {len(PAYLOAD_TYPE)} {PAYLOAD_TYPE} {len(payload)} ".encode() + payload


def _hint(key: SSlibKey) -> str:
    text = str(key.keyval["public"])
    return hashlib.sha256(text.encode() if text.endswith("\n") else f"{text}\n".encode()).hexdigest()


def _part(tree: Any, name: str) -> dict[str, Any]:
    found = tree.get(name) if isinstance(tree, dict) else None
    if not isinstance(found, dict):
        raise SignatureError(f"no Sigstore bundle: it holds no {name}")
    return found


def _text(tree: Any, name: str) -> str:
    found = tree.get(name) if isinstance(tree, dict) else None
    return found if isinstance(found, str) else ""


def _bytes(tree: Any, name: str) -> bytes:
    try:
        return base64.b64decode(_text(tree, name), validate=True)
    except ValueError as error:
        raise SignatureError(f"its {name} is no base64: cut off, or edited") from error


def _show(text: str, limit: int = 60) -> str:
    return shorten(printable(text), limit) or "missing"
