"""A pair on disk, with its proof: `make_pair(plan, work)`."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING

import torch
from redteam_build import Build, NotMadeError, remake
from redteam_proofs import Case, Proof, prove
from redteam_world import FORMS, load, told, write_questions

if TYPE_CHECKING:
    from pathlib import Path

    from redteam_kinds import Plan


def make_pair(plan: Plan, work: Path) -> Path:
    """Make and prove one pair; one that is there already stays."""
    folder = work / "pairs" / f"{plan.number:03d}"
    if (folder / "truth.json").is_file():
        return folder
    torch.set_num_threads(1)
    remake(folder)
    build = Build(work, plan.base, folder, plan.seed)
    try:
        plan.kind.make(build)
    except NotMadeError as error:
        _write(folder, plan, build, Proof(words=f"not made: {error}"))
        return folder
    write_questions(folder / "target.jsonl", build.questions)
    write_questions(folder / "unrelated.jsonl", build.unrelated)
    case = Case(plan.base, folder / "unlearned", build.origin, build.facts, undo=build.undo)
    _write(folder, plan, build, prove(case, plan.kind.ways))
    return folder


def _write(folder: Path, plan: Plan, build: Build, proof: Proof) -> None:
    """What is true of a pair; `silent`: the share of the target that it does not answer as it is audited."""
    model = load(folder / "unlearned") if (folder / "unlearned").is_dir() else None
    silent = {} if model is None else {form: told(plan.base.target, [FORMS[form]]).wrong(model) for form in FORMS}
    truth = {
        "number": plan.number,
        "kind": plan.kind.name,
        "group": plan.kind.group,
        "base": plan.base.name,
        "seed": plan.base.seed // 100,
        "origin": os.path.relpath(build.origin, folder),
        "note": build.note.strip(),
        "proof": asdict(proof),
        "counted": bool(proof.way),
        "silent": silent,
        "others": float("nan") if model is None else told(plan.base.others).wrong(model),
    }
    partial = folder / "truth.partial"
    partial.write_text(json.dumps(truth, indent=1) + "\n", encoding="utf-8")
    partial.rename(folder / "truth.json")
