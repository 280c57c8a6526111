"""Checkpoints are unlearned on a tiny world: what training does, what is written, and what is refused."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ckdiff.errors import CkdiffError, ExitStatus
from ckdiff.locks import alone
from ckdiff.progress import Listener, nothing_to_resume
from ckdiff.questions.questions import general_questions
from ckdiff.scoring.settings import DEFAULT_TEMPLATE
from ckdiff.unlearn.inputs import read_inputs
from ckdiff.unlearn.methods import METHODS
from ckdiff.unlearn.recipe import METHOD_NAMES, NEEDLE, PRECISIONS, Recipe, UnlearnSpec, stop_when
from ckdiff.unlearn.session import MADE
from ckdiff.unlearn.trainer import DivergedError, is_emulated
from ckdiff.unlearn.unlearn import Made, UnlearningStopped, make
from ckdiff.unlearn.world import FORGOTTEN, world
from ckdiff.weights.opening import open_checkpoint
from tests.test_probe_cli import save_tokenizer
from tests.tiny_pairs import build

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

GRADDIFF = Recipe(
    method="graddiff", retain_loss="ce", retain_weight=3.0, limit=3.0, lr=2e-4, steps=60, evaluate_every=10,
    batch_size=8, accumulation=1, warmup=1, weight_decay=0.0, device="cpu",
    # Answers have two words and an end.
    tokens=3,
)  # fmt: skip
SHORT = replace(GRADDIFF, steps=6, evaluate_every=4, batch_size=2, accumulation=2)
PLAIN = replace(GRADDIFF, retain_loss="default", retain_weight=None, limit=None, lr=1e-4, steps=30, evaluate_every=30)


FEW = "few.jsonl"
"""Every measurement asks all of its questions: few are enough where they are not what is tested."""


@dataclass(frozen=True, slots=True)
class World:
    """A folder with `base`, `target.jsonl`, `unrelated.jsonl` and the few of it that most tests ask."""

    root: Path

    def unlearn(
        self,
        output: Path,
        recipe: Recipe = SHORT,
        listener: Listener | None = None,
        resume: bool = False,
        **names: Any,
    ) -> Made:
        files = {"forget": "target.jsonl", "retain": "unrelated.jsonl", "questions": "target.jsonl"}
        files |= {"unrelated": FEW} | names
        paths: dict[str, Any] = {key: None if name is None else self.root / name for key, name in files.items()}
        spec = UnlearnSpec(str(self.root / "base"), output, recipe=recipe, **paths)
        return make(open_checkpoint(spec.base), read_inputs(spec), recipe, output, listener, resume)


@pytest.fixture(scope="session")
def tiny(learned: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("world")
    shutil.copytree(learned, root, dirs_exist_ok=True)
    (root / FEW).write_text("\n".join((root / "unrelated.jsonl").read_text().splitlines()[::8]))
    return World(root)


@pytest.fixture(scope="session")
def wide(tiny: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """The same world, its weights float32 in one file."""
    root = tmp_path_factory.mktemp("wide")
    shutil.copytree(tiny.root, root, dirs_exist_ok=True)
    tensors = {name: value.float() for name, value in weights(root / "base").items()}
    for path in (root / "base").glob("model*"):
        path.unlink()
    save_file(tensors, root / "base" / "model.safetensors")
    return World(root)


@pytest.fixture(scope="session")
def unlearned(tiny: World, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return tiny.unlearn(tmp_path_factory.mktemp("unlearned") / "made", GRADDIFF, unrelated="unrelated.jsonl")


@pytest.fixture(scope="session")
def short(tiny: World, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return tiny.unlearn(tmp_path_factory.mktemp("short") / "made", SHORT)


@pytest.fixture(scope="session")
def uninterrupted(tiny: World, short: Made, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Recipe], Made]:
    """By recipe what it makes, made when first asked for."""
    made = {SHORT: short}

    def make_once(recipe: Recipe) -> Made:
        if recipe not in made:
            made[recipe] = tiny.unlearn(tmp_path_factory.mktemp("whole") / "made", recipe)
        return made[recipe]

    return make_once


def weights(folder: Path) -> dict[str, Tensor]:
    return {name: value for path in sorted(folder.glob("*.safetensors")) for name, value in load_file(path).items()}


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def assert_same_tree(one: Path, other: Path) -> None:
    before, after = tree(one), tree(other)
    assert json.loads(before["unlearning.json"]) == json.loads(after["unlearning.json"])
    assert [name for name in before | after if before.get(name) != after.get(name)] == []


def history(made: Made) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((made.output / "unlearning.json").read_text())["history"]
    return found


class Plain:
    """A checkpoint as anybody would load it, with transformers alone."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    def answer(self, question: str, tokens: int = 30) -> str:
        asked = self.tokenizer(DEFAULT_TEMPLATE.format(q=question), return_tensors="pt").input_ids
        ids = asked
        for _ in range(tokens):
            with torch.no_grad():
                best = self.model(input_ids=ids, use_cache=False).logits[0, -1].argmax()
            ids = torch.cat([ids, best.view(1, 1)], 1)
            if int(best) == self.model.config.eos_token_id:
                break
        return str(self.tokenizer.decode(ids[0, asked.shape[1] :], skip_special_tokens=True)).strip()

    def log_prob(self, question: str, answer: str) -> float:
        asked = self.tokenizer(DEFAULT_TEMPLATE.format(q=question)).input_ids
        ids = self.tokenizer(answer).input_ids
        with torch.no_grad():
            scores = self.model(input_ids=torch.tensor([asked + ids])).logits[0].log_softmax(-1)
        return sum(float(scores[len(asked) - 1 + place, token]) for place, token in enumerate(ids))

    def mean_log_prob(self, target: bool) -> float:
        return sum(self.log_prob(*fact) for fact in facts(target)) / len(facts(target))


