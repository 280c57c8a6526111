"""What the base says, and what it says about candidates as both models and the noisy copies read it.

speak(models, sets)                         # what the base goes on with behind each of some sets of prompts
read_all(work, sizes, chosen, drawn)        # how both models and the copies read what it says about candidates

Each set is said by itself and each model reads by itself, and a forward over short texts is made of small products,
which two threads share badly: where there are several threads and room, as many models are there at one time, each with
a share of the threads. Which of them does what shows in no digit. With one thread one model is in memory at a time.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from ckdiff.discovery import asking
from ckdiff.discovery.kept import ASKED, SHAKEN
from ckdiff.discovery.lost import look
from ckdiff.discovery.null import noise
from ckdiff.probes import cost
from ckdiff.probes.behind import force_alike
from ckdiff.probes.live.generation import greedy
from ckdiff.probes.live.model import LiveModel
from ckdiff.weights.crew import Crew

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ckdiff.discovery.asking import Round
    from ckdiff.discovery.kept import Asked, Logs, Shaken
    from ckdiff.discovery.lost import Look
    from ckdiff.discovery.opening import Models
    from ckdiff.discovery.work import Work
    from ckdiff.probes.forcing import Forced, Way
    from ckdiff.probes.live.together import Draws

    Set = tuple[Sequence[Sequence[int]], Draws | None]
    Place = Callable[[], LiveModel]

MOST = 4
"""Models that are read at one time, however many threads there are."""
BESIDE = 0.5
"""What goes on in a model takes, beside it, about so much of its room."""


def read_all(work: Work, sizes: Mapping[str, float], chosen: list[int], drawn: list[int]) -> tuple[Asked, list[Shaken]]:
    """What the base says about the chosen candidates as both models read it, and what each noisy copy makes of texts.

    Args:
        work: under way; no model must be loaded.
        sizes: of noise, from `change_sizes`.
        chosen: candidates that are asked about.
        drawn: those of them that the copies read about.
    """
    models, kept = work.models, work.kept
    known = kept.once("asked", _never, ASKED) if kept.has("asked") else None
    rounds = _ask(work, chosen) if known is None else known[0]
    some, _ = asking.narrow(rounds, [one.prompts for one in rounds], drawn)
    with at_once(models.copy) as (crew, place):
        sides = () if known else (models.base, models.unlearned)
        both = [crew.begin(_read, live, rounds, work.way) for live in sides]
        left = [number for number in range(work.how.copies) if not kept.has(f"copy-{number}")]
        begun = {number: crew.begin(_shake, work, place, sizes, some, number) for number in left}
        asked = kept.once("asked", lambda: (rounds, both[0](), both[1]()), ASKED)
        shaken = []
        for number in range(work.how.copies):
            work.tell(f"copy {number + 1} of {work.how.copies} with noise")
            shaken.append(kept.once(f"copy-{number}", lambda n=number: begun[n](), SHAKEN))  # type: ignore[misc]
    return asked, shaken


def speak(models: Models, sets: Sequence[Set], tokens: int, most: int) -> list[list[list[int]]]:
    """What the base, which must be loaded, goes on with behind each of some sets of prompts.

    Args:
        models: the two.
        sets: prompts as ids, and what draws tokens for them, or None: the most likely ones.
        tokens: of an answer, at most.
        most: prompts that go together, at most.
    """
    with at_once(models.base, len(sets)) as (crew, place):
        begun = [crew.begin(_say, models, place, one, tokens, most) for one in sets]
        return [one() for one in begun]


def _say(models: Models, place: Place, given: Set, tokens: int, most: int) -> list[list[int]]:
    with torch.inference_mode():
        live = place()
        live.load()
        return greedy(live, given[0], tokens, models.stops, most, drawn=given[1])


def _ask(work: Work, chosen: list[int]) -> list[Round]:
    models, size = work.models, work.way.batch_size
    models.base.load()
    work.tell(f"the base is asked about {len(chosen)} candidates")

    def say(sets: Sequence[Sequence[Sequence[int]]]) -> list[list[list[int]]]:
        return speak(models, [(one, None) for one in sets], asking.TOKENS, size)

    return asking.ask(models, work.candidates.every, chosen, say)


def _never() -> Asked:
    raise AssertionError("it is kept")


def _read(live: LiveModel, rounds: list[Round], way: Way) -> Logs:
    """How a model reads the rounds."""
    with torch.inference_mode():
        live.load()
        found = asking.read_rounds(live, rounds, way)
        live.unload()
        return found


def _shake(work: Work, place: Place, sizes: Mapping[str, float], rounds: list[Round], number: int) -> Shaken:
    """What one copy with noise lost on the texts, and how it reads the rounds."""
    with torch.inference_mode():
        copy = place()
        copy.alter = noise(sizes, work.how.seed, number)
        copy.load()
        found = look_at(work, copy), asking.read_rounds(copy, rounds, work.way)
        copy.unload()
        return found


def look_at(work: Work, live: LiveModel, beside: Forced | None = None) -> Look:
    """What a model lost on the texts, or on those beside them, as the base has read them."""
    if beside is not None:
        return look(beside, force_alike(live, work.beside.prompts, work.way), work.beside.prompts)
    assert work.forced is not None
    prompts = work.texts.prompts
    return look(work.forced, force_alike(live, prompts, work.way), prompts, work.logits)


def places(live: LiveModel) -> int:
    """How many such models are there at one time: as many as have a thread and room, on a processor."""
    if live.device.type != "cpu":
        return 1
    each = live.parameter_bytes(live.dtype.itemsize) * (1 + BESIDE)
    return max(1, min(MOST, torch.get_num_threads(), int(cost.free_memory(live.device) / each)))


@contextmanager
def at_once(live: LiveModel, most: int = MOST) -> Iterator[tuple[Crew, Place]]:
    """A crew, and what gives each of its threads such a model of its own; torch's threads are divided among them."""
    count, threads = max(1, min(most, places(live))), torch.get_num_threads()
    # Models are made here: transformers sets torch's own dtype meanwhile, for all threads.
    made = [LiveModel(live.checkpoint, live.dtype, live.device) for _ in range(count - 1)]
    free, crew = [*made, live], Crew(count)

    def take() -> LiveModel:
        return free.pop()

    torch.set_num_threads(max(1, threads // count))
    try:
        with crew:
            yield crew, lambda: crew.own(take)
    finally:
        torch.set_num_threads(threads)
        for one in made:
            one.unload()
