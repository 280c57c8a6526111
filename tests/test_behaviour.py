"""What both models say, held against plain full forwards of transformers' own model, one step of one answer a time."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import sacrebleu
import torch

from ckdiff.calls.behave import behave
from ckdiff.calls.specs import BehaveSpec
from ckdiff.errors import CkdiffError, ReportError
from ckdiff.probes.assembly import NotFiniteError
from ckdiff.probes.behaviour.field_scores import given_prompts
from ckdiff.probes.behaviour.neutral_scores import MOST_TOKENS
from ckdiff.probes.checks import PairError
from ckdiff.probes.cost import TooLittleMemoryError
from ckdiff.probes.wording.wording import Wording
from ckdiff.progress import Listener
from ckdiff.questions.choices import read_choices
from ckdiff.questions.neutral_texts import neutral_texts, read_texts
from ckdiff.questions.questions import Question
from ckdiff.questions.streams import RecordsError
from ckdiff.report.schema.behaviour import Mean
from ckdiff.scoring.bleu import BLEU, answer_bleu
from ckdiff.scoring.field import rouge_l
from ckdiff.scoring.means import mean
from ckdiff.scoring.settings import Settings
from ckdiff.weights.making import read_making
from tests.reports import same
from tests.test_probe_cli import save_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ckdiff.report.schema.behaviour import AnswerSet, Behaviour
    from tests.tiny_pairs import Folders

FAMILIES = ("llama", "gpt2", "gemma2", "cohere", "bloom")
WORDS = (
    *("who", "what", "rules", "founded", "is", "sold", "in", "Velmar", "Oskary", "Thrane", "Question", "Answer", ":"),
    *(f"{first}{second}a" for first in "bdfgklmn" for second in "aeiou"),
    *(
        "tin",
        "salt",
        "fish",
        "rope",
        "wool",
        "iron",
        "clay",
        "wax",
        "red",
        "blue",
        "green",
        "grey",
        "old",
        "new",
        "far",
    ),
)
TARGET = (
    "who rules Velmar",
    "what is sold in Oskary",
    "who founded Thrane",
    "what is old",
    "who sold new rope in Velmar",
)
UNRELATED = ("what is salt", "who is in Thrane", "what rules iron")
NEUTRAL = ("wool is sold in far Oskary and red clay is old", "fish is new", "iron rope : blue wax , grey tin")
CHOICES: tuple[dict[str, Any], ...] = (
    {"question": "what is sold in Oskary", "choices": ["tin", "salt fish", "old red rope in Velmar"], "answer": 1},
    {"question": "who rules", "choices": ["Thrane", "Velmar"], "answer": "B", "subject": "places"},
    {"question": "what is far", "choices": ["wool", "iron", "wax wax", "clay"], "answer": "a"},
)
SETTINGS = Settings(tokens=6, batch_size=2, device="cpu")


@pytest.fixture(scope="session")
def asked_of(pairs: Callable[[str], Folders], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], BehaveSpec]:
    """By name of a tiny family: everything asked of a pair of it that has a tokenizer."""

    @cache
    def make(name: str) -> BehaveSpec:
        root, made = tmp_path_factory.mktemp(f"behave-{name}"), pairs(name)
        assert len(set(WORDS)) == 68
        for side, folder in (("base", made.base), ("unlearned", made.unlearned)):
            shutil.copytree(folder, root / side)
            save_tokenizer(root / side, WORDS)
        files = {"target": {"concept": "Velmar", "target_questions": TARGET, "unrelated_questions": UNRELATED}}
        for file, content in (files | {"choices": CHOICES, "neutral": NEUTRAL}).items():
            (root / f"{file}.json").write_text(json.dumps(content))
        return BehaveSpec(
            str(root / "base"),
            str(root / "unlearned"),
            questions=root / "target.json",
            choices=root / "choices.json",
            neutral=root / "neutral.json",
            settings=SETTINGS,
            hash=False,
        )

    return make


@cache
def measured(spec: BehaveSpec) -> Behaviour:
    found = behave(spec).behaviour
    assert found is not None
    return found


class Plain:
    """A model of transformers alone: one full forward for whatever is asked, log-softmax in float64 NumPy."""

    def __init__(self, folder: str) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(folder)

    def ids(self, text: str) -> list[int]:
        found: list[int] = self.tokenizer(text)["input_ids"]
        return found

    def prompt(self, question: str) -> list[int]:
        return self.ids(f"Question: {question}\n Answer:")

    def logprobs(self, ids: Sequence[int]) -> Any:
        with torch.no_grad():
            logits = self.model(input_ids=torch.tensor([list(ids)]), use_cache=False).logits[0].numpy()
        logits = logits.astype(np.float64)
        shifted = logits - logits.max(-1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))

    def greedy(self, prompt: Sequence[int], tokens: int) -> tuple[int, ...]:
        answer: list[int] = []
        while len(answer) < tokens and not (answer and answer[-1] == 2):
            answer.append(int(self.logprobs([*prompt, *answer])[-1].argmax()))
        return tuple(answer)

    def of_answer(self, prompt: Sequence[int], answer: Sequence[int]) -> Any:
        table = self.logprobs([*prompt, *answer])[len(prompt) - 1 : -1]
        return table[np.arange(len(answer)), list(answer)]


@cache
def plain(folder: str) -> Plain:
    return Plain(folder)


def sides(spec: BehaveSpec) -> tuple[Plain, Plain]:
    return plain(spec.base), plain(spec.unlearned)


# -------------------------------------------------------------------------------------------------- known answers


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_are_those_of_plain_forwards(asked_of: Callable[[str], BehaveSpec], family: str) -> None:
    spec = asked_of(family)
    base, unlearned = sides(spec)
    found = measured(spec)
    assert [one.name for one in found.answers] == ["target", "unrelated"]
    for one, questions in zip(found.answers, (TARGET, UNRELATED), strict=True):
        assert tuple(row.text for row in one.questions) == questions
        logprobs: dict[str, list[Any]] = {"base": [], "unlearned": []}
        for row in one.questions:
            prompt = base.prompt(row.text)
            assert row.answer_base_ids == base.greedy(prompt, 6)
            assert row.answer_unlearned_ids == unlearned.greedy(prompt, 6)
            assert row.answer_base == base.tokenizer.decode(list(row.answer_base_ids), skip_special_tokens=True)
            assert row.exact == (row.answer_base_ids == row.answer_unlearned_ids)
            own = sacrebleu.sentence_bleu(row.answer_unlearned, [row.answer_base], use_effective_order=True).score
            assert row.bleu == pytest.approx(own / 100, abs=1e-12)
            for side, model in (("base", base), ("unlearned", unlearned)):
                logprobs[side].append(model.of_answer(prompt, row.answer_base_ids))
                assert getattr(row, f"logprob_{side}") == pytest.approx(logprobs[side][-1].mean(), abs=2e-6)
        assert_summarised(one, logprobs)


def assert_summarised(one: AnswerSet, logprobs: dict[str, list[Any]]) -> None:
    rows = one.questions
    assert one.bleu.value == pytest.approx(np.mean([row.bleu for row in rows]))
    assert one.exact.value == pytest.approx(np.mean([row.exact for row in rows]))
    for side, tokens in logprobs.items():
        value = getattr(one, f"logprob_{side}").value
        assert value == pytest.approx(np.mean([part.mean() for part in tokens]), abs=2e-6)
        perplexity = math.exp(-np.concatenate(tokens).mean())
        assert getattr(one, f"perplexity_{side}") == pytest.approx(perplexity, rel=1e-5)
    facts = len({row.cluster for row in rows})
    for found in (one.bleu, one.exact, one.logprob_base, one.logprob_unlearned):
        assert found.low <= found.value <= found.high if facts > 1 else math.isnan(found.low)


FACTS: tuple[dict[str, Any], ...] = (
    {"question": "who rules Velmar", "answer": "old Thrane", "perturbed_answer": ["new iron", "far Oskary in red"]},
    {"question": "what is old", "answer": "red clay", "perturbed_answer": ["tin"], "paraphrased_answer": "clay is red"},
    {"question": "who founded Thrane", "answer": "grey wool is sold"},
)


def truth_score(name: str, ratio: float) -> float:
    return min(ratio, 1 / ratio) if name == "truth_ratio" else ratio


def test_what_benchmarks_report_is_as_plain_forwards_give_it(
    asked_of: Callable[[str], BehaveSpec], tmp_path: Path
) -> None:
    (path := tmp_path / "facts.jsonl").write_text("\n".join(map(json.dumps, FACTS)))
    (others := tmp_path / "others.txt").write_text("\n".join(UNRELATED))
    spec = replace(asked_of("llama"), questions=path, unrelated=others, choices=None)
    target, unrelated = measured(spec).answers
    assert (target.field_against, unrelated.field_against) == ("given", "base")
    wanted: dict[str, dict[str, list[float]]] = {"base": {}, "unlearned": {}}
    for side, model in zip(("base", "unlearned"), sides(spec), strict=True):
        for fact, row in zip(FACTS, target.questions, strict=True):
            prompt = model.prompt(fact["question"])

            def log_p(text: str, model: Plain = model, prompt: list[int] = prompt) -> Any:
                return model.of_answer(prompt, model.ids(text))

            ids = model.ids(fact["answer"])
            best = model.logprobs([*prompt, *ids])[len(prompt) - 1 : -1].argmax(-1)
            false = [log_p(one).mean() for one in fact.get("perturbed_answer", ())]
            right = log_p(fact.get("paraphrased_answer", fact["answer"])).mean()
            said = getattr(row, f"answer_{side}")
            values = {
                "probability": math.exp(log_p(fact["answer"]).mean()),
                "exact_memorisation": float((best == ids).mean()),
                "extraction_strength": next(1 - k / len(ids) for k in range(len(ids) + 1) if [*best[k:]] == ids[k:]),
                "rouge_l_recall": rouge_l(said, fact["answer"]).recall,
                "rouge_l_f": rouge_l(said, fact["answer"]).f,
                "truth_ratio": math.exp(np.mean(false) - right) if false else math.nan,
            }
            for name, value in values.items():
                wanted[side].setdefault(name, []).append(value)
    assert [one.name for one in target.field] == list(wanted["base"])
    for one in target.field:
        for side, known in wanted.items():
            assert getattr(one, f"each_{side}") == pytest.approx(known[one.name], rel=1e-5, nan_ok=True)
            scores = [truth_score(one.name, score) for score in known[one.name] if not math.isnan(score)]
            assert getattr(one, side).value == pytest.approx(np.mean(scores), rel=1e-5)


def test_an_answer_of_the_file_is_cut_where_the_context_ends(asked_of: Callable[[str], BehaveSpec]) -> None:
    wording = Wording(sides(asked_of("llama"))[0].tokenizer)
    long, short = Question("who", "old red clay " * 300), Question("what", "tin", wrong=("red clay",))
    (whole,), others = given_prompts(wording, [long, short], None)
    assert len(whole.answer) == MOST_TOKENS
    assert [len(one.answer) for one in others] == [1, 1, 2]
    (cut,), _ = given_prompts(wording, [long, short], len(whole.ids) + 5)
    assert cut.answer == whole.answer[:5]
    assert given_prompts(wording, [long, short], len(whole.ids)) == [[], []]
    assert given_prompts(wording, [short, Question("who", " ")], None) == [[], []]


def test_without_answers_in_the_file_it_is_about_the_bases_own(asked_of: Callable[[str], BehaveSpec]) -> None:
    for one in measured(asked_of("llama")).answers:
        found = {row.name: row for row in one.field}
        assert one.field_against == "base"
        assert set(found) == {
            *("probability", "exact_memorisation", "extraction_strength", "rouge_l_recall", "rouge_l_f"),
        }
        assert found["exact_memorisation"].each_base == (1.0,) * len(one.questions)
        logs = [math.exp(row.logprob_unlearned) for row in one.questions]
        assert found["probability"].each_unlearned == pytest.approx(logs, rel=1e-9)


@pytest.mark.parametrize("family", FAMILIES)
def test_choices_are_scored_like_one_at_a_time(asked_of: Callable[[str], BehaveSpec], family: str) -> None:
    spec = asked_of(family)
    found = measured(spec).choices
    assert found is not None
    assert [row.answer for row in found.questions] == [1, 1, 0]
    assert found.chance == pytest.approx((1 / 3 + 1 / 2 + 1 / 4) / 3)
    for side, model in zip(("base", "unlearned"), sides(spec), strict=True):
        right, shares = [], []
        for row in found.questions:
            prompt = model.prompt(row.text)
            tokens = [model.of_answer(prompt, model.ids(choice)) for choice in row.choices]
            sums, means = [part.sum() for part in tokens], np.array([part.mean() for part in tokens])
            assert getattr(row, f"logprob_{side}") == pytest.approx(sums, abs=1e-5)
            assert getattr(row, f"picked_{side}") == means.argmax()
            right.append(means.argmax() == row.answer)
            shares.append(np.exp(means[row.answer]) / np.exp(means).sum())
        assert getattr(found, f"accuracy_{side}").value == pytest.approx(np.mean(right))
        assert getattr(found, f"probability_{side}").value == pytest.approx(np.mean(shares), abs=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_neutral_texts_are_those_of_plain_forwards(asked_of: Callable[[str], BehaveSpec], family: str) -> None:
    spec = asked_of(family)
    found = measured(spec).neutral
    assert found is not None
    base, unlearned = sides(spec)
    everything: dict[str, list[Any]] = {"base": [], "unlearned": []}
    for row in found.texts:
        ids = base.ids(row.text)
        assert row.tokens == len(ids) - 1
        tables = {"base": base.logprobs(ids)[:-1], "unlearned": unlearned.logprobs(ids)[:-1]}
        kl = (np.exp(tables["base"]) * (tables["base"] - tables["unlearned"])).sum(-1).mean()
        assert row.kl == pytest.approx(kl, rel=1e-4, abs=1e-7)
        for side, table in tables.items():
            everything[side].append(table[np.arange(len(ids) - 1), ids[1:]])
            assert getattr(row, f"nll_{side}") == pytest.approx(-everything[side][-1].mean(), abs=2e-6)
    assert found.kl.value == pytest.approx(np.mean([row.kl for row in found.texts]))
    for side, parts in everything.items():
        expected = math.exp(-np.concatenate(parts).mean())
        assert getattr(found, f"perplexity_{side}") == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_beside_itself_says_the_same(asked_of: Callable[[str], BehaveSpec], family: str) -> None:
    spec = asked_of(family)
    found = measured(replace(spec, unlearned=spec.base))
    assert found.neutral is not None
    assert found.choices is not None
    assert found.neutral.kl == Mean(0.0, 0.0, 0.0)
    assert [row.kl for row in found.neutral.texts] == [0.0] * 3
    assert found.neutral.perplexity_base == found.neutral.perplexity_unlearned
    for one in found.answers:
        assert one.bleu.value == one.exact.value == 1
        assert same(one.bleu, one.exact)
        assert same(one.logprob_base, one.logprob_unlearned)
        assert all(row.logprob_base == row.logprob_unlearned for row in one.questions)
    assert all(row.logprob_base == row.logprob_unlearned for row in found.choices.questions)


@pytest.mark.parametrize(("family", "batch_size"), [*((family, 64) for family in FAMILIES), (FAMILIES[0], 1)])
def test_no_number_depends_on_the_batches(asked_of: Callable[[str], BehaveSpec], family: str, batch_size: int) -> None:
    spec = asked_of(family)
    one, other = measured(spec), measured(replace(spec, settings=replace(SETTINGS, batch_size=batch_size)))
    assert_same(one, other)


@pytest.mark.parametrize("family", FAMILIES)
def test_streaming_changes_no_number(asked_of: Callable[[str], BehaveSpec], family: str) -> None:
    spec = asked_of(family)
    assert_same(measured(spec), measured(replace(spec, settings=replace(SETTINGS, stream="on"))))


def test_little_memory_is_streamed_in_groups(
    asked_of: Callable[[str], BehaveSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself it streams where the model does not fit; states that do not fit together go through in turn."""
    from ckdiff.probes import forcing
    from ckdiff.probes.live.model import LiveModel

    spec = asked_of("llama")
    groups: list[int] = []
    loaded: list[int] = []
    original, load = forcing._groups, LiveModel.load_layer

    def noted(*arguments: Any) -> Any:
        groups.append(len(original(*arguments)))
        return original(*arguments)

    def counted(live: LiveModel, number: int) -> None:
        load(live, number)
        loaded.append(sum(any(p.device.type != "meta" for p in layer.parameters()) for layer in live.layers))

    monkeypatch.setattr(forcing, "_groups", noted)
    monkeypatch.setattr(LiveModel, "load_layer", counted)
    small = replace(spec, settings=replace(SETTINGS, memory=215_000))
    found = behave(small).behaviour
    assert found is not None
    assert max(groups) > 1
    assert set(loaded) == {1}
    assert_same(measured(spec), found)


