"""The Hugging Face hub: an id becomes files in huggingface_hub's cache, and the commit that they are of.

Of models only safetensors, JSON, tokenizer files, chat templates, signatures and code (to be compared, never run) are
fetched, and what a signature lists where it is checked; of data sets only the files that are asked for; pickles never
are. What was fetched once is found without a network.
huggingface_hub is imported on first use.
"""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ckdiff.errors import CheckpointError, CkdiffError
from ckdiff.untrusted import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

WEIGHTS_AND_SETTINGS = ("*.safetensors", "*.json", "*.model", "*.spm", "*.tiktoken", "merges.txt", "vocab.txt", "*.sig")
"""What is fetched from the top of the repository alone."""

TEMPLATES_AND_CODE = ("*.jinja", "*.py")
"""What is fetched from its folders too, to be compared: chat templates, and code, which is never run."""

_HUB_ID = re.compile(
    r"(?P<hub>hf:/+(?!(?:datasets|spaces)/))?(?P<id>(?:[\w][\w.-]*/)?[\w][\w.-]*)(?:@(?P<revision>[\w][\w./-]*))?",
    re.ASCII,
)


PICKLES = ("*.pkl", "*.pickle", "*.bin", "*.pt", "*.pth", "*.ckpt")
"""What is not fetched of a model, whatever its signature lists."""

NEVER = ("*.py", *PICKLES)
"""What is not fetched of a data set, whatever its card says."""

LARGEST_CARD = 4_000_000

_DATA_ID = re.compile(
    r"(?P<hub>hf:/+(?:datasets/)?)?(?!datasets/)(?P<repo>[\w-][\w.-]*/[\w-][\w.-]*)(?:@(?P<revision>refs/(?:convert|pr)/[\w.-]+|[\w.-]+))?"
    r"(?(hub)(?:/(?P<path>[^:]+))?)(?::(?P<config>[^:/]*)(?::(?P<split>[^:/]*))?)?",
    re.ASCII,
)


def parse_hub_id(text: str) -> tuple[str, str | None] | None:
    """Split "org/name", "org/name@revision" or "name@revision"; None where the text is no hub id. "hf://" may lead.

    A bare name with neither is taken for a path that does not exist, and so is everything that begins with "." or "/"
    or ends in ".safetensors" or ".json".

    >>> parse_hub_id("org/name@main")
    ('org/name', 'main')
    >>> parse_hub_id("hf://gpt2")
    ('gpt2', None)
    >>> parse_hub_id("./org/name") is None
    True
    """
    match = _HUB_ID.fullmatch(text)
    if match is None or text.endswith((".safetensors", ".json")):
        return None
    if "/" not in match["id"] and match["revision"] is None and match["hub"] is None:
        return None
    return match["id"], match["revision"]


def download(repo_id: str, revision: str | None) -> tuple[Path, str]:
    """Fetch what ckdiff reads of a model, or find it in the cache: its snapshot directory and its commit.

    Raises:
        CheckpointError: not found, gated, no such revision, no network, or offline and not in the cache.
    """
    patterns = [*WEIGHTS_AND_SETTINGS, *TEMPLATES_AND_CODE]
    ignored = [f"*/{pattern}" for pattern in WEIGHTS_AND_SETTINGS]
    return _fetch(CheckpointError, repo_id, revision, allow_patterns=patterns, ignore_patterns=ignored)


def fetch_listed(repo_id: str, commit: str, names: Iterable[str]) -> None:
    """Fetch files of a model by name, whatever else they are than pickles, into the snapshot where the rest of it lies.

    What the repository does not have stays away, and so does all of it without a network.

    Raises:
        CheckpointError: the hub refuses.
    """
    wanted = [glob.escape(name) for name in names if not _fits(name, PICKLES)]
    if wanted:
        _fetch(CheckpointError, repo_id, commit, allow_patterns=wanted)


