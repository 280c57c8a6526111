"""Shared by every figure: formats, style, labels, and a file that is written whole or not at all.

    suffix = check_suffix(path)
    write_image(path, draw_image(lambda: figure, suffix))

No display and no state of pyplot is touched, and the same figure gives the same bytes.
"""

from __future__ import annotations

import io
import itertools
import logging
import os
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ckdiff.errors import ReportError
from ckdiff.files import replace_file, unwritable
from ckdiff.modes import EVERY_MODE, MODES, SUBSETS
from ckdiff.untrusted import printable, shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from matplotlib.figure import Figure

    from ckdiff.shapes import Float64

MARK = "ckdiff figure"
"""What the metadata of every figure say, and how one is known again."""
FORMATS: dict[str, dict[str, str | None]] = {
    ".svg": {"Date": None, "Creator": MARK},
    ".png": {"Software": MARK},
    ".pdf": {"CreationDate": None, "Creator": MARK},
}
"""Suffix of the file: its metadata; the bytes do not depend on when and with what it was drawn."""


class Look(NamedTuple):
    """How one thing is drawn, everywhere in a figure."""

    color: str
    marker: str
    dash: Any


LOOKS = (
    Look("#0072B2", "o", "-"),
    Look("#D55E00", "s", "-"),
    Look("#009E73", "^", "--"),
    Look("#CC79A7", "D", "-."),
    Look("#E69F00", "v", ":"),
    Look("#56B4E9", "P", (0, (5, 1, 1, 1, 1, 1))),
    Look("#000000", "X", (0, (3, 2))),
    Look("#882255", "*", ":"),
    Look("#999933", "<", (0, (5, 1, 1, 1))),
    Look("#661100", ">", "-"),
    Look("#CC79A7", "p", "--"),
    Look("#E69F00", "h", "-."),
)
"""Colours of Okabe and Ito and some of Tol, which colour-blind readers tell apart, each with its own marker and dash,
for grey; where they come again, the marker and the dash are others. A colour a mode of the probe, at least."""

SEVERAL = Look("#666666", "o", "-")
"""Several kinds of weights together: their names stand beside them, and no colour means any of them."""

TITLE_LENGTH = 34
"""Characters of a title over one pair of axes."""

LETTERS, LONGEST_TITLE = 13, 200
"""Characters of a title over a figure: in an inch, and in all."""

LARGEST = 50_000_000
"""Bytes: no figure of ours is larger."""

SHARES = (-0.05, 1.05)
"""Limits of an axis of shares: from 0 to 1, with room for the markers on either line."""

STYLE: dict[str, Any] = {
    "svg.hashsalt": "ckdiff",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.titlesize": 9,
    "figure.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "savefig.dpi": 150,
}


def choose_looks(names: Iterable[str]) -> dict[str, Look]:
    """A look for each name, in their order."""
    return {name: LOOKS[number % len(LOOKS)] for number, name in enumerate(dict.fromkeys(names))}


def mode_looks(names: Iterable[str]) -> dict[str, Look]:
    """A look for each mode of the probe, the same in every figure, whatever else is drawn beside it.

    Names that are no mode of ours come after the others, in the order of their names.
    """
    wanted = dict.fromkeys(names)
    others = sorted(name for name in wanted if name not in EVERY_MODE)
    looks = dict(zip((*MODES, *others), itertools.cycle(LOOKS), strict=False)) | dict.fromkeys(SUBSETS, SEVERAL)
    order = list(looks)
    return {name: looks[name] for name in sorted(wanted, key=order.index)}


def check_suffix(path: str | Path) -> str:
    """The suffix of a figure's file, in lower case.

    Raises:
        ReportError: there is no such format.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise ReportError(f"{printable(path)}: a figure is a {', '.join(FORMATS)} file; give it one of these suffixes")
    return suffix


def check_place(path: str | Path, overwrite: bool = False) -> None:
    """Refuse a place that holds what is not a figure.

    Raises:
        ReportError: there is no such format, or the place holds a directory, something that is no file, or, without
            `overwrite`, a file that is no figure of ours.
    """
    check_suffix(path)
    target, name = Path(os.path.realpath(path)), printable(path)
    if not target.exists():
        return
    if not target.is_file():
        raise ReportError(f"{name}: is not a regular file; name a file with -o FILE")
    if not overwrite and not _is_figure(target, name):
        raise ReportError(f"{name}: is there and is no figure of ckdiff's; use -o FILE, or replace it with --overwrite")


def _is_figure(path: Path, name: str) -> bool:
    """Whether the metadata of a file say so; an empty file may become a figure."""
    try:
        content = path.read_bytes() if path.stat().st_size <= LARGEST else b"-"
    except OSError as error:
        raise ReportError(f"{name}: cannot be read: {error.strerror or error}; use -o FILE") from error
    return not content or MARK.encode() in content


def draw_image(draw: Callable[[], Figure], suffix: str) -> bytes:
    """The bytes of a figure, drawn under the style of all of them."""
    import matplotlib.style

    # Where HOME cannot be written to, matplotlib says so at length; nothing here needs its cache.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)

    content = io.BytesIO()
    # The default style first: a reader's own matplotlibrc changes nothing here.
    with matplotlib.style.context(["default", STYLE]):
        draw().savefig(content, format=suffix[1:], metadata=FORMATS[suffix])
    return content.getvalue()


def write_image(path: str | Path, content: bytes) -> None:
    """Write a figure beside its place and move it there.

    Raises:
        ReportError: the place cannot be written to.
    """
    try:
        replace_file(path, content)
    except OSError as error:
        reason = unwritable(error)
        raise ReportError(f"{printable(path)}: cannot be written: {reason}; name another file") from error


def whiskers(middle: float, low: float, high: float) -> Float64 | None:
    """How far an interval reaches to both sides; None where there is none."""
    if np.isnan([low, high]).any():
        return None
    ends: Float64 = np.array([[middle - low], [high - middle]]).clip(min=0)
    return ends


def put_title(figure: Figure, text: str, **style: Any) -> None:
    """A title over a figure, in as many lines as its width asks for: one line may be wider than a single panel."""
    wide = int(figure.get_figwidth() * LETTERS)
    figure.suptitle("\n".join(fill(line, wide) for line in text.splitlines()), **style)


def label(text: str, limit: int = 80) -> str:
    """A string from a file as a label: what a font may lack as an escape, and no mathematics."""
    return shorten(ascii(printable(text))[1:-1].replace("\\\\", "\\"), limit).replace("$", r"\$")
