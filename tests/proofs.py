"""A real report of a tiny pair, judged and signed, and a place to attack it: fixtures `proof` and `scene`."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from ckdiff.audit.gate.policy import parse_policy
from ckdiff.audit.judge import judge_report
from ckdiff.audit.signing import new_key
from ckdiff.calls.audit import audit_pair
from ckdiff.calls.specs import AuditSpec
from ckdiff.cli.app import run
from ckdiff.report.hdf5.file import write_report
from ckdiff.scoring.settings import Settings
from tests.test_probe_cli import ASKED, save_tokenizer
from tests.tiny_pairs import build, disturbed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ckdiff.audit.gate.records import Policy
    from ckdiff.report.schema.report import Report

    Run = Callable[..., tuple[int, str, str]]

POLICY = """title = "tests"
[require]
sections = ["compare", "probe", "behaviour"]
questions = 3
unrelated = 3
digests = true
[fail]
labels = ["identical", "suppressed"]
unrelated_bleu_loss = 0.9
scores = [
  {direction = "restore", mode = "coeff", variant = "whole", score = "krs_kl", at_most = 0.5},
  {direction = "restore", mode = "values", variant = "whole", score = "krs_kl", at_least = -9.0},
]
"""
SETTINGS = Settings(
    modes=("coeff", "values", "attn"),
    variants=("open", "whole"),
    directions=("restore", "break"),
    window=1,
    tokens=4,
    device="cpu",
)


@dataclass(frozen=True, slots=True)
class Proof:
    """Where everything lies, and what the report holds.

    Attributes:
        root: with base/, unlearned/, report.h5, report.h5.intoto.json, policy.toml, and two keys, ours and theirs.
    """

    root: Path
    report: Report


def policy() -> Policy:
    return parse_policy(POLICY, "policy.toml")


def rejudged(report: Report) -> Report:
    """The same measurements, with the verdict and the gate that they get."""
    assert report.verdict is not None
    gate = report.verdict.gate
    return judge_report(report, None if gate is None else parse_policy(gate.policy, gate.source))


@pytest.fixture(scope="session")
def proof(tmp_path_factory: pytest.TempPathFactory) -> Proof:
    """A pair whose every weight moved a little, audited for real."""
    return make_proof(tmp_path_factory.mktemp("proof"))


def make_proof(root: Path) -> Proof:
    """The same, anywhere."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = build("llama")
    model.save_pretrained(root / "base")
    disturbed(model, 0.05).save_pretrained(root / "unlearned")
    for side in ("base", "unlearned"):
        save_tokenizer(root / side)
    choices = [{"question": text, "choices": ["Thrane", "Oskary"], "answer": "A"} for text in ASKED]
    (root / "choices.jsonl").write_text("\n".join(map(json.dumps, choices)))
    (root / "policy.toml").write_text(POLICY)
    spec = AuditSpec(
        str(root / "base"),
        str(root / "unlearned"),
        policy(),
        asked=ASKED,
        tiers=(),
        most_unrelated=4,
        choices=root / "choices.jsonl",
        settings=SETTINGS,
    )
    report = audit_pair(spec)
    write_report(report, root / "report.h5")
    for name in ("ours", "theirs"):
        new_key(root / f"{name}.pem")
    assert run(["attest", str(root / "report.h5"), "--key", str(root / "ours.pem"), "--quiet"]) == 0
    return Proof(root, report)


@dataclass(frozen=True, slots=True)
class Scene:
    """A copy that may be damaged, and the command line in it."""

    root: Path
    report: Report
    call: Run

    def write(self, report: Report) -> None:
        """Put a report in the place of the one that was signed; its seal is right."""
        write_report(report, self.root / "report.h5")

    def verify(self, *options: object) -> tuple[int, str]:
        """Status and stdout, without a key unless one is among the options."""
        status, out, err = self.call("verify", self.root / "report.h5", *options)
        assert "Traceback" not in err
        return status, out

    def verify_signed(self, *options: object) -> tuple[int, str]:
        """The same with the public key of whoever signed."""
        return self.verify("--key", self.root / "ours.pem.pub", *options)

    @property
    def sidecar(self) -> Path:
        return self.root / "report.h5.intoto.json"

    def envelope(self) -> Any:
        return json.loads(self.sidecar.read_bytes())


@pytest.fixture
def scene(proof: Proof, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Scene:
    shutil.copytree(proof.root, tmp_path / "scene")

    def call(*arguments: object) -> tuple[int, str, str]:
        status = run([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return status, captured.out, captured.err

    return Scene(tmp_path / "scene", replace(proof.report), call)
