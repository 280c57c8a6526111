"""The door: whatever becomes of a command, from its first moment on, it ends with a status and, where need be, a line.

Nothing is computed here, and nothing heavy is imported before somebody listens to Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import errno
import gc
import os
import re
import signal
import sys
from typing import TYPE_CHECKING, Any

from ckdiff.errors import INTERRUPTED, CkdiffError, ExitStatus

if TYPE_CHECKING:
    from collections.abc import Sequence

NUMBERS = {"integer": "whole number", "number": "number"}
NO_NUMBER = re.compile(rf"Invalid value for '([^']+)': Input should be a valid ({'|'.join(NUMBERS)})\b.*", re.DOTALL)
"""How pydantic says that a text is no number, and what it calls one."""
STOPS = (signal.SIGINT, signal.SIGTERM)
"""What a user says, and what a batch scheduler says that gives some seconds before it kills."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with a status of `ExitStatus`."""
    sys.unraisablehook = send_interrupt_again
    status = run(arguments, heed_stops())
    # Python remembers a KeyboardInterrupt that passed through an `exec`, as in the making of a dataclass, and would
    # then die of the signal instead of exiting with a status; the next `exec` makes it forget.
    exec("")
    # The work is done and said: a late Ctrl-C must not turn a finished run into a killed one.
    ignore_stops()
    sys.exit(status)


def heed_stops() -> list[int]:
    """Let Ctrl-C and SIGTERM interrupt whatever goes on, imports too; the signals that came are put into the list."""
    told: list[int] = []

    def interrupt(number: int, frame: Any) -> None:
        told.append(number)
        raise KeyboardInterrupt

    for number in STOPS:
        # What a shell begins in the background is to ignore Ctrl-C.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    return told


def ignore_stops() -> None:
    """Let neither change what is to be said now."""
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)


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


def collect_rarely() -> None:
    """Look for rings of objects less often: importing torch and transformers makes many objects and few rings."""
    # With Python's own 700 a fifth of the time until a model is there went into looking.
    gc.set_threshold(50_000, 20, 20)


def quiet_end(error: BaseException) -> int | None:
    """The status of an end that is no error: of what completes words in a shell, and of help that nobody reads on."""
    from ckdiff.cli.console import close_stdout

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
    from ckdiff.cli.commands import COMMANDS

    command = next((word for word in words if word in COMMANDS), "")
    said = NO_NUMBER.sub(lambda found: f"{found[1]}: {_value_of(found[1], words)}is no {NUMBERS[found[2]]}", said)
    proposes = said.endswith(("?", ")"))
    return said if proposes or not command else f"{said.rstrip('.')}; `ckdiff {command} --help` says what it takes"


def _value_of(option: str, words: list[str]) -> str:
    """What was given to an option, quoted and with a blank behind it; its last value counts."""
    from ckdiff.options import SHOWN

    pairs = zip(words, [*words[1:], ""], strict=True)
    given = [
        word.partition("=")[2] if "=" in word else after for word, after in pairs if word.partition("=")[0] == option
    ]
    return f"{given[-1][:SHOWN]!r} " if given else ""


def run(arguments: list[str] | None = None, told: Sequence[int] = ()) -> int:
    """Run the command line; what a user can mend is one line on stderr, only a bug shows a traceback.

    Args:
        arguments: the words; None: those that the process was given.
        told: holds the signals to stop that have come by now.
    """
    words = sys.argv[1:] if arguments is None else arguments
    try:
        limit_threads()
        collect_rarely()
        from ckdiff.cli.console import open_streams
        from ckdiff.cli.tree import obey

        open_streams()
        status = obey(words)
        # typer turns a KeyboardInterrupt into this status itself.
        return say_interrupted(words, told) if status == INTERRUPTED else status
    except BaseException as error:  # a library in Rust panics with one, and Python's own status would be that of a gate
        # An import that was interrupted says anything: a syntax error, or that a package is missing.
        if told or isinstance(error, KeyboardInterrupt):
            return say_interrupted(words, told)
        return end_with(error, words)


def say_interrupted(words: list[str], told: Sequence[int]) -> int:
    """One line, and where the words ask for it the same in a format that is kept."""
    if told:
        ignore_stops()
    from ckdiff.cli.console import fail

    return fail("interrupted", INTERRUPTED, words)


def end_with(error: BaseException, words: list[str]) -> int:
    """What is said of an error that is being handled, and its status."""
    import typer

    from ckdiff.cli.console import close_stdout, fail, report_bug

    if isinstance(error, CkdiffError):
        return fail(str(error), error.exit_status, words)
    if isinstance(error, typer.Abort):
        return fail("interrupted", INTERRUPTED, words)
    if isinstance(error, BrokenPipeError):
        close_stdout()
        return ExitStatus.OK
    if isinstance(error, OSError):
        said = said_by_system(error)
        return fail(said, ExitStatus.USAGE, words) if said else report_bug(words)
    if isinstance(error, MemoryError):
        return fail("not enough memory; close other programs or use a machine with more", ExitStatus.USAGE, words)
    if (status := quiet_end(error)) is not None:
        return status
    # Usage errors are click's, which some versions of typer carry inside themselves: known by what they can do.
    if hasattr(error, "format_message"):
        return fail(with_help(error.format_message(), words), ExitStatus.USAGE, words)
    return report_bug(words)


def said_by_system(error: OSError) -> str:
    """What a user can mend: a full disk, a name that is too long, a disk that fails; empty where it is a bug."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"cannot write: {error.strerror}; free some disk"
    # A file that is not there was looked for by us.
    known = error.filename is not None and error.errno != errno.ENOENT
    return f"{error.filename}: {error.strerror}; check the path and its rights" if known else ""


if __name__ == "__main__":
    main()
