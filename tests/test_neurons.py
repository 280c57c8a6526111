"""Which coefficients carry a window: gates against plain hooks and finite differences, planted neurons, bad inputs."""

from __future__ import annotations

import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ckdiff import ProbeSpec, probe
from ckdiff.probes.live.patches import gate_neurons
from ckdiff.probes.losses import Scorer
from ckdiff.probes.neurons.gated_window import GatedWindow, neuron_count
from ckdiff.probes.neurons.search import (
    COMPLETE,
    INTERIOR,
    RANDOM_SETS,
    SEED,
    _Tried,
    best_window,
    first_sizes,
    interior,
)
from ckdiff.probes.prompts import batches
from ckdiff.probes.sweep import SIDES
from ckdiff.progress import Listener, Stopped
from ckdiff.report.hdf5.file import read_report, write_report
from ckdiff.scoring.settings import Settings, SettingsError
from ckdiff.weights.architectures import ARCHITECTURES
from tests.reference import Reference, plain_losses
from tests.reports import bump, run, same
from tests.test_probe_cli import ASKED, QUICK, save_tokenizer
from tests.test_probe_cli import ckdiff as ckdiff
from tests.test_probe_cli import made as made
from tests.test_probe_cli import place as place
from tests.test_sweep import tolerance
from tests.tiny_families import EAGER_ONLY
from tests.tiny_pairs import CPU, IDS, LAYERS, Folders, by_question, live_pair, load, prompts_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from torch import Tensor

    from ckdiff.probes.sweep import Pair
    from ckdiff.report.schema.probe import NeuronSet, Probe
    from ckdiff.report.schema.report import Side
    from ckdiff.scoring.scores import QuestionLosses

    Pairs = Callable[[str], Folders]
    Run = Callable[..., tuple[int, str, str]]

FAMILIES = ("llama", "gpt2", "gemma2", "bloom", "gpt_neox", "opt", "cohere", "phi3", "qwen2-tied", "gptj")
WINDOW = (1, 2)
HOSTS: dict[str, Side] = {"restore": "unlearned", "break": "base"}
PARTS = batches(prompts_of(), 2, CPU)
TOLERANCE = dict.fromkeys(EAGER_ONLY, tolerance("eager"))


def gated(pair: Pair, direction: str, stream: bool = False, chunk: int = 64) -> GatedWindow:
    return GatedWindow(pair, HOSTS[direction], PARTS, WINDOW, stream, chunk)


def rows(window: GatedWindow, sets: Collection[Collection[tuple[int, int]]]) -> Tensor:
    """Gates of 1 for the (layer, neuron) pairs of each set."""
    gates = torch.zeros(len(sets), sum(window.neurons), dtype=torch.float64)
    for row, chosen in enumerate(sets):
        for layer, neuron in chosen:
            gates[row, sum(window.neurons[: layer - WINDOW[0]]) + neuron] = 1
    return gates


def scorer_of(pair: Pair, window: GatedWindow) -> Scorer:
    """The base's own hidden states, from a window of the base with no gate open."""
    own = GatedWindow(pair, "base", PARTS, WINDOW, stream=False, chunk=64)
    hidden = own.finals(torch.zeros(1, sum(window.neurons), dtype=torch.float64))[0]
    sample = torch.randn(4, pair.base.config.hidden_size, dtype=torch.float64)
    return Scorer(hidden, {side: pair.side(side).unembedding(sample) for side in SIDES}, runs=1)


def losses_of(
    pair: Pair, window: GatedWindow, direction: str, gates: Tensor, scorer: Scorer | None = None
) -> QuestionLosses:
    finals = window.finals(gates)
    return by_question((scorer or scorer_of(pair, window)).losses(HOSTS[direction], list(finals)))


def weights() -> Tensor:
    """What a position counts in the mean over questions of means over positions."""
    return torch.tensor([1 / (len(IDS) * len(one.answer)) for one in IDS for _ in one.answer], dtype=torch.float64)


STEP = 0.02
"""Of a difference of five points. Norms round to float32 in many models, so that a small step shows rounding alone."""


# ---------------------------------------------------------------------------------------------- against the reference


