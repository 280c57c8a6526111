"""The section of a report that discovery makes: `run(models, how, texts, candidates, listener)`.

One model is in memory at a time, but where several read at once: see `readers`. The base makes texts and says what it
knows of each candidate; the unlearned model and the noisy copies read the same, each in one pass.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from ckdiff.discovery import asking
from ckdiff.discovery.candidates import Candidates
from ckdiff.discovery.directions import norm_gain, random_directions, spell, value_directions
from ckdiff.discovery.kept import LOOK, TEXTS, VALUES, Kept
from ckdiff.discovery.lost import keep_logits, ruin_of, sayable
from ckdiff.discovery.mentions import (
    SAID,
    SPELLED,
    find_mentions,
    mention_drops,
    name_drops,
    name_tokens,
    said_drops,
    said_words,
    said_written,
    words_in,
)
from ckdiff.discovery.null import change_sizes
from ckdiff.discovery.opening import DiscoveryError
from ckdiff.discovery.outcome import report_found, report_nothing
from ckdiff.discovery.readers import look_at, read_all, speak
from ckdiff.discovery.texts import TOGETHER, Sampling, given_texts, own_texts
from ckdiff.discovery.work import How, Ranked, Work
from ckdiff.probes.behind import force_alike
from ckdiff.probes.forcing import force
from ckdiff.progress import Listener
from ckdiff.questions.layouts import fold
from ckdiff.report.schema.discovery import TURNED, WRITTEN
from ckdiff.scoring.discovery import MENTIONED, UNPROMPTED, form_scores, pool_forms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ckdiff.discovery.asking import Round
    from ckdiff.discovery.directions import Directions
    from ckdiff.discovery.kept import Shaken
    from ckdiff.discovery.lost import Look
    from ckdiff.discovery.opening import Models
    from ckdiff.discovery.texts import Texts
    from ckdiff.probes.live.together import Draws
    from ckdiff.report.schema.discovery import DiscoveryReport
    from ckdiff.shapes import Float64

RUINED = 0.3
"""A model that lost this share of what the base knows of any text beyond guessing is ruined: everything is lost."""
BESIDE = 4
"""Where the user gives the texts, so many of each kind are sampled to tell whether the model is ruined."""


def run(
    models: Models, how: How, candidates: Candidates, listener: Listener | None = None, kept: Kept | None = None
) -> DiscoveryReport:
    """Look for what the unlearned model lost.

    Args:
        models: from `open_models`.
        how: which texts, how many, and the seed.
        candidates: topics that it may be.
        listener: told of progress, asked whether to stop.
        kept: where what is done is kept, if anywhere.

    Raises:
        Stopped: the listener asked for it.
        PartialError: what is kept is damaged, or is of another discovery.
        CkdiffError: the texts cannot be used, or a model computes NaN.
    """
    listener, kept = listener or Listener(), kept or Kept()
    with torch.inference_mode():
        try:
            models.base.load()
            texts = _texts(models, how, listener, kept)
            if how.words:
                candidates = _with_words(candidates, texts)
            beside = texts if how.texts is None else _sampled(models, replace(how, count=BESIDE), kept)
            work = Work(models, how, candidates, listener, texts, beside, 5 + how.copies, kept=kept)
            work.mentions = find_mentions(models.tokenizer, texts, candidates.every)
            work.names = name_tokens(models.wording, candidates.every)
            return _discover(work)
        finally:
            for live in (models.base, models.unlearned, models.copy):
                live.unload()
            listener.progress("discovering", 1, 1, "")


def _texts(models: Models, how: How, listener: Listener, kept: Kept) -> Texts:
    """Given ones, or sampled ones and random words."""
    listener.progress("texts", 0, 1, "")
    path = how.texts
    found = _sampled(models, how, kept) if path is None else given_texts(path, models.wording, _length(models, how))
    listener.progress("texts", 1, 1, "")
    largest = max(max(prompt.ids + prompt.answer) for prompt in found.prompts)
    if largest >= models.rows:
        raise DiscoveryError(
            f"{models.base.location}: its tokenizer makes id {largest}, its embedding has {models.rows} rows"
        )
    return found


def _length(models: Models, how: How) -> int:
    """Tokens of a text that the model has room for."""
    return min(how.length, (models.context or how.length) - 1)


def _sampled(models: Models, how: How, kept: Kept) -> Texts:
    sampling = Sampling(how.count, max(2, _length(models, how) - 8), how.seed)

    def say(sets: Sequence[tuple[list[tuple[int, ...]], Draws]]) -> list[list[list[int]]]:
        return speak(models, sets, sampling.length, TOGETHER)

    return kept.once("texts", lambda: own_texts(models.wording, models.stops, models.rows, sampling, say), TEXTS)


def _with_words(candidates: Candidates, texts: Texts) -> Candidates:
    """The candidates, and words of the texts that are none yet."""
    known = {fold(one.name) for one in candidates.every}
    more = [one for one in words_in(texts) if fold(one.name) not in known]
    source = f"{candidates.source}, {len(more)} words of the texts" if more else candidates.source
    return Candidates((*candidates.every, *more), source)


def _discover(work: Work) -> DiscoveryReport:
    models, every = work.models, work.candidates.every
    work.tell("the base reads the texts")
    work.forced = force_alike(models.base, work.texts.prompts, work.way)
    work.logits = keep_logits(work.forced)
    work.sayable = sayable(work.forced, work.logits)
    beside = work.forced if work.beside is work.texts else force_alike(models.base, work.beside.prompts, work.way)
    work.tell("the unlearned model reads them")
    models.base.unload()
    models.unlearned.load()
    seen = work.kept.once("unlearned", lambda: look_at(work, models.unlearned), LOOK)
    work.ruin = ruin_of(seen if beside is work.forced else look_at(work, models.unlearned, beside))
    sizes = change_sizes(models.base, models.unlearned)
    if not any(sizes.values()):
        return report_nothing(work, seen)
    if work.ruin >= RUINED:
        return replace(report_nothing(work, seen), outcome="ruined", ruin=work.ruin)
    directions, gain = value_directions(models.base, models.unlearned), norm_gain(models.unlearned)
    work.written = _written(work, directions, gain)
    unasked = _unasked(work, seen, work.written)
    chosen, others, screen = list(range(len(every))), list[int](), np.full(len(every), np.nan)
    if len(every) > asking.SCREENED:
        best = asking.best_unasked(unasked)
        screen = work.kept.once("screen", lambda: _screen(work, best[: asking.NARROWED]), VALUES)
        chosen, others = asking.choose(screen, work.how.seed, best[: asking.UNASKED])
    models.unlearned.unload()
    drawn = asking.draw(chosen, others, work.how.seed)
    (rounds, ours, theirs), shaken = read_all(work, sizes, chosen, drawn)
    work.said = said_words(models.tokenizer, rounds, len(every))
    spelt = [_written(work, random_directions(directions, work.how.seed + n), gain) for n in range(work.how.copies)]
    _noise(work, shaken, spelt, *asking.narrow(rounds, ours, drawn))
    apart, plain = asking.drops_by_form(rounds, ours, theirs, len(every))
    apart = _with_said(work, apart, seen, work.written)
    mask = np.isin(np.arange(len(every)), others or chosen).astype(np.float64)
    scores = _scores(apart, unasked, mask)
    return report_found(work, seen, Ranked(_forms(rounds, scores), screen, scores, plain, mask, chosen))


def _screen(work: Work, some: list[int]) -> Float64:
    """How much of what the base makes of the names of some candidates is lost [candidate]; NaN of the others.

    The unlearned model must be loaded; it gives way to the base, which gives way to none.
    """
    models, every = work.models, work.candidates.every
    work.tell(f"{len(some)} of {len(every)} candidates are screened")
    prompts = asking.screen_prompts(models, [every[number] for number in some])
    after = force(models.unlearned, prompts, work.way)
    models.unlearned.unload()
    models.base.load()
    found = np.full(len(every), np.nan)
    found[some] = asking.screen_scores(force(models.base, prompts, work.way), after, prompts)
    models.base.unload()
    return found


def _forms(rounds: list[Round], scores: Float64) -> tuple[str, ...]:
    """The names of the forms; where no text names a candidate that one is missing."""
    return (*(one.form for one in rounds), SAID, SPELLED, UNPROMPTED, TURNED, WRITTEN, MENTIONED)[: scores.shape[1]]


def _with_said(work: Work, apart: Float64, seen: Look, written: Float64) -> Float64:
    """Drops of the forms in which candidates are asked about, and of what was said there [candidate, form]."""
    there = np.isfinite(apart).any(axis=1)
    said = (said_drops(work.said, seen), said_written(work.said, seen, written))
    return np.column_stack([apart, *(np.where(there, one, np.nan) for one in said)])


def _written(work: Work, directions: Directions, gain: Tensor) -> Float64:
    """How far each token stands out in what some directions are written as [token]."""
    assert work.forced is not None
    return spell(directions, gain, work.forced.head.weight)


def _unasked(work: Work, seen: Look, written: Float64) -> Float64:
    """Drops in the forms in which nobody is asked [candidate, form]: of its name, in the weights, behind its name."""
    tokens = [prompt.answer for prompt in work.texts.prompts]
    columns = [name_drops(work.names, values) for values in (seen.shift, seen.turn, written)]
    if work.mentions:
        columns.append(mention_drops(work.mentions, seen, tokens, len(work.candidates.every)))
    return np.stack(columns, 1)


def _scores(apart: Float64, unasked: Float64, mask: Float64) -> Float64:
    """Scores of every form [candidate, form], those in which nobody is asked last.

    Screening has not looked at these, so that there everyone is measured by everyone.
    """
    return np.concatenate([form_scores(apart, mask), form_scores(unasked, np.ones(len(unasked)))], axis=1)


def _noise(
    work: Work, shaken: list[Shaken], spelt: list[Float64], rounds: list[Round], ours: list[list[Tensor]]
) -> None:
    """What copies of the base with noise lost on the texts, and on what the base says about some candidates.

    The strongest directions of a matrix of noise are any: `spelt` holds what such directions are written as, by copy.
    """
    count = len(work.candidates.every)
    for (seen, theirs), directions in zip(shaken, spelt, strict=True):
        work.nulls.append(seen)
        if rounds:
            apart, _ = asking.drops_by_form(rounds, ours, theirs, count)
            there = np.isfinite(apart).any(axis=1)
            apart = _with_said(work, apart, seen, directions)
            scores = _scores(apart, _unasked(work, seen, directions), np.where(there, 1.0, 0.0))
            pooled = pool_forms(scores)[there]
            work.null_scores += pooled[np.isfinite(pooled)].tolist()
