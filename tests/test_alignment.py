"""Neurons and heads in another order or scale: found, taken back exactly, and nothing else is taken for that."""

from __future__ import annotations

import shutil
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ckdiff import CompareSpec, compare
from ckdiff.audit.verdict.evidence import aligned_tensors
from ckdiff.audit.verify.differences import Differences
from ckdiff.audit.verify.drift import check_drift
from ckdiff.probes.alignment import TOLERANCE, align_job
from ckdiff.probes.live.model import LiveModel
from ckdiff.progress import Listener
from ckdiff.scoring.runs import plan_runs
from ckdiff.weights.alignment.alignment import find_alignment
from ckdiff.weights.alignment.heads import Heads, find_heads
from ckdiff.weights.alignment.matching import match
from ckdiff.weights.alignment.moves import align_checkpoint
from ckdiff.weights.opening import open_checkpoint
from ckdiff.weights.pairs import suspect_layers
from ckdiff.weights.storage import Mapped
from tests.reordering import reorder
from tests.tiny_pairs import Folders, live_pair, load, measure, prompts_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ckdiff.report.schema.comparison import Comparison

FAMILIES = ("llama", "llama-biased", "phi3", "gpt2", "gpt_neox", "opt", "mixtral")


@pytest.fixture(scope="module")
def trained(
    pairs: Callable[[str], Folders], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Path, Path]]:
    """A base, and what a training in few digits makes of it: a third of all numbers are others."""
    made: dict[str, tuple[Path, Path]] = {}

    def make(family: str) -> tuple[Path, Path]:
        if family not in made:
            base, target = pairs(family).base, tmp_path_factory.mktemp(family) / "unlearned"
            shutil.copytree(base, target)
            tensors, generator = load_file(target / "model.safetensors"), torch.Generator().manual_seed(1)
            for name, value in tensors.items():
                noise = 0.02 * torch.randn(value.shape, generator=generator)
                tensors[name] = torch.where(torch.rand(value.shape, generator=generator) < 0.3, value + noise, value)
            save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
            made[family] = base, target
        return made[family]

    return make


def compared(base: Path, unlearned: Path) -> Comparison:
    found = compare(CompareSpec(str(base), str(unlearned), hash=False)).compare
    assert found is not None
    return found


def differing(found: Comparison) -> list[str]:
    """Where a verification says that rows do not follow from those of tensors."""
    differences = Differences()
    check_drift(found, differences)
    return [one.where for one in differences.found]


@pytest.mark.parametrize("family", FAMILIES)
def test_what_was_reordered_is_compared_as_if_it_had_not_been(
    trained: Callable[[str], tuple[Path, Path]], tmp_path: Path, family: str
) -> None:
    """The function is the same, what is stored is not, and aligned drift is that of the plain pair."""
    base, unlearned = trained(family)
    hidden = reorder(unlearned, tmp_path / "hidden")
    ids = torch.tensor([[5, 17, 3, 60, 22, 9, 41]])
    logits = [logits_of(path, ids) for path in (unlearned, hidden)]
    assert torch.allclose(logits[0], logits[1], atol=1e-4, rtol=1e-4), "the copy is the same function"
    plain, found = compared(base, unlearned), compared(base, hidden)
    assert plain.alignment == ()
    assert plain.aligned == ()
    assert plain.aligned_components == ()
    moved = {row.layer for row in found.alignment if row.kind == "neurons"}
    assert moved == {0, 1, 2, 3}
    assert all(row.cosine_before < 0.5 and row.cosine_after > 0.99 for row in found.alignment if row.kind == "neurons")
    for row, wanted in zip(aligned_tensors(found), plain.tensors, strict=True):
        assert row.drift.relative_l2 == pytest.approx(wanted.drift.relative_l2, rel=1e-3, abs=1e-6), row.name
    values = {row.component: row.drift.cosine for row in found.aligned_components}
    assert values["keys"] > 0.99
    assert min(row.drift.cosine for row in found.components if row.component == "keys") < 0.5
    assert differing(found) == []
    moved_row = next(row for row in found.aligned if row.component == "keys")
    for name in ("norm_base", "norm_unlearned", "one_minus_cosine"):
        drift = replace(moved_row.drift, **{name: 1.01 * getattr(moved_row.drift, name) + 0.01})
        told = tuple(replace(row, drift=drift) if row is moved_row else row for row in found.aligned)
        assert any(moved_row.name in where for where in differing(replace(found, aligned=told))), name
    other = replace(moved_row, layer=(moved_row.layer or 0) + 1)
    assert differing(replace(found, aligned=(other, *found.aligned[1:]))) != []
    assert "compare/aligned_components" in differing(replace(found, aligned_components=()))
    assert differing(replace(found, aligned=found.aligned[1:])) != []


