"""Records of a comparison: drift of tensors, components, layers and neurons."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, get_args

from ckdiff.report.schema.brief import Brief
from ckdiff.report.schema.layout import Rank, Rows, Says, Scale, Shape, Share, Within
from ckdiff.shapes import Component, ComponentLayer, Int64, LayerNeuron

COMPONENTS: tuple[Component, ...] = get_args(Component)
"""Every component id, in the order in which tables show them."""


@dataclass(frozen=True, slots=True)
class Drift:
    """How far b (unlearned) is from a (base), both taken as one long vector; sums in float64.

    Attributes:
        cosine: <a, b> / (|a| |b|), in [-1, 1]; exactly 1 where both are equal or both all-zero, NaN where one is.
        one_minus_cosine: 1 - cosine without its rounding, in [0, 2].
        relative_l2: |b - a| / |a|; 0 where both are all-zero, infinite where only a is.
        max_abs_diff: max |b_i - a_i|.
        norm_base: |a|.
        norm_unlearned: |b|.
        changed: number of elements whose values differ.
        changed_fraction: changed / parameters.
        nonfinite_base: NaN and infinite elements of a. Where either count is not zero, the other numbers are NaN
            unless the two are bitwise identical.
        nonfinite_unlearned: the same of b.
        identical: the stored values are equal, element by element.
    """

    ENDS: ClassVar[None] = None

    cosine: Annotated[float, Within(-1, 1)]
    one_minus_cosine: Annotated[float, Within(0, 2)]
    relative_l2: float
    max_abs_diff: float
    norm_base: float
    norm_unlearned: float
    changed: int
    changed_fraction: Share
    nonfinite_base: int
    nonfinite_unlearned: int
    identical: bool


@dataclass(frozen=True, slots=True)
class TensorDrift:
    """The drift of one tensor, or of one part of a fused tensor (then the name ends in the part: `...weight[q]`).

    Attributes:
        layer: index of the decoder layer, or None outside the layers.
        tied: the tensor is a second name of another one (tied embeddings) and its bytes are stored once.
    """

    name: str
    component: str
    layer: Annotated[int | None, Says("-1: outside the decoder layers")]
    shape: Shape
    dtype_base: str
    dtype_unlearned: str
    parameters: int
    tied: bool
    drift: Drift


@dataclass(frozen=True, slots=True)
class ComponentDrift:
    """The drift of all tensors of one component, as one long vector, and over its tensors.

    Attributes:
        cosine_mean: mean of the tensors' cosines (those that are defined).
        cosine_min: the least of them.
        tied: every tensor of the component is a second name of another component's.
    """

    component: str
    tensors: int
    parameters: int
    cosine_mean: float
    cosine_min: float
    tied: bool
    drift: Drift


@dataclass(frozen=True, slots=True, repr=False)
class Grid(Brief):
    """Drift per component and layer (tensors outside the layers are not in it); NaN where there is nothing."""

    components: Annotated[tuple[str, ...], Scale("component")]
    layers: Annotated[Int64, Scale("layer")]
    cosine: ComponentLayer
    one_minus_cosine: ComponentLayer
    relative_l2: ComponentLayer
    changed_fraction: ComponentLayer


@dataclass(frozen=True, slots=True, repr=False)
class NeuronGrid(Brief):
    """Drift per layer and neuron, for one component that has neurons.

    In a mixture of experts, neurons are numbered expert by expert: neuron = expert * d_ff + index.
    """

    layers: Annotated[Int64, Scale("layer")]
    one_minus_cosine: LayerNeuron
    relative_l2: LayerNeuron


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor that only one of the checkpoints has."""

    name: str
    component: str
    shape: Shape
    dtype: str


@dataclass(frozen=True, slots=True)
class ShapeMismatch:
    """A tensor that both checkpoints have, in two shapes; it was not compared."""

    name: str
    component: str
    shape_base: Shape
    shape_unlearned: Shape


