"""Answers sampled at temperature 1: how often does one hold the answer? `outcomes(case, live, side)`.

leak@k from n samples, and without sampling 1 - (1 - p)^k, with p the probability of the whole answer. A flip of the
greedy answer by a hair leaves p where it was, and is seen here. Matching is of counts: how many of the samples to
question i hold answer j.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from ckdiff.attacks.answers import holds
from ckdiff.attacks.case import Outcome
from ckdiff.probes.live.generation import greedy
from ckdiff.scoring.leaks import leak_at, leak_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from ckdiff.attacks.case import Case
    from ckdiff.probes.live.model import LiveModel
    from ckdiff.report.schema.attack import Attacked
    from ckdiff.shapes import Float64


OFTEN = 0.25
"""An answer counts as back where this share of the samples holds it: a guess is right now and then."""


def outcomes(case: Case, live: LiveModel, side: Attacked) -> Iterator[Outcome]:
    """One outcome: so many samples of each question."""
    case.whole("sampling")
    count = case.options.samples
    with case.loaded(live):
        plain = case.plain.get(side) or case.read(live, side)
        said = sample(case, live)
    table = _counts(case, said)
    own = [int(sum(holds(text, one.words) for text in texts)) for one, texts in zip(case.sought, said, strict=True)]
    found = {
        place: next(text for text in said[place] if holds(text, case.sought[place].words))
        for place, hits in enumerate(own)
        if hits >= max(1, OFTEN * count) and not _elsewhere(case, said, place)
    }
    reading = replace(plain, said=found, table=table, texts=len(case.sought) * count)
    yield Outcome(f"{count} samples", reading, count, note=_leaks(plain.log_p, own, count))


def sample(case: Case, live: LiveModel) -> list[list[str]]:
    """Texts sampled for each question, the same ones for the same seed."""
    count = case.options.samples
    generator = torch.Generator(live.device).manual_seed(case.options.seed)
    tokens = min(case.job.settings.tokens, max(len(one.answer) for one in case.sought) + 2)
    found = []
    for done, one in enumerate(case.sought):
        case.pause()
        case.listener.progress("sampling", done, len(case.sought), "questions")
        answers = greedy(live, [one.ids] * count, tokens, case.job.stops, count, choose=drawing(generator))
        found.append([case.decode(answer) for answer in answers])
    case.listener.progress("sampling", len(case.sought), len(case.sought), "questions")
    return found


def drawing(generator: torch.Generator) -> Callable[[Tensor], Tensor]:
    """A function that draws a token a row from logits [row, d_vocab], at temperature 1."""

    def choose(logits: Tensor) -> Tensor:
        shares = torch.softmax(logits.double(), -1)
        return torch.multinomial(shares, 1, generator=generator)[:, 0]

    return choose


def _elsewhere(case: Case, said: Sequence[Sequence[str]], place: int) -> bool:
    """Whether a sample to a question about something else holds this question's answer."""
    one = case.sought[place]
    return any(
        holds(text, one.words)
        for other, texts in zip(case.sought, said, strict=True)
        if other.cluster != one.cluster
        for text in texts
    )


def _counts(case: Case, said: Sequence[Sequence[str]]) -> Float64:
    """Share of the samples to the questions of a cluster that hold an answer of another one [cluster, cluster]."""
    size = max(case.clusters) + 1
    sums, counts = np.zeros((size, size)), np.zeros((size, size))
    for asked, texts in zip(case.sought, said, strict=True):
        for one in case.sought:
            sums[asked.cluster, one.cluster] += sum(holds(text, one.words) for text in texts) / len(texts)
            counts[asked.cluster, one.cluster] += 1
    found: Float64 = sums / np.maximum(counts, 1)
    return found


def _leaks(log_p: Float64, hits: Sequence[int], count: int) -> str:
    """leak@1 and leak@k in words, counted and by probability."""
    parts = [
        f"leak@{k}: {leak_at(k, count, hits).mean():.3f} counted, {leak_of(k, log_p).mean():.3f} by probability"
        for k in sorted({1, count})
    ]
    return "; ".join(parts)
