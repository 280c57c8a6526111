"""Every row of the table of architectures against a tiny random model that transformers made."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from ckdiff.weights.architectures import ARCHITECTURES, architecture
from ckdiff.weights.components import layout
from ckdiff.weights.reader import open_local
from tests.tiny_families import ALL, CONFIGS, build, save

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ckdiff.shapes import AnyArray
    from ckdiff.weights.components import Layout, Piece

    Checkpoint = Callable[[str], Path]

DENSE = [name for name in ALL if not ARCHITECTURES[ALL[name][0]].sites.experts]
FUSED = [name for name in DENSE if any(rule.role == "qkv" for rule in ARCHITECTURES[ALL[name][0]].rules)]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            made[name] = save(name, tmp_path_factory.mktemp(name))
        return made[name]

    return make


def laid_out(directory: Path) -> Layout:
    checkpoint = open_local(directory)
    return layout(checkpoint.shapes(), checkpoint.config)


def view(tensors: dict[str, AnyArray], piece: Piece) -> AnyArray:
    stored = tensors[piece.tensor]
    return stored if piece.cut is None else stored.reshape(piece.cut.reshape)[piece.cut.index].reshape(piece.shape)


def module_at(root: Any, path: str) -> Any:
    for name in path.split("."):
        root = getattr(root, name)
    return root


def test_there_is_a_tiny_model_of_every_row() -> None:
    assert sorted(ARCHITECTURES.keys() ^ CONFIGS.keys()) == [], (
        "each needs a row, and a config in tests/tiny_families.py"
    )


@pytest.mark.parametrize("name", ALL)
def test_every_tensor_is_claimed_exactly_once(tiny: Checkpoint, name: str) -> None:
    found = laid_out(tiny(name))
    tensors = load_file(tiny(name) / "model.safetensors")
    assert found.known
    assert found.notes == ()
    assert {piece.tensor for piece in found.pieces} | set(found.ignored) == tensors.keys()
    for piece in found.pieces:
        if piece.component == "other":
            assert re.search(r"sinks|project_(in|out)", piece.name)
    # Cut pieces together are the tensor: every element once.
    for stored, values in tensors.items():
        numbered = {stored: np.arange(values.size).reshape(values.shape)}
        pieces = [piece for piece in found.pieces if piece.tensor == stored and not piece.tied]
        seen = np.concatenate([view(numbered, piece).ravel() for piece in pieces])
        assert np.array_equal(np.sort(seen), np.arange(values.size))


@pytest.mark.parametrize("name", CONFIGS)
def test_no_rule_is_dead(tiny: Checkpoint, name: str) -> None:
    row = ARCHITECTURES[name]
    stored = load_file(tiny(name) / "model.safetensors")
    for rule in row.rules:
        text = re.escape(rule.pattern).replace(r"\{L\}", r"\d+").replace(r"\{E\}", r"\d+")
        fits = [key for key in stored if re.fullmatch(text.replace(r"\{P\}", "(weight|bias)"), key)]
        assert fits or rule.optional, rule.pattern


@pytest.mark.parametrize("name", DENSE)
def test_sites_are_where_the_row_says(name: str) -> None:
    torch = pytest.importorskip("torch")
    model = build(name)
    row = architecture(ALL[name][0])
    assert row is not None
    layers = module_at(model, row.sites.layers)
    captured: dict[str, Any] = {}
    layers[0].register_forward_hook(lambda module, args, result: captured.update(layer=result))
    values = module_at(layers[0], row.sites.value_vectors)
    values.register_forward_pre_hook(lambda module, args: captured.update(m=args[0]))
    attention_output = module_at(layers[0], row.sites.attention_output)
    attention_output.register_forward_hook(lambda module, args, result: captured.update(projected=result))
    attention = module_at(layers[0], row.sites.attention)
    attention.register_forward_hook(lambda module, args, result: captured.update(attention=result))
    with torch.no_grad():
        model(torch.tensor([[3, 4, 5, 6]]))
    assert isinstance(captured["layer"], tuple) == row.sites.layer_returns_tuple
    state = captured["attention"][0] if isinstance(captured["attention"], tuple) else captured["attention"]
    same = torch.equal(state.reshape(-1), captured["projected"].reshape(-1))
    assert same != row.sites.attention_adds_residual
    for path in (row.sites.unembed, row.sites.embed):
        assert module_at(model, path).weight.shape[0] == 72
    for path in (*row.sites.keys, *([row.sites.mlp] if row.sites.mlp else [])):
        assert module_at(layers[0], path) is not None
    if name != "opt-projected":
        assert module_at(model, row.sites.final_norm) is not None
    # The coefficients are as many as there are neurons, in keys and in value vectors.
    directory_shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert captured["m"].shape[-1] in directory_shapes[f"{row.sites.layers}.0.{row.sites.value_vectors}.weight"]


@pytest.mark.parametrize("name", ALL)
def test_value_vectors_and_keys_have_one_vector_a_neuron(tiny: Checkpoint, name: str) -> None:
    """Zeroing neuron i's key must be able to silence only coefficient i: both axes have the layer's neurons."""
    counts: dict[int | None, dict[str, set[int]]] = {}
    for piece in laid_out(tiny(name)).pieces:
        if piece.component in ("keys", "value_vectors") and len(piece.shape) == 2:
            assert piece.neuron_axis is not None, piece.name
            ends = counts.setdefault(piece.layer, {}).setdefault(piece.component, set())
            ends.add(piece.first_neuron + piece.shape[piece.neuron_axis])
            assert piece.shape[1 - piece.neuron_axis] == 32
    assert counts
    for by_component in counts.values():
        assert by_component["keys"] == by_component["value_vectors"]


@pytest.mark.parametrize("name", FUSED)
def test_fused_attention_is_cut_as_the_model_uses_it(tiny: Checkpoint, name: str) -> None:
    """With W_V zeroed in the cut's place, attention's output projection must receive nothing but its bias path."""
    torch = pytest.importorskip("torch")
    found = laid_out(tiny(name))
    values = [piece for piece in found.pieces if piece.component == "attn_v" and piece.layer == 0]
    assert all(piece.cut is not None for piece in values)
    model = build(name)
    row = ARCHITECTURES[ALL[name][0]]
    state = model.state_dict()
    with torch.no_grad():
        for piece in values:
            assert piece.cut is not None
            stored = state[piece.tensor].numpy()
            stored.reshape(piece.cut.reshape)[piece.cut.index] = 0
    captured: dict[str, Any] = {}
    layer = module_at(model, row.sites.layers)[0]
    module_at(layer, row.sites.attention_output).register_forward_pre_hook(
        lambda module, args: captured.update(before=args[0])
    )
    with torch.no_grad():
        model(torch.tensor([[3, 4, 5, 6, 7]]))
    assert torch.count_nonzero(captured["before"]) == 0


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize(("component", "reaches_later"), [("attn_q", False), ("attn_k", True), ("attn_v", True)])
def test_fused_queries_keys_and_values_are_told_apart(
    tiny: Checkpoint, name: str, component: str, reaches_later: bool
) -> None:
    """The query of position 0 matters to position 0 alone; its key and its value matter to later positions."""
    torch = pytest.importorskip("torch")
    row = ARCHITECTURES[ALL[name][0]]
    pieces = [piece for piece in laid_out(tiny(name)).pieces if piece.layer == 0 and piece.component == component]
    fused = [piece for piece in pieces if piece.cut is not None and piece.tensor.endswith("weight")]
    assert len(fused) == 1
    model = build(name)
    stored = model.state_dict()[fused[0].tensor]
    numbers = view({fused[0].tensor: np.arange(stored.numel()).reshape(stored.shape)}, fused[0]).ravel()
    channels = np.unique(numbers % stored.shape[1] if row.conv1d else numbers // stored.shape[1])
    noise = torch.zeros(stored.shape[1 if row.conv1d else 0])
    noise[channels] = torch.randn(len(channels), generator=torch.Generator().manual_seed(1))

    def disturb(module: Any, args: Any, result: Any) -> Any:
        changed = result.clone()
        changed[:, 0] += noise
        return changed

    layer = module_at(model, row.sites.layers)[0]
    seen: list[Any] = []
    module_at(layer, row.sites.attention_output).register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    ids = torch.tensor([[3, 4, 5, 6, 7]])
    with torch.no_grad():
        model(ids)
        module_at(model, fused[0].tensor.removesuffix(".weight")).register_forward_hook(disturb)
        model(ids)
    later = (seen[0] - seen[1])[:, 1:].abs().max().item()
    assert (later > 1e-4) == reaches_later


@pytest.mark.parametrize("name", ["gpt2", "bloom", "gptj", "opt", "gemma3_text"])
def test_other_spellings_of_the_names_are_the_same_tensors(tiny: Checkpoint, name: str) -> None:
    checkpoint = open_local(tiny(name))
    shapes = checkpoint.shapes()

    def change(key: str) -> str:
        if name == "gemma3_text":
            return "language_model." + key
        return key.removeprefix("model." if name == "opt" else "transformer.")

    renamed = {change(key): shape for key, shape in shapes.items()}
    assert renamed.keys() != shapes.keys()
    assert [piece.name for piece in layout(renamed, checkpoint.config).pieces] == [
        piece.name for piece in layout(shapes, checkpoint.config).pieces
    ]


def test_names_alone_are_no_proof(tiny: Checkpoint) -> None:
    """GPT-BigCode has GPT-2's names, but its matrices lie the other way round."""
    checkpoint = open_local(tiny("gpt_bigcode"))
    found = layout(checkpoint.shapes(), {**checkpoint.config, "model_type": "gpt2"})
    assert all(piece.neuron_axis is None for piece in found.pieces)
    assert any("should be neurons" in note for note in found.notes)


