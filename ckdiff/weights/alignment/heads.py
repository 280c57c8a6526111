"""The heads of attention in the base's order: `find_heads(base, other)`.

Query heads that share a key-value head form a group. Groups may stand in any order, and so may the heads of a group;
queries times s and keys by s compute the same, and so do values times s and the output projection by s.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ckdiff.weights.alignment.matching import match
from ckdiff.weights.alignment.units import MOVED, SCALED, cosine, one_scale, ratio, resemblance, scale_noise, unit

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ckdiff.shapes import Float32, Float64, Int64
    from ckdiff.weights.alignment.moves import Pieces
    from ckdiff.weights.components import Piece
    from ckdiff.weights.rules import Architecture

BY_NUMBER = frozenset({"bloom", "mpt", "gpt_oss"})
"""Model types in which a head is told by its number: positions are weighted by it, or it has a sink."""

_INSIDE = re.compile(r"\.(attn|attention|self_attn|self_attention)\.")


class Heads(NamedTuple):
    """The vectors of all heads of one model, one head a row: those of q and o, and of the groups' k and v."""

    q: Float32
    k: Float32
    v: Float32
    o: Float32


@dataclass(frozen=True, slots=True)
class Attention:
    """The pieces of one layer's attention.

    Attributes:
        parts: by role q, k, v and o its matrix.
        biases: of q, k and v, by role.
        size: of a head.
        conv1d: matrices are stored (in, out).
        scalable: nothing stands between queries and keys that would take a scale off.
    """

    parts: Mapping[str, Piece]
    biases: Mapping[str, Piece]
    size: int
    conv1d: bool
    scalable: bool

    def axis(self, role: str) -> int:
        """Along which heads lie."""
        return int((role == "o") != self.conv1d)


