"""Greedy answers of prompts of several lengths: those of each alone, in as few forwards as their caches allow."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from ckdiff.probes.live.generation import greedy
from ckdiff.probes.live.remembered import layers_of
from ckdiff.probes.live.together import TOKENS, Draws, draws, falls
from tests.test_live_model import loaded

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from tests.tiny_pairs import Folders

PROMPTS = [[5, 17, 3], [9, 41, 33, 12, 60, 7, 1], [8, 8, 30], [64], [2, 3, 4, 5]]


@dataclass
class Counted:
    """A model that counts its forwards and the texts in each; `wrap` makes another cache of its own."""

    live: Any
    texts: list[int]
    wrap: bool = False
    turn: int = 1000

    @property
    def device(self) -> torch.device:
        found: torch.device = self.live.device
        return found

    def forward(self, ends: torch.Tensor | None = None, **inputs: Any) -> Any:
        self.texts.append(len(inputs["input_ids"]))
        before = inputs.get("past_key_values")
        out = self.live.forward(ends, **inputs | ({"past_key_values": before.inner} if self.wrap and before else {}))
        cache = SimpleNamespace(inner=out.past_key_values) if self.wrap else out.past_key_values
        return SimpleNamespace(logits=out.logits, past_key_values=cache)

    def regime(self, length: int) -> Hashable:
        return length >= self.turn


@pytest.mark.parametrize(("name", "first"), [("llama", [5, 1, 1, 3]), ("gemma2", [5, 1, 1, 1, 2, 3, 1])])
def test_prompts_join_when_they_are_as_long(pairs: Callable[[str], Folders], name: str, first: list[int]) -> None:
    model = loaded(pairs(name).base)
    with torch.inference_mode():
        alone = [greedy(model, [prompt], 6, frozenset())[0] for prompt in PROMPTS]
        together = Counted(model, [])
        assert greedy(together, PROMPTS, 6, frozenset()) == alone
        # Read at one time, they go on from lengths 1, 3, 4 and 7, and after six tokens leave. What looks back less far
        # than the longest has forgotten how a shorter one ended before its pads: each length is read by itself.
        more = [4, 4, 3, 1, 4, 2, 1, 1, 1] if name == "gemma2" else [4, 4, 3, 4, 2, 1, 1, 1]
        assert together.texts == [*first, *more]
        apart, turned = Counted(model, [], wrap=True), Counted(model, [], turn=6)
        assert greedy(apart, PROMPTS, 6, frozenset()) == greedy(turned, PROMPTS, 6, frozenset()) == alone
        # Read together in vain, then each length.
        assert len(apart.texts) == 1 + 4 * 6
        assert turned.texts[:2] == [4, 1]
        # At most two together, and done where they stop.
        pairwise, stop = Counted(model, []), alone[1][1]
        stopped = [answer[: answer.index(stop) + 1] if stop in answer else answer for answer in alone]
        assert greedy(pairwise, PROMPTS, 6, frozenset({stop}), 2) == stopped
        assert max(pairwise.texts) == 2
        assert layers_of(SimpleNamespace(layers=[])) == []


BEGUN = [7, 3, 9, 41, 5, 8, 60, 2, 33, 12]


@pytest.mark.parametrize("name", ["mistral", "gemma2"])
def test_a_window_that_is_longer_than_all_keeps_how_each_ended(pairs: Callable[[str], Folders], name: str) -> None:
    model, asked = loaded(pairs(name).base), [PROMPTS[3], PROMPTS[0], PROMPTS[2]]
    with torch.inference_mode():
        together = Counted(model, [])
        assert greedy(together, asked, 6, frozenset()) == [greedy(model, [one], 6, frozenset())[0] for one in asked]
    assert together.texts[:4] == [3, 1, 1, 3]


def test_a_pad_that_costs_more_than_a_forward_is_not_read(pairs: Callable[[str], Folders]) -> None:
    model = loaded(pairs("llama").base)
    asked = [[5], [8], [5, *[3] * 12], [8, *[3] * 13]]
    with torch.inference_mode():
        together, alone = Counted(model, []), [greedy(model, [one], 1, frozenset())[0] for one in asked]
        assert greedy(together, asked, 1, frozenset()) == alone
        apart = Counted(model, [])
        assert greedy(apart, [[7], *asked], 1, frozenset())[1:] == alone
    # Twelve pads each of two texts, then one each of three; of three texts twelve are too many.
    assert together.texts == [4]
    assert apart.texts == [3, 2]


def test_only_the_named_positions_have_logits(pairs: Callable[[str], Folders]) -> None:
    model, ids = loaded(pairs("llama").base), torch.tensor([[5, 17, 3, 9], [8, 1, 0, 0]])
    with torch.inference_mode():
        whole, ends = model.forward(input_ids=ids).logits, torch.tensor([3, 1])
        found = model.forward(ends=ends, input_ids=ids).logits
        assert found.shape == (2, 1, whole.shape[-1])
        assert torch.allclose(found[:, 0], whole[[0, 1], [3, 1]], atol=1e-6)
        assert model.forward(input_ids=ids).logits.shape == whole.shape


ALIKE = [[*BEGUN, *end] for end in ([4, 6], [4, 7], [11, 6], [64, 1], [3, 3, 3])]


@pytest.mark.parametrize("name", ["llama", "mistral", "gpt2"])
def test_what_prompts_begin_with_alike_is_read_once(pairs: Callable[[str], Folders], name: str) -> None:
    model = loaded(pairs(name).base)
    with torch.inference_mode():
        alone = [greedy(model, [prompt], 4, frozenset())[0] for prompt in ALIKE]
        together, turned, apart = Counted(model, []), Counted(model, [], turn=11), Counted(model, [], wrap=True)
        assert greedy(together, ALIKE, 4, frozenset()) == alone
        # Ten tokens of all texts by one of them, and their ends, with a pad; where what stood before the pad is
        # forgotten, of the four that are as long.
        assert together.texts[:4] == ([1, 5, 1, 4] if name == "mistral" else [1, 5, 4, 5])
        assert greedy(together, ALIKE[:3], 4, frozenset()) == alone[:3]
        assert greedy(turned, ALIKE, 4, frozenset()) == greedy(apart, ALIKE, 4, frozenset()) == alone
        # What is turned otherwise in a longer text, or cannot be parted, is read with each.
        assert turned.texts[:2] == [5, 4]
        assert apart.texts[:4] == [1, 5, 1, 4]
        few = Counted(model, [])
        assert greedy(few, [ALIKE[0], ALIKE[3], ALIKE[2]], 1, frozenset()) == [
            one[:1] for one in (alone[0], alone[3], alone[2])
        ]
        assert few.texts == [3]
        same = Counted(model, [])
        assert greedy(same, [[5] * 12, [5] * 11 + [6], [5] * 11 + [7], [5] * 11 + [8]], 1, frozenset())
        assert same.texts == [1, 4]


def test_samples_are_those_of_each_alone(pairs: Callable[[str], Folders]) -> None:
    """Whoever goes together; the same prompts are read once, and part where their draws first differ."""
    model, asked = loaded(pairs("llama").base), [PROMPTS[1], *[PROMPTS[0]] * 3, PROMPTS[2], PROMPTS[0]]
    drawn = draws(torch.Generator().manual_seed(3), len(asked), 6, (1e-4, 3.0))
    with torch.inference_mode():
        alone = [
            greedy(model, [prompt], 6, frozenset(), drawn=Draws(drawn.numbers[[row]], drawn.heat[[row]]))[0]
            for row, prompt in enumerate(asked)
        ]
        likely = greedy(model, asked, 6, frozenset())
        together, apart = Counted(model, []), Counted(model, [], wrap=True)
        assert greedy(together, asked, 6, frozenset(), drawn=drawn) == alone
        assert greedy(apart, asked, 6, frozenset(), drawn=drawn) == alone
        stop = alone[1][1]
        stopped = [answer[: answer.index(stop) + 1] if stop in answer else answer for answer in alone]
        for model_ in (model, Counted(model, [], wrap=True)):
            assert greedy(model_, asked, 6, frozenset({stop}), drawn=drawn) == stopped
    # Where it is cold the likeliest tokens are drawn, and samples are alike.
    assert likely[0] == alone[0]
    assert likely[2] == alone[2]
    assert len({tuple(answer) for answer in alone}) > 3
    assert together.texts[0] == 3
    assert max(together.texts) > 2
    # What cannot be parted is read again, with each sample by itself.
    assert apart.texts[:3] == [3, 2, 5]


def test_draws_are_shares_of_probability() -> None:
    count, heat = 2000, 0.7
    logits = torch.tensor([[0.0, 1.0, -1.0, 2.0, -30.0]])
    numbers = (torch.arange(count, dtype=torch.float64)[:, None] + 0.5) / count
    found = Draws(numbers, torch.full((count,), heat)).pick(logits.expand(count, -1), range(count), [0] * count)
    expected = torch.softmax(logits[0].double() / heat, -1) * count
    assert torch.allclose(torch.bincount(torch.tensor(found), minlength=5).double(), expected, atol=1.0)
    edges = Draws(torch.tensor([[0.0], [1 - 2**-53]], dtype=torch.float64), torch.ones(2))
    assert edges.pick(logits.expand(2, -1), [0, 1], [0, 0])[0] == 0
    assert edges.pick(logits.expand(2, -1), [0, 1], [0, 0])[1] in (3, 4)
    assert draws(torch.Generator(), 5, 2, (0.7, 1.0)).heat.tolist() == pytest.approx([0.7, 1.0, 0.7, 1.0, 0.7])


def test_a_prompt_that_another_begins_with_keeps_its_last_token(pairs: Callable[[str], Folders]) -> None:
    """What both begin with is read once, but for the token behind which the shorter one is answered."""
    model, asked = loaded(pairs("llama").base), [[*BEGUN, *BEGUN, *BEGUN, *more] for more in ([], [4], [4, 6])]
    with torch.inference_mode():
        together = Counted(model, [])
        assert greedy(together, asked, 3, frozenset()) == [greedy(model, [one], 3, frozenset())[0] for one in asked]
    assert together.texts[:2] == [1, 3]


def test_a_number_falls_into_a_share_that_can_come() -> None:
    ends = torch.tensor([[0.0, 0.5, 0.5, 1.0, 1.0]], dtype=torch.float64).expand(5, -1).contiguous()
    numbers = torch.tensor([[-1e-9], [0.0], [0.5], [1.0], [2.0]], dtype=torch.float64)
    assert falls(ends, numbers)[:, 0].tolist() == [1, 1, 3, 3, 3]


def test_draws_from_a_large_vocabulary_are_those_of_one_running_sum() -> None:
    """And nothing that cannot come is drawn, wherever a number falls."""
    generator = torch.Generator().manual_seed(5)
    logits = 4 * torch.randn(60, 3 * TOKENS + 7, generator=generator)
    logits[:, : TOKENS + 2] = logits[:, -9:] = -torch.inf
    numbers = torch.rand(60, 1, generator=generator, dtype=torch.float64)
    numbers[:2, 0] = torch.tensor([0.0, 1 - 2**-53])
    found = Draws(numbers, torch.full((60,), 0.9)).pick(logits, range(60), [0] * 60)
    ends = np.cumsum(torch.softmax(logits.double() / 0.9, -1).numpy(), -1)
    wanted = [int(np.searchsorted(row, float(x), "right")) for row, x in zip(ends[2:], numbers[2:, 0], strict=True)]
    assert found[2:] == wanted
    assert (found[0], found[1]) == (TOKENS + 2, 3 * TOKENS + 7 - 10)
    every = torch.linspace(0, 1, 20_001, dtype=torch.float64)[:-1, None]
    dense = Draws(every, torch.ones(len(every))).pick(
        logits[:1].expand(len(every), -1), range(len(every)), [0] * len(every)
    )
    assert all(torch.isfinite(logits[0, dense]))
    assert dense == sorted(dense)
