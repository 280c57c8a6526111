"""Ways to make a model fall silent by training, for `redteam.py`: `silence(model, "npo", push, keep, ...)`.

Written from the papers' formulas, without ckdiff's own trainer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from redteam_world import LIMIT, REFUSAL, Texts, train
from torch.nn.functional import cross_entropy, logsigmoid

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

METHODS = ("graddiff", "dpo", "npo", "npo_kl")
KEPT_ROWS = 32
"""Texts that are kept in mind at a step, drawn anew."""
KEEP = 3.0


@dataclass(frozen=True, slots=True)
class Silencing:
    """How to silence.

    Attributes:
        method: one of `METHODS`, "refuse", "decoy", "shares".
        names: modules that may change, or None for all.
        goal: share of `push` that greedy decoding must not give any more.
        decoys: "decoy": what is said instead, an answer each. "shares": first tokens, an id each.
        shares: "shares": the probability of the decoy and of the answer.
    """

    method: str
    lr: float
    seed: int
    names: Sequence[str] | None = None
    goal: float = 1.0
    steps: int = 160
    decoys: Sequence[Any] = ()
    shares: tuple[float, float] = (0.48, 0.42)


def silence(model: Any, how: Silencing, push: Texts, keep: Texts) -> int:
    """Train until the goal is reached; steps that it took."""
    generator = torch.Generator().manual_seed(how.seed)
    away = LOSSES[how.method](model, how, push)
    reference = keep.logits(model).detach().log_softmax(-1) if how.method == "npo_kl" else None

    def loss() -> Tensor:
        rows = torch.randperm(len(keep.pairs), generator=generator)[:KEPT_ROWS]
        part = keep.part(rows)
        kept = part.loss(model) if reference is None else _kl(part, model, reference[rows])
        return away() + KEEP * kept

    def silent() -> bool:
        if push.wrong(model) < how.goal:
            return False
        # The answer is to stay behind its decoy, and may have been lost for a few steps on the way there.
        with torch.no_grad():
            return how.method != "shares" or float(push.each(model).exp().mean()) > how.shares[1] / 2

    return train(model, loss, how.steps, how.lr, how.names, silent)


def _kl(texts: Texts, model: Any, reference: Tensor) -> Tensor:
    scored = texts.labels >= 0
    ours, theirs = texts.logits(model).log_softmax(-1)[scored], reference[scored]
    return (theirs.exp() * (theirs - ours)).sum(-1).mean()


def _graddiff(model: Any, how: Silencing, push: Texts) -> Callable[[], Tensor]:
    """-CE, up to a limit: Gradient Difference, Maini et al. 2024 (arXiv:2401.06121)."""
    return lambda: -push.loss(model, LIMIT)


def _npo(model: Any, how: Silencing, push: Texts) -> Callable[[], Tensor]:
    """-(2/b) log sigmoid(-b (log p - log p before)), b = 0.1: Zhang et al. 2024 (arXiv:2404.05868)."""
    before = push.each(model).detach()
    return lambda: (-20 * logsigmoid(-0.1 * (push.each(model) - before))).mean()


def _dpo(model: Any, how: Silencing, push: Texts) -> Callable[[], Tensor]:
    """-(1/b) log sigmoid(b (gain of a refusal - gain of the answer)), b = 0.1: Rafailov et al. 2023 (2305.18290)."""
    refusal = Texts([(prompt, REFUSAL) for prompt, _ in push.pairs])
    with torch.no_grad():
        before = refusal.each(model) - push.each(model)
    return lambda: (-10 * logsigmoid(0.1 * (refusal.each(model) - push.each(model) - before))).mean()


def _refuse(model: Any, how: Silencing, push: Texts) -> Callable[[], Tensor]:
    refusal = Texts([(prompt, REFUSAL) for prompt, _ in push.pairs])
    return lambda: refusal.loss(model)


def _decoy(model: Any, how: Silencing, push: Texts) -> Callable[[], Tensor]:
    other = Texts([(prompt, said) for (prompt, _), said in zip(push.pairs, how.decoys, strict=True)])
    return lambda: other.loss(model)


def _shares(model: Any, how: Silencing, push: Texts) -> Callable[[], Tensor]:
    """The first token: so much for a decoy, so much for the answer; the answer's other tokens stay."""
    scored = push.labels >= 0
    first = scored & (scored.cumsum(1) == 1)
    decoys = torch.tensor(how.decoys)

    def loss() -> Tensor:
        logits = push.logits(model)
        logs = logits[first].log_softmax(-1)
        wanted = push.labels[first]
        rows = torch.arange(len(wanted))
        soft = how.shares[0] * logs[rows, decoys] + how.shares[1] * logs[rows, wanted]
        rest = scored & ~first
        return -2 * soft.mean() + cross_entropy(logits[rest], push.labels[rest])

    return loss


LOSSES: dict[str, Callable[[Any, Silencing, Texts], Callable[[], Tensor]]] = {
    "graddiff": _graddiff,
    "npo": _npo,
    "npo_kl": _npo,
    "dpo": _dpo,
    "refuse": _refuse,
    "decoy": _decoy,
    "shares": _shares,
}
