"""`model.sig`: a signature that the model-signing package made, signatures of our own, and what is done to both.

`data/signed` is a model of one tensor that model-signing 1.1.1 signed (`python -m model_signing sign key`);
`data/signed.pub` is its key. The private half is gone.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ckdiff.audit.models.bundle import elliptic_key, elliptic_signer, make_bundle, read_bundle
from ckdiff.audit.models.manifest import LEFT_OUT, read_manifest
from ckdiff.audit.models.model import Signed, check_model, sign_model
from ckdiff.audit.signing import KeyFileError, new_key
from ckdiff.errors import CkdiffError
from ckdiff.weights.opening import open_checkpoint
from tests.checkpoints import llama, save
from tests.proofs import Scene, proof, scene

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["proof", "scene"]  # fixtures

DATA = Path(__file__).parent / "data"


def make_key(path: Path, curve: ec.EllipticCurve | None = None) -> Path:
    private = ec.generate_private_key(curve or ec.SECP256R1())
    secret = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    path.write_bytes(secret)
    path.with_name(f"{path.name}.pub").write_bytes(public)
    return path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return make_key(tmp_path / "key.pem")


@pytest.fixture
def model(tmp_path: Path, key: Path) -> Path:
    """A signed checkpoint of two weight files, with a folder."""
    folder = save(tmp_path / "model", llama(layers=1), shards=2)
    (folder / "docs").mkdir()
    (folder / "docs" / "card.md").write_text("A card.\n")
    sign_model(folder, elliptic_signer(key))
    return folder


def check(folder: Path, public: Path | None, **options: Any) -> Signed:
    found = check_model(
        open_checkpoint(str(folder)), str(folder), None if public is None else elliptic_key(public), **options
    )
    assert found is not None
    return found


def said(folder: Path, public: Path | None) -> list[str]:
    return [f"{flaw.name} {flaw.text}".strip() for flaw in check(folder, public).flaws]


# ------------------------------------------------------------------------------------------ what the package has signed


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    shutil.copytree(DATA / "signed", tmp_path / "signed")
    return tmp_path / "signed"


def test_a_signature_of_the_package_is_taken(foreign: Path) -> None:
    public = DATA / "signed.pub"
    found = check(foreign, public)
    assert (found.flaws, found.files, found.keyid) == ((), 3, elliptic_key(public).keyid)
    names = ("config.json", "model.safetensors", "tokens/README.md")
    digests = b"".join(hashlib.sha256((foreign / name).read_bytes()).digest() for name in names)
    assert found.root == hashlib.sha256(digests).hexdigest()
    assert check(foreign, None).keyid is None


def test_files_around_a_signature_of_the_package(foreign: Path) -> None:
    public = DATA / "signed.pub"
    (foreign / ".gitattributes").write_text("* -text\n")  # the signer left it out, and what lies in .git
    (foreign / ".git").mkdir()
    (foreign / ".git" / "HEAD").write_text("main\n")
    assert said(foreign, public) == []
    (foreign / "tokens" / "more.txt").write_text("")
    (foreign / "config.json").write_text('{"model_type": "gpt2"}\n')
    (foreign / "tokens" / "README.md").unlink()
    found = said(foreign, public)
    assert [line.partition(":")[0] for line in found] == [
        "tokens/more.txt is not listed",
        "tokens/README.md is listed and not there",
        "config.json is not the file that was signed",
    ]


# ------------------------------------------------------------------------------------------------------- ours, tampered


def test_ours_is_taken_and_its_order_is_the_packages(model: Path, key: Path) -> None:
    found = check(model, key.with_name("key.pem.pub"))
    assert (found.flaws, found.files) == ((), 5)
    (model / "docs-more").write_text("sorts after docs/, though '-' is less than '/'")
    (model / "model.sig").unlink()
    sign_model(model, elliptic_signer(key))
    names = list(read_manifest(read_bundle(model / "model.sig").payload).digests)
    assert names.index("docs/card.md") < names.index("docs-more")


def edit(change: Callable[[Any], None]) -> Callable[[Path, Path], None]:
    """A change of the bundle around the signed payload."""

    def tamper(folder: Path, key: Path) -> None:
        tree = json.loads((folder / "model.sig").read_bytes())
        change(tree)
        (folder / "model.sig").write_text(json.dumps(tree))

    return tamper


def resign(change: Callable[[Any], None]) -> Callable[[Path, Path], None]:
    """A change of the statement, signed again with the right key: what a careless or lying signer makes."""

    def tamper(folder: Path, key: Path) -> None:
        tree = json.loads(read_bundle(folder / "model.sig").payload)
        change(tree)
        (folder / "model.sig").write_bytes(make_bundle(json.dumps(tree).encode(), elliptic_signer(key)))

    return tamper


def rooted(change: Callable[[Any], None]) -> Callable[[Path, Path], None]:
    """The same, with the root digest of the changed list."""

    def both(tree: Any) -> None:
        change(tree)
        digests = b"".join(bytes.fromhex(row["digest"]) for row in tree["predicate"]["resources"])
        tree["subject"][0]["digest"]["sha256"] = hashlib.sha256(digests).hexdigest()

    return resign(both)


def without_weights(tree: Any) -> None:
    rows = tree["predicate"]["resources"]
    tree["predicate"]["resources"] = [row for row in rows if not row["name"].endswith(".safetensors")]
    tree["predicate"]["serialization"]["ignore_paths"] += [
        row["name"] for row in rows if row["name"].endswith(".safetensors")
    ]


def forge_payload(tree: Any) -> None:
    payload = base64.b64decode(tree["dsseEnvelope"]["payload"]).replace(b"docs/card.md", b"docs/cart.md")
    tree["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()


def flip(folder: Path, key: Path) -> None:
    path = folder / "model-00001-of-00002.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def link(folder: Path, key: Path) -> None:
    (folder / "docs" / "card.md").rename(folder / "docs" / "card.txt")
    (folder / "docs" / "card.md").symlink_to("card.txt")


def other_key(folder: Path, key: Path) -> None:
    (folder / "model.sig").unlink()
    sign_model(folder, elliptic_signer(make_key(key.with_name("other.pem"))))


def unnamed_key(folder: Path, key: Path) -> None:
    other_key(folder, key)
    edit(lambda tree: tree["verificationMaterial"]["publicKey"].clear())(folder, key)


TAMPERED: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "a bit of the weights": (flip, "model-00001-of-00002.safetensors is not the file that was signed: listed "),
    "a file more": (lambda folder, _: (folder / "x.py").touch(), "x.py is not listed: it came after the signature"),
    "a file less": (lambda folder, _: (folder / "docs" / "card.md").unlink(), "docs/card.md is listed and not there"),
    "a link in a file's place": (link, "docs/card.md is a link, and the signature allows none"),
    "a directory's link": (
        lambda folder, _: (folder / "more").symlink_to("docs", target_is_directory=True),
        "more is a link, and the signature allows none",
    ),
    "no signature": (lambda folder, _: (folder / "model.sig").unlink(), "there is no such file: it was deleted"),
    "another key": (other_key, "it is signed by another key ("),
    "another key, and no word of which": (
        unnamed_key,
        "its signature is not one of this key over this payload",
    ),
    "an edited list": (edit(forge_payload), "its signature is not one of this key over this payload"),
    "no signature in it": (edit(lambda tree: tree["dsseEnvelope"]["signatures"].clear()), "it has 0 signatures"),
    "two signatures": (
        edit(lambda tree: tree["dsseEnvelope"]["signatures"].append({"sig": ""})),
        "it has 2 signatures; a bundle has one",
    ),
    "another version of bundles": (
        edit(lambda tree: tree.update(mediaType="application/vnd.dev.sigstore.bundle+json;version=0.1")),
        "its media type is application/vnd.dev.sigstore.bundle+json;version=0.1",
    ),
    "another payload": (
        edit(lambda tree: tree["dsseEnvelope"].update(payloadType="text/plain")),
        "its payload is a text/plain",
    ),
    "a certificate": (
        edit(lambda tree: tree.update(verificationMaterial={"certificate": {"rawBytes": ""}})),
        "it is signed with a certificate, not by a key",
    ),
    "a chain of certificates": (
        edit(lambda tree: tree.update(verificationMaterial={"x509CertificateChain": {"certificates": []}})),
        "it is signed with a certificate, not by a key",
    ),
    "a signature with blanks in it": (
        edit(lambda tree: tree["dsseEnvelope"]["signatures"][0].update(sig=" AAAA")),
        "its sig is no base64",
    ),
    "another type of statement": (
        resign(lambda tree: tree.update(_type="https://in-toto.io/Statement/v0.1")),
        "its _type is https://in-toto.io/Statement/v0.1",
    ),
    "a pipe": (lambda folder, _: os.mkfifo(folder / "docs" / "pipe"), "docs/pipe is neither a file nor a directory"),
    "pieces without number": (
        rooted(lambda tree: tree["predicate"]["serialization"].update(method="shards", shard_size=1e-3)),
        "its shards have no size",
    ),
    "cut off": (
        lambda folder, _: (folder / "model.sig").write_bytes((folder / "model.sig").read_bytes()[:-9]),
        "no JSON (",
    ),
    "another statement": (
        resign(lambda tree: tree.update(predicateType="https://model_signing/Digests/v0.1")),
        "its predicateType is https://model_signing/Digests/v0.1",
    ),
    "another root": (
        resign(lambda tree: tree["subject"][0]["digest"].update(sha256="0" * 64)),
        "its root digest is ",
    ),
    "a list without its last file": (
        resign(lambda tree: tree["predicate"]["resources"].pop()),
        "its root digest is ",
    ),
    "a file twice": (
        rooted(lambda tree: tree["predicate"]["resources"].append(tree["predicate"]["resources"][0])),
        "it lists a file twice",
    ),
    "weights left out": (rooted(without_weights), "model-00001-of-00002.safetensors is read, and the signature leaves"),
    "everything left out": (
        rooted(
            lambda tree: tree["predicate"].update(
                resources=[], serialization=tree["predicate"]["serialization"] | {"ignore_paths": ["."]}
            )
        ),
        "config.json is read, and the signature leaves it out",
    ),
    "a digest that is not computed here": (
        resign(lambda tree: tree["predicate"]["serialization"].update(hash_type="blake3")),
        "its digests are blake3, which ckdiff does not compute",
    ),
    "algorithms that disagree": (
        resign(lambda tree: tree["predicate"]["resources"][0].update(algorithm="blake2b")),
        "its list says other algorithms than sha256",
    ),
    "no list of files": (
        resign(lambda tree: tree["predicate"]["serialization"].update(method="tensors")),
        "it lists tensors; ckdiff knows files and shards",
    ),
    "no statement": (
        lambda folder, key: (folder / "model.sig").write_bytes(make_bundle(b"[]", elliptic_signer(key))),
        "its payload is no statement about a model",
    ),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_what_was_tampered_with_is_refused_by_name(name: str, model: Path, key: Path) -> None:
    tamper, text = TAMPERED[name]
    tamper(model, key)
    found = said(model, key.with_name("key.pem.pub"))
    assert found
    assert found[0].startswith(text)


# ---------------------------------------------------------------------------------------------------------- other kinds


def as_pieces(tree: Any, folder: Path, size: int, algorithm: str) -> None:
    """A list of pieces in the place of files; of whole files where `size` is 0."""
    rows = []
    for row in tree["predicate"]["resources"]:
        content = (folder / row["name"]).read_bytes()
        for start in range(0, len(content), size or len(content)):
            part = content[start : start + (size or len(content))]
            name = f"{row['name']}:{start}:{start + len(part)}" if size else row["name"]
            said = f"{algorithm}-sharded-{size}" if size else algorithm
            rows.append({"name": name, "algorithm": said, "digest": hashlib.new(algorithm, part).hexdigest()})
    more = {"method": "shards" if size else "files", "hash_type": algorithm, "shard_size": float(size)}
    tree["predicate"] = {
        "resources": rows,
        "serialization": tree["predicate"]["serialization"] | more,
    }


@pytest.mark.parametrize(("size", "algorithm"), [(700, "blake2b"), (700, "sha256"), (0, "blake2b")])
def test_other_ways_to_list_files(size: int, algorithm: str, model: Path, key: Path) -> None:
    rooted(lambda tree: as_pieces(tree, model, size, algorithm))(model, key)
    known = {model / "model-00001-of-00002.safetensors": "0" * 64}  # of no piece, and by another algorithm
    found = check(model, key.with_name("key.pem.pub"), known=known)
    assert found.flaws == ()
    assert (found.files > 8) == (size > 0)


def test_pieces_of_files(model: Path, key: Path) -> None:
    public = key.with_name("key.pem.pub")
    rooted(lambda tree: as_pieces(tree, model, 700, "blake2b"))(model, key)
    with (model / "docs" / "card.md").open("a") as file:
        file.write("more")
    assert said(model, public) == [
        "docs/card.md:0:12 is not listed: it came after the signature",
        "docs/card.md:0:8 is listed and not there",
    ]
    flip(model, key)
    assert said(model, public)[-1].startswith("model-00001-of-00002.safetensors:")
    rooted(lambda tree: tree["predicate"]["serialization"].update(shard_size=0))(model, key)
    assert said(model, public) == ["its shards have no size"]


def test_a_million_pieces_are_too_many(model: Path, key: Path) -> None:
    (model / "large.bin").write_bytes(bytes(1_000_001))
    rooted(lambda tree: tree["predicate"]["serialization"].update(method="shards", shard_size=1))(model, key)
    assert said(model, key.with_name("key.pem.pub")) == ["its pieces are of 1 bytes, too small for large.bin"]


def test_a_signature_that_was_made_elsewhere_does_not_list_itself(model: Path, key: Path) -> None:
    resign(lambda tree: tree["predicate"]["serialization"].update(ignore_paths=[]))(model, key)
    assert said(model, key.with_name("key.pem.pub")) == []


def test_a_snapshot_of_the_hub_is_links_to_its_blobs(model: Path, key: Path, tmp_path: Path) -> None:
    """The signature allows no links, and these are the cache's own; the checkpoint is named by its id."""
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / ("0" * 40), tmp_path / "models--a--b" / "blobs"
    shutil.copytree(model, snapshot)
    blobs.mkdir()
    for number, path in enumerate(sorted(path for path in snapshot.rglob("*") if path.is_file())):
        path.rename(blobs / f"{number:040x}")
        path.symlink_to(blobs / f"{number:040x}")
    checkpoint = replace(open_checkpoint(str(snapshot)), location="a/b", revision="0" * 40)
    found = check_model(checkpoint, "a/b", elliptic_key(key.with_name("key.pem.pub")))
    assert found is not None
    assert (found.flaws, found.files) == ((), 5)
    (snapshot / "docs" / "card.md").unlink()
    (snapshot / "docs" / "card.md").symlink_to(model / "docs" / "card.md")
    found = check_model(checkpoint, "a/b", None)
    assert found is not None
    assert {flaw.name for flaw in found.flaws} == {"docs/card.md"}


