"""Sample campaigns: `campaign()` has everything in it, `empty_campaign()` nothing, `hostile_campaign()` the worst."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.report.schema.campaign import (
    ALL,
    MEASURES,
    AverageRun,
    Campaign,
    CampaignRun,
    Cell,
    CellMeasure,
    GroupMean,
    JobRecord,
    PairDrift,
    PairRecord,
)
from tests.reports import HOSTILE, bump, curve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.report.schema.campaign import JobState

NAN = math.nan
PAIRS = ("gd-1", "gd-2", "npo-1", "npo-2")
CONCEPTS = ("Harry Potter", "Star Wars", "Ωmega")
PLAN = 'name = "wizards"\n# what the paper asks, and more\n[[pairs]]\nname = "gd-1"\n'
LAYERS, WIDE = 6, 9
"""Layers of the models of the first three pairs, and of the fourth."""


def pair(name: str, group: str = "", **changes: Any) -> PairRecord:
    found = PairRecord(name, group, True, "llama", "/models/base", f"/models/{name}", "ab" * 32, "cd" * 32)
    return dataclasses.replace(found, **changes)


def job(name: str, concept: str, run: str, state: JobState = "done", reason: str = "", **changes: Any) -> JobRecord:
    found = JobRecord(name, concept, run, True, state, reason, "12" * 32, "34" * 32 if state == "done" else "")
    return dataclasses.replace(found, **changes)


def cell(name: str, concept: str, gate: str = "passed", **changes: Any) -> Cell:
    found = Cell(
        name,
        concept,
        "suppressed",
        "coefficients of layers 2-3 bring back 0.93 of the effect",
        "coefficients",
        "2-3",
        gate,
        "" if gate in ("passed", "") else "fail.labels: the label is suppressed; require.questions: 3 of 10",
        10,
    )
    return dataclasses.replace(found, **changes)


def unmeasured(name: str, concept: str, gate: str = "inconclusive") -> Cell:
    return Cell(name, concept, "", "", "", "", gate, "measured: nothing was measured", 0)


def measure(name: str, values: Any, half: float = 0.05) -> CellMeasure:
    value = np.asarray(values, dtype="f8")
    return CellMeasure(name, value, value - half, value + half)


def measures(pairs: int, concepts: int) -> tuple[CellMeasure, ...]:
    """All of them, from 0.1 upwards, with the last place, and that of the failed job, not measured."""
    found = []
    for number, name in enumerate(MEASURES):
        values = 0.1 + 0.01 * np.arange(pairs * concepts, dtype="f8").reshape(pairs, concepts) + 0.02 * number
        values[-1, -1] = values[1:2, 2:3] = NAN
        found.append(measure(name, values))
    return tuple(found)


def run(
    mode: str = "coeff", variant: str = "open", direction: str = "restore", layers: int = WIDE, height: float = 0.8
) -> CampaignRun:
    """A sweep of all pairs; those of few layers lack the last windows, and one cell lacks all of them."""
    rows: Any = np.full((len(PAIRS), len(CONCEPTS), layers), NAN)
    for place in range(len(PAIRS)):
        own = min(layers, WIDE if place == 3 else LAYERS)
        for other in range(len(CONCEPTS)):
            rows[place, other, :own] = bump(own, 2 + other % 2, height - 0.05 * place - 0.02 * other)
    rows[1, 2] = NAN
    axis = np.arange(layers, dtype="i8") if layers > 1 else np.array([-1], dtype="i8")
    raw, centred, kl = (curve(scores) for scores in (rows * 1.1, rows * 0.9, rows))
    return CampaignRun(direction, mode, variant, 5, axis, raw, centred, kl, rows / 2)


def average(
    group: str = ALL,
    mode: str = "coeff",
    variant: str = "open",
    direction: str = "restore",
    kl: Sequence[float] = (),
    **changes: Any,
) -> AverageRun:
    """An average that is best at layer 2 by krs_kl, and at the last layer by the raw krs."""
    scores = list(kl) or bump(LAYERS, 2, 0.8)
    count = len(scores)
    axis = np.arange(count, dtype="i8") if count > 1 else np.array([-1], dtype="i8")
    top1 = np.array(scores) / 2 + 0.1
    found = AverageRun(
        group,
        direction,
        mode,
        variant,
        5,
        4,
        3,
        axis,
        curve(bump(count, count - 1, 0.95)),
        curve([0.9 * score for score in scores]),
        curve(scores),
        top1,
        top1 - 0.1,
        top1 + 0.1,
        0.15,
    )
    return dataclasses.replace(found, **changes)


def averages() -> tuple[AverageRun, ...]:
    """Of two groups and of all; the second group has more layers, so that one sweep has no average over all."""
    return (
        average("gd", pairs=2),
        average("gd", "attn+coeff", "isolated", pairs=2, kl=bump(LAYERS, 3, 0.95)),
        average("gd", "coeff", "whole", pairs=2, kl=[0.97]),
        average("gd", "coeff", "open", "break", pairs=2, kl=bump(LAYERS, 4, 0.4)),
        average("npo", pairs=2, concepts=2, kl=bump(WIDE, 7, 0.05)),
        average("npo", "values", "open", pairs=2, krs_kl=curve([NAN] * LAYERS), krs_centred=curve([NAN] * LAYERS)),
        average(ALL, "coeff", "whole", kl=[0.9]),
    )


def means() -> tuple[GroupMean, ...]:
    return (
        GroupMean("gd", "target_bleu", 2, 3, 0.12, 0.05, 0.19),
        GroupMean("gd", "neutral_kl", 2, 3, 0.0046, 0.001, 0.0082),
        GroupMean("npo", "target_bleu", 2, 1, 0.2, NAN, NAN),
        GroupMean(ALL, "explained", 4, 3, 0.93, 0.81, 1.0),
    )


def drift() -> PairDrift:
    values = np.linspace(1e-9, 1e-3, 2 * len(PAIRS)).reshape(len(PAIRS), 2)
    values[3] = NAN
    return PairDrift(("keys", "value_vectors"), 1 - values, values, np.sqrt(2 * values), np.full((len(PAIRS), 2), 0.5))


def jobs() -> tuple[JobRecord, ...]:
    found = [job(name, "", "compare") for name in PAIRS]
    found += [job(name, concept, run) for name in PAIRS for concept in CONCEPTS for run in ("probe", "behave")]
    lost: dict[tuple[str, str, str], tuple[JobState, str]] = {
        ("gd-2", "Ωmega", "probe"): ("failed", "out of memory: 40 GB are needed, 32 GB are there"),
        ("gd-2", "Ωmega", "behave"): ("missing", "not run"),
        ("npo-2", "Star Wars", "probe"): ("inconclusive", "nothing to recover: the two models say the same"),
    }
    return tuple(
        dataclasses.replace(one, state=lost[key][0], reason=lost[key][1], sha256="", required=one.pair != "npo-2")
        if (key := (one.pair, one.concept, one.run)) in lost
        else one
        for one in found
    )


def cells() -> tuple[Cell, ...]:
    """All places but one, the second pair's in another order than that of the axis."""
    found = [cell(name, concept) for name in ("gd-1", "npo-1") for concept in CONCEPTS]
    found[3:3] = [unmeasured("gd-2", "Ωmega"), cell("gd-2", "Harry Potter", "failed"), cell("gd-2", "Star Wars")]
    found.append(cell("npo-2", "Harry Potter", "", component="", layers="", label="no effect on these questions"))
    found.append(cell("npo-2", "Star Wars", "inconclusive"))
    return tuple(found)


