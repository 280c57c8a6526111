"""The base's greedy answers, made once where a cache keeps them for other jobs on the same base.

    answers = recall_or_make(job, prompts, way, cache, make)   # what the cache has, or what `make` gives, kept

They are kept under a digest of everything that determines them, to the last bit of the arithmetic: it does not matter
who made them, or whether anybody did.
"""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import torch

from ckdiff.probes.forcing import greedy_streamed
from ckdiff.probes.live.generation import greedy
from ckdiff.weights.hashing import joint_digest
from ckdiff.weights.reader import ADAPTER_CONFIG, read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ckdiff.cache import Cache
    from ckdiff.probes.forcing import Way
    from ckdiff.probes.live.model import LiveModel
    from ckdiff.probes.preparation import Job
    from ckdiff.probes.prompts import Prompt
    from ckdiff.report.schema.report import Side
    from ckdiff.weights.checkpoint import Checkpoint


AROUND = ("config.json", "generation_config.json", ADAPTER_CONFIG)
"""Files beside the weights that say how a model computes; what the tokenizer says is in the prompts' ids."""


def recall_or_make(
    job: Job,
    prompts: Sequence[Prompt],
    way: Way,
    cache: Cache | None,
    make: Callable[[], list[list[int]]],
    side: Side = "base",
) -> list[list[int]]:
    """A model's greedy answers to some questions: those that were kept, or what `make` gives, kept from then on.

    Without a cache, or where it does not know the digest of a weight file, nothing is kept.
    """
    weights = None if cache is None else weights_digest(job.pair.side(side).checkpoint, cache)
    if cache is None or weights is None:
        return make()
    key = answers_key(job, prompts, way, weights, side)
    answers = cache.answers(key)
    if answers is None or not _can_be(job, prompts, answers, side):
        answers = make()
        cache.keep(key, answers)
    return answers


def generate_answers(
    live: LiveModel, job: Job, prompts: Sequence[Prompt], way: Way, tick: Callable[[int], None] | None = None
) -> list[list[int]]:
    """A model's greedy answers; all of it must be loaded, or, where it is streamed, what lies outside its layers.

    `tick` is called with the number of questions that are done; where it is streamed, with that of the tokens.
    """
    tokens = job.settings.tokens
    if way.stream:
        return greedy_streamed(live, prompts, tokens, job.stops, way, tick)
    return greedy(live, [prompt.ids for prompt in prompts], tokens, job.stops, way.batch_size, tick)


def answers_key(job: Job, prompts: Sequence[Prompt], way: Way, weights: str, side: Side = "base") -> str:
    """sha256 over everything that determines a model's greedy answers to some questions, in hexadecimal."""
    live = job.pair.side(side)
    tree = {
        "weights": weights,
        "around": _around(live.checkpoint),
        "prompts": [prompt.ids for prompt in prompts],
        "tokens": job.settings.tokens,
        "stops": sorted(job.stops),
        "dtype": job.settings.dtype,
        "device": _processor(job.device),
        "attention": str(getattr(live.config, "_attn_implementation", None)),
        "batch_size": way.batch_size,
        "stream": way.stream,
        "threads": torch.get_num_threads(),
        "versions": library_versions(),
    }
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def weights_digest(checkpoint: Checkpoint, cache: Cache) -> str | None:
    """One digest of a checkpoint's weight files, or None where one of them has not been hashed."""
    digests = [(shard.name, cache.digest(shard.path)) for shard in checkpoint.shards]
    known = [(name, digest) for name, digest in digests if digest is not None]
    return joint_digest(known) if len(known) == len(digests) else None


def library_versions() -> list[str]:
    """Versions of what computes: another one may change the last bits."""
    return [version(name) for name in ("ckdiff", "torch", "transformers")]


def _around(checkpoint: Checkpoint) -> list[Any]:
    """The files beside the weights, as a record; an adapter has its own beside its own weights."""
    folders = {shard.path.parent for shard in checkpoint.shards}
    folders |= set() if checkpoint.root is None else {checkpoint.root}
    found = [[name, read_json(folder, name)] for folder in folders for name in AROUND]
    # Without the folders' names, and in an order that does not depend on them.
    return sorted((one for one in found if one[1]), key=lambda one: json.dumps(one, sort_keys=True))


def _processor(device: torch.device) -> str:
    """The kind of processor: kernels differ between two kinds of GPU, and between the vector instructions of CPUs."""
    if device.type == "cuda":
        return f"cuda {torch.cuda.get_device_name(device)}"
    return f"{device.type} {torch.backends.cpu.get_cpu_capability()}"


def _can_be(job: Job, prompts: Sequence[Prompt], answers: list[list[int]], side: Side) -> bool:
    """Whether these can be the answers: so many, ids that the model has, each as long as it must be."""
    live, tokens, stops = job.pair.side(side), job.settings.tokens, job.stops
    head = live.model.get_submodule(live.row.sites.unembed).weight
    rows = min(int(head.shape[0]), live.model.get_input_embeddings().num_embeddings)

    def whole(answer: list[int]) -> bool:
        if not 0 < len(answer) <= tokens or not all(type(token) is int and 0 <= token < rows for token in answer):
            return False
        ended = len(answer) == tokens or answer[-1] in stops
        return ended and not stops.intersection(answer[:-1])

    return len(answers) == len(prompts) and all(map(whole, answers))
