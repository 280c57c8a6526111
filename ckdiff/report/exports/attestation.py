"""The in-toto Statement of a test result that a signature is about, as plain data: `statement(report, sha256)`.

    subject           every weight file of both checkpoints, named by side, with its sha256; where a model is signed
                      itself and was at hand, the root digest of what its signature lists, under the side's name
    predicateType     https://in-toto.io/attestation/test-result/v0.1
    predicate         result, configuration (the report's file, the policy, the sets of questions, each with its
                      digest), passedTests, warnedTests, failedTests: checks of the gate by name
    predicate.ckdiff  every figure, threshold and digest of the verdict and the gate; other readers pass over it

The result of an inconclusive gate is FAILED, though none of its tests need have failed: a consumer that knows nothing
of ckdiff must not let it pass. Its inconclusive checks stand in warnedTests. No time is in it: the same report gives
the same bytes. NaN is null.

Source: in-toto attestation framework, spec/v1/statement.md and spec/predicates/test-result.md.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ckdiff.errors import ReportError
from ckdiff.report.words.asked import question_sets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ckdiff.report.schema.report import CheckpointRecord, Report
    from ckdiff.report.schema.verdict import Gate, Verdict

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"

PREDICATE_TYPE = "https://in-toto.io/attestation/test-result/v0.1"

MODEL_SIGNATURE = "https://model_signing/signature/v1.0"
"""The predicate type of a model's own signature, whose root digest a subject may have."""

PAYLOAD_TYPE = "application/vnd.in-toto+json"

FORMAT = 3
"""Of what stands under `predicate.ckdiff`; raised when its meaning changes, or more stands there.

1 lacks the files around the weights, and how it was measured; 2 the models that never knew, and how depth was measured.
"""

RESULTS = {"passed": "PASSED", "failed": "FAILED", "inconclusive": "FAILED"}

LISTS = {"passed": "passedTests", "inconclusive": "warnedTests", "failed": "failedTests"}

SIDES = ("base", "unlearned")


def statement(
    report: Report, sha256: str, form: int = FORMAT, roots: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The statement about a report.

    Args:
        report: with hashes, a verdict and a gate.
        sha256: of its file.
        form: up to `FORMAT`; an older one says what an older ckdiff signed.
        roots: by side the root digest of what the signature of that model lists.

    Raises:
        ReportError: it lacks one of them; and which command puts it in.
    """
    verdict, gate = _demand_gate(report)
    subjects = [row for side in SIDES for row in _subjects(side, getattr(report.provenance, side))]
    subjects += [_model(side, roots[side]) for side in SIDES if roots and side in roots]
    return {
        "_type": STATEMENT_TYPE,
        "subject": subjects,
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "result": RESULTS[gate.outcome],
            "configuration": list(_configuration(report, gate, sha256)),
            **_tests(gate),
            "ckdiff": _finite(_figures(report, verdict, gate, form)),
        },
    }


def payload(found: dict[str, Any]) -> bytes:
    """The bytes that are signed: JSON, keys sorted, no blanks, ASCII."""
    return json.dumps(found, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def _demand_gate(report: Report) -> tuple[Verdict, Gate]:
    verdict = report.verdict
    if verdict is None or verdict.gate is None:
        lacks = "no verdict" if verdict is None else "a verdict that was held against no policy"
        raise ReportError(
            f"the report holds {lacks}: nothing to attest; `ckdiff gate REPORT --policy FILE --save` judges it"
        )
    for side in SIDES:
        record: CheckpointRecord = getattr(report.provenance, side)
        if not record.shards or any(shard.sha256 is None for shard in record.shards):
            raise ReportError(
                f"the report has no sha256 of the {side}'s weight files: no subject to attest; measure again without"
                " --no-hash"
            )
    return verdict, verdict.gate


def _subjects(side: str, record: CheckpointRecord) -> Iterator[dict[str, Any]]:
    for shard in record.shards:
        yield {"name": f"{side}/{shard.name}", "digest": {"sha256": shard.sha256}}


def _model(side: str, root: str) -> dict[str, Any]:
    """A model as a whole: everything that its own signature lists."""
    return {"name": side, "digest": {"sha256": root}, "annotations": {"signature": MODEL_SIGNATURE}}


def _configuration(report: Report, gate: Gate, sha256: str) -> Iterator[dict[str, Any]]:
    """Everything that was used, as resource descriptors with digests."""
    yield {"name": "report", "digest": {"sha256": sha256}, "mediaType": "application/x-hdf5"}
    yield {"name": "policy", "digest": {"sha256": gate.digest}, "annotations": {"source": gate.source}}
    for name, digest, source in question_sets(report):
        yield {"name": f"questions/{name}", "digest": {"sha256": digest}, "annotations": {"source": source}}


def _tests(gate: Gate) -> dict[str, list[str]]:
    """Names of the checks by outcome; of checks of one name all but the first are numbered."""
    found: dict[str, list[str]] = {name: [] for name in LISTS.values()}
    for name, outcome in zip(check_names(gate), (check.outcome for check in gate.checks), strict=True):
        found[LISTS[outcome]].append(name)
    return found


def check_names(gate: Gate) -> list[str]:
    """The checks' names, each once: a policy may hold several scores, and each is a check of one name."""
    seen: Counter[str] = Counter()
    names = []
    for check in gate.checks:
        seen[check.name] += 1
        names.append(check.name if seen[check.name] == 1 else f"{check.name} {seen[check.name]}")
    return names


def _figures(report: Report, verdict: Verdict, gate: Gate, form: int) -> dict[str, Any]:
    """Everything that the verdict shows, and what it was measured on and with."""
    own = asdict(verdict)
    own["gate"] = {name: value for name, value in asdict(gate).items() if name != "policy"}
    more: dict[str, Any] = {} if form < 2 else {"settings": _settings(report), "measured": _measured(report, form)}
    more |= {} if form < 3 else {"references": _references(report)}
    return {
        "format": form,
        "schema_version": report.schema_version,
        "versions": dict(report.versions),
        "complete": report.complete,
        "checkpoints": {side: _checkpoint(getattr(report.provenance, side)) for side in SIDES},
        "verdict": own,
        **more,
    }


def _settings(report: Report) -> dict[str, Any]:
    """By checkpoint the files around the weights, each with its sha256."""
    return {side: {one.name: one.sha256 for one in getattr(report.provenance, side).settings} for side in SIDES}


def _references(report: Report) -> dict[str, Any]:
    """By section the model that never knew which stands beside, by its weights and how it came about."""
    sections = {"attack": report.attack, "depth": report.depth}
    return {
        name: {"digest": one.reference_digest, "kind": one.reference_kind}
        for name, one in sections.items()
        if one is not None and one.reference
    }


def _measured(report: Report, form: int) -> dict[str, Any]:
    """By section everything that its numbers depend on: prompt form, tokens, dtype, window, ..."""
    sections: dict[str, Any] = {"probe": report.probe, "behaviour": report.behaviour, "attack": report.attack}
    sections |= {} if form < 3 else {"depth": report.depth}
    return {name: dict(one.settings) for name, one in sections.items() if one is not None}


def _checkpoint(record: CheckpointRecord) -> dict[str, Any]:
    """Which files; where they lay is nobody's business."""
    return {
        "revision": record.revision,
        "digest": record.digest,
        "bytes": {shard.name: shard.bytes for shard in record.shards},
    }


def _finite(value: Any) -> Any:
    """The same tree with lists for tuples, and None for every float that JSON has no word for."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
