"""The frozen specs of the calls: which pair, which questions, which settings.

Each is the sum of its parts, which several specs share, and the command line has an option for each field that names
one: what a spec can say, a user can type.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from ckdiff.attacks.table import ATTACKS
from ckdiff.modes import DIRECTIONS, MODES
from ckdiff.options import (
    ASKED,
    CONCEPT,
    MOST_UNRELATED,
    QUESTION,
    QUESTIONS,
    SEED,
    UNRELATED,
    Argument,
    Option,
    OptionError,
    names,
    numbers,
)
from ckdiff.scoring.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ckdiff.audit.gate.records import Policy


ADAPTER_BASE = Option("--adapter-base", "Base model of a LoRA adapter whose config names none.")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How checkpoints are read.

    Attributes:
        hash: compute the sha256 of every weight file.
        adapter_base: the base model of adapters, where their own config does not name one that can be found.
    """

    hash: Annotated[bool, Option("--hash/--no-hash", "sha256 of every weight file, in the report.")] = True
    adapter_base: Annotated[str | None, ADAPTER_BASE] = None


@dataclass(frozen=True)
class Pair(Reading):
    """Two checkpoints.

    Attributes:
        base: a directory, a .safetensors file, an index file, an adapter directory, or a hub id with @revision.
        unlearned: the same.
    """

    base: Annotated[str, Argument("The model before: directory, file, index, adapter, or hub id@rev.")]
    unlearned: Annotated[str, Argument("The model after.")]


@dataclass(frozen=True)
class Target:
    """Questions about what was to be unlearned.

    Attributes:
        questions: a file of questions, in a format of `questions.formats`.
        asked: questions as texts.
        concept: which entry of the file.
    """

    questions: Annotated[Path | None, QUESTIONS] = None
    asked: Annotated[tuple[str, ...], QUESTION] = ()
    concept: Annotated[str | None, CONCEPT] = None


@dataclass(frozen=True)
class Beside:
    """Questions and texts beside those about what was to be unlearned.

    Attributes:
        unrelated: a file of questions about anything else; without it those of the questions' own file, else the
            bundled general questions.
        most_unrelated: how many of them are asked, from the first on.
        choices: a file of multiple-choice questions (WMDP, MMLU), or None.
        neutral: a file of neutral texts; True for the bundled ones, False for none.
    """

    unrelated: Annotated[Path | None, UNRELATED] = None
    most_unrelated: Annotated[int, MOST_UNRELATED] = 50
    choices: Annotated[Path | None, Option("--choices", "Multiple-choice questions: WMDP, MMLU, others.", ASKED)] = None
    neutral: Path | bool = True


@dataclass(frozen=True)
class CompareSpec(Pair):
    """The spec of `compare`."""


@dataclass(frozen=True)
class ProbeSpec(Target, Pair):
    """The spec of `probe`; without questions, a bundled set of general questions is asked.

    Attributes:
        unrelated: of the concept the unrelated questions.
        settings: modes, variants, directions, window and the rest.
    """

    unrelated: bool = False
    settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True)
class BehaveSpec(Beside, Target, Pair):
    """The spec of `behave`; without questions, nothing is asked about what was to be unlearned.

    Attributes:
        settings: tokens, template, device and the rest; what is about probes alone is not looked at.
    """

    settings: Settings = field(default_factory=Settings)


ATTACKING = "Attacks"
"""The heading of these options in `--help`."""


def tiers(text: str) -> tuple[int, ...]:
    """The tiers that a text names.

    >>> tiers("0,2")
    (0, 2)
    """
    return numbers("--tier", text)


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
    "retrained: trained anew without it; before: from before it was learned.",
    ATTACKING,
    known=KINDS,
)
TIER = Option("--tier", "Which tiers, such as 0,1.", ATTACKING, least=0, most=3, read=tiers)
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


TRAINING = Option("--training", "How relearning trains: full, or lora (less memory).", ATTACKING, known=TRAININGS)
ARM = Option(
    "--arms",
    "What relearning trains on: others, half, scrambled, or all.",
    ATTACKING,
    known=ARMS,
    read=lambda text: names(text, ARMS),
)
RATES = Option("--rates", "Of relearning, such as 3e-5,1e-4; else by the model's width.", ATTACKING, read=rates)
TRAIN_STEPS = Option("--train-steps", "Of relearning, at most.", ATTACKING, least=1, most=10_000)
FOLDS = Option("--folds", "Parts in which relearning holds facts out.", ATTACKING, least=2, most=100)
TRAIN_SEEDS = Option("--train-seeds", "Trainings of each kind.", ATTACKING, least=1, most=100)
COMPAT = Option("--compat", "Patch the last layer behind the final norm, as the published code does.", ATTACKING)
SAMPLES = Option("--samples", "Answers sampled for each question.", ATTACKING, least=1, most=10_000)


