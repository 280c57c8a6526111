"""A report, of a pair or of a campaign, as JSON: the tree of its records, with the names of its file.

NaN and infinities are null. What is not simply a record as it is stands in `OTHERWISE`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.report.schema import campaign
from ckdiff.report.schema.behaviour import Mean
from ckdiff.report.schema.comparison import Comparison
from ckdiff.report.schema.layout import flat
from ckdiff.report.schema.probe import QuestionRecord
from ckdiff.report.words.compare import top_neurons
from ckdiff.report.words.sections import WHOLE, Selection

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckdiff.report.schema.campaign import Campaign
    from ckdiff.report.schema.report import Report


TOP_NEURONS = 100
"""Neurons of each component in the JSON; the HDF5 report holds all of them."""


FIRST = (
    *("format", "schema_version", "name", "outcome", "complete", "versions"),
    *("plan", "pairs", "concepts", "jobs", "cells", "drift"),
)
"""What the text begins with, before all else."""


def to_json(found: Report | Campaign, selection: Selection = WHOLE) -> str:
    """All of a report or a campaign as one JSON object.

    Of the neurons only those that moved most are in it, `TOP_NEURONS` of each component. In an array over pairs and
    concepts a place without any figure of a curve is one null.
    """
    tree = {"format": campaign.FORMAT, **plain(found)} if isinstance(found, campaign.Campaign) else plain(found)
    first = {name: tree[name] for name in FIRST if name in tree}
    return json.dumps(first | tree, indent=2, allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """A record, or whatever stands in one, as JSON knows it."""
    if is_dataclass(value):
        return plain({**flat(value, whole=Mean), **OTHERWISE.get(type(value), lambda _: {})(value)})
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain_list(value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _plain_list(values: Any) -> Any:
    if values.ndim == 1:
        return plain(values.tolist())
    if values.ndim == 2:
        return [_plain_list(row) for row in values]
    return [[None if np.isnan(scores).all() else _plain_list(scores) for scores in row] for row in values]


def _neurons(found: Comparison) -> dict[str, Any]:
    return {
        "neurons": [asdict(row) for name, grid in found.neurons.items() for row in top_neurons(name, grid, TOP_NEURONS)]
    }


OTHERWISE: dict[type, Callable[[Any], dict[str, Any]]] = {
    Comparison: _neurons,
    QuestionRecord: lambda found: {"tokens": len(found.answer_ids)},
}
"""What JSON says in the place of a record's fields, or beside them."""
