"""A report as OpenUnlearning's evaluator writes one."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ckdiff.errors import ReportError
from ckdiff.report.exports.evaluation import MOST_BYTES, compare_evaluation, read_evaluation
from ckdiff.report.formats import say
from ckdiff.report.hdf5.file import write_report
from ckdiff.report.schema.behaviour import AnswerSet, FieldMeasure, Mean
from tests.reports import behaviour, hostile_behaviour, report
from tests.test_cli import ckdiff

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., tuple[int, str, str]]

__all__ = ["ckdiff"]  # a fixture


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


def written(path: Path, tree: object) -> Path:
    path.write_text(json.dumps(tree))
    return path


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    target, unrelated = behaviour().answers
    sets = with_measures(target, probability=0.5, truth_ratio=0.25), with_measures(unrelated, truth_ratio=0.125)
    kept = report(None, None, replace(behaviour(), answers=sets))
    found = read_evaluation(written(tmp_path / "TOFU_EVAL.json", evaluated(*sets)))
    assert found == {"forget_Q_A_Prob": 0.5, "forget_truth_ratio": 0.25, "retain_Truth_Ratio": 0.125}
    for row in compare_evaluation(kept, found):
        assert (row.base, row.named["difference"]) == (0.75, 0.0)


def test_an_evaluation_stands_beside_a_report(ckdiff: Run, tmp_path: Path) -> None:
    one = with_measures(behaviour().answers[0], probability=0.5, exact_memorisation=0.25)
    write_report(report(None, None, replace(behaviour(), answers=(one,))), tmp_path / "r.h5")
    # as the evaluator writes it (NaN and all), a name in another case, one that ckdiff does not know, and no figure
    tree = {"forget_q_a_prob": {"agg_value": 0.75, "value_by_index": {}}, "model_utility": {"agg_value": math.nan}}
    place = written(tmp_path / "TOFU_EVAL.json", {**tree, "privleak": {"agg_value": None}, "ckdiff": {"x": 1}})
    status, out, _ = ckdiff("show", tmp_path / "r.h5", "--beside", place, "--format", "json")
    rows = {row.pop("metric"): row for row in json.loads(out)}
    assert status == 0
    assert list(rows) == ["forget_q_a_prob", "model_utility", "privleak", "exact_memorization"]
    assert rows["forget_q_a_prob"] == {"file": 0.75, "base": 0.75, "unlearned": 0.5, "difference": 0.25}
    assert rows["exact_memorization"] == {"file": None, "base": 0.75, "unlearned": 0.25, "difference": None}
    assert rows["privleak"] == rows["model_utility"] == dict.fromkeys(("file", "base", "unlearned", "difference"))
    out = ckdiff("show", tmp_path / "r.h5", "--beside", place)[1]
    assert next(line.split() for line in out.splitlines() if "q_a_prob" in line)[1:] == ["0.75", "0.75", "0.50", "0.25"]
    status, _, err = ckdiff("show", tmp_path / "r.h5", "--beside", place, "--format", "csv")
    assert (status, err) == (2, "ckdiff: --beside: is shown as table or json, not as csv\n")


def test_a_summary_is_read_too(tmp_path: Path) -> None:
    found = read_evaluation(written(tmp_path / "TOFU_SUMMARY.json", {"forget_quality": 1e-5, "big": 10**400}))
    assert found == {"forget_quality": 1e-5, "big": math.inf}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[1]",
        b"{}",
        b"{",
        b'{"a": true}',
        b'{"a": {"agg_value": "1"}}',
        b'{"a": 1, "a": 2}',
        b"[" * 90_000,
        b"\xff",
    ],
)
def test_what_is_no_evaluation_is_refused_in_one_line(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "x.json").write_bytes(text)
    with pytest.raises(ReportError, match=r"x\.json: .*give a \*_EVAL\.json"):
        read_evaluation(tmp_path / "x.json")


def test_what_is_too_large_or_no_file_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "x.json").open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(ReportError, match="larger than 64 MB"):
        read_evaluation(tmp_path / "x.json")
    with pytest.raises(ReportError, match="cannot be read"):
        read_evaluation(tmp_path)
    with pytest.raises(ReportError, match="holds 1001 metrics"):
        read_evaluation(written(tmp_path / "y.json", dict.fromkeys(map(str, range(1001)), 0.5)))
