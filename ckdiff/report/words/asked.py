"""The sets of questions and texts of a report, how many more a gate asks for, and what no more questions mend."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckdiff.report.schema.report import Report
    from ckdiff.report.schema.verdict import GateCheck, Verdict

SETTLES = re.compile(r"about ([1-9]\d{0,5}) would settle it \((--[a-z]+) FILE\)$")
"""How a check ends that so few questions cannot tell."""

WANTED = re.compile(r", ([1-9]\d{0,5}) are wanted \((--[a-z]+) FILE")
"""How a verdict says how many facts it takes to say more of the knowledge."""

ANOTHER = "(--reference MODEL)"
"""How a verdict asks for another model in the place of a reference that cannot count as one that never knew."""

FEWEST = {"require.questions": "--questions", "require.unrelated": "--unrelated"}
"""Checks of how many facts were asked, with the option that asks more."""

DAMAGE = frozenset({"fail.unrelated_bleu_loss", "fail.choices_loss", "fail.neutral_kl"})
"""Checks of what was not to be unlearned: where one fails, the model is to be made anew, and not measured more."""


def question_sets(report: Report) -> Iterator[tuple[str, str, str]]:
    """Every set of questions or texts: what asked it, its digest, and where it came from, as they stand there."""
    if report.probe is not None and "questions_digest" in report.probe.settings:
        settings = report.probe.settings
        yield "probe", settings["questions_digest"], settings.get("questions_source", "")
    if report.behaviour is not None:
        for one in report.behaviour.answers:
            yield f"behaviour/{one.name}", one.digest, one.source
        if report.behaviour.choices is not None:
            yield "behaviour/choices", report.behaviour.choices.digest, report.behaviour.choices.source
        if report.behaviour.neutral is not None:
            yield "behaviour/neutral", report.behaviour.neutral.digest, report.behaviour.neutral.source


def lacks_facts(found: Verdict) -> bool:
    """Whether too few facts were asked for any statement that the knowledge is absent."""
    return any(map(WANTED.search, found.lacking))


def is_doubted(found: Verdict) -> bool:
    """Whether the model that stood beside cannot count as one that never knew; nothing is tried with it again."""
    return any(ANOTHER in text for text in found.lacking)


def is_damaged(found: Verdict) -> bool:
    """Whether a gate failed because more was lost than what was to be unlearned."""
    checks = () if found.gate is None else found.gate.checks
    return any(one.name in DAMAGE and one.outcome == "failed" for one in checks)


def asking_text(found: Verdict) -> str:
    """How many facts would do for every check and statement that too few were asked for, and whether another reference.

    Empty where nothing of both is lacking. Of knowledge that is still there no more facts are asked for: they would not
    change that.
    """
    wanted: dict[str, int] = {}
    said = [(match[2], int(match[1])) for match in map(WANTED.search, found.lacking) if match]
    for option, number in (*said, *(one for check in _lacking(found) for one in _asks(check))):
        wanted[option] = max(number, wanted.get(option, 0))
    asks = " and ".join(f"{number:,} facts ({option} FILE)" for option, number in wanted.items())
    parts = (
        (f"Ask about {asks}.", asks and found.knowledge != "still there"),
        (f"Name another model that never knew it {ANOTHER}.", is_doubted(found)),
    )
    return " ".join(text for text, wanted in parts if wanted)


def _lacking(found: Verdict) -> list[GateCheck]:
    checks = () if found.gate is None else found.gate.checks
    return [one for one in checks if one.outcome == "inconclusive"]


def _asks(check: GateCheck) -> Iterator[tuple[str, int]]:
    if check.name in FEWEST and check.threshold >= 1:
        yield FEWEST[check.name], int(check.threshold)
    if match := SETTLES.search(check.text):
        yield match[2], int(match[1])
