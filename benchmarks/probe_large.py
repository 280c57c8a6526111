"""What `ckdiff probe` needs for a large model: time, memory and bytes read, on a pair of random weights.

Makes a bf16 pair with the shapes of Llama-2-7B (shards of a gigabyte, the unlearned side with a bit flipped in a
quarter of its words), a tokenizer of a few hundred words and questions with answers, in a directory that is removed
afterwards. 32 layers want 27 GB of disk. Then one of two things:

  --measure command   The real command in a process of its own, one layer of each model in memory at a time: wall and
                      CPU seconds, peak resident memory, bytes read; the files leave the page cache beforehand, so that
                      `from disk` is what the kernel really fetched for that process.
  --measure process   Both models on one device: seconds of the sweep and its losses after loading, the peak of
                      allocated memory (CUDA), and the ratio to the plain script of `probe.py`, one batched full forward
                      a window and mode, on the same loaded models, and whether the two agree. The files are loaded
                      from --dir (a tmpfs leaves the disk out). Mode ancillary is ckdiff's alone: it has no windows.

  python benchmarks/probe_large.py                                  # command, on the CPU
  python benchmarks/probe_large.py --device cuda                    # process, modes that plain has
  python benchmarks/probe_large.py --measure process --layers 2 --d-model 256 --d-ff 512 --heads 4     # tries it

With random weights the scores mean nothing; the work is that of real ones.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from probe_contenders import SCRIPTED
from probe_loaded import measure_process

from ckdiff.probes.preparation import DTYPES
from ckdiff.probes.sweep import SIDES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


D_VOCAB = 32000
SHARD = 1_000_000_000
WORDS = 500
PROMPT_WORDS = 20
COMPARED = (*SCRIPTED, "ancillary")
STD = 0.02
COUNTING = """
import atexit, os, sys
from ckdiff.cli.app import main
from ckdiff.probes.live.model import LiveModel
models, build = [], LiveModel.__init__
def noting(self, *args, **options):
    build(self, *args, **options)
    models.append(self)
LiveModel.__init__ = noting
def tell():
    with open(sys.argv[1], "w") as file:
        file.write(str(sum(model.bytes_read for model in models)))
atexit.register(tell)
main(sys.argv[2:])
"""
"""The command itself, which at its end also writes how many stored bytes became parameters."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama without grouped queries."""

    layers: int
    d_model: int
    d_ff: int
    heads: int

    def tensors(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Name and shape of every stored tensor, in the order of the forward."""
        square, wide = (self.d_model, self.d_model), (self.d_ff, self.d_model)
        yield "model.embed_tokens.weight", (D_VOCAB, self.d_model)
        for number in range(self.layers):
            inside = f"model.layers.{number}"
            for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
                yield f"{inside}.self_attn.{name}.weight", square
            yield f"{inside}.mlp.gate_proj.weight", wide
            yield f"{inside}.mlp.up_proj.weight", wide
            yield f"{inside}.mlp.down_proj.weight", (self.d_model, self.d_ff)
            yield f"{inside}.input_layernorm.weight", (self.d_model,)
            yield f"{inside}.post_attention_layernorm.weight", (self.d_model,)
        yield "model.norm.weight", (self.d_model,)
        yield "lm_head.weight", (D_VOCAB, self.d_model)

    def config(self) -> dict[str, object]:
        """What config.json holds."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": self.d_model,
            "intermediate_size": self.d_ff,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.heads,
            "max_position_embeddings": 4096,
            "rms_norm_eps": 1e-5,
            "vocab_size": D_VOCAB,
            "tie_word_embeddings": False,
            "dtype": "bfloat16",
            "bos_token_id": None,
            "eos_token_id": None,
        }


# ------------------------------------------------------------------------------------------------------------ the pair


