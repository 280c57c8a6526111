"""Changes that somebody might make to a file to harm its reader: of JSON trees, of bytes, of a report's tree."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.report.hdf5.columns import Array, Node

if TYPE_CHECKING:
    from random import Random

TEXTS: tuple[str, ...] = (
    "",
    "a",
    "\x1b[31m",
    "é" * 300,
    "../../etc/passwd",
    "/dev/zero",
    "(a+)+$",
    "{% for i in range(9**9) %}x{% endfor %}",
)
TEXTS += (
    "nan",
    "1e999",
    "\ud800",
    "0",
    "-1",
    "restore",
    "probe",
    "[[]]",
    "{}",
    '{"a": [1]}',
    "x" * 70_000,
    "\0",
    "%s%n",
)
NUMBERS = (0, 1, -1, 2, 7, 255, 1 << 20, 10**9, 2**31 - 1, 2**53 + 1, 2**63 - 1, -(2**63), 0.5, -0.0, 1e308, 5e-324)
CONSTANTS = (None, True, False, float("nan"), float("inf"), float("-inf"))


def any_value(chance: Random, depth: int = 2) -> Any:
    """Any JSON value; small more often than not."""
    kind = chance.randrange(6 if depth else 4)
    if kind == 4:
        return [any_value(chance, depth - 1) for _ in range(chance.randrange(4))]
    if kind == 5:
        return {chance.choice(TEXTS[:6]): any_value(chance, depth - 1) for _ in range(chance.randrange(3))}
    return chance.choice((TEXTS, NUMBERS, NUMBERS, CONSTANTS)[kind])


def change_json(tree: Any, chance: Random, times: int = 2) -> Any:
    """A JSON tree with some of its values changed, taken away, doubled or moved."""
    tree = copy.deepcopy(tree)
    for _ in range(chance.randint(1, times)):
        places = list(_places(tree))
        if not places:
            return any_value(chance)
        holder, key = chance.choice(places)
        act = chance.randrange(6)
        if act == 0:
            del holder[key]
        elif act == 1:
            holder[key] = copy.deepcopy(_value(chance.choice(places)))
        elif act == 2 and isinstance(holder[key], str | list):
            holder[key] = holder[key] * chance.choice((0, 2, 1000))
        elif act == 3 and isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
            holder[key] = holder[key] * chance.choice((-1, 2, 1000, 10**9)) + chance.choice((0, 1, -1))
        elif act == 4 and isinstance(holder, dict):
            holder[chance.choice((*TEXTS[:8], str(key) + "x"))] = holder[key]
        else:
            holder[key] = any_value(chance)
    return tree


def _places(tree: Any) -> Any:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(items):
        yield tree, key
        yield from _places(value)


def _value(place: Any) -> Any:
    holder, key = place
    try:
        return holder[key]
    except (KeyError, IndexError):
        return None


def change_bytes(content: bytes, chance: Random, times: int = 4) -> bytes:
    """Bytes of which some were changed, cut out, doubled, or replaced by others of the same file."""
    found = bytearray(content)
    for _ in range(chance.randint(1, times)):
        place, size = chance.randrange(len(found) + 1), chance.choice((1, 1, 1, 2, 4, 8, 64))
        act = chance.randrange(6)
        if act == 0:
            found[place : place + 1] = bytes([chance.randrange(256)])
        elif act == 1:
            found[place : place + size] = chance.choice((b"\0", b"\xff", b"\x7f")) * size
        elif act == 2:
            del found[place : place + size]
        elif act == 3:
            other = chance.randrange(len(found) + 1)
            found[place : place + size] = found[other : other + size]
        elif act == 4:
            found[place : place + 1] = bytes([found[place] ^ 1 << chance.randrange(8)]) if place < len(found) else b"\1"
        else:
            found[place:place] = chance.choice((b'"', b"{", b"[", b"9" * 400, b"\n", b"\xc3", b"= "))
    return bytes(found)


def change_text(text: str, chance: Random) -> str:
    """The same of a text; what is then no UTF-8 is replaced."""
    return change_bytes(text.encode(), chance).decode("utf-8", "replace")


# ------------------------------------------------------------------------------------------------ the tree of a report


def change_tree(root: Node, chance: Random, times: int = 2) -> Node:
    """A report's tree with some attributes, arrays and groups changed, taken away, renamed or moved."""
    root = _copy(root)
    for _ in range(chance.randint(1, times)):
        node = chance.choice(list(_nodes(root)))
        if chance.random() < 0.15:
            _cut_axis(node, chance)
            continue
        kinds = [one for one in (node.attributes, node.arrays, node.arrays, node.groups) if one]
        if not kinds:
            continue
        held: dict[str, Any] = chance.choice(kinds)
        name = chance.choice(list(held))
        act = chance.randrange(8)
        if act == 0:
            del held[name]
        elif act == 1:
            other = held[chance.choice(list(held))]
            held[name] = _copy(other) if isinstance(other, Node) else other
        elif act == 2:
            held[chance.choice((*TEXTS[1:4], "order", "summary", name + "x"))] = held.pop(name)
        else:
            held[name] = _other(held[name], chance)
    return root


