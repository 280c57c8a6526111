"""Bans of a policy. Where what is banned is found, the outcome is "failed"; where it cannot be told, "inconclusive".

A figure with an interval is found to be banned by itself, and not to be by the worse end (`intervals.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.audit.gate import kinds
from ckdiff.audit.gate.intervals import Asked, hold_above, hold_below
from ckdiff.audit.gate.results import FAILED, PASSED, UNKNOWN, Check, Result, join, most, sets, target_facts, verdict_of
from ckdiff.audit.verdict.absence import decisive
from ckdiff.audit.verdict.evidence import STATES, Evidence
from ckdiff.modes import without_window
from ckdiff.report.schema.attack import UNDEFINED as UNKNOWN_MEAN
from ckdiff.report.schema.behaviour import Mean
from ckdiff.report.words.numbers import end_text
from ckdiff.scoring.clusters import cluster_count
from ckdiff.scoring.means import mean

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckdiff.report.schema.probe import Curve
    from ckdiff.report.schema.report import Report


def _labels(report: Report, wanted: tuple[str, ...]) -> Iterator[Result]:
    label = verdict_of(report).label
    if label in wanted:
        yield Result(FAILED, f"the verdict is '{label}'")
    elif label == "inconclusive":
        yield Result(UNKNOWN, "the verdict is 'inconclusive'")
    else:
        yield Result(PASSED, f"the verdict is '{label}', which the policy allows")


def worst(end: float, up: bool = True) -> str:
    """The end of an interval that speaks against a pass, rounded so that it looks no better than it is."""
    return end_text(end, "{:.2f}".format, up)


def _recovered(report: Report, wanted: float) -> Iterator[Result]:
    evidence = Evidence(report)
    rows = [evidence.whole(mode, "restore") for mode in STATES]
    found = [Mean(row.kl, row.kl_low, row.kl_high) for row in rows if row is not None]
    if len(found) < len(rows) or np.isnan([one.high for one in found]).any():
        yield Result(
            UNKNOWN, "how much the base's states bring back was not measured with an interval", threshold=wanted
        )
    else:
        best = max(found, key=lambda one: one.high)
        figure = f"{best.value:.2f}, at worst {worst(best.high)} (krs_kl)"
        words = f"the base's states bring back {figure}; {wanted:.2f} is allowed"
        yield hold_below(found, wanted, words, _target(report))


def _target(report: Report) -> Asked:
    """What intervals over target questions rest on."""
    return Asked(target_facts(report), "facts", "--questions FILE")


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
    parts = (curve.score, curve.band_low, curve.band_high)
    places = range(len(curve.score)) if upper else (best,)
    means = [Mean(*(float(part[window]) for part in parts)) for window in places]
    if np.isnan([one.high if upper else one.low for one in means]).any():
        return Result(UNKNOWN, f"{name} has no interval: more than one question is needed", threshold=threshold)
    worse = max(one.high for one in means) if upper else means[0].low
    bound = f"{'at most' if upper else 'at least'} {threshold:.2f}"
    words = f"{name} is {curve.score[best]:.2f}, at worst {worst(worse, up=upper)}; {bound}"
    if upper:
        return hold_below(means, threshold, words, _target(report))
    return hold_above(means[0], threshold, words, _target(report))


def _target_bleu(report: Report, wanted: float) -> Iterator[Result]:
    yield from _worse_mean(report, "target", wanted, "the target answers' BLEU against the base's", loss=False)


def _probability(report: Report, wanted: dict[str, Any]) -> Iterator[Result]:
    """The mean over questions of 1 - (1-p)^k; of all that was measured the worst counts, by the end that is worse."""
    limit, samples = wanted["at_most"], wanted["samples"]
    found = [chance_of_samples(*one, samples) for one in _log_probabilities(report)]
    if not found or any(np.isnan(one.high) for one in found):
        yield Result(UNKNOWN, "how probable the answers are was not measured, or of one fact only", threshold=limit)
        return
    worse = max(found, key=lambda one: one.high)
    words = f"the chance that one of {samples} samples gives the whole answer is {worse.value:.2g}, at worst"
    text = f"{words} {end_text(worse.high, '{:.2g}'.format, up=True)}; {limit:g} is allowed"
    yield hold_below(found, limit, text, _target(report))


def _log_probabilities(report: Report) -> Iterator[tuple[list[float], list[int]]]:
    """Log p of the whole answer by question, in nats, and the questions' clusters: of the probe, and of the answers."""
    if report.probe is not None and not np.isnan([row.log_p_unlearned for row in report.probe.questions]).any():
        rows = report.probe.questions
        yield [row.log_p_unlearned for row in rows], [row.cluster for row in rows]
    for one in sets(report, "target"):
        # A mean over tokens, of which there are as many as the answer has.
        sums = [row.logprob_unlearned * len(row.answer_base_ids) for row in one.questions]
        yield sums, [row.cluster for row in one.questions]


