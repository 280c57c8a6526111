"""Records of how deep an unlearning goes, beside a model that never knew."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from ckdiff.report.schema.behaviour import Mean
from ckdiff.report.schema.brief import Brief
from ckdiff.report.schema.layout import Ids, Rows, Scale, Within
from ckdiff.shapes import Int64, LayerQuestion, PerLayer

LEAST_DROP = 0.05
"""Nats a token: a layer at which the reference's state costs an answer no more than this says nothing about it."""


@dataclass(frozen=True, slots=True)
class DepthQuestion:
    """One question, and how deep the unlearning of its answer goes.

    Attributes:
        text: the question as it was asked, stripped.
        answer: the answer that was scored, decoded.
        answer_ids: its ids.
        places: numbers of its tokens that were patched and scored, from 0.
        cluster: questions of one cluster ask about one fact, and count as one.
        layers: how many layers tell: those at which the reference's state costs more than 0.05 nats a token.
        depth: Σ_K Δ^R clip(Δ^U / Δ^R, 0, 1) / Σ_K Δ^R over these layers, in [0, 1]; NaN where there is none.
        depth_lens: the same of log p read off each layer.
        log_p_base, log_p_unlearned, log_p_reference: mean log p a token of the answer under each model, in nats.
        given_unlearned, given_reference: the model gives this answer greedily, token by token.
    """

    text: str
    answer: str
    answer_ids: Ids
    places: Ids
    cluster: int
    layers: int
    depth: float
    depth_lens: float
    log_p_base: float
    log_p_unlearned: float
    log_p_reference: float
    given_unlearned: bool
    given_reference: bool


@dataclass(frozen=True, slots=True, repr=False)
class DepthReport(Brief):
    """What `ckdiff depth` found.

    Attributes:
        model_type: of the base's config.
        depth: mean over questions with its 95 % interval over clusters; 0: the unlearned model carries all that the
            reference lacks, 1: it is as ignorant.
        depth_lens: the same of log p read off each layer.
        questions: in their order.
        layers: of the model.
        share, share_low, share_high: by layer the mean of clip(Δ^U / Δ^R, 0, 1) over the questions that it tells of,
            with its 95 % interval; NaN where it tells of none.
        drop_unlearned, drop_reference: Δ^U and Δ^R, what the state behind a layer costs the base's answer, in nats a
            token.
        lens_unlearned, lens_reference: log p read off the base's state less that read off the other's, in nats a token.
        reference: location of the model that never knew.
        reference_digest: sha256 over its weight files, or "" without hashes.
        reference_kind: how it came about: "retrained" or "before"; "" where nobody said.
        compat: the last layer was patched behind the final norm, as the published code does.
        settings: what determines the numbers, as text.
        notes: plain sentences about what a reader must know.
        second, second_digest: of a second model that never knew, whose depth beside the same reference gives the
            margin; "" without one.
        margin: the 95th percentile of what the depth of that one lacks of 1, over questions; NaN without one.
    """

    GIST = ("questions",)

    model_type: str
    depth: Mean
    depth_lens: Mean
    questions: Annotated[tuple[DepthQuestion, ...], Rows("question")]
    layers: Annotated[Int64, Scale("layer")]
    share: Annotated[PerLayer, Within(0, 1)]
    share_low: Annotated[PerLayer, Within(0, 1)]
    share_high: Annotated[PerLayer, Within(0, 1)]
    drop_unlearned: LayerQuestion
    drop_reference: LayerQuestion
    lens_unlearned: LayerQuestion
    lens_reference: LayerQuestion
    reference: str
    reference_digest: str
    reference_kind: str
    compat: bool
    settings: Mapping[str, str]
    notes: Annotated[tuple[str, ...], Rows("note")] = ()
    second: str = ""
    second_digest: str = ""
    margin: float = math.nan
