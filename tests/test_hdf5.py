"""The report file: round trips, both engines of xarray, same bytes, whole or not at all, damage is an error."""

from __future__ import annotations

import dataclasses
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
import xarray

from ckdiff.errors import ReportError
from ckdiff.report.hdf5 import apart
from ckdiff.report.hdf5 import file as hdf5
from ckdiff.report.hdf5.file import read_report, write_report
from ckdiff.report.hdf5.place import check_writable
from ckdiff.report.schema.comparison import Grid
from ckdiff.report.schema.probe import Curve
from tests.reports import (
    UNDEFINED,
    comparison,
    empty_comparison,
    empty_probe,
    hostile_probe,
    hostile_report,
    identical_comparison,
    moved,
    opened,
    probe,
    report,
    run,
    same,
    tensor,
    undefined_probe,
)

if TYPE_CHECKING:
    from ckdiff.report.hdf5.columns import Node
    from ckdiff.report.schema.report import Report

ODD = (
    tensor("nan", "keys", None, UNDEFINED),
    tensor("ω/β.weight[q]", "attn_q", 3, dataclasses.replace(moved(2.0), relative_l2=math.inf, max_abs_diff=-0.0)),
    dataclasses.replace(tensor("", "other", 0, moved(1e-300)), shape=(), dtype_base=""),
)
EMPTY_GRID = Grid(("keys",), np.zeros(0, "i8"), *(np.zeros((1, 0)),) * 4)
REPORTS = {
    "full": report(comparison()),
    "empty": report(empty_comparison()),
    "identical": report(identical_comparison()),
    "no comparison": dataclasses.replace(report(None), complete=False, versions={}),
    "odd values": report(comparison(tensors=ODD, neurons={}, notes=("",))),
    "no layers": report(comparison(layers=0, grid=EMPTY_GRID)),
    "probe": report(None, probe()),
    "both": report(comparison(), probe(layers=30, questions=7)),
    "undefined probe": report(None, undefined_probe()),
    "empty probe": report(None, empty_probe()),
}
RUNS = ("restore/coeff/open", "restore/attn+coeff/open", "break/coeff/open", "restore/coeff/isolated")
TABLES = ("tensors", "components", "only_in_base", "only_in_unlearned", "shape_mismatch", "config_changes")
LISTS = ("ignored", "notes")
PROBE_PARTS = ("loss_unlearned", "questions", "controls", "notes", "neurons")
RUN_ARRAYS = {
    *("first", "last", "krs_mean_of_ratios", "top1"),
    *("loss_mse", "loss_mse_centred", "loss_kl", "top1_questions", "loss_js"),
}
GROUPS = (
    *(f"provenance/{side}" for side in ("base", "unlearned")),
    *(f"compare/{name}" for name in (*TABLES, *LISTS, "grid")),
    *(f"compare/neurons/{name}" for name in ("value_vectors", "keys")),
    *(f"probe/{name}" for name in (*PROBE_PARTS, *RUNS, "restore/ancillary/open")),
    *(f"probe/neurons/{number}" for number in range(2)),
)


def written(report: Report, path: Path) -> Path:
    write_report(report, path)
    return path


@pytest.mark.parametrize("name", REPORTS)
def test_round_trip(name: str, tmp_path: Path) -> None:
    assert same(read_report(written(REPORTS[name], tmp_path / "r.h5")), REPORTS[name])


def test_equality_of_the_tests_sees_differences() -> None:
    a, b = report(comparison()), report(comparison())
    assert same(a, b)
    assert b.compare is not None
    b.compare.neurons["keys"].relative_l2[0, 0] += 1
    assert not same(a, b)


def test_hostile_names_round_trip_but_for_what_utf8_cannot_hold(tmp_path: Path) -> None:
    back = read_report(written(hostile_report(), tmp_path / "r.h5")).compare
    assert back is not None
    assert back.notes[:-1] == hostile_report().compare.notes[:-1]  # type: ignore[union-attr]
    assert back.notes[-1] == "\\x00\\ud800"


