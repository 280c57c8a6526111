"""The report as Markdown: `to_markdown(report)` is a summary to paste into an issue."""

from __future__ import annotations

import html
import math
import re
from typing import TYPE_CHECKING

from ckdiff.report.schema.probe import SCORES
from ckdiff.report.words.behaviour import (
    NOTHING_ASKED,
    answer_facts,
    arrow,
    behaviour_settings,
    changes,
    kl_text,
    marked,
    mean_text,
    measured,
    most_changed,
    of_base,
    of_unlearned,
    perplexity_text,
    saved_remark,
    share_text,
    short_number,
    shown_points,
    source_lines,
)
from ckdiff.report.words.numbers import (
    amount,
    component_peaks,
    coverage_lines,
    number,
    percent,
    sameness_line,
    top_tensors,
)
from ckdiff.report.words.probe import (
    SET_HEADS,
    best_window,
    beyond_chance,
    by_direction,
    control_lines,
    direction_words,
    inconclusive,
    losses_text,
    remarks,
    score_text,
    scored,
    set_cells,
    set_legend,
    settings_text,
    window_text,
    wrong_prompt_lines,
)
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
from ckdiff.untrusted import printable, shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ckdiff.report.schema.behaviour import AnswerSet, Behaviour
    from ckdiff.report.schema.comparison import Comparison, Drift
    from ckdiff.report.schema.probe import Probe, ProbeRun
    from ckdiff.report.schema.report import Report
    from ckdiff.report.schema.verdict import Verdict


TOP_TENSORS = 20


LISTED_CHANGES = 50


LISTED_ANSWERS = 5
"""Questions of each set whose answers are listed, those that changed most first."""


NOTHING = "NOTHING WAS COMPARED"


BREAK = "&#8203;"
"""A space of no width."""


CAUTION = (
    "A best window is selected from many: read it by the band of the score that ranks the windows (`krs_kl`, what"
    " changes behaviour), never by the raw `krs`, which also counts a uniform shift that softmax cannot see."
)


def to_markdown(report: Report) -> str:
    """A summary to paste into an issue or a model card: what was compared, coverage, components, top tensors, settings.

    Where there is a verdict, it comes first, with its gate and what both rest on. Of a probe: the best windows, the
    controls, and what to beware of. Of behaviour: the numbers before and after, and the answers that changed most.
    """
    sides = report.provenance.base.location, report.provenance.unlearned.location
    pair = f"base: {_escape(sides[0])}  \nunlearned: {_escape(sides[1])}"
    compared = report.compare is not None and bool(report.compare.tensors)
    parts = [] if report.verdict is None else list(_verdict_sections(report, report.verdict))
    if report.compare is not None or (not parts and report.probe is None and report.behaviour is None):
        parts += ["## ckdiff compare", *([] if parts else [pair]), *([] if compared else [f"**{NOTHING}**"])]
    if report.compare is not None:
        parts += _sections(report.compare)
    if report.probe is not None:
        parts += ["## ckdiff probe", *([] if parts else [pair]), *_probe_sections(report.probe)]
    if report.behaviour is not None:
        parts += ["## ckdiff behave", *([] if parts else [pair]), *_behaviour_sections(report.behaviour)]
    return "\n\n".join(parts) + "\n"


def _verdict_sections(report: Report, found: Verdict) -> Iterable[str]:
    """The verdict for somebody who decides about a release, and then what it rests on."""
    yield f"## Verdict: {_escape(found.label)}"
    lines = [verdict_line(found), *([] if found.gate is None else [gate_line(found.gate)])]
    if not report.complete:
        lines.append("INCOMPLETE: the run was interrupted")
    yield "  \n".join(f"**{_escape(line)}**" for line in lines)
    yield "\n".join(f"- **{_escape(name)}:** {_escape(words)}" for name, words in verdict_facts(found))
    if found.gate is not None:
        yield "### Gate"
        yield f"Policy: {_escape(policy_text(found.gate))}"
        if found.gate.checks:
            cells = [(row[1], row[0], row[4], row[2], row[3]) for row in map(check_cells, found.gate.checks)]
            yield _table(("check", "outcome", "what was found", "figure", "limit"), cells, left=3)
    yield from _evidence_sections(found)
    yield "### Not measured"
    yield _listed(found.unmeasured or ("nothing that a verdict looks at is lacking",))
    yield "### What this is about"
    yield _table(("", "place", "digest"), digest_lines(report), left=3)
    yield f"ckdiff {_escape(report.versions.get('ckdiff', '(version not stated)'))}; {exit_text(found)}."


