"""Records of a verdict: its label, the rules that it rests on, and a gate."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, get_args

from ckdiff.report.schema.brief import Brief
from ckdiff.report.schema.layout import As, Merged, Rank, Row, Rows

Label = Literal[
    "identical",
    "no effect on these questions",
    "suppressed",
    "values edited",
    "keys edited",
    "attention rerouted",
    "ancillary",
    "mixed",
    "not localised",
    "inconclusive",
]


LABELS: tuple[Label, ...] = get_args(Label)
"""Every label of a verdict; what each one means stands in `audit.verdict`."""


Knowledge = Literal["still there", "not recovered", "gone", "never there", "unknown"]


KNOWLEDGE: tuple[Knowledge, ...] = get_args(Knowledge)
"""Everything that a verdict can say of the knowledge itself; when it does stands in `audit.verdict.knowledge`."""


Outcome = Literal["passed", "failed", "inconclusive"]


OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


Sense = Literal["at_least", "at_most", "shown"]


@dataclass(frozen=True, slots=True)
class RuleResult:
    """One rule of the verdict that was looked at.

    Attributes:
        name: of the rule, a key of `audit.rules.RULES`.
        fired: it holds on this report. Rules that did not fire are kept too: they say what was ruled out.
        text: in plain words what was looked at, with its figures.
        value: the figure that was held against the threshold: of an interval the end that counts. NaN: no one figure.
        threshold: the documented number, or NaN.
        sense: whether value must be at least or at most the threshold; "shown" where there is no threshold.
    """

    name: str
    fired: bool
    text: str
    value: float
    threshold: float
    sense: Sense


@dataclass(frozen=True, slots=True)
class Explanation:
    """How much of the effect one mode explains in one direction: a window (or the whole model) as the verdict read it.

    Attributes:
        mode, variant, direction: of the run.
        first, last: the layers of the window, both included; 0 and the last layer for the whole model.
        kl, kl_low, kl_high: krs_kl there, and its simultaneous band over all windows and modes of the direction; NaN
            where it was not measured.
        centred, centred_low, centred_high: the same of krs_centred, with the band over the windows of its own curve.
        decisive: the verdict rests on it.
        js: krs_js there, by a loss that has a bound; NaN where it was not measured.
        returned: the share of the lost answers that come back whole, token by token; in direction "break" of those that
            the base no longer gives; NaN where no answer was lost.
    """

    mode: str
    variant: str
    direction: str
    first: int
    last: int
    kl: float
    kl_low: float
    kl_high: float
    centred: float
    centred_low: float
    centred_high: float
    decisive: bool
    js: float = math.nan
    returned: float = math.nan


@dataclass(frozen=True, slots=True)
class GateCheck:
    """One requirement of a policy, and whether the report meets it.

    Attributes:
        name: the policy's key, such as "fail.labels" or "require.questions".
        outcome: "inconclusive": the report lacks what the requirement is about.
        text: in plain words what was asked, and what was found.
        value: the figure that was held against the threshold, or NaN.
        threshold: the policy's number, or NaN.
    """

    name: str
    outcome: Outcome
    text: str
    value: float
    threshold: float


@dataclass(frozen=True, slots=True, repr=False)
class Gate(Brief):
    """What a policy says about a report.

    Attributes:
        policy: the policy's text, as it was read (TOML), so that the gate can be judged again.
        digest: sha256 of that text in UTF-8.
        source: name of the policy's file, for people.
        outcome: the worst of the checks; "failed" is worse than "inconclusive", and no checks at all are inconclusive.
        checks: every requirement of the policy, in its order.
        files: digests of what the files hold that its `[measure]` names, by key, as they were when it was judged.
        notes: plain sentences about the policy itself.
    """

    GIST = ("outcome",)

    policy: Annotated[str, Row("policy")]
    digest: Annotated[str, As("policy_digest")]
    source: Annotated[str, As("policy_source")]
    outcome: Annotated[Outcome, As("gate"), Rank(-1)]
    checks: Annotated[tuple[GateCheck, ...], Rows("check")]
    files: Annotated[Mapping[str, str], As("policy_files")] = field(default_factory=dict)
    notes: Annotated[tuple[str, ...], As("policy_notes"), Rows("note")] = ()


@dataclass(frozen=True, slots=True, repr=False)
class Verdict(Brief):
    """What the report means: where the effect lives, what became of the knowledge, and everything that both rest on.

    Attributes:
        label: one of `LABELS`.
        reason: one or two plain sentences: what was found, in which component and layers, and how sure that is.
        component: the component or state that carries the effect ("value vectors", "coefficients", ...); "" for none.
        layers: the layers of the smallest set of windows that explains the effect; empty where there is none.
        explained, explained_low, explained_high: krs_kl of what carries it, restored, and the band it rests on; NaN
            where nothing does.
        score: how clearly the value vectors still hold it, in [0, 1]: R (1 - B) c with R krs_kl of both the base's
            states put back in the whole model, B that of the unlearned value vectors broken into the base, and c the
            greatest cosine of keys, value vectors and attention. Near 1 where the knowledge is held back; low where the
            value vectors were edited, where it is gone, and where the model was trained anew. NaN: not measured.
        rules: every rule that was looked at.
        explanations: a row a mode and direction.
        side_effects: plain sentences about what else changed.
        unmeasured: plain sentences about what was not measured, and with which command it would be.
        detectable: the smallest share of changed answers that so many questions would have shown with 95 % certainty;
            NaN without questions.
        gate: what a policy says, or None where none was given.
        knowledge: what became of the knowledge, one of `KNOWLEDGE`: it rests on what the unlearned model says by
            itself, and never on states that were borrowed from the base.
        knowledge_reason: what was found, in plain sentences.
        lacking: plain sentences about what `knowledge` would need, each with the command that measures it.
        edition: of the rules and sentences that gave it; 1 where a file says nothing of it.
    """

    GIST = ("label", "knowledge", "gate")

    label: Label
    reason: str
    component: str
    layers: Annotated[tuple[int, ...], Rows("layer")]
    explained: float
    explained_low: float
    explained_high: float
    score: float
    rules: Annotated[tuple[RuleResult, ...], Rows("rule")]
    explanations: Annotated[tuple[Explanation, ...], Rows("explanation")]
    side_effects: Annotated[tuple[str, ...], Rows("sentence")]
    unmeasured: Annotated[tuple[str, ...], Rows("sentence")]
    detectable: float
    gate: Annotated[Gate | None, Merged()] = None
    knowledge: Knowledge = "unknown"
    knowledge_reason: str = ""
    lacking: Annotated[tuple[str, ...], Rows("sentence")] = ()
    edition: int = 1
