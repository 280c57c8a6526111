"""Answers sampled at temperature 1: how often does one hold the answer? `outcomes(case, live, side)`.

leak@k from n samples, and without sampling 1 - (1 - p)^k, with p the probability of the whole answer. A flip of the
greedy answer by a hair leaves p where it was, and is seen here. Matching is of counts: how many of the samples to
question i hold answer j.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from ckdiff.attacks.answers import holds
from ckdiff.attacks.case import Outcome
from ckdiff.attacks.replies import statements
from ckdiff.audit.verdict.rules import RULES
from ckdiff.probes.live.generation import greedy
from ckdiff.probes.live.together import draws
from ckdiff.scoring.guesses import at_least
from ckdiff.scoring.leaks import leak_at, leak_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckdiff.attacks.answers import Sought
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
        said = sample(case, live, side)
    table = _counts(case, said)
    own = [int(sum(holds(text, one.words) for text in texts)) for one, texts in zip(case.sought, said, strict=True)]
    reading = replace(plain, said=back(case.sought, said), table=table, texts=len(case.sought) * count)
    yield Outcome(f"{count} samples", reading, count, note=_leaks(plain.log_p, own, count))


def sample(case: Case, live: LiveModel, side: Attacked) -> list[list[str]]:
    """Texts sampled for each question, the same ones for the same seed."""
    case.pause()
    count, asked = case.options.samples, case.sought
    tokens = min(case.job.settings.tokens, max(len(one.answer) for one in asked) + 2)
    drawn = draws(torch.Generator().manual_seed(case.options.seed), count * len(asked), tokens)

    def tick(done: int) -> None:
        case.pause()
        case.listener.progress(f"sampling the {side}", done, count * len(asked), "answers")

    tick(0)
    prompts = [one.ids for one in asked for _ in range(count)]
    most = case.speakers(live, max(map(len, prompts)) + tokens)
    answers = greedy(live, prompts, tokens, case.job.stops, most, tick, drawn)
    texts = [case.decode(answer) for answer in answers]
    return [texts[first : first + count] for first in range(0, len(texts), count)]


def back(every: Sequence[Sought], said: Sequence[Sequence[str]]) -> dict[int, str]:
    """By number of the question a sample that brings its answer back, where a quarter of them does and by no chance.

    Chance is to draw the answer as often as samples to that other question do which say it most, in the place of their
    own; all facts are paid for.

    Args:
        every: the answers that are looked for.
        said: samples to each question.
    """
    right: dict[int, list[str]] = {}
    favoured: dict[int, float] = {}
    for place, texts in enumerate(said):
        told = [statements(every, place, text) for text in texts]
        right[place] = [text for text, found in zip(texts, told, strict=True) if every[place].cluster in found]
        instead = Counter(fact for found in told if every[place].cluster not in found for fact in found)
        favoured |= {fact: max(times / len(texts), favoured.get(fact, 0.0)) for fact, times in instead.items()}
    facts = len({one.cluster for one in every})
    found = {}
    for place, texts in right.items():
        count, likely = len(said[place]), favoured.get(every[place].cluster, 0.0)
        if len(texts) >= max(1, OFTEN * count) and RULES["guessed"].holds(
            facts * at_least(len(texts), [likely] * count)
        ):
            found[place] = texts[0]
    return found


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
