"""What an audit finds lost where nobody asked: `look_elsewhere(spec, sides, report, kept, listener)`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ckdiff.calls.discover import discover_open, open_discovery
from ckdiff.calls.provenance import identity
from ckdiff.calls.specs import DiscoverSpec

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckdiff.calls.specs import AuditSpec
    from ckdiff.calls.unfinished import Unfinished
    from ckdiff.progress import Listener
    from ckdiff.report.schema.report import Report
    from ckdiff.weights.checkpoint import Checkpoint


def discovering(spec: AuditSpec) -> DiscoverSpec:
    """The discovery of an audit: texts sampled from the base, and the topics that ckdiff knows."""
    return DiscoverSpec(
        base=spec.base,
        unlearned=spec.unlearned,
        device=spec.settings.device,
        dtype=spec.settings.dtype,
        tokenizer=spec.settings.tokenizer,
    )


def check_elsewhere(spec: AuditSpec, sides: tuple[Checkpoint, Checkpoint]) -> None:
    """Refuse, before a weight is read, what cannot be looked at.

    Raises:
        CkdiffError: other vocabularies, or no tokenizer.
    """
    if spec.discover:
        open_discovery(discovering(spec), *sides)


def look_elsewhere(
    spec: AuditSpec,
    sides: tuple[Checkpoint, Checkpoint],
    report: Report,
    kept: Unfinished | None,
    listener: Listener,
    begin: Callable[[str, Listener], None],
) -> Report:
    """The report with what the unlearned model lost where nobody asked; as it was where nobody wants to know.

    Where a model computes no numbers that is remarked, and the report stays as it was, too.
    """
    from ckdiff.probes.assembly import NotFiniteError

    if not spec.discover:
        return report
    begin("discover", listener)
    keep, resume = (None, False) if kept is None else (kept.keep, kept.resume)
    try:
        weights, wanted = identity(*sides, report.provenance), discovering(spec)
        found = discover_open(wanted, open_discovery(wanted, *sides), weights, listener, keep, resume)
    except NotFiniteError as error:
        listener.remark(f"nobody looked for what else was lost: {error}")
        return report
    return replace(report, discovery=found)
