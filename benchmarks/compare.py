"""How fast and how small `ckdiff compare` is, as ratios inside one interleaved run.

Makes a pair with Llama-like shapes in a temporary directory, then in turn, `--runs` times, on 1, 2, 4 ... threads:
  hash      the whole command with hashing, against `openssl dgst -sha256` over the same files (wall time);
  no-hash   the whole command with --no-hash, against one pass of NumPy over the same mapped bytes (CPU seconds);
  nothing   the same command on a pair of a few bytes: what it costs before it does anything;
and the command's peak resident memory against that of a bare `import numpy, h5py`.

  python benchmarks/compare.py [--gigabytes 1] [--dtype BF16|F32] [--runs 5] [--against CHECKOUT]

`--gigabytes` is the size of one checkpoint; `--against` runs an older checkout's command beside this one's, on as many
threads as it takes by itself; both are compiled first, as what is installed is. Quote medians and ratios, not seconds.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

D_MODEL, D_FF, D_VOCAB, D_KV = 2048, 8192, 32000, 512
WORD = {"BF16": 2, "F32": 4}
MEMORY_PASS = """
import mmap, sys
import numpy as np
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    np.frombuffer(mapped, np.uint8)[: len(mapped) // 8 * 8].view(np.uint64).sum()
"""

SSL, ONE_PASS, BARE, START = "openssl dgst -sha256", "one pass over the bytes", "import numpy, h5py", "compare, nothing"


@dataclass(frozen=True)
class Cost:
    """What one finished process took: wall and CPU seconds, peak resident MB."""

    wall: float
    cpu: float
    megabytes: float


def shapes(gigabytes: float, word: int = 2) -> dict[str, tuple[int, ...]]:
    """Tensor shapes of a Llama-like model of about so many bytes in words of so many."""
    layer = {
        "self_attn.q_proj": (D_MODEL, D_MODEL),
        "self_attn.k_proj": (D_KV, D_MODEL),
        "self_attn.v_proj": (D_KV, D_MODEL),
        "self_attn.o_proj": (D_MODEL, D_MODEL),
        "mlp.gate_proj": (D_FF, D_MODEL),
        "mlp.up_proj": (D_FF, D_MODEL),
        "mlp.down_proj": (D_MODEL, D_FF),
        "input_layernorm": (D_MODEL,),
        "post_attention_layernorm": (D_MODEL,),
    }
    each = word * sum(int(np.prod(shape)) for shape in layer.values())
    outside = {
        "model.embed_tokens.weight": (D_VOCAB, D_MODEL),
        "lm_head.weight": (D_VOCAB, D_MODEL),
        "model.norm.weight": (D_MODEL,),
    }
    rest = word * sum(int(np.prod(shape)) for shape in outside.values())
    layers = max(1, -(-int(gigabytes * 1e9 - rest) // each))
    inside = {f"model.layers.{n}.{name}.weight": shape for n in range(layers) for name, shape in layer.items()}
    return outside | inside


def write(directory: Path, tensors: dict[str, tuple[int, ...]], drifted: bool, dtype: str = "BF16") -> None:
    """One checkpoint of random floats; the drifted one differs in the last bits of about a quarter of its words."""
    directory.mkdir(parents=True)
    config = {"model_type": "llama", "hidden_size": D_MODEL, "intermediate_size": D_FF, "vocab_size": D_VOCAB}
    config |= {"num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 128, "tie_word_embeddings": False}
    (directory / "config.json").write_text(json.dumps(config))
    header, position = {}, 0
    for name, shape in tensors.items():
        size = WORD[dtype] * int(np.prod(shape))
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [position, position + size]}
        position += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    rng, noise = np.random.default_rng(1), np.random.default_rng(2)
    with (directory / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for shape in tensors.values():
            left = int(np.prod(shape))
            while left:
                count = min(left, 1 << 22)
                words = rng.standard_normal(count, dtype=np.float32).view(np.uint32)
                if drifted:
                    words ^= (noise.integers(0, 4, count, dtype=np.uint32) == 0).astype(np.uint32) << np.uint32(16)
                file.write(((words >> 16).astype(np.uint16) if dtype == "BF16" else words).tobytes())
                left -= count


def cost(command: list[str], checkout: Path | None, compiled: Path) -> Cost:
    """Run a command to its end, on a checkout's code; its CPU and memory are what the kernel accounts to it."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPYCACHEPREFIX": str(compiled)} | ({"PYTHONPATH": str(checkout)} if checkout else {})
    start = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=checkout, env=environment
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    if status != 0:
        sys.exit(f"{command} failed: {process.stderr.read().decode() if process.stderr else ''}")
    unit = 1 if sys.platform == "darwin" else 1024
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit / 1e6)


