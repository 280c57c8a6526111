"""How to probe: one frozen record, light enough to be made without torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ckdiff.errors import CkdiffError
from ckdiff.modes import DIRECTIONS, MODES, VARIANTS

if TYPE_CHECKING:
    from pathlib import Path

    from ckdiff.modes import Direction


DEFAULT_TEMPLATE = "Question: {q}\n Answer:"


DTYPE_NAMES = ("float32", "float64", "bfloat16", "float16")


class SettingsError(CkdiffError):
    """A setting that names nothing."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How to probe.

    Attributes:
        modes, variants, directions: keys of the tables in `modes`.
        window: layers restored together.
        layers: window centres, or None for all.
        tokens: the most tokens of an answer that are scored.
        template, chat: see `prompts.prompts`.
        given_answers: score the answers of the question file, not generated ones.
        kl: compute `krs_kl` and `top1`, which need every logit.
        dtype: one of `DTYPE_NAMES`.
        device: "auto", "cpu", "cuda" or "cuda:N".
        stream: keep one layer of each model in memory at a time.
        batch_size: questions that go through a layer together.
        attention: transformers' attention implementation, or None for its own choice.
        tokenizer: a directory to take the tokenizer from, where the base has none.
        chunk: positions that go through a layer in one call; 0: by device.
        memory: bytes to plan with; 0: what is free.
        controls: False in benchmarks only.
        neurons: look for the neurons that carry the best windows of mode `coeff`, variants `open` and `whole`.
        neuron_goal: the share of a window's krs_kl that they must bring back.
    """

    modes: tuple[str, ...] = ("coeff",)
    variants: tuple[str, ...] = ("open", "isolated")
    directions: tuple[Direction, ...] = ("restore",)
    window: int = 5
    layers: tuple[int, ...] | None = None
    tokens: int = 30
    template: str = DEFAULT_TEMPLATE
    chat: bool = False
    given_answers: bool = False
    kl: bool = True
    dtype: str = "float32"
    device: str = "auto"
    stream: Literal["auto", "on", "off"] = "auto"
    batch_size: int = 32
    attention: str | None = None
    tokenizer: Path | None = None
    chunk: int = 0
    memory: int = 0
    controls: bool = True
    neurons: bool = False
    neuron_goal: float = 0.8

    def check(self) -> None:
        """Refuse what names nothing.

        Raises:
            SettingsError: and what there is instead.
        """
        for option, given, known in (
            ("--mode", self.modes, MODES),
            ("--variant", self.variants, VARIANTS),
            ("--direction", self.directions, DIRECTIONS),
            ("--dtype", (self.dtype,), DTYPE_NAMES),
            ("--stream", (self.stream,), ("auto", "on", "off")),
        ):
            for name in given:
                if name not in known:
                    raise SettingsError(f"{option}: no {name!r}; there are {', '.join(known)}")
            if not given:
                raise SettingsError(f"{option}: names nothing; there are {', '.join(known)}")
        for option, value in (("--window", self.window), ("--tokens", self.tokens), ("--batch-size", self.batch_size)):
            if value < 1:
                raise SettingsError(f"{option}: {value} is too few; give 1 or more")
        if self.neurons:
            self._check_neurons()

    def _check_neurons(self) -> None:
        if not 0 < self.neuron_goal <= 1:
            raise SettingsError(f"--neuron-goal: {self.neuron_goal:g} is no share; give more than 0 and at most 1")
        if "coeff" not in self.modes:
            raise SettingsError("--neurons: looks into windows of mode coeff; add it to --mode")
        if not {"open", "whole"} & set(self.variants):
            raise SettingsError("--neurons: looks into windows of variant open or whole; add one to --variant")
        if not self.kl:
            raise SettingsError("--neurons: goes by krs_kl; leave out --no-kl")
