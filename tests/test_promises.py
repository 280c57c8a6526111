"""What is promised as one row is one row: a row is thrown in, and everything that takes rows is run with it.

Where a promise has a second part (what a mode means to `tests.reference`, the README's words, a tiny config), the test
of that part must name the row that lacks it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from ckdiff.audit.gate.policy import read_policy
from ckdiff.audit.verdict.verdict import judge
from ckdiff.audit.verify.report import check
from ckdiff.modes import MODES, Mode, has_gate
from ckdiff.report.formats import FORMATS
from ckdiff.report.hdf5.file import read_report, write_report
from ckdiff.weights.architectures import ARCHITECTURES, LLAMA
from tests import test_families, test_readme, test_runs, test_sweep, tiny_families
from tests.reports import same
from tests.test_probe_cli import ASKED, QUICK, ckdiff, made, place, save_tokenizer
from tests.tiny_pairs import save_pair

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from tests.test_probe_cli import Run

__all__ = ["ckdiff", "made", "place"]

ROW = Mode(
    subject="ups",
    gist="what the gates let through",
    meaning="the output of the MLP's up projection",
    role="shown",
    applies=has_gate,
    needs="a gated MLP",
    key_outputs=("up",),
)
PROBE = ("probe", "base", "unlearned", "--questions", "questions.txt", *QUICK)


@pytest.fixture
def mode(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(MODES, "upward", ROW)
    return "upward"


@pytest.fixture
def family(monkeypatch: pytest.MonkeyPatch) -> str:
    """A model type of transformers that no row is about."""
    name = "cwm"
    assert name not in ARCHITECTURES
    monkeypatch.setitem(cast("MutableMapping[str, Any]", ARCHITECTURES), name, replace(LLAMA, model_type=name))
    monkeypatch.setitem(tiny_families.CONFIGS, name, tiny_families.COMMON)
    monkeypatch.setitem(tiny_families.ALL, name, (name, tiny_families.COMMON))
    return name


def test_a_mode_is_one_row(mode: str, ckdiff: Run) -> None:
    """Probed, kept, shown in every format, on the page and in the figure, measured by the policy, verified, judged."""
    every, others = (",".join(name for name in MODES if name not in left) for left in (["router"], ["router", mode]))
    plans = [ckdiff(*PROBE, "--mode", names, "--plan")[1] for names in ("all", every, others)]
    assert plans[0] == plans[1] != plans[2]
    few = f"coeff,{mode}"
    status, out, _ = ckdiff(*PROBE, "--mode", few, "--variant", "direct,whole", "--direction", "both", "--layers", 1)
    assert (status, mode in out) == (0, True)
    found = read_report(Path("ckdiff.h5"))
    assert found.probe is not None
    runs = {(run.mode, run.variant, run.direction) for run in found.probe.runs}
    assert {(mode, variant, way) for variant in ("direct", "whole") for way in ("restore", "break")} <= runs
    assert {row.mode for row in found.probe.controls if row.name == "wrong_prompt"} >= {mode, "coeff"}
    write_report(found, Path("again.h5"))
    assert same(read_report(Path("again.h5")), found)
    for name in FORMATS:
        status, out, err = ckdiff("show", "ckdiff.h5", "--format", name)
        assert (status, mode in out) == (0, True) or name == "junit", (name, err)
    assert ckdiff("html", "ckdiff.h5", "-o", "page.html")[0] == 0
    assert f"{mode}: {ROW.gist.replace(chr(39), '&#39;')}" in Path("page.html").read_text()
    assert ckdiff("figure", "ckdiff.h5", "-o", "probe.svg")[0] == 0
    assert f">{mode}<" in Path("probe.svg").read_text()
    policy = read_policy()
    assert mode in policy.measure["modes"]
    assert mode not in policy.checks["require.modes"]
    assert [row for row in check(found).found if row.where.startswith("probe")] == []
    assert mode in {row.mode for row in judge(found).explanations}


def test_help_has_every_row() -> None:
    # Its text is made when the module is loaded.
    added = "from ckdiff.modes import MODES; MODES['upward'] = MODES['coeff']; from ckdiff.cli.app import run; "
    text = subprocess.run(
        [sys.executable, "-c", f"{added}run(['probe', '--help'])"],
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "ancillary, upward, or all" in text


@pytest.mark.parametrize(
    "part",
    [
        test_readme.test_every_mode_variant_and_score_is_explained,
        test_runs.test_the_table_has_every_mode_and_variant,
        test_sweep.test_the_reference_has_every_mode_and_variant,
    ],
)
def test_what_a_mode_still_lacks_is_named(mode: str, part: Any) -> None:
    with pytest.raises(AssertionError, match=rf"\b{mode}\b"):
        part()


def test_an_architecture_is_one_row_and_one_tiny_config(family: str, ckdiff: Run, tmp_path: Path) -> None:
    """Compared by component, asked, probed; in every mode that it has like plain hooks."""
    folders = save_pair(family, tmp_path / family)
    test_sweep.assert_same(folders, None, 1, 1e-9, lambda plan: test_sweep.fewer(plan, 0))
    for folder in (folders.base, folders.unlearned):
        save_tokenizer(folder)
    pair = (str(folders.base), str(folders.unlearned))
    assert ckdiff("compare", *pair, "--no-hash")[0] == 0
    compared = read_report(Path("ckdiff.h5")).compare
    assert compared is not None
    assert compared.known_architecture
    assert {row.component for row in compared.tensors} >= {"keys", "value_vectors", "attn_q", "norms"}
    assert "other" not in {row.component for row in compared.tensors}
    assert ckdiff("probe", *pair, "--question", ASKED[0], *QUICK)[0] in (0, 3)
    assert ckdiff("behave", *pair, "--question", ASKED[0], "--no-neutral", "--tokens", 2, "--no-hash")[0] in (0, 3)
    assert ckdiff("inspect", pair[0])[0] == 0


def test_what_an_architecture_still_lacks_is_named(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(tiny_families.CONFIGS, family)
    with pytest.raises(AssertionError, match=family):
        test_families.test_there_is_a_tiny_model_of_every_row()
