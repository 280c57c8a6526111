"""Texts that grow together: `greedy_together(live, prompts, tokens, stops, tell)`, prompts in order of their lengths.

A step of few texts costs about as much as one of many, since every weight is read for it. So prompts of several lengths
go together without a pad between them: the shorter ones are gone on with until they are as long as the next, which join
them. Prompts of nearly one length are read at one time, with pads behind them, which nothing before a pad sees and no
cache keeps. Texts that are done leave, and those that are alike so far are one: samples of one question part where they
first differ, and what all that are read together begin with is read once. Of a cache that holds more than keys and
values each length goes by itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

from ckdiff.probes.live.remembered import cut, fork, is_whole, joined, layers_of

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping, Sequence

    from torch import Tensor

FORWARD = 24
"""So many positions cost about as much as a forward by itself, for which every weight is read."""
TOKENS = 256
"""Of the vocabulary, whose shares of probability are added up before a token is drawn among them."""


class Speaker(Protocol):
    """Whatever makes logits as a live model does."""

    @property
    def device(self) -> torch.device:
        """Where ids go."""

    def forward(self, ends: Tensor | None = None, **inputs: Any) -> Any:
        """Logits [prompt, position, d_vocab], and what may be given back as `past_key_values`.

        Where `ends` names a position of each prompt [prompt], there are logits of that one alone.
        """

    def regime(self, length: int) -> Hashable:
        """Equal for two lengths of which the shorter one's cache serves the longer one."""


@dataclass(frozen=True, slots=True)
class Draws:
    """What decides where tokens are drawn instead of the most likely ones taken; who goes together does not.

    Attributes:
        numbers: uniform ones from [0, 1), one a token [prompt, token].
        heat: the temperature of each prompt [prompt].
    """

    numbers: Tensor
    heat: Tensor

    def pick(self, logits: Tensor, rows: Sequence[int], places: Sequence[int]) -> list[int]:
        """The tokens of some prompts: each is the one within whose share of all probability its number falls.

        Args:
            logits: [prompt, d_vocab].
            rows: which prompts these are.
            places: which of its tokens each is at.
        """
        exact = logits.to(torch.promote_types(logits.dtype, torch.float32))
        heat = self.heat[list(rows)].to(exact.device, exact.dtype)
        shares = torch.softmax(exact / heat[:, None], -1)
        numbers = self.numbers[list(rows), list(places)].to(shares.device)[:, None]
        # First the block, then the token within it: running sums over all of a vocabulary take longer than the rest.
        blocks = torch.nn.functional.pad(shares, (0, -shares.shape[1] % TOKENS)).unflatten(1, (-1, TOKENS))
        ends = blocks.sum(-1).cumsum(-1, dtype=torch.float64)
        wanted = numbers * ends[:, -1:]
        block = falls(ends, wanted)
        inside = torch.take_along_dim(blocks, block[:, :, None], 1)[:, 0].cumsum(-1, dtype=torch.float64)
        token = falls(inside, wanted - (torch.take_along_dim(ends, block, 1) - inside[:, -1:]))
        found: list[int] = (block * TOKENS + token)[:, 0].clamp_(max=shares.shape[1] - 1).tolist()
        return found


def falls(ends: Tensor, numbers: Tensor) -> Tensor:
    """Within which share that is not nought each number falls [row, 1]; `ends` are running sums [row, share]."""
    # Sums are rounded: what lies beyond all shares falls into the last one.
    last = torch.searchsorted(ends, ends[:, -1:].contiguous())
    return torch.minimum(torch.searchsorted(ends, numbers.clamp(min=0), right=True), last)


