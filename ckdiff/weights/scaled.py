"""FP8 matrices with a scale beside them: their values are scale times the stored float.

Known layouts: one scale for the matrix (0-d or 1 element), one a row, and one a block (DeepSeek's `weight_scale_inv`,
which despite its name is multiplied too).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ckdiff.errors import CheckpointError
from ckdiff.untrusted import quoted

if TYPE_CHECKING:
    from ckdiff.shapes import AnyArray
    from ckdiff.weights.checkpoint import Checkpoint, Derived

SUFFIXES = ("_scale_inv", "_scale")


def with_scales(checkpoint: Checkpoint) -> Checkpoint:
    """Replace every FP8 tensor that has a scale by its scaled values; the scales are then no tensors of their own."""
    derived: dict[str, Derived] = {}
    used: set[str] = set()
    for name, (_, entry) in checkpoint.stored.items():
        if not entry.dtype.startswith("F8_E") or entry.dtype == "F8_E8M0":
            continue
        scale = next((name + suffix for suffix in SUFFIXES if name + suffix in checkpoint.stored), None)
        if scale is not None:
            derived[name] = _derive(checkpoint, name, scale)
            used.add(scale)
    if not derived:
        return checkpoint
    stored = {name: value for name, value in checkpoint.stored.items() if name not in used}
    note = f"{checkpoint.location}: {len(derived)} FP8 tensors were compared with their scales multiplied in"
    return replace(checkpoint, stored=stored, derived=derived, notes=(*checkpoint.notes, note))


def _derive(checkpoint: Checkpoint, name: str, scale_name: str) -> Derived:
    from ckdiff.weights.checkpoint import Derived

    weight, scale = checkpoint.stored[name][1], checkpoint.stored[scale_name][1]
    scalar = scale.elements == 1
    rows = len(weight.shape) >= 1 and scale.shape in ((weight.shape[0],), (weight.shape[0], 1))
    blocks = len(weight.shape) == len(scale.shape) == 2 and all(scale.shape) and not rows
    if not (scalar or rows or blocks) or (blocks and not _block_fits(weight.shape, scale.shape)):
        raise CheckpointError(
            f"{checkpoint.location}: tensor {quoted(scale.name)} of shape {list(scale.shape)} is no known scale of"
            f" {quoted(weight.name)} {list(weight.shape)}; dequantise the checkpoint to bf16 first"
        )

    def make() -> AnyArray:
        import numpy as np

        from ckdiff.weights.storage import Mapped, decode32, decode64

        # The scale is not in `stored` of the finished checkpoint, so it is read through the one that still has it.
        with Mapped(checkpoint) as files:
            values = decode32(files.raw(name), weight.dtype)
            factor = decode64(files.raw(scale_name), scale.dtype).astype(np.float32)
        if scalar:
            values *= factor.reshape(())
        elif rows:
            values *= factor.reshape(-1, *(1,) * (values.ndim - 1))
        else:
            height, width = _block(weight.shape, scale.shape)
            for row, factors in enumerate(factor):
                wide = np.repeat(factors, width)[: weight.shape[1]]
                values[row * height : (row + 1) * height] *= wide
        return values

    return Derived(weight.shape, (name, scale_name), make)


def _block(weight: tuple[int, ...], scale: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of the blocks: the power of two (DeepSeek: 128) or whole division that covers the matrix."""
    sizes = []
    for length, count in zip(weight, scale, strict=True):
        least = -(-length // count)
        power = 1 << (least - 1).bit_length()
        sizes.append(power if -(-length // power) == count else least)
    return sizes[0], sizes[1]


def _block_fits(weight: tuple[int, ...], scale: tuple[int, ...]) -> bool:
    height, width = _block(weight, scale)
    return (-(-weight[0] // height), -(-weight[1] // width)) == scale
