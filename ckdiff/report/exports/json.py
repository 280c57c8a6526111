"""A report, or a campaign, as JSON: `to_json(report)`."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ckdiff.report.schema.campaign import DRIFTS, FORMAT, Campaign
from ckdiff.report.schema.probe import flat_run
from ckdiff.report.words.campaign import flat_sweep
from ckdiff.report.words.compare import top_neurons
from ckdiff.report.words.numbers import flat
from ckdiff.report.words.sections import WHOLE, Selection

if TYPE_CHECKING:
    from ckdiff.report.schema.behaviour import Behaviour
    from ckdiff.report.schema.campaign import AverageRun, CampaignRun, CellMeasure, PairDrift
    from ckdiff.report.schema.comparison import Comparison, Grid
    from ckdiff.report.schema.probe import NeuronSet, Probe, ProbeRun, QuestionRecord
    from ckdiff.report.schema.report import Report


TOP_NEURONS = 100
"""Neurons of each component in the JSON; the HDF5 report holds all of them."""


def to_json(found: Report | Campaign, selection: Selection = WHOLE) -> str:
    """All of a report or a campaign as one JSON object, with the names of its records; NaN and infinities are null.

    Of the neurons of a report only those that moved most are in it, `TOP_NEURONS` of each component. In a campaign a
    place of a pair and a concept without any figure of a curve is one null.
    """
    tree = _campaign(found) if isinstance(found, Campaign) else _report(found)
    return json.dumps(_finite(tree), indent=2, allow_nan=False) + "\n"


def _report(report: Report) -> dict[str, Any]:
    return {
        "schema_version": report.schema_version,
        "complete": report.complete,
        "versions": dict(report.versions),
        "provenance": asdict(report.provenance),
        "compare": None if report.compare is None else _comparison(report.compare),
        "probe": None if report.probe is None else _probe(report.probe),
        "behaviour": None if report.behaviour is None else _behaviour(report.behaviour),
        "verdict": None if report.verdict is None else asdict(report.verdict),
    }


def _comparison(found: Comparison) -> dict[str, Any]:
    grids = found.neurons.items()
    return {
        "model_type": found.model_type,
        "known_architecture": found.known_architecture,
        "tensors": [flat(row) for row in found.tensors],
        "components": [flat(row) for row in found.components],
        "grid": _grid(found.grid),
        "neurons": [asdict(row) for name, grid in grids for row in top_neurons(name, grid, TOP_NEURONS)],
        "only_in_base": [asdict(row) for row in found.only_in_base],
        "only_in_unlearned": [asdict(row) for row in found.only_in_unlearned],
        "shape_mismatch": [asdict(row) for row in found.shape_mismatch],
        "config_changes": [asdict(row) for row in found.config_changes],
        "config_spellings": [asdict(row) for row in found.config_spellings],
        "config_uncompared": [asdict(row) for row in found.config_uncompared],
        "ignored": list(found.ignored),
        "notes": list(found.notes),
    }


def _grid(grid: Grid) -> dict[str, Any]:
    arrays = {field.name: getattr(grid, field.name) for field in fields(grid) if field.name != "components"}
    return {"components": list(grid.components), **{name: array.tolist() for name, array in arrays.items()}}


def _probe(found: Probe) -> dict[str, Any]:
    return {
        "model_type": found.model_type,
        "layer_count": found.layer_count,
        "runs": [_run(run) for run in found.runs],
        "loss_unlearned": asdict(found.loss_unlearned),
        "controls": [asdict(control) for control in found.controls],
        "questions": [_question(question) for question in found.questions],
        "settings": dict(found.settings),
        "notes": list(found.notes),
        "neurons": [_neurons(one) for one in found.neurons],
    }


def _neurons(found: NeuronSet) -> dict[str, Any]:
    return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in asdict(found).items()}


def _run(run: ProbeRun) -> dict[str, Any]:
    return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in flat_run(run).items()}


def _question(question: QuestionRecord) -> dict[str, Any]:
    return {**asdict(question), "tokens": len(question.answer_ids)}


def _behaviour(found: Behaviour) -> dict[str, Any]:
    return asdict(replace(found, settings=dict(found.settings)))


def _campaign(found: Campaign) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "schema_version": found.schema_version,
        "name": found.name,
        "outcome": found.outcome,
        "complete": found.complete,
        "versions": dict(found.versions),
        "plan": found.plan,
        "pairs": [asdict(pair) for pair in found.pairs],
        "concepts": list(found.concepts),
        "jobs": [asdict(job) for job in found.jobs],
        "cells": [asdict(cell) for cell in found.cells],
        "drift": None if found.drift is None else _drift(found.drift),
        "measures": [_measure(one) for one in found.measures],
        "runs": [_sweep(run) for run in found.runs],
        "averages": [_sweep(run) for run in found.averages],
        "means": [asdict(one) for one in found.means],
        "notes": list(found.notes),
    }


def _drift(found: PairDrift) -> dict[str, Any]:
    return {"components": list(found.components), **{name: getattr(found, name).tolist() for name in DRIFTS}}


def _measure(found: CellMeasure) -> dict[str, Any]:
    arrays = {part: getattr(found, part).tolist() for part in ("value", "low", "high")}
    return {"name": found.name, **arrays}


def _sweep(run: CampaignRun | AverageRun) -> dict[str, Any]:
    return {name: _listed_array(value) for name, value in flat_sweep(run).items()}


def _listed_array(value: Any) -> Any:
    """An array as lists; in one over pairs and concepts, where most places may have no curve, such a place is None."""
    if not isinstance(value, np.ndarray):
        return value
    if value.ndim < 3:
        return value.tolist()
    return [[None if np.isnan(scores).all() else scores.tolist() for scores in row] for row in value]


def _finite(value: Any) -> Any:
    """The same tree with None for every float that JSON has no word for."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
