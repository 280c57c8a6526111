"""A campaign as a file: round trips, both engines of xarray, same bytes, damage, and what is refused."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import math
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ckdiff.errors import ReportError
from ckdiff.report.hdf5 import file as hdf5
from ckdiff.report.hdf5.columns import Array, encoded
from ckdiff.report.hdf5.file import check_sealed, read_any, read_campaign, read_report, write_campaign, write_report
from ckdiff.report.hdf5.report import from_tree, to_tree
from ckdiff.report.schema.campaign import JOB_STATES, MEASURES, Campaign, CampaignRun, PairDrift
from ckdiff.report.schema.probe import SCORES, Curve
from ckdiff.report.schema.verdict import LABELS, OUTCOMES
from tests.campaigns import (
    CAMPAIGNS,
    CONCEPTS,
    PAIRS,
    average,
    campaign,
    cell,
    compared_campaign,
    empty_campaign,
    hostile_campaign,
    job,
    measure,
    pair,
    run,
)
from tests.reports import comparison, opened, probe, report, same

ROOT = Path(__file__).parents[1]
SWEEPS = ("restore/coeff/open", "restore/attn+coeff/isolated", "restore/coeff/whole", "break/attn-weights/open")
GROUPS = (
    *("plan", "pairs", "jobs", "verdict", "measures", "drift", "means", "notes"),
    *(f"probe/{name}" for name in (*SWEEPS, "restore/values/open")),
    *(f"averages/restore/{name}" for name in ("coeff/open", "attn+coeff/isolated", "coeff/whole", "values/open")),
    "averages/break/coeff/open",
)
ONE_PAIR: dict[str, Any] = {
    "pairs": (pair("only"),), "cells": (), "drift": None, "measures": (), "runs": (),
}  # fmt: skip
RESTORE = ("restore", "coeff", "open")
FLOATS = st.floats()


def written(found: Campaign, path: Path) -> Path:
    write_campaign(found, path)
    return path


# ----------------------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_round_trip(name: str, tmp_path: Path) -> None:
    path = written(CAMPAIGNS[name], tmp_path / "c.h5")
    assert same(read_campaign(path), CAMPAIGNS[name])
    assert same(read_any(path), CAMPAIGNS[name])
    check_sealed(path)


def test_equality_of_the_tests_sees_differences() -> None:
    one, other = campaign(), campaign()
    assert same(one, other)
    other.runs[0].krs_kl.band_low[1, 0, 2] += 1e-9
    assert not same(one, other)
    assert not same(one, campaign(cells=one.cells[::-1]))


def test_hostile_texts_round_trip_but_for_what_utf8_cannot_hold(tmp_path: Path) -> None:
    found = hostile_campaign()
    back = read_campaign(written(found, tmp_path / "c.h5"))
    assert back.concepts == (*found.concepts[:-1], "\\x00\\ud800")
    assert back.plan == found.plan.replace("\x00\ud800", "\\x00\\ud800")
    assert back.cells[:5] == found.cells[:5]
    assert same(back.measures, found.measures)
    assert [one.group for one in back.averages[:-1]] == [one.group for one in found.averages[:-1]]


def test_a_plan_larger_than_an_attribute_is_kept_byte_for_byte(tmp_path: Path) -> None:
    plan = "\r\n".join(f'# Zeile {number} "ß" \\ \t ' for number in range(9000)) + "\n\n"
    assert len(plan.encode()) > 3 * 64_000
    assert read_campaign(written(campaign(plan=plan), tmp_path / "c.h5")).plan == plan


def texts() -> st.SearchStrategy[str]:
    """Any text that UTF-8 can hold, but for NUL."""
    return st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


def figures(*shape: int) -> st.SearchStrategy[Any]:
    """An array of any numbers, NaN and infinities among them, from a seed."""

    def filled(seed: int) -> Any:
        values = np.random.default_rng(seed).normal(size=shape)
        values[values > 1.2] = math.nan
        values[values < -2.0] = -math.inf
        return values

    return st.integers(0, 2**32).map(filled)


@st.composite
def campaigns(draw: st.DrawFn) -> Campaign:
    """A campaign of any shape, empty axes among them."""
    pairs = draw(st.lists(texts(), max_size=4, unique=True))
    concepts = draw(st.lists(texts(), max_size=4, unique=True))
    places = draw(st.permutations([(one, other) for one in pairs for other in concepts]))
    grid, label, gate = (len(pairs), len(concepts)), st.sampled_from(("", *LABELS)), st.sampled_from(("", *OUTCOMES))
    names = draw(st.lists(st.sampled_from(MEASURES), unique=True))
    word = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_+.-]{0,5}", fullmatch=True)
    sweeps = draw(st.lists(st.tuples(word, word, word), max_size=3, unique=True))
    groups = draw(st.lists(texts(), max_size=3, unique=True))
    axes = st.lists(st.integers(-1, 90), max_size=5, unique=True).map(lambda axis: np.array(sorted(axis), dtype="i8"))

    def curves(*shape: int) -> list[Curve]:
        return [Curve(*(draw(figures(*shape)) for _ in range(5))) for _ in SCORES]

    def sweep(name: tuple[str, str, str]) -> CampaignRun:
        axis = draw(axes)
        whole = (*grid, len(axis))
        raw, centred, kl = curves(*whole)
        return CampaignRun(*name, draw(st.integers(0, 99)), axis, raw, centred, kl, draw(figures(*whole)))

    averages = []
    for name in sweeps:
        for group in draw(st.permutations(groups))[: draw(st.integers(0, 3))]:
            axis = draw(axes)
            raw, centred, kl = curves(len(axis))
            top1 = [draw(figures(len(axis))) for _ in range(3)]
            changes: dict[str, Any] = {
                "window": draw(st.integers(0, 99)),
                "pairs": 3,
                "concepts": 2,
                "top1_unrestored": draw(FLOATS),
            }
            changes |= {"layers": axis, "krs": raw, "krs_centred": centred, "krs_kl": kl}
            changes |= dict(zip(("top1", "top1_low", "top1_high"), top1, strict=True))
            averages.append(average(group, name[1], name[2], name[0], **changes))
    components = tuple(draw(st.lists(texts(), max_size=3, unique=True)))
    drifts = [draw(figures(len(pairs), len(components))) for _ in range(4)]
    return Campaign(
        name=draw(texts()),
        plan=draw(texts()),
        pairs=tuple(pair(name, draw(texts()), required=draw(st.booleans()), base=draw(texts())) for name in pairs),
        concepts=tuple(concepts),
        jobs=tuple(
            job(draw(texts()), draw(texts()), draw(texts()), draw(st.sampled_from(JOB_STATES)), draw(texts()))
            for _ in range(draw(st.integers(0, 3)))
        ),
        cells=tuple(
            cell(*place, draw(gate), label=draw(label), verdict=draw(texts()), questions=draw(st.integers(0, 99)))
            for place in places[: draw(st.integers(0, len(places)))]
        ),
        drift=draw(st.sampled_from([None, PairDrift(components, *drifts)])),
        measures=tuple(measure(name, draw(figures(*grid))) for name in names),
        runs=tuple(map(sweep, sweeps)),
        averages=tuple(draw(st.permutations(averages))),
        means=tuple(
            dataclasses.replace(campaign().means[0], group=group, measure=name, value=draw(FLOATS))
            for group in groups
            for name in draw(st.lists(texts(), max_size=2, unique=True))
        ),
        outcome=draw(gate),
        complete=draw(st.booleans()),
        notes=tuple(draw(st.lists(texts(), max_size=3))),
        versions=draw(st.dictionaries(texts(), texts(), max_size=2)),
    )


@given(campaigns())
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_any_campaign_comes_back_from_its_tree(found: Campaign) -> None:
    assert same(from_tree(to_tree(found)), found)


@given(campaigns())
@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_any_campaign_comes_back_from_its_file(tmp_path_factory: pytest.TempPathFactory, found: Campaign) -> None:
    path = tmp_path_factory.mktemp("any") / "c.h5"
    assert same(read_campaign(written(found, path)), found)


# ---------------------------------------------------------------------------------------------------------- xarray


@pytest.mark.parametrize(
    ("name", "engine"),
    [*((name, "h5netcdf") for name in ("full", "compared", "empty")), ("full", "netcdf4"), ("empty", "netcdf4")],
)
def test_every_group_opens_in_xarray(name: str, engine: str, tmp_path: Path) -> None:
    path = written(CAMPAIGNS[name], tmp_path / "c.h5")
    with h5py.File(path) as file:
        groups = [group for group in GROUPS if group in file]
        holding: list[str] = []
        file.visititems(lambda where, item: holding.append(item.parent.name[1:]) if hasattr(item, "shape") else None)
    assert set(holding) == set(groups)
    assert name != "full" or len(groups) == len(GROUPS)
    with opened(path, engine) as found:
        assert set(groups) <= found.keys()
        for group in groups:
            assert list(found[group].variables)
            assert all(dimension in found[group].coords for dimension in found[group].dims), group


def words(values: Any) -> list[str]:
    return [raw.decode() if isinstance(raw, bytes) else str(raw) for raw in np.asarray(values).ravel().tolist()]


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_xarray_sees_the_numbers(engine: str, tmp_path: Path) -> None:
    found = campaign()
    path = written(found, tmp_path / "c.h5")
    with xarray.open_dataset(path, group="probe/restore/attn+coeff/isolated", engine=engine) as data:
        assert data.krs_kl.dims == ("pair", "concept", "layer")
        assert words(data["pair"]) == list(PAIRS)
        assert words(data["concept"]) == list(CONCEPTS)
        assert data.attrs["window"] == 5
        np.testing.assert_array_equal(data.krs_kl_band_low, found.runs[1].krs_kl.band_low)
        assert float(data.krs_kl.isel(pair=3, concept=1).sel(layer=3)) == found.runs[1].krs_kl.score[3, 1, 3]
    with xarray.open_dataset(path, group="verdict", engine=engine) as data:
        assert data.label.dims == ("pair", "concept")
        assert int(data.asked.sum()) == len(found.cells)
        assert words(data.gate.isel(pair=1)) == ["failed", "passed", "inconclusive"]
        assert words(data.label.isel(pair=3)) == ["no effect on these questions", "suppressed", ""]
    with xarray.open_dataset(path, group="measures", engine=engine) as data:
        np.testing.assert_array_equal(data.target_bleu_low, found.measures[0].low)
        assert {name + end for name in MEASURES for end in ("", "_low", "_high")} == set(data.data_vars)
    with xarray.open_dataset(path, group="drift", engine=engine) as data:
        assert found.drift is not None
        assert words(data.component) == ["keys", "value_vectors"]
        np.testing.assert_array_equal(data.relative_l2, found.drift.relative_l2)


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_xarray_sees_averages_of_groups_on_axes_of_their_own(engine: str, tmp_path: Path) -> None:
    found = campaign()
    path = written(found, tmp_path / "c.h5")
    small, large = (one for one in found.averages if (one.direction, one.mode, one.variant) == RESTORE)
    with xarray.open_dataset(path, group="averages/restore/coeff/open", engine=engine) as data:
        assert words(data.group) == ["gd", "npo"]
        assert data.layer.values.tolist() == large.layers.tolist()
        np.testing.assert_array_equal(data.krs_kl.isel(group=0)[:6], small.krs_kl.score)
        assert np.isnan(data.krs_kl.isel(group=0)[6:]).all()
        np.testing.assert_array_equal(data.krs_kl_band_high.isel(group=1), large.krs_kl.band_high)
        assert data.measured.sum("layer").values.tolist() == [6, 9]
        assert data.concepts.values.tolist() == [3, 2]
    with xarray.open_dataset(path, group="means", engine=engine) as data:
        assert words(data.measure) == ["target_bleu", "neutral_kl", "explained"]
        np.testing.assert_array_equal(
            data.value, [[0.12, 0.0046, math.nan], [0.2, *[math.nan] * 2], [*[math.nan] * 2, 0.93]]
        )
        assert data.pairs.values.tolist() == [[2, 2, 0], [2, 0, 0], [0, 0, 4]]
    with xarray.open_dataset(path, group="jobs", engine=engine) as data:
        assert words(data.state).count("done") == 25


# ------------------------------------------------------------------------------------------------------- the file


def test_same_campaign_same_bytes(tmp_path: Path) -> None:
    first = written(campaign(), tmp_path / "a.h5").read_bytes()
    (tmp_path / "elsewhere").mkdir()
    assert written(campaign(), tmp_path / "elsewhere" / "b.h5").read_bytes() == first
    again = written(read_campaign(tmp_path / "a.h5"), tmp_path / "d.h5").read_bytes()
    assert again == first
    code = "import sys; from tests.campaigns import campaign; from ckdiff.report.hdf5.file import write_campaign as w; "
    other = tmp_path / "c.h5"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "7"}
    done = subprocess.run([sys.executable, "-c", code + "w(campaign(), sys.argv[1])", other], env=environment)
    assert done.returncode == 0
    assert other.read_bytes() == first


def test_file_follows_the_layout(tmp_path: Path) -> None:
    with h5py.File(written(campaign(), tmp_path / "c.h5")) as file:
        assert file.attrs["format"] == b"ckdiff-campaign"
        assert {"schema_version", "versions", "complete", "name", "outcome"} <= set(file.attrs)
        kinds: set[str] = set()
        file.visititems(lambda _, item: kinds.add(item.dtype.str[1:]) if hasattr(item, "dtype") else None)
        assert {kind for kind in kinds if kind[0] != "S"} == {"i8", "u1", "f8"}
        scores = file["probe/restore/coeff/open/krs_kl"]
        assert (scores.compression, scores.shuffle, scores.fletcher32) == ("gzip", True, True)
        assert [len(axis) for axis in scores.dims] == [1, 1, 1]
        assert scores.chunks == scores.shape
        assert file["verdict/label"].id.get_type().get_cset() == h5py.h5t.CSET_UTF8


def test_a_chunk_of_three_axes_is_whole_rows_and_not_too_large(tmp_path: Path) -> None:
    for pairs, concepts, layers, rows in ((100, 10, 32, 25), (3, 200, 80, 1), (2, 1, 1, 2)):
        names = tuple(pair(f"p{number}") for number in range(pairs))
        values = np.zeros((pairs, concepts, layers))
        one = CampaignRun(*RESTORE, 5, np.arange(layers, dtype="i8"), *(Curve(*(values,) * 5),) * 3, values)
        concept_names = tuple(map(str, range(concepts)))
        found = campaign(
            pairs=names, concepts=concept_names, cells=(), drift=None, measures=(), runs=(one,), averages=(), means=()
        )
        path = written(found, tmp_path / "c.h5")
        with h5py.File(path) as file:
            assert file["probe/restore/coeff/open/krs"].chunks == (rows, concepts, layers)
        assert same(read_campaign(path), found)


# ----------------------------------------------------------------------------------------------- which kind it is


def test_a_campaign_is_no_report_of_a_pair_and_says_what_it_is(tmp_path: Path) -> None:
    path = written(campaign(), tmp_path / "c.h5")
    says = r"c\.h5: holds a campaign of 4 pairs; `ckdiff show` shows it, and each pair's own reports are under jobs/ of"
    with pytest.raises(ReportError, match=says):
        read_report(path)
    with pytest.raises(ReportError, match="a campaign of 1 pair;"):
        read_report(written(campaign(**ONE_PAIR), path))
    pair_report = report(comparison(), probe())
    write_report(pair_report, path)
    with pytest.raises(ReportError, match=r"is the report of one pair.*`ckdiff gather`"):
        read_campaign(path)
    assert same(read_any(path), pair_report)


def test_refuses_a_newer_schema(tmp_path: Path) -> None:
    path = written(campaign(schema_version=2, versions={"ckdiff": "0.9.1\x1b"}), tmp_path / "c.h5")
    writer = r"ckdiff 0\.9\.1\\x1b"
    says = rf"c\.h5: written by {writer} \(schema 2\); this one reads up to 1; upgrade to {writer} or later$"
    for read in (read_campaign, read_any, read_report):
        with pytest.raises(ReportError, match=says):
            read(path)


def test_only_the_seal_is_checked_where_that_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "c.h5"
    content = written(campaign(schema_version=99), path).read_bytes()
    check_sealed(str(path))
    path.write_bytes(content[:-1])
    with pytest.raises(ReportError, match=r"c\.h5: not a ckdiff report, or cut off|changed after"):
        check_sealed(path)
    with pytest.raises(ReportError, match="there is no such report"):
        check_sealed(tmp_path / "none.h5")


# --------------------------------------------------------------------------------------------------------- damage


def test_damage_is_one_line(tmp_path: Path) -> None:
    """Cut at many places, grown, and single bits flipped wherever they are."""
    content = written(compared_campaign(), tmp_path / "whole.h5").read_bytes()
    path, chance = tmp_path / "c.h5", random.Random(8)
    ends = {*range(12), *range(0, len(content), len(content) // 40), *range(len(content) - 85, len(content))}
    damaged = [*(content[:end] for end in sorted(ends)), content + b"\n", content + content]
    for _ in range(150):
        place = chance.randrange(len(content))
        damaged.append(content[:place] + bytes([content[place] ^ (1 << chance.randrange(8))]) + content[place + 1 :])
    for one in damaged:
        path.write_bytes(one)
        for read in (read_campaign, read_any):
            with pytest.raises(ReportError) as raised:
                read(path)
            assert str(raised.value).startswith(str(path))
            assert str(raised.value).isprintable()


@functools.cache
def whole_image() -> bytes:
    """A campaign's file without its seal."""
    with tempfile.TemporaryDirectory() as folder:
        return written(campaign(), Path(folder) / "c.h5").read_bytes()[: -hdf5.SEAL_LENGTH]