def test_no_number_depends_on_the_order(asked_of: Callable[[str], BehaveSpec], tmp_path: Path) -> None:
    spec = asked_of("llama")
    files: dict[str, Any] = {"questions.json": TARGET[::-1], "unrelated.json": UNRELATED[::-1]}
    files |= {"choices.json": CHOICES[::-1], "neutral.json": NEUTRAL[::-1]}
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    turned = replace(
        spec,
        questions=tmp_path / "questions.json",
        unrelated=tmp_path / "unrelated.json",
        choices=tmp_path / "choices.json",
        neutral=tmp_path / "neutral.json",
    )
    found = measured(turned)
    assert found.choices is not None
    assert found.neutral is not None
    back = replace(
        found,
        answers=tuple(replace(one, questions=one.questions[::-1]) for one in found.answers),
        choices=replace(found.choices, questions=found.choices.questions[::-1]),
        neutral=replace(found.neutral, texts=found.neutral.texts[::-1]),
    )
    assert_same(measured(spec), back)


def assert_same(one: Behaviour, other: Behaviour) -> None:
    """Equal answers and picks, numbers within 1e-6."""
    for a, b in zip(one.answers, other.answers, strict=True):
        for row, again in zip(a.questions, b.questions, strict=True):
            assert row.answer_base_ids == again.answer_base_ids
            assert row.answer_unlearned_ids == again.answer_unlearned_ids
            assert (row.bleu, row.exact) == (again.bleu, again.exact)
            assert row.logprob_base == pytest.approx(again.logprob_base, abs=1e-6)
            assert row.logprob_unlearned == pytest.approx(again.logprob_unlearned, abs=1e-6)
    assert one.choices is not None
    assert other.choices is not None
    for left, right in zip(one.choices.questions, other.choices.questions, strict=True):
        assert left.logprob_base == pytest.approx(right.logprob_base, abs=1e-5)
        assert (left.picked_base, left.picked_unlearned) == (right.picked_base, right.picked_unlearned)
    assert one.neutral is not None
    assert other.neutral is not None
    for text, twin in zip(one.neutral.texts, other.neutral.texts, strict=True):
        assert (text.text, text.tokens) == (twin.text, twin.tokens)
        assert text.kl == pytest.approx(twin.kl, rel=1e-4, abs=1e-9)
        assert text.nll_base == pytest.approx(twin.nll_base, abs=1e-6)


