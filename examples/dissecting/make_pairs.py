"""The paper's pairs: every concept unlearned by every method, and the plan of what `ckdiff campaign` measures on them.

    python make_pairs.py DATA.json OUT --base DIR [--concepts "A" "B"] [--pairs a-graddiff ...] [--dry-run]

A pair is one concept and one method; its checkpoint becomes OUT/CONCEPT-METHOD/unlearned. One that is there is not made
again, an interrupted training is gone on with, and one that fails does not stop the others. Every command is printed.
The plan is OUT/campaign.toml.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ckdiff.errors import CkdiffError, ExitStatus
from ckdiff.files import replace_file

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMON = {
    "--precision": "bfloat16",
    "--batch-size": "8",
    "--accumulation": "1",
    "--length": "128",
    "--eval-steps": "2",
    "--steps": "45",
    "--warmup": "2",
    "--most-unrelated": "20",
    "--seed": "0",
    "--stop-when": "target_bleu<0.3",
    "--lr": "2e-5",
    # On text, unrelated answers fell as fast: so small a model forgets how to answer at all. Ascent on the answers
    # themselves, holding on to those to general questions, is the setting of TOFU.
    "--train-on": "answers",
}
"""What every recipe says, unless it says otherwise itself."""
RECIPES = {
    "graddiff": {"--retain-loss": "kl", "--retain-weight": "3"},
    "dpo": {"--preferred": "refusal"},
    "npo": {"--steps": "30"},
    # NPO's log p are sums over 30 tokens, KL is a mean: with a weight of 1 it would hardly be felt.
    "npo_kl": {"--steps": "30", "--retain-weight": "400"},
}
"""By method what `ckdiff unlearn` is told."""
WHOLE = ("compare", "behave", "probe", "attack")
RUNS = {"graddiff": WHOLE, "dpo": WHOLE, "npo": ("behave",), "npo_kl": ("behave",)}
"""By method what is measured; NPO stands in Figure 2 alone, for the first concept."""
MEASURE = {
    "modes": ["coeff", "values", "attn", "attn+coeff"],
    "variants": ["open", "isolated"],
    "most_unrelated": 20,
}
"""How: the plan's `[measure]`."""
PLAN, COMMAND, PARTIAL = "campaign.toml", "command.txt", ".unlearned.unlearning"
"""The plan; which command a checkpoint was made by; where ckdiff keeps an interrupted training."""
INTERRUPTED = 130
"""The exit status of whatever Ctrl-C has stopped."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One concept, one method.

    Attributes:
        data: the file that holds the concept.
        folder: where its checkpoint lies.
        precision: in which it is trained.
    """

    concept: str
    method: str
    data: Path
    folder: Path
    precision: str = COMMON["--precision"]

    @property
    def unlearned(self) -> Path:
        """The checkpoint that is made."""
        return self.folder / "unlearned"


def slug(concept: str) -> str:
    """A concept as part of a directory's name.

    >>> slug("Valentine's Day")
    'valentine-s-day'
    """
    return re.sub(r"\W+", "-", concept.casefold()).strip("-")


def pairs(
    paths: Sequence[Path],
    out: Path,
    concepts: Sequence[str],
    only: Sequence[str],
    precision: str = COMMON["--precision"],
) -> list[Pair]:
    """Every pair, in order; `only` picks some by name. The first concept has all methods, the others those of `WHOLE`.

    Raises:
        CkdiffError: a concept is in no file or in more than one, or `only` names no pair.
    """
    found = []
    for number, concept in enumerate(concepts):
        data = holding(concept, paths)
        methods = [method for method, runs in RUNS.items() if number == 0 or runs == WHOLE]
        found += [Pair(concept, method, data, out / f"{slug(concept)}-{method}", precision) for method in methods]
    names = [pair.folder.name for pair in found]
    if missing := sorted(set(only) - set(names)):
        raise CkdiffError(f"--pairs: no {', '.join(missing)}; there are {', '.join(names)}")
    return [pair for pair in found if not only or pair.folder.name in only]


def holding(concept: str, paths: Sequence[Path]) -> Path:
    """The one file with an entry of this name.

    Raises:
        CkdiffError: there is none, there are more, or a file cannot be read.
    """
    found = [path for path in paths for name in names_in(path) if name == concept.strip().casefold()]
    if len(found) != 1:
        raise CkdiffError(f"{concept}: {len(found)} entries of the files have this name; choose a concept of one")
    return found[0]


