"""Texts that grow together: `greedy_together(live, prompts, tokens, stops, tell)`, prompts in order of their lengths.

A step of few texts costs about as much as one of many, since every weight is read for it. So prompts of several lengths
go together without a pad between them: the shorter ones are gone on with until they are as long as the next, which join
them. Texts that are done leave. Of a cache that holds more than keys and values each length goes by itself.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from torch import Tensor

PLAIN = frozenset({"DynamicLayer", "DynamicSlidingWindowLayer"})
"""Kinds of a cache's layers that hold keys and values [text, head, position, d_head], and nothing else of a text."""


class Speaker(Protocol):
    """Whatever makes logits as a live model does."""

    @property
    def device(self) -> torch.device:
        """Where ids go."""

    def forward(self, **inputs: Any) -> Any:
        """Logits [prompt, position, d_vocab], and what may be given back as `past_key_values`."""

    def regime(self, length: int) -> Hashable:
        """Equal for two lengths of which the shorter one's cache serves the longer one."""


@dataclass(slots=True)
class _Texts:
    """Texts of one length.

    Attributes:
        live: what makes them longer.
        rows: which prompt each belongs to.
        ids: prompts and what was said so far [text, position].
        logits: behind them [text, d_vocab].
        cache: the model's.
    """

    live: Speaker
    rows: list[int]
    ids: Tensor
    logits: Tensor
    cache: Any

    @property
    def length(self) -> int:
        """How long each of them is."""
        return self.ids.shape[1]

    def join(self, other: _Texts) -> bool:
        """Take other texts of the same length in, where both caches can be put together."""
        pairs = list(zip(layers_of(self.cache), layers_of(other.cache), strict=False))
        if not pairs or any(_shape(own) != _shape(new) for own, new in pairs):
            return False
        for own, new in pairs:
            if own.keys is not None:
                own.keys, own.values = torch.cat([own.keys, new.keys]), torch.cat([own.values, new.values])
        self.rows = self.rows + other.rows
        self.ids, self.logits = torch.cat([self.ids, other.ids]), torch.cat([self.logits, other.logits])
        return True

    def grow(self, tokens: Tensor) -> None:
        """One token more of each [text]."""
        self.ids = torch.cat([self.ids, tokens[:, None]], 1)
        if self.live.regime(self.length) == self.live.regime(self.length - 1):
            out = self.live.forward(input_ids=self.ids[:, -1:], use_cache=True, past_key_values=self.cache)
        else:
            # What is cached was turned by the frequencies of a shorter text.
            out = self.live.forward(input_ids=self.ids, use_cache=True)
        self.logits, self.cache = out.logits[:, -1], out.past_key_values

    def keep(self, places: Sequence[int]) -> None:
        """Leave the other texts, where the cache can be cut."""
        if not layers_of(self.cache) or len(places) == len(self.rows):
            return
        index = torch.tensor(places, device=self.ids.device)
        self.rows, self.ids, self.logits = [self.rows[place] for place in places], self.ids[index], self.logits[index]
        self.cache = fork(self.cache, index)


def fork(cache: Any, index: Tensor) -> Any:
    """A cache of some of the texts of one that `layers_of` knows, any of them as often as it is named.

    Args:
        cache: of texts; it stays as it is.
        index: their numbers [text].
    """
    found = copy(cache)
    found.layers = [copy(layer) for layer in cache.layers]
    for layer in found.layers:
        if layer.keys is not None:
            layer.keys, layer.values = layer.keys[index], layer.values[index]
    return found


def layers_of(cache: Any) -> list[Any]:
    """The layers of a cache that holds keys and values and nothing else; none of any other."""
    layers = list(getattr(cache, "layers", ()))
    plain = type(cache).__name__ == "DynamicCache" and all(type(layer).__name__ in PLAIN for layer in layers)
    return layers if plain else []


def _shape(layer: Any) -> tuple[Any, ...]:
    """The shape of what a layer of a cache holds of one text."""
    return () if layer.keys is None else (type(layer), layer.keys.shape[1:], layer.values.shape[1:])


def greedy_together(
    live: Speaker,
    prompts: Sequence[Sequence[int]],
    tokens: int,
    stops: frozenset[int],
    tell: Callable[[int], None],
) -> list[list[int]]:
    """The most likely tokens behind each prompt, at most so many; a stop token is the last one.

    Args:
        live: what makes logits.
        prompts: in the order of their lengths.
        tokens: the most of an answer.
        stops: ids that end one.
        tell: called with the number of prompts that are done.
    """
    answers: list[list[int]] = [[] for _ in prompts]
    waiting = list(range(len(prompts)))
    going: list[_Texts] = []
    while going or waiting:
        length = going[0].length if going else len(prompts[waiting[0]])
        new = [row for row in waiting if len(prompts[row]) == length]
        if new:
            waiting = waiting[len(new) :]
            begun = _begin(live, [prompts[row] for row in new], new)
            if not (going and going[0].join(begun)):
                # What cannot join is ended first.
                going = [begun, *going]
        if not _say(going[0], answers, tokens, stops):
            going = going[1:]
            tell(sum(_is_done(answer, tokens, stops) for answer in answers))
    return answers


def _begin(live: Speaker, prompts: Sequence[Sequence[int]], rows: list[int]) -> _Texts:
    """Prompts of one length, read."""
    ids = torch.tensor([list(prompt) for prompt in prompts], device=live.device)
    out = live.forward(input_ids=ids, use_cache=True)
    return _Texts(live, rows, ids, out.logits[:, -1], out.past_key_values)


def _say(texts: _Texts, answers: list[list[int]], tokens: int, stops: frozenset[int]) -> bool:
    """Add the next token to each answer that is not done; whether anything is left to be said."""
    best = texts.logits.argmax(-1)
    for row, token in zip(texts.rows, best.tolist(), strict=True):
        if not _is_done(answers[row], tokens, stops):
            answers[row].append(token)
    left = [place for place, row in enumerate(texts.rows) if not _is_done(answers[row], tokens, stops)]
    if not left:
        return False
    rows = texts.rows
    texts.keep(left)
    texts.grow(best if texts.rows == rows else best[torch.tensor(left, device=best.device)])
    return True


def _is_done(answer: Sequence[int], tokens: int, stops: frozenset[int]) -> bool:
    return len(answer) >= tokens or bool(answer and answer[-1] in stops)
