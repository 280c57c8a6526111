"""Which tokens stand out above noise, and as which words: `kinds_of(look, nulls, kinds)`, `lost_words(...)`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.discovery.words import decode, first_token, is_content, sample_token, word_of
from ckdiff.probes.live.generation import greedy
from ckdiff.report.schema.discovery import LEAST_TEXTS, SIGNIFICANT, LostWord, TextKind, WeightWord
from ckdiff.scoring.discovery import corrected, tail_of
from ckdiff.scoring.means import mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ckdiff.discovery.lost import Look
    from ckdiff.discovery.opening import Models
    from ckdiff.discovery.texts import Texts
    from ckdiff.scoring.discovery import Tail
    from ckdiff.shapes import Bools, Float64, Int64

EVERY = "all"
"""The kind of all texts together."""
SHOWN = 30
"""Words that are kept."""
ENDED = 40
"""Words that are ended: a token with which the tokenizer would not begin its word is a piece all the same."""
LOOKED_AT = 400
"""Of the tokens with the highest rates so many are looked at: the others name nothing."""
LEADS = 10
"""Words of the weights, by source."""
LISTED = 4
"""Lost words behind which a word of the weights is ended."""
AROUND = 24
"""Tokens of the text before the place where a token was lost most."""
WORD = 5
"""Tokens that the base goes on with, at most, to end a word."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Texts of one kind.

    Attributes:
        name: of the kind.
        wanted: their numbers.
        rates: of every token; 0 of one that the base never says [token].
        tail: of the null's rates.
        tokens: how many the base says.
    """

    name: str
    wanted: Int64
    rates: Float64
    tail: Tail
    tokens: int


def kinds_of(of: str, look: Look, nulls: Sequence[Look], kinds: Sequence[str], said: Bools) -> list[Kind]:
    """By kind of text how often each token is lost (or gained), and how often noise takes any token as far.

    The texts of several kinds are a kind as well: noise moves other tokens in each, a topic the same ones.

    Args:
        of: "lost" or "gained".
        look: at the unlearned model.
        nulls: at copies with noise.
        kinds: of the texts.
        said: which tokens the base says; no other is a word [token].
    """
    found = []
    said = said[: look.rows]
    names = list(dict.fromkeys(kinds))
    for name in names if len(names) < 2 else [*names, EVERY]:
        wanted = np.array([n for n, kind in enumerate(kinds) if name in (kind, EVERY)], dtype=np.int64)
        null = np.concatenate([one.rates(of, wanted)[said] for one in nulls]) if nulls else np.ones(1)
        found.append(Kind(name, wanted, np.where(said, look.rates(of, wanted), 0.0), tail_of(null), int(said.sum())))
    return found


def text_kinds(look: Look, nulls: Sequence[Look], kinds: Sequence[Kind]) -> tuple[TextKind, ...]:
    """The kinds as the report has them."""
    rows = []
    for kind in kinds:
        inside = np.isin(look.texts, kind.wanted)
        noise = float(np.mean([one.kl[inside].mean() for one in nulls])) if nulls else math.nan
        rows.append(
            TextKind(
                name=kind.name,
                texts=len(kind.wanted),
                positions=int(inside.sum()),
                kl=float(look.kl[inside].mean()),
                drop=float(look.drop[inside].mean()),
                null_kl=noise,
                threshold=kind.tail.threshold,
                excess=kind.tail.excess,
                share=kind.tail.share,
            )
        )
    return tuple(rows)


@dataclass(frozen=True, slots=True)
class Standing:
    """A token, the kind of text in which it stands out most, and how often chance does as much."""

    token: int
    kind: Kind
    p: float
    rate: float


def stand_out(kinds: Sequence[Kind]) -> list[Standing]:
    """The tokens that stand out most, the least p first, then the highest rate."""
    every = [kind for kind in kinds if len(kind.wanted) >= LEAST_TEXTS]
    told = bool(every)
    every = every or list(kinds)
    tests = len(every) * every[0].tokens
    highest = [np.argsort(-kind.rates, kind="stable")[: LOOKED_AT // len(every)].tolist() for kind in every]
    found = []
    for token in dict.fromkeys(token for part in highest for token in part):
        best = min(every, key=lambda kind: (kind.tail.p(float(kind.rates[token])), -float(kind.rates[token])))
        rate = float(best.rates[token])
        if rate > 0:
            p = corrected(best.tail.p(rate), tests) if told else math.nan
            found.append(Standing(token, best, p, rate))
    return sorted(found, key=lambda one: (one.p if one.p == one.p else 1.0, -one.rate, one.token))


def lost_words(of: str, look: Look, kinds: Sequence[Kind], texts: Texts, models: Models) -> tuple[LostWord, ...]:
    """The words that stand out most, see `in_order`; the base must be loaded, to end them."""
    tokenizer = models.tokenizer
    sample = sample_token(tokenizer, [token for prompt in texts.prompts for token in prompt.answer])
    ranked = [(one, is_content(tokenizer, one.token, sample)) for one in stand_out(kinds)]
    shown = sorted(ranked, key=lambda row: not row[1])[:ENDED]
    places = [_place(of, look, one, texts) for one, _ in shown]
    begun = [(*before[-AROUND:], one.token) for (one, _), before in zip(shown, places, strict=True)]
    found = list[LostWord]()
    for (one, content), before, after in zip(shown, places, _follow(models, begun), strict=True):
        word = word_of(tokenizer, one.token, after, sample)
        whole = content and first_token(models.wording, word) in (one.token, None)
        rate, where = mean(look.by_text(of, one.token, one.kind.wanted), 0, 1), decode(tokenizer, before[-AROUND:])
        found.append(LostWord(word, one.token, one.kind.name, rate, one.p, whole, where))
    return in_order(found, [decode(tokenizer, [one.token]).strip() for one in found])[:SHOWN]


def in_order(words: Sequence[LostWord], tokens: Sequence[str]) -> tuple[LostWord, ...]:
    """Those of content first, and of these what stands out above chance and is one token.

    What the base had to end may be a word that nobody says.

    Args:
        words: the least p first.
        tokens: how the token of each reads; a word that goes on behind it, and not with a hyphen, has been ended.
    """

    def key(number: int) -> tuple[bool, bool]:
        one, alone = words[number], words[number].word.partition("-")[0] == tokens[number]
        return not one.content, not (one.p < SIGNIFICANT and alone)

    return tuple(words[number] for number in sorted(range(len(words)), key=key))


def weight_words(
    scores: Mapping[str, Float64 | None], lost: Bools, beside: Sequence[LostWord], texts: Texts, models: Models
) -> tuple[WeightWord, ...]:
    """The words of content that the change of the weights spells most, the sources turn by turn.

    The base must be loaded, to end them: behind words that texts lost, in two orders. A token that it ends in two ways
    is a word as it is.

    Args:
        scores: by source how far each token stands out [token]; NaN or None: nothing is spelled.
        lost: which tokens are looked at [token].
        beside: words that texts lost, those that stand out most first.
        texts: any of the base's.
        models: the two.
    """
    tokenizer, listed = models.tokenizer, [one.word for one in beside if one.content][:LISTED]
    sample = sample_token(tokenizer, [token for prompt in texts.prompts for token in prompt.answer])
    leads = [
        [(source, token, float(some[token])) for token in _most(tokenizer, np.where(lost, some, -np.inf), sample)]
        for source, some in scores.items()
        if some is not None and np.isfinite(some).all()
    ]
    every = [one for turn in zip_longest(*leads) for one in turn if one is not None]
    lists = ["".join(f" {word}," for word in some) for some in (listed, reversed(listed))]
    before = [models.wording.encoder.ids(text) if listed else () for text in lists]
    after = _follow(models, [(*some, token) for some in before for _, token, _ in every])
    ended = [word_of(tokenizer, one[1], rest, sample) for one, rest in zip(every * 2, after, strict=True)]
    return tuple(
        WeightWord(one if one == other else decode(tokenizer, [token]).strip(), token, source, score)
        for (source, token, score), one, other in zip(every, ended, ended[len(every) :], strict=False)
    )


def _most(tokenizer: Any, scores: Float64, sample: int) -> list[int]:
    """The tokens of content that stand out most."""
    highest = [token for token in np.argsort(-scores, kind="stable")[:LOOKED_AT].tolist() if scores[token] > -np.inf]
    return [token for token in highest if is_content(tokenizer, token, sample)][:LEADS]


def _place(of: str, look: Look, one: Standing, texts: Texts) -> tuple[int, ...]:
    """The ids before the first place, of the best rank, where a token was lost."""
    found = getattr(look, of)
    inside = np.isin(look.texts, one.kind.wanted)
    hits = (found == one.token) & inside[:, None]
    position = int(np.nonzero(hits)[0][np.nonzero(hits)[1].argmin()])
    text = int(look.texts[position])
    prompt = texts.prompts[text]
    inner = position - int(np.searchsorted(look.texts, text))
    return (*prompt.ids, *prompt.answer[:inner])


def _follow(models: Models, prompts: Sequence[tuple[int, ...]]) -> list[list[int]]:
    """What the base goes on with behind each."""
    return greedy(models.base, prompts, WORD, models.stops) if prompts else []
