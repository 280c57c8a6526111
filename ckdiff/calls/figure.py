"""`figure`: a probe, the behaviour of pairs, attacks on them, lost words, or the averages of a campaign, drawn."""

from __future__ import annotations

from dataclasses import dataclass, fields
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from ckdiff.calls.paths import check_name
from ckdiff.errors import CkdiffError
from ckdiff.options import TITLE, Option
from ckdiff.report.words.names import pair_title
from ckdiff.report.words.sections import DRAWN, SECTIONS
from ckdiff.scoring.settings import DIRECTION, VARIANT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ckdiff.report.schema.campaign import Campaign
    from ckdiff.report.schema.report import Report

    Drawn = str | PathLike[str] | Report | Campaign


OF_PROBE = {"panel": "", "known": (), "read": None}


@dataclass(frozen=True)
class Drawing:
    """The part of a report that is drawn; None is left to the report."""

    kind: Annotated[
        str | None, Option("--kind", f"{' or '.join(DRAWN)}; else the {DRAWN[0]} where there is one.", known=DRAWN)
    ] = None
    score: Annotated[str | None, Option("--score", "krs_kl, krs_centred or krs; else all three.")] = None
    variant: Annotated[
        str | None, VARIANT.but("Of a probe: open, isolated, ...; else all that it has.", **OF_PROBE)
    ] = None
    direction: Annotated[str | None, DIRECTION.but("Of a probe: restore or break; else both.", **OF_PROBE)] = None
    title: Annotated[str | None, TITLE.but("Over the figure; else the names of both models.")] = None

    def refuse(self, *names: str, reason: str) -> None:
        """Refuse these options.

        Raises:
            CkdiffError: one of them was given.
        """
        for name in names:
            if getattr(self, name) is not None:
                raise CkdiffError(f"--{name}: {reason}")


NO_PROBE = "is about a probe; leave it out, or use --kind probe"


def figure(
    reports: Drawn | Sequence[Drawn],
    output: str | PathLike[str] = "ckdiff.svg",
    overwrite: bool = False,
    **options: Any,
) -> Path:
    """Draw a report with a probe, reports with behaviour, attacks or discovery, or a campaign, as an image file.

    Args:
        reports: one or more, as they are or as files.
        output: an .svg, .png or .pdf file; an older figure there is replaced.
        overwrite: whatever is there is replaced.
        options: fields of `Drawing`: kind, score, variant, direction, title.

    Raises:
        CkdiffError: a report does not hold what is to be drawn, or the options do not go together.
    """
    from ckdiff.report.figures.drawing import check_place

    for name in options:
        check_name(name, tuple(one.name for one in fields(Drawing)))
    many = reports if isinstance(reports, (list, tuple)) else [reports]
    check_place(Path(output), overwrite)
    draw(map(_named, many), Path(output), Drawing(**options))
    return Path(output)


def _named(one: Drawn) -> tuple[Path, Report | Campaign]:
    """A report with the file that it is in; one that is in no file has the unlearned model's name."""
    from ckdiff.report.hdf5.file import read_any
    from ckdiff.report.schema.campaign import Campaign

    if isinstance(one, (str, PathLike)):
        return Path(one), read_any(Path(one))
    return Path("campaign.h5" if isinstance(one, Campaign) else f"{one.provenance.unlearned.location}.h5"), one


def draw(found: Iterable[tuple[Path, Report | Campaign]], output: Path, drawing: Drawing) -> None:
    """Draw the probe of one report, the behaviour, the attacks or the discovery of one or more, or a campaign.

    Raises:
        CkdiffError: a report does not hold what is to be drawn, or the options do not go together.
    """
    from ckdiff.report.schema.campaign import Campaign

    named = list(found)
    reports: list[tuple[Path, Report]] = []
    for path, one in named:
        if isinstance(one, Campaign):
            if len(named) > 1:
                raise CkdiffError(f"{path}: holds a campaign, which is drawn alone; name no other report")
            draw_campaign(one, output, drawing)
            return
        reports.append((path, one))
    draw_reports(reports, output, drawing)


def draw_reports(reports: Sequence[tuple[Path, Report]], output: Path, drawing: Drawing) -> None:
    """Draw reports about one pair each."""
    first, kind = reports[0][1], drawing.kind
    if kind is None:
        kind = _kind_of(first, len(reports) == 1)
    for path, report in reports:
        if getattr(report, kind) is None:
            raise CkdiffError(f"{path}: holds no {kind}; `ckdiff {SECTIONS[kind].command}` puts one in")
    if kind == "probe":
        from ckdiff.report.figures.probe import write_figure

        if len(reports) > 1:
            raise CkdiffError("--kind probe: draws one report; name one, or use --kind behaviour")
        write_figure(first, output, drawing.score, drawing.variant, drawing.direction, drawing.title)
        return
    from ckdiff.report.figures.attack import write_attack_figure
    from ckdiff.report.figures.behaviour import write_behaviour_figure
    from ckdiff.report.figures.discovery import write_discovery_figure

    drawing.refuse("score", "variant", "direction", reason=NO_PROBE)
    names = labels([path for path, _ in reports]) if len(reports) > 1 else [pair_title(first.provenance)]
    named = [(name, report) for name, (_, report) in zip(names, reports, strict=True)]
    writers = {
        "attack": write_attack_figure, "behaviour": write_behaviour_figure, "discovery": write_discovery_figure
    }  # fmt: skip
    writers[kind](named, output, drawing.title)


def _kind_of(report: Report, alone: bool) -> str:
    """The part of a report that is drawn where nobody says."""
    if report.behaviour is None and report.probe is None:
        for name in ("attack", "discovery"):
            if getattr(report, name) is not None:
                return name
    return "probe" if alone and (report.probe is not None or report.behaviour is None) else "behaviour"


def draw_campaign(campaign: Campaign, output: Path, drawing: Drawing) -> None:
    """Draw a campaign: its curves, where it has some, or its behaviour."""
    from ckdiff.report.figures.campaign import write_campaign_behaviour_figure, write_campaign_figure

    if drawing.kind == "probe" or (drawing.kind is None and (campaign.averages or not campaign.measures)):
        write_campaign_figure(campaign, output, drawing.score, drawing.variant, drawing.direction, drawing.title)
        return
    if drawing.kind == "attack":
        raise CkdiffError("--kind attack: draws reports of pairs, and this one holds a campaign; name others")
    drawing.refuse("score", "variant", "direction", reason=NO_PROBE)
    write_campaign_behaviour_figure(campaign, output, drawing.title)


def labels(paths: Sequence[Path]) -> list[str]:
    """Names of reports in a figure: file names without their ending, whole paths where two have one name."""
    stems = [path.stem for path in paths]
    return stems if len(set(stems)) == len(stems) else [str(path.with_suffix("")) for path in paths]
