"""What a device reaches, and how many operations and bytes the products of a piece of work want."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIZES = {"cuda": (8192, 1 << 30), "cpu": (1024, 1 << 26)}
"""Rows of the square matrices, and bytes that are copied."""


@dataclass(frozen=True)
class Reached:
    """Floating-point operations and bytes (read and written) a second."""

    operations: float
    bytes: float


def measure(device: torch.device, dtype: torch.dtype) -> Reached:
    """The best that a large matrix product and a large copy reach."""
    rows, size = SIZES[device.type]
    one = torch.randn(rows, rows, device=device).to(dtype)
    product = best(lambda: one @ one, device)
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copied = best(lambda: target.copy_(source), device)
    return Reached(2.0 * rows**3 / product, 2.0 * size / copied)


def best(work: Callable[[], object], device: torch.device, times: int = 10) -> float:
    """Seconds of the fastest of some calls, after two that do not count."""
    found = []
    for _ in range(times + 2):
        start = clock(device)
        work()
        found.append(clock(device) - start)
    return min(found[2:])


def clock(device: torch.device) -> float:
    """Seconds, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


class Counter(TorchDispatchMode):
    """Counts operations of products and of attention inside a `with`, and the bytes that they read and write."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = 0.0
        self.bytes = 0.0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        count = flop_registry.get(func._overloadpacket)
        if count is None and func is not torch.ops.prim.device.default:
            with self:
                # A product may be hidden in a call that is made of others.
                made = func.decompose(*args, **kwargs)
            if made is not NotImplemented:
                return made
        made = func(*args, **kwargs)
        if count is not None:
            self.operations += float(count(*args, **kwargs, out_val=made))
            self.bytes += sum(one.numel() * one.element_size() for one in tensors((args, kwargs, made)))
        return made


def tensors(given: Any) -> Iterator[torch.Tensor]:
    """Every tensor in nested lists, tuples and dictionaries."""
    if isinstance(given, torch.Tensor):
        yield given
    elif isinstance(given, (list, tuple, dict)):
        for one in given.values() if isinstance(given, dict) else given:
            yield from tensors(one)
