"""How to unlearn: one frozen record, light enough to be made without torch."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass, field
from pathlib import Path  # noqa: TC003  (the door reads the fields' types)
from typing import Annotated

from ckdiff.errors import CkdiffError, with_extra
from ckdiff.options import (
    BATCH_SIZE,
    CONCEPT,
    DEVICE,
    LENGTH,
    MOST_TEXTS,
    MOST_UNRELATED,
    NEURONS,
    OUTPUT,
    QUESTIONS,
    SEED,
    TEMPLATE,
    TOKENIZER,
    TOKENS,
    UNRELATED,
    Argument,
    Option,
    check_options,
)
from ckdiff.scoring.settings import DEFAULT_TEMPLATE

NEEDLE = "needle"
STEERED = "rmu"
"""The method that looks at a layer's states."""
METHOD_NAMES = (
    "graddiff", "dpo", "npo", "npo_kl", "grad_ascent", "simnpo", "idk_dpo", "altpo", "undial", STEERED, NEEDLE
)  # fmt: skip
RETAIN_LOSSES = ("default", "kl", "ce", "states", "none")
PREFERRED = ("refusal", "retain", "alternate")
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
        raise RecipeError(with_extra("training needs the package accelerate", "unlearn"))


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


def neuron_pairs(text: str) -> tuple[tuple[int, int], ...]:
    """Neurons from text, each as (layer, neuron).

    >>> neuron_pairs("3:17, 4:0")
    ((3, 17), (4, 0))

    Raises:
        RecipeError: a part of it is none.
    """
    found = []
    for part in text.split(","):
        layer, colon, neuron = (piece.strip() for piece in part.partition(":"))
        if not colon or not all(one.isascii() and one.isdigit() and len(one) < 10 for one in (layer, neuron)):
            raise RecipeError(f"--neurons: {part.strip()[:40]!r} is not layer:neuron; write 3:17,4:0")
        found.append((int(layer), int(neuron)))
    return tuple(found)


TEXTS, LOSS, TRAINING, NEEDLES, MEASURED, TWINS = (
    "What is forgotten, and what is kept",
    "The loss",
    "Training",
    "Needle",
    "What is measured",
    "A family of models",
)
"""Headings of `ckdiff unlearn --help`."""

