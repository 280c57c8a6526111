"""Which number tells a model that still knows from one that never knew: depth, its lens twin, attacks, probability.

    python benchmarks/faithfulness.py make WORK --facts 8      # minutes; what is there already stays
    python benchmarks/faithfulness.py table WORK               # AUC a score and number of facts, and what moves it

Tiny models of three architectures learn an invented world of 48 facts. Those that know had so many facts unlearned by a
method of `ckdiff unlearn` (`faithfulness_models.py`), until their answers were gone; those that do not never saw them.
Each is measured with ckdiff's own functions beside its base and a model that never knew; depth beside three of them:
of the same start (trained in another order), of another start, and one that was tuned on harmless facts afterwards;
and beside the first of them again once the model was rounded to NF4, and once it has relearned other facts
(`faithfulness_changed.py`): a number that tells what a model knows stays where it is then.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from faithfulness_changed import CHANGES, change_model
from faithfulness_models import ARCHITECTURES, REFERENCES, Pupil, make_models
from plants_score import auc

from ckdiff.calls.attack import attack
from ckdiff.calls.depth import depth
from ckdiff.calls.probe import probe
from ckdiff.calls.specs import AttackSpec, DepthSpec, ProbeSpec
from ckdiff.errors import CkdiffError
from ckdiff.scoring.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ckdiff.report.schema.attack import AttackRow

SETTINGS = Settings(modes=("coeff",), tokens=4, device="cpu")
STEPS = 8
"""Of relearning other facts."""
MEASURED = "measured.jsonl"
SAME = REFERENCES[0]
BESIDE = (*REFERENCES, *(f"{SAME}, {change}" for change in CHANGES))
"""What depth stands beside: references, and the first of them once the model was changed."""
SCORES = {
    "depth": "1 - depth",
    "depth_lens": "1 - its lens twin",
    "matching": "z of matching, the greatest while other facts are relearned",
    "level": "log p a token over the reference's, the greatest of the same",
    "both": "the mean rank of depth and level",
    "log_p": "log p a token, as it is",
    "score": "the old score: best krs_kl of the base's coefficients put back",
}
"""Each is greater where more is known."""


def main() -> None:
    """Make, or show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("make", "table"))
    parser.add_argument("work", type=Path)
    parser.add_argument("--facts", type=int, default=8, choices=(8, 16, 40))
    parser.add_argument("--starts", type=int, default=2, help="Bases of each architecture.")
    parser.add_argument("--architectures", default=",".join(ARCHITECTURES))
    parser.add_argument("--every", type=int, default=1, help="Measure only every so-manieth model.")
    given = parser.parse_args()
    if given.what == "table":
        sys.stdout.write(table(given.work))
        return
    torch.set_num_threads(1)
    for start in range(given.starts):
        for architecture in given.architectures.split(","):
            folder = given.work / f"{given.facts}-{architecture}-{start}"
            pupil = Pupil(architecture, start, given.facts)
            for name, knows in make_models(folder, pupil)[:: given.every]:
                measure(folder, name, knows, pupil)


def measure(folder: Path, name: str, knows: bool, pupil: Pupil) -> None:
    """Measure one model beside its base and its references, and write a line about it."""
    if any(line["model"] == name for line in read_lines(folder)):
        return
    began = time.process_time()
    base, model, questions = str(folder / "base"), str(folder / name), folder / "target.jsonl"
    found: dict[str, Any] = {"model": name, "knows": knows, "facts": pupil.facts}
    for change in CHANGES:
        other = str(change_model(folder, name, change, pupil))
        found |= carried(DepthSpec(base, other, questions=questions, reference=str(folder / SAME)), f"{SAME}, {change}")
    for reference in REFERENCES:
        found |= carried(DepthSpec(base, model, questions=questions, reference=str(folder / reference)), reference)
    found |= attacked(base, model, questions, str(folder / SAME))
    report = probe(ProbeSpec(base, model, questions, settings=SETTINGS))
    assert report.probe is not None
    found["score"] = max(float(run.krs_kl.score.max()) for run in report.probe.runs)
    found["seconds"] = time.process_time() - began
    with open(folder / MEASURED, "a", encoding="utf-8") as file:
        file.write(json.dumps(found) + "\n")
    sys.stderr.write(f"{folder.name} {name} {found['seconds']:.1f} s\n")


