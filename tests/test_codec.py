"""A new field is one line of its record, a new section one field of the report: each is added here, and comes back."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pytest
import xarray

from ckdiff.report.exports.json import to_json
from ckdiff.report.hdf5 import report as hdf5_report
from ckdiff.report.hdf5.file import read_report, write_report
from ckdiff.report.schema.behaviour import Mean
from ckdiff.report.schema.layout import Ids, Ragged, Rows, Says, fields_of
from ckdiff.report.schema.probe import Curve, Probe
from ckdiff.report.schema.report import Report
from ckdiff.shapes import LayerQuestion, PerQuestion
from tests.reports import comparison, probe, report, same


@dataclass(frozen=True, slots=True)
class Step:
    number: int
    loss: float
    ids: Ids
    said: Annotated[tuple[str, ...], Ragged("sample")]


@dataclass(frozen=True, slots=True)
class Attack:
    name: str
    given_away: bool
    rate: float
    recovered: Mean
    best: Curve
    answers: LayerQuestion
    steps: Annotated[tuple[Step, ...], Rows("step")]
    notes: Annotated[tuple[str, ...], Rows("note")]
    settings: Mapping[str, str]
    weights: PerQuestion | None = None


@dataclass(frozen=True, slots=True)
class WideProbe(Probe):
    temperature: Annotated[float, Says("of the samples")] = 1.0
    drawn: PerQuestion | None = None


@dataclass(frozen=True, slots=True)
class WideReport(Report):
    probe: WideProbe | None = None
    seance: Attack | None = None
    attacks: Mapping[str, Attack] | None = None


def attack(**changes: Any) -> Attack:
    found = Attack(
        name="forms",
        given_away=False,
        rate=1e-3,
        recovered=Mean(0.5, 0.25, float("nan")),
        best=Curve(*(np.linspace(0, 1, 3) + n for n in range(5))),
        answers=np.arange(12.0).reshape(3, 4),
        steps=(Step(0, 1.5, (1, 2), ("a", "", "c")), Step(1, 0.5, (), ())),
        notes=("ünd",),
        settings={"seed": "0"},
    )
    return replace(found, **changes)


def wide(**changes: Any) -> WideReport:
    old = report(comparison())
    own = {name: getattr(probe(), name) for name in Probe.__dataclass_fields__}
    found = WideReport(old.provenance, old.compare, WideProbe(**own, temperature=0.5), versions=old.versions)
    return replace(found, seance=attack(), **changes)


@pytest.fixture
def widened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(hdf5_report.FORMATS, "ckdiff", WideReport)


@pytest.mark.usefixtures("widened")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"seance": attack(weights=np.ones(4), steps=())},
        {"attacks": {"one": attack(), "other": attack(answers=np.zeros((3, 0)))}},
        {"probe": replace(wide().probe, drawn=np.arange(4.0))},  # type: ignore[type-var]
    ],
)
def test_what_is_added_comes_back_from_a_file(changes: Any, tmp_path: Path) -> None:
    found = replace(wide(), **changes)
    write_report(found, tmp_path / "r.h5")
    assert same(read_report(tmp_path / "r.h5"), found)
    with xarray.open_dataset(tmp_path / "r.h5", group="seance", engine="h5netcdf") as data:
        assert data.answers.dims == ("layer", "question")
        assert data.best_band_low.values.tolist() == [3.0, 3.5, 4.0]
        assert data.attrs["given_away"] == 0
    with xarray.open_dataset(tmp_path / "r.h5", group="seance/summary", engine="h5netcdf") as data:
        assert list(data.data_vars) == ["rate", "recovered", "recovered_low", "recovered_high"]


def test_what_is_added_is_in_the_json() -> None:
    found = json.loads(to_json(wide()))
    assert found["probe"]["temperature"] == 0.5
    assert found["seance"]["recovered"] == {"value": 0.5, "low": 0.25, "high": None}
    assert found["seance"]["best_band_high"] == [4.0, 4.5, 5.0]
    assert found["seance"]["steps"][0] == {"number": 0, "loss": 1.5, "ids": [1, 2], "said": ["a", "", "c"]}
    assert (found["seance"]["weights"], found["seance"]["settings"]) == (None, {"seed": "0"})


def test_an_older_file_lacks_it_and_an_older_reader_passes_over_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = report(comparison(), probe())
    write_report(older, tmp_path / "old.h5")
    write_report(wide(), tmp_path / "new.h5")
    assert same(read_report(tmp_path / "new.h5"), older)
    monkeypatch.setitem(hdf5_report.FORMATS, "ckdiff", WideReport)
    found = read_report(tmp_path / "old.h5")
    assert isinstance(found, WideReport)
    assert isinstance(found.probe, WideProbe)
    assert (found.seance, found.probe.temperature, found.probe.drawn) == (None, 1.0, None)


def test_a_type_that_has_no_place_is_named() -> None:
    @dataclass(frozen=True, slots=True)
    class Odd:
        figures: list[float]

    with pytest.raises(TypeError, match=r"list\[float\]: no place in a file; mark its field"):
        fields_of(Odd)