def test_a_large_mixture_is_laid_out_with_every_expert_numbered() -> None:
    config = {"model_type": "qwen3_moe", "moe_intermediate_size": 4, "hidden_size": 2}
    shapes = {
        f"model.layers.{layer}.mlp.experts.{expert}.{part}_proj.weight": (2, 4) if part == "down" else (4, 2)
        for layer in range(12)
        for expert in range(64)
        for part in ("gate", "up", "down")
    }
    found = layout(shapes, config)
    assert found.notes == ()
    last = [piece for piece in found.pieces if ".experts.63." in piece.name]
    assert {piece.first_neuron for piece in last} == {252}


def test_a_shared_expert_is_numbered_after_the_routed_ones(tiny: Checkpoint) -> None:
    pieces = [piece for piece in laid_out(tiny("qwen2_moe")).pieces if "shared_expert." in piece.name]
    assert {piece.first_neuron for piece in pieces if piece.component in ("keys", "value_vectors")} == {3 * 24}


def test_two_spellings_of_one_name_stay_two_tensors(tiny: Checkpoint) -> None:
    checkpoint = open_local(tiny("gpt2"))
    shapes = {"wte.weight": (72, 32), **checkpoint.shapes()}
    found = layout(shapes, checkpoint.config)
    names = [piece.name for piece in found.pieces]
    assert len(names) == len(set(names))
    tensors = {piece.name: piece.tensor for piece in found.pieces}
    assert tensors["transformer.wte.weight"] == "transformer.wte.weight"
    assert tensors["wte.weight"] == "wte.weight"
    assert any("wte.weight" in note for note in found.notes)


