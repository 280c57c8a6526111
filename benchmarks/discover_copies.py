"""Copies of a base in which nothing was unlearned, for `discover.py false`."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file, save_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from torch import Tensor


def to_int8(value: Tensor) -> Tensor:
    """A matrix rounded to 255 steps a row."""
    if value.dim() < 2:
        return value
    step = value.abs().amax(-1, keepdim=True).clamp(min=1e-12) / 127
    return (value / step).round() * step


COPIED: dict[str, Callable[[Tensor], Tensor]] = {
    "itself": lambda value: value,
    "float16": lambda value: value.to(torch.float16).to(torch.float32),
    "int8": to_int8,
}
"""What is made of each tensor."""


def copies(seed: int) -> Iterable[tuple[str, Callable[[Tensor], Tensor]]]:
    """What is made of each tensor of the invented world's base."""
    generator = torch.Generator().manual_seed(1000 + seed)
    yield from COPIED.items()
    for size in (0.01, 0.1):

        def shake(value: Tensor, size: float = size) -> Tensor:
            return value + size * value.std() * torch.randn(value.shape, generator=generator)

        yield f"noise {size:g}", shake


def save_copy(base: Path, copy: Path, change: Callable[[Tensor], Tensor]) -> None:
    """A base whose every tensor is changed, in float32."""
    shutil.copytree(base, copy)
    for path in sorted(copy.glob("*.safetensors")):
        save_file({name: change(value.float()) for name, value in load_file(path).items()}, path, {"format": "pt"})


def save_shaken(base: Path, like: Path, copy: Path, seed: int) -> None:
    """A base with normal noise in every tensor, as large (root mean square) as the change of another model."""
    shutil.copytree(base, copy)
    generator = torch.Generator().manual_seed(1000 + seed)
    other = {name: value for path in sorted(like.glob("*.safetensors")) for name, value in load_file(path).items()}
    for path in sorted(copy.glob("*.safetensors")):
        found = {}
        for name, value in load_file(path).items():
            size = (other[name].float() - value.float()).square().mean().sqrt()
            found[name] = value.float() + size * torch.randn(value.shape, generator=generator)
        save_file(found, path, {"format": "pt"})
