"""Final states become a `Probe`: losses, scores with their intervals, controls."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

import numpy as np
import torch

from ckdiff.errors import CkdiffError, ExitStatus
from ckdiff.probes.losses import PositionLosses, Scorer
from ckdiff.probes.preparation import DTYPES, settings_record
from ckdiff.probes.sweep import SIDES, ends_of, host_of
from ckdiff.report.schema.probe import SCORES, Control, Probe, QuestionRecord
from ckdiff.scoring.runs import window_of
from ckdiff.scoring.scores import QuestionLosses, loss_summary, probe_run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any

    from torch import Tensor

    from ckdiff.probes.live.unembedding import Unembedding
    from ckdiff.probes.preparation import Job
    from ckdiff.report.schema.probe import ProbeRun
    from ckdiff.report.schema.report import Side
    from ckdiff.scoring.runs import Windows

NOISE = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 1e-3, torch.float16: 1e-3}
"""A difference of logits below this share of the logits' own size is rounding, not unlearning."""
SELF_PATCH = {torch.float64: 1e-4, torch.float32: 1e-4, torch.bfloat16: 0.25, torch.float16: 0.05}
"""The most that putting back a model's own states may change a logit."""
EVERYTHING = 0.9999
"""The least score of putting everything back."""


class NothingToRecoverError(CkdiffError):
    """On these questions the two models do not differ: no score is defined."""

    exit_status = ExitStatus.INCONCLUSIVE


class NotFiniteError(CkdiffError):
    """A model overflows, or makes NaN of finite weights: nothing was measured."""

    exit_status = ExitStatus.INCONCLUSIVE


@dataclass(frozen=True, slots=True)
class Finals:
    """The last states of a sweep.

    Attributes:
        heads: by side its unembedding.
        own: by side the input of its unembedding at the scored positions [position, d_model].
        runs: the same of every run, by its number.
    """

    heads: Mapping[Side, Unembedding]
    own: Mapping[Side, Tensor]
    runs: Mapping[int, Tensor]


class ByQuestion:
    """Losses at positions become losses of questions: the mean over a question's positions."""

    def __init__(self, counts: Sequence[int]) -> None:
        self.counts = list(counts)

    def __call__(self, values: Tensor) -> Any:
        """One kind of loss [position] -> [question]."""
        return np.array([float(part.mean()) for part in values.split(self.counts)])

    def losses(self, runs: Sequence[PositionLosses]) -> QuestionLosses:
        """Losses [run, question]."""
        names = [one.name for one in fields(QuestionLosses)]
        return QuestionLosses(*(np.stack([self(getattr(run, name)) for run in runs]) for name in names))


OWN = -1
"""In the place of a run's number: the unlearned model's own run."""


@dataclass(slots=True)
class Known:
    """What was scored of earlier rounds, and is not scored again.

    Attributes:
        losses: by number of the run, and of `OWN`.
        runs: by direction, mode and variant.
    """

    losses: dict[int, PositionLosses] = field(default_factory=dict)
    runs: dict[tuple[str, str, str], ProbeRun] = field(default_factory=dict)


def assemble(job: Job, finals: Finals, known: Known | None = None) -> Probe:
    """Score every run and every control of a job.

    Args:
        job: whose rounds have been swept, all or some of them.
        finals: what they ended in.
        known: what was scored before; what is scored now is added.

    Raises:
        NothingToRecoverError: the two models give the same logits.
        NotFiniteError: a model's states overflow.
    """
    # The first round decides how losses are computed, so that all rounds are comparable to the last bit.
    scorer = Scorer(finals.own["base"], finals.heads, job.rounds[0], job.settings.kl)
    by_question = ByQuestion([len(prompt.answer) for prompt in job.prompts])
    for side in SIDES:
        _check_finite(job, side, finals.own[side])
    notes = list(job.notes)
    known = known or Known()
    found = _Losses(scorer, finals, job, by_question, known.losses)
    unlearned = found.unlearned = _check_difference(job, scorer, found.unlearned, notes)
    for sweep in job.plan.sweeps:
        if sweep.name not in known.runs:
            known.runs[sweep.name] = _run(job, sweep, found)
    runs = tuple(known.runs[sweep.name] for sweep in job.plan.sweeps)
    return Probe(
        model_type=job.pair.base.row.model_type,
        layer_count=job.plan.layers,
        runs=runs,
        questions=_records(job, unlearned, _log_p(job, scorer, finals)),
        loss_unlearned=loss_summary(unlearned.mse, unlearned.mse_centred, unlearned.kl, unlearned.top1, unlearned.js),
        controls=(*_own_controls(job, finals, found), *_wrong_prompts(job, runs, found)),
        settings=settings_record(job),
        notes=tuple(notes),
    )


