"""A few steps of training, measured on what was held out: `outcomes(case, live, side)` gives one a step and arm.

    others      facts about other things alone; every question about what was to be unlearned is held out
    half        the answers to a part of the facts; measured on the rest, until every part was held out once
    scrambled   the same with each other's answers: nothing true is learned, and suppression is lifted all the same

Nothing that is measured was given away: facts whose answers overlap are held out together, and an answer that a text
holds which was trained on does not count. No more is trained than it takes to know the worst: a training ends when all
that it holds out is back, when the answers become less likely again, or when it ruins the model; the attack ends when
half of the answers are back, and a larger rate is tried only where none is. Base and reference repeat what was made of
the unlearned model. Sources: Deeb and Roger 2024, arXiv:2410.08827; Łucki et al. 2024, arXiv:2409.18025.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from ckdiff.attacks.answers import holds
from ckdiff.attacks.case import UNRELATED, AttackError, Outcome, Reading
from ckdiff.attacks.evidence import wrecked
from ckdiff.attacks.training import check_trainable, descend, sample, share_changed, trainable, widened
from ckdiff.probes.assembly import NotFiniteError
from ckdiff.probes.base_answers import generate_answers
from ckdiff.probes.behind import read_answers
from ckdiff.questions.questions import general_questions
from ckdiff.scoring.matching import LEAST
from ckdiff.unlearn.sequences import Tokens

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckdiff.attacks.case import Case
    from ckdiff.probes.live.model import LiveModel
    from ckdiff.probes.prompts import Prompt
    from ckdiff.report.schema.attack import Attacked
    from ckdiff.shapes import Float64

ARMS = ("others", "half", "scrambled")
OTHERS = 16
"""Texts about other things, at most."""
RATES = (3e-5, 1e-4)
"""Of AdamW; a narrow model takes larger ones."""
FALLS = 2
"""So many measurements in a row below the best one, and a training is past its best."""
SAID = frozenset({4, 16})
"""Steps after which answers are generated, beside the last one; at the others they are read only, which is quicker."""
LORA = 10
"""LoRA's rates are so many times greater."""


BACK, PAST, WRECKED = ENDS = ("everything is back", "past its best", "wrecked")


@dataclass(frozen=True, slots=True)
class Lesson:
    """Texts to train on, and the numbers of the questions that are measured meanwhile."""

    texts: tuple[Tokens, ...]
    held_out: tuple[int, ...]


@dataclass(slots=True)
class Curve:
    """One training: by step what it made of the questions, and how it ended: "", one of `ENDS`, or a reason."""

    readings: dict[int, Reading]
    applied: dict[int, float]
    ended: str = ""

    def at(self, step: int) -> Reading | None:
        """The reading after so many steps; where a training had come to its end before, the last one."""
        if step in self.readings or self.ended not in (BACK, PAST):
            return self.readings.get(step)
        return self.readings[max(self.readings)]

    @property
    def past(self) -> bool:
        """Whether the answers have become less likely again."""
        levels = [float(np.nanmean(one.level)) for one in self.readings.values()]
        return len(levels) > FALLS and max(levels[-FALLS:]) < max(levels[:-FALLS])


def outcomes(case: Case, live: LiveModel, side: Attacked) -> Iterator[Outcome]:
    """One outcome an arm, rate and step.

    Raises:
        AttackError: the model cannot be trained, or no arm can be made of these questions.
    """
    check_trainable(case, live, case.options.training == "lora")
    plans, reasons = _plans(case, side)
    done: list[Outcome] = []
    for number, (arm, rate, last) in enumerate(plans):
        found = list(_arm(case, live, side, arm, rate, last))
        done += found
        yield from found
        if side == "unlearned":
            case.followed.append((arm, rate, *_steps(found)))
        further = plans[number + 1][1] if number + 1 < len(plans) else rate
        if _enough(case, side, done, further > rate):
            return
    if side == "unlearned":
        yield from (Outcome(arm, None, note=reason) for arm, reason in reasons.items())


def _steps(found: Sequence[Outcome]) -> tuple[int, int]:
    """The last step of a training, and that after which the answers were most likely; at least 1."""
    levels = {
        one.step: float(np.nanmean(one.reading.level)) for one in found if one.reading is not None and one.step > 0
    }
    return (max(levels), max(levels, key=lambda step: levels[step])) if levels else (1, 1)


