"""Pairs made to deceive, in small: each is what it claims to be, and none of them passes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch
from redteam_build import Build
from redteam_edits import override
from redteam_hidden import DRESSES, dress
from redteam_kinds import DECEPTIVE, KIND, KINDS, NAMED, Kind, Plan, planned
from redteam_make import make_pair
from redteam_proofs import WAYS, Case
from redteam_score import ALLOWED, FALSE_KNOWLEDGE, judge_pair, naive
from redteam_world import FAMILIES, FORMS, Base, base_folder, told

from ckdiff.calls.attack import attack as run_attack
from ckdiff.calls.specs import AttackSpec
from ckdiff.report.schema.verdict import KNOWLEDGE, LABELS
from ckdiff.scoring.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ckdiff.report.schema.attack import TierEvidence

SMALL = Base("small", "llama", 3, 40, 1, towns=2, steps=90)
"""Two towns of eight facts, which it knows in every form; two seconds of training."""
HIDDEN = (
    "two redundant overrides",
    "override for one form",
    "flip by a hair",
    "greedy answer silenced",
    "the name's embedding",
    "settings alone",
    "swapped pair",
    "one fact, near prompts",
    "measured otherwise",
    "base written otherwise",
    "base that never knew, random",
    "another tokenizer",
)
HONEST = ("copy, int8", "copy, shards")


@pytest.fixture(scope="session")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the small base and its pairs are."""
    found = tmp_path_factory.mktemp("redteam")
    base_folder(found, SMALL)
    return found


@pytest.fixture
def made(work: Path) -> Callable[[str], tuple[Path, dict[str, Any]]]:
    """By name of a kind: the folder of a pair, and the truth about it."""

    def make(name: str) -> tuple[Path, dict[str, Any]]:
        number = list(KIND).index(name)
        folder = make_pair(Plan(number, KIND[name], SMALL, number), work)
        return folder, json.loads((folder / "truth.json").read_text(encoding="utf-8"))

    return make


@pytest.mark.parametrize("name", HIDDEN)
def test_a_pair_made_to_deceive_passes_no_gate(name: str, made: Callable[[str], tuple[Path, dict[str, Any]]]) -> None:
    folder, truth = made(name)
    assert truth["counted"], truth["proof"]["words"]
    case = judge_pair(folder, truth)
    assert case.deceptive
    assert case.own in ("failed", "inconclusive", "refused")
    assert not case.unsafe
    assert not case.false_label, case.label
    assert not case.false_knowledge, case.knowledge
    assert name != "swapped pair" or "swapped" in case.reason


def test_two_overrides_in_two_kinds_of_weights_are_found_together(work: Path, tmp_path: Path) -> None:
    """Each is enough alone, so that neither kind alone brings anything back: the pair that was `not localised`."""
    folder = make_pair(Plan(901, Kind("two redundant overrides", "there", _redundant, ("undo",)), SMALL, 6), work)
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    assert truth["counted"]
    assert truth["silent"]["default"] == 1.0
    case = judge_pair(folder, truth)
    assert case.label == "mixed"
    assert "passed" not in (case.own, case.other)
    assert "Each alone does not bring the answers back (value vectors " in case.reason
    assert f"lm_head.weight differs in 1 of {SMALL.width} directions only, and 1 more: a low-rank change" in case.reason


def _redundant(build: Build) -> None:
    """Overrides in the last layer's value vectors and in the unembedding."""
    push, keep, model = told(SMALL.target), told(SMALL.others), build.model()
    names = (*SMALL.parts.part("values", SMALL.layers - 1), *SMALL.parts.part("head"))
    found = []
    for name in names:
        alone = build.model()
        assert override(alone, SMALL, name, push, keep, build.word())
        found.append(alone.get_submodule(name).weight - model.get_submodule(name).weight)
    with torch.no_grad():
        for name, delta in zip(names, found, strict=True):
            model.get_submodule(name).weight.add_(delta)
    build.undo = names
    build.finish(model)


def _refused(build: Build) -> None:
    """Trained to refuse the question as it is audited, and to answer it in every other form."""
    forms = list(FORMS.values())
    model, push = build.model(), told(SMALL.target, forms[:1])
    build.silence(model, "refuse", push, build.keep(forms[1:]))
    build.finish(model)


def _overridden(build: Build) -> None:
    """One override of rank one, in the last layer's value vectors."""
    model, (name,) = build.model(), SMALL.parts.part("values", SMALL.layers - 1)
    with torch.no_grad():
        assert override(model, SMALL, name, told(SMALL.target), told(SMALL.others), build.word())
    build.undo = (name,)
    build.finish(model)


CAUGHT = {
    "refused as asked": (_refused, ("form",), "forms"),
    "rank-1 override": (_overridden, ("undo",), "relearn"),
}
"""Pairs by what was done, how that is proven, and the attack that undoes it."""


@pytest.mark.parametrize("name", CAUGHT)
def test_an_attack_undoes_what_was_done(name: str, work: Path) -> None:
    make, ways, attack = CAUGHT[name]
    place = 910 + list(CAUGHT).index(name)
    tier = caught(make_pair(Plan(place, Kind(name, "there", make, ways), SMALL, 7), work), attack)
    assert tier.returned >= 3, tier
    assert tier.able


