"""What is imported to parse a command line, and that plain values are what Typer makes of them."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from typing import Any

import pytest
import typer

from ckdiff.cli.app import run
from ckdiff.cli.commands import COMMANDS
from ckdiff.cli.plain import read_plainly
from ckdiff.cli.tree import build_app

TYPED = {
    "show": [
        *(("--top", text) for text in ("5", "0", "-3", "1_000", "+5", "5.0", " 5", "٣", "x", "", "9" * 30)),
        *(("--format", text) for text in ("json", "", "7")),
        ("REPORT", "a b/../r.h5"),
    ],
    "unlearn": [
        *(("--lr", text) for text in ("1e-5", "0.5", "5", ".5", "1e400", "nan", "inf", "1_0", "x", "")),
        ("--stop-when", "a<1"),
    ],
    "gather": [("RESULTS", "a b"), ("RESULTS", "")],
}


def parsed(name: str, words: list[str], plainly: bool) -> tuple[dict[str, Any], str]:
    """What a command gets of these words, and what is said of them."""
    group: Any = typer.main.get_command(build_app([name]))
    if plainly:
        read_plainly([group, *group.commands.values()])
    try:
        return group.commands[name].make_context(name, list(words)).params, ""
    except Exception as error:  # click's, which some versions of Typer carry inside themselves
        return {}, error.format_message()  # type: ignore[attr-defined]


@pytest.mark.parametrize(("name", "option", "text"), [(name, *one) for name, all_ in TYPED.items() for one in all_])
def test_a_value_is_what_typer_makes_of_it(name: str, option: str, text: str) -> None:
    needed = {"show": ["r.h5"], "unlearn": ["base", "--forget", "f.txt"], "gather": ["r"]}[name]
    words = [text] if option.isupper() else [*needed, option, text]
    found, wanted = parsed(name, words, True), parsed(name, words, False)
    assert repr(found) == repr(wanted)
    assert found[0] or found[1]


def test_the_list_of_commands_says_what_each_says_of_itself() -> None:
    own = {name: getattr(import_module(f"ckdiff.cli.{name}"), name).__doc__ for name in COMMANDS}
    assert own == {name: row.gist for name, row in COMMANDS.items()}


def test_a_command_behind_a_mark_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--", "show", "none.h5"]) == 2
    assert capsys.readouterr().err.startswith("ckdiff: none.h5: ")


@pytest.mark.parametrize(("words", "heavy"), [("--help", "ckdiff.cli.probe numpy"), ("show none.h5", "pydantic torch")])
def test_what_a_command_does_not_need_is_not_imported(words: str, heavy: str) -> None:
    code = f"import sys; from ckdiff.cli.app import run; run({words.split()}); print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {*heavy.split()} & {*done.stderr.splitlines()[-1].split()}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("audit a b --tokens x", "--tokens: 'x' is no whole number; `ckdiff audit --help` says what it takes"),
        ("audit a b --tokens 7 --tokens=y", "--tokens: 'y' is no whole number; "),
        ("probe a b --window 1.5", "--window: '1.5' is no whole number; "),
        ("demo p --seed x", "--seed: 'x' is no whole number; "),
        ("unlearn a --lr x", "--lr: 'x' is no number; "),
        ("attack a b --tier x", "--tier: 'x' is neither a tier nor a range; write 0,1,2"),
        ("probe a b --layers x", "--layers: 'x' is neither a layer nor a range; write 0,5-9"),
    ],
)
def test_what_is_no_number_is_said_in_our_words(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(words.split()) == 2
    assert capsys.readouterr().err.startswith(f"ckdiff: {said}")
