"""`compare` end to end: invariants, planted edits that must be found, and findings that must be named."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ckdiff import CompareSpec, compare
from ckdiff.cli.app import run as cli
from ckdiff.options import OptionError
from ckdiff.weights.hashing import ShardHasher
from tests.checkpoints import llama, save

if TYPE_CHECKING:
    from pathlib import Path

    from ckdiff.report.schema.comparison import Comparison


def run(base: Path, unlearned: Path) -> Comparison:
    found = compare(CompareSpec(str(base), str(unlearned))).compare
    assert found is not None
    return found


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return save(tmp_path / "base", llama())


def test_a_checkpoint_has_not_drifted_from_itself_or_resharded(base: Path, tmp_path: Path) -> None:
    for other in (base, save(tmp_path / "resharded", llama(), shards=3)):
        found = run(base, other)
        assert len(found.tensors) == 21
        assert all(row.drift.identical and row.drift.cosine == 1.0 for row in found.tensors)
        assert all(row.drift.relative_l2 == 0 and row.drift.max_abs_diff == 0 for row in found.components)
        assert np.all(found.grid.one_minus_cosine == 0)
        assert not np.any(found.neurons["keys"].relative_l2)
        assert found.config_changes == ()


def test_a_wider_copy_has_not_drifted(base: Path, tmp_path: Path) -> None:
    wide = {name: value.astype(np.float64) for name, value in llama().items()}
    found = run(base, save(tmp_path / "wide", wide))
    assert {row.dtype_unlearned for row in found.tensors} == {"F64"}
    assert all(row.drift.identical for row in found.tensors)


@pytest.mark.parametrize(
    ("tensor", "component", "where", "neuron"),
    [
        ("mlp.down_proj", "value_vectors", (3, 7), 7),
        ("mlp.gate_proj", "keys", (5, 2), 5),
        ("mlp.up_proj", "keys", (11, 0), 11),
        ("self_attn.q_proj", "attn_q", (1, 1), None),
        ("self_attn.v_proj", "attn_v", (0, 3), None),
    ],
)
def test_a_planted_edit_is_found(
    base: Path, tmp_path: Path, tensor: str, component: str, where: tuple[int, int], neuron: int | None
) -> None:
    tensors = llama()
    name = f"model.layers.1.{tensor}.weight"
    tensors[name][where] += 0.5
    found = run(base, save(tmp_path / "edited", tensors))
    changed = [row for row in found.tensors if not row.drift.identical]
    assert [row.name for row in changed] == [name]
    assert (changed[0].component, changed[0].layer, changed[0].drift.changed) == (component, 1, 1)
    assert changed[0].drift.max_abs_diff == pytest.approx(0.5, rel=1e-6)
    moved = {row.component for row in found.components if not row.drift.identical}
    assert moved == {component}
    row = found.grid.components.index(component)
    assert np.argwhere(found.grid.relative_l2 > 0).tolist() == [[row, 1]]
    if neuron is not None:
        assert np.argwhere(found.neurons[component].relative_l2 > 0).tolist() == [[1, neuron]]


def test_keys_of_a_neuron_are_gate_and_up_as_one_vector(base: Path, tmp_path: Path) -> None:
    edited = llama(1)
    found = run(base, save(tmp_path / "other", edited))
    first = np.concatenate([llama()[f"model.layers.0.mlp.{part}_proj.weight"] for part in ("gate", "up")], axis=1)
    second = np.concatenate([edited[f"model.layers.0.mlp.{part}_proj.weight"] for part in ("gate", "up")], axis=1)
    first, second = first.astype(np.float64), second.astype(np.float64)
    expected = np.linalg.norm(second - first, axis=1) / np.linalg.norm(first, axis=1)
    np.testing.assert_allclose(found.neurons["keys"].relative_l2[0], expected, rtol=1e-6)
    cosine = (first * second).sum(1) / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)
    np.testing.assert_allclose(found.neurons["keys"].one_minus_cosine[0], 1 - cosine, rtol=1e-5)


def test_a_component_is_one_long_vector(base: Path, tmp_path: Path) -> None:
    edited = {name: value * np.float32(1 + 0.1 * index) for index, (name, value) in enumerate(llama().items())}
    found = run(base, save(tmp_path / "scaled", edited))
    for row in found.components:
        names = [tensor.name for tensor in found.tensors if tensor.component == row.component]
        a = np.concatenate([llama()[name].ravel() for name in names]).astype(np.longdouble)
        b = np.concatenate([edited[name].ravel() for name in names]).astype(np.longdouble)
        norm_a, norm_b = np.sqrt(a @ a), np.sqrt(b @ b)
        expected = float((((b - a) ** 2).sum() - (norm_a - norm_b) ** 2) / (2 * norm_a * norm_b))
        assert row.drift.one_minus_cosine == pytest.approx(expected, rel=1e-4, abs=1e-15)
        assert row.drift.relative_l2 == pytest.approx(float(np.sqrt(((b - a) ** 2).sum()) / norm_a), rel=1e-6)


def test_what_does_not_match_is_named(base: Path, tmp_path: Path) -> None:
    tensors = llama()
    del tensors["model.norm.weight"]
    tensors["model.layers.0.mlp.extra.weight"] = np.ones((2, 2), np.float32)
    tensors["lm_head.weight"] = np.ones((21, 8), np.float32)
    tensors["model.layers.0.input_layernorm.weight"][3] = np.nan
    found = run(base, save(tmp_path / "odd", tensors, rope_theta=5.0))
    assert [row.name for row in found.only_in_base] == ["model.norm.weight"]
    assert [row.name for row in found.only_in_unlearned] == ["model.layers.0.mlp.extra.weight"]
    assert [(row.name, row.shape_base, row.shape_unlearned) for row in found.shape_mismatch] == [
        ("lm_head.weight", (20, 8), (21, 8))
    ]
    assert [(row.file, row.key, row.base, row.unlearned) for row in found.config_changes] == [
        ("config.json", "rope_theta", None, "5.0")
    ]
    broken = [row for row in found.tensors if row.drift.nonfinite_unlearned]
    assert [row.name for row in broken] == ["model.layers.0.input_layernorm.weight"]
    assert np.isnan(broken[0].drift.cosine)
    norms = next(row for row in found.components if row.component == "norms")
    assert np.isnan(norms.drift.one_minus_cosine)
    assert not np.isnan(norms.cosine_min)


def test_tied_embeddings_stand_under_both_names(tmp_path: Path) -> None:
    tensors, other = llama(), llama()
    for side in (tensors, other):
        del side["lm_head.weight"]
    other["model.embed_tokens.weight"][2, 2] += 1
    found = run(
        save(tmp_path / "a", tensors, tie_word_embeddings=True), save(tmp_path / "b", other, tie_word_embeddings=True)
    )
    rows = {row.component: row for row in found.components}
    assert rows["unembedding"].tied
    assert not rows["embedding"].tied
    assert rows["unembedding"].drift == rows["embedding"].drift


def test_an_unknown_model_type_is_compared_by_tensor_and_says_so(tmp_path: Path) -> None:
    found = run(save(tmp_path / "a", llama(), model_type="nobody"), save(tmp_path / "b", llama(2), model_type="nobody"))
    assert not found.known_architecture
    assert {row.component for row in found.tensors} == {"other"}
    assert len(found.tensors) == 21
    assert any("nobody" in note for note in found.notes)


def test_digests_are_those_of_the_files(base: Path) -> None:
    import hashlib

    report = compare(CompareSpec(str(base), str(base)))
    data = (base / "model.safetensors").read_bytes()
    shard = report.provenance.base.shards[0]
    assert shard.sha256 == hashlib.sha256(data).hexdigest()
    assert shard.bytes == len(data)
    line = f"model.safetensors {shard.sha256}\n"
    assert report.provenance.base.digest == hashlib.sha256(line.encode()).hexdigest()
    without = compare(CompareSpec(str(base), str(base), hash=False))
    assert without.provenance.base.digest is None
    assert dataclasses.asdict(without)["compare"]["tensors"] == dataclasses.asdict(report)["compare"]["tensors"]


def test_any_number_of_threads_writes_the_same_bytes(base: Path, tmp_path: Path) -> None:
    other = save(tmp_path / "other", llama(1))
    found = []
    for threads in ("1", "2", "3"):
        output = tmp_path / f"{threads}.h5"
        assert cli(["compare", str(base), str(other), "-q", "-o", str(output), "--threads", threads]) == 0
        found.append(output.read_bytes())
    assert found[0] == found[1] == found[2]


def test_a_pair_that_is_refused_is_not_hashed_on(base: Path) -> None:
    def refuse(one: str, other: str) -> None:
        assert (one, other) == (str(base), str(base))
        raise OptionError("another pair's")

    with pytest.raises(OptionError, match="another pair's"):
        compare(CompareSpec(str(base), str(base)), accept=refuse)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sha256")]


def test_all_threads_hash_while_what_comes_next_is_imported(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    hurry = ShardHasher.hurry

    def noted(hasher: ShardHasher) -> None:
        said.append("hurry")
        hurry(hasher)

    monkeypatch.setattr(ShardHasher, "hurry", noted)
    spec = CompareSpec(str(base), str(base))
    compare(spec, meanwhile=lambda: said.append("imports"))
    assert said[:2] == ["hurry", "imports"]
    compare(dataclasses.replace(spec, hash=False), meanwhile=lambda: said.append("imports"))
    assert said.count("imports") == 2


def test_the_command_imports_what_writes_while_files_are_hashed(base: Path, tmp_path: Path) -> None:
    code = (
        "import sys, ckdiff.calls.provenance as provenance; record, late = provenance.record_of, []\n"
        "def noted(*arguments):\n"
        "    late.extend({'h5py', 'ckdiff.report.terminal.view'} - set(sys.modules))\n"
        "    return record(*arguments)\n"
        "import ckdiff.calls.compare as calls; calls.record_of = noted\n"
        "from ckdiff.cli.app import run; status = run(sys.argv[1:]); sys.exit(status or bool(late))"
    )
    words = ["compare", str(base), str(base), "-q", "-o", str(tmp_path / "r.h5")]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
