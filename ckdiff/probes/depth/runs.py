"""What the states of another model cost the base's answers, layer by layer: `measure(trio, prompts, how, listener)`.

The base runs with its residual stream behind one layer overwritten, at the positions that predict the answer's tokens
and nowhere else, by that of the unlearned model or of the reference. All such runs advance together, layer by layer,
so that each layer's weights are read once a pass: run (source, l) begins behind layer l as the base's own state with
those rows replaced, and goes on through the base's layers.

Source: Unlearning Depth Score, arXiv:2605.24614. The lens twin reads log p off each layer's state of all three models
through the base's final norm and unembedding.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch

from ckdiff.probes.assembly import NotFiniteError
from ckdiff.probes.forcing import Forced, Read, read_forced
from ckdiff.probes.prompts import batches
from ckdiff.progress import Stopped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ckdiff.probes.live.calls import Call
    from ckdiff.probes.live.model import LiveModel
    from ckdiff.probes.live.unembedding import Unembedding
    from ckdiff.probes.prompts import Batch, Prompt
    from ckdiff.progress import Listener
    from ckdiff.shapes import Float64, Int64

Source = Literal["unlearned", "reference"]
SOURCES: tuple[Source, ...] = get_args(Source)
Model = Literal["base", "unlearned", "reference"]
MODELS: tuple[Model, ...] = get_args(Model)
KEEP_EVERY = 120.0
"""Seconds between two copies of an unfinished measurement."""


@dataclass(frozen=True, slots=True)
class Trio:
    """The three live models, of one shape."""

    base: LiveModel
    unlearned: LiveModel
    reference: LiveModel

    def of(self, name: Model) -> LiveModel:
        """One of them."""
        found: LiveModel = getattr(self, name)
        return found


@dataclass(frozen=True, slots=True)
class How:
    """How the runs go through the base.

    Attributes:
        batch_size: questions that go through a layer together.
        stream: read each layer when it is needed, and forget it.
        room: bytes of states that may wait between two layers.
        chunk: at most so many positions go through a layer in one call, where one question has no more.
        compat: patch the last layer behind the final norm, as the published code does.
    """

    batch_size: int
    stream: bool = False
    room: int = 1 << 30
    chunk: int = 4096
    compat: bool = False


@dataclass(frozen=True, slots=True)
class Drops:
    """Log p of the answers, and what patching costs, in nats a token.

    Attributes:
        level: mean log p a token of each answer [question], by model, unpatched.
        given: whether the model gives the answer greedily, token by token [question], by model.
        patched: by source, level of the base less that of the patched base [layer, question].
        lens: by source, log p read off the base's state less that off the source's [layer, question].
    """

    level: dict[Model, Float64]
    given: dict[Model, Float64]
    patched: dict[Source, Float64]
    lens: dict[Source, Float64]


Key = tuple[str, str, int]
"""What was read: "lens", "patched" or "end", of which model, at which layer."""
Found = dict[Key, list[Read]]


@dataclass(slots=True)
class Stage:
    """How far a pass has come: with it, one that was interrupted goes on as if it had not been.

    Attributes:
        layer: the next one.
        own: by model a state a batch.
        runs: by source and layer a state a batch.
        found: what this pass has read.
    """

    layer: int = 0
    own: dict[Model, list[Tensor]] = field(default_factory=dict)
    runs: dict[tuple[Source, int], list[Tensor]] = field(default_factory=dict)
    found: Found = field(default_factory=dict)


@dataclass(slots=True)
class Mark:
    """How far a measurement has come.

    Attributes:
        group: the number of the pass that is under way.
        stage: of that pass.
        found: what the passes before it have read.
        stream, room: as in `How`, which say how the questions are split into passes.
    """

    group: int = 0
    stage: Stage = field(default_factory=Stage)
    found: Found = field(default_factory=dict)
    stream: bool = False
    room: int = 0

    def end_pass(self) -> None:
        """The next pass is under way."""
        for key, reads in self.stage.found.items():
            self.found.setdefault(key, []).extend(reads)
        self.group, self.stage = self.group + 1, Stage()


Keep = Callable[[Mark], None]
"""Keeps how far a measurement has come."""


@dataclass(slots=True)
class _Pass:
    """Batches on their way through the layers.

    Attributes:
        patched: by batch the positions that are overwritten, as indices into [question * position].
        mark: how far they are.
        calls: by model the other arguments of each layer, a list a batch.
    """

    batches: Sequence[Batch]
    prompts: Sequence[Prompt]
    patched: Sequence[Tensor]
    mark: Mark
    calls: dict[Model, list[list[Call]]] = field(default_factory=dict)

    @property
    def stage(self) -> Stage:
        """How far this pass is."""
        return self.mark.stage


def measure(
    trio: Trio,
    prompts: Sequence[Prompt],
    how: How,
    listener: Listener,
    places: Sequence[Sequence[int]] | None = None,
    mark: Mark | None = None,
    keep: Keep | None = None,
) -> Drops:
    """Drops of every answer, for both sources and every layer.

    Args:
        trio: three models of one shape; nothing of them need be loaded, and nothing is afterwards.
        prompts: each with an answer.
        how: how they go through.
        listener: told of progress, asked whether to stop.
        places: by prompt the numbers of its answer's tokens that are patched and scored; None: all of them.
        mark: how far an interrupted measurement of the same had come; None: nothing was done.
        keep: called now and then, and before it stops, with how far it has come.

    Raises:
        NotFiniteError: a model computes NaN or infinity.
        Stopped: the listener asked for it; what was done is kept.
    """
    order = sorted(range(len(prompts)), key=lambda number: prompts[number].length)
    ordered = [prompts[number] for number in order]
    chosen = [range(len(prompts[number].answer)) if places is None else places[number] for number in order]
    mark, how = _agree(mark, how)
    try:
        for name in MODELS:
            trio.of(name).load_ends(unembedding=name == "base")
        groups, _ = split_groups(trio, ordered, how)
        for group in groups[mark.group :]:
            own = ordered[group[0].first : group[-1].first + len(group[-1].lengths)]
            _go(trio, _Pass(group, own, _patched(group, ordered, chosen), mark), how, listener, len(groups), keep)
            mark.end_pass()
    finally:
        for name in MODELS:
            trio.of(name).unload()
    return _drops(mark.found, chosen, np.argsort(order), len(trio.base.layers))


def _agree(mark: Mark | None, how: How) -> tuple[Mark, How]:
    """Where it stands, and how it goes on: split into passes as it was when it began."""
    mark = mark or Mark(stream=how.stream, room=how.room)
    return mark, replace(how, stream=mark.stream, room=mark.room)


def _patched(group: Sequence[Batch], prompts: Sequence[Prompt], chosen: Sequence[Sequence[int]]) -> list[Tensor]:
    """By batch the positions that predict the chosen tokens."""
    found = []
    for batch in group:
        numbers, first = list[int](), 0
        for number in range(batch.first, batch.first + len(batch.lengths)):
            numbers += [first + place for place in chosen[number]]
            first += len(prompts[number].answer)
        found.append(batch.scored[numbers])
    return found


def split_groups(trio: Trio, prompts: Sequence[Prompt], how: How) -> tuple[list[list[Batch]], list[int]]:
    """Batches that go through the layers together, all that memory holds where weights are streamed, else one.

    With the bytes of the states of each group.
    """
    base = trio.base

    def alike(length: int) -> tuple[object, ...]:
        return tuple(trio.of(name).regime(length) for name in MODELS)

    parts = batches(prompts, how.batch_size, base.device, alike)
    width = base.model.get_input_embeddings().embedding_dim * base.dtype.itemsize
    states = len(MODELS) + len(SOURCES) * len(base.layers)
    groups: list[list[Batch]] = []
    used: list[int] = []
    for part in parts:
        size = part.ids.numel() * width * states
        if not groups or not how.stream or used[-1] + size > how.room:
            groups.append([])
            used.append(0)
        groups[-1].append(part)
        used[-1] += size
    return groups, used


def _go(trio: Trio, one: _Pass, how: How, listener: Listener, passes: int, keep: Keep | None) -> None:
    """One pass over the layers, from where it stands; its stage gets everything that is read in it."""
    stage, layers, done = one.stage, len(trio.base.layers), one.mark.group * len(trio.base.layers)
    for name in MODELS:
        fronts = [trio.of(name).front(batch.ids) for batch in one.batches]
        stage.own.setdefault(name, [state for state, _ in fronts])
        one.calls[name] = [calls for _, calls in fronts]
    head: Unembedding | None = None
    saved = time.monotonic()
    while stage.layer < layers:
        number = stage.layer
        listener.progress("layers", done + number, passes * layers, f"layer {number + 1}/{layers}")
        head = _one_layer(trio, one, how, head)
        stop = listener.stop()
        if keep is not None and (stop or time.monotonic() - saved > KEEP_EVERY):
            keep(one.mark)
            saved = time.monotonic()
        if stop:
            raise Stopped
    head = head or trio.base.unembedding(_scored(one, stage.own["base"]))
    for (source, number), states in stage.runs.items():
        hidden = trio.base.tail(_scored(one, states))
        if how.compat and number == layers - 1:
            hidden = trio.of(source).tail(_scored(one, stage.own[source]))
        stage.found["patched", source, number] = _read(hidden, head, one)
    listener.progress("layers", done + layers, passes * layers, "")
    for name in MODELS:
        stage.found["end", name, layers] = _end(trio.of(name), one, name, head)


def _one_layer(trio: Trio, one: _Pass, how: How, head: Unembedding | None) -> Unembedding:
    """The next layer of all three models; what is read off it is noted."""
    stage, number = one.stage, one.stage.layer
    for name in MODELS:
        trio.of(name).load_layer(number)
    _advance(trio, one, number, how.chunk)
    if how.stream:
        for name in MODELS:
            trio.of(name).unload_layer(number)
    rows = {name: _scored(one, stage.own[name]) for name in MODELS}
    head = head or trio.base.unembedding(_finite(trio.base, rows["base"]))
    for name in MODELS:
        stage.found["lens", name, number] = _read(trio.base.tail(_finite(trio.of(name), rows[name])), head, one)
    stage.layer = number + 1
    return head


def _end(live: LiveModel, one: _Pass, name: Model, head: Unembedding) -> list[Read]:
    """What a model itself makes of the answers, through its own final norm and unembedding."""
    rows = _scored(one, one.stage.own[name])
    if name != "base":
        live.load_ends()
        head = live.unembedding(rows)
    found = _read(live.tail(rows), head, one)
    if name != "base":
        live.unload_unembedding()
    return found


def _advance(trio: Trio, one: _Pass, number: int, chunk: int) -> None:
    """Layer `number`: runs that have begun through the base's, each model's own, and the runs that begin behind it."""
    stage = one.stage
    for unit, batch in enumerate(one.batches):
        rows, width = batch.ids.shape
        step, keys = max(1, chunk // (rows * width)), list(stage.runs)
        call = one.calls["base"][unit][number]
        for start in range(0, len(keys), step):
            part = keys[start : start + step]
            joined = trio.base.layer(number, torch.cat([stage.runs[key][unit] for key in part]), call)
            for key, state in zip(part, joined.split(rows), strict=True):
                stage.runs[key][unit] = state
    for name in MODELS:
        live = trio.of(name)
        stage.own[name] = [
            live.layer(number, state, calls[number])
            for state, calls in zip(stage.own[name], one.calls[name], strict=True)
        ]
    for source in SOURCES:
        stage.runs[source, number] = [
            _overwritten(ours, theirs, rows)
            for ours, theirs, rows in zip(stage.own["base"], stage.own[source], one.patched, strict=True)
        ]


def _overwritten(ours: Tensor, theirs: Tensor, rows: Tensor) -> Tensor:
    """The base's state with some positions of another's."""
    found = ours.flatten(0, 1).clone()
    found[rows] = theirs.flatten(0, 1)[rows]
    return found.view_as(ours)


def _scored(one: _Pass, states: Sequence[Tensor]) -> Tensor:
    return torch.cat([state.flatten(0, 1)[batch.scored] for state, batch in zip(states, one.batches, strict=True)])


def _read(hidden: Tensor, head: Unembedding, one: _Pass) -> list[Read]:
    return read_forced(Forced(hidden, head), one.prompts)


def _finite(live: LiveModel, rows: Tensor) -> Tensor:
    if not torch.isfinite(rows).all():
        raise NotFiniteError(f"{live.location}: its states are not finite; nothing can be measured (--dtype float32)")
    return rows


def _drops(found: Found, chosen: Sequence[Sequence[int]], back: Int64, layers: int) -> Drops:
    """Everything that was read as arrays, questions in the order that they were given in."""

    def level(key: Key) -> Float64:
        reads = zip(found[key], chosen, strict=True)
        values = np.array([float(read.log_p[list(places)].mean()) for read, places in reads])
        ordered: Float64 = values[back]
        return ordered

    def given(name: Model) -> Float64:
        values = np.array([float(read.first.all()) for read in found["end", name, layers]])
        ordered: Float64 = values[back]
        return ordered

    full, every = level(("end", "base", layers)), range(layers)
    lens = [level(("lens", "base", number)) for number in every]
    return Drops(
        level={name: level(("end", name, layers)) for name in MODELS},
        given={name: given(name) for name in MODELS},
        patched={
            source: np.stack([full - level(("patched", source, number)) for number in every]) for source in SOURCES
        },
        lens={
            source: np.stack([lens[number] - level(("lens", source, number)) for number in every]) for source in SOURCES
        },
    )
