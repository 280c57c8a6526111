"""A changed checkpoint on disk: the base's files byte for byte, with new values in the places of its tensors.

    write(checkpoint, folder, [("model.layers.0.mlp.down_proj.weight", values), ...])
    finish(folder, output)

Names, shapes, dtypes, shards, headers, config and tokenizer are the base's own, so a comparison sees what training did
and nothing else. Values are rounded to the stored dtype, to nearest, ties to even.
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.errors import CheckpointError
from ckdiff.files import beside, sweep, write_synced
from ckdiff.untrusted import quoted
from ckdiff.weights.headers import read_shard
from ckdiff.weights.reader import inside

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ckdiff.shapes import AnyArray
    from ckdiff.weights.checkpoint import Checkpoint

SAVABLE = ("F32", "F64", "BF16", "F16")
COPIED = (".json", ".txt", ".model", ".jinja", ".tiktoken", ".jsonl")
"""Suffixes of the files around the weights that are copied: config, tokenizer, chat template, index."""
RECORD = "unlearning.json"
"""How a checkpoint was made, beside its weights."""


def check_savable(checkpoint: Checkpoint) -> None:
    """Refuse what has no place to put trained values back into.

    Raises:
        CheckpointError: an adapter, or weights of 8 bits and fewer.
    """
    if checkpoint.derived:
        name = next(iter(checkpoint.derived))
        raise CheckpointError(
            f"{checkpoint.location}: an adapter, or scaled weights (tensor {quoted(name)}), with no place for trained"
            " values; merge it into a plain checkpoint first"
        )
    for name in checkpoint.stored:
        if checkpoint.dtype(name).startswith("F8"):
            raise CheckpointError(
                f"{checkpoint.location}: tensor {quoted(name)} is {checkpoint.dtype(name)}, too coarse to train;"
                " give a checkpoint of 16 or 32 bits"
            )


def check_trainable(checkpoint: Checkpoint) -> None:
    """Refuse weights that float32, in which training runs, would round.

    Raises:
        CheckpointError: a float64 tensor.
    """
    for name in checkpoint.stored:
        if checkpoint.dtype(name) == "F64":
            raise CheckpointError(
                f"{checkpoint.location}: tensor {quoted(name)} is F64, and training runs in float32;"
                " give a checkpoint of 16 or 32 bits"
            )


def round_to_saved(values: AnyArray, dtype: str) -> AnyArray:
    """Stored words of values in a dtype, rounded to nearest, ties to even; float64 goes to BF16 through float32."""
    with np.errstate(over="ignore"):
        if dtype == "BF16":
            single = np.ascontiguousarray(values, dtype=np.float32)
            bits = single.view(np.uint32)
            carry = ((bits >> 16) & 1) + np.uint32(0x7FFF)
            # The carry would run over in a NaN whose bits are all ones.
            return np.where(np.isnan(single), 0x7FC0, (bits + carry) >> 16).astype("<u2")
        return values.astype({"F16": "<f2", "F32": "<f4", "F64": "<f8"}[dtype])


def write(checkpoint: Checkpoint, folder: Path, values: Iterable[tuple[str, AnyArray]]) -> None:
    """Copy a checkpoint's files into a new folder and put new values in the places of the named tensors.

    Raises:
        CheckpointError: a value is not finite, or does not fit into its tensor's dtype.
    """
    assert checkpoint.root is not None
    folder.mkdir()
    for name in sorted(os.listdir(checkpoint.root)):
        if name.endswith(COPIED) and name != RECORD and (checkpoint.root / name).is_file():
            shutil.copyfile(inside(checkpoint.root, name), folder / name)
    for shard in checkpoint.shards:
        target = folder / shard.path.relative_to(checkpoint.root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(shard.path, target)
    for name, new in values:
        shard, entry = checkpoint.stored[name]
        if tuple(new.shape) != entry.shape:
            raise AssertionError(f"{name}: {new.shape} for {entry.shape}")
        words = round_to_saved(new, entry.dtype)
        _check_finite(checkpoint, name, new, words, entry.dtype)
        with open(folder / shard.path.relative_to(checkpoint.root), "r+b") as file:
            file.seek(entry.begin)
            file.write(words.tobytes())


def _check_finite(checkpoint: Checkpoint, name: str, new: AnyArray, words: AnyArray, dtype: str) -> None:
    stored = (words.astype(np.uint32) << 16).view(np.float32) if dtype == "BF16" else words
    known = np.isfinite(new).all()
    if not known or not np.isfinite(stored).all():
        what = "does not fit into its dtype" if known else "holds NaN or infinity"
        raise CheckpointError(
            f"{checkpoint.location}: trained tensor {quoted(name)} {what} ({dtype}); lower --lr, or stop earlier"
        )


def write_record(folder: Path, record: dict[str, Any]) -> None:
    """Write how a checkpoint was made; the same record gives the same bytes."""
    text = json.dumps(record, indent=1, allow_nan=False)
    (folder / RECORD).write_text(text + "\n", encoding="utf-8")


def keep_whole(place: Path) -> bool:
    """Whether the files of every state of an unfinished training can be read: zip archives, JSON and safetensors."""
    for path in place.glob("checkpoint-*/*"):
        try:
            if path.suffix in (".pt", ".pth") and zipfile.ZipFile(path).testzip() is not None:
                return False
            if path.suffix == ".json":
                json.loads(path.read_text(encoding="utf-8"))
            if path.suffix == ".safetensors":
                read_shard(path)
        except (OSError, ValueError, zipfile.BadZipFile, CheckpointError):
            return False
    return True


def finish(folder: Path, output: Path) -> None:
    """Move a whole folder to its place, after its files have reached the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
    os.rename(folder, output)


def check_output(output: Path) -> None:
    """Refuse a place that is taken, or that cannot be written to, before any work.

    Raises:
        CheckpointError: and what to do.
    """
    if os.path.lexists(output):
        raise CheckpointError(f"{output}: already exists; name a new directory")
    parent = output.absolute().parent
    if not parent.is_dir():
        raise CheckpointError(f"{output}: its parent directory does not exist; make it first")
    probe = beside(output.absolute())
    sweep(output.absolute())
    try:
        write_synced(probe, b"")
        probe.unlink()
    except OSError as error:
        raise CheckpointError(f"{output}: cannot be made ({error.strerror}); name another place") from error