def campaign(**changes: Any) -> Campaign:
    """Two groups of two pairs, three concepts, five sweeps; a failed gate, a failed job and a missing one."""
    found = Campaign(
        name="wizards",
        plan=PLAN,
        pairs=(
            pair("gd-1", "gd"),
            pair("gd-2", "gd"),
            pair("npo-1", "npo", model_type="gpt2"),
            pair("npo-2", "npo", required=False, unlearned_digest=""),
        ),
        concepts=CONCEPTS,
        jobs=jobs(),
        cells=cells(),
        drift=drift(),
        measures=measures(len(PAIRS), len(CONCEPTS)),
        runs=(
            run(),
            run("attn+coeff", "isolated", height=0.95),
            run("coeff", "whole", layers=1),
            run("attn-weights", "open", "break", layers=LAYERS, height=0.3),
            run("values", height=0.1),
        ),
        averages=averages(),
        means=means(),
        outcome="failed",
        complete=False,
        notes=("Concepts are the sampling unit, not questions.", ""),
        versions={"ckdiff": "0.2", "numpy": "2.1, 2.2"},
    )
    return dataclasses.replace(found, **changes)


def passed_campaign() -> Campaign:
    """Everything measured, everything passed."""
    done = tuple(dataclasses.replace(one, state="done", reason="", sha256="56" * 32) for one in jobs())
    own = tuple(cell(name, concept) for name in PAIRS for concept in CONCEPTS)
    return campaign(jobs=done, cells=own, outcome="passed", complete=True)


