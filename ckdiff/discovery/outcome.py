"""What discovery found, as a section of a report: `report_found(work, seen, ranked)`, `report_nothing(work, seen)`."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ckdiff.discovery.answers import tell_topic
from ckdiff.discovery.groups import group_words
from ckdiff.discovery.naming import kinds_of, lost_words, text_kinds, weight_words
from ckdiff.discovery.neurons import lost_places
from ckdiff.report.schema.discovery import TURNED, WRITTEN, CandidateRow, DiscoveryReport
from ckdiff.report.words.discovery import named_words, topic_of
from ckdiff.scoring.discovery import candidate_p, pool_forms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.discovery.lost import Look
    from ckdiff.discovery.naming import Kind
    from ckdiff.discovery.work import Ranked, Work
    from ckdiff.report.schema.discovery import LostWord, WeightWord
    from ckdiff.shapes import Float64

FEW = 8
"""Texts of one kind below which a reader is warned."""


def report_found(work: Work, seen: Look, ranked: Ranked) -> DiscoveryReport:
    """A report of what stands out, if anything does; no model must be loaded."""
    models = work.models
    pooled, null = pool_forms(ranked.scores), np.array(work.null_scores, dtype=np.float64)
    p = candidate_p(pooled, ranked.mask, null, len(work.candidates.every))
    order = sorted(
        range(len(pooled)), key=lambda n: (_descending(float(pooled[n])), _descending(float(ranked.screen[n])), n)
    )
    rows = tuple(_row(work, ranked, pooled, p, number) for number in order)
    models.base.load()
    lost, gained = (_kinds(work, of, seen, work.nulls) for of in ("lost", "gained"))
    words, more = (
        lost_words(of, seen, kinds, work.texts, models) for of, kinds in (("lost", lost), ("gained", gained))
    )
    found, weights = topic_of(rows, words), _weights(work, seen, words)
    if found:
        work.tell(f"both are asked about {found}")
    told = tell_topic(models, found, lost_places(named_words(words), seen, work.texts), work.way)
    plain = _with_groups(work, seen, words)
    return replace(
        plain,
        outcome="trace" if found else "none",
        topic=found,
        ruin=work.ruin,
        kinds=text_kinds(seen, work.nulls, lost),
        words=words,
        gained=more,
        candidates=rows,
        forms=ranked.forms,
        form_scores=ranked.scores[order],
        draws=np.arange(len(null)),
        null_scores=null,
        others=ranked.mask[order],
        answers=told.answers,
        layers=told.layers,
        neurons=told.neurons,
        weights=weights,
        copies=work.how.copies,
        notes=(*plain.notes, *told.notes),
    )


def _weights(work: Work, seen: Look, words: Sequence[LostWord]) -> tuple[WeightWord, ...]:
    """What the change of the weights spells, of the tokens that are said and that texts lost rather than gained."""
    assert work.sayable is not None
    scores = {TURNED: seen.turn, WRITTEN: None if work.written is None else work.written[: seen.rows]}
    return weight_words(scores, work.sayable[: seen.rows] & (seen.shift > 0), words, work.texts, work.models)


def _with_groups(work: Work, seen: Look, words: Sequence[LostWord]) -> DiscoveryReport:
    """A report that names nothing but how lost words go together."""
    found = group_words(words, seen, work.nulls, work.texts, work.models.tokenizer)
    return replace(
        report_nothing(work, seen),
        groups=found.groups,
        spans=found.spans,
        pair_threshold=found.tail.threshold,
        pair_excess=found.tail.excess,
        pair_share=found.tail.share,
    )


def _kinds(work: Work, of: str, seen: Look, nulls: Sequence[Look]) -> list[Kind]:
    assert work.sayable is not None
    return kinds_of(of, seen, nulls, work.texts.kinds, work.sayable)


def _descending(value: float) -> float:
    return math.inf if math.isnan(value) else -value


def _row(work: Work, ranked: Ranked, pooled: Float64, p: Float64, number: int) -> CandidateRow:
    one = work.candidates.every[number]
    known = ranked.plain[number][np.isfinite(ranked.plain[number])]
    return CandidateRow(
        name=one.name,
        has_text=bool(one.text),
        screen=float(ranked.screen[number]),
        asked=number in set(ranked.chosen),
        score=float(pooled[number]),
        drop=float(known.mean()) if len(known) else math.nan,
        p=float(p[number]),
    )


def report_nothing(work: Work, seen: Look) -> DiscoveryReport:
    """A report that names nothing."""
    models = work.models
    words: tuple[LostWord, ...] = ()
    kinds = _kinds(work, "lost", seen, [])
    return DiscoveryReport(
        model_type=models.base.row.model_type,
        outcome="none",
        topic="",
        ruin=0.0,
        kinds=text_kinds(seen, [], kinds),
        words=words,
        gained=words,
        candidates=(),
        forms=(),
        form_scores=np.zeros((0, 0)),
        draws=np.zeros(0, np.int64),
        null_scores=np.zeros(0),
        others=np.zeros(0),
        answers=(),
        copies=0,
        counted=len(work.candidates.every),
        tokens=seen.rows,
        said=kinds[0].tokens,
        settings=_settings(work),
        notes=tuple(dict.fromkeys([*models.notes, *work.texts.notes, *_doubts(work)])),
    )


def _doubts(work: Work) -> list[str]:
    counts = {kind: work.texts.kinds.count(kind) for kind in dict.fromkeys(work.texts.kinds)}
    few = [f"{count} {kind}" for kind, count in counts.items() if count < FEW]
    if not few:
        return []
    return [f"few texts of a kind ({', '.join(few)}): words are told from chance by {FEW} or more"]


def _settings(work: Work) -> dict[str, str]:
    how, base = work.how, work.models.base
    return {
        "texts_source": work.texts.source,
        "candidates_source": work.candidates.source,
        "candidates_digest": work.candidates.digest,
        "length": str(how.length),
        "seed": str(how.seed),
        "copies": str(how.copies),
        "dtype": str(base.dtype).rpartition(".")[2],
        "device": base.device.type,
    }