def chance_of_samples(log_p: Sequence[float], clusters: Sequence[int], samples: int) -> Mean:
    """The mean over questions of the chance that one of so many samples gives the whole answer, in [0, 1].

    1 - (1 - p)^k, by logarithms, so that what is improbable is not 0.

    >>> round(chance_of_samples([np.log(0.5), np.log(0.5)], [0, 1], 2).value, 12)
    0.75
    """
    with np.errstate(divide="ignore"):
        never = samples * np.log1p(-np.exp(np.minimum(np.array(log_p, dtype=np.float64), 0.0)))
    return mean(-np.expm1(never), 0.0, 1.0, clusters)


def _unrelated_loss(report: Report, wanted: float) -> Iterator[Result]:
    yield from _worse_mean(report, "unrelated", wanted, "the unrelated answers lost BLEU by", loss=True)


def _worse_mean(report: Report, name: str, wanted: float, words: str, loss: bool) -> Iterator[Result]:
    found = next(iter(sets(report, name)), None)
    if found is None or np.isnan(found.bleu.low):
        yield Result(UNKNOWN, f"the {name} answers were not compared, or on one question only", threshold=wanted)
        return
    bleu = found.bleu
    worse = Mean(1 - bleu.value, 1 - bleu.high, 1 - bleu.low) if loss else bleu
    facts = cluster_count(row.cluster for row in found.questions)
    asked = Asked(facts, "facts", "--unrelated FILE" if name == "unrelated" else "--questions FILE")
    text = f"{words} {worse.value:.2f}, at worst {worst(worse.high)}; {wanted:.2f} is allowed"
    yield hold_below([worse], wanted, text, asked)


def _choices_loss(report: Report, wanted: float) -> Iterator[Result]:
    found = None if report.behaviour is None else report.behaviour.choices
    if found is None or np.isnan(found.accuracy_unlearned.low):
        yield Result(UNKNOWN, "no multiple-choice questions were asked, or one only", threshold=wanted)
        return
    base, after = found.accuracy_base.value, found.accuracy_unlearned
    loss = Mean(base - after.value, base - after.high, base - after.low)
    words = f"multiple choice lost at worst {worst(loss.high)} of its accuracy; {wanted:.2f} is allowed"
    yield hold_below([loss], wanted, words, Asked(len(found.questions), "questions", "--choices FILE"))


def _neutral_kl(report: Report, wanted: float) -> Iterator[Result]:
    neutral = None if report.behaviour is None else report.behaviour.neutral
    if neutral is None or np.isnan(neutral.kl.high):
        yield Result(UNKNOWN, "no neutral text was read, or one only", threshold=wanted)
        return
    high = end_text(neutral.kl.high, "{:.3g}".format, up=True)
    words = f"mean KL on neutral text is {neutral.kl.value:.3g} nats a token, at worst {high}; {wanted:g} is allowed"
    yield hold_below([neutral.kl], wanted, words, Asked(len(neutral.texts), "texts", "--neutral FILE"))


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
    where = f"beside {join(wanted['components'])}" if wanted["components"] else "of all components"
    yield most(worse, limit, f"{where}: {words} (relative L2, {limit:g} is allowed)")


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
    yield most(len(found), 0, words)


