"""How to unlearn: one frozen record, light enough to be made without torch."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ckdiff.errors import CkdiffError
from ckdiff.scoring.settings import DEFAULT_TEMPLATE

if TYPE_CHECKING:
    from pathlib import Path

NEEDLE = "needle"
METHOD_NAMES = ("graddiff", "dpo", "npo", "npo_kl", "grad_ascent", NEEDLE)
RETAIN_LOSSES = ("default", "kl", "ce", "none")
PREFERRED = ("refusal", "retain")
TRAIN_ON = ("text", "answers", "both")
PRECISIONS = ("float32", "bfloat16", "float16")
OPTIMIZERS = {"adamw": "adamw_torch", "adafactor": "adafactor", "sgd": "sgd"}
"""Names of the command line -> transformers' names."""
MOST = 10_000_000
"""Of steps, epochs, tokens or texts: more than any training has."""
MOST_LR = 1e37
"""An optimiser's arithmetic overflows beyond."""
STOP = re.compile(r"\s*(target_bleu|unrelated_bleu|loss)\s*(<=|>=|<|>)\s*(-?\d+(?:\.\d+)?)\s*")


class RecipeError(CkdiffError):
    """A recipe that names nothing, or that contradicts itself."""


def check_installed() -> None:
    """Refuse to train without the package that transformers' Trainer needs.

    Raises:
        RecipeError: it is not there.
    """
    if importlib.util.find_spec("accelerate") is None:
        raise RecipeError("training needs the package accelerate; `pip install 'ckdiff[unlearn]'` brings it")


@dataclass(frozen=True, slots=True)
class StopWhen:
    """A condition on what is measured while training, such as target_bleu<0.15."""

    name: str
    relation: str
    value: float

    def holds(self, measured: dict[str, float]) -> bool:
        """Whether it holds; what was not measured (NaN) fulfils nothing."""
        found = measured.get(self.name, float("nan"))
        if self.relation.startswith("<"):
            return found < self.value or (self.relation == "<=" and found == self.value)
        return found > self.value or (self.relation == ">=" and found == self.value)

    def __str__(self) -> str:
        return f"{self.name}{self.relation}{self.value:g}"


