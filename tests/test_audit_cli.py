"""`ckdiff audit` and `ckdiff gate` as a pipeline sees them: four exit statuses, one report, one line for a mistake."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from safetensors.torch import load_file, save_file

from ckdiff.audit.gate.policy import read_policy
from ckdiff.audit.judge import judge_report
from ckdiff.calls.audit import keep_older
from ckdiff.cli.app import run
from ckdiff.cli.audit import ATTACKED, PROBED
from ckdiff.modes import MODES, SUBSETS
from ckdiff.options import UNCHATTED
from ckdiff.progress import Listener
from ckdiff.report.hdf5.file import read_report, write_report
from ckdiff.report.words.summary import in_short
from ckdiff.weights.geometry import measure_geometry
from ckdiff.weights.making import FORMAT
from ckdiff.weights.opening import open_checkpoint
from tests.reports import attacks, behaviour, comparison, probe, report, same
from tests.test_probe_cli import ASKED, ckdiff, made, place, save_tokenizer

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., tuple[int, str, str]]

__all__ = ["ckdiff", "made", "place"]  # fixtures

LAX = '[require]\nsections = ["compare", "probe", "behaviour"]\n[fail]\nunexpected_tensors = true\n'
STRICT = LAX + "target_bleu = 0.0\n"
GREEDY = "[require]\nquestions = 30\n"
QUICK = ("--window", 1, "--tokens", 4, "--device", "cpu", "--questions", "questions.txt", "--tier", "none")


@pytest.fixture
def audit(ckdiff: Run, place: Path) -> Run:
    for name, text in (("lax", LAX), ("strict", STRICT), ("greedy", GREEDY)):
        (place / f"{name}.toml").write_text(text)

    def call(*arguments: object, policy: str = "lax.toml") -> tuple[int, str, str]:
        return ckdiff("audit", "base", "unlearned", "--policy", policy, *QUICK, *arguments)

    return call


@pytest.fixture(scope="session")
def audited(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of an audit, of another copy of the pair."""
    root = tmp_path_factory.mktemp("audited")
    shutil.copytree(made, root, dirs_exist_ok=True)
    (root / "lax.toml").write_text(LAX)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        given = ("audit", "base", "unlearned", "--policy", "lax.toml", "--quiet", *map(str, QUICK))
        assert run(list(given)) == 0
    return root / "ckdiff.h5"


@pytest.fixture
def judged(audited: Path, audit: Run, place: Path) -> Path:
    """A copy of that report where `audit` would write one."""
    return Path(shutil.copy(audited, place / "ckdiff.h5"))


def verdict(ckdiff: Run, report: str = "ckdiff.h5") -> Any:
    return json.loads(ckdiff("show", report, "--format", "json")[1])["verdict"]


def test_pass_fail_too_little_and_bad_input_have_four_statuses(audit: Run) -> None:
    status, out, err = audit("--mode", "coeff")
    assert status == 0, out + err
    assert "PASSED" in out
    assert audit("--mode", "coeff", policy="strict.toml")[0] == 1
    status, out, err = audit("--mode", "coeff", policy="greedy.toml")
    assert status == 3
    assert "3 facts were asked, 30 are" in out
    assert audit(policy="none.toml")[0] == 2


