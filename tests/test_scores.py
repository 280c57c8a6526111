from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ckdiff.scoring import scores
from ckdiff.scoring.scores import QuestionLosses, curve, loss_summary, mean_of_ratios, probe_run
from ckdiff.scoring.student import t_quantile

if TYPE_CHECKING:
    from ckdiff.report.schema.probe import Curve
    from ckdiff.shapes import Float64

NAN = math.nan


def arrays(found: Curve) -> list[Float64]:
    return [found.score, found.low, found.high, found.band_low, found.band_high]


def sample(layers: int = 6, questions: int = 10, seed: int = 0) -> tuple[Float64, Float64]:
    """Losses of runs that bring back some of what was lost, less and less by layer; and the unlearned model's."""
    generator = np.random.default_rng(seed)
    unlearned = np.exp(0.7 * generator.normal(size=questions))
    kept = generator.beta(2, 2, size=(layers, questions)) * np.linspace(0.5, 1.1, layers)[:, None]
    return kept * unlearned, unlearned


# ------------------------------------------------------------------------------------------------------------ scores


def test_scores_by_hand() -> None:
    losses = np.array([[1.0, 1.0], [0.0, 0.0], [2.0, 6.0], [4.0, 8.0]])
    unlearned = np.array([2.0, 6.0])
    assert curve(losses, unlearned, "restore").score.tolist() == [0.75, 1.0, 0.0, -0.5]
    assert curve(losses, unlearned, "break").score.tolist() == [0.25, 0.0, 1.0, 1.5]
    assert mean_of_ratios(losses, unlearned, "restore") == pytest.approx([1 - (1 / 2 + 1 / 6) / 2, 1, 0, 1 - 5 / 3])
    assert mean_of_ratios(losses, unlearned, "break") == pytest.approx([(1 / 2 + 1 / 6) / 2, 0, 1, 5 / 3])


def test_mean_of_ratios_leaves_out_questions_without_a_loss() -> None:
    losses = np.array([[1.0, 5.0, 1.0], [1.0, 0.0, NAN]])
    found = mean_of_ratios(losses, np.array([2.0, 0.0, 4.0]), "break")
    assert found[0] == pytest.approx((1 / 2 + 1 / 4) / 2)
    assert np.isnan(found[1])
    assert np.isnan(mean_of_ratios(losses, np.zeros(3), "restore")).all()


def test_loss_summary() -> None:
    found = loss_summary(np.array([1.0, 3.0]), np.array([0.5, 0.5]), np.array([0.1, 0.3]), np.array([1.0, 0.5]))
    assert (found.mse, found.mse_centred, found.kl, found.top1) == pytest.approx((2.0, 0.5, 0.2, 0.75))
    assert found.shift_share == pytest.approx(0.75)
    assert math.isnan(loss_summary(np.zeros(2), np.zeros(2), np.zeros(2), np.ones(2)).shift_share)


def test_probe_run_puts_each_loss_under_its_score() -> None:
    losses, unlearned = sample(3)
    nothing = np.full_like(losses, NAN)
    centres = np.arange(3)
    run = probe_run(
        direction="restore",
        mode="coeff",
        variant="open",
        window=3,
        layers=centres,
        first=np.maximum(centres - 1, 0),
        last=np.minimum(centres + 1, 2),
        losses=QuestionLosses(losses, losses / 2, nothing, np.full_like(losses, 0.5)),
        unlearned=QuestionLosses(unlearned, unlearned, nothing[0], np.ones_like(unlearned)),
        draws=200,
    )
    expected = curve(losses, unlearned, "restore", draws=200)
    assert all(np.array_equal(a, b) for a, b in zip(arrays(run.krs), arrays(expected), strict=True))
    assert run.krs_centred.score == pytest.approx((1 + expected.score) / 2)
    assert all(np.isnan(part).all() for part in arrays(run.krs_kl))
    assert run.krs_mean_of_ratios == pytest.approx(mean_of_ratios(losses, unlearned, "restore"))
    assert run.top1.tolist() == [0.5] * 3
    assert (run.direction, run.mode, run.variant, run.window) == ("restore", "coeff", "open", 3)
    assert np.array_equal(run.loss_mse, losses)
    with pytest.raises(ValueError, match="2 centres"):
        probe_run(
            direction="restore",
            mode="coeff",
            variant="open",
            window=3,
            layers=centres[:2],
            first=centres,
            last=centres,
            losses=QuestionLosses(losses, losses, losses, losses),
            unlearned=QuestionLosses(unlearned, unlearned, unlearned, unlearned),
        )


