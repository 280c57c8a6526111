"""Pairs made to deceive a release gate, and honest ones: how many of those pass, how many of these are refused.

  python benchmarks/redteam.py make WORK [--seed 0] [--pairs 325] [--kinds "flip by a hair,..."]
  python benchmarks/redteam.py score WORK [--attacks] [--cases]
  python benchmarks/redteam.py carries WORK...
  python benchmarks/redteam.py kinds

`make` trains five small bases of four families that know an invented world, makes the pairs of a seed
(`redteam_kinds`), and proves of each by a plain script that what it claims is true; a pair whose proof fails is not
counted, and named.
`score` audits each pair under ckdiff's own policy and, from the same measurements, under the list of allowed verdicts
that a release engineer might write; copies and benign tuning under a policy that wants no change. With `--attacks` it
audits them under attacks of tiers 0, 1 and 2 and beside a model that never knew, so that there is something that may
pass, and judges the same measurements by `--policy not-recovered` as if that model were not there. Both can be
interrupted: what is there already stays, and a pair is audited anew where ckdiff's code has changed.
`carries` prints how well each attack, and each of its statistics, told those apart (`redteam_carries`).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path


def make(work: Path, pairs: int, seed: int, kinds: tuple[str, ...]) -> None:
    """Make every pair that is not there yet."""
    import torch
    from redteam_kinds import planned
    from redteam_make import make_pair

    torch.set_num_threads(1)
    plans, begun = planned(pairs, seed, kinds), time.monotonic()
    for done, plan in enumerate(plans, 1):
        make_pair(plan, work)
        words = f"{done}/{len(plans)} {plan.number:03d} {plan.kind.name} ({plan.base.name})"
        sys.stderr.write(f"{words}, {time.monotonic() - begun:.0f} s\n")


def main() -> int:
    from redteam_kinds import KIND, KINDS

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("make", "score", "carries", "kinds"))
    parser.add_argument("work", type=Path, nargs="*")
    parser.add_argument("--pairs", type=int, default=5 * len(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", default="", help="make: some kinds only, by name, with commas between")
    parser.add_argument("--attacks", action="store_true", help="score: with attacks and a reference")
    parser.add_argument("--cases", action="store_true", help="score: a line for every pair")
    given = parser.parse_args()
    if given.what == "kinds":
        sys.stdout.write("".join(f"{kind.group:10} {kind.name}\n" for kind in KIND.values()))
    elif not given.work:
        parser.error("name a directory to work in")
    elif given.what == "carries":
        from redteam_carries import print_carriers

        print_carriers(given.work)
    elif given.what == "make":
        make(given.work[0], given.pairs, given.seed, tuple(filter(None, given.kinds.split(","))))
    else:
        from redteam_score import print_scores

        print_scores(given.work[0], given.cases, given.attacks)
    return 0


if __name__ == "__main__":
    sys.exit(main())
