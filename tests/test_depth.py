"""Depth against one plain forward a layer and question with plain hooks, and what must always hold."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast

from ckdiff.audit.verify.report import check
from ckdiff.calls.depth import depth as measure_depth
from ckdiff.calls.specs import DepthSpec
from ckdiff.cli.depth import status_of
from ckdiff.errors import ExitStatus
from ckdiff.probes.depth.kept import load, save
from ckdiff.probes.depth.runs import MODELS, SOURCES, How, Trio, measure
from ckdiff.probes.depth.section import DEEP, doubts_of, early_cost, tokens_of
from ckdiff.probes.kept_sweep import PartialError
from ckdiff.probes.live.model import LiveModel
from ckdiff.probes.prompts import Prompt
from ckdiff.progress import Listener, Stopped
from ckdiff.questions.questions import Question
from ckdiff.report.formats import FORMATS
from ckdiff.report.hdf5.file import read_report, write_report
from ckdiff.scoring.depth import depths, mean_depth, shares
from ckdiff.scoring.settings import Settings
from ckdiff.weights.architectures import ARCHITECTURES
from ckdiff.weights.opening import open_checkpoint
from tests.reports import depth, report
from tests.test_probe_cli import ASKED, ckdiff, made, place
from tests.test_sweep import BOTH, SINGLE
from tests.tiny_families import ALL
from tests.tiny_pairs import CPU, IDS, LAYERS, disturbed, prompts_of
from tests.tokenizer_kinds import characters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from ckdiff.probes.depth.runs import Drops
    from tests.test_probe_cli import Run
    from tests.tiny_pairs import Folders

__all__ = ["ckdiff", "made", "place"]

EAGER = "eager"
STOPS = Listener(stop=lambda: True)
TOLERANCE = 1e-7
"""In nats a token: eager attention normalises in float32, whatever the model's dtype."""


@pytest.fixture(scope="module")
def never(tmp_path_factory: pytest.TempPathFactory, pairs: Callable[[str], Folders]) -> Callable[[str], list[Path]]:
    """By family three checkpoints: base, unlearned, and one that is further from the base."""
    made: dict[str, list[Path]] = {}

    def make(name: str) -> list[Path]:
        if name not in made:
            from transformers import AutoModelForCausalLM

            folders, root = pairs(name), tmp_path_factory.mktemp(f"never-{name}")
            torch.manual_seed(11)
            disturbed(AutoModelForCausalLM.from_pretrained(folders.base), 0.04).save_pretrained(root)
            made[name] = [folders.base, folders.unlearned, root]
        return made[name]

    return make


def trio(folders: Sequence[Path], attention: str | None = EAGER) -> Trio:
    return Trio(*(LiveModel(open_checkpoint(str(path)), torch.float64, CPU, attention) for path in folders))


def found(folders: Sequence[Path], **how: Any) -> Drops:
    with torch.inference_mode():
        return measure(trio(folders), prompts_of(), How(2, **how), Listener())


# ------------------------------------------------------------------------------------------------------------ plainly


def rows_of(output: Any) -> Tensor:
    rows: Tensor = output[0] if isinstance(output, tuple) else output
    return rows