@pytest.mark.parametrize("family", FAMILIES)
def test_aligned_weights_are_the_same_function(
    trained: Callable[[str], tuple[Path, Path]], tmp_path: Path, family: str
) -> None:
    folders = trained(family)
    base = open_checkpoint(str(folders[0]))
    stored = open_checkpoint(str(reorder(folders[1], tmp_path / "hidden", range(1, 3))))
    suspects = suspect_layers(base, stored)
    assert suspects >= {1, 2}
    alignment = find_alignment(base, stored, suspects)
    assert {row.layer for row in alignment.rows} == {1, 2}
    aligned = align_checkpoint(stored, base, alignment.moves)
    ids, live = torch.tensor([[5, 17, 3, 60, 22, 9, 41]]), LiveModel(stored, torch.float32, torch.device("cpu"))
    found = []
    for form in (stored, aligned):
        live.read_from(form)
        live.load()
        found.append(live.model(input_ids=ids, use_cache=False).logits)
    assert not torch.equal(found[0], found[1]), "other numbers"
    assert torch.allclose(found[0], found[1], atol=1e-4, rtol=1e-4)
    plain = open_checkpoint(str(folders[1]))
    names = {name for name in plain.shapes() if "mlp" in name or ".fc" in name or "experts" in name}
    for name in names:
        wanted, got = Mapped(plain).raw(name), Mapped(aligned).raw(name)
        assert np.allclose(got, wanted, rtol=1e-4, atol=1e-5), name


def logits_of(path: Path, ids: torch.Tensor) -> torch.Tensor:
    live = LiveModel(open_checkpoint(str(path)), torch.float32, torch.device("cpu"))
    live.load()
    with torch.inference_mode():
        found: torch.Tensor = live.model(input_ids=ids, use_cache=False).logits
    return found


def edited(folders: Folders, target: Path, **edits: Callable[[torch.Tensor], torch.Tensor]) -> Path:
    """A copy of the base with some matrices of layer 1's MLP changed."""
    shutil.copytree(folders.base, target)
    tensors = load_file(target / "model.safetensors")
    for part, edit in edits.items():
        name = f"model.layers.1.mlp.{part}_proj.weight"
        tensors[name] = edit(tensors[name]).contiguous()
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})
    return target


@pytest.mark.parametrize(
    "edits",
    [
        {"down": lambda w: w.roll(3, 1)},
        {"gate": lambda w: w.roll(3, 0), "up": lambda w: w.roll(3, 0)},
        {"down": lambda w: 0.5 * w},
        {"up": lambda w: 3 * w},
        {"up": lambda w: 3 * w, "down": lambda w: w / 2},
        {"up": lambda w: -w},
        {"gate": lambda w: 2 * w, "down": lambda w: w / 2},
        {"down": lambda w: 0 * w},
    ],
    ids=["values roll", "keys roll", "values halved", "up tripled", "unequal", "sign", "gate scaled", "zeroed"],
)
def test_what_changes_the_function_is_no_other_order(
    pairs: Callable[[str], Folders], tmp_path: Path, edits: dict[str, Callable[[torch.Tensor], torch.Tensor]]
) -> None:
    folders = pairs("llama")
    found = compared(folders.base, edited(folders, tmp_path / "edited", **edits))
    assert found.alignment == ()
    assert found.aligned == ()


@pytest.mark.parametrize("family", FAMILIES)
def test_an_edit_of_everything_is_no_scale(pairs: Callable[[str], Folders], family: str) -> None:
    """A fifth of every number is noise: neurons are longer and shorter by chance, and keys and values agree."""
    folders = pairs(family)
    assert compared(folders.base, folders.unlearned).alignment == ()


def test_an_edit_beside_another_order_is_still_an_edit(pairs: Callable[[str], Folders], tmp_path: Path) -> None:
    """Value vectors of one layer, replaced by noise and then shuffled with their keys: the keys tell where they are."""
    folders = pairs("llama")
    noise = torch.randn(32, 56, generator=torch.Generator().manual_seed(5))
    edits = {"down": lambda w: w + 3 * w.norm() / noise.norm() * noise}
    hidden = reorder(edited(folders, tmp_path / "edited", **edits), tmp_path / "hidden", scales=False)
    plain, found = compared(folders.base, tmp_path / "edited"), compared(folders.base, hidden)
    for row, wanted in zip(aligned_tensors(found), plain.tensors, strict=True):
        assert row.drift.identical == wanted.drift.identical, row.name
        assert row.drift.relative_l2 == pytest.approx(wanted.drift.relative_l2, rel=1e-6), row.name


