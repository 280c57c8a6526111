"""What both models are asked and what they say, on every kind of tokenizer, against transformers alone."""

from __future__ import annotations

import functools
import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
import torch

from ckdiff import BehaveSpec, ProbeSpec, behave, probe
from ckdiff.audit.verify.behaviour import check_behaviour
from ckdiff.audit.verify.differences import Differences
from ckdiff.audit.verify.probe import check_probe, texts_digest
from ckdiff.calls.ask import read_asked
from ckdiff.cli.app import run
from ckdiff.errors import CkdiffError
from ckdiff.progress import Listener
from ckdiff.scoring.settings import Settings
from tests.test_cache import Counted
from tests.tiny_families import CONFIGS
from tests.tiny_pairs import disturbed
from tests.tokenizer_kinds import KINDS

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

QA = (
    ("Who founded Velmar?", "Amber Heron"),
    ("Who rules Oskary, and since when?", "Brisk Needle, since 1840"),
    ("What is sold in Thrane?", "red wool"),
)
PICKS = {"question": "Who sings there?", "choices": ["Quiet Lark", "Nobody", "Calm otters"], "answer": 0}
TOKENS = 6
CASES = [(name, chat) for name, kind in KINDS.items() for chat in ([False, True] if kind.chat else [False])]
"""Every kind, and where it has a chat template that as well."""


class Theirs(NamedTuple):
    """A model and its tokenizer as transformers alone has them."""

    tokenizer: Any
    model: Any
    kind: str
    chat: bool

    def text(self, question: str) -> str:
        if not self.chat:
            return f"Question: {question}\n Answer:"
        turns = [{"role": "user", "content": question}]
        found: str = self.tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        return found

    def ids(self, text: str) -> list[int]:
        """Of a text as it stands before more text: without an end token."""
        found: list[int] = self.tokenizer(text, add_special_tokens=not self.chat)["input_ids"]
        if KINDS[self.kind].end and not self.chat:
            assert found.pop() == self.tokenizer.eos_token_id
        return found

    def answer(self, question: str, answer: str) -> tuple[list[int], list[int]]:
        """Ids of a prompt and of an answer to it, as they stand in one text."""
        gap = KINDS[self.kind].gap if self.chat else " "
        prompt, whole = (self.ids(self.text(question) + rest) for rest in ("", gap + answer))
        assert whole[: len(prompt)] == prompt
        return prompt, whole[len(prompt) :]

    def says(self, prompt: list[int]) -> list[int]:
        ids = torch.tensor([prompt])
        options = {"max_new_tokens": TOKENS, "do_sample": False, "eos_token_id": 2, "pad_token_id": 0}
        with torch.inference_mode():
            found: list[int] = self.model.generate(ids, attention_mask=torch.ones_like(ids), **options)[0].tolist()
        return found[len(prompt) :]

    def logprobs(self, prompt: list[int], answer: list[int]) -> Tensor:
        """Log p of every token at the answer's places, float64 [place, token]."""
        with torch.inference_mode():
            logits = self.model(torch.tensor([prompt + answer]), use_cache=False).logits[0].double()
        found: Tensor = logits.log_softmax(-1)[len(prompt) - 1 : -1]
        return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """By kind of tokenizer a pair of random models, and questions to ask them."""
    from transformers import AutoConfig, AutoModelForCausalLM

    root = tmp_path_factory.mktemp("kinds")
    for name, kind in KINDS.items():
        size = len(kind.save(root / name / "base"))
        shutil.copytree(root / name / "base", root / name / "unlearned")
        config = AutoConfig.for_model(
            "llama", **(CONFIGS["llama"] | {"vocab_size": size, "max_position_embeddings": 256})
        )
        torch.manual_seed(0)
        model = disturbed(AutoModelForCausalLM.from_config(config), 0.15)
        model.save_pretrained(root / name / "base")
        disturbed(model, 0.1).save_pretrained(root / name / "unlearned")
    (root / "qa.json").write_text(json.dumps([{"question": text, "answer": answer} for text, answer in QA]))
    (root / "unrelated.txt").write_text("Who left?\nWho sings there?")
    (root / "picks.json").write_text(json.dumps([PICKS]))
    return root


def theirs(root: Path, kind: str, chat: bool, side: str) -> Theirs:
    tokenizer, model = opened(root / kind / side)
    return Theirs(tokenizer, model, kind, chat)


