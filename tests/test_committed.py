"""Files that an older ckdiff wrote: they open, show, gate and verify, and every figure of their JSON is still there.

`report-3e1de69` has every section (a comparison, a probe with neurons, answers, choices, neutral texts and a history,
a verdict and a gate); `campaign-3e1de69` three pairs, two concepts, a gate of each outcome and a job that was not run.
Both were measured on the demo's pair by the commit in their name, and so was the JSON beside them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import h5py
import pytest

from ckdiff.cli.app import run
from ckdiff.report.hdf5.file import read_any, read_campaign, read_report, write_campaign, write_report
from tests.reports import same, unpacked

if TYPE_CHECKING:
    from pathlib import Path

KINDS = {"report": (read_report, write_report), "campaign": (read_campaign, write_campaign)}


def committed(kind: str, folder: Path, suffix: str = "h5") -> Path:
    return unpacked(f"{kind}-3e1de69.{suffix}", folder)


def lost(old: Any, new: Any, where: str = "") -> list[str]:
    """Where something of an older tree is not in a newer one, which may hold more."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            place
            for name, value in old.items()
            for place in ([f"{where}/{name}"] if name not in new else lost(value, new[name], f"{where}/{name}"))
        ]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [place for number, (one, other) in pairs for place in lost(one, other, f"{where}/{number}")]
    return [] if type(old) is type(new) and old == new else [where]


def test_what_is_lost_is_seen() -> None:
    old = {"a": [1, {"b": 1.5}], "c": None}
    assert lost(old, {"a": [1, {"b": 1.5, "more": 0}], "c": None, "d": 1}) == []
    assert lost(old, {"a": [1, {"b": 1.0}]}) == ["/a/1/b", "/c"]
    assert lost(old, {"a": [1], "c": 0}) == ["/a", "/c"]
    assert lost([1, True], [1.0, 1]) == ["/0", "/1"]


@pytest.mark.parametrize("kind", KINDS)
def test_its_json_says_all_that_it_said(kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["show", str(committed(kind, tmp_path)), "--format", "json"]) == 0
    old = json.loads(committed(kind, tmp_path, "json").read_text())
    assert lost(old, json.loads(capfd.readouterr().out)) == []


@pytest.mark.parametrize("output_format", ["table", "md", "junit"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_shown(kind: str, output_format: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["show", str(committed(kind, tmp_path)), "--format", output_format]) == 0
    assert {"report": "suppressed", "campaign": "gd-1"}[kind] in capfd.readouterr().out


def test_it_is_gated_and_verified(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = committed("report", tmp_path)
    report = read_report(path)
    assert report.verdict is not None
    assert report.verdict.gate is not None
    assert (report.verdict.label, report.verdict.gate.outcome) == ("suppressed", "failed")
    (tmp_path / "policy.toml").write_text(report.verdict.gate.policy)
    assert run(["gate", str(path), "--policy", str(tmp_path / "policy.toml")]) == 1
    assert run(["verify", str(path), "--policy", str(tmp_path / "policy.toml")]) == 0
    assert "consistent, origin unproven: " in capfd.readouterr().out


def test_the_gates_of_a_campaign_are_read(tmp_path: Path) -> None:
    found = read_campaign(committed("campaign", tmp_path))
    assert found.outcome == "failed"
    assert [cell.gate for cell in found.cells] == ["failed", "passed"] * 2 + ["failed", "inconclusive"]
    assert [job.state for job in found.jobs].count("missing") == 1


@pytest.mark.parametrize("kind", KINDS)
def test_written_again_it_holds_the_same(kind: str, tmp_path: Path) -> None:
    """The same groups, arrays, dtypes, axes, chunks and attributes, each in its old order; there may be new ones."""
    path, (read, write) = committed(kind, tmp_path), KINDS[kind]
    write(read(path), tmp_path / "again.h5")  # type: ignore[operator]
    assert same(read_any(tmp_path / "again.h5"), read_any(path))
    with h5py.File(path) as old, h5py.File(tmp_path / "again.h5") as new:
        assert lost(contents(old), contents(new)) == []


def contents(group: Any) -> dict[str, Any]:
    """A group of a file as plain data."""
    found: dict[str, Any] = {f"@{name}": _plain(value) for name, value in group.attrs.items()}
    scales = {item: name for name, item in group.items()}
    for name, item in group.items():
        found[name] = contents(item) if isinstance(item, h5py.Group) else _dataset(item, scales)
    return found


def _dataset(item: Any, scales: dict[Any, str]) -> dict[str, Any]:
    axes = [scales[axis[0]] for axis in item.dims if len(axis)]
    kind = f"{item.dtype} {item.shape} {item.chunks} {item.compression} {item.shuffle} {item.fletcher32}"
    return {"kind": kind, "axes": axes, "comment": _plain(item.attrs.get("comment", "")), "values": item[()].tobytes()}


def _plain(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
