"""A mixture is one model however its experts are stored: stacked, split, under any of the usual names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ckdiff import CompareSpec, compare
from ckdiff.probes.live.model import LiveModel
from ckdiff.weights.architectures import ARCHITECTURES
from ckdiff.weights.components import layout
from ckdiff.weights.opening import open_checkpoint
from tests.tiny_families import build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ckdiff.report.schema.comparison import Comparison

    State = dict[str, torch.Tensor]

MIXTURES = tuple(name for name, row in ARCHITECTURES.items() if row.sites.experts)
EXPERTS = ".experts."


def in_memory(state: State) -> State:
    """The state dict as it is, which is how `save_original_format=False` and FSDP's dumps store it."""
    return dict(state)


def split(place: str, gate: str, up: str, down: str) -> Callable[[State], State]:
    """One matrix an expert, gate and up apart."""

    def write(state: State) -> State:
        result: State = {}
        for name, value in state.items():
            start, found, leaf = name.partition(EXPERTS)
            start = start.rpartition(".")[0] + place
            if not found:
                result[name] = value
            for expert in range(len(value) if found else 0):
                at = f"{start}.experts.{expert}."
                if leaf == "down_proj":
                    result[f"{at}{down}.weight"] = value[expert]
                else:
                    parts = value[expert].chunk(2)
                    result |= {f"{at}{gate}.weight": parts[0], f"{at}{up}.weight": parts[1]}
        return result

    return write


def mlx(state: State) -> State:
    """Three stacked tensors, as mlx-lm stores them."""
    result: State = {}
    for name, value in state.items():
        start, found, leaf = name.partition(EXPERTS)
        if not found:
            result[name] = value
        elif leaf == "down_proj":
            result[f"{start}.switch_mlp.down_proj.weight"] = value
        else:
            parts = value.chunk(2, dim=1)
            result |= {
                f"{start}.switch_mlp.{n}_proj.weight": part for n, part in zip(("gate", "up"), parts, strict=True)
            }
    return result


def linear(state: State) -> State:
    """GPT-OSS's experts as plain linear layers with biases."""
    result: State = {}
    for name, value in state.items():
        start, found, leaf = name.partition(EXPERTS)
        if not found:
            result[name] = value
        kind = "bias" if leaf.endswith("_bias") else "weight"
        for expert in range(len(value) if found else 0):
            own, at = value[expert].T if kind == "weight" else value[expert], f"{start}.experts.{expert}."
            if leaf.startswith("down_proj"):
                result[f"{at}down_proj.{kind}"] = own
            else:
                result |= {f"{at}gate_proj.{kind}": own[0::2], f"{at}up_proj.{kind}": own[1::2]}
    return result


def unsloth(state: State) -> State:
    """GPT-OSS's experts as lists of linear layers, gate and up interleaved."""
    result: State = {}
    for name, value in state.items():
        start, found, leaf = name.partition(EXPERTS)
        if not found:
            result[name] = value
        kind, stem = ("bias", leaf[: -len("_bias")]) if leaf.endswith("_bias") else ("weight", leaf)
        for expert in range(len(value) if found else 0):
            own = value[expert].T if kind == "weight" else value[expert]
            result[f"{start}.experts.{stem}s.{expert}.{kind}"] = own
    return result


FORMS: dict[str, Callable[[State], State]] = {
    "in memory": in_memory,
    "Qwen's names": split(".mlp", "gate_proj", "up_proj", "down_proj"),
    "Mixtral's names": split(".block_sparse_moe", "w1", "w3", "w2"),
    "Mixtral's names elsewhere": split(".mlp", "w1", "w3", "w2"),
    "MLX": mlx,
}
OSS: dict[str, Callable[[State], State]] = {"in memory": in_memory, "linear layers": linear, "Unsloth": unsloth}
CASES = [(name, form) for name in MIXTURES for form in (OSS if name == "gpt_oss" else FORMS)]


@pytest.fixture(scope="session")
def mixtures(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path, Any]]:
    """By model type: the base and an edited model as their publishers store them, and the edited one in memory."""
    made: dict[str, tuple[Path, Path, Any]] = {}

    def make(name: str) -> tuple[Path, Path, Any]:
        if name not in made:
            root = tmp_path_factory.mktemp(name)
            model = build(name)
            model.save_pretrained(root / "base")
            with torch.no_grad():
                for parameter, value in model.named_parameters():
                    if parameter.endswith("experts.down_proj"):
                        value *= 1.5
                    elif parameter.endswith("experts.gate_up_proj"):
                        value[1] += 0.25
            model.save_pretrained(root / "edited")
            made[name] = root / "base", root / "edited", model
        return made[name]

    return make


