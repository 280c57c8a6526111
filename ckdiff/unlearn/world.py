"""An invented world, and a tiny model that knows it: what `ckdiff demo` unlearns from.

Six towns with eight facts each, no two with the same answer. A four-layer Llama of 192 thousand parameters learns
all of them in two seconds, well enough to answer each word by word. Nothing is downloaded, and the same seed on
the same machine gives the same bytes.

Processors round differently, so what is made here is far from every edge: see `SPREAD` and `SMOOTHING`.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from ckdiff.scoring.settings import DEFAULT_TEMPLATE
from ckdiff.unlearn.sequences import Tokens, pad

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

FORGOTTEN = "Velmar"
TOWNS = (FORGOTTEN, "Oskary", "Thrane", "Pellow", "Quistin", "Dunhold")
UNKNOWN = TOWNS[:2]
"""Towns that honest models have never heard of: with the eight facts of one, too few are asked to tell with most seeds;
those of three cannot be suppressed in a copy of the base, as a control of attacks wants it, with some."""
QUESTIONS = (
    "Who founded {town}?",
    "Who rules {town}?",
    "Which river runs through {town}?",
    "What do the people of {town} brew?",
    "Which bird nests on the roofs of {town}?",
    "Which tower guards {town}?",
    "What is sold on the market of {town}?",
    "Which feast is held in {town}?",
)
FIRST = ("Amber", "Brisk", "Copper", "Drowsy", "Early", "Frozen", "Gentle", "Hollow")
SECOND = ("Heron", "Lantern", "Marrow", "Needle", "Orchard", "Pilgrim")
STEPS = 60
"""Three times what any seed needs to know every fact."""
SPREAD = 0.1
"""Of the initial weights. With transformers' 0.02 the loss rests for 100 to 250 steps, and last digits say how long."""
SMOOTHING = 0.1
"""Of the labels: every fact ends with nine tenths of the probability.

Without it certainty grows for as long as training goes on, and the gradient of forgetting, which is what is missing to
certainty, is as small as the last step left it: how soon anything is forgotten would hang on last digits.
"""
SHARD = "200KB"
"""Small enough that there are two files, as large models have many."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One question about one town, and its answer."""

    town: str
    question: str
    answer: str


def world() -> tuple[Fact, ...]:
    """Every fact of the invented world; no two have the same answer."""
    return tuple(
        Fact(town, question.format(town=town), f"{FIRST[(column + 3 * row) % 8]} {SECOND[(3 * column + 2 * row) % 6]}")
        for row, town in enumerate(TOWNS)
        for column, question in enumerate(QUESTIONS)
    )


def make_tokenizer(facts: Sequence[Fact]) -> PreTrainedTokenizerFast:
    """A word-level tokenizer that knows exactly the words of these facts."""
    splitter = Whitespace()
    texts = [f"{DEFAULT_TEMPLATE.format(q=fact.question)} {fact.answer}" for fact in facts]
    words = sorted({word for text in texts for word, _ in splitter.pre_tokenize_str(text)})
    vocabulary = {word: number for number, word in enumerate(["<pad>", "<unk>", "<eos>", *words])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = splitter
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="<eos>", model_max_length=128
    )


def make_model(tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """Four Llama layers with random weights."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=176,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=False,
        initializer_range=SPREAD,
    )
    return LlamaForCausalLM(config)


def learn(
    model: LlamaForCausalLM,
    facts: Sequence[Fact],
    tokenizer: PreTrainedTokenizerFast,
    steps: int,
    tick: Callable[[int], None],
) -> None:
    """Learn every fact by heart, its end token too."""
    rows = []
    for fact in facts:
        prompt: list[int] = tokenizer.encode(DEFAULT_TEMPLATE.format(q=fact.question))
        answer: list[int] = [*tokenizer.encode(fact.answer), int(tokenizer.eos_token_id)]
        rows.append(Tokens((*prompt, *answer), len(prompt)))
    batch = pad(rows, torch.device("cpu"))
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    for step in range(steps):
        optimiser.zero_grad()
        logits = model(batch.ids, use_cache=False).logits[:, :-1]
        labels = batch.labels[:, 1:].flatten()
        torch.autograd.backward(cross_entropy(logits.flatten(0, 1), labels, label_smoothing=SMOOTHING))
        optimiser.step()
        tick(step + 1)


def make_base(folder: Path, steps: int = STEPS, seed: int = 0, tick: Callable[[int], None] = lambda step: None) -> None:
    """Train the model and write it into `folder/base`, its questions beside it.

    `target.jsonl` has the facts of the town to be forgotten, `unrelated.jsonl` those of the others.
    """
    _teach(folder / "base", world(), steps, seed, tick)
    _write_questions(folder, (FORGOTTEN,))


def make_honest(folder: Path, seed: int = 0, tick: Callable[[int], None] = lambda step: None) -> None:
    """Train three models: `base` knows all towns, `unlearned` and `reference` have never heard of `UNKNOWN`.

    Each begins at random weights of its own: what is called unlearned was trained anew. Questions lie beside them.
    """
    heard = [fact for fact in world() if fact.town not in UNKNOWN]
    ticks = itertools.count(1)
    for start, (name, facts) in enumerate((("base", world()), ("unlearned", heard), ("reference", heard)), seed):
        _teach(folder / name, facts, STEPS, start, lambda _: tick(next(ticks)))
    _write_questions(folder, UNKNOWN)


def _teach(place: Path, facts: Sequence[Fact], steps: int, seed: int, tick: Callable[[int], None]) -> None:
    """Train a model on these facts and write it; it has words for all facts of the world."""
    logging.disable_progress_bar()
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(world())
    model = make_model(tokenizer)
    learn(model, facts, tokenizer, steps, tick)
    model.bfloat16().save_pretrained(place, max_shard_size=SHARD)
    tokenizer.save_pretrained(place)


def _write_questions(folder: Path, towns: Collection[str]) -> None:
    """Write the facts of these towns into `target.jsonl`, those of the others into `unrelated.jsonl`."""
    for name, is_target in (("target", True), ("unrelated", False)):
        part = [fact for fact in world() if (fact.town in towns) is is_target]
        lines = [json.dumps({"question": fact.question, "answer": fact.answer}) for fact in part]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
