"""Checkpoints: a directory, a file, an index or an adapter becomes named tensors, headers first.

Opening validates every header and every path; data is mapped, not read, and given back to the system as soon as it has
been used. Only the standard library is imported at the top, so that `open_checkpoint` is quick.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from ckdiff.errors import CheckpointError
from ckdiff.untrusted import quoted, strict_json
from ckdiff.weights.checkpoint import Checkpoint
from ckdiff.weights.folders import PICKLES, choose_weights, merge_shards, unread_note
from ckdiff.weights.headers import MOST_TENSORS, Entry, Shard, read_shard
from ckdiff.weights.quantised.reading import dequantise
from ckdiff.weights.wrappers import unwrap

ADAPTER_CONFIG = "adapter_config.json"
MAX_JSON_BYTES = 200_000_000


def open_local(path: Path) -> Checkpoint:
    """Open a checkpoint directory, a .safetensors file or an index file; adapters are opened by `adapters`.

    Raises:
        CheckpointError: nothing there, nothing readable there, or a file that breaks its format or leaves it.
    """
    path = _check_exists(path)
    if path.is_dir():
        return _open_directory(path)
    if path.name.endswith(".index.json"):
        return _open_index(path.parent, path)
    if path.suffix != ".safetensors" and path.suffix in {pattern[1:] for pattern in PICKLES}:
        raise CheckpointError(f"{path}: a pickle, which ckdiff never reads; convert it to safetensors")
    shard = read_shard(path)
    root = path.parent if (path.parent / "config.json").is_file() else None
    return assemble(str(path), root, [shard])


def is_adapter(path: Path) -> bool:
    """Whether a path is a PEFT adapter: a directory with adapter_config.json."""
    return os.path.isfile(path / ADAPTER_CONFIG)


def assemble(location: str, root: Path | None, shards: list[Shard], notes: tuple[str, ...] = ()) -> Checkpoint:
    """Put shards together into one checkpoint; of a tensor that lies in several the last one's counts."""
    stored: dict[str, tuple[Shard, Entry]] = {}
    for shard in shards:
        stored |= {name: (shard, entry) for name, entry in shard.entries.items()}
    if not stored:
        raise CheckpointError(f"{location}: holds no tensors; name a checkpoint with weights")
    config = read_json(root, "config.json") if root is not None else {}
    named, wrapped = unwrap(stored, config, location)
    files = tuple(sorted(shards, key=lambda shard: shard.name))
    checkpoint = Checkpoint(location, None, root, files, named, config, {}, (*notes, *wrapped))
    return dequantise(checkpoint)


def read_json(root: Path, name: str) -> dict[str, Any]:
    """A JSON object from a checkpoint's directory, or {} where there is no such file.

    Raises:
        CheckpointError: not a file inside the directory, absurdly large, or not a JSON object.
    """
    path = root / name
    if not os.path.lexists(path):
        return {}
    try:
        inside(root, name)
        if not path.is_file():
            raise CheckpointError(f"{path}: not a regular file; remove it or fetch it again")
        if path.stat().st_size > MAX_JSON_BYTES:
            raise CheckpointError(f"{path}: larger than {MAX_JSON_BYTES} bytes; this is not a {name}")
        value = strict_json(path.read_bytes(), constants=True)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); check its rights") from error
    except ValueError as error:
        raise CheckpointError(f"{path}: not JSON ({error}); mend the file or fetch it again") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: not a JSON object; mend the file or fetch it again")
    return value


def inside(root: Path, name: str) -> Path:
    """The path of a file that must lie inside a checkpoint's directory, symlinks followed.

    The one exception is the hub's cache, where a snapshot's files are links into `blobs` beside it, and where the links
    of a download to a folder of its own (`local_dir`) lead.

    Raises:
        CheckpointError: the name is absolute, climbs out, or leads out through a symlink.
    """
    path = root / name
    try:
        target, real_root = path.resolve(), root.resolve()
        path.exists()  # a name that is too long for the system
    except (OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{root}: file name {quoted(name)} cannot be followed; mend the link") from error
    allowed = [real_root]
    if real_root.parent.name == "snapshots":
        allowed.append(real_root.parent.parent / "blobs")
    lexical = os.path.normpath(path)
    there = any(target_in(target, place) for place in allowed) or _in_hub_cache(target)
    if not target_in(Path(lexical), root) or not there:
        raise CheckpointError(f"{root}: file name {quoted(name)} leaves the directory; refused, put the file inside it")
    return path


_CACHED = re.compile(r"models--[^/]+/(blobs/(?:[0-9a-f]{40}|[0-9a-f]{64})|snapshots/[0-9a-f]{40}/.+)")


def _in_hub_cache(target: Path) -> bool:
    """Whether a file lies in a cache of the hub: by digest in `blobs`, or in a snapshot of one commit."""
    place = next((n for n, part in enumerate(target.parts) if part.startswith("models--")), None)
    return place is not None and _CACHED.fullmatch("/".join(target.parts[place:])) is not None


def target_in(path: Path, directory: Path) -> bool:
    """Whether a path lies in a directory, by its spelling."""
    return path.is_relative_to(os.path.normpath(directory))


def _check_exists(path: Path) -> Path:
    try:
        path.resolve(strict=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: does not exist; check the path") from error
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "symlink loop"
        raise CheckpointError(f"{path}: cannot be followed ({reason}); check the path") from error
    return Path(os.path.abspath(path))


def _open_directory(root: Path) -> Checkpoint:
    choice = choose_weights(root, read_json(root, "config.json"))
    if choice.name.endswith(".index.json"):
        shards, notes = _read_index(root, choice.name)
    else:
        shards, notes = [read_shard(inside(root, choice.name))], ()
    said = (choice.note,) if choice.note else ()
    return assemble(str(root), root, shards, (*said, *unread_note(root, choice, shards), *notes))


def _open_index(root: Path, index: Path) -> Checkpoint:
    return assemble(str(root), root, *_read_index(root, index.name))


def _read_index(root: Path, name: str) -> tuple[list[Shard], tuple[str, ...]]:
    """The files that an index names, in the order in which they are read, and what a reader must know."""
    index = root / name
    weight_map = read_json(root, name).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: no weight_map; fetch the index again")
    if len(weight_map) > MOST_TENSORS:
        raise CheckpointError(f"{index}: names {len(weight_map)} tensors; ckdiff reads up to {MOST_TENSORS}")
    if not all(isinstance(file, str) and file for file in weight_map.values()):
        raise CheckpointError(f"{index}: weight_map names a shard that is not a file name; fetch the index again")
    shards: dict[str, Shard] = {}
    for file in set(weight_map.values()):
        path = inside(root, file)
        if not path.exists():
            raise CheckpointError(f"{index}: names shard {quoted(file)}, which is missing; fetch it")
        shards[file] = read_shard(path)
    return merge_shards(index, weight_map, shards)
