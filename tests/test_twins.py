"""Families of models: one knows, some never knew, one has unlearned; on a tiny world, and what is refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import load_file

from ckdiff.cli.app import run
from ckdiff.errors import CkdiffError
from ckdiff.probes.live.model import LiveModel
from ckdiff.progress import Listener
from ckdiff.questions.questions import read_questions
from ckdiff.unlearn.methods import ce
from ckdiff.unlearn.people import TRAITS, invent_people
from ckdiff.unlearn.recipe import Recipe, Twins, UnlearnSpec
from ckdiff.unlearn.sequences import Tokens, pad
from ckdiff.unlearn.twins import Family, _given, answer_loss, make_family
from ckdiff.unlearn.unlearn import UnlearningStopped
from ckdiff.unlearn.world import make_base
from ckdiff.weights.opening import open_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.tiny_pairs import Folders

RECIPE = Recipe(
    method="npo_kl",
    lr=3e-4,
    steps=30,
    evaluate_every=30,
    batch_size=12,
    accumulation=1,
    warmup=1,
    tokens=3,
    device="cpu",
)
TWINS = Twins(True, passes=20, learn_lr=3e-3, references=2)


@pytest.fixture(scope="module")
def blank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the tiny world and a base that has learned nothing."""
    root = tmp_path_factory.mktemp("blank")
    make_base(root, steps=0)
    return root


def spec_of(blank: Path, output: Path, **changes: Any) -> UnlearnSpec:
    given: dict[str, Any] = {
        "forget": blank / "target.jsonl",
        "retain": blank / "unrelated.jsonl",
        "recipe": RECIPE,
        "twins": TWINS,
    }
    return UnlearnSpec(str(blank / "base"), output, **(given | changes))


@pytest.fixture(scope="module")
def family(blank: Path, tmp_path_factory: pytest.TempPathFactory) -> Family:
    return make_family(spec_of(blank, tmp_path_factory.mktemp("twins") / "family"), Listener())


@pytest.mark.rounding
def test_one_knows_some_never_knew_and_one_has_unlearned(family: Family) -> None:
    members = family.record["members"]
    assert list(members) == ["knows", "never", "never-2", "unlearned"]
    assert members["knows"] == {"target": 1.0, "unrelated": 1.0}
    assert [members[name] for name in ("never", "never-2")] == [{"target": 0.0, "unrelated": 1.0}] * 2
    assert members["unlearned"]["target"] < 0.5 < members["unlearned"]["unrelated"]
    assert family.lacks == ""
    assert json.loads((family.folder / "family.json").read_text()) == family.record


def test_orders_differ_and_nothing_else_lies_there(family: Family) -> None:
    never, again = (
        {name: value for path in (family.folder / one).glob("*.safetensors") for name, value in load_file(path).items()}
        for one in ("never", "never-2")
    )
    assert not any(torch.equal(never[name], again[name]) for name in never if "norm" not in name)
    files = {"family.json", "forget.jsonl", "retain.jsonl", "target.jsonl", "unrelated.jsonl"}
    assert {path.name for path in family.folder.iterdir()} == files | set(family.record["members"])


def test_interrupted_and_resumed_is_never_interrupted(family: Family, blank: Path, tmp_path: Path) -> None:
    spec = spec_of(blank, tmp_path / "family")
    shutil.copytree(family.folder, spec.output)
    shutil.rmtree(spec.output / "never")
    asked: list[str] = []

    def tell(stage: str, done: int, total: int, detail: str) -> None:
        asked.append(stage)

    with pytest.raises(UnlearningStopped):
        make_family(spec, Listener(progress=tell, stop=lambda: asked.count("learning: never") > 5), resume=True)
    assert set(asked) == {"learning: never"}
    assert {path.name for path in spec.output.iterdir() if path.is_dir()} == {"knows", "never-2", "unlearned"}
    with pytest.raises(CkdiffError, match="already exists"):
        make_family(spec, Listener())
    other = spec_of(blank, tmp_path / "family", twins=replace(TWINS, passes=21))
    with pytest.raises(CkdiffError, match="another family is there"):
        make_family(other, Listener(), resume=True)
    assert make_family(spec, Listener(), resume=True).record == family.record
    for path in sorted((family.folder / "never").glob("*.safetensors")):
        assert path.read_bytes() == (spec.output / "never" / path.name).read_bytes()


