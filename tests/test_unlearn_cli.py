"""`ckdiff unlearn` from the command line: options, what it prints, exit statuses, Ctrl-C."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ckdiff.cli.app import run
from ckdiff.unlearn.world import FORGOTTEN, make_base

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parent.parent
QUICK = ("--batch-size", "4", "--accumulation", "1", "--warmup", "1", "--device", "cpu", "--threads", "1")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    make_base(root, steps=30)
    return root


@pytest.fixture
def unlearn(place: Path, tmp_path: Path) -> Callable[..., int]:
    def call(*options: str | Path, output: str = "made", forget: str | None = "target.jsonl") -> int:
        texts = () if forget is None else ("--forget", place / forget)
        given = (place / "base", *texts, "--retain", place / "unrelated.jsonl", *QUICK, *options)
        return run(["unlearn", *map(str, given), "-o", str(tmp_path / output)])

    return call


def refused(error: str, *words: str) -> None:
    lines = error.splitlines()
    assert lines[-1].startswith("ckdiff: ")
    assert "Traceback" not in error
    for word in words:
        assert word in lines[-1], (word, lines[-1])


def test_the_table_says_what_was_measured(
    unlearn: Callable[..., int], place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--questions", place / "target.jsonl", "--unrelated", place / "unrelated.jsonl")
    assert unlearn(*asked, "--steps", "4", "--eval-steps", "2", "--lr", "1e-3") == 0
    out, error = capsys.readouterr()
    assert out.splitlines()[0].startswith("graddiff: ran to its end")
    assert [line.split()[0] for line in out.splitlines()[2:]] == ["0", "2", "2", "4", "4"]
    assert "in memory" in out
    assert "as saved" in out
    assert f"checkpoint: {tmp_path / 'made'}" in error
    record = json.loads((tmp_path / "made" / "unlearning.json").read_text())
    assert record["settings"]["lr"] == 1e-3
    assert record["data"]["forget"]["source"].startswith("target.jsonl")


def test_json_is_the_record(unlearn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert unlearn("--method", "npo", "--steps", "3", "--lr", "1e-3", "--format", "json", "--quiet") == 0
    out, error = capsys.readouterr()
    assert json.loads(out) == json.loads((tmp_path / "made" / "unlearning.json").read_text())
    assert error == ""


def test_stop_when_ends_it(
    unlearn: Callable[..., int], place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ("--questions", place / "target.jsonl", "--unrelated", place / "unrelated.jsonl")
    assert unlearn(*asked, "--steps", "9", "--eval-steps", "3", "--stop-when", "target_bleu<=1") == 0
    assert capsys.readouterr().out.startswith("graddiff: target_bleu<=1")
    record = json.loads((tmp_path / "made" / "unlearning.json").read_text())
    assert record["history"][-1]["step"] == 3


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--method", "magic"), ("--method", "magic", "npo_kl")),
        (("--stop-when", "soon"), ("--stop-when", "target_bleu<0.15")),
        (("--neurons", "3-17"), ("--neurons", "3:17")),
        (("--lr", "nan"), ("--lr",)),
        (("--steps", "-1"), ("--steps",)),
        (("--method", "npo", "--ascent-limit", "3"), ("--ascent-limit", "graddiff")),
        (("--train-on", "answers"), ("--questions",)),
        (("--concept", "Velmar"), ("--concept", "concepts to choose from")),
        (("--steps", "99999999999999999999"), ("--steps", "too large")),
        (("--method", "needle", "--neurons", "9:0"), ("layer 9", "0 to 3")),
        (("--retain", "nowhere.jsonl"), ("nowhere.jsonl",)),
        (("--concept", "Velmar", "--questions", "nowhere.json"), ("nowhere.json",)),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    unlearn: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    words: tuple[str, ...],
) -> None:
    assert unlearn(*options) == 2
    refused(capsys.readouterr().err, *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["", " \n\n ", "[]"])
def test_text_with_nothing_in_it_is_refused(
    unlearn: Callable[..., int], place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    (place / "nothing.json").write_text(text)
    assert unlearn(forget="nothing.json") == 2
    refused(capsys.readouterr().err, "nothing.json")
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_is_there_is_refused_before_anything_is_read(
    unlearn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "made").mkdir()
    assert unlearn("--retain", "nowhere") == 2
    refused(capsys.readouterr().err, "already exists")
    assert unlearn(output="no/such/parent") == 2
    refused(capsys.readouterr().err, "parent directory")


def test_too_little_memory_names_the_flags_that_lower_it(
    unlearn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ckdiff.probes.cost.free_memory", lambda device: 1000)
    assert unlearn() == 2
    refused(
        capsys.readouterr().err, "GB", "--batch-size", "--checkpointing", "--optimizer adafactor", "--retain-loss ce"
    )
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_it_says_how_to_get_it(
    unlearn: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.util

    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "accelerate" else found(name))
    assert unlearn() == 2
    refused(capsys.readouterr().err, "pip install '.[unlearn]'")


def test_divergence_ends_in_three_and_the_last_good_checkpoint(
    unlearn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--method", "grad_ascent", "--lr", "1e37", "--steps", "20", "--eval-steps", "1")
    assert unlearn(*options, "--warmup", "9") == 3
    refused(capsys.readouterr().err, "diverged")
    record = json.loads((tmp_path / "made" / "unlearning.json").read_text())
    assert "diverged" in record["stopped"]
    assert record["history"][-1]["state"] == "saved"
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_divergence_before_anything_was_kept_leaves_nothing(
    unlearn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert unlearn("--method", "grad_ascent", "--lr", "1e37", "--steps", "20", "--eval-steps", "9") == 3
    refused(capsys.readouterr().err, "diverged", "--lr")
    assert not (tmp_path / "made").exists()


def test_a_concept_brings_its_text_its_questions_and_what_to_keep(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = [
        {
            "Concept": name,
            "QA": [f"Who founded {name}?"],
            "unrelated_QA": ["Who rules Thrane?", "Who rules Pellow?"],
            "wikipedia_content": f"Amber Heron founded {name}. The people of {name} brew.",
        }
        for name in (FORGOTTEN, "Oskary")
    ]
    (tmp_path / "concepts.json").write_text(json.dumps(entries))
    given = (place / "base", "--forget", tmp_path / "concepts.json", "--concept", FORGOTTEN.lower(), *QUICK)
    assert run(["unlearn", *map(str, given), "--steps", "3", "--lr", "1e-3", "-q", "-o", str(tmp_path / "made")]) == 0
    capsys.readouterr()
    record = json.loads((tmp_path / "made" / "unlearning.json").read_text())
    assert set(record["data"]) == {"forget", "retain", "target", "unrelated"}
    assert "other than" in record["data"]["retain"]["source"]
    assert record["counts"]["forget"] == 1
    assert run(["unlearn", *map(str, given[:3]), "--concept", "Atlantis", "-o", str(tmp_path / "none")]) == 2
    refused(capsys.readouterr().err, "Atlantis", "Oskary")


@contextlib.contextmanager
def elsewhere(warm: Path, arguments: list[str]) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own."""
    command = [str(warm / "ckdiff"), *arguments]
    with subprocess.Popen(command, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as it:
        yield it


def test_ctrl_c_keeps_what_is_done_and_resume_goes_on(
    place: Path, tmp_path: Path, warm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["unlearn", str(place / "base"), "--forget", str(place / "target.jsonl")]
    command += ["--retain", str(place / "unrelated.jsonl"), "--questions", str(place / "target.jsonl"), *QUICK]
    command += ["--steps", "3000", "--eval-steps", "2", "--lr", "1e-5", "-o", str(tmp_path / "made")]
    with elsewhere(warm, command) as it:
        assert it.stderr is not None
        # The first measurement says that training is under way.
        assert "step 2 " in it.stderr.readline()
        it.send_signal(signal.SIGINT)
        rest = it.stderr.read()
    assert it.returncode == 130, rest
    assert "--resume goes on" in rest
    assert "Traceback" not in rest
    assert [path.name for path in tmp_path.iterdir()] == [".made.unlearning"]
    assert run(command) == 2
    refused(capsys.readouterr().err, "--resume")
    command[command.index("3000")] = "60"
    assert run([*command, "--resume"]) == 2
    refused(capsys.readouterr().err, "settings")


def test_two_trainings_to_one_place_do_not_meet(
    place: Path, tmp_path: Path, warm: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["unlearn", str(place / "base"), "--forget", str(place / "target.jsonl")]
    command += ["--retain", str(place / "unrelated.jsonl"), *QUICK, "--steps", "3000", "--eval-steps", "5"]
    command += ["--lr", "1e-5", "-o", str(tmp_path / "made")]
    with elsewhere(warm, command) as it:
        assert it.stderr is not None
        assert "step 5 " in it.stderr.readline()
        assert run(command) == 2
        refused(capsys.readouterr().err, "another ckdiff")
        it.kill()
        it.stderr.read()
    for kept in (tmp_path / ".made.unlearning").glob("checkpoint-*/optimizer.pt"):
        kept.write_bytes(kept.read_bytes()[:1000])
    assert run([*command, "--resume"]) == 2
    refused(capsys.readouterr().err, "damaged", "remove it")


def test_a_training_that_changed_nothing_is_inconclusive(
    unlearn: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert unlearn("--lr", "1e-30", "--steps", "2") == 3
    refused(capsys.readouterr().err, "bit for bit", "--lr")
    assert (tmp_path / "made" / "unlearning.json").exists()


def test_a_condition_on_what_nobody_asks_is_refused_and_one_that_never_came_true_is_said(
    unlearn: Callable[..., int], place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert unlearn("--stop-when", "target_bleu<0.5") == 2
    refused(capsys.readouterr().err, "--stop-when target_bleu<0.5", "--questions")
    asked = ("--questions", place / "target.jsonl", "--steps", "2", "--lr", "1e-3")
    assert unlearn(*asked, "--stop-when", "target_bleu<0.0001", output="other") == 0
    assert "no --stop-when came true: target_bleu<0.0001" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text",
    [
        "No space left on device (os error 28)",
        "PytorchStreamWriter failed writing file",
        "[enforce fail at inline_container.cc:672] . unexpected pos 407552 vs 407472",
    ],
)
def test_a_full_disk_is_one_line(
    unlearn: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    def full(*given: object) -> None:
        raise RuntimeError(text)

    monkeypatch.setattr("ckdiff.unlearn.trainer.save_file", full)
    assert unlearn("--steps", "1") == 2
    refused(capsys.readouterr().err, "no space left", "free some")
