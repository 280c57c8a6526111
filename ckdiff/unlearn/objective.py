"""One loss for what is learned and what is unlearned: `Objective.loss(model, items, place)`.

An objective holds every text as ids. Forget texts come in the order of the Trainer; retain texts (and preferred ones
that are retain texts) are drawn by the number of the batch, each once before any comes again, so that a resumed
training goes on with the same ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ckdiff.unlearn.methods import IGNORED, Terms, ce, kl, sequence_nll, state_distance
from ckdiff.unlearn.sequences import pad
from ckdiff.unlearn.steering import read_states

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor

    from ckdiff.probes.live.model import LiveModel
    from ckdiff.unlearn.methods import Method
    from ckdiff.unlearn.sequences import Padded, Tokens
    from ckdiff.unlearn.steering import Steering


@dataclass(slots=True)
class Objective:
    """The loss of one unlearning, and the texts that it is taken of.

    Attributes:
        live: the model in training.
        base: the model that it started from, where the loss needs its logits or states; else None.
        method: what is done with forget texts.
        forget: texts to forget.
        retain: texts to hold on to; may be empty.
        preferred: for each forget text the one preferred to it; empty: drawn from `retain`.
        retain_loss, weight: what is added on retain texts.
        beta: see `methods.Terms`.
        limit: of the forget texts' tokens, see `methods.sequence_nll`; for ascent only.
        seed: of the order of retain texts.
        batch: forget texts a batch, the last one of an epoch aside.
        margin: see `methods.Terms`.
        steering: where states are read, and where to they are led; None where the method reads none.
        base_nll: of each forget text under the base, once `ask_base` has been called.
    """

    live: LiveModel
    base: LiveModel | None
    method: Method
    forget: Sequence[Tokens]
    retain: Sequence[Tokens]
    preferred: Sequence[Tokens]
    retain_loss: str
    weight: float
    beta: float
    limit: float | None
    seed: int
    batch: int
    margin: float = 0.0
    steering: Steering | None = None
    base_nll: dict[str, list[float]] = field(default_factory=dict)

    def items(self) -> list[int]:
        """Numbers of the forget texts: the data set."""
        return list(range(len(self.forget)))

    def ask_base(self, batch: int, arithmetic: Callable[[], AbstractContextManager[None]]) -> None:
        """Keep what the base gives to each text, while the model in training still is the base."""
        texts = {"forget": self.forget if self.method.base else ()}
        if self.method.preferred:
            texts["preferred"] = self.preferred or self.retain
        for name, sequences in texts.items():
            found: list[float] = []
            for first in range(0, len(sequences), batch):
                group = pad(sequences[first : first + batch], self.live.device)
                with torch.no_grad(), arithmetic():
                    logits = self.live.model(input_ids=group.ids, use_cache=False).logits
                    found += sequence_nll(logits, group.labels)[0].tolist()
            self.base_nll[name] = found

    def loss(self, model: Any, items: Sequence[int], place: int) -> Tensor:
        """The loss on some forget texts, by number, and on as many retain texts.

        Args:
            model: as the Trainer has wrapped it.
            items: numbers of forget texts.
            place: number of the batch since the beginning.
        """
        drawn = self.drawn(place, len(items))
        rows = [self.forget[item] for item in items]
        chosen = (items if self.preferred else drawn) if self.method.preferred else []
        rows += [(self.preferred or self.retain)[item] for item in chosen]
        rows += [self.retain[number] for number in drawn] if self.weight else []
        batch = pad(rows, self.live.device)
        # One forward for all of them: a batch twice as long is cheaper than two batches.
        with read_states(self.live, self._layer) as seen:
            logits = model(input_ids=batch.ids, use_cache=False).logits
        ends = len(items), len(items) + len(chosen)
        nll, tokens = sequence_nll(logits[: ends[1]], batch.labels[: ends[1]], self.limit)
        terms = Terms(
            nll[: ends[0]],
            tokens[: ends[0]],
            self._stored_nll("forget", items),
            nll[ends[0] :] if chosen else None,
            self._stored_nll("preferred", chosen),
            self.beta,
            self.margin,
            **self._closer(batch.rows(0, ends[0]), logits, seen),
        )
        loss = self.method.forget(terms)
        if self.weight:
            kept = batch.rows(ends[1], len(rows))
            loss = loss + self.weight * self._retain_loss(kept, logits[ends[1] :], [one[ends[1] :] for one in seen])
        return loss

    @property
    def _layer(self) -> int | None:
        return None if self.steering is None else self.steering.layer

    def _closer(self, forget: Padded, logits: Tensor, seen: Sequence[Tensor]) -> dict[str, Tensor]:
        """What a method reads of the forget texts beside their probabilities: logits or states, a scored token each."""
        scored = forget.labels[:, 1:] != IGNORED
        if self.method.reads == "states" and self.steering is not None:
            states = seen[0][: len(scored), :-1][scored]
            return {"states": states, "sequence": scored.nonzero()[:, 0], "steer": self.steering.steer}
        if self.method.reads == "logits" and self.base is not None:
            ours, base = logits[: len(scored), :-1][scored], self._of_base(forget)[0][:, :-1][scored]
            return {"logits": ours, "base_logits": base, "targets": forget.labels[:, 1:][scored]}
        return {}

    def _of_base(self, batch: Padded) -> tuple[Tensor, list[Tensor]]:
        """The base's logits, and its states where some are read."""
        assert self.base is not None
        with torch.no_grad(), read_states(self.base, self._layer) as seen:
            return self.base.model(input_ids=batch.ids, use_cache=False).logits, seen

    def _retain_loss(self, kept: Padded, logits: Tensor, seen: Sequence[Tensor]) -> Tensor:
        if self.retain_loss == "ce":
            return ce(logits, kept.labels)
        base_logits, base_seen = self._of_base(kept)
        if self.retain_loss == "kl":
            return kl(logits, base_logits, kept.labels)
        scored = kept.labels[:, 1:] != IGNORED
        ours, base = seen[0][:, :-1][scored], base_seen[0][:, :-1][scored]
        return state_distance(ours, base, scored.nonzero()[:, 0])

    def _stored_nll(self, name: str, items: Sequence[int]) -> Tensor | None:
        if not items or not self.base_nll.get(name):
            return None
        return torch.tensor([self.base_nll[name][item] for item in items], device=self.live.device)

    def drawn(self, place: int, count: int) -> list[int]:
        """Numbers of the retain texts of one batch."""
        there = len(self.retain)
        if not there:
            return []
        found = []
        for number in range(place * self.batch, place * self.batch + count):
            order = np.random.default_rng([self.seed, number // there]).permutation(there)
            found.append(int(order[number % there]))
        return found