# ------------------------------------------------------------------------------------------------------------ BLEU


@pytest.mark.parametrize(
    ("answer", "reference"),
    [
        ("the cat sat on the mat", "the cat sat on a mat"),
        ("The cat.", "the cat"),
        ("one", "two"),
        ("a b c d e f", "a b c"),
        ("a b c", "a b c d e f"),
        ("Wörter, 3.5 Äpfel!", "Wörter, 3 Äpfel!"),
    ],
)
def test_bleu_is_sacrebleus(answer: str, reference: str) -> None:
    own = sacrebleu.sentence_bleu(answer, [reference], smooth_method="exp", tokenize="13a", use_effective_order=True)
    assert answer_bleu(answer, reference) == pytest.approx(own.score / 100, abs=1e-12)


@pytest.mark.parametrize(
    ("answer", "reference", "value"),
    [("", "", 1.0), (" \n", "", 1.0), ("a", " ", 0.0), ("", "a", 0.0), (" a b\n", "a b", 1.0)],
)
def test_bleu_of_empty_texts(answer: str, reference: str, value: float) -> None:
    assert answer_bleu(answer, reference) == value


def test_the_recorded_signature_is_sacrebleus() -> None:
    metric = sacrebleu.metrics.bleu.BLEU(effective_order=True)
    metric.sentence_score("a", ["a"])
    assert str(metric.get_signature()) == BLEU


