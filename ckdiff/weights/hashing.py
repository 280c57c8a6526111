"""sha256 of weight files, computed in threads beside the arithmetic.

Only the standard library is used, so that hashing starts before anything heavy is imported; OpenSSL's code releases
the interpreter while it works.
"""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from ckdiff.weights.crew import core_count
from ckdiff.weights.pages import forget_pages, map_file, read_ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from ckdiff.weights.headers import Shard

CHUNK = 1 << 23


class ShardHasher:
    """Hashes files in the background from the moment it is made; a file that is named twice is hashed once.

    `known` gives the digest of a file that somebody has hashed already, or None; of `threads` 0 means one a core.
    """

    def __init__(
        self, shards: Iterable[Shard], known: Callable[[Path], str | None] | None = None, threads: int = 0
    ) -> None:
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(threads or core_count(), thread_name_prefix="sha256")
        self._digests: dict[Path, Future[str]] = {}
        for shard in shards:
            if shard.path not in self._digests:
                self._digests[shard.path] = self._begin(shard, None if known is None else known(shard.path))

    def digest(self, shard: Shard) -> str:
        """The file's sha256 in hexadecimal; waits for it.

        Raises:
            CheckpointError: the file could not be read, or changed size.
        """
        return self._digests[shard.path].result()

    def close(self) -> None:
        """Stop what is still running; digests that are not finished are lost."""
        self._stop.set()
        self._pool.shutdown(cancel_futures=True)

    def _begin(self, shard: Shard, known: str | None) -> Future[str]:
        if known is None:
            return self._pool.submit(self._hash, shard)
        found: Future[str] = Future()
        found.set_result(known)
        return found

    def _hash(self, shard: Shard) -> str:
        digest = hashlib.sha256()
        with map_file(shard.path, shard.size) as mapped, memoryview(mapped) as view:
            for start in range(0, shard.size, CHUNK):
                if self._stop.is_set():
                    break
                read_ahead(mapped, start, min(start + 2 * CHUNK, shard.size))
                with view[start : start + CHUNK] as part:
                    digest.update(part)
                forget_pages(mapped, start, min(start + CHUNK, shard.size))
        return digest.hexdigest()


def joint_digest(files: Iterable[tuple[str, str]]) -> str:
    """One digest of a checkpoint: sha256 over the sorted lines "name sha256" of its weight files."""
    lines = sorted(f"{name} {digest}\n" for name, digest in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()
