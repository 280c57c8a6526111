"""The rows of a discovery: one a candidate, word, gained word, word in the weights, group of words, layer or neuron."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckdiff.report.schema.discovery import DiscoveryReport


def rows(found: DiscoveryReport | None) -> Iterator[Sequence[object]]:
    """The names of the columns, then lost words, gained ones, those in the weights and candidates, each as it ranks.

    Behind them groups of lost words, layers and neurons; of these two the score is how much their response fell.
    """
    yield ["kind", "rank", "name", "rate", "rate_low", "rate_high", "score", "drop", "p", "texts"]
    if found is None:
        return
    for kind, every in (("lost", found.words), ("gained", found.gained)):
        for rank, word in enumerate(every, 1):
            rate = word.rate
            yield [kind, rank, word.word, rate.value, rate.low, rate.high, None, None, word.p, word.kind]
    for rank, lead in enumerate(found.weights, 1):
        yield [lead.source, rank, lead.word, None, None, None, lead.score, None, None, None]
    for rank, one in enumerate(found.candidates, 1):
        yield ["candidate", rank, one.name, None, None, None, one.score, one.drop, one.p, None]
    for rank, group in enumerate(found.groups, 1):
        yield ["group", rank, ", ".join(group.words), group.together, None, None, group.alike, None, group.p, None]
    for rank, layer in enumerate(sorted(found.layers, key=lambda one: -one.fall), 1):
        yield ["layer", rank, f"layer {layer.layer}", None, None, None, layer.fall, None, None, None]
    for rank, neuron in enumerate(found.neurons, 1):
        name = f"layer {neuron.layer} neuron {neuron.neuron}: {', '.join(neuron.tokens)}"
        yield ["neuron", rank, name, None, None, None, neuron.fall, None, None, None]
