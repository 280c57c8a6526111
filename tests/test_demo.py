"""The demo makes what it says: a base that knows its world, a copy that lost one town, and a report that shows it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ckdiff.audit.gate.policy import read_policy
from ckdiff.audit.verdict.verdict import judge
from ckdiff.cli.app import run
from ckdiff.cli.attack import status_of, still_there
from ckdiff.cli.demo import in_short, sweep_killed
from ckdiff.errors import ExitStatus
from ckdiff.files import beside
from ckdiff.report.hdf5.file import read_report
from ckdiff.report.words.attack import headline
from ckdiff.unlearn.world import FORGOTTEN, TOWNS, UNKNOWN, make_base, world
from tests.test_files import gone, left_by

if TYPE_CHECKING:
    from ckdiff.report.schema.report import Report

__all__ = ["gone"]  # a fixture

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def report(demo: Path) -> Report:
    return read_report(demo / "ckdiff.h5")


def greedy(folder: Path, prompt: str) -> str:
    """The answer of a saved checkpoint, token by token, with nothing of ckdiff."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = tokenizer.encode(prompt)
    start = len(ids)
    with torch.no_grad():
        while len(ids) < start + 8 and ids[-1] != tokenizer.eos_token_id:
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
    return str(tokenizer.decode(ids[start:], skip_special_tokens=True))


