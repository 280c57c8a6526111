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
    assert CONFIGS.keys() == ARCHITECTURES.keys()


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


@pytest.mark.parametrize("name", [name for name in DENSE if "opt" not in name])
def test_fused_attention_is_cut_as_the_model_uses_it(tiny: Checkpoint, name: str) -> None:
    """With W_V zeroed in the cut's place, attention's output projection must receive nothing but its bias path."""
    torch = pytest.importorskip("torch")
    found = laid_out(tiny(name))
    values = [piece for piece in found.pieces if piece.component == "attn_v" and piece.layer == 0]
    if not any(piece.cut for piece in values):
        pytest.skip("q, k and v are stored apart")
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


@pytest.mark.parametrize("name", [name for name in DENSE if "opt" not in name])
def test_fused_queries_and_keys_are_where_the_cut_says(tiny: Checkpoint, name: str) -> None:
    """With q zeroed, attention is uniform over what it may see, so that k does not matter any more."""
    torch = pytest.importorskip("torch")
    found = laid_out(tiny(name))
    row = ARCHITECTURES[ALL[name][0]]
    first = [piece for piece in found.pieces if piece.layer == 0]
    if not any(piece.cut for piece in first if piece.component == "attn_q"):
        pytest.skip("q, k and v are stored apart")
    outputs = []
    for noise in (0.0, 1.0):
        model = build(name)
        state = model.state_dict()
        captured: dict[str, Any] = {}
        for piece in first:
            if piece.cut is not None and piece.component in ("attn_q", "attn_k"):
                stored = state[piece.tensor].numpy().reshape(piece.cut.reshape)
                if piece.component == "attn_q":
                    stored[piece.cut.index] = 0
                else:
                    stored[piece.cut.index] += noise
        layer = module_at(model, row.sites.layers)[0]
        module_at(layer, row.sites.attention_output).register_forward_pre_hook(
            lambda module, args, captured=captured: captured.update(before=args[0])
        )
        with torch.no_grad():
            model(torch.tensor([[3, 4, 5, 6, 7]]))
        outputs.append(captured["before"])
    assert torch.count_nonzero(outputs[0]) > 0
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["gpt2", "bloom", "gptj", "opt", "gemma3_text"])
def test_other_spellings_of_the_names_are_the_same_tensors(tiny: Checkpoint, name: str) -> None:
    checkpoint = open_local(tiny(name))
    shapes = checkpoint.shapes()
    changes: dict[str, Callable[[str], str]] = {
        "opt": lambda key: key.removeprefix("model."),
        "gemma3_text": lambda key: "language_model." + key,
    }
    change = changes.get(name, lambda key: key.removeprefix("transformer."))
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
