"""Raw and centred losses as a quadratic form in the change of the hidden state.

centred, shift = Quadratic(vocabulary, base_hidden, "unlearned")(hidden - base_hidden)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.functional import linear

if TYPE_CHECKING:
    from torch import Tensor

    from ckdiff.probes.live.unembedding import Unembedding
    from ckdiff.probes.vocabulary import Vocabulary
    from ckdiff.report.schema.report import Side


class Quadratic:
    """|D - mean D|^2 / d_vocab and mean D of any run with one unembedding, without logits."""

    def __init__(self, vocabulary: Vocabulary, hidden: Tensor, side: Side) -> None:
        """Prepare it for one side's unembedding; `hidden` is the base's input of it [position, d_model]."""
        base, head = vocabulary.heads["base"], vocabulary.heads[side]
        exact, mean = hidden.double(), _mean_rows(vocabulary, head)
        self.mean = mean
        self.shift = exact @ (mean - _mean_rows(vocabulary, base)) + _mean_bias(head) - _mean_bias(base)
        self.gram = exact.new_zeros(exact.shape[1], exact.shape[1])
        self.cross, self.fixed = torch.zeros_like(exact), torch.zeros_like(exact[:, 0])
        for block in vocabulary.blocks():
            weight, bias = vocabulary.part(head, block)
            centred = weight - mean.to(vocabulary.dtype)
            self.gram += (centred.T @ centred).double()
            if head is base:
                continue
            weight_base, bias_base = vocabulary.part(base, block)
            other = linear(hidden, weight - weight_base).double()
            if bias is not None and bias_base is not None:
                other += (bias - bias_base).double()
            other -= self.shift[:, None]
            self.cross += (other.to(vocabulary.dtype) @ centred).double()
            self.fixed += (other**2).sum(-1)
        for total in (self.gram, self.cross, self.fixed):
            total /= vocabulary.size

    def __call__(self, delta: Tensor) -> tuple[Tensor, Tensor]:
        """Centred loss and shift, float64 [position]; `delta` is h_run - h_base [position, d_model]."""
        delta = delta.double()
        centred = ((delta @ self.gram) * delta).sum(-1) + 2 * (delta * self.cross).sum(-1) + self.fixed
        return centred, delta @ self.mean + self.shift


def _mean_rows(vocabulary: Vocabulary, head: Unembedding) -> Tensor:
    """Mean of an unembedding over the vocabulary, scaled, float64 [d_model]."""
    total = torch.stack([vocabulary.part(head, block)[0].double().sum(0) for block in vocabulary.blocks()]).sum(0)
    return total / vocabulary.size


def _mean_bias(head: Unembedding) -> float:
    return 0.0 if head.bias is None else float(head.bias.double().mean()) * head.scale
