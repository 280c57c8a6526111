"""The rows of a comparison: one a tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.report.schema.comparison import TensorDrift
from ckdiff.report.schema.layout import fields_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckdiff.report.schema.comparison import Comparison


def rows(found: Comparison | None) -> Iterator[Sequence[object]]:
    """The names of the columns, then every tensor with its drift."""
    columns = fields_of(TensorDrift)
    yield [column.name for column in columns]
    for row in found.tensors if found else ():
        yield [column.of(row) for column in columns]
