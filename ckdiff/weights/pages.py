"""Mapped files, and giving their pages back, so that resident memory does not follow the checkpoint's size."""

from __future__ import annotations

import mmap
from typing import TYPE_CHECKING

from ckdiff.errors import CheckpointError

if TYPE_CHECKING:
    from pathlib import Path


def map_file(path: Path, size: int) -> mmap.mmap:
    """Map a file read-only, provided that it still has the size that its header was validated with.

    Raises:
        CheckpointError: the file is gone, or changed size.
    """
    try:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be mapped ({error}); check that it is still there") from error
    if len(mapped) != size:
        raise CheckpointError(f"{path}: changed size while it was read; wait until it is written, then run again")
    return mapped


def read_ahead(mapped: mmap.mmap, begin: int, end: int) -> None:
    """Have [begin, end) read from the disk while something else is done, where the system can do that."""
    if hasattr(mmap, "MADV_WILLNEED"):
        begin -= begin % mmap.PAGESIZE
        mapped.madvise(mmap.MADV_WILLNEED, begin, end - begin)


def forget_pages(mapped: mmap.mmap, begin: int, end: int) -> None:
    """Drop the resident pages of [begin, end) from this mapping; they are read again if they are touched again."""
    if hasattr(mmap, "MADV_DONTNEED"):
        begin -= begin % mmap.PAGESIZE
        mapped.madvise(mmap.MADV_DONTNEED, begin, end - begin)
