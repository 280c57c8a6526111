"""What the jobs of one base have in common, where that saves work: digests of weight files, and the base's answers.

    found = answered(job, prompts, way, shared, make)   # what is kept under the key, or else what `make` gives, kept

A key is a digest of everything that determines the answers, to the last bit of the arithmetic: it does not matter who
made them, or whether anybody did. Whoever keeps them implements `Shared`.
"""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Protocol

import torch

from ckdiff.probes.forcing import greedy_streamed
from ckdiff.weights.hashing import joint_digest
from ckdiff.weights.reader import ADAPTER_CONFIG, read_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from ckdiff.probes.forcing import Way
    from ckdiff.probes.live.model import LiveModel
    from ckdiff.probes.preparation import Job
    from ckdiff.probes.prompts import Prompt
    from ckdiff.weights.checkpoint import Checkpoint


AROUND = ("config.json", "generation_config.json", ADAPTER_CONFIG)
"""Files beside the weights that say how a model computes; what the tokenizer says is in the prompts' ids."""


class Shared(Protocol):
    """What somebody keeps for several jobs."""

    def digest(self, path: Path) -> str | None:
        """sha256 of a weight file as it is now, in hexadecimal, where it has been hashed already."""

    def answers(self, key: str) -> list[list[int]] | None:
        """The answers that were kept under a key; what is damaged may be given, and is not used."""

    def keep(self, key: str, answers: list[list[int]]) -> None:
        """Keep answers for others; a place without room may drop them."""


def answered(
    job: Job, prompts: Sequence[Prompt], way: Way, shared: Shared | None, make: Callable[[], list[list[int]]]
) -> list[list[int]]:
    """The base's greedy answers to one set of questions: what is kept, or else what `make` gives, kept from then on."""
    key = None if shared is None else answers_key(job, prompts, way, shared)
    if shared is None or key is None:
        return make()
    found = shared.answers(key)
    if found is None or not _usable(job, prompts, found):
        found = make()
        shared.keep(key, found)
    return found


def generated(
    live: LiveModel, job: Job, prompts: Sequence[Prompt], way: Way, tick: Callable[[int], None] | None = None
) -> list[list[int]]:
    """A model's greedy answers; all of it must be loaded, or, where it is streamed, what lies outside its layers.

    `tick` is called with the number of questions that are done; where it is streamed, with that of the tokens.
    """
    tokens = job.settings.tokens
    if way.stream:
        return greedy_streamed(live, prompts, tokens, job.stops, way, tick)
    return live.greedy([prompt.ids for prompt in prompts], tokens, job.stops, way.batch_size, tick)


def answers_key(job: Job, prompts: Sequence[Prompt], way: Way, shared: Shared) -> str | None:
    """sha256 over everything that determines the base's greedy answers to one set of questions, in hexadecimal.

    None where the digest of a weight file is not known: nothing is shared then.
    """
    weights = weights_digest(job.pair.base.checkpoint, shared)
    if weights is None:
        return None
    tree = {
        "weights": weights,
        "around": _around(job.pair.base.checkpoint),
        "prompts": [prompt.ids for prompt in prompts],
        "tokens": job.settings.tokens,
        "stops": sorted(job.stops),
        "dtype": job.settings.dtype,
        "device": _processor(job.device),
        "attention": str(getattr(job.pair.base.config, "_attn_implementation", None)),
        "batch_size": way.batch_size,
        "stream": way.stream,
        "threads": torch.get_num_threads(),
        "versions": library_versions(),
    }
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


def weights_digest(checkpoint: Checkpoint, shared: Shared) -> str | None:
    """One digest of a checkpoint's weight files, or None where one of them has not been hashed."""
    digests = [(shard.name, shared.digest(shard.path)) for shard in checkpoint.shards]
    known = [(name, digest) for name, digest in digests if digest is not None]
    return joint_digest(known) if len(known) == len(digests) else None


def library_versions() -> list[str]:
    """Versions of what computes: another one may change the last bits."""
    return [version(name) for name in ("ckdiff", "torch", "transformers")]


def _around(checkpoint: Checkpoint) -> list[Any]:
    """What the files beside the weights say; an adapter has its own beside its own weights."""
    folders = {shard.path.parent for shard in checkpoint.shards}
    folders |= set() if checkpoint.root is None else {checkpoint.root}
    found = [[name, read_json(folder, name)] for folder in folders for name in AROUND]
    # Without the folders' names, and in an order that does not depend on them.
    return sorted((one for one in found if one[1]), key=lambda one: json.dumps(one, sort_keys=True))


def _processor(device: torch.device) -> str:
    """What computes: kernels differ between two kinds of GPU, and between the vector instructions of CPUs."""
    if device.type == "cuda":
        return f"cuda {torch.cuda.get_device_name(device)}"
    return f"{device.type} {torch.backends.cpu.get_cpu_capability()}"


def _usable(job: Job, prompts: Sequence[Prompt], found: list[list[int]]) -> bool:
    """Whether these can be the answers: so many, ids that the model has, each as long as it must be."""
    live, tokens, stops = job.pair.base, job.settings.tokens, job.stops
    head = live.model.get_submodule(live.row.sites.unembed).weight
    rows = min(int(head.shape[0]), live.model.get_input_embeddings().num_embeddings)

    def whole(answer: list[int]) -> bool:
        if not 0 < len(answer) <= tokens or not all(type(token) is int and 0 <= token < rows for token in answer):
            return False
        ended = len(answer) == tokens or answer[-1] in stops
        return ended and not stops.intersection(answer[:-1])

    return len(found) == len(prompts) and all(map(whole, found))
