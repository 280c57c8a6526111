"""Which number tells what is known: the table of `benchmarks/faithfulness.py`."""

from __future__ import annotations

import math
from typing import Any

import pytest
from faithfulness import SAME, aucs, scores


def _line(knows: bool, carried: float, level: float) -> dict[str, Any]:
    return {"knows": knows, "facts": 40, f"depth {SAME}": carried, "level": level}


LINES = [_line(True, 0.9, 2.0), _line(False, 0.2, math.nan), _line(True, 0.8, 3.0), _line(False, 0.1, 0.5)]


def test_two_scores_together_are_of_the_models_that_have_both() -> None:
    found = scores(LINES, "both", "")
    assert found == pytest.approx([1.5, math.nan, 1.5, 0.0], nan_ok=True)


def test_an_auc_leaves_out_what_was_not_measured_and_says_so() -> None:
    told = {words: value for value, words in aucs(LINES)}
    assert told["the mean rank of depth and level (1 not measured)"] == 1.0
    assert told["log p a token over the reference's, the greatest of the same (1 not measured)"] == 1.0
    assert told[f"1 - depth, beside {SAME}"] == 1.0
    worse = [line | {"level": -line["level"]} for line in LINES]
    assert {words: value for value, words in aucs(worse)}[
        "log p a token over the reference's, the greatest of the same (1 not measured)"
    ] == 0.0
