"""How a model makes its logits: `Unembedding`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Unembedding:
    """The last matrix, which makes logits of its input: cap(scale * (h W^T + bias)).

    Attributes:
        weight: [d_vocab, d_model].
        bias: [d_vocab], or None.
        scale: a factor on all logits (Cohere, Granite).
        cap: final-logit softcapping, z -> cap * tanh(z / cap) (Gemma 2), or None.
    """

    weight: Tensor
    bias: Tensor | None
    scale: float
    cap: float | None


def scale_of(plain: Tensor, own: Tensor, cap: float | None, dtype: torch.dtype) -> float | None:
    """The factor between an unembedding's output and a model's logits before their cap; None: it is no factor.

    Args:
        plain: the unembedding's output, float64.
        own: the model's logits, float64.
        cap: that they go through.
        dtype: in which the model computes them.
    """
    if cap is not None:
        own = cap * torch.atanh((own / cap).clamp(-1 + 1e-12, 1 - 1e-12))
    scale = float((own * plain).sum() / (plain * plain).sum()) if plain.any() else 1.0
    scale = 1.0 if abs(scale - 1) < 1e-3 else scale
    tolerance = 1e-4 if dtype in (torch.float32, torch.float64) else 5e-2
    # What is not finite differs in nothing here, and is refused by name where it is measured.
    return None if (own - scale * plain).abs().max() > tolerance * own.abs().max() else scale
