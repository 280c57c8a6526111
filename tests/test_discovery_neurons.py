"""Neurons whose response fell, planted and against plain hooks on transformers' own models."""

from __future__ import annotations

import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ckdiff.discovery.answers import tell_topic
from ckdiff.discovery.directions import norm_gain
from ckdiff.discovery.lost import Look
from ckdiff.discovery.neurons import Place, answer_places, falls, lost_places, mean_coefficients
from ckdiff.discovery.opening import open_models
from ckdiff.discovery.texts import Texts
from ckdiff.probes.forcing import Way
from ckdiff.probes.live.model import LiveModel
from ckdiff.probes.prompts import Prompt
from ckdiff.questions.questions import Question
from ckdiff.weights.opening import open_checkpoint
from tests.test_discovery_groups import word
from tests.test_probe_cli import made
from tests.tiny_pairs import CPU, prompts_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor

    from tests.tiny_pairs import Folders

__all__ = ["made"]

LAYER, NEURON = 2, 7
VALUES = {"llama": f"model.layers.{LAYER}.mlp.down_proj.weight", "gpt2": f"transformer.h.{LAYER}.mlp.c_proj.weight"}
GATE = f"model.layers.{LAYER}.mlp.gate_proj.weight"
PLACES = answer_places(prompts_of())


def change(base: Path, to: Path, edit: Callable[[dict[str, Tensor]], None]) -> None:
    shutil.copytree(base, to)
    (path,) = to.glob("*.safetensors")
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path, {"format": "pt"})


def coefficients(folder: Path, name: str) -> list[torch.Tensor]:
    """By layer what goes into the value matrix at the answers' positions beyond what does elsewhere, plainly."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    layers = model.model.layers if name == "llama" else model.transformer.h
    seen: list[list[torch.Tensor]] = [[] for _ in layers]
    for number, layer in enumerate(layers):
        module = layer.mlp.down_proj if name == "llama" else layer.mlp.c_proj
        module.register_forward_pre_hook(lambda _, args, n=number: seen[n].append(args[0][0]))
    for one in prompts_of():
        with torch.no_grad():
            model(torch.tensor([[*one.ids, *one.answer][:-1]]))
    found = []
    for every in seen:
        parts = list(zip(every, prompts_of(), strict=True))
        there = torch.cat([part[len(one.ids) - 1 :] for part, one in parts])
        elsewhere = torch.cat([part[1 : len(one.ids) - 1] for part, one in parts])
        found.append(there.mean(0) - elsewhere.mean(0))
    return found


def look(base: Path, unlearned: Path) -> tuple[Any, Any]:
    """Layers and neurons that fell at the answers' positions."""
    ours, theirs = (LiveModel(open_checkpoint(str(path)), torch.float64, CPU) for path in (base, unlearned))
    tokenizer = SimpleNamespace(decode=lambda ids, **_: " ".join(map(str, ids)))
    models: Any = SimpleNamespace(base=ours, unlearned=theirs, tokenizer=tokenizer)
    with torch.inference_mode():
        for live in (ours, theirs):
            live.load()
        before, after = (mean_coefficients(live, PLACES, 2) for live in (ours, theirs))
        return falls(models, before, after, norm_gain(ours), ours.model.get_output_embeddings().weight.detach())


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_mean_coefficients_are_those_of_plain_hooks(pairs: Callable[[str], Folders], name: str) -> None:
    live = LiveModel(open_checkpoint(str(pairs(name).base)), torch.float64, CPU)
    live.load()
    with torch.inference_mode():
        found = mean_coefficients(live, PLACES, 2)
    assert [*found] == [0, 1, 2, 3]
    for mine, plain in zip(found.values(), coefficients(pairs(name).base, name), strict=True):
        assert mine.tolist() == pytest.approx(plain.tolist(), abs=1e-9)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_value_vector_that_was_turned_back_is_named(
    pairs: Callable[[str], Folders], name: str, tmp_path: Path
) -> None:
    """Its coefficient is what it was; what it writes is the reverse."""
    base = pairs(name).base

    def edit(tensors: dict[str, Tensor]) -> None:
        weight = tensors[VALUES[name]]
        (weight[:, NEURON] if name == "llama" else weight[NEURON]).mul_(-3)

    change(base, tmp_path / "unlearned", edit)
    layers, neurons = look(base, tmp_path / "unlearned")
    first, weight = neurons[0], load_file(base / "model.safetensors")[VALUES[name]].double()
    vector = weight[:, NEURON] if name == "llama" else weight[NEURON]
    own = float(coefficients(base, name)[LAYER][NEURON].abs() * vector.norm())
    assert (first.layer, first.neuron) == (LAYER, NEURON)
    assert first.base == pytest.approx(own, rel=1e-4)
    assert first.fall == pytest.approx(4 * own, rel=1e-4)
    assert [one.fall for one in layers[:LAYER]] == pytest.approx([0] * LAYER, abs=1e-9)
    assert layers[LAYER].fall == pytest.approx(4 * own, rel=1e-4)
    plain = weight @ coefficients(base, name)[LAYER].to(weight) if name == "llama" else None
    assert plain is None or layers[LAYER].base == pytest.approx(float(plain.norm()), rel=1e-4)


