"""A base, texts and a recipe in, a checkpoint out: `make(base, inputs, recipe, output)`.

The order of the work: refuse what cannot be; texts to ids; the base's own answers; training; the checkpoint, written
beside its place; its answers, measured on what was written; then, and only then, the move to its place.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import shutil
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

from ckdiff import __version__
from ckdiff.locks import BusyError, alone
from ckdiff.probes import cost
from ckdiff.probes.checks import check_lengths
from ckdiff.probes.jobs import device_of
from ckdiff.probes.model import LiveModel, context_length, stop_tokens
from ckdiff.probes.pretrained import load_tokenizer
from ckdiff.probes.probing import Listener
from ckdiff.probes.prompts import prompts
from ckdiff.probes.questions import general_questions
from ckdiff.unlearn import needle, saving
from ckdiff.unlearn.measuring import Gauge, start
from ckdiff.unlearn.methods import METHODS, RETAIN_WEIGHTS
from ckdiff.unlearn.recipe import NEEDLE, RecipeError, check_installed
from ckdiff.unlearn.sequences import Tokens, encoded, refusals
from ckdiff.unlearn.task import Task
from ckdiff.weights.opening import open_checkpoint
from ckdiff.weights.reader import read_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ckdiff.probes.questions import QuestionSet
    from ckdiff.unlearn.recipe import Recipe
    from ckdiff.unlearn.texts import TextSet
    from ckdiff.weights.reader import Checkpoint

KEY = "key.json"
"""In the work directory: what the unfinished training in it is of."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What is forgotten, held on to, and asked.

    Attributes:
        forget: texts to forget; None where only the base's own answers are (`Recipe.train_on`).
        retain: texts to hold on to, or None.
        target: questions about what is forgotten, or None.
        unrelated: questions about other things, or None.
    """

    forget: TextSet | None = None
    retain: TextSet | None = None
    target: QuestionSet | None = None
    unrelated: QuestionSet | None = None


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
        """What was saved is the base, bit for bit."""
        return bool(self.record["digest"] == self.record["base_digest"])


class UnlearningStopped(KeyboardInterrupt):
    """The user asked to stop, and what was done is kept."""


@dataclass(slots=True)
class _Work:
    """What the steps of one unlearning hand to each other."""

    base: Checkpoint
    inputs: Inputs
    recipe: Recipe
    output: Path
    listener: Listener
    notes: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def place(self) -> Path:
        """The directory in which an unfinished training is kept."""
        return self.output.absolute().with_name(f".{self.output.name}.unlearning")


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
    saving.check_output(output)
    saving.check_savable(base)
    work = _Work(base, inputs, recipe, output, listener or Listener())
    return _needle(work) if recipe.method == NEEDLE else _trained(work, resume)


# ------------------------------------------------------------------------------------------------------------ needle


def _needle(work: _Work) -> Made:
    import numpy as np

    recipe = work.recipe
    pieces = needle.value_vectors(work.base)
    generator = np.random.default_rng([recipe.seed])
    neurons = needle.chosen(pieces, recipe.neurons, recipe.count, generator)
    work.notes.append(f"changed value vectors: {', '.join(f'{layer}:{neuron}' for layer, neuron in neurons)}")
    asked = work.inputs.target is not None or work.inputs.unrelated is not None
    gauge = _gauge(work)[0] if asked else None
    folder = _staging(work)
    with _cleared(folder):
        saving.write(work.base, folder, needle.edited(work.base, pieces, neurons, recipe.noise, recipe.seed))
        settings = {"noise": recipe.noise, "seed": recipe.seed, "neurons": [list(pair) for pair in neurons]}
        point = {"step": 1, "epoch": 0.0, "loss": math.nan}
        history = [] if gauge is None else _saved(work, gauge, folder, point, [])
        return _finished(work, folder, settings, history, "", "")


# ---------------------------------------------------------------------------------------------------------- training


def _trained(work: _Work, resume: bool) -> Made:
    check_installed()
    from ckdiff.unlearn.trainer import precision

    recipe, method = work.recipe, METHODS[work.recipe.method]
    saving.check_trainable(work.base)
    key = _key(work)
    _check_place(work, key, resume)
    gauge, live = _gauge(work)
    retain_loss = method.retain if recipe.retain_loss == "default" else recipe.retain_loss
    weight = RETAIN_WEIGHTS[retain_loss] if recipe.retain_weight is None else recipe.retain_weight
    weight = weight if retain_loss != "none" else 0.0
    forget, retain, preferred = _sequences(work, gauge, live)
    needs_retain = weight > 0 or (method.preferred and not preferred)
    if needs_retain and not retain:
        raise RecipeError(f"--retain: {recipe.method} needs text to hold on to; name a file, or --retain-loss none")
    twin = None
    if weight > 0 and retain_loss == "kl":
        twin = LiveModel(work.base, torch.float32, live.device)
    _check_memory(work, live, twin is not None, [*forget, *retain, *preferred], needs_retain, bool(preferred))
    if twin is not None:
        twin.load()
    for parameter in live.model.parameters():
        parameter.requires_grad_(True)
    task = Task(
        live, twin, method, forget, retain if needs_retain else [], preferred, retain_loss, weight,
        recipe.beta, recipe.limit, recipe.seed, recipe.batch_size,
    )  # fmt: skip
    work.listener.progress("base", 0, 1, "the base reads the texts")
    live.model.eval()
    task.ask_base(recipe.batch_size, lambda: precision(recipe, live.device))
    work.listener.progress("base", 1, 1, "")
    work.place.mkdir(exist_ok=True)
    try:
        with alone(work.place, wait=False):
            (work.place / KEY).write_text(json.dumps(key), encoding="utf-8")
            return _run(work, task, gauge, resume)
    except BusyError as error:
        raise _busy(work) from error


def _run(work: _Work, task: Task, gauge: Gauge, resume: bool) -> Made:
    """Train, write and measure; the work directory is ours alone meanwhile."""
    from ckdiff.unlearn.trainer import CLIP, DivergedError, train

    recipe, live = work.recipe, task.live
    lr = task.method.lr if recipe.lr is None else recipe.lr
    try:
        watch, diverged = train(task, recipe, lr, gauge, work.place, work.listener, resume)
    except DivergedError:
        shutil.rmtree(work.place, ignore_errors=True)
        raise
    if watch.interrupted:
        raise UnlearningStopped
    folder = _staging(work)
    with _cleared(folder):
        saving.write(work.base, folder, ((name, value.float().cpu().numpy()) for name, value in live.stored_values()))
        last = {**watch.points[-1], "state": "saved"}
        before = [point for point in watch.points if point["state"] == "memory" or point["step"] != last["step"]]
        history = _saved(work, gauge, folder, last, before)
        losses = {"lr": lr, "retain_loss": task.retain_loss, "retain_weight": task.weight, "clip": CLIP}
        settings = {**losses, **_settings(recipe)}
        made = _finished(work, folder, settings, history, watch.reason, "" if diverged is None else str(diverged))
    shutil.rmtree(work.place, ignore_errors=True)
    return made


def _busy(work: _Work) -> RecipeError:
    return RecipeError(f"{work.place}: another ckdiff is training there; wait for it, or name another --output")


def _settings(recipe: Recipe) -> dict[str, Any]:
    found = {
        name: value
        for name, value in asdict(recipe).items()
        if name not in ("method", "lr", "retain_loss", "retain_weight", "neurons", "count", "noise", "tokenizer")
    }
    return found | {"stop_when": [str(condition) for condition in recipe.stop_when]}


def _sequences(work: _Work, gauge: Gauge, live: LiveModel) -> tuple[list[Tokens], list[Tokens], list[Tokens]]:
    """Forget, retain and preferred texts as ids."""
    recipe, inputs, tokenizer = work.recipe, work.inputs, gauge.tokenizer
    length = min(recipe.length, context_length(live) or recipe.length)
    segments = inputs.forget.segments if inputs.forget is not None and recipe.train_on != "answers" else ()
    forget = encoded(tokenizer, segments, recipe.template, length)
    if len(forget) < len(segments):
        work.notes.append(f"{len(segments) - len(forget)} forget texts without a token to score were left out")
    retain = encoded(tokenizer, inputs.retain.segments if inputs.retain else (), recipe.template, length)
    if recipe.train_on != "text":
        forget += _answers(gauge, length)
        retain += _general(gauge, live, work, length)
    if not forget:
        raise RecipeError("--forget: no token comes out of its texts; give text that the model's tokenizer knows")
    work.counts |= {"forget": len(forget), "forget_tokens": sum(len(text.ids) - text.first for text in forget)}
    work.counts |= {"retain": len(retain), "retain_tokens": sum(len(text.ids) - text.first for text in retain)}
    preferred: list[Tokens] = []
    if METHODS[recipe.method].preferred and recipe.preferred == "refusal":
        preferred = _refusals(forget, tokenizer, recipe.seed, context_length(live))
    return forget, retain, preferred


def _answers(gauge: Gauge, length: int) -> list[Tokens]:
    """The target questions with the base's own answers, ids as they were generated."""
    if not gauge.prompts["target"]:
        raise RecipeError("--train-on answers: there are no target questions; name them with --questions")
    pairs = zip(gauge.prompts["target"], gauge.ids["target"], strict=True)
    return [Tokens((*prompt.ids, *ids)[:length], len(prompt.ids)) for prompt, ids in pairs if len(prompt.ids) < length]


