"""The section of a report that depth makes: `run(job, reference, how, listener)`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ckdiff.errors import CkdiffError
from ckdiff.probes.base_answers import library_versions
from ckdiff.probes.checks import check_models, check_tokenizers
from ckdiff.probes.depth.kept import load, save
from ckdiff.probes.depth.runs import MODELS, How, Trio, measure
from ckdiff.probes.live.model import LiveModel
from ckdiff.probes.live.pretrained import load_tokenizer
from ckdiff.probes.preparation import DTYPES, WIDE, chunk_of, settings_record
from ckdiff.probes.probe import find_answers
from ckdiff.progress import Listener
from ckdiff.report.schema.depth import DepthQuestion, DepthReport
from ckdiff.scoring.depth import depths, mean_depth, shares

if TYPE_CHECKING:
    from pathlib import Path

    from ckdiff.probes.depth.runs import Drops, Keep, Mark
    from ckdiff.probes.preparation import Job
    from ckdiff.probes.prompts import Prompt
    from ckdiff.shapes import Float64
    from ckdiff.weights.checkpoint import Checkpoint

SHARE = 0.8
"""Of the memory that may be used, what the weights of three models may take."""
DEEP = 8
"""Layers below which the first one may hold facts."""
EARLY = 1 / 3
"""Of the whole cost of the reference's states: as much behind the first layer is no knowledge that it lacks."""
OF_A_PROBE = ("modes", "variants", "directions", "window", "layers", "kl")
"""Settings of a probe that say nothing here."""


class DepthError(CkdiffError):
    """Three models whose states cannot be put into each other's place, or that say nothing."""


@dataclass(frozen=True, slots=True)
class Beside:
    """The model that never knew.

    Attributes:
        checkpoint: its headers read.
        kind: how it came about, or "".
        digest: over its weight files, or "".
    """

    checkpoint: Checkpoint
    kind: str = ""
    digest: str = ""


def open_reference(job: Job, reference: Checkpoint) -> tuple[LiveModel, list[str]]:
    """The reference as a live model of the base's shape whose ids mean the same, and notes.

    Raises:
        DepthError: it is of another shape, or has another tokenizer.
    """
    settings = job.settings
    live = LiveModel(reference, DTYPES[settings.dtype], job.device, settings.attention)
    try:
        notes = [
            *check_models(job.pair.base, live),
            *check_tokenizers(job.tokenizer, load_tokenizer(reference.root)),
        ]
    except CkdiffError as error:
        text = str(error).replace("unlearned checkpoint", "reference")
        raise DepthError(f"--reference: {text}; attacks go on without that") from error
    words = (("unlearned checkpoint", "reference"), ("unlearned model", "reference"))
    for old, new in words:
        notes = [note.replace(old, new) for note in notes]
    return live, notes


@dataclass(frozen=True, slots=True)
class Keeping:
    """Where an unfinished depth is kept.

    Attributes:
        place: the file.
        weights: tells the weights of all three models from others.
        resume: go on with what is there.
    """

    place: Path
    weights: str
    resume: bool = False


def run(
    job: Job,
    reference: LiveModel,
    beside: Beside,
    listener: Listener | None = None,
    compat: bool = False,
    keeping: Keeping | None = None,
) -> DepthReport:
    """Patch the base with the states of the unlearned model and of the reference, and say how deep it goes.

    Args:
        job: from `prepare`.
        reference: from `open_reference`.
        beside: what is recorded of it.
        listener: told of progress, asked whether to stop.
        compat: patch the last layer behind the final norm.
        keeping: where what is done is kept, if anywhere.

    Raises:
        Stopped: the listener asked for it; what was done is kept.
        CkdiffError: the base says nothing, or memory does not suffice.
    """
    listener = listener or Listener()
    with torch.inference_mode():
        key = "" if keeping is None else _key(job, keeping.weights, compat)
        kept = load(keeping.place, key, job.device) if keeping is not None and keeping.resume else None
        answers = find_answers(job, listener, None if kept is None else kept[0])
        job.prompts, notes = _asked(job.prompts)
        places = [tokens_of(job.tokenizer, prompt) for prompt in job.prompts]
        notes += _without_span(job.prompts, places)
        trio = Trio(job.pair.base, job.pair.unlearned, reference)
        how, mark = how_of(job, trio, compat), None if kept is None else kept[1]
        keep = None if keeping is None else _keeper(keeping.place, key, answers, listener)
        found = measure(trio, job.prompts, how, listener, places, mark, keep)
    return _report(job, found, places, beside, compat, notes)


def _keeper(place: Path, key: str, answers: list[list[int]], listener: Listener) -> Keep:
    """Keeps how far it has come; where there is no room, the depth goes on and starts anew if it is interrupted."""

    def keep(mark: Mark) -> None:
        try:
            save(place, key, answers, mark)
        except Exception as error:
            listener.remark(
                f"{place}: what is done could not be kept ({str(error)[:100]}); free some disk to use --resume"
            )

    return keep


def _key(job: Job, weights: str, compat: bool) -> str:
    """Digest of everything that determines the numbers."""
    how = [settings_record(job), weights, compat, library_versions(), torch.get_num_threads(), job.settings.batch_size]
    text = json.dumps([*how, [prompt.ids for prompt in job.prompts]])
    return hashlib.sha256(text.encode()).hexdigest()


