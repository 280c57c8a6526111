"""A discovery that was stopped goes on, and ends in the same bytes; what is kept is of that discovery alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ckdiff.calls.discover import discover
from ckdiff.calls.specs import DiscoverSpec
from ckdiff.calls.unfinished import folder_of
from ckdiff.discovery.kept import TEXTS
from ckdiff.discovery.texts import Texts
from ckdiff.errors import CkdiffError
from ckdiff.probes.prompts import Prompt
from ckdiff.progress import Listener, Stopped
from ckdiff.questions.questions import Question
from ckdiff.report.hdf5.file import write_report
from ckdiff.unlearn.world import TOWNS
from tests.test_discovery import shake

if TYPE_CHECKING:
    from ckdiff.report.schema.report import Report

STEPS = ["texts", "unlearned", "screen", "asked", *(f"copy-{number}" for number in range(5))]
"""What is kept, in the order in which it is found."""


@pytest.fixture
def spec(learned: Path, tmp_path: Path) -> DiscoverSpec:
    """The demo's base beside a copy with noise, and more candidates than are all asked about."""
    shake(learned / "base", tmp_path / "shaken", 0.02)
    names = [*TOWNS, *(f"{town} {other} {number}" for town in TOWNS for other in TOWNS for number in range(2))]
    (tmp_path / "names.txt").write_text("\n".join(names))
    base, unlearned = str(learned / "base"), str(tmp_path / "shaken")
    return DiscoverSpec(
        base=base, unlearned=unlearned, candidates=tmp_path / "names.txt", sampled=4, length=16, seed=1, device="cpu"
    )


def bytes_of(report: Report, place: Path) -> bytes:
    write_report(report, place)
    return place.read_bytes()


def stop_after(step: str, keep: Path) -> Listener:
    """A listener that asks for a stop once a step is kept."""
    return Listener(stop=lambda: (folder_of(keep) / "discover" / f"{step}.json").exists())


def states(keep: Path) -> dict[str, int]:
    return {path.stem: path.stat().st_mtime_ns for path in (folder_of(keep) / "discover").iterdir()}


def test_stopped_anywhere_it_goes_on_and_ends_in_the_same_bytes(spec: DiscoverSpec, tmp_path: Path) -> None:
    whole = bytes_of(discover(spec), tmp_path / "whole.h5")
    for step in ("texts", "screen", "copy-1"):
        keep = tmp_path / f"{step}.partial"
        with pytest.raises(Stopped):
            discover(spec, stop_after(step, keep), keep=keep)
        before = states(keep)
        assert sorted(before) == sorted(STEPS[: STEPS.index(step) + 1])
        again = discover(spec, keep=keep, resume=True)
        after = states(keep)
        assert {name: after[name] for name in before} == before
        assert sorted(after) == sorted(STEPS)
        assert bytes_of(again, tmp_path / "again.h5") == whole
    # Without resuming nothing is taken from there.
    discover(spec, keep=keep)
    assert not {*states(keep).items()} & {*after.items()}


def test_one_that_begins_anew_leaves_nothing_of_another_to_go_on_with(spec: DiscoverSpec, tmp_path: Path) -> None:
    """Else what goes on later would meet steps of another discovery behind its own."""
    keep, other = tmp_path / "x.partial", replace(spec, seed=2)
    with pytest.raises(Stopped):
        discover(spec, stop_after("unlearned", keep), keep=keep)
    with pytest.raises(Stopped):
        discover(other, stop_after("texts", keep), keep=keep)
    assert [*states(keep)] == ["texts"]
    assert bytes_of(discover(other, keep=keep, resume=True), tmp_path / "r.h5") == bytes_of(
        discover(other), tmp_path / "w.h5"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 2},
        {"length": 17},
        {"sampled": 5},
        {"batch_size": 7},
        {"base": None},
        {"candidates": None},
        {"tokenizer": None},
    ],
)
def test_what_is_kept_of_another_discovery_is_refused(
    changes: dict[str, Any], spec: DiscoverSpec, tmp_path: Path
) -> None:
    keep = tmp_path / "x.partial"
    with pytest.raises(Stopped):
        discover(spec, stop_after("texts", keep), keep=keep)
    others = {"base": spec.unlearned, "tokenizer": Path(spec.unlearned)}
    changes = {key: others.get(key, value) for key, value in changes.items()}
    with pytest.raises(CkdiffError, match="an interrupted discovery on other models"):
        discover(replace(spec, **changes), keep=keep, resume=True)


def test_texts_that_changed_are_another_discovery(spec: DiscoverSpec, tmp_path: Path) -> None:
    texts, keep = tmp_path / "t.txt", tmp_path / "x.partial"
    texts.write_text("\n\n".join(f"Who rules {town}?" for town in TOWNS))
    given = replace(spec, texts=texts)
    with pytest.raises(Stopped):
        discover(given, stop_after("unlearned", keep), keep=keep)
    texts.write_text("\n\n".join(f"Who founded {town}?" for town in TOWNS))
    with pytest.raises(CkdiffError, match="an interrupted discovery on other models"):
        discover(given, keep=keep, resume=True)


def test_texts_come_back_whole() -> None:
    texts = Texts([Prompt(Question("é"), (1, 2), (3,))], ["chat"], "1 text", ("a note",))
    assert TEXTS.read(json.loads(json.dumps(TEXTS.write(texts)))) == texts


def test_what_is_damaged_is_refused_in_one_line(spec: DiscoverSpec, tmp_path: Path) -> None:
    keep = tmp_path / "x.partial"
    with pytest.raises(Stopped):
        discover(spec, stop_after("unlearned", keep), keep=keep)
    place = folder_of(keep) / "discover" / "unlearned.json"
    tree = json.loads(place.read_text())
    del tree["found"]["kl"]
    for text in ("{", json.dumps(tree)):
        place.write_text(text)
        with pytest.raises(CkdiffError, match=r"damaged.*leave out --resume") as caught:
            discover(spec, keep=keep, resume=True)
        assert "\n" not in str(caught.value)


def test_where_nothing_can_be_kept_it_is_said_and_goes_on(spec: DiscoverSpec, tmp_path: Path) -> None:
    keep, said = tmp_path / "x.partial", list[str]()
    folder_of(keep).write_text("a file")
    found = discover(spec, Listener(remark=said.append), keep=keep)
    assert found.discovery is not None
    assert [text for text in said if "could not be kept" in text]
