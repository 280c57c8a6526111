"""A base, texts and a recipe in, a checkpoint out: `make(base, inputs, recipe, output)`.

The order of the work: refuse what cannot be; texts to ids; the base's own answers; training; the checkpoint, written
beside its place; its answers, measured on what was written; then, and only then, the move to its place.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

from ckdiff.locks import BusyError, alone
from ckdiff.probes.checks import check_lengths
from ckdiff.probes.live.generation import context_length, stop_tokens
from ckdiff.probes.live.model import LiveModel
from ckdiff.probes.live.pretrained import load_tokenizer
from ckdiff.probes.preparation import device_of
from ckdiff.probes.wording.wording import Wording
from ckdiff.progress import Listener, Stopped
from ckdiff.unlearn import needle, saving
from ckdiff.unlearn.choosing import choose_texts
from ckdiff.unlearn.measuring import Gauge, start
from ckdiff.unlearn.methods import METHODS, choose_retain
from ckdiff.unlearn.objective import Objective
from ckdiff.unlearn.recipe import NEEDLE, RecipeError, check_installed
from ckdiff.unlearn.session import (
    KEY,
    Unlearning,
    busy,
    check_memory,
    check_place,
    clear_place,
    digest,
    key_of,
    note_made,
    settings_of,
    sweep_made,
)
from ckdiff.unlearn.steering import choose_steering, want_gradients
from ckdiff.version import __version__
from ckdiff.weights.opening import open_checkpoint
from ckdiff.weights.reader import read_json

if TYPE_CHECKING:
    from pathlib import Path

    from ckdiff.unlearn.inputs import Inputs
    from ckdiff.unlearn.recipe import Recipe
    from ckdiff.weights.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class Made:
    """A checkpoint that was made.

    Attributes:
        output: its directory.
        record: what `unlearning.json` beside its weights says.
        diverged: why it is not what was asked for, or "".
    """

    output: Path
    record: dict[str, Any]
    diverged: str = ""

    @property
    def unchanged(self) -> bool:
        """Whether the saved model is the base, bit for bit."""
        return bool(self.record["digest"] == self.record["base_digest"])


class UnlearningStopped(Stopped):
    """The user asked to stop, and what was done is kept."""


def make(
    base: Checkpoint,
    inputs: Inputs,
    recipe: Recipe,
    output: Path,
    listener: Listener | None = None,
    resume: bool = False,
) -> Made:
    """Unlearn, and write the checkpoint.

    Args:
        base: the model before.
        inputs: texts and questions.
        recipe: how.
        output: a directory that is not there yet.
        listener: told of progress, asked whether to stop.
        resume: go on with an interrupted training to the same output.

    Raises:
        CkdiffError: what was given does not allow it; nothing has been written.
        DivergedError: the loss was no longer finite before anything was measured.
        UnlearningStopped: the listener asked for it.
    """
    recipe.check()
    work = Unlearning(base, inputs, recipe, output, listener or Listener())
    made = sweep_made(output)
    if resume and made is not None and made["key"] == key_of(work):
        return Made(output, made["record"], made["diverged"])
    saving.check_output(output)
    saving.check_savable(base)
    return _needle(work) if recipe.method == NEEDLE else _train(work, resume)


def _needle(work: Unlearning) -> Made:
    import numpy as np

    recipe = work.recipe
    pieces = needle.value_vectors(work.base)
    generator = np.random.default_rng([recipe.seed])
    neurons = needle.choose_neurons(pieces, recipe.neurons, recipe.count, generator)
    work.notes.append(f"changed value vectors: {', '.join(f'{layer}:{neuron}' for layer, neuron in neurons)}")
    asked = work.inputs.target is not None or work.inputs.unrelated is not None
    gauge = _gauge(work)[0] if asked else None
    folder = _staging_folder(work)
    with _clear(folder):
        saving.write(work.base, folder, needle.edit_neurons(work.base, pieces, neurons, recipe.noise, recipe.seed))
        settings = {"noise": recipe.noise, "seed": recipe.seed, "neurons": [list(pair) for pair in neurons]}
        point = {"step": 1, "epoch": 0.0, "loss": math.nan}
        history = [] if gauge is None else _save(work, gauge, folder, point, [])
        return _finish(work, folder, settings, history, "", "")


def _train(work: Unlearning, resume: bool) -> Made:
    check_installed()
    from ckdiff.unlearn.trainer import precision

    recipe, method = work.recipe, METHODS[work.recipe.method]
    saving.check_trainable(work.base)
    key = key_of(work)
    check_place(work, key, resume)
    gauge, live = _gauge(work)
    retain_loss, weight = choose_retain(recipe)
    forget, retain, preferred = choose_texts(work, gauge, live)
    needs_retain = weight > 0 or (bool(method.preferred) and not preferred)
    if needs_retain and not retain:
        raise RecipeError(f"--retain: {recipe.method} needs text to hold on to; name a file, or --retain-loss none")
    twin = None
    if method.reads == "logits" or (weight > 0 and retain_loss != "ce"):
        twin = LiveModel(work.base, torch.float32, live.device)
    check_memory(work, live, twin is not None, [*forget, *retain, *preferred], needs_retain, bool(preferred))
    if twin is not None:
        twin.load()
    work.listener.progress("base", 0, 1, "the base reads the texts")
    live.model.eval()
    arithmetic = partial(precision, recipe, live.device)
    steering = choose_steering(live, forget, recipe, arithmetic) if method.reads == "states" else None
    want_gradients(live, steering)
    beta = recipe.beta or method.beta or 0.0
    objective = Objective(
        live, twin, method, forget, retain if needs_retain else [], preferred, retain_loss, weight,
        beta, recipe.limit, recipe.seed, recipe.batch_size, recipe.margin or 0.0, steering,
    )  # fmt: skip
    objective.ask_base(recipe.batch_size, arithmetic)
    work.listener.progress("base", 1, 1, "")
    work.place.mkdir(exist_ok=True)
    try:
        with alone(work.place, wait=False):
            (work.place / KEY).write_text(json.dumps(key), encoding="utf-8")
            return _run(work, objective, gauge, resume)
    except BusyError as error:
        raise busy(work.place) from error


def _run(work: Unlearning, objective: Objective, gauge: Gauge, resume: bool) -> Made:
    """Train, write and measure; the work directory is ours alone meanwhile."""
    from ckdiff.unlearn.trainer import CLIP, DivergedError, train

    recipe, live = work.recipe, objective.live
    lr = objective.method.lr if recipe.lr is None else recipe.lr
    try:
        watch, diverged = train(objective, recipe, lr, gauge, work.place, work.listener, resume)
    except DivergedError:
        shutil.rmtree(work.place, ignore_errors=True)
        raise
    if watch.interrupted:
        raise UnlearningStopped
    folder = _staging_folder(work)
    with _clear(folder):
        saving.write(work.base, folder, ((name, value.float().cpu().numpy()) for name, value in live.stored_values()))
        last = {**watch.points[-1], "state": "saved"}
        before = [point for point in watch.points if point["state"] == "memory" or point["step"] != last["step"]]
        history = _save(work, gauge, folder, last, before)
        losses = {"lr": lr, "retain_loss": objective.retain_loss, "retain_weight": objective.weight, "clip": CLIP}
        settings = {**losses, **settings_of(recipe), "beta": objective.beta or None}
        if objective.steering is not None:
            settings |= {"layer": objective.steering.layer, "steering": objective.steering.length}
        made = _finish(work, folder, settings, history, watch.reason, "" if diverged is None else str(diverged))
    clear_place(work.place)
    return made


def _gauge(work: Unlearning) -> tuple[Gauge, LiveModel]:
    """Questions that are asked while training, with the base's answers, and the live base."""
    recipe, inputs = work.recipe, work.inputs
    live = LiveModel(work.base, torch.float32, device_of(recipe.device))
    work.notes += live.notes
    tokenizer = load_tokenizer(recipe.tokenizer or work.base.root)
    if tokenizer is None:
        raise RecipeError(f"{work.base.location}: no tokenizer beside the weights; name one with --tokenizer DIR")
    sets = {"target": inputs.target, "unrelated": inputs.unrelated}
    wording = Wording(tokenizer, recipe.template)
    asked = {name: wording.prompts(found.questions if found else ()) for name, found in sets.items()}
    every = [prompt for found in asked.values() for prompt in found]
    texts, lengths = [prompt.question.text for prompt in every], [len(prompt.ids) for prompt in every]
    check_lengths(texts, lengths, recipe.tokens, context_length(live))
    generation = read_json(work.base.root, "generation_config.json") if work.base.root is not None else {}
    gauge = Gauge(asked, tokenizer, stop_tokens(live, generation), recipe.tokens)
    work.listener.progress("loading", 0, 1, "reading the base")
    live.load()
    work.listener.progress("loading", 1, 1, "")
    work.listener.progress("answers", 0, 1, "the base answers the questions")
    gauge.ask_base(live)
    work.listener.progress("answers", 1, 1, "")
    return gauge, live


