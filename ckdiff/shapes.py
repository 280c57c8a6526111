"""Aliases for arrays, so that signatures say what an axis is.

Axis names are those of the report: layer, question, position, neuron, d_model, d_vocab.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

AnyArray: TypeAlias = npt.NDArray[Any]
Float32: TypeAlias = npt.NDArray[np.float32]
Float64: TypeAlias = npt.NDArray[np.float64]
Int64: TypeAlias = npt.NDArray[np.int64]

PerNeuron: TypeAlias = Float64
"""float64 [neuron]"""
LayerNeuron: TypeAlias = Float32
"""float32 [layer, neuron]; NaN where a layer has fewer neurons"""
ComponentLayer: TypeAlias = Float64
"""float64 [component, layer]; NaN where a layer has no such component"""
PerLayer: TypeAlias = Float64
"""float64 [layer]"""
LayerQuestion: TypeAlias = Float64
"""float64 [layer, question]"""
