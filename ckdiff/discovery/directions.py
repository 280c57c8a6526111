"""What changes of value matrices write: `value_directions(base, unlearned)`, and `spell(directions, ...)` as tokens.

The strongest directions in which the last MLPs' output projections changed are written into the residual stream;
through the final norm and the unembedding they are tokens. Earlier layers write for those behind them: what they write
reads as any words. Random changes of the same size write any token alike.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from ckdiff.probes.live.model import LiveModel
    from ckdiff.shapes import Float64

EACH = 6
"""Directions of a layer."""
BESIDE = 10
"""Directions that are looked for beside them, so that these are found sooner."""
LAST = 3
"""Of the layers that changed so manieth a part is read: the last ones, which write for the unembedding."""
ROUNDS = 6
"""Of the subspace iteration that finds them."""
BLOCK = 8192
"""Tokens that are looked at in one go."""


@dataclass(frozen=True, slots=True)
class Directions:
    """Directions of the residual stream.

    Attributes:
        vectors: each of length 1 [direction, d_model].
        strength: what each counts: the square of its singular value [direction].
    """

    vectors: Tensor
    strength: Tensor


def value_directions(base: LiveModel, unlearned: LiveModel) -> Directions:
    """The strongest directions of the change of the value vectors in the last third of the layers where they changed.

    The first left singular vectors of W_V unlearned - W_V base; of experts there are none.
    """
    found = [strongest(change) for change in _changes(base, unlearned) if change.any()]
    last = found[-len(found) // LAST :]
    width = base.model.get_input_embeddings().embedding_dim
    none = torch.zeros(0, width, device=base.device)
    vectors = torch.cat([none, *(one.vectors for one in last)])
    return Directions(vectors, torch.cat([none[:, 0], *(one.strength for one in last)]))


def _changes(base: LiveModel, unlearned: LiveModel) -> Iterator[Tensor]:
    """By layer the change of its value matrix [d_model, neuron]."""
    for _, ours, theirs in value_matrices(base, unlearned):
        yield theirs - ours


def value_matrices(base: LiveModel, unlearned: LiveModel) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Number of each dense layer, and both value matrices [d_model, neuron] as they are stored, in float32."""
    for number, sites in enumerate(base.sites):
        if sites.values is None:
            continue
        for name in sites.parameters["value_vectors"]:
            key = f"{base.row.sites.layers}.{number}.{name}"
            if base.dimensions(key) == 2:
                both = [live.read(key).float() for live in (base, unlearned)]
                ours, theirs = both if isinstance(sites.values, nn.Linear) else [one.T for one in both]
                yield number, ours, theirs


def strongest(change: Tensor) -> Directions:
    """The first left singular vectors of a matrix, by subspace iteration, and the squares of their singular values."""
    count = min(EACH + BESIDE, *change.shape)
    basis = torch.randn(change.shape[0], count, generator=torch.Generator().manual_seed(0)).to(change)
    for _ in range(ROUNDS):
        basis = torch.linalg.qr(change @ (change.T @ basis))[0]
    left, values, _ = torch.linalg.svd(basis.T @ change, full_matrices=False)
    return Directions((basis @ left)[:, :EACH].T, values[:EACH].square())


def random_directions(like: Directions, seed: int) -> Directions:
    """As many directions, as strong, that mean nothing: what the change of a noisy copy writes."""
    drawn = torch.randn(like.vectors.shape, generator=torch.Generator().manual_seed(seed)).to(like.vectors)
    return replace(like, vectors=drawn / drawn.norm(dim=1, keepdim=True))


def norm_gain(live: LiveModel) -> Tensor:
    """What the final norm, which must be loaded, multiplies each dimension by [d_model].

    Its outputs for a state of ones and minus ones and for that state's reverse: what it adds is in both.
    """
    width = live.model.get_input_embeddings().embedding_dim
    state = torch.ones(1, width, device=live.device, dtype=live.dtype)
    state[:, 1::2] = -1
    found: Tensor = ((live.tail(state) - live.tail(-state)) / 2 * state)[0].float()
    return found


def spell(directions: Directions, gain: Tensor, weight: Tensor) -> Float64:
    """How far each token stands out in what some directions are written as [token], in standard deviations over tokens.

    sum over directions of strength z², less its mean over tokens, over its standard deviation; z standardises
    cos(gain (W_t - mean W), direction) over tokens, since some directions are all frequent words alike. Directions have
    no sign. NaN everywhere without directions.

    Args:
        directions: from `value_directions`.
        gain: from `norm_gain`.
        weight: the unembedding [token, d_model].
    """
    if not len(directions.vectors):
        return np.full(len(weight), np.nan)
    cosines = written_cosines(directions.vectors, gain, weight).double()
    apart = ((cosines - cosines.mean(0)) / cosines.std(0)).square() @ directions.strength.double()
    found: Float64 = ((apart - apart.mean()) / apart.std()).cpu().numpy()
    return found


def written_cosines(directions: Tensor, gain: Tensor, weight: Tensor) -> Tensor:
    """cos(gain (W_t - mean W), direction), but for the directions' lengths [token, direction]; see `spell`."""
    mean, found = weight.float().mean(0), []
    for start in range(0, len(weight), BLOCK):
        rows = (weight[start : start + BLOCK].float() - mean) * gain
        rows /= rows.norm(dim=1, keepdim=True).clamp(min=1e-12)
        found.append(rows @ directions.T)
    return torch.cat(found)
