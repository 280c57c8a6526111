"""How attacks are chosen, and which model that never knew stands beside: options and the groups that hold them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from ckdiff.attacks.table import ATTACKS
from ckdiff.options import ATTACKING, SEED, USUAL_TIERS, Option, OptionError, names, numbers


def tiers(text: str) -> tuple[int, ...]:
    """The tiers that a text names.

    >>> tiers("0,2")
    (0, 2)
    """
    return numbers("--tier", text, "tier", "0,1,2")


def no_tiers(text: str) -> tuple[int, ...]:
    """The tiers that a text names, or none.

    >>> no_tiers("none"), no_tiers("0-1")
    ((), (0, 1))
    """
    return () if text.strip() == "none" else tiers(text)


REFERENCE = Option("--reference", "A model that never knew what was to be unlearned.", ATTACKING)
KINDS = ("retrained", "before")
KIND = Option(
    "--reference-kind",
    "retrained: trained anew without it; before: before it was learned.",
    ATTACKING,
    known=KINDS,
    read=str,
)
MARGINS = Option(
    "--margins",
    "A report of a second model that never knew, beside the same reference: its margins.",
    ATTACKING,
    rare=True,
)
TIER = Option(
    "--tier",
    "Which tiers, such as 0,1.",
    ATTACKING,
    least=0,
    most=max(row.tier for row in ATTACKS.values()),
    read=tiers,
)
ATTACK = Option(
    "--attack",
    f"{', '.join(ATTACKS)}, or all; else all of the tiers.",
    ATTACKING,
    known=ATTACKS,
    read=lambda text: names(text, ATTACKS),
)
ARMS = ("others", "half", "scrambled")
"""What `attacks.relearn` trains on."""
TRAININGS = ("full", "lora")
MOST_RATE = 1.0


def rates(text: str) -> tuple[float, ...]:
    """Learning rates.

    >>> rates("3e-5, 1e-4")
    (3e-05, 0.0001)
    """
    try:
        found = tuple(dict.fromkeys(float(part) for part in text.split(",")))
    except ValueError:
        raise OptionError(f"--rates: {text[:40]!r} is no list of rates; write 3e-5,1e-4") from None
    if not all(0 < rate <= MOST_RATE for rate in found):
        raise OptionError(f"--rates: {text[:40]!r} has one that is not above 0 and at most {MOST_RATE:g}")
    return found


TRAINING = Option(
    "--training", "How relearning trains: full, or lora (less memory).", ATTACKING, known=TRAININGS, rare=True
)
ARM = Option(
    "--arms",
    "What relearning trains on: others, half, scrambled, or all.",
    ATTACKING,
    known=ARMS,
    read=lambda text: names(text, ARMS),
    rare=True,
)
RATES = Option(
    "--rates", "Of relearning, such as 3e-5,1e-4; else by the model's width.", ATTACKING, read=rates, rare=True
)
TRAIN_STEPS = Option("--train-steps", "Of relearning, at most.", ATTACKING, least=1, most=10_000, rare=True)
FOLDS = Option("--folds", "Parts in which relearning holds facts out.", ATTACKING, least=2, most=100, rare=True)
TRAIN_SEEDS = Option("--train-seeds", "Trainings of each kind.", ATTACKING, least=1, most=100, rare=True)
COMPAT = Option(
    "--compat", "Patch the last layer behind the final norm, as the published code does.", ATTACKING, rare=True
)
SAMPLES = Option("--samples", "Answers sampled for each question.", ATTACKING, least=1, most=10_000, rare=True)


@dataclass(frozen=True)
class Attacking:
    """Which attacks, and beside what.

    Attributes:
        tiers: 0 prompts, 1 weights run otherwise, 2 weights trained, 3 both models.
        attacks: names of `attacks.table`, whatever their tier; None: all of the tiers.
        reference: a model that never knew, or None.
        reference_kind: how it came about, or None.
        margins: a report of a second model that never knew, or None.
        samples: answers sampled for each question.
        seed: of whatever is drawn.
        training: how `relearn` trains.
        arms: what it trains on.
        rates: its learning rates; None: those that suit the model's width.
        train_steps: at most so many.
        folds: parts in which it holds facts out.
        train_seeds: trainings of each kind.
    """

    tiers: Annotated[tuple[int, ...], TIER] = USUAL_TIERS
    attacks: Annotated[tuple[str, ...] | None, ATTACK] = None
    reference: Annotated[str | None, REFERENCE] = None
    reference_kind: Annotated[Literal["retrained", "before"] | None, KIND] = None
    margins: Annotated[str | None, MARGINS] = None
    samples: Annotated[int, SAMPLES] = 16
    seed: Annotated[int, SEED.but(panel=ATTACKING)] = 0
    training: Annotated[str, TRAINING] = "full"
    arms: Annotated[tuple[str, ...], ARM] = ARMS
    rates: Annotated[tuple[float, ...] | None, RATES] = None
    train_steps: Annotated[int, TRAIN_STEPS] = 20
    folds: Annotated[int, FOLDS] = 2
    train_seeds: Annotated[int, TRAIN_SEEDS] = 1

    @property
    def chosen(self) -> tuple[str, ...]:
        """Names of the attacks, in the order of the table."""
        return tuple(
            name for name, row in ATTACKS.items() if (name in self.attacks if self.attacks else row.tier in self.tiers)
        )


@dataclass(frozen=True)
class Reference:
    """A model that never knew what was to be unlearned.

    Attributes:
        reference: as `base`.
        reference_kind: how it came about, or None.
    """

    reference: Annotated[str, REFERENCE] = ""
    reference_kind: Annotated[Literal["retrained", "before"] | None, KIND] = None


TRIED = TIER.but("Tiers, such as 0,1,2, or none; else 0,1 and those of the policy.", read=no_tiers)


@dataclass(frozen=True)
class Tried:
    """Which attacks an audit makes, and beside what.

    Attributes:
        tiers: of `attacks.table`; an empty tuple: nothing is attacked; None: 0 and 1, and what the policy asks for.
        reference: a model that never knew, or None.
        reference_kind: how it came about, or None.
        margins: a report of a second model that never knew, or None.
    """

    tiers: Annotated[tuple[int, ...] | None, TRIED] = None
    reference: Annotated[str | None, REFERENCE] = None
    reference_kind: Annotated[Literal["retrained", "before"] | None, KIND] = None
    margins: Annotated[str | None, MARGINS] = None