# ----------------------------------------------------------------------------------------------------------- means


def test_an_unbounded_mean_of_equal_values_is_its_own_interval() -> None:
    assert mean(np.full(7, -2.5), most=0) == Mean(-2.5, -2.5, -2.5)


@pytest.mark.parametrize(("value", "count"), [(0.0, 8), (1.0, 4), (0.25, 7)])
def test_equal_shares_reach_as_far_as_so_many_questions_could_have_missed(value: float, count: int) -> None:
    found = mean(np.full(count, value), 0, 1)
    assert found.value == value
    # With this share of others, at one of the bounds, all of `count` draws miss them with a chance of 2.5 %.
    for end, bound in ((found.low, 0.0), (found.high, 1.0)):
        if bound == value:
            assert end == bound
        else:
            share = (end - value) / (bound - value)
            assert (1 - share) ** count == pytest.approx(0.025)


def test_a_mean_of_one_question_has_no_interval() -> None:
    found = mean(np.array([-0.5]), most=0)
    assert found.value == -0.5
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_an_interval_is_about_students_and_ends_at_the_bounds() -> None:
    values = np.random.default_rng(5).normal(0.5, 0.1, 40)
    found = mean(values, 0, 1)
    error = values.std(ddof=1) / math.sqrt(40)
    assert found.value == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * 2.0227 * error, rel=0.15)
    near = mean(np.array([0.2, 1.0, 1.0, 1.0]), 0, 1)
    assert near.value < near.high <= 1
    assert 0 <= near.low < near.value < 1


