"""Digests in threads: right whatever their number, shared out fairly, and gone after a stop or an error."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING

import pytest

from ckdiff.errors import CheckpointError
from ckdiff.weights import hashing
from ckdiff.weights.hashing import ShardHasher
from ckdiff.weights.headers import Shard

if TYPE_CHECKING:
    from pathlib import Path

PIECE = 1 << 14


def shards(folder: Path, *pieces: float) -> list[Shard]:
    """Files of so many pieces each."""
    found = []
    for number, count in enumerate(pieces):
        path = folder / f"{number}.safetensors"
        path.write_bytes(bytes([number]) * int(PIECE * count))
        found.append(Shard(path, path.name, path.stat().st_size, {}))
    return found


def plain(shard: Shard) -> str:
    return hashlib.sha256(shard.path.read_bytes()).hexdigest()


def at_work() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("sha256")]


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files of which pieces were taken, in their order."""
    taken: list[str] = []
    advance = hashing._File.advance

    def noted(file: hashing._File) -> bool:
        taken.append(file._shard.name[0])
        return advance(file)

    monkeypatch.setattr(hashing._File, "advance", noted)
    monkeypatch.setattr(hashing, "CHUNK", PIECE)
    return taken


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_digests_are_right_whatever_the_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int, beside: bool
) -> None:
    monkeypatch.setattr(hashing, "CHUNK", PIECE)
    files = shards(tmp_path, 3, 0.5, 4.25, 1, 2)
    hasher = ShardHasher([*files, files[0]], threads=threads, beside=beside)
    try:
        assert [hasher.digest(one) for one in files] == [plain(one) for one in files]
    finally:
        hasher.close()
    assert at_work() == []


def test_half_of_the_threads_are_left_to_other_work(tmp_path: Path) -> None:
    files = shards(tmp_path, 1, 1, 1)
    for threads, left in ((1, 1), (2, 1), (3, 2), (4, 2), (16, 13)):
        hasher = ShardHasher(files, threads=threads, beside=True)
        hasher.close()
        assert hasher.left == left
    known = ShardHasher(files, lambda path: "0" * 64, threads=4, beside=True)
    assert (known.left, known.digest(files[0])) == (4, "0" * 64)
    known.close()


def test_one_thread_alone_hashes_when_the_other_work_is_done(tmp_path: Path, order: list[str]) -> None:
    files = shards(tmp_path, 2)
    hasher = ShardHasher(files, threads=1, beside=True)
    assert (at_work(), order) == ([], [])
    assert hasher.digest(files[0]) == plain(files[0])
    assert order == ["0", "0"]
    hasher.close()


def test_pieces_are_taken_where_most_is_left_of_as_many_files_as_threads(tmp_path: Path, order: list[str]) -> None:
    files = shards(tmp_path, 2, 3, 1, 1)
    hasher = ShardHasher(files, threads=2, beside=True)  # one hashes, another may come
    try:
        for thread in hasher._threads:
            thread.join(10)
        assert "".join(order) == "1010123"
        assert [hasher.digest(one) for one in files] == [plain(one) for one in files]
    finally:
        hasher.close()


def test_who_hurries_gets_all_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both, alone = threading.Barrier(2), threading.Event()
    advance = hashing._File.advance

    def met(file: hashing._File) -> bool:
        alone.set()
        both.wait(10)  # broken unless two threads hash at once
        return advance(file)

    monkeypatch.setattr(hashing._File, "advance", met)
    files = shards(tmp_path, 1, 1)
    hasher = ShardHasher(files, threads=2, beside=True)
    try:
        assert alone.wait(10)
        assert len(at_work()) == 1
        hasher.hurry()
        assert [hasher.digest(one) for one in files] == [plain(one) for one in files]
    finally:
        hasher.close()


def test_a_file_that_cannot_be_read_is_said_and_the_others_are_hashed(tmp_path: Path) -> None:
    files = shards(tmp_path, 1, 1, 1)
    files[0].path.unlink()
    files[1].path.write_bytes(b"another size")
    hasher = ShardHasher(files, threads=1)
    try:
        for lost, reason in zip(files, ("cannot be mapped", "changed size"), strict=False):
            with pytest.raises(CheckpointError, match=reason):
                hasher.digest(lost)
        assert hasher.digest(files[2]) == plain(files[2])
    finally:
        hasher.close()


def test_a_stop_ends_within_a_piece(tmp_path: Path, order: list[str]) -> None:
    files = shards(tmp_path, 2000)
    hasher = ShardHasher(files)
    hasher.close()
    assert len(order) < 2000
    assert at_work() == []
