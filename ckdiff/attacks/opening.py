"""How attacks begin: `begin_case(task, options, listener, known)`, then `read_plain(case, live, side)` of each model.

The base answers, what is looked for is settled, and each model says and reads what it does by itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from ckdiff.attacks.answers import sought
from ckdiff.attacks.case import UNRELATED, UNRELATED_TOKENS, AttackError, Case
from ckdiff.attacks.kept import Side
from ckdiff.errors import CkdiffError
from ckdiff.probes.base_answers import generate_answers
from ckdiff.probes.checks import check_tokenizers
from ckdiff.probes.live.model import LiveModel
from ckdiff.probes.live.pretrained import load_tokenizer
from ckdiff.probes.preparation import DTYPES
from ckdiff.probes.prompts import Prompt
from ckdiff.questions.clusters import clusters_note, find_clusters
from ckdiff.scoring.matching import LEAST, flat, groups_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ckdiff.attacks.answers import Sought
    from ckdiff.attacks.case import Options
    from ckdiff.attacks.kept import Kept
    from ckdiff.probes.behaviour.behaviour import AskJob
    from ckdiff.progress import Listener
    from ckdiff.report.schema.attack import Attacked
    from ckdiff.shapes import Float64
    from ckdiff.weights.checkpoint import Checkpoint


def open_reference(task: AskJob, reference: Checkpoint) -> tuple[LiveModel, list[str]]:
    """The reference as a live model, whose ids mean the same; its shape may be another.

    Raises:
        AttackError: it has another tokenizer, or too few tokens.
    """
    settings = task.job.settings
    live = LiveModel(reference, DTYPES[settings.dtype], task.job.device, settings.attention)
    try:
        notes = check_tokenizers(task.job.tokenizer, load_tokenizer(reference.root))
    except CkdiffError as error:
        raise AttackError(str(error).replace("unlearned checkpoint", "reference")) from error
    rows = _rows(live)
    # Answers are the base's: any id that it can give.
    if rows < min(_rows(task.job.pair.base), max(task.job.tokenizer.get_vocab().values()) + 1):
        raise AttackError(f"{reference.location} has {rows} tokens, too few for the base's tokenizer")
    return live, [note.replace("unlearned checkpoint", "reference") for note in notes]


def _rows(live: LiveModel) -> int:
    return int(live.model.get_input_embeddings().num_embeddings)


def begin_case(
    task: AskJob, options: Options, listener: Listener, known: Sequence[Sequence[int]] | None
) -> tuple[Case, list[str]]:
    """The base answers, and what is looked for is settled."""
    job, base = task.job, task.job.pair.base
    target = task.asked.target
    assert target is not None
    prompts = job.prompts[: len(target.questions)]
    case = Case(task, [], [], options, listener)
    if known is None:
        with case.loaded(base):
            known = _say(case, base, "base", prompts, job.settings.tokens)
    case.said = known
    given: list[tuple[int, ...] | None] = [None] * len(prompts)
    if all((one.answer or "").strip() for one in target.questions):
        given = [one.answer for one in job.wording.answered(target.questions, job.settings.tokens)]
    texts = [one.answer or job.decode(ids) for one, ids in zip(target.questions, known, strict=True)]
    clusters = find_clusters(target.questions, texts)
    every = sought(job.tokenizer, prompts, known, given, clusters, job.stops)
    notes = clusters_note(clusters)
    silent = [one for one in every if not one.answer]
    if len(silent) == len(every):
        raise AttackError("the base says nothing to any of the questions; nothing can come back")
    if silent:
        notes.append(f"{len(silent)} of {len(every)} questions were left out: the base says nothing to them")
    case.places = [place for place, one in enumerate(every) if one.answer]
    case.sought = _numbered([every[place] for place in case.places])
    case.groups = _groups(case.sought)
    if len(case.groups) == 0 or len(flat(case.groups)) < LEAST:
        notes.append(
            f"matching was not measured: it takes {LEAST} facts or more whose answers are of one form and hold words"
            f" that no question holds; there are {len(flat(case.groups))}"
        )
    uncounted = sum(not one.counts for one in case.sought)
    if uncounted:
        notes.append(
            f"{uncounted} answers prove nothing when they come back word for word: their own question holds them, or"
            " another question has the same one"
        )
    return case, notes


def _numbered(every: Sequence[Sought]) -> list[Sought]:
    """The same with clusters 0, 1, ... without gaps."""
    order = list(dict.fromkeys(one.cluster for one in every))
    return [replace(one, cluster=order.index(one.cluster)) for one in every]


def _groups(every: Sequence[Sought]) -> list[list[int]]:
    """Clusters that can be matched, by the kinds that the file names; where those leave too few, by form."""
    first: dict[int, Sought] = {}
    for one in every:
        if one.scored:
            first.setdefault(one.cluster, one)
    numbers = list(first)
    groups = groups_of([one.kind for one in first.values()])
    if len(flat(groups)) < LEAST:
        groups = groups_of([one.form for one in first.values()])
    return [[numbers[place] for place in group] for group in groups]


def read_plain(case: Case, live: LiveModel, side: Attacked) -> None:
    """A model's own answers, and what it makes of the questions as they are asked."""
    with case.loaded(live):
        if side == "base":
            # It has said them, or somebody knows what it says.
            said = [list(case.said[place]) for place in case.places]
            if side not in case.own:
                _say(case, live, side, [], 0)
        else:
            said = _say(case, live, side, [Prompt(one.question, one.ids) for one in case.sought], case.tokens)
        case.answers[side] = [case.decode(ids[: case.tokens]) for ids in said]
        reading = case.read(live, side, beside=False)
    found = case.hits(case.answers[side], reading.said)
    # Its own greedy answers are what it says first.
    case.plain[side] = replace(reading, said=found, unrelated=1.0 if case.own[side] else float("nan"))


def _say(case: Case, live: LiveModel, side: Attacked, prompts: Sequence[Prompt], tokens: int) -> list[list[int]]:
    """A model's greedy answers; beside them it answers the unrelated questions, since a step of more costs no more."""
    unrelated, fewest = case.unrelated[:UNRELATED], min(case.job.settings.tokens, UNRELATED_TOKENS)
    job = replace(case.job, settings=replace(case.job.settings, tokens=max(tokens, fewest)))
    said = generate_answers(live, job, [*prompts, *unrelated], case.way)
    case.own[side] = [
        replace(prompt, answer=tuple(ids[:fewest])) for prompt, ids in zip(unrelated, said[len(prompts) :], strict=True)
    ]
    return [ids[:tokens] for ids in said[: len(prompts)]]


def recall_plain(case: Case, live: LiveModel, side: Attacked, kept: Kept) -> None:
    """The same, done already or done now."""
    if side not in kept.sides:
        if side not in case.plain:
            read_plain(case, live, side)
        own = [list(one.answer) for one in case.own[side]]
        kept.sides[side] = Side(own, case.answers[side], case.plain[side])
    one = kept.sides[side]
    asked = zip(case.unrelated[:UNRELATED], one.own, strict=True)
    case.own[side] = [replace(prompt, answer=tuple(ids)) for prompt, ids in asked]
    case.answers[side], case.plain[side] = one.answers, one.plain


def read_floor(case: Case, live: LiveModel) -> Float64:
    """The table of a base whose value vectors are all zero: it can repeat words, and knows nothing that MLPs hold."""
    kinds = live.components()

    def without(name: str, value: Tensor) -> Tensor:
        return torch.zeros_like(value) if kinds[name] == "value_vectors" else value

    with case.loaded(live, without):
        return case.read(live, "base", beside=False).table
