"""Drift against float64 (and wider) NumPy worked out another way, in every float dtype, layout and kind of input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ckdiff.weights import sums
from ckdiff.weights.crew import Crew
from ckdiff.weights.drift import PART, begin_drift, drift
from ckdiff.weights.storage import decode64, table_8bit

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckdiff.shapes import AnyArray, Float64

DTYPES = ("BF16", "F16", "F32", "F64")
SHAPES = ((37, 64), (33, 71), (130, 5000), (5000, 48), (3, 20000), (70001,), (1,))


def stored(values: Float64, dtype: str) -> AnyArray:
    """Values as the words that a safetensors file would hold."""
    if dtype == "BF16":
        bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
        return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    if dtype == "F16":
        return values.astype(np.float16).view(np.uint16)
    return values.astype({"F32": np.float32, "F64": np.float64}[dtype])


def reference(a: Float64, b: Float64, axis: int | None) -> tuple[Float64, Float64, Float64, Float64]:
    """1-cos, relative L2 and both norms by design.md's formula, in extended precision, a row a neuron."""
    if axis is None:
        a, b = a.reshape(1, -1), b.reshape(1, -1)
    elif axis == 1:
        a, b = a.T, b.T
    x, y = a.astype(np.longdouble), b.astype(np.longdouble)
    d = y - x
    norm_a, norm_b = np.sqrt((x * x).sum(1)), np.sqrt((y * y).sum(1))
    one_minus_cosine = ((d * d).sum(1) - (norm_a - norm_b) ** 2) / (2 * norm_a * norm_b)
    return (
        one_minus_cosine.astype(np.float64),
        (np.sqrt((d * d).sum(1)) / norm_a).astype(np.float64),
        norm_a.astype(np.float64),
        norm_b.astype(np.float64),
    )


