"""The files around the weights, read with care: JSON objects, templates, digests, and what else lies there."""

from __future__ import annotations

import hashlib
import os
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

from ckdiff.errors import CheckpointError
from ckdiff.untrusted import is_quick, quoted
from ckdiff.weights.reader import ADAPTER_CONFIG, inside, read_json

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ckdiff.weights.checkpoint import Checkpoint

JSON_FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.json",
)
"""Files that are compared key by key."""

OPAQUE_FILES = (
    *("tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "merges.txt"),
    *("*.py", "*.jinja", "custom_generate/*", "*.model", "*.model.v*", "*.spm", "*.tiktoken", "*.vocab", "vocab.bpe"),
    *("tekken.json", "params.json", "processor_config.json", "preprocessor_config.json"),
    *("quantize_config.json", "quant_config.json", "quantization_config.json", "hf_quant_config.json", "recipe.yaml"),
)
"""Files that are compared by sha256: vocabularies, code that a model brings along, settings of other programs."""

NO_SETTINGS = (
    *("*.safetensors", "*.index*.json", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.gguf", "*.msgpack", "*.onnx"),
    *("*.h5", "*.npz", "*.md", "*.rst", "LICENSE*", "NOTICE*", "USE_POLICY*", "COPYING*", "*.png", "*.jpg", "*.jpeg"),
    *("*.gif", "*.svg", "*.pdf", "*.webp", ".*", "*.log", "events.out.*", "*.lock", "*.html", "*.csv", "*.ipynb"),
    *("trainer_state.json", "training_args*", "*_results.json", "optimizer*", "scheduler*", "rng_state*", "latest"),
    *("adapter_config.json", "unlearning.json", "zero_to_fp32.py", "quantization_report.json"),
)
"""Files that say nothing about what the model computes: weights, documents, pictures, a trainer's own."""

TEMPLATE = "chat_template"
TEMPLATE_FILE, TEMPLATE_FOLDER = "chat_template.jinja", "additional_chat_templates"
MAX_OPAQUE_BYTES = 1_000_000_000
MOST_FILES = 2000


def chat_templates(root: Path) -> dict[str, str]:
    """The chat templates that transformers would use, by name: files of their own, or else tokenizer_config.json's.

    Raises:
        CheckpointError: a template cannot be read as text.
    """
    found = {}
    names = [TEMPLATE_FILE, *(f"{TEMPLATE_FOLDER}/{name}" for name in file_names(root / TEMPLATE_FOLDER))]
    for name in names:
        if name.endswith(".jinja") and (raw := contents(root, name)) is not None:
            key = "default" if name == TEMPLATE_FILE else name.rpartition("/")[2].removesuffix(".jinja")
            try:
                found[key] = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise CheckpointError(f"{root / name}: not UTF-8; fetch it again") from error
    return found or _templates_by_name(read_json(root, "tokenizer_config.json").get(TEMPLATE))


def _templates_by_name(value: Any) -> dict[str, Any]:
    """A template, or several of them, as tokenizer_config.json holds them."""
    if isinstance(value, dict):
        return value
    if isinstance(value, list):
        rows = [row for row in value if isinstance(row, dict)]
        return {str(row.get("name", "default")): row.get("template") for row in rows}
    return {} if value is None else {"default": value}


def other_files(root: Path) -> set[str]:
    """Everything in a checkpoint's directory that may be a setting and is not compared key by key."""
    names = file_names(root) + [f"custom_generate/{name}" for name in file_names(root / "custom_generate")]
    known = {*JSON_FILES, TEMPLATE_FILE}
    return {name for name in names if name not in known and not any(fnmatch(name, one) for one in NO_SETTINGS)}


def settings_files(root: Path) -> list[str]:
    """Every file of a checkpoint's directory that may be a setting."""
    templates = [TEMPLATE_FILE, *(f"{TEMPLATE_FOLDER}/{name}" for name in file_names(root / TEMPLATE_FOLDER))]
    return sorted({*JSON_FILES, *templates, *other_files(root)})


def settings_digests(checkpoint: Checkpoint) -> dict[str, str]:
    """The sha256 of every file around the weights that what a model says depends on, by name, sorted.

    Of an adapter its own config is one of them, because it says by how much its matrices count.

    Raises:
        CheckpointError: one of them leads out of the checkpoint, or is no regular file.
    """
    root = checkpoint.root
    names = [] if root is None else [name for name in settings_files(root) if name in JSON_FILES or is_opaque(name)]
    places = [(root, name) for name in names if root is not None]
    folders = {shard.path.parent for shard in checkpoint.shards} - {root}
    places += [(folder, ADAPTER_CONFIG) for folder in folders]
    digests = {name: sha256_of(place, name) for place, name in places}
    return {name: digest for name, digest in sorted(digests.items()) if digest is not None}


OVERRULED = ("special_tokens_map_file", "tokenizer_file")
"""Names in tokenizer_config.json that transformers never follows: a checkpoint may say where it was once written."""


def check_tokenizer_files(root: Path) -> None:
    """Refuse a tokenizer of which a part lies outside its checkpoint, by a link or by its path.

    Raises:
        CheckpointError: and which file it is; or one is no regular file, or absurdly large.
    """
    for name in settings_files(root):
        if name in JSON_FILES or is_opaque(name):
            regular(root, name)
    for key, value in read_json(root, "tokenizer_config.json").items():
        if not key.endswith(("_file", "_path")) or key in OVERRULED or not isinstance(value, str):
            continue
        # As transformers takes it: from the current directory, not from the checkpoint's.
        if value and "\0" not in value and os.path.lexists(value):
            inside(root, os.path.abspath(value))


MOST_WORDS, MOST_STEPS, MOST_PIECE, MOST_GROWTH = 2_000_000, 100, 10_000, 1000
"""Of a tokenizer: words, steps of its pipeline, characters that one of them puts in, and how often a text may grow."""


TABLE = "precompiled_charsmap"
"""Of one letter to another; long, and nothing that is put in."""


PIPELINE = ("normalizer", "pre_tokenizer", "post_processor", "decoder")


def check_growth(root: Path) -> None:
    """Refuse a tokenizer that makes a short text long without end, or that has more words than any language model.

    Raises:
        CheckpointError: and which part of it.
    """
    whole, path = read_json(root, "tokenizer.json"), root / "tokenizer.json"
    model = whole.get("model")
    words = model.get("vocab") if isinstance(model, dict) else None
    if isinstance(words, dict | list) and len(words) > MOST_WORDS:
        raise CheckpointError(f"{path}: more than {MOST_WORDS} words; fetch it again")
    for part in PIPELINE:
        steps, growth = list(_steps(whole.get(part), MAX_NESTED)), 1.0
        for step in steps:
            pieces = [text for key, text in step.items() if isinstance(text, str) and key != TABLE]
            if max(map(len, pieces), default=0) > MOST_PIECE:
                raise CheckpointError(f"{path}: {part}: puts in more than {MOST_PIECE} characters; fetch it again")
            if step.get("type") == "Replace":
                pattern = step.get("pattern")
                matched = pattern.get("String") if isinstance(pattern, dict) else None
                shorter = len(matched) if isinstance(matched, str) else 0
                growth *= max(1.0, len(str(step.get("content"))) / max(1, shorter))
            if part == "decoder" and not is_quick(str(step.get("Regex", "")), ""):
                raise CheckpointError(f"{path}: {part}: {quoted(step['Regex'])} may match without end; fetch it again")
        if len(steps) > MOST_STEPS or growth > MOST_GROWTH:
            raise CheckpointError(f"{path}: {part}: makes of a text more than {MOST_GROWTH} times that; fetch it again")


def has_patterns(root: Path) -> bool:
    """Whether a tokenizer cuts texts by regular expressions of its own."""
    whole = read_json(root, "tokenizer.json")
    return any("Regex" in step for part in PIPELINE for step in _steps(whole.get(part), MAX_NESTED))


MAX_NESTED = 20


def _steps(value: Any, depth: int) -> Iterator[dict[str, Any]]:
    """Every object of a part of the pipeline."""
    if isinstance(value, dict):
        yield value
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for item in items if depth else ():
        yield from _steps(item, depth - 1)


def weight_files(root: Path) -> list[str]:
    """The names of the weight files and indexes in a checkpoint's directory, read or not."""
    return [name for name in file_names(root) if ".safetensors" in name]


def is_opaque(name: str) -> bool:
    """Whether a file is one whose digest is a setting."""
    return any(fnmatch(name, pattern) for pattern in OPAQUE_FILES)


def file_names(folder: Path) -> list[str]:
    """Names of the files in a folder, links included; nothing where there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if not entry.is_dir())[:MOST_FILES]
    except OSError:
        return []


def regular(root: Path, name: str) -> Path | None:
    """The path of a file inside the checkpoint, or None where there is none.

    Raises:
        CheckpointError: it is no regular file, leads out of the checkpoint, or is absurdly large.
    """
    if not os.path.lexists(root / name):
        return None
    path = inside(root, name)
    if not path.is_file():
        raise CheckpointError(f"{root}: {quoted(name)} is not a regular file; remove it")
    if path.stat().st_size > MAX_OPAQUE_BYTES:
        raise CheckpointError(f"{path}: larger than {MAX_OPAQUE_BYTES} bytes; this is not a {name}")
    return path


def contents(root: Path, name: str) -> bytes | None:
    """A whole file, or None where there is none."""
    path = regular(root, name)
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{root / name}: cannot be read ({error.strerror}); check its rights") from error


def sha256_of(root: Path, name: str) -> str | None:
    """A file's digest, or None where there is none."""
    path = regular(root, name)
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}); check its rights") from error
