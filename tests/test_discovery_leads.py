"""Words that the weights spell: which are leads, how they are ended, which come first, and who is told by them."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from ckdiff.discovery.answers import tell_topic
from ckdiff.discovery.candidates import Candidate, Candidates
from ckdiff.discovery.lost import Look
from ckdiff.discovery.mentions import said_written
from ckdiff.discovery.naming import weight_words
from ckdiff.discovery.section import run
from ckdiff.discovery.texts import Texts
from ckdiff.discovery.words import is_content
from ckdiff.discovery.work import How
from ckdiff.probes.forcing import Way
from ckdiff.probes.prompts import Prompt
from ckdiff.probes.wording.wording import Wording
from ckdiff.questions.questions import Question
from ckdiff.report.formats import say
from ckdiff.report.schema.discovery import TURNED, WRITTEN, WeightWord
from ckdiff.report.words.discovery import headline, leading_words
from ckdiff.report.words.sections import Selection
from ckdiff.unlearn.world import TOWNS
from tests.reports import discovery, report
from tests.test_discovery import models
from tests.test_discovery_groups import word
from tests.test_probe_cli import made
from tests.test_tables import rendered
from tests.tokenizer_kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ckdiff.shapes import Bools, Float64

__all__ = ["made", "models"]


@pytest.fixture
def spoken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Models whose base goes on as `after` says, by how its prompt ends; `asked` has the prompts."""
    tokenizer = KINDS["bytes"].save(tmp_path)
    found = SimpleNamespace(tokenizer=tokenizer, wording=Wording(tokenizer), base=None, stops=frozenset(), asked=[])

    def go_on(live: None, prompts: Sequence[Sequence[int]], *_: Any) -> list[list[int]]:
        texts = [tokenizer.decode([*ids]) for ids in prompts]
        found.asked += texts
        ends = [next((end for start, end in found.after.items() if text.endswith(start)), "") for text in texts]
        return [tokenizer(end, add_special_tokens=False)["input_ids"] if end else [] for end in ends]

    monkeypatch.setattr("ckdiff.discovery.naming.greedy", go_on)
    return found


def token_of(models: Any, text: str) -> int:
    (*_, last) = models.tokenizer(text, add_special_tokens=False)["input_ids"]
    return int(last)


def test_leads_are_lost_words_and_end_as_two_lists_agree(spoken: Any) -> None:
    vocab = spoken.tokenizer.get_vocab()
    size, blank = max(vocab.values()) + 1, token_of(spoken, "x")
    begin = [number for number in sorted(vocab.values()) if is_content(spoken.tokenizer, number, blank)]
    agreed, parted, kept, gained = begin[:4]
    names = {number: spoken.tokenizer.decode([number]) for number in begin[:4]}
    scores = np.zeros(size)
    scores[[agreed, parted, gained]] = 3.0, 9.0, 12.0
    lost = np.zeros(size, bool)
    lost[[agreed, parted, kept]] = True
    spoken.after = {f"four,{names[agreed]}": "ab more", f"one,{names[agreed]}": "ab,"}
    spoken.after |= {f"four,{names[parted]}": "ab", f"one,{names[parted]}": "cd"}
    ids = (*spoken.wording.encoder.ids("a text"),)
    texts = Texts([Prompt(Question("a text"), ids[:1], ids[1:])], ["sampled"], "")
    beside = [word(text, 1, text != "piece") for text in ("one", "piece", "two", "three", "four", "five")]
    found = weight_words({WRITTEN: scores, TURNED: None, "none": np.full(size, np.nan)}, lost, beside, texts, spoken)
    told = [(one.word, one.token, one.source, one.score) for one in found]
    assert told == [
        (names[parted].strip(), parted, WRITTEN, 9.0),
        (f"{names[agreed].strip()}ab", agreed, WRITTEN, 3.0),
        (names[kept].strip(), kept, WRITTEN, 0.0),
    ]
    lists = {text.removesuffix(names[agreed]) for text in spoken.asked if text.endswith(names[agreed])}
    assert {text.strip() for text in lists} == {"one, two, three, four,", "four, three, two, one,"}


