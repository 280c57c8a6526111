"""Files as bytes, decompressed where they are gzip or zstd: `chunks(path)`, `whole(path)`. What comes out is bounded.

A compressed bomb does not fill the memory: what comes out of one step stays small, and whoever reads the chunks decides
how many to take.
"""

from __future__ import annotations

import gzip
import itertools
import re
import zlib
from functools import partial
from typing import TYPE_CHECKING

from ckdiff.errors import CkdiffError, with_extra
from ckdiff.untrusted import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from io import BufferedReader
    from pathlib import Path


READ = 1 << 16
"""Bytes that are read at once, and about as many that are handed on."""


GZIP, ZSTD, LFS = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"version https://git-lfs"


SKIPPABLE = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")
"""How a frame of zstd begins that holds no data; some tools put one first."""


FEED = 256
"""Bytes of zstd that are decompressed at once: four make at most 128 KiB, so that no step makes more than 8 MiB."""


MAX_WINDOW = 1 << 27
"""The memory that a zstd frame may ask for; what the `zstd` command grants too."""


class RecordsError(CkdiffError):
    """Questions or texts that cannot be used: no such file, format or concept, or nothing in it."""


class EndsEarlyError(Exception):
    """A compressed file that is cut off or damaged; everything before that place was handed on."""


def whole(path: Path, most: int) -> bytes:
    """The content of a file, decompressed.

    Raises:
        RecordsError: it cannot be read, is damaged, or makes more than `most` bytes.
    """
    held = bytearray()
    try:
        for chunk in chunks(path):
            held += chunk
            if len(held) > most:
                raise RecordsError(f"{path}: more than {most} bytes; take a part of it, as `ckdiff corpus` does")
    except EndsEarlyError as error:
        raise RecordsError(f"{path}: compressed, and cut off or damaged; download it again") from error
    return bytes(held)


def chunks(path: Path, advance: Callable[[int], object] | None = None) -> Iterator[bytes]:
    r"""The content of a file, decompressed when it is gzip or zstd, in chunks of a few MiB at most.

    Args:
        path: the file.
        advance: told how many bytes of the file have been read since it was told last.

    Raises:
        RecordsError: it cannot be read, or is zstd without the package for it.
        EndsEarlyError: it is compressed, and cut off or damaged.
    """
    check_file(path)
    told = 0
    try:
        with path.open("rb") as file:
            for chunk in itertools.chain(_content(path, file), [b""]):
                if advance is not None:
                    advance(file.tell() - told)
                    told = file.tell()
                yield chunk
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise EndsEarlyError from error
    except OSError as error:
        raise RecordsError(f"{path}: cannot be read ({error.strerror}); check the path and its rights") from error


def check_file(path: Path) -> None:
    """Refuse what is not a regular file; opening a pipe would wait for ever.

    Raises:
        RecordsError: it is missing, a directory, or something else.
    """
    try:
        if path.is_dir():
            raise RecordsError(f"{path}: a directory; name a file")
        if path.exists() and not path.is_file():
            raise RecordsError(f"{path}: not a regular file; name one")
        path.stat()
    except OSError as error:
        raise RecordsError(f"{path}: cannot be read ({error.strerror}); check the path and its rights") from error
    except ValueError as error:
        raise RecordsError(f"{quoted(str(path))}: not a path ({error}); name a file") from error


def need_zstd(path: Path) -> None:
    """Refuse a zstd file where the package for it, which ckdiff does not depend on, is missing.

    Raises:
        RecordsError: it is.
    """
    try:
        import zstandard  # noqa: F401
    except ImportError as error:
        raise RecordsError(with_extra(f"{path}: zstd, which needs a package", "unlearn")) from error


def _content(path: Path, file: BufferedReader) -> Iterator[bytes]:
    first = file.peek(len(LFS))
    if first.startswith(LFS):
        raise RecordsError(f"{path}: a git-lfs pointer, not the content; run `git lfs pull` in its repository")
    if first.startswith(ZSTD) or SKIPPABLE.match(first):
        return _of_zstd(path, file)
    stream = gzip.GzipFile(fileobj=file) if first.startswith(GZIP) else file
    return iter(partial(stream.read1, READ), b"")


def _of_zstd(path: Path, file: BufferedReader) -> Iterator[bytes]:
    """Frame by frame: the package's file-like reader says nothing of a file that is cut off."""
    need_zstd(path)
    import zstandard

    context = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
    held, decoder = bytearray(), None
    try:
        for data in iter(partial(file.read, FEED), b""):
            # Between frames there may be zeros, which fill up a tape or a disk block.
            while data := data if decoder else data.lstrip(b"\0"):
                decoder = decoder or context.decompressobj()
                held += decoder.decompress(data)
                data = decoder.unused_data
                decoder = None if decoder.eof else decoder
            if len(held) >= READ:
                yield bytes(held)
                held.clear()
    except zstandard.ZstdError as error:
        yield bytes(held)
        raise EndsEarlyError from error
    yield bytes(held)
    if decoder is not None:
        raise EndsEarlyError
