"""What the base says, and what it says about candidates as both models and the noisy copies read it.

speak(models, sets)                         # what the base goes on with behind each of some sets of prompts
read_all(work, sizes, chosen, drawn)        # how both models and the copies read what it says about candidates

Each set is said by itself and each model reads by itself: where there are several threads and room, as many models are
there at one time, each with a share of the threads (see `probes.live.beside`). Which of them does what shows in no
digit. With one thread one model is in memory at a time.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ckdiff.discovery import asking
from ckdiff.discovery.kept import ASKED, SHAKEN
from ckdiff.discovery.lost import look
from ckdiff.discovery.null import noise
from ckdiff.probes import cost
from ckdiff.probes.behind import force_alike
from ckdiff.probes.live.beside import MOST, count_places, heard, shared_threads
from ckdiff.probes.live.generation import greedy
from ckdiff.probes.live.model import LiveModel
from ckdiff.progress import Stopped
from ckdiff.weights.crew import Crew

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ckdiff.discovery.asking import Round
    from ckdiff.discovery.kept import Asked, Logs, Shaken
    from ckdiff.discovery.lost import Look
    from ckdiff.discovery.opening import Models
    from ckdiff.discovery.work import Work
    from ckdiff.probes.forcing import Forced, Way
    from ckdiff.probes.live.together import Draws

    Set = tuple[Sequence[Sequence[int]], Draws | None]


@dataclass(frozen=True, slots=True)
class Group:
    """A crew, models that its threads take, and whether it is to stop."""

    crew: Crew
    free: list[LiveModel]
    over: threading.Event

    def place(self) -> LiveModel:
        """This thread's own model."""
        return self.crew.own(self.free.pop)

    def pause(self) -> None:
        """Stop where the group is to.

        Raises:
            Stopped: it is.
        """
        if self.over.is_set():
            raise Stopped


def read_all(work: Work, sizes: Mapping[str, float], chosen: list[int], drawn: list[int]) -> tuple[Asked, list[Shaken]]:
    """What the base says about the chosen candidates as both models read it, and what each noisy copy makes of texts.

    Args:
        work: under way; no model must be loaded.
        sizes: of noise, from `change_sizes`.
        chosen: candidates that are asked about.
        drawn: those of them that the copies read about.
    """
    models, kept = work.models, work.kept
    known = kept.find("asked", ASKED)
    rounds = _ask(work, chosen) if known is None else known[0]
    some, _ = asking.narrow(rounds, [one.prompts for one in rounds], drawn)
    sides = () if known else (models.base, models.unlearned)
    with at_once(models.copy, others=sides) as group:
        both = [group.crew.begin(_read, group, live, rounds, work.way) for live in sides]
        left = [number for number in range(work.how.copies) if not kept.has(f"copy-{number}")]
        begun = {number: group.crew.begin(_shake, work, group, sizes, some, number) for number in left}
        asked = known or kept.once("asked", lambda: (rounds, both[0](), both[1]()), ASKED)
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
    with at_once(models.base, len(sets)) as group:
        begun = [group.crew.begin(_say, models, group, one, tokens, most) for one in sets]
        return [one() for one in begun]


def _say(models: Models, group: Group, given: Set, tokens: int, most: int) -> list[list[int]]:
    with torch.inference_mode():
        live = group.place()
        live.load(group.pause)
        return greedy(live, given[0], tokens, models.stops, most, drawn=given[1])


def _ask(work: Work, chosen: list[int]) -> list[Round]:
    models, size = work.models, work.way.batch_size
    models.base.load()
    work.tell(f"the base is asked about {len(chosen)} candidates")

    def say(sets: Sequence[Sequence[Sequence[int]]]) -> list[list[list[int]]]:
        return speak(models, [(one, None) for one in sets], asking.TOKENS, size)

    return asking.ask(models, work.candidates.every, chosen, say)


def _read(group: Group, live: LiveModel, rounds: list[Round], way: Way) -> Logs:
    """How a model reads the rounds."""
    with torch.inference_mode():
        live.load(group.pause)
        found = asking.read_rounds(live, rounds, way)
        live.unload()
        return found


def _shake(work: Work, group: Group, sizes: Mapping[str, float], rounds: list[Round], number: int) -> Shaken:
    """What one copy with noise lost on the texts, and how it reads the rounds."""
    with torch.inference_mode():
        copy = group.place()
        copy.alter = noise(sizes, work.how.seed, number)
        copy.load(group.pause)
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
    """How many such models are there at one time."""
    return count_places(live, cost.free_memory(live.device))


@contextmanager
def at_once(live: LiveModel, most: int = MOST, others: Iterable[LiveModel] = ()) -> Iterator[Group]:
    """A crew each of whose threads has a model of its own; torch's threads are divided among them.

    Leaving it by an exception stops what is under way before its next layer.

    Args:
        live: such a model; the others are of the same checkpoint.
        most: threads.
        others: models that the crew runs beside these.
    """
    count, over = max(1, min(most, places(live))), threading.Event()
    # Models are made here: transformers sets torch's own dtype meanwhile, for all threads.
    made = [LiveModel(live.checkpoint, live.dtype, live.device) for _ in range(count - 1)]
    every = [*made, live, *others] if count > 1 else []
    try:
        with shared_threads(count), heard(every, over.is_set), Crew(count) as crew:
            try:
                yield Group(crew, [*made, live], over)
            except BaseException:
                over.set()
                raise
    finally:
        for one in made:
            one.unload()