def _check_finite(job: Job, side: Side, states: Tensor) -> None:
    """Refuse to say anything about a model that computes no numbers."""
    if not torch.isfinite(states).all():
        better = "give mended weights" if job.settings.dtype in ("float32", "float64") else "use --dtype float32"
        raise NotFiniteError(
            f"{job.pair.side(side).location}: its states are not finite in {job.settings.dtype}: nothing can be"
            f" measured; {better}"
        )


class _Losses:
    """Losses of every run, and what they are measured against."""

    def __init__(
        self, scorer: Scorer, finals: Finals, job: Job, by_question: ByQuestion, known: dict[int, PositionLosses]
    ) -> None:
        self.scorer, self._by_question, self._found = scorer, by_question, known
        states = {OWN: finals.own["unlearned"], **finals.runs}
        for first, end in itertools.pairwise((0, *job.rounds)):
            # Round by round, whenever it is done: sums of other groups would round otherwise.
            round_of = [*([OWN] if first == 0 else []), *range(first, end)]
            for side in SIDES:
                members = [number for number in round_of if number not in known and _side_of(job, number) == side]
                losses = scorer.losses(side, [states[number] for number in members])
                known |= dict(zip(members, losses, strict=True))
        self.unlearned = by_question.losses([known[OWN]]).row(0)

    def of(self, numbers: Sequence[int]) -> QuestionLosses:
        """Per-question losses of some runs [run, question]."""
        return self._by_question.losses([self._found[number] for number in numbers])

    def scores(self, number: int, direction: str) -> dict[str, float]:
        """The scores of one run that are defined."""
        result = {}
        for score, name in zip(SCORES, ("mse", "mse_centred", "kl"), strict=True):
            whole = float(getattr(self.unlearned, name).mean())
            share = float(getattr(self.of([number]), name).mean()) / whole if whole > 0 else math.nan
            if not math.isnan(share):
                result[score] = 1 - share if direction == "restore" else share
        return result


def _side_of(job: Job, number: int) -> Side:
    """The side whose unembedding a run has."""
    return "unlearned" if number == OWN else ends_of(job.plan.runs[number])


def _log_p(job: Job, scorer: Scorer, finals: Finals) -> dict[Side, list[float]]:
    """By side the log of the probability of each question's whole answer, in nats; NaN where no logits are made."""
    if not job.settings.kl:
        return {side: [math.nan] * len(job.prompts) for side in SIDES}
    tokens = torch.tensor([token for prompt in job.prompts for token in prompt.answer], device=job.device)
    counts = [len(prompt.answer) for prompt in job.prompts]
    found = {side: scorer.log_p(side, finals.own[side], tokens).split(counts) for side in SIDES}
    return {side: [float(part.sum()) for part in parts] for side, parts in found.items()}


