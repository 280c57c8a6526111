"""Four bits a value, two values a byte: bitsandbytes' NF4 and FP4, MXFP4 as gpt-oss stores it, NVFP4.

bitsandbytes   value = table[code] * largest magnitude of its block (64 values of the flat matrix); the high half
of a byte comes first, and the magnitudes may themselves be 8-bit codes
MXFP4          value = E2M1[code] * 2^(exponent - 127), 32 values an exponent; the low half comes first
NVFP4          value = E2M1[code] * scale of 16 values (FP8) * a scale of the matrix, or / it
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.untrusted import strict_json
from ckdiff.weights.quantised.packing import E2M1, divide, nearest, nibbles, scale_values

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckdiff.shapes import AnyArray, Float32
    from ckdiff.weights.quantised.source import Found, Source
    from ckdiff.weights.storage import Mapped

STATE = ".quant_state.bitsandbytes__"
KINDS = ("nf4", "fp4")


def bitsandbytes(source: Source) -> Iterator[Found]:
    """Matrices of NF4 or FP4 with their state beside them."""
    for kind in KINDS:
        for state in [name for name in source.names if name.endswith(STATE + kind)]:
            yield _bitsandbytes(source, state.removesuffix(STATE + kind), state, kind)


def _parts_beside(source: Source, name: str) -> list[str]:
    """Names of a matrix's magnitudes and table, and where the magnitudes are codes themselves of theirs."""
    nested = ("nested_absmax", "nested_quant_map") if f"{name}.nested_absmax" in source.names else ()
    parts = [f"{name}.{part}" for part in ("absmax", "quant_map", *nested)]
    lacking = next((part for part in (name, *parts) if part not in source.names), None)
    if lacking is not None:
        raise source.refuse(name, f"lacks {lacking.rpartition('.')[2]}, which bitsandbytes stores beside it")
    return parts


