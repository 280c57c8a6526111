"""Every option is said once, and what can be typed is what a spec can say."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping  # noqa: TC003  (read when the program runs)
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer

from ckdiff.audit.gate.measures import MEASURES
from ckdiff.calls.specs import NAMES, AuditSpec, BehaveSpec, CompareSpec, ProbeSpec, Target, audit_settings
from ckdiff.cli.audit import MEASURED
from ckdiff.cli.commands import COMMANDS
from ckdiff.cli.groups import Given, flatten
from ckdiff.cli.tree import build_app
from ckdiff.options import (
    ASKED,
    ATTACKING,
    OUT,
    POLICIES,
    RUNS,
    Argument,
    Option,
    OptionError,
    assemble,
    check_options,
    options_of,
)
from ckdiff.scoring.settings import Answering, Machine, Restoring, Settings, SettingsError
from ckdiff.unlearn.recipe import Recipe, RecipeError, StopWhen, UnlearnSpec

PACKAGE = Path(__file__).parent.parent / "ckdiff"
SPECS = (CompareSpec, ProbeSpec, BehaveSpec, AuditSpec, Settings, UnlearnSpec, Recipe)
INTERNAL = {
    "settings": "its fields are options",
    "recipe": "its fields are options",
    "twins": "its fields are options",
    "policy": "read from --policy",
    "neutral": "a file of --neutral, or False for --no-neutral",
    "unrelated": "of a probe a flag, which has the words of the door",
    "attention": "measures transformers' own choice in benchmarks",
    "chunk": "by device",
    "memory": "what is free; a campaign shares it out",
    "controls": "left out in benchmarks only",
}
"""Fields of the specs that no option sets, and why."""


def declared() -> list[str]:
    """The long name of every option that the package declares: of `Option("--name -n", ...)`."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Option":
                assert isinstance(node.args[0], ast.Constant), (path, node.lineno)
                found.append(str(node.args[0].value).split()[0].split("/")[0])
    return found


def shown() -> set[str]:
    """The long name of every option that some command takes."""
    commands: Any = typer.main.get_command(build_app())
    names = {name for command in commands.commands.values() for one in command.params for name in one.opts}
    return {name for name in names if name.startswith("--")} - {"--help"}


def test_every_option_is_declared_once() -> None:
    counts = Counter(declared())
    assert [name for name, count in counts.items() if count > 1] == []
    assert shown() == set(counts)


def lines_of(words: str) -> list[str]:
    """What `ckdiff` prints on a terminal of 100 columns."""
    environment = {**os.environ, "COLUMNS": "100", "PYTHONPATH": str(PACKAGE.parent), "TERMINAL_WIDTH": "100"}
    done = subprocess.run(
        [sys.executable, "-m", "ckdiff", *words.split()], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_help_of_an_audit_is_a_screen_or_two_and_begins_with_what_is_asked() -> None:
    audit: Any = typer.main.get_command(build_app(["audit"]))
    options = {name for one in audit.commands["audit"].params for name in one.opts if name.startswith("--")}
    short, whole = lines_of("audit --help"), lines_of("audit --help-all")
    assert len(short) <= 62
    missing = {name for name in options if name not in "\n".join(short).split()}
    assert {"--given-answers", "--dtype", "--margins", "--neutral", "--hash"} <= missing
    assert not {"--questions", "--reference", "--policy", "--mode", "--plan", "--output"} & missing
    assert f" {len(missing)} more options: ckdiff audit --help-all" in map(str.rstrip, short)
    assert "more options" not in "\n".join(whole)
    assert {name for name in options if name not in "\n".join(whole).split()} == set()
    headings = [line.split("─")[1].strip() for line in whole if line.startswith("╭") and "─" in line]
    assert headings[2:] == [ASKED, ATTACKING, POLICIES, "What is restored", RUNS, OUT]


def test_help_of_a_small_command_leaves_nothing_out() -> None:
    assert "--adapter-base" in " ".join(lines_of("inspect --help"))


@pytest.mark.parametrize("spec", SPECS)
def test_every_field_that_a_user_can_set_has_an_option(spec: type) -> None:
    without = {one.name for one in fields(spec)} - set(options_of(spec))
    assert without <= set(INTERNAL)


def test_a_spec_without_anything_typed_has_its_own_defaults() -> None:
    assert typed(settings_command, "base") == Settings()
    assert typed(unlearn_command, "base", "-o", "made") == UnlearnSpec("base", Path("made"))
    assert typed(given_command, "base") == {}


def test_what_is_typed_arrives() -> None:
    words = "-m attn,keys --variant all --direction both --layers 7,0-2 --no-kl --neurons --neuron-goal 0.5"
    words += r" --tokens 3 --prompt-template {q}\n --chat-template --stream on --dtype float64 --window 1"
    assert typed(settings_command, "base", *words.split()) == Settings(
        modes=("attn", "keys"),
        variants=("open", "isolated", "direct", "whole"),
        directions=("restore", "break"),
        window=1,
        layers=(0, 1, 2, 7),
        kl=False,
        neurons=True,
        neuron_goal=0.5,
        tokens=3,
        template="{q}\n",
        chat=True,
        stream="on",
        dtype="float64",
    )
    words = "-o made -F a.json --method needle --neurons 3:17,4:0 --stop-when loss<1 --stop-when target_bleu<=0.5"
    recipe = Recipe(
        "needle",
        neurons=((3, 17), (4, 0)),
        stop_when=(StopWhen("loss", "<", 1.0), StopWhen("target_bleu", "<=", 0.5)),
    )
    expected = UnlearnSpec("base", Path("made"), forget=Path("a.json"), recipe=recipe)
    assert typed(unlearn_command, "base", *words.split()) == expected


def test_of_what_may_be_left_to_others_only_the_typed_arrives() -> None:
    words = "--mode values --window 2 --chat-template --question who --question what"
    assert typed(given_command, "base", *words.split()) == {
        "asked": ("who", "what"),
        "modes": ("values",),
        "window": 2,
        "chat": True,
    }


def test_audit_takes_what_a_policy_can_measure() -> None:
    taken = {name for kind in MEASURED.kinds for name in options_of(kind)} - set(MEASURED.without)
    assert {NAMES.get(name, name) for name in MEASURES} <= taken | {"neutral"}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (Settings(modes=("dreams",)), "--mode: no 'dreams'; there are coeff, "),
        (Settings(modes=()), "--mode: names nothing; there are coeff, "),
        (Settings(window=0), "--window: 0 is too small; give 1 or more"),
        (Settings(neuron_goal=float("nan")), "--neuron-goal: nan cannot be; give more than 0, at most 1"),
        (Recipe(lr=0.0), "--lr: 0 cannot be; give more than 0, at most 1e+37"),
        (Recipe(retain_weight=-1.0), "--retain-weight: -1 cannot be; give 0 or more"),
        (Recipe(beta=float("inf")), "--beta: inf cannot be; give more than 0"),
        (Recipe(seed=2**32), "--seed: 4294967296 is too large; give 0 or more, at most 4294967295"),
    ],
)
def test_what_cannot_be_is_refused_whoever_made_the_spec(spec: Settings | Recipe, words: str) -> None:
    kind = SettingsError if isinstance(spec, Settings) else RecipeError
    with pytest.raises(kind) as caught:
        spec.check()
    assert str(caught.value).startswith(words)


