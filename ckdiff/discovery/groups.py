"""Lost words that go together, and where: `group_words(words, look, nulls, texts, tokenizer)`.

Two words go together where they are lost at the same positions. Groups are joined by average linkage while the mean
Jaccard index of the pairs across two of them is a third or more: words that are as frequent are then lost at half of
each other's positions. A plain way, where factorising the table of positions and words would ask for another library.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.discovery.words import decode
from ckdiff.report.schema.discovery import LEAST_TEXTS, GroupSpan, LostGroup
from ckdiff.scoring.discovery import Tail, pair_p, tail_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from ckdiff.discovery.lost import Look
    from ckdiff.discovery.texts import Texts
    from ckdiff.report.schema.discovery import LostWord
    from ckdiff.shapes import Float64, Int64

    Hits = npt.NDArray[np.bool_]

LEAST_ALIKE = 1 / 3
"""Groups are joined while the mean Jaccard index across them is as great."""
SPANS = 3
"""Of each group, in texts of their own."""
AROUND = 24
"""Tokens before a span."""
PAIRED = 400
"""Of a noisy copy the pairs of so many tokens with the highest rates are looked at: others are lost together less."""


@dataclass(frozen=True, slots=True)
class Grouping:
    """Groups, the least p first, where they show, and the tail of what pairs of tokens reach under noise."""

    groups: tuple[LostGroup, ...]
    spans: tuple[GroupSpan, ...]
    tail: Tail


def group_words(words: Sequence[LostWord], seen: Look, nulls: Sequence[Look], texts: Texts, tokenizer: Any) -> Grouping:
    """Group the words of content."""
    some = [one for one in words if one.content]
    told = len(texts.prompts) >= LEAST_TEXTS and bool(nulls)
    tail = pair_tail(nulls) if told else Tail(math.nan, math.nan, math.nan)
    hits = hits_of(seen, np.array([one.token for one in some], dtype=np.int64))
    both, alike = lost_together(hits, position_weights(seen))
    found = []
    for members in link(alike):
        pairs = np.ix_(members, members)
        together, near = (_mean_of_pairs(one[pairs]) for one in (both, alike))
        p = pair_p(tail, together, seen.rows)
        found.append((members, LostGroup(tuple(some[n].word for n in members), together, near, p)))
    found.sort(key=lambda one: (one[1].p if one[1].p == one[1].p else 1.0, -one[1].together))
    spans = [
        span
        for number, (members, _) in enumerate(found)
        for span in _spans(number, hits[:, members], seen, texts, tokenizer)
    ]
    return Grouping(tuple(one for _, one in found), tuple(spans), tail)


def hits_of(seen: Look, tokens: Int64) -> Hits:
    """Whether each of some tokens is lost at each position [position, token]."""
    place = np.full(seen.rows, -1)
    place[tokens] = np.arange(len(tokens))
    column = place[seen.lost]
    row = np.broadcast_to(np.arange(len(seen.lost))[:, None], column.shape)
    found = np.zeros((len(seen.lost), len(tokens)), dtype=np.bool_)
    found[row[column >= 0], column[column >= 0]] = True
    return found


def position_weights(seen: Look) -> Float64:
    """The share that each position has in a mean over texts of a mean over their positions [position]."""
    counts = np.bincount(seen.texts)
    found: Float64 = 1 / counts[seen.texts] / np.count_nonzero(counts)
    return found


def lost_together(hits: Hits, weights: Float64) -> tuple[Float64, Float64]:
    """The share of positions at which two tokens are both lost, and of those at which either is [token, token]."""
    held = hits.astype(np.float64)
    both = (held * weights[:, None]).T @ held
    own = both.diagonal()
    either = own[:, None] + own - both
    alike: Float64 = np.divide(both, either, out=np.zeros_like(both), where=either > 0)
    return both, alike


def link(alike: Float64) -> list[list[int]]:
    """Groups of two or more that average linkage joins, each in order."""
    groups = [[number] for number in range(len(alike))]
    while len(groups) > 1:
        pairs = [(a, b) for b in range(len(groups)) for a in range(b)]
        means = [float(alike[np.ix_(groups[a], groups[b])].mean()) for a, b in pairs]
        best = int(np.argmax(means))
        if means[best] < LEAST_ALIKE:
            break
        first, second = pairs[best]
        groups[first] = sorted([*groups[first], *groups.pop(second)])
    return [group for group in groups if len(group) > 1]


def pair_tail(nulls: Sequence[Look]) -> Tail:
    """The tail of the shares of positions at which noise takes two tokens together, among all pairs of the vocabulary.

    Pairs that are not looked at are below it.
    """
    parts, pairs = [], 0
    for one in nulls:
        weights = position_weights(one)
        rates = one.rates("lost", np.unique(one.texts))
        tokens = np.argsort(-rates, kind="stable")[:PAIRED]
        both, _ = lost_together(hits_of(one, tokens), weights)
        parts.append(both[np.triu_indices(len(both), 1)])
        pairs += math.comb(one.rows, 2)
    every = np.concatenate(parts)
    tail = tail_of(every)
    return replace(tail, share=tail.share * len(every) / pairs)


def _mean_of_pairs(square: Float64) -> float:
    return float(square[np.triu_indices(len(square), 1)].mean())


def _spans(number: int, hits: Hits, seen: Look, texts: Texts, tokenizer: Any) -> Iterator[GroupSpan]:
    """Where a group shows most, in texts of their own: half of its words or more, two at least, are lost."""
    counts = hits.sum(axis=1)
    there = counts >= max(2, -(-hits.shape[1] // 2))
    best: dict[int, tuple[int, int]] = {}
    for first, last in sorted(_runs(there, seen.texts), key=lambda run: -int(counts[run[0] : run[1]].sum())):
        best.setdefault(int(seen.texts[first]), (first, last))
    for text, (first, last) in [*best.items()][:SPANS]:
        prompt, start = texts.prompts[text], int(np.searchsorted(seen.texts, text))
        before = (*prompt.ids, *prompt.answer[: first - start])
        yield GroupSpan(
            number,
            texts.kinds[text],
            decode(tokenizer, before[-AROUND:]),
            decode(tokenizer, prompt.answer[first - start : last - start]),
            float(hits[first:last].mean()),
        )


def _runs(there: Hits, texts: Int64) -> list[tuple[int, int]]:
    """Runs of positions within a text, each as its first and one behind its last."""
    runs: list[tuple[int, int]] = []
    for place in np.nonzero(there)[0].tolist():
        if runs and runs[-1][1] == place and texts[place] == texts[place - 1]:
            runs[-1] = (runs[-1][0], place + 1)
        else:
            runs.append((place, place + 1))
    return runs
