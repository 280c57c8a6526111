"""Which lengths of text a model computes alike: `Regimes(model).of(length)`.

Some rotary embeddings turn by other frequencies in a longer text (LongRoPE beyond a certain length, dynamic NTK at
every length beyond one), and transformers goes by the longest row of a batch, or even by the longest that the model has
seen. So rows may share a forward only where each of them alone would be computed in the same way: where their regimes
are equal. No list of kinds of rope stands here; the model's own modules are asked what they make of a length.

Source: LongRoPE, Ding et al. 2024, arXiv:2402.13753; dynamic NTK as in transformers' `modeling_rope_utils`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Hashable

    from torch import nn


class Regimes:
    """The regimes of one model's rotary embeddings, by length, and how they forget the longest one."""

    def __init__(self, model: nn.Module) -> None:
        """Find them, as they are before any forward."""
        self._kept = [_Kept(module) for module in model.modules() if hasattr(module, "rope_type")]
        self._known: dict[int, Hashable] = {}

    def of(self, length: int) -> Hashable:
        """Equal for two lengths whose texts are computed alike."""
        if length not in self._known:
            self.reset()
            self._known[length] = tuple(kept.turns(length) for kept in self._kept)
            self.reset()
        return self._known[length]

    def reset(self) -> None:
        """Forget which lengths have been seen: needed before every forward over whole texts."""
        for kept in self._kept:
            kept.reset()


class _Kept:
    """One rotary embedding, with its buffers and attributes as they were."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._buffers = {name: value.clone() for name, value in module._buffers.items() if value is not None}
        self._values = {name: value for name, value in vars(module).items() if not name.startswith("_")}

    def reset(self) -> None:
        for name in [name for name in vars(self._module) if not name.startswith("_") and name not in self._values]:
            delattr(self._module, name)
        vars(self._module).update(self._values)
        self._module._buffers.update({name: value.clone() for name, value in self._buffers.items()})

    def turns(self, length: int) -> Hashable:
        """By how much positions turn and how large they are made in a text of a length, as bytes."""
        kinds = self._module.rope_type
        device = next((value.device for value in self._buffers.values()), torch.device("cpu"))
        like, places = torch.zeros(1, 2, 1, device=device), torch.tensor([[1, max(length, 2) - 1]], device=device)
        more: list[tuple[str, ...]] = [(kind,) for kind in kinds] if isinstance(kinds, dict) else [()]
        # The angle at position 1 is the frequency itself.
        parts = [part[:, :1] for kind in more for part in self._module(like, places, *kind)]
        return b"".join(part.cpu().numpy().tobytes() for part in parts)