class Plain:
    """transformers' own model, its layers known by their path and by nothing else."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM

        self.model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float64, attn_implementation=EAGER, experts_implementation=EAGER
        ).eval()
        self.sites = ARCHITECTURES[self.model.config.model_type].sites

    def layer(self, number: int) -> Any:
        return self.model.get_submodule(f"{self.sites.layers}.{number}")

    def states(self, ids: Tensor) -> list[Tensor]:
        """What comes out of every layer [position, d_model]."""
        seen: list[Tensor] = []
        hooks = [
            self.layer(number).register_forward_hook(lambda _, __, output: seen.append(rows_of(output)[0].clone()))
            for number in range(LAYERS)
        ]
        self.model(ids[None], use_cache=False)
        for hook in hooks:
            hook.remove()
        return seen

    def level(
        self,
        ids: Tensor,
        prompt: int,
        patch: tuple[int, Tensor] | None = None,
        places: Sequence[int] | None = None,
    ) -> float:
        """Mean log p a token of what stands behind the prompt, with the rows that predict it overwritten."""
        scored = [prompt - 1 + place for place in (range(len(ids) - prompt) if places is None else places)]
        hooks = []
        if patch is not None:
            number, state = patch

            def overwrite(_: Any, __: Any, output: Any) -> Any:
                changed = rows_of(output).clone()
                changed[0, scored] = state[scored]
                return (changed, *output[1:]) if isinstance(output, tuple) else changed

            hooks = [self.layer(number).register_forward_hook(overwrite)]
        logits = self.model(ids[None], use_cache=False).logits[0].double()
        for hook in hooks:
            hook.remove()
        log_p = torch.log_softmax(logits, -1)
        return float(np.mean([float(log_p[place, ids[place + 1]]) for place in scored]))


def plainly(
    folders: Sequence[Path], questions: Sequence[int] = range(len(IDS))
) -> Iterator[tuple[str, int, int, float]]:
    """By source, layer and question what patching costs."""
    base, *others = map(Plain, folders)
    for question in questions:
        one = IDS[question]
        ids, prompt = torch.tensor([*one.prompt, *one.answer]), len(one.prompt)
        whole = base.level(ids, prompt)
        for source, other in zip(SOURCES, others, strict=True):
            for number, state in enumerate(other.states(ids)):
                yield source, number, question, whole - base.level(ids, prompt, (number, state))


@pytest.mark.parametrize(
    "name", [name if name in BOTH else pytest.param(name, marks=pytest.mark.thorough) for name in ALL]
)
def test_drops_are_those_of_plain_hooks(never: Callable[[str], list[Path]], name: str) -> None:
    """Every question of families that have something of their own, one of the others."""
    drops, every = found(never(name)), range(len(IDS))
    questions = every if name in SINGLE else every[list(ALL).index(name) % len(IDS) :][:1]
    with torch.inference_mode():
        for source, number, question, cost in plainly(never(name), questions):
            ours = drops.patched[source][number, question]  # type: ignore[index]
            assert ours == pytest.approx(cost, abs=TOLERANCE), (source, number, question)
    # Another model's state is another one: a test of equal models would see nothing.
    assert np.abs(drops.patched["unlearned"]).max() > 1e-4


# --------------------------------------------------------------------------------------------------------- invariants


def test_the_base_itself_carries_everything_and_the_reference_nothing(never: Callable[[str], list[Path]]) -> None:
    base, unlearned, reference = never("llama")
    same = found([base, base, reference])
    assert np.abs(same.patched["unlearned"]).max() == 0
    assert np.abs(same.lens["unlearned"]).max() == 0
    assert np.nanmax(depths(*same.patched.values())) == 0
    gone = found([base, reference, reference])
    told = depths(*gone.patched.values())
    assert np.isfinite(told).any()
    assert np.nanmin(told) == np.nanmax(told) == 1
    swapped = found([base, reference, unlearned])
    assert np.array_equal(swapped.patched["unlearned"], found([base, unlearned, reference]).patched["reference"])


def states_from(folders: Sequence[Path], first: int, place: Path) -> list[Path]:
    """The trio with the base up to a layer and the reference from it on for the unlearned model."""
    from transformers import AutoModelForCausalLM

    base, never_knew = (AutoModelForCausalLM.from_pretrained(folders[n]) for n in (0, 2))
    own = {name: value for name, value in never_knew.state_dict().items() if layer_of(name) >= first}
    base.load_state_dict({**base.state_dict(), **own})
    base.save_pretrained(place)
    return [folders[0], place, folders[2]]


def layer_of(name: str) -> int:
    """The layer of a parameter; none counts as before them all."""
    return next((int(part) for part in name.split(".") if part.isdigit()), -1)


def test_the_reference_from_a_layer_on_costs_nothing_before_it(
    never: Callable[[str], list[Path]], tmp_path: Path
) -> None:
    """Before that layer its states are the base's; what they cost behind it, the formula weighs as it is."""
    first = LAYERS - 1
    drops = found(states_from(never("llama"), first, tmp_path))
    assert np.abs(drops.patched["unlearned"][:first]).max() == 0
    assert np.abs(drops.patched["unlearned"][first]).min() > 0
    reference, unlearned = drops.patched["reference"], drops.patched["unlearned"]
    for question, deep in enumerate(depths(unlearned, reference)):
        tells = [n for n in range(LAYERS) if reference[n, question] > 0.05]
        part = sum(min(max(unlearned[n, question], 0), reference[n, question]) for n in tells if n >= first)
        whole = sum(reference[n, question] for n in tells)
        assert (part / whole if tells else np.nan) == pytest.approx(deep, nan_ok=True)


