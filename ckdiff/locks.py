"""One process at a time: `with alone(directory):`. The lock is on the directory itself, so nothing is left behind.

Where there are no such locks (Windows, some network file systems) it does nothing.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class BusyError(Exception):
    """Another process holds the lock."""


@contextlib.contextmanager
def alone(directory: Path, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a directory.

    Raises:
        BusyError: another process holds it, and `wait` is False.
    """
    try:
        import fcntl
    except ImportError:
        yield
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BusyError(f"{directory}: another process works there") from error
        except OSError:
            pass  # a file system without locks
        yield
    finally:
        os.close(descriptor)
