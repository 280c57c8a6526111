"""Coarser weights: `quantise(weight, "int4 by row")` gives W' in the weight's dtype; `outcomes` runs models with them.

int8, int4   code = round(w / s), value = code s, with s = largest magnitude / 127 (7) of a row, or of 64 values of one
NF4          value = table[nearest code] * largest magnitude of 64 values of the flat matrix
Q8_0, Q4_0   of GGUF: 32 values of a row with a float16 scale; Q4_0's takes the largest value, with its sign, to code -8

A row is what makes one output. What unlearning moved by less than half a step of a code is undone. Sources: Zhang et
al. 2024, arXiv:2410.16454; Dettmers et al. 2023, arXiv:2305.14314, appendix E (the table of NF4); the package gguf.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from ckdiff.attacks.altering import altering, matrices, unlike
from ckdiff.attacks.case import Outcome
from ckdiff.progress import Stopped
from ckdiff.report.schema.attack import CodeShare
from ckdiff.weights.components import layout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from ckdiff.attacks.case import Case
    from ckdiff.probes.live.model import LiveModel
    from ckdiff.progress import Listener
    from ckdiff.report.schema.attack import Attacked
    from ckdiff.shapes import AnyArray

    Cutter = Callable[[AnyArray], AnyArray]

GROUP = 64
BLOCK = 32
"""Values of a block of GGUF."""
LARGEST = {"int8": 127, "int4": 7}
NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
SETTINGS = (
    "int8 by row", "int8 in groups of 64", "int4 by row", "int4 in groups of 64", "NF4 in blocks of 64", "Q8_0 of GGUF",
    "Q4_0 of GGUF",
)  # fmt: skip


def outcomes(case: Case, live: LiveModel, side: Attacked) -> Iterator[Outcome]:
    """One outcome a way to quantise."""
    names, turned = matrices(live), turned_matrices(live)
    for number, setting in enumerate(SETTINGS):
        case.listener.progress(f"quantising the {side}", number, len(SETTINGS), setting)
        counts = [0, 0]

        def change(name: str, value: Tensor, setting: str = setting) -> Tensor:
            return quantise(value, setting, name in turned)

        with case.loaded(live, altering(change, names, counts)):
            reading = case.read(live, side, matching=side != "base")
        yield Outcome(setting, reading, applied=counts[0] / max(1, counts[1]))
    case.listener.progress(f"quantising the {side}", len(SETTINGS), len(SETTINGS), "")


def code_shares(base: LiveModel, unlearned: LiveModel, listener: Listener) -> tuple[CodeShare, ...]:
    """By setting and component: the share of elements that differ, and of those whose code does; "all" comes first.

    Raises:
        Stopped: somebody asked for it.
    """
    turned, names = turned_matrices(base), sorted(matrices(base) & matrices(unlearned))
    cuts = cut_matrices(base)
    sums: dict[tuple[str, str], tuple[int, int, int]] = {}
    for number, name in enumerate(names):
        listener.progress("codes", number, len(names), "matrices")
        if listener.stop():
            raise Stopped
        values = base.read(name), unlearned.read(name)
        if values[0].shape != values[1].shape:
            continue
        differs = unlike(*values)
        for setting in SETTINGS:
            marks = _marks(values, differs, setting, name in turned)
            for component, cut in cuts[name]:
                size, changed, other = cut(differs).size, np.count_nonzero(cut(differs)), np.count_nonzero(cut(marks))
                for key in (setting, "all"), (setting, component):
                    before = sums.get(key, (0, 0, 0))
                    sums[key] = before[0] + size, before[1] + int(changed), before[2] + int(other)
    listener.progress("codes", len(names), len(names), "matrices")
    order = sorted(sums, key=lambda key: (SETTINGS.index(key[0]), key[1] != "all", key[1]))
    return tuple(
        CodeShare(*key, size, changed / size, marks / size) for key in order for size, changed, marks in [sums[key]]
    )


def _marks(values: tuple[Tensor, Tensor], differs: AnyArray, setting: str, turned: bool) -> AnyArray:
    """Whether the code of each element differs; where nothing does, nothing is rounded."""
    if not differs.any():
        return differs
    return unlike(codes(values[0], setting, turned), codes(values[1], setting, turned))


def cut_matrices(live: LiveModel) -> dict[str, list[tuple[str, Cutter]]]:
    """By name of a matrix its components, each with what cuts it out: fused ones part by part, as a comparison does."""
    kinds, names = live.components(), matrices(live)
    shapes = {name: tuple(value.shape) for name, value in live.parameters()}
    found: dict[str, list[tuple[str, Cutter]]] = {name: [] for name in names}
    for piece in layout(shapes, live.checkpoint.config).pieces:
        if piece.tensor in names and not piece.tied and piece.component != "other":
            found[piece.tensor].append((piece.component, piece.cut.view if piece.cut else _whole))
    return {name: parts or [(kinds[name], _whole)] for name, parts in found.items()}


def _whole(array: AnyArray) -> AnyArray:
    return array


def quantise(weight: Tensor, setting: str, turned: bool = False) -> Tensor:
    """A matrix after it was rounded to codes and back, in its own dtype.

    Args:
        weight: [output, input], or several of them stacked.
        setting: one of `SETTINGS`.
        turned: it is stored as [input, output].
    """
    marks, scale, rows = _coded(weight, setting, turned)
    kind = setting.partition(" ")[0]
    table = torch.tensor(NF4, device=marks.device) if kind == "NF4" else None
    steps = marks if table is None else table.index_select(0, marks.flatten().int()).reshape(marks.shape)
    return _as_stored(steps.mul_(scale), rows, turned).to(weight.dtype).contiguous()


def codes(weight: Tensor, setting: str, turned: bool = False) -> Tensor:
    """The code of each element of a matrix, in its place; see `quantise`."""
    marks, _, rows = _coded(weight, setting, turned)
    return _as_stored(marks, rows, turned).to(torch.int8)


def _coded(weight: Tensor, setting: str, turned: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Codes of a matrix and their scales [row, group, value], and the matrix as outputs by inputs."""
    kind, _, how = setting.partition(" ")
    rows = (weight.transpose(-1, -2) if turned else weight).to(torch.float32)
    whole = rows.reshape(-1, rows.shape[-1])
    if kind == "NF4":
        return *_nearest(_grouped(whole.reshape(1, -1), GROUP)), rows
    if how == "of GGUF":
        return *_BLOCKS[kind](_grouped(whole, BLOCK)), rows
    return *_integers(_grouped(whole, whole.shape[1] if how == "by row" else GROUP), LARGEST[kind]), rows


