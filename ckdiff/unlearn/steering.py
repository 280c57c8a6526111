"""States behind one layer, read and led astray, as RMU does: `choose_steering(live, forget, recipe, arithmetic)`.

The layer is where the paper has it, at 7 of 32; what is trained are the value vectors of that layer and of the two
before it, as in the authors' code. Every state of forget text is led to one random state. Its length is the paper's c
where `--steering` says so; a number that suits one model suits no other, so it is else five times the median length of
the base's own states there. Sources: Li et al. 2024, arXiv:2403.03218, section 4; for the length Huu-Tien et al. 2024,
arXiv:2408.06223.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ckdiff.unlearn.methods import IGNORED
from ckdiff.unlearn.recipe import RecipeError
from ckdiff.unlearn.sequences import pad

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor

    from ckdiff.probes.live.model import LiveModel
    from ckdiff.unlearn.recipe import Recipe
    from ckdiff.unlearn.sequences import Tokens

DEPTH = 7 / 32
"""Where the layer is, as a share of all."""
BEFORE = 2
"""Layers before it that are trained as well."""
TIMES = 5.0
"""Lengths of the base's states that the random one has."""


@dataclass(frozen=True, slots=True)
class Steering:
    """Where states are read, and where to they are led.

    Attributes:
        layer: the layer behind which they are read.
        steer: the state that those of forget text are led to [d_model].
        length: its length, c of the paper.
    """

    layer: int
    steer: Tensor
    length: float


def choose_steering(
    live: LiveModel,
    forget: Sequence[Tokens],
    recipe: Recipe,
    arithmetic: Callable[[], AbstractContextManager[None]],
) -> Steering:
    """Layer, direction and length for a recipe, while the model still is the base.

    Raises:
        RecipeError: there is no such layer.
    """
    last = len(live.layers) - 1
    layer = min(last, max(BEFORE, round(DEPTH * (last + 1)))) if recipe.layer is None else recipe.layer
    if layer > last:
        raise RecipeError(f"--layer: {layer} is none of this model's; give 0 to {last}")
    width = live.model.get_input_embeddings().embedding_dim
    # Numbers of [0, 1), as the paper draws them.
    drawn = torch.from_numpy(np.random.default_rng([recipe.seed]).random(width)).float()
    length = recipe.steering or TIMES * _median_length(live, layer, forget, recipe.batch_size, arithmetic)
    return Steering(layer, (length / drawn.norm() * drawn).to(live.device), length)


def _median_length(
    live: LiveModel,
    layer: int,
    texts: Sequence[Tokens],
    batch: int,
    arithmetic: Callable[[], AbstractContextManager[None]],
) -> float:
    """Of the states from which scored tokens are predicted: a first token's can be a hundred times as long."""
    found = []
    for first in range(0, len(texts), batch):
        group = pad(texts[first : first + batch], live.device)
        with torch.no_grad(), arithmetic(), read_states(live, layer) as seen:
            live.model(input_ids=group.ids, use_cache=False)
        found.append(seen[0][:, :-1][group.labels[:, 1:] != IGNORED].float().norm(dim=-1))
    return float(torch.cat(found).median())


@contextlib.contextmanager
def read_states(live: LiveModel, layer: int | None) -> Iterator[list[Tensor]]:
    """What comes out of a layer in every forward meanwhile [batch, position, d_model]; nothing without a layer."""
    seen: list[Tensor] = []

    def keep(module: Any, inputs: Any, output: Any) -> None:
        seen.append(output[0] if isinstance(output, tuple) else output)

    if layer is None:
        yield seen
        return
    handle = live.layers[layer].register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


def want_gradients(live: LiveModel, steering: Steering | None) -> None:
    """Mark what is trained: everything, or near a layer that is steered the value vectors."""
    for parameter in live.model.parameters():
        parameter.requires_grad_(steering is None)
    if steering is None:
        return
    for number in range(max(0, steering.layer - BEFORE), steering.layer + 1):
        sites = live.sites[number]
        for name in sites.parameters["value_vectors"]:
            sites.layer.get_parameter(name).requires_grad_(True)