def test_of_an_adapter_its_own_directory_is_signed(model: Path, key: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    sign_model(adapter, elliptic_signer(key))
    found = check_model(open_checkpoint(str(model)), str(adapter), elliptic_key(key.with_name("key.pem.pub")))
    assert found is not None
    assert (found.flaws, found.files) == ((), 1)


def test_links_count_where_the_signature_says_so(model: Path, key: Path) -> None:
    public = key.with_name("key.pem.pub")
    card = model / "docs" / "card.md"
    (model / ".git").mkdir()
    card.rename(model / ".git" / "blob")
    card.symlink_to("../.git/blob")
    resign(lambda tree: tree["predicate"]["serialization"].update(allow_symlinks=True))(model, key)
    assert said(model, public) == []
    card.unlink()
    card.symlink_to(key)
    assert said(model, public)[0] == "docs/card.md is a link, and the signature allows none"


def test_digests_that_are_known_are_not_computed_again(model: Path, key: Path) -> None:
    path = model / "model-00001-of-00002.safetensors"
    found = check(model, key.with_name("key.pem.pub"), known={path: "0" * 64})
    assert [flaw.name for flaw in found.flaws] == [path.name]


def test_no_signature_and_no_key_is_nothing(model: Path) -> None:
    (model / "model.sig").unlink()
    assert check_model(open_checkpoint(str(model)), str(model), None) is None


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()], ids=["P-384", "P-521"])
def test_other_curves(curve: ec.EllipticCurve, model: Path, tmp_path: Path) -> None:
    other = make_key(tmp_path / "other.pem", curve)
    (model / "model.sig").unlink()
    signed = sign_model(model, elliptic_signer(other))
    assert check(model, other.with_name("other.pem.pub")) == signed


