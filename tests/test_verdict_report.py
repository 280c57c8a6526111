"""A verdict in the report: stored and read back exactly, shown by every presenter, and nobody's text is trusted."""

from __future__ import annotations

import csv
import dataclasses
import io
import itertools
import json
import math
import re
from typing import TYPE_CHECKING

import h5py
import pytest
import xarray
from markdown_it import MarkdownIt
from rich.console import Console

from ckdiff.audit import judge as judging
from ckdiff.audit.gate.policy import read_policy
from ckdiff.cli.app import run as command
from ckdiff.errors import ReportError
from ckdiff.options import USUAL_REPORT
from ckdiff.report.exports.json import to_json
from ckdiff.report.formats import say
from ckdiff.report.hdf5 import file as hdf5
from ckdiff.report.hdf5 import report as tree
from ckdiff.report.hdf5.file import read_report, write_report
from ckdiff.report.markdown.document import to_markdown
from ckdiff.report.rows.csv import to_csv
from ckdiff.report.schema.verdict import LABELS, OUTCOMES, GateCheck, RuleResult
from ckdiff.report.terminal.view import to_view
from ckdiff.report.words.headlines import HEADLINES, TO_DO, UNFIT
from ckdiff.report.words.numbers import UNDEFINED
from ckdiff.report.words.sections import Selection
from ckdiff.report.words.verdict import (
    OUTCOME_WORDS,
    STATUSES,
    action_text,
    exit_status,
    exit_text,
    gate_line,
    rule_line,
    rules_that_do_not,
    rules_that_hold,
    share_cells,
    verdict_facts,
)
from ckdiff.untrusted import printable
from tests.reports import (
    POLICY,
    behaviour,
    comparison,
    explanation,
    gate,
    hostile_verdict,
    old_report,
    probe,
    report,
    same,
    verdict,
)

if TYPE_CHECKING:
    from pathlib import Path

    from markdown_it.token import Token

    from ckdiff.report.schema.report import Report
    from ckdiff.report.schema.verdict import Label, Outcome, Verdict

EMPTY = verdict("inconclusive", reason="", rules=(), explanations=(), side_effects=(), unmeasured=(), lacking=())
VERDICTS: dict[str, Verdict] = {
    **{label: verdict(label) for label in LABELS},
    "gated": verdict(gate=gate()),
    "nothing asked": verdict(gate=gate(policy="", digest="", source="", outcome="inconclusive", checks=())),
    "empty": EMPTY,
    "odd figures": verdict(score=-0.0, detectable=math.nan, explained_high=math.inf, layers=(0, 47)),
}
GROUPS = (
    "summary",
    "layers",
    "rules",
    "explanations",
    "side_effects",
    "unmeasured",
    "lacking",
    "policy",
    "checks",
    "policy_notes",
)


def judged(found: Verdict | None, **changes: object) -> Report:
    """A report about a small pair with a verdict."""
    return dataclasses.replace(report(comparison(), probe(), behaviour(), found), **changes)  # type: ignore[arg-type]


def written(found: Report, path: Path) -> Path:
    write_report(found, path)
    return path


# --------------------------------------------------------------------------------------------------------- storage


@pytest.mark.parametrize("name", VERDICTS)
def test_round_trip(name: str, tmp_path: Path) -> None:
    before = judged(VERDICTS[name])
    assert same(read_report(written(before, tmp_path / "r.h5")), before)


def test_a_verdict_alone_and_a_report_without_one(tmp_path: Path) -> None:
    alone = report(None, verdict=verdict(gate=gate()))
    assert same(read_report(written(alone, tmp_path / "r.h5")), alone)
    assert read_report(written(judged(None), tmp_path / "r.h5")).verdict is None


def test_same_verdict_same_bytes(tmp_path: Path) -> None:
    first, second = (written(judged(verdict(gate=gate())), tmp_path / name).read_bytes() for name in ("a.h5", "b.h5"))
    assert first == second