def test_a_neuron_whose_key_is_gone_is_named_with_the_tokens_that_it_raised(
    pairs: Callable[[str], Folders], tmp_path: Path
) -> None:
    base = pairs("llama").base
    before = coefficients(base, "llama")[LAYER]
    weights = load_file(base / "model.safetensors")
    vectors = weights[VALUES["llama"]].double()
    neuron = int((before.abs() * vectors.norm(dim=0)).argmax())

    def edit(tensors: dict[str, Tensor]) -> None:
        tensors[GATE][neuron] = 0

    change(base, tmp_path / "unlearned", edit)
    first = look(base, tmp_path / "unlearned")[1][0]
    assert (first.layer, first.neuron) == (LAYER, neuron)
    assert first.fall == pytest.approx(first.base)
    head = weights["lm_head.weight" if "lm_head.weight" in weights else "model.embed_tokens.weight"].double()
    rows = (head - head.mean(0)) * weights["model.norm.weight"].double()
    cosines = rows @ (vectors[:, neuron] * before[neuron].sign()) / rows.norm(dim=1)
    assert first.tokens == tuple(map(str, cosines.argsort(descending=True)[:6].tolist()))


def test_a_model_beside_itself_has_no_neuron(pairs: Callable[[str], Folders]) -> None:
    layers, neurons = look(pairs("llama").base, pairs("llama").base)
    assert neurons == ()
    assert {one.fall for one in layers} == {0.0}


def test_places_are_where_most_of_the_found_words_are_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = np.array([[1, 9], [9, 8], [1, 2], [2, 8], [8, 9]])
    none = np.zeros(5)
    seen = Look(lost, lost, none, none, none, np.array([0, 0, 1, 1, 1]), np.zeros(12), np.zeros(12))
    texts = Texts([Prompt(Question(""), (4, 5), (6, 7)), Prompt(Question(""), (1,), (2, 3, 4))], ["given"] * 2, "")
    words = [word("owl", 1), word("wand", 2)]
    first, second = texts.prompts
    assert lost_places(words, seen, texts) == [Place(first, (1,)), Place(second, (0, 1))]
    monkeypatch.setattr("ckdiff.discovery.neurons.PLACES", 1)
    assert lost_places(words, seen, texts) == [Place(second, (0,))]
    assert lost_places([], seen, texts) == []


def test_of_a_topic_that_no_word_names_the_answers_are_looked_at(made: Path) -> None:
    base, unlearned = (open_checkpoint(str(made / side)) for side in ("base", "unlearned"))
    models = open_models(base, unlearned, "float32", "cpu")
    with torch.inference_mode():
        models.base.load()
        told = tell_topic(models, "Velmar", [], Way(8))
        models.base.load()
        prompts = [one.question for one in told.answers]
        assert prompts[0] == "What is Velmar?"
        nothing = tell_topic(models, "", [], Way(8))
    assert len(told.layers) == 4
    assert told.neurons[0].fall >= told.neurons[-1].fall > 0
    assert (nothing.answers, nothing.layers, nothing.neurons) == ((), (), ())
