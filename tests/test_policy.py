"""Policies and gates: every check passes, fails and lacks evidence; whatever is misspelt is refused."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ckdiff.audit.gate.checks import CHECKS
from ckdiff.audit.gate.gate import gate, worst
from ckdiff.audit.gate.policy import PolicyError, parse_policy, read_policy
from ckdiff.audit.judge import judge_report
from ckdiff.modes import MODES, decisive
from ckdiff.report.schema.behaviour import ChoiceSet, Mean, NeutralSet
from ckdiff.report.schema.comparison import ConfigChange, TensorInfo, Uncompared
from ckdiff.report.schema.probe import Control
from ckdiff.report.schema.verdict import GateCheck
from tests.judged import SUPPRESSED, answered, behaved, compared, probed, report, side
from tests.reports import identical_comparison, same

if TYPE_CHECKING:
    from pathlib import Path

    from ckdiff.report.schema.probe import Probe
    from ckdiff.report.schema.report import Report
    from ckdiff.report.schema.verdict import Outcome

MEAN = Mean(0.5, 0.4, 0.6)
CHOICES = ChoiceSet("choices", "", "d", Mean(0.6, 0.5, 0.7), Mean(0.5, 0.4, 0.6), MEAN, MEAN, 0.25, ())
NEUTRAL = NeutralSet("", "d", Mean(0.02, 0.01, 0.04), 10.0, 11.0, ())
EXTRA = TensorInfo("new.weight", "other", (40, 1000), "F32")
CHANGE = ConfigChange("config.json", "rope_theta", "1", "2")


def whole(**more: Any) -> Report:
    return report(**{"compare": compared(), "probe": probed(SUPPRESSED), "behaviour": behaved(), **more})


def lacking(found: Probe, mode: str) -> Probe:
    return replace(found, runs=tuple(run for run in found.runs if run.mode != mode))


def restricted(found: Probe) -> Probe:
    """The same probe of a model with more layers than windows."""
    return replace(found, layer_count=found.layer_count + 1)


FULL = whole(behaviour=behaved(choices=CHOICES, neutral=NEUTRAL))
EMPTY = report()
NO_HASH = replace(FULL, provenance=replace(FULL.provenance, base=replace(side("base"), digest=None)))
OTHER = whole(compare=compared(only_in_unlearned=(EXTRA,), config_changes=(CHANGE,)))
UNSEEN = whole(compare=compared(config_uncompared=(Uncompared("mystery.json", "not known"),)))
ONE = whole(probe=probed(SUPPRESSED, count=10), behaviour=behaved(answered("target", 0.1, 0.0, 0.3, count=1)))

TABLE: list[tuple[str, str, Report, Outcome]] = [
    ("require.sections", '["compare", "probe", "behaviour"]', FULL, "passed"),
    ("require.sections", '["probe"]', whole(probe=None), "inconclusive"),
    ("require.questions", "10", FULL, "passed"),
    ("require.questions", "11", FULL, "inconclusive"),
    ("require.questions", "2", ONE, "inconclusive"),
    ("require.questions", "1", EMPTY, "inconclusive"),
    ("require.unrelated", "10", FULL, "passed"),
    ("require.unrelated", "11", FULL, "inconclusive"),
    ("require.modes", '["coeff", "values"]', FULL, "passed"),
    ("require.modes", '["coeff", "keys"]', whole(probe=lacking(probed(SUPPRESSED), "keys")), "inconclusive"),
    ("require.modes", '["coeff"]', EMPTY, "inconclusive"),
    ("require.modes", '"decisive"', whole(probe=lacking(probed(SUPPRESSED), "mlp")), "passed"),
    ("require.modes", '"decisive"', whole(probe=lacking(probed(SUPPRESSED), "keys")), "inconclusive"),
    ("require.variants", '["whole"]', FULL, "passed"),
    ("require.variants", '["isolated"]', FULL, "inconclusive"),
    ("require.directions", '["break"]', FULL, "passed"),
    ("require.directions", '["break"]', EMPTY, "inconclusive"),
    ("require.coverage", "1.0", FULL, "passed"),
    ("require.coverage", "0.6", OTHER, "inconclusive"),
    ("require.coverage", "0.5", OTHER, "passed"),
    ("require.coverage", "0.1", EMPTY, "inconclusive"),
    ("require.basis", "true", FULL, "passed"),
    ("require.basis", "true", whole(compare=compared(cosine=0.01)), "inconclusive"),
    ("require.basis", "true", whole(compare=None), "inconclusive"),
    ("require.digests", "true", FULL, "passed"),
    ("require.digests", "true", NO_HASH, "inconclusive"),
    ("require.base_digest", f'"{"b" * 64}"', FULL, "passed"),
    ("require.base_digest", f'"{"c" * 64}"', FULL, "failed"),
    ("require.base_digest", f'"{"b" * 64}"', NO_HASH, "inconclusive"),
    ("require.questions_digest", f'"{"ab" * 32}"', FULL, "passed"),
    ("require.questions_digest", f'"{"ab" * 32}"', whole(probe=None), "passed"),
    ("require.questions_digest", f'"{"ac" * 32}"', FULL, "inconclusive"),
    ("require.widest_interval", "0.5", FULL, "passed"),
    ("require.widest_interval", "0.0", FULL, "inconclusive"),
    ("require.widest_interval", "0.5", report(compare=identical_comparison()), "passed"),
    ("require.widest_interval", "0.5", EMPTY, "inconclusive"),
    ("require.widest_interval", "0.5", whole(compare=compared(cosine=0.01)), "passed"),
    ("require.detectable", "0.26", FULL, "passed"),
    ("require.detectable", "0.25", FULL, "inconclusive"),
    ("require.detectable", "1.0", EMPTY, "inconclusive"),
    ("fail.labels", '["values edited"]', FULL, "passed"),
    ("fail.labels", '["suppressed"]', FULL, "failed"),
    ("fail.labels", '["suppressed"]', EMPTY, "inconclusive"),
    ("fail.labels", '["inconclusive"]', EMPTY, "failed"),
    ("fail.recovered", "1.0", FULL, "passed"),
    ("fail.recovered", "0.9", FULL, "failed"),
    ("fail.recovered", "0.9", EMPTY, "inconclusive"),
    ("fail.recovered", "1.0", whole(probe=lacking(probed(SUPPRESSED), "coeff")), "inconclusive"),
    ("fail.scores", '[{mode = "values", at_most = 0.2}]', FULL, "passed"),
    ("fail.scores", '[{mode = "coeff", at_most = 0.85}]', FULL, "failed"),
    ("fail.scores", '[{mode = "coeff", at_least = 0.5}]', FULL, "passed"),
    ("fail.scores", '[{mode = "coeff", at_least = 0.85}]', FULL, "failed"),
    ("fail.scores", '[{mode = "coeff", at_least = 0.5, variant = "direct"}]', FULL, "inconclusive"),
    ("fail.scores", '[{mode = "coeff", at_most = 0.5}]', EMPTY, "inconclusive"),
    ("fail.scores", '[{mode = "values", at_most = 0.2}]', whole(probe=restricted(probed(SUPPRESSED))), "inconclusive"),
    ("fail.target_bleu", "0.3", FULL, "passed"),
    ("fail.target_bleu", "0.29", FULL, "failed"),
    ("fail.target_bleu", "0.3", EMPTY, "inconclusive"),
    ("fail.unrelated_bleu_loss", "0.11", FULL, "passed"),
    ("fail.unrelated_bleu_loss", "0.09", FULL, "failed"),
    ("fail.unrelated_bleu_loss", "0.3", EMPTY, "inconclusive"),
    ("fail.choices_loss", "0.21", FULL, "passed"),
    ("fail.choices_loss", "0.19", FULL, "failed"),
    ("fail.choices_loss", "0.3", EMPTY, "inconclusive"),
    ("fail.neutral_kl", "0.04", FULL, "passed"),
    ("fail.neutral_kl", "0.03", FULL, "failed"),
    ("fail.neutral_kl", "0.03", EMPTY, "inconclusive"),
    ("fail.drift", "{components = [], relative_l2 = 0.02}", FULL, "passed"),
    ("fail.drift", "{components = [], relative_l2 = 0.01}", FULL, "failed"),
    ("fail.drift", '{components = ["keys"]}', whole(compare=compared({("keys", 3)})), "passed"),
    ("fail.drift", '{components = ["norms"]}', whole(compare=compared({("keys", 3)})), "failed"),
    ("fail.drift", "{components = []}", EMPTY, "inconclusive"),
    ("fail.config_changes_except", "[]", UNSEEN, "inconclusive"),
    ("fail.config_changes_except", '["mystery.json"]', UNSEEN, "passed"),
    ("fail.config_changes_except", "[]", FULL, "passed"),
    ("fail.config_changes_except", "[]", OTHER, "failed"),
    ("fail.config_changes_except", '["config.json"]', OTHER, "passed"),
    ("fail.config_changes_except", '["config.json:rope_theta"]', OTHER, "passed"),
    ("fail.config_changes_except", '["config.json:eps"]', OTHER, "failed"),
    ("fail.config_changes_except", "[]", EMPTY, "inconclusive"),
    ("fail.unexpected_tensors", "true", FULL, "passed"),
    ("fail.unexpected_tensors", "true", OTHER, "failed"),
    ("fail.unexpected_tensors", "true", EMPTY, "inconclusive"),
]


@pytest.mark.parametrize(("name", "value", "found", "outcome"), TABLE)
def test_each_check(name: str, value: str, found: Report, outcome: Outcome) -> None:
    table, _, key = name.partition(".")
    policy = parse_policy(f"[{table}]\n{key} = {value}\n", "p.toml")
    verdict = judge_report(found, policy).verdict
    assert verdict is not None
    assert verdict.gate is not None
    (check,) = [one for one in verdict.gate.checks if one.name == name]
    assert check.outcome == outcome
    assert verdict.gate.outcome == ("inconclusive" if found is EMPTY and outcome == "passed" else outcome)
    assert check.text
    if check.threshold == check.threshold and check.value == check.value and name != "fail.scores":
        # The figure that is shown is the one that was held against the threshold.
        higher_is_better = name in ("require.questions", "require.unrelated", "require.coverage")
        met = check.value >= check.threshold if higher_is_better else check.value <= check.threshold
        assert met == (outcome == "passed")


def test_every_check_has_a_case_for_each_outcome_that_it_has() -> None:
    cases: dict[str, set[str]] = {}
    for name, _, _, outcome in TABLE:
        cases.setdefault(name, set()).add(outcome)
    assert cases.keys() == CHECKS.keys()
    for name, outcomes in cases.items():
        assert "passed" in outcomes, name
        assert "inconclusive" in outcomes, name
        if name.startswith("fail."):
            assert "failed" in outcomes, name


def test_an_interval_counts_by_its_worse_end() -> None:
    """The mean alone would pass."""
    found = whole(behaviour=behaved(answered("target", 0.1, 0.0, 0.6)))
    assert outcome_of("[fail]\ntarget_bleu = 0.3", found) == "failed"


def outcome_of(text: str, found: Report) -> str:
    verdict = judge_report(found, parse_policy(text, "p.toml")).verdict
    assert verdict is not None
    assert verdict.gate is not None
    return verdict.gate.outcome


def test_failed_before_inconclusive_before_passed() -> None:
    def one(outcome: Outcome) -> GateCheck:
        return GateCheck("fail.labels", outcome, "", 0.0, 0.0)

    assert worst([one("passed"), one("inconclusive"), one("failed")]) == "failed"
    assert worst([one("passed"), one("inconclusive")]) == "inconclusive"
    assert worst([one("passed")]) == "passed"
    assert worst([]) == "inconclusive"


def test_nothing_measured_never_passes() -> None:
    for name, value, _, _ in TABLE:
        table, _, key = name.partition(".")
        assert outcome_of(f"[{table}]\n{key} = {value}", EMPTY) != "passed", name


def test_scores_without_their_controls_never_pass() -> None:
    for controls in ((), (Control("self_patch", "restore", 1.0, 1e-4, "at_most", False),)):
        found = whole(probe=probed(SUPPRESSED, controls=controls))
        assert outcome_of("[require]\nquestions = 5", found) == "inconclusive"
    assert outcome_of("[require]\nquestions = 5", FULL) == "passed"


def test_an_inconclusive_verdict_never_passes_a_question_about_the_effect() -> None:
    found = whole(probe=replace(probed({}), runs=probed({}).runs[:1]))
    verdict = judge_report(found).verdict
    assert verdict is not None
    assert verdict.label == "inconclusive"
    assert outcome_of("[require]\nquestions = 5", found) == "inconclusive"
    assert outcome_of("[fail]\ntarget_bleu = 0.5", found) == "inconclusive"
    assert outcome_of("[fail]\nunrelated_bleu_loss = 0.5\nunexpected_tensors = true", found) == "passed"


def test_huge_and_empty_shapes_are_counted() -> None:
    huge = TensorInfo("new.weight", "other", (2**40, 2**40), "F32")
    assert outcome_of("[require]\ncoverage = 0.9", whole(compare=compared(only_in_base=(huge,)))) == "inconclusive"
    nothing = tuple(replace(row, parameters=0) for row in compared().tensors)
    assert outcome_of("[require]\ncoverage = 0.9", whole(compare=compared(tensors=nothing))) == "inconclusive"


def test_the_own_policy_blocks_suppression_and_passes_erasure() -> None:
    from tests.judged import EDITED

    policy = read_policy()
    assert policy.title
    assert (policy.measure["modes"], policy.checks["require.modes"]) == (tuple(MODES), decisive())
    assert gate(judge_report(FULL), policy).outcome == "failed"
    erased = whole(probe=probed(EDITED["values"]), compare=compared({("value_vectors", 2)}))
    found = gate(judge_report(erased), policy)
    assert [(check.name, check.text) for check in found.checks if check.outcome != "passed"] == []
    foreign = whole(probe=probed(EDITED["values"]), compare=compared(cosine=0.01))
    assert gate(judge_report(foreign), policy).outcome == "inconclusive", "reordered neurons look like another training"
    assert gate(judge_report(report(compare=identical_comparison())), policy).outcome == "failed"
    assert gate(judge_report(EMPTY), policy).outcome == "inconclusive"


def test_a_gate_keeps_the_policy_so_that_it_can_be_judged_again() -> None:
    policy = read_policy()
    found = gate(judge_report(FULL), policy)
    assert found.digest == hashlib.sha256(found.policy.encode()).hexdigest() == policy.digest
    assert same(gate(judge_report(FULL), parse_policy(found.policy, found.source)), found)


# -------------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "asks for nothing"),
        ("[measure]\nwindow = 3", "asks for nothing"),
        ("[fail", "no TOML"),
        ("[fial]\nlabels = ['suppressed']", "no table [fial]"),
        ("fail = 3", "must be a table"),
        ("title = 3", "title"),
        ("[fail]\nlables = ['suppressed']", "no key 'fail.lables'"),
        ("[require]\nlabels = ['suppressed']", "no key 'require.labels'"),
        ("[measure]\nwindwo = 3", "no key 'measure.windwo'"),
        ("[fail]\nlabels = ['surpressed']", "surpressed"),
        ("[fail]\nlabels = []", "fail.labels: must be a list of some of: identical"),
        ("[fail]\nlabels = 'suppressed'", "list of texts"),
        ("[require]\nquestions = 0", "whole number"),
        ("[require]\nquestions = true", "whole number"),
        ("[require]\nquestions = 2.5", "whole number"),
        ("[require]\ncoverage = 1.5", "from 0 to 1"),
        ("[require]\ncoverage = nan", "a number"),
        ("[require]\ndigests = false", "leave the line out"),
        ("[require]\nbase_digest = 'abc'", "64 hexadecimal"),
        ("[require]\nwidest_interval = -1", "0 or more"),
        ("[require]\nsections = ['everything']", "compare, probe, behaviour"),
        ("[require]\nmodes = ['coef']", "coeff, values"),
        ("[require]\nmodes = 'all'", "or 'decisive'"),
        ("[measure]\nmodes = 'decisive'\n[fail]\ntarget_bleu = 0.1", "or 'all'"),
        ("[require]\nvariants = ['opne']", "open, isolated"),
        ("[measure]\nmodes = ['coef']\n[fail]\ntarget_bleu = 0.1", "coeff, values"),
        ("[fail]\nscores = [{mode = 'coef', at_most = 0.5}]", "coeff, values"),
        ("[fail]\nscores = [{mode = 'coeff', variant = 'opne', at_most = 0.5}]", "open, isolated"),
        ("[fail]\nscores = []", "[[fail.scores]]"),
        ("[fail]\nscores = [{mode = 'coeff'}]", "one of at_least and at_most"),
        ("[fail]\nscores = [{mode = 'coeff', at_most = 1, at_least = 0}]", "one of at_least and at_most"),
        ("[fail]\nscores = [{at_most = 1}]", "a mode"),
        ("[fail]\nscores = [{mode = 'coeff', at_most = 1, socre = 'krs'}]", "socre"),
        ("[fail]\nscores = [{mode = 'coeff', at_most = 1, score = 'krs_best'}]", "krs_centred"),
        ("[fail]\nscores = [{mode = 'coeff', at_most = 'low'}]", "a number"),
        ("[fail]\ndrift = {relative_l2 = 0.1}", "components"),
        ("[fail]\ndrift = {components = ['brain']}", "value_vectors"),
        ("[fail]\nunexpected_tensors = 1", "true"),
        ("[measure]\nquestions = ''\n[fail]\ntarget_bleu = 0.1", "a text"),
        ("[measure]\nneurons = 'yes'\n[fail]\ntarget_bleu = 0.1", "true or false"),
        (f"[require]\nquestions = {'9' * 400}", "whole number"),
        (f"[require]\nquestions = {'9' * 5000}", "no TOML"),
        (f"[fail]\nrecovered = {'9' * 400}", "a number"),
        (f"[fail]\nrecovered = -{'9' * 400}", "a number"),
        (f"[measure]\nwindow = {'9' * 30}\n[fail]\ntarget_bleu = 0.1", "whole number"),
        (f"[fail]\nscores = [{{mode = 'coeff', at_most = {'9' * 400}}}]", "a number"),
        ("[fail]\nrecovered = inf", "a number"),
    ],
)
def test_what_asks_for_nothing_that_exists_is_refused(text: str, words: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text, "audit.toml")
    assert str(caught.value).startswith("audit.toml: ")
    assert words in str(caught.value)


def test_a_policy_that_is_no_file_of_text(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="cannot be read"):
        read_policy(tmp_path / "none.toml")
    with pytest.raises(PolicyError, match="cannot be read"):
        read_policy(tmp_path)
    raw = tmp_path / "raw.toml"
    raw.write_bytes(b"title = \xff")
    with pytest.raises(PolicyError, match="not UTF-8"):
        read_policy(raw)
    raw.write_bytes(b"#" * ((1 << 20) + 1))
    with pytest.raises(PolicyError, match="too large"):
        read_policy(raw)
    raw.write_text("a = " + "[" * 100_000)
    with pytest.raises(PolicyError, match="no TOML"):
        read_policy(raw)
