"""The verdict as JUnit XML, against the rules of the schema that Jenkins and Maven Surefire use.

The schema below was written for this test from what junit-10.xsd of Jenkins' xUnit plugin allows and requires; it is
stricter (`testsuites` and reruns, which ckdiff never writes, are left out, and counts are numbers).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest
from lxml import etree

from ckdiff.cli.app import run
from ckdiff.report.exports.junit import to_junit
from ckdiff.report.exports.suite import failure_junit
from ckdiff.report.hdf5.file import write_report
from ckdiff.report.schema.verdict import LABELS, OUTCOMES
from tests.reports import HOSTILE, comparison, gate, hostile_report, hostile_verdict, verdict
from tests.reports import report as sample

if TYPE_CHECKING:
    from pathlib import Path

    from ckdiff.report.schema.report import Report
    from ckdiff.report.schema.verdict import Verdict

SCHEMA = """
<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">
  <xs:complexType name="told" mixed="true">
    <xs:attribute name="type" type="xs:string"/>
    <xs:attribute name="message" type="xs:string"/>
  </xs:complexType>
  <xs:simpleType name="seconds">
    <xs:restriction base="xs:string"><xs:pattern value="[0-9]{0,3}(\\.[0-9]{0,3})?"/></xs:restriction>
  </xs:simpleType>
  <xs:element name="testsuite">
    <xs:complexType>
      <xs:sequence>
        <xs:element name="properties" minOccurs="0">
          <xs:complexType>
            <xs:sequence>
              <xs:element name="property" minOccurs="0" maxOccurs="unbounded">
                <xs:complexType>
                  <xs:attribute name="name" type="xs:string" use="required"/>
                  <xs:attribute name="value" type="xs:string" use="required"/>
                </xs:complexType>
              </xs:element>
            </xs:sequence>
          </xs:complexType>
        </xs:element>
        <xs:element name="testcase" minOccurs="1" maxOccurs="unbounded">
          <xs:complexType>
            <xs:choice minOccurs="0">
              <xs:element name="skipped" type="told"/>
              <xs:element name="error" type="told"/>
              <xs:element name="failure" type="told"/>
              <xs:element name="system-out" type="xs:string"/>
            </xs:choice>
            <xs:attribute name="name" type="xs:string" use="required"/>
            <xs:attribute name="classname" type="xs:string" use="required"/>
            <xs:attribute name="time" type="seconds"/>
          </xs:complexType>
        </xs:element>
      </xs:sequence>
      <xs:attribute name="name" type="xs:string" use="required"/>
      <xs:attribute name="tests" type="xs:nonNegativeInteger" use="required"/>
      <xs:attribute name="failures" type="xs:nonNegativeInteger" use="required"/>
      <xs:attribute name="errors" type="xs:nonNegativeInteger" use="required"/>
      <xs:attribute name="skipped" type="xs:nonNegativeInteger"/>
      <xs:attribute name="time" type="seconds"/>
    </xs:complexType>
    <xs:unique name="cases">
      <xs:selector xpath="testcase"/>
      <xs:field xpath="@classname"/>
      <xs:field xpath="@name"/>
    </xs:unique>
  </xs:element>