@pytest.mark.rounding
@pytest.mark.parametrize("direction", HOSTS)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_set_of_neurons_is_put_back_as_hooks_do(pairs: Pairs, name: str, direction: str) -> None:
    pair = load(live_pair(pairs(name)))
    reference = Reference(pairs(name).base, pairs(name).unlearned, IDS, torch.float64, None)
    with torch.no_grad():
        window = gated(pair, direction)
        every = [(layer, neuron) for layer, n in zip((1, 2), window.neurons, strict=True) for neuron in range(n)]
        sets: tuple[list[tuple[int, int]], ...] = ([], [(1, 3), (2, 0), (2, 51)], every[::3], every)
        found = losses_of(pair, window, direction, rows(window, sets))
    whole = reference.unlearned()
    expected = [reference.neurons(direction, WINDOW, chosen) for chosen in sets]
    window_itself = reference.run(direction, "coeff", "open", WINDOW)
    for loss in ("mse", "mse_centred", "kl", "top1"):
        unit = 1.0 if loss == "top1" else float(getattr(whole, loss).mean())
        tolerance = TOLERANCE.get(name, 1e-9) * unit
        for row, one in enumerate(expected):
            np.testing.assert_allclose(getattr(found, loss)[row], getattr(one, loss).numpy(), rtol=0, atol=tolerance)
        np.testing.assert_allclose(
            getattr(found, loss)[-1], getattr(window_itself, loss).numpy(), rtol=0, atol=tolerance
        )
    if direction == "break":
        # The base itself, but computed among four runs: products of another shape round otherwise, and KL is the square
        # of what that does to the logits.
        assert found.kl[0].max() < TOLERANCE.get(name, 1e-9) ** 2


@pytest.mark.rounding
@pytest.mark.parametrize("name", FAMILIES)
def test_gates_of_0_and_1_are_exact(pairs: Pairs, name: str) -> None:
    sites = load(live_pair(pairs(name))).unlearned.sites[1]
    generator = torch.Generator().manual_seed(2)
    donor = torch.randn(2, 5, neuron_count(sites), dtype=torch.float64, generator=generator)
    own = torch.randn(6, *donor.shape[1:], dtype=torch.float64, generator=generator)
    gates = torch.rand(3, donor.shape[-1], dtype=torch.float64, generator=generator).round()
    chosen = torch.where(gates[:, None, None] == 1, donor, own.view(3, *donor.shape)).view(own.shape)
    assert sites.values is not None
    with torch.no_grad(), gate_neurons(sites, donor, gates):
        found = sites.values(own)
    with torch.no_grad():
        assert torch.equal(found, sites.values(chosen))


@pytest.mark.parametrize("direction", HOSTS)
@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "opt"])
def test_slopes_are_finite_differences(pairs: Pairs, name: str, direction: str) -> None:
    """At gates that are neither open nor shut, in both layers of the window; OPT's ReLU has corners."""
    pair = load(live_pair(pairs(name)))
    with torch.no_grad():
        window = gated(pair, direction)
        scorer, side = scorer_of(pair, window), HOSTS[direction]
        count = sum(window.neurons)
        gates = torch.rand(2, count, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

        def by_hidden(hidden: Tensor) -> Tensor:
            return torch.stack([scorer.slopes(side, one) * weights()[:, None] for one in hidden])

        found = window.slopes(gates, by_hidden)
        largest = float(found.abs().max())
        for neuron in (0, 7, count - 1, int(found[0].abs().argmax())):
            step = torch.zeros_like(gates)
            step[:, neuron] = STEP
            moved = torch.cat([gates + times * step for times in (1, -1, 2, -2)])
            one, other, third, fourth = losses_of(pair, window, direction, moved, scorer).kl.mean(1).reshape(4, 2)
            slope = (8 * (one - other) - (third - fourth)) / (12 * STEP)
            np.testing.assert_allclose(found[:, neuron].numpy(), slope, rtol=0, atol=1e-3 * largest)


@pytest.mark.parametrize("name", ["llama", "gemma2", "cohere", "gptj", "phi"])
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("size", [1e-6, 0.3, 60.0])
def test_the_slope_of_kl_is_autograds(pairs: Pairs, name: str, side: Side, size: float) -> None:
    pair = load(live_pair(pairs(name)))
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        hidden = torch.randn(70, pair.base.config.hidden_size, dtype=torch.float64, generator=generator)
        moved = hidden + size * torch.randn(hidden.shape, dtype=torch.float64, generator=generator)
        heads = {one: pair.side(one).unembedding(hidden[:4]) for one in SIDES}
        found = Scorer(hidden, heads, runs=1).slopes(side, moved)

    def logits(states: Tensor, one: Side) -> Tensor:
        head = heads[one]
        plain = head.scale * torch.nn.functional.linear(states, head.weight, head.bias)
        return plain if head.cap is None else head.cap * torch.tanh(plain / head.cap)

    leaf = moved.clone().requires_grad_()
    kl = plain_losses(logits(leaf, side), logits(hidden, "base"))[2]
    (expected,) = torch.autograd.grad(kl.sum(), leaf)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9 * float(expected.abs().max()) + 1e-12)


