"""Chat templates are rendered here, in a process of its own: a script that `chat` runs, and that nothing imports.

A chat template is a program from a checkpoint. Here it gets the sandbox that transformers gives it, little time and
memory, no clock and no chance. JSON comes in and goes out on the standard streams.
"""

from __future__ import annotations

import json
import random
import sys
from contextlib import suppress
from datetime import datetime
from typing import Any

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.nodes import CallBlock, Node
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

MOST = 1_000_000
"""Characters of one prompt."""
LONGEST = 300
"""Characters of a message."""


class Generation(Extension):
    """The tag that marks what an assistant says; what it marks is written as it is."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Any) -> Node:
        """The block, as a call of `same`."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return CallBlock(self.call_method("same"), [], [], body).set_lineno(line)

    def same(self, caller: Any) -> str:
        """The text of the block, unchanged."""
        return str(caller())


class Place(Namespace):
    """A namespace that keeps nothing under a name with an underscore in front."""

    def __init__(*args: Any, **values: Any) -> None:
        given = dict(*args[1:], **values)
        for name in given:
            _check(name)
        Namespace.__init__(args[0], given)

    def __setitem__(self, name: str, value: Any) -> None:
        _check(name)
        Namespace.__setitem__(self, name, value)


class Dictionaries:
    """The `dict` of templates: it makes dictionaries and has no other attribute."""

    def __call__(self, *args: Any, **values: Any) -> dict[Any, Any]:
        """A dictionary."""
        return dict(*args, **values)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        """A dictionary of equal values."""
        return dict.fromkeys(*args)


class Clock:
    """It stands still, and knows whether somebody has looked at it."""

    def __init__(self, now: str) -> None:
        self.now, self.seen = datetime.fromisoformat(now), False

    def __call__(self, form: str) -> str:
        """The date and time in a form of `strftime`."""
        self.seen = True
        return self.now.strftime(form)


def environment(clock: Clock) -> ImmutableSandboxedEnvironment:
    """The sandbox of transformers' chat templates, but for the clock."""
    found = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    found.filters["tojson"] = _json
    found.globals |= {
        "raise_exception": _refuse,
        "dict": Dictionaries(),
        "namespace": Place,
        "strftime_now": clock.__call__,
    }
    return found


def render_chat(template: jinja2.Template, chat: dict[str, Any], variables: dict[str, Any]) -> str:
    """One chat as text."""
    random.seed(0)
    parts, length = [], 0
    values = variables | {"messages": chat["messages"], "add_generation_prompt": chat["generation"]}
    for part in template.generate(tools=None, documents=None, **values):
        parts.append(part)
        length += len(part)
        if length > MOST:
            raise ValueError(f"more than {MOST} characters come out of it")
    return "".join(parts)


def answer(task: dict[str, Any]) -> dict[str, Any]:
    """By chat its text or its error; one error where the template itself is none."""
    clock = Clock(task["now"])
    try:
        template = environment(clock).from_string(task["template"])
    except Exception as error:
        return {"error": one_line(error)}
    found: list[dict[str, str]] = []
    for chat in task["chats"]:
        try:
            found.append({"text": render_chat(template, chat, task["variables"])})
        except Exception as error:
            found.append({"error": one_line(error)})
    return {"chats": found, "dated": clock.seen}


def one_line(error: Exception) -> str:
    """An error on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST]


def confine(seconds: int, memory: int) -> None:
    """Take no more than so many seconds of a processor and bytes of memory, where the system knows such limits."""
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def _check(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(f"a namespace cannot keep {name!r}")


def _refuse(message: Any) -> None:
    raise jinja2.exceptions.TemplateError(str(message))


def _json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


if __name__ == "__main__":
    work = json.load(sys.stdin)
    confine(work["seconds"], work["memory"])
    json.dump(answer(work), sys.stdout)