def show(name: str, costs: list[Cost]) -> None:
    def row(values: list[float]) -> str:
        return f"{min(values):8.2f} {statistics.median(values):8.2f} {max(values):8.2f}"

    print(f"{name:28s} wall {row([c.wall for c in costs])}   cpu {row([c.cpu for c in costs])}", end="")
    print(f"   peak MB {statistics.median([c.megabytes for c in costs]):7.0f}")


def threads_to_try() -> list[int]:
    """1, 2, 4 ... and as many as there are cores."""
    cores = os.cpu_count() or 1
    return sorted({cores, *(2**power for power in range(cores.bit_length()))})


def make(directory: Path, options: argparse.Namespace) -> None:
    """Write a pair, and a pair of a few bytes."""
    tensors = shapes(options.gigabytes, WORD[options.dtype])
    small: dict[str, tuple[int, ...]] = {"x": (4, 8)}
    for place, these in ((directory, tensors), (directory / "small", small)):
        for side in ("base", "unlearned"):
            write(place / side, these, side == "unlearned", options.dtype)
    total = sum(file.stat().st_size for file in weight_files(directory)) / 1e9
    print(
        f"{len(tensors)} tensors of {options.dtype}, {total:.2f} GB in two checkpoints, {os.cpu_count()} cores",
        flush=True,
    )


def weight_files(directory: Path) -> list[Path]:
    """The weight files of the pair."""
    return [directory / side / "model.safetensors" for side in ("base", "unlearned")]


def commands_on(directory: Path, against: Path | None) -> dict[str, tuple[list[str], Path | None]]:
    """What is run in turn, by its name, and whose code it is."""

    def compare(place: Path, *more: str) -> list[str]:
        command = [sys.executable, "-m", "ckdiff", "compare", str(place / "base"), str(place / "unlearned"), *more]
        return [*command, "--quiet", "--overwrite", "-o", str(directory / "report.h5")]

    files = [str(file) for file in weight_files(directory)]
    here, small = Path(__file__).parents[1], directory / "small"
    commands: dict[str, tuple[list[str], Path | None]] = {
        SSL: (["openssl", "dgst", "-sha256", *files], None),
        ONE_PASS: ([sys.executable, "-c", MEMORY_PASS, *files], None),
        BARE: ([sys.executable, "-c", "import numpy, h5py"], None),
        START: (compare(small, "--no-hash"), here),
    }
    for count in map(str, threads_to_try()):
        commands[f"compare, {count}"] = (compare(directory, "--threads", count), here)
        commands[f"compare --no-hash, {count}"] = (compare(directory, "--no-hash", "--threads", count), here)
    if against is not None:
        commands["old compare"] = (compare(directory), against)
        commands["old compare --no-hash"] = (compare(directory, "--no-hash"), against)
    return commands


def report_ratios(costs: dict[str, list[Cost]]) -> None:
    """Each way of comparing, against what it is measured by."""
    wall = {name: statistics.median(c.wall for c in taken) for name, taken in costs.items()}
    cpu = {name: statistics.median(c.cpu for c in taken) for name, taken in costs.items()}
    peak = {name: max(c.megabytes for c in taken) for name, taken in costs.items()}
    for name in (name for name in costs if "compare" in name and name != START):
        by = [f"wall to openssl {wall[name] / wall[SSL]:5.2f}"]
        old = "old compare --no-hash" if "no-hash" in name else "old compare"
        if old in costs and name != old:
            by += [f"to old: wall {wall[name] / wall[old]:.2f}", f"CPU {cpu[name] / cpu[old]:.2f}"]
            by += [f"CPU without starting {(cpu[name] - cpu[START]) / (cpu[old] - cpu[START]):.2f}"]
        if "no-hash" in name:
            by += [f"CPU without starting, to one pass {(cpu[name] - cpu[START]) / (cpu[ONE_PASS] - cpu[BARE]):.1f}"]
        print(f"{name:24s} {'   '.join(by)}   MB above bare imports {peak[name] - peak[BARE]:.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--dtype", choices=sorted(WORD), default="BF16")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--against", type=Path)
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="ckdiff-benchmark-"))
    try:
        # In a process of its own: what this one holds would be the least that any command is accounted.
        making = multiprocessing.get_context("spawn").Process(target=make, args=(directory, options))
        making.start()
        making.join()
        commands = commands_on(directory, options.against)
        costs: dict[str, list[Cost]] = {name: [] for name in commands}
        for run in range(options.runs + 1):
            for name, (command, checkout) in commands.items():
                taken = cost(command, checkout, directory / "compiled")
                if run:  # the first round warms the page cache and is not counted
                    costs[name].append(taken)
        print(f"{'min, median, max':28s}")
        for name, taken_all in costs.items():
            show(name, taken_all)
        report_ratios(costs)
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
