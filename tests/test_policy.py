"""Policies and gates: every check passes, fails and lacks evidence; whatever is misspelt is refused."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import fromstring

import numpy as np
import pytest

from ckdiff.audit.gate.checks import CHECKS
from ckdiff.audit.gate.forbidden import chance_of_samples
from ckdiff.audit.gate.gate import ABOUT_ANSWERS, PASSES_ANY, gate, worst
from ckdiff.audit.gate.intervals import Asked, hold_above, hold_below
from ckdiff.audit.gate.policy import PolicyError, parse_policy, read_policy
from ckdiff.audit.gate.results import Result
from ckdiff.audit.judge import judge_report
from ckdiff.errors import ExitStatus
from ckdiff.modes import MODES, decisive
from ckdiff.report.exports.junit import to_junit
from ckdiff.report.page.document import to_html
from ckdiff.report.schema.behaviour import ChoiceSet, Mean, NeutralSet
from ckdiff.report.schema.comparison import ConfigChange, ShapeMismatch, TensorInfo, Uncompared
from ckdiff.report.schema.probe import Control
from ckdiff.report.schema.verdict import KNOWLEDGE, LABELS, GateCheck
from ckdiff.report.words.verdict import exit_status
from tests.absences import alone, attacked, erased, row, tier
from tests.judged import EDITED, SUPPRESSED, answered, behaved, compared, probed, report, side
from tests.reports import identical_comparison, same

if TYPE_CHECKING:
    from ckdiff.report.schema.behaviour import AnswerSet
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


def given(answer: str, clusters: int = 10, logprob: float = -1.0) -> AnswerSet:
    """Ten target questions about so many facts, with the file's answers and how probable they are to the model."""
    found = answered("target", 0.1, 0.0, 0.3)
    rows = [
        replace(row, answer_given=answer, cluster=number % clusters, logprob_unlearned=logprob)
        for number, row in enumerate(found.questions)
    ]
    return replace(found, questions=tuple(rows))


def asked(**how: Any) -> Report:
    return whole(behaviour=behaved(given(**how), answered("unrelated", 0.95, 0.9, 1.0, same=9)))


def likely(log_p: float, behaviour: float = -50.0) -> Report:
    """A report whose probe found the answers so probable, and whose answers did."""
    probe = probed(SUPPRESSED)
    questions = tuple(replace(row, log_p_unlearned=log_p - n / 100) for n, row in enumerate(probe.questions))
    return replace(asked(answer="yes", logprob=behaviour), probe=replace(probe, questions=questions))


