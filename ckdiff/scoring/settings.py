"""How to probe: one frozen record, light enough to be made without torch.

`Settings` is the sum of its parts, and the command line has an option for each field that names one.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003  (the door reads the fields' types)
from typing import Annotated, Final, Literal

from ckdiff.errors import CkdiffError
from ckdiff.modes import DIRECTIONS, EVERY_MODE, MODES, VARIANTS, Direction, is_planned
from ckdiff.options import (
    ALL,
    ASKED,
    BATCH_SIZE,
    DEVICE,
    NEURONS,
    RUNS,
    TEMPLATE,
    TOKENIZER,
    TOKENS,
    Option,
    check_options,
    names,
    numbers,
)
from ckdiff.options import CHAT_PROMPT as CHAT_PROMPT
from ckdiff.options import DEFAULT_TEMPLATE as DEFAULT_TEMPLATE

GREEDY, GIVEN = "greedy, of the base", "of the question file"
"""What a report records as the answers that were scored."""


DTYPE_NAMES = ("float32", "float64", "bfloat16", "float16")
SHORT_NAMES = {"fp32": "float32", "fp64": "float64", "bf16": "bfloat16", "fp16": "float16"}


STREAMS = ("auto", "on", "off")


NEEDED: Final = "needed"
EVERY: Final = "all"
"""Whose windows are swept: those of the modes that a verdict places, or those of every mode."""


RESTORED = "What is restored"
"""The heading of these options in `--help`."""


class SettingsError(CkdiffError):
    """A setting that names nothing."""


def directions(text: str) -> tuple[str, ...]:
    """The directions that a text names; `both` are all."""
    return names(ALL if text.strip() == "both" else text, DIRECTIONS)


MODE = Option(
    "--mode -m",
    f"What is put back: {', '.join(MODES)}, or all; several kinds of weights as values+ancillary.",
    RESTORED,
    known=EVERY_MODE,
    read=functools.partial(names, known=MODES),
)
VARIANT = Option(
    "--variant",
    f"What else is held still: {', '.join(VARIANTS)}, or all.",
    RESTORED,
    known=VARIANTS,
)
DIRECTION = Option(
    "--direction",
    "restore: base states into the unlearned; break; both.",
    RESTORED,
    known=DIRECTIONS,
    read=directions,
)
LAYERS = Option(
    "--layers",
    "Window centres, such as 0,5-9; else all.",
    RESTORED,
    read=functools.partial(numbers, "--layers"),
    rare=True,
)
DTYPE = Option(
    "--dtype",
    "float32, float64, bfloat16 or float16.",
    RUNS,
    known=DTYPE_NAMES,
    read=lambda text: SHORT_NAMES.get(text, text),
    rare=True,
)
GIVEN_ANSWERS = Option("--given-answers", "Score the file's answers, not the base's own.", ASKED, rare=True)
WINDOWS = Option(
    "--windows",
    "needed: curves of modes that the verdict places, of others the whole model's score; all: every curve.",
    RESTORED,
    known=(NEEDED, EVERY),
    rare=True,
)
GOAL = Option(
    "--neuron-goal", "The share of a window's krs_kl that they bring back.", RESTORED, above=0, most=1, rare=True
)


@dataclass(frozen=True)
class Restoring:
    """Which states are put back, and which scores are computed.

    Attributes:
        modes, variants, directions: keys of the tables in `modes`.
        window: layers restored together.
        layers: window centres, or None for all.
        given_answers: score the answers of the question file, not generated ones.
        kl: compute `krs_kl` and `top1`, which need every logit.
        neurons: look for the neurons that carry the best windows of mode `coeff`, variants `open` and `whole`.
        neuron_goal: the share of a window's krs_kl that they must bring back.
    """

    modes: Annotated[tuple[str, ...], MODE] = ("coeff",)
    variants: Annotated[tuple[str, ...], VARIANT] = ("open", "isolated")
    directions: Annotated[tuple[Direction, ...], DIRECTION] = ("restore",)
    window: Annotated[int, Option("--window", "Layers restored together.", RESTORED, least=1)] = 5
    layers: Annotated[tuple[int, ...] | None, LAYERS] = None
    given_answers: Annotated[bool, GIVEN_ANSWERS] = False
    kl: Annotated[bool, Option("--kl/--no-kl", "krs_kl and top1, which need every logit.", RUNS, rare=True)] = True
    neurons: Annotated[bool, NEURONS.but(panel=RESTORED, rare=True)] = False
    neuron_goal: Annotated[float, GOAL] = 0.8


@dataclass(frozen=True)
class Sweeping:
    """Whose windows are swept, of what is restored; of an audit alone, since only a verdict places modes.

    Attributes:
        windows: `NEEDED` or `EVERY`.
    """

    windows: Annotated[Literal["needed", "all"], WINDOWS] = EVERY


@dataclass(frozen=True)
class Answering:
    """How a model is asked.

    Attributes:
        tokens: the most tokens of an answer that are scored.
        template, chat: see `prompts.prompts`.
        tokenizer: a directory to take the tokenizer from, where the base has none.
    """

    tokens: Annotated[int, TOKENS] = 30
    template: Annotated[str, TEMPLATE] = DEFAULT_TEMPLATE
    chat: Annotated[bool, Option("--chat-template", "Use the tokenizer's chat template.", ASKED)] = False
    tokenizer: Annotated[Path | None, TOKENIZER] = None

    @property
    def prompt(self) -> str:
        """What a report records as the prompt."""
        return CHAT_PROMPT if self.chat else self.template


@dataclass(frozen=True)
class Machine:
    """How a model runs.

    Attributes:
        dtype: one of `DTYPE_NAMES`.
        device: "auto", "cpu", "cuda" or "cuda:N".
        stream: keep one layer of each model in memory at a time.
        batch_size: questions that go through a layer together.
        attention: transformers' attention implementation, or None for its own choice.
        chunk: positions that go through a layer in one call; 0: by device.
        memory: bytes to plan with; 0: what is free.
    """

    stream: Annotated[
        Literal["auto", "on", "off"],
        Option("--stream", "One layer in memory at a time: auto, on or off.", RUNS, known=STREAMS, rare=True),
    ] = "auto"
    device: Annotated[str, DEVICE] = "auto"
    dtype: Annotated[str, DTYPE] = "float32"
    batch_size: Annotated[int, BATCH_SIZE] = 32
    attention: str | None = None
    chunk: int = 0
    memory: int = 0


@dataclass(frozen=True)
class Settings(Machine, Answering, Sweeping, Restoring):
    """How to probe: what is put back, whose windows are swept, how a model is asked, and how it runs.

    Attributes:
        controls: False in benchmarks only.
    """

    controls: bool = True

    @property
    def windowed(self) -> frozenset[str] | None:
        """Modes whose windows are swept before anything is judged; None: every mode's, at once.

        Without a score of the whole model nobody could say whose windows are needed.
        """
        if self.windows == EVERY or {VARIANTS[name].whole for name in self.variants} != {True, False}:
            return None
        return frozenset({"coeff"} if self.neurons else ())

    def check(self) -> None:
        """Refuse what names nothing, and what contradicts itself.

        Raises:
            SettingsError: and what there is instead.
        """
        check_options(self, SettingsError)
        for mode in self.modes:
            if not any(is_planned(mode, variant) for variant in self.variants):
                raise SettingsError(f"--mode {mode}: is put back in the whole model; add whole to --variant")
        if not self.neurons:
            return
        if "coeff" not in self.modes:
            raise SettingsError("--neurons: looks into windows of mode coeff; add it to --mode")
        if not {"open", "whole"} & set(self.variants):
            raise SettingsError("--neurons: looks into windows of variant open or whole; add one to --variant")
        if not self.kl:
            raise SettingsError("--neurons: goes by krs_kl; leave out --no-kl")
