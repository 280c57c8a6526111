"""The sweep against `tests.reference`, and what must not change its numbers."""

from __future__ import annotations

import functools
import itertools
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ckdiff.errors import ExitStatus
from ckdiff.modes import DIRECTIONS, EVERY_MODE, MODES, VARIANTS, is_planned
from ckdiff.probes import cost
from ckdiff.probes import kept_sweep as partial
from ckdiff.probes.assembly import NothingToRecoverError
from ckdiff.probes.cost import SHARE
from ckdiff.probes.kept_sweep import Progress
from ckdiff.probes.losses import Scorer
from ckdiff.probes.preparation import prepare, settings_record, settle
from ckdiff.probes.probe import probe_pair
from ckdiff.probes.sweep import SIDES, State, host_of
from ckdiff.progress import Listener, Stopped
from ckdiff.questions.questions import Question, QuestionSet
from ckdiff.scoring.runs import Patch, Run, Schedule, plan_runs, window_of
from ckdiff.scoring.scores import QuestionLosses
from ckdiff.scoring.settings import Settings, SettingsError
from ckdiff.weights.opening import open_checkpoint
from tests.reference import STATES, Reference
from tests.tiny_families import ALL, EAGER_ONLY
from tests.tiny_pairs import CPU, IDS, LAYERS, PLAIN, Folders, How, live_pair, load, measure, prompts_of, scores

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from ckdiff.probes.sweep import Pair
    from ckdiff.report.schema.probe import Probe
    from tests.reference import Losses
    from tests.tiny_pairs import Measured

    Pairs = Callable[[str], Folders]


def attention_of(name: str) -> str:
    """What a family gets where nothing is asked for."""
    return "eager" if name in EAGER_ONLY else "sdpa"


SINGLE = ("llama", "gpt2", "gemma2", "gpt_neox", "bloom", "opt", "mixtral", "qwen2_moe", "phi3")
BOTH = (*SINGLE, "mistral", "gemma3_text", "cohere2", "falcon", "phimoe")
"""Families whose masks, sliding windows, heads or experts are their own: in both attentions, if they have both."""
CASES = [(name, attention_of(name), 3) for name in ALL]
OTHERS = [(name, "eager", 3) for name in ALL if name not in EAGER_ONLY]
CASES += [case for case in OTHERS if case[0] in BOTH] + [(name, attention_of(name), 1) for name in SINGLE]
EVERY_CASE = [*CASES, *(case for case in OTHERS if case[0] not in BOTH)]
LOSSES = ("mse", "mse_centred", "kl", "top1", "js")
CURVES = (("krs", "mse"), ("krs_centred", "mse_centred"), ("krs_kl", "kl"), ("krs_js", "js"))


def tolerance(attention: str) -> float:
    """Of a score, and of a loss as a share of the unlearned model's mean loss.

    Eager attention normalises in float32 (and multiplies in it in some families), whatever the model's dtype: padding
    shows in the last digits of that, on some processors only (those with AVX2 and no more).
    """
    return 1e-6 if attention == "eager" else 1e-9


def modes_of(pair: Pair) -> tuple[str, ...]:
    """Those that every layer of a pair has."""
    return tuple(name for name, mode in EVERY_MODE.items() if all(mode.applies(sites) for sites in pair.base.sites))


def few(plan: Schedule, shift: int) -> set[int]:
    """Of each mode and variant one run in one direction, and one of those with another question's states.

    Which one goes round with the mode, the variant and `shift`: `test_few_runs_are_of_every_kind`.
    """
    chosen = set()
    for sweep in plan.sweeps:
        mode, variant = tuple(EVERY_MODE).index(sweep.mode), tuple(VARIANTS).index(sweep.variant)
        if DIRECTIONS.index(sweep.direction) == (mode + variant + shift) % 2:
            turn = mode // 2 + variant + shift // 2
            chosen.add(sweep.runs[turn % len(sweep.runs)])
            chosen.update(list(sweep.wrong.values())[turn % 2 :][:1])
    return chosen


