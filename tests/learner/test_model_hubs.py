"""Where models named by an id come from: Hugging Face's own client against a mirror on loopback, ModelScope's call."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import types
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from learner.engine.model_files import WANTED, resolve

ROOT = Path(__file__).resolve().parents[2]
SHA = "a" * 40
FILES = {
    "config.json": b'{"model_type": "qwen3"}',
    "model.safetensors": b"weights",
    "chat_template.jinja": b"{{ messages }}",
    "pytorch_model.bin": b"a pickle that nobody wants",
}


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's HTTP interface as a snapshot needs; remembers what it was asked for."""

    asked: list[str]

    def do_GET(self) -> None:
        self.answer(body=True)

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def answer(self, body: bool) -> None:
        path = self.path.split("?")[0]
        self.asked.append(path)
        if path.startswith("/api/models/owner/tiny/tree/"):
            rows = [{"type": "file", "path": n, "size": len(b), "oid": n} for n, b in FILES.items()]
            return self.send(json.dumps(rows).encode(), {}, body)
        if path.startswith("/api/models/owner/tiny"):
            info = {"id": "owner/tiny", "sha": SHA, "siblings": [{"rfilename": name} for name in FILES]}
            return self.send(json.dumps(info).encode(), {}, body)
        name = path.removeprefix(f"/owner/tiny/resolve/{SHA}/")
        if name not in FILES:
            return self.send_error(404)
        etag = hashlib.sha1(FILES[name]).hexdigest()
        return self.send(FILES[name], {"ETag": f'"{etag}"', "X-Repo-Commit": SHA}, body)

    def send(self, data: bytes, headers: dict[str, str], body: bool) -> None:
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub() -> Iterator[tuple[str, list[str]]]:
    """The mirror's address, and the paths that it was asked for."""
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Asked", (Hub,), {"asked": asked}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_mirror_named_by_hf_endpoint_gives_the_model(hub: tuple[str, list[str]], tmp_path: Path) -> None:
    address, asked = hub
    code = "from learner.engine.model_files import resolve; print(resolve('owner/tiny'))"
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("HF_") and "proxy" not in name.lower()
    }
    environment = {**kept, "HF_ENDPOINT": address, "HF_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr[-2000:]
    folder = Path(ran.stdout.strip().splitlines()[-1])
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        name: data for name, data in FILES.items() if not name.endswith(".bin")
    }
    assert asked
    assert not any(path.endswith(".bin") for path in asked)


def test_modelscope_is_asked_for_the_id_and_the_files_that_are_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The library is an extra: a stand-in with the signature of modelscope 1.40's snapshot_download."""
    asked: list[tuple[str | None, object]] = []

    def snapshot_download(
        model_id: str | None = None, revision: str | None = None, *, allow_patterns: object = None
    ) -> str:
        asked.append((model_id, allow_patterns))
        return str(tmp_path)

    library = types.ModuleType("modelscope")
    library.snapshot_download = snapshot_download  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "modelscope", library)
    assert resolve("modelscope:Qwen/Qwen3-0.6B") == tmp_path
    assert asked == [("Qwen/Qwen3-0.6B", WANTED)]
