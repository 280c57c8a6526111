"""Lost words drawn beside what noise reaches."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ckdiff.calls.figure import figure
from ckdiff.errors import CkdiffError, ReportError
from ckdiff.report.figures import discovery as drawn
from ckdiff.report.figures.discovery import least_rates, write_discovery_figure
from ckdiff.report.schema.behaviour import Mean
from ckdiff.scoring.discovery import Tail, corrected
from tests.reports import behaviour, discovery, report

if TYPE_CHECKING:
    from pathlib import Path

    from ckdiff.report.schema.discovery import DiscoveryReport


def panel(found: DiscoveryReport) -> Any:
    """The axes of one report, as matplotlib has them."""
    (axes,) = drawn._figure([("pair", found)], None).axes
    return axes


def test_words_stand_by_their_rate_beside_the_rate_that_noise_hardly_reaches(tmp_path: Path) -> None:
    found = discovery()
    wide = replace(found.words[0], word="$odd$", rate=Mean(0.5, 0.25, 0.875))
    found = replace(found, words=(*found.words, wide))
    axes = panel(found)
    assert [one.get_text() for one in axes.get_yticklabels()] == ["Harry", "books", "\\$odd\\$"]
    rates = [line.get_xydata().tolist() for line in axes.lines if line.get_marker() == "o"]
    assert rates == [[[0.625, 0]], [[0.25, 1]], [[0.5, 2]]]
    (bars,) = [line.get_xydata() for line in axes.lines if line.get_label() == "noise, p 0.05"]
    least = least_rates(found)["sampled"]
    assert bars.tolist() == [[least, 0], [least, 1], [least, 2]]
    kind = found.kinds[0]
    assert corrected(Tail(kind.threshold, kind.excess, kind.share).p(least), 60) == pytest.approx(0.05)
    ends = [part.get_segments()[0][:, 0].tolist() for part in axes.collections]
    assert ends[2] == pytest.approx([0.25, 0.875])
    for suffix in ("svg", "png", "pdf"):
        write_discovery_figure([("a", report(None, discovery=found))] * 2, tmp_path / f"f.{suffix}", "over it")
        assert (tmp_path / f"f.{suffix}").stat().st_size > 1000


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"copies": 0}, {}),
        ({"kinds": (replace(discovery().kinds[0], texts=3),)}, {}),
        ({"kinds": (replace(discovery().kinds[0], threshold=0.995),)}, {"sampled": 1.0}),
        ({"kinds": (replace(discovery().kinds[0], share=1e-9),)}, {"sampled": 0.125}),
    ],
)
def test_without_a_null_there_is_no_bar_and_none_lies_beyond_the_axis(
    changes: dict[str, Any], expected: dict[str, float]
) -> None:
    found = discovery(**changes)
    assert least_rates(found) == expected
    axes = panel(found)
    assert any(line.get_label() == "noise, p 0.05" for line in axes.lines) == bool(expected)


def test_a_discovery_alone_is_drawn_unasked(tmp_path: Path) -> None:
    alone, both = report(None, discovery=discovery()), report(None, None, behaviour(), discovery=discovery())
    cases: tuple[tuple[Any, dict[str, Any], str], ...] = (
        (alone, {}, "is lost"),
        ([alone, alone], {}, "is lost"),
        (both, {}, ">BLEU"),
        (both, {"kind": "discovery"}, "is lost"),
    )
    for found, options, words in cases:
        figure(found, tmp_path / "f.svg", **options)
        assert words in (tmp_path / "f.svg").read_text()
    with pytest.raises(CkdiffError, match="holds no discovery; `ckdiff discover` puts one in"):
        figure(report(None, None, behaviour()), tmp_path / "g.svg", kind="discovery")
    with pytest.raises(CkdiffError, match="--score: is about a probe"):
        figure(alone, tmp_path / "g.svg", score="krs")
    nothing = report(None, discovery=discovery(words=()))
    with pytest.raises(ReportError, match="holds no lost words to draw; run `ckdiff discover` first"):
        write_discovery_figure([("r", nothing)], tmp_path / "g.svg")
