"""The ways to ckdiff from elsewhere: the hub, a GitHub Action, a container, a citation."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tomllib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest
import typer
import yaml
from huggingface_hub import constants

from ckdiff.cli.tree import build_app
from ckdiff.version import __version__
from tests.test_probe_cli import ASKED, ckdiff, made, place

if TYPE_CHECKING:
    from tests.test_probe_cli import Run

__all__ = ["ckdiff", "made", "place"]  # fixtures

ROOT = Path(__file__).parent.parent
ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text())
STEPS: list[dict[str, Any]] = ACTION["runs"]["steps"]
AUDIT = next(step for step in STEPS if step.get("id") == "audit")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny pair and its questions as a cache of the hub has them, and no way out to the network."""
    cache = place / "hub"
    (place / "data").mkdir()
    shutil.move(place / "questions.txt", place / "data" / "questions.txt")
    for kind, name in (("models", "base"), ("models", "unlearned"), ("datasets", "data")):
        repo = cache / f"{kind}--org--{name}"
        (repo / "refs").mkdir(parents=True)
        (repo / "refs" / "main").write_text(COMMIT)
        (repo / "blobs").mkdir()
        (repo / "snapshots").mkdir()
        shutil.move(place / name, repo / "snapshots" / COMMIT)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return cache


def test_an_audit_takes_models_and_questions_of_the_hub(ckdiff: Run, hub: Path) -> None:
    pair, asked = ("hf://org/base", f"hf://org/unlearned@{COMMIT}"), "hf://datasets/org/data/questions.txt"
    status, out, err = ckdiff("audit", *pair, "--questions", asked, "--window", 1, "--device", "cpu", "--plan")
    assert status == 0, err
    assert f"questions  {len(ASKED)}" in out
    status, _, err = ckdiff("behave", *pair, "--questions", asked, "--tokens", 2, "--no-neutral", "--device", "cpu")
    assert status == 0, err
    # What a report records of them names the commit, and is taken again.
    status, out, err = ckdiff("probe", "--questions", asked, "--window", 1, "--device", "cpu", "--plan")
    assert (status, f"questions  {len(ASKED)}" in out) == (0, True), err


def test_other_actions_are_pinned_and_no_input_is_pasted_into_a_script() -> None:
    for step in STEPS:
        if "uses" in step:
            assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", step["uses"]), step["uses"]
        else:
            assert step["shell"] == "bash"
            assert "${{" not in step["run"]
    given = {text for step in STEPS for text in step.get("env", {}).values()}
    given |= {text for step in STEPS for text in step.get("with", {}).values()}
    used = {name for text in given for name in re.findall(r"inputs\.([\w-]+)", text)}
    assert used == {*ACTION["inputs"]}
    assert ACTION["outputs"]["status"]["value"] == "${{ steps.audit.outputs.status }}"


def test_its_commands_and_options_exist() -> None:
    group: Any = typer.main.get_command(build_app())
    script = AUDIT["run"]
    called = re.findall(r"^\s*ckdiff (\w+)(.*)$", script, re.MULTILINE)
    assert [name for name, _ in called] == ["audit", "html", "show"]
    wanted = {name: set(re.findall(r"(?<=\s)--[a-z][\w-]*", rest)) for name, rest in called}
    for line in re.findall(r"options\+?=\((.*)\)", script):
        wanted["audit"] |= set(re.findall(r"--[a-z][\w-]*", line))
    assert len(wanted["audit"]) == 10
    for name, options in wanted.items():
        there = {word for one in group.commands[name].params for word in (*one.opts, *one.secondary_opts)}
        assert options <= there, name
    extras = re.search(r"\[([\w,]+)\]", next(step for step in STEPS if step.get("name") == "Install ckdiff")["run"])
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert extras is not None
    assert {*extras[1].split(",")} <= {*project["optional-dependencies"]}


RUNNER = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", AUDIT["run"]]
"""How a runner calls the action's script."""


def environment_of(place: Path, given: dict[str, str]) -> dict[str, str]:
    """The variables of the action's script, with its papers and the runner's files in this directory."""
    inputs = {name: row.get("default", "") for name, row in ACTION["inputs"].items()}
    environment = {
        name: inputs.get(text[len("${{ inputs.") : -len(" }}")], "") for name, text in AUDIT["env"].items()
    } | given
    files = {"GITHUB_OUTPUT": place / "output", "GITHUB_STEP_SUMMARY": place / "step", "OUT": place / "out"}
    return environment | {name: str(path) for name, path in files.items()}


def papers_of(place: Path) -> tuple[str, Path]:
    """The status that the script reports, and its papers."""
    out = place / "out"
    assert (place / "step").read_text() == (out / "summary.md").read_text()
    status = re.fullmatch(r"status=(\d+)\n", (place / "output").read_text())
    assert status is not None
    return status[1], out


