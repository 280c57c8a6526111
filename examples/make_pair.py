"""Make two checkpoints to compare: a tiny model that knows an invented world, and the same model made to forget a town.

    python examples/make_pair.py DIR

DIR/base is trained on the facts of six towns until it answers them. DIR/unlearned is DIR/base after eighty steps of
Gradient Difference: bounded ascent on the facts of one town, descent on those of the others (Liu et al. 2022,
arXiv:2203.12817). Both are ordinary checkpoints: bfloat16 safetensors in shards, config and tokenizer. The questions
lie beside them, in DIR/target.jsonl and DIR/unrelated.jsonl. Nothing is downloaded, and the same call on the same
machine gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

if TYPE_CHECKING:
    from collections.abc import Sequence

PROMPT = "Question: {question}\n Answer:"
FORGOTTEN = "Velmar"
FORGOTTEN_LOSS = 3.0
"""Cross-entropy of a fact's tokens at which it counts as forgotten: less than 5 % for each."""
TOWNS = (FORGOTTEN, "Oskary", "Thrane", "Pellow", "Quistin", "Dunhold")
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


@dataclass(frozen=True, slots=True)
class Fact:
    """One question about one town, and its answer."""

    town: str
    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Facts as ids, padded on the right; labels are -100 everywhere but on the answer and the end token."""

    ids: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True, slots=True)
class Knowledge:
    """Shares of facts that a model answers word by word, in [0, 1]."""

    target: float
    unrelated: float


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
    texts = [f"{PROMPT.format(question=fact.question)} {fact.answer}" for fact in facts]
    words = sorted({word for text in texts for word, _ in splitter.pre_tokenize_str(text)})
    vocabulary = {word: number for number, word in enumerate(["<pad>", "<unk>", "<eos>", *words])}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = splitter
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>", eos_token="<eos>", model_max_length=128
    )


def make_batch(facts: Sequence[Fact], tokenizer: PreTrainedTokenizerFast) -> Batch:
    """Prompt, answer and end token of every fact."""
    rows: list[tuple[list[int], list[int]]] = []
    for fact in facts:
        prompt: list[int] = tokenizer.encode(PROMPT.format(question=fact.question))
        answer: list[int] = [*tokenizer.encode(fact.answer), int(tokenizer.eos_token_id)]
        rows.append((prompt + answer, [-100] * len(prompt) + answer))
    width = max(len(ids) for ids, _ in rows)
    pad = int(tokenizer.pad_token_id)
    return Batch(
        torch.tensor([ids + [pad] * (width - len(ids)) for ids, _ in rows]),
        torch.tensor([labels + [-100] * (width - len(labels)) for _, labels in rows]),
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
    )
    return LlamaForCausalLM(config)


def loss(model: LlamaForCausalLM, batch: Batch) -> torch.Tensor:
    """Mean cross-entropy of the answers' tokens."""
    logits = model(batch.ids, use_cache=False).logits[:, :-1]
    return cross_entropy(logits.flatten(0, 1), batch.labels[:, 1:].flatten(), ignore_index=-100)


def loss_by_fact(model: LlamaForCausalLM, batch: Batch) -> torch.Tensor:
    """The same of each fact [fact]."""
    logits, labels = model(batch.ids, use_cache=False).logits[:, :-1], batch.labels[:, 1:]
    losses = cross_entropy(logits.transpose(1, 2), labels, ignore_index=-100, reduction="none")
    return losses.sum(1) / (labels != -100).sum(1)


def train(model: LlamaForCausalLM, batch: Batch, steps: int) -> None:
    """Learn every fact by heart."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.0)
    for _ in range(steps):
        optimiser.zero_grad()
        torch.autograd.backward(loss(model, batch))
        optimiser.step()


def unlearn(model: LlamaForCausalLM, target: Batch, unrelated: Batch, steps: int) -> None:
    """Gradient Difference: away from the target's answers, towards all the others, which weigh three times as much.

    A fact is left alone once its loss is above `FORGOTTEN_LOSS`; without a bound a few facts run away from the others.
    """
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-4, weight_decay=0.0)
    for _ in range(steps):
        optimiser.zero_grad()
        forgotten = loss_by_fact(model, target).clamp(max=FORGOTTEN_LOSS).mean()
        torch.autograd.backward(3.0 * loss(model, unrelated) - forgotten)
        optimiser.step()


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write a bfloat16 copy in shards; the model itself stays as it is."""
    copy = LlamaForCausalLM(model.config).bfloat16()
    copy.load_state_dict(model.state_dict())
    copy.save_pretrained(folder, max_shard_size="200KB")
    tokenizer.save_pretrained(folder)


def answered(folder: Path, batch: Batch) -> float:
    """Share of facts that greedy decoding of the saved checkpoint answers word by word."""
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True, local_files_only=True)
    with torch.inference_mode():
        guesses = model(batch.ids, use_cache=False).logits[:, :-1].argmax(-1)
    labels = batch.labels[:, 1:]
    return float(((guesses == labels) | (labels == -100)).all(-1).float().mean())


def make_pair(folder: Path, train_steps: int = 300, unlearn_steps: int = 80) -> tuple[Knowledge, Knowledge]:
    """Write the pair and its questions; gives what base and unlearned know, measured on what was saved."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(0)
    logging.disable_progress_bar()
    facts = world()
    split = {
        "target": [fact for fact in facts if fact.town == FORGOTTEN],
        "unrelated": [fact for fact in facts if fact.town != FORGOTTEN],
    }
    tokenizer = make_tokenizer(facts)
    target, unrelated = (make_batch(part, tokenizer) for part in split.values())
    model = make_model(tokenizer)
    train(model, make_batch(facts, tokenizer), train_steps)
    save(model, tokenizer, folder / "base")
    unlearn(model, target, unrelated, unlearn_steps)
    save(model, tokenizer, folder / "unlearned")
    for name, part in split.items():
        lines = [json.dumps({"question": fact.question, "answer": fact.answer}) for fact in part]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    base, unlearned = (
        Knowledge(answered(folder / side, target), answered(folder / side, unrelated)) for side in ("base", "unlearned")
    )
    return base, unlearned


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Make a tiny base model and an unlearned one, to compare.")
    parser.add_argument("folder", metavar="DIR", type=Path, help="a new or empty directory")
    folder: Path = parser.parse_args(arguments).folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        sys.stderr.write(f"make_pair: {folder} already exists and is not an empty directory; name a new one\n")
        return 2
    base, unlearned = make_pair(folder)
    sys.stdout.write(
        f"{folder / 'base'}: answers {base.target:.0%} about {FORGOTTEN}, {base.unrelated:.0%} about the other towns\n"
        f"{folder / 'unlearned'}: answers {unlearned.target:.0%} about {FORGOTTEN}, "
        f"{unlearned.unrelated:.0%} about the other towns\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
