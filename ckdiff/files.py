"""Files that are written whole or not at all: `replace_file(path, content)`."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path


def replace_file(path: str | Path, content: bytes) -> None:
    """Write a file beside its target, sync it, and move it over what is there; links are followed.

    Whatever happens, what was there before is whole, or replaced as a whole.

    Raises:
        OSError: the disk is full, or the place cannot be written to; nothing is left behind.
    """
    target = Path(os.path.realpath(path))
    temporary = beside(target)
    try:
        write_synced(temporary, content)
        os.replace(temporary, target)
        _sync_directory(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def beside(target: Path) -> Path:
    """A hidden name that nobody else has, in the same directory."""
    return target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.tmp")


def write_synced(path: Path, content: bytes) -> None:
    """Write a new file and make its content last.

    Raises:
        OSError: it exists, or cannot be written.
    """
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    """Make the new name last; not every file system can, and then the file is still whole."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