def _records(job: Job, unlearned: QuestionLosses, log_p: Mapping[Side, Sequence[float]]) -> tuple[QuestionRecord, ...]:
    return tuple(
        QuestionRecord(
            text=prompt.question.text,
            answer=job.tokenizer.decode(list(prompt.answer)),
            answer_ids=prompt.answer,
            prompt_tokens=len(prompt.ids),
            mse=float(unlearned.mse[number]),
            mse_centred=float(unlearned.mse_centred[number]),
            kl=float(unlearned.kl[number]),
            top1=float(unlearned.top1[number]),
            js=float(unlearned.js[number]),
            log_p_base=log_p["base"][number],
            log_p_unlearned=log_p["unlearned"][number],
            cluster=prompt.cluster,
        )
        for number, prompt in enumerate(job.prompts)
    )


def _check_difference(job: Job, scorer: Scorer, unlearned: QuestionLosses, notes: list[str]) -> QuestionLosses:
    """Refuse to score rounding; a loss that is only rounding becomes exactly 0, whose score is not defined."""
    floor = (NOISE[DTYPES[job.settings.dtype]] * scorer.logit_size()) ** 2
    means = {"mse": unlearned.mse.mean(), "mse_centred": unlearned.mse_centred.mean()}
    if means["mse"] <= floor:
        divergence = f", KL {unlearned.kl.mean():.1e}" if job.settings.kl else ""
        raise NothingToRecoverError(
            f"nothing to recover: on these {len(job.prompts)} questions the two models give the same logits"
            f" (mse {means['mse']:.1e}{divergence}); ask about what was unlearned"
        )
    if means["mse_centred"] <= floor:
        notes.append(
            "nothing to recover for krs_centred and krs_kl: the logits differ by a uniform shift alone, which softmax"
            " cannot see"
        )
        nothing = np.zeros_like(unlearned.mse)
        return QuestionLosses(unlearned.mse, nothing, nothing, unlearned.top1, nothing)
    return unlearned


def _run(job: Job, sweep: Windows, found: _Losses) -> ProbeRun:
    whole = (0, job.plan.layers - 1)
    width = job.settings.window
    windows = [whole if centre < 0 else window_of(centre, width, job.plan.layers) for centre in sweep.centres]
    return probe_run(
        direction=sweep.direction,
        mode=sweep.mode,
        variant=sweep.variant,
        window=width,
        layers=np.array(sweep.centres, dtype=np.int64),
        first=np.array([first for first, _ in windows], dtype=np.int64),
        last=np.array([last for _, last in windows], dtype=np.int64),
        losses=found.of(sweep.runs),
        unlearned=found.unlearned,
        clusters=[prompt.cluster for prompt in job.prompts],
    )


def _own_controls(job: Job, finals: Finals, found: _Losses) -> Iterator[Control]:
    """Putting back the host's own states changes nothing; putting back everything of the donor brings everything."""
    bound = SELF_PATCH[DTYPES[job.settings.dtype]]
    for direction, number in job.plan.self_patch.items():
        side = host_of(job.plan.runs[number])
        change = found.scorer.largest_change(side, finals.runs[number], finals.own[side])
        yield Control("self_patch", direction, change, bound, "at_most", change <= bound)
    for direction, number in job.plan.everything.items():
        for score, value in found.scores(number, direction).items():
            yield everything_control(direction, score, value)


def everything_control(direction: str, score: str, value: float) -> Control:
    """A score of putting everything back, and whether it is all of it."""
    return Control("everything", direction, value, EVERYTHING, "at_least", value >= EVERYTHING, score=score)


def _wrong_prompts(job: Job, runs: Sequence[ProbeRun], found: _Losses) -> Iterator[Control]:
    """The control with states of another question, beside the right ones in the same window."""
    for sweep, run in zip(job.plan.sweeps, runs, strict=True):
        for centre, number in sweep.wrong.items():
            for score, value in found.scores(number, sweep.direction).items():
                right = float(getattr(run, score).score[sweep.centres.index(centre)])
                own = {"mode": sweep.mode, "variant": sweep.variant, "score": score, "against": right}
                own["layer"] = None if centre < 0 else centre
                yield Control("wrong_prompt", sweep.direction, value, math.nan, "shown", True, **own)  # type: ignore[arg-type]
