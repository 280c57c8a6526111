"""A report, or a campaign, as a CycloneDX 1.6 bill of materials: `to_cyclonedx(report)`.

    metadata.component      the unlearned model (of a campaign: components, one a pair): its weight files with sha256,
                            the base as its ancestor, and a model card with every figure and its interval
    definitions.standards   the policy, a requirement each check
    declarations            what is claimed of the model, with what speaks for it and against it; and which claims meet
                            which requirement

The same report gives the same bytes: there is no time in it, and the serial number is made of the rest.

Source: CycloneDX 1.6, ECMA-424, cyclonedx.org/schema/bom-1.6.schema.json.
"""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

from ckdiff.report.cyclonedx.claims import campaign_declarations, declarations_of, standard_of
from ckdiff.report.cyclonedx.models import campaign_models, model_of
from ckdiff.report.schema.campaign import Campaign
from ckdiff.report.words.sections import WHOLE, Selection
from ckdiff.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ckdiff.report.schema.report import Report

SCHEMA = "http://cyclonedx.org/schema/bom-1.6.schema.json"

NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, SCHEMA)
"""Of serial numbers."""


def to_cyclonedx(found: Report | Campaign, selection: Selection = WHOLE) -> str:
    """All of a report's models, figures and claims, or a campaign's, as one JSON object."""
    parts = _campaign(found) if isinstance(found, Campaign) else _pair(found)
    text = json.dumps(parts, sort_keys=True, allow_nan=False)
    head = {"$schema": SCHEMA, "bomFormat": "CycloneDX", "specVersion": "1.6"}
    head |= {"serialNumber": f"urn:uuid:{uuid.uuid5(NAMESPACE, text)}"}
    return json.dumps({**head, "version": 1, **parts}, indent=2, allow_nan=False) + "\n"


def _pair(report: Report) -> dict[str, Any]:
    parts: dict[str, Any] = {"metadata": {**_tools(report.versions), "component": model_of(report)}}
    if report.verdict is not None:
        if report.verdict.gate is not None:
            parts["definitions"] = {"standards": [standard_of(report.verdict.gate)]}
        parts["declarations"] = declarations_of(report, report.verdict)
    return parts


def _campaign(found: Campaign) -> dict[str, Any]:
    parts: dict[str, Any] = {"metadata": _tools(found.versions), "components": list(campaign_models(found))}
    if any(cell.label for cell in found.cells):
        parts["declarations"] = campaign_declarations(found)
    return parts


def _tools(versions: Mapping[str, str]) -> dict[str, Any]:
    """Everything whose arithmetic the figures rest on, ckdiff first."""
    names = sorted(versions, key=lambda name: (name != "ckdiff", name))
    rows = [
        {"type": "application" if name == "ckdiff" else "library", "name": printable(name)}
        | {"version": printable(versions[name])[:1024]}
        for name in names
    ]
    return {"tools": {"components": rows}} if rows else {}