def names_in(path: Path) -> list[str]:
    """Names of the concepts of a ConceptVectors file, in lower case.

    Raises:
        CkdiffError: it cannot be read, or is no such file.
    """
    try:
        return [str(row["Concept"]).strip().casefold() for row in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CkdiffError(f"{path}: no ConceptVectors file ({error!r}); name one") from error


def chosen(out: Path) -> list[str]:
    """The concepts that `choose_concepts.py -o OUT/concepts.json` has chosen.

    Raises:
        CkdiffError: it has not been run.
    """
    path = out / "concepts.json"
    try:
        return list(map(str, json.loads(path.read_text(encoding="utf-8"))["chosen"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CkdiffError(f"{path}: no chosen concepts there; name some with --concepts") from error


# -------------------------------------------------------------------------------------------------------------- plan


def plan(made: Sequence[Pair], out: Path, base: Path) -> str:
    """What `ckdiff campaign` measures on the pairs, as a plan's text; paths begin in `out`."""
    parts = [table("", {"name": "dissecting", "base": seen_from(out, base)}), table("[measure]", MEASURE)]
    parts += [
        table(
            "[[pairs]]",
            {
                "name": pair.folder.name,
                "group": pair.method,
                "unlearned": seen_from(out, pair.unlearned),
                "questions": seen_from(out, pair.data),
                "concept": pair.concept,
                "runs": list(RUNS[pair.method]),
            },
        )
        for pair in made
    ]
    return "\n".join(["# Written by make_pairs.py; `ckdiff campaign` measures it.\n", *parts])


def table(head: str, values: dict[str, object]) -> str:
    """A table of TOML; texts and lists are written there as in JSON."""
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in values.items()]
    return "".join([f"{head}\n" if head else "", *lines])


def seen_from(folder: Path, path: Path) -> str:
    """A path as a file in `folder` names it."""
    return Path(os.path.relpath(path, folder)).as_posix()


def write_plan(text: str, out: Path) -> None:
    """Write the plan, whole or not at all."""
    out.mkdir(parents=True, exist_ok=True)
    replace_file(out / PLAN, text.encode())


# ---------------------------------------------------------------------------------------------------------- training


def command(pair: Pair, base: Path) -> list[str]:
    """The command line that makes a pair."""
    recipe = COMMON | RECIPES[pair.method] | {"--precision": pair.precision}
    options = [word for option in recipe.items() for word in option]
    what = ["--forget", str(pair.data), "--concept", pair.concept]
    return ["ckdiff", "unlearn", str(base), "--method", pair.method, *what, *options, "-o", str(pair.unlearned)]


def make(pair: Pair, base: Path, dry: bool) -> str:
    """Make a pair that is not there; says what went wrong, or nothing."""
    line = shlex.join(command(pair, base))
    if pair.unlearned.is_dir():
        return "" if made_by(pair) in ("", line) else f"was made by another command; remove {pair.folder} to redo it"
    words = [*command(pair, base), *(["--resume"] if (pair.folder / PARTIAL).exists() else [])]
    sys.stdout.write(f"{shlex.join(words)}\n")
    sys.stdout.flush()
    if dry:
        return ""
    pair.folder.mkdir(parents=True, exist_ok=True)
    (pair.folder / COMMAND).write_text(f"{line}\n", encoding="utf-8")
    status = execute(words)
    return "" if status == ExitStatus.OK else f"unlearn ended with exit status {status}"


def made_by(pair: Pair) -> str:
    """The command line by which a pair was made; nothing where it is not known."""
    path = pair.folder / COMMAND
    return path.read_text(encoding="utf-8").strip() if path.exists() else ""


def execute(words: Sequence[str]) -> int:
    """Run a command of ckdiff by this Python; what it says goes to stderr, where its progress is.

    Raises:
        KeyboardInterrupt: it was stopped, and so is all of this.
    """
    process = subprocess.Popen([sys.executable, "-m", *words], stdout=sys.stderr)
    try:
        status = process.wait()
    except KeyboardInterrupt:
        # It has had the same Ctrl-C, and keeps what it has done before it ends.
        process.wait()
        raise
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    return status


def run(todo: Sequence[Pair], base: Path, dry: bool) -> int:
    """All pairs; 1 where one of them failed, which the others do not mind."""
    failures = []
    for pair in todo:
        try:
            failure = make(pair, base, dry)
        except OSError as error:
            failure = str(error)
        failures += [f"{pair.folder.name}: {failure}"] if failure else []
    for failure in failures:
        say(failure)
    return 1 if failures else 0


def say(text: str) -> None:
    sys.stderr.write(f"make_pairs: {text}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description="Unlearn every concept by every method, and write the campaign's plan."
    )
    parser.add_argument("data", metavar="DATA", type=Path, nargs="+", help="ConceptVectors JSON")
    parser.add_argument("out", metavar="OUT", type=Path, help="where everything is kept")
    parser.add_argument("--base", metavar="DIR", type=Path, default=Path("base"), help="the model before (base)")
    parser.add_argument("--concepts", nargs="+", default=[], help="else those that OUT/concepts.json has chosen")
    parser.add_argument("--pairs", nargs="+", default=[], metavar="PAIR", help="only these, such as super-mario-dpo")
    parser.add_argument(
        "--precision", choices=("bfloat16", "float32"), default=COMMON["--precision"], help="to train in (bfloat16)"
    )
    parser.add_argument("--dry-run", action="store_true", help="write the plan, print the commands, and stop")
    given = parser.parse_args(arguments)
    try:
        todo = pairs(given.data, given.out, given.concepts or chosen(given.out), given.pairs, given.precision)
        write_plan(plan(todo, given.out, given.base), given.out)
        return run(todo, given.base, given.dry_run)
    except (CkdiffError, OSError) as error:
        say(str(error))
        return 2
    except KeyboardInterrupt:
        say("stopped; the same call goes on")
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