def fewer(plan: Schedule, shift: int) -> set[int]:
    """Of those the ones of one variant a mode, and of every third subset of weights.

    Which goes round with the mode and `shift`: `test_fewer_runs_are_of_every_kind`.
    """
    rows, names = tuple(EVERY_MODE), [*VARIANTS]

    def wanted(mode: str, variant: str) -> bool:
        turn = rows.index(mode) + shift // 2
        planned = [name for name in names if is_planned(mode, name)]
        return variant == planned[turn % len(planned)] and (len(planned) > 1 or turn % 3 == 0)

    sweeps = tuple(sweep for sweep in plan.sweeps if wanted(sweep.mode, sweep.variant))
    return few(replace(plan, sweeps=sweeps), shift)


def only(plan: Schedule, chosen: set[int]) -> Schedule:
    """The chosen runs of a plan alone."""
    kept = {number: place for place, number in enumerate(sorted(chosen))}
    sweeps = []
    for sweep in plan.sweeps:
        pairs = [(centre, kept[run]) for centre, run in zip(sweep.centres, sweep.runs, strict=True) if run in kept]
        wrong = {centre: kept[run] for centre, run in sweep.wrong.items() if run in kept}
        if pairs or wrong:
            centres, runs = (tuple(part[place] for part in pairs) for place in (0, 1))
            sweeps.append(replace(sweep, centres=centres, runs=runs, wrong=wrong))
    return Schedule(plan.layers, tuple(plan.runs[number] for number in kept), tuple(sweeps), {}, {})


def choice_of(name: str, attention: str, width: int) -> Callable[[Schedule], set[int]]:
    """Families that have something of their own are asked for every mode and variant, the others for every mode."""
    choose = few if name in SINGLE and (attention, width) == (attention_of(name), 3) else fewer
    return lambda plan: choose(plan, shift_of(name, attention, width))


def shift_of(name: str, attention: str, width: int) -> int:
    """Another one for each family, and for its other attention and width."""
    return list(ALL).index(name) + (attention != attention_of(name)) + 3 * (width == 1)


def assert_same(
    folders: Folders,
    attention: str | None,
    width: int,
    tolerance: float,
    choose: Callable[[Schedule], set[int]],
) -> None:
    """The chosen runs of a plan of every mode and variant, another question's states too, against the reference."""
    pair = load(live_pair(folders, attention=attention))
    reference = Reference(folders.base, folders.unlearned, IDS, torch.float64, attention)
    assert modes_of(pair) == tuple(mode for mode in EVERY_MODE if mode in reference.modes())
    plan = plan_runs(DIRECTIONS, modes_of(pair), VARIANTS, range(LAYERS), width, LAYERS)
    plan = only(plan, choose(plan))
    measured = measure(pair, plan)
    whole = reference.unlearned()
    assert_losses(measured, None, whole, whole, tolerance, "unlearned")
    for sweep, run in zip(plan.sweeps, scores(measured, plan, width), strict=True):
        for place, (centre, number) in enumerate(zip(sweep.centres, sweep.runs, strict=True)):
            label = f"{sweep.direction} {sweep.mode} {sweep.variant} at {centre}"
            window = window_of(max(centre, 0), width, LAYERS)
            expected = reference.run(sweep.direction, sweep.mode, sweep.variant, window)
            assert_losses(measured, number, expected, whole, tolerance, label)
            for curve, loss in CURVES:
                ratio = float(getattr(expected, loss).mean() / getattr(whole, loss).mean())
                score = 1 - ratio if sweep.direction == "restore" else ratio
                assert getattr(run, curve).score[place] == pytest.approx(score, rel=0, abs=tolerance), (label, curve)
            assert run.top1[place] == pytest.approx(float(expected.top1.mean()), rel=0, abs=1e-12), label
        for centre, number in sweep.wrong.items():
            window = window_of(centre, width, LAYERS)
            expected = reference.run(sweep.direction, sweep.mode, sweep.variant, window, wrong=True)
            label = f"{sweep.direction} {sweep.mode} {sweep.variant} at {centre}, wrong prompt"
            assert_losses(measured, number, expected, whole, tolerance, label)


def assert_losses(
    measured: Measured, number: int | None, expected: Losses, whole: Losses, tolerance: float, label: str
) -> None:
    for loss in LOSSES:
        found = getattr(measured.unlearned, loss) if number is None else getattr(measured.losses, loss)[number]
        unit = 1.0 if loss == "top1" else float(getattr(whole, loss).mean())
        assert unit > 0
        gap = np.abs(found - getattr(expected, loss).numpy()).max() / unit
        assert gap <= tolerance, f"{label}: {loss} is off by {gap:.1e} of the unlearned model's"