@dataclass(frozen=True, slots=True)
class LayerAlignment:
    """Neurons or heads of one layer that the unlearned checkpoint has in another order or scale than the base.

    What they compute is the same wherever they stand, so that they were put into the base's order before their drift
    was measured again, and before anything was put back.

    Attributes:
        kind: what stands elsewhere.
        units: how many the layer has; of heads, those of the queries.
        moved: of these, how many stand elsewhere.
        rescaled: how many are scaled, with the opposite scale or sign where it is taken off again.
        cosine_before: mean cosine of the layer's keys and value vectors as they are stored (of heads: of q, k, v, o).
        cosine_after: the same in the base's order and scale.
    """

    layer: int
    kind: Literal["neurons", "heads", "experts"]
    units: int
    moved: int
    rescaled: int
    cosine_before: float
    cosine_after: float


@dataclass(frozen=True, slots=True)
class LowRank:
    """A matrix that differs in a few directions only.

    Attributes:
        rank: the fewest directions that hold 99 % of the squared difference.
        full: the most that there could be.
        share: of the squared difference that they hold, in [0, 1].
    """

    name: str
    rank: int
    full: int
    share: float


@dataclass(frozen=True, slots=True)
class ConfigChange:
    """One key that differs in the files around the weights.

    Attributes:
        file: config.json, generation_config.json, tokenizer.json, chat_template ...
        key: dotted path inside the file.
        base: JSON text of the base's value, or None where it has no such key.
        unlearned: the same of the unlearned checkpoint.
    """

    file: str
    key: str
    base: str | None
    unlearned: str | None


@dataclass(frozen=True, slots=True)
class Uncompared:
    """A setting, or a file of settings, that was not compared: it may be the same or not.

    Attributes:
        file: which one, or "all settings".
        reason: why not, and of which checkpoint.
    """

    file: str
    reason: str


@dataclass(frozen=True, slots=True, repr=False)
class Comparison(Brief):
    """What `ckdiff compare` found.

    Attributes:
        model_type: of the base's config, or "" where it has none.
        known_architecture: False: no row for this model type, everything is under `other`.
        neurons: by component (`value_vectors`, `keys`); missing where there are none.
        config_changes: what differs in meaning in the files around the weights.
        config_spellings: what is only written otherwise and means the same to transformers.
        config_uncompared: what of these files was not compared.
        ignored: stored buffers without parameters that were left out by name.
        alignment: layers whose neurons or heads stand in another order or scale; empty in the ordinary case.
        aligned: the tensors of these layers once more, in the base's order and scale.
        aligned_components: the components once more, with those tensors in the place of the stored ones.
        low_rank: matrices that differ in a few directions only; an audit looks, and not at the largest ones.
        ends_geometry: cosine of the inner products of tokens' embeddings, of embedding or unembedding the greater: 1
            where one is the other rotated; NaN where they stand in one basis, or nobody looked.
        notes: plain sentences about what a reader must know (not measured, assumed, merged).
    """

    GIST = ("tensors",)

    model_type: str
    known_architecture: bool
    tensors: Annotated[tuple[TensorDrift, ...], Rows("tensor", key="name")]
    components: Annotated[tuple[ComponentDrift, ...], Rows("component", key="component")]
    grid: Annotated[Grid, Rank(1)]
    neurons: Annotated[Mapping[str, NeuronGrid], Rank(1)]
    only_in_base: Annotated[tuple[TensorInfo, ...], Rows("tensor", key="name")] = ()
    only_in_unlearned: Annotated[tuple[TensorInfo, ...], Rows("tensor", key="name")] = ()
    shape_mismatch: Annotated[tuple[ShapeMismatch, ...], Rows("tensor", key="name")] = ()
    config_changes: Annotated[tuple[ConfigChange, ...], Rows("change")] = ()
    config_spellings: Annotated[tuple[ConfigChange, ...], Rows("change")] = ()
    config_uncompared: Annotated[tuple[Uncompared, ...], Rows("change")] = ()
    ignored: Annotated[tuple[str, ...], Rows("tensor", key="text")] = ()
    alignment: Annotated[tuple[LayerAlignment, ...], Rows("row")] = ()
    aligned: Annotated[tuple[TensorDrift, ...], Rows("tensor", key="name")] = ()
    aligned_components: Annotated[tuple[ComponentDrift, ...], Rows("component", key="component")] = ()
    notes: Annotated[tuple[str, ...], Rows("note")] = ()
    low_rank: Annotated[tuple[LowRank, ...], Rows("tensor", key="name")] = ()
    ends_geometry: float = math.nan
