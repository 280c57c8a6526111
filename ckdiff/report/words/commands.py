"""The commands that a report asks for, as they can be typed: `complete_command("ckdiff attack", found, place)`."""

from __future__ import annotations

import json
import re
import shlex
from typing import TYPE_CHECKING

from ckdiff.options import USUAL_REPORT
from ckdiff.report.words.asked import question_sets
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckdiff.report.schema.report import CheckpointRecord, Report
    from ckdiff.report.schema.verdict import Verdict

COMMAND = re.compile(r"`(ckdiff [^`]+)`")
TURNED = "ckdiff audit UNLEARNED BASE --questions FILE"
"""What a pair asks for that was probably given the wrong way round."""
TURNED_REPORT = "turned.h5"
"""Its report: no report takes two pairs."""
CONCEPT = re.compile(r', concept ("(?:[^"\\]|\\.)+")')
TARGETS = ("probe", "behaviour/target")


def commands_in(found: Verdict) -> list[str]:
    """What would measure what a verdict lacks, in its order, as the verdict says it."""
    return [command for text in found.lacking for command in COMMAND.findall(text)]


def complete_text(text: str, report: Report, place: str, questions: str = "") -> str:
    """A text with each of its commands as it can be typed; see `complete_command`."""
    return COMMAND.sub(lambda match: f"`{complete_command(match[1], report, place, questions)}`", text)


def complete_command(command: str, report: Report, place: str, questions: str = "") -> str:
    """A command that can be typed as it stands, as far as the report knows what its capitals stand for.

    Args:
        command: as a verdict has it, with BASE, UNLEARNED and FILE for both checkpoints and the questions' file.
        report: that was judged.
        place: its file.
        questions: the file of the target questions, where the caller knows it; else its name in the report.
    """
    words = dict(_words(report, questions))
    said = (words.get(word, word) for word in command.split())
    return printable(" ".join((*said, *_beside(command, report), *_output(command, place))))


def _words(report: Report, questions: str) -> Iterator[tuple[str, str]]:
    """What the capitals of a command stand for."""
    yield "BASE", _location(report.provenance.base)
    yield "UNLEARNED", _location(report.provenance.unlearned)
    if file := questions or next(_file_names(report), ""):
        yield "FILE", " ".join((shlex.quote(file), *_concept(report)))


def _location(side: CheckpointRecord) -> str:
    return shlex.quote(f"{side.location}@{side.revision}" if side.revision else side.location)


def _sources(report: Report) -> Iterator[str]:
    """Where the target questions came from, in the words of the report."""
    yield from (source for name, _, source in question_sets(report) if name in TARGETS)


def _file_names(report: Report) -> Iterator[str]:
    """The names of the files of questions: what was typed, and ckdiff's own questions, are of no kind."""
    for source in _sources(report):
        name, kind, _ = source.partition(", ")
        if kind and name and name.isprintable() and not name.startswith("-"):
            yield name


def _concept(report: Report) -> Iterator[str]:
    """The option that picks the same concept from the file."""
    found = next(filter(None, map(CONCEPT.search, _sources(report))), None)
    if found is not None:
        yield f"--concept {shlex.quote(json.loads(found[1]))}"


def _beside(command: str, report: Report) -> Iterator[str]:
    """The reference of earlier attacks, which new ones would lose."""
    found = report.attack
    if command.startswith("ckdiff attack ") and found is not None and found.reference:
        yield f"--reference {shlex.quote(found.reference)}"
        if found.reference_kind:
            yield f"--reference-kind {shlex.quote(found.reference_kind)}"


def _output(command: str, place: str) -> Iterator[str]:
    """The report that the command is about, where it is not the usual one."""
    wanted = TURNED_REPORT if command == TURNED else place
    if wanted != USUAL_REPORT:
        yield f"--output {shlex.quote(wanted)}"