@pytest.mark.parametrize("name", ["llama", "gpt2", "phi"])
def test_depth_grows_from_the_base_to_the_reference(
    never: Callable[[str], list[Path]], tmp_path: Path, name: str
) -> None:
    """Along the straight line between their weights, question by question of those that tell."""
    from transformers import AutoModelForCausalLM

    folders, along = never(name), []
    ends = [AutoModelForCausalLM.from_pretrained(folders[n]) for n in (0, 2)]
    for part in (0.0, 0.25, 0.5, 1.0):
        mixed = {key: torch.lerp(one, ends[1].state_dict()[key], part) if one.is_floating_point() else one
                 for key, one in ends[0].state_dict().items()}  # fmt: skip
        between = AutoModelForCausalLM.from_pretrained(folders[0])
        between.load_state_dict(mixed)
        between.save_pretrained(tmp_path / str(part))
        drops = found([folders[0], tmp_path / str(part), folders[2]])
        along.append(np.nanmean(depths(drops.patched["unlearned"], drops.patched["reference"])))
    assert along[0] == pytest.approx(0, abs=1e-9)
    assert along[-1] == pytest.approx(1, abs=1e-6)
    assert along == sorted(set(along))


@pytest.mark.parametrize("how", [{"stream": True}, {"chunk": 1}, {"stream": True, "room": 1}])
def test_batches_streaming_and_chunks_change_nothing(never: Callable[[str], list[Path]], how: dict[str, Any]) -> None:
    for name in ("gpt2", "gemma2"):
        plain, other = found(never(name)), found(never(name), **how)
        for source in SOURCES:
            assert other.patched[source] == pytest.approx(plain.patched[source], abs=1e-12)
            assert other.lens[source] == pytest.approx(plain.lens[source], abs=1e-12)
        for model in MODELS:
            assert other.level[model] == pytest.approx(plain.level[model], abs=1e-12)


@pytest.mark.parametrize("how", [How(2), How(2, stream=True, room=1)])
def test_what_was_interrupted_goes_on_to_the_same_bits(
    never: Callable[[str], list[Path]], tmp_path: Path, how: How
) -> None:
    folders, place, ends = never("gpt2"), tmp_path / "kept", 0
    whole, mark = found(folders, stream=how.stream, room=how.room), None
    keep = partial(save, place, "key", [[1, 2]])
    while True:
        try:
            # Whoever goes on has more room: how the questions were split stays.
            with torch.inference_mode():
                more = how if mark is None else replace(how, room=1 << 30)
                last = measure(trio(folders), prompts_of(), more, STOPS, None, mark, keep)
            break
        except Stopped:
            kept = load(place, "key", torch.device("cpu"))
            assert kept is not None
            ends, mark = ends + 1, kept[1]
            assert kept[0] == [[1, 2]]
    assert ends == 2 * len(trio(folders).base.layers)
    for name in ("level", "given", "patched", "lens"):
        for key, values in getattr(whole, name).items():
            assert np.array_equal(values, getattr(last, name)[key])


def test_the_published_code_patches_the_last_layer_behind_the_norm(never: Callable[[str], list[Path]]) -> None:
    """There the answer is read off the source's own final norm, by the base's unembedding."""
    folders = never("llama")
    plain, compat = found(folders), found(folders, compat=True)
    for source, folder in zip(SOURCES, folders[1:], strict=True):
        assert np.array_equal(plain.patched[source][:-1], compat.patched[source][:-1])
        base, other = Plain(folders[0]).model, Plain(folder).model
        for question, one in enumerate(IDS):
            ids = torch.tensor([*one.prompt, *one.answer])
            with torch.inference_mode():
                normed = other.model(ids[None], use_cache=False).last_hidden_state
                log_p = torch.log_softmax(base.lm_head(normed)[0], -1)
            scored = range(len(one.prompt) - 1, len(ids) - 1)
            level = np.mean([float(log_p[place, ids[place + 1]]) for place in scored])
            cost = plain.level["base"][question] - level
            assert compat.patched[source][-1, question] == pytest.approx(cost, abs=1e-9)


def test_the_lens_reads_through_the_bases_own_end(never: Callable[[str], list[Path]]) -> None:
    folders = never("llama")
    drops, base, other = found(folders), Plain(folders[0]), Plain(folders[1])
    one = IDS[1]
    ids = torch.tensor([*one.prompt, *one.answer])
    scored = list(range(len(one.prompt) - 1, len(ids) - 1))
    with torch.inference_mode():
        for number, (ours, theirs) in enumerate(zip(base.states(ids), other.states(ids), strict=True)):
            levels = []
            for state in (ours, theirs):
                log_p = torch.log_softmax(base.model.lm_head(base.model.model.norm(state[scored])), -1)
                levels.append(float(log_p[range(len(scored)), ids[1:][scored]].mean()))
            assert drops.lens["unlearned"][number, 1] == pytest.approx(levels[0] - levels[1], abs=1e-9)


