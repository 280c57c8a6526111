"""Generated text, and where it stops: `greedy(live, prompts, tokens, stop_tokens(live, generation))`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ckdiff.probes.live.together import greedy_together

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    from ckdiff.probes.live.model import LiveModel
    from ckdiff.probes.live.together import Speaker


def greedy(
    live: Speaker,
    prompts: Sequence[Sequence[int]],
    tokens: int,
    stops: frozenset[int],
    most: int = 32,
    tick: Callable[[int], None] | None = None,
    choose: Callable[[Tensor], Tensor] | None = None,
) -> list[list[int]]:
    """The first tokens that the model generates after each prompt, greedily; a stop token is the last one.

    At most so many prompts go together, and nothing is padded: see `together`. All parameters must be loaded. `tick` is
    called with the number of prompts that are done; `choose` picks other tokens [prompt] than the most likely ones, of
    logits [prompt, d_vocab], of prompts of one length.
    """
    tell = tick or (lambda done: None)
    answers: dict[int, list[int]] = {}
    if choose is None:
        order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
        for first in range(0, len(order), most):
            part = [prompts[number] for number in order[first : first + most]]
            found = greedy_together(live, part, tokens, stops, lambda done, first=first: tell(first + done))  # type: ignore[misc]
            answers |= dict(zip(order[first : first + most], found, strict=True))
        return [answers[number] for number in range(len(prompts))]
    by_length: dict[int, list[int]] = {}
    for number, prompt in enumerate(prompts):
        by_length.setdefault(len(prompt), []).append(number)
    groups = [same[first : first + most] for same in by_length.values() for first in range(0, len(same), most)]
    for numbers in groups:
        ids = torch.tensor([list(prompts[number]) for number in numbers], device=live.device)
        answers |= dict(zip(numbers, _chosen(live, ids, tokens, stops, choose), strict=True))
        tell(len(answers))
    return [answers[number] for number in range(len(prompts))]


def _chosen(
    live: Speaker, ids: Tensor, tokens: int, stops: frozenset[int], choose: Callable[[Tensor], Tensor]
) -> list[list[int]]:
    found: list[list[int]] = [[] for _ in range(len(ids))]
    out = live.forward(input_ids=ids, use_cache=True)
    for _ in range(tokens):
        best = choose(out.logits[:, -1])
        for answer, token in zip(found, best.tolist(), strict=True):
            if not (answer and answer[-1] in stops):
                answer.append(token)
        if len(found[0]) == tokens or all(answer[-1] in stops for answer in found):
            break
        ids = torch.cat([ids, best[:, None]], 1)
        length = ids.shape[1]
        if live.regime(length) == live.regime(length - 1):
            out = live.forward(input_ids=ids[:, -1:], use_cache=True, past_key_values=out.past_key_values)
        else:
            # What is cached was turned by the frequencies of a shorter text.
            out = live.forward(input_ids=ids, use_cache=True)
    return found


def stop_tokens(live: LiveModel, generation: Mapping[str, Any]) -> frozenset[int]:
    """Ids at which generation ends: generation_config.json's, else config.json's."""
    found = generation.get("eos_token_id", getattr(live.config, "eos_token_id", None))
    ids = found if isinstance(found, list) else [found]
    return frozenset(token for token in ids if isinstance(token, int) and not isinstance(token, bool))


def context_length(live: LiveModel) -> int | None:
    """The most positions that the model can tell apart, or None where its config does not say.

    Where rotary embeddings are stretched, that is the stretched length, whichever of the two the config calls the
    greatest.
    """
    for name in ("max_position_embeddings", "n_positions", "max_seq_len", "seq_length"):
        value = getattr(live.config, name, None)
        if isinstance(value, int) and value > 0:
            return max(value, _stretched_length(live, value))
    return None


def _stretched_length(live: LiveModel, length: int) -> int:
    """The length to which the factors of rotary embeddings stretch the trained one; 0 without any."""
    found = getattr(live.config, "rope_parameters", None) or {}
    parts = [found, *found.values()] if isinstance(found, dict) else []
    lengths = [0]
    for part in parts:
        factor = part.get("factor") if isinstance(part, dict) else None
        if isinstance(factor, int | float) and factor >= 1:
            lengths.append(int(factor * (part.get("original_max_position_embeddings") or length)))
    return max(lengths)
