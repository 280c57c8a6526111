"""A verdict on one screen: gate, one plain sentence, finding, what else changed, what failed, what to do and to type.

Everything that comes back is printable. What is too long for its line is left out by whole clauses, and is read in
full from what the last command prints.
"""

from __future__ import annotations

import math
import re
import shlex
from pathlib import PurePath
from typing import TYPE_CHECKING, NamedTuple

from ckdiff.options import UNCHATTED, USUAL_REPORT
from ckdiff.report.words import verdict as words
from ckdiff.report.words.asked import is_damaged, lacks_facts
from ckdiff.report.words.behaviour import rank_by_change
from ckdiff.report.words.commands import EXCHANGED, NOTHING, TURNED, commands_in, complete_command, is_turned
from ckdiff.report.words.discovery import elsewhere
from ckdiff.report.words.gates import OWN, check_subject, passed_unasked
from ckdiff.report.words.known import plainly
from ckdiff.report.words.names import bound_title
from ckdiff.report.words.numbers import count_of, percent
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ckdiff.report.schema.behaviour import AnswerRecord
    from ckdiff.report.schema.discovery import DiscoveryReport
    from ckdiff.report.schema.report import Report
    from ckdiff.report.schema.verdict import Knowledge, Label, Outcome, Verdict

NARROW = 58
"""Characters after which "the effect" goes into a second line of a narrow terminal."""
ROOMS = (260, 195, 130, 66)
"""Characters of a sentence: four lines of a narrow terminal down to one."""
NAMED = 40
"""Characters of the name of a check."""
SHOWN_ANSWERS = 3
SHOWN_CHECKS = 4
CHECKED: tuple[tuple[str, Outcome], ...] = (("failed", "failed"), ("lacking", "inconclusive"))
NEW = re.compile(r"new(?:-([0-9]{1,4}))?\.h5")
"""Reports of later models."""
CLAUSE = re.compile(r"(?<=[.;:])\s+")
TYPED = re.compile(r" \(`[^`]*`\)|[:,]? `ckdiff [^`]*`")
"""Commands within a sentence; on one screen they stand below it."""

KNOWN: dict[Knowledge, str] = {
    "still there": "The model still knows what it was to unlearn",
    "not recovered": "No attack got what was to be unlearned out of the model",
    "gone": "What was to be unlearned is gone, as far as attacks can tell beside a model that never knew it",
    "never there": "There was nothing to unlearn: the base does not know it either",
}
"""What happened, for somebody who decides and measures nothing; where the knowledge is unknown, by the label."""
SAME: dict[Label, str] = {
    "identical": "The two checkpoints are the same, so that nothing was unlearned",
    "no effect on these questions": "The model answers as before, so that these questions show no unlearning",
}
RELEASE: dict[Outcome | None, str] = {
    "passed": "as far as the policy asks, it may be released",
    "failed": "do not release it",
    "inconclusive": "do not release it yet",
    None: "no policy was asked whether it may be released",
}


class Answer(NamedTuple):
    """A question with what both models say."""

    question: str
    base: str
    unlearned: str


def in_short(report: Report, found: Verdict) -> str:
    """One plain sentence on top: what happened, may it be released, and how sure that is."""
    happened, release = _happened(report, found), _release(found)
    release = f" {release.capitalize()}" if happened.endswith("?") else f": {release}"
    return f"{happened}{release}. {_sure(report, found)}"


def _release(found: Verdict) -> str:
    if passed_unasked(found) and found.knowledge != "gone":
        return "the policy does not ask about that, and passed"
    return RELEASE[words.gate_outcome(found)]


