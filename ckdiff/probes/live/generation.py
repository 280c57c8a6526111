"""Generated text, and where it stops: `greedy(live, prompts, tokens, stop_tokens(live, generation))`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ckdiff.probes.live.together import Draws, greedy_together

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ckdiff.probes.live.model import LiveModel
    from ckdiff.probes.live.together import Speaker


def greedy(
    live: Speaker,
    prompts: Sequence[Sequence[int]],
    tokens: int,
    stops: frozenset[int],
    most: int = 32,
    tick: Callable[[int], None] | None = None,
    drawn: Draws | None = None,
) -> list[list[int]]:
    """The first tokens that the model generates after each prompt, greedily; a stop token is the last one.

    At most so many prompts go together, and nothing is padded: see `together`. All parameters must be loaded. `tick` is
    called with the number of prompts that are done; `drawn` draws tokens instead of taking the most likely ones.
    """
    tell = tick or (lambda done: None)
    answers: dict[int, list[int]] = {}
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]))
    for first in range(0, len(order), most):
        some = order[first : first + most]
        mine = None if drawn is None else Draws(drawn.numbers[some], drawn.heat[some])
        part = [prompts[number] for number in some]
        found = greedy_together(live, part, tokens, stops, lambda done, first=first: tell(first + done), mine)  # type: ignore[misc]
        answers |= dict(zip(some, found, strict=True))
    return [answers[number] for number in range(len(prompts))]


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
