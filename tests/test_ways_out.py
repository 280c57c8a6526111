"""Every way out of every command is an exit status of ours, whatever was raised on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ckdiff.audit.gate.policy import read_policy
from ckdiff.audit.signing import SignatureError, open_envelope, private_key, public_key
from ckdiff.cli.app import run
from ckdiff.errors import CheckpointError, CkdiffError
from ckdiff.files import beside, replace_file
from ckdiff.probes.live.budget import SECONDS, Budget, length_of
from ckdiff.probes.live.pretrained import config_of, load_tokenizer
from ckdiff.weights.around import check_growth
from ckdiff.weights.lora import pattern_value
from ckdiff.weights.opening import open_checkpoint
from tests.checkpoints import llama, save
from tests.tokenizer_kinds import KINDS


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


# ------------------------------------------------------------------------------- small files that hang or fill memory


@pytest.mark.parametrize("pattern", ["(a+)+$", "(?:a|a)*b", "(a|b){1,9}", "a*a*a*b", r"(a)\1", "(?=a)a", "a" * 1001])
def test_a_pattern_of_an_adapter_ends(pattern: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="may match without end"):
        pattern_value(tmp_path, {pattern: 4}, "a" * 60, 8)


def test_patterns_that_adapters_have(tmp_path: Path) -> None:
    for pattern in (
        "up_proj",
        r"layers\.\d+\.mlp\.up_proj",
        ".*up_proj",
        r"layers\.(0|1)\.mlp\.up_proj",
        "[a-z]+.up_proj",
    ):
        assert pattern_value(tmp_path, {pattern: 4}, "model.layers.1.mlp.up_proj", 8) == 4
    with pytest.raises(CheckpointError, match="may match without end"):
        pattern_value(tmp_path, {"a+": 4}, "a" * 401, 8)
    assert pattern_value(tmp_path, {"b": 4}, "a" * 401, 8) == 8


def test_a_tokenizer_that_makes_a_short_text_long(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "tokenizer.json"
    whole = json.loads(path.read_text())

    def double(times: int) -> dict[str, Any]:
        step = {"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}
        return {"type": "Sequence", "normalizers": [step] * times}

    for normalizer, words in (
        ({"type": "Prepend", "prepend": "a" * 10_001}, "puts in more than 10000 characters"),
        (double(10), "makes of a text more than 1000 times that"),
        ({"type": "Sequence", "normalizers": [{"type": "NFC"}] * 100}, "makes of a text more than 1000 times that"),
        (double(9), ""),
        ({"type": "Prepend", "prepend": "a" * 10_000}, ""),
    ):
        path.write_text(json.dumps(whole | {"normalizer": normalizer}))
        if words:
            with pytest.raises(CheckpointError, match=words):
                load_tokenizer(folder)
        else:
            assert load_tokenizer(folder) is not None
    path.write_text(
        json.dumps(whole | {"normalizer": {"type": "Replace", "pattern": {"String": True}, "content": "a"}})
    )
    with pytest.raises(CheckpointError, match="its tokenizer cannot be read"):
        load_tokenizer(folder)
    path.write_text(json.dumps({"normalizer": {"type": "Precompiled", "precompiled_charsmap": "A" * 300_000}}))
    check_growth(folder)
    path.write_text(json.dumps(whole))
    monkeypatch.setattr("ckdiff.weights.around.MOST_WORDS", 5)
    with pytest.raises(CheckpointError, match="more than 5 words"):
        load_tokenizer(folder)


def test_a_pattern_of_a_tokenizer_that_takes_too_long(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "tokenizer.json"
    whole = json.loads(path.read_text())
    slow, text = {"Regex": "a*a*a*a*z"}, "a" * 100 + "bz"
    monkeypatch.setattr("ckdiff.probes.live.budget.SECONDS", 0.0)
    for part, step in (
        ("pre_tokenizer", {"type": "Split", "pattern": slow, "behavior": "Isolated", "invert": False}),
        ("normalizer", {"type": "Replace", "pattern": slow, "content": "x"}),
    ):
        path.write_text(json.dumps(whole | {part: step}))
        with pytest.raises(CheckpointError, match="a pattern of it takes too long on a text of 102 characters"):
            load_tokenizer(folder)(text)
    path.write_text(json.dumps(whole | {"decoder": {"type": "Replace", "pattern": slow, "content": "x"}}))
    with pytest.raises(CheckpointError, match=r"decoder: .* may match without end"):
        load_tokenizer(folder)


def test_texts_bring_the_time_that_they_may_take() -> None:
    budget = Budget("t")
    assert budget.run(lambda: 7, 5_000) == 7
    assert SECONDS < budget.left < SECONDS + 0.5
    budget.left = -1.0
    assert budget.run(lambda: 7, 10_000_000) == 7
    with pytest.raises(ZeroDivisionError):
        budget.run(lambda: 1 / 0, 0)
    assert length_of([["ab", "c"], ("d",), None, 5, "ef"]) == 6


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ({"num_labels": 10**9}, "num_labels"),
        ({"vocab_size": (1 << 24) + 1}, "vocab_size"),
        ({"head_dim": 2**31 - 1}, "head_dim"),
        ({"max_position_embeddings": 1 << 41}, "max_position_embeddings"),
        ({"rope_scaling": {"factor": -(1 << 41)}}, "factor"),
        ({"eos_token_id": 10**400}, "eos_token_id"),
    ],
)
def test_numbers_of_a_config_are_bounded_before_anything_is_built(
    settings: dict[str, Any], key: str, tmp_path: Path
) -> None:
    checkpoint = open_checkpoint(str(save(tmp_path / "model", llama(layers=1), **settings)))
    with pytest.raises(CheckpointError, match=f'config.json: "{key}" is .*, more than'):
        config_of(checkpoint)


def test_a_header_of_a_million_tensors_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = save(tmp_path / "model", llama(layers=1), shards=2)
    count = len(llama(layers=1))
    monkeypatch.setattr("ckdiff.weights.reader.MOST_TENSORS", count)
    open_checkpoint(str(place))
    monkeypatch.setattr("ckdiff.weights.reader.MOST_TENSORS", count - 1)
    with pytest.raises(CheckpointError, match=f"names {count} tensors"):
        open_checkpoint(str(place))
    monkeypatch.setattr("ckdiff.weights.headers.MOST_TENSORS", 1)
    with pytest.raises(CheckpointError, match="more than 1 tensors in one header"):
        open_checkpoint(str(place / "model-00001-of-00002.safetensors"))


def test_a_shard_of_a_name_that_is_too_long(tmp_path: Path) -> None:
    place = save(tmp_path / "model", llama(layers=1), shards=2)
    for name in ("a" * 300 + ".safetensors", "a/" * 3000 + "b"):
        (place / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": name}}))
        with pytest.raises(CheckpointError, match="cannot be followed; mend the link"):
            open_checkpoint(str(place))


@pytest.mark.parametrize("what", ["policy", "key", "public", "envelope"])
def test_pipes_and_devices_are_no_files(what: str, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: dict[str, Any] = {
        "policy": read_policy,
        "key": private_key,
        "public": public_key,
        "envelope": lambda path: open_envelope(path, "k", None),  # type: ignore[arg-type]
    }
    for place in (pipe, Path("/dev/zero")):
        with pytest.raises((CkdiffError, SignatureError), match="not a regular file"):
            read[what](place)


# -------------------------------------------------------------------------------------------- what killed writers leave


def test_the_next_writer_sweeps_what_a_killed_one_left(tmp_path: Path) -> None:
    """Of a process that is gone, on this machine, of this file; and of nobody else."""
    target = tmp_path / "r.h5"
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    mine = beside(target)
    dead = mine.with_name(mine.name.replace(f"-{os.getpid():x}-", f"-{gone.pid:x}-"))
    other = dead.with_name(dead.name.replace("r.h5", "s.h5"))
    machine = mine.name.split(".")[-2].split("-")[0]
    elsewhere = dead.with_name(dead.name.replace(machine, "00000000"))
    for path in (mine, dead, other, elsewhere):
        path.write_bytes(b"")
    replace_file(target, b"whole")
    assert {path.name for path in tmp_path.iterdir()} == {"r.h5", mine.name, other.name, elsewhere.name}


def test_help_that_nobody_reads_to_the_end_is_no_bug() -> None:
    command = [sys.executable, "-m", "ckdiff", "probe", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 0


STOPPED_AT = """
import os, sys
from ckdiff.cli.app import main

