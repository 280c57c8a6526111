"""Names to components: cuts every stored tensor into pieces that mean one thing, and pairs two checkpoints."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cut:
    """How a piece lies inside a stored tensor: `stored.reshape(reshape)[index].reshape(piece.shape)`, as a view."""

    reshape: tuple[int, ...]
    index: tuple[int | slice, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """A stored tensor, or the part of a fused one, that belongs to exactly one component.

    Attributes:
        name: canonical name, the same in both checkpoints whatever prefix their files use; parts carry a suffix
            such as `[q]`, and with stacked experts `[3.gate]`.
        tensor: name of the stored tensor in this checkpoint.
        shape: shape of the piece.
        cut: where it lies in the stored tensor; None: all of it.
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
