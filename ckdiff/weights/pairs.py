"""Two checkpoints paired and measured: pieces to drift, drift to components, layers and neurons.

Pieces are taken layer by layer, so that what is kept is a few numbers a tensor and two float32 a neuron.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict, deque
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ckdiff.report.schema.comparison import (
    COMPONENTS,
    Comparison,
    ComponentDrift,
    Drift,
    Grid,
    NeuronGrid,
    ShapeMismatch,
    TensorDrift,
    TensorInfo,
)
from ckdiff.weights.alignment.alignment import find_alignment
from ckdiff.weights.alignment.moves import Pieces, move_piece
from ckdiff.weights.alignment.suspects import UNITS, suspects
from ckdiff.weights.components import layout, pair
from ckdiff.weights.configs import compare_settings
from ckdiff.weights.crew import Crew
from ckdiff.weights.drift import PieceDrift, begin_drift, drift
from ckdiff.weights.moments import Moments, concatenate, together
from ckdiff.weights.own_error import OwnError
from ckdiff.weights.storage import Mapped, Rows
from ckdiff.weights.vocabulary import Sides, split_vocabulary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from ckdiff.shapes import AnyArray, Float64
    from ckdiff.weights.alignment.alignment import Alignment
    from ckdiff.weights.checkpoint import Checkpoint
    from ckdiff.weights.components import Layout, Pairing, Piece

    Progress = Callable[[int, int], None]
    Measured = tuple[TensorDrift, PieceDrift]

AHEAD = 1 << 23
"""Elements a thread that are begun, and read from the disk, before they are waited for."""


def compare_checkpoints(
    base: Checkpoint, unlearned: Checkpoint, progress: Progress | None = None, threads: int = 1
) -> Comparison:
    """Drift of everything that two checkpoints share, and a list of everything that they do not.

    Args:
        base: the model before.
        unlearned: the model after.
        progress: called with (elements done, elements in all).
        threads: that measure; 0: one a core. The same numbers come of any number.
    """
    layouts, notes = _layouts(base, unlearned)
    settings = compare_settings(base, unlearned)
    pairing = pair(*layouts)
    own = OwnError()
    with Mapped(base) as files_a, Mapped(unlearned) as files_b:
        measured, grids = _measure_all(pairing.matched, (files_a, files_b), own, threads, progress)
        alignment = find_alignment(base, unlearned, suspects(grids, [row for row, _ in measured]))
        aligned = _align(measured, alignment, files_a, Pieces(unlearned))
    return Comparison(
        model_type=layouts[0].model_type,
        known_architecture=layouts[0].known and layouts[1].known,
        tensors=tuple(row for row, _ in measured),
        components=_components(measured),
        grid=_grid(measured),
        neurons=grids,
        only_in_base=_only(pairing.only_in_base, base),
        only_in_unlearned=_only(pairing.only_in_unlearned, unlearned),
        shape_mismatch=_mismatches(pairing),
        config_changes=settings.changes,
        config_spellings=settings.spellings,
        config_uncompared=settings.uncompared,
        ignored=tuple(sorted({*layouts[0].ignored, *layouts[1].ignored})),
        alignment=alignment.rows,
        aligned=tuple(row for (row, _), (stored, _) in zip(aligned, measured, strict=True) if row is not stored),
        aligned_components=_components(aligned) if alignment.moves else (),
        notes=tuple(
            dict.fromkeys((*base.notes, *unlearned.notes, *notes, *layouts[0].notes, *layouts[1].notes, *own.notes()))
        ),
    )


def _measure_all(
    pairs: Sequence[tuple[Piece, Piece]],
    files: tuple[Mapped, Mapped],
    own: OwnError,
    threads: int,
    progress: Progress | None,
) -> tuple[list[Measured], Mapping[str, NeuronGrid]]:
    """The drift of every pair of pieces, and that of neurons; `own` learns what is of their formats alone."""
    measured: list[Measured] = []
    neurons = _NeuronRows()
    total, done = sum(math.prod(a.shape) for a, _ in pairs), 0
    with Crew(threads) as crew:
        for layer, group in itertools.groupby(_begin_ahead(pairs, *files, crew), key=lambda turn: turn[0].layer):
            found = []
            for a, b, result in group:
                found.append((*_describe(a, b, *files, result()), a))
                own.add(a, b, *files, found[-1][1])
                done += math.prod(a.shape)
                if progress is not None:
                    progress(done, total)
            measured += [(row, piece_drift) for row, piece_drift, _ in found]
            if layer is not None:
                neurons.add(layer, found)
    return measured, neurons.grids()


def _begin_ahead(
    pairs: Sequence[tuple[Piece, Piece]], base: Mapped, unlearned: Mapped, crew: Crew
) -> Iterator[tuple[Piece, Piece, Callable[[], PieceDrift]]]:
    """Pairs one after the other, each with its result; the next ones have been begun, so that nobody waits."""
    begun: deque[tuple[Piece, Piece, Callable[[], PieceDrift]]] = deque()
    ahead = 0
    for a, b in pairs:
        begun.append((a, b, _begin(a, b, base, unlearned, crew)))
        ahead += math.prod(a.shape)
        while ahead - math.prod(begun[0][0].shape) >= AHEAD * crew.threads:
            ahead -= math.prod(begun[0][0].shape)
            yield begun.popleft()
    yield from begun


def matched_pieces(base: Checkpoint, unlearned: Checkpoint) -> tuple[tuple[Piece, Piece], ...]:
    """Everything that two checkpoints share, piece by piece."""
    return pair(*_layouts(base, unlearned)[0]).matched


def suspect_layers(base: Checkpoint, unlearned: Checkpoint) -> set[int]:
    """Layers whose neurons or heads may stand in another order or scale; their matrices are read once."""
    layouts, _ = _layouts(base, unlearned)
    neurons, rows = _NeuronRows(), list[TensorDrift]()
    inside = [(a, b) for a, b in pair(*layouts).matched if a.layer is not None and a.component in UNITS]
    with Mapped(base) as files_a, Mapped(unlearned) as files_b:
        for layer, group in itertools.groupby(inside, key=lambda matched: matched[0].layer):
            found = [_measure(a, b, files_a, files_b) for a, b in group]
            rows += [row for row, _, _ in found]
            neurons.add(int(layer or 0), found)
            files_a.forget()
            files_b.forget()
    return suspects(neurons.grids(), rows)


def _align(measured: Sequence[Measured], alignment: Alignment, base: Mapped, unlearned: Pieces) -> list[Measured]:
    """Measured pieces, with those of an alignment measured in the base's order and scale."""
    moves = {move.base.name: move for move in alignment.moves}
    ours = Pieces(base.checkpoint)
    found: list[Measured] = []
    for row, piece_drift in measured:
        move = moves.get(row.name)
        if move is None:
            found.append((row, piece_drift))
            continue
        view, values = _view(base, move.base), move_piece(move, ours, unlearned)
        if view.shape != values.shape:
            view = view.reshape(values.shape)
        again = drift(view, base.checkpoint.dtype(move.base.tensor), values, "F32", move.base.neuron_axis)
        found.append((replace(row, drift=_numbers([again], row.parameters)), again))
        ours.files.forget()
        unlearned.files.forget()
    return found


