"""Coefficients of single neurons put back: the layers of a window with a gate a neuron, forward and backward.

A gate g makes a neuron's coefficient (1 - g) m_own + g m_donor at every position of every question, m_own being what
the host computes from whatever reaches the layer. So gates of 0 and 1 restore a set of neurons, all at 1 the whole
window as mode `coeff`, variant `open`, does, and all at 0 nothing.

    window = GatedWindow(pair, "unlearned", batches, (20, 24), stream=False, chunk=1024)
    window.finals(gates)                # what goes into the unembedding, a run a row of gates
    window.slopes(gates, by_hidden)     # the gradient of a loss by the gates

As in `sweep` all runs go through a layer together and a layer is needed only while they do. On the way back each layer
is computed once more from its kept input, so that gradients too are had of a pair that is streamed.
"""

from __future__ import annotations

from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import torch

from ckdiff.probes.live.patches import capture, gate_neurons
from ckdiff.probes.live.sites import widths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from ckdiff.probes.live.calls import Call
    from ckdiff.probes.live.model import LiveModel
    from ckdiff.probes.live.sites import LayerSites
    from ckdiff.probes.prompts import Batch
    from ckdiff.probes.sweep import Pair
    from ckdiff.report.schema.report import Side

    Units = list[Tensor]
    """One tensor a batch."""


GRADIENT = 4
"""A layer that keeps what its gradient needs gets this many times fewer positions in one call."""


def neuron_count(sites: LayerSites) -> int:
    """Neurons of a dense layer."""
    assert sites.values is not None
    return widths(sites.values)[0]


