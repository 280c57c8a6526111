"""Where a mode carries the effect: the smallest set of windows that explains it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ckdiff.audit.verdict.rules import RULES
from ckdiff.modes import WEIGHTS
from ckdiff.report.words.numbers import layers_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ckdiff.audit.verdict.evidence import Evidence
    from ckdiff.audit.verdict.rules import Rule
    from ckdiff.report.schema.verdict import Explanation


MOST_LAYERS = 10_000
"""No model has more."""


@dataclass(frozen=True, slots=True)
class Place:
    """Layers, and the windows that name them.

    Attributes:
        layers: in order. Of weights only those that differ: unchanged weights carry nothing.
        single: one window alone brings the answers back.
        share: a single window's krs_kl over the whole model's, NaN where that was not measured; else the share of the
            effect that the set produces.
        rests_on: the windows, the strongest first.
    """

    layers: tuple[int, ...]
    single: bool
    share: float
    rests_on: tuple[Explanation, ...]


def locate(evidence: Evidence, mode: str) -> Place | None:
    """The smallest set of windows in which a mode explains the effect, or None where windows were not measured.

    One window, where its restoration brings back `window` of what the whole model's does; of several such the one that
    brings back most. Else windows side by side, by the share of the effect that each produces when it is broken into
    the base, until they have `windows` of what all of them produce; without that direction, nothing smaller than the
    whole model is named. Of weights `window of weights` is asked in both cases.
    """
    restored = evidence.windows(mode, "restore")
    whole = evidence.whole(mode, "restore")
    if not restored or whole is None:
        return None
    best = max(restored, key=lambda row: row.kl)
    share = best.kl / whole.kl if whole.kl > 0 else 0.0
    changed = evidence.changed_layers(mode)
    layers = 0 if evidence.probe is None else min(evidence.probe.layer_count, MOST_LAYERS)
    one, several = (RULES["window of weights"],) * 2 if mode in WEIGHTS else (RULES["window"], RULES["windows"])
    if one.holds(share) and best.kl_low >= RULES["restores.firm"].threshold:
        share = share if evidence.complete(mode, "restore") else float("nan")
        return Place(_layers([best], changed, layers), True, share, (best,))
    chosen, share = _smallest(evidence.windows(mode, "break"), several)
    if not chosen:
        return None
    return Place(_layers(chosen, changed, layers), False, share, tuple(chosen))


def _smallest(rows: list[Explanation], enough: Rule) -> tuple[list[Explanation], float]:
    """Windows side by side, the strongest first, until they have enough of the sum of all such windows; its share."""
    beside: list[Explanation] = []
    for row in sorted(rows, key=lambda row: -row.kl):
        if row.kl > 0 and all(row.last < other.first or row.first > other.last for other in beside):
            beside.append(row)
    total = sum(row.kl for row in beside)
    chosen: list[Explanation] = []
    for row in beside:
        chosen.append(row)
        if enough.holds(sum(one.kl for one in chosen) / total):
            break
    return chosen, (sum(row.kl for row in chosen) / total if total > 0 else float("nan"))


def _layers(rows: Iterable[Explanation], changed: set[int] | None, count: int) -> tuple[int, ...]:
    """Layers of windows, of which a report that somebody else wrote may claim any number."""
    layers = {layer for row in rows for layer in range(max(row.first, 0), min(row.last + 1, count))}
    return tuple(sorted(layers if changed is None else layers & changed or layers))


def place_text(place: Place) -> str:
    """Layers in words: `layer 7`, `layers 19-23`, `layers 3, 7-8`."""
    return layers_text(place.layers)