def test_scaled_back_is_what_it_was(pairs: Callable[[str], Folders], tmp_path: Path) -> None:
    """What no edit reached is bit for bit the base's, so that no layer is named that did not change."""
    folders = pairs("llama")
    found = compared(folders.base, reorder(folders.base, tmp_path / "hidden"))
    assert all(row.drift.identical for row in aligned_tensors(found))
    assert not all(row.drift.identical for row in found.tensors)


def test_twins_and_dead_neurons_find_a_place(pairs: Callable[[str], Folders], tmp_path: Path) -> None:
    folders = pairs("llama")

    def doubled(weight: torch.Tensor) -> torch.Tensor:
        rows = weight if weight.shape[0] == 56 else weight.T
        rows = rows.clone()
        rows[3], rows[10:14] = rows[2], 0
        return rows if weight.shape[0] == 56 else rows.T

    edits = dict.fromkeys(("gate", "up", "down"), doubled)
    base = edited(folders, tmp_path / "base", **edits)
    found = compared(base, reorder(base, tmp_path / "hidden"))
    assert all(row.drift.identical for row in aligned_tensors(found))


def test_what_was_pruned_was_not_scaled_by_nothing() -> None:
    """Most elements are 0 where the base's are not: a factor that nothing undoes."""
    random = np.random.default_rng(0)
    base = Heads(*(random.standard_normal((4, 64)).astype(np.float32) for _ in range(4)))
    pruned = Heads(*(np.where(np.abs(rows) < 1.3, np.float32(0), rows) for rows in base))
    assert find_heads(base, pruned, scalable=True).is_identity


def test_what_resembles_nothing_stays_where_it_is() -> None:
    likeness = np.full((5, 5), -0.5, np.float32)
    likeness[0, 1] = likeness[1, 0] = 0.3
    moved = np.array([0, 1, 3])
    assert match(lambda a, b: likeness[np.ix_(a, b)], moved, 5).tolist() == [1, 0, 2, 3, 4]
    likeness[3, 1] = 0.4
    assert match(lambda a, b: likeness[np.ix_(a, b)], moved, 5).tolist() == [3, 0, 2, 1, 4]


def test_a_probe_scores_what_was_reordered_as_the_plain_pair(
    trained: Callable[[str], tuple[Path, Path]], tmp_path: Path
) -> None:
    base, unlearned = trained("llama")
    hidden = reorder(unlearned, tmp_path / "hidden")
    plan = plan_runs(("restore", "break"), ("coeff", "values", "keys"), ("open", "whole"), (0, 2), 1, 4, True, True)
    found, notes = [], []
    for path in (unlearned, hidden):
        pair = live_pair(Folders(base, path), torch.float32)
        job: Any = SimpleNamespace(pair=pair, prompts=prompts_of(), notes=[], suspects=None, aligned="")
        job.settings = SimpleNamespace(batch_size=2)
        with torch.inference_mode():
            align_job(job, Listener())
        notes.append(job.notes)
        found.append(measure(load(pair), plan))
    assert notes[0] == []
    assert "the neurons of layers 0-3 in another order and scale" in notes[1][0]
    assert "measured in the base's order" in notes[1][0]
    whole = [one.losses.mse / one.unlearned.mse for one in found]
    assert np.allclose(whole[0], whole[1], atol=1e-4)


def test_what_would_not_be_the_same_function_is_left_as_it_is(
    trained: Callable[[str], tuple[Path, Path]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, unlearned = trained("llama")
    pair = live_pair(Folders(base, reorder(unlearned, tmp_path / "hidden")), torch.float32)
    stored = pair.unlearned.checkpoint
    job: Any = SimpleNamespace(pair=pair, prompts=prompts_of(), notes=[], suspects=None, aligned="")
    job.settings = SimpleNamespace(batch_size=2)
    monkeypatch.setitem(TOLERANCE, torch.float32, 0.0)
    with torch.inference_mode():
        align_job(job, Listener())
    assert pair.unlearned.checkpoint is stored
    assert job.aligned == ""
    assert "measured as it is stored" in job.notes[0]
