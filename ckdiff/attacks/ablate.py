"""What unlearning added to every state, taken out again: `outcomes(case, live, side)`.

    d = mean(h unlearned - h base) at a layer's output, over the questions alone, without an answer
    h' = h - (h d) d / |d|^2 in every layer, each with its own d

A method that writes one vector over what the model says (RMU steers states towards one) is undone by that. The base
only says which direction; what is taken out can give no answer away. Twenty random directions in its place say how
much of what happens is due to this one. Sources: Arditi et al. 2024, arXiv:2406.11717; Łucki et al. 2024,
arXiv:2409.18025.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from ckdiff.attacks.case import AttackError, Outcome
from ckdiff.attacks.relearn import weigh_ruin
from ckdiff.probes.forcing import watch_layers
from ckdiff.probes.prompts import Prompt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor, nn

    from ckdiff.attacks.case import Case, Reading
    from ckdiff.probes.live.model import LiveModel
    from ckdiff.probes.prompts import Batch
    from ckdiff.report.schema.attack import Attacked

RANDOM = 20
"""Random directions that the control takes out."""
PLACES = {"mean over the question": False, "mean at the question's end": True}
"""Settings, and whether the direction is of the last position alone."""


def outcomes(case: Case, live: LiveModel, side: Attacked) -> Iterator[Outcome]:
    """One outcome a direction, and of the unlearned model one of the best of the random ones.

    Raises:
        AttackError: the two models have the same states, or states of another shape.
    """
    base = case.job.pair.base
    # What is done to the unlearned model is done to the base too, which has no direction of its own.
    moved: tuple[Attacked, LiveModel] = ("unlearned", case.job.pair.unlearned) if side == "base" else (side, live)
    known, found = _means(case, "base", base), _means(case, *moved)
    if [one.shape for one in known] != [one.shape for one in found]:
        raise AttackError("its states have another shape than the base's: there is no direction between them")
    for number, (setting, last) in enumerate(PLACES.items()):
        case.listener.progress(f"ablating the {side}", number, len(PLACES), setting)
        ways = [(theirs - own)[int(last)] for own, theirs in zip(known, found, strict=True)]
        share = sum(bool(way.any()) for way in ways) / len(ways)
        if not share:
            raise AttackError("its states are those of the base at every layer: there is no direction between them")
        with case.loaded(live), without(live, ways):
            yield Outcome(setting, _look(case, live, side), applied=share)
    if side == "unlearned":
        yield _random(case, live, ways)
    case.listener.progress(f"ablating the {side}", len(PLACES), len(PLACES), "")


def _look(case: Case, live: LiveModel, side: Attacked) -> Reading:
    """What the model makes of the questions, and what it says to them."""
    reading = case.read(live, side, matching=side != "base")
    if side == "base":
        return reading
    reading = weigh_ruin(case, live, reading)
    said = case.say(live, [one.ids for one in case.sought])
    found = case.hits(said, reading.said)
    return replace(reading, said=found, texts=reading.texts + len(said))


def _random(case: Case, live: LiveModel, ways: Sequence[Tensor]) -> Outcome:
    """Random directions in the same layers: that after which the answers are most likely, and how far all lie apart."""
    generator = torch.Generator().manual_seed(case.options.seed)
    drawn = [
        [torch.randn(way.shape, generator=generator, dtype=way.dtype) * bool(way.any()) for way in ways]
        for _ in range(RANDOM)
    ]
    levels: list[float] = []
    with case.loaded(live):
        for number, chosen in enumerate(drawn):
            case.listener.progress("ablating at random", number, RANDOM, "directions")
            with without(live, chosen):
                levels.append(float(case.read(live, "unlearned", matching=False, beside=False).level.mean()))
        # Of one alone all is wanted.
        with without(live, drawn[levels.index(max(levels))]):
            best = case.read(live, "unlearned", matching=False)
    case.listener.progress("ablating at random", RANDOM, RANDOM, "")
    note = f"the control: mean log p a token from {min(levels):.2f} to {max(levels):.2f}; the greatest is shown"
    reading = replace(best, texts=best.texts + RANDOM * len(case.sought))
    return Outcome(f"best of {RANDOM} random directions", reading, decides=False, note=note)


def _means(case: Case, side: Attacked, live: LiveModel) -> list[Tensor]:
    """Mean output of each layer over the questions [of all positions and of the last one, d_model], once a model.

    The first position is left out: what stands there is large, and the same for every text.
    """
    if side in case.means:
        return case.means[side]
    # What the last position predicts is scored, whatever it is.
    prompts = [Prompt(one.question, one.ids, (0,)) for one in case.sought]
    sums: dict[int, Tensor] = {}

    def watch(layer: int, batch: Batch, states: Tensor) -> None:
        for state, length in zip(states, batch.lengths, strict=True):
            inner = state[min(1, length - 1) : length].double()
            both = torch.stack([inner.mean(0), inner[-1]]).cpu()
            sums[layer] = sums.get(layer, torch.zeros_like(both)) + both / len(prompts)

    with case.loaded(live):
        watch_layers(live, prompts, case.way, watch)
    case.means[side] = found = [sums[layer] for layer in sorted(sums)]
    return found


@contextmanager
def without(live: LiveModel, ways: Sequence[Tensor]) -> Iterator[None]:
    """The model without one direction [d_model] in the output of each layer; a zero one takes nothing out."""
    with ExitStack() as stack:
        for layer, way in zip(live.layers, ways, strict=True):
            if way.any():
                unit = (way / way.norm()).to(live.device, live.dtype)
                stack.callback(layer.register_forward_hook(_taking_out(unit)).remove)
        yield


def _taking_out(unit: Tensor) -> Any:
    """A hook on a layer's output; where a stub stands for the layer, it has been taken out already."""

    def hook(module: nn.Module, args: Any, result: Any) -> Any:
        if "forward" in vars(module):
            return result
        states = result[0] if isinstance(result, tuple) else result
        rest = states - (states @ unit)[..., None] * unit
        return (rest, *result[1:]) if isinstance(result, tuple) else rest

    return hook
