"""What a model that never knew costs: a depth, streamed, and an audit beside a reference.

  --measure depth     Three checkpoints of random weights (bf16, shapes of a Llama) and the real command, streamed, in a
                      process of its own: wall and CPU seconds, peak resident memory, bytes made into parameters
                      as a share of the files (1 where each is read once), beside what --plan says.
  --measure audit     CPU seconds of `audit`, of `audit --tier` and of `audit --tier --reference` on one pair, else
                      that of `ckdiff demo`, one process each with one thread; the reference is the base with noise.

  python benchmarks/depth.py
  python benchmarks/depth.py --measure audit --tier 0,1,2 [BASE UNLEARNED --file QUESTIONS]

With random weights the depth means nothing; the work is that of real ones.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from audit import DONE, demo
from audit import measure as measure_process
from probe_large import Shape, make_pair, measure_command, write, write_tokenizer

NOISE = 0.5
"""Of the noise in a reference, as a share of what a matrix spreads by itself."""


def measure_depth(options: argparse.Namespace) -> None:
    """One streamed depth of three random models."""
    shape = Shape(options.layers, options.d_model, options.d_ff, options.heads)
    with tempfile.TemporaryDirectory(prefix="ckdiff-benchmark-", dir=options.dir) as temporary:
        directory = Path(temporary)
        total = make_pair(directory, shape, options) + write(directory / "never", shape, 2)
        write_tokenizer(directory / "never")
        asked = [
            "depth",
            str(directory / "base"),
            str(directory / "unlearned"),
            "--reference",
            str(directory / "never"),
        ]
        own = ["--questions", str(directory / "questions.jsonl"), "--given-answers", "--tokens", str(options.tokens)]
        plan = [*asked, *own, "--stream", "on", "--device", "cpu", "--dtype", options.dtype, "--plan", "-o"]
        command = [sys.executable, "-m", "ckdiff", *plan, str(directory / "none.h5")]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        print("".join(f"  {line}\n" for line in said.splitlines()), end="")
        measure_command(directory, total, asked, options)


def measure_audits(options: argparse.Namespace) -> None:
    """Three audits of one pair, each with more beside it."""
    with tempfile.TemporaryDirectory(prefix="ckdiff-benchmark-", dir=options.dir) as temporary:
        directory = Path(temporary)
        pair = [*options.pair, "--questions", options.file] if options.pair else demo(directory)
        disturb(Path(pair[0]), directory / "never")
        tiers = ["--tier", options.tier]
        beside = ["--reference", str(directory / "never"), "--reference-kind", "retrained"]
        plain = 0.0
        for more in ([], tiers, tiers + beside):
            place = ["--threads", "1", "-o", str(directory / "report.h5"), "--overwrite", "--quiet"]
            seconds, peak = measure_process(["audit", *pair, *more, *place], DONE)
            plain = plain or seconds
            words = " ".join(["audit", *more[:2], *more[2:3]])
            print(f"{words:34}{seconds:8.1f} CPU s, {seconds / plain:5.2f} of the first, {peak:7.0f} MB")


def disturb(base: Path, place: Path) -> None:
    """A copy of a model with noise on all of its matrices."""
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(base, place)
    torch.manual_seed(0)
    for file in place.glob("*.safetensors"):
        found = load_file(file)
        noisy = {
            name: one + NOISE * float(one.float().std()) * torch.randn(one.shape).to(one.dtype) if one.ndim > 1 else one
            for name, one in found.items()
        }
        save_file(noisy, file, {"format": "pt"})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--measure", choices=("depth", "audit"), default="depth")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--d-model", type=int, default=1536)
    parser.add_argument("--d-ff", type=int, default=4096)
    parser.add_argument("--heads", type=int, default=12)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--questions", dest="count", type=int, default=2, help="of a depth of random models")
    parser.add_argument("--tokens", type=int, default=10)
    parser.add_argument("--dir", type=Path, help="where models are made; they are removed")
    parser.add_argument("--tier", default="0,1", help="of an audit's attacks")
    parser.add_argument("--file", help="of questions, where a pair is given")
    parser.add_argument("pair", nargs="*", help="BASE UNLEARNED")
    options = parser.parse_args()
    options.questions = options.count
    (measure_depth if options.measure == "depth" else measure_audits)(options)


if __name__ == "__main__":
    main()
