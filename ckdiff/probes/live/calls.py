"""The arguments of a layer for any batch, from those of a batch of one and of two: `call_of(one, two).of(5)`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

Seen = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments as a layer got them, without the hidden state."""


class Call(NamedTuple):
    """The arguments of one layer beside the hidden state, as the model's own forward gives them.

    Those of a batch of one broadcast; what grows with the batch (ALiBi biases laid out by head) is repeated.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    grows: frozenset[int | str]

    def of(self, batch: int) -> tuple[list[Any], dict[str, Any]]:
        """Positional and keyword arguments for a batch of some size."""
        args = [self._resize(place, value, batch) for place, value in enumerate(self.args)]
        return args, {name: self._resize(name, value, batch) for name, value in self.kwargs.items()}

    def _resize(self, place: int | str, value: Any, batch: int) -> Any:
        if place not in self.grows:
            return value
        if value.shape[0] == 1:
            return value.expand(batch, *value.shape[1:])
        return value.repeat(batch, *(1,) * (value.dim() - 1))


def call_of(one: Seen, two: Seen) -> Call:
    """The call of a layer that was seen with a batch of one, and with a batch of two."""
    places: list[tuple[int | str, Any, Any]] = [(n, a, b) for n, (a, b) in enumerate(zip(one[0], two[0], strict=True))]
    places += [(name, value, two[1][name]) for name, value in one[1].items()]
    grows = {
        place for place, a, b in places if isinstance(a, torch.Tensor) and a.dim() and b.shape[0] == 2 * a.shape[0]
    }
    return Call(one[0], one[1], frozenset(grows))