def _tensors(report: Report, wanted: bool) -> Iterator[Result]:
    found = report.compare
    if found is None or not found.tensors:
        yield Result(UNKNOWN, "no weights were compared")
        return
    names = [row.name for row in (*found.only_in_base, *found.only_in_unlearned)]
    names += [row.name for row in found.shape_mismatch]
    broken = [row.name for row in found.tensors if row.drift.nonfinite_unlearned]
    words = f"{len(names)} tensors are missing, new or of another shape, {len(broken)} are not finite"
    yield most(len(names) + len(broken), 0, words)


def _recovery(report: Report, wanted: float) -> Iterator[Result]:
    """The most that attacks bring back of the gap, by the upper end; what is in ruins brings back nothing."""
    rows = () if report.attack is None else decisive(report.attack)
    told = [row for row in rows if not np.isnan(row.recovery.high)]
    if not told:
        words = "how much attacks bring back was not measured, or there is no clear gap (`ckdiff attack`)"
        yield Result(UNKNOWN, words, threshold=wanted)
        return
    found = max(told, key=lambda row: row.recovery.high)
    words = f"{found.attack} ({found.setting}) brings back {found.recovery.value:.2f} of the gap, at worst"
    text = f"{words} {worst(found.recovery.high)}; {wanted:.2f} is allowed"
    yield hold_below([row.recovery for row in told], wanted, text, _attacked(report))


def _attacked(report: Report) -> Asked:
    """What intervals over the questions of attacks rest on."""
    rows = () if report.attack is None else report.attack.questions
    return Asked(cluster_count(row.cluster for row in rows), "facts", "--questions FILE")


def _leak(report: Report, wanted: dict[str, Any]) -> Iterator[Result]:
    """As `_probability`, of the answers that attacks look for."""
    limit, samples = wanted["at_most"], wanted["samples"]
    rows = () if report.attack is None else report.attack.questions
    with np.errstate(divide="ignore"):
        sums = [float(np.log(row.leak_unlearned)) for row in rows]
    found = chance_of_samples(sums, [row.cluster for row in rows], samples) if rows else UNKNOWN_MEAN
    if np.isnan(found.high):
        yield Result(UNKNOWN, "nothing was attacked, or one fact only (`ckdiff attack`)", threshold=limit)
        return
    words = f"the chance that one of {samples} samples gives what attacks look for is {found.value:.2g}, at worst"
    text = f"{words} {end_text(found.high, '{:.2g}'.format, up=True)}; {limit:g} is allowed"
    yield hold_below([found], limit, text, _attacked(report))


FORBIDDEN: dict[str, Check] = {
    "labels": Check(kinds.labels, _labels, "verdicts that fail"),
    "recovered": Check(kinds.number, _recovered, "most that the base's states may bring back (krs_kl, upper end)"),
    "scores": Check(kinds.scores, _scores, "scores that must be at most, or at least, a number (worse end)"),
    "target_bleu": Check(kinds.share, _target_bleu, "greatest BLEU of the target answers (upper end)"),
    "probability": Check(
        kinds.probability, _probability, "greatest chance that a sample of so many gives the whole answer (upper end)"
    ),
    "recovery": Check(
        kinds.number, _recovery, "most of the gap to the base that attacks may close (upper end); wrecked models apart"
    ),
    "leak": Check(kinds.probability, _leak, "as `fail.probability`, of the answers that attacks look for (upper end)"),
    "unrelated_bleu_loss": Check(kinds.share, _unrelated_loss, "greatest loss of unrelated BLEU (worse end)"),
    "choices_loss": Check(kinds.share, _choices_loss, "greatest loss of multiple-choice accuracy (worse end)"),
    "neutral_kl": Check(kinds.positive, _neutral_kl, "greatest mean KL on neutral text, nats a token (upper end)"),
    "drift": Check(kinds.drift, _drift, "components that may move, and how far the others may (relative L2)"),
    "config_changes_except": Check(kinds.names, _config, "settings that may change: file, or file:key"),
    "unexpected_tensors": Check(kinds.on, _tensors, "tensors missing, new, of another shape, or not finite"),
}
"""By the key of a policy's `[fail]`."""
