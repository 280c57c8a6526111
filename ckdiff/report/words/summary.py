"""A verdict on one screen: gate, finding, what else changed, which checks failed, what to do and what to type next.

Everything that comes back is printable.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, NamedTuple

from ckdiff.report.words import verdict as words
from ckdiff.report.words.behaviour import rank_by_change
from ckdiff.report.words.commands import commands_in, complete_command, complete_text
from ckdiff.report.words.numbers import count_of
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckdiff.report.schema.report import Report
    from ckdiff.report.schema.verdict import Outcome, Verdict

SENTENCE = 130
"""Characters of a sentence: two lines of a narrow terminal."""
SHOWN_ANSWERS = 3
SHOWN_CHECKS = 4
CHECKED: tuple[tuple[str, Outcome], ...] = (("failed", "failed"), ("lacking", "inconclusive"))


class Answer(NamedTuple):
    """A question with what both models say."""

    question: str
    base: str
    unlearned: str


def summary_facts(report: Report, found: Verdict, place: str, questions: str = "") -> Iterator[tuple[str, str]]:
    """The facts that a reader needs first, as names and short sentences."""
    if where := words.where_text(found):
        yield "where", f"{where}; {words.explained_text(found)} of the effect"
    yield "knowledge", cut(words.knowledge_text(found))
    if other := unrelated_text(report):
        yield "unrelated", other
    for name, outcome in CHECKED:
        if checks := checks_text(found, outcome):
            yield name, checks
    action = words.action_text(found)
    # A command that is cut cannot be typed.
    yield "to do", complete_text(action, report, place, questions) if "`" in action else cut(action, 2 * SENTENCE)


def unrelated_text(report: Report) -> str:
    """How many unrelated answers changed as well; empty where none was asked for."""
    sets = [] if report.behaviour is None else report.behaviour.answers
    rows = [row for one in sets if one.name == "unrelated" for row in one.questions]
    changed = sum(not row.exact for row in rows)
    return f"{changed} of {count_of(len(rows), 'unrelated answer')} changed as well" if rows else ""


def checks_text(found: Verdict, outcome: Outcome) -> str:
    """The names of the checks of a gate that came to this; the first ones, where there are many."""
    checks = [] if found.gate is None else [one for one in found.gate.checks if one.outcome == outcome]
    if len(checks) == 1:
        return cut(f"{printable(checks[0].name)}: {printable(checks[0].text)}")
    names = [printable(one.name) for one in checks]
    more = f" and {len(names) - SHOWN_CHECKS} more" if len(names) > SHOWN_CHECKS else ""
    return cut(f"{', '.join(names[:SHOWN_CHECKS])}{more}")


def summary_answers(report: Report) -> list[Answer]:
    """The target answers that changed most, each on one line."""
    sets = [] if report.behaviour is None else report.behaviour.answers
    rows = [row for one in sets if one.name == "target" for row in rank_by_change(one, SHOWN_ANSWERS)]
    return [Answer(*map(_line, (row.text, row.answer_base, row.answer_unlearned))) for row in rows]


def next_commands(report: Report, found: Verdict, place: str, questions: str = "") -> list[str]:
    """Two commands that lead on from a verdict: what would measure what is lacking, and where the rest is read."""
    lacking = [complete_command(command, report, place, questions) for command in commands_in(found)[:1]]
    name = printable(shlex.quote(place))
    return [*lacking, f"ckdiff show {name} --section verdict", f"ckdiff html {name} --output page.html"][:2]


def cut(text: str, length: int = SENTENCE) -> str:
    """The beginning of a sentence, cut between two words.

    >>> cut("one two three", 9), cut("one two", 9)
    ('one two …', 'one two')
    """
    return text if len(text) <= length else f"{text[: length - 1].rpartition(' ')[0]} …"


def _line(text: str) -> str:
    return printable(" ".join(text.split()))
