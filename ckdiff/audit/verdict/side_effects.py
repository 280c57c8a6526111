"""Sentences about side effects, and about what was not measured."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.audit.verdict.evidence import COUNTED, Evidence
from ckdiff.report.words.numbers import with_interval
from ckdiff.untrusted import printable, shorten

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckdiff.report.schema.behaviour import Behaviour, Mean
    from ckdiff.report.schema.comparison import Comparison
    from ckdiff.report.schema.probe import Probe
    from ckdiff.report.schema.report import Report
    from ckdiff.report.schema.verdict import Label


SWAPPED = "were the two checkpoints swapped?"
"""How the note ends that an audit makes of a base that says itself that it was unlearned."""


GENERATING = ("generation_config.json", "chat_template")
"""Files whose settings decide what is generated."""


MOST_SETTINGS = 10


SMALL_RATIO = 1.02
"""Perplexity of neutral text that grows by less is not worth a word of its own."""


def side_effects(report: Report) -> Iterator[str]:
    """Side effects: settings that decide what is generated, unrelated answers, multiple choice, neutral text."""
    yield from _settings(report.compare)
    found = report.behaviour
    if found is None:
        return
    for one in found.answers:
        if one.name == "unrelated" and one.questions:
            same = sum(row.exact for row in one.questions)
            yield (
                f"unrelated questions: {same} of {len(one.questions)} answers as before, BLEU against the base's"
                f" {_mean(one.bleu)}"
            )
    if found.choices is not None:
        before, after = found.choices.accuracy_base, found.choices.accuracy_unlearned
        yield f"multiple choice: {before.value:.1%} right before, {_mean(after, percent=True)} after"
    if found.neutral is not None:
        base, unlearned = found.neutral.perplexity_base, found.neutral.perplexity_unlearned
        grown = "grew" if unlearned > SMALL_RATIO * base else "is about the same"
        yield (
            f"neutral text: mean KL {found.neutral.kl.value:.2g} nats a token, perplexity {grown}"
            f" ({base:.1f} before, {unlearned:.1f} after)"
        )


def _settings(found: Comparison | None) -> Iterator[str]:
    """The settings that change answers whatever the weights are, each by name."""
    rows = () if found is None else found.config_changes
    for row in [row for row in rows if row.file in GENERATING][:MOST_SETTINGS]:
        before, after = ("not there" if value is None else shorten(value, 60) for value in (row.base, row.unlearned))
        yield printable(f"a setting that decides what is generated changed: {row.file} {row.key}: {before} → {after}")


def unmeasured(report: Report, label: Label) -> Iterator[str]:
    """Things that a reader could think were measured and were not, each with the command that measures it."""
    yield from _of_weights(report.compare, report)
    if label == "identical":
        yield "no question was asked and nothing put back: what is the same cannot answer otherwise"
        return
    yield from _of_probe(report.probe, Evidence(report))
    yield from _of_behaviour(report.behaviour)


def _of_weights(found: Comparison | None, report: Report) -> Iterator[str]:
    if found is None:
        yield "the weights were not compared (`ckdiff compare`)"
    else:
        unmatched = len(found.only_in_base) + len(found.only_in_unlearned) + len(found.shape_mismatch)
        if unmatched:
            yield f"{unmatched} tensors are not in both checkpoints, or in two shapes, and were not compared"
        for row in found.config_uncompared:
            yield printable(f"settings were not compared: {row.file} ({row.reason})")
        if not found.known_architecture:
            yield "the architecture is not known: components were not told apart"
    sides = report.provenance.base, report.provenance.unlearned
    if any(side.digest is None for side in sides):
        yield "the weight files have no digests (--no-hash): this is not bound to any weights"


def _of_probe(found: Probe | None, evidence: Evidence) -> Iterator[str]:
    if found is None:
        yield "no states were put back (`ckdiff probe --mode all --variant open,whole --direction both`)"
        return
    for direction in ("restore", "break"):
        lacking = [mode for mode in COUNTED if not evidence.has(mode, direction)]
        if lacking:
            yield f"not measured in direction {direction}: --mode {','.join(lacking)}"
    whole = [run for run in found.runs if run.variant == "whole"]
    if not whole:
        yield "the whole model at once was not put back (--variant whole): an effect in many layers may look small"
    if found.settings.get("layers", "all") != "all":
        yield f"windows were centred on layers {found.settings['layers']} only"


def _of_behaviour(found: Behaviour | None) -> Iterator[str]:
    yield from (note for note in (() if found is None else found.notes) if note.endswith(SWAPPED))
    names = () if found is None else tuple(one.name for one in found.answers)
    if "target" not in names:
        yield "the answers about what was to be unlearned were not compared in words (`ckdiff behave --questions`)"
    if "unrelated" not in names:
        yield "no unrelated question was asked: side effects are not known (`ckdiff behave`)"
    if found is None or found.choices is None:
        yield "no multiple-choice question was asked: recognition may remain where answers are gone (--choices)"
    if found is None or found.neutral is None:
        yield "no neutral text was read (`ckdiff behave` without --no-neutral)"


def _mean(found: Mean, percent: bool = False) -> str:
    return with_interval(found.value, found.low, found.high, ("{:.1%}" if percent else "{:.2f}").format)