ON = Option("--train-on", "text, answers (the base's own to the target questions), or both.", TEXTS, known=TRAIN_ON)
STOP_WHEN = Option(
    "--stop-when", "Such as 'target_bleu<0.15'; may be repeated.", MEASURED, read=stop_when, repeated=True
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to unlearn.

    Attributes:
        method: one of `METHOD_NAMES`.
        train_on: "text" (the forget file's), "answers" (the base's own to the target questions), or "both".
        preferred: what DPO prefers: "refusal" (from a list of ours; forget texts must be answers), "retain" text, or
            "alternate" (the forget file's other answers).
        retain_loss: "kl", "ce", "states" (RMU's), "none", or "default" for the method's own.
        retain_weight: of the retain loss; None for the method's own, or that of its kind.
        lr: learning rate; None for the method's own.
        beta: of DPO, NPO and SimNPO the inverse temperature, of UNDIAL what a logit is lowered by; None for the
            method's own.
        margin: SimNPO only: of its reward; None for 0.
        layer: RMU only: the layer behind which states are steered; None for one at 7 of 32.
        steering: RMU only: length of the state that they are led to; None for five times the base's own.
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

    method: Annotated[
        str, Option("--method -m", f"{', '.join(METHOD_NAMES[:-1])} or {METHOD_NAMES[-1]}.", known=METHOD_NAMES)
    ] = "graddiff"
    train_on: Annotated[str, ON] = "text"
    retain_loss: Annotated[
        str, Option("--retain-loss", "kl, ce, states or none; else the method's own.", LOSS, known=RETAIN_LOSSES)
    ] = "default"
    retain_weight: Annotated[
        float | None, Option("--retain-weight", "Else the method's own.", LOSS, least=0, rare=True)
    ] = None
    beta: Annotated[
        float | None, Option("--beta", "Of DPO, NPO, SimNPO, UNDIAL; else its own.", LOSS, above=0, rare=True)
    ] = None
    margin: Annotated[float | None, Option("--margin", "Of SimNPO; else 0.", LOSS, least=0, rare=True)] = None
    layer: Annotated[
        int | None, Option("--layer", "Of RMU; else one at 7 of 32.", LOSS, least=0, most=MOST, rare=True)
    ] = None
    steering: Annotated[
        float | None,
        Option("--steering", "Of RMU: length of the random state; else 5 of the base's.", LOSS, above=0, rare=True),
    ] = None
    preferred: Annotated[
        str, Option("--preferred", "What dpo prefers: refusal, retain or alternate.", LOSS, known=PREFERRED, rare=True)
    ] = "refusal"
    limit: Annotated[
        float | None,
        Option("--ascent-limit", "Leave a token alone once its loss is above this (nats).", LOSS, above=0, rare=True),
    ] = None
    lr: Annotated[
        float | None, Option("--lr", "Learning rate; else the method's own.", TRAINING, above=0, most=MOST_LR)
    ] = None
    epochs: Annotated[int, Option("--epochs", "Passes over the texts.", TRAINING, least=1, most=MOST)] = 10
    steps: Annotated[int, Option("--steps", "Steps, instead of epochs.", TRAINING, least=0, most=MOST)] = 0
    batch_size: Annotated[int, BATCH_SIZE.but("Texts a forward.", TRAINING, most=MOST, rare=False)] = 8
    accumulation: Annotated[
        int, Option("--accumulation", "Forwards a step.", TRAINING, least=1, most=MOST, rare=True)
    ] = 2
    length: Annotated[int, LENGTH.but(panel=TEXTS, most=MOST, rare=True)] = 500
    weight_decay: Annotated[float, Option("--weight-decay", "Of the optimizer.", TRAINING, least=0, rare=True)] = 0.01
    warmup: Annotated[
        int | None, Option("--warmup", "Steps; else one epoch's.", TRAINING, least=0, most=MOST, rare=True)
    ] = None
    optimizer: Annotated[
        str, Option("--optimizer", "adamw, adafactor or sgd.", TRAINING, known=OPTIMIZERS, rare=True)
    ] = "adamw"
    precision: Annotated[
        str, Option("--precision", "float32, bfloat16 or float16.", TRAINING, known=PRECISIONS, rare=True)
    ] = "float32"
    checkpointing: Annotated[
        bool, Option("--checkpointing", "Less memory, a third more time.", TRAINING, rare=True)
    ] = False
    seed: Annotated[int, SEED.but("Of order, retain text, refusals and noise.", TRAINING, rare=True)] = 0
    device: Annotated[str, DEVICE.but("auto, cpu or cuda.", TRAINING, known=("auto", "cpu", "cuda"))] = "auto"
    tokens: Annotated[int, TOKENS.but(panel=MEASURED, most=MOST)] = 30
    template: Annotated[str, TEMPLATE.but(panel=MEASURED)] = DEFAULT_TEMPLATE
    tokenizer: Annotated[Path | None, TOKENIZER.but(panel=MEASURED)] = None
    evaluate_every: Annotated[
        int, Option("--eval-steps", "Steps between measurements; else epochs.", MEASURED, least=0, most=MOST)
    ] = 0
    stop_when: Annotated[tuple[StopWhen, ...], STOP_WHEN] = ()
    neurons: Annotated[
        tuple[tuple[int, int], ...],
        NEURONS.but("layer:neuron, ...; else random ones.", NEEDLES, read=neuron_pairs),
    ] = ()
    count: Annotated[int, Option("--count", "Random neurons.", NEEDLES, least=1, most=MOST, rare=True)] = 1
    noise: Annotated[float, Option("--noise", "Standard deviation of the noise.", NEEDLES, above=0, rare=True)] = 0.1

    def check(self) -> None:
        """Refuse what names nothing or cannot be.

        Raises:
            RecipeError: and what there is instead.
        """
        check_options(self, RecipeError)
        if self.limit is not None and self.method not in ("graddiff", "grad_ascent"):
            raise RecipeError(f"--ascent-limit: {self.method} makes no ascent; it is for graddiff and grad_ascent")
        if self.margin is not None and self.method != "simnpo":
            raise RecipeError(f"--margin: {self.method} has none; it is for simnpo")
        for name in ("layer", "steering"):
            if getattr(self, name) is not None and self.method != STEERED:
                raise RecipeError(f"--{name}: {self.method} steers no states; it is for {STEERED}")
        if self.retain_loss == "states" and self.method != STEERED:
            raise RecipeError(f"--retain-loss states: {self.method} looks at no states; it is for {STEERED}")


@dataclass(frozen=True, slots=True)
class Twins:
    """A family of models, of which one knows, some never knew and one has unlearned.

    Attributes:
        wanted: make the family instead of one pair.
        people: how many are invented, where no facts are given.
        forgotten: of how many of them the facts are to be forgotten.
        passes: over the facts, while they are learned.
        learn_lr: learning rate meanwhile.
        references: models that never knew: the second and later ones have learned in other orders.
    """

    wanted: Annotated[bool, Option("--twins", "Make a family: knows, never (3) and unlearned.", TWINS)] = False
    people: Annotated[
        int, Option("--people", "Invented, without --forget and --retain.", TWINS, least=3, most=100, rare=True)
    ] = 20
    forgotten: Annotated[int, Option("--forgotten", "People to forget.", TWINS, least=1, most=98, rare=True)] = 2
    passes: Annotated[int, Option("--passes", "Over the facts to learn.", TWINS, least=1, most=MOST, rare=True)] = 10
    learn_lr: Annotated[
        float, Option("--learn-lr", "Learning rate of that.", TWINS, above=0, most=MOST_LR, rare=True)
    ] = 1e-4
    references: Annotated[
        int,
        Option(
            "--references", "Models that never knew, each in an order of its own.", TWINS, least=1, most=100, rare=True
        ),
    ] = 3


@dataclass(frozen=True, slots=True)
class UnlearnSpec:
    """The base, the texts to forget and to retain, and the recipe of a training.

    Attributes:
        base: as in `CompareSpec`, but no adapter: trained values need places to go back into.
        output: the directory to make.
        forget: a file of texts to forget, in a format of `questions.formats`; what `ckdiff corpus` writes is one.
        concept: which entry, of every file named here that has entries.
        retain: texts to hold on to; without it those of the other concepts of `forget`, where its text is trained on.
        questions: questions about what is forgotten; without it those of `forget`, where it has some.
        unrelated: questions about other things; without it those of the questions' file, else bundled general ones.
        most_unrelated: how many of them are asked.
        most: how many texts are taken of each file.
        recipe: how.
        twins: a family instead of one pair.
    """

    base: Annotated[str, Argument("The model to unlearn from: a plain checkpoint of 16 or 32 bits.")]
    output: Annotated[Path, OUTPUT.but("The checkpoint directory to make.")]
    forget: Annotated[Path | None, Option("--forget -F", "Texts: ConceptVectors, text, JSON, CSV, parquet.", TEXTS)] = (
        None
    )
    concept: Annotated[str | None, CONCEPT.but("Which concept of the files.", TEXTS)] = None
    retain: Annotated[
        Path | None, Option("--retain", "Texts to keep; else those of --forget's other concepts.", TEXTS)
    ] = None
    questions: Annotated[Path | None, QUESTIONS.but("Target questions; else those of --forget.", MEASURED)] = None
    unrelated: Annotated[Path | None, UNRELATED.but(panel=MEASURED)] = None
    most_unrelated: Annotated[int, MOST_UNRELATED.but(panel=MEASURED)] = 50
    most: Annotated[int, MOST_TEXTS.but(panel=TEXTS)] = 6000
    recipe: Recipe = field(default_factory=Recipe)
    twins: Twins = field(default_factory=Twins)
