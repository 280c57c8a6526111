"""A probe in words and on the terminal: the right window, its band, disagreement, controls, 80 columns."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pytest

from ckdiff.report.formats import say
from ckdiff.report.page.document import to_html
from ckdiff.report.schema.probe import Control, Curve, Probe, ProbeRun
from ckdiff.report.terminal.parts import RAMP
from ckdiff.report.terminal.view import to_view
from ckdiff.report.words.numbers import UNDEFINED
from ckdiff.report.words.probe import (
    best_window,
    beyond_chance,
    bounded_text,
    control_lines,
    disagreement,
    inconclusive,
    interval,
    ranking_score,
    window_text,
    wrong_prompt,
)
from ckdiff.report.words.sections import Selection
from tests.reports import (
    HOSTILE,
    bump,
    comparison,
    controls,
    curve,
    empty_probe,
    hostile_probe,
    probe,
    report,
    run,
    undefined_probe,
    verdict,
)
from tests.test_tables import rendered

FAR = run(scores=(bump(30, 28, 0.95), bump(30, 24, 0.5), bump(30, 22, 0.62)), window=5)
NEAR = run(scores=(bump(30, 22, 0.9), bump(30, 22, 0.8), bump(30, 22, 0.7)), window=5)
SHIFTED = run(scores=(bump(30, 22, 0.9), bump(30, 22, 0.5), bump(30, 22, 0.3)), window=5)
NOTHING = run(scores=(bump(30, 28, 0.05), bump(30, 12, 0.04), bump(30, 2, 0.06)), window=5)
WHOLE = run("ancillary", scores=([0.4], [0.3], [0.35]))
UNMEASURED = Curve(*(np.full(30, np.nan),) * 5)


def shown(found: Probe | None, width: int = 80, questions: int = 0) -> str:
    return rendered(to_view(report(None, found), Selection("probe", questions=questions)), width)


def joined(text: str) -> str:
    """With the lines that were broken put together again."""
    return re.sub(r"\s+", " ", text)


# ----------------------------------------------------------------------------------------------------- the words


def test_the_best_window_is_that_of_krs_kl() -> None:
    assert (ranking_score(FAR), best_window(FAR), best_window(FAR, "krs")) == ("krs_kl", 22, 28)
    assert window_text(FAR, best_window(FAR)) == "21-23"
    assert window_text(WHOLE, best_window(WHOLE)) == "all"
    assert window_text(dataclasses.replace(FAR, first=FAR.layers, last=FAR.layers), 7) == "7"


def test_without_krs_kl_the_next_best_score_ranks() -> None:
    found = dataclasses.replace(FAR, krs_kl=UNMEASURED)
    assert (ranking_score(found), best_window(found)) == ("krs_centred", 24)
    found = dataclasses.replace(found, krs_centred=UNMEASURED)
    assert (ranking_score(found), best_window(found)) == ("krs", 28)
    found = dataclasses.replace(found, krs=UNMEASURED)
    assert (ranking_score(found), best_window(found), beyond_chance(found)) == (None, None, False)


def test_nan_is_never_the_best_window() -> None:
    scores = np.array(FAR.krs_kl.score)
    scores[22] = math.nan
    assert best_window(dataclasses.replace(FAR, krs_kl=curve(scores.tolist()))) in (21, 23)


def test_the_ranking_score_has_the_band_and_the_others_the_pointwise_interval() -> None:
    assert interval(FAR, "krs_kl", 22) == pytest.approx((0.52, 0.72))
    assert interval(FAR, "krs_centred", 24) == pytest.approx((0.45, 0.55))


@pytest.mark.parametrize(("height", "expected"), [(0.101, True), (0.1, False), (0.06, False), (-0.5, False)])
def test_beyond_chance_rests_on_the_band(height: float, expected: bool) -> None:
    """The band of the sample is 0.1 wide on each side, the pointwise interval 0.05."""
    found = run(scores=([0.9] * 4, [0.9] * 4, [height, -1.0, -1.0, -1.0]))
    assert beyond_chance(found) is expected
    assert beyond_chance(dataclasses.replace(found, direction="break"))


def test_disagreement_names_both_windows() -> None:
    assert disagreement(FAR) == (
        "restore coeff open: krs alone would name layers 27-29 (krs 0.95, krs_kl 0.00 there),"
        " krs_kl layers 21-23 (0.62)"
    )
    found = dataclasses.replace(FAR, krs_kl=curve(bump(30, 22, 0.05)))
    assert str(disagreement(found)).endswith("krs_kl is unsure")


def test_disagreement_about_height() -> None:
    assert disagreement(SHIFTED) == (
        "restore coeff open: at layers 21-23 krs 0.90, krs_kl 0.30: the logits follow, the answers less so"
    )


@pytest.mark.parametrize("found", [NEAR, NOTHING, WHOLE], ids=["near", "nothing", "whole"])
def test_agreement_is_not_remarked(found: ProbeRun) -> None:
    assert disagreement(found) is None


def test_windows_that_touch_agree() -> None:
    """Six layers apart is one story where a window is six wide and both scores are high, and two where it is five."""
    found = dataclasses.replace(FAR, krs=curve(bump(30, 28, 0.9, 9)), krs_kl=curve(bump(30, 22, 0.9, 9)))
    assert disagreement(dataclasses.replace(found, window=6)) is None
    assert "krs alone would name" in str(disagreement(dataclasses.replace(found, window=5)))


def test_without_krs_kl_the_centred_score_contradicts() -> None:
    found = dataclasses.replace(FAR, krs_kl=UNMEASURED)
    assert disagreement(dataclasses.replace(found, window=3)) == (
        "restore coeff open: krs alone would name layers 27-29 (krs 0.95, krs_centred 0.01 there),"
        " krs_centred layers 23-25 (0.50)"
    )
    assert disagreement(dataclasses.replace(found, krs_centred=UNMEASURED)) is None


def test_wrong_prompt_is_the_nearest_in_the_ranking_score() -> None:
    def one(layer: int, score: str, value: float) -> Control:
        return Control("wrong_prompt", "restore", value, math.nan, "shown", True, "coeff", "open", layer, score, 0.6)

    others = (one(22, "krs", 0.1), one(0, "krs_kl", 0.2), one(20, "krs_kl", 0.3), one(29, "krs_kl", 0.4))
    found = probe(30, runs=(FAR,), controls=(*others, dataclasses.replace(others[0], mode="attn", score="krs_kl")))
    nearest = wrong_prompt(found, FAR)
    assert nearest is not None
    assert nearest.value == 0.3
    assert wrong_prompt(found, dataclasses.replace(FAR, variant="isolated")) is None


def test_of_many_passed_controls_the_tightest_is_named_and_every_failed_one() -> None:
    def one(value: float) -> Control:
        return Control("self_patch", "restore", value, 1e-4, "at_most", value <= 1e-4)

    lines = list(control_lines(probe(controls=tuple(map(one, (1e-6, 5e-5, 2e-6, 0.3, 0.2))))))
    assert [passed for _, passed in lines] == [False, False, True]
    assert "3.0e-01" in lines[0][0]
    assert "5.0e-05" in lines[2][0]


def test_no_control_is_no_proof() -> None:
    assert inconclusive(probe(controls=())) == "no control was measured"
    assert inconclusive(probe()) == ""
    assert inconclusive(probe(controls=controls(passed=False))) == "a control failed"


# ------------------------------------------------------------------------------------------------------ the view


def test_the_order_of_the_view() -> None:
    text = shown(probe(notes=("mind this",)), questions=2)
    order = [
        "/models/base", "llama, 6 layers", "dtype float32; tokens 30", "4 from wizards.jsonl", "KL 0.75",
        "90.0 % of the raw loss is a uniform shift that softmax cannot see", "Best windows, restore",
        "Best windows, break: share of the effect produced", "Read with care", "By layer", "Controls", "Questions",
        "Notes", "mind this",
    ]  # fmt: skip
    assert [text.index(words) for words in order] == sorted(text.index(words) for words in order)
    assert "INCONCLUSIVE" not in text
    assert "recovered" not in text.split("Best windows, break")[1].split("krs_kl:")[0]


def test_the_row_of_a_run() -> None:
    lines = shown(probe(30, runs=(FAR, WHOLE))).splitlines()
    row = next(number for number, line in enumerate(lines) if line.startswith("coeff "))
    assert lines[row].split() == ["coeff", "21-23", "0.62", "0.18", "0.00", "0.62", "27-29"]
    assert re.findall(r"\[.*?\]", lines[row + 1]) == ["[0.52, 0.72]", "[0.13, 0.24]", "[-0.05, 0.06]"]
    assert lines[row + 1].split()[0] == "open"
    assert lines[row + 2].split() == ["ancillary", "all", "0.35", "0.30", "0.40", "0.35", "all"]


def test_no_window_is_said_in_words() -> None:
    text = shown(probe(30, runs=(NOTHING,)))
    words = "its band reaches 0: not told from nothing by these questions"
    assert words in " ".join(text.split())
    assert re.search(r"^coeff +unsure ", text, re.MULTILINE)
    for found in (NEAR, dataclasses.replace(NOTHING, direction="break")):
        assert words not in " ".join(shown(probe(30, runs=(found,))).split())


def test_disagreement_is_shown_and_agreement_is_not() -> None:
    assert "krs alone would name layers 27-29 (krs 0.95" in joined(shown(probe(30, runs=(FAR,))))
    assert "Read with care" not in shown(probe(30, runs=(NEAR,)))


def test_curves_share_one_ramp() -> None:
    scores = [-0.5, 0.0, 0.05, 0.5, 0.99, 1.7, math.nan, 0.05]
    flat = [1.0] * 8
    text = shown(probe(8, runs=(run(scores=(scores, flat, flat)),)))
    line = next(line for line in text.splitlines() if line.startswith("  krs  "))
    assert line[14:30] == f"····{RAMP[0] * 2}{RAMP[4] * 2}{RAMP[7] * 4}  {RAMP[0] * 2}"
    assert next(line for line in text.splitlines() if line.startswith("  krs_kl "))[14:30] == RAMP[7] * 16
    assert "  layer       0         5" in text


@pytest.mark.parametrize("count", [2, 31, 60, 61, 150])
def test_curves_fit_and_their_layers_stand_under_them(count: int) -> None:
    peak = count - count % 5 - 5 if count > 9 else 0
    scores = [0.01] * count
    scores[peak] = 200.0
    text = shown(probe(count, runs=(run(scores=(scores, scores, scores)),)))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    curve_line = next(line for line in lines if line.startswith("  krs_kl "))
    scale = next(line for line in lines if line.startswith("  layer "))
    labels = {int(found.group()): found.start() for found in re.finditer(r"\d+", scale)}
    assert labels[0] == 14
    nearest = max(layer for layer in labels if layer <= peak)
    place = curve_line.index(RAMP[7])
    assert abs(place - labels[nearest] - (peak - nearest) * (len(curve_line.rstrip()) - 14) / count) <= 2


def test_sets_of_neurons_are_listed() -> None:
    text = shown(probe())
    row = next(line for line in text.splitlines() if line.startswith("restore 1-3"))
    assert " ".join(row.split()) == "restore 1-3 3 of 120 0.50 [0.41, 0.66] 0.62 0.02 (-0.01 to 0.05)"
    assert re.search(r"^break all +3 of 120 ", text, re.MULTILINE)
    assert "restore 1-3: 2/17 50 %, 1/0 25 %, 3/39 12 %" in text
    assert "bring 80 % of what their window brings" in " ".join(text.split())
    assert "Which coefficients" not in shown(probe(neurons=()))


def test_controls_are_listed() -> None:
    text = joined(shown(probe()))
    assert "restore: self-patch moves a logit by 3.1e-06 (at most 0.0001): passed" in text
    assert "break: everything put back at once: krs 1 (at least 0.9999): passed" in text
    assert "restore coeff open: wrong prompt 0.31 against 0.62 (krs_kl, layers 1-3)" in text


def test_a_failed_control_is_loud() -> None:
    found = report(None, probe(controls=controls(passed=False)))
    text = rendered(to_view(found, Selection("probe")))
    assert text.index("INCONCLUSIVE: a control failed") < text.index("Best windows")
    assert "moves a logit by 2.0e-02 (at most 0.0001): FAILED, INCONCLUSIVE" in joined(text)
    red = [
        line
        for line in rendered(to_view(found, Selection("probe")), 120, color=True).splitlines()
        if "\x1b[1;31m" in line
    ]
    assert [("INCONCLUSIVE" in line) for line in red] == [True] * 3


def test_questions_are_behind_an_option() -> None:
    assert "Who wrote" not in shown(probe())
    text = shown(probe(), questions=3)
    assert re.search(r"Who wrote book 1\? +0\.75 +2\.5 +12\.5 +0\.25\n +Någon, författare 1", text)
    assert "book 3" not in text
    assert "and 1 more" in text


@pytest.mark.parametrize("found", [None, empty_probe()])
def test_nothing_probed_is_said_loudly(found: Probe | None) -> None:
    assert "NOTHING WAS PROBED" in shown(found)
    assert "NOTHING" not in shown(probe())


def test_incomplete_is_said() -> None:
    assert "INCOMPLETE" in rendered(
        to_view(dataclasses.replace(report(comparison(), probe()), complete=False), Selection("probe"))
    )


def test_what_is_not_defined_is_a_dash_and_said() -> None:
    text = shown(undefined_probe())
    assert f"mse {UNDEFINED}" in text
    assert "ranked by krs_centred: coeff open" in text
    assert "no intervals" in text
    assert "nan" not in text


def test_a_run_without_any_score_is_a_dash() -> None:
    found = dataclasses.replace(FAR, krs=UNMEASURED, krs_centred=UNMEASURED, krs_kl=UNMEASURED)
    assert "restore coeff open: not measured" in shown(probe(30, runs=(found,)))


@pytest.mark.parametrize("width", [80, 100, 120])
def test_nothing_is_cut(width: int) -> None:
    wild = Curve(*(np.full(126, value) for value in (-9.99, -9.999, -9.99, -1e9, -98.7)))
    scores = (bump(126, 120, 0.95),) * 3
    runs = tuple(
        dataclasses.replace(run("attn+coeff", variant, scores=scores), krs=wild, krs_centred=wild, krs_kl=wild)
        for variant in ("open", "isolated")
    )
    text = shown(probe(126, runs=(*runs, run(scores=scores))), width)
    assert max(map(len, text.splitlines())) <= width
    table = text.split("Best windows")[1].split("krs_kl: what")[0]
    assert "…" not in table
    assert "119-121" in table
    assert "[<-99, -98]" in table


@pytest.mark.parametrize("color", [False, True])
def test_hostile_strings_are_shown_not_obeyed(color: bool) -> None:
    text = rendered(to_view(report(None, hostile_probe()), Selection("probe", questions=9)), 120, color)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text) if color else text
    assert all(char.isprintable() or char == "\n" for char in plain)
    assert "\x1b[31mevil" not in text
    assert "\\x1b[31mevil" in plain
    assert HOSTILE[2] in plain
    assert "\\u202egnp.exe" in plain


def test_the_bounded_score_stands_in_rows_markdown_and_page() -> None:
    """Of the best window by krs_kl, not of its own."""
    bounded = curve([0.111 + 0.01 * layer for layer in range(30)], half=0.02)
    shown_run = dataclasses.replace(FAR, krs_js=bounded)
    found = report(None, probe(30, runs=(shown_run,)))
    assert bounded_text(shown_run) == "0.33 [0.31, 0.36]"
    assert (
        bounded_text(dataclasses.replace(FAR, krs_kl=UNMEASURED, krs_centred=UNMEASURED, krs=UNMEASURED)) == UNDEFINED
    )
    assert "0.33 \\[0.31, 0.36\\]" in str(say(found, "md"))
    assert "0.31, 0.36" in to_html(found)
    lines = str(say(found, "csv", Selection("probe"))).splitlines()
    place = lines[0].split(",").index("krs_js")
    assert lines[0].endswith("top1,krs_js,krs_js_low,krs_js_high,krs_js_band_low,krs_js_band_high")
    assert [float(line.split(",")[place]) for line in lines[1:]] == bounded.score.tolist()


def test_an_explanation_says_what_comes_back_whole() -> None:
    found = report(None, verdict=verdict())
    text = str(say(found, "md"))
    assert re.search(r"krs.{0,2}js \| whole answers \|", text)
    assert " 0.85 | 75.0 % |" in text
    assert {"whole answers", "75.0 %"} <= set(re.findall(r">([^<>]+)<", to_html(found)))
