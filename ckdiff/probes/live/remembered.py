"""What a model remembers of texts, handed on: a cache of keys and values parted, cut, joined and set in line.

    cache = fork(cache, index)           # of some of its texts, any of them as often as it is named
    cache = cut(cache, index, length)    # the same, without the pads behind them
    cache = in_line(cache, lengths)      # texts of several lengths end at one place, with gaps before them

All of it is for caches that hold keys and values and nothing else (`layers_of`). Before a gap nothing is forgotten and
behind it everything lies as in the text alone, so that windows and distances stay what they are; a mask hides the gap,
and the model is told where each token stands (`beyond`).
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Change = Callable[[Tensor], Tensor]

PLAIN = frozenset({"DynamicLayer", "DynamicSlidingWindowLayer"})
"""Kinds of a cache's layers that hold keys and values [text, head, position, d_head], and nothing else of a text."""


def layers_of(cache: Any) -> list[Any]:
    """The layers of a cache that holds keys and values and nothing else; none of any other."""
    layers = list(getattr(cache, "layers", ()))
    plain = type(cache).__name__ == "DynamicCache" and all(type(layer).__name__ in PLAIN for layer in layers)
    return layers if plain else []


def is_whole(cache: Any, length: int) -> bool:
    """Whether a cache holds every position of texts of a length: then pads and gaps can be taken away or put in."""
    layers = layers_of(cache)
    return bool(layers) and all(length < getattr(layer, "sliding_window", length + 1) for layer in layers)


def fork(cache: Any, index: Tensor) -> Any:
    """A cache of some of the texts of one that `layers_of` knows, any of them as often as it is named.

    Args:
        cache: of texts; it stays as it is.
        index: their numbers [text].
    """
    return _changed(cache, lambda values: values[index])


def cut(cache: Any, index: Tensor, length: int) -> Any:
    """A cache of some of the texts of a whole one, of which so many positions are left."""
    return _changed(cache, lambda values: values[index, :, :length], length)


def in_line(cache: Any, lengths: Tensor) -> Any:
    """A whole cache of texts that are padded behind, each moved up to the end of the longest [text]."""
    width = int(lengths.max())
    if bool((lengths == width).all()):
        return cache
    # What lies in a gap is a copy of the first position, which the mask hides: a number at any rate.
    places = (torch.arange(width, device=lengths.device) - (width - lengths)[:, None]).clamp_(min=0)
    return _changed(cache, lambda values: torch.take_along_dim(values, places[:, None, :, None], 2), width)


def joined(cache: Any, other: Any) -> Any:
    """The texts of two caches, or None where they cannot be put together; both end at the same position."""
    pairs = list(zip(layers_of(cache), layers_of(other), strict=False))
    if not pairs or any(_shape(own) != _shape(new) for own, new in pairs):
        return None
    found = copy(cache)
    found.layers = [copy(layer) for layer in cache.layers]
    for layer, (own, new) in zip(found.layers, pairs, strict=True):
        if own.keys is not None:
            layer.keys, layer.values = torch.cat([own.keys, new.keys]), torch.cat([own.values, new.values])
    return found


def beyond(gaps: Tensor, length: int, tokens: int) -> dict[str, Tensor]:
    """What a model must be told of texts with gaps before them when they go on; nothing where there is none.

    Args:
        gaps: how wide each is [text].
        length: of what is remembered, gaps included.
        tokens: how many each goes on with.
    """
    if not gaps.any():
        return {}
    places = torch.arange(length + tokens, device=gaps.device)
    return {"attention_mask": (places >= gaps[:, None]).long(), "position_ids": places[length:] - gaps[:, None]}


def _changed(cache: Any, change: Change, length: int | None = None) -> Any:
    """A cache whose keys and values are others, of this length where it is another one."""
    found = copy(cache)
    found.layers = [copy(layer) for layer in cache.layers]
    for layer in found.layers:
        if layer.keys is not None:
            layer.keys, layer.values = change(layer.keys), change(layer.values)
        if length is not None and hasattr(layer, "cumulative_length"):
            layer.cumulative_length = length
    return found


def _shape(layer: Any) -> tuple[Any, ...]:
    """The shape of what a layer of a cache holds of one text."""
    return () if layer.keys is None else (type(layer), layer.keys.shape[1:], layer.values.shape[1:])
