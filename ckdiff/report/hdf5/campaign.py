"""A campaign as a tree of plain arrays, which `hdf5.py` writes and reads: `to_tree(campaign)`, `from_tree(root)`.

    attributes                               format, schema_version, versions, complete, name, outcome
    plan                                     the plan's text, one row (an attribute holds at most 64 KB)
    pairs, jobs, notes                       a row each
    verdict, measures                        pair x concept
    drift                                    pair x component; left out where nothing was compared
    probe/<direction>/<mode>/<variant>       pair x concept x layer
    averages/<direction>/<mode>/<variant>    group x layer
    means                                    group x measure

Where not every place of a grid is taken, `asked` or `measured` says which are, and `order` in which order the records
came; elsewhere there is NaN, 0 or an empty text.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.errors import ReportError
from ckdiff.report.hdf5.campaign_axes import (
    floats,
    grid,
    in_order,
    name_scale,
    one_of,
    pair_scale,
    placed,
    read_floats,
    read_names,
    read_shaped,
)
from ckdiff.report.hdf5.campaign_sweeps import read_averages, read_runs, write_averages, write_runs
from ckdiff.report.hdf5.columns import (
    FLAG,
    NOTES,
    TEXT,
    Array,
    Column,
    Line,
    Node,
    Table,
    encoded,
    read_table,
    write_table,
)
from ckdiff.report.schema.campaign import (
    DRIFTS,
    FORMAT,
    JOB_STATES,
    MEASURES,
    Campaign,
    Cell,
    CellMeasure,
    GroupMean,
    JobRecord,
    PairDrift,
    PairRecord,
)
from ckdiff.report.schema.verdict import LABELS, OUTCOMES

if TYPE_CHECKING:
    from collections.abc import Sequence


PLAN = Table(Line, "plan", "", {"text": TEXT})


PAIRS = Table(
    PairRecord,
    "pair",
    "name",
    {
        "name": TEXT,
        "group": TEXT,
        "required": FLAG,
        **dict.fromkeys(("model_type", "base", "unlearned", "base_digest", "unlearned_digest"), TEXT),
    },
)


STATE = Column("S", encoded, lambda raw: one_of(raw.decode(), JOB_STATES))


JOBS = Table(
    JobRecord,
    "job",
    "",
    {
        **dict.fromkeys(("pair", "concept", "run"), TEXT),
        "required": FLAG,
        "state": STATE,
        **dict.fromkeys(("reason", "key", "sha256"), TEXT),
    },
)


CELL_TEXTS = ("label", "verdict", "component", "layers", "gate", "checks")


ENDS = {"": "value", "_low": "low", "_high": "high"}
"""What is added to the name of a measure: the part of its `CellMeasure` that stands under that name."""


GRID = ("pair", "concept")


def to_tree(campaign: Campaign) -> Node:
    """A campaign as a tree of arrays.

    Raises:
        ReportError: two records stand at one place, one stands at none, or a name can name no group or array.
    """
    versions = json.dumps(dict(campaign.versions), sort_keys=True)
    root = Node(
        {
            "format": FORMAT,
            "schema_version": campaign.schema_version,
            "versions": versions,
            "complete": int(campaign.complete),
            "name": campaign.name,
            "outcome": campaign.outcome,
        }
    )
    root.groups["plan"] = write_table(PLAN, [Line(campaign.plan)])
    root.groups["pairs"] = write_table(PAIRS, campaign.pairs)
    root.groups["jobs"] = write_table(JOBS, campaign.jobs)
    root.groups["verdict"] = _write_cells(campaign)
    root.groups["measures"] = _write_measures(campaign)
    if campaign.drift is not None:
        root.groups["drift"] = _write_drift(campaign, campaign.drift)
    root.groups["probe"] = write_runs(campaign)
    root.groups["averages"] = write_averages(campaign.averages)
    root.groups["means"] = _write_means(campaign.means)
    root.groups["notes"] = write_table(NOTES, map(Line, campaign.notes))
    return root


def from_tree(root: Node) -> Campaign:
    """The campaign that a tree holds.

    Raises:
        KeyError, ValueError, TypeError, AttributeError: it does not hold one.
    """
    groups = root.groups
    pairs = read_table(PAIRS, groups["pairs"])
    concepts = read_names(groups["verdict"], "concept")
    shape = len(pairs), len(concepts)
    (plan,) = read_table(PLAN, groups["plan"])
    return Campaign(
        name=str(root.attributes["name"]),
        plan=plan.text,
        pairs=pairs,
        concepts=concepts,
        jobs=read_table(JOBS, groups["jobs"]),
        cells=_read_cells(groups["verdict"], [pair.name for pair in pairs], concepts),
        drift=_read_drift(groups["drift"], len(pairs)) if "drift" in groups else None,
        measures=_read_measures(groups["measures"], shape),
        runs=read_runs(groups["probe"], shape),
        averages=read_averages(groups["averages"]),
        means=_read_means(groups["means"]),
        outcome=one_of(str(root.attributes["outcome"]), ("", *OUTCOMES)),
        complete=bool(root.attributes["complete"]),
        notes=tuple(line.text for line in read_table(NOTES, groups["notes"])),
        versions=json.loads(str(root.attributes["versions"])),
        schema_version=int(root.attributes["schema_version"]),
    )


def _write_cells(campaign: Campaign) -> Node:
    node, rows = grid(campaign), [(cell.pair, cell.concept) for cell in campaign.cells]
    order = placed(rows, [pair.name for pair in campaign.pairs], campaign.concepts, "a pair and concept")
    cells = [campaign.cells[place] if place >= 0 else None for place in order.ravel()]
    node.arrays["asked"] = Array((order >= 0).astype("u1"), GRID, FLAG.comment)
    node.arrays["order"] = Array(order, GRID, "place in the plan; -1: not asked")
    for name in CELL_TEXTS:
        words = [b"" if cell is None else encoded(getattr(cell, name)) for cell in cells]
        node.arrays[name] = Array(np.array(words, dtype="S").reshape(order.shape), GRID)
    counts = [0 if cell is None else cell.questions for cell in cells]
    node.arrays["questions"] = Array(np.array(counts, dtype="i8").reshape(order.shape), GRID)
    return node


def _read_cells(node: Node, pairs: Sequence[str], concepts: Sequence[str]) -> tuple[Cell, ...]:
    shape = len(pairs), len(concepts)
    texts = {name: read_shaped(node, name, shape) for name in CELL_TEXTS}
    counts = read_shaped(node, "questions", shape)
    found = []
    for place in in_order(read_shaped(node, "order", shape)):
        words = {name: values[place].decode() for name, values in texts.items()}
        words["label"] = one_of(words["label"], ("", *LABELS))
        words["gate"] = one_of(words["gate"], ("", *OUTCOMES))
        found.append(Cell(pairs[place[0]], concepts[place[1]], **words, questions=int(counts[place])))
    return tuple(found)


def _write_measures(campaign: Campaign) -> Node:
    names = [measure.name for measure in campaign.measures]
    if len({*names}) < len(names) or not {*names} <= {*MEASURES}:
        raise ReportError(f"a campaign holds each of {', '.join(MEASURES)} once, and no other measure")
    node = grid(campaign)
    node.attributes["measures"] = json.dumps(names)
    for measure in campaign.measures:
        for end, part in ENDS.items():
            node.arrays[measure.name + end] = floats(getattr(measure, part), GRID)
    return node


def _read_measures(node: Node, shape: tuple[int, ...]) -> tuple[CellMeasure, ...]:
    return tuple(
        CellMeasure(name, **{part: read_floats(node, name + end, shape) for end, part in ENDS.items()})
        for name in json.loads(str(node.attributes["measures"]))
    )


def _write_drift(campaign: Campaign, drift: PairDrift) -> Node:
    node = Node(arrays={"pair": pair_scale(campaign), "component": name_scale("component", drift.components)})
    for name in DRIFTS:
        node.arrays[name] = floats(getattr(drift, name), ("pair", "component"))
    return node


def _read_drift(node: Node, pairs: int) -> PairDrift:
    components = read_names(node, "component")
    return PairDrift(components, **{name: read_floats(node, name, (pairs, len(components))) for name in DRIFTS})


def _write_means(means: Sequence[GroupMean]) -> Node:
    groups, measures = ([*dict.fromkeys(getattr(one, name) for one in means)] for name in ("group", "measure"))
    order = placed([(one.group, one.measure) for one in means], groups, measures, "a group and measure")
    axes = ("group", "measure")
    node = Node(arrays={"group": name_scale("group", groups), "measure": name_scale("measure", measures)})
    node.arrays["order"] = Array(order, axes, "place in the list of means; -1: not measured")
    for name in ENDS.values():
        column = np.array([*(getattr(one, name) for one in means), np.nan])
        node.arrays[name] = floats(column[order], axes)
    for name in ("pairs", "concepts"):
        column = np.array([*(getattr(one, name) for one in means), 0], dtype="i8")
        node.arrays[name] = Array(column[order], axes)
    return node


def _read_means(node: Node) -> tuple[GroupMean, ...]:
    groups, measures = read_names(node, "group"), read_names(node, "measure")
    shape = len(groups), len(measures)
    counts = {name: read_shaped(node, name, shape) for name in ("pairs", "concepts")}
    figures = {name: read_floats(node, name, shape) for name in ENDS.values()}
    found = []
    for place in in_order(read_shaped(node, "order", shape)):
        values: dict[str, Any] = {name: int(numbers[place]) for name, numbers in counts.items()}
        values |= {name: float(numbers[place]) for name, numbers in figures.items()}
        found.append(GroupMean(groups[place[0]], measures[place[1]], **values))
    return tuple(found)