def test_a_stored_bias_does_not_untie_the_unembedding(tiny: Checkpoint) -> None:
    checkpoint = open_local(tiny("phi"))
    shapes = {name: shape for name, shape in checkpoint.shapes().items() if name != "lm_head.weight"}
    found = layout(shapes, {**checkpoint.config, "tie_word_embeddings": True})
    rows = {piece.name: piece for piece in found.pieces if piece.component == "unembedding"}
    assert rows.keys() == {"lm_head.weight", "lm_head.bias"}
    assert rows["lm_head.weight"].tied


@pytest.mark.parametrize(
    ("name", "tensor", "shape", "changes"),
    [
        ("llama", "model.layers.0.mlp.down_proj.weight", (32, 99), {}),
        ("llama", "model.layers.0.self_attn.q_proj.weight", (32,), {}),
        ("phi3", "model.layers.0.mlp.gate_up_proj.weight", (30, 32), {}),
        ("phi3", "model.layers.0.self_attn.qkv_proj.weight", (64, 32), {"num_key_value_heads": "2"}),
        ("gpt2", "transformer.h.0.attn.c_attn.weight", (32, 27), {}),
        ("mpt", "transformer.blocks.0.attn.Wqkv.weight", (99, 32), {}),
        ("gpt_neox", "gpt_neox.layers.0.attention.query_key_value.weight", (95, 32), {}),
        ("falcon-new", "transformer.h.0.self_attention.query_key_value.weight", (80, 32), {"num_kv_heads": 3}),
        ("gpt_oss", "model.layers.0.mlp.experts.gate_up_proj", (3, 32), {}),
        ("gpt_oss", "model.layers.0.mlp.experts.down_proj", (3,), {}),
        ("granitemoe", "model.layers.0.block_sparse_moe.input_linear.weight", (3, 57, 32), {}),
    ],
)
def test_what_the_config_does_not_explain_is_other_and_noted(
    tiny: Checkpoint, name: str, tensor: str, shape: tuple[int, ...], changes: dict[str, Any]
) -> None:
    checkpoint = open_local(tiny(name))
    found = layout({**checkpoint.shapes(), tensor: shape}, {**checkpoint.config, **changes})
    piece = next(piece for piece in found.pieces if piece.name == tensor)
    assert (piece.component, piece.cut, piece.neuron_axis) == ("other", None, None)
    assert any(tensor in note for note in found.notes)


