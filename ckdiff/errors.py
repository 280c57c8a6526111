"""Errors that a user can cause, each with the exit status that it ends in.

Everything here is one line: what is wrong, in which file or tensor, and what to do about it. Anything that is not
a `CkdiffError` is a bug in ckdiff and keeps its traceback.
"""

from __future__ import annotations

from enum import IntEnum


class ExitStatus(IntEnum):
    """The exit statuses; release scripts hold on to these numbers."""

    OK = 0
    DIFFERS = 1
    USAGE = 2
    INCONCLUSIVE = 3
    BUG = 4


def with_extra(text: str, extra: str) -> str:
    """A sentence about a package that is missing, and what brings it: an extra of ckdiff, which no index has.

    >>> with_extra("tables need pandas", "pandas")
    "tables need pandas; `pip install '.[pandas]'` in ckdiff's checkout brings it"
    """
    return f"{text}; `pip install '.[{extra}]'` in ckdiff's checkout brings it"


INTERRUPTED = 130
"""What a shell calls a process that Ctrl-C ended."""


OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")
"""How torch says it, on a GPU and on a CPU."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, however Python or torch said it.

    >>> is_out_of_memory(RuntimeError("CUDA out of memory.")), is_out_of_memory(ValueError("out"))
    (True, False)
    """
    return isinstance(error, MemoryError) or any(word in str(error) for word in OUT_OF_MEMORY)


class CkdiffError(Exception):
    """The root of what a user can mend: one line that names file, tensor and remedy."""

    exit_status = ExitStatus.USAGE


class CheckpointError(CkdiffError):
    """A checkpoint that cannot be used: missing, damaged, or of a kind that ckdiff refuses to read."""


class ReportError(CkdiffError):
    """A report that cannot be read or written, or that belongs to another pair."""
