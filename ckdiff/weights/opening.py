"""The one way in: what a user typed becomes an open `Checkpoint`."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ckdiff.errors import CheckpointError
from ckdiff.hub import download, parse_hub_id
from ckdiff.untrusted import quoted
from ckdiff.weights.folders import SINGLE_NAME, holds_model
from ckdiff.weights.reader import is_adapter, open_local

if TYPE_CHECKING:
    from ckdiff.weights.checkpoint import Checkpoint


def open_checkpoint(text: str, adapter_base: str | None = None) -> Checkpoint:
    """Open a checkpoint: a directory, a .safetensors file, an index file, an adapter directory, or a hub id.

    A text that looks like `org/name`, `org/name@revision` or `name@revision`, with or without `hf://`, is a hub id,
    unless it names something on disk or `org` is a directory here.

    Args:
        text: what the user typed.
        adapter_base: the base of an adapter, in the place of the one that it names; unused for anything else.

    Raises:
        CheckpointError: nothing there, or nothing that can be read safely.
    """
    return _open(text, adapter_base, adapters=True)


def _open(text: str, adapter_base: str | None, *, adapters: bool) -> Checkpoint:
    if not text or "\0" in text:
        raise CheckpointError("no checkpoint is named by this text; give a path or a hub id")
    # `pair/nope` beside a directory `pair` is a mistyped path: no question for the network.
    local = os.path.lexists(text) or os.path.isdir(os.path.dirname(text))
    hub_id = None if local else parse_hub_id(text)
    if hub_id is None and text.startswith("hf:") and not local:
        raise CheckpointError(f"{quoted(text)}: is no model of the hub; write hf://org/name@revision")
    if hub_id is None:
        return _open_path(Path(text), adapter_base, adapters=adapters)
    directory, commit = download(*hub_id)
    checkpoint = _open_path(directory, adapter_base, adapters=adapters, hub=True)
    return replace(checkpoint, location=hub_id[0], revision=commit)


def _open_path(path: Path, adapter_base: str | None, *, adapters: bool, hub: bool = False) -> Checkpoint:
    if not is_adapter(path):
        return open_local(path)
    from ckdiff.weights.adapters import open_adapter

    path = Path(os.path.abspath(path))
    whole = holds_model(path)
    if not adapters:
        if whole:
            return open_local(path)
        raise CheckpointError(f"{path}: is itself an adapter; merge it with its base first")
    open_base = partial(_open, adapter_base=None, adapters=False)
    if not whole:
        return open_adapter(path, open_base, adapter_base)
    # As transformers decides it: a directory with a config.json is the base of the adapter that lies in it, while a hub
    # id stands for the base that the adapter names.
    beside = adapter_base is None and not hub and os.path.isfile(path / "config.json")
    base = str(path) if beside else adapter_base
    found = open_adapter(path, open_base, base)
    return replace(found, notes=(*found.notes, _both_note(path, beside, given=adapter_base is not None)))


def _both_note(path: Path, beside: bool, *, given: bool) -> str:
    """A remark on a directory that holds a whole model and an adapter."""
    holds = f"{path}: holds a whole model and an adapter"
    model = f"name {path / SINGLE_NAME}" if (path / SINGLE_NAME).is_file() else "take adapter_config.json away"
    if not beside:
        why = "as --adapter-base says" if given else "as transformers does"
        return f"{holds}; the adapter was read on its base, {why}, the model beside it was not: {model} to read that"
    return (
        f"{holds}; the adapter was read on top of that model, as transformers does, so that an adapter that is merged"
        f" already counts twice: {model} to read the model alone, give --adapter-base to read the adapter on another"
    )
