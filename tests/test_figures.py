"""Figures: three formats, the same bytes, everything that was measured, errors in one line."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ckdiff.errors import ReportError
from ckdiff.modes import MODES, SUBSETS
from ckdiff.report.figures import probe as figures
from ckdiff.report.figures.drawing import FORMATS, LETTERS, LOOKS, check_place, mode_looks, put_title
from ckdiff.report.figures.probe import write_figure
from tests.reports import bump, comparison, controls, empty_probe, hostile_probe, probe, report, run, undefined_probe

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckdiff.report.schema.probe import ProbeRun

SIGNATURES = {".svg": b"<?xml", ".png": b"\x89PNG\r\n\x1a\n", ".pdf": b"%PDF"}
FULL = report(None, probe())


def svg(path: Path, found: object = FULL, score: str | None = None) -> str:
    write_figure(found, path / "f.svg", score)  # type: ignore[arg-type]
    return (path / "f.svg").read_text()


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_and_the_same_bytes(suffix: str, tmp_path: Path) -> None:
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix.upper()}"
    write_figure(FULL, first, "krs_kl")
    write_figure(FULL, second, "krs_kl")
    assert first.read_bytes().startswith(SIGNATURES[suffix])
    assert first.read_bytes() == second.read_bytes()
    assert sorted(tmp_path.iterdir()) == [first, second]


def test_a_figure_shows_modes_variants_scores_and_directions(tmp_path: Path) -> None:
    text = svg(tmp_path)
    for words in (
        *(">coeff<", ">attn+coeff<", ">ancillary<", ">open<", ">isolated<", ">whole model<"),
        *(">krs_kl: what changes behaviour<", ">krs: the paper's score<", ">krs_centred: without the uniform shift<"),
        *(">restore: share of the loss recovered<", ">break: share of the effect produced<"),
        *(">not run<", ">95 % interval<", ">95 % band over all windows, of the highest<", ">layer (window centre)<"),
        ">intervals and bands: bootstrap over questions<",
        *(">unlearned against base<", ">llama, 6 layers, 4 questions<"),
    ):
        assert words in text, words
    assert text.count(">attn+coeff<") == 1
    assert text.index(">krs_kl: what") < text.index(">krs_centred: w") < text.index(">krs: the paper")
    assert text.index(">restore:") < text.index(">break:")
    assert "INCONCLUSIVE" not in text


def whole(mode: str, score: float, variant: str = "whole", direction: str = "restore") -> ProbeRun:
    return run(mode, variant, direction, ([score], [score - 0.1], [score - 0.2]))


def recorder(made: Callable[..., Any], kept: list[Any]) -> Callable[..., Any]:
    def keep(self: Any, *given: Any, **words: Any) -> Any:
        kept.append((given, words))
        return made(self, *given, **words)

    return keep


def drawn(monkeypatch: pytest.MonkeyPatch, path: Path, *runs: ProbeRun, **options: str) -> dict[str, list[Any]]:
    """What is asked of matplotlib, by method: the values of points with whiskers, of lines and of shades."""
    from matplotlib.axes import Axes

    calls: dict[str, list[Any]] = {"errorbar": [], "plot": [], "fill_between": [], "set_yticks": [], "set_ylim": []}
    for name, kept in calls.items():
        monkeypatch.setattr(Axes, name, recorder(getattr(Axes, name), kept))
    write_figure(report(None, probe(runs=runs)), path / "f.svg", "krs_kl", **options)
    return calls


def test_scores_about_no_window_are_dots_with_their_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runs = whole("values", 0.9), whole("coeff", 0.7), whole("values+keys", 0.6), whole("values", 0.4, "open")
    again = whole("coeff", 0.7, "isolated")
    calls = drawn(monkeypatch, tmp_path, *runs, again)
    points = [(given[0][0], given[1][0]) for given, _ in calls["errorbar"]]
    assert points == [(pytest.approx(score), place) for place, score in enumerate((0.5, 0.7, 0.2, 0.4))]
    ends = [float(value) for value in calls["errorbar"][0][1]["xerr"].ravel()]
    assert ends == pytest.approx([0.05, 0.05])
    names = next(given[1] for given, _ in calls["set_yticks"] if len(given) > 1)
    assert names == ["coeff", "values, whole", "values, open", "values+keys"]
    ((bottom, top), _) = calls["set_ylim"][-1]
    assert bottom > 3 > 0 > top
    assert not calls["plot"]
    assert not calls["fill_between"]


def test_one_band_that_of_the_highest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    low, high = (run(mode, scores=(bump(6, 2, top),) * 3) for mode, top in (("coeff", 0.4), ("attn", 0.8)))
    calls = drawn(monkeypatch, tmp_path, low, high)
    assert len(calls["plot"]) == 2
    ((given, words),) = calls["fill_between"]
    assert [list(part) for part in given[1:3]] == [list(high.krs_kl.band_low), list(high.krs_kl.band_high)]
    assert words["color"] == mode_looks(["attn"])["attn"].color


def test_a_mode_has_one_colour_whatever_is_beside_it() -> None:
    every = mode_looks(MODES)
    assert len({look.color for look in every.values()}) == len(MODES)
    for names in (["values", "coeff"], ["coeff", "values"], ["values"], ["hostile", "values", "values+keys"]):
        looks = mode_looks(names)
        assert looks["values"] == every["values"]
        assert set(looks) == set(names)
    assert mode_looks(["hostile"])["hostile"] != every["coeff"]
    assert len({mode_looks(SUBSETS)[name] for name in SUBSETS} & set(every.values())) == 0


def test_a_single_pair_of_axes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    runs = (*probe().runs, whole("coeff", 0.7))
    calls = drawn(monkeypatch, tmp_path, *runs, variant="open", direction="restore", title="Figure $1$")
    text = (tmp_path / "f.svg").read_text()
    for words in ("isolated", ">break:", "unlearned against", "ancillary", "whole model"):
        assert words not in text
    assert ">Figure $1$<" in text
    expected = [one for one in probe().runs if (one.variant, one.direction) == ("open", "restore")]
    assert len(calls["plot"]) == sum(len(one.layers) > 1 for one in expected) > 0
    write_figure(report(None, probe(runs=runs)), tmp_path / "g.svg", title="")
    assert "against" not in (tmp_path / "g.svg").read_text()
    for options in ({"variant": "direct"}, {"direction": "up"}, {"variant": "whole", "direction": "break"}):
        with pytest.raises(ReportError, match="this report"):
            write_figure(report(None, probe(runs=runs)), tmp_path / "h.svg", **options)


def test_every_mode_has_a_look_of_its_own() -> None:
    assert (
        len({(colour, str(dash)) for colour, _, dash in LOOKS}) == len({marker for _, marker, _ in LOOKS}) == len(LOOKS)
    )
    assert len(LOOKS) >= len(MODES)


def test_one_score_and_one_direction(tmp_path: Path) -> None:
    found = probe(runs=probe().runs[:1])
    text = svg(tmp_path, report(None, found), "krs_centred")
    assert "krs_centred: without" in text
    for words in ("krs_kl: what", "the paper's score", ">isolated<", ">break:", "not run"):
        assert words not in text


def test_what_was_not_measured_has_no_row(tmp_path: Path) -> None:
    text = svg(tmp_path, report(None, undefined_probe()))
    assert "krs_kl: what" not in text
    assert "the paper's score" in text
    with pytest.raises(ReportError, match="krs_kl was not measured"):
        write_figure(report(None, undefined_probe()), tmp_path / "f.svg", "krs_kl")


def test_values_that_are_cut_are_counted(tmp_path: Path) -> None:
    scores = [0.1, -3.0, 0.5, 1.5, 0.2, -0.3]
    far = run(scores=(scores, scores, scores))
    assert "3 values outside -0.25 to 1.05 not shown" in svg(tmp_path, report(None, probe(runs=(far,))))
    assert "not shown" not in svg(tmp_path, report(None, probe(runs=(run(scores=(bump(6, 2, 0.9),) * 3),))))


def test_a_failed_control_is_in_the_title(tmp_path: Path) -> None:
    found = probe(controls=controls(passed=False))
    assert "INCONCLUSIVE: a control failed" in svg(tmp_path, report(None, found), "krs")


def test_more_modes_than_looks_and_hostile_names(tmp_path: Path) -> None:
    runs = tuple(dataclasses.replace(run, variant="open", direction="restore") for run in hostile_probe().runs)
    text = svg(tmp_path, report(None, dataclasses.replace(hostile_probe(), runs=runs)), "krs")
    assert "\x1b" not in text
    assert "\\x1b[31mevil" in text
    assert "<b>" not in text
    names = tuple(run(f"$m_{n}$", scores=(bump(6, 2, 0.9),) * 3) for n in range(9))
    assert ">$m_8$<" in svg(tmp_path, report(None, probe(runs=names)), "krs")


@pytest.mark.parametrize(
    ("found", "name", "score", "words"),
    [
        (FULL, "f.jpg", None, r"a figure is a \.svg, \.png, \.pdf file"),
        (FULL, "f", None, "give it one of these suffixes"),
        (FULL, "f.svg", "bleu", "'bleu' is no score; choose one of krs, krs_centred, krs_kl"),
        (report(comparison()), "f.svg", None, "holds no probe"),
        (report(None, empty_probe()), "f.svg", None, "nothing can be drawn"),
        (FULL, "missing/f.svg", "krs", "cannot be written: No such file"),
        (FULL, "file/f.svg", "krs", "cannot be written: Not a directory"),
        (FULL, "taken.svg", "krs", "cannot be written: Is a directory"),
    ],
)
def test_errors_are_one_line(found: object, name: str, score: str | None, words: str, tmp_path: Path) -> None:
    (tmp_path / "taken.svg").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(ReportError, match=words) as raised:
        write_figure(found, tmp_path / name, score)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "file", tmp_path / "taken.svg"]


def test_an_interrupted_write_leaves_the_old_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f.svg"
    path.write_text("old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(ReportError, match="No space left"):
        write_figure(FULL, path, "krs")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_tables_open_without_matplotlib_and_figures_without_pyplot(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib;"
        "import ckdiff.report.terminal.probe, ckdiff.report.figures.probe as f, tests.reports as r;"
        "assert 'matplotlib' not in sys.modules;"
        "f.write_figure(r.report(None, r.probe()), pathlib.Path(sys.argv[1]), 'krs');"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    root = str(Path(figures.__file__).parents[2])
    subprocess.run([sys.executable, "-c", code, tmp_path / "f.svg"], check=True, cwd=root)
    assert (tmp_path / "f.svg").read_text() == svg(tmp_path, score="krs")


@pytest.mark.parametrize("suffix", [".svg", ".png", ".pdf"])
def test_only_a_figure_of_ours_is_replaced_unasked(tmp_path: Path, suffix: str) -> None:
    place = tmp_path / f"f{suffix}"
    check_place(place)
    write_figure(FULL, place, "krs")
    check_place(place)
    place.write_bytes(b"")
    check_place(place)
    place.write_bytes(b"somebody's own work")
    with pytest.raises(ReportError, match="no figure of ckdiff's"):
        check_place(place)
    check_place(place, overwrite=True)
    place.unlink()
    place.mkdir()
    for overwrite in (False, True):
        with pytest.raises(ReportError, match="not a regular file"):
            check_place(place, overwrite)


@pytest.mark.parametrize("wide", [3.0, 6.0])
def test_a_long_title_stands_in_lines_as_wide_as_the_figure(wide: float) -> None:
    from matplotlib.figure import Figure

    figure, title = Figure(figsize=(wide, 2)), "\n".join(("a long title of many words " * 3, "short"))
    put_title(figure, title, color="black")
    lines = figure.get_suptitle().splitlines()
    assert max(map(len, lines)) <= wide * LETTERS < len(title)
    assert " ".join(lines).split() == title.split()
    assert lines[-1] == "short"


def test_no_line_of_a_single_panel_is_wider_than_it(tmp_path: Path) -> None:
    title = "a title that is far too long for a figure of one panel, and goes on " * 2
    write_figure(report(None, probe(runs=(run(),))), tmp_path / "f.svg", title=title, score="krs_kl")
    text = (tmp_path / "f.svg").read_text()
    assert title.strip() not in text
    assert all(text.count(word) >= 2 for word in ("title", "far", "panel,", "goes"))
    assert "…" not in text
