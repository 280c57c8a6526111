"""The whole page: head, style and script, and the parts in their order.

The page asks for nothing: its policy (CSP) forbids every request, allows this one style and this one script by their
digests, and no style or script from anywhere else, not even inside the page. Without the script everything is still
there; with it, arrow keys move in the heatmap and along curves, and what is pointed at is said at the bottom.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from importlib import resources
from typing import TYPE_CHECKING

from ckdiff.report.page.answers import behaviour, history
from ckdiff.report.page.drift import coverage, drift, moved_neurons
from ckdiff.report.page.judgement import judgement
from ckdiff.report.page.markup import Safe, cut, joined, paragraph, tag
from ckdiff.report.page.origin import provenance
from ckdiff.report.page.overview import campaign_parts
from ckdiff.report.page.restoring import controls, neurons, scores
from ckdiff.report.page.words import method
from ckdiff.report.schema.campaign import Campaign
from ckdiff.report.words.behaviour import measured
from ckdiff.report.words.campaign import gates_text
from ckdiff.report.words.verdict import verdict_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckdiff.report.schema.report import Report

BEGINNING = '<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="generator" content="ckdiff">'
"""How every page begins, and how one is known."""


def to_html(found: Report | Campaign) -> str:
    """A report, of one pair or of a campaign, as a page; the same report gives the same text."""
    if isinstance(found, Campaign):
        name = cut(found.name, 100)
        title, heading = f"{name}: {gates_text(found)} - ckdiff", f"Campaign {name}"
        return _page(title, heading, Safe(), list(campaign_parts(found)))
    return _page(_title(found), _heading(found), _pair(found), list(_parts(found)))


def _page(title: str, heading: str, about: Safe, parts: list[tuple[str, str, Safe]]) -> str:
    anchor, first, _ = parts[0]
    head = joined(_policy(), *_metas(), tag("title", title), _style())
    body = joined(
        tag("a", f"To the {first.lower()}", href=f"#{anchor}", class_="skip"),
        tag("header", tag("h1", heading), about, _contents(parts)),
        tag("main", *(tag("section", tag("h2", name), content, id=anchor) for anchor, name, content in parts)),
        tag("footer", paragraph("Made by ckdiff from a report; this file needs no network and makes no request.")),
        tag("div", id="says", aria_hidden="true", hidden=True),
        tag("script", Safe(_file("page.js"))),
    )
    return f"{BEGINNING}{head}</head>\n<body>{body}</body></html>\n"


def _parts(report: Report) -> Iterator[tuple[str, str, Safe]]:
    """The parts that a report has, as anchor, name and content."""
    yield "verdict", "Verdict", judgement(report)
    yield "coverage", "What was compared", coverage(report)
    if report.compare is not None:
        yield "drift", "What moved", drift(report.compare)
    if report.probe is not None:
        yield "scores", "Where the effect lives", scores(report.probe)
    if found := _neurons(report):
        yield "neurons", "Neurons", found
    if report.behaviour is not None and measured(report.behaviour):
        yield "answers", "Answers side by side", behaviour(report.behaviour)
    if report.behaviour is not None and (report.behaviour.history or report.behaviour.method):
        yield "history", "How it was unlearned", history(report.behaviour)
    if report.probe is not None:
        yield "controls", "Controls", controls(report.probe)
    yield "provenance", "Provenance", provenance(report)
    yield "method", "Method and limits", method()


def _neurons(report: Report) -> Safe:
    sets = report.probe.neurons if report.probe is not None else ()
    moved = moved_neurons(report.compare) if report.compare is not None and report.compare.neurons else None
    return joined(neurons(sets), moved)


# ------------------------------------------------------------------------------------------------------------ head


def _title(report: Report) -> str:
    words = verdict_line(report.verdict) if report.verdict is not None else "no verdict"
    return f"{words} - ckdiff"


def _heading(report: Report) -> str:
    kind = next((one.model_type for one in (report.compare, report.probe, report.behaviour) if one is not None), "")
    return f"What unlearning changed in {cut(kind, 60)}" if kind else "What unlearning changed"


def _pair(report: Report) -> Safe:
    sides = report.provenance
    names = (tag("code", cut(side.location, 200)) for side in (sides.base, sides.unlearned))
    base, unlearned = names
    return paragraph("Base ", base, ", unlearned ", unlearned, class_="pair")


def _contents(parts: list[tuple[str, str, Safe]]) -> Safe:
    links = [tag("li", tag("a", name, href=f"#{anchor}")) for anchor, name, _ in parts]
    return tag("nav", tag("ul", *links), aria_label="Parts of this page")


def _metas() -> Iterator[Safe]:
    yield tag("meta", name="viewport", content="width=device-width, initial-scale=1")
    yield tag("meta", name="color-scheme", content="light dark")
    yield tag("meta", name="referrer", content="no-referrer")
    yield tag("link", rel="icon", href="data:,")


def _policy() -> Safe:
    rules = (
        "default-src 'none'",
        "img-src data:",
        f"style-src '{_digest('page.css')}'",
        f"script-src '{_digest('page.js')}'",
        "base-uri 'none'",
        "form-action 'none'",
    )
    return tag("meta", http_equiv="Content-Security-Policy", content="; ".join(rules))


def _style() -> Safe:
    return tag("style", Safe(_file("page.css")))


@functools.cache
def _file(name: str) -> str:
    return (resources.files("ckdiff.report.page") / name).read_text(encoding="utf-8")


def _digest(name: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(_file(name).encode()).digest()).decode()}"
