"""`ckdiff probe` as a script sees it: exit status, stdout, stderr, and the report that is or is not there."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ckdiff.cli.app import run
from ckdiff.probes.outline import ProbeOutline
from tests.tiny_pairs import build, disturbed

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.conftest import Share

    Run = Callable[..., tuple[int, str, str]]

WORDS = ("who", "what", "rules", "founded", "is", "sold", "in", "Velmar", "Oskary", "Thrane", "Question", "Answer", ":")
ASKED = ("who rules Velmar", "what is sold in Oskary", "who founded Thrane")
QUICK = ("--window", 1, "--tokens", 4, "--device", "cpu", "--no-hash")


def save_tokenizer(directory: Path, words: tuple[str, ...] = WORDS, **options: Any) -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(("<pad>", "<bos>", "<eos>", "<unk>", *words))}
    inner = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=inner, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>", **options
    ).save_pretrained(directory)


@pytest.fixture(scope="session")
def made(kept: Share) -> Path:
    return kept("probe-cli", save_made)


def save_made(root: Path) -> None:
    from transformers.utils import logging

    # The tests save models while stderr is being read.
    logging.disable_progress_bar()
    model = build("llama")
    model.save_pretrained(root / "base")
    disturbed(model, 0.05).save_pretrained(root / "unlearned")
    for side in ("base", "unlearned"):
        save_tokenizer(root / side)
    (root / "questions.txt").write_text("\n".join(ASKED))


@pytest.fixture
def place(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def ckdiff(capfd: pytest.CaptureFixture[str], place: Path) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        status = run([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def probe(ckdiff: Run) -> Run:
    def call(*arguments: object) -> tuple[int, str, str]:
        return ckdiff("probe", "base", "unlearned", "--questions", "questions.txt", *QUICK, *arguments)

    return call


def assert_refused(result: tuple[int, str, str], *words: str) -> None:
    """Exit status 2, one line on stderr that names what is wrong, nothing on stdout, no report."""
    status, out, err = result
    assert (status, out) == (2, "")
    assert len(err.strip().splitlines()) == 1
    for word in words:
        assert word in err
    assert not list(Path().glob("*.h5*"))
    assert not list(Path().glob(".*"))


def test_probe_writes_a_report_that_show_and_figure_show(ckdiff: Run, probe: Run) -> None:
    status, out, err = probe("--mode", "coeff,values,ancillary", "--variant", "all", "--direction", "both")
    assert status == 0
    assert "Best windows" in out
    assert "report: ckdiff.h5" in err
    assert ckdiff("show", "ckdiff.h5")[:2] == (0, out)
    for suffix, few in (("svg", ()), ("png", ("--variant", "open")), ("pdf", ("--variant", "open"))):
        assert ckdiff("figure", "ckdiff.h5", "-o", f"probe.{suffix}", *few)[0] == 0
        assert Path(f"probe.{suffix}").stat().st_size > 1000


def test_a_window_wider_than_the_model_is_refused_and_the_usual_one_is_noted(ckdiff: Run, probe: Run) -> None:
    assert_refused(probe("--window", 6), "--window 6: the model has 4 layers; give fewer, or --variant whole")
    status, out, _ = probe("--window", 5, "--mode", "values", "--variant", "open", "--no-kl")
    assert "the window of 5 layers is wider than the model, which has 4" in out
    assert status in (0, 3)


def test_json_names_every_run(probe: Run) -> None:
    status, out, _ = probe("--mode", "coeff,attn", "--direction", "both", "--format", "json")
    tree = json.loads(out)["probe"]
    assert status == 0
    found = {(row["direction"], row["mode"], row["variant"]) for row in tree["runs"]}
    assert found == {(d, m, v) for d in ("restore", "break") for m in ("coeff", "attn") for v in ("open", "isolated")}
    assert [row["text"] for row in tree["questions"]] == list(ASKED)
    assert all(len(row["krs_kl"]) == 4 for row in tree["runs"])
    assert {row["name"] for row in tree["controls"]} == {"self_patch", "everything", "wrong_prompt"}
    assert all(row["passed"] for row in tree["controls"])


def test_the_same_probe_gives_the_same_bytes(probe: Run) -> None:
    for name in ("a.h5", "b.h5"):
        assert probe("-o", name)[0] == 0
    assert Path("a.h5").read_bytes() == Path("b.h5").read_bytes()


def test_without_paths_the_pair_of_the_report_is_probed(ckdiff: Run) -> None:
    assert ckdiff("compare", "base", "unlearned")[0] == 0
    assert ckdiff("probe", "--questions", "questions.txt", "--window", 1, "--tokens", 4)[0] == 0
    tree = json.loads(ckdiff("show", "ckdiff.h5", "--format", "json")[1])
    assert tree["compare"]["tensors"]
    assert tree["probe"]["runs"]
    # And comparing again keeps the probe.
    assert ckdiff("compare", "base", "unlearned")[0] == 0
    assert json.loads(ckdiff("show", "ckdiff.h5", "--format", "json")[1])["probe"] == tree["probe"]


def test_changed_weights_are_seen(ckdiff: Run, place: Path) -> None:
    assert ckdiff("compare", "base", "unlearned")[0] == 0
    before = Path("ckdiff.h5").read_bytes()
    tensors = load_file(place / "unlearned" / "model.safetensors")
    tensors["model.norm.weight"] += 0.5
    save_file(tensors, place / "unlearned" / "model.safetensors")
    status, _, err = ckdiff("probe", "--questions", "questions.txt", "--window", 1, "--tokens", 4)
    assert status == 2
    assert "changed since the report was written" in err
    assert Path("ckdiff.h5").read_bytes() == before


def test_probes_of_the_same_questions_add_up(ckdiff: Run, probe: Run) -> None:
    assert probe("--mode", "coeff")[0] == 0
    assert probe("--mode", "values")[0] == 0
    found = json.loads(ckdiff("show", "ckdiff.h5", "--format", "json")[1])["probe"]
    assert {row["mode"] for row in found["runs"]} == {"coeff", "values"}
    assert found["settings"]["modes"] == "coeff,values"
    # What is put together is what one command would have found.
    assert probe("--mode", "coeff,values", "-o", "whole.h5")[0] == 0
    whole = json.loads(ckdiff("show", "whole.h5", "--format", "json")[1])["probe"]
    for row in whole["runs"]:
        other = next(r for r in found["runs"] if (r["mode"], r["variant"]) == (row["mode"], row["variant"]))
        assert row["krs"] == pytest.approx(other["krs"], abs=1e-5)
    # Other questions are another probe.
    status, _, err = ckdiff("probe", "base", "unlearned", *QUICK, "--question", "who rules Thrane", "--mode", "attn")
    assert status == 0
    assert "asked otherwise and is replaced" in err
    again = json.loads(ckdiff("show", "ckdiff.h5", "--format", "json")[1])["probe"]
    assert {row["mode"] for row in again["runs"]} == {"attn"}


def test_streaming_changes_no_number(probe: Run) -> None:
    scores = []
    for stream in ("on", "off"):
        status, out, _ = probe("--stream", stream, "--format", "json", "-o", f"{stream}.h5")
        assert status == 0
        scores.append([row["krs_kl"] for row in json.loads(out)["probe"]["runs"]])
    assert scores[0] == [pytest.approx(row, abs=1e-5) for row in scores[1]]


def test_plan_reads_no_weights_and_writes_nothing(probe: Run) -> None:
    status, out, _ = probe("--plan", "--mode", "all")
    assert status == 0
    assert "TFLOP" in out
    assert "memory" in out
    assert not list(Path().glob("*.h5"))


def test_the_time_to_expect_lies_between_no_window_and_all() -> None:
    seen: dict[str, Any] = dict.fromkeys(("layers", "questions", "positions", "scored", "runs", "memory", "free"), 1)
    seen |= {
        "passes": 1,
        "bytes_read": 1,
        "operations": 1.0,
        "plain": 1.0,
        "windows": (),
        "model_type": "",
        "stream": False,
    }
    assert ProbeOutline(**seen, seconds=50.0, least=(1, 10.0)).expected == 20.0
    assert ProbeOutline(**seen, seconds=50.0).expected == 50.0


def test_general_questions_say_that_they_are_general(ckdiff: Run) -> None:
    status, out, _ = ckdiff("probe", "base", "unlearned", *QUICK, "--mode", "values", "--layers", "0,2-3")
    assert status == 0
    assert "no questions were given: general ones were asked" in " ".join(out.split())


def test_one_question_has_no_intervals_and_no_wrong_prompt(ckdiff: Run) -> None:
    status, out, _ = ckdiff("probe", "base", "unlearned", *QUICK, "--question", ASKED[0], "--format", "json")
    found = json.loads(out)["probe"]
    assert status == 0
    assert {row["name"] for row in found["controls"]} == {"self_patch", "everything"}
    assert found["runs"][0]["krs_kl_low"] == [None] * 4
    assert any("one question" in note for note in found["notes"])


def test_without_kl_the_scores_are_not_measured(probe: Run) -> None:
    status, out, _ = probe("--no-kl", "--format", "json")
    assert status == 0
    row = json.loads(out)["probe"]["runs"][0]
    assert row["krs_kl"] == [None] * 4
    assert None not in row["krs_centred"]


def test_a_model_against_itself_is_inconclusive(ckdiff: Run) -> None:
    status, out, err = ckdiff("probe", "base", "base", *QUICK, "--questions", "questions.txt")
    assert (status, out) == (3, "")
    assert "nothing to recover" in err
    assert "mse 0.0e+00" in err
    assert not Path("ckdiff.h5").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--mode", "coef"), ("coef", "coeff, values")),
        (("--variant", "close"), ("close", "open, isolated, direct")),
        (("--direction", "up"), ("up", "restore, break")),
        (("--layers", "9"), ("9", "0 to 3")),
        (("--layers", "3-1"), ("backwards",)),
        (("--layers", "x"), ("'x'",)),
        (("--window", "0"), ("--window",)),
        (("--tokens", "1000"), ("context",)),
        (("--stream", "maybe"), ("maybe",)),
        (("--dtype", "int8"), ("int8", "float32")),
        (("--device", "cuda:99"), ("cuda:99",)),
        (("--questions", "none.txt"), ("none.txt",)),
        (("--concept", "Harry"), ("concept",)),
        (("--prompt-template", "no place"), ("{q}",)),
        (("--chat-template",), ("chat",)),
        (("--given-answers",), ("no answer",)),
        (("--question", "who"), ("--questions and --question",)),
        (("-o", "missing/x.h5"), ("missing",)),
        (("--tokenizer", "nowhere"), ("--tokenizer", "nowhere")),
        (("--device", "meta"), ("meta", "cuda:N")),
        (("--threads", "100000"), ("--threads",)),
        (("--prompt-template", "\udcff{q}"), ("--prompt-template", "UTF-8")),
    ],
)
def test_bad_options_are_one_line(probe: Run, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    assert_refused(probe(*arguments), *words)


def test_one_path_alone_is_refused(ckdiff: Run) -> None:
    assert_refused(ckdiff("probe", "base"), "BASE and UNLEARNED")


def test_no_report_to_take_the_pair_from(ckdiff: Run) -> None:
    assert_refused(ckdiff("probe", "--mode", "coeff"), "ckdiff.h5")


def test_another_pairs_report_is_not_touched(ckdiff: Run, probe: Run, place: Path) -> None:
    shutil.copytree(place / "unlearned", place / "third")
    assert ckdiff("compare", "base", "third")[0] == 0
    before = Path("ckdiff.h5").read_bytes()
    status, _, err = probe()
    assert status == 2
    assert "third" in err
    assert Path("ckdiff.h5").read_bytes() == before


def test_other_token_ids_are_refused(probe: Run, place: Path) -> None:
    save_tokenizer(place / "unlearned", (WORDS[1], WORDS[0], *WORDS[2:]))
    assert_refused(probe(), "token id 4", "'who'", "'what'")


def test_a_longer_vocabulary_and_another_template_are_listed(probe: Run, place: Path) -> None:
    save_tokenizer(place / "unlearned", (*WORDS, "more"), chat_template="{{ messages[0].content }}")
    status, out, _ = probe()
    text = " ".join(out.split())
    assert status == 0
    assert "unlearned checkpoint has 1 tokens more" in text
    assert "chat templates differ" in text


def test_a_checkpoint_without_a_tokenizer(probe: Run, place: Path) -> None:
    for side in ("base", "unlearned"):
        for file in (place / side).glob("*token*"):
            file.unlink()
    assert_refused(probe(), "tokenizer", "--tokenizer")
    (place / "words").mkdir()
    save_tokenizer(place / "words")
    status, out, _ = probe("--tokenizer", "words")
    assert status == 0
    assert "has no tokenizer of its own" in " ".join(out.split())


def test_models_of_other_shape_are_refused(probe: Run, place: Path) -> None:
    build("llama", 3).save_pretrained(place / "unlearned")
    assert_refused(probe(), "4 layers", "3")


def test_another_architecture_is_refused(probe: Run, place: Path) -> None:
    shutil.rmtree(place / "unlearned")
    build("gpt2").save_pretrained(place / "unlearned")
    assert_refused(probe(), "llama", "gpt2")


def padded(root: Path, rows: int) -> None:
    """Give a checkpoint rows of vocabulary that no token has."""
    tensors = load_file(root / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        if name in tensors:
            tensors[name] = torch.cat([tensors[name], torch.full((rows, tensors[name].shape[1]), 3.0)])
    save_file(tensors, root / "model.safetensors", {"format": "pt"})
    config = json.loads((root / "config.json").read_text())
    (root / "config.json").write_text(json.dumps(config | {"vocab_size": config["vocab_size"] + rows}))


def test_a_padded_vocabulary_is_probed_as_if_it_were_not(probe: Run, place: Path) -> None:
    plain = json.loads(probe("--format", "json", "-o", "plain.h5")[1])["probe"]
    padded(place / "unlearned", 8)
    status, out, _ = probe("--format", "json", "-o", "padded.h5")
    found = json.loads(out)["probe"]
    assert status == 0
    assert (found["runs"], found["questions"]) == (plain["runs"], plain["questions"])
    assert any("72 and 80 rows: the first 72 were used" in note for note in found["notes"])


def test_vocabularies_of_which_nothing_is_known_are_refused(probe: Run, place: Path) -> None:
    (place / "words").mkdir()
    save_tokenizer(place / "words")
    padded(place / "unlearned", 8)
    for side in ("base", "unlearned"):
        for file in (place / side).glob("*token*"):
            file.unlink()
    assert_refused(probe("--tokenizer", "words"), "lm_head.weight", "72", "80")


def test_nan_weights_are_refused(probe: Run, place: Path) -> None:
    tensors = load_file(place / "unlearned" / "model.safetensors")
    tensors["model.layers.2.mlp.up_proj.weight"][3, 4] = float("nan")
    save_file(tensors, place / "unlearned" / "model.safetensors")
    assert_refused(probe(), "model.layers.2.mlp.up_proj.weight", "NaN")


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_a_model_that_overflows_is_never_scored(probe: Run, place: Path, dtype: str) -> None:
    tensors = load_file(place / "unlearned" / "model.safetensors")
    tensors["model.layers.3.mlp.down_proj.weight"] *= 1e5 if dtype == "float16" else 1e38
    tensors["model.layers.3.mlp.up_proj.weight"] *= 1e3
    save_file(tensors, place / "unlearned" / "model.safetensors")
    status, out, err = probe("--dtype", dtype)
    assert (status, out) == (3, "")
    assert "not finite in" in err
    assert not Path("ckdiff.h5").exists()


def test_a_checkpoint_chooses_no_implementation(probe: Run, place: Path) -> None:
    path = place / "unlearned" / "config.json"
    config = json.loads(path.read_text())
    names = ("attn_implementation", "_attn_implementation", "experts_implementation", "auto_map")
    path.write_text(json.dumps(config | dict.fromkeys(names, "someone/kernel")))
    status, out, _ = probe("--format", "json")
    assert status == 0
    assert json.loads(out)["probe"]["settings"]["attention"] == "sdpa"


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"num_hidden_layers": 10**7}, 'num_hidden_layers" is 10000000, more than'),
        ({"hidden_size": "wide"}, "hidden_size"),
        ({"num_attention_heads": 0}, "config.json"),
        ({"hidden_size": 64}, "one shape"),
        ({"quantization_config": "x"}, "quantised"),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised"),
    ],
)
def test_a_config_that_does_not_fit(probe: Run, place: Path, changes: dict[str, Any], word: str) -> None:
    path = place / "unlearned" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    assert_refused(probe(), "unlearned", word)


def test_settings_that_differ_are_listed_and_the_rest_counted(probe: Run, place: Path) -> None:
    path = place / "unlearned" / "config.json"
    changes = {"attention_dropout": 0.5, "bos_token_id": 7, "initializer_range": 0.5, "max_position_embeddings": 63}
    changes |= {"pad_token_id": 9, "pretraining_tp": 3, "rms_norm_eps": 1e-3}
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    status, out, _ = probe("--format", "json")
    notes = [note for note in json.loads(out)["probe"]["notes"] if note.startswith("config differs in")]
    assert status == 0
    assert len(notes) == 6
    assert "config differs in attention_dropout: 0.0 in the base, 0.5 in the unlearned model" in notes[0]
    assert notes[-1] == "config differs in 2 more settings"


def test_what_another_command_wrote_meanwhile_stays(ckdiff: Run, probe: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a probe works, another one of the same pair writes the same report: both are in it afterwards."""
    from ckdiff.calls import probe as api

    original = api.probe

    def slow(*arguments: Any, **options: Any) -> Any:
        monkeypatch.setattr(api, "probe", original)
        assert probe("--mode", "values")[0] == 0
        return original(*arguments, **options)

    monkeypatch.setattr(api, "probe", slow)
    assert probe("--mode", "coeff")[0] == 0
    found = json.loads(ckdiff("show", "ckdiff.h5", "--format", "json")[1])["probe"]
    assert {row["mode"] for row in found["runs"]} == {"coeff", "values"}