</xs:schema>
"""


def suite_of(found: Verdict | None, **changes: Any) -> Any:
    """The suite of a verdict, valid."""
    text = to_junit(replace(sample(comparison(), verdict=found), **changes))
    tree = etree.fromstring(text.encode())
    etree.XMLSchema(etree.fromstring(SCHEMA)).assertValid(tree)
    return tree


def cases(suite: Any, kind: str) -> dict[str, Any]:
    return {case.get("name"): case for case in suite.findall("testcase") if case.get("classname") == kind}


def test_the_schema_refuses_what_is_wrong() -> None:
    schema = etree.XMLSchema(etree.fromstring(SCHEMA))
    good = to_junit(sample(None, verdict=verdict(gate=gate())))
    for old, new in (
        ("<testcase", "<test"),
        (' tests="', ' test="'),
        ("classname=", "class="),
        ('errors="', 'errors="x'),
    ):
        broken = (
            good.replace(old, new).replace("</testcase", "</test") if old == "<testcase" else good.replace(old, new)
        )
        assert not schema.validate(etree.fromstring(broken.encode())), old


@pytest.mark.parametrize("label", LABELS)
def test_every_label_is_valid(label: Any) -> None:
    found = verdict(label, gate=gate())
    suite = suite_of(found)
    said, checks = cases(suite, "ckdiff.verdict"), cases(suite, "ckdiff.gate")
    assert list(said) == ["label", "knowledge"]
    assert len(checks) == len(gate().checks)
    assert said["label"].findtext("system-out").startswith(f"{label}: ")
    assert said["knowledge"].findtext("system-out") == f"{found.knowledge}: {found.knowledge_reason}"


def test_rules_are_properties_and_no_tests() -> None:
    found = verdict(gate=gate())
    rows = [(row.get("name"), row.get("value")) for row in suite_of(found).iter("property")]
    said = [(name, value) for name, value in rows if name.startswith("rule.")]
    assert {rule.fired for rule in found.rules} == {True, False}
    for rule, (name, value) in zip(found.rules, said, strict=True):
        assert name == f"rule.{rule.name}"
        assert value.startswith(f"{'holds' if rule.fired else 'does not hold'}: {rule.text}")


def test_each_case_ends_as_its_check() -> None:
    checks = cases(suite_of(verdict(gate=gate())), "ckdiff.gate")
    ends = {"passed": "system-out", "failed": "failure", "inconclusive": "error"}
    assert {check.outcome for check in gate().checks} == set(OUTCOMES)
    for check, case in zip(gate().checks, checks.values(), strict=True):
        assert case[0].tag == ends[check.outcome]
        assert check.text in (case[0].get("message") or "") + (case[0].text or "")


def test_counts_are_those_of_the_cases() -> None:
    suite = suite_of(verdict(gate=gate()))
    for attribute, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(suite.get(attribute)) == len(suite.findall(f"testcase/{kind}"))
    assert int(suite.get("tests")) == len(suite.findall("testcase"))
    assert int(suite.get("failures")) == sum(check.outcome == "failed" for check in gate().checks)


def test_properties_say_what_was_judged_by_what() -> None:
    found = {row.get("name"): row.get("value") for row in suite_of(verdict(gate=gate())).iter("property")}
    assert found["base.digest"] == "cd" * 32
    assert found["unlearned.location"] == "/models/unlearned"
    assert found["verdict.label"] == verdict().label
    assert found["verdict.knowledge"] == verdict().knowledge
    assert found["policy.digest"] == gate().digest
    assert found["gate.outcome"] == gate().outcome
    assert found["version.ckdiff"] == "0.1"


def test_a_note_about_the_policy_is_seen_and_no_failure() -> None:
    suite = suite_of(verdict(gate=gate(notes=("passes anything",))))
    case = cases(suite, "ckdiff.gate")["note"]
    assert (case[0].tag, case[0].get("message")) == ("skipped", "passes anything")
    assert "passes anything" in [row.get("value") for row in suite.iter("property") if row.get("name") == "policy.note"]


def test_checks_of_one_name_are_told_apart() -> None:
    suite = suite_of(verdict(gate=gate(checks=(gate().checks[0],) * 2)))
    check = gate().checks[0].name
    assert list(cases(suite, "ckdiff.gate")) == [check, f"{check} 2"]


@pytest.mark.parametrize("found", [None, verdict()])
def test_without_a_verdict_or_a_policy_nothing_is_green(found: Verdict | None) -> None:
    suite = suite_of(found)
    assert suite.get("errors") == "1"
    assert cases(suite, "ckdiff.verdict")["label"][0].tag == "error"


def test_hostile_texts_are_escaped() -> None:
    hostile = hostile_report()
    for text in (to_junit(replace(hostile, verdict=hostile_verdict())), to_junit(hostile)):
        tree = ElementTree.fromstring(text)
        etree.XMLSchema(etree.fromstring(SCHEMA)).assertValid(etree.fromstring(text.encode()))
        assert all(char.isprintable() or char == "\n" for char in text)
        assert "<b>" not in text
        names = [case.get("name") for case in tree.findall("testcase")]
        assert len(set(names)) >= min(len(names), len(HOSTILE))
    said = "".join(ElementTree.fromstring(to_junit(replace(hostile, verdict=hostile_verdict()))).itertext())
    assert "=1+1|<b>&`*_" in said
    assert "\\x1b[31mevil" in said


def test_the_same_report_gives_the_same_text() -> None:
    found = sample(comparison(), verdict=verdict(gate=gate()))
    assert to_junit(found) == to_junit(found)
    assert to_junit(found).endswith("</testsuite>\n")


def test_show_prints_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    found: Report = sample(comparison(), verdict=verdict(gate=gate()))
    write_report(found, tmp_path / "report.h5")
    assert run(["show", str(tmp_path / "report.h5"), "--format", "junit"]) == 0
    assert capfd.readouterr().out == to_junit(found)


def test_a_command_without_a_result_is_an_error_and_keeps_to_the_schema() -> None:
    for text in ("a: does not exist", *HOSTILE):
        said = failure_junit("audit", text, "unusable")
        etree.XMLSchema(etree.fromstring(SCHEMA)).assertValid(etree.fromstring(said.encode()))
        assert all(char.isprintable() or char == "\n" for char in said)
        assert ElementTree.fromstring(said.encode()).get("errors") == "1"
