"""ckdiff: what did unlearning change in a model, and did the knowledge go away?

>>> import ckdiff
>>> spec = ckdiff.CompareSpec("path/to/base", "path/to/unlearned")

`ckdiff.compare(spec)` gives a report; `ckdiff.read_report(path)` opens one that was written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "AuditSpec",
    "BehaveSpec",
    "CompareSpec",
    "ProbeSpec",
    "Recipe",
    "Settings",
    "UnlearnSpec",
    "audit_pair",
    "behave",
    "compare",
    "gather",
    "judged",
    "make_unlearned",
    "probe",
    "read_campaign",
    "read_plan",
    "read_policy",
    "read_report",
    "run_campaign",
    "write_campaign",
    "write_report",
]

if TYPE_CHECKING:
    from ckdiff.api import BehaveSpec, CompareSpec, ProbeSpec, behave, compare, make_unlearned, probe
    from ckdiff.audit.judging import judged
    from ckdiff.audit.policy import read_policy
    from ckdiff.auditing import AuditSpec, audit_pair
    from ckdiff.campaign.calls import gather, run_campaign
    from ckdiff.campaign.plan import read_plan
    from ckdiff.probes.settings import Settings
    from ckdiff.report.hdf5 import read_campaign, read_report, write_campaign, write_report
    from ckdiff.unlearn.recipe import Recipe, UnlearnSpec

_PLACES = {
    "AuditSpec": "ckdiff.auditing",
    "audit_pair": "ckdiff.auditing",
    "BehaveSpec": "ckdiff.api",
    "CompareSpec": "ckdiff.api",
    "ProbeSpec": "ckdiff.api",
    "Recipe": "ckdiff.unlearn.recipe",
    "Settings": "ckdiff.probes.settings",
    "UnlearnSpec": "ckdiff.unlearn.recipe",
    "behave": "ckdiff.api",
    "compare": "ckdiff.api",
    "gather": "ckdiff.campaign.calls",
    "judged": "ckdiff.audit.judging",
    "make_unlearned": "ckdiff.api",
    "probe": "ckdiff.api",
    "read_campaign": "ckdiff.report.hdf5",
    "read_plan": "ckdiff.campaign.plan",
    "read_policy": "ckdiff.audit.policy",
    "read_report": "ckdiff.report.hdf5",
    "run_campaign": "ckdiff.campaign.calls",
    "write_campaign": "ckdiff.report.hdf5",
    "write_report": "ckdiff.report.hdf5",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for, so that `ckdiff --help` stays quick."""
    if name not in _PLACES:
        raise AttributeError(f"module 'ckdiff' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_PLACES[name]), name)
