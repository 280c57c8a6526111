"""The files around the weights: what differs in config, generation settings, tokenizer and chat template.

Left out: `_name_or_path` and `transformers_version` at the top of a file, which say where and with what a checkpoint
was written and never how it computes.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

from ckdiff.errors import CheckpointError
from ckdiff.report.schema.comparison import ConfigChange
from ckdiff.untrusted import quoted
from ckdiff.weights.reader import inside, read_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ckdiff.weights.checkpoint import Checkpoint

JSON_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.json",
)
"""Files that are compared key by key."""

OPAQUE_FILES = ("tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "merges.txt")
"""Files that are compared by sha256."""

TEMPLATE = "chat_template"
TEMPLATE_FILE = "chat_template.jinja"
IGNORED_KEYS = frozenset({"_name_or_path", "transformers_version"})
MAX_ROWS = 200
MAX_TEXT = 400
MAX_DEPTH = 20
MAX_OPAQUE_BYTES = 1_000_000_000


def config_changes(base: Checkpoint, unlearned: Checkpoint) -> tuple[ConfigChange, ...]:
    """Everything that differs in the files around the weights, key by key.

    Values are JSON text, cut to 400 characters and a digest; a file has at most 200 rows and a last one that counts the
    rest; a vocabulary is one row. Nothing is compared where either checkpoint is a bare file.

    Raises:
        CheckpointError: one of the files is no JSON object, is absurdly large, or leads out of its checkpoint.
    """
    roots = base.root, unlearned.root
    if roots[0] is None or roots[1] is None:
        return ()
    changes: list[ConfigChange] = []
    for name in JSON_FILES:
        changes += _capped(name, _json_changes(roots[0], roots[1], name))
    changes += _template_changes(roots[0], roots[1])
    for name in OPAQUE_FILES:
        changes += _row(name, "sha256", _sha256(roots[0], name), _sha256(roots[1], name))
    return tuple(changes)


def _row(file: str, key: str, base: Any, unlearned: Any) -> list[ConfigChange]:
    """One change, or none where both sides are the same; None means that the side has no such key."""
    texts = [None if value is None else _text(value) for value in (base, unlearned)]
    return [] if texts[0] == texts[1] else [ConfigChange(file, key, texts[0], texts[1])]


def _text(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=True)
    if len(text) <= MAX_TEXT:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{text[:MAX_TEXT]}... ({len(text)} characters, sha256 {digest})"


def _capped(name: str, changes: list[ConfigChange]) -> list[ConfigChange]:
    more = len(changes) - MAX_ROWS
    if more <= 0:
        return changes
    text = f"{more} more differences"
    return [*changes[:MAX_ROWS], ConfigChange(name, "...", text, text)]


# ------------------------------------------------------------------------------------------------- key by key


def _json_changes(base: Path, unlearned: Path, name: str) -> list[ConfigChange]:
    if _same_bytes(base, unlearned, name):
        return []
    sides = [_object(root, name) for root in (base, unlearned)]
    if name == "tokenizer.json":
        summaries = [row for key in ("vocab", "merges") for row in _summary(name, key, sides)]
    else:
        summaries = []
    try:
        flat = [dict(_leaves(side, "", 0)) for side in sides]
        keys = sorted(flat[0].keys() | flat[1].keys())
        rows = [row for key in keys for row in _leaf_row(name, key, flat[0], flat[1])]
    except RecursionError as error:
        raise CheckpointError(f"{unlearned / name}: nested too deeply; this is not a {name}") from error
    return summaries + rows


_MISSING = object()


def _leaf_row(file: str, key: str, base: dict[str, Any], unlearned: dict[str, Any]) -> list[ConfigChange]:
    sides = [side.get(key, _MISSING) for side in (base, unlearned)]
    texts = [None if value is _MISSING else _text(value) for value in sides]
    return [] if texts[0] == texts[1] else [ConfigChange(file, key, texts[0], texts[1])]


def _object(root: Path, name: str) -> dict[str, Any]:
    value = read_json(root, name)
    # The chat template has a row of its own, because it may lie in a file of its own too.
    return {key: item for key, item in value.items() if key not in IGNORED_KEYS and key != TEMPLATE}


def _leaves(value: Any, path: str, depth: int) -> Iterator[tuple[str, Any]]:
    """Dotted paths and what stands there; lists are leaves, unless they are lists of objects."""
    children: list[tuple[str, Any]] = []
    if isinstance(value, dict):
        children = list(value.items())
    elif isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
        children = [(str(index), item) for index, item in enumerate(value)]
    if not children or depth >= MAX_DEPTH:
        if path:
            yield path, value
        return
    for key, child in children:
        yield from _leaves(child, f"{path}.{key}" if path else key, depth + 1)


# -------------------------------------------------------------------------------------------------- vocabularies


def _summary(name: str, key: str, sides: list[dict[str, Any]]) -> list[ConfigChange]:
    """One row about model.vocab or model.merges, which is taken out of both sides."""
    tables = []
    for side in sides:
        model = side.get("model")
        value = model.pop(key, None) if isinstance(model, dict) else None
        tables.append(None if value is None else _table(value))
    base, unlearned = tables
    if base == unlearned:
        return []
    texts = [None if table is None else f"{len(table)} entries" for table in tables]
    if base is not None and unlearned is not None:
        common = base.keys() & unlearned.keys()
        changed = sum(base[entry] != unlearned[entry] for entry in common)
        texts[1] = (
            f"{len(unlearned)} entries, {len(unlearned) - len(common)} added, {len(base) - len(common)} removed,"
            f" {changed} renumbered"
        )
    return [ConfigChange(name, f"model.{key}", *(None if text is None else json.dumps(text) for text in texts))]


def _table(value: Any) -> dict[str, Any]:
    """A vocabulary or a list of merges as entry -> place; a unigram entry's place is its index and score."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, list):
        return {_text(value): 0}
    table: dict[str, Any] = {}
    for index, item in enumerate(value):
        if isinstance(item, list) and len(item) == 2 and isinstance(item[1], float | int):
            table[str(item[0])] = (index, item[1])
        else:
            table[" ".join(map(str, item)) if isinstance(item, list) else str(item)] = index
    return table