def _layouts(base: Checkpoint, unlearned: Checkpoint) -> tuple[tuple[Layout, Layout], list[str]]:
    """Each checkpoint by its own config; one that has none is read by the other's, and that is said."""
    notes = []
    for one, other in ((base, unlearned), (unlearned, base)):
        if not one.config and other.config:
            notes.append(f"{one.location}: has no config.json; its tensors were named by that of {other.location}")
    config_a, config_b = base.config or unlearned.config, unlearned.config or base.config
    if config_a.get("model_type") != config_b.get("model_type"):
        notes.append(f"model types differ: {config_a.get('model_type')} and {config_b.get('model_type')}")
    found = layout(base.shapes(), config_a), layout(unlearned.shapes(), config_b)
    layouts, shared = split_vocabulary(found, Sides(base, unlearned))
    return layouts, [*notes, *shared]


def _begin(a: Piece, b: Piece, files_a: Mapped, files_b: Mapped, crew: Crew) -> Callable[[], PieceDrift]:
    """Begin to measure a pair of pieces; calling what is returned waits for it."""
    view_a, view_b = _view(files_a, a), _view(files_b, b)
    if view_a.shape != view_b.shape:
        # Cut in two ways, as of two configs: the pieces agree in shape, their views do not.
        view_a, view_b = view_a.reshape(a.shape), view_b.reshape(b.shape)
    dtypes = files_a.checkpoint.dtype(a.tensor), files_b.checkpoint.dtype(b.tensor)
    return begin_drift(view_a, dtypes[0], view_b, dtypes[1], a.neuron_axis, crew, (files_a, files_b))