def audit(place: Path, warm: Path, **given: str) -> tuple[str, Path, str]:
    """Run the action's script as a runner does: the status that it reports, its papers, what it prints."""
    path = f"{warm}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), **environment_of(place, given)}
    run = subprocess.run(RUNNER, cwd=place, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return *papers_of(place), run.stdout


def test_every_outcome_leaves_its_papers(place: Path, warm: Path) -> None:
    (place / "p.toml").write_text('[measure]\nwindow = 1\ntokens = 2\n[require]\nsections = ["compare"]\n')
    status, out, _ = audit(
        place, warm, BASE="base", UNLEARNED="unlearned", QUESTIONS="questions.txt", POLICY="p.toml", TIER="none"
    )
    assert status == "0"
    assert {path.name for path in out.iterdir()} == {"report.h5", "page.html", "junit.xml", "summary.md", "log.txt"}
    assert ElementTree.parse(out / "junit.xml").getroot().get("errors") == "0"
    assert "# " in (out / "summary.md").read_text()


def test_a_mistake_leaves_a_summary_and_says_nothing_to_the_runner(place: Path, warm: Path) -> None:
    (place / "out").mkdir()
    (place / "out" / "report.h5").write_text("of an earlier run")
    status, out, printed = audit(place, warm, BASE="--help", UNLEARNED="::set-output name=status::0")
    assert status == "2"
    assert {path.name for path in out.iterdir()} == {"junit.xml", "summary.md", "log.txt"}
    (error,) = ElementTree.parse(out / "junit.xml").getroot().iter("error")
    assert error.get("type") == "unusable"
    assert (out / "summary.md").read_text().startswith("# ckdiff audit: exit status 2\n\nThere is no result.\n\n    ")
    lines = printed.splitlines()
    token = lines[0].removeprefix("::stop-commands::")
    assert len(token) == 32
    assert lines[-1] == f"::{token}::"


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_job_that_is_cancelled_ends_its_audit_and_says_so(tmp_path: Path, sent: signal.Signals) -> None:
    """In the place of ckdiff a command that says that it has begun, and takes a moment to end, as ours may."""
    commands, begun = tmp_path / "bin", tmp_path / "begun"
    commands.mkdir()
    os.mkfifo(begun)
    stand_in = commands / "ckdiff"
    ends = "trap 'echo interrupted >&2; sleep 0.2; exit 130' TERM"
    stand_in.write_text(f'#!/bin/sh\n{ends}\necho $$ > "{begun}"\nwhile :; do sleep 0.05; done\n')
    stand_in.chmod(0o755)
    given = environment_of(tmp_path, {"BASE": "base", "UNLEARNED": "unlearned"})
    environment = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", **given}
    # What a shell begins in the background inherits that Ctrl-C is ignored, and a script cannot undo it.
    heeds = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen(RUNNER, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, preexec_fn=heeds) as script:
        child = int(begun.read_text())
        script.send_signal(sent)
        printed, _ = script.communicate()
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    status, out = papers_of(tmp_path)
    assert (status, script.returncode, b"interrupted" in printed) == ("130", 0, True)
    assert (out / "summary.md").read_text().startswith("# ckdiff audit: exit status 130\n\nThere is no result.\n")
    assert not (out / "report.h5").exists()


def test_the_job_ends_with_the_status() -> None:
    outcome = STEPS[-1]
    assert outcome["if"] == "always()"
    for given, expected in (("0", 0), ("1", 1), ("3", 3), ("130", 130), ("", 2)):
        run = subprocess.run(["bash", "-c", outcome["run"]], env={"STATUS": given, "PATH": os.environ["PATH"]})
        assert run.returncode == expected


def test_the_container_installs_what_ci_installs() -> None:
    text = (ROOT / "Containerfile").read_text()
    torch = re.search(r"^ARG TORCH=(\S+)$", text, re.MULTILINE)
    assert torch is not None
    assert torch[1] in (ROOT / "examples" / "quickstart").read_text()
    for line in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.MULTILINE):
        for name in line.split():
            assert (ROOT / name).exists(), name
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = re.search(r"\.whl\)\[([\w,]+)\]", text)
    assert extras is not None
    assert {*extras[1].split(",")} <= {*project["optional-dependencies"]}
    assert text.index("\nUSER ckdiff\n") < text.index("\nENTRYPOINT ")


def test_the_citation_is_of_this_version_and_of_the_paper() -> None:
    found = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (found["version"], found["license"]) == (__version__, project["license"])
    (paper,) = found["references"]
    readme = (ROOT / "README.md").read_text()
    assert f"{{{paper['title']}}}" in readme
    assert paper["url"].rpartition("/")[2] in readme
    for author in paper["authors"]:
        assert f"{author['family-names']}, {author['given-names']}" in readme
