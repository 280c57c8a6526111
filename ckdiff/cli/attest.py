"""`ckdiff attest`: a signed statement about a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from ckdiff.cli.console import remark
from ckdiff.cli.options import KEY, QUIET
from ckdiff.errors import CkdiffError
from ckdiff.options import OUTPUT, Argument, Option

MOST_ENVELOPE = 1 << 26
"""Bytes of a file that are looked at to see whether it is an attestation."""


PRIVATE = KEY.but("The private key in PEM; of an encrypted one CKDIFF_KEY_PASSWORD opens it.")
NEW_KEY = Option("--new-key", "Make an Ed25519 key in this file, and its public half in FILE.pub.")


def attest(
    report: Annotated[Path | None, Argument("A report with a verdict that was held against a policy.")] = None,
    key: Annotated[Path | None, PRIVATE] = None,
    output: Annotated[Path | None, OUTPUT.but("The envelope to write; else REPORT.intoto.json.")] = None,
    new_key: Annotated[Path | None, NEW_KEY] = None,
    quiet: Annotated[bool, QUIET] = False,
) -> None:
    """Sign a report: an in-toto test result about both checkpoints, in a DSSE envelope beside it."""
    from ckdiff.audit import signing

    if new_key is None and (report is None or key is None):
        raise CkdiffError("attest needs a REPORT and --key FILE; or --new-key FILE, which makes a key")
    if new_key is not None:
        if key is not None:
            raise CkdiffError("--key and --new-key: give one of them")
        remark(f"key: {new_key} and {new_key.name}.pub, {signing.new_key(new_key)}", quiet)
        key = new_key
    if report is not None and key is not None:
        _attest(report, key, output, quiet)


def _attest(report: Path, key: Path, output: Path | None, quiet: bool) -> None:
    from ckdiff.audit import signing
    from ckdiff.audit.verify.report import check
    from ckdiff.audit.verify.verify import read_with_digest, sidecar
    from ckdiff.files import read_small
    from ckdiff.report.exports.attestation import PAYLOAD_TYPE, payload, statement

    place = output or sidecar(report)
    if place.resolve() in (report.resolve(), key.resolve()):
        raise CkdiffError(f"{place}: is the report or the key itself; name another file with -o FILE")
    if place.is_file() and b'"payloadType"' not in read_small(place, MOST_ENVELOPE):
        raise CkdiffError(f"{place}: is there and is no attestation; name another file with -o FILE")
    signer = signing.private_key(key)
    found, sha256 = read_with_digest(report)
    try:
        content = payload(statement(found, sha256))
    except CkdiffError as error:
        raise CkdiffError(f"{report}: {error}") from error
    differences = check(found).found
    if differences:
        raise CkdiffError(
            f"{report}: contradicts itself ({differences[0]}); nobody should sign it: see `ckdiff verify`, and measure"
            " or judge again"
        )
    _replace(place, signing.sign(content, PAYLOAD_TYPE, signer))
    remark(f"attestation: {place}, signed by {signer.public_key.keyid}", quiet)


def _replace(place: Path, content: bytes) -> None:
    """Write a file, all of it or nothing."""
    from ckdiff.files import replace_file

    try:
        replace_file(place, content)
    except OSError as error:
        raise CkdiffError(f"{place}: cannot be written ({error.strerror}); use -o FILE") from error