def shards(shape: Shape) -> list[list[tuple[str, tuple[int, ...]]]]:
    groups: list[list[tuple[str, tuple[int, ...]]]] = [[]]
    used = 0
    for name, sizes in shape.tensors():
        size = 2 * int(np.prod(sizes))
        if groups[-1] and used + size > SHARD:
            groups.append([])
            used = 0
        groups[-1].append((name, sizes))
        used += size
    return groups


def words(sizes: tuple[int, ...], seed: int, drifted: int) -> Iterator[bytes]:
    """A tensor's bf16 words, a piece at a time: ones for a norm, else normal; drifted: a bit flipped in a quarter.

    Checkpoints that drifted by other numbers have other bits flipped.
    """
    left = int(np.prod(sizes))
    rng, noise = np.random.default_rng([1, seed]), np.random.default_rng([1 + drifted, seed])
    while left:
        count = min(left, 1 << 22)
        if len(sizes) == 1:
            values = np.ones(count, np.float32)
        else:
            values = rng.standard_normal(count, dtype=np.float32) * np.float32(STD)
        piece = (values.view(np.uint32) >> 16).astype(np.uint16)
        if drifted and len(sizes) > 1:
            piece ^= noise.integers(0, 4, count, dtype=np.uint8) == 0
        yield piece.tobytes()
        left -= count


def write(directory: Path, shape: Shape, drifted: int) -> int:
    """One checkpoint; its size in bytes."""
    directory.mkdir()
    (directory / "config.json").write_text(json.dumps(shape.config()))
    (directory / "generation_config.json").write_text("{}")
    groups, placed, total, seed = shards(shape), {}, 0, 0
    for number, group in enumerate(groups, 1):
        path = directory / f"model-{number:05}-of-{len(groups):05}.safetensors"
        header, position = {}, 0
        for name, sizes in group:
            size = 2 * int(np.prod(sizes))
            header[name] = {"dtype": "BF16", "shape": sizes, "data_offsets": [position, position + size]}
            placed[name] = path.name
            position += size
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with path.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for _, sizes in group:
                for piece in words(sizes, seed, drifted):
                    file.write(piece)
                seed += 1
            file.flush()
            os.fsync(file.fileno())
        total += path.stat().st_size
    index = {"metadata": {"total_size": total}, "weight_map": placed}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))
    return total


def write_tokenizer(directory: Path, known_words: int = WORDS) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    known = ["<unk>", "Question", "Answer", ":", *(f"word{number}" for number in range(known_words))]
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(known)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(directory)


def write_questions(path: Path, questions: int, tokens: int, known_words: int = WORDS, seed: int = 3) -> None:
    rng = np.random.default_rng(seed)

    def text(count: int) -> str:
        return " ".join(f"word{number}" for number in rng.integers(0, known_words, count))

    lines = [json.dumps({"question": text(PROMPT_WORDS), "answer": text(tokens)}) for _ in range(questions)]
    path.write_text("\n".join(lines) + "\n")


def make_pair(directory: Path, shape: Shape, options: argparse.Namespace) -> int:
    """Both checkpoints with their tokenizers, and the questions; the checkpoints' bytes.

    Raises:
        SystemExit: they would not fit on the disk.
    """
    wanted = 4 * sum(int(np.prod(sizes)) for _, sizes in shape.tensors())
    free = shutil.disk_usage(directory).free
    if free < 1.05 * wanted + 1e8:
        sys.exit(
            f"{wanted / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free; name another --dir, or fewer --layers"
        )
    start = time.perf_counter()
    total = 0
    for side in SIDES:
        total += write(directory / side, shape, int(side == "unlearned"))
        write_tokenizer(directory / side)
    write_questions(directory / "questions.jsonl", options.questions, options.tokens)
    print(f"pair: {total / 1e9:.2f} GB in two checkpoints, made in {time.perf_counter() - start:.0f} s")
    return total


# --------------------------------------------------------------------------------------------------------- the command