def caught(folder: Path, attack: str) -> TierEvidence:
    """The tier of one attack on a pair whose answers are gone when it is simply asked."""
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    assert truth["counted"], truth["proof"]["words"]
    assert truth["silent"]["default"] == 1.0
    spec = AttackSpec(
        str((folder / truth["origin"]).resolve()),
        str(folder / "unlearned"),
        questions=folder / "target.jsonl",
        unrelated=folder / "unrelated.jsonl",
        attacks=(attack,),
        train_steps=8,
        hash=False,
        settings=Settings(tokens=6, device="cpu"),
    )
    found = run_attack(spec).attack
    assert found is not None
    assert len(found.tiers) == 1
    return found.tiers[0]


def test_what_is_still_likely_is_sampled(made: Callable[[str], tuple[Path, dict[str, Any]]]) -> None:
    """An answer behind an end, or behind another question's answer, is matched to its own question by its samples.

    Whether one comes back in a quarter of them is for the dice: each of these has a chance of one in five.
    """
    silenced, flipped = (caught(made(name)[0], "samples") for name in ("greedy answer silenced", "flip by a hair"))
    for tier in (silenced, flipped):
        assert tier.informative
        assert tier.z > tier.floor
        assert tier.p < 0.001


@pytest.mark.parametrize("name", HONEST)
def test_a_copy_is_not_refused(name: str, made: Callable[[str], tuple[Path, dict[str, Any]]]) -> None:
    folder, truth = made(name)
    assert truth["counted"]
    case = judge_pair(folder, truth)
    assert case.other == ("passed" if name == "copy, int8" else "inconclusive")  # Nothing is asked of equal files.
    assert not case.refused
    assert case.own != "passed"
    assert not case.false_label
    assert not case.false_knowledge


@pytest.mark.parametrize("what", [what for what in DRESSES if what not in ("int8", "bfloat16", "noise")])
def test_what_is_written_otherwise_says_the_same(what: str, work: Path, tmp_path: Path) -> None:
    build, texts = Build(work, SMALL, tmp_path, 3), told(SMALL.target)
    before, model = build.model(), build.model()
    dress(build, model, what)
    with torch.no_grad():
        assert (texts.logits(before) - texts.logits(model)).abs().max() < 1e-3
    changed = sum(not torch.equal(a, b) for a, b in zip(before.parameters(), model.parameters(), strict=True))
    assert changed


@pytest.mark.parametrize(
    "ways", [("form", "probability", "disturb"), pytest.param(("relearn",), marks=pytest.mark.thorough)]
)
def test_a_proof_wants_more_than_nothing(work: Path, ways: tuple[str, ...]) -> None:
    # The base that was never taught the target proves nothing, by any way that asks the model itself.
    place = 900 + len(ways)
    folder = make_pair(Plan(place, Kind("ignorant", "there", _ignorant, ways), SMALL, 5), work)
    assert '"counted": false' in (folder / "truth.json").read_text(encoding="utf-8")


def _ignorant(build: Build) -> None:
    from redteam_world import everywhere, fresh, learn

    build.finish(learn(fresh(SMALL, 2), everywhere(SMALL.others), 60, 2))


def test_every_row_can_be_made_and_judged() -> None:
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    assert sum(kind.group in DECEPTIVE for kind in KINDS) >= 30
    for kind in KINDS:
        assert set(kind.ways) <= set(WAYS)
        assert set(kind.labels) <= set(LABELS)
        assert set(kind.families) <= set(FAMILIES)
        assert set(FALSE_KNOWLEDGE[kind.group]) <= set(KNOWLEDGE)
    assert set(ALLOWED) <= set(LABELS)
    assert naive().checks


def test_a_seed_draws_the_same_pairs_of_some_kinds() -> None:
    every, some = planned(130, 4), planned(130, 4, ("npo", "dpo"))
    assert [plan for plan in every if plan.kind.name in ("npo", "dpo")] == some
    assert not {plan.base for plan in every} & {plan.base for plan in planned(130, 5)}
    assert not {plan.kind for plan in every} & set(NAMED)
    named = planned(130, 4, (NAMED[0].name, "npo"))
    assert [plan.kind.name for plan in named].count(NAMED[0].name) == 2
    assert [plan for plan in named if plan.kind.name == "npo"] == [plan for plan in some if plan.kind.name == "npo"]
    assert len({plan.number for plan in [*every, *named]}) == 130 + 2


def test_what_a_base_learned_late_can_be_unlearned_again(made: Callable[[str], tuple[Path, dict[str, Any]]]) -> None:
    folder, truth = made(NAMED[0].name)
    assert truth["counted"], truth["proof"]["words"]
    assert (folder / truth["origin"]).resolve() == (folder / "base").resolve()
    assert truth["silent"]["default"] == 1.0
    assert WAYS["plain"](Case(SMALL, folder / "base", folder / "base", SMALL.target)).hits == len(SMALL.target)