@pytest.mark.parametrize("name", ["llama", "gemma2", "qwen2-tied"])
def test_how_it_is_done_changes_nothing(pairs: Pairs, name: str) -> None:
    with torch.no_grad():
        loaded = load(live_pair(pairs(name)))
        plain = gated(loaded, "restore")
        gates = torch.rand(3, sum(plain.neurons), dtype=torch.float64)
        streamed = live_pair(pairs(name))
        other = gated(streamed, "restore", stream=True)
        assert {value.device.type for layer in streamed.base.layers for value in layer.parameters()} == {"meta"}
        for side in SIDES:
            streamed.side(side).load_ends(embedding=False)
        for window in (other, gated(loaded, "restore", chunk=1), gated(loaded, "restore", chunk=1 << 20)):
            torch.testing.assert_close(window.finals(gates), plain.finals(gates), rtol=0, atol=1e-9)
            slopes = [one.slopes(gates, lambda hidden: hidden * weights()[:, None]) for one in (window, plain)]
            torch.testing.assert_close(*slopes, rtol=0, atol=1e-9)


# ------------------------------------------------------------------------------------------------------ whole probes

FAST = Settings(window=1, tokens=4, device="cpu", dtype="float64", variants=("open",), neurons=True)
BOTH = replace(FAST, window=2, variants=("open", "whole"), directions=("restore", "break"))
MOVED = (1, 2)
"""Layers whose keys are moved: their window brings everything back, on every question."""


def moved(base: Path, root: Path, layers: Collection[int] = MOVED) -> Folders:
    """A base that talks, and the same with noise on the keys of some layers: two or more windows matter in it."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(base)
    sites = ARCHITECTURES[model.config.model_type].sites
    generator = torch.Generator().manual_seed(5)
    for layer in layers:
        for path in sites.keys or ("mlp.gate_proj", "mlp.up_proj"):
            weight = model.get_parameter(f"{sites.layers}.{layer}.{path}.weight")
            with torch.no_grad():
                weight += 0.1 * torch.randn(weight.shape, generator=generator)
    if base != root / "base":
        shutil.copytree(base, root / "base")
    model.save_pretrained(root / "unlearned")
    for side in ("base", "unlearned"):
        save_tokenizer(root / side)
    return Folders(root / "base", root / "unlearned")


def probed(folders: Folders, settings: Settings, **more: Any) -> Probe:
    spec = ProbeSpec(str(folders.base), str(folders.unlearned), asked=ASKED, settings=settings, hash=False)
    found = probe(spec, **more).probe
    assert found is not None
    return found


@pytest.fixture(scope="module")
def talking(pairs: Pairs, tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Llama, and Llama with other keys in two layers."""
    return moved(pairs("llama").base, tmp_path_factory.mktemp("talking"))


PLANTED = (3, 17, 40)
PLANTED_LAYER = 2


