"""`ckdiff inspect`: what a checkpoint holds."""

from __future__ import annotations

from typing import Annotated

from ckdiff.calls.specs import ADAPTER_BASE
from ckdiff.cli.console import output
from ckdiff.options import Argument


def inspect(
    checkpoint: Annotated[str, Argument("A checkpoint: directory, file, index, adapter, or hub id@rev.")],
    adapter_base: Annotated[str | None, ADAPTER_BASE] = None,
) -> None:
    """What a checkpoint holds, by component; reads headers only."""
    from ckdiff.calls.inspect import inspect as look
    from ckdiff.report.terminal.inspect import inspect_view

    found = look(checkpoint, adapter_base)
    output(inspect_view(found.location, found.model_type, found.rows, found.shards, found.notes))
