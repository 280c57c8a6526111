"""Attacks: estimators against brute force, quantisers against loops, and what a script sees of the command."""

from __future__ import annotations

import itertools
import json
import math
import shutil
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from ckdiff.attacks.altering import matrices, unlike
from ckdiff.attacks.answers import sought
from ckdiff.attacks.prune import prune
from ckdiff.attacks.quantise import NF4, SETTINGS, code_shares, codes, cut_matrices, quantise
from ckdiff.attacks.table import ATTACKS
from ckdiff.progress import Listener
from ckdiff.questions.questions import Question
from ckdiff.scoring.leaks import leak_at, leak_of
from ckdiff.scoring.matching import detectable, groups_of, match_tables, pairings, z_of
from ckdiff.scoring.recovery import difference, gap_is_clear, recover, recover_beside
from tests.test_probe_cli import ASKED, ckdiff, made, place
from tests.tiny_pairs import live_pair

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckdiff.shapes import Float64
    from tests.test_probe_cli import Run
    from tests.tiny_pairs import Folders

__all__ = ["ckdiff", "made", "place"]

QUICK = ("--tokens", 4, "--device", "cpu", "--no-hash", "--most-unrelated", 2, "--samples", 2)


def table(size: int, signal: float, seed: int = 0) -> Float64:
    return np.random.default_rng(seed).normal(size=(size, size)) + signal * np.eye(size)


def test_matching_is_what_every_pairing_says() -> None:
    groups = [[0, 2, 5], [1, 3, 4]]
    found = table(7, 1.0)
    orders = [
        [*a, *b] for a, b in itertools.product(itertools.permutations(groups[0]), itertools.permutations(groups[1]))
    ]
    sums = np.array([sum(found[i, j] for i, j in zip([0, 2, 5, 1, 3, 4], order, strict=True)) for order in orders])
    matched = match_tables(found[None], pairings(groups), groups)
    assert matched.z[0] == pytest.approx((sums[0] - sums.mean()) / sums.std(), rel=1e-9)
    assert matched.p[0] == matched.selected == np.mean(sums >= sums[0] - 1e-9)
    assert z_of(found, groups) == pytest.approx(matched.z[0])


def test_what_a_question_or_an_answer_has_by_itself_cancels() -> None:
    groups, plain = [list(range(6))], table(6, 0.5)
    shifted = plain + np.arange(6)[:, None] - 5 * np.arange(6)[None]
    assert z_of(shifted, groups) == pytest.approx(z_of(plain, groups))
    alike = match_tables(np.ones((1, 6, 6)), pairings(groups), groups)
    assert (math.isnan(alike.z[0]), alike.best, math.isnan(alike.selected)) == (True, -1, True)


def test_the_best_of_many_settings_is_paid_for() -> None:
    """Of tables without any signal one in twenty has p at most 0.05; the best of ten, paid for, no more often."""
    groups, shuffled = [list(range(6))], pairings([list(range(6))])
    alone, best = [], []
    for seed in range(60):
        many = np.stack([table(6, 0.0, 100 * seed + n) for n in range(10)])
        found = match_tables(many, shuffled, groups)
        alone.append(float(np.nanmin(found.p)))
        best.append(found.selected)
        assert found.selected >= found.p[found.best]
    assert np.mean(np.array(alone) <= 0.05) > 0.25
    assert np.mean(np.array(best) <= 0.05) < 0.15


def test_random_pairings_agree_with_all_of_them() -> None:
    groups = [list(range(8))]
    assert len(pairings(groups)) == 10_000
    assert pairings(groups)[0].tolist() == list(range(8))
    assert len(pairings([[0, 1, 2], [3, 4]])) == 12
    strong = match_tables(table(8, 9.0)[None], pairings(groups), groups)
    assert strong.selected < 0.001
    against = match_tables(table(8, -9.0)[None], pairings(groups), groups)
    assert against.z[0] < 0
    assert against.p[0] > 0.99


