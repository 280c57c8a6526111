"""Plain values read without pydantic: `read_plainly(commands)`.

Some versions of Typer read every text and number by way of pydantic, whose import takes longer than all else that a
command like `ckdiff show` imports to be parsed. What is plainly such a value is taken here; anything else, and whatever
could be a mistake, is left to Typer, which says what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, get_args, get_origin

PLAIN: dict[Any, Callable[[str], Any]] = {str: str, Path: Path, int: int, float: float}
"""By type, what a text that is plainly one becomes."""
NUMBER = {int: re.compile(r"-?[0-9]{1,15}"), float: re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,15})?(e-?[0-9]{1,2})?")}


def read_plainly(commands: Iterable[Any]) -> None:
    """Let every parameter of these commands take plain values itself, where this Typer would ask pydantic."""
    for command in commands:
        for parameter in command.params:
            _replace(parameter)
        # That of --help is made when a command begins.
        command.get_help_option = partial(_help_option, command.get_help_option)


def _help_option(make: Callable[[Any], Any], context: Any) -> Any:
    option = make(context)
    _replace(option)
    return option


def _replace(parameter: Any) -> None:
    """Where this Typer keeps what reads a value, and has made none yet, ours is put."""
    if getattr(parameter, "_runtime_param", parameter) is None and hasattr(parameter, "type_descriptor"):
        parameter._runtime_param = _Plainly(parameter.type_descriptor)


class _Plainly:
    """Stands in the place of what a parameter makes of its value."""

    def __init__(self, described: Any) -> None:
        self.described = described

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value; `param` and `ctx` are for Typer."""
        kind, several = self.described.annotation, param.multiple or param.nargs == -1
        if value is None:
            return () if several else None
        if several and get_origin(kind) is list and isinstance(value, (list, tuple)):
            (kind,) = get_args(kind)
            if all(_is_plain(one, kind) for one in value):
                return [_read(one, kind) for one in value]
        elif not several and _is_plain(value, kind):
            return _read(value, kind)
        from typer._coercion import build_runtime_param

        return build_runtime_param(self.described).coerce(value, param=param, ctx=ctx)


def _is_plain(value: Any, kind: Any) -> bool:
    if kind not in PLAIN:
        return False
    if isinstance(value, kind):
        return True
    return isinstance(value, str) and (kind not in NUMBER or bool(NUMBER[kind].fullmatch(value)))


def _read(value: Any, kind: Any) -> Any:
    return value if isinstance(value, kind) else PLAIN[kind](value)
