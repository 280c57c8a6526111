"""How fused tensors are cut into parts that mean one thing each; `SPLITS` names the ways that rules use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ckdiff.shapes import AnyArray
    from ckdiff.weights.rules import Rule


@dataclass(frozen=True, slots=True)
class Cut:
    """How a piece lies inside a stored tensor: `view(stored).reshape(piece.shape)`.

    Attributes:
        reshape: the shape in which the tensor is looked at.
        index: which part of it.
        transposed: the part's two axes change places.
    """

    reshape: tuple[int, ...]
    index: tuple[int | slice, ...]
    transposed: bool = False

    def view(self, stored: AnyArray) -> AnyArray:
        """The piece as a view of its stored tensor, never a copy; it may have more axes than the piece."""
        view: AnyArray = stored.reshape(self.reshape)[self.index]
        return view.T if self.transposed else view


class Part(NamedTuple):
    """One part of a fused tensor: what it is called, what it is, and where it lies."""

    suffix: str
    component: str
    role: str
    cut: Cut
    shape: tuple[int, ...]
    neuron_axis: int | None = None
    first_neuron: int = 0
    expert: int | None = None


class CannotSplitError(Exception):
    """A fused tensor whose shape the config does not explain."""


_QKV = (("q", "attn_q"), ("k", "attn_k"), ("v", "attn_v"))


def number(config: Mapping[str, Any], *names: str) -> int:
    """The first of these settings that is a whole number above 0.

    Raises:
        CannotSplitError: there is none.
    """
    for name in names:
        value = config.get(name)
        if type(value) is int and value > 0:
            return value
    raise CannotSplitError(f"config.json has no {names[0]}")


def _heads(config: Mapping[str, Any]) -> tuple[int, int, int]:
    """Number of heads, of key-value heads, and the size of a head."""
    heads = number(config, "num_attention_heads", "n_head", "n_heads")
    size = config.get("head_dim")
    if type(size) is not int:
        size = number(config, "hidden_size", "n_embd", "d_model") // heads
    return heads, _optional(config, "num_key_value_heads", heads), size


def _optional(config: Mapping[str, Any], name: str, default: int) -> int:
    value = config.get(name)
    return number(config, name) if value is not None else default


_WIDTHS = (
    *("intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size", "intermediate_size_mlp"),
    *("ffn_dim", "ffn_hidden_size", "n_inner"),
)
"""Where configs say how many neurons a layer or an expert has."""


def check_neurons(count: int, config: Mapping[str, Any]) -> None:
    """Refuse to call an axis neurons when the config counts them otherwise: a matrix the other way round, for one."""
    widths = {value for name in _WIDTHS if type(value := config.get(name)) is int}
    if widths and count not in widths:
        raise CannotSplitError(f"{count} should be neurons, but config.json says {sorted(widths)}")


def _parts_along(
    shape: tuple[int, ...], axis: int, sizes: Iterable[int], what: Iterable[tuple[str, str]]
) -> list[Part]:
    """Parts that lie one after the other along an axis."""
    sizes = list(sizes)
    if sum(sizes) != shape[axis]:
        raise CannotSplitError(f"{' + '.join(map(str, sizes))} is not {shape[axis]}")
    parts, start = [], 0
    for size, (role, component) in zip(sizes, what, strict=True):
        index = (*(slice(None),) * axis, slice(start, start + size))
        parts.append(Part(role, component, role, Cut(shape, index), (*shape[:axis], size, *shape[axis + 1 :])))
        start += size
    return parts


def _parts_by_group(shape: tuple[int, ...], groups: int, head: int, counts: tuple[int, int, int]) -> list[Part]:
    """Parts that lie group by group along the first axis: in each group so many heads of q, of k, of v."""
    if groups * sum(counts) * head != shape[0]:
        raise CannotSplitError(f"{groups} groups of {sum(counts)} heads of {head} are not {shape[0]}")
    parts, start = [], 0
    for count, (role, component) in zip(counts, _QKV, strict=True):
        cut = Cut((groups, sum(counts), head, *shape[1:]), (slice(None), slice(start, start + count)))
        parts.append(Part(role, component, role, cut, (groups * count * head, *shape[1:])))
        start += count
    return parts


def _thirds(shape: tuple[int, ...], config: Mapping[str, Any]) -> list[Part]:
    """q, k and v of one size along the first axis (MPT)."""
    return _parts_along(shape, 0, [number(config, "d_model", "hidden_size", "n_embd")] * 3, _QKV)


def _thirds_conv1d(shape: tuple[int, ...], config: Mapping[str, Any]) -> list[Part]:
    """q, k and v of one size along the last axis (GPT-2's Conv1D and its bias)."""
    return _parts_along(shape, len(shape) - 1, [number(config, "n_embd", "hidden_size")] * 3, _QKV)


def _qkv_grouped(shape: tuple[int, ...], config: Mapping[str, Any]) -> list[Part]:
    """All q heads, then all k heads, then all v heads (Phi-3)."""
    heads, shared, size = _heads(config)
    return _parts_along(shape, 0, (heads * size, shared * size, shared * size), _QKV)


def _by_head(shape: tuple[int, ...], config: Mapping[str, Any]) -> list[Part]:
    """Head by head q, k, v (GPT-NeoX, BLOOM)."""
    heads, _, size = _heads(config)
    return _parts_by_group(shape, heads, size, (1, 1, 1))


def _bigcode(shape: tuple[int, ...], config: Mapping[str, Any]) -> list[Part]:
    """All of q and one head of k and v where `multi_query`, else head by head (GPT-BigCode)."""
    heads, _, size = _heads(config)
    if config.get("multi_query", True):
        return _parts_along(shape, 0, (heads * size, size, size), _QKV)
    return _parts_by_group(shape, heads, size, (1, 1, 1))


def _falcon(shape: tuple[int, ...], config: Mapping[str, Any]) -> list[Part]:
    """Falcon's three layouts: by group of heads (new), all of q and one k and v (7B), or head by head."""
    heads, _, size = _heads(config)
    if config.get("new_decoder_architecture"):
        groups = _optional(config, "num_kv_heads", heads)
        if heads % groups:
            raise CannotSplitError(f"{heads} heads cannot share {groups} key-value heads")
        return _parts_by_group(shape, groups, size, (heads // groups, 1, 1))
    if config.get("multi_query", True):
        return _parts_along(shape, 0, (heads * size, size, size), _QKV)
    return _parts_by_group(shape, heads, size, (1, 1, 1))


def _gate_up(shape: tuple[int, ...], config: Mapping[str, Any]) -> list[Part]:
    """The gate, then up, along the first axis (Phi-3, GLM-4)."""
    width = number(config, "intermediate_size")
    parts = _parts_along(shape, 0, (width, width), (("gate", "keys"), ("up", "keys")))
    return [part._replace(neuron_axis=0 if len(shape) == 2 else None) for part in parts]


def _experts(shape: tuple[int, ...], config: Mapping[str, Any], rule: Rule) -> Iterator[Part]:
    """One matrix an expert, one expert after the other."""
    axis = rule.neuron_axis
    _check_stacked(shape, axis)
    if axis is not None:
        check_neurons(shape[axis], config)
    for expert in range(shape[0]):
        first = 0 if axis is None else expert * shape[axis]
        at = None if axis is None else axis - 1
        yield Part(f"{expert}", rule.component, rule.role, Cut(shape, (expert,)), shape[1:], at, first, expert)


def _experts_of_two(
    shape: tuple[int, ...], config: Mapping[str, Any], axis: int | None, interleaved: bool
) -> Iterator[Part]:
    """Stacked gate and up of every expert, one after the other or every second one along an axis."""
    _check_stacked(shape, axis)
    along = axis if axis is not None else len(shape) - 1
    size = shape[along] // 2
    if size * 2 != shape[along]:
        raise CannotSplitError(f"{shape[along]} is odd")
    if axis is not None:
        check_neurons(size, config)
    for expert in range(shape[0]):
        for which, role in enumerate(("gate", "up")):
            span = slice(which, None, 2) if interleaved else slice(which * size, (which + 1) * size)
            index = (expert, *(slice(None),) * (along - 1), span)
            left = (*shape[1:along], size, *shape[along + 1 :])
            at = None if axis is None else axis - 1
            yield Part(f"{expert}.{role}", "keys", role, Cut(shape, index), left, at, expert * size, expert)


def _check_stacked(shape: tuple[int, ...], axis: int | None) -> None:
    if len(shape) != (2 if axis is None else 3):
        raise CannotSplitError(f"shape {list(shape)} is not one of stacked experts")


def _rows_interleaved(shape: tuple[int, ...], config: Mapping[str, Any], rule: Rule) -> list[Part]:
    """Gate and up of one expert as every second row, turned the other way round."""
    size = shape[0] // 2
    if size * 2 != shape[0]:
        raise CannotSplitError(f"{shape[0]} is odd")
    if rule.neuron_axis is not None:
        check_neurons(size, config)
    left = (*shape[1:], size) if rule.transposed else (size,)
    return [
        Part(role, "keys", role, Cut(shape, (slice(which, None, 2),), rule.transposed), left, rule.neuron_axis)
        for which, role in enumerate(("gate", "up"))
    ]


def _split_experts(shape: tuple[int, ...], config: Mapping[str, Any], rule: Rule) -> list[Part]:
    return list(_experts(shape, config, rule))


def _split_experts_gate_up(shape: tuple[int, ...], config: Mapping[str, Any], rule: Rule) -> list[Part]:
    return list(_experts_of_two(shape, config, rule.neuron_axis, interleaved=False))


def _split_experts_interleaved(shape: tuple[int, ...], config: Mapping[str, Any], rule: Rule) -> list[Part]:
    return list(_experts_of_two(shape, config, rule.neuron_axis, interleaved=True))


def _plain(
    split: Callable[[tuple[int, ...], Mapping[str, Any]], list[Part]],
) -> Callable[[tuple[int, ...], Mapping[str, Any], Rule], list[Part]]:
    return lambda shape, config, rule: split(shape, config)


SPLITS: Mapping[str, Callable[[tuple[int, ...], Mapping[str, Any], Rule], list[Part]]] = {
    "thirds": _plain(_thirds),
    "thirds_conv1d": _plain(_thirds_conv1d),
    "qkv_grouped": _plain(_qkv_grouped),
    "heads": _plain(_by_head),
    "bigcode": _plain(_bigcode),
    "falcon": _plain(_falcon),
    "gate_up": _plain(_gate_up),
    "experts": _split_experts,
    "experts_gate_up": _split_experts_gate_up,
    "experts_interleaved": _split_experts_interleaved,
    "rows_interleaved": _rows_interleaved,
}
"""How fused tensors are cut, by the name that rules use."""
