"""Models that work beside each other, a thread or more each: how many, with which threads, and how they stop.

    count = count_places(live, room)           # as many as have a thread and room
    with shared_threads(count), heard(lives, stop): ...

A forward over a few short texts is made of small products, which two threads share badly: two models with a thread each
end sooner than one after the other with two.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import torch

from ckdiff.progress import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from ckdiff.probes.live.model import LiveModel

MOST = 4
"""Places, however many threads there are: each holds a model."""
BESIDE = 0.5
"""What goes on in a place takes, beside its models, about so much of one of them."""


def count_places(live: LiveModel, room: int, together: int = 1) -> int:
    """How many places there are at one time: as many as have a thread and room, on a processor.

    Args:
        live: such a model.
        room: free memory, in bytes.
        together: models that a place holds at one time.
    """
    if live.device.type != "cpu":
        return 1
    each = live.parameter_bytes(live.dtype.itemsize) * (together + BESIDE)
    return max(1, min(MOST, torch.get_num_threads(), int(room / each)))


@contextmanager
def shared_threads(count: int) -> Iterator[None]:
    """Torch's threads, divided among so many places."""
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // count))
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def heard(lives: Iterable[LiveModel], stop: Callable[[], bool]) -> Iterator[None]:
    """Whoever runs one of these models hears before each layer that it is to stop, and raises `Stopped`.

    A thread is not interrupted as the main one is: by itself it would go on to its end.
    """

    def listen(*ignored: object) -> None:
        if stop():
            raise Stopped

    with ExitStack() as hooks:
        for layer in (layer for live in lives for layer in live.layers):
            hooks.callback(layer.register_forward_pre_hook(listen).remove)
        yield