ABSENT = erased(probe=FULL.probe)
IDENTICAL = report(compare=identical_comparison())
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
    ("require.widest_interval", "0.5", whole(compare=compared(cosine=0.01, ends_geometry=0.4)), "passed"),
    ("require.questions", "3", asked(answer="yes", clusters=3), "passed"),
    ("require.questions", "4", asked(answer="yes", clusters=3), "inconclusive"),
    ("require.labels", '["suppressed"]', FULL, "passed"),
    ("require.labels", '["values edited", "not localised"]', FULL, "failed"),
    ("require.labels", '["values edited"]', EMPTY, "inconclusive"),
    ("require.knowledge", '["unknown"]', FULL, "passed"),
    ("require.knowledge", '["gone"]', FULL, "inconclusive"),
    ("require.knowledge", '["gone", "not recovered"]', IDENTICAL, "failed"),
    ("require.knowledge", '["gone"]', asked(answer="Ada"), "inconclusive"),
    ("require.knowledge", '["never there"]', asked(answer="Ada"), "passed"),
    ("require.base_knows", "1.0", asked(answer="yes"), "passed"),
    ("require.base_knows", "0.1", asked(answer="no"), "inconclusive"),
    ("require.base_knows", "1.0", FULL, "passed"),
    ("require.base_knows", "0.0", EMPTY, "inconclusive"),
    ("require.attacks", '["forms", "relearn"]', ABSENT, "passed"),
    ("require.attacks", '["forms", "choice"]', erased(), "inconclusive"),
    ("require.attacks", '["forms"]', FULL, "inconclusive"),
    ("require.tiers", "[0, 1, 2]", ABSENT, "passed"),
    ("require.tiers", "[1]", erased(attack=attacked(tiers=(tier(1, able=False),))), "inconclusive"),
    ("require.tiers", "[1]", erased(attack=attacked(tiers=(tier(1, whole=False),))), "inconclusive"),
    ("require.tiers", "[1]", erased(attack=attacked(tiers=(tier(1, missing="prune: no"),))), "inconclusive"),
    ("require.tiers", "[3]", erased(), "inconclusive"),
    ("require.tiers", "[3]", replace(ABSENT, attack=attacked(rows=(row("guide", 3, decides=False),))), "passed"),
    ("require.tiers", "[0]", FULL, "inconclusive"),
    ("require.reference", "true", ABSENT, "passed"),
    ("require.reference", "true", erased(attack=alone()), "inconclusive"),
    ("require.reference", "true", erased(attack=attacked(reference_digest="u" * 64)), "inconclusive"),
    ("require.reference", "true", FULL, "inconclusive"),
    ("require.detectable", "0.64", asked(answer="yes", clusters=3), "passed"),
    ("require.detectable", "0.63", asked(answer="yes", clusters=3), "inconclusive"),
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
    ("fail.scores", '[{mode = "coeff", at_most = 0.85}]', FULL, "inconclusive"),
    ("fail.scores", '[{mode = "coeff", at_most = 0.84}]', FULL, "failed"),
    ("fail.scores", '[{mode = "coeff", at_least = 0.5}]', FULL, "passed"),
    ("fail.scores", '[{mode = "coeff", at_least = 0.85}]', FULL, "inconclusive"),
    ("fail.scores", '[{mode = "coeff", at_least = 0.86}]', FULL, "failed"),
    ("fail.scores", '[{mode = "coeff", at_least = 0.5, variant = "direct"}]', FULL, "inconclusive"),
    ("fail.scores", '[{mode = "coeff", at_most = 0.5}]', EMPTY, "inconclusive"),
    ("fail.scores", '[{mode = "values", at_most = 0.2}]', whole(probe=restricted(probed(SUPPRESSED))), "inconclusive"),
    ("fail.target_bleu", "0.3", FULL, "passed"),
    ("fail.target_bleu", "0.29", FULL, "inconclusive"),
    ("fail.target_bleu", "0.09", FULL, "failed"),
    ("fail.target_bleu", "0.3", EMPTY, "inconclusive"),
    ("fail.probability", "{at_most = 0.5}", likely(-9.0), "passed"),
    ("fail.probability", "{at_most = 0.5}", likely(-1.0), "failed"),
    ("fail.probability", "{at_most = 0.5}", likely(-50.0, behaviour=-1.0), "failed"),
    ("fail.probability", "{at_most = 0.5, samples = 1}", likely(-1.0), "passed"),
    ("fail.probability", "{at_most = 0.5}", FULL, "failed"),
    ("fail.probability", "{at_most = 1.0}", EMPTY, "inconclusive"),
    ("fail.probability", "{at_most = 1.0}", ONE, "inconclusive"),
    ("fail.recovery", "0.3", ABSENT, "passed"),
    ("fail.recovery", "0.29", erased(), "inconclusive"),
    ("fail.recovery", "0.09", erased(), "failed"),
    ("fail.recovery", "0.29", erased(attack=attacked(rows=(row("forms", 0, wrecked=True),))), "inconclusive"),
    ("fail.recovery", "0.3", FULL, "inconclusive"),
    ("fail.leak", "{at_most = 0.4}", ABSENT, "passed"),
    ("fail.leak", "{at_most = 0.37}", erased(), "inconclusive"),
    ("fail.leak", "{at_most = 0.001}", erased(), "failed"),
    ("fail.leak", "{at_most = 0.38, samples = 1}", ABSENT, "passed"),
    ("fail.leak", "{at_most = 1.0}", FULL, "inconclusive"),
    ("fail.unrelated_bleu_loss", "0.11", FULL, "passed"),
    ("fail.unrelated_bleu_loss", "0.09", FULL, "inconclusive"),
    ("fail.unrelated_bleu_loss", "0.04", FULL, "failed"),
    ("fail.unrelated_bleu_loss", "0.3", EMPTY, "inconclusive"),
    ("fail.choices_loss", "0.21", FULL, "passed"),
    ("fail.choices_loss", "0.19", FULL, "inconclusive"),
    ("fail.choices_loss", "0.09", FULL, "failed"),
    ("fail.choices_loss", "0.3", EMPTY, "inconclusive"),
    ("fail.neutral_kl", "0.04", FULL, "passed"),
    ("fail.neutral_kl", "0.03", FULL, "inconclusive"),
    ("fail.neutral_kl", "0.01", FULL, "failed"),
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
        higher_is_better = name in ("require.questions", "require.unrelated", "require.coverage", "require.base_knows")
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


