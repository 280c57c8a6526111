"""The script that anyone would write in the place of each command, with transformers' models and its `generate`.

probe:   `probe.py`'s plain script: one full forward a window and mode; the six modes that it has, open and isolated.
behave:  both models answer target and unrelated questions, greedily and in one batch each, and score given answers.
attack:  the unlearned model answers greedily and sixteen times by chance, then greedily again with its matrices rounded
         to 8 and to 4 bits.
audit:   the difference of every parameter, then what behave and probe do.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from probe_contenders import Plain

from ckdiff.probes.live.pretrained import load_tokenizer
from ckdiff.probes.wording.wording import Wording
from ckdiff.questions.questions import read_questions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ckdiff.probes.prompts import Prompt

MODES = ("coeff", "values", "attn", "attn+coeff", "keys", "mlp")
VARIANTS = ("open", "isolated")
SAMPLES = 16


@dataclass
class Loaded:
    """Both models on one device, and the questions with their given answers."""

    base: Any
    unlearned: Any
    target: list[Prompt]
    unrelated: list[Prompt]
    tokens: int


def load(pair: Path, device: torch.device, dtype: torch.dtype, tokens: int) -> Loaded:
    from transformers import AutoModelForCausalLM

    models = [
        AutoModelForCausalLM.from_pretrained(pair / side, dtype=dtype, local_files_only=True).eval().to(device)
        for side in ("base", "unlearned")
    ]
    wording = Wording(load_tokenizer(pair / "base"))
    asked = [
        wording.answered(read_questions(pair / f"{name}.jsonl").questions, tokens)
        for name in ("questions", "unrelated")
    ]
    return Loaded(models[0], models[1], asked[0], asked[1], tokens)


def probe(loaded: Loaded) -> None:
    layers = range(len(loaded.base.model.layers))
    for host, donor in ((loaded.unlearned, loaded.base), (loaded.base, loaded.unlearned)):
        plain = Plain(donor, host, loaded.target, time.perf_counter)
        for variant in VARIANTS:
            plain.run(MODES, variant, layers, True)


def behave(loaded: Loaded) -> None:
    for model in (loaded.base, loaded.unlearned):
        for asked in (loaded.target, loaded.unrelated):
            generate(model, asked, loaded.tokens)
            score(model, asked)


def attack(loaded: Loaded) -> None:
    model, asked = loaded.unlearned, loaded.target
    generate(model, asked, loaded.tokens)
    generate(model, asked, loaded.tokens, do_sample=True, num_return_sequences=SAMPLES)
    for bits in (8, 4):
        for parameter in model.parameters():
            if parameter.dim() == 2:
                step = parameter.abs().amax(1, keepdim=True).clamp(min=1e-8) / (2 ** (bits - 1) - 1)
                parameter.copy_((parameter / step).round() * step)
        generate(model, asked, loaded.tokens)


def audit(loaded: Loaded) -> None:
    for one, other in zip(loaded.base.parameters(), loaded.unlearned.parameters(), strict=True):
        float((one.float() - other.float()).norm() / one.float().norm().clamp(min=1e-30))
    behave(loaded)
    probe(loaded)


SCRIPTS: dict[str, Callable[[Loaded], None]] = {"probe": probe, "audit": audit, "behave": behave, "attack": attack}


def generate(model: Any, asked: Sequence[Prompt], tokens: int, **how: Any) -> None:
    """Answers of so many tokens, all questions as one batch padded on the left."""
    width = max(len(prompt.ids) for prompt in asked)
    ids = torch.tensor([[0] * (width - len(prompt.ids)) + list(prompt.ids) for prompt in asked], device=model.device)
    mask = torch.tensor(
        [[0] * (width - len(prompt.ids)) + [1] * len(prompt.ids) for prompt in asked], device=model.device
    )
    model.generate(ids, attention_mask=mask, max_new_tokens=tokens, pad_token_id=0, **({"do_sample": False} | how))


def score(model: Any, asked: Sequence[Prompt]) -> None:
    """Log probabilities of the given answers, all questions as one batch padded on the right."""
    rows = [list(prompt.ids + prompt.answer) for prompt in asked]
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=model.device)
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    logits.float().log_softmax(-1).gather(-1, ids[:, 1:, None]).sum().item()
