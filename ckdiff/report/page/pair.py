"""The parts that every page of a pair has: what was compared and asked, neurons, where the numbers come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.modes import MODES, VARIANTS
from ckdiff.report.page.parts import Part, cut
from ckdiff.report.words.attack import untried_text
from ckdiff.report.words.behaviour import source_lines
from ckdiff.report.words.compare import neuron_cells, top_neurons_of_all
from ckdiff.report.words.numbers import BYTE_UNITS, amount, count_of, percent
from ckdiff.report.words.probe import score_text, set_cells
from ckdiff.report.words.sections import MEASURED, SECTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ckdiff.report.schema.comparison import Comparison
    from ckdiff.report.schema.probe import NeuronSet
    from ckdiff.report.schema.report import CheckpointRecord, Report

MOVED_NEURONS = 20

Cells = tuple[str, ...]


def show_coverage(report: Report) -> Mapping[str, object]:
    """Everything that was compared and asked, the notes of each section, and what was not measured."""
    there = [(name, getattr(report, name)) for name in MEASURED]
    return {
        "report": report,
        "changes": list(_changes(report.compare)),
        "asked": list(_sources(report)),
        "notes": [(name, note) for name, section in there if section is not None for note in section.notes],
        "lacking": [SECTIONS[name] for name, section in there if section is None],
    }


def _changes(found: Comparison | None) -> Iterator[Cells]:
    for one in found.config_changes if found is not None else ():
        values = ("not there" if text is None else cut(text, 200) for text in (one.base, one.unlearned))
        yield cut(one.key, 120), cut(one.file, 120), *values


def _sources(report: Report) -> Iterator[Cells]:
    if report.probe is not None:
        source = report.probe.settings.get("questions_source", "no stated source")
        yield "probe", cut(f"{count_of(len(report.probe.questions), 'question')} from {source}")
    if report.attack is not None:
        source = report.attack.settings.get("questions_source", "no stated source")
        yield "attacks", cut(f"{count_of(len(report.attack.questions), 'question')} from {source}")
    if report.behaviour is not None:
        yield from ((cut(name, 80), cut(words)) for name, words in source_lines(report.behaviour))


def show_neurons(report: Report) -> Mapping[str, object] | None:
    """The sets of neurons that carry their window, and the neurons whose weights moved most."""
    sets = report.probe.neurons if report.probe is not None else ()
    compared = report.compare is not None and bool(report.compare.neurons)
    if not sets and not compared:
        return None
    top = top_neurons_of_all(report.compare, MOVED_NEURONS) if report.compare is not None else []
    moved = map(neuron_cells, top)
    return {
        "sets": sets,
        "cells": [tuple(cut(cell, 120) for cell in set_cells(one)) for one in sets],
        "members": _members,
        "sizes": _sizes,
        "compared": compared,
        "moved": [(f"{layer}:{neuron}", cut(name, 40), *drifts) for name, layer, neuron, *drifts in moved],
    }


def _members(found: NeuronSet) -> list[Cells]:
    return [(f"{one.layer}/{one.neuron}", percent(one.contribution)) for one in found.neurons]


def _sizes(found: NeuronSet) -> list[Cells]:
    tried = zip(found.sizes.tolist(), found.sizes_score.tolist(), strict=True)
    return [(f"{size:,}", score_text(score)) for size, score in tried]


def show_provenance(report: Report) -> Mapping[str, object]:
    """Both checkpoints, the versions, and every setting."""
    named = (("Settings of the probe", report.probe), ("Settings of the answers", report.behaviour))
    settings = [(name, section.settings.items()) for name, section in named if section is not None]
    model = next((one.model_type for one in (report.compare, report.probe, report.behaviour) if one is not None), "")
    return {
        "report": report,
        "shards": _shards,
        "all_settings": [(name, [(cut(key, 80), cut(value)) for key, value in rows]) for name, rows in settings],
        "model_type": cut(model) or "not known",
        "versions": version_text(report.versions),
    }


def _shards(side: CheckpointRecord) -> list[Cells]:
    hashed = (cut(one.sha256 or "not hashed", 100) for one in side.shards)
    rows = zip(side.shards, hashed, strict=True)
    return [(cut(one.name, 160), amount(one.bytes, BYTE_UNITS), sha256) for one, sha256 in rows]


def version_text(versions: Mapping[str, str]) -> str:
    """Versions on one line."""
    return ", ".join(f"{cut(name, 80)} {cut(said, 80)}" for name, said in sorted(versions.items())) or "not recorded"


def show_method(report: Report) -> Mapping[str, object]:
    """How it was measured, in short."""
    return {"modes": MODES, "variants": VARIANTS, "untried": untried_text(report.attack)}


PARTS = (
    Part(20, "coverage", "What was compared", "coverage.html", show_coverage),
    Part(50, "neurons", "Neurons", "neurons.html", show_neurons, paper=False),
    Part(90, "provenance", "Provenance", "provenance.html", show_provenance),
    Part(100, "method", "Method and limits", "method.html", show_method),
)
