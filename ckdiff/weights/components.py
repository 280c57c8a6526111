"""Names to components: cuts every stored tensor into pieces that mean one thing, and pairs two checkpoints.

A tensor is claimed by the rule whose pattern fits its name, or by one of the older spellings that its architecture
knows. Names are no proof: a matrix whose neurons are not as many as the config says, or that cannot be cut as its rule
says, goes under `other` whole, and a note says so.
"""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from ckdiff.weights.architectures import ARCHITECTURES, architecture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from ckdiff.weights.architectures import Architecture, Rule


@dataclass(frozen=True, slots=True)
class Cut:
    """How a piece lies inside a stored tensor: `stored.reshape(reshape)[index].reshape(piece.shape)`."""

    reshape: tuple[int, ...]
    index: tuple[int | slice, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """A stored tensor, or the part of a fused one, that belongs to exactly one component.

    Attributes:
        name: canonical name, the same in both checkpoints whatever prefix their files use; parts carry a suffix
            such as `[q]`, and with stacked experts `[3.gate]`.
        tensor: name of the stored tensor in this checkpoint.
        shape: shape of the piece.
        cut: where it lies in the stored tensor; None: all of it. Before the last reshape it is always a view.
        neuron_axis: the axis of the piece along which neurons lie, or None.
        first_neuron: number of its first neuron in its layer (experts are numbered one after the other).
        tied: a second name of a tensor that is stored under another one.
    """

    name: str
    tensor: str
    component: str
    role: str
    layer: int | None
    shape: tuple[int, ...]
    cut: Cut | None = None
    neuron_axis: int | None = None
    first_neuron: int = 0
    tied: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    """Every piece of one checkpoint.

    Attributes:
        model_type: as its config says, or "".
        known: there is a row for it.
        pieces: outside the layers first, then layer by layer.
        ignored: stored buffers that carry no parameters.
        notes: what a reader must know about how tensors were assigned.
    """

    model_type: str
    known: bool
    pieces: tuple[Piece, ...]
    ignored: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pairing:
    """The pieces of two layouts, by canonical name: (base, unlearned) where both have it in one shape."""

    matched: tuple[tuple[Piece, Piece], ...]
    only_in_base: tuple[Piece, ...]
    only_in_unlearned: tuple[Piece, ...]
    shape_mismatch: tuple[tuple[Piece, Piece], ...]


class Part(NamedTuple):
    """One part of a fused tensor: what it is called, what it is, and where it lies."""

    suffix: str
    component: str
    role: str
    cut: Cut
    shape: tuple[int, ...]
    neuron_axis: int | None = None
    first_neuron: int = 0


class CannotSplitError(Exception):
    """A fused tensor whose shape the config does not explain."""


# --------------------------------------------------------------------------------------------------------- splits

_QKV = (("q", "attn_q"), ("k", "attn_k"), ("v", "attn_v"))


def _number(config: Mapping[str, Any], *names: str) -> int:
    for name in names:
        value = config.get(name)
        if type(value) is int and value > 0:
            return value
    raise CannotSplitError(f"config.json has no {names[0]}")


def _heads(config: Mapping[str, Any]) -> tuple[int, int, int]:
    """Number of heads, of key-value heads, and the size of a head."""
    heads = _number(config, "num_attention_heads", "n_head", "n_heads")
    size = config.get("head_dim")
    if type(size) is not int:
        size = _number(config, "hidden_size", "n_embd", "d_model") // heads
    return heads, _optional(config, "num_key_value_heads", heads), size


def _optional(config: Mapping[str, Any], name: str, default: int) -> int:
    value = config.get(name)
    return _number(config, name) if value is not None else default


def _concatenated(
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


def _interleaved(shape: tuple[int, ...], groups: int, head: int, counts: tuple[int, int, int]) -> list[Part]:
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
    return _concatenated(shape, 0, [_number(config, "d_model", "hidden_size", "n_embd")] * 3, _QKV)


def _thirds_conv1d(shape: tuple[int, ...], config: Mapping[str, Any]) -> list[Part]:
    """q, k and v of one size along the last axis (GPT-2's Conv1D and its bias)."""
    return _concatenated(shape, len(shape) - 1, [_number(config, "n_embd", "hidden_size")] * 3, _QKV)


def _qkv_grouped(shape: tuple[int, ...], config: Mapping[str, Any]) -> list[Part]:
    """All q heads, then all k heads, then all v heads (Phi-3)."""
    heads, shared, size = _heads(config)
    return _concatenated(shape, 0, (heads * size, shared * size, shared * size), _QKV)


def _by_head(shape: tuple[int, ...], config: Mapping[str, Any]) -> list[Part]:
    """Head by head q, k, v (GPT-NeoX, BLOOM)."""
    heads, _, size = _heads(config)
    return _interleaved(shape, heads, size, (1, 1, 1))


def _bigcode(shape: tuple[int, ...], config: Mapping[str, Any]) -> list[Part]:
    """All of q and one head of k and v where `multi_query`, else head by head (GPT-BigCode)."""
    heads, _, size = _heads(config)
    if config.get("multi_query", True):
        return _concatenated(shape, 0, (heads * size, size, size), _QKV)
    return _interleaved(shape, heads, size, (1, 1, 1))


def _falcon(shape: tuple[int, ...], config: Mapping[str, Any]) -> list[Part]:
    """Falcon's three layouts: by group of heads (new), all of q and one k and v (7B), or head by head."""
    heads, _, size = _heads(config)
    if config.get("new_decoder_architecture"):
        groups = _optional(config, "num_kv_heads", heads)
        if heads % groups:
            raise CannotSplitError(f"{heads} heads cannot share {groups} key-value heads")
        return _interleaved(shape, groups, size, (heads // groups, 1, 1))
    if config.get("multi_query", True):
        return _concatenated(shape, 0, (heads * size, size, size), _QKV)
    return _interleaved(shape, heads, size, (1, 1, 1))


def _gate_up(shape: tuple[int, ...], config: Mapping[str, Any]) -> list[Part]:
    """The gate, then up, along the first axis (Phi-3, GLM-4)."""
    width = _number(config, "intermediate_size")
    parts = _concatenated(shape, 0, (width, width), (("gate", "keys"), ("up", "keys")))
    return [part._replace(neuron_axis=0 if len(shape) == 2 else None) for part in parts]


def _experts(shape: tuple[int, ...], axis: int | None, component: str) -> Iterator[Part]:
    """Stacked value vectors, one expert after the other."""
    _check_stacked(shape, axis)
    for expert in range(shape[0]):
        first = 0 if axis is None else expert * shape[axis]
        at = None if axis is None else axis - 1
        yield Part(f"{expert}", component, "down", Cut(shape, (expert,)), shape[1:], at, first)


def _experts_of_two(shape: tuple[int, ...], axis: int | None, interleaved: bool) -> Iterator[Part]:
    """Stacked gate and up of every expert, one after the other or every second one along an axis."""
    _check_stacked(shape, axis)
    along = axis if axis is not None else len(shape) - 1
    size = shape[along] // 2
    if size * 2 != shape[along]:
        raise CannotSplitError(f"{shape[along]} is odd")
    for expert in range(shape[0]):
        for which, role in enumerate(("gate", "up")):
            span = slice(which, None, 2) if interleaved else slice(which * size, (which + 1) * size)
            index = (expert, *(slice(None),) * (along - 1), span)
            left = (*shape[1:along], size, *shape[along + 1 :])
            at = None if axis is None else axis - 1
            yield Part(f"{expert}.{role}", "keys", role, Cut(shape, index), left, at, expert * size)


def _check_stacked(shape: tuple[int, ...], axis: int | None) -> None:
    if len(shape) != (2 if axis is None else 3):
        raise CannotSplitError(f"shape {list(shape)} is not one of stacked experts")


def _split_experts(shape: tuple[int, ...], config: Mapping[str, Any], rule: Rule) -> list[Part]:
    return list(_experts(shape, rule.neuron_axis, rule.component))


def _split_experts_gate_up(shape: tuple[int, ...], config: Mapping[str, Any], rule: Rule) -> list[Part]:
    return list(_experts_of_two(shape, rule.neuron_axis, interleaved=False))


def _split_experts_interleaved(shape: tuple[int, ...], config: Mapping[str, Any], rule: Rule) -> list[Part]:
    return list(_experts_of_two(shape, rule.neuron_axis, interleaved=True))


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
}
"""How fused tensors are cut, by the name that rules use."""


# --------------------------------------------------------------------------------------------------------- layout


def layout(shapes: Mapping[str, tuple[int, ...]], config: Mapping[str, Any]) -> Layout:
    """Assign every stored tensor of a checkpoint to its component.

    Args:
        shapes: stored name to shape.
        config: config.json; the language model's part is looked up inside wrappers.
    """
    config = language_config(config)
    model_type = str(config.get("model_type") or "")
    row = architecture(model_type)
    if row is None:
        return _unknown(shapes, model_type)
    pieces: list[Piece] = []
    ignored: list[str] = []
    notes: list[str] = []
    taken: set[str] = set()
    claims = {name: claim(row, name) for name in shapes}
    # Names that need no change come first: another spelling of the same name must not take their place.
    for name in sorted(shapes, key=lambda name: (claims[name] is None or claims[name].canonical != name, name)):  # type: ignore[union-attr]
        found = claims[name]
        if found is None and any(pattern.search(name) for pattern in _ignored(row)):
            ignored.append(name)
            continue
        if found is None or found.canonical in taken:
            why = "no rule fits" if found is None else f"another tensor is {found.canonical} too"
            notes.append(f"{model_type}: {name} counts as other: {why}")
            pieces.append(_whole(name, shapes[name]))
            continue
        taken.add(found.canonical)
        try:
            pieces += _pieces(found, name, shapes[name], config)
        except CannotSplitError as error:
            notes.append(f"{model_type}: {name} counts as other: {error}")
            pieces.append(_whole(name, shapes[name]))
    pieces += _tied(row, pieces, config)
    return Layout(model_type, True, tuple(sorted(pieces, key=_order)), tuple(sorted(ignored)), tuple(_few(notes)))


def pair(base: Layout, unlearned: Layout) -> Pairing:
    """Pair the pieces of two checkpoints by their canonical names."""
    other = {piece.name: piece for piece in unlearned.pieces}
    names = {piece.name for piece in base.pieces}
    both = [(piece, other[piece.name]) for piece in base.pieces if piece.name in other]
    return Pairing(
        matched=tuple((a, b) for a, b in both if a.shape == b.shape),
        only_in_base=tuple(piece for piece in base.pieces if piece.name not in other),
        only_in_unlearned=tuple(piece for piece in unlearned.pieces if piece.name not in names),
        shape_mismatch=tuple((a, b) for a, b in both if a.shape != b.shape),
    )


class Claim(NamedTuple):
    """The rule that a stored name fits: its spelling in the rule's terms, its layer and expert."""

    rule: Rule
    canonical: str
    layer: int | None
    expert: int
    is_bias: bool


def language_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a config that is about the language model, inside a wrapper or not."""
    inner = config.get("text_config")
    if isinstance(inner, dict) and architecture(str(inner.get("model_type") or "")) is not None:
        return {"tie_word_embeddings": config.get("tie_word_embeddings"), **inner}
    return config


def _unknown(shapes: Mapping[str, tuple[int, ...]], model_type: str) -> Layout:
    named = f"model_type {model_type!r}" if model_type else "a checkpoint without model_type"
    note = f"no architecture row for {named}: every tensor counts as other; known: {', '.join(sorted(ARCHITECTURES))}"
    pieces = sorted((_whole(name, shape) for name, shape in shapes.items()), key=_order)
    return Layout(model_type, False, tuple(pieces), (), (note,))


_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block|layer)\.(\d{1,6})\.")


def _whole(name: str, shape: tuple[int, ...]) -> Piece:
    found = _LAYER.search(name)
    return Piece(name, name, "other", "", int(found[1]) if found else None, shape)


def _order(piece: Piece) -> tuple[int, str, int, str]:
    """Outside the layers first, then layers by number; experts by number inside a layer."""
    return (-1 if piece.layer is None else piece.layer, piece.component, piece.first_neuron, piece.name)


def _few(notes: list[str], most: int = 20) -> list[str]:
    return notes if len(notes) <= most else [*notes[:most], f"and {len(notes) - most} more such tensors"]


# --------------------------------------------------------------------------------------------------------- claims


@functools.cache
def _patterns(row: Architecture) -> tuple[re.Pattern[str], tuple[Rule, ...]]:
    """One regular expression of all rules; the number of its last group is the rule's."""
    texts = []
    for rule in row.rules:
        text = re.escape(rule.pattern)
        text = text.replace(r"\{L\}", r"\d{1,6}").replace(r"\{E\}", r"\d{1,6}").replace(r"\{P\}", "(?:weight|bias)")
        texts.append(f"({text})")
    return re.compile("|".join(texts)), row.rules


@functools.cache
def _ignored(row: Architecture) -> tuple[re.Pattern[str], ...]:
    return tuple(re.compile(text) for text in row.ignore)


def claim(row: Architecture, name: str) -> Claim | None:
    """The rule that a stored name fits, as it is or in one of the older spellings."""
    spellings = [name, *(new + name[len(old) :] for old, new in row.prefixes if name.startswith(old))]
    pattern, rules = _patterns(row)
    for spelling in spellings:
        found = pattern.fullmatch(spelling)
        if found and found.lastindex:
            rule = rules[found.lastindex - 1]
            return Claim(rule, spelling, *_numbers(rule, spelling), spelling.endswith("bias"))
    return None


def _numbers(rule: Rule, name: str) -> tuple[int | None, int]:
    """Layer and expert of a name that fits a rule."""
    slots = re.findall(r"\{([LE])\}", rule.pattern)
    numbers = [int(number) for number in re.findall(r"(?<=\.)\d+(?=\.)|^\d+(?=\.)", name)]
    values = dict(zip(slots, numbers[: len(slots)], strict=True))
    return values.get("L"), values.get("E", 0)


def _pieces(found: Claim, name: str, shape: tuple[int, ...], config: Mapping[str, Any]) -> list[Piece]:
    rule = found.rule
    if rule.split is not None:
        if not shape:
            raise CannotSplitError("it has no axes")
        parts = SPLITS[rule.split](shape, config, rule)
        return [
            Piece(
                f"{found.canonical}[{part.suffix}]",
                name,
                part.component,
                part.role,
                found.layer,
                part.shape,
                part.cut,
                part.neuron_axis,
                part.first_neuron,
            )
            for part in parts
        ]
    axis = None if found.is_bias else rule.neuron_axis
    if not found.is_bias and rule.component in _MATRICES and len(shape) != 2:
        raise CannotSplitError(f"a matrix was expected, its shape is {list(shape)}")
    if axis is not None:
        _check_neurons(shape, axis, config)
    first = found.expert * shape[axis] if axis is not None else 0
    if axis is not None and rule.after_experts:
        first = _number(config, "num_experts", "num_local_experts") * _number(config, "moe_intermediate_size")
    return [Piece(found.canonical, name, rule.component, rule.role, found.layer, shape, None, axis, first)]


_WIDTHS = (
    *("intermediate_size", "moe_intermediate_size", "shared_expert_intermediate_size", "intermediate_size_mlp"),
    *("ffn_dim", "ffn_hidden_size", "n_inner"),
)
"""Where configs say how many neurons a layer or an expert has."""


def _check_neurons(shape: tuple[int, ...], axis: int, config: Mapping[str, Any]) -> None:
    """Refuse to call an axis neurons when the config counts them otherwise: a matrix the other way round, for one."""
    widths = {value for name in _WIDTHS if type(value := config.get(name)) is int}
    if widths and shape[axis] not in widths:
        raise CannotSplitError(f"axis {axis} of {list(shape)} should be neurons, but config.json says {sorted(widths)}")


_MATRICES = {"embedding", "position_embedding", "unembedding", "keys", "value_vectors"}
_MATRICES |= {"attn_q", "attn_k", "attn_v", "attn_o"}


def _tied(row: Architecture, pieces: list[Piece], config: Mapping[str, Any]) -> list[Piece]:
    """The unembedding as the embedding's second name, where it is not stored and the config ties them."""
    tied = config.get("tie_word_embeddings")
    if not (row.tied if tied is None else tied):
        return []
    embedding = next((piece for piece in pieces if piece.component == "embedding"), None)
    rule = next((rule for rule in row.rules if rule.component == "unembedding"), None)
    if embedding is None or rule is None or math.prod(embedding.shape) == 0:
        return []
    name = rule.pattern.replace("{P}", "weight")
    if any(piece.name == name for piece in pieces):
        return []
    return [Piece(name, embedding.tensor, "unembedding", "", None, embedding.shape, tied=True)]
