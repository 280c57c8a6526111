"""Layers and neurons whose response fell most where the found words are lost.

    places = lost_places(words, look, texts)        # positions at which most of the found words are lost
    before = mean_coefficients(live, places, size)  # of each model, loaded: by layer how much greater m is there
    falls(models, before, after, gain, weight)      # layers, and neurons with the tokens that they raise

A neuron writes m v into the residual stream: its coefficient times its value vector. Its response is how much more it
writes there than elsewhere in the same texts, along the base's v: neurons of all layers are measured in the one stream
that they add to, what changed everywhere alike does not count, and both a changed coefficient and a changed value
vector do.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ckdiff.discovery.directions import value_matrices, written_cosines
from ckdiff.discovery.groups import hits_of
from ckdiff.discovery.words import decode
from ckdiff.probes.live.patches import replace_forward
from ckdiff.probes.prompts import batches
from ckdiff.report.schema.discovery import LayerFall, NeuronFall

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

    from ckdiff.discovery.lost import Look
    from ckdiff.discovery.opening import Models
    from ckdiff.discovery.texts import Texts
    from ckdiff.probes.live.model import LiveModel
    from ckdiff.probes.prompts import Prompt
    from ckdiff.report.schema.discovery import LostWord

    Means = dict[int, Tensor]

PLACES = 64
"""Positions that are looked at, those with the most lost words first."""
NEURONS = 12
RAISED = 6
"""Tokens of a neuron."""
ROUNDING = 1e-5
"""A neuron whose response fell by a smaller share of it did not fall."""


@dataclass(frozen=True, slots=True)
class Place:
    """A text, and positions in it."""

    prompt: Prompt
    positions: tuple[int, ...]

    @property
    def others(self) -> list[int]:
        """Its other positions; the first one, at which every text is alike, is none of them."""
        return [place for place in range(1, self.prompt.length) if place not in self.positions]


def lost_places(words: Sequence[LostWord], seen: Look, texts: Texts) -> list[Place]:
    """Where most of some words are lost; none where no word is."""
    counts = hits_of(seen, np.array([one.token for one in words], dtype=np.int64)).sum(axis=1)
    order = [place for place in np.argsort(-counts, kind="stable")[:PLACES].tolist() if counts[place]]
    inside: dict[int, list[int]] = {}
    for place in sorted(order):
        text = int(seen.texts[place])
        inside.setdefault(text, []).append(place - int(np.searchsorted(seen.texts, text)))
    return [_place(texts.prompts[text], inner) for text, inner in inside.items()]


def answer_places(prompts: Sequence[Prompt]) -> list[Place]:
    """Every position of some answers."""
    return [_place(one, range(len(one.answer))) for one in prompts]


def _place(prompt: Prompt, inner: Sequence[int]) -> Place:
    return Place(prompt, tuple(prompt.scored.start + one for one in inner))


def mean_coefficients(live: LiveModel, places: Sequence[Place], size: int) -> Means:
    """By number of each dense layer the mean of m over the positions, less that over the others [neuron].

    All parameters must be loaded. Where there are no others nothing is taken off. At most so many texts go together.
    """
    places = sorted(places, key=lambda one: one.prompt.length)
    counts = [
        max(1, sum(map(len, each))) for each in zip(*((one.positions, one.others) for one in places), strict=True)
    ]
    sums: Means = {}
    for batch in batches([one.prompt for one in places], size, live.device, live.regime):
        shares = torch.zeros(batch.ids.shape, dtype=torch.float64, device=live.device)
        for row, place in zip(shares, places[batch.first : batch.first + len(batch.ids)], strict=True):
            row[list(place.positions)] = 1 / counts[0]
            row[place.others] = -1 / counts[1]
        with ExitStack() as stack:
            for number, sites in enumerate(live.sites):
                if sites.values is not None:
                    adding = _adding(sites.values, sums, number, shares.flatten())
                    stack.enter_context(replace_forward(sites.values, adding))
            live.forward(ends=batch.ids.new_zeros(len(batch.ids)), input_ids=batch.ids, use_cache=False)
    return sums


def _adding(module: nn.Module, sums: Means, number: int, shares: Tensor) -> Callable[[Tensor], Tensor]:
    """The module's own forward, which adds up so much of what goes into it at each position."""
    original = module.forward

    def forward(inputs: Tensor) -> Tensor:
        rows = shares @ inputs.flatten(0, -2).double()
        sums[number] = sums[number] + rows if number in sums else rows
        result: Tensor = original(inputs)
        return result

    return forward


def falls(
    models: Models, before: Means, after: Means, gain: Tensor, weight: Tensor
) -> tuple[tuple[LayerFall, ...], tuple[NeuronFall, ...]]:
    """What each layer's MLP writes less, and the neurons whose response fell most.

    Args:
        models: whose weights are read again, layer by layer.
        before: of the base, from `mean_coefficients`.
        after: of the unlearned model, at the same positions.
        gain: of the final norm, from `norm_gain`.
        weight: the base's unembedding.
    """
    layers: list[LayerFall] = []
    best: list[tuple[float, float, int, int, Tensor]] = []
    for number, ours, theirs in value_matrices(models.base, models.unlearned):
        mine, other = before[number].to(ours), after[number].to(ours)
        written, left = ours @ mine, theirs @ other
        layers.append(LayerFall(number, float(written.norm()), float((written - left).norm())))
        base, fall = responses(ours, theirs, mine, other)
        for neuron in fall.topk(min(NEURONS, len(fall))).indices.tolist():
            sign = -1.0 if mine[neuron] < 0 else 1.0
            best.append((float(fall[neuron]), float(base[neuron]), number, neuron, sign * ours[:, neuron]))
    best = sorted(best, key=lambda one: -one[0])[:NEURONS]
    best = [one for one in best if one[0] > ROUNDING * one[1]]
    tokens = _raised(models, [vector for *_, vector in best], gain, weight)
    return tuple(layers), tuple(
        NeuronFall(layer, neuron, base, fall, told)
        for (fall, base, layer, neuron, _), told in zip(best, tokens, strict=True)
    )


def responses(ours: Tensor, theirs: Tensor, before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """What each neuron writes along the base's value vector, and how much less the unlearned model's does [neuron].

    base = |m| |v|; fall = base - sign(m) m' v'.v / |v|, with m and v of the base, m' and v' of the unlearned model, in
    the unit of the residual stream.
    """
    length = ours.norm(dim=0)
    base = before.abs() * length
    along = (theirs * ours).sum(0) / length.clamp(min=torch.finfo(ours.dtype).tiny)
    return base, base - torch.where(before < 0, -after, after) * along


def _raised(models: Models, vectors: Sequence[Tensor], gain: Tensor, weight: Tensor) -> list[tuple[str, ...]]:
    """The tokens that each vector raises most, as the final norm and the unembedding read it."""
    if not vectors:
        return []
    cosines = written_cosines(torch.stack([*vectors]), gain, weight)
    highest = cosines.topk(min(RAISED, len(cosines)), dim=0).indices.T.tolist()
    return [tuple(decode(models.tokenizer, [token]).strip() for token in row) for row in highest]
