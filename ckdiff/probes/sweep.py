"""One pass over the layers for all runs at once (design, section 4).

At layer k: the base's layer on the base's own run and the unlearned model's on its own, noting A, m and W_V m; then the
host's layer on every run whose window has begun, under that run's patch; then what was noted is forgotten. A run
starts as a copy of its host's own state. Runs that need the same patch in a layer go through it together, whatever
mode or window they belong to; a run whose A is pinned everywhere carries the scored positions alone.

The whole state between two layers is a few tensors (`State`): it can be written down, and a sweep can go on from it.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from ckdiff.probes.live.patches import ROUTING, Seen, capture, pin, swap

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from torch import Tensor

    from ckdiff.probes.live.calls import Call
    from ckdiff.probes.live.model import LiveModel
    from ckdiff.probes.prompts import Batch
    from ckdiff.report.schema.report import Side
    from ckdiff.scoring.runs import Patch, Run, Schedule, Source

SIDES: tuple[Side, Side] = ("base", "unlearned")


def host_of(run: Run) -> Side:
    """The side whose layers a run goes through."""
    return "unlearned" if run.direction == "restore" else "base"


def donor_of(run: Run) -> Side:
    """The side whose states or weights a run receives."""
    return "base" if run.direction == "restore" else "unlearned"


def ends_of(run: Run) -> Side:
    """The side whose embedding, final norm and unembedding a run has."""
    return donor_of(run) if run.donor_ends else host_of(run)


@dataclass(slots=True)
class State:
    """Everything that a sweep knows between two layers.

    Attributes:
        layer: the next layer.
        own: by side its own run, one tensor a batch [question, position, d_model].
        runs: by number of the run: one tensor a batch, or one [1, scored position, d_model] for a pointwise run.
    """

    layer: int
    own: dict[Side, list[Tensor]]
    runs: dict[int, list[Tensor]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pair:
    """The two live models."""

    base: LiveModel
    unlearned: LiveModel

    def side(self, name: Side) -> LiveModel:
        """One of them."""
        return self.base if name == "base" else self.unlearned

    def regime(self, length: int) -> Hashable:
        """Equal for two lengths whose texts may share a forward of both."""
        return self.base.regime(length), self.unlearned.regime(length)


class Sweep:
    """One pass over the layers of a pair.

    sweep = Sweep(pair, batches, runs, chunk)
    state = sweep.begin()
    while state.layer < layers:
        sweep.advance(state)
    finals = sweep.finals(state)
    """

    def __init__(self, pair: Pair, batches: Sequence[Batch], plan: Schedule, runs: Sequence[int], chunk: int) -> None:
        """Prepare a pass.

        Args:
            pair: the live models; the caller loads and unloads their layers.
            batches: the questions with their answers.
            plan: all runs.
            runs: numbers of the runs of this pass.
            chunk: at most so many positions go through a layer in one call, if one run has no more.
        """
        self.pair, self.batches, self.plan, self.chunk = pair, batches, plan, chunk
        self.numbers = tuple(runs)
        self.calls: dict[Side, list[list[Call]]] = {}

    def begin(self) -> State:
        """Both embeddings; needs the ends of both models loaded."""
        own: dict[Side, list[Tensor]] = {}
        for side in SIDES:
            fronts = [self.pair.side(side).front(batch.ids) for batch in self.batches]
            own[side] = [states for states, _ in fronts]
            self.calls[side] = [calls for _, calls in fronts]
        return State(0, own)

    def advance(self, state: State, tick: Callable[[int], None] | None = None) -> None:
        """One layer; needs that layer of both models loaded.

        Args:
            state: changed in place.
            tick: called with the number of runs that have gone through the layer.
        """
        number = state.layer
        before = dict(state.own)
        notes = {side: self._own(side, number, state) for side in SIDES}
        states = LayerStates(self.pair, number, notes, self.batches)
        self._start(number, state, before)
        groups: dict[tuple[Side, Patch], list[int]] = {}
        for run_number in state.runs:
            run = self.plan.runs[run_number]
            groups.setdefault((host_of(run), run.patch(number)), []).append(run_number)
        for (host, patch), members in groups.items():
            for pointwise in (False, True):
                alike = [member for member in members if self.plan.runs[member].pointwise == pointwise]
                self._group(host, patch, alike, pointwise, number, state, states)
                if tick is not None:
                    tick(len(alike))
        state.layer = number + 1

    def finals(self, state: State) -> tuple[dict[Side, Tensor], dict[int, Tensor]]:
        """Inputs of each unembedding at the scored positions [position, d_model]: both sides', and every run's."""
        own = {side: self.pair.side(side).tail(self._scored_states(state.own[side])) for side in SIDES}
        runs = {}
        for number, units in state.runs.items():
            run = self.plan.runs[number]
            rows = units[0][0] if run.pointwise else self._scored_states(units)
            runs[number] = self.pair.side(ends_of(run)).tail(rows)
        return own, runs

    def own_scored(self, state: State, side: Side) -> Tensor:
        """A side's own state at the scored positions, after the last layer [position, d_model]."""
        return self._scored_states(state.own[side])

    # ------------------------------------------------------------------------------------------------------ parts

    def _own(self, side: Side, number: int, state: State) -> list[Seen]:
        live, notes, after = self.pair.side(side), [], []
        for index, states in enumerate(state.own[side]):
            keys, routing = self._key_outputs(side, number), self._takes_routing(number)
            with capture(live.sites[number], len(states), keys, routing) as seen:
                after.append(live.layer(number, states, self.calls[side][index][number]))
            notes.append(seen)
        state.own[side] = after
        return notes

    def _key_outputs(self, side: Side, number: int) -> list[str]:
        """Names of the outputs of keys that some run takes from a side in a layer."""
        found: dict[str, None] = {}
        for run in (self.plan.runs[run_number] for run_number in self.numbers):
            other = "donor" if host_of(run) == side else "host"
            if run.first <= number:
                found |= {name: None for name, source in run.patch(number).key_outputs if source != other}
        return list(found)

    def _takes_routing(self, number: int) -> bool:
        """Whether some run takes what a router gives in a layer."""
        runs = (self.plan.runs[run_number] for run_number in self.numbers)
        return any(run.patch(number).routing is not None for run in runs if run.first <= number)

    def _start(self, number: int, state: State, before: dict[Side, list[Tensor]]) -> None:
        """Runs whose window begins here start as what their host had before this layer."""
        for run_number in self.numbers:
            run = self.plan.runs[run_number]
            if run.first == number:
                states = before[ends_of(run)] if number == 0 else before[host_of(run)]
                state.runs[run_number] = [self._scored_states(states)[None]] if run.pointwise else list(states)

    def _scored_states(self, states: Sequence[Tensor]) -> Tensor:
        rows = [
            part.reshape(-1, part.shape[-1])[batch.scored] for part, batch in zip(states, self.batches, strict=True)
        ]
        return torch.cat(rows)

    def _group(
        self,
        host: Side,
        patch: Patch,
        members: Sequence[int],
        pointwise: bool,
        number: int,
        state: State,
        states: LayerStates,
    ) -> None:
        """All runs that need one patch in this layer, a chunk at a time."""
        if not members:
            return
        attention, mlp = states.attention(host, patch.attention), states.mlp(host, patch)
        keys = {name: states.key_output(host, name, source) for name, source in patch.key_outputs}
        routing = states.routing(host, patch.routing)
        if pointwise:
            attention = None if attention is None else [self._scored_states(attention)[None]]
            mlp = None if mlp is None else [self._scored_states(mlp)[None]]
            keys, routing = (
                {name: [self._scored_states(value)[None]] for name, value in given.items()} for given in (keys, routing)
            )
        live, other = self.pair.side(host), self.pair.side("base" if host == "unlearned" else "unlearned")
        sites = live.sites[number]
        for unit in range(len(state.runs[members[0]])):
            call = self.calls[host][unit][number]
            rows, width, _ = state.runs[members[0]][unit].shape
            step = max(1, self.chunk // (rows * width))
            for start in range(0, len(members), step):
                part = members[start : start + step]
                inputs = [state.runs[member][unit] for member in part]
                joined = inputs[0] if len(part) == 1 else torch.cat(inputs)
                with ExitStack() as stack:
                    stack.enter_context(swap(sites, other.sites[number], patch.swaps))
                    a, c = (None if value is None else _times(value[unit], len(part)) for value in (attention, mlp))
                    k, r = (_times_each(given, unit, len(part)) for given in (keys, routing))
                    stack.enter_context(pin(sites, states.notes[host][0], a, c, k, r))
                    result = live.layer(number, joined, call)
                for member, piece in zip(part, result.split(rows), strict=True):
                    state.runs[member][unit] = piece


class LayerStates:
    """The states of both models in one layer, and what follows from them; made when first asked for."""

    def __init__(self, pair: Pair, number: int, notes: dict[Side, list[Seen]], batches: Sequence[Batch]) -> None:
        self.pair, self.number, self.notes, self.batches = pair, number, notes, batches
        self._products: dict[tuple[Side, Side], list[Tensor]] = {}
        self._shifted: dict[tuple[str, Side, Side], list[Tensor]] = {}
        self._rerouted_blocks: dict[tuple[Side, Source], list[Tensor]] = {}

    def attention(self, host: Side, source: Source | None) -> list[Tensor] | None:
        """A of the host, of the donor, or of the donor on another question; one tensor a batch."""
        if source is None:
            return None
        donor: Side = "base" if host == "unlearned" else "unlearned"
        if source == "wrong":
            return self._wrong("attention", host, donor, self._own(donor), self._own(host))
        return self._own(host if source == "host" else donor)

    def key_output(self, host: Side, name: str, source: Source) -> list[Tensor]:
        """One of the keys' outputs in the host, in the donor, or in the donor on another question."""
        donor: Side = "base" if host == "unlearned" else "unlearned"
        if source != "wrong":
            return [seen.key_outputs[name] for seen in self.notes[host if source == "host" else donor]]
        theirs, own = (self.key_output(host, name, side) for side in ("donor", "host"))
        return self._wrong(name, host, donor, theirs, own)

    def routing(self, host: Side, source: Source | None) -> dict[str, list[Tensor]]:
        """By name of `ROUTING` what the router gives in the host, in the donor, or there on another question."""
        if source is None:
            return {}
        donor: Side = "base" if host == "unlearned" else "unlearned"
        if source != "wrong":
            notes = self.notes[host if source == "host" else donor]
            return {name: [seen.routing[name] for seen in notes] for name in ROUTING}
        theirs, own = (self.routing(host, side) for side in ("donor", "host"))
        return {name: self._wrong(name, host, donor, theirs[name], own[name]) for name in ROUTING}

    def mlp(self, host: Side, patch: Patch) -> list[Tensor] | None:
        """W_V m with m and W_V from where the patch says; one tensor a batch."""
        if patch.coefficients is None:
            return None
        if patch.routing is not None:
            return self._rerouted(host, patch.routing)
        donor: Side = "base" if host == "unlearned" else "unlearned"
        values = donor if patch.donor_values else host
        if patch.coefficients == "wrong":
            return self._wrong("mlp", host, values, self.product(donor, values), self.product(host, values))
        return self.product(host if patch.coefficients == "host" else donor, values)

    def product(self, coefficients: Side, values: Side) -> list[Tensor]:
        """W_V of one side applied to m of one side."""
        key = (coefficients, values)
        if key not in self._products:
            self._products[key] = [self._product(seen, coefficients, values) for seen in self.notes[coefficients]]
        return self._products[key]

    def _own(self, side: Side) -> list[Tensor]:
        found = [seen.attention for seen in self.notes[side]]
        return [state for state in found if state is not None]

    def _product(self, seen: Seen, coefficients: Side, values: Side) -> Tensor:
        assert seen.mlp is not None
        if coefficients == values:
            return seen.mlp
        own, other = self.pair.side(coefficients).sites[self.number], self.pair.side(values).sites[self.number]
        if own.mlp is not None:
            # In a mixture m is the routed experts' coefficients with their weights: run the block anew with other W_V.
            with swap(own, other, ("value_vectors",)):
                result = own.mlp(seen.mlp_input)
            found: Tensor = result[0] if isinstance(result, tuple) else result
            return found
        assert other.values is not None
        product: Tensor = other.values(seen.coefficients)
        return product

    def _rerouted(self, host: Side, source: Source) -> list[Tensor]:
        """What the host's block of experts makes of its own input, with the routing of another."""
        key = (host, source)
        if key not in self._rerouted_blocks:
            sites, routing, found = self.pair.side(host).sites[self.number], self.routing(host, source), []
            assert sites.mlp is not None
            for unit, seen in enumerate(self.notes[host]):
                with pin(sites, seen, routing={name: value[unit] for name, value in routing.items()}):
                    result = sites.mlp(seen.mlp_input)
                found.append(result[0] if isinstance(result, tuple) else result)
            self._rerouted_blocks[key] = found
        return self._rerouted_blocks[key]

    def _wrong(self, what: str, host: Side, values: Side, donor: list[Tensor], own: list[Tensor]) -> list[Tensor]:
        """The donor's states on another question, answer on answer, and the host's own where it has no position."""
        key = (what, host, values)
        if key not in self._shifted:
            self._shifted[key] = other_question(donor, own, self.batches)
        return self._shifted[key]


def other_question(donor: Sequence[Tensor], own: Sequence[Tensor], batches: Sequence[Batch]) -> list[Tensor]:
    """For each question the donor's states on another one, placed so that both answers begin at one position.

    Where the other question has no position (before its prompt, behind its answer) they are the host's own.

    Args:
        donor: states by batch [question, position, d_model].
        own: the host's, in the same shape.
        batches: with the real length of each question, where its answer begins, and which the other one is.
    """
    rows = [row for states in donor for row in states]
    lengths = [length for batch in batches for length in batch.lengths]
    answers = [answer for batch in batches for answer in batch.answers]
    result = []
    for states, batch in zip(own, batches, strict=True):
        mixed = states.clone()
        for row, (length, answer, other) in enumerate(zip(batch.lengths, batch.answers, batch.others, strict=True)):
            shift = answer - answers[other]
            first, last = max(0, shift), min(length, lengths[other] + shift)
            mixed[row, first:last] = rows[other][first - shift : last - shift]
        result.append(mixed)
    return result


def _times_each(given: Mapping[str, list[Tensor]], unit: int, runs: int) -> dict[str, Tensor]:
    return {name: _times(value[unit], runs) for name, value in given.items()}


def _times(state: Tensor, runs: int) -> Tensor:
    return state if runs == 1 else state.repeat(runs, 1, 1)