def test_an_audit_says_what_matters_on_one_screen(ckdiff: Run, audit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    status, out, _ = audit(policy="strict.toml")
    lines = out.splitlines()
    assert (status, len(lines) <= 20, max(map(len, lines)) <= 80) == (1, True, True), out
    assert lines[0].startswith("GATE FAILED")
    found = read_report("ckdiff.h5")
    assert found.verdict is not None
    assert any(line.startswith(f"{found.verdict.label.upper()}: ") for line in lines[2:5])
    assert " ".join(" ".join(lines).split()).count(in_short(found, found.verdict)) == 1
    names = [line.split()[0] for line in lines if not line.startswith(" ")]
    assert {"knowledge", "unrelated", "failed", "to", "question"} <= set(names)
    assert lines[-1] == "$ ckdiff show ckdiff.h5 --section verdict" or lines[-1].startswith("$ ckdiff html")
    where = Path("ckdiff.h5").absolute()
    judged = ckdiff("gate", "ckdiff.h5", "--policy", "strict.toml")[1].splitlines()
    assert (judged[0], judged[-1], len(judged) <= 20) == (lines[0], lines[-1], True)
    again = [line.split()[0] for line in judged if not line.startswith(" ")]
    assert "about" not in names
    assert [name for name in again if name != "about"] == [name for name in again if name in names] != again
    assert ckdiff("gate", "ckdiff.h5", "--policy", "strict.toml", "--details")[1].count("\n") > 30
    # A report keeps no folder: the file is named where it is here.
    for folder, file in ((".", "questions.txt"), ("base", "FILE")):
        monkeypatch.chdir(folder)
        for command in (("gate", where, "--details"), ("show", where, "--section", "verdict")):
            said = " ".join(ckdiff(*command)[1].split())
            assert f"ckdiff attack --questions {file} " in said


def test_an_audit_attacks_as_well(ckdiff: Run, audit: Run) -> None:
    """With what `ckdiff attack` finds: the base's answers are those that the audit has asked for already."""
    status, _, err = audit("--mode", "coeff", "--tier", "0", "--quiet")
    assert status in (0, 1, 3), err
    found = read_report("ckdiff.h5")
    assert found.attack is not None
    assert [one.tier for one in found.attack.tiers] == [0]
    asked = ("--tokens", 4, "--device", "cpu", "--questions", "questions.txt", "--tier", "0", "-o", "other.h5")
    ckdiff("attack", "base", "unlearned", *asked)
    other = read_report("other.h5").attack
    assert other is not None
    assert same(found.attack.rows, other.rows)
    assert same(found.attack.tiers, other.tiers)
    assert ckdiff("verify", "ckdiff.h5")[0] == 0
    # An audit that attacks nothing keeps what was found with the same questions, and says what it removes.
    _, _, err = audit("--mode", "coeff")
    assert "is removed" not in err
    assert same(read_report("ckdiff.h5").attack, found.attack)
    Path("questions.txt").write_text("\n".join(ASKED[:2]))
    _, _, err = audit("--mode", "coeff")
    assert "its earlier attack was about other questions and is removed" in err
    assert read_report("ckdiff.h5").attack is None


def test_what_an_audit_makes_itself_is_never_an_older_one() -> None:
    older = report(comparison(), probe(), behaviour(), attack=attacks(settings={"questions_digest": "other"}))
    told: list[str] = []
    listener = Listener(remark=told.append)
    kept = keep_older(older, replace(older, probe=None, behaviour=None, attack=None), listener)
    assert (kept.probe, kept.behaviour, kept.attack) == (None, None, None)
    assert told == ["its earlier attack was about other questions and is removed"]


def test_a_plan_says_what_attacks_take(audit: Run) -> None:
    plain, attacked = (audit("--plan", *more)[1] for more in ((), ("--tier", "0,1")))
    assert attacked.startswith(plain.splitlines()[0])
    assert attacked.count(f"\n\n{ATTACKED}\nforms") == attacked.count(f"{PROBED}\nmodel") == 1
    assert ATTACKED not in plain
    assert [name for name in ("forms", "samples", "quantise") if name in attacked] == ["forms", "samples", "quantise"]
    assert "forms" not in plain


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--reference", "base"), "--tier"),
        (("--tier", "7"), "--tier: 7 is too large"),
        (("--tier", "4"), "--tier: 4 is too large"),
        (("--tier", "0", "--reference", "nowhere", "--plan"), "nowhere"),
        (("--reference", "base", "--plan"), "--tier"),
        (("--tier", "0", "--reference", "nowhere"), "nowhere"),
    ],
)
def test_attacks_that_an_audit_cannot_make_are_refused(audit: Run, words: tuple[str, ...], said: str) -> None:
    status, _, err = audit(*words)
    assert (status, said in err, Path("ckdiff.h5").exists()) == (2, True, False), err


def test_one_report_holds_everything_and_shows_it_again(ckdiff: Run, audit: Run) -> None:
    _, out, _ = audit("--details")
    found = read_report("ckdiff.h5")
    assert None not in (found.compare, found.probe, found.behaviour, found.verdict)
    assert found.verdict is not None
    assert found.verdict.gate is not None
    assert found.verdict.gate.digest == read_policy(Path("lax.toml")).digest
    shown = ckdiff("show", "ckdiff.h5", "--section", "verdict")[1]
    # Only commands differ: the audit names paths as they were typed, a report the names that it keeps.
    lacking = "What it would take to say more of the knowledge"
    assert shown.partition(lacking)[0] == out.partition(lacking)[0]
    assert "`ckdiff attack --questions questions.txt" in " ".join(shown.split())
    # The verdict follows from what is stored, and from nothing else.
    assert same(judge_report(found, read_policy(Path("lax.toml"))), found)