def _as_stored(parts: Tensor, rows: Tensor, turned: bool) -> Tensor:
    """Values [row, group, value] where the elements of a matrix are stored; what filled a group up is left out."""
    # The flat matrix of NF4 is one row.
    width = rows.numel() if len(parts) == 1 else rows.shape[-1]
    found = parts.reshape(len(parts), -1)[:, :width].reshape(rows.shape)
    return found.transpose(-1, -2) if turned else found


def _integers(parts: Tensor, largest: int) -> tuple[Tensor, Tensor]:
    """Codes and scales; the last group of a row may be shorter. All-zero groups stay zero."""
    scale = parts.abs().amax(-1, keepdim=True) / largest
    return (parts / torch.where(scale > 0, scale, 1.0)).round_().clamp_(-largest, largest), scale


def _nearest(parts: Tensor) -> tuple[Tensor, Tensor]:
    """Codes by the table of NF4, and scales."""
    table = np.array(NF4, np.float32)
    scale = parts.abs().amax(-1, keepdim=True)
    inner = (parts / torch.where(scale > 0, scale, 1.0)).cpu().numpy()
    marks = np.zeros(inner.shape, np.int8)
    # NumPy compares five times as fast as torch.
    for edge in (table[1:] + table[:-1]) / 2:
        marks += inner > edge
    return torch.from_numpy(marks).to(parts.device), scale


def _eight(parts: Tensor) -> tuple[Tensor, Tensor]:
    """Codes and scales of Q8_0: halves are rounded away from nought, and the scale is stored in float16."""
    scale = parts.abs().amax(-1, keepdim=True) / LARGEST["int8"]
    inner = parts * torch.where(scale > 0, 1 / scale, 0.0)
    size = inner.abs()
    whole = size.floor()
    # What is beyond a whole number, and twice that, is exact.
    half = size.sub_(whole).mul_(2).floor_()
    return whole.add_(half).mul_(inner.sign_()), scale.half().float()


def _four(parts: Tensor) -> tuple[Tensor, Tensor]:
    """Codes and scales of Q4_0: codes from -8 to 7, of which the largest value of a block has -8."""
    scale = parts.gather(-1, parts.abs().argmax(-1, keepdim=True)) / -8
    inner = parts * torch.where(scale != 0, 1 / scale, 0.0)
    return inner.add_(8.5).floor_().clamp_(0, 15).sub_(8), scale.half().float()


_BLOCKS = {"Q8_0": _eight, "Q4_0": _four}


def _grouped(rows: Tensor, group: int) -> Tensor:
    """[row, group, value]; zeros, which change no magnitude, fill the last group."""
    missing = -rows.shape[1] % group
    filled = torch.nn.functional.pad(rows, (0, missing)) if missing else rows
    return filled.reshape(len(rows), -1, group)


def turned_matrices(live: LiveModel) -> frozenset[str]:
    """Names of the matrices that are stored as [input, output], as GPT-2's are."""
    return frozenset(
        f"{name}.weight" for name, module in live.model.named_modules() if type(module).__name__ == "Conv1D"
    )