@pytest.mark.parametrize(
    ("limit", "outcome"), [(0.6, "passed"), (0.59, "inconclusive"), (0.1, "inconclusive"), (0.099, "failed")]
)
def test_an_interval_passes_by_its_worse_end_and_fails_by_its_figure(limit: float, outcome: str) -> None:
    found = whole(behaviour=behaved(answered("target", 0.1, 0.0, 0.6)))
    assert outcome_of(f"[fail]\ntarget_bleu = {limit}", found) == outcome


@pytest.mark.parametrize(
    ("name", "value", "found", "ends"),
    [
        (
            "unrelated_bleu_loss",
            "0.09",
            FULL,
            "0.09 is allowed: 10 facts are too few to tell, about 16 would settle it (--unrelated FILE)",
        ),
        ("target_bleu", "0.29", FULL, ": 10 facts are too few to tell, about 12 would settle it (--questions FILE)"),
        ("recovery", "0.29", erased(), ": 8 facts are too few to tell, about 9 would settle it (--questions FILE)"),
        ("neutral_kl", "0.03", FULL, " would settle it (--neutral FILE)"),
        ("choices_loss", "0.19", FULL, " would settle it (--choices FILE)"),
        ("scores", "[{mode = 'coeff', at_most = 0.85}]", FULL, ": so near it that more facts may not settle it"),
    ],
)
def test_what_few_questions_cannot_tell_says_how_many_would(name: str, value: str, found: Report, ends: str) -> None:
    checks = gate(judge_report(found), parse_policy(f"[fail]\n{name} = {value}", "p.toml")).checks
    (check,) = (one for one in checks if one.name == f"fail.{name}")
    assert (check.outcome, check.text[-len(ends) :]) == ("inconclusive", ends)


def test_of_several_figures_one_outside_fails_whatever_the_intervals_of_the_others() -> None:
    """The one with the widest interval is inside, another one is not."""
    wide, sure, inside = Mean(0.1, 0.0, 0.9), Mean(0.4, 0.35, 0.45), Mean(0.1, 0.05, 0.15)
    asked = Asked(10, "facts", "--questions FILE")
    assert hold_below([wide, sure], 0.3, "", asked).outcome == "failed"
    assert hold_below([wide, sure], 0.4, "", asked).outcome == "inconclusive"
    assert hold_below([inside, inside], 0.15, "", asked) == Result("passed", "", 0.15, 0.15)
    # The most that one of them needs: 10 (0.75 / 0.25)^2, and not 10 (0.5 / 0.25)^2.
    both = hold_below([Mean(0.25, 0.0, 0.75), Mean(0.25, 0.0, 1.0)], 0.5, "x", asked)
    assert (both.outcome, both.value) == ("inconclusive", 1.0)
    assert both.text == "x: 10 facts are too few to tell, about 90 would settle it (--questions FILE)"


def test_exit_status_page_and_junit_agree_on_what_few_questions_cannot_tell() -> None:
    policy = parse_policy("[fail]\nunrelated_bleu_loss = 0.09", "p.toml")
    found = judge_report(FULL, policy)
    assert exit_status(found.verdict) == ExitStatus.INCONCLUSIVE
    suite = fromstring(to_junit(found))
    assert (suite.get("errors"), suite.get("failures")) == ("1", "0")
    text = to_html(found)
    assert "about 16 would settle it" in text
    assert "not enough evidence" in text
    assert "failed</span>" not in text


