"""The behaviour of two models: greedy answers, multiple choice and neutral text. `prepare_behaviour`, then `run`.

Everything that can be refused is refused by `prepare_behaviour`, before a weight is read. Then one model after the
other answers, loaded whole or streamed a layer at a time: the base first, because the unlearned model is also measured
on the base's own answers. Of each only its answers, and what `forcing` keeps, stay when it leaves the memory.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING

import numpy as np
import torch

from ckdiff.probes import cost
from ckdiff.probes.base_answers import generate_answers, recall_or_make
from ckdiff.probes.behaviour.answer_scores import Said, answer_set
from ckdiff.probes.behaviour.beside import stand_beside
from ckdiff.probes.behaviour.choice_scores import choice_prompts, choice_records
from ckdiff.probes.behaviour.field_scores import given_prompts
from ckdiff.probes.behaviour.member_scores import holdout_set, member_prompts
from ckdiff.probes.behaviour.neutral_scores import neutral_records, perplexity, text_prompts
from ckdiff.probes.behind import read_answers
from ckdiff.probes.checks import PairError
from ckdiff.probes.forcing import Way, divergences, force, read_forced, read_spread
from ckdiff.probes.live.generation import context_length
from ckdiff.probes.preparation import DTYPES, ONE_QUESTION, prepare
from ckdiff.probes.sweep import SIDES
from ckdiff.probes.wording.remarks import recorded_date, silence
from ckdiff.progress import Listener
from ckdiff.questions.clusters import clusters_note
from ckdiff.questions.questions import QuestionSet
from ckdiff.report.schema.behaviour import AnswerSet, Behaviour, ChoiceSet, HoldOut, NeutralSet
from ckdiff.scoring.bleu import CHRF, bleu_signature
from ckdiff.scoring.means import mean
from ckdiff.scoring.scores import METHOD

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

    from ckdiff.cache import Cache
    from ckdiff.probes.behaviour.beside import NeverKnew
    from ckdiff.probes.forcing import Forced, Read, Spread
    from ckdiff.probes.live.model import LiveModel
    from ckdiff.probes.preparation import Job
    from ckdiff.probes.prompts import Prompt
    from ckdiff.questions.asked import Asked
    from ckdiff.scoring.settings import Settings
    from ckdiff.weights.checkpoint import Checkpoint
    from ckdiff.weights.making import Making


@dataclass(slots=True)
class AskJob:
    """Everything that is settled before a weight is read.

    Attributes:
        job: what `jobs.prepare` made of all open questions together.
        choices: prompts of every choice of every question.
        given: of each open question the file's answers that are scored beside the base's own.
        texts: prompts of the neutral texts.
        members: answers that are held against each other: `member_prompts`.
        notes: plain sentences for the report.
        way: how questions go through a model.
    """

    job: Job
    asked: Asked
    choices: list[Prompt]
    given: list[list[Prompt]]
    texts: list[Prompt]
    members: list[Prompt]
    notes: list[str]
    way: Way


@dataclass(frozen=True, slots=True)
class _Heard:
    """One model's answers, and how it reads the base's, the choices, the file's answers, the texts and the members."""

    answers: list[tuple[int, ...]]
    reads: list[Read]
    texts: Forced | None
    spreads: list[Spread]


