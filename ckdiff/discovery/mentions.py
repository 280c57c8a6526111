"""Texts that name a candidate: what is lost behind its name, and which words of the texts may be candidates themselves.

found = find_mentions(models.tokenizer, texts, candidates)      # by text and candidate where the name ends
mention_drops(found, look, count)                               # [candidate], a form like the others
name_drops(name_tokens(wording, candidates), look.shift)        # [candidate], another: nobody names it
name_drops(name_tokens(wording, candidates), look.turn)         # and one in which nobody reads anything
said_drops(said_words(models.tokenizer, rounds, count), look)   # and another: the words of what is said about it
words_in(texts)                                                 # words that some of the texts hold, and not most
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.discovery.candidates import TEXT, Candidate
from ckdiff.discovery.words import LEAST_LETTERS, STOP, decode, is_content, sample_token, tokens_of
from ckdiff.questions.layouts import fold
from ckdiff.scoring.discovery import form_drops

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.discovery.asking import Round
    from ckdiff.discovery.lost import Look
    from ckdiff.discovery.texts import Texts
    from ckdiff.probes.wording.wording import Wording
    from ckdiff.shapes import Float64

SAID = "said"
"""The form of the words that the base says about a candidate: how much less probable they are anywhere."""
SPELLED = "said, written"
"""The form of how far the change of the weights spells these words."""
TELLING = 3
"""Words that tell a candidate: those that were written most."""
LEAST_TEXTS = 3
"""Texts that hold a word, below which it is no candidate."""
MOST_SHARE = 0.25
"""Of the texts; a word that more of them hold tells none of them from the others."""
MOST_WORDS = 64


@dataclass(frozen=True, slots=True)
class Mention:
    """A candidate's number, a text's number, and the first of its scored tokens behind the candidate's name."""

    candidate: int
    text: int
    first: int


def words_in(texts: Texts) -> list[Candidate]:
    """Words that name what some of the texts are about: several hold them, and not most; rarer ones first."""
    held: Counter[str] = Counter()
    spelled: dict[str, str] = {}
    for prompt in texts.prompts:
        words = {word for word in re.findall(r"[^\W\d_]+", prompt.question.text) if len(word) >= LEAST_LETTERS}
        for word in sorted(words):
            spelled.setdefault(fold(word), word)
        held.update({fold(word) for word in words} - STOP)
    most = MOST_SHARE * len(texts.prompts)
    kept = [word for word, count in held.items() if LEAST_TEXTS <= count <= most]
    return [Candidate(spelled[word]) for word in sorted(kept, key=lambda word: (-held[word], word))[:MOST_WORDS]]


def find_mentions(tokenizer: Any, texts: Texts, candidates: Sequence[Candidate]) -> list[Mention]:
    """Where texts name candidates: as whole words, whatever their case."""
    patterns = [re.compile(rf"(?<!\w){re.escape(one.name)}(?!\w)", re.IGNORECASE) for one in candidates]
    found = []
    for text, prompt in enumerate(texts.prompts):
        ids = (*prompt.ids, *prompt.answer)
        whole = decode(tokenizer, ids)
        hits = [(number, hit.end()) for number, one in enumerate(patterns) if (hit := one.search(whole))]
        if not hits:
            continue
        ends = [len(decode(tokenizer, ids[: count + 1])) for count in range(len(ids))]
        for number, end in hits:
            behind = next(place for place, size in enumerate(ends) if size >= end) + 1
            first = max(0, behind - len(prompt.ids))
            if first < len(prompt.answer):
                found.append(Mention(number, text, first))
    return found


def name_tokens(wording: Wording, candidates: Sequence[Candidate]) -> list[list[int]]:
    """Of each candidate the tokens of its name that say something.

    Of each word of three letters or more its tokens of three letters or more, as it stands within a text; where all are
    shorter, those of two.
    """
    unknown = getattr(wording.encoder.tokenizer, "unk_token_id", None)
    found = []
    for one in candidates:
        words = [word for word in re.findall(r"[^\W\d_]+", one.name) if len(word) >= LEAST_LETTERS]
        every = [token for word in words if fold(word) not in STOP for token in _telling(wording, word)]
        found.append([token for token in dict.fromkeys(every) if token != unknown])
    return found