def leave_page_cache(directory: Path) -> None:
    for path in directory.rglob("*.safetensors"):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def measure_command(directory: Path, total: int, asked: Sequence[str], options: argparse.Namespace) -> None:
    """The command in a child of its own; its CPU, memory and reads are what the kernel accounts to it."""
    counted = directory / "bytes-read"
    command = [sys.executable, "-c", COUNTING, str(counted), *asked, "--stream", "on", "--device", "cpu"]
    command += ["--questions", str(directory / "questions.jsonl"), "--given-answers", "--tokens", str(options.tokens)]
    command += ["--dtype", options.dtype, "--no-hash", "-o", str(directory / "report.h5")]
    if hasattr(os, "posix_fadvise"):
        leave_page_cache(directory)
    start = time.perf_counter()
    with (directory / "log").open("w+") as log:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
        # Wait without reaping: what the kernel knows of a process is there until then.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        wall = time.perf_counter() - start
        counters = Path(f"/proc/{process.pid}/io")
        read = dict(line.split(": ") for line in counters.read_text().splitlines()) if counters.exists() else {}
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        log.seek(0)
        if process.returncode not in (0, 3):  # random weights may tell nothing
            sys.exit(f"the command ended with {process.returncode}: {log.read()[-2000:]}")
    unit = 1 if sys.platform == "darwin" else 1024
    print(f"wall {wall:.1f} s, CPU {usage.ru_utime:.1f} s user + {usage.ru_stime:.1f} s system")
    print(
        f"peak resident memory {usage.ru_maxrss * unit / 1e9:.2f} GB, {usage.ru_maxrss * unit / total:.3f} of the files"
    )
    tensors = int(counted.read_text())
    print(f"stored bytes made into parameters {tensors / 1e9:.2f} GB, {tensors / total:.3f} of the files")
    if read:
        disk = int(read["read_bytes"])
        print(f"from disk {disk / 1e9:.2f} GB, {disk / total:.3f} of the files (mapped pages and Python's own modules)")


# ---------------------------------------------------------------------------------------------------------- in process


# --------------------------------------------------------------------------------------------------------- this script


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", choices=("command", "process"), help="by default: command on a CPU, else process")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--dtype", default="float32", choices=sorted(DTYPES))
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--d-model", type=int, default=4096)
    parser.add_argument("--d-ff", type=int, default=11008)
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--questions", type=int, help="by default 2, in process 10")
    parser.add_argument("--tokens", type=int, help="by default 10, in process 30")
    parser.add_argument("--mode", help="by default coeff, in process all that the plain script knows")
    parser.add_argument("--variants", help="by default open, in process open,isolated")
    parser.add_argument("--rounds", type=int, default=1, help="in process only")
    parser.add_argument(
        "--dir", type=Path, help="where the pair is made, such as a tmpfs; by default the system's choice"
    )
    options = parser.parse_args()
    in_process = (options.measure or ("command" if options.device == "cpu" else "process")) == "process"
    if not in_process and options.device != "cpu":
        parser.error("--measure command is about the CPU")
    options.questions = options.questions or (10 if in_process else 2)
    options.tokens = options.tokens or (30 if in_process else 10)
    options.mode = options.mode or (",".join(COMPARED) if in_process else "coeff")
    if in_process and (others := set(options.mode.split(",")) - set(COMPARED)):
        parser.error(f"--mode {','.join(sorted(others))}: the plain script knows {', '.join(COMPARED)}")
    options.variants = options.variants or ("open,isolated" if in_process else "open")
    shape = Shape(options.layers, options.d_model, options.d_ff, options.heads)
    directory = Path(tempfile.mkdtemp(prefix="ckdiff-benchmark-", dir=options.dir))
    status = 0
    try:
        total = make_pair(directory, shape, options)
        if in_process:
            with torch.inference_mode():
                status = measure_process(directory, options)
        else:
            asked = ["probe", str(directory / "base"), str(directory / "unlearned")]
            asked += ["--mode", options.mode, "--variant", options.variants]
            measure_command(directory, total, asked, options)
    finally:
        shutil.rmtree(directory)
    sys.exit(status)


if __name__ == "__main__":
    main()
