"""A model of its own to train: `with trainable(case, live) as model: descend(model, texts, ...)`; nothing is written.

The steps are those of transformers' Trainer, in float32 whatever the models are compared in. The texts are few: they go
through the model in batches of at most `BATCH`, in an order that the seed decides.
"""

from __future__ import annotations

import gc
import importlib.util
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

from ckdiff.attacks.case import AttackError
from ckdiff.probes import cost
from ckdiff.probes.live.model import LiveModel
from ckdiff.unlearn.methods import ce
from ckdiff.unlearn.recipe import RecipeError, check_installed
from ckdiff.unlearn.sequences import Tokens, pad

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from ckdiff.attacks.case import Case
    from ckdiff.unlearn.sequences import Padded

    Loss = Callable[[Tensor, Tensor], Tensor]

BATCH = 8
"""Texts of a step."""
WIDE = 576
"""A narrower model takes larger steps: Adam's best rate falls as a model's width grows (arXiv:2203.03466)."""
RANK = 8
"""Of LoRA's matrices."""
STATES = 4
"""Parameters, gradients and two moments: what a parameter in training takes, in parameters."""
VALUES = 34
"""Values that a position takes in a layer until its gradient is there, in widths of the model, about."""
EACH = 997
"""Of the trained parameters each so many-th element is looked at, to prove that training changed them."""


@contextmanager
def trainable(case: Case, live: LiveModel, lora: bool = False, longest: int = 64) -> Iterator[LiveModel]:
    """A copy of a model in float32 whose parameters, or LoRA's matrices beside them, want gradients.

    Args:
        case: what is attacked.
        live: the model; it need not be loaded.
        lora: train small matrices beside the model's own, which then stay as they are.
        longest: tokens of the longest text.

    Raises:
        AttackError: it is streamed, it is quantised, or a package is missing.
        TooLittleMemoryError: it does not fit beside its gradients and their moments.
    """
    check_trainable(case, live, lora)
    check_memory(live, lora, longest)
    with torch.inference_mode(False), torch.enable_grad():
        model = LiveModel(live.checkpoint, torch.float32, live.device, case.job.settings.attention)
        model.values = live.values
        try:
            model.load()
            _want_gradients(model, lora)
            yield model
        finally:
            if not lora:
                model.unload()
            del model
            gc.collect()


def descend(
    model: LiveModel,
    texts: Sequence[Tokens],
    steps: int,
    rate: float,
    seed: int,
    after: Callable[[int], bool],
    loss: Loss = ce,
) -> None:
    """Train on texts, in place.

    Args:
        model: from `trainable`.
        texts: with what of them is scored.
        steps: at most so many.
        rate: of AdamW.
        seed: of their order.
        after: called with the number of steps taken, after each; True ends it.
        loss: of logits and labels.

    Raises:
        DivergedError: the loss is no longer finite.
    """
    from ckdiff.unlearn.trainer import take_steps

    batches = batches_of(texts, steps, seed)

    def loss_of(step: int) -> Tensor:
        batch: Padded = pad(batches[step], model.device)
        return loss(model.model(input_ids=batch.ids, use_cache=False).logits, batch.labels)

    take_steps(model.model, loss_of, steps, rate, model.device, after)


def batches_of(texts: Sequence[Tokens], steps: int, seed: int) -> list[list[Tokens]]:
    """The texts of each step: every text once, in an order that the seed decides, before any comes again."""
    each = -(-len(texts) // -(-len(texts) // BATCH))
    found: list[list[Tokens]] = []
    generator = np.random.default_rng(seed)
    while len(found) < steps:
        order = generator.permutation(len(texts))
        found += [[texts[number] for number in order[first : first + each]] for first in range(0, len(texts), each)]
    return found[:steps]


def sample(model: LiveModel) -> list[Tensor]:
    """Some elements of every parameter that is trained, as they are now."""
    return [value.detach().flatten()[::EACH].clone() for value in model.model.parameters() if value.requires_grad]


def share_changed(before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
    """The share of sampled elements that differ."""
    changed = sum(int(torch.count_nonzero(old != new)) for old, new in zip(before, after, strict=True))
    return changed / max(1, sum(one.numel() for one in before))


def check_memory(live: LiveModel, lora: bool, longest: int) -> None:
    """Refuse what cannot fit, and offer what is smaller.

    Raises:
        TooLittleMemoryError: see there.
    """
    needed, free = training_bytes(live, lora, longest), cost.free_memory(live.device)
    if needed > free:
        less = "fewer or shorter questions" if lora else "--training lora"
        raise cost.TooLittleMemoryError(
            f"training needs {needed / 1e9:.3g} GB of memory and {free / 1e9:.3g} GB are free; use {less}"
        )


def training_bytes(live: LiveModel, lora: bool, longest: int) -> int:
    """Memory that a training takes: weights, gradients and moments exactly, activations about."""
    embedding = live.model.get_input_embeddings()
    position = VALUES * embedding.embedding_dim * len(live.layers) + 5 * embedding.num_embeddings
    activations: int = 4 * BATCH * longest * position
    return live.parameter_bytes(4) * (1 if lora else STATES) + activations


def check_trainable(case: Case, live: LiveModel, lora: bool) -> None:
    """Refuse what cannot be trained.

    Raises:
        AttackError: it is streamed, a package is missing, or a tensor is quantised: codes take no gradient.
    """
    case.whole("training")
    try:
        check_installed()
    except RecipeError as error:
        raise AttackError(str(error)) from error
    if lora:
        return
    checkpoint = live.checkpoint
    for name in checkpoint.shapes():
        label = checkpoint.derived[name].label if name in checkpoint.derived else ""
        if label or checkpoint.dtype(name).startswith("F8"):
            raise AttackError(
                f"the checkpoint is quantised ({label or checkpoint.dtype(name)}), and codes take no gradient; use"
                " --training lora"
            )


def _want_gradients(model: LiveModel, lora: bool) -> None:
    """Say which parameters are trained.

    Raises:
        AttackError: peft is not there, or finds nothing to put its matrices beside.
    """
    if not lora:
        for _, value in model.parameters():
            value.requires_grad_(value.is_floating_point())
        return
    if importlib.util.find_spec("peft") is None:
        raise AttackError("--training lora needs the package peft; `pip install peft` brings it")
    from peft import LoraConfig, inject_adapter_in_model

    torch.manual_seed(0)
    try:
        inject_adapter_in_model(LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear"), model.model)
    except ValueError as error:
        raise AttackError(f"--training lora: peft cannot change this model ({' '.join(str(error).split())})") from error


def widened(rate: float, live: LiveModel) -> float:
    """A rate of Adam that suits models of `WIDE` and more, as it suits one of this width."""
    return float(f"{rate * max(1.0, WIDE / live.model.get_input_embeddings().embedding_dim):.2g}")
