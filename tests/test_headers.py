from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save, save_file

from ckdiff.errors import CheckpointError
from ckdiff.weights.headers import DTYPE_BYTES, read_shard
from ckdiff.weights.reader import open_local
from ckdiff.weights.storage import Mapped, decode64

TORCH = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E8M0": torch.float8_e8m0fnu,
    "U16": torch.uint16,
    "I16": torch.int16,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "U32": torch.uint32,
    "I32": torch.int32,
    "F32": torch.float32,
    "U64": torch.uint64,
    "I64": torch.int64,
    "F64": torch.float64,
}


def packed(header: Any, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(raw).to_bytes(8, "little") + raw + data


def entry(dtype: Any = "F32", shape: Any = (1,), offsets: Any = (0, 4), **more: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets} | more


GOOD = packed({"w": entry()}, b"1234")

BAD_FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty file"),
    "shorter than a length": (b"1234", "truncated"),
    "truncated in the header": (GOOD[:20], "beyond the file"),
    "truncated in the data": (GOOD[:-1], "truncated"),
    "too long": (GOOD + b"x", "longer"),
    "git-lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4\n", "git-lfs"),
    "absurd length": (b"\xff" * 16, "absurd"),
    "not JSON": (packed(b"{nope}"), "not JSON"),
    "not UTF-8": (packed(b'{"\xff": 1}'), "not UTF-8"),
    "not an object": (packed([]), "object"),
    "empty header": (packed(b""), "object"),
    "NaN": (packed(b'{"w": NaN}'), "not JSON"),
    "deep": (packed(b'{"w":' * 5000), "not JSON"),
    "half a surrogate": (packed(b'{"\\ud800": 1}'), "surrogate"),
    "metadata": (packed({"__metadata__": {"a": 1}}), "__metadata__"),
    "duplicate key": (packed(b'{"w": 1, "w": 2}'), "duplicate key"),
}

BAD_TENSORS: dict[str, tuple[Any, str]] = {
    "not an object": (1, "not exactly"),
    "a key too many": (entry(more=1), "not exactly"),
    "overlap": (entry(offsets=(0, 4)), "overlap"),
    "gap": (entry(offsets=(5, 9)), "gap"),
    "out of range": (entry(offsets=(4, 8)), "truncated"),
    "backwards": (entry(offsets=(8, 4)), "data_offsets"),
    "three offsets": (entry(offsets=(4, 8, 9)), "data_offsets"),
    "huge offsets": (entry(offsets=(2**64, 2**64 + 4)), "data_offsets"),
    "shape against span": (entry(shape=(2,), offsets=(4, 8)), "needs 8 bytes"),
    "negative": (entry(shape=(-1,), offsets=(4, 8)), "shape"),
    "fraction": (entry(shape=(1.0,), offsets=(4, 8)), "shape"),
    "truth": (entry(shape=(True,), offsets=(4, 8)), "shape"),
    "overflow": (entry(shape=(2**40, 2**40), offsets=(4, 8)), "overflows"),
    "overflow beside zero": (entry(shape=(0, 2**62, 2**62), offsets=(4, 4)), "overflows"),
    "too many axes": (entry(shape=(1,) * 65, offsets=(4, 8)), "overflows"),
    "unknown dtype": (entry(dtype="F4", offsets=(4, 8)), "unknown dtype"),
    "dtype no text": (entry(dtype=["F32"], offsets=(4, 8)), "unknown dtype"),
}


def one_line(error: CheckpointError) -> None:
    assert "\n" not in str(error)


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        open_local(path)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


@pytest.mark.parametrize("case", BAD_FILES)
def test_damaged_files_are_refused_in_one_line(tmp_path: Path, case: str) -> None:
    data, why = BAD_FILES[case]
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    assert why in refused(path)


@pytest.mark.parametrize("case", BAD_TENSORS)
def test_impossible_tensors_are_refused_by_name(tmp_path: Path, case: str) -> None:
    value, why = BAD_TENSORS[case]
    path = tmp_path / "x.safetensors"
    path.write_bytes(packed({"first": entry(), "second\n": value}, b"1234"))
    message = refused(path)
    assert why in message
    assert r'"second\n"' in message or case == "out of range"