def _general(gauge: Gauge, live: LiveModel, work: _Work, length: int) -> list[Tokens]:
    """Bundled general questions with the base's own answers, but none that is measured."""
    measured = {prompt.question.text for name in gauge.prompts for prompt in gauge.prompts[name]}
    questions = [question for question in general_questions().questions if question.text not in measured]
    asked = prompts(gauge.tokenizer, questions, work.recipe.template)
    work.listener.progress("answers", 0, 1, "the base answers general questions")
    with torch.inference_mode():
        found = live.greedy([list(prompt.ids) for prompt in asked], work.recipe.tokens, gauge.stops)
    work.listener.progress("answers", 1, 1, "")
    pairs = zip(asked, found, strict=True)
    return [Tokens((*prompt.ids, *ids)[:length], len(prompt.ids)) for prompt, ids in pairs if len(prompt.ids) < length]


def _refusals(forget: Sequence[Tokens], tokenizer: Any, seed: int, context: int | None) -> list[Tokens]:
    """For each question of the forget texts a refusal in the place of its answer."""
    import numpy as np

    if any(text.first == 1 for text in forget):
        raise RecipeError(
            "--preferred refusal: plain text asks nothing that could be refused; use --preferred retain,"
            " --train-on answers, or a file with questions and answers"
        )
    end = getattr(tokenizer, "eos_token_id", None)
    sayings = [tokenizer(f" {text}", add_special_tokens=False)["input_ids"] for text in refusals()]
    found = []
    for number, text in enumerate(forget):
        saying = sayings[int(np.random.default_rng([seed, number]).integers(len(sayings)))]
        ids = (*text.ids[: text.first], *saying, *([] if end is None else [end]))
        found.append(Tokens(tuple(map(int, ids))[:context], text.first))
    return found


