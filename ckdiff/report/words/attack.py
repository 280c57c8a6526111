"""Attacks in words, for every presenter: what came back, in which attack, beside what a model that never knew does."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ckdiff.report.schema.attack import TIERS
from ckdiff.report.words.intervals import OVER_FACTS
from ckdiff.report.words.known import shown_by
from ckdiff.report.words.numbers import UNDEFINED, count_of, percent, with_interval
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ckdiff.report.schema.attack import AttackReport, AttackRow, CodeShare, ReturnedAnswer, TierEvidence
    from ckdiff.report.schema.behaviour import Mean
    from ckdiff.report.schema.verdict import Verdict

NOTHING_ATTACKED = "Nothing was attacked: there is no unlearned model in it"

BY_LAYER = ("lens",)
"""Attacks with a row a layer."""

TIER_HEADS = ("tier", "attacks", "back", "worst by matching", "z", "p", "seen from", "level over reference")

ROW_HEADS = ("attack", "setting", "model", "back", "z", "p", "could show", "level", "recovery", "unrelated")

RETURNED_HEADS = ("attack", "setting", "question", "looked for", "said")

CODE_HEADS = ("quantised", "component", "elements", "changed", "codes that differ", "undone")

UNDONE = 0.5
"""A quantiser that undoes so much of what was changed is said to undo it."""

OTHERWISE = 0.1
"""A component of whose change a quantiser undoes so much more, or less, than of all has a row of its own everywhere."""

LEGEND = (
    "back: facts whose answer came back word for word, of those that this could show of;",
    "z, p: how far true pairs of question and answer lie above random ones; p of a tier pays for its many settings;",
    "could show: the smallest share of the base's own matching that this setting alone would have shown;",
    "level: mean log p a token of what is looked for, in nats, without the end of the text, which the log p of whole",
    "answers counts as well; recovery: share of the gap to the base, for reading only;",
    "unrelated: share of the tokens of the model's own other answers that it still gives first;",
    f"in brackets: {OVER_FACTS}.",
)

TIER_LEGEND = (
    "seen from: the smallest share of the base's own matching that would have been seen, all settings of the tier",
    "paid for; control: what came back of what a suppressed copy of the base had lost; level over reference: the",
    "greatest, in nats a token;",
    f"in brackets: {OVER_FACTS}.",
)


WAYS = {
    "forms": "asked in other words",
    "samples": "in answers drawn at random",
    "quantise": "with rounded weights",
    "prune": "with its smallest weights cut",
    "relearn": "after a few steps of training",
    "ablate": "with one direction taken out of its states",
}
"""By attack that decides: what was done, for somebody who knows no attack by name."""

BORROWED_NOTE = (
    "None of these counts: the base's weights or words were lent (blend, guide), a prompt held a word of the answer, or"
    " the answers were shown to choose from. That says nothing of what the unlearned model knows by itself."
)


MORE = {
    "samples": "sampling",
    "forms": "some other wordings",
    "quantise": "rounded weights",
    "relearn": "a few steps of training",
}
"""By attack: what may bring back more than a greedy answer does."""
NEVER_TRIED = ("other languages", "wordings that nobody tried", "longer training")


def way_text(worst: str, z: float) -> str:
    """An attack with its setting and how far it reached, plain words first.

    >>> way_text("quantise: Q4_0 of GGUF", 3.72), way_text("other: a", 2.0)
    ('with rounded weights (quantise: Q4_0 of GGUF, z 3.7)', 'under attack (other: a, z 2.0)')
    """
    return f"{WAYS.get(worst.partition(':')[0], 'under attack')} ({worst}, z {z:.1f})"


def tier_name(tier: int) -> str:
    """A tier, and what it stands for.

    >>> tier_name(0)
    '0, prompts'
    """
    return f"{tier}, {TIERS[tier]}" if tier in TIERS else str(tier)


def figure(value: float, digits: int = 2) -> str:
    """A figure, or a dash where it is not defined.

    >>> figure(1.234), figure(float("nan")) == UNDEFINED
    ('1.23', True)
    """
    return UNDEFINED if math.isnan(value) else f"{value:.{digits}f}"


def chance(p: float) -> str:
    """A p-value.

    >>> chance(0.00012), chance(0.034)
    ('<0.001', '0.034')
    """
    return UNDEFINED if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def span(found: Mean, digits: int = 2) -> str:
    """A figure with its interval."""
    if math.isnan(found.value):
        return UNDEFINED
    return with_interval(found.value, found.low, found.high, f"{{:.{digits}f}}".format)


def back(returned: int, asked: int) -> str:
    """How many facts came back, of how many."""
    return UNDEFINED if returned < 0 else f"{returned} of {asked}"


def tier_cells(one: TierEvidence) -> tuple[str, ...]:
    """A tier as a row of `TIER_HEADS`."""
    power = "nothing" if math.isnan(one.detectable) else percent(one.detectable)
    if one.control_asked > 0:
        power += f"; control {back(one.control_returned, one.control_asked)}"
    return (
        tier_name(one.tier),
        printable(one.ran.replace(",", ", ")) or "none",
        back(one.returned, one.asked),
        printable(one.worst) or UNDEFINED,
        figure(one.z),
        chance(one.p),
        power,
        span(one.above),
    )


def row_cells(one: AttackRow) -> tuple[str, ...]:
    """An attack as a row of `ROW_HEADS`."""
    setting = f"{one.setting}, step {one.step}" if one.tier == 2 and one.step >= 0 else one.setting
    return (
        printable(one.attack),
        printable(setting) + ("" if one.decides else " (shown)") + (" (wrecked)" if one.wrecked else ""),
        printable(one.side),
        back(one.returned, one.asked),
        figure(one.z),
        chance(one.p),
        UNDEFINED if math.isnan(one.detectable) else percent(one.detectable),
        figure(one.level),
        span(one.recovery),
        figure(one.unrelated),
    )


def measured_rows(found: AttackReport) -> list[AttackRow]:
    """Rows in which something was measured: attack by attack, the unlearned model first; of all layers the best one."""
    order = list(dict.fromkeys(one.attack for one in found.rows))
    rows = [one for one in found.rows if one.returned >= 0]
    for attack, side in dict.fromkeys((one.attack, one.side) for one in rows if one.attack in BY_LAYER):
        layers = [one for one in rows if (one.attack, one.side) == (attack, side)]
        best = max(layers, key=lambda one: (one.level == one.level, one.level))
        rows = [one for one in rows if one is best or one not in layers]
    return sorted(rows, key=lambda one: (order.index(one.attack), one.side != "unlearned", one.side))


def row_notes(found: AttackReport) -> list[str]:
    """Notes on rows: why they were not measured, what they hold, each once."""
    told = (f"{one.attack}, {one.setting}: {one.note}" for one in found.rows if one.note and one.side == "unlearned")
    return [printable(line) for line in dict.fromkeys(told)]


def tier_lines(one: TierEvidence) -> Iterator[str]:
    """A tier in sentences: what it could not do, its control, what it needs."""
    name = f"tier {tier_name(one.tier)}"
    if one.missing:
        yield f"{name}: not measured: {one.missing}"
    if one.control_asked > 0 and not one.control_returned:
        yield f"{name}: its attacks do not work on this model: they do not undo what is known to be suppressed"
    elif not one.able:
        yield f"{name}: it could not have shown much here: too few facts, or matching that tells nothing"
    if not one.informative:
        yield f"{name}: matching is not informative here: models that cannot know match as well, or the base does not"
    if one.control:
        yield f"{name}: control: {one.control}"
    if one.returned_reference > 0:
        yield f"{name}: the reference says {count_of(one.returned_reference, 'of these answers')[:-1]} too"


def untried_text(found: AttackReport | None) -> str:
    """What may bring back more than was seen: what the attacks of a report did not try, and what none tries."""
    made = {
        one.attack for one in (() if found is None else found.rows) if one.side == "unlearned" and one.returned >= 0
    }
    tried, left = ([text for name, text in MORE.items() if (name in made) == ran] for ran in (True, False))
    said = "The answers side by side are the most likely ones, token by token."
    said += f" The attacks also tried {_and(tried)}." if tried else ""
    return f"{said} {_and([*left, *NEVER_TRIED]).capitalize()} may bring back more."


def _and(parts: Sequence[str]) -> str:
    return " and ".join(part for part in (", ".join(parts[:-1]), parts[-1]) if part)


def headline(found: AttackReport, verdict: Verdict | None = None) -> str:
    """The one sentence of the section, which says no less than the verdict beside it."""
    attacked = [one for one in found.tiers if one.ran]
    if not attacked:
        return "Nothing could be measured"
    best = max(attacked, key=lambda one: one.returned)
    where = f"{count_of(found.clusters, 'fact')}, {count_of(len(found.questions), 'question')}"
    if best.returned:
        words = f"{best.returned} of {best.asked} answers came back word for word, in tier {tier_name(best.tier)}"
    else:
        words = "no answer came back word for word"
    if verdict is not None and shown_by(verdict) == "matched":
        return f"{words} ({where}), but right answers are told from wrong ones far more often than by chance"
    if verdict is not None and best.returned and verdict.knowledge == "gone":
        return f"{words} ({where}), no more than guesses would bring"
    return f"{words} ({where})"


def returned_cells(found: AttackReport, one: ReturnedAnswer) -> tuple[str, ...]:
    """An answer that came back, as a row of `RETURNED_HEADS`."""
    known = 0 <= one.question < len(found.questions)
    question = found.questions[one.question] if known else None
    asked, wanted = (question.text, question.answer) if question is not None else ("", "")
    setting = f"{one.setting}, step {one.step}" if one.step >= 0 else one.setting
    return tuple(printable(text.strip()) for text in (one.attack, setting, asked, wanted, one.said))


def returned_tables(found: AttackReport) -> Iterator[tuple[str, str, list[ReturnedAnswer]]]:
    """What came back from the unlearned model, as title, note and answers: evidence, and what was only lent or told.

    Of each question that came back the first answer, question by question.
    """
    deciding = _deciding(found)
    own = [one for one in found.returned if one.side == "unlearned"]
    evidence = _first_of_each([one for one in own if _place(one) in deciding])
    if evidence:
        yield "What came back", "", evidence
    known = {one.question for one in evidence}
    others = _first_of_each([one for one in own if one.question not in known])
    if others:
        yield "What came back only with help", BORROWED_NOTE, others


def _first_of_each(answers: Sequence[ReturnedAnswer]) -> list[ReturnedAnswer]:
    once: dict[int, ReturnedAnswer] = {}
    for one in answers:
        once.setdefault(one.question, one)
    return [once[place] for place in sorted(once)]


def _place(one: AttackRow | ReturnedAnswer) -> tuple[str, str, int]:
    return one.attack, one.setting, one.step


def _deciding(found: AttackReport) -> set[tuple[str, str, int]]:
    """The attacks, settings and steps whose answers are evidence."""
    return {_place(row) for row in found.rows if row.decides and row.side == "unlearned"}


def facts_of(found: AttackReport) -> list[tuple[str, str]]:
    """The questions that were attacked, and the model beside."""
    reference = found.reference or "none: nothing says what a model that never knew does under the same attacks"
    kind = f" ({found.reference_kind})" if found.reference_kind else ""
    source = found.settings.get("questions_source", "not stated")
    return [
        ("model type", found.model_type or "not stated"),
        (
            "questions",
            f"{count_of(len(found.questions), 'question')} about {count_of(found.clusters, 'fact')}, {source}",
        ),
        ("reference", f"{reference}{kind}"),
        *((("margins", margins_text(found)),) if found.reference else ()),
        *((("control", f"a copy of the base, suppressed on the spot: {printable(found.twin)}"),) if found.twin else ()),
        ("settings", settings_text(found)),
    ]


def margins_text(found: AttackReport) -> str:
    """Whose margins a verdict takes: its rules' own, or those of two models that never knew."""
    if not found.second:
        return "those of the rules; no second model that never knew was measured (--margins REPORT)"
    names = {"level": " nats", "probability": " nats", "behaviour": "", "depth": ""}
    known = {name: getattr(found, f"margin_{name}") for name in names}
    parts = [f"{name} {known[name]:.2f}{unit}" for name, unit in names.items() if not math.isnan(known[name])]
    return f"differences between the reference and {printable(found.second)}, 95th percentile: {', '.join(parts)}"


