"""Names to components: cuts every stored tensor into pieces that mean one thing, and pairs two checkpoints.

A tensor is claimed by the rule whose pattern fits its name, or by one of the older spellings that its architecture
knows. Names are no proof: a matrix whose neurons are not as many as the config says, or that cannot be cut as its rule
says, goes under `other` whole, and a note says so.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ckdiff.weights.architectures import ARCHITECTURES, architecture
from ckdiff.weights.splits import SPLITS, CannotSplitError, Cut, check_neurons, number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ckdiff.weights.rules import Architecture, Rule


@dataclass(frozen=True, slots=True)
class Piece:
    """A stored tensor, or the part of a fused one, that belongs to exactly one component.

    Attributes:
        name: canonical name, the same in both checkpoints whatever prefix their files use; parts carry a suffix
            such as `[q]`, and with stacked experts `[3.gate]`.
        tensor: name of the stored tensor in this checkpoint.
        shape: shape of the piece.
        cut: where it lies in the stored tensor; None: all of it. Before the last reshape it is always a view.
        neuron_axis: the axis of the piece along which neurons lie, or None.
        first_neuron: number of its first neuron in its layer (experts are numbered one after the other).
        tied: a second name of a tensor that is stored under another one.
    """

    name: str
    tensor: str
    component: str
    role: str
    layer: int | None
    shape: tuple[int, ...]
    cut: Cut | None = None
    neuron_axis: int | None = None
    first_neuron: int = 0
    tied: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """Every piece of one checkpoint.

    Attributes:
        model_type: as its config says, or "".
        known: there is a row for it.
        pieces: outside the layers first, then layer by layer.
        ignored: stored buffers that carry no parameters.
        notes: what a reader must know about how tensors were assigned.
    """

    model_type: str
    known: bool
    pieces: tuple[Piece, ...]
    ignored: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pairing:
    """The pieces of two layouts, by canonical name: (base, unlearned) where both have it in one shape."""

    matched: tuple[tuple[Piece, Piece], ...]
    only_in_base: tuple[Piece, ...]
    only_in_unlearned: tuple[Piece, ...]
    shape_mismatch: tuple[tuple[Piece, Piece], ...]


# --------------------------------------------------------------------------------------------------------- layout


def layout(shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any]) -> Layout:
    """Assign every stored tensor of a checkpoint to its component.

    Args:
        shapes: stored name to shape.
        config: config.json; the language model's part is looked up inside wrappers.
    """
    config = language_config(config)
    model_type = str(config.get("model_type") or "")
    row = architecture(model_type)
    if row is None:
        return _unknown(shapes, model_type)
    pieces: list[Piece] = []
    ignored: list[str] = []
    notes: list[str] = []
    unclaimed: list[str] = []
    taken: set[str] = set()
    claims = {name: claim(row, name) for name in shapes}
    for name, found in _plain_first(claims):
        if found is None and any(pattern.search(name) for pattern in _ignore_patterns(row)):
            ignored.append(name)
            continue
        if found is None or found.canonical in taken:
            if found is None:
                unclaimed.append(name)
            else:
                notes.append(f"{model_type}: {name} counts as other: another tensor is {found.canonical} too")
            pieces.append(_whole(name, shapes[name]))
            continue
        try:
            parts = _new_pieces(found, name, shapes[name], config, taken)
        except CannotSplitError as error:
            notes.append(f"{model_type}: {name} counts as other: {error}")
            parts = [_whole(name, shapes[name])]
        taken.update((found.canonical, *(part.name for part in parts)))
        pieces += parts
    pieces += _tied_pieces(row, pieces, config)
    notes = [*_unclaimed_notes(model_type, unclaimed), *notes]
    return Layout(model_type, True, tuple(sorted(pieces, key=_order)), tuple(sorted(ignored)), tuple(_few(notes)))


def _unclaimed_notes(model_type: str, names: list[str]) -> list[str]:
    """One line for all tensors that end alike and that no rule fits."""
    alike: dict[str, list[str]] = {}
    for name in names:
        alike.setdefault(name.rpartition(".")[2] if _LAYER.search(name) else name, []).append(name)
    lines = []
    for leaf, own in alike.items():
        more = f" and {len(own) - 1} more .{leaf}" if len(own) > 1 else ""
        lines.append(f"{model_type}: {own[0]}{more} counts as other: no rule fits")
    return lines


def pair(base: Layout, unlearned: Layout) -> Pairing:
    """Pair the pieces of two checkpoints by their canonical names."""
    other = {piece.name: piece for piece in unlearned.pieces}
    names = {piece.name for piece in base.pieces}
    both = [(piece, other[piece.name]) for piece in base.pieces if piece.name in other]
    return Pairing(
        matched=tuple((a, b) for a, b in both if a.shape == b.shape),
        only_in_base=tuple(piece for piece in base.pieces if piece.name not in other),
        only_in_unlearned=tuple(piece for piece in unlearned.pieces if piece.name not in names),
        shape_mismatch=tuple((a, b) for a, b in both if a.shape != b.shape),
    )


class Claim(NamedTuple):
    """The rule that a stored name fits: its name in the usual way of storing it, its layer and expert."""

    rule: Rule
    canonical: str
    layer: int | None
    expert: int
    is_bias: bool


def language_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a config that is about the language model, inside a wrapper or not."""
    inner = config.get("text_config")
    if isinstance(inner, dict) and architecture(str(inner.get("model_type") or "")) is not None:
        return {"tie_word_embeddings": config.get("tie_word_embeddings"), **inner}
    return config


