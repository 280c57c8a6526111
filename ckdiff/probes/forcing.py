"""Given texts read by a model: log-probabilities of their tokens, and KL between two models on them.

    forced = force(live, prompts, Way(batch_size=32))   # one forward over each prompt and its answer
    token_logprobs(forced, prompts)                     # per prompt: log p of each of its answer's tokens
    divergences(base, unlearned, prompts)               # per prompt: KL(base || unlearned) at each of those positions

Kept of a model are what goes into its unembedding at the scored positions and the unembedding itself, which is all that
logits need: two models can be compared that do not fit into memory together. Logits are made in float32 (float64 in a
float64 model) a few positions at a time, and sums over the vocabulary in float64.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from ckdiff.probes.assembly import NotFiniteError
from ckdiff.probes.live.together import FORWARD
from ckdiff.probes.losses import Scorer
from ckdiff.probes.prompts import batches

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from torch import Tensor

    from ckdiff.probes.live.model import LiveModel
    from ckdiff.probes.live.unembedding import Unembedding
    from ckdiff.probes.prompts import Batch, Prompt

    Tick = Callable[[int], None]
    Watch = Callable[[int, Batch, Tensor], None]
    Wanted = Sequence[Collection[int] | None]

ROWS = {"cpu": 64, "cuda": 256}
"""Positions whose logits are there at one time, by kind of device."""
BLOCK = 8192
"""Tokens of the vocabulary whose part of the unembedding is cast at one time."""


@dataclass(frozen=True, slots=True)
class Way:
    """How prompts go through a model.

    Attributes:
        batch_size: how many together.
        stream: read each layer when it is needed and forget it again.
        room: bytes of hidden states that may wait for the next layer while one is there.
    """

    batch_size: int
    stream: bool = False
    room: int = 1 << 30


@dataclass(frozen=True, slots=True)
class Forced:
    """One model's hidden states and log-probabilities on prompts with their answers.

    Attributes:
        hidden: what goes into the unembedding at the scored positions of all prompts, in their order
            [position, d_model].
        head: the unembedding.
    """

    hidden: Tensor
    head: Unembedding


def force(live: LiveModel, prompts: Sequence[Prompt], way: Way, tick: Tick | None = None) -> Forced:
    """One forward over each prompt and its answer.

    Prompts of like length go together, padded on the right and without a mask, which is exact for causal models.

    Args:
        live: the model; all of it loaded, or, where it is streamed, what lies outside its layers.
        prompts: one or more, each with an answer.
        way: how they go through it.
        tick: called with the number of prompts that are done.

    Raises:
        NotFiniteError: the model computes NaN or infinity.
    """
    rows: dict[int, Tensor] = {}
    for numbers, part in _finals(live, prompts, way, tick):
        rows |= dict(zip(numbers, part.hidden.split([len(prompts[number].answer) for number in numbers]), strict=True))
    return Forced(torch.cat([rows[number] for number in range(len(prompts))]), part.head)


def forced_logprobs(live: LiveModel, prompts: Sequence[Prompt], way: Way, tick: Tick | None = None) -> list[Tensor]:
    """The same as `token_logprobs` of `force`, without keeping hidden states of more than a batch."""
    rows: dict[int, Tensor] = {}
    for numbers, part in _finals(live, prompts, way, tick):
        rows |= dict(zip(numbers, token_logprobs(part, [prompts[number] for number in numbers]), strict=True))
    return [rows[number] for number in range(len(prompts))]


def greedy_streamed(
    live: LiveModel, prompts: Sequence[Prompt], tokens: int, stops: frozenset[int], way: Way, tick: Tick | None = None
) -> list[list[int]]:
    """The answers of `generation.greedy`, of a model whose layers are read once for each new token of all answers.

    `tick` is called with the number of tokens that every answer has.
    """
    answers: list[list[int]] = [[] for _ in prompts]
    for done in range(tokens):
        going = [number for number, answer in enumerate(answers) if not (answer and answer[-1] in stops)]
        if not going:
            break
        # The position that is scored is the newest one; what it predicts is not known yet.
        so_far = [
            replace(prompts[number], ids=(*prompts[number].ids, *answers[number]), answer=(0,)) for number in going
        ]
        forced = force(live, so_far, way)
        best = torch.cat([logits.argmax(1) for _, logits in logits_of(forced)])
        for number, token in zip(going, best.tolist(), strict=True):
            answers[number].append(token)
        if tick is not None:
            tick(done + 1)
    return answers


def token_logprobs(forced: Forced, prompts: Sequence[Prompt]) -> list[Tensor]:
    """Log p of every token of each prompt's answer, in nats, float64 on the CPU."""
    return [read.log_p for read in read_forced(forced, prompts)]


