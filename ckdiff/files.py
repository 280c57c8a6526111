"""Files that are written whole or not at all: `replace_file(path, content)`."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import socket
import stat
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def replace_file(path: str | Path, content: bytes) -> None:
    """Write a file beside its target, sync it, and move it over what is there; links are followed.

    Whatever happens, what was there before is whole, or replaced as a whole.

    Raises:
        OSError: the disk is full, or the place cannot be written to; nothing is left behind.
    """
    with stage(path) as temporary:
        write_synced(temporary, content)


@contextlib.contextmanager
def stage(path: str | Path) -> Iterator[Path]:
    """A hidden name beside a file: what is written there comes into its place, unless something is raised.

    Raises:
        OSError: it cannot be moved there; nothing is left behind.
    """
    target = Path(os.path.realpath(path))
    temporary = beside(target)
    sweep(target)
    try:
        yield temporary
        os.replace(temporary, target)
        _sync_directory(target.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def create_file(path: Path, content: bytes, mode: int = 0o666, aside: Path | None = None) -> None:
    """Write a file that was not there before, whole or not at all, whoever is killed meanwhile.

    Args:
        path: of the file.
        content: all of it.
        mode: its rights.
        aside: what the hidden file is named after that is written first, where none may lie in the same directory.

    Raises:
        OSError: it is there, or cannot be written; nothing is left behind.
    """
    named = aside or path
    temporary = beside(named)
    sweep(named)
    try:
        try:
            write_synced(temporary, content, mode)
            os.link(temporary, path)  # unlike a move, it never takes the place of another file
        except FileExistsError:
            raise
        except OSError:
            write_synced(path, content, mode)  # a file system without links, or no place for the hidden file
        _sync_directory(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A directory for as long as the context is open, where the system keeps such; those of killed processes go."""
    root = Path(tempfile.gettempdir())
    for path in root.glob(f"{_stem(root / SCRATCH)}*"):
        if (number := _writer(path.name, SCRATCH)) is not None and not _runs(number):
            shutil.rmtree(path, ignore_errors=True)
    folder = beside(root / SCRATCH)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


SCRATCH = "ckdiff"
"""How the names of such directories begin."""


def beside(target: Path) -> Path:
    """A hidden name that nobody else has, in the same directory."""
    return target.with_name(f"{_stem(target)}{os.getpid():x}-{secrets.token_hex(4)}.tmp")


def sweep(target: Path) -> None:
    """Remove what writers of a file left beside it that were killed: their processes on this machine are gone."""
    with contextlib.suppress(OSError):
        for path in target.parent.iterdir():
            number = _writer(path.name, target.name)
            if number is not None and not _runs(number):
                path.unlink(missing_ok=True)


def is_left_behind(path: Path) -> bool:
    """Whether this is what a writer of any file left that was killed on this machine."""
    number = _writer(path.name, None)
    return number is not None and not _runs(number)


def _writer(name: str, of: str | None) -> int | None:
    """The process that gave a file its hidden name, of a file of this name or of any; None where it is no such name."""
    start = r"\..{1,60}" if of is None else re.escape(f".{of[:60]}")
    found = re.fullmatch(rf"{start}\.{_machine()}-([0-9a-f]{{1,8}})-[0-9a-f]{{8}}\.tmp", name, re.DOTALL)
    return None if found is None else int(found[1], 16)


def _stem(target: Path) -> str:
    """How the hidden names beside a file begin, on this machine: a process of another one may be at work there."""
    return f".{target.name[:60]}.{_machine()}-"


def _machine() -> str:
    return f"{zlib.crc32(socket.gethostname().encode('utf-8', 'replace')):08x}"


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


def unwritable(error: OSError) -> str:
    """Why a place could not be written to: of a directory that takes no files, "not there" would be no reason."""
    if error.errno == errno.ENOENT and error.filename is not None and Path(error.filename).parent.is_dir():
        return "the file system takes no new files there"
    return error.strerror or str(error)


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


def write_synced(path: Path, content: bytes, mode: int = 0o666) -> None:
    """Write a new file and make its content last.

    Raises:
        OSError: it exists, or cannot be written; then there is none.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink()
        raise


def _sync_directory(path: Path) -> None:
    """Make the new name last; not every file system can, and then the file is still whole."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
