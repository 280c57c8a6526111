"""Needle: noise on single value vectors, the edit whose place is known.

Source: Hong et al. 2024, "Intrinsic Evaluation of Unlearning Using Parametric Knowledge Traces", arXiv:2406.11614
(ConceptVectors): Gaussian noise, standard deviation 0.1, on the value vector that holds a concept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.unlearn.recipe import RecipeError
from ckdiff.untrusted import quoted
from ckdiff.weights.components import layout
from ckdiff.weights.storage import Mapped, decode64

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckdiff.shapes import AnyArray
    from ckdiff.weights.checkpoint import Checkpoint
    from ckdiff.weights.components import Piece


def value_vectors(checkpoint: Checkpoint) -> list[Piece]:
    """The stored matrices of value vectors.

    Raises:
        RecipeError: the architecture is not known, so nothing is known to be a value vector.
    """
    found = layout(checkpoint.shapes(), checkpoint.config)
    pieces = [piece for piece in found.pieces if piece.component == "value_vectors" and piece.neuron_axis is not None]
    if not pieces:
        raise RecipeError(f"{checkpoint.location}: no value vectors are known in it; needle needs a known architecture")
    return pieces


def count_neurons(pieces: Sequence[Piece]) -> dict[int, int]:
    """Neurons of each layer; experts' are numbered one after the other."""
    found: dict[int, int] = {}
    for piece in pieces:
        assert piece.layer is not None
        assert piece.neuron_axis is not None
        end = piece.first_neuron + piece.shape[piece.neuron_axis]
        found[piece.layer] = max(found.get(piece.layer, 0), end)
    return found


def choose_neurons(
    pieces: Sequence[Piece], given: Sequence[tuple[int, int]], count: int, generator: np.random.Generator
) -> list[tuple[int, int]]:
    """The (layer, neuron) pairs to change: those given, or random ones, all neurons equally likely.

    Raises:
        RecipeError: one that the model does not have.
    """
    there = count_neurons(pieces)
    for layer, neuron in given:
        if layer not in there:
            raise RecipeError(f"--neurons: no layer {layer}; the model has layers {min(there)} to {max(there)}")
        if not 0 <= neuron < there[layer]:
            raise RecipeError(f"--neurons: layer {layer} has no neuron {neuron}; it has 0 to {there[layer] - 1}")
    if given:
        return list(dict.fromkeys(given))
    every = sum(there.values())
    if count > every:
        raise RecipeError(f"--count: {count} neurons of {every} cannot be chosen; give fewer")
    layers = sorted(there)
    ends = np.cumsum([there[layer] for layer in layers])
    picked = sorted(int(number) for number in generator.choice(every, count, replace=False))
    rows = [int(np.searchsorted(ends, number, side="right")) for number in picked]
    return [
        (layers[row], number - int(ends[row]) + there[layers[row]]) for row, number in zip(rows, picked, strict=True)
    ]


def edit_neurons(
    checkpoint: Checkpoint, pieces: Sequence[Piece], neurons: Sequence[tuple[int, int]], noise: float, seed: int
) -> Iterator[tuple[str, AnyArray]]:
    """The stored tensors that change, whole, with Gaussian noise on the chosen value vectors (in float64).

    A vector's noise depends on seed, layer and neuron alone, not on what else is chosen.
    """
    files = Mapped(checkpoint)
    by_tensor: dict[str, list[tuple[Piece, int, int]]] = {}
    for layer, neuron in neurons:
        piece = next(piece for piece in pieces if piece.layer == layer and _holds(piece, neuron))
        by_tensor.setdefault(piece.tensor, []).append((piece, layer, neuron))
    for tensor, places in sorted(by_tensor.items()):
        values = np.array(decode64(files.raw(tensor), checkpoint.dtype(tensor)))
        for piece, layer, neuron in places:
            part: Any = values if piece.cut is None else piece.cut.view(values)
            if part.shape != piece.shape:
                raise RecipeError(
                    f"tensor {quoted(tensor)}: its value vectors cannot be changed in place; not supported"
                )
            index: list[Any] = [slice(None)] * part.ndim
            assert piece.neuron_axis is not None
            index[piece.neuron_axis] = neuron - piece.first_neuron
            vector = part[tuple(index)]
            vector += np.random.default_rng([seed, layer, neuron]).normal(0.0, noise, vector.shape)
        yield tensor, values


def _holds(piece: Piece, neuron: int) -> bool:
    assert piece.neuron_axis is not None
    return piece.first_neuron <= neuron < piece.first_neuron + piece.shape[piece.neuron_axis]