def test_keys_of_other_kinds_are_refused(tmp_path: Path) -> None:
    new_key(tmp_path / "ed.pem")
    for read, name in ((elliptic_signer, "ed.pem"), (elliptic_key, "ed.pem.pub")):
        with pytest.raises(KeyFileError, match=r"a key of kind ed25519, which model signing does not know; .*p256"):
            read(tmp_path / name)


def test_signing_replaces_nothing_and_signs_no_links(model: Path, key: Path) -> None:
    with pytest.raises(CkdiffError, match=r"model\.sig: is there already"):
        sign_model(model, elliptic_signer(key))
    (model / "model.sig").unlink()
    (model / "link").symlink_to("config.json")
    with pytest.raises(CkdiffError, match="link is a link, and the signature allows none; take it away"):
        sign_model(model, elliptic_signer(key))
    assert not (model / "model.sig").exists()
    assert LEFT_OUT[0] == "model.sig"


# --------------------------------------------------------------------------------------------------------- at a shell


def test_verify_holds_models_against_their_signatures(scene: Scene) -> None:
    place, key = scene.root / "unlearned", make_key(scene.root / "vendor.pem")
    options = ("--unlearned", place, "--unlearned-key", scene.root / "vendor.pem.pub")
    status, out = scene.verify(*options)
    assert (status, "unlearned/model.sig: there is no such file: it was deleted, or nobody signed" in out) == (1, True)
    keyid = sign_model(place, elliptic_signer(key)).keyid
    sign_model(scene.root / "base", elliptic_signer(key))
    status, out = scene.verify_signed("--base", scene.root / "base", *options)
    assert (status, out.startswith("verified: ")) == (0, True)
    assert "base as its model.sig lists it, signer unproven (--base-key), " in out
    assert f"unlearned as its model.sig lists it, signed by {keyid}" in out
    (place / "payload.py").write_text("import os\n")
    status, out = scene.verify("--unlearned", place)
    assert (status, "model.sig: payload.py: is not listed: it came after the signature" in out) == (1, True)
    status, _, err = scene.call("verify", scene.root / "report.h5", "--base-key", scene.root / "vendor.pem.pub")
    assert (status, "--base-key: says who signed the base; give --base too" in err) == (2, True)