def prepare_behaviour(base: Checkpoint, unlearned: Checkpoint, asked: Asked, settings: Settings) -> AskJob:
    """Everything that can be refused is refused here; of `settings` what is about probes alone is not looked at.

    Args:
        base: the model before.
        unlearned: the model after.
        asked: what both are asked.
        settings: how.

    Raises:
        CkdiffError: the pair, the questions or the settings do not allow it, or one model does not fit into memory.
    """
    sets = asked.open.values()
    together = QuestionSet(
        tuple(question for one in sets for question in one.questions),
        "open questions",
        "",
        tuple(dict.fromkeys(note for one in sets for note in one.notes)),
    )
    # The least probe there is: it checks the pair, the tokenizers and the prompts.
    least = replace(
        settings, modes=("coeff",), variants=("open",), directions=("restore",), window=1, layers=None, kl=True
    )
    least = replace(least, given_answers=False, controls=False)
    job = prepare(base, unlearned, together, least, [len(one.questions) for one in sets])
    asked = asked.narrow(job.kept)
    context = context_length(job.pair.base)
    choices = [] if asked.choices is None else choice_prompts(job.wording, asked.choices.questions)
    _check_choices(choices, context)
    texts, notes = (
        ([], ()) if asked.neutral is None else text_prompts(job.wording.encoder, asked.neutral.texts, context)
    )
    given = [prompts for one in asked.open.values() for prompts in given_prompts(job.wording, one.questions, context)]
    members = member_prompts(job.wording, asked, given, context)
    _check_ids(job, [*choices, *chain.from_iterable(given), *texts, *members])
    # What it says of a single question is about intervals and controls of a probe.
    own = [note for note in job.notes if note != ONE_QUESTION]
    notes = (*own, *(() if asked.neutral is None else asked.neutral.notes), *notes)
    task = AskJob(job, asked, choices, given, texts, members, list(notes), Way(settings.batch_size))
    return replace(task, way=_choose_way(task))


def _check_choices(choices: Sequence[Prompt], context: int | None) -> None:
    """Refuse multiple-choice questions that do not fit into a model's context, which None says has no end."""
    for prompt in choices:
        if context is not None and prompt.length > context:
            raise PairError(
                f"multiple-choice question {prompt.question.text[:60]!r}: {prompt.length} tokens do not fit into the"
                f" model's context of {context}; leave it out"
            )


def run(
    task: AskJob, making: Making, listener: Listener | None = None, reference: NeverKnew | None = None
) -> Behaviour:
    """Ask both models, one after the other, and put together what they said.

    Args:
        task: from `prepare_behaviour`.
        making: what the unlearned checkpoint says of its own making.
        listener: told of progress; its cache may know what the base answers.
        reference: asked as well, where there is one.

    Raises:
        NotFiniteError: a model computes NaN or infinity.
    """
    listener = listener or Listener()
    with torch.inference_mode():
        pair = task.job.pair
        heard = {"base": _ask_model(task, "base", pair.base, None, listener)}
        answers = heard["base"].answers
        heard["unlearned"] = _ask_model(task, "unlearned", pair.unlearned, answers, listener)
        if reference is not None:
            heard["reference"] = _ask_model(task, "reference", reference.live, answers, listener)
        listener.progress("numbers", 0, 1, "probabilities of both models")
        result = _assemble(task, heard, making, reference)
        listener.progress("numbers", 1, 1, "")
        return result


def _ask_model(
    task: AskJob,
    side: str,
    live: LiveModel,
    base_answers: list[tuple[int, ...]] | None,
    listener: Listener,
) -> _Heard:
    """Let one model answer, measure it on the base's answers, and give its layers' memory back."""
    job, way = task.job, task.way
    with _stage(listener, f"loading the {side}", len(live.layers)) as tick:
        live.load_ends()
        for number in range(0 if way.stream else len(live.layers)):
            live.load_layer(number)
            tick(number + 1)
    with _stage(listener, f"the {side} answers", job.settings.tokens if way.stream else len(job.prompts)) as tick:
        cache = listener.cache
        if side == "base" and cache is not None and not cache.both:
            found = _answer_by_set(task, live, cache, tick)
        else:
            kept = cache if cache is not None and cache.both and side in SIDES else None
            make = partial(generate_answers, live, job, job.prompts, way, tick)
            found = recall_or_make(job, job.prompts, way, kept, make, "base" if side == "base" else "unlearned")
    answers = [tuple(answer) for answer in found]
    given = _scored_prompts(task, base_answers or answers)
    with _stage(listener, f"the {side} reads", len(given)) as tick:
        reads = read_answers(live, given, way, tick)
    spreads, texts = [], None
    if task.members:
        with _stage(listener, f"the {side} reads hold-out answers", len(task.members)) as tick:
            spreads = read_spread(live, task.members, way, tick)
    if task.texts and side in SIDES:
        with _stage(listener, f"the {side} reads neutral texts", len(task.texts)) as tick:
            texts = force(live, task.texts, way, tick)
            reads += read_forced(texts, task.texts)
    for number in range(len(live.layers)):
        live.unload_layer(number)
    live.unload_embedding()
    return _Heard(answers, reads, texts, spreads)


