"""The bill of materials: models and digests, figures with intervals, claims with what speaks for and against them.

`benchmarks/neighbours.py` holds it against the official schema; here every reference leads somewhere, every object has
the fields that the schema has, and every figure is the report's.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ckdiff.report.formats import say
from ckdiff.report.schema.report import Provenance, Report, ShardRecord
from ckdiff.report.words.metrics import metrics_of
from tests.campaigns import campaign, hostile_campaign
from tests.reports import (
    attacks,
    behaviour,
    comparison,
    depth,
    gate,
    hostile_behaviour,
    hostile_probe,
    hostile_report,
    probe,
    report,
    undefined_probe,
    verdict,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ckdiff.report.schema.attack import TierEvidence
    from ckdiff.report.schema.campaign import Campaign
    from ckdiff.report.schema.verdict import Verdict

FULL = report(comparison(), probe(), behaviour(), verdict(gate=gate()), attacks(), depth())
EVIL = replace(hostile_report(), behaviour=hostile_behaviour(), probe=hostile_probe())

FIELDS: dict[str, set[str]] = {
    "": {"$schema", "bomFormat", "specVersion", "serialNumber", "version", "metadata", "components", "definitions"}
    | {"declarations"},
    "metadata": {"tools", "component"},
    "component": {"type", "bom-ref", "name", "version", "purl", "hashes", "components", "properties", "pedigree"}
    | {"modelCard"},
    "modelCard": {"modelParameters", "quantitativeAnalysis", "considerations"},
    "modelParameters": {"modelArchitecture", "datasets"},
    "performanceMetrics": {"type", "value", "slice", "confidenceInterval"},
    "confidenceInterval": {"lowerBound", "upperBound"},
    "considerations": {"technicalLimitations", "performanceTradeoffs"},
    "standards": {"bom-ref", "name", "version", "requirements"},
    "requirements": {"bom-ref", "identifier"},
    "declarations": {"attestations", "claims", "evidence"},
    "attestations": {"summary", "map"},
    "map": {"requirement", "claims", "counterClaims", "conformance"},
    "conformance": {"score", "rationale"},
    "claims": {"bom-ref", "target", "predicate", "reasoning", "evidence", "counterEvidence"},
    "evidence": {"bom-ref", "propertyName", "description", "data"},
}
"""Fields of the schema that are written, by the name under which an object stands."""


def bom(found: Report | Campaign) -> Any:
    return json.loads(str(say(found, "cyclonedx")), parse_constant=pytest.fail)


def objects(tree: Any, name: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(tree, dict):
        yield name, tree
        for key, value in tree.items():
            yield from objects(value, "component" if key in ("components", "ancestors") else key)
    for item in tree if isinstance(tree, list) else ():
        yield from objects(item, name)


ALL: dict[str, Report | Campaign] = {
    "whole": FULL,
    "hostile": EVIL,
    "empty": report(None),
    "undefined": report(None, undefined_probe()),
    "judged": report(None, None, None, verdict(gate=gate(source="\x1b[31m", digest=""))),
    "campaign": campaign(),
    "hostile campaign": hostile_campaign(),
}


@pytest.mark.parametrize("name", ALL)
def test_every_object_has_fields_of_the_schema_and_every_reference_leads_somewhere(name: str) -> None:
    tree = bom(ALL[name])
    assert (tree["bomFormat"], tree["specVersion"], tree["version"]) == ("CycloneDX", "1.6", 1)
    rows = list(objects(tree))
    for kind, row in rows:
        assert row.keys() <= FIELDS.get(kind, row.keys()), kind
    references = [row["bom-ref"] for _, row in rows if "bom-ref" in row]
    assert len(set(references)) == len(references)
    for kind, row in rows:
        used = [row["target"]] if kind == "claims" else [row["requirement"]] if kind == "map" else []
        for key in ("evidence", "counterEvidence") if kind == "claims" else ("claims", "counterClaims"):
            used += row.get(key, []) if kind in ("claims", "map") else []
        assert set(used) <= set(references)
        assert all(isinstance(value, str) for value in row.values()) or kind != "confidenceInterval"
    assert "NaN" not in json.dumps(tree)
    assert "\x1b" not in json.dumps(tree, ensure_ascii=False)


def test_the_model_its_files_and_its_ancestor() -> None:
    model = bom(FULL)["metadata"]["component"]
    (base,) = model["pedigree"]["ancestors"]
    assert (model["type"], base["type"]) == ("machine-learning-model", "machine-learning-model")
    assert "modelCard" not in base
    shards = FULL.provenance.unlearned.shards
    assert [row["name"] for row in model["components"]] == ["a-00001.safetensors", "b-ü.safetensors"]
    assert model["components"][0]["hashes"] == [{"alg": "SHA-256", "content": shards[0].sha256}]
    assert "hashes" not in model["components"][1]  # it was not hashed
    assert "hashes" not in model
    assert {"name": "ckdiff:digest", "value": FULL.provenance.unlearned.digest} in model["properties"]
    assert "purl" not in model


def test_a_model_of_one_file_from_the_hub() -> None:
    side = replace(
        FULL.provenance.base,
        location="org/model",
        revision="0123456789" * 4,
        shards=(ShardRecord("model.safetensors", 9, "ab" * 32),),
    )
    model = bom(replace(FULL, provenance=Provenance(side, side)))["metadata"]["component"]
    assert model["purl"] == "pkg:huggingface/org/model@" + "0123456789" * 4
    assert model["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
    for other in (replace(side, revision="main"), replace(side, location="../x y")):
        assert "purl" not in bom(replace(FULL, provenance=Provenance(side, other)))["metadata"]["component"]


def test_every_figure_has_its_interval() -> None:
    card = bom(FULL)["metadata"]["component"]["modelCard"]
    rows = card["quantitativeAnalysis"]["performanceMetrics"]
    assert len(rows) == len(list(metrics_of(FULL)))
    found = {(row["type"], row.get("slice", "")): row for row in rows}
    assert len(found) == len(rows)
    assert FULL.behaviour is not None
    bleu = FULL.behaviour.answers[0].bleu
    assert found["behaviour.bleu", "target questions"] == {
        "type": "behaviour.bleu",
        "slice": "target questions",
        "value": repr(bleu.value),
        "confidenceInterval": {"lowerBound": repr(bleu.low), "upperBound": repr(bleu.high)},
    }
    assert FULL.probe is not None
    best = FULL.probe.runs[0].krs_kl
    row = found["probe.krs_kl", "restore coeff open, layers 1-3, the best of 6 windows"]
    assert row["value"] == repr(float(best.score[2]))
    assert row["confidenceInterval"]["lowerBound"] == repr(float(best.band_low[2]))  # selected: the band, no interval
    whole = FULL.probe.runs[4].krs_kl
    row = found["probe.krs_kl", "restore ancillary open, layers all"]
    assert row["confidenceInterval"]["upperBound"] == repr(float(whole.high[0]))
    assert "confidenceInterval" not in found["compare.cosine", "value_vectors"]
    assert card["modelParameters"]["datasets"][0]["name"].startswith("questions/")
    assert card["considerations"].keys() == {"technicalLimitations", "performanceTradeoffs"}


def test_figures_of_a_campaign() -> None:
    models = bom(campaign())["components"]
    assert len(models) == len(campaign().pairs)
    bleu = next(one for one in campaign().measures if one.name == "target_bleu")
    for number, model in enumerate(models):
        rows = model.get("modelCard", {}).get("quantitativeAnalysis", {}).get("performanceMetrics", [])
        values = {row["value"] for row in rows if row["type"] == "target_bleu"}
        assert values == {repr(float(one)) for one in bleu.value[number] if one == one}


def claim(found: Report, name: str) -> tuple[list[str], list[str]]:
    """What speaks for a claim, and what against it."""
    declared = bom(found)["declarations"]
    names = {row["bom-ref"]: row["propertyName"] for row in declared["evidence"]}
    (row,) = [one for one in declared["claims"] if one["bom-ref"] == name]
    return [names[one] for one in row.get("evidence", [])], [names[one] for one in row.get("counterEvidence", [])]


def known(knowledge: str) -> Verdict:
    return replace(verdict(gate=gate()), knowledge=knowledge)  # type: ignore[arg-type]


@pytest.mark.parametrize("knowledge", ["still there", "not recovered", "never there", "unknown"])
def test_only_gone_speaks_for_the_claim_that_it_is_gone(knowledge: str) -> None:
    assert claim(report(None, None, None, known("gone")), "claim:gone") == (["ckdiff:knowledge"], [])
    assert claim(report(None, None, None, known(knowledge)), "claim:gone") == ([], ["ckdiff:knowledge"])
    deep = report(None, None, None, known("gone"), None, depth())
    assert claim(deep, "claim:gone") == (["ckdiff:knowledge", "ckdiff:depth"], [])
    assert claim(replace(deep, verdict=known(knowledge)), "claim:gone")[0] == []


def tier(**changes: Any) -> TierEvidence:
    silent = replace(attacks().tiers[0], tier=1, ran="x", returned=0, beyond=-1, able=True, informative=True, p=0.5)
    return replace(silent, **changes)


@pytest.mark.parametrize(
    ("changes", "speaks"),
    [
        ({}, "for"),
        ({"returned": 1}, "against"),
        ({"returned": 1, "beyond": 0}, "for"),  # the reference says it, too
        ({"returned": 2, "beyond": 1}, "against"),
        ({"p": 0.05}, "against"),
        ({"p": 0.051}, "for"),
        ({"p": 0.01, "informative": False}, "for"),
        ({"able": False}, "nothing"),
        ({"able": False, "returned": 1}, "against"),
        ({"ran": "", "returned": 1}, "nothing"),
    ],
)
def test_what_a_tier_of_attacks_says(changes: dict[str, Any], speaks: str) -> None:
    found = report(None, None, None, known("gone"), replace(attacks(), tiers=(tier(**changes),)))
    evidence, counter = claim(found, "claim:gone")
    name = "ckdiff:attack:tier-1"
    assert (name in evidence, name in counter) == (speaks == "for", speaks == "against")
    assert ("attack.returned" in {one.name for one in metrics_of(found)}) == (changes.get("ran") != "")


def test_checks_of_the_policy_are_requirements() -> None:
    tree = bom(FULL)
    (standard,) = tree["definitions"]["standards"]
    checks = gate().checks
    assert [row["identifier"] for row in standard["requirements"]] == [check.name for check in checks]
    assert standard["version"] == f"sha256:{gate().digest}"
    rows = tree["declarations"]["attestations"][0]["map"]
    assert [row["conformance"]["score"] for row in rows] == [float(check.outcome == "passed") for check in checks]
    assert [("claims" in row, "counterClaims" in row) for row in rows] == [
        (check.outcome == "passed", check.outcome != "passed") for check in checks
    ]
    evidence, counter = claim(FULL, "claim:policy")
    assert len(evidence) == sum(check.outcome == "passed" for check in checks)
    assert len(evidence) + len(counter) == len(checks)
    fired = [f"ckdiff:rule:{rule.name}" for rule in verdict().rules if rule.fired]
    assert claim(FULL, "claim:where") == (fired, [])
    bare = bom(report(None, None, None, verdict(gate=None)))
    assert "definitions" not in bare
    assert "attestations" not in bare["declarations"]
    assert "declarations" not in bom(report(comparison()))


def test_gates_of_a_campaign_are_claims_about_their_pair() -> None:
    found, cells = bom(campaign()), [cell for cell in campaign().cells if cell.label]
    claims = found["declarations"]["claims"]
    names = {row["bom-ref"]: row["name"] for row in found["components"]}
    assert [names[one["target"]] for one in claims] == [cell.pair for cell in cells]
    against = {"failed", "inconclusive"}
    assert ["counterEvidence" in one for one in claims] == [cell.gate in against for cell in cells]


def test_the_serial_number_follows_from_the_rest() -> None:
    one, again = bom(FULL), bom(replace(FULL))
    assert one == again
    assert bom(replace(FULL, versions={"ckdiff": "9"}))["serialNumber"] != one["serialNumber"]
    assert FULL.provenance.base.location not in json.dumps(one)
