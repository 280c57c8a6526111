"""The example makes what it says: a base that knows its world, and a copy that lost one town."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

SCRIPT = Path(__file__).parent.parent / "examples" / "make_pair.py"


@pytest.fixture(scope="module")
def example() -> Iterator[ModuleType]:
    import torch

    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    spec = importlib.util.spec_from_file_location("make_pair", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_pair"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["make_pair"]
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_base_knows_its_facts_and_unlearned_lost_one_town(example: ModuleType, tmp_path: Path) -> None:
    base, unlearned = example.make_pair(tmp_path)
    assert base.target >= 0.9
    assert base.unrelated >= 0.9
    assert unlearned.target <= 0.25
    assert unlearned.unrelated >= 0.9
    for side in ("base", "unlearned"):
        index = json.loads((tmp_path / side / "model.safetensors.index.json").read_text())
        assert len(set(index["weight_map"].values())) >= 2
        assert (tmp_path / side / "tokenizer.json").is_file()
    questions = [json.loads(line) for line in (tmp_path / "target.jsonl").read_text().splitlines()]
    assert len(questions) == 8
    assert all(example.FORGOTTEN in question["question"] for question in questions)


def test_a_probe_of_the_example_finds_something(example: ModuleType, tmp_path: Path) -> None:
    import ckdiff

    example.make_pair(tmp_path)
    settings = ckdiff.Settings(modes=("coeff", "values"), variants=("open",), window=1, device="cpu")
    sides = str(tmp_path / "base"), str(tmp_path / "unlearned")
    found = ckdiff.probe(ckdiff.ProbeSpec(*sides, questions=tmp_path / "target.jsonl", settings=settings)).probe
    assert found is not None
    coefficients, values = found.runs
    assert coefficients.krs_kl.band_low.max() > 0
    assert coefficients.krs_kl.score.argmax() == 3
    assert values.krs_kl.score.max() < 0.2


def test_the_same_call_gives_the_same_bytes(example: ModuleType, tmp_path: Path) -> None:
    for name in ("one", "two"):
        example.make_pair(tmp_path / name, train_steps=3, unlearn_steps=2)
    one, two = contents(tmp_path / "one"), contents(tmp_path / "two")
    assert one == two
    weights = [name for name in one if name.startswith("base/") and name.endswith(".safetensors")]
    assert weights
    assert any(one[name] != one[name.replace("base/", "unlearned/")] for name in weights)


def test_no_two_facts_have_the_same_question_or_answer(example: ModuleType) -> None:
    facts = example.world()
    assert len(facts) == 48
    assert len({fact.question for fact in facts}) == len(facts)
    assert len({fact.answer for fact in facts}) == len(facts)


def test_a_directory_with_something_in_it_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    run = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert str(tmp_path) in run.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_file_in_the_way_is_refused(example: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").write_text("precious")
    assert example.main([str(tmp_path / "mine")]) == 2
    assert "mine" in capsys.readouterr().err
    assert (tmp_path / "mine").read_text() == "precious"