def _answer_by_set(task: AskJob, live: LiveModel, cache: Cache, tick: Callable[[int], None]) -> list[list[int]]:
    """The base's answers, each set of questions by itself, so that others who ask one of them can use it."""
    job, way, found = task.job, task.way, list[list[int]]()
    for questions in task.asked.open.values():
        begun = len(found)
        prompts = job.prompts[begun : begun + len(questions.questions)]

        def make(prompts: Sequence[Prompt] = prompts, begun: int = begun) -> list[list[int]]:
            return generate_answers(live, job, prompts, way, None if way.stream else lambda done: tick(begun + done))

        found += recall_or_make(job, prompts, way, cache, make)
    return found


def _scored_prompts(task: AskJob, base_answers: Sequence[tuple[int, ...]]) -> list[Prompt]:
    """Prompts whose answers are scored: open questions with the base's answers, choices, then the file's answers."""
    answered = [replace(prompt, answer=answer) for prompt, answer in zip(task.job.prompts, base_answers, strict=True)]
    return [*answered, *task.choices, *chain.from_iterable(task.given)]


@contextmanager
def _stage(listener: Listener, name: str, total: int) -> Iterator[Callable[[int], None]]:
    """One stage of the work; gives what is called with how much of it is done."""
    listener.progress(name, 0, total, "")
    yield lambda done: listener.progress(name, done, total, "")
    listener.progress(name, total, total, "")


def _check_ids(job: Job, given: Sequence[Prompt]) -> None:
    rows = job.pair.base.model.get_input_embeddings().num_embeddings
    largest = max((max(prompt.ids + prompt.answer) for prompt in given), default=0)
    if largest >= rows:
        raise PairError(f"{job.pair.base.location}: its tokenizer makes id {largest}, its embedding has {rows} rows")


