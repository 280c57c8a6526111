"""`ckdiff verify`: a report is held against everything that it rests on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ckdiff.calls.attacking import REFERENCE
from ckdiff.calls.specs import ADAPTER_BASE
from ckdiff.cli.console import inconclusive, remark, write
from ckdiff.cli.options import BASE, BASE_KEY, KEY, POLICY, QUIET, REPORT, UNLEARNED, UNLEARNED_KEY
from ckdiff.errors import ExitStatus
from ckdiff.options import CONCEPT, QUESTIONS, Option
from ckdiff.version import __version__

if TYPE_CHECKING:
    from ckdiff.audit.models.model import Signed
    from ckdiff.audit.verify.differences import Difference
    from ckdiff.audit.verify.verify import Outcome


MOST_LINES = 200
"""Differences that are printed, one a line; more are counted."""


ASKED_FOR = "The file of the target questions: are they the report's, and its facts those of the file?"
NEVER_KNEW = "The model that never knew: are its files those of the report?"
REQUIRE_PASSED = Option(
    "--require-passed",
    "End in 1 where the report's gate failed, in 3 where it did not pass; without --policy also where it passed by"
    " one that asks nothing about the knowledge.",
)
ATTESTATION = Option("--attestation", "The envelope; else REPORT.intoto.json. Needs --key.")


def verify(
    report: Annotated[Path, REPORT],
    base: Annotated[str | None, BASE] = None,
    unlearned: Annotated[str | None, UNLEARNED] = None,
    reference: Annotated[str | None, REFERENCE.but(NEVER_KNEW, "")] = None,
    key: Annotated[Path | None, KEY.but("The public key in PEM of whoever must have signed.")] = None,
    attestation: Annotated[Path | None, ATTESTATION] = None,
    policy: Annotated[Path | None, POLICY.but("The policy that the report must have been judged by.", "")] = None,
    adapter_base: Annotated[str | None, ADAPTER_BASE] = None,
    base_key: Annotated[Path | None, BASE_KEY] = None,
    unlearned_key: Annotated[Path | None, UNLEARNED_KEY] = None,
    questions: Annotated[Path | None, QUESTIONS.but(ASKED_FOR, "")] = None,
    concept: Annotated[str | None, CONCEPT.but("Takes from --questions what is about one concept.", "")] = None,
    require_passed: Annotated[bool, REQUIRE_PASSED] = False,
    quiet: Annotated[bool, QUIET] = False,
) -> None:
    """Compute a report's numbers, digests and verdict again, check its signature, and say what differs."""
    from ckdiff.audit.verify.verify import sidecar
    from ckdiff.calls.verify import verify as run

    keys = base_key, unlearned_key
    outcome = run(report, base, unlearned, key, attestation, policy, adapter_base, *keys, questions, concept, reference)
    if key is None and sidecar(report).exists():
        remark(f"{sidecar(report)}: not looked at; --key FILE checks its signature", quiet)
    if hint := _hint(outcome):
        remark(hint, quiet)
    write(_text(report, outcome))
    status = _status(outcome, require_passed)
    if status is ExitStatus.OK and require_passed and policy is None and (unasked := _unasked(outcome)):
        raise typer.Exit(inconclusive(unasked))
    raise typer.Exit(status)


AGAIN = "`ckdiff gate REPORT --policy FILE --save` judges it by that one"
INTERVALS = ("_low", "_high", "/settings/bootstrap")
"""How the names of an interval's ends end, and of the method behind them."""


def _hint(outcome: Outcome) -> str:
    """The hint that another version of ckdiff, not an edit, may be behind differences; or ""."""
    from ckdiff.audit.verify.report import OTHER_POLICY
    from ckdiff.untrusted import printable

    found = outcome.differences.found
    if not found:
        return ""
    if any(one.where == OTHER_POLICY for one in found):
        gate = None if outcome.verdict is None else outcome.verdict.gate
        judged = "was judged by no policy" if gate is None else f"was judged by the policy {printable(gate.source)}"
        return f"it {judged}, not by the one given, which alone is no sign of an edit: {AGAIN}"
    if outcome.writer not in ("", __version__):
        return (
            f"written by ckdiff {printable(outcome.writer)}, this is {__version__}: its rules and intervals may differ"
        )
    if all(one.where.partition("[")[0].endswith(INTERVALS) for one in found):
        return (
            "intervals alone differ: a ckdiff with other intervals may have made them; measure again, or ask that one"
        )
    return ""


def _status(outcome: Outcome, require_passed: bool) -> ExitStatus:
    from ckdiff.report.words.verdict import exit_status

    if outcome.differences.found:
        return ExitStatus.DIFFERS
    if outcome.empty or outcome.otherwise:
        return ExitStatus.INCONCLUSIVE
    return exit_status(outcome.verdict) if require_passed else ExitStatus.OK


def _unasked(outcome: Outcome) -> str:
    """Why a gate that passed is no pass by itself: whoever judged the report chose what it asks; or ""."""
    from ckdiff.report.words.gates import passed_unasked
    from ckdiff.untrusted import printable

    found = outcome.verdict
    if found is None or found.gate is None or not passed_unasked(found):
        return ""
    return (
        f"the gate passed by a policy ({printable(found.gate.source)}) that does not ask what became of the knowledge;"
        " name the policy that counts: --policy default, or that file"
    )


def _text(report: Path, outcome: Outcome) -> str:
    """The differences, and the outcome as the last line; "verified" only where a key has signed this very file."""
    from ckdiff.report.words.gates import gate_text
    from ckdiff.report.words.numbers import count_of
    from ckdiff.untrusted import printable

    found, name = outcome.differences.found, printable(report)
    if found:
        return "".join(_lines(found)) + f"differs: {name}: {count_of(len(found), 'difference')}\n"
    if outcome.empty:
        return f"inconclusive: {name}: nothing to check, the report holds no measurement and no verdict\n"
    if outcome.otherwise:
        lines = [f"{one.name}: {printable(one.text)}\n" for one in outcome.otherwise]
        return f"{''.join(lines)}inconclusive: {name}: its figures agree, but it was not measured as the policy says\n"
    done = [f"{outcome.differences.compared:,} figures recomputed"]
    done += [f"files of {' and '.join(outcome.files)} hashed"] if outcome.files else []
    done += [_model(side, signed) for side, signed in outcome.models.items()]
    # A report that says that its gate failed is as genuine as any other: whoever reads this line must see both.
    gate = gate_text(outcome.verdict)
    if outcome.keyid is None:
        return f"consistent, origin unproven: {name}: {', '.join(done)}, no signature checked; {gate}\n"
    return f"verified: {name}: {', '.join(done)}, signed by {printable(outcome.keyid)}; {gate}\n"


def _model(side: str, signed: Signed) -> str:
    """The words for a checkpoint that is what its `model.sig` lists."""
    from ckdiff.untrusted import printable

    who = f"signed by {printable(signed.keyid)}" if signed.keyid else f"signer unproven (--{side}-key)"
    return f"{side} as its {signed.path.name} lists it, {who}"


def _lines(found: list[Difference]) -> list[str]:
    lines = [f"{one}\n" for one in found[:MOST_LINES]]
    return lines if len(found) <= MOST_LINES else [*lines, f"and {len(found) - MOST_LINES:,} more\n"]