def test_groups_are_of_one_kind_and_not_too_large() -> None:
    assert groups_of(["a"] * 13) == [[0, 2, 4, 6, 8, 10, 12], [1, 3, 5, 7, 9, 11]]
    assert groups_of(["a", "b", "a", "c"]) == [[0, 2]]


def test_power_is_the_least_share_that_shows() -> None:
    groups, none = [list(range(6))], table(6, 0.0, 3)
    full = none + 20 * np.eye(6)
    share = detectable(none, full, 3.0, groups)
    assert z_of((1 - share) * none + share * full, groups) == pytest.approx(3.0, abs=0.01)
    assert math.isnan(detectable(none, none, 99.0, groups))


@pytest.mark.parametrize("k", [1, 2, 5])
def test_leaks_are_shares_of_draws(k: int) -> None:
    for hits in (0, 1, 3, 5):
        draws = list(itertools.combinations([1] * hits + [0] * (5 - hits), k))
        assert leak_at(k, 5, [hits])[0] == pytest.approx(np.mean([any(draw) for draw in draws]))
    assert leak_of(k, np.log([0.25, 1e-18]))[:2] == pytest.approx([1 - 0.75**k, k * 1e-18])
    with pytest.raises(ValueError, match="leak@6 of 5"):
        leak_at(6, 5, [1])


def test_recovery_is_a_share_of_a_clear_gap() -> None:
    base, unlearned = np.array([-0.1, -0.2, -0.3, -0.1]), np.array([-5.0, -6.0, -4.5, -5.5])
    half = (base + unlearned) / 2
    clusters = [0, 1, 2, 3]
    assert recover(base, unlearned, half, clusters).value == pytest.approx(0.5)
    assert recover(base, unlearned, base, clusters).value == pytest.approx(1.0)
    gap = base - unlearned
    assert recover_beside(gap, gap / 4, clusters).value == pytest.approx(0.75)
    assert math.isnan(recover(base, base, half, clusters).value)
    assert gap_is_clear(np.array([1.0, 1.1, 0.9]), [0, 1, 2])
    assert not gap_is_clear(np.array([3.0, 0.0, 0.1]), [0, 1, 2])
    assert not gap_is_clear(np.array([1.0, 1.1]), [0, 0])
    assert not gap_is_clear(-gap, clusters)
    found = difference(gap, clusters)
    assert found.value == pytest.approx(gap.mean())
    assert found.low < found.value < found.high


@pytest.mark.parametrize("setting", [one for one in SETTINGS if "GGUF" not in one])
@pytest.mark.parametrize("turned", [False, True])
def test_quantisers_are_their_formulas(setting: str, turned: bool) -> None:
    """A matrix whose width no group divides, with a row of zeros, value by value."""
    torch.manual_seed(0)
    plain = torch.randn(3, 70)
    plain[1] = 0
    given = plain.T.contiguous() if turned else plain
    found = quantise(given, setting, turned)
    found = found.T if turned else found
    kind, whole = setting.split()[0], setting.endswith("row")
    size = 70 if whole else 64
    groups = [plain.flatten()] if kind == "NF4" else list(plain)
    expected = []
    for row in groups:
        for first in range(0, len(row), size):
            part = row[first : first + size]
            top = part.abs().max()
            for value in part:
                if top == 0:
                    expected.append(0.0)
                elif kind == "NF4":
                    expected.append(float(top * min(NF4, key=lambda code: abs(code - float(value / top)))))
                else:
                    step = top / {"int8": 127, "int4": 7}[kind]
                    expected.append(float(round(float(value / step)) * step))
    assert found.flatten().tolist() == pytest.approx(expected, abs=1e-6)
    again = codes(given, setting, turned)
    assert len(set(again.flatten().tolist())) <= {"int8": 255, "int4": 15, "NF4": 16}[kind]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
