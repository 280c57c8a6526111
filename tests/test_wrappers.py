"""Names with wrapper parts: read through at the front and in the middle, with a note, and never two tensors as one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ckdiff import CompareSpec, compare
from ckdiff.weights.opening import open_checkpoint
from tests.checkpoints import llama, save

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ckdiff.report.schema.comparison import Comparison

WRAPPERS: dict[str, tuple[Callable[[str], str], str]] = {
    "compiled": (lambda name: "_orig_mod." + name, "_orig_mod (21)"),
    "DDP": (lambda name: "module." + name, "module (21)"),
    "DDP, compiled": (lambda name: "module._orig_mod." + name, "_orig_mod (21), module (21)"),
    "compiled layer by layer": (lambda name: name.replace("layers.1.", "layers.1._orig_mod."), "_orig_mod (9)"),
    "checkpointed": (
        lambda name: name.replace(".mlp.", "._checkpoint_wrapped_module.mlp."),
        "_checkpoint_wrapped_module (6)",
    ),
    "FSDP": (
        lambda name: "_fsdp_wrapped_module." + name.replace("layers.0.", "layers.0._fsdp_wrapped_module."),
        "_fsdp_wrapped_module (21)",
    ),
    "FSDP, checkpointed": (
        lambda name: name.replace("layers.0.", "layers.0._fsdp_wrapped_module._checkpoint_wrapped_module."),
        "_checkpoint_wrapped_module (9), _fsdp_wrapped_module (9)",
    ),
    "FairScale": (lambda name: "_fsdp_wrapped_module._fpw_module." + name, "_fpw_module (21)"),
    "DDP in the middle": (lambda name: name.replace("self_attn.", "self_attn.module."), "module (8)"),
    "Fabric": (lambda name: "_forward_module." + name, "_forward_module (21)"),
    "Opacus": (lambda name: "_module." + name, "_module (21)"),
    "Lightning": (lambda name: "model." + name, "model (21)"),
    "one of a trainer's models": (lambda name: "policy.llm." + name, "policy.llm (21)"),
    "merged in place": (lambda name: "base_model.model." + name, "base_model.model (21)"),
    "PEFT's module": (lambda name: name.replace("q_proj.", "q_proj.base_layer."), "base_layer (2)"),
}


def run(base: Path, unlearned: Path) -> Comparison:
    found = compare(CompareSpec(str(base), str(unlearned))).compare
    assert found is not None
    return found


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save(tmp_path / "base", llama())


@pytest.mark.parametrize("way", WRAPPERS)
def test_wrapped_names_are_read_through(base: Path, tmp_path: Path, way: str) -> None:
    rename, parts = WRAPPERS[way]
    edited = {rename(name): value * np.float32(1.5 if "down_proj" in name else 1) for name, value in llama().items()}
    assert edited.keys() != llama().keys()
    for pair in ((base, save(tmp_path / "other", edited)), (tmp_path / "other", base)):
        found = run(*pair)
        assert len(found.tensors) == 21
        assert not found.only_in_base
        assert not found.only_in_unlearned
        moved = {row.component: row.drift.relative_l2 for row in found.components if not row.drift.identical}
        assert moved == {"value_vectors": pytest.approx(0.5 if pair[0] is base else 1 / 3, rel=1e-6)}
        assert any("wrapper parts" in note and parts in note for note in found.notes)


def test_a_model_saved_without_its_head_has_the_same_names(base: Path, tmp_path: Path) -> None:
    bare = {name.removeprefix("model."): value for name, value in llama().items() if name != "lm_head.weight"}
    found = run(base, save(tmp_path / "bare", bare))
    assert [row.name for row in found.only_in_base] == ["lm_head.weight"]
    assert all(row.drift.identical for row in found.tensors)
    assert len(found.tensors) == 20


def test_parts_of_unknown_architectures_are_read_through(tmp_path: Path) -> None:
    save(tmp_path / "a", {"x.weight": np.ones(3, np.float32)}, model_type="none")
    save(tmp_path / "b", {"module.x._orig_mod.weight": np.ones(3, np.float32)}, model_type="none")
    assert [row.name for row in run(tmp_path / "a", tmp_path / "b").tensors] == ["x.weight"]


def test_a_second_copy_does_not_take_a_plain_tensors_place(base: Path, tmp_path: Path) -> None:
    both = llama() | {"module." + name: value + 1 for name, value in llama().items()}
    found = run(base, save(tmp_path / "both", both))
    assert all(row.drift.identical for row in found.tensors)
    assert len(found.only_in_unlearned) == 21
    assert any("plain twin" in note for note in found.notes)


def test_a_student_and_its_teacher_are_not_guessed_at(tmp_path: Path) -> None:
    both = {f"{who}.{name}": value for who in ("student", "teacher") for name, value in llama().items()}
    assert open_checkpoint(str(save(tmp_path / "both", both))).shapes().keys() == both.keys()


def test_lora_inside_a_model_is_not_passed_over(base: Path, tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.q_proj."
    tensors = llama()
    tensors[name + "base_layer.weight"] = tensors.pop(name + "weight")
    tensors |= {name + "lora_A.default.weight": np.ones((2, 8), np.float32)}
    found = run(base, save(tmp_path / "adapted", tensors))
    assert name + "weight" in [row.name for row in found.only_in_base]
    assert any("not merged" in note for note in found.notes)
