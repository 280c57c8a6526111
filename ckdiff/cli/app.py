"""The door: parse, call, present. Nothing is computed here, and everything heavy is imported inside a command."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from typing import Annotated, Any

import typer

from ckdiff.cli.attest import attest
from ckdiff.cli.audit import audit
from ckdiff.cli.behave import behave
from ckdiff.cli.campaign import campaign
from ckdiff.cli.compare import compare
from ckdiff.cli.corpus import corpus
from ckdiff.cli.demo import demo
from ckdiff.cli.figure import figure
from ckdiff.cli.gate import gate
from ckdiff.cli.gather import gather
from ckdiff.cli.html import html
from ckdiff.cli.inspect import inspect
from ckdiff.cli.probe import probe
from ckdiff.cli.show import show
from ckdiff.cli.unlearn import unlearn
from ckdiff.cli.verify import verify
from ckdiff.errors import CkdiffError, ExitStatus
from ckdiff.version import __version__

app = typer.Typer(
    name="ckdiff",
    help="What did unlearning change in a model, and did the knowledge go away?",
    add_completion=False,
    pretty_exceptions_enable=False,
)


INTERRUPTED = 130
"""What a shell calls a process that Ctrl-C ended."""


@app.callback(invoke_without_command=True)
def door(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    """What did unlearning change in a model, and did the knowledge go away?"""
    if version:
        sys.stdout.write(f"ckdiff {__version__}\n")
        raise typer.Exit
    if context.invoked_subcommand is None:
        sys.stderr.write(f"{context.get_help()}\n")
        raise typer.Exit(ExitStatus.USAGE)


for command in (
    compare,
    probe,
    behave,
    figure,
    show,
    inspect,
    audit,
    gate,
    attest,
    verify,
    unlearn,
    campaign,
    gather,
    html,
    corpus,
    demo,
):
    app.command()(command)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with a status of `ExitStatus`."""
    sys.unraisablehook = lost_interrupt
    status = run(arguments)
    # Python remembers a KeyboardInterrupt that passed through an `exec`, as in the making of a dataclass, and would
    # then die of the signal instead of exiting with a status; the next `exec` makes it forget.
    exec("")
    # The work is done and said: a late Ctrl-C must not turn a finished run into a killed one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(status)


def lost_interrupt(lost: sys.UnraisableHookArgs) -> None:
    """Send a Ctrl-C again that came where Python can only drop it (a weak reference's callback, a `__del__`)."""
    if not isinstance(lost.exc_value, KeyboardInterrupt):
        sys.__unraisablehook__(lost)
        return
    import threading

    again = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    again.daemon = True
    again.start()


def run(arguments: list[str] | None = None) -> int:
    """Run the command line; what a user can mend is one line on stderr, only a bug shows a traceback."""
    # One BLAS thread, before NumPy is imported: blocks are small, and spinning threads cost more than they give.
    for name in ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    # torch's threads wait for each other in a loop. Beside another busy process long loops made a probe six times
    # slower, and short ones cost nothing on an idle machine.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    # A stream that was closed before we began (`>&-`) is None.
    sys.stdout, sys.stderr = (stream or open(os.devnull, "w") for stream in (sys.stdout, sys.stderr))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a character gets its escape, never a traceback.
            stream.reconfigure(errors="backslashreplace")
    try:
        result: Any = typer.main.get_command(app).main(arguments, prog_name="ckdiff", standalone_mode=False)
        sys.stdout.flush()
        # typer turns a KeyboardInterrupt into this status itself.
        return fail("interrupted", INTERRUPTED) if result == INTERRUPTED else int(result or 0)
    except CkdiffError as error:
        return fail(str(error), error.exit_status)
    except (KeyboardInterrupt, typer.Abort):
        return fail("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output went away (`| head`): nothing is wrong, and nothing more can be said on stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitStatus.OK
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            return bug()
        return fail(f"cannot write: {error.strerror}; free some disk", ExitStatus.USAGE)
    except MemoryError:
        return fail("not enough memory; close other programs or use a machine with more", ExitStatus.USAGE)
    except Exception as error:
        # Usage errors are click's, which some versions of typer carry inside themselves: known by what they can do.
        if hasattr(error, "format_message"):
            return fail(error.format_message(), ExitStatus.USAGE)
        return bug()


def bug() -> int:
    """The traceback of what is being handled, and the status of a bug."""
    import traceback

    traceback.print_exc()
    return fail("this is a bug in ckdiff; please report it with the lines above", ExitStatus.BUG)


def fail(message: str, status: int) -> int:
    """One line on stderr, whatever the message holds, and the status."""
    line = "".join(char if char.isprintable() else repr(char)[1:-1] for char in message)
    sys.stderr.write(f"ckdiff: {line}\n")
    return int(status)


if __name__ == "__main__":
    main()