def resealed(path: Path, change: Any) -> Path:
    """A campaign's file after a change, under a seal that is right."""
    plain = path.with_suffix(".plain")
    plain.write_bytes(whole_image())
    with h5py.File(plain, "r+") as file:
        change(file)
    image = plain.read_bytes()
    path.write_bytes(image + hdf5.SEAL % hashlib.sha256(image).hexdigest().encode())
    return path


def _without(name: str) -> Any:
    return lambda file: file.__delitem__(name)


def _with(name: str, values: Any) -> Any:
    def change(file: Any) -> None:
        del file[name]
        file.create_dataset(name, data=values)

    return change


@pytest.mark.parametrize(
    "change",
    [
        _without("verdict"),
        _without("verdict/order"),
        _without("verdict/concept"),
        _without("pairs/base"),
        _without("measures/top1_low"),
        _without("probe/restore/coeff/open/krs_kl_band_low"),
        _without("averages/restore/coeff/open/measured"),
        _without("notes"),
        _with("verdict/label", np.full((4, 3), b"perfect")),
        _with("verdict/gate", np.full((4, 3), b"bribed")),
        _with("verdict/label", np.full((3, 4), b"mixed")),
        _with("verdict/label", np.full((4, 3), b"\xff\xfe")),
        _with("jobs/state", np.full(28, b"perhaps")),
        _with("measures/top1", np.zeros((4, 2))),
        _with("measures/top1", np.full((4, 3), b"none")),
        _with("probe/restore/coeff/open/top1", np.zeros((4, 3))),
        _with("probe/restore/coeff/open/layer", np.zeros((9, 2), dtype="i8")),
        _with("averages/restore/coeff/open/layer", np.zeros((9, 2), dtype="i8")),
        _with("averages/restore/coeff/open/krs", np.zeros((2, 8))),
        _with("means/order", np.zeros((2, 3), dtype="i8")),
        _with("drift/cosine", np.zeros(4)),
        lambda file: file.attrs.__setitem__("outcome", "splendid"),
        lambda file: file.attrs.__delitem__("complete"),
        lambda file: file["measures"].attrs.__setitem__("measures", "no JSON"),
        lambda file: file["measures"].attrs.__setitem__("measures", '["krs"]'),
    ],
)
def test_a_forged_file_is_refused_in_one_line(change: Any, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"c\.h5: (damaged or truncated|not written by ckdiff)") as raised:
        read_any(resealed(tmp_path / "c.h5", change))
    assert str(raised.value).isprintable()


