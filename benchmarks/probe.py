"""What `ckdiff probe` costs against the script anyone would write, and whether the two agree, in one interleaved run.

Three comparisons, over all windows of a pair with Llama's module names, in CPU seconds (user + system):
  open      modes coeff, values, attn, attn+coeff, raw and centred losses;
  isolated  mode coeff with A of the window and of all later layers pinned, raw and centred losses;
  kl        the first one with KL and top1, which need every logit.

plain:  transformers' models in float32, all questions as one batch padded on the right without a mask, the base's
        states from hooks, then one full forward a window and mode with plain hooks, logits of all positions.
ckdiff: its sweep and its losses on models loaded beforehand, as `probes.probing` calls them; without controls (a line
        of its own says what they add) and without intervals (another line), since the plain script has neither.

Both score the same answers, generated once beforehand; loading is outside the times. plain's KL is timed inside its
open forwards, so that these run once a round. Two contenders that disagree end the benchmark with status 1.

  python benchmarks/probe.py BASE UNLEARNED QUESTIONS [--rounds 3] [--tokens 30] [--threads 2]

A round is about 150 forwards of a model of 30 layers. Quote medians and ratios, not single seconds. Where other work
competes for the cores take `--threads 1`: threads that wait for one another spin, and that counts as CPU time.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from probe_contenders import AGREE, CHECKED, WINDOW, Curves, Plain, Taken, ckdiff, differences, intervals, load_all

from ckdiff.probes import cost
from ckdiff.probes.live.generation import greedy, stop_tokens
from ckdiff.probes.live.model import LiveModel
from ckdiff.probes.live.pretrained import load_tokenizer
from ckdiff.probes.preparation import CHUNK
from ckdiff.probes.sweep import Pair
from ckdiff.probes.wording.wording import Wording
from ckdiff.questions.questions import read_questions
from ckdiff.scoring.runs import Schedule, plan_runs
from ckdiff.weights.opening import open_checkpoint
from ckdiff.weights.reader import read_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.probes.prompts import Prompt

OPEN = ("coeff", "values", "attn", "attn+coeff")
TARGETS = {"open": 0.45, "isolated": 0.22, "kl": 0.60}
"""Ratios to the plain script that are aimed at, by comparison."""


def speed(live: LiveModel) -> float:
    """Floating-point operations a CPU second of a product with a layer's keys, as wide as ckdiff's own."""
    weight = next(live.sites[0].keys[0].parameters())
    states = torch.ones(CHUNK["cpu"], weight.shape[1])
    torch.nn.functional.linear(states, weight)
    start, count = time.process_time(), 0
    while time.process_time() - start < 1:
        torch.nn.functional.linear(states, weight)
        count += 1
    return 2.0 * count * states.shape[0] * weight.numel() / (time.process_time() - start)


def row(name: str, seconds: Sequence[float]) -> str:
    return f"  {name:22s} {min(seconds):8.2f} {statistics.median(seconds):8.2f} {max(seconds):8.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("unlearned", type=Path)
    parser.add_argument("questions", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with torch.inference_mode():
        sys.exit(measure(options))


@dataclass
class Contest:
    """Both contenders on one pair, and what they took and found so far."""

    pair: Pair
    asked: Sequence[Prompt]
    plain: Plain
    size: cost.Sizes
    seconds: dict[str, list[Taken]] = field(default_factory=dict)
    curves: dict[str, Curves] = field(default_factory=dict)
    interval_seconds: list[float] = field(default_factory=list)

    def plan(self, modes: Sequence[str], variant: str, last: bool = False, controls: bool = False) -> Schedule:
        """Runs of some modes over all windows, or over the last one."""
        layers = range(self.size.layers)[-1 if last else 0 :]
        return plan_runs(("restore",), modes, (variant,), layers, WINDOW, self.size.layers, controls)

    def plans(self) -> tuple[tuple[str, Schedule, bool], ...]:
        """The comparisons by name, and whether every logit is needed."""
        four = self.plan(OPEN, "open")
        return ("open", four, False), ("isolated", self.plan(("coeff",), "isolated"), False), ("kl", four, True)

    def warm(self) -> None:
        """A last window through everything, so that nobody pays for what happens once."""
        self.plain.run(OPEN[:1], "open", range(self.size.layers)[-1:], True)
        ckdiff(self.pair, self.asked, self.plan(OPEN, "open", last=True), True, time.process_time)

    def run(self) -> None:
        """One round: everything once."""
        self._run_plain()
        for name, plan, kl in (*self.plans(), ("controls", self.plan(OPEN, "open", controls=True), False)):
            swept = ckdiff(self.pair, self.asked, plan, kl, time.process_time)
            (self.curves[f"ckdiff {name}"],) = swept.curves.values()
            self._note(f"ckdiff {name}", swept.taken)
            if name == "kl":
                self.interval_seconds.append(intervals(swept, plan))

    def _run_plain(self) -> None:
        windows = range(self.size.layers)
        self.curves["plain open"], taken = self.plain.run(OPEN, "open", windows, True)
        self.curves["plain kl"] = self.curves["plain open"]
        self._note("plain open", replace(taken, kl=0.0))
        self._note("plain kl", taken)
        self.curves["plain isolated"], taken = self.plain.run(("coeff",), "isolated", windows, False)
        self._note("plain isolated", replace(taken, kl=0.0))

    def _note(self, name: str, taken: Taken) -> None:
        self.seconds.setdefault(name, []).append(taken)

    def tell(self, per_second: float) -> float:
        """Print every comparison; the largest difference of what the contenders must agree on."""
        print(f"{'CPU seconds':24s} {'min':>8s} {'median':>8s} {'max':>8s}")
        worst = max(self._tell(name, plan, kl, per_second) for name, plan, kl in self.plans())
        print("not in the ratios")
        print(row("open with controls", [taken.total for taken in self.seconds["ckdiff controls"]]))
        print(row("intervals and bands", self.interval_seconds))
        print(f"products run at {per_second / 1e9:.1f} GFLOP a CPU second")
        return worst

    def _tell(self, name: str, plan: Schedule, kl: bool, per_second: float) -> float:
        ours, theirs = self.seconds[f"ckdiff {name}"], self.seconds[f"plain {name}"]
        work, plain_work = cost.operations(plan, self.size, kl), cost.plain_operations(len(plan.runs), self.size)
        print(f"{name}: {', '.join(each.mode for each in plan.sweeps)}; {len(plan.runs)} windows")
        print(row("plain", [taken.total for taken in theirs]))
        print(row("ckdiff", [taken.total for taken in ours]))
        ratio = median(ours, "total") / median(theirs, "total")
        print(f"  ratio of medians {ratio:.3f} (target {TARGETS[name]:.2f}), of operations {work / plain_work:.3f}")
        for side, parts, products in (("plain", theirs, plain_work), ("ckdiff", ours, work)):
            losses = statistics.median([taken.losses + taken.kl for taken in parts])
            print(
                f"  {side + ':':7s} {'forwards' if side == 'plain' else 'sweep'} {median(parts, 'forwards'):.2f},"
                f" losses {losses:.2f}; products alone would take {products / per_second:.2f}"
            )
        found = dict(differences(self.curves[f"ckdiff {name}"], self.curves[f"plain {name}"]))
        print(f"  largest difference: {', '.join(f'{score} {value:.1e}' for score, value in found.items())}")
        return max(found[score] for score in CHECKED)


def median(parts: Sequence[Taken], name: str) -> float:
    """Of one figure of many measurements."""
    return float(statistics.median([getattr(taken, name) for taken in parts]))


def load(options: argparse.Namespace) -> Contest:
    """Both contenders with their models, and the questions with the answers that both score."""
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    paths, device = (options.base, options.unlearned), torch.device("cpu")
    pair = Pair(*(LiveModel(open_checkpoint(str(path)), torch.float32, device) for path in paths))
    load_all(pair)
    read = partial(AutoModelForCausalLM.from_pretrained, dtype=torch.float32, local_files_only=True)
    models = [read(path).eval() for path in paths]
    asked = Wording(load_tokenizer(options.base)).prompts(read_questions(options.questions).questions)
    stops = stop_tokens(pair.base, read_json(options.base, "generation_config.json"))
    answers = greedy(pair.base, [prompt.ids for prompt in asked], options.tokens, stops)
    asked = [replace(prompt, answer=tuple(answer)) for prompt, answer in zip(asked, answers, strict=True)]
    return Contest(pair, asked, Plain(models[0], models[1], asked, time.process_time), cost.sizes(pair.base, asked))


def measure(options: argparse.Namespace) -> int:
    """All rounds, and what came of them; 1 where the contenders disagree."""
    contest = load(options)
    size, plain = contest.size, contest.plain
    print(
        f"{contest.pair.base.row.model_type}, {size.layers} layers, {len(contest.asked)} questions,"
        f" {size.positions} positions ({plain.ids.numel()} padded), {size.scored} scored; {options.threads} threads,"
        f" torch {torch.__version__}",
        flush=True,
    )
    contest.warm()
    for number in range(options.rounds):
        contest.run()
        print(f"round {number + 1} of {options.rounds} done", file=sys.stderr)
    worst = contest.tell(speed(contest.pair.base))
    if not worst <= AGREE:
        print(f"the contenders disagree: {worst:.1e} is more than {AGREE:.0e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    main()
