"""Discovery against plain loops over transformers' own models, and what must always hold."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from ckdiff.audit.verify.differences import Differences
from ckdiff.audit.verify.discovery import check_discovery
from ckdiff.audit.verify.report import check
from ckdiff.calls.merge import merge_reports, replaced_parts
from ckdiff.cli.discover import status_of, write_questions
from ckdiff.cli.options import Output
from ckdiff.cli.session import Session
from ckdiff.discovery import asking
from ckdiff.discovery.candidates import FORMS, Candidate, Candidates, known_topics, read_candidates
from ckdiff.discovery.lost import Look, look, most_of, sayable
from ckdiff.discovery.mentions import (
    find_mentions,
    mention_drops,
    name_drops,
    name_tokens,
    said_drops,
    said_words,
    words_in,
)
from ckdiff.discovery.naming import in_order, kinds_of, stand_out
from ckdiff.discovery.null import change_sizes, noise
from ckdiff.discovery.opening import open_models
from ckdiff.discovery.readers import speak
from ckdiff.discovery.section import run
from ckdiff.discovery.texts import Sampling, Texts, random_texts, sampled_texts
from ckdiff.discovery.words import begins_word, first_token, is_content, word_of
from ckdiff.discovery.work import How
from ckdiff.probes.forcing import Way, force
from ckdiff.probes.live.model import LiveModel
from ckdiff.probes.prompts import Prompt
from ckdiff.questions.questions import Question, read_questions
from ckdiff.questions.streams import RecordsError
from ckdiff.report.formats import say
from ckdiff.report.hdf5.file import read_report
from ckdiff.report.schema.discovery import LostWord
from ckdiff.report.words.discovery import headline, topic_of
from ckdiff.report.words.sections import Selection
from ckdiff.scoring.discovery import (
    Tail,
    candidate_p,
    corrected,
    few_p,
    form_drops,
    form_scores,
    logistic_p,
    pool_forms,
    tail_of,
)
from ckdiff.scoring.means import mean
from ckdiff.unlearn.world import TOWNS
from ckdiff.weights.opening import open_checkpoint
from tests.reports import attacks, discovery, report, verdict
from tests.test_probe_cli import WORDS, ckdiff, made, place, save_tokenizer
from tests.test_tables import rendered
from tests.tiny_pairs import CPU, prompts_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckdiff.report.schema.discovery import CandidateRow, DiscoveryReport
    from ckdiff.shapes import Float64
    from tests.test_probe_cli import Run
    from tests.tiny_pairs import Folders

__all__ = ["ckdiff", "made", "place"]

SMALL = ("--sampled", 4, "--length", 16, "--quiet")
TEXTS = [Prompt(one.question, one.ids[:1], (*one.ids[1:], *one.answer)) for one in prompts_of()]


def looked(folders: Folders, batch_size: int, prompts: list[Prompt] = TEXTS) -> Look:
    sides = [LiveModel(open_checkpoint(str(path)), torch.float64, CPU) for path in (folders.base, folders.unlearned)]
    with torch.inference_mode():
        for live in sides:
            live.load()
        base, other = (force(live, prompts, Way(batch_size)) for live in sides)
        return look(base, other, prompts)


def plainly(folder: Path, prompt: Prompt, dtype: torch.dtype = torch.float64) -> Float64:
    """Log-probabilities behind every token of a text but the last [position, d_vocab], by transformers alone."""
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt.ids, *prompt.answer]])).logits[0, :-1].double().numpy()
    found: Float64 = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return found


# ------------------------------------------------------------------------------------------------------------ plainly


def test_what_is_lost_is_what_a_plain_loop_over_positions_says(pairs: Callable[[str], Folders]) -> None:
    folders = pairs("llama")
    found = looked(folders, 2)
    place, every = 0, list[Any]()
    for number, prompt in enumerate(TEXTS):
        base, other = (plainly(path, prompt) for path in (folders.base, folders.unlearned))
        for row, (known, left) in enumerate(zip(base, other, strict=True)):
            lost = known - left
            every.append(lost)
            order = np.argsort(-lost)
            count = most_of(len(lost))
            assert found.lost[place].tolist() == order[:count].tolist()
            assert found.gained[place].tolist() == order[::-1][:count].tolist()
            assert found.kl[place] == pytest.approx((np.exp(known) * lost).sum(), abs=1e-9)
            assert found.drop[place] == pytest.approx(lost[prompt.answer[row]], abs=1e-9)
            told = math.log(len(known)) + (np.exp(known) * known).sum()
            assert found.known[place] == pytest.approx(told, abs=1e-9)
            assert found.texts[place] == number
            place += 1
    assert place == len(found.kl)
    shift = np.mean(every, axis=0)
    assert found.shift.tolist() == pytest.approx((shift - shift.mean()).tolist(), abs=1e-9)


def test_batches_and_padding_change_nothing(pairs: Callable[[str], Folders]) -> None:
    one, three = (looked(pairs("llama"), size) for size in (1, 3))
    assert (one.lost == three.lost).all()
    assert (one.gained == three.gained).all()
    assert np.abs(one.kl - three.kl).max() < 1e-12
    assert np.abs(one.drop - three.drop).max() < 1e-12


def test_a_rate_is_the_mean_over_texts_of_a_texts_share(pairs: Callable[[str], Folders]) -> None:
    found = looked(pairs("llama"), 3)
    rates = found.rates("lost", np.array([0, 2]))
    for token in range(found.rows):
        shares = [(found.lost[found.texts == text] == token).any(axis=1).mean() for text in (0, 2)]
        assert rates[token] == pytest.approx(np.mean(shares))
        assert found.by_text("lost", token, np.array([0, 2])).tolist() == pytest.approx(shares)
    assert rates.sum() == pytest.approx(most_of(found.rows))


def plain_form_drops(drops: list[list[float]], tokens: list[list[int]], owners: list[int], count: int) -> list[float]:
    """The difference of differences, one token at a time."""
    flat = [(o, t, d) for o, row, ids in zip(owners, drops, tokens, strict=True) for d, t in zip(row, ids, strict=True)]
    found = []
    for one in range(count):
        others = [(t, d) for o, t, d in flat if o != one]
        middle = sum(d for _, d in others) / max(1, len(others))
        rest = []
        for _, token, drop in (row for row in flat if row[0] == one):
            same = [d for t, d in others if t == token]
            rest.append(drop - (sum(same) + 4 * middle) / (len(same) + 4))
        found.append(sum(rest) / len(rest) if rest else math.nan)
    return found


def test_what_a_form_loses_on_everything_is_taken_off() -> None:
    generator = np.random.default_rng(3)
    sizes, owners = (3, 1, 4, 2, 5), [0, 1, 1, 3, 4]
    drops = [generator.normal(size=size) for size in sizes]
    tokens = [generator.integers(0, 4, size) for size in sizes]
    found = form_drops(drops, tokens, np.array(owners), 5)
    plain = plain_form_drops([one.tolist() for one in drops], [one.tolist() for one in tokens], owners, 5)
    assert found.tolist() == pytest.approx(plain, nan_ok=True)
    assert math.isnan(found[2])
    shifted = form_drops([one + 2.5 for one in drops], tokens, np.array(owners), 5)
    assert shifted.tolist() == pytest.approx(plain, nan_ok=True)


def test_scores_measure_each_candidate_by_the_others() -> None:
    drops = np.array([[9.0], [1.0], [2.0], [3.0], [4.0], [50.0]])
    others = np.array([1.0, 1, 1, 1, 1, 0])
    rest = np.array([1.0, 2, 3, 4])
    spread = max(1.4826 * 1.0, rest.std() / 2)
    found = form_scores(drops, others)
    assert found[0, 0] == pytest.approx(np.arcsinh((9 - 2.5) / spread))
    rest = np.array([9.0, 1, 2, 3, 4])
    assert found[5, 0] == pytest.approx(np.arcsinh((50 - 3) / max(1.4826, rest.std() / 2)))
    assert np.isnan(form_scores(drops[:3], others[:3])).all()
    assert (form_scores(np.ones((5, 1)), np.ones(5)) == 0).all()


def test_forms_are_pooled_over_those_that_there_are() -> None:
    scores = np.array([[1.0, np.nan], [1.0, 1.0], [np.nan, np.nan]])
    assert pool_forms(scores).tolist() == pytest.approx([1.0, math.sqrt(2), math.nan], nan_ok=True)


# ------------------------------------------------------------------------------------------------------------- chance


def test_the_tail_of_a_null_is_exponential() -> None:
    null = np.random.default_rng(0).exponential(0.1, 100_000)
    tail = tail_of(null)
    assert tail.share == 25 / 100_000
    assert tail.p(tail.threshold + 0.1) == pytest.approx(tail.share * math.exp(-0.1 / tail.excess))
    assert tail.p(1.5) == pytest.approx(math.exp(-15), rel=2)
    assert tail.p(tail.threshold - 1e-9) == 1
    assert Tail(math.nan, 0.1, 0.5).p(9) == 1


def test_the_tail_of_pooled_scores_is_logistic() -> None:
    null = np.random.default_rng(0).logistic(1.0, 2.0, 100_000)
    for value in (1.0, 5.0, 15.0, -3.0):
        assert logistic_p(value, null) == pytest.approx(1 / (1 + math.exp((value - 1) / 2)), rel=0.05)
    assert math.isnan(logistic_p(1.0, null[:2]))
    assert (logistic_p(1.0, np.zeros(5)), logistic_p(0.0, np.zeros(5))) == (0.0, 1.0)


def test_a_few_others_are_a_poor_scale() -> None:
    others = np.array([1.0, 2.0, 3.0])
    # Student's t with two degrees of freedom exceeds x with (1 - x / sqrt(2 + x^2)) / 2.
    t = (8 - 2) / math.sqrt(1 + 1 / 3)
    assert few_p(8.0, others) == pytest.approx((1 - t / math.sqrt(2 + t * t)) / 2)
    assert few_p(-4.0, others) == pytest.approx(1 - few_p(8.0, others))
    assert (few_p(1.0, np.zeros(3)), few_p(0.0, np.zeros(3))) == (0.0, 1.0)


def test_a_candidate_stands_out_from_the_others_and_from_noise_or_not_at_all() -> None:
    pooled, everyone = np.array([9.0, 0.5, -0.5, 0.2, -0.2]), np.ones(5)
    quiet, loud = np.linspace(-1, 1, 21), np.linspace(-20, 20, 21)
    by_quiet, by_loud = (candidate_p(pooled, everyone, null, 5) for null in (quiet, loud))
    union = np.append(pooled[1:], quiet)
    assert by_quiet[0] == pytest.approx(corrected(few_p(9, pooled[1:]), 5))
    assert max(logistic_p(9, union), logistic_p(9, quiet)) < few_p(9, pooled[1:]), "four others are a poor scale"
    many = np.append(pooled, np.linspace(-2, 2, 8))
    some = np.array([1.0] * 10 + [0.0] * 3)
    calm = np.linspace(-0.05, 0.05, 11)
    few = np.append(many[1:10], calm)
    assert candidate_p(many, some, calm, 13)[0] == pytest.approx(corrected(few_p(9, many[1:10]), 13), rel=1e-6, abs=0)
    assert logistic_p(9, few) > 1e9 * logistic_p(9, calm)
    p = candidate_p(many, np.ones(13), quiet, 13)[0]
    assert p == pytest.approx(corrected(max(logistic_p(9, many[1:]), logistic_p(9, quiet)), 13))
    assert by_quiet[0] < 0.05 < by_loud[0]
    assert candidate_p(pooled, everyone, quiet, 500)[0] == pytest.approx(min(1, 100 * by_quiet[0]))


def test_noise_is_as_large_as_the_change_in_every_tensor(pairs: Callable[[str], Folders]) -> None:
    folders = pairs("llama")
    base, unlearned = (
        LiveModel(open_checkpoint(str(p)), torch.float64, CPU) for p in (folders.base, folders.unlearned)
    )
    sizes = change_sizes(base, unlearned)
    for key, size in sizes.items():
        change = unlearned.read(key).double() - base.read(key).double()
        assert size == pytest.approx(float(np.sqrt((change.numpy() ** 2).mean())))
    key = max(sizes, key=lambda name: base.read(name).numel())
    value = base.read(key)
    one, again, other = (noise(sizes, 0, number)(key, value) for number in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert float((one - value).square().mean().sqrt()) == pytest.approx(sizes[key], rel=0.05)


def test_a_word_stands_out_in_its_own_kind_of_text(pairs: Callable[[str], Folders]) -> None:
    found = looked(pairs("llama"), 3)
    object.__setattr__(found, "lost", np.where(found.texts[:, None] < 2, 7, 8))
    prompts = [*TEXTS] * 4
    texts = np.concatenate([found.texts + 3 * turn for turn in range(4)])
    names = ("lost", "gained", "kl", "drop", "known")
    parts: dict[str, Any] = {name: np.concatenate([getattr(found, name)] * 4) for name in names}
    many = replace(found, texts=texts, **parts)
    kinds = ["a" if number % 3 < 2 else "b" for number in range(len(prompts))]
    null = replace(many, lost=many.gained)
    said = np.ones(found.rows, dtype=np.bool_)
    rows = stand_out(kinds_of("lost", many, [null] * 5, kinds, said))
    assert [(one.token, one.kind.name) for one in rows[:2]] == [(7, "a"), (8, "b")]
    assert [one.rate for one in rows[:2]] == pytest.approx([1, 1])
    tail = rows[0].kind.tail
    assert rows[0].p == pytest.approx(corrected(tail.p(rows[0].rate), 3 * found.rows))
    few = stand_out(kinds_of("lost", found, [found], ["a", "a", "b"], said))
    assert all(math.isnan(one.p) for one in few)


def test_what_the_base_never_says_is_no_word(pairs: Callable[[str], Folders]) -> None:
    folders = pairs("llama")
    live = LiveModel(open_checkpoint(str(folders.base)), torch.float64, CPU)
    with torch.inference_mode():
        live.load()
        forced = force(live, TEXTS, Way(2))
        # Strong enough that some tokens are out of reach at every position.
        forced = replace(forced, hidden=10 * forced.hidden)
        found = sayable(forced)
    logits = (forced.hidden @ forced.head.weight.T).numpy()
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    wanted = (shares / shares.sum(axis=1, keepdims=True)).mean(axis=0) >= 0.01 / shares.shape[1]
    assert found.tolist() == wanted.tolist()
    assert 0 < wanted.sum() < len(wanted)


def test_no_word_is_made_of_what_the_base_never_says(pairs: Callable[[str], Folders]) -> None:
    found = looked(pairs("llama"), 3)
    wanted = np.arange(found.rows) % 7 > 0
    some = replace(found, lost=np.full_like(found.lost, 7), texts=np.arange(len(found.texts)) % 4)
    kinds = ["a"] * 4
    null = replace(some, lost=np.where(np.arange(len(some.lost))[:, None] < 2, 7, 8))
    (one,) = kinds_of("lost", some, [null], kinds, wanted)
    (every,) = kinds_of("lost", some, [null], kinds, np.ones_like(wanted))
    assert (one.tokens, every.tokens) == (int(wanted.sum()), found.rows)
    assert one.rates[7] == 0 < every.rates[7]
    assert one.tail == tail_of(null.rates("lost", one.wanted)[wanted])
    assert [row.token for row in stand_out([every])] == [7]
    assert stand_out([one]) == []
    (other,) = kinds_of("lost", replace(some, lost=np.full_like(some.lost, 8)), [some], kinds, wanted)
    (row,) = stand_out([other])
    assert row.p == pytest.approx(corrected(other.tail.p(1.0), int(wanted.sum())), rel=1e-9, abs=0)


def test_words_that_are_said_as_they_are_come_first() -> None:
    def word(text: str, p: float, content: bool = True) -> LostWord:
        return LostWord(text, 5, "sampled", mean(np.array([0.5]), 0, 1), p, content, "")

    small, piece, whole, chance = (
        word("The", 0.0, False),
        word("companys", 0.001),
        word("films", 0.04),
        word("sea", 0.9),
    )
    every = [small, piece, whole, chance]
    assert in_order(every, ["The", "compan", "films", "sea"]) == (whole, piece, chance, small)
    assert in_order(every, ["The", "companys", "fil", "sea"]) == (piece, whole, chance, small)
    assert in_order([piece, chance], ["compan", "sea"]) == (piece, chance)
    joined = word("tweet-free", 0.01)
    assert in_order([piece, joined], ["compan", "tweet"]) == (joined, piece)
    assert in_order([word("piece", math.nan), word("whole", math.nan)], ["pie", "whole"])[0].word == "piece"


# --------------------------------------------------------------------------------------------------- texts and names


@pytest.fixture
def models(made: Path) -> Any:
    base, unlearned = (open_checkpoint(str(made / side)) for side in ("base", "unlearned"))
    found = open_models(base, unlearned, "float32", "cpu")
    found.base.load()
    return found


def test_samples_are_the_same_for_one_seed_and_scored_behind_their_opening(models: Any) -> None:
    def draw(seed: int) -> Texts:
        with torch.inference_mode():
            say = partial(speak, models, tokens=8, most=9)
            return sampled_texts(models.wording, models.stops, Sampling(4, 8, seed), say)

    one, again, other = draw(0), draw(0), draw(1)
    assert [p.answer for p in one.prompts] == [p.answer for p in again.prompts]
    assert [p.answer for p in one.prompts] != [p.answer for p in other.prompts]
    assert set(one.kinds) == {"sampled", "invented"}
    assert all(1 <= len(p.answer) <= 8 and not models.stops & {*p.answer} for p in one.prompts)
    random = random_texts(models.wording, models.rows, Sampling(4, 8))
    assert random.kinds == ["random"] * 2
    assert not {token for p in random.prompts for token in (*p.ids, *p.answer)} & {0, 1, 2, 3}


def test_texts_that_name_a_candidate_are_read_behind_its_name(models: Any) -> None:
    texts = ["who founded Velmar Thrane", "Velmar Thrane rules in Oskary", "founded Velmar"]
    prompts = []
    for text in texts:
        ids = models.wording.encoder.ids(text)
        prompts.append(Prompt(Question(text), ids[:1], ids[1:]))
    asked = Texts(prompts, ["given"] * 3, "")
    every = [Candidate("founded Velmar"), Candidate("THRANE"), Candidate("Thra")]
    found = find_mentions(models.tokenizer, asked, every)
    said = [(one.candidate, models.tokenizer.decode(prompts[one.text].answer[one.first :])) for one in found]
    assert said == [(0, "Thrane"), (1, "rules in Oskary")]
    sizes = [len(p.answer) for p in prompts]
    drop = np.arange(float(sum(sizes)))
    none = np.zeros((len(drop), 1), np.int64)
    seen = Look(none, none, drop, drop, drop, np.repeat(np.arange(3), sizes), np.zeros(9), np.zeros(9))
    drops = mention_drops(found, seen, [p.answer for p in prompts], 3)
    said_of = [*prompts[0].answer[2:]], [*prompts[1].answer[1:]]
    plain = plain_form_drops([[*drop[2:3]], [*drop[4:7]]], [*said_of], [0, 1], 3)
    assert drops.tolist() == pytest.approx(plain, nan_ok=True)


def test_a_name_is_lost_where_its_words_are(models: Any) -> None:
    every = [Candidate("founded Velmar"), Candidate("who"), Candidate("qwx Oskary"), Candidate("qwx")]
    ids = models.tokenizer.get_vocab()
    tokens = name_tokens(models.wording, every)
    assert tokens == [[ids["founded"], ids["Velmar"]], [], [ids["Oskary"]], []]
    shift = np.arange(float(models.rows))
    none = np.zeros((1, 1), np.int64)
    seen = Look(none, none, shift[:1], shift[:1], shift[:1], none[0], shift, shift)
    expected = [(ids["founded"] + ids["Velmar"]) / 2, math.nan, ids["Oskary"], math.nan]
    assert name_drops(tokens, seen.shift).tolist() == pytest.approx(expected, nan_ok=True)


def test_what_is_said_is_lost_where_its_words_are_and_what_is_said_of_all_counts_less(models: Any) -> None:
    ids = models.tokenizer.get_vocab()
    founded, sold, rules, who = (ids[word] for word in ("founded", "sold", "rules", "who"))
    both = [Prompt(Question(""), (who,), (sold, founded, sold, ids["is"])), Prompt(Question(""), (who,), (rules, sold))]
    rounds = [asking.Round("plain", both, np.array([0, 2])), asking.Round("text", both, np.array([1, 1]))]
    words = said_words(models.tokenizer, rounds, 3)
    assert words == [[sold, founded], [], [rules, sold]]
    shift = np.arange(float(models.rows)) ** 2
    none = np.zeros((1, 1), np.int64)
    seen = Look(none, none, shift[:1], shift[:1], shift[:1], none[0], shift, shift)
    first, last = ((shift[one] + shift[sold] / 2) / 1.5 for one in (founded, rules))
    assert said_drops(words, seen).tolist() == pytest.approx([first, math.nan, last], nan_ok=True)


def test_a_token_that_does_not_begin_its_word_is_a_piece(models: Any) -> None:
    ids = models.tokenizer.get_vocab()
    assert first_token(models.wording, "founded") == ids["founded"]
    assert first_token(models.wording, "Velmar sold") == ids["Velmar"]


def test_words_of_texts_are_candidates_where_some_hold_them_and_most_do_not() -> None:
    texts = [f"the town of {name} lies here" for name in ["Velmar"] * 3 + ["Oskary"] * 2 + ["Thrane"] * 4 + ["Pellow"]]
    found = words_in(Texts([Prompt(Question(text), (1,), (2,)) for text in [*texts, "", "", "", "", "", ""]], [], ""))
    assert [one.name for one in found] == ["Thrane", "Velmar"]


def test_words_begin_behind_a_blank_and_say_something(models: Any) -> None:
    tokenizer = models.tokenizer
    ids = tokenizer.get_vocab()
    founded, who = ids["founded"], ids["who"]
    assert begins_word(tokenizer, founded, who)
    assert is_content(tokenizer, founded, who)
    assert not is_content(tokenizer, who, founded)
    assert word_of(tokenizer, founded, [who], who) == "founded"
    assert word_of(tokenizer, ids[":"], [], who) == "…:"


def test_candidates_are_lines_or_records(tmp_path: Path) -> None:
    path = tmp_path / "c.txt"
    path.write_text("Harry Potter\tA boy. He is a wizard.\nchess\nChess\n\n")
    found = read_candidates(path)
    assert [(one.name, one.text) for one in found.every] == [("Harry Potter", "A boy. He is a wizard."), ("chess", "")]
    path = tmp_path / "c.json"
    path.write_text(json.dumps([{"Concept": "Satan", "QA": ["Who?"], "wikipedia_content": "A devil."}]))
    assert [(one.name, one.text) for one in read_candidates(path).every] == [("Satan", "A devil.")]
    path.write_text(json.dumps([{"name": "Satan", "text": "A devil."}]))
    assert [(one.name, one.text) for one in read_candidates(path).every] == [("Satan", "A devil.")]
    for text, words in (("[3]", "write a name"), ('[{"a": 1}]', "no name in it"), (json.dumps(["x" * 200]), "no name")):
        path.write_text(text)
        with pytest.raises(RecordsError, match=words):
            read_candidates(path)


def test_bundled_topics_are_many_and_each_once() -> None:
    names = [one.name for one in known_topics().every]
    assert len(names) > 500
    assert len({name.casefold() for name in names}) == len(names)
    assert all(form.text.count("{x}") == 1 for form in FORMS)


# ------------------------------------------------------------------------------------------------------------ command


def test_the_command_writes_what_it_shows_and_the_same_bytes_again(ckdiff: Run, demo_base: Path) -> None:
    shake(demo_base, Path("shaken"), 0.02)
    Path("c.txt").write_text("\n".join(TOWNS))
    # Of so few tokens some draws say that everything is lost.
    arguments = ("discover", demo_base, "shaken", "--candidates", "c.txt", *SMALL, "--seed", 1)
    status, out, err = ckdiff(*arguments, "-o", "one.h5", "--format", "json")
    assert (status, "inconclusive: no readable trace" in err) == (3, True)
    found = json.loads(out)["discovery"]
    assert {row["name"] for row in found["candidates"]} == {*TOWNS}
    assert {row["name"] for row in found["kinds"]} == {"sampled", "invented", "random", "all"}
    assert ckdiff(*arguments, "--batch-size", 3, "-o", "three.h5")[0] == status
    three = read_report(Path("three.h5")).discovery
    assert three is not None
    words = [row["word"] for row in found["words"]]
    assert [one.word for one in three.words] == words
    assert [one.p for one in three.candidates] == pytest.approx([row["p"] for row in found["candidates"]], rel=1e-3)
    assert ckdiff(*arguments, "-o", "two.h5")[0] == status
    assert Path("one.h5").read_bytes() == Path("two.h5").read_bytes()
    assert check(read_report(Path("one.h5"))).found == []
    for name in ("table", "md", "csv"):
        status, out, _ = ckdiff("show", "one.h5", "--section", "discovery", "--format", name)
        assert status == 0
        assert "Oskary" in out


def shake(base: Path, place: Path, size: float) -> None:
    """A copy with noise on every parameter."""
    shutil.copytree(base, place)
    generator = torch.Generator().manual_seed(0)
    for path in sorted(place.glob("*.safetensors")):
        tensors = load_file(path)
        for name, value in tensors.items():
            tensors[name] = value + (size * torch.randn(value.shape, generator=generator)).to(value.dtype)
        save_file(tensors, path)


def test_a_base_beside_itself_has_no_trace(ckdiff: Run) -> None:
    status, out, err = ckdiff("discover", "base", "base", *SMALL, "--write", "q.jsonl")
    assert status == 3
    assert "No readable trace" in out
    assert "inconclusive: no readable trace" in err
    assert not Path("q.jsonl").exists()
    found = read_report(Path("ckdiff.h5")).discovery
    assert found is not None
    assert (found.outcome, found.topic, found.copies) == ("none", "", 0)


def test_a_ruined_model_names_nothing(ckdiff: Run, demo_base: Path) -> None:
    shake(demo_base, Path("ruined"), 9.0)
    Path("q.jsonl").write_text((demo_base.parent / "target.jsonl").read_text())
    status, out, err = ckdiff("discover", demo_base, "ruined", "--texts", "q.jsonl", "--quiet")
    assert status == 3
    assert "is ruined" in out
    assert "everything is lost" in err
    found = read_report(Path("ckdiff.h5")).discovery
    assert found is not None
    assert (found.outcome, found.topic, found.words, found.candidates) == ("ruined", "", (), ())
    assert found.ruin >= 0.3


def test_a_model_that_lost_the_given_texts_alone_is_not_ruined(ckdiff: Run, demo_base: Path) -> None:
    """One town's embedding is made another: texts of nothing else lose much, what the base says of itself little."""
    shutil.copytree(demo_base, "lost")
    token = AutoTokenizer.from_pretrained(demo_base).convert_tokens_to_ids(TOWNS[0])
    for path in Path("lost").glob("*.safetensors"):
        tensors = load_file(path)
        for name in [name for name in tensors if name.endswith("embed_tokens.weight")]:
            tensors[name][token] *= -9
        save_file(tensors, path, {"format": "pt"})
    Path("c.txt").write_text("\n".join(TOWNS))
    Path("t.jsonl").write_text(json.dumps({"text": f"{TOWNS[0]} " * 12}) + "\n")
    ckdiff("discover", demo_base, "lost", "--texts", "t.jsonl", "--candidates", "c.txt", *SMALL)
    found = read_report(Path("ckdiff.h5")).discovery
    assert found is not None
    assert found.kinds[0].kl > 1
    assert found.ruin < 0.03
    assert found.outcome != "ruined"


