"""No honest report is accused: whatever the commands write agrees with itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ckdiff.audit.verify.report import check
from ckdiff.calls.compare import compare
from ckdiff.calls.specs import CompareSpec
from tests.checkpoints import llama, save
from tests.test_probe_cli import ASKED, QUICK, ckdiff, made, place

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., tuple[int, str, str]]

__all__ = ["ckdiff", "made", "place"]  # fixtures
pytestmark = pytest.mark.usefixtures("remembering")

PAIR = ("base", "unlearned")
TEXT = ("--questions", "questions.txt")
BEHAVE = ("behave", *PAIR, "--tokens", 4, "--device", "cpu")
PROBES: dict[str, list[tuple[object, ...]]] = {
    "everything": [("--mode", "all", "--variant", "all", "--direction", "both")],
    "without kl": [("--no-kl",)],
    "some layers": [("--layers", "3,1", "--window", 2, "--mode", "coeff,attn,ancillary")],
    "a wide window": [("--window", 5, "--mode", "attn+coeff,values")],
    "bfloat16": [("--dtype", "bfloat16")],
    "streamed": [("--stream", "on")],
    "one after the other": [("--mode", "coeff", "--variant", "open"), ("--mode", "values", "--variant", "isolated")],
    "neurons": [("--neurons", "--direction", "both", "--variant", "open,whole")],
}


def consistent(ckdiff: Run, report: str = "ckdiff.h5") -> None:
    status, out, _ = ckdiff("verify", report)
    assert (status, out.splitlines()[1:]) == (0, []), out
    assert out.startswith("consistent, origin unproven: ")


@pytest.mark.parametrize("name", PROBES)
def test_probes(ckdiff: Run, name: str) -> None:
    for options in PROBES[name]:
        # What ends in 3 (too uncertain, or a control that failed in bfloat16) is written too, and must agree.
        assert ckdiff("probe", *PAIR, *TEXT, *QUICK, *options)[0] in (0, 3)
    consistent(ckdiff)


def test_a_single_question(ckdiff: Run) -> None:
    assert ckdiff("probe", *PAIR, "--question", ASKED[0], *QUICK, "--mode", "coeff,values")[0] in (0, 3)
    assert ckdiff(*BEHAVE, "--question", ASKED[0], "--most-unrelated", 1, "--no-hash")[0] == 0
    consistent(ckdiff)


def test_given_answers(ckdiff: Run, place: Path) -> None:
    (place / "given.jsonl").write_text(
        '{"question": "who rules Velmar", "answer": "Thrane sold Oskary in Velmar"}\n' * 1
    )
    assert ckdiff("probe", *PAIR, "--questions", "given.jsonl", "--given-answers", *QUICK)[0] in (0, 3)
    assert ckdiff(*BEHAVE, "--questions", "given.jsonl", "--no-neutral", "--no-hash")[0] == 0
    consistent(ckdiff)


def test_all_parts_with_hashes_and_files(ckdiff: Run, place: Path) -> None:
    (place / "neutral.txt").write_text("who is in Velmar\n\nVelmar\n\nwhat is sold in Thrane\n\nwho")
    (place / "other.txt").write_text("who is in Velmar\nwhat is sold in Oskary")
    assert ckdiff("compare", *PAIR)[0] == 0
    assert ckdiff(*BEHAVE, *TEXT, "--neutral", "neutral.txt", "--unrelated", "other.txt")[0] == 0
    assert ckdiff(
        "probe", *PAIR, *TEXT, *QUICK[:-1], "--mode", "all", "--variant", "open,whole", "--direction", "both"
    )[0] in (0, 3)
    assert ckdiff("gate", "ckdiff.h5", "--save")[0] in (0, 1, 3)
    consistent(ckdiff)
    status, out, _ = ckdiff("verify", "ckdiff.h5", "--base", "base", "--unlearned", "unlearned")
    assert status == 0
    assert "files of base and unlearned hashed" in out


def test_a_pair_that_is_the_same(ckdiff: Run) -> None:
    assert ckdiff("compare", "base", "base", "--output", "same.h5")[0] == 0
    assert ckdiff(*BEHAVE[:1], "base", "base", *BEHAVE[3:], *TEXT, "--output", "same.h5")[0] in (0, 3)
    assert ckdiff("gate", "same.h5", "--save")[0] in (0, 1, 3)
    consistent(ckdiff, "same.h5")


ODD: tuple[Callable[[Any], Any], ...] = (
    lambda a: a,
    lambda a: a * 0,
    lambda a: -a,
    lambda a: a * np.float32(1.001),
    lambda a: a + np.float32(1e-6) * a.std() * np.cos(np.arange(a.size, dtype=np.float32)).reshape(a.shape),
    lambda a: a * np.float32(1e18),
    lambda a: a * np.float32(1e-18),
    lambda a: a[::-1].copy(),
    lambda a: np.where(np.arange(a.size).reshape(a.shape) == 3, np.float32(np.nan), a),
    lambda a: np.where(np.arange(a.size).reshape(a.shape) == 5, np.float32(np.inf), a),
    lambda a: np.where(np.arange(a.size).reshape(a.shape) == 1, np.float32(7), a),
)
"""What may have become of a tensor."""


@pytest.mark.parametrize("seed", range(20))
def test_no_honest_comparison_contradicts_itself(tmp_path: Path, seed: int) -> None:
    draw, tensors = np.random.default_rng(seed), llama(seed)
    sides = [{name: ODD[draw.integers(len(ODD))](one) for name, one in tensors.items()} for _ in range(2)]
    for side in sides[:: 1 if seed % 2 else -1][:1]:
        side |= {name: one for name, one in tensors.items() if "gate_proj" in name}
    places = [str(save(tmp_path / f"{number}", side)) for number, side in enumerate(sides)]
    found = check(compare(CompareSpec(places[0], places[1])))
    assert found.compared > 200
    assert [str(one) for one in found.found] == []
