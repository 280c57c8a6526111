"""The exit statuses of every command, what each says there, and what to do next: `endings_of("audit")`."""

from __future__ import annotations

from typing import NamedTuple

from ckdiff.errors import INTERRUPTED, ExitStatus


class Ending(NamedTuple):
    """One way in which a command ends: the status, when that is, and what to do then."""

    status: int
    when: str
    then: str


OK, DIFFERS, INCONCLUSIVE = ExitStatus.OK, ExitStatus.DIFFERS, ExitStatus.INCONCLUSIVE

NOT_EVIDENCE = "Never read it as nothing left."

ENDINGS: dict[str, tuple[Ending, ...]] = {
    "compare": (
        Ending(OK, "compared", "Read what moved; `ckdiff probe` says where the effect lives."),
        Ending(
            DIFFERS,
            "the two differ, and `--exit-code` was given",
            "Where they should be the same, look at the tensors at the top of the table.",
        ),
        Ending(
            INCONCLUSIVE,
            "no tensor is in both",
            "Check that the two belong together; `ckdiff inspect` lists what each holds.",
        ),
    ),
    "probe": (
        Ending(OK, "measured, and every control passed", "Read the curves; `ckdiff gate ckdiff.h5` judges."),
        Ending(
            INCONCLUSIVE,
            "the two models do not differ on these questions, a model computes NaN, or a control failed",
            f"Ask questions that the unlearned model no longer answers, or take another `--dtype`. {NOT_EVIDENCE}",
        ),
    ),
    "behave": (
        Ending(OK, "both were asked", "Read the answers side by side; `ckdiff attack` asks whether they come back."),
        Ending(
            INCONCLUSIVE,
            "nothing was measured, or a model computes NaN",
            "Give `--questions`, or take another `--dtype`.",
        ),
    ),
    "attack": (
        Ending(OK, "measured, whatever came back", "Read what came back; `ckdiff gate ckdiff.h5` judges."),
        Ending(
            INCONCLUSIVE,
            "an attack was not measured, or could have shown nothing with these questions",
            f"Ask more facts, or do what the line on stderr says. {NOT_EVIDENCE}",
        ),
    ),
    "depth": (
        Ending(
            OK,
            "measured",
            "Near 0 the unlearned model still carries all of it, near 1 it is as ignorant as the reference.",
        ),
        Ending(
            INCONCLUSIVE,
            "no question tells base from reference, the reference gives most answers itself, or a model computes NaN",
            "Take a reference that never knew, and questions that the base answers.",
        ),
    ),
    "discover": (
        Ending(OK, "something stands out above noise", "Ask about it: `--write FILE`, then `ckdiff probe` or `audit`."),
        Ending(
            INCONCLUSIVE,
            "nothing stands out above noise, everything is lost, or a model computes NaN",
            f"Give more `--texts`, or `--candidates` that you suspect. {NOT_EVIDENCE}",
        ),
    ),
    "audit": (
        Ending(
            OK, "the policy's gate passed", "Release as far as the policy goes, and sign the report: `ckdiff attest`."
        ),
        Ending(
            DIFFERS, "the gate failed", "Do not release. The failed checks are named; unlearn anew, by other means."
        ),
        Ending(
            INCONCLUSIVE,
            "too little was measured for what the policy asks",
            f"Measure what is named as lacking, by the command beside it, then `ckdiff gate`. {NOT_EVIDENCE}",
        ),
    ),
    "gate": (
        Ending(OK, "the gate passed", "Release as far as the policy goes, and sign the report: `ckdiff attest`."),
        Ending(DIFFERS, "the gate failed", "Do not release. The failed checks are named."),
        Ending(
            INCONCLUSIVE,
            "too little was measured for what the policy asks",
            f"Measure what is named as lacking, by the command beside it. {NOT_EVIDENCE}",
        ),
    ),
    "attest": (Ending(OK, "signed", "Keep the envelope beside the report, and the public key elsewhere."),),
    "verify": (
        Ending(
            OK,
            "verified; without `--key` consistent, origin unproven",
            "Trust the report as far as the signer. The last line ends with what its gate said.",
        ),
        Ending(
            DIFFERS,
            "something differs, or the signature is not of this file; with `--require-passed` also: the gate failed",
            "Do not use the report; ask its signer. Where it is verified, and the gate failed: do not release.",
        ),
        Ending(
            INCONCLUSIVE,
            "the report holds nothing to check, or was not measured as the policy says; with `--require-passed` also:"
            " the gate was inconclusive, nothing was judged, or no `--policy` was given and the one that passed asks"
            " nothing about the knowledge",
            "Measure as the policy says: `ckdiff audit --policy`; name the policy that counts: `--policy`.",
        ),
    ),
    "show": (Ending(OK, "printed", ""),),
    "figure": (Ending(OK, "drawn", ""),),
    "html": (Ending(OK, "written", ""),),
    "inspect": (Ending(OK, "listed", ""),),
    "campaign": (
        Ending(OK, "every job is done", "`ckdiff gather` puts the results together."),
        Ending(
            INCONCLUSIVE, "jobs have no result", "The same command runs what is left; `--retry` runs failed ones again."
        ),
    ),
    "gather": (
        Ending(OK, "every gate passed", "Read the averages: `ckdiff html`."),
        Ending(DIFFERS, "a gate failed", "The pairs and the checks are named."),
        Ending(INCONCLUSIVE, "jobs have no result, or no gate says anything", "Run what is left: `ckdiff campaign`."),
    ),
    "unlearn": (
        Ending(OK, "trained and saved", "Audit what was saved: `ckdiff audit`."),
        Ending(
            INCONCLUSIVE,
            "the training diverged, or what was saved is the base",
            "Lower `--lr` where it diverged; else raise it, or take more steps.",
        ),
    ),
    "corpus": (
        Ending(OK, "texts were found", "Give them to `ckdiff unlearn`."),
        Ending(
            INCONCLUSIVE,
            "the corpus does not speak of the concept",
            "Look for it in another corpus, or in other words.",
        ),
    ),
    "demo": (
        Ending(
            OK,
            "made, measured and shown; with `--gone`: and the gate passed",
            "Do the same with a pair of your own: `ckdiff audit`.",
        ),
        Ending(DIFFERS, "with `--gone`: the gate failed", "Another `--seed` makes other models."),
        Ending(INCONCLUSIVE, "with `--gone`: the gate lacks evidence", "Another `--seed` makes other models."),
    ),
}
"""By command: how it ends when it comes to an end."""


def endings_of(command: str, resumes: bool) -> tuple[Ending, ...]:
    """Every way in which a command ends.

    Args:
        command: one of `commands.COMMANDS`.
        resumes: whether it has `--resume`.
    """
    again = "The same command with `--resume` goes on." if resumes else "Start it again; what was there is as it was."
    again = "The same command goes on." if command == "campaign" else again
    return (
        *(one for one in ENDINGS[command] if one.status < ExitStatus.USAGE),
        Ending(
            ExitStatus.USAGE,
            "wrong usage, or an input that cannot be used",
            "Do what the line on stderr says: it names file, tensor and remedy.",
        ),
        *(one for one in ENDINGS[command] if one.status > ExitStatus.USAGE),
        Ending(ExitStatus.BUG, "a bug in ckdiff", "Report it with the lines on stderr."),
        Ending(INTERRUPTED, "Ctrl-C, or SIGTERM", again),
    )
