"""What follows from the rows of tensors: `follow_comparison(found)`, rows of components and layers among it.

Lengths are square roots of sums of squares, so that those of several tensors follow from those of each, and so does
their angle. What a tensor's own row says is held against itself: with r = |b| / |a|,

    relative_l2^2 = (1 - r)^2 + 2 r (1 - cos),

so that no one of its figures can be changed alone. That the figures are those of the weights follows from the weights.
"""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ckdiff.audit.verify.differences import Differences
    from ckdiff.report.schema.comparison import Comparison, Drift, Grid, TensorDrift


LOPSIDED = 1e6
"""Where one length is so many times the other, an angle drowns in rounding and may be undefined."""


def check_comparison(found: Comparison, differences: Differences) -> None:
    """Each component and layer that has a tensor has its row."""
    layered = [row for row in found.tensors if row.layer is not None]
    held = [row.component for row in found.components]
    differences.present("compare/components", dict.fromkeys(row.component for row in found.tensors), held)
    differences.present("compare/grid", dict.fromkeys(row.component for row in layered), found.grid.components)
    layers = sorted({row.layer for row in layered if row.layer is not None})
    differences.exact("compare/grid: layers", found.grid.layers.tolist(), layers)


def follow_comparison(found: Comparison) -> dict[str, Any]:
    """Everything that follows from the rows of tensors."""
    rows, cells = defaultdict(list), defaultdict(list)
    for row in found.tensors:
        rows[row.component].append(row)
        cells[row.component, row.layer].append(row)
    return {
        "tensors": [_tensor(row) for row in found.tensors],
        "components": [_whole(rows[row.component], row.drift.one_minus_cosine) for row in found.components],
        "grid": _grid(found.grid, cells),
    }


def _tensor(row: TensorDrift) -> dict[str, Any]:
    own = row.drift
    wanted = {
        "parameters": math.prod(row.shape),
        "changed": min(own.changed, row.parameters),
        "changed_fraction": own.changed / row.parameters if row.parameters else 0.0,
        "cosine": 1.0 - own.one_minus_cosine,
    }
    if own.identical:
        return wanted | {"one_minus_cosine": 0.0, "relative_l2": 0.0, "max_abs_diff": 0.0, "changed": 0}
    drowned = math.isnan(own.one_minus_cosine) and _lopsided([own])
    if _finite(own) and own.norm_base > 0 and own.norm_unlearned > 0 and not drowned:
        ratio = own.norm_unlearned / own.norm_base
        wanted["relative_l2"] = math.sqrt((1 - ratio) ** 2 + 2 * ratio * own.one_minus_cosine)
    return wanted


def _whole(rows: Sequence[TensorDrift], angle: float) -> dict[str, Any]:
    """What follows of several tensors as one long vector, whose stored 1 - cos is `angle`."""
    drifts, parameters = [row.drift for row in rows], sum(row.parameters for row in rows)
    cosines = [drift.cosine for drift in drifts if not math.isnan(drift.cosine)]
    sums = {
        name: sum(getattr(drift, name) for drift in drifts)
        for name in ("changed", "nonfinite_base", "nonfinite_unlearned")
    }
    wanted = {
        "tensors": len(rows),
        "parameters": parameters,
        "tied": all(row.tied for row in rows),
        "identical": all(drift.identical for drift in drifts),
        "cosine": 1.0 - angle,
        "cosine_mean": float(np.mean(cosines)) if cosines else math.nan,
        "cosine_min": min(cosines, default=math.nan),
        "changed_fraction": sums["changed"] / parameters if parameters else 0.0,
        **sums,
        **(_together(drifts) if all(map(_finite, drifts)) else {}),
    }
    if math.isnan(angle) and _lopsided(drifts):
        wanted.pop("one_minus_cosine", None)
    return wanted


def _grid(grid: Grid, cells: Mapping[Any, Sequence[TensorDrift]]) -> dict[str, Any]:
    """Figures of each component and layer; NaN where there is no tensor, what is stored where nothing follows."""
    names = ("one_minus_cosine", "cosine", "relative_l2", "changed_fraction")
    wanted = {name: np.full((len(grid.components), len(grid.layers)), np.nan) for name in names}
    for row, component in enumerate(grid.components):
        for column, layer in enumerate(grid.layers.tolist()):
            if rows := cells.get((component, layer)):
                whole = _whole(rows, float(grid.one_minus_cosine[row, column]))
                for name in names:
                    wanted[name][row, column] = whole.get(name, getattr(grid, name)[row, column])
    return wanted


def _finite(row: Drift) -> bool:
    return not row.nonfinite_base and not row.nonfinite_unlearned and math.isfinite(row.norm_base)


def _lopsided(rows: Sequence[Drift]) -> bool:
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