@pytest.mark.parametrize(
    ("name", "engine"),
    [("gated", "h5netcdf"), ("gated", "netcdf4"), ("empty", "h5netcdf"), ("nothing asked", "h5netcdf")],
)
def test_every_group_opens_in_xarray(name: str, engine: str, tmp_path: Path) -> None:
    path, alone = written(judged(VERDICTS[name]), tmp_path / "r.h5"), name != "gated"
    with h5py.File(path) as file:
        groups = [group for group in GROUPS if group in file["verdict"]]
        assert set(file["verdict"]) == set(groups)
    assert ("checks" in groups) == (VERDICTS[name].gate is not None)
    with xarray.open_datatree(path, group="verdict" if alone else None, engine=engine) as tree:
        found = tree if alone else tree.children["verdict"]
        assert found.attrs["label"] == VERDICTS[name].label
        assert found.children["rules"].sizes == {"rule": len(VERDICTS[name].rules)}
        for group in groups:
            data = found.children[group].to_dataset(inherit=False).load()
            assert list(data.variables)
            assert all(dimension in data.coords for dimension in data.dims), group


def test_file_follows_the_layout(tmp_path: Path) -> None:
    with h5py.File(written(judged(verdict(gate=gate())), tmp_path / "r.h5")) as file:
        attributes = file["verdict"].attrs
        assert attributes["label"] == b"suppressed"
        assert attributes["policy_digest"].decode() == gate().digest
        assert attributes["gate"] == b"failed"
        evidence = json.loads(attributes["evidence"])
        assert evidence["layers"] == [21, 22, 23]
        assert evidence["rules"] == ["restores"]
        assert evidence["explained_low"] == 0.84
        assert file["verdict/policy/text"][0].decode() == POLICY


@pytest.mark.parametrize("text", ["# " + "x" * 200_000, "# line\n" * 30_000, "# é\r\n\n" * 30_000 + "  "])
@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
def test_a_long_policy_is_kept_to_the_letter(text: str, engine: str, tmp_path: Path) -> None:
    path = written(judged(verdict(gate=gate(policy=text))), tmp_path / "r.h5")
    found = read_report(path).verdict
    assert found is not None
    assert found.gate is not None
    assert found.gate.policy == text
    with xarray.open_dataset(path, group="verdict/policy", engine=engine) as data:
        stored = data.text.values[0]
        assert (stored if isinstance(stored, str) else stored.decode()) == text


def test_what_no_attribute_can_hold_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ReportError, match=r"^reason has 70000 bytes and a report holds 64000; shorten it$"):
        write_report(judged(verdict(reason="é" * 35_000)), tmp_path / "r.h5")
    assert list(tmp_path.iterdir()) == []
    long = judged(verdict(reason="é" * 32_000))
    assert same(read_report(written(long, tmp_path / "r.h5")), long)


def test_hostile_texts_round_trip_but_for_what_utf8_cannot_hold(tmp_path: Path) -> None:
    before = hostile_verdict()
    after = read_report(written(judged(before), tmp_path / "r.h5")).verdict
    assert after is not None
    assert after.rules[:-1] == before.rules[:-1]
    assert after.explanations[:-1] == before.explanations[:-1]
    assert after.side_effects[-1] == "\\x00\\ud800"
    assert after.gate is not None
    assert before.gate is not None
    assert after.gate.checks[:-1] == before.gate.checks[:-1]


@pytest.mark.parametrize(
    ("attribute", "value", "words"),
    [
        ("label", "erased", "not in tuple"),
        ("gate", "waved through", "not in tuple"),
        ("evidence", '{"layers": [3], "rules": ["restores"]}', "evidence and its tables differ in layers"),
        ("evidence", '{"rules": []}', "evidence and its tables differ in rules"),
        ("evidence", "{", "delimiter|property name"),
    ],
)
def test_a_verdict_that_contradicts_itself_is_refused(attribute: str, value: str, words: str, tmp_path: Path) -> None:
    """Also under a seal that is right: what the attributes say is what the tables say."""
    root = tree.to_tree(judged(verdict(gate=gate())))
    root.groups["verdict"].attributes[attribute] = value
    (tmp_path / "r.h5").write_bytes(hdf5.seal_image(hdf5._image(root)))
    with pytest.raises(ReportError, match=words) as raised:
        read_report(tmp_path / "r.h5")
    assert "damaged" in str(raised.value)


