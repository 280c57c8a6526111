"""Every format that ckdiff reads, one after the other: `dequantise(checkpoint)`.

What a format has used is no tensor of its own any more. What is left and still is a weight of whole numbers is refused:
comparing packed codes as if they were values says nothing about a model.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from ckdiff.untrusted import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ckdiff.weights.checkpoint import Checkpoint, Derived
    from ckdiff.weights.quantised.source import Found, Source

PACKED_NAMES = ("qweight", "weight_packed", "W_q", "_data", "qdata", "_packed", "codes", "trellis", "qweight_packed")
"""Last parts of names that hold packed codes and nothing else."""
NARROW = frozenset({"I8", "U8", "I16", "U16", "I32", "U32", "F8_E4M3", "F8_E5M2", "F8_E8M0"})
INTEGERS = NARROW - {"F8_E4M3", "F8_E5M2", "F8_E8M0"}


def dequantise(checkpoint: Checkpoint) -> Checkpoint:
    """A checkpoint in which every quantised tensor is the values that it stands for.

    Raises:
        CheckpointError: a quantised tensor that ckdiff cannot read; it names the tensor and the method.
    """
    if not any(entry.dtype in NARROW for _, entry in checkpoint.stored.values()):
        return checkpoint
    from ckdiff.weights.quantised.source import Source

    derived: dict[str, Derived] = {}
    stored = dict(checkpoint.stored)
    for read in _formats():
        for found in read(Source(replace(checkpoint, stored=stored))):
            derived[found.name] = found.derived
            stored = {name: value for name, value in stored.items() if name not in found.used}
    left = replace(checkpoint, stored=stored)
    for name in stored:
        _check_read(Source(left), name)
    counts = Counter(one.label for one in derived.values())
    said = "tensors were read as the values that they stand for"
    notes = [f"{checkpoint.location}: {count} {label} {said}" for label, count in counts.items()]
    return replace(left, derived=derived, notes=(*checkpoint.notes, *notes))


def _formats() -> tuple[Callable[[Source], Iterator[Found]], ...]:
    """In the order in which they are looked for: the more particular first."""
    from ckdiff.weights.quantised import four_bit, grouped, scaled

    return (
        four_bit.bitsandbytes,
        four_bit.gpt_oss,
        four_bit.packed_floats,
        grouped.gptq_and_awq,
        grouped.compressed_tensors,
        grouped.mlx,
        scaled.scaled_integers,
        scaled.scaled_floats,
    )


def _check_read(source: Source, name: str) -> None:
    """Refuse what still is a matrix of codes."""
    leaf = name.rpartition(".")[2]
    matrix = len(source.shape(name)) >= 2 and source.dtype(name) in INTEGERS
    if leaf in PACKED_NAMES or (matrix and leaf.endswith(("weight", "_proj", "_blocks"))):
        by = f" by {quoted(source.method)}" if source.method else ""
        raise source.refuse(name, f"is {source.dtype(name)}{by}: codes of a format that ckdiff does not read")
