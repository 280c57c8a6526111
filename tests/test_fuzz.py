"""A few mutants of every kind of file, as `benchmarks/fuzz.py` makes them without end: each is read or refused."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
from fuzz import BATCH, fuzz
from fuzz_targets import TARGETS

from ckdiff.errors import CkdiffError

if TYPE_CHECKING:
    from pathlib import Path

FEW = {"configs": 4, "tokenizers": 4, "templates": 2, "images": 8, "trees": 16}


@pytest.mark.parametrize("name", TARGETS)
def test_a_mutant_is_read_or_refused(name: str, tmp_path: Path) -> None:
    act, found = TARGETS[name](tmp_path), set()
    for number in range(FEW.get(name, 24)):
        try:
            found.add(act(random.Random(f"{name} {number}")))
        except CkdiffError:
            found.add("refused")
    assert found <= {"read", "refused"}


def test_a_fuzzing_goes_on_where_it_stopped_and_counts_a_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fuzz as engine

    begun: list[int] = []

    def apart(name: str, first: int, count: int) -> tuple[list[dict[str, object]], str]:
        begun.append(first)
        rows: list[dict[str, object]] = [{"number": first + one, "what": "read", "detail": ""} for one in range(count)]
        return (rows[:2], "the process ended with -11: ") if first == 0 else (rows, "")

    monkeypatch.setattr(engine, "_apart", apart)
    assert fuzz(tmp_path, "trees", 5, float("inf")) == {"next": 5, "read": 4, "fault": 1}
    assert fuzz(tmp_path, "trees", 5 + BATCH, float("inf"))["next"] == 5 + BATCH
    assert begun == [0, 3, 5]
    assert "ended with -11" in (tmp_path / "faults.jsonl").read_text()
