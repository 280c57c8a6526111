"""The same, guided by coverage: what reaches new lines is kept and changed further. It needs `pip install atheris`.

  python benchmarks/fuzz_guided.py header|index|report CORPUS [-max_total_time=300] [any other option of libFuzzer]

Two changes of three keep the form (JSON, a report's tree), the others are libFuzzer's own, of bytes. An exception that
is not ckdiff's, a crash, more than five seconds or 1 GB end it, with the input in a file beside CORPUS. libhdf5 is C
that is not followed: of `report` the bytes are those of the tree that the process apart sends.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import pkgutil
import random
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import atheris  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent


class Target(NamedTuple):
    """What is attacked: a reader of bytes, what it begins with, and a change that keeps the form."""

    use: Callable[[bytes], object]
    seeds: list[bytes]
    change: Callable[[bytes, random.Random], bytes]


def header(folder: Path) -> Target:
    """The header of a weight file, with its length before it."""
    from ckdiff.calls.inspect import inspect
    from tests.checkpoints import llama, save

    place = save(folder / "model", llama(layers=1))
    path = place / "model.safetensors"
    content = path.read_bytes()
    size = 8 + int.from_bytes(content[:8], "little")

    def use(data: bytes) -> None:
        path.write_bytes(data + content[size:])
        inspect(str(place))

    def change(data: bytes, chance: random.Random) -> bytes:
        text = _change(data[8:], chance)
        return len(text).to_bytes(8, "little") + text

    return Target(use, [content[:size]], change)


def index(folder: Path) -> Target:
    """An index file."""
    from ckdiff.calls.inspect import inspect
    from tests.checkpoints import llama, save

    place = save(folder / "model", llama(layers=1), shards=2)
    path = place / "model.safetensors.index.json"

    def use(data: bytes) -> None:
        path.write_bytes(data)
        inspect(str(place))

    return Target(use, [path.read_bytes()], _change)


def report(folder: Path) -> Target:
    """What the process apart says of a report's file."""
    from fuzz_mutations import change_tree
    from fuzz_reports import read_tree, small_seeds

    from ckdiff.errors import ReportError
    from ckdiff.report.hdf5 import apart
    from ckdiff.report.hdf5.file import DAMAGE
    from ckdiff.report.hdf5.report import to_tree

    def use(data: bytes) -> None:
        try:
            tree = apart._unpack(memoryview(data))
        except DAMAGE as error:
            raise ReportError("damaged") from error
        read_tree(tree)

    def change(data: bytes, chance: random.Random) -> bytes:
        return b"".join(apart._pack(change_tree(apart._unpack(memoryview(data)), chance)))

    return Target(use, [b"".join(apart._pack(to_tree(one))) for one in small_seeds()], change)


def _change(data: bytes, chance: random.Random) -> bytes:
    from fuzz_mutations import change_json

    return json.dumps(change_json(json.loads(data), chance)).encode("utf-8", "replace")


def import_all() -> None:
    """Everything whose lines are followed."""
    with atheris.instrument_imports(include=["ckdiff"]):
        for name in ("weights", "report", "calls"):
            room = importlib.import_module(f"ckdiff.{name}")
            for module in pkgutil.walk_packages(room.__path__, f"ckdiff.{name}."):
                importlib.import_module(module.name)


def main() -> None:
    """Run one of them."""
    sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]
    import_all()
    from ckdiff.errors import CkdiffError

    name, corpus = sys.argv[1], Path(sys.argv[2])
    corpus.mkdir(parents=True, exist_ok=True)
    target: Target = {"header": header, "index": index, "report": report}[name](Path(tempfile.mkdtemp()))
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed{number}").write_bytes(seed)

    def one(data: bytes) -> None:
        with contextlib.suppress(CkdiffError):
            target.use(data)

    def change(data: bytes, most: int, seed: int) -> Any:
        chance = random.Random(seed)
        if chance.random() < 0.67:
            with contextlib.suppress(Exception):
                return target.change(data, chance)[:most]
        return atheris.Mutate(data, most)

    longest = f"-max_len={4 * max(map(len, target.seeds))}"
    options = ["-timeout=5", "-rss_limit_mb=1536", longest, f"-artifact_prefix={corpus.parent}/{name}-"]
    atheris.Setup([sys.argv[0], str(corpus), *options, *sys.argv[3:]], one, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
