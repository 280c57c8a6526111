"""Strings and JSON that come from files nobody vouches for: printable, quoted, read strictly."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn


def printable(text: object) -> str:
    r"""A string from a file, safe to show: what does not print is written as an escape.

    Control characters, escape sequences, line ends, bidirectional overrides and zero-width characters do not print.

    >>> printable("\x1b[31mevil\n")
    '\\x1b[31mevil\\n'
    """
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in str(text))


def shorten(text: str, limit: int) -> str:
    """At most `limit` characters, the middle left out.

    >>> shorten("abcdefghij", 7)
    'abc…hij'
    """
    if len(text) <= limit:
        return text
    tail = (limit - 1) // 2
    return f"{text[: limit - 1 - tail]}…{text[len(text) - tail :]}"


def quoted(name: str) -> str:
    """A name from a file, made safe and short for a message."""
    text = json.dumps(name)
    return text if len(text) <= 120 else text[:116] + '..."'


def strict_json(text: str | bytes, constants: bool = False) -> Any:
    """Parse JSON that has no duplicate keys, and no NaN or Infinity unless `constants` (some configs have them).

    Raises:
        ValueError: it is not such JSON, or it is nested too deeply to read.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=None if constants else _no_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if any("\ud800" <= letter <= "\udfff" for key in result if not key.isascii() for letter in key):
        raise ValueError("a key with half a surrogate pair")
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"duplicate key {quoted(twice)}")
    return result


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not JSON")


MOST_REPEATS = 2
"""Parts of a pattern that may be of any length."""


def is_quick(pattern: str, module: str) -> bool:
    r"""Whether a pattern is held against a name in a time that hardly grows with it: nothing repeats what repeats.

    >>> is_quick(r"layers\.\d+\.mlp", "layers.1.mlp"), is_quick("(a+)+", "aaaa"), is_quick("(?:a|a)*b", "aaaa")
    (True, False, False)
    """
    plain = re.sub(r"\\[^0-9]", "_", pattern)
    repeats = len(re.findall(r"[*+{]", plain))
    nested = re.search(r"\)[*+{]|\(\?(?!:)|\\[0-9]", plain) is not None
    return not nested and repeats <= MOST_REPEATS and len(pattern) <= 1000 and (repeats == 0 or len(module) <= 400)
