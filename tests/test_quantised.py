"""Every quantised format is compared by the values that it stands for, against its formula in float64."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from ckdiff import CompareSpec, compare
from ckdiff.errors import CheckpointError
from ckdiff.weights.opening import open_checkpoint
from ckdiff.weights.storage import Mapped
from tests.checkpoints import CONFIG, llama

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ckdiff.shapes import AnyArray
    from ckdiff.weights.checkpoint import Checkpoint

    Tensors = dict[str, torch.Tensor]
    Form = tuple[Tensors, AnyArray]
    """What is stored beside each other under `l.`, and the values that it stands for, in float64."""

ROWS, WIDTH = 24, 64
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6])
NF4 = np.sort(np.concatenate([-(np.linspace(0.1, 1, 8) ** 1.3), np.linspace(0, 1, 8) ** 1.2]))


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def pack(codes: AnyArray, bits: int) -> AnyArray:
    """Numbers of so many bits along the last axis, one behind the other in 32-bit words; bit by bit."""
    count = codes.shape[-1]
    result = np.zeros((*codes.shape[:-1], -(-count * bits // 32)), np.uint64)
    for place in range(count):
        for bit in range(bits):
            where = place * bits + bit
            one = (codes[..., place].astype(np.uint64) >> np.uint64(bit)) & np.uint64(1)
            result[..., where // 32] |= one << np.uint64(where % 32)
    return result.astype(np.uint32)


def int32(words: AnyArray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(words).view(np.int32).copy())


def floats(values: AnyArray, dtype: torch.dtype = torch.float16) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(values)).to(dtype)


def exact(tensor: torch.Tensor) -> AnyArray:
    return tensor.double().numpy()


# -------------------------------------------------------------------------------------------------------- formats


def scaled(scale: torch.Tensor, spread: Callable[[AnyArray], AnyArray], name: str = "weight_scale") -> Form:
    weight = floats(rng().normal(size=(ROWS, WIDTH)), torch.float8_e4m3fn)
    return {"weight": weight, name: scale}, exact(weight) * spread(exact(scale))


def exponents(name: str, as_dtype: torch.dtype) -> Form:
    codes = torch.from_numpy(rng(1).integers(110, 130, (ROWS, WIDTH // 32)).astype(np.uint8))
    weight = floats(rng().normal(size=(ROWS, WIDTH)), torch.float8_e4m3fn)
    stored = codes if as_dtype == torch.uint8 else codes.view(as_dtype)
    return {"weight": weight, name: stored}, exact(weight) * np.repeat(2.0 ** (exact(codes) - 127), 32, axis=1)


def whole(name: str = "weight_scale") -> Form:
    return scaled(torch.tensor(0.37), lambda scale: scale, name)


def by_row(shape: tuple[int, ...] = (ROWS, 1), name: str = "weight_scale", dtype: Any = torch.float32) -> Form:
    scale = floats(rng(1).uniform(0.1, 2, ROWS), dtype).reshape(shape)
    return scaled(scale, lambda scale: scale.reshape(ROWS, 1), name)


def by_grid(shape: tuple[int, ...]) -> Form:
    scale = floats(rng(1).uniform(0.1, 2, (3, 4)), torch.float32)
    return scaled(
        scale.reshape(shape), lambda scale: np.kron(scale.reshape(3, 4), np.ones((8, 16))), "weight_scale_inv"
    )


def int8(zero: bool) -> Form:
    codes = torch.from_numpy(rng().integers(-128, 128, (ROWS, WIDTH)).astype(np.int8))
    scale = floats(rng(1).uniform(0.01, 0.1, (ROWS, 4)), torch.bfloat16)
    zeros = torch.from_numpy(rng(2).integers(-9, 9, (ROWS, 4)).astype(np.int8))
    shift = np.repeat(exact(zeros), 16, axis=1) if zero else 0
    values = (exact(codes) - shift) * np.repeat(exact(scale), 16, axis=1)
    return {"weight": codes, "weight_scale": scale} | ({"weight_zero_point": zeros} if zero else {}), values


def llm_int8() -> Form:
    codes = torch.from_numpy(rng().integers(-127, 128, (ROWS, WIDTH)).astype(np.int8))
    largest = floats(rng(1).uniform(0.5, 3, ROWS), torch.float32)
    parts = {"weight": codes, "SCB": largest, "weight_format": torch.tensor(0, dtype=torch.uint8)}
    return parts, exact(codes) * exact(largest)[:, None] / 127


def nf4(nested: bool, rows: int = ROWS, width: int = WIDTH, kind: str = "nf4") -> Form:
    codes = rng().integers(0, 16, rows * width)
    count = -(-codes.size // 64)
    table = floats(NF4, torch.float32)
    state: dict[str, Any] = {"quant_type": kind, "blocksize": 64, "dtype": "bfloat16", "shape": [rows, width]}
    if nested:
        state |= {"nested_blocksize": 8, "nested_dtype": "float32", "nested_offset": 0.125}
        inner = floats(rng(1).uniform(-1, 1, 256), torch.float32)
        outer = floats(rng(2).uniform(0.5, 1, -(-count // 8)), torch.float32)
        packed = torch.from_numpy(rng(3).integers(0, 256, count).astype(np.uint8))
        largest = exact(inner)[packed.numpy()] * np.repeat(exact(outer), 8)[:count] + 0.125
        parts = {"weight.absmax": packed, "weight.nested_absmax": outer, "weight.nested_quant_map": inner}
    else:
        magnitudes = floats(rng(1).uniform(0.1, 2, count), torch.float32)
        largest, parts = exact(magnitudes), {"weight.absmax": magnitudes}
    padded = np.append(codes, np.zeros(codes.size % 2, np.int64))
    text = np.frombuffer(json.dumps(state).encode(), np.uint8).copy()
    parts |= {
        "weight": torch.from_numpy((padded[0::2] << 4 | padded[1::2]).astype(np.uint8)[:, None]),
        "weight.quant_map": table,
        f"weight.quant_state.bitsandbytes__{kind}": torch.from_numpy(text),
    }
    values = exact(table)[codes] * np.repeat(largest, 64)[: codes.size]
    return parts, values.reshape(rows, width)


def nibbles(codes: AnyArray) -> torch.Tensor:
    return torch.from_numpy((codes[..., 0::2] | codes[..., 1::2] << 4).astype(np.uint8))


def e2m1(packed: str, scale: str, kind: str) -> Form:
    codes = rng().integers(0, 16, (ROWS, WIDTH))
    if kind == "exponents":
        stored = torch.from_numpy(rng(1).integers(120, 130, (ROWS, WIDTH // 32)).astype(np.uint8))
        factor, parts = np.repeat(2.0 ** (exact(stored) - 127), 32, axis=1), {scale: stored}
    else:
        stored = floats(rng(1).uniform(1, 400, (ROWS, WIDTH // 16)), torch.float8_e4m3fn)
        overall = torch.tensor([32.5 if kind == "divided" else 1 / 32.5])
        name = "weight_global_scale" if kind == "divided" else "weight_scale_2"
        times = 1 / exact(overall) if kind == "divided" else exact(overall)
        factor, parts = np.repeat(exact(stored), 16, axis=1) * times, {scale: stored, name: overall}
    return {packed: nibbles(codes), **parts}, E2M1[codes] * factor


def fp4_in_int8() -> Form:
    parts, values = e2m1("weight", "weight_scale_inv", "exponents")
    parts["weight"] = parts["weight"].view(torch.int8)
    parts["weight_scale_inv"] = parts["weight_scale_inv"].view(torch.float8_e8m0fnu)
    return parts, values


def gptq(bits: int, plus: int = 1, ordered: bool = False) -> Form:
    codes = rng().integers(0, 2**bits, (ROWS, WIDTH))
    groups = rng(3).permutation(np.arange(WIDTH) // 16) if ordered else np.arange(WIDTH) // 16
    zeros = rng(1).integers(0, 2**bits, (4, 32))[:, :ROWS] if bits != 3 else rng(1).integers(0, 8, (4, 32))
    scale = floats(rng(2).uniform(0.01, 0.1, (4, ROWS)))
    parts = {"qweight": int32(pack(codes, bits).T), "scales": scale, "qzeros": int32(pack(zeros[:, :ROWS], bits))}
    parts |= {"g_idx": torch.from_numpy(groups.astype(np.int32))} if ordered else {}
    values = exact(scale).T[:, groups] * (codes - (zeros[:, :ROWS] + plus).T[:, groups])
    return parts, values


def awq() -> Form:
    codes, zeros = rng().integers(0, 16, (WIDTH, ROWS)), rng(1).integers(0, 16, (4, ROWS))
    scale = floats(rng(2).uniform(0.01, 0.1, (4, ROWS)))
    order = [0, 2, 4, 6, 1, 3, 5, 7]

    def packed(numbers: AnyArray) -> torch.Tensor:
        return int32(pack(numbers.reshape(len(numbers), -1, 8)[..., order].reshape(len(numbers), -1), 4))

    values = (codes - np.repeat(zeros, 16, axis=0)) * np.repeat(exact(scale), 16, axis=0)
    return {"qweight": packed(codes), "qzeros": packed(zeros), "scales": scale}, values.T


def compressed(bits: int, zero: bool = False, ordered: bool = False, width: int = WIDTH, groups: int = 4) -> Form:
    middle = 2 ** (bits - 1)
    codes = rng().integers(0, 2 * middle, (ROWS, width))
    scale = floats(rng(1).uniform(0.01, 0.1, (ROWS, groups)), torch.bfloat16)
    zeros = rng(2).integers(0, 2 * middle, (ROWS, groups))
    group = np.arange(width) // -(-width // groups)
    group = rng(3).permutation(group) if ordered else group
    parts = {
        "weight_packed": int32(pack(codes, bits)),
        "weight_scale": scale,
        "weight_shape": torch.tensor([ROWS, width]),
    }
    parts |= {"weight_zero_point": int32(pack(zeros.T, bits).T)} if zero else {}
    parts |= {"weight_g_idx": torch.from_numpy(group.astype(np.int32))} if ordered else {}
    shift = (zeros if zero else np.full_like(zeros, middle))[:, group]
    return parts, (codes - shift) * exact(scale)[:, group]


def mlx(bits: int, bias: str = "biases") -> Form:
    codes = rng().integers(0, 2**bits, (ROWS, WIDTH))
    scale, shift = (floats(rng(seed).normal(size=(ROWS, 2)), torch.bfloat16) for seed in (1, 2))
    values = codes * np.repeat(exact(scale), 32, axis=1) + np.repeat(exact(shift), 32, axis=1)
    words = torch.from_numpy(pack(codes, bits).astype(np.int64)).to(torch.uint32)
    return {"weight": words, "scales": scale, bias: shift}, values


def mlx_mxfp4() -> Form:
    codes = rng().integers(0, 16, (ROWS, WIDTH))
    scale = torch.from_numpy(rng(1).integers(120, 130, (ROWS, 2)).astype(np.uint8))
    words = torch.from_numpy(pack(codes, 4).astype(np.int64)).to(torch.uint32)
    return {"weight": words, "scales": scale}, E2M1[codes] * np.repeat(2.0 ** (exact(scale) - 127), 32, axis=1)


Settings = dict[str, Any]
MLX: Settings = {"quantization": {"group_size": 32}}


def method(name: str, **settings: Any) -> Settings:
    return {"quantization_config": {"quant_method": name, **settings}}


FORMS: dict[str, tuple[Form, Settings]] = {
    "FP8, one scale": (whole(), {}),
    "FP8, .scale": (whole("scale"), {}),
    "FP8, scale_weight": (whole("scale_weight"), {}),
    "FP8, qscale_weight": (whole("qscale_weight"), {}),
    "FP8, a row": (by_row(), method("fbgemm_fp8")),
    "FP8, a row in 1-d": (by_row((ROWS,)), {}),
    "FP8, a row in 4-d": (by_row((ROWS, 1, 1, 1)), {}),
    "FP8, a row in bf16": (by_row(dtype=torch.bfloat16), {}),
    "FP8, grid": (by_grid((3, 4)), {}),
    "FP8, grid in 4-d": (by_grid((3, 1, 4, 1)), {}),
    "FP8, grid of given blocks": (by_grid((3, 4)), method("fp8", weight_block_size=[8, 16])),
    "MXFP8, U8": (exponents("weight_scale", torch.uint8), method("compressed-tensors")),
    "MXFP8, E8M0": (exponents("weight_scale_inv", torch.float8_e8m0fnu), {}),
    "MXFP8, .scale in E8M0": (exponents("scale", torch.float8_e8m0fnu), method("fp8")),
    "FP4 in int8": (fp4_in_int8(), method("fp8")),
    "int8": (int8(zero=False), method("compressed-tensors")),
    "int8, zero points": (int8(zero=True), method("compressed-tensors")),
    "LLM.int8": (llm_int8(), method("bitsandbytes")),
    "NF4": (nf4(nested=False), method("bitsandbytes")),
    "NF4, nested": (nf4(nested=True), method("bitsandbytes")),
    "FP4": (nf4(nested=False, kind="fp4"), method("bitsandbytes")),
    "NF4, rows that no block fits": (nf4(nested=False, rows=5, width=27), method("bitsandbytes")),
    "MXFP4, compressed-tensors": (e2m1("weight_packed", "weight_scale", "exponents"), method("compressed-tensors")),
    "NVFP4, compressed-tensors": (e2m1("weight_packed", "weight_scale", "divided"), method("compressed-tensors")),
    "NVFP4, ModelOpt": (e2m1("weight", "weight_scale", "multiplied"), method("modelopt")),
    "GPTQ": (gptq(4), method("gptq", bits=4)),
    "GPTQ, act order": (gptq(4, ordered=True), method("gptq")),
    "GPTQ, second version": (gptq(4, plus=0), method("gptq", checkpoint_format="gptq_v2")),
    "GPTQ, 8 bits": (gptq(8), method("gptq")),
    "GPTQ, 2 bits": (gptq(2), method("gptq")),
    "AutoRound as GPTQ": (gptq(4), method("auto-round", packing_format="auto_round:auto_gptq")),
    "AWQ": (awq(), method("awq", version="gemm")),
    "AutoRound as AWQ": (awq(), method("auto-round", packing_format="auto_round:auto_awq")),
    "packed int4": (compressed(4), method("compressed-tensors")),
    "packed int4, zero points": (compressed(4, zero=True), method("compressed-tensors")),
    "packed int4, act order": (compressed(4, ordered=True), method("compressed-tensors")),
    "packed int8": (compressed(8, zero=True), method("compressed-tensors")),
    "packed int3, odd width": (compressed(3, zero=True, width=50, groups=5), method("compressed-tensors")),
    "packed int4, a row": (compressed(4, groups=1), method("compressed-tensors")),
    "MLX, 4 bits": (mlx(4), MLX),
    "MLX, 8 bits": (mlx(8), MLX),
    "MLX, 6 bits": (mlx(6), MLX),
    "Metal": (mlx(4, "qbiases"), method("metal", group_size=32, bits=4)),
    "MLX, MXFP4": (mlx_mxfp4(), MLX),
}


def written(root: Path, tensors: Tensors, *settings: Settings, **config: Any) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in tensors.items()}, root / "model.safetensors")
    (root / "config.json").write_text(
        json.dumps({"model_type": "none"} | config | {key: one[key] for one in settings for key in one})
    )
    return root


def form(root: Path, case: str) -> tuple[Checkpoint, AnyArray]:
    (parts, values), settings = FORMS[case]
    root = written(root, {f"l.{name}": value for name, value in parts.items()}, settings)
    return open_checkpoint(str(root)), values


@pytest.mark.parametrize("case", FORMS)
def test_values_are_those_of_the_formula(tmp_path: Path, case: str) -> None:
    checkpoint, values = form(tmp_path, case)
    assert checkpoint.shapes() == {"l.weight": values.shape}
    with Mapped(checkpoint) as files:
        found = files.raw("l.weight")
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, values, rtol=1e-6, atol=1e-7 * np.abs(values).max())
        # Rows by themselves are the same rows, wherever a block begins.
        rows = files.array("l.weight")
        for start, stop in ((0, 1), (1, 2), (3, 5), (len(values) - 1, len(values))):
            assert np.array_equal(rows[start:stop], found[start:stop])
    assert "read as the values" in checkpoint.notes[-1]


@pytest.mark.parametrize("case", FORMS)
def test_drift_from_a_float_base_is_that_of_the_values(tmp_path: Path, case: str) -> None:
    _, values = form(tmp_path / "unlearned", case)
    base = values.astype(np.float32) + rng(9).normal(size=values.shape).astype(np.float32) * np.float32(0.1)
    written(tmp_path / "base", {"l.weight": torch.from_numpy(base)})
    spec = CompareSpec(str(tmp_path / "base"), str(tmp_path / "unlearned"), hash=False)
    found = compare(spec).compare
    assert found is not None
    (row,) = found.tensors
    a, b = base.astype(np.float64), values
    assert row.drift.relative_l2 == pytest.approx(np.linalg.norm(b - a) / np.linalg.norm(a), rel=1e-6)
    cosine = 1 - (a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b)
    assert row.drift.one_minus_cosine == pytest.approx(cosine, rel=1e-6, abs=1e-12)
    assert row.dtype_base == "F32"
    assert row.dtype_unlearned not in ("F32", "U8", "I8", "I32", "F8_E4M3")
    assert not found.only_in_unlearned


WITHOUT_ROUNDING = ("MLX", "Metal")


@pytest.mark.parametrize("case", [name for name in FORMS if not name.startswith(WITHOUT_ROUNDING)])
def test_what_a_format_stores_is_rounded_to_itself_and_its_neighbours_to_it(tmp_path: Path, case: str) -> None:
    checkpoint, _ = form(tmp_path, case)
    one = checkpoint.derived["l.weight"]
    assert one.rounded is not None
    values = one.make().astype(np.float64)
    np.testing.assert_allclose(one.rounded(values, 0, len(values)), values, rtol=1e-6, atol=1e-7 * np.abs(values).max())
    rows = slice(3, 5)
    near = values[rows] * (1 + 1e-5)
    np.testing.assert_allclose(one.rounded(near, 3, 5), values[rows], rtol=1e-6, atol=1e-7 * np.abs(values).max())


def test_the_formats_own_error_is_told_from_the_rest(tmp_path: Path) -> None:
    """A base rounded to FP8, and moved in one matrix: the note has both lengths, as float64 gives them."""
    base = {name: torch.from_numpy(value) for name, value in llama().items()}
    tensors = {name: value for name, value in quantised_llama(4).items() if "input_scale" not in name}
    error = sum(float(((exact_mx(tensors, name) - exact(base[name])) ** 2).sum()) for name in base if "_proj" in name)
    length = sum(float((exact(base[name]) ** 2).sum()) for name in base if "_proj" in name)
    moved = "model.layers.1.mlp.down_proj.weight"
    tensors[moved] = (tensors[moved].float() * -1).to(torch.float8_e4m3fn)
    apart = sum(float(((exact_mx(tensors, name) - exact(base[name])) ** 2).sum()) for name in base if "_proj" in name)
    written(tmp_path / "base", base, CONFIG)
    written(tmp_path / "unlearned", tensors, CONFIG)
    for one, other in (("base", "unlearned"), ("unlearned", "base")):
        found = compare(CompareSpec(str(tmp_path / one), str(tmp_path / other), hash=False)).compare
        assert found is not None
        note = next(note for note in found.notes if "by itself" in note)
        assert "FP8: 14 tensors" in note
        assert f"relative L2 of {np.sqrt(error / length):.3g} by itself" in note
        assert f"are {np.sqrt(apart / length):.3g} apart" in note


# -------------------------------------------------------------------------------------------------- other oracles


def test_gpt_oss_is_read_as_transformers_reads_it(tmp_path: Path) -> None:
    from transformers.integrations.mxfp4 import convert_moe_packed_tensors

    blocks = torch.from_numpy(rng().integers(0, 256, (3, 10, 2, 16)).astype(np.uint8))
    scales = torch.from_numpy(rng(1).integers(115, 130, (3, 10, 2)).astype(np.uint8))
    name = "model.layers.0.mlp.experts.down_proj"
    written(tmp_path, {f"{name}_blocks": blocks, f"{name}_scales": scales}, method("mxfp4"))
    with Mapped(open_checkpoint(str(tmp_path))) as files:
        found = files.raw(name)
    assert np.array_equal(found, convert_moe_packed_tensors(blocks, scales, dtype=torch.float32).numpy())


@pytest.mark.parametrize("case", ["FP8, grid", "FP8, a row", "MXFP8, U8", "MXFP8, E8M0", "FP4 in int8"])
def test_fp8_is_read_as_transformers_reads_it(tmp_path: Path, case: str) -> None:
    from transformers.integrations.finegrained_fp8 import Fp8Dequantize

    checkpoint, _ = form(tmp_path, case)
    parts = FORMS[case][0][0]
    scale = next(value for name, value in parts.items() if name != "weight")
    expected = Fp8Dequantize(None)._dequantize_one(parts["weight"], scale, torch.float32)
    with Mapped(checkpoint) as files:
        assert np.array_equal(files.raw("l.weight"), expected.numpy())


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_metal_is_read_as_transformers_reads_it(tmp_path: Path, bits: int) -> None:
    from transformers.integrations.metal_quantization import _affine_dequantize_tensor, _affine_quantize_tensor

    parts: Any = _affine_quantize_tensor(torch.randn(8, 64, generator=torch.Generator().manual_seed(0)), 32, bits)
    names = ("l.weight", "l.scales", "l.qbiases")
    written(tmp_path, dict(zip(names, parts, strict=True)), method("metal", group_size=32, bits=bits))
    with Mapped(open_checkpoint(str(tmp_path))) as files:
        expected = _affine_dequantize_tensor(parts[0], parts[1], parts[2], 32, bits)
        np.testing.assert_allclose(files.raw("l.weight"), expected, rtol=1e-6)


# ------------------------------------------------------------------------------------------- whole models, refusals


def quantised_llama(block: int) -> Tensors:
    """A tiny Llama in MXFP8-like blocks of powers of two, so that the values are exact."""
    found: Tensors = {}
    for name, value in llama().items():
        weight = torch.from_numpy(value)
        if "_proj" not in name:
            found[name] = weight
            continue
        scale = torch.exp2(torch.ceil(torch.log2(weight.reshape(len(weight), -1, block).abs().amax(-1) / 448)))
        found[name] = (weight / scale.repeat_interleave(block, 1)).to(torch.float8_e4m3fn)
        found[name.removesuffix("weight") + "weight_scale"] = (torch.log2(scale) + 127).to(torch.uint8)
        found[name.removesuffix("weight") + "input_scale"] = torch.tensor(0.02)
    return found


def exact_mx(tensors: Tensors, name: str) -> AnyArray:
    """The values of a matrix of `quantised_llama`."""
    scale = exact(tensors[name.removesuffix("weight") + "weight_scale"])
    return exact(tensors[name]) * np.repeat(2.0 ** (scale - 127), 4, axis=1)


def test_a_quantised_model_against_its_base(tmp_path: Path) -> None:
    tensors = quantised_llama(4)
    base = {name: torch.from_numpy(value) for name, value in llama().items()}
    written(tmp_path / "base", base, CONFIG)
    written(tmp_path / "unlearned", tensors, CONFIG, method("fp8", activation_scheme="static"))
    found = compare(CompareSpec(str(tmp_path / "base"), str(tmp_path / "unlearned"))).compare
    assert found is not None
    assert len(found.tensors) == 21
    for row in found.tensors:
        a = exact(base[row.name])
        if "_proj" not in row.name:
            assert row.drift.identical
            continue
        b = exact_mx(tensors, row.name)
        assert row.drift.relative_l2 == pytest.approx(np.linalg.norm(b - a) / np.linalg.norm(a), rel=1e-6)
        assert 0.01 < row.drift.relative_l2 < 0.05
    # Scales of activations have no counterpart, and are not passed over.
    assert len(found.only_in_unlearned) == 14
    assert all(row.name.endswith("input_scale") for row in found.only_in_unlearned)


def test_experts_of_mxfp4_pair_with_a_float_base(tmp_path: Path) -> None:
    from tests.tiny_families import build

    model = build("gpt_oss")
    model.save_pretrained(tmp_path / "base")
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    expected = {}
    for name in [name for name in state if name.endswith(("experts.gate_up_proj", "experts.down_proj"))]:
        weight = state.pop(name)
        experts, columns, rows = weight.shape
        groups = columns // 4
        codes = rng().integers(0, 16, (experts, rows, groups * 4))
        scales = rng(1).integers(120, 128, (experts, rows, groups))
        state[f"{name}_blocks"] = nibbles(codes).reshape(experts, rows, groups, 2)
        state[f"{name}_scales"] = torch.from_numpy(scales.astype(np.uint8))
        expected[name] = (E2M1[codes] * np.repeat(2.0 ** (scales - 127), 4, axis=2)).transpose(0, 2, 1)
    config = json.loads((tmp_path / "base" / "config.json").read_text())
    written(tmp_path / "unlearned", state, method("mxfp4"), **config)
    found = compare(CompareSpec(str(tmp_path / "base"), str(tmp_path / "unlearned"), hash=False)).compare
    assert found is not None
    assert not found.only_in_base
    assert not found.only_in_unlearned
    own = {name: value.double().numpy() for name, value in model.state_dict().items()}
    name = "model.layers.1.mlp.experts.gate_up_proj"
    row = next(row for row in found.tensors if row.name == f"{name}[2.up]")
    a, b = own[name][2][:, 1::2], expected[name][2][:, 1::2]
    assert row.drift.relative_l2 == pytest.approx(np.linalg.norm(b - a) / np.linalg.norm(a), rel=1e-6)
    assert row.dtype_unlearned == "MXFP4"


def test_a_matrix_of_conv1d_is_turned_back(tmp_path: Path) -> None:
    parts, values = nf4(nested=False, rows=16, width=16)
    name = "transformer.h.0.mlp.c_fc"
    written(tmp_path, {f"{name}.{part}": value for part, value in parts.items()}, model_type="gpt2")
    with Mapped(open_checkpoint(str(tmp_path))) as files:
        np.testing.assert_allclose(files.raw(f"{name}.weight"), values.T, rtol=1e-6)


U8 = torch.zeros(4, 8, dtype=torch.uint8)
F8 = torch.zeros(4, 8).to(torch.float8_e4m3fn)
I32 = torch.zeros(4, 8, dtype=torch.int32)
REFUSED: dict[str, tuple[Tensors, Settings, str]] = {
    "a scale of another shape": ({"weight": F8, "weight_scale": torch.ones(5)}, {}, "l.weight_scale"),
    "a scale by another name": ({"weight": F8, "weight_scaler": torch.ones(1)}, {}, "l.weight_scaler"),
    "FP8 without a scale in a quantised model": ({"weight": F8}, method("fp8"), "without a scale"),
    "int8 without a scale": ({"weight": U8.to(torch.int8)}, {}, "codes of a format"),
    "HQQ": ({"W_q": U8, "scale": torch.ones(4), "zero": torch.ones(4)}, method("hqq"), '"hqq"'),
    "BitNet": ({"weight": U8, "weight_scale": torch.ones(1)}, method("bitnet"), '"bitnet"'),
    "Quanto": ({"weight._data": U8.to(torch.int8), "weight._scale": torch.ones(4, 1)}, method("quanto"), '"quanto"'),
    "EETQ": ({"weight": U8.to(torch.int8), "weight_scales": torch.ones(8)}, method("eetq"), '"eetq"'),
    "AQLM": ({"codes": U8.to(torch.int8), "codebooks": torch.ones(4)}, method("aqlm"), '"aqlm"'),
    "Marlin": (awq()[0], method("awq", version="marlin"), "marlin"),
    "GPTQ for one kernel": (gptq(4)[0], method("gptq", checkpoint_format="marlin"), "marlin"),
    "words without a method": (gptq(4)[0], {}, "unnamed method"),
    "GPTQ without zeros": ({"qweight": I32, "scales": torch.ones(2, 8)}, method("gptq"), "qweight"),
    "groups that are none": (gptq(4)[0] | {"g_idx": torch.full((64,), 9, dtype=torch.int32)}, method("gptq"), "g_idx"),
    "NF4 without magnitudes": (
        {name: value for name, value in nf4(nested=False)[0].items() if not name.endswith("absmax")},
        {},
        "absmax",
    ),
    "NF4 whose state is no JSON": (
        nf4(nested=False)[0] | {"weight.quant_state.bitsandbytes__nf4": torch.zeros(4, dtype=torch.uint8)},
        {},
        "no state",
    ),
    "NF4 of another size": (nf4(nested=False)[0] | {"weight.absmax": torch.ones(3)}, {}, "does not fit"),
    "int8 in tiles": (llm_int8()[0] | {"weight_format": torch.tensor(2, dtype=torch.uint8)}, {}, "layout of int8"),
    "packed of no shape": (compressed(4)[0] | {"weight_shape": torch.tensor([3, 3])}, {}, "weight_packed"),
    "MLX without groups": (mlx(4)[0], {}, "in which groups"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_by_name(tmp_path: Path, case: str) -> None:
    parts, settings, why = REFUSED[case]
    written(tmp_path, {f"l.{name}": value for name, value in parts.items()}, settings)
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(str(tmp_path))
    message = str(caught.value)
    assert "\n" not in message
    assert why in message
    assert "l." in message


def test_a_plain_cast_to_fp8_and_buffers_of_whole_numbers_are_what_they_are(tmp_path: Path) -> None:
    written(tmp_path, {"l.weight": F8, "positions": torch.arange(4), "mask": torch.ones(2, 2, dtype=torch.uint8)})
    checkpoint = open_checkpoint(str(tmp_path))
    assert checkpoint.dtype("l.weight") == "F8_E4M3"
    assert checkpoint.notes == ()


def test_a_quantised_model_is_probed_as_its_values(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    from ckdiff.probes.live.model import LiveModel

    tensors = quantised_llama(4)
    config = CONFIG | {"vocab_size": 20, "max_position_embeddings": 16}
    written(tmp_path / "quantised", tensors, method("fp8"), **config)
    values = {name: value for name, value in tensors.items() if not name.endswith("_scale")}
    assert len(values) == 21
    for name in [name for name in values if "_proj" in name]:
        values[name] = torch.from_numpy(exact_mx(tensors, name)).float()
    written(tmp_path / "plain", values, **config)
    live = LiveModel(open_checkpoint(str(tmp_path / "quantised")), torch.float32, torch.device("cpu"))
    live.load()
    theirs: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "plain", dtype=torch.float32)
    ids = torch.tensor([[3, 7, 1, 15]])
    with torch.inference_mode():
        assert torch.equal(live.model(input_ids=ids).logits, theirs(input_ids=ids).logits)
    assert any("14 scales of activations" in note for note in live.notes)
