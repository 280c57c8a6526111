"""What the GPU benchmark measures on: a pair that every command takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpu_models import SMALL, make

from ckdiff.questions.questions import read_questions

if TYPE_CHECKING:
    from pathlib import Path


def test_unrelated_questions_are_others(tmp_path: Path) -> None:
    make(tmp_path / "pair", next(iter(SMALL.values())), questions=3, tokens=2, unrelated=3)
    asked, others = (
        {one.text for one in read_questions(tmp_path / "pair" / name).questions}
        for name in ("questions.jsonl", "unrelated.jsonl")
    )
    assert (len(asked), len(others), asked & others) == (3, 3, set())
