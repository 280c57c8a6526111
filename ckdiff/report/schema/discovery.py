"""Records of what was unlearned, found without being told: lost words, candidates, and what both models say of one."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from ckdiff.report.schema.behaviour import Mean
from ckdiff.report.schema.brief import Brief
from ckdiff.report.schema.layout import Ragged, Rows, Scale, Share
from ckdiff.shapes import Axes, Float64, Int64

Outcome = Literal["trace", "none", "ruined"]

TURNED, WRITTEN = "turned", "written"
"""Sources of words in the weights, and forms in which nobody is asked about a candidate."""
SIGNIFICANT = 0.05
"""A word or a candidate is named where its corrected p-value is below."""
LEAST_TEXTS = 4
"""Of fewer texts of a kind no word is told from chance."""


@dataclass(frozen=True, slots=True)
class TextKind:
    """Texts of one kind, and what noise of the unlearned model's size loses on them.

    Attributes:
        name: given, asked, sampled, invented, chat or random.
        texts: how many.
        positions: tokens whose prediction was compared.
        kl: mean KL(base || unlearned) at them, in nats.
        drop: mean log p base less log p unlearned of the tokens that stand there, in nats.
        null_kl: the same KL of the noisy copies, in nats.
        threshold, excess, share: the tail of the rates that tokens reach in noisy copies, see `scoring.discovery.Tail`.
    """

    name: str
    texts: int
    positions: int
    kl: float
    drop: float
    null_kl: float
    threshold: float
    excess: float
    share: Share


@dataclass(frozen=True, slots=True)
class LostWord:
    """A token that the unlearned model lost (or gained) at many positions.

    Attributes:
        word: the word that it begins, as the base goes on with it; a piece of a word has … before it.
        token: its id.
        kind: of the texts where it stands out most.
        rate: share of the positions of these texts at which it is among the hundred most lost, each text alike, with
            its 95 % interval over texts.
        p: how often noise alone takes any token so far, corrected for the number of tokens that are said and of
            kinds, in [0, 1]; NaN where there are too few texts to tell.
        content: it begins a word that says something by itself.
        where: the end of the text behind which it was lost most.
    """

    word: str
    token: int
    kind: str
    rate: Mean
    p: float
    content: bool
    where: str


@dataclass(frozen=True, slots=True)
class WeightWord:
    """A word that the change of the weights spells: a lead without a p-value, since random changes spell words as well.

    Attributes:
        word: the word that the token begins.
        token: its id.
        source: "turned": the unembedding's row turned away from what it reads; "written": the value matrices changed
            most in its direction.
        score: turned: -cos of the row's change and the base's mean input of the unembedding, in [-1, 1]; written: how
            far it stands out in what their strongest directions write, in standard deviations over tokens.
    """

    word: str
    token: int
    source: str
    score: float


@dataclass(frozen=True, slots=True)
class LostGroup:
    """Lost words that go together: at the same positions.

    Attributes:
        words: those of content, the ones that stand out most first; two or more.
        together: mean over its pairs of the share of all positions, each text alike, at which both are lost.
        alike: mean over its pairs of the positions at which both are lost over those at which either is (Jaccard).
        p: how often noise alone takes any pair of tokens so far together, corrected for their number; NaN where there
            are too few texts to tell.
    """

    words: Annotated[tuple[str, ...], Ragged("member")]
    together: Share
    alike: Share
    p: float


@dataclass(frozen=True, slots=True)
class GroupSpan:
    """A place in the texts where most words of a group are lost.

    Attributes:
        group: its number, from 0.
        kind: of the text.
        before: the end of the text before it.
        text: what stands there.
        lost: mean over its positions of the share of the group's words that are lost.
    """

    group: int
    kind: str
    before: str
    text: str
    lost: Share


@dataclass(frozen=True, slots=True)
class LayerFall:
    """What a layer's MLP writes less where the found words are lost.

    Attributes:
        layer: its number.
        base: length of what the base's MLP writes there on average beyond what it writes elsewhere in the same texts.
        fall: length of the difference of that from the same of the unlearned model's.
    """

    layer: int
    base: float
    fall: float


@dataclass(frozen=True, slots=True)
class NeuronFall:
    """A neuron whose response fell where the found words are lost.

    Attributes:
        layer: its number.
        neuron: the number of its value vector in the layer.
        base: how much more it writes there than elsewhere in the same texts, in the base along its own value vector, on
            average: difference of coefficients times length.
        fall: how much less of that the unlearned model's writes along the same direction.
        tokens: those that the base's value vector, with the sign of its coefficient there, raises most.
    """

    layer: int
    neuron: int
    base: float
    fall: float
    tokens: Annotated[tuple[str, ...], Ragged("raised")]


@dataclass(frozen=True, slots=True)
class CandidateRow:
    """A topic that may have been unlearned.

    Attributes:
        name: of the topic.
        has_text: its file holds a text about it, which was scored, too.
        screen: mean KL(base || unlearned) behind its name, in nats; NaN where nobody screened.
        asked: it was asked about in every form; else the screening left it out.
        score: mean over forms of how far its drop stands out among the others'; NaN where it was not asked about.
        drop: mean over forms of log p base less log p unlearned a token of what the base says about it, in nats.
        p: how often chance alone stands out as far, corrected for the number of candidates, in [0, 1].
    """

    name: str
    has_text: bool
    screen: float
    asked: bool
    score: float
    drop: float
    p: float


@dataclass(frozen=True, slots=True)
class TopicAnswer:
    """A question about what was found, and what both models say to it.

    Attributes:
        question: as it was asked.
        base, unlearned: their greedy answers.
        drop: log p base less log p unlearned a token of the base's answer, in nats.
        guided: what both say together, guided away from the unlearned model (weight 2 of `probes.live.guided`); ""
            where they did not fit into memory together. No evidence of what the unlearned model knows.
    """

    question: str
    base: str
    unlearned: str
    drop: float
    guided: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class DiscoveryReport(Brief):
    """What `ckdiff discover` found.

    Attributes:
        model_type: of the base's config.
        outcome: "trace": something stands out above noise; "none": no readable trace; "ruined": everything is lost.
        topic: what stands out most, in words; "" where nothing does.
        ruin: KL(base || unlearned) over KL(base || uniform) on texts that nobody gave (sampled
            from the base, and random tokens): the share of what the base knows beyond guessing that is lost; 1: the
            unlearned model guesses, more: it is worse than that.
        kinds: of texts.
        words: lost ones, the least p first.
        gained: the reverse, in the same order.
        candidates: the best first; those that screening left out last.
        forms: in which they were asked about.
        form_scores: how far each stands out in each form; NaN where it was not asked so.
        draws: numbers of the null's scores.
        null_scores: what candidates reach in copies of the base with noise.
        others: 1 for each candidate that the others are measured by [candidate], else 0.
        answers: to questions about the topic.
        copies: how many noisy copies there were.
        counted: candidates that were looked at.
        tokens: whose rates were compared.
        settings: what determines the numbers, as text.
        notes: plain sentences about what a reader must know.
        weights: words that the change of the weights spells, the most first by source; leads alone.
        groups: lost words that go together, the least p first.
        spans: where each group shows.
        pair_threshold, pair_excess, pair_share: the tail of what pairs of tokens reach together in noisy copies, see
            `scoring.discovery.Tail`.
        layers: whose MLPs write less where the found words are lost, in their order; none where nothing was found.
        neurons: whose response fell most there, the most first.
        said: tokens that the base says, of which alone words are made; 0: all of them are looked at.
    """

    GIST = ("outcome", "topic")

    model_type: str
    outcome: Outcome
    topic: str
    ruin: float
    kinds: Annotated[tuple[TextKind, ...], Rows("kind")]
    words: Annotated[tuple[LostWord, ...], Rows("word")]
    gained: Annotated[tuple[LostWord, ...], Rows("gain")]
    candidates: Annotated[tuple[CandidateRow, ...], Rows("candidate")]
    forms: Annotated[tuple[str, ...], Scale("form")]
    form_scores: Annotated[Float64, Axes("candidate", "form")]
    draws: Annotated[Int64, Scale("draw")]
    null_scores: Annotated[Float64, Axes("draw")]
    others: Annotated[Float64, Axes("candidate")]
    answers: Annotated[tuple[TopicAnswer, ...], Rows("answer")]
    copies: int
    counted: int
    tokens: int
    settings: Mapping[str, str]
    notes: Annotated[tuple[str, ...], Rows("note")] = ()
    weights: Annotated[tuple[WeightWord, ...], Rows("weight")] = ()
    groups: Annotated[tuple[LostGroup, ...], Rows("group")] = ()
    spans: Annotated[tuple[GroupSpan, ...], Rows("span")] = ()
    pair_threshold: float = math.nan
    pair_excess: float = math.nan
    pair_share: float = math.nan
    layers: Annotated[tuple[LayerFall, ...], Rows("mlp")] = ()
    neurons: Annotated[tuple[NeuronFall, ...], Rows("neuron")] = ()
    said: int = 0

    @property
    def words_compared(self) -> int:
        """Among how many tokens a lost word was found."""
        return self.said or self.tokens
