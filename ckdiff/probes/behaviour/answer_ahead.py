"""What several jobs will ask one base, answered before they begin: `answer_ahead(base, sets, settings, shared)`."""

from __future__ import annotations

from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING

import torch

from ckdiff.probes.behaviour.behaviour import prepare_behaviour
from ckdiff.probes.shared_answers import answered, generated, weights_digest
from ckdiff.progress import Listener, Stopped
from ckdiff.questions.asked import Asked
from ckdiff.questions.questions import QuestionSet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.probes.forcing import Way
    from ckdiff.probes.preparation import Job
    from ckdiff.probes.prompts import Prompt
    from ckdiff.probes.shared_answers import Shared
    from ckdiff.scoring.settings import Settings
    from ckdiff.weights.checkpoint import Checkpoint


def answer_ahead(
    base: Checkpoint,
    sets: Sequence[QuestionSet],
    settings: Settings,
    shared: Shared,
    listener: Listener | None = None,
) -> int:
    """Let a base answer every set of questions whose answers are not kept yet; gives how many those were.

    The base is loaded once, alone, and only where something is missing. With `stream="auto"` it is streamed where
    `behave` would stream it; a probe that has to stream two models where one fits finds nothing here, and asks anew.

    Args:
        base: the model before.
        sets: each is answered by itself, as every job does it.
        settings: of the jobs; what is about probes alone is not looked at.
        shared: where answers are kept; without digests of the base's weights there nothing is done.
        listener: told of progress, asked whether to stop.

    Raises:
        CkdiffError: the base, the questions or the settings do not allow it.
        Stopped: the listener asked for it; the sets that were answered are kept.
    """
    listener = listener or Listener()
    if not sets or weights_digest(base, shared) is None:
        return 0
    together = QuestionSet(tuple(question for one in sets for question in one.questions), "open questions", "")
    # Nothing of the second one is ever loaded.
    task = prepare_behaviour(base, base, Asked(None, together), settings, [len(one.questions) for one in sets])
    job, made = task.job, 0
    rest, ends = dict(zip(job.kept, job.prompts, strict=True)), accumulate(len(one.questions) for one in sets)
    with torch.inference_mode():
        for number, (one, end) in enumerate(zip(sets, ends, strict=True)):
            prompts = [rest[place] for place in range(end - len(one.questions), end) if place in rest]
            asked: list[int] = []
            make = partial(_made, job, prompts, task.way, listener, (number, len(sets)), asked)
            answered(job, prompts, task.way, shared, make)
            made += len(asked)
    return made


def _made(
    job: Job, prompts: list[Prompt], way: Way, listener: Listener, place: tuple[int, int], asked: list[int]
) -> list[list[int]]:
    """The answers of a base that is loaded by the first set that needs it; `asked` gets the number of the set."""
    live = job.pair.base
    live.load_ends()
    for number in range(0 if way.stream else len(live.layers)):
        live.load_layer(number)

    def tick(done: int) -> None:
        listener.progress("answers", place[0], place[1], f"the base answers {len(prompts)} questions")
        if listener.stop():
            raise Stopped

    tick(0)
    asked.append(place[0])
    return generated(live, job, prompts, way, tick)