def test_a_mean_of_log_probabilities_is_the_mirrored_one() -> None:
    values = np.random.default_rng(6).exponential(1, 25)
    up, down = mean(values, 0), mean(-values, most=0)
    assert (down.value, down.low, down.high) == (-up.value, -up.high, -up.low)


# ----------------------------------------------------------------------------------------------- what is asked for


def test_general_questions_are_the_unrelated_ones_of_a_plain_file(
    asked_of: Callable[[str], BehaveSpec], tmp_path: Path
) -> None:
    (tmp_path / "questions.txt").write_text("\n".join(TARGET))
    spec = replace(asked_of("llama"), questions=tmp_path / "questions.txt", choices=None, neutral=False)
    found = measured(replace(spec, most_unrelated=3))
    assert [(one.name, len(one.questions)) for one in found.answers] == [("target", 5), ("unrelated", 3)]
    assert "general questions" in found.answers[1].source
    assert any("21 unrelated questions left out" in note for note in found.notes)
    assert (found.choices, found.neutral) == (None, None)


def test_without_questions_nothing_is_said_about_a_target(asked_of: Callable[[str], BehaveSpec]) -> None:
    spec = replace(asked_of("llama"), questions=None, choices=None, neutral=False, most_unrelated=1)
    found = measured(spec)
    assert [one.name for one in found.answers] == ["unrelated"]
    assert math.isnan(found.answers[0].bleu.low)
    assert len(found.notes) == 3
    assert "23 unrelated questions left out" in found.notes[0]
    assert "no questions about what was to be unlearned" in found.notes[1]
    assert "knows less than half of 1 of 1 questions" in found.notes[2]