def written(directory: Path, edited: Path, state: State) -> Path:
    directory.mkdir()
    (directory / "config.json").write_bytes((edited / "config.json").read_bytes())
    save_file(
        {name: value.clone(memory_format=torch.contiguous_format) for name, value in state.items()},
        directory / "model.safetensors",
    )
    return directory


def run(base: Path, unlearned: Path) -> Comparison:
    found = compare(CompareSpec(str(base), str(unlearned), hash=False)).compare
    assert found is not None
    return found


def numbers(found: Comparison) -> Iterator[tuple[str, float, float, int]]:
    for row in found.tensors:
        yield row.name, row.drift.one_minus_cosine, row.drift.relative_l2, row.drift.changed


def same(a: Comparison, b: Comparison) -> None:
    """Equal numbers, up to the order of summation."""
    for (name, *one), (other, *two) in zip(sorted(numbers(a)), sorted(numbers(b)), strict=True):
        assert name == other
        assert one == pytest.approx(two, rel=1e-9, abs=1e-15)
    for name, grid in a.neurons.items():
        np.testing.assert_allclose(grid.relative_l2, b.neurons[name].relative_l2, rtol=1e-6)


@pytest.mark.parametrize(("name", "form"), CASES)
def test_every_form_pairs_with_the_publishers(
    mixtures: Callable[[str], tuple[Path, Path, Any]], tmp_path: Path, name: str, form: str
) -> None:
    base, edited, model = mixtures(name)
    state = (OSS if name == "gpt_oss" else FORMS)[form](model.state_dict())
    other = written(tmp_path / "other", edited, state)
    there, back = run(base, other), run(other, base)
    for found in (there, back):
        assert (found.only_in_base, found.only_in_unlearned, found.shape_mismatch) == ((), (), ())
    assert not [note for note in there.notes if "counts as other" in note]
    same(there, run(base, edited))
    same(back, run(edited, base))
    moved = {row.component for row in there.components if not row.drift.identical}
    assert moved == {"keys", "value_vectors"}
    assert all(row.drift.identical for row in run(edited, other).tensors)


@pytest.mark.parametrize(("name", "form"), CASES)
def test_every_form_is_the_same_live_model(
    mixtures: Callable[[str], tuple[Path, Path, Any]], tmp_path: Path, name: str, form: str
) -> None:
    _, edited, model = mixtures(name)
    state = (OSS if name == "gpt_oss" else FORMS)[form](model.state_dict())
    live = LiveModel(
        open_checkpoint(str(written(tmp_path / "other", edited, state))), torch.float32, torch.device("cpu")
    )
    live.load()
    ids = torch.tensor([[5, 17, 3, 60, 22]])
    with torch.inference_mode():
        assert torch.equal(live.model(input_ids=ids).logits, model(input_ids=ids).logits)
    # What would be written back is what was stored.
    stored = dict(live.stored_values())
    assert all(torch.equal(stored[key], value) for key, value in state.items())


@pytest.mark.parametrize("name", [name for name in MIXTURES if name != "gpt_oss"])
def test_transformers_reads_the_form_that_it_writes(
    mixtures: Callable[[str], tuple[Path, Path, Any]], tmp_path: Path, name: str
) -> None:
    """The oracle of the stacked form is transformers' own file."""
    base, edited, model = mixtures(name)
    model.save_pretrained(tmp_path / "stacked", save_original_format=False)
    assert any(key.endswith("experts.gate_up_proj") for key in load_file(tmp_path / "stacked" / "model.safetensors"))
    same(run(base, tmp_path / "stacked"), run(base, edited))


def test_experts_that_are_stored_twice_are_not_counted_twice(
    mixtures: Callable[[str], tuple[Path, Path, Any]], tmp_path: Path
) -> None:
    base, edited, model = mixtures("mixtral")
    both = load_file(edited / "model.safetensors") | in_memory(model.state_dict())
    found = run(base, written(tmp_path / "both", edited, both))
    assert len({row.name for row in found.tensors}) == len(found.tensors)
    same(found, run(base, edited))
    assert any("counts as other: another tensor is" in note for note in found.notes)
    assert found.only_in_unlearned


def test_stacked_the_other_way_round_is_no_expert_and_noted() -> None:
    config = {"model_type": "qwen3_moe", "moe_intermediate_size": 24, "hidden_size": 32}
    found = layout({"model.layers.0.mlp.experts.gate_up_proj": (4, 32, 48)}, config)
    assert [piece.component for piece in found.pieces] == ["other"]
    assert "should be neurons" in found.notes[0]
