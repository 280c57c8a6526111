"""The unlearning methods as losses: `METHODS["npo"].forget(terms)`, plus a weight times a loss on retain text.

Most of them work on what a batch of sequences gave: for each sequence the sum of -log p over its scored tokens, under
the model in training and under the base. Two look closer: at the logits, or at the states behind a layer. Everything is
float32 whatever precision the model runs in.

    grad_ascent   -CE(forget)
    graddiff      -CE(forget) + w R(retain)           R: KL to the base (the paper's appendix A), or CE (its code)
    npo           (2/beta) mean softplus(beta (log p - log p_base)) on forget
    npo_kl        the same + w KL(base || model) on retain
    simnpo        (2/beta) mean softplus(beta log p / tokens + margin) on forget + w CE(retain)
    dpo           (2/beta) mean softplus(-beta (preferred log-ratio - forget log-ratio))
    idk_dpo       the same with refusals preferred + w CE(retain)
    altpo         the same with other answers of the same kind preferred + w CE(retain)
    undial        CE to softmax(base logits - beta at the token to forget) on forget
    rmu           |h - c u|^2 / d on forget + w |h - h_base|^2 / d on retain; h: states behind one layer, u: random

Sources: Hong et al. 2024, arXiv:2410.06606 (appendix A); Liu et al. 2022, arXiv:2203.12817 (Gradient Difference);
Rafailov et al. 2023, arXiv:2305.18290, eq. 7 (DPO); Zhang et al. 2024, arXiv:2404.05868, eq. 3 (NPO);
Fan et al. 2024, arXiv:2410.07163, section 5 (SimNPO); Maini et al. 2024, arXiv:2401.06121 (answers of "I don't know");
Mekala et al. 2024, arXiv:2409.13474, section 3 (AltPO); Dong et al. 2024, arXiv:2402.10052, section 3 (UNDIAL);
Li et al. 2024, arXiv:2403.03218, section 4 (RMU). Defaults that the papers leave open are OpenUnlearning's
(Dorna et al. 2025, arXiv:2506.12618).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch.nn.functional import cross_entropy, log_softmax, softplus

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from ckdiff.unlearn.recipe import Recipe

RetainLoss = Literal["none", "kl", "ce", "states"]
Preferred = Literal["", "chosen", "refusal", "alternate"]
Reads = Literal["", "logits", "states"]
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
        beta: of the method's formula.
        margin: of SimNPO, in units of its reward.
        states: what the method reads of the forget text, behind a layer [scored token, d_model].
        sequence: to which sequence each scored token belongs [scored token].
        steer: the state that RMU leads to [d_model].
        logits, base_logits: what predicts each scored token [scored token, d_vocab].
        targets: the scored tokens [scored token].
    """

    nll: Tensor
    tokens: Tensor
    base_nll: Tensor | None = None
    preferred_nll: Tensor | None = None
    preferred_base_nll: Tensor | None = None
    beta: float = 0.1
    margin: float = 0.0
    states: Tensor | None = None
    sequence: Tensor | None = None
    steer: Tensor | None = None
    logits: Tensor | None = None
    base_logits: Tensor | None = None
    targets: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Method:
    """One way to unlearn.

    Attributes:
        forget: the loss on forget text.
        retain: the default loss on retain text.
        lr: default learning rate.
        says: one line for people.
        base: it needs the base's probabilities of the forget text.
        preferred: the text that it prefers, or "": "chosen" is for the recipe to choose.
        reads: what else it looks at: "logits", the base's beside the model's, or "states" behind a layer. What looks
            at states trains the value vectors of that layer and the two before it alone.
        beta: default of its formula, or None.
        weight: default weight of its own retain loss; None: that of the loss.
    """

    forget: Callable[[Terms], Tensor]
    retain: RetainLoss
    lr: float
    says: str
    base: bool = False
    preferred: Preferred = ""
    reads: Reads = ""
    beta: float | None = None
    weight: float | None = None


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


