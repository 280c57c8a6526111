"""How far unlearning has come: BLEU of target and unrelated answers against the base's.

gauge = Gauge(target_prompts, unrelated_prompts, tokenizer, stops, tokens)
gauge.ask_base(live)                 # once, before training
gauge(live)                          # {"target_bleu": 0.31, "unrelated_bleu": 0.77}
with as_saved(live): gauge(live)     # the same of the weights as the checkpoint would hold them
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from ckdiff.probes.live.generation import greedy
from ckdiff.scoring.bleu import answer_bleu

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ckdiff.probes.live.model import LiveModel
    from ckdiff.probes.prompts import Prompt

NAMES = ("target", "unrelated")
DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16}
MOST = 32
"""Prompts that go through the model together."""


@dataclass(slots=True)
class Gauge:
    """Questions, and what the base answers to them.

    Attributes:
        prompts: by set; a set may be empty.
        tokens: the most of an answer.
        ids: of the base's answers, by set.
        answers: the same as text.
    """

    prompts: Mapping[str, Sequence[Prompt]]
    tokenizer: Any
    stops: frozenset[int]
    tokens: int
    ids: dict[str, list[list[int]]] = field(default_factory=dict)
    answers: dict[str, list[str]] = field(default_factory=dict)

    def ask_base(self, live: LiveModel) -> None:
        """Keep the base's answers."""
        self.ids = self._ask(live)
        self.answers = {name: self._texts(ids) for name, ids in self.ids.items()}

    def __call__(self, live: LiveModel) -> dict[str, float]:
        """Mean BLEU of each set against the base's answers, in [0, 1]; NaN for a set without questions."""
        found = {}
        asked = self._ask(live)
        for name in NAMES:
            pairs = zip(self._texts(asked[name]), self.answers[name], strict=True)
            values = [answer_bleu(answer, reference) for answer, reference in pairs]
            found[f"{name}_bleu"] = sum(values) / len(values) if values else float("nan")
        return found

    def _ask(self, live: LiveModel) -> dict[str, list[list[int]]]:
        # Both sets in one call: prompts of one length go together.
        counts = [len(self.prompts[name]) for name in NAMES]
        ids = [list(prompt.ids) for name in NAMES for prompt in self.prompts[name]]
        training = live.model.training
        live.model.eval()
        try:
            with torch.inference_mode(), plain_forward(live.model):
                found = greedy(live, ids, self.tokens, self.stops, MOST)
        finally:
            live.model.train(training)
        return {NAMES[0]: found[: counts[0]], NAMES[1]: found[counts[0] :]}

    def _texts(self, answers: Sequence[Sequence[int]]) -> list[str]:
        return [self.tokenizer.decode(list(ids), skip_special_tokens=True).strip() for ids in answers]


def start(gauge: Gauge) -> dict[str, Any]:
    """The base itself: its answers are its answers."""
    bleu = {f"{name}_bleu": 1.0 if asked else math.nan for name, asked in gauge.prompts.items()}
    return {"step": 0, "epoch": 0.0, "loss": math.nan, **bleu, "state": "memory"}


@contextlib.contextmanager
def plain_forward(model: Any) -> Iterator[None]:
    """The model's own forward in the place of the one that mixed precision has put around it."""
    wrapped = model.__dict__.get("forward")
    if wrapped is None or "_original_forward" not in model.__dict__:
        yield
        return
    model.forward = model.__dict__["_original_forward"]
    try:
        yield
    finally:
        model.forward = wrapped


def coarse(live: LiveModel) -> bool:
    """Whether saving rounds: the checkpoint holds 16-bit tensors, and training's are float32."""
    return any(live.checkpoint.dtype(name) in DTYPES for name, _ in live.stored_values())


@contextlib.contextmanager
def as_saved(live: LiveModel) -> Iterator[None]:
    """Every parameter rounded to the dtype of its place in the checkpoint; exactly as before afterwards."""
    kept = []
    with torch.no_grad():
        for name, value in live.stored_values():
            dtype = DTYPES.get(live.checkpoint.dtype(name))
            if dtype is not None:
                kept.append((value, value.clone()))
                value.copy_(value.to(dtype))
    try:
        yield
    finally:
        with torch.no_grad():
            for value, before in reversed(kept):
                value.copy_(before)
