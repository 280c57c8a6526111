"""Attacks drawn: what each panel shows, and what cannot be drawn."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ckdiff.calls.figure import figure
from ckdiff.errors import CkdiffError, ReportError
from ckdiff.report.figures import attack as drawn
from ckdiff.report.figures.attack import write_attack_figure
from ckdiff.report.schema.behaviour import Mean
from tests.reports import attack_row, attacks, behaviour, report

if TYPE_CHECKING:
    from pathlib import Path

STEPS = [
    attack_row("relearn", 2, setting, step=step, recovery=Mean(value, value - 0.1, value + 0.1), wrecked=value > 1.3)
    for setting, values in (("others, rate 3e-05", (0.0, 0.4, 0.9)), ("half $x$", (0.0, 0.7, 1.4)))
    for step, value in zip((0, 2, 8), values, strict=True)
]
OTHER = attack_row("relearn", 2, "of the base", step=4, side="base")
SAMPLED = attack_row("samples", 0, "16 samples", step=16)
ROUNDED = [
    attack_row("quantise", 1, "int8 by row", recovery=Mean(0.1, -0.9, 0.3)),
    attack_row("quantise", 1, "int4 by row", recovery=Mean(0.8, math.nan, math.nan)),
    attack_row("quantise", 1, "NF4 in blocks of 64", recovery=Mean(math.nan, math.nan, math.nan)),
]
EVERYTHING = attacks(rows=(*STEPS, OTHER, SAMPLED, *ROUNDED))


def axes_of(found: Any) -> list[Any]:
    """The panels of one report, as matplotlib has them."""
    draws = [draw for draw, has in drawn.PANELS if has(found)]
    return drawn._figure([("r", found, draws)], None).axes


def test_what_has_numbers_is_drawn(tmp_path: Path) -> None:
    steps, samples, bits = axes_of(EVERYTHING)
    lines = {line.get_label(): line.get_xydata().tolist() for line in steps.lines}
    assert lines["others, rate 3e-05"] == [[0, 0], [2, 0.4], [8, 0.9]]
    # What lies outside is drawn at the edge, and a ruined model is marked.
    assert lines["half \\$x\\$"] == [[0, 0], [2, 0.7], [8, 1.25]]
    assert [8, 1.25] in [
        point for line in steps.lines if line.get_marker() == "x" for point in line.get_xydata().tolist()
    ]
    assert "of the base" not in lines
    base, unlearned = ({line.get_label(): line.get_xydata() for line in samples.lines}[name] for name in SIDES)
    p = [math.exp(-0.25 * 2), math.exp(-0.5)]
    assert base[3].tolist() == pytest.approx([8, sum(1 - (1 - one) ** 8 for one in p) / 2])
    assert unlearned[3].tolist() == pytest.approx([8, (1 - 0.99**8) / 2])
    assert [label.get_text() for label in bits.get_xticklabels()] == ["int8\nby row", "int4\nby row"]
    assert [line.get_xydata().tolist() for line in bits.lines if line.get_marker() == "o"] == [[[0, 0.1]], [[1, 0.8]]]
    for suffix in ("svg", "png", "pdf"):
        write_attack_figure(
            [("a", report(None, attack=EVERYTHING)), ("b", report(None, attack=EVERYTHING))], tmp_path / f"f.{suffix}"
        )
        assert (tmp_path / f"f.{suffix}").stat().st_size > 1000


SIDES = ("base", "unlearned")


@pytest.mark.parametrize(("rows", "count"), [((SAMPLED,), 1), ((*STEPS, *ROUNDED), 2), ((ROUNDED[0],), 1)])
def test_what_was_not_measured_has_no_panel(rows: tuple[Any, ...], count: int) -> None:
    assert len(axes_of(attacks(rows=rows))) == count


def test_attacks_alone_are_drawn_unasked(tmp_path: Path) -> None:
    alone, both = report(None, attack=EVERYTHING), report(None, None, behaviour(), attack=EVERYTHING)
    cases: tuple[tuple[Any, dict[str, Any], str], ...] = (
        (alone, {}, ">steps of training"),
        ([alone, alone], {}, ">steps of training"),
        (both, {}, ">BLEU"),
        (both, {"kind": "attack", "title": "over it"}, ">steps of training"),
    )
    for found, options, words in cases:
        figure(found, tmp_path / "f.svg", **options)
        assert words in (tmp_path / "f.svg").read_text()
    with pytest.raises(CkdiffError, match="holds no attack; `ckdiff attack` puts one in"):
        figure(report(None, None, behaviour()), tmp_path / "g.svg", kind="attack")
    with pytest.raises(CkdiffError, match="--score: is about a probe"):
        figure(alone, tmp_path / "g.svg", score="krs")
    nothing = report(None, attack=attacks(rows=(OTHER, replace(SAMPLED, returned=-1))))
    with pytest.raises(ReportError, match="no attack with steps, samples or bits to draw; run `ckdiff attack` first"):
        write_attack_figure([("r", nothing)], tmp_path / "g.svg")
    assert not (tmp_path / "g.svg").exists()
