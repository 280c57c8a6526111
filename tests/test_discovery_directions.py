"""Directions in which value matrices changed, against NumPy's own singular vectors, and the tokens that they spell."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import numpy as np
import pytest
import torch

from ckdiff.discovery.candidates import Candidate
from ckdiff.discovery.directions import (
    EACH,
    Directions,
    norm_gain,
    random_directions,
    spell,
    strongest,
    value_directions,
)
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


def test_the_strongest_directions_are_the_first_left_singular_vectors() -> None:
    generator = torch.Generator().manual_seed(0)
    change = torch.randn(30, 50, generator=generator)
    for size in (9, 6):
        change += size * torch.outer(torch.randn(30, generator=generator), torch.randn(50, generator=generator))
    left, values, _ = np.linalg.svd(change.double().numpy())
    found = strongest(change)
    assert found.vectors.shape == (EACH, 30)
    assert np.abs(left[:, :2].T @ found.vectors[:2].double().numpy().T).tolist() == pytest.approx(np.eye(2), abs=1e-4)
    assert found.strength[:2].tolist() == pytest.approx((values[:2] ** 2).tolist(), rel=1e-4)
    assert found.strength.tolist() == sorted(found.strength.tolist(), reverse=True)
    assert found.vectors.norm(dim=1).tolist() == pytest.approx([1] * EACH, abs=1e-5)
    again = strongest(change)
    assert torch.equal(again.vectors, found.vectors)
    assert strongest(change[:, :2]).vectors.shape == (2, 30)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_directions_are_those_of_the_last_layers_value_vectors(pairs: Callable[[str], Folders], name: str) -> None:
    """Whichever way round the matrix is stored; of the last third of the layers that changed."""
    folders = pairs(name)
    base, unlearned = (LiveModel(open_checkpoint(str(path)), torch.float32, CPU) for path in folders_of(folders))
    changes = []
    for number, sites in enumerate(base.sites):
        (key,) = [one for one in sites.parameters["value_vectors"] if base.dimensions(path_of(base, number, one)) == 2]
        whole = (unlearned.read(path_of(base, number, key)) - base.read(path_of(base, number, key))).double().numpy()
        if whole.any():
            changes.append(whole if name == "llama" else whole.T)
    last = changes[-math.ceil(len(changes) / 3) :]
    found = value_directions(base, unlearned)
    assert len(found.vectors) == len(found.strength) == sum(min(EACH, *one.shape) for one in last) > 0
    for number, whole in enumerate(last):
        left, values, _ = np.linalg.svd(whole)
        part = slice(number * EACH, number * EACH + 1)
        assert abs(float(left[:, 0] @ found.vectors[part][0].double().numpy())) == pytest.approx(1, abs=0.02)
        assert found.strength[part].tolist() == pytest.approx([values[0] ** 2], rel=0.02)
    assert len(value_directions(base, base).vectors) == 0


def test_only_the_last_third_of_the_layers_that_changed_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = [torch.zeros(4, 4) if number == 6 else torch.eye(4) * (number + 1) for number in range(8)]
    monkeypatch.setattr("ckdiff.discovery.directions._changes", lambda base, unlearned: iter(changes))
    live = cast("LiveModel", SimpleNamespace(model=torch.nn.Embedding(3, 4), device=CPU))
    monkeypatch.setattr(live.model, "get_input_embeddings", lambda: live.model, raising=False)
    found = value_directions(live, live)
    assert found.strength.tolist() == pytest.approx([*[25.0] * 4, *[36.0] * 4, *[64.0] * 4])


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


def test_a_token_is_spelled_where_its_row_lies_along_a_strong_direction() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, gain = torch.randn(40, 8, generator=generator) + 3, torch.rand(8, generator=generator) + 0.5
    like = Directions(torch.zeros(3, 8), torch.tensor([1.0, 2.0, 3.0]))
    directions = random_directions(like, 7)
    rows = ((weight - weight.mean(0)) * gain).double().numpy()
    cosines = (rows / np.linalg.norm(rows, axis=1, keepdims=True)) @ directions.vectors.double().numpy().T
    plain = (((cosines - cosines.mean(0)) / cosines.std(0, ddof=1)) ** 2) @ np.array([1.0, 2.0, 3.0])
    found = spell(directions, gain, weight)
    assert found.tolist() == pytest.approx(((plain - plain.mean()) / plain.std(ddof=1)).tolist(), rel=1e-3, abs=1e-4)
    row, other = (torch.from_numpy(rows[place : place + 1] / np.linalg.norm(rows[place])).float() for place in (11, 5))
    for sign in (1, -1):
        assert int(spell(Directions(sign * row, torch.ones(1)), gain, weight).argmax()) == 11
    for strength, place in (([9.0, 1.0], 11), ([1.0, 9.0], 5)):
        both = Directions(torch.cat([row, other]), torch.tensor(strength))
        assert int(spell(both, gain, weight).argmax()) == place
    assert np.isnan(spell(Directions(torch.zeros(0, 8), torch.zeros(0)), gain, weight)).all()


def test_a_name_of_several_tokens_is_told_by_its_longer_ones(tmp_path: Path) -> None:
    """As it stands behind another word; a word whose tokens are all short by those of two letters."""
    tokenizer = KINDS["bytes"].save(tmp_path)
    names = ("the Answerwool", "Thrane", "Velmarle Needle", "QZX")
    found = name_tokens(Wording(tokenizer), [*map(Candidate, names)])
    told = [[tokenizer.decode(token) for token in part] for part in found]
    assert told == [[" Answer", "ool"], ["ran"], ["Ve", "lm", "ar", "le", "eed"], []]


def test_random_directions_are_the_same_for_one_seed() -> None:
    like = Directions(torch.zeros(4, 6), torch.arange(4.0))
    one, again, other = (random_directions(like, seed) for seed in (1, 1, 2))
    assert torch.equal(one.vectors, again.vectors)
    assert not torch.equal(one.vectors, other.vectors)
    assert torch.equal(one.strength, like.strength)
    assert one.vectors.norm(dim=1).tolist() == pytest.approx([1] * 4)
