"""`ckdiff behave` as a script sees it: exit status, stdout, stderr, and the report that is or is not there."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from safetensors.torch import load_file, save_file

from ckdiff.options import UNCHATTED
from tests.test_probe_cli import ASKED, assert_refused, ckdiff, made, place, save_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., tuple[int, str, str]]

__all__ = ["ckdiff", "made", "place"]  # fixtures

QUICK = ("--tokens", 4, "--device", "cpu", "--no-hash", "--most-unrelated", 3)
CHOICES = [{"question": ASKED[0], "choices": ["Thrane", "Oskary"], "answer": "A"}] * 2


@pytest.fixture
def behave(ckdiff: Run, place: Path) -> Run:
    (place / "choices.jsonl").write_text("\n".join(json.dumps(one) for one in CHOICES))

    def call(*arguments: object) -> tuple[int, str, str]:
        return ckdiff("behave", "base", "unlearned", "--questions", "questions.txt", *QUICK, *arguments)

    return call


def tree(ckdiff: Run, report: str = "ckdiff.h5") -> Any:
    return json.loads(ckdiff("show", report, "--format", "json")[1])


def test_behave_writes_a_report_that_show_and_figure_show(ckdiff: Run, behave: Run) -> None:
    status, out, err = behave("--choices", "choices.jsonl")
    assert status == 0
    assert ASKED[0] in out
    assert "report: ckdiff.h5" in err
    assert ckdiff("show", "ckdiff.h5", "--show-questions", 5)[:2] == (0, out)
    assert ckdiff("show", "ckdiff.h5", "--section", "behaviour", "--show-questions", 5)[:2] == (0, out)
    for suffix in ("svg", "png", "pdf"):
        assert ckdiff("figure", "ckdiff.h5", "-o", f"behaviour.{suffix}")[0] == 0
        assert Path(f"behaviour.{suffix}").stat().st_size > 1000


def test_json_has_every_part(behave: Run) -> None:
    status, out, _ = behave("--choices", "choices.jsonl", "--format", "json")
    found = json.loads(out)["behaviour"]
    assert status == 0
    assert [one["name"] for one in found["answers"]] == ["target", "unrelated"]
    assert [row["text"] for row in found["answers"][0]["questions"]] == list(ASKED)
    assert len(found["answers"][1]["questions"]) == 3
    assert len(found["choices"]["questions"]) == 2
    assert len(found["neutral"]["texts"]) == 20
    assert "exp" in found["settings"]["bleu"]


@pytest.mark.parametrize("output_format", ["csv", "md"])
def test_other_formats(ckdiff: Run, behave: Run, output_format: str) -> None:
    status, out, _ = behave("--format", output_format)
    assert status == 0
    assert ASKED[0] in out
    more = ("--section", "behaviour") if output_format == "csv" else ()
    assert ckdiff("show", "ckdiff.h5", "--format", output_format, *more)[:2] == (0, out)


def test_every_command_keeps_what_the_others_found(ckdiff: Run, behave: Run) -> None:
    assert ckdiff("compare", "base", "unlearned", "--no-hash")[0] == 0
    assert behave()[0] == 0
    probe = ("--window", 1, "--tokens", 4, "--device", "cpu", "--no-hash", "--questions", "questions.txt")
    assert ckdiff("probe", *probe)[0] == 0
    assert ckdiff("compare", "base", "unlearned", "--no-hash")[0] == 0
    found = tree(ckdiff)
    assert all(found[name] is not None for name in ("compare", "probe", "behaviour"))
    assert {"sacrebleu", "torch", "transformers"} <= found["versions"].keys()
    status, _, err = ckdiff("show", "ckdiff.h5", "--format", "csv")
    assert status == 0
    assert err == "one table only: --section probe or --section behaviour for the others\n"
    # A figure of the probe by default, of the behaviour on request.
    for kind in ("probe", "behaviour"):
        assert ckdiff("figure", "ckdiff.h5", "-o", f"{kind}.svg", "--kind", kind)[0] == 0
    assert ckdiff("figure", "ckdiff.h5", "-o", "either.svg")[0] == 0
    assert Path("either.svg").read_bytes() == Path("probe.svg").read_bytes()
    assert Path("either.svg").read_bytes() != Path("behaviour.svg").read_bytes()


def test_without_paths_it_takes_the_pair_of_the_report(ckdiff: Run) -> None:
    assert ckdiff("compare", "base", "unlearned")[0] == 0
    status, _, _ = ckdiff("behave", "--question", ASKED[0], "--no-neutral", "--most-unrelated", 1, "--tokens", 2)
    assert status == 0
    found = tree(ckdiff)
    assert found["compare"] is not None
    assert found["behaviour"]["neutral"] is None
    assert found["behaviour"]["answers"][0]["bleu"]["low"] is None


def test_weights_that_changed_since_are_refused(ckdiff: Run, place: Path) -> None:
    assert ckdiff("compare", "base", "unlearned")[0] == 0
    before = Path("ckdiff.h5").read_bytes()
    path = place / "unlearned" / "model.safetensors"
    tensors = load_file(path)
    tensors["model.norm.weight"] += 1
    save_file(tensors, path)
    status, out, err = ckdiff("behave", "--question", ASKED[0])
    assert (status, out) == (2, "")
    assert "its weights have changed" in err
    assert Path("ckdiff.h5").read_bytes() == before


def test_several_reports_make_one_figure(ckdiff: Run, behave: Run, place: Path) -> None:
    assert behave("-o", "one.h5")[0] == 0
    shutil.copytree(place / "unlearned", place / "again")
    other = ("behave", "base", "again", "-Q", "questions.txt", *QUICK, "-o", "two.h5")
    assert ckdiff(*other)[0] == 0
    assert ckdiff("figure", "one.h5", "two.h5", "-o", "both.svg")[0] == 0
    assert "one" in Path("both.svg").read_text()
    for arguments, words in (
        (("one.h5", "two.h5", "--kind", "probe"), "holds no probe"),
        (("one.h5", "--kind", "drift"), "probe, behaviour"),
        (("one.h5", "--score", "krs"), "--score"),
    ):
        status, _, err = ckdiff("figure", *arguments)
        assert status == 2
        assert words in err


def test_reports_of_one_name_are_told_apart_by_their_paths() -> None:
    from ckdiff.calls.figure import labels

    assert labels([Path("a/one.h5"), Path("b/two.h5")]) == ["one", "two"]
    assert labels([Path("a/ckdiff.h5"), Path("b/ckdiff.h5")]) == ["a/ckdiff", "b/ckdiff"]


def test_other_questions_replace_the_answers_and_say_so(behave: Run) -> None:
    assert behave("-q")[0] == 0
    assert "are replaced" not in behave()[2]
    assert "to other questions or settings and are replaced" in behave("--no-neutral")[2]


def test_the_same_command_gives_the_same_bytes(behave: Run) -> None:
    for name in ("a.h5", "b.h5"):
        assert behave("-o", name)[0] == 0
    assert Path("a.h5").read_bytes() == Path("b.h5").read_bytes()


def test_general_questions_without_any_of_ones_own(ckdiff: Run) -> None:
    status, out, _ = ckdiff("behave", "base", "unlearned", *QUICK, "--no-neutral")
    assert status == 0
    assert "no questions about what was to be unlearned" in " ".join(out.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--questions", "none.txt"), ("none.txt",)),
        (("--unrelated", "none.txt"), ("none.txt",)),
        (("--choices", "none.json"), ("none.json",)),
        (("--choices", "questions.txt"), ("questions.txt", "a string; write an object")),
        (("--neutral", "none.txt"), ("none.txt",)),
        (("--neutral", "questions.txt", "--no-neutral"), ("--neutral and --no-neutral",)),
        (("--question", "who"), ("--questions and --question",)),
        (("--concept", "Harry"), ("concept",)),
        (("--tokens", "0"), ("--tokens",)),
        (("--tokens", "1000"), ("context",)),
        (("--batch-size", "0"), ("--batch-size",)),
        (("--dtype", "int8"), ("int8", "float32")),
        (("--stream", "maybe"), ("maybe",)),
        (("--device", "cuda:99"), ("cuda:99",)),
        (("--prompt-template", "no place"), ("{q}",)),
        (("--chat-template",), ("chat",)),
        (("--tokenizer", "nowhere"), ("--tokenizer", "nowhere")),
        (("-o", "missing/x.h5"), ("missing",)),
    ],
)
def test_bad_options_are_one_line(behave: Run, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    assert_refused(behave(*arguments), *words)


def test_one_path_alone_is_refused(ckdiff: Run) -> None:
    assert_refused(ckdiff("behave", "base"), "behave: give BASE and UNLEARNED")
    assert_refused(ckdiff("behave", "-o", "none.h5"), "none.h5: there is no such report to take the pair of; give BASE")


def test_another_pairs_report_is_not_touched(ckdiff: Run, behave: Run, place: Path) -> None:
    shutil.copytree(place / "unlearned", place / "third")
    assert ckdiff("compare", "base", "third")[0] == 0
    before = Path("ckdiff.h5").read_bytes()
    status, _, err = behave()
    assert status == 2
    assert "third" in err
    assert Path("ckdiff.h5").read_bytes() == before
    assert behave("--overwrite")[0] == 0


def test_a_chat_template_is_used_where_there_is_one(behave: Run, place: Path) -> None:
    template = "{% for one in messages %}Question : {{ one.content }} Answer :{% endfor %}"
    for side in ("base", "unlearned"):
        save_tokenizer(place / side, chat_template=template)
    status, out, _ = behave("--chat-template", "--choices", "choices.jsonl", "--format", "json")
    assert status == 0
    found = json.loads(out)["behaviour"]
    assert found["settings"]["prompt"] == "chat template of the base"
    assert UNCHATTED not in found["notes"]
    # Who does not use it is told.
    without = json.loads(behave("--overwrite", "--format", "json")[1])["behaviour"]
    assert UNCHATTED in without["notes"]


def test_a_model_that_overflows_is_inconclusive(behave: Run, place: Path) -> None:
    path = place / "unlearned" / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.3.mlp.down_proj.weight"] *= 1e38
    tensors["model.layers.3.mlp.up_proj.weight"] *= 1e3
    save_file(tensors, path)
    status, out, err = behave()
    assert (status, out) == (3, "")
    assert "not finite in float32" in err
    assert not Path("ckdiff.h5").exists()


def test_a_malformed_record_of_the_making_is_a_note(behave: Run, place: Path) -> None:
    (place / "unlearned" / "unlearning.json").write_text("{")
    status, out, _ = behave("--format", "json")
    assert status == 0
    assert any("unlearning.json" in note for note in json.loads(out)["behaviour"]["notes"])


def test_what_another_command_wrote_meanwhile_stays(ckdiff: Run, behave: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from ckdiff.calls import behave as api

    original = api.behave

    def slow(*arguments: Any, **options: Any) -> Any:
        assert ckdiff("compare", "base", "unlearned", "--no-hash")[0] == 0
        return original(*arguments, **options)

    monkeypatch.setattr(api, "behave", slow)
    assert behave()[0] == 0
    found = tree(ckdiff)
    assert found["compare"] is not None
    assert found["behaviour"] is not None


def test_memory_that_runs_out_is_one_line(behave: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from ckdiff.calls import behave as api

    def full(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes")

    monkeypatch.setattr(api, "behave", full)
    assert_refused(behave(), "not enough memory", "--stream on")


def test_ctrl_c_leaves_the_report_as_it_was(ckdiff: Run, place: Path, warm: Path) -> None:
    assert ckdiff("compare", "base", "unlearned")[0] == 0
    before = Path("ckdiff.h5").read_bytes()
    (place / "many.txt").write_text("\n".join(f"who rules Velmar {'in Thrane ' * n}" for n in range(12)))
    command = [str(warm / "ckdiff"), "behave", "--questions", "many.txt", "--tokens", "30"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert "Traceback" not in err
    if process.returncode == 0:  # it was quicker than the signal
        return
    assert process.returncode == 130
    assert "interrupted" in err
    assert Path("ckdiff.h5").read_bytes() == before
    assert {path.name for path in place.glob("*.h5")} == {"ckdiff.h5"}
