"""The report for other programs: JSON and CSV. `FORMATS[name](report)` is the text, ending in a line end.

A new format is one function and one line in `FORMATS`; a long one, like Markdown, has its own module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.report.exports.csv import to_csv
from ckdiff.report.exports.json import to_json
from ckdiff.report.exports.junit import to_junit
from ckdiff.report.exports.markdown import to_markdown

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckdiff.report.schema.report import Report


FORMATS: dict[str, Callable[[Report], str]] = {"json": to_json, "csv": to_csv, "md": to_markdown, "junit": to_junit}
"""Name of the format, as `--format` takes it: the function that writes it."""
