"""Relearning: the Trainer's steps against a loop by hand, what is held out, and what a script sees of the command."""

from __future__ import annotations

import itertools
import json
import shutil
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy

from ckdiff.attacks.answers import normalise
from ckdiff.attacks.case import AttackError, Options, Outcome, Reading
from ckdiff.attacks.evidence import Evidence, Made
from ckdiff.attacks.opening import begin_case, read_plain
from ckdiff.attacks.relearn import (
    BACK,
    PAST,
    Curve,
    folds_of,
    held_out_of,
    lessons,
    outcomes,
    rates_of,
    steps_of,
    weigh_ruin,
)
from ckdiff.attacks.training import batches_of, check_memory, check_trainable, descend, trainable
from ckdiff.calls.attack import attack as call_attack
from ckdiff.calls.attack import prepare_attack
from ckdiff.calls.specs import AttackSpec
from ckdiff.cli.app import run
from ckdiff.probes.cost import TooLittleMemoryError
from ckdiff.probes.kept_sweep import PartialError
from ckdiff.progress import Listener, Stopped
from ckdiff.report.exports.json import to_json
from ckdiff.scoring.matching import match_tables, pairings
from ckdiff.scoring.settings import Settings
from ckdiff.unlearn.sequences import Tokens, pad
from ckdiff.unlearn.trainer import CLIP, DivergedError, take_steps
from ckdiff.unlearn.world import FORGOTTEN, STEPS, learn, make_model, make_tokenizer, world

if TYPE_CHECKING:
    from pathlib import Path

    from ckdiff.attacks.case import Case
    from ckdiff.report.schema.attack import TierEvidence
    from ckdiff.report.schema.report import Report

CPU = torch.device("cpu")
RATE = 1e-3
ASKED = ("--questions", "target.jsonl", "--unrelated", "unrelated.jsonl", "--attack", "relearn")
QUICK = ("--tokens", 5, "--device", "cpu", "--no-hash", "--train-steps", 4, "--rates", RATE)


@pytest.fixture(scope="session")
def pair(learned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base that knows eight facts of a town, a copy of it that was suppressed, and a model that never knew them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    root = tmp_path_factory.mktemp("relearn")
    shutil.copytree(learned, root, dirs_exist_ok=True)
    tokenizer: Any = AutoTokenizer.from_pretrained(root / "base")
    model = AutoModelForCausalLM.from_pretrained(root / "base", dtype=torch.float32)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.0)
    mine = [fact for fact in world() if fact.town == FORGOTTEN]
    batch = pad([text_of(tokenizer, fact.question, fact.answer) for fact in mine], CPU)
    for _ in range(16):
        logits = model(batch.ids, use_cache=False).logits[:, :-1]
        (-cross_entropy(logits.flatten(0, 1), batch.labels[:, 1:].flatten()).clamp(max=4.0)).backward()
        optimiser.step()
        optimiser.zero_grad()
    model.save_pretrained(root / "suppressed")
    torch.manual_seed(1)
    never = make_model(make_tokenizer(world()))
    learn(never, [fact for fact in world() if fact.town != FORGOTTEN], tokenizer, STEPS, lambda step: None)
    never.save_pretrained(root / "never")
    for name in ("suppressed", "never"):
        tokenizer.save_pretrained(root / name)
    return root


def text_of(tokenizer: Any, question: str, answer: str) -> Tokens:
    prompt = tokenizer.encode(f"Question: {question}\n Answer:")
    return Tokens((*prompt, *tokenizer.encode(answer)), len(prompt))


def case_of(root: Path, unlearned: str = "suppressed", general: bool = False, **options: Any) -> Case:
    spec = AttackSpec(
        base=str(root / "base"),
        unlearned=str(root / unlearned),
        questions=root / "target.jsonl",
        unrelated=None if general else root / "unrelated.jsonl",
        settings=Settings(tokens=5, device="cpu"),
    )
    task, _ = prepare_attack(spec)
    with torch.inference_mode():
        return begin_case(task, Options(**options), Listener(), None)[0]


