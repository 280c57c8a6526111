"""Open questions, scored: each model's greedy answers beside the other's, and what benchmarks of the field report."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ckdiff.probes.behaviour.field_scores import Told, field_measures
from ckdiff.probes.behaviour.neutral_scores import perplexity
from ckdiff.questions.clusters import find_clusters
from ckdiff.report.schema.behaviour import AnswerRecord, AnswerSet, Mean
from ckdiff.scoring.bleu import answer_bleu, answer_chrf
from ckdiff.scoring.means import mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ckdiff.probes.forcing import Read
    from ckdiff.probes.preparation import Job
    from ckdiff.questions.questions import QuestionSet


@dataclass(frozen=True, slots=True)
class Said:
    """What one model says to the open questions, in their order, and how it reads answers to them.

    Attributes:
        answers: its own greedy ones.
        reads: the base's greedy ones as it reads them.
        given: those of the question file, the right one first; none where the file's are not scored.
    """

    answers: Sequence[tuple[int, ...]]
    reads: Sequence[Read]
    given: Sequence[Sequence[Read]]


def answer_set(job: Job, name: str, questions: QuestionSet, part: slice, said: Mapping[str, Said]) -> AnswerSet:
    """One set of open questions, scored; `part` says where among all open questions it stands."""
    rows = [_answer_record(job, number, said) for number in range(part.start, part.stop)]
    clusters = find_clusters(questions.questions, [row.answer_base for row in rows])
    rows = [replace(row, cluster=cluster) for row, cluster in zip(rows, clusters, strict=True)]
    reads = {side: [read.log_p for read in one.reads[part]] for side, one in said.items()}

    def over(field: str, least: float, most: float) -> Mean:
        return mean(np.array([float(getattr(row, field)) for row in rows]), least, most, clusters)

    against = "given" if all(said["base"].given[part]) else "base"
    return AnswerSet(
        name=name,
        source=questions.source,
        digest=questions.digest,
        bleu=over("bleu", 0, 1),
        exact=over("exact", 0, 1),
        logprob_base=over("logprob_base", -math.inf, 0),
        logprob_unlearned=over("logprob_unlearned", -math.inf, 0),
        perplexity_base=perplexity(reads["base"]),
        perplexity_unlearned=perplexity(reads["unlearned"]),
        questions=tuple(rows),
        chrf=over("chrf", 0, 1),
        given_digest=questions.whole,
        field_against=against,
        field=field_measures(
            {side: _told(job, one, part, rows, against) for side, one in said.items()}, clusters, name == "target"
        ),
    )


def _told(job: Job, said: Said, part: slice, rows: Sequence[AnswerRecord], against: str) -> list[Told]:
    """By question what one model says, and how it reads what that is held against."""
    found = []
    for row, ids, read, given in zip(rows, said.answers[part], said.reads[part], said.given[part], strict=True):
        answer = job.decode(ids)
        if against == "given":
            found.append(Told(answer, row.answer_given, given[0], given[1:]))
        else:
            found.append(Told(answer, row.answer_base, read, ()))
    return found


def _answer_record(job: Job, number: int, said: Mapping[str, Said]) -> AnswerRecord:
    base, unlearned = said["base"].answers[number], said["unlearned"].answers[number]
    texts = [job.decode(ids) for ids in (base, unlearned)]
    return AnswerRecord(
        text=job.prompts[number].question.text,
        answer_base=texts[0],
        answer_unlearned=texts[1],
        answer_base_ids=base,
        answer_unlearned_ids=unlearned,
        bleu=answer_bleu(texts[1], texts[0]),
        exact=base == unlearned,
        logprob_base=float(said["base"].reads[number].log_p.mean()),
        logprob_unlearned=float(said["unlearned"].reads[number].log_p.mean()),
        chrf=answer_chrf(texts[1], texts[0]),
        answer_given=job.prompts[number].question.answer or "",
    )