# ---------------------------------------------------------------------------------------------- against the reference


def test_the_reference_has_every_mode_and_variant() -> None:
    planned = {pair for pair in itertools.product(EVERY_MODE, VARIANTS) if is_planned(*pair)}
    assert sorted(STATES.keys() ^ planned) == [], "what it means: tests/reference.py"


def kinds_of(plan: Schedule, chosen: Collection[int] | None = None) -> set[tuple[str, str, str, int]]:
    """Mode, variant, direction and centre of some runs; of all."""
    return {
        (sweep.mode, sweep.variant, sweep.direction, centre)
        for sweep in plan.sweeps
        for centre, number in zip(sweep.centres, sweep.runs, strict=True)
        if chosen is None or number in chosen
    }


def test_few_runs_are_of_every_kind() -> None:
    """One case has every pair of mode, variant and direction; eight families after each other have every run."""
    plan = plan_runs(DIRECTIONS, EVERY_MODE, VARIANTS, range(LAYERS), 3, LAYERS)
    kinds, every = [kinds_of(plan, few(plan, shift)) for shift in range(8)], kinds_of(plan)
    for one in kinds:
        assert {kind[:2] for kind in one} == {kind[:2] for kind in every}
        assert {kind[::2] for kind in one if kind[0] in MODES} == {kind[::2] for kind in every if kind[0] in MODES}
        assert {kind[1:] for kind in one} == {kind[1:] for kind in every}
    assert set().union(*kinds) == every


def test_fewer_runs_are_of_every_kind() -> None:
    """One case has every mode; families after each other have every mode, variant and direction, and every layer."""
    plan = plan_runs(DIRECTIONS, EVERY_MODE, VARIANTS, range(LAYERS), 3, LAYERS)
    kinds, every = [kinds_of(plan, fewer(plan, shift)) for shift in range(24)], kinds_of(plan)
    for one in kinds:
        assert {kind[0] for kind in one} >= {*MODES}
        assert len(one) < len(every) // 8
    union = set().union(*kinds)
    assert {kind[:3] for kind in union} == {kind[:3] for kind in every}
    assert {kind[1:] for kind in union} == {kind[1:] for kind in every}


@pytest.mark.parametrize(("name", "attention", "width"), CASES)
def test_each_mode_and_variant_is_the_reference(pairs: Pairs, name: str, attention: str, width: int) -> None:
    assert_same(pairs(name), attention, width, tolerance(attention), choice_of(name, attention, width))


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "attention", "width"), EVERY_CASE)
def test_every_run_is_the_reference(pairs: Pairs, name: str, attention: str, width: int) -> None:
    assert_same(pairs(name), attention, width, tolerance(attention), lambda plan: set(range(len(plan.runs))))


@pytest.mark.parametrize("name", ["llama", "gemma2", "qwen2_moe"])
def test_in_float32_scores_are_the_float64_references(pairs: Pairs, name: str) -> None:
    folders = pairs(name)
    pair = load(live_pair(folders, torch.float32))
    plan = plan_runs(DIRECTIONS, modes_of(pair), VARIANTS, range(LAYERS), 3, LAYERS)
    plan = only(plan, few(plan, 0))
    measured = measure(pair, plan)
    reference = Reference(folders.base, folders.unlearned, IDS, torch.float64, None)
    whole = reference.unlearned()
    for sweep, run in zip(plan.sweeps, scores(measured, plan, 3), strict=True):
        for place, centre in enumerate(sweep.centres):
            expected = reference.run(sweep.direction, sweep.mode, sweep.variant, window_of(max(centre, 0), 3, LAYERS))
            for curve, loss in CURVES:
                ratio = float(getattr(expected, loss).mean() / getattr(whole, loss).mean())
                score = 1 - ratio if sweep.direction == "restore" else ratio
                assert getattr(run, curve).score[place] == pytest.approx(score, rel=0, abs=1e-5)