def _telling(wording: Wording, word: str) -> list[int]:
    """The tokens of a word that tell it, as it stands within a text."""
    tokenizer, every = wording.encoder.tokenizer, tokens_of(wording, word)
    letters = [sum(map(str.isalpha, decode(tokenizer, [token]))) for token in every]
    least = LEAST_LETTERS if max(letters, default=0) >= LEAST_LETTERS else LEAST_LETTERS - 1
    return [token for token, count in zip(every, letters, strict=True) if count >= least]


def name_drops(tokens: Sequence[Sequence[int]], values: Float64) -> Float64:
    """The mean over the words of each candidate's name of what tokens lost [candidate]; NaN without any.

    Args:
        tokens: from `name_tokens`.
        values: what each token lost (`Look.shift`), or how far it stands out (`Look.turn`, `directions.spell`).
    """
    known = [[token for token in part if token < len(values)] for part in tokens]
    return np.array([float(values[part].mean()) if part else np.nan for part in known], dtype=np.float64)


def said_words(tokenizer: Any, rounds: Sequence[Round], count: int) -> list[list[int]]:
    """Of each candidate the words of what the base says about it, as the tokens that begin them, each once."""
    found: list[dict[int, None]] = [{} for _ in range(count)]
    spoken = [one for one in rounds if one.form != TEXT]
    every = {token for one in spoken for prompt in one.prompts for token in prompt.answer}
    sample = sample_token(tokenizer, sorted(every) or [0])
    content = {token for token in every if is_content(tokenizer, token, sample)}
    for one in spoken:
        for prompt, owner in zip(one.prompts, one.owners.tolist(), strict=True):
            found[owner] |= dict.fromkeys(token for token in prompt.answer if token in content)
    return [[*words] for words in found]


def said_drops(words: Sequence[Sequence[int]], look: Look) -> Float64:
    """The mean shift of the words said about each candidate over all positions [candidate], in nats; NaN without any.

    A word that is said about several candidates counts as much less.
    """
    held = Counter(token for part in words for token in part)
    found = np.full(len(words), np.nan)
    for number, part in enumerate(words):
        if part:
            found[number] = np.average(look.shift[[*part]], weights=[1 / held[token] for token in part])
    return found


def said_written(words: Sequence[Sequence[int]], look: Look, written: Float64) -> Float64:
    """How far the words said about each candidate were written [candidate]: the mean of its three that were most.

    A word that is said about several candidates counts as much less, and one that texts did not lose for nothing; NaN
    without any, or without what was written.

    Args:
        words: from `said_words`.
        look: of the texts.
        written: from `directions.spell` [token].
    """
    held = Counter(token for part in words for token in part)
    values = np.where(look.shift > 0, written[: look.rows], 0.0) if np.isfinite(written).all() else None
    found = np.full(len(words), np.nan)
    for number, part in enumerate(words):
        if part and values is not None:
            found[number] = np.sort([values[token] / held[token] for token in part])[-TELLING:].mean()
    return found


def mention_drops(found: Sequence[Mention], look: Look, tokens: Sequence[Sequence[int]], count: int) -> Float64:
    """The drop of each candidate behind its name, less what the same tokens lose behind others' [candidate].

    Args:
        found: from `find_mentions`.
        look: of the texts.
        tokens: scored ones of each text.
        count: of candidates.
    """
    starts = np.concatenate([[0], np.cumsum([len(part) for part in tokens])])
    drops = [look.drop[starts[one.text] + one.first : starts[one.text + 1]] for one in found]
    ids = [np.array(tokens[one.text][one.first :], dtype=np.int64) for one in found]
    return form_drops(drops, ids, np.array([one.candidate for one in found], dtype=np.int64), count)
