"""What a model's signature lists, and what lies in a directory: `read_manifest(payload)`, `compare_folder(...)`.

The payload is an in-toto Statement of one subject, whose sha256 (the root digest) is that of all digests of the list,
one after the other. The list has every file of the directory, or every piece of each file, but for the paths that the
statement itself leaves out. Names of the list are never opened: what lies there is listed anew and compared.

Source: sigstore/model-transparency 1.1.1, docs/model_signing_format.md and the statement that it writes.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from ckdiff.audit.signing import SignatureError
from ckdiff.untrusted import printable, shorten, strict_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

SIGNATURE = "model.sig"
"""The name that signers give a signature, and leave out of it."""

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"

PREDICATE_TYPE = "https://model_signing/signature/v1.0"

LEFT_OUT = (SIGNATURE, ".git", ".gitattributes", ".github", ".gitignore")
"""What a signature of ours does not list, as model_signing's own do not."""

HASHES: dict[str, Callable[[], Any]] = {"sha256": hashlib.sha256, "blake2b": hashlib.blake2b, "blake2": hashlib.blake2b}

CHUNK = 1 << 20

MOST_PIECES = 1_000_000


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a statement lists.

    Attributes:
        root: the digest of all digests, recomputed.
        digests: of every file by its path in the directory, or of every piece as "path:start:end".
        algorithm: that made them.
        piece: bytes of a piece; 0 where files are whole.
        links: whether links to files count as files.
        left_out: paths that are not listed, nor anything below them.
    """

    root: str
    digests: Mapping[str, str]
    algorithm: str
    piece: int
    links: bool
    left_out: tuple[str, ...]

    def leaves_out(self, name: str) -> bool:
        """Whether a path, or a directory above it, is left out; a signature never lists itself."""
        return name == SIGNATURE or any(PurePosixPath(name).is_relative_to(PurePosixPath(one)) for one in self.left_out)


class Flaw(NamedTuple):
    """A file, and what is wrong with it."""

    name: str
    text: str


# ----------------------------------------------------------------------------------------------------- the statement


def read_manifest(payload: bytes) -> Manifest:
    """The list of a statement, its root digest recomputed.

    Raises:
        SignatureError: it is no statement of this kind, or contradicts itself.
    """
    try:
        tree = strict_json(payload)
        _demand(tree, "_type", STATEMENT_TYPE)
        _demand(tree, "predicateType", PREDICATE_TYPE)
        (subject,) = tree["subject"]
        stated, rows = subject["digest"]["sha256"], tree["predicate"]["resources"]
        method = tree["predicate"]["serialization"]
        digests = {row["name"]: bytes.fromhex(row["digest"]) for row in rows}
        if not all(isinstance(name, str) for name in digests):
            raise TypeError("name")
        if len(digests) != len(rows):
            raise SignatureError("it lists a file twice")
        found = _serialization(method, hashlib.sha256(b"".join(digests.values())).hexdigest(), digests)
        algorithms = {row["algorithm"] for row in rows}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SignatureError(
            f"its payload is no statement about a model ({shorten(printable(error), 80)}): cut off, or edited"
        ) from error
    if algorithms - {found.algorithm, f"{found.algorithm}-sharded-{found.piece}"}:
        raise SignatureError(f"its list says other algorithms than {found.algorithm}")
    if found.root != stated:
        raise SignatureError(f"its root digest is {found.root}, and it says {shorten(printable(stated), 80)}")
    return found


def _demand(tree: dict[str, Any], name: str, wanted: str) -> None:
    if tree[name] != wanted:
        raise SignatureError(f"its {name} is {shorten(printable(tree[name]), 60)}, not {wanted}")


def _serialization(method: dict[str, Any], root: str, digests: dict[str, bytes]) -> Manifest:
    """The manifest of a list that was made in a way that ckdiff can repeat."""
    kind, algorithm = method["method"], method["hash_type"]
    if kind not in ("files", "shards"):
        raise SignatureError(f"it lists {shorten(printable(kind), 40)}; ckdiff knows files and shards")
    if algorithm not in HASHES:
        raise SignatureError(
            f"its digests are {shorten(printable(algorithm), 40)}, which ckdiff does not compute; sign with sha256"
        )
    piece = method["shard_size"] if kind == "shards" else 0
    # Protobuf writes numbers of JSON as floats.
    if kind == "shards" and not (isinstance(piece, int | float) and 1 <= piece < 1 << 62):
        raise SignatureError("its shards have no size")
    left_out = method.get("ignore_paths", [])
    if not isinstance(left_out, list) or not all(isinstance(one, str) for one in left_out):
        raise TypeError("ignore_paths")
    links = method["allow_symlinks"] is True
    return Manifest(
        root, {name: one.hex() for name, one in digests.items()}, algorithm, int(piece), links, tuple(left_out)
    )


# ----------------------------------------------------------------------------------------------------- the directory


def compare_folder(folder: Path, listed: Manifest, known: Mapping[str, str]) -> Iterator[Flaw]:
    """Everything in which a directory is not what a signature lists: files that are missing, changed or not listed.

    Args:
        folder: the directory.
        listed: from `read_manifest`.
        known: sha256 of files that were hashed already, by name.
    """
    names, flaws = files_in(folder, listed)
    yield from flaws
    there = {name for _, name, _, _ in _pieces(folder, names, listed.piece)}
    for name in sorted(there - listed.digests.keys()):
        yield Flaw(name, "is not listed: it came after the signature")
    for name in sorted(listed.digests.keys() - there):
        yield Flaw(name, "is listed and not there")
    for file, name, start, end in _pieces(folder, names, listed.piece):
        if name not in listed.digests:
            continue
        whole = known.get(file) if listed.algorithm == "sha256" and not listed.piece else None
        found = whole or _digest(folder / file, listed.algorithm, start, end)
        if found != listed.digests[name]:
            yield Flaw(name, f"is not the file that was signed: listed {listed.digests[name]}, found {found}")


def files_in(folder: Path, listed: Manifest) -> tuple[list[str], list[Flaw]]:
    """The paths of all files of a directory that a signature does not leave out, sorted; and what may not be there."""
    names, flaws = [], []
    for name, entry in _entries(folder, listed):
        try:
            mode = os.stat(entry.path).st_mode
        except OSError as error:
            flaws.append(Flaw(name, f"cannot be read ({error.strerror})"))
            continue
        if entry.is_symlink() and not _may_lead(folder, name, listed):
            flaws.append(Flaw(name, "is a link, and the signature allows none"))
        elif stat.S_ISREG(mode):
            names.append(name)
        else:
            flaws.append(Flaw(name, "is neither a file nor a directory of its own"))
    return sorted(names, key=PurePosixPath), flaws


def _may_lead(folder: Path, name: str, listed: Manifest) -> bool:
    """Whether a link counts: the signature says so, or it is one of the hub's cache, from a snapshot to its blob."""
    from ckdiff.errors import CheckpointError
    from ckdiff.weights.reader import inside

    try:
        inside(folder, name)
    except CheckpointError:
        return False
    return listed.links or folder.parent.name == "snapshots"


