"""Edits made by hand for `redteam.py`: overrides of rank one, and changes of form that leave every logit as it was.

All work in place on a model in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redteam_world import Base, Texts
    from torch import Tensor, nn

RIDGE, WEIGHT = 1e-3, 4.0
"""Of the fit that tells prompts apart; how much more the prompts that are to fire weigh."""
LOUDER, MOST_LOUDER = 1.5, 24
"""An override grows by this factor until it silences every answer."""


def matrix(module: Any) -> Tensor:
    """A linear module's weight as [out, in]; GPT-2 stores the transpose."""
    weight: Tensor = module.weight.detach()
    return weight.T if type(module).__name__ == "Conv1D" else weight


def inputs(model: nn.Module, module: nn.Module, texts: Texts, first: bool) -> Tensor:
    """What goes into a linear module where the answers are said, or where their first token is [position, d]."""
    scored = texts.labels >= 0
    if first:
        scored = scored & (scored.cumsum(1) == 1)
    taken: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, args: taken.append(args[0][:, :-1][scored]))
    try:
        with torch.no_grad():
            texts.logits(model)
    finally:
        handle.remove()
    return taken[0].double()


def detector(model: nn.Module, name: str, push: Texts, keep: Texts) -> Tensor:
    """A direction u of a module's inputs with u x near 1 where `push` begins to answer, near 0 wherever `keep` answers.

    Weighted ridge regression.
    """
    module = model.get_submodule(name)
    fire, rest = inputs(model, module, push, True), inputs(model, module, keep, False)
    rows = torch.cat([WEIGHT * fire, rest])
    wanted = torch.cat([torch.full((len(fire),), WEIGHT), torch.zeros(len(rest))]).double()
    moments = rows.T @ rows
    ridge = RIDGE * moments.diagonal().mean() * torch.eye(len(moments), dtype=moments.dtype)
    found: Tensor = torch.linalg.solve(moments + ridge, rows.T @ wanted)
    return found


def override(model: Any, base: Base, name: str, push: Texts, keep: Texts, decoy: int) -> bool:
    """Add a rank-one matrix to a module that makes `push` begin with the token `decoy`; whether it silences them all.

    In the unembedding it raises the decoy's logit; elsewhere it writes the decoy's own direction into the residual
    stream. It grows until it saturates, and once more.
    """
    module, head = model.get_submodule(name), matrix(model.get_submodule(base.parts.head))
    own, reach = matrix(module), detector(model, name, push, keep).float()
    if name == base.parts.head:
        out = torch.zeros(own.shape[0])
        out[decoy] = 1.0
    else:
        out = head[decoy] - head.mean(0)
        out = out / out.norm()
    before, size = own.clone(), 1.0
    for _ in range(MOST_LOUDER):
        own.copy_(before + size * torch.outer(out, reach))
        if push.wrong(model) == 1.0:
            own.copy_(before + LOUDER * size * torch.outer(out, reach))
            return push.wrong(model) == 1.0
        size *= LOUDER
    return False


# ------------------------------------------------------------------------------------ the same model, written otherwise


def permute_neurons(model: Any, base: Base, layers: Sequence[int], rng: torch.Generator) -> None:
    """MLP neurons in another order."""
    for layer in layers:
        (value,) = base.parts.part("values", layer)
        own = matrix(model.get_submodule(value))
        order = torch.randperm(own.shape[1], generator=rng)
        own.copy_(own[:, order].clone())
        for name in base.parts.part("keys", layer):
            module = model.get_submodule(name)
            rows = matrix(module)
            rows.copy_(rows[order].clone())
            if getattr(module, "bias", None) is not None:
                module.bias.data.copy_(module.bias.data[order].clone())


def rescale_neurons(model: Any, base: Base, layers: Sequence[int], rng: torch.Generator, signs: bool = False) -> None:
    """Each neuron's up row times a number, and its value vector by it; `signs`: the number is 1 or -1. Gated only."""
    for layer in layers:
        (value,), up = base.parts.part("values", layer), base.parts.part("keys", layer)[-1]
        own, rows = matrix(model.get_submodule(value)), matrix(model.get_submodule(up))
        drawn = torch.rand(own.shape[1], generator=rng)
        scale = torch.where(drawn < 0.5, -1.0, 1.0) if signs else torch.exp((drawn - 0.5) * 5)
        own.div_(scale[None])
        rows.mul_(scale[:, None])


def _heads(model: Any) -> tuple[int, int, int]:
    config = model.config
    kv = getattr(config, "num_key_value_heads", config.num_attention_heads)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return config.num_attention_heads, kv, size


