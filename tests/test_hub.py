from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import save_file

from ckdiff.errors import CheckpointError
from ckdiff.hub import TEMPLATES_AND_CODE, WEIGHTS_AND_SETTINGS, download, parse_hub_id
from ckdiff.weights.opening import open_checkpoint

if TYPE_CHECKING:
    from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache as huggingface_hub lays it out, with one model in it, and no way out to the network."""
    repo = tmp_path / "hub" / "models--org--name"
    snapshot = repo / "snapshots" / COMMIT
    for folder in (repo / "blobs", repo / "refs", snapshot):
        folder.mkdir(parents=True)
    (repo / "refs" / "main").write_text(COMMIT)
    save_file({"w": np.arange(4, dtype=np.float32)}, repo / "blobs" / "aa")
    (repo / "blobs" / "bb").write_text(json.dumps({"model_type": "llama"}))
    (snapshot / "model.safetensors").symlink_to("../../blobs/aa")
    (snapshot / "config.json").symlink_to("../../blobs/bb")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    return repo


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("org/name", ("org/name", None)),
        ("org/name@main", ("org/name", "main")),
        ("org/name@refs/pr/1", ("org/name", "refs/pr/1")),
        ("gpt2@v1", ("gpt2", "v1")),
        ("hf://gpt2", ("gpt2", None)),
        ("hf://org/name", ("org/name", None)),
        ("hf://org/name@v1", ("org/name", "v1")),
        ("hf:/org/name@v1", ("org/name", "v1")),
        ("hf://datasets/name", None),
        ("hf://datasets/org/name", None),
        ("hf://org/name/model.safetensors", None),
        ("hf://", None),
        ("gpt2", None),
        ("./org/name", None),
        ("/org/name", None),
        ("../name", None),
        ("a/b/c", None),
        ("org/x.safetensors", None),
        ("org/model.safetensors.index.json", None),
        ("org/name@", None),
        ("org/na me", None),
        ("org/name\n", None),
        ("", None),
    ],
)
def test_parse_hub_id(text: str, expected: tuple[str, str | None] | None) -> None:
    assert parse_hub_id(text) == expected


@pytest.mark.parametrize("text", ["org/name", "org/name@main", f"org/name@{COMMIT}", "hf://org/name@main"])
def test_opens_a_cached_model_and_names_its_commit(cache: Path, text: str) -> None:
    checkpoint = open_checkpoint(text)
    assert (checkpoint.location, checkpoint.revision) == ("org/name", COMMIT)
    assert checkpoint.config == {"model_type": "llama"}
    assert checkpoint.shapes() == {"w": (4,)}


def test_a_path_that_exists_is_never_a_hub_id(cache: Path, tmp_path: Path) -> None:
    local = tmp_path / "org" / "name"
    local.mkdir(parents=True)
    save_file({"v": np.zeros(1, np.float32)}, local / "model.safetensors")
    checkpoint = open_checkpoint("org/name")
    assert (checkpoint.location, checkpoint.revision) == (str(local), None)


@pytest.mark.parametrize("text", ["org/missing", "org/name@v9", "org/na--me", "gpt2@main"])
def test_what_is_not_there_is_one_line(cache: Path, text: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(text)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["hf://datasets/org/name", "hf://org/name/model.safetensors", "hf://"])
def test_what_is_no_model_of_the_hub_says_how_to_write_one(cache: Path, text: str) -> None:
    with pytest.raises(CheckpointError, match=r"is no model of the hub; write hf://org/name@revision"):
        open_checkpoint(text)


def test_no_network_is_one_line(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{filename}")
    with pytest.raises(CheckpointError) as caught:
        download("org/missing", None)
    assert "network" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_snapshot_link_that_leaves_the_cache_is_refused(cache: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.safetensors"
    save_file({"w": np.zeros(1, np.float32)}, outside)
    link = cache / "snapshots" / COMMIT / "model.safetensors"
    link.unlink()
    link.symlink_to(outside)
    with pytest.raises(CheckpointError, match="leaves the directory"):
        open_checkpoint("org/name")


def test_pickles_are_never_asked_for() -> None:
    asked = (*WEIGHTS_AND_SETTINGS, *TEMPLATES_AND_CODE)
    assert not any(pattern.endswith((".bin", ".pt", ".pth", ".ckpt", ".pkl", "*")) for pattern in asked)


def linked(cache: Path, folder: Path, blob: str) -> Path:
    """A folder as `hf download --local-dir` with links makes it, its files in the cache under their digest."""
    folder.mkdir()
    (cache / "blobs" / "aa").rename(cache / "blobs" / blob)
    (folder / "model.safetensors").symlink_to(cache / "blobs" / blob)
    return folder


@pytest.mark.parametrize("blob", ["ab" * 32, "ab" * 20])
def test_a_download_of_links_into_the_cache_is_read(cache: Path, tmp_path: Path, blob: str) -> None:
    assert open_checkpoint(str(linked(cache, tmp_path / "mine", blob))).shapes() == {"w": (4,)}


@pytest.mark.parametrize("blob", ["secret", "ab" * 33, "AB" * 20])
def test_a_link_to_anything_else_is_still_refused(cache: Path, tmp_path: Path, blob: str) -> None:
    with pytest.raises(CheckpointError, match="leaves the directory"):
        open_checkpoint(str(linked(cache, tmp_path / "mine", blob)))


def test_a_link_to_a_snapshots_own_file_is_read(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    copied = cache / "snapshots" / COMMIT / "copied.safetensors"
    copied.write_bytes((cache / "blobs" / "aa").read_bytes())
    (tmp_path / "mine" / "model.safetensors").symlink_to(copied)
    assert open_checkpoint(str(tmp_path / "mine")).shapes() == {"w": (4,)}