def _measure(a: Piece, b: Piece, files_a: Mapped, files_b: Mapped) -> tuple[TensorDrift, PieceDrift, Piece]:
    found = _begin(a, b, files_a, files_b, Crew())()
    return (*_describe(a, b, files_a, files_b, found), a)


def _describe(a: Piece, b: Piece, files_a: Mapped, files_b: Mapped, found: PieceDrift) -> Measured:
    """The row that stands in the report for a pair of pieces."""
    size = math.prod(a.shape)
    row = TensorDrift(
        name=a.name,
        component=a.component,
        layer=a.layer,
        shape=a.shape,
        dtype_base=files_a.checkpoint.kind(a.tensor),
        dtype_unlearned=files_b.checkpoint.kind(b.tensor),
        parameters=size,
        tied=a.tied and b.tied,
        drift=_numbers([found], size),
    )
    return row, found


def _view(files: Mapped, piece: Piece) -> AnyArray:
    """A piece as a view, never a copy; interleaved heads keep their extra axes, which only neurons need gone.

    Of a tensor that is computed no more is computed than what is looked at.
    """
    raw = files.array(piece.tensor)
    if piece.cut is None:
        return raw  # type: ignore[return-value]  # Rows has what drift asks of an array.
    view = raw.cut(piece.cut) if isinstance(raw, Rows) else piece.cut.view(raw)
    return view if piece.neuron_axis is None else view.reshape(piece.shape)


def _numbers(found: Sequence[PieceDrift], size: int) -> Drift:
    """Drift of several pieces as one long vector."""
    moments = concatenate(piece.moments for piece in found).total()
    changed = sum(piece.changed for piece in found)
    identical = all(piece.identical for piece in found)
    finite = not any(piece.nonfinite_base or piece.nonfinite_unlearned for piece in found)
    # Equal values are equal even where they are NaN: no arithmetic is asked.
    one_minus_cosine = 0.0 if identical else float(moments.one_minus_cosine()[0])
    return Drift(
        cosine=1.0 - one_minus_cosine,
        one_minus_cosine=one_minus_cosine,
        relative_l2=0.0 if identical else float(moments.relative_l2()[0]),
        max_abs_diff=0.0 if identical else (max(piece.max_abs_diff for piece in found) if finite else float("nan")),
        norm_base=float(np.sqrt(moments.a2[0])),
        norm_unlearned=float(np.sqrt(moments.b2[0])),
        changed=changed,
        changed_fraction=changed / size if size else 0.0,
        nonfinite_base=sum(piece.nonfinite_base for piece in found),
        nonfinite_unlearned=sum(piece.nonfinite_unlearned for piece in found),
        identical=identical,
    )


def _components(measured: Sequence[Measured]) -> tuple[ComponentDrift, ...]:
    groups: dict[str, list[Measured]] = defaultdict(list)
    for item in measured:
        groups[item[0].component].append(item)
    result = []
    for component in (name for name in COMPONENTS if name in groups):
        rows = [row for row, _ in groups[component]]
        cosines = np.array([row.drift.cosine for row in rows])
        cosines = cosines[~np.isnan(cosines)]
        size = sum(row.parameters for row in rows)
        result.append(
            ComponentDrift(
                component=component,
                tensors=len(rows),
                parameters=size,
                cosine_mean=float(cosines.mean()) if cosines.size else float("nan"),
                cosine_min=float(cosines.min()) if cosines.size else float("nan"),
                tied=all(row.tied for row in rows),
                drift=_numbers([piece for _, piece in groups[component]], size),
            )
        )
    return tuple(result)


