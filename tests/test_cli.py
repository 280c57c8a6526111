"""The command line as a script sees it: exit status, stdout, stderr, and the file that is or is not there."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ckdiff.cli.app import run
from ckdiff.cli.console import busy_text, remark
from tests.checkpoints import llama, save

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def ckdiff(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        status = run([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    tensors = llama()
    tensors["model.layers.1.mlp.down_proj.weight"][2, 3] += 0.25
    return save(tmp_path / "base", llama()), save(tmp_path / "unlearned", tensors)


def test_compare_writes_a_report_that_show_shows(ckdiff: Run, pair: tuple[Path, Path], tmp_path: Path) -> None:
    status, out, err = ckdiff("compare", *pair)
    assert status == 0
    assert "value_vectors" in out
    assert "ckdiff.h5" in err
    assert ckdiff("show", tmp_path / "ckdiff.h5")[:2] == (0, out)


def test_json_is_the_tree_of_the_design(ckdiff: Run, pair: tuple[Path, Path]) -> None:
    status, out, _ = ckdiff("compare", *pair, "--format", "json")
    tree = json.loads(out)
    assert status == 0
    assert tree["schema_version"] == 1
    assert {"tensors", "components", "only_in_base", "only_in_unlearned", "shape_mismatch", "config_changes"} <= set(
        tree["compare"]
    )
    changed = [row for row in tree["compare"]["tensors"] if not row["identical"]]
    assert [row["name"] for row in changed] == ["model.layers.1.mlp.down_proj.weight"]


@pytest.mark.parametrize("kind", ["csv", "md", "json", "table"])
def test_every_format_of_show_is_that_of_compare(ckdiff: Run, pair: tuple[Path, Path], kind: str) -> None:
    _, first, _ = ckdiff("compare", *pair, "-q", "--format", kind)
    assert ckdiff("show", "ckdiff.h5", "--format", kind) == (0, first, "")


def test_two_runs_give_the_same_bytes(ckdiff: Run, pair: tuple[Path, Path], tmp_path: Path) -> None:
    for name in ("one.h5", "two.h5"):
        assert ckdiff("compare", *pair, "-o", name)[0] == 0
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()


def test_exit_code_says_whether_they_differ(ckdiff: Run, pair: tuple[Path, Path]) -> None:
    assert ckdiff("compare", *pair, "--exit-code")[0] == 1
    assert ckdiff("compare", pair[0], pair[0], "--exit-code", "-o", "same.h5")[0] == 0


def test_nothing_in_common_is_inconclusive(ckdiff: Run, tmp_path: Path) -> None:
    a = save(tmp_path / "a", {"x": llama()["lm_head.weight"]})
    b = save(tmp_path / "b", {"y": llama()["lm_head.weight"]})
    status, out, _ = ckdiff("compare", a, b)
    assert status == 3
    assert "NOTHING WAS COMPARED" in out.upper()
    assert "hold the same values" not in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("compare", "nowhere", "base"), "nowhere: does not exist"),
        (("compare", "base/nowhere", "base"), "base/nowhere: does not exist"),
        (("compare", "base", "base", "-o", "/proc/ckdiff.h5"), "/proc"),
        (("compare", "base"), "unlearned"),
        (("compare", "base", "base", "--format", "xml"), "xml"),
        (("compare", "base", "base", "-o", "no/such/directory/x.h5"), "no/such/directory"),
        (("compare", "base", "base", "-o", "base"), "base"),
        (("show", "nowhere.h5"), "nowhere.h5"),
        (("show", "base/config.json"), "config.json"),
        (("inspect", "base/config.json"), "config.json"),
        (("frobnicate",), "frobnicate"),
        (("compare", "base", "base", "--frobnicate"), "frobnicate"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_a_user_can_cause_is_one_line_and_status_2(
    ckdiff: Run, pair: tuple[Path, Path], tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    status, out, err = ckdiff(*arguments)
    assert (status, out) == (2, "")
    assert words in err
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert not list(tmp_path.glob("*.h5*"))


def test_a_damaged_checkpoint_leaves_an_old_report_alone(ckdiff: Run, pair: tuple[Path, Path], tmp_path: Path) -> None:
    assert ckdiff("compare", *pair)[0] == 0
    before = (tmp_path / "ckdiff.h5").read_bytes()
    weights = pair[1] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    status, _, err = ckdiff("compare", *pair)
    assert status == 2
    assert "model.safetensors: truncated" in err
    assert (tmp_path / "ckdiff.h5").read_bytes() == before


def test_a_report_of_another_pair_is_not_replaced_unasked(ckdiff: Run, pair: tuple[Path, Path], tmp_path: Path) -> None:
    assert ckdiff("compare", *pair)[0] == 0
    before = (tmp_path / "ckdiff.h5").read_bytes()
    assert ckdiff("compare", *pair)[0] == 0
    status, out, err = ckdiff("compare", pair[1], pair[0])
    assert (status, out) == (2, "")
    assert "another pair" in err
    assert "--overwrite" in err
    assert (tmp_path / "ckdiff.h5").read_bytes() == before
    assert ckdiff("compare", pair[1], pair[0], "--overwrite")[0] == 0
    assert (tmp_path / "ckdiff.h5").read_bytes() != before


def test_a_file_that_is_no_report_is_not_replaced_unasked(ckdiff: Run, pair: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("precious")
    status, _, err = ckdiff("compare", *pair, "-o", "notes.txt")
    assert status == 2
    assert "notes.txt" in err
    assert (tmp_path / "notes.txt").read_text() == "precious"


def test_a_terminal_without_unicode_gets_escapes(pair: tuple[Path, Path], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ckdiff", "compare", *map(str, pair)]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PYTHONIOENCODING": "ascii"}
    )
    assert done.returncode == 0, done.stderr
    assert "\\u" in done.stdout


def test_control_characters_in_names_do_not_reach_the_terminal(ckdiff: Run, tmp_path: Path) -> None:
    evil = "model.\x1b[31mevil\n\u202egnp.weight"
    a = save(tmp_path / "a", {evil: llama()["lm_head.weight"]})
    b = save(tmp_path / "b", {evil: llama(1)["lm_head.weight"]})
    for kind in ("table", "csv", "md", "json"):
        status, out, err = ckdiff("compare", a, b, "--format", kind)
        assert status == 0, err
        assert not {"\x1b", "\u202e"} & set(out + err)


def test_inspect_reads_headers_only(ckdiff: Run, pair: tuple[Path, Path]) -> None:
    status, out, _ = ckdiff("inspect", pair[0])
    assert status == 0
    for word in ("value_vectors", "keys", "unembedding", "1 file"):
        assert word in out


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["show", "report.h5"], ["compare", "base", "unlearned"]]
)
def test_neither_torch_nor_transformers_is_imported(
    pair: tuple[Path, Path], tmp_path: Path, arguments: list[str]
) -> None:
    assert run(["compare", str(pair[0]), str(pair[1]), "-q", "-o", str(tmp_path / "report.h5")]) == 0
    code = (
        "import sys; from ckdiff.cli.app import run; status = run(sys.argv[1:]);"
        "heavy = {'torch', 'transformers', 'matplotlib', 'huggingface_hub'} & set(sys.modules);"
        "sys.exit(status or bool(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_hashing_begins_before_anything_heavy_is_imported(pair: tuple[Path, Path], tmp_path: Path) -> None:
    code = (
        "import sys; from ckdiff.weights.hashing import ShardHasher; begin, heavy = ShardHasher.__init__, []\n"
        "def noted(self, *arguments, **named):\n"
        "    heavy.append({'numpy', 'h5py', 'rich', 'ckdiff.report.schema'} & set(sys.modules))\n"
        "    begin(self, *arguments, **named)\n"
        "ShardHasher.__init__ = noted; from ckdiff.cli.app import run; status = run(sys.argv[1:])\n"
        "sys.exit(status or heavy != [set()])"
    )
    arguments = ["compare", str(pair[0]), str(pair[1]), "-q"]
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_help_imports_no_numpy(tmp_path: Path) -> None:
    code = "import sys; from ckdiff.cli.app import run; run(['--help']); "
    code += "sys.exit(bool({'numpy', 'h5py'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0


def test_a_closed_pipe_is_no_error(pair: tuple[Path, Path], tmp_path: Path) -> None:
    command = f"{sys.executable} -m ckdiff compare {pair[0]} {pair[1]} | head -c 10"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    assert (tmp_path / "ckdiff.h5").exists()


def test_interrupt_leaves_nothing_behind(tmp_path: Path) -> None:
    """Ctrl-C while a comparison runs: one line, no report, no temporary file."""
    import numpy as np

    tensors = {"model.embed_tokens.weight": np.ones((20_000, 1000), np.float32)}
    a, b = save(tmp_path / "a", tensors), save(tmp_path / "b", {key: value * 2 for key, value in tensors.items()})
    work = tmp_path / "work"
    work.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "ckdiff", "compare", str(a), str(b)],
        cwd=work,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    # Mapping of the weights is the sign that the work has begun.
    maps, deadline = Path(f"/proc/{process.pid}/maps"), time.monotonic() + 30
    while "model.safetensors" not in maps.read_text() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    left = [item.name for item in work.iterdir()]
    if process.returncode in (130, -signal.SIGINT):
        assert err == "ckdiff: interrupted\n"
    else:
        # It was quicker than the signal.
        assert process.returncode == 0
    assert left in ([], ["ckdiff.h5"])
    for name in left:
        assert run(["show", str(work / name)]) == 0


def test_a_remark_in_the_midst_of_a_remark_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a signal makes it, whose handler cannot use the buffer that the line it came into is being written through."""
    source, sink = os.pipe()

    class Interrupted(io.RawIOBase):
        """Asks for a remark while it writes its first one."""

        told = False

        def writable(self) -> bool:
            return True

        def fileno(self) -> int:
            return sink

        def write(self, data: Any) -> int:
            if not self.told:
                self.told = True
                remark("stopping")
            return os.write(sink, data)

    monkeypatch.setattr("sys.stderr", io.TextIOWrapper(io.BufferedWriter(Interrupted()), line_buffering=True))
    remark("step 2")
    remark("step 3")
    os.close(sink)
    with open(source, encoding="utf-8") as said:
        assert said.read().splitlines() == ["stopping", "step 2", "step 3"]


def test_a_time_that_was_measured_on_a_busy_machine_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ckdiff.weights.crew.core_count", lambda: 4)
    for load, busy in ((2.9, False), (3.0, False), (3.1, True)):
        monkeypatch.setattr("os.getloadavg", lambda load=load: (load, 9.0, 9.0))
        assert busy_text() == ("; measured while the machine was busy: expect less" if busy else "")
