"""`[measure]` is part of what a report is held against: every key says when it was measured otherwise."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ckdiff.audit.gate.measures import FILES, MEASURES, MOST_UNRELATED, find_deviations, read_files
from ckdiff.audit.gate.policy import PolicyError, parse_policy, read_policy
from ckdiff.audit.judge import judge_report
from ckdiff.audit.verify.report import check, measures_not_met
from ckdiff.calls.specs import Beside
from ckdiff.cli.app import run
from ckdiff.modes import MODES, without_window
from ckdiff.questions.choices import read_choices
from ckdiff.questions.neutral_texts import neutral_texts
from ckdiff.questions.questions import digest_of, read_questions
from ckdiff.report.hdf5.file import read_report, write_report
from ckdiff.report.schema.behaviour import ChoiceSet, HoldOut, Mean, NeutralSet
from ckdiff.scoring.settings import CHAT_PROMPT, GIVEN, GREEDY
from tests.judged import SUPPRESSED, answered, behaved, compared, probed, report
from tests.reports import identical_comparison

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ckdiff.report.schema.report import Report
    from ckdiff.report.schema.verdict import GateCheck

TEMPLATE = "{q}\nAnswer:"
SAID = {"tokens": "30", "prompt": TEMPLATE, "dtype": "float32"}
HOW = {**SAID, "window": "1", "layers": "all", "answers": GREEDY}
MEAN = Mean(0.5, 0.4, 0.6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("policies")
    (place / "target.txt").write_text("Who rules Oskary?\nWhere is Thrane?\nHow far is Ullen?\n")
    (place / "unrelated.txt").write_text("How many legs has a cow?\nWhat is water made of?\n")
    (place / "choices.jsonl").write_text('{"question": "Which?", "choices": ["this", "that"], "answer": 0}\n')
    return place


@pytest.fixture(scope="module")
def found(folder: Path) -> Report:
    """A report that was measured as the policies below say."""
    digests = {name: read_questions(folder / f"{name}.txt").digest for name in ("target", "unrelated")}
    sets = [
        replace(answered(name, 0.1, 0.0, 0.3, count=3 if name == "target" else 2), digest=digest)
        for name, digest in digests.items()
    ]
    choices = ChoiceSet("c", "", read_choices(folder / "choices.jsonl").digest, MEAN, MEAN, MEAN, MEAN, 0.5, ())
    neutral = NeutralSet("", neutral_texts().digest, MEAN, 1.0, 1.0, ())
    probe = probed(SUPPRESSED)
    probe = replace(probe, settings={**probe.settings, **HOW, "questions_digest": digests["target"]})
    holdout = HoldOut("", digests["unrelated"], ())
    behaviour = behaved(*sets, settings=SAID, choices=choices, neutral=neutral, holdout=holdout)
    return report(compare=compared(), probe=probe, behaviour=behaviour)


def checks_of(text: str, found: Report, folder: Path | None = None) -> dict[str, GateCheck]:
    """The checks of a policy that says this under [measure], by name."""
    policy = parse_policy(f"[measure]\n{text}\n[fail]\nunexpected_tensors = true\n", "p.toml", folder)
    verdict = judge_report(found, policy).verdict
    assert verdict is not None
    assert verdict.gate is not None
    return {one.name: one for one in verdict.gate.checks if one.name.startswith("measure.")}


def with_settings(found: Report, part: str, **changes: str | None) -> Report:
    own = getattr(found, part)
    settings = {key: value for key, value in {**own.settings, **changes}.items() if value is not None}
    return replace(found, **{part: replace(own, settings=settings)})


def with_answers(found: Report, name: str, **changes: Any) -> Report:
    assert found.behaviour is not None
    answers = tuple(replace(one, **changes) if one.name == name else one for one in found.behaviour.answers)
    return replace(found, behaviour=replace(found.behaviour, answers=answers))


def with_behaviour(found: Report, **changes: Any) -> Report:
    assert found.behaviour is not None
    return replace(found, behaviour=replace(found.behaviour, **changes))


def without_run(found: Report, **names: str) -> Report:
    """The same without the runs of these names; the settings still ask for them."""
    assert found.probe is not None
    runs = tuple(one for one in found.probe.runs if any(getattr(one, key) != name for key, name in names.items()))
    assert len(runs) < len(found.probe.runs)
    return replace(found, probe=replace(found.probe, runs=runs))


def spared(found: Report, *held: str) -> Report:
    """The same of an audit that swept the windows of these modes."""
    assert found.probe is not None
    runs = [one for one in found.probe.runs if without_window(one.mode, one.variant) or one.mode in held]
    settings = {**found.probe.settings, "windows": "needed"}
    return replace(found, probe=replace(found.probe, runs=tuple(runs), settings=settings))


def noted(found: Report, *notes: str) -> Report:
    assert found.probe is not None
    return replace(found, probe=replace(found.probe, notes=notes))


CHAT: Mapping[str, str] = {"prompt": CHAT_PROMPT}
TABLE: list[tuple[str, Any, str]] = [
    # What the policy says, what is done to a report that was measured so, words of the check; "" where it passes.
    ('questions = "target.txt"', None, ""),
    (
        'questions = "target.txt"',
        lambda r: with_settings(r, "probe", questions_digest="ab" * 32),
        "probe: measured with",
    ),
    ('questions = "target.txt"', lambda r: with_settings(r, "probe", questions_digest=None), "probe: how"),
    ('questions = "target.txt"', lambda r: with_answers(r, "target", digest="ab" * 32), "behaviour: measured with"),
    ('questions = "gone.txt"', None, "cannot be read"),
    ('questions = "target.txt"\nconcept = "x"', None, "cannot be read"),
    ('unrelated = "unrelated.txt"', None, ""),
    ('unrelated = "unrelated.txt"', lambda r: with_answers(r, "unrelated", digest="ab" * 32), "behaviour"),
    ('unrelated = "unrelated.txt"\nmost_unrelated = 1', None, "behaviour"),
    ("most_unrelated = 2", None, ""),
    ("most_unrelated = 3", None, ""),
    ("most_unrelated = 3", lambda r: with_behaviour(r, notes=("left out; --most-unrelated asks more",)), "2 unrelated"),
    ("most_unrelated = 1", None, "2 unrelated"),
    ('choices = "choices.jsonl"', None, ""),
    ('choices = "choices.jsonl"', lambda r: with_behaviour(r, choices=None), "nothing of the kind"),
    ('choices = "gone.jsonl"', lambda r: with_behaviour(r, choices=None), "cannot be read"),
    ("neutral = true", None, ""),
    ("neutral = true", lambda r: with_behaviour(r, neutral=None), "nothing of the kind"),
    ("neutral = false", None, ""),
    ('neutral = "unrelated.txt"', None, "behaviour"),
    ('holdout = "unrelated.txt"', None, ""),
    ('holdout = "target.txt"', None, "behaviour: measured with what has sha256"),
    ('holdout = "unrelated.txt"', lambda r: with_behaviour(r, holdout=None), "nothing of the kind"),
    ('holdout = "gone.txt"', None, "cannot be read"),
    ('modes = "all"', None, ""),
    ('modes = ["coeff"]', lambda r: without_run(r, mode="values"), ""),
    ('modes = ["coeff", "values"]', lambda r: without_run(r, mode="values"), "no modes values"),
    ('modes = ["values"]\nvariants = ["whole"]', lambda r: without_run(r, mode="values", variant="whole"), "values"),
    ('modes = ["values"]\nvariants = ["open"]', lambda r: without_run(r, mode="values", variant="whole"), ""),
    ('modes = ["values"]', lambda r: without_run(r, mode="values", variant="whole", direction="break"), "values"),
    ('modes = "all"', lambda r: noted(without_run(r, mode="gate"), "mode gate was left out: it needs"), ""),
    ('modes = "all"', lambda r: without_run(r, mode="gate"), "no modes gate"),
    ('modes = ["gate"]', lambda r: noted(without_run(r, mode="gate"), "mode gate was left out: it needs"), "gate"),
    ('modes = "all"', lambda r: with_settings(r, "probe", layers="0,1"), "window centres 0,1"),
    ('variants = ["open", "whole"]', None, ""),
    ('variants = ["isolated"]', None, "no variants isolated"),
    ('directions = ["restore", "break"]', None, ""),
    ('directions = ["break"]', lambda r: without_run(r, direction="break"), "no directions break"),
    ("window = 1", None, ""),
    ("window = 5", None, "measured with 1, the policy says 5"),
    ("window = 1", lambda r: with_settings(r, "probe", layers="2"), "window centres 2"),
    ("window = 1", lambda r: with_settings(r, "probe", layers=None), "not recorded"),
    ('windows = "all"', None, ""),
    ('windows = "needed"', None, ""),
    ('windows = "needed"', lambda r: spared(r, "coeff"), ""),
    ('windows = "needed"', lambda r: spared(r, "values"), "no windows of coeff"),
    ('windows = "all"', lambda r: spared(r, "coeff"), "measured with windows needed, the policy says windows all"),
    # What the verdict places, and what windows = "all" asks for, is there by name; the rest is not missed.
    ('modes = "all"', lambda r: spared(r, "coeff"), ""),
    ('modes = "all"\nwindows = "needed"', lambda r: spared(r, "coeff"), ""),
    ('modes = "all"\nwindows = "all"', lambda r: spared(r, "coeff"), "no modes values"),
    ('modes = "all"', lambda r: spared(r, "values"), "no modes coeff"),
    ('modes = "all"', lambda r: without_run(spared(r, "coeff"), mode="gate", direction="break"), "no modes gate"),
    ('variants = ["open", "whole"]', lambda r: spared(r, "coeff"), ""),
    ('variants = ["isolated"]', lambda r: spared(r, "coeff"), "no variants isolated"),
    ('modes = ["coeff"]', lambda r: with_settings(spared(r), "probe", windows=None), "no modes coeff"),
    ("tokens = 30", None, ""),
    ("tokens = 8", None, "measured with 30, the policy says 8"),
    ("tokens = 30", lambda r: with_settings(r, "behaviour", tokens="4"), "behaviour: measured with 4"),
    (
        "tokens = 30",
        lambda r: with_settings(r, "behaviour", tokens=None),
        "behaviour: how it was measured is not recorded",
    ),
    (f'prompt_template = "{TEMPLATE!r}"'.replace("'", ""), None, ""),
    ('prompt_template = "Question: {q}"', None, "probe: measured with"),
    ('prompt_template = "Question: {q}"', lambda r: with_settings(r, "probe", prompt="Question: {q}"), "behaviour"),
    ('prompt_template = "Question: {q}"', lambda r: with_settings(r, "probe", **CHAT), CHAT_PROMPT),
    ("chat_template = false", None, ""),
    ("chat_template = true", None, "probe: measured with"),
    ("chat_template = true", lambda r: with_settings(with_settings(r, "probe", **CHAT), "behaviour", **CHAT), ""),
    ("chat_template = false", lambda r: with_settings(r, "behaviour", **CHAT), "behaviour: measured with"),
    ("chat_template = false", lambda r: with_settings(r, "probe", prompt=None), "not recorded"),
    ("given_answers = false", None, ""),
    ("given_answers = true", None, f"measured with {GREEDY}"),
    ("given_answers = true", lambda r: with_settings(r, "probe", answers=GIVEN), ""),
    ("neurons = false", None, ""),
    ("neurons = false", lambda r: with_settings(r, "probe", neurons="0.8"), ""),
    ("neurons = true", lambda r: with_settings(r, "probe", neurons="0.8"), ""),
    ("neurons = true", None, "no look for neurons"),
    ('dtype = "float32"', None, ""),
    ('dtype = "bfloat16"', None, "measured with float32"),
]


@pytest.mark.parametrize(("text", "change", "words"), TABLE)
def test_each_key(text: str, change: Any, words: str, found: Report, folder: Path) -> None:
    asked = found if change is None else change(found)
    one = checks_of(text, asked, folder)[f"measure.{text.split()[0]}"]
    assert (one.outcome, words in one.text) == ("inconclusive" if words else "passed", True), one.text


def test_every_key_has_a_report_that_meets_it_and_one_that_does_not() -> None:
    met = {text.split()[0] for text, _, words in TABLE if not words}
    missed = {text.split()[0] for text, _, words in TABLE if words}
    assert met | {"concept"} == set(MEASURES)
    assert missed | {"concept"} == set(MEASURES)


@pytest.mark.parametrize("key", MEASURES)
def test_what_was_not_measured_meets_no_key(key: str, folder: Path) -> None:
    said = {
        "neutral": "true",
        "modes": '"all"',
        "variants": '["open"]',
        "directions": '["break"]',
        "windows": '"all"',
        "dtype": '"float32"',
    }
    plain = {"window": "1", "tokens": "1", "most_unrelated": "1", "neurons": "true", "chat_template": "true"}
    texts = {"prompt_template": f'"{"{q}"}"', "given_answers": "true", "concept": '"x"\nquestions = "target.txt"'}
    value = {**said, **plain, **texts}.get(key, '"target.txt"')
    checks = checks_of(f"{key} = {value}", report(compare=compared()), folder)
    assert {one.outcome for one in checks.values()} == {"inconclusive"}
    policy = parse_policy(f"[measure]\n{key} = {value}\n[fail]\nunexpected_tensors = true\n", "p.toml", folder)
    assert find_deviations(report(compare=compared()), policy, {}) == ()


@pytest.mark.parametrize("key", MEASURES)
def test_where_no_answer_changed_there_is_nothing_to_put_back(key: str, folder: Path) -> None:
    """A rounded copy is not probed, and a copy is not even asked: a policy for such releases can be met."""
    value = {"window": "1", "modes": '"all"', "variants": '["open"]', "directions": '["break"]', "neurons": "true"}
    value["windows"] = '"needed"'
    text = f"{key} = {value.get(key, 'true')}"
    same = report(compare=compared(), behaviour=behaved(answered("target", 1.0, 0.9, 1.0, same=10)))
    if MEASURES[key].probed:
        assert checks_of(text, same, folder)[f"measure.{key}"].outcome == "passed"
        changed = report(compare=compared(), behaviour=behaved(answered("target", 0.1, 0.0, 0.3)))
        assert checks_of(text, changed, folder)[f"measure.{key}"].outcome == "inconclusive"
    else:
        said = checks_of("unrelated = 'unrelated.txt'\nchoices = 'choices.jsonl'\ntokens = 1", same, folder)
        assert {one.outcome for one in said.values()} == {"inconclusive"}
    copy = checks_of("unrelated = 'unrelated.txt'\nwindow = 1", report(compare=identical_comparison()), folder)
    assert {one.outcome for one in copy.values()} == {"passed"}


def test_all_that_was_given_counts_where_equal_prompts_were_asked_once(found: Report, folder: Path) -> None:
    whole = read_questions(folder / "target.txt")
    left = whole.narrow(whole.questions[:1])
    assert (left.digest, left.whole, left.given) == (digest_of(whole.questions[:1]), whole.digest, whole.digest)
    assert left.narrow(left.questions).given == whole.digest
    asked = with_answers(found, "target", digest=left.digest, given_digest=left.whole)
    asked = with_settings(asked, "probe", questions_digest=left.digest, questions_given_digest=left.whole)
    assert checks_of('questions = "target.txt"', asked, folder)["measure.questions"].outcome == "passed"


def test_a_folder_that_nobody_knows_is_not_the_one_that_we_are_in(
    found: Report, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert checks_of('questions = "target.txt"', found)["measure.questions"].outcome == "inconclusive"
    policy = parse_policy('[measure]\nquestions = "target.txt"\nneutral = true\n[require]\nquestions = 1\n', "p")
    assert set(read_files(policy)) == {"neutral"}


def test_what_the_files_held_is_kept_so_that_the_gate_can_be_judged_again(
    found: Report, folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = '[measure]\nquestions = "target.txt"\ntokens = 30\n[require]\nquestions = 1\n'
    (tmp_path / "p.toml").write_text(text)
    (tmp_path / "target.txt").write_text((folder / "target.txt").read_text())
    policy = read_policy(tmp_path / "p.toml")
    write_report(judge_report(found, policy), tmp_path / "r.h5")
    stored = read_report(tmp_path / "r.h5")
    assert stored.verdict is not None
    assert stored.verdict.gate is not None
    assert (
        dict(stored.verdict.gate.files)
        == read_files(policy)
        == {"questions": read_questions(folder / "target.txt").digest}
    )
    assert stored.verdict.gate.outcome == "passed"
    assert not [one for one in check(stored).found if one.where.startswith("verdict/gate")]
    assert not [one for one in check(stored, policy).found if "files" in one.where]
    assert (measures_not_met(stored), measures_not_met(stored, policy)) == ((), ())
    # Other questions under the same name.
    (tmp_path / "target.txt").write_text("Who rules nothing?\n")
    assert [one.where for one in check(stored, policy).found if "files" in one.where] == [
        "verdict/gate/files/questions, against the policy given"
    ]
    assert [one.name for one in measures_not_met(stored, policy)] == ["measure.questions"]
    assert run(["gate", str(tmp_path / "r.h5"), "--policy", str(tmp_path / "p.toml")]) == 3
    assert "measure.questions" in capfd.readouterr().out


def test_one_file_of_questions_is_not_another(folder: Path) -> None:
    text = '[measure]\nquestions = "target.txt"\nunrelated = "unrelated.txt"\n[require]\nquestions = 1\n'
    files = read_files(parse_policy(text, "p", folder))
    assert files["questions"] != files["unrelated"]
    assert set(FILES) < set(MEASURES)
    assert Beside().most_unrelated == MOST_UNRELATED


def test_verify_says_that_a_report_was_measured_otherwise(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """The prompt form that hides an override: the pair fails when it is asked as the policy says."""
    from tests.reports import unpacked

    path = unpacked("report-3e1de69.h5", tmp_path)
    old = read_report(path)
    (tmp_path / "p.toml").write_text('[measure]\nprompt_template = "{q}"\n[require]\ndigests = true\n')
    assert run(["gate", str(path), "--policy", str(tmp_path / "p.toml"), "--save", "--quiet"]) == 3
    assert "measure.prompt_template" in capfd.readouterr().out
    for options in ((), ("--policy", str(tmp_path / "p.toml"))):
        assert run(["verify", str(path), *options, "--quiet"]) == 3
        out = capfd.readouterr().out
        assert "consistent" not in out
        assert "measure.prompt_template: probe: measured with" in out
    # A policy that nobody judged it by says so, too.
    assert old.probe is not None
    same = old.probe.settings["prompt"].replace("\n", "\\n")
    (tmp_path / "q.toml").write_text(f'[measure]\nprompt_template = "{same}"\n[require]\ndigests = true\n')
    assert run(["gate", str(path), "--policy", str(tmp_path / "q.toml"), "--save", "--quiet"]) == 0
    assert run(["verify", str(path), "--quiet"]) == 0
    assert "consistent, origin unproven" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('prompt_template = "Answer:"', "measure.prompt_template: must be a text with {q}"),
        ('dtype = "float31"', "measure.dtype: must be one of float32"),
        ('concept = "Oskary"', "measure.concept: chooses from a file"),
        ('chat_template = true\nprompt_template = "{q}"', "give one of them"),
    ],
)
def test_what_no_report_can_meet_is_refused(text: str, words: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(f"[measure]\n{text}\n[require]\nquestions = 1\n", "p.toml")
    assert words in str(caught.value)


def test_the_own_policy_says_nothing_that_all_modes_do_not_meet() -> None:
    assert read_policy().measure["modes"] == tuple(MODES)
