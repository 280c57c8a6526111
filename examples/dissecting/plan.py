"""The measurements as a plan for `ckdiff campaign`: a pair for each checkpoint that `run.py --unlearn` has made.

    python plan.py OUT --base DIR [--data DIR]

Writes OUT/campaign.toml. Then `ckdiff campaign OUT/campaign.toml`, and
`ckdiff gather OUT/campaign -o OUT/campaign.h5 --reports OUT/reports`, which is what `summary.py` reads.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jobs import UNLEARNED, notes
from pairs import METHODS

from ckdiff.errors import CkdiffError
from ckdiff.files import replace_file

if TYPE_CHECKING:
    from collections.abc import Sequence

HEAD = """# The paper's measurements on every pair, by `ckdiff campaign`. Concepts are the sampling unit.
name = "dissecting"
base = {base}
runs = ["compare", "behave", "probe"]

[measure]
modes = ["coeff", "values", "attn", "attn+coeff"]
variants = ["open", "isolated"]
most_unrelated = 20
"""
PAIR = """
[[pairs]]
name = {name}
group = {group}
unlearned = {unlearned}
questions = {questions}
concept = {concept}
"""
ANSWERS_ONLY = ("npo", "npo_kl")
"""Methods of figure 2 alone."""


def plan(out: Path, base: str, data: Path) -> str:
    """The text of the plan: a pair for each checkpoint in `out`, by concept and method.

    Raises:
        CkdiffError: there is none, or its job.json does not say what it is.
    """
    found = []
    for folder in sorted(path.parent for path in out.glob(f"*/{UNLEARNED}")):
        kept = notes(folder)
        try:
            concept, method, name = str(kept["concept"]), str(kept["method"]), str(kept["data"]["name"])
            found.append((concept, METHODS.index(method), folder.name, name))
        except (KeyError, TypeError, ValueError) as error:
            raise CkdiffError(f"{folder}: job.json does not say what was made; make it with run.py") from error
    if not found:
        raise CkdiffError(f"{out}: holds no JOB/{UNLEARNED}; `run.py --unlearn` makes them")
    text = HEAD.format(base=_path(base, out))
    for concept, place, folder_name, name in sorted(found):
        values = {
            "name": folder_name,
            "group": METHODS[place],
            "unlearned": f"{folder_name}/{UNLEARNED}",
            "questions": _relative(data / name, out),
            "concept": concept,
        }
        text += PAIR.format(**{key: _quoted(value) for key, value in values.items()})
        text += 'runs = ["behave"]\n' if METHODS[place] in ANSWERS_ONLY else ""
    return text


def _path(base: str, out: Path) -> str:
    """A directory as seen from the plan; a hub id as it is."""
    return _quoted(_relative(Path(base), out) if os.path.exists(base) else base)


def _relative(path: Path, out: Path) -> str:
    return os.path.relpath(path.absolute(), out.absolute())


def _quoted(text: str) -> str:
    """A string of TOML, which are those of JSON but for one character that neither needs here."""
    return json.dumps(text, ensure_ascii=False)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Write OUT/campaign.toml, a plan over every checkpoint in OUT.")
    parser.add_argument("out", metavar="OUT", type=Path, help="where run.py keeps everything")
    parser.add_argument("--base", metavar="DIR", default="base", help="the model before (base)")
    parser.add_argument("--data", metavar="DIR", type=Path, default=Path(), help="where the ConceptVectors files lie")
    given = parser.parse_args(arguments)
    try:
        replace_file(given.out / "campaign.toml", plan(given.out, given.base, given.data).encode())
    except (CkdiffError, OSError) as error:
        sys.stderr.write(f"plan: {error}\n")
        return 2
    sys.stdout.write(f"{given.out / 'campaign.toml'}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