def _unknown(shapes: Mapping[str, tuple[int, ...]], model_type: str) -> Layout:
    named = f"model_type {model_type!r}" if model_type else "a checkpoint without model_type"
    note = f"no architecture row for {named}: every tensor counts as other; known: {', '.join(sorted(ARCHITECTURES))}"
    pieces = sorted((_whole(name, shape) for name, shape in shapes.items()), key=_order)
    return Layout(model_type, False, tuple(pieces), (), (note,))


_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block|layer)\.(\d{1,6})\.")


def _whole(name: str, shape: tuple[int, ...]) -> Piece:
    found = _LAYER.search(name)
    return Piece(name, name, "other", "", int(found[1]) if found else None, shape)


def _order(piece: Piece) -> tuple[int, str, int, str]:
    """Outside the layers first, then layers by number; experts by number inside a layer."""
    return (-1 if piece.layer is None else piece.layer, piece.component, piece.first_neuron, piece.name)


def _few(notes: list[str], most: int = 20) -> list[str]:
    return notes if len(notes) <= most else [*notes[:most], f"and {len(notes) - most} more such tensors"]


# --------------------------------------------------------------------------------------------------------- claims


@functools.cache
def _patterns(row: Architecture) -> tuple[re.Pattern[str], tuple[Rule, ...]]:
    """One regular expression of all rules; the number of its last group is the rule's."""
    texts = []
    rules = (*row.rules, *row.other_forms)
    for rule in rules:
        text = re.escape(rule.pattern)
        text = text.replace(r"\{L\}", r"\d{1,6}").replace(r"\{E\}", r"\d{1,6}").replace(r"\{P\}", "(?:weight|bias)")
        texts.append(f"({text})")
    return re.compile("|".join(texts)), rules


@functools.cache
def _ignore_patterns(row: Architecture) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(text) for text in row.ignore)


def claim(row: Architecture, name: str) -> Claim | None:
    """The rule that a stored name fits, as it is or in one of the older spellings."""
    spellings = [name, *(new + name[len(old) :] for old, new in row.prefixes if name.startswith(old))]
    pattern, rules = _patterns(row)
    for spelling in spellings:
        found = pattern.fullmatch(spelling)
        if found and found.lastindex:
            rule = rules[found.lastindex - 1]
            layer, expert = _numbers(rule, spelling)
            is_bias = spelling.endswith("bias")
            usual = dict(rule.names).get("")
            canonical = spelling if usual is None else _fill(usual, layer, expert, is_bias)
            return Claim(rule, canonical, layer, expert, is_bias)
    return None


def _fill(pattern: str, layer: int | None, expert: int, is_bias: bool) -> str:
    """A pattern with its layer, expert and parameter put in."""
    text = pattern.replace("{L}", str(layer)).replace("{E}", str(expert))
    return text.replace("{P}", "bias" if is_bias else "weight")