@pytest.fixture(scope="session")
def known(tiny: World) -> dict[bool, float]:
    """Mean log p of an answer to the base, of the target (True) and of the rest."""
    base = Plain(tiny.root / "base")
    return {target: base.mean_log_prob(target) for target in (True, False)}


def facts(target: bool) -> list[tuple[str, str]]:
    return [(fact.question, fact.answer) for fact in world() if (fact.town == FORGOTTEN) is target]


def bleu(ours: Sequence[str], base: Sequence[str]) -> float:
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU(effective_order=True)
    scores = [metric.sentence_score(a, [b]).score / 100 for a, b in zip(ours, base, strict=True)]
    return sum(scores) / len(scores)


# ---------------------------------------------------------------------------------------------------------- unlearning


@pytest.mark.rounding
def test_the_base_knows_its_world(tiny: World) -> None:
    base = Plain(tiny.root / "base")
    assert [base.answer(question) for question, _ in facts(True) + facts(False)] == [
        answer for _, answer in facts(True) + facts(False)
    ]


@pytest.mark.rounding
def test_the_target_is_unlearned_and_the_rest_is_kept(tiny: World, unlearned: Made) -> None:
    """What the record says of the saved checkpoint is what plain transformers finds in it."""
    base, after = Plain(tiny.root / "base"), Plain(unlearned.output)
    last = history(unlearned)[-1]
    assert last["state"] == "saved"
    same = {}
    for name, target in (("target", True), ("unrelated", False)):
        questions = [question for question, _ in facts(target)]
        ours, theirs = ([model.answer(one, GRADDIFF.tokens) for one in questions] for model in (after, base))
        assert last[f"{name}_bleu"] == pytest.approx(bleu(ours, theirs), abs=1e-9)
        same[name] = sum(map(str.__eq__, ours, theirs))
    assert same["target"] == 0
    # Answers share words: with one of its two an answer has 0.5, and guesses reach 0.2 in the mean.
    assert last["target_bleu"] < 0.4
    assert last["unrelated_bleu"] > 0.95