def compared_campaign() -> Campaign:
    """Pairs that were compared and nothing else: one concept without a name, no policy, no probe."""
    own = tuple(pair(name) for name in PAIRS[:2])
    label = {"label": "inconclusive", "verdict": "nothing was probed", "component": "", "layers": "", "questions": 0}
    nothing = np.full((2, 1), NAN)
    return campaign(
        pairs=own,
        concepts=("",),
        jobs=tuple(job(one.name, "", "compare") for one in own),
        cells=tuple(cell(one.name, "", "", **label) for one in own),
        drift=PairDrift(("keys",), *(np.full((2, 1), value) for value in (1.0, 0.0, 0.0, 0.0))),
        measures=tuple(CellMeasure(name, nothing, nothing, nothing) for name in MEASURES),
        runs=(),
        averages=(),
        means=(),
        outcome="",
        complete=True,
    )


def empty_campaign() -> Campaign:
    """A plan of nothing."""
    return Campaign("", "", (), (), (), (), (), None, (), (), (), "", True, ())


def hostile_campaign() -> Campaign:
    """Every free string of a campaign as an enemy would write it, but for names that are groups of the file."""
    shape = len(HOSTILE), len(HOSTILE)
    value = np.linspace(0, 1, len(HOSTILE) ** 2).reshape(shape)
    first, last = HOSTILE[0], HOSTILE[4]
    return Campaign(
        name=first,
        plan="\n".join(HOSTILE),
        pairs=tuple(PairRecord(name, name, True, name, name, name, name, name) for name in HOSTILE),
        concepts=HOSTILE,
        jobs=tuple(JobRecord(name, name, name, True, "failed", name, name, name) for name in HOSTILE),
        cells=tuple(
            Cell(name, concept, "mixed", name, name, concept, ("failed", "passed", "")[number % 3], name, 3)
            for number, name in enumerate(HOSTILE)
            for concept in HOSTILE
        ),
        drift=PairDrift(HOSTILE, value, value, value, value),
        measures=(measure("target_bleu", value), measure("explained", value)),
        runs=(),
        averages=tuple(average(name) for name in HOSTILE),
        means=tuple(GroupMean(name, name, 1, 2, 0.5, 0.4, 0.6) for name in HOSTILE),
        outcome="failed",
        complete=False,
        notes=HOSTILE,
        versions={"ckdiff": first, last: last},
    )


CAMPAIGNS = {
    "full": campaign(),
    "passed": passed_campaign(),
    "compared": compared_campaign(),
    "empty": empty_campaign(),
    "no drift": campaign(drift=None, measures=measures(len(PAIRS), len(CONCEPTS))[:2]),
}
"""Those that come back from a file as they were."""
