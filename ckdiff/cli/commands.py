"""The commands: under which heading `ckdiff --help` lists each, what it says there, and an example of its use.

A command is a function of its own name in a module of its own name, and a row here.
"""

from __future__ import annotations

from typing import NamedTuple

MEASURE, DECIDE, READ, MANY, MAKE = "Measure", "Decide", "Read", "Many pairs", "Make pairs"


class Command(NamedTuple):
    """A row of the table.

    Attributes:
        panel: the heading.
        gist: one line, that of the function too: the list of commands is shown without importing any.
        example: a line that works, once the names in capitals are replaced.
    """

    panel: str
    gist: str
    example: str


PAIR = "BASE UNLEARNED --questions QUESTIONS.jsonl"

COMMANDS = {
    "compare": Command(
        MEASURE, "What moved: parameter drift per component, layer, tensor and neuron.", "ckdiff compare BASE UNLEARNED"
    ),
    "probe": Command(
        MEASURE,
        "Where the effect lives: put base states back, a few layers at a time, and see how much returns.",
        f"ckdiff probe {PAIR} --mode coeff,attn --variant open",
    ),
    "behave": Command(
        MEASURE,
        "What both models say: target and unrelated questions, multiple choice and neutral text.",
        f"ckdiff behave {PAIR} --unrelated OTHERS.jsonl",
    ),
    "attack": Command(
        MEASURE,
        "Does it come back: other words, samples, coarser weights, a few steps of training, without the base's help.",
        f"ckdiff attack {PAIR} --tier 0,1",
    ),
    "depth": Command(
        MEASURE,
        "How deep it goes: what the unlearned model still carries of what a model that never knew lacks.",
        f"ckdiff depth {PAIR} --reference NEVER_KNEW --reference-kind retrained",
    ),
    "discover": Command(
        MEASURE,
        "What was unlearned, when nobody says: lost words and topics above noise, and what both models say of them.",
        "ckdiff discover BASE UNLEARNED --write questions.jsonl",
    ),
    "audit": Command(
        DECIDE,
        "One verdict on a pair: compare, behave, probe, attack, judge; the exit status is the gate's.",
        f"ckdiff audit {PAIR} --unrelated OTHERS.jsonl --policy POLICY.toml",
    ),
    "gate": Command(
        DECIDE,
        "Judge a report that is there, without models; the exit status is that of the policy's gate.",
        "ckdiff gate ckdiff.h5 --policy POLICY.toml --format junit",
    ),
    "attest": Command(
        DECIDE,
        "Sign a report: an in-toto test result about both checkpoints, in a DSSE envelope beside it.",
        "ckdiff attest ckdiff.h5 --key KEY.pem",
    ),
    "verify": Command(
        DECIDE,
        "Compute a report's numbers, digests and verdict again, check its signature, and say what differs.",
        "ckdiff verify ckdiff.h5 --key KEY.pem.pub --base BASE --unlearned UNLEARNED",
    ),
    "show": Command(
        READ,
        "Show a report again, as it was printed or in another format.",
        "ckdiff show ckdiff.h5 --section behaviour --show-questions 5",
    ),
    "figure": Command(
        READ,
        "Draw a probe (score against layer, with intervals), behaviour, attacks, lost words, or a campaign's averages.",
        "ckdiff figure ckdiff.h5 --kind probe --output probe.svg",
    ),
    "html": Command(
        READ,
        "Make a page of a report: one HTML file without network, for screen, phone and print.",
        "ckdiff html ckdiff.h5 --output page.html",
    ),
    "inspect": Command(
        READ, "What a checkpoint holds, by component; reads headers only.", "ckdiff inspect org/model@revision"
    ),
    "campaign": Command(
        MANY,
        "Many pairs by one plan: compare, behave, probe or audit each, on one machine or on many.",
        "ckdiff campaign PLAN.toml --workers 4",
    ),
    "gather": Command(
        MANY,
        "One report of a campaign: every pair and concept, averages over concepts, and the worst of the gates.",
        "ckdiff gather RESULTS --output campaign.h5",
    ),
    "unlearn": Command(
        MAKE,
        "Make a pair: unlearn a concept from BASE, measuring what the saved checkpoint still answers.",
        "ckdiff unlearn BASE --method npo_kl --forget FORGET.jsonl --retain RETAIN.jsonl --output PAIR",
    ),
    "corpus": Command(
        MAKE,
        "Pick from a pretraining corpus the texts that speak of a concept, to unlearn it.",
        "ckdiff corpus CORPUS.jsonl.gz --concept NAME --output FORGET.jsonl",
    ),
    "demo": Command(
        MAKE,
        "See all of it: make a tiny model that knows an invented world, unlearn one town, look what happened.",
        "ckdiff demo pair",
    ),
}
