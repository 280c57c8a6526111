"""A results directory: what a campaign keeps, and how it is found again. Nothing here measures anything.

    campaign.json          whose results these are, and in which form
    plan.toml              the plan, as it was read
    manifest.json          every job of the plan with its key (manifest-1-of-3.json: those of a shard)
    jobs/KEY.h5            a report; KEY.json how the job ended, KEY.log what it said
    base/, digests.json    answers of base models and sha256 of weight files; see `ckdiff.cache`
    running/               who is at work, and on what

A job is done where its report is there. Every file is written whole or not at all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import time
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_type_hints

from ckdiff.cache import SHA256
from ckdiff.campaign.records import CampaignError, Found, Outcome, Results, Slot
from ckdiff.errors import CkdiffError
from ckdiff.files import is_left_behind, replace_file, stage
from ckdiff.locks import BusyError, alone
from ckdiff.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path


FORMAT = "ckdiff-campaign-results"


SCHEMA_VERSION = 1


Kind = TypeVar("Kind")


MANIFEST = re.compile(r"manifest(?:-(\d+)-of-(\d+))?\.json")


LEFT_BEHIND = 3600.0
"""Seconds after which a half-written file is nobody's any more."""


MOST_BYTES = 1 << 28
"""Of a JSON file: more than ten thousand jobs need."""


class Store:
    """One results directory; `open_store` makes or checks it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def report(self, key: str) -> Path:
        """Where the report of a job is, or will be."""
        return self.folder / "jobs" / f"{key}.h5"

    def log(self, key: str) -> Path:
        """The log of a job."""
        return self.folder / "jobs" / f"{key}.log"

    def marker(self, key: str) -> Path:
        """There while a job runs."""
        return self.folder / "running" / f"{key}.json"

    def outcome(self, key: str) -> Outcome | None:
        """How a job ended, where that was recorded; what is damaged counts as nothing."""
        try:
            return _record(Outcome, _json(self._outcome(key)))
        except CkdiffError:
            return None

    def keep(self, outcome: Outcome) -> None:
        """Record how a job ended.

        Raises:
            OSError: the disk is full.
        """
        replace_file(self._outcome(outcome.key), _text(asdict(outcome)))

    def forget(self, key: str) -> None:
        """Forget how a job ended, so that it is done again."""
        self._outcome(key).unlink(missing_ok=True)

    def _outcome(self, key: str) -> Path:
        return self.folder / "jobs" / f"{key}.json"

    def write_manifest(self, name: str, text: str, slots: Sequence[Slot], shard: tuple[int, int] | None) -> None:
        """Record every job; a whole plan's takes the place of those of shards."""
        label = "manifest" if shard is None else f"manifest-{shard[0]}-of-{shard[1]}"
        replace_file(self.folder / "plan.toml", text.encode())
        tree = {"name": name, "plan": text, "slots": [asdict(slot) for slot in slots]}
        replace_file(self.folder / f"{label}.json", _text(tree))
        for path in self._manifests():
            found = MANIFEST.fullmatch(path.name)
            if found and (shard is None) != (found[1] is None):
                path.unlink(missing_ok=True)

    def manifests(self) -> list[tuple[str, str, tuple[Slot, ...]]]:
        """Every manifest: name of the plan, its text, its jobs.

        Raises:
            CampaignError: one is damaged, or there is none.
        """
        found = []
        for path in self._manifests():
            try:
                tree = _json(path)
                slots = tuple(_record(Slot, row) for row in tree["slots"])
                found.append((str(tree["name"]), str(tree["plan"]), slots))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise CampaignError(f"{path}: damaged ({error!r}); run the campaign again, which writes it") from error
        if not found:
            raise CampaignError(f"{self.folder}: holds no jobs yet; `ckdiff campaign PLAN.toml` puts them in")
        return found

    def _manifests(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("manifest*.json") if MANIFEST.fullmatch(path.name))

    def tidy(self) -> None:
        """Remove what killed processes have left half-written; of processes that live it is younger."""
        for path in (*self.folder.glob(".*.tmp"), *self.folder.glob("*/.*.tmp")):
            with contextlib.suppress(OSError):
                if is_left_behind(path) or time.time() - path.stat().st_mtime > LEFT_BEHIND:
                    path.unlink()

    @contextlib.contextmanager
    def at_work(self, label: str) -> Iterator[None]:
        """Be the only one who does these jobs.

        Raises:
            CampaignError: somebody else does them.
        """
        place = self.folder / "running" / label
        place.mkdir(parents=True, exist_ok=True)
        try:
            with alone(place, wait=False):
                yield
        except BusyError as error:
            raise CampaignError(
                f"{self.folder}: this campaign is running already; --status tells how far it is"
            ) from error

    def is_at_work(self) -> bool:
        """Whether somebody does jobs here."""
        places = [path for path in (self.folder / "running").glob("*") if path.is_dir()]
        for place in places:
            try:
                with alone(place, wait=False):
                    pass
            except BusyError:
                return True
        return False

    def running(self) -> list[dict[str, Any]]:
        """The markers of jobs that have begun and not ended; of killed ones too."""
        found = []
        for path in sorted((self.folder / "running").glob("*.json")):
            with contextlib.suppress(CkdiffError):
                found.append(_json(path))
        return found


