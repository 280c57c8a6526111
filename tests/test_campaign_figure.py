"""Figures of a campaign: what is drawn is what was averaged, and what cannot be drawn is refused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ckdiff.cli.app import run
from ckdiff.errors import CkdiffError
from ckdiff.report.figures import campaign as campaign_figure
from ckdiff.report.figures.campaign import write_campaign_behaviour_figure, write_campaign_figure
from ckdiff.report.hdf5.file import write_campaign, write_report
from tests import campaigns, reports

if TYPE_CHECKING:
    from ckdiff.report.schema.campaign import Campaign


@pytest.fixture(scope="module")
def found() -> Campaign:
    return campaigns.campaign()


def drawn(monkeypatch: pytest.MonkeyPatch, found: Campaign, path: Path, **options: str) -> list[Any]:
    """The lines of a figure, as [x, y] each."""
    from matplotlib.axes import Axes

    lines: list[Any] = []
    plot = Axes.plot

    def kept(self: Axes, *arguments: Any, **words: Any) -> Any:
        made = plot(self, *arguments, **words)
        lines.extend(np.asarray(line.get_xydata()) for line in made)
        return made

    monkeypatch.setattr(Axes, "plot", kept)
    write_campaign_figure(found, path, **options)
    return lines


def test_lines_are_the_averages(monkeypatch: pytest.MonkeyPatch, found: Campaign, tmp_path: Path) -> None:
    run_ = next(one for one in found.averages if len(one.layers) > 1 and not np.isnan(one.krs_kl.score).any())
    lines = drawn(
        monkeypatch, found, tmp_path / "f.svg", score="krs_kl", variant=run_.variant, direction=run_.direction
    )
    expected = np.stack([run_.layers.astype(float), run_.krs_kl.score], axis=1)
    assert any(line.shape == expected.shape and np.allclose(line, expected) for line in lines)


def test_the_same_campaign_gives_the_same_bytes(found: Campaign, tmp_path: Path) -> None:
    draw, behaviour = write_campaign_figure, write_campaign_behaviour_figure
    for write, suffix in ((draw, "svg"), (behaviour, "png"), (behaviour, "pdf")):
        write(found, tmp_path / f"a.{suffix}")
        write(found, tmp_path / f"b.{suffix}")
        one, other = ((tmp_path / f"{name}.{suffix}").read_bytes() for name in "ab")
        different = [pair for pair in zip(one.splitlines(), other.splitlines(), strict=False) if pair[0] != pair[1]]
        assert different == []
        assert one == other


def test_what_cannot_be_drawn_is_refused(found: Campaign, tmp_path: Path) -> None:
    for options in ({"score": "bleu"}, {"variant": "none"}, {"direction": "up"}):
        with pytest.raises(CkdiffError):
            write_campaign_figure(found, tmp_path / "f.svg", **options)
    with pytest.raises(CkdiffError):
        write_campaign_figure(campaigns.empty_campaign(), tmp_path / "f.svg")
    with pytest.raises(CkdiffError):
        write_campaign_figure(found, tmp_path / "f.gif")
    assert not list(tmp_path.iterdir())
    assert campaign_figure.CAPTION


def test_the_command_draws_a_campaign_and_refuses_what_does_not_go_together(
    found: Campaign, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_campaign(found, "c.h5")
    write_report(reports.report(reports.comparison(), reports.probe()), "r.h5")
    assert run(["figure", "c.h5", "-o", "c.svg"]) == 0
    assert run(["figure", "c.h5", "-o", "b.svg", "--kind", "behaviour"]) == 0
    for words in (
        ["figure", "r.h5", "-o", "x.svg", "--variant", "none"],
        ["figure", "c.h5", "-o", "x.svg", "--kind", "behaviour", "--variant", "open"],
        ["figure", "c.h5", "r.h5", "-o", "x.svg"],
        ["figure", "c.h5", "-o", "x.svg", "--variant", "none"],
    ):
        capfd.readouterr()
        assert run(words) == 2
        assert len(capfd.readouterr().err.strip().splitlines()) == 1
    assert not Path("x.svg").exists()
