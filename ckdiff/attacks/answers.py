"""The answers that are looked for: `sought(tokenizer, prompts, said, ...)` makes one `Sought` a question.

The base's own greedy answer, up to the end of its first line, is what must come back word for word; where it holds the
answer of the question's file, that is enough. An answer that another question has too, or that its own question
holds, proves nothing when it comes back, and of an answer only the first tokens are matched that no question holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ckdiff.scripts import set_apart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.probes.prompts import Prompt
    from ckdiff.questions.questions import Question

MATCHED = 4
"""Tokens of an answer that are matched, at most: what follows is foretold by them, whatever the question is."""
NOTHING = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class Sought:
    """One question, and what is looked for when it is asked.

    Attributes:
        question: as its file has it.
        cluster: of the question.
        ids: of its prompt, as it is asked.
        answer: ids that must come back one after the other.
        words: how they read, normalised: what a text must hold.
        matched: ids of the answer that matching looks at.
        scored: which of them; no more than `MATCHED`.
        text: how the answer reads.
        matched_text: how what is matched reads.
        counts: that it comes back proves something.
        base_right: whether the base's answer holds the file's; None where the file has none.
    """

    question: Question
    cluster: int
    ids: tuple[int, ...]
    answer: tuple[int, ...]
    words: str
    matched: tuple[int, ...]
    scored: tuple[int, ...]
    text: str
    matched_text: str
    counts: bool
    base_right: bool | None

    @property
    def begun(self) -> tuple[int, ...]:
        """What is matched as far as it is scored."""
        return self.matched[: self.scored[-1] + 1] if self.scored else ()

    @property
    def form(self) -> str:
        """The form of what is matched: answers of one form can be exchanged."""
        return form_of(self.matched_text)

    @property
    def kind(self) -> str:
        """What its file says it asks for, else its form: who knows what towns are called matches by form alone."""
        return self.question.kind or self.form


def normalise(text: str) -> str:
    """A text as words: without case and marks, characters of scripts without blanks one by one.

    >>> normalise("  It's Paris, of course! ")
    'it s paris of course'
    """
    return " ".join(NOTHING.sub(" ", set_apart(text.casefold())).split())


def holds(said: str, words: str) -> bool:
    """Whether a text holds these words, which are normalised, one after the other.

    >>> holds("In PARIS.", "paris"), holds("Parisian", "paris"), holds("anything", "")
    (True, False, False)
    """
    return bool(words) and f" {words} " in f" {normalise(said)} "


def form_of(text: str) -> str:
    """The form of an answer: year, number, name or words.

    >>> [form_of(one) for one in (" 1997", "about 12 km", "J. K. Rowling", "a wizard")]
    ['year', 'number', 'name', 'words']
    """
    bare = text.strip(" \t\n.,;:!?\"'")
    if re.fullmatch(r"[12]\d{3}", bare):
        return "year"
    if re.search(r"\d", bare):
        return "number"
    return "name" if bare[:1].isupper() else "words"


def sought(
    tokenizer: Any,
    prompts: Sequence[Prompt],
    said: Sequence[Sequence[int]],
    given: Sequence[tuple[int, ...] | None],
    clusters: Sequence[int],
    stops: frozenset[int],
) -> list[Sought]:
    """The answers that are looked for, question by question; those to which the base says nothing have an empty answer.

    Args:
        tokenizer: of the base.
        prompts: the questions as they are asked.
        said: the base's greedy answers.
        given: ids of the answers in the questions' file, behind their prompts.
        clusters: of the questions.
        stops: ids that end an answer.
    """
    plain = [
        _sought(tokenizer, prompt, [token for token in ids if token not in stops], answer, cluster)
        for prompt, ids, answer, cluster in zip(prompts, said, given, clusters, strict=True)
    ]
    known = {piece for prompt in prompts for piece in pieces(tokenizer, _ids(tokenizer, prompt.question.text))}
    return [_counting(tokenizer, one, plain, known) for one in plain]


def _sought(tokenizer: Any, prompt: Prompt, said: Sequence[int], given: tuple[int, ...] | None, cluster: int) -> Sought:
    file = prompt.question.answer if given else None
    wanted = "" if file is None else normalise(file)
    right = holds(tokenizer.decode(said), wanted) if wanted else None
    answer = _until(tokenizer, said, wanted) if right else _first_line(tokenizer, said)
    text = str(tokenizer.decode(answer))
    matched = given or answer
    return Sought(
        prompt.question, cluster, prompt.ids, answer, wanted if right else normalise(text), matched, (), text,
        file or text, False, right,
    )  # fmt: skip


def _counting(tokenizer: Any, one: Sought, every: Sequence[Sought], known: set[str]) -> Sought:
    own = pieces(tokenizer, one.matched)
    scored = tuple(place for place, piece in enumerate(own) if piece and piece not in known)[:MATCHED]
    others = [other.words for other in every if other.cluster != one.cluster]
    shared = any(holds(words, one.words) for words in others)
    new = any(piece and piece not in known for piece in pieces(tokenizer, one.answer))
    counts = bool(one.words) and new and not shared and not holds(one.question.text, one.words)
    return replace(one, scored=scored, counts=counts)


def _until(tokenizer: Any, said: Sequence[int], words: str) -> tuple[int, ...]:
    """The first ids that hold these words."""
    end = next(size for size in range(1, len(said) + 1) if holds(tokenizer.decode(said[:size]), words))
    return tuple(said[:end])


def _first_line(tokenizer: Any, said: Sequence[int]) -> tuple[int, ...]:
    """The first ids, as far as the first line that says something goes; nothing where no line does."""
    for size in range(1, len(said) + 1):
        text = tokenizer.decode(said[:size]).lstrip()
        if "\n" in text:
            return tuple(said[: size - 1])
    return tuple(said) if normalise(tokenizer.decode(said)) else ()


def _ids(tokenizer: Any, text: str) -> list[int]:
    found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return found


def pieces(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """Each token by itself, normalised: the same with and without a blank before it."""
    return [normalise(tokenizer.decode([token])) for token in ids]
