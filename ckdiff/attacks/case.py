"""The ground of all attacks: a `Case`, and a `Reading` of it by one model in one state.

    with case.loaded(live, alter):                    # the model, each parameter altered as it is read
        reading = case.read(live, "unlearned")        # one forward over every pair of question and answer

Nothing is kept of a model but what a reading holds; models are there one after the other, whole or streamed.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ckdiff.attacks.replies import hits
from ckdiff.errors import CkdiffError
from ckdiff.probes.base_answers import generate_answers
from ckdiff.probes.behind import read_answers
from ckdiff.probes.forcing import Read
from ckdiff.probes.prompts import Prompt
from ckdiff.progress import Stopped
from ckdiff.questions.questions import Question

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from torch import Tensor

    from ckdiff.attacks.answers import Sought
    from ckdiff.probes.behaviour.behaviour import AskJob
    from ckdiff.probes.forcing import Way
    from ckdiff.probes.live.model import LiveModel
    from ckdiff.probes.preparation import Job
    from ckdiff.progress import Listener
    from ckdiff.report.schema.attack import Attacked
    from ckdiff.shapes import Float64

    Alter = Callable[[str, Tensor], Tensor]
    Ids = tuple[int, ...]
    Pairs = dict[tuple[int, Ids], tuple[int, ...] | None]
    Reads = dict[tuple[int, Ids], Read]


BEYOND = 8
"""Tokens that a greedy answer may have more than what is looked for."""


SPEAKERS = 256
"""Texts that answer at one time, at most, however little room they need."""
UNRELATED = 10
"""Unrelated questions that each attacked model is asked; nothing is trained on them."""
UNRELATED_TOKENS = 16
"""So many tokens of each answer to them tell whether a model is wrecked."""


class AttackError(CkdiffError):
    """An attack that cannot be made here; what it says becomes the note of its row."""


@dataclass(frozen=True, slots=True)
class Options:
    """An attacker's choices.

    Attributes:
        samples: answers sampled for each question.
        seed: of whatever is drawn.
        training: "full", or "lora".
        arms: keys of `relearn.ARMS`.
        rates: of training; none: those of `relearn.rates_of`.
        steps: the most of a training.
        folds: in how many parts facts are held out.
        seeds: how many trainings of each kind.
    """

    samples: int = 16
    seed: int = 0
    training: str = "full"
    arms: tuple[str, ...] = ("others", "half", "scrambled")
    rates: tuple[float, ...] = ()
    steps: int = 20
    folds: int = 2
    seeds: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """The questions and their answers as one model in one state reads them.

    Attributes:
        level: mean log p a token of the answer [question], in nats.
        log_p: log p of the whole answer [question].
        said: by number of the question the answer that came back.
        table: T[i, j] over clusters [cluster, cluster]; NaN outside the groups, and where nothing can be matched.
        unrelated: share of the tokens of the model's own unrelated answers that are still its first choice.
        texts: how many texts went through the model.
    """

    level: Float64
    log_p: Float64
    said: Mapping[int, str]
    table: Float64
    unrelated: float
    texts: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """One setting of an attack, after so many steps, on one model.

    Attributes:
        setting: in words.
        reading: None where it could not be measured.
        step: -1 where there are none.
        applied: share of what it changes that it did change.
        decides: it can be evidence, where its attack can.
        note: why it was not measured, or what else to know.
        held_out: numbers of the questions that gave no answer away; None: all of them.
        groups: of clusters whose answers may be exchanged in its table; None: those of the case.
    """

    setting: str
    reading: Reading | None
    step: int = -1
    applied: float = 1.0
    decides: bool = True
    note: str = ""
    held_out: tuple[int, ...] | None = None
    groups: tuple[tuple[int, ...], ...] | None = None


@dataclass(slots=True)
class Case:
    """Everything that is settled before the first attack.

    Attributes:
        task: the questions, as both models are asked.
        sought: what is looked for, question by question.
        groups: of clusters whose answers may be exchanged.
        options: what an attacker chooses.
        listener: told of progress.
        said: the base's greedy answers to all questions of the file, as ids.
        places: numbers among those of the questions whose answers are looked for.
        own: by model its own greedy answers to the unrelated questions.
        plain: by model what it makes of the questions as they are asked.
        answers: by model its own greedy answers to them, as texts.
        lost: clusters whose answer the suppressed twin does not give; empty without one.
        others: texts about other things, with the base's own answers, once they were asked for.
        means: by model the mean outputs of its layers, once `ablate` wanted them.
        followed: trainings of the unlearned model (arm, rate, last step, best step), which its controls repeat.
    """

    task: AskJob
    sought: list[Sought]
    groups: list[list[int]]
    options: Options
    listener: Listener
    said: Sequence[Sequence[int]] = ()
    places: Sequence[int] = ()
    own: dict[Attacked, list[Prompt]] = field(default_factory=dict)
    plain: dict[Attacked, Reading] = field(default_factory=dict)
    answers: dict[Attacked, list[str]] = field(default_factory=dict)
    lost: set[int] = field(default_factory=set)
    others: list[Prompt] | None = None
    means: dict[Attacked, list[Tensor]] = field(default_factory=dict)
    followed: list[tuple[str, float, int, int]] = field(default_factory=list)

    @property
    def job(self) -> Job:
        """The pair, its tokenizer, its prompts."""
        return self.task.job

    @property
    def way(self) -> Way:
        """How texts go through a model."""
        return self.task.way

    @property
    def clusters(self) -> list[int]:
        """The cluster of each question."""
        return [one.cluster for one in self.sought]

    @property
    def tokens(self) -> int:
        """Of a greedy answer: a little more than the longest that is looked for has."""
        return min(self.job.settings.tokens, max(len(one.answer) for one in self.sought) + BEYOND)

    @property
    def unrelated(self) -> list[Prompt]:
        """The unrelated questions as they are asked."""
        return self.job.prompts[len(self.job.prompts) - len(self.task.asked.unrelated.questions) :]

    @contextmanager
    def loaded(self, live: LiveModel, alter: Alter | None = None) -> Iterator[LiveModel]:
        """The model, its parameters altered as they are read; afterwards its memory is free, whatever happened."""
        live.alter = alter
        try:
            if self.way.stream:
                live.load_ends()
            else:
                live.load(self.pause)
            yield live
        finally:
            live.alter = None
            live.unload()

    def pause(self) -> None:
        """Stop where somebody asked for it.

        Raises:
            Stopped: somebody did; what was finished before is kept.
        """
        if self.listener.stop():
            raise Stopped

    def whole(self, why: str) -> None:
        """Refuse what needs all of a model in memory where it is streamed.

        Raises:
            AttackError: it is streamed.
        """
        if self.way.stream:
            raise AttackError(f"{why} needs the whole model in memory, and it is streamed; use --stream off")

    def read(
        self,
        live: LiveModel,
        side: Attacked,
        ids: Sequence[Ids] | None = None,
        matching: bool = True,
        only: Collection[int] | None = None,
        beside: bool = True,
    ) -> Reading:
        """One forward over each question with its answer, each pair that is matched, and the unrelated answers.

        Args:
            live: the model.
            side: which one it is.
            ids: other prompts, one a question.
            matching: read the table too.
            only: numbers of the questions that are read, of the others everything is NaN; None: all of them.
            beside: read the unrelated answers, too; else what became of them is NaN.
        """
        self.pause()
        asked = [one.ids for one in self.sought] if ids is None else list(ids)
        wanted = range(len(self.sought)) if only is None else sorted(only)
        own = [(place, self.sought[place].answer) for place in wanted]
        pairs = (self._pairs(wanted) if matching else {}) | dict.fromkeys(own)
        unrelated = self.own.get(side, []) if beside else []
        reads = self._read(live, asked, pairs, unrelated)
        found = dict(zip(pairs, reads[: len(pairs)], strict=True))
        if matching:
            found |= self._beginnings(found, own)
            found |= self._wholes(live, asked, found, own)
        mine = {place: found[place, answer] for place, answer in own}
        kept = [float(one.first.double().mean()) for one in reads[len(pairs) :]]
        return Reading(
            level=_filled(len(self.sought), {place: float(one.log_p.mean()) for place, one in mine.items()}),
            log_p=_filled(len(self.sought), {place: float(one.log_p.sum()) for place, one in mine.items()}),
            said=self._first({key: bool(one.first.all()) for key, one in found.items()}, wanted),
            table=self._table({key: one.log_p.numpy() for key, one in found.items()} if matching else {}),
            unrelated=float(np.mean(kept)) if kept else float("nan"),
            texts=len(reads),
        )

    def say(self, live: LiveModel, ids: Sequence[Ids]) -> list[str]:
        """The model's greedy answers to prompts, a little longer than the longest answer that is looked for."""
        prompts = [Prompt(Question(""), one) for one in ids]
        job = replace(self.job, settings=replace(self.job.settings, tokens=self.tokens))
        way = replace(self.way, batch_size=self.speakers(live, max(map(len, ids), default=0) + self.tokens))
        answers = generate_answers(live, job, prompts, way, lambda done: self.pause())
        return [self.decode(answer) for answer in answers]

    def speakers(self, live: LiveModel, length: int) -> int:
        """How many texts of a length answer at one time: a step of many costs little more than one of a few.

        As many as have room for their keys and values, should each be as wide as a state, and at least a batch.
        """
        if self.way.stream:
            return self.way.batch_size
        width: int = live.model.get_input_embeddings().embedding_dim
        each = 2 * length * len(live.layers) * width * live.dtype.itemsize
        return max(self.way.batch_size, min(SPEAKERS, self.way.room // max(1, each)))

    def hits(self, said: Sequence[str], first: Collection[int] = ()) -> dict[int, str]:
        """The replies that bring the answer to their question back; see `replies.hits`."""
        return hits(self.sought, said, first)

    def decode(self, ids: Sequence[int]) -> str:
        """Ids as a text, for people."""
        return self.job.decode(ids)

    def tabled(self, cells: Mapping[tuple[int, Ids], float]) -> Float64:
        """Cells of questions and answers as a table over clusters: means over what each cluster has."""
        size = max(self.clusters) + 1
        sums, counts = np.zeros((size, size)), np.zeros((size, size))
        for (place, answer), value in cells.items():
            for column in {one.cluster for one in self.sought if one.begun == answer and one.scored}:
                sums[self.sought[place].cluster, column] += value
                counts[self.sought[place].cluster, column] += 1
        with np.errstate(invalid="ignore"):
            found: Float64 = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
        return found

    def _read(self, live: LiveModel, asked: Sequence[Ids], pairs: Pairs, unrelated: Sequence[Prompt]) -> list[Read]:
        """Questions, each with an answer and which of its tokens are looked at, and the unrelated ones as they are."""
        prompts = [Prompt(self.sought[place].question, asked[place], answer) for place, answer in pairs]
        looked = [*pairs.values(), *[None] * len(unrelated)]
        return read_answers(live, [*prompts, *unrelated], self.way, wanted=looked)

    def _first(self, first: Mapping[tuple[int, Ids], bool], wanted: Collection[int]) -> dict[int, str]:
        """Answers each token of which comes first, unless they do so behind a question about something else, too."""
        others = {(answer, self.sought[place].cluster) for (place, answer), yes in first.items() if yes}
        back = {}
        for place in wanted:
            one = self.sought[place]
            if first[place, one.answer] and not {who for said, who in others if said == one.answer} - {one.cluster}:
                back[place] = one.text
        return back

    def _pairs(self, wanted: Collection[int]) -> Pairs:
        """Every wanted question with every answer of its group that belongs to one, and what is scored of that.

        Of an answer behind another question no more is read than what is scored. Its own answer is read whole anyway.
        """
        found: Pairs = {}
        for group in self.groups:
            places = [place for place in wanted if self.sought[place].cluster in group]
            answers = {self.sought[j].begun: self.sought[j].scored for j in places if self.sought[j].scored}
            found |= {
                (i, begun): scored
                for i in places
                for begun, scored in answers.items()
                if begun != self.sought[i].answer[: len(begun)]
            }
        return found

    def _beginnings(self, found: Reads, own: Sequence[tuple[int, Ids]]) -> Reads:
        """How the questions' own answers begin, as far as any is scored, out of the whole ones."""
        begun = {one.begun for one in self.sought if one.scored}
        return {
            (place, some): Read(found[place, answer].log_p[: len(some)], found[place, answer].first[: len(some)])
            for place, answer in own
            for some in begun
            if some == answer[: len(some)]
        }

    def _wholes(self, live: LiveModel, asked: Sequence[Ids], found: Reads, own: Sequence[tuple[int, Ids]]) -> Reads:
        """Answers that came back, behind the other questions behind which they begin as well."""
        pairs: Pairs = {}
        for place, answer in own:
            begun = self.sought[place].begun
            if begun and found[place, answer].first.all():
                pairs |= {
                    (other, answer): None
                    for (other, some), read in found.items()
                    if some == begun == answer[: len(begun)] and (other, answer) not in found and read.first.all()
                }
        return dict(zip(pairs, self._read(live, asked, pairs, []), strict=True)) if pairs else {}

    def _table(self, log_p: Mapping[tuple[int, Ids], Float64]) -> Float64:
        scored = {one.begun: one.scored for one in self.sought if one.scored}
        return self.tabled({
            (place, answer): float(values[list(scored[answer])].mean())
            for (place, answer), values in log_p.items() if answer in scored
        })  # fmt: skip


def _filled(size: int, values: Mapping[int, float]) -> Float64:
    found = np.full(size, np.nan)
    found[list(values)] = list(values.values())
    return found
