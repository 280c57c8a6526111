"""What jobs of one base share changes no byte of a report, and saves what it is there to save."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ckdiff.calls.ask import read_asked
from ckdiff.calls.audit import audit_pair
from ckdiff.calls.behave import behave
from ckdiff.calls.compare import compare
from ckdiff.calls.probe import probe
from ckdiff.calls.specs import AuditSpec, BehaveSpec, CompareSpec, ProbeSpec, audit_settings, measures_of, settings_in
from ckdiff.campaign.run.store import sha256_of
from ckdiff.probes.behaviour.answer_ahead import answer_ahead
from ckdiff.progress import Listener, Stopped
from ckdiff.report.hdf5.file import write_report
from ckdiff.scoring.settings import Settings
from ckdiff.weights.opening import open_checkpoint
from tests.test_probe_cli import ASKED, made

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckdiff.questions.asked import Asked
    from ckdiff.report.schema.report import Report

__all__ = ["made"]  # fixture


@dataclass
class Shelf:
    """Keeps what jobs share in memory, and counts."""

    kept: dict[str, list[list[int]]] = field(default_factory=dict)
    hits: int = 0
    misses: int = 0
    hashed: int = 0

    def digest(self, path: Path) -> str | None:
        self.hashed += 1
        return sha256_of(path)

    def answers(self, key: str) -> list[list[int]] | None:
        found = self.kept.get(key)
        self.hits, self.misses = self.hits + (found is not None), self.misses + (found is None)
        return found

    def keep(self, key: str, answers: list[list[int]]) -> None:
        self.kept[key] = answers


@pytest.fixture
def settings() -> Settings:
    return Settings(modes=("coeff", "values"), window=1, tokens=4, device="cpu")


def bytes_of(report: Report, folder: Path) -> bytes:
    write_report(report, folder / "r.h5")
    return (folder / "r.h5").read_bytes()


def jobs(made: Path, settings: Settings) -> dict[str, Callable[[Shelf | None], Report]]:
    """Every kind of job about one pair, with and without a shelf."""
    pair = str(made / "base"), str(made / "unlearned")
    file = made / "questions.txt"
    whole = replace(settings, variants=("open", "whole"))
    asks = BehaveSpec(*pair, questions=file, neutral=False, settings=settings)
    audits = AuditSpec(*pair, questions=file, neutral=False, settings=whole)
    return {
        "compare": lambda shelf: compare(CompareSpec(*pair), shared=shelf),
        "behave": lambda shelf: behave(asks, shared=shelf),
        "probe": lambda shelf: probe(ProbeSpec(*pair, file, settings=settings), shared=shelf),
        "audit": lambda shelf: audit_pair(audits, shared=shelf),
    }


@pytest.mark.parametrize("stream", ["off", "on"])
@pytest.mark.parametrize("kind", ["compare", "behave", "probe", "audit"])
def test_a_report_is_the_same_with_and_without(
    made: Path, tmp_path: Path, settings: Settings, kind: str, stream: str
) -> None:
    job = jobs(made, replace(settings, stream=stream))[kind]  # type: ignore[arg-type]
    shelf = Shelf()
    alone, first, second = (bytes_of(job(one), tmp_path) for one in (None, shelf, shelf))
    assert alone == first == second
    assert shelf.hashed
    assert (shelf.hits > 0, shelf.hits == shelf.misses) == (kind != "compare", True)


@pytest.mark.parametrize("stream", ["off", "on"])
def test_what_was_answered_ahead_is_asked_by_nobody_again(made: Path, settings: Settings, stream: str) -> None:
    settings = replace(settings, stream=stream)  # type: ignore[arg-type]
    shelf, base = Shelf(), open_checkpoint(str(made / "base"))
    spec = BehaveSpec(str(made / "base"), str(made / "unlearned"), made / "questions.txt", settings=settings)
    sets = tuple(read_asked(spec).open.values())
    assert answer_ahead(base, sets, settings, shelf) == 2
    assert answer_ahead(base, sets, settings, shelf) == 0
    before = shelf.misses
    for job in list(jobs(made, settings).values())[1:]:
        job(shelf)
    assert shelf.misses == before


def test_answers_of_another_base_or_way_are_not_taken(made: Path, settings: Settings) -> None:
    shelf = Shelf()
    pair = str(made / "base"), str(made / "unlearned")
    for spec in (
        ProbeSpec(*pair, asked=ASKED, settings=settings),
        ProbeSpec(*pair[::-1], asked=ASKED, settings=settings),
        ProbeSpec(*pair, asked=ASKED[:2], settings=settings),
        ProbeSpec(*pair, asked=ASKED, settings=replace(settings, tokens=3)),
        ProbeSpec(*pair, asked=ASKED, settings=replace(settings, batch_size=1)),
        ProbeSpec(*pair, asked=ASKED, settings=replace(settings, dtype="float64")),
        ProbeSpec(*pair, asked=ASKED, settings=replace(settings, template="{q}")),
    ):
        probe(spec, shared=shelf)
    assert (shelf.hits, shelf.misses) == (0, 7)


@pytest.mark.parametrize("damage", [[], [[1]], [[1], [2], [99999]], [[1], [2], []]])
def test_damaged_answers_are_made_anew(made: Path, tmp_path: Path, settings: Settings, damage: list[list[int]]) -> None:
    job, shelf = jobs(made, settings)["probe"], Shelf()
    good = bytes_of(job(shelf), tmp_path)
    shelf.kept = {key: damage for key in shelf.kept}
    assert bytes_of(job(shelf), tmp_path) == good
    assert damage not in shelf.kept.values()


def test_answering_ahead_can_be_stopped(made: Path, settings: Settings) -> None:
    base = open_checkpoint(str(made / "base"))
    spec = BehaveSpec(str(made / "base"), str(made / "base"), made / "questions.txt", settings=settings)
    asked: Asked = read_asked(spec)
    shelf = Shelf()
    with pytest.raises(Stopped):
        answer_ahead(base, tuple(asked.open.values()), settings, shelf, Listener(stop=lambda: True))
    assert not shelf.kept


def test_measure_and_ways_become_settings() -> None:
    given = {"questions": Path("q"), "neurons": True, "window": 3}
    assert measures_of(None, given) == given
    found = settings_in(given, replace(audit_settings(), device="cpu", batch_size=2))
    # `ckdiff audit --neurons` once asked for none.
    assert (found.neurons, found.window, found.batch_size, found.directions) == (True, 3, 2, ("restore", "break"))