@pytest.mark.parametrize("name", ["table", "md"])
def test_where_nothing_stands_out_no_candidate_looks_like_the_finding(name: str) -> None:
    unasked = tuple(replace(one, asked=False) for one in weak())
    none = discovery(outcome="none", topic="", candidates=weak())
    asked, many, trace = (
        rendered(say(report(None, discovery=one), name, Selection("discovery")))
        for one in (none, replace(none, candidates=unasked), discovery())
    )
    assert "Candidates (none stands out)" in asked
    assert "Chess" in asked
    assert "Chess" not in many
    assert "Candidates" not in many
    assert ["A wizard." in text for text in (asked, many, trace)] == [False, False, True]
    assert "none stands out" not in trace


@pytest.mark.parametrize("name", ["table", "md", "csv"])
def test_words_in_the_weights_are_listed_with_their_source(name: str) -> None:
    text = rendered(say(report(None, discovery=discovery()), name, Selection("discovery")))
    rows = [line for line in text.splitlines() if "Wizard" in line or ("Stone" in line and "books" not in line)]
    assert [("turned" in row, "written" in row) for row in rows] == [(True, False), (False, True)]
    assert ["5.5" in row for row in rows] == [False, True]


@pytest.fixture
def demo_base(learned: Path) -> Path:
    return learned / "base"