def test_no_lead_is_made_of_what_the_base_never_says(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    said = np.arange(models.rows) % 3 > 0
    looked: list[Bools] = []

    def keep(scores: Any, lost: Bools, *_: Any) -> tuple[WeightWord, ...]:
        looked.append(lost)
        return ()

    monkeypatch.setattr("ckdiff.discovery.section.RUINED", math.inf)
    monkeypatch.setattr("ckdiff.discovery.section.sayable", lambda base, logits: said)
    monkeypatch.setattr("ckdiff.discovery.outcome.weight_words", keep)
    models.base.unload()
    run(models, How(count=4, length=12, copies=1), Candidates((), ""))
    (lost,) = looked
    assert lost.any()
    assert not (lost & ~said).any()
    assert (said & ~lost).any()


def test_noisy_copies_are_told_by_random_directions(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Float64] = []

    def keep(words: Sequence[Sequence[int]], look: Look, written: Float64) -> Float64:
        seen.append(written)
        return said_written(words, look, written)

    monkeypatch.setattr("ckdiff.discovery.section.RUINED", math.inf)
    monkeypatch.setattr("ckdiff.discovery.section.said_written", keep)
    models.base.unload()
    run(models, How(count=4, length=12, copies=2), Candidates((*map(Candidate, TOWNS),), ""))
    assert len(seen) == 3
    assert all(np.isfinite(one).all() for one in seen)
    assert len({one.tobytes() for one in seen}) == 3


def test_leading_words_are_those_of_texts_and_of_weights_by_turns() -> None:
    words = [word("Yahoo", 1), word("…s", 2, content=False), word("auction", 3)]
    weights = [
        WeightWord("Bay", 4, WRITTEN, 8.0),
        WeightWord("via", 5, TURNED, 0.5),
        WeightWord("AUCTION", 6, WRITTEN, 7.0),
    ]
    found = discovery(words=tuple(words), weights=tuple(weights))
    assert leading_words(found) == ["Yahoo", "Bay", "auction"]
    many = tuple(WeightWord(f"w{number}", number, WRITTEN, 1.0) for number in range(12))
    assert leading_words(replace(found, weights=many)) == ["Yahoo", "w0", "auction", *(f"w{n}" for n in range(1, 8))]


def test_a_trace_says_its_leading_words() -> None:
    for name in ("table", "md"):
        text = rendered(say(report(None, discovery=discovery()), name, Selection("discovery")))
        assert "Harry, Stone, books" in text
    assert "Stone" not in headline(discovery(outcome="none"))


def test_who_is_told_by_what_was_written_is_the_one_of_whom_it_is_said() -> None:
    shift = np.array([0.0, 1.0, 1.0, 1.0, 1.0, -1.0])
    none = np.zeros((1, 1), np.int64)
    seen = Look(none, none, shift[:1], shift[:1], shift[:1], none[0], shift, shift)
    written = np.array([7.0, 8.0, 3.0, 2.0, 1.0, 90.0, 1000.0])
    found = said_written([[1, 2, 3, 4], [1, 0], [], [5, 4]], seen, written)
    # Of four words the three that were written most; a word that two share counts half, one that was gained nothing.
    assert found.tolist() == pytest.approx([(8 / 2 + 3 + 2) / 3, 4 / 2, math.nan, 0.25], nan_ok=True)
    assert np.isnan(said_written([[1]], seen, np.full(7, np.nan))).all()


def test_both_together_say_what_two_plain_models_drawn_apart_do(models: Any, made: Path) -> None:
    from transformers import AutoModelForCausalLM

    with torch.inference_mode():
        (first, *_) = tell_topic(models, "Velmar", [], Way(4)).answers
    sides = [
        AutoModelForCausalLM.from_pretrained(made / side, dtype=torch.float64).eval() for side in ("base", "unlearned")
    ]
    (prompt,) = models.wording.prompts([Question(first.question)])
    ids = list(prompt.ids)
    for _ in range(24):
        with torch.no_grad():
            known, left = (side(torch.tensor([ids])).logits[0, -1].log_softmax(-1) for side in sides)
        best = int((2 * known - left).masked_fill(known < known.max() + math.log(1e-5), -math.inf).argmax())
        ids.append(best)
        if best in models.stops:
            break
    said = models.tokenizer.decode(ids[len(prompt.ids) :], skip_special_tokens=True).strip()
    assert first.guided == said
    assert first.guided != first.unlearned


def test_two_models_that_do_not_fit_say_nothing_together(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.inference_mode():
        both = tell_topic(models, "Velmar", [], Way(4))
        models.base.load()
        monkeypatch.setattr("ckdiff.probes.cost.free_memory", lambda device: models.base.parameter_bytes(4) - 1)
        found = tell_topic(models, "Velmar", [], Way(4))
    assert [one.guided for one in found.answers] == [""] * len(both.answers)
    assert [replace(one, guided="") for one in both.answers] == list(found.answers)
    assert any(one.guided for one in both.answers)
    assert ["no room" in note for note in found.notes] == [True]
    assert both.notes == ()
    with torch.inference_mode():
        models.base.load()
        monkeypatch.setattr("ckdiff.probes.cost.free_memory", lambda device: models.base.parameter_bytes(4))
        assert tell_topic(models, "Velmar", [], Way(4)).answers == both.answers
