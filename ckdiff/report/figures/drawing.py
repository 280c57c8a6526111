"""What every figure shares: formats, style, labels, and a file that is written whole or not at all.

    suffix = checked_suffix(path)
    write_image(path, image(lambda: figure, suffix))

No display and no state of pyplot is touched, and the same figure gives the same bytes.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckdiff.errors import ReportError
from ckdiff.untrusted import printable, shorten

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure


FORMATS: dict[str, dict[str, None]] = {
    ".svg": {"Date": None},
    ".png": {"Software": None},
    ".pdf": {"CreationDate": None},
}
"""Suffix of the file: the metadata to leave out so that the bytes do not depend on when and with what it was drawn."""


LOOKS = (
    ("#0072B2", "o", "-"),
    ("#D55E00", "s", "-"),
    ("#009E73", "^", "--"),
    ("#CC79A7", "D", "-."),
    ("#E69F00", "v", ":"),
    ("#56B4E9", "P", (0, (5, 1, 1, 1, 1, 1))),
    ("#000000", "X", (0, (3, 2))),
    ("#0072B2", "*", ":"),
    ("#D55E00", "<", (0, (5, 1, 1, 1))),
    ("#009E73", ">", "-"),
    ("#CC79A7", "p", "--"),
    ("#E69F00", "h", "-."),
)
"""Colours of Okabe and Ito, which colour-blind readers tell apart, each with its own marker and dash, for grey; where
they come again, the marker and the dash are others. One a mode of the probe, at least."""


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


def checked_suffix(path: str | Path) -> str:
    """The suffix of a figure's file, in lower case.

    Raises:
        ReportError: there is no such format.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        raise ReportError(f"{printable(path)}: a figure is a {', '.join(FORMATS)} file; give it one of these suffixes")
    return suffix


def image(draw: Callable[[], Figure], suffix: str) -> bytes:
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
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name[:200]}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, target)
    except OSError as error:
        reason = error.strerror or error
        raise ReportError(f"{printable(path)}: cannot be written: {reason}; name another file") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def label(text: str, limit: int = 80) -> str:
    """A string from a file as a label: what a font may lack as an escape, and no mathematics."""
    return shorten(ascii(printable(text))[1:-1].replace("\\\\", "\\"), limit).replace("$", r"\$")
