"""The cost of a probe before it runs: floating-point operations, memory, bytes read."""

from __future__ import annotations

import functools
import os
import time
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ckdiff.errors import CkdiffError
from ckdiff.modes import KEY_OUTPUTS
from ckdiff.probes.live.sites import spared_modules, widths

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ckdiff.probes.live.model import LiveModel
    from ckdiff.probes.prompts import Prompt
    from ckdiff.scoring.runs import Schedule

SHARE = 0.8
"""Of the free memory that a probe may plan with."""
ATTENTION = ("attn", "attn_q", "attn_k", "attn_v", "attn_o")
MLP = ("keys", "value_vectors", "router")


NEURON_FORWARDS = 80
"""What the neurons of one window cost, in forwards: 8 gradients, about 40 sizes, 10 random sets (see `neurons`)."""
NEURON_READS = 10
"""How often they read the layers of a streamed pair."""


class TooLittleMemoryError(CkdiffError):
    """More memory is needed than there is."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes that the arithmetic of a plan depends on.

    Attributes:
        positions: of all questions with their answers, padding aside.
        scored: positions among them.
        attention, mlp: multiplications of one layer for one position.
        spared: of these, by names of outputs of the keys, those that fall away where they come from outside.
        head: multiplications of the unembedding for one position.
    """

    positions: int
    scored: int
    layers: int
    d_model: int
    attention: float
    mlp: float
    head: float
    spared: Mapping[tuple[str, ...], float]


def sizes(live: LiveModel, prompts: Sequence[Prompt]) -> Sizes:
    """Read the sizes off a model (its parameters may be without memory) and the questions."""
    per_layer = []
    for components in (ATTENTION, MLP):
        total = sum(
            live.sites[number].layer.get_parameter(name).numel() * _used_share(live, component, name)
            for number in range(len(live.layers))
            for component in components
            for name in live.sites[number].parameters.get(component, ())
        )
        per_layer.append(total / len(live.layers))
    head = live.model.get_submodule(live.row.sites.unembed).weight
    scored = sum(len(prompt.scored) for prompt in prompts)
    positions = sum(prompt.length for prompt in prompts)
    d_model = int(head.shape[1])
    attention, mlp = per_layer
    return Sizes(positions, scored, len(live.layers), d_model, attention, mlp, float(head.numel()), _spared_work(live))


def _spared_work(live: LiveModel) -> dict[tuple[str, ...], float]:
    """By some names of outputs of the keys, in the order of the table: the mean over the layers."""
    found = {}
    for size in range(1, len(KEY_OUTPUTS) + 1):
        for names in combinations(KEY_OUTPUTS, size):
            modules = [module for sites in live.sites if sites.key_outputs for module in spared_modules(sites, names)]
            found[names] = sum(module.get_parameter("weight").numel() for module in modules) / len(live.layers)
    return found


def _used_share(live: LiveModel, component: str, name: str) -> float:
    """Of a stacked tensor of experts only the chosen ones are used."""
    if component == "router" or "experts" not in name:
        return 1.0
    count = next((getattr(live.config, key, None) for key in ("num_local_experts", "num_experts")), None)
    return live.config.num_experts_per_tok / count if count else 1.0


def operations(plan: Schedule, size: Sizes, kl: bool) -> float:
    """Floating-point operations of a plan, 2 a multiplication; attention's softmax and the like left out."""
    total = 2 * size.layers * (size.attention + size.mlp) * size.positions
    for run in plan.runs:
        for layer in range(run.first, size.layers):
            patch = run.patch(layer)
            given = dict(patch.key_outputs)
            mlp = size.mlp - size.spared.get(tuple(name for name in KEY_OUTPUTS if name in given), 0)
            work = (size.attention if patch.attention is None else 0) + (mlp if patch.coefficients is None else 0)
            total += work * (size.scored if run.pointwise else size.positions)
    if kl:
        # Logits are made twice: for the Jensen-Shannon divergence once more.
        total += 2 * (len(plan.runs) + 1) * size.head * size.scored
    else:
        total += size.head * size.d_model
    return 2 * total


def plain_operations(runs: int, size: Sizes) -> float:
    """The same of the plain script: one full forward, logits and all, a run and for the two models."""
    return 2.0 * (runs + 2) * (size.layers * (size.attention + size.mlp) + size.head) * size.positions


def state_bytes(plan: Schedule, size: Sizes, padded: int, itemsize: int) -> list[int]:
    """Memory of every run's state; `padded` counts padding among the positions."""
    return [(size.scored if run.pointwise else padded) * size.d_model * itemsize for run in plan.runs]


def key_output_bytes(plan: Schedule, live: LiveModel, padded: int, itemsize: int) -> int:
    """Memory of what the keys of both models give in one layer, as far as runs take it from there."""
    patches = (patch for run in plan.runs for patch in (run.inside, run.behind))
    names = {name for patch in patches for name, _ in patch.key_outputs}
    neurons = max(widths(sites.values)[0] if sites.values is not None else 0 for sites in live.sites)
    return 2 * len(names) * neurons * padded * itemsize


def passes(plan: Schedule, states: Sequence[int], room: int, begun: int = 0) -> list[list[int]]:
    """Runs from a number on in groups whose states fit into so many bytes together; one group where all do."""
    groups: list[list[int]] = [[]]
    used = 0
    for number in sorted(range(begun, len(plan.runs)), key=lambda number: (plan.runs[number].first, number)):
        if groups[-1] and used + states[number] > room:
            groups.append([])
            used = 0
        groups[-1].append(number)
        used += states[number]
    return groups


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device; of a CPU what the system and a container's limit leave."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        free = int(lines["MemAvailable"].split()[0]) * 1024
    limit, used = (_number(Path("/sys/fs/cgroup") / name) for name in ("memory.max", "memory.current"))
    return free if limit is None or used is None else min(free, max(0, limit - used))


def total_memory(device: torch.device) -> int:
    """Bytes that a device has in all, used or not; of a CPU as far as a container's limit lets it."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = _number(Path("/sys/fs/cgroup/memory.max"))
    return there if limit is None else min(there, limit)


def speed(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of a product like a layer's: the parts of a plan share what was measured."""
    return _measured_speed(device, dtype, torch.get_num_threads())


@functools.cache
def _measured_speed(device: torch.device, dtype: torch.dtype, threads: int) -> float:
    """The same, measured in a moment, with so many threads as are set."""
    a, b = (torch.ones(512, 1024, dtype=dtype, device=device), torch.ones(1024, 1024, dtype=dtype, device=device))
    a @ b
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < 0.2:
        (a @ b)[0, 0].item()
        count += 1
    return count * 2 * 512 * 1024 * 1024 / (time.perf_counter() - start)


def layer_speed(device: torch.device, dtype: torch.dtype) -> float:
    """Operations a second: products of a layer's size run at half the speed of a large one, with all around them."""
    return speed(device, dtype) / 2


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None