def read(case: Case, *sides: str) -> None:
    lives = {"base": case.job.pair.base, "unlearned": case.job.pair.unlearned}
    with torch.inference_mode():
        for side in sides:
            read_plain(case, lives[side], side)  # type: ignore[arg-type]


def attack(case: Case) -> list[Outcome]:
    with torch.inference_mode():
        return list(outcomes(case, case.job.pair.unlearned, "unlearned"))


@pytest.mark.parametrize("training", ["full", "lora"])
def test_trained_weights_are_those_of_a_loop_by_hand(pair: Path, training: str) -> None:
    """Four steps on other facts: the level of every held-out answer, beside AdamW written out."""
    case = case_of(pair, "never", arms=("others",), rates=(RATE,), steps=4, training=training)
    read(case, "base", "unlearned")
    found = {one.step: one for one in attack(case)}
    assert sorted(found) == [0, 1, 2, 4]
    with trainable(case, case.job.pair.unlearned, training == "lora") as live:
        model = live.model
        trained = [value for value in model.parameters() if value.requires_grad]
        assert (len(trained) < len(list(model.parameters()))) is (training == "lora")
        optimiser = torch.optim.AdamW(trained, lr=RATE, weight_decay=0.0)
        (lesson,) = lessons(case, "others")
        for texts in batches_of(lesson.texts, 4, 0):
            batch = pad(texts, CPU)
            logits = model(batch.ids, use_cache=False).logits[:, :-1]
            cross_entropy(logits.flatten(0, 1), batch.labels[:, 1:].flatten()).backward()
            torch.nn.utils.clip_grad_norm_(trained, CLIP)
            optimiser.step()
            optimiser.zero_grad()
        levels = []
        for one in case.sought:
            with torch.no_grad():
                logits = model(torch.tensor([[*one.ids, *one.answer]])).logits[0].double().log_softmax(-1)
            levels.append(np.mean([float(logits[len(one.ids) - 1 + n, token]) for n, token in enumerate(one.answer)]))
    reading = found[4].reading
    assert reading is not None
    assert reading.level == pytest.approx(levels, abs=2e-3)
    assert found[0].reading is case.plain["unlearned"]
    assert abs(reading.level - case.plain["unlearned"].level).max() > 0.02
    assert [found[step].applied for step in (0, 1)] == [0.0, pytest.approx(1.0, abs=0.8)]


def test_nothing_is_measured_that_was_given_away(pair: Path) -> None:
    case = case_of(pair, folds=3)
    folds = folds_of(case)
    assert sorted(cluster for fold in folds for cluster in fold) == list(range(8))
    assert sorted(map(len, folds)) == [2, 3, 3]
    for arm in ("half", "scrambled"):
        every = lessons(case, arm)
        assert [set(lesson.held_out) for lesson in every] == [set(fold) for fold in folds]
        for lesson in every:
            own = {one.ids: one.answer for place, one in enumerate(case.sought) if place not in lesson.held_out}
            taught = {text.ids[: text.first]: text.ids[text.first :] for text in lesson.texts}
            assert set(taught) == set(own)
            assert Counter(taught.values()) == Counter(own.values())
            assert all((taught[ids] == own[ids]) is (arm == "half") for ids in own)
    assert held_out_of(case, every) == tuple(place for lesson in every for place in lesson.held_out)
    told = every[0].held_out[0]
    given = every[0].texts[0]._replace(ids=(*every[0].texts[0].ids, *case.sought[told].answer))
    every[0] = replace(every[0], texts=(given,))
    assert set(held_out_of(case, every)) == set(range(8)) - {told}
    (lesson,) = lessons(case, "others")
    assert lesson.held_out == tuple(range(8))
    measured = {prompt.ids for prompt in case.unrelated[:10]}
    asked = {text.ids[: text.first] for text in lesson.texts}
    assert len(lesson.texts) == 16
    assert not asked & (measured | {one.ids for one in case.sought})
    case.others = None
    case.sought[0] = replace(case.sought[0], words=normalise(case.decode(lesson.texts[3].ids[lesson.texts[3].first :])))
    (fewer,) = lessons(case, "others")
    assert lesson.texts[3] not in fewer.texts


