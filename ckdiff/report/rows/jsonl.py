"""A report as JSON lines, for `jq` and whatever reads a record at a time: `to_jsonl(report, Selection("probe"))`."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from ckdiff.report.rows.cells import rows_of
from ckdiff.report.words.sections import WHOLE, Selection

if TYPE_CHECKING:
    from ckdiff.report.schema.campaign import Campaign
    from ckdiff.report.schema.report import Report


def to_jsonl(found: Report | Campaign, selection: Selection = WHOLE) -> str:
    """The rows of CSV, one JSON object each under the names of the columns; without rows no line at all."""
    names, *rows = rows_of(found, selection)
    objects = (dict(zip(names, map(_plain, row), strict=True)) for row in rows)
    return "".join(json.dumps(one, allow_nan=False) + "\n" for one in objects)


def _plain(value: object) -> object:
    """One value as JSON knows it: null for NaN and infinity, as in `--format json`."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
