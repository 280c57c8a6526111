"""A cache changes no byte of a report, and saves what it is there to save."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ckdiff.cache import Cache, state_of
from ckdiff.calls.audit import audit_pair
from ckdiff.calls.behave import behave
from ckdiff.calls.compare import compare_open
from ckdiff.calls.probe import probe
from ckdiff.calls.provenance import open_pair
from ckdiff.calls.specs import AuditSpec, BehaveSpec, CompareSpec, ProbeSpec, audit_settings, measures_of, settings_in
from ckdiff.campaign.run.store import sha256_of
from ckdiff.progress import Listener
from ckdiff.report.hdf5.file import write_report
from ckdiff.scoring.settings import Settings
from tests.test_probe_cli import ASKED, made

if TYPE_CHECKING:
    from collections.abc import Callable

    from ckdiff.report.schema.report import Report

__all__ = ["made"]  # fixture


class Counted(Cache):
    """A cache that knows every digest, and counts what is asked of it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.hits = self.misses = self.hashed = 0

    def digest(self, path: Path) -> str | None:
        self.hashed += 1
        return sha256_of(path)

    def answers(self, key: str) -> list[list[int]] | None:
        found = super().answers(key)
        self.hits, self.misses = self.hits + (found is not None), self.misses + (found is None)
        return found


@pytest.fixture
def settings() -> Settings:
    return Settings(modes=("coeff", "values"), window=1, tokens=4, device="cpu")


def bytes_of(report: Report, folder: Path) -> bytes:
    write_report(report, folder / "r.h5")
    return (folder / "r.h5").read_bytes()


def jobs(made: Path, settings: Settings) -> dict[str, Callable[[Listener], Report]]:
    """Every kind of job about one pair."""
    pair = str(made / "base"), str(made / "unlearned")
    file = made / "questions.txt"
    whole = replace(settings, variants=("open", "whole"))
    asks = BehaveSpec(*pair, questions=file, neutral=False, settings=settings)
    audits = AuditSpec(*pair, questions=file, tiers=(), neutral=False, settings=whole)
    return {
        "compare": lambda listener: compare_open(*open_pair(CompareSpec(*pair)), True, cache=listener.cache),
        "behave": lambda listener: behave(asks, listener),
        "probe": lambda listener: probe(ProbeSpec(*pair, file, settings=settings), listener),
        "audit": lambda listener: audit_pair(audits, listener),
    }


@pytest.mark.parametrize(
    ("kind", "stream"), [*((kind, "off") for kind in ("compare", "behave", "probe", "audit")), ("audit", "on")]
)
def test_a_report_is_the_same_with_and_without(
    made: Path, tmp_path: Path, settings: Settings, kind: str, stream: str
) -> None:
    job = jobs(made, replace(settings, stream=stream))[kind]  # type: ignore[arg-type]
    cache = Counted(tmp_path)
    alone, first, second = (bytes_of(job(Listener(cache=one)), tmp_path) for one in (None, cache, cache))
    assert alone == first == second
    assert cache.hashed
    assert (cache.hits > 0, cache.hits == cache.misses) == (kind != "compare", True)


@pytest.mark.parametrize("stream", ["off", "on"])
def test_a_question_that_was_answered_is_asked_by_nobody_again(
    made: Path, tmp_path: Path, settings: Settings, stream: str
) -> None:
    settings = replace(settings, stream=stream)  # type: ignore[arg-type]
    work, first, later = jobs(made, settings), Counted(tmp_path), Counted(tmp_path)
    work["behave"](Listener(cache=first))
    # Two sets: about the target, and unrelated ones.
    assert (first.hits, first.misses) == (0, 2)
    for kind in ("probe", "behave", "audit"):
        work[kind](Listener(cache=later))
    assert later.misses == 0
    assert later.hits > 2


def test_without_digests_nothing_is_kept(made: Path, tmp_path: Path, settings: Settings) -> None:
    jobs(made, settings)["behave"](Listener(cache=Cache(tmp_path)))
    assert not (tmp_path / "base").exists()


def test_answers_of_another_base_or_way_are_not_taken(made: Path, tmp_path: Path, settings: Settings) -> None:
    cache = Counted(tmp_path)
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
        probe(spec, Listener(cache=cache))
    assert (cache.hits, cache.misses) == (0, 7)


@pytest.mark.parametrize("damage", [[], [[1]], [[1], [2], [99999]], [[1], [2], []]])
def test_damaged_answers_are_made_anew(made: Path, tmp_path: Path, settings: Settings, damage: list[list[int]]) -> None:
    job, listener = jobs(made, settings)["probe"], Listener(cache=Counted(tmp_path))
    good = bytes_of(job(listener), tmp_path)
    [file] = (tmp_path / "base").iterdir()
    whole = file.read_text()
    file.write_text(json.dumps({"answers": damage}))
    assert bytes_of(job(listener), tmp_path) == good
    assert file.read_text() == whole


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"answers": 3}', '{"answers": [[-1]]}', '{"answers": [[true]]}', '{"answers": ["a"]}']
)
def test_a_damaged_file_counts_as_not_there(tmp_path: Path, text: str) -> None:
    cache = Cache(tmp_path)
    cache.keep("a", [[1, 2], [3]])
    assert cache.answers("a") == [[1, 2], [3]]
    for name in ("base/a.json", "digests.json"):
        (tmp_path / name).write_text(text)
    assert cache.answers("a") is None
    assert Cache(tmp_path).digest(tmp_path / "digests.json") is None


def test_a_digest_is_forgotten_when_the_file_changes(tmp_path: Path) -> None:
    cache, file = Cache(tmp_path), tmp_path / "w.safetensors"
    file.write_bytes(b"one")
    cache.add(file, sha256_of(file), state_of(file))
    cache.save()
    times = file.stat()
    assert Cache(tmp_path).digest(file) == sha256_of(file)
    file.write_bytes(b"two")
    # A time that can be set is not enough to fool it.
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert Cache(tmp_path).digest(file) is None


def test_measure_and_ways_become_settings() -> None:
    given = {"questions": Path("q"), "neurons": True, "window": 3}
    assert measures_of(None, given) == given
    found = settings_in(given, replace(audit_settings(), device="cpu", batch_size=2))
    # `ckdiff audit --neurons` once asked for none.
    assert (found.neurons, found.window, found.batch_size, found.directions) == (True, 3, 2, ("restore", "break"))