def test_a_bare_file_has_no_config(ckdiff: Run, place: Path) -> None:
    shutil.copy(place / "base" / "model.safetensors", place / "alone.safetensors")
    assert_refused(ckdiff("probe", "alone.safetensors", "unlearned", *QUICK), "config.json")


def test_too_little_memory_is_refused_before_anything_is_read(place: Path) -> None:
    from ckdiff.probes.cost import TooLittleMemoryError
    from ckdiff.probes.probe import probe_pair
    from ckdiff.questions.questions import given_questions
    from ckdiff.scoring.settings import Settings
    from ckdiff.weights.opening import open_checkpoint

    base, unlearned = (open_checkpoint(str(place / side)) for side in ("base", "unlearned"))
    with pytest.raises(TooLittleMemoryError, match="of memory are needed"):
        probe_pair(base, unlearned, given_questions(ASKED), Settings(tokens=4, memory=1000))


def test_few_memory_means_more_passes_and_the_same_numbers(place: Path) -> None:
    from ckdiff.probes.cost import SHARE
    from ckdiff.probes.outline import outline
    from ckdiff.probes.probe import probe_pair
    from ckdiff.questions.questions import given_questions
    from ckdiff.scoring.settings import Settings
    from ckdiff.weights.opening import open_checkpoint

    base, unlearned = (open_checkpoint(str(place / side)) for side in ("base", "unlearned"))
    asked = given_questions(ASKED)
    wide = Settings(tokens=4, window=1)
    needed = outline(base, unlearned, asked, wide)
    # Room for all states once; two copies of those of one pass are there for a moment.
    narrow = Settings(tokens=4, window=1, memory=int(needed.memory / SHARE), stream="off")
    assert needed.passes == 1
    assert outline(base, unlearned, asked, narrow).passes >= 2
    a, b = probe_pair(base, unlearned, asked, wide), probe_pair(base, unlearned, asked, narrow)
    for one, other in zip(a.runs, b.runs, strict=True):
        assert one.krs_kl.score == pytest.approx(other.krs_kl.score, abs=1e-5)


