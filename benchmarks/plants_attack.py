"""Planted pairs under attack, beside a model that never knew: `attack_pair(folder, work)`.

The references are of a start of their own: one for each base, trained on the other facts alone.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch
from plants_models import BASES, OTHERS, fresh, learned, save, weights

from ckdiff.calls.attack import attack
from ckdiff.calls.depth import depth
from ckdiff.calls.specs import AttackSpec, DepthSpec
from ckdiff.errors import CkdiffError
from ckdiff.report.hdf5.file import read_report, write_report
from ckdiff.scoring.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = Settings(tokens=8, device="cpu")
START = 20_000
"""Added to a base's seed: no other model begins there."""


def reference(work: Path, name: str) -> Path:
    """The model that never knew, for pairs of a base; made where it is missing."""
    folder = work / "references" / name
    if not folder.is_dir():
        base = next(one for one in BASES if one.name == name)
        model = learned(fresh(base, START + base.seed), OTHERS)
        partial = folder.with_name(f"{name}.partial")
        partial.parent.mkdir(parents=True, exist_ok=True)
        save(work / "bases" / name / "base", partial, weights(model).items())
        partial.rename(folder)
    return folder


def attack_pair(folder: Path, work: Path) -> str:
    """Attack a measured pair, and write the report beside the plain one; "" or why it was not attacked."""
    if (folder / "attacked.h5").is_file():
        return ""
    torch.set_num_threads(1)
    truth = json.loads((folder / "truth.json").read_text(encoding="utf-8"))
    report = read_report(folder / "report.h5")
    base, unlearned = report.provenance.base.location, report.provenance.unlearned.location
    home = work / "bases" / truth["base"]
    beside = str(reference(work, truth["base"]).resolve())
    why = ""
    try:
        spec = AttackSpec(
            base, unlearned, questions=home / "target.jsonl", unrelated=home / "unrelated.jsonl", tiers=(0, 1, 2),
            reference=beside, reference_kind="retrained", settings=SETTINGS,
        )  # fmt: skip
        report = attack(spec, existing=report)
        deep = DepthSpec(base, unlearned, questions=home / "target.jsonl", reference=beside, settings=SETTINGS)
        report = depth(deep, existing=report)
    except CkdiffError as error:
        why = str(error)
    write_report(report, folder / "attacked.h5")
    return why
