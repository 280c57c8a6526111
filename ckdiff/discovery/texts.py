"""The texts on which two models are compared: given ones, or what the base says of itself, and random words.

    given_texts(path, wording, length)                       # a file of texts, or of questions with their answers
    sampled_texts(wording, stops, sampling, say)             # from the base, seeded
    random_texts(wording, rows, sampling)                    # random tokens: they begin everything, and mean nothing

Every text is a prompt whose first token is given and whose other tokens are scored; texts that continue an opening are
scored behind it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ckdiff.probes.live.together import draws
from ckdiff.probes.prompts import Prompt
from ckdiff.probes.wording.chat import Chat, ChatTemplate
from ckdiff.questions.questions import Question, read_questions
from ckdiff.questions.segments import read_segments
from ckdiff.questions.streams import RecordsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ckdiff.probes.live.together import Draws
    from ckdiff.probes.wording.wording import Wording

    Say = Callable[[Sequence[tuple[list[tuple[int, ...]], Draws]]], list[list[list[int]]]]

OPENINGS = ("The", "In", "It", "When", "A", "I", "There", "My")
"""How sampled texts begin: words that begin texts about anything."""
ASKING = "Question:"
"""Behind this a model that answers questions invents one."""
TEMPERATURES = (0.7, 1.0)
TOGETHER = 32
"""Texts that are drawn in one go."""
MARK = "ckdiff-mark"
"""Stands in a chat for what the user says, to see where that begins."""
UNKNOWN = 0.5
"""A share of unknown tokens above this is no text of the tokenizer's language."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How texts are made.

    Attributes:
        texts: how many of each kind.
        length: tokens of a text, at most.
        seed: of what is drawn.
    """

    texts: int = 16
    length: int = 40
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts of several kinds.

    Attributes:
        prompts: a text each, its scored tokens as the answer.
        kinds: of each: given, asked, sampled, invented, chat, random.
        source: one line for people.
        notes: plain sentences.
    """

    prompts: list[Prompt]
    kinds: list[str]
    source: str
    notes: tuple[str, ...] = ()


def given_texts(path: Path, wording: Wording, length: int) -> Texts:
    """The texts of a file, cut to so many tokens; questions stand in the wording's template, with their answers.

    Raises:
        RecordsError: it holds no text, or none that the tokenizer knows.
    """
    try:
        found = read_segments(path)
        rows = [(one.text, one.prompt) for one in found.segments]
        source, notes = found.source, found.notes
    except RecordsError:
        asked = read_questions(path)
        rows = [(one.answer or "", one.text) for one in asked.questions]
        source, notes = asked.source, asked.notes
    prompts, kinds = [], []
    for text, question in rows:
        whole = text if question is None else wording.template.replace("{q}", question) + (f" {text}" if text else "")
        ids = wording.encoder.ids(whole)[:length]
        if len(ids) > 1:
            prompts.append(Prompt(Question(whole), ids[:1], ids[1:]))
            kinds.append("given" if question is None else "asked")
    _check_known(path, wording, prompts)
    return Texts(prompts, kinds, source, notes)


def _check_known(path: Path, wording: Wording, prompts: Sequence[Prompt]) -> None:
    every = [token for prompt in prompts for token in prompt.answer]
    if not every:
        raise RecordsError(f"{path}: no text of two tokens or more in it; give longer ones")
    unknown = getattr(wording.encoder.tokenizer, "unk_token_id", None)
    if unknown is not None and sum(token == unknown for token in every) > UNKNOWN * len(every):
        raise RecordsError(
            f"{path}: the tokenizer knows less than half of its words; give texts in a language of the model"
        )


def sampled_texts(wording: Wording, stops: frozenset[int], how: Sampling, say: Say) -> Texts:
    """What the base says where nothing is asked: texts, questions that it invents, and what its users ask.

    The same seed gives the same texts on one machine.

    Args:
        wording: of the base.
        stops: ids at which a text ends.
        how: how many, and how long.
        say: what makes the base go on behind the openings of each kind, with what draws its tokens.
    """
    generator = torch.Generator().manual_seed(how.seed)
    prompts, kinds = list[Prompt](), list[str]()
    every = [
        (kind, [openings[number % len(openings)] for number in range(how.texts)])
        for kind, openings in _openings(wording)
    ]
    sets = [(begun, draws(generator, len(begun), how.length, TEMPERATURES)) for _, begun in every]
    for (kind, begun), said in zip(every, say(sets), strict=True):
        for ids, answer in zip(begun, said, strict=True):
            kept = tuple(token for token in answer if token not in stops)
            if kept:
                prompts.append(Prompt(Question(wording.encoder.tokenizer.decode(kept)), tuple(ids), kept))
                kinds.append(kind)
    count = len(prompts)
    return Texts(prompts, kinds, f"{count} texts sampled from the base, seed {how.seed}")


def _openings(wording: Wording) -> Iterator[tuple[str, list[tuple[int, ...]]]]:
    encoder = wording.encoder
    yield "sampled", [encoder.ids(opening) for opening in OPENINGS]
    yield "invented", [encoder.ids(ASKING)]
    if getattr(encoder.tokenizer, "chat_template", None):
        (written,) = ChatTemplate(encoder.tokenizer).texts([Chat((("user", MARK),), False)])
        before, found, _ = (written or "").partition(MARK)
        if found and before:
            yield "chat", [encoder.ids(before, start=False)]


def random_texts(wording: Wording, rows: int, how: Sampling) -> Texts:
    """Texts of random tokens, special ones aside.

    Args:
        wording: of the base.
        rows: of the embedding; no id is beyond.
        how: how many, and how long.
    """
    tokenizer = wording.encoder.tokenizer
    special = set(getattr(tokenizer, "all_special_ids", ()))
    known = [number for number in sorted(tokenizer.get_vocab().values()) if number < rows and number not in special]
    generator = torch.Generator().manual_seed(how.seed + 1)
    picks = torch.randint(len(known), (max(1, how.texts // 2), how.length), generator=generator)
    drawn = [tuple(known[place] for place in row) for row in picks.tolist()]
    prompts = [Prompt(Question(""), ids[:1], ids[1:]) for ids in drawn]
    return Texts(prompts, ["random"] * len(prompts), f"{len(prompts)} of random tokens")


def own_texts(wording: Wording, stops: frozenset[int], rows: int, how: Sampling, say: Say) -> Texts:
    """Texts that nobody gave: what the base says of itself, and random tokens."""
    return join_texts([sampled_texts(wording, stops, how, say), random_texts(wording, rows, how)])


def join_texts(parts: Sequence[Texts]) -> Texts:
    """Several as one."""
    return Texts(
        [prompt for part in parts for prompt in part.prompts],
        [kind for part in parts for kind in part.kinds],
        "; ".join(part.source for part in parts),
        tuple(note for part in parts for note in part.notes),
    )