def test_an_audit_measures_what_the_three_commands_measure(ckdiff: Run, audit: Run) -> None:
    audit("--windows", "all")
    common = ("--questions", "questions.txt", "--tokens", 4, "--device", "cpu", "-o", "parts.h5")
    ckdiff("compare", "base", "unlearned", "-o", "parts.h5")
    modes = ("--mode", ",".join((*MODES, *SUBSETS)), "--variant", "open,whole", "--direction", "both", "--window", 1)
    ckdiff("behave", "base", "unlearned", *common)
    ckdiff("probe", "base", "unlearned", *modes, *common)
    whole, parts = read_report("ckdiff.h5"), read_report("parts.h5")
    assert parts.verdict is None
    # An audit looks at what no basis hides, too.
    assert parts.compare is not None
    sides = open_checkpoint("base"), open_checkpoint("unlearned")
    parts = replace(parts, compare=measure_geometry(*sides, parts.compare))
    write_report(parts, Path("parts.h5"))
    assert same(judge_report(parts, read_policy(Path("lax.toml"))), whole)
    assert ckdiff("gate", "parts.h5", "--policy", "lax.toml", "--save")[0] == 0
    assert Path("parts.h5").read_bytes() == Path("ckdiff.h5").read_bytes()


def test_the_same_audit_gives_the_same_bytes(audit: Run) -> None:
    audit("--mode", "coeff,keys")
    first = Path("ckdiff.h5").read_bytes()
    audit("--mode", "coeff,keys")
    assert Path("ckdiff.h5").read_bytes() == first


def test_gate_judges_again_and_changes_nothing_unasked(ckdiff: Run, judged: Path) -> None:
    before = judged.read_bytes()
    assert ckdiff("gate", "ckdiff.h5", "--policy", "strict.toml")[0] == 1
    assert Path("ckdiff.h5").read_bytes() == before
    assert ckdiff("gate", "ckdiff.h5", "--policy", "strict.toml", "--save")[0] == 1
    assert verdict(ckdiff)["gate"]["outcome"] == "failed"
    status, _, err = ckdiff("gate", "ckdiff.h5", "--policy", "lax.toml", "--save")
    assert status == 0
    assert "ckdiff.h5: the gate by strict.toml (failed) is replaced\n" in err
    assert Path("ckdiff.h5").read_bytes() == before
    assert "replaced" not in ckdiff("gate", "ckdiff.h5", "--policy", "lax.toml", "--save")[2]


def test_new_measurements_drop_an_older_verdict_and_say_so(ckdiff: Run, audit: Run) -> None:
    audit("--mode", "coeff")
    status, _, err = ckdiff("compare", "base", "unlearned")
    assert status == 0
    assert "verdict" in err
    assert read_report("ckdiff.h5").verdict is None


def test_two_checkpoints_that_are_the_same_are_not_asked(ckdiff: Run, audit: Run) -> None:
    shutil.copytree("base", "copy")
    status, _, err = ckdiff("audit", "base", "copy", *QUICK)
    assert status == 1
    assert "the same" in err
    assert verdict(ckdiff)["label"] == "identical"


def test_without_questions_nothing_is_known_of_the_effect(ckdiff: Run, audit: Run) -> None:
    status, _, _ = ckdiff("audit", "base", "unlearned", "--policy", "lax.toml", "--device", "cpu", "--tokens", 4)
    assert status == 3
    assert verdict(ckdiff)["label"] == "inconclusive"


def test_weights_that_compute_no_numbers_are_inconclusive_and_the_drift_is_kept(ckdiff: Run, audit: Run) -> None:
    place = next(Path("unlearned").glob("*.safetensors"))
    tensors = load_file(place)
    tensors["model.norm.weight"][:] = float("nan")
    save_file(tensors, place, metadata={"format": "pt"})
    status, _, err = audit()
    # A tensor that is not finite is one that nobody expected.
    assert status == 1
    assert "NaN" in err
    assert verdict(ckdiff)["label"] == "inconclusive"
    assert read_report("ckdiff.h5").compare is not None