def test_a_number_out_of_bounds_is_refused_where_it_is_typed() -> None:
    with pytest.raises(OptionError, match="--window: 0 is too small"):
        typed(settings_command, "base", "--window", "0")
    check_options(replace(Settings(), window=1))


def test_only_the_console_prints() -> None:
    door = [path for path in (PACKAGE / "cli").glob("*.py") if path.name != "console.py"]
    for path in door:
        assert not [word for word in ("print(", "sys.stdout", "sys.stderr", "echo(") if word in path.read_text()], path


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("ckdiff sho", "show"),
        ("ckdiff show report.h5 --section beh", "behaviour"),
        ("ckdiff unlearn b --pref", "--pref"),
    ],
)
def test_a_shell_completes(words: str, expected: str) -> None:
    place = str(len(words.split()) - 1)
    variables = {"_CKDIFF_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": place}
    done = subprocess.run(
        [sys.executable, "-m", "ckdiff"], env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert any(line.startswith(expected) for line in done.stdout.splitlines())


def test_every_command_has_a_module_of_its_name() -> None:
    others = {"__init__", "app", "commands", "console", "course", "endings", "groups", "options", "plain", "session"}
    others |= {"again", "stored", "tree"}
    assert {path.stem for path in (PACKAGE / "cli").glob("*.py")} - others == set(COMMANDS)


# ------------------------------------------------------------------------------------------------------------ commands

heard: list[Any] = []


def settings_command(
    base: Annotated[str, Argument("")], restoring: Restoring, answering: Answering, machine: Machine
) -> None:
    heard.append(assemble(Settings, restoring, answering, machine))


def unlearn_command(spec: UnlearnSpec) -> None:
    heard.append(spec)


def given_command(
    base: Annotated[str, Argument("")],
    given: Annotated[Mapping[str, Any], Given((Target, Restoring, Answering, Machine), audit_settings)],
) -> None:
    heard.append(given)


def typed(command: Any, *words: str) -> Any:
    """What a command hears of what is typed."""
    heard.clear()
    one = typer.Typer()
    one.command()(flatten(command))
    typer.main.get_command(one).main(list(words), standalone_mode=False)
    return heard.pop()


def test_an_option_keeps_its_name_in_other_words() -> None:
    option = Option("--kl/--no-kl", "one", "panel", least=1)
    assert option.name == "--kl"
    other = option.but("two", "")
    assert (other.names, other.help, other.panel, other.least) == ("--kl/--no-kl", "two", "", 1)


@pytest.mark.parametrize(
    ("typed", "modes", "dtype"),
    [
        (["--mode", "coeff", "--mode", "attn,keys", "--dtype", "bf16"], ("coeff", "attn", "keys"), "bfloat16"),
        (["--dtype", "float64"], ("coeff",), "float64"),
    ],
)
def test_names_add_up_and_short_dtypes_are_known(typed: list[str], modes: tuple[str, ...], dtype: str) -> None:
    heard.clear()
    app = typer.Typer()
    app.command()(flatten(settings_command))
    typer.main.get_command(app).main(["base", *typed], standalone_mode=False)
    assert (heard[0].modes, heard[0].dtype) == (modes, dtype)