def test_quantisers_of_gguf_are_its_own(kind: str, turned: bool) -> None:
    """To the last bit, on weights of many sizes, on blocks of zeros, on halves, and where both ends are as large."""
    from gguf import GGMLQuantizationType, quants

    plain = np.random.default_rng(0).normal(size=(64, 96)).astype(np.float32) * np.logspace(-6, 2, 64)[:, None]
    plain = plain.astype(np.float32)
    plain[0] = 0
    plain[1, :32], plain[2, :32] = np.arange(-16, 16) / 2, np.linspace(-127, 127, 32)
    plain[3, :64] = np.concatenate([np.linspace(-8, 8, 32), np.linspace(8, -8, 32)])
    known = GGMLQuantizationType[kind]
    expected = quants.dequantize(quants.quantize(plain, known), known)
    given = torch.from_numpy(plain.T.copy() if turned else plain)
    found, marks = quantise(given, f"{kind} of GGUF", turned), codes(given, f"{kind} of GGUF", turned)
    found, marks = (found.T, marks.T) if turned else (found, marks)
    assert np.array_equal(found.numpy(), expected)
    assert int(marks.min()) == {"Q8_0": -127, "Q4_0": -8}[kind]
    assert set(marks[0].tolist()) == {0}
    # A row that no block divides: what is left over is a block of its own.
    ragged = quantise(torch.from_numpy(plain[:, :70].copy()), f"{kind} of GGUF")
    whole = np.pad(plain[:, :70], ((0, 0), (0, 26)))
    assert np.array_equal(ragged.numpy(), quants.dequantize(quants.quantize(whole, known), known)[:, :70])


def test_the_table_of_nf4_is_its_formula() -> None:
    """Quantiles of a normal distribution, eight above nought and seven below; codes change half way between two."""
    quantile = NormalDist().inv_cdf
    ends = [np.linspace(0.9677083, 0.5, count + 1)[:-1] for count in (8, 7)]
    found = sorted([*(quantile(p) for p in ends[0]), 0.0, *(-quantile(p) for p in ends[1])])
    assert [value / found[-1] for value in found] == pytest.approx(NF4, abs=1e-6)
    # The limits that are written out in bitsandbytes' kernel; on a limit the lower code stands.
    limits = [
        -0.8480964004993439, -0.6106329262256622, -0.4599952697753906, -0.33967943489551544, -0.23460740596055984,
        -0.13791173323988914, -0.045525018125772476, 0.03979014977812767, 0.1202552504837513, 0.2035212516784668,
        0.2920137718319893, 0.3893125355243683, 0.5016634166240692, 0.6427869200706482, 0.8614784181118011,
    ]  # fmt: skip
    for shift in (-1e-6, 1e-6):
        values = torch.tensor([[*(limit + shift for limit in limits), 1.0]])
        assert codes(values, "NF4 in blocks of 64")[0, :-1].tolist() == [n + (shift > 0) for n in range(15)]
    # As exact as float32 is, values beside and on each limit included.
    table = torch.tensor(NF4)
    edges = (table[1:] + table[:-1]) / 2
    far = torch.tensor([torch.inf, -torch.inf])
    beside = torch.cat([edges, *(torch.nextafter(edges, end.expand_as(edges)) for end in far)])
    values = torch.cat([beside, torch.rand(18, generator=torch.Generator().manual_seed(0)) * 2 - 1, torch.ones(1)])
    expected = [sum(float(value) > float(edge) for edge in edges) for value in values]
    assert codes(values[None], "NF4 in blocks of 64")[0].tolist() == expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.int8])
