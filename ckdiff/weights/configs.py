"""The files around the weights: what differs in config, generation settings, tokenizer, chat templates and code.

A key that is written otherwise and means the same to transformers is no change: it is listed apart. What was not
compared is listed too, because it is never the same.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple

from ckdiff.errors import CheckpointError
from ckdiff.report.schema.comparison import ConfigChange, Uncompared
from ckdiff.weights.around import (
    JSON_FILES,
    OPAQUE_FILES,
    TEMPLATE,
    chat_templates,
    file_names,
    is_opaque,
    other_files,
    sha256_of,
)
from ckdiff.weights.meaning import generation, model, tokenizer
from ckdiff.weights.reader import ADAPTER_CONFIG, read_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ckdiff.weights.checkpoint import Checkpoint

IGNORED_KEYS = frozenset({"_name_or_path", "transformers_version"})
MAX_ROWS = 200
MAX_TEXT = 400
MAX_DEPTH = 20
SETTINGS_FILES = (*JSON_FILES, "chat_template.jinja")
CONFIG, GENERATION = JSON_FILES[:2]

Objects = dict[str, dict[str, Any] | None]


class Settings(NamedTuple):
    """The comparison of the files around the weights.

    Attributes:
        changes: what differs in what it means.
        spellings: what differs in how it is written, and means the same to transformers.
        uncompared: what was not compared, and why.
    """

    changes: tuple[ConfigChange, ...]
    spellings: tuple[ConfigChange, ...] = ()
    uncompared: tuple[Uncompared, ...] = ()


def compare_settings(base: Checkpoint, unlearned: Checkpoint) -> Settings:
    """Everything that differs in the files around the weights, key by key.

    Values are JSON text, cut to 400 characters and a digest; a file has at most 200 rows and a last one that counts the
    rest; a vocabulary is one row.

    Raises:
        CheckpointError: one of the files is no JSON object, is absurdly large, or leads out of its checkpoint.
    """
    roots = base.root, unlearned.root
    if roots[0] is None or roots[1] is None:
        bare = [side.location for side in (base, unlearned) if side.root is None]
        reason = f"{' and '.join(bare)}: a file without a config.json beside it"
        return Settings((), (), (Uncompared("all settings", reason),))
    changes, spellings = _json_changes(roots[0], roots[1])
    changes += _template_changes(roots[0], roots[1])
    uncompared = [row for side in (base, unlearned) for row in _adapters_own(side)]
    for name in _other_names(roots[0], roots[1]):
        digests = sha256_of(roots[0], name), sha256_of(roots[1], name)
        if is_opaque(name):
            changes += _row(name, "sha256", *digests)
        elif digests[0] != digests[1]:
            uncompared.append(Uncompared(name, "the two differ, and ckdiff does not know this file"))
    return Settings(tuple(changes), tuple(spellings), tuple(uncompared))


def _other_names(base: Path, unlearned: Path) -> list[str]:
    """Files that are compared by digest: the known ones in their order, then the others by name."""
    found = other_files(base) | other_files(unlearned)
    known = [name for name in OPAQUE_FILES if name in found]
    return known + sorted(found.difference(known))


def _adapters_own(checkpoint: Checkpoint) -> Iterator[Uncompared]:
    """Settings that lie beside an adapter, whose base's were compared."""
    for folder in sorted({shard.path.parent for shard in checkpoint.shards} - {checkpoint.root}):
        names = file_names(folder) if ADAPTER_CONFIG in file_names(folder) else []
        for name in sorted(set(names) & set(SETTINGS_FILES)):
            yield Uncompared(name, f"{folder}: the adapter's own was not used, its base's was")


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


def _cap_rows(rows: list[ConfigChange]) -> list[ConfigChange]:
    """At most so many rows of each file, and one that counts the rest."""
    result: list[ConfigChange] = []
    for name in dict.fromkeys(row.file for row in rows):
        own = [row for row in rows if row.file == name]
        more = f"{len(own) - MAX_ROWS} more differences"
        result += own if len(own) <= MAX_ROWS else [*own[:MAX_ROWS], ConfigChange(name, "...", more, more)]
    return result


def _template_changes(base: Path, unlearned: Path) -> list[ConfigChange]:
    """One row a template; the default one, which is what most have, under the name that it always had."""
    sides = chat_templates(base), chat_templates(unlearned)
    names = sorted(sides[0].keys() | sides[1].keys(), key=lambda name: (name != "default", name))
    keys = {name: TEMPLATE if name == "default" else f"{TEMPLATE}.{name}" for name in names}
    return [row for name in names for row in _row(TEMPLATE, keys[name], *(side.get(name) for side in sides))]


# ------------------------------------------------------------------------------------------------- key by key


