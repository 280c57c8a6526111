"""Rows of the unembedding that turned away, against plain loops, and the topic that they tell."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from ckdiff.discovery.rows import SHORT, row_turns
from ckdiff.probes.forcing import Forced
from ckdiff.probes.live.unembedding import Unembedding
from ckdiff.report.hdf5.file import read_report
from ckdiff.report.schema.discovery import TURNED, WRITTEN
from ckdiff.unlearn.world import TOWNS
from tests.test_probe_cli import ckdiff, made, place

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from ckdiff.report.schema.discovery import DiscoveryReport
    from tests.test_probe_cli import Run

__all__ = ["ckdiff", "made", "place"]


def side(weight: Tensor, hidden: Tensor) -> Forced:
    return Forced(hidden, Unembedding(weight, None, 1.0, None))


def test_a_row_turns_by_the_cosine_between_its_change_and_what_it_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ckdiff.discovery.rows.BLOCK", 3)
    generator = torch.Generator().manual_seed(0)
    weight, change = (torch.randn(8, 5, generator=generator) for _ in range(2))
    hidden, later = (torch.randn(6, 5, generator=generator) + 1 for _ in range(2))
    change[2] = 0
    change[3] *= 1e-3
    mean = hidden.mean(0)
    change[4] = -mean
    # The base has no row for the last one.
    found = row_turns(side(weight[:7], hidden), side(weight + change, later))
    lengths = [float(row.norm()) for row in change[:7]]
    least = SHORT * float(np.median([length for length in lengths if length]))
    along = [-float(row @ mean) / float(mean.norm()) for row in change[:7]]
    plain = [part / max(length, least) for part, length in zip(along, lengths, strict=True)]
    assert found.tolist() == pytest.approx(plain, abs=1e-5)
    assert found[4] == pytest.approx(1)
    assert found[2] == 0
    assert 0 < abs(found[3]) < 0.5
    assert np.isnan(row_turns(side(weight, hidden), side(weight.clone(), later))).all()


@pytest.fixture
def towns(ckdiff: Run) -> Path:
    path = Path("towns.txt")
    path.write_text("\n".join(TOWNS))
    return path


def turn_rows(base: Path, place: Path, change: Callable[[Tensor], Tensor]) -> None:
    """A copy of a base whose unembedding's rows are changed."""
    shutil.copytree(base, place)
    for path in sorted(place.glob("*.safetensors")):
        tensors = load_file(path)
        name = next(name for name in tensors if name.endswith(("lm_head.weight", "embed_tokens.weight")))
        tensors[name] = change(tensors[name])
        save_file(tensors, path, {"format": "pt"})


def discover(ckdiff: Run, base: Path, other: Path, towns: Path) -> DiscoveryReport:
    ckdiff("discover", base, other, "--candidates", towns, "--sampled", 4, "--length", 16, "--quiet", "--overwrite")
    found = read_report(Path("ckdiff.h5")).discovery
    assert found is not None
    return found


def test_the_row_that_turned_away_tells_its_town(ckdiff: Run, learned: Path, towns: Path) -> None:
    """All rows move as far, one town's away from what the model puts into its unembedding."""
    base, town = learned / "base", TOWNS[2]
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.no_grad():
        ids = torch.tensor([tokenizer.encode((learned / "unrelated.jsonl").read_text()[:400])])
        mean = model.model(ids).last_hidden_state[0].mean(0)
    token = tokenizer.convert_tokens_to_ids(town)

    def change(rows: Tensor) -> Tensor:
        moved = torch.randn(rows.shape, generator=torch.Generator().manual_seed(0))
        moved[token] = -mean / mean.norm() * moved.norm(dim=1).mean()
        return rows + 0.001 * moved

    turn_rows(base, Path("turned"), change)
    found = discover(ckdiff, base, Path("turned"), towns)
    assert TURNED in found.forms
    scores = found.form_scores[:, found.forms.index(TURNED)]
    assert found.candidates[int(scores.argmax())].name == town
    assert scores.max() > 2
    assert next(one.word for one in found.weights if one.source == TURNED) == town
    assert {one.source for one in found.weights} == {TURNED}


def test_rows_that_did_not_move_are_no_evidence(ckdiff: Run, learned: Path, towns: Path) -> None:
    base = learned / "base"
    shutil.copytree(base, "kept")
    for path in sorted(Path("kept").glob("*.safetensors")):
        tensors = load_file(path)
        for name in [name for name in tensors if name.endswith("down_proj.weight")]:
            noise = torch.randn(tensors[name].shape, generator=torch.Generator().manual_seed(0))
            tensors[name] = tensors[name] + 0.02 * noise
        save_file(tensors, path, {"format": "pt"})
    found = discover(ckdiff, base, Path("kept"), towns)
    assert np.isnan(found.form_scores[:, found.forms.index(TURNED)]).all()
    assert np.isfinite(found.form_scores[:, found.forms.index(WRITTEN)]).all()
    assert {one.source for one in found.weights} == {WRITTEN}
    assert not any(math.isnan(one.score) for one in found.candidates)
