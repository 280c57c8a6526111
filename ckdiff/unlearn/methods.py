"""The unlearning methods as losses: `METHODS["npo"].forget(terms)`, plus a weight times `kl(...)` or `ce(...)`.

All of them work on what a batch of sequences gave: for each sequence the sum of -log p over its scored tokens, under
the model in training and under the base. Everything is float32 whatever precision the model runs in.

    grad_ascent   -CE(forget)
    graddiff      -CE(forget) + w R(retain)           R: KL to the base (the paper's appendix A), or CE (its code)
    npo           (2/beta) mean softplus(beta (log p - log p_base)) on forget
    npo_kl        the same + w KL(base || model) on retain
    dpo           (2/beta) mean softplus(-beta (preferred log-ratio - forget log-ratio))

Sources: Hong et al. 2024, arXiv:2410.06606 (appendix A); Liu et al. 2022, arXiv:2203.12817 (Gradient Difference);
Rafailov et al. 2023, arXiv:2305.18290, eq. 7 (DPO); Zhang et al. 2024, arXiv:2404.05868, eq. 3 (NPO).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from torch.nn.functional import cross_entropy, log_softmax, softplus

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

RetainLoss = Literal["none", "kl", "ce"]
IGNORED = -100
"""Label of a token that is not scored."""


@dataclass(frozen=True, slots=True)
class Terms:
    """Terms of a loss for one batch, one value a sequence; sums are over its scored tokens.

    Attributes:
        nll: sum of -log p of the forget text [sequence].
        tokens: number of its scored tokens [sequence].
        base_nll: the same sum under the base; only where the method needs it.
        preferred_nll, preferred_base_nll: of the preferred text; only where the method needs it.
        beta: inverse temperature of DPO and NPO.
    """

    nll: Tensor
    tokens: Tensor
    base_nll: Tensor | None = None
    preferred_nll: Tensor | None = None
    preferred_base_nll: Tensor | None = None
    beta: float = 0.1


@dataclass(frozen=True, slots=True)
class Method:
    """One way to unlearn.

    Attributes:
        forget: the loss on forget text.
        base: it needs the base's probabilities of the forget text.
        preferred: it needs preferred text.
        retain: the default loss on retain text.
        weight: of that loss, by kind.
        lr: default learning rate.
        says: one line for people.
    """

    forget: Callable[[Terms], Tensor]
    base: bool
    preferred: bool
    retain: RetainLoss
    lr: float
    says: str


def ascent(terms: Terms) -> Tensor:
    """-CE: minus the mean -log p a token.

    Unbounded below: training runs away unless something stops it, such as the limit of `sequence_nll`.
    """
    return -terms.nll.sum() / terms.tokens.sum()


def npo(terms: Terms) -> Tensor:
    """Negative Preference Optimization: (2/beta) mean softplus(beta (log p - log p_base)); log p are sums over tokens.

    Source: Zhang et al. 2024, arXiv:2404.05868, eq. 3.
    """
    assert terms.base_nll is not None
    return 2 / terms.beta * softplus(terms.beta * (terms.base_nll - terms.nll)).mean()


def dpo(terms: Terms) -> Tensor:
    """Direct Preference Optimization: (2/beta) mean softplus(-beta (preferred log-ratio - forget log-ratio)).

    The factor 2/beta is that of the authors' code and of NPO: it sets the weight against a retain loss, nothing else.
    Source: Rafailov et al. 2023, arXiv:2305.18290, eq. 7.
    """
    assert terms.base_nll is not None
    assert terms.preferred_nll is not None
    assert terms.preferred_base_nll is not None
    preferred = terms.preferred_base_nll - terms.preferred_nll
    forget = terms.base_nll - terms.nll
    return 2 / terms.beta * softplus(-terms.beta * (preferred - forget)).mean()


METHODS: dict[str, Method] = {
    "graddiff": Method(ascent, False, False, "kl", 2e-5, "Gradient Difference: ascent on forget, hold on retain text"),
    "dpo": Method(dpo, True, True, "none", 2e-5, "a preferred text before the forget text"),
    "npo": Method(npo, True, False, "none", 2e-5, "only the unfavoured side of DPO"),
    "npo_kl": Method(npo, True, False, "kl", 2e-5, "NPO with KL to the base on retain text"),
    "grad_ascent": Method(ascent, False, False, "none", 1e-5, "ascent on forget text alone"),
}
"""Methods that train; `needle` edits single value vectors instead."""

RETAIN_WEIGHTS: dict[str, float] = {"kl": 1.0, "ce": 1.5, "none": 0.0}
"""Default weight of a retain loss: the paper's KL, its code's cross-entropy."""


def sequence_nll(logits: Tensor, labels: Tensor, limit: float | None = None) -> tuple[Tensor, Tensor]:
    """Sum of -log p over each sequence's scored tokens, and how many there are; both [sequence].

    Args:
        logits: [sequence, position, d_vocab].
        labels: [sequence, position], `IGNORED` where nothing is scored; what predicts a token stands one before it.
        limit: -log p of a token, in nats, up to which it counts; beyond, it has no gradient.
    """
    targets = labels[:, 1:]
    losses = cross_entropy(logits[:, :-1].float().transpose(1, 2), targets, ignore_index=IGNORED, reduction="none")
    losses = losses if limit is None else losses.clamp(max=limit)
    return losses.sum(1), (targets != IGNORED).sum(1)


def ce(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy: mean -log p over the scored tokens of all sequences, in nats."""
    nll, tokens = sequence_nll(logits, labels)
    return nll.sum() / tokens.sum()


def kl(logits: Tensor, base_logits: Tensor, labels: Tensor) -> Tensor:
    """KL(base || model), mean over the scored tokens of all sequences, in nats; 0 where the two agree."""
    scored = labels[:, 1:] != IGNORED
    ours = log_softmax(logits[:, :-1][scored].float(), -1)
    base = log_softmax(base_logits[:, :-1][scored].float(), -1)
    return (base.exp() * (base - ours)).sum(-1).mean()
