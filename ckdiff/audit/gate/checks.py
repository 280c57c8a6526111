"""Checks of a policy against a report. A new check is one function and one line in `CHECKS`.

`require.*` says how much evidence there must be: where it lacks, the outcome is "inconclusive". `fail.*` says what must
not be: where it is found, the outcome is "failed"; where it cannot be told, "inconclusive". An interval is always held
against the threshold by its worse end, so that little evidence never passes for good evidence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.audit.gate import kinds
from ckdiff.audit.verdict.evidence import STATES, Evidence
from ckdiff.modes import without_window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ckdiff.report.schema.behaviour import Mean
    from ckdiff.report.schema.probe import Curve
    from ckdiff.report.schema.report import Report
    from ckdiff.report.schema.verdict import Outcome, Verdict


NAN = float("nan")


PASSED: Outcome = "passed"


FAILED: Outcome = "failed"


UNKNOWN: Outcome = "inconclusive"


@dataclass(frozen=True, slots=True)
class Result:
    """Outcome of a check: its words, the figure and what it was held against."""

    outcome: Outcome
    text: str
    value: float = NAN
    threshold: float = NAN


@dataclass(frozen=True, slots=True)
class Check:
    """One key of a policy.

    Attributes:
        kind: what its value may be, one of `kinds`.
        look: holds it against a report that has a verdict.
        meaning: what it asks for, for people.
    """

    kind: Callable[[Any], Any]
    look: Callable[[Report, Any], Iterable[Result]]
    meaning: str


def _sections(report: Report, wanted: tuple[str, ...]) -> Iterator[Result]:
    lacking = [name for name in wanted if getattr(report, name) is None]
    yield _enough(not lacking, f"the report holds no {' and no '.join(lacking)}", f"the report holds {_and(wanted)}")


def _questions(report: Report, wanted: int) -> Iterator[Result]:
    counts = [] if report.probe is None else [len(report.probe.questions)]
    counts += [len(one.questions) for one in _sets(report, "target")]
    found = min(counts, default=0)
    yield _least(found, wanted, f"{found} target questions were asked, {wanted} are wanted")


def _unrelated(report: Report, wanted: int) -> Iterator[Result]:
    found = sum(len(one.questions) for one in _sets(report, "unrelated"))
    yield _least(found, wanted, f"{found} unrelated questions were asked, {wanted} are wanted")


def _runs(field: str) -> Callable[[Report, tuple[str, ...]], Iterator[Result]]:
    def look(report: Report, wanted: tuple[str, ...]) -> Iterator[Result]:
        runs = () if report.probe is None else report.probe.runs
        directions = {run.direction for run in runs}
        # What was measured in one direction only is not measured in both.
        held = [{getattr(run, field) for run in runs if run.direction == name} for name in directions]
        if field == "direction":
            held = [directions]
        lacking = [name for name in wanted if not held or any(name not in own for own in held)]
        option = f"`ckdiff probe --{field} {','.join(lacking)}`"
        yield _enough(
            not lacking, f"the probe lacks {field} {_and(lacking)}: {option}", f"the probe has {_and(wanted)}"
        )

    return look


def _coverage(report: Report, wanted: float) -> Iterator[Result]:
    found = report.compare
    if found is None or not found.tensors:
        yield Result(UNKNOWN, "no weights were compared", threshold=wanted)
        return
    compared = sum(row.parameters for row in found.tensors)
    shapes = [row.shape for row in (*found.only_in_base, *found.only_in_unlearned)]
    shapes += [row.shape_base for row in found.shape_mismatch]
    whole = compared + sum(math.prod(shape) for shape in shapes)
    value = compared / whole if whole else 0.0
    yield _least(value, wanted, f"{value:.2%} of the parameters were compared, {wanted:.2%} are wanted")


def _basis(report: Report, wanted: bool) -> Iterator[Result]:
    if report.compare is None or not report.compare.tensors:
        yield Result(UNKNOWN, "no weights were compared")
        return
    foreign = any(rule.name == "basis" and not rule.fired for rule in verdict_of(report).rules)
    yield _enough(
        not foreign,
        "the two models share no neurons, so that nothing can be put in place: trained anew, destroyed, or reordered",
        "both models share their neurons",
    )


def _digests(report: Report, wanted: bool) -> Iterator[Result]:
    lacking = [side for side in ("base", "unlearned") if getattr(report.provenance, side).digest is None]
    yield _enough(
        not lacking, f"no digest of the {_and(lacking)}: measure without --no-hash", "both checkpoints have digests"
    )


def _base_digest(report: Report, wanted: str) -> Iterator[Result]:
    found = report.provenance.base.digest
    if found is None:
        yield Result(UNKNOWN, "the base has no digest: measure without --no-hash")
    else:
        same = found == wanted
        yield Result(PASSED if same else FAILED, f"the base is {'' if same else 'not '}the one that the policy names")


def _questions_digest(report: Report, wanted: str) -> Iterator[Result]:
    found = {one.digest for one in _sets(report, "target")}
    if report.probe is not None:
        found.add(report.probe.settings.get("questions_digest", ""))
    yield _enough(
        found == {wanted}, "other questions were asked than the policy names", "the questions are those of the policy"
    )


def _widest(report: Report, wanted: float) -> Iterator[Result]:
    verdict = verdict_of(report)
    width = verdict.explained_high - verdict.explained_low
    if np.isnan(width):
        # Where there is no effect, or nothing could be put back at all, there is no interval to be narrow.
        foreign = any(rule.name == "basis" and not rule.fired for rule in verdict.rules)
        settled = verdict.label in ("identical", "no effect on these questions") or foreign
        yield Result(PASSED if settled else UNKNOWN, "the verdict rests on no interval", threshold=wanted)
    else:
        yield _most(
            width, wanted, f"the interval that the verdict rests on is {width:.2f} wide, {wanted:.2f} at most", UNKNOWN
        )


def _detectable(report: Report, wanted: float) -> Iterator[Result]:
    value = verdict_of(report).detectable
    if np.isnan(value):
        yield Result(UNKNOWN, "no target question was asked", threshold=wanted)
    else:
        text = (
            f"so many questions would have shown an effect on {value:.0%} of all such questions or more; {wanted:.0%}"
        )
        yield _most(value, wanted, f"{text} is wanted", UNKNOWN)


def _labels(report: Report, wanted: tuple[str, ...]) -> Iterator[Result]:
    label = verdict_of(report).label
    if label in wanted:
        yield Result(FAILED, f"the verdict is '{label}'")
    elif label == "inconclusive":
        yield Result(UNKNOWN, "the verdict is 'inconclusive'")
    else:
        yield Result(PASSED, f"the verdict is '{label}', which the policy allows")


def _recovered(report: Report, wanted: float) -> Iterator[Result]:
    evidence = Evidence(report)
    rows = [evidence.whole(mode, "restore") for mode in STATES]
    high = float(np.max([NAN if row is None else row.kl_high for row in rows]))
    if np.isnan(high):
        yield Result(
            UNKNOWN, "how much the base's states bring back was not measured with an interval", threshold=wanted
        )
    else:
        yield _most(
            high, wanted, f"the base's states bring back as much as {high:.2f} (krs_kl), {wanted:.2f} is allowed"
        )


def _scores(report: Report, wanted: tuple[dict[str, Any], ...]) -> Iterator[Result]:
    for one in wanted:
        yield _one_score(report, one)


def _one_score(report: Report, one: dict[str, Any]) -> Result:
    name = f"{one['score']} of {one['direction']} {one['mode']} {one['variant']}"
    upper = "at_most" in one
    threshold = float(one["at_most"] if upper else one["at_least"])
    runs = () if report.probe is None else report.probe.runs
    found = [run for run in runs if all(getattr(run, key) == one[key] for key in ("direction", "mode", "variant"))]
    curve: Curve | None = getattr(found[0], one["score"]) if found else None
    if curve is None or np.isnan(curve.score).all():
        return Result(UNKNOWN, f"{name} was not measured", threshold=threshold)
    best = int(np.nanargmax(curve.score))
    windows = not without_window(one["mode"], one["variant"])
    if upper and windows and report.probe is not None and len(curve.score) < report.probe.layer_count:
        return Result(UNKNOWN, f"{name} was measured in some windows only (--layers)", threshold=threshold)
    # "At most" is about every window, "at least" about the best one: each by the end that speaks against it.
    ends = curve.band_high if upper else curve.band_low[best : best + 1]
    if np.isnan(ends).any():
        return Result(UNKNOWN, f"{name} has no interval: more than one question is needed", threshold=threshold)
    worse = float(ends.max())
    words = (
        f"{name} is {curve.score[best]:.2f}, at worst {worse:.2f}; {'at most' if upper else 'at least'} {threshold:.2f}"
    )
    return _most(worse, threshold, words) if upper else _least(worse, threshold, words, FAILED)


def _target_bleu(report: Report, wanted: float) -> Iterator[Result]:
    yield from _worse_mean(report, "target", wanted, "the target answers' BLEU against the base's", loss=False)


def _unrelated_loss(report: Report, wanted: float) -> Iterator[Result]:
    yield from _worse_mean(report, "unrelated", wanted, "the unrelated answers lost BLEU by", loss=True)


def _worse_mean(report: Report, name: str, wanted: float, words: str, loss: bool) -> Iterator[Result]:
    found = next(iter(_sets(report, name)), None)
    if found is None or np.isnan(found.bleu.low):
        yield Result(UNKNOWN, f"the {name} answers were not compared, or on one question only", threshold=wanted)
        return
    value, worse = (1 - found.bleu.value, 1 - found.bleu.low) if loss else (found.bleu.value, found.bleu.high)
    yield _most(worse, wanted, f"{words} {value:.2f}, at worst {worse:.2f}; {wanted:.2f} is allowed")


def _choices_loss(report: Report, wanted: float) -> Iterator[Result]:
    found = None if report.behaviour is None else report.behaviour.choices
    if found is None or np.isnan(found.accuracy_unlearned.low):
        yield Result(UNKNOWN, "no multiple-choice questions were asked, or one only", threshold=wanted)
        return
    worse = found.accuracy_base.value - found.accuracy_unlearned.low
    yield _most(worse, wanted, f"multiple choice lost at worst {worse:.2f} of its accuracy; {wanted:.2f} is allowed")


def _neutral_kl(report: Report, wanted: float) -> Iterator[Result]:
    found: Mean | None = (
        None if report.behaviour is None or report.behaviour.neutral is None else report.behaviour.neutral.kl
    )
    if found is None or np.isnan(found.high):
        yield Result(UNKNOWN, "no neutral text was read, or one only", threshold=wanted)
        return
    yield _most(
        found.high, wanted, f"mean KL on neutral text is {found.value:.3g} nats a token, at worst {found.high:.3g}"
    )


def _drift(report: Report, wanted: dict[str, Any]) -> Iterator[Result]:
    found, limit = report.compare, wanted["relative_l2"]
    if found is None or not found.components:
        yield Result(UNKNOWN, "no weights were compared", threshold=limit)
        return
    others = [row for row in found.components if row.component not in wanted["components"]]
    values = [np.inf if np.isnan(row.drift.relative_l2) else row.drift.relative_l2 for row in others]
    worse = float(max(values, default=0.0))
    name = others[int(np.argmax(values))].component if others else ""
    words = f"{name} moved by {worse:.3g}" if worse > limit else "nothing moved further"
    where = f"beside {_and(wanted['components'])}" if wanted["components"] else "of all components"
    yield _most(worse, limit, f"{where}: {words} (relative L2, {limit:g} is allowed)")


def _config(report: Report, wanted: tuple[str, ...]) -> Iterator[Result]:
    if report.compare is None:
        yield Result(UNKNOWN, "the settings were not compared")
        return
    found = [
        f"{row.file}:{row.key}"
        for row in report.compare.config_changes
        if row.file not in wanted and f"{row.file}:{row.key}" not in wanted
    ]
    unknown = [row for row in report.compare.config_uncompared if row.file not in wanted]
    if unknown and not found:
        words = f"{len(unknown)} settings were not compared, the first {unknown[0].file} ({unknown[0].reason})"
        yield Result(UNKNOWN, words)
        return
    words = f"{len(found)} settings changed, the first {found[0]}" if found else "no other setting changed"
    yield _most(len(found), 0, words)


def _tensors(report: Report, wanted: bool) -> Iterator[Result]:
    found = report.compare
    if found is None or not found.tensors:
        yield Result(UNKNOWN, "no weights were compared")
        return
    names = [row.name for row in (*found.only_in_base, *found.only_in_unlearned)]
    names += [row.name for row in found.shape_mismatch]
    broken = [row.name for row in found.tensors if row.drift.nonfinite_unlearned]
    words = f"{len(names)} tensors are missing, new or of another shape, {len(broken)} are not finite"
    yield _most(len(names) + len(broken), 0, words)


def verdict_of(report: Report) -> Verdict:
    """The verdict of a report that has been judged."""
    assert report.verdict is not None
    return report.verdict


def _sets(report: Report, name: str) -> list[Any]:
    answers = () if report.behaviour is None else report.behaviour.answers
    return [one for one in answers if one.name == name and one.questions]


def _and(names: Iterable[str]) -> str:
    return ", ".join(names)


def _enough(there: bool, lacks: str, has: str) -> Result:
    return Result(PASSED, has) if there else Result(UNKNOWN, lacks)


def _least(value: float, wanted: float, text: str, otherwise: Outcome = UNKNOWN) -> Result:
    return Result(PASSED if value >= wanted else otherwise, text, float(value), float(wanted))


def _most(value: float, wanted: float, text: str, otherwise: Outcome = FAILED) -> Result:
    return Result(PASSED if value <= wanted else otherwise, text, float(value), float(wanted))


CHECKS: dict[str, Check] = {
    "require.sections": Check(kinds.sections, _sections, "parts that the report must hold: compare, probe, behaviour"),
    "require.questions": Check(kinds.count, _questions, "fewest target questions"),
    "require.unrelated": Check(kinds.count, _unrelated, "fewest unrelated questions"),
    "require.modes": Check(kinds.required_modes, _runs("mode"), 'modes that must have been probed, or "decisive"'),
    "require.variants": Check(kinds.variants, _runs("variant"), "variants that must have been probed"),
    "require.directions": Check(kinds.directions, _runs("direction"), "directions that must have been probed"),
    "require.coverage": Check(kinds.share, _coverage, "least share of the parameters that was compared"),
    "require.basis": Check(kinds.on, _basis, "both models must share neurons, so that states can be put in place"),
    "require.digests": Check(kinds.on, _digests, "both checkpoints must have digests"),
    "require.base_digest": Check(kinds.sha256, _base_digest, "the digest that the base must have"),
    "require.questions_digest": Check(kinds.sha256, _questions_digest, "the digest that the questions must have"),
    "require.widest_interval": Check(kinds.positive, _widest, "widest interval that the verdict may rest on"),
    "require.detectable": Check(kinds.share, _detectable, "largest share of changed answers that may go unseen"),
    "fail.labels": Check(kinds.labels, _labels, "verdicts that fail"),
    "fail.recovered": Check(kinds.number, _recovered, "most that the base's states may bring back (krs_kl, upper end)"),
    "fail.scores": Check(kinds.scores, _scores, "scores that must be at most, or at least, a number (worse end)"),
    "fail.target_bleu": Check(kinds.share, _target_bleu, "greatest BLEU of the target answers (upper end)"),
    "fail.unrelated_bleu_loss": Check(kinds.share, _unrelated_loss, "greatest loss of unrelated BLEU (worse end)"),
    "fail.choices_loss": Check(kinds.share, _choices_loss, "greatest loss of multiple-choice accuracy (worse end)"),
    "fail.neutral_kl": Check(kinds.positive, _neutral_kl, "greatest mean KL on neutral text, nats a token (upper end)"),
    "fail.drift": Check(kinds.drift, _drift, "components that may move, and how far the others may (relative L2)"),
    "fail.config_changes_except": Check(kinds.names, _config, "settings that may change: file, or file:key"),
    "fail.unexpected_tensors": Check(kinds.on, _tensors, "tensors missing, new, of another shape, or not finite"),
}
"""By the policy's key."""
