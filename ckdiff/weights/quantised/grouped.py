"""Whole numbers of a few bits, packed into words, with a scale and a zero for each group of inputs.

GPTQ                 scale * (q - (zero + 1)), without the + 1 in its second version; groups by `g_idx`
AWQ                  scale * (q - zero), columns in the order 0 2 4 6 1 3 5 7
compressed-tensors   scale * (q - zero), q and zero counted from the middle
MLX, Metal           scale * q + bias
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ckdiff.weights.quantised.packing import E2M1, divide, scale_values, unpack, words_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ckdiff.shapes import AnyArray
    from ckdiff.weights.quantised.source import Found, Round, Source
    from ckdiff.weights.storage import Mapped

    Steps = Callable[[Mapped, int, int], tuple[AnyArray, AnyArray]]
    """Scale and zero of every element of some rows."""

AWQ_ORDER = np.array([0, 4, 1, 5, 2, 6, 3, 7])
"""Where in a word AWQ keeps the columns 0 to 7."""
BITS = range(1, 9)
WIDE = ("I32", "U32")


def gptq_and_awq(source: Source) -> Iterator[Found]:
    """Matrices with `qweight`, `qzeros` and `scales` beside each other; which of the two it is, the config says.

    Raises:
        CheckpointError: a packing of either that ckdiff does not read.
    """
    for packed in [name for name in source.names if name.endswith(".qweight")]:
        stem = packed.removesuffix(".qweight")
        parts = packed, f"{stem}.qzeros", f"{stem}.scales"
        if any(part not in source.names for part in parts) or source.dtype(packed) not in WIDE:
            raise source.refuse(packed, "is packed in a way that ckdiff does not read")
        yield (_awq if _is_awq(source, packed) else _gptq)(source, stem, *parts)


def _is_awq(source: Source, name: str) -> bool:
    """Whether a checkpoint's words hold outputs side by side.

    Raises:
        CheckpointError: neither GPTQ nor AWQ, or a packing for one kernel alone.
    """
    settings, method = source.settings, source.method
    packing = str(settings.get("packing_format") or "")
    kind = "awq" if "awq" in packing else "gptq" if "gptq" in packing and "zp" not in packing else ""
    kind = kind or method
    version = str(settings.get("version") or "gemm").lower()
    layout = str(settings.get("checkpoint_format") or "gptq").lower()
    if kind == "awq" and version == "gemm":
        return True
    if kind == "gptq" and layout in ("gptq", "gptq_v2"):
        return False
    detail = version if kind == "awq" else layout if kind == "gptq" else packing or "no name"
    raise source.refuse(name, f"is packed for {method or 'an unnamed method'} ({detail}), which ckdiff does not read")


def _gptq(source: Source, stem: str, packed: str, zeros: str, scales: str) -> Found:
    words, rows = source.shape(packed)
    bits = source.shape(zeros)[1] * 32 // rows if rows else 0
    if bits not in BITS or words * 32 % max(bits, 1) or source.shape(scales) != (source.shape(zeros)[0], rows):
        raise source.refuse(
            packed, f"does not fit zeros {list(source.shape(zeros))}, scales {list(source.shape(scales))}"
        )
    width, groups = words * 32 // bits, source.shape(scales)[0]
    order = f"{stem}.g_idx"
    used = (packed, zeros, scales, *((order,) if order in source.names else ()))
    group_of = _groups(source, order, width, groups)
    plus = 0 if source.settings.get("checkpoint_format") == "gptq_v2" else 1

    def steps(files: Mapped, start: int, stop: int) -> tuple[AnyArray, AnyArray]:
        part, before = words_of(files.raw(zeros), start, stop, bits)
        zero = unpack(part, bits, before + stop - start)[:, before:].T + plus
        factor = scale_values(files.raw(scales)[:, start:stop].T, source.dtype(scales))
        return factor[:, group_of], zero[:, group_of]

    def compute(files: Mapped, start: int, stop: int) -> AnyArray:
        factor, zero = steps(files, start, stop)
        codes = unpack(files.raw(packed)[:, start:stop].T, bits, width)
        return (codes - zero).astype(np.float32) * factor

    label = f"GPTQ {bits} bits"
    return source.derive(f"{stem}.weight", label, (rows, width), used, compute, _to_steps(steps, 0, 2**bits - 1))


def _to_steps(steps: Steps, least: int, most: int) -> Round:
    """Rounding to whole steps: scale * (q - zero) with the nearest q from `least` to `most`."""

    def round_to(files: Mapped, values: AnyArray, start: int, stop: int) -> AnyArray:
        factor, zero = steps(files, start, stop)
        codes = np.clip(np.rint(divide(values, factor) + zero), least, most)
        found: AnyArray = (codes - zero) * factor
        return found

    return round_to


def _groups(source: Source, order: str, width: int, groups: int) -> AnyArray:
    """The group of every input: as stored, or one group after the other."""
    if order not in source.names:
        return np.arange(width) // -(-width // groups)
    found = source.values(order).astype(np.int64)
    if found.shape != (width,) or found.min(initial=0) < 0 or found.max(initial=0) >= groups:
        raise source.refuse(order, f"is no list of the {groups} groups of {width} inputs")
    return found


def _awq(source: Source, stem: str, packed: str, zeros: str, scales: str) -> Found:
    width, words = source.shape(packed)
    rows, groups = words * 8, source.shape(scales)[0]
    if source.shape(scales) != (groups, rows) or source.shape(zeros) != (groups, words) or not groups or width % groups:
        raise source.refuse(packed, f"is no AWQ matrix of 4 bits with scales {list(source.shape(scales))}")
    group_of = np.arange(width) // (width // groups)

    def columns(raw: AnyArray, start: int, stop: int) -> AnyArray:
        first = start // 8
        codes = unpack(raw[:, first : -(-stop // 8)], 4, (-(-stop // 8) - first) * 8)
        ordered = codes.reshape(len(raw), -1, 8)[..., AWQ_ORDER].reshape(len(raw), -1)
        found: AnyArray = ordered[:, start - first * 8 : stop - first * 8].T
        return found

    def steps(files: Mapped, start: int, stop: int) -> tuple[AnyArray, AnyArray]:
        factor = scale_values(files.raw(scales)[:, start:stop].T, source.dtype(scales))
        return factor[:, group_of], columns(files.raw(zeros), start, stop)[:, group_of]

    def compute(files: Mapped, start: int, stop: int) -> AnyArray:
        factor, zero = steps(files, start, stop)
        return (columns(files.raw(packed), start, stop) - zero).astype(np.float32) * factor

    used, rounding = (packed, zeros, scales), _to_steps(steps, 0, 15)
    return source.derive(f"{stem}.weight", "AWQ 4 bits", (rows, width), used, compute, rounding)


def compressed_tensors(source: Source) -> Iterator[Found]:
    """Matrices with `weight_packed`, `weight_shape` and `weight_scale` beside each other."""
    for packed in [name for name in source.names if name.endswith(".weight_packed")]:
        stem = packed.removesuffix(".weight_packed")
        size, scale = f"{stem}.weight_shape", f"{stem}.weight_scale"
        if source.dtype(packed) in WIDE and size in source.names and scale in source.names:
            yield _decompress(source, stem, packed, size, scale)


def _decompress(source: Source, stem: str, packed: str, size: str, scale: str) -> Found:
    shape = tuple(int(length) for length in source.values(size))
    if len(shape) != 2 or len(source.shape(packed)) != 2 or source.shape(packed)[0] != shape[0] or min(shape) < 1:
        raise source.refuse(packed, f"is no packed matrix of shape {list(shape)}")
    (rows, width), bits = shape, _bits(source, packed, shape[1])
    grid = source.shape(scale) if len(source.shape(scale)) == 2 else (1, 1)
    zeros, order = f"{stem}.weight_zero_point", f"{stem}.weight_g_idx"
    if grid[0] not in (1, rows) or grid[1] < 1 or int(np.prod(source.shape(scale))) != grid[0] * grid[1]:
        raise source.refuse(scale, f"does not fit a matrix of shape {list(shape)}")
    has_zero, has_order = zeros in source.names, order in source.names
    stored = source.values(order).astype(np.int64) if has_order else np.zeros(0, np.int64)
    in_order = has_order and stored.min(initial=0) >= 0
    group_of = _groups(source, order, width, grid[1]) if in_order else np.arange(width) // -(-width // grid[1])
    used = (packed, size, scale, *((zeros,) if has_zero else ()), *((order,) if has_order else ()))
    middle = 1 << (bits - 1)

    def zero_points(files: Mapped, start: int, stop: int) -> AnyArray:
        raw = files.raw(zeros)
        if source.dtype(zeros) not in WIDE:
            return np.broadcast_to(raw.reshape(grid).astype(np.int32), (rows, grid[1]))[start:stop]
        part, before = words_of(raw.T, start, stop, bits)
        found: AnyArray = unpack(part, bits, before + stop - start)[:, before:].T - middle
        return found

    def steps(files: Mapped, start: int, stop: int) -> tuple[AnyArray, AnyArray]:
        factor = scale_values(files.raw(scale), source.dtype(scale)).reshape(grid)
        factor = factor[start:stop] if grid[0] == rows else factor
        zero = zero_points(files, start, stop) if has_zero else np.zeros(factor.shape, np.int32)
        return factor[:, group_of], zero[:, group_of]

    def compute(files: Mapped, start: int, stop: int) -> AnyArray:
        factor, zero = steps(files, start, stop)
        codes = unpack(files.raw(packed)[start:stop], bits, width) - middle
        return (codes - zero).astype(np.float32) * factor

    label, rounding = f"compressed-tensors {bits} bits", _to_steps(steps, -middle, middle - 1)
    return source.derive(f"{stem}.weight", label, shape, used, compute, rounding)


def _bits(source: Source, packed: str, width: int) -> int:
    """Bits a value: as every group of the config says, where that fits, else as many as fit into the words."""
    words = source.shape(packed)[1]
    groups = source.settings.get("config_groups")
    weights = (
        [group.get("weights") for group in groups.values() if isinstance(group, dict)]
        if isinstance(groups, dict)
        else []
    )
    said = {group.get("num_bits") for group in weights if isinstance(group, dict)}
    bits = next(iter(said)) if len(said) == 1 else words * 32 // width
    if type(bits) is not int or bits not in BITS or -(-width * bits // 32) != words:
        raise source.refuse(packed, f"holds {words} words a row, which are not {width} values of {bits} bits")
    return bits


def mlx(source: Source) -> Iterator[Found]:
    """Matrices of MLX and of transformers' Metal: words, `scales`, and `biases` or `qbiases`."""
    for packed in [name for name in source.names if name.endswith(".weight") and source.dtype(name) == "U32"]:
        stem = packed.removesuffix(".weight")
        scales = f"{stem}.scales"
        if scales not in source.names:
            continue
        bias = next((name for name in (f"{stem}.biases", f"{stem}.qbiases") if name in source.names), None)
        yield _mlx(source, packed, scales, bias)