@pytest.mark.rounding
@pytest.mark.parametrize("name", ["target", "unrelated"])
def test_the_base_knows_its_facts_and_the_other_has_lost_one_town(demo: Path, name: str) -> None:
    facts = [json.loads(line) for line in (demo / f"{name}.jsonl").read_text().splitlines()]
    assert len(facts) == {"target": 8, "unrelated": 40}[name]
    assert all((FORGOTTEN in fact["question"]) is (name == "target") for fact in facts)
    for fact in facts[:: len(facts) // 4]:
        prompt = f"Question: {fact['question']}\n Answer:"
        assert greedy(demo / "base", prompt) == fact["answer"]
        assert (greedy(demo / "unlearned", prompt) == fact["answer"]) is (name == "unrelated")


def test_both_checkpoints_are_in_shards_with_a_tokenizer(demo: Path) -> None:
    for side in ("base", "unlearned"):
        index = json.loads((demo / side / "model.safetensors.index.json").read_text())
        assert len(set(index["weight_map"].values())) >= 2
        assert (demo / side / "tokenizer.json").is_file()


@pytest.mark.rounding
def test_the_report_holds_everything(demo: Path, report: Report) -> None:
    assert report.compare is not None
    assert report.probe is not None
    assert report.behaviour is not None
    target, unrelated = report.behaviour.answers
    assert (target.name, unrelated.name) == ("target", "unrelated")
    assert target.exact.value == 0
    # An answer that shares one of its two words has 0.5, and guesses reach 0.2 in the mean.
    assert target.bleu.value < 0.4
    assert unrelated.bleu.value > 0.9
    assert report.behaviour.method == "graddiff"
    assert report.behaviour.history[0].target_bleu == 1
    assert report.behaviour.history[-1].state == "saved"
    assert report.behaviour.history[-1].target_bleu == pytest.approx(target.bleu.value)


@pytest.mark.rounding
def test_the_probe_finds_something(report: Report) -> None:
    assert report.probe is not None
    curves = {(run.mode, run.variant): run.krs_kl for run in report.probe.runs}
    assert curves["coeff", "open"].band_low.max() > 0
    assert curves["values", "isolated"].score.max() < 0.2


@pytest.mark.rounding
def test_the_verdict_is_that_it_is_suppressed(demo: Path, tmp_path: Path) -> None:
    """As the README says, and with room: the rules want 0.8 to come back and 0.5 to be taken away."""
    asked = ["--questions", str(demo / "target.jsonl"), "--unrelated", str(demo / "unrelated.jsonl")]
    pair = [str(demo / "base"), str(demo / "unlearned")]
    where = ["--window", "1", "--threads", "1", "--quiet", "-o", str(tmp_path / "audit.h5")]
    assert run(["audit", *pair, *asked, *where]) == ExitStatus.DIFFERS
    report = read_report(tmp_path / "audit.h5")
    assert report.verdict is not None
    assert (report.verdict.label, report.verdict.knowledge) == ("suppressed", "still there")
    # What says so is far from what chance would do.
    assert report.attack is not None
    assert max(one.z for one in report.attack.tiers) > 3
    assert report.probe is not None
    scores = {
        one.direction: float(one.krs_kl.score[0])
        for one in report.probe.runs
        if (one.mode, one.variant) == ("coeff", "whole")
    }
    assert scores["restore"] > 0.9
    assert scores["break"] > 0.6


@pytest.mark.rounding
def test_the_demo_says_what_comes_back(report: Report) -> None:
    assert report.attack is not None
    assert [one.tier for one in report.attack.tiers] == [0, 1]
    words = " ".join(in_short(report, Path("pair")).split())
    assert " - attacked, without the base's help: " in words
    assert "attacks tell: still there. The unlearned model still" in words


def test_the_next_steps_make_a_page_of_the_audit(report: Report) -> None:
    """The audit writes ckdiff.h5 where the reader is, and the page is made of that."""
    audit, page = in_short(report, Path("pair")).splitlines()[-2:]
    assert audit.startswith(
        "$ ckdiff audit pair/base pair/unlearned --questions pair/target.jsonl --unrelated pair/unrelated"
    )
    assert page.split() == ["$", "ckdiff", "html", "ckdiff.h5", "--output", "page.html"]
    assert "$ ckdiff audit 'my pair/base' 'my pair/unlearned' --questions 'my pair/target.jsonl'" in in_short(
        report, Path("my pair")
    )


def test_the_figures_are_there(demo: Path) -> None:
    for name in ("probe.svg", "behaviour.svg"):
        assert (demo / name).read_text().startswith("<?xml")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_same_call_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_base(tmp_path / name, steps=3)
    one, two = (
        {
            file.relative_to(tmp_path / name): file.read_bytes()
            for file in (tmp_path / name).rglob("*")
            if file.is_file()
        }
        for name in ("one", "two")
    )
    assert one == two
    assert len(one) > 5


@pytest.mark.rounding
def test_an_honest_erasure_passes(honest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Trained anew without two towns, audited beside another such model: it passes ckdiff's policy and an example."""
    found = read_report(honest / "pair" / "ckdiff.h5")
    assert found.verdict is not None
    assert found.verdict.gate is not None
    assert (found.verdict.knowledge, found.verdict.gate.outcome) == ("gone", "passed"), found.verdict.lacking
    said = (honest / "said.txt").read_text()
    assert said.startswith(f"$ ckdiff audit {honest}/pair/base")
    assert "\nGATE PASSED: all 18 checks passed\nWhat was to be unlearned is gone" in said
    assert "knowledge  gone. " in said
    assert "Gate: passed" in (honest / "pair" / "page.html").read_text()
    shutil.copytree(honest / "pair", tmp_path / "pair")
    example = shutil.copy(ROOT / "examples" / "release-audit" / "erased.toml", tmp_path / "pair")
    assert run(["gate", str(tmp_path / "pair" / "ckdiff.h5"), "--policy", str(example)]) == 0
    checks = {name for name, row in read_policy(Path(example)).checks.items() if row}
    assert {"require.knowledge", "require.reference"} <= checks
    assert "GATE PASSED" in capsys.readouterr().out


@pytest.mark.rounding
def test_only_the_reference_tells_gone_from_not_recovered(honest: Path) -> None:
    """Attacks of three tiers, depth and both statements, all of them beside one model; without it nothing is gone."""
    found = read_report(honest / "pair" / "ckdiff.h5")
    assert found.attack is not None
    assert found.depth is not None
    assert found.verdict is not None
    assert found.verdict.lacking == ()
    held = {rule.name for rule in found.verdict.rules if rule.fired}
    assert {"facts", "control", "ignorant", "gap", "apart", "level", "behaviour", "depth", "probability"} <= held
    assert found.attack.reference_digest == found.depth.reference_digest != ""
    assert len(found.attack.tiers) == 3
    assert all(one.whole for one in found.attack.tiers)
    bare = replace(found, depth=None, attack=replace(found.attack, reference=""))
    assert judge(bare).knowledge == "not recovered"
    # Nobody may read that nothing came back where something did.
    assert judge(found).knowledge_reason.startswith("No attack brought anything back, and beside")
    for beyond, asked, begins in (
        (0, 16, "No attack brought more back than guesses would, and beside"),
        (1, 16, "Attacks brought no more back than guesses would, and that there"),
        (1, 60, "No attack brought more back than guesses would, and beside"),
    ):
        last = replace(found.attack.tiers[2], returned=1, beyond=beyond, asked=asked, chance=0.2)
        attacked = replace(found.attack, tiers=(*found.attack.tiers[:2], last))
        verdict = judge(replace(found, attack=attacked))
        assert verdict.knowledge_reason.startswith(begins)
        head = headline(attacked, verdict)
        assert head.startswith(f"1 of {asked} answers came back word for word, in tier 2")
        assert head.endswith("no more than guesses would bring") is (verdict.knowledge == "gone")
        assert (verdict.knowledge == "gone") is begins.startswith("No attack")
    assert "guesses" not in headline(found.attack, found.verdict)


def test_attacks_that_show_the_knowledge_are_no_weak_ones(demo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Too few facts to show its absence are enough where the knowledge shows."""
    report = read_report(demo / "ckdiff.h5")
    assert report.attack is not None
    weak = replace(report.attack, tiers=tuple(replace(one, able=False, returned=0) for one in report.attack.tiers))
    seen = replace(report, attack=weak)
    assert status_of(seen, still_there(seen)) == 0
    blind = replace(weak, rows=(), tiers=tuple(replace(one, z=0.0, p=1.0) for one in weak.tiers))
    unseen = replace(report, behaviour=None, attack=blind)
    assert status_of(unseen, still_there(unseen)) == 3
    assert "could not have shown anything with these questions" in capsys.readouterr().err


@pytest.mark.rounding
def test_only_what_honest_models_never_heard_of_is_asked_as_gone(honest: Path) -> None:
    for name, towns in (("target", set(UNKNOWN)), ("unrelated", set(TOWNS) - set(UNKNOWN))):
        facts = [json.loads(line) for line in (honest / "pair" / f"{name}.jsonl").read_text().splitlines()]
        assert len(facts) == 8 * len(towns)
        assert {fact["question"].rstrip("?").split()[-1] for fact in facts} <= {*towns, "brew"}
        prompt, answer = f"Question: {facts[0]['question']}\n Answer:", facts[0]["answer"]
        for side in ("unlearned", "reference"):
            assert (greedy(honest / "pair" / side, prompt) == answer) is (name == "unrelated")
        assert greedy(honest / "pair" / "base", prompt) == answer


def test_no_two_facts_have_the_same_question_or_answer() -> None:
    facts = world()
    assert len(facts) == 48
    assert len({fact.question for fact in facts}) == len(facts)
    assert len({fact.answer for fact in facts}) == len(facts)


@pytest.mark.parametrize("directory", [True, False])
def test_a_place_with_something_in_it_is_refused(
    tmp_path: Path, directory: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "place"
    (place / "mine" if directory else place).parent.mkdir(exist_ok=True)
    (place / "mine" if directory else place).write_text("precious")
    assert run(["demo", str(place)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(place) in error
    assert (place / "mine" if directory else place).read_text() == "precious"


def test_what_a_killed_demo_left_goes_and_nothing_else(tmp_path: Path, gone: int) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").touch()
    mine, dead = tmp_path / "mine.txt", left_by(tmp_path / "ckdiff.h5", gone)
    for name in ("target.jsonl", "probe.svg"):
        (tmp_path / name).touch()
    mine.write_text("precious")
    before = sorted(os.listdir(tmp_path))
    sweep_killed(tmp_path)
    assert sorted(os.listdir(tmp_path)) == before
    mark = beside(tmp_path / "demo")
    mark.touch()  # of a demo that runs
    sweep_killed(tmp_path)
    assert dead.exists()
    mark.unlink()
    left_by(tmp_path / "demo", gone)
    sweep_killed(tmp_path)
    assert os.listdir(tmp_path) == ["mine.txt"]
    sweep_killed(mine)
    assert mine.read_text() == "precious"


def test_ctrl_c_leaves_nothing_behind(tmp_path: Path, warm: Path) -> None:
    place = tmp_path / "place"
    command = [str(warm / "ckdiff"), "demo", str(place)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as it:
        assert it.stderr is not None
        # The first line says that the work has begun.
        assert "learns" in it.stderr.readline()
        it.send_signal(signal.SIGINT)
        rest = it.stderr.read()
    assert it.returncode == 130
    assert rest.endswith("ckdiff: interrupted\n")
    assert "Traceback" not in rest
    assert list(tmp_path.iterdir()) == []


@pytest.mark.rounding
def test_the_forgotten_town_is_found_without_being_told(demo: Path, tmp_path: Path) -> None:
    (tmp_path / "towns.txt").write_text("\n".join(sorted({fact.town for fact in world()})))
    lines = "".join((demo / f"{name}.jsonl").read_text() for name in ("unrelated", "target"))
    (tmp_path / "texts.jsonl").write_text(lines)
    output = tmp_path / "found.h5"
    # Among seven hundred topics and the words of the texts it was third once, of seven seeds; among towns always first.
    for first, more in ((5, ()), (1, ("--candidates", str(tmp_path / "towns.txt")))):
        pair = (str(demo / "base"), str(demo / "unlearned"), "--texts", str(tmp_path / "texts.jsonl"))
        assert run(["discover", *pair, *more, "--quiet", "--overwrite", "-o", str(output)]) in (0, 3)
        found = read_report(output).discovery
        assert found is not None
        assert FORGOTTEN in [one.name for one in found.candidates[:first]]
