"""Answers as a model reads them, a prompt once for all that stands behind it: `read_answers(live, prompts, way)`.

What a prompt left in the model's cache of keys and values is handed on to each of its answers. That is exact where the
cache holds nothing else of a text, and where the longest text is computed as the prompt alone is; everything else, and
what is streamed, is read text by text. Prompts of nearly one length go together: they are read as far as the shortest
one goes, and their last tokens with each answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ckdiff.probes.forcing import Forced, check_finite, read_apart, read_forced
from ckdiff.probes.live.patches import replace_forward
from ckdiff.probes.live.together import FORWARD, fork, layers_of, read_alike

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

    from ckdiff.probes.forcing import Read, Tick, Wanted, Way
    from ckdiff.probes.live.model import LiveModel
    from ckdiff.probes.live.unembedding import Unembedding
    from ckdiff.probes.prompts import Prompt

    Ids = tuple[int, ...]
    Family = dict[Ids, list[int]]

APART = 1
"""So many forwards more it costs, about, to read prompts of another length by themselves."""


def read_answers(
    live: LiveModel, prompts: Sequence[Prompt], way: Way, tick: Tick | None = None, wanted: Wanted | None = None
) -> list[Read]:
    """Each prompt's answer as one model reads it.

    Args:
        live: the model; all of it loaded, or, where it is streamed, what lies outside its layers.
        prompts: each with an answer; those with the same ids are read once.
        way: how they go through it.
        tick: called with the number of prompts that are done.
        wanted: which tokens of each answer are looked at: see `read_forced`.

    Raises:
        NotFiniteError: the model computes NaN or infinity.
    """
    tell = tick or (lambda done: None)
    families, alone = _families(live, prompts, way)
    found: dict[int, Read] = {}
    for family in families:
        opened = _open(live, list(family))
        if opened is None:
            alone += [number for numbers in family.values() for number in numbers]
        else:
            found |= _read_family(opened, family, prompts, way.batch_size, wanted)
        tell(len(found))
    if alone:
        texts, some = [prompts[number] for number in alone], None if wanted is None else [wanted[n] for n in alone]
        apart = read_apart(live, texts, way, lambda done: tell(len(found) + done), some)
        found |= dict(zip(alone, apart, strict=True))
    return [found[number] for number in range(len(prompts))]


def _families(live: LiveModel, prompts: Sequence[Prompt], way: Way) -> tuple[list[Family], list[int]]:
    """Prompts that can be read once, each with the numbers of its texts, and the numbers of all other texts."""
    by_ids: Family = {}
    for number, prompt in enumerate(prompts):
        by_ids.setdefault(prompt.ids, []).append(number)
    families: list[Family] = []
    alone: list[int] = []
    for ids in sorted(by_ids, key=len):
        numbers = by_ids[ids]
        lengths = {len(ids), *(prompts[number].length for number in numbers)}
        if way.stream or len(numbers) == 1 or len({live.regime(length) for length in lengths}) > 1:
            alone += numbers
        elif families and len(families[-1]) < way.batch_size and _is_near(live, families[-1], ids, len(numbers)):
            families[-1][ids] = numbers
        else:
            families.append({ids: numbers})
    return families, alone


def _is_near(live: LiveModel, family: Family, ids: Ids, texts: int) -> bool:
    """Whether it is worth it to read what a prompt has more than the shortest of a family with each of its texts."""
    short = len(next(iter(family)))
    return (len(ids) - short) * texts <= APART * FORWARD and live.regime(short) == live.regime(len(ids))


def _read_family(
    opened: _Opened, family: Family, prompts: Sequence[Prompt], most: int, wanted: Wanted | None
) -> dict[int, Read]:
    """By number each text of a family."""
    owner = {number: place for place, numbers in enumerate(family.values()) for number in numbers}
    found: dict[int, Read] = {}
    for part in _parts({number: prompts[number].length for number in owner}, most):
        some = [prompts[number] for number in part]
        states = opened.behind([owner[number] for number in part], some)
        check_finite(opened.live, states)
        looked = None if wanted is None else [wanted[number] for number in part]
        found |= dict(zip(part, read_forced(Forced(states, opened.head), some, looked), strict=True))
    return found


def _parts(lengths: Mapping[int, int], most: int) -> Iterator[list[int]]:
    """Texts of like length that go together: a part more costs a forward, and texts of several lengths cost pads."""
    part: list[int] = []
    for number in sorted(lengths, key=lambda number: lengths[number]):
        wider = lengths[number] - lengths[part[-1]] if part else 0
        if part and (len(part) == most or len(part) * wider > FORWARD):
            yield part
            part = []
        part.append(number)
    yield part


@dataclass(frozen=True, slots=True)
class _Opened:
    """Prompts that were read as far as the shortest of them goes.

    Attributes:
        live: the model.
        last: what goes into its unembedding behind each of them [prompt, d_model].
        cache: what it remembers of them.
        head: its unembedding.
        length: how far they were read.
    """

    live: LiveModel
    last: Tensor
    cache: Any
    head: Unembedding
    length: int

    def behind(self, owners: Sequence[int], prompts: Sequence[Prompt]) -> Tensor:
        """What goes into the unembedding where answers are predicted, answer by answer [position, d_model].

        Args:
            owners: which of the prompts that were read each of these is.
            prompts: with their answers.
        """
        index = torch.tensor(owners, device=self.last.device)
        states = self.last[index][:, None]
        rest = [(*prompt.ids, *prompt.answer[:-1])[self.length :] for prompt in prompts]
        width = max(map(len, rest))
        if width:
            ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rest], device=index.device)
            more, _ = _run(
                self.live,
                lambda: self.live.forward(input_ids=ids, use_cache=True, past_key_values=fork(self.cache, index)),
            )
            states = torch.cat([states, more], 1)
        first = self.length - 1
        places = [slice(prompt.scored.start - first, prompt.scored.stop - first) for prompt in prompts]
        return torch.cat([row[place] for row, place in zip(states, places, strict=True)])


def _open(live: LiveModel, prompts: Sequence[Ids]) -> _Opened | None:
    """Read prompts as far as the shortest goes; None where the model remembers more of them than keys and values."""
    outputs: list[Tensor] = []
    length = min(map(len, prompts))
    ids = torch.tensor([prompt[:length] for prompt in prompts], device=live.device)
    hook = live.layers[-1].register_forward_hook(lambda module, args, result: outputs.append(result))
    try:
        states, cache = _run(live, lambda: read_alike(live, ids))
    finally:
        hook.remove()
    if not layers_of(cache):
        return None
    last = outputs[-1][0] if isinstance(outputs[-1], tuple) else outputs[-1]
    check_finite(live, last)
    return _Opened(live, states[:, -1], cache, live.unembedding(last.flatten(0, 1)), length)


def _run(live: LiveModel, forward: Callable[[], Any]) -> tuple[Tensor, Any]:
    """The model's own forward: what goes into its unembedding at last [text, position, d_model], and the cache."""
    seen: list[Tensor] = []

    def note(hidden: Tensor) -> Tensor:
        seen.append(hidden)
        return hidden

    with replace_forward(live.model.get_submodule(live.row.sites.unembed), note):
        out = forward()
    return seen[-1], out.past_key_values
