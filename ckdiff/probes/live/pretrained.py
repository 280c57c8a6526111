"""Everything from transformers: config classes, models without memory, tokenizers. Its only importer.

Nothing of a checkpoint is run (`trust_remote_code` is always False), nothing is unpickled, and a directory needs no
network.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ckdiff.errors import CheckpointError
from ckdiff.probes.live.budget import Budget, length_of
from ckdiff.untrusted import quoted, shorten
from ckdiff.weights.architectures import ARCHITECTURES, architecture
from ckdiff.weights.around import check_growth, check_tokenizer_files, has_patterns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ckdiff.weights.checkpoint import Checkpoint
    from ckdiff.weights.rules import Architecture


MOST_WORDS = 200
"""Characters of a library's own message."""


UNUSED = ("auto_map", "dtype", "torch_dtype")
"""Keys of a config that say nothing about what the model computes here."""


def config_of(checkpoint: Checkpoint) -> Any:
    """The config of the language model, as transformers' own class; nothing of the checkpoint is run."""
    from transformers import AutoConfig
    from transformers.utils import logging

    logging.set_verbosity_error()
    settings = dict(checkpoint.config)
    if not settings:
        raise CheckpointError(f"{checkpoint.location}: no config.json; a probe needs a checkpoint directory")
    inner = settings.get("text_config")
    if isinstance(inner, dict) and architecture(str(inner.get("model_type") or "")) is not None:
        tied = settings.get("tie_word_embeddings")
        settings = {**({} if tied is None else {"tie_word_embeddings": tied}), **inner}
    model_type = settings.pop("model_type", None)
    if architecture(str(model_type)) is None:
        known = ", ".join(sorted(ARCHITECTURES))
        raise CheckpointError(
            f"{checkpoint.location}: no architecture row for model_type {str(model_type)[:60]!r}; known: {known}"
        )
    # What is read as values is a plain matrix here; what cannot be read so was refused when it was opened.
    quantised = settings.pop("quantization_config", None) or settings.pop("quantization", None) or {}
    method = quantised.get("quant_method", "fp8") if isinstance(quantised, dict) else None
    if method != "fp8" and not any(one.label for one in checkpoint.derived.values()):
        raise CheckpointError(
            f"{checkpoint.location}: config.json says that the weights are quantised, and none of them is; give the"
            " config.json that belongs to them"
        )
    settings.pop("quantization", None)
    for key in [key for key in settings if key in UNUSED or "_implementation" in key]:
        # An implementation may name a kernel on the hub: code, and the checkpoint's choice of it.
        del settings[key]
    _check_sizes(checkpoint, settings)
    try:
        return AutoConfig.for_model(model_type, **settings)
    except Exception as error:
        raise CheckpointError(
            f"{checkpoint.location}: config.json is not one of a {model_type} ({_reason(error)}); fetch it again"
        ) from error


MOST_LAYERS, MOST_LABELS, MOST_WIDTH, MOST_SIZE = 1000, 100_000, 1 << 24, 1 << 40
"""What a config may ask for: layers, where there are no more tensors; labels; widths; any other number."""


WIDTHS = ("_size", "_dim", "_heads", "_rank", "_embd", "_inner", "_head", "_experts")
"""How the names of widths end."""


MOST_BUFFERS = 1 << 28
"""Bytes of buffers that are computed and not stored."""


def _check_sizes(checkpoint: Checkpoint, settings: Mapping[str, Any]) -> None:
    """Refuse numbers for which a config class would make lists without end, before one is made."""
    tensors = max(MOST_LAYERS, len(checkpoint.stored))
    for key, value in settings.items():
        if isinstance(value, dict):
            _check_sizes(checkpoint, value)
        elif isinstance(value, int):
            most = MOST_WIDTH if key.endswith(WIDTHS) else MOST_SIZE
            most = tensors if "layer" in key else MOST_LABELS if key == "num_labels" else most
            if abs(value) > most:
                said = f"config.json: {quoted(key)} is {shorten(str(value), 20)}, more than {most}"
                raise CheckpointError(f"{checkpoint.location}: {said}; fetch it again")


def row_of(checkpoint: Checkpoint, config: Any) -> Architecture:
    """The row of a config's model type."""
    row = architecture(config.model_type)
    if row is None:
        raise CheckpointError(f"{checkpoint.location}: no architecture row for model_type {config.model_type!r}")
    return row