def test_a_figure_that_is_no_number_fails_and_never_passes() -> None:
    asked = Asked(10, "facts", "--questions FILE")
    for nan in (Mean(np.nan, np.nan, np.nan), Mean(np.nan, 0.0, 0.9)):
        assert hold_below([nan], 0.3, "", asked).outcome == "failed"
        assert hold_above(nan, 0.3, "", asked).outcome == "failed"
    assert hold_below([Mean(0.1, np.nan, np.nan)], 0.3, "", asked).outcome == "inconclusive"


@pytest.mark.parametrize(
    ("limit", "outcome"), [(0.2, "passed"), (0.21, "inconclusive"), (0.5, "inconclusive"), (0.51, "failed")]
)
def test_what_must_be_at_least_a_limit_counts_by_its_lower_end(limit: float, outcome: str) -> None:
    found = hold_above(Mean(0.5, 0.2, 0.9), limit, "", Asked(10, "facts", "--questions FILE"))
    assert (found.outcome, found.value, found.threshold) == (outcome, 0.2, limit)


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


@pytest.mark.parametrize(("name", "passes"), [("default", {"gone"}), ("not-recovered", {"gone", "not recovered"})])
def test_the_policies_that_come_along_pass_what_they_say_and_nothing_else(name: str, passes: set[str]) -> None:
    policy = read_policy(Path(name))
    assert policy.title
    assert (policy.measure["modes"], policy.checks["require.modes"]) == (tuple(MODES), decisive())
    assert gate(judge_report(FULL), policy).outcome == "failed"
    erased = judge_report(
        replace(
            asked(answer="yes", logprob=-30.0), probe=probed(EDITED["values"]), compare=compared({("value_vectors", 2)})
        )
    )
    assert erased.verdict is not None
    for knowledge in KNOWLEDGE:
        found = gate(replace(erased, verdict=replace(erased.verdict, knowledge=knowledge)), policy)
        missed = {check.name: check.text for check in found.checks if check.outcome != "passed"}
        assert set(missed) == (set() if knowledge in passes else {"require.knowledge"}), missed
        wanted = "passed" if knowledge in passes else "failed" if knowledge == "still there" else "inconclusive"
        assert (found.outcome, found.notes) == (wanted, ())
    # What would tell is named by its command.
    (text,) = (one.text for one in gate(erased, policy).checks if one.outcome != "passed")
    assert "`ckdiff attack" in text
    assert "--reference" in text
    assert gate(judge_report(report(compare=identical_comparison())), policy).outcome == "failed"
    assert gate(judge_report(EMPTY), policy).outcome == "inconclusive"


def test_another_training_may_be_gone_and_needs_a_reference_for_it() -> None:
    anew = judge_report(
        replace(
            asked(answer="yes", logprob=-30.0),
            probe=probed(EDITED["values"]),
            compare=compared(cosine=0.01, ends_geometry=0.4),
        )
    )
    assert anew.verdict is not None
    assert gate(anew, read_policy()).outcome == "inconclusive"
    gone = replace(anew, verdict=replace(anew.verdict, knowledge="gone"))
    assert gate(gone, read_policy()).outcome == "passed"
    assert gate(gone, read_policy(Path("not-recovered"))).outcome == "inconclusive", "reordered neurons look like it"


def test_a_name_is_one_of_ours_where_there_is_no_such_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_policy(Path("default")).digest == read_policy().digest
    assert read_policy(Path("not-recovered")).source == "ckdiff's own, not-recovered"
    assert read_policy().source == "ckdiff's own, default"
    (tmp_path / "not-recovered").write_text("[require]\nquestions = 1\n")
    assert (read_policy(Path("not-recovered")).source, len(read_policy(Path("not-recovered")).checks)) == (
        "not-recovered",
        1,
    )
    with pytest.raises(PolicyError, match="ckdiff brings default, not-recovered"):
        read_policy(Path("not-recoverd"))


