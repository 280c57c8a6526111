"""Discovery in words, for every presenter: what was lost, which topic it points to, and how sure that is."""

from __future__ import annotations

import math
import re
from itertools import zip_longest
from typing import TYPE_CHECKING

from ckdiff.report.schema.discovery import SIGNIFICANT, WRITTEN
from ckdiff.report.words.attack import chance, figure, span
from ckdiff.report.words.numbers import UNDEFINED, count_of, percent
from ckdiff.untrusted import printable, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ckdiff.report.schema.discovery import (
        CandidateRow,
        DiscoveryReport,
        LostWord,
        NeuronFall,
        TextKind,
        TopicAnswer,
        WeightWord,
    )

LEADING = 10
"""Words to begin with."""
ELSEWHERE = 4
"""Names of what was lost where nobody asked, on one screen."""
NO_DISCOVERY = "Nobody looked for what was lost: ckdiff discover does"
WORD_HEADS = ("word", "rate", "p", "texts", "lost most behind")
GAINED_HEADS = ("word", "rate", "p", "texts", "gained most behind")
GROUP_HEADS = ("words", "together", "alike", "p", "most in", "behind")
GROUP_TITLE = "Lost words that go together"
LAYER_HEADS = ("layer", "written by the base", "fall")
LAYER_TITLE = "Layers whose MLPs write less where the found words are lost"
NEURON_HEADS = ("layer", "neuron", "written by the base", "fall", "raises")
NEURON_TITLE = "Neurons whose response fell most there"
WEIGHT_HEADS = ("word", "score", "source")
WEIGHT_TITLE = "Words in the weights (leads: random changes spell words, too)"
CANDIDATE_HEADS = ("candidate", "score", "p", "drop", "screen")
KIND_HEADS = ("texts", "count", "positions", "KL", "KL of noise", "drop")
ANSWER_HEADS = ("question", "base", "unlearned", "both together", "drop")
LEGEND = (
    "rate: share of the positions at which the unlearned model has lost the token more than nearly all others; p of a",
    "word: how often noise of the same size in every tensor takes any token as far, corrected for their number; score:",
    "how far what the base says of a candidate drops beyond that of the others, over all forms; drop: log p base less",
    "log p unlearned a token, in nats; turned: its row of the unembedding turned away from what it reads; written: the",
    "value matrices changed most towards it; together: share of the positions at which two words of a group are both",
    "lost; alike: of those at which either is; fall: how much less is written into the residual stream, in its unit,",
    "beyond what is written elsewhere in the same texts. A trace says what moved, not that the knowledge is gone. Both",
    "together say more loudly what was taken away: whoever has both files has that, and it is no evidence of what the",
    "unlearned model knows.",
)


def headline(found: DiscoveryReport) -> str:
    """What was found, in one line."""
    if found.outcome == "ruined":
        return (
            f"The unlearned model is ruined: {percent(found.ruin)} of what the base knows of any text beyond guessing"
            " is lost, so nothing is named"
        )
    if found.outcome == "none":
        return "No readable trace: nothing stands out above noise and above what other topics lose"
    best = found.candidates[0] if found.candidates else None
    words = ", ".join(quoted(one.word) for one in named_words(found.words)[:5])
    if best is not None and best.p < SIGNIFICANT:
        lost = f"; most lost words: {words}" if words else ""
        count = count_of(found.counted, "candidate")
        return f"A trace of {quoted(found.topic)}: first of {count}, p {chance(best.p)}{lost}"
    named = any(one.name == found.topic for one in found.candidates)
    name = f" that name {quoted(found.topic)}" if named else ""
    return f"A trace in words{name}: {words}; no candidate stands out by itself"


def elsewhere(found: DiscoveryReport, asked: Iterable[str]) -> str:
    """What was lost where nobody asked, in one clause.

    Args:
        found: what discovery found.
        asked: texts of whatever was asked about the target: questions, and the base's answers.
    """
    if found.outcome == "ruined":
        return f"everything: {percent(found.ruin)} of what the base knows of any text beyond guessing is lost"
    if found.outcome == "none":
        return "nothing else that was lost stands out above noise"
    known = {word for text in asked for word in _words(text)}
    best = found.candidates[0] if found.candidates else None
    names = [best.name] if best is not None and best.p < SIGNIFICANT else []
    names = list(dict.fromkeys([*names, *(one.word for one in named_words(found.words))]))
    other = [name for name in names if not known.issuperset(_words(name))]
    if not other:
        return f"what stands out was asked about: {', '.join(map(quoted, names[:ELSEWHERE]))}"
    stand = "stands" if len(other) == 1 else "stand"
    return f"{', '.join(map(quoted, other[:ELSEWHERE]))} {stand} out among what was lost"


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def named_words(words: Iterable[LostWord]) -> list[LostWord]:
    """The words that stand out above chance."""
    return [one for one in words if one.content and one.p < SIGNIFICANT]


