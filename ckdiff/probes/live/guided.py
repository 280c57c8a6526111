"""Two models that speak as one: `Guided(base, unlearned, weight)`, wherever a live model can speak.

    log p = log p unlearned + w (log p base - log p unlearned), over tokens with p base >= 1e-5 of the greatest

w = 1 is the base, w = 0 the unlearned model; beyond 1 what unlearning took away is said more loudly than before it.
Source: Wu et al. 2025, arXiv:2505.24379.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable

    import torch
    from torch import Tensor

    from ckdiff.probes.live.model import LiveModel

LEAST = 1e-5
"""A token that the base gives less than this share of its likeliest one's probability is never said."""


@dataclass(slots=True)
class Guided:
    """Two models that speak as one; see `together.Speaker`.

    Attributes:
        base, unlearned: both loaded, with one vocabulary.
        weight: w; beyond 1 what the base would hardly say is left out.
    """

    base: LiveModel
    unlearned: LiveModel
    weight: float

    @property
    def device(self) -> torch.device:
        """Where both are."""
        return self.base.device

    def regime(self, length: int) -> Hashable:
        """That of both."""
        return self.base.regime(length), self.unlearned.regime(length)

    def forward(self, ends: Tensor | None = None, past_key_values: Any = (None, None), **inputs: Any) -> Any:
        """Guided logits, and the caches of both."""
        both = [
            live.forward(ends, past_key_values=past, **inputs)
            for live, past in zip((self.base, self.unlearned), past_key_values, strict=True)
        ]
        logits = guide(both[0].logits, both[1].logits, self.weight)
        return SimpleNamespace(logits=logits, past_key_values=tuple(one.past_key_values for one in both))


def guide(base: Tensor, unlearned: Tensor, weight: float) -> Tensor:
    """Log-probabilities [..., d_vocab] of both, drawn apart: see the head of this file.

    A vocabulary that one of them has padded is cut to that of the other.
    """
    size = min(base.shape[-1], unlearned.shape[-1])
    known, left = (one[..., :size].double().log_softmax(-1) for one in (base, unlearned))
    found = left + weight * (known - left)
    if weight > 1:
        found = found.masked_fill(known < known.amax(-1, keepdim=True) + math.log(LEAST), -math.inf)
    return found.log_softmax(-1)
