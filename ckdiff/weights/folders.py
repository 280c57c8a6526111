"""Which of a directory's weights are the model: those that transformers itself would load, and a note about the others.

In this order: the file that config.json names (`transformers_weights`), `model.safetensors`, the index, and the one
.safetensors file where there is no other. Whatever else holds weights there is named in a note and not read.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from ckdiff.errors import CheckpointError
from ckdiff.untrusted import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ckdiff.weights.headers import Shard

INDEX_NAME = "model.safetensors.index.json"
SINGLE_NAME = "model.safetensors"
ADAPTER_NAME = "adapter_model.safetensors"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
MODEL_PICKLES = ("pytorch_model*.bin", "consolidated*.pth")
"""Pickles that hold a model's weights; others hold a trainer's state."""
ORIGINAL = "original"
"""Where publishers keep their weights in another format."""


class Choice(NamedTuple):
    """The file that is the model, or the index of the files that are; a note where it is not the usual one."""

    name: str
    note: str = ""


def choose_weights(root: Path, config: Mapping[str, Any]) -> Choice:
    """The files that transformers would load of a directory.

    Raises:
        CheckpointError: nothing that can be read safely, or several files and nothing that says which.
    """
    files, pickles = _list_files(root)
    explicit = config.get("transformers_weights")
    if isinstance(explicit, str) and explicit.endswith((".safetensors", ".safetensors.index.json")):
        return Choice(explicit, f"{root}: {quoted(explicit)} was read, which config.json names as the weights")
    if SINGLE_NAME in files:
        return Choice(SINGLE_NAME)
    if os.path.lexists(root / INDEX_NAME):
        return Choice(INDEX_NAME)
    own = [name for name in files if name != ADAPTER_NAME] or files
    if len(own) == 1:
        return Choice(own[0])
    if own:
        indexes = sorted(item.name for item in root.glob("*.safetensors.index*.json"))
        advice = f"name one of them, or {indexes[0]}" if indexes else "name one file, or add it"
        raise CheckpointError(f"{root}: {len(own)} .safetensors files and no {INDEX_NAME}; {advice}")
    if pickles:
        raise CheckpointError(f"{root}: only pickles ({pickles[0]}), never read by ckdiff; convert to safetensors")
    raise CheckpointError(f"{root}: no .safetensors file in this directory; name a checkpoint directory or a file")


def holds_model(root: Path) -> bool:
    """Whether a directory holds a whole model under the names that transformers looks for."""
    return any(os.path.isfile(root / name) for name in (SINGLE_NAME, INDEX_NAME))


def _list_files(root: Path) -> tuple[list[str], list[str]]:
    try:
        files = sorted(item.name for item in root.glob("*.safetensors"))
        pickles = sorted(item.name for pattern in PICKLES for item in root.glob(pattern))
    except OSError as error:
        raise CheckpointError(f"{root}: cannot be listed ({error.strerror}); check its rights") from error
    return files, pickles


def unread_note(root: Path, choice: Choice, shards: list[Shard]) -> tuple[str, ...]:
    """A note on files with weights in the directory that were not read."""
    read = {shard.name for shard in shards} | {choice.name}
    # An adapter beside a model has a note of its own.
    read |= {ADAPTER_NAME} if os.path.isfile(root / "adapter_config.json") else set()
    others = [name for name in _list_files(root)[0] if name not in read]
    others += sorted(item.name for item in root.glob("*.safetensors.index*.json") if item.name not in read)
    others += sorted(item.name for pattern in MODEL_PICKLES for item in root.glob(pattern))
    others += [f"{ORIGINAL}/"] if (root / ORIGINAL).is_dir() else []
    if not others:
        return ()
    more = f" and {len(others) - 3} more" if len(others) > 3 else ""
    listed = ", ".join(quoted(name) for name in others[:3])
    return (
        f"{root}: {choice.name} was read, as transformers does; not read: {listed}{more};"
        " name a .safetensors file or an index to read it instead",
    )


def merge_shards(
    index: Path, weight_map: Mapping[str, str], shards: Mapping[str, Shard]
) -> tuple[list[Shard], tuple[str, ...]]:
    """The shards of an index in the order in which a later one's tensor takes the place of an earlier one's, and notes.

    transformers opens the files that an index names and takes every tensor that they hold; where two hold it, the one
    whose name sorts last wins, whatever the index says. So do we, and say where that is not what the index says.

    Args:
        index: its path.
        weight_map: tensor -> file, as the index has it.
        shards: file -> what it holds.
    """
    order = sorted(shards)
    held: dict[str, list[str]] = {}
    for file in order:
        for name in shards[file].entries:
            held.setdefault(name, []).append(file)
    absent = sorted(name for name in weight_map if name not in held)
    unnamed = sorted(held.keys() - weight_map.keys())
    moved = sorted(name for name, files in held.items() if name in weight_map and weight_map[name] not in files)
    stale = sorted(name for name, files in held.items() if len(files) > 1)
    notes = [
        (absent, "named but in no file", "left out"),
        (unnamed, "in its files but not named", "read, as transformers does"),
        (moved, "not in the file that it names", "read from where it lies, as transformers does"),
    ]
    lines = [f"{index}: {_some(names)} {what}: {done}" for names, what, done in notes if names]
    if stale:
        used, left = held[stale[0]][-1], held[stale[0]][0]
        against = sum(name in weight_map and weight_map[name] != held[name][-1] for name in stale)
        lines.append(
            f"{index}: {_some(stale)} in two files ({quoted(left)} and {quoted(used)}): that of {quoted(used)} was"
            f" read, the last by name, as transformers does"
            + (f"; for {against} of them the index names another file" if against else "")
        )
    return [shards[file] for file in order], tuple(lines)


def _some(names: list[str]) -> str:
    return f"{len(names)} tensors (the first {quoted(names[0])})" if len(names) > 1 else f"tensor {quoted(names[0])}"
