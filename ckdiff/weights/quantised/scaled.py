"""One stored number a value, and a scale for the matrix, for each row, or for each block: FP8, int8, FP4 in bytes.

    value = (stored - zero) * scale

Scales lie beside their matrix under one of `SCALES`; DeepSeek's `weight_scale_inv`, despite its name, is multiplied
too. A scale of whole numbers or E8M0 is an exponent. bitsandbytes' int8 has the largest magnitude of each row, `SCB`:
there the scale is SCB / 127.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ckdiff.untrusted import quoted
from ckdiff.weights.quantised.packing import E2M1, divide, nearest, nibbles, scale_values
from ckdiff.weights.storage import decode32, table_8bit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckdiff.shapes import AnyArray, Float32
    from ckdiff.weights.quantised.source import Found, Source
    from ckdiff.weights.storage import Mapped

SCALES = ("_scale_inv", "_scale", ".scale", ".scale_weight", ".weight_scale_inv", ".weight_scale", ".qscale_weight")
"""What stands behind a matrix's name, with or without its `.weight`, in the name of its scale."""

ACTIVATIONS = frozenset(
    {"input_scale", "activation_scale", "act_scale", "scale_input", "qscale_act", "output_scale", "input_global_scale"}
    | {"input_zero_point", "input_amax", "input_scale_ub", "k_scale", "v_scale", "q_scale", "kv_scale"}
)
"""Scales of activations: they belong to no weight, and are compared as they stand."""


def scaled_floats(source: Source) -> Iterator[Found]:
    """FP8 matrices with a scale.

    Raises:
        CheckpointError: a scale of a shape or under a name that is not known.
    """
    for name in source.names:
        if source.dtype(name) not in ("F8_E4M3", "F8_E5M2") or _is_scale(name):
            continue
        scale = _scale_of(source, name)
        if scale is not None:
            yield _unscale(source, name, scale, "FP8")
        elif strange := _stranger(source, name):
            raise source.refuse(strange, f"is no scale that ckdiff knows of the FP8 tensor {quoted(name)}")
        elif source.method:
            raise source.refuse(name, f"is FP8 without a scale, in a checkpoint quantised by {quoted(source.method)}")


def scaled_integers(source: Source) -> Iterator[Found]:
    """Matrices of int8 with a scale, and FP4 pairs in bytes, which have an exponent for a scale."""
    for name in source.names:
        if source.dtype(name) != "I8" or not name.endswith(".weight"):
            continue
        largest = name.removesuffix(".weight") + ".SCB"
        scale = _scale_of(source, name)
        if largest in source.names:
            yield _bitsandbytes(source, name, largest)
        elif scale is not None:
            exponent = source.dtype(scale) in ("U8", "F8_E8M0")
            yield _unscale(source, name, scale, "FP4" if exponent else "int8")


def _is_scale(name: str) -> bool:
    return name.endswith(SCALES)


def _scale_of(source: Source, name: str) -> str | None:
    stem = name.removesuffix(".weight")
    candidates = (base + suffix for suffix in SCALES for base in (name, stem))
    return next((text for text in candidates if text in source.names and text != name), None)


def _stranger(source: Source, name: str) -> str | None:
    """A tensor beside a matrix that nobody knows and that may be its scale."""
    stem = name.removesuffix(".weight")
    beside = [text for text in source.names if text.startswith((f"{stem}.", f"{name}.", f"{name}_")) and text != name]
    strange = (text for text in beside if text.rpartition(".")[2] not in ACTIVATIONS and not text.endswith("bias"))
    return next(strange, None)


def _unscale(source: Source, name: str, scale: str, label: str) -> Found:
    shape = source.shape(name)
    pairs = label == "FP4"
    if pairs:
        shape = (*shape[:-1], 2 * shape[-1])
    zero = name + "_zero_point" if label == "int8" and name + "_zero_point" in source.names else None
    used = (name, scale) if zero is None else (name, scale, zero)
    blocks = fit_blocks(shape, source.shape(scale), _given_block(source))
    if blocks is None or (zero is not None and source.shape(zero) != source.shape(scale)):
        raise source.refuse(
            scale, f"of shape {list(source.shape(scale))} is no known scale of {quoted(name)} {list(shape)}"
        )
    grid = aligned_shape(shape, source.shape(scale))

    def compute(files: Mapped, start: int, stop: int) -> AnyArray:
        part = files.raw(name)[start:stop]
        if pairs:
            values: AnyArray = np.take(E2M1, nibbles(part))
        else:
            values = part.astype(np.float32) if label == "int8" else decode32(part, source.dtype(name))
        if zero is not None:
            values -= _spread(files.raw(zero).astype(np.float32).reshape(grid), blocks, shape, start, stop)
        factor = scale_values(files.raw(scale), source.dtype(scale)).reshape(grid)
        values *= _spread(factor, blocks, shape, start, stop)
        return values

    def round_to(files: Mapped, values: AnyArray, start: int, stop: int) -> AnyArray:
        factor = _spread(scale_values(files.raw(scale), source.dtype(scale)).reshape(grid), blocks, shape, start, stop)
        shift: AnyArray | int = 0
        if zero is not None:
            shift = _spread(files.raw(zero).astype(np.float32).reshape(grid), blocks, shape, start, stop)
        levels = E2M1 if pairs else np.arange(-128, 128) if label == "int8" else table_8bit(source.dtype(name))
        return (nearest(levels, divide(values, factor) + shift) - shift) * factor

    return source.derive(name, label, shape, used, compute, round_to)