def _happened(report: Report, found: Verdict) -> str:
    if TURNED in commands_in(found):
        return "The two checkpoints were probably swapped"
    if EXCHANGED in commands_in(found):
        return "The unrelated answers are lost and the asked ones are not: are --questions and --unrelated swapped?"
    rows = answers_of(report, "target")
    other = len(rows) - sum(row.exact for row in rows)
    unknown = f"{other} of {count_of(len(rows), 'answer')} changed, if only by a word, and "
    unknown += "whether the model still knows what it was to unlearn was not shown"
    if not rows:
        unknown = "What became of the knowledge was not measured"
    return KNOWN.get(found.knowledge, SAME.get(found.label, unknown))


def _sure(report: Report, found: Verdict) -> str:
    if found.label == "identical":
        return "Every stored value was compared."
    if EXCHANGED in commands_in(found):
        return "If they are, nothing here is about what was to be unlearned."
    if found.knowledge == "still there":
        seen = plainly(found, report.attack)
        return f"{seen}; more questions will not change that." if seen else "More questions will not change it."
    if math.isnan(found.detectable):
        return _unasked(report)
    asked = len(answers_of(report, "target"))
    with_so_many = f"With {count_of(asked, 'question')}" if asked else "With so many questions"
    return f"{with_so_many}, what shows in fewer than {percent(found.detectable)} of such answers can go unseen."


def _unasked(report: Report) -> str:
    """How sure that is, where no answers were compared: what attacks asked about, or that nothing was asked."""
    if report.attack is None:
        return "Nothing was asked, so that nothing is sure."
    facts = count_of(report.attack.clusters, "fact")
    return f"Attacks asked about {facts}; what both models say when they are simply asked was not compared."


def answers_of(report: Report, name: str) -> list[AnswerRecord]:
    """The open questions of a set with what both models say; none where nothing was asked."""
    sets = () if report.behaviour is None else report.behaviour.answers
    return [row for one in sets if one.name == name for row in one.questions]


def summary_facts(
    report: Report, found: Verdict, place: str, typed: Mapping[str, str] = NOTHING, room: int = ROOMS[0]
) -> Iterator[tuple[str, str]]:
    """The facts that a reader needs first, as names and short sentences of so many characters.

    Which pair it is stands there where nobody has just typed it.
    """
    if "BASE" not in typed:
        yield "about", bound_title(report.provenance)
    if UNCHATTED in notes_of(report):
        yield "asked", UNCHATTED
    if where := words.where_text(found):
        share = f"{where}; {words.explained_text(found)} of"
        yield "where", f"{share} the effect" if len(share) < NARROW or room == ROOMS[0] else f"{share} it"
    yield "knowledge", shorten(f"{found.knowledge}. {TYPED.sub('', printable(found.knowledge_reason))}", room)
    if other := unrelated_text(report):
        yield "unrelated", other
    if report.discovery is not None:
        yield "elsewhere", shorten(lost_elsewhere(report, report.discovery), room)
    for name, outcome in CHECKED:
        if checks := checks_text(found, outcome, room):
            yield name, checks
    # A command that is cut cannot be typed: it stands below.
    yield "to do", shorten(TYPED.sub("", words.advice_text(found)), max(room, ROOMS[-2]))


def notes_of(report: Report) -> list[str]:
    """What was noted of how the two were asked."""
    parts = (report.behaviour, report.probe, report.attack)
    return [note for part in parts if part is not None for note in part.notes]


def unrelated_text(report: Report) -> str:
    """How many unrelated answers changed as well; empty where none was asked for."""
    rows = answers_of(report, "unrelated")
    changed = sum(not row.exact for row in rows)
    return f"{changed} of {count_of(len(rows), 'unrelated answer')} changed as well" if rows else ""


def lost_elsewhere(report: Report, found: DiscoveryReport) -> str:
    """What stands out among what was lost, beside what was asked about."""
    rows = answers_of(report, "target")
    return elsewhere(found, [text for row in rows for text in (row.text, row.answer_base, row.answer_given)])


