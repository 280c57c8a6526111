"""The frozen specs of the calls: which pair, which questions, which settings.

Each is the sum of its parts, which several specs share, and the command line has an option for each field that names
one: what a spec can say, a user can type.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from ckdiff.calls.attacking import COMPAT, MARGINS, Attacking, Reference, Tried
from ckdiff.modes import DIRECTIONS, MODES
from ckdiff.options import (
    ASKED,
    BATCH_SIZE,
    CONCEPT,
    DEVICE,
    LENGTH,
    MOST_UNRELATED,
    QUESTION,
    QUESTIONS,
    SEED,
    TOKENIZER,
    UNRELATED,
    USUAL_TIERS,
    Argument,
    Option,
    OptionError,
)
from ckdiff.scoring.settings import DTYPE, NEEDED, Settings
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import Any

    from ckdiff.audit.gate.records import Policy


ADAPTER_BASE = Option("--adapter-base", "Base model of a LoRA adapter whose config names none.", rare=True)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How checkpoints are read.

    Attributes:
        hash: compute the sha256 of every weight file.
        adapter_base: the base model of adapters, where their own config does not name one that can be found.
    """

    hash: Annotated[bool, Option("--hash/--no-hash", "sha256 of every weight file, in the report.", rare=True)] = True
    adapter_base: Annotated[str | None, ADAPTER_BASE] = None


@dataclass(frozen=True)
class Pair(Reading):
    """Two checkpoints.

    Attributes:
        base: a directory, a .safetensors file, an index file, an adapter directory, or a hub id with @revision.
        unlearned: the same.
    """

    base: Annotated[str, Argument("The model before: directory, file, adapter or hub id@rev.")]
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
class HeldOut:
    """Questions with answers that no model here was trained on.

    Attributes:
        holdout: a file of them, or None.
    """

    holdout: Annotated[
        Path | None,
        Option("--holdout", "Questions with answers that nothing was trained on: min-k, PrivLeak.", ASKED, rare=True),
    ] = None


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
class BehaveSpec(Reference, HeldOut, Beside, Target, Pair):
    """The spec of `behave`; without questions, nothing is asked about what was to be unlearned.

    Attributes:
        settings: tokens, template, device and the rest; what is about probes alone is not looked at.
    """

    settings: Settings = field(default_factory=Settings)


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
class DepthSpec(Reference, Target, Pair):
    """The spec of `depth`.

    Attributes:
        compat: patch the last layer behind the final norm, as the published code does.
        margins: a report of the depth of a second model that never knew, or None.
        unrelated: of the concept the unrelated questions.
        settings: tokens, template, device and the rest; what is about probes alone is not looked at.
    """

    compat: Annotated[bool, COMPAT] = False
    margins: Annotated[str | None, MARGINS] = None
    unrelated: bool = False
    settings: Settings = field(default_factory=Settings)


DISCOVERING = "Where it looks"
"""The heading of these options in `--help`."""


@dataclass(frozen=True)
class Discovering:
    """Where discovery looks, and how it runs.

    Attributes:
        texts: a file of texts or questions; None: they are sampled from the base.
        candidates: a file of topics; None: ckdiff's own list, and with texts words that they hold.
        sampled: texts of each kind, where none are given.
        length: tokens of a text, at most.
        seed: of samples and noise.
        tokenizer: a directory to take the tokenizer from, where the base has none.
        device, dtype, batch_size: how both models run.
    """

    texts: Annotated[
        Path | None, Option("--texts", "A file of texts, or questions; else sampled from the base.", DISCOVERING)
    ] = None
    candidates: Annotated[
        Path | None, Option("--candidates", "A file of topics: a name a line, or concepts.", DISCOVERING)
    ] = None
    sampled: Annotated[
        int, Option("--sampled", "Texts of each kind that are sampled.", DISCOVERING, least=4, most=10_000)
    ] = 16
    length: Annotated[int, LENGTH.but(panel=DISCOVERING, least=16, most=4096)] = 40
    seed: Annotated[int, SEED.but("Of samples and noise.", DISCOVERING)] = 0
    tokenizer: Annotated[Path | None, TOKENIZER.but(panel=DISCOVERING)] = None
    device: Annotated[str, DEVICE] = "auto"
    dtype: Annotated[str, DTYPE] = "float32"
    batch_size: Annotated[int, BATCH_SIZE.but("Texts that go through a layer together.")] = 32


@dataclass(frozen=True)
class DiscoverSpec(Discovering, Pair):
    """The spec of `discover`."""


@dataclass(frozen=True)
class Held:
    """The policy that a report is held against.

    Attributes:
        policy: None for a verdict without a gate.
    """

    policy: Policy | None = None


def audit_settings() -> Settings:
    """How an audit measures where nobody says otherwise."""
    return Settings(modes=tuple(MODES), variants=("open", "whole"), directions=DIRECTIONS, windows=NEEDED)


DISCOVER = Option("--discover", "Look for what was lost where nobody asks, too.")


@dataclass(frozen=True)
class AuditSpec(Tried, HeldOut, Beside, Target, Held, Pair):
    """The spec of `audit_pair`.

    Attributes:
        settings: of the probe, and of the answers.
        discover: look for loss where nobody asked as well.
    """

    settings: Settings = field(default_factory=audit_settings)
    discover: Annotated[bool, DISCOVER] = False

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

    @property
    def attack(self) -> AttackSpec | None:
        """Its attacks, or None where none is made."""
        tiers = usual_tiers(self.policy) if self.tiers is None and self.probe is not None else self.tiers
        return AttackSpec(**_common(self, AttackSpec) | {"neutral": False, "tiers": tiers}) if tiers else None


def usual_tiers(policy: Policy | None) -> tuple[int, ...]:
    """The tiers that an audit attacks by itself: what needs no training, and whatever the policy requires."""
    from ckdiff.attacks.table import ATTACKS

    wanted = {} if policy is None else policy.checks
    named = (ATTACKS[name].tier for name in wanted.get("require.attacks", ()) if name in ATTACKS)
    return tuple(sorted({*USUAL_TIERS, *wanted.get("require.tiers", ()), *named}))


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

    found = {} if policy is None else dict(policy.measure)
    for name in FILES:
        if policy is not None and isinstance(found.get(name), str):
            found[name] = _named_by(
                policy, name, found[name], {*given, *(("questions",) if given.get("asked") else ())}
            )
    if "questions" in given and "concept" not in given:
        # A concept is one of a file; with another file the policy's means nothing.
        found.pop("concept", None)
    if given.get("asked") and "questions" not in given:
        # What is asked on the command line goes before the policy's file; two on the command line are refused.
        found.pop("questions", None)
    return found | dict(given)


def _named_by(policy: Policy, name: str, text: str, given: Collection[str]) -> Path:
    """The file that a policy names, where nobody gave another one.

    Raises:
        OptionError: it is not there.
    """
    from ckdiff.hub import data_path, find_data_id

    folder = policy.folder or Path()
    place = data_path(folder, text)
    if name not in given and not find_data_id(text, folder) and not place.exists():
        where = f"{printable(place)}: is not there; measure.{name} of the policy {printable(policy.source)} names it"
        raise OptionError(f"{where}, from its own directory on: mend that, or give --{name} FILE")
    return place


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