def skeleton(
    checkpoint: Checkpoint, config: Any, attention: str | None, dtype: torch.dtype, device: torch.device
) -> Any:
    """The model on the meta device; buffers that no checkpoint stores (rotary frequencies, masks) are computed."""
    from transformers import AutoModelForCausalLM

    options = {} if attention is None else {"attn_implementation": attention}
    if dtype == torch.float64:
        # The default product over experts knows no float64.
        options["experts_implementation"] = "eager"
    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=False, **options)
    except Exception as error:
        raise CheckpointError(
            f"{checkpoint.location}: no {config.model_type} can be made of its config.json ({_reason(error)});"
            " fetch it again"
        ) from error
    model.eval()
    stored = set(model.state_dict())
    size = sum(one.nbytes for name, one in model.named_buffers() if name not in stored)
    if size > MOST_BUFFERS:
        raise CheckpointError(
            f"{checkpoint.location}: config.json asks for {size >> 20} MB of tables beside the weights; fetch it again"
        )
    for prefix, module in model.named_modules():
        own = [name for name in module._buffers if f"{prefix}.{name}".lstrip(".") not in stored]
        own = [name for name in own if module._buffers[name] is not None]
        for name in own:
            module._buffers[name] = torch.empty_like(module._buffers[name], device=device)
        if own:
            model._init_weights(module)
    return model


def load_tokenizer(root: Any) -> Any:
    """The tokenizer of a checkpoint's directory, or None where it holds none.

    Raises:
        CheckpointError: there is one that cannot be read, or a file of it that lies elsewhere.
    """
    from transformers import AutoTokenizer

    files = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json", "spiece.model", "vocab.txt")
    if root is None or not any(os.path.isfile(os.path.join(root, name)) for name in files):
        return None
    check_tokenizer_files(Path(root))
    check_growth(Path(root))
    with _offline(), _no_panic(f"{root}: its tokenizer cannot be read"):
        found: Any = AutoTokenizer.from_pretrained(str(root), trust_remote_code=False, local_files_only=True)
    if has_patterns(Path(root)):
        found._encode_plus = _limit(found._encode_plus, Budget(f"{root}: its tokenizer"))
    # One call at a time: each sets how the tokenizer cuts and pads, which it refuses while another thread is at it.
    lock = threading.RLock()
    for name in GUARDED:
        # Of the instance: its class is what transformers chose, and is asked for by others.
        setattr(found, name, _guard(getattr(found, name), lock, f"{root}: its tokenizer breaks down on a text"))
    return found


GUARDED = ("_encode_plus", "decode", "convert_ids_to_tokens")
"""What is asked of a tokenizer."""


def _limit(call: Callable[..., Any], budget: Budget) -> Callable[..., Any]:
    """A call with texts, within a budget of time."""

    @functools.wraps(call)
    def limited(*args: Any, **options: Any) -> Any:
        texts = [*args, options.get("text"), options.get("text_pair")]
        return budget.run(functools.partial(call, *args, **options), length_of(texts))

    return limited


def _guard(call: Callable[..., Any], lock: contextlib.AbstractContextManager[Any], what: str) -> Callable[..., Any]:
    """A call into a tokenizer, which is a program of somebody's tables: whatever it raises is one line."""

    @functools.wraps(call)
    def guarded(*args: Any, **options: Any) -> Any:
        with lock, _no_panic(what):
            return call(*args, **options)

    return guarded


@contextlib.contextmanager
def _no_panic(what: str) -> Iterator[None]:
    """Everything that is raised inside becomes one line; a panic of a library in Rust is no `Exception`."""
    try:
        yield
    except (KeyboardInterrupt, MemoryError, CheckpointError):
        raise
    except BaseException as error:
        raise CheckpointError(f"{what} ({_reason(error)}); fetch it again") from error


def _reason(error: BaseException) -> str:
    """A library's message, on one line and not too long."""
    words = " ".join(f"{type(error).__name__}: {error}".split())
    return words if len(words) <= MOST_WORDS else f"{words[:MOST_WORDS]}…"


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """A directory needs no network: whatever transformers would look up beside it, it does not."""
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = before
