"""What one model lost beside another, token by token: `look(base, other, prompts)`, of two forced runs.

At every scored position the tokens with the greatest log p base - log p unlearned are lost, those with the least are
gained: a hundred of each, or one in a hundred of a small vocabulary. A shift that all tokens of a position share moves
none of them. Logits are made a few positions at a time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ckdiff.discovery.rows import row_turns
from ckdiff.probes.forcing import logits_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ckdiff.probes.forcing import Forced
    from ckdiff.probes.prompts import Prompt
    from ckdiff.shapes import Bools, Float64, Int64

    Logits = list[tuple[slice, Tensor]]

ROOM = 1 << 29
"""Bytes of logits that are kept."""
MOST = 100
"""Tokens a position that count as lost, and as gained."""
SAID = 0.01
"""Of an even chance among all tokens: what the base gives a token at least, in the mean, that it says at all."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one model lost beside the base on some texts.

    Attributes:
        lost, gained: ids at each position [position, token], the most first.
        kl: KL(base || other) [position], in nats.
        drop: log p base - log p other of the token that stands there [position], in nats.
        known: KL(base || uniform) [position], what the base knows there beyond guessing, in nats.
        texts: number of the text that a position belongs to [position].
        shift: mean over positions of log p base - log p other [token], less the mean of that over tokens, in nats.
        turn: how far the unembedding's row of each token turned away from what it reads [token], see `rows`.
    """

    lost: Int64
    gained: Int64
    kl: Float64
    drop: Float64
    known: Float64
    texts: Int64
    shift: Float64
    turn: Float64

    @property
    def rows(self) -> int:
        """Tokens of the vocabulary."""
        return len(self.shift)

    def rates(self, of: str, wanted: Int64) -> Float64:
        """Share of the positions of some texts at which each token is lost (or gained), each text alike [token].

        Args:
            of: "lost" or "gained".
            wanted: numbers of the texts.
        """
        return rates_of(getattr(self, of), self.texts, wanted, self.rows)

    def by_text(self, of: str, token: int, wanted: Int64) -> Float64:
        """The share of one token in each of some texts [text]."""
        hit = (getattr(self, of) == token).any(axis=1).astype(np.float64)
        size = int(self.texts.max()) + 1
        counts = np.maximum(np.bincount(self.texts, minlength=size), 1)
        return (np.bincount(self.texts, hit, size) / counts)[wanted].astype(np.float64)


def ruin_of(seen: Look) -> float:
    """KL(base || unlearned) over KL(base || uniform): the share of what the base knows beyond guessing that is lost."""
    known = float(seen.known.mean())
    return float(seen.kl.mean()) / known if known > 0 else 0.0


def sayable(base: Forced, kept: Logits | None = None) -> Bools:
    """Which tokens the base says: over all positions, in the mean, each has a hundredth of an even chance [token].

    What a tokenizer makes on its way to a word is hardly ever said, and any change moves its log p the farthest. The
    base's logits are made where they were not kept.
    """
    sums: Tensor | None = None
    count = 0
    for _, logits in kept or logits_of(base):
        some = logits.softmax(-1).sum(0, dtype=torch.float64)
        sums = some if sums is None else sums + some
        count += len(logits)
    assert sums is not None
    found: Bools = (sums >= SAID * count / len(sums)).cpu().numpy()
    return found


def rates_of(found: Int64, texts: Int64, wanted: Int64, rows: int) -> Float64:
    """Mean over texts of the share of a text's positions that hold each token [token]."""
    size = int(texts.max()) + 1
    weights = np.zeros(size)
    weights[wanted] = 1 / np.maximum(np.bincount(texts, minlength=size)[wanted], 1) / max(1, len(wanted))
    spread = np.repeat(weights[texts], found.shape[1])
    kept = spread > 0
    return np.bincount(found.reshape(-1)[kept], spread[kept], rows).astype(np.float64)


def most_of(rows: int) -> int:
    """How many tokens a position count as lost.

    >>> most_of(49152), most_of(110)
    (100, 2)
    """
    return min(MOST, -(-rows // 100))


def keep_logits(base: Forced) -> Logits | None:
    """The base's logits, which every model is compared with, where there is room for them."""
    size = len(base.hidden) * len(base.head.weight) * torch.float32.itemsize
    return list(logits_of(base)) if size <= ROOM else None


def look(base: Forced, other: Forced, prompts: Sequence[Prompt], logits: Logits | None = None) -> Look:
    """Compare two models at every scored position of some texts.

    Args:
        base: the one.
        other: the other.
        prompts: the texts.
        logits: the base's, where they were kept.
    """
    targets = torch.tensor([token for prompt in prompts for token in prompt.answer], device=base.hidden.device)
    parts: list[tuple[Tensor, ...]] = []
    sums: Tensor | None = None
    for (part, ours), (_, theirs) in zip(logits or logits_of(base), logits_of(other), strict=True):
        rows = min(ours.shape[1], theirs.shape[1])
        some, *rest = _compare(ours[:, :rows], theirs[:, :rows], targets[part])
        parts.append((*rest,))
        sums = some if sums is None else sums + some
    assert sums is not None
    shift: Float64 = (sums / len(targets)).cpu().numpy()
    lost, gained, kl, drop, known = (torch.cat(column).cpu().numpy() for column in zip(*parts, strict=True))
    texts = np.repeat(np.arange(len(prompts)), [len(prompt.answer) for prompt in prompts])
    return Look(lost, gained, kl, drop, known, texts, shift - shift.mean(), row_turns(base, other))


def _compare(ours: Tensor, theirs: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
    """Sums over some positions of what tokens lost; at each lost, gained, KL, drop and what is known."""
    known, left = ours.log_softmax(-1), theirs.log_softmax(-1)
    lost = known - left
    count = most_of(lost.shape[1])
    # In the logits' own precision each product errs by one part in ten million, and their sums do not.
    shares = known.exp()
    kl = (shares * lost).sum(-1, dtype=torch.float64).clamp(min=0)
    told = math.log(lost.shape[1]) + (shares * known).sum(-1, dtype=torch.float64)
    drop = lost.gather(1, targets[:, None])[:, 0].double()
    sums = lost.sum(0, dtype=torch.float64)
    return sums, lost.topk(count).indices, lost.topk(count, largest=False).indices, kl, drop, told
