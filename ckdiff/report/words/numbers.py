"""What every presenter needs: strings from files made safe, numbers made short, records made flat."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.report.schema.comparison import Drift
from ckdiff.untrusted import printable, shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ckdiff.report.schema.comparison import Comparison, NeuronGrid, TensorDrift


UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K"))


UNDEFINED = "\N{EN DASH}"


FIRST_NAMED = 3


BYTE_UNITS = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB"), (1.0, "B"))


def number(value: float) -> str:
    """A drift in seven characters: scientific, "0" where it is exactly zero, a dash where it is not defined.

    >>> number(2.6e-7), number(0.0), number(float("inf"))
    ('2.6e-07', '0', '∞')
    """
    if math.isnan(value):
        return UNDEFINED
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    return "0" if value == 0 else f"{value:.1e}"


def percent(fraction: float) -> str:
    """A share; never "0 %" where there is something, nor "100 %" where something is left.

    >>> percent(0.0), percent(1e-9), percent(0.1234), percent(0.99999), percent(1.0)
    ('0 %', '<0.1 %', '12.3 %', '>99.9 %', '100 %')
    """
    if math.isnan(fraction):
        return UNDEFINED
    if fraction in (0.0, 1.0):
        return f"{fraction * 100:.0f} %"
    if fraction < 0.001:
        return "<0.1 %"
    return ">99.9 %" if fraction > 0.999 else f"{fraction * 100:.1f} %"


def amount(count: int, units: Iterable[tuple[float, str]] = UNITS) -> str:
    """A count in three digits and a unit.

    >>> amount(28_311_552), amount(999_999), amount(768)
    ('28.3 M', '1.00 M', '768')
    """
    for size, unit in units:
        if count >= size * 0.9995:
            scaled = count / size
            digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
            return f"{scaled:.{digits}f} {unit}" if size > 1 else f"{count} {unit}"
    return str(count)


def counted(count: int, noun: str) -> str:
    """A number and its noun: `1 tensor`, `2 tensors`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def shape_text(shape: Sequence[int]) -> str:
    """A shape as `768x3072`; empty for a scalar."""
    return "x".join(map(str, shape))


def flat(row: Any) -> dict[str, Any]:
    """A record as one flat mapping: the fields of its drift stand beside its own, under their own names."""
    result: dict[str, Any] = {}
    for field in fields(row):
        value = getattr(row, field.name)
        result.update(flat(value) if isinstance(value, Drift) else {field.name: value})
    return result


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
    return f"NOT ALL WAS COMPARED: {counted(own, 'tensor')} are the same; not compared: {_unmatched(comparison)}"


def listed(names: Sequence[str], limit: int = FIRST_NAMED) -> str:
    """The first names, and how many more there are.

    >>> listed(["a", "b", "c"], limit=2)
    'a, b … and 1 more'
    """
    first = ", ".join(shorten(printable(name), 120) for name in names[:limit])
    return first if len(names) <= limit else f"{first} … and {len(names) - limit:,} more"


def coverage_lines(comparison: Comparison) -> list[str]:
    """What was compared and what was not, one finding a line, each naming its first few tensors; all printable."""
    own = [row for row in comparison.tensors if not row.tied]
    same = sum(row.drift.identical for row in own)
    parameters = sum(row.parameters for row in own)
    lines = [f"matched: {counted(len(own), 'tensor')}, {amount(parameters)} parameters; "]
    lines[0] += f"{same:,} identical, {len(own) - same:,} changed"
    lines.append(f"not compared: {_unmatched(comparison)}")
    if not comparison.known_architecture and own:
        kind = printable(comparison.model_type) or "without a model type"
        lines.append(f"architecture not known ({kind}): everything counts as `other`")
    lines += [f"{label} ({len(names):,}): {listed(names)}" for label, names in findings(comparison) if names]
    return lines + settings_lines(comparison)


def settings_lines(comparison: Comparison) -> list[str]:
    """What of the files around the weights was not compared, and what is only written otherwise; all printable."""
    lines = []
    for row in comparison.config_uncompared[:FIRST_NAMED]:
        lines.append(f"settings not compared: {printable(row.file)} ({printable(row.reason)})")
    if len(comparison.config_uncompared) > FIRST_NAMED:
        lines.append(f"settings not compared: {len(comparison.config_uncompared) - FIRST_NAMED:,} more")
    if comparison.config_spellings:
        names = [f"{row.file} {row.key}" for row in comparison.config_spellings]
        lines.append(f"settings written otherwise, the same to transformers ({len(names):,}): {listed(names)}")
    return lines


def _unmatched(comparison: Comparison) -> str:
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