def _entries(folder: Path, listed: Manifest) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Everything below a directory but directories, which are entered; links are not."""
    waiting = [""]
    while waiting:
        above = waiting.pop()
        with os.scandir(folder / above) as entries:
            for entry in entries:
                name = f"{above}{entry.name}"
                if listed.leaves_out(name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{name}/")
                else:
                    yield name, entry


def _pieces(folder: Path, names: list[str], piece: int) -> Iterator[tuple[str, str, int, int]]:
    """Of every file its name, and of every piece of it the name in a list, the start and the end."""
    for name in names:
        size = (folder / name).stat().st_size
        if not piece:
            yield name, name, 0, size
            continue
        if size > piece * MOST_PIECES:
            raise SignatureError(f"its pieces are of {piece} bytes, too small for {printable(name)}")
        for start in range(0, size, piece):
            end = min(start + piece, size)
            yield name, f"{name}:{start}:{end}", start, end


def _digest(path: Path, algorithm: str, start: int, end: int) -> str:
    """The digest of a part of a file."""
    found = HASHES[algorithm]()
    with path.open("rb") as file:
        file.seek(start)
        left = end - start
        while left and (part := file.read(min(CHUNK, left))):
            found.update(part)
            left -= len(part)
    return str(found.hexdigest())


def manifest_of(folder: Path, more: Iterable[PurePosixPath] = ()) -> Manifest:
    """A list of everything in a directory, as it is signed: whole files by sha256, no links.

    Args:
        folder: the directory.
        more: paths in it that are left out beside the usual ones.

    Raises:
        SignatureError: something lies there that cannot be signed.
    """
    left_out = (*LEFT_OUT, *map(str, more))
    blank = Manifest("", {}, "sha256", 0, links=False, left_out=left_out)
    names, flaws = files_in(folder, blank)
    if flaws:
        raise SignatureError(f"{printable(flaws[0].name)} {flaws[0].text}")
    digests = {name: _digest(folder / name, "sha256", 0, (folder / name).stat().st_size) for name in names}
    root = hashlib.sha256(b"".join(map(bytes.fromhex, digests.values()))).hexdigest()
    return Manifest(root, digests, "sha256", 0, links=False, left_out=left_out)


def statement_of(found: Manifest, name: str) -> bytes:
    """The statement of a list of whole files, as it is signed.

    Args:
        found: from `manifest_of`.
        name: of the model; only informative.
    """
    serialization = {
        "method": "files",
        "hash_type": found.algorithm,
        "allow_symlinks": found.links,
        "ignore_paths": list(found.left_out),
    }
    rows = [{"name": name, "algorithm": found.algorithm, "digest": one} for name, one in found.digests.items()]
    tree = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": found.root}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {"serialization": serialization, "resources": rows},
    }
    return json.dumps(tree, sort_keys=True, separators=(",", ":")).encode("ascii")
