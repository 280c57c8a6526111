"""Where a report is to be written: `check_writable(path)`.

Only the standard library is imported, so that a command can ask before it imports what reads and writes.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ckdiff.errors import ReportError
from ckdiff.files import beside, unwritable, write_synced
from ckdiff.untrusted import printable


def check_writable(path: Path) -> None:
    """Refuse, before any work is done, a place where no report can be written.

    Raises:
        ReportError: the directory is missing or read-only, or something that is no file has this name.
    """
    target, name = Path(os.path.realpath(path)), printable(path)
    if target.is_dir():
        raise ReportError(f"{name}: is a directory; name a file with -o FILE")
    if target.suffix == ".safetensors":
        raise ReportError(f"{name}: is the name of a weight file, and would be read as one; name another with -o FILE")
    if target.exists() and not target.is_file():
        raise ReportError(f"{name}: is not a regular file; name a file with -o FILE")
    if not target.parent.is_dir():
        there = next(one for one in target.parents if one.exists())
        if not there.is_dir():
            raise ReportError(f"{name}: {printable(there)} is a file, and nothing can lie below it; use -o FILE")
        raise ReportError(f"{name}: the directory {printable(target.parent)} does not exist; create it, or use -o FILE")
    probe = beside(target)
    try:
        # Rights alone do not tell: the disk may be read-only, or the place not one for files.
        write_synced(probe, b"")
    except OSError as error:
        raise ReportError(
            f"{name}: the directory {printable(target.parent)} is not writable ({unwritable(error)}); use -o FILE"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            probe.unlink()
