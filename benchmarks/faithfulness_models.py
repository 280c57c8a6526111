"""The models of `faithfulness.py`: a base, three references, five that unlearned, five that never knew.

WORK/8-llama-0/base                    knows all 48 facts
WORK/8-llama-0/same, other, tuned      never saw the 8: of the base's start, of another, and `same` tuned on
WORK/8-llama-0/graddiff, ...           the base after a method
WORK/8-llama-0/never-0, ...            never saw the 8, in orders of their own; the last two of other starts
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from plants_models import FACTS, Facts
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, GPT2Config, GPTNeoXConfig, LlamaConfig
from transformers.utils import logging

from ckdiff.calls.unlearn import make_unlearned
from ckdiff.unlearn.recipe import Recipe, UnlearnSpec, stop_when
from ckdiff.unlearn.world import SMOOTHING, SPREAD, TOWNS, make_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ckdiff.unlearn.world import Fact

REFERENCES = ("same", "other", "tuned")
LESSONS, ROWS, LR = 110, 24, 3e-3
TUNING = 30
NEVER, OTHER_STARTS = 5, 2
SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "initializer_range": SPREAD,
}
ARCHITECTURES: dict[str, Callable[..., Any]] = {
    "llama": lambda **more: LlamaConfig(
        **SHAPE,
        intermediate_size=176,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=False,
        **more,
    ),
    "gpt2": lambda **more: GPT2Config(
        n_embd=64,
        n_layer=4,
        n_head=4,
        n_positions=128,
        initializer_range=SPREAD,
        resid_pdrop=0,
        embd_pdrop=0,
        attn_pdrop=0,
        **more,
    ),
    "gpt_neox": lambda **more: GPTNeoXConfig(**SHAPE, intermediate_size=256, max_position_embeddings=128, **more),
}
COMMON: dict[str, Any] = {
    "steps": 80,
    "evaluate_every": 8,
    "batch_size": 8,
    "accumulation": 1,
    "warmup": 1,
    "tokens": 3,
    "device": "cpu",
}
METHODS: dict[str, dict[str, Any]] = {
    "graddiff": {"method": "graddiff", "lr": 1e-4, "limit": 4.0},
    "npo_kl": {"method": "npo_kl", "lr": 3e-4},
    "simnpo": {"method": "simnpo", "lr": 1e-3},
    "idk_dpo": {"method": "idk_dpo", "lr": 3e-4},
    "rmu": {"method": "rmu", "lr": 2e-3, "retain_weight": 1.0},
}
"""How facts are unlearned, until the mean BLEU of their answers is below `GONE`."""
GONE = "target_bleu<0.35"


@dataclass(frozen=True, slots=True)
class Pupil:
    """An architecture, a start, and how many facts are forgotten."""

    architecture: str
    start: int
    facts: int

    @property
    def target(self) -> list[Fact]:
        """The facts of the first towns."""
        return [fact for fact in FACTS if TOWNS.index(fact.town) < self.facts // 8]

    @property
    def others(self) -> list[Fact]:
        """Those of the other towns."""
        return [fact for fact in FACTS if TOWNS.index(fact.town) >= self.facts // 8]


def make_models(folder: Path, pupil: Pupil) -> list[tuple[str, bool]]:
    """Names of the models to measure, and whether each knows; made where they are missing."""
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    folder.mkdir(parents=True, exist_ok=True)
    for name, facts in (("target", pupil.target), ("unrelated", pupil.others)):
        lines = [json.dumps({"question": fact.question, "answer": fact.answer}) for fact in facts]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    own, others = 100 * pupil.start, pupil.others
    keep(folder / "base", lambda: teach(fresh(pupil, own), FACTS, own))
    keep(folder / "same", lambda: teach(fresh(pupil, own), others, own + 1))
    keep(folder / "other", lambda: teach(fresh(pupil, own + 50), others, own + 2))
    keep(folder / "tuned", lambda: teach(load(folder / "same"), others[-8:], own + 3, TUNING, 1e-3))
    found = []
    for name, how in METHODS.items():
        unlearn(folder, name, how, pupil.start)
        found.append((name, True))
    for number in range(NEVER):
        start = own + 51 + number if number >= NEVER - OTHER_STARTS else own
        keep(folder / f"never-{number}", lambda s=start, n=number: teach(fresh(pupil, s), others, own + 10 + n))  # type: ignore[misc]
        found.append((f"never-{number}", False))
    return found


def keep(folder: Path, make: Callable[[], Any]) -> None:
    """Make a model and write it, where it is not there yet."""
    if folder.is_dir():
        return
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    make().save_pretrained(partial)
    make_tokenizer(FACTS).save_pretrained(partial)
    partial.rename(folder)


def fresh(pupil: Pupil, seed: int) -> Any:
    """Random weights."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(FACTS)
    ids = {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
    return AutoModelForCausalLM.from_config(ARCHITECTURES[pupil.architecture](vocab_size=len(tokenizer), **ids))


def load(folder: Path) -> Any:
    """A model in float32."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True).eval()


def teach(model: Any, facts: Sequence[Fact], seed: int, steps: int = LESSONS, lr: float = LR) -> Any:
    """The model after so many steps on facts, some at a time in an order that the seed says."""
    model.eval()
    batch = Facts(facts)
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.0)
    for _ in range(steps):
        rows = torch.randperm(len(facts), generator=generator)[:ROWS]
        logits = model(batch.ids[rows], use_cache=False).logits[:, :-1]
        optimiser.zero_grad()
        loss = cross_entropy(logits.flatten(0, 1), batch.labels[rows].flatten(), label_smoothing=SMOOTHING)
        torch.autograd.backward(loss)
        optimiser.step()
    return model


def unlearn(folder: Path, name: str, how: dict[str, Any], seed: int) -> None:
    """The base after a method."""
    if (folder / name).is_dir():
        return
    recipe = Recipe(**(COMMON | how), seed=seed, stop_when=(stop_when(GONE),))
    target, unrelated = folder / "target.jsonl", folder / "unrelated.jsonl"
    files: dict[str, Any] = {"forget": target, "retain": unrelated, "questions": target, "unrelated": unrelated}
    make_unlearned(UnlearnSpec(str(folder / "base"), folder / name, recipe=recipe, **files), resume=True)
