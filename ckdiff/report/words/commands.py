"""The commands that a report asks for, as they can be typed: `complete_command("ckdiff attack", found, place)`."""

from __future__ import annotations

import json
import re
import shlex
from types import MappingProxyType
from typing import TYPE_CHECKING

from ckdiff.options import CHAT_PROMPT, DEFAULT_TEMPLATE, USUAL_REPORT, USUAL_TIERS
from ckdiff.report.words.asked import is_doubted, question_sets
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ckdiff.report.schema.attack import AttackReport
    from ckdiff.report.schema.report import CheckpointRecord, Report
    from ckdiff.report.schema.verdict import Verdict

COMMAND = re.compile(r"`(ckdiff [^`]+)`")
TURNED = "ckdiff audit UNLEARNED BASE --questions FILE"
"""What a pair asks for that was probably given the wrong way round."""
TURNED_REPORT = "turned.h5"
"""Its report: no report takes two pairs."""
EXCHANGED = "ckdiff audit BASE UNLEARNED --questions UNRELATED --unrelated FILE"
"""What two files of questions ask for of which each was probably given in the other's place."""
UNKNOWN_FILE = "FILE"
"""What stands for a file of questions of which a report keeps the name, and not where it is."""
BESIDE = ("--reference", "--reference-kind", "--margins")
"""Options about the reference."""
CONCEPT = re.compile(r', concept ("(?:[^"\\]|\\.)+")')
TARGETS, OTHERS = ("probe", "behaviour/target"), ("behaviour/unrelated",)

NOTHING: Mapping[str, str] = MappingProxyType({})
"""Where nobody knows what was typed."""
SAID_ONCE = ("--questions", "--question", "--concept", "--plan", "--resume", "--overwrite", "--output", "--format",
             "--details", "--quiet")  # fmt: skip
"""Options that a command has already, or that are about the one run they were typed for."""
SHARED = ("--unrelated", "--most-unrelated", "--choices", "--tokens", "--prompt-template", "--chat-template",
          "--tokenizer", "--stream", "--device", "--dtype", "--batch-size", "--margins", "--threads", "--hash",
          "--adapter-base", "--reference", "--reference-kind")  # fmt: skip
"""Options of an audit that mean the same to its attacks."""


def commands_in(found: Verdict) -> list[str]:
    """What would measure what a verdict lacks, in its order, as the verdict says it."""
    return [command for text in found.lacking for command in COMMAND.findall(text)]


def is_turned(found: Verdict) -> bool:
    """Whether two things were probably given in each other's place, so that nothing else is to be done first."""
    return not {TURNED, EXCHANGED}.isdisjoint(commands_in(found))


def complete_text(text: str, report: Report, place: str, typed: Mapping[str, str] = NOTHING) -> str:
    """A text with each of its commands as it can be typed; see `complete_command`."""
    return COMMAND.sub(lambda match: f"`{complete_command(match[1], report, place, typed)}`", text)


def complete_command(command: str, report: Report, place: str, typed: Mapping[str, str] = NOTHING) -> str:
    """A command that can be typed as it stands, as far as the report knows what its capitals stand for.

    Args:
        command: as a verdict has it, with BASE, UNLEARNED, FILE and UNRELATED for both checkpoints and the files of
            target and unrelated questions.
        report: that was judged.
        place: its file.
        typed: what was typed by whoever reads this, ready to type: paths of both checkpoints by BASE and UNLEARNED,
            options by their long names; all of it is kept. What was not typed is said as the report records it, and
            of files of questions that there were some: a name without its folder leads nowhere.
    """
    recorded = dict(_recorded(report, command == EXCHANGED))
    for name in ("--window", "--tier") if "BASE" in typed else ():
        recorded.pop(name, None)  # this measured it: what was typed, or a policy's
    typed = recorded | dict(typed)
    if report.verdict is not None and is_doubted(report.verdict):
        typed = {name: text for name, text in typed.items() if name not in BESIDE}
    words = dict(_words(command, report, typed))
    said = (words.get(word, word) for word in command.split())
    parts = (*said, *_kept(command, typed), *_output(command, place))
    asked = typed.get("--question", "")
    return printable(" ".join(parts).replace("--questions FILE", asked or "--questions FILE"))


