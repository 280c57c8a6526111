"""A checkpoint as a live model against transformers' own loading, and every reason to refuse one."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from ckdiff.errors import CheckpointError
from ckdiff.probes.live.generation import context_length, greedy, stop_tokens
from ckdiff.probes.live.model import LiveModel
from ckdiff.weights.architectures import ARCHITECTURES
from ckdiff.weights.opening import open_checkpoint
from tests.test_adapters import SETTINGS, make_pair
from tests.tiny_families import ALL, EAGER_ONLY
from tests.tiny_pairs import CPU, Folders, build, disturbed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Pairs = Callable[[str], Folders]

TEXTS = torch.tensor([[5, 17, 3, 60, 22, 9, 41, 33], [1, 8, 30, 71, 12, 6, 55, 44]])


def live(path: Path | str, dtype: torch.dtype = torch.float32, attention: str | None = None) -> LiveModel:
    return LiveModel(open_checkpoint(str(path)), dtype, CPU, attention)


def loaded(path: Path | str, dtype: torch.dtype = torch.float32) -> LiveModel:
    model = live(path, dtype)
    model.load_ends()
    for number in range(len(model.layers)):
        model.load_layer(number)
    return model


def theirs(path: Path, dtype: torch.dtype = torch.float32) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(path, dtype=dtype).eval()


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=TEXTS, use_cache=False).logits
    return found


# ------------------------------------------------------------------------------------------------------------ same


@pytest.mark.parametrize("name", ALL)
def test_logits_are_those_of_from_pretrained(pairs: Pairs, name: str) -> None:
    model = loaded(pairs(name).unlearned)
    assert torch.equal(logits(model.model), logits(theirs(pairs(name).unlearned)))
    assert {value.device.type for value in model.model.state_dict().values()} == {"cpu"}
    assert model.notes == []


@pytest.mark.parametrize("name", ["llama", "gemma", "gemma3_text", "gpt2", "gptj", "mixtral", "bloom"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_dtypes_too(pairs: Pairs, name: str, dtype: torch.dtype) -> None:
    from transformers import AutoModelForCausalLM

    path = pairs(name).base
    # The grouped loop over experts knows no float64.
    options = {"experts_implementation": "eager"} if dtype == torch.float64 else {}
    own: Any = AutoModelForCausalLM.from_pretrained(path, dtype=dtype, **options).eval()
    model = loaded(path, dtype)
    assert torch.equal(logits(model.model), logits(own))


@pytest.mark.parametrize("name", ALL)
def test_layers_by_hand_are_the_models_own_forward(pairs: Pairs, name: str) -> None:
    """Front, every layer, tail and unembedding, one after the other, give the logits that the model gives."""
    model = loaded(pairs(name).base)
    with torch.inference_mode():
        states, calls = model.front(TEXTS)
        for number in range(len(model.layers)):
            states = model.layer(number, states, calls[number])
        rows = states.reshape(-1, states.shape[-1])
        hidden, head = model.tail(rows), model.unembedding(rows)
        found = torch.nn.functional.linear(hidden, head.weight, head.bias) * head.scale
        found = found if head.cap is None else head.cap * torch.tanh(found / head.cap)
    expected = logits(model.model).reshape(found.shape)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


SCALES = {"cohere": 0.0625, "cohere2": 0.0625, "cohere-qk": 0.0625}


@pytest.mark.parametrize("name", ALL)
def test_scale_cap_and_bias_of_the_unembedding(pairs: Pairs, name: str) -> None:
    model = loaded(pairs(name).base)
    with torch.inference_mode():
        head = model.unembedding(torch.randn(4, model.config.hidden_size, generator=torch.Generator().manual_seed(0)))
    assert head.scale == pytest.approx(SCALES.get(name, 1.0), rel=1e-5)
    assert head.cap == getattr(theirs(pairs(name).base).config, "final_logit_softcapping", None)
    assert (head.bias is not None) == (name in ("phi", "gptj"))


@pytest.mark.parametrize("name", ["granite", "gemma2"])
def test_scale_and_cap_are_read_where_the_config_sets_them(tmp_path: Path, name: str) -> None:
    changes: dict[str, Any] = {"granite": {"logits_scaling": 4.0}, "gemma2": {"final_logit_softcapping": 2.0}}[name]
    build(name, 2, **changes).save_pretrained(tmp_path)
    model = loaded(tmp_path)
    sample = torch.randn(6, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        head = model.unembedding(sample)
    assert head.scale == pytest.approx(0.25 if name == "granite" else 1.0, rel=1e-5)
    assert head.cap == (None if name == "granite" else 2.0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("largest", [20.0, 90.0, 200.0, 4000.0])
def test_a_cap_that_is_reached_is_still_a_cap(tmp_path: Path, largest: float, dtype: torch.dtype) -> None:
    """What gradient ascent makes of a model whose logits are capped: all of them at the cap, and finite."""
    own = build("gemma2", 2)
    with torch.no_grad():
        states = own.model(TEXTS).last_hidden_state
        found = (states @ own.lm_head.weight.T).abs().max()
        own.model.norm.weight.copy_((1 + own.model.norm.weight) * (largest / found) - 1)
    own.save_pretrained(tmp_path)
    model = loaded(tmp_path, dtype)
    with torch.inference_mode():
        states, calls = model.front(TEXTS)
        for number in range(len(model.layers)):
            states = model.layer(number, states, calls[number])
        rows = states.flatten(0, 1)
        head = model.unembedding(rows)
        assert head.cap == 30.0
        assert head.scale == pytest.approx(1, abs=0.05 if dtype != torch.float32 else 1e-5)
        found = 30 * torch.tanh(torch.nn.functional.linear(model.tail(rows), head.weight).float() / 30)
    expected = logits(theirs(tmp_path, dtype)).flatten(0, 1).float()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4 if dtype == torch.float32 else 0.3)


def test_a_cap_that_the_architecture_does_not_know(tmp_path: Path) -> None:
    """A key of the config that transformers does not read either."""
    build("llama", 2, final_logit_softcapping=2.0).save_pretrained(tmp_path)
    with torch.inference_mode():
        head = loaded(tmp_path).unembedding(torch.randn(6, 32, generator=torch.Generator().manual_seed(0)))
    assert (head.cap, head.scale) == (None, 1.0)


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_logits_that_are_made_in_another_way_are_refused(pairs: Pairs, name: str) -> None:
    model = loaded(pairs(name).base)
    model.model.lm_head.register_forward_hook(lambda module, inputs, output: output.abs())
    with torch.inference_mode(), pytest.raises(CheckpointError, match="cannot be probed"):
        model.unembedding(torch.randn(6, 32, generator=torch.Generator().manual_seed(0)))


# --------------------------------------------------------------------------------------------------------- streaming


@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral", "qwen2-tied"])
def test_a_layer_goes_and_comes_back(pairs: Pairs, name: str) -> None:
    model = live(pairs(name).base)
    assert {parameter.device.type for parameter in model.model.parameters()} == {"meta"}
    assert model.bytes_read == 0
    model.load_layer(1)
    first = {key: value.clone() for key, value in model.layers[1].state_dict().items()}
    assert {value.device.type for value in first.values()} == {"cpu"}
    others = [value for number in (0, 2, 3) for value in model.layers[number].parameters()]
    assert {value.device.type for value in others} == {"meta"}
    read = model.bytes_read
    assert read == sum(value.numel() * 4 for value in model.layers[1].parameters())
    model.load_layer(1)
    assert model.bytes_read == read
    model.unload_layer(1)
    assert {value.device.type for value in model.layers[1].parameters()} == {"meta"}
    shapes = {key: value.shape for key, value in first.items()}
    assert {key: value.shape for key, value in model.layers[1].state_dict().items()} == shapes
    model.load_layer(1)
    assert model.bytes_read == 2 * read
    for key, value in model.layers[1].state_dict().items():
        assert torch.equal(value, first[key])
    own = theirs(pairs(name).base).get_submodule(f"{model.row.sites.layers}.1").state_dict()
    for key, value in first.items():
        assert torch.equal(value, own[key])


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen2-tied", "opt"])
def test_ends_come_in_parts(pairs: Pairs, name: str) -> None:
    model = live(pairs(name).base)
    sites = model.row.sites
    embedding, unembedding = (f"{path}.weight" for path in (sites.embed, sites.unembed))

    def there() -> set[str]:
        names = {embedding, unembedding, f"{sites.final_norm}.weight"}
        return {key for key in names if model.model.get_parameter(key).device.type == "cpu"}

    norm = f"{sites.final_norm}.weight"
    tied = name != "llama"
    assert model.tied == tied
    model.load_ends(unembedding=False)
    assert there() == ({embedding, unembedding, norm} if tied else {embedding, norm})
    model.unload_embedding()
    assert there() == ({embedding, unembedding, norm} if tied else {norm})
    model.load_ends(embedding=False)
    assert there() == ({embedding, unembedding, norm} if tied else {unembedding, norm})


def test_sizes(pairs: Pairs) -> None:
    model, own = live(pairs("qwen2-tied").base), theirs(pairs("qwen2-tied").base)
    layer = sum(value.numel() for value in own.model.layers[0].parameters())
    assert model.layer_bytes(0, 8) == 8 * layer
    assert model.parameter_bytes(2) == 2 * sum(value.numel() for value in own.parameters())
    assert model.stored_bytes() == 4 * sum(value.numel() for value in own.parameters())
    assert model.bytes_read == 0
    assert context_length(model) == 64


# ------------------------------------------------------------------------------------------------------------ tied


def test_a_tied_matrix_that_is_stored_twice(pairs: Pairs, tmp_path: Path) -> None:
    for name, change in (("same", 0.0), ("other", 0.5)):
        folder = tmp_path / name
        shutil.copytree(pairs("qwen2-tied").base, folder)
        tensors = load_file(folder / "model.safetensors")
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + change
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    same = loaded(tmp_path / "same")
    assert same.tied
    assert same.notes == []
    assert torch.equal(logits(same.model), logits(theirs(pairs("qwen2-tied").base)))

    other = loaded(tmp_path / "other")
    assert not other.tied
    (note,) = other.notes
    assert "\n" not in note
    assert "model.embed_tokens.weight" in note
    assert "lm_head.weight" in note
    assert "not tied" in note
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    (tmp_path / "other" / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    assert torch.equal(logits(other.model), logits(theirs(tmp_path / "other")))


# --------------------------------------------------------------------------------------------------------- refusals


def edited(pairs: Pairs, root: Path, change: Callable[[dict[str, torch.Tensor]], object], name: str = "llama") -> Path:
    folder = root / "edited"
    shutil.copytree(pairs(name).base, folder)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        loaded(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


DOWN = "model.layers.1.mlp.down_proj.weight"
EXPERT = "model.layers.1.mlp.experts.2.down_proj.weight"


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("llama", DOWN),
        ("llama", "model.embed_tokens.weight"),
        ("llama", "lm_head.weight"),
        ("llama", "model.norm.weight"),
        ("phi", "model.layers.0.self_attn.q_proj.bias"),
        ("olmoe", EXPERT),
        ("olmoe", EXPERT.replace("down_proj", "gate_proj")),
    ],
)
def test_a_missing_tensor(pairs: Pairs, tmp_path: Path, name: str, tensor: str) -> None:
    message = refused(edited(pairs, tmp_path, lambda tensors: tensors.pop(tensor), name))
    stacked = tensor.replace("experts.2.down_proj.weight", "experts.down_proj")
    stacked = stacked.replace("experts.2.gate_proj.weight", "experts.gate_up_proj")
    assert tensor in message or stacked in message


@pytest.mark.parametrize(
    "tensor",
    ["model.layers.9.mlp.down_proj.weight", "model.layers.0.mlp.extra.weight", "model.layers.0.mlp.up_proj.bias"],
)
def test_an_extra_tensor(pairs: Pairs, tmp_path: Path, tensor: str) -> None:
    message = refused(edited(pairs, tmp_path, lambda tensors: tensors.update({tensor: torch.ones(3)})))
    assert tensor in message


@pytest.mark.parametrize("tensor", [EXPERT.replace("2", "3"), EXPERT.replace("2", "11")])
def test_an_expert_too_many(pairs: Pairs, tmp_path: Path, tensor: str) -> None:
    folder = edited(pairs, tmp_path, lambda tensors: tensors.update({tensor: torch.ones(32, 56)}), "olmoe")
    assert tensor in refused(folder)


def test_two_tensors_for_one_parameter(pairs: Pairs, tmp_path: Path) -> None:
    """Another spelling of a name that is there already: which of the two values is meant, nobody knows."""
    tensor = "h.0.ln_1.weight"
    folder = edited(pairs, tmp_path, lambda tensors: tensors.update({tensor: torch.ones(32)}), "gpt2")
    assert tensor in refused(folder)


@pytest.mark.parametrize("shape", [(56, 32), (32, 55), (32 * 56,), (32, 56, 1)])
def test_a_wrong_shape(pairs: Pairs, tmp_path: Path, shape: tuple[int, ...]) -> None:
    message = refused(edited(pairs, tmp_path, lambda tensors: tensors.update({DOWN: torch.ones(shape)})))
    assert DOWN in message
    assert str(list(shape)) in message
    assert "[32, 56]" in message


def test_a_wrong_shape_of_one_expert(pairs: Pairs, tmp_path: Path) -> None:
    message = refused(edited(pairs, tmp_path, lambda tensors: tensors.update({EXPERT: torch.ones(1, 56)}), "olmoe"))
    assert EXPERT in message


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(("name", "tensor"), [("llama", DOWN), ("llama", "lm_head.weight"), ("olmoe", EXPERT)])
def test_a_value_that_is_not_finite(pairs: Pairs, tmp_path: Path, name: str, tensor: str, value: float) -> None:
    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors[tensor][1, 2] = value

    assert tensor in refused(edited(pairs, tmp_path, spoil, name))


def test_a_sum_that_overflows_is_no_reason(pairs: Pairs, tmp_path: Path) -> None:
    largest = torch.finfo(torch.float32).max
    folder = edited(pairs, tmp_path, lambda tensors: tensors[DOWN].fill_(largest))
    assert float(loaded(folder).model.get_parameter(DOWN).min()) == largest


@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.uint8, torch.bool])
@pytest.mark.parametrize(("name", "tensor"), [("llama", DOWN), ("olmoe", EXPERT)])
def test_an_integer_tensor(pairs: Pairs, tmp_path: Path, name: str, tensor: str, dtype: torch.dtype) -> None:
    folder = edited(pairs, tmp_path, lambda tensors: tensors.update({tensor: tensors[tensor].to(dtype)}), name)
    assert tensor in refused(folder)


@pytest.mark.parametrize("tensor", ["lm_head.weight", "model.embed_tokens.weight"])
def test_an_integer_tensor_in_the_place_of_a_tied_one(pairs: Pairs, tmp_path: Path, tensor: str) -> None:
    def change(tensors: dict[str, torch.Tensor]) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
        tensors[tensor] = tensors[tensor].to(torch.int8)

    assert tensor in refused(edited(pairs, tmp_path, change, "qwen2-tied"))


def test_no_config(pairs: Pairs, tmp_path: Path) -> None:
    shutil.copytree(pairs("llama").base, tmp_path / "bare")
    (tmp_path / "bare" / "config.json").unlink()
    assert "no config.json" in refused(tmp_path / "bare")


def reconfigured(pairs: Pairs, root: Path, changes: dict[str, Any]) -> Path:
    shutil.copytree(pairs("llama").base, root / "changed")
    path = root / "changed" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return root / "changed"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"model_type": "mamba"}, "mamba"),
        ({"model_type": None}, "no architecture row"),
        ({"model_type": ["llama"]}, "no architecture row"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "quantised"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "quantised"),
        ({"num_hidden_layers": 3}, "model.layers.3."),
        ({"num_hidden_layers": 5}, "model.layers.4."),
        ({"num_hidden_layers": 0}, "model.layers.0."),
        ({"hidden_size": 16}, "16]"),
        ({"vocab_size": 73}, "73"),
        ({"hidden_act": "no_such_act"}, "config.json"),
        ({"num_attention_heads": "many"}, "config.json"),
    ],
)
def test_a_config_of_something_else(pairs: Pairs, tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    assert why in refused(reconfigured(pairs, tmp_path, changes))


def test_code_of_the_checkpoint_is_not_run(pairs: Pairs, tmp_path: Path) -> None:
    folder = reconfigured(pairs, tmp_path, {"auto_map": {"AutoModelForCausalLM": "code.Model", "AutoConfig": "code.C"}})
    (folder / "code.py").write_text("raise SystemExit('run')\n")
    assert torch.equal(logits(loaded(folder).model), logits(theirs(pairs("llama").base)))


@pytest.mark.parametrize("name", EAGER_ONLY)
def test_an_attention_that_the_family_has_not(pairs: Pairs, name: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        live(pairs(name).base, attention="sdpa")
    assert "\n" not in str(caught.value)


def test_families_without_another_attention_are_listed() -> None:
    """A row whose model type has one attention only is named in `EAGER_ONLY` of tests/tiny_families.py."""
    classes: dict[str, Any] = {
        name: AutoModelForCausalLM._model_mapping[CONFIG_MAPPING[name]] for name in ARCHITECTURES
    }
    only = {name for name, found in classes.items() if not found._supports_sdpa}
    assert only == set(EAGER_ONLY), "EAGER_ONLY of tests/tiny_families.py"


# ---------------------------------------------------------------------------------------------------------- greedy


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "bloom", "mixtral", "opt", "gptj"])
@pytest.mark.parametrize("stopping", [False, True])
def test_greedy_is_generate(pairs: Pairs, name: str, stopping: bool) -> None:
    prompts = [[5, 17, 3], [9, 41, 33, 12, 60], [8, 8, 30], [64]]
    model, own = loaded(pairs(name).base), theirs(pairs(name).base)

    def generated(prompt: list[int], stops: list[int]) -> list[int]:
        with torch.inference_mode():
            out = own.generate(
                torch.tensor([prompt]),
                attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
                max_new_tokens=8,
                do_sample=False,
                eos_token_id=stops,
                pad_token_id=0,
            )
        found: list[int] = out[0, len(prompt) :].tolist()
        return found

    stops: list[int] = []
    if stopping:
        # Two tokens that the model says on its own.
        stops = sorted({generated(prompts[0], [])[2], generated(prompts[1], [])[5]})
    expected = [generated(prompt, stops) for prompt in prompts]
    with torch.inference_mode():
        assert greedy(model, prompts, 8, frozenset(stops)) == expected
    if stopping:
        assert min(map(len, expected)) < 8
        assert any(answer[-1] in stops for answer in expected)


def test_where_generation_stops(pairs: Pairs) -> None:
    model = live(pairs("llama").base)
    assert stop_tokens(model, {}) == {2}
    assert stop_tokens(model, {"eos_token_id": 7}) == {7}
    assert stop_tokens(model, {"eos_token_id": [7, 9]}) == {7, 9}
    assert stop_tokens(model, {"eos_token_id": None}) == frozenset()


# ------------------------------------------------------------------------------------------------- kinds of checkpoint


def test_a_single_file_beside_its_config(pairs: Pairs) -> None:
    folder = pairs("llama").base
    model = loaded(folder / "model.safetensors")
    assert torch.equal(logits(model.model), logits(theirs(folder)))


def test_shards_and_bfloat16(tmp_path: Path) -> None:
    build("llama").bfloat16().save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert torch.equal(logits(loaded(tmp_path).model), logits(theirs(tmp_path)))


@pytest.mark.parametrize("name", ["plain", "gpt2", "modules_to_save", "embedding tied"])
def test_an_adapter_is_the_merged_model(tmp_path: Path, name: str) -> None:
    build_base, settings = SETTINGS[name]
    model = build_base()
    merged = make_pair(tmp_path, model, **settings)
    own = theirs(tmp_path / "base")
    found = loaded(tmp_path / "adapter")
    if name == "embedding tied":
        assert found.tied
    own.load_state_dict(merged)
    ids = torch.tensor([[1, 7, 30, 4, 4, 19]])
    with torch.inference_mode():
        expected, ours = own(input_ids=ids).logits, found.model(input_ids=ids).logits
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_old_names_on_disk(pairs: Pairs, tmp_path: Path) -> None:
    """A base model's file, without the prefix of the language model, and with masks that nobody needs."""

    def rename(tensors: dict[str, torch.Tensor]) -> None:
        for name in list(tensors):
            tensors[name.removeprefix("transformer.")] = tensors.pop(name)
        tensors["h.0.attn.bias"] = torch.ones(1, 1, 8, 8)

    folder = edited(pairs, tmp_path, rename, "gpt2")
    assert torch.equal(logits(loaded(folder).model), logits(theirs(pairs("gpt2").base)))