@pytest.mark.parametrize(
    ("name", "engine"),
    [
        *((name, "h5netcdf") for name in ("full", "empty", "no layers", "both", "undefined probe", "empty probe")),
        *((name, "netcdf4") for name in ("full", "empty", "empty probe")),
    ],
)
def test_every_group_opens_in_xarray(name: str, engine: str, tmp_path: Path) -> None:
    path = written(REPORTS[name], tmp_path / "r.h5")
    with h5py.File(path) as file:
        groups: set[str] = set()
        file.visititems(lambda where, item: groups.add(item.parent.name[1:]) if hasattr(item, "shape") else None)
        assert {group for group in GROUPS if group in file} <= groups
    with opened(path, engine) as found:
        assert groups <= found.keys()
        for group in groups:
            assert list(found[group].variables)
            assert all(dimension in found[group].coords for dimension in found[group].dims), group


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_xarray_sees_the_numbers(engine: str, tmp_path: Path) -> None:
    found = comparison()
    path = written(report(found), tmp_path / "r.h5")
    with xarray.open_dataset(path, group="compare/grid", engine=engine) as data:
        assert data.relative_l2.dims == ("component", "layer")
        np.testing.assert_array_equal(data.relative_l2, found.grid.relative_l2)
    with xarray.open_dataset(path, group="compare/neurons/keys", engine=engine) as data:
        assert data.one_minus_cosine.dims == ("layer", "neuron")
        assert float(data.one_minus_cosine.sel(layer=5, neuron=7)) == 0.125
    with xarray.open_dataset(path, group="compare/tensors", engine=engine) as data:
        assert data.layer.values.tolist()[:3] == [-1, 0, 0]
        assert np.char.decode(data.component.values.astype("S")).tolist()[0] == "embedding"


def test_file_follows_the_layout(tmp_path: Path) -> None:
    with h5py.File(written(report(comparison()), tmp_path / "r.h5")) as file:
        assert {"format", "schema_version", "versions", "complete"} <= set(file.attrs)
        assert set(file) == {"provenance", "compare"}
        kinds: set[str] = set()
        file.visititems(lambda _, item: kinds.add(item.dtype.str[1:]) if hasattr(item, "dtype") else None)
        assert {kind for kind in kinds if kind[0] != "S"} == {"i8", "u1", "f8", "f4"}
        numbers = file["compare/neurons/keys/relative_l2"]
        assert (numbers.compression, numbers.shuffle, numbers.fletcher32) == ("gzip", True, True)
        assert [len(axis) for axis in numbers.dims] == [1, 1]
        assert file["compare/tensors/tensor"].id.get_type().get_cset() == h5py.h5t.CSET_UTF8


def test_same_report_same_bytes(tmp_path: Path) -> None:
    first = written(report(comparison()), tmp_path / "a.h5").read_bytes()
    (tmp_path / "elsewhere").mkdir()
    assert written(report(comparison()), tmp_path / "elsewhere" / "b.h5").read_bytes() == first
    code = "import sys, pathlib, reports; from ckdiff.report.hdf5.file import write_report as w; "
    code += "w(reports.report(reports.comparison()), pathlib.Path(sys.argv[1]))"
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(hdf5.__file__).parents[2])])
    other = tmp_path / "c.h5"
    subprocess.run([sys.executable, "-c", code, other], check=True, env={**os.environ, "PYTHONPATH": paths})
    assert other.read_bytes() == first


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, OSError(28, "No space left on device")])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_interrupted_write_leaves_the_old_report(
    step: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(report(comparison()), tmp_path / "r.h5")
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, step, fail)
    expected = ReportError if isinstance(error, OSError) else error
    with pytest.raises(expected) as raised:  # type: ignore[arg-type]
        write_report(report(empty_comparison()), path)
    if isinstance(error, OSError):
        assert "No space left" in str(raised.value)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_write_keeps_a_link_and_honours_umask(tmp_path: Path) -> None:
    target, link = tmp_path / "real.h5", tmp_path / "link.h5"
    target.write_text("old")
    link.symlink_to(target)
    old = os.umask(0o027)
    try:
        write_report(report(None), link)
    finally:
        os.umask(old)
    assert link.is_symlink()
    assert read_report(target).compare is None
    assert target.stat().st_mode & 0o777 == 0o640


def test_check_writable(tmp_path: Path) -> None:
    check_writable(tmp_path / "new.h5")
    check_writable(written(report(None), tmp_path / "old.h5"))
    os.mkfifo(tmp_path / "pipe")
    for path, words in (
        (tmp_path, "is a directory"),
        (tmp_path / "no" / "r.h5", "does not exist"),
        (tmp_path / "old.h5" / "r.h5", "is a file"),
        (tmp_path / "pipe", "not a regular file"),
    ):
        with pytest.raises(ReportError, match=words):
            check_writable(path)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a place where not even root can make a file")
def test_check_writable_sees_a_place_where_no_file_can_be() -> None:
    with pytest.raises(ReportError, match=r"not writable \(the file system takes no new files there\); use -o FILE"):
        check_writable(Path("/proc/r.h5"))


def test_check_writable_names_the_file_that_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "a.h5").touch()
    for place in ("a.h5/x.h5", "a.h5/far/x.h5"):
        with pytest.raises(ReportError, match=r"x\.h5: \S*/a\.h5 is a file, and nothing can lie below it; use -o FILE"):
            check_writable(tmp_path / place)