def _words(command: str, report: Report, typed: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """What the capitals of a command stand for."""
    yield "BASE", typed.get("BASE") or _location(report.provenance.base)
    yield "UNLEARNED", typed.get("UNLEARNED") or _location(report.provenance.unlearned)
    concept = _concept(report) if "--questions FILE" in command else ()
    if file := _value(typed, "--questions"):
        yield "FILE", " ".join((file, *concept))
    if (file := _value(typed, "--unrelated")) not in ("", UNKNOWN_FILE):
        yield "UNRELATED", file
    if model := _value(typed, "--reference"):
        yield "MODEL", model


def _value(typed: Mapping[str, str], name: str) -> str:
    return typed.get(name, "").removeprefix(f"{name} ")


def _location(side: CheckpointRecord) -> str:
    return shlex.quote(f"{side.location}@{side.revision}" if side.revision else side.location)


def recorded_files(report: Report) -> Iterator[tuple[str, str]]:
    """The files of questions that a report names, by the options that take them."""
    for name, kinds in (("--questions", TARGETS), ("--unrelated", OTHERS)):
        if file := file_of_questions(report, *kinds):
            yield name, file


def _recorded(report: Report, named: bool) -> Iterator[tuple[str, str]]:
    """What a report records of how it was measured, as options that say it; files by their names, or as `FILE`."""
    for name, file in recorded_files(report):
        yield name, f"{name} {shlex.quote(file) if named else UNKNOWN_FILE}"
    if report.probe is not None and (window := report.probe.settings.get("window", "")).isdecimal():
        yield "--window", f"--window {window}"
    if report.attack is not None:
        yield from _recorded_attacks(report.attack)
    prompt = "" if report.behaviour is None else report.behaviour.settings.get("prompt", "")
    if prompt == CHAT_PROMPT:
        yield "--chat-template", "--chat-template"
    elif prompt not in ("", DEFAULT_TEMPLATE):
        told = prompt.replace("\n", r"\n").replace("\t", r"\t")
        yield "--prompt-template", f"--prompt-template {shlex.quote(told)}"


def _recorded_attacks(found: AttackReport) -> Iterator[tuple[str, str]]:
    """The tiers of the attacks, where they are not the usual ones, and the reference, which new attacks would lose."""
    tiers = sorted({row.tier for row in found.rows})
    if tiers not in ([], list(USUAL_TIERS)):
        yield "--tier", f"--tier {','.join(map(str, tiers))}"
    if found.reference:
        yield "--reference", f"--reference {shlex.quote(found.reference)}"
        if found.reference_kind:
            yield "--reference-kind", f"--reference-kind {shlex.quote(found.reference_kind)}"


def file_of_questions(report: Report, *kinds: str) -> str:
    """The name of the file of questions; empty where they were typed, are ckdiff's own, or have no name to type."""
    for kind, _, source in question_sets(report):
        name, comma, _ = source.partition(", ")
        if kind in kinds and comma and name and name.isprintable() and not name.startswith("-"):
            return name
    return ""


def _concept(report: Report) -> Iterator[str]:
    """The option that picks the same concept from the file."""
    sources = (source for name, _, source in question_sets(report) if name in TARGETS)
    found = next(filter(None, map(CONCEPT.search, sources)), None)
    if found is not None:
        yield f"--concept {shlex.quote(json.loads(found[1]))}"


def _kept(command: str, typed: Mapping[str, str]) -> Iterator[str]:
    """The options that measured it, of those that this command has and does not set itself."""
    words, audits = command.split(), command.startswith("ckdiff audit ")
    if audits or command.startswith("ckdiff attack "):
        for name, text in typed.items():
            if name.startswith("-") and name not in words and (name not in SAID_ONCE if audits else name in SHARED):
                yield text


def _output(command: str, place: str) -> Iterator[str]:
    """The report that the command is about, where it is not the usual one."""
    wanted = TURNED_REPORT if command == TURNED else place
    if wanted != USUAL_REPORT:
        yield f"--output {shlex.quote(wanted)}"


def break_command(command: str, width: int) -> list[str]:
    r"""A command on lines of so many characters that a shell takes together; never broken within a word.

    >>> break_command("ckdiff audit 'my base' NEW --window 1", 26)
    ["$ ckdiff audit 'my base' \\", '    NEW --window 1']
    """
    lines = ["$"]
    for word in map(shlex.quote, shlex.split(command)):
        if len(f"{lines[-1]} {word} \\") > width and lines[-1] != "$":
            lines[-1] += " \\"
            lines.append(f"    {word}")
        else:
            lines[-1] += f" {word}"
    return lines
