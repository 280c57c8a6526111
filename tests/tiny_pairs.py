"""Pairs of tiny random checkpoints deep enough for windows, and a probe of them with ids in the place of text."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ckdiff.probes.live.model import LiveModel
from ckdiff.probes.losses import Scorer
from ckdiff.probes.prompts import Prompt, batches
from ckdiff.probes.sweep import SIDES, Pair, State, Sweep, ends_of
from ckdiff.questions.questions import Question
from ckdiff.scoring.runs import window_of
from ckdiff.scoring.scores import QuestionLosses, probe_run
from ckdiff.weights.opening import open_checkpoint
from tests.reference import Ids
from tests.tiny_families import ALL, CONFIGS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

    from ckdiff.probes.live.unembedding import Unembedding
    from ckdiff.probes.losses import PositionLosses
    from ckdiff.report.schema.probe import ProbeRun
    from ckdiff.report.schema.report import Side
    from ckdiff.scoring.runs import Schedule

LAYERS = 4
COUNTS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
CPU = torch.device("cpu")
IDS = (
    # Of different lengths, so that batches are padded; longer than the sliding windows below.
    Ids((5, 17, 3, 60, 22), (9, 41, 33)),
    Ids((1, 8, 30, 71, 12, 6, 55, 44, 9), (70, 13)),
    Ids((2, 29, 4, 11), (64, 7, 7, 50, 18, 27)),
)


def settings(name: str, layers: int = LAYERS) -> tuple[str, dict[str, Any]]:
    """Model type and config of a tiny model with so many layers, its sliding windows short enough to matter."""
    from transformers import AutoConfig

    model_type, given = ALL[name]
    found = given | {key: layers for key in COUNTS if key in given}
    if "attention_types" in given:
        found |= {"attention_types": [[["global", "local"], layers // 2]], "window_size": 4}
    if getattr(AutoConfig.for_model(model_type, **found), "sliding_window", None):
        found |= {"sliding_window": 4}
    return model_type, found


def build(name: str, layers: int = LAYERS, seed: int = 0, **changes: Any) -> Any:
    """A model in memory: float32, every parameter random, biases and norms too."""
    from transformers import AutoConfig, AutoModelForCausalLM

    model_type, config = settings(name, layers)
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **(config | changes))).eval()
    return disturbed(model, 0.1)


def disturbed(model: Any, size: float) -> Any:
    """The same model, with noise on every parameter."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(size * torch.randn_like(parameter))
    return model


@dataclass(frozen=True, slots=True)
class Folders:
    """Two checkpoints on disk."""

    base: Path
    unlearned: Path


def save_pair(name: str, root: Path, layers: int = LAYERS, size: float = 0.02) -> Folders:
    """A random base, and an unlearned model that is the base with a little noise on every parameter."""
    return _saved(build(name, layers), root, size)