@pytest.mark.parametrize("name", ["llama", "olmoe"])
def test_modes_and_variants_are_told_apart(pairs: Pairs, name: str) -> None:
    """The reference could not find two names mixed up if their numbers were the same."""
    reference = Reference(pairs(name).base, pairs(name).unlearned, IDS, torch.float64, None)
    same = {
        frozenset({("values", "isolated"), ("values", "direct")}),
        frozenset({("attn+coeff", "open"), ("attn+coeff", "isolated")}),
        frozenset({("ancillary", "isolated"), ("ancillary", "direct")}),
        frozenset({("ancillary", "open"), ("ancillary", "whole")}),
    }
    # A window with a layer before it and one behind it.
    found = {
        (mode, variant): float(reference.run("restore", mode, variant, (1, 1)).mse.mean())
        for mode in MODES
        if mode in reference.modes()
        for variant in VARIANTS
    }
    for one, value in found.items():
        for other, another in found.items():
            if one != other and frozenset({one, other}) not in same:
                assert abs(value - another) > 1e-6, (one, other)
            else:
                assert value == another


# ------------------------------------------------------------------------------------------------------ invariants


@pytest.mark.parametrize("name", ALL)
def test_restoring_everything_and_nothing(pairs: Pairs, name: str) -> None:
    pair = load(live_pair(pairs(name)))
    plan = plan_runs(DIRECTIONS, (), (), (), 1, LAYERS)
    measured = measure(pair, plan)
    for loss in LOSSES[:3]:
        whole, found = getattr(measured.unlearned, loss).mean(), getattr(measured.losses, loss).mean(1)
        assert 1 - found[plan.everything["restore"]] / whole >= 0.9999
        assert found[plan.everything["break"]] / whole >= 0.9999
    sample = torch.randn(4, pair.base.config.hidden_size, dtype=torch.float64)
    with torch.inference_mode():
        heads = {side: pair.side(side).unembedding(sample) for side in SIDES}
        scorer = Scorer(measured.own["base"], heads, 1)
        for number in plan.self_patch.values():
            side = host_of(plan.runs[number])
            change = scorer.largest_change(side, measured.finals[number], measured.own[side])
            assert change <= 1e-10


@pytest.mark.rounding
@pytest.mark.parametrize("first", [0, 2])
@pytest.mark.parametrize("name", ["llama", "gpt2", "bloom", "qwen2_moe"])
def test_a_run_that_restores_nothing_is_its_host(pairs: Pairs, name: str, first: int) -> None:
    pair = load(live_pair(pairs(name)))
    for direction in DIRECTIONS:
        run = Run(direction, first, 3, Patch())
        measured = measure(pair, Schedule(LAYERS, (run,), (), {}, {}))
        assert torch.equal(measured.finals[0], measured.own[host_of(run)])
        expected = (
            measured.unlearned
            if direction == "restore"
            else QuestionLosses(*(np.full(3, 1.0 if loss == "top1" else 0.0) for loss in LOSSES))
        )
        for loss in LOSSES:
            np.testing.assert_array_equal(getattr(measured.losses, loss)[0], getattr(expected, loss))


WAYS = {
    "one at a time": How(batch_size=1),
    "all at once": How(batch_size=3),
    "padded": How(padding=5),
    "small chunks": How(chunk=1),
    "one chunk": How(chunk=1 << 20),
    "three passes": How(passes=3),
    "a pass a run": How(passes=40),
    "streamed": How(stream=True),
    "streamed twice": How(stream=True, passes=2, batch_size=1),
}


def every_mode(pair: Pair, step: int = 1) -> Schedule:
    """A few runs of every mode and variant; with -1 the same ones the other way round."""
    plan = plan_runs(DIRECTIONS, modes_of(pair)[::step], tuple(VARIANTS)[::step], range(LAYERS), 2, LAYERS)
    return only(plan, few(plan, 0))


@pytest.fixture(scope="module")
def plainly(pairs: Pairs) -> Callable[[str], Measured]:
    made: dict[str, Measured] = {}

    def make(name: str) -> Measured:
        if name not in made:
            pair = load(live_pair(pairs(name)))
            made[name] = measure(pair, every_mode(pair))
        return made[name]

    return make


