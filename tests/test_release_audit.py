"""`examples/release-audit`: four runs, four exit statuses, and the papers of each."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tomllib
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ckdiff.audit.gate.policy import read_policy
from ckdiff.report.hdf5.file import read_report

ROOT = Path(__file__).parent.parent
EXAMPLE = ROOT / "examples" / "release-audit"
PAPERS = {"report.h5", "page.html", "summary.md", "junit.xml", "report.h5.intoto.json"}


@pytest.fixture(scope="module")
def tried(tmp_path_factory: pytest.TempPathFactory, warm: Path) -> tuple[Path, str]:
    out = tmp_path_factory.mktemp("release-audit")
    run = subprocess.run([warm / "python", EXAMPLE / "try.py", out], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "Traceback" not in run.stderr
    return out, run.stdout


def test_pass_failure_mistake_and_too_little_have_four_statuses(tried: tuple[Path, str]) -> None:
    for line in (
        "passed: exit status 0, 0 expected",
        "failed: exit status 1, 1 expected",
        "mistake: exit status 2, 2 expected",
        "unknown: exit status 3, 3 expected",
    ):
        assert f"\n{line}\n" in tried[1]


@pytest.mark.parametrize(
    ("name", "label", "outcome"),
    [
        ("passed", "no effect on these questions", "passed"),
        ("failed", "suppressed", "failed"),
        ("unknown", "suppressed", "inconclusive"),
    ],
)
def test_each_run_leaves_its_papers(tried: tuple[Path, str], name: str, label: str, outcome: str) -> None:
    folder = tried[0] / name
    assert {place.name for place in folder.iterdir()} == PAPERS
    verdict = read_report(folder / "report.h5").verdict
    assert verdict is not None
    assert verdict.gate is not None
    assert (verdict.label, verdict.gate.outcome) == (label, outcome)
    failures = ElementTree.parse(folder / "junit.xml").getroot().iter("failure")
    assert bool(list(failures)) == (outcome == "failed")
    assert label in (folder / "summary.md").read_text()
    assert label in (folder / "page.html").read_text().lower()


def test_a_mistake_leaves_papers_that_say_so(tried: tuple[Path, str]) -> None:
    folder = tried[0] / "mistake"
    assert {place.name for place in folder.iterdir()} == {"summary.md", "junit.xml"}
    (error,) = ElementTree.parse(folder / "junit.xml").getroot().iter("error")
    assert (error.get("type"), "truncated" in str(error.get("message"))) == ("unusable", True)
    summary = (folder / "summary.md").read_text()
    assert summary.startswith("# ckdiff audit: exit status 2\n\nThere is no result.\n\n    ckdiff: ")


@pytest.mark.parametrize("place", sorted(EXAMPLE.glob("*.toml")), ids=lambda place: place.stem)
def test_each_policy_can_be_read_and_is_in_the_readme(place: Path) -> None:
    assert read_policy(place).title == tomllib.loads(place.read_text())["title"]
    assert f"`{place.name}`" in (EXAMPLE / "README.md").read_text()


def test_the_script_wants_its_arguments() -> None:
    run = subprocess.run([EXAMPLE / "audit.sh", "base"], capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (2, "usage: audit.sh [--resume] BASE UNLEARNED POLICY OUT [KEY]\n")


def test_a_key_that_is_not_there_is_missed_before_the_work(tmp_path: Path) -> None:
    """And papers of an earlier audit are gone, whatever comes; an empty file is what an unset secret leaves."""
    key, out = tmp_path / "key.pem", tmp_path / "out"
    for missing in (key, Path(f"{key}.pub")):
        out.mkdir()
        (out / "junit.xml").write_text("of an earlier audit")
        missing.write_text("\n")
        command = [str(one) for one in (EXAMPLE / "audit.sh", "base", "unlearned", "policy.toml", out, key)]
        run = subprocess.run(command, capture_output=True, text=True)
        assert (run.returncode, run.stderr.count("\n"), list(out.iterdir())) == (2, 1, [])
        assert run.stderr.startswith(f"{missing}: no key can be read; `ckdiff attest --new-key {key}` makes")
        missing.write_text("-----BEGIN")
        out.rmdir()


@pytest.mark.parametrize("fails", ["html", "show", "attest", "verify"])
def test_what_fails_behind_a_passed_gate_leaves_no_paper_that_says_so(tmp_path: Path, fails: str) -> None:
    """In the place of ckdiff a command whose audit passes, and one of whose others fails."""
    commands, out, key = tmp_path / "bin", tmp_path / "out", tmp_path / "key.pem"
    commands.mkdir()
    for file in (key, Path(f"{key}.pub")):
        file.write_text("-----BEGIN")
    stand_in = commands / "ckdiff"
    stand_in.write_text(
        f'#!/bin/sh\n[ "$1" = {fails} ] && {{ echo "ckdiff: no such key" >&2; exit 2; }}\n'
        f'[ "$1" = audit ] && echo whole > "{out}/report.h5"\necho "GATE PASSED"\n'
    )
    stand_in.chmod(0o755)
    environment = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}"}
    command = [str(one) for one in (EXAMPLE / "audit.sh", "base", "unlearned", "policy.toml", out, key)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (2, "ckdiff: no such key\n")
    assert "PASSED" not in (out / "summary.md").read_text()
    (error,) = ElementTree.parse(out / "junit.xml").getroot().iter("error")
    assert error.get("message") == f"the gate passed, and then ckdiff {fails} failed: no release"


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_an_audit_that_is_cancelled_does_not_go_on(tmp_path: Path, sent: signal.Signals, status: int) -> None:
    """In the place of ckdiff a command that says that it has begun, and would write a report if it were not ended."""
    commands, begun, told, out = (tmp_path / name for name in ("bin", "begun", "told", "out"))
    commands.mkdir()
    os.mkfifo(begun)
    stand_in = commands / "ckdiff"
    stand_in.write_text(f'#!/bin/sh\necho "$*" > "{told}"\necho $$ > "{begun}"\nexec sleep 60\n')
    stand_in.chmod(0o755)
    environment = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}"}
    again = ["--resume"] if sent == signal.SIGINT else []
    command = [str(EXAMPLE / "audit.sh"), *again, "base", "unlearned", "policy.toml", str(out)]
    # What a shell begins in the background inherits that Ctrl-C is ignored, and a script cannot undo it.
    heeds = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(command, env=environment, preexec_fn=heeds, stderr=subprocess.PIPE, text=True) as script:
        child = int(begun.read_text())
        script.send_signal(sent)
        _, said = script.communicate()
    assert (script.returncode, said) == (
        status,
        "audit.sh: interrupted; the same with --resume as the first argument goes on\n",
    )
    assert told.read_text().split().count("--resume") == len(again)
    assert told.read_text().startswith("audit base unlearned --policy policy.toml")
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    assert {place.name for place in out.iterdir()} == {"summary.md", "junit.xml"}
    (error,) = ElementTree.parse(out / "junit.xml").getroot().iter("error")
    assert error.get("message") == "interrupted: it was cancelled"
    summary = (
        f"# ckdiff audit: exit status {status}\n\nThere is no result.\n\n    audit.sh: interrupted: it was cancelled\n"
    )
    assert (out / "summary.md").read_text() == summary


def test_the_workflow_runs_the_script_with_inputs_as_variables() -> None:
    text = (EXAMPLE / "release.yml").read_text()
    script = text[text.index("run: |") :].split("- name: Summary")[0]
    assert "./audit.sh" in script
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", line) for line in re.findall(r"uses: (.*)", text))
    assert "${{" not in script, "what is pasted into a script is run by the shell"
