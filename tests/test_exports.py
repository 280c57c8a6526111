"""JSON, CSV and Markdown: the names of the design, no NaN, nothing that a reader would run."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math

import pytest

from ckdiff.report.exports import FORMATS, to_csv, to_json, to_markdown
from ckdiff.report.schema import Drift
from ckdiff.report.text import printable, top_neurons
from tests.reports import HOSTILE, UNDEFINED, comparison, empty_comparison, hostile_report, report, tensor

FULL = report(comparison())
DRIFT = {field.name for field in dataclasses.fields(Drift)}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("found", [None, empty_comparison(), comparison()])
def test_every_format_writes_every_report(name: str, found: object) -> None:
    text = FORMATS[name](report(found))  # type: ignore[arg-type]
    assert text.endswith("\n")
    assert not text.endswith("\n\n")


def test_json_is_the_tree_of_the_design() -> None:
    tree = json.loads(to_json(FULL))
    assert {"schema_version", "provenance", "compare", "versions", "complete"} == set(tree)
    assert tree["provenance"]["base"]["shards"][0]["sha256"] == "ab" * 32
    found = tree["compare"]
    lists = {"only_in_base", "only_in_unlearned", "shape_mismatch", "config_changes", "ignored", "notes"}
    assert lists | {"tensors", "components", "grid", "neurons", "model_type", "known_architecture"} == set(found)
    own = {"name", "component", "layer", "shape", "dtype_base", "dtype_unlearned", "parameters", "tied"}
    assert set(found["tensors"][0]) == own | DRIFT
    assert found["tensors"][0]["shape"] == [20, 50]
    assert set(found["components"][0]) == DRIFT | {
        "component", "tensors", "parameters", "cosine_mean", "cosine_min", "tied",
    }  # fmt: skip
    assert found["grid"]["relative_l2"] == FULL.compare.grid.relative_l2.tolist()  # type: ignore[union-attr]


def test_json_has_null_for_what_is_not_a_number() -> None:
    infinite = dataclasses.replace(UNDEFINED, relative_l2=math.inf)
    rows = (tensor("a", "keys", None, infinite),)
    text = to_json(report(comparison(tensors=rows)))
    row = json.loads(text, parse_constant=pytest.fail)["compare"]["tensors"][0]
    assert row["cosine"] is None
    assert row["relative_l2"] is None
    assert row["nonfinite_base"] == 3
    assert row["layer"] is None


def test_json_keeps_hostile_names_as_they_are() -> None:
    text = to_json(hostile_report())
    assert text.isascii()
    assert "\x1b" not in text
    assert tuple(row["name"] for row in json.loads(text)["compare"]["tensors"]) == HOSTILE


def test_json_lists_the_neurons_that_moved_most() -> None:
    rows = json.loads(to_json(FULL))["compare"]["neurons"]
    assert len(rows) == 2 * 100
    assert (rows[0]["component"], rows[0]["layer"], rows[0]["neuron"]) == ("value_vectors", 5, 7)
    drifts = [row["one_minus_cosine"] for row in rows[:100]]
    assert drifts == sorted(drifts, reverse=True)
    assert None not in drifts


def test_top_neurons_agree_with_a_plain_sort() -> None:
    grid = comparison().neurons["keys"]
    pairs = [(layer, neuron) for layer in range(6) for neuron in range(40)]
    values = grid.one_minus_cosine
    defined = [pair for pair in pairs if not math.isnan(values[pair])]
    expected = sorted(defined, key=lambda pair: (-values[pair], pair))
    for limit in (0, 1, 17, 10_000):
        assert [(row.layer, row.neuron) for row in top_neurons("keys", grid, limit)] == expected[:limit]


def test_csv_has_a_row_a_tensor() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(FULL))))
    tensors = FULL.compare.tensors  # type: ignore[union-attr]
    assert [row["name"] for row in rows] == [row.name for row in tensors]
    assert [float(row["one_minus_cosine"]) for row in rows] == [row.drift.one_minus_cosine for row in tensors]
    assert (rows[0]["layer"], rows[0]["shape"], rows[0]["identical"]) == ("", "20x50", "true")


def test_csv_has_empty_cells_for_nan_and_no_formulas() -> None:
    rows = (tensor("a", "keys", 0, UNDEFINED), *(tensor(f"{first}1", "keys", 0, UNDEFINED) for first in "=+-@"))
    cells = list(csv.DictReader(io.StringIO(to_csv(report(comparison(tensors=rows))))))
    assert cells[0]["cosine"] == ""
    assert [row["name"] for row in cells[1:]] == ["'=1", "'+1", "'-1", "'@1"]


def test_markdown_says_what_was_compared_before_any_number() -> None:
    text = to_markdown(FULL)
    assert text.index("matched: 25 tensors") < text.index("### Components") < text.index("### Tensors that moved")
    assert "model.extra.weight" in text
    assert "| config.json | vocab\\_size | 32000 | 32001 |" in text
    table = [line for line in text.splitlines() if line.startswith("| value\\_vectors |")]
    assert "3.0e-04" in table[0]


def test_markdown_of_nothing_says_so() -> None:
    assert "**NOTHING WAS COMPARED**" in to_markdown(report(empty_comparison()))


def test_text_formats_escape_hostile_names() -> None:
    for text in (to_csv(hostile_report()), to_markdown(hostile_report())):
        assert all(char.isprintable() or char == "\n" for char in text)
        assert "\\\\u202egnp.exe" in text or "\\u202egnp.exe" in text
    markdown = to_markdown(hostile_report())
    assert "<b>" not in markdown
    assert "[bold]" not in markdown
    bars = {line.replace("\\|", "").count("|") for line in markdown.splitlines() if line.startswith("| =1")}
    assert bars == {7, 5}


@pytest.mark.parametrize("text", HOSTILE)
def test_printable_prints(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(printable(text)) == printable(text)