def test_what_a_later_version_adds_to_the_evidence_is_left_alone(tmp_path: Path) -> None:
    before = judged(verdict())
    root = tree.to_tree(before)
    evidence = json.loads(str(root.groups["verdict"].attributes["evidence"]))
    root.groups["verdict"].attributes["evidence"] = json.dumps({**evidence, "more": 1})
    (tmp_path / "r.h5").write_bytes(hdf5.seal_image(hdf5._image(root)))
    assert same(read_report(tmp_path / "r.h5"), before)


def test_json_is_the_same_tree() -> None:
    found = json.loads(to_json(judged(verdict(gate=gate()))))["verdict"]
    assert set(found) == {field.name for field in dataclasses.fields(verdict())}
    assert found["rules"][2] == {
        "name": "controls",
        "fired": False,
        "text": "all 4 controls passed",
        "value": None,
        "threshold": None,
        "sense": "shown",
    }
    assert found["gate"]["policy"] == POLICY
    assert [check["outcome"] for check in found["gate"]["checks"]] == ["passed", "failed", "inconclusive"]
    assert json.loads(to_json(judged(None)))["verdict"] is None
    assert json.loads(to_json(judged(verdict())))["verdict"]["gate"] is None


# ------------------------------------------------------------------------------------------------------------ words


def test_every_label_and_outcome_has_words() -> None:
    assert set(HEADLINES) == set(LABELS)
    assert set(OUTCOME_WORDS) == set(OUTCOMES) == set(STATUSES)
    assert len({words.title for words in HEADLINES.values()}) == len(LABELS)
    for words in HEADLINES.values():
        assert not words.title.endswith(".")
        assert words.meaning.endswith(".")
        assert words.action.endswith(".")


@pytest.mark.parametrize("label", [label for label in LABELS if label not in ("values edited", "not localised")])
def test_no_label_that_leaves_the_knowledge_there_reads_as_a_pass(label: Label) -> None:
    """What a person does who reads nothing but the advice."""
    assert any(words in HEADLINES[label].action for words in ("Do not", "check that the right two"))


@pytest.mark.parametrize(("outcome", "status"), [("passed", 0), ("failed", 1), ("inconclusive", 3)])
def test_exit_status_is_that_of_the_gate(outcome: Outcome, status: int) -> None:
    found = verdict(gate=gate(outcome=outcome))
    assert exit_status(found) == status
    assert exit_text(found) == f"exit status {status}: gate {OUTCOME_WORDS[outcome].lower()}"


def test_without_a_gate_nothing_has_passed() -> None:
    assert exit_status(None) == exit_status(verdict()) == 3
    assert exit_text(None) == "exit status 3: no verdict was given"
    assert "no policy was given" in exit_text(verdict())


@pytest.mark.parametrize(
    ("outcomes", "words"),
    [
        ((), "the policy checks nothing"),
        (("passed",), "the check passed"),
        (("passed", "passed"), "all 2 checks passed"),
        (("failed", "inconclusive", "inconclusive"), "1 of 3 checks failed, 2 lack evidence"),
        (("inconclusive", "passed"), "1 lacks evidence"),
    ],
)
def test_a_gate_in_one_line(outcomes: tuple[Outcome, ...], words: str) -> None:
    checks = tuple(GateCheck("fail.labels", outcome, "", 1.0, 1.0) for outcome in outcomes)
    assert gate_line(gate(checks=checks)) == f"GATE FAILED: {words}"


