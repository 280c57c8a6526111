"""The rows of a comparison: one a tensor."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from ckdiff.report.schema.comparison import Drift, TensorDrift
from ckdiff.report.words.numbers import flat

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckdiff.report.schema.comparison import Comparison


def rows(found: Comparison | None) -> Iterator[Sequence[object]]:
    """The names of the columns, then every tensor with its drift."""
    own = [field.name for field in fields(TensorDrift) if field.name != "drift"]
    names = [*own, *(field.name for field in fields(Drift))]
    yield names
    for row in found.tensors if found else ():
        values = flat(row)
        yield [values[name] for name in names]
