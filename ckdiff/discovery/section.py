"""The section of a report that discovery makes: `run(models, how, texts, candidates, listener)`.

One model is in memory at a time. The base makes texts and says what it knows of each candidate; the unlearned model and
the noisy copies read the same, each in one pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from ckdiff.discovery import asking
from ckdiff.discovery.answers import ask_topic
from ckdiff.discovery.candidates import Candidates
from ckdiff.discovery.lost import look, ruin_of
from ckdiff.discovery.mentions import (
    MENTIONED,
    SAID,
    UNPROMPTED,
    find_mentions,
    mention_drops,
    name_drops,
    name_tokens,
    said_drops,
    said_words,
    words_in,
)
from ckdiff.discovery.naming import kinds_of, lost_words, text_kinds
from ckdiff.discovery.null import COPIES, change_sizes, noise
from ckdiff.discovery.opening import DiscoveryError
from ckdiff.discovery.texts import Sampling, given_texts, own_texts
from ckdiff.probes.forcing import Way, force
from ckdiff.progress import Listener, Stopped
from ckdiff.questions.layouts import fold
from ckdiff.report.schema.discovery import CandidateRow, DiscoveryReport
from ckdiff.report.words.discovery import topic_of
from ckdiff.scoring.discovery import candidate_p, form_scores, pool_forms

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from ckdiff.discovery.asking import Round
    from ckdiff.discovery.lost import Look
    from ckdiff.discovery.mentions import Mention
    from ckdiff.discovery.opening import Models
    from ckdiff.discovery.texts import Texts
    from ckdiff.probes.forcing import Forced
    from ckdiff.probes.live.model import LiveModel
    from ckdiff.report.schema.discovery import LostWord, Outcome
    from ckdiff.shapes import Float64

RUINED = 0.3
"""A model that lost this share of what the base knows of any text beyond guessing is ruined: everything is lost."""
FEW = 8
"""Texts of one kind below which a reader is warned."""
BESIDE = 4
"""Where the user gives the texts, so many of each kind are sampled to tell whether the model is ruined."""


@dataclass(frozen=True, slots=True)
class How:
    """How discovery goes.

    Attributes:
        texts: a file, or None: they are sampled from the base.
        count: texts of each kind that are sampled.
        length: tokens of a text.
        seed: of samples, noise, and what is drawn.
        copies: noisy ones.
        words: words of given texts are candidates, too.
        batch_size: texts that go through a layer together.
    """

    texts: Path | None = None
    count: int = 16
    length: int = 40
    seed: int = 0
    copies: int = COPIES
    words: bool = False
    batch_size: int = 32


@dataclass(slots=True)
class _Work:
    """Discovery under way: what has been read so far."""

    models: Models
    how: How
    candidates: Candidates
    listener: Listener
    texts: Texts
    beside: Texts
    steps: int
    done: int = 0
    forced: Forced | None = None
    ruin: float = 0.0
    mentions: list[Mention] = field(default_factory=list)
    names: list[list[int]] = field(default_factory=list)
    said: list[list[int]] = field(default_factory=list)
    nulls: list[Look] = field(default_factory=list)
    null_scores: list[float] = field(default_factory=list)

    @property
    def way(self) -> Way:
        return Way(self.how.batch_size)

    def tell(self, detail: str) -> None:
        """Progress, and a place to stop."""
        self.listener.progress("discovering", self.done, self.steps, detail)
        self.done = min(self.done + 1, self.steps - 1)
        if self.listener.stop():
            raise Stopped


def run(models: Models, how: How, candidates: Candidates, listener: Listener | None = None) -> DiscoveryReport:
    """Look for what the unlearned model lost.

    Args:
        models: from `open_models`.
        how: which texts, how many, and the seed.
        candidates: topics that it may be.
        listener: told of progress, asked whether to stop.

    Raises:
        Stopped: the listener asked for it.
        CkdiffError: the texts cannot be used, or a model computes NaN.
    """
    listener = listener or Listener()
    with torch.inference_mode():
        try:
            models.base.load()
            texts = _texts(models, how, listener)
            if how.words:
                candidates = _with_words(candidates, texts)
            beside = texts if how.texts is None else _sampled(models, replace(how, count=BESIDE))
            work = _Work(models, how, candidates, listener, texts, beside, 8 + how.copies)
            work.mentions = find_mentions(models.tokenizer, texts, candidates.every)
            work.names = name_tokens(models.wording, candidates.every)
            return _discover(work)
        finally:
            for live in (models.base, models.unlearned, models.copy):
                live.unload()
            listener.progress("discovering", 1, 1, "")


def _texts(models: Models, how: How, listener: Listener) -> Texts:
    """Given ones, or sampled ones and random words."""
    listener.progress("texts", 0, 1, "")
    path = how.texts
    found = _sampled(models, how) if path is None else given_texts(path, models.wording, _length(models, how))
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


def _sampled(models: Models, how: How) -> Texts:
    sampling = Sampling(how.count, max(2, _length(models, how) - 8), how.seed)
    return own_texts(models.base, models.wording, models.stops, models.rows, sampling)


def _with_words(candidates: Candidates, texts: Texts) -> Candidates:
    """The candidates, and words of the texts that are none yet."""
    known = {fold(one.name) for one in candidates.every}
    more = [one for one in words_in(texts) if fold(one.name) not in known]
    source = f"{candidates.source}, {len(more)} words of the texts" if more else candidates.source
    return Candidates((*candidates.every, *more), source)


def _discover(work: _Work) -> DiscoveryReport:
    models, every = work.models, work.candidates.every
    work.tell("the base reads the texts")
    work.forced = force(models.base, work.texts.prompts, work.way)
    beside = work.forced if work.beside is work.texts else force(models.base, work.beside.prompts, work.way)
    screened = len(every) > asking.SCREENED
    prompts = asking.screen_prompts(models, every) if screened else []
    before = force(models.base, prompts, work.way) if screened else None
    work.tell("the unlearned model reads them")
    models.base.unload()
    models.unlearned.load()
    seen = _look(work, models.unlearned)
    work.ruin = ruin_of(seen if beside is work.forced else _look(work, models.unlearned, beside))
    sizes = change_sizes(models.base, models.unlearned)
    if not any(sizes.values()):
        return _nothing(work, seen)
    screen = np.full(len(every), np.nan)
    if before is not None:
        after = force(models.unlearned, prompts, work.way)
        screen = asking.screen_scores(before, after, prompts)
    models.unlearned.unload()
    if work.ruin >= RUINED:
        return replace(_nothing(work, seen), outcome="ruined", ruin=work.ruin)
    unasked = _unasked(work, seen)
    chosen, others = list(range(len(every))), list[int]()
    if screened:
        chosen, others = asking.choose(screen, work.how.seed, asking.best_unasked(unasked))
    rounds, ours, theirs = _ask(work, chosen)
    work.said = said_words(models.tokenizer, rounds, len(every))
    _noise(work, sizes, *asking.narrow(rounds, ours, asking.draw(chosen, others, work.how.seed)))
    apart, plain = asking.drops_by_form(rounds, ours, theirs, len(every))
    apart = _with_said(work, apart, seen)
    mask = np.isin(np.arange(len(every)), others or chosen).astype(np.float64)
    scores = _scores(apart, unasked, mask)
    forms = (*(one.form for one in rounds), SAID, UNPROMPTED, MENTIONED)[: scores.shape[1]]
    return _report(work, seen, _Ranked(forms, screen, scores, plain, mask, chosen))


def _with_said(work: _Work, apart: Float64, seen: Look) -> Float64:
    """Drops of the forms in which candidates are asked about, and of what was said there [candidate, form]."""
    drops = said_drops(work.said, seen)
    return np.column_stack([apart, np.where(np.isfinite(apart).any(axis=1), drops, np.nan)])


def _unasked(work: _Work, seen: Look) -> Float64:
    """Drops in the forms in which nobody is asked [candidate, form]: its name anywhere, and texts that name it."""
    tokens = [prompt.answer for prompt in work.texts.prompts]
    columns = [name_drops(work.names, seen)]
    if work.mentions:
        columns.append(mention_drops(work.mentions, seen, tokens, len(work.candidates.every)))
    return np.stack(columns, 1)


def _scores(apart: Float64, unasked: Float64, mask: Float64) -> Float64:
    """Scores of every form [candidate, form], those in which nobody is asked last.

    Screening has not looked at these, so that there everyone is measured by everyone.
    """
    return np.concatenate([form_scores(apart, mask), form_scores(unasked, np.ones(len(unasked)))], axis=1)


def _look(work: _Work, live: LiveModel, beside: Forced | None = None) -> Look:
    """What a model lost on the texts, or on those beside them, as the base has read them."""
    prompts, read = (work.texts if beside is None else work.beside).prompts, beside or work.forced
    assert read is not None
    return look(read, force(live, prompts, work.way), prompts)


def _ask(work: _Work, chosen: list[int]) -> tuple[list[Round], list[list[Tensor]], list[list[Tensor]]]:
    """What the base says about the chosen candidates, as both models read it."""
    models = work.models
    models.base.load()
    rounds = asking.ask(models, work.candidates.every, chosen, work.way, lambda form: work.tell(f"form {form}"))
    ours = asking.read_rounds(models.base, rounds, work.way)
    models.base.unload()
    models.unlearned.load()
    theirs = asking.read_rounds(models.unlearned, rounds, work.way)
    models.unlearned.unload()
    return rounds, ours, theirs


def _noise(work: _Work, sizes: dict[str, float], rounds: list[Round], ours: list[list[Tensor]]) -> None:
    """Copies of the base with noise read the same texts, and what the base says about some candidates."""
    copy = work.models.copy
    count = len(work.candidates.every)
    for number in range(work.how.copies):
        work.tell(f"copy {number + 1} of {work.how.copies} with noise")
        copy.alter = noise(sizes, work.how.seed, number)
        copy.load()
        seen = _look(work, copy)
        work.nulls.append(seen)
        theirs = asking.read_rounds(copy, rounds, work.way)
        copy.unload()
        if rounds:
            apart, _ = asking.drops_by_form(rounds, ours, theirs, count)
            there = np.isfinite(apart).any(axis=1)
            apart = _with_said(work, apart, seen)
            scores = pool_forms(_scores(apart, _unasked(work, seen), np.where(there, 1.0, 0.0)))[there]
            work.null_scores += scores[np.isfinite(scores)].tolist()


@dataclass(frozen=True, slots=True)
class _Ranked:
    forms: tuple[str, ...]
    screen: Float64
    scores: Float64
    plain: Float64
    mask: Float64
    chosen: list[int]


def _report(work: _Work, seen: Look, ranked: _Ranked) -> DiscoveryReport:
    models = work.models
    pooled, null = pool_forms(ranked.scores), np.array(work.null_scores, dtype=np.float64)
    p = candidate_p(pooled, ranked.mask, null, len(work.candidates.every))
    order = sorted(
        range(len(pooled)), key=lambda n: (_descending(float(pooled[n])), _descending(float(ranked.screen[n])), n)
    )
    rows = tuple(_row(work, ranked, pooled, p, number) for number in order)
    models.base.load()
    lost, gained = (kinds_of(of, seen, work.nulls, work.texts.kinds) for of in ("lost", "gained"))
    words = lost_words("lost", seen, lost, work.texts, models)
    found = topic_of(rows, words)
    if found:
        work.tell(f"both are asked about {found}")
    answers = ask_topic(models, found, work.way)
    outcome: Outcome = "trace" if found else "none"
    return replace(
        _nothing(work, seen),
        outcome=outcome,
        topic=found,
        ruin=work.ruin,
        kinds=text_kinds(seen, work.nulls, lost),
        words=words,
        gained=lost_words("gained", seen, gained, work.texts, models),
        candidates=rows,
        forms=ranked.forms,
        form_scores=ranked.scores[order],
        draws=np.arange(len(null)),
        null_scores=null,
        others=ranked.mask[order],
        answers=answers,
        copies=work.how.copies,
    )


def _descending(value: float) -> float:
    return math.inf if math.isnan(value) else -value


def _row(work: _Work, ranked: _Ranked, pooled: Float64, p: Float64, number: int) -> CandidateRow:
    one = work.candidates.every[number]
    known = ranked.plain[number][np.isfinite(ranked.plain[number])]
    return CandidateRow(
        name=one.name,
        has_text=bool(one.text),
        screen=float(ranked.screen[number]),
        asked=number in set(ranked.chosen),
        score=float(pooled[number]),
        drop=float(known.mean()) if len(known) else math.nan,
        p=float(p[number]),
    )


def _nothing(work: _Work, seen: Look) -> DiscoveryReport:
    """A report that names nothing."""
    models = work.models
    words: tuple[LostWord, ...] = ()
    kinds = kinds_of("lost", seen, [], work.texts.kinds)
    return DiscoveryReport(
        model_type=models.base.row.model_type,
        outcome="none",
        topic="",
        ruin=0.0,
        kinds=text_kinds(seen, [], kinds),
        words=words,
        gained=words,
        candidates=(),
        forms=(),
        form_scores=np.zeros((0, 0)),
        draws=np.zeros(0, np.int64),
        null_scores=np.zeros(0),
        others=np.zeros(0),
        answers=(),
        copies=0,
        counted=len(work.candidates.every),
        tokens=seen.rows,
        settings=_settings(work),
        notes=tuple(dict.fromkeys([*models.notes, *work.texts.notes, *_doubts(work)])),
    )


def _doubts(work: _Work) -> list[str]:
    counts = {kind: work.texts.kinds.count(kind) for kind in dict.fromkeys(work.texts.kinds)}
    few = [f"{count} {kind}" for kind, count in counts.items() if count < FEW]
    if not few:
        return []
    return [f"few texts of a kind ({', '.join(few)}): words are told from chance by {FEW} or more"]


def _settings(work: _Work) -> dict[str, str]:
    how, base = work.how, work.models.base
    return {
        "texts_source": work.texts.source,
        "candidates_source": work.candidates.source,
        "candidates_digest": work.candidates.digest,
        "length": str(how.length),
        "seed": str(how.seed),
        "copies": str(how.copies),
        "dtype": str(base.dtype).rpartition(".")[2],
        "device": base.device.type,
    }
