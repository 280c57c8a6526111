"""Parameters altered as they are read: `case.loaded(live, altering(change, names, counts))`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from ckdiff.attacks.case import Alter
    from ckdiff.probes.live.model import LiveModel
    from ckdiff.shapes import AnyArray


def altering(change: Callable[[str, Tensor], Tensor], names: frozenset[str], counts: list[int]) -> Alter:
    """A change of some parameters, which counts the elements that it did change, and all that it could."""

    def alter(name: str, value: Tensor) -> Tensor:
        if name not in names:
            return value
        found = change(name, value)
        counts[0] += int(np.count_nonzero(unlike(found, value)))
        counts[1] += value.numel()
        return found

    return alter


def unlike(one: Tensor, other: Tensor) -> AnyArray:
    """Which elements of two tensors differ; on a processor NumPy compares five times as fast as torch."""
    if one.device.type != "cpu":
        found: AnyArray = (one != other).cpu().numpy()
        return found
    exact = torch.promote_types(one.dtype, torch.float32)
    found = one.to(exact).numpy() != other.to(exact).numpy()
    return found


def matrices(live: LiveModel) -> frozenset[str]:
    """Names of the matrices of a model's layers: what is quantised and pruned; neither embeddings nor routers."""
    inside = f"{live.row.sites.layers}."
    kinds = live.components()
    return frozenset(
        name
        for name, kind in kinds.items()
        if name.startswith(inside) and kind not in ("router", "norms") and live.dimensions(name) >= 2
    )
