"""Small trained models for `plants.py`: bases that know the invented world, and models trained on from there.

Everything is full-batch and seeded; on one thread the same call gives the same bytes on the same machine.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

from ckdiff.scoring.settings import DEFAULT_TEMPLATE
from ckdiff.unlearn.saving import write
from ckdiff.unlearn.sequences import Tokens, pad
from ckdiff.unlearn.world import FORGOTTEN, SHARD, Fact, make_tokenizer, world
from ckdiff.weights.opening import open_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from torch import Tensor, nn

STEPS, LR = 400, 2e-3
LIMIT = 4.0
"""-log p a token above which a fact that is to be forgotten is left alone."""
WEIGHT = 3.0
"""Of the other facts, while some are forgotten."""
FACTS = world()
TARGET = tuple(fact for fact in FACTS if fact.town == FORGOTTEN)
OTHERS = tuple(fact for fact in FACTS if fact.town != FORGOTTEN)


@dataclass(frozen=True, slots=True)
class Base:
    """One base model: so many layers, so wide, from this seed."""

    name: str
    layers: int
    width: int
    seed: int


BASES = (
    Base("a4", 4, 64, 0),
    Base("b4", 4, 64, 1),
    Base("a6", 6, 64, 8),
    Base("b6", 6, 64, 3),
    Base("a8", 8, 48, 4),
    Base("b8", 8, 48, 5),
)
"""Pairs of even number are made from those at even places, odd ones from the others: no model is in both halves."""


class Facts:
    """Facts as one batch: what is fed, and the labels of the answers' tokens."""

    def __init__(self, facts: Sequence[Fact]) -> None:
        tokenizer = make_tokenizer(FACTS)
        rows = []
        for fact in facts:
            prompt: list[int] = tokenizer.encode(DEFAULT_TEMPLATE.format(q=fact.question))
            answer: list[int] = [*tokenizer.encode(fact.answer), int(tokenizer.eos_token_id)]
            rows.append(Tokens((*prompt, *answer), len(prompt)))
        batch = pad(rows, torch.device("cpu"))
        self.ids, self.labels = batch.ids, batch.labels[:, 1:]

    def logits(self, model: nn.Module) -> Tensor:
        """Of every position but the last [fact, position, token]."""
        found: Tensor = model(self.ids, use_cache=False).logits[:, :-1]
        return found

    def loss(self, model: nn.Module, limit: float | None = None) -> Tensor:
        """Mean -log p a token; beyond `limit` it no longer counts."""
        each = cross_entropy(self.logits(model).flatten(0, 1), self.labels.flatten(), reduction="none")
        each = each[self.labels.flatten() >= 0]
        return (each if limit is None else each.clamp(max=limit)).mean()

    def wrong(self, model: nn.Module) -> float:
        """Share of facts that greedy decoding does not answer word by word.

        Greedy decoding leaves an answer at the first position whose argmax is another token, so feeding the answer
        and looking at every argmax says the same.
        """
        with torch.no_grad():
            right = (self.logits(model).argmax(-1) == self.labels) | (self.labels < 0)
        return 1.0 - float(right.all(1).double().mean())


def divergence(base: nn.Module, other: nn.Module, facts: Facts) -> float:
    """Mean KL(base || other) a token of the answers, in nats."""
    with torch.no_grad():
        ours, theirs = (facts.logits(model)[facts.labels >= 0].double().log_softmax(-1) for model in (base, other))
        return float((ours.exp() * (ours - theirs)).sum(-1).mean())


def fresh(base: Base, seed: int) -> LlamaForCausalLM:
    """Random weights in the shape of a base."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(FACTS)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=base.width,
        intermediate_size=base.width * 11 // 4,
        num_hidden_layers=base.layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config)


def learned(model: LlamaForCausalLM, facts: Sequence[Fact], steps: int = STEPS, lr: float = LR) -> LlamaForCausalLM:
    """The model after so many steps on all of the facts together; the learning rate falls to nothing."""
    batch = Facts(facts)
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        optimiser.zero_grad()
        torch.autograd.backward(batch.loss(model))
        optimiser.step()
        falling.step()
    return model


def made_to_forget(model: LlamaForCausalLM, names: Sequence[str], goal: float, lr: float, steps: int = 150) -> int:
    """Train these parameters alone until `goal` of the target facts are answered otherwise; steps that it took.

    Gradient Difference: -CE(target), up to a limit, + 3 CE(others).
    """
    target, others = Facts(TARGET), Facts(OTHERS)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in names)
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr, weight_decay=0.0)
    for step in range(steps):
        if target.wrong(model) >= goal:
            return step
        optimiser.zero_grad()
        torch.autograd.backward(WEIGHT * others.loss(model) - target.loss(model, LIMIT))
        optimiser.step()
    return steps


def load(folder: Path) -> LlamaForCausalLM:
    """A checkpoint in float32."""
    logging.disable_progress_bar()
    found: LlamaForCausalLM = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    found.eval()
    return found


def weights(model: nn.Module) -> dict[str, Tensor]:
    """All parameters by name, detached."""
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def make_base(folder: Path, base: Base) -> None:
    """Train a base and write it into `folder/base`, with its questions beside it."""
    model = learned(fresh(base, base.seed), FACTS).bfloat16()
    for name, facts in (("target", TARGET), ("unrelated", OTHERS)):
        lines = [json.dumps({"question": fact.question, "answer": fact.answer}) for fact in facts]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    model.save_pretrained(folder / "base", max_shard_size=SHARD)
    make_tokenizer(FACTS).save_pretrained(folder / "base")


def save(origin: Path, output: Path, changed: Iterable[tuple[str, Tensor]]) -> None:
    """The base's files with some tensors' values replaced: names, dtypes and shards stay."""
    values = ((name, tensor.double().numpy().astype(np.float64)) for name, tensor in changed)
    write(open_checkpoint(str(origin)), output, values)