def test_check_writable_leaves_nothing_behind(tmp_path: Path) -> None:
    check_writable(tmp_path / "r.h5")
    assert list(tmp_path.iterdir()) == []


def test_refuses_what_is_not_a_report(tmp_path: Path) -> None:
    (tmp_path / "text.h5").write_text("hello")
    (tmp_path / "empty.h5").touch()
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = 1
    (tmp_path / "sealed.h5").write_bytes(hdf5.seal_image((tmp_path / "other.h5").read_bytes()))
    for name, words in (
        ("missing.h5", "no such report"),
        ("text.h5", "not an HDF5 file"),
        ("empty.h5", "not an HDF5 file"),
        ("other.h5", "not a ckdiff report, or cut off"),
        ("sealed.h5", "HDF5, but not a ckdiff report"),
        (".", "not a file"),
    ):
        with pytest.raises(ReportError, match=words) as raised:
            read_report(tmp_path / name)
        assert str(tmp_path) in str(raised.value)
        assert "\n" not in str(raised.value)


def test_refuses_a_newer_schema(tmp_path: Path) -> None:
    newer = dataclasses.replace(report(comparison()), schema_version=2, versions={"ckdiff": "0.9.1\x1b"})
    writer = r"ckdiff 0\.9\.1\\x1b"
    words = rf"written by {writer} \(schema 2\); this one reads up to 1; upgrade to {writer} or later"
    with pytest.raises(ReportError, match=rf"r\.h5: {words}$"):
        read_report(written(newer, tmp_path / "r.h5"))
    unnamed = dataclasses.replace(newer, versions={})
    with pytest.raises(ReportError, match=r"newer ckdiff \(schema 2\); this one reads up to 1; upgrade ckdiff$"):
        read_report(written(unnamed, tmp_path / "r.h5"))


def test_what_is_the_same_is_read_once_and_what_has_changed_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = report(comparison()), report(empty_comparison())
    path, opened, load = tmp_path / "r.h5", list[Path](), apart.load_apart

    def counted(place: Path, name: str) -> Node:
        opened.append(place)
        return load(place, name)

    monkeypatch.setattr(hdf5, "load_apart", counted)
    for expected, times in ((first, 1), (first, 1), (second, 2), (first, 3)):
        assert same(read_report(written(expected, path)), expected)
        assert len(opened) == times
    # What is damaged is never taken from what was read before.
    path.write_bytes(path.read_bytes().replace(b"provenance", b"provenancy", 1))
    with pytest.raises(ReportError, match="checksum"):
        read_report(path)


def test_sees_edited_content(tmp_path: Path) -> None:
    path = written(report(comparison()), tmp_path / "r.h5")
    with h5py.File(path, "r+") as file:
        file["compare/tensors/one_minus_cosine"][0] = 0.5
    with pytest.raises(ReportError, match="checksum"):
        read_report(path)


