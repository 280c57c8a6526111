"""A report as OpenUnlearning's evaluator writes one, `TOFU_EVAL.json`: `to_openunlearning(report)`.

A mapping of metrics, each with `agg_value` and, by number of the question, `value_by_index`: what was to be unlearned
under TOFU's `forget_...`, unrelated questions under its `retain_...`. It is about the unlearned model. All figures of
the report with their intervals, and what answers are held against, stand under `ckdiff`, a name that OpenUnlearning
passes over. NaN and infinities are null.

Format: github.com/locuslab/open-unlearning, src/evals and configs/eval/tofu_metrics.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from ckdiff.report.schema.campaign import Campaign
from ckdiff.report.words.metrics import campaign_metrics, metrics_of
from ckdiff.report.words.names import pair_names
from ckdiff.report.words.sections import WHOLE, Selection

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ckdiff.report.schema.behaviour import AnswerSet, Behaviour
    from ckdiff.report.schema.report import Report
    from ckdiff.report.words.metrics import Metric

NAMES = {
    ("target", "probability"): "forget_Q_A_Prob",
    ("target", "rouge_l_recall"): "forget_Q_A_ROUGE",
    ("target", "truth_ratio"): "forget_truth_ratio",
    ("target", "exact_memorisation"): "exact_memorization",
    ("target", "extraction_strength"): "extraction_strength",
    ("unrelated", "probability"): "retain_Q_A_Prob",
    ("unrelated", "rouge_l_recall"): "retain_Q_A_ROUGE",
    ("unrelated", "truth_ratio"): "retain_Truth_Ratio",
}
"""OpenUnlearning's name of a set's measure."""
MEMBERS = {"min_k": "mia_min_k", "min_k_plus": "mia_min_k_plus_plus"}
"""OpenUnlearning's name of a score of hold-out answers."""
LEAKS = "min_k"
"""The score whose PrivLeak is its `privleak`."""


def to_openunlearning(found: Report | Campaign, selection: Selection = WHOLE) -> str:
    """The metrics of OpenUnlearning that a report holds; of a campaign, which holds no answers, its figures by pair."""
    tree = _campaign(found) if isinstance(found, Campaign) else _metrics(found)
    return json.dumps(tree, indent=4, allow_nan=False) + "\n"


def metrics_by_name(report: Report) -> dict[str, tuple[float, float]]:
    """The figures of base and unlearned model, by OpenUnlearning's name of each metric that a report holds."""
    found = report.behaviour
    if found is None:
        return {}
    rows = {
        (part.name, one.name): (one.base.value, one.unlearned.value) for part in found.answers for one in part.field
    }
    own = {NAMES[key]: both for key, both in rows.items() if key in NAMES}
    for one in () if found.holdout is None else found.holdout.scores:
        if one.name in MEMBERS:
            own[MEMBERS[one.name]] = one.auc_base, one.auc_unlearned
        if one.name == LEAKS:
            own["privleak"] = math.nan, one.leak
    if found.reference is not None and math.isfinite(found.reference.forget_quality):
        own["forget_quality"] = math.nan, found.reference.forget_quality
    return dict(sorted(own.items()))


def _metrics(report: Report) -> dict[str, Any]:
    base, unlearned = pair_names(report.provenance)
    sets = () if report.behaviour is None else report.behaviour.answers
    own = {
        "base": base,
        "unlearned": unlearned,
        "versions": dict(report.versions),
        "settings": dict(report.behaviour.settings) if report.behaviour else {},
        "sets": {one.name: _own(one) for one in sets},
        "figures": _figures(metrics_of(report)),
    }
    beside = () if report.behaviour is None else _privacy(report.behaviour)
    return dict(sorted([*(entry for one in sets for entry in _entries(one)), *beside])) | {"ckdiff": own}


def _privacy(found: Behaviour) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is said beside hold-out answers, and beside a model that never knew; their scores have their sign."""
    for one in () if found.holdout is None else found.holdout.scores:
        if one.name in MEMBERS:
            auc = {"auc": _number(one.auc_unlearned), "agg_value": _number(one.auc_unlearned)}
            parts = {"forget": one.target_unlearned, "holdout": one.holdout_unlearned}
            yield MEMBERS[one.name], {name: _scored(each) for name, each in parts.items()} | auc
        if one.name == LEAKS:
            yield "privleak", {"agg_value": _number(one.leak)}
    if found.reference is not None and math.isfinite(found.reference.forget_quality):
        yield "forget_quality", {"agg_value": _number(found.reference.forget_quality)}


def _scored(each: Sequence[float]) -> dict[str, Any]:
    rows = {str(number): {"score": _number(-value)} for number, value in enumerate(each)}
    return {"agg_value": _number(-math.fsum(each) / len(each)) if each else None, "value_by_index": rows}


def _own(found: AnswerSet) -> dict[str, Any]:
    """Where a set comes from, and what its answers are held against."""
    return {"source": found.source, "digest": found.digest, "against": found.field_against}


def _entries(found: AnswerSet) -> Iterator[tuple[str, dict[str, Any]]]:
    each = {one.name: one.each_unlearned for one in found.field}
    for one in found.field:
        if (found.name, one.name) in NAMES:
            rows = {str(number): _values(found, each, one.name, number) for number in range(len(one.each_unlearned))}
            yield NAMES[found.name, one.name], {"agg_value": _number(one.unlearned.value), "value_by_index": rows}


def _values(found: AnswerSet, each: dict[str, tuple[float, ...]], name: str, number: int) -> dict[str, Any]:
    """What is said of one question under one metric."""
    value = each[name][number]
    if name == "probability":
        return {"prob": _number(value), "avg_loss": _number(-math.log(value) if value > 0 else math.inf)}
    if name != "rouge_l_recall":
        return {"score": _number(value)}
    row = found.questions[number]
    return {
        "rougeL_recall": _number(value),
        "rougeL_f1": _number(each["rouge_l_f"][number]) if "rouge_l_f" in each else None,
        "input": row.text,
        "ground_truth": row.answer_given if found.field_against == "given" else row.answer_base,
        "generation": row.answer_unlearned,
    }


def _campaign(found: Campaign) -> dict[str, Any]:
    pairs = {pair.name: _figures(campaign_metrics(found, number)) for number, pair in enumerate(found.pairs)}
    return {"ckdiff": {"campaign": found.name, "versions": dict(found.versions), "pairs": pairs}}


def _figures(metrics: Iterable[Metric]) -> dict[str, list[float | None]]:
    """Each figure with the ends of its interval."""
    return {f"{one.name} {one.about}".strip(): [*map(_number, (one.value, one.low, one.high))] for one in metrics}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