@dataclass(frozen=True, slots=True)
class DataId:
    """Part of a data set on the hub: a file (or a pattern of files), or a config and a split of it.

    Attributes:
        repo: "org/name".
        revision: a branch, tag or commit; None for the main branch.
        path: a file in the repository; else empty.
        config, split: as its card names them; empty where it has only one, or a default.
    """

    repo: str
    revision: str | None = None
    path: str = ""
    config: str = ""
    split: str = ""

    def __str__(self) -> str:
        revision = f"@{self.revision}" if self.revision else ""
        path = f"/{self.path}" if self.path else ""
        names = ":".join(filter(None, (self.config, self.split)))
        return f"hf://datasets/{self.repo}{revision}{path}{':' if names else ''}{names}"


def parse_data_id(text: str) -> DataId | None:
    """Read "hf://datasets/org/name@revision/path" or "org/name@revision:config:split"; None where a text is neither.

    "datasets/" may be left out, and so may the revision, the path, the config where one is the default, and the split
    where there is only one.

    >>> parse_data_id("hf://datasets/locuslab/TOFU/forget10.json")
    DataId(repo='locuslab/TOFU', revision=None, path='forget10.json', config='', split='')
    >>> str(parse_data_id("cais/wmdp:wmdp-bio:test"))
    'hf://datasets/cais/wmdp:wmdp-bio:test'
    >>> parse_data_id("pair/target.jsonl") is None
    True
    """
    match = _DATA_ID.fullmatch(text)
    if match is None or (match["hub"] is None and match["config"] is None):
        return None
    return DataId(match["repo"], match["revision"], *(match[name] or "" for name in ("path", "config", "split")))


def find_data_id(text: str | Path, folder: str | Path = "") -> DataId | None:
    """As `parse_data_id`, but None where a file of that name, or its directory, is in a folder."""
    path = Path(folder, text)
    return None if os.path.lexists(path) or os.path.isdir(path.parent) else parse_data_id(str(text))


def data_path(folder: Path, text: str) -> Path:
    """A path from a folder, or a data set of the hub as it stands."""
    return Path(text) if find_data_id(text, folder) else folder / text


def fetch_data(data: DataId, most: int, error: type[CkdiffError]) -> tuple[Path, str, list[str]]:
    """Fetch the files of a data set, or find them in the cache: its directory, its commit, and their names in it.

    Args:
        data: what is wanted.
        most: how many bytes of it are downloaded.
        error: what is raised where it cannot be had.
    """
    revision, patterns = data.revision, [data.path]
    if not data.path:
        root, revision = _fetch(error, data.repo, revision, repo_type="dataset", allow_patterns=["README.md"])
        patterns = _patterns(root / "README.md", data, error)
    wanted = {"allow_patterns": patterns, "ignore_patterns": list(NEVER)}
    root, commit = _fetch(error, data.repo, revision, most, repo_type="dataset", **wanted)
    # Files of the cache are links to its blobs; a link to anywhere else is none of the data set.
    cache = root.resolve().parents[1]
    inside = [path for path in root.rglob("*") if path.is_file() and path.resolve().is_relative_to(cache)]
    every = sorted(path.relative_to(root).as_posix() for path in inside)
    found = [name for name in every if _fits(name, patterns) and not _fits(name, NEVER)]
    if not found:
        has = ", ".join(map(quoted, every[:20])) or "nothing"
        raise error(f"{quoted(str(data))}: no such file in it, or not in the cache; there is {has}")
    return root, commit, found


def _fits(name: str, patterns: Sequence[str]) -> bool:
    """As huggingface_hub compares them."""
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def _patterns(card: Path, data: DataId, error: type[CkdiffError]) -> list[str]:
    """Which files are a config's split, as the card of a data set says."""
    configs = {str(one.get("config_name")): one for one in _configs(card, data, error)}
    if not configs:
        raise error(f"{quoted(str(data))}: its card names no configs; name a file: hf://datasets/{data.repo}/FILE")
    standard = [name for name, one in configs.items() if name == "default" or one.get("default") is True]
    config = _choose_name("config", data.config, list(configs), standard, data, error)
    files = configs[config].get("data_files") or f"{configs[config].get('data_dir', '')}/*".lstrip("/")
    if isinstance(files, list) and all(isinstance(one, dict) for one in files):
        splits = {str(one.get("split")): one.get("path") for one in files}
    else:
        splits = files if isinstance(files, dict) else {"train": files}
    paths = splits[_choose_name("split", data.split, list(splits), [], data, error)]
    return [str(path) for path in (paths if isinstance(paths, list) else [paths])]


