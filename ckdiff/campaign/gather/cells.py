"""One report as a row of a campaign: `piece(pair, concept, report)`; everything else of it can then be forgotten."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ckdiff.report.schema.behaviour import Mean
from ckdiff.report.schema.campaign import MEASURES, Cell
from ckdiff.report.words.verdict import layers_text
from ckdiff.scoring.means import mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ckdiff.report.schema.behaviour import AnswerSet, Behaviour
    from ckdiff.report.schema.comparison import Drift
    from ckdiff.report.schema.probe import Probe, ProbeRun
    from ckdiff.report.schema.report import Report
    from ckdiff.report.schema.verdict import Verdict


NOTHING = Mean(math.nan, math.nan, math.nan)


@dataclass(frozen=True, slots=True)
class Piece:
    """The part of a report that a campaign keeps, of one pair and one concept.

    Attributes:
        measures: by name, those of `MEASURES`, with intervals over questions.
        drift: by component.
        runs: without their losses.
        settings: by part of the report ("behaviour", "probe") and name.
        probed, answered: digests of the questions; "" where there were none.
        failed_controls: how many controls of the probe did not hold.
    """

    pair: str
    concept: str
    cell: Cell
    measures: Mapping[str, Mean]
    drift: Mapping[str, Drift]
    runs: tuple[ProbeRun, ...]
    model_type: str
    settings: Mapping[tuple[str, str], str]
    probed: str
    answered: str
    failed_controls: int


def piece(pair: str, concept: str, report: Report) -> Piece:
    """The part that a campaign keeps of a report with a verdict."""
    compare, probe, said = report.compare, report.probe, report.behaviour
    target = _answers(said, "target")
    return Piece(
        pair,
        concept,
        _cell(pair, concept, report),
        measures(report),
        {} if compare is None else {row.component: row.drift for row in compare.components},
        () if probe is None else tuple(map(_light, probe.runs)),
        next((part.model_type for part in (compare, probe, said) if part is not None and part.model_type), ""),
        {
            (part, key): value
            for part, found in (("behaviour", said), ("probe", probe))
            if found is not None
            for key, value in found.settings.items()
        },
        "" if probe is None else probe.settings.get("questions_digest", ""),
        "" if target is None else target.digest,
        0 if probe is None else sum(not control.passed for control in probe.controls),
    )


def measures(report: Report) -> dict[str, Mean]:
    """Each of `MEASURES`, with its 95 % interval over questions; NaN where it was not measured."""
    found = {**_behaviour_means(report.behaviour), **_probe_means(report.probe), **_verdict_means(report.verdict)}
    return {name: found.get(name, NOTHING) for name in MEASURES}


def _cell(pair: str, concept: str, report: Report) -> Cell:
    verdict = report.verdict
    assert verdict is not None
    gate = verdict.gate
    missed = [] if gate is None else [check for check in gate.checks if check.outcome != "passed"]
    return Cell(
        pair,
        concept,
        verdict.label,
        verdict.reason,
        verdict.component,
        layers_text(verdict.layers).partition(" ")[2],
        "" if gate is None else gate.outcome,
        "; ".join(f"{check.name}: {check.text}" for check in missed),
        _questions(report),
    )


def _questions(report: Report) -> int:
    if report.probe is not None:
        return len(report.probe.questions)
    target = _answers(report.behaviour, "target")
    return 0 if target is None else len(target.questions)


def _answers(said: Behaviour | None, name: str) -> AnswerSet | None:
    answers = () if said is None else said.answers
    return next((one for one in answers if one.name == name), None)


def _behaviour_means(said: Behaviour | None) -> dict[str, Mean]:
    found: dict[str, Mean] = {}
    for name in ("target", "unrelated"):
        answers = _answers(said, name)
        if answers is not None:
            found |= {f"{name}_bleu": answers.bleu, f"{name}_exact": answers.exact}
    if said is not None and said.choices is not None:
        found["choice_accuracy_base"] = said.choices.accuracy_base
        found["choice_accuracy_unlearned"] = said.choices.accuracy_unlearned
    if said is not None and said.neutral is not None:
        found["neutral_kl"] = said.neutral.kl
    return found


def _probe_means(probe: Probe | None) -> dict[str, Mean]:
    if probe is None:
        return {}
    whole = probe.loss_unlearned
    kl = _over_questions(whole.kl, [question.kl for question in probe.questions], math.inf)
    return {"loss_kl": kl, "top1": _over_questions(whole.top1, [question.top1 for question in probe.questions], 1.0)}


def _over_questions(value: float, values: list[float], most: float) -> Mean:
    """A figure of a report, with the interval that its questions give it."""
    if not values or not np.isfinite(values).all():
        return Mean(value, math.nan, math.nan)
    # KL in float32 may come out a little below nothing.
    found = mean(np.maximum(np.array(values, dtype=np.float64), 0.0), 0.0, most)
    return Mean(value, found.low, found.high)


def _verdict_means(verdict: Verdict | None) -> dict[str, Mean]:
    if verdict is None:
        return {}
    return {"explained": Mean(verdict.explained, verdict.explained_low, verdict.explained_high)}


def _light(run: ProbeRun) -> ProbeRun:
    nothing = np.zeros((0, 0))
    return replace(run, loss_mse=nothing, loss_mse_centred=nothing, loss_kl=nothing, top1_questions=nothing)
