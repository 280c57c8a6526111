"""Aliases for arrays, so that signatures say what an axis is; ids of components.

Axis names are those of the report: layer, question, position, neuron, d_model, d_vocab.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt


class Axes(tuple[str, ...]):
    """The names of an array's axes, as a mark of its type: `Annotated[Float64, Axes("layer", "question")]`."""

    __slots__ = ()

    def __new__(cls, *names: str) -> Axes:
        """Name the axes, first to last."""
        return super().__new__(cls, names)


Component = Literal[
    "embedding",
    "position_embedding",
    "unembedding",
    "norms",
    "value_vectors",
    "keys",
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_o",
    "router",
    "other",
]
"""The id of a component of a model."""

AnyArray: TypeAlias = npt.NDArray[Any]
Bools: TypeAlias = npt.NDArray[np.bool_]
Float32: TypeAlias = npt.NDArray[np.float32]
Float64: TypeAlias = npt.NDArray[np.float64]
Int64: TypeAlias = npt.NDArray[np.int64]

PerNeuron: TypeAlias = Annotated[Float64, Axes("neuron")]
"""float64 [neuron]"""
PerQuestion: TypeAlias = Annotated[Float64, Axes("question")]
"""float64 [question]"""
LayerNeuron: TypeAlias = Annotated[Float32, Axes("layer", "neuron")]
"""float32 [layer, neuron]; NaN where a layer has fewer neurons"""
ComponentLayer: TypeAlias = Annotated[Float64, Axes("component", "layer")]
"""float64 [component, layer]; NaN where a layer has no such component"""
PerLayer: TypeAlias = Annotated[Float64, Axes("layer")]
"""float64 [layer]"""
LayerQuestion: TypeAlias = Annotated[Float64, Axes("layer", "question")]
"""float64 [layer, question]"""
