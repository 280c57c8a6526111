"""The smallest weights of every matrix set to zero: `outcomes(case, live, side)`. Source: arXiv:2409.18025."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from ckdiff.attacks.altering import altering, matrices
from ckdiff.attacks.case import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from ckdiff.attacks.case import Case
    from ckdiff.probes.live.model import LiveModel
    from ckdiff.report.schema.attack import Attacked

SHARES = (0.1, 0.2, 0.3)


def outcomes(case: Case, live: LiveModel, side: Attacked) -> Iterator[Outcome]:
    """One outcome a share."""
    names = matrices(live)
    for number, share in enumerate(SHARES):
        case.listener.progress(f"pruning the {side}", number, len(SHARES), f"{share:.0%}")
        counts = [0, 0]

        def change(name: str, value: Tensor, share: float = share) -> Tensor:
            return prune(value, share)

        with case.loaded(live, altering(change, names, counts)):
            reading = case.read(live, side, matching=side != "base")
        yield Outcome(f"smallest {share:.0%}", reading, applied=counts[0] / max(1, counts[1]))
    case.listener.progress(f"pruning the {side}", len(SHARES), len(SHARES), "")


def prune(weight: Tensor, share: float) -> Tensor:
    """A matrix without its smallest magnitudes: a share of its elements, rounded down, and what equals the last."""
    count = int(share * weight.numel())
    if count == 0:
        return weight.clone()
    sizes = weight.abs().float()
    # NumPy parts numbers some fifteen times as fast as torch finds the k-th of them.
    limit = np.partition(sizes.flatten().cpu().numpy(), count - 1)[count - 1]
    return torch.where(sizes <= float(limit), torch.zeros_like(weight), weight)
