"""Losses from hidden states against the plain formulas on full logits in float64."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from ckdiff.probes.live.unembedding import Unembedding
from ckdiff.probes.losses import Scorer
from ckdiff.probes.sweep import SIDES
from tests.reference import plain_losses

if TYPE_CHECKING:
    from torch import Tensor

    from ckdiff.report.schema.report import Side

    Heads = dict[Side, Unembedding]

D_MODEL = 24
LOSSES = ("mse", "mse_centred", "kl", "top1", "js")


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def head(seed: int, d_vocab: int, bias: bool = False, scale: float = 1.0, cap: float | None = None) -> Unembedding:
    made = generator(seed)
    weight = torch.randn(d_vocab, D_MODEL, generator=made, dtype=torch.float64) / 3
    return Unembedding(weight, torch.randn(d_vocab, generator=made, dtype=torch.float64) if bias else None, scale, cap)


def near(one: Unembedding, size: float, seed: int = 7) -> Unembedding:
    """The same unembedding with a little noise."""
    made = generator(seed)
    weight = one.weight + size * torch.randn(one.weight.shape, generator=made, dtype=torch.float64)
    bias = None
    if one.bias is not None:
        bias = one.bias + size * torch.randn(one.bias.shape, generator=made, dtype=torch.float64)
    return Unembedding(weight, bias, one.scale, one.cap)


def single(one: Unembedding) -> Unembedding:
    return Unembedding(one.weight.float(), None if one.bias is None else one.bias.float(), one.scale, one.cap)


def logits(one: Unembedding, hidden: Tensor) -> Tensor:
    found = one.scale * (hidden.double() @ one.weight.double().T + (0 if one.bias is None else one.bias.double()))
    return found if one.cap is None else one.cap * torch.tanh(found / one.cap)


def states(count: int, seed: int, size: float = 1.0) -> Tensor:
    return size * torch.randn(count, D_MODEL, generator=generator(seed), dtype=torch.float64)


def assert_plain(found: list[Any], heads: Heads, side: Side, base: Tensor, runs: list[Tensor], rtol: float) -> None:
    assert len(found) == len(runs)
    for losses, run in zip(found, runs, strict=True):
        expected = plain_losses(logits(heads[side], run), logits(heads["base"], base))
        for name, value in zip(LOSSES, expected, strict=True):
            own = getattr(losses, name)
            assert own.dtype == torch.float64
            torch.testing.assert_close(own, value, rtol=rtol, atol=1e-18, msg=name)


HEADS: dict[str, dict[str, Any]] = {
    "plain": {},
    "bias": {"bias": True},
    "scale": {"scale": 0.25},
    "bias and scale": {"bias": True, "scale": 3.0},
    "cap": {"cap": 2.0},
    "bias, scale and cap": {"bias": True, "scale": 0.5, "cap": 5.0},
}


@pytest.mark.parametrize("gram", [True, False])
@pytest.mark.parametrize("d_vocab", [50, 9000])
@pytest.mark.parametrize("kind", HEADS)
def test_both_ways_give_the_plain_formulas(kind: str, d_vocab: int, gram: bool) -> None:
    """Small vocabularies and several blocks of a large one; one unembedding and two; one run and many."""
    settings = HEADS[kind]
    base_head = head(0, d_vocab, **settings)
    base = states(7, 1)
    runs = [base + states(7, 10 + number, 0.3) for number in range(5)]
    for other in (base_head, near(base_head, 0.02)):
        heads: Heads = {"base": base_head, "unlearned": other}
        scorer = Scorer(base, heads, 1000 if gram else 1)
        assert scorer.gram == (gram and base_head.cap is None)
        for side in SIDES:
            assert_plain(scorer.losses(side, runs), heads, side, base, runs, 1e-9)
            assert_plain(scorer.losses(side, runs[:1]), heads, side, base, runs[:1], 1e-9)


@pytest.mark.parametrize("kind", HEADS)
def test_without_kl(kind: str) -> None:
    settings = HEADS[kind]
    one = head(0, 5000, **settings)
    heads: Heads = {"base": one, "unlearned": near(one, 0.02)}
    base, run = states(3, 1), states(3, 2)
    (found,) = Scorer(base, heads, 1, kl=False).losses("unlearned", [run])
    expected = plain_losses(logits(heads["unlearned"], run), logits(one, base))
    torch.testing.assert_close(found.mse, expected[0], rtol=1e-9, atol=0)
    torch.testing.assert_close(found.mse_centred, expected[1], rtol=1e-9, atol=0)
    assert all(torch.isnan(values).all() for values in (found.kl, found.top1, found.js))


@pytest.mark.rounding
@pytest.mark.parametrize("kl", [True, False])
@pytest.mark.parametrize("count", [1, 1000])
@pytest.mark.parametrize("among", [0, 3])
def test_the_base_itself_has_no_loss(kl: bool, count: int, among: int) -> None:
    """Alone and among other runs, whose products have another shape and round otherwise."""
    for settings in HEADS.values():
        one = head(0, 5000, **settings)
        base = states(4, 1)
        runs = [base.clone(), *(states(4, seed, 0.3) for seed in range(among))]
        found = Scorer(base, {"base": one, "unlearned": one}, count, kl=kl).losses("base", runs)[0]
        assert not found.mse.any()
        assert not found.mse_centred.any()
        if kl:
            assert not found.kl.any()
            assert not found.js.any()
            assert (found.top1 == 1).all()


def test_no_runs() -> None:
    one = head(0, 50)
    assert Scorer(states(4, 1), {"base": one, "unlearned": one}, 1).losses("base", []) == []


# ------------------------------------------------------------------------------------------------- small and large KL


@pytest.mark.parametrize("size", [1e-5, 1e-4, 1e-2, 1.0, 10.0])
@pytest.mark.parametrize("kind", ["plain", "bias, scale and cap"])
def test_divergences_of_every_size(kind: str, size: float) -> None:
    settings = HEADS[kind]
    one = head(0, 5000, **settings)
    base = states(6, 1)
    runs = [base + states(6, 10 + number, size) for number in range(3)]
    heads: Heads = {"base": one, "unlearned": one}
    found = Scorer(base, heads, 3).losses("base", runs)
    if size == 1e-5 and kind == "plain":
        # Of this size the plain formula has only its first six digits left.
        assert 1e-11 < float(torch.stack([run.kl for run in found]).mean()) < 1e-9
    # The plain formula loses two digits with each of size; its last ones hang on the processor.
    assert_plain(found, heads, "base", base, runs, {1e-5: 1e-4, 1e-4: 1e-5}.get(size, 1e-6))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_where_exp_overflows(dtype: torch.dtype) -> None:
    """Steep rows beside plain ones: a token that the base finds all but impossible is the run's favourite."""
    one = head(0, 5000) if dtype == torch.float64 else single(head(0, 5000))
    base = states(5, 1).to(dtype)
    run = base + states(5, 2, 0.1).to(dtype)
    run[1], run[3] = 60 * states(1, 3)[0].to(dtype), 400 * states(1, 4)[0].to(dtype)
    heads: Heads = {"base": one, "unlearned": one}
    steepest = (logits(one, run) - logits(one, base)).amax(-1)
    assert (steepest[[1, 3]] > 88.8).all()
    assert (steepest[[0, 2, 4]] < 80).all()
    (found,) = Scorer(base, heads, 1).losses("base", [run])
    expected = plain_losses(logits(one, run), logits(one, base))
    assert torch.isfinite(found.kl).all()
    torch.testing.assert_close(found.kl, expected[2], rtol=1e-4 if dtype == torch.float32 else 1e-9, atol=0)
    torch.testing.assert_close(found.js, expected[4], rtol=1e-4 if dtype == torch.float32 else 1e-9, atol=0)
    assert (found.js <= math.log(2)).all()
    torch.testing.assert_close(found.mse, expected[0], rtol=1e-4 if dtype == torch.float32 else 1e-9, atol=0)