# --------------------------------------------------------------------------------------------------------- intervals


def plain_interval(loss: Float64, unlearned: Float64, draws: int) -> tuple[float, float]:
    """The interval of one ratio, by loops over resamples and over questions left out."""
    count = len(loss)
    ratio = loss.mean() / unlearned.mean()
    others = [np.delete(loss, i).mean() / np.delete(unlearned, i).mean() for i in range(count)]
    error = math.sqrt((count - 1) ** 2 / count * np.var(others, ddof=1))
    generator, studentised = np.random.default_rng(0), []
    for _ in range(draws):
        drawn = generator.integers(0, count, size=count)
        resampled = loss[drawn].mean() / unlearned[drawn].mean()
        residuals = loss[drawn] - resampled * unlearned[drawn]
        own = math.sqrt((residuals**2).sum() / (count * (count - 1))) / unlearned[drawn].mean()
        studentised.append((resampled - ratio) / own)
    student, tail = t_quantile(0.975, count - 1), 0.0125 if count < 8 else 0.025 - 0.1 / count
    over, under = np.clip(np.quantile(studentised, 1 - tail), student, 4 * student), np.quantile(studentised, tail)
    return ratio - error * over, ratio + error * np.clip(-under, student, 4 * student)


@pytest.mark.parametrize("questions", [7, 12])
def test_intervals_are_those_of_a_plain_loop(questions: int) -> None:
    losses, unlearned = sample(3, questions)
    found = curve(losses, unlearned, "break", draws=400)
    for index, loss in enumerate(losses):
        low, high = plain_interval(loss, unlearned, 400)
        assert found.low[index] == pytest.approx(max(low, 0.0), rel=1e-9)
        assert found.high[index] == pytest.approx(high, rel=1e-9)


def test_band_is_the_interval_where_there_is_one_centre_and_wider_where_there_are_more() -> None:
    losses, unlearned = sample(8, 12)
    alone, together = curve(losses[:1], unlearned, "restore"), curve(losses, unlearned, "restore")
    assert (alone.band_low, alone.band_high) == (alone.low, alone.high)
    assert (together.band_low < together.low).all()
    assert (together.band_high >= together.high).all()
    assert (together.band_high[1:] > together.high[1:]).any()
    assert (together.low <= together.score).all()
    assert (together.score <= together.high).all()


@pytest.mark.parametrize("questions", [2, 3, 5, 40])
@pytest.mark.parametrize("seed", range(5))
def test_interval_in_band_for_any_number_of_questions(questions: int, seed: int) -> None:
    found = curve(*sample(4, questions, seed), "restore", draws=500)
    assert (found.band_low <= found.low).all()
    assert (found.low <= found.score).all()
    assert (found.score <= found.high).all()
    assert (found.high <= found.band_high).all()
    assert (found.band_high <= 1).all()


def test_resamples_without_spread_reach_as_far_as_an_interval_may_on_both_sides() -> None:
    """Of three questions one resample in nine is of one alone: its error over none is infinite, above or below."""
    found = curve(np.array([[10.0, 11.0, 15.0]]), np.ones(3), "break")
    reach = 4 * 4.302652729749464 * math.sqrt(7 / 3)  # t of two degrees; the variance of these is 7
    assert found.high[0] == pytest.approx(12 + reach)
    assert found.low[0] == 0
    near = curve(np.array([[100.0, 101.0, 105.0]]), np.ones(3), "break")
    assert (near.low[0], near.high[0]) == pytest.approx((102 - reach, 102 + reach))
    assert (near.band_low[0], near.band_high[0]) == pytest.approx((102 - 2 * reach, 102 + 2 * reach))


