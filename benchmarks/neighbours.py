"""Do the neighbours' own programs take what ckdiff writes, and refuse what was changed? `neighbours.py PYTHON`.

PYTHON is the interpreter of an environment apart from ckdiff's, with the packages `model-signing` (which needs
`pyOpenSSL`) and `cyclonedx-python-lib[json-validation]`. It prints a table: a row for each thing that was written,
signed or changed, with what the neighbour says and, of signatures, what ckdiff says. It ends with 1 where a neighbour
refuses what ckdiff writes, where ckdiff refuses what a neighbour writes, or where nobody refuses a change.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Row = tuple[str, str, str, bool]

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

TAKEN, REFUSED, NOT_ASKED = "accepted", "refused", ""

VALIDATE = """
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
check = JsonStrictValidator(SchemaVersion.V1_6)
for path in sys.argv[1:]:
    print("refused" if check.validate_str(open(path).read()) else "accepted")
"""


# -------------------------------------------------------------------------------------------------------- model signing


def signing(python: str, folder: Path) -> Iterator[Row]:
    """Signatures of ckdiff before the package, of the package before ckdiff, and every change before both."""
    from ckdiff.audit.models.bundle import elliptic_signer
    from ckdiff.audit.models.model import sign_model
    from tests.test_model_signing import TAMPERED, make_key

    key = make_key(folder / "key.pem")
    model = make_model(folder / "model")
    theirs = shutil.copytree(model, folder / "theirs")
    sign_model(model, elliptic_signer(key))
    rows = [("signed by ckdiff", ask_package(python, model, key), ask_ckdiff(model, key))]
    signed = [python, "-m", "model_signing", "sign", "key", str(theirs), "--private_key", str(key)]
    subprocess.run([*signed, "--signature", str(theirs / "model.sig")], check=True, capture_output=True)
    rows += [("signed by model-signing", ask_package(python, theirs, key), ask_ckdiff(theirs, key))]
    yield from ((*row, TAKEN in row and REFUSED not in row) for row in rows)
    for name, (tamper, _) in TAMPERED.items():
        copy = shutil.copytree(model, folder / "copy", symlinks=True)
        tamper(copy, key)
        package, own = ask_package(python, copy, key), ask_ckdiff(copy, key)
        yield f"changed: {name}", package, own, own == REFUSED
        shutil.rmtree(copy)


def make_model(folder: Path) -> Path:
    from tests.checkpoints import llama, save

    save(folder, llama(layers=1), shards=2)
    (folder / "docs").mkdir()
    (folder / "docs" / "card.md").write_text("A card.\n")
    return folder


def ask_package(python: str, model: Path, key: Path) -> str:
    signature, public = model / "model.sig", key.with_name(f"{key.name}.pub")
    options = ["--signature", str(signature), "--public_key", str(public)]
    command = [python, "-m", "model_signing", "verify", "key", str(model), *options]
    return REFUSED if subprocess.run(command, capture_output=True, check=False).returncode else TAKEN


def ask_ckdiff(model: Path, key: Path) -> str:
    from tests.test_model_signing import check

    return REFUSED if check(model, key.with_name(f"{key.name}.pub")).flaws else TAKEN


# ------------------------------------------------------------------------------------------------------------ CycloneDX


def _first_metric(tree: Any) -> dict[str, Any]:
    found: dict[str, Any] = tree["metadata"]["component"]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"][0]
    return found


CHANGES: dict[str, Callable[[Any], object]] = {
    "no format named": lambda tree: tree.pop("bomFormat"),
    "a serial number that is none": lambda tree: tree.update(serialNumber="urn:uuid:1"),
    "a model of no type": lambda tree: tree["metadata"]["component"].pop("type"),
    "a model without a name": lambda tree: tree["metadata"]["component"].pop("name"),
    "a hash that is none": lambda tree: tree["metadata"]["component"]["components"][0]["hashes"][0].update(content="0"),
    "an ancestor that is no component": lambda tree: tree["metadata"]["component"]["pedigree"].update(
        ancestors=["base"]
    ),
    "a figure that is a number": lambda tree: _first_metric(tree).update(value=0.5),
    "an interval with a third end": lambda tree: _first_metric(tree)["confidenceInterval"].update(middleBound="0"),
    "a conformance beyond all": lambda tree: tree["declarations"]["attestations"][0]["map"][0]["conformance"].update(
        score=2
    ),
    "a claim with a verdict of its own": lambda tree: tree["declarations"]["claims"][0].update(verdict="gone"),
    "evidence in one word": lambda tree: tree["declarations"].update(evidence="some"),
}


def bills(python: str, folder: Path) -> Iterator[Row]:
    """Bills of materials of every kind of report, and of changed ones."""
    from ckdiff.report.formats import say
    from tests.test_cyclonedx import ALL, FULL

    texts = {f"a report: {name}": str(say(found, "cyclonedx")) for name, found in ALL.items()}
    for name, change in CHANGES.items():
        tree = json.loads(str(say(FULL, "cyclonedx")))
        change(tree)
        texts[f"changed: {name}"] = json.dumps(tree)
    paths = [folder / f"{number}.json" for number in range(len(texts))]
    for path, text in zip(paths, texts.values(), strict=True):
        path.write_text(text)
    told = subprocess.run([python, "-c", VALIDATE, *map(str, paths)], check=True, capture_output=True, text=True)
    for name, said in zip(texts, told.stdout.split(), strict=True):
        yield name, said, NOT_ASKED, said == (REFUSED if name.startswith("changed") else TAKEN)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("python", metavar="PYTHON")
    python: str = parser.parse_args().python
    wrong = 0
    for kind, table in (("model-signing", signing), ("CycloneDX 1.6", bills)):
        with tempfile.TemporaryDirectory() as folder:
            print(f"\n{kind:46} {'neighbour':10} ckdiff")
            for name, neighbour, own, right in table(python, Path(folder)):
                print(f"{name:46} {neighbour:10} {own:10}{'' if right else ' WRONG'}", flush=True)
                wrong += not right
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