class GatedWindow:
    """The host from a window's first layer on, with gates on the neurons of the window's layers.

    Attributes:
        start: the host's own state before the window, one tensor a batch.
        inputs: by layer of the window what enters it in the donor's own run.
        neurons: how many each layer of the window has.
    """

    def __init__(
        self,
        pair: Pair,
        host: Side,
        batches: Sequence[Batch],
        window: tuple[int, int],
        stream: bool,
        chunk: int,
        pause: Callable[[], None] = lambda: None,
    ) -> None:
        """Bring both models to the window; what they show there is kept.

        Args:
            pair: the live models: all of them loaded or, where streamed, what lies outside the layers.
            host: whose layers the runs go through.
            batches: the questions with their answers.
            window: its first and its last layer, both dense.
            stream: load each layer when it is needed and forget it again.
            chunk: at most so many positions go through a layer in one call, if one run has no more.
            pause: called before each layer; it may raise.
        """
        self.host, self.donor = pair.side(host), pair.side("base" if host == "unlearned" else "unlearned")
        self.batches, self.stream, self.chunk, self.pause = batches, stream, chunk, pause
        self.first, self.last = window
        self.neurons = [neuron_count(self.host.sites[number]) for number in range(self.first, self.last + 1)]
        self.calls: dict[LiveModel, list[list[Call]]] = {}
        self.inputs: dict[int, Units] = {}
        self.start = self._approach(*self._begin())

    def finals(self, gates: Tensor) -> Tensor:
        """Inputs of the unembedding at the scored positions [run, position, d_model].

        Args:
            gates: [run, neuron], the neurons of the window's layers one layer after the other.
        """
        states = self._start_runs(len(gates))
        for number in range(self.first, len(self.host.layers)):
            states = self._forward(number, states, gates)
        scored = self._scored_states(states)
        return self.host.tail(scored.flatten(0, 1)).view(*scored.shape[:2], -1)

    def slopes(self, gates: Tensor, by_hidden: Callable[[Tensor], Tensor]) -> Tensor:
        """Gradient of a loss by the gates, each summed over questions and positions, float64 [run, neuron].

        Args:
            gates: as in `finals`.
            by_hidden: from what `finals` gives to the gradient of each run's loss by it, of the same shape.
        """
        kept = [self._start_runs(len(gates))]
        for number in range(self.first, len(self.host.layers)):
            kept.append(self._forward(number, kept[-1], gates))
        back = self._ends(kept.pop(), by_hidden)
        found = torch.zeros(gates.shape, dtype=torch.float64, device=gates.device)
        for number in reversed(range(self.first, len(self.host.layers))):
            back = self._backward(number, kept.pop(), back, gates, found)
        return found

    # ------------------------------------------------------------------------------------------------------ layers

    def _begin(self) -> tuple[Units, Units]:
        """Both models' embeddings, host and donor."""
        found = []
        for live in (self.host, self.donor):
            if self.stream:
                live.load_ends(unembedding=False)
            fronts = [live.front(batch.ids) for batch in self.batches]
            if self.stream:
                live.unload_embedding()
            self.calls[live] = [calls for _, calls in fronts]
            found.append([states for states, _ in fronts])
        return found[0], found[1]

    def _approach(self, host: Units, donor: Units) -> Units:
        """The host's own state before the window; of the donor the inputs of the window's layers are kept."""
        for number in range(self.last + 1):
            self.pause()
            if number >= self.first:
                self.inputs[number] = donor
            else:
                with self._there(self.host, number):
                    host = self._own(self.host, number, host)
            if number < self.last:
                with self._there(self.donor, number):
                    donor = self._own(self.donor, number, donor)
        return host

    def _own(self, live: LiveModel, number: int, states: Units) -> Units:
        calls = self.calls[live]
        return [live.layer(number, state, call[number]) for state, call in zip(states, calls, strict=True)]

    @contextmanager
    def _there(self, live: LiveModel, number: int) -> Iterator[None]:
        """A layer, for as long as the block runs."""
        if self.stream:
            live.load_layer(number)
        yield
        if self.stream:
            live.unload_layer(number)

    def _coefficients(self, number: int) -> Sequence[Tensor | None]:
        """The donor's m in a layer, one tensor a batch; None behind the window."""
        if number > self.last:
            return [None] * len(self.batches)
        found, inputs = [], self.inputs[number]
        with self._there(self.donor, number):
            for states, calls in zip(inputs, self.calls[self.donor], strict=True):
                with capture(self.donor.sites[number], len(states)) as seen:
                    self.donor.layer(number, states, calls[number])
                found.append(seen.coefficients)
        return found

    def _columns(self, number: int) -> slice:
        """The gates of a layer among those of the window."""
        before = sum(self.neurons[: number - self.first])
        return slice(before, before + (self.neurons[number - self.first] if number <= self.last else 0))

    def _start_runs(self, runs: int) -> Units:
        """The host's own state before the window, once a run: [run, question, position, d_model]."""
        return [states.expand(runs, *states.shape) for states in self.start]

    def _chunks(self, states: Tensor, share: int = 1) -> Iterator[slice]:
        runs, rows, width, _ = states.shape
        step = max(1, self.chunk // (share * rows * width))
        for start in range(0, runs, step):
            yield slice(start, start + step)

    def _forward(self, number: int, states: Units, gates: Tensor) -> Units:
        self.pause()
        gates = gates[:, self._columns(number)]
        donors = self._coefficients(number)
        with self._there(self.host, number):
            return [
                torch.cat([self._layer(number, unit, state[runs], donor, gates[runs]) for runs in self._chunks(state)])
                for unit, (state, donor) in enumerate(zip(states, donors, strict=True))
            ]

    def _layer(self, number: int, unit: int, states: Tensor, donor: Tensor | None, gates: Tensor) -> Tensor:
        """One layer of the host for some runs of one batch."""
        call = self.calls[self.host][unit][number]
        with gate_neurons(self.host.sites[number], donor, gates) if donor is not None else nullcontext():
            return self.host.layer(number, states.flatten(0, 1), call).reshape(states.shape)

    def _backward(self, number: int, states: Units, back: Units, gates: Tensor, found: Tensor) -> Units:
        """From the gradient by what leaves a layer to that by what enters it; those by its gates are added to `found`.

        Args:
            number: the layer.
            states: what enters it.
            back: the gradient by what leaves it.
            gates: of the window.
            found: of the window [run, neuron].
        """
        self.pause()
        columns, result = self._columns(number), []
        donors = self._coefficients(number)
        with self._there(self.host, number):
            for unit, (state, after, donor) in enumerate(zip(states, back, donors, strict=True)):
                before = torch.empty_like(after)
                for runs in self._chunks(state, GRADIENT):
                    entering, own = state[runs].clone().requires_grad_(), gates[runs, columns].clone().requires_grad_()
                    with torch.enable_grad():
                        # A copy: some layers add into what they are given.
                        leaving = self._layer(number, unit, entering.clone(), donor, own)
                    wanted = (entering,) if donor is None else (entering, own)
                    slopes = torch.autograd.grad(leaving, wanted, after[runs])
                    before[runs] = slopes[0]
                    if donor is not None:
                        found[runs, columns] += slopes[1].double()
                result.append(before)
        return result

    # -------------------------------------------------------------------------------------------------------- ends

    def _scored_states(self, states: Units) -> Tensor:
        """The scored positions of all batches [run, position, d_model]."""
        parts = zip(states, self.batches, strict=True)
        return torch.cat([part.flatten(1, 2)[:, batch.scored] for part, batch in parts], 1)

    def _ends(self, states: Units, by_hidden: Callable[[Tensor], Tensor]) -> Units:
        """The gradient by what leaves the last layer."""
        scored = self._scored_states(states).requires_grad_()
        with torch.enable_grad():
            hidden = self.host.tail(scored.flatten(0, 1)).view(*scored.shape[:2], -1)
        (slopes,) = torch.autograd.grad(hidden, scored, by_hidden(hidden.detach()).to(hidden.dtype))
        result = [torch.zeros_like(part) for part in states]
        parts = slopes.split([len(batch.scored) for batch in self.batches], 1)
        for whole, part, batch in zip(result, parts, self.batches, strict=True):
            whole.flatten(1, 2)[:, batch.scored] = part
        return result
