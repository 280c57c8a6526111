"""Every way out of every command is an exit status of ours, whatever was raised on the way."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from ckdiff.cli.app import run
from ckdiff.errors import CheckpointError, CkdiffError
from ckdiff.probes.live.pretrained import load_tokenizer
from tests.tokenizer_kinds import KINDS

if TYPE_CHECKING:
    from pathlib import Path


class PanicException(BaseException):
    """As pyo3 raises it where Rust panics."""


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (PanicException("index out of bounds"), 4),
        (SystemExit(1), 4),
        (GeneratorExit(), 4),
        (RecursionError("too deep"), 4),
        (ValueError("a bug"), 4),
        (MemoryError(), 2),
        (OSError(36, "File name too long", "a" * 300), 2),
        (OSError(28, "No space left on device"), 2),
        (OSError(2, "No such file or directory", "of our own"), 4),
        (OSError(9, "Bad file descriptor"), 4),
        (CkdiffError("mend it"), 2),
        (KeyboardInterrupt(), 130),
    ],
)
def test_whatever_is_raised(
    raised: BaseException, status: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object, **__: object) -> Any:
        raise raised

    monkeypatch.setattr("ckdiff.report.hdf5.file.read_any", broken)
    assert run(["show", "r.h5"]) == status
    assert capfd.readouterr().err


@pytest.mark.parametrize("stderr", ["/dev/full", "closed"])
def test_a_stderr_that_takes_nothing_changes_no_status(stderr: str, tmp_path: Path) -> None:
    where = "2>&-" if stderr == "closed" else f"2>{stderr}"
    command = f'"{sys.executable}" -m ckdiff show "{tmp_path}/none.h5" {where}'
    assert subprocess.run(command, shell=True, timeout=60).returncode == 2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "model"
    place.mkdir()
    KINDS["bytes"].save(place)
    return place


def test_a_tokenizer_that_panics_is_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoTokenizer

    def panic(*_: object, **__: object) -> Any:
        raise PanicException("called `Option::unwrap()`")

    found = load_tokenizer(folder)
    whole = found("who")["input_ids"]
    assert found.decode(whole)
    monkeypatch.setattr(type(found), "_encode_plus", panic)
    with pytest.raises(CheckpointError, match=r"its tokenizer breaks down on a text \(PanicException: called"):
        load_tokenizer(folder)("who")
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", panic)
    with pytest.raises(CheckpointError, match=r"its tokenizer cannot be read \(PanicException: called"):
        load_tokenizer(folder)


def test_a_tokenizer_lies_inside_its_checkpoint(folder: Path, tmp_path: Path) -> None:
    """By a link, or by a path in its config: the rule of weights and configs."""
    secret = tmp_path / "secret.txt"
    secret.write_text("root:x:0:0\n")
    config = folder / "tokenizer_config.json"
    settings = json.loads(config.read_text())
    for value in (str(secret), "/nowhere/vocab.txt"):
        config.write_text(json.dumps(settings | {"vocab_file": value, "tokenizer_file": str(secret)}))
        if value == str(secret):
            with pytest.raises(CheckpointError, match="leaves the directory; refused"):
                load_tokenizer(folder)
        else:
            assert load_tokenizer(folder) is not None
    config.write_text(json.dumps(settings))
    for name in ("vocab.txt", "chat_template.jinja", "extra.model"):
        (folder / name).symlink_to(secret)
        with pytest.raises(CheckpointError, match="leaves the directory; refused"):
            load_tokenizer(folder)
        (folder / name).unlink()
    assert load_tokenizer(folder) is not None