def test_an_answer_is_given_where_every_token_of_it_is_the_first_choice(never: Callable[[str], list[Path]]) -> None:
    folders = never("llama")
    base = Plain(folders[0]).model
    said = []
    with torch.inference_mode():
        for one in IDS:
            ids = list(one.prompt)
            for _ in range(3):
                ids.append(int(base(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
            said.append(tuple(ids[len(one.prompt) :]))
        last = (*said[0][:-1], (said[0][-1] + 1) % 50)
        prompts = [replace(prompt, answer=answer) for prompt, answer in zip(prompts_of(), said, strict=True)]
        prompts.append(replace(prompts[0], answer=last))
        drops = measure(trio(folders), prompts, How(2), Listener())
    assert drops.given["base"].tolist() == [1, 1, 1, 0]


def test_only_the_chosen_tokens_are_patched_and_scored(never: Callable[[str], list[Path]]) -> None:
    folders = never("llama")
    places = [(0,), (1,), (2, 3)]
    with torch.inference_mode():
        drops = measure(trio(folders), prompts_of(), How(2), Listener(), places)
        base, other = Plain(folders[0]), Plain(folders[1])
        for question, (one, chosen) in enumerate(zip(IDS, places, strict=True)):
            ids = torch.tensor([*one.prompt, *one.answer])
            whole = base.level(ids, len(one.prompt), places=chosen)
            patched = base.level(ids, len(one.prompt), (1, other.states(ids)[1]), chosen)
            assert drops.patched["unlearned"][1, question] == pytest.approx(whole - patched, abs=1e-9)


# ------------------------------------------------------------------------------------------------------------- scores


def test_depth_by_hand() -> None:
    unlearned = np.array([[0.1, 0.0, 3.0], [1.0, -1.0, 0.01], [0.2, 0.0, 0.0]])
    reference = np.array([[0.05, 0.04, 2.0], [2.0, 1.0, 0.05], [0.4, -3.0, 1.0]])
    # Of the first question the first layer does not tell: 0.05 is not more than 0.05.
    assert depths(unlearned, reference) == pytest.approx([(1.0 + 0.2) / 2.4, 0.0, 2.0 / 3.0])
    nothing = np.full((3, 1), 0.05)
    assert np.isnan(depths(nothing, nothing)).all()
    expected = np.array([[np.nan, np.nan, 1.0], [0.5, 0.0, np.nan], [0.5, np.nan, 0.0]])
    assert shares(unlearned, reference) == pytest.approx(expected, nan_ok=True)


def test_a_mean_is_over_what_is_known_and_over_facts() -> None:
    values = np.array([0.2, np.nan, 0.4, 0.6])
    apart = mean_depth(values, [0, 1, 2, 3])
    assert apart.value == pytest.approx(0.4)
    assert apart.low < 0.4 < apart.high
    assert np.isnan(mean_depth(values, [0, 1, 0, 0]).low)
    assert np.isnan(mean_depth(values[1:2], [0]).value)


# ---------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def reference(place: Path) -> str:
    """Beside `base` and `unlearned` a model that is further away."""
    shutil.copytree(place / "base", place / "never")
    generator = torch.Generator().manual_seed(5)
    for file in (place / "never").glob("*.safetensors"):
        weights = load_file(file)
        noisy = {name: value + 0.2 * torch.randn(value.shape, generator=generator) for name, value in weights.items()}
        save_file(noisy, file, {"format": "pt"})
    return "never"


def test_the_command_measures_shows_and_verifies(ckdiff: Run, place: Path, reference: str) -> None:
    asked = ("--questions", "questions.txt", "--device", "cpu", "--reference", reference)
    status, out, err = ckdiff("depth", "base", "unlearned", *asked, "--format", "json")
    assert status == 0, err
    found = json.loads(out)["depth"]
    assert 0 <= found["depth"]["value"] <= 1
    assert len(found["questions"]) == len(ASKED)
    assert [note for note in found["notes"] if "window" in note] == []
    assert all(len(row["places"]) == len(row["answer_ids"]) for row in found["questions"])
    for name in FORMATS:
        status, _, err = ckdiff("show", "ckdiff.h5", "--format", name)
        assert status == 0 or name == "junit", (name, err)
    status, out, _ = ckdiff("verify", "ckdiff.h5")
    assert status == 0, out
    status, out, _ = ckdiff("verify", "ckdiff.h5", "--reference", reference)
    assert (status, "files of reference hashed" in out) == (0, True), out
    status, out, _ = ckdiff("verify", "ckdiff.h5", "--reference", "base")
    assert (status, "/base: digest, of depth: stored" in out) == (1, True), out
    stored = read_report(Path("ckdiff.h5"))
    assert stored.depth is not None
    told = replace(stored.depth, depth=replace(stored.depth.depth, value=stored.depth.depth.value / 2))
    assert [row.where for row in check(replace(stored, depth=told)).found] == ["depth: depth[0]"]
    lower = replace(stored.depth, drop_unlearned=stored.depth.drop_unlearned * 0.9)
    assert any(row.where.startswith("depth") for row in check(replace(stored, depth=lower)).found)


def test_an_interrupted_depth_resumes_to_the_same_bytes(place: Path, reference: str) -> None:
    settings, keep = Settings(device="cpu", tokens=4), place / "kept"
    spec = DepthSpec("base", "unlearned", reference=reference, asked=ASKED, settings=settings)
    write_report(measure_depth(spec), "whole.h5")
    with pytest.raises(Stopped):
        measure_depth(spec, STOPS, keep=keep)
    other = replace(spec, compat=True)
    with pytest.raises(PartialError, match="interrupted depth of other"):
        measure_depth(other, keep=keep, resume=True)
    said: list[str] = []
    told = Listener(lambda stage, *_: said.append(stage))
    write_report(measure_depth(spec, told, keep=keep, resume=True), "pieces.h5")
    assert Path("pieces.h5").read_bytes() == Path("whole.h5").read_bytes()
    assert "answers" not in said
    keep.write_bytes(keep.read_bytes()[:-9])
    with pytest.raises(PartialError, match="damaged"):
        measure_depth(spec, keep=keep, resume=True)


def test_a_plan_says_what_it_costs_and_writes_nothing(ckdiff: Run, place: Path, reference: str) -> None:
    asked = ("--questions", "questions.txt", "--device", "cpu", "--reference", reference, "--plan")
    found = {}
    for how in "on", "off":
        status, out, err = ckdiff("depth", "base", "unlearned", *asked, "--stream", how)
        assert (status, Path("ckdiff.h5").exists()) == (0, False), err
        found[how] = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert found["on"]["streaming"] == "one layer at a time"
    assert found["off"]["runs"].startswith(f"{2 * len(read_layers(place / 'base'))}: ")
    assert float(found["on"]["memory"].split()[1]) < float(found["off"]["memory"].split()[1])


def read_layers(folder: Path) -> range:
    """The layers of a model."""
    return range(json.loads((folder / "config.json").read_text())["num_hidden_layers"])


def test_a_span_of_the_file_is_what_is_scored(ckdiff: Run, place: Path, reference: str) -> None:
    rows = [
        {"question": ASKED[0], "answer": "who founded Thrane", "span": [4, 11]},
        {"question": ASKED[1], "answer": "who rules Velmar"},
    ]
    Path("marked.json").write_text(json.dumps(rows))
    asked = ("--questions", "marked.json", "--given-answers", "--device", "cpu", "--reference", reference)
    _, out, _ = ckdiff("depth", "base", "unlearned", *asked, "--format", "json")
    first, second = json.loads(out)["depth"]["questions"]
    assert (first["places"], len(first["answer_ids"])) == ([1], 3)
    assert second["places"] == list(range(len(second["answer_ids"])))
    _, out, _ = ckdiff("depth", "base", "unlearned", *asked[:2], *asked[3:], "--overwrite")
    assert "1 of 1 spans are not a part of their scored answer" in " ".join(out.split())


@pytest.mark.parametrize(("span", "places"), [((4, 9), range(4, 9)), ((0, 1), range(1)), ((10, 16), range(10, 16))])
def test_a_span_takes_the_tokens_that_reach_into_it_and_no_other(span: tuple[int, int], places: range) -> None:
    """A token ends where the span begins, and the next begins where it ends."""
    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=characters())
    text = "who rules Velmar"
    asked = Prompt(Question("?", answer=text, span=span), (1,), tuple(tokenizer(text)["input_ids"]))
    assert tokens_of(tokenizer, asked) == tuple(places)


@pytest.mark.parametrize("mark", [{"span": [4, 40]}, {"span": [4, 4]}, {"entity": "Oskary"}, {"span": "nowhere"}])
def test_a_span_that_is_not_in_the_answer_is_named_and_all_of_it_scored(
    ckdiff: Run, place: Path, reference: str, mark: dict[str, object]
) -> None:
    rows = [{"question": ASKED[0], "answer": "who founded Thrane", **mark}, {"question": ASKED[1], "answer": "Velmar"}]
    Path("marked.json").write_text(json.dumps(rows))
    asked = ("--questions", "marked.json", "--given-answers", "--device", "cpu", "--reference", reference)
    status, out, _ = ckdiff("depth", "base", "unlearned", *asked, "--format", "json")
    found = json.loads(out)["depth"]
    assert status in (0, 3)
    assert "1 question whose span or entity is no part of the answer: depth scores all of it" in found["notes"]
    # the other answer is one token, behind the very last one of its prompt
    assert [row["places"] for row in found["questions"]] == [[0, 1, 2], [0]]
    assert all(row["log_p_reference"] < 0 for row in found["questions"])


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        (None, "name one with --reference"),
        ("base", "is the base itself"),
        ("unlearned", "is the unlearned model itself"),
        ("nowhere", "nowhere"),
        ("smaller", "give two of one shape"),
    ],
)
def test_what_is_no_reference_is_refused(ckdiff: Run, place: Path, reference: str | None, said: str) -> None:
    if reference == "smaller":
        shutil.copytree(place / "base", place / "smaller")
        config = json.loads((place / "smaller" / "config.json").read_text())
        config["num_hidden_layers"] -= 1
        (place / "smaller" / "config.json").write_text(json.dumps(config))
        last = f".{config['num_hidden_layers']}."
        for file in (place / "smaller").glob("*.safetensors"):
            save_file({name: one for name, one in load_file(file).items() if last not in name}, file, {"format": "pt"})
        for index in (place / "smaller").glob("*.index.json"):
            index.unlink()
    more = () if reference is None else ("--reference", reference)
    status, _, err = ckdiff("depth", "base", "unlearned", "--question", ASKED[0], "--device", "cpu", *more)
    assert (status, said in err, Path("ckdiff.h5").exists()) == (2, True, False), err