@pytest.fixture(scope="module")
def planted(talking: Folders, tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """The base, and the base with the keys of three neurons of one layer turned round."""
    root = tmp_path_factory.mktemp("planted")
    for side in ("base", "unlearned"):
        shutil.copytree(talking.base, root / side)
    tensors = load_file(root / "unlearned" / "model.safetensors")
    for name in ("gate_proj", "up_proj"):
        tensors[f"model.layers.{PLANTED_LAYER}.mlp.{name}.weight"][list(PLANTED)] *= -2
    save_file(tensors, root / "unlearned" / "model.safetensors", metadata={"format": "pt"})
    return Folders(root / "base", root / "unlearned")


@pytest.mark.parametrize("stream", ["off", "on"])
def test_planted_neurons_are_the_set(planted: Folders, stream: Any) -> None:
    """Nobody but them has another coefficient, and to bring everything back each of them is needed.

    Broken into the base, two of them may do more than the three together.
    """
    settings = replace(FAST, directions=("restore", "break"), neuron_goal=1.0, stream=stream)
    found = probed(planted, settings)
    assert [(one.direction, one.first, one.last) for one in found.neurons] == [
        ("restore", PLANTED_LAYER, PLANTED_LAYER),
        ("break", PLANTED_LAYER, PLANTED_LAYER),
    ]
    places = {(PLANTED_LAYER, neuron) for neuron in PLANTED}
    for one in found.neurons:
        assert {(row.layer, row.neuron) for row in one.neurons} <= places
        assert one.total == pytest.approx(1, abs=COMPLETE[torch.float64])
        assert one.random_high < 0.9
        assert_smallest(one)
    restored = found.neurons[0]
    assert {(row.layer, row.neuron) for row in restored.neurons} == places
    assert sum(row.contribution for row in restored.neurons) == pytest.approx(restored.total, abs=1e-9)
    assert restored.score == pytest.approx(1, abs=1e-9)


def test_a_lower_goal_wants_fewer(planted: Folders) -> None:
    (found,) = probed(planted, replace(FAST, neuron_goal=0.3)).neurons
    assert len(found.neurons) < len(PLANTED)
    assert found.goal == 0.3
    assert found.score >= 0.3 * found.window_score


def test_a_set_is_confirmed_by_the_reference(talking: Folders) -> None:
    """The score of the set and of every tried size, the random sets, and the losses, each by plain hooks."""
    found = probed(talking, BOTH)
    assert [(one.direction, one.first, one.last) for one in found.neurons] == [
        *(("restore", 1, 2), ("restore", 0, 3), ("break", 1, 2), ("break", 0, 3))
    ]
    ids = [replace(IDS[0], prompt=prompt, answer=one.answer_ids) for prompt, one in prompts(talking, found)]
    reference = Reference(talking.base, talking.unlearned, ids, torch.float64, "sdpa")
    whole = reference.unlearned()
    for one in found.neurons:
        own = reference.neurons(one.direction, (one.first, one.last), [(row.layer, row.neuron) for row in one.neurons])
        for loss in ("mse", "mse_centred", "kl"):
            np.testing.assert_allclose(getattr(one, f"loss_{loss}"), getattr(own, loss).numpy(), rtol=0, atol=1e-9)
        for name, loss in (("krs", "mse"), ("krs_centred", "mse_centred"), ("score", "kl")):
            share = float(getattr(own, loss).mean() / getattr(whole, loss).mean())
            score = 1 - share if one.direction == "restore" else share
            assert getattr(one, name) == pytest.approx(score, rel=0, abs=1e-9)
        assert one.low <= one.score <= one.high
        assert_smallest(one)
        assert one.random_low <= one.random_score <= one.random_high
        scores = []
        for chosen in drawn_again(one):
            share = float(reference.neurons(one.direction, (one.first, one.last), chosen).kl.mean() / whole.kl.mean())
            scores.append(1 - share if one.direction == "restore" else share)
        assert one.random_sets == len(scores) == RANDOM_SETS
        found_ends = one.random_score, one.random_low, one.random_high
        assert found_ends == pytest.approx((np.mean(scores), min(scores), max(scores)), rel=0, abs=1e-9)


def prompts(folders: Folders, found: Probe) -> Any:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folders.base)
    for one in found.questions:
        yield tuple(tokenizer(f"Question: {one.text}\n Answer:")["input_ids"]), one