def how_of(job: Job, trio: Trio, compat: bool) -> How:
    """How three models go through: streamed where they do not fit together; needs the answers."""
    size = sum(trio.of(name).parameter_bytes(DTYPES[job.settings.dtype].itemsize) for name in MODELS)
    streamed = job.stream or (job.settings.stream == "auto" and size > SHARE * job.room)
    return How(job.settings.batch_size, streamed, max(1 << 28, job.room // 4), chunk_of(job), compat)


def _asked(prompts: list[Prompt]) -> tuple[list[Prompt], list[str]]:
    """Those that have an answer.

    Raises:
        DepthError: none has.
    """
    kept = [prompt for prompt in prompts if prompt.answer]
    if not kept:
        raise DepthError("the base says nothing to any of the questions; there is nothing to patch")
    left = len(prompts) - len(kept)
    return kept, [f"{left} of {len(prompts)} questions were left out: the base says nothing to them"] if left else []


def tokens_of(tokenizer: Any, prompt: Prompt) -> tuple[int, ...]:
    """Numbers of the answer's tokens that are patched: those of the file's span where the answer holds it, else all."""
    question, every = prompt.question, tuple(range(len(prompt.answer)))
    if question.span is None or question.answer is None:
        return every
    said = [_text(tokenizer, prompt.answer[:count]) for count in range(len(every) + 1)]
    wanted = question.answer[slice(*question.span)].strip().casefold()
    first = said[-1].casefold().find(wanted) if wanted else -1
    if first < 0:
        return every
    last = first + len(wanted)
    return tuple(n for n in every if len(said[n]) < last and len(said[n + 1]) > first) or every


def _without_span(prompts: list[Prompt], places: list[tuple[int, ...]]) -> list[str]:
    marked = [
        len(chosen) == len(prompt.answer)
        for prompt, chosen in zip(prompts, places, strict=True)
        if prompt.question.span is not None
    ]
    missing = sum(marked)
    return (
        [f"{missing} of {len(marked)} spans are not a part of their scored answer: all of it was scored"]
        if missing
        else []
    )


def _text(tokenizer: Any, ids: tuple[int, ...]) -> str:
    return str(tokenizer.decode(list(ids), skip_special_tokens=True))


def _report(
    job: Job, found: Drops, places: list[tuple[int, ...]], beside: Beside, compat: bool, notes: list[str]
) -> DepthReport:
    clusters = [prompt.cluster for prompt in job.prompts]
    patched, lens = found.patched, found.lens
    questions = _questions(job, found, places)
    own = [note for note in job.notes if not note.startswith(WIDE)]
    by_layer = [mean_depth(row, clusters) for row in shares(*patched.values())]
    return DepthReport(
        model_type=job.pair.base.row.model_type,
        depth=mean_depth(depths(*patched.values()), clusters),
        depth_lens=mean_depth(depths(*lens.values()), clusters),
        questions=questions,
        layers=np.arange(len(job.pair.base.layers)),
        share=np.array([one.value for one in by_layer]),
        share_low=np.array([one.low for one in by_layer]),
        share_high=np.array([one.high for one in by_layer]),
        drop_unlearned=patched["unlearned"],
        drop_reference=patched["reference"],
        lens_unlearned=lens["unlearned"],
        lens_reference=lens["reference"],
        reference=beside.checkpoint.location,
        reference_digest=beside.digest,
        reference_kind=beside.kind,
        compat=compat,
        settings={key: value for key, value in settings_record(job).items() if key not in OF_A_PROBE},
        notes=tuple(dict.fromkeys([*own, *notes, *doubts_of(questions), *early_cost(patched["reference"])])),
    )


def _questions(job: Job, found: Drops, places: list[tuple[int, ...]]) -> tuple[DepthQuestion, ...]:
    own, own_lens = depths(*found.patched.values()), depths(*found.lens.values())
    layers = np.isfinite(shares(*found.patched.values())).sum(axis=0)
    return tuple(
        DepthQuestion(
            text=prompt.question.text,
            answer=_text(job.tokenizer, prompt.answer),
            answer_ids=prompt.answer,
            places=places[n],
            cluster=prompt.cluster,
            layers=int(layers[n]),
            depth=float(own[n]),
            depth_lens=float(own_lens[n]),
            log_p_base=float(found.level["base"][n]),
            log_p_unlearned=float(found.level["unlearned"][n]),
            log_p_reference=float(found.level["reference"][n]),
            given_unlearned=bool(found.given["unlearned"][n]),
            given_reference=bool(found.given["reference"][n]),
        )
        for n, prompt in enumerate(job.prompts)
    )


def doubts_of(questions: tuple[DepthQuestion, ...]) -> list[str]:
    """What speaks against the reference."""
    said = sum(one.given_reference for one in questions)
    silent = sum(one.layers == 0 for one in questions)
    notes = []
    if said:
        notes.append(f"the reference gives {said} of {len(questions)} answers itself: it may know the topic after all")
    if silent:
        notes.append(
            f"{silent} of {len(questions)} questions say nothing: the reference's states cost the base no answer"
        )
    return notes


def early_cost(costs: Float64) -> list[str]:
    """What speaks against a reference whose states are foreign to the base from the first layer on.

    Of a model of `DEEP` layers or more, where the state behind the first layer costs `EARLY` of what the last one's
    does: hardly a fact is held there, so that something else than the topic tells the two apart.

    Args:
        costs: what the state of the reference behind each layer costs each answer [layer, question], in nats a token.
    """
    first, last = (float(np.mean(costs[place])) for place in (0, -1))
    if len(costs) < DEEP or not first >= EARLY * last > 0:
        return []
    return [
        f"the reference's states cost {first:.1f} of {last:.1f} nats a token from the first layer on, where hardly a"
        " fact is held: it is a poor zero, beside which depth is too small; take another reference"
    ]