def test_an_absurd_size_is_not_allocated(tmp_path: Path) -> None:
    def change(file: Any) -> None:
        file.create_dataset("probe/huge", shape=(1 << 50,), dtype="f8", chunks=(1 << 10,))

    with pytest.raises(ReportError, match="huge claims"):
        read_any(resealed(tmp_path / "c.h5", change))


# ------------------------------------------------------------------------------------------ records that do not fit


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"cells": (cell("gd-1", "Star Wars"),) * 2}, r"gd-1, Star Wars: a campaign holds a pair and concept once"),
        ({"cells": (cell("nobody", "Star Wars"),)}, "nobody, Star Wars: .* only where its axes have both"),
        ({"cells": (cell("gd-1", "nothing\n"),)}, r"gd-1, nothing\\n: "),
        ({"runs": (run(), run())}, "two runs are called restore/coeff/open"),
        ({"runs": (run(mode="../evil"),)}, r"under the name '\.\./evil'"),
        ({"averages": (average(), average())}, "once a group"),
        ({"averages": (average(layers=np.array([3, 1, 2, 4, 5, 0])),)}, "ascending order"),
        ({"averages": (average(variant=""),)}, "under the name ''"),
        ({"means": (campaign().means[0],) * 2}, "gd, target_bleu: a campaign holds a group and measure once"),
        (
            {"measures": (measure("krs", np.zeros((4, 3))),)},
            r"measures: a campaign holds each of .* once, and no other$",
        ),
        ({"measures": (measure("top1", np.zeros((4, 3))),) * 2}, "once, and no other"),
        ({"name": "x" * 70_000}, "name has 70000 bytes and a report holds 64000"),
    ],
)
def test_records_that_do_not_fit_together_are_refused_and_nothing_is_written(
    changes: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(ReportError, match=says):
        write_campaign(campaign(**changes), tmp_path / "c.h5")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_leaves_the_older_campaign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(campaign(), tmp_path / "c.h5")
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ReportError, match=r"c\.h5: cannot be written: No space left"):
        write_campaign(empty_campaign(), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_odd_float_type_in_a_tree_is_read_as_f8() -> None:
    """Whatever an older or newer writer chose, the records hold float64."""
    root = to_tree(campaign())
    node = root.groups["probe"].groups["restore"].groups["coeff"].groups["open"]
    node.arrays["top1"] = Array(node.arrays["top1"].values.astype("f4"), node.arrays["top1"].dimensions)
    back = from_tree(root).runs[0].top1
    assert back.dtype == np.float64
    np.testing.assert_array_equal(back, campaign().runs[0].top1.astype("f4"))


def test_names_of_an_axis_are_those_of_the_records() -> None:
    root = to_tree(campaign())
    for group in ("verdict", "measures", "drift"):
        assert root.groups[group].arrays["pair"].values.tolist() == [encoded(name) for name in PAIRS]
    assert root.groups["verdict"].arrays["concept"].values.tolist() == [encoded(name) for name in CONCEPTS]
