"""Lost words that go together, against plain loops over positions, and where they show."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ckdiff.audit.verify.differences import Differences
from ckdiff.audit.verify.discovery import check_discovery
from ckdiff.discovery.groups import (
    group_words,
    hits_of,
    link,
    lost_together,
    pair_tail,
    position_weights,
)
from ckdiff.discovery.lost import Look
from ckdiff.discovery.texts import Texts
from ckdiff.probes.prompts import Prompt
from ckdiff.questions.questions import Question
from ckdiff.report.formats import say
from ckdiff.report.page import to_html
from ckdiff.report.schema.behaviour import Mean
from ckdiff.report.schema.discovery import LostGroup, LostWord
from ckdiff.report.words.sections import Selection
from ckdiff.scoring.discovery import Tail, corrected, pair_p
from tests.reports import discovery, report
from tests.test_tables import rendered
from tests.tokenizer_kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ROWS = 40
TEXTS = 4


def seen_of(lost: Sequence[Sequence[int]], texts: Sequence[int]) -> Look:
    """A look in which these tokens are lost, position by position."""
    ids, none = np.array(lost, dtype=np.int64), np.zeros(len(lost))
    return Look(ids, ids, none, none, none, np.array(texts, dtype=np.int64), np.zeros(ROWS), np.zeros(ROWS))


def word(text: str, token: int, content: bool = True) -> LostWord:
    return LostWord(text, token, "sampled", Mean(0.5, 0.4, 0.6), 0.01, content, "")


def test_how_often_two_tokens_are_lost_together_is_what_a_plain_loop_says() -> None:
    generator = np.random.default_rng(0)
    lost = np.stack([generator.permutation(9)[:3] for _ in range(12)])
    texts = [0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 3, 3]
    seen = seen_of(lost.tolist(), texts)
    tokens = np.array([4, 0, 7])
    both, alike = lost_together(hits_of(seen, tokens), position_weights(seen))
    for a, one in enumerate(tokens):
        for b, other in enumerate(tokens):
            shares = []
            for text in range(4):
                rows = [set(row) for row, n in zip(lost.tolist(), texts, strict=True) if n == text]
                shares.append([({one, other} <= row, bool({one, other} & row)) for row in rows])
            joint, either = (np.mean([np.mean([row[n] for row in part]) for part in shares]) for n in (0, 1))
            assert both[a, b] == pytest.approx(joint)
            assert alike[a, b] == pytest.approx(joint / either)


def test_groups_are_joined_by_the_mean_over_pairs() -> None:
    alike = np.eye(5)
    for a, b, value in ((0, 3, 0.8), (0, 4, 0.5), (3, 4, 0.2), (1, 2, 0.34), (2, 4, 0.9)):
        alike[a, b] = alike[b, a] = value
    # 2 and 4 first, then 0 and 3; the two groups have a mean of (0 + 0.5 + 0 + 0.2) / 4, and 1 has (0.34 + 0) / 2.
    assert link(alike) == [[0, 3], [2, 4]]
    alike[1, 4] = alike[4, 1] = 0.33
    assert link(alike) == [[0, 3], [1, 2, 4]]
    assert link(np.eye(3)) == link(np.zeros((0, 0))) == []


def test_words_lost_at_the_same_places_are_a_group_and_are_shown_there(tmp_path: Path) -> None:
    tokenizer = KINDS["bytes"].save(tmp_path)
    ids = tokenizer("abcdefghijkl", add_special_tokens=False)["input_ids"]
    prompts = [Prompt(Question(""), tuple(ids[:2]), tuple(ids[2:8])) for _ in range(TEXTS)]
    lost = [[30, 31] for _ in range(6 * TEXTS)]
    for place in (1, 2, 3, 7, 8, 12):
        lost[place] = [5, 6]
    lost[20] = [5, 30]
    for place in (13, 14):
        lost[place] = [9, 31]
    seen = seen_of(lost, np.repeat(np.arange(TEXTS), 6).tolist())
    null = seen_of([[n % ROWS, (n + 1) % ROWS] for n in range(6 * TEXTS)], seen.texts.tolist())
    words = [word("owl", 5), word("lone", 9), word("wand", 6), word("...", 30, content=False)]
    found = group_words(words, seen, [null] * 5, Texts(prompts, ["chat"] * TEXTS, ""), tokenizer)
    (group,) = found.groups
    assert group.words == ("owl", "wand")
    assert group.together == pytest.approx(6 / 24)
    assert group.alike == pytest.approx(6 / 7)
    assert group.p == pytest.approx(pair_p(found.tail, 6 / 24, ROWS))
    first, second, third = found.spans
    assert (first.before, first.text) == (tokenizer.decode(ids[:3]), tokenizer.decode(ids[3:6]))
    assert (second.before, second.text) == (tokenizer.decode(ids[:3]), tokenizer.decode(ids[3:5]))
    assert third.text == tokenizer.decode(ids[2:3])
    assert {(one.group, one.kind, one.lost) for one in found.spans} == {(0, "chat", 1.0)}
    few = group_words(words, seen, [null], Texts(prompts[:3], ["chat"] * 3, ""), tokenizer)
    assert all(math.isnan(one.p) for one in few.groups)


def test_the_tail_of_pairs_is_among_all_pairs_of_the_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(1)
    nulls = [
        seen_of([generator.permutation(ROWS)[:4].tolist() for _ in range(60)], np.repeat(np.arange(4), 15).tolist())
        for _ in range(3)
    ]
    whole = pair_tail(nulls)
    pairs = math.comb(ROWS, 2)
    rates = sorted(
        (
            sum({a, b} <= set(row) for row in one.lost.tolist()) / 60
            for one in nulls
            for b in range(ROWS)
            for a in range(b)
        ),
        reverse=True,
    )
    assert whole.share == pytest.approx(25 / (3 * pairs))
    assert whole.threshold == pytest.approx(rates[24])
    assert pair_p(whole, whole.threshold, ROWS) == 1
    far = whole.threshold + 4 * whole.excess
    assert pair_p(whole, far, ROWS) == pytest.approx(corrected(whole.share * math.exp(-4), pairs))
    monkeypatch.setattr("ckdiff.discovery.groups.PAIRED", 30)
    assert pair_tail(nulls).share == pytest.approx(25 / (3 * pairs))
    assert math.isnan(pair_p(Tail(math.nan, math.nan, math.nan), 0.5, ROWS))


@pytest.mark.parametrize("name", ["table", "md", "csv", "html"])
def test_groups_layers_and_neurons_are_shown(name: str) -> None:
    found = report(None, discovery=discovery())
    text = to_html(found) if name == "html" else rendered(say(found, name, Selection("discovery")))
    assert "Harry, books" in text
    assert "wand" in text
    assert "owl" in text
    if name != "csv":
        assert text.index("Neville read") < text.index("wand")
        fell = text[text.index("Layers whose MLPs write less") :]
        assert fell.index("0.5") > fell.index("3")
        assert "Layers" not in rendered(say(report(None, discovery=discovery(layers=())), "md", Selection("discovery")))


def test_verify_derives_the_p_values_of_groups() -> None:
    other = Differences()
    check_discovery(discovery(groups=(LostGroup(("Harry", "books"), 0.25, 0.4, 0.5),)), other)
    assert [one.where for one in other.found] == ["discovery/groups: p[0]"]


def test_a_group_shows_where_half_of_its_words_are_lost(tmp_path: Path) -> None:
    tokenizer = KINDS["bytes"].save(tmp_path)
    ids = tokenizer("abcdefghijkl", add_special_tokens=False)["input_ids"]
    texts = Texts([Prompt(Question(""), tuple(ids[:2]), tuple(ids[2:8]))], ["chat"], "")
    seen = seen_of([[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 30, 31], [1, 30, 31, 32], [3, 4, 30, 31], [5, 6, 7, 8]], [0] * 6)
    (first,) = group_words([word(f"word{token}", token) for token in (1, 2, 3, 4)], seen, [], texts, tokenizer).spans
    assert first.text == tokenizer.decode(ids[2:5])
    assert first.lost == pytest.approx(10 / 12)
    # Of five words half is three.
    lost = [[1, 2, 3, 4, 5], [1, 2, 3, 4, 5], [1, 2, 3, 30, 31], [1, 2, 30, 31, 32], [6, 7, 8, 9, 10], [1, 2, 3, 4, 5]]
    every = [word(f"word{token}", token) for token in (1, 2, 3, 4, 5)]
    (first,) = group_words(every, seen_of(lost, [0] * 6), [], texts, tokenizer).spans
    assert first.text == tokenizer.decode(ids[2:5])