def leading_words(found: DiscoveryReport) -> list[str]:
    """The words to begin with, ten at most: those that texts lost and those that were written most, turn by turn.

    Those that were written are leads alone, which have no p-value.
    """
    told = [one.word for one in found.words if one.content]
    written = [one.word for one in found.weights if one.source == WRITTEN]
    both = [word for turn in zip_longest(told, written) for word in turn if word is not None]
    once: dict[str, str] = {}
    for word in both:
        once.setdefault(word.casefold(), word)
    return list(once.values())[:LEADING]


def topic_of(candidates: Sequence[CandidateRow], words: Iterable[LostWord]) -> str:
    """What is named, or "" where nothing stands out.

    The best candidate where it stands out; else the first word that does, or the best candidate whose name holds it.

    Args:
        candidates: the best first.
        words: lost ones, those that stand out most first.
    """
    if candidates and candidates[0].p < SIGNIFICANT:
        return candidates[0].name
    word = next((one.word for one in named_words(words)), "")
    parts = ((one.name, re.findall(r"\w+", one.name.casefold())) for one in candidates)
    return next((name for name, held in parts if word and word.casefold() in held), word)


def facts_of(found: DiscoveryReport) -> Iterator[tuple[str, str]]:
    """The words to begin with where anything was found, the texts, the candidates, and the null."""
    if found.outcome == "trace":
        yield "words", ", ".join(map(printable, leading_words(found)))
    for name in ("texts", "candidates"):
        yield name, printable(found.settings.get(f"{name}_source", "")) or "unnamed"
    if found.copies:
        copies = "1 copy" if found.copies == 1 else f"{found.copies} copies"
        yield "noise", f"{copies} of the base, as far from it in every tensor as the unlearned model"


def word_cells(one: LostWord) -> tuple[str, ...]:
    """A word in one row."""
    return printable(one.word), span(one.rate), _chance(one.p), printable(one.kind), printable(one.where)


def group_rows(found: DiscoveryReport) -> list[tuple[str, ...]]:
    """A group a row: its words, how far they go together, and the place where it shows most."""
    first = {one.group: one for one in reversed(found.spans)}
    rows = list[tuple[str, ...]]()
    for number, one in enumerate(found.groups):
        span_of = first.get(number)
        where = ("", "") if span_of is None else (printable(span_of.text), printable(span_of.before))
        words = ", ".join(map(printable, one.words))
        rows.append((words, figure(one.together), figure(one.alike), _chance(one.p), *where))
    return rows


def layer_rows(found: DiscoveryReport, top: int | None = None) -> list[tuple[str, ...]]:
    """The layers whose MLPs write less, the greatest fall first."""
    layers = sorted(found.layers, key=lambda one: -one.fall)[:top]
    return [(str(one.layer), _small(one.base), _small(one.fall)) for one in layers]


def neuron_cells(one: NeuronFall) -> tuple[str, ...]:
    """A neuron in one row."""
    raised = ", ".join(map(quoted, one.tokens))
    return str(one.layer), str(one.neuron), _small(one.base), _small(one.fall), raised


def weight_cells(one: WeightWord) -> tuple[str, ...]:
    """A word that the weights spell in one row."""
    return printable(one.word), figure(one.score), printable(one.source)


def candidate_cells(one: CandidateRow) -> tuple[str, ...]:
    """A candidate in one row."""
    return printable(one.name), figure(one.score), _chance(one.p), figure(one.drop, 3), figure(one.screen, 2)


def kind_cells(one: TextKind) -> tuple[str, ...]:
    """Texts of one kind in one row."""
    numbers = (one.kl, one.null_kl, one.drop)
    return printable(one.name), str(one.texts), str(one.positions), *(_small(value) for value in numbers)


def answer_cells(one: TopicAnswer) -> tuple[str, ...]:
    """Both answers in one row."""
    texts = (one.question, one.base, one.unlearned, one.guided)
    return *map(printable, texts), figure(one.drop)


def with_scores(found: DiscoveryReport) -> list[CandidateRow]:
    """The candidates that have a score in any form, the best first.

    Where nothing stands out, none of a list so long that it was screened: its best would be taken for the finding.
    """
    shown = found.outcome == "trace" or all(one.asked for one in found.candidates)
    return [one for one in found.candidates if not math.isnan(one.score)] if shown else []


def candidates_title(found: DiscoveryReport) -> str:
    """The heading of the candidates, which says where none of them is the finding."""
    return "Candidates" if found.outcome == "trace" else "Candidates (none stands out)"


def told_answers(found: DiscoveryReport) -> Sequence[TopicAnswer]:
    """What both say about the topic; nothing where none is named, though older reports ask about a candidate."""
    return found.answers if found.outcome == "trace" else ()


def every_note(found: DiscoveryReport) -> Sequence[str]:
    """The notes, printable."""
    return [printable(note) for note in found.notes]


def _chance(p: float) -> str:
    return UNDEFINED if math.isnan(p) else chance(p)


def _small(value: float) -> str:
    return UNDEFINED if math.isnan(value) else f"{value:.2g}"
