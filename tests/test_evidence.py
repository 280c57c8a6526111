"""What a verdict reads off a probe: the nearest control, the smallest set of windows, what lies beyond its bounds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ckdiff.audit.verdict.case import Case
from ckdiff.audit.verdict.enough import explains
from ckdiff.audit.verdict.evidence import Evidence, cosine_of
from ckdiff.audit.verdict.location import locate
from ckdiff.audit.verdict.rules import RULES
from ckdiff.audit.verdict.verdict import judge, share_recovered
from ckdiff.report.schema.probe import Control
from ckdiff.scoring.bands import joint_bands
from tests import judged, reports

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.report.schema.probe import ProbeRun

NAN = float("nan")


def run(mode: str, direction: str, *scores: float, half: float = 0.01, **more: Any) -> ProbeRun:
    """A run without losses, whose bands are its own; windows of three layers, the first and the last cut off."""
    found = reports.run(mode, "open" if len(scores) > 1 else "whole", direction, scores=(scores,) * 3)
    return replace(found, krs_kl=reports.curve(scores, half / 2), loss_kl=np.zeros((0, 0)), **more)


def evidence(*runs: ProbeRun, controls: Sequence[Control] = (), **more: Any) -> Evidence:
    probe = replace(reports.probe(), runs=runs, controls=tuple(controls))
    return Evidence(reports.report(found=None, probe=probe, **more))


# ----------------------------------------------------------------------------------------------------- wrong prompt


def test_the_nearest_control_of_the_same_run_speaks_for_a_window() -> None:
    right = Control("wrong_prompt", "restore", 0.3, NAN, "shown", True, "coeff", "open", 20, "krs_kl", 0.6)
    others = [
        replace(right, layer=1, value=0.5),
        replace(right, layer=22, value=0.1, variant="isolated"),
        replace(right, layer=22, value=0.2, mode="attn"),
        replace(right, layer=22, value=0.05, direction="break"),
        replace(right, layer=22, value=0.6, score="krs"),
        replace(right, layer=22, value=0.4, name="everything"),
    ]
    window = reports.explanation("coeff")  # layers 21 to 23
    for controls in ([*others, right], [right, *others]):
        assert evidence(controls=controls).wrong_prompt(window) == pytest.approx(0.5)
    assert evidence(controls=[replace(right, layer=25), right]).wrong_prompt(window) == pytest.approx(0.5)
    assert np.isnan(evidence(controls=others[1:]).wrong_prompt(window))
    assert np.isnan(evidence(controls=[replace(right, against=0.0)]).wrong_prompt(window))


# ---------------------------------------------------------------------------------------------------------- windows

WHOLE = run("coeff", "restore", 0.95)
SPREAD = run("coeff", "restore", 0.2, 0.2, 0.2, 0.2, 0.2, 0.2)
"""No window is enough, and the whole model is."""


@pytest.mark.parametrize("turned", [False, True])
def test_windows_that_share_a_layer_are_not_both_counted(turned: bool) -> None:
    """Windows 0-2 and 3-5 stand side by side; 1-3, 2-4 and 4-5 share layers with them."""
    scores, expected = (0.1, 0.5, 0.45, 0.45, 0.4, 0.3), [(0, 2), (3, 5)]
    broken = run("coeff", "break", *(scores[::-1] if turned else scores))
    place = locate(evidence(WHOLE, SPREAD, broken), "coeff")
    assert place is not None
    assert [(row.first, row.last) for row in place.rests_on] == (expected[::-1] if turned else expected)
    assert (place.layers, place.single, place.share) == ((0, 1, 2, 3, 4, 5), False, 1.0)


def test_windows_end_where_they_have_enough_of_what_all_produce() -> None:
    enough = RULES["windows"].threshold
    for first, layers in ((enough + 0.01, (0, 1, 2)), (enough - 0.01, (0, 1, 2, 3, 4, 5))):
        broken = run("coeff", "break", 0.0, first, 0.0, 0.0, 1 - first, -0.2)
        place = locate(evidence(WHOLE, SPREAD, broken), "coeff")
        assert place is not None
        assert place.layers == layers
        assert place.share == pytest.approx(first if len(layers) == 3 else 1.0)


def test_a_single_window_is_named_only_where_it_surely_brings_back_enough() -> None:
    firm, broken = RULES["restores.firm"].threshold, run("coeff", "break", 0.0, 0.6, 0.0, 0.0, 0.4, 0.0)
    for half, single in ((0.9 - firm - 0.01, True), (0.9 - firm + 0.01, False)):
        best = run("coeff", "restore", 0.1, 0.1, 0.9, 0.1, 0.1, 0.1, half=half)
        place = locate(evidence(WHOLE, best, broken), "coeff")
        assert place is not None
        assert place.single is single
        assert place.layers == ((1, 2, 3) if single else (0, 1, 2, 3, 4, 5))


def test_a_single_window_needs_its_share_of_the_whole() -> None:
    wanted = RULES["window"].threshold
    for best, single in ((0.95 * wanted + 0.01, True), (0.95 * wanted - 0.01, False)):
        found = evidence(WHOLE, run("coeff", "restore", 0.1, 0.1, best, 0.1, 0.1, 0.1), run("coeff", "break", 0.6, 0.4))
        place = locate(found, "coeff")
        assert place is not None
        assert place.single is single


# ---------------------------------------------------------------------------------------------- bands, answers, drift


def test_a_band_is_over_all_that_may_be_chosen_and_nowhere_narrower_than_the_runs_own() -> None:
    count, generator = 9, np.random.default_rng(3)
    questions = tuple(replace(reports.question(n), kl=1.0 + n / 9) for n in range(count))
    unlearned = np.array([one.kl for one in questions])

    def lossy(found: ProbeRun) -> ProbeRun:
        return replace(found, loss_kl=generator.uniform(0.1, 0.5, (len(found.layers), count)) * unlearned)

    wide = lossy(run("coeff", "restore", 0.2, 0.7, 0.6, half=3.0))
    narrow = lossy(run("values", "restore", 0.6, half=0.0001))
    shown = lossy(run("gate", "restore", 0.7))
    found = evidence(wide, narrow, shown)
    found.probe = replace(reports.probe(), runs=(wide, narrow, shown), questions=questions)
    joint = joint_bands(found.probe, [wide, narrow])
    own, other, alone = found.at(wide, 1), found.at(narrow, 0), found.at(shown, 0)
    assert (own.kl_low, own.kl_high) == pytest.approx((0.7 - 3, 0.7 + 3))
    assert (other.kl_low, other.kl_high) == (joint[1].low[0], joint[1].high[0])
    assert other.kl_high - other.kl_low > 0.05
    assert (alone.kl_low, alone.kl_high) == pytest.approx((0.69, 0.71))  # only shown: chosen by nothing


@pytest.mark.parametrize(("direction", "third", "whole"), [("restore", 0.2, 1), ("break", 0.2, 2), ("restore", 1.0, 2)])
def test_lost_answers_that_come_back_whole(direction: str, third: float, whole: int) -> None:
    """Of four answers the last was never lost; of the three lost ones the second lacks one token."""
    top1 = np.array([[1.0, 0.99, third, 0.0]])
    questions = tuple(replace(reports.question(n), top1=own) for n, own in enumerate((0.5, 0.0, 0.99, 1.0)))
    one = run("coeff", direction, 0.5, top1_questions=top1)
    found = evidence(one)
    found.probe = replace(reports.probe(), runs=(one,), questions=questions)
    assert found.at(one, 0).returned == pytest.approx(whole / 3)


def test_the_cosine_of_several_tensors_weighs_them_by_both_lengths() -> None:
    drifts = (replace(judged.MOVED, cosine=0.5, norm_base=3.0, norm_unlearned=1.0), replace(judged.MOVED, cosine=-0.2))
    rows = [reports.tensor(f"{n}.keys", "keys", n, drift) for n, drift in enumerate(drifts)]
    # (0.5 * 3 * 1 - 0.2 * 2 * 2) / sqrt((9 + 4) (1 + 4))
    assert cosine_of(rows) == pytest.approx(0.7 / 65**0.5)
    found = evidence()
    found.compare, found._tensors = judged.compared(), (*rows, reports.tensor("2.keys", "keys", 2, judged.SAME))
    assert found.changed_layers("keys") == {0, 1}


# ----------------------------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize(
    ("rule", "changes", "known"),
    [
        ("", {}, True),
        ("restores", {"kl": 0.79}, False),
        ("restores.firm", {"half": 0.41}, False),
        ("restores.js", {"js": 0.59}, False),
        ("restores.js", {"js": NAN}, True),  # an older file says nothing of it
        ("restores.centred", {"centred": 0.49}, False),
        ("returned", {"back": 1}, False),
        ("returned", {"back": 2}, True),
        ("produces", {"broken": 0.49}, False),
        ("produces.firm", {"broken": 0.6, "spread": 0.36}, False),
        ("specific", {"wrong": 0.47}, False),
        ("specific", {"wrong": 0.43}, True),
    ],
)
def test_each_rule_alone_keeps_a_state_from_being_enough(rule: str, changes: dict[str, float], known: bool) -> None:
    """Everything is well above its threshold but for one figure; two of four lost answers are half of them."""
    given = {"kl": 0.9, "js": 0.8, "centred": 0.7, "back": 4, "half": 0.1, "broken": 0.8, "spread": 0.1, "wrong": 0.1}
    given |= changes
    top1 = np.array([[1.0] * int(given["back"]) + [0.9] * (4 - int(given["back"]))])
    restored = run("coeff", "restore", given["kl"], half=given["half"], top1_questions=top1)
    restored = replace(restored, krs_js=reports.curve([given["js"]]), krs_centred=reports.curve([given["centred"]]))
    runs = (restored, run("coeff", "break", given["broken"], half=given["spread"]))
    wrong = Control(
        "wrong_prompt", "restore", given["wrong"], NAN, "shown", True, "coeff", "whole", None, "krs_kl", given["kl"]
    )
    probe = replace(reports.probe(), runs=runs, controls=(wrong,))
    case = Case(reports.report(found=None, probe=probe), Evidence(reports.report(found=None, probe=probe)))
    assert explains(case, "coeff") is known
    if not known:
        assert [one.name for one in case.rules if not one.fired] == [rule]
    texts = {one.name: one.text for one in case.rules}
    assert rule != "specific" or texts[rule].endswith(f"bring back {given['wrong'] / given['kl']:.2f} of that")


@pytest.mark.parametrize(
    ("restored", "broken", "label"),
    [(0.3, 0.3, "attention rerouted"), (0.6, 0.3, "attention rerouted"), (0.6, 0.6, "suppressed")],
)
def test_attention_is_named_only_where_coefficients_do_little(restored: float, broken: float, label: str) -> None:
    """Attention's states alone are enough in each case, and coefficients alone are not."""
    scores = {**judged.both("attn", 0.92, 0.92), **judged.both("attn+coeff", 0.98, 0.95)}
    scores |= {**judged.both("coeff", restored, broken), **judged.both("values", 0.1, 0.05)}
    found = judged.report(compare=judged.compared(), probe=judged.probed(scores), behaviour=judged.behaved())
    assert judge(found).label == label


