"""Copies of the base with noise of the unlearned model's size: what is lost where nothing was unlearned.

    sizes = change_sizes(base, unlearned)            # by parameter the root mean square of the difference
    copy.alter = noise(sizes, seed, number)          # each copy is the base, its parameters shaken as much

A copy is as far from the base as the unlearned model is, tensor by tensor, and in no direction that means anything.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from ckdiff.probes.live.model import LiveModel

COPIES = 5


def change_sizes(base: LiveModel, unlearned: LiveModel) -> dict[str, float]:
    """By parameter sqrt(mean((unlearned - base)²)), summed in float64."""
    found = {}
    for key, _ in base.parameters():
        difference = unlearned.read(key).double() - base.read(key).double()
        found[key] = float(difference.square().mean().sqrt()) if difference.numel() else 0.0
    return found


def noise(sizes: Mapping[str, float], seed: int, number: int) -> Callable[[str, Tensor], Tensor]:
    """What a copy makes of each parameter: normal noise of its size is added, the same for one seed and number."""

    def shake(key: str, value: Tensor) -> Tensor:
        digest = hashlib.sha256(f"{seed}/{number}/{key}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
        drawn = torch.randn(value.shape, generator=generator, dtype=torch.float32)
        return value + (drawn * sizes.get(key, 0.0)).to(value.device, value.dtype)

    return shake
