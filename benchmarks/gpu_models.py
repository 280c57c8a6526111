"""The random models that `gpu.py` measures on: the shapes of Llama-2-7B and OLMo-7B, and both in small."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING

from probe_large import D_VOCAB, Shape, make_pair, write_questions, write_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WORDS_BESIDE = 4
"""Of a tokenizer, beside its numbered ones."""


@dataclass(frozen=True)
class Llama(Shape):
    """Sizes of a Llama with a vocabulary of its own."""

    d_vocab: int = D_VOCAB

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Name and shape of every stored tensor."""
        for name, sizes in super().tensors():
            yield name, tuple(self.d_vocab if size == D_VOCAB else size for size in sizes)

    def config(self) -> dict[str, object]:
        """What config.json holds."""
        return super().config() | {"vocab_size": self.d_vocab}


@dataclass(frozen=True)
class Olmo(Llama):
    """Sizes of an OLMo: its norms have no parameters."""

    d_vocab: int = 50304

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Name and shape of every stored tensor."""
        return (one for one in super().tensors() if "norm" not in one[0])

    def config(self) -> dict[str, object]:
        """What config.json holds."""
        found = super().config() | {"architectures": ["OlmoForCausalLM"], "model_type": "olmo"}
        return found | {"max_position_embeddings": 2048, "pad_token_id": None}


LARGE: dict[str, Llama] = {
    "Llama-2-7B": Llama(layers=32, d_model=4096, d_ff=11008, heads=32),
    "OLMo-7B": Olmo(layers=32, d_model=4096, d_ff=11008, heads=32),
}
SMALL: dict[str, Llama] = {
    "Llama in small": Llama(layers=2, d_model=32, d_ff=64, heads=2, d_vocab=1000),
    "OLMo in small": Olmo(layers=2, d_model=32, d_ff=64, heads=2, d_vocab=1000),
}


def make(directory: Path, shape: Llama, questions: int, tokens: int, unrelated: int) -> int:
    """A pair with target and unrelated questions in a new directory; the bytes of both checkpoints."""
    directory.mkdir()
    total = make_pair(directory, shape, argparse.Namespace(questions=questions, tokens=tokens))
    for side in ("base", "unlearned"):
        # Whatever a random model answers is a word, else attacks would have nothing to bring back.
        write_tokenizer(directory / side, shape.d_vocab - WORDS_BESIDE)
    write_questions(directory / "unrelated.jsonl", unrelated, tokens, seed=4)
    return total
