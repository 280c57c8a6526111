"""The tree of a report's file, read in a process of its own: `load_apart(path)`.

The HDF5 library can be crashed by bytes that somebody chose. Here it may crash, hang or ask for memory without end: the
child that reads has little time and memory, cannot write files, and says what it found on a pipe in a form of our own
(a JSON head, then the arrays one behind the other), so that the parent takes nothing from it but numbers and texts.

Where there is `fork` the child is a copy of this process; elsewhere it is a new Python.
"""

from __future__ import annotations

import gc
import json
import math
import os
import signal
import subprocess
import sys
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ckdiff.errors import ReportError
from ckdiff.report.hdf5.columns import Array, Node
from ckdiff.report.hdf5.loading import MOST_BYTES, load_tree
from ckdiff.untrusted import printable, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckdiff.shapes import AnyArray


MOST_SECONDS = 60
"""Time to read a report; the largest that we have took half a second."""


MOST_MEMORY = 1 << 30
"""Bytes that the child may have beside those that it begins with."""


MOST_HEAD = 1 << 28
"""Bytes of the JSON head."""


READ, REFUSED, DAMAGED = b"R", b"N", b"D"
"""What the child has to say: a tree, why it refuses the file, or how it is damaged."""


def load_apart(path: Path, name: str) -> Node:
    """The groups and arrays of a report's file, whatever that does to the library that reads it.

    Raises:
        ReportError: the file is refused; the reason is the child's.
        ValueError: it is damaged.
    """
    reply = _fork(path, name) if hasattr(os, "fork") and sys.platform != "darwin" else _spawn(path, name)
    kind, body = reply[:1], memoryview(reply)[1:]
    if kind == READ:
        return _unpack(body)
    words = printable(str(body, "utf-8", "replace"))
    if kind == REFUSED:
        raise ReportError(words)
    raise ValueError(words or "its contents crash the HDF5 library, or ask it for too much")


def _fork(path: Path, name: str) -> bytes:
    import h5py  # noqa: F401  (once, and not in every child)

    source, drain = os.pipe()
    with warnings.catch_warnings():
        # Other threads hold no lock that the child needs: it reads one file with one library, and is gone.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            gc.disable()  # it would look through all that the parent has, and so copy it
            os.close(source)
            with os.fdopen(drain, "wb") as pipe:
                _answer(path, name, pipe)
        finally:
            os._exit(0)
    os.close(drain)
    try:
        with os.fdopen(source, "rb") as pipe:
            return _receive(pipe)
    finally:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _spawn(path: Path, name: str) -> bytes:
    command = [sys.executable, "-c", "from ckdiff.report.hdf5.apart import main; main()", str(path), name]
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, timeout=MOST_SECONDS).stdout
    except subprocess.TimeoutExpired:
        return DAMAGED + b"reading it takes too long"


def main() -> None:
    """The child, where it is a new Python."""
    _answer(Path(sys.argv[1]), sys.argv[2], sys.stdout.buffer)


def _receive(pipe: IO[bytes]) -> bytes:
    """All that the child says, in time and of a size that a report can have."""
    import selectors

    parts: list[bytes] = []
    end, size = time.monotonic() + MOST_SECONDS, 0
    with selectors.DefaultSelector() as selector:
        selector.register(pipe, selectors.EVENT_READ)
        while selector.select(max(0.0, end - time.monotonic())):
            part = os.read(pipe.fileno(), 1 << 20)
            if not part:
                return b"".join(parts)
            parts.append(part)
            size += len(part)
            if size > MOST_BYTES + MOST_HEAD:
                return DAMAGED + b"it holds more than a report can"
    return DAMAGED + b"reading it takes too long"


# --------------------------------------------------------------------------------------------------------- the child


def _answer(path: Path, name: str, pipe: IO[bytes]) -> None:
    """Bind this process, read the file and say what came of it."""
    _bind()
    _reply(path, name, pipe)


def _reply(path: Path, name: str, pipe: IO[bytes]) -> None:
    """Read the file and say what came of it; whatever is raised, a reply or nothing at all."""
    try:
        parts = [READ, *_pack(load_tree(path, name))]
    except ReportError as error:
        parts = [REFUSED, str(error).encode("utf-8", "backslashreplace")]
    except BaseException as error:
        words = shorten(str(error) or type(error).__name__, 300)
        parts = [DAMAGED, words.encode("utf-8", "backslashreplace")]
    for part in parts:
        pipe.write(part)
    pipe.flush()


def _bind() -> None:
    """Little time and memory, no file to write, no word on the terminal, no traceback of a crash."""
    import faulthandler

    faulthandler.disable()
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    # A Ctrl-C is the parent's: it stops, or finishes what it does.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    try:
        import resource
    except ImportError:
        return
    limits = {"RLIMIT_CORE": 0, "RLIMIT_CPU": MOST_SECONDS, "RLIMIT_FSIZE": 0, "RLIMIT_AS": _held() + MOST_MEMORY}
    for limit, value in limits.items():
        with suppress(OSError, ValueError):
            resource.setrlimit(getattr(resource, limit), (value, value))


def _held() -> int:
    """Bytes of address space that this process has, where the system says so."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 1 << 34


# ---------------------------------------------------------------------------------------------------------- the form


def _pack(tree: Node) -> Iterator[bytes]:
    """A tree as a JSON head with its length before it, and the arrays behind it."""
    arrays: list[AnyArray] = []
    head = json.dumps(_head(tree, arrays)).encode()
    if len(head) > MOST_HEAD:
        raise ValueError("it has more names than a report can")
    yield len(head).to_bytes(8, "big")
    yield head
    for values in arrays:
        yield np.ascontiguousarray(values).tobytes()


def _head(node: Node, arrays: list[AnyArray]) -> dict[str, Any]:
    shown = {}
    for name, array in node.arrays.items():
        arrays.append(array.values)
        shown[name] = [array.values.dtype.str, list(array.values.shape)]
    return {
        "attributes": node.attributes,
        "arrays": shown,
        "groups": {name: _head(one, arrays) for name, one in node.groups.items()},
    }


def _unpack(body: memoryview) -> Node:
    length = int.from_bytes(body[:8], "big")
    node, rest = _node(json.loads(bytes(body[8 : 8 + length])), body[8 + length :])
    if len(rest):
        raise ValueError("more values than names")
    return node


def _node(head: dict[str, Any], rest: memoryview) -> tuple[Node, memoryview]:
    node = Node(head["attributes"])
    for name, (kind, shape) in head["arrays"].items():
        dtype = np.dtype(kind)
        size = dtype.itemsize * math.prod(shape)
        values = np.frombuffer(rest[:size], dtype=dtype) if size else np.empty(0, dtype=dtype)
        node.arrays[name] = Array(values.reshape(shape).copy(), ())
        rest = rest[size:]
    for name, one in head["groups"].items():
        node.groups[name], rest = _node(one, rest)
    return node, rest