@dataclass(frozen=True)
class Attacking:
    """Which attacks, and beside what.

    Attributes:
        tiers: 0 prompts, 1 weights run otherwise, 2 weights trained, 3 both models.
        attacks: names of `attacks.table`, whatever their tier; None: all of the tiers.
        reference: a model that never knew, or None.
        reference_kind: how it came about, or None.
        samples: answers sampled for each question.
        seed: of whatever is drawn.
        training: how `relearn` trains.
        arms: what it trains on.
        rates: its learning rates; None: those that suit the model's width.
        train_steps: at most so many.
        folds: parts in which it holds facts out.
        train_seeds: trainings of each kind.
    """

    tiers: Annotated[tuple[int, ...], TIER] = (0, 1)
    attacks: Annotated[tuple[str, ...] | None, ATTACK] = None
    reference: Annotated[str | None, REFERENCE] = None
    reference_kind: Annotated[Literal["retrained", "before"] | None, KIND] = None
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
class AttackSpec(Attacking, Beside, Target, Pair):
    """The spec of `attack`; neutral texts are not looked at.

    Attributes:
        settings: tokens, template, device and the rest; what is about probes alone is not looked at.
    """

    settings: Settings = field(default_factory=Settings)

    @property
    def behave(self) -> BehaveSpec:
        """Its questions to both models."""
        return BehaveSpec(**_common(self, BehaveSpec) | {"neutral": False})


@dataclass(frozen=True)
class Reference:
    """A model that never knew what was to be unlearned.

    Attributes:
        reference: as `base`.
        reference_kind: how it came about, or None.
    """

    reference: Annotated[str, REFERENCE] = ""
    reference_kind: Annotated[Literal["retrained", "before"] | None, KIND] = None


@dataclass(frozen=True)
class DepthSpec(Reference, Target, Pair):
    """The spec of `depth`.

    Attributes:
        compat: patch the last layer behind the final norm, as the published code does.
        unrelated: of the concept the unrelated questions.
        settings: tokens, template, device and the rest; what is about probes alone is not looked at.
    """

    compat: Annotated[bool, COMPAT] = False
    unrelated: bool = False
    settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True)
class Held:
    """The policy that a report is held against.

    Attributes:
        policy: None for a verdict without a gate.
    """

    policy: Policy | None = None


def audit_settings() -> Settings:
    """How an audit measures where nobody says otherwise."""
    return Settings(modes=tuple(MODES), variants=("open", "whole"), directions=DIRECTIONS)


TRIED = TIER.but("Attack as well, with these tiers, such as 0,1; or none.", read=no_tiers)


@dataclass(frozen=True)
class Tried:
    """Which attacks an audit makes, and beside what.

    Attributes:
        tiers: of `attacks.table`; none of them: nothing is attacked.
        reference: a model that never knew, or None.
        reference_kind: how it came about, or None.
    """

    tiers: Annotated[
        tuple[int, ...], TIER.but("Attack as well, with these tiers, such as 0,1; none.", read=no_tiers)
    ] = ()
    reference: Annotated[str | None, REFERENCE] = None
    reference_kind: Annotated[Literal["retrained", "before"] | None, KIND] = None

    @property
    def attacking(self) -> Attacking | None:
        """The attacks, all else as `attack` has it; None where none is made."""
        return Attacking(**_common(self, Tried)) if self.tiers else None


@dataclass(frozen=True)
class AuditSpec(Tried, Beside, Target, Held, Pair):
    """The spec of `audit_pair`.

    Attributes:
        settings: of the probe, and of the answers.
    """

    settings: Settings = field(default_factory=audit_settings)

    @property
    def probe(self) -> ProbeSpec | None:
        """Its probe, or None where no question was given."""
        if self.questions is None and not self.asked:
            return None
        return ProbeSpec(**_common(self, ProbeSpec) | {"unrelated": False})

    @property
    def behave(self) -> BehaveSpec:
        """Its questions to both models."""
        return BehaveSpec(**_common(self, BehaveSpec))


def _common(spec: Any, kind: type) -> dict[str, Any]:
    """The fields of a spec that another kind of spec has too."""
    return {one.name: getattr(spec, one.name) for one in fields(kind) if hasattr(spec, one.name)}


NAMES = {"prompt_template": "template", "chat_template": "chat"}
"""Keys of a policy's `[measure]` -> fields of `Settings`, where they are called otherwise."""


def measures_of(policy: Policy | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """The measures of an audit: those given, and for the rest those of the policy.

    Args:
        policy: whose paths begin in its own directory; None: nothing but what is given.
        given: keys of `measures.MEASURES`.
    """
    from ckdiff.audit.gate.measures import FILES
    from ckdiff.hub import data_path

    found = {} if policy is None else dict(policy.measure)
    for name in FILES:
        if policy is not None and isinstance(found.get(name), str):
            found[name] = data_path(policy.folder or Path(), found[name])
    if "questions" in given and "concept" not in given:
        # A concept is one of a file; with another file the policy's means nothing.
        found.pop("concept", None)
    if given.get("asked") and "questions" not in given:
        # What is asked on the command line goes before the policy's file; two on the command line are refused.
        found.pop("questions", None)
    return found | dict(given)


def questions_in(measures: Mapping[str, Any]) -> dict[str, Any]:
    """The part of `measures_of` that says what is asked: fields of `BehaveSpec`."""
    known = {one.name for one in fields(BehaveSpec)}
    return {name: value for name, value in measures.items() if name in known}


def settings_in(measures: Mapping[str, Any], plain: Settings) -> Settings:
    """The part of `measures_of` that says how it is measured.

    Args:
        measures: as `measures_of` gives them.
        plain: the settings of whatever is not said.

    Raises:
        CkdiffError: one of them names nothing.
    """
    known = {one.name for one in fields(Settings)}
    said = {NAMES.get(name, name): value for name, value in measures.items()}
    found = replace(plain, **{name: value for name, value in said.items() if name in known})
    found.check()
    return found
