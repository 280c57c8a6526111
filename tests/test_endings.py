"""Exit statuses are in the table of endings, and build servers get a paper of each."""

from __future__ import annotations

from importlib import import_module
from inspect import getsource
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import typer

from ckdiff.cli.app import run
from ckdiff.cli.commands import COMMANDS
from ckdiff.cli.endings import ENDINGS, endings_of
from ckdiff.cli.tree import build_app
from ckdiff.errors import CkdiffError, ExitStatus
from ckdiff.report.formats import FORMATS

RAISED = {"probe": {3}, "corpus": {3}, "behave": {3}, "depth": {3}}
"""Statuses of errors that come from below: nothing to recover, NaN, a concept that a corpus lacks."""


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_has_the_statuses_of_the_code(name: str) -> None:
    source = getsource(import_module(f"ckdiff.cli.{name}"))
    gates = "exit_status(" in source
    used = {0} | RAISED.get(name, set())
    used |= {1} if gates or "ExitStatus.DIFFERS" in source else set()
    used |= {3} if gates or "ExitStatus.INCONCLUSIVE" in source or " inconclusive(" in source else set()
    assert {int(one.status) for one in ENDINGS[name]} == used
    for one in ENDINGS[name]:
        assert one.when
        assert one.then or one.status == 0


def test_every_ending_is_in_order_and_says_how_to_go_on() -> None:
    group: Any = typer.main.get_command(build_app())
    for name in COMMANDS:
        resumes = any("--resume" in one.opts for one in group.commands[name].params)
        found = endings_of(name, resumes)
        statuses = [int(one.status) for one in found]
        assert statuses == sorted(statuses)
        assert {0, 2, 4, 130} <= set(statuses)
        assert ("--resume" in found[-1].then) == resumes


@pytest.mark.parametrize(
    ("arguments", "status", "kind", "said"),
    [
        (["gate", "none.h5", "--format", "junit"], 2, "unusable", "there is no such report; `ckdiff audit BASE"),
        (["audit", "a", "b", "--format=junit"], 2, "unusable", "a: does not exist"),
        (["gate", "-fjunit"], 2, "unusable", "Missing argument"),
        (["gate", "none.h5", "-f", "md"], 2, "unusable", "there is no such report"),
    ],
)
def test_a_mistake_leaves_a_paper(
    arguments: list[str], status: int, kind: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == status
    out, err = capfd.readouterr()
    assert said in err
    if arguments[-1] == "md":
        assert out.startswith(f"# ckdiff gate: {kind}\n\nThere is no result. ")
        assert said in out
        return
    suite = ElementTree.fromstring(out.encode())
    assert (suite.get("tests"), suite.get("errors")) == ("1", "1")
    error = suite.find("testcase/error")
    assert error is not None
    assert error.get("type") == kind
    assert said in str(error.get("message"))


@pytest.mark.parametrize("name", FORMATS)
def test_no_other_format_gets_one(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["show", "none.h5", "--format", name]) == 2
    assert bool(capfd.readouterr().out) == (name in ("junit", "md"))


@pytest.mark.parametrize(
    ("raised", "status", "kind"),
    [
        (ValueError("<b>"), 4, "bug"),
        (MemoryError(), 2, "unusable"),
        (type("Nothing", (CkdiffError,), {"exit_status": ExitStatus.INCONCLUSIVE})("<b>"), 3, "inconclusive"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_every_ending_without_a_result_has_its_kind(
    raised: BaseException, status: int, kind: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> Any:
        raise raised

    monkeypatch.setattr("ckdiff.report.hdf5.file.read_any", broken)
    assert run(["show", "r.h5", "-f", "junit"]) == status
    out = capfd.readouterr().out
    assert f'type="{kind}"' in out
    assert run(["show", "r.h5"]) == status
    assert capfd.readouterr().out == ""
    assert "<b>" not in out


def test_comparisons_hash_in_so_many_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ckdiff.weights.hashing import ShardHasher
    from tests.checkpoints import llama, save

    asked: list[int] = []
    begin = ShardHasher.__init__

    def noted(self: ShardHasher, shards: Any, known: Any = None, threads: int = 0, beside: bool = False) -> None:
        asked.append(threads)
        begin(self, shards, known, threads, beside)

    monkeypatch.setattr(ShardHasher, "__init__", noted)
    place = str(save(tmp_path / "model", llama(layers=1)))
    assert run(["compare", place, place, "-q", "-o", str(tmp_path / "r.h5"), "--threads", "3"]) == 0
    assert asked == [3]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["audit", "a", "b", "--question", "q.json"], "--question q.json: is a file, and no question; give it with"),
        (["audit", "a", "b", "--question", "Who?"], "a: does not exist"),
        (["audit", "a", "b", "--question", "Who? " * 2000], "a: does not exist"),
        (["audit", "a", "b"], "no --questions: nothing can be said of what was to be unlearned"),
        (
            ["audit", "a", "b", "--question", "Who?", "--plan", "-o", "none/r.h5"],
            "/none does not exist; create it, or use -o FILE",
        ),
        (["audit", "a", "b", "-p", "p.toml"], "none.json: is not there; measure.questions of the policy p.toml names"),
        (["audit", "a", "b", "-p", "p.toml", "--questions", "q.json"], "a: does not exist"),
        (["audit", "a", "b", "-p", "p.toml", "--question", "Who?"], "a: does not exist"),
        (["probe", "a", "b", "--ask-unrelated"], "--concept and --ask-unrelated choose from a file"),
        (["probe", "a", "b", "--unrelated"], "--concept and --ask-unrelated choose from a file"),
    ],
)
def test_slips_are_named_before_anything_is_read(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("q.json").write_text('["Who?"]')
    Path("p.toml").write_text('[measure]\nquestions = "none.json"\n[require]\nquestions = 1\n')
    assert run(arguments) == 2
    assert said in capfd.readouterr().err
