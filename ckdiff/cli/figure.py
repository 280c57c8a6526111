"""`ckdiff figure`: a report as a figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ckdiff.cli.console import (
    remark,
)
from ckdiff.errors import CkdiffError
from ckdiff.report.words.sections import SECTIONS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ckdiff.report.schema.campaign import Campaign
    from ckdiff.report.schema.report import Report


def figure(
    reports: Annotated[
        list[Path], typer.Argument(help="A report with a probe, reports with behaviour, or a campaign.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="An .svg, .png or .pdf file.")] = Path("ckdiff.svg"),
    kind: Annotated[
        str | None, typer.Option("--kind", help="probe or behaviour; else the probe where there is one.")
    ] = None,
    score: Annotated[str | None, typer.Option("--score", help="krs_kl, krs_centred or krs; else all three.")] = None,
    variant: Annotated[
        str | None, typer.Option("--variant", help="Of a campaign: open, isolated, ...; else all that it has.")
    ] = None,
    direction: Annotated[
        str | None, typer.Option("--direction", help="Of a campaign: restore or break; else all that it has.")
    ] = None,
) -> None:
    """Draw a probe (score against layer, with intervals), the behaviour of pairs, or the averages of a campaign."""
    draw(reports, output, kind, score, variant, direction)
    remark(f"figure: {output}", quiet=False)


KINDS = ("probe", "behaviour")
"""What a figure can show."""


def draw(
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
    from ckdiff.report.hdf5.file import read_any
    from ckdiff.report.schema.campaign import Campaign

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
            raise CkdiffError(f"{path}: holds no {kind}; `ckdiff {SECTIONS[kind].command}` puts one in")
    if kind == "probe":
        from ckdiff.report.figures.probe import write_figure

        if len(found) > 1:
            raise CkdiffError("--kind probe: draws one report; name one, or use --kind behaviour")
        write_figure(first, output, score)
        return
    from ckdiff.report.figures.behaviour import write_behaviour_figure

    _without({"score": score})
    reports = [report for _, report in found]
    write_behaviour_figure(list(zip(labels([path for path, _ in found]), reports, strict=True)), output)


def _campaign_figure(
    found: Campaign, output: Path, kind: str | None, score: str | None, variant: str | None, direction: str | None
) -> None:
    """Draw a campaign: its curves, where it has some, or its behaviour."""
    from ckdiff.report.figures.campaign import write_campaign_behaviour_figure, write_campaign_figure

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
