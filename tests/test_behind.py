"""Prompts read once for all their answers: what each text has by itself, in every family, in fewer positions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from ckdiff.probes.assembly import NotFiniteError
from ckdiff.probes.behind import BRANCHES, force_alike, read_answers
from ckdiff.probes.forcing import Way, force, read_apart
from ckdiff.probes.live.model import LiveModel
from ckdiff.probes.live.together import FORWARD
from ckdiff.probes.prompts import Prompt
from ckdiff.questions.questions import Question
from ckdiff.weights.opening import open_checkpoint
from tests.test_live_model import live, loaded
from tests.tiny_families import ALL
from tests.tiny_pairs import CPU

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckdiff.probes.live.unembedding import Unembedding
    from tests.tiny_pairs import Folders

    Pairs = Callable[[str], Folders]

# Windows that slide (of four tokens), positions that are learned, ALiBi, windows of gpt_neo's own, mixtures.
FEW = ("llama", "mistral", "gemma3_text", "gpt2", "bloom", "falcon-heads", "gpt_neo", "gpt_oss")
NAMES = [name if name in FEW else pytest.param(name, marks=pytest.mark.thorough) for name in ALL]
DRAWN = np.random.default_rng(0)
ASKED = [tuple(DRAWN.integers(3, 70, size).tolist()) for size in (5, 12, 30, 3, 31)]
SAID = [tuple(DRAWN.integers(3, 70, size).tolist()) for size in (1, 2, 14, 6, 9)]
ALONE = Prompt(Question(""), (7, 8, 9, 10), (11, 12))
TEXTS = [*(Prompt(Question(""), ids, answer) for ids in ASKED for answer in SAID), ALONE]


def sizes(
    model: LiveModel, way: Way, texts: list[Prompt] = TEXTS, read: Callable[..., Any] = read_answers
) -> list[tuple[int, ...]]:
    """Rows and positions of every forward through the layers."""
    found: list[tuple[int, ...]] = []

    def note(module: Any, args: Any) -> None:
        # Not where a stub stands for the layer, to try what comes behind.
        if "forward" not in vars(module):
            found.append(tuple(args[0].shape[:2]))

    hook = model.layers[0].register_forward_pre_hook(note)
    try:
        read(model, texts, way)
    finally:
        hook.remove()
    return found


@pytest.mark.parametrize("name", NAMES)
def test_each_answer_is_read_as_by_itself(pairs: Pairs, name: str) -> None:
    model, done = loaded(pairs(name).base), list[int]()
    with torch.inference_mode():
        for way in (Way(32), Way(2)):
            found, expected = read_answers(model, TEXTS, way, done.append), read_apart(model, TEXTS, Way(1))
            assert done.pop() == len(TEXTS)
            for one, other in zip(found, expected, strict=True):
                assert torch.allclose(one.log_p, other.log_p, atol=1e-5)
                assert torch.equal(one.first, other.first)


BEGUN = tuple(DRAWN.integers(3, 70, 14).tolist())
ALIKE = [
    Prompt(Question(""), (*BEGUN, *end), answer)
    for end in ((5, 6), (5, 9, 4), (11, 2, 3), (8, 8))
    for answer in SAID[:3]
]


@pytest.mark.parametrize("name", NAMES)
def test_what_prompts_begin_with_alike_is_read_once(pairs: Pairs, name: str) -> None:
    model = loaded(pairs(name).base)
    with torch.inference_mode():
        found, expected = read_answers(model, ALIKE, Way(32)), read_apart(model, ALIKE, Way(1))
        read = sizes(model, Way(32), ALIKE)
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one.log_p, other.log_p, atol=1e-5)
        assert torch.equal(one.first, other.first)
    if name == "llama":
        # Fourteen tokens of one text, and what each of the four has more, with pads; then all answers' first tokens.
        assert read == [(1, 14), (4, 3), (8, 1), (4, 13)]


STEM = SAID[2]
BRANCHED = [
    Prompt(Question(""), ids, answer)
    for ids in (ASKED[1], ASKED[0], ASKED[3], ASKED[1][:-1])
    for answer in (STEM, (*STEM[:9], 5, 6), (*STEM[:9], 5, 8, 11), STEM[:6], (*STEM[:3], 40, 41), (9, 8, 7), (9,))
]


@pytest.mark.parametrize("name", NAMES)
def test_what_answers_begin_with_alike_is_read_once(pairs: Pairs, name: str) -> None:
    """As branches of a row, where each sees its own beginnings alone; one answer is another's beginning."""
    model = loaded(pairs(name).base)
    with torch.inference_mode():
        expected = read_apart(model, BRANCHED, Way(1))
        for way in (Way(32), Way(2)):
            found = read_answers(model, BRANCHED, way)
            for one, other in zip(found, expected, strict=True):
                assert torch.allclose(one.log_p, other.log_p, atol=1e-5)
                assert torch.equal(one.first, other.first)
        rows = sizes(model, Way(32), BRANCHED)
    if name == "llama":
        assert (rows, model.branches) == ([(4, 12), (4, 18)], 12 + 18)
    elif name in ("mistral", "gpt_neo", "falcon-heads"):
        # A window forgets by places in a row, in a cache or by itself; ALiBi makes places of the mask.
        assert all(len(row) == 2 and row[1] < 18 for row in rows[1:]) or rows[1] == (22, 18)
        assert model.branches == (None if name == "gpt_neo" else 0)


