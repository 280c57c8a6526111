"""Which attack carries the claim: how well each of them, and each of its statistics, tells *there* from *never knew*.

Of every attacked pair of `redteam.py score --attacks` one number a statistic is taken from what was measured on the
unlearned model alone or beside the reference; over pairs that hide what they know, and models that really do not know
(of `erased` kinds), its AUC is printed: the chance that the first has the greater one, ties half.
Of an attack with many settings the greatest over its settings and steps counts, as an attacker would choose it.
"""

from __future__ import annotations

import json
import math
import sys
from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np
from plants_score import auc
from redteam_kinds import KIND

from ckdiff.report.hdf5.file import read_report
from ckdiff.scoring.matching import LEAST

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from ckdiff.report.schema.attack import AttackRow
    from ckdiff.report.schema.report import Report

ROW = ("returned", "matching z", "level", "above the reference", "recovery")
"""Statistics of an attack's rows."""


def of_row(row: AttackRow) -> tuple[float, ...]:
    """The statistics of one setting, in the order of `ROW`."""
    share = row.returned / row.asked if row.returned >= 0 and row.asked else math.nan
    return share, row.z, row.level, row.above.value, row.recovery.value


def greatest(rows: Iterable[AttackRow]) -> dict[tuple[str, str], float]:
    """By attack and statistic the greatest over settings and steps; what was wrecked or not measured is left out."""
    found: dict[tuple[str, str], float] = {}
    for row in rows:
        if row.side != "unlearned" or not row.decides or row.wrecked:
            continue
        for name, value in zip(ROW, of_row(row), strict=True):
            if not math.isnan(value):
                found[row.attack, name] = max(value, found.get((row.attack, name), -math.inf))
    return found


def battery(report: Report) -> dict[tuple[str, str], float]:
    """The statistics of all attacks together, and of depth and states, which are none of them."""
    found: dict[tuple[str, str], float] = {}
    if report.attack is not None and report.attack.tiers:
        tiers = report.attack.tiers
        chances = [value for one in tiers for value in (one.p, one.chance) if not math.isnan(value)]
        found["battery", "-log p, the least of all tiers"] = -math.log(max(min(chances, default=1.0), 1e-300))
        found["battery", "returned, beyond the reference"] = max(max(one.beyond, 0) for one in tiers)
        found["battery", "returned"] = max(one.returned for one in tiers)
        found["battery", "matching z"] = max((one.z for one in tiers if not math.isnan(one.z)), default=math.nan)
        above = [one.above.value for one in tiers if not math.isnan(one.above.value)]
        found["battery", "above the reference"] = max(above, default=math.nan)
        found["no attack", "level"] = float(np.mean([one.log_p_unlearned for one in report.attack.questions]))
        beside = [one.log_p_unlearned - one.log_p_reference for one in report.attack.questions]
        found["no attack", "above the reference"] = float(np.mean(beside))
    if report.depth is not None:
        found["depth", "1 - depth"] = 1 - report.depth.depth.value
        found["depth", "1 - depth by the lens"] = 1 - report.depth.depth_lens.value
    if report.verdict is not None:
        found["states lent by the base", "score"] = report.verdict.score
    return found


def print_carriers(works: Sequence[Path]) -> None:
    """A line a statistic: its AUC, of how many pairs of all these directories."""
    values: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    pairs: dict[str, int] = defaultdict(int)
    few = 0
    for path in sorted(path for work in works for path in (work / "pairs").glob("*/attacked.h5")):
        truth = json.loads((path.parent / "truth.json").read_text(encoding="utf-8"))
        group = KIND[truth["kind"]].group
        if group not in ("there", "erased"):
            continue
        report = read_report(path)
        if report.attack is None or report.attack.clusters < LEAST:
            few += 1
            continue
        pairs[group] += 1
        for key, value in {**battery(report), **greatest(report.attack.rows)}.items():
            values[key][group].append(value)
    out = sys.stdout.write
    counted = f"{pairs['there']} pairs that still know, {pairs['erased']} that do not"
    out(f"{__doc__}\n{counted}; {few} of fewer than {LEAST} facts left out\n")
    out(f"{'':26}{'statistic':34}  AUC    pairs\n")
    for (attack, name), found in sorted(values.items(), key=lambda item: item[0]):
        ours, theirs = found["there"], found["erased"]
        out(f"{attack:26}{name:34}{auc(ours, theirs):6.3f}  {len(ours)}+{len(theirs)}\n")