# --------------------------------------------------------------------------------------------- templates, digests


def _template_changes(base: Path, unlearned: Path) -> list[ConfigChange]:
    return _row(TEMPLATE, TEMPLATE, _template(base), _template(unlearned))


def _template(root: Path) -> Any:
    """The chat template that transformers would use: the file, or else the key of tokenizer_config.json."""
    raw = _bytes(root, TEMPLATE_FILE)
    if raw is None:
        return read_json(root, "tokenizer_config.json").get(TEMPLATE)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CheckpointError(f"{root / TEMPLATE_FILE}: not UTF-8; fetch it again") from error


def _regular(root: Path, name: str) -> Path | None:
    """The path of a file inside the checkpoint, or None where there is none."""
    if not os.path.lexists(root / name):
        return None
    path = inside(root, name)
    if not path.is_file():
        raise CheckpointError(f"{root}: {quoted(name)} is not a regular file; remove it")
    if path.stat().st_size > MAX_OPAQUE_BYTES:
        raise CheckpointError(f"{path}: larger than {MAX_OPAQUE_BYTES} bytes; this is not a {name}")
    return path


def _bytes(root: Path, name: str) -> bytes | None:
    path = _regular(root, name)
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{root / name}: cannot be read ({error.strerror}); check its rights") from error


def _sha256(root: Path, name: str) -> str | None:
    path = _regular(root, name)
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); check its rights") from error


def _same_bytes(base: Path, unlearned: Path, name: str) -> bool:
    return _sha256(base, name) == _sha256(unlearned, name)