def _grid(measured: Sequence[Measured]) -> Grid:
    cells: dict[tuple[str, int], list[Measured]] = defaultdict(list)
    for item in measured:
        if item[0].layer is not None:
            cells[item[0].component, item[0].layer].append(item)
    components = tuple(name for name in COMPONENTS if any(name == key[0] for key in cells))
    layers = sorted({layer for _, layer in cells})
    values = {name: np.full((len(components), len(layers)), np.nan) for name in GRID_FIELDS}
    for (component, layer), items in cells.items():
        numbers = _numbers([piece for _, piece in items], sum(row.parameters for row, _ in items))
        for name in GRID_FIELDS:
            values[name][components.index(component), layers.index(layer)] = getattr(numbers, name)
    return Grid(components, np.array(layers, np.int64), **values)


GRID_FIELDS = ("cosine", "one_minus_cosine", "relative_l2", "changed_fraction")


class _NeuronRows:
    """Collects, for each component with neurons, one float32 row a layer."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[int, tuple[Float64, Float64]]] = defaultdict(dict)

    def add(self, layer: int, found: Iterable[tuple[TensorDrift, PieceDrift, Piece]]) -> None:
        parts: dict[str, dict[int, list[tuple[int, Moments | None]]]] = defaultdict(lambda: defaultdict(list))
        for _, piece_drift, piece in found:
            if piece.neuron_axis is not None:
                size = piece.shape[piece.neuron_axis]
                parts[piece.component][piece.first_neuron].append((size, piece_drift.neurons))
        for component, by_first in parts.items():
            self._rows[component][layer] = _row(by_first)

    def grids(self) -> Mapping[str, NeuronGrid]:
        """The collected rows as grids, NaN where a layer has fewer neurons."""
        return {name: _neuron_grid(self._rows[name]) for name in COMPONENTS if name in self._rows}


def _row(by_first: Mapping[int, list[tuple[int, Moments | None]]]) -> tuple[Float64, Float64]:
    """One layer's neurons: parts that start at the same neuron (gate and up) are one vector a neuron."""
    width = max(first + size for first, parts in by_first.items() for size, _ in parts)
    one_minus_cosine, relative_l2 = np.full(width, np.nan), np.full(width, np.nan)
    for first, parts in by_first.items():
        known = [moments for _, moments in parts if moments is not None]
        if len(known) == len(parts) and len({size for size, _ in parts}) == 1:
            merged = together(known)
            where = slice(first, first + parts[0][0])
            one_minus_cosine[where], relative_l2[where] = merged.one_minus_cosine(), merged.relative_l2()
    return one_minus_cosine, relative_l2


def _neuron_grid(rows: Mapping[int, tuple[Float64, Float64]]) -> NeuronGrid:
    width = max(len(row[0]) for row in rows.values())
    values = np.full((2, len(rows), width), np.nan, np.float32)
    for index, layer in enumerate(sorted(rows)):
        for which in (0, 1):
            values[which, index, : len(rows[layer][which])] = rows[layer][which]
    return NeuronGrid(np.array(sorted(rows), np.int64), values[0], values[1])


def _only(pieces: Iterable[Piece], checkpoint: Checkpoint) -> tuple[TensorInfo, ...]:
    return tuple(
        TensorInfo(piece.name, piece.component, piece.shape, checkpoint.kind(piece.tensor)) for piece in pieces
    )


def _mismatches(pairing: Pairing) -> tuple[ShapeMismatch, ...]:
    return tuple(ShapeMismatch(a.name, a.component, a.shape, b.shape) for a, b in pairing.shape_mismatch)
