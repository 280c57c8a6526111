"""Two vocabularies of which one is padded or has grown: the rows that both have, where ids mean the same tokens.

Rows are shared from the first on, up to the first id that is another token in the other checkpoint, or a token in one
alone. What lies behind them is left out and named, never compared with what it does not belong to. Where neither
checkpoint says which token an id is, nothing is shared.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from ckdiff.weights.architectures import architecture
from ckdiff.weights.around import sha256_of
from ckdiff.weights.checkpoint import Derived
from ckdiff.weights.components import claim, language_config
from ckdiff.weights.reader import read_json
from ckdiff.weights.splits import Cut

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ckdiff.weights.checkpoint import Checkpoint
    from ckdiff.weights.components import Layout, Piece

PARTS = ("embedding", "unembedding")
OPAQUE = ("tokenizer.model", "spiece.model", "tekken.json")


class Sides(NamedTuple):
    """The same of the base and of the unlearned checkpoint."""

    base: Checkpoint
    unlearned: Checkpoint


# --------------------------------------------------------------------------------------------------------- tokens


def tokens(root: Path | None) -> dict[int, str] | None:
    """The token of every id, as the tokenizer's JSON files have them, or None where there are none."""
    if root is None:
        return None
    whole = read_json(root, "tokenizer.json")
    model = whole.get("model")
    vocabulary = model.get("vocab") if isinstance(model, dict) else read_json(root, "vocab.json")
    found = dict(_number_tokens(vocabulary))
    added = whole.get("added_tokens")
    rows = [row for row in (added if isinstance(added, list) else ()) if isinstance(row, dict)]
    found |= {row["id"]: str(row.get("content")) for row in rows if type(row.get("id")) is int}
    if not found:
        return None
    found |= dict(_number_tokens(read_json(root, "added_tokens.json")))
    return found


def _number_tokens(vocabulary: Any) -> Iterator[tuple[int, str]]:
    """Id and token of a table token -> id, or of a list of [token, score]."""
    if isinstance(vocabulary, dict):
        yield from ((number, str(token)) for token, number in vocabulary.items() if type(number) is int)
    elif isinstance(vocabulary, list):
        yield from ((number, str(row[0])) for number, row in enumerate(vocabulary) if isinstance(row, list) and row)


def shared_rows(sides: Sides, rows: tuple[int, int]) -> tuple[int, str]:
    """How many rows from the first on mean the same tokens in both, and what that rests on.

    Args:
        sides: the two checkpoints.
        rows: how many rows each has.
    """
    least = min(rows)
    known = tokens(sides.base.root), tokens(sides.unlearned.root)
    ours, theirs = known
    if ours is None or theirs is None:
        if _same_files(sides):
            return least, "both have one tokenizer"
        one = ours if theirs is None else theirs
        if one is None:
            return 0, "neither says which token an id is"
        return least, "only one of them has a tokenizer, which was taken for both"
    other = [number for number in ours.keys() | theirs.keys() if ours.get(number) != theirs.get(number)]
    return min([least, *(number for number in other if number >= 0)]), "their ids mean the same tokens"


def _same_files(sides: Sides) -> bool:
    """Whether both have the same tokenizer in a file that is not looked into."""
    digests = [[sha256_of(side.root, name) for name in OPAQUE] if side.root is not None else [] for side in sides]
    return digests[0] == digests[1] and any(digests[0])


# -------------------------------------------------------------------------------------------------------- compare


def split_vocabulary(layouts: tuple[Layout, Layout], sides: Sides) -> tuple[tuple[Layout, Layout], list[str]]:
    """Layouts in which a matrix of two vocabularies is two pieces: the shared rows, and those of one side alone."""
    pieces = [{piece.name: piece for piece in layout.pieces if _by_token(piece)} for layout in layouts]
    pairs = [(one, pieces[1][name]) for name, one in pieces[0].items() if name in pieces[1]]
    pairs = [(a, b) for a, b in pairs if a.shape != b.shape and a.shape[1:] == b.shape[1:]]
    if not pairs:
        return layouts, []
    rows = pairs[0][0].shape[0], pairs[0][1].shape[0]
    count, why = shared_rows(sides, rows)
    if not count:
        return layouts, [f"the vocabularies have {rows[0]} and {rows[1]} rows, which were not compared: {why}"]
    names = {a.name for a, b in pairs if min(a.shape[0], b.shape[0]) >= count}
    split = [replace(one, pieces=tuple(_split(one, names, count))) for one in layouts]
    note = (
        f"the vocabularies have {rows[0]} and {rows[1]} rows: the first {count} were compared ({why}), the others are"
        " listed as in one checkpoint alone"
    )
    return (split[0], split[1]), [note]


