"""Log p of the answers, read off each layer: `outcomes(case, live, side)`, layer after layer.

A layer's output goes through the base's final norm and unembedding, as if the base's last layer had made it. What the
last layers hide is seen below them; but a state need not be written as the base reads it, so that nothing seen says
little: the lens over-reports erasure. It borrows from the base, is shown, and never decides.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ckdiff.attacks.case import AttackError, Outcome
from ckdiff.probes.forcing import Forced, in_order, read_forced, watch_layers
from ckdiff.probes.prompts import Prompt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from ckdiff.attacks.case import Case
    from ckdiff.probes.live.model import LiveModel
    from ckdiff.probes.live.unembedding import Unembedding
    from ckdiff.probes.prompts import Batch
    from ckdiff.report.schema.attack import Attacked


def outcomes(case: Case, live: LiveModel, side: Attacked) -> Iterator[Outcome]:
    """One outcome a layer.

    Raises:
        AttackError: its states do not fit into the base's unembedding.
    """
    base, plain = case.job.pair.base, case.plain[side]
    widths = [one.model.get_input_embeddings().embedding_dim for one in (base, live)]
    if widths[0] != widths[1]:
        raise AttackError(f"its states are {widths[1]} wide, and the base's unembedding reads {widths[0]}")
    log_p = read_layers(case, live)
    for number, found in enumerate(log_p):
        reading = replace(
            plain,
            level=np.array([float(one.mean()) for one in found]),
            log_p=np.array([float(one.sum()) for one in found]),
            said={},
            table=np.full_like(plain.table, np.nan),
            texts=len(found) if number == 0 else 0,
        )
        yield Outcome(f"layer {number + 1} of {len(log_p)}", reading, decides=False)


def read_layers(case: Case, live: LiveModel) -> list[list[Tensor]]:
    """By layer, for each question log p of its answer's tokens, by the base's final norm and unembedding."""
    base = case.job.pair.base
    order, prompts = in_order([Prompt(one.question, one.ids, one.answer) for one in case.sought])
    found: list[dict[int, Tensor]] = [{} for _ in live.layers]
    heads: list[Unembedding] = []

    def watch(layer: int, batch: Batch, states: Tensor) -> None:
        scored = states.flatten(0, 1)[batch.scored]
        heads.extend([] if heads else [base.unembedding(scored)])
        last = batch.first + len(batch.lengths)
        reads = read_forced(Forced(base.tail(scored), heads[0]), prompts[batch.first : last])
        found[layer] |= zip(order[batch.first : last], (one.log_p for one in reads), strict=True)

    with case.loaded(live):
        # Of the base what lies outside its layers is enough, and where it is attacked itself it is there.
        if live is not base:
            base.load_ends(embedding=False)
        try:
            watch_layers(live, prompts, case.way, watch)
        finally:
            base.unload()
    return [[rows[place] for place in range(len(case.sought))] for rows in found]