def test_a_ratio_that_rounding_puts_below_nothing_stays_in_its_interval() -> None:
    found = curve(np.array([[-1e-9, -2e-9, -1e-9, -3e-9]]), np.array([1.0, 2.0, 1.5, 1.2]), "break", draws=200)
    assert found.score[0] < 0
    assert found.band_low[0] <= found.low[0] <= found.score[0]


def test_breaking_is_restoring_turned_round() -> None:
    losses, unlearned = sample()
    restored, broken = curve(losses, unlearned, "restore"), curve(losses, unlearned, "break")
    assert np.array_equal(restored.low, 1 - broken.high)
    assert np.array_equal(restored.high, 1 - broken.low)
    assert np.array_equal(restored.band_low, 1 - broken.band_high)
    assert np.array_equal(restored.band_high, 1 - broken.band_low)
    assert (broken.low >= 0).all()


def test_other_layers_change_no_score_and_no_interval() -> None:
    losses, unlearned = sample(9)
    alone, among = curve(losses[4:5], unlearned, "restore"), curve(losses, unlearned, "restore")
    backwards = curve(losses[::-1], unlearned, "restore")
    fortran = curve(np.asfortranarray(losses), unlearned, "restore")
    for many, turned, other in zip(*map(arrays, (among, backwards, fortran)), strict=True):
        assert np.array_equal(many, turned[::-1])
        assert np.array_equal(many, other)
    assert (alone.score[0], alone.low[0], alone.high[0]) == (among.score[4], among.low[4], among.high[4])


def test_rows_that_are_alike_in_part_keep_their_own_ends() -> None:
    losses = np.array([[1.0, 2.0, 3.0, 4.0], [4.0, 1.0, 2.0, 3.0], [2.0, 3.0, 3.0, 2.0], [1.0, 2.0, 3.0, 4.0]])
    unlearned = np.array([3.0, 4.0, 5.0, 6.0])
    found = curve(losses, unlearned, "restore")
    assert len(set(found.score)) == 1
    for number, row in enumerate(losses):
        alone = curve(row[None], unlearned, "restore")
        assert (found.low[number], found.high[number]) == (alone.low[0], alone.high[0])
    assert len(set(found.low)) == 3


def test_the_same_inputs_give_the_same_numbers_whatever_the_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    losses, unlearned = sample()
    first = curve(losses, unlearned, "restore")
    monkeypatch.setattr(scores, "CHUNK", 777)
    again = curve(losses, unlearned, "restore")
    assert all(np.array_equal(a, b) for a, b in zip(arrays(first), arrays(again), strict=True))
    assert not np.array_equal(first.low, curve(losses, unlearned, "restore", seed=1).low)


@pytest.mark.parametrize("factor", [0.5, 1e-150, 3e120])
def test_scale_of_the_losses_does_not_matter(factor: float) -> None:
    losses, unlearned = sample()
    one, other = curve(losses, unlearned, "restore"), curve(losses * factor, unlearned * factor, "restore")
    for a, b in zip(arrays(one), arrays(other), strict=True):
        assert a == pytest.approx(b, rel=1e-9)


def test_more_of_the_same_questions_narrow_the_interval() -> None:
    losses, unlearned = sample()
    once, often = curve(losses, unlearned, "restore"), curve(np.tile(losses, 4), np.tile(unlearned, 4), "restore")
    assert often.score == pytest.approx(once.score)
    assert (often.high - often.low < 0.7 * (once.high - once.low)).all()


# ----------------------------------------------------------------------------------------------------- where it ends


def test_a_score_that_no_question_moves_is_its_own_interval() -> None:
    losses, unlearned = sample(2)
    rows = np.stack([np.zeros_like(unlearned), unlearned, 0.3 * unlearned, losses[1]])
    found = curve(rows, unlearned, "restore")
    for part in arrays(found):
        assert np.array_equal(part[:3], found.score[:3])
    alone = curve(losses[1:], unlearned, "restore")
    assert (found.band_low[3], found.band_high[3]) == (alone.band_low[0], alone.band_high[0])


