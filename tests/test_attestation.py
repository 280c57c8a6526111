"""The statement against in-toto's own library, the envelope against plain Ed25519, and `ckdiff attest` at a shell."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import stat
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa

from ckdiff.audit.gate.policy import parse_policy
from ckdiff.errors import ReportError
from ckdiff.report.exports.attestation import payload, statement
from tests.proofs import POLICY, Proof, Scene, proof, rejudged, scene
from tests.reports import attacks, depth, gate, verdict

if TYPE_CHECKING:
    from pathlib import Path

    from ckdiff.report.schema.report import Report

__all__ = ["proof", "scene"]  # fixtures
pytestmark = pytest.mark.usefixtures("remembering")

SHA = "0f" * 32


def tree(report: Report) -> Any:
    return json.loads(payload(statement(report, SHA)))


def judged_as(report: Report, outcome: str) -> Report:
    assert report.verdict is not None
    assert report.verdict.gate is not None
    changed = replace(report.verdict.gate, outcome=outcome)  # type: ignore[arg-type]
    return replace(report, verdict=replace(report.verdict, gate=changed))


# ------------------------------------------------------------------------------------------------------- statement


def test_in_toto_takes_it(proof: Proof) -> None:
    from google.protobuf import json_format
    from in_toto_attestation.predicates.test_result.v0.test_result_pb2 import TestResult
    from in_toto_attestation.v1.resource_descriptor import ResourceDescriptor
    from in_toto_attestation.v1.statement import Statement
    from in_toto_attestation.v1.statement_pb2 import Statement as StatementMessage

    found = tree(proof.report)
    # Unknown fields are refused here: nothing stands in the statement that in-toto does not know.
    Statement.copy_from_pb(json_format.ParseDict(found, StatementMessage())).validate()
    predicate = found["predicate"]
    with pytest.raises(json_format.ParseError, match="ckdiff"):
        json_format.ParseDict(predicate, TestResult())
    own = predicate.pop("ckdiff")
    result = json_format.ParseDict(predicate, TestResult())
    assert result.result == predicate["result"]
    assert [*result.passed_tests, *result.warned_tests, *result.failed_tests]
    for descriptor in result.configuration:
        ResourceDescriptor.copy_from_pb(descriptor).validate()
        assert len(descriptor.digest["sha256"]) == 64
    assert own["verdict"]["label"] == proof.report.verdict.label  # type: ignore[union-attr]


def test_subjects_are_the_files_of_both_sides(proof: Proof) -> None:
    found = {row["name"]: row["digest"]["sha256"] for row in tree(proof.report)["subject"]}
    assert found == {
        f"{side}/model.safetensors": hashlib.sha256((proof.root / side / "model.safetensors").read_bytes()).hexdigest()
        for side in ("base", "unlearned")
    }


def test_configuration_names_report_policy_and_questions(proof: Proof) -> None:
    found = {row["name"]: row["digest"]["sha256"] for row in tree(proof.report)["predicate"]["configuration"]}
    assert found["report"] == SHA
    assert found["policy"] == hashlib.sha256(POLICY.encode()).hexdigest()
    names = {"questions/probe", "questions/behaviour/target", "questions/behaviour/unrelated"}
    names |= {"questions/behaviour/choices", "questions/behaviour/neutral"}
    assert found.keys() == {"report", "policy"} | names
    assert found["questions/probe"] == found["questions/behaviour/target"]


def test_every_figure_and_threshold_of_the_verdict(proof: Proof) -> None:
    shown, own = proof.report.verdict, tree(proof.report)["predicate"]["ckdiff"]["verdict"]
    assert shown is not None
    assert shown.gate is not None
    for rule, stored in zip(shown.rules, own["rules"], strict=True):
        assert (rule.name, rule.fired, rule.text) == (stored["name"], stored["fired"], stored["text"])
        assert (rule.value, rule.threshold) == (stored["value"], stored["threshold"])
    assert [row.kl_low for row in shown.explanations] == [row["kl_low"] for row in own["explanations"]]
    for check, stored in zip(shown.gate.checks, own["gate"]["checks"], strict=True):
        assert (check.name, check.outcome, check.text) == (stored["name"], stored["outcome"], stored["text"])
        assert stored["threshold"] == (check.threshold if check.threshold == check.threshold else None)
    assert own["gate"]["digest"] == shown.gate.digest
    assert own["detectable"] == shown.detectable
    assert (own["knowledge"], own["knowledge_reason"]) == (shown.knowledge, shown.knowledge_reason)
    assert own["lacking"] == list(shown.lacking)
    assert (own["gate"]["files"], own["gate"]["notes"]) == (dict(shown.gate.files), list(shown.gate.notes))
    assert "policy" not in own["gate"]


@pytest.mark.parametrize(
    ("outcome", "result"), [("passed", "PASSED"), ("failed", "FAILED"), ("inconclusive", "FAILED")]
)
def test_only_what_passed_is_said_to_have_passed(proof: Proof, outcome: str, result: str) -> None:
    found = tree(judged_as(proof.report, outcome))["predicate"]
    assert found["result"] == result
    assert found["ckdiff"]["verdict"]["gate"]["outcome"] == outcome


def test_tests_are_the_checks_by_outcome_each_name_once(proof: Proof) -> None:
    shown = proof.report.verdict
    assert shown is not None
    found = tree(replace(proof.report, verdict=replace(shown, gate=gate())))["predicate"]
    lists = {"passed": found["passedTests"], "failed": found["failedTests"], "inconclusive": found["warnedTests"]}
    for outcome, names in lists.items():
        assert len(names) == sum(check.outcome == outcome for check in gate().checks)
    both = [name for names in (found["passedTests"], found["warnedTests"], found["failedTests"]) for name in names]
    assert len(set(both)) == len(both)
    scores = tree(proof.report)["predicate"]
    every = [*scores["passedTests"], *scores["warnedTests"], *scores["failedTests"]]
    assert {"fail.scores", "fail.scores 2"} <= set(every)


def test_the_same_report_gives_the_same_bytes(proof: Proof) -> None:
    found = payload(statement(proof.report, SHA))
    assert found == payload(statement(rejudged(proof.report), SHA))
    assert b"NaN" not in found
    assert str(proof.root).encode() not in found


def test_models_that_never_knew_are_named_by_their_weights(proof: Proof) -> None:
    beside = replace(proof.report, attack=attacks(reference_digest="a" * 64), depth=depth(reference_digest="b" * 64))
    own = tree(beside)["predicate"]["ckdiff"]
    assert own["references"] == {
        "attack": {"digest": "a" * 64, "kind": "retrained"},
        "depth": {"digest": "b" * 64, "kind": depth().reference_kind},
    }
    assert own["measured"]["depth"] == dict(depth().settings)
    older = statement(beside, SHA, 2)["predicate"]["ckdiff"]
    assert ("references" in older, "depth" in older["measured"]) == (False, False)
    assert tree(replace(beside, attack=attacks(reference=""), depth=None))["predicate"]["ckdiff"]["references"] == {}


def test_hostile_texts_are_ascii(proof: Proof) -> None:
    shown = verdict(reason="\x00\ud800\u202e", gate=gate(source="\x1b[31m"))
    found = payload(statement(replace(proof.report, verdict=shown), SHA))
    assert found.isascii()
    assert b"\x1b" not in found
    assert json.loads(found)["predicate"]["ckdiff"]["verdict"]["reason"] == "\x00\ud800\u202e"


def test_what_cannot_be_attested(proof: Proof) -> None:
    report = proof.report
    assert report.verdict is not None
    base = report.provenance.base
    bare = replace(base, shards=tuple(replace(shard, sha256=None) for shard in base.shards), digest=None)
    lacking = {
        "no verdict": replace(report, verdict=None),
        "no policy": replace(report, verdict=replace(report.verdict, gate=None)),
        "--no-hash": replace(report, provenance=replace(report.provenance, base=bare)),
    }
    for word, one in lacking.items():
        with pytest.raises(ReportError, match=word):
            statement(one, SHA)


# -------------------------------------------------------------------------------------------------- attest, keys


def test_the_signature_is_plain_ed25519_over_dsse(scene: Scene) -> None:
    envelope = scene.envelope()
    content, kind = base64.b64decode(envelope["payload"]), envelope["payloadType"].encode()
    # DSSE's pre-authentication encoding, written out.
    signed = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(content), content)
    key = serialization.load_pem_public_key((scene.root / "ours.pem.pub").read_bytes())
    assert isinstance(key, ed25519.Ed25519PublicKey)
    key.verify(base64.b64decode(envelope["signatures"][0]["sig"]), signed)
    assert kind == b"application/vnd.in-toto+json"
    report = hashlib.sha256((scene.root / "report.h5").read_bytes()).hexdigest()
    assert json.loads(content)["predicate"]["configuration"][0]["digest"]["sha256"] == report


def test_signing_again_gives_the_same_bytes_and_nothing_else(scene: Scene) -> None:
    before, names = scene.sidecar.read_bytes(), sorted(scene.root.iterdir())
    status, out, err = scene.call("attest", scene.root / "report.h5", "--key", scene.root / "ours.pem")
    assert (status, out) == (0, "")
    assert "signed by" in err
    assert scene.sidecar.read_bytes() == before
    assert sorted(scene.root.iterdir()) == names


def test_a_new_key_is_its_owners_alone_and_never_replaced(scene: Scene) -> None:
    place = scene.root / "new.pem"
    assert scene.call("attest", "--new-key", place)[0] == 0
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert b"PUBLIC" in (scene.root / "new.pem.pub").read_bytes()
    before = place.read_bytes()
    status, out, err = scene.call("attest", "--new-key", place)
    assert (status, out) == (2, "")
    assert "new.pem: is there already" in err
    assert place.read_bytes() == before
    # Nor is its public half, and then no private one is left behind.
    place.unlink()
    status, out, err = scene.call("attest", "--new-key", place)
    assert (status, out) == (2, "")
    assert "new.pem.pub: is there already" in err
    assert not place.exists()


def test_a_new_key_can_sign_at_once(scene: Scene) -> None:
    made = scene.root / "fresh.pem"
    assert scene.call("attest", scene.root / "report.h5", "--new-key", made)[0] == 0
    assert scene.verify("--key", f"{made}.pub")[0] == 0
    assert scene.verify_signed()[0] == 1


def write_key(place: Path, key: Any, password: str = "") -> None:
    hidden: Any = serialization.NoEncryption()
    if password:
        hidden = serialization.BestAvailableEncryption(password.encode())
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden)
    place.write_bytes(private)
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    place.with_name(f"{place.name}.pub").write_bytes(public)


@pytest.mark.parametrize("kind", ["P-256", "P-384", "RSA"])
def test_other_kinds_of_keys(scene: Scene, kind: str) -> None:
    curves = {"P-256": ec.SECP256R1(), "P-384": ec.SECP384R1()}
    key = ec.generate_private_key(curves[kind]) if kind in curves else rsa.generate_private_key(65537, 2048)
    write_key(scene.root / "key.pem", key)
    assert scene.call("attest", scene.root / "report.h5", "--key", scene.root / "key.pem")[0] == 0
    status, out = scene.verify("--key", scene.root / "key.pem.pub")
    assert status == 0
    assert out.startswith("verified: ")
    assert scene.verify_signed()[0] == 1


def test_an_encrypted_key_wants_its_password(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    write_key(scene.root / "key.pem", ed25519.Ed25519PrivateKey.generate(), "open sesame")
    arguments = ("attest", scene.root / "report.h5", "--key", scene.root / "key.pem")
    monkeypatch.delenv("CKDIFF_KEY_PASSWORD", raising=False)
    status, _, err = scene.call(*arguments)
    assert status == 2
    assert "CKDIFF_KEY_PASSWORD" in err
    monkeypatch.setenv("CKDIFF_KEY_PASSWORD", "wrong")
    status, _, err = scene.call(*arguments)
    assert status == 2
    assert "wrong" not in err
    assert "cannot be opened" in err
    monkeypatch.setenv("CKDIFF_KEY_PASSWORD", "open sesame")
    assert scene.call(*arguments)[0] == 0
    assert scene.verify("--key", scene.root / "key.pem.pub")[0] == 0
    # A password in the environment does not stand in the way of a key that has none.
    assert scene.call("attest", scene.root / "report.h5", "--key", scene.root / "ours.pem")[0] == 0


def test_refusals(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(scene.root)
    (scene.root / "big.pem").write_bytes(b"-" * 100_000)
    write_key(scene.root / "dsa.pem", dsa.generate_private_key(1024))
    before = {place: place.read_bytes() for place in scene.root.iterdir() if place.is_file()}
    cases = {
        ("attest",): "--new-key",
        ("attest", "report.h5"): "--key",
        ("attest", "report.h5", "--key", "ours.pem", "--new-key", "x.pem"): "give one of them",
        ("attest", "report.h5", "--key", "nope.pem"): "cannot be read",
        ("attest", "report.h5", "--key", "ours.pem.pub"): "is a public key",
        ("attest", "report.h5", "--key", "policy.toml"): "not a private key",
        ("attest", "report.h5", "--key", "big.pem"): "too large",
        ("attest", "report.h5", "--key", "dsa.pem"): "Ed25519",
        ("attest", "nope.h5", "--key", "ours.pem"): "no such report",
        ("attest", "policy.toml", "--key", "ours.pem"): "not an HDF5 file",
        ("attest", "report.h5", "--key", "ours.pem", "-o", "report.h5"): "the report or the key itself",
        ("attest", "report.h5", "--key", "ours.pem", "-o", "ours.pem"): "the report or the key itself",
        ("attest", "report.h5", "--key", "ours.pem", "-o", "none/x.json"): "cannot be written",
        ("attest", "--new-key", "none/x.pem"): "cannot be written",
    }
    for arguments, word in cases.items():
        status, out, err = scene.call(*arguments)
        assert (status, out) == (2, ""), arguments
        assert word in err, arguments
        assert len(err.splitlines()) == 1
    assert {place: place.read_bytes() for place in scene.root.iterdir() if place.is_file()} == before


def test_what_lacks_something_or_contradicts_itself_is_not_signed(scene: Scene) -> None:
    scene.sidecar.unlink()
    assert scene.report.verdict is not None
    cases = {
        "ckdiff gate REPORT": replace(scene.report, verdict=None),
        "contradicts itself": replace(scene.report, verdict=replace(scene.report.verdict, label="values edited")),
    }
    for word, report in cases.items():
        scene.write(report)
        status, out, err = scene.call("attest", scene.root / "report.h5", "--key", scene.root / "ours.pem")
        assert (status, out) == (2, "")
        assert word in err
        assert "report.h5" in err
        assert not scene.sidecar.exists()


def test_the_extra_is_named_where_it_is_missing(scene: Scene) -> None:
    code = "import sys; sys.modules['securesystemslib'] = None; "
    code += "from ckdiff.cli.app import run; sys.exit(run(sys.argv[1:]))"
    for arguments in (["attest", "report.h5", "--key", "ours.pem"], ["verify", "report.h5", "--key", "ours.pem.pub"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=scene.root,
            env={**os.environ},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert "pip install '.[attest]'" in done.stderr
        assert len(done.stderr.splitlines()) == 1
    done = subprocess.run(
        [sys.executable, "-c", code, "verify", "report.h5"], cwd=scene.root, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert done.stdout.startswith("consistent, origin unproven: ")


def test_the_policy_of_the_fixture_is_the_one_beside_it(proof: Proof) -> None:
    shown = proof.report.verdict
    assert shown is not None
    assert shown.gate is not None
    assert shown.gate.digest == parse_policy(POLICY, "").digest
