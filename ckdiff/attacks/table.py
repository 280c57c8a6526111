"""The attacks: a row each. A new attack is a row here, a file of its name with a function `outcomes`, and a test.

`outcomes(case, live, side)` gives one `case.Outcome` a setting and step; it loads the model as it needs it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ckdiff.attacks.case import Case, Options, Outcome
    from ckdiff.probes.live.model import LiveModel
    from ckdiff.report.schema.attack import Attacked

    Outcomes = Callable[[Case, LiveModel, Attacked], Iterator[Outcome]]


@dataclass(frozen=True, slots=True)
class Work:
    """What an attack puts through one model, at most: so many times all questions go through it.

    Attributes:
        matched: each with every answer of its group; of the base, which is not matched, with its own alone.
        own: each with its own answer.
        said: each is answered.
        steps: of training.
    """

    matched: float = 0
    own: float = 0
    said: float = 0
    steps: int = 0


@dataclass(frozen=True, slots=True)
class Attack:
    """One way to get answers out of a model.

    Attributes:
        name: of its file, too.
        tier: what an attacker must have: 0 prompts, 1 weights to run otherwise, 2 weights to train, 3 both models.
        needs: beside the model and the questions.
        changes: what it does.
        control: what its numbers are held against.
        cost: what goes through each model, at most, by an attacker's choices.
        source: where it comes from.
        decides: what it brings back can be evidence: it borrows nothing from the base.
        damages: it does harm to base and unlearned model alike, which is taken off its recovery.
        sides: models that it is made on.
        trains: it trains a copy of each model: the unlearned one first, whose trainings its controls repeat.
        together: so many models are in memory at one time.
    """

    name: str
    tier: int
    needs: str
    changes: str
    control: str
    cost: Callable[[Options], Work]
    source: str
    decides: bool = True
    damages: bool = False
    sides: tuple[Attacked, ...] = ("base", "unlearned", "reference", "twin")
    trains: bool = False
    together: int = 1

    @property
    def outcomes(self) -> Outcomes:
        """The function of its file."""
        found: Outcomes = import_module(f"ckdiff.attacks.{self.name}").outcomes
        return found


def relearn_work(options: Options) -> Work:
    """Of all arms and rates of `relearn`, should no answer come back before."""
    times = options.seeds * (len(options.rates) or 2)
    parts = [1 if arm == "others" else options.folds for arm in options.arms]
    measured = options.steps.bit_length() + 1
    return Work(
        # A part of the questions is read with a part of the answers.
        matched=times * measured * sum(1 / part for part in parts),
        said=times * 3 * len(parts),
        steps=times * options.steps * sum(parts),
    )


ATTACKS: dict[str, Attack] = {
    row.name: row
    for row in (
        Attack(
            "forms",
            0,
            "prompts",
            "the same questions in other clothes",
            "the same forms on the base and the reference",
            lambda options: Work(matched=8, said=8),
            "Hu et al. 2024, arXiv:2406.13356; Łucki et al. 2024, arXiv:2409.18025",
        ),
        Attack(
            "samples",
            0,
            "prompts",
            "answers sampled at temperature 1",
            "base, reference",
            lambda options: Work(said=options.samples),
            "leak@k, arXiv:2511.04934",
        ),
        Attack(
            "choice",
            0,
            "multiple-choice questions (--choices)",
            "the right one of given answers is picked",
            "base, reference, guessing",
            lambda options: Work(own=4),
            "Li et al. 2024, arXiv:2403.03218",
            decides=False,
        ),
        Attack(
            "quantise",
            1,
            "the weights",
            "int8 and int4 by row and in groups of 64, NF4 in blocks of 64, Q8_0 and Q4_0 of GGUF",
            "the same of the base, whose damage is taken off",
            lambda options: Work(matched=7),
            "Zhang et al. 2024, arXiv:2410.16454",
            damages=True,
        ),
        Attack(
            "prune",
            1,
            "the weights",
            "the smallest 10, 20, 30 % of every matrix set to zero",
            "the same of the base, whose damage is taken off",
            lambda options: Work(matched=3),
            "Łucki et al. 2024, arXiv:2409.18025",
            damages=True,
        ),
        Attack(
            "blend",
            1,
            "both models' weights",
            "a tenth, a quarter and half of the way back to the base",
            "it borrows from the base, and never decides",
            lambda options: Work(own=3),
            "Łucki et al. 2024, arXiv:2409.18025",
            decides=False,
            sides=("unlearned",),
        ),
        Attack(
            "relearn",
            2,
            "the weights, and memory to train them",
            "a few steps of training on other facts, or on a part of these",
            "the same trainings of the reference, the base, and a suppressed copy of the base",
            relearn_work,
            "Deeb and Roger 2024, arXiv:2410.08827; Łucki et al. 2024, arXiv:2409.18025",
            trains=True,
        ),
        Attack(
            "ablate",
            2,
            "the weights, and the base's states",
            "the mean difference between the states of both taken out of every layer's outputs",
            "20 random directions, the same of the base and the reference, a suppressed copy of the base",
            lambda options: Work(matched=2, own=21, said=2),
            "Arditi et al. 2024, arXiv:2406.11717; Łucki et al. 2024, arXiv:2409.18025",
        ),
        Attack(
            "lens",
            2,
            "the weights, and the base's unembedding",
            "each layer's output read by the base's final norm and unembedding",
            "the same of the base and the reference; it over-reports erasure, and never decides",
            lambda options: Work(own=1),
            "Łucki et al. 2024, arXiv:2409.18025",
            decides=False,
            sides=("base", "unlearned", "reference"),
        ),
        Attack(
            "guide",
            3,
            "both models",
            "what the base says and the unlearned model does not, said more loudly",
            "weight 1 is the base; a warning about disclosure, which never decides",
            lambda options: Work(own=2 * 3, said=2 * 3),
            "Wu et al. 2025, arXiv:2505.24379",
            decides=False,
            sides=("unlearned",),
            together=2,
        ),
    )
}
"""Every attack by name, tier after tier."""
