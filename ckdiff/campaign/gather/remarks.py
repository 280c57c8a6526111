"""Remarks that a campaign's figures cannot be read without, as plain sentences: `remarks(known)`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ckdiff.calls.merge import SCOPE
from ckdiff.campaign.gather.averages import CAUTION
from ckdiff.report.schema.campaign import ALL
from ckdiff.report.words.numbers import count_of, names_of, place_text
from ckdiff.scoring.settings import NEEDED
from ckdiff.untrusted import printable, shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ckdiff.campaign.gather.averages import Averaged
    from ckdiff.campaign.gather.cells import Piece
    from ckdiff.campaign.gather.sweeps import Sweep
    from ckdiff.report.schema.campaign import GroupMean, JobRecord, PairRecord


ASKED = ("questions_source", "questions_digest")
"""Settings that differ from concept to concept."""


SHOWN = 40
"""Characters of a setting that are shown."""


@dataclass(frozen=True, slots=True)
class Contents:
    """The parts of a campaign that remarks are made of, in the plan's order.

    Attributes:
        concepts: the axis.
        asked: by pair and concept the runs that were asked for.
        groups: by group its pairs, as places.
        averages, means: those that could be made.
        versions: by library, every version that a report names.
    """

    pairs: Sequence[PairRecord]
    concepts: Sequence[str]
    jobs: Sequence[JobRecord]
    asked: Mapping[tuple[str, str], frozenset[str]]
    pieces: Sequence[Piece]
    sweeps: Sequence[Sweep]
    groups: Mapping[str, Sequence[int]]
    averages: Sequence[Averaged]
    means: Sequence[GroupMean]
    versions: Mapping[str, Sequence[str]]


def remarks(known: Contents) -> tuple[str, ...]:
    """Everything there is to say, the most important first."""
    return tuple(
        [
            *_undone(known.jobs),
            *_unsound(known.pieces),
            *_sampling_remarks(known),
            *_settings(known),
            *_questions(known.pieces),
            *_layers(known),
            *_uneven(known.averages),
            *_needed_curves(known),
            *_alone(known),
            *_twice(known.asked),
            *_versions(known.versions),
        ]
    )


def _undone(jobs: Sequence[JobRecord]) -> Iterator[str]:
    for required, words in ((True, "required"), (False, "optional")):
        own = [job for job in jobs if job.required == required]
        counts = {state: sum(job.state == state for job in own) for state in ("failed", "inconclusive", "missing")}
        if lacking := sum(counts.values()):
            kinds = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
            yield f"{lacking:,} of {count_of(len(own), f'{words} job')} {_are(lacking)} not done: {kinds}"


def _unsound(pieces: Sequence[Piece]) -> Iterator[str]:
    if found := [place_text(piece.pair, piece.concept) for piece in pieces if piece.failed_controls]:
        words = "these scores are in the averages, and not to be trusted"
        yield f"controls of the probe failed: {names_of(found)}; {words}"


def _sampling_remarks(known: Contents) -> Iterator[str]:
    if not known.averages and not known.means:
        return
    yield CAUTION
    if len(known.concepts) == 1:
        yield "there is one concept only: averages have no intervals"
    groups: dict[str, set[str]] = {}
    by_name = {pair.name: pair.group for pair in known.pairs}
    for pair, concept in known.asked:
        groups.setdefault(concept, set()).add(by_name[pair])
    mixed = [concept or "(none)" for concept in known.concepts if len(groups.get(concept, ())) > 1]
    if mixed and ALL in known.groups:
        yield (
            f"asked of pairs of several groups: {names_of(mixed)}; in {ALL!r} the pairs of a concept are averaged"
            " first, whatever their groups"
        )


def _settings(known: Contents) -> Iterator[str]:
    values: dict[tuple[str, str], dict[str, list[str]]] = {}
    for piece in known.pieces:
        for name, value in piece.settings.items():
            if name[1] not in (*SCOPE, *ASKED):
                values.setdefault(name, {}).setdefault(value, []).append(piece.pair)
    parts: dict[tuple[str, str], list[str]] = {}
    for (part, key), found in values.items():
        if len(found) > 1:
            words = names_of([f"{shorten(value, SHOWN)} ({_pairs(pairs)})" for value, pairs in found.items()])
            parts.setdefault((key, words), []).append(part)
    for (key, words), own in parts.items():
        what = f"{printable(key)} of the {' and '.join(own)}"
        yield f"measured with different settings, which averages mix: {what} is {words}"


def _questions(pieces: Sequence[Piece]) -> Iterator[str]:
    for kind, digests in (
        ("probed", [(piece, piece.probed) for piece in pieces if piece.probed]),
        ("answered", [(piece, piece.answered) for piece in pieces if piece.answered]),
    ):
        of_concept: dict[str, set[str]] = {}
        of_digest: dict[str, dict[str, None]] = {}
        for piece, digest in digests:
            of_concept.setdefault(piece.concept, set()).add(digest)
            of_digest.setdefault(digest, {})[piece.concept] = None
        if other := [concept or "(none)" for concept, found in of_concept.items() if len(found) > 1]:
            yield f"other questions were {kind} in one pair than in another of the same concept: {names_of(other)}"
        for same in of_digest.values():
            if len(same) > 1:
                yield (
                    f"the same questions were {kind} under several concepts, which count as one each:"
                    f" {names_of([*same])}"
                )


def _layers(known: Contents) -> Iterator[str]:
    for group, members in known.groups.items():
        own, left_out = set(members), list[str]()
        axes: dict[tuple[int, ...], int] = {}
        for sweep in known.sweeps:
            found = {axis: cell[0] for cell, axis in sweep.axes.items() if cell[0] in own}
            if len(found) > 1:
                run = sweep.run
                left_out.append(f"{run.direction} {run.mode} {run.variant}")
                axes = axes or found
        if left_out:
            words = [f"{_axis(axis)} ({known.pairs[place].name})" for axis, place in axes.items()]
            yield (
                f"{printable(group)}: its pairs have different window centres, {names_of(words)}, so that there is no"
                f" average of {names_of(left_out)}"
            )


def _uneven(averages: Sequence[Averaged]) -> Iterator[str]:
    groups: dict[str, list[str]] = {}
    for run, uneven in averages:
        if uneven:
            groups.setdefault(run.group, []).append(f"{run.direction} {run.mode} {run.variant}")
    for group, names in groups.items():
        yield (
            f"{printable(group)}: a score is not defined in every pair and window of {names_of(names)}: each window's"
            " average is over those where it is"
        )


def _needed_curves(known: Contents) -> Iterator[str]:
    own = sum(piece.settings.get(("probe", "windows")) == NEEDED for piece in known.pieces)
    if own and any(len(one.run.layers) and one.run.layers[0] >= 0 for one in known.averages):
        yield (
            f"{count_of(own, 'report')} {'has' if own == 1 else 'have'} only the curves that a verdict needed: the"
            " average of a curve is over those, not over all pairs; windows = 'all' in [measure] sweeps every curve"
        )


def _alone(known: Contents) -> Iterator[str]:
    counts: dict[str, int] = {}
    for _, concept in known.asked:
        counts[concept] = counts.get(concept, 0) + 1
    alone = [concept or "(none)" for concept in known.concepts if counts.get(concept) == 1]
    if alone and len(known.pairs) > 1:
        yield f"asked of one pair only: {names_of(alone)}"


def _twice(asked: Mapping[tuple[str, str], frozenset[str]]) -> Iterator[str]:
    found = [
        printable(f"{pair}, {concept or '(none)'}")
        for (pair, concept), runs in asked.items()
        if "audit" in runs and runs & {"behave", "probe"}
    ]
    if found:
        yield (
            f"audited, and probed or asked by a run of its own as well: {names_of(found)}; the run's own figures take"
            " the place of the audit's, and the verdict is about them"
        )


def _versions(versions: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for name, found in versions.items():
        if len(found) > 1:
            yield f"the reports were made with different versions of {printable(name)}: {names_of(found)}"


def _pairs(names: Iterable[str]) -> str:
    own = list(dict.fromkeys(names))
    return own[0] if len(own) == 1 else f"{own[0]} and {count_of(len(own) - 1, 'other')}"


def _axis(axis: tuple[int, ...]) -> str:
    return "all layers together" if axis == (-1,) else f"{len(axis)} in {axis[0]}-{axis[-1]}"


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