def test_two_models_share_nothing(pairs: Pairs) -> None:
    one, other = loaded(pairs("llama").base), loaded(pairs("llama").base)
    before = logits(other.model)
    with torch.inference_mode():
        disturbed(one.model, 1.0)
    assert torch.equal(logits(other.model), before)


@pytest.mark.parametrize(
    ("name", "wrapper", "prefix"),
    [("gemma3_text", "gemma3", "language_model."), ("mistral", "mistral3", "language_model.")],
)
def test_the_language_model_inside_a_wrapper(name: str, wrapper: str, prefix: str, tmp_path: Path) -> None:
    model = build(name)
    model.save_pretrained(tmp_path)
    tensors = {prefix + key: value for key, value in load_file(tmp_path / "model.safetensors").items()}
    save_file(tensors | {"vision_tower.patch.weight": torch.zeros(3, 3)}, tmp_path / "model.safetensors")
    inner = json.loads((tmp_path / "config.json").read_text())
    config = {"model_type": wrapper, "text_config": inner, "vision_config": {}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    live = LiveModel(open_checkpoint(str(tmp_path)), torch.float32, CPU)
    live.load_ends()
    for number in range(len(live.layers)):
        live.load_layer(number)
    ids = torch.tensor([[3, 9, 27, 41, 5]])
    with torch.inference_mode():
        assert torch.equal(live.model(ids).logits, model(ids).logits)
    assert len(live.notes) == 1
    assert "vision_tower.patch.weight" in live.notes[0]