def test_every_dtype_reads_as_the_real_library_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    words = torch.arange(256, dtype=torch.int64).to(torch.uint8).repeat(8)
    bits = words[torch.randperm(2048, generator=torch.Generator().manual_seed(0))]
    tensors = {name: bits.clone().view(dtype) for name, dtype in TORCH.items() if name != "BOOL"} | {"BOOL": bits > 127}
    tensors |= {"0-d": torch.tensor(2.5), "empty": torch.zeros(0, 3), "matrix": torch.arange(6.0).reshape(2, 3)}
    save_file(tensors, path)
    checkpoint = open_local(path)
    assert TORCH.keys() == DTYPE_BYTES.keys()
    assert set(checkpoint.stored) == set(tensors)
    with Mapped(checkpoint) as files, np.errstate(invalid="ignore"):
        for name, expected in load_file(path).items():
            assert checkpoint.shapes()[name] == tuple(expected.shape)
            found = decode64(files.raw(name), checkpoint.dtype(name))
            np.testing.assert_array_equal(found, expected.to(torch.float64).numpy(), err_msg=name)


def test_a_fifo_a_directory_and_a_pickle(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.safetensors")
    assert "not a regular file" in refused(tmp_path / "fifo.safetensors")
    with pytest.raises(CheckpointError, match="not a regular file"):
        read_shard(tmp_path)
    torch.save({"w": torch.zeros(1)}, tmp_path / "model.bin")
    assert "pickle" in refused(tmp_path / "model.bin")


# ---------------------------------------------------------------------------------------------------- properties

TEMPLATE = save({"a": torch.arange(6.0).reshape(2, 3), "b": torch.zeros(2, dtype=torch.bfloat16), "c": torch.tensor(1)})
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 70),
    st.sampled_from([2**31, 2**62, 2**63, 2**64]),
    st.sampled_from(["F32", "BF16", "I64", "U8", "F4", ""]),
    st.lists(st.integers(-1, 30), max_size=3),
    st.just({}),
)
BOUNDED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def outcome(data: bytes) -> str:
    """Whether "refused", as a `CheckpointError`, or "read": by the real library too, with the same values."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.safetensors"
        path.write_bytes(data)
        try:
            checkpoint = open_local(path)
        except CheckpointError as error:
            one_line(error)
            return "refused"
        try:
            with safe_open(path, "pt") as real, Mapped(checkpoint) as files:
                assert set(real.keys()) == set(checkpoint.stored)
                for name in real.keys():  # noqa: SIM118
                    found = decode64(files.raw(name), checkpoint.dtype(name))
                    np.testing.assert_array_equal(found, real.get_tensor(name).to(torch.float64).numpy())
        except SafetensorError as error:
            raise AssertionError(f"ckdiff accepts what safetensors refuses: {data!r}") from error
        return "read"


def test_what_nobody_changed_is_read() -> None:
    assert outcome(TEMPLATE) == "read"


@BOUNDED
@given(st.lists(st.tuples(st.integers(0, len(TEMPLATE) - 1), st.integers(0, 255)), min_size=1, max_size=4), st.data())
def test_any_changed_bytes_are_refused_or_read_as_the_real_library_reads_them(
    edits: list[tuple[int, int]], data: st.DataObject
) -> None:
    mutated = bytearray(TEMPLATE)
    for position, value in edits:
        mutated[position] = value
    size = data.draw(st.sampled_from([len(mutated), len(mutated) // 2, len(mutated) - 1]))
    found = outcome(bytes(mutated[:size]))
    assert found in ({"read", "refused"} if size == len(mutated) else {"refused"})


@BOUNDED
@given(
    name=st.sampled_from(["a", "b", "c", "__metadata__"]),
    key=st.sampled_from(["dtype", "shape", "data_offsets", "more"]),
    value=JUNK,
    drop=st.booleans(),
)
def test_any_changed_header_is_refused_or_read_as_the_real_library_reads_it(
    name: str, key: str, value: Any, drop: bool
) -> None:
    length = int.from_bytes(TEMPLATE[:8], "little")
    header = json.loads(TEMPLATE[8 : 8 + length])
    header.setdefault(name, {})[key] = value
    if drop:
        header[name].pop(key)
    found = outcome(packed(header, TEMPLATE[8 + length :]))
    assert found in {"read", "refused"}
