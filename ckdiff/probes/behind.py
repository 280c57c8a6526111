"""Answers as a model reads them, a prompt once for all that stands behind it: `read_answers(live, prompts, way)`.

What a prompt left in the model's cache of keys and values is handed on to each of its answers. That is exact where the
cache holds nothing else of a text, and where the longest text is computed as the prompt alone is; everything else, and
what is streamed, is read text by text. Prompts of several lengths go together where a model can be told of the gaps
before the shorter ones: see `remembered`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ckdiff.probes.forcing import Forced, check_finite, read_apart, read_forced
from ckdiff.probes.live.patches import replace_forward
from ckdiff.probes.live.remembered import beyond, fork, in_line, is_whole, layers_of
from ckdiff.probes.live.together import FORWARD, read_alike

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor

    from ckdiff.probes.forcing import Read, Tick, Wanted, Way
    from ckdiff.probes.live.model import LiveModel
    from ckdiff.probes.live.unembedding import Unembedding
    from ckdiff.probes.prompts import Prompt

    Ids = tuple[int, ...]
    Family = dict[Ids, list[int]]


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
    """Prompts that are read at one time, each with the numbers of its texts, and the numbers of all other texts."""
    by_ids: Family = {}
    for number, prompt in enumerate(prompts):
        by_ids.setdefault(prompt.ids, []).append(number)
    families: list[Family] = []
    for ids in sorted(by_ids, key=len):
        numbers = by_ids[ids]
        longest = max(prompts[number].length for number in numbers)
        if way.stream or live.regime(len(ids)) != live.regime(longest):
            continue
        if families and len(families[-1]) < way.batch_size and _is_near(live, families[-1], ids):
            families[-1][ids] = numbers
        else:
            families.append({ids: numbers})
    shared = [family for family in families if sum(map(len, family.values())) > 1]
    together = {number for family in shared for numbers in family.values() for number in numbers}
    return shared, [number for number in range(len(prompts)) if number not in together]


def _is_near(live: LiveModel, family: Family, ids: Ids) -> bool:
    """Whether a prompt may be read with a family, and it costs less to pad them than to read it by itself."""
    last = len(next(reversed(family)))
    alike = live.regime(last) == live.regime(len(ids))
    return alike and (last == len(ids) or (live.numbered and len(family) * (len(ids) - last) <= FORWARD))


def _read_family(
    opened: _Opened, family: Family, prompts: Sequence[Prompt], most: int, wanted: Wanted | None
) -> dict[int, Read]:
    """By number each text of a family."""
    owner = {number: place for place, numbers in enumerate(family.values()) for number in numbers}
    found: dict[int, Read] = {}
    for part in _parts({number: len(prompts[number].answer) for number in owner}, most):
        some = [prompts[number] for number in part]
        states = opened.behind([owner[number] for number in part], [prompt.answer for prompt in some])
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
    """Prompts that were read.

    Attributes:
        live: the model.
        last: what goes into its unembedding behind each of them [prompt, d_model].
        cache: what it remembers of them, in line.
        gaps: how much shorter each is than the longest [prompt].
        head: its unembedding.
        length: of the longest.
    """

    live: LiveModel
    last: Tensor
    cache: Any
    gaps: Tensor
    head: Unembedding
    length: int

    def behind(self, owners: Sequence[int], answers: Sequence[Ids]) -> Tensor:
        """What goes into the unembedding where answers are predicted, answer by answer [position, d_model].

        Args:
            owners: behind which of the prompts each stands.
            answers: one or more tokens each.
        """
        index = torch.tensor(owners, device=self.last.device)
        states = self.last[index][:, None]
        width = max(map(len, answers)) - 1
        if width:
            rows = [[*answer[:-1], *[0] * (width + 1 - len(answer))] for answer in answers]
            ids, where = torch.tensor(rows, device=index.device), beyond(self.gaps[index], self.length, width)
            cache = fork(self.cache, index)
            more, _ = _run(
                self.live, lambda: self.live.forward(input_ids=ids, use_cache=True, past_key_values=cache, **where)
            )
            states = torch.cat([states, more], 1)
        return torch.cat([row[: len(answer)] for row, answer in zip(states, answers, strict=True)])


def _open(live: LiveModel, prompts: Sequence[Ids]) -> _Opened | None:
    """Read prompts, the shortest first; None where what the model remembers of them cannot be handed on."""
    outputs: list[Tensor] = []
    width = len(prompts[-1])
    lengths = torch.tensor([len(prompt) for prompt in prompts], device=live.device)
    ids = torch.tensor([[*prompt, *[0] * (width - len(prompt))] for prompt in prompts], device=live.device)
    hook = live.layers[-1].register_forward_hook(lambda module, args, result: outputs.append(result))
    try:
        states, cache = _run(live, lambda: read_alike(live, ids, len(prompts[0])))
    finally:
        hook.remove()
    if not (is_whole(cache, width) if len(prompts[0]) < width else layers_of(cache)):
        return None
    last = outputs[-1][0] if isinstance(outputs[-1], tuple) else outputs[-1]
    # What all begin with alike is not among them.
    ends = lengths - 1 - (width - states.shape[1])
    behind = torch.arange(len(prompts), device=live.device), ends
    check_finite(live, last[behind])
    head = live.unembedding(last[behind])
    return _Opened(live, states[behind], in_line(cache, lengths), width - lengths, head, width)


def _run(live: LiveModel, forward: Callable[[], Any]) -> tuple[Tensor, Any]:
    """The model's own forward: what goes into its unembedding at last [text, position, d_model], and the cache."""
    seen: list[Tensor] = []

    def note(hidden: Tensor) -> Tensor:
        seen.append(hidden)
        return hidden

    with replace_forward(live.model.get_submodule(live.row.sites.unembed), note):
        out = forward()
    return seen[-1], out.past_key_values