@functools.lru_cache(maxsize=4)
def opened(folder: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return AutoTokenizer.from_pretrained(folder), model


@pytest.mark.parametrize(("kind", "chat"), CASES)
def test_answers_choices_and_their_probabilities(made: Path, kind: str, chat: bool) -> None:
    spec = BehaveSpec(
        str(made / kind / "base"),
        str(made / kind / "unlearned"),
        questions=made / "qa.json",
        unrelated=made / "unrelated.txt",
        choices=made / "picks.json",
        neutral=False,
        settings=Settings(tokens=TOKENS, batch_size=4, device="cpu", chat=chat),
        hash=False,
    )
    found = behave(spec).behaviour
    assert found is not None
    assert found.choices is not None
    base, unlearned = (theirs(made, kind, chat, side) for side in ("base", "unlearned"))
    for row in (row for one in found.answers for row in one.questions):
        prompt = base.ids(base.text(row.text))
        said = base.says(prompt)
        assert row.answer_base_ids == tuple(said)
        assert row.answer_unlearned_ids == tuple(unlearned.says(prompt))
        for side, model in (("base", base), ("unlearned", unlearned)):
            expected = model.logprobs(prompt, said)[range(len(said)), said].mean()
            assert getattr(row, f"logprob_{side}") == pytest.approx(float(expected), abs=1e-5)
    (picks,) = found.choices.questions
    for side, model in (("base", base), ("unlearned", unlearned)):
        for logprob, choice in zip(getattr(picks, f"logprob_{side}"), picks.choices, strict=True):
            prompt, ids = model.answer(picks.text, choice)
            assert logprob == pytest.approx(float(model.logprobs(prompt, ids)[range(len(ids)), ids].sum()), abs=5e-5)


@pytest.mark.parametrize(("kind", "chat"), CASES)
def test_given_answers_stand_behind_their_prompts(made: Path, kind: str, chat: bool) -> None:
    settings = Settings(variants=("open",), window=1, layers=(0,), tokens=TOKENS, device="cpu", chat=chat)
    pair = str(made / kind / "base"), str(made / kind / "unlearned")
    base, unlearned = (theirs(made, kind, chat, side) for side in ("base", "unlearned"))
    for given in (True, False):
        how = replace(settings, given_answers=given)
        found = probe(ProbeSpec(*pair, made / "qa.json", settings=how, hash=False)).probe
        assert found is not None
        assert all(control.passed for control in found.controls)
        for row, (question, answer) in zip(found.questions, QA, strict=True):
            prompt = base.ids(base.text(question))
            ids = base.answer(question, answer)[1][:TOKENS] if given else base.says(prompt)
            assert (row.prompt_tokens, row.answer_ids) == (len(prompt), tuple(ids))
            ours, other = (model.logprobs(prompt, ids) for model in (base, unlearned))
            assert row.kl == pytest.approx(float((ours.exp() * (ours - other)).sum(-1).mean()), rel=1e-4)
            assert row.top1 == float((ours.argmax(-1) == other.argmax(-1)).double().mean())


# --------------------------------------------------------------------------------------------- what is said about it


@pytest.fixture
def pair(made: Path, tmp_path: Path) -> Path:
    """A pair of models whose tokenizer knows words alone."""
    for side in ("base", "unlearned"):
        shutil.copytree(made / "words" / side, tmp_path / side)
    return tmp_path


EQUAL = ("Who zog?", "Who founded Velmar?", "Who zig?", "Who zag?")


def test_questions_of_one_prompt_are_asked_once(pair: Path) -> None:
    (pair / "asked.txt").write_text("\n".join(EQUAL))
    (pair / "other.txt").write_text("Who zug?\nWho rules?\nWho zeg?")
    sides = str(pair / "base"), str(pair / "unlearned")
    settings = Settings(variants=("open",), window=1, tokens=4, device="cpu")
    said = behave(
        BehaveSpec(*sides, pair / "asked.txt", unrelated=pair / "other.txt", neutral=False, settings=settings)
    )
    found = probe(ProbeSpec(*sides, pair / "asked.txt", settings=settings), existing=said)
    assert found.probe is not None
    assert found.behaviour is not None
    target, unrelated = found.behaviour.answers
    assert [row.text for row in found.probe.questions] == [row.text for row in target.questions] == list(EQUAL[:2])
    assert [row.text for row in unrelated.questions] == ["Who zug?", "Who rules?"]
    # What is recorded is what was asked: it can be computed again.
    assert found.probe.settings["questions_digest"] == target.digest == texts_digest(list(EQUAL[:2]))
    check_behaviour(found.behaviour, differences := Differences())
    check_probe(found.probe, differences)
    assert not differences.found
    assert any(note.startswith("4 questions become 2 prompts") for note in found.probe.notes)
    assert any(note.startswith("7 questions become 4 prompts") for note in found.behaviour.notes)
    assert any(note.startswith("1 prompts stand in two sets") for note in found.behaviour.notes)


def test_one_prompt_is_one_question(pair: Path) -> None:
    """Eight questions that a tokenizer cannot tell apart have no interval."""
    (pair / "asked.txt").write_text("\n".join(f"Who z{letter}g?" for letter in "abcdefgh"))
    settings = Settings(variants=("open",), window=1, tokens=4, device="cpu")
    found = probe(ProbeSpec(str(pair / "base"), str(pair / "unlearned"), pair / "asked.txt", settings=settings)).probe
    assert found is not None
    assert len(found.questions) == 1
    assert np.isnan(found.runs[0].krs_kl.band_low).all()
    assert any(note.startswith("one question: no intervals") for note in found.notes)


def test_answers_are_kept_for_the_questions_that_are_asked(pair: Path, tmp_path: Path) -> None:
    (pair / "asked.txt").write_text("\n".join(EQUAL))
    (pair / "other.txt").write_text("Who zug?\nWho rules?\nWho zeg?")
    settings, cache = Settings(tokens=4, device="cpu", variants=("open",)), Counted(tmp_path)
    spec = BehaveSpec(
        str(pair / "base"),
        str(pair / "unlearned"),
        pair / "asked.txt",
        unrelated=pair / "other.txt",
        neutral=False,
        settings=settings,
    )
    behave(spec, Listener(cache=cache))
    probe(ProbeSpec(spec.base, spec.unlearned, spec.questions, settings=settings), Listener(cache=cache))
    assert (cache.hits, cache.misses) == (1, 2)


@pytest.mark.parametrize(
    "template", ["{{ raise_exception('not here') }}", "{% if %}", "{{ messages.__class__.mro() }}"]
)
def test_a_chat_template_that_cannot_be_used_is_one_line(
    pair: Path, template: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pair)
    for side in ("base", "unlearned"):
        KINDS["words"].save(pair / side, chat_template=template)
    for command in ("probe", "behave"):
        asked = ("--question", "Who left?", "--chat-template", "--device", "cpu", "--no-hash")
        assert run([command, "base", "unlearned", *asked]) == 2
        out, err = capfd.readouterr()
        assert out == ""
        (line,) = err.strip().splitlines()
        assert "--chat-template: the template of the base" in line
    assert not list(pair.glob("*.h5*"))


def test_the_date_of_a_chat_template_is_recorded(pair: Path) -> None:
    for side in ("base", "unlearned"):
        KINDS["words"].save(pair / side, chat_template="{{ strftime_now('%Y') }} {{ messages[0].content }}")
    sides, asked = (str(pair / "base"), str(pair / "unlearned")), ("Who left?", "Who rules?")
    for chat in (True, False):
        settings = Settings(variants=("open",), window=1, tokens=4, device="cpu", chat=chat)
        said = behave(BehaveSpec(*sides, asked=asked, neutral=False, settings=settings, hash=False)).behaviour
        found = probe(ProbeSpec(*sides, asked=asked, settings=settings, hash=False)).probe
        assert found is not None
        assert said is not None
        for one in (found, said):
            assert one.settings.get("date") == ("2024-07-26" if chat else None)
            assert any("today's date" in note for note in one.notes) == chat


def test_unrelated_questions_that_are_the_others_are_refused(tmp_path: Path) -> None:
    """Every unrelated answer would change, and nothing would say that none was asked for."""
    asked, other = tmp_path / "asked.txt", tmp_path / "other.txt"
    asked.write_text("Who ruled?\nWhere is it?\n")
    other.write_text("WHERE is it?\n")
    for beside in (asked, other):
        with pytest.raises(CkdiffError, match=rf"^--unrelated: {beside} asks nothing that is not asked about what"):
            read_asked(BehaveSpec("a", "b", asked, unrelated=beside))
    other.write_text("Where is it?\nWhat else?\n")
    assert len(read_asked(BehaveSpec("a", "b", asked, unrelated=other)).unrelated.questions) == 2


def test_a_file_of_concepts_that_is_named_for_both_has_both(tmp_path: Path) -> None:
    place = tmp_path / "concept.json"
    place.write_text(
        json.dumps({"concept": "Mill", "target_questions": ["Who ruled?"], "unrelated_questions": ["Which sea?"]})
    )
    asked = read_asked(BehaveSpec("a", "b", place, unrelated=place))
    assert asked.target is not None
    assert [one.text for one in asked.target.questions] == ["Who ruled?"]
    assert [one.text for one in asked.unrelated.questions] == ["Which sea?"]