class Finder:
    def find_spec(name, path, target=None):
        if name == sys.argv[1]:
            sys.meta_path.remove(Finder)
            os.kill(os.getpid(), int(sys.argv[2]))

sys.meta_path.insert(0, Finder)
main(["gate", "none.h5", "--format", sys.argv[3]])
"""


@pytest.mark.parametrize(
    ("module", "number", "kind"),
    [
        ("ckdiff.cli.console", signal.SIGTERM, "junit"),
        ("typer.main", signal.SIGINT, "md"),
        ("ckdiff.untrusted", signal.SIGTERM, "junit"),
        ("tomllib", signal.SIGINT, "junit"),
        ("numpy._core.multiarray", signal.SIGTERM, "junit"),
    ],
)
def test_a_stop_while_something_is_imported_is_said(module: str, number: int, kind: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", STOPPED_AT, module, str(int(number)), kind]
    heeds = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, preexec_fn=heeds)
    assert (done.returncode, done.stderr.strip()) == (130, "ckdiff: interrupted")
    assert ("<error" if kind == "junit" else "There is no result") in done.stdout


def test_what_is_told_to_ignore_a_stop_ignores_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", STOPPED_AT, "typer.main", str(int(signal.SIGINT)), "junit"]
    deaf = partial(signal.signal, signal.SIGINT, signal.SIG_IGN)
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, preexec_fn=deaf).returncode == 2
