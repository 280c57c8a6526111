"""Suites of JUnit XML, and the one of a command that came to no result: `failure_junit("audit", "interrupted", kind)`.

Little is imported: where an import was interrupted, this still says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

COMMAND = "ckdiff.command"

KINDS = {"failure": "failures", "error": "errors", "skipped": "skipped"}
"""Children of a case that are counted, each with the attribute of the suite that counts them."""


def finished(suite: Element) -> str:
    """The text of a suite whose cases are all there."""
    counts = {attribute: str(len(suite.findall(f"testcase/{kind}"))) for kind, attribute in KINDS.items()}
    suite.attrib |= {"tests": str(len(suite.findall("testcase"))), **counts, "time": "0"}
    indent(suite)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{tostring(suite, encoding="unicode")}\n'


def failure_junit(command: str, message: str, kind: str) -> str:
    """A suite of one case that is an error: the command came to no result, and a page must not show green."""
    suite = begin("ckdiff", [("command", command)])
    tell(add_case(suite, COMMAND, command), "error", kind, message)
    return finished(suite)


def begin(name: str, properties: Iterable[tuple[str, object]]) -> Element:
    """A suite without cases, and what is known of all of them."""
    suite = Element("testsuite", {"name": name})
    rows = SubElement(suite, "properties")
    for key, value in properties:
        SubElement(rows, "property", {"name": key, "value": printable(value)})
    return suite


def add_case(suite: Element, kind: str, name: str) -> Element:
    """One more case, which passed unless something else is told of it."""
    return SubElement(suite, "testcase", {"classname": kind, "name": printable(name), "time": "0"})


def say_out(case: Element, text: str) -> None:
    """What a case says, however it ended."""
    SubElement(case, "system-out").text = printable(text)


def tell(case: Element, kind: str, sort: str, message: str, text: str = "") -> None:
    """A child that says how a case ended otherwise than well."""
    child = SubElement(case, kind, ({"type": sort} if sort else {}) | {"message": printable(message)})
    child.text = printable(text) if text else None
