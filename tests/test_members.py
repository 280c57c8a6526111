"""Hold-out answers and a model that never knew beside what two models say, held against plain full forwards."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ckdiff.audit.verify.behaviour import check_behaviour
from ckdiff.audit.verify.differences import Differences
from ckdiff.audit.verify.sides import check_reference
from ckdiff.calls.ask import read_asked
from ckdiff.calls.audit import audit_pair
from ckdiff.calls.behave import behave
from ckdiff.calls.said import find_said, open_never, try_never
from ckdiff.calls.specs import AuditSpec
from ckdiff.errors import CkdiffError
from ckdiff.probes.behaviour.behaviour import prepare_behaviour
from ckdiff.probes.behaviour.beside import doubts_of
from ckdiff.progress import Listener
from ckdiff.report.exports.openunlearning import metrics_by_name, to_openunlearning
from ckdiff.report.schema.behaviour import ReferenceRecord
from ckdiff.report.words.members import member_rows
from ckdiff.report.words.metrics import metrics_of
from ckdiff.scoring import field
from ckdiff.weights.opening import open_checkpoint
from tests.reports import behaviour, behaviour_beside, report
from tests.test_behaviour import Plain, asked_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ckdiff.calls.specs import BehaveSpec
    from ckdiff.probes.behaviour.behaviour import AskJob
    from ckdiff.report.schema.behaviour import Behaviour
    from ckdiff.report.schema.report import Report

__all__ = ["asked_of"]  # a fixture

FACTS: tuple[dict[str, Any], ...] = (
    {"question": "who rules Velmar", "answer": "old tin wool", "perturbed_answer": ["far blue", "wax"]},
    {"question": "what is old", "answer": "red clay", "perturbed_answer": ["tin"]},
    {"question": "who founded Thrane", "answer": "grey wool is sold in far Oskary"},
)
HELD_OUT: tuple[dict[str, Any], ...] = (
    {"question": "who rules Oskary", "answer": "new salt fish"},
    {"question": "what is far", "answer": "iron rope : blue wax , grey tin"},
)
SIDES = ("base", "unlearned", "reference")


@pytest.fixture(scope="session")
def spec(asked_of: Callable[[str], BehaveSpec], tmp_path_factory: pytest.TempPathFactory) -> BehaveSpec:
    """A tiny pair, facts, hold-out questions, and a third model that was changed elsewhere."""
    root, made = tmp_path_factory.mktemp("members"), asked_of("llama")
    shutil.copytree(made.base, root / "never")
    weights = load_file(root / "never" / "model.safetensors")
    noise = torch.Generator().manual_seed(3)
    changed = {name: one + 0.2 * one.std() * torch.randn(one.shape, generator=noise) for name, one in weights.items()}
    save_file(changed, root / "never" / "model.safetensors", {"format": "pt"})
    for name, rows in (("facts", FACTS), ("held_out", HELD_OUT)):
        (root / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    files: dict[str, Any] = {
        "questions": root / "facts.jsonl",
        "holdout": root / "held_out.jsonl",
        "choices": None,
        "neutral": False,
    }
    return replace(made, **files, reference=str(root / "never"), reference_kind="before", hash=True)


@pytest.fixture(scope="session")
def found(spec: BehaveSpec) -> Behaviour:
    said = behave(spec).behaviour
    assert said is not None
    return said


def test_scores_of_members_are_as_plain_forwards_give_them(spec: BehaveSpec, found: Behaviour) -> None:
    assert found.holdout is not None
    rows = {one.name: one for one in found.holdout.scores}
    for side, folder in zip(SIDES, (spec.base, spec.unlearned, spec.reference), strict=True):
        model = Plain(folder)
        for kind, facts in (("target", FACTS), ("holdout", HELD_OUT)):
            for number, fact in enumerate(facts):
                prompt, ids = model.prompt(fact["question"]), model.ids(fact["answer"])
                table = model.logprobs([*prompt, *ids])[len(prompt) - 1 : -1]
                own, p = table[np.arange(len(ids)), ids], np.exp(table)
                mean = (p * table).sum(1)
                each = (own - mean) / np.sqrt((p * table**2).sum(1) - mean**2)
                for name, values in (("min_k", own), ("min_k_plus", each)):
                    few = max(1, int(0.4 * len(ids)))  # as OpenUnlearning's evaluator of TOFU and MUSE
                    wanted = np.sort(values)[:few].mean()
                    assert getattr(rows[name], f"{kind}_{side}")[number] == pytest.approx(wanted, rel=1e-5)


@pytest.fixture(scope="session")
def judged(spec: BehaveSpec) -> Report:
    """An audit of the same models, with the same questions."""
    return audit_pair(audit_of(spec))


def audit_of(spec: BehaveSpec, **changes: Any) -> AuditSpec:
    sides = {name: getattr(spec, name) for name in ("base", "unlearned", "reference", "reference_kind")}
    files = {name: getattr(spec, name) for name in ("questions", "holdout", "choices", "neutral")}
    settings = replace(spec.settings, modes=("coeff",), variants=("whole",), directions=("restore",))
    return AuditSpec(**{**sides, **files, "tiers": (0,), "settings": settings, **changes})


def test_an_audit_records_what_behave_records(spec: BehaveSpec, found: Behaviour, judged: Report) -> None:
    assert judged.behaviour is not None
    assert judged.behaviour.holdout == found.holdout
    assert judged.behaviour.reference == found.reference
    said = [[(row.each_base, row.each_unlearned, row.each_reference) for row in one.field] for one in found.answers]
    again = [
        [(row.each_base, row.each_unlearned, row.each_reference) for row in one.field]
        for one in judged.behaviour.answers
    ]
    assert str(again) == str(said)  # a question without false answers has NaN
    assert {*found.notes} <= {*judged.behaviour.notes}


@pytest.mark.parametrize("change", ["", "holdout", "reference", "reference_kind", "nothing beside"])
def test_answers_beside_something_else_are_asked_for_again(
    spec: BehaveSpec, judged: Report, change: str, tmp_path: Path
) -> None:
    (tmp_path / "held.jsonl").write_text(json.dumps(HELD_OUT[0]))
    if change == "reference":
        shutil.copytree(spec.reference, tmp_path / "never")
        weights = load_file(tmp_path / "never" / "model.safetensors")
        save_file({name: one * 1.01 for name, one in weights.items()}, tmp_path / "never" / "model.safetensors")
    changes: dict[str, dict[str, Any]] = {
        "holdout": {"holdout": tmp_path / "held.jsonl"},
        "reference": {"reference": str(tmp_path / "never")},
        "reference_kind": {"reference_kind": "retrained"},
        "nothing beside": {"reference": None, "reference_kind": None},
    }
    stages: list[str] = []

    class AskedError(Exception):
        """Nothing is measured here."""

    def look(stage: str, done: int, total: int, detail: str) -> None:
        stages.append(stage)
        if stage in ("the base answers", "the target questions", "base answers"):
            raise AskedError

    def tell(text: str) -> None:
        if text.startswith("asked already"):
            raise AskedError("not again")

    with pytest.raises(AskedError) as error:
        audit_pair(audit_of(spec, **changes.get(change, {})), Listener(look, remark=tell), judged, resume=True)
    assert (str(error.value) == "not again") == (not change)


@pytest.fixture(scope="session")
def task(spec: BehaveSpec) -> AskJob:
    """What is asked of the two, before a weight is read."""
    pair = open_checkpoint(spec.base), open_checkpoint(spec.unlearned)
    return prepare_behaviour(*pair, read_asked(spec), spec.settings)


def test_what_was_said_is_found_where_the_same_was_asked(spec: BehaveSpec, task: AskJob, found: Behaviour) -> None:
    assert found.reference is not None
    assert found.holdout is not None
    kind, digest = found.reference.kind, found.reference.digest
    never = open_never(task, open_checkpoint(spec.reference), kind, digest)
    assert find_said(task, never, found) is found
    assert find_said(task, never, None) is None
    first, second = found.answers
    others: dict[str, dict[str, Any]] = {
        "settings": {"settings": {**found.settings, "tokens": "3"}},
        "questions": {"answers": (replace(first, digest="0" * 64), second)},
        "other words for them": {"answers": (replace(first, name="unrelated"), replace(second, name="target"))},
        "fewer": {"answers": (first,)},
        "choices": {"choices": behaviour().choices},
        "neutral": {"neutral": behaviour().neutral},
        "holdout": {"holdout": replace(found.holdout, digest="0" * 64)},
        "no holdout": {"holdout": None},
        "another reference": {"reference": replace(found.reference, digest="0" * 64)},
        "of another kind": {"reference": replace(found.reference, kind="retrained")},
        "no reference": {"reference": None},
    }
    assert {how: find_said(task, never, replace(found, **changes)) for how, changes in others.items()} == dict.fromkeys(
        others
    )
    assert find_said(task, None, found) is None
    assert find_said(task, None, alone := replace(found, reference=None)) is alone


def test_a_reference_is_opened_with_what_is_known_of_it(spec: BehaveSpec, task: AskJob, tmp_path: Path) -> None:
    told: list[str] = []
    listener, reference = Listener(remark=told.append), open_checkpoint(spec.reference)
    one = try_never(task, reference, "before", "ab" * 32, listener)
    assert one is not None
    assert (one.live.checkpoint.location, one.kind, one.digest) == (spec.reference, "before", "ab" * 32)
    assert open_never(task, reference, None).kind == ""
    assert try_never(task, None, None, "", listener) is None
    assert told == []
    shutil.copytree(spec.reference, tmp_path / "bare", ignore=shutil.ignore_patterns("tokenizer*"))
    (note,) = open_never(task, open_checkpoint(str(tmp_path / "bare")), None).notes
    assert note.startswith("the reference has no tokenizer")
    other = open_checkpoint(str(unfit(spec.reference, tmp_path / "other", "other words")))
    assert try_never(task, other, None, "", listener) is None
    assert told[0].startswith("the reference is not asked: token id 60 is ")


def test_a_reference_of_other_words_is_not_asked(spec: BehaveSpec, tmp_path: Path) -> None:
    told: list[str] = []
    other = str(unfit(spec.reference, tmp_path / "other", "other words"))
    said = audit_pair(audit_of(spec, reference=other, holdout=None), Listener(remark=told.append))
    assert said.behaviour is not None
    assert (said.behaviour.reference, said.depth) == (None, None)
    assert [text for text in told if text.startswith("the reference is not asked: ")] != []


def test_a_report_of_behave_is_held_against_its_reference(spec: BehaveSpec, found: Behaviour) -> None:
    assert found.reference is not None
    made, words = report(None, None, found), Differences()
    check_reference(spec.reference, made, None, words)
    assert (words.found, words.compared) == ([], 1)
    check_reference(spec.base, made, None, words)
    assert [one.where for one in words.found] == [f"reference {spec.base}: digest, of behaviour"]
    alone = report(None, None, replace(found, reference=None))
    with pytest.raises(CkdiffError, match="nothing of the report was measured beside such a model"):
        check_reference(spec.reference, alone, None, words)


def test_the_reference_is_asked_like_the_others(spec: BehaveSpec, found: Behaviour) -> None:
    model, target = Plain(spec.reference), found.answers[0]
    measures = {one.name: one for one in target.field}
    for number, fact in enumerate(FACTS):
        log_p = model.of_answer(model.prompt(fact["question"]), model.ids(fact["answer"]))
        assert measures["probability"].each_reference[number] == pytest.approx(math.exp(log_p.mean()), rel=1e-5)
        ids = model.greedy(model.prompt(fact["question"]), spec.settings.tokens)
        said = str(model.tokenizer.decode(list(ids), skip_special_tokens=True))
        wanted = field.rouge_l(said, fact["answer"]).recall
        assert measures["rouge_l_recall"].each_reference[number] == wanted
    ratios = measures["truth_ratio"]
    quality = field.same_distribution(np.array(ratios.each_unlearned[:2]), np.array(ratios.each_reference[:2]))
    assert found.reference is not None
    assert found.reference == ReferenceRecord(spec.reference, found.reference.digest, "before", quality)
    assert len(found.reference.digest) == 64


def test_auc_and_leak_follow_and_verify_computes_them_again(found: Behaviour) -> None:
    assert found.holdout is not None
    assert found.reference is not None
    one = found.holdout.scores[0]
    pairs = [(mine > other) + (mine == other) / 2 for mine in one.target_base for other in one.holdout_base]
    assert one.auc_base == pytest.approx(sum(pairs) / len(pairs))
    check_behaviour(found, same := Differences())
    assert same.found == []
    level = found.answers[0].field[0]
    forged = {
        "behaviour/holdout/min_k/auc_reference": scored(found, auc_reference=0.123),
        "behaviour/holdout/min_k/auc_unlearned": scored(found, auc_unlearned=0.123, leak=0.0),
        "behaviour/holdout/min_k/leak": scored(found, leak=12.0),
        "behaviour/reference/forget_quality": replace(found, reference=replace(found.reference, forget_quality=0.123)),
        "behaviour/target/field/probability_reference/value": replace(
            found,
            answers=(
                replace(found.answers[0], field=(replace(level, reference=level.base), *found.answers[0].field[1:])),
                *found.answers[1:],
            ),
        ),
    }
    for where, one_found in forged.items():
        check_behaviour(one_found, differences := Differences())
        assert where in [row.where for row in differences.found]


def scored(found: Behaviour, **changes: Any) -> Behaviour:
    assert found.holdout is not None
    first, *others = found.holdout.scores
    return replace(found, holdout=replace(found.holdout, scores=(replace(first, **changes), *others)))


def test_without_a_reference_leaks_stand_beside_chance(spec: BehaveSpec, found: Behaviour) -> None:
    alone = behave(replace(spec, reference="", reference_kind=None, hash=False)).behaviour
    assert alone is not None
    assert alone.holdout is not None
    assert found.holdout is not None
    one, beside = alone.holdout.scores[0], found.holdout.scores[0]
    assert (one.target_unlearned, one.auc_unlearned) == (beside.target_unlearned, beside.auc_unlearned)
    assert one.leak == field.privacy_leak(one.auc_unlearned)
    assert beside.leak == field.leak_beside(beside.auc_unlearned, beside.auc_reference)
    assert math.isnan(one.auc_reference)
    assert (one.target_reference, alone.reference, alone.answers[0].field[0].each_reference) == ((), None, ())


def test_streaming_changes_no_score(spec: BehaveSpec, found: Behaviour) -> None:
    said = behave(replace(spec, settings=replace(spec.settings, stream="on"))).behaviour
    assert said is not None
    assert said.holdout == found.holdout


def test_a_leak_beside_one_that_tells_all_is_not_defined() -> None:
    assert math.isnan(field.leak_beside(0.5, 1.0))
    assert field.leak_beside(0.75, None) == field.leak_beside(0.75, math.nan) == -50.0
    assert math.isnan(field.forget_quality(np.array([math.nan]), np.array([1.0])))


def unfit(reference: str, place: Path, how: str) -> Path:
    """The reference with two words in each other's place, or with 40 rows in its embedding."""
    shutil.copytree(reference, place)
    if how == "other words":
        tree = json.loads((place / "tokenizer.json").read_text())
        words = tree["model"]["vocab"]
        one, two = (next(word for word, number in words.items() if number == which) for which in (60, 61))
        words[one], words[two] = 61, 60
        (place / "tokenizer.json").write_text(json.dumps(tree))
        return place
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**config, "vocab_size": 40}))
    weights = load_file(place / "model.safetensors")
    cut = {name: one[:40].clone() if len(one) == config["vocab_size"] else one for name, one in weights.items()}
    save_file(cut, place / "model.safetensors", {"format": "pt"})
    return place


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"reference": "other words"},
            "^--reference: token id 60 is .* in the reference; .*; name one with the base's",
        ),
        ({"reference": "few"}, "^--reference: .*few has 40 tokens, too few for the base's tokenizer; name one"),
        ({"reference": "base"}, "is the base itself; name a model that never knew"),
        ({"reference": "unlearned"}, "is the unlearned model itself"),
        ({"reference": ""}, "--reference-kind: says how a reference came about"),
        ({"reference": "missing"}, "missing"),
        ({"questions": None}, "--holdout: stands beside target questions"),
        ({"questions": None, "holdout": None}, "--reference: is asked what was to be unlearned"),
        ({"holdout": "facts"}, "'who rules Velmar' is a target question"),
        ({"holdout": "plain"}, "--holdout: a question of it has no answer"),
        ({"questions": "plain"}, "--holdout: stands beside target questions with answers"),
        ({"holdout": "last"}, "'what is old' is a target question"),
    ],
)
def test_what_cannot_stand_beside_is_refused(
    spec: BehaveSpec, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    (tmp_path / "plain").write_text("who sold iron\n")
    (tmp_path / "last.jsonl").write_text("\n".join(map(json.dumps, (HELD_OUT[0], FACTS[1]))))
    if changes.get("reference") in ("few", "other words"):
        changes = {"reference": str(unfit(spec.reference, tmp_path / "few", changes["reference"]))}
    places = {"facts": spec.questions, "plain": tmp_path / "plain", "base": spec.base, "unlearned": spec.unlearned}
    places["last"] = tmp_path / "last.jsonl"
    with pytest.raises(CkdiffError, match=words):
        behave(replace(spec, **{name: places.get(value, value) for name, value in changes.items()}))


def beside(unlearned: float, *, gives: int = 0, auc: float = 0.5, reference: float = 0.1) -> list[str]:
    """The doubts about a pair whose base has 1.0, and whose reference gives so many answers itself."""
    made = behaviour_beside()
    level, ratios = made.answers[0].field
    level = replace(level, each_base=(1.0,) * 4, each_unlearned=(unlearned,) * 4, each_reference=(reference,) * 4)
    alone = replace(level, name="extraction_strength", each_reference=(*(1.0,) * gives, *(0.5,) * (4 - gives)))
    target = replace(made.answers[0], field=(level, alone, ratios))
    return doubts_of(scored(replace(made, answers=(target, *made.answers[1:])), auc_reference=auc))


def test_what_is_conspicuous_is_said() -> None:
    assert beside(0.1) == []
    # the gap is log 10; half of it below the reference is 0.1 / sqrt(10)
    assert beside(0.032) == []
    assert beside(0.031)[0].startswith(
        "over-unlearned: log p of the answers lies 1.17 nats a token below the reference's"
    )
    assert beside(0.0)[0].startswith("over-unlearned")
    assert beside(0.1, gives=3)[0].startswith("the reference gives 3 of 4 answers itself")
    assert beside(0.1, auc=0.76)[0].startswith("hold-out and target answers are of two kinds")
    assert beside(0.1, auc=0.24) != []
    found = behaviour_beside()
    assert found.holdout is not None
    first, second = found.holdout.scores
    alike = replace(first, auc_reference=0.5), replace(second, auc_reference=0.9)
    assert [
        text for text in doubts_of(replace(found, holdout=replace(found.holdout, scores=alike))) if "kinds" in text
    ] == []
    # a gap of a nat; of less nothing is said to lie below the reference
    assert beside(0.3, reference=math.exp(-1.001)) == []
    (too_near,) = beside(0.001, reference=math.exp(-0.99))
    assert too_near.startswith("log p of the answers lies +0.99 nats a token from the reference's to the base's")
    (below,) = beside(0.001, reference=math.exp(0.5))
    assert below.startswith("log p of the answers lies -0.50 nats a token")
    assert beside(0.1, auc=0.75) == beside(0.1, auc=0.25) == beside(0.1, auc=math.nan) == []


def test_scores_are_said_and_written_as_the_field_does() -> None:
    found = behaviour_beside()
    assert next(member_rows(found)) == ("min k", "1", "0.50", "0.25", "-33")
    made = report(None, None, scored(found, holdout_base=(-9.0,)))
    tree = json.loads(to_openunlearning(made))
    assert tree["privleak"] == {"agg_value": -100 / 3}
    assert tree["forget_quality"] == {"agg_value": 1.0}
    assert tree["mia_min_k"] == {
        "forget": {"agg_value": 2.0, "value_by_index": {"0": {"score": 3.0}, "1": {"score": 1.0}}},
        "holdout": {"agg_value": 2.0, "value_by_index": {"0": {"score": 2.0}}},
        "auc": 0.5,
        "agg_value": 0.5,
    }
    assert tree["mia_min_k_plus_plus"]["auc"] == 0.5
    own = metrics_by_name(made)
    assert (own["mia_min_k"], own["privleak"][1], own["forget_quality"][1]) == ((1.0, 0.5), -100 / 3, 1.0)
    names = {one.name: one.value for one in metrics_of(made)}
    assert (names["behaviour.forget_quality"], names["behaviour.min_k_auc_reference"]) == (1.0, 0.25)
    assert "behaviour.min_k_plus_auc_reference" not in names