def test_damage_is_an_error(tmp_path: Path) -> None:
    """Also where libhdf5 itself would crash: it never sees a damaged file."""
    content = written(report(comparison(layers=2)), tmp_path / "r.h5").read_bytes()
    path = tmp_path / "damaged.h5"
    ends = [*range(0, len(content), len(content) // 30), *range(len(content) - 85, len(content))]
    for damaged in [content[:end] for end in ends] + [content + b"\n"]:
        path.write_bytes(damaged)
        with pytest.raises(ReportError):
            read_report(path)
    for offset in np.random.default_rng(1).integers(0, len(content), 200).tolist():
        path.write_bytes(content[:offset] + bytes([content[offset] ^ (1 << (offset % 8))]) + content[offset + 1 :])
        with pytest.raises(ReportError):
            read_report(path)


def sealed_without(part: str, path: Path) -> Path:
    """A report that lacks a part, under a seal that is right."""
    plain = path.with_suffix(".plain")
    plain.write_bytes(written(report(comparison()), path).read_bytes()[: -hdf5.SEAL_LENGTH])
    with h5py.File(plain, "r+") as file:
        del file[part]
    path.write_bytes(hdf5.seal_image(plain.read_bytes()))
    return path


def test_a_missing_table_is_empty_and_a_missing_column_is_damage(tmp_path: Path) -> None:
    found = read_report(sealed_without("compare/only_in_base", tmp_path / "a.h5")).compare
    assert found is not None
    assert found.only_in_base == ()
    assert len(found.only_in_unlearned) == 5
    with pytest.raises(ReportError, match=r"damaged.*cosine.*run the comparison again"):
        read_report(sealed_without("compare/tensors/cosine", tmp_path / "b.h5"))


def test_an_absurd_size_is_not_allocated(tmp_path: Path) -> None:
    plain = tmp_path / "plain.h5"
    plain.write_bytes(written(report(comparison()), tmp_path / "r.h5").read_bytes()[: -hdf5.SEAL_LENGTH])
    with h5py.File(plain, "r+") as file:
        file.create_dataset("compare/huge", shape=(1 << 50,), dtype="f8", chunks=(1 << 10,))
    (tmp_path / "r.h5").write_bytes(hdf5.seal_image(plain.read_bytes()))
    with pytest.raises(ReportError, match="huge claims"):
        read_report(tmp_path / "r.h5")


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_xarray_sees_a_run(engine: str, tmp_path: Path) -> None:
    found = probe()
    path = written(report(comparison(), found), tmp_path / "r.h5")
    with xarray.open_dataset(path, group="probe/restore/attn+coeff/open", engine=engine) as data:
        expected = found.runs[1]
        assert data.loss_kl.dims == ("layer", "question")
        assert (data.attrs["window"], data["first"].values.tolist()) == (3, expected.first.tolist())
        np.testing.assert_array_equal(data.loss_kl, expected.loss_kl)
        np.testing.assert_array_equal(data.krs_kl_band_low, expected.krs_kl.band_low)
        assert float(data.krs_kl.sel(layer=2)) == 0.62
    with xarray.open_dataset(path, group="probe/restore/ancillary/open", engine=engine) as data:
        assert data.layer.values.tolist() == [-1]
    with xarray.open_dataset(path, group="probe/questions", engine=engine) as data:
        assert np.char.decode(data.answer_ids.values.astype("S")).tolist()[1] == "0 1 2"
        assert data.question.values.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_xarray_sees_a_set_of_neurons(engine: str, tmp_path: Path) -> None:
    path, (expected, whole) = written(report(None, probe()), tmp_path / "r.h5"), probe().neurons
    with xarray.open_dataset(path, group="probe/neurons", engine=engine) as data:
        assert data.layer.values.tolist() == [expected.layer, whole.layer] == [2, -1]
        assert data.window_score.dims == ("set",)
    with xarray.open_dataset(path, group="probe/neurons/0", engine=engine) as data:
        assert float(data.sizes_score.sel(size=3)) == 0.5
        assert data.neuron.values.tolist() == [17, 0, 39]
        np.testing.assert_array_equal(data.loss_kl, expected.loss_kl)


def test_a_probe_without_neurons_has_no_group_of_them(tmp_path: Path) -> None:
    found = probe(neurons=())
    with h5py.File(written(report(None, found), tmp_path / "r.h5")) as file:
        assert "neurons" not in file["probe"]
    assert same(read_report(tmp_path / "r.h5").probe, found)


def test_probe_follows_the_layout(tmp_path: Path) -> None:
    with h5py.File(written(report(None, probe()), tmp_path / "r.h5")) as file:
        assert set(file["probe"]) == {*PROBE_PARTS, "restore", "break"}
        assert file["probe"].attrs["layer_count"] == 6
        group = file["probe/restore/coeff/isolated"]
        scores = {score + end for score in ("krs", "krs_centred", "krs_kl", "krs_js") for end in Curve.ENDS.values()}
        assert set(group) == scores | {"layer", "question", *RUN_ARRAYS}
        assert all(group[name].dtype == "f8" for name in scores)
        assert all(len(axis) == 1 for name in scores for axis in group[name].dims)


def test_runs_keep_their_order_whatever_their_names(tmp_path: Path) -> None:
    found = probe().runs
    for order in (found, found[::-1]):
        back = read_report(written(report(None, probe(runs=order)), tmp_path / "r.h5")).probe
        assert back is not None
        names = [(one.direction, one.mode, one.variant) for one in back.runs]
        assert names == [(one.direction, one.mode, one.variant) for one in order]


def test_hostile_texts_of_a_probe_round_trip(tmp_path: Path) -> None:
    found = dataclasses.replace(hostile_probe(), runs=())
    back = read_report(written(report(None, found), tmp_path / "r.h5")).probe
    assert back is not None
    assert same(back.settings, found.settings)
    assert [row.text for row in back.questions[:-1]] == [row.text for row in found.questions[:-1]]
    assert same(back.controls[0], found.controls[0])


@pytest.mark.parametrize(
    ("runs", "words"),
    [
        ((run(), run(window=5)), "two runs are called restore/coeff/open"),
        ((run(mode="a/b"),), "the name 'a/b'"),
        ((run(direction="questions"),), "cannot be stored"),
        ((run(variant=".."),), "cannot be stored"),
        (hostile_probe().runs[:1], r"the name '\\x1b"),
    ],
)
def test_a_run_that_cannot_be_stored_is_not_dropped_in_silence(runs: object, words: str, tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=words) as raised:
        write_report(report(comparison(), probe(runs=runs)), tmp_path / "r.h5")
    assert str(raised.value).isprintable()
    assert list(tmp_path.iterdir()) == []
