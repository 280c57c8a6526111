"""JSON, CSV and Markdown: the names of the design, no NaN, nothing that a reader would run."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math

import numpy as np
import pytest

from ckdiff.report.exports.json import to_json
from ckdiff.report.formats import FORMATS, say
from ckdiff.report.markdown.document import to_markdown
from ckdiff.report.rows.csv import to_csv
from ckdiff.report.schema.comparison import Drift, NeuronGrid
from ckdiff.report.schema.probe import SCORES, NeuronSet
from ckdiff.report.words.compare import top_neurons
from ckdiff.report.words.sections import Selection
from ckdiff.untrusted import printable
from tests.reports import (
    HOSTILE,
    UNDEFINED,
    comparison,
    controls,
    empty_comparison,
    empty_probe,
    hostile_probe,
    hostile_report,
    probe,
    report,
    tensor,
    undefined_probe,
)

FULL = report(comparison())
PROBED = report(None, probe())
TEXTS = [name for name in FORMATS if name != "table"]
DRIFT = {field.name for field in dataclasses.fields(Drift)}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("found", [None, empty_comparison(), comparison()])
@pytest.mark.parametrize("probed", [None, empty_probe(), undefined_probe(), probe(), hostile_probe()])
def test_every_format_writes_every_report(name: str, found: object, probed: object) -> None:
    text = say(report(found, probed), name)  # type: ignore[arg-type]
    assert isinstance(text, str)
    assert text.endswith("\n") or (name, text) == ("jsonl", "")
    assert not text.endswith("\n\n")


def test_json_is_the_tree_of_the_design() -> None:
    tree = json.loads(to_json(FULL))
    sections = {"compare", "probe", "behaviour", "attack", "depth", "discovery", "verdict"}
    assert {"schema_version", "provenance", "versions", "complete"} | sections == set(tree)
    assert tree["probe"] is None
    assert tree["provenance"]["base"]["shards"][0]["sha256"] == "ab" * 32
    found = tree["compare"]
    lists = {"only_in_base", "only_in_unlearned", "shape_mismatch", "config_changes", "ignored", "notes"}
    lists |= {"config_spellings", "config_uncompared", "alignment", "aligned", "aligned_components", "low_rank"}
    lists |= {"tensors", "components", "grid", "neurons", "model_type", "known_architecture", "ends_geometry"}
    assert lists == set(found)
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


def test_a_zeroed_neuron_comes_first() -> None:
    cosine = np.array([[0.5, np.nan, np.nan]], np.float32)
    grid = NeuronGrid(np.array([4]), cosine, np.array([[1.2, 1.0, np.nan]], np.float32))
    found = top_neurons("keys", grid, 5)
    assert [row.neuron for row in found] == [1, 0]
    assert np.isnan(found[0].one_minus_cosine)


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


def test_json_of_a_probe_is_the_tree_of_the_design() -> None:
    tree = json.loads(to_json(PROBED), parse_constant=pytest.fail)
    assert tree["compare"] is None
    found, expected = tree["probe"], probe()
    assert set(found) == {
        "runs", "loss_unlearned", "controls", "questions", "settings", "notes", "neurons", "model_type", "layer_count",
    }  # fmt: skip
    scores = {score + end for score in (*SCORES, "krs_js") for end in ("", "_low", "_high", "_band_low", "_band_high")}
    place = {"direction", "mode", "variant", "window", "layers", "first", "last", "krs_mean_of_ratios", "top1"}
    losses = {"loss_mse", "loss_mse_centred", "loss_kl", "loss_js", "top1_questions"}
    assert set(found["runs"][0]) == scores | place | losses
    assert [run["mode"] for run in found["runs"]] == [run.mode for run in expected.runs]
    assert found["runs"][0]["krs_kl_band_low"] == expected.runs[0].krs_kl.band_low.tolist()
    assert found["runs"][0]["loss_kl"] == expected.runs[0].loss_kl.tolist()
    assert set(found["loss_unlearned"]) == {"mse", "mse_centred", "kl", "top1", "shift_share", "js"}
    row = {"text", "answer", "answer_ids", "tokens", "prompt_tokens", "mse", "mse_centred", "kl", "top1"}
    assert set(found["questions"][0]) == row | {"js", "log_p_base", "log_p_unlearned", "cluster"}
    assert found["questions"][1]["tokens"] == len(found["questions"][1]["answer_ids"]) == 3
    assert found["controls"][0]["passed"] is True
    assert found["controls"][-1]["bound"] is None
    assert found["settings"]["template"] == "Q: {q}\n A:"


def test_json_of_a_set_of_neurons() -> None:
    found, expected = json.loads(to_json(PROBED))["probe"]["neurons"], probe().neurons
    assert set(found[0]) == {field.name for field in dataclasses.fields(NeuronSet)}
    assert found[0]["neurons"][1] == {"layer": 1, "neuron": 0, "contribution": 0.25}
    assert found[1]["sizes"] == expected[1].sizes.tolist()
    assert found[0]["loss_kl"] == expected[0].loss_kl.tolist()


def test_json_of_a_probe_has_null_for_what_is_not_a_number() -> None:
    run = json.loads(to_json(report(None, undefined_probe())), parse_constant=pytest.fail)["probe"]["runs"][0]
    assert run["krs"] == [None, None, 0.5, 2.5, -0.0, 1e-300]
    assert run["krs_kl"] == [None] * 6


def test_csv_of_a_probe_has_a_row_a_window() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(PROBED))))
    runs = probe().runs
    expected = [(run, index) for run in runs for index in range(len(run.layers))]
    assert [row["layer"] for row in rows] == [str(run.layers[index]) for run, index in expected]
    assert [row["mode"] for row in rows] == [run.mode for run, _ in expected]
    assert [float(row["krs_kl"]) for row in rows] == [run.krs_kl.score[index] for run, index in expected]
    assert [float(row["krs_band_high"]) for row in rows] == [run.krs.band_high[index] for run, index in expected]
    assert (rows[0]["first"], rows[0]["last"], rows[-1]["layer"]) == ("0", "1", "-1")
    empty = next(csv.DictReader(io.StringIO(to_csv(report(None, undefined_probe())))))
    assert (empty["krs"], empty["krs_low"]) == ("", "")


def test_csv_takes_the_section_that_is_asked_for() -> None:
    both = report(comparison(), probe())
    assert to_csv(both) == to_csv(both, Selection("compare")) == to_csv(FULL)
    assert to_csv(both, Selection("probe")) == to_csv(PROBED) != to_csv(both)
    assert to_csv(FULL, Selection("probe")).startswith("direction,mode,variant,window,layer,first,last,krs,")


def test_markdown_of_a_probe() -> None:
    text = to_markdown(PROBED)
    assert "NOTHING WAS COMPARED" not in text
    assert "| coeff | open | 1-3 | 0.62 \\[0.52, 0.72\\] | 0.55 \\[0.50, 0.60\\] |" in text
    assert "| coeff | isolated | unsure (0-2) |" in text
    assert "A best window is selected from many" in text
    assert "wrong prompt 0.31 against 0.62" in text
    assert "| restore 1-3 | 3 of 120 | 0.50 \\[0.41, 0.66\\] | 0.62 | 0.02 (-0.01 to 0.05) |" in text
    assert "INCONCLUSIVE" not in text
    order = ["## ckdiff probe", "/models/base", "### Best windows, restore", "### Best windows, break", "### Controls"]
    assert [text.index(words) for words in order] == sorted(text.index(words) for words in order)
    both = to_markdown(report(comparison(), probe()))
    assert both.index("## ckdiff compare") < both.index("## ckdiff probe")
    assert both.count("/models/base") == 1


def test_markdown_of_a_failed_control_says_inconclusive_first() -> None:
    text = to_markdown(report(None, probe(controls=controls(passed=False))))
    assert text.index("**INCONCLUSIVE: a control failed**") < text.index("### Best windows")
    assert "0.02 (at most 0.0001): FAILED" in text.replace("2.0e-02", "0.02")


def test_text_formats_escape_hostile_names_of_a_probe() -> None:
    found = report(None, hostile_probe())
    for text in (to_csv(found), to_markdown(found)):
        assert all(char.isprintable() or char == "\n" for char in text)
        assert "u202egnp.exe" in text
    assert "'=1+1|<b>&`*_" in to_csv(found)
    assert "<b>" not in to_markdown(found)
    assert "[bold]" not in to_markdown(found)
    assert to_json(found).isascii()


@pytest.mark.parametrize("text", HOSTILE)
def test_printable_prints(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(printable(text)) == printable(text)
