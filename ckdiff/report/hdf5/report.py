"""A report, of a pair or of a campaign, as the tree of groups that `file` writes: `to_tree(report)`, `from_tree(root)`.

The tree is that of the records, but for one attribute: `evidence` of a verdict says again, as JSON, what its groups
hold, for readers of attributes. A file in which the two differ is refused.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ckdiff.report.hdf5.codec import read_record, write_record
from ckdiff.report.hdf5.columns import Node, encoded
from ckdiff.report.schema import campaign, report
from ckdiff.report.schema.checks import check_record
from ckdiff.report.schema.layout import Figure, fields_of
from ckdiff.report.schema.verdict import Verdict
from ckdiff.untrusted import strict_json

if TYPE_CHECKING:
    from ckdiff.report.schema.campaign import Campaign
    from ckdiff.report.schema.report import Report


FORMATS: dict[str, type] = {report.FORMAT: report.Report, campaign.FORMAT: campaign.Campaign}
"""What a file can say that it is, and the record that it then holds."""


HEADER = ("schema_version", "versions", "complete")
"""The first attributes of every file, behind its format."""


def to_tree(found: Report | Campaign) -> Node:
    """A report as a tree of arrays.

    Raises:
        ReportError: two of its records have one name or stand at one place, or one has a name that no group can have.
    """
    root = write_record(replace(found, versions=dict(sorted(found.versions.items()))))
    (name,) = (name for name, kind in FORMATS.items() if isinstance(found, kind))
    root.attributes = {"format": name, **{key: root.attributes[key] for key in HEADER}, **root.attributes}
    verdict = getattr(found, "verdict", None)
    if verdict is not None:
        node = root.groups["verdict"]
        first = {key: node.attributes[key] for key in ("label", "reason", "component")}
        evidence = json.dumps(evidence_of(verdict), allow_nan=False)
        node.attributes = {**first, "evidence": evidence, **node.attributes}
    return root


def from_tree(root: Node) -> Any:
    """The report, or the campaign, that a tree holds.

    Raises:
        KeyError, ValueError, TypeError, AttributeError: it holds none, or a verdict whose evidence is not its own.
    """
    found = read_record(FORMATS[str(root.attributes["format"])], root)
    check_record(found)
    verdict = getattr(found, "verdict", None)
    if verdict is not None:
        _check_evidence(strict_json(str(root.groups["verdict"].attributes["evidence"])), verdict)
    return found


def evidence_of(verdict: Verdict) -> dict[str, Any]:
    """What the label rests on, in short: layers, figures (null: not defined), and the rules that fired."""
    figures = {one.name: one.of(verdict) for one in fields_of(Verdict) if isinstance(one.place, Figure)}
    finite = {name: value if math.isfinite(value) else None for name, value in figures.items()}
    fired = [encoded(rule.name).decode() for rule in verdict.rules if rule.fired]
    return {"layers": list(verdict.layers), **finite, "rules": fired}


def _check_evidence(stored: Any, verdict: Verdict) -> None:
    """Refuse evidence that says something else than the tables; what another version says besides is left alone."""
    if not isinstance(stored, dict):
        raise ValueError("the verdict's evidence is no table")
    for name, value in evidence_of(verdict).items():
        if name in stored and stored[name] != value:
            raise ValueError(f"the verdict's evidence and its tables differ in {name}")
