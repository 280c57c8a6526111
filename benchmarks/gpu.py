"""Is ckdiff right on a CUDA GPU, and what does it cost there? `sh benchmarks/gpu.sh`; nothing is downloaded.

1. Scores of a probe (all modes, variants, both directions) of a tiny pair of every family on the GPU, in float32,
   bfloat16 and float16, against the CPU in float64; what is beyond its tolerance ends the run with status 1.
2. Random pairs of the shapes of Llama-2-7B and OLMo-7B in bfloat16 (27 GB of disk in --dir, one pair at a time, removed
   afterwards): seconds after loading and peak memory of four commands, beside the plain script of `gpu_plain.py`, and
   beside two floors: the operations of the command's products over what a large product reaches here, and the bytes
   that they read and write over what a copy reaches. All is done twice: with its operations counted, then with a clock.

Each command and each script runs in a process of its own. The plain scripts do less than the commands: of a probe 12 of
the combinations of modes and variants. Without a GPU all of it runs in small on the CPU, and says so.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from gpu_floors import Reached, measure
from gpu_models import LARGE, SMALL, make
from gpu_scores import ROUTED, TOLERANCES, check

from ckdiff.probes.preparation import DTYPES

if TYPE_CHECKING:
    from collections.abc import Iterable

CHILD = Path(__file__).with_name("gpu_child.py")
PROBED = ("--mode", "all", "--variant", "all", "--direction", "both", "--given-answers")
ASKED = ("--most-unrelated", "50")
COMMANDS: dict[str, tuple[str, ...]] = {
    "probe": PROBED,
    "audit": (*ASKED, "--no-neutral"),
    "behave": (*ASKED, "--no-neutral"),
    "attack": (*ASKED, "--tier", "0,1"),
}
NO_GPU = "There was no CUDA GPU: all of this ran on the CPU, in small, and says nothing about a GPU."


@dataclass(frozen=True)
class Scale:
    """How much is done, and on what."""

    device: str
    dtype: str
    families: tuple[str, ...]
    dtypes: tuple[str, ...]
    questions: int
    tokens: int
    unrelated: int


@dataclass(frozen=True)
class Row:
    """Of one contender: seconds after loading, of loading, peak memory in GB; operations and bytes of its products."""

    seconds: float
    loading: float
    peak: float
    operations: float
    bytes: float


def choose_scale() -> Scale:
    """All of it where there is a GPU, else a little."""
    from tests.tiny_families import ALL

    if torch.cuda.is_available():
        return Scale("cuda", "bfloat16", tuple(ALL), tuple(TOLERANCES), 10, 30, 50)
    return Scale("cpu", "float32", ("llama", "olmo"), ("float32",), 2, 3, 2)


def name_of(device: str) -> str:
    """The card's name, or that there is none."""
    if device == "cuda":
        return torch.cuda.get_device_name(0)
    return f"no GPU, {torch.get_num_threads()} CPU threads"


def command_words(name: str, pair: Path, scale: Scale) -> list[str]:
    """The command's words."""
    words = [
        "command",
        str(pair / f"{name}.h5"),
        name,
        str(pair / "base"),
        str(pair / "unlearned"),
        *COMMANDS[name],
        "--no-hash",
        "--quiet",
    ]
    words += ["--questions", str(pair / "questions.jsonl"), "--tokens", str(scale.tokens), "--device", scale.device]
    if name != "probe":
        words += ["--unrelated", str(pair / "unrelated.jsonl")]
    return [*words, "--dtype", scale.dtype]


def measure_one(pair: Path, device: str, words: list[str]) -> Row | None:
    """What a process of its own found; None where it failed, which is printed."""
    place = pair / "found.json"
    call = [sys.executable, str(CHILD), str(place), device, *words]
    done = subprocess.run(call, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        print(f"  failed: {' '.join(words[:3])}: {done.stderr.strip()[-400:]}", flush=True)
        return None
    return Row(**json.loads(place.read_text()))


def line(name: str, who: str, row: Row, reached: Reached) -> str:
    """One line of the table."""
    floors = (row.operations / reached.operations, row.bytes / reached.bytes)
    return (
        f"  {name:8s} {who:7s} {row.seconds:10.2f} {row.loading:9.2f} {row.peak:8.2f}"
        f" {floors[0]:11.3f} {floors[1]:9.3f} {row.seconds / max(*floors, 1e-12):9.1f}"
    )


def measure_pair(pair: Path, scale: Scale, commands: Iterable[str], reached: Reached) -> bool:
    """The table of one pair; whether every line of it is there."""
    print(
        f"  {'':8s} {'':7s} {'seconds':>10s} {'loading':>9s} {'peak GB':>8s}"
        f" {'operations':>11s} {'bytes':>9s} {'x floor':>9s}"
    )
    whole = True
    for name in commands:
        plain = ["plain", name, str(pair), scale.dtype, str(scale.tokens)]
        for who, words in (("ckdiff", command_words(name, pair, scale)), ("plain", plain)):
            row = measure_one(pair, scale.device, words)
            whole = whole and row is not None
            if row:
                print(line(name, who, row, reached), flush=True)
    return whole


def measure_pairs(scale: Scale, root: Path) -> bool:
    """A table for every shape; whether nothing failed."""
    reached = measure(torch.device(scale.device), DTYPES[scale.dtype])
    print(
        f"{name_of(scale.device)}, {scale.dtype}: a large product reaches {reached.operations / 1e12:.3f} TFLOP/s,"
        f" a copy {reached.bytes / 1e9:.1f} GB/s"
    )
    print(f"{scale.questions} questions, {scale.unrelated} unrelated, {scale.tokens} tokens an answer")
    whole, large = True, scale.device == "cuda"
    for number, (name, shape) in enumerate((LARGE if large else SMALL).items()):
        # In small, starting a process is most of it.
        commands = COMMANDS if large or not number else ("probe", "behave")
        with tempfile.TemporaryDirectory(dir=root) as folder:
            print(f"{name}:", flush=True)
            make(Path(folder) / "pair", shape, scale.questions, scale.tokens, scale.unrelated)
            whole = measure_pair(Path(folder) / "pair", scale, commands, reached) and whole
    return whole


def check_scores(scale: Scale, root: Path) -> bool:
    """Whether every family is right in every dtype."""
    bounds = ", ".join(f"{dtype} {TOLERANCES[dtype]:g} ({ROUTED[dtype]:g} in a mixture)" for dtype in scale.dtypes)
    print(f"greatest difference of a score on {scale.device} from the CPU in float64 (at most: {bounds})")
    found = check(scale.families, scale.dtypes, scale.device, root)
    beyond = [row for row in found if not row.passed]
    print(f"{len(found) - len(beyond)} of {len(found)} within their tolerance", flush=True)
    return not beyond


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=Path, help="where pairs are made; by default the system's choice")
    parser.add_argument("--only", choices=("scores", "costs"), help="one part of it")
    options = parser.parse_args()
    scale = choose_scale()
    print(f"{name_of(scale.device)}; torch {torch.__version__}", flush=True)
    passed = True
    with tempfile.TemporaryDirectory(prefix="ckdiff-gpu-", dir=options.dir) as folder:
        if options.only != "costs":
            passed = check_scores(scale, Path(folder))
        if options.only != "scores":
            passed = measure_pairs(scale, Path(folder)) and passed
    if scale.device == "cpu":
        print(NO_GPU)
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