def drawn_again(one: NeuronSet) -> list[list[tuple[int, int]]]:
    """Ten sets with as many neurons of each layer, by the same generator."""
    generator, width = np.random.default_rng(SEED), one.candidates // (one.last - one.first + 1)
    sets = []
    for _ in range(RANDOM_SETS):
        chosen = []
        for layer in range(one.first, one.last + 1):
            count = sum(row.layer == layer for row in one.neurons)
            chosen += [(layer, int(neuron)) for neuron in generator.permutation(width)[:count]]
        sets.append(chosen)
    return sets


def assert_smallest(one: NeuronSet) -> None:
    """The set reaches the goal, one neuron less does not, and all neurons are the window."""
    tried = dict(zip(one.sizes.tolist(), one.sizes_score.tolist(), strict=True))
    size = len(one.neurons)
    assert list(tried) == sorted(tried)
    assert tried[size] == pytest.approx(one.score, abs=1e-12)
    assert one.score >= one.goal * one.window_score - 1e-9
    assert all(score < one.goal * one.window_score for other, score in tried.items() if other < size)
    assert size == 1 or size - 1 in tried
    assert tried[one.candidates] == pytest.approx(one.window_score, rel=0, abs=1e-9)
    shares = [row.contribution for row in one.neurons]
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma2", "bloom", "opt"])
def test_all_shares_add_up_to_one(name: str, pairs: Pairs, tmp_path: Path) -> None:
    folders, asked = moved(pairs(name).base, tmp_path), tmp_path / "asked.jsonl"
    # A random model may answer them all alike: that they are about several facts is said here.
    lines = [json.dumps({"question": text, "fact": number}) for number, text in enumerate(ASKED, 1)]
    asked.write_text("\n".join(lines), encoding="utf-8")
    spec = ProbeSpec(str(folders.base), str(folders.unlearned), questions=asked, settings=BOTH, hash=False)
    found = probe(spec).probe
    assert found is not None
    assert [question.cluster for question in found.questions] == [*range(len(ASKED))]
    assert len(found.neurons) == 4
    for one in found.neurons:
        assert one.total == pytest.approx(1, abs=COMPLETE[torch.float64])
        assert_smallest(one)


def test_in_float32_it_is_the_same_set(planted: Folders) -> None:
    (one,) = probed(planted, FAST).neurons
    (other,) = probed(planted, replace(FAST, dtype="float32")).neurons
    assert [(row.layer, row.neuron) for row in one.neurons] == [(row.layer, row.neuron) for row in other.neurons]
    assert other.score == pytest.approx(one.score, abs=1e-5)
    assert other.total == pytest.approx(1, abs=COMPLETE[torch.float32])


def test_a_probe_with_neurons_is_the_probe_without_and_the_neurons(talking: Folders) -> None:
    """No other number moves by a bit, and the same command finds the same sets."""
    found, again = probed(talking, BOTH), probed(talking, BOTH)
    assert same(found, again)
    plain = probed(talking, replace(BOTH, neurons=False))
    assert plain.neurons == ()
    for one, other in zip(found.runs, plain.runs, strict=True):
        assert same(one, other)
    assert found.settings["neurons"] == "0.8"
    assert "neurons" not in plain.settings


# ---------------------------------------------------------------------------------------------- what cannot be found


def test_no_window_that_matters_is_a_note(planted: Folders) -> None:
    found = probed(planted, replace(FAST, layers=(0, 1)))
    assert found.neurons == ()
    assert found.notes[-1] == (
        "no neurons were looked for in restore coeff open: no window's band of krs_kl lies above 0"
    )


def test_one_question_has_no_band(planted: Folders) -> None:
    spec = ProbeSpec(str(planted.base), str(planted.unlearned), asked=ASKED[:1], settings=FAST, hash=False)
    found = probe(spec).probe
    assert found is not None
    assert found.neurons == ()
    assert found.notes[-1].endswith("without intervals no window is told from nothing; ask two questions or more")


def test_a_mixture_in_every_layer_is_refused(pairs: Pairs, tmp_path: Path) -> None:
    folders = moved(pairs("mixtral").base, tmp_path, layers=())
    with pytest.raises(SettingsError, match=r"--neurons: every layer of .* is a mixture of experts") as caught:
        probed(folders, FAST)
    assert len(str(caught.value).splitlines()) == 1


