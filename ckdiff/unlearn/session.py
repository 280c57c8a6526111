"""State that the steps of one unlearning share, and what is refused before the first of them.

What is there of an interrupted training lies in a directory beside the output, hidden, with a key that says what it is
of; nobody else may train there meanwhile, and nothing but the same training may go on from it.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ckdiff.files import replace_file
from ckdiff.locks import BusyError, alone
from ckdiff.probes import cost
from ckdiff.unlearn import saving
from ckdiff.unlearn.recipe import RecipeError
from ckdiff.weights.hashing import ShardHasher, joint_digest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ckdiff.probes.live.model import LiveModel
    from ckdiff.progress import Listener
    from ckdiff.unlearn.inputs import Inputs
    from ckdiff.unlearn.recipe import Recipe
    from ckdiff.unlearn.sequences import Tokens
    from ckdiff.weights.checkpoint import Checkpoint


KEY = "key.json"
"""In the work directory: what the unfinished training in it is of."""
LAST = "trainer_state.json"
"""The last file of a state of a training that is kept."""
MADE = "made.json"
"""There once the checkpoint is whole: what is said of it when it has been moved to its place."""


@dataclass(slots=True)
class Unlearning:
    """State that the steps of one unlearning hand to each other."""

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
        return place_of(self.output)


def place_of(output: Path) -> Path:
    """The directory in which an unfinished training to an output is kept."""
    return output.absolute().with_name(f".{output.name}.unlearning")


def busy(place: Path) -> RecipeError:
    """The error for a folder in which another process trains."""
    return RecipeError(f"{place}: another ckdiff is training there; wait for it, or name another --output")


def note_made(work: Unlearning, record: dict[str, Any], diverged: str) -> None:
    """Keep what is said of a whole checkpoint, before it is moved to its place."""
    if work.place.is_dir():
        note = {"key": _read_key(work.place), "record": record, "diverged": diverged}
        replace_file(work.place / MADE, json.dumps(note).encode())


def read_made(output: Path) -> dict[str, Any] | None:
    """The note of a run that ended behind its move, before it was tidy; None where what is there is not its own."""
    try:
        note = json.loads((place_of(output) / MADE).read_text(encoding="utf-8"))
        same = note["record"] == json.loads((output / saving.RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return dict(note) if same else None


def sweep_made(output: Path) -> dict[str, Any] | None:
    """Tidy up behind a run that was killed when its checkpoint was in its place; its note, or None.

    Raises:
        RecipeError: it is at it itself.
    """
    place = place_of(output)
    if output.exists():
        with contextlib.suppress(OSError):
            place.rmdir()  # the last that goes
    if (note := read_made(output)) is None:
        return None
    try:
        with alone(place, wait=False):
            clear_place(place)
    except BusyError as error:
        raise busy(place) from error
    return note


def clear_place(place: Path) -> None:
    """Remove a work directory, its note last: whoever is killed meanwhile, the next run goes on."""
    for path in place.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != MADE:
            path.unlink(missing_ok=True)
    shutil.rmtree(place, ignore_errors=True)


def settings_of(recipe: Recipe) -> dict[str, Any]:
    """Settings of a recipe that determine a training, beside its method and its losses."""
    found = {
        name: value
        for name, value in asdict(recipe).items()
        if name not in ("method", "lr", "retain_loss", "retain_weight", "neurons", "count", "noise", "tokenizer")
    }
    return found | {"stop_when": [str(condition) for condition in recipe.stop_when]}


def digest(checkpoint: Checkpoint) -> str:
    """The digest of a checkpoint's weight files, as a report's provenance has it."""
    hasher = ShardHasher(checkpoint.shards)
    try:
        return joint_digest((shard.name, hasher.digest(shard)) for shard in checkpoint.shards)
    finally:
        hasher.close()


def key_of(work: Unlearning) -> dict[str, str]:
    """A digest of everything that determines a training."""
    inputs = work.inputs
    sources = (inputs.forget, inputs.retain, inputs.target, inputs.unrelated)
    return {
        "base": digest(work.base),
        "data": " ".join("-" if found is None else found.digest for found in sources),
        "tokenizer": str(work.recipe.tokenizer),
        "recipe": json.dumps(settings_of(replace(work.recipe, device="")), sort_keys=True, default=str)
        + json.dumps([work.recipe.method, work.recipe.lr, work.recipe.retain_loss, work.recipe.retain_weight]),
    }


def check_place(work: Unlearning, key: dict[str, str], resume: bool) -> None:
    """Neither overwrite an unfinished training nor go on with another one."""
    place = work.place
    if not place.exists():
        return
    try:
        with alone(place, wait=False):
            for path in place.glob("checkpoint-*"):
                if not (path / LAST).exists():
                    shutil.rmtree(path)  # half a state, of a process that was killed or that had no room
    except BusyError as error:
        raise busy(place) from error
    if not any(place.glob("checkpoint-*")):
        # It ended before anything was kept: there is nothing to go on with.
        shutil.rmtree(place)
        return
    if not resume:
        raise RecipeError(f"{place}: an interrupted training is there; go on with --resume, or remove it")
    if (found := _read_key(place)) is None or not saving.keep_whole(place):
        raise RecipeError(f"{place}: what is kept there is damaged; remove it to start anew")
    if found != key:
        raise RecipeError(f"{place}: the training there had other weights, texts or settings; remove it to start anew")


def _read_key(place: Path) -> Any:
    try:
        return json.loads((place / KEY).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def check_memory(
    work: Unlearning, live: LiveModel, twin: bool, texts: Sequence[Tokens], retain: bool, preferred: bool
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