@pytest.mark.parametrize(
    ("name", "way"),
    [
        *(("llama", way) for way in WAYS),
        # What masks and windows, experts, and ends of one's own could make of it.
        *itertools.product(["gemma2", "qwen2_moe"], ["one at a time", "padded", "small chunks", "streamed twice"]),
        *itertools.product(["bloom", "opt-projected", "qwen2-tied"], ["padded", "three passes", "streamed"]),
    ],
)
def test_how_a_sweep_is_done_changes_nothing(
    pairs: Pairs, plainly: Callable[[str], Measured], name: str, way: str
) -> None:
    pair = live_pair(pairs(name))
    how, plan, expected = WAYS[way], every_mode(pair), plainly(name)
    found, gap = measure(pair if how.stream else load(pair), plan, how=how), tolerance(attention_of(name))
    assert found.finals.keys() == expected.finals.keys() == set(range(len(plan.runs)))
    for number, final in expected.finals.items():
        torch.testing.assert_close(found.finals[number], final, rtol=0, atol=gap)
    for loss in LOSSES:
        np.testing.assert_allclose(getattr(found.losses, loss), getattr(expected.losses, loss), rtol=0, atol=gap)
    if how.stream:
        # Only the ends are still there.
        layers = [parameter for layer in pair.base.layers for parameter in layer.parameters()]
        assert {parameter.device.type for parameter in layers} == {"meta"}


def test_the_order_of_modes_changes_nothing(pairs: Pairs) -> None:
    pair = load(live_pair(pairs("llama")))
    found = []
    for plan in (every_mode(pair), every_mode(pair, -1)):
        measured = measure(pair, plan)
        found.append(
            {
                (sweep.direction, sweep.mode, sweep.variant, centre): measured.losses.mse[number]
                for sweep in plan.sweeps
                for centre, number in zip(sweep.centres, sweep.runs, strict=True)
            }
        )
    assert found[0].keys() == found[1].keys()
    for key, losses in found[0].items():
        np.testing.assert_allclose(found[1][key], losses, rtol=0, atol=1e-9)


@pytest.mark.parametrize("stream", [False, True])
def test_a_sweep_goes_on_from_its_file_bit_for_bit(pairs: Pairs, tmp_path: Path, stream: bool) -> None:
    plan, path, seen = every_mode(live_pair(pairs("llama"))), tmp_path / ".report.partial", []

    def through_the_file(state: State) -> State:
        partial.save(path, "key", Progress([[1, 2]], 0, state, {7: torch.ones(2, 3, dtype=torch.float64)}, [[7], [0]]))
        progress = partial.load(path, "key", CPU)
        assert progress is not None
        assert progress.state is not None
        assert (progress.answers, progress.number, progress.passes) == ([[1, 2]], 0, [[7], [0]])
        assert progress.state.layer == state.layer
        assert torch.equal(progress.finals[7], torch.ones(2, 3, dtype=torch.float64))
        seen.append(state.layer)
        return progress.state

    def pair() -> Any:
        return live_pair(pairs("llama")) if stream else load(live_pair(pairs("llama")))

    how = How(stream=stream, batch_size=1)
    expected = measure(pair(), plan, how=how)
    found = measure(pair(), plan, how=replace(how, between=through_the_file))
    assert seen == [1, 2, 3]
    assert found.finals.keys() == expected.finals.keys()
    for number, final in expected.finals.items():
        assert torch.equal(found.finals[number], final)
    for side in SIDES:
        assert torch.equal(found.own[side], expected.own[side])


def test_many_batches_come_back_in_their_order(tmp_path: Path) -> None:
    def numbered(count: int, start: float) -> list[torch.Tensor]:
        return [torch.full((1, 2, 3), start + number) for number in range(count)]

    state = State(
        3, {"base": numbered(12, 0), "unlearned": numbered(12, 100)}, {11: numbered(12, 200), 2: numbered(1, 300)}
    )
    partial.save(tmp_path / "kept", "key", Progress([[1], [2, 3]], 4, state, {}, [[11], [2]]))
    found = partial.load(tmp_path / "kept", "key", CPU)
    assert found is not None
    assert found.state is not None
    assert (found.answers, found.number, found.state.layer, found.finals) == ([[1], [2, 3]], 4, 3, {})
    assert found.passes == [[11], [2]]
    for side in SIDES:
        assert all(map(torch.equal, found.state.own[side], state.own[side]))
    assert found.state.runs.keys() == state.runs.keys()
    for number, units in state.runs.items():
        assert len(units) == len(found.state.runs[number])
        assert all(map(torch.equal, found.state.runs[number], units))


