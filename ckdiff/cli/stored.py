"""The pair that a command takes, which those that only read a report need not know of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ckdiff.calls.specs import Reading
from ckdiff.options import Argument


@dataclass(frozen=True)
class StoredPair(Reading):
    """Two checkpoints, or neither: then those of the report."""

    base: Annotated[str | None, Argument("The model before; without it, the pair of the report.")] = None
    unlearned: Annotated[str | None, Argument("The model after.")] = None