@dataclass(frozen=True, slots=True)
class HeadOrder:
    """Where the heads are, and how they were scaled.

    Attributes:
        heads: query head i of the base is head heads[i] of the other model.
        groups: the same of key-value heads.
        queries: by which each group's queries are the base's, and its keys by one over that.
        values: by which each group's values are the base's, and its output by one over that.
        before: cosine of all four as they are stored, the mean of q, k, v and o.
        after: of the same in the base's order and scale.
    """

    heads: Int64
    groups: Int64
    queries: Float64
    values: Float64
    before: float
    after: float

    @property
    def moved(self) -> int:
        """Query heads that are elsewhere."""
        return int(np.count_nonzero(self.heads != np.arange(len(self.heads))))

    @property
    def rescaled(self) -> int:
        """Query heads whose group has another scale."""
        scaled = (self.queries != 1) | (self.values != 1)
        return int(np.count_nonzero(scaled)) * (len(self.heads) // len(self.groups))

    @property
    def is_identity(self) -> bool:
        """Nothing is elsewhere or scaled."""
        return not self.moved and not self.rescaled

    def factor(self, role: str) -> Float64:
        """The factor of each head of a role that makes it the base's."""
        each = len(self.heads) // len(self.groups)
        by = {"q": 1 / self.queries, "k": self.queries, "v": 1 / self.values, "o": self.values}[role]
        return np.repeat(by, each) if role in "qo" else by


def attention_of(pieces: Iterable[Piece], row: Architecture, config: Mapping[str, Any]) -> Attention | None:
    """The attention of a layer; None where heads cannot be told apart, or are told by their number."""
    own = list(pieces)
    parts = {piece.role: piece for piece in own if piece.component.startswith("attn_") and len(piece.shape) == 2}
    if set(parts) != set("qkvo") or row.model_type in BY_NUMBER or config.get("alibi"):
        return None
    norms_inside = [piece for piece in own if piece.component == "norms" and _INSIDE.search(piece.name)]
    heads = next((config[name] for name in ("num_attention_heads", "n_head", "num_heads") if config.get(name)), 0)
    axis = int(row.conv1d)
    size = config.get("head_dim") or (parts["q"].shape[axis] // heads if heads else 0)
    # A norm over all heads, or one a head, has its own order.
    if type(size) is not int or not size or any(piece.shape != (size,) for piece in norms_inside):
        return None
    biases = {p.role: p for p in own if p.component in ("attn_q", "attn_k", "attn_v") and len(p.shape) == 1}
    found = Attention(parts, biases, size, row.conv1d, not norms_inside)
    widths = {role: piece.shape[found.axis(role)] for role, piece in parts.items()}
    fits = widths["q"] == widths["o"] and widths["k"] == widths["v"] and not any(w % size for w in widths.values())
    return found if fits and widths["q"] % widths["k"] == 0 else None


def read_heads(attention: Attention, pieces: Pieces) -> Heads:
    """Every head as one row."""
    found = {}
    for role, piece in attention.parts.items():
        rows = pieces.rows(piece, attention.axis(role))
        found[role] = rows.reshape(len(rows) // attention.size, -1)
    return Heads(**found)


def find_heads(base: Heads, other: Heads, scalable: bool) -> HeadOrder:
    """Where each head of the base is in the other model.

    Args:
        base: the heads of a layer.
        other: those of the same layer.
        scalable: queries and keys may be scaled.
    """
    each = len(base.q) // len(base.k)
    groups = _order(base.k, other.k, base.v, other.v)
    heads = np.empty(len(base.q), np.int64)
    for number, source in enumerate(groups):
        ours, theirs = (slice(each * one, each * (one + 1)) for one in (number, source))
        heads[ours] = each * source + _order(base.q[ours], other.q[theirs], base.o[ours], other.o[theirs])
    placed = Heads(other.q[heads], other.k[groups], other.v[groups], other.o[heads])
    queries = _scales(base.q, placed.q, base.k, placed.k) if scalable else np.ones(len(groups))
    values = 1 / _scales(base.o, placed.o, base.v, placed.v)
    found = HeadOrder(heads, groups, queries, values, _mean(base, other), 0.0)
    scaled = (
        (rows * found.factor(role)[:, None]).astype(np.float32) for role, rows in zip("qkvo", placed, strict=True)
    )
    return HeadOrder(heads, groups, queries, values, found.before, _mean(base, Heads(*scaled)))


def _order(a: Float32, b: Float32, c: Float32, d: Float32) -> Int64:
    """The order of units with reading vectors a and b, and writing vectors c and d, signs and scales left aside."""
    reads, writes = (np.abs(np.nan_to_num(cosine(x, y), nan=1.0)) for x, y in ((a, b), (c, d)))
    moved = np.flatnonzero((reads < MOVED) & (writes < MOVED))
    one, two, three, four = (unit(rows) for rows in (a, b, c, d))
    return match(
        lambda rows, columns: resemblance(
            np.abs(one[rows] @ two[columns].T), np.abs(three[rows] @ four[columns].T)
        ).astype(np.float32),
        moved,
        len(a),
    )


def _scales(many: Float32, many_other: Float32, one: Float32, one_other: Float32) -> Float64:
    """By which the query heads of each group were scaled, and its key by one over that; 1 where they do not agree."""
    wide, wide_other = many.reshape(len(one), -1), many_other.reshape(len(one), -1)
    up, down = ratio(wide, wide_other), ratio(one, one_other)
    sign = np.sign(up)
    with np.errstate(divide="ignore", invalid="ignore"):
        log, back = np.log(np.abs(up)), -np.log(np.abs(down))
        noise = scale_noise(cosine(wide, wide_other), wide.shape[1])
        scaled = one_scale(log, back, log, noise) | ((sign < 0) & (np.abs(log - back) <= SCALED))
    scaled &= sign == np.sign(down)
    return np.where(scaled, sign * np.exp(np.where(scaled, log, 0.0)), 1.0)


def _mean(base: Heads, other: Heads) -> float:
    """The mean cosine of the four matrices."""
    parts = [cosine(a.reshape(1, -1), b.reshape(1, -1))[0] for a, b in zip(base, other, strict=True)]
    return float(np.mean(np.nan_to_num(parts, nan=1.0)))
