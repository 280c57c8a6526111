"""What was lost, found without being told: words, candidates, and both answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.report.page.parts import Part, cut
from ckdiff.report.words import discovery as words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ckdiff.report.schema.report import Report

MOST = 200
"""Rows of a table; what is beyond is counted."""


def show(report: Report) -> Mapping[str, object] | None:
    """Everything that was found."""
    found = report.discovery
    if found is None:
        return None
    scored = words.with_scores(found)
    return {
        "headline": words.headline(found),
        "facts": [(name.capitalize(), cut(text)) for name, text in words.facts_of(found)],
        "word_heads": words.WORD_HEADS,
        "words": [tuple(map(cut, words.word_cells(one))) for one in found.words],
        "group_title": words.GROUP_TITLE,
        "group_heads": words.GROUP_HEADS,
        "groups": [tuple(map(cut, row)) for row in words.group_rows(found)],
        "layer_title": words.LAYER_TITLE,
        "layer_heads": words.LAYER_HEADS,
        "layers": words.layer_rows(found),
        "neuron_title": words.NEURON_TITLE,
        "neuron_heads": words.NEURON_HEADS,
        "neurons": [tuple(map(cut, words.neuron_cells(one))) for one in found.neurons],
        "gained_heads": words.GAINED_HEADS,
        "gained": [tuple(map(cut, words.word_cells(one))) for one in found.gained],
        "weight_title": words.WEIGHT_TITLE,
        "weight_heads": words.WEIGHT_HEADS,
        "weights": [tuple(map(cut, words.weight_cells(one))) for one in found.weights],
        "candidates_title": words.candidates_title(found),
        "candidate_heads": words.CANDIDATE_HEADS,
        "candidates": [tuple(map(cut, words.candidate_cells(one))) for one in scored],
        "answer_heads": words.ANSWER_HEADS,
        "answers": [tuple(map(cut, words.answer_cells(one))) for one in words.told_answers(found)],
        "kind_heads": words.KIND_HEADS,
        "kinds": [tuple(map(cut, words.kind_cells(one))) for one in found.kinds],
        "notes": [cut(note) for note in words.every_note(found)],
        "legend": " ".join(words.LEGEND),
        "most": MOST,
    }


PARTS = (Part(27, "discovery", "What was lost, without being told", "discovery.html", show),)
