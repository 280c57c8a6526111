"""Whether a checkpoint is the model that somebody signed: `check_model(checkpoint, place, key)`, and `sign_model`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ckdiff.audit.models.bundle import check_bundle, make_bundle, read_bundle
from ckdiff.audit.models.manifest import SIGNATURE, Flaw, compare_folder, manifest_of, read_manifest, statement_of
from ckdiff.audit.signing import SignatureError
from ckdiff.errors import CkdiffError
from ckdiff.files import create_file, sweep
from ckdiff.hub import fetch_listed
from ckdiff.untrusted import printable
from ckdiff.weights.around import settings_digests

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from securesystemslib.signer import CryptoSigner, SSlibKey

    from ckdiff.audit.models.manifest import Manifest
    from ckdiff.weights.checkpoint import Checkpoint


@dataclass(frozen=True, slots=True)
class Signed:
    """What a model's signature says, and what is wrong with it.

    Attributes:
        path: of the signature.
        root: the digest of all listed digests; "" where the signature cannot be read.
        files: how many files or pieces it lists.
        keyid: of the key that signed, or None where no key was given or it did not sign.
        flaws: why the checkpoint is not the model that was signed; nothing where it is.
    """

    path: Path
    root: str = ""
    files: int = 0
    keyid: str | None = None
    flaws: tuple[Flaw, ...] = ()


def signature_of(checkpoint: Checkpoint, place: str) -> Path:
    """Where the signature of a checkpoint lies, if it has one: in its directory.

    Args:
        checkpoint: that was opened.
        place: the path or hub id that it was opened by; an adapter's own directory, not its base's.
    """
    path = Path(os.path.abspath(place))
    if checkpoint.revision is not None and checkpoint.root is not None:
        path = checkpoint.root
    return (path if path.is_dir() else path.parent) / SIGNATURE


def check_model(
    checkpoint: Checkpoint, place: str, key: SSlibKey | None, known: Mapping[Path, str] | None = None
) -> Signed | None:
    """Hold a checkpoint against the signature beside it: every file listed, nothing else there, signed by the key.

    Args:
        checkpoint: that was opened.
        place: the path or hub id that it was opened by.
        key: from `elliptic_key`; without one nothing is said of who signed.
        known: sha256 of weight files that were hashed already, by path.

    Returns:
        What was found, or None where there is no signature and no key asks for one.
    """
    path = signature_of(checkpoint, place)
    if key is None and not path.exists():
        return None
    try:
        bundle = read_bundle(path)
        if key is not None:
            check_bundle(bundle, key)
        listed = read_manifest(bundle.payload)
        _fetch_rest(path.parent, checkpoint, listed)
        flaws = tuple(_flaws(path.parent, checkpoint, listed, known or {}))
    except SignatureError as error:
        return Signed(path, flaws=(Flaw("", str(error)),))
    except OSError as error:
        return Signed(path, flaws=(Flaw("", f"the directory cannot be read ({error.strerror})"),))
    return Signed(path, listed.root, len(listed.digests), None if key is None else str(key.keyid), flaws)


def _fetch_rest(folder: Path, checkpoint: Checkpoint, listed: Manifest) -> None:
    """Of a model of the hub what its signature lists beside what ckdiff reads: a signature is about all of it."""
    if checkpoint.revision is not None and folder.parent.name == "snapshots":
        names = {name.rsplit(":", 2)[0] if listed.piece else name for name in listed.digests}
        lacking = sorted(name for name in names if not (folder / name).exists())
        fetch_listed(checkpoint.location, checkpoint.revision, lacking)


def _flaws(folder: Path, checkpoint: Checkpoint, listed: Manifest, known: Mapping[Path, str]) -> Iterator[Flaw]:
    """First what was read and is not covered by the signature, then what differs from it."""
    for name in _read_files(folder, checkpoint):
        if listed.leaves_out(name):
            yield Flaw(name, "is read, and the signature leaves it out")
    hashed = {path.relative_to(folder).as_posix(): one for path, one in known.items() if path.is_relative_to(folder)}
    yield from compare_folder(folder, listed, hashed)


def _read_files(folder: Path, checkpoint: Checkpoint) -> list[str]:
    """The weight files and the files around them that ckdiff reads in a directory."""
    paths = {shard.path for shard in checkpoint.shards if shard.path.is_relative_to(folder)}
    names = {path.relative_to(folder).as_posix() for path in paths}
    return sorted(names | {name for name in settings_digests(checkpoint) if (folder / name).is_file()})


def listed_above(place: Path) -> Path | None:
    """The signature in a directory above a file that does not leave the file out; None where there is no such one."""
    for folder in Path(os.path.abspath(place)).parents:
        path = folder / SIGNATURE
        try:
            listed = read_manifest(read_bundle(path).payload) if path.is_file() else None
        except SignatureError:
            continue  # it holds for nothing anyway
        name = Path(os.path.abspath(place)).relative_to(folder).as_posix()
        if listed is not None and not listed.leaves_out(name):
            return path
    return None


def sign_model(folder: Path, signer: CryptoSigner, more: Iterable[Path] = ()) -> Signed:
    """Sign everything that lies in a directory: `model.sig` in it, which must not be there.

    Args:
        folder: of the model.
        signer: from `elliptic_signer`.
        more: paths in it that are left out beside the usual ones.

    Raises:
        CkdiffError: there is a signature, something that cannot be signed lies there, or it cannot be written.
    """
    path = folder / SIGNATURE
    # A hidden file that a killed run left in the directory itself would be one that nobody signed.
    aside = folder.resolve().with_name(f"{folder.resolve().name}.{SIGNATURE}")
    sweep(aside)
    if path.exists() or path.is_symlink():
        raise CkdiffError(f"{printable(path)}: is there already, and a signature is never replaced; take it away")
    try:
        listed = manifest_of(folder, [PurePosixPath(path.as_posix()) for path in more])
        create_file(path, make_bundle(statement_of(listed, folder.resolve().name), signer), aside=aside)
    except SignatureError as error:
        raise CkdiffError(f"{printable(folder)}: {error}; take it away before the model is signed") from error
    except OSError as error:
        raise CkdiffError(
            f"{printable(path)}: cannot be written ({error.strerror}); sign a copy of the model"
        ) from error
    return Signed(path, listed.root, len(listed.digests), str(signer.public_key.keyid))