def test_rules_and_shares_in_words() -> None:
    rules = verdict().rules
    assert [rule_line(rule) for rule in rules] == [
        "identical: 3 tensors differ (found 3, needs at most 0)",
        "restores: coefficients of layers 21-23 bring back 0.84 or more (found 0.84, needs at least 0.8)",
        "controls: all 4 controls passed",
    ]
    assert [rule.name for rule in rules_that_hold(verdict())] == ["restores"]
    assert [rule.name for rule in rules_that_do_not(verdict())] == ["identical", "controls"]
    rows = [share_cells(row) for row in verdict().explanations]
    assert rows[0] == ("coeff*", "restore", "21-23", "0.90 [0.84, 0.94]", "0.80 [0.70, 0.90]")
    assert rows[2] == ("values", "restore", "all", UNDEFINED, UNDEFINED)
    assert share_cells(explanation("keys", first=7, last=7))[2] == "7"
    assert share_cells(explanation("ancillary"))[2] == "all"


# --------------------------------------------------------------------------------------------------------- terminal


def rendered(found: Report, width: int = 80, color: bool = False, place: str = USUAL_REPORT) -> str:
    output = io.StringIO()
    console = Console(file=output, width=width, force_terminal=color, color_system="truecolor" if color else None)
    console.print(to_view(found, Selection("verdict", place=place)))
    return output.getvalue()


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("width", [80, 120])
def test_a_terminal_shows_verdict_and_why_first_then_the_gate_then_the_evidence(label: Label, width: int) -> None:
    found = verdict(label, gate=gate())
    lines = rendered(judged(found), width).splitlines()
    assert lines[0].rstrip() == f"{label.upper()}: {HEADLINES[label].title}"
    assert lines[1].rstrip() == "GATE FAILED: 1 of 3 checks failed, 1 lacks evidence"
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    assert "…" not in text
    order = ["why ", found.reason, "to do", action_text(found).strip(), "Gate: policy audit.toml", "FAILED fail.labels"]
    order += [
        "Rules that",
        "What brings the answers back",
        "Side effects",
        "Not measured",
        "/models/base",
        "exit status 1",
    ]
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    assert all(part in text for part in (*found.side_effects, *found.unmeasured, "NOT ENOUGH fail.unrelated_bleu_loss"))


def test_without_colour_nothing_is_lost() -> None:
    plain, coloured = (rendered(judged(verdict(gate=gate())), color=color) for color in (False, True))
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == plain


def test_a_terminal_without_a_verdict_or_with_an_empty_one() -> None:
    assert rendered(judged(None)).startswith("NOTHING WAS JUDGED\n")
    text = rendered(judged(EMPTY))
    assert "no reason was given" in text
    assert not any(words in text for words in ("Rules that", "Side effects", "Not measured", "Gate"))
    assert "the policy checks nothing" in rendered(judged(VERDICTS["nothing asked"]))
    assert rendered(judged(verdict(), complete=False)).startswith("INCOMPLETE")


def test_nothing_in_a_verdict_commands_a_terminal() -> None:
    text = rendered(judged(hostile_verdict()), width=200)
    assert all(char.isprintable() or char == "\n" for char in text)
    for words in (r"\x1b[31mevil\x1b[0m", r"two\nlines\r\ttabs", "[bold]markup[/bold]", r"\u202egnp.exe"):
        assert text.count(words) >= 5


def test_show_puts_the_verdict_first_and_takes_it_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(judged(verdict(gate=gate())), tmp_path / "r.h5")
    assert command(["show", str(path)]) == 0
    whole = capsys.readouterr().out
    assert whole.startswith("SUPPRESSED: ")
    assert whole.index("exit status 1") < whole.index("Coverage") < whole.index("Best windows")
    assert command(["show", str(path), "--section", "verdict"]) == 0
    alone = capsys.readouterr().out
    assert whole.startswith(alone)
    assert "Coverage" not in alone
    assert command(["show", str(path), "--section", "verdict", "--format", "csv"]) == 0
    assert capsys.readouterr().out == to_csv(judged(verdict(gate=gate())), Selection("verdict"))
    bare = written(judged(None), tmp_path / "bare.h5")
    assert command(["show", str(bare), "--section", "verdict"]) == 2
    assert capsys.readouterr().err == f"ckdiff: {bare}: holds no verdict; `ckdiff audit` puts one in\n"


# -------------------------------------------------------------------------------------------------- Markdown and CSV


