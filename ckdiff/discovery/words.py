"""Lost tokens as words: `word_of(tokenizer, token, context, following)`; content words go before pieces of words.

A token that begins a word is continued as the base itself continues it; one that stands inside a word stays a piece.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.probes.wording.wording import Wording

LEAST_LETTERS = 3
SMALL = """
    a about above after again against all also am an and any are as at be because been before being below
    between both but by can could did do does doing down during each even few for from further had has have
    having he her here hers herself him himself his how however i if in into is it its itself just like made
    make many may me might more most much must my myself no nor not now of off often on once one only onto or
    other our ours out over own per rather same shall she should since so some still such than that the their
    theirs them themselves then there these they this those though through thus to too under until up upon us
    very was we were what when where whether which while who whom whose why will with within without would yet
    you your yours
"""
STOP = frozenset(SMALL.split())
"""Words that say nothing by themselves."""
BEFORE = "one"
"""A word before another, so that its first token is what begins a word within a text."""
INSIDE = "…"
"""Stands before a piece that no word begins with."""


def begins_word(tokenizer: Any, token: int, sample: int) -> bool:
    """Whether a token begins a word: a blank stands between it and a token before it.

    Args:
        tokenizer: of the base.
        token: the token.
        sample: any token that ends with a letter.
    """
    before = decode(tokenizer, [sample])
    both = decode(tokenizer, [sample, token])
    rest = both[len(before) :] if both.startswith(before) else decode(tokenizer, [token])
    return rest[:1].isspace() and rest.strip()[:1].isalpha()


def is_content(tokenizer: Any, token: int, sample: int) -> bool:
    """Whether a token begins a word of three letters or more that says something by itself."""
    text = decode(tokenizer, [token]).strip()
    letters = sum(char.isalpha() for char in text)
    if letters < LEAST_LETTERS or text.casefold() in STOP or not text.isprintable():
        return False
    return begins_word(tokenizer, token, sample)


def first_token(wording: Wording, word: str) -> int | None:
    """The token with which a word begins inside a text, or None where the tokenizer joins it to the word before."""
    return next(iter(tokens_of(wording, word)), None)


def tokens_of(wording: Wording, word: str) -> list[int]:
    """The tokens of a word inside a text; none where the tokenizer joins it to the word before."""
    bare, whole = (wording.encoder.ids(text, start=False) for text in (BEFORE, f"{BEFORE} {word}"))
    return [*whole[len(bare) :]] if whole[: len(bare)] == bare else []


def sample_token(tokenizer: Any, ids: Sequence[int]) -> int:
    """A token that ends with a letter, of these, or the first."""
    return next((token for token in ids if decode(tokenizer, [token])[-1:].isalpha()), ids[0])


def word_of(tokenizer: Any, token: int, following: Sequence[int], sample: int) -> str:
    """The word that a token begins, as the base goes on with it; a piece where it begins none."""
    if not begins_word(tokenizer, token, sample):
        return INSIDE + decode(tokenizer, [token]).strip()
    text = decode(tokenizer, [sample, token, *following])[len(decode(tokenizer, [sample])) :].lstrip()
    kept = next((place for place, char in enumerate(text) if not (char.isalnum() or char == "-")), len(text))
    own = decode(tokenizer, [token]).strip()
    return text[:kept].rstrip("-") or own


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    """Ids as text, blanks as they are."""
    return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))
