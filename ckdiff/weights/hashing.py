"""sha256 of weight files, computed in threads beside the arithmetic.

Only the standard library is used, so that hashing starts before anything heavy is imported; OpenSSL's code releases
the interpreter while it works. A digest is one chain, so that a file is hashed by one thread at a time; but whichever
thread is free takes the next piece of whichever file has most left, of as many files as there may be threads. So when
a thread comes late, there is something left for it.
"""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING

from ckdiff.weights.crew import core_count
from ckdiff.weights.pages import forget_pages, map_file, read_ahead

if TYPE_CHECKING:
    import mmap
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from ckdiff.weights.headers import Shard

CHUNK = 1 << 23


class ShardHasher:
    """Hashes files in the background from the moment it is made; a file that is named twice is hashed once.

    `known` gives the digest of a file that somebody has hashed already, or None; of `threads` 0 means one a core.
    Where the caller has work of its own (`beside`), half of them are left to that until it says `hurry`.

    Attributes:
        left: threads that are left to the caller's own work, at least one.
    """

    def __init__(
        self,
        shards: Iterable[Shard],
        known: Callable[[Path], str | None] | None = None,
        threads: int = 0,
        beside: bool = False,
    ) -> None:
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._digests: dict[Path, Future[str]] = {}
        self._waiting: deque[_File] = deque()
        for shard in shards:
            if shard.path not in self._digests:
                self._digests[shard.path] = self._add(shard, None if known is None else known(shard.path))
        most = threads or core_count()
        self._most = min(most, len(self._waiting))
        self._free = [self._waiting.popleft() for _ in range(self._most)]
        self._threads: list[threading.Thread] = []
        self._employ(min(self._most, most // 2) if beside else self._most)
        self.left = max(1, most - len(self._threads))

    def hurry(self) -> None:
        """Let all threads hash: the caller's own work is done."""
        self._employ(self._most)

    def digest(self, shard: Shard) -> str:
        """The file's sha256 in hexadecimal; waits for it.

        Raises:
            CheckpointError: the file could not be read, or changed size.
        """
        self.hurry()
        return self._digests[shard.path].result()

    def close(self) -> None:
        """Stop what is still running; digests that are not finished are lost."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        for found in self._digests.values():
            found.cancel()

    def _add(self, shard: Shard, known: str | None) -> Future[str]:
        found: Future[str] = Future()
        if known is None:
            self._waiting.append(_File(shard, found))
        else:
            found.set_result(known)
        return found

    def _employ(self, count: int) -> None:
        while len(self._threads) < count:
            self._threads.append(threading.Thread(target=self._work, name=f"sha256_{len(self._threads)}"))
            self._threads[-1].start()

    def _work(self) -> None:
        """Piece by piece, of the begun file with most left that nobody else works on; the end where there is none."""
        while not self._stop.is_set():
            with self._lock:
                if not self._free:
                    return
                file = max(self._free, key=_File.rest)
                self._free.remove(file)
            finished = file.advance()
            with self._lock:
                if not finished:
                    self._free.append(file)
                elif self._waiting:
                    self._free.append(self._waiting.popleft())


class _File:
    """A file that is being hashed, and how far that is."""

    def __init__(self, shard: Shard, found: Future[str]) -> None:
        self._shard, self._found = shard, found
        self._digest, self._done = hashlib.sha256(), 0
        self._mapped: mmap.mmap | None = None

    def rest(self) -> int:
        """Bytes that are left."""
        return self._shard.size - self._done

    def advance(self) -> bool:
        """Hash one piece; whether there is nothing left to do, since all is hashed or the file cannot be read."""
        try:
            if self._mapped is None:
                self._mapped = map_file(self._shard.path, self._shard.size)
            self._hash(self._mapped)
        except Exception as error:  # whoever asks for the digest is told
            self._found.set_exception(error)
            return True
        if self.rest():
            return False
        self._mapped.close()
        self._found.set_result(self._digest.hexdigest())
        return True

    def _hash(self, mapped: mmap.mmap) -> None:
        start, end = self._done, min(self._done + CHUNK, self._shard.size)
        read_ahead(mapped, start, min(end + CHUNK, self._shard.size))
        with memoryview(mapped) as view, view[start:end] as part:
            self._digest.update(part)
        forget_pages(mapped, start, end)
        self._done = end


def joint_digest(files: Iterable[tuple[str, str]]) -> str:
    """One digest of a checkpoint: sha256 over the sorted lines "name sha256" of its weight files."""
    lines = sorted(f"{name} {digest}\n" for name, digest in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
