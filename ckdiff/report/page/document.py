"""The whole page: `to_html(report)`, the parts in their order in `templates/page.html`.

The page asks for nothing: its policy (CSP) forbids every request, allows this one style and this one script by their
digests, and no style or script from anywhere else, not even inside the page. Without the script everything is still
there; with it, arrow keys move in the heatmap and along curves, and what is pointed at is said at the bottom.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup

from ckdiff.report.page.pair import PARTS
from ckdiff.report.page.parts import cut
from ckdiff.report.page.rendering import file_text, render
from ckdiff.report.schema.campaign import Campaign
from ckdiff.report.words.campaign import gates_text
from ckdiff.report.words.names import pair_title
from ckdiff.report.words.sections import SECTIONS, file_of
from ckdiff.report.words.verdict import policy_text, verdict_line
from ckdiff.report.words.withheld import WITHHELD, withhold

if TYPE_CHECKING:
    from ckdiff.report.page.parts import Part
    from ckdiff.report.schema.report import Report

BEGINNING = '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="generator" content="ckdiff">'
"""How every page begins, and how one is known."""

TITLE_LENGTH = 200


OPEN = 1
"""Parts that a narrow screen shows in full; the others are one line there, until they are opened."""


class Source(NamedTuple):
    """The file of a report that a page shows: its name, and the sha256 of its bytes."""

    name: str
    sha256: str


def to_html(
    found: Report | Campaign,
    title: str | None = None,
    note: str | None = None,
    answers: bool = True,
    source: Source | None = None,
) -> str:
    """A report, of one pair or of a campaign, as a page; the same report gives the same text.

    Args:
        found: what the page shows.
        title: its heading; else the names of the pair, or of the campaign.
        note: a line below it: who made the page, and when; a report records no date.
        answers: whether texts of questions and answers are shown.
        source: its file; None where it is in memory alone.
    """
    if not answers:
        found = withhold(found)
    notes = [WITHHELD] if not answers else []
    notes += [cut(note, TITLE_LENGTH)] if note else []
    if isinstance(found, Campaign):
        heading = cut(title or f"Campaign {found.name}", TITLE_LENGTH)
        return _page(
            found, f"{heading}: {gates_text(found)}", heading, file_of("page", "campaign").PARTS, notes, source
        )
    names = pair_title(found.provenance)
    heading = cut(title or f"What unlearning changed: {names}", TITLE_LENGTH)
    finding = verdict_line(found.verdict) if found.verdict is not None else "no verdict"
    tab = cut(f"{finding} - {title or names}", TITLE_LENGTH)
    parts = chain(PARTS, *(file_of("page", name).PARTS for name in SECTIONS))
    return _page(found, tab, heading, sorted(parts, key=lambda part: part.place), notes, source)


def _page(
    found: Report | Campaign, title: str, heading: str, rows: list[Part], notes: list[str], source: Source | None
) -> str:
    """The parts that show something, in one file."""
    shown = [(row, given) for row in rows if (given := row.show(found)) is not None]
    parts = [(row, render(row.template, given)) for row, given in shown]
    sides = None if isinstance(found, Campaign) else found.provenance
    own = {kind: _own(kind) for kind in ("css", "js")}
    about = [text for text in (made_text(found), *notes) if text]
    given = {
        "about": about,
        "title": title,
        "heading": heading,
        "sides": sides,
        "parts": parts,
        "own": own,
        "open": OPEN,
        "source": source,
        "unprinted": [row.name for row, _ in shown if not row.paper],
    }
    return f"{BEGINNING}{render('page.html', given)}\n"


def made_text(found: Report | Campaign) -> str:
    """The policy that judged a report, and the version that measured it; nothing of a campaign, which has many."""
    if isinstance(found, Campaign):
        return ""
    gate = None if found.verdict is None else found.verdict.gate
    judged = "Judged by no policy" if gate is None else f"Judged by the policy {policy_text(gate)}"
    return cut(f"{judged}; ckdiff {found.versions.get('ckdiff', '(version not recorded)')}", TITLE_LENGTH)


@functools.cache
def _own(kind: str) -> tuple[Markup, str]:
    """The page's style or script, and the digest that its policy allows."""
    text = file_text(f"page.{kind}")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Markup(text), f"sha256-{digest}"
