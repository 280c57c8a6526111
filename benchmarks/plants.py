"""Planted edits: 216 pairs of known truth from small trained models, and how often the verdict is right about them.

  python benchmarks/plants.py make WORK [--pairs 216] [--seed 0] [--jobs 1]
  python benchmarks/plants.py attack WORK
  python benchmarks/plants.py score WORK [--attacks] [--cases]
  python benchmarks/plants.py figures WORK

`make` trains six bases of 4, 6 and 8 layers that know an invented world, plants an edit in one of them for each pair
(`plants_plan.KINDS`), and measures it as `ckdiff audit` does, with windows of one layer. What is there already stays,
so that it can be interrupted. `attack` attacks every pair that was made, in three tiers and beside a model that never
knew (`plants_attack`), and measures its depth. `score` judges every report anew, without a model, and prints what came
of it, with `--attacks` the reports of `attack`; `figures` prints what the verdict has to go by, a line a kind.
"""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from plants_plan import PAIRS, planned


def make(work: Path, pairs: int, seed: int, jobs: int) -> None:
    """Make every pair that is not there yet."""
    from plants_make import base_folder, make_pair
    from plants_models import BASES

    plants, begun = planned(pairs, seed), time.monotonic()
    for base in BASES:
        base_folder(work, base)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        run = map if jobs == 1 else pool.map
        for done, folder in enumerate(run(partial(make_pair, work=work), plants), 1):
            name = plants[done - 1].kind.name
            sys.stderr.write(f"{done}/{pairs} {folder.name} {name}, {time.monotonic() - begun:.0f} s\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("make", "attack", "score", "figures"))
    parser.add_argument("work", type=Path)
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--attacks", action="store_true", help="score: the reports of `attack`")
    parser.add_argument("--cases", action="store_true", help="score: a line for every pair")
    given = parser.parse_args()
    if given.what == "make":
        make(given.work, given.pairs, given.seed, given.jobs)
        return 0
    if given.what == "attack":
        from plants_attack import attack_pair

        for folder in sorted(path.parent for path in given.work.glob("[0-9]*/report.h5")):
            sys.stderr.write(f"{folder.name} {attack_pair(folder, given.work)}\n")
        return 0
    from plants_score import print_figures, print_scores

    if given.what == "figures":
        print_figures(given.work)
    else:
        print_scores(given.work, given.cases, "attacked.h5" if given.attacks else "report.h5")
    return 0


if __name__ == "__main__":
    sys.exit(main())
