"""Run `audit.sh` for a pass, a failure, a bad input and too little evidence: `python try.py OUT`.

It makes a tiny pair with `ckdiff demo`, a copy of its base in float16, and a key.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
CASES = (
    # Name of the run, the checkpoint that is audited, the policy, the exit status.
    ("passed", "copy", "unchanged", 0),
    ("failed", "unlearned", "erased", 1),
    ("mistake", "truncated", "erased", 2),
    ("unknown", "unlearned", "more", 3),
)


def main(out: Path) -> int:
    if out.exists() and any(out.iterdir()):
        sys.exit(f"{out}: already there; name a new directory")
    pair = out / "pair"
    subprocess.run(
        [sys.executable, "-m", "ckdiff", "demo", str(pair), "--quiet"], check=True, stdout=subprocess.DEVNULL
    )
    copy_in_float16(pair / "base", pair / "copy")
    truncated(pair / "unlearned", pair / "truncated")
    for name in ("erased", "unchanged", "more"):
        # A policy's files lie beside it.
        shutil.copy(HERE / f"{name}.toml", pair)
    key = out / "key.pem"
    subprocess.run([sys.executable, "-m", "ckdiff", "attest", "--new-key", str(key)], check=True)
    wrong = 0
    for name, checkpoint, policy, expected in CASES:
        command = [HERE / "audit.sh", pair / "base", pair / checkpoint, pair / f"{policy}.toml", out / name, key]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        # Without attacks, which would tell of the demo's pair what the fourth run lacks.
        environment = {**os.environ, "PATH": path, "TIER": "none"}
        found = subprocess.run(list(map(str, command)), env=environment).returncode
        wrong += found != expected
        print(f"{name}: exit status {found}, {expected} expected", flush=True)
    return int(wrong > 0)


def copy_in_float16(base: Path, copy: Path) -> None:
    """The same model, its weights rounded to float16."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(base, copy)
    for place in copy.glob("*.safetensors"):
        tensors = {name: tensor.to(torch.float16) for name, tensor in load_file(place).items()}
        save_file(tensors, place, metadata={"format": "pt"})


def truncated(checkpoint: Path, broken: Path) -> None:
    """The same directory, one file cut off in the middle."""
    shutil.copytree(checkpoint, broken)
    place = max(broken.glob("*.safetensors"))
    os.truncate(place, place.stat().st_size // 2)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: try.py OUT")
    sys.exit(main(Path(sys.argv[1])))