def _given_block(source: Source) -> tuple[int, ...]:
    given = source.settings.get("weight_block_size")
    return tuple(given) if isinstance(given, list) and all(type(size) is int and size > 0 for size in given) else ()


def aligned_shape(shape: tuple[int, ...], scale: tuple[int, ...]) -> tuple[int, ...]:
    """A scale's shape with as many axes as its matrix has: what is 1 is left out or put in, rows come first."""
    if all(size == 1 for size in scale):
        return (1,) * len(shape)
    axes = list(scale)
    while len(axes) > len(shape) and 1 in axes:
        # The last 1 that is not the last axis of all, so that [rows, 1, 1, 1] is one a row and [r, 1, c, 1] a grid.
        axes.pop(max(place for place, size in enumerate(axes) if size == 1))
    return (*axes, *(1,) * (len(shape) - len(axes)))


def fit_blocks(shape: tuple[int, ...], scale: tuple[int, ...], given: tuple[int, ...] = ()) -> tuple[int, ...] | None:
    """By axis how many elements share a scale, or None where the scale does not fit.

    Args:
        shape: of the matrix.
        scale: of the scale.
        given: sizes of the last axes' blocks, as config.json has them.
    """
    grid = aligned_shape(shape, scale)
    if len(grid) != len(shape) or not all(grid):
        return None
    sizes = [given[place - len(shape)] if len(shape) - place <= len(given) else 0 for place in range(len(shape))]
    blocks = tuple(_block(*axis) for axis in zip(shape, grid, sizes, strict=True))
    fits = all(-(-length // block) == count for length, count, block in zip(shape, grid, blocks, strict=True))
    return blocks if fits else None


def _block(length: int, count: int, given: int) -> int:
    """One for all, one each, the given size, or the power of two (DeepSeek: 128) or whole division that covers it."""
    if count in (1, length):
        return max(length, 1) if count == 1 else 1
    least = -(-length // count)
    power = 1 << (least - 1).bit_length()
    return next((size for size in (given, power) if size and -(-length // size) == count), least)


def _spread(grid: Float32, blocks: tuple[int, ...], shape: tuple[int, ...], start: int, stop: int) -> Float32:
    """The scale of every element of rows start … stop-1, in a shape that multiplies with them."""
    ranges = [np.arange(start, stop), *(np.arange(length) for length in shape[1:])]
    for axis, (block, where) in enumerate(zip(blocks, ranges, strict=True)):
        if grid.shape[axis] > 1:
            grid = np.take(grid, where // block, axis=axis)
    return grid


def _bitsandbytes(source: Source, name: str, largest: str) -> Found:
    layout = name + "_format"
    if source.shape(largest) != source.shape(name)[:1]:
        raise source.refuse(largest, f"does not fit {quoted(name)} of shape {list(source.shape(name))}")
    if layout in source.names and any(source.contents(layout)):
        raise source.refuse(layout, "is a layout of int8 that ckdiff does not read")
    used = (name, largest, *((layout,) if layout in source.names else ()))

    def compute(files: Mapped, start: int, stop: int) -> AnyArray:
        rows = scale_values(files.raw(largest), source.dtype(largest))[start:stop] / np.float32(127)
        return files.raw(name)[start:stop].astype(np.float32) * rows[:, None]

    def round_to(files: Mapped, values: AnyArray, start: int, stop: int) -> AnyArray:
        rows = scale_values(files.raw(largest), source.dtype(largest))[start:stop, None] / np.float32(127)
        found: AnyArray = nearest(np.arange(-127, 128), divide(values, rows)) * rows
        return found

    return source.derive(name, "bitsandbytes int8", source.shape(name), used, compute, round_to)
