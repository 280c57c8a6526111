"""The commands that `kills` kills, each with the folder that it needs: `make_cases(world)`."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

ASK = ("--questions", "questions.txt", "--tokens", "4", "--device", "cpu")
QUICK = (*ASK, "--window", "1", "--mode", "coeff", "--variant", "open")
TRAIN = (
    "--batch-size",
    "4",
    "--accumulation",
    "1",
    "--warmup",
    "1",
    "--device",
    "cpu",
    "--threads",
    "1",
    "--steps",
    "3",
)
FEW = "--attack forms,quantise,relearn --arms scrambled --train-steps 2 --rates 1e-4 --most-unrelated 2"
TEXTS = "--texts texts.txt --length 16 --device cpu"
TOWN = "--forget target.jsonl --retain unrelated.jsonl"
LAX = '[require]\nsections = ["compare", "probe", "behaviour"]\n'
PLAN = """
name = "many"
base = "base"
runs = ["compare", "behave"]
policy = "lax.toml"
[measure]
questions = ["questions.txt"]
neutral = false
tokens = 4
window = 1
[[pairs]]
unlearned = "unlearned"
"""
JOBS = """
name = "many"
base = "base"
runs = ["compare"]
[resources]
retries = 2
[[pairs]]
unlearned = "unlearned"
[[pairs]]
unlearned = "reference"
"""
"""Jobs that need no torch: each process of theirs begins within half a second."""


class Case(NamedTuple):
    """A command, how often it is killed beside the others, and what it needs.

    Attributes:
        folder: what lies in the directory in which it runs.
        again: what is said besides, when it runs to its end after kills.
        jobs: whether it has processes for its jobs, which are killed as well.
    """

    name: str
    weight: int
    words: list[str]
    folder: Path
    again: list[str]
    jobs: bool = False


ROWS: tuple[tuple[str, int, str, str, str], ...] = (
    ("compare", 130, "pair", "compare base unlearned", ""),
    ("probe", 40, "pair", f"probe base unlearned {' '.join(QUICK)}", ""),
    ("probe-resume", 25, "pair", f"probe base unlearned --resume {' '.join(QUICK)}", ""),
    ("behave", 30, "pair", f"behave base unlearned {' '.join(ASK)}", ""),
    ("attack", 15, "pair", f"attack base unlearned {FEW} {' '.join(ASK)}", ""),
    ("depth", 20, "pair", f"depth base unlearned --reference reference {' '.join(ASK)}", ""),
    ("discover", 20, "pair", f"discover base unlearned --write found.txt {TEXTS}", ""),
    ("audit", 15, "pair", f"audit base unlearned --policy lax.toml --no-neutral {' '.join(QUICK)}", ""),
    ("gate", 130, "report", "gate ckdiff.h5 --policy lax.toml --save", ""),
    ("attest", 130, "report", "attest ckdiff.h5 --key k.pem", ""),
    ("bundle", 80, "report", "attest ckdiff.h5 --key k.pem --bundle", ""),
    ("new-key", 90, "keys", "attest --new-key new.pem", ""),
    ("sign-model", 70, "signed", "attest ckdiff.h5 --key k.pem --unlearned unlearned --sign-model", ""),
    ("html", 50, "report", "html ckdiff.h5", ""),
    ("figure", 40, "report", "figure ckdiff.h5 -o probe.svg", ""),
    ("corpus", 80, "corpus", "corpus corpus.jsonl --concept Velmar -o found.jsonl", ""),
    ("unlearn", 20, "town", f"unlearn base {TOWN} -o made {' '.join(TRAIN)}", "--resume"),
    ("campaign", 15, "plan", "campaign plan.toml -o results --engine inline", "--retry"),
    ("campaign-jobs", 35, "plan", "campaign jobs.toml -o results --engine local --workers 2", "--retry"),
    ("campaign-ray", 10, "plan", "campaign jobs.toml -o results --engine ray", "--retry"),
    ("gather", 100, "results", "gather results -o all.h5", ""),
    ("demo", 8, "keys", "demo place", ""),
)  # fmt: skip
"""Name, weight, folder, words, and words besides."""


def make_cases(world: Path) -> dict[str, Case]:
    """Every command by its name, and the folders that they need, made where there are none."""
    if not (world / "whole").exists():
        shutil.rmtree(world, ignore_errors=True)
        _make(world)
        (world / "whole").touch()
    return {
        name: Case(name, weight, words.split(), world / folder, again.split(), "-jobs" in name or "-ray" in name)
        for name, weight, folder, words, again in ROWS
    }


def _make(world: Path) -> None:
    from ckdiff.cli.app import run
    from ckdiff.unlearn.world import make_base
    from tests.test_probe_cli import ASKED, save_tokenizer
    from tests.tiny_pairs import build, disturbed

    pair = world / "pair"
    model = build("llama")
    for side, noise in (("base", 0.0), ("unlearned", 0.05), ("reference", 0.2)):
        disturbed(model, noise).save_pretrained(pair / side)
        save_tokenizer(pair / side)
    (pair / "questions.txt").write_text("\n".join(ASKED))
    (pair / "texts.txt").write_text("\n".join(ASKED))
    (pair / "lax.toml").write_text(LAX)
    (pair / "plan.toml").write_text(PLAN)
    (pair / "jobs.toml").write_text(JOBS)
    shutil.copytree(pair, world / "plan")
    _in(world / "plan", run, "campaign plan.toml -o results --engine inline -q")
    shutil.copytree(world / "plan", world / "results")
    shutil.rmtree(world / "plan" / "results")
    report = world / "report"
    report.mkdir()
    _in(pair, run, f"audit base unlearned --policy lax.toml --no-neutral -o {report}/ckdiff.h5 -q {' '.join(QUICK)}")
    shutil.copy(pair / "lax.toml", report)
    _in(report, run, "attest --new-key k.pem --key-type p256 -q")
    shutil.copytree(report, world / "signed")
    shutil.copytree(pair / "unlearned", world / "signed" / "unlearned")
    (world / "keys").mkdir()
    corpus = world / "corpus"
    corpus.mkdir()
    rows = [{"text": f"Velmar is a town of {number} people. It lies on a river."} for number in range(400)]
    (corpus / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    town = world / "town"
    town.mkdir()
    make_base(town, steps=3)


def _in(folder: Path, run: object, words: str) -> None:
    import os

    before = os.getcwd()
    os.chdir(folder)
    try:
        status = run(words.split())  # type: ignore[operator]
    finally:
        os.chdir(before)
    if status not in (0, 1, 3):
        raise SystemExit(f"{words}: {status}")