# ----------------------------------------------------------------------------------------------------------- float32


@pytest.mark.parametrize("shift", [0.0, 1.0])
@pytest.mark.parametrize("count", [1, 1000])
@pytest.mark.parametrize("kind", ["plain", "bias", "scale"])
def test_float32_keeps_a_small_divergence(kind: str, count: int, shift: float) -> None:
    """KL near 1e-4, alone and under a uniform shift of all logits whose square is a thousand times the rest."""
    settings = HEADS[kind]
    plain = head(0, 5000, **settings)
    # A direction of the hidden state that moves every logit alike.
    weight = plain.weight.clone()
    weight[:, 0] = 1.0
    one = single(Unembedding(weight, plain.bias, plain.scale, None))
    heads: Heads = {"base": one, "unlearned": single(near(one, 1e-4))}
    base = states(8, 1).float()
    size = 0.012 / plain.scale
    runs = [base + states(8, 10 + number, size).float() for number in range(6)]
    for run in runs:
        run[:, 0] += shift
    found = Scorer(base, heads, count).losses("unlearned", runs)
    expected = [plain_losses(logits(heads["unlearned"], run), logits(one, base)) for run in runs]
    for losses, values in zip(found, expected, strict=True):
        assert 1e-5 < float(values[2].mean()) < 1e-3
        for name, value in zip(LOSSES, values, strict=True):
            torch.testing.assert_close(getattr(losses, name), value, rtol=1e-3, atol=0, msg=name)
    # Scores of the runs, with the first of them in the place of the unlearned model.
    for place, name in enumerate(LOSSES[:3]):
        ours = np.array([float(getattr(losses, name).mean()) for losses in found])
        plains = np.array([float(values[place].mean()) for values in expected])
        np.testing.assert_allclose(1 - ours[1:] / ours[0], 1 - plains[1:] / plains[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["cap", "bias, scale and cap"])
def test_float32_keeps_small_changes_behind_a_cap(kind: str) -> None:
    """Changes of the logits that are as small as the last digits of the logits."""
    one = single(head(0, 5000, **HEADS[kind]))
    base = states(8, 1).float()
    runs = [base + states(8, 10 + number, 5e-7).float() for number in range(3)]
    for run, losses in zip(runs, Scorer(base, {"base": one, "unlearned": one}, 1).losses("base", runs), strict=True):
        expected = plain_losses(logits(one, run), logits(one, base))
        torch.testing.assert_close(losses.mse, expected[0], rtol=1e-3, atol=0)
        torch.testing.assert_close(losses.mse_centred, expected[1], rtol=1e-3, atol=0)


# ------------------------------------------------------------------------------------------------------- other answers


@pytest.mark.parametrize("kind", HEADS)
def test_the_largest_change_of_a_logit(kind: str) -> None:
    settings = HEADS[kind]
    one = head(0, 5000, **settings)
    a, b = states(5, 1), states(5, 2)
    scorer = Scorer(states(5, 3), {"base": head(9, 5000, **settings), "unlearned": one}, 1)
    expected = float((logits(one, a) - logits(one, b)).abs().max())
    assert scorer.largest_change("unlearned", a, b) == pytest.approx(expected, rel=1e-9)
    assert scorer.largest_change("unlearned", a, a.clone()) == 0


def test_the_size_of_logits() -> None:
    one = head(0, 5000, bias=True, scale=2.0, cap=3.0)
    base = states(5, 1)
    expected = float(logits(one, base).square().mean().sqrt())
    assert Scorer(base, {"base": one, "unlearned": one}, 1).logit_size() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kind", HEADS)
def test_the_probability_of_a_token(kind: str) -> None:
    """In the first and the last block of the vocabulary, and beside their ends."""
    one = head(0, 9000, **HEADS[kind])
    hidden, tokens = states(5, 1), torch.tensor([0, 4095, 4096, 8192, 8999])
    found = Scorer(states(5, 3), {"base": one, "unlearned": near(one, 0.02)}, 1).log_p("base", hidden, tokens)
    expected = torch.log_softmax(logits(one, hidden), -1).gather(1, tokens[:, None])[:, 0]
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)
