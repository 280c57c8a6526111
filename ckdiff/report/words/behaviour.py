"""A behaviour in words, for every presenter: answers that changed, word by word, and numbers in words.

    changes("He wrote it", "She wrote it")  ->  gone "He", new "She", same "wrote it"

Answers come from models and questions from files, so everything that comes back as text is printable.
"""

from __future__ import annotations

import difflib
import itertools
import math
from typing import TYPE_CHECKING, Literal, NamedTuple

from ckdiff.report.words import numbers
from ckdiff.report.words.numbers import UNDEFINED, count_of
from ckdiff.scripts import is_blankless, set_apart
from ckdiff.untrusted import printable, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckdiff.report.schema.behaviour import (
        AnswerRecord,
        AnswerSet,
        Behaviour,
        ChoiceRecord,
        ChoiceSet,
        HistoryPoint,
        Mean,
        NeutralSet,
    )

NOT_SHOWN = frozenset({"logits_dtype", "bootstrap", "chrf"})
"""Settings that a reader finds in the JSON and in the HDF5 report."""

SHOWN_WORDS = 150
"""Words of an answer that are shown; an answer that goes on is cut off there."""

WORD_LENGTH = 60

SHOWN_POINTS = 30
"""Points of a history that a table shows."""

NOTHING_ASKED = "NOTHING WAS ASKED"


class Piece(NamedTuple):
    """Neighbouring words of an answer that share one fate."""

    kind: Literal["same", "gone", "new"]
    words: str


def changes(base: str, unlearned: str) -> list[Piece]:
    """The change of an answer, word by word: what is gone of the base's stands before what is new in its place.

    >>> [tuple(piece) for piece in changes("He wrote it", "She wrote it")]
    [('gone', 'He'), ('new', 'She'), ('same', 'wrote it')]
    """
    before, after = _words(base), _words(unlearned)
    found: list[Piece] = []
    # autojunk would call words that come often in a long answer noise.
    for _, i, j, k, m in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if before[i:j] == after[k:m]:
            found.append(Piece("same", _join(before[i:j])))
            continue
        found += [Piece("gone", _join(before[i:j]))] if j > i else []
        found += [Piece("new", _join(after[k:m]))] if m > k else []
    return found


def _join(words: Sequence[str]) -> str:
    """Words as text: with blanks, but between characters of a script that has none."""
    parts = list(words[:1])
    for before, word in itertools.pairwise(words):
        parts.append(word if is_blankless(before[0]) and is_blankless(word[0]) else f" {word}")
    return "".join(parts)


def _words(text: str) -> list[str]:
    words = set_apart(text).split(maxsplit=SHOWN_WORDS)
    shown = [shorten(printable(word), WORD_LENGTH) for word in words[:SHOWN_WORDS]]
    return [*shown, "…"] if len(words) > SHOWN_WORDS else shown