def _evidence_sections(found: Verdict) -> Iterable[str]:
    """The rules, the shares and the side effects of a verdict."""
    for title, rules in (("Rules that hold", fired(found)), ("Rules that do not hold", ruled_out(found))):
        if rules:
            yield f"### {title}"
            cells = [(name, words, value, threshold) for name, value, threshold, words in map(rule_cells, rules)]
            yield _table(("rule", "what was looked at", "found", "needed"), cells, left=2)
    if found.explanations:
        yield "### What brings the answers back, and what takes them away"
        heads = ("put back", "direction", "layers", "krs_kl", "krs_centred")
        yield _table(heads, map(share_cells, found.explanations), left=2)
        yield _escape(SHARES_LEGEND)
    if found.side_effects:
        yield "### Side effects"
        yield _listed(found.side_effects)


def _probe_sections(found: Probe) -> Iterable[str]:
    if reason := inconclusive(found):
        yield f"**INCONCLUSIVE: {reason}**"
    loss = found.loss_unlearned
    facts = [
        f"{found.model_type or 'model type not stated'}, {found.layer_count} layers, {len(found.questions)} questions",
        settings_text(found) or "settings not stated",
        f"unlearned model: {losses_text(loss)}, of which {percent(loss.shift_share)} is a uniform shift that softmax"
        f" cannot see; top1 {percent(loss.top1)}",
    ]
    yield _listed(facts)
    for direction, runs in by_direction(found):
        yield f"### Best windows, {_escape(direction_words(direction))}"
        heads = ("mode", "variant", "best", *reversed(SCORES), "top1", "best by krs alone")
        yield _table(heads, [_window_cells(run) for run in runs], left=3)
    yield CAUTION + " In brackets: its simultaneous 95 % band, and the pointwise 95 % intervals of the other scores."
    if words := [line for run in found.runs for line in remarks(run)]:
        yield _listed(words)
    if found.neurons:
        yield "### Which coefficients"
        yield _table(SET_HEADS, map(set_cells, found.neurons), left=1)
        yield f"{_escape(set_legend(found.neurons))}."
    yield "### Controls"
    verdicts = [f"{line}: {'passed' if passed else 'FAILED: INCONCLUSIVE'}" for line, passed in control_lines(found)]
    yield _listed([*verdicts, *wrong_prompt_lines(found)])
    if found.notes:
        yield "### Notes"
        yield _listed(found.notes)


def _behaviour_sections(found: Behaviour) -> Iterable[str]:
    if not measured(found):
        yield f"**{NOTHING_ASKED}**"
    method = [f"method: {found.method}, as the unlearned checkpoint says"] if found.method else []
    sources = [f"{name}: {line}" for name, line in source_lines(found)]
    settings = behaviour_settings(found) or "settings not stated"
    yield _listed([found.model_type or "model type not stated", *method, settings, *sources])
    if found.answers:
        yield "### Answers"
        heads = ("set", "questions", "BLEU", "exact", "log p, base → unlearned", "perplexity, base → unlearned")
        yield _table(heads, map(_answer_cells, found.answers), left=1)
    yield from _other_sections(found)
    for answers in found.answers:
        if answers.questions:
            yield f"### What they say, {_escape(answers.name)}"
            yield _table(("question", "base", "unlearned", "numbers"), _said(answers), left=4)
    if found.history:
        yield "### While it was unlearned"
        columns = ("step", "weights", "epoch", "loss", "target BLEU", "unrelated BLEU")
        yield _table(columns, _history_cells(found), left=2)
    if remark := saved_remark(found.history):
        yield _listed([remark])
    if found.notes:
        yield "### Notes"
        yield _listed(found.notes)


def _other_sections(found: Behaviour) -> Iterable[str]:
    """What was not answered in words: multiple choice and neutral text."""
    if (one := found.choices) is not None:
        yield "### Multiple choice"
        right = mean_text(one.accuracy_base), mean_text(one.accuracy_unlearned)
        probability = mean_text(one.probability_base), mean_text(one.probability_unlearned)
        cells = [str(len(one.questions)), arrow(*right), share_text(one.chance), arrow(*probability)]
        yield _table(("questions", "right, base → unlearned", "chance", "p(right), base → unlearned"), [cells], left=0)
    if (neutral := found.neutral) is not None:
        yield "### Neutral text"
        perplexity = arrow(perplexity_text(neutral.perplexity_base), perplexity_text(neutral.perplexity_unlearned))
        cells = [str(len(neutral.texts)), kl_text(neutral), perplexity]
        yield _table(("texts", "KL a token, nats", "perplexity, base → unlearned"), [cells], left=0)


