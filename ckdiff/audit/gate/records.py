"""A policy as it was read: `Policy`."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy as read: how to measure, what is required, and what fails.

    Attributes:
        text: the file's text, as it was read.
        source: the file's name, for people.
        folder: where the paths in it begin; None where nobody knows.
        measure: keys of `measures.MEASURES` with their values, in the order of that table.
        checks: keys of `checks.CHECKS` with their values, in the order of that table.
        files: digests of what its files held when it was judged by, by key of `measure`; None: they are to be read.
    """

    text: str
    source: str
    folder: Path | None
    title: str = ""
    measure: Mapping[str, Any] = field(default_factory=dict)
    checks: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] | None = None

    @property
    def digest(self) -> str:
        """sha256 of the text in UTF-8."""
        return hashlib.sha256(self.text.encode()).hexdigest()
