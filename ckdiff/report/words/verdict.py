"""A verdict in words, for every presenter: what it means in plain words, its rules, shares, gate and exit status.

Written for somebody who never read the paper. Text that came with the report (reasons, rules, checks) is untrusted:
everything that comes back from here is printable.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ckdiff.errors import ExitStatus
from ckdiff.modes import without_window
from ckdiff.report.words.asked import asking_text, is_damaged
from ckdiff.report.words.commands import EXCHANGED, TURNED, commands_in, is_turned
from ckdiff.report.words.headlines import BY_OTHER_MEANS, HEADLINES, LESS_DAMAGE, NEXT, TO_DO, UNFIT, Headline
from ckdiff.report.words.known import STILL, shown_by
from ckdiff.report.words.numbers import UNDEFINED, percent, with_interval
from ckdiff.report.words.probe import score_text
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckdiff.report.schema.report import Report
    from ckdiff.report.schema.verdict import (
        Explanation,
        Gate,
        GateCheck,
        Knowledge,
        Label,
        Outcome,
        RuleResult,
        Sense,
        Verdict,
    )


FINDINGS: dict[Knowledge, Outcome] = {"still there": "failed", "gone": "passed"}
"""What a statement about the knowledge means by itself, whatever a policy allows; any other leaves it open."""

NO_EFFECT: frozenset[Label] = frozenset({"identical", "no effect on these questions"})
"""Labels of pairs that do not differ in what was asked."""

KNOWLEDGE_WORDS: dict[Knowledge, str] = {
    "not recovered": "not recovered: no attack got it out; that it is gone is not shown",
    "gone": "gone: by every attack no nearer to it than a model that never knew it",
    "never there": "never there: the base does not know it either",
    "unknown": "unknown: what was measured does not tell",
}

OUTCOME_WORDS: dict[Outcome, str] = {
    "passed": "PASSED",
    "failed": "FAILED",
    "inconclusive": "NOT ENOUGH EVIDENCE",
}

STATUSES: dict[Outcome, ExitStatus] = {
    "passed": ExitStatus.OK,
    "failed": ExitStatus.DIFFERS,
    "inconclusive": ExitStatus.INCONCLUSIVE,
}

SIGNS: dict[Sense, str] = {"at_least": "at least ", "at_most": "at most ", "shown": ""}

SHARES_LEGEND = (
    "restore: the base's put into the unlearned model, the share of the lost answers that returns; break: the"
    " unlearned model's put into the base, the share of the effect that this alone produces. krs_kl and krs_centred:"
    " 1 is all of it, 0 none; in brackets 95 % bands (bootstrap) over all modes and windows of a direction at once, as"
    " a verdict picks the best: wider than those of one curve, or of one window. *: the verdict rests on it."
)

BACK_LEGEND = (
    " krs_js: by a loss that has a bound; whole answers: the share of the lost answers that come back word for word"
    " (break: that are taken from the base)."
)
"""What `back_cells` adds to `SHARES_LEGEND`."""


BANDED = "; in brackets the 95 % band over all modes and windows"
"""Which interval stands beside what carries the effect."""


def headline(found: Verdict) -> Headline:
    """The label for people: what it says, means and asks for."""
    return HEADLINES[found.label]


def verdict_line(found: Verdict) -> str:
    """The verdict in one line: `SUPPRESSED: The knowledge is still there, and only held back`."""
    return f"{found.label.upper()}: {headline(found).title}"


def verdict_facts(found: Verdict) -> Iterator[tuple[str, str]]:
    """The verdict and what it rests on, as names and sentences: why, where, how much, what it means, what to do."""
    yield "why", printable(found.reason) or "no reason was given"
    yield "knowledge", knowledge_text(found)
    if where := where_text(found):
        yield "where", where
    if not math.isnan(found.explained):
        yield "how much", f"{explained_text(found)} of the effect (1: all of it, 0: none{BANDED})"
    # Without an effect there is nothing to be held back or gone.
    if not math.isnan(found.score) and found.label not in NO_EFFECT:
        words = "(1: states bring it all back and the value vectors take nothing away; 0: edited, or trained anew)"
        yield "held back", f"{score_text(found.score)} {words}"
    yield "it means", headline(found).meaning
    yield "to do", action_text(found)
    if words := detectable_text(found):
        yield "can miss", words


def action_text(found: Verdict) -> str:
    """Advice: the outcome of the gate first, then what more to ask, and what the finding itself asks for."""
    gate = None if is_turned(found) else found.gate
    return f"{'' if gate is None else TO_DO[gate.outcome]}{advice_text(found)}"


def advice_text(found: Verdict) -> str:
    """Advice without the outcome of the gate; of a swapped pair the right order alone."""
    if TURNED in commands_in(found):
        return f"The two checkpoints were probably swapped: give them the other way round, `{TURNED}`."
    if EXCHANGED in commands_in(found):
        return f"Were --questions and --unrelated swapped? Then give them the other way round, `{EXCHANGED}`."
    if found.label == "identical":  # more questions would show the same
        return headline(found).action
    if is_damaged(found):
        return LESS_DAMAGE.format(BY_OTHER_MEANS if found.knowledge == "still there" else "")
    return " ".join(part for part in (NEXT.get(found.knowledge, ""), asking_text(found), _caution(found)) if part)


def _caution(found: Verdict) -> str:
    """What a label asks for; whether to release at all only where no gate has said it."""
    action = headline(found).action
    if gate_outcome(found) in (None, "passed"):
        return action
    rest = action.removeprefix(UNFIT).lstrip(".: ")
    return f"{rest[:1].upper()}{rest[1:]}"


def finding(found: Verdict) -> Outcome:
    """The statement on the knowledge as good, bad or open: a gate may allow either."""
    return FINDINGS.get(found.knowledge, "inconclusive")


def knowledge_text(found: Verdict) -> str:
    """The statement about the knowledge itself, with its reason."""
    reason = printable(found.knowledge_reason)
    words = STILL[shown_by(found)] if found.knowledge == "still there" else KNOWLEDGE_WORDS[found.knowledge]
    return f"{words}{f'. {reason}' if reason else ''}"


def where_text(found: Verdict) -> str:
    """Component and layers: `coefficients, layers 21-23`; empty where nothing carries the effect."""
    layers = layers_text(found.layers)
    return ", ".join(word for word in (printable(found.component), layers) if word)


def layers_text(layers: Sequence[int]) -> str:
    """Layers as ranges.

    >>> layers_text((21, 22, 23, 7)), layers_text((7,)), layers_text(())
    ('layers 7, 21-23', 'layer 7', '')
    """
    runs: list[list[int]] = []
    for layer in sorted(set(layers)):
        if runs and layer == runs[-1][1] + 1:
            runs[-1][1] = layer
        else:
            runs.append([layer, layer])
    text = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
    return f"{'layer' if len(set(layers)) == 1 else 'layers'} {text}" if runs else ""


def explained_text(found: Verdict) -> str:
    """How much of the effect is explained, with the band it rests on: `0.90 [0.84, 0.94]`."""
    return band_text(found.explained, found.explained_low, found.explained_high)


def detectable_text(found: Verdict) -> str:
    """The smallest change that so few questions could have shown; empty without questions."""
    if math.isnan(found.detectable):
        return ""
    return f"a change in fewer than {percent(found.detectable)} of such answers: so few questions may not show it"


def rules_that_hold(found: Verdict) -> list[RuleResult]:
    """The rules that hold."""
    return [rule for rule in found.rules if rule.fired]


def rules_that_do_not(found: Verdict) -> list[RuleResult]:
    """The rules that were looked at and do not hold."""
    return [rule for rule in found.rules if not rule.fired]


def rule_cells(rule: RuleResult) -> tuple[str, str, str, str]:
    """A rule as name, figure, threshold (`at least 0.8`) and words."""
    return printable(rule.name), figure(rule.value), threshold_text(rule.sense, rule.threshold), printable(rule.text)


def rule_line(rule: RuleResult) -> str:
    """A rule on one line: `restores: coefficients bring back 0.90 (found 0.9, needs at least 0.8)`."""
    name, value, threshold, text = rule_cells(rule)
    figures = ", ".join(f"{word} {one}" for word, one in (("found", value), ("needs", threshold)) if one != UNDEFINED)
    return f"{name}: {text}{f' ({figures})' if figures else ''}"


def threshold_text(sense: Sense, threshold: float) -> str:
    """A threshold with its sense; a dash where there is none."""
    return UNDEFINED if math.isnan(threshold) else f"{SIGNS[sense]}{figure(threshold)}"


def figure(value: float) -> str:
    """A figure in four digits, a dash where there is none.

    >>> figure(0.84), figure(12.0), figure(2.6e-7)
    ('0.84', '12', '2.6e-07')
    """
    return UNDEFINED if math.isnan(value) else f"{value:.4g}"


def share_cells(row: Explanation) -> tuple[str, str, str, str, str]:
    """An explanation as what is put back (`*`: decisive), direction, layers, krs_kl and krs_centred with bands."""
    mark = "*" if row.decisive else ""
    kl, centred = band_text(row.kl, row.kl_low, row.kl_high), band_text(row.centred, row.centred_low, row.centred_high)
    return f"{printable(row.mode)}{mark}", printable(row.direction), share_layers(row), kl, centred


def back_cells(row: Explanation) -> tuple[str, str]:
    """What an explanation says of answers beside `share_cells`: krs_js, and the share of lost answers given whole."""
    return score_text(row.js), percent(row.returned)


def share_layers(row: Explanation) -> str:
    """The layers of an explanation; `all` where it is about the whole model."""
    if without_window(row.mode, row.variant):
        return "all"
    return str(row.first) if row.first == row.last else f"{row.first}-{row.last}"


def band_text(value: float, low: float, high: float) -> str:
    """A score and its band: `0.90 [0.84, 0.94]`; the band is left out where there is none.

    >>> band_text(0.9, 0.84, 0.94), band_text(0.9, float("nan"), float("nan"))
    ('0.90 [0.84, 0.94]', '0.90')
    """
    return with_interval(value, low, high, score_text)


def gate_line(gate: Gate) -> str:
    """The gate in one line: `GATE FAILED: 2 of 7 checks failed, 1 lacks evidence`."""
    return f"GATE {OUTCOME_WORDS[gate.outcome]}: {gate_count(gate)}"


def gate_count(gate: Gate) -> str:
    """How many checks came to what."""
    count = len(gate.checks)
    if not count:
        return "the policy checks nothing"
    failed, unknown = (sum(one.outcome == name for one in gate.checks) for name in ("failed", "inconclusive"))
    words = [f"{failed} of {count} checks failed"] if failed else []
    if unknown:
        words.append(f"{unknown} {'lacks' if unknown == 1 else 'lack'} evidence")
    return ", ".join(words) or f"{'the check' if count == 1 else f'all {count} checks'} passed"


def gate_notes(gate: Gate) -> list[str]:
    """Remarks about the policy itself."""
    return [printable(note) for note in gate.notes]


def policy_text(gate: Gate) -> str:
    """Which policy: its name and the beginning of its digest."""
    digest = f"sha256 {printable(gate.digest)[:12]}" if gate.digest else "not hashed"
    return f"{printable(gate.source) or 'unnamed'}, {digest}"


def check_cells(check: GateCheck) -> tuple[str, str, str, str, str]:
    """A check as outcome, name, figure, threshold and words."""
    outcome = OUTCOME_WORDS[check.outcome]
    return outcome, printable(check.name), figure(check.value), figure(check.threshold), printable(check.text)


def exit_status(found: Verdict | None) -> ExitStatus:
    """The exit status that goes with a verdict: that of its gate; without one nothing was asked and nothing passed."""
    return status_of(gate_outcome(found))


def gate_outcome(found: Verdict | None) -> Outcome | None:
    """What the gate of a verdict came to; None where there is none."""
    return None if found is None or found.gate is None else found.gate.outcome


def status_of(outcome: Outcome | None) -> ExitStatus:
    """The exit status of a gate that came to this; None: there was none."""
    return ExitStatus.INCONCLUSIVE if outcome is None else STATUSES[outcome]


def exit_text(found: Verdict | None) -> str:
    """The exit status with its reason."""
    if found is None:
        why = "no verdict was given"
    elif found.gate is None:
        why = "no policy was given, so that there is no gate"
    else:
        why = f"gate {OUTCOME_WORDS[found.gate.outcome].lower()}"
    return f"exit status {int(exit_status(found))}: {why}"


def digest_lines(report: Report) -> Iterator[tuple[str, str, str]]:
    """Everything that a verdict is bound to, as name, place and full digest: both checkpoints, and a gate's policy."""
    for side, record in (("base", report.provenance.base), ("unlearned", report.provenance.unlearned)):
        revision = f" @ {record.revision}" if record.revision else ""
        digest = f"sha256 {record.digest}" if record.digest else "not hashed"
        yield side, printable(f"{record.location}{revision}"), printable(digest)
    if report.verdict is not None and report.verdict.gate is not None:
        gate = report.verdict.gate
        yield "policy", printable(gate.source), printable(f"sha256 {gate.digest}" if gate.digest else "not hashed")