def _answer_cells(found: AnswerSet) -> list[str]:
    logs = short_number(found.logprob_base.value), short_number(found.logprob_unlearned.value)
    perplexity = perplexity_text(found.perplexity_base), perplexity_text(found.perplexity_unlearned)
    means = mean_text(found.bleu), mean_text(found.exact)
    return [found.name, str(len(found.questions)), *means, arrow(*logs), arrow(*perplexity)]


def _said(answers: AnswerSet) -> Iterable[list[str]]:
    for question in most_changed(answers, LISTED_ANSWERS):
        pieces = changes(question.answer_base, question.answer_unlearned)
        sides = (" ".join(map(marked, side(pieces))) or "(no words)" for side in (of_base, of_unlearned))
        yield [shorten(question.text, 200), *sides, answer_facts(question)]


def _history_cells(found: Behaviour) -> Iterable[list[str]]:
    for point in shown_points(found.history):
        bleus = share_text(point.target_bleu), share_text(point.unrelated_bleu)
        yield [str(point.step), point.state, short_number(point.epoch), short_number(point.loss), *bleus]


def _listed(lines: Iterable[str]) -> str:
    return "\n".join(f"- {_escape(line)}" for line in lines)


def _window_cells(run: ProbeRun) -> list[str]:
    best = best_window(run)
    if best is None:
        return [run.mode, run.variant, *("not measured",) * 6]
    where = window_text(run, best) if beyond_chance(run) else f"unsure ({window_text(run, best)})"
    scores = [scored(run, name, best) for name in reversed(SCORES)]
    raw = window_text(run, best_window(run, "krs"))
    return [run.mode, run.variant, where, *scores, score_text(run.top1[best]), raw]


def _sections(found: Comparison) -> Iterable[str]:
    yield "### Coverage"
    yield "\n".join(f"- {_escape(line)}" for line in coverage_lines(found))
    if same := sameness_line(found):
        yield _escape(same)
    elif found.tensors:
        yield "### Components"
        heads = (
            "component",
            "tensors",
            "parameters",
            "1-cos",
            "relative L2",
            "largest 1-cos",
            "changed",
            "max abs diff",
        )
        yield _table(heads, _component_cells(found), left=1)
    if rows := top_tensors(found, TOP_TENSORS):
        yield "### Tensors that moved most"
        cells = [[row.name, row.component, *_numbers(row.drift)] for row in rows]
        yield _table(("tensor", "component", "1-cos", "relative L2", "changed", "max abs diff"), cells, left=2)
    if found.config_changes:
        yield "### Settings"
        values = [(row.file, row.key, _setting(row.base), _setting(row.unlearned)) for row in found.config_changes]
        yield _table(("file", "key", "base", "unlearned"), values[:LISTED_CHANGES], left=4)
        if len(values) > LISTED_CHANGES:
            yield f"… and {len(values) - LISTED_CHANGES} more"


def _component_cells(found: Comparison) -> list[list[str]]:
    peaks = component_peaks(found)
    cells = []
    for row in found.components:
        one_minus_cosine, length, changed, largest = _numbers(row.drift)
        size = [f"{row.component} (tied)" if row.tied else row.component, str(row.tensors), amount(row.parameters)]
        peak = number(peaks.get(row.component, math.nan))
        cells.append([*size, one_minus_cosine, length, peak, changed, largest])
    return cells


def _numbers(drift: Drift) -> tuple[str, str, str, str]:
    """1-cos, relative L2, changed share, largest difference."""
    changed = percent(drift.changed_fraction)
    return number(drift.one_minus_cosine), number(drift.relative_l2), changed, number(drift.max_abs_diff)


def _setting(value: str | None) -> str:
    return "(none)" if value is None else shorten(value, 80)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> str:
    """A Markdown table whose first `left` columns are text and the others numbers."""
    rule = [":--" if column < left else "--:" for column in range(len(heads))]
    lines = [list(heads), rule, *([_escape(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escape(text: str) -> str:
    """Text that neither Markdown nor HTML reads as markup, link or mention.

    Some sites look for addresses, mentions and issue numbers again in the finished page, where an escape is no longer
    to be seen: there an invisible space breaks them.
    """
    safe = html.escape(printable(text), quote=False)
    safe = re.sub(r"([\\`*_\[\]|~$!])", r"\\\1", safe)
    safe = re.sub(r"#(?=\d)", rf"\\#{BREAK}", re.sub(r"#(?!\d)", r"\\#", safe))
    safe = re.sub(r"www\.", lambda found: f"{found[0][:3]}{BREAK}.", safe, flags=re.IGNORECASE)
    return safe.replace("@", f"&#64;{BREAK}").replace("://", f"&#58;{BREAK}//")
