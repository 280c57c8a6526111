"""Which layers of a checkpoint have their neurons, heads or experts in another order or scale than the base's.

alignment = find_alignment(base, unlearned, layers)
alignment.rows                                         # what was found, a row a layer and kind
align_checkpoint(unlearned, base, alignment.moves)     # the same function, in the base's order
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ckdiff.report.schema.comparison import LayerAlignment
from ckdiff.weights.alignment.heads import attention_of, find_heads, read_heads
from ckdiff.weights.alignment.moves import Move, Pieces
from ckdiff.weights.alignment.neurons import Block, degree_of, find_order, read_units
from ckdiff.weights.architectures import architecture
from ckdiff.weights.components import language_config, layout, pair

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence
    from typing import Any

    from ckdiff.weights.alignment.heads import Attention, HeadOrder
    from ckdiff.weights.alignment.neurons import Order
    from ckdiff.weights.checkpoint import Checkpoint
    from ckdiff.weights.components import Piece
    from ckdiff.weights.rules import Architecture

INEXACT = frozenset({"gpt_oss"})
"""Gated model types whose gate does more than multiply: their neurons cannot be scaled."""

Pairs = list[tuple["Piece", "Piece"]]


@dataclass(frozen=True, slots=True)
class Alignment:
    """The order and scale in which neurons and heads were found.

    Attributes:
        rows: of each layer that was looked at and has something elsewhere or scaled.
        moves: of the pieces that are to be handed out otherwise.
    """

    rows: tuple[LayerAlignment, ...] = ()
    moves: tuple[Move, ...] = ()


def find_alignment(base: Checkpoint, unlearned: Checkpoint, layers: Collection[int]) -> Alignment:
    """Where the neurons and heads of some layers are.

    Args:
        base: whose order is wanted.
        unlearned: whose units are looked for.
        layers: to look at.
    """
    config = language_config(base.config or unlearned.config)
    row = architecture(str(config.get("model_type") or ""))
    if row is None or not layers:
        return Alignment()
    found = pair(layout(base.shapes(), config), layout(unlearned.shapes(), unlearned.config or config))
    by_layer: dict[int, Pairs] = defaultdict(list)
    for one, other in found.matched:
        if one.layer is not None and one.layer in layers:
            by_layer[one.layer].append((one, other))
    rows: list[LayerAlignment] = []
    moves: list[Move] = []
    sides = Pieces(base), Pieces(unlearned)
    for layer in sorted(by_layer):
        for part in (_neurons, _heads):
            # Of numbers near the ends of float32 nothing is recognised, which is no reason to stop.
            with np.errstate(all="ignore"):
                said, own = part(layer, by_layer[layer], row, config, sides)
            rows += said
            moves += own
        for side in sides:
            side.files.forget()
    return Alignment(tuple(rows), tuple(moves))


Found = tuple[list[LayerAlignment], list[Move]]


def _neurons(
    layer: int, pairs: Pairs, row: Architecture, config: Mapping[str, Any], sides: tuple[Pieces, Pieces]
) -> Found:
    """The neurons of a layer, block by block."""
    degree = 0
    orders: list[Order] = []
    moves: list[Move] = []
    for ours, theirs in _blocks(pairs):
        degree = degree_of(config, ours.gate is not None, row.model_type not in INEXACT)
        flips = ours.gate is not None and degree > 0
        units = read_units(ours, sides[0], flips), read_units(theirs, sides[1], flips)
        if not all(np.isfinite(one.reads).all() and np.isfinite(one.writes).all() for one in units):
            continue
        order = find_order(*units, degree)
        orders.append(order)
        if not order.is_identity:
            moves += _neuron_moves(ours, theirs, order)
    if not moves:
        return [], []
    cosines = [float(np.mean([getattr(order, name) for order in orders])) for name in ("before", "after")]
    return [
        LayerAlignment(
            layer=layer,
            kind="neurons",
            units=sum(len(order.sources) for order in orders),
            moved=sum(order.moved for order in orders),
            rescaled=sum(order.rescaled for order in orders),
            cosine_before=cosines[0],
            cosine_after=cosines[1],
        )
    ], moves


def _blocks(pairs: Pairs) -> Iterator[tuple[Block, Block]]:
    """The MLPs of a layer, in both models: one in a dense layer, one an expert in a mixture."""
    grouped: dict[int, Pairs] = defaultdict(list)
    biases: Pairs = []
    for one, other in pairs:
        if one.component in ("keys", "value_vectors"):
            if one.neuron_axis is None:
                biases.append((one, other))
            else:
                grouped[one.first_neuron].append((one, other))
    keys = [(one, other) for one, other in biases if one.component == "keys"]
    if keys and len(grouped) > 1:
        # Which expert a bias belongs to is not known here.
        return
    for parts in grouped.values():
        made = [_block(side, [both[number] for both in keys]) for number, side in enumerate(zip(*parts, strict=True))]
        if made[0] is not None and made[1] is not None:
            yield made[0], made[1]


def _block(pieces: Sequence[Piece], biases: Sequence[Piece]) -> Block | None:
    """One MLP of its pieces, or None where they are not those of one."""
    roles = {piece.role: piece for piece in pieces}
    if len(roles) != len(pieces) or not {"up", "down"} <= set(roles) <= {"gate", "up", "down"}:
        return None
    sizes = {piece.shape[piece.neuron_axis] for piece in pieces if piece.neuron_axis is not None}
    if len(sizes) != 1 or any(piece.shape != (next(iter(sizes)),) for piece in biases):
        return None
    return Block(roles.get("gate"), roles["up"], roles["down"], {piece.role: piece for piece in biases})


def _neuron_moves(ours: Block, theirs: Block, order: Order) -> Iterator[Move]:
    """Moves of a block's pieces, from the order of its neurons."""
    reads = 1 / order.scales if order.rescaled else None
    writes = order.scales**order.degree if order.rescaled else None
    parts = [(ours.reads, theirs.reads, reads), (ours.writes, theirs.writes, writes)]
    if ours.gate is not None and theirs.gate is not None:
        parts.append((ours.gate, theirs.gate, None))
    for base, piece, factor in parts:
        assert piece.neuron_axis is not None
        yield Move(piece, piece, base, piece.neuron_axis, order.sources, factor)
    for role, piece in theirs.biases.items():
        yield Move(piece, piece, ours.biases[role], 0, order.sources, None if role == "gate" else reads)


