"""Greedy answers of prompts of several lengths: those of each alone, in as few forwards as their caches allow."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from ckdiff.probes.live.generation import greedy
from ckdiff.probes.live.together import layers_of
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

    def forward(self, **inputs: Any) -> Any:
        self.texts.append(len(inputs["input_ids"]))
        before = inputs.get("past_key_values")
        out = self.live.forward(**inputs | ({"past_key_values": before.inner} if self.wrap and before else {}))
        cache = SimpleNamespace(inner=out.past_key_values) if self.wrap else out.past_key_values
        return SimpleNamespace(logits=out.logits, past_key_values=cache)

    def regime(self, length: int) -> Hashable:
        return length >= self.turn


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_prompts_join_when_they_are_as_long(pairs: Callable[[str], Folders], name: str) -> None:
    model = loaded(pairs(name).base)
    with torch.inference_mode():
        alone = [greedy(model, [prompt], 6, frozenset())[0] for prompt in PROMPTS]
        together = Counted(model, [])
        assert greedy(together, PROMPTS, 6, frozenset()) == alone
        # Read at lengths 1, 3, 4 and 7; after six tokens a text is done, and leaves.
        assert together.texts == [1, 1, 1, 2, 3, 1, 4, 4, 3, 1, 4, 2, 1, 1, 1]
        apart, turned = Counted(model, [], wrap=True), Counted(model, [], turn=6)
        assert greedy(apart, PROMPTS, 6, frozenset()) == greedy(turned, PROMPTS, 6, frozenset()) == alone
        assert len(apart.texts) == 4 * 6
        # At most two together, and done where they stop.
        pairwise, stop = Counted(model, []), alone[1][1]
        stopped = [answer[: answer.index(stop) + 1] if stop in answer else answer for answer in alone]
        assert greedy(pairwise, PROMPTS, 6, frozenset({stop}), 2) == stopped
        assert max(pairwise.texts) == 2
        assert layers_of(SimpleNamespace(layers=[])) == []
