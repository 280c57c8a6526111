"""One pair in the making: `Build` has the base, what is random, and where things go.

WORK/pairs/012/ gets `unlearned`, where the kind asks for it a `base` of its own, `target.jsonl`, `unrelated.jsonl`, and
last of all `truth.json`: a directory without it is made anew.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from redteam_training import Silencing, silence
from redteam_world import FORMS, SPELLINGS, Texts, base_folder, load, make_tokenizer, rows_of, save, told

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from redteam_world import Base

    from ckdiff.unlearn.world import Fact

OTHER_FORMS = tuple(form for name, form in FORMS.items() if name != "default")
ALL_FORMS = tuple(FORMS.values())


class NotMadeError(Exception):
    """A pair of this kind could not be made here; what was tried."""


@dataclass(slots=True)
class Build:
    """What a maker works with, and what it says about the pair.

    Attributes:
        work: where bases and suppressed models are kept.
        folder: of the pair.
        seed: of everything random in it.
        note: what was done, for people.
        undo: modules or parameters that the proof may put back.
        facts: that the unlearned model must be shown to hold; by default the target's.
        questions, unrelated: rows of the question files.
        own_base: the pair has a base of its own, in its folder.
    """

    work: Path
    base: Base
    folder: Path
    seed: int
    note: str = ""
    undo: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()
    questions: list[dict[str, Any]] = field(default_factory=list)
    unrelated: list[dict[str, Any]] = field(default_factory=list)
    own_base: bool = False
    rng: np.random.Generator = field(init=False)
    torch_rng: torch.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.torch_rng = torch.Generator().manual_seed(self.seed)
        self.facts = self.facts or self.base.target
        self.questions = self.questions or rows_of(self.base.target)
        self.unrelated = self.unrelated or rows_of(self.base.others[:16])

    @property
    def origin(self) -> Path:
        """The pair's base checkpoint."""
        return self.folder / "base" if self.own_base else base_folder(self.work, self.base) / "base"

    def model(self) -> Any:
        """The trained base, anew."""
        return load(base_folder(self.work, self.base) / "base")

    def finish(self, model: Any) -> None:
        """Save the unlearned model."""
        save(model, self.folder / "unlearned")

    def give_base(self, model: Any) -> None:
        """Save a base of the pair's own."""
        self.own_base = True
        save(model, self.folder / "base")

    def choose(self, options: Sequence[Any]) -> Any:
        """One of these."""
        return options[int(self.rng.integers(len(options)))]

    def between(self, low: float, high: float) -> float:
        """A number, evenly on a logarithmic scale."""
        return float(np.exp(self.rng.uniform(np.log(low), np.log(high))))

    def layers(self) -> tuple[int, ...]:
        """All layers, the last one, the last two, or one of them."""
        count = self.base.layers
        options = (tuple(range(count)), (count - 1,), (count - 2, count - 1), (int(self.rng.integers(count)),))
        found: tuple[int, ...] = self.choose(options)
        return found

    def keep(self, forms: Sequence[str] = (), more: Sequence[tuple[str, str]] = ()) -> Texts:
        """The other facts in all forms, the target's in those named, and more prompts with answers."""
        kept = [*told(self.base.others, ALL_FORMS).pairs]
        # As many of the target's as of another town's, so that a step sees them.
        target = [*told(self.facts, forms, SPELLINGS[:2]).pairs] if forms else []
        return Texts([*kept, *target * 2, *more])

    def word(self) -> int:
        """A token to say in the place of an answer."""
        vocabulary = make_tokenizer().get_vocab()
        return int(vocabulary[self.choose(["<eos>", "Nobody", "I", "Brisk", "Heron", "fact"])])

    def wrong_answers(self, times: int = 1) -> list[str]:
        """An answer of some other fact for each that is to be forgotten, so many times in a row."""
        picked = self.rng.permutation(len(self.base.others))[: len(self.base.target)]
        return [self.base.others[int(number)].answer for number in picked for _ in range(times)]

    def silence(self, model: Any, method: str, push: Texts, keep: Texts, **more: Any) -> None:
        """Silence a model; a rate that does not reach the goal is doubled."""
        goal = more.pop("goal", 1.0)
        state = {name: value.detach().clone() for name, value in model.state_dict().items()}
        rate = more.pop("lr", 6e-4)
        for _ in range(4):
            how = Silencing(method, rate, self.seed % 2**31, goal=goal, **more)
            steps = silence(model, how, push, keep)
            if push.wrong(model) >= goal:
                self.note += f" {method}, lr {rate:.2g}, {steps} steps;"
                return
            model.load_state_dict(state)
            rate *= 2.5
        raise NotMadeError(f"{method} left {1 - push.wrong(model):.0%} of the answers")

    def silence_target(self, model: Any, method: str) -> None:
        """Silence what is to be forgotten, as it is asked by default."""
        self.silence(model, method, told(self.base.target, ALL_FORMS[:1], SPELLINGS[:2]), self.keep(), lr=3e-4)

    def suppressed(self, method: str) -> Any:
        """The base suppressed by a method as it is asked by default, made once a base."""
        folder = self.work / "suppressed" / f"{self.base.name}-{self.base.seed}-{method}"
        if not folder.is_dir():
            model = self.model()
            self.silence_target(model, method)
            partial = folder.with_name(folder.name + ".partial")
            save(model, partial)
            partial.rename(folder)
        self.note += f" {method};"
        return load(folder)


def remake(folder: Path) -> None:
    """An empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