@pytest.fixture
def ours(scene: Scene) -> Path:
    new_key(scene.root / "p256.pem", "p256")
    return scene.root / "p256.pem"


def test_attest_signs_the_model_too_and_its_root_is_a_subject(scene: Scene, ours: Path) -> None:
    """Whole: sign, take into the attestation, verify; then a file more in the model, and another model's root."""
    (scene.root / "unlearned" / "report.h5").write_bytes((scene.root / "report.h5").read_bytes())
    report, public = scene.root / "unlearned" / "report.h5", ours.with_name("p256.pem.pub")
    options = ("--unlearned", scene.root / "unlearned")
    status, _, err = scene.call("attest", report, "--key", ours, *options, "--sign-model", "--bundle")
    assert status == 0, err
    signed = check(scene.root / "unlearned", public)
    assert signed.flaws == ()  # the report and its envelope lie there, and are left out
    assert f"model.sig made, {signed.files} files, root sha256 {signed.root}" in err
    bundle = read_bundle(report.with_name("report.h5.intoto.json"))
    subject = {"name": "unlearned", "digest": {"sha256": signed.root}}
    found = json.loads(bundle.payload)["subject"][-1]
    assert found == subject | {"annotations": {"signature": "https://model_signing/signature/v1.0"}}
    command = ("verify", report, "--key", public, *options, "--unlearned-key", public)
    status, out, _ = scene.call(*command)
    assert (status, out.startswith("verified: ")) == (0, True)
    # The root is believed where the model is not at hand.
    status, out, _ = scene.call("verify", report, "--key", public)
    assert (status, out.startswith("verified: ")) == (0, True)
    status, out, _ = scene.call(
        "verify", report, "--key", make_key(scene.root / "other.pem").with_name("other.pem.pub")
    )
    assert (status, "it is signed by another key (" in out) == (1, True)
    (scene.root / "unlearned" / "model.sig").unlink()
    (scene.root / "unlearned" / "more.txt").touch()
    sign_model(scene.root / "unlearned", elliptic_signer(ours), [Path("report.h5"), Path("report.h5.intoto.json")])
    status, out, _ = scene.call(*command)
    assert (status, f"root digest of the unlearned: stored {signed.root}, recomputed " in out) == (1, True)