def draws(generator: torch.Generator, prompts: int, tokens: int, heat: Sequence[float] = (1.0,)) -> Draws:
    """The draws of so many prompts, by a generator on the CPU; their temperatures take turns."""
    numbers = torch.rand(prompts, tokens, generator=generator, dtype=torch.float64)
    return Draws(numbers, torch.tensor(heat, dtype=torch.float64).repeat(-(-prompts // len(heat)))[:prompts])


@dataclass(slots=True)
class _Texts:
    """Texts of one length.

    Attributes:
        live: what makes them longer.
        rows: the prompts that each belongs to: several while what was asked and said is the same.
        ids: prompts and what was said so far [text, position].
        logits: behind them [text, d_vocab].
        cache: the model's.
    """

    live: Speaker
    rows: list[list[int]]
    ids: Tensor
    logits: Tensor
    cache: Any

    @property
    def length(self) -> int:
        """How long each of them is."""
        return self.ids.shape[1]

    def join(self, other: _Texts) -> bool:
        """Take other texts of the same length in, where both caches can be put together."""
        cache = joined(self.cache, other.cache)
        if cache is None:
            return False
        self.cache = cache
        self.rows = self.rows + other.rows
        self.ids, self.logits = torch.cat([self.ids, other.ids]), torch.cat([self.logits, other.logits])
        return True

    def go_on(self, parts: Mapping[tuple[int, int], list[int]]) -> None:
        """One token more.

        Args:
            parts: by number of a text and token the prompts that go on so; where the cache cannot be parted, one of
                each text.
        """
        owners = [owner for owner, _ in parts]
        tokens = torch.tensor([token for _, token in parts], device=self.ids.device)
        if owners != list(range(len(self.rows))):
            index = torch.tensor(owners, device=self.ids.device)
            self.ids, self.cache = self.ids[index], fork(self.cache, index)
        self.rows = list(parts.values())
        self.ids = torch.cat([self.ids, tokens[:, None]], 1)
        if self.live.regime(self.length) == self.live.regime(self.length - 1):
            out = self.live.forward(input_ids=self.ids[:, -1:], use_cache=True, past_key_values=self.cache)
        else:
            # What is cached was turned by the frequencies of a shorter text.
            out = self.live.forward(input_ids=self.ids, use_cache=True)
        self.logits, self.cache = out.logits[:, -1], out.past_key_values


def greedy_together(
    live: Speaker,
    prompts: Sequence[Sequence[int]],
    tokens: int,
    stops: frozenset[int],
    tell: Callable[[int], None],
    drawn: Draws | None = None,
) -> list[list[int]]:
    """The most likely tokens behind each prompt, at most so many; a stop token is the last one.

    Args:
        live: what makes logits.
        prompts: in the order of their lengths; those that are the same are read once.
        tokens: the most of an answer.
        stops: ids that end one.
        tell: called with the number of prompts that are done.
        drawn: draw tokens instead.
    """
    answers: list[list[int]] = [[] for _ in prompts]
    waiting = _Waiting(live, prompts)
    going: list[_Texts] = []
    while going or waiting.length:
        length = going[0].length if going else waiting.length
        if length == waiting.length:
            begun = waiting.begin()
            if not (going and going[0].join(begun)):
                # What cannot join is ended first.
                going = [begun, *going]
        if not _say(going[0], answers, tokens, stops, drawn):
            going = going[1:]
            tell(sum(_is_done(answer, tokens, stops) for answer in answers))
    return answers


class _Waiting:
    """Prompts that nothing was said to yet, in the order of their lengths."""

    def __init__(self, live: Speaker, prompts: Sequence[Sequence[int]]) -> None:
        self._live = live
        self._left: dict[int, dict[tuple[int, ...], list[int]]] = {}
        for row, prompt in enumerate(prompts):
            self._left.setdefault(len(prompt), {}).setdefault(tuple(prompt), []).append(row)
        self._read: dict[int, _Texts] = {}
        self._padded = True

    @property
    def length(self) -> int:
        """Of the shortest ones; 0 where none is left."""
        return min((*self._read, *self._left), default=0)

    def begin(self) -> _Texts:
        """The shortest ones, read."""
        length = self.length
        if length not in self._read:
            lengths = self._together() if self._padded else [length]
            found = _begin(self._live, [self._left[one] for one in lengths])
            self._padded = self._padded and len(found) == len(lengths)
            for texts in found:
                self._read[texts.length] = texts
                del self._left[texts.length]
        return self._read.pop(length)

    def _together(self) -> list[int]:
        """The lengths of which it costs less to pad the shorter prompts than to read them by themselves."""
        lengths: list[int] = []
        size = 0
        for length in self._left:
            alike = not lengths or self._live.regime(length) == self._live.regime(lengths[0])
            if lengths and not (alike and size * (length - lengths[-1]) <= FORWARD):
                break
            lengths.append(length)
            size += len(self._left[length])
        return lengths


def _begin(live: Speaker, groups: Sequence[Mapping[tuple[int, ...], list[int]]]) -> list[_Texts]:
    """Prompts of several lengths, read; of the first alone, where what is remembered of them cannot be cut.

    Args:
        live: what reads them.
        groups: by length, the shortest first, each prompt and whose it is. Where what is remembered cannot be parted,
            each is read as often as it is somebody's.
    """
    texts = [(prompt, rows) for group in groups for prompt, rows in group.items()]
    width = len(texts[-1][0])
    ids = torch.tensor([[*prompt, *[0] * (width - len(prompt))] for prompt, _ in texts], device=live.device)
    lengths = torch.tensor([len(prompt) for prompt, _ in texts], device=live.device)
    out = read_alike(live, ids, int(lengths.min()), lengths - 1)
    if len(groups) > 1:
        if not is_whole(out.past_key_values, width):
            return _begin(live, groups[:1])
        return [_cut(live, texts, lengths, out, len(next(iter(group)))) for group in groups]
    if not layers_of(out.past_key_values) and any(len(rows) > 1 for _, rows in texts):
        owners = [owner for owner, (_, rows) in enumerate(texts) for _ in rows]
        texts = [(prompt, [row]) for prompt, rows in texts for row in rows]
        ids = ids[owners]
        out = live.forward(ends=lengths[owners] - 1, input_ids=ids, use_cache=True)
    return [_Texts(live, [list(rows) for _, rows in texts], ids, out.logits[:, -1], out.past_key_values)]


def _cut(
    live: Speaker, texts: Sequence[tuple[tuple[int, ...], list[int]]], lengths: Tensor, out: Any, length: int
) -> _Texts:
    """The texts of one length among those that were read with pads behind them, without any."""
    index = (lengths == length).nonzero()[:, 0]
    some = [texts[owner] for owner in index.tolist()]
    cache = cut(out.past_key_values, index, length)
    ids = torch.tensor([prompt for prompt, _ in some], device=live.device)
    return _Texts(live, [list(rows) for _, rows in some], ids, out.logits[index, -1], cache)


def read_alike(live: Speaker, ids: Tensor, shortest: int, ends: Tensor | None = None) -> Any:
    """The model's output behind texts, with a cache; what all of them begin with is read once.

    Args:
        live: the model.
        ids: [text, position], padded on the right; of the output only the last positions are there.
        shortest: how long the shortest text is.
        ends: a position of each text [text], of which alone there are logits; None: of all that are there.
    """
    length = _alike(ids, shortest)
    if (len(ids) - 1) * length > FORWARD and live.regime(length) == live.regime(ids.shape[1]):
        first = live.forward(input_ids=ids[:1, :length], use_cache=True)
        if layers_of(first.past_key_values):
            cache = fork(first.past_key_values, torch.zeros(len(ids), dtype=torch.long, device=ids.device))
            ends = None if ends is None else ends - length
            return live.forward(ends=ends, input_ids=ids[:, length:], use_cache=True, past_key_values=cache)
    return live.forward(ends=ends, input_ids=ids, use_cache=True)


def _alike(ids: Tensor, shortest: int) -> int:
    """With how many tokens all texts begin alike; at least the last one is each text's own."""
    same = (ids == ids[:1]).all(0)[: shortest - 1]
    return int(same.long().cumprod(0).sum())


def _say(texts: _Texts, answers: list[list[int]], tokens: int, stops: frozenset[int], drawn: Draws | None) -> bool:
    """Add the next token to each answer that is not done; whether anything is left to be said."""
    whole = not layers_of(texts.cache)
    parts: dict[tuple[int, int], list[int]] = {}
    left = False
    for owner, row, token in _picks(texts, answers, drawn):
        if not _is_done(answers[row], tokens, stops):
            answers[row].append(token)
        going = not _is_done(answers[row], tokens, stops)
        left = left or going
        if going or whole:
            parts.setdefault((owner, token), []).append(row)
    if left:
        texts.go_on(parts)
    return left


def _picks(texts: _Texts, answers: Sequence[Sequence[int]], drawn: Draws | None) -> list[tuple[int, int, int]]:
    """For each prompt of each text the number of the text, that of the prompt, and its next token."""
    places = [(owner, row) for owner, rows in enumerate(texts.rows) for row in rows]
    if drawn is None:
        best = texts.logits.argmax(-1).tolist()
        return [(owner, row, best[owner]) for owner, row in places]
    rows = [row for _, row in places]
    # What is done and cannot leave goes on with its last number.
    last = drawn.numbers.shape[1] - 1
    logits = texts.logits[torch.tensor([owner for owner, _ in places], device=texts.logits.device)]
    found = drawn.pick(logits, rows, [min(len(answers[row]), last) for row in rows])
    return [(owner, row, token) for (owner, row), token in zip(places, found, strict=True)]


def _is_done(answer: Sequence[int], tokens: int, stops: frozenset[int]) -> bool:
    return len(answer) >= tokens or bool(answer and answer[-1] in stops)