def branched(
    pairs: Pairs, shares: int, own: int, texts: int = 2, dtype: torch.dtype = torch.float32, most: int = 32
) -> Any:
    """Rows and positions where so many tokens of so many answers behind a prompt are shared, and so many are not."""
    model = LiveModel(open_checkpoint(str(pairs("llama").base)), dtype, CPU)
    model.load()
    begun = tuple(DRAWN.integers(3, 70, shares).tolist())
    answers = [(*begun, *(10 + text for _ in range(own)), 5) for text in range(texts)]
    given = [Prompt(Question(""), ASKED[0], answer) for answer in answers]
    with torch.inference_mode():
        tried = sizes(model, Way(most), given)
        return sizes(model, Way(most), given)[1:], tried[2:]


def test_branches_are_made_where_they_save_a_forward(pairs: Pairs) -> None:
    assert branched(pairs, FORWARD, 2)[0] == [(2, FORWARD + 2)]
    # The first time a text is read by itself as well, to see that it sees no other.
    assert branched(pairs, FORWARD + 1, 2) == ([(1, FORWARD + 5)], [(1, FORWARD + 3)])
    assert branched(pairs, FORWARD + 1, 2, dtype=torch.bfloat16)[0] == [(2, FORWARD + 3)]


def test_a_row_of_branches_has_an_end(pairs: Pairs) -> None:
    assert branched(pairs, 60, 34)[0] == [(1, BRANCHES)]
    # Of three the last one does not go in; nor does another text, where no more may go together.
    assert sorted(branched(pairs, 60, 34, 3)[0]) == [(1, 94), (1, BRANCHES)]
    assert branched(pairs, 61, 34)[0] == [(2, 95)]
    assert branched(pairs, 40, 2, 3, most=2)[0] == [(1, 42), (1, 44)]


def test_branches_are_tried_anew_where_texts_are_longer(pairs: Pairs) -> None:
    """Some windows reach far: what was exact behind a short prompt need not be behind a long one."""
    model, answers, found = loaded(pairs("llama").base), [(*SAID[2] * 3, 5, end, 7) for end in (8, 9)], list[int]()
    with torch.inference_mode():
        for length in (20, 21, 20, 21, 22):
            found.append(len(sizes(model, Way(32), [Prompt(Question(""), ASKED[2][:length], a) for a in answers])))
    assert found == [3, 3, 2, 2, 3]
    assert model.branches == 22 + 45


def test_what_a_window_forgets_is_read_by_itself(pairs: Pairs) -> None:
    model, texts = loaded(pairs("mistral").base), BRANCHED[:7]
    with torch.inference_mode():
        found, expected = read_answers(model, texts, Way(32)), read_apart(model, texts, Way(1))
    assert all(torch.allclose(a.log_p, b.log_p, atol=1e-5) for a, b in zip(found, expected, strict=True))
    assert model.branches == 0


OTHERS = [ALONE, Prompt(Question(""), BEGUN[:9], SAID[1]), Prompt(Question(""), BEGUN[:7], SAID[2]), ALIKE[0]]


@pytest.mark.parametrize("name", NAMES)
def test_what_goes_into_the_unembedding_is_that_of_each_text_by_itself(pairs: Pairs, name: str) -> None:
    """Whatever else begins as it does, and behind whatever others stand that do not."""
    model = loaded(pairs(name).base)
    with torch.inference_mode():
        for texts, size in (([OTHERS[0], *ALIKE, *OTHERS[2:]], 32), (OTHERS, 2), (OTHERS[:1], 1)):
            found, expected = force_alike(model, texts, Way(size)), force(model, texts, Way(1))
            assert torch.allclose(found.hidden, expected.hidden, atol=1e-5)
            assert torch.equal(found.head.weight, expected.head.weight)
        if name == "llama":
            # Fourteen tokens of one text, then what each has behind them, by length; what begins otherwise by itself.
            assert sizes(model, Way(32), ALIKE, force_alike) == [(1, 14), (8, 4), (4, 16)]
            assert sizes(model, Way(32), OTHERS, force_alike)[:2] == [(1, 9), (2, 7)]


def test_no_prompt_is_read_twice(pairs: Pairs) -> None:
    model = loaded(pairs("llama").base)
    with torch.inference_mode():
        found = sizes(model, Way(32))
        # With so many pads prompts go together, and behind them answers of like length, whatever stands before them.
        assert found == [(4, 12), (7, 1), (6, 8), (3, 13), (2, 31), (8, 8), (2, 13)]
        positions = sum(rows * width for rows, width in found)
        assert positions < 0.75 * sum(one.length for one in TEXTS)
        assert max(rows for rows, _ in sizes(model, Way(2))) == 2
        # A prompt with one answer goes with others, and by itself where there are none.
        single = [one for one in TEXTS if one.answer == SAID[2]]
        assert sizes(model, Way(32), single) == [(3, 12), (3, 13), (2, 31), (2, 13)]
        assert sizes(model, Way(32), [ALONE]) == [(1, ALONE.length)]


