"""Multiple-choice questions: can a model still tell the right answer from wrong ones when it no longer says it?

    found = read_choices(Path("wmdp-bio.json"))      # WMDP and MMLU: question, choices, answer
    asked = choice_prompts(wording, found.questions)
    choice_records(found.questions, logprobs_base, logprobs_unlearned)

No letters are shown to the model: each choice's own text is scored as the answer to the bare question, by log p of its
tokens. A sum favours short texts, so that a pick goes by the mean a token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ckdiff.probes.sweep import SIDES
from ckdiff.questions.questions import Question
from ckdiff.report.schema.behaviour import ChoiceRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ckdiff.probes.prompts import Prompt
    from ckdiff.probes.wording.wording import Wording
    from ckdiff.questions.choices import Choices
    from ckdiff.shapes import Float64


def choice_prompts(wording: Wording, questions: Sequence[Choices]) -> list[Prompt]:
    """Every choice of every question as a prompt with the choice's ids as its answer, in order.

    Raises:
        PromptError: the template cannot be used, or a choice has no token.
    """
    found = wording.choices([Question(one.text) for one in questions], [one.choices for one in questions])
    return [prompt for prompts in found for prompt in prompts]


def choice_records(
    questions: Sequence[Choices], base: Sequence[Tensor], unlearned: Sequence[Tensor]
) -> tuple[tuple[ChoiceRecord, ...], dict[str, Float64]]:
    """One record a question, and by name of `ChoiceSet`'s means what each question adds to them [question].

    Args:
        questions: as they were asked.
        base: log p of each token of every choice of every question, in the order of `choice_prompts`.
        unlearned: the same of the unlearned model.
    """
    rows, first = [], 0
    shares: dict[str, list[float]] = {f"{what}_{side}": [] for what in ("accuracy", "probability") for side in SIDES}
    for one in questions:
        part = slice(first, first + len(one.choices))
        first = part.stop
        sums, picks = {}, {}
        for side, logprobs in zip(SIDES, (base[part], unlearned[part]), strict=True):
            means = np.array([float(tokens.mean()) for tokens in logprobs])
            weights = np.exp(means - means.max())
            sums[side] = tuple(float(tokens.sum()) for tokens in logprobs)
            picks[side] = int(means.argmax())
            shares[f"accuracy_{side}"].append(float(picks[side] == one.answer))
            shares[f"probability_{side}"].append(float(weights[one.answer] / weights.sum()))
        rows.append(
            ChoiceRecord(
                text=one.text,
                choices=one.choices,
                answer=one.answer,
                logprob_base=sums["base"],
                logprob_unlearned=sums["unlearned"],
                picked_base=picks["base"],
                picked_unlearned=picks["unlearned"],
            )
        )
    return tuple(rows), {name: np.array(values) for name, values in shares.items()}
