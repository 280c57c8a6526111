"""A verdict in Markdown, for somebody who decides about a release, and then what it rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.report.markdown.parts import bullet_list, escape, table
from ckdiff.report.words import verdict as words
from ckdiff.report.words.names import bound_title
from ckdiff.report.words.summary import in_short

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckdiff.report.schema.report import Report
    from ckdiff.report.schema.verdict import Gate, Verdict


def parts(report: Report) -> Iterator[str]:
    """Everything, a paragraph, list or table each."""
    found = report.verdict
    if found is None:
        return
    yield f"## Verdict: {escape(found.label)}"
    lines = [words.verdict_line(found), *([] if found.gate is None else [words.gate_line(found.gate)])]
    lines += [] if report.complete else ["INCOMPLETE: the run was interrupted"]
    yield "  \n".join([*(f"**{escape(line)}**" for line in lines), escape(bound_title(report.provenance))])
    yield escape(in_short(report, found))
    yield "\n".join(f"- **{escape(name)}:** {escape(said)}" for name, said in words.verdict_facts(found))
    if found.gate is not None:
        yield from _gate(found.gate)
    yield from _evidence(found)
    if found.lacking:
        yield "### What it would take to say more of the knowledge"
        yield bullet_list(found.lacking)
    yield "### Not measured"
    yield bullet_list(found.unmeasured or ("nothing that a verdict looks at is lacking",))
    yield "### What this is about"
    yield table(("", "place", "digest"), words.digest_lines(report), left=3)
    yield f"ckdiff {escape(report.versions.get('ckdiff', '(version not stated)'))}; {words.exit_text(found)}."


def _gate(found: Gate) -> Iterator[str]:
    yield "### Gate"
    yield f"Policy: {escape(words.policy_text(found))}"
    if found.notes:
        yield bullet_list(words.gate_notes(found))
    if found.checks:
        checks = (
            (name, outcome, text, value, threshold)
            for outcome, name, value, threshold, text in map(words.check_cells, found.checks)
        )
        yield table(("check", "outcome", "what was found", "figure", "limit"), checks, left=3)


def _evidence(found: Verdict) -> Iterator[str]:
    """The rules, the shares and the side effects of a verdict."""
    for title, rules in (
        ("Rules that hold", words.rules_that_hold(found)),
        ("Rules that do not hold", words.rules_that_do_not(found)),
    ):
        if rules:
            yield f"### {title}"
            cells = ((name, text, value, needed) for name, value, needed, text in map(words.rule_cells, rules))
            yield table(("rule", "what was looked at", "found", "needed"), cells, left=2)
    if found.explanations:
        yield "### What brings the answers back, and what takes them away"
        heads = ("put back", "direction", "layers", "krs_kl", "krs_centred", "krs_js", "whole answers")
        shares = ((*words.share_cells(row), *words.back_cells(row)) for row in found.explanations)
        yield table(heads, shares, left=2)
        yield escape(words.SHARES_LEGEND + words.BACK_LEGEND)
    if found.side_effects:
        yield "### Side effects"
        yield bullet_list(found.side_effects)