def _plans(case: Case, side: Attacked) -> tuple[list[tuple[str, float, int]], dict[str, str]]:
    """Arms, rates and last steps, and the arms that cannot be made with the reasons."""
    options, reasons = case.options, dict[str, str]()
    if side in ("base", "reference"):
        if not case.followed:
            raise AttackError("the unlearned model was not trained, so that there is nothing to hold against it")
        if side == "base":
            arm, rate, _, best = case.followed[0]
            return [(arm, rate, best)], {}
        return [(arm, rate, last) for arm, rate, last, _ in case.followed], {}
    for arm in options.arms:
        try:
            lessons(case, arm)
        except AttackError as error:
            reasons[arm] = str(error)
    arms = [arm for arm in options.arms if arm not in reasons]
    if not arms:
        raise AttackError("; ".join(f"{arm}: {reason}" for arm, reason in reasons.items()))
    return [(arm, rate, options.steps) for rate in rates_of(case) for arm in arms], reasons


def rates_of(case: Case) -> tuple[float, ...]:
    """The rates that were chosen, or those that suit a model of this width."""
    if case.options.rates:
        return tuple(sorted(case.options.rates))
    factor = LORA if case.options.training == "lora" else 1
    return tuple(widened(factor * rate, case.job.pair.base) for rate in RATES)


def steps_of(last: int) -> list[int]:
    """Steps after which is measured: 1, 2, 4, 8, ... and the last one.

    >>> steps_of(40)
    [1, 2, 4, 8, 16, 32, 40]
    """
    return sorted({*(2**power for power in range(last.bit_length()) if 2**power <= last), last})


def _enough(case: Case, side: Attacked, found: Sequence[Outcome], further: bool) -> bool:
    """Whether another training would say no more: half came back, or anything where only a larger rate is left."""
    if side not in ("unlearned", "twin"):
        return False
    wanted = case.lost if side == "twin" else {one.cluster for one in case.sought if one.counts}
    back = {
        case.sought[place].cluster
        for one in found
        if one.reading is not None and not wrecked(one.reading)
        for place in one.reading.said
        if one.held_out is None or place in one.held_out
    }
    return len(back & wanted) * 2 >= len(wanted) or (further and bool(back & wanted))


# ------------------------------------------------------------------------------------------------------------- lessons


def lessons(case: Case, arm: str) -> list[Lesson]:
    """The facts to train on and those to hold out, training by training.

    Raises:
        AttackError: these questions do not allow it.
    """
    if arm == "others":
        texts = tuple(Tokens((*one.ids, *one.answer), len(one.ids)) for one in _others(case))
        return [Lesson(texts, tuple(range(len(case.sought))))]
    count = len(set(case.clusters))
    if count < LEAST:
        raise AttackError(f"it takes {LEAST} facts to hold some of them out, and there are {count}")
    return [_lesson(case, fold, arm == "scrambled") for fold in folds_of(case)]


def _lesson(case: Case, fold: frozenset[int], scrambled: bool) -> Lesson:
    """Train on every fact outside a fold, measure those inside."""
    learned = [place for place, one in enumerate(case.sought) if one.cluster not in fold]
    answers = {place: case.sought[place].answer for place in learned}
    if scrambled:
        order = list(dict.fromkeys(case.sought[place].cluster for place in learned))
        order = [order[number] for number in np.random.default_rng(case.options.seed).permutation(len(order))]
        first = {cluster: next(one.answer for one in case.sought if one.cluster == cluster) for cluster in order}
        swapped = dict(zip(order, [*order[1:], order[0]], strict=True))
        answers = {place: first[swapped[case.sought[place].cluster]] for place in learned}
    texts = tuple(Tokens((*case.sought[place].ids, *answers[place]), len(case.sought[place].ids)) for place in learned)
    return Lesson(texts, tuple(place for place, one in enumerate(case.sought) if one.cluster in fold))


