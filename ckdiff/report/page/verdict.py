"""The first part of the page: the verdict and why, what a policy says of it, and the rules that were looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ckdiff.report.page.parts import Part, cut, question_anchor
from ckdiff.report.words.behaviour import rank_numbered
from ckdiff.report.words.intervals import means_text
from ckdiff.report.words.probe import DIRECTIONS, inconclusive
from ckdiff.report.words.summary import SHOWN_ANSWERS, again_command, in_short, unrelated_text
from ckdiff.report.words.verdict import (
    OUTCOME_WORDS,
    back_cells,
    check_cells,
    finding,
    rule_cells,
    rules_that_do_not,
    rules_that_hold,
    share_cells,
    verdict_facts,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ckdiff.report.schema.report import Report
    from ckdiff.report.schema.verdict import Explanation, GateCheck, Outcome, RuleResult, Verdict


SAID_FIRST = ("knowledge", "to do")
"""Facts of a verdict that stand on the first screen."""

SAID = 240
"""Characters of a question or an answer on the first screen."""


class Said(NamedTuple):
    """What both models say to a question, and where on the page the rest of it stands."""

    anchor: str
    question: str
    base: str
    unlearned: str


def show(report: Report) -> Mapping[str, object]:
    """The first screen: a sentence, gate, finding, what to do, what both say; or how to get a verdict."""
    found = report.verdict
    given = {"found": found, "unrelated": unrelated_text(report), "answers": list(_answers(report))}
    if found is None:
        return given | {"warning": inconclusive(report.probe) if report.probe is not None else ""}
    return given | {
        "intervals": "" if report.behaviour is None else means_text(report.behaviour.settings),
        "short": in_short(report, found),
        "again": again_command(report, found),
        "tone": finding(found),
        "outcome": "" if found.gate is None else OUTCOME_WORDS[found.gate.outcome].lower(),
        "failed": _checks(found, "failed"),
        "lacking": _checks(found, "inconclusive"),
    }


def _answers(report: Report) -> Iterator[Said]:
    """The target answers that changed most."""
    sets = report.behaviour.answers if report.behaviour is not None else ()
    for number, row in (found for one in sets if one.name == "target" for found in rank_numbered(one, SHOWN_ANSWERS)):
        texts = (cut(" ".join(text.split()), SAID) for text in (row.answer_base, row.answer_unlearned))
        yield Said(question_anchor("target", 0, number), cut(row.text, SAID) or "(no text)", *texts)


def show_judgement(report: Report) -> Mapping[str, object] | None:
    """Everything that the verdict rests on: why, the checks of the gate, rules and shares."""
    found = report.verdict
    if found is None:
        return None
    order = list(DIRECTIONS)
    shares = sorted(
        found.explanations,
        key=lambda row: (not row.decisive, order.index(row.direction) if row.direction in order else len(order)),
    )
    return {
        "found": found,
        "facts": [(name, cut(words, 2000)) for name, words in verdict_facts(found) if name not in SAID_FIRST],
        "open": _checks(found, "failed") + _checks(found, "inconclusive"),
        "met": _checks(found, "passed"),
        "held": [_rule(one) for one in rules_that_hold(found)],
        "other": [_rule(one) for one in rules_that_do_not(found)],
        "shares": [_share(one) for one in shares],
    }


def _checks(found: Verdict, outcome: Outcome) -> list[tuple[object, ...]]:
    """The checks of the gate that came to this."""
    checks = () if found.gate is None else found.gate.checks
    return [_check(one) for one in checks if one.outcome == outcome]


def _check(one: GateCheck) -> tuple[object, ...]:
    outcome, name, value, threshold, words = check_cells(one)
    return (one.outcome, outcome.lower()), cut(words), value, threshold, cut(name)


def _rule(rule: RuleResult) -> tuple[str, ...]:
    name, value, threshold, words = rule_cells(rule)
    return cut(name), cut(words), value, threshold


def _share(row: Explanation) -> tuple[object, ...]:
    mode, direction, layers, kl, centred = share_cells(row)
    return cut(mode, 80), kl, (row.kl, row.kl_low, row.kl_high), layers, cut(direction, 80), centred, *back_cells(row)


PARTS = (
    Part(10, "verdict", "Verdict", "verdict.html", show),
    Part(16, "judgement", "How it was judged", "judgement.html", show_judgement),
)
