"""The rows of a depth: one a question and layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckdiff.report.schema.depth import DepthReport

ARRAYS = ("drop_unlearned", "drop_reference", "lens_unlearned", "lens_reference")


def rows(found: DepthReport | None) -> Iterator[Sequence[object]]:
    """The names of the columns, then every question at every layer."""
    yield ["question", "cluster", "layer", *ARRAYS, "depth", "depth_lens"]
    for number, one in enumerate(found.questions if found else ()):
        assert found is not None
        for place, layer in enumerate(found.layers.tolist()):
            values = (getattr(found, name)[place, number].item() for name in ARRAYS)
            yield [one.text, one.cluster, layer, *values, one.depth, one.depth_lens]