def test_nothing_comes_back_of_what_nobody_says(pair: Path) -> None:
    task = case_of(pair).task
    with pytest.raises(AttackError, match="the base says nothing to any of the questions; nothing can come back"):
        begin_case(task, Options(), Listener(), [[]] * 8)
    said = [[5, 6], *[[]] * 7]
    found, notes = begin_case(task, Options(), Listener(), said)
    assert len(found.sought) == 1
    assert "7 of 8 questions were left out: the base says nothing to them" in notes
    assert any("matching was not measured: it takes 6 facts or more" in note for note in notes)


def test_bundled_questions_are_not_trained_on_where_they_are_measured(pair: Path) -> None:
    case = case_of(pair, general=True)
    (lesson,) = lessons(case, "others")
    assert not {text.ids[: text.first] for text in lesson.texts} & {prompt.ids for prompt in case.unrelated[:10]}


def test_answers_that_overlap_are_held_out_together(pair: Path) -> None:
    case = case_of(pair)
    first = case.sought[0].words
    case.sought = [replace(one, words=f"the {first} of it") if one.cluster in (3, 5) else one for one in case.sought]
    (mine,) = [fold for fold in folds_of(case) if 0 in fold]
    assert {0, 3, 5} <= mine
    wide = [replace(one, words=first if one.cluster in (3, 5) else one.words) for one in case.sought]
    case.sought = [replace(wide[0], words=f"the {first} of it"), *wide[1:]]
    assert any({0, 3, 5} <= fold for fold in folds_of(case))
    # What proves nothing, such as a phrase that opens every answer, holds nothing together.
    case.sought = [replace(one, counts=one.cluster != 0) for one in wide]
    case.sought[0] = replace(case.sought[0], words=wide[1].words.split()[0])
    assert sorted(map(len, folds_of(case))) == [4, 4]
    case.sought = [replace(one, words=first) for one in case.sought]
    with pytest.raises(AttackError, match="would have one answer"):
        lessons(case, "half")
    case.sought = case.sought[:5]
    with pytest.raises(AttackError, match="it takes 6 facts to hold some of them out, and there are 5"):
        lessons(case, "scrambled")


def test_every_text_comes_once_before_any_comes_again() -> None:
    texts = [Tokens((number, 1), 1) for number in range(10)]
    found = batches_of(texts, 5, 3)
    assert [len(batch) for batch in found] == [5] * 5
    assert {text.ids for batch in found[:2] for text in batch} == {text.ids for text in texts}
    assert found == batches_of(texts, 5, 3) != batches_of(texts, 5, 4)
    assert steps_of(40) == [1, 2, 4, 8, 16, 32, 40]
    assert steps_of(1) == [1]


def test_what_diverges_or_does_not_fit_is_said(pair: Path) -> None:
    case = case_of(pair)
    live = case.job.pair.unlearned
    with pytest.raises(TooLittleMemoryError, match="use --training lora"):
        check_memory(live, False, 10**9)
    with pytest.raises(TooLittleMemoryError, match="use fewer or shorter questions"):
        check_memory(live, True, 10**9)
    seen: list[int] = []
    with trainable(case, live) as model:
        _, value = next(model.parameters())

        def loss(step: int) -> torch.Tensor:
            return value.sum() * (float("nan") if step == 2 else 1.0)

        def after(step: int) -> bool:
            seen.append(step)
            return False

        with pytest.raises(DivergedError, match="diverged at step 3"):
            take_steps(model.model, loss, 5, 1e-3, CPU, after)
    assert seen == [1, 2]


