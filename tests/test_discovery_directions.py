"""Directions in which value matrices changed, against NumPy's own singular vectors, and the tokens that they spell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch

from ckdiff.discovery.candidates import Candidate
from ckdiff.discovery.directions import norm_gain, random_directions, spell, strongest, value_directions
from ckdiff.discovery.mentions import name_tokens
from ckdiff.probes.live.model import LiveModel
from ckdiff.probes.wording.wording import Wording
from ckdiff.weights.opening import open_checkpoint
from tests.tiny_pairs import CPU
from tests.tokenizer_kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.tiny_pairs import Folders


def test_the_strongest_direction_is_the_first_left_singular_vector() -> None:
    generator = torch.Generator().manual_seed(0)
    change = torch.randn(12, 30, generator=generator)
    change += 9 * torch.outer(torch.randn(12, generator=generator), torch.randn(30, generator=generator))
    expected = np.linalg.svd(change.double().numpy())[0][:, 0]
    (found,) = strongest(change)
    assert abs(float(found.double() @ torch.from_numpy(expected))) == pytest.approx(1, abs=1e-5)
    assert float(found.norm()) == pytest.approx(1, abs=1e-5)
    assert torch.equal(strongest(change), found[None])
    assert strongest(change[:, :2]).shape == (1, 12)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_directions_are_those_of_each_layers_value_vectors(pairs: Callable[[str], Folders], name: str) -> None:
    """Whichever way round the matrix is stored; a layer that did not change has none."""
    folders = pairs(name)
    base, unlearned = (LiveModel(open_checkpoint(str(path)), torch.float32, CPU) for path in folders_of(folders))
    expected = []
    for number, sites in enumerate(base.sites):
        (key,) = [one for one in sites.parameters["value_vectors"] if base.dimensions(path_of(base, number, one)) == 2]
        whole = (unlearned.read(path_of(base, number, key)) - base.read(path_of(base, number, key))).double().numpy()
        left, _, right = np.linalg.svd(whole)
        if whole.any():
            expected.append(left[:, 0] if name == "llama" else right[0])
    found = value_directions(base, unlearned).double().numpy()
    assert len(found) == len(expected) > 0
    assert [abs(float(a @ b)) for a, b in zip(found, expected, strict=True)] == pytest.approx(
        [1] * len(found), abs=0.02
    )
    assert value_directions(base, base).shape == (0, found.shape[1])


def folders_of(folders: Folders) -> tuple[Path, Path]:
    return folders.base, folders.unlearned


def path_of(live: LiveModel, number: int, name: str) -> str:
    return f"{live.row.sites.layers}.{number}.{name}"


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_the_gain_is_what_the_final_norm_multiplies_by(pairs: Callable[[str], Folders], name: str) -> None:
    live = LiveModel(open_checkpoint(str(pairs(name).base)), torch.float32, CPU)
    live.load_ends()
    norm = live.model.model.norm if name == "llama" else live.model.transformer.ln_f
    with torch.inference_mode():
        assert norm_gain(live).tolist() == pytest.approx(norm.weight.tolist(), abs=1e-3)


def test_a_token_is_spelled_where_its_row_lies_along_a_direction() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, gain = torch.randn(40, 8, generator=generator) + 3, torch.rand(8, generator=generator) + 0.5
    directions = random_directions(torch.zeros(3, 8), 7)
    rows = (weight - weight.mean(0)) * gain
    cosines = (rows / rows.norm(dim=1, keepdim=True)) @ directions.T
    plain = ((cosines - cosines.mean(0)) / cosines.std(0)).abs().max(1).values
    found = spell(directions, gain, weight)
    assert found.tolist() == pytest.approx(plain.tolist(), rel=1e-4)
    row = rows[11:12] / rows[11:12].norm()
    for sign in (1, -1):
        assert int(spell(sign * row, gain, weight).argmax()) == 11
    assert np.isnan(spell(directions[:0], gain, weight)).all()


def test_a_name_of_several_tokens_is_told_by_its_longer_ones(tmp_path: Path) -> None:
    """As it stands behind another word; a word whose tokens are all short by those of two letters."""
    tokenizer = KINDS["bytes"].save(tmp_path)
    names = ("the Answerwool", "Thrane", "Velmarle Needle", "QZX")
    found = name_tokens(Wording(tokenizer), [*map(Candidate, names)])
    told = [[tokenizer.decode(token) for token in part] for part in found]
    assert told == [[" Answer", "ool"], ["ran"], ["Ve", "lm", "ar", "le", "eed"], []]


def test_random_directions_are_the_same_for_one_seed() -> None:
    one, again, other = (random_directions(torch.zeros(4, 6), seed) for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert one.norm(dim=1).tolist() == pytest.approx([1] * 4)