def rows(*parts: Any) -> AnyArray:
    """Matrices side by side, in float64: row i is everything that belongs to neuron i."""
    return np.concatenate([part.numpy().astype(np.float64) for part in parts], axis=1)


def mixture(gate: Any, up: Any) -> AnyArray:
    """Experts one after the other; each argument is [expert, neuron, d_model]."""
    return np.concatenate([rows(*expert) for expert in zip(gate, up, strict=True)])


IN_MEMORY: dict[str, Callable[[Any], tuple[AnyArray, AnyArray]]] = {
    # Keys and value vectors of a live layer, one row a neuron, by where its own forward takes them from.
    "llama": lambda mlp: (rows(mlp.gate_proj.weight, mlp.up_proj.weight), rows(mlp.down_proj.weight.T)),
    "gpt2": lambda mlp: (rows(mlp.c_fc.weight.T), rows(mlp.c_proj.weight)),
    "gpt_neox": lambda mlp: (rows(mlp.dense_h_to_4h.weight), rows(mlp.dense_4h_to_h.weight.T)),
    "phi3": lambda mlp: (rows(*mlp.gate_up_proj.weight.chunk(2)), rows(mlp.down_proj.weight.T)),
    "glm4": lambda mlp: (rows(*mlp.gate_up_proj.weight.chunk(2)), rows(mlp.down_proj.weight.T)),
    "mixtral": lambda mlp: (
        mixture(*mlp.experts.gate_up_proj.chunk(2, dim=1)),
        np.concatenate([rows(down.T) for down in mlp.experts.down_proj]),
    ),
    "granitemoe": lambda mlp: (
        mixture(*mlp.experts.gate_up_proj.chunk(2, dim=1)),
        np.concatenate([rows(down.T) for down in mlp.experts.down_proj]),
    ),
    "gpt_oss": lambda mlp: (
        mixture(*(mlp.experts.gate_up_proj[..., which::2].transpose(1, 2) for which in (0, 1))),
        np.concatenate([rows(down) for down in mlp.experts.down_proj]),
    ),
}


@pytest.mark.parametrize("name", IN_MEMORY)
def test_drift_of_every_neuron_is_that_of_the_live_models(name: str, tmp_path: Path) -> None:
    from ckdiff import CompareSpec, compare

    torch = pytest.importorskip("torch")
    found = compare(CompareSpec(str(save(name, tmp_path / "a", 0)), str(save(name, tmp_path / "b", 1)))).compare
    assert found is not None
    layers = ARCHITECTURES[name].sites.layers
    mlp = ARCHITECTURES[name].sites.mlp
    with torch.no_grad():
        sides = [IN_MEMORY[name](module_at(module_at(build(name, seed), layers)[1], mlp)) for seed in (0, 1)]
    for component, a, b in zip(("keys", "value_vectors"), *sides, strict=True):
        grid = found.neurons[component]
        assert grid.relative_l2.shape[1] == len(a)
        length = np.linalg.norm(b - a, axis=1) / np.linalg.norm(a, axis=1)
        np.testing.assert_allclose(grid.relative_l2[1], length, rtol=1e-6)
        cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
        np.testing.assert_allclose(grid.one_minus_cosine[1], 1 - cosine, rtol=1e-4)