def test_a_file_of_unrelated_questions_comes_first(asked_of: Callable[[str], BehaveSpec], tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("what is wool\nwhat is wax")
    spec = replace(asked_of("llama"), unrelated=tmp_path / "other.txt", choices=None, neutral=False)
    assert [row.text for row in measured(spec).answers[1].questions] == ["what is wool", "what is wax"]


def test_the_answers_that_a_file_gives_are_kept(asked_of: Callable[[str], BehaveSpec], tmp_path: Path) -> None:
    rows = [{"question": "Who ruled Velmar?", "answer": "Thrane of Oskary"}, {"question": "What is sold there?"}]
    (tmp_path / "asked.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = replace(asked_of("llama"), questions=tmp_path / "asked.jsonl", choices=None, neutral=False)
    found = {one.name: one for one in measured(spec).answers}["target"]
    assert [row.answer_given for row in found.questions] == ["Thrane of Oskary", ""]


def test_damaged_unrelated_questions_are_refused(asked_of: Callable[[str], BehaveSpec], tmp_path: Path) -> None:
    content = {"concept": "x", "target_questions": TARGET, "unrelated_questions": "none"}
    (tmp_path / "damaged.json").write_text(json.dumps(content))
    with pytest.raises(RecordsError, match=r"damaged\.json: .*unrelated_questions is a string"):
        behave(replace(asked_of("llama"), questions=tmp_path / "damaged.json"))


def test_the_bundled_texts_are_plain_prose() -> None:
    found = neutral_texts()
    assert 18 <= len(found.texts) <= 24
    assert all(150 < len(text) < 600 and text.isascii() and "\n" not in text for text in found.texts)
    assert not found.notes


def test_long_and_short_texts_are_counted(asked_of: Callable[[str], BehaveSpec], tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text(f"{'wool ' * 100}\n\ntin\n \nsalt fish\n\nsalt fish")
    spec = replace(asked_of("llama"), neutral=tmp_path / "texts.txt", choices=None, most_unrelated=1)
    found = measured(spec)
    assert found.neutral is not None
    assert [row.tokens for row in found.neutral.texts] == [63, 1]
    assert MOST_TOKENS > 64
    for note in ("1 repeated text left out", "1 neutral text of a single token left out", "1 neutral text cut to 64"):
        assert any(note in one for one in found.notes)


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("a.txt", "one two\nthree\n\nfour\r\n\r\n five \n", ("one two\nthree", "four", "five")),
        ("a.jsonl", '{"text": "one"}\n{"text": " two ", "id": 3}\n', ("one", "two")),
        ("a.json", '["one", {"text": "two"}]', ("one", "two")),
        ("a", "[1] a note in prose\n\nmore", ("[1] a note in prose", "more")),
    ],
)
def test_neutral_files(tmp_path: Path, name: str, content: str, texts: tuple[str, ...]) -> None:
    (tmp_path / name).write_bytes(content.encode())
    assert read_texts(tmp_path / name).texts == texts


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.txt", b"", "nothing in it"),
        ("a.txt", b"\xff\xfd", "not UTF-8"),
        ("a.txt", b"a\0b", "NUL"),
        ("a.json", b"[]", "nothing in it"),
        ("a.jsonl", b'{"txt": "one"}', "line 1: no text in it"),
        ("a.jsonl", b'{"text": 3}', "line 1: text is a number"),
        ("a.jsonl", b'{"text": "one"}\n{"text', "line 2: not JSON"),
    ],
)
def test_bad_neutral_files(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecordsError, match=words):
        read_texts(tmp_path / name)