def _choose_way(task: AskJob) -> Way:
    """Stream or not: does one model fit, with the other's unembedding and what is kept of both?

    Raises:
        TooLittleMemoryError: it does not, not even one layer at a time.
    """
    job, live = task.job, task.job.pair.base
    settings, itemsize = job.settings, DTYPES[job.settings.dtype].itemsize
    head = live.model.get_submodule(live.row.sites.unembed).weight
    given = [*_scored_prompts(task, [(0,) * settings.tokens] * len(job.prompts)), *task.texts, *task.members]
    lengths = sorted(prompt.length for prompt in given)
    # The widest states inside a layer are those of its MLP.
    inner = max(8 * int(head.shape[1]), 4 * int(getattr(live.config, "intermediate_size", None) or 0))
    kept = head.numel() + 2 * sum(len(prompt.answer) for prompt in task.texts) * int(head.shape[1])
    kept += min(settings.batch_size, len(given)) * lengths[-1] * inner
    layers = [live.layer_bytes(number, itemsize) for number in range(len(live.layers))]
    whole = live.parameter_bytes(itemsize)
    waiting = min(sum(lengths) * int(head.shape[1]) * itemsize, job.room // 8)
    streamed = whole - sum(layers) + max(layers) + 2 * waiting
    stream = settings.stream == "on" or (settings.stream == "auto" and whole + kept * itemsize > job.room)
    needed = kept * itemsize + (streamed if stream else whole)
    if needed > job.room:
        hint = "a machine with more" if stream else "--stream on"
        raise cost.TooLittleMemoryError(
            f"{needed / 1e9:.3g} GB of memory are needed and {job.room / 1e9:.3g} GB can be used; use {hint},"
            " --dtype bfloat16, or a smaller --batch-size"
        )
    return Way(settings.batch_size, stream, job.room // 8)


def _assemble(task: AskJob, heard: Mapping[str, _Heard], making: Making, reference: NeverKnew | None) -> Behaviour:
    said = {side: _said(task, one) for side, one in heard.items()}
    opened, picked = len(task.job.prompts), len(task.job.prompts) + len(task.choices)
    texts = picked + sum(map(len, task.given))
    logprobs = {side: [read.log_p for read in one.reads] for side, one in heard.items()}
    sets, first = [], 0
    for name, questions in task.asked.open.items():
        part = slice(first, first + len(questions.questions))
        sets.append(answer_set(task.job, name, questions, part, said))
        first = part.stop
    alike = [
        f"{one.name} questions: {note}"
        for one in sets
        for note in clusters_note([row.cluster for row in one.questions])
    ]
    found = Behaviour(
        model_type=task.job.pair.base.row.model_type,
        answers=tuple(sets),
        choices=_choice_set(task, *(logprobs[side][opened:picked] for side in SIDES)),
        neutral=_neutral_set(task, heard, {side: logprobs[side][texts:] for side in SIDES}),
        method=making.method,
        history=making.history,
        settings=settings_record(task, sets),
        notes=tuple(dict.fromkeys((*task.notes, *alike, *_silences(task, sets), *making.notes))),
        holdout=_holdout(task, heard),
    )
    return found if reference is None else stand_beside(found, reference)


def _holdout(task: AskJob, heard: Mapping[str, _Heard]) -> HoldOut | None:
    asked, target = task.asked.holdout, task.asked.target
    if asked is None or target is None:
        return None
    return holdout_set(asked, len(target.questions), {side: one.spreads for side, one in heard.items()})


def _said(task: AskJob, heard: _Heard) -> Said:
    """What one model says to the open questions, and how it reads answers to them."""
    rest = iter(heard.reads[len(task.job.prompts) + len(task.choices) :])
    return Said(
        heard.answers, heard.reads[: len(task.job.prompts)], [list(islice(rest, len(one))) for one in task.given]
    )


def _choice_set(task: AskJob, base: Sequence[Tensor], unlearned: Sequence[Tensor]) -> ChoiceSet | None:
    asked = task.asked.choices
    if asked is None:
        return None
    rows, values = choice_records(asked.questions, base, unlearned)
    return ChoiceSet(
        name=asked.name,
        source=asked.source,
        digest=asked.digest,
        **{name: mean(found, 0, 1) for name, found in values.items()},
        chance=math.fsum(1 / len(row.choices) for row in rows) / len(rows),
        questions=rows,
    )


def _neutral_set(job: AskJob, said: Mapping[str, _Heard], logprobs: Mapping[str, list[Tensor]]) -> NeutralSet | None:
    asked = job.asked.neutral
    base, unlearned = (said[side].texts for side in SIDES)
    if asked is None or base is None or unlearned is None:
        return None
    kl = divergences(base, unlearned, job.texts)
    rows = neutral_records(job.texts, kl, logprobs["base"], logprobs["unlearned"])
    return NeutralSet(
        source=asked.source,
        digest=asked.digest,
        kl=mean(np.array([row.kl for row in rows]), 0),
        perplexity_base=perplexity(logprobs["base"]),
        perplexity_unlearned=perplexity(logprobs["unlearned"]),
        texts=rows,
    )


def _silences(task: AskJob, sets: Sequence[AnswerSet]) -> Iterator[str]:
    """Sets in which the base says nothing that another answer could be held against."""
    for one in sets:
        told = silence(task.job.tokenizer, [row.answer_base_ids for row in one.questions], f"{one.name} questions")
        yield from (f"{note}: BLEU and chrF against nothing are 0, or 1 where nothing comes again" for note in told)


def settings_record(task: AskJob, sets: Sequence[AnswerSet]) -> dict[str, str]:
    """The settings that determine the numbers, as the report keeps them."""
    settings, job = task.job.settings, task.job
    texts = [text for one in sets for row in one.questions for text in (row.answer_base, row.answer_unlearned)]
    attention = getattr(job.pair.base.config, "_attn_implementation", None) or "default"
    return {
        "tokens": str(settings.tokens),
        "prompt": settings.prompt,
        "answers": "greedy, of both models",
        "bleu": bleu_signature(texts),
        "chrf": CHRF,
        "dtype": settings.dtype,
        "logits_dtype": "float64" if settings.dtype == "float64" else "float32",
        "device": job.device.type,
        "attention": str(attention),
        "bootstrap": METHOD,
        **recorded_date(job.wording),
    }
