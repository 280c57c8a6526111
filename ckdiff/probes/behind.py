"""Answers as a model reads them, a prompt once for all that stands behind it: `read_answers(live, prompts, way)`.

What a prompt left in the model's cache of keys and values is handed on to each of its answers. That is exact where the
cache holds nothing else of a text, and where the longest text is computed as the prompt alone is; everything else, and
what is streamed, is read text by text. Prompts of several lengths go together where a model can be told of the gaps
before the shorter ones: see `remembered`. What answers begin with alike is read once, where that was seen to be exact:
see `branches`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from ckdiff.probes.forcing import Forced, check_finite, force, read_apart, read_forced
from ckdiff.probes.live.branches import grow, told
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
    Row = tuple[int, list[int]]

BRANCHES = 128
"""Tokens of answers in one row, at most: each looks past all others."""
CLOSE = 1e-4
"""Two ways to read a text differ by rounding at most: by this share of the largest number in its states."""


ALIKE = 8
"""Texts that begin with so many tokens alike are read behind them: to share fewer costs more than it saves."""


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
    head: Unembedding | None = None
    for family in families:
        opened = _open(live, list(family), head)
        if opened is None:
            alone += [number for numbers in family.values() for number in numbers]
        else:
            head = opened.head
            found |= _read_family(opened, family, prompts, way.batch_size, wanted)
        tell(len(found))
    if alone:
        texts, some = [prompts[number] for number in alone], None if wanted is None else [wanted[n] for n in alone]
        apart = read_apart(live, texts, way, lambda done: tell(len(found) + done), some)
        found |= dict(zip(alone, apart, strict=True))
    return [found[number] for number in range(len(prompts))]


def force_alike(live: LiveModel, prompts: Sequence[Prompt], way: Way) -> Forced:
    """As `force`, but what several prompts begin with alike is read once; the same to the last digits.

    All parameters must be loaded.

    Args:
        live: the model.
        prompts: one or more, each with an answer.
        way: how they go through it.

    Raises:
        NotFiniteError: the model computes NaN or infinity.
    """
    by_beginning: dict[Ids, list[int]] = {}
    for number, prompt in enumerate(prompts):
        by_beginning.setdefault(prompt.ids[:ALIKE], []).append(number)
    rows: dict[int, Tensor] = {}
    alone, heads = [], []
    for beginning, numbers in by_beginning.items():
        some = {number: prompts[number] for number in numbers}
        head = _read_beginning(live, some, way, rows) if len(beginning) == ALIKE and len(some) > 1 else None
        if head is None:
            alone += numbers
        else:
            heads.append(head)
    if alone:
        forced = force(live, [prompts[number] for number in alone], way)
        heads.append(forced.head)
        each = forced.hidden.split([len(prompts[number].answer) for number in alone])
        rows |= dict(zip(alone, each, strict=True))
    return Forced(torch.cat([rows[number] for number in range(len(prompts))]), heads[0])


def _read_beginning(
    live: LiveModel, prompts: Mapping[int, Prompt], way: Way, rows: dict[int, Tensor]
) -> Unembedding | None:
    """Put what goes into the unembedding at the answers of prompts that begin alike into `rows`; None: it cannot be."""
    length = _common([prompt.ids for prompt in prompts.values()])
    if live.regime(length) != live.regime(max(prompt.length for prompt in prompts.values())):
        return None
    opened = _open(live, [next(iter(prompts.values())).ids[:length]])
    if opened is None:
        return None
    numbers = list(prompts)
    rest = [replace(one, ids=one.ids[:length], answer=(*one.ids, *one.answer)[length:]) for one in prompts.values()]
    for part in _parts([(0, [place]) for place in range(len(rest))], rest, way.batch_size):
        places = [place for _, (place,) in part]
        states = opened.behind([0] * len(part), [[rest[place].answer] for place in places])
        check_finite(live, states)
        for place, found in zip(places, states.split([len(rest[place].answer) for place in places]), strict=True):
            rows[numbers[place]] = found[-len(prompts[numbers[place]].answer) :]
    return opened.head


def _common(texts: Sequence[Ids]) -> int:
    """With how many tokens all of some texts begin."""
    shortest = min(map(len, texts))
    return next((place for place in range(shortest) if len({text[place] for text in texts}) > 1), shortest)


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
    groups = [sorted(numbers, key=lambda number: prompts[number].answer) for numbers in family.values()]
    rows = [(place, row) for place, numbers in enumerate(groups) for row in _rows(numbers, prompts, most)]
    saved = sum(sum(len(prompts[number].answer) - 1 for number in row) - _size(row, prompts) for _, row in rows)
    if not opened.branches or saved <= FORWARD:
        rows = [(place, [number]) for place, row in rows for number in row]
    found: dict[int, Read] = {}
    for part in _parts(rows, prompts, most):
        answers = [[prompts[number].answer for number in row] for _, row in part]
        owners = [place for place, _ in part]
        states = opened.behind(owners, answers)
        if not opened.are_apart(owners, answers, states):
            return _read_family(opened, family, prompts, most, wanted)
        check_finite(opened.live, states)
        numbers = [number for _, row in part for number in row]
        some, looked = [prompts[n] for n in numbers], None if wanted is None else [wanted[n] for n in numbers]
        found |= dict(zip(numbers, read_forced(Forced(states, opened.head), some, looked), strict=True))
    return found


def _rows(numbers: Sequence[int], prompts: Sequence[Prompt], most: int) -> Iterator[list[int]]:
    """Texts behind one prompt that are branches of one row; those that begin alike lie beside each other."""
    row: list[int] = []
    for number in numbers:
        if row and (len(row) == most or _size([*row, number], prompts) > BRANCHES):
            yield row
            row = []
        row.append(number)
    yield row


def _size(row: Sequence[int], prompts: Sequence[Prompt]) -> int:
    """How many tokens the answers of a row have together, what begins alike counted once."""
    return len(grow(prompts[number].answer for number in row))


def _parts(rows: Sequence[Row], prompts: Sequence[Prompt], most: int) -> Iterator[list[Row]]:
    """Rows of like length that go together: a part more costs a forward, and rows of several lengths cost pads."""
    part: list[Row] = []
    texts = longest = 0
    for size, place, row in sorted((_size(row, prompts), place, row) for place, row in rows):
        if part and (texts + len(row) > most or len(part) * (size - longest) > FORWARD):
            yield part
            part, texts = [], 0
        part.append((place, row))
        texts, longest = texts + len(row), size
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

    @property
    def branches(self) -> bool:
        """Whether answers may go together as branches of a row, as far as can be told before it is tried."""
        # What a window forgets hangs on places in the row; and elsewhere than on a processor positions cost little.
        plain = all(type(layer).__name__ == "DynamicLayer" for layer in layers_of(self.cache))
        exact = self.live.dtype in (torch.float32, torch.float64) and self.live.device.type == "cpu"
        # ALiBi makes places of the mask.
        told = self.live.numbered and not getattr(self.live.config, "alibi", False)
        return plain and exact and told and self.live.branches is not None

    def behind(self, owners: Sequence[int], rows: Sequence[Sequence[Ids]]) -> Tensor:
        """What goes into the unembedding where answers are predicted, answer by answer [position, d_model].

        Args:
            owners: behind which of the prompts each row stands.
            rows: one or more answers, of one or more tokens each; several are branches of their row.
        """
        index = torch.tensor(owners, device=self.last.device)
        trees = [grow(row) for row in rows]
        more = self.last.new_zeros(len(rows), 0, self.last.shape[1])
        if any(trees):
            cache, inputs = fork(self.cache, index), self._inputs(self.gaps[index], trees, max(map(len, rows)) > 1)
            more, _ = _run(self.live, lambda: self.live.forward(use_cache=True, past_key_values=cache, **inputs))
        return torch.cat([
            torch.cat([self.last[owner, None], states[[tree[answer[:end]] for end in range(1, len(answer))]]])
            for owner, row, tree, states in zip(owners, rows, trees, more, strict=True)
            for answer in row
        ])  # fmt: skip

    def _inputs(self, gaps: Tensor, trees: Sequence[dict[Ids, int]], branched: bool) -> dict[str, Tensor]:
        if branched:
            return told(trees, gaps, self.length, self.live.dtype)
        width = max(map(len, trees))
        ids = [[*(begun[-1] for begun in tree), *[0] * (width - len(tree))] for tree in trees]
        return {"input_ids": torch.tensor(ids, device=gaps.device), **beyond(gaps, self.length, width)}

    def are_apart(self, owners: Sequence[int], rows: Sequence[Sequence[Ids]], states: Tensor) -> bool:
        """Whether no branch saw another: tried by the longest row, where none was as long before."""
        lengths = self.length - self.gaps
        reach = {n: int(lengths[owners[n]]) + len(grow(row)) for n, row in enumerate(rows) if len(row) > 1}
        known, longest = self.live.branches, max(reach, key=lambda number: reach[number], default=-1)
        if known is None or longest < 0 or reach[longest] <= known:
            return True
        last = rows[longest][-1:]
        alone = self.behind([owners[longest]], [last])
        whole = states.split([sum(map(len, row)) for row in rows])[longest][-len(alone) :]
        close = torch.allclose(whole, alone, rtol=0.0, atol=CLOSE * float(alone.abs().max()))
        self.live.branches = reach[longest] if close else None
        return close


def _open(live: LiveModel, prompts: Sequence[Ids], head: Unembedding | None = None) -> _Opened | None:
    """Read prompts, the shortest first; None where what the model remembers of them cannot be handed on.

    Where its unembedding is not known yet, they show what it is.
    """
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
    head = live.unembedding(last[behind]) if head is None else head
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