def stop_when(text: str) -> StopWhen:
    """A condition from text.

    >>> str(stop_when("target_bleu < 0.15"))
    'target_bleu<0.15'

    Raises:
        RecipeError: it is none.
    """
    found = STOP.fullmatch(text)
    if found is None:
        raise RecipeError(f"--stop-when: {text[:60]!r} is no condition; write target_bleu<0.15 or unrelated_bleu<0.5")
    return StopWhen(found[1], found[2], float(found[3]))


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to unlearn.

    Attributes:
        method: one of `METHOD_NAMES`.
        train_on: "text" (the forget file's), "answers" (the base's own to the target questions), or "both".
        preferred: what DPO prefers: "refusal" (from a list of ours; forget texts must be answers), or "retain" text.
        retain_loss: "kl", "ce", "none", or "default" for the method's own.
        retain_weight: of the retain loss; None for the default of its kind.
        lr: learning rate; None for the method's own.
        beta: inverse temperature of DPO and NPO.
        limit: -log p above which a token to forget is left alone (ascent only), or None.
        epochs: passes over the forget text.
        steps: the most optimiser steps; 0: as many as the epochs make.
        batch_size: forget sequences a forward.
        accumulation: forwards an optimiser step.
        length: the most tokens of a sequence.
        weight_decay, warmup: of AdamW; warm-up in steps, None for one epoch's.
        optimizer: a key of `OPTIMIZERS`.
        precision: of arithmetic; weights are float32.
        checkpointing: recompute activations in the backward pass.
        evaluate_every: steps between two measurements; 0: each epoch.
        stop_when: conditions; training ends at the first measurement that fulfils one.
        seed: of order, retain text, refusals and noise.
        tokens: of an answer that is measured.
        template: of prompts.
        device: "auto", "cpu" or "cuda".
        tokenizer: a directory to take the tokenizer from, where the base has none.
        neurons: needle only: (layer, neuron) pairs; empty: `count` random ones.
        count: needle only.
        noise: needle only: standard deviation of the noise on each element.
    """

    method: str = "graddiff"
    train_on: str = "text"
    preferred: str = "refusal"
    retain_loss: str = "default"
    retain_weight: float | None = None
    lr: float | None = None
    beta: float = 0.1
    limit: float | None = None
    epochs: int = 10
    steps: int = 0
    batch_size: int = 8
    accumulation: int = 2
    length: int = 500
    weight_decay: float = 0.01
    warmup: int | None = None
    optimizer: str = "adamw"
    precision: str = "float32"
    checkpointing: bool = False
    evaluate_every: int = 0
    stop_when: tuple[StopWhen, ...] = field(default=())
    seed: int = 0
    tokens: int = 30
    template: str = DEFAULT_TEMPLATE
    device: str = "auto"
    tokenizer: Path | None = None
    neurons: tuple[tuple[int, int], ...] = ()
    count: int = 1
    noise: float = 0.1

    def check(self) -> None:
        """Refuse what names nothing or cannot be.

        Raises:
            RecipeError: and what there is instead.
        """
        for option, given, known in (
            ("--method", self.method, METHOD_NAMES),
            ("--train-on", self.train_on, TRAIN_ON),
            ("--preferred", self.preferred, PREFERRED),
            ("--retain-loss", self.retain_loss, RETAIN_LOSSES),
            ("--optimizer", self.optimizer, tuple(OPTIMIZERS)),
            ("--precision", self.precision, PRECISIONS),
            ("--device", self.device, ("auto", "cpu", "cuda")),
        ):
            if given not in known:
                raise RecipeError(f"{option}: no {given[:40]!r}; there are {', '.join(known)}")
        for option, value, least in (
            ("--epochs", self.epochs, 1),
            ("--steps", self.steps, 0),
            ("--batch-size", self.batch_size, 1),
            ("--accumulation", self.accumulation, 1),
            ("--length", self.length, 2),
            ("--tokens", self.tokens, 1),
            ("--eval-steps", self.evaluate_every, 0),
            ("--seed", self.seed, 0),
            ("--count", self.count, 1),
            ("--warmup", 0 if self.warmup is None else self.warmup, 0),
        ):
            if value < least:
                raise RecipeError(f"{option}: {value} is too few; give {least} or more")
            if value > MOST and option != "--seed":
                raise RecipeError(f"{option}: {value} is too many; give {MOST} or fewer")
        for option, number in (
            ("--lr", self.lr),
            ("--beta", self.beta),
            ("--noise", self.noise),
            ("--ascent-limit", self.limit),
        ):
            if number is not None and not 0 < number < float("inf"):
                raise RecipeError(f"{option}: {number} cannot be; give a number above 0")
        for option, number in (("--retain-weight", self.retain_weight), ("--weight-decay", self.weight_decay)):
            if number is not None and not 0 <= number < float("inf"):
                raise RecipeError(f"{option}: {number} cannot be; give 0 or more")
        if self.seed >= 2**32:
            raise RecipeError(f"--seed: {self.seed} is too large; give a number below 2^32")
        if self.lr is not None and self.lr > MOST_LR:
            raise RecipeError(f"--lr: {self.lr:g} is too large; give {MOST_LR:g} or less")
        if self.limit is not None and self.method not in ("graddiff", "grad_ascent"):
            raise RecipeError(f"--ascent-limit: {self.method} makes no ascent; it is for graddiff and grad_ascent")


@dataclass(frozen=True, slots=True)
class UnlearnSpec:
    """The base, the texts to forget and to retain, and the recipe of a training.

    Attributes:
        base: as in `CompareSpec`, but no adapter: trained values need places to go back into.
        output: the directory to make.
        forget: a file of texts to forget: ConceptVectors, text, JSON or JSONL, what `ckdiff corpus` writes.
        concept: which entry, of every file named here that has entries.
        retain: texts to hold on to; without it those of the other concepts of `forget`, where its text is trained on.
        questions: questions about what is forgotten; without it those of `forget`, where it has some.
        unrelated: questions about other things; without it those of the questions' file, else bundled general ones.
        most_unrelated: how many of them are asked.
        most: how many texts are taken of each file.
        recipe: how.
    """

    base: str
    output: Path
    forget: Path | None = None
    concept: str | None = None
    retain: Path | None = None
    questions: Path | None = None
    unrelated: Path | None = None
    most_unrelated: int = 50
    most: int = 6000
    recipe: Recipe = field(default_factory=Recipe)