def _heads(
    layer: int, pairs: Pairs, row: Architecture, config: Mapping[str, Any], sides: tuple[Pieces, Pieces]
) -> Found:
    """The heads of a layer."""
    attention = [attention_of((both[number] for both in pairs), row, config) for number in (0, 1)]
    ours, theirs = attention
    if ours is None or theirs is None:
        return [], []
    heads = read_heads(ours, sides[0]), read_heads(theirs, sides[1])
    if not all(np.isfinite(rows).all() for one in heads for rows in one):
        return [], []
    order = find_heads(*heads, ours.scalable)
    if order.is_identity:
        return [], []
    said = LayerAlignment(
        layer=layer,
        kind="heads",
        units=len(order.heads),
        moved=order.moved,
        rescaled=order.rescaled,
        cosine_before=order.before,
        cosine_after=order.after,
    )
    return [said], list(_head_moves(ours, theirs, order))


def _head_moves(ours: Attention, theirs: Attention, order: HeadOrder) -> Iterator[Move]:
    """Moves of attention's pieces, from the order of its heads."""
    size = theirs.size
    for role, piece in theirs.parts.items():
        heads = order.heads if role in "qo" else order.groups
        rows = (heads[:, None] * size + np.arange(size)).ravel()
        factor = np.repeat(order.factor(role), size) if order.rescaled else None
        yield Move(piece, piece, ours.parts[role], theirs.axis(role), rows, factor)
        if role in theirs.biases and role in ours.biases:
            yield Move(theirs.biases[role], theirs.biases[role], ours.biases[role], 0, rows, factor)
