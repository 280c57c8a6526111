"""What one screen of a verdict says, held against a verdict made of few parts."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ckdiff.audit.gate.checks import CHECKS
from ckdiff.audit.gate.policy import read_policy
from ckdiff.audit.judge import judge_report
from ckdiff.audit.verdict.absence import BESIDE, COMMAND
from ckdiff.audit.verdict.rules import RULES
from ckdiff.audit.verdict.side_effects import SWAPPED
from ckdiff.audit.verdict.verdict import judge
from ckdiff.cli.again import type_policy, type_recorded
from ckdiff.cli.attack import attack
from ckdiff.cli.audit import audit
from ckdiff.cli.groups import slots_of
from ckdiff.options import CHAT_PROMPT, DEFAULT_TEMPLATE, USUAL_REPORT, Option
from ckdiff.report.schema.report import Provenance, Report
from ckdiff.report.schema.verdict import Gate, GateCheck, Knowledge, Label, Outcome, RuleResult, Verdict
from ckdiff.report.terminal.summary import SideBySide
from ckdiff.report.terminal.view import to_view
from ckdiff.report.words.asked import ANOTHER, DAMAGE, asking_text
from ckdiff.report.words.commands import SAID_ONCE, SHARED, TURNED, break_command, complete_command
from ckdiff.report.words.gates import SUBJECTS, check_subject, gate_text
from ckdiff.report.words.headlines import NEXT, UNFIT
from ckdiff.report.words.known import STILL, Shown, shown_by
from ckdiff.report.words.sections import Selection
from ckdiff.report.words.summary import (
    ROOMS,
    Answer,
    again_command,
    checks_text,
    in_short,
    next_commands,
    unrelated_text,
)
from ckdiff.report.words.verdict import action_text, advice_text, knowledge_text
from tests.judged import answered, behaved, probed, report, side
from tests.reports import attacks
from tests.test_tables import rendered

if TYPE_CHECKING:
    from ckdiff.report.schema.behaviour import AnswerSet


def gated(*checks: tuple[str, Outcome]) -> Verdict:
    rows = tuple(
        GateCheck(name, outcome, f"what {name} is about", float("nan"), float("nan")) for name, outcome in checks
    )
    gate = Gate(outcome="failed", source="p.toml", digest="", policy="", checks=rows)
    return replace(judge(report()), gate=gate)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], ""),
        (["fail.labels"], "what fail.labels is about (fail.labels)"),
        (["a", "b", "c", "d"], "a, b, c, d"),
        (
            ["require.knowledge", "fail.labels", "require.labels", "measure.dtype"],
            "what became of the knowledge, where the effect lives, how it was measured (dtype)",
        ),
        (["a", "b", "c", "d", "e"], "a, b, c, d and 1 more"),
    ],
)
def test_failed_checks_are_named(names: list[str], expected: str) -> None:
    found = gated(("kept", "passed"), *((name, "failed") for name in names), ("lacks", "inconclusive"))
    assert checks_text(found, "failed") == expected
    assert checks_text(found, "inconclusive") == "what lacks is about (lacks)"
    assert checks_text(replace(found, gate=None), "failed") == ""


def test_a_long_sentence_is_cut_between_words() -> None:
    text = checks_text(gated(("long " * 60, "failed")), "failed")
    assert len(text) <= ROOMS[0]
    assert text.endswith("long … (long long long long long long long …)")


def test_a_check_is_left_without_what_stands_elsewhere_on_the_screen() -> None:
    found = gated(("require.knowledge", "failed"))
    assert found.gate is not None
    for text in (f"the policy allows gone: {found.knowledge_reason}", "the policy allows gone (`ckdiff attack`)"):
        check = replace(found.gate.checks[0], text=text)
        again = replace(found, gate=replace(found.gate, checks=(check,)))
        assert checks_text(again, "failed") == "the policy allows gone (require.knowledge)"


TARGET, UNRELATED = answered("target", 0.1, 0.0, 0.3, same=2), answered("unrelated", 0.9, 0.8, 1.0, same=9)
ASKED = report(behaviour=behaved(TARGET, UNRELATED))
UNSEEN = "With 10 questions, what shows in fewer than 25.9 % of such answers can go unseen."
SURE = {"still there": "More questions will not change it.", "identical": "Every stored value was compared."}


@pytest.mark.parametrize(
    ("knowledge", "label", "outcome", "sentence"),
    [
        ("still there", "suppressed", "failed", "The model still knows what it was to unlearn: do not release it."),
        ("gone", "values edited", "passed", "as far as the policy asks, it may be released."),
        ("not recovered", "mixed", "inconclusive", "No attack got what was to be unlearned out of the model: do not"),
        ("never there", "mixed", None, "the base does not know it either: no policy was asked"),
        ("unknown", "identical", "failed", "The two checkpoints are the same, so that nothing was unlearned: do not"),
        ("unknown", "no effect on these questions", "failed", "The model answers as before"),
        (
            "unknown",
            "mixed",
            "inconclusive",
            "8 of 10 answers changed, if only by a word, and whether the model still knows",
        ),
    ],
)
def test_one_sentence_says_what_happened_whether_to_release_and_how_sure_that_is(
    knowledge: Knowledge, label: Label, outcome: Outcome | None, sentence: str
) -> None:
    verdict = replace(judge(ASKED), knowledge=knowledge, label=label, lacking=())
    gate = None if outcome is None else Gate(outcome=outcome, source="", digest="", policy="", checks=())
    found = in_short(ASKED, replace(verdict, gate=gate))
    assert sentence in found
    assert SURE.get(knowledge, SURE.get(label, UNSEEN)) in found
    assert found.endswith(".")
    assert ("may be released" in found) == (outcome in ("passed", None))


def test_a_policy_that_does_not_ask_about_the_knowledge_releases_nothing() -> None:
    verdict = replace(judge(ASKED), knowledge="still there", label="suppressed", lacking=())
    gate = Gate(outcome="passed", source="p.toml", digest="", policy="", checks=())
    still, asks = replace(verdict, gate=gate), GateCheck("require.knowledge", "passed", "", 0.0, 0.0)
    assert "what it was to unlearn: the policy does not ask about that, and passed. More" in in_short(ASKED, still)
    assert (
        gate_text(still) == "the gate passed, by a policy (p.toml) that does not ask about the knowledge: 'still there'"
    )
    asked = replace(still, gate=replace(gate, checks=(asks,)))
    assert "as far as the policy asks, it may be released" in in_short(ASKED, asked)
    assert gate_text(asked) == "the gate passed"
    failed = replace(still, gate=replace(gate, outcome="failed"))
    assert "do not release it." in in_short(ASKED, failed)
    assert gate_text(failed) == "the gate failed"


def ruled(**fired: bool) -> Verdict:
    """A verdict that still knows, by these rules."""
    rules = tuple(RuleResult(name.replace("_", " "), held, "", 0.0, 0.0, "at_most") for name, held in fired.items())
    return replace(judge(ASKED), knowledge="still there", label="suppressed", lacking=(), rules=rules)


@pytest.mark.parametrize(
    ("found", "by", "seen"),
    [
        (ruled(answers_kept=True, matched=True), "asked", "It says it when it is simply asked; more"),
        (ruled(answers_kept=False, answers_back=True), "attacked", "Attacks got answers out of it; more"),
        (ruled(answers_back=True, guessed=True), "attacked", "Attacks got answers out of it; more"),
        (
            ruled(answers_back=True, guessed=False, matched=True),
            "matched",
            "What came back as text may be guesses, but",
        ),
        (ruled(answers_back=False, matched=True), "matched", "What came back as text may be guesses, but it tells"),
        (ruled(matched=False), "", "More questions will not change it."),
        (ruled(), "", "More questions will not change it."),
    ],
)
def test_what_was_seen_is_said_in_plain_words(found: Verdict, by: Shown, seen: str) -> None:
    assert shown_by(found) == by
    assert shown_by(replace(found, knowledge="unknown")) == ""
    assert shown_by(replace(found, label="identical")) == "same"
    asked = replace(ASKED, attack=attacks())
    assert seen in in_short(asked, found)
    assert knowledge_text(found).startswith(STILL[by])
    silent = attacks(tiers=tuple(replace(one, returned=0) for one in attacks().tiers))
    none = "No answer came back as text, but" in in_short(replace(ASKED, attack=silent), found)
    assert none == (by == "matched")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "ckdiff audit /models/base NEW --questions FILE --output new.h5"),
        ({"label": "identical"}, ""),
        ({"knowledge": "unknown"}, ""),
        ({"lacking": (f"`{TURNED}`",)}, ""),
        (
            {"gate": Gate(outcome="failed", source="ckdiff's own, default", digest="", policy="", checks=())},
            " --output new.h5",
        ),
        ({"gate": Gate(outcome="failed", source="ckdiff's own", digest="", policy="", checks=())}, " --output new.h5"),
        (
            {"gate": Gate(outcome="failed", source="ckdiff's own, not-recovered", digest="", policy="", checks=())},
            " --policy not-recovered",
        ),
        (
            {"gate": Gate(outcome="failed", source="my p.toml", digest="", policy="", checks=())},
            " --output new.h5 --policy 'my p.toml'",
        ),
    ],
)
def test_the_audit_of_the_next_model_is_offered(changes: dict[str, Any], expected: str) -> None:
    command = again_command(report(), replace(ruled(matched=True), **changes))
    assert command.endswith(expected)
    assert bool(command) == bool(expected)


def test_of_a_model_that_still_knows_the_next_one_is_audited_and_nothing_more_is_measured() -> None:
    lacking = ("no attack of tier 2 was tried (`ckdiff attack --questions FILE --tier 0,1,2`)",)
    gate = Gate(outcome="failed", source="p.toml", digest="", policy="", checks=())
    found = replace(ruled(matched=True), lacking=lacking, gate=gate)
    page, again = next_commands(report(), found, "out/r.h5", TYPED)
    assert page == "ckdiff html out/r.h5 --output page.html"
    asked = "--questions q.csv --unrelated u.csv --chat-template --window 3 --policy p.toml"
    assert again == f"ckdiff audit 'my models/base' NEW {asked} --output out/new.h5"
    assert next_commands(report(), found, "out/new.h5", TYPED)[1].endswith(" --output out/new-2.h5")
    open_ = next_commands(report(), replace(found, knowledge="unknown"), "out/r.h5", TYPED)
    assert open_[0].startswith("ckdiff attack --questions q.csv --tier 0,1,2")


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_command_is_broken_so_that_a_shell_takes_it_as_one(width: int) -> None:
    command = f"ckdiff audit 'my base' {'x' * 50} --questions q.jsonl --policy \"it's mine\" --window 3 --tier 0,1,2"
    lines = break_command(command, width)
    assert lines[0].startswith("$ ckdiff")
    assert shlex.split("\n".join(lines).removeprefix("$ ").replace("\\\n", "")) == shlex.split(command)
    assert all(len(line) <= width or len(line.split()) <= 2 for line in lines)
    assert len(lines) == {40: 5, 80: 2, 200: 1}[width]


def test_a_gate_names_the_policy_and_such_of_its_files_as_are_there(tmp_path: Path) -> None:
    (tmp_path / "my q.jsonl").touch()
    place = tmp_path / "p.toml"
    place.write_text("[measure]\nquestions = 'my q.jsonl'\nunrelated = 'none.jsonl'\n[require]\nquestions = 3\n")
    typed = type_policy(read_policy(place), place)
    assert typed == {"--policy": f"--policy {place}", "--questions": f"--questions '{tmp_path}/my q.jsonl'"}
    assert type_policy(read_policy(None), None) == {}


def test_a_screen_names_the_pair_where_nobody_has_typed_it() -> None:
    sides = replace(side("base"), digest="1a" * 32), replace(side("unlearned"), location="/x/new", digest=None)
    found = replace(report(), provenance=Provenance(*sides), verdict=judge(report()))

    def said(**typed: str) -> str:
        return rendered(to_view(found, Selection("verdict", brief=True, place="r.h5", typed=typed)), 200)

    line = "about      new (not hashed) against base (sha256 1a1a1a1a1a1a…)"
    assert line in [row.rstrip() for row in said().splitlines()]
    assert "about  " not in said(BASE="base")


@pytest.mark.parametrize("command", ["brief", "details"])
def test_what_is_said_at_once_names_paths_as_they_were_typed(command: str) -> None:
    lacking = ("no attack was tried (`ckdiff attack --questions FILE --tier 0,1,2`)",)
    found = replace(report(), verdict=replace(judge(report()), lacking=lacking, knowledge="unknown"))
    shown = Selection("verdict", brief=command == "brief", place="my r.h5", typed=TYPED)
    text = rendered(to_view(found, shown), 500)
    assert "ckdiff attack --questions q.csv --tier 0,1,2 --unrelated u.csv --chat-template --output 'my r.h5'" in text


def test_advice_says_what_to_do_next_and_do_not_release_once() -> None:
    found, failed = ruled(matched=True), Gate(outcome="failed", source="", digest="", policy="", checks=())
    assert advice_text(found).startswith("Unlearn it anew by other means, and audit the new model with the same")
    assert advice_text(found).count(UNFIT) == 1
    assert action_text(replace(found, gate=failed)).count("Do not release") == 1
    assert UNFIT in action_text(replace(found, gate=replace(failed, outcome="passed")))
    for knowledge, words in NEXT.items():
        assert advice_text(replace(found, knowledge=knowledge)).startswith(words)
    assert not advice_text(replace(found, label="identical")).startswith("Unlearn")


@pytest.mark.parametrize("check", sorted(DAMAGE))
@pytest.mark.parametrize("knowledge", ["still there", "gone", "unknown"])
def test_a_model_that_lost_too_much_is_made_anew_and_not_measured_more(check: str, knowledge: Knowledge) -> None:
    lacking = ("no attack was tried (`ckdiff attack --questions FILE`)", "7 facts, 30 are wanted (--questions FILE)")
    found = replace(gated((check, "failed")), knowledge=knowledge, label="mixed", lacking=lacking)
    means = "by other means and " if knowledge == "still there" else ""
    said = (
        f"Unlearn it anew {means}with less damage: fewer steps or a lower rate, and more training on what is to stay. "
    )
    assert advice_text(found) == f"{said}Audit the new model with the same options."
    assert next_commands(report(), found, "r.h5")[1].startswith("ckdiff audit /models/base NEW --questions FILE")
    kept = replace(gated((check, "inconclusive")), knowledge="unknown", label="mixed", lacking=lacking)
    assert "less damage" not in advice_text(kept)
    assert next_commands(report(), kept, "r.h5")[1].startswith("ckdiff html")


def test_where_nothing_was_asked_the_sentence_is_sure_of_nothing() -> None:
    said = "What became of the knowledge was not measured: no policy was asked whether it may be released."
    assert in_short(report(), judge(report())) == f"{said} Nothing was asked, so that nothing is sure."


def test_the_number_of_facts_to_ask_is_said_once_for_each_file() -> None:
    def check(name: str, outcome: Outcome, text: str = "", threshold: float = float("nan")) -> GateCheck:
        return GateCheck(name, outcome, text, 1.0, threshold)

    settles = "0.5: 3 facts are too few to tell, about {} would settle it ({} FILE)"
    checks = (
        check("require.questions", "inconclusive", threshold=20.0),
        check("fail.target_bleu", "inconclusive", settles.format(1000, "--questions")),
        check("require.unrelated", "inconclusive", threshold=5.0),
        check("fail.unrelated_bleu_loss", "inconclusive", settles.format(4, "--unrelated")),
        check("fail.neutral_kl", "failed", settles.format(9, "--neutral")),
        check("require.coverage", "inconclusive", threshold=30.0),
    )
    found = gated()
    assert found.gate is not None
    asked = "Ask about 1,000 facts (--questions FILE) and 5 facts (--unrelated FILE)."
    open_ = replace(found, gate=replace(found.gate, checks=checks), knowledge="unknown")
    assert asking_text(open_) == asked
    # Whatever else was asked about, a model that still knows is to be unlearned anew.
    there = replace(open_, knowledge="still there")
    assert asking_text(there) == ""
    assert advice_text(there).startswith("Unlearn it anew")
    assert asking_text(found) == asking_text(replace(found, gate=None)) == ""


@pytest.mark.parametrize("width", [80, 120, 200])
def test_a_screen_has_twenty_lines_and_uses_them(width: int) -> None:
    reason = "; ".join(f"a reason of some length, which is the {number}th" for number in range(9))
    failed = tuple(GateCheck(f"fail.{n}", "failed", reason, 1.0, 1.0) for n in range(9))
    open_ = tuple(GateCheck(f"require.{n}", "inconclusive", reason, 1.0, 1.0) for n in range(9))
    gate = Gate(outcome="failed", source="", digest="", policy="", checks=(*failed, *open_))
    verdict = replace(judge(ASKED), label="suppressed", knowledge_reason=reason, gate=gate, component="states " * 9)
    found = replace(ASKED, verdict=verdict)
    lines = rendered(to_view(found, Selection("verdict", brief=True, place="r.h5")), width).splitlines()
    assert len(lines) <= 20
    assert max(map(len, lines)) <= width
    said = " ".join(" ".join(line.split()) for line in lines)
    assert ("3th" in said, "4th" in said) == (width > 80, width > 80)


@pytest.mark.parametrize(("same", "expected"), [(10, "0 of 10"), (1, "9 of 10"), (0, "10 of 10")])
def test_unrelated_answers_that_changed_are_counted(same: int, expected: str) -> None:
    sets = answered("target", 0.1, 0.0, 0.2), answered("unrelated", 0.9, 0.8, 1.0, same=same)
    assert unrelated_text(report(behaviour=behaved(*sets))) == f"{expected} unrelated answers changed as well"
    assert unrelated_text(report(behaviour=behaved(sets[0]))) == ""


def test_what_to_type_next() -> None:
    found = gated()
    show, page = "ckdiff show r.h5 --section verdict", "ckdiff html r.h5 --output page.html"
    assert next_commands(report(), replace(found, lacking=()), "r.h5") == [show, page]
    lacking = ("no attack was tried (`ckdiff attack --questions FILE`)", "none (`ckdiff other`)")
    attack = "ckdiff attack --questions FILE --output r.h5"
    assert next_commands(report(), replace(found, lacking=lacking), "r.h5") == [attack, show]
    assert next_commands(report(), replace(found, lacking=()), "my r.h5")[0] == (
        "ckdiff show 'my r.h5' --section verdict"
    )


@pytest.mark.parametrize(
    ("source", "given", "file"),
    [
        ("towns.jsonl, JSON lines", "", "FILE"),
        ("towns.jsonl, JSON lines", "pair/towns.jsonl", "pair/towns.jsonl"),
        ('towns.json, towns, concept "Old \\"Velmar\\""', "", "FILE --concept 'Old \"Velmar\"'"),
        ("command line", "", "FILE"),
        ("-o, JSON lines", "", "FILE"),
        ("a\x1b, JSON lines", "", "FILE"),
    ],
)
def test_a_command_names_the_questions_that_were_typed(source: str, given: str, file: str) -> None:
    asked = replace(probed({}), settings={"questions_digest": "", "questions_source": source})
    typed = {"--questions": f"--questions {given}"} if given else {}
    command = complete_command("ckdiff attack --questions FILE --tier 0", report(probe=asked), USUAL_REPORT, typed)
    assert command == f"ckdiff attack --questions {file} --tier 0"


def test_files_of_a_report_are_named_where_they_are_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = said_of(3, 3)
    assert type_recorded(found) == {}
    Path("my towns.jsonl").touch()
    typed = type_recorded(found)
    assert typed == {"--unrelated": "--unrelated 'my towns.jsonl'"}
    command = complete_command("ckdiff audit BASE NEW --questions FILE", found, USUAL_REPORT, typed)
    assert command.endswith(" NEW --questions FILE --unrelated 'my towns.jsonl'")


def test_every_check_has_words_for_a_list_of_them() -> None:
    own = {"measured", "controls", "verdict", "facts"}
    assert set(SUBJECTS) == set(CHECKS) | own
    assert check_subject("require.none\x1b") == "require.none\\x1b"


def test_questions_and_answers_are_broken_and_not_cut() -> None:
    long = [Answer(f"Is {'a word ' * 5}this the end?", "the base says " * 9, "short") for _ in range(3)]
    text = rendered(SideBySide(long), 80)
    assert all(len(line) <= 80 for line in text.splitlines())
    assert text.count("end?") == 3
    assert text.count("…") == 3
    assert len(text.splitlines()) == 7
    whole = [Answer("Who?", "Ann", "Ben and then some")]
    assert [line.split() for line in rendered(SideBySide(whole), 40).splitlines()][1] == [
        "Who?",
        "Ann",
        "Ben",
        "and",
        "then",
        "some",
    ]


def test_a_command_keeps_the_reference_of_earlier_attacks() -> None:
    found = report(attack=attacks(reference="never knew", reference_kind="before"))
    beside = "ckdiff attack --tier 2 --reference 'never knew' --reference-kind before --output r.h5"
    assert complete_command("ckdiff attack --tier 2", found, "r.h5") == beside
    assert complete_command("ckdiff behave", found, USUAL_REPORT) == "ckdiff behave"
    depth = complete_command("ckdiff depth --questions FILE --reference MODEL", found, USUAL_REPORT)
    assert depth == "ckdiff depth --questions FILE --reference 'never knew'"
    again = complete_command("ckdiff audit BASE NEW --questions FILE", found, "new.h5")
    assert again.endswith(
        " NEW --questions FILE --tier 0,1,2 --reference 'never knew' --reference-kind before --output new.h5"
    )
    # What was typed, or a policy's, says by itself which tiers.
    typed = complete_command("ckdiff audit BASE NEW --questions FILE", found, "new.h5", {"BASE": "b"})
    assert "--tier" not in typed
    # A gate measured nothing: how it was done is what the report says.
    assert "--tier 0,1,2" in complete_command("ckdiff audit BASE NEW", found, "new.h5", {"--policy": "--policy p"})
    usual = replace(attacks(), rows=tuple(row for row in attacks().rows if row.tier < 2))
    assert "--tier" not in complete_command("ckdiff audit BASE NEW", report(attack=usual), "new.h5")


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (f"the reference says 40% of the answers: it knows the topic itself {ANOTHER}", False),
        (f"no attack was tried {COMMAND}", True),
        (BESIDE, True),
        ("what the reference lacks is not clear (--reference MODEL, or more facts)", True),
    ],
)
def test_a_reference_that_cannot_count_is_not_tried_again(said: str, kept: bool) -> None:
    found = report(attack=attacks(reference="knows"))
    found = replace(found, verdict=replace(judge(found), lacking=(said,)))
    typed = {
        "--reference": "--reference knows",
        "--reference-kind": "--reference-kind before",
        "--margins": "--margins m.h5",
    }
    for command in ("ckdiff attack --tier 2", TURNED):
        assert ("--reference knows" in complete_command(command, found, USUAL_REPORT)) is kept
        for option in typed.values():
            assert (option in complete_command(command, found, USUAL_REPORT, typed)) is kept
    depth = complete_command("ckdiff depth --reference MODEL", found, USUAL_REPORT, typed)
    assert depth == f"ckdiff depth --reference {'knows' if kept else 'MODEL'}"
    assert found.verdict is not None
    assert asking_text(found.verdict) == ("" if kept else f"Name another model that never knew it {ANOTHER}.")


@pytest.mark.parametrize("details", [False, True])
def test_a_swapped_pair_is_told_the_right_order(details: bool) -> None:
    sides = Provenance(
        replace(side("base"), location="/my pair/new"), replace(side("unlearned"), location="org/old", revision="ab")
    )
    said = behaved(answered("target", 0.1, 0.0, 0.2), notes=(f"made by npo: {SWAPPED}",))
    found = replace(report(behaviour=said), provenance=sides)
    found = replace(found, verdict=judge(found))
    text = rendered(to_view(found, Selection("verdict", brief=not details, place="r.h5")), 500)
    command = "ckdiff audit org/old@ab '/my pair/new' --questions FILE --output turned.h5"
    told = f", `{command}`" if details else ""
    assert f"to do      The two checkpoints were probably swapped: give them the other way round{told}." in text
    assert ("The two checkpoints were probably swapped: no policy" in text) is not details
    assert (f"$ {command}" in text) is not details


def told_apart(found: AnswerSet) -> AnswerSet:
    """The same, with an answer of its own to each question."""
    rows = enumerate(found.questions)
    said = ((f"yes, {n}", row) for n, row in rows)
    return replace(
        found,
        questions=tuple(
            replace(row, answer_base=text, answer_unlearned=text if row.exact else row.answer_unlearned)
            for text, row in said
        ),
    )


def said_of(kept: int, lost: int, count: int = 10, **sources: str) -> Report:
    """A pair of which so many answers to target questions are kept, and so many to unrelated ones lost."""
    sets = {"target": answered("target", 1.0, 0.9, 1.0, count, kept)}
    sets["unrelated"] = answered("unrelated", 0.1, 0.0, 0.2, count, count - lost)
    files = {"target": "other.jsonl, JSON lines", "unrelated": "my towns.jsonl, JSON lines"} | sources
    found = report(behaviour=behaved(*(told_apart(replace(one, source=files[name])) for name, one in sets.items())))
    return replace(found, verdict=judge(found))


LOST = "The unrelated answers are lost and the asked ones are not: are --questions and --unrelated swapped? "


@pytest.mark.parametrize(
    ("found", "swapped"),
    [
        (said_of(10, 10), True),
        (said_of(9, 5), True),
        (said_of(8, 10), False),  # some of what was asked is lost as well: the model was wrecked
        (said_of(10, 4), False),
        (said_of(0, 0), False),
        (said_of(3, 3, 3), True),
        (said_of(2, 2, 2), False),
        (said_of(10, 10, unrelated="general questions of ckdiff"), False),
        (said_of(10, 10, target="command line"), False),
        (said_of(10, 10, unrelated="towns.json, towns, unrelated questions"), False),
    ],
)
def test_files_of_questions_in_each_others_place_are_told_and_no_others(found: Report, swapped: bool) -> None:
    assert found.verdict is not None
    assert in_short(found, found.verdict).startswith(f"{LOST}No policy") == swapped
    typed = {"--questions": "--questions 'q 1'", "--unrelated": "--unrelated u", "--concept": "--concept x",
             "--window": "--window 1", "--output": "--output r.h5", "--question": ""}  # fmt: skip
    command = "ckdiff audit /models/base /models/unlearned --questions u --unrelated 'q 1' --window 1 --output r.h5"
    assert (next_commands(found, found.verdict, "r.h5", typed)[0] == command) == swapped
    recorded = "ckdiff audit /models/base /models/unlearned --questions 'my towns.jsonl' --unrelated other.jsonl"
    assert (next_commands(found, found.verdict, USUAL_REPORT)[0] == recorded) == swapped
    text = rendered(to_view(found, Selection("verdict", brief=True, place="r.h5")), 500)
    assert (
        "to do      Were --questions and --unrelated swapped? Then give them the other way round." in text
    ) == swapped


TYPED = {
    "BASE": "'my models/base'",
    "UNLEARNED": "unlearned",
    "--questions": "--questions q.csv",
    "--unrelated": "--unrelated u.csv",
    "--chat-template": "--chat-template",
    "--window": "--window 3",
    "--policy": "--policy p.toml",
    "--resume": "--resume",
    "--format": "--format json",
}


def test_a_command_keeps_what_was_typed() -> None:
    pair, asked = report(), "--questions q.csv --unrelated u.csv --chat-template"
    turned = f"ckdiff audit unlearned 'my models/base' {asked} --window 3 --policy p.toml --output turned.h5"
    assert complete_command(TURNED, pair, USUAL_REPORT, TYPED) == turned
    attack = "ckdiff attack --questions FILE --tier 0,1,2"
    assert (
        complete_command(attack, pair, USUAL_REPORT, TYPED)
        == f"ckdiff attack {asked.replace(' --u', ' --tier 0,1,2 --u')}"
    )
    assert (
        complete_command("ckdiff behave --questions FILE", pair, USUAL_REPORT, TYPED)
        == "ckdiff behave --questions q.csv"
    )
    one = {"--question": "--question 'Who?' --question 'When?'"}
    assert complete_command(attack, pair, USUAL_REPORT, one) == f"ckdiff attack {one['--question']} --tier 0,1,2"


@pytest.mark.parametrize(
    ("prompt", "option"),
    [(DEFAULT_TEMPLATE, ""), (CHAT_PROMPT, " --chat-template"), ("Q: {q}\nA:", r" --prompt-template 'Q: {q}\nA:'")],
)
def test_a_command_asks_and_puts_back_as_the_report_records_it(prompt: str, option: str) -> None:
    said = behaved(replace(answered("unrelated", 1.0, 1.0, 1.0), source="u.csv, CSV"), settings={"prompt": prompt})
    found = report(probe=replace(probed({}), settings={"questions_digest": "", "window": "3"}), behaviour=said)
    command = f"--questions FILE --unrelated FILE --window 3{option} --output turned.h5"
    assert complete_command(TURNED, found, USUAL_REPORT).endswith(f"/models/base {command}")


def test_every_option_that_an_attack_shares_with_an_audit_is_kept() -> None:
    audits, attacks = (
        {slot.option.name for slot in slots_of(command) if isinstance(slot.option, Option)}
        for command in (audit, attack)
    )
    assert {*SHARED} == (audits & attacks) - {"--tier", *SAID_ONCE}  # the command names the tiers
    assert audits >= {*SAID_ONCE}


def test_one_number_of_facts_is_wanted_wherever_few_were_asked() -> None:
    wanted = RULES["facts"].threshold
    for name in (None, Path("not-recovered")):
        assert read_policy(name).checks["require.questions"] == wanted
    target, unrelated = answered("target", 0.1, 0.0, 0.6, count=3), answered("unrelated", 1.0, 1.0, 1.0, same=10)
    found = judge_report(report(behaviour=behaved(target, unrelated)), read_policy())
    assert found.verdict is not None
    assert "3 facts were asked about, 7 are wanted" in " ".join(found.verdict.lacking)
    assert asking_text(found.verdict) == "Ask about 7 facts (--questions FILE)."
    assert asking_text(replace(found.verdict, gate=None)) == "Ask about 7 facts (--questions FILE)."
    assert found.verdict.gate is not None
    said = " ".join(one.text for one in found.verdict.gate.checks)
    assert "3 facts are too few to tell, about 7 would settle it" in said
    assert next_commands(found, found.verdict, "r.h5")[0].startswith("ckdiff show")
    enough = judge_report(report(behaviour=behaved(answered("target", 0.1, 0.0, 0.6, count=7))), read_policy())
    assert enough.verdict is not None
    assert "are wanted (" not in " ".join(enough.verdict.lacking)
    assert asking_text(enough.verdict) == "Ask about 5 facts (--unrelated FILE) and 11 facts (--questions FILE)."
    assert next_commands(enough, enough.verdict, "r.h5")[0].startswith("ckdiff attack")


def test_of_one_model_twice_that_is_said_first() -> None:
    verdict = replace(judge(report()), label="identical")
    few = GateCheck("require.questions", "inconclusive", "", 0.0, 7.0)
    gate = Gate(outcome="failed", source="", digest="", policy="", checks=(few,))
    assert advice_text(replace(verdict, gate=gate)).startswith("Both are the same model: check")
    assert advice_text(replace(verdict, gate=gate, label="mixed")).startswith("Ask about 7 facts")