def _numbers(rule: Rule, name: str) -> tuple[int | None, int]:
    """Layer and expert of a name that fits a rule."""
    slots = re.findall(r"\{([LE])\}", rule.pattern)
    numbers = [int(number) for number in re.findall(r"(?<=\.)\d+(?=\.)|^\d+(?=\.)", name)]
    values = dict(zip(slots, numbers[: len(slots)], strict=True))
    return values.get("L"), values.get("E", 0)


def _plain_first(claims: Mapping[str, Claim | None]) -> list[tuple[str, Claim | None]]:
    """Names that need no change come first: another spelling of the same name must not take their place."""
    return sorted(claims.items(), key=lambda item: (item[1] is None or item[1].canonical != item[0], item[0]))


def _new_pieces(
    found: Claim, name: str, shape: tuple[int, ...], config: Mapping[str, Any], taken: set[str]
) -> list[Piece]:
    """The pieces of a tensor, none of them called as one that is there already.

    Raises:
        CannotSplitError: it does not come apart so.
    """
    parts = _pieces(found, name, shape, config)
    twice = next((part.name for part in parts if part.name in taken), None)
    if twice is not None:
        raise CannotSplitError(f"another tensor is {twice} too")
    return parts


def _pieces(found: Claim, name: str, shape: tuple[int, ...], config: Mapping[str, Any]) -> list[Piece]:
    rule = found.rule
    if rule.split is not None:
        return _parts(found, name, shape, config)
    axis = None if found.is_bias else rule.neuron_axis
    if not found.is_bias and rule.component in _MATRICES and len(shape) != 2:
        raise CannotSplitError(f"a matrix was expected, its shape is {list(shape)}")
    cut = Cut(shape, (), transposed=True) if rule.transposed else None
    shape = shape[::-1] if rule.transposed else shape
    if axis is not None:
        check_neurons(shape[axis], config)
    first = found.expert * shape[axis] if axis is not None else 0
    if axis is not None and rule.after_experts:
        first = number(config, "num_experts", "num_local_experts") * number(config, "moe_intermediate_size")
    return [Piece(found.canonical, name, rule.component, rule.role, found.layer, shape, cut, axis, first)]


def _parts(found: Claim, name: str, shape: tuple[int, ...], config: Mapping[str, Any]) -> list[Piece]:
    """The parts of a fused tensor, under the names that they have where they are stored in the usual way."""
    rule = found.rule
    if not shape or rule.split is None:
        raise CannotSplitError("it has no axes")
    usual, pieces = dict(rule.names), []
    for part in SPLITS[rule.split](shape, config, rule):
        called = f"{found.canonical}[{part.suffix}]"
        expert = found.expert if part.expert is None else part.expert
        if part.role in usual:
            called = _fill(usual[part.role], found.layer, expert, found.is_bias)
        first = part.first_neuron
        if part.expert is None and "{E}" in rule.pattern and part.neuron_axis is not None:
            first = expert * part.shape[part.neuron_axis]
        where = part.shape, part.cut, part.neuron_axis, first
        pieces.append(Piece(called, name, part.component, part.role, found.layer, *where))
    return pieces


_MATRICES = {"embedding", "position_embedding", "unembedding", "keys", "value_vectors"}
_MATRICES |= {"attn_q", "attn_k", "attn_v", "attn_o"}


def _tied_pieces(row: Architecture, pieces: list[Piece], config: Mapping[str, Any]) -> list[Piece]:
    """The unembedding as the embedding's second name, where it is not stored and the config ties them."""
    tied = config.get("tie_word_embeddings")
    if not (row.tied if tied is None else tied):
        return []
    embedding = next((piece for piece in pieces if piece.component == "embedding"), None)
    rule = next((rule for rule in row.rules if rule.component == "unembedding"), None)
    if embedding is None or rule is None or math.prod(embedding.shape) == 0:
        return []
    name = rule.pattern.replace("{P}", "weight")
    if any(piece.name == name for piece in pieces):
        return []
    return [Piece(name, embedding.tensor, "unembedding", "", None, embedding.shape, tied=True)]