def read_forced(forced: Forced, prompts: Sequence[Prompt], wanted: Wanted | None = None) -> list[Read]:
    """What one model makes of each prompt's answer, from what goes into its unembedding.

    Args:
        forced: what goes into it, prompt by prompt.
        prompts: with their answers.
        wanted: by prompt which tokens of its answer are looked at, None: all of them. Of the others log p is NaN and
            none comes first, unless all that are wanted do: then they are looked at as well.
    """
    sizes = [len(prompt.answer) for prompt in prompts]
    targets = torch.tensor([token for prompt in prompts for token in prompt.answer], device=forced.hidden.device)
    found = torch.full((len(targets),), torch.nan, dtype=torch.float64, device=targets.device)
    first = torch.zeros(len(targets), dtype=torch.bool, device=targets.device)
    reads = [*map(Read, found.split(sizes), first.split(sizes))]
    _look(forced, targets, found, first, _places(sizes, wanted))
    if wanted is not None:
        left = [read.log_p.isnan().nonzero()[:, 0].tolist() for read in reads]
        _look(forced, targets, found, first, _places(sizes, [
            rest if some is not None and bool(read.first[list(some)].all()) else ()
            for rest, some, read in zip(left, wanted, reads, strict=True)
        ]))  # fmt: skip
    return [*map(Read, found.cpu().split(sizes), first.cpu().split(sizes))]


def _places(sizes: Sequence[int], wanted: Wanted | None) -> Tensor:
    """Numbers of tokens among those of all answers."""
    starts = [sum(sizes[:number]) for number in range(len(sizes))]
    each = [range(size) for size in sizes] if wanted is None else wanted
    return torch.tensor([
        start + place
        for start, size, some in zip(starts, sizes, each, strict=True)
        for place in (range(size) if some is None else some)
    ], dtype=torch.long)  # fmt: skip


def _look(forced: Forced, targets: Tensor, found: Tensor, first: Tensor, places: Tensor) -> None:
    """Write log p of some tokens, and whether each comes first."""
    places = places.to(targets.device)
    for part, logits in logits_of(Forced(forced.hidden[places], forced.head)):
        some = places[part]
        own = logits.gather(1, targets[some, None])[:, 0]
        largest, best = logits.max(1)
        spread = torch.exp(logits - largest[:, None]).sum(1, dtype=torch.float64).log()
        found[some] = (own - largest).double() - spread
        first[some] = best == targets[some]


@dataclass(frozen=True, slots=True)
class Spread:
    """One answer beside what one model expects at each of its positions; float64 on the CPU.

    Attributes:
        log_p: of each token, in nats.
        mean: of log p over the model's own distribution there.
        deviation: its standard deviation.
    """

    log_p: Tensor
    mean: Tensor
    deviation: Tensor


def read_spread(live: LiveModel, prompts: Sequence[Prompt], way: Way, tick: Tick | None = None) -> list[Spread]:
    """Each prompt's answer, and how log p is spread over the vocabulary at each of its positions."""
    rows: dict[int, Spread] = {}
    for numbers, part in _finals(live, prompts, way, tick):
        answers = [prompts[number].answer for number in numbers]
        targets = torch.tensor([token for answer in answers for token in answer], device=part.hidden.device)
        found = torch.cat([_spread(logits, targets[some]) for some, logits in logits_of(part)]).cpu()
        each = found.split([len(answer) for answer in answers])
        rows |= {number: Spread(*one.T) for number, one in zip(numbers, each, strict=True)}
    return [rows[number] for number in range(len(prompts))]


def _spread(logits: Tensor, targets: Tensor) -> Tensor:
    """Log p of a token, the mean of log p and its deviation [position, 3]; what cannot come adds nothing."""
    log_p = logits.double().log_softmax(1)
    p = log_p.exp()
    known = torch.where(p > 0, log_p, 0.0)
    mean = (p * known).sum(1)
    deviation = (p * (known - mean[:, None]).square()).sum(1).sqrt()
    return torch.stack([log_p.gather(1, targets[:, None])[:, 0], mean, deviation], 1)


@dataclass(frozen=True, slots=True)
class Read:
    """One answer as one model reads it.

    Attributes:
        log_p: of each of its tokens, in nats, float64 on the CPU.
        first: whether each is the most likely one: where all are, the model gives this answer greedily.
    """

    log_p: Tensor
    first: Tensor


def read_apart(
    live: LiveModel, prompts: Sequence[Prompt], way: Way, tick: Tick | None = None, wanted: Wanted | None = None
) -> list[Read]:
    """Each prompt's answer as one model reads it, every text by itself; `behind.read_answers` is quicker."""
    rows: dict[int, Read] = {}
    for numbers, part in _finals(live, prompts, way, tick):
        some = None if wanted is None else [wanted[number] for number in numbers]
        rows |= dict(zip(numbers, read_forced(part, [prompts[number] for number in numbers], some), strict=True))
    return [rows[number] for number in range(len(prompts))]


def watch_layers(live: LiveModel, prompts: Sequence[Prompt], way: Way, watch: Watch) -> None:
    """Read prompts with their answers, and show each layer's outputs as they come: number, batch, states.

    Prompts of like length go together, so that batches number them in the order of their lengths; see `in_order`.

    Raises:
        NotFiniteError: the model computes NaN or infinity.
    """
    for batch, states in _through(live, in_order(prompts)[1], way, watch):
        check_finite(live, states.flatten(0, 1)[batch.scored])