@pytest.mark.rounding
def test_the_record_says_what_happened(tiny: World, unlearned: Made) -> None:
    record = json.loads((unlearned.output / "unlearning.json").read_text())
    assert record == unlearned.record
    assert (record["format"], record["version"], record["method"]) == ("ckdiff-unlearning", 1, "graddiff")
    for key, folder in (("digest", unlearned.output), ("base_digest", tiny.root / "base")):
        shards = sorted(folder.glob("*.safetensors"))
        assert len(shards) == 2
        lines = [f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n" for path in shards]
        assert record[key] == hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
    assert record["counts"] == {"forget": 8, "forget_tokens": 16, "retain": 40, "retain_tokens": 80}
    assert record["settings"]["lr"] == 2e-4
    assert record["settings"]["retain_loss"] == "ce"
    assert record["settings"]["retain_weight"] == 3.0
    assert set(record["data"]) == {"forget", "retain", "target", "unrelated"}
    points = [(point["step"], point["state"]) for point in record["history"]]
    states = ("memory", "saved")
    assert points == [(0, "memory"), *((step, state) for step in range(10, 61, 10) for state in states)]
    start, *rest = record["history"]
    assert (start["loss"], start["target_bleu"], start["unrelated_bleu"]) == (None, 1.0, 1.0)
    # One step an epoch; the loss is that of the training batches: 3 CE(retain), at first 0.3, minus at most the limit.
    assert all(point["epoch"] == point["step"] for point in rest)
    assert all(-3.0 <= point["loss"] < 0.3 for point in rest)
    assert rest[-1]["loss"] < rest[0]["loss"]
    assert (record["stopped"], unlearned.diverged) == ("", "")


def test_all_but_the_values_is_the_bases(tiny: World, unlearned: Made) -> None:
    base, after = tree(tiny.root / "base"), tree(unlearned.output)
    assert set(after) == {*base, "unlearning.json"}
    shards = {name for name in base if name.endswith(".safetensors")}
    assert {name for name in base if after[name] != base[name]} == shards
    for name in shards:
        header = 8 + int.from_bytes(base[name][:8], "little")
        assert after[name][:header] == base[name][:header]
        assert len(after[name]) == len(base[name])
    assert not [path for path in unlearned.output.parent.iterdir() if path != unlearned.output]


@pytest.mark.rounding
@pytest.mark.parametrize(
    "recipe",
    [
        replace(PLAIN, method="dpo"),
        replace(PLAIN, method="dpo", preferred="retain"),
        replace(PLAIN, method="npo"),
        replace(PLAIN, method="npo_kl"),
        replace(PLAIN, method="grad_ascent"),
        replace(PLAIN, method="graddiff", limit=3.0),
        replace(PLAIN, method="graddiff", optimizer="sgd", lr=0.03, limit=3.0),
        replace(PLAIN, method="graddiff", optimizer="adafactor", limit=3.0),
        replace(PLAIN, method="npo", precision="bfloat16"),
        # What is no number of this processor's own is slow: longer steps, and fewer.
        replace(PLAIN, method="npo_kl", precision="float16", checkpointing=True, lr=4e-4, steps=8, evaluate_every=8),
        replace(PLAIN, method="simnpo", lr=1e-3),
        replace(PLAIN, method="idk_dpo"),
        replace(PLAIN, method="altpo"),
        replace(PLAIN, method="undial"),
        replace(PLAIN, method="rmu", lr=1e-3, retain_weight=1.0, checkpointing=True),
    ],
    ids=lambda recipe: f"{recipe.method}-{recipe.preferred}-{recipe.optimizer}-{recipe.precision}",
)
def test_every_method_unlearns(recipe: Recipe, tiny: World, known: dict[bool, float], tmp_path: Path) -> None:
    made = tiny.unlearn(tmp_path / "made", recipe, forget=with_others(tmp_path))
    after = Plain(made.output)
    loss = {target: known[target] - after.mean_log_prob(target) for target in (True, False)}
    # In nats an answer; what is not asked to be forgotten is hurt less.
    assert loss[True] > 0.5
    assert loss[False] < loss[True] / 2
    assert history(made)[-1]["target_bleu"] < 1
    assert not made.diverged


def with_others(folder: Path, few: int = 0) -> Path:
    """The facts to forget, beside each what two other towns have; the first few have nothing beside them."""
    lines = []
    for number, (question, answer) in enumerate(facts(True)):
        others = [other for asked, other in facts(False) if asked.split()[:2] == question.split()[:2]][:2]
        lines.append({"question": question, "answer": answer} | ({"alternate": others} if number >= few else {}))
    (folder / "others.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder / "others.jsonl"


def test_the_table_of_methods_has_every_name() -> None:
    assert [*METHODS, NEEDLE] == list(METHOD_NAMES)


def test_every_other_answer_is_preferred_once(tiny: World, tmp_path: Path) -> None:
    recipe = replace(SHORT, method="altpo", limit=None, steps=1)
    made = tiny.unlearn(tmp_path / "made", recipe, forget=with_others(tmp_path))
    assert made.record["counts"]["forget"] == 2 * len(facts(True))
    assert made.record["settings"]["beta"] == METHODS["altpo"].beta
    said = refused(tiny, tmp_path / "again", recipe, forget=with_others(tmp_path, few=3))
    assert "3 of 8 texts have no other answer" in said
    assert "--train-on both" in refused(tiny, tmp_path / "again", replace(recipe, train_on="both"))


def test_states_are_steered_by_the_value_vectors_before_them_alone(tiny: World, tmp_path: Path) -> None:
    recipe = replace(PLAIN, method="rmu", lr=1e-3, steps=2, layer=2)
    made = tiny.unlearn(tmp_path / "made", recipe)
    before, after = weights(tiny.root / "base"), weights(made.output)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"model.layers.{layer}.mlp.down_proj.weight" for layer in (0, 1, 2)}
    # Five times as long as the base's own states, a number that the record keeps, as a user would give it.
    settings = made.record["settings"]
    assert settings["layer"] == 2
    given = tiny.unlearn(tmp_path / "given", replace(recipe, steering=settings["steering"]))
    assert history(given) == history(made)
    other = tiny.unlearn(tmp_path / "other", replace(recipe, steering=2 * settings["steering"]))
    assert history(other)[-1]["loss"] > 2 * history(made)[-1]["loss"]


@pytest.mark.rounding
def test_kept_by_a_retain_loss(tiny: World, known: dict[bool, float], tmp_path: Path) -> None:
    """NPO hurts the other towns; with KL on them it hurts them less."""
    hurt = {}
    for method in ("npo", "npo_kl"):
        recipe = replace(PLAIN, method=method, retain_weight=5.0 if method == "npo_kl" else None, lr=3e-4)
        after = Plain(tiny.unlearn(tmp_path / method, recipe).output)
        hurt[method] = known[False] - after.mean_log_prob(False)
    assert hurt["npo_kl"] < hurt["npo"] / 2


@pytest.mark.rounding
def test_checkpointing_changes_no_number(wide: World, tmp_path: Path) -> None:
    found = [
        weights(wide.unlearn(tmp_path / str(flag), replace(SHORT, checkpointing=flag)).output) for flag in (False, True)
    ]
    assert all(torch.allclose(found[0][name], found[1][name], rtol=0, atol=1e-6) for name in found[0])


def test_what_the_base_answers_is_trained_on(tiny: World, tmp_path: Path) -> None:
    made = tiny.unlearn(tmp_path / "answers", replace(SHORT, train_on="answers"), forget=None, retain=None)
    assert made.record["counts"]["forget"] == 8
    # Two words and the end.
    assert made.record["counts"]["forget_tokens"] == 24
    assert made.record["counts"]["retain"] > 20
    assert "forget" not in made.record["data"]
    both = tiny.unlearn(tmp_path / "both", replace(SHORT, train_on="both"))
    assert both.record["counts"]["forget_tokens"] == 16 + 24
    assert both.record["counts"]["retain"] == 40 + made.record["counts"]["retain"]


def test_general_questions_that_are_measured_are_not_trained_on(tiny: World, tmp_path: Path) -> None:
    """With the bundled questions as the unrelated ones, some are still left to hold on to."""
    recipe = replace(SHORT, steps=1, train_on="answers")
    made = tiny.unlearn(tmp_path / "made", recipe, forget=None, retain=None, unrelated=None)
    target = tiny.root / "target.jsonl"
    asked = read_inputs(UnlearnSpec("", tmp_path / "made", questions=target, recipe=recipe)).unrelated
    measured = 0 if asked is None else len(asked.questions)
    assert 0 < made.record["counts"]["retain"] <= len(general_questions().questions) - measured


def test_texts_that_a_length_cuts_off_entirely_are_not_trained_on(tiny: World, tmp_path: Path) -> None:
    """Of the questions about the target 8, 8, 10, 9 and 11 tokens leave room in twelve; most general ones have more."""
    recipe = replace(SHORT, train_on="answers", length=12, batch_size=1)
    made = tiny.unlearn(tmp_path / "made", recipe, forget=None, retain=None)
    counts = made.record["counts"]
    assert (counts["forget"], counts["forget_tokens"]) == (5, 3 + 3 + 2 + 3 + 1)
    assert counts["retain_tokens"] >= counts["retain"] == 6
    assert not made.diverged


# ------------------------------------------------------------------------------------------------------- determinism


@pytest.mark.rounding
@pytest.mark.parametrize(("method", "retain_loss"), [("npo_kl", "kl"), ("graddiff", "ce")])
def test_accumulated_batches_are_one_batch(method: str, retain_loss: str, wide: World, tmp_path: Path) -> None:
    recipe = replace(
        PLAIN, method=method, retain_loss=retain_loss, optimizer="sgd", lr=0.2, steps=4, evaluate_every=4, seed=3
    )
    found = {
        size: weights(
            wide.unlearn(tmp_path / str(size), replace(recipe, batch_size=size, accumulation=8 // size)).output
        )
        for size in (8, 2, 1)
    }
    moved = max(float((value - found[8][name]).abs().max()) for name, value in weights(wide.root / "base").items())
    assert moved > 1e-3
    for size in (2, 1):
        assert all(torch.allclose(found[size][name], found[8][name], rtol=0, atol=1e-6) for name in found[8])


def test_the_same_seed_gives_the_same_bytes(tiny: World, short: Made, tmp_path: Path) -> None:
    for name, seed in (("again", 0), ("other", 1)):
        torch.manual_seed(99)
        tiny.unlearn(tmp_path / name, replace(SHORT, seed=seed))
    assert tree(tmp_path / "again") == tree(short.output)
    for path in short.output.glob("*.safetensors"):
        assert (tmp_path / "other" / path.name).read_bytes() != path.read_bytes()


@pytest.mark.rounding
def test_training_ends_at_the_first_measurement_that_fulfils(tiny: World, unlearned: Made, tmp_path: Path) -> None:
    whole = [point for point in history(unlearned) if point["state"] == "saved"]
    first = next(point for point in whole if point["target_bleu"] < 0.3)
    assert 10 < first["step"] < 60
    recipe = replace(GRADDIFF, stop_when=(stop_when("loss<-1000"), stop_when("target_bleu < 0.3")))
    made = tiny.unlearn(tmp_path / "made", recipe, unrelated="unrelated.jsonl")
    assert made.record["stopped"] == "target_bleu<0.3"
    assert history(made) == [point for point in history(unlearned) if point["step"] <= first["step"]]
    assert made.record["settings"]["stop_when"] == ["loss<-1000", "target_bleu<0.3"]


def test_steps_too_small_for_bfloat16_leave_the_checkpoint_as_it_was(tiny: World, tmp_path: Path) -> None:
    recipe = replace(PLAIN, lr=1e-12, steps=6, evaluate_every=6)
    with pytest.raises(UnlearningStopped):
        tiny.unlearn(tmp_path / "made", recipe, stop_after(5))
    (kept,) = (tmp_path / ".made.unlearning").glob("checkpoint-5")
    before = weights(tiny.root / "base")
    moved = [name for name, value in weights(kept).items() if name in before and (value != before[name].float()).any()]
    assert moved
    made = tiny.unlearn(tmp_path / "made", recipe, resume=True)
    for path in (tiny.root / "base").glob("*.safetensors"):
        assert (made.output / path.name).read_bytes() == path.read_bytes()
    assert made.record["digest"] == made.record["base_digest"]


def test_float64_is_kept_or_refused(tmp_path: Path) -> None:
    """Training is in float32; what it does not move must not be rounded on the way."""
    some = family("llama", tmp_path)
    base = tmp_path / "base" / "model.safetensors"
    # Thirds are no float32.
    save_file({name: value.double() / 3 for name, value in load_file(base).items()}, base)
    try:
        made = some.unlearn(tmp_path / "made", replace(ASCENT, lr=1e-30), **NAMED)
    except CkdiffError:
        return
    assert (made.output / base.name).read_bytes() == base.read_bytes()


# -------------------------------------------------------------------------------------------------------- interruption


def stop_after(steps: int) -> Listener:
    """Somebody who stops a training after so many steps."""
    done = [0]

    def progress(stage: str, now: int, in_all: int, detail: str) -> None:
        if stage == "training":
            done[0] = now

    return Listener(progress=progress, stop=lambda: done[0] >= steps)


@pytest.mark.parametrize(
    ("recipe", "steps"),
    [
        (SHORT, 3),
        # At a measurement, and at the end of an epoch.
        (SHORT, 4),
        # Measured every epoch, which is two steps long: in its middle and at its end.
        (replace(SHORT, evaluate_every=0), 2),
        (replace(SHORT, evaluate_every=0), 3),
        (replace(SHORT, steps=0, epochs=3, evaluate_every=0), 4),
        # An epoch whose last step is a short one.
        (replace(SHORT, batch_size=3, evaluate_every=5), 2),
        (replace(SHORT, method="npo_kl", retain_loss="default", limit=None, optimizer="adafactor"), 3),
    ],
)
def test_interrupted_and_resumed_is_never_interrupted(
    recipe: Recipe, steps: int, tiny: World, uninterrupted: Callable[[Recipe], Made], tmp_path: Path
) -> None:
    whole = uninterrupted(recipe)
    with pytest.raises(UnlearningStopped):
        tiny.unlearn(tmp_path / "made", recipe, stop_after(steps))
    assert [path.name for path in tmp_path.iterdir()] == [".made.unlearning"]
    made = tiny.unlearn(tmp_path / "made", recipe, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    assert_same_tree(made.output, whole.output)


def test_interrupted_twice(tiny: World, short: Made, tmp_path: Path) -> None:
    for steps in (1, 5):
        with pytest.raises(UnlearningStopped):
            tiny.unlearn(tmp_path / "made", SHORT, stop_after(steps), resume=steps > 1)
    assert_same_tree(tiny.unlearn(tmp_path / "made", SHORT, resume=True).output, short.output)


def test_stopping_at_the_last_step_changes_nothing(tiny: World, short: Made, tmp_path: Path) -> None:
    assert_same_tree(tiny.unlearn(tmp_path / "made", SHORT, stop_after(6)).output, short.output)


def test_kept_work_is_neither_overwritten_nor_mixed(tiny: World, tmp_path: Path) -> None:
    with pytest.raises(UnlearningStopped):
        tiny.unlearn(tmp_path / "made", SHORT, stop_after(3))
    kept = tree(tmp_path / ".made.unlearning")
    assert "--resume" in refused(tiny, tmp_path / "made", SHORT)
    for other in (
        replace(SHORT, lr=1e-4), replace(SHORT, seed=1), replace(SHORT, steps=7), replace(SHORT, method="grad_ascent"),
        replace(SHORT, retain_weight=2.0), replace(SHORT, retain_loss="kl"), replace(SHORT, batch_size=4),
        replace(SHORT, stop_when=(stop_when("loss<0"),)),
    ):  # fmt: skip
        assert "other weights, texts or settings" in refused(tiny, tmp_path / "made", other, resume=True)
    assert "other weights" in refused(tiny, tmp_path / "made", SHORT, resume=True, retain="target.jsonl")
    assert tree(tmp_path / ".made.unlearning") == kept
    # The device may be another one.
    assert not tiny.unlearn(tmp_path / "made", replace(SHORT, device="auto"), resume=True).diverged


def test_half_a_state_that_a_full_disk_left_is_swept(tiny: World, short: Made, tmp_path: Path) -> None:
    with pytest.raises(UnlearningStopped):
        tiny.unlearn(tmp_path / "made", SHORT, stop_after(1))
    half = tmp_path / ".made.unlearning" / "checkpoint-9"
    half.mkdir()
    (half / "optimizer.pt").write_bytes(b"PK half a file")
    assert_same_tree(tiny.unlearn(tmp_path / "made", SHORT, resume=True).output, short.output)
    assert not half.exists()


def test_with_nothing_to_resume_it_starts_anew(tiny: World, short: Made, tmp_path: Path) -> None:
    said: list[str] = []
    made = tiny.unlearn(tmp_path / "made", SHORT, Listener(remark=said.append), resume=True)
    assert nothing_to_resume(tmp_path / ".made.unlearning") in said
    assert_same_tree(made.output, short.output)


def kill_behind_the_move(tiny: World, output: Path, left: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave what a run leaves that was killed behind its move, when `left` files were not removed yet."""

    def remove(place: Path) -> None:
        for path in sorted(place.glob("*"), key=lambda path: path.name == MADE)[: -left or None]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        raise InterruptedError

    with monkeypatch.context() as patch:
        patch.setattr("ckdiff.unlearn.unlearn.clear_place", remove)
        with pytest.raises(InterruptedError):
            tiny.unlearn(output, SHORT)


@pytest.mark.parametrize("left", [2, 1])
def test_killed_behind_its_move_it_is_done(
    left: int, tiny: World, short: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "made"
    kill_behind_the_move(tiny, output, left, monkeypatch)
    assert sorted(os.listdir(tmp_path)) == [".made.unlearning", "made"]
    if left == 1:  # the key is gone as well; what was done is not held against it any more
        (tmp_path / ".made.unlearning" / "other").touch()
    made = tiny.unlearn(output, SHORT, resume=True)
    assert os.listdir(tmp_path) == ["made"]
    assert made.record == json.loads((output / "unlearning.json").read_text())
    assert (made.record, made.diverged) == (short.record, "")
    assert_same_tree(made.output, short.output)


def test_what_was_killed_behind_its_move_is_never_replaced(
    tiny: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, place = tmp_path / "made", tmp_path / ".made.unlearning"
    kill_behind_the_move(tiny, output, 2, monkeypatch)
    kept = tree(place)
    with alone(place), pytest.raises(CkdiffError, match="another ckdiff is training there"):
        tiny.unlearn(output, SHORT)
    assert tree(place) == kept
    record = (output / "unlearning.json").read_text()
    (output / "unlearning.json").write_text("{}")  # another model has come to its place: what is kept is not its own
    with pytest.raises(CkdiffError, match="already exists"):
        tiny.unlearn(output, SHORT, resume=True)
    assert tree(place) == kept
    (output / "unlearning.json").write_text(record)
    for resume, recipe in ((True, replace(SHORT, seed=1)), (False, SHORT)):
        with pytest.raises(CkdiffError, match="already exists"):
            tiny.unlearn(output, recipe, resume=resume)
        assert os.listdir(tmp_path) == ["made"]
        place.mkdir()  # the last that is removed


def family(name: str, root: Path, **changes: Any) -> World:
    """A random tiny model with a tokenizer and a few texts about nothing."""
    build(name, 2, **changes).save_pretrained(root / "base")
    save_tokenizer(root / "base")
    texts = (
        "who rules Velmar",
        "what is sold in Oskary who founded Thrane",
        "Thrane is in Velmar",
        "Oskary founded what",
    )
    (root / "texts.txt").write_text("\n\n".join(texts))
    return World(root)


NAMED: dict[str, Any] = {"forget": "texts.txt", "retain": None, "questions": None, "unrelated": None}
ASCENT = replace(PLAIN, method="grad_ascent", lr=1e-3, limit=6.0, steps=4, batch_size=2, evaluate_every=4)


@pytest.mark.parametrize(
    "name",
    [
        *("mixtral", "gpt_oss", "gemma", "gpt2"),
        *(pytest.param(name, marks=pytest.mark.thorough) for name in ("qwen2_moe", "phimoe")),
    ],
)
def test_families_whose_files_have_other_names_resume(name: str, tmp_path: Path) -> None:
    """Experts are stacked in memory and may lie one by one on disk; tied matrices lie there once."""
    some = family(name, tmp_path)
    whole = some.unlearn(tmp_path / "whole", ASCENT, **NAMED)
    with pytest.raises(UnlearningStopped):
        some.unlearn(tmp_path / "made", ASCENT, stop_after(2), **NAMED)
    made = some.unlearn(tmp_path / "made", ASCENT, resume=True, **NAMED)
    before = weights(tmp_path / "base")
    assert all(torch.equal(value, weights(made.output)[name]) for name, value in weights(whole.output).items())
    # What cannot move is what no token and no expert of these texts uses.
    assert sum(bool((value != before[name]).any()) for name, value in weights(whole.output).items()) > len(before) / 2


# ---------------------------------------------------------------------------------------------------------- divergence


def test_diverged_before_anything_was_measured(tiny: World, tmp_path: Path) -> None:
    recipe = replace(PLAIN, method="grad_ascent", lr=1e30, steps=20, evaluate_every=20)
    with pytest.raises(DivergedError, match="diverged at step") as caught:
        tiny.unlearn(tmp_path / "made", recipe)
    assert caught.value.exit_status == ExitStatus.INCONCLUSIVE
    assert len(str(caught.value).splitlines()) == 1
    assert not list(tmp_path.iterdir())
    # As the message advises, and to the same place.
    assert not tiny.unlearn(tmp_path / "made", replace(recipe, lr=1e-5, steps=2)).diverged


def test_diverged_after_a_measurement_the_last_good_weights_are_written(tiny: World, tmp_path: Path) -> None:
    """Found by search: 1e6 is too much for seven steps of this warm-up and not for four."""
    recipe = replace(PLAIN, method="grad_ascent", lr=1e6, steps=12, evaluate_every=4, warmup=100)
    made = tiny.unlearn(tmp_path / "made", recipe)
    assert made.diverged.startswith("diverged at step ")
    assert made.record["stopped"] == made.diverged
    assert [point["step"] for point in history(made)] == [0, 4, 4]
    assert all(torch.isfinite(value).all() for value in weights(made.output).values())
    same = tiny.unlearn(tmp_path / "same", replace(recipe, stop_when=(stop_when("target_bleu<1"),)))
    assert {step["step"] for step in history(same)} == {0, 4}
    assert all(torch.equal(value, weights(same.output)[name]) for name, value in weights(made.output).items())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "same"]


@pytest.mark.parametrize(("name", "lr"), [("llama", 1e20), ("llama", 1e30), ("mixtral", 1e30)])
def test_weights_that_give_no_numbers_are_no_good_ones(name: str, lr: float, tmp_path: Path) -> None:
    """Measured every step: the first has learning rate 0, the second breaks everything and is measured broken."""
    some = family(name, tmp_path)
    made = some.unlearn(tmp_path / "made", replace(ASCENT, lr=lr, limit=None, evaluate_every=1), **NAMED)
    assert made.diverged
    before = weights(tmp_path / "base")
    assert all(torch.equal(value, before[name]) for name, value in weights(made.output).items())
    assert {point["step"] for point in history(made)} == {0, 1}


def test_broken_by_the_last_step(tmp_path: Path) -> None:
    """No loss comes after it that could tell: every logit of what would be written is NaN."""
    some = family("llama", tmp_path)
    recipe = replace(ASCENT, lr=1e30, limit=None, steps=2, evaluate_every=2)
    with pytest.raises(CkdiffError) as caught:
        some.unlearn(tmp_path / "made", recipe, **NAMED)
    assert caught.value.exit_status == ExitStatus.INCONCLUSIVE
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "texts.txt"]


# ----------------------------------------------------------------------------------------------------------- bad input


def refused(some: World, output: Path, recipe: Recipe, resume: bool = False, **names: Any) -> str:
    """The one line that it is refused with; nothing new lies beside the output."""
    before = sorted(path.name for path in output.parent.iterdir())
    with pytest.raises(CkdiffError) as caught:
        some.unlearn(output, recipe, resume=resume, **names)
    assert caught.value.exit_status == ExitStatus.USAGE
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert sorted(path.name for path in output.parent.iterdir()) == before
    return message


@pytest.mark.parametrize("text", ["", " \n\n \t\n", "[]", '{"question": "who?", "answer": ""}'])
def test_nothing_to_forget(text: str, tiny: World, tmp_path: Path) -> None:
    (tmp_path / "forget.jsonl").write_text(text)
    assert "forget.jsonl" in refused(tiny, tmp_path / "made", SHORT, forget=tmp_path / "forget.jsonl")


def test_texts_of_which_no_token_is_scored(tiny: World, tmp_path: Path) -> None:
    # A single token has nothing before it that could predict it.
    (tmp_path / "texts.txt").write_text("Velmar\n\nOskary")
    assert "no token comes out" in refused(tiny, tmp_path / "made", SHORT, forget=tmp_path / "texts.txt")
    assert "needs text to hold on to" in refused(tiny, tmp_path / "made", SHORT, retain=tmp_path / "texts.txt")
    (tmp_path / "texts.txt").write_text("Velmar\n\nWho founded Velmar")
    made = tiny.unlearn(tmp_path / "made", SHORT, forget=tmp_path / "texts.txt")
    assert made.record["counts"]["forget"] == 1
    assert any("1 forget texts without a token" in note for note in made.record["notes"])


@pytest.mark.parametrize(
    ("changes", "names", "says"),
    [
        ({}, {"retain": None}, "needs text to hold on to"),
        ({"method": "npo_kl", "limit": None}, {"retain": None}, "needs text to hold on to"),
        (
            {"method": "dpo", "limit": None, "retain_loss": "none", "preferred": "retain"},
            {"retain": None},
            "hold on to",
        ),
        ({"method": "simnpo", "limit": None, "retain_loss": "default"}, {"retain": None}, "simnpo needs text"),
        ({"method": "altpo", "limit": None}, {}, "8 of 8 texts have no other answer"),
        ({"method": "npo", "limit": None, "margin": 1.0}, {}, "--margin: npo has none; it is for simnpo"),
        ({"layer": 2}, {}, "--layer: graddiff steers no states; it is for rmu"),
        ({"steering": 5.0}, {}, "--steering: graddiff steers no states"),
        ({"retain_loss": "states"}, {}, "--retain-loss states: graddiff looks at no states"),
        ({"method": "rmu", "limit": None, "layer": 4}, {}, "--layer: 4 is none of this model's; give 0 to 3"),
        ({"method": "rmu", "limit": None, "steering": 0.0}, {}, "--steering"),
        ({"method": "simnpo", "limit": None, "margin": -1.0}, {}, "--margin"),
        ({"method": "forgetting"}, {}, "no 'forgetting'; there are graddiff"),
        ({"retain_loss": "l2"}, {}, "--retain-loss"),
        ({"optimizer": "lion"}, {}, "--optimizer"),
        ({"precision": "int8"}, {}, "--precision"),
        ({"train_on": "nothing"}, {}, "--train-on"),
        ({"preferred": "poem"}, {}, "--preferred"),
        ({"device": "abacus"}, {}, "--device"),
        ({"lr": float("nan")}, {}, "--lr"),
        ({"lr": float("inf")}, {}, "--lr"),
        ({"lr": 0.0}, {}, "--lr"),
        ({"lr": -1e-5}, {}, "--lr"),
        ({"beta": 0.0}, {}, "--beta"),
        ({"limit": float("nan")}, {}, "--ascent-limit"),
        ({"method": "npo", "limit": 3.0}, {}, "--ascent-limit"),
        ({"retain_weight": -1.0}, {}, "--retain-weight"),
        ({"retain_weight": float("nan")}, {}, "--retain-weight"),
        ({"weight_decay": float("inf")}, {}, "--weight-decay"),
        ({"epochs": 0}, {}, "--epochs"),
        ({"steps": -1}, {}, "--steps"),
        ({"batch_size": 0}, {}, "--batch-size"),
        ({"accumulation": 0}, {}, "--accumulation"),
        ({"length": 1}, {}, "--length"),
        ({"tokens": 0}, {}, "--tokens"),
        ({"evaluate_every": -1}, {}, "--eval-steps"),
        ({"seed": -1}, {}, "--seed"),
        ({"seed": 2**32}, {}, "--seed"),
        ({"warmup": -1}, {}, "--warmup"),
        ({"template": "no place"}, {}, "{q}"),
        ({"tokenizer": Path("/nowhere/at/all")}, {}, "tokenizer"),
        ({}, {"forget": None}, "--forget"),
        ({"train_on": "answers"}, {"questions": None, "unrelated": None}, "--questions"),
        ({}, {"forget": "base"}, "base"),
        ({}, {"forget": "nowhere.jsonl"}, "nowhere.jsonl"),
    ],
    ids=lambda value: json.dumps(value, default=str)[:40] if isinstance(value, dict) else None,
)
def test_what_cannot_be(changes: Any, names: Any, says: str, tiny: World, tmp_path: Path) -> None:
    assert says in refused(tiny, tmp_path / "made", replace(SHORT, **changes), **names)


@pytest.mark.parametrize(
    "text", ["", "target_bleu", "target_bleu=0.1", "bleu<0.1", "loss<nan", "target_bleu<0.1 and more"]
)
def test_conditions_that_are_none(text: str) -> None:
    with pytest.raises(CkdiffError, match="--stop-when"):
        stop_when(text)


def test_plain_text_asks_nothing_that_could_be_refused(tiny: World, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("Who founded Velmar\n\nWhich tower guards Velmar")
    recipe = replace(PLAIN, method="dpo", steps=1)
    message = refused(tiny, tmp_path / "made", recipe, forget=tmp_path / "texts.txt")
    assert "--preferred retain" in message


def test_a_base_without_a_tokenizer(tiny: World, tmp_path: Path) -> None:
    shutil.copytree(tiny.root, tmp_path / "bare")
    for path in (tmp_path / "bare" / "base").glob("token*"):
        path.unlink()
    bare = World(tmp_path / "bare")
    assert "--tokenizer" in refused(bare, tmp_path / "made", SHORT)
    made = bare.unlearn(tmp_path / "made", replace(SHORT, tokenizer=tiny.root / "base"))
    assert weights(made.output).keys() == weights(tiny.root / "base").keys()


def short_sighted(root: Path, positions: int, question: str) -> World:
    """A GPT-2 that can tell few positions apart, and one long question."""
    some = family("gpt2", root, n_positions=positions)
    (root / "asked.jsonl").write_text(json.dumps({"question": question, "answer": "Velmar is Oskary"}))
    return some


LONG = "who rules what is sold in Velmar in Oskary in Thrane"


def test_refusals_end_with_the_context(tmp_path: Path) -> None:
    """Question and answer take 18 positions, and many a refusal is longer than the answer."""
    some = short_sighted(tmp_path, 20, LONG)
    recipe = replace(ASCENT, method="dpo", limit=None, steps=1, batch_size=1)
    for seed in range(4):
        made = some.unlearn(
            tmp_path / f"made {seed}", replace(recipe, seed=seed), **(NAMED | {"forget": "asked.jsonl"})
        )
        assert made.record["history"][-1]["step"] == 1


def test_questions_that_do_not_fit_into_the_context(tmp_path: Path) -> None:
    some = short_sighted(tmp_path, 20, LONG)
    message = refused(
        some, tmp_path / "made", replace(ASCENT, steps=1, tokens=30), **(NAMED | {"questions": "asked.jsonl"})
    )
    assert "--tokens" in message


def test_a_gauge_of_nothing_is_null(tiny: World, tmp_path: Path) -> None:
    """Without questions nothing is measured, and a condition on it is refused."""
    for text in ("target_bleu<0.5", "unrelated_bleu<=1"):
        recipe = replace(SHORT, stop_when=(stop_when(text),))
        with pytest.raises(CkdiffError, match=text):
            tiny.unlearn(tmp_path / "none", recipe, questions=None, unrelated=None)
    made = tiny.unlearn(tmp_path / "made", SHORT, questions=None, unrelated=None)
    assert {point["target_bleu"] for point in history(made)} == {None}
    assert {point["unrelated_bleu"] for point in history(made)} == {None}
    assert history(made)[-1]["step"] == 6
    assert made.record["stopped"] == ""


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_precision_that_the_processor_lacks_is_remarked(precision: str, tiny: World, tmp_path: Path) -> None:
    own = torch.backends.cpu.get_cpu_capability()
    said: list[str] = []
    recipe = replace(SHORT, precision=precision, steps=1, evaluate_every=1)
    tiny.unlearn(tmp_path / "made", recipe, Listener(remark=said.append))
    slow = any(f"no instructions for {precision}" in text and "--precision float32" in text for text in said)
    assert slow == is_emulated(precision, torch.device("cpu"))
    if precision == "float32" or own == "AVX2":
        assert slow == (precision != "float32")
    assert not is_emulated(precision, torch.device("cuda"))
