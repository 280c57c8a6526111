"""The ground of every format: a checkpoint's stored tensors, and the tensors that a format makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.errors import CheckpointError
from ckdiff.untrusted import quoted
from ckdiff.weights.checkpoint import Derived
from ckdiff.weights.rules import CONV1D_MODELS, CONV1D_NAMES
from ckdiff.weights.storage import Mapped, decode64

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ckdiff.shapes import AnyArray, Float64
    from ckdiff.weights.checkpoint import Checkpoint

    Compute = Callable[[Mapped, int, int], AnyArray]
    Round = Callable[[Mapped, AnyArray, int, int], AnyArray]

REMEDY = "dequantise the checkpoint to bf16 first"


@dataclass(frozen=True, slots=True)
class Found:
    """One tensor that a format makes.

    Attributes:
        name: its name, that of the tensor which was quantised.
        derived: how it is computed.
        used: stored tensors that are no tensors of their own any more.
    """

    name: str
    derived: Derived
    used: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """A checkpoint that is being looked through for one format after the other."""

    checkpoint: Checkpoint

    @property
    def names(self) -> Mapping[str, Any]:
        """Stored tensors by name."""
        return self.checkpoint.stored

    @property
    def settings(self) -> Mapping[str, Any]:
        """The quantisation that config.json describes, or nothing."""
        config = self.checkpoint.config
        inner = config.get("text_config")
        places = (config, inner if isinstance(inner, dict) else {})
        found = (place.get(key) for place in places for key in ("quantization_config", "quantization"))
        return next((value for value in found if isinstance(value, dict)), {})

    @property
    def method(self) -> str:
        """The name of the method, or ""."""
        return str(self.settings.get("quant_method") or "")

    def dtype(self, name: str) -> str:
        """Stored dtype."""
        return self.checkpoint.stored[name][1].dtype

    def shape(self, name: str) -> tuple[int, ...]:
        """Stored shape."""
        return self.checkpoint.stored[name][1].shape

    def values(self, name: str) -> Float64:
        """A small stored tensor, whole."""
        with Mapped(self.checkpoint) as files:
            return np.array(decode64(files.raw(name), self.dtype(name)))

    def contents(self, name: str) -> bytes:
        """The bytes of a small stored tensor."""
        with Mapped(self.checkpoint) as files:
            return np.ascontiguousarray(files.raw(name)).tobytes()

    def refuse(self, name: str, why: str) -> CheckpointError:
        """The error about a tensor that cannot be read."""
        return CheckpointError(f"{self.checkpoint.location}: tensor {quoted(name)} {why}; {REMEDY}")

    def derive(
        self,
        name: str,
        label: str,
        shape: tuple[int, ...],
        used: tuple[str, ...],
        compute: Compute,
        round_to: Round | None = None,
    ) -> Found:
        """A tensor of this shape, of which `compute(files, start, stop)` makes rows start … stop-1.

        `round_to(files, values, start, stop)` makes of these rows of another matrix what this one would store.
        """
        checkpoint = self.checkpoint

        def rows(start: int, stop: int) -> AnyArray:
            with Mapped(checkpoint) as files:
                return compute(files, start, stop)

        def rounded(values: AnyArray, start: int, stop: int) -> AnyArray:
            assert round_to is not None
            with Mapped(checkpoint) as files:
                return round_to(files, values, start, stop)

        if self._is_turned(name) and len(shape) == 2:
            return Found(name, Derived(shape[::-1], used, _transpose_rows(rows, shape[0]), label), used)
        return Found(name, Derived(shape, used, rows, label, rounded if round_to is not None else None), used)

    def _is_turned(self, name: str) -> bool:
        conv1d = self.checkpoint.config.get("model_type") in CONV1D_MODELS
        return conv1d and name.endswith(".weight") and name.split(".")[-2] in CONV1D_NAMES


def _transpose_rows(rows: Callable[[int, int], AnyArray], count: int) -> Callable[[int, int], AnyArray]:
    return lambda start, stop: rows(0, count).T[start:stop]
