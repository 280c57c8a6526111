"""What OpenUnlearning's evaluator wrote, beside a report: `compare_evaluation(report, read_evaluation(path))`.

Its `*_EVAL.json` has a mapping a metric, whose `agg_value` is the figure; its `*_SUMMARY.json` has the figures alone.
Both are read. A name is known whatever its case, since the two have been written both ways.

Format: github.com/locuslab/open-unlearning, src/evals/base.py.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from ckdiff.errors import ReportError
from ckdiff.files import read_small
from ckdiff.report.exports.openunlearning import metrics_by_name
from ckdiff.untrusted import printable, strict_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ckdiff.report.schema.report import Report

MOST_BYTES = 1 << 26
MOST_METRICS = 1000
MADE_BY = "give a *_EVAL.json or *_SUMMARY.json of OpenUnlearning's evaluator"


class Compared(NamedTuple):
    """One metric, as the file and as the report have it; NaN where one of them lacks it.

    Attributes:
        metric: its name in the file, or, where it is in the report alone, OpenUnlearning's name of it; printable.
        file: the file's figure.
        base, unlearned: the report's.
    """

    metric: str
    file: float
    base: float
    unlearned: float

    @property
    def named(self) -> dict[str, float]:
        """The figures by name; the difference is the file's less the unlearned model's."""
        own = {name: value for name, value in self._asdict().items() if name != "metric"}
        return {**own, "difference": self.file - self.unlearned}

    @property
    def figures(self) -> tuple[float, ...]:
        """The same without names."""
        return tuple(self.named.values())


def read_evaluation(path: Path) -> dict[str, float]:
    """The figures of a file by the name of their metric; one that is null is NaN.

    Raises:
        ReportError: it cannot be read, or is no such file.
    """
    try:
        raw = read_small(path, MOST_BYTES)
    except OSError as error:
        raise ReportError(f"{path}: cannot be read ({error.strerror}); {MADE_BY}") from error
    if len(raw) > MOST_BYTES:
        raise ReportError(f"{path}: larger than {MOST_BYTES >> 20} MB; {MADE_BY}")
    try:
        tree = strict_json(raw, constants=True)
    except ValueError as error:
        raise ReportError(f"{path}: not JSON ({printable(str(error))[:100]}); {MADE_BY}") from error
    found = dict(_figures(tree)) if isinstance(tree, dict) else {}
    if not found or len(found) > MOST_METRICS:
        raise ReportError(f"{path}: holds {len(found) or 'no'} metrics; {MADE_BY}")
    return found


def _figures(tree: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name, entry in tree.items():
        if isinstance(entry, dict) and "agg_value" not in entry:
            continue
        value = entry["agg_value"] if isinstance(entry, dict) else entry
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            yield name, _as_float(value)


def _as_float(value: float | None) -> float:
    """A number of a JSON file, which may have hundreds of digits."""
    try:
        return math.nan if value is None else float(value)
    except OverflowError:
        return math.inf if value is not None and value > 0 else -math.inf


def compare_evaluation(report: Report, figures: Mapping[str, float]) -> list[Compared]:
    """Every metric of the file, in its order, then those that the report alone has."""
    own = metrics_by_name(report)
    known = {name.casefold(): name for name in own}
    nothing = (math.nan, math.nan)
    rows = [
        Compared(printable(name), value, *own.get(known.get(name.casefold(), ""), nothing))
        for name, value in figures.items()
    ]
    held = {name.casefold() for name in figures}
    return rows + [Compared(name, math.nan, *both) for name, both in own.items() if name.casefold() not in held]