@pytest.mark.parametrize("name", ["mistral", "gemma3_text", "gpt_oss"])
def test_a_window_looks_back_as_far_beyond_a_gap(pairs: Pairs, name: str) -> None:
    """Prompts that a window of four tokens holds, one with a gap before it, and answers that it does not hold."""
    model = loaded(pairs(name).base)
    texts = [Prompt(Question(""), ids, answer) for ids in ((9, 4), (7, 8, 9)) for answer in SAID]
    with torch.inference_mode():
        found, expected = read_answers(model, texts, Way(32)), read_apart(model, texts, Way(1))
        assert sizes(model, Way(32), texts)[0] == (2, 3)
    assert all(torch.allclose(a.log_p, b.log_p, atol=1e-5) for a, b in zip(found, expected, strict=True))


class Counting(LiveModel):
    """A model that counts how often its unembedding is looked at."""

    looks = 0

    def unembedding(self, sample: torch.Tensor) -> Unembedding:
        self.looks += 1
        return super().unembedding(sample)


def test_how_logits_are_made_is_found_out_once(pairs: Pairs) -> None:
    model = Counting(open_checkpoint(str(pairs("llama").base)), torch.float32, CPU)
    model.load()
    with torch.inference_mode():
        assert len(sizes(model, Way(32), TEXTS[:-1])) > 4
    assert model.looks == 1


class Untold(LiveModel):
    """A model that cannot be told where tokens stand."""

    numbered = False


def test_prompts_of_one_length_go_together_where_no_gap_can_be(pairs: Pairs) -> None:
    model = Untold(open_checkpoint(str(pairs("llama").base)), torch.float32, CPU)
    model.load()
    same = [Prompt(Question(""), (*ASKED[0][:-1], end), answer) for end in (4, 5) for answer in SAID[:2]]
    with torch.inference_mode():
        found, expected = read_answers(model, [*TEXTS, *same], Way(32)), read_apart(model, [*TEXTS, *same], Way(1))
        assert sizes(model, Way(32), same) == [(2, 5), (4, 1)]
        assert sizes(model, Way(32))[0] == (1, 3)
    assert all(torch.allclose(a.log_p, b.log_p, atol=1e-5) for a, b in zip(found, expected, strict=True))


class Remembering(LiveModel):
    """A model whose cache holds what nobody knows."""

    def forward(self, ends: torch.Tensor | None = None, **inputs: Any) -> Any:
        out = super().forward(ends, **inputs)
        return SimpleNamespace(logits=out.logits, past_key_values=SimpleNamespace(layers=[object()]))


def test_what_cannot_be_handed_on_is_read_text_by_text(pairs: Pairs) -> None:
    folder = pairs("mistral").base
    model, streamed = Remembering(open_checkpoint(str(folder)), torch.float32, CPU), live(folder)
    model.load()
    streamed.load_ends()
    with torch.inference_mode():
        expected = read_apart(loaded(folder), TEXTS, Way(8))
        found = read_answers(model, TEXTS, Way(8)), read_answers(streamed, TEXTS, Way(8, stream=True))
    for reads in found:
        assert all(torch.allclose(a.log_p, b.log_p, atol=1e-5) for a, b in zip(reads, expected, strict=True))


@pytest.mark.parametrize("apart", [False, True])
def test_only_what_is_wanted_is_looked_at(pairs: Pairs, apart: bool) -> None:
    """Where all that is wanted comes first, the rest is looked at too: does the whole answer?"""
    model = loaded(pairs("llama").base)
    read = read_apart if apart else read_answers
    with torch.inference_mode():
        out = model.forward(input_ids=torch.tensor([ASKED[0]])).logits[0, -1]
        likely, other = int(out.argmax()), int(out.argmin())
        answers = [(likely, 5, 6, 7), (other, 5, 6, 7), (5, 6, 7, likely)]
        texts = [Prompt(Question(""), ASKED[0], answer) for answer in answers]
        whole = read(model, texts, Way(8))
        found = read(model, texts, Way(8), wanted=[(0,), (0, 2), None])
    assert [one.log_p.isnan().tolist() for one in found] == [[False] * 4, [False, True, False, True], [False] * 4]
    for one, other_one in zip(found, whole, strict=True):
        known = ~one.log_p.isnan()
        assert torch.allclose(one.log_p[known], other_one.log_p[known], atol=1e-6)
        assert torch.equal(one.first[known], other_one.first[known])
        assert bool(one.first.all()) == bool(other_one.first.all())
    assert not found[1].first.any()


@pytest.mark.parametrize("where", [ASKED[1][4], SAID[2][3]])
def test_states_that_are_no_numbers_are_refused(pairs: Pairs, where: int) -> None:
    model = loaded(pairs("llama").base)
    with torch.inference_mode():
        model.model.get_input_embeddings().weight[where] = torch.inf
        with pytest.raises(NotFiniteError, match="not finite in float32"):
            read_answers(model, TEXTS[5:10], Way(8))