@pytest.fixture(scope="module")
def planted(pairs: Pairs, tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Two checkpoints that differ in layer 2's down_proj alone."""
    root = tmp_path_factory.mktemp("planted")
    folders = Folders(root / "base", root / "unlearned")
    for folder in (folders.base, folders.unlearned):
        shutil.copytree(pairs("llama").base, folder)
    file = folders.unlearned / "model.safetensors"
    tensors = load_file(file)
    name = "model.layers.2.mlp.down_proj.weight"
    tensors[name] = tensors[name] + 0.05 * torch.randn(tensors[name].shape, generator=torch.Generator().manual_seed(0))
    save_file(tensors, file, metadata={"format": "pt"})
    return folders


def test_a_planted_edit_is_found_in_its_layer_and_nowhere_else(planted: Folders) -> None:
    plan = plan_runs(DIRECTIONS, ["values", "keys", "coeff"], ["open"], range(LAYERS), 1, LAYERS)
    measured = measure(load(live_pair(planted)), plan)
    found = {(run.direction, run.mode): run for run in scores(measured, plan, 1)}
    for direction in DIRECTIONS:
        for curve in ("krs", "krs_centred", "krs_kl"):
            values = getattr(found[direction, "values"], curve).score
            np.testing.assert_allclose(values, [0, 0, 1, 0], rtol=0, atol=1e-9)
            np.testing.assert_allclose(getattr(found[direction, "keys"], curve).score, 0, rtol=0, atol=1e-9)
            # m before and in the edited layer is the same in both models; behind it, it is not.
            coefficients = getattr(found[direction, "coeff"], curve).score
            np.testing.assert_allclose(coefficients[:3], 0, rtol=0, atol=1e-9)
            assert abs(coefficients[3]) > 1e-3


# ------------------------------------------------------------------------------------------------------ whole probes

TOKENS = [f"w{number}" for number in range(70)]


@pytest.fixture(scope="module")
def talking(pairs: Pairs, tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """Llama's pair with a tokenizer whose words are w0 to w69."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    words = {word: number for number, word in enumerate(["<unk>", "<eos>", *TOKENS])}
    inner = Tokenizer(WordLevel(words, unk_token="<unk>"))
    inner.pre_tokenizer = WhitespaceSplit()  # type: ignore[assignment,unused-ignore]
    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="<unk>", eos_token="<eos>")
    root = tmp_path_factory.mktemp("talking")
    folders = Folders(root / "base", root / "unlearned")
    for folder, source in ((folders.base, pairs("llama").base), (folders.unlearned, pairs("llama").unlearned)):
        shutil.copytree(source, folder)
        tokenizer.save_pretrained(folder)
    return folders


TEXTS = ("w3 w17 w5", "w60 w1 w1 w22 w9 w4", "w8")
ASKED = QuestionSet(tuple(Question(text) for text in TEXTS), "three questions", "0" * 64)
EVERYTHING = Settings(
    tuple(MODES), tuple(VARIANTS), DIRECTIONS, window=3, tokens=4, template="{q}", dtype="float64", device="cpu"
)


def probe(folders: Folders, settings: Settings, listener: Listener | None = None, **more: Any) -> Probe:
    base, unlearned = (open_checkpoint(str(path)) for path in (folders.base, folders.unlearned))
    return probe_pair(base, unlearned, ASKED, settings, listener, **more)


@pytest.fixture(scope="module")
def whole(talking: Folders) -> Callable[..., Probe]:
    """A probe of everything on a machine that is set so, made when first asked for."""
    return functools.cache(lambda **machine: probe(talking, replace(EVERYTHING, **machine)))


def test_a_whole_probe_is_the_reference(talking: Folders, whole: Callable[..., Probe]) -> None:
    """From text on: the ids, the base's own greedy answers, the scores, the controls."""
    from transformers import AutoModelForCausalLM

    found = whole()
    base: Any = AutoModelForCausalLM.from_pretrained(talking.base, dtype=torch.float64)
    ids = []
    for text, record in zip(TEXTS, found.questions, strict=True):
        prompt = [2 + int(word[1:]) for word in text.split()]
        with torch.inference_mode():
            answer = base.generate(torch.tensor([prompt]), max_new_tokens=4, do_sample=False, pad_token_id=0)
        assert record.answer_ids == tuple(answer[0, len(prompt) :].tolist())
        assert record.prompt_tokens == len(prompt)
        ids.append(replace(IDS[0], prompt=tuple(prompt), answer=record.answer_ids))
    reference = Reference(talking.base, talking.unlearned, ids, torch.float64, None)
    unlearned = reference.unlearned()
    for number, (record, one) in enumerate(zip(found.questions, ids, strict=True)):
        for side, own in (("base", record.log_p_base), ("unlearned", record.log_p_unlearned)):
            logs = torch.log_softmax(reference.recorded[side][number].logits, -1)
            wanted = float(logs.gather(1, torch.tensor(one.answer)[:, None]).sum())
            assert own == pytest.approx(wanted, rel=1e-12)
        assert record.js == pytest.approx(float(unlearned.js[number]), rel=1e-9)
    assert [record.cluster for record in found.questions] == [0, 1, 2]
    assert {run.mode for run in found.runs} == {*MODES} - {"router"}
    assert len(found.runs) == (len(MODES) - 1) * len(VARIANTS) * 2
    for run in found.runs:
        for place, centre in enumerate(run.layers.tolist()):
            window = (int(run.first[place]), int(run.last[place]))
            assert window == ((0, LAYERS - 1) if centre < 0 else window_of(centre, 3, LAYERS))
            expected = reference.run(run.direction, run.mode, run.variant, window)
            for curve, loss in CURVES:
                ratio = float(getattr(expected, loss).mean() / getattr(unlearned, loss).mean())
                score = 1 - ratio if run.direction == "restore" else ratio
                assert getattr(run, curve).score[place] == pytest.approx(score, rel=0, abs=1e-9)
                ours = getattr(run, f"loss_{loss}")[place]
                np.testing.assert_allclose(ours, getattr(expected, loss).numpy(), rtol=0, atol=1e-9)
    assert {control.name for control in found.controls} == {"self_patch", "everything", "wrong_prompt"}
    assert all(control.passed for control in found.controls)


NEEDS = {"gate": "a gated MLP that is no mixture of experts", "router": "a router"}


@pytest.mark.parametrize(
    ("name", "lacks"),
    [
        ("llama", {"router": 0}),
        ("gpt2", {"gate": 0, "router": 0}),
        ("olmoe", {"gate": 0}),
        ("qwen3_moe", {"gate": 1, "router": 0}),
    ],
)
def test_a_mode_that_an_architecture_lacks_is_left_out_or_refused(
    talking: Folders, pairs: Pairs, name: str, lacks: dict[str, int]
) -> None:
    base, unlearned = (open_checkpoint(str(path)) for path in (pairs(name).base, pairs(name).unlearned))
    settings = replace(EVERYTHING, tokenizer=talking.base)
    job = prepare(base, unlearned, ASKED, settings)
    assert job.settings.modes == tuple(mode for mode in MODES if mode not in lacks)
    assert settings_record(job)["modes"] == ",".join(job.settings.modes)
    for mode, layer in lacks.items():
        reason = f"needs {NEEDS[mode]}, and layer {layer} of {base.location} (model_type {name!r}) has none"
        assert f"mode {mode} was left out: it {reason}" in job.notes
        with pytest.raises(SettingsError) as caught:
            prepare(base, unlearned, ASKED, replace(settings, modes=("coeff", mode)))
        assert str(caught.value) == f"--mode {mode}: {reason}; leave it out, or ask for all modes"
        assert caught.value.exit_status == ExitStatus.USAGE


@pytest.mark.parametrize(("name", "matrices"), [("llama", 1), ("phi3", 0)])
def test_what_comes_from_outside_is_not_counted_as_work(pairs: Pairs, name: str, matrices: int) -> None:
    live = live_pair(pairs(name)).base
    size, one = cost.sizes(live, prompts_of()), 56 * 32
    assert size.mlp == 3 * one
    assert size.spared == {("gate",): matrices * one, ("up",): matrices * one, ("gate", "up"): 2 * one}
    bare = cost.operations(Schedule(LAYERS, (), (), {}, {}), size, kl=True)
    for variant in ("isolated", "direct"):
        plan = plan_runs(["restore"], ["gate"], [variant], [LAYERS - 1], 1, LAYERS, controls=False)
        spared = (2 if variant == "direct" else matrices) * one
        work = (3 * one - spared + 2 * size.head) * size.scored
        assert cost.operations(plan, size, kl=True) == pytest.approx(bare + 2 * work)
        names = 2 if variant == "direct" else 1
        assert cost.key_output_bytes(plan, live, 10, 8) == 2 * names * 56 * 10 * 8


def test_the_machine_is_measured_once_for_so_many_threads() -> None:
    one = cost.speed(CPU, torch.float32)
    assert cost.speed(CPU, torch.float32) == one
    torch.set_num_threads(torch.get_num_threads() + 1)
    assert cost.speed(CPU, torch.float32) != one
    assert cost.speed(CPU, torch.float64) != one


def curves(found: Probe) -> Any:
    return np.concatenate([run.loss_mse for run in found.runs] + [run.loss_kl for run in found.runs])


@pytest.mark.parametrize("changes", [{"stream": "on"}, {"batch_size": 1}, {"chunk": 1}])
def test_settings_of_the_machine_change_nothing(whole: Callable[..., Probe], changes: dict[str, Any]) -> None:
    expected, found = whole(), whole(**changes)
    np.testing.assert_allclose(curves(found), curves(expected), rtol=0, atol=1e-9)
    assert [one.answer_ids for one in found.questions] == [one.answer_ids for one in expected.questions]


@pytest.mark.parametrize(("stream", "layer"), [("off", 1), ("off", 3), ("on", 2)])
def test_a_stopped_probe_goes_on_bit_for_bit(
    talking: Folders, whole: Callable[..., Probe], tmp_path: Path, layer: int, stream: Any
) -> None:
    settings, kept = replace(EVERYTHING, stream=stream), (tmp_path / ".report.partial", "weights")
    stages: list[str] = []

    def progress(stage: str, done: int, total: int, detail: str) -> None:
        stages.append(stage)

    def stop() -> bool:
        return stages.count("layers") >= layer

    with pytest.raises(Stopped):
        probe(talking, settings, Listener(progress, stop), kept=kept)
    assert kept[0].exists()
    found, expected = probe(talking, settings, kept=kept, resume=True), whole(stream=stream)
    np.testing.assert_array_equal(curves(found), curves(expected))
    assert found.questions == expected.questions


def little_memory(folders: Folders, stream: Any) -> Settings:
    """Settings with so little memory that the runs go in three passes or more."""
    base, unlearned = (open_checkpoint(str(path)) for path in (folders.base, folders.unlearned))
    job = prepare(base, unlearned, ASKED, EVERYTHING)
    job.prompts = [replace(prompt, answer=(0,) * EVERYTHING.tokens) for prompt in job.prompts]
    memory = 2_000_000
    while memory > 100_000:
        memory = memory * 19 // 20
        job.settings = replace(EVERYTHING, stream=stream, memory=memory)
        job.room = int(SHARE * memory)
        settle(job)
        if len(job.passes) >= 3:
            assert job.stream == (stream == "on")
            return job.settings
    raise AssertionError("no amount of memory was enough")


@pytest.mark.parametrize("stream", ["off", "on"])
def test_little_memory_changes_nothing(
    talking: Folders, whole: Callable[..., Probe], tmp_path: Path, stream: Any
) -> None:
    settings, kept = little_memory(talking, stream), (tmp_path / ".report.partial", "weights")
    expected, found = whole(), probe(talking, settings)
    np.testing.assert_allclose(curves(found), curves(expected), rtol=0, atol=1e-9)
    assert found.questions == expected.questions
    # Stopped in the second pass: the first one is not done again.
    calls: list[str] = []

    def progress(stage: str, done: int, total: int, detail: str) -> None:
        calls.append(detail)

    def stop() -> bool:
        return sum(detail.startswith("layer 2/") for detail in calls) == 2

    with pytest.raises(Stopped):
        probe(talking, settings, Listener(progress, stop), kept=kept)
    calls.clear()
    resumed = probe(talking, settings, Listener(progress), kept=kept, resume=True)
    np.testing.assert_array_equal(curves(resumed), curves(found))
    layers = [detail.split(",")[0] for detail in calls if detail.startswith("layer ")]
    assert layers[:3] == ["layer 3/4", "layer 4/4", "layer 1/4"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_identical_checkpoints_have_nothing_to_recover(talking: Folders, dtype: str) -> None:
    same = Folders(talking.base, talking.base)
    with pytest.raises(NothingToRecoverError, match="nothing to recover") as caught:
        probe(same, replace(EVERYTHING, dtype=dtype))
    assert caught.value.exit_status == ExitStatus.INCONCLUSIVE
    assert "\n" not in str(caught.value)
    pair = load(live_pair(same))
    measured = measure(pair, every_mode(pair), how=PLAIN)
    for loss, value in zip(LOSSES, (0, 0, 0, 1, 0), strict=True):
        np.testing.assert_array_equal(getattr(measured.unlearned, loss), value)
