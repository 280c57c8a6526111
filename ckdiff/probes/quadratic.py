"""Raw and centred losses as a quadratic form in the change of the hidden state: `Quadratic(scorer, side)(delta)`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import linear

if TYPE_CHECKING:
    from torch import Tensor

    from ckdiff.probes.live.model import Unembedding
    from ckdiff.probes.losses import Scorer
    from ckdiff.report.schema.report import Side


class Quadratic:
    """|D - mean D|^2 / d_vocab and mean D of any run with one unembedding, without logits."""

    def __init__(self, scorer: Scorer, side: Side) -> None:
        base, head = scorer.heads["base"], scorer.heads[side]
        hidden = scorer.hidden.double()
        mean = _mean_rows(scorer, side)
        self.mean, self.shift = mean, hidden @ (mean - _mean_rows(scorer, "base")) + _mean_bias(head) - _mean_bias(base)
        self.gram = hidden.new_zeros(hidden.shape[1], hidden.shape[1])
        self.cross, self.fixed = torch.zeros_like(hidden), torch.zeros_like(hidden[:, 0])
        for block in scorer.slices():
            weight, bias = scorer.part(head, block)
            centred = weight - mean.to(scorer.dtype)
            self.gram += (centred.T @ centred).double()
            if head is base:
                continue
            weight_base, bias_base = scorer.part(base, block)
            other = linear(scorer.hidden, weight - weight_base).double()
            if bias is not None and bias_base is not None:
                other += (bias - bias_base).double()
            other -= self.shift[:, None]
            self.cross += (other.to(scorer.dtype) @ centred).double()
            self.fixed += (other**2).sum(-1)
        for total in (self.gram, self.cross, self.fixed):
            total /= scorer.d_vocab

    def __call__(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        """Centred loss and shift, float64 [position]; `delta` is h_run - h_base [position, d_model]."""
        delta = delta.double()
        centred = ((delta @ self.gram) * delta).sum(-1) + 2 * (delta * self.cross).sum(-1) + self.fixed
        return centred, delta @ self.mean + self.shift


def _mean_rows(scorer: Scorer, side: Side) -> Tensor:
    """Mean of an unembedding over the vocabulary, scaled, float64 [d_model]."""
    head = scorer.heads[side]
    total = torch.stack([scorer.part(head, block)[0].double().sum(0) for block in scorer.slices()]).sum(0)
    return total / scorer.d_vocab


def _mean_bias(head: Unembedding) -> float:
    return 0.0 if head.bias is None else float(head.bias.double().mean()) * head.scale
