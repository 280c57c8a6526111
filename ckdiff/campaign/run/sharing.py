"""What the jobs of one base have in common: its answers, made once for all of them before they begin.

A set of questions is worth it where two jobs at least would ask the base the same in the same way. A job finds the
answers in the results directory; where they are missing, it makes them itself, with the same result.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from ckdiff.campaign.run.tasks import WEIGHTS, Questions

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ckdiff.campaign.records import Task
    from ckdiff.campaign.run.tasks import Spec
    from ckdiff.questions.questions import QuestionSet
    from ckdiff.scoring.settings import Settings


LEAST = 2
"""Jobs that ask the same, from which on it is asked beforehand."""


@dataclass(frozen=True, slots=True)
class AnswersSpec:
    """What a base is to answer beforehand.

    Attributes:
        base, adapter_base: as in `CompareSpec`.
        sets: each is answered by itself.
        settings: what determines answers; what is about probes alone is at its default.
    """

    base: str
    adapter_base: str | None
    sets: tuple[QuestionSet, ...]
    settings: Settings


def answer_tasks(tasks: Sequence[Task], digests: dict[str, str]) -> list[Task]:
    """The jobs that answer beforehand what several of these jobs ask; one a base and way of asking.

    Args:
        tasks: that are about to run.
        digests: by key of a task what tells its base from others.
    """
    groups: dict[str, list[tuple[Task, AnswersSpec]]] = {}
    questions = Questions()
    for task in tasks:
        if (spec := _asked(task.spec, questions)) is not None:
            way = json.dumps([digests[task.key], task.threads, asdict(spec.settings)], sort_keys=True, default=str)
            groups.setdefault(way, []).append((task, spec))
    return [found for way, group in groups.items() if (found := _task(way, group)) is not None]


def _task(way: str, group: Sequence[tuple[Task, AnswersSpec]]) -> Task | None:
    uses = Counter(one.digest for _, spec in group for one in spec.sets)
    shared = {one.digest: one for _, spec in group for one in spec.sets if uses[one.digest] >= LEAST}
    if not shared:
        return None
    first, spec = group[0]
    key = hashlib.sha256(json.dumps([way, *sorted(shared)]).encode()).hexdigest()
    name = f"{spec.base}: answers that {len(group)} jobs share"
    wanted = replace(spec, sets=tuple(shared.values()))
    return replace(first, key=key, name=name, run="answers", spec=wanted, weight=WEIGHTS["answers"])


def _asked(spec: Spec, questions: Questions) -> AnswersSpec | None:
    """What a job will ask its base; None where it asks nothing that can be shared."""
    from ckdiff.calls.specs import BehaveSpec, CompareSpec, ProbeSpec

    if isinstance(spec, CompareSpec):
        return None
    if isinstance(spec, ProbeSpec):
        if spec.settings.given_answers:
            return None
        sets: Iterable[QuestionSet] = [questions.of_probe(spec)]
    else:
        sets = questions.of_behave(spec if isinstance(spec, BehaveSpec) else spec.behave).open.values()
    return AnswersSpec(spec.base, spec.adapter_base, tuple(sets), _plain(spec.settings))


def _plain(settings: Settings) -> Settings:
    """Settings with what does not matter to answers at its default."""
    from ckdiff.scoring.settings import Settings

    names = (
        "tokens",
        "template",
        "chat",
        "dtype",
        "device",
        "stream",
        "batch_size",
        "attention",
        "tokenizer",
        "memory",
    )
    return replace(Settings(), **{name: getattr(settings, name) for name in names})
