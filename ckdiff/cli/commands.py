"""The commands: under which heading `ckdiff --help` lists each, and an example of its use.

A command is a function of its own name in a module of its own name, and a row here.
"""

from __future__ import annotations

from typing import NamedTuple

MEASURE, DECIDE, READ, MANY, MAKE = "Measure", "Decide", "Read", "Many pairs", "Make pairs"


class Command(NamedTuple):
    """A row of the table.

    Attributes:
        panel: the heading.
        example: a line that works, once the names in capitals are replaced.
    """

    panel: str
    example: str


PAIR = "BASE UNLEARNED --questions QUESTIONS.jsonl"

COMMANDS = {
    "compare": Command(MEASURE, "ckdiff compare BASE UNLEARNED"),
    "probe": Command(MEASURE, f"ckdiff probe {PAIR} --mode coeff,attn --variant open"),
    "behave": Command(MEASURE, f"ckdiff behave {PAIR} --unrelated OTHERS.jsonl"),
    "attack": Command(MEASURE, f"ckdiff attack {PAIR} --tier 0,1"),
    "depth": Command(MEASURE, f"ckdiff depth {PAIR} --reference NEVER_KNEW --reference-kind retrained"),
    "audit": Command(DECIDE, f"ckdiff audit {PAIR} --unrelated OTHERS.jsonl --policy POLICY.toml"),
    "gate": Command(DECIDE, "ckdiff gate ckdiff.h5 --policy POLICY.toml --format junit"),
    "attest": Command(DECIDE, "ckdiff attest ckdiff.h5 --key KEY.pem"),
    "verify": Command(DECIDE, "ckdiff verify ckdiff.h5 --key KEY.pem.pub --base BASE --unlearned UNLEARNED"),
    "show": Command(READ, "ckdiff show ckdiff.h5 --section behaviour --show-questions 5"),
    "figure": Command(READ, "ckdiff figure ckdiff.h5 --kind probe --output probe.svg"),
    "html": Command(READ, "ckdiff html ckdiff.h5 --output page.html"),
    "inspect": Command(READ, "ckdiff inspect org/model@revision"),
    "campaign": Command(MANY, "ckdiff campaign PLAN.toml --workers 4"),
    "gather": Command(MANY, "ckdiff gather RESULTS --output campaign.h5"),
    "unlearn": Command(
        MAKE, "ckdiff unlearn BASE --method npo_kl --forget FORGET.jsonl --retain RETAIN.jsonl --output PAIR"
    ),
    "corpus": Command(MAKE, "ckdiff corpus CORPUS.jsonl.gz --concept NAME --output FORGET.jsonl"),
    "demo": Command(MAKE, "ckdiff demo pair"),
}