def simnpo(terms: Terms) -> Tensor:
    """Simple NPO: (2/beta) mean softplus(beta log p / tokens + margin): no base, and length counts for nothing.

    Source: Fan et al. 2024, arXiv:2410.07163, section 5.
    """
    return 2 / terms.beta * softplus(terms.margin - terms.beta * terms.nll / terms.tokens).mean()


def undial(terms: Terms) -> Tensor:
    """UNDIAL: cross-entropy to what the base says once the logit of the token to forget is lower by beta.

    Mean over the scored tokens of all sequences, in nats.
    Source: Dong et al. 2024, arXiv:2402.10052, section 3.
    """
    assert terms.logits is not None
    assert terms.base_logits is not None
    assert terms.targets is not None
    lowered = terms.base_logits.float().scatter_add(
        1, terms.targets[:, None], torch.full_like(terms.targets[:, None], -terms.beta, dtype=torch.float32)
    )
    return -(lowered.softmax(-1) * log_softmax(terms.logits.float(), -1)).sum(-1).mean()


def rmu(terms: Terms) -> Tensor:
    """Representation Misdirection: the mean square distance of states to one random state, a sequence and d_model.

    States are those from which the scored tokens are predicted.
    Source: Li et al. 2024, arXiv:2403.03218, section 4; the mean over d_model is that of the authors' code.
    """
    assert terms.states is not None
    assert terms.sequence is not None
    assert terms.steer is not None
    return state_distance(terms.states, terms.steer, terms.sequence)


METHODS: dict[str, Method] = {
    "graddiff": Method(ascent, "kl", 2e-5, "Gradient Difference: ascent on forget, hold on retain text"),
    "dpo": Method(dpo, "none", 2e-5, "a preferred text before the forget text", True, "chosen", beta=0.1),
    "npo": Method(npo, "none", 2e-5, "only the unfavoured side of DPO", True, beta=0.1),
    "npo_kl": Method(npo, "kl", 2e-5, "NPO with KL to the base on retain text", True, beta=0.1),
    "grad_ascent": Method(ascent, "none", 1e-5, "ascent on forget text alone"),
    # The authors' code gives forget text an eighth of the weight of retain text.
    "simnpo": Method(simnpo, "ce", 1e-5, "NPO without a base, a token at a time", beta=4.5, weight=8.0),
    "idk_dpo": Method(dpo, "ce", 2e-5, "DPO with refusals, hold on retain text", True, "refusal", beta=0.1, weight=1.0),
    "altpo": Method(dpo, "ce", 2e-5, "DPO with other answers of the kind", True, "alternate", beta=0.1, weight=2.0),
    "undial": Method(undial, "none", 1e-4, "distillation of the base without what it knew", reads="logits", beta=10.0),
    "rmu": Method(rmu, "states", 5e-5, "states of forget text led astray", reads="states"),
}
"""Methods that train; `needle` edits single value vectors instead."""

RETAIN_WEIGHTS: dict[str, float] = {"kl": 1.0, "ce": 1.5, "states": 1200.0, "none": 0.0}
"""Default weight of a retain loss: the paper's KL, its code's cross-entropy, RMU's alpha for a model of 7B."""


def choose_retain(recipe: Recipe) -> tuple[str, float]:
    """The loss on retain text that a recipe asks for, and its weight; 0 where there is none."""
    method = METHODS[recipe.method]
    loss = method.retain if recipe.retain_loss == "default" else recipe.retain_loss
    own = method.weight if loss == method.retain else None
    weight = RETAIN_WEIGHTS[loss] if own is None else own
    return loss, 0.0 if loss == "none" else weight if recipe.retain_weight is None else recipe.retain_weight


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


def state_distance(states: Tensor, wanted: Tensor, sequence: Tensor) -> Tensor:
    """Square distance of states to what is wanted: mean over d_model, over a sequence's tokens, over sequences.

    Args:
        states: [scored token, d_model].
        wanted: the same, or one for all [d_model].
        sequence: to which sequence each token belongs, from 0 on, each with at least one.
    """
    apart = (states.float() - wanted.float()).square().mean(-1)
    count = int(sequence.max()) + 1
    sums = torch.zeros(count, device=apart.device).index_add(0, sequence, apart)
    return (sums / torch.bincount(sequence, minlength=count)).mean()
