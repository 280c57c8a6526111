"""Candidates against each other: what the base says about each, and how much of it the unlearned model lost.

finalists = choose(screen, seed)                       # of many candidates the best, and others to measure them by
rounds = ask(models, candidates, finalists, how)       # every form, with the base's own answers
drops_by_form(rounds, base, other, count)              # [candidate, form]
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch

from ckdiff.discovery.candidates import FORMS, TEXT, prompts_about
from ckdiff.probes.behind import force_alike
from ckdiff.probes.forcing import logits_of, token_logprobs
from ckdiff.probes.prompts import Prompt
from ckdiff.probes.wording.wording import Wording
from ckdiff.questions.questions import Question
from ckdiff.scoring.discovery import form_drops, form_scores, pool_forms

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from ckdiff.discovery.candidates import Candidate, Form
    from ckdiff.discovery.opening import Models
    from ckdiff.probes.forcing import Forced, Way
    from ckdiff.probes.live.model import LiveModel
    from ckdiff.shapes import Float64, Int64

    Ids = list[tuple[int, ...]]
    Said = list[list[int]]

T = TypeVar("T")

SCREENED = 64
"""Up to so many candidates are all asked about."""
UNASKED = 16
"""Of many so many are asked about for what they lose where nobody is asked."""
NARROWED = 128
"""Of many so many, of which the same tells most, are screened."""
FINALISTS = 8
"""Of those that are screened so many are asked about as well."""
OTHERS = 16
"""So many of the rest are asked about to measure them by."""
NULL_CANDIDATES = 12
"""So many candidates go through the noisy copies."""
TOKENS = 12
"""Of an answer, at most."""
SCREEN_FORM = "plain"
"""The form whose prompts screen, without answers: it says least beside the name, and so costs least."""


@dataclass(frozen=True, slots=True)
class Round:
    """One form: its prompts with the base's answers, and the candidate of each."""

    form: str
    prompts: list[Prompt]
    owners: Int64


def forms_of(models: Models) -> tuple[Form, ...]:
    """The forms that this tokenizer can be asked in."""
    chat = bool(getattr(models.tokenizer, "chat_template", None))
    return tuple(form for form in FORMS if chat or not form.chat)


def wording_of(models: Models, form: Form) -> Wording:
    """How a form is written."""
    return Wording(models.tokenizer, form.template or "{q}", form.chat)


def screen_prompts(models: Models, candidates: Sequence[Candidate]) -> list[Prompt]:
    """A prompt for each candidate, whose positions from its name on are looked at.

    The names are told from the template by what two prompts have in common at their beginning.
    """
    form = next(one for one in FORMS if one.name == SCREEN_FORM)
    asked = wording_of(models, form).prompts([Question(text) for text in prompts_about(form, candidates)])
    prompts = list[Prompt]()
    for number, one in enumerate(asked):
        other = asked[number - 1].ids
        same = next((n for n, (a, b) in enumerate(zip(one.ids, other, strict=False)) if a != b), 0)
        first = max(1, min(same + 1, len(one.ids) - 1))
        prompts.append(Prompt(one.question, one.ids[:first], (*one.ids[first:], 0)))
    return prompts


def screen_scores(base: Forced, other: Forced, prompts: Sequence[Prompt]) -> Float64:
    """Mean KL(base || other) from each candidate's name on [candidate], over the median candidate's."""
    kl = torch.cat([_kl(a, b) for (_, a), (_, b) in zip(logits_of(base), logits_of(other), strict=True)])
    each = np.array([float(part.mean()) for part in kl.split([len(prompt.answer) for prompt in prompts])])
    found: Float64 = each / (float(np.median(each)) or 1.0)
    return found


def _kl(ours: Tensor, theirs: Tensor) -> Tensor:
    rows = min(ours.shape[1], theirs.shape[1])
    known, left = (side[:, :rows].log_softmax(-1) for side in (ours, theirs))
    return (known.exp() * (known - left)).sum(-1, dtype=torch.float64).clamp(min=0).cpu()


def choose(screen: Float64, seed: int, certain: Sequence[int] = ()) -> tuple[list[int], list[int]]:
    """Of many candidates those that are asked about, and those of them that the rest is measured by.

    The second ones are drawn from what screening did not choose, so that they are nobody's best.
    """
    order = np.argsort(-np.nan_to_num(screen, nan=-np.inf), kind="stable").tolist()
    best = list(dict.fromkeys([*order[:FINALISTS], *certain]))
    rest = [number for number in order if number not in best]
    picks = np.random.default_rng(seed).permutation(len(rest))[:OTHERS].tolist()
    others = sorted(rest[place] for place in picks)
    return sorted([*best, *others]), others


