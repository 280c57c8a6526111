"""Checkpoints of the Hugging Face hub: an id becomes a local snapshot and the commit that it is.

Only safetensors, JSON, tokenizer files, chat templates and code (to be compared, never run) are fetched; pickles never
are. huggingface_hub is imported on first use.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ckdiff.errors import CheckpointError
from ckdiff.untrusted import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

WEIGHTS_AND_SETTINGS = ("*.safetensors", "*.json", "*.model", "*.spm", "*.tiktoken", "merges.txt", "vocab.txt")
"""What is fetched from the top of the repository alone."""

TEMPLATES_AND_CODE = ("*.jinja", "*.py")
"""What is fetched from its folders too, to be compared: chat templates, and code, which is never run."""

_HUB_ID = re.compile(r"(?P<id>(?:[\w][\w.-]*/)?[\w][\w.-]*)(?:@(?P<revision>[\w][\w./-]*))?", re.ASCII)


def parse_hub_id(text: str) -> tuple[str, str | None] | None:
    """Split "org/name", "org/name@revision" or "name@revision"; None where the text is no hub id.

    A bare name without a revision is taken for a path that does not exist, and so is everything that begins with "."
    or "/" or ends in ".safetensors" or ".json".

    >>> parse_hub_id("org/name@main")
    ('org/name', 'main')
    >>> parse_hub_id("./org/name") is None
    True
    """
    match = _HUB_ID.fullmatch(text)
    if match is None or text.endswith((".safetensors", ".json")):
        return None
    if "/" not in match["id"] and match["revision"] is None:
        return None
    return match["id"], match["revision"]


def download(repo_id: str, revision: str | None) -> tuple[Path, str]:
    """Fetch what ckdiff reads of a hub repository, or find it in the cache: its snapshot directory and its commit.

    Raises:
        CheckpointError: not found, gated, no such revision, no network, or offline and not in the cache.
    """
    from huggingface_hub import snapshot_download

    name = quoted(repo_id + (f"@{revision}" if revision else ""))
    try:
        snapshot = Path(
            snapshot_download(
                repo_id,
                revision=revision,
                allow_patterns=[*WEIGHTS_AND_SETTINGS, *TEMPLATES_AND_CODE],
                ignore_patterns=[f"*/{pattern}" for pattern in WEIGHTS_AND_SETTINGS],
            )
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"{name}: {_reason(error)}") from error
    except Exception as error:
        # The HTTP library's own errors: which library it is depends on huggingface_hub's version.
        if type(error).__module__.partition(".")[0] not in ("httpx", "httpcore", "requests", "urllib3"):
            raise
        raise CheckpointError(f"{name}: the hub cannot be reached ({_line(error)}); check the network") from error
    if not snapshot.is_dir():
        raise CheckpointError(f"{name}: not in the hub's cache; go online, or name a local path")
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
