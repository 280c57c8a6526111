"""The door: parse, call, present; nothing is computed here, and everything heavy is imported inside a command."""

from __future__ import annotations

import errno
import os
import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ckdiff.cli.commands import COMMANDS
from ckdiff.cli.console import close_stdout, fail, flush_stdout, open_streams, remark, report_bug, write
from ckdiff.cli.groups import flatten
from ckdiff.cli.plain import read_plainly
from ckdiff.errors import INTERRUPTED, CkdiffError, ExitStatus
from ckdiff.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable

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


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with a status of `ExitStatus`."""
    sys.unraisablehook = send_interrupt_again
    status = run(arguments)
    # Python remembers a KeyboardInterrupt that passed through an `exec`, as in the making of a dataclass, and would
    # then die of the signal instead of exiting with a status; the next `exec` makes it forget.
    exec("")
    # The work is done and said: a late Ctrl-C must not turn a finished run into a killed one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(status)


def send_interrupt_again(lost: sys.UnraisableHookArgs) -> None:
    """Send a Ctrl-C again that came where Python can only drop it (a weak reference's callback, a `__del__`)."""
    if not isinstance(lost.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
        return
    import threading

    again = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    again.daemon = True
    again.start()


def limit_threads() -> None:
    """Let no thread wait in long loops, where the user has not said otherwise."""
    # One BLAS thread, before NumPy is imported: blocks are small, and spinning threads cost more than they give.
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    # torch's threads wait for each other in a loop. Beside another busy process long loops made a probe six times
    # slower, and short ones cost nothing on an idle machine.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")


def quiet_end(error: BaseException) -> int | None:
    """The status of an end that is no error: of what completes words in a shell, and of help that nobody reads on."""
    if not isinstance(error, SystemExit):
        return None
    if "_CKDIFF_COMPLETE" in os.environ:
        return int(error.code or 0)
    if isinstance(error.__context__, BrokenPipeError):  # rich's own, which prints help: `--help | head`
        close_stdout()
        return ExitStatus.OK
    return None


def with_help(said: str, words: list[str]) -> str:
    """What is wrong with the words, and where a command says what it takes; click's own proposals say more.

    >>> with_help("Missing argument 'unlearned'.", ["audit", "base"])
    "Missing argument 'unlearned'; `ckdiff audit --help` says what it takes"
    """
    command = next((word for word in words if word in COMMANDS), "")
    proposes = said.endswith(("?", ")"))
    return said if proposes or not command else f"{said.rstrip('.')}; `ckdiff {command} --help` says what it takes"


def run(arguments: list[str] | None = None) -> int:
    """Run the command line; what a user can mend is one line on stderr, only a bug shows a traceback."""
    limit_threads()
    open_streams()
    words, everything = read_help(sys.argv[1:] if arguments is None else arguments)
    try:
        known = bool(words) and words[0] in COMMANDS
        named_only = not (known or COMMANDS.keys() & set(words) or "_CKDIFF_COMPLETE" in os.environ)
        group: Any = typer.main.get_command(build_app(words[:1] if known else COMMANDS, named_only))
        read_plainly([group, *group.commands.values()])
        for name, command in group.commands.items():
            explain(command, COMMANDS[name].example, everything)
        result: Any = group.main(words, prog_name="ckdiff", standalone_mode=False)
        flush_stdout()
        # typer turns a KeyboardInterrupt into this status itself.
        return fail("interrupted", INTERRUPTED, words) if result == INTERRUPTED else int(result or 0)
    except CkdiffError as error:
        return fail(str(error), error.exit_status, words)
    except (KeyboardInterrupt, typer.Abort):
        return fail("interrupted", INTERRUPTED, words)
    except BrokenPipeError:
        close_stdout()
        return ExitStatus.OK
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            # A name that is too long, a disk that fails; but a file that is not there was looked for by us.
            known = error.filename is not None and error.errno != errno.ENOENT
            said = f"{error.filename}: {error.strerror}; check the path and its rights"
            return fail(said, ExitStatus.USAGE, words) if known else report_bug(words)
        return fail(f"cannot write: {error.strerror}; free some disk", ExitStatus.USAGE, words)
    except MemoryError:
        return fail("not enough memory; close other programs or use a machine with more", ExitStatus.USAGE, words)
    except BaseException as error:  # a library in Rust panics with one, and Python's own status would be that of a gate
        if (status := quiet_end(error)) is not None:
            return status
        # Usage errors are click's, which some versions of typer carry inside themselves: known by what they can do.
        if hasattr(error, "format_message"):
            return fail(with_help(error.format_message(), words), ExitStatus.USAGE, words)
        return report_bug(words)


if __name__ == "__main__":
    main()
