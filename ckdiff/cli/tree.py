"""The commands as Typer knows them: `build_app(["show"])`."""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ckdiff.cli.commands import COMMANDS
from ckdiff.cli.console import flush_stdout, remark, write
from ckdiff.cli.groups import flatten
from ckdiff.cli.plain import read_plainly
from ckdiff.errors import ExitStatus
from ckdiff.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HELP = {"help_option_names": ["-h", "--help"]}
EVERYTHING = "--help-all"
FEW = 15
"""Options and arguments that `--help` lists in any case; of more, it leaves those out that few need."""


def build_app(commands: Iterable[str] = COMMANDS, named_only: bool = False) -> typer.Typer:
    """The command line with these commands, or no more than their names and gists; what is not built costs nothing."""
    app = typer.Typer(
        name="ckdiff",
        help="What did unlearning change in a model, and did the knowledge go away?",
        pretty_exceptions_enable=False,
        context_settings=HELP,
    )
    app.callback(invoke_without_command=True)(door)
    for name in commands:
        row = COMMANDS[name]
        called = unbuilt if named_only else flatten(getattr(import_module(f"ckdiff.cli.{name}"), name))
        app.command(name, help=row.gist, rich_help_panel=row.panel, context_settings=HELP)(called)
    return app


def read_help(words: list[str]) -> tuple[list[str], bool]:
    """The words with `--help` for `--help-all`, and whether every option is to be listed: for that, or to a shell.

    >>> read_help(["audit", "--help-all"]), read_help(["--", "--help-all"])
    ((['audit', '--help'], True), (['--', '--help-all'], False))
    """
    own = words.index("--") if "--" in words else len(words)
    asked = EVERYTHING in words[:own]
    plain = ["--help" if word == EVERYTHING else word for word in words[:own]]
    return [*plain, *words[own:]], asked or "_CKDIFF_COMPLETE" in os.environ


def explain(command: Any, example: str, everything: bool) -> None:
    """Give a command its last lines of help; where everything is asked for, or is little, list what few need, too."""
    rare = [one for one in command.params if getattr(one, "hidden", False)]
    few = everything or len(command.params) <= FEW
    for one in rare if few else ():
        one.hidden = False
    more = "" if few or not rare else f"\n\n{len(rare)} more options: ckdiff {command.name} {EVERYTHING}"
    command.epilog = f"Example: {example}{more}"


def unbuilt() -> None:
    """In the place of a command that nobody has named."""


def door(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", "-V", help="Print the version and stop.")] = False,
) -> None:
    """What did unlearning change in a model, and did the knowledge go away?"""
    if version:
        write(f"ckdiff {__version__}\n")
        raise typer.Exit
    if context.invoked_subcommand is None:
        remark(context.get_help())
        raise typer.Exit(ExitStatus.USAGE)


def obey(given: Sequence[str]) -> int:
    """Do what these words say; its status.

    Raises:
        BaseException: whatever ends it otherwise.
    """
    words, everything = read_help(list(given))
    known = bool(words) and words[0] in COMMANDS
    named_only = not (known or COMMANDS.keys() & set(words) or "_CKDIFF_COMPLETE" in os.environ)
    group: Any = typer.main.get_command(build_app(words[:1] if known else COMMANDS, named_only))
    read_plainly([group, *group.commands.values()])
    for name, command in group.commands.items():
        explain(command, COMMANDS[name].example, everything)
    result: Any = group.main(words, prog_name="ckdiff", standalone_mode=False)
    flush_stdout()
    return int(result or 0)
