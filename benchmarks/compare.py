"""How fast and how small `ckdiff compare` is, as ratios inside one interleaved run.

Makes a bf16 pair with Llama-like shapes in a temporary directory, then in turn, `--runs` times:
  hash      the whole command with hashing, against `openssl dgst -sha256` over the same files (wall time);
  no-hash   the whole command with --no-hash, against one pass of NumPy over the same mapped bytes (CPU seconds);
and the command's peak resident memory against that of a bare `import numpy, h5py`.

  python benchmarks/compare.py [--gigabytes 1] [--runs 5]

`--gigabytes` is the size of one checkpoint. Quote medians and ratios, not single seconds.
"""

from __future__ import annotations

import argparse
import json
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
MEMORY_PASS = """
import mmap, sys
import numpy as np
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    np.frombuffer(mapped, np.uint8)[: len(mapped) // 8 * 8].view(np.uint64).sum()
"""


@dataclass(frozen=True)
class Cost:
    """What one finished process took: wall and CPU seconds, peak resident MB."""

    wall: float
    cpu: float
    megabytes: float


def shapes(gigabytes: float) -> dict[str, tuple[int, ...]]:
    """Tensor shapes of a Llama-like model of about so many bytes in bf16."""
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
    each = 2 * sum(int(np.prod(shape)) for shape in layer.values())
    outside = {
        "model.embed_tokens.weight": (D_VOCAB, D_MODEL),
        "lm_head.weight": (D_VOCAB, D_MODEL),
        "model.norm.weight": (D_MODEL,),
    }
    rest = 2 * sum(int(np.prod(shape)) for shape in outside.values())
    layers = max(1, -(-int(gigabytes * 1e9 - rest) // each))
    inside = {f"model.layers.{n}.{name}.weight": shape for n in range(layers) for name, shape in layer.items()}
    return outside | inside


def write(directory: Path, tensors: dict[str, tuple[int, ...]], drifted: bool) -> None:
    """One checkpoint of random bf16 words; the drifted one differs in about a quarter of its words' last bits."""
    directory.mkdir()
    config = {"model_type": "llama", "hidden_size": D_MODEL, "intermediate_size": D_FF, "vocab_size": D_VOCAB}
    config |= {"num_attention_heads": 16, "num_key_value_heads": 4, "head_dim": 128, "tie_word_embeddings": False}
    (directory / "config.json").write_text(json.dumps(config))
    header, position = {}, 0
    for name, shape in tensors.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [position, position + size]}
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
                words = (rng.standard_normal(count, dtype=np.float32).view(np.uint32) >> 16).astype(np.uint16)
                if drifted:
                    words ^= noise.integers(0, 4, count, dtype=np.uint16) == 0
                file.write(words.tobytes())
                left -= count


def cost(command: list[str]) -> Cost:
    """Run a command to its end; its CPU and memory are what the kernel accounts to it."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="ckdiff-benchmark-"))
    try:
        tensors = shapes(options.gigabytes)
        files = []
        for side in ("base", "unlearned"):
            write(directory / side, tensors, side == "unlearned")
            files.append(str(directory / side / "model.safetensors"))
        total = sum(Path(file).stat().st_size for file in files)
        print(f"{len(tensors)} tensors, {total / 1e9:.2f} GB in two checkpoints, {os.cpu_count()} cores")
        python = [sys.executable]
        compare = [*python, "-m", "ckdiff", "compare", str(directory / "base"), str(directory / "unlearned")]
        compare += ["-o", str(directory / "report.h5")]
        commands = {
            "ckdiff compare": compare,
            "openssl dgst -sha256": ["openssl", "dgst", "-sha256", *files],
            "ckdiff compare --no-hash": [*compare, "--no-hash"],
            "one pass over the bytes": [*python, "-c", MEMORY_PASS, *files],
            "import numpy, h5py": [*python, "-c", "import numpy, h5py"],
        }
        costs: dict[str, list[Cost]] = {name: [] for name in commands}
        for run in range(options.runs + 1):
            for name, command in commands.items():
                taken = cost(command)
                if run:  # the first round warms the page cache and is not counted
                    costs[name].append(taken)
        print(f"{'min, median, max':28s}")
        for name, taken_all in costs.items():
            show(name, taken_all)
        median = {name: statistics.median([c.wall for c in taken_all]) for name, taken_all in costs.items()}
        cpu = {name: statistics.median([c.cpu for c in taken_all]) for name, taken_all in costs.items()}
        peak = {name: max(c.megabytes for c in taken_all) for name, taken_all in costs.items()}
        bare = cpu["import numpy, h5py"]
        one_pass = cpu["one pass over the bytes"]
        print(f"hashing, wall, to openssl:       {median['ckdiff compare'] / median['openssl dgst -sha256']:.2f}")
        print(f"no hash, CPU, to one pass:       {cpu['ckdiff compare --no-hash'] / one_pass:.2f}")
        above = (cpu["ckdiff compare --no-hash"] - bare) / max(1e-9, one_pass - bare)
        print(f"the same, above bare imports:    {above:.2f}")
        print(f"peak memory above bare imports:  {peak['ckdiff compare'] - peak['import numpy, h5py']:.0f} MB")
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    main()
