"""Files that are written whole or not at all: `replace_file(path, content)`."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import socket
import stat
import zlib
from pathlib import Path


def replace_file(path: str | Path, content: bytes) -> None:
    """Write a file beside its target, sync it, and move it over what is there; links are followed.

    Whatever happens, what was there before is whole, or replaced as a whole.

    Raises:
        OSError: the disk is full, or the place cannot be written to; nothing is left behind.
    """
    target = Path(os.path.realpath(path))
    temporary = beside(target)
    sweep(target)
    try:
        write_synced(temporary, content)
        os.replace(temporary, target)
        _sync_directory(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def beside(target: Path) -> Path:
    """A hidden name that nobody else has, in the same directory."""
    return target.with_name(f"{_stem(target)}{os.getpid():x}-{secrets.token_hex(4)}.tmp")


def sweep(target: Path) -> None:
    """Remove what writers of a file left beside it that were killed: their processes on this machine are gone."""
    stem = _stem(target)
    with contextlib.suppress(OSError):
        for path in target.parent.iterdir():
            number = re.fullmatch(r"([0-9a-f]{1,8})-[0-9a-f]{8}\.tmp", path.name.removeprefix(stem))
            if path.name.startswith(stem) and number and not _runs(int(number[1], 16)):
                path.unlink(missing_ok=True)


def _stem(target: Path) -> str:
    """How the hidden names beside a file begin, on this machine: a process of another one may be at work there."""
    machine = zlib.crc32(socket.gethostname().encode("utf-8", "replace"))
    return f".{target.name[:60]}.{machine:08x}-"


def _runs(process: int) -> bool:
    if os.name == "nt":
        return True  # there is no asking there
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True


def read_small(path: Path, most: int) -> bytes:
    """A file of at most `most` bytes; of a larger one a byte more than that.

    Raises:
        OSError: it cannot be read, or is no file: a pipe would wait for a writer, and a device never end.
    """
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        return file.read(most + 1)


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