def settings_text(found: AttackReport) -> str:
    """Settings in one line."""
    names = ("attacks", "tokens", "samples", "seed", "dtype", "device")
    told = {name: found.settings[name].replace(",", ", ") for name in names if name in found.settings}
    return "; ".join(f"{name} {value}" for name, value in told.items()) or "not stated"


def telling_codes(found: AttackReport) -> list[CodeShare]:
    """Of each quantiser all elements together, and those components that fare otherwise than all do."""
    together = {one.setting: undone_share(one) for one in found.codes if one.component == "all"}

    def tells(one: CodeShare) -> bool:
        whole = together.get(one.setting)
        return one.component == "all" or whole is None or abs(undone_share(one) - whole) >= OTHERWISE

    return [one for one in found.codes if tells(one)]


def rest_of_codes(found: AttackReport) -> str:
    """How many rows `telling_codes` leaves out, why, and where they are; "" where it leaves none out."""
    left = len(found.codes) - len(telling_codes(found))
    why = "in them nothing changed, or about as much of the change is undone as of all elements'"
    there = "`ckdiff show REPORT --section attack --format md` has them"
    return f"{count_of(left, 'row')} of single components left out: {why}; {there}." if left else ""


def code_cells(codes: Iterable[CodeShare]) -> list[tuple[str, ...]]:
    """Shares of elements whose code differs, as rows of `CODE_HEADS`."""
    return [
        (
            printable(one.setting),
            printable(one.component),
            f"{one.elements:,}",
            percent(one.changed),
            percent(one.codes),
            percent(undone_share(one)),
        )
        for one in codes
    ]


def undone_share(one: CodeShare) -> float:
    """Of the elements that were changed the share that codes make equal again; NaN where none was changed."""
    return max(0.0, 1 - one.codes / one.changed) if one.changed else math.nan


def code_lines(found: AttackReport) -> Iterator[str]:
    """A sentence on each quantiser that undoes most of what unlearning changed."""
    for one in found.codes:
        if one.component == "all" and undone_share(one) >= UNDONE:
            yield (
                f"{printable(one.setting)} undoes {percent(undone_share(one))} of the changed elements: so much of"
                " the change does not reach such a release"
            )


def every_note(found: AttackReport) -> Sequence[str]:
    """Remarks on tiers and rows, and the notes of the section."""
    lines = [line for one in found.tiers for line in tier_lines(one)]
    return [*lines, *code_lines(found), *row_notes(found), *found.notes]