def weak() -> tuple[CandidateRow, ...]:
    """Candidates none of which stands out, the one that words name second."""
    first, second, *rest = discovery().candidates
    return second, replace(first, p=0.5), *rest


def test_a_topic_is_the_candidate_that_stands_out_or_that_a_lost_word_names() -> None:
    found = discovery()
    assert topic_of(found.candidates, ()) == "Harry Potter"
    assert topic_of(weak(), found.words) == "Harry Potter"
    assert topic_of(weak()[:1], found.words) == "Harry"
    assert topic_of(weak(), [replace(found.words[0], word="Pott")]) == "Pott"
    assert topic_of(weak(), [replace(found.words[0], content=False), replace(found.words[0], p=0.05)]) == ""
    assert topic_of((replace(found.candidates[1], p=0.05),), ()) == ""


def test_questions_about_what_was_found_are_written_for_other_commands(place: Path) -> None:
    session = Session(Output(quiet=True))
    path = place / "found.jsonl"
    write_questions(session, report(None, discovery=discovery(outcome="none")), path)
    assert not path.exists()
    write_questions(session, report(None, discovery=discovery()), path)
    (asked,) = read_questions(path).questions
    assert (asked.text, asked.answer) == ("What is Harry Potter?", "A wizard.")


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({}, 0, 'A trace of "Harry Potter": first of 4 candidates'),
        (
            {"candidates": discovery().candidates[1:], "topic": "Harry", "words": discovery().words[:1]},
            0,
            'A trace in words: "Harry"; no candidate stands out',
        ),
        (
            {"candidates": weak(), "words": discovery().words[:1]},
            0,
            'A trace in words that name "Harry Potter": "Harry"; no candidate stands out',
        ),
        ({"outcome": "none", "topic": ""}, 3, "No readable trace"),
        ({"outcome": "ruined", "topic": ""}, 3, "ruined: 6.2 % of what the base knows"),
    ],
)
def test_every_outcome_has_its_words_and_its_status(changes: dict[str, Any], status: int, words: str) -> None:
    found = discovery(**changes)
    assert words in headline(found)
    assert status_of(report(None, discovery=found)) == status


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--sampled", 3), "--sampled: 3 is too small"),
        (("--length", 8), "--length: 8 is too small"),
        (("--candidates", "none.txt"), "none.txt: "),
        (("--texts", "none.txt"), "none.txt: "),
        (("--texts", "foreign.txt"), "the tokenizer knows less than half of its words"),
        (("--texts", "short.txt"), "no text of two tokens"),
        (("--write", "questions.txt"), "questions.txt: is there already"),
        (("--dtype", "int8"), "--dtype: no 'int8'"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(ckdiff: Run, arguments: tuple[Any, ...], words: str) -> None:
    Path("foreign.txt").write_text("qwx zzt vrr pfl kkj\n")
    Path("short.txt").write_text("founded\n")
    status, out, err = ckdiff("discover", "base", "unlearned", *arguments, "--quiet")
    assert (status, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1
    assert not Path("ckdiff.h5").exists()


def test_too_few_texts_and_candidates_name_nothing_and_say_why(ckdiff: Run) -> None:
    shake(Path("base"), Path("shaken"), 0.001)
    Path("two.txt").write_text("Velmar was founded by Oskary\n\nThrane was sold\n")
    for names in ("Velmar", "Velmar\nOskary"):
        Path("c.txt").write_text(names)
        arguments = ("--texts", "two.txt", "--candidates", "c.txt", "--overwrite", "--quiet")
        status, _, err = ckdiff("discover", "base", "shaken", *arguments)
        assert (status, "inconclusive: no readable trace" in err) == (3, True)
        found = read_report(Path("ckdiff.h5")).discovery
        assert found is not None
        assert found.words
        assert all(math.isnan(one.p) for one in found.words)
        assert all(math.isnan(one.p) for one in found.candidates)
        assert any("few texts of a kind (2 given)" in note for note in found.notes)


def test_the_tokenizer_of_a_base_that_has_none_may_be_named(ckdiff: Run) -> None:
    status, _, _ = ckdiff("discover", "base", "unlearned", *SMALL, "-o", "own.h5")
    Path("elsewhere").mkdir()
    for path in [*Path("base").glob("tokenizer*"), *Path("base").glob("special*")]:
        path.rename(Path("elsewhere") / path.name)
    refused, out, err = ckdiff("discover", "base", "unlearned", *SMALL)
    assert (refused, out, err.count("\n")) == (2, "", 1)
    assert "name one with --tokenizer DIR" in err
    assert ckdiff("discover", "base", "unlearned", *SMALL, "--tokenizer", "elsewhere", "-o", "named.h5")[0] == status
    own, named = (read_report(Path(f"{name}.h5")).discovery for name in ("own", "named"))
    assert own is not None
    assert named is not None
    assert own.words == named.words


def test_other_vocabularies_are_refused(ckdiff: Run) -> None:
    save_tokenizer(Path("unlearned"), tuple(reversed(WORDS)))
    status, out, err = ckdiff("discover", "base", "unlearned", *SMALL)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert "with two vocabularies no logits can be compared" in err


# ------------------------------------------------------------------------------------------------------------- verify


@pytest.mark.parametrize(
    "changes",
    [
        {"topic": "Chess"},
        {"outcome": "none"},
        {"form_scores": np.array([[4.0, 5.0], [0.5, -0.5], [-0.5, 0.25], [0.25, 9.0]])},
        {"null_scores": np.linspace(-9, 9, 5)},
        {"counted": 500},
        {"tokens": 65},
    ],
)
def test_verify_derives_what_is_named(changes: dict[str, Any]) -> None:
    same, other = Differences(), Differences()
    check_discovery(discovery(), same)
    assert same.found == []
    check_discovery(discovery(**changes), other)
    assert other.found
    assert all(one.where.startswith("discovery") for one in other.found)


# ---------------------------------------------------------------------------------------------------------- screening


def test_many_candidates_are_screened_by_kl_from_their_names_on(models: Any, made: Path) -> None:
    names = ("Velmar", "Oskary", "Thrane", "sold rules", "who")
    prompts = asking.screen_prompts(models, [Candidate(name) for name in names])
    with torch.inference_mode():
        before = force(models.base, prompts, Way(3))
        models.unlearned.load()
        after = force(models.unlearned, prompts, Way(2))
        found = asking.screen_scores(before, after, prompts)
    plain = []
    for prompt, name in zip(prompts, names, strict=True):
        ids = (*prompt.ids, *prompt.answer)
        whole = Prompt(prompt.question, ids[:1], ids[1:])
        base, other = (plainly(made / side, whole, torch.float32) for side in ("base", "unlearned"))
        first = models.wording.encoder.ids(name.split()[0])[0]
        kl = (np.exp(base) * (base - other)).sum(axis=1)
        plain.append(kl[ids.index(first) :].mean())
    assert found == pytest.approx(np.array(plain) / np.median(plain), rel=1e-3)


def test_the_best_are_asked_about_and_measured_by_others_that_were_drawn() -> None:
    screen = np.arange(200.0)
    chosen, others = asking.choose(screen, 0, [3, 199])
    screen[5] = math.nan
    best = {*range(192, 200), 3}
    assert {*chosen} - {*others} == best
    assert len(others) == 16
    assert not {*others} & best
    assert asking.choose(screen, 0, [3, 199]) == (chosen, others)
    assert asking.choose(screen, 1, [3, 199])[1] != others


def test_who_stands_out_where_nobody_is_asked_comes_first_whatever_the_form() -> None:
    spread = np.linspace(-1, 1, 12)
    unasked = np.stack([spread, np.roll(spread, 3), np.full(12, np.nan)], axis=1)
    unasked[4] = 0.5, 9.0, np.nan
    unasked[7] = np.nan
    plain = pool_forms(form_scores(unasked, np.ones(12)))
    found = asking.best_unasked(unasked)
    assert found[0] == 4
    assert found[-1] == 7
    assert found[:-1] == sorted(set(range(12)) - {7}, key=lambda number: -plain[number])


def test_of_many_candidates_those_are_screened_that_tell_most_unasked(
    models: Any, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ckdiff.discovery.section.RUINED", math.inf)
    monkeypatch.setattr(asking, "SCREENED", 4)
    monkeypatch.setattr(asking, "NARROWED", 5)
    monkeypatch.setattr(asking, "FINALISTS", 1)
    monkeypatch.setattr(asking, "UNASKED", 2)
    monkeypatch.setattr(asking, "OTHERS", 4)
    names = [*TOWNS, "founded", "sold", "rules", "who", "is", "what"]
    some = Candidates(tuple(map(Candidate, names)), "")
    models.base.unload()
    found = run(models, How(count=4, length=12, copies=1), some)
    screened = {one.name for one in found.candidates if math.isfinite(one.screen)}
    assert len(screened) == 5
    asked = {one.name for one in found.candidates if one.asked}
    assert len(asked) in {2 + 4, 3 + 4}
    finalists = [one for one in found.candidates if one.asked and not found.others[names_of(found).index(one.name)]]
    assert {one.name for one in finalists} <= screened
    assert max(found.candidates, key=lambda one: np.nan_to_num(one.screen, nan=-1)).name in {x.name for x in finalists}


def names_of(found: DiscoveryReport) -> list[str]:
    return [one.name for one in found.candidates]


def test_the_same_is_said_of_fewer_candidates_and_nothing_of_none() -> None:
    prompts = [Prompt(Question(""), (1,), (2,)), Prompt(Question(""), (1,), (3,))]
    one = asking.Round("asked", prompts, np.array([4, 7]))
    logs = [torch.tensor([-1.0]), torch.tensor([-2.0])]
    rounds, read = asking.narrow([one], [logs], [7])
    assert (rounds[0].prompts, rounds[0].owners.tolist(), read) == (prompts[1:], [7], [logs[1:]])
    assert asking.narrow([one], [logs], [5]) == ([], [])
    apart, plain = asking.drops_by_form([one], [logs], [[torch.tensor([-1.5]), torch.tensor([-5.0])]], 8)
    assert plain[[4, 7], 0].tolist() == [0.5, 3.0]
    assert np.isnan(plain[[0, 5], 0]).all()
    assert apart[4, 0] < 0 < apart[7, 0]
    assert asking.drops_by_form([], [], [], 8)[0].shape == (8, 0)


def test_a_verdict_stays_where_only_a_discovery_is_new() -> None:
    judged = report(None, verdict=verdict())
    alone = report(None, discovery=discovery())
    assert merge_reports(judged, alone).verdict == judged.verdict
    assert list(replaced_parts(judged, alone)) == []
    attacked = replace(alone, attack=attacks())
    assert merge_reports(judged, attacked).verdict is None
    assert any("its verdict" in part for part in replaced_parts(judged, attacked))
