"""A comparison in words, for every presenter: coverage, the tensors and neurons that moved most, drifts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ckdiff.report.words.numbers import (
    FIRST_NAMED,
    amount,
    count_of,
    layers_text,
    names_of,
    number,
    percent,
    shape_text,
)
from ckdiff.untrusted import printable, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckdiff.report.schema.comparison import Comparison, Drift, LayerAlignment, NeuronGrid, TensorDrift

NOTHING = "NOTHING WAS COMPARED"


def drift_cells(drift: Drift) -> tuple[str, str, str, str]:
    """1-cos, relative L2, the share of elements that changed, and the largest difference, in words."""
    length, changed = number(drift.relative_l2), percent(drift.changed_fraction)
    return number(drift.one_minus_cosine), length, changed, number(drift.max_abs_diff)


class ComponentRow(NamedTuple):
    """A component in words.

    Attributes:
        cells: tensors, parameters, 1-cos, relative L2, largest 1-cos of any one tensor, changed share, largest
            difference.
    """

    name: str
    tied: bool
    identical: bool
    cells: tuple[str, ...]


def component_rows(found: Comparison) -> Iterator[ComponentRow]:
    """The components in their order."""
    peaks = component_peaks(found)
    for row in found.components:
        cosine, length, changed, largest = drift_cells(row.drift)
        sizes = f"{row.tensors:,}", amount(row.parameters)
        figures = cosine, length, number(peaks.get(row.component, math.nan)), changed, largest
        yield ComponentRow(row.component, row.tied, row.drift.identical, (*sizes, *figures))


def top_tensors(comparison: Comparison, limit: int) -> list[TensorDrift]:
    """The tensors that moved most, by 1-cos; identical ones and other names of tied ones left out.

    Where 1-cos is not defined, because a side is all zeros or not finite, nothing moved further: these come first.
    """
    moved = [row for row in comparison.tensors if not (row.drift.identical or row.tied)]
    return sorted(moved, key=_by_drift)[:limit]


def _by_drift(row: TensorDrift) -> tuple[float, float, str]:
    """Most moved first: not finite, then zeroed, then by 1-cos and relative L2."""
    scores = row.drift.one_minus_cosine, row.drift.relative_l2
    cosine, length = (-math.inf if math.isnan(value) else -value for value in scores)
    return cosine, length, row.name


@dataclass(frozen=True, slots=True)
class NeuronDrift:
    """One neuron and how far it moved."""

    component: str
    layer: int
    neuron: int
    one_minus_cosine: float
    relative_l2: float


def top_neurons(component: str, grid: NeuronGrid, limit: int) -> list[NeuronDrift]:
    """The neurons of one component that moved most, by 1-cos; those that did not move are left out.

    A neuron that is all zeros on one side alone has no 1-cos, only a length: it comes first.
    """
    zeroed = np.isnan(grid.one_minus_cosine) & (grid.relative_l2 > 0)
    score = np.where(np.isnan(grid.one_minus_cosine), -1.0, grid.one_minus_cosine)
    score = np.where(zeroed, np.inf, score)
    moved = np.flatnonzero((score > 0) | ((score == 0) & (grid.relative_l2 > 0)))
    score, length = score.ravel()[moved], grid.relative_l2.ravel()[moved]
    if 0 < limit < len(moved):
        # Keep every neuron that ties with the last one, so that the order below does not depend on the partition.
        kept = score >= np.partition(score, len(score) - limit)[len(score) - limit]
        moved, score, length = moved[kept], score[kept], length[kept]
    order = np.lexsort((moved, -length, -score))[:limit]
    rows, columns = np.unravel_index(moved[order], grid.one_minus_cosine.shape)
    shown = grid.one_minus_cosine.ravel()[moved[order]]
    found = zip(rows.tolist(), columns.tolist(), shown.tolist(), length[order].tolist(), strict=True)
    return [NeuronDrift(component, int(grid.layers[row]), neuron, *values) for row, neuron, *values in found]


def top_neurons_of_all(comparison: Comparison, limit: int) -> list[NeuronDrift]:
    """The neurons that moved most, over all components that have neurons."""
    found = [row for name, grid in comparison.neurons.items() for row in top_neurons(name, grid, limit)]
    return sorted(
        found, key=lambda row: (not math.isnan(row.one_minus_cosine), -row.one_minus_cosine, -row.relative_l2)
    )[:limit]


def neuron_cells(row: NeuronDrift) -> tuple[str, ...]:
    """Component, layer, neuron, 1-cos and relative L2 in words."""
    return row.component, str(row.layer), str(row.neuron), number(row.one_minus_cosine), number(row.relative_l2)


def setting_text(value: str | None, limit: int) -> str:
    """A value of a config that may be long, or not there."""
    return "(none)" if value is None else printable(shorten(value, limit))


def component_peaks(comparison: Comparison) -> dict[str, float]:
    """By component the largest 1-cos of any one tensor: 1 minus the least cosine, without its rounding.

    NaN where it is not defined for one of them: a tensor that was zeroed is no tensor that stayed.
    """
    peaks: dict[str, float] = {}
    for row in comparison.tensors:
        value, most = row.drift.one_minus_cosine, peaks.get(row.component, 0.0)
        peaks[row.component] = math.nan if math.isnan(value) or math.isnan(most) else max(value, most)
    return peaks


def is_complete(comparison: Comparison) -> bool:
    """Whether every tensor of both checkpoints was compared."""
    return not (comparison.only_in_base or comparison.only_in_unlearned or comparison.shape_mismatch)


def sameness_line(comparison: Comparison) -> str:
    """One sentence where no compared tensor differs, empty where one does; `identical` needs complete coverage."""
    if not comparison.tensors or any(not row.drift.identical for row in comparison.tensors):
        return ""
    own = sum(not row.tied for row in comparison.tensors) or len(comparison.tensors)
    if is_complete(comparison):
        return f"identical: all {own:,} tensors hold the same values"
    return f"NOT ALL WAS COMPARED: {count_of(own, 'tensor')} are the same; not compared: {_unmatched_text(comparison)}"


def coverage_lines(comparison: Comparison) -> list[str]:
    """The coverage of a comparison, one finding a line, each naming its first few tensors; all printable."""
    own = [row for row in comparison.tensors if not row.tied]
    same = sum(row.drift.identical for row in own)
    parameters = sum(row.parameters for row in own)
    lines = [f"matched: {count_of(len(own), 'tensor')}, {amount(parameters)} parameters; "]
    lines[0] += f"{same:,} identical, {len(own) - same:,} changed"
    lines.append(f"not compared: {_unmatched_text(comparison)}")
    if not comparison.known_architecture and own:
        kind = printable(comparison.model_type) or "without a model type"
        lines.append(f"architecture not known ({kind}): everything counts as `other`")
    lines += [f"{label} ({len(names):,}): {names_of(names)}" for label, names in findings(comparison) if names]
    return lines + alignment_lines(comparison) + settings_lines(comparison)


def settings_lines(comparison: Comparison) -> list[str]:
    """Files around the weights that were not compared, and values that are only written otherwise; all printable."""
    lines = []
    for row in comparison.config_uncompared[:FIRST_NAMED]:
        lines.append(f"settings not compared: {printable(row.file)} ({printable(row.reason)})")
    if len(comparison.config_uncompared) > FIRST_NAMED:
        lines.append(f"settings not compared: {len(comparison.config_uncompared) - FIRST_NAMED:,} more")
    if comparison.config_spellings:
        names = [f"{row.file} {row.key}" for row in comparison.config_spellings]
        lines.append(f"settings written otherwise, the same to transformers ({len(names):,}): {names_of(names)}")
    return lines


def _unmatched_text(comparison: Comparison) -> str:
    counts = (
        (len(comparison.only_in_base), "only in base"),
        (len(comparison.only_in_unlearned), "only in unlearned"),
        (len(comparison.shape_mismatch), "in two shapes"),
    )
    found = [f"{count:,} {label}" for count, label in counts if count]
    return ", ".join(found) or "nothing; both hold the same tensors, in the same shapes"


def findings(comparison: Comparison) -> Iterator[tuple[str, list[str]]]:
    """Everything about the coverage that is not plain drift: a label and the tensors that it is about."""
    yield "only in base", [row.name for row in comparison.only_in_base]
    yield "only in unlearned", [row.name for row in comparison.only_in_unlearned]
    yield (
        "other shape",
        [
            f"{row.name} ({shape_text(row.shape_base) or 'scalar'} → {shape_text(row.shape_unlearned) or 'scalar'})"
            for row in comparison.shape_mismatch
        ],
    )
    infinite = [row for row in comparison.tensors if row.drift.nonfinite_base or row.drift.nonfinite_unlearned]
    yield "not finite, drift not defined", [_nonfinite(row) for row in infinite]
    for side, field in (("base", "norm_base"), ("unlearned", "norm_unlearned")):
        zeroed = [row.name for row in comparison.tensors if getattr(row.drift, field) == 0 and not row.drift.identical]
        yield f"all zeros in {side} alone, 1-cos not defined", zeroed
    yield (
        "other dtype",
        [
            f"{row.name} ({row.dtype_base} → {row.dtype_unlearned})"
            for row in comparison.tensors
            if row.dtype_base != row.dtype_unlearned
        ],
    )
    yield "tied, counted once", [row.name for row in comparison.tensors if row.tied]
    yield "ignored, no parameters", list(comparison.ignored)


def _nonfinite(row: TensorDrift) -> str:
    return f"{row.name} ({row.drift.nonfinite_base:,} → {row.drift.nonfinite_unlearned:,} elements)"


def alignment_sentence(rows: Sequence[LayerAlignment]) -> str:
    """Which layers of the unlearned checkpoint have which units in another order or scale."""
    parts = []
    for kind in dict.fromkeys(row.kind for row in rows):
        own = [row for row in rows if row.kind == kind]
        how = [word for word, name in (("order", "moved"), ("scale", "rescaled")) if any(getattr(r, name) for r in own)]
        parts.append(f"the {kind} of {layers_text(row.layer for row in own)} in another {' and '.join(how)}")
    return f"the unlearned checkpoint has {' and '.join(parts)}"


def alignment_lines(comparison: Comparison) -> list[str]:
    """Units in another order or scale, and how far the components are in the base's; nothing in the usual case."""
    if not comparison.alignment:
        return []
    moved = [row for row in comparison.aligned_components if not row.drift.identical]
    drifts = ", ".join(f"{row.component} {number(row.drift.relative_l2)}" for row in moved)
    said = alignment_sentence(comparison.alignment)
    return [
        f"{said}; what a model says does not change by that, and the drift above and below is that of what is stored",
        f"in the base's order and scale the relative L2 is: {drifts}"
        if drifts
        else "in the base's order nothing moved",
    ]
