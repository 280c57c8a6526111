"""A checkpoint as data: its tensors, where they lie, and what is derived from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ckdiff.shapes import AnyArray
    from ckdiff.weights.headers import Entry, Shard


@dataclass(frozen=True, slots=True)
class Derived:
    """A tensor that is computed from stored ones (a merged adapter, a scaled FP8 matrix).

    Attributes:
        shape: of the result, which is float32.
        sources: names of the stored tensors that it is made of, for messages.
        rows: computes rows start … stop-1 of its first axis, in memory.
        label: the format that it is stored in, or "" where it is computed from floats.
        rounded: rows start … stop-1 of another matrix, given as floats, as this format would store them with the
            scales that it has here; None where that is not known.
    """

    shape: tuple[int, ...]
    sources: tuple[str, ...]
    rows: Callable[[int, int], AnyArray]
    label: str = ""
    rounded: Callable[[AnyArray, int, int], AnyArray] | None = None

    def make(self) -> AnyArray:
        """All of it, in memory."""
        return self.rows(0, self.shape[0])


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Named tensors of one model, whatever files they lie in.

    Attributes:
        location: absolute path, or hub id.
        revision: the hub commit, or None for a local path.
        root: the directory of config.json and the tokenizer, or None where a bare file was named.
        shards: every weight file that was opened, an adapter's base included, sorted by name.
        stored: stored tensors by name, with the shard that holds each.
        derived: tensors computed from stored ones; they hide stored ones of the same name.
        config: config.json, or {}.
        notes: what a reader of the numbers must know about how this checkpoint was read.
    """

    location: str
    revision: str | None
    root: Path | None
    shards: tuple[Shard, ...]
    stored: Mapping[str, tuple[Shard, Entry]]
    config: Mapping[str, Any]
    derived: Mapping[str, Derived] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor, derived ones in the place of what they hide."""
        shapes = {name: entry.shape for name, (_, entry) in self.stored.items()}
        return shapes | {name: derived.shape for name, derived in self.derived.items()}

    def dtype(self, name: str) -> str:
        """Dtype of a tensor as its values are read: the stored one, or F32 for a derived tensor."""
        return "F32" if name in self.derived else self.stored[name][1].dtype

    def kind(self, name: str) -> str:
        """Dtype of a tensor as it is stored, for a reader: its format where it is quantised."""
        label = self.derived[name].label if name in self.derived else ""
        return label or self.dtype(name)