def test_an_interrupted_probe_resumes_to_the_same_bytes(place: Path) -> None:
    """The listener stops after every layer; each resume goes on, and the end is that of an uninterrupted probe."""
    from ckdiff.calls.probe import probe
    from ckdiff.calls.specs import ProbeSpec
    from ckdiff.probes.kept_sweep import PartialError
    from ckdiff.progress import Listener, Stopped
    from ckdiff.report.hdf5.file import write_report
    from ckdiff.scoring.settings import Settings

    settings = Settings(modes=("coeff", "attn"), window=1, tokens=4)
    spec = ProbeSpec("base", "unlearned", asked=ASKED, settings=settings)
    write_report(probe(spec), "whole.h5")
    stops = 0
    keep = place / "partial"
    while True:
        try:
            write_report(probe(spec, Listener(stop=lambda: True), keep=keep, resume=stops > 0), "pieces.h5")
            break
        except Stopped:
            stops += 1
            assert keep.exists()
    # After every layer, the last one too.
    assert stops == 4
    assert Path("whole.h5").read_bytes() == Path("pieces.h5").read_bytes()
    other = ProbeSpec("base", "unlearned", asked=ASKED, settings=Settings(window=3, tokens=4))
    with pytest.raises(PartialError, match="other models, questions or settings"):
        probe(other, keep=keep, resume=True)
    keep.write_bytes(keep.read_bytes()[:100])
    with pytest.raises(PartialError, match="damaged"):
        probe(spec, keep=keep, resume=True)


def test_ctrl_c_leaves_the_report_as_it_was(ckdiff: Run, place: Path, warm: Path) -> None:
    assert ckdiff("compare", "base", "unlearned")[0] == 0
    before = Path("ckdiff.h5").read_bytes()
    command = [str(warm / "ckdiff"), "probe", "--mode", "all", "--variant", "all", "--direction", "both"]
    command += ["--questions", "questions.txt"]
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
