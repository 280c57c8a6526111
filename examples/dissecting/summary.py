"""What all pairs say together: figures 1 to 3, the paper's claims, a table and digests.

    python summary.py OUT -o RESULTS [--readme README.md]

Reads what `run.py` has left in OUT. `--readme` puts the claims between the two `<!-- claims -->` lines of a file.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from averages import CAUTION
from claims import behaviour, cosines, findings
from curves import write_curves
from pairs import METHODS, first_concept, read_pairs
from wording import claims_text, pairs_table

from ckdiff.errors import CkdiffError
from ckdiff.report.behaviour_figure import write_behaviour_figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pairs import Pair

MARK = "<!-- claims -->"
FIGURES = {"figure1.svg": "open", "figure3.svg": "isolated"}
"""By file the variant that it shows."""


def summarise(out: Path, results: Path) -> str:
    """Write everything; gives the claims as Markdown.

    Raises:
        CkdiffError: what is in `out` does not allow it, or `results` cannot be written to.
    """
    pairs = read_pairs(out)
    results.mkdir(parents=True, exist_ok=True)
    for name, variant in FIGURES.items():
        write_curves(pairs, variant, results / name)
    write_figure2(pairs, results / "figure2.svg")
    text = claims_text(pairs)
    (results / "claims.md").write_text(text, encoding="utf-8")
    (results / "table.md").write_text(pairs_table(pairs), encoding="utf-8")
    _write_json(results / "claims.json", claims_tree(pairs))
    _write_json(results / "digests.json", digests(pairs))
    return text


def write_figure2(pairs: Sequence[Pair], path: Path) -> None:
    """Target against unrelated BLEU while the first concept was unlearned, a panel a method."""
    found = sorted(first_concept(pairs), key=lambda pair: METHODS.index(pair.method))
    write_behaviour_figure([(pair.method, pair.report) for pair in found if pair.report.behaviour], path)


def claims_tree(pairs: Sequence[Pair]) -> dict[str, Any]:
    """The claims and what was measured, for scripts; what is not defined is null."""
    tree = {
        "sampling": CAUTION,
        "scores": [asdict(row) for row in findings(pairs)],
        "cosines": [asdict(row) for row in cosines(pairs)],
        "behaviour": [asdict(row) for row in behaviour(pairs)],
    }
    found = _without_nan(tree)
    assert isinstance(found, dict)
    return found


def digests(pairs: Sequence[Pair]) -> dict[str, Any]:
    """sha256 of everything that the figures rest on."""
    return {
        "data": {pair.data["name"]: pair.data["sha256"] for pair in pairs},
        "base": pairs[0].report.provenance.base.digest,
        "unlearned": {pair.name: pair.report.provenance.unlearned.digest for pair in pairs},
        "reports": {pair.name: pair.digest for pair in pairs},
    }


def fill(readme: Path, text: str) -> None:
    """Put the claims between the two marks of a file.

    Raises:
        CkdiffError: it does not have exactly two.
    """
    parts = readme.read_text(encoding="utf-8").split(MARK)
    if len(parts) != 3:
        raise CkdiffError(f"{readme}: has {len(parts) - 1} lines {MARK}; give it two, around the place of the claims")
    readme.write_text(f"{parts[0]}{MARK}\n{text.strip()}\n{MARK}{parts[2]}", encoding="utf-8")


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Figures, claims and tables from everything that run.py has made.")
    parser.add_argument("out", metavar="OUT", type=Path, help="where run.py keeps everything")
    parser.add_argument("-o", "--output", metavar="RESULTS", type=Path, required=True)
    parser.add_argument("--readme", metavar="FILE", type=Path, help="a file to put the claims into")
    given = parser.parse_args(arguments)
    try:
        text = summarise(given.out, given.output)
        if given.readme is not None:
            fill(given.readme, text)
    except (CkdiffError, OSError) as error:
        sys.stderr.write(f"summary: {error}\n")
        return 2
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
