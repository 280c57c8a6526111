"""The unembeddings of both sides, a block of the vocabulary at a time: `Vocabulary(heads, dtype)`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import linear

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from ckdiff.probes.live.unembedding import Unembedding
    from ckdiff.report.schema.report import Side

VOCABULARY_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """How logits are made on either side, in blocks.

    Attributes:
        heads: by side ("base", "unlearned") its unembedding.
        dtype: of the products.
    """

    heads: Mapping[Side, Unembedding]
    dtype: torch.dtype

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return int(self.heads["base"].weight.shape[0])

    def blocks(self) -> Iterator[slice]:
        """The blocks, in order."""
        for start in range(0, self.size, VOCABULARY_BLOCK):
            yield slice(start, min(start + VOCABULARY_BLOCK, self.size))

    def part(self, head: Unembedding, block: slice) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of a block, in the dtype of the products and scaled."""
        weight = head.weight[block].to(self.dtype)
        bias = None if head.bias is None else head.bias[block].to(self.dtype)
        if head.scale == 1:
            return weight, bias
        return weight * head.scale, None if bias is None else bias * head.scale

    def logits(self, head: Unembedding, hidden: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Logits of one side, a block after the other [position, token]; `hidden` goes into its unembedding."""
        for block in self.blocks():
            yield block, cap(head, linear(hidden, *self.part(head, block)))


def cap(head: Unembedding, logits: Tensor) -> Tensor:
    """Logits behind the cap of a model that has one."""
    return logits if head.cap is None else head.cap * torch.tanh(logits / head.cap)


def capped_change(base: Unembedding, head: Unembedding, plain: Tensor, change: Tensor) -> Tensor:
    """The change of logits behind the caps, from that of the base's plain ones; no change is exactly none.

    cap (tanh(a + d) - tanh(a)) = cap tanh(d) (1 - tanh(a) tanh(a + d)), in which nothing large cancels.
    """
    if base.cap != head.cap:
        return cap(head, plain + change) - cap(base, plain)
    if base.cap is None:
        return change
    before, after = torch.tanh(plain / base.cap), torch.tanh((plain + change) / base.cap)
    return base.cap * torch.tanh(change / base.cap) * (1 - before * after)