def parsed(markdown: str) -> list[Token]:
    """What a Markdown reader makes of it, all the way down; as on sites that turn bare addresses into links."""
    reader = MarkdownIt("commonmark").enable("table")
    return [token for block in reader.parse(markdown) for token in (block, *(block.children or ()))]


def rows_of(tokens: list[Token]) -> list[list[str]]:
    """The rows of all tables, as the texts of their cells."""
    rows: list[list[str]] = []
    for before, token in itertools.pairwise(tokens):
        if token.type == "tr_open":
            rows.append([])
        if before.type in ("td_open", "th_open"):
            rows[-1].append("".join(child.content for child in token.children or ()))
    return rows


def test_markdown_puts_the_verdict_first() -> None:
    text = to_markdown(judged(verdict(gate=gate())))
    assert text.startswith(
        "## Verdict: suppressed\n\n**SUPPRESSED: The base's inner states bring the answers back, no weight undone**  \n"
    )
    assert "\nunlearned (sha256 cdcdcdcdcdcd…) against base (sha256 cdcdcdcdcdcd…)\n\n" in text
    order = [
        "GATE FAILED",
        " against base",
        "**why:**",
        "### Gate",
        "### Rules that hold",
        "### What brings",
        "### Side effects",
    ]
    order += ["### Not measured", "### What this is about", "exit status 1", "## ckdiff compare", "## ckdiff probe"]
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    rows = rows_of(parsed(text))
    assert ["fail.labels", "FAILED", "the label is suppressed, which the policy refuses", UNDEFINED, UNDEFINED] in rows
    assert ["policy", "audit.toml", f"sha256 {gate().digest}"] in rows
    assert ["base", "/models/base", f"sha256 {'cd' * 32}"] in rows


def test_markdown_without_a_verdict_is_as_it_was() -> None:
    text = to_markdown(judged(None))
    assert text.startswith("## ckdiff compare\n\nbase: /models/base")
    assert "erdict" not in text
    alone = to_markdown(report(None, verdict=verdict()))
    assert "NOTHING WAS COMPARED" not in alone
    assert "lacking" in to_markdown(report(None, verdict=EMPTY))


SMUGGLED = (
    "a | b | c",
    "\\| a \\\\| b",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1)) ![x](http://evil.example/x.png)",
    "see http://evil.example and https://evil.example/?a=b_c or www.evil.example",
    "me@evil.example @maintainer #123 org/repo#4",
    "line\n\n# heading\n| x |\n\n```\ncode",
    "&lt;b&gt; &#60;b&#62; <!-- gone -->",
    "~~no~~ **bold** $x$ `tick` <https://evil.example>",
    "| :-- |",
)


def test_nothing_in_a_verdict_breaks_a_table_or_becomes_markup_or_a_link() -> None:
    plain, evil = (
        dataclasses.replace(
            hostile_verdict(),
            reason=words[0],
            component=words[1],
            rules=tuple(RuleResult(text, True, text, 1.0, 2.0, "at_least") for text in words),
            explanations=tuple(explanation(text, text) for text in words),
            side_effects=words,
            unmeasured=words,
            gate=gate(source=words[2], checks=tuple(GateCheck(text, "failed", text, 1.0, 2.0) for text in words)),
        )
        for words in (tuple(f"plain {n}" for n in range(len(SMUGGLED))), SMUGGLED)
    )
    expected, found = (parsed(to_markdown(report(None, verdict=one))) for one in (plain, evil))
    kinds = {"link_open", "image", "html_block", "html_inline", "code_inline", "fence", "em_open", "s_open"}
    assert not kinds & {token.type for token in found}
    assert [token.type for token in found if token.level == 0] == [token.type for token in expected if token.level == 0]
    rows = rows_of(found)
    assert [len(row) for row in rows] == [len(row) for row in rows_of(expected)]
    visible = [cell.replace("\u200b", "") for row in rows for cell in row]
    assert all(visible.count(printable(text)) >= 4 for text in SMUGGLED)