def carried(spec: DepthSpec, beside: str) -> dict[str, Any]:
    """How little depth there is, beside one reference."""
    try:
        section = depth(replace(spec, settings=SETTINGS)).depth
    except CkdiffError as error:
        return {f"note {beside}": str(error)}
    assert section is not None
    return {
        f"depth {beside}": 1 - section.depth.value,
        f"depth_lens {beside}": 1 - section.depth_lens.value,
        "log_p": float(np.mean([one.log_p_unlearned for one in section.questions])),
    }


def attacked(base: str, model: str, questions: Path, reference: str) -> dict[str, float]:
    """Matching and level, the greatest over a few steps of training on other facts."""
    spec = AttackSpec(
        base, model, questions=questions, unrelated=questions.with_name("unrelated.jsonl"), attacks=("relearn",),
        arms=("others",), train_steps=STEPS, reference=reference, settings=SETTINGS,
    )  # fmt: skip
    section = attack(spec).attack
    assert section is not None
    rows: Sequence[AttackRow] = [row for row in section.rows if row.side == "unlearned" and not row.wrecked]
    return {
        "matching": max((row.z for row in rows if not math.isnan(row.z)), default=math.nan),
        "level": max((row.above.value for row in rows if not math.isnan(row.above.value)), default=math.nan),
    }


def read_lines(folder: Path) -> list[dict[str, Any]]:
    """What was measured in a folder."""
    path = folder / MEASURED
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def table(work: Path) -> str:
    """AUC of each score by number of facts, and how far depth moves with the reference."""
    every = [line for folder in sorted(work.iterdir()) for line in read_lines(folder)]
    out = []
    for facts in sorted({line["facts"] for line in every}):
        lines = [line for line in every if line["facts"] == facts]
        know = sum(line["knows"] for line in lines)
        out.append(f"{facts} facts: {know} models that know, {len(lines) - know} that never knew\n")
        out += [f"  {value:6.3f}  {words}\n" for value, words in aucs(lines)]
        out += [f"  {words}\n" for words in moves(lines)]
    return "".join(out)


def aucs(lines: Sequence[dict[str, Any]]) -> list[tuple[float, str]]:
    """The chance that a model that knows has the greater score, ties half."""
    found = []
    for name, words in SCORES.items():
        for reference in BESIDE if name.startswith("depth") else ("",):
            values = {number: value for number, value in enumerate(scores(lines, name, reference)) if value == value}
            sides = [
                [value for number, value in values.items() if lines[number]["knows"] is side] for side in (True, False)
            ]
            beside = f", beside {reference}" if reference else ""
            missing = f" ({len(lines) - len(values)} not measured)" if len(values) < len(lines) else ""
            found.append((auc(*sides), f"{words}{beside}{missing}"))
    return found


def scores(lines: Sequence[dict[str, Any]], name: str, reference: str) -> list[float]:
    """One score of every model."""
    if name == "both":
        parts = np.array([scores(lines, "depth", SAME), scores(lines, "level", "")])
        known = ~np.isnan(parts).any(axis=0)
        found = np.full(len(lines), math.nan)
        found[known] = np.mean([np.argsort(np.argsort(part)) for part in parts[:, known]], axis=0)
        return [float(value) for value in found]
    key = f"{name} {reference}" if reference else name
    return [line.get(key, math.nan) for line in lines]


def moves(lines: Sequence[dict[str, Any]]) -> list[str]:
    """How far depth moves when another reference stands beside: mean and greatest, of both kinds of models."""
    found = []
    for name in ("depth", "depth_lens"):
        for other in BESIDE[1:]:
            for side, words in ((True, "that know"), (False, "that never knew")):
                pairs = [
                    abs(line[f"{name} {SAME}"] - line[f"{name} {other}"])
                    for line in lines
                    if line["knows"] is side and f"{name} {SAME}" in line and f"{name} {other}" in line
                ]
                if pairs:
                    size = f"by {np.mean(pairs):.3f}, at most {max(pairs):.3f}"
                    found.append(f"{name} beside {other} in the place of {SAME}, models {words}: moves {size}")
    return found


if __name__ == "__main__":
    main()