def folds_of(case: Case) -> list[frozenset[int]]:
    """Clusters in parts of like size and like forms of answers; those whose answers overlap are in one part.

    Raises:
        AttackError: nothing could be trained on while something is held out.
    """
    parts: list[set[int]] = []
    for cluster in dict.fromkeys(case.clusters):
        same = [part for part in parts if any(_overlap(case, cluster, other) for other in part)]
        parts = [part for part in parts if part not in same] + [{cluster}.union(*same)]
    kinds = {one.cluster: one.kind for one in case.sought}
    order = np.random.default_rng(case.options.seed).permutation(len(parts))
    ranked = sorted(order.tolist(), key=lambda number: (-len(parts[number]), kinds[min(parts[number])]))
    folds: list[set[int]] = [set() for _ in range(case.options.folds)]
    for number in ranked:
        min(folds, key=len).update(parts[number])
    if len([fold for fold in folds if fold]) < 2:
        raise AttackError("what is trained on and what is held out would have one answer: all answers overlap")
    return [frozenset(fold) for fold in folds if fold]


def _overlap(case: Case, one: int, other: int) -> bool:
    """Whether two clusters have one answer, or one of them holds what would prove something of the other."""
    mine, theirs = ([found for found in case.sought if found.cluster == cluster] for cluster in (one, other))
    return any(
        a.words == b.words or (a.counts and b.counts and (holds(a.words, b.words) or holds(b.words, a.words)))
        for a in mine
        for b in theirs
    )


def _others(case: Case) -> list[Prompt]:
    """Questions about other things with the base's own answers; none that is measured, none that holds an answer."""
    if case.others is None:
        measured = {prompt.ids for prompt in case.unrelated[:UNRELATED]}
        every = [*case.unrelated[UNRELATED:], *case.job.wording.prompts(general_questions().questions)]
        asked = list({prompt.ids: prompt for prompt in every if prompt.ids not in measured}.values())[:OTHERS]
        with case.loaded(case.job.pair.base):
            said = generate_answers(case.job.pair.base, case.job, asked, case.way)
        full = [replace(prompt, answer=tuple(ids)) for prompt, ids in zip(asked, said, strict=True)]
        case.others = [one for one in full if not _gives_away(case, (*one.ids, *one.answer))]
    if not case.others:
        raise AttackError("every text about other things holds one of the answers; name other ones with --unrelated")
    return case.others


def _gives_away(case: Case, ids: Sequence[int]) -> bool:
    text = case.decode(ids)
    return any(holds(text, one.words) for one in case.sought if one.counts)


def held_out_of(case: Case, every: Sequence[Lesson]) -> tuple[int, ...]:
    """Questions whose answer no text holds that was trained on while they were measured."""
    return tuple(
        place
        for lesson in every
        for texts in [[case.decode(text.ids) for text in lesson.texts]]
        for place in lesson.held_out
        if not any(holds(text, case.sought[place].words) for text in texts)
    )


# ------------------------------------------------------------------------------------------------------------ training


def _arm(case: Case, live: LiveModel, side: Attacked, arm: str, rate: float, last: int) -> Iterator[Outcome]:
    """One arm at one rate: an outcome a step, of all its trainings together."""
    every = lessons(case, arm)
    setting = f"{arm}, rate {rate:g}" + (", LoRA" if case.options.training == "lora" else "")
    groups = None if arm == "others" else _split(case, every)
    held_out = held_out_of(case, every)
    yield Outcome(setting, case.plain[side], 0, 0.0, held_out=held_out, groups=groups)
    curves = [
        _train(case, live, side, lesson, rate, last, case.options.seed + number)
        for number in range(case.options.seeds)
        for lesson in every
    ]
    for step in steps_of(last):
        readings = [curve.at(step) for curve in curves]
        if not any(step in curve.readings for curve in curves) or any(one is None for one in readings):
            break
        whole = _merge(case, [one for one in readings if one is not None])
        applied = min(curve.applied.get(step, 1.0) for curve in curves)
        note = "" if not wrecked(whole) else f"step {step} ruins the unrelated answers: not counted"
        yield Outcome(setting, whole, step, applied, note=note, held_out=held_out, groups=groups)
    for reason in dict.fromkeys(curve.ended for curve in curves if curve.ended not in ("", *ENDS)):
        yield Outcome(setting, None, note=reason)


def _split(case: Case, every: Sequence[Lesson]) -> tuple[tuple[int, ...], ...]:
    """The groups of the case, parted by what was held out together."""
    folds = [{case.sought[place].cluster for place in lesson.held_out} for lesson in every]
    parts = (tuple(one for one in group if one in fold) for fold in folds for group in case.groups)
    return tuple(part for part in parts if len(part) > 1)