def save_model_pair(model_type: str, changes: dict[str, Any], root: Path, size: float = 0.05) -> Folders:
    """The same of two layers and another config."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(model_type, **(CONFIGS[model_type] | changes))).eval()
    return _saved(disturbed(model, 0.3), root, size)


def _saved(model: Any, root: Path, size: float) -> Folders:
    model.save_pretrained(root / "base")
    disturbed(model, size).save_pretrained(root / "unlearned")
    return Folders(root / "base", root / "unlearned")


def prompts_of(ids: Sequence[Ids] = IDS) -> list[Prompt]:
    return [Prompt(Question(f"question {number}"), one.prompt, one.answer) for number, one in enumerate(ids)]


def live_pair(folders: Folders, dtype: torch.dtype = torch.float64, attention: str | None = None) -> Pair:
    """Both models without their parameters."""
    base, unlearned = (
        LiveModel(open_checkpoint(str(path)), dtype, CPU, attention) for path in (folders.base, folders.unlearned)
    )
    return Pair(base, unlearned)


def load(pair: Pair) -> Pair:
    """The same pair with all parameters loaded."""
    for side in SIDES:
        live = pair.side(side)
        live.load_ends()
        for number in range(len(live.layers)):
            live.load_layer(number)
    return pair


@dataclass(frozen=True, slots=True)
class Measured:
    """What a sweep found: hidden states that go into the unembedding, and losses [run, question]."""

    own: dict[Side, Tensor]
    finals: dict[int, Tensor]
    unlearned: QuestionLosses
    losses: QuestionLosses


@dataclass(frozen=True, slots=True)
class How:
    """In which way a sweep is done; no number may depend on it."""

    batch_size: int = 2
    chunk: int = 64
    passes: int = 1
    padding: int = 0
    stream: bool = False
    between: Callable[[State], State] | None = None


PLAIN = How()


def measure(pair: Pair, plan: Schedule, ids: Sequence[Ids] = IDS, how: How = PLAIN) -> Measured:
    """Sweep and score a loaded pair (with `how.stream`: a pair that is not loaded)."""
    with torch.inference_mode():
        asked = prompts_of(ids)
        parts = [_padded(batch, how.padding) for batch in batches(asked, how.batch_size, CPU, pair.regime)]
        own: dict[Side, Tensor] = {}
        finals: dict[int, Tensor] = {}
        heads: dict[Side, Unembedding] = {}
        for number in range(how.passes):
            members = [run for run in range(len(plan.runs)) if run % how.passes == number]
            sweep = Sweep(pair, parts, plan, members, how.chunk)
            state = _passed(pair, sweep, how)
            own, found = sweep.finals(state)
            finals |= found
            heads = {side: pair.side(side).unembedding(sweep.own_scored(state, side)) for side in SIDES}
        scorer = Scorer(own["base"], heads, len(finals))
        whole = by_question(scorer.losses("unlearned", [own["unlearned"]]), ids)
        losses: dict[int, PositionLosses] = {}
        for side in SIDES:
            members = [number for number in sorted(finals) if ends_of(plan.runs[number]) == side]
            losses |= dict(zip(members, scorer.losses(side, [finals[number] for number in members]), strict=True))
        return Measured(own, finals, whole.row(0), by_question([losses[number] for number in sorted(losses)], ids))


def by_question(found: Sequence[PositionLosses], ids: Sequence[Ids] = IDS) -> QuestionLosses:
    """Losses at positions -> losses [run, question]."""
    counts = [len(one.answer) for one in ids]
    names = ("mse", "mse_centred", "kl", "top1", "js")
    return QuestionLosses(
        *(
            np.array([[float(part.mean()) for part in getattr(run, name).split(counts)] for run in found])
            for name in names
        )
    )


def scores(measured: Measured, plan: Schedule, window: int) -> list[ProbeRun]:
    """The report's scores of every sweep of a plan; the intervals are those of two draws."""
    found = []
    for sweep in plan.sweeps:
        rows = list(sweep.runs)
        losses = QuestionLosses(
            *(getattr(measured.losses, name)[rows] for name in ("mse", "mse_centred", "kl", "top1", "js"))
        )
        windows = [window_of(max(centre, 0), window, plan.layers) for centre in sweep.centres]
        found.append(
            probe_run(
                direction=sweep.direction,
                mode=sweep.mode,
                variant=sweep.variant,
                window=window,
                layers=np.array(sweep.centres, dtype=np.int64),
                first=np.array([first for first, _ in windows], dtype=np.int64),
                last=np.array([last for _, last in windows], dtype=np.int64),
                losses=losses,
                unlearned=measured.unlearned,
                draws=2,
            )
        )
    return found


def _padded(batch: Any, more: int) -> Any:
    """The same batch with more padding on the right."""
    if not more:
        return batch
    rows, width = batch.ids.shape
    ids = torch.zeros(rows, width + more, dtype=torch.long)
    ids[:, :width] = batch.ids
    return replace(batch, ids=ids, scored=batch.scored // width * (width + more) + batch.scored % width)


def _passed(pair: Pair, sweep: Sweep, how: How) -> State:
    layers = len(pair.base.layers)
    if how.stream:
        for side in SIDES:
            pair.side(side).load_ends(unembedding=False)
    state = sweep.begin()
    if how.stream:
        for side in SIDES:
            pair.side(side).unload_embedding()
    while state.layer < layers:
        layer = state.layer
        if how.stream:
            for side in SIDES:
                pair.side(side).load_layer(layer)
        sweep.advance(state)
        if how.stream:
            for side in SIDES:
                pair.side(side).unload_layer(layer)
        if how.between is not None and state.layer < layers:
            state = how.between(state)
    if how.stream:
        for side in SIDES:
            pair.side(side).load_ends(embedding=False)
    return state
