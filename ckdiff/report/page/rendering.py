"""The templates of the page, and how they are read: everything that is put into one is escaped.

In a template a line break between tags is for its reader alone, and one inside a text is a blank. What is not given to
a template, or has no such field, is an error and never empty.
"""

from __future__ import annotations

import functools
import re
from importlib import resources
from types import SimpleNamespace
from typing import TYPE_CHECKING

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from ckdiff.report.page import svg
from ckdiff.report.page.parts import cut
from ckdiff.report.words import behaviour, campaign, compare, numbers, probe, terms, verdict
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

CODE, TERM = Markup("<code>{}</code>"), Markup('<abbr title="{}">{}</abbr>')
BREAK = r"\s*\n\s*"


def file_text(name: str) -> str:
    """A file that lies beside this module."""
    return (resources.files("ckdiff.report.page") / name).read_text(encoding="utf-8")


@functools.cache
def environment() -> Environment:
    """The reader of templates; `words` in a template is the package of that name, `svg` the module."""
    found = Environment(
        autoescape=True, undefined=StrictUndefined, loader=FunctionLoader(_source), finalize=_escape, auto_reload=False
    )
    found.filters |= {"count_of": numbers.count_of, "cut": cut, "lines": _lines, "ticked": _ticked}
    modules = {"behaviour": behaviour, "campaign": campaign, "compare": compare, "numbers": numbers}
    words = SimpleNamespace(**modules, probe=probe, terms=terms, verdict=verdict)
    found.globals |= {"svg": svg, "words": words}
    return found


def render(template: str, given: Mapping[str, object]) -> Markup:
    """A template filled in, ready to stand in another one."""
    return Markup(environment().get_template(template).render(given))


def _source(name: str) -> str:
    joined = re.sub(rf"(?<=[>}}]){BREAK}(?=[<{{])", "", file_text(f"templates/{name}").strip())
    return re.sub(BREAK, " ", joined)


def _lines(text: str, limit: int, more: str) -> Markup:
    """The first lines of a text, which stay lines."""
    lines = text.splitlines()
    shown = [cut(line, 500) for line in lines[:limit]]
    return Markup("\n").join([*shown, more] if more and len(lines) > limit else shown)


def _ticked(text: str) -> Markup:
    """A text in which what stands between backticks is to be typed, and jargon is explained."""
    parts = printable(text).split("`")
    # A tick without its other one stays.
    pairs = parts if len(parts) % 2 else [*parts[:-2], "`".join(parts[-2:])]
    return Markup("").join(CODE.format(part) if place % 2 else _explained(part) for place, part in enumerate(pairs))


def _explained(text: str) -> Markup:
    """A text whose words that not every reader knows carry their meaning."""
    pieces = terms.apart(text)
    return Markup("").join(TERM.format(meaning, piece) if meaning else piece for piece, meaning in pieces)


def _escape(value: object) -> object:
    """A value whose unprintable characters are escapes; the template then escapes the characters of HTML."""
    return value if isinstance(value, Markup) else printable(value)
