"""What all pairs say together: figures 1 to 3, the paper's claims, a table and digests.

    python summary.py OUT/campaign.h5 -o RESULTS [--readme README.md]

Reads what `ckdiff gather OUT/campaign -o OUT/campaign.h5 --reports OUT/reports` has left. `--readme` puts the claims
between the two `<!-- claims -->` lines of a file.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from claims import cosines, falls, findings
from pairs import first_concept, read_pairs
from wording import attacks_table, claims_text, pairs_table

from ckdiff.campaign.gather.averages import CAUTION
from ckdiff.errors import CkdiffError
from ckdiff.report.figures.behaviour import write_behaviour_figure
from ckdiff.report.figures.campaign import write_campaign_figure
from ckdiff.report.hdf5.file import read_campaign

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pairs import Pair

    from ckdiff.report.schema.campaign import Campaign

MARK = "<!-- claims -->"
FIGURES = {"figure1.svg": "open", "figure3.svg": "isolated"}
"""By file the variant that it shows."""


def summarise(found: Campaign, pairs: Sequence[Pair], results: Path) -> str:
    """Write everything; gives the claims as Markdown.

    Raises:
        CkdiffError: what was measured does not allow it, or `results` cannot be written to.
    """
    results.mkdir(parents=True, exist_ok=True)
    for name, variant in FIGURES.items():
        write_campaign_figure(found, results / name, variant=variant)
    # Target against unrelated BLEU while the first concept was unlearned, a panel a method.
    write_behaviour_figure([(pair.method, pair.report) for pair in first_concept(pairs)], results / "figure2.svg")
    text = claims_text(found, pairs)
    (results / "claims.md").write_text(text, encoding="utf-8")
    (results / "table.md").write_text(pairs_table(pairs), encoding="utf-8")
    (results / "attacks.md").write_text(attacks_table(pairs), encoding="utf-8")
    _write_json(results / "claims.json", claims_tree(found, pairs))
    _write_json(results / "digests.json", digests(found, pairs))
    return text


def claims_tree(found: Campaign, pairs: Sequence[Pair]) -> dict[str, Any]:
    """The claims and what was measured, for scripts; what is not defined is null."""
    tree = {
        "sampling": CAUTION,
        "scores": [asdict(row) for row in findings(found)],
        "cosines": [asdict(row) for row in cosines(found)],
        "behaviour": [asdict(row) for row in falls(found, pairs)],
    }
    defined = _without_nan(tree)
    assert isinstance(defined, dict)
    return defined


def digests(found: Campaign, pairs: Sequence[Pair]) -> dict[str, Any]:
    """sha256 of everything that the figures rest on."""
    asked = [answers for pair in pairs if (answers := pair.answers("target")) is not None]
    return {
        "questions": {answers.source: answers.digest for answers in asked},
        "base": found.pairs[0].base_digest,
        "unlearned": {pair.name: pair.digest for pair in pairs},
        "reports": {f"{job.pair}, {job.run}": job.sha256 for job in found.jobs},
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
    parser = argparse.ArgumentParser(description="Figures, claims and tables from what `ckdiff gather` has left.")
    parser.add_argument("campaign", metavar="CAMPAIGN.h5", type=Path, help="what `gather -o` wrote")
    parser.add_argument(
        "--reports", metavar="DIR", type=Path, help="what `gather --reports` wrote (reports/ beside it)"
    )
    parser.add_argument("-o", "--output", metavar="RESULTS", type=Path, required=True)
    parser.add_argument("--readme", metavar="FILE", type=Path, help="a file to put the claims into")
    given = parser.parse_args(arguments)
    try:
        found = read_campaign(given.campaign)
        text = summarise(found, read_pairs(found, given.reports or given.campaign.parent / "reports"), given.output)
        if given.readme is not None:
            fill(given.readme, text)
    except (CkdiffError, OSError) as error:
        sys.stderr.write(f"summary: {error}\n")
        return 2
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
