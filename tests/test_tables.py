"""The terminal view: coverage first, no empty tables, no cut numbers, and no name that commands the terminal."""

from __future__ import annotations

import dataclasses
import io
import re

import numpy as np
import pytest
from rich.console import Console, RenderableType

from ckdiff.report.schema.attack import CodeShare
from ckdiff.report.schema.comparison import COMPONENTS, ConfigChange, Grid, TensorInfo
from ckdiff.report.schema.report import Report, ShardRecord
from ckdiff.report.terminal.inspect import inspect_view
from ckdiff.report.terminal.parts import RAMP, fitting_table
from ckdiff.report.terminal.view import to_view
from ckdiff.report.words.attack import measured_rows, row_cells
from ckdiff.report.words.sections import Selection
from tests.reports import (
    HOSTILE,
    UNDEFINED,
    attacks,
    comparison,
    component,
    empty_comparison,
    hostile_report,
    identical_comparison,
    moved,
    report,
    tensor,
)


def rendered(view: RenderableType, width: int = 80, color: bool = False) -> str:
    output = io.StringIO()
    Console(file=output, width=width, force_terminal=color, color_system="truecolor" if color else None).print(view)
    return output.getvalue()


def shown(report: Report, width: int = 80) -> str:
    return rendered(to_view(report, Selection("compare")), width)


def wide_report() -> Report:
    """Every component, with numbers of full width, in 50 layers."""
    names = [name for name in COMPONENTS for _ in range(2)]
    drift = dataclasses.replace(moved(2.6e-7), changed_fraction=0.9999)
    tensors = [tensor(f"model.layers.{n}.a_rather_long.{name}.weight", name, n, drift) for n, name in enumerate(names)]
    grids = (np.geomspace(1e-7, 1e-1, len(COMPONENTS) * 50).reshape(len(COMPONENTS), 50),) * 4
    groups = [component(name, [row for row in tensors if row.component == name]) for name in COMPONENTS]
    components = tuple(dataclasses.replace(row, parameters=28_311_552, tensors=1234) for row in groups)
    layered = Grid(COMPONENTS[3:], np.arange(50), *(values[3:] for values in grids))
    return report(comparison(tensors=tuple(tensors), components=components, grid=layered))


def test_coverage_comes_first_and_names_its_findings() -> None:
    text = shown(report(comparison()))
    order = ["/models/base", "sha256 cdcdcdcdcdcd", "llama", "Coverage", "Components", "by layer", "Tensors", "Neurons"]
    assert [text.index(words) for words in order] == sorted(text.index(words) for words in order)
    assert "matched: 25 tensors, 25.0 K parameters; 13 identical, 12 changed" in text
    assert "not compared: 1 only in base, 5 only in unlearned, 1 in two shapes" in text
    assert "only in unlearned (5): lora.0, lora.1, lora.2 … and 2 more" in text
    assert "model.resized.weight (32000x8 → 32001x8)" in text
    assert "lm_head.weight" in text


def test_full_coverage_is_said() -> None:
    found = comparison(only_in_base=(), only_in_unlearned=(), shape_mismatch=())
    assert "not compared: nothing; both hold the same tensors" in shown(report(found))


def test_components_and_their_numbers() -> None:
    text = shown(report(comparison()))
    line = next(line for line in text.splitlines() if line.startswith("value_vectors "))
    assert line.split()[:6] == ["value_vectors", "6", "6.00", "K", "3.0e-04", "2.4e-02"]
    assert "identical: embedding (1), unembedding* (1), norms (6)" in text
    assert "* tied" in text


def test_neurons_that_moved_most() -> None:
    text = shown(report(comparison()))
    assert re.search(r"value_vectors +5 +7 +1\.2e-01 +5\.0e-01", text)


def test_layers_read_without_colour() -> None:
    text = shown(report(comparison())).split("by layer")[1].split("Tensors")[0]
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if re.match(r"\d", line)}
    assert list(rows) == ["0-1", "2", "3", "4", "5"]
    assert set(rows["0-1"]) == {"·"}
    assert rows["2"][1] == RAMP[0] * 6
    assert rows["5"][0] == RAMP[-1] * 6
    ranks = [RAMP.index(rows[layer][0][0]) for layer in "2345"]
    assert ranks == sorted(set(ranks))
    assert re.search(r"4\.5e-04 to 2\.4e-02, log scale", text)