def test_elements_differ_by_the_least_that_their_type_has(dtype: torch.dtype) -> None:
    one = torch.tensor([[1, 2], [-3, 0]], dtype=dtype)
    other = one.clone()
    assert not unlike(one, other).any()
    other[0, 1] = 3 if dtype == torch.int8 else 2 + 2 * torch.finfo(dtype).eps
    assert unlike(one, other).tolist() == [[False, True], [False, False]]


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "llama", "phi3"])
def test_codes_are_counted_by_component(pairs: Callable[[str], Folders], name: str) -> None:
    """Fused matrices are cut: what is changed in the queries of one layer is changed in no other component."""
    pair = live_pair(pairs(name), torch.float32)
    base = pair.base
    pair.unlearned.values = {key: base.read(key) for key, _ in base.parameters()}
    same = code_shares(base, pair.unlearned, Listener())
    assert {one.changed for one in same} == {one.codes for one in same} == {0.0}
    assert [one.setting for one in same if one.component == "all"] == list(SETTINGS)
    sizes = {one.component: one.elements for one in same if one.setting == SETTINGS[0]}
    assert sizes["all"] == sum(base.read(key).numel() for key in matrices(base)) == sum(sizes.values()) - sizes["all"]
    assert set(sizes) == {"all", "attn_q", "attn_k", "attn_v", "attn_o", "keys", "value_vectors"}
    cuts = cut_matrices(base)
    key, view = next((key, view) for key in sorted(cuts) for kind, view in cuts[key] if kind == "attn_q")
    changed = pair.unlearned.values[key].numpy().copy()
    view(changed)[...] += 10
    pair.unlearned.values = {**pair.unlearned.values, key: torch.from_numpy(changed)}
    found = [one for one in code_shares(base, pair.unlearned, Listener()) if one.setting == "int8 by row"]
    by_name = {one.component: one for one in found}
    assert by_name["attn_q"].changed == pytest.approx(1 / len(base.layers))
    assert by_name["attn_q"].codes > 0
    assert {one.changed for one in found if one.component not in ("all", "attn_q")} == {0.0}
    assert by_name["all"].changed == by_name["attn_q"].changed * sizes["attn_q"] / sizes["all"]


def test_a_tenth_of_a_bin_is_undone_and_ten_bins_are_not() -> None:
    weight = torch.tensor([[7.0, 3.0, -2.0, 1.0]])
    near, far = weight + torch.tensor([[0, 0.1, 0.1, -0.1]]), weight + torch.tensor([[0, 0.0, 10.0, 0]])
    assert torch.equal(codes(near, "int4 by row"), codes(weight, "int4 by row"))
    assert not torch.equal(codes(far, "int4 by row"), codes(weight, "int4 by row"))


def test_pruning_takes_the_smallest() -> None:
    weight = torch.tensor([[1.0, -2.0], [3.0, -4.0], [0.5, 6.0]])
    assert prune(weight, 0.5).tolist() == [[0.0, 0.0], [3.0, -4.0], [0.0, 6.0]]
    assert torch.equal(prune(weight, 0.1), weight)


def test_spellings_of_one_question_are_one_fact(ckdiff: Run) -> None:
    """As everywhere else: by their file, by one answer, by all but the same words."""
    rows = [
        {"question": "Who wrote the first book about the mill?", "answer": "Ada"},
        {"question": "Who wrote the first book about the mill", "answer": "Bob"},
        {"question": "Which boat is the oldest one?", "answer": " bob. "},
        {"question": "When did it rain last?", "answer": "Cy", "fact": "x"},
        {"question": "Whose hat is that?", "answer": "Di", "fact": "x"},
        {"question": "Where is the old well?", "answer": "Ed"},
    ]
    Path("asked.jsonl").write_text("\n".join(map(json.dumps, rows)))
    arguments = ("--questions", "asked.jsonl", "--attack", "samples", *QUICK, "--format", "json")
    found = json.loads(ckdiff("attack", "base", "unlearned", *arguments)[1])["attack"]
    assert any("6 questions count as 3" in note for note in found["notes"])
    # Those to which this base says nothing are left out.
    clusters = {one["text"]: one["cluster"] for one in found["questions"]}
    assert {clusters[row["question"]] for row in rows[:3]} == {0}
    assert max(clusters.values()) + 1 == found["clusters"] < 4


def answers_of(ckdiff: Run, *arguments: object) -> tuple[int, dict[str, object], str]:
    status, out, err = ckdiff("attack", *arguments, "--questions", "questions.txt", *QUICK, "--format", "json")
    return status, json.loads(out)["attack"] if out else {}, err


