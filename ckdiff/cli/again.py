"""What was typed, for the commands to type next: the files that a policy names, and the policy itself."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ckdiff.audit.gate.records import Policy
    from ckdiff.report.schema.report import Report

ASKED = ("questions", "unrelated", "holdout")
"""Files of questions: as options, and as keys of a policy."""


def type_files(measures: Mapping[str, Any]) -> dict[str, str]:
    """The options that name the files of an audit's questions, ready to type, wherever it has them from."""
    files = {f"--{name}": measures.get(name) for name in ASKED}
    return {name: f"{name} {shlex.quote(str(file))}" for name, file in files.items() if file}


def type_recorded(report: Report) -> dict[str, str]:
    """The options that name such files of a report's questions as are here: it keeps their names, and no folders."""
    from ckdiff.report.words.commands import recorded_files

    files = {name.removeprefix("--"): Path(file) for name, file in recorded_files(report)}
    return type_files({name: file for name, file in files.items() if file.is_file()})


def type_policy(policy: Policy, given: Path | None) -> dict[str, str]:
    """The option that names a policy, and those that name such of its files of questions as are there."""
    if given is None:
        return {}
    places = {name: (policy.folder or given.parent) / str(policy.measure.get(name) or "") for name in ASKED}
    files = type_files({name: place for name, place in places.items() if place.is_file()})
    return {"--policy": f"--policy {shlex.quote(str(given))}"} | files