def _copy(node: Node) -> Node:
    """Another tree over the same arrays: none is changed in place."""
    return Node(dict(node.attributes), dict(node.arrays), {name: _copy(one) for name, one in node.groups.items()})


def _cut_axis(node: Node, chance: Random) -> None:
    """An axis of a group made shorter or longer, in all of its arrays."""
    sizes = {name: len(one.values) for name, one in node.arrays.items() if one.dimensions == (name,)}
    if not sizes:
        return
    axis = chance.choice(list(sizes))
    keep = np.arange(chance.choice((0, 1, sizes[axis] - 1, sizes[axis] + 1)))
    for name, one in node.arrays.items():
        place = one.dimensions.index(axis) if axis in one.dimensions else 0
        # An array that was changed before may have no such axis any more.
        if axis in one.dimensions and place < one.values.ndim and (size := one.values.shape[place]):
            node.arrays[name] = one._replace(values=np.take(one.values, keep % size, place))


def _nodes(node: Node) -> Any:
    yield node
    for one in node.groups.values():
        yield from _nodes(one)


def _other(value: Any, chance: Random) -> Any:
    if isinstance(value, Node):
        names = list(value.arrays)
        return Node(value.attributes, {chance.choice(names): array for array in value.arrays.values()}, value.groups)
    if isinstance(value, Array):
        return value._replace(values=_other_array(value.values, chance))
    if isinstance(value, str) and value[:1] in "{[" and chance.random() < 0.8:
        try:
            return json.dumps(change_json(json.loads(value), chance))
        except (ValueError, UnicodeError):
            return value[:-1]
    one = any_value(chance, 0)
    return int(one) if isinstance(one, int) else str(one).encode("utf-8", "replace").decode()


def _other_array(values: Any, chance: Random) -> Any:
    """An array of another kind, shape or content."""
    act = chance.randrange(7)
    if act == 0:
        kind = chance.choice(("i8", "f8", "u1", "f4", "S5"))
        return (
            np.nan_to_num(values, posinf=9, neginf=-9).clip(-9, 9).astype(kind)
            if values.dtype.kind in "iuf"
            else np.zeros(values.shape, kind)
        )
    if act == 1:
        return values[: chance.randrange(len(values) + 1)] if values.ndim else values
    if act == 2:
        return np.concatenate([values, values]) if values.ndim else values.reshape(1)
    if act == 3:
        return values[None] if chance.random() < 0.5 else values.reshape(-1)
    found = values.copy()
    if not found.size:
        return np.zeros((3, *values.shape[1:]), values.dtype)
    place = np.unravel_index(chance.randrange(found.size), found.shape)
    if found.dtype.kind == "S":
        found = found.astype("S40")
        found[place] = chance.choice(
            (b"", b"\xff\xfe", b"\x1b[2J", b"1 2 x", b"-1", b"restore", b"keys", b"9" * 30, b"99999999")
        )
    elif found.dtype.kind == "f":
        found = found.astype("f8")
        found[place] = chance.choice((np.nan, np.inf, -np.inf, -1.0, 2.0, 1e308, 1e-320, 0.0))
        found = np.full_like(found, found[place]) if act == 6 else found
    else:
        limits = np.iinfo(found.dtype)
        found[place] = chance.choice((0, 1, limits.min, limits.max, 3, limits.max // 2, 5, -1 if limits.min else 2))
        found = np.full_like(found, found[place]) if act == 6 else found
    return found