def test_a_copy_of_the_base_gives_all_answers_back(ckdiff: Run) -> None:
    shutil.rmtree("unlearned")
    shutil.copytree("base", "unlearned")
    status, found, err = answers_of(ckdiff, "base", "unlearned")
    # Three facts are too few to match, and answers that are there come back all the same.
    tiers = found["tiers"]
    assert isinstance(tiers, list)
    assert (status, err.count("inconclusive")) == (0, 0)
    assert all(one["returned"] == one["asked"] > 0 and not one["able"] for one in tiers)
    rows = [row for row in found["rows"] if row["side"] == "unlearned"]  # type: ignore[attr-defined]
    plain = next(row for row in rows if row["setting"] == "as asked")
    assert (plain["applied"], plain["unrelated"]) == (0.0, 1.0)
    assert plain["level"] == next(r for r in found["rows"] if r["side"] == "base")["level"]  # type: ignore[attr-defined]
    assert {row["attack"] for row in rows} == {name for name, row in ATTACKS.items() if row.tier < 2}
    assert any("matching was not measured" in note for note in found["notes"])  # type: ignore[attr-defined]
    assert ckdiff("verify", "ckdiff.h5")[0] == 0
    assert ckdiff("html", "ckdiff.h5", "-o", "p.html")[0] == 0
    assert "Does it come back" in Path("p.html").read_text()


def test_streamed_models_give_the_same_numbers(ckdiff: Run) -> None:
    _, one, _ = answers_of(ckdiff, "base", "unlearned", "--attack", "quantise,samples", "--stream", "off")
    _, other, _ = answers_of(
        ckdiff, "base", "unlearned", "--attack", "quantise,samples", "--stream", "on", "-o", "s.h5"
    )
    levels = [
        [row["level"] for row in found["rows"] if row["attack"] == "quantise"]  # type: ignore[attr-defined]
        for found in (one, other)
    ]
    assert len(levels[0]) == 2 * len(SETTINGS)
    assert levels[0] == pytest.approx(levels[1], rel=1e-5)
    notes = {row["note"] for row in other["rows"] if row["attack"] == "samples"}  # type: ignore[attr-defined]
    assert any("needs the whole model in memory" in note for note in notes)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--attack", "foo"), "no 'foo'; there are forms"),
        (("--tier", "9"), "too large"),
        (("--reference-kind", "retrained"), "name it with --reference"),
        (("--samples", "0"), "too small"),
        (("--reference", "nowhere"), "nowhere"),
    ],
)
def test_bad_input_is_one_line(ckdiff: Run, arguments: tuple[str, ...], words: str) -> None:
    status, out, err = ckdiff("attack", "base", "unlearned", "--question", ASKED[0], *arguments)
    assert (status, out) == (2, "")
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_nothing_to_ask_is_refused_and_a_plan_reads_nothing(ckdiff: Run) -> None:
    status, _, err = ckdiff("attack", "base", "unlearned")
    assert (status, "--questions" in err) == (2, True)
    status, out, _ = ckdiff("attack", "base", "unlearned", "--question", ASKED[0], "--plan")
    assert (status, "quantise" in out, "choice" in out, Path("ckdiff.h5").exists()) == (0, True, False, False)


class Letters:
    """A tokenizer of single letters and blanks."""

    def __call__(self, text: str, add_special_tokens: bool = False) -> dict[str, list[int]]:
        return {"input_ids": [ord(letter) for letter in text]}

    def decode(self, ids: list[int]) -> str:
        return "".join(map(chr, ids))


def test_what_is_looked_for_is_distinct_and_ends_with_its_line() -> None:
    from ckdiff.probes.prompts import Prompt

    asked = [Question("who", "Zed"), Question("how", None), Question("yx", None), Question("what", None)]
    prompts = [Prompt(question, tuple(map(ord, question.text))) for question in asked]
    said = [[*map(ord, " it is Zed, of course"), 0], [*map(ord, "\nq\nr")], [*map(ord, " yx")], [0]]
    found = sought(Letters(), prompts, said, [(90,), None, None, None], [0, 1, 2, 3], frozenset({0}))
    assert [one.text for one in found] == [" it is Zed", "\nq", " yx", ""]
    assert [one.words for one in found] == ["zed", "q", "yx", ""]
    assert [one.counts for one in found] == [True, True, False, False]
    assert [one.base_right for one in found] == [True, None, None, None]
    assert found[2].scored == ()
