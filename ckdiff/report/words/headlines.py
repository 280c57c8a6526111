"""What each label means to somebody who never read the paper, and what to do then: `HEADLINES["suppressed"].action`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ckdiff.report.schema.verdict import Knowledge, Label, Outcome


class Headline(NamedTuple):
    """A label for people: what it says, what that means, and what to do."""

    title: str
    meaning: str
    action: str


TO_DO: dict[Outcome, str] = {
    "passed": "The policy is met, and nothing that it asks stands against a release. Beyond what it asks: ",
    "failed": "Do not release: the policy is not met. ",
    "inconclusive": "Do not release yet: what the policy asks for is not shown. Measure what is lacking. ",
}
"""What to do by the outcome of a gate, before what the finding itself asks for."""

NEXT: dict[Knowledge, str] = {
    "still there": "Unlearn it anew by other means, and audit the new model with the same options.",
    "not recovered": "Set it beside a model that never knew (--reference MODEL).",
    "gone": "Sign the report (`ckdiff attest`).",
    "never there": "Ask questions that the base answers.",
}
"""What to do next by what became of the knowledge; where it is unknown, what is lacking says it."""

BY_OTHER_MEANS = "by other means and "
LESS_DAMAGE = (
    "Unlearn it anew {}with less damage: fewer steps or a lower rate, and more training on what is to stay. Audit the"
    " new model with the same options."
)
"""What to do next, whatever became of the knowledge, where a gate failed by what else was lost."""

UNFIT = "Do not release it as unlearned"
"""How the advice of a label begins that a gate has said already where it did not pass."""

HEADLINES: dict[Label, Headline] = {
    "identical": Headline(
        "The two checkpoints are the same",
        "Everything that was compared is equal, so that nothing can have been unlearned.",
        "Both are the same model: check that the right two were given. If they were, the unlearning did not happen.",
    ),
    "no effect on these questions": Headline(
        "The answers did not change beyond rounding",
        "The unlearned model still says what the base says. If something was to be unlearned, these questions do not"
        " show that it was.",
        "Do not release it as unlearned. Ask more questions, and more directly about what was to go.",
    ),
    "suppressed": Headline(
        "The base's inner states bring the answers back, no weight undone",
        "With the base's inner states put in place the answers return, while every weight of the unlearned model"
        " stays as it is: no weight that was tested had to be undone. That says what suffices, not what the unlearned"
        " model knows by itself.",
        "Do not release it as unlearned: whatever makes its inner states the base's again may bring the answers back.",
    ),
    "values edited": Headline(
        "Value vectors were changed, and they alone explain it",
        "The edit is in the value vectors, the weights in which a model is thought to store facts. That the answers"
        " return with the base's does not say that they are nowhere else in the unlearned model.",
        "Read what is said of the knowledge, and ask the same facts in other words before you call it erased.",
    ),
    "keys edited": Headline(
        "Keys were changed, and they alone explain it",
        "The edit is in the keys, the weights that decide when a value vector is used; the value vectors need not be"
        " put back.",
        "Do not call it erased. Look at which layers were edited, and ask the same facts in other words.",
    ),
    "attention rerouted": Headline(
        "Attention was changed, and it alone explains it",
        "The edit is in how the model moves information between words; the MLPs' weights need not be put back.",
        "Do not call it erased. Look at which layers were edited, and ask the same facts in other words.",
    ),
    "ancillary": Headline(
        "Only the edges of the model were changed, or only they explain it",
        "The edit is in the embedding, the norms or the unembedding, around the layers. It is undone by putting these"
        " few weights back.",
        "Do not release it as unlearned.",
    ),
    "mixed": Headline(
        "No single part of the model carries the effect",
        "What was put back alone brings some of the answers back, and nothing brings enough of them. How much each part"
        " brings stands below.",
        "Do not call it erased on this evidence: part of it can be undone. Read the shares.",
    ),
    "not localised": Headline(
        "Nothing that was put back brings the answers back",
        "No state and no weights that were put back bring the answers back: the model was trained anew, changed in"
        " many places at once, or destroyed. The reason says what the weights look like.",
        "That is no proof of erasure. Read what is said of the knowledge, and the side effects: a destroyed model has"
        " lost the unrelated answers, too.",
    ),
    "inconclusive": Headline(
        "The evidence is not enough for a verdict",
        "A check of the measurement failed, the figures are too uncertain, or what is needed was not measured. This"
        " says nothing in favour of the checkpoint.",
        "Do not take it for a pass. Measure what is listed as not measured, and judge again.",
    ),
}
