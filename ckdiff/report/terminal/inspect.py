"""The table of `ckdiff inspect`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from ckdiff.report.terminal.parts import bullets, facts, file_facts, plain_table, safe
from ckdiff.report.words.numbers import (
    amount,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from ckdiff.report.schema.report import ShardRecord


def inspect_view(
    location: str,
    model_type: str,
    rows: Sequence[tuple[str, int, int, str]],
    shards: Sequence[ShardRecord],
    notes: Sequence[str],
) -> RenderableType:
    """The components and files of one checkpoint, as tables.

    Args:
        location: its path or hub id.
        model_type: of its config, or "".
        rows: component, tensors, parameters, dtypes.
        shards: its weight files.
        notes: what a reader must know.
    """
    head = facts([("checkpoint", location), ("model type", model_type or "not stated"), ("files", file_facts(shards))])
    table = plain_table("component", ("tensors", "parameters"))
    table.add_column("dtype", overflow="fold")
    for component, tensors, parameters, dtypes in (*rows, _total(rows)):
        table.add_row(safe(component), f"{tensors:,}", amount(parameters), safe(dtypes))
    if rows:
        table.rows[-2].end_section = True
    return Group(head, Text(), table, *([Text(), bullets(notes)] if notes else []))


def _total(rows: Sequence[tuple[str, int, int, str]]) -> tuple[str, int, int, str]:
    return "in all", sum(row[1] for row in rows), sum(row[2] for row in rows), ""