def _configs(card: Path, data: DataId, error: type[CkdiffError]) -> list[dict[str, Any]]:
    from huggingface_hub import metadata_load

    if not card.is_file():
        return []
    try:
        if card.stat().st_size > LARGEST_CARD:
            raise ValueError(f"larger than {LARGEST_CARD} bytes")
        found = (metadata_load(card) or {}).get("configs")
    except Exception as problem:
        # YAML's own errors; its package is a dependency of huggingface_hub, not of ours.
        file = f"name a file: hf://datasets/{data.repo}/FILE"
        raise error(f"{quoted(str(data))}: its card cannot be read ({_line(problem)}); {file}") from problem
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _choose_name(
    what: str, wanted: str, there: Sequence[str], standard: Sequence[str], data: DataId, error: type[CkdiffError]
) -> str:
    """The config or split of a name; without one the standard one, or the only one."""
    usual = standard or there
    if wanted in there or (not wanted and len(usual) == 1):
        return wanted or usual[0]
    has = ", ".join(map(quoted, there[:20])) + (f" and {len(there) - 20} more" if len(there) > 20 else "")
    why = f"no {what} {quoted(wanted)}" if wanted else f"{len(there)} {what}s"
    raise error(f"{quoted(str(data))}: {why}; write {data.repo}:CONFIG:SPLIT; it has: {has}")


def _fetch(
    error: type[CkdiffError], repo_id: str, revision: str | None, most: int | None = None, **options: Any
) -> tuple[Path, str]:
    """The snapshot and the commit of a repository; `most` bytes of it, if that is given."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import DryRunError

    name = quoted(repo_id + (f"@{revision}" if revision else ""))
    try:
        if most is not None:
            # Without a network nothing can be planned, nor downloaded.
            with contextlib.suppress(DryRunError):
                plan = snapshot_download(repo_id, revision=revision, dry_run=True, **options)
                if sum(file.file_size or 0 for file in plan) > most:
                    raise error(f"{name}: more than {most} bytes; name a part of it")
        snapshot = Path(snapshot_download(repo_id, revision=revision, **options))
    except (OSError, ValueError, RuntimeError) as problem:
        raise error(f"{name}: {_reason(problem)}") from problem
    except Exception as problem:
        # The HTTP library's own errors: which library it is depends on huggingface_hub's version.
        if type(problem).__module__.partition(".")[0] not in ("httpx", "httpx2", "httpcore", "requests", "urllib3"):
            raise
        raise error(f"{name}: the hub cannot be reached ({_line(problem)}); check the network") from problem
    if not snapshot.is_dir():
        raise error(f"{name}: not in the hub's cache; go online, or name a local path")
    return snapshot, snapshot.name


def _reason(error: Exception) -> str:
    """Why a download failed, and what to do; the first error of the chain that is understood decides."""
    from huggingface_hub import errors

    for link in _chain(error):
        if isinstance(link, errors.GatedRepoError):
            return "a gated repository; ask for access on the hub, then `hf auth login`"
        if isinstance(link, errors.RevisionNotFoundError):
            return "no such revision; check what stands after @"
        if isinstance(link, errors.RepositoryNotFoundError):
            return "no such repository on the hub, or a private one, and no such path here; check the name"
        if isinstance(link, errors.OfflineModeIsEnabled):
            return "not in the hub's cache, and HF_HUB_OFFLINE is set; unset it, or name a local path"
        if isinstance(link, errors.HFValidationError):
            return f"not a hub id ({_line(link)}); name a path or org/name@revision"
    if isinstance(error, errors.LocalEntryNotFoundError):
        return "not in the hub's cache, and the hub cannot be reached; check the network, or name a local path"
    return f"cannot be fetched from the hub ({_line(error)}); check the name and the network"


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(10):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:200]
