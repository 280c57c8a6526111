"""Names with wrapper parts, read through: `module._orig_mod.model.norm.weight` is `model.norm.weight`.

What runs a model wraps it (torch.compile, DDP, FSDP, activation checkpointing, Lightning, Opacus), and a state dict
that is saved from inside the wrapper keeps its part of the name, at the front or in the middle. A wrapper adds nothing
to what a tensor holds, so the parts are left out and a note names them. Two tensors never become one by this: where a
plain name is there already, the wrapped one (an average, a second copy) keeps its own.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, TypeVar

from ckdiff.weights.architectures import architecture
from ckdiff.weights.components import claim, language_config

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ckdiff.weights.rules import Architecture

    Value = TypeVar("Value")

PARTS = frozenset(
    {
        "_orig_mod",
        "module",
        "_fsdp_wrapped_module",
        "_fpw_module",
        "_checkpoint_wrapped_module",
        "_forward_module",
        "_original_module",
        "_module",
    }
)
"""Attributes under which wrappers keep what they wrap: torch.compile, DDP and DeepSpeed, FSDP, FairScale's FSDP,
activation checkpointing, Lightning's Fabric (two), Opacus."""

ADAPTED = "base_layer"
"""PEFT's wrapper of one module; without the adapter's matrices beside it, it is a wrapper like the others."""


def unwrap(
    stored: Mapping[str, Value], config: Mapping[str, Any], location: str
) -> tuple[Mapping[str, Value], tuple[str, ...]]:
    """Stored tensors under the names that they had before they were wrapped, and notes that say so.

    Args:
        stored: anything by stored name.
        config: config.json; where it names a known architecture, a foreign outer part (`student.`, `model.` before
            `model.layers`) is found as well.
        location: of the checkpoint, for the notes.
    """
    unmerged = [name for name in stored if ".lora_" in name]
    names, parts = _without_parts(stored, PARTS if unmerged else PARTS | {ADAPTED})
    row = architecture(str(language_config(config).get("model_type") or ""))
    prefix = "" if row is None else _outer_part(row, names.values())
    if prefix:
        parts[prefix.removesuffix(".")] = sum(name.startswith(prefix) for name in names.values())
        names = {name: short.removeprefix(prefix) for name, short in names.items()}
    notes = tuple(_unmerged_note(location, unmerged))
    if not parts:
        return stored, notes
    result, taken = _without_clashes(stored, names)
    found = ", ".join(f"{part} ({count})" for part, count in sorted(parts.items()))
    note = f"{location}: names were read without their wrapper parts: {found}"
    return result, (note, *_clash_note(location, taken), *notes)


def without_parts(name: str, parts: Collection[str] = PARTS) -> str:
    """A name without the parts that wrappers put into it."""
    return ".".join(part for part in name.split(".") if part not in parts)


def _without_parts(stored: Mapping[str, Value], known: frozenset[str]) -> tuple[dict[str, str], Counter[str]]:
    """Stored name to short name, and how many names had each part."""
    names: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for name in stored:
        parts = name.split(".")
        names[name] = name
        if not known.isdisjoint(parts):
            names[name] = without_parts(name, known)
            counts.update(known & set(parts))
    return names, counts


def _unmerged_note(location: str, unmerged: list[str]) -> list[str]:
    if not unmerged:
        return []
    return [
        f"{location}: holds {len(unmerged)} LoRA matrices ({unmerged[0]} ...), which were not merged into the weights;"
        " merge them with peft's merge_and_unload and compare the result"
    ]


def _without_clashes(stored: Mapping[str, Value], names: Mapping[str, str]) -> tuple[dict[str, Value], list[str]]:
    """Every tensor under its short name, unless another has it: a plain name is never given up, nor taken twice."""
    often = Counter(names.values())
    taken = sorted(name for name, short in names.items() if often[short] > 1 and name != short)
    return {name if name in taken else names[name]: value for name, value in stored.items()}, taken


def _clash_note(location: str, taken: list[str]) -> tuple[str, ...]:
    if not taken:
        return ()
    return (f"{location}: {len(taken)} wrapped tensors have a plain twin and keep their names, the first {taken[0]}",)


def _outer_part(row: Architecture, names: Collection[str]) -> str:
    """The part before all names of a known architecture that a row knows nothing of, or "".

    Nothing is taken off where any name fits as it is, or where two parts fit equally well (a student and its teacher).
    """
    if any(claim(row, name) for name in names):
        return ""
    counts: Counter[str] = Counter()
    for name in names:
        for dot in (index for index, letter in enumerate(name) if letter == "."):
            if claim(row, name[dot + 1 :]):
                counts[name[: dot + 1]] += 1
                break
    most = counts.most_common(2)
    if not most or (len(most) > 1 and most[0][1] == most[1][1]):
        return ""
    return most[0][0]
