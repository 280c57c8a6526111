"""Reports, envelopes and checkpoints that were forged, and what `ckdiff verify` says, without a key and with one.

  python benchmarks/forgeries.py            make and verify them all, and print the table of docs/verify.md
  python benchmarks/forgeries.py --expect   print the table as the tests expect it, which takes no time

The forgeries are those of `tests/test_verify.py`, in a copy of one real report of a tiny pair, which was signed before.
Every one is caught with the key. Without one those are that contradict something else in the report.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ckdiff.report.schema.report import Report
    from tests.proofs import Proof, Scene


class Forgery(NamedTuple):
    """One forgery.

    Attributes:
        of: report, envelope or checkpoint.
        plain: whether it is found without a key; of an envelope that is not asked for.
        options: of `verify`, beside the key.
    """

    of: str
    name: str
    make: Callable[[Scene], object]
    plain: bool
    options: tuple[str, ...] = ()


def forgeries() -> Iterator[Forgery]:
    """All of them, those first that only the key finds."""
    from tests.test_verify import ATTACKS, ENVELOPES, FILES

    for known in (False, True):
        for name, attack in ATTACKS.items():
            if (attack.caught is not None) is known:
                yield Forgery("report", name, partial(_forge, attack.edit), known)
    for name, (make, _) in ENVELOPES.items():
        yield Forgery("envelope", name, make, False)
    for name, (make, _) in FILES.items():
        yield Forgery("checkpoint", name, make, True, ("--base", "base"))


def _forge(edit: Callable[[Report], Report], scene: Scene) -> None:
    scene.write(edit(scene.report))


def table(rows: list[tuple[str, str, bool, bool]]) -> str:
    """Markdown, a line a forgery: what, which, and whether it was found without a key and with one."""
    lines = ["| forged | how | without a key | with the key |", "|---|---|---|---|"]
    lines += [f"| {of} | {name} | {_word(plain)} | {_word(key)} |" for of, name, plain, key in rows]
    return "\n".join(lines)


def _word(found: bool) -> str:
    return "differs" if found else "consistent"


def expected() -> str:
    """The table as the tests hold it."""
    return table([(one.of, one.name, one.plain, True) for one in forgeries()])


def verified(folder: Path) -> list[tuple[str, str, bool, bool]]:
    """Make and verify each."""
    from tests.proofs import Scene, make_proof

    proof: Proof = make_proof(folder / "proof")
    rows = []
    for number, one in enumerate(forgeries()):
        root = folder / str(number)
        shutil.copytree(proof.root, root)
        scene = Scene(root, proof.report, call)
        one.make(scene)
        options = [str(root / word) if not word.startswith("-") else word for word in one.options]
        keyed = scene.verify_signed(*options)
        rows.append((one.of, one.name, scene.verify(*options)[0] == 1, keyed[0] == 1))
        shutil.rmtree(root)
    return rows


def call(*words: object) -> tuple[int, str, str]:
    """A command in this process: status, stdout, stderr."""
    import contextlib
    import io

    from ckdiff.cli.app import run

    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        status = run([str(word) for word in words])
    return status, out.getvalue(), error.getvalue()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--expect", action="store_true")
    if parser.parse_args().expect:
        sys.stdout.write(expected() + "\n")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        rows = verified(Path(folder))
    sys.stdout.write(table(rows) + "\n")
    caught, plain = sum(row[3] for row in rows), sum(row[2] for row in rows)
    sys.stderr.write(f"{len(rows)} forgeries: {caught} found with the key, {plain} without\n")
    return 0 if table(rows) == expected() else 1


if __name__ == "__main__":
    sys.exit(main())
