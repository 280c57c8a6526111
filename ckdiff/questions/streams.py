"""Files as bytes, decompressed when they are gzip or zstd: `chunks(path)`. What comes out is bounded at every step.

A compressed bomb does not fill the memory: a decoder is fed so little at once that what comes out of one step stays
small, and whoever reads the chunks decides how many to take.
"""

from __future__ import annotations

import itertools
import re
import zlib
from typing import TYPE_CHECKING, Protocol

from ckdiff.errors import CkdiffError
from ckdiff.untrusted import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path


READ = 1 << 16
"""Bytes that are read at once, and about as many that are handed on."""


GZIP, ZSTD, LFS = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"version https://git-lfs"


SKIPPABLE = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")
"""How a frame of zstd begins that holds no data; some tools put one first."""


FEED = {"gzip": 8192, "zstd": 256}
"""Bytes that a decoder is given at once. One byte makes at most 1032 of gzip's, four make at most 128 KiB of zstd's, so
that nothing compressed, however cunning, becomes more than 8 MiB in one step."""


MAX_WINDOW = 1 << 27
"""The memory that a zstd frame may ask for; what the `zstd` command grants too."""


class TextsError(CkdiffError):
    """Texts that cannot be used: no file, no such format, no such concept, or nothing in it."""


class EndsEarlyError(Exception):
    """A compressed file that is cut off or damaged; everything before that place was handed on."""


class _Decoder(Protocol):
    """What zlib and zstandard have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def chunks(path: Path, advance: Callable[[int], object] | None = None) -> Iterator[bytes]:
    r"""The content of a file, decompressed when it is gzip or zstd, in chunks of a few MiB at most.

    Args:
        path: the file.
        advance: told how many bytes of the file have been read since it was told last.

    Raises:
        TextsError: it cannot be read, or is zstd without the package for it.
        EndsEarlyError: it is compressed, and cut off or damaged.
    """
    check_file(path)
    try:
        with path.open("rb") as file:
            raw = _read(iter(lambda: file.read(READ), b""), advance)
            first = next(raw, b"")
            if first.startswith(LFS):
                raise TextsError(f"{path}: a git-lfs pointer, not the text; run `git lfs pull` in its repository")
            raw = itertools.chain([first], raw)
            if first.startswith(GZIP):
                yield from _gathered(_decompressed(raw, FEED["gzip"], lambda: zlib.decompressobj(31), zlib.error))
            elif first.startswith(ZSTD) or SKIPPABLE.match(first):
                yield from _gathered(_of_zstd(raw, path))
            else:
                yield from raw
    except OSError as error:
        raise TextsError(f"{path}: cannot be read ({error.strerror}); check the path and its rights") from error


def check_file(path: Path) -> None:
    """Refuse what is not a regular file; opening a pipe would wait for ever.

    Raises:
        TextsError: it is missing, a directory, or something else.
    """
    try:
        if path.is_dir():
            raise TextsError(f"{path}: a directory; name a file")
        if path.exists() and not path.is_file():
            raise TextsError(f"{path}: not a regular file; name a file with texts")
        path.stat()
    except OSError as error:
        raise TextsError(f"{path}: cannot be read ({error.strerror}); check the path and its rights") from error
    except ValueError as error:
        raise TextsError(f"{quoted(str(path))}: not a path ({error}); name a file with texts") from error


def _read(raw: Iterable[bytes], advance: Callable[[int], object] | None) -> Iterator[bytes]:
    for chunk in raw:
        if advance is not None:
            advance(len(chunk))
        yield chunk


def need_zstd(path: Path) -> None:
    """Refuse a zstd file where the package for it, which ckdiff does not depend on, is missing.

    Raises:
        TextsError: it is.
    """
    try:
        import zstandard  # noqa: F401
    except ImportError as error:
        raise TextsError(f"{path}: zstd, which needs a package: pip install 'ckdiff[unlearn]'") from error


def _of_zstd(raw: Iterable[bytes], path: Path) -> Iterator[bytes]:
    need_zstd(path)
    import zstandard

    context = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
    return _decompressed(raw, FEED["zstd"], context.decompressobj, zstandard.ZstdError)


def _decompressed(
    raw: Iterable[bytes], feed: int, new: Callable[[], _Decoder], damage: type[Exception]
) -> Iterator[bytes]:
    decoder: _Decoder | None = None
    for chunk in raw:
        for start in range(0, len(chunk), feed):
            data = chunk[start : start + feed]
            # Between frames there may be zeros, which fill up a tape or a disk block.
            while data := data if decoder else data.lstrip(b"\0"):
                decoder = decoder or new()
                try:
                    yield decoder.decompress(data)
                except damage as error:
                    raise EndsEarlyError from error
                data = decoder.unused_data
                decoder = None if decoder.eof else decoder
    if decoder is not None:
        raise EndsEarlyError


def _gathered(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in fewer pieces; before a damaged place everything that came before it."""
    held = bytearray()
    try:
        for piece in pieces:
            held += piece
            if len(held) >= READ:
                yield bytes(held)
                held.clear()
    except EndsEarlyError as error:
        yield bytes(held)
        raise error
    yield bytes(held)
