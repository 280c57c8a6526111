"""How alike two answers are in their words: sentence BLEU as sacrebleu computes it."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sacrebleu.metrics.bleu import BLEU as Metric  # noqa: N811


BLEU = f"nrefs:1|case:mixed|eff:yes|tok:13a|smooth:exp|version:{version('sacrebleu')}"
"""What determines the number, as sacrebleu's own signature says it."""


def answer_bleu(answer: str, reference: str) -> float:
    """Sentence BLEU of an answer against a reference.

    The geometric mean of the precisions of word n-grams up to length 4, times exp(1 - reference words / answer words)
    where the answer is the shorter one. An answer of fewer than four words is held to the lengths that it has
    (effective order). A length without a match counts as 1/2, 1/4, ... of one, each next such length half of the one
    before ("exp" smoothing), but an answer without any word of the reference is 0. Words are those of tokenizer
    "13a", case matters, and blanks around a text do not.

    Unitless, in [0, 1]: 1 for equal texts (two empty ones too), 0 where just one is empty.
    Source: Papineni et al. 2002, ACL P02-1040; Post 2018, arXiv:1804.08771 (sacrebleu).
    """
    answer, reference = answer.strip(), reference.strip()
    if answer == reference:
        return 1.0
    if not answer or not reference:
        return 0.0
    # 100 / 100 comes out of its logarithms as 1.0000000000000004.
    return min(1.0, float(_metric().sentence_score(answer, [reference]).score) / 100)


@cache
def _metric() -> Metric:
    from sacrebleu.metrics import bleu

    return bleu.BLEU(effective_order=True, smooth_method="exp", tokenize="13a")