def in_order(prompts: Sequence[Prompt]) -> tuple[list[int], list[Prompt]]:
    """Prompts by length, and the number of each: the order in which they go through a model."""
    order = sorted(range(len(prompts)), key=lambda number: prompts[number].length)
    return order, [prompts[number] for number in order]


def divergences(base: Forced, unlearned: Forced, prompts: Sequence[Prompt]) -> list[Tensor]:
    """KL(base || unlearned) over the vocabulary at every scored position of each prompt, in nats, float64 on the CPU.

    Exactly 0 where both models are the same, and small ones keep their digits: see `losses`.
    """
    found = []
    # At most d_model positions in a part: no Gram matrix is worth its making then.
    most = min(256, base.hidden.shape[1])
    for part in _slices(base.hidden, most):
        scorer = Scorer(base.hidden[part], {"base": base.head, "unlearned": unlearned.head}, runs=1, js=False)
        found.append(scorer.losses("unlearned", [unlearned.hidden[part]])[0].kl)
    return list(torch.cat(found).split([len(prompt.answer) for prompt in prompts]))


def _finals(
    live: LiveModel, prompts: Sequence[Prompt], way: Way, tick: Tick | None
) -> Iterator[tuple[list[int], Forced]]:
    """Batch by batch the numbers of its prompts, and what goes into the unembedding at their scored positions."""
    order, sorted_prompts = in_order(prompts)
    head: Unembedding | None = None
    for batch, states in _through(live, sorted_prompts, way):
        last = batch.first + len(batch.lengths)
        scored = states.flatten(0, 1)[batch.scored]
        check_finite(live, scored)
        head = live.unembedding(scored) if head is None else head
        yield order[batch.first : last], Forced(live.tail(scored), head)
        if tick is not None:
            tick(last)


def check_finite(live: LiveModel, states: Tensor) -> None:
    """Refuse states that are no numbers.

    Raises:
        NotFiniteError: see there.
    """
    if not torch.isfinite(states).all():
        exact = live.dtype in (torch.float32, torch.float64)
        raise NotFiniteError(
            f"{live.location}: its states are not finite in {str(live.dtype).rpartition('.')[2]}: nothing can be"
            f" measured; {'give mended weights' if exact else 'use --dtype float32'}"
        )


def _through(
    live: LiveModel, prompts: Sequence[Prompt], way: Way, watch: Watch | None = None
) -> Iterator[tuple[Batch, Tensor]]:
    """Outputs of the last layer [question, position, d_model], batch by batch."""
    # A processor takes its time for every pad; elsewhere it is the number of calls that counts.
    waste = FORWARD if live.device.type == "cpu" else math.inf
    found = batches(prompts, way.batch_size, live.device, live.regime, waste)
    for group in _groups(found, way, live):
        fronts = [live.front(batch.ids) for batch in group]
        states = [state for state, _ in fronts]
        for number in range(len(live.layers)):
            if way.stream:
                live.load_layer(number)
            states = [
                live.layer(number, state, calls[number]) for state, (_, calls) in zip(states, fronts, strict=True)
            ]
            if way.stream:
                live.unload_layer(number)
            if watch is not None:
                for batch, state in zip(group, states, strict=True):
                    watch(number, batch, state)
        yield from zip(group, states, strict=True)


def _groups(found: Sequence[Batch], way: Way, live: LiveModel) -> list[list[Batch]]:
    """Batches that go through a layer before the next layer is read; without streaming each is alone."""
    if not way.stream:
        return [[batch] for batch in found]
    each = live.model.get_input_embeddings().embedding_dim * live.dtype.itemsize
    groups: list[list[Batch]] = [[]]
    used = 0
    for batch in found:
        if groups[-1] and used + batch.ids.numel() * each > way.room:
            groups.append([])
            used = 0
        groups[-1].append(batch)
        used += batch.ids.numel() * each
    return groups


def logits_of(forced: Forced) -> Iterator[tuple[slice, Tensor]]:
    """Logits [position, d_vocab] of some positions at a time; the unembedding is cast a block at a time."""
    dtype = torch.promote_types(forced.hidden.dtype, torch.float32)
    head = forced.head
    for part in _slices(forced.hidden, ROWS.get(forced.hidden.device.type, 64)):
        hidden = forced.hidden[part].to(dtype)
        logits = torch.cat([hidden @ head.weight[some].to(dtype).T for some in _slices(head.weight, BLOCK)], 1)
        if head.bias is not None:
            logits += head.bias.to(dtype)
        logits *= head.scale
        yield part, logits if head.cap is None else head.cap * torch.tanh(logits / head.cap)


def _slices(rows: Tensor, most: int) -> Iterator[slice]:
    for start in range(0, len(rows), most):
        yield slice(start, start + most)