def test_attest_takes_only_models_that_are_the_reports_and_as_signed(scene: Scene, ours: Path) -> None:
    base, unlearned = scene.root / "base", scene.root / "unlearned"
    command = ("attest", scene.root / "report.h5", "--key", ours)
    refused = {
        ("--base", base): "--base: has no model.sig",
        ("--base", unlearned): "model.safetensors: sha256: stored",
        ("--base", base, "--base-key", f"{ours}.pub"): "there is no such file: it was deleted",
        ("--sign-model",): "give --unlearned DIR",
        ("--unlearned", unlearned, "--sign-model", "--unlearned-key", f"{ours}.pub"): "a model is signed once",
        ("--unlearned", unlearned / "model.safetensors", "--sign-model"): "name that of the model",
        ("--unlearned-key", f"{ours}.pub"): "give --unlearned too",
        ("--key-type", "p256"): "give --new-key FILE",
    }
    for options, text in refused.items():
        status, _, err = scene.call(*command, *options)
        assert (status, text in err) == (2, True), err
    status, _, err = scene.call(*command[:3], scene.root / "ours.pem", "--sign-model", "--unlearned", unlearned)
    assert (status, "a key of kind ed25519, which model signing does not know" in err) == (2, True)
    sign_model(base, elliptic_signer(ours))
    status, _, err = scene.call(*command, "-o", base / "report.intoto.json")
    assert (status, "model.sig lists everything; name another" in err) == (2, True)
    shutil.copy(scene.sidecar, base / "listed.json")
    (base / "model.sig").unlink()
    sign_model(base, elliptic_signer(ours))
    status, _, err = scene.call(*command, "-o", base / "listed.json")
    assert (status, "model.sig lists everything; name another" in err) == (2, True)
    (base / "more.txt").touch()
    status, _, err = scene.call(*command, "--base", base)
    assert (status, "more.txt: is not listed" in err) == (2, True)
