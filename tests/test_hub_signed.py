"""A signed model of the hub: its signature is fetched with it, and what that lists where it is checked."""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.numpy import save_file

from ckdiff.audit.models.bundle import elliptic_key, elliptic_signer
from ckdiff.audit.models.model import check_model, sign_model
from ckdiff.audit.signing import new_key
from ckdiff.weights.opening import open_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {
    "config.json": b'{"model_type": "llama"}',
    "README.md": b"a model",
    "odd [1]*.txt": b"odd",
    "data/one.gguf": b"GGUF",
    "pytorch_model.bin": b"a pickle",
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, list[str]]]:
    """A folder that a hub on this machine gives away as org/name, and the files that were asked of it."""
    folder, asked = tmp_path / "given", list[str]()
    folder.mkdir()

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            place = unquote(urlsplit(self.path).path)
            _, _, name = place.partition(f"/resolve/{COMMIT}/")
            if name:
                asked.append(name)
            body = (folder / name).read_bytes() if name else json.dumps(listing("/tree/" in place)).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    def listing(tree: bool) -> object:
        names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
        if tree:
            sizes = {name: (folder / name).stat().st_size for name in names}
            return [{"type": "file", "path": name, "size": size, "oid": "0" * 40} for name, size in sizes.items()]
        return {"id": "org/name", "sha": COMMIT, "siblings": [{"rfilename": name} for name in names]}

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    end = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", end)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", end + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    yield folder, asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_signature_is_fetched_and_what_it_lists_where_it_is_checked(
    hub: tuple[Path, list[str]], tmp_path: Path
) -> None:
    folder, asked = hub
    save_file({"w": np.arange(4, dtype=np.float32)}, folder / "model.safetensors")
    for name, content in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    new_key(tmp_path / "key.pem", "p256")
    sign_model(folder, elliptic_signer(tmp_path / "key.pem"))
    (folder / "other.txt").write_text("came later, and nobody signed it")

    checkpoint = open_checkpoint("org/name")
    assert {"model.sig", "model.safetensors", "config.json"} == set(asked)
    found = check_model(checkpoint, "org/name", elliptic_key(tmp_path / "key.pem.pub"))
    assert found is not None
    # A pickle is never fetched, whoever lists it.
    assert [(flaw.name, flaw.text) for flaw in found.flaws] == [("pytorch_model.bin", "is listed and not there")]
    assert {"README.md", "odd [1]*.txt", "data/one.gguf"} <= set(asked)
    assert not {"pytorch_model.bin", "other.txt"} & set(asked)
