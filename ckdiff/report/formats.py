"""The formats in which a report is said: one table. `say(report, "csv", Selection("probe"))`.

A new format is a row here and a function that says a report of one pair, any section of it, and a campaign; its name is
then a choice of every `--format`.
"""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

from ckdiff.report.words.sections import WHOLE, Selection

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ckdiff.report.schema.campaign import Campaign
    from ckdiff.report.schema.report import Report


class Format(NamedTuple):
    """A format.

    Attributes:
        writer: the function that says a report or a campaign in it: `package.module:function`, loaded when it is used.
            It takes what is to be said and a `Selection`, and gives a text of whole lines, or, for people,
            something that a console prints.
        carries: of a report about one pair the whole ("all"), the whole or one section ("any"), or one section at a
            time ("one").
        failure: the function that says in it that a command came to no result, or nothing: it takes the command, one
            line that says why, and the kind of ending.
    """

    writer: str
    carries: Literal["all", "any", "one"]
    failure: str = ""


FORMATS: dict[str, Format] = {
    "table": Format("ckdiff.report.terminal.view:to_view", "any"),
    "json": Format("ckdiff.report.exports.json:to_json", "all"),
    "csv": Format("ckdiff.report.rows.csv:to_csv", "one"),
    "tsv": Format("ckdiff.report.rows.tsv:to_tsv", "one"),
    "jsonl": Format("ckdiff.report.rows.jsonl:to_jsonl", "one"),
    "md": Format(
        "ckdiff.report.markdown.document:to_markdown", "any", "ckdiff.report.markdown.failure:failure_markdown"
    ),
    "model-card": Format("ckdiff.report.markdown.model_card:to_model_card", "all"),
    "cyclonedx": Format("ckdiff.report.cyclonedx.document:to_cyclonedx", "all"),
    "openunlearning": Format("ckdiff.report.exports.openunlearning:to_openunlearning", "all"),
    "junit": Format("ckdiff.report.exports.junit:to_junit", "all", "ckdiff.report.exports.suite:failure_junit"),
}
"""Every format by the name that `--format` takes; the first is the one that people get unasked."""


def say(found: Report | Campaign, name: str, selection: Selection = WHOLE) -> RenderableType:
    """A report or a campaign in one of `FORMATS`: its text, or what a console prints."""
    return cast("RenderableType", resolve_name(FORMATS[name].writer)(found, selection))


def load(name: str) -> None:
    """Import what says a report in one of `FORMATS`, while there is time for it."""
    resolve_name(FORMATS[name].writer)


def say_failure(name: str, command: str, message: str, kind: str) -> str:
    """That a command came to no result, in a format that machines keep; empty in any other."""
    row = FORMATS.get(name)
    return str(resolve_name(row.failure)(command, message, kind)) if row is not None and row.failure else ""
