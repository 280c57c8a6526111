"""Sums over the vocabulary, a block at a time: what runs with one unembedding share in a block, and what adds up.

The Jensen-Shannon divergence of p (the base) and q (a run), half of KL(p || m) and half of KL(q || m) with
m = (p + q) / 2, is the sum of p w(log q - log p) with

    w(x) = (h expm1(x) - (1 + expm1(x) / 2) log(1 + sinh(h)^2)) / 2,     h = x / 2,

in which all terms are positive, and little cancels where x is small: a tiny divergence keeps its digits.
Source: Lin 1991, IEEE Transactions on Information Theory 37, 145-151 (the definition).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

LEAST = -60.0
"""A log-probability ratio below which w is half of ln 2 in every dtype."""


@dataclass(frozen=True, slots=True)
class Block:
    """The parts that all runs with one unembedding share in a block of the vocabulary.

    Attributes:
        start: its first token.
        weight: of that unembedding, scaled [token, d_model].
        plain: the base's logits before their cap [position, token].
        logits: the base's [position, token].
        other: what the two unembeddings alone make of the base's hidden state [position, token]; None for the base's.
        probability: the base's [position, token], or None where no KL is asked for.
    """

    start: int
    weight: Tensor
    plain: Tensor
    logits: Tensor
    other: Tensor | None
    probability: Tensor | None


class Sums:
    """Running sums over the vocabulary [run, position], float64; the largest logits in the dtype of the products."""

    def __init__(self, shape: tuple[int, int], like: Tensor) -> None:
        self.total, self.squares, self.excess = (like.new_zeros(shape, dtype=torch.float64) for _ in range(3))
        self.centre, self.steepest, self.own = like.new_zeros(shape), like.new_zeros(shape), like.new_zeros(shape)
        self.best = like.new_full(shape, float("-inf"))

    def add(self, part: slice, block: Block, change: Tensor, favourite: Tensor | None) -> None:
        """One block: the excess of exp over its tangent, and the largest logit.

        KL = log sum p exp(x) with x = change - E_p[change], and sum p exp(x) = 1 + sum p (exp(x) - 1 - x): a sum
        of terms that are all positive, so that a tiny KL keeps its digits.
        """
        assert favourite is not None
        assert block.probability is not None
        logits = change + block.logits
        self.best[part] = torch.maximum(self.best[part], logits.amax(-1))
        here = (favourite >= block.start) & (favourite < block.start + len(block.weight))
        rows = here.nonzero()[:, 0]
        self.own[part, rows] = logits[:, rows, favourite[rows] - block.start]
        x = change.sub_(self.centre[part][..., None])
        self.steepest[part] = torch.maximum(self.steepest[part], x.amax(-1))
        excess = torch.expm1(x, out=logits).sub_(x)
        self.excess[part] += torch.linalg.vecdot(excess, block.probability.expand_as(excess)).double()


def shannon_weights(ratio: Tensor) -> Tensor:
    """The weights w of log q - log p, in nats; the ratio is used up."""
    ratio.clamp_(min=LEAST)
    excess = torch.expm1(ratio)
    # sinh(h)^2 = expm1(x)^2 / (4 exp(x)), in an order in which nothing overflows.
    squares = torch.exp(ratio).reciprocal_().mul_(excess).mul_(excess).div_(4)
    curved = squares.log1p_().mul_(torch.add(1.0, excess, alpha=0.5))
    return ratio.mul_(excess).div_(2).sub_(curved).div_(2)


def shannon(expected: Tensor, own: Tensor) -> Tensor:
    """Jensen-Shannon divergence of log-probabilities [..., token], by its definition; for such as are far apart."""
    middle = torch.logaddexp(expected, own) - math.log(2)
    found: Tensor = (expected.exp() * (expected - middle) + own.exp() * (own - middle)).sum(-1) / 2
    return found
