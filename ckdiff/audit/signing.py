"""DSSE envelopes signed with a local key, by securesystemslib: `sign(...)`, `open_envelope(...)`. Its only importer.

Keys are PEM files: Ed25519, ECDSA (P-256, P-384, P-521) or RSA. A private key that is encrypted is opened with the
password in the environment variable `CKDIFF_KEY_PASSWORD`; nothing is asked on the terminal.

Source: Dead Simple Signing Envelope v1.0.2, github.com/secure-systems-lab/dsse.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Literal

from ckdiff.errors import CkdiffError, with_extra
from ckdiff.files import create_file, read_small, sweep
from ckdiff.untrusted import printable, shorten

if TYPE_CHECKING:
    from pathlib import Path

    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner, SSlibKey

KeyKind = Literal["ed25519", "p256"]

PASSWORD = "CKDIFF_KEY_PASSWORD"
EXTRA = with_extra("signing needs securesystemslib and cryptography", "attest")
MOST_KEY = 1 << 16
MOST_ENVELOPE = 1 << 23
"""Bytes of a key's file and of an envelope's; more is no key and no envelope of ckdiff."""


class KeyFileError(CkdiffError):
    """A key that cannot be used, or a library that is not there."""


class SignatureError(Exception):
    """An envelope that proves nothing; the message says why."""


# ------------------------------------------------------------------------------------------------------------ keys


def check_installed() -> None:
    """Refuse, before any work is done, where the extra is missing.

    Raises:
        KeyFileError: and how to install it.
    """
    try:
        import cryptography
        import securesystemslib
    except ImportError as error:
        raise KeyFileError(EXTRA) from error
    del cryptography, securesystemslib


def new_key(path: Path, kind: KeyKind = "ed25519") -> str:
    """Make a key: `path` for its owner alone (mode 0600), and `path`.pub for everybody.

    Args:
        path: of the private half.
        kind: "p256" is ECDSA on that curve, which is one of those that sign models.

    Returns:
        The key's id.

    Raises:
        KeyFileError: a file of one of the names is there, or none can be written.
    """
    check_installed()
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    from securesystemslib.signer import SSlibKey

    elliptic = kind == "p256"
    private = ec.generate_private_key(ec.SECP256R1()) if elliptic else ed25519.Ed25519PrivateKey.generate()
    secret = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    beside = path.with_name(f"{path.name}.pub")
    _check_free(path, beside)
    _write_new(path, secret, 0o600)
    try:
        _write_new(beside, public, 0o644)
    except KeyFileError:
        path.unlink()
        raise
    return str(SSlibKey.from_crypto(private.public_key()).keyid)


def _check_free(path: Path, beside: Path) -> None:
    """No half of a key is there, once what a killed command left is swept."""
    for place in (path, beside):
        sweep(place)
    for place in (path, beside):
        if os.path.lexists(place):
            half = place == path and not os.path.lexists(beside)
            remedy = f"name another file{HALF if half else ''}"
            raise KeyFileError(f"{printable(place)}: is there already, and a key is never replaced; {remedy}")


HALF = ", or make its missing public half: openssl pkey -in KEY -pubout -out KEY.pub"
"""What else to do where the making of a pair of keys was killed between the two."""


def _write_new(path: Path, content: bytes, mode: int) -> None:
    """A file that was not there before, whole or not at all."""
    try:
        create_file(path, content, mode)
    except OSError as error:
        raise KeyFileError(
            f"{printable(path)}: cannot be written ({error.strerror}); name another file, which must not exist"
        ) from error


def private_key(path: Path) -> CryptoSigner:
    """The signer of a private key's file.

    Raises:
        KeyFileError: it cannot be read, is no private key, or its password is missing or wrong.
    """
    check_installed()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.signer import CryptoSigner

    name, text = printable(path), _read_key(path)
    password = os.environ.get(PASSWORD)
    if b"ENCRYPTED" in text and not password:
        raise KeyFileError(f"{name}: the key is encrypted; put its password into the environment variable {PASSWORD}")
    try:
        key = load_pem_private_key(text, password.encode() if password and b"ENCRYPTED" in text else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if b"ENCRYPTED" in text:
            raise KeyFileError(f"{name}: cannot be opened with the password in {PASSWORD}; mend it") from error
        if b"PUBLIC KEY" in text:
            raise KeyFileError(f"{name}: is a public key; give the private one, which signs") from error
        raise KeyFileError(f"{name}: not a private key in PEM; `ckdiff attest --new-key FILE` makes one") from error
    try:
        return CryptoSigner(key)
    except Exception as error:  # the library has several errors for this, some of them its own
        raise KeyFileError(f"{name}: {_reason(error)}; give an Ed25519, ECDSA or RSA key") from error


def public_key(path: Path) -> SSlibKey:
    """The key of a public key's file.

    Raises:
        KeyFileError: it cannot be read, or is no public key.
    """
    check_installed()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import SSlibKey

    name, text = printable(path), _read_key(path)
    if b"PRIVATE KEY" in text:
        raise KeyFileError(f"{name}: is a private key; give the public one ({path.name}.pub), which checks signatures")
    try:
        return SSlibKey.from_crypto(load_pem_public_key(text))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFileError(f"{name}: not a public key in PEM that signs ({_reason(error)})") from error


def _read_key(path: Path) -> bytes:
    name = printable(path)
    try:
        text = read_small(path, MOST_KEY)
    except OSError as error:
        raise KeyFileError(f"{name}: cannot be read ({error.strerror}); name a key in PEM with --key") from error
    if len(text) > MOST_KEY:
        raise KeyFileError(f"{name}: too large for a key; give a PEM file")
    return text


def _reason(error: Exception) -> str:
    return shorten(printable(error), 100) or type(error).__name__


# ------------------------------------------------------------------------------------------------------- envelopes


def sign(content: bytes, kind: str, signer: CryptoSigner) -> bytes:
    """The envelope of a payload, as JSON.

    Args:
        content: what is signed.
        kind: its media type, which is signed with it.
        signer: from `private_key`.
    """
    from securesystemslib.dsse import Envelope

    envelope = Envelope(content, kind, {})
    envelope.sign(signer)
    return (json.dumps(envelope.to_dict(), indent=2) + "\n").encode("ascii")


def open_envelope(path: Path, kind: str, key: SSlibKey) -> bytes:
    """The payload of an envelope that this key has signed.

    Raises:
        SignatureError: there is no such file, it is no envelope of this kind, or this key did not sign it.
    """
    envelope = _envelope(read_envelope(path))
    if envelope.payload_type != kind:
        raise SignatureError(f"its payload is a {_short(envelope.payload_type)}, not {kind}")
    if not envelope.signatures:
        raise SignatureError("it has no signature: it was stripped of it, or never signed")
    if key.keyid not in envelope.signatures:
        others = ", ".join(_short(keyid, 16) for keyid in list(envelope.signatures)[:3])
        raise SignatureError(f"it is signed by another key ({others}), not by {_short(key.keyid, 16)}")
    try:
        envelope.verify([key], 1)
    except Exception as error:  # whatever goes wrong in the library, nothing is proved
        raise SignatureError("its signature is not one of this key over this payload") from error
    return envelope.payload


def read_envelope(path: Path) -> bytes:
    """The bytes of a file that may be an envelope.

    Raises:
        SignatureError: there is none, it cannot be read, or it is too large for one.
    """
    try:
        content = read_small(path, MOST_ENVELOPE)
    except FileNotFoundError as error:
        raise SignatureError("there is no such file: it was deleted, or nobody signed") from error
    except OSError as error:
        raise SignatureError(f"cannot be read ({error.strerror})") from error
    if len(content) > MOST_ENVELOPE:
        raise SignatureError(f"more than {MOST_ENVELOPE >> 20} MB: too large for an attestation")
    return content


def _envelope(content: bytes) -> Envelope:
    from securesystemslib.dsse import Envelope

    try:
        tree = json.loads(content)
        if not isinstance(tree["payloadType"], str) or not isinstance(tree["signatures"], list):
            raise TypeError("payloadType or signatures of the wrong kind")
        return Envelope.from_dict(tree)
    except Exception as error:  # hostile bytes: JSON, base64 and the library each have their own errors
        raise SignatureError(f"not a DSSE envelope ({_reason(error)}): cut off, or edited") from error


def read_payload(content: bytes) -> dict[str, Any]:
    """The statement that a payload holds.

    Raises:
        SignatureError: it holds none.
    """
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise SignatureError(f"its payload is no JSON ({_reason(error)})") from error
    if not isinstance(tree, dict):
        raise SignatureError("its payload is no statement")
    return tree


def _short(text: str, limit: int = 60) -> str:
    return shorten(printable(text), limit)