def test_a_policy_says_how_to_measure_and_options_say_more(ckdiff: Run, place: Path) -> None:
    (place / "policies").mkdir()
    shutil.copy("questions.txt", place / "policies" / "asked.txt")
    (place / "policies" / "p.toml").write_text(
        "[measure]\nquestions = 'asked.txt'\nwindow = 2\ntokens = 3\nmodes = ['coeff', 'values']\nneutral = false\n"
        + LAX
    )
    ckdiff("audit", "base", "unlearned", "--policy", "policies/p.toml", "--device", "cpu", "--tier", "none")
    settings = read_report("ckdiff.h5").probe.settings  # type: ignore[union-attr]
    assert (settings["window"], settings["tokens"], settings["modes"]) == ("2", "3", "coeff,values")
    assert read_report("ckdiff.h5").behaviour.neutral is None  # type: ignore[union-attr]
    ckdiff(
        "audit",
        "base",
        "unlearned",
        "--policy",
        "policies/p.toml",
        "--device",
        "cpu",
        "--window",
        1,
        "-m",
        "keys",
        "--tier",
        "none",
    )
    settings = read_report("ckdiff.h5").probe.settings  # type: ignore[union-attr]
    assert (settings["window"], settings["tokens"], settings["modes"]) == ("1", "3", "keys")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--policy", "misspelt.toml"), "no key 'fail.lables'"),
        (("--questions", "nothing.txt"), "nothing.txt"),
        (("--mode", "dreams"), "dreams"),
        (("--window", 0), "--window"),
        (("-o", "nowhere/report.h5"), "nowhere"),
        (("--tokens", 0), "--tokens"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    audit: Run, place: Path, arguments: tuple[Any, ...], words: str
) -> None:
    (place / "misspelt.toml").write_text("[fail]\nlables = ['suppressed']\n")
    status, out, err = audit(*arguments)
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert words in err
    assert not Path("ckdiff.h5").exists()


def test_swapped_or_missing_arguments(ckdiff: Run, audit: Run) -> None:
    assert ckdiff("audit", "base")[0] == 2
    assert ckdiff("audit", "base", "nothing", *QUICK)[0] == 2
    assert ckdiff("gate", "base")[0] == 2
    assert ckdiff("gate", "none.h5")[0] == 2
    audit("--mode", "coeff")
    status, _, err = ckdiff("audit", "unlearned", "base", "--policy", "lax.toml", *QUICK)
    assert status == 2
    assert "another pair" in err
    # A plan is refused where the run would be.
    assert ckdiff("audit", "unlearned", "base", "--policy", "lax.toml", *QUICK, "--plan") == (2, "", err)
    asked = ("--questions", "questions.txt", "--device", "cpu", "--plan")
    for command in (("probe",), ("attack",), ("depth", "--reference", "base")):
        status, out, err = ckdiff(command[0], "unlearned", "base", *command[1:], *asked)
        assert (status, out) == (2, "")
        assert re.search("the report is about .*/base, not .*/unlearned; use -o FILE", err)
    audit("--mode", "coeff", "--overwrite", "--plan")
    assert ckdiff("audit", "unlearned", "base", "--policy", "lax.toml", *QUICK, "--plan", "--overwrite")[0] == 0


def test_plan_says_what_would_run(audit: Run) -> None:
    status, out, _ = audit("--plan")
    assert status == 0
    assert "questions  3" in out
    needed = "if it needs 25% of the windows, as on real pairs; .* if none, .* if all"
    assert re.search(rf"\ntime +about \d+ s {needed}", out)
    assert not Path("ckdiff.h5").exists()


def test_a_plan_and_the_first_screen_say_that_a_chat_template_is_not_used(ckdiff: Run, audit: Run, place: Path) -> None:
    assert UNCHATTED not in audit("--plan")[2]
    for side in ("base", "unlearned"):
        save_tokenizer(place / side, chat_template="{{ messages[0].content }}")
    assert audit("--plan")[2].count(UNCHATTED) == audit("--plan", "--tier", "0")[2].count(UNCHATTED) == 1
    pair = ("base", "unlearned", "--questions", "questions.txt", "--device", "cpu", "--plan")
    for command in (("probe",), ("attack",), ("depth", "--reference", "base")):
        assert UNCHATTED in ckdiff(command[0], *pair, *command[1:])[2]
        assert UNCHATTED not in ckdiff(command[0], *pair, *command[1:], "--chat-template")[2]
    out = audit("--mode", "coeff")[1]
    assert f"asked {UNCHATTED}" in " ".join(out.split())


