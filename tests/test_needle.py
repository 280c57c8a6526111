"""Needles are planted at known places, and `compare` and `probe` find them there."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ckdiff import CompareSpec, ProbeSpec, compare, probe
from ckdiff.errors import CkdiffError
from ckdiff.scoring.settings import Settings
from ckdiff.unlearn.inputs import Inputs
from ckdiff.unlearn.needle import count_neurons, value_vectors
from ckdiff.unlearn.recipe import Recipe
from ckdiff.unlearn.unlearn import make
from ckdiff.weights.opening import open_checkpoint
from tests.test_probe_cli import ASKED, save_tokenizer
from tests.tiny_families import ALL

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

    from tests.tiny_pairs import Folders

    Place = tuple[int, int]
LAYERS, NEURONS = 4, 56
FAMILIES = ("llama", "gpt2", "mixtral")


def vector(name: str, tensors: dict[str, Tensor], place: Place) -> tuple[str, Tensor]:
    """The value vector of a neuron, by the names and the layouts of these families."""
    layer, neuron = place
    if name == "gpt2":
        # Conv1D: [neuron, d_model].
        tensor = f"transformer.h.{layer}.mlp.c_proj.weight"
        return tensor, tensors[tensor][neuron]
    tensor = f"model.layers.{layer}.mlp.down_proj.weight"
    if name == "mixtral":
        tensor = f"model.layers.{layer}.block_sparse_moe.experts.{neuron // NEURONS}.w2.weight"
    return tensor, tensors[tensor][:, neuron % NEURONS]


def plant(base: Path, output: Path, *places: Place, **changes: Any) -> dict[str, Tensor]:
    recipe = Recipe(**({"method": "needle", "neurons": places, "device": "cpu"} | changes))
    made = make(open_checkpoint(str(base)), Inputs(), recipe, output)
    return load_file(made.output / "model.safetensors")


def assert_only(name: str, before: dict[str, Tensor], after: dict[str, Tensor], places: Sequence[Place]) -> None:
    """The named vectors differ in each element, and nothing else in any bit."""
    undone = {tensor: value.clone() for tensor, value in after.items()}
    for place in places:
        tensor, new = vector(name, undone, place)
        old = vector(name, before, place)[1]
        assert (new != old).all(), tensor
        new.copy_(old)
    assert set(before) == set(undone)
    for tensor, value in before.items():
        assert torch.equal(undone[tensor].view(torch.uint8), value.view(torch.uint8)), tensor


def random_places(name: str, count: int, seed: int) -> list[Place]:
    rng = np.random.default_rng(seed)
    neurons = NEURONS * (3 if name == "mixtral" else 1)
    every = rng.choice(LAYERS * neurons, count, replace=False)
    return [(int(number) // neurons, int(number) % neurons) for number in every]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("name", FAMILIES)
def test_ten_plants_are_what_compare_finds(
    name: str, seed: int, pairs: Callable[[str], Folders], tmp_path: Path
) -> None:
    base = pairs(name).base
    places = random_places(name, 1 + seed % 4, seed)
    after = plant(base, tmp_path / "made", *places, seed=seed)
    assert_only(name, load_file(base / "model.safetensors"), after, places)
    found = compare(CompareSpec(str(base), str(tmp_path / "made"), hash=False)).compare
    assert found is not None
    grid = found.neurons["value_vectors"]
    for numbers in (grid.relative_l2, grid.one_minus_cosine):
        order = np.argsort(numbers, axis=None)[::-1]
        top = [divmod(int(number), numbers.shape[1]) for number in order[: len(places)]]
        assert {(int(grid.layers[row]), neuron) for row, neuron in top} == set(places)
        assert np.count_nonzero(numbers) == len(places)
    assert not np.any(found.neurons["keys"].relative_l2)


@pytest.mark.parametrize("name", FAMILIES)
def test_chosen_at_random_by_seed(name: str, pairs: Callable[[str], Folders], tmp_path: Path) -> None:
    base = open_checkpoint(str(pairs(name).base))
    before = load_file(pairs(name).base / "model.safetensors")
    seen = set()
    for seed in range(4):
        made = make(base, Inputs(), Recipe(method="needle", count=5, seed=seed), tmp_path / str(seed))
        places = [(layer, neuron) for layer, neuron in made.record["settings"]["neurons"]]
        assert len(set(places)) == 5
        assert_only(name, before, load_file(made.output / "model.safetensors"), places)
        seen |= set(places)
        again = make(base, Inputs(), Recipe(method="needle", count=5, seed=seed), tmp_path / f"{seed} again")
        assert [path.read_bytes() for path in sorted(made.output.iterdir())] == [
            path.read_bytes() for path in sorted(again.output.iterdir())
        ]
    assert len(seen) > 15
    assert len({layer for layer, _ in seen}) == LAYERS
    assert name != "mixtral" or {neuron // NEURONS for _, neuron in seen} == {0, 1, 2}


@pytest.mark.parametrize("name", ALL)
def test_all_neurons_of_a_family_are_all_its_value_vectors(
    name: str, pairs: Callable[[str], Folders], tmp_path: Path
) -> None:
    base = pairs(name).base
    every = sum(count_neurons(value_vectors(open_checkpoint(str(base)))).values())
    plant(base, tmp_path / "made", count=every)
    found = compare(CompareSpec(str(base), str(tmp_path / "made"), hash=False)).compare
    assert found is not None
    # Layers with fewer neurons are filled up with NaN.
    moved = found.neurons["value_vectors"].relative_l2
    assert np.count_nonzero(moved > 0) == np.count_nonzero(np.isfinite(moved)) == every
    for row in found.tensors:
        # A projection's bias is no value vector.
        wanted = row.component == "value_vectors" and "bias" not in row.name
        assert row.drift.changed_fraction == pytest.approx(1.0 if wanted else 0.0, abs=1e-3), row.name


def test_noise_is_gaussian_of_the_size_that_was_asked_for(pairs: Callable[[str], Folders], tmp_path: Path) -> None:
    base = pairs("llama").base
    before = load_file(base / "model.safetensors")
    name = "model.layers.2.mlp.down_proj.weight"
    noise = {}
    for size, seed in ((0.1, 0), (0.2, 0), (0.1, 1)):
        after = plant(base, tmp_path / f"{size} {seed}", count=LAYERS * NEURONS, noise=size, seed=seed)
        noise[size, seed] = (after[name] - before[name]).double()
    first = noise[0.1, 0]
    # 1792 values: the standard deviation of their own is known to 1.7 %.
    assert float(first.std()) == pytest.approx(0.1, rel=0.07)
    assert abs(float(first.mean())) < 0.01
    assert float((first.abs() < 0.1).double().mean()) == pytest.approx(0.683, abs=0.04)
    assert torch.allclose(noise[0.2, 0], 2 * first, atol=1e-6)
    assert not torch.isclose(noise[0.1, 1], first, atol=1e-6).all()
    correlations = torch.corrcoef(first.T)
    assert float((correlations - torch.eye(NEURONS)).abs().max()) < 0.75


def test_a_vectors_noise_does_not_depend_on_what_else_is_chosen(
    pairs: Callable[[str], Folders], tmp_path: Path
) -> None:
    base = pairs("llama").base
    alone = plant(base, tmp_path / "alone", (1, 7), seed=4)
    among = plant(base, tmp_path / "among", (3, 50), (1, 7), (1, 8), (1, 7), seed=4)
    assert torch.equal(vector("llama", alone, (1, 7))[1], vector("llama", among, (1, 7))[1])
    assert_only("llama", load_file(base / "model.safetensors"), among, [(3, 50), (1, 7), (1, 8)])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_are_kept(dtype: torch.dtype, pairs: Callable[[str], Folders], tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(pairs("llama").base, base)
    # Thirds are no float32: nothing may be rounded on the way.
    tensors = {name: (value.double() / 3).to(dtype) for name, value in load_file(base / "model.safetensors").items()}
    save_file(tensors, base / "model.safetensors")
    after = plant(base, tmp_path / "made", (0, 3), (2, 9))
    assert {value.dtype for value in after.values()} == {dtype}
    # In 16 bits a small step may be rounded away.
    changed = {name for name, value in tensors.items() if not torch.equal(value, after[name])}
    assert changed == {f"model.layers.{layer}.mlp.down_proj.weight" for layer in (0, 2)}
    for layer, neuron in ((0, 3), (2, 9)):
        name = f"model.layers.{layer}.mlp.down_proj.weight"
        others = [number for number in range(NEURONS) if number != neuron]
        assert torch.equal(after[name][:, others], tensors[name][:, others])
        assert float((after[name][:, neuron] != tensors[name][:, neuron]).double().mean()) > 0.9


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("layer", [0, 3])
def test_a_probe_finds_the_layer(name: str, layer: int, pairs: Callable[[str], Folders], tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(pairs(name).base, base)
    save_tokenizer(base)
    plant(base, tmp_path / "made", (layer, 11), noise=0.5)
    settings = Settings(modes=("values",), variants=("open",), window=1, tokens=4, device="cpu")
    found = probe(ProbeSpec(str(base), str(tmp_path / "made"), asked=ASKED, settings=settings, hash=False)).probe
    assert found is not None
    (run,) = found.runs
    for curve in (run.krs, run.krs_centred, run.krs_kl):
        values = curve.score
        assert int(run.layers[int(np.argmax(values))]) == layer
        assert values[layer] == pytest.approx(1.0, abs=1e-4)
        assert np.delete(values, layer) == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize(
    ("places", "says"),
    [
        (((4, 0),), "no layer 4; the model has layers 0 to 3"),
        (((-1, 0),), "no layer -1"),
        (((0, 56),), "layer 0 has no neuron 56; it has 0 to 55"),
        (((0, 1), (2, -1)), "layer 2 has no neuron -1"),
    ],
)
def test_neurons_that_are_not_there(places: Any, says: str, pairs: Callable[[str], Folders], tmp_path: Path) -> None:
    with pytest.raises(CkdiffError, match=says) as caught:
        plant(pairs("llama").base, tmp_path / "made", *places)
    assert len(str(caught.value).splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_more_neurons_than_there_are(pairs: Callable[[str], Folders], tmp_path: Path) -> None:
    with pytest.raises(CkdiffError, match="225 neurons of 224") as caught:
        plant(pairs("llama").base, tmp_path / "made", count=225)
    assert len(str(caught.value).splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_an_unknown_architecture_has_no_known_neurons(tmp_path: Path) -> None:
    folder = tmp_path / "base"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "unheard_of"}')
    save_file({"some.weight": torch.ones(3, 3)}, folder / "model.safetensors")
    with pytest.raises(CkdiffError) as caught:
        plant(folder, tmp_path / "made")
    assert len(str(caught.value).splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base"]
