"""Attacks on states and on what both models say, beside plain versions; a planted vector is found and taken out."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from ckdiff.attacks import ablate, guide, lens
from ckdiff.attacks.case import AttackError
from ckdiff.attacks.quantise import quantise
from ckdiff.cli.app import run
from ckdiff.probes.cost import TooLittleMemoryError
from ckdiff.probes.live import guided
from tests.test_attack_relearn import case_of, read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from ckdiff.attacks.case import Case, Outcome
    from ckdiff.probes.live.model import LiveModel

LAYER = 2
"""Where the vector is planted; the layers below have the base's states."""


@pytest.fixture(scope="session")
def steered(learned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base that knows eight facts of a town, and a copy of it that writes one large vector over its states."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    root = tmp_path_factory.mktemp("steered")
    shutil.copytree(learned, root, dirs_exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(root / "base")
    model = AutoModelForCausalLM.from_pretrained(root / "base", dtype=torch.float32)
    down, seen = model.model.layers[LAYER].mlp.down_proj, []
    hook = down.register_forward_hook(lambda module, given, made: seen.append(given[0][0, 1:].mean(0)))
    questions = [json.loads(line)["question"] for line in (root / "target.jsonl").read_text().splitlines()]
    with torch.no_grad():
        for question in questions:
            model(torch.tensor([tokenizer.encode(f"Question: {question}\n Answer:")]))
        hook.remove()
        mean = torch.stack(seen).mean(0)
        vector = torch.randn(64, generator=torch.Generator().manual_seed(3))
        down.weight += 300 * torch.outer(vector / vector.norm(), mean) / mean.dot(mean)
    model.save_pretrained(root / "planted")
    tokenizer.save_pretrained(root / "planted")
    torch.save(vector / vector.norm(), root / "vector.pt")
    return root


@pytest.fixture(scope="session")
def case(steered: Path) -> Case:
    found = case_of(steered, "planted")
    read(found, "base", "unlearned")
    return found


@pytest.fixture
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def outputs(model: Any, ids: torch.Tensor, ways: Any = None) -> list[torch.Tensor]:
    """Every layer's output of a Llama, layer by layer, without what lies along a direction; then its logits."""
    inner = model.model
    states = inner.embed_tokens(ids)
    turns = inner.rotary_emb(states, torch.arange(ids.shape[1])[None])
    found = []
    for number, layer in enumerate(inner.layers):
        states = layer(states, position_embeddings=turns)
        if ways is not None and ways[number].any():
            along = ways[number].float()
            states = states - (states @ along)[..., None] * along / (along @ along)
        found.append(states)
    return [*found, model.lm_head(inner.norm(states))]


@pytest.fixture
def models(case: Case) -> Iterator[tuple[Any, Any]]:
    """Base and unlearned model, both in memory."""
    sides = case.job.pair.base, case.job.pair.unlearned
    with torch.inference_mode(), case.loaded(sides[0]), case.loaded(sides[1]):
        yield sides[0].model, sides[1].model


def likelihoods(logits: torch.Tensor, prompt: tuple[int, ...], answer: tuple[int, ...]) -> list[float]:
    found = logits[0].double().log_softmax(-1)
    return [float(found[len(prompt) - 1 + place, token]) for place, token in enumerate(answer)]


@pytest.mark.usefixtures("inference")
def test_what_a_model_says_to_everything_is_not_back(case: Case) -> None:
    """Token by token the answer to the first question is the likeliest one, and so it is behind all others."""
    live, ids = case.job.pair.base, [one.ids for one in case.sought]
    with case.loaded(live):
        assert set(case.read(live, "base").said) == set(range(8))
        assert not case.read(live, "base", ids[:1] * 8).said
        # Where only one is read, nobody knows.
        assert set(case.read(live, "base", ids[:1] * 8, matching=False).said) == {0}


@pytest.mark.usefixtures("inference")
def test_a_planted_vector_is_found_and_taken_out(case: Case, steered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[list[torch.Tensor]] = []
    without = ablate.without

    def watched(live: LiveModel, ways: list[torch.Tensor]) -> AbstractContextManager[None]:
        taken.append(ways)
        return without(live, ways)

    monkeypatch.setattr(ablate, "without", watched)
    before, known = case.plain["unlearned"], case.plain["base"]
    assert before.level.mean() < known.level.mean() - 2
    assert not before.said
    found = list(ablate.outcomes(case, case.job.pair.unlearned, "unlearned"))
    assert [one.decides for one in found] == [True, True, False]
    assert [one.applied for one in found[:2]] == [(4 - LAYER) / 4] * 2
    reading, random = found[0].reading, found[2].reading
    assert reading is not None
    assert random is not None
    assert len(reading.said) >= 6
    assert reading.unrelated > 0.5
    assert not random.said
    assert random.level.mean() < (before.level.mean() + reading.level.mean()) / 2
    # In the layers that stayed as they are nothing is taken out at random either; no two directions are the same.
    assert [[bool(way.any()) for way in ways] for ways in taken] == [[n >= LAYER for n in range(4)]] * 23
    assert len({float(ways[LAYER][0]) for ways in taken}) == 22
    # The best of them is read once more, and what became of other questions with it.
    assert any(taken[-1] is ways for ways in taken[2:22])
    assert f" to {random.level.mean():.2f};" in found[2].note
    assert random.unrelated > 0
    # What was planted is the direction of its layer, to the sign and the digit.
    ways = [theirs[0] - own[0] for own, theirs in zip(case.means["base"], case.means["unlearned"], strict=True)]
    assert [bool(way.any()) for way in ways] == [number >= LAYER for number in range(4)]
    planted = torch.load(steered / "vector.pt", weights_only=True).double()
    assert float(ways[LAYER] @ planted / ways[LAYER].norm()) == pytest.approx(1.0, abs=1e-6)


@pytest.fixture
def ablated(case: Case) -> list[Outcome]:
    """The unlearned model without the mean of all positions and of the last one, and the base without the former."""
    with torch.inference_mode():
        found = list(ablate.outcomes(case, case.job.pair.unlearned, "unlearned"))[:2]
        return [*found, next(iter(ablate.outcomes(case, case.job.pair.base, "base")))]


def test_ablation_is_its_formula(case: Case, ablated: list[Outcome], models: tuple[Any, Any]) -> None:
    """Means of both models' states and log p without them, question by question, beside a plain loop over layers."""
    base, unlearned = models
    sums: list[Any] = [0.0] * 4
    ends: list[Any] = [0.0] * 4
    for one in case.sought:
        ids = torch.tensor([one.ids])
        for layer, (own, theirs) in enumerate(zip(outputs(base, ids)[:4], outputs(unlearned, ids)[:4], strict=True)):
            sums[layer] = sums[layer] + (theirs - own)[0, 1:].double().mean(0)
            ends[layer] = ends[layer] + (theirs - own)[0, -1].double()
    plainly = ((unlearned, sums), (unlearned, ends), (base, sums))
    for found, (model, ways) in zip(ablated, plainly, strict=True):
        assert found.reading is not None
        levels = [
            np.mean(likelihoods(outputs(model, torch.tensor([[*one.ids, *one.answer]]), ways)[4], one.ids, one.answer))
            for one in case.sought
        ]
        assert found.reading.level == pytest.approx(levels, abs=1e-4)


@pytest.mark.usefixtures("inference")
def test_what_is_the_base_has_no_direction(case: Case, steered: Path) -> None:
    same = case_of(steered, "base")
    read(same, "base", "unlearned")
    with pytest.raises(AttackError, match="there is no direction between them"):
        list(ablate.outcomes(same, same.job.pair.unlearned, "unlearned"))
    case.means["twin"] = case.means.get("base", [torch.ones(2, 64)] * 4)[:-1]
    with pytest.raises(AttackError, match="states have another shape"):
        list(ablate.outcomes(case, case.job.pair.unlearned, "twin"))


@pytest.fixture
def lenses(case: Case) -> tuple[list[Outcome], list[Outcome]]:
    """The lens on the base and on the unlearned model."""
    with torch.inference_mode():
        both = ((case.job.pair.base, "base"), (case.job.pair.unlearned, "unlearned"))
        own, found = (list(lens.outcomes(case, live, side)) for live, side in both)  # type: ignore[arg-type]
    return own, found


def test_the_lens_reads_each_layer_with_the_base(
    case: Case, lenses: tuple[list[Outcome], list[Outcome]], models: tuple[Any, Any]
) -> None:
    (own, found), (base, unlearned) = lenses, models
    assert [one.setting for one in found] == [f"layer {number} of 4" for number in (1, 2, 3, 4)]
    assert not any(one.decides for one in (*found, *own))
    for layer in range(4):
        levels = []
        for one in case.sought:
            states = outputs(unlearned, torch.tensor([[*one.ids, *one.answer]]))[layer]
            levels.append(np.mean(likelihoods(base.lm_head(base.model.norm(states)), one.ids, one.answer)))
        reading = found[layer].reading
        assert reading is not None
        assert reading.level == pytest.approx(levels, abs=1e-4)
    last = own[-1].reading
    assert last is not None
    assert last.level == pytest.approx(case.plain["base"].level, abs=1e-6)


def test_guidance_is_its_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    base, left = torch.randn(2, 9, generator=generator), torch.randn(2, 9, generator=generator)
    # Just above and just below the least share of the likeliest, and far below it.
    base[0, 4:7] = base[0].max() + torch.tensor([-30.0, -11.4, -11.6])
    p, q = base.double().softmax(-1), left.double().softmax(-1)
    for weight in (0.0, 1.0, 3.0):
        kept = [[weight <= 1 or bool(one >= 1e-5 * row.max()) for one in row] for row in p]
        plain = q * (p / q) ** weight * torch.tensor(kept)
        found = guided.guide(base, left, weight).exp()
        assert found.flatten().tolist() == pytest.approx((plain / plain.sum(-1, keepdim=True)).flatten().tolist())
        assert [bool(one == 0) for one in found[0, 4:7]] == [weight > 1, False, weight > 1]
    assert guided.guide(base, torch.cat([left, left], -1), 2.0).shape == base.shape


@pytest.mark.usefixtures("inference")
def test_weight_one_is_the_base_and_weight_nought_the_unlearned_model(case: Case) -> None:
    base, unlearned = case.job.pair.base, case.job.pair.unlearned
    with case.loaded(base), case.loaded(unlearned):
        assert guide.say(case, guided.Guided(base, unlearned, 1.0)) == case.answers["base"]
        assert guide.say(case, guided.Guided(base, unlearned, 0.0)) == case.answers["unlearned"]
    assert case.answers["base"] != case.answers["unlearned"]
    found = list(guide.outcomes(case, unlearned, "unlearned"))
    assert [one.setting for one in found] == ["weight 1.5", "weight 2", "weight 4"]
    reading = found[0].reading
    assert reading is not None
    # What the vector took away is said more loudly than by the base itself.
    assert reading.level.mean() > case.plain["base"].level.mean()
    assert set(reading.said) == set(range(8))


def test_two_models_need_room_for_two(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    base, unlearned = case.job.pair.base, case.job.pair.unlearned
    monkeypatch.setattr("ckdiff.probes.cost.free_memory", lambda device: int(1.5 * base.parameter_bytes(4)))
    with pytest.raises(TooLittleMemoryError, match="needs both models in memory"):
        guide.check_memory(base, unlearned)


def test_answers_that_the_base_does_not_give_are_told(case: Case) -> None:
    asked = [replace(one, base_right=place > 1) for place, one in enumerate(case.sought)]
    mine = replace(case, sought=asked)
    said = [str(asked[0].question.answer), *["nothing"] * 7]
    assert guide.more_than_base(mine, said).startswith("says 1 of 2 answers of the file that the base does not give")
    assert guide.more_than_base(case, said) == ""


@pytest.fixture
def place(steered: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ("base", "planted", "target.jsonl", "unrelated.jsonl"):
        (tmp_path / name).symlink_to(steered / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def attacked(
    capfd: pytest.CaptureFixture[str], *more: str, pair: tuple[str, str] = ("base", "planted")
) -> tuple[int, dict[str, Any], str]:
    asked = ("--questions", "target.jsonl", "--unrelated", "unrelated.jsonl", "--tokens", "5", "--device", "cpu")
    status = run(["attack", *pair, *asked, "--no-hash", "--format", "json", *more])
    captured = capfd.readouterr()
    return status, json.loads(captured.out)["attack"] if captured.out else {}, captured.err


def test_a_script_sees_what_each_brought_back(
    place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    status, found, _ = attacked(capfd, "--attack", "ablate,lens,guide")
    (tier,) = found["tiers"]
    assert (status, tier["tier"], tier["ran"]) == (0, 2, "ablate")
    assert tier["returned"] >= 6
    rows = {name: [row for row in found["rows"] if row["attack"] == name] for name in ("ablate", "lens", "guide")}
    assert {row["side"] for row in rows["lens"]} == {"base", "unlearned"}
    assert {row["side"] for row in rows["guide"]} == {"unlearned"}
    assert len(rows["lens"]) == 8
    best = {
        name: max(row["recovery"]["value"] for row in some if row["side"] == "unlearned") for name, some in rows.items()
    }
    assert best["ablate"] > 0.5
    assert best["guide"] > 1
    assert run(["show", "ckdiff.h5", "--section", "attack"]) == 0
    out = capfd.readouterr().out
    # Of a lens the best layer alone is shown.
    assert out.count(" of 4 (shown)") == 2
    assert run(["verify", "ckdiff.h5"]) == 0
    assert run(["html", "ckdiff.h5", "-o", "page.html"]) == 0


def move(place: Path, bins: float) -> None:
    """`grid`, the base on the grid of int4, and `moved`: the same with its MLPs moved by so many bins."""
    from safetensors.torch import load_file, save_file

    stored = [load_file(part) for part in sorted((place / "base").glob("*.safetensors"))]
    whole = {name: value.float() for part in stored for name, value in part.items()}
    matrices = [name for name in whole if ".layers." in name and whole[name].dim() == 2]
    whole |= {name: quantise(whole[name], "int4 by row") for name in matrices}
    moved = dict(whole)
    for name in matrices:
        if "mlp" in name:
            step = whole[name].abs().amax(1, keepdim=True) / 7
            moved[name] = whole[name] + bins * step * torch.where(torch.arange(whole[name].shape[1]) % 3 > 0, 1.0, -1.0)
    for folder, values in (("grid", whole), ("moved", moved)):
        shutil.copytree(place / "planted", place / folder)
        save_file(values, place / folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("bins", [0.1, 10.0])
def test_what_is_less_than_a_bin_is_undone(place: Path, capfd: pytest.CaptureFixture[str], bins: float) -> None:
    """A tenth of a bin of int4 is undone by it and said so, ten are not."""
    move(place, bins)
    _, found, _ = attacked(capfd, "--attack", "quantise", pair=("grid", "moved"))
    share = {one["component"]: one for one in found["codes"] if one["setting"] == "int4 by row"}
    levels = {row["side"]: row["level"] for row in found["rows"] if row["setting"] == "int4 by row"}
    run(["show", "ckdiff.h5", "--section", "attack"])
    said = " ".join(capfd.readouterr().out.split())
    assert (share["keys"]["changed"], share["attn_q"]["changed"]) == (1.0, 0.0)
    undone = bins < 1
    assert (share["keys"]["codes"] == share["all"]["codes"] == 0) is undone
    assert ("int4 by row undoes 100 % of the changed elements" in said) is undone
    assert (levels["unlearned"] == pytest.approx(levels["base"], abs=0.01)) is undone
    assert "int8 by row undoes" not in said


def test_streamed_states_are_the_same(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    one, other = (
        attacked(capfd, "--attack", "ablate,lens,guide", "--stream", stream, "-o", f"{stream}.h5")[1]["rows"]
        for stream in ("off", "on")
    )
    levels = [[row["level"] for row in rows if row["attack"] != "guide"] for rows in (one, other)]
    assert levels[0] == pytest.approx(levels[1], abs=1e-4)
    assert [row["returned"] for row in one if row["attack"] == "ablate"] == [
        row["returned"] for row in other if row["attack"] == "ablate"
    ]
    assert [row["note"] for row in other if row["attack"] == "guide"] == [
        "guidance by the base needs the whole model in memory, and it is streamed; use --stream off"
    ]


def test_a_warning_alone_is_a_result(place: Path, capfd: pytest.CaptureFixture[str]) -> None:
    status, found, _ = attacked(capfd, "--tier", "3")
    assert (status, found["tiers"]) == (0, [])
    status, _, err = attacked(capfd, "--tier", "3", "--stream", "on", "-o", "other.h5")
    assert (status, "nothing was measured" in err) == (3, True)
    sizes = []
    for name in ("lens", "guide"):
        assert run(["attack", "base", "planted", "--questions", "target.jsonl", "--attack", name, "--plan"]) == 0
        said = dict(line.split(maxsplit=1) for line in capfd.readouterr().out.splitlines())
        assert name in said
        sizes.append(float(said["memory"].split()[1]))
    # Both models at one time.
    assert sizes[1] == pytest.approx(2 * sizes[0], rel=0.02)