def _by_token(piece: Piece) -> bool:
    return piece.component in PARTS and piece.cut is None and 1 <= len(piece.shape) <= 2


def _split(layout: Layout, names: set[str], count: int) -> Iterator[Piece]:
    for piece in layout.pieces:
        if piece.name not in names:
            yield piece
            continue
        length = piece.shape[0]
        shared = Cut(piece.shape, (slice(0, count),))
        yield replace(piece, shape=(count, *piece.shape[1:]), cut=shared if length > count else None)
        if length > count and not piece.tied:
            rest = Cut(piece.shape, (slice(count, length),))
            name = f"{piece.name}[{count}:{length}]"
            yield replace(piece, name=name, shape=(length - count, *piece.shape[1:]), cut=rest)


# ---------------------------------------------------------------------------------------------------------- probe


def trim_vocabulary(base: Checkpoint, unlearned: Checkpoint) -> tuple[Checkpoint, Checkpoint, list[str]]:
    """Both checkpoints with the rows of their vocabularies that mean the same tokens, and a note where rows were cut.

    As they are, where both have as many rows or nothing says which ids are the same.
    """
    sides = Sides(base, unlearned)
    found = [_matrices(side) for side in sides]
    rows = tuple(
        max((side.shapes()[name][0] for name in names), default=0) for side, names in zip(sides, found, strict=True)
    )
    if not all(rows) or rows[0] == rows[1]:
        return base, unlearned, []
    count, why = shared_rows(sides, (rows[0], rows[1]))
    if not count:
        return base, unlearned, []
    trimmed = [_trim_tensors(side, names, count) for side, names in zip(sides, found, strict=True)]
    note = (
        f"the vocabularies have {rows[0]} and {rows[1]} rows: the first {count} were used ({why}); the other tokens can"
        " neither be read nor said, and no number is about them"
    )
    return trimmed[0], trimmed[1], [note]


def _matrices(checkpoint: Checkpoint) -> list[str]:
    """Stored tensors with a row a token."""
    row = architecture(str(language_config(checkpoint.config).get("model_type") or ""))
    if row is None:
        return []
    claims = {name: claim(row, name) for name, shape in checkpoint.shapes().items() if shape}
    return [name for name, found in claims.items() if found is not None and found.rule.component in PARTS]


def _trim_tensors(checkpoint: Checkpoint, names: list[str], count: int) -> Checkpoint:
    stored, derived = dict(checkpoint.stored), dict(checkpoint.derived)
    for name in names:
        shape = checkpoint.shapes()[name]
        if shape[0] <= count:
            continue
        if name in derived:
            whole = derived[name]
            derived[name] = Derived((count, *shape[1:]), whole.sources, whole.rows, whole.label)
        else:
            shard, entry = stored[name]
            # Rows lie one behind the other, so that the first ones are a tensor of their own.
            end = entry.begin + (entry.end - entry.begin) // shape[0] * count
            stored[name] = shard, replace(entry, shape=(count, *shape[1:]), end=end)
    return replace(checkpoint, stored=stored, derived=derived, config=_of_size(checkpoint.config, count))


def _of_size(config: Mapping[str, Any], count: int) -> dict[str, Any]:
    """A config with so many tokens, whose padding token is one of them."""
    found = {**config, "vocab_size": count} if "text_config" not in config else dict(config)
    inner = found.get("text_config")
    if isinstance(inner, dict):
        found["text_config"] = _of_size(inner, count)
    padding = found.get("pad_token_id")
    if type(padding) is int and padding >= count:
        found["pad_token_id"] = None
    return found
