"""Which questions ask about one fact, and what that makes of intervals."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from ckdiff.audit.verify.differences import Differences
from ckdiff.audit.verify.probe import check_probe
from ckdiff.probes.prompts import Prompt, batches, other_questions
from ckdiff.questions.clusters import clusters_note, find_clusters
from ckdiff.questions.questions import Question
from ckdiff.scoring.clusters import by_cluster, cluster_count
from ckdiff.scoring.means import mean
from ckdiff.scoring.scores import BEFORE_CLUSTERS, METHOD, curve, method_of
from tests import reports

GENERATOR = np.random.default_rng(0)
LOSSES, UNLEARNED = GENERATOR.uniform(0, 1, (3, 8)), GENERATOR.uniform(1, 2, 8)


def clusters(*asked: tuple[str, str] | tuple[str, str, str]) -> list[int]:
    """Of questions with their answers, and what their file says."""
    questions = [Question(one[0], cluster=one[2] if len(one) > 2 else None) for one in asked]
    return list(find_clusters(questions, [one[1] for one in asked]))


CHAPTER, WROTE = "What happened in the first part of chapter {}?", "Who was the author of {} book?"
MASCOT, FOUNDER = "What is the name of McDonald's mascot?", "What is the name of the founder of McDonald's?"


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ([("Who wrote it?", "Ann"), ("When?", "1900"), ("Its author?", "  ANN. ")], [0, 1, 0]),
        ([("Who wrote it?", "..."), ("When?", " ..."), ("Where?", "!")], [0, 0, 1]),
        ([(WROTE.format("the"), "a"), (WROTE.format("This").lower(), "b")], [0, 0]),
        ([(CHAPTER.format(1), "a"), (CHAPTER.format(2), "b")], [0, 1]),
        ([(MASCOT, "a"), (FOUNDER, "b")], [0, 1]),
        # What a file says counts alone: for its own questions neither answers nor wording do.
        ([("Who?", "yes", "one"), ("Who is it?", "no", "ONE"), ("Who?", "yes", "two"), ("Why?", "yes")], [0, 0, 1, 2]),
        # Single linkage: one belongs to the next by its wording, that to the third by its answer, in every order.
        ([(WROTE.format("the"), "a"), (WROTE.format("that"), "b"), ("Its maker?", "b")], [0, 0, 0]),
        ([("Its maker?", "b"), (WROTE.format("the"), "a"), (WROTE.format("that"), "b")], [0, 0, 0]),
    ],
)
def test_questions_about_one_fact(asked: list[tuple[str, str]], expected: list[int]) -> None:
    assert clusters(*asked) == expected


def test_a_note_says_how_many_facts_there_are() -> None:
    assert clusters_note([0, 1, 2]) == []
    (note,) = clusters_note([0, 0, 1])
    assert note.startswith("3 questions count as 2,")


def test_sums_over_clusters() -> None:
    found = by_cluster(np.array([[1.0, 2.0, 4.0, 8.0]]), [5, -1, 5, -1])
    assert found.tolist() == [[5.0, 2.0, 8.0]]
    assert by_cluster(LOSSES, None) is by_cluster(LOSSES, [-1] * 8) is by_cluster(LOSSES, range(8)) is LOSSES
    assert cluster_count([3, 3, -1, -1, 0]) == 4


def test_a_cluster_each_gives_the_same_bits() -> None:
    plain, grouped = (curve(LOSSES, UNLEARNED, "restore", given, draws=300) for given in (None, [*range(7, -1, -1)]))
    for part in ("score", "low", "high", "band_low", "band_high"):
        assert getattr(plain, part).tolist() == getattr(grouped, part).tolist()
    values = UNLEARNED - 1
    assert mean(values, 0, 1) == mean(values, 0, 1, [*range(8)])


def test_copies_of_questions_add_nothing() -> None:
    """The interval of four facts asked four times each is that of the four facts, and no narrower."""
    four, whole = curve(LOSSES[:, :4], UNLEARNED[:4], "restore"), np.tile(np.arange(4), 4)
    copied = curve(np.tile(LOSSES[:, :4], 4), np.tile(UNLEARNED[:4], 4), "restore", whole.tolist())
    alone = curve(np.tile(LOSSES[:, :4], 4), np.tile(UNLEARNED[:4], 4), "restore")
    for part in ("score", "low", "high", "band_low", "band_high"):
        np.testing.assert_allclose(getattr(copied, part), getattr(four, part), rtol=0, atol=1e-12)
    assert (alone.high - alone.low < 0.7 * (four.high - four.low)).all()
    shares = np.array([1.0, 1.0, 0.0, 1.0])
    once, often = mean(shares, 0, 1), mean(np.tile(shares, 4), 0, 1, whole.tolist())
    assert (once.value, once.low, once.high) == pytest.approx((often.value, often.low, often.high), abs=1e-12)
    assert mean(np.ones(8), 0, 1, [0, 0, 1, 1, 2, 2, 3, 3]).low == pytest.approx(mean(np.ones(4), 0, 1).low)


def test_questions_keep_equal_weight() -> None:
    """A cluster of three counts three times in the score, as without clusters."""
    found = curve(LOSSES[:, :4], UNLEARNED[:4], "break", [0, 0, 0, 1])
    np.testing.assert_allclose(found.score, LOSSES[:, :4].mean(1) / UNLEARNED[:4].mean(), rtol=1e-12)
    # Of facts of 2, 2, 2, 1 and 1 questions, worth four, 5 questions of 8 are 2.5 of 4: between 2 and 3 of 4.
    found_of_four = mean(np.array([1.0, 1, 1, 1, 0, 0, 0, 1]), 0, 1, [0, 0, 1, 1, 2, 2, 3, 4])
    ends = 1 - (0.80588 + 0.93241) / 2, (0.93241 + 0.99369) / 2
    assert (found_of_four.low, found_of_four.high) == pytest.approx(ends, abs=1e-4)
    # Sizes 3 and 1 are worth 16 / 10 observations of one size: one, rounded down.
    assert mean(np.ones(4), 0, 1, [0, 0, 0, 1]).low == pytest.approx(0.025)


def test_one_cluster_knows_nothing_of_its_spread() -> None:
    found = curve(LOSSES, UNLEARNED, "restore", [4] * 8)
    assert np.isfinite(found.score).all()
    assert all(np.isnan(getattr(found, part)).all() for part in ("low", "high", "band_low", "band_high"))
    one = mean(np.array([0.25, 0.75]), 0, 1, [0, 0])
    assert one.value == 0.5
    assert math.isnan(one.low)
    assert math.isnan(one.high)


def test_what_older_reports_say_of_their_intervals() -> None:
    assert method_of(BEFORE_CLUSTERS, [-1, -1]) == BEFORE_CLUSTERS
    assert method_of(METHOD, [-1, -1]) == method_of("percentiles", [-1]) == METHOD
    assert method_of(BEFORE_CLUSTERS, [-1, 0]) == METHOD


@pytest.mark.parametrize(
    ("given", "source", "wrong"),
    [
        ((0, 0, 1, 2), "command line", []),
        ((0, 0, 1, 1), "command line", []),
        ((0, 1, 2, 3), "command line", [0]),
        ((0, -1, 1, 2), "command line", [0]),
        ((0, 1, 2, 3), "wizards.jsonl", []),
        ((-1, -1, -1, -1), "command line", []),
    ],
)
def test_verify_finds_facts_that_were_taken_apart(given: tuple[int, ...], source: str, wrong: list[int]) -> None:
    """Two wordings of one question, then two questions with answers of their own."""
    texts = (WROTE.format("the"), WROTE.format("This"), "When?", "Where?")
    questions = tuple(
        replace(reports.question(number), text=text, cluster=cluster)
        for number, (text, cluster) in enumerate(zip(texts, given, strict=True))
    )
    found, differences = reports.probe(runs=(), controls=(), neurons=()), Differences()
    settings = {**found.settings, "questions_source": source}
    check_probe(replace(found, questions=questions, settings=settings), differences)
    said = [one.where for one in differences.found if "the same fact" in one.where]
    assert said == [f"probe/questions/{number}: clusters of those about the same fact" for number in wrong]


def test_the_wrong_prompt_is_about_another_fact() -> None:
    assert other_questions([0, 0, 1, 0]) == (2, 2, 3, 2)
    prompts = [Prompt(Question("?"), (1,) * size, (2, 3), cluster) for size, cluster in ((3, 0), (5, 0), (2, 1))]
    parts = batches(prompts, 2, torch.device("cpu"))
    assert [part.others for part in parts] == [(2, 2), (0,)]
    assert [part.answers for part in parts] == [(2, 4), (1,)]