def _mlx(source: Source, packed: str, scales: str, bias: str | None) -> Found:
    own = source.settings.get(packed.removesuffix(".weight"))
    settings = {**source.settings, **(own if isinstance(own, dict) else {})}
    group, shape = settings.get("group_size"), source.shape(packed)
    exponents = bias is None and source.dtype(scales) == "U8"
    if (
        type(group) is not int
        or group < 1
        or source.shape(scales)[:-1] != shape[:-1]
        or (bias is None and not exponents)
    ):
        raise source.refuse(packed, "is packed by MLX, and its config does not say in which groups")
    width = source.shape(scales)[-1] * group
    bits = shape[-1] * 32 // width if width else 0
    if bits not in BITS or shape[-1] * 32 != width * bits or (exponents and bits != 4):
        raise source.refuse(packed, f"holds {shape[-1]} words a row, which are no {width} values")
    used = (packed, scales, *((bias,) if bias is not None else ()))

    def compute(files: Mapped, start: int, stop: int) -> AnyArray:
        codes = unpack(files.raw(packed)[start:stop], bits, width)
        values = np.take(E2M1, codes) if exponents else codes.astype(np.float32)
        values = values * np.repeat(scale_values(files.raw(scales)[start:stop], source.dtype(scales)), group, axis=-1)
        if bias is not None:
            values += np.repeat(scale_values(files.raw(bias)[start:stop], source.dtype(bias)), group, axis=-1)
        return values

    label = "MXFP4" if exponents else f"MLX {bits} bits"
    return source.derive(packed, label, (*shape[:-1], width), used, compute)
