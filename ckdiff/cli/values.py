"""What the texts of options mean: modes, layers, templates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.errors import CkdiffError
from ckdiff.modes import DIRECTIONS, MODES, VARIANTS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ckdiff.modes import Direction


ALL = "all"


class OptionError(CkdiffError):
    """An option whose text means nothing."""


def names(text: str, known: Iterable[str]) -> tuple[str, ...]:
    """Comma-separated names, each once; `all` means every one that is known.

    >>> names("coeff, attn,coeff", MODES)
    ('coeff', 'attn')
    """
    if text.strip() == ALL:
        return tuple(known)
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def modes(text: str) -> tuple[str, ...]:
    """The value of `--mode`."""
    return names(text, MODES)


def variants(text: str) -> tuple[str, ...]:
    """The value of `--variant`."""
    return names(text, VARIANTS)


def directions(text: str) -> tuple[Direction, ...]:
    """The value of `--direction`."""
    found = names(ALL if text.strip() == "both" else text, DIRECTIONS)
    return found  # type: ignore[return-value]  # Settings.check refuses what is no direction


def layer_numbers(text: str) -> tuple[int, ...]:
    """The value of `--layers`, in order and each once.

    >>> layer_numbers("7,0-2")
    (0, 1, 2, 7)
    """
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        ends = (first, last if dash else first)
        if not all(end.strip().isascii() and end.strip().isdigit() and len(end) < 6 for end in ends):
            raise OptionError(f"--layers: {part.strip()!r} is neither a layer nor a range; write 0,5-9")
        low, high = int(ends[0]), int(ends[1])
        if low > high:
            raise OptionError(f"--layers: {part.strip()!r} runs backwards; write {high}-{low}")
        found.update(range(low, high + 1))
    return tuple(sorted(found))


def unescaped(text: str) -> str:
    r"""A template from the command line, in which \n and \t stand for what they mean.

    >>> unescaped(r"Q: {q}\nA:")
    'Q: {q}\nA:'
    """
    return text.replace(r"\n", "\n").replace(r"\t", "\t")