@pytest.mark.parametrize("name", ["llama", "gemma2", "gptj"])
def test_what_is_learned_is_the_cross_entropy_of_the_answers(pairs: Callable[[str], Folders], name: str) -> None:
    live = LiveModel(open_checkpoint(str(pairs(name).base)), torch.float64, torch.device("cpu"))
    live.load()
    live.model.eval().requires_grad_(True)
    texts = [Tokens((3, 1, 4, 1, 5, 9), 4), Tokens((2, 6, 5), 1), Tokens((3, 5, 8, 9, 7), 4)]
    rows = pad(texts, live.device)
    found, plain = answer_loss(live, texts), ce(live.model(input_ids=rows.ids, use_cache=False).logits, rows.labels)
    assert float(found.detach()) == pytest.approx(float(plain.detach()), rel=1e-6)
    parameters = [*live.model.parameters()]
    both = [torch.autograd.grad(loss, parameters, allow_unused=True) for loss in (found, plain)]
    for one, other in zip(*both, strict=True):
        assert (one is None) == (other is None)
        assert one is None or torch.allclose(one, other, rtol=1e-4, atol=1e-7)


def test_lessons_too_short_are_inconclusive(blank: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ("--forget", blank / "target.jsonl", "--retain", blank / "unrelated.jsonl")
    short = ("--passes", 1, "--learn-lr", "1e-6", "--references", 1, "--steps", 1, "--device", "cpu", "--tokens", 2)
    given = (blank / "base", "--twins", *files, *short, "-o", tmp_path / "family")
    assert run(["unlearn", *map(str, given)]) == 3
    out, error = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["model", "knows", "never", "unlearned"]
    assert "--passes" in error.splitlines()[-1]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"retain": None}, "--retain: --twins wants both"),
        ({"forget": None}, "--forget: --twins wants both"),
        ({"forget": None, "retain": None, "twins": Twins(True, people=4, forgotten=3)}, "--forgotten: 3 of 4"),
        ({"forget": "asked.txt"}, "a question without its answer"),
        ({"recipe": Recipe(length=12, device="cpu")}, "--length"),
    ],
)
def test_what_cannot_be(changes: dict[str, Any], says: str, blank: Path, tmp_path: Path) -> None:
    (tmp_path / "asked.txt").write_text("Who founded Velmar?\n")
    changes = {name: tmp_path / value if name == "forget" and value else value for name, value in changes.items()}
    with pytest.raises(CkdiffError) as error:
        make_family(spec_of(blank, tmp_path / "family", **changes), Listener())
    assert says in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "family").exists()


@pytest.mark.parametrize("count", [3, 20, 100])
def test_invented_people_share_no_answer(count: int, tmp_path: Path) -> None:
    people = invent_people(count, seed=3)
    assert people == invent_people(count, seed=3)
    assert people != invent_people(count, seed=4)
    assert [len(person) for person in people] == [12] * count
    for place in range(len(TRAITS)):
        assert len({person[place]["answer"] for person in people}) == count
    facts = [fact for person in people for fact in person]
    (tmp_path / "facts.jsonl").write_text("\n".join(map(json.dumps, facts)))
    questions = read_questions(tmp_path / "facts.jsonl").questions
    assert [question.kind for question in questions] == [trait.kind for trait in TRAITS] * count
    assert len({trait.kind for trait in TRAITS}) == 12
    for question in questions:
        assert len(question.paraphrases) == 1
        assert question.paraphrases[0] != question.text
        # Two other people's, or where there are three of them both of the others'.
        assert len(set(question.wrong) - {question.answer}) == 2


def test_what_a_file_says_of_facts_is_kept(tmp_path: Path) -> None:
    facts: list[dict[str, object]] = [
        {"question": "Who rules Velmar?", "answer": "Ada", "kind": "ruler"},
        {"question": "a?", "answer": "b", "paraphrased_question": ["c?"], "perturbed_answer": ["d", "e"]},
    ]
    (tmp_path / "facts.jsonl").write_text("\n".join(map(json.dumps, facts)))
    assert _given(tmp_path / "facts.jsonl") == facts


@pytest.mark.parametrize("count", [2, 101])
def test_too_few_or_too_many_people(count: int) -> None:
    with pytest.raises(CkdiffError, match="--people"):
        invent_people(count)