def test_a_listener_ends_a_training(pair: Path) -> None:
    case = case_of(pair)
    seen: list[int] = []

    def after(step: int) -> bool:
        seen.append(step)
        return step == 2

    with trainable(case, case.job.pair.unlearned) as model:
        descend(model, [Tokens((5, 6, 7), 1)], 9, 1e-3, 0, after)
    assert seen == [1, 2]


def test_an_interrupted_training_leaves_nothing_behind(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    case = case_of(pair)

    def after(step: int) -> bool:
        assert len(list(tmp_path.iterdir())) == 1
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), trainable(case, case.job.pair.unlearned) as model:
        descend(model, [Tokens((5, 6, 7), 1)], 9, 1e-3, 0, after)
    assert list(tmp_path.iterdir()) == []
    assert {value.device.type for _, value in model.parameters()} == {"meta"}


def test_codes_take_no_gradient_but_matrices_beside_them_do(pair: Path, tmp_path: Path) -> None:
    shutil.copytree(pair, tmp_path, dirs_exist_ok=True)
    values = load_file(tmp_path / "never" / "model.safetensors")
    name = "model.layers.0.mlp.up_proj.weight"
    save_file(values | {name: values[name].to(torch.float8_e4m3fn)}, tmp_path / "never" / "model.safetensors")
    case = case_of(tmp_path, "never")
    check_trainable(case, case.job.pair.base, False)
    check_trainable(case, case.job.pair.unlearned, True)
    with pytest.raises(AttackError, match=r"quantised \(F8_E4M3\), and codes take no gradient; use --training lora"):
        check_trainable(case, case.job.pair.unlearned, False)


def test_who_leaves_its_own_answers_for_those_of_the_base_is_not_ruined(pair: Path) -> None:
    case = case_of(pair)
    read(case, "base")
    plain = case.plain["base"]
    ruined = replace(plain, unrelated=0.3)
    with torch.inference_mode():
        with case.loaded(case.job.pair.base) as live:
            assert weigh_ruin(case, live, ruined).unrelated == 1.0
            assert weigh_ruin(case, live, replace(plain, unrelated=0.6)).unrelated == 0.6
        zero = case.loaded(case.job.pair.base, lambda name, value: torch.zeros_like(value))
        with zero as live:
            assert weigh_ruin(case, live, ruined).unrelated == 0.3


def test_a_training_is_past_its_best_after_two_falls() -> None:
    def curve(*levels: float) -> Curve:
        tables = [replace(reading_of(np.zeros((1, 1))), level=np.array([level, np.nan])) for level in levels]
        return Curve(dict(enumerate(tables, 1)), {})

    assert [curve(*levels).past for levels in ((-3, -2, -2.5), (-2, -3, -2.5), (-3, -2, -4, -1), (-2, -3))] == [
        False, True, False, False,
    ]  # fmt: skip
    over = curve(-2, -3, -2.5)
    for ended, there in ((BACK, True), (PAST, True), ("", False), ("diverged", False)):
        over.ended = ended
        assert (over.at(9) is over.readings[3]) is there
        assert over.at(2) is over.readings[2]


def test_a_narrow_model_takes_larger_steps(pair: Path) -> None:
    """This one is 64 wide: a ninth of the width at which 3e-5 is right."""
    assert rates_of(case_of(pair)) == (2.7e-4, 9e-4)
    assert rates_of(case_of(pair, training="lora")) == (2.7e-3, 9e-3)
    assert rates_of(case_of(pair, rates=(0.1, 0.01))) == (0.01, 0.1)