def _bitsandbytes(source: Source, name: str, state: str, kind: str) -> Found:
    settings = _state(source, state)
    shape, block = tuple(settings["shape"]), settings["blocksize"]
    parts = _parts_beside(source, name)
    nested = len(parts) > 2
    count = int(np.prod(shape))
    table = source.values(parts[1]).astype(np.float32)
    if table.size != 16 or source.shape(parts[0]) != (-(-count // block),):
        raise source.refuse(parts[0], f"does not fit {kind} of shape {list(shape)} in blocks of {block}")
    group, offset = settings.get("nested_blocksize") or 256, float(settings.get("nested_offset") or 0.0)
    width = int(np.prod(shape[1:]))

    def magnitudes(files: Mapped, first: int, last: int) -> Float32:
        stored = files.raw(parts[0])[first:last]
        if not nested:
            return scale_values(stored, source.dtype(parts[0]))
        inner = scale_values(files.raw(parts[2]), source.dtype(parts[2]))
        codes = scale_values(files.raw(parts[3]), source.dtype(parts[3]))[stored.astype(np.int64)]
        found: Float32 = codes * inner[np.arange(first, last) // group] + np.float32(offset)
        return found

    def compute(files: Mapped, start: int, stop: int) -> AnyArray:
        first, last = start * width, stop * width
        packed = files.raw(name).reshape(-1).view(np.uint8)[first // 2 : -(-last // 2)]
        codes = nibbles(packed, high_first=True)[first % 2 :][: last - first]
        blocks = first // block, -(-last // block)
        scales = magnitudes(files, *blocks)[np.arange(first, last) // block - blocks[0]]
        values: AnyArray = np.take(table, codes) * scales
        return values.reshape(stop - start, *shape[1:])

    def round_to(files: Mapped, values: AnyArray, start: int, stop: int) -> AnyArray:
        first, last = start * width, stop * width
        blocks = first // block, -(-last // block)
        scales = magnitudes(files, *blocks)[np.arange(first, last) // block - blocks[0]].reshape(values.shape)
        found: AnyArray = nearest(table, divide(values, scales)) * scales
        return found

    return source.derive(name, kind.upper(), shape, (name, state, *parts), compute, round_to)


def _state(source: Source, name: str) -> dict[str, Any]:
    """The settings of one matrix, which are JSON in the bytes of a tensor."""
    try:
        found = strict_json(source.contents(name))
        sizes = [*found["shape"], found["blocksize"], found.get("nested_blocksize") or 256]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise source.refuse(name, "is no state of bitsandbytes") from error
    if not all(type(size) is int and 0 < size < 2**40 for size in sizes) or not found["shape"]:
        raise source.refuse(name, "is no state of bitsandbytes")
    return dict(found)


def gpt_oss(source: Source) -> Iterator[Found]:
    """Stacked experts in MXFP4: `_blocks` [expert, row, group, 16 bytes] and `_scales` [expert, row, group].

    The result is [expert, column, row], which is how the parameter lies in memory.
    """
    for blocks in [name for name in source.names if name.endswith("_blocks")]:
        name = blocks.removesuffix("_blocks")
        scales = f"{name}_scales"
        if scales not in source.names or source.dtype(blocks) != "U8":
            continue
        shape = source.shape(blocks)
        if len(shape) != 4 or source.shape(scales) != shape[:-1]:
            raise source.refuse(scales, f"does not fit the blocks of shape {list(shape)}")
        yield _gpt_oss(source, name, blocks, scales, shape)


def _gpt_oss(source: Source, name: str, blocks: str, scales: str, shape: tuple[int, ...]) -> Found:
    experts, rows, groups, size = shape

    def compute(files: Mapped, start: int, stop: int) -> AnyArray:
        values: AnyArray = np.take(E2M1, nibbles(files.raw(blocks)[start:stop]))
        values *= scale_values(files.raw(scales)[start:stop], "U8")[..., None]
        return values.reshape(stop - start, rows, groups * size * 2).transpose(0, 2, 1)

    return source.derive(name, "MXFP4", (experts, groups * size * 2, rows), (blocks, scales), compute)


def packed_floats(source: Source) -> Iterator[Found]:
    """NVFP4 and MXFP4 matrices: two codes a byte under `weight_packed` (compressed-tensors) or `weight` (ModelOpt)."""
    for packed in [name for name in source.names if name.endswith((".weight_packed", ".weight"))]:
        stem = packed.rpartition(".")[0]
        scale = f"{stem}.weight_scale"
        if source.dtype(packed) != "U8" or scale not in source.names or len(source.shape(packed)) != 2:
            continue
        whole = {f"{stem}.weight_global_scale": True, f"{stem}.weight_scale_2": False}
        found = [(name, divides) for name, divides in whole.items() if name in source.names]
        exponent = source.dtype(scale) in ("U8", "F8_E8M0")
        if not found and not exponent:
            continue
        rows, width = source.shape(packed)[0], 2 * source.shape(packed)[1]
        if source.shape(scale)[0] != rows or len(source.shape(scale)) != 2 or width % source.shape(scale)[1]:
            raise source.refuse(scale, f"does not fit {rows} rows of {width} values")
        yield _packed_floats(source, stem, packed, scale, found[0] if found else None)


def _packed_floats(source: Source, stem: str, packed: str, scale: str, whole: tuple[str, bool] | None) -> Found:
    rows, width = source.shape(packed)[0], 2 * source.shape(packed)[1]
    group = width // source.shape(scale)[1]
    used = (packed, scale) if whole is None else (packed, scale, whole[0])
    overall = 1.0
    if whole is not None:
        overall = float(source.values(whole[0]).reshape(-1)[0])
        overall = 1 / overall if whole[1] else overall

    def factors(files: Mapped, start: int, stop: int) -> AnyArray:
        stored = scale_values(files.raw(scale)[start:stop], source.dtype(scale)) * np.float32(overall)
        return np.repeat(stored, group, axis=1)

    def compute(files: Mapped, start: int, stop: int) -> AnyArray:
        values: AnyArray = np.take(E2M1, nibbles(files.raw(packed)[start:stop]))
        return values * factors(files, start, stop)

    def round_to(files: Mapped, values: AnyArray, start: int, stop: int) -> AnyArray:
        scales = factors(files, start, stop)
        return nearest(E2M1, divide(values, scales)) * scales

    label = "MXFP4" if source.dtype(scale) in ("U8", "F8_E8M0") else "NVFP4"
    return source.derive(f"{stem}.weight", label, (rows, width), used, compute, round_to)