def best_unasked(unasked: Float64) -> list[int]:
    """The candidates by what they lose where nobody is asked, pooled over the forms; the best first.

    Args:
        unasked: [candidate, form].
    """
    pooled = pool_forms(form_scores(unasked, np.ones(len(unasked))))
    found: list[int] = np.argsort(-np.nan_to_num(pooled, nan=-np.inf), kind="stable").tolist()
    return found


def draw(chosen: list[int], others: list[int], seed: int) -> list[int]:
    """Candidates that go through the noisy copies."""
    rest = others or chosen
    picks = np.random.default_rng(seed).permutation(len(rest))[:NULL_CANDIDATES].tolist()
    return sorted(rest[place] for place in picks)


def ask(
    models: Models, candidates: Sequence[Candidate], chosen: Sequence[int], say: Callable[[list[Ids]], list[Said]]
) -> list[Round]:
    """What the base says about the chosen candidates in every form, and their own texts.

    Args:
        models: the two.
        candidates: all of them.
        chosen: numbers of those that are asked about.
        say: what makes the base's answers to the prompts of each form.
    """
    some, forms = [candidates[number] for number in chosen], forms_of(models)
    asked = [wording_of(models, form).prompts([Question(text) for text in prompts_about(form, some)]) for form in forms]
    rounds = []
    for form, part, said in zip(forms, asked, say([[one.ids for one in part] for part in asked]), strict=True):
        pairs = [(replace(one, answer=tuple(ids)), n) for one, ids, n in zip(part, said, chosen, strict=True) if ids]
        rounds.append(Round(form.name, [one for one, _ in pairs], np.array([n for _, n in pairs], dtype=np.int64)))
    told = [number for number in chosen if candidates[number].text]
    if told:
        rounds.append(_text_round(models, candidates, told))
    return [one for one in rounds if one.prompts]


def _text_round(models: Models, candidates: Sequence[Candidate], told: Sequence[int]) -> Round:
    most = min(models.context or 256, 256)
    cut = [(models.wording.encoder.ids(candidates[number].text)[:most], number) for number in told]
    kept = [(Prompt(Question(""), ids[:1], ids[1:]), number) for ids, number in cut if len(ids) > 1]
    return Round(TEXT, [one for one, _ in kept], np.array([number for _, number in kept], dtype=np.int64))


def read_rounds(live: LiveModel, rounds: Sequence[Round], way: Way) -> list[list[Tensor]]:
    """By round and prompt log p of each token of the answer; the model must be loaded."""
    every = [prompt for one in rounds for prompt in one.prompts]
    found = iter(token_logprobs(force_alike(live, every, way), every)) if every else iter(())
    return [[next(found) for _ in one.prompts] for one in rounds]


def drops_by_form(
    rounds: Sequence[Round], base: Sequence[Sequence[Tensor]], other: Sequence[Sequence[Tensor]], count: int
) -> tuple[Float64, Float64]:
    """Drops of each candidate in each form [candidate, form]: a difference of differences, and plain."""
    if not rounds:
        return np.zeros((count, 0)), np.zeros((count, 0))
    apart, plain = [], []
    for one, ours, theirs in zip(rounds, base, other, strict=True):
        drops = [(a - b).numpy() for a, b in zip(ours, theirs, strict=True)]
        tokens = [np.array(prompt.answer, dtype=np.int64) for prompt in one.prompts]
        apart.append(form_drops(drops, tokens, one.owners, count))
        column = np.full(count, np.nan)
        column[one.owners] = [part.mean() for part in drops]
        plain.append(column)
    return np.stack(apart, 1), np.stack(plain, 1)


def narrow(
    rounds: Sequence[Round], read: Sequence[Sequence[T]], kept: Sequence[int]
) -> tuple[list[Round], list[list[T]]]:
    """The same rounds about these candidates alone, and what was read in them."""
    numbers, found, parts = set(kept), list[Round](), list[list[T]]()
    for one, logs in zip(rounds, read, strict=True):
        places = [place for place, owner in enumerate(one.owners.tolist()) if owner in numbers]
        if places:
            found.append(Round(one.form, [one.prompts[place] for place in places], one.owners[places]))
            parts.append([logs[place] for place in places])
    return found, parts
