"""A report as OpenUnlearning's evaluator writes one."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from ckdiff.report.formats import say
from ckdiff.report.schema.behaviour import AnswerSet, FieldMeasure, Mean
from tests.reports import behaviour, hostile_behaviour, report


def evaluated(*sets: AnswerSet) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(
        str(say(report(None, None, replace(behaviour(), answers=sets)), "openunlearning")), parse_constant=pytest.fail
    )
    return found


def with_measures(one: AnswerSet, **each: float) -> AnswerSet:
    """The set with measures that every question has this value of; the base has 0.75."""
    count = len(one.questions)
    rows = [
        FieldMeasure(name, Mean(0.75, 0.5, 1.0), Mean(value, 0.0, 1.0), (0.75,) * count, (value,) * count)
        for name, value in each.items()
    ]
    return replace(one, field=tuple(rows))


def test_metrics_have_the_names_and_keys_of_open_unlearning() -> None:
    target, unrelated = behaviour().answers
    measures = {"probability": 0.5, "rouge_l_recall": 0.25, "rouge_l_f": 0.125, "truth_ratio": 1.0}
    memory = {"exact_memorisation": 0.0, "extraction_strength": 0.375}
    found = evaluated(with_measures(target, **measures, **memory), with_measures(unrelated, **measures))
    forget = ["exact_memorization", "extraction_strength", "forget_Q_A_Prob", "forget_Q_A_ROUGE", "forget_truth_ratio"]
    assert list(found) == [*forget, "retain_Q_A_Prob", "retain_Q_A_ROUGE", "retain_Truth_Ratio", "ckdiff"]
    assert found["forget_Q_A_Prob"]["agg_value"] == 0.5
    assert found["forget_Q_A_Prob"]["value_by_index"]["0"] == {"prob": 0.5, "avg_loss": -math.log(0.5)}
    assert len(found["retain_Q_A_Prob"]["value_by_index"]) == len(unrelated.questions)
    assert found["extraction_strength"]["value_by_index"]["3"] == {"score": 0.375}
    assert found["forget_truth_ratio"]["value_by_index"]["1"] == {"score": 1.0}
    row = target.questions[1]
    assert found["forget_Q_A_ROUGE"]["value_by_index"]["1"] == {
        "rougeL_recall": 0.25,
        "rougeL_f1": 0.125,
        "input": row.text,
        "ground_truth": row.answer_given,
        "generation": row.answer_unlearned,
    }
    assert found["retain_Q_A_ROUGE"]["value_by_index"]["0"]["ground_truth"] == unrelated.questions[0].answer_base
    assert found["ckdiff"]["sets"]["target"]["against"] == "given"
    assert found["ckdiff"]["figures"]["behaviour.probability_base target questions"] == [0.75, 0.5, 1.0]


def test_what_is_not_defined_is_null_and_what_is_not_there_is_left_out() -> None:
    found = evaluated(with_measures(behaviour().answers[0], probability=0.0, truth_ratio=math.nan))
    assert found["forget_Q_A_Prob"]["value_by_index"]["0"] == {"prob": 0.0, "avg_loss": None}
    assert found["forget_truth_ratio"] == {
        "agg_value": None,
        "value_by_index": {str(number): {"score": None} for number in range(4)},
    }
    assert set(found) == {"forget_Q_A_Prob", "forget_truth_ratio", "ckdiff"}
    assert set(json.loads(str(say(report(None, None, hostile_behaviour()), "openunlearning")))) == {"ckdiff"}
