"""The frozen specs of the calls: which pair, which questions, which settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ckdiff.modes import MODES
from ckdiff.scoring.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    from ckdiff.audit.gate.policy import Policy


@dataclass(frozen=True, slots=True)
class CompareSpec:
    """What to compare, and how.

    Attributes:
        base: a directory, a .safetensors file, an index file, an adapter directory, or a hub id with @revision.
        unlearned: the same.
        hash: compute the sha256 of every weight file.
        adapter_base: the base model of adapters, where their own config does not name one that can be found.
    """

    base: str
    unlearned: str
    hash: bool = True
    adapter_base: str | None = None


@dataclass(frozen=True, slots=True)
class ProbeSpec:
    """What to probe, and how.

    Attributes:
        base: as in `CompareSpec`; a probe needs a directory with config and tokenizer.
        unlearned: the same.
        questions: a file of questions, in a format of `questions.formats`.
        asked: questions as texts; with neither, a bundled set of general questions is asked.
        concept: which entry of the file.
        unrelated: of that entry the unrelated questions.
        settings: modes, variants, directions, window and the rest.
        hash: compute the sha256 of every weight file.
        adapter_base: the base model of adapters, where their own config does not name one that can be found.
    """

    base: str
    unlearned: str
    questions: Path | None = None
    asked: tuple[str, ...] = ()
    concept: str | None = None
    unrelated: bool = False
    settings: Settings = field(default_factory=Settings)
    hash: bool = True
    adapter_base: str | None = None


@dataclass(frozen=True, slots=True)
class BehaveSpec:
    """What to ask both models, and how.

    Attributes:
        base: as in `ProbeSpec`.
        unlearned: the same.
        questions: a file of questions about what was to be unlearned, as in `ProbeSpec`.
        asked: such questions as texts; with neither, none are asked.
        concept: which entry of the file.
        unrelated: a file of questions about anything else; without it those of the questions' own file, else the
            bundled general questions.
        most_unrelated: how many of them are asked, from the first on.
        choices: a file of multiple-choice questions (WMDP, MMLU), or None.
        neutral: a file of neutral texts; True for the bundled ones, False for none.
        settings: tokens, template, device and the rest; what is about probes alone is not looked at.
        hash: compute the sha256 of every weight file.
        adapter_base: the base model of adapters, where their own config does not name one that can be found.
    """

    base: str
    unlearned: str
    questions: Path | None = None
    asked: tuple[str, ...] = ()
    concept: str | None = None
    unrelated: Path | None = None
    most_unrelated: int = 50
    choices: Path | None = None
    neutral: Path | bool = True
    settings: Settings = field(default_factory=Settings)
    hash: bool = True
    adapter_base: str | None = None


VARIANTS = ("open", "whole")


@dataclass(frozen=True, slots=True)
class AuditSpec:
    """What to audit, and how.

    Attributes:
        base, unlearned: as in `ProbeSpec`.
        policy: what the report is held against, or None for a verdict without a gate.
        questions, asked, concept: questions about what was to be unlearned, as in `BehaveSpec`.
        unrelated, most_unrelated, choices, neutral: as in `BehaveSpec`.
        settings: of the probe, and of the answers.
        hash: compute the sha256 of every weight file.
        adapter_base: the base model of adapters, where their own config does not name one that can be found.
    """

    base: str
    unlearned: str
    policy: Policy | None = None
    questions: Path | None = None
    asked: tuple[str, ...] = ()
    concept: str | None = None
    unrelated: Path | None = None
    most_unrelated: int = 50
    choices: Path | None = None
    neutral: Path | bool = True
    settings: Settings = field(
        default_factory=lambda: Settings(modes=tuple(MODES), variants=VARIANTS, directions=("restore", "break"))
    )
    hash: bool = True
    adapter_base: str | None = None

    @property
    def probe(self) -> ProbeSpec | None:
        """Its probe, or None where no question was given."""
        if self.questions is None and not self.asked:
            return None
        asked = self.questions, self.asked, self.concept, False
        return ProbeSpec(self.base, self.unlearned, *asked, self.settings, self.hash, self.adapter_base)

    @property
    def behave(self) -> BehaveSpec:
        """Its questions to both models."""
        return BehaveSpec(
            self.base,
            self.unlearned,
            questions=self.questions,
            asked=self.asked,
            concept=self.concept,
            unrelated=self.unrelated,
            most_unrelated=self.most_unrelated,
            choices=self.choices,
            neutral=self.neutral,
            settings=self.settings,
            hash=self.hash,
            adapter_base=self.adapter_base,
        )


def measured(policy: Policy | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """What is measured, and how: what is given, and for the rest what the policy says.

    Args:
        policy: whose paths begin in its own directory; None: nothing but what is given.
        given: keys of `policy.MEASURES`.
    """
    from ckdiff.audit.gate.policy import PATHS
    from ckdiff.hub import data_path

    found = {} if policy is None else dict(policy.measure)
    for name in PATHS:
        if policy is not None and isinstance(found.get(name), str):
            found[name] = data_path(policy.folder, found[name])
    if "questions" in given and "concept" not in given:
        # A concept is one of a file; with another file the policy's means nothing.
        found.pop("concept", None)
    return found | dict(given)


def settings_of(measure: Mapping[str, Any], ways: Mapping[str, Any]) -> Settings:
    """The settings of the probe and of the answers.

    Args:
        measure: as `measured` gives it.
        ways: fields of `Settings` that say how, not what.

    Raises:
        CkdiffError: one of them names nothing.
    """
    from ckdiff.modes import DIRECTIONS
    from ckdiff.scoring.settings import DEFAULT_TEMPLATE

    found = Settings(
        modes=tuple(measure.get("modes", MODES)),
        variants=tuple(measure.get("variants", VARIANTS)),
        directions=tuple(measure.get("directions", DIRECTIONS)),
        window=measure.get("window", 5),
        tokens=measure.get("tokens", 30),
        template=measure.get("prompt_template", DEFAULT_TEMPLATE),
        chat=measure.get("chat_template", False),
        given_answers=measure.get("given_answers", False),
        neurons=measure.get("neurons", False),
        dtype=measure.get("dtype", "float32"),
        **ways,
    )
    found.check()
    return found
