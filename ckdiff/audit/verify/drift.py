"""Rows of components and layers computed again from the rows of tensors: `check_drift(found, differences)`.

Lengths are square roots of sums of squares, so that those of several tensors follow from those of each, and so does
their angle. What a tensor's own row says is held against itself: with r = |b| / |a|,

    relative_l2^2 = (1 - r)^2 + 2 r (1 - cos),

so that no one of its figures can be changed alone. That the figures are those of the weights follows from the weights.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ckdiff.audit.verify.differences import Differences
    from ckdiff.report.schema.comparison import Comparison, ComponentDrift, Drift, TensorDrift


SUMS = {"relative": 1e-6, "absolute": 1e-12}
"""1 - cos of several tensors loses digits when it is put together from theirs, those of a cosine of 1 - 1e-9 first."""


OWN = {"relative": 2e-3, "absolute": 1e-9}
"""Within one tensor: lengths and the angle come from float32 products where the weights are 16-bit."""


EXACT = {"relative": 1e-12}


LOPSIDED = 1e6
"""Where one length is so many times the other, an angle drowns in rounding and may be undefined."""


def check_drift(found: Comparison, differences: Differences) -> None:
    """Compute everything again that follows from the rows of tensors."""
    for row in found.tensors:
        _check_tensor(row, differences)
    components = list(dict.fromkeys(row.component for row in found.tensors))
    differences.present("compare/components", components, [row.component for row in found.components])
    for component in found.components:
        rows = [row for row in found.tensors if row.component == component.component]
        _check_component("compare/components", component, rows, differences)
    _check_grid(found, differences)
    _check_aligned(found, differences)


def _check_aligned(found: Comparison, differences: Differences) -> None:
    """Tensors in the base's order are those of the report, with the base's own lengths; their components follow."""
    stored, aligned = ({row.name: row for row in rows} for rows in (found.tensors, found.aligned))
    for row in found.aligned:
        where = f"compare/aligned/{row.name}"
        _check_tensor(row, differences, "compare/aligned")
        if row.name not in stored:
            differences.add(where, "a tensor", "none of the comparison")
            continue
        own = stored[row.name]
        differences.exact(f"{where}: what it is", _place_of(row), _place_of(own))
        differences.close(f"{where}/norm_base", row.drift.norm_base, own.drift.norm_base, **OWN)
    wanted = [row.component for row in found.components] if found.aligned or found.aligned_components else []
    differences.exact("compare/aligned_components", [row.component for row in found.aligned_components], wanted)
    for component in found.aligned_components:
        rows = [aligned.get(row.name, row) for row in found.tensors if row.component == component.component]
        _check_component("compare/aligned_components", component, rows, differences)


def _place_of(row: TensorDrift) -> tuple[object, ...]:
    return row.component, row.layer, row.shape, row.parameters


def _check_tensor(row: TensorDrift, differences: Differences, section: str = "compare/tensors") -> None:
    where, own = f"{section}/{row.name}", row.drift
    differences.exact(f"{where}/parameters", row.parameters, math.prod(row.shape))
    _check_ratios(where, own, row.parameters, differences)
    if own.identical:
        nothing = (own.one_minus_cosine, own.relative_l2, own.max_abs_diff, float(own.changed))
        differences.exact(f"{where}: identical, and its differences", nothing, (0.0, 0.0, 0.0, 0.0))
        return
    if _finite(own) and own.norm_base > 0 and own.norm_unlearned > 0:
        ratio = own.norm_unlearned / own.norm_base
        if math.isnan(own.one_minus_cosine) and _is_lopsided([own]):
            return
        length = math.sqrt((1 - ratio) ** 2 + 2 * ratio * own.one_minus_cosine)
        differences.close(f"{where}/relative_l2, by its lengths and angle", own.relative_l2, length, **OWN)
    if own.changed > row.parameters:
        differences.add(f"{where}/changed", own.changed, f"at most {row.parameters}")


def _check_ratios(where: str, own: Drift, parameters: int, differences: Differences) -> None:
    share = own.changed / parameters if parameters else 0.0
    differences.close(f"{where}/changed_fraction", own.changed_fraction, share, **EXACT)
    differences.close(f"{where}/cosine", own.cosine, 1.0 - own.one_minus_cosine, **EXACT)


def _check_component(
    section: str, found: ComponentDrift, rows: Sequence[TensorDrift], differences: Differences
) -> None:
    where, own = f"{section}/{found.component}", found.drift
    parameters = sum(row.parameters for row in rows)
    differences.exact(f"{where}/tensors", found.tensors, len(rows))
    differences.exact(f"{where}/parameters", found.parameters, parameters)
    differences.exact(f"{where}/tied", found.tied, all(row.tied for row in rows))
    for name in ("changed", "nonfinite_base", "nonfinite_unlearned"):
        differences.exact(f"{where}/{name}", getattr(own, name), sum(getattr(row.drift, name) for row in rows))
    differences.exact(f"{where}/identical", own.identical, all(row.drift.identical for row in rows))
    _check_ratios(where, own, parameters, differences)
    cosines = [row.drift.cosine for row in rows if not math.isnan(row.drift.cosine)]
    differences.close(f"{where}/cosine_mean", found.cosine_mean, float(np.mean(cosines)) if cosines else math.nan)
    differences.close(f"{where}/cosine_min", found.cosine_min, min(cosines, default=math.nan), **EXACT)
    if all(_finite(row.drift) for row in rows):
        again = _together([row.drift for row in rows])
        for name, value in again.items():
            if name == "one_minus_cosine" and math.isnan(own.one_minus_cosine) and _is_lopsided([own]):
                continue
            differences.close(f"{where}/{name}", getattr(own, name), value, **SUMS)


def _check_grid(found: Comparison, differences: Differences) -> None:
    layered = [row for row in found.tensors if row.layer is not None]
    layers = sorted({row.layer for row in layered if row.layer is not None})
    differences.exact("compare/grid: layers", found.grid.layers.tolist(), layers)
    differences.present("compare/grid", dict.fromkeys(row.component for row in layered), found.grid.components)
    shape = (len(found.grid.components), len(found.grid.layers))
    cells: dict[tuple[str, int], list[Drift]] = {}
    sizes: dict[tuple[str, int], int] = {}
    for row in layered:
        key = row.component, row.layer or 0
        cells.setdefault(key, []).append(row.drift)
        sizes[key] = sizes.get(key, 0) + row.parameters
    for name, of in _GRID.items():
        stored = getattr(found.grid, name)
        wanted = np.full(shape, np.nan)
        for row_index, component in enumerate(found.grid.components):
            for column, layer in enumerate(found.grid.layers.tolist()):
                key = component, layer
                if key in cells:
                    own = float(stored[row_index, column])
                    rough = not all(map(_finite, cells[key])) or (math.isnan(own) and _is_lopsided(cells[key]))
                    wanted[row_index, column] = own if rough else of(cells[key], sizes[key])
        differences.arrays(f"compare/grid/{name}", stored, wanted, **SUMS)


def _finite(row: Drift) -> bool:
    return not row.nonfinite_base and not row.nonfinite_unlearned and math.isfinite(row.norm_base)


def _is_lopsided(rows: Sequence[Drift]) -> bool:
    """Whether one of two vectors is so long that nothing can be said of their angle."""
    a, b = (math.hypot(*(getattr(row, name) for row in rows)) for name in ("norm_base", "norm_unlearned"))
    return max(a, b) >= LOPSIDED * min(a, b)


def _together(rows: Sequence[Drift]) -> dict[str, float]:
    """Several pairs of vectors as one long pair, from what is known of each."""
    a2 = math.fsum(row.norm_base**2 for row in rows)
    b2 = math.fsum(row.norm_unlearned**2 for row in rows)
    d2 = math.fsum(_distance(row) ** 2 for row in rows)
    return {
        "norm_base": math.sqrt(a2),
        "norm_unlearned": math.sqrt(b2),
        "max_abs_diff": max((row.max_abs_diff for row in rows), default=0.0),
        "relative_l2": _share(d2, a2),
        "one_minus_cosine": _angle(rows, a2, b2, d2),
    }


def _distance(row: Drift) -> float:
    """|b - a|; where a is all-zero that is |b|."""
    return row.norm_unlearned if row.norm_base == 0 else row.relative_l2 * row.norm_base


def _share(d2: float, a2: float) -> float:
    if a2 == 0:
        return 0.0 if d2 == 0 else math.inf
    return math.sqrt(d2 / a2)


def _angle(rows: Sequence[Drift], a2: float, b2: float, d2: float) -> float:
    """1 - cos of the long pair: what the parts' own angles add to it, and what their unequal lengths do.

    <a, b> = sum of |a_i| |b_i| - sum of |a_i| |b_i| (1 - cos_i). The first sum falls short of |a| |b| where the parts
    grew unequally; by Lagrange's identity that is |a|^2 |v|^2 / (|a| |b| + the sum), v being the part of the vector of
    lengths |b_i| that is perpendicular to the |a_i|: nothing cancels.
    """
    if d2 == 0:
        return 0.0
    if a2 == 0 or b2 == 0:
        return math.nan
    a, b = (np.array([getattr(row, name) for row in rows]) for name in ("norm_base", "norm_unlearned"))
    turned = math.fsum(
        row.norm_base * row.norm_unlearned * _turn(row) for row in rows if row.norm_base * row.norm_unlearned
    )
    inner, outer = float(a @ b), math.sqrt(a2 * b2)
    spread = math.fsum((b - inner / a2 * a) ** 2) * a2 / (outer + inner)
    return (turned + spread) / outer


def _turn(row: Drift) -> float:
    """1 - cos, taken as that of a right angle where it drowned in rounding: such parts weigh nothing beside others."""
    return 1.0 if math.isnan(row.one_minus_cosine) else row.one_minus_cosine


_GRID: dict[str, Callable[[Sequence[Drift], int], float]] = {
    "one_minus_cosine": lambda rows, size: _together(rows)["one_minus_cosine"],
    "cosine": lambda rows, size: 1.0 - _together(rows)["one_minus_cosine"],
    "relative_l2": lambda rows, size: _together(rows)["relative_l2"],
    "changed_fraction": lambda rows, size: sum(row.changed for row in rows) / size if size else 0.0,
}
"""Columns of the grid, each from the rows of one component and layer."""