def test_the_two_policies_differ_in_what_they_allow_alone() -> None:
    ours, other = read_policy(), read_policy(Path("not-recovered"))
    differing = {key for key in {**ours.checks, **other.checks} if ours.checks.get(key) != other.checks.get(key)}
    # Where no model that never knew stands beside, the places where answers return count as well.
    assert differing == {"require.knowledge", "require.basis", "fail.labels"}
    assert ours.measure == other.measure


# ------------------------------------------------------------------------------------------------- any verdict, facts


@pytest.mark.parametrize(
    ("text", "any_verdict"),
    [
        ("[require]\nquestions = 5", True),
        ("[fail]\nunexpected_tensors = true", True),
        (f"[require]\nlabels = {list(LABELS)}", True),
        (f"[require]\nknowledge = {list(KNOWLEDGE)}", True),
        (f"[require]\nlabels = {[one for one in LABELS if one != 'inconclusive']}", True),
        ("[fail]\nlabels = ['inconclusive']", True),
        ("[fail]\nlabels = ['ancillary']", False),
        ("[require]\nknowledge = ['gone']", False),
        (f"[require]\nknowledge = {list(KNOWLEDGE[1:])}", False),
        (f"[require]\nlabels = {list(LABELS[1:])}", False),
    ],
)
def test_a_policy_that_passes_any_verdict_says_so(text: str, any_verdict: bool) -> None:
    found = gate(judge_report(FULL), parse_policy(text, "p.toml"))
    assert (PASSES_ANY in found.notes) == any_verdict


def test_where_nobody_gave_answers_a_note_says_that_nothing_is_known_of_the_base() -> None:
    policy = parse_policy("[require]\nbase_knows = 0.5\nknowledge = ['unknown']", "p.toml")
    (note,) = gate(judge_report(FULL), policy).notes
    assert "no given answers" in note
    assert gate(judge_report(asked(answer="yes")), policy).notes == ()


@pytest.mark.parametrize("clusters", [1, 2, 3])
def test_fewer_than_three_facts_never_pass_a_question_about_the_effect(clusters: int) -> None:
    report = judge_report(asked(answer="yes", clusters=clusters))
    for name in ABOUT_ANSWERS:
        value = next(value for key, value, _, outcome in TABLE if key == name and outcome == "passed")
        table, _, key = name.partition(".")
        policy = parse_policy(f"[{table}]\n{key} = {value}", "p.toml")
        checks = {one.name: one.outcome for one in gate(report, policy).checks}
        assert checks.get("facts") == ("inconclusive" if clusters < 3 else None), name
    assert outcome_of("[fail]\nunrelated_bleu_loss = 0.5", asked(answer="yes", clusters=clusters)) == "passed"