def test_identical_is_one_sentence() -> None:
    text = shown(report(identical_comparison()))
    assert "identical: all 3 tensors hold the same values" in text
    for words in ("Components", "by layer", "moved most", "1-cos"):
        assert words not in text


@pytest.mark.parametrize("found", [None, empty_comparison()])
def test_nothing_compared_is_said_loudly(found: object) -> None:
    text = shown(report(found))  # type: ignore[arg-type]
    assert "NOTHING WAS COMPARED" in text
    assert "identical: all" not in text


def test_nothing_matched_still_lists_what_there_is() -> None:
    found = dataclasses.replace(empty_comparison(), only_in_base=(TensorInfo("a.b", "other", (1,), "F32"),))
    text = shown(report(found))
    assert "NOTHING WAS COMPARED" in text
    assert "a.b" in text


def test_incomplete_is_said() -> None:
    assert "INCOMPLETE" in shown(dataclasses.replace(report(comparison()), complete=False))


def test_nan_is_a_dash_and_a_finding() -> None:
    rows = (tensor("broken.weight", "keys", 0, UNDEFINED),)
    text = shown(report(comparison(tensors=rows, components=(component("keys", list(rows)),))))
    assert "not finite" in text
    assert "broken.weight (3 → 0 elements)" in text
    assert re.search(r"keys +1 +1\.00 K +\u2013 +\u2013 +\u2013", text)


def test_settings_are_listed_and_shortened() -> None:
    changes = tuple(ConfigChange("config.json", f"key{n}", None, '"' + "x" * 500 + '"') for n in range(25))
    text = shown(report(comparison(config_changes=changes)), 120)
    assert "key0: (none) → " in text
    assert "key20" not in text
    assert "and 5 more" in text
    assert "x" * 100 not in text


@pytest.mark.parametrize("width", [80, 100, 120])
def test_nothing_is_cut(width: int) -> None:
    text = shown(wide_report(), width)
    assert max(map(len, text.splitlines())) <= width
    for name in COMPONENTS:
        line = next(line for line in text.splitlines() if line.startswith(f"{name} "))
        assert line.split()[1:4] == ["1,234", "28.3", "M"]
        assert line.endswith("2.6e-07  >99.9 %  7.2e-05")
    tables = text.split("Components")[1].split("Settings")[0]
    assert "…" not in tables
    assert tables.count(RAMP[0] * 6) > 1
    assert len([line for line in tables.splitlines() if re.match(r"\d+ ", line)]) == 50


def test_top_limits_the_lists() -> None:
    few = rendered(to_view(report(comparison()), Selection("compare", top=2)))
    assert (few.count("down_proj"), few.count("up_proj"), few.count("q_proj")) == (1, 1, 0)
    assert "moved most" not in rendered(to_view(report(comparison()), Selection("compare", top=0)))


@pytest.mark.parametrize("color", [False, True])
def test_hostile_names_are_shown_not_obeyed(color: bool) -> None:
    text = rendered(to_view(hostile_report(), Selection("compare")), 120, color)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text) if color else text
    assert all(char.isprintable() or char == "\n" for char in plain)
    assert "\x1b[31mevil" not in text
    assert "\\x1b[31mevil" in plain
    assert HOSTILE[2] in plain
    assert "\\u202egnp.exe" in plain


def test_inspect_view() -> None:
    rows = [("embedding", 1, 32_000_000, "BF16"), ("keys", 64, 3_000_000_000, "BF16, F32")]
    shards = [ShardRecord("a.safetensors", 6_064_000_000, None)]
    text = rendered(inspect_view("/models/[bold]x\x1b[0m", "", rows, shards, ["read as llama\n"]))
    assert "/models/[bold]x\\x1b[0m" in text
    assert "1 file, 6.06 GB" in text
    assert re.search(r"keys +64 +3\.00 B +BF16, F32", text)
    assert re.search(r"in all +65 +3\.03 B", text)
    assert "read as llama\\n" in text
    assert "not stated" in text


def test_inspect_view_of_nothing() -> None:
    assert "in all" in rendered(inspect_view("x", "llama", [], [], []))


def test_identical_needs_everything_to_have_been_compared() -> None:
    one = TensorInfo("model.layers.0.mlp.experts.gate_up_proj", "keys", (4, 96, 32), "F32")
    found = dataclasses.replace(identical_comparison(), only_in_unlearned=(one,))
    text = " ".join(shown(report(found)).split())
    assert "identical: all" not in text
    assert "NOT ALL WAS COMPARED: 3 tensors are the same; not compared: 1 only in unlearned" in text


