"""The rows of attacks: one an attack, setting, step and model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.report.schema.attack import AttackRow
from ckdiff.report.schema.layout import fields_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckdiff.report.schema.attack import AttackReport


def rows(found: AttackReport | None) -> Iterator[Sequence[object]]:
    """The names of the columns, then every row."""
    fields = fields_of(AttackRow)
    yield [field.name for field in fields]
    for row in found.rows if found else ():
        yield [field.of(row) for field in fields]