def of_base(pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces that make up the base's answer."""
    return [piece for piece in pieces if piece.kind != "new"]


def of_unlearned(pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces that make up the unlearned model's answer."""
    return [piece for piece in pieces if piece.kind != "gone"]


def mark_piece(piece: Piece) -> str:
    """A piece with marks that need no colour: `[-gone-]`, `{+new+}`."""
    return {"same": "{}", "gone": "[-{}-]", "new": "{{+{}+}}"}[piece.kind].format(piece.words)


def rank_by_change(answers: AnswerSet, limit: int) -> list[AnswerRecord]:
    """The questions whose answers changed most, by BLEU; ties in their own order, undefined ones last."""
    return [one for _, one in rank_numbered(answers, limit)]


def rank_numbered(answers: AnswerSet, limit: int) -> list[tuple[int, AnswerRecord]]:
    """As `rank_by_change`, each question with its number in the set; the first one is 1."""
    numbered = enumerate(answers.questions, 1)
    found = sorted(numbered, key=lambda one: math.inf if math.isnan(one[1].bleu) else one[1].bleu)
    return found[: max(0, limit)]


def order_text(answers: AnswerSet) -> str:
    """In which order `rank_by_change` puts the answers of a set, in words that hold for this one."""
    if all(one.exact for one in answers.questions):
        return "Every answer is as before, token by token; in the order of the file."
    return "Those that share fewest words with the base's (BLEU) come first, equal ones in the order of the file."


def answer_facts(question: AnswerRecord) -> str:
    """The numbers of one question on one line."""
    same = ", the same tokens" if question.exact else ""
    logs = arrow(short_number(question.logprob_base), short_number(question.logprob_unlearned))
    chrf = "" if math.isnan(question.chrf) else f", chrF {share_text(question.chrf)}"
    return f"BLEU {share_text(question.bleu)}{chrf}{same}, log p {logs}"


def chrf_line(sets: Sequence[AnswerSet]) -> str | None:
    """How alike the answers of each set are in characters; None where that was not measured."""
    known = [f"{printable(one.name)} {mean_text(one.chrf)}" for one in sets if not math.isnan(one.chrf.value)]
    return f"chrF (the same in characters): {'; '.join(known)}" if known else None


def answer_cells(found: AnswerSet) -> tuple[str, ...]:
    """A set in one row: name, questions, BLEU, exact, log p and perplexity of the base's answers before and after."""
    logs = arrow(short_number(found.logprob_base.value), short_number(found.logprob_unlearned.value))
    perplexity = arrow(perplexity_text(found.perplexity_base), perplexity_text(found.perplexity_unlearned))
    return found.name, f"{len(found.questions):,}", mean_text(found.bleu), mean_text(found.exact), logs, perplexity


def field_heads(sets: Sequence[AnswerSet]) -> tuple[str, ...]:
    """Headings of `field_rows`: with the reference's column where there is one."""
    return ("set", "measure", "base", "unlearned", *(("reference",) if _stands_beside(sets) else ()))


def _stands_beside(sets: Sequence[AnswerSet]) -> bool:
    return any(one.each_reference for found in sets for one in found.field)


def field_rows(sets: Sequence[AnswerSet]) -> Iterator[tuple[str, ...]]:
    """What benchmarks of the field report, a row each: set, measure, mean before and after, and of the reference."""
    beside = _stands_beside(sets)
    for found in sets:
        for one in found.field:
            means = (one.base, one.unlearned, *((one.reference,) if beside else ()))
            yield found.name, one.name.replace("_", " "), *map(mean_text, means)


def field_note(sets: Sequence[AnswerSet]) -> str:
    """Which answers these measures are about."""
    whose = {"given": "those of the question file", "base": "the base's own"}
    about = [f"{printable(one.name)}: {whose.get(one.field_against, 'not stated')}" for one in sets if one.field]
    return f"Answers that are scored, {'; '.join(about)}."


def choice_cells(found: ChoiceSet) -> tuple[str, ...]:
    """Multiple choice in one row: questions, right before and after, chance, p(right) before and after."""
    right = mean_text(found.accuracy_base), mean_text(found.accuracy_unlearned)
    probability = mean_text(found.probability_base), mean_text(found.probability_unlearned)
    return f"{len(found.questions):,}", *right, share_text(found.chance), *probability


def neutral_cells(found: NeutralSet) -> tuple[str, ...]:
    """Neutral texts in one row: texts, tokens, KL, perplexity before and after."""
    perplexity = arrow(perplexity_text(found.perplexity_base), perplexity_text(found.perplexity_unlearned))
    return f"{len(found.texts):,}", f"{sum(text.tokens for text in found.texts):,}", kl_text(found), perplexity


def history_cells(point: HistoryPoint) -> tuple[str, ...]:
    """A point in one row: step, epoch, loss, BLEU of target and unrelated answers, which weights."""
    bleus = share_text(point.target_bleu), share_text(point.unrelated_bleu)
    return f"{point.step:,}", short_number(point.epoch), short_number(point.loss), *bleus, point.state


def choice_text(question: ChoiceRecord, index: int) -> str:
    """The text of one choice; empty where there is no such choice."""
    return question.choices[index] if 0 <= index < len(question.choices) else ""


def share_text(value: float) -> str:
    """A share or a BLEU in two digits; never 0 where there is something, nor 1 where something is missing.

    >>> share_text(0.0), share_text(0.001), share_text(0.344), share_text(0.999), share_text(1.0)
    ('0', '<0.01', '0.34', '>0.99', '1')
    """
    if math.isnan(value):
        return UNDEFINED
    if value in (0.0, 1.0):
        return str(int(value))
    if 0 < value < 0.005:
        return "<0.01"
    return ">0.99" if 0.995 <= value < 1 else f"{value:.2f}"


def short_number(value: float) -> str:
    """A log-probability, a KL or a loss in two digits after the point, or as many as tell it from zero.

    >>> short_number(-0.4214), short_number(-0.0), short_number(3e-4), short_number(-1234.5), short_number(-math.inf)
    ('-0.42', '0', '3.0e-04', '-1234', '-∞')
    """
    if math.isnan(value):
        return UNDEFINED
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value == 0:
        return "0"
    if abs(value) < 0.005 or abs(value) >= 1e5:
        return f"{value:.1e}"
    return f"{value:.2f}" if abs(value) < 100 else f"{value:.0f}"


def perplexity_text(value: float) -> str:
    """A perplexity in at most seven characters.

    >>> perplexity_text(1.234), perplexity_text(45.67), perplexity_text(1234.5), perplexity_text(1e9)
    ('1.23', '45.7', '1,234', '1.0e+09')
    """
    if math.isnan(value) or math.isinf(value):
        return short_number(value)
    if value >= 1e5:
        return f"{value:.1e}"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def interval_text(mean: Mean) -> str:
    """The interval of a share as `[0.20, 0.48]`; empty where there is none (one question only)."""
    return numbers.interval_text(mean.low, mean.high, share_text)


def mean_text(mean: Mean) -> str:
    """A share and its interval: `0.34 [0.20, 0.48]`."""
    return numbers.with_interval(mean.value, mean.low, mean.high, share_text)


def kl_text(neutral: NeutralSet) -> str:
    """The KL on neutral texts and its interval, in nats."""
    kl = neutral.kl
    return numbers.with_interval(kl.value, kl.low, kl.high, short_number)


def arrow(base: str, unlearned: str) -> str:
    """A value before and after: `-0.42 → -5.10`."""
    return f"{base} → {unlearned}"


def behaviour_settings(found: Behaviour) -> str:
    """The settings on one line."""
    return numbers.settings_line(found.settings, NOT_SHOWN)


def source_lines(found: Behaviour) -> Iterator[tuple[str, str]]:
    """Every set that was asked: its name, and where it comes from."""
    for answers in found.answers:
        yield (
            answers.name,
            f"{count_of(len(answers.questions), 'question')} from {answers.source or 'no stated source'}",
        )
    if found.choices is not None:
        source = found.choices.source or "no stated source"
        yield "choices", f"{count_of(len(found.choices.questions), 'question')} from {source}"
    if found.neutral is not None:
        source = found.neutral.source or "no stated source"
        yield "neutral", f"{count_of(len(found.neutral.texts), 'text')} from {source}"


def asks_anything(found: Behaviour | None) -> bool:
    """Whether anything was asked at all."""
    if found is None:
        return False
    asked = (*found.answers, *(() if found.choices is None else (found.choices,)))
    return any(one.questions for one in asked) or bool(found.neutral and found.neutral.texts)


def has_bleu(history: Sequence[HistoryPoint]) -> bool:
    """Whether a history says anything about answers."""
    return any(not (math.isnan(point.target_bleu) and math.isnan(point.unrelated_bleu)) for point in history)


def shown_points(history: Sequence[HistoryPoint]) -> list[HistoryPoint]:
    """About `SHOWN_POINTS` of a history, evenly spread: of each state the last point is always among them."""
    every = -(-len(history) // SHOWN_POINTS) or 1
    last = {point.state: place for place, point in enumerate(history)}
    kept = {*range(0, len(history), every), *last.values()}
    return [history[place] for place in sorted(kept)]


def saved_remark(history: Sequence[HistoryPoint]) -> str | None:
    """A sentence where the saved checkpoint answers otherwise than the weights in memory did, or None."""
    saved = _last(history, "saved")
    memory = _last([point for point in history if saved is not None and point.step <= saved.step], "memory")
    if saved is None or memory is None:
        return None
    pairs = {
        "target": (memory.target_bleu, saved.target_bleu),
        "unrelated": (memory.unrelated_bleu, saved.unrelated_bleu),
    }
    differing = [f"{name} BLEU {_both(*pair)}" for name, pair in pairs.items() if _differ(*pair)]
    if not differing:
        return None
    undone = saved.target_bleu > memory.target_bleu and _differ(*pairs["target"])
    cause = "undoes part of an unlearning" if undone else "changes what was trained"
    return f"the saved checkpoint is not what was in memory: {', '.join(differing)}; saving in a 16-bit dtype {cause}"


def _last(history: Sequence[HistoryPoint], state: str) -> HistoryPoint | None:
    return next((point for point in reversed(history) if point.state == state), None)


def _differ(memory: float, saved: float) -> bool:
    """Whether a reader would see two numbers."""
    return not (math.isnan(memory) or math.isnan(saved)) and share_text(memory) != share_text(saved)


def _both(memory: float, saved: float) -> str:
    return f"{share_text(memory)} in memory, {share_text(saved)} saved"