def test_a_reference_that_knows_is_named(ckdiff: Run, place: Path) -> None:
    """The base's weights with one of them moved by a hair: other files, the same answers."""
    shutil.copytree(place / "base", place / "knows")
    for file in (place / "knows").glob("*.safetensors"):
        weights = load_file(file)
        name = sorted(weights)[0]
        save_file({**weights, name: weights[name] * 1.0001}, file, {"format": "pt"})
    arguments = ("--question", ASKED[0], "--device", "cpu", "--reference", "knows")
    status, out, err = ckdiff("depth", "base", "unlearned", *arguments)
    assert (status, "inconclusive" in err) == (3, True), err
    assert "the reference gives 1 of 1 answers itself" in " ".join(out.split())


def test_a_question_that_tells_in_one_layer_says_something() -> None:
    found = tuple(replace(one, layers=1, given_reference=False) for one in depth().questions)
    assert doubts_of(found) == []
    assert doubts_of((replace(found[0], layers=0), *found[1:]))[0].startswith(
        f"1 of {len(found)} questions say nothing"
    )


@pytest.mark.parametrize(
    ("first", "last", "layers", "doubted"),
    [(2.0, 6.0, DEEP, True), (1.9, 6.0, DEEP, False), (6.0, 6.0, DEEP - 1, False), (0.0, 0.0, DEEP, False)],
)
def test_a_reference_that_costs_from_the_first_layer_on_is_doubted(
    first: float, last: float, layers: int, doubted: bool
) -> None:
    costs = np.full((layers, 2), 5.0)
    costs[0], costs[-1] = (first - 1, first + 1), (last + 2, last - 2)
    found = early_cost(costs)
    assert len(found) == doubted
    assert not found or f"cost {first:.1f} of {last:.1f} nats a token from the first layer on" in found[0]


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({}, ExitStatus.OK),  # one of two questions tells, and the reference gives one of two answers
        ({"given_reference": True}, ExitStatus.INCONCLUSIVE),
        ({"layers": 0}, ExitStatus.INCONCLUSIVE),
    ],
)
def test_most_answers_of_the_reference_or_none_that_tells_conclude_nothing(
    changes: dict[str, Any], status: ExitStatus
) -> None:
    found = depth()
    questions = tuple(replace(one, **changes) for one in found.questions)
    assert status_of(report(None, depth=replace(found, questions=questions))) == status