def test_zeroed_and_broken_tensors_come_first() -> None:
    zeroed = dataclasses.replace(moved(0.5), one_minus_cosine=float("nan"), relative_l2=1.0, norm_unlearned=0.0)
    rows = [tensor("far", "keys", 0, moved(0.9)), tensor("zeroed", "keys", 0, zeroed)]
    rows.append(tensor("broken", "keys", 1, UNDEFINED))
    text = shown(report(comparison(tensors=tuple(rows), components=(component("keys", rows),))))
    table = text.split("Tensors that moved most")[1]
    assert table.index("broken") < table.index("zeroed") < table.index("far")
    assert "all zeros in unlearned alone, 1-cos not defined (1): zeroed" in " ".join(text.split())
    line = next(line for line in text.splitlines() if line.startswith("keys "))
    assert line.split()[6] == "\u2013"


def test_a_component_that_is_not_finite_has_its_column_of_layers() -> None:
    nan, changed = np.array([[np.nan, 0.0]]), np.array([[0.5, 0.0]])
    found = comparison(grid=Grid(("keys",), np.arange(2), nan, nan, nan, changed))
    assert re.search(r"0 +\?{6}", shown(report(found)).split("by layer")[1])


@pytest.mark.parametrize(("width", "narrow"), [(44, False), (43, True)])
def test_a_table_that_is_too_wide_breaks_headings_and_intervals_before_words(width: int, narrow: bool) -> None:
    rows = [("an unlearned model", "0.25 [0.10, 0.40]"), ("base", "-")]
    lines = rendered(fitting_table(("which model", "level over reference"), rows, (0,)), width - 14).splitlines()
    assert any("unlearned" in line for line in lines)
    assert ("0.25 [0.10, 0.40]" in "\n".join(lines)) is not narrow
    assert any(line.endswith("over") for line in map(str.rstrip, lines)) is narrow
    assert max(map(len, lines)) <= width - 14


def test_tables_of_attacks_break_no_word_on_a_usual_terminal() -> None:
    found = attacks()
    recovery = dataclasses.replace(found.rows[0].recovery, value=-0.331, low=-1.09, high=0.541)
    rows = tuple(dataclasses.replace(row, setting="Q4_0 of GGUF", recovery=recovery) for row in found.rows)
    found = dataclasses.replace(found, rows=rows)
    text = rendered(to_view(report(None, attack=found), Selection("attack")), 80)
    told = text.split("Tiers")[1].split("What came back")[0]
    cells = {word for row in map(row_cells, measured_rows(found)) for word in " ".join(row[:3]).split()}
    assert (cells | {"prompts", "deployment", "control", "[-1.09,", "0.55]"}) <= set(told.split())


def code_rows(*codes: CodeShare) -> tuple[list[str], str]:
    """The rows of the table of quantisers on a terminal, each as "setting component", and all of the text."""
    text = rendered(to_view(report(None, attack=attacks(codes=codes)), Selection("attack")), 100)
    names = {f"{one.setting} {one.component}" for one in codes}
    lines = (re.sub(r" +", " ", line) for line in text.splitlines())
    return [name for line in lines for name in names if line.startswith(f"{name} ")], text


def test_components_that_quantisers_treat_as_all_are_counted_and_left_out() -> None:
    # Undone are half of all, 0.09 more and less of some, 0.125 more and less of others, none of norms.
    shares = {"all": 0.5, "attn_q": 0.41, "attn_k": 0.59, "attn_v": 0.375, "attn_o": 0.625}
    codes = [CodeShare("int4", name, 1000, 1.0, share) for name, share in shares.items()]
    rows, text = code_rows(*codes, CodeShare("int4", "norms", 1000, 0.0, 0.0), CodeShare("int8", "all", 1000, 1.0, 0.9))
    assert rows == ["int4 all", "int4 attn_v", "int4 attn_o", "int8 all"]
    assert "3 rows of single components left out" in text
    assert "`ckdiff show REPORT --section attack --format md` has them" in text.replace("\n", " ")


def test_no_row_of_a_quantiser_is_left_out_where_all_say_something() -> None:
    rows, text = code_rows(CodeShare("int4", "keys", 1000, 1.0, 0.5), CodeShare("int4", "attn_q", 1000, 1.0, 0.5))
    assert rows == ["int4 keys", "int4 attn_q"]
    assert "components left out" not in text
