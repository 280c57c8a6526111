"""The sweeps of many reports on common axes: `sweeps(pieces, pairs, concepts)`, arrays [pair, concept, layer]."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from ckdiff.campaign.records import CampaignError
from ckdiff.report.schema.campaign import CampaignRun
from ckdiff.report.schema.probe import SCORES, Curve
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ckdiff.campaign.gather.cells import Piece
    from ckdiff.report.schema.probe import ProbeRun
    from ckdiff.shapes import AnyArray, Float64


Name = tuple[str, str, str]
"""Direction, mode and variant."""


Place = tuple[int, int]
"""Of a pair and of a concept on their axes."""


PARTS = tuple(field.name for field in fields(Curve))


@dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep of all pairs, and what its arrays do not tell.

    Attributes:
        axes: by pair and concept that have it, the window centres that were measured; elsewhere its arrays are NaN.
        unrestored: top1 of the unlearned model, [pair, concept].
    """

    run: CampaignRun
    axes: Mapping[Place, tuple[int, ...]]
    unrestored: Float64


def sweeps(pieces: Sequence[Piece], pairs: Sequence[str], concepts: Sequence[str]) -> tuple[Sweep, ...]:
    """Every sweep that one pair at least has, in the order in which they first come.

    Raises:
        CampaignError: one sweep was made with different windows, so that it is not one.
    """
    named: dict[Name, list[tuple[Piece, ProbeRun]]] = {}
    for piece in pieces:
        for run in piece.runs:
            named.setdefault((run.direction, run.mode, run.variant), []).append((piece, run))
    return tuple(_sweep(name, found, list(pairs), list(concepts)) for name, found in named.items())


def _sweep(name: Name, found: list[tuple[Piece, ProbeRun]], pairs: list[str], concepts: list[str]) -> Sweep:
    layers = np.unique(np.concatenate([run.layers for _, run in found])).astype(np.int64)
    shape = (len(pairs), len(concepts), len(layers))
    arrays = {(score, part): np.full(shape, np.nan) for score in SCORES for part in PARTS}
    top1, unrestored = np.full(shape, np.nan), np.full(shape[:2], np.nan)
    axes: dict[Place, tuple[int, ...]] = {}
    for piece, run in found:
        place = pairs.index(piece.pair), concepts.index(piece.concept)
        columns = np.searchsorted(layers, run.layers)
        for (score, part), values in arrays.items():
            values[place][columns] = getattr(getattr(run, score), part)
        top1[place][columns] = run.top1
        unrestored[place] = piece.measures["top1"].value
        axes[place] = tuple(sorted(run.layers.tolist()))
    curves = {score: Curve(*(arrays[score, part] for part in PARTS)) for score in SCORES}
    raw, centred, kl = (curves[score] for score in SCORES)
    return Sweep(CampaignRun(*name, _window(name, found, layers), layers, raw, centred, kl, top1), axes, unrestored)


def _window(name: Name, found: list[tuple[Piece, ProbeRun]], layers: AnyArray) -> int:
    """How many layers are restored together; of a sweep that is about no single window it says nothing."""
    widths: dict[int, str] = {}
    for piece, run in found:
        widths.setdefault(run.window, piece.pair)
    if len(widths) > 1 and (layers >= 0).any():
        (one, first), (other, second) = list(widths.items())[:2]
        raise CampaignError(
            f"{printable(' '.join(name))}: windows of {one} layers in pair {printable(first)}, of {other} in pair"
            f" {printable(second)}; give both one window, or gather them apart as two plans"
        )
    return max(widths)
