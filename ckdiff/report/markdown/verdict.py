"""A verdict in Markdown, for somebody who decides about a release, and then what it rests on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.report.markdown.parts import escape, listed, table
from ckdiff.report.words.verdict import (
    SHARES_LEGEND,
    check_cells,
    digest_lines,
    exit_text,
    fired,
    gate_line,
    policy_text,
    rule_cells,
    ruled_out,
    share_cells,
    verdict_facts,
    verdict_line,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ckdiff.report.schema.report import Report
    from ckdiff.report.schema.verdict import Verdict


def parts(report: Report) -> Iterator[str]:
    """Everything, a paragraph, list or table each."""
    if report.verdict is not None:
        yield from _sections(report, report.verdict)


def _sections(report: Report, found: Verdict) -> Iterable[str]:
    yield f"## Verdict: {escape(found.label)}"
    lines = [verdict_line(found), *([] if found.gate is None else [gate_line(found.gate)])]
    if not report.complete:
        lines.append("INCOMPLETE: the run was interrupted")
    yield "  \n".join(f"**{escape(line)}**" for line in lines)
    yield "\n".join(f"- **{escape(name)}:** {escape(words)}" for name, words in verdict_facts(found))
    if found.gate is not None:
        yield "### Gate"
        yield f"Policy: {escape(policy_text(found.gate))}"
        if found.gate.checks:
            cells = [(row[1], row[0], row[4], row[2], row[3]) for row in map(check_cells, found.gate.checks)]
            yield table(("check", "outcome", "what was found", "figure", "limit"), cells, left=3)
    yield from _evidence_sections(found)
    yield "### Not measured"
    yield listed(found.unmeasured or ("nothing that a verdict looks at is lacking",))
    yield "### What this is about"
    yield table(("", "place", "digest"), digest_lines(report), left=3)
    yield f"ckdiff {escape(report.versions.get('ckdiff', '(version not stated)'))}; {exit_text(found)}."


def _evidence_sections(found: Verdict) -> Iterable[str]:
    """The rules, the shares and the side effects of a verdict."""
    for title, rules in (("Rules that hold", fired(found)), ("Rules that do not hold", ruled_out(found))):
        if rules:
            yield f"### {title}"
            cells = [(name, words, value, threshold) for name, value, threshold, words in map(rule_cells, rules)]
            yield table(("rule", "what was looked at", "found", "needed"), cells, left=2)
    if found.explanations:
        yield "### What brings the answers back, and what takes them away"
        heads = ("put back", "direction", "layers", "krs_kl", "krs_centred")
        yield table(heads, map(share_cells, found.explanations), left=2)
        yield escape(SHARES_LEGEND)
    if found.side_effects:
        yield "### Side effects"
        yield listed(found.side_effects)