def test_spellings_of_one_question_count_as_one_in_probe_and_answers_alike() -> None:
    probe = probed(SUPPRESSED)
    questions = tuple(replace(row, cluster=n // 5) for n, row in enumerate(probe.questions))
    assert outcome_of("[require]\nquestions = 3", whole(probe=replace(probe, questions=questions))) == "inconclusive"
    many = answered("unrelated", 0.95, 0.9, 1.0, same=9)
    one = replace(many, questions=tuple(replace(row, cluster=0) for row in many.questions))
    assert outcome_of("[require]\nunrelated = 2", whole(behaviour=behaved(given("yes"), one))) == "inconclusive"


def test_a_score_is_held_by_the_band_over_all_windows_and_not_by_the_interval_of_one() -> None:
    probe = probed(SUPPRESSED)
    number = [(run.mode, run.variant, run.direction) for run in probe.runs].index(("coeff", "open", "restore"))
    run = probe.runs[number]
    curve = replace(run.krs_kl, band_low=run.krs_kl.low - 0.1, band_high=run.krs_kl.high + 0.1)
    runs = (*probe.runs[:number], replace(run, krs_kl=curve), *probe.runs[number + 1 :])
    best = int(curve.score.argmax())
    for end in (f"at_most = {curve.high.max() + 0.05}", f"at_least = {curve.low[best] - 0.05}"):
        found = whole(probe=replace(probe, runs=runs))
        assert outcome_of(f"[fail]\nscores = [{{mode = 'coeff', {end}}}]", found) == "inconclusive", end


def test_an_inconclusive_verdict_is_never_allowed_and_is_said_once() -> None:
    bare = report(compare=compared())
    for text in ("[require]\nlabels = ['inconclusive']", "[fail]\nlabels = ['suppressed']"):
        checks = gate(judge_report(bare), parse_policy(text, "p.toml")).checks
        assert [(one.name.partition(".")[2], one.outcome) for one in checks] == [("labels", "inconclusive")]
    (check,) = gate(judge_report(bare), parse_policy("[require]\nknowledge = ['unknown']", "p.toml")).checks[:1]
    assert (check.name, check.outcome) == ("verdict", "inconclusive")


def test_a_long_answer_is_less_probable_than_its_tokens() -> None:
    found = given("yes", logprob=-1.0)
    long = replace(found, questions=tuple(replace(row, answer_base_ids=(5,) * 20) for row in found.questions))
    assert outcome_of("[fail]\nprobability = {at_most = 0.5}", whole(behaviour=behaved(long))) == "passed"
    assert outcome_of("[fail]\nprobability = {at_most = 0.5}", whole(behaviour=behaved(found))) == "failed"


def test_the_chance_of_an_answer_counts_by_the_upper_end_and_by_the_worse_of_two_measurements() -> None:
    """One fact of ten is given away: the mean alone would pass."""
    found = given("yes", logprob=-30.0)
    rows = (replace(found.questions[0], logprob_unlearned=-0.05), *found.questions[1:])
    one = whole(behaviour=behaved(replace(found, questions=rows)))
    value = chance_of_samples([row.logprob_unlearned for row in rows], range(10), 10)
    assert value.value < 0.3 < value.high
    assert outcome_of("[fail]\nprobability = {at_most = 0.3}", one) == "inconclusive"
    # The probe has the greater mean, all alike; the answers have the greater upper end.
    probe = probed(SUPPRESSED)
    alike = replace(
        probe, questions=tuple(replace(row, log_p_unlearned=-4.4 - n / 1e3) for n, row in enumerate(probe.questions))
    )
    steady = chance_of_samples([row.log_p_unlearned for row in alike.questions], range(10), 10)
    assert value.value < steady.value < steady.high < 0.3
    assert outcome_of("[fail]\nprobability = {at_most = 0.3}", replace(one, probe=alike)) == "inconclusive"


def test_what_the_states_bring_back_counts_by_its_upper_end() -> None:
    (whole_run,) = [
        run
        for run in probed(SUPPRESSED).runs
        if (run.mode, run.variant, run.direction) == ("attn+coeff", "whole", "restore")
    ]
    between = float(whole_run.krs_kl.score[0] + whole_run.krs_kl.band_high[0]) / 2
    assert whole_run.krs_kl.score[0] < between < whole_run.krs_kl.band_high[0]
    assert outcome_of(f"[fail]\nrecovered = {between}", FULL) == "inconclusive"


def test_both_sides_need_a_digest_and_both_directions_their_runs() -> None:
    bare = replace(FULL, provenance=replace(FULL.provenance, unlearned=replace(side("unlearned"), digest=None)))
    assert outcome_of("[require]\ndigests = true", bare) == "inconclusive"
    probe = probed(SUPPRESSED)
    one_way = tuple(run for run in probe.runs if (run.mode, run.direction) != ("keys", "break"))
    assert outcome_of("[require]\nmodes = ['keys']", whole(probe=replace(probe, runs=one_way))) == "inconclusive"


def test_what_has_another_shape_was_not_compared_and_what_is_not_finite_is_unexpected() -> None:
    grown = ShapeMismatch("big.weight", "other", (30_000, 1), (40_000, 1))
    assert outcome_of("[require]\ncoverage = 0.9", whole(compare=compared(shape_mismatch=(grown,)))) == "inconclusive"
    found = compared()
    broken = replace(found.tensors[0], drift=replace(found.tensors[0].drift, nonfinite_unlearned=1))
    holed = whole(compare=replace(found, tensors=(broken, *found.tensors[1:])))
    assert outcome_of("[fail]\nunexpected_tensors = true", holed) == "failed"


def test_a_change_that_was_found_counts_before_one_that_could_not_be_looked_for() -> None:
    both = compared(config_changes=(CHANGE,), config_uncompared=(Uncompared("mystery.json", "not known"),))
    assert outcome_of("[fail]\nconfig_changes_except = []", whole(compare=both)) == "failed"


def test_a_probe_without_controls_passes_nothing_that_looks_at_side_effects_alone() -> None:
    text = "[fail]\nunrelated_bleu_loss = 0.5"
    assert outcome_of(text, FULL) == "passed"
    assert outcome_of(text, whole(probe=probed(SUPPRESSED, controls=()))) == "inconclusive"


def test_what_is_improbable_is_not_nothing() -> None:
    found = chance_of_samples([-40.0, -41.0, -42.0], [0, 1, 2], 10)
    assert found.value == pytest.approx(10 * np.exp([-40.0, -41.0, -42.0]).mean(), rel=1e-6)
    assert chance_of_samples([0.0, -1e-12, 0.0], [0, 1, 2], 1).value == pytest.approx(1)
    # Eight spellings of one fact that is given away, beside two that are not.
    spelt = chance_of_samples([-0.1] * 8 + [-20.0] * 2, [0] * 8 + [1, 2], 1)
    apart = chance_of_samples([-0.1] * 8 + [-20.0] * 2, [-1] * 10, 1)
    assert spelt.high > apart.high


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
        ("[require]\nlables = ['suppressed']", "no key 'require.lables'"),
        ("[require]\nlabels = ['surpressed']", "surpressed"),
        ("[require]\nknowledge = ['dead']", "still there, not recovered, gone"),
        ("[require]\nknowledge = []", "list of some of"),
        ("[require]\nbase_knows = 2", "from 0 to 1"),
        ("[fail]\nprobability = 0.5", "a table with at_most"),
        ("[fail]\nprobability = {samples = 3}", "a table with at_most"),
        ("[fail]\nprobability = {at_most = 0.5, smaples = 3}", "a table with at_most"),
        ("[fail]\nprobability = {at_most = 2}", "from 0 to 1"),
        ("[fail]\nprobability = {at_most = 0.5, samples = 0}", "whole number"),
        ("[measure]\nwindwo = 3", "no key 'measure.windwo' in a policy; did you mean measure.window? [measure] has"),
        ("[require]\ndrift = 3", "in a policy; did you mean fail.drift? [require] has"),
        ("[fail]\nlabel = 3", "in a policy; did you mean fail.labels? [fail] has"),
        ("[fail]\nxyzzy = 3", "no key 'fail.xyzzy' in a policy; [fail] has"),
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
        ("[require]\ntiers = [4]", "require.tiers: must be a list of some of: 0, 1, 2, 3"),
        ("[require]\ntiers = [true]", "require.tiers: must be a list of some of"),
        ("[require]\ntiers = []", "require.tiers: must be a list of some of"),
        ("[require]\ntiers = 1", "require.tiers: must be a list of some of"),
        ("[require]\nattacks = []", "require.attacks: must be a list of texts, one at least"),
    ],
)
def test_what_asks_for_nothing_that_exists_is_refused(text: str, words: str) -> None:
    with pytest.raises(PolicyError) as caught:
        parse_policy(text, "audit.toml")
    assert str(caught.value).startswith("audit.toml: ")
    assert words in str(caught.value)


def test_a_mistake_is_said_of_the_file_as_it_was_typed_and_a_gate_names_no_folder(tmp_path: Path) -> None:
    place = tmp_path / "p.toml"
    place.write_text("[require]\nknowlege = ['gone']")
    with pytest.raises(PolicyError) as caught:
        read_policy(place)
    assert str(caught.value).startswith(f"{place}: no key 'require.knowlege' in a policy; did you mean require.knowl")
    place.write_text("[require]\nknowledge = ['gone']")
    assert read_policy(place).source == "p.toml"


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