def checks_text(found: Verdict, outcome: Outcome, room: int = ROOMS[0]) -> str:
    """What the checks of a gate are about that came to this; the first ones, where there are many."""
    checks = [] if found.gate is None else [one for one in found.gate.checks if one.outcome == outcome]
    if len(checks) == 1:
        # The reason of a statement about the knowledge stands beside it.
        text = printable(checks[0].text).removesuffix(f": {printable(found.knowledge_reason)}")
        name = f" ({cut(printable(checks[0].name), NAMED)})"
        return f"{shorten(TYPED.sub('', text).rstrip('.'), max(0, room - len(name)))}{name}"
    names = list(dict.fromkeys(check_subject(one.name) for one in checks))
    more = f" and {len(names) - SHOWN_CHECKS} more" if len(names) > SHOWN_CHECKS else ""
    return cut(f"{', '.join(names[:SHOWN_CHECKS])}{more}", room)


def summary_answers(report: Report) -> list[Answer]:
    """The target answers that changed most, each on one line."""
    sets = [] if report.behaviour is None else report.behaviour.answers
    rows = [row for one in sets if one.name == "target" for row in rank_by_change(one, SHOWN_ANSWERS)]
    return [Answer(*map(_line, (row.text, row.answer_base, row.answer_unlearned))) for row in rows]


def next_commands(report: Report, found: Verdict, place: str, typed: Mapping[str, str] = NOTHING) -> list[str]:
    """Two commands that lead on from a verdict: what would measure what is lacking, and where the rest is read.

    Where more facts have to be asked first, attacks on the same ones would show nothing. Of a model that still knows
    nothing more is measured: what came back is looked at, and the next model audited.
    """
    name = printable(shlex.quote(place))
    show, page = f"ckdiff show {name} --section verdict", f"ckdiff html {name} --output page.html"
    if again := again_command(report, found, place, typed):
        return [page, again]
    few = lacks_facts(found) and not is_turned(found)
    wanted = () if few else commands_in(found)[:1]
    return [*(complete_command(command, report, place, typed) for command in wanted), show, page][:2]


def again_command(report: Report, found: Verdict, place: str = USUAL_REPORT, typed: Mapping[str, str] = NOTHING) -> str:
    """The audit of the next model, where this one still knows or lost too much; empty where something else is first."""
    if not (found.knowledge == "still there" or is_damaged(found)) or found.label == "identical" or is_turned(found):
        return ""
    command = complete_command("ckdiff audit BASE NEW --questions FILE", report, next_report(place), typed)
    source = "" if found.gate is None else printable(found.gate.source).removeprefix(OWN)
    if "--policy" in typed or source in ("", "default", OWN.rstrip(", ")):
        return command
    return f"{command} --policy {shlex.quote(source)}"


def next_report(place: str) -> str:
    """A file for the report of the next model, beside that of this one: no report takes two pairs.

    >>> next_report("ckdiff.h5"), next_report("out/new.h5"), next_report("out/new-2.h5")
    ('new.h5', 'out/new-2.h5', 'out/new-3.h5')
    """
    path = PurePath(place)
    earlier = NEW.fullmatch(path.name)
    return str(path.with_name("new.h5" if earlier is None else f"new-{int(earlier[1] or 1) + 1}.h5"))


def cut(text: str, length: int) -> str:
    """The beginning of a sentence, cut between two words.

    >>> cut("one two three", 9), cut("one two", 9)
    ('one two …', 'one two')
    """
    return text if len(text) <= length else f"{text[: length - 1].rpartition(' ')[0]} …"


def shorten(text: str, length: int) -> str:
    """As many whole clauses of a text as have room; where not even the first two have, its beginning (`cut`).

    >>> shorten("gone. No attack opens it; nor does time. More", 35), shorten("gone. No attack opens it", 20)
    ('gone. No attack opens it', 'gone. No attack …')
    """
    if len(text) <= length:
        return text
    ends = [match.start() for match in CLAUSE.finditer(text) if match.start() <= length]
    return text[: ends[-1]].rstrip(";:") if len(ends) > 1 else cut(text, length)


def _line(text: str) -> str:
    return printable(" ".join(text.split()))
