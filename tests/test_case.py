"""A case as models read it: what is matched of long answers, what comes first, and who answers together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from ckdiff.attacks.answers import MATCHED, sought
from ckdiff.attacks.case import SPEAKERS
from ckdiff.attacks.opening import read_plain
from ckdiff.probes.base_answers import generate_answers
from ckdiff.probes.forcing import read_apart
from ckdiff.probes.prompts import Prompt, batches
from ckdiff.questions.questions import Question
from tests.test_attack_relearn import case_of, read

if TYPE_CHECKING:
    from pathlib import Path

    from ckdiff.attacks.case import Case

LONG = 9
"""Tokens of an answer, of which not all are scored."""


@pytest.fixture(scope="module")
def case(learned: Path) -> Case:
    found = case_of(learned, "base")
    read(found, "base")
    return found


@pytest.fixture
def long(case: Case) -> Case:
    """The same with answers of many tokens, some of which the question holds; the last has the base's own beside."""
    generator = np.random.default_rng(1)
    vocabulary = len(case.job.tokenizer)
    every = []
    for number, one in enumerate(case.sought):
        ids = [int(token) for token in generator.choice(np.arange(4, vocabulary), LONG, replace=False)]
        ids[1] = one.ids[-1]
        answer = tuple(ids) if number < len(case.sought) - 1 else one.answer
        places = tuple(place for place in range(LONG) if place != 1)[:MATCHED]
        every.append(replace(one, answer=answer, matched=tuple(ids), scored=places))
    return replace(case, sought=every)


def alone(case: Case, place: int, answer: tuple[int, ...]) -> tuple[list[float], bool]:
    one = case.sought[place]
    (found,) = read_apart(case.job.pair.base, [Prompt(one.question, one.ids, answer)], case.way)
    return found.log_p.tolist(), bool(found.first.all())


def test_of_an_answer_the_first_tokens_are_matched() -> None:
    class Letters:
        def __call__(self, text: str, add_special_tokens: bool = False) -> dict[str, list[int]]:
            return {"input_ids": list(map(ord, text))}

        def decode(self, ids: list[int]) -> str:
            return "".join(map(chr, ids))

    asked = Prompt(Question("who", "abcwdefgh"), tuple(map(ord, "who")))
    (one,) = sought(Letters(), [asked], [list(map(ord, "abcwdefgh"))], [tuple(map(ord, "abcwdefgh"))], [0], frozenset())
    assert [one.matched[place] for place in one.scored] == list(map(ord, "abcd"))
    assert one.begun == tuple(map(ord, "abcwd"))
    assert replace(one, scored=()).begun == ()


def test_a_table_is_what_each_pair_says_alone(long: Case) -> None:
    """Mean log p of the tokens that are scored, question by question and answer by answer; levels are of whole ones."""
    live = long.job.pair.base
    with torch.inference_mode(), long.loaded(live):
        found = long.read(live, "base")
        assert len(long.groups) > 0
        for group in long.groups:
            for i, asked in enumerate(long.sought):
                for one in long.sought:
                    if {asked.cluster, one.cluster} <= set(group):
                        log_p, _ = alone(long, i, one.matched)
                        expected = float(np.mean([log_p[place] for place in one.scored]))
                        assert found.table[asked.cluster, one.cluster] == pytest.approx(expected, abs=1e-5)
        for place, one in enumerate(long.sought):
            log_p, _ = alone(long, place, one.answer)
            assert found.level[place] == pytest.approx(np.mean(log_p), abs=1e-5)
            assert found.log_p[place] == pytest.approx(np.sum(log_p), abs=1e-4)


def test_an_answer_that_comes_first_behind_another_question_is_no_answer(case: Case) -> None:
    """Where another question is answered with the whole of it, an answer is a favourite of the model."""
    live, size = case.job.pair.base, 6
    with torch.inference_mode(), case.loaded(live):
        job = replace(case.job, settings=replace(case.job.settings, tokens=size))
        prompts = [Prompt(one.question, one.ids) for one in case.sought]
        said = [tuple(ids) for ids in generate_answers(live, replace(job, stops=frozenset()), prompts, case.way)]
        assert all(len(ids) == size for ids in said)
        mine = [replace(one, answer=ids, matched=ids, scored=(0,)) for one, ids in zip(case.sought, said, strict=True)]
        plain = replace(case, sought=mine)
        assert set(plain.read(live, "base").said) == set(range(len(mine)))
        # Asked the first question in the place of the second, it gives the first answer to both.
        asked = [mine[0].ids, mine[0].ids, *(one.ids for one in mine[2:])]
        assert said[0] != said[1]
        assert set(plain.read(live, "base", asked).said) == set(range(2, len(mine)))
        # One that goes on otherwise behind the second is no favourite.
        longer = replace(mine[0], answer=(*said[0][:-1], said[0][-1] + 1))
        assert 0 not in replace(plain, sought=[longer, *mine[1:]]).read(live, "base", asked).said
        assert 1 not in replace(plain, sought=[longer, *mine[1:]]).read(live, "base", asked).said


def test_what_is_said_together_is_what_is_said_alone(case: Case) -> None:
    live = case.job.pair.base
    read_plain(case, live, "twin")
    with torch.inference_mode(), case.loaded(live):
        asked = case.say(live, [one.ids for one in case.sought])
        unrelated = [case.decode(one.answer) for one in case.own["twin"]]
        assert case.answers["twin"] == case.answers["base"] == asked
        assert unrelated == [case.decode(one.answer) for one in case.own["base"]]
        for one in case.own["twin"][:3]:
            job = replace(case.job, settings=replace(case.job.settings, tokens=len(one.answer)))
            assert tuple(generate_answers(live, job, [one], case.way)[0]) == one.answer


def test_so_many_answer_together_as_have_room(case: Case) -> None:
    live = case.job.pair.base
    each = 2 * 10 * len(live.layers) * live.model.get_input_embeddings().embedding_dim * 4
    for room, count in ((0, 32), (40 * each, 40), (41 * each - 1, 40), (1 << 40, SPEAKERS)):
        assert replace(case, task=replace(case.task, way=replace(case.way, room=room))).speakers(live, 10) == count
    streamed = replace(case, task=replace(case.task, way=replace(case.way, stream=True, room=1 << 40)))
    assert streamed.speakers(live, 10) == case.way.batch_size == 32


def test_a_longer_text_begins_a_batch_where_pads_would_cost_more() -> None:
    texts = [Prompt(Question(""), tuple(range(1, size)), (0, 0)) for size in (5, 5, 6, 9, 20)]
    found = [len(one.lengths) for one in batches(texts, 32, torch.device("cpu"), waste=9)]
    assert found == [4, 1]
    assert [len(one.lengths) for one in batches(texts, 32, torch.device("cpu"), waste=8)] == [3, 1, 1]
    assert [len(one.lengths) for one in batches(texts, 32, torch.device("cpu"))] == [5]
    assert [len(one.lengths) for one in batches(texts, 2, torch.device("cpu"), waste=9)] == [2, 2, 1]