def _train(case: Case, live: LiveModel, side: Attacked, lesson: Lesson, rate: float, last: int, seed: int) -> Curve:
    """One training, measured as it goes."""
    from ckdiff.unlearn.trainer import DivergedError

    curve, due = Curve({}, {}), set(steps_of(last))
    longest = max(len(text.ids) for text in lesson.texts)
    with trainable(case, live, case.options.training == "lora", longest) as model:
        before = sample(model)

        def after(step: int) -> bool:
            case.pause()
            case.listener.progress(f"relearning, {side}", step, last, f"steps at {rate:g}")
            if step in due:
                curve.applied[step] = share_changed(before, sample(model))
                reading = curve.readings[step] = _read(case, model, side, lesson, step)
                curve.ended = _ending(case, side, curve, lesson)
                if side != "base" and curve.ended != WRECKED and (step in SAID or step == last or curve.ended == PAST):
                    curve.readings[step] = _ask(case, model, reading, lesson)
                    curve.ended = curve.ended or _ending(case, side, curve, lesson)
            return bool(curve.ended)

        try:
            descend(model, lesson.texts, last, rate, seed, after)
        except (DivergedError, NotFiniteError) as error:
            curve.ended = f"{error}"
    case.listener.progress(f"relearning, {side}", last, last, "")
    return curve


def _read(case: Case, model: LiveModel, side: Attacked, lesson: Lesson, step: int) -> Reading:
    """The held-out answers as the model reads them; they are back where each token comes first."""
    with torch.inference_mode():
        reading = weigh_ruin(case, model, case.read(model, side, matching=side != "base", only=lesson.held_out))
    return replace(reading, texts=reading.texts + 3 * len(lesson.texts) * step)


def _ask(case: Case, model: LiveModel, reading: Reading, lesson: Lesson) -> Reading:
    """The same with what the model says to questions whose answer is not back."""
    wanted = [place for place in lesson.held_out if case.sought[place].counts and place not in reading.said]
    if not wanted:
        return reading
    said = [reading.said.get(place, "") for place in range(len(case.sought))]
    with torch.inference_mode():
        texts = case.say(model, [case.sought[place].ids for place in wanted])
    for place, text in zip(wanted, texts, strict=True):
        said[place] = text
    return replace(reading, said=case.hits(said, reading.said), texts=reading.texts + len(wanted))


def weigh_ruin(case: Case, model: LiveModel, reading: Reading) -> Reading:
    """The same where a model has left its own unrelated answers for those of the base: it was mended, not ruined."""
    if not wrecked(reading) or not case.own.get("base"):
        return reading
    reads = read_answers(model, case.own["base"], case.way)
    kept = float(np.mean([float(one.first.double().mean()) for one in reads]))
    return replace(reading, unrelated=max(kept, reading.unrelated), texts=reading.texts + len(reads))


def _ending(case: Case, side: Attacked, curve: Curve, lesson: Lesson) -> str:
    """Why a training need not go on, or ""."""
    reading = curve.readings[max(curve.readings)]
    if wrecked(reading):
        return WRECKED
    if side not in ("unlearned", "twin"):
        return ""
    wanted = {case.sought[place].cluster for place in lesson.held_out if case.sought[place].counts}
    back = {case.sought[place].cluster for place in reading.said}
    return BACK if wanted and back >= wanted else PAST if curve.past else ""


def _merge(case: Case, readings: Sequence[Reading]) -> Reading:
    """Readings of several trainings as one: means over those that held a question out, the worst of what they ruin."""
    said: dict[int, str] = {}
    for one in readings:
        said |= one.said
    return Reading(
        level=_mean([one.level for one in readings]),
        log_p=_mean([one.log_p for one in readings]),
        said=said,
        table=_mean([one.table for one in readings]),
        unrelated=min(one.unrelated for one in readings),
        texts=sum(one.texts for one in readings),
    )


def _mean(values: Sequence[Float64]) -> Float64:
    """Means of what is there; NaN where nothing is."""
    stacked = np.stack(values)
    known = ~np.isnan(stacked)
    sums, counts = np.where(known, stacked, 0.0).sum(axis=0), known.sum(axis=0)
    found: Float64 = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return found