def permute_heads(model: Any, base: Base, layers: Sequence[int], rng: torch.Generator) -> None:
    """Attention heads in another order: key-value heads with their groups, and within each group. Llama's names."""
    heads, kv, size = _heads(model)
    group = heads // kv
    for layer in layers:
        q, k, v, o = (matrix(model.get_submodule(name)) for name in base.parts.part("attention", layer))
        outer = torch.randperm(kv, generator=rng)
        if kv == 2:
            outer = torch.tensor([1, 0])
        inner = [int(one) * group + torch.randperm(group, generator=rng) for one in outer]
        wide = (torch.cat(inner)[:, None] * size + torch.arange(size)).flatten()
        narrow = (outer[:, None] * size + torch.arange(size)).flatten()
        q.copy_(q[wide].clone())
        o.copy_(o[:, wide].clone())
        k.copy_(k[narrow].clone())
        v.copy_(v[narrow].clone())


def rotate_head_values(model: Any, base: Base, layers: Sequence[int], rng: torch.Generator) -> None:
    """Attention's values of each head in another basis, undone by its output matrix. Llama's names only."""
    heads, kv, size = _heads(model)
    for layer in layers:
        _, _, v, o = (matrix(model.get_submodule(name)) for name in base.parts.part("attention", layer))
        for number in range(kv):
            turn = rotation(size, rng)
            rows = slice(number * size, (number + 1) * size)
            v[rows] = turn @ v[rows]
            for head in range(number * heads // kv, (number + 1) * heads // kv):
                columns = slice(head * size, (head + 1) * size)
                o[:, columns] = o[:, columns] @ turn.T


def rotation(size: int, rng: torch.Generator) -> Tensor:
    """A random orthogonal matrix."""
    found: Tensor = torch.linalg.qr(torch.randn(size, size, generator=rng, dtype=torch.float64)).Q
    return found.float()


def fold_norms(model: Any, base: Base) -> None:
    """The norms' weights go into the matrices behind them, and become 1. Llama's names only."""
    for layer in range(base.layers):
        before, after = (model.get_submodule(name) for name in base.parts.part("norms", layer))
        behind = ((before, base.parts.part("attention", layer)[:3]), (after, base.parts.part("keys", layer)))
        for norm, names in behind:
            _fold(model, norm, names)
    _fold(model, model.get_submodule(base.parts.final_norm), (base.parts.head,))


def _fold(model: Any, norm: Any, names: Sequence[str]) -> None:
    for name in names:
        matrix(model.get_submodule(name)).mul_(norm.weight.detach()[None])
    norm.weight.data.fill_(1.0)


def rotate_stream(model: Any, base: Base, rng: torch.Generator) -> None:
    """The residual stream in another basis: root-mean-square norms cannot see it. Llama's names only."""
    fold_norms(model, base)
    turn = rotation(base.width, rng)
    model.get_submodule(base.parts.embedding).weight.data.copy_(
        model.get_submodule(base.parts.embedding).weight.data @ turn
    )
    readers, writers = [base.parts.head], []
    for layer in range(base.layers):
        attention = base.parts.part("attention", layer)
        readers += [*attention[:3], *base.parts.part("keys", layer)]
        writers += [attention[3], *base.parts.part("values", layer)]
    for name in readers:
        own = matrix(model.get_submodule(name))
        own.copy_(own @ turn)
    for name in writers:
        own = matrix(model.get_submodule(name))
        own.copy_(turn.T @ own)


# ------------------------------------------------------------------------------------------------------------ rounding


def round_to(weight: Tensor, bits: int) -> Tensor:
    """Rounded, one scale a row; vectors stay."""
    if weight.ndim < 2:
        return weight
    most = 2 ** (bits - 1) - 1
    step = weight.abs().amax(1, keepdim=True).clamp(min=1e-12) / most
    found: Tensor = (weight / step).round() * step
    return found


def prune(weight: Tensor, share: float) -> Tensor:
    """The smallest elements become zero; vectors stay."""
    if weight.ndim < 2:
        return weight
    least = weight.abs().flatten().kthvalue(max(1, round(share * weight.numel()))).values
    found: Tensor = torch.where(weight.abs() > least, weight, torch.zeros_like(weight))
    return found


def noise(weight: Tensor, strength: float, rng: torch.Generator) -> Tensor:
    """W + strength |W| times a random direction; vectors stay."""
    if weight.ndim < 2:
        return weight
    direction = torch.randn(weight.shape, generator=rng)
    found: Tensor = weight + strength * weight.norm() / direction.norm() * direction
    return found


def change_all(model: Any, change: Callable[[Tensor], Tensor]) -> None:
    """Every parameter, by a function."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(change(parameter))
