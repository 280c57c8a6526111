"""One piece of work in a process of its own, for `gpu.py`: seconds apart from loading, peak memory; or its operations.

python gpu_child.py FOUND.json time|count DEVICE command WORD ...
python gpu_child.py FOUND.json time|count DEVICE plain NAME PAIR DTYPE TOKENS
"""

from __future__ import annotations

import gc
import json
import re
import resource
import sys
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gpu_plain
import torch
from gpu_floors import Counter, clock

from ckdiff.cli.app import run
from ckdiff.probes.live.model import LiveModel
from ckdiff.probes.preparation import DTYPES

if TYPE_CHECKING:
    from collections.abc import Callable

LOADING = ("__init__", "load_ends", "load_layer", "load")
ENDINGS = (0, 1, 3)
"""Statuses that are no failure here: random weights may tell nothing, and a gate may say no."""


class Loading:
    """Seconds that models took to be made and loaded, calls within calls counted once."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.seconds, self.depth = device, 0.0, 0

    def watch(self) -> None:
        """Time every such call of a live model from now on."""
        for name in LOADING:
            setattr(LiveModel, name, self.timed(getattr(LiveModel, name)))

    def timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, its seconds counted."""

        @wraps(call)
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = clock(self.device) if not self.depth else 0.0
            self.depth += 1
            try:
                return call(*args, **kwargs)
            finally:
                self.depth -= 1
                if not self.depth:
                    self.seconds += clock(self.device) - start

        return timed


def peak(device: torch.device) -> float:
    """The most memory, in GB: allocated on a GPU, else resident."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    status = Path("/proc/self/status")
    # What the kernel accounts to a process begins with its parent's peak; this line does not.
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    if found:
        return int(found[1]) * 1024 / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def do_command(words: list[str], device: torch.device, loading: Loading) -> None:
    """A command into a new report, so that nothing is there from before."""
    report = Path(words[0])
    report.unlink(missing_ok=True)
    status = run([*words[1:], "-o", str(report)])
    if status not in ENDINGS:
        raise SystemExit(f"ckdiff {words[1]} ended with {status}")


def do_plain(words: list[str], device: torch.device, loading: Loading) -> None:
    """A plain script."""
    name, pair, dtype, tokens = words
    with torch.inference_mode():
        loaded = loading.timed(gpu_plain.load)(Path(pair), device, DTYPES[dtype], int(tokens))
        gpu_plain.SCRIPTS[name](loaded)


def forget(device: torch.device) -> None:
    """Give memory back, so that the next peak is that of the next work alone."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def main() -> None:
    place, device, words = Path(sys.argv[1]), torch.device(sys.argv[2]), sys.argv[4:]
    work = {"command": do_command, "plain": do_plain}[sys.argv[3]]
    loading = Loading(device)
    loading.watch()
    with Counter() as counter:
        work(words, device, loading)
    forget(device)
    loading.seconds, start = 0.0, clock(device)
    work(words, device, loading)
    seconds = clock(device) - start - loading.seconds
    found = {"seconds": seconds, "loading": loading.seconds, "peak": peak(device)}
    place.write_text(json.dumps(found | {"operations": counter.operations, "bytes": counter.bytes}))


if __name__ == "__main__":
    main()
