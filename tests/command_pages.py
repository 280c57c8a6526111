"""The pages of `docs/commands`, made of the command line: `python -m tests.command_pages` writes them.

A test holds the pages against what this makes of them today.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ckdiff.cli.commands import COMMANDS
from ckdiff.cli.endings import endings_of
from ckdiff.cli.tree import build_app

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER = Path(__file__).parent.parent / "docs" / "commands"
ABOUT = {
    "probe": "probe.md",
    "compare": "compare.md",
    "behave": "behave.md",
    "attack": "attack.md",
    "depth": "depth.md",
    "discover": "discover.md",
    "audit": "audit.md",
    "gate": "audit.md",
    "attest": "verify.md",
    "verify": "verify.md",
    "show": "scripts.md",
    "html": "page.md",
    "inspect": "checkpoints.md",
    "campaign": "campaign.md",
    "gather": "campaign.md",
    "unlearn": "unlearn.md",
    "corpus": "unlearn.md",
}
"""The page that says what a command is about."""


def make_pages() -> dict[str, str]:
    """The text of every page, by file name."""
    group: Any = typer.main.get_command(build_app())
    pages = {f"{name}.md": _page(name, group.commands[name]) for name in COMMANDS}
    return pages | {"index.md": _index(group), "endings.md": _endings_page(group)}


def _page(name: str, command: Any) -> str:
    about = [f"More about it: [{ABOUT[name].removesuffix('.md')}](../{ABOUT[name]}).", ""] if name in ABOUT else []
    lines = [f"# ckdiff {name}", "", command.help, "", "```text", COMMANDS[name].example, "```", "", *about]
    for panel, rows in _panels(command).items():
        lines += [f"## {panel}", "", "| name | what it is |", "|---|---|", *rows, ""]
    lines += ["## Exit status", "", *_endings_table(name, command)]
    return "\n".join(lines)


def _endings_table(name: str, command: Any) -> list[str]:
    resumes = any("--resume" in one.opts for one in command.params)
    rows = [f"| {int(one.status)} | {one.when} | {one.then} |" for one in endings_of(name, resumes)]
    return ["| status | when | what to do |", "|---|---|---|", *rows, ""]


def _endings_page(group: Any) -> str:
    lines = [
        "# Exit statuses, and what to do next",
        "",
        "stderr says the reason in one line. Status 3 is never evidence that nothing is left.",
        "",
    ]
    for name in COMMANDS:
        lines += [f"## ckdiff {name}", "", *_endings_table(name, group.commands[name])]
    return "\n".join(lines)


def _panels(command: Any) -> dict[str, list[str]]:
    """Rows of a table, by heading, in the order of `--help`."""
    found: dict[str, list[str]] = {}
    for one in command.params:
        if one.name == "help":
            continue
        argument = one.param_type_name == "argument"
        panel = "Arguments" if argument else getattr(one, "rich_help_panel", None) or "Options"
        names = [(one.metavar or one.name).strip("[]{}").upper()] if argument else [*one.opts, *one.secondary_opts]
        choices = f"One of {one.metavar.strip('[]').replace('|', ', ')}." if "|" in (one.metavar or "") else ""
        words = " ".join(filter(None, [one.help or "", choices, *_default(one)])).replace("|", r"\|")
        found.setdefault(panel, []).append(f"| {', '.join(f'`{name}`' for name in names)} | {words} |")
    return found


def _default(parameter: Any) -> Iterator[str]:
    if parameter.required:
        yield "Required."
    elif isinstance(parameter.default, bool):
        if parameter.secondary_opts:
            yield f"Default: `{(parameter.opts if parameter.default else parameter.secondary_opts)[0]}`."
    elif parameter.default is not None and parameter.default not in ("", [], ()):
        default = parameter.default
        yield f"Default: `{','.join(default) if isinstance(default, list) else default}`."


def _index(group: Any) -> str:
    lines = [
        "# Commands and their options",
        "",
        "As `ckdiff COMMAND --help-all` has them; `--help` leaves out those that few need. [Exit statuses](endings.md)",
        "have a page of their own.",
        "",
    ]
    for panel in dict.fromkeys(row.panel for row in COMMANDS.values()):
        names = [name for name, row in COMMANDS.items() if row.panel == panel]
        rows = [f"| [`ckdiff {name}`]({name}.md) | {group.commands[name].help.strip()} |" for name in names]
        lines += [f"## {panel}", "", "| command | what it does |", "|---|---|", *rows, ""]
    return "\n".join(lines)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for file, text in make_pages().items():
        (FOLDER / file).write_text(text, encoding="utf-8")
