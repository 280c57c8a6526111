"""The models of a report as components: files and digests, ancestry, and the model card with its figures."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

from ckdiff.report.words.asked import question_sets
from ckdiff.report.words.metrics import campaign_metrics, metrics_of
from ckdiff.report.words.names import is_hub_id, pair_names
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ckdiff.report.schema.campaign import Campaign, PairRecord
    from ckdiff.report.schema.report import CheckpointRecord, Report
    from ckdiff.report.words.metrics import Metric

MODEL = "machine-learning-model"

UNLEARNED, BASE = "model:unlearned", "model:base"
"""References to the two models of a pair."""

SHA256 = re.compile(r"[0-9a-f]{64}")


def model_of(report: Report) -> dict[str, Any]:
    """The unlearned model, with the base that it comes from."""
    base, unlearned = pair_names(report.provenance)
    ancestor = _checkpoint(report.provenance.base, BASE, base)
    found = _checkpoint(report.provenance.unlearned, UNLEARNED, unlearned)
    return {**found, "pedigree": {"ancestors": [ancestor]}, "modelCard": _card(report)}


def _checkpoint(record: CheckpointRecord, reference: str, name: str) -> dict[str, Any]:
    files = [
        {"type": "file", "bom-ref": f"{reference}/file/{number}", "name": printable(shard.name)}
        | _hashes(shard.sha256)
        | _properties({"ckdiff:bytes": str(shard.bytes)})
        for number, shard in enumerate(record.shards)
    ]
    found: dict[str, Any] = {"type": MODEL, "bom-ref": reference, "name": name}
    if record.revision is not None:
        found["version"] = printable(record.revision)[:1024]
        if is_hub_id(record):
            found["purl"] = f"pkg:huggingface/{record.location}@{record.revision}"
    # Of one file its own digest is the model's; of several none is.
    found |= _hashes(record.shards[0].sha256 if len(record.shards) == 1 else None)
    found |= {"components": files} if files else {}
    return found | _properties({"ckdiff:digest": record.digest or ""})


def _hashes(sha256: str | None) -> dict[str, Any]:
    if sha256 is None or not SHA256.fullmatch(sha256):
        return {}
    return {"hashes": [{"alg": "SHA-256", "content": sha256}]}


def _properties(values: dict[str, str]) -> dict[str, Any]:
    rows = [{"name": name, "value": printable(value)} for name, value in values.items() if value]
    return {"properties": rows} if rows else {}


# ------------------------------------------------------------------------------------------------------ the model card


def _card(report: Report) -> dict[str, Any]:
    sections = (report.compare, report.probe, report.behaviour, report.attack, report.depth, report.discovery)
    kind = next((one.model_type for one in sections if one is not None), "")
    parameters: dict[str, Any] = {"modelArchitecture": printable(kind)} if kind else {}
    if sets := [_data(*row) for row in question_sets(report)]:
        parameters["datasets"] = sets
    card: dict[str, Any] = {"modelParameters": parameters} if parameters else {}
    card |= _analysis(metrics_of(report))
    considerations = _considerations(report)
    return card | ({"considerations": considerations} if considerations else {})


def _data(name: str, digest: str, source: str) -> dict[str, Any]:
    """A set of questions that the figures were measured with."""
    contents = _properties({"ckdiff:sha256": digest, "ckdiff:source": source})
    return {"type": "dataset", "name": printable(f"questions/{name}")} | ({"contents": contents} if contents else {})


def _analysis(metrics: Iterable[Metric]) -> dict[str, Any]:
    rows = [_metric(one) for one in metrics]
    return {"quantitativeAnalysis": {"performanceMetrics": rows}} if rows else {}


def _metric(one: Metric) -> dict[str, Any]:
    row: dict[str, Any] = {"type": one.name, "value": repr(one.value)} | ({"slice": one.about} if one.about else {})
    if math.isfinite(one.low) and math.isfinite(one.high):
        row["confidenceInterval"] = {"lowerBound": repr(one.low), "upperBound": repr(one.high)}
    return row


def _considerations(report: Report) -> dict[str, list[str]]:
    """What was not measured or cannot be said, and what else changed."""
    if report.verdict is None:
        return {}
    limits = [printable(text) for text in (*report.verdict.unmeasured, *report.verdict.lacking)]
    changed = [printable(text) for text in report.verdict.side_effects]
    found = {"technicalLimitations": limits, "performanceTradeoffs": changed}
    return {name: rows for name, rows in found.items() if rows}


# ---------------------------------------------------------------------------------------------------------- a campaign


def pair_reference(number: int) -> str:
    """The reference to the unlearned model of a pair."""
    return f"pair:{number}/{UNLEARNED}"


def campaign_models(found: Campaign) -> Iterator[dict[str, Any]]:
    """The unlearned model of each pair, with its base and its figures."""
    for number, pair in enumerate(found.pairs):
        ancestor = _member(f"pair:{number}/{BASE}", pair.base, pair.base_digest)
        model = _member(pair_reference(number), pair.name, pair.unlearned_digest)
        yield {**model, "pedigree": {"ancestors": [ancestor]}, **_member_card(found, number, pair)}


def _member(reference: str, name: str, digest: str) -> dict[str, Any]:
    name = printable(name.rstrip("/").rpartition("/")[2] or name)
    return {"type": MODEL, "bom-ref": reference, "name": name} | _properties({"ckdiff:digest": digest})


def _member_card(found: Campaign, number: int, pair: PairRecord) -> dict[str, Any]:
    card = {"modelParameters": {"modelArchitecture": printable(pair.model_type)}} if pair.model_type else {}
    card |= _analysis(campaign_metrics(found, number))
    return {"modelCard": card} if card else {}
