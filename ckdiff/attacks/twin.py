"""The positive control: a copy of the base that was suppressed on the spot. `suppress(case)` makes it.

What an attack does not bring back is gone only if it brings back what is known to be there. The twin is the base after
a few steps up the loss of its own answers (the cheapest method of `ckdiff unlearn`), no further than it takes to
silence them: what it held is still in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ckdiff.attacks.case import AttackError
from ckdiff.attacks.evidence import wrecked
from ckdiff.attacks.training import descend, trainable, widened
from ckdiff.audit.verdict.rules import RULES
from ckdiff.probes.live.model import LiveModel
from ckdiff.unlearn.methods import METHODS, Terms, sequence_nll
from ckdiff.unlearn.sequences import Tokens

if TYPE_CHECKING:
    from torch import Tensor

    from ckdiff.attacks.case import Case

METHOD = "grad_ascent"
LIMIT = 6.0
"""-log p of a token, in nats, beyond which it is left alone: ascent has no end of its own."""
STEPS = 60
"""At most; a base whose answers stand after so many has no twin."""
LEAST_LOST = 0.5
"""Of the facts that count the share that a twin must have lost at least."""


@dataclass(frozen=True, slots=True)
class Twin:
    """A suppressed copy, and how it came about in words."""

    live: LiveModel
    says: str


def suppress(case: Case) -> Twin:
    """A copy of the base that does not give its answers.

    Raises:
        AttackError: so many steps do not silence it, or they ruin it.
        TooLittleMemoryError: it cannot be trained here.
    """
    from ckdiff.unlearn.trainer import DivergedError

    base = case.job.pair.base
    texts = [Tokens((*one.ids, *one.answer), len(one.ids)) for one in case.sought if one.counts]
    rate = widened(METHODS[METHOD].lr, base)
    left, taken, kept = [len(texts)], [0], [1.0]
    with trainable(case, base, longest=max(len(text.ids) for text in texts)) as model:

        def after(step: int) -> bool:
            case.listener.progress("suppressing a twin", step, STEPS, f"steps, {left[0]} answers left")
            with torch.inference_mode():
                reading = case.read(model, "base", matching=False)
            left[0] = sum(case.sought[place].counts for place in reading.said)
            taken[0], kept[0] = step, reading.unrelated
            return left[0] == 0 or wrecked(reading)

        try:
            descend(model, texts, STEPS, rate, case.options.seed, after, ascend)
        except DivergedError as error:
            raise AttackError(f"no suppressed copy of the base could be made: {error}") from error
        values = {name: value.detach().to("cpu", copy=True) for name, value in model.parameters()}
    case.listener.progress("suppressing a twin", STEPS, STEPS, "")
    if left[0] > (1 - LEAST_LOST) * len(texts) or not RULES["kept"].holds(kept[0]):
        raise AttackError(
            f"no suppressed copy of the base could be made: {taken[0]} steps of {METHOD} left {left[0]} of"
            f" {len(texts)} answers, and {kept[0]:.2f} of the unrelated ones"
        )
    live = LiveModel(base.checkpoint, base.dtype, base.device, case.job.settings.attention)
    live.values = values
    return Twin(live, f"{taken[0]} steps of {METHOD} at {rate:g}; {kept[0]:.2f} of its unrelated answers stand")


def ascend(logits: Tensor, labels: Tensor) -> Tensor:
    """The loss of `METHOD` on a batch; both [text, position, ...]."""
    return METHODS[METHOD].forget(Terms(*sequence_nll(logits, labels, LIMIT)))
