"""Multiple-choice questions: can a model still tell the right answer from wrong ones when it no longer says it?

    found = read_choices(Path("wmdp-bio.json"))      # WMDP and MMLU: question, choices, answer
    asked = choice_prompts(tokenizer, found.questions, settings)
    choice_records(found.questions, logprobs_base, logprobs_unlearned)

No letters are shown to the model: each choice's own text is scored as the answer to the bare question, by log p of its
tokens. A sum favours short texts, so that a pick goes by the mean a token.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.probes.checks import PairError
from ckdiff.probes.prompts import Prompt, prompts
from ckdiff.probes.sweep import SIDES
from ckdiff.questions.questions import Question
from ckdiff.report.schema.behaviour import ChoiceRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ckdiff.questions.choices import Choices
    from ckdiff.scoring.settings import Settings
    from ckdiff.shapes import Float64


def choice_prompts(tokenizer: Any, questions: Sequence[Choices], settings: Settings) -> list[Prompt]:
    """Every choice of every question as a prompt with the choice's ids as its answer, in order.

    After a template the choice follows a blank, and its ids are what it adds to the prompt's when both are cut into
    tokens together; where the prompt's last token would change by that, and after a chat template, it is cut alone.

    Raises:
        PromptError: the template cannot be used.
        PairError: a choice has no token.
    """
    asked = prompts(tokenizer, [Question(one.text) for one in questions], settings.template, settings.chat)
    found = []
    for one, prompt in zip(questions, asked, strict=True):
        for choice in one.choices:
            ids = _alone(tokenizer, choice) if settings.chat else _after(tokenizer, one, choice, prompt, settings)
            if not ids:
                raise PairError(f"choice {choice[:60]!r}: no token comes out of it; leave its question out")
            found.append(Prompt(prompt.question, prompt.ids, ids))
    return found


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


def _alone(tokenizer: Any, text: str) -> tuple[int, ...]:
    return tuple(int(token) for token in tokenizer(text, add_special_tokens=False)["input_ids"])


def _after(tokenizer: Any, one: Choices, choice: str, prompt: Prompt, settings: Settings) -> tuple[int, ...]:
    whole = tokenizer(f"{settings.template.replace('{q}', one.text)} {choice}")["input_ids"]
    size = len(prompt.ids)
    if tuple(whole[:size]) == prompt.ids and len(whole) > size:
        return tuple(int(token) for token in whole[size:])
    return _alone(tokenizer, f" {choice}")
