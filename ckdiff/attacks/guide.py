"""More than the base says, out of both checkpoints together: `outcomes(case, live, side)`, a weight each.

See `probes.live.guided`. Whoever publishes both has published that: a warning about disclosure, which says nothing of
what the unlearned model knows. Source: Wu et al. 2025, arXiv:2505.24379.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from ckdiff.attacks.answers import holds, normalise
from ckdiff.attacks.case import BEYOND, Outcome
from ckdiff.probes import cost
from ckdiff.probes.live.generation import greedy
from ckdiff.probes.live.guided import Guided

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from ckdiff.attacks.case import Case, Reading
    from ckdiff.probes.live.model import LiveModel
    from ckdiff.report.schema.attack import Attacked

WEIGHTS = (1.5, 2.0, 4.0)


def outcomes(case: Case, live: LiveModel, side: Attacked) -> Iterator[Outcome]:
    """One outcome a weight.

    Raises:
        AttackError: the models are streamed.
        TooLittleMemoryError: there is no room for both.
    """
    case.whole("guidance by the base")
    base = case.job.pair.base
    check_memory(base, live)
    with case.loaded(base), case.loaded(live):
        for number, weight in enumerate(WEIGHTS):
            case.pause()
            case.listener.progress("guiding", number, len(WEIGHTS), f"{weight:g} of the way from unlearned to base")
            said = say(case, Guided(base, live, weight))
            reading = _read(case, Guided(base, live, weight), side, said)
            yield Outcome(f"weight {weight:g}", reading, decides=False, note=more_than_base(case, said))
    case.listener.progress("guiding", len(WEIGHTS), len(WEIGHTS), "")


def check_memory(base: LiveModel, unlearned: LiveModel) -> None:
    """Refuse two models that do not fit together.

    Raises:
        TooLittleMemoryError: see there.
    """
    needed = sum(live.parameter_bytes(live.dtype.itemsize) for live in (base, unlearned))
    free = cost.free_memory(base.device)
    if needed > free:
        raise cost.TooLittleMemoryError(
            f"guidance by the base needs both models in memory, {needed / 1e9:.3g} GB, and {free / 1e9:.3g} GB are free"
        )


def say(case: Case, guided: Guided) -> list[str]:
    """What both together say to the questions, greedily."""
    tokens = min(case.job.settings.tokens, max(len(one.answer) for one in case.sought) + BEYOND)
    answers = greedy(guided, [one.ids for one in case.sought], tokens, case.job.stops, case.way.batch_size)
    return [case.decode(answer) for answer in answers]


def _read(case: Case, guided: Guided, side: Attacked, said: Sequence[str]) -> Reading:
    """The answers as both together read them, and how many of the unlearned model's unrelated ones still come first."""
    found = [_log_p(guided, one.ids, one.answer)[0] for one in case.sought]
    own = [_log_p(guided, one.ids, one.answer)[1] for one in case.own[side] if one.answer]
    plain = case.plain[side]
    return replace(
        plain,
        level=np.array([float(one.mean()) for one in found]),
        log_p=np.array([float(one.sum()) for one in found]),
        said=case.hits(said),
        table=np.full_like(plain.table, np.nan),
        unrelated=float(np.mean([float(one.double().mean()) for one in own])) if own else math.nan,
        texts=2 * (len(found) + len(own) + len(said)),
    )


def _log_p(guided: Guided, ids: Sequence[int], answer: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Of each token of an answer log p, and whether it is the likeliest one."""
    text = torch.tensor([[*ids, *answer]], device=guided.device)
    logits = guided.forward(input_ids=text[:, :-1], use_cache=False).logits[0, len(ids) - 1 :].cpu()
    wanted = torch.tensor(list(answer))
    return logits.gather(1, wanted[:, None])[:, 0], logits.argmax(-1) == wanted


def more_than_base(case: Case, said: Sequence[str]) -> str:
    """How many answers of the file that the base does not give come from both together."""
    hidden = [(one, text) for one, text in zip(case.sought, said, strict=True) if one.base_right is False]
    if not hidden:
        return ""
    told = sum(holds(text, normalise(one.question.answer or "")) for one, text in hidden)
    return f"says {told} of {len(hidden)} answers of the file that the base does not give: whoever has both has them"
