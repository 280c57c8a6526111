"""Both contenders on models that are loaded: `measure_process(directory, options)`, for `probe_large.py`."""

from __future__ import annotations

import statistics
import sys
import time
from typing import TYPE_CHECKING

import torch
from probe_contenders import AGREE, CHECKED, WINDOW, Plain, ckdiff, differences, load_all

from ckdiff.modes import MODES
from ckdiff.probes import cost
from ckdiff.probes.live.model import LiveModel
from ckdiff.probes.live.pretrained import load_tokenizer
from ckdiff.probes.preparation import DTYPES
from ckdiff.probes.sweep import SIDES, Pair
from ckdiff.probes.wording.wording import Wording
from ckdiff.questions.questions import read_questions
from ckdiff.scoring.runs import plan_runs
from ckdiff.weights.opening import open_checkpoint

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from ckdiff.scoring.runs import Schedule


def measure_process(directory: Path, options: argparse.Namespace) -> int:
    """Both contenders on the same loaded models, in turn; 1 where they disagree."""
    device, dtype = torch.device(options.device), DTYPES[options.dtype]

    def clock() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    start = clock()
    pair = Pair(*(LiveModel(open_checkpoint(str(directory / side)), dtype, device) for side in SIDES))
    load_all(pair)
    on = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"loading: {clock() - start:.1f} s wall, {options.dtype}, {device} ({on}), torch {torch.__version__}")
    tokenizer = load_tokenizer(directory / "base")
    asked = Wording(tokenizer).answered(read_questions(directory / "questions.jsonl").questions, options.tokens)
    size = cost.sizes(pair.base, asked)
    modes, variants = options.mode.split(","), options.variants.split(",")
    windowed = [mode for mode in modes if not MODES[mode].ancillary]
    centres = range(size.layers)

    def planned(layers: Sequence[int]) -> Schedule:
        return plan_runs(("restore",), modes, variants, layers, WINDOW, size.layers, controls=False)

    plan, plain = planned(centres), Plain(pair.base.model, pair.unlearned.model, asked, clock)
    windows = len(windowed) * len(variants) * size.layers
    print(
        f"{len(asked)} questions, {size.positions} positions, {size.scored} scored; {', '.join(modes)};"
        f" {', '.join(variants)}: {len(plan.runs)} runs of ckdiff, {windows} windows of the plain script"
    )
    # A last window through both, so that neither pays for what happens once.
    ckdiff(pair, asked, planned(centres[-1:]), True, clock)
    plain.run(windowed, variants[0], centres[-1:], True)
    seconds: dict[str, list[float]] = {"plain": [], "ckdiff": []}
    memory: dict[str, float] = {}
    worst: dict[str, float] = {}
    for _ in range(options.rounds):
        reset_peak(device)
        swept = ckdiff(pair, asked, plan, True, clock)
        seconds["ckdiff"].append(swept.taken.total)
        memory["ckdiff"] = peak(device)
        reset_peak(device)
        spent = 0.0
        for variant in variants:
            curves, taken = plain.run(windowed, variant, centres, True)
            spent += taken.total
            for score, value in differences(swept.curves[variant], curves):
                worst[score] = max(worst.get(score, 0.0), value)
        seconds["plain"].append(spent)
        memory["plain"] = peak(device)
    tell(seconds, memory if device.type == "cuda" else {})
    work = cost.operations(plan, size, kl=True) / cost.plain_operations(windows, size)
    print(f"of operations {work:.3f}")
    print(f"largest difference: {', '.join(f'{score} {value:.1e}' for score, value in worst.items())}")
    print("(krs_kl aside: the divergence of such near models is below what the plain script's float32 sum can tell)")
    if dtype in (torch.float32, torch.float64) and not max(worst[score] for score in CHECKED) <= AGREE:
        print(f"the contenders disagree by more than {AGREE:.0e}", file=sys.stderr)
        return 1
    return 0


def tell(seconds: dict[str, list[float]], memory: dict[str, float]) -> None:
    """Print what each contender took and, where it is known, allocated, and the ratio of the two."""
    for name, values in seconds.items():
        text = f"min {min(values):.2f}, median {statistics.median(values):.2f}, max {max(values):.2f}"
        allocated = f"; most memory allocated {memory[name]:.2f} GB" if name in memory else ""
        print(f"{name:7s} seconds after loading: {text}{allocated}")
    ratio = statistics.median(seconds["ckdiff"]) / statistics.median(seconds["plain"])
    print(f"ratio of medians {ratio:.3f}")


def reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak(device: torch.device) -> float:
    """Most memory allocated on the device since the last reset, in GB; NaN on a CPU."""
    return torch.cuda.max_memory_allocated(device) / 1e9 if device.type == "cuda" else float("nan")