def changed(kind: str, a: Float64, dtype: str, rng: np.random.Generator) -> tuple[Float64, Float64]:
    if kind == "random":
        return a, rng.standard_normal(a.shape)
    if kind == "tiny":
        # 1-cos near 1e-10: in 16 bits only a few elements can move by so little, in wider dtypes all do.
        some = rng.random(a.shape) < (2e-4 if dtype in ("BF16", "F16") else 1.0)
        step = 1e-2 if dtype in ("BF16", "F16") else 1.5e-5
        return a, a * (1 + some * step * rng.standard_normal(a.shape))
    if kind == "scaled":
        return a, 1.1 * a
    top = 6e4 if dtype == "F16" else 3e38
    a = a / np.abs(a).max() * top
    return a, np.clip(a * (1 + 1e-2 * rng.standard_normal(a.shape)), -top, top)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", ["random", "tiny", "scaled", "huge"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_agrees_with_numpy(dtype: str, kind: str, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(len(shape) * 1000 + shape[0])
    first, second = changed(kind, rng.standard_normal(shape), dtype, rng)
    raw_a, raw_b = stored(first, dtype), stored(second, dtype)
    a, b = decode64(raw_a, dtype), decode64(raw_b, dtype)
    for axis in (None, 0, 1) if len(shape) == 2 else (None,):
        found = drift(raw_a, dtype, raw_b, dtype, axis)
        moments = found.moments if axis is None else found.neurons
        assert moments is not None
        one_minus_cosine, relative_l2, norm_a, norm_b = reference(a, b, axis)
        # Two float64 vectors that are exactly parallel but for rounding differ by less than any arithmetic resolves.
        resolved = one_minus_cosine > 1e-15
        np.testing.assert_allclose(moments.one_minus_cosine()[resolved], one_minus_cosine[resolved], rtol=1e-4)
        assert np.all(moments.one_minus_cosine()[~resolved] < 1.1e-15)
        np.testing.assert_allclose(moments.relative_l2(), relative_l2, rtol=1e-6)
        np.testing.assert_allclose(np.sqrt(moments.a2), norm_a, rtol=1e-6)
        np.testing.assert_allclose(np.sqrt(moments.b2), norm_b, rtol=1e-6)
        assert found.changed == np.count_nonzero(a != b)
        assert found.max_abs_diff == pytest.approx(np.abs(b - a).max(), rel=1e-6)
        if one_minus_cosine.size > 1:
            whole = reference(a, b, None)[0][0]
            assert found.moments.one_minus_cosine()[0] == pytest.approx(whole, rel=1e-4, abs=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
def test_zero_vectors(dtype: str) -> None:
    zero, one = stored(np.zeros((4, 6)), dtype), stored(np.ones((4, 6)), dtype)
    both = drift(zero, dtype, zero, dtype, 0)
    assert both.identical
    assert both.moments.one_minus_cosine()[0] == 0
    for a, b in ((zero, one), (one, zero)):
        found = drift(a, dtype, b, dtype, 0)
        assert np.isnan(found.moments.one_minus_cosine()[0])
        assert found.changed == 24
        assert found.max_abs_diff == 1
    assert np.isinf(drift(zero, dtype, one, dtype, None).moments.relative_l2()[0])
    assert drift(one, dtype, zero, dtype, None).moments.relative_l2()[0] == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_neuron_of_zeros_among_others(dtype: str) -> None:
    rng = np.random.default_rng(3)
    a = rng.standard_normal((8, 64))
    b = a + 1e-2 * rng.standard_normal(a.shape)
    a[2] = b[2] = 0
    b[5] = 0
    found = drift(stored(a, dtype), dtype, stored(b, dtype), dtype, 0).neurons
    assert found is not None
    assert found.one_minus_cosine()[2] == 0
    assert np.isnan(found.one_minus_cosine()[5])
    assert 0 < found.one_minus_cosine()[0] < 1e-3


@pytest.mark.parametrize("wide", ["F32", "F64"])
@pytest.mark.parametrize("narrow", ["BF16", "F16"])
def test_the_same_values_in_a_wider_dtype_have_not_drifted(narrow: str, wide: str) -> None:
    raw = stored(np.random.default_rng(1).standard_normal((9, 77)), narrow)
    found = drift(raw, narrow, stored(decode64(raw, narrow), wide), wide, 0)
    assert found.identical
    assert found.changed == 0
    assert found.moments.one_minus_cosine()[0] == 0
    assert found.max_abs_diff == 0


def test_the_same_words_in_another_dtype_are_other_values() -> None:
    words = stored(np.random.default_rng(12).standard_normal((3, 80)), "F16")
    found = drift(words, "F16", words, "BF16", 0)
    assert not found.identical
    assert found.changed == np.count_nonzero(decode64(words, "F16") != decode64(words, "BF16")) > 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_non_finite_values_are_counted_and_never_scored(dtype: str) -> None:
    a = np.random.default_rng(2).standard_normal((5, 40))
    b = a.copy()
    b[1, 3], b[2, 7], a[4, 4], b[4, 4] = np.nan, np.inf, np.nan, np.nan
    found = drift(stored(a, dtype), dtype, stored(b, dtype), dtype, 0)
    assert (found.nonfinite_base, found.nonfinite_unlearned, found.changed) == (1, 3, 2)
    assert np.isnan(found.moments.one_minus_cosine()[0])
    assert found.neurons is None
    same = drift(stored(b, dtype), dtype, stored(b, dtype), dtype, 0)
    assert same.identical
    assert (same.nonfinite_base, same.nonfinite_unlearned) == (3, 3)


@pytest.mark.parametrize("scale", [1e-20, 1e-30, 1e-37])
def test_tiny_values_do_not_vanish(scale: float) -> None:
    rng = np.random.default_rng(4)
    a = rng.standard_normal((6, 512)) * scale
    raw_a, raw_b = stored(a, "BF16"), stored(a + 0.1 * scale * rng.standard_normal(a.shape), "BF16")
    found = drift(raw_a, "BF16", raw_b, "BF16", None).moments
    expected = reference(decode64(raw_a, "BF16"), decode64(raw_b, "BF16"), None)
    assert found.one_minus_cosine()[0] == pytest.approx(expected[0][0], rel=1e-4)
    assert found.relative_l2()[0] == pytest.approx(expected[1][0], rel=1e-6)


def test_a_change_that_float32_squares_to_nothing_is_a_change() -> None:
    a = np.ones((2, 64))
    b = a.copy()
    a[0, 0], b[0, 0] = 1e-25, 3e-25
    raw_a, raw_b = stored(a, "BF16"), stored(b, "BF16")
    expected = np.abs(decode64(raw_b, "BF16") - decode64(raw_a, "BF16")).max() / np.sqrt(127)
    found = drift(raw_a, "BF16", raw_b, "BF16", None)
    assert found.changed == 1
    assert found.moments.relative_l2()[0] == pytest.approx(expected, rel=1e-6, abs=0)


def test_a_tiny_neuron_among_others_keeps_its_digits() -> None:
    rng = np.random.default_rng(11)
    a = rng.standard_normal((4, 512))
    b = a + 0.1 * rng.standard_normal(a.shape)
    raw_a, raw_b = (stored(np.vstack([x[:3], 1e-20 * x[3:]]), "BF16") for x in (a, b))
    found = drift(raw_a, "BF16", raw_b, "BF16", 0).neurons
    assert found is not None
    _, relative_l2, norm_a, _ = reference(decode64(raw_a, "BF16"), decode64(raw_b, "BF16"), 0)
    np.testing.assert_allclose(found.relative_l2(), relative_l2, rtol=1e-6)
    np.testing.assert_allclose(np.sqrt(found.a2), norm_a, rtol=1e-6)


def test_a_shorter_vector_keeps_its_norm() -> None:
    """|b|^2 from |a|^2, <a, d> and |d|^2 loses what |a|^2 is larger by."""
    rng = np.random.default_rng(10)
    a, b = rng.standard_normal((64, 4096)), 0.11 * rng.standard_normal((64, 4096))
    raw_a, raw_b = stored(a, "BF16"), stored(b, "BF16")
    found = drift(raw_a, "BF16", raw_b, "BF16", 0).neurons
    assert found is not None
    np.testing.assert_allclose(found.b2, np.square(decode64(raw_b, "BF16")).sum(1), rtol=1e-12)


def test_strided_views_give_what_copies_give() -> None:
    """Fused tensors are compared as views: columns, interleaved heads, every second column."""
    rng = np.random.default_rng(5)
    a = stored(rng.standard_normal((12, 90)), "BF16")
    b = stored(rng.standard_normal((12, 90)), "BF16")
    cuts: tuple[Callable[[AnyArray], AnyArray], ...] = (
        lambda x: x[:, 30:60],
        lambda x: x[:, ::2],
        lambda x: x.reshape(2, 3, 2, 90)[:, 1],
        lambda x: x.T,
        lambda x: x[3:7],
    )
    for cut in cuts:
        view_a, view_b = cut(a), cut(b)
        axes = (None, 0, 1) if view_a.ndim == 2 else (None,)
        for axis in axes:
            one = drift(view_a, "BF16", view_b, "BF16", axis)
            two = drift(view_a.copy(), "BF16", view_b.copy(), "BF16", axis)
            assert one.moments.one_minus_cosine()[0] == pytest.approx(two.moments.one_minus_cosine()[0], rel=1e-6)
            assert one.changed == two.changed
            if axis is None:
                assert one.neurons is None
            else:
                assert one.neurons is not None
                assert two.neurons is not None
                np.testing.assert_allclose(one.neurons.relative_l2(), two.neurons.relative_l2(), rtol=1e-6)


def test_empty_and_zero_dimensional() -> None:
    empty = drift(np.empty((0, 4), np.uint16), "BF16", np.empty((0, 4), np.uint16), "BF16", 0)
    assert empty.identical
    assert empty.moments.one_minus_cosine()[0] == 0
    scalar = drift(np.array(2.0, np.float32), "F32", np.array(3.0, np.float32), "F32", None)
    assert scalar.max_abs_diff == 1
    assert scalar.moments.one_minus_cosine()[0] == 0


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2"])
def test_8bit_tables_are_torchs(dtype: str) -> None:
    torch = pytest.importorskip("torch")
    codes = torch.arange(256, dtype=torch.uint8)
    kind = torch.float8_e4m3fn if dtype == "F8_E4M3" else torch.float8_e5m2
    np.testing.assert_array_equal(table_8bit(dtype), codes.view(kind).to(torch.float32).numpy())


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "I8", "I64", "U8", "BOOL"])
def test_other_dtypes(dtype: str) -> None:
    rng = np.random.default_rng(6)
    kind = {"I8": np.int8, "I64": np.int64}.get(dtype, np.uint8)
    high = 2 if dtype == "BOOL" else 100
    a, b = rng.integers(0, high, (20, 30)).astype(kind), rng.integers(0, high, (20, 30)).astype(kind)
    found = drift(a, dtype, b, dtype, None)
    one_minus_cosine, relative_l2, _, _ = reference(decode64(a, dtype), decode64(b, dtype), None)
    assert found.moments.one_minus_cosine()[0] == pytest.approx(one_minus_cosine[0], rel=1e-4)
    assert found.moments.relative_l2()[0] == pytest.approx(relative_l2[0], rel=1e-6)
    assert found.changed == np.count_nonzero(decode64(a, dtype) != decode64(b, dtype))


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_parts_make_the_same_whole_by_any_number_of_threads(dtype: str) -> None:
    """Two parts, with a neuron of zeros and one that is only scaled, so that one of them is done again."""
    rng = np.random.default_rng(7)
    first = rng.standard_normal((520, PART // 500))
    second = first + 1e-2 * rng.standard_normal(first.shape)
    first[3], second[100] = 0, 1.5 * first[100]
    raw_a, raw_b = stored(first, dtype), stored(second, dtype)
    a, b = decode64(raw_a, dtype), decode64(raw_b, dtype)
    for axis in (None, 0, 1):
        alone = drift(raw_a, dtype, raw_b, dtype, axis)
        for threads in (2, 3):
            with Crew(threads) as crew:
                assert repr(begin_drift(raw_a, dtype, raw_b, dtype, axis, crew)()) == repr(alone)
        moments = alone.moments if axis is None else alone.neurons
        assert moments is not None
        for found, values in ((moments.a2, a), (moments.b2, b), (moments.d2(), b - a)):
            expected = np.square(values).sum(None if axis is None else 1 - axis)
            np.testing.assert_allclose(found, expected.reshape(-1), rtol=1e-6)
        assert alone.changed == np.count_nonzero(a != b)


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
def test_digits_are_those_of_the_blocks_in_which_older_reports_were_summed(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(8)
    first = rng.standard_normal((300, 4096))
    a, b = (stored(values, dtype) for values in (first, first + 1e-2 * rng.standard_normal(first.shape)))
    found = [repr(drift(a, dtype, b, dtype, axis)) for axis in (None, 0, 1)]
    monkeypatch.setattr(sums, "BLOCK", 1 << 20)
    monkeypatch.setattr(sums, "_COLUMN_PARTS", 1)
    assert [repr(drift(a, dtype, b, dtype, axis)) for axis in (None, 0, 1)] == found


def test_heads_that_lie_far_apart_are_cut_inside_the_first_axis() -> None:
    words = np.random.default_rng(9).integers(0x3F00, 0x3F80, (2, 2, PART // 64 + 8, 64)).astype(np.uint16)
    a, b = words[:, 1], words[::-1, 0]
    found, copied = (drift(x, "BF16", y, "BF16", None) for x, y in ((a, b), (a.copy(), b.copy())))
    assert found.changed == copied.changed == np.count_nonzero(a != b)
    assert found.moments.relative_l2()[0] == pytest.approx(copied.moments.relative_l2()[0], rel=1e-6)
    assert found.moments.one_minus_cosine()[0] == pytest.approx(copied.moments.one_minus_cosine()[0], rel=1e-6)


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("dtype", DTYPES)
def test_where_nothing_moved_the_norm_is_that_of_what_moved(dtype: str, axis: int | None) -> None:
    """Blocks of equal words are not subtracted, and no digit shows it."""
    a = np.random.default_rng(8).standard_normal((40, 96))
    b = a.copy()
    b[-1, -1] += 1
    same = drift(stored(a, dtype), dtype, stored(a, dtype), dtype, axis)
    moved = drift(stored(a, dtype), dtype, stored(b, dtype), dtype, axis)
    assert same.identical
    assert (same.changed, same.max_abs_diff, moved.changed) == (0, 0, 1)
    np.testing.assert_array_equal(same.moments.a2, moved.moments.a2)
    np.testing.assert_array_equal(same.moments.b2, same.moments.a2)
    assert not same.moments.g.any()
    assert not same.moments.r.any()


class Counted:
    """Files that count the elements that are asked for and given back."""

    def __init__(self) -> None:
        self.needed = self.given_back = 0

    def need(self, array: AnyArray) -> None:
        self.needed += array.size

    def give_back(self, array: AnyArray) -> None:
        self.given_back += array.size


@pytest.mark.parametrize("axis", [None, 1])
def test_every_word_is_read_ahead_and_given_back(axis: int | None) -> None:
    words = np.zeros((PART // 1000, 1001), np.uint16)
    files = Counted(), Counted()
    begin_drift(words, "BF16", words, "BF16", axis, Crew(), files)()
    assert {side.needed for side in files} == {side.given_back for side in files} == {words.size}