def test_a_plan_counts_what_training_takes(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    said = []
    others = ("--arms", "others")
    for more in (("--training", "full"), ("--training", "lora"), others, ("--arms", "half"), (*others, "--rates", "1")):
        assert run(["attack", "base", "suppressed", *ASKED, "--plan", *more]) == 0
        said.append(dict(line.split(maxsplit=1) for line in capfd.readouterr().out.splitlines()))
    texts = [int(one["relearn"].split()[0]) for one in said]
    # Both folds of half of the facts train as long as all of it, and so do those of scrambled answers.
    assert texts[0] == texts[1] == texts[2] + 2 * texts[3] > 1000
    assert 1 < texts[3] / texts[2] < 2
    assert texts[4] / texts[2] == 0.5
    sizes = [float(one["memory"].split()[1]) for one in said]
    assert sizes[0] > sizes[1]
    assert all("less where answers come back early" in one["time"] for one in said)


def reading_of(table: np.ndarray[Any, Any]) -> Reading:
    count = len(table)
    return Reading(np.zeros(count), np.zeros(count), {}, table, 1.0, 1)


def test_arms_with_other_pairings_are_paid_for_as_well(pair: Path) -> None:
    """Tables that are matched within folds have pairings of their own: the best p is taken twice."""
    case = case_of(pair)
    read(case, "base", "unlearned")
    generator = np.random.default_rng(0)
    halves = ((0, 2, 4, 6), (1, 3, 5, 7))
    whole, split = generator.normal(size=(2, 8, 8))
    split = split + 3 * np.eye(8)
    made = [
        Made("relearn", "unlearned", Outcome("others", reading_of(whole), 1)),
        Made("relearn", "unlearned", Outcome("half", reading_of(split), 1, groups=halves)),
    ]
    (tier,) = Evidence(case, made, None).tiers(("relearn",))
    alone = match_tables(split[None], pairings(halves), halves)
    assert tier.worst == "relearn: half, step 1"
    assert tier.z == alone.z[0]
    assert tier.p == pytest.approx(2 * alone.selected)
    (single,) = Evidence(case, made[1:], None).tiers(("relearn",))
    assert single.p == alone.selected


def test_a_model_as_it_was_or_in_ruins_says_nothing(pair: Path) -> None:
    case = case_of(pair)
    read(case, "base", "unlearned")
    plain = case.plain["unlearned"]
    ruined = Outcome("others", replace(plain, unrelated=0.1), 1, note="ruined")

    def missing(*found: Outcome) -> str:
        return Evidence(case, [Made("relearn", "unlearned", one) for one in found], None).tiers(("relearn",))[0].missing

    as_it_was = Outcome("others", plain, 0)
    assert missing(as_it_was, ruined) == "relearn: ruined"
    assert missing(as_it_was, replace(ruined, note="")) == "relearn: every setting wrecks the model"
    assert missing(as_it_was) == missing() == "relearn: not run"


def test_a_tier_says_whether_it_was_whole_what_is_beyond_the_reference_and_its_own_control(pair: Path) -> None:
    case = case_of(pair)
    read(case, "base", "unlearned")
    plain = case.plain["unlearned"]
    made = [
        Made("relearn", "unlearned", Outcome("others", plain, 1)),
        Made("ablate", "unlearned", Outcome("mean", plain)),
    ]

    def tier(found: list[Made], *names: str) -> TierEvidence:
        (one,) = Evidence(case, found, None).tiers(names or ("relearn", "ablate"))
        return one

    whole = tier(made)
    assert whole.whole
    assert (whole.z_base > 3, whole.p_base < 0.01, whole.informative, whole.beyond) == (True, True, True, -1)
    assert not tier(made[:1]).whole
    assert not tier(made, "relearn").whole
    assert not tier([*made, Made("relearn", "unlearned", Outcome("half", None, note="too few facts"))]).whole
    for weaker in ({"steps": 19}, {"samples": 15}, {"arms": ("others",)}):
        case.options = Options(**weaker)
        assert not tier(made).whole
    case.options = Options()
    said = [
        Made("relearn", side, Outcome("others", replace(plain, said={place: "it"}), 1))  # type: ignore[arg-type]
        for side, place in (("unlearned", 0), ("reference", 1))
    ]
    assert [(one.returned, one.returned_reference, one.beyond) for one in (tier(said), tier([said[0], said[0]]))] == [
        (1, 1, 1), (1, -1, -1),
    ]  # fmt: skip
    same = replace(said[1], outcome=said[0].outcome)
    assert tier([said[0], same]).beyond == 0
    # By chance: of one training the likeliest step, of samples the model as it is, of nothing nothing.
    assert (np.isnan(tier(said[:1]).chance), tier([said[0], same]).chance) == (True, 1.0)
    unsure = replace(plain, log_p=0 * plain.log_p - 9, table=np.full_like(plain.table, np.nan), said={})
    surer = Outcome("others", replace(unsure, log_p=0 * plain.log_p - 8), 2)
    theirs = [Made("relearn", "reference", Outcome("others", unsure, 1)), Made("relearn", "reference", surer)]
    facts = tier(said).asked
    for size, level in ((1, -9.0), (2, -8.0)):
        assert tier([said[0], *theirs[:size]]).chance == pytest.approx(facts * np.exp(level), rel=0.01)
    two = [said[0], Made("ablate", "unlearned", Outcome("mean", plain)), *theirs]
    assert tier(two).chance == pytest.approx(2 * facts * np.exp(-8.0), rel=0.01)
    # What the reference itself says is neither counted nor guessed.
    knows = replace(theirs[0], outcome=replace(theirs[0].outcome, reading=replace(unsure, said={1: "it"})))
    assert tier([said[0], knows]).chance == pytest.approx((facts - 1) * np.exp(-9.0), rel=0.01)
    assert Evidence(case, [said[0], *theirs], None).proves(2)
    assert not Evidence(case, [said[0], same], None).proves(2)
    assert not Evidence(case, [said[0], *theirs], None).proves(1)
    likely = replace(theirs[0], outcome=replace(surer, reading=replace(unsure, log_p=0 * plain.log_p - 5)))
    assert not Evidence(case, [said[0], likely], None).proves(2)
    counted = Made("samples", "unlearned", Outcome("16 samples", replace(plain, said={0: "it"}), 16))
    case.plain["reference"] = unsure
    drawn = replace(
        counted, side="reference", outcome=Outcome("16 samples", replace(unsure, table=0 * plain.table), 16)
    )
    assert tier([counted, drawn], "samples").chance == pytest.approx(facts * np.exp(-9.0), rel=0.01)
    del case.plain["reference"]
    # The suppressed twin is the control of the attacks that were made on it, and of no others.
    case.plain["twin"], case.lost = plain, {0, 1}
    twin = replace(said[0], side="twin")
    assert (tier(made).control, tier(made).control_asked) == ("", -1)
    assert (tier([*made, twin]).control_returned, tier([*made, twin]).control_asked) == (1, 2)
    # A reference in ruins is nothing to be above of.
    ruined = Made("relearn", "reference", Outcome("others", replace(plain, unrelated=0.1), 1))
    rows = {one.side: one for one in Evidence(case, [made[0], ruined], None).rows()}
    assert np.isnan(rows["unlearned"].above.value)


def attacked(capfd: pytest.CaptureFixture[str], unlearned: str, *more: object) -> tuple[int, dict[str, Any], str]:
    arguments = ("attack", "base", unlearned, *ASKED, *QUICK, *more, "--format", "json")
    status = run([str(argument) for argument in arguments])
    captured = capfd.readouterr()
    return status, json.loads(captured.out)["attack"], captured.err


@pytest.fixture
def place(pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(pair, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_was_suppressed_comes_back(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    status, found, err = attacked(capfd, "suppressed", "--reference", "never", "--reference-kind", "retrained")
    (tier,) = found["tiers"]
    assert (status, err.count("inconclusive")) == (0, 0)
    assert tier["returned"] > 4 > tier["returned_reference"] == 0
    assert found["twin"] == "not needed: answers came back from the unlearned model"
    rows = found["rows"]
    assert {row["side"] for row in rows} == {"base", "unlearned", "reference"}
    mine = [row for row in rows if row["side"] == "unlearned"]
    assert {row["setting"].split(",")[0] for row in mine} <= {"others", "half", "scrambled"}
    assert [row["applied"] for row in mine if row["step"] == 0] == [0.0] * sum(row["step"] == 0 for row in mine)
    assert all(row["applied"] > 0.5 for row in mine if row["step"] > 0)
    # The controls repeat what was made of the unlearned model, step by step.
    assert {(r["setting"], r["step"]) for r in rows if r["side"] == "reference"} >= {
        (r["setting"], r["step"]) for r in mine
    }
    assert max(row["recovery"]["value"] for row in mine) > 0.5
    assert run(["verify", "ckdiff.h5"]) == 0


def test_what_was_never_known_does_not_and_the_twin_does(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    status, found, _ = attacked(capfd, "never", "--arms", "others", "--train-steps", 8)
    (tier,) = found["tiers"]
    assert (status, tier["returned"]) == (0, 0)
    assert "steps of grad_ascent" in found["twin"]
    assert tier["able"]
    assert tier["control_asked"] >= 4
    assert tier["control_returned"] * 2 >= tier["control_asked"]
    assert f"lost {tier['control_asked']}, of which {tier['control_returned']} came back" in tier["control"]
    assert {row["side"] for row in found["rows"]} == {"base", "unlearned", "twin"}
    assert run(["show", "ckdiff.h5"]) == 0
    assert "steps of grad_ascent" in " ".join(capfd.readouterr().out.split())
    assert run(["html", "ckdiff.h5", "-o", "page.html"]) == 0
    page = " ".join((place / "page.html").read_text().split())
    assert "suppressed on the spot" in page
    assert f"control {tier['control_returned']} of {tier['control_asked']}" in page


@pytest.mark.parametrize(("same", "words"), [("base", "base"), ("suppressed", "unlearned model")])
@pytest.mark.parametrize("command", ["attack", "audit"])
def test_a_reference_that_is_one_of_the_pair_is_refused_before_the_work(
    place: Path, capfd: pytest.CaptureFixture[str], command: str, same: str, words: str
) -> None:
    shutil.copytree(same, "copy")
    asked = ("--questions", "target.jsonl", "--reference", "copy", "--device", "cpu")
    assert run([command, "base", "suppressed", *asked, "-o", "new.h5", "--quiet"]) == 2
    printed = capfd.readouterr()
    assert (printed.out, len(printed.err.splitlines())) == ("", 1)
    assert f"copy is the {words} itself; name a model that never knew" in printed.err
    assert not (place / "new.h5").exists()


def test_attacks_go_on_without_a_reference_of_another_tokenizer(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tree = json.loads((place / "never/tokenizer.json").read_text())
    vocabulary = tree["model"]["vocab"]
    one, two = list(vocabulary)[-2:]
    vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
    (place / "never/tokenizer.json").write_text(json.dumps(tree))
    beside = ("--reference", "never", "--reference-kind", "retrained", "--attack", "prune")
    status, found, err = attacked(capfd, "suppressed", *beside)
    assert (status, found["reference"], found["reference_digest"]) == (0, "", "")
    assert {row["side"] for row in found["rows"]} == {"base", "unlearned"}
    (note,) = (note for note in found["notes"] if note.startswith("--reference: token id"))
    assert "in the reference; with two vocabularies" in note
    assert note in err.replace("\n", " ")


def test_a_control_that_nothing_undoes_is_no_power(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """At a rate that moves nothing the twin's answers stay away: nothing was shown, and the exit status says so."""
    status, found, err = attacked(capfd, "never", "--arms", "others", "--train-steps", 1, "--rates", "1e-12")
    (tier,) = found["tiers"]
    assert (tier["control_returned"], tier["able"], status) == (0, False, 3)
    assert "could not have shown anything" in err


def test_streamed_models_are_not_trained(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    status, found, err = attacked(capfd, "suppressed", "--stream", "on")
    assert (status, "nothing was measured that decides" in err) == (3, True)
    assert "training needs the whole model in memory" in found["tiers"][0]["missing"]
    assert found["twin"].startswith("not made: training needs the whole model in memory")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--rates", "fast"), "write 3e-5,1e-4"),
        (("--rates", "0"), "not above 0"),
        (("--arms", "thirds"), "others, half, scrambled"),
        (("--training", "partly"), "full, lora"),
        (("--folds", "1"), "too small"),
    ],
)
def test_bad_options_are_one_line(
    place: Path, capfd: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    assert run(["attack", "base", "suppressed", *ASKED, *arguments]) == 2
    err = capfd.readouterr().err
    assert words in err
    assert len(err.strip().splitlines()) == 1


def spec_of(root: Path, **changes: object) -> AttackSpec:
    given: dict[str, object] = {
        "attacks": ("samples", "choice", "relearn"),
        "samples": 2,
        "arms": ("others",),
        "rates": (1e-3,),
        "train_steps": 2,
        "questions": root / "target.jsonl",
    }
    return AttackSpec(
        base=str(root / "base"),
        unlearned=str(root / "never"),
        unrelated=root / "unrelated.jsonl",
        settings=Settings(tokens=5, device="cpu"),
        hash=False,
        **given | changes,  # type: ignore[arg-type]
    )


def stopping(after: int) -> Listener:
    """A listener who asks to stop when it has been asked so often."""
    asked = itertools.count(1)
    return Listener(stop=lambda: next(asked) > after)


def section(report: Report) -> str:
    return json.dumps(json.loads(to_json(report))["attack"], sort_keys=True)


def test_an_attack_goes_on_where_it_was(pair: Path, tmp_path: Path) -> None:
    spec, place = spec_of(pair), tmp_path / "kept"
    asked = itertools.count()
    whole = section(call_attack(spec, Listener(stop=lambda: next(asked) < 0)))
    often, done = next(asked), []
    # Before anything is done, in the middle, and later: in what the control is of.
    for after in (2, often // 2, often // 3):
        with pytest.raises(Stopped):
            call_attack(spec, stopping(after), keep=place, resume=True)
        done.append([tuple(row[:2]) for row in json.loads(place.read_text())["made"]] if place.exists() else [])
    assert 0 == len(done[0]) < len(done[1]) <= len(done[2]) < 7
    assert done[2][: len(done[1])] == done[1]
    assert ("relearn", "unlearned") in done[2]
    asked = itertools.count(1)
    listener = Listener(stop=lambda: next(asked) < 0)
    assert section(call_attack(spec, listener, keep=place, resume=True)) == whole
    # What is all there asks nothing more.
    late = next(asked)
    assert section(call_attack(spec, listener, keep=place, resume=True)) == whole
    assert next(asked) == late + 1
    with pytest.raises(PartialError, match="an interrupted attack on other models, with other questions or settings"):
        call_attack(spec_of(pair, samples=3), keep=place, resume=True)
    facts = [{**json.loads(line), "kind": "a"} for line in (pair / "target.jsonl").read_text().splitlines()]
    (tmp_path / "target.jsonl").write_text("\n".join(map(json.dumps, facts)))
    with pytest.raises(PartialError, match="with other questions"):
        call_attack(spec_of(pair, questions=tmp_path / "target.jsonl"), keep=place, resume=True)
    place.write_text(place.read_text()[:-9])
    with pytest.raises(PartialError, match="damaged"):
        call_attack(spec, keep=place, resume=True)


def test_a_script_sees_what_was_left(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    left = tmp_path / ".ckdiff.h5.attack.partial"
    left.write_text("{}")
    arguments = ["attack", str(pair / "base"), str(pair / "never"), "--questions", str(pair / "target.jsonl")]
    arguments += ["--attack", "prune", "--tokens", "5", "--device", "cpu", "--no-hash", "--most-unrelated", "2"]
    assert run([*arguments, "--resume"]) == 2
    err = capfd.readouterr().err.strip()
    assert (len(err.splitlines()), "leave out --resume to start anew" in err) == (1, True)
    assert run(arguments) in (0, 3)
    assert "an interrupted attack is there and will be discarded" in capfd.readouterr().err
    assert not left.exists()
