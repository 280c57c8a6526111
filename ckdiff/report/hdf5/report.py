"""The report as a tree of plain arrays, which `hdf5.py` writes and reads: `to_tree(report)`, `from_tree(root)`.

A report becomes groups with attributes and NumPy arrays on named dimensions. A new section of the report is a pair of
functions in `SECTIONS`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ckdiff.report.hdf5.behaviour import read_behaviour, write_behaviour
from ckdiff.report.hdf5.columns import (
    COUNT,
    OPTIONAL_TEXT,
    TEXT,
    Node,
    Table,
    read_table,
    write_table,
)
from ckdiff.report.hdf5.comparison import _read_comparison, _write_comparison
from ckdiff.report.hdf5.probe import read_probe, write_probe
from ckdiff.report.hdf5.verdict import read_verdict, write_verdict
from ckdiff.report.schema.report import FORMAT, CheckpointRecord, Provenance, Report, ShardRecord

if TYPE_CHECKING:
    from collections.abc import Callable


SHARDS = Table(ShardRecord, "shard", "name", {"name": TEXT, "bytes": COUNT, "sha256": OPTIONAL_TEXT})


SECTIONS: dict[str, tuple[Callable[[Any], Node], Callable[[Node], Any]]] = {
    "compare": (_write_comparison, _read_comparison),
    "probe": (write_probe, read_probe),
    "behaviour": (write_behaviour, read_behaviour),
    "verdict": (write_verdict, read_verdict),
}
"""Field of the report, which is also the name of its group: how it is written and read."""


def _write_checkpoint(record: CheckpointRecord) -> Node:
    node = write_table(SHARDS, record.shards)
    for name in ("location", "revision", "digest"):
        value = getattr(record, name)
        if value is not None:
            node.attributes[name] = value
    return node


def _read_checkpoint(node: Node) -> CheckpointRecord:
    shards = read_table(SHARDS, node)
    revision, digest = (
        str(node.attributes[name]) if name in node.attributes else None for name in ("revision", "digest")
    )
    return CheckpointRecord(str(node.attributes["location"]), revision, digest, shards)


def to_tree(report: Report) -> Node:
    """A report as a tree of arrays.

    Raises:
        ReportError: two runs of its probe, or two of its sets of answers, have one name, or one has a name that no
            group can have.
    """
    versions = json.dumps(dict(report.versions), sort_keys=True)
    root = Node(
        {
            "format": FORMAT,
            "schema_version": report.schema_version,
            "versions": versions,
            "complete": int(report.complete),
        }
    )
    sides = {side: _write_checkpoint(getattr(report.provenance, side)) for side in ("base", "unlearned")}
    root.groups["provenance"] = Node(groups=sides)
    for name, (write, _) in SECTIONS.items():
        if getattr(report, name) is not None:
            root.groups[name] = write(getattr(report, name))
    return root


def from_tree(root: Node) -> Report:
    """The report that a tree holds.

    Raises:
        KeyError, ValueError, TypeError, AttributeError: it does not hold one.
    """
    sides = root.groups["provenance"].groups
    sections = {name: read(root.groups[name]) for name, (_, read) in SECTIONS.items() if name in root.groups}
    return Report(
        provenance=Provenance(_read_checkpoint(sides["base"]), _read_checkpoint(sides["unlearned"])),
        versions=json.loads(str(root.attributes["versions"])),
        complete=bool(root.attributes["complete"]),
        schema_version=int(root.attributes["schema_version"]),
        **sections,
    )
