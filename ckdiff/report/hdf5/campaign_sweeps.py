"""The sweeps of a campaign, and their averages, as groups of its report: `write_runs`, `write_averages`, and back.

    <direction>/<mode>/<variant>    of `write_runs`: pair x concept x layer; of `write_averages`: group x layer

The averages of one sweep may lie on different window centres: `measured` says which are a group's own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.errors import ReportError
from ckdiff.report.hdf5.campaign_axes import floats, grid, name_scale, read_floats, read_names, read_shaped
from ckdiff.report.hdf5.columns import FLAG, Array, Node, scale
from ckdiff.report.hdf5.probe import RUN_NAME
from ckdiff.report.schema.campaign import AverageRun, CampaignRun
from ckdiff.report.schema.probe import CURVE_PARTS, SCORES, Curve
from ckdiff.report.words.campaign import flat_sweep
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckdiff.report.schema.campaign import Campaign
    from ckdiff.shapes import Int64

    Name = tuple[str, str, str]


PARTS = tuple(CURVE_PARTS.values())


CURVES = tuple(score + end for score in SCORES for end in CURVE_PARTS)


TOP1 = ("top1", "top1_low", "top1_high")


AVERAGE_COUNTS = ("window", "pairs", "concepts")


SWEEP = ("pair", "concept", "layer")


def write_runs(campaign: Campaign) -> Node:
    """The sweeps of a campaign as groups inside groups: direction, mode, variant.

    Raises:
        ReportError: two of one name, or a name that no group can have.
    """
    root = Node()
    for order, run in enumerate(campaign.runs):
        node, values = grid(campaign), flat_sweep(run)
        node.attributes |= {"window": run.window, "order": order}
        node.arrays["layer"] = _layer_scale(run.layers)
        for name in (*CURVES, "top1"):
            node.arrays[name] = floats(values[name], SWEEP)
        _put(root, (run.direction, run.mode, run.variant), node)
    return root


def read_runs(root: Node, shape: tuple[int, ...]) -> tuple[CampaignRun, ...]:
    """The sweeps that groups hold, of so many pairs and concepts, in the order in which they were written."""
    found = []
    for name, node in _leaves(root):
        layers = _read_layers(node)
        whole = (*shape, len(layers))
        raw, centred, kl = (_curve(node, score, whole) for score in SCORES)
        window, top1 = int(node.attributes["window"]), read_floats(node, "top1", whole)
        run = CampaignRun(*name, window, layers, raw, centred, kl, top1)
        found.append((int(node.attributes["order"]), run))
    return tuple(run for _, run in sorted(found, key=lambda row: row[0]))


def write_averages(averages: Sequence[AverageRun]) -> Node:
    """Averages in the same way, those of one sweep together.

    Raises:
        ReportError: as for sweeps; or two of one group, or window centres out of order.
    """
    named: dict[Name, list[tuple[int, AverageRun]]] = {}
    for order, run in enumerate(averages):
        named.setdefault((run.direction, run.mode, run.variant), []).append((order, run))
    root = Node()
    for name, rows in named.items():
        _put(root, name, _write_average(*zip(*rows, strict=True)))
    return root


def _write_average(order: Sequence[int], runs: Sequence[AverageRun]) -> Node:
    """One sweep of several groups, on the window centres of all of them."""
    groups = [run.group for run in runs]
    if len({*groups}) < len(groups) or any((np.diff(run.layers) <= 0).any() for run in runs):
        raise ReportError("averages of a sweep are stored once a group, with window centres in ascending order")
    layers = np.unique(np.concatenate([run.layers for run in runs]))
    columns, shape = [np.searchsorted(layers, run.layers) for run in runs], (len(runs), len(layers))
    node = Node(arrays={"group": name_scale("group", groups), "layer": _layer_scale(layers)})
    node.arrays["order"] = Array(np.array(order, dtype="i8"), ("group",))
    for name in AVERAGE_COUNTS:
        node.arrays[name] = Array(np.array([getattr(run, name) for run in runs], dtype="i8"), ("group",))
    node.arrays["top1_unrestored"] = floats(np.array([run.top1_unrestored for run in runs]), ("group",))
    measured, flat = np.zeros(shape, dtype="u1"), list(map(flat_sweep, runs))
    for row, own in enumerate(columns):
        measured[row, own] = 1
    node.arrays["measured"] = Array(measured, ("group", "layer"), FLAG.comment)
    for name in (*CURVES, *TOP1):
        values = np.full(shape, np.nan)
        for row, own in enumerate(columns):
            values[row, own] = flat[row][name]
        node.arrays[name] = floats(values, ("group", "layer"))
    return node


def read_averages(root: Node) -> tuple[AverageRun, ...]:
    """The averages that groups hold, in the order in which they were written."""
    found = [row for name, node in _leaves(root) for row in _read_average(name, node)]
    return tuple(run for _, run in sorted(found, key=lambda row: row[0]))


def _read_average(name: Name, node: Node) -> Iterator[tuple[int, AverageRun]]:
    """The averages of one sweep, each with its place among all of them."""
    groups, layers = read_names(node, "group"), _read_layers(node)
    shape = len(groups), len(layers)
    measured = read_shaped(node, "measured", shape) > 0
    counts = {key: read_shaped(node, key, shape[:1]) for key in ("order", *AVERAGE_COUNTS)}
    unrestored = read_floats(node, "top1_unrestored", shape[:1])
    curves = {score: _curve(node, score, shape) for score in SCORES}
    shares = {key: read_floats(node, key, shape) for key in TOP1}
    for row, group in enumerate(groups):
        own = measured[row]
        values: dict[str, Any] = {key: int(counts[key][row]) for key in AVERAGE_COUNTS}
        values |= {key: Curve(*(getattr(curve, part)[row, own] for part in PARTS)) for key, curve in curves.items()}
        values |= {key: figures[row, own] for key, figures in shares.items()}
        run = AverageRun(group, *name, layers=layers[own], top1_unrestored=float(unrestored[row]), **values)
        yield int(counts["order"][row]), run


def _put(root: Node, name: Name, node: Node) -> None:
    """A sweep in its place."""
    for part in name:
        if not RUN_NAME.fullmatch(part):
            raise ReportError(
                f"a run cannot be stored under the name '{printable(part)}'; use letters, digits and +-_."
            )
    direction, mode, variant = name
    variants = root.groups.setdefault(direction, Node()).groups.setdefault(mode, Node()).groups
    if variant in variants:
        raise ReportError(f"two runs are called {'/'.join(name)}; a campaign holds one of each")
    variants[variant] = node


def _leaves(root: Node) -> Iterator[tuple[Name, Node]]:
    """Every sweep with its direction, mode and variant."""
    for direction, modes in root.groups.items():
        for mode, variants in modes.groups.items():
            for variant, node in variants.groups.items():
                yield (direction, mode, variant), node


def _layer_scale(layers: Int64) -> Array:
    return scale("layer", layers)._replace(comment="window centre; -1: the whole model")


def _read_layers(node: Node) -> Int64:
    return read_shaped(node, "layer", node.arrays["layer"].values.shape[:1])


def _curve(node: Node, score: str, shape: tuple[int, ...]) -> Curve:
    return Curve(**{part: read_floats(node, score + end, shape) for end, part in CURVE_PARTS.items()})
