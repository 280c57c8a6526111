"""`ckdiff attest`: a signed statement about a report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

from ckdiff.audit.signing import KeyKind
from ckdiff.calls.attest import AttestSpec
from ckdiff.calls.attest import attest as run
from ckdiff.calls.specs import ADAPTER_BASE
from ckdiff.cli.console import remark
from ckdiff.cli.options import BASE, BASE_KEY, KEY, QUIET, UNLEARNED, UNLEARNED_KEY
from ckdiff.errors import CkdiffError
from ckdiff.options import OUTPUT, Argument, Option

PRIVATE = KEY.but("The private key in PEM; of an encrypted one CKDIFF_KEY_PASSWORD opens it.")
NEW_KEY = Option("--new-key", "Make a key in this file, and its public half in FILE.pub.")
KEY_TYPE = Option("--key-type", "Of --new-key: p256 is the kind that signs models.", known=get_args(KeyKind))
THE_BASE = BASE.but("The model before, whose model.sig becomes part of what is signed.")
THE_UNLEARNED = UNLEARNED.but("The same of the model after.")
SIGN_MODEL = Option("--sign-model", "Sign the directory of --unlearned as well, in its model.sig; with an ECDSA key.")
BUNDLE = Option("--bundle", "Write a Sigstore bundle, not a bare envelope.")


def attest(
    report: Annotated[Path | None, Argument("A report with a verdict that was held against a policy.")] = None,
    key: Annotated[Path | None, PRIVATE] = None,
    output: Annotated[Path | None, OUTPUT.but("The envelope to write; else REPORT.intoto.json.")] = None,
    new_key: Annotated[Path | None, NEW_KEY] = None,
    key_type: Annotated[KeyKind | None, KEY_TYPE] = None,
    base: Annotated[str | None, THE_BASE] = None,
    unlearned: Annotated[str | None, THE_UNLEARNED] = None,
    base_key: Annotated[Path | None, BASE_KEY] = None,
    unlearned_key: Annotated[Path | None, UNLEARNED_KEY] = None,
    sign_model: Annotated[bool, SIGN_MODEL] = False,
    bundle: Annotated[bool, BUNDLE] = False,
    adapter_base: Annotated[str | None, ADAPTER_BASE] = None,
    quiet: Annotated[bool, QUIET] = False,
) -> None:
    """Sign a report: an in-toto test result about both checkpoints, in a DSSE envelope beside it."""
    if new_key is None and (report is None or key is None):
        raise CkdiffError("attest needs a REPORT and --key FILE; or --new-key FILE, which makes a key")
    if key_type is not None and new_key is None:
        raise CkdiffError("--key-type: says what --new-key makes; give --new-key FILE")
    if new_key is not None:
        key = _new_key(new_key, key, key_type or "ed25519", quiet)
    if report is not None and key is not None:
        models = (base, unlearned, base_key, unlearned_key)
        _tell(AttestSpec(report, key, output, *models, sign_model, bundle, adapter_base), quiet)


def _new_key(new_key: Path, key: Path | None, kind: KeyKind, quiet: bool) -> Path:
    from ckdiff.audit import signing

    if key is not None:
        raise CkdiffError("--key and --new-key: give one of them")
    remark(f"key: {new_key} and {new_key.name}.pub, {signing.new_key(new_key, kind)}", quiet)
    return new_key


def _tell(spec: AttestSpec, quiet: bool) -> None:
    from ckdiff.report.words.gates import gate_text

    found = run(spec)
    for side, signed in found.models.items():
        how = "made" if spec.sign_model and side == "unlearned" else "checked"
        remark(f"{side}: {signed.path} {how}, {signed.files} files, root sha256 {signed.root}", quiet)
    remark(f"attestation: {found.place}, signed by {found.keyid}; {gate_text(found.verdict)}", quiet)
