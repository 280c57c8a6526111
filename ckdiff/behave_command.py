"""What `ckdiff behave` does beside calling `api.behave`: its settings, a report that others write too, an exit status.

Part of the door: `cli.py` parses and presents, this module calls. It prints through what it is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ckdiff.errors import CkdiffError, ExitStatus
from ckdiff.probe_command import LESS, enough_memory, identity, listening, only_writer
from ckdiff.terminal import drops_verdict

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ckdiff.api import BehaveSpec
    from ckdiff.probe_command import Remark
    from ckdiff.report.campaign_schema import Campaign
    from ckdiff.report.schema import Behaviour, Report

KINDS = ("probe", "behaviour")
"""What a figure can show."""


def run(spec: BehaveSpec, existing: Report | None, output: Path, quiet: bool, remark: Remark) -> Report:
    """Ask both models, and write the report; what another command has written into it meanwhile stays there.

    Raises:
        KeyboardInterrupt: Ctrl-C; the report is as it was.
    """
    from ckdiff.api import behave, joined
    from ckdiff.report.hdf5 import read_report, write_report

    there = identity(output)
    with enough_memory(LESS), listening(quiet, remark) as listener:
        report = behave(spec, listener, existing)
    with only_writer(output):
        if identity(output) != there:
            existing = read_report(output)
            report = joined(existing, report)
        older = existing.behaviour if existing is not None else None
        if older is not None and report.behaviour is not None and asked(older) != asked(report.behaviour):
            remark(f"{output}: its earlier answers were to other questions or settings and are replaced", quiet)
        drops_verdict(existing, output, quiet)
        write_report(report, output)
    return report


def asked(found: Behaviour) -> tuple[object, ...]:
    """What determines the answers: questions by digest, and settings."""
    parts = (*found.answers, found.choices, found.neutral)
    return (dict(found.settings), *(None if part is None else part.digest for part in parts))


def verdict(report: Report, remark: Remark) -> ExitStatus:
    """The exit status: with nothing measured, nothing can be said."""
    found = report.behaviour
    if found is None or not (found.answers or found.choices or found.neutral):
        remark("ckdiff: inconclusive: nothing was measured", False)
        return ExitStatus.INCONCLUSIVE
    return ExitStatus.OK


def figure(
    paths: Sequence[Path],
    output: Path,
    kind: str | None,
    score: str | None,
    variant: str | None = None,
    direction: str | None = None,
) -> None:
    """Draw the probe of one report, the behaviour of one or more, or either of a campaign.

    Raises:
        CkdiffError: a report does not hold what is to be drawn, or the options do not go together.
    """
    from ckdiff.report.campaign_schema import Campaign
    from ckdiff.report.hdf5 import read_any

    if kind not in (None, *KINDS):
        raise CkdiffError(f"--kind: no {kind!r}; there are {' and '.join(KINDS)}")
    found: list[Report] = []
    for path in paths:
        one = read_any(path)
        if isinstance(one, Campaign):
            if len(paths) > 1:
                raise CkdiffError(f"{path}: holds a campaign, which is drawn alone; name no other report")
            _campaign_figure(one, output, kind, score, variant, direction)
            return
        found.append(one)
    for option, chosen in (("variant", variant), ("direction", direction)):
        if chosen is not None:
            raise CkdiffError(f"--{option}: is for a campaign, and {paths[0]} is about one pair; leave it out")
    _figure(list(zip(paths, found, strict=True)), output, kind, score)


def _figure(found: Sequence[tuple[Path, Report]], output: Path, kind: str | None, score: str | None) -> None:
    """Draw reports about one pair each."""
    first = found[0][1]
    if kind is None:
        kind = "probe" if len(found) == 1 and (first.probe is not None or first.behaviour is None) else KINDS[1]
    for path, report in found:
        if getattr(report, kind) is None:
            command = "behave" if kind == "behaviour" else kind
            raise CkdiffError(f"{path}: holds no {kind}; `ckdiff {command}` puts one in")
    if kind == "probe":
        from ckdiff.report.figures import write_figure

        if len(found) > 1:
            raise CkdiffError("--kind probe: draws one report; name one, or use --kind behaviour")
        write_figure(first, output, score)
        return
    from ckdiff.report.behaviour_figure import write_behaviour_figure

    _without({"score": score})
    reports = [report for _, report in found]
    write_behaviour_figure(list(zip(labels([path for path, _ in found]), reports, strict=True)), output)


def _campaign_figure(
    found: Campaign, output: Path, kind: str | None, score: str | None, variant: str | None, direction: str | None
) -> None:
    """Draw a campaign: its curves, where it has some, or its behaviour."""
    from ckdiff.report.campaign_figure import write_campaign_behaviour_figure, write_campaign_figure

    if kind == "probe" or (kind is None and (found.averages or not found.measures)):
        write_campaign_figure(found, output, score, variant, direction)
        return
    _without({"score": score, "variant": variant, "direction": direction})
    write_campaign_behaviour_figure(found, output)


def _without(options: Mapping[str, str | None]) -> None:
    """Refuse what says nothing about behaviour."""
    for name, chosen in options.items():
        if chosen is not None:
            raise CkdiffError(f"--{name}: is about a probe; leave it out, or use --kind probe")


def labels(paths: Sequence[Path]) -> list[str]:
    """What a figure calls its reports: file names without their ending, whole paths where two have one name."""
    stems = [path.stem for path in paths]
    return stems if len(set(stems)) == len(stems) else [str(path.with_suffix("")) for path in paths]