def test_one_question_has_a_score_and_no_interval() -> None:
    found = curve(np.array([[1.0], [0.0]]), np.array([4.0]), "restore")
    assert found.score.tolist() == [0.75, 1.0]
    assert all(np.isnan(part).all() for part in arrays(found)[1:])


def test_one_question_with_all_the_loss_counts_as_one() -> None:
    found = curve(np.array([[1.0, 0.0, 0.5]]), np.array([4.0, 0.0, 0.0]), "restore")
    assert found.score.tolist() == [0.625]
    assert all(np.isnan(part).all() for part in arrays(found)[1:])


def test_resamples_without_any_loss_are_survived() -> None:
    found = curve(np.array([[1.0, 0.2, 0.0, 0.5]]), np.array([4.0, 3.0, 0.0, 0.0]), "restore")
    assert np.isfinite(arrays(found)).all()


def test_nothing_to_recover_is_no_score() -> None:
    losses, _ = sample(2, 3)
    for unlearned in (np.zeros(3), np.array([1.0, NAN, 1.0]), np.array([1.0, math.inf, 1.0]), np.full(3, -1e-12)):
        assert all(np.isnan(part).all() for part in arrays(curve(losses, unlearned, "restore")))


def test_a_loss_that_is_not_finite_spoils_its_centre_only() -> None:
    losses, unlearned = sample(4)
    spoilt = losses.copy()
    spoilt[1, 2], spoilt[3, 0] = NAN, math.inf
    found, sound = curve(spoilt, unlearned, "restore"), curve(losses[[0, 2]], unlearned, "restore")
    for a, b in zip(arrays(found), arrays(sound), strict=True):
        assert np.isnan(a[[1, 3]]).all()
        assert np.array_equal(a[[0, 2]], b)


def test_axes_that_do_not_agree() -> None:
    for losses, unlearned in ((np.ones((2, 3)), np.ones(2)), (np.ones(3), np.ones(3)), (np.ones((2, 0)), np.ones(0))):
        with pytest.raises(ValueError, match="question axis"):
            curve(losses, unlearned, "restore")
    assert all(part.shape == (0,) for part in arrays(curve(np.ones((0, 3)), np.ones(3), "break")))


# ------------------------------------------------------------------------------------------------ Student, coverage


def test_t_quantiles_are_those_of_the_tables() -> None:
    table = {1: 12.706, 2: 4.3027, 3: 3.1824, 4: 2.7764, 9: 2.2622, 29: 2.0452, 60: 2.0003, 120: 1.9799, 10**7: 1.9600}
    for degrees, quantile in table.items():
        assert t_quantile(0.975, degrees) == pytest.approx(quantile, abs=5e-4 if degrees == 1 else 5e-5)
    assert t_quantile(0.995, 9) == pytest.approx(3.2498, abs=5e-5)
    assert t_quantile(0.975, 200) == pytest.approx(t_quantile(0.975, 201), rel=1e-4)
    assert t_quantile(0.5, 7) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(("spread", "least"), [(0.7, 0.945), (1.2, 0.93)])
def test_ten_questions_are_enough_for_an_interval_that_holds(spread: float, least: float) -> None:
    generator = np.random.default_rng(7)
    sets, questions = 800, 10
    unlearned = np.exp(spread * generator.normal(size=(sets, questions)))
    losses = unlearned * generator.beta(2, 2, size=(sets, questions))  # the true score is a half
    curves = [curve(a[None], b, "restore", draws=800) for a, b in zip(losses, unlearned, strict=True)]
    held = np.mean([found.low[0] <= 0.5 <= found.high[0] for found in curves])
    assert least <= held <= 0.985


def test_a_band_holds_the_whole_curve() -> None:
    generator = np.random.default_rng(8)
    sets, layers, questions = 300, 12, 10
    truth = np.linspace(0.1, 0.9, layers)
    held = 0
    for _ in range(sets):
        unlearned = np.exp(0.7 * generator.normal(size=questions))
        kept = generator.beta(6 * truth[:, None], 6 * (1 - truth[:, None]), size=(layers, questions))
        found = curve(kept * unlearned, unlearned, "break", draws=500)
        held += bool(((found.band_low <= truth) & (truth <= found.band_high)).all())
    assert held / sets >= 0.92