def test_no_site_finds_an_address_a_mention_or_an_issue_number_in_what_is_shown() -> None:
    """Some look for them in the finished page, where an escape is no longer to be seen."""
    markdown = to_markdown(report(None, verdict=verdict(side_effects=SMUGGLED)))
    shown = "".join(token.content for token in parsed(markdown) if token.type == "text")
    assert "evil.example" in shown
    for pattern in (r"https?://", r"www\.", r"@\w", r"#\d"):
        assert not re.search(pattern, shown), pattern


def test_csv_has_a_row_a_rule_and_a_row_a_check() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(judged(verdict(gate=gate())), Selection("verdict")))))
    assert [(row["kind"], row["name"], row["outcome"]) for row in rows] == [
        ("statement", "label", "suppressed"),
        ("statement", "knowledge", "unknown"),
        ("lacking", "knowledge", ""),
        ("rule", "identical", "not fired"),
        ("rule", "restores", "fired"),
        ("rule", "controls", "not fired"),
        ("check", "require.questions", "passed"),
        ("check", "fail.labels", "failed"),
        ("check", "fail.unrelated_bleu_loss", "inconclusive"),
    ]
    assert (rows[4]["value"], rows[4]["sense"], rows[4]["threshold"]) == ("0.84", "at_least", "0.8")
    assert (rows[7]["value"], rows[7]["threshold"]) == ("", "")
    assert len(to_csv(judged(None), Selection("verdict")).splitlines()) == 1
    assert len(to_csv(judged(verdict()), Selection("verdict")).splitlines()) == 7
    alone = report(None, verdict=verdict())
    assert to_csv(alone) == to_csv(alone, Selection("verdict"))
    hostile = to_csv(judged(hostile_verdict()), Selection("verdict"))
    assert all(char.isprintable() or char == "\n" for char in hostile)
    assert ",'=1+1|<b>&`*_," in hostile


# ------------------------------------------------------------------------------------------------------ old reports


def test_an_old_report_opens_and_is_shown_in_every_format(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = old_report(tmp_path)
    found = read_report(path)
    assert (found.schema_version, found.verdict) == (1, None)
    assert found.provenance.base.location == "/models/base"
    for output_format, words in (
        ("table", "Best windows"),
        ("json", '"verdict": null'),
        ("csv", "model.layers.0."),
        ("md", "## ckdiff behave"),
    ):
        assert command(["show", str(path), "--format", output_format]) == 0
        assert words in capsys.readouterr().out


def test_an_old_report_is_judged_and_keeps_its_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    found = read_report(old_report(tmp_path))
    with_gate = judging.judge_report(found, read_policy(None))
    assert with_gate.verdict is not None
    assert with_gate.verdict.gate is not None
    assert with_gate.verdict.gate.outcome != "passed"
    assert with_gate.verdict.label in LABELS
    assert same(read_report(written(with_gate, tmp_path / "new.h5")), with_gate)
    assert same(dataclasses.replace(with_gate, verdict=None), found)
    place = str(tmp_path / "report-schema1.h5")
    status = command(["gate", place, "--details"])
    assert status == exit_status(with_gate.verdict)
    assert capsys.readouterr().out == rendered(with_gate, width=120, place=place)


@pytest.mark.parametrize("format_name", ["table", "md", "csv", "junit"])
def test_every_format_says_what_is_to_be_known_of_the_policy_and_of_the_knowledge(format_name: str) -> None:
    found = judged(verdict(gate=gate(notes=("this policy passes all",)), knowledge="not recovered"))
    text = rendered(found) if format_name == "table" else str(say(found, format_name, Selection("verdict")))
    assert "this policy passes all" in text
    assert "not recovered" in text
    assert ("No attack got what was to be unlearned out of the model: " in text) == (format_name == "md")


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_what_to_do_follows_the_outcome(outcome: Outcome) -> None:
    facts = dict(verdict_facts(verdict(gate=gate(outcome=outcome))))
    action = HEADLINES["suppressed"].action
    # Whether to release is said once: by the gate where it did not pass.
    rest = action if outcome == "passed" else "W" + action.removeprefix(f"{UNFIT}: w")
    assert facts["to do"] == TO_DO[outcome] + rest
    assert dict(verdict_facts(verdict()))["to do"] == HEADLINES["suppressed"].action
