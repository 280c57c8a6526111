"""How alike two answers are: sentence BLEU in their words, chrF in their characters, as sacrebleu computes them."""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING

from ckdiff.scripts import has_blankless, set_apart

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sacrebleu.metrics.bleu import BLEU as Metric  # noqa: N811
    from sacrebleu.metrics.chrf import CHRF as CharacterMetric  # noqa: N811

APART = "13a-apart"
"""Tokenizer "13a" where characters of scripts without blanks are words of their own."""
BLEU = f"nrefs:1|case:mixed|eff:yes|tok:13a|smooth:exp|version:{version('sacrebleu')}"
"""What determines BLEU, as sacrebleu's own signature says it, where no text is in a script without blanks."""
CHRF = f"nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:{version('sacrebleu')}"
"""What determines chrF."""


def bleu_signature(texts: Iterable[str]) -> str:
    """What determined BLEU of such texts."""
    return BLEU.replace("tok:13a", f"tok:{APART}") if any(map(has_blankless, texts)) else BLEU


def answer_bleu(answer: str, reference: str, apart: bool = True) -> float:
    """Sentence BLEU of an answer against a reference.

    The geometric mean of the precisions of word n-grams up to length 4, times exp(1 - reference words / answer words)
    where the answer is the shorter one. An answer of fewer than four words is held to the lengths that it has
    (effective order). A length without a match counts as 1/2, 1/4, ... of one, each next such length half of the one
    before ("exp" smoothing), but an answer without any word of the reference is 0. Words are those of tokenizer
    "13a", case matters, and blanks around a text do not.

    Args:
        answer: what is held against the other.
        reference: the other.
        apart: every character of a script without blanks is a word (in Chinese: what tokenizer "zh" does). Without
            that a whole sentence is one, and a changed character changes it all.

    Unitless, in [0, 1]: 1 for equal texts (two empty ones too), 0 where just one is empty.
    Source: Papineni et al. 2002, ACL P02-1040; Post 2018, arXiv:1804.08771 (sacrebleu).
    """
    answer, reference = answer.strip(), reference.strip()
    if answer == reference:
        return 1.0
    if not answer or not reference:
        return 0.0
    if apart:
        answer, reference = set_apart(answer), set_apart(reference)
    # 100 / 100 comes out of its logarithms as 1.0000000000000004.
    return min(1.0, float(_metric().sentence_score(answer, [reference]).score) / 100)


def answer_chrf(answer: str, reference: str) -> float:
    """ChrF of an answer against a reference: what they share in characters, in every script.

    F-score with recall counted twice (beta 2) of character n-grams, its precision and recall the means over lengths 1
    to 6, or as far as both texts reach; blanks do not count, case does.

    Unitless, in [0, 1]: 1 for equal texts (two empty ones too), 0 where just one is empty.
    Source: Popović 2015, ACL W15-3049; Post 2018, arXiv:1804.08771 (sacrebleu).
    """
    answer, reference = answer.strip(), reference.strip()
    if answer == reference:
        return 1.0
    if not answer or not reference:
        return 0.0
    return min(1.0, float(_character_metric().sentence_score(answer, [reference]).score) / 100)


@cache
def _metric() -> Metric:
    from sacrebleu.metrics import bleu

    return bleu.BLEU(effective_order=True, smooth_method="exp", tokenize="13a")


@cache
def _character_metric() -> CharacterMetric:
    from sacrebleu.metrics import chrf

    return chrf.CHRF()