def test_dense_layers_of_a_mixture_have_neurons(pairs: Pairs, tmp_path: Path) -> None:
    """Layer 0 of this one is dense, the layers behind it are mixtures."""
    found = probed(moved(pairs("qwen3_moe").base, tmp_path, (0,)), replace(BOTH, window=1, directions=("break",)))
    assert [(one.first, one.last) for one in found.neurons] == [(0, 0)]
    assert_smallest(found.neurons[0])
    # Where a router behind the window changes its mind the loss jumps, which no slope sees: then a note says so.
    gap = abs(found.neurons[0].total - 1)
    assert any("shares add up to" in note for note in found.notes) == (gap > COMPLETE[torch.float64])
    assert gap < 0.1
    assert any("in break coeff whole: layer 1 is a mixture of experts" in note for note in found.notes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"modes": ("values",)}, "--mode"),
        ({"variants": ("isolated", "direct")}, "--variant"),
        ({"kl": False}, "--no-kl"),
        ({"neuron_goal": 0.0}, "--neuron-goal: 0 cannot be; give more than 0, at most 1"),
        ({"neuron_goal": 1.5}, "--neuron-goal: 1.5 cannot be; give more than 0, at most 1"),
        ({"neuron_goal": float("nan")}, "--neuron-goal: nan cannot be; give more than 0, at most 1"),
    ],
)
def test_settings_that_cannot_find_any(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        replace(FAST, **changes).check()
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    replace(FAST, **(changes | {"neurons": False, "neuron_goal": 0.8})).check()


# ------------------------------------------------------------------------------------------------------------ parts


def test_the_window_that_matters_is_the_best_whose_band_lies_above_0() -> None:
    """The band of the sample is 0.1 wide on each side; widened at the highest window, the next one matters."""
    found = run(scores=(bump(8, 7, 0.9), bump(8, 7, 0.9), bump(8, 3, 0.6)))
    assert best_window(found) == 3
    low = np.array(found.krs_kl.band_low)
    low[3] = -0.01
    assert best_window(replace(found, krs_kl=replace(found.krs_kl, band_low=low))) in (2, 4)
    nothing = np.full(8, np.nan)
    assert best_window(replace(found, krs_kl=replace(found.krs_kl, band_low=nothing))) is None


@pytest.mark.parametrize("candidates", [1, 2, 3, 7, 8, 9, 1000, 46080])
def test_first_sizes_end_with_all(candidates: int) -> None:
    sizes = list(first_sizes(candidates))
    assert sizes == sorted(set(sizes))
    assert (sizes[0], sizes[-1]) == (1, candidates)
    assert all(later <= 2 * earlier for earlier, later in itertools.pairwise(sizes))


@pytest.mark.parametrize(("below", "reach"), [(0, 1), (0, 2), (3, 9), (16, 32), (512, 1024), (32768, 46080)])
def test_sizes_between(below: int, reach: int) -> None:
    sizes = interior(below, reach)
    assert sizes == sorted(set(sizes))
    assert all(below < size < reach for size in sizes)
    assert len(sizes) == min(INTERIOR, reach - below - 1)


def test_a_search_among_scores_that_rise_and_fall() -> None:
    """The first size that reaches the goal among those tried; the one below it has been tried, 59 and 20 have not."""
    scores = {size: 0.01 * size for size in range(1, 101)} | {20: 0.9, 21: 0.1, 60: 0.2}
    tried, sizes, nothing = _Tried(), list(first_sizes(100)), np.zeros(1)
    while sizes:
        for size in sizes:
            tried.add(size, scores[size], nothing)  # type: ignore[arg-type]
        sizes = interior(*tried.bracket(0.59))
    below, size = tried.bracket(0.59)
    assert below == size - 1
    assert scores[size] >= 0.59 > max(score for one, score in tried.scores.items() if one < size)
    assert size == 61


# --------------------------------------------------------------------------------------------------- command, report

SAME = ("--questions", "questions.txt", *QUICK, "--window", 2)
NEURONS = (*SAME, "--neurons", "--variant", "open,whole", "--direction", "both")


@pytest.fixture
def other_keys(place: Path) -> Path:
    """In the directory of the pair, whose unlearned model has other keys now."""
    shutil.rmtree(place / "unlearned")
    moved(place / "base", place)
    return place


@pytest.mark.usefixtures("other_keys")
def test_the_command_shows_and_keeps_them(ckdiff: Run) -> None:
    status, out, err = ckdiff("probe", "base", "unlearned", *NEURONS)
    assert status == 0, err
    assert "Which coefficients" in out
    found = read_report("ckdiff.h5").probe
    assert found is not None
    assert len(found.neurons) == 4
    tree = json.loads(ckdiff("show", "ckdiff.h5", "--format", "json")[1])["probe"]
    assert [len(one["neurons"]) for one in tree["neurons"]] == [len(one.neurons) for one in found.neurons]
    # Another mode of the same questions is added, and what was found stays.
    assert ckdiff("probe", "base", "unlearned", *SAME, "--mode", "attn")[0] == 0
    more = read_report("ckdiff.h5").probe
    assert more is not None
    assert {one.mode for one in more.runs} == {"coeff", "attn"}
    assert same(more.neurons, found.neurons)
    assert more.settings["neurons"] == "0.8"
    # Asked for anew they take the place of those of the same direction and kind.
    again = (*SAME, "--neurons", "--variant", "whole", "--neuron-goal", "0.5")
    assert ckdiff("probe", "base", "unlearned", *again)[0] == 0
    last = read_report("ckdiff.h5").probe
    assert last is not None
    goals = {(one.direction, one.layer < 0): one.goal for one in last.neurons}
    assert goals == {
        (one.direction, one.layer < 0): 0.5 if (one.direction, one.layer < 0) == ("restore", True) else 0.8
        for one in found.neurons
    }
    assert last.settings["neurons"] == "0.8,0.5"


def test_plan_counts_them(ckdiff: Run) -> None:
    plain = ckdiff("probe", "base", "unlearned", "--questions", "questions.txt", *QUICK, "--plan")[1]
    status, out, _ = ckdiff("probe", "base", "unlearned", *NEURONS, "--plan")
    assert status == 0
    work = [float(text.split("work")[1].split()[0]) for text in (plain, out)]
    assert work[1] > work[0]


def test_stopped_among_neurons_the_sweep_is_kept(other_keys: Path) -> None:
    settings = Settings(window=2, tokens=4, device="cpu", neurons=True, directions=("break",))
    spec = ProbeSpec("base", "unlearned", asked=ASKED, settings=settings)
    write_report(probe(spec), "whole.h5")
    stages: list[str] = []

    def progress(stage: str, done: int, total: int, detail: str) -> None:
        stages.append(stage)

    keep = other_keys / "partial"
    with pytest.raises(Stopped):
        probe(spec, Listener(progress, lambda: "neurons" in stages), keep=keep)
    assert keep.exists()
    stages.clear()
    write_report(probe(spec, Listener(progress), keep=keep, resume=True), "pieces.h5")
    assert "answers" not in stages
    assert Path("whole.h5").read_bytes() == Path("pieces.h5").read_bytes()


def test_little_memory_changes_nothing(talking: Folders) -> None:
    settings = replace(BOTH, variants=("whole",), directions=("break",), stream="on")
    expected = probed(talking, settings).neurons
    for memory in range(100_000, 4_000_000, 20_000):
        try:
            found = probed(talking, replace(settings, memory=memory)).neurons
            break
        except Exception as error:
            assert "of memory are needed" in str(error)  # noqa: PT017
    assert [row.neuron for row in found[0].neurons] == [row.neuron for row in expected[0].neurons]
    np.testing.assert_allclose(found[0].sizes_score, expected[0].sizes_score, rtol=0, atol=1e-9)


def test_an_effect_of_many_is_carried_by_many(talking: Folders) -> None:
    """All keys of two layers were moved: no few neurons carry that, and a random set of that size brings much less."""
    for found in probed(talking, BOTH).neurons:
        assert len(found.neurons) > len(PLANTED)
        assert found.random_high < found.score


def test_layers_of_the_model_are_all_in_whole(talking: Folders) -> None:
    (found,) = probed(talking, replace(BOTH, variants=("whole",), directions=("break",))).neurons
    assert (found.layer, found.first, found.last) == (-1, 0, LAYERS - 1)
    assert {row.layer for row in found.neurons} <= set(range(LAYERS))