def test_plan_doubts_the_order_where_the_base_says_that_it_was_unlearned(audit: Run) -> None:
    assert "swapped" not in audit("--plan")[2]
    made: dict[str, object] = {"format": "ckdiff-unlearning", "method": "npo", "history": [], "digest": None}
    Path("base/unlearning.json").write_text(json.dumps(made))
    try:
        status, _, err = audit("--plan")
    finally:
        Path("base/unlearning.json").unlink()
    assert status == 0
    assert "the base says itself that it was made by unlearning (npo)" in err


def test_ctrl_c_leaves_the_older_report_and_resume_ends_in_the_same_bytes(audit: Run, place: Path, warm: Path) -> None:
    audit("--mode", "coeff", "-o", "whole.h5")
    command = [str(warm / "ckdiff"), "audit", "base", "unlearned", "--policy", "lax.toml"]
    command += [str(one) for one in (*QUICK, "--mode", "coeff")]
    started = subprocess.Popen(command, cwd=place, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    time.sleep(0.5)
    started.send_signal(signal.SIGINT)
    _, err = started.communicate()
    assert started.returncode in (0, 130)
    assert b"Traceback" not in err
    if started.returncode == 130:
        assert not Path("ckdiff.h5").exists()
    assert audit("--mode", "coeff", "--resume")[0] == 0
    assert Path("ckdiff.h5").read_bytes() == Path("whole.h5").read_bytes()
    assert sorted(name for name in os.listdir() if name.startswith(".") and name.endswith(".tmp")) == []


def test_asked_as_text(ckdiff: Run, audit: Run) -> None:
    given = [word for text in ASKED for word in ("--question", text)]
    status, _, _ = ckdiff(
        "audit", "base", "unlearned", "--policy", "lax.toml", *QUICK[:6], "--tier", "none", "--mode", "coeff", *given
    )
    assert status == 0


@pytest.mark.parametrize("way", ["| true", ">&-"])
def test_a_reader_that_goes_away_changes_no_exit_status(judged: Path, place: Path, warm: Path, way: str) -> None:
    # A text is written in one way, whatever its format; a table by rich.
    cases = [("strict", 1, "table"), ("strict", 1, "json"), ("lax", 0, "table"), ("greedy", 3, "table")]
    for policy, expected, name in cases:
        command = f"{warm / 'ckdiff'} gate ckdiff.h5 -p {policy}.toml -f {name} {way}"
        done = subprocess.run(
            ["bash", "-c", f"{command}; exit ${{PIPESTATUS[0]}}"], cwd=place, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (expected, ""), (policy, name)


def test_two_sources_of_questions_are_refused_and_the_policy_gives_way(ckdiff: Run, audit: Run) -> None:
    status, _, err = audit("--question", ASKED[0])
    assert status == 2
    assert "--questions and --question" in err


def test_a_report_is_never_written_as_a_weight_file(audit: Run, place: Path) -> None:
    before = sorted(place.rglob("*.safetensors"))
    for name in ("base/model-00003-of-00003.safetensors", str(before[0])):
        status, _, err = audit("-o", name, "--overwrite")
        assert status == 2
        assert "weight file" in err
    assert sorted(place.rglob("*.safetensors")) == before


def test_attest_replaces_nothing_but_an_attestation(ckdiff: Run, judged: Path) -> None:
    assert ckdiff("attest", "--new-key", "key.pem")[0] == 0
    before = Path("base/config.json").read_bytes()
    status, _, err = ckdiff("attest", "ckdiff.h5", "--key", "key.pem", "-o", "base/config.json")
    assert status == 2
    assert "no attestation" in err
    assert Path("base/config.json").read_bytes() == before
    for _ in range(2):
        assert ckdiff("attest", "ckdiff.h5", "--key", "key.pem")[0] == 0


def test_a_base_that_says_that_it_was_unlearned_is_remarked(ckdiff: Run, audit: Run) -> None:
    made = {"format": FORMAT, "method": "npo", "history": []}
    Path("base/unlearning.json").write_text(json.dumps(made))
    _, out, err = audit("--mode", "coeff", "--details")
    assert "were the two checkpoints swapped?" in err
    assert "were the two checkpoints swapped?" in " ".join(out.split())


def test_something_else_at_the_output_is_not_replaced_unasked(audit: Run) -> None:
    Path("notes.txt").write_text("mine")
    status, _, err = audit("-o", "notes.txt")
    assert status == 2
    assert "--overwrite" in err
    assert Path("notes.txt").read_text() == "mine"
