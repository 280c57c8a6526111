"""One job in a process of its own: `python -P -m ckdiff.campaign.engines.job`, begun by `command.run_command`.

stdin brings the job, then a byte where it is to stop; where stdin ends, whoever began the job is gone, and so is the
job. stdout takes the outcome, as JSON, and nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pickle
import signal
import threading
import traceback
from dataclasses import asdict
from typing import TYPE_CHECKING

from ckdiff.campaign.records import Outcome
from ckdiff.errors import CkdiffError
from ckdiff.untrusted import shorten

if TYPE_CHECKING:
    from ckdiff.campaign.records import Stop, Task, Work

LENGTH = 8
"""Bytes that say how long the job is, before it."""
LONGEST_REASON = 2000
"""Characters: an outcome has room in a pipe that nobody reads yet."""


def perform(work: Work, task: Task, stop: Stop) -> Outcome:
    """Do a job; whatever it raises becomes a failed outcome, except for a Ctrl-C."""
    try:
        return work(task, stop)
    except (Exception, SystemExit) as error:
        return fail(task, error)


def fail(task: Task, error: BaseException) -> Outcome:
    """The outcome of a job that raised; a bug's traceback goes to stderr."""
    return Outcome(task.key, "failed", " ".join(_say(error).split()))


def _say(error: BaseException) -> str:
    if isinstance(error, CkdiffError):
        return str(error)
    if isinstance(error, MemoryError):
        return "not enough memory"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"cannot write: {error.strerror}; free some disk"
    traceback.print_exception(error)
    return f"a bug in ckdiff: {type(error).__name__}: {error}"


def main() -> None:
    """Do the job that stdin brings."""
    answer = os.dup(1)
    os.dup2(2, 1)  # what libraries print is no outcome
    _be_the_first_to_go()
    work, task = pickle.loads(_read(int.from_bytes(_read(LENGTH))))
    asked = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):  # a batch scheduler tells every process
        signal.signal(number, lambda number, frame: asked.set())
    threading.Thread(target=_listen, args=(asked,), name="parent", daemon=True).start()
    outcome = perform(work, task, asked.is_set)
    try:
        said = _encode(outcome)
    except TypeError as error:
        said = _encode(fail(task, error))
    os.write(answer, said)


def _encode(outcome: Outcome) -> bytes:
    tree = asdict(outcome)
    return json.dumps(tree | {"reason": shorten(outcome.reason, LONGEST_REASON)}).encode()


def _read(size: int) -> bytes:
    """So many bytes of stdin, and no more: what follows is for `_listen`."""
    parts = []
    while size:
        parts.append(os.read(0, size))
        size -= len(parts[-1])
        if not parts[-1]:
            os._exit(1)
    return b"".join(parts)


def _listen(asked: threading.Event) -> None:
    while os.read(0, 1):
        asked.set()
    os._exit(1)


def _be_the_first_to_go() -> None:
    """A job, rather than the campaign or somebody else, is what memory running out should cost."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("500")


if __name__ == "__main__":
    main()