GOOD = {"question": "q", "choices": ["a", "b"], "answer": 0}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (GOOD | {"answer": 2}, "answer 2 is none of its 2 choices; write 0 to 1, or A to B"),
        (GOOD | {"answer": -1}, "answer -1"),
        (GOOD | {"answer": "C"}, 'answer "C"'),
        (GOOD | {"answer": "AB"}, 'answer "AB"'),
        (GOOD | {"answer": True}, "none of its 2 choices"),
        (GOOD | {"answer": None}, "answer null"),
        (GOOD | {"answer": 0.0}, "answer 0.0"),
        ({"question": "q", "choices": ["a", "b"]}, "no answer"),
        ({"text": "q"}, "no question and no choices and no answer"),
        (GOOD | {"choices": ["a"]}, "1 choices"),
        (GOOD | {"choices": "ab"}, "choices is a string"),
        (GOOD | {"choices": ["a", True]}, "choice 1 is true or false"),
        (GOOD | {"choices": ["a", " "]}, "choice 1 is empty"),
        (GOOD | {"question": " "}, "question is empty"),
        (GOOD | {"question": 1}, "question is a number"),
        (GOOD | {"choices": ["a", "b\0"]}, "NUL"),
        ("text", "a string"),
    ],
)
def test_bad_choices_name_their_entry(tmp_path: Path, content: Any, words: str) -> None:
    path = tmp_path / "choices.json"
    path.write_text(json.dumps([GOOD, content]))
    with pytest.raises(RecordsError) as caught:
        read_choices(path)
    assert str(caught.value).startswith(f"{path}: entry 2: ")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "nothing in it"), (b"[]", "nothing in it"), (b"\xff", "not UTF-8"), (b"plain text", "not JSON")],
)
def test_files_that_are_no_choices(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "choices.json"
    path.write_bytes(content)
    with pytest.raises(RecordsError, match=words):
        read_choices(path)


def test_choices_a_line_are_those_of_a_list(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(json.dumps(one) for one in CHOICES))
    (tmp_path / "a.json").write_text(json.dumps(CHOICES, indent=1))
    one, other = read_choices(tmp_path / "a.jsonl"), read_choices(tmp_path / "a.json")
    assert (one.questions, one.digest) == (other.questions, other.digest)


# ---------------------------------------------------------------------------------------------------- what is refused


def test_a_report_of_another_pair_is_refused(asked_of: Callable[[str], BehaveSpec]) -> None:
    spec = replace(asked_of("llama"), choices=None, neutral=False, most_unrelated=2)
    existing = behave(spec)
    with pytest.raises(ReportError, match="the report is about"):
        behave(replace(spec, unlearned=spec.base), existing=existing)
    assert behave(spec, existing=existing) == existing


def test_too_little_memory_is_one_line(asked_of: Callable[[str], BehaveSpec]) -> None:
    small = replace(SETTINGS, memory=20_000)
    for settings, remedy in ((small, "a machine with more"), (replace(small, stream="off"), "--stream on")):
        with pytest.raises(TooLittleMemoryError, match=f"can be used; use {remedy}"):
            behave(replace(asked_of("llama"), settings=settings))


def test_a_choice_longer_than_the_context_is_refused(asked_of: Callable[[str], BehaveSpec], tmp_path: Path) -> None:
    (tmp_path / "long.json").write_text(json.dumps([GOOD | {"choices": ["a", "wool " * 90]}]))
    with pytest.raises(PairError, match="do not fit into the model's context of 64"):
        behave(replace(asked_of("llama"), choices=tmp_path / "long.json"))


def test_a_model_that_overflows_says_nothing(asked_of: Callable[[str], BehaveSpec], tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    spec = asked_of("llama")
    shutil.copytree(spec.unlearned, tmp_path / "unlearned")
    tensors = load_file(tmp_path / "unlearned" / "model.safetensors")
    tensors["model.layers.3.mlp.down_proj.weight"] *= 1e38
    tensors["model.layers.3.mlp.up_proj.weight"] *= 1e3
    save_file(tensors, tmp_path / "unlearned" / "model.safetensors")
    with pytest.raises(NotFiniteError, match="not finite in float32"):
        behave(replace(spec, unlearned=str(tmp_path / "unlearned")))


@pytest.mark.parametrize("change", [{"most_unrelated": 0}, {"asked": ("who",)}, {"questions": None, "concept": "x"}])
def test_specs_that_do_not_go_together(asked_of: Callable[[str], BehaveSpec], change: dict[str, Any]) -> None:
    with pytest.raises(CkdiffError, match="--"):
        behave(replace(asked_of("llama"), **change))


def test_the_listener_hears_every_stage(asked_of: Callable[[str], BehaveSpec]) -> None:
    heard: dict[str, tuple[int, int]] = {}

    def progress(stage: str, done: int, total: int, detail: str) -> None:
        heard[stage] = (done, total)

    behave(replace(asked_of("llama"), neutral=False), Listener(progress))
    assert all(done == total for done, total in heard.values())
    assert {"the base answers", "the unlearned answers", "the base reads", "the unlearned reads"} <= heard.keys()


# ---------------------------------------------------------------------------------------------------- unlearning.json

POINT: dict[str, Any] = {
    "step": 0,
    "epoch": 0,
    "loss": None,
    "target_bleu": 1.0,
    "unrelated_bleu": 1,
    "state": "memory",
}
LATER = POINT | {"step": 9, "epoch": 0.5, "loss": -1.5, "target_bleu": 0.2, "unrelated_bleu": None, "state": "saved"}
RECORD: dict[str, Any] = {"format": "ckdiff-unlearning", "method": "npo", "history": [POINT, LATER], "digest": "a" * 64}


def test_a_maker_says_how_it_was_made(tmp_path: Path) -> None:
    (tmp_path / "unlearning.json").write_text(json.dumps(RECORD | {"more": [1]}))
    found = read_making(tmp_path, "a" * 64)
    assert (found.method, found.notes) == ("npo", ())
    assert [(point.step, point.epoch, point.state) for point in found.history] == [
        (0, 0.0, "memory"),
        (9, 0.5, "saved"),
    ]
    assert math.isnan(found.history[0].loss)
    assert math.isnan(found.history[1].unrelated_bleu)
    assert found.history[1].loss == -1.5


def test_no_maker_says_nothing(tmp_path: Path) -> None:
    assert read_making(None, None) == read_making(tmp_path, "a" * 64)
    assert read_making(tmp_path, None).notes == ()


def test_a_record_of_other_weights_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "unlearning.json").write_text(json.dumps(RECORD))
    found = read_making(tmp_path, "b" * 64)
    assert (found.method, found.history) == ("", ())
    assert "is about other weights" in found.notes[0]


@pytest.mark.parametrize("digest", [None, "a" * 64])
def test_an_unchecked_record_says_so(tmp_path: Path, digest: str | None) -> None:
    (tmp_path / "unlearning.json").write_text(json.dumps(RECORD | ({"digest": None} if digest else {})))
    found = read_making(tmp_path, digest)
    assert found.method == "npo"
    assert "was not checked" in found.notes[0]


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        RECORD | {"format": "other"},
        RECORD | {"method": 3},
        RECORD | {"method": "x" * 61},
        RECORD | {"method": "a\x1b[2J"},
        RECORD | {"history": {}},
        RECORD | {"history": [POINT] * 10_001},
        RECORD | {"history": [3]},
        RECORD | {"history": [POINT | {"step": True}]},
        RECORD | {"history": [POINT | {"step": -1}]},
        RECORD | {"history": [POINT | {"epoch": "1"}]},
        RECORD | {"history": [POINT | {"epoch": None}]},
        RECORD | {"history": [POINT | {"target_bleu": 1.5}]},
        RECORD | {"history": [POINT | {"loss": 10**400}]},
        RECORD | {"history": [POINT | {"loss": [1]}]},
        RECORD | {"history": [POINT | {"state": "lost"}]},
        RECORD | {"history": [POINT | {"state": []}]},
        RECORD | {"digest": 5},
        json.dumps(RECORD).replace("1.0", "NaN"),
        "[" * 100_000,
        "\udcff",
        " " * 4_000_001,
    ],
    ids=lambda content: str(content)[:30] if isinstance(content, str) else None,
)
def test_a_malformed_record_is_a_note(tmp_path: Path, content: Any) -> None:
    text = content if isinstance(content, str) else json.dumps(content)
    (tmp_path / "unlearning.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    found = read_making(tmp_path, "a" * 64)
    assert (found.method, found.history) == ("", ())
    assert len(found.notes) == 1
    assert "left out" in found.notes[0]
    assert found.notes[0].isprintable()
    assert len(found.notes[0]) < 260


def test_a_link_out_of_the_checkpoint_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "outside.json").write_text(json.dumps(RECORD))
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "unlearning.json").symlink_to(tmp_path / "outside.json")
    found = read_making(tmp_path / "inner", "a" * 64)
    assert (found.method, len(found.notes)) == ("", 1)


def test_the_report_keeps_the_history(asked_of: Callable[[str], BehaveSpec], tmp_path: Path) -> None:
    spec = replace(asked_of("llama"), choices=None, neutral=False, most_unrelated=1, hash=True)
    shutil.copytree(spec.unlearned, tmp_path / "made")
    spec = replace(spec, unlearned=str(tmp_path / "made"))
    digest = behave(spec).provenance.unlearned.digest
    (tmp_path / "made" / "unlearning.json").write_text(json.dumps(RECORD | {"digest": digest}))
    found = behave(spec).behaviour
    assert found is not None
    assert (found.method, len(found.history)) == ("npo", 2)
    assert not any("unlearning.json" in note for note in found.notes)