def _save(
    work: Unlearning, gauge: Gauge, folder: Path, point: dict[str, Any], before: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The history, with what the written checkpoint itself answers as its last point."""
    live = LiveModel(open_checkpoint(str(folder)), torch.float32, device_of(work.recipe.device))
    work.listener.progress("saved", 0, 1, "reading the saved checkpoint back")
    live.load()
    measured = gauge(live)
    work.listener.progress("saved", 1, 1, "")
    return [*(before or [start(gauge)]), {**point, **measured, "state": "saved"}]


def _staging_folder(work: Unlearning) -> Path:
    folder = work.output.absolute().with_name(f".{work.output.name}.saving")
    shutil.rmtree(folder, ignore_errors=True)
    return folder


@contextlib.contextmanager
def _clear(folder: Path) -> Any:
    """Leave no half-written folder behind."""
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _finish(
    work: Unlearning, folder: Path, settings: dict[str, Any], history: list[dict[str, Any]], reason: str, diverged: str
) -> Made:
    inputs = work.inputs
    sources = {"forget": inputs.forget, "retain": inputs.retain, "target": inputs.target, "unrelated": inputs.unrelated}
    record = {
        "format": "ckdiff-unlearning",
        "version": 1,
        "method": work.recipe.method,
        "settings": settings,
        "data": {
            name: {"source": found.source, "digest": found.digest}
            for name, found in sources.items()
            if found is not None
        },
        "counts": work.counts,
        "base_digest": digest(work.base),
        "digest": digest(open_checkpoint(str(folder))),
        "history": [
            {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in point.items()}
            for point in history
        ],
        "stopped": diverged or reason or "",
        "notes": work.notes,
        "versions": {"ckdiff": __version__} | {name: version(name) for name in ("torch", "transformers", "numpy")},
    }
    saving.write_record(folder, record)
    saving.check_output(work.output)
    note_made(work, record, diverged)
    saving.finish(folder, work.output)
    return Made(work.output, record, diverged)
