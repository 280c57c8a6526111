"""Files that are written whole or not at all, and what writers leave that were killed."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest

from ckdiff.audit.signing import KeyFileError, new_key
from ckdiff.campaign.records import CampaignError
from ckdiff.campaign.run.store import Store, open_store
from ckdiff.files import beside, create_file, is_left_behind, scratch, stage

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def gone() -> int:
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        return process.pid


def left_by(path: Path, process: int) -> Path:
    """What another process would have left beside a file."""
    name = beside(path).name
    place = path.with_name(name.replace(f"-{os.getpid():x}-", f"-{process:x}-"))
    place.write_bytes(b"ha")
    return place


def test_a_new_file_is_whole_and_never_takes_the_place_of_another(
    tmp_path: Path, gone: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "k.pem"
    left_by(path, gone)
    create_file(path, b"one", 0o600)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileExistsError):
        create_file(path, b"two")
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"one", ["k.pem"])

    def refuse(*given: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    create_file(tmp_path / "other", b"three")
    with pytest.raises(FileExistsError):
        create_file(path, b"two")
    assert sorted(os.listdir(tmp_path)) == ["k.pem", "other"]
    assert (tmp_path / "other").read_bytes() == b"three"


def test_what_is_hidden_meanwhile_may_lie_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, seen = tmp_path / "model", []
    folder.mkdir()
    link = os.link

    def look(*given: Path) -> None:
        seen.append(sorted(os.listdir(folder)))
        link(*given)

    monkeypatch.setattr(os, "link", look)
    create_file(folder / "model.sig", b"one", aside=tmp_path / "model.sig")
    assert (seen, os.listdir(folder), os.listdir(tmp_path)) == ([[]], ["model.sig"], ["model"])
    create_file(folder / "other", b"two", aside=tmp_path / "nowhere" / "other")
    assert (folder / "other").read_bytes() == b"two"


def test_no_half_of_a_new_file_stays_where_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space"):
        create_file(tmp_path / "k.pem", b"one")
    assert os.listdir(tmp_path) == []


def test_what_raises_leaves_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "r.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), stage(path) as place:
        assert place.write_text("new") // 0
    assert (path.read_text(), os.listdir(tmp_path)) == ("old", ["r.txt"])
    with stage(path) as place:
        place.write_text("new")
    assert (path.read_text(), os.listdir(tmp_path)) == ("new", ["r.txt"])


def test_a_scratch_directory_goes_and_takes_along_those_of_killed_processes(
    tmp_path: Path, gone: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead = left_by(tmp_path / "ckdiff", gone)
    dead.unlink()
    dead.mkdir()
    with scratch() as alive, scratch() as other:
        assert sorted(os.listdir(tmp_path)) == sorted([alive.name, other.name])
        assert alive.stat().st_mode & 0o777 == 0o700
    assert os.listdir(tmp_path) == []


def test_a_campaign_sweeps_what_a_killed_job_left(tmp_path: Path, gone: int) -> None:
    (tmp_path / "jobs").mkdir()
    dead = left_by(tmp_path / "jobs" / "a.h5", gone)
    mine = beside(tmp_path / "jobs" / "b.h5")
    mine.write_bytes(b"ha")
    assert (is_left_behind(dead), is_left_behind(mine), is_left_behind(tmp_path)) == (True, False, False)
    Store(tmp_path).tidy()
    assert os.listdir(tmp_path / "jobs") == [mine.name]


def test_a_results_directory_of_a_disk_that_was_full_belongs_to_its_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", refuse)
        with pytest.raises(CampaignError, match="cannot be written to"):
            open_store(tmp_path / "results", "many")
    assert os.listdir(tmp_path / "results") == []
    open_store(tmp_path / "results", "many")
    assert sorted(os.listdir(tmp_path / "results")) == ["base", "campaign.json", "jobs", "running"]


def test_half_a_pair_of_keys_says_how_to_make_the_other(tmp_path: Path, gone: int) -> None:
    new_key(tmp_path / "k.pem")
    with pytest.raises(KeyFileError, match=r"a key is never replaced; name another file$"):
        new_key(tmp_path / "k.pem")
    (tmp_path / "k.pem.pub").unlink()
    left_by(tmp_path / "k.pem.pub", gone)
    with pytest.raises(KeyFileError, match="or make its missing public half: openssl pkey -in KEY -pubout"):
        new_key(tmp_path / "k.pem")
    assert os.listdir(tmp_path) == ["k.pem"]
