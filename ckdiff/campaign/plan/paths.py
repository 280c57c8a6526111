"""The paths of a plan as what they name: files, folders, checkpoints, and globs of checkpoints.

All begin in the plan's own folder.
"""

from __future__ import annotations

import glob
import os
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ckdiff.hub import find_data_id, parse_hub_id
from ckdiff.untrusted import quoted

if TYPE_CHECKING:
    from ckdiff.campaign.plan.kinds import Where


WEIGHTS = ".safetensors"


INDEX = ".index.json"


MOST_MATCHES = 10_000


FOLDER = "paths begin in the plan's folder"


class Matched(NamedTuple):
    """One checkpoint, and what distinguishes it from others: what wildcards matched, or its path's last part."""

    checkpoint: str
    name: str


def absolute(folder: Path, text: str) -> str:
    """A path from the plan's folder."""
    return os.path.abspath(folder / text)


def file(where: Where, folder: Path, text: str) -> Path:
    """A file that is there.

    Raises:
        PlanError: it is not.
    """
    found = absolute(folder, text)
    if not os.path.isfile(found):
        what = "is no regular file" if os.path.lexists(found) else "no such file"
        raise where.refusal(f"{quoted(text)}: {what} ({FOLDER})")
    return Path(found)


def data(where: Where, folder: Path, text: str) -> Path:
    """A file that is there, or a data set of the hub as it stands.

    Raises:
        PlanError: it is neither.
    """
    return Path(text) if find_data_id(text, folder) else file(where, folder, text)


def directory(where: Where, folder: Path, text: str) -> Path:
    """A directory that is there.

    Raises:
        PlanError: it is not.
    """
    found = absolute(folder, text)
    if not os.path.isdir(found):
        raise where.refusal(f"{quoted(text)}: no such directory ({FOLDER})")
    return Path(found)


def checkpoint(where: Where, folder: Path, text: str) -> str:
    """An absolute path that is there, or a hub id as it stands; told apart as `open_checkpoint` does it.

    Raises:
        PlanError: a path that is not there.
    """
    if _is_hub(folder, text):
        return text
    found = absolute(folder, text)
    if not os.path.exists(found):
        raise where.refusal(f"{quoted(text)}: no such path, and no hub id ({FOLDER}); check its spelling")
    return found


def checkpoints(where: Where, folder: Path, text: str) -> list[Matched]:
    """The checkpoint that a text names, or the sorted ones that match it.

    Raises:
        PlanError: a path that is not there, or a glob that matches no checkpoint.
    """
    if not is_glob(folder, text):
        found = checkpoint(where, folder, text)
        return [Matched(found, _own_name(found) if os.path.isabs(found) else "")]
    if "**" in text:
        raise where.refusal(f"{quoted(text)}: ** is not allowed in a glob; write a * for each folder")
    segments = [part for part in text.split("/") if part not in ("", ".")]
    pattern = ("/" if text.startswith("/") else "") + "/".join(segments)
    usable = (match for match in glob.iglob(pattern, root_dir=folder) if _is_usable(absolute(folder, match)))
    matches = sorted(islice(usable, MOST_MATCHES + 1))
    if not matches:
        wanted = "no directory, .safetensors file or index matches"
        raise where.refusal(f"{quoted(text)}: an empty glob: {wanted} ({FOLDER})")
    if len(matches) > MOST_MATCHES:
        raise where.refusal(f"{quoted(text)}: matches more than {MOST_MATCHES} checkpoints; write a narrower glob")
    return [Matched(absolute(folder, match), _matched_name(segments, match)) for match in matches]


def is_glob(folder: Path, text: str) -> bool:
    """Whether a text is to be matched; a path that is there as it is written is no glob."""
    return glob.has_magic(text) and not os.path.lexists(folder / text)


def _is_hub(folder: Path, text: str) -> bool:
    parent = os.path.dirname(text)
    local = os.path.lexists(folder / text) or (bool(parent) and os.path.isdir(folder / parent))
    return not local and parse_hub_id(text) is not None


def _is_usable(path: str) -> bool:
    return os.path.isdir(path) or (path.endswith((WEIGHTS, INDEX)) and os.path.isfile(path))


def _matched_name(segments: list[str], match: str) -> str:
    """The parts of a path that its wildcards matched.

    >>> _matched_name(["out", "*", "run-?", "unlearned"], "out/lotr-npo/run-1/unlearned")
    'lotr-npo-run-1'
    """
    parts = [part for part in match.split("/") if part]
    found = [part for segment, part in zip(segments, parts, strict=True) if glob.has_magic(segment)]
    return _without_ending("-".join(found))


def _own_name(path: str) -> str:
    name = os.path.basename(path)
    return name if os.path.isdir(path) else _without_ending(name)


def _without_ending(name: str) -> str:
    return name.removesuffix(INDEX).removesuffix(WEIGHTS)
