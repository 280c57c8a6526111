"""The neurons of an MLP in the base's order: `find_order(block, base, other)`.

A neuron may be put anywhere with its key and its value vector. In a gated MLP `up` times s and the value vector by s
compute the same, whatever the activation; in a plain one the key may be scaled where the activation is a power of a
positive part, by s > 0. Anything else that is found is a change of what the model computes, and stays one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.weights.alignment.matching import match
from ckdiff.weights.alignment.units import SCALED, Sketches, Units, cosines, norms, one_scale, ratio, scale_noise

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ckdiff.shapes import Float32, Float64, Int64
    from ckdiff.weights.alignment.moves import Pieces
    from ckdiff.weights.components import Piece

DEGREES = {"relu": 1, "relu2": 2}
"""Activations f with f(s x) = s^degree f(x) for s > 0, by their name in config.json."""


@dataclass(frozen=True, slots=True)
class Block:
    """The pieces of one MLP: of a dense layer, of an expert, or of a shared expert.

    Attributes:
        gate: the gate's matrix, or None where there is none.
        reads: `up`, or the keys of a plain MLP.
        writes: the value vectors.
        biases: of the keys, by role.
    """

    gate: Piece | None
    reads: Piece
    writes: Piece
    biases: Mapping[str, Piece]


@dataclass(frozen=True, slots=True)
class Order:
    """Where the neurons of a block are, and how they were scaled.

    Attributes:
        sources: neuron i of the base is the neuron sources[i] of the other model.
        scales: by which its `reads` are those of the base; 1 where it was not scaled.
        degree: its value vector is the base's by scales^-degree.
        moved: neurons that are elsewhere.
        before: cosine of keys and of value vectors as they are stored.
        after: of the same in the base's order and scale.
    """

    sources: Int64
    scales: Float64
    degree: int
    moved: int
    before: tuple[float, float]
    after: tuple[float, float]

    @property
    def rescaled(self) -> int:
        """Neurons whose scale is another one."""
        return int(np.count_nonzero(self.scales != 1))

    @property
    def is_identity(self) -> bool:
        """Nothing is elsewhere or scaled."""
        return not self.moved and not self.rescaled


def degree_of(config: Mapping[str, Any], gated: bool, exact: bool) -> int:
    """By which power a scale of keys shows in the coefficients; 0: it cannot be taken off.

    Args:
        config: config.json.
        gated: the MLP is.
        exact: its gate multiplies `up` and nothing else.
    """
    if gated:
        return int(exact)
    names = ("hidden_act", "activation_function", "hidden_activation", "hidden_act_func")
    return DEGREES.get(str(next((config[name] for name in names if config.get(name)), "")), 0)


def read_units(block: Block, pieces: Pieces, flips: bool) -> Units:
    """The neurons of a block, one a row."""

    def rows(piece: Piece) -> Float32:
        assert piece.neuron_axis is not None
        return pieces.rows(piece, piece.neuron_axis)

    fixed = None if block.gate is None else rows(block.gate)
    return Units(fixed, rows(block.reads), rows(block.writes), flips)


def find_order(base: Units, other: Units, degree: int) -> Order:
    """Where each neuron of the base is in the other model.

    Args:
        base: neurons of a block.
        other: those of the same block.
        degree: of scaling, see `degree_of`.
    """
    own = cosines(base, other)
    moved = own.moved()
    sources = np.arange(base.count)
    if len(moved):
        sources = match(Sketches(base, other).alike, moved, base.count)
    placed = take(other, sources)
    scales = _scales(base, placed, degree)
    return Order(
        sources,
        scales,
        degree,
        int(np.count_nonzero(sources != np.arange(base.count))),
        as_one(base, other),
        as_one(base, scale(placed, scales, degree)),
    )


def take(units: Units, order: Int64) -> Units:
    """The same units in another order."""
    fixed = None if units.fixed is None else units.fixed[order]
    return Units(fixed, units.reads[order], units.writes[order], units.flips)


def scale(units: Units, scales: Float64, degree: int) -> Units:
    """The same units without their scales."""
    factor = scales[:, None]
    reads = (units.reads / factor).astype(np.float32)
    return Units(units.fixed, reads, (units.writes * factor**degree).astype(np.float32), units.flips)


def _scales(base: Units, other: Units, degree: int) -> Float64:
    """By which each neuron was scaled: what its key and its value vector agree on, 1 where they do not."""
    if not degree:
        return np.ones(base.count)
    found = cosines(base, other)
    by_key, by_value = ratio(base.reads, other.reads), ratio(base.writes, other.writes)
    with np.errstate(divide="ignore", invalid="ignore"):
        keys, values = np.log(np.abs(by_key)), -np.log(np.abs(by_value)) / degree
        # The one that was changed less knows the scale better.
        log = np.where(np.abs(found.reads) >= np.abs(found.writes), keys, values)
        best = np.maximum(np.abs(found.reads), np.abs(found.writes))
        noise = scale_noise(best, base.reads.shape[1])
        # A sign alone is a scale as well.
        scaled = one_scale(keys, values, log, noise) | ((found.sign < 0) & (np.abs(keys - values) <= SCALED))
        scaled &= (found.sign * by_key > 0) & (found.sign * by_value > 0)
    return np.where(scaled, found.sign * np.exp(np.where(scaled, log, 0.0)), 1.0)


def as_one(base: Units, other: Units) -> tuple[float, float]:
    """The cosine of all keys as one long vector, and of all value vectors."""
    keys = [(base.reads, other.reads)]
    if base.fixed is not None and other.fixed is not None:
        keys.append((base.fixed, other.fixed))
    return _together(keys), _together([(base.writes, other.writes)])


def _together(parts: list[tuple[Float32, Float32]]) -> float:
    inner = sum(float(np.einsum("ij,ij->", a, b, dtype=np.float64)) for a, b in parts)
    one = sum(float(np.sum(norms(a) ** 2)) for a, _ in parts)
    two = sum(float(np.sum(norms(b) ** 2)) for _, b in parts)
    return inner / float(np.sqrt(one * two)) if one and two else float(one == two)
