"""ckdiff: what did unlearning change in a model, and did the knowledge go away?

>>> import ckdiff
>>> spec = ckdiff.CompareSpec("path/to/base", "path/to/unlearned")

`ckdiff.compare(spec)`, or `ckdiff.compare("path/to/base", "path/to/unlearned")`, gives a report;
`ckdiff.read_report(path)` opens one that was written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.version import __version__

if TYPE_CHECKING:
    from typing import Any

    from ckdiff.audit.gate.policy import read_policy
    from ckdiff.audit.judge import judge_report
    from ckdiff.calls.attack import attack
    from ckdiff.calls.audit import audit_pair
    from ckdiff.calls.behave import behave
    from ckdiff.calls.compare import compare
    from ckdiff.calls.depth import depth
    from ckdiff.calls.discover import discover
    from ckdiff.calls.figure import figure
    from ckdiff.calls.html import html
    from ckdiff.calls.probe import probe
    from ckdiff.calls.specs import AttackSpec, AuditSpec, BehaveSpec, CompareSpec, DepthSpec, DiscoverSpec, ProbeSpec
    from ckdiff.calls.unlearn import make_unlearned
    from ckdiff.calls.verify import verify
    from ckdiff.campaign.calls import gather, run_campaign
    from ckdiff.campaign.plan.plan import read_plan
    from ckdiff.report.hdf5.file import read_campaign, read_report, write_campaign, write_report
    from ckdiff.report.rows.frames import to_dataframe
    from ckdiff.scoring.settings import Settings
    from ckdiff.unlearn.recipe import Recipe, UnlearnSpec


__all__ = [
    "AttackSpec",
    "AuditSpec",
    "BehaveSpec",
    "CompareSpec",
    "DepthSpec",
    "DiscoverSpec",
    "ProbeSpec",
    "Recipe",
    "Settings",
    "UnlearnSpec",
    "__version__",
    "attack",
    "audit_pair",
    "behave",
    "compare",
    "depth",
    "discover",
    "figure",
    "gather",
    "html",
    "judge_report",
    "make_unlearned",
    "probe",
    "read_campaign",
    "read_plan",
    "read_policy",
    "read_report",
    "run_campaign",
    "to_dataframe",
    "verify",
    "write_campaign",
    "write_report",
]


_PLACES = {
    "AttackSpec": "ckdiff.calls.specs",
    "AuditSpec": "ckdiff.calls.specs",
    "BehaveSpec": "ckdiff.calls.specs",
    "CompareSpec": "ckdiff.calls.specs",
    "DepthSpec": "ckdiff.calls.specs",
    "DiscoverSpec": "ckdiff.calls.specs",
    "ProbeSpec": "ckdiff.calls.specs",
    "Recipe": "ckdiff.unlearn.recipe",
    "Settings": "ckdiff.scoring.settings",
    "UnlearnSpec": "ckdiff.unlearn.recipe",
    "attack": "ckdiff.calls.attack",
    "audit_pair": "ckdiff.calls.audit",
    "behave": "ckdiff.calls.behave",
    "compare": "ckdiff.calls.compare",
    "depth": "ckdiff.calls.depth",
    "discover": "ckdiff.calls.discover",
    "figure": "ckdiff.calls.figure",
    "gather": "ckdiff.campaign.calls",
    "html": "ckdiff.calls.html",
    "judge_report": "ckdiff.audit.judge",
    "make_unlearned": "ckdiff.calls.unlearn",
    "probe": "ckdiff.calls.probe",
    "read_campaign": "ckdiff.report.hdf5.file",
    "read_plan": "ckdiff.campaign.plan.plan",
    "read_policy": "ckdiff.audit.gate.policy",
    "read_report": "ckdiff.report.hdf5.file",
    "run_campaign": "ckdiff.campaign.calls",
    "to_dataframe": "ckdiff.report.rows.frames",
    "verify": "ckdiff.calls.verify",
    "write_campaign": "ckdiff.report.hdf5.file",
    "write_report": "ckdiff.report.hdf5.file",
}


_EARLIER = {"judged": "judge_report"}
"""Names that other people's scripts may still ask for."""


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for, so that `ckdiff --help` stays quick."""
    name = _EARLIER.get(name, name)
    if name not in _PLACES:
        raise AttributeError(f"module 'ckdiff' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
