"""What discovery names, derived again from the scores and rates that a report stores."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ckdiff.report.schema.discovery import LEAST_TEXTS
from ckdiff.report.words.discovery import topic_of
from ckdiff.scoring.discovery import Tail, candidate_p, corrected, pair_p, pool_forms

if TYPE_CHECKING:
    from ckdiff.audit.verify.differences import Differences
    from ckdiff.report.schema.discovery import DiscoveryReport, LostWord


def check_discovery(stored: DiscoveryReport, found: Differences) -> None:
    """Scores and p-values of candidates, p-values of words, and the outcome follow from what else is stored."""
    rows = stored.candidates
    if rows:
        pooled = pool_forms(stored.form_scores)
        found.arrays("discovery/candidates: score", np.array([one.score for one in rows]), pooled)
        again = candidate_p(pooled, stored.others, stored.null_scores, stored.counted)
        found.arrays("discovery/candidates: p", np.array([one.p for one in rows]), again)
    if stored.copies:
        p = np.array([_p(stored, one) for one in stored.words])
        found.arrays("discovery/words: p", np.array([one.p for one in stored.words]), p)
        tail = Tail(stored.pair_threshold, stored.pair_excess, stored.pair_share)
        p = np.array([pair_p(tail, one.together, stored.tokens) for one in stored.groups])
        found.arrays("discovery/groups: p", np.array([one.p for one in stored.groups]), p)
    topic = "" if stored.outcome == "ruined" else topic_of(rows, stored.words)
    found.exact("discovery: topic", stored.topic, topic)
    found.exact("discovery: names something", stored.outcome == "trace", bool(stored.topic))


def _p(stored: DiscoveryReport, word: LostWord) -> float:
    """The p-value of a word, from its rate and the tail of its kind of texts."""
    told = [one for one in stored.kinds if one.texts >= LEAST_TEXTS]
    kind = next((one for one in told if one.name == word.kind), None)
    if kind is None:
        return math.nan
    tail = Tail(kind.threshold, kind.excess, kind.share)
    return corrected(tail.p(word.rate.value), len(told) * stored.words_compared)
