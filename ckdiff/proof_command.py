"""`ckdiff attest` and `ckdiff verify`: a report is signed, and a report is held against everything that it rests on.

Part of the door: options become calls; what was found is printed and turned into a status. The library that signs is
imported by `audit.signing` alone, when it is needed.
"""

from __future__ import annotations

import sys
from pathlib import Path  # noqa: TC003  # typer looks at it
from typing import TYPE_CHECKING, Annotated

import typer

from ckdiff import __version__
from ckdiff.errors import CkdiffError, ExitStatus
from ckdiff.terminal import AdapterBaseOption, QuietOption, remark, to_reader

if TYPE_CHECKING:
    from ckdiff.audit.differences import Difference
    from ckdiff.audit.verifying import Outcome

MOST_ENVELOPE = 1 << 26
"""Bytes of a file that are looked at to see whether it is an attestation."""
MOST_LINES = 200
"""Differences that are printed, one a line; more are counted."""


def attest(
    report: Annotated[
        Path | None, typer.Argument(help="A report with a verdict that was held against a policy.")
    ] = None,
    key: Annotated[
        Path | None,
        typer.Option("--key", "-k", help="The private key in PEM; of an encrypted one CKDIFF_KEY_PASSWORD opens it."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The envelope to write; else REPORT.intoto.json.")
    ] = None,
    new_key: Annotated[
        Path | None,
        typer.Option("--new-key", help="Make an Ed25519 key in this file, and its public half in FILE.pub."),
    ] = None,
    quiet: QuietOption = False,
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


def verify(
    report: Annotated[Path, typer.Argument(help="A report that ckdiff has written.")],
    base: Annotated[
        str | None, typer.Option("--base", help="The model before: are its files those of the report?")
    ] = None,
    unlearned: Annotated[
        str | None, typer.Option("--unlearned", help="The model after: are its files those of the report?")
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", "-k", help="The public key in PEM of whoever must have signed.")
    ] = None,
    attestation: Annotated[
        Path | None, typer.Option("--attestation", help="The envelope; else REPORT.intoto.json. Needs --key.")
    ] = None,
    policy: Annotated[
        Path | None, typer.Option("--policy", "-p", help="The policy that the report must have been judged by.")
    ] = None,
    adapter_base: AdapterBaseOption = None,
    quiet: QuietOption = False,
) -> None:
    """Compute a report's numbers, digests and verdict again, check its signature, and say what differs."""
    from ckdiff.audit.policy import read_policy
    from ckdiff.audit.verifying import VerifySpec, sidecar
    from ckdiff.audit.verifying import verify as run

    if attestation is not None and key is None:
        raise CkdiffError(
            "--attestation: a signature says nothing without a key; give --key FILE, the signer's public key"
        )
    wanted = None if policy is None else read_policy(policy)
    outcome = run(VerifySpec(report, base, unlearned, key, attestation, wanted, adapter_base))
    if key is None and sidecar(report).exists():
        remark(f"{sidecar(report)}: not looked at; --key FILE checks its signature", quiet)
    if hint := _hint(outcome):
        remark(hint, quiet)
    with to_reader():
        sys.stdout.write(_text(report, outcome))
    raise typer.Exit(_status(outcome))


def _attest(report: Path, key: Path, output: Path | None, quiet: bool) -> None:
    from ckdiff.audit import signing
    from ckdiff.audit.checking import check
    from ckdiff.audit.verifying import read_with_digest, sidecar
    from ckdiff.report.attestation import PAYLOAD_TYPE, payload, statement

    place = output or sidecar(report)
    if place.resolve() in (report.resolve(), key.resolve()):
        raise CkdiffError(f"{place}: is the report or the key itself; name another file with -o FILE")
    if place.is_file() and b'"payloadType"' not in place.read_bytes()[:MOST_ENVELOPE]:
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


# --------------------------------------------------------------------------------------------------------- outcome


INTERVALS = ("_low", "_high", "/settings/bootstrap")
"""How the names of an interval's ends end, and of the method behind them."""


def _hint(outcome: Outcome) -> str:
    """What else than an edit may be behind differences: another version of ckdiff; or ""."""
    from ckdiff.report.text import printable

    found = outcome.differences.found
    if not found:
        return ""
    if outcome.writer not in ("", __version__):
        return (
            f"written by ckdiff {printable(outcome.writer)}, this is {__version__}: its rules and intervals may differ"
        )
    if all(one.where.partition("[")[0].endswith(INTERVALS) for one in found):
        return (
            "intervals alone differ: a ckdiff with other intervals may have made them; measure again, or ask that one"
        )
    return ""


def _status(outcome: Outcome) -> ExitStatus:
    if outcome.differences.found:
        return ExitStatus.DIFFERS
    return ExitStatus.INCONCLUSIVE if outcome.empty else ExitStatus.OK


def _text(report: Path, outcome: Outcome) -> str:
    """What was found, the last line the outcome; "verified" only where a key has signed this very file."""
    from ckdiff.report.text import counted, printable

    found, name = outcome.differences.found, printable(report)
    if found:
        return "".join(_lines(found)) + f"differs: {name}: {counted(len(found), 'difference')}\n"
    if outcome.empty:
        return f"inconclusive: {name}: nothing to check, the report holds no measurement and no verdict\n"
    done = [f"{outcome.differences.compared:,} figures recomputed"]
    done += [f"files of {' and '.join(outcome.files)} hashed"] if outcome.files else []
    if outcome.keyid is None:
        return f"consistent, origin unproven: {name}: {', '.join(done)}, no signature checked\n"
    return f"verified: {name}: {', '.join(done)}, signed by {printable(outcome.keyid)}\n"


def _lines(found: list[Difference]) -> list[str]:
    lines = [f"{one}\n" for one in found[:MOST_LINES]]
    return lines if len(found) <= MOST_LINES else [*lines, f"and {len(found) - MOST_LINES:,} more\n"]
