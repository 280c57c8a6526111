"""The names of a pair, as short as they tell the two apart: what a page and a figure are about."""

from __future__ import annotations

import re
from itertools import count
from typing import TYPE_CHECKING

from ckdiff.untrusted import printable, shorten

if TYPE_CHECKING:
    from ckdiff.report.schema.report import CheckpointRecord, Provenance

NAME_LENGTH = 60

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[\w.-]+)?", re.ASCII)
COMMIT = re.compile(r"[0-9a-f]{40}")


def pair_names(found: Provenance) -> tuple[str, str]:
    """The base and the unlearned model: the last part of each place, and more of it where both end alike."""
    base, unlearned = _parts(found.base), _parts(found.unlearned)
    longest = max(len(base), len(unlearned))
    kept = next(size for size in count(1) if size >= longest or base[-size:] != unlearned[-size:])
    return _name(found.base, base[-kept:]), _name(found.unlearned, unlearned[-kept:])


def is_hub_id(found: CheckpointRecord) -> bool:
    """Whether a checkpoint is a commit of a model on the hub, and its place the id."""
    commit = found.revision is not None and COMMIT.fullmatch(found.revision) is not None
    return commit and HUB_ID.fullmatch(found.location) is not None


def pair_title(found: Provenance) -> str:
    """The pair in one line, the unlearned model first: `unlearned against base`."""
    base, unlearned = pair_names(found)
    return f"{unlearned} against {base}"


def bound_title(found: Provenance) -> str:
    """The pair in one line with the beginnings of its digests: `unlearned (sha256 1a2b…) against base (not hashed)`."""
    base, unlearned = (
        f"{name} ({f'sha256 {printable(side.digest)[:12]}…' if side.digest else 'not hashed'})"
        for name, side in zip(pair_names(found), (found.base, found.unlearned), strict=True)
    )
    return f"{unlearned} against {base}"


def _parts(side: CheckpointRecord) -> list[str]:
    """A place in its parts; those of a hub id may differ in nothing but the revision."""
    parts = [part for part in side.location.replace("\\", "/").split("/") if part] or [side.location]
    return [*([side.revision] if side.revision else []), *parts]


def _name(side: CheckpointRecord, parts: list[str]) -> str:
    place = side.revision is not None and parts[0] == side.revision
    name = "/".join(parts[1:]) + f"@{parts[0][:12]}" if place and len(parts) > 1 else "/".join(parts)
    return shorten(printable(name), NAME_LENGTH)