def _json_changes(base: Path, unlearned: Path) -> tuple[list[ConfigChange], list[ConfigChange]]:
    """Rows that mean something else, and rows that are only written otherwise."""
    unequal = [name for name in JSON_FILES if sha256_of(base, name) != sha256_of(unlearned, name)]
    if not unequal:
        return [], []
    objects = [_objects(root) for root in (base, unlearned)]
    try:
        rows = [row for name in unequal for row in _file_rows(name, [side[name] or {} for side in objects])]
        differing = _find_differences(objects)
    except RecursionError as error:
        raise CheckpointError(f"{unlearned}: a settings file is nested too deeply; fetch it again") from error
    real = [_is_real(row, objects, differing) for row in rows]
    changes = [row for row, counts in zip(rows, real, strict=True) if counts]
    spellings = [row for row, counts in zip(rows, real, strict=True) if not counts]
    return _cap_rows(changes), _cap_rows(spellings)


def _objects(root: Path) -> Objects:
    """The JSON files of a checkpoint, each without what says where it was written; None: not there."""
    return {name: _object(root, name) for name in JSON_FILES}


def _object(root: Path, name: str) -> dict[str, Any] | None:
    value = read_json(root, name)
    if not os.path.lexists(root / name):
        return None
    # The chat template has rows of its own, because it may lie in files of its own too.
    return {key: item for key, item in value.items() if key not in IGNORED_KEYS | {TEMPLATE}}


def _file_rows(name: str, sides: list[dict[str, Any]]) -> list[ConfigChange]:
    summaries = []
    if name == "tokenizer.json":
        summaries = [row for key in ("vocab", "merges") for row in _summary(name, key, sides)]
        sides = [_without_tables(side) for side in sides]
    flat = [dict(_leaves(side, "", 0)) for side in sides]
    keys = sorted(flat[0].keys() | flat[1].keys())
    return summaries + [row for key in keys for row in _leaf_row(name, key, flat[0], flat[1])]


_MISSING = object()


def _leaf_row(file: str, key: str, base: dict[str, Any], unlearned: dict[str, Any]) -> list[ConfigChange]:
    sides = [side.get(key, _MISSING) for side in (base, unlearned)]
    texts = [None if value is _MISSING else _text(value) for value in sides]
    return [] if texts[0] == texts[1] else [ConfigChange(file, key, texts[0], texts[1])]


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


# ----------------------------------------------------------------------------------------------------- meaning


def _meaning(objects: Mapping[str, dict[str, Any] | None]) -> dict[str, dict[str, Any]]:
    """Every file's leaves in the one form that all spellings share."""
    config = objects[CONFIG] or {}
    whole = objects["tokenizer.json"]
    files = {name: objects[name] for name in tokenizer.FILES} | {"tokenizer.json": whole and _without_tables(whole)}
    meant: dict[str, dict[str, Any]] = {
        CONFIG: model.model_settings(config),
        GENERATION: generation.generation_settings(objects[GENERATION], config),
        **tokenizer.tokenizer_settings(files),
    }
    return {name: dict(_leaves(value, "", 0)) for name, value in meant.items()}


def _find_differences(objects: list[Objects]) -> dict[str, set[str]]:
    """By file the leaves that differ in meaning."""
    sides = [_meaning(side) for side in objects]
    found: dict[str, set[str]] = {}
    for name in sides[0].keys() | sides[1].keys():
        a, b = (side.get(name, {}) for side in sides)
        found[name] = {key for key in a.keys() | b.keys() if not _same(a.get(key, _MISSING), b.get(key, _MISSING))}
    return found


def _same(a: Any, b: Any) -> bool:
    """Whether two leaves are one value: numbers by what they are, true and 1 apart."""
    if a is _MISSING or b is _MISSING:
        return a is b
    return bool(a == b) and _text(_numbers(a)) == _text(_numbers(b))


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return float(value) if type(value) is int and abs(value) < 2**53 else value


def _is_real(row: ConfigChange, objects: list[Objects], differing: Mapping[str, set[str]]) -> bool:
    """Whether a row's key is, or leads to, something that differs in meaning."""
    if row.key in ("model.vocab", "model.merges") and row.file == "tokenizer.json":
        return True
    if row.file == CONFIG:
        places = {(CONFIG, model.place_of(row.key, side[CONFIG] or {})) for side in objects}
    elif row.file == GENERATION:
        places = {(GENERATION, row.key)}
    else:
        places = {tokenizer.place_of(row.file, row.key)}
    return any(_is_related(place, key) for file, place in places for key in differing[file])


def _is_related(place: str, key: str) -> bool:
    return not place or place == key or key.startswith(f"{place}.") or place.startswith(f"{key}.")


# -------------------------------------------------------------------------------------------------- vocabularies


def _without_tables(whole: Mapping[str, Any]) -> dict[str, Any]:
    """tokenizer.json without its vocabulary and its merges, which have a row each."""
    found = dict(whole)
    if isinstance(found.get("model"), dict):
        found["model"] = {key: value for key, value in found["model"].items() if key not in ("vocab", "merges")}
    return found


def _summary(name: str, key: str, sides: list[dict[str, Any]]) -> list[ConfigChange]:
    """One row about model.vocab or model.merges."""
    tables = []
    for side in sides:
        inner = side.get("model")
        value = inner.get(key) if isinstance(inner, dict) else None
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
