"""Evidence for and against each mode: `Evidence(report)`, read once, asked often."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ckdiff.audit.verdict.rules import RULES
from ckdiff.modes import DIRECTIONS, EVERY_MODE, SUBSETS, WEIGHTS, of_role, subsets_of, without_window
from ckdiff.report.schema.verdict import Explanation
from ckdiff.scoring.bands import Band, joint_bands

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from ckdiff.report.schema.behaviour import AnswerSet
    from ckdiff.report.schema.comparison import Comparison, TensorDrift
    from ckdiff.report.schema.probe import Control, Probe, ProbeRun
    from ckdiff.report.schema.report import Report


WHOLE, OPEN = "whole", "open"


STATES = of_role("states")
"""Modes that put back states and leave all weights in place, the smallest first."""


COUNTED = of_role("weights", "states", "sum")
"""Modes whose scores count. The others are shown beside them and change no label: `gate`, say, is upstream of `coeff`,
which holds all that it can bring back."""


NEURONS = ("keys", "value_vectors")
"""Components in which a neuron can be recognised."""


CHOSEN = (*COUNTED, *SUBSETS)
"""Modes that a verdict may choose from: what it says of the best of them rests on one band over all of them."""


class Evidence:
    """The runs of a report by mode and direction, and what is known of its questions.

    Attributes:
        sought: modes whose windows were asked for, in that order, whether they were measured or not.
    """

    def __init__(self, report: Report) -> None:
        self.compare: Comparison | None = report.compare
        self._tensors = () if report.compare is None else aligned_tensors(report.compare)
        self.probe: Probe | None = report.probe
        runs = () if report.probe is None else report.probe.runs
        self._runs = {(run.mode, run.direction, run.variant): run for run in runs}
        answers = () if report.behaviour is None else report.behaviour.answers
        self.answers: dict[str, AnswerSet] = {one.name: one for one in answers}
        self._bands: dict[str, dict[int, Band]] = {}
        self.sought: dict[str, None] = {}

    # ------------------------------------------------------------------------------------------------- questions

    def agreement(self) -> list[float]:
        """For each question the share of the base's answer that the unlearned model would give, token by token.

        Of the probe's questions; where that was not measured, of the target answers, 1 or 0.
        """
        found = [] if self.probe is None else [question.top1 for question in self.probe.questions]
        return self.kept() if not found or np.isnan(found).any() else found

    def kept(self) -> list[float]:
        """For each target answer whether it is as before, 1 or 0."""
        target = self.answers.get("target")
        return [] if target is None else [float(question.exact) for question in target.questions]

    def other_answers_changed(self) -> bool:
        """Whether more than a few answers changed to target questions that the probe did not ask."""
        target = self.answers.get("target")
        if target is None or self.probe is None or target.digest == self.probe.settings.get("questions_digest"):
            return False
        return not RULES["agreement"].holds(float(np.mean(self.kept() or [1.0])))

    def divergence(self) -> float:
        """Mean KL(base || unlearned) a token of the answers, in nats; NaN where it was not measured."""
        return float("nan") if self.probe is None else self.probe.loss_unlearned.kl

    # ------------------------------------------------------------------------------------------------------ scores

    def whole(self, mode: str, direction: str) -> Explanation | None:
        """The share that a mode brings back in the whole model; where that was not measured, in its best window."""
        run = self._whole_run(mode, direction)
        return self.best(mode, direction) if run is None else self.at(run, 0)

    def complete(self, mode: str, direction: str) -> bool:
        """Whether a mode was measured in the whole model at once: only then can it be said to bring nothing."""
        return self._whole_run(mode, direction) is not None

    def _whole_run(self, mode: str, direction: str) -> ProbeRun | None:
        names = (OPEN, WHOLE) if EVERY_MODE[mode].ancillary else (WHOLE,)
        found = (self._runs.get((mode, direction, name)) for name in names)
        return next((run for run in found if run is not None and not np.isnan(run.krs_kl.score[:1]).all()), None)

    def best(self, mode: str, direction: str) -> Explanation | None:
        """The share that a mode brings back in its best window of the open variant, or None."""
        run = self._runs.get((mode, direction, OPEN))
        if run is None or np.isnan(run.krs_kl.score).all():
            return None
        return self.at(run, int(np.nanargmax(run.krs_kl.score)))

    def windows(self, mode: str, direction: str) -> list[Explanation]:
        """Every window of the open variant; empty where there are none."""
        self.sought[mode] = None
        run = self._runs.get((mode, direction, OPEN))
        return (
            []
            if run is None or EVERY_MODE[mode].ancillary
            else [self.at(run, index) for index in range(len(run.layers))]
        )

    def rows(self, subsets: bool) -> Iterator[Explanation]:
        """Rows to show: of each run of the open and whole variants its best window.

        Args:
            subsets: with several kinds of weights together.
        """
        for (mode, _, variant), run in self._runs.items():
            # The ancillary parameters are those of the whole model in either variant.
            shown = variant == OPEN or (variant == WHOLE and not without_window(mode, OPEN))
            shown &= subsets or mode not in SUBSETS
            if shown and not np.isnan(run.krs_kl.score).all():
                yield self.at(run, int(np.nanargmax(run.krs_kl.score)))

    def has(self, mode: str, direction: str) -> bool:
        """Whether a mode was measured in a direction, in the variants that a verdict reads."""
        return self.whole(mode, direction) is not None

    def wrong_prompt(self, found: Explanation) -> float:
        """krs_kl with another question's states over that with the right ones, near a window; NaN: not measured."""
        own = [
            control
            for control in (() if self.probe is None else self.probe.controls)
            if control.name == "wrong_prompt"
            and control.score == "krs_kl"
            and (control.mode, control.variant, control.direction) == (found.mode, found.variant, found.direction)
        ]
        if not own:
            return float("nan")
        middle = (found.first + found.last) / 2
        nearest = min(own, key=lambda control: abs(_layer(control, middle) - middle))
        return nearest.value / nearest.against if nearest.against > 0 else float("nan")

    def at(self, run: ProbeRun, index: int) -> Explanation:
        """One window of a run as the verdict reads it."""
        kl, centred, band = run.krs_kl, run.krs_centred, self._band(run)
        return Explanation(
            mode=run.mode,
            variant=run.variant,
            direction=run.direction,
            first=int(run.first[index]),
            last=int(run.last[index]),
            kl=float(kl.score[index]),
            kl_low=float(band.low[index]),
            kl_high=float(band.high[index]),
            centred=float(centred.score[index]),
            centred_low=float(centred.band_low[index]),
            centred_high=float(centred.band_high[index]),
            decisive=False,
            js=float(run.krs_js.score[index]),
            returned=self._returned(run, index),
        )

    def _band(self, run: ProbeRun) -> Band:
        """The band of krs_kl over all windows of all runs of its direction, nowhere narrower than the run's own."""
        own = Band(run.krs_kl.band_low, run.krs_kl.band_high)
        joint = self._joint(run.direction).get(id(run), own)
        return Band(np.minimum(own.low, joint.low), np.maximum(own.high, joint.high))

    def _joint(self, direction: str) -> dict[int, Band]:
        """That band by identity of the run; without runs whose losses do not belong to their windows."""
        if direction not in self._bands:
            runs = [] if self.probe is None else [run for run in self.probe.runs if self._is_chosen(run, direction)]
            bands = () if self.probe is None else joint_bands(self.probe, runs)
            self._bands[direction] = {id(run): band for run, band in zip(runs, bands, strict=True)}
        return self._bands[direction]

    def _is_chosen(self, run: ProbeRun, direction: str) -> bool:
        """Whether a verdict may choose a run of a direction, and whether it has losses."""
        if (run.direction, run.variant) not in ((direction, OPEN), (direction, WHOLE)) or run.mode not in CHOSEN:
            return False
        shape = len(run.krs_kl.score), len(self.probe.questions) if self.probe else 0
        return direction in DIRECTIONS and run.loss_kl.shape == shape and bool(np.isfinite(run.loss_kl).all())

    def _returned(self, run: ProbeRun, index: int) -> float:
        """The share of the lost answers that a window gives whole; broken: that the base no longer gives whole."""
        own = np.array([question.top1 for question in (self.probe.questions if self.probe else ())], dtype=np.float64)
        lost = own < 1
        if run.top1_questions.shape != (len(run.krs_kl.score), len(own)) or not lost.any() or np.isnan(own).any():
            return float("nan")
        whole = run.top1_questions[index][lost] >= 1
        return float(np.mean(whole if run.direction == "restore" else ~whole))

    # ------------------------------------------------------------------------------------------------------- drift

    def changed_layers(self, mode: str) -> set[int] | None:
        """Layers in which the weights of a mode differ; None where nothing is known of it."""
        components = EVERY_MODE[mode].components
        if self.compare is None or not components:
            return None
        rows = [row for row in self._tensors if row.component in components]
        return {row.layer for row in rows if row.layer is not None and not row.drift.identical} if rows else None

    def changed(self, mode: str) -> bool:
        """Whether any weight of a mode differs, or nothing is known of it."""
        components = EVERY_MODE[mode].components
        if self.compare is None or not components:
            return True
        rows = [row for row in self._tensors if row.component in components]
        alone = {row.component for row in (*self.compare.only_in_base, *self.compare.only_in_unlearned)}
        alone |= {row.component for row in self.compare.shape_mismatch}
        unknown = not rows or not alone.isdisjoint(components)
        return unknown or any(not row.drift.identical for row in rows)

    def kinds_changed(self) -> tuple[str, ...]:
        """The kinds of weights that differ, or of which nothing is known."""
        return tuple(mode for mode in WEIGHTS if self.changed(mode))

    def subsets(self) -> tuple[str, ...]:
        """Several of these kinds together and never all of them: what else may have been edited twice over."""
        return subsets_of(self.kinds_changed())

    def only_weights_of(self, kinds: Collection[str]) -> bool:
        """Whether the two models surely differ in these kinds of weights and in nothing else."""
        found = self.compare
        if found is None or not found.tensors:
            return False
        components = {component for kind in kinds for component in EVERY_MODE[kind].components}
        unmatched = found.only_in_base or found.only_in_unlearned or found.shape_mismatch
        settings = found.config_changes or found.config_uncompared
        moved = {row.component for row in self._tensors if not row.drift.identical}
        return not unmatched and not settings and moved <= components

    def ends_cosine(self) -> float:
        """The greatest cosine of embedding and unembedding, as they are or rotated; NaN: unknown."""
        if self.compare is None:
            return float("nan")
        rows = [row for row in self.compare.components if row.component in ("embedding", "unembedding")]
        return float(np.fmax.reduce([self.compare.ends_geometry, *(row.drift.cosine for row in rows)]))

    def cosine(self) -> float:
        """The least of `layer_cosines`; NaN: unknown."""
        return min(self.layer_cosines().values(), default=float("nan"))

    def layer_cosines(self) -> dict[int | None, float]:
        """By layer the greater cosine of its keys and of its value vectors, neurons in the base's order.

        Either tells which neuron is which; what is all zeros in one model, or not finite, says nothing.
        """
        found: dict[int | None, float] = {}
        for layer in dict.fromkeys(row.layer for row in self._tensors if row.component in NEURONS):
            own = [row for row in self._tensors if row.layer == layer]
            kinds = (cosine_of([row for row in own if row.component == kind]) for kind in NEURONS)
            known = [value for value in kinds if not np.isnan(value)]
            if known:
                found[layer] = max(known)
        return found