@pytest.mark.parametrize(
    ("states", "values", "score"),
    [(0.9, 0.2, 0.72), (0.9, 1.3, 0.0), (0.9, -0.4, 0.9), (-0.5, 0.2, 0.0), (-0.5, 1.3, 0.0)],
)
def test_the_score_is_of_shares_and_so_is_each_part_of_it(states: float, values: float, score: float) -> None:
    found = evidence(run("attn+coeff", "restore", states), run("values", "break", values))
    found.compare = judged.compared(cosine=1.0)
    found._tensors = found.compare.tensors
    assert share_recovered(found) == pytest.approx(score)


def test_a_layer_is_known_by_its_keys_or_by_its_value_vectors() -> None:
    """The better of both tells which neuron is which; of layers the worst one counts."""
    drifts = {("keys", 0): 0.1, ("value_vectors", 0): 0.9, ("keys", 1): 0.8, ("value_vectors", 1): 0.2}
    tensors = tuple(
        reports.tensor(f"{layer}.{kind}", kind, layer, replace(judged.MOVED, cosine=cosine))
        for (kind, layer), cosine in drifts.items()
    )
    found = evidence()
    found._tensors = (*tensors, reports.tensor("0.attn_q", "attn_q", 0, replace(judged.MOVED, cosine=0.01)))
    assert found.layer_cosines() == pytest.approx({0: 0.9, 1: 0.8})
    assert found.cosine() == pytest.approx(0.8)
