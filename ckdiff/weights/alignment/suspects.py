"""Layers that are worth a closer look: `suspects(neurons, tensors)`, from drifts that are there anyway.

An unlearned model's neurons have cosines above 0.99 to those of the base, and next to none of them is scaled. Where
that is so, nothing more is read or computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ckdiff.weights.alignment.units import MOVED, SCALED

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ckdiff.report.schema.comparison import NeuronGrid, TensorDrift
    from ckdiff.shapes import AnyArray

UNITS = frozenset({"keys", "value_vectors", "attn_q", "attn_k", "attn_v", "attn_o"})
"""Components that lie in neurons or heads."""

TURNED = 0.005
"""1 - cos of a matrix of attention from which on its heads are looked at: two of 128 in each other's place."""


def suspects(neurons: Mapping[str, NeuronGrid], tensors: Iterable[TensorDrift]) -> set[int]:
    """Layers whose neurons or heads may stand in another order or scale.

    Args:
        neurons: drift of each neuron's keys and value vectors.
        tensors: drift of each tensor.
    """
    return _by_neurons(neurons) | {
        row.layer for row in tensors if row.layer is not None and row.component.startswith("attn_") and _is_odd(row)
    }


def _by_neurons(neurons: Mapping[str, NeuronGrid]) -> set[int]:
    if not {"keys", "value_vectors"} <= neurons.keys():
        return set()
    keys, values = neurons["keys"], neurons["value_vectors"]
    found: set[int] = set()
    for row, layer in enumerate(keys.layers.tolist()):
        other = np.flatnonzero(values.layers == layer)
        if not len(other):
            continue
        at = int(other[0])
        moved = _find_moved(keys.one_minus_cosine[row]) & _find_moved(values.one_minus_cosine[at])
        scaled = _find_scaled(values.one_minus_cosine[at], values.relative_l2[at])
        if moved.any() or scaled.any():
            found.add(layer)
    return found


def _find_moved(one_minus_cosine: AnyArray) -> AnyArray:
    """Neurons that are elsewhere, or nowhere: without a cosine."""
    result: AnyArray = ~(one_minus_cosine <= 1 - MOVED)
    return result


def _find_scaled(one_minus_cosine: AnyArray, relative_l2: AnyArray) -> AnyArray:
    """Neurons that are longer or shorter: with r = |b| / |a| and c the cosine, rel^2 = (r - c)^2 + 1 - c^2."""
    cosine = 1 - one_minus_cosine.astype(np.float64)
    with np.errstate(invalid="ignore"):
        along = np.sqrt(np.maximum(relative_l2.astype(np.float64) ** 2 - (1 - cosine**2), 0))
        result: AnyArray = (along > SCALED / 2) & (np.abs(cosine) > MOVED)
    return result


def _is_odd(row: TensorDrift) -> bool:
    """Whether a matrix turned or grew by more than a training makes it."""
    drift = row.drift
    if drift.identical:
        return False
    longer = abs(drift.norm_unlearned - drift.norm_base) > SCALED / 2 * drift.norm_base
    return longer or not drift.one_minus_cosine <= TURNED