# --------------------------------------------------------------------------------------------------------- measuring


def _gauge(work: _Work) -> tuple[Gauge, LiveModel]:
    """What is asked while training, with the base's answers, and the live base."""
    recipe, inputs = work.recipe, work.inputs
    live = LiveModel(work.base, torch.float32, device_of(recipe.device))
    work.notes += live.notes
    tokenizer = load_tokenizer(recipe.tokenizer or work.base.root)
    if tokenizer is None:
        raise RecipeError(f"{work.base.location}: no tokenizer beside the weights; name one with --tokenizer DIR")
    sets = {"target": inputs.target, "unrelated": inputs.unrelated}
    asked = {
        name: prompts(tokenizer, found.questions if found else (), recipe.template) for name, found in sets.items()
    }
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


def _saved(
    work: _Work, gauge: Gauge, folder: Path, point: dict[str, Any], before: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The history, with what the written checkpoint itself answers as its last point."""
    live = LiveModel(open_checkpoint(str(folder)), torch.float32, device_of(work.recipe.device))
    work.listener.progress("saved", 0, 1, "reading the saved checkpoint back")
    live.load()
    measured = gauge(live)
    work.listener.progress("saved", 1, 1, "")
    return [*(before or [start(gauge)]), {**point, **measured, "state": "saved"}]


# ------------------------------------------------------------------------------------------------------------- files


def _staging(work: _Work) -> Path:
    folder = work.output.absolute().with_name(f".{work.output.name}.saving")
    shutil.rmtree(folder, ignore_errors=True)
    return folder


@contextlib.contextmanager
def _cleared(folder: Path) -> Any:
    """Leave no half-written folder behind."""
    try:
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _finished(
    work: _Work, folder: Path, settings: dict[str, Any], history: list[dict[str, Any]], reason: str, diverged: str
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
    saving.finish(folder, work.output)
    return Made(work.output, record, diverged)


def digest(checkpoint: Checkpoint) -> str:
    """sha256 over the sorted lines "name sha256" of a checkpoint's weight files, as a report's provenance has it."""
    lines = []
    for shard in checkpoint.shards:
        with open(shard.path, "rb") as file:
            lines.append(f"{shard.name} {hashlib.file_digest(file, 'sha256').hexdigest()}\n")
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def _key(work: _Work) -> dict[str, str]:
    """What determines a training."""
    inputs = work.inputs
    sources = (inputs.forget, inputs.retain, inputs.target, inputs.unrelated)
    return {
        "base": digest(work.base),
        "data": " ".join("-" if found is None else found.digest for found in sources),
        "tokenizer": str(work.recipe.tokenizer),
        "recipe": json.dumps(_settings(replace(work.recipe, device="")), sort_keys=True, default=str)
        + json.dumps([work.recipe.method, work.recipe.lr, work.recipe.retain_loss, work.recipe.retain_weight]),
    }


def _check_place(work: _Work, key: dict[str, str], resume: bool) -> None:
    """Neither overwrite an unfinished training nor go on with another one."""
    place = work.place
    if not place.exists():
        return
    try:
        with alone(place, wait=False):
            pass
    except BusyError as error:
        raise _busy(work) from error
    if not any(place.glob("checkpoint-*")):
        # It ended before anything was kept: there is nothing to go on with.
        shutil.rmtree(place)
        return
    if not resume:
        raise RecipeError(f"{place}: an interrupted training is there; go on with --resume, or remove it")
    if (found := _read_key(place)) is None or not saving.kept_whole(place):
        raise RecipeError(f"{place}: what is kept there is damaged; remove it to start anew")
    if found != key:
        raise RecipeError(f"{place}: the training there had other weights, texts or settings; remove it to start anew")


def _read_key(place: Path) -> Any:
    try:
        return json.loads((place / KEY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


# ------------------------------------------------------------------------------------------------------------ memory


def _check_memory(
    work: _Work, live: LiveModel, twin: bool, texts: Sequence[Tokens], retain: bool, preferred: bool
) -> None:
    """Refuse what cannot fit, naming what would make it smaller.

    Weights, gradients and the optimiser's moments are counted exactly, activations roughly: about 34 values a position,
    layer and d_model, and five times the logits.
    """
    recipe = work.recipe
    weights = live.parameter_bytes(4)
    states = weights * {"adamw": 2, "sgd": 0, "adafactor": 0}[recipe.optimizer]
    width = max(len(text.ids) for text in texts)
    rows = recipe.batch_size * (1 + int(retain) + int(preferred))
    embedding = live.model.get_input_embeddings()
    per_position = 34 * embedding.embedding_dim * (2 if recipe.checkpointing else len(live.layers))
    activations = 4 * rows * width * (per_position + 5 * embedding.num_embeddings)
    needed = weights * (2 + int(twin)) + states + activations
    # The weights in training are there already.
    free = cost.free_memory(live.device) + weights
    if needed > free:
        flags = [] if recipe.batch_size == 1 else ["a smaller --batch-size with more --accumulation"]
        flags += [] if recipe.checkpointing else ["--checkpointing"]
        flags += ["--optimizer adafactor"] if recipe.optimizer == "adamw" else []
        flags += ["--retain-loss ce"] if twin else []
        flags += ["a smaller --length"]
        raise cost.TooLittleMemoryError(
            f"{needed / 1e9:.3g} GB of memory are needed and {free / 1e9:.3g} GB are free; use {', or '.join(flags)}"
        )
