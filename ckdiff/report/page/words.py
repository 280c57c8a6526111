"""Words that several parts of the page share, and the plain text about method and limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.modes import MODES, VARIANTS
from ckdiff.report.page.markup import Safe, joined, tag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.report.schema.verdict import Outcome

MARKS: dict[Outcome, str] = {"passed": "✓", "failed": "✗", "inconclusive": "?"}
METHOD = (
    (
        "Drift",
        "Every tensor of the unlearned model is held against the base's: 1-cos (0: same direction), relative L2"
        " (length of the change over length of the base) and the share of elements that changed.",
    ),
    (
        "Restoring",
        "One kind of state or weight of the base is put back into the unlearned model, a few layers (a window) at a"
        " time. What then returns of the base's answers tells where their loss lives. Breaking does the same the other"
        " way round: states of the unlearned model are put into the base, and the score is the share of the effect that"
        " they produce.",
    ),
    (
        "Scores",
        "1: everything comes back, 0: nothing, below 0: worse than nothing. krs_kl is about the probabilities of the"
        " answer's tokens and so about behaviour; the verdict rests on it. krs_centred is about logits without a shift"
        " that all tokens share. krs is the paper's score (Hong et al. 2024, arXiv:2410.06606) and can be high by such"
        " a shift alone.",
    ),
    (
        "Intervals and bands",
        "95 % over questions. The interval holds for one window chosen beforehand; the wider band for all windows of a"
        " curve at once, and so for the best one.",
    ),
    (
        "Put back",
        "; ".join(f"{name}: {mode.gist}" for name, mode in MODES.items()) + ".",
    ),
    (
        "Held still",
        "; ".join(f"{name}: {variant.gist}" for name, variant in VARIANTS.items()) + ".",
    ),
    (
        "BLEU",
        "How many words and word sequences of the base's answer the other answer shares: 1 is word for word the same.",
    ),
)
LIMITS = (
    "The questions are a sample. What was not asked was not measured, and a fact that no question is about may remain.",
    "The base's answers are the yardstick, right or wrong.",
    "Answers are greedy. Sampling, other wordings, other languages and fine-tuning on top may bring back more.",
    "States of the base bring an answer back only if the rest of the model still works with them: a score near 0 does"
    " not prove that the knowledge is gone.",
    "The digests say which weights were measured. This page is not signed, and proves nothing about who made it.",
)


def outcome_mark(outcome: Outcome, words: str) -> Safe:
    """An outcome as a sign and in words, so that colour says nothing alone."""
    return tag("span", tag("span", MARKS[outcome], aria_hidden="true"), " ", words, class_=f"mark {outcome}")


def method() -> Safe:
    """How it was measured, in short."""
    rows = [joined(tag("dt", name), tag("dd", words)) for name, words in METHOD]
    return joined(tag("h3", "Method"), tag("dl", *rows), tag("h3", "Limits"), _list(LIMITS))


def _list(lines: Sequence[str]) -> Safe:
    return tag("ul", *(tag("li", line) for line in lines))