def aligned_tensors(found: Comparison) -> tuple[TensorDrift, ...]:
    """The drift of every tensor, neurons and heads in the base's order and scale where they stand in another."""
    aligned = {row.name: row for row in found.aligned}
    return tuple(aligned.get(row.name, row) for row in found.tensors)


def cosine_of(rows: Sequence[TensorDrift]) -> float:
    """The cosine of several tensors as one long vector; NaN where one has none."""
    drifts = [row.drift for row in rows]
    inner = sum(one.cosine * one.norm_base * one.norm_unlearned for one in drifts)
    lengths = [sum(getattr(one, name) ** 2 for one in drifts) for name in ("norm_base", "norm_unlearned")]
    whole = float(np.sqrt(lengths[0] * lengths[1]))
    return float(inner / whole) if whole > 0 else float("nan")


def marked(rows: Sequence[Explanation], decisive: Sequence[Explanation]) -> tuple[Explanation, ...]:
    """The rows, and what else the verdict rests on; those that it rests on are marked."""
    keys = {_key(row) for row in decisive}
    shown = [replace(row, decisive=_key(row) in keys) for row in rows]
    known = {_key(row) for row in rows}
    return (*shown, *(replace(row, decisive=True) for row in decisive if _key(row) not in known))


def _key(row: Explanation) -> tuple[str, str, str, int, int]:
    return row.mode, row.variant, row.direction, row.first, row.last


def _layer(control: Control, otherwise: float) -> float:
    return otherwise if control.layer is None else float(control.layer)
