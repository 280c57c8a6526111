"""Reports as `fuzz` attacks them: their trees, and the bytes of their files, sealed anew.

The bytes are read as `read_any` reads them, but not in a process of their own: a copy of `fuzz` reads many files, until
one of them crashes it. One file in a hundred goes the whole way.
"""

from __future__ import annotations

import functools
import io
import mmap
import os
from functools import partial
from typing import TYPE_CHECKING, Any

from fuzz_mutations import change_bytes, change_tree

from ckdiff.errors import ReportError
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

    Try = Callable[[Random], str]


READING = mmap.mmap(-1, 1)
"""1 while a copy of `fuzz` is in a library that ckdiff would call in a process of its own."""
COPY = [False]
"""Whether this is a copy of `fuzz`, which may be limited, and may end."""


def seeds() -> list[Any]:
    """A report with every section, ones with a section each, and a campaign's."""
    from tests import campaigns, reports

    judged = reports.verdict(gate=reports.gate())
    drift, probe, behaviour = reports.comparison(layers=2), reports.probe(layers=2, questions=2), reports.behaviour()
    small = reports.comparison(layers=1)
    return [
        reports.report(drift, probe, behaviour, judged, reports.attacks(), reports.depth(), reports.discovery()),
        campaigns.campaign(),
        reports.report(drift),
        reports.report(small, probe),
        reports.report(small, None, behaviour),
        reports.report(small, probe, verdict=judged),
        reports.report(small, attack=reports.attacks()),
        reports.report(small, depth=reports.depth(), discovery=reports.discovery()),
    ]


def small_seeds() -> list[Any]:
    """Reports of one section and nothing else: they are read three times as fast."""
    from tests import reports

    return [
        reports.report(reports.empty_comparison()),
        reports.report(None, reports.probe(layers=1, questions=1)),
        reports.report(None, None, reports.behaviour()),
        reports.report(None, verdict=reports.verdict(gate=reports.gate())),
        reports.report(None, attack=reports.attacks()),
        reports.report(None, depth=reports.depth()),
        reports.report(None, discovery=reports.discovery()),
    ]


def trees(folder: Path) -> Try:
    """Trees of reports, of pairs and of campaigns, as the codec gets them, and everything that reads its records."""
    from ckdiff.report.hdf5.report import to_tree

    small, large = [to_tree(one) for one in small_seeds()], [to_tree(one) for one in seeds()]

    def one(chance: Random) -> str:
        seed = chance.choice(large if chance.random() < 0.25 else small)
        found = read_tree(change_tree(seed, chance))
        if chance.random() < 0.5:  # half of the time goes into saying, where hardly anything is found
            say_all(found, chance)
        return "read"

    return one


def read_tree(tree: Any) -> Any:
    """What `read_any` makes of a tree."""
    from ckdiff.report.hdf5.file import DAMAGE
    from ckdiff.report.hdf5.report import from_tree

    try:
        return from_tree(tree)
    except DAMAGE as error:
        raise ReportError(printable(error)) from error


SHARES = 16, 3, 1
"""Of a report without a section, of one with an empty one, and of all others, whose mutants take fifty times longer."""


def images(folder: Path) -> Try:
    """Bytes of a report's file, sealed anew."""
    from ckdiff.report.hdf5.apart import MOST_MEMORY
    from ckdiff.report.hdf5.file import SEAL_LENGTH, read_any, seal_image, write_campaign, write_report
    from ckdiff.report.schema.report import Report
    from tests.reports import empty_comparison, report

    path = folder / "r.h5"

    def image(seed: Any) -> bytes:
        (write_report if isinstance(seed, Report) else write_campaign)(seed, path)
        return path.read_bytes()[:-SEAL_LENGTH]

    small_to_large = [image(report(None))], [image(report(empty_comparison()))], [*map(image, seeds())]

    def one(chance: Random) -> str:
        limit_memory(os.getpid(), MOST_MEMORY)
        seed = chance.choice(chance.choices(small_to_large, SHARES)[0])
        path.write_bytes(seal_image(change_bytes(seed, chance)))
        found = read_any(path) if chance.random() < 0.01 else read_tree(load(path))
        say_all(found, chance)
        return "read"

    return one


@functools.cache
def limit_memory(process: int, more: int) -> None:
    """Let a copy of `fuzz` have so many bytes more than it has."""
    import resource

    from ckdiff.report.hdf5 import apart

    if not COPY[0]:
        return
    most = apart._held() + more
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def load(path: Path) -> Any:
    """The tree of a file, as `load_apart` gives it, read in this process."""
    from ckdiff.report.hdf5 import apart

    READING[0], reply = 1, io.BytesIO()
    apart._reply(path, path.name, reply)
    READING[0], said = 0, memoryview(reply.getvalue())
    if said[:1] == apart.READ:
        return apart._unpack(said[1:])
    raise ReportError(printable(str(said[1:], "utf-8", "replace")))


def say_all(found: Any, chance: Random) -> None:
    """Say a report in one of the ways that there are, by chance."""
    from rich.console import Console

    from ckdiff.report.formats import FORMATS, say
    from ckdiff.report.page import to_html
    from ckdiff.report.schema.report import Report
    from ckdiff.report.words.sections import Selection, sections_of

    ways: list[Callable[[], object]] = [lambda: to_html(found)]
    for name in FORMATS:
        there = sections_of(found) if isinstance(found, Report) else []
        section = chance.choice(there) if there and FORMATS[name].carries != "all" else None
        ways.append(partial(say, found, name, Selection(section, 10, chance.choice((0, 3)))))
    if isinstance(found, Report):
        ways += [lambda: _judge(found), lambda: _verify(found), lambda: _attest(found)]
    said = chance.choice(ways)()
    if said is not None and not isinstance(said, str):
        Console(file=io.StringIO(), width=120).print(said)


def _judge(found: Any) -> None:
    from ckdiff.audit.gate.policy import read_policy
    from ckdiff.audit.judge import judge_report

    judge_report(found, read_policy())


def _verify(found: Any) -> None:
    from ckdiff.audit.verify.report import check, measures_not_met

    check(found)
    measures_not_met(found)


def _attest(found: Any) -> None:
    from ckdiff.report.exports.attestation import payload, statement

    payload(statement(found, "0" * 64))