def open_store(folder: Path, name: str) -> Store:
    """The results directory of a plan, made where there is none.

    Raises:
        CampaignError: it belongs to another plan, a newer ckdiff wrote it, something else is there, or it cannot be
            written to.
    """
    if folder.exists() and not folder.is_dir():
        raise CampaignError(f"{folder}: is no directory; name another with -o DIR")
    try:
        if not (folder / "campaign.json").exists():
            if folder.exists() and any(path.name[:1] != "." for path in folder.iterdir()):
                raise CampaignError(f"{folder}: holds something else than a campaign's results; name another with -o")
            _create(folder, name)
        found = check_folder(folder)
        if found != name:
            raise CampaignError(f"{folder}: holds the results of plan {found!r}, not of {name!r}; name another with -o")
        _create(folder, name)
    except OSError as error:
        raise CampaignError(f"{folder}: cannot be written to ({error.strerror}); name another with -o DIR") from error
    return Store(folder)


def _create(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tree = {"format": FORMAT, "schema_version": SCHEMA_VERSION, "ckdiff": __version__, "name": name}
    # Written each time: a directory that can only be read is found out here. And first: else a disk that is full would
    # leave a directory that belongs to nobody.
    replace_file(folder / "campaign.json", _text(tree))
    for part in ("jobs", "base", "running"):
        (folder / part).mkdir(exist_ok=True)


def check_folder(folder: Path) -> str:
    """The name of the plan whose results a directory holds.

    Raises:
        CampaignError: it holds none, or a newer ckdiff wrote them.
    """
    if not folder.is_dir():
        raise CampaignError(f"{folder}: there is no such directory; `ckdiff campaign PLAN.toml -o DIR` makes it")
    path = folder / "campaign.json"
    if not path.is_file():
        raise CampaignError(f"{folder}: holds no campaign.json; name a results directory of `ckdiff campaign`")
    found = _json(path)
    version = found.get("schema_version")
    if found.get("format") != FORMAT or not isinstance(version, int) or not isinstance(found.get("name"), str):
        raise CampaignError(f"{path}: not what ckdiff wrote; name a results directory of `ckdiff campaign`")
    if version > SCHEMA_VERSION:
        writer = str(found.get("ckdiff", "a newer ckdiff"))[:40]
        raise CampaignError(f"{folder}: written by ckdiff {writer} (schema {version}); this one knows {SCHEMA_VERSION}")
    return str(found["name"])


def read_results(folders: Sequence[Path]) -> Results:
    """The results of one plan, from one or more directories.

    Raises:
        CampaignError: they belong to different plans, or to different versions of one, or two of them have one job with
            different inputs.
    """
    names = {check_folder(folder): folder for folder in folders}
    if len(names) > 1:
        raise CampaignError(f"{' and '.join(map(str, folders))}: hold results of plans {' and '.join(sorted(names))}")
    stores = [Store(folder) for folder in folders]
    manifests = [(store, *one) for store in stores for one in store.manifests()]
    if len({text for _, _, text, _ in manifests}) > 1:
        raise CampaignError(
            f"{' and '.join(map(str, folders))}: different versions of the plan made their jobs; run each again, which"
            " keeps what is done"
        )
    _, name, text, first = manifests[0]
    slots = list(first)
    for store, _, _, others in manifests[1:]:
        if [_place(slot) for slot in others] != [_place(slot) for slot in slots]:
            raise CampaignError(
                f"{store.folder}: the plan's globs or question files gave other jobs there; run it again on the same"
                " files"
            )
        slots = [_either(one, other) for one, other in zip(slots, others, strict=True)]
    return Results(name, text, tuple(_find_job(slot, stores) for slot in slots))


def _place(slot: Slot) -> tuple[str, str, str]:
    return slot.pair, slot.concept, slot.run


def _either(one: Slot, other: Slot) -> Slot:
    if one.key and other.key and one.key != other.key:
        raise CampaignError(
            f"{one.pair}, {one.concept or one.run}: its inputs differ between the results directories (keys"
            f" {one.key[:12]} and {other.key[:12]}); run both again on the same files"
        )
    return one if one.key or (one.reason and not other.key) else other


def _find_job(slot: Slot, stores: Iterable[Store]) -> Found:
    report = outcome = None
    for store in stores if SHA256.fullmatch(slot.key) else ():
        outcome = outcome or store.outcome(slot.key)
        if report is None and store.report(slot.key).is_file():
            report, outcome = store.report(slot.key), store.outcome(slot.key)
    return Found(slot, report, outcome)


def write_marker(path: Path, tree: dict[str, Any]) -> None:
    """A small file that others may read; where there is no room there is none."""
    with contextlib.suppress(OSError), stage(path) as temporary:
        temporary.write_bytes(_text(tree))


def sha256_of(path: Path) -> str:
    """Of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _text(tree: Any) -> bytes:
    return (json.dumps(tree, indent=1, ensure_ascii=False) + "\n").encode("utf-8", "backslashreplace")


def _json(path: Path) -> dict[str, Any]:
    """The object that a file holds.

    Raises:
        CampaignError: there is none.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError("too large")
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CampaignError(
            f"{path}: cannot be read ({str(error)[:100]}); restore it, or run the campaign again"
        ) from error
    if not isinstance(found, dict):
        raise CampaignError(f"{path}: damaged (no object); restore it, or run the campaign again")
    return found


def _record(kind: type[Kind], tree: dict[str, Any]) -> Kind:
    """A record of plain fields from JSON; keys that it does not know are left out.

    Raises:
        CampaignError: a field has another type.
    """
    types = get_type_hints(kind)
    values = {}
    for field in fields(kind):  # type: ignore[arg-type]  # a dataclass
        if field.name not in tree:
            continue
        value, wanted = tree[field.name], types[field.name]
        allowed = get_args(wanted)
        if wanted is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not (value in allowed if allowed else type(value) is wanted):
            raise CampaignError(f"{field.name}: {str(value)[:40]!r} has another type")
        values[field.name] = value
    try:
        return kind(**values)
    except TypeError as error:
        raise CampaignError(str(error)) from error
