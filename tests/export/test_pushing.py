"""`strop push` speaks to a hub on this machine; nothing uncertified leaves."""

import base64
import dataclasses
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from strop.core.errors import DataError
from strop.exporting.certify.certificate import EXACT, Certificate, digests
from strop.exporting.upload import push
from strop.metrics.divergence import Agreement


@pytest.fixture
def folder(tmp_path):
    """Return a folder with the certificate of an export that passed."""
    export = tmp_path / "merged"
    export.mkdir()
    (export / "config.json").write_text("{}")
    (export / "model.safetensors").write_bytes(b"weights")
    save_certificate(export, faults=())
    return export


def save_certificate(folder, faults):
    agreement = Agreement(**{field.name: 1.0 for field in dataclasses.fields(Agreement)})
    known = {
        "target": "merged",
        "format": "float32",
        "opened_by": "transformers",
        "agreement": agreement,
        "answers": 1,
        "same_answers": 1,
        "departures": (),
        "thresholds": EXACT,
        "faults": faults,
        "notes": (),
        "bases": {},
        "files": digests(folder),
    }
    rest = {field.name: None for field in dataclasses.fields(Certificate)}
    Certificate(**(rest | known)).save(folder)


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of a hub as an upload of small files needs."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        if self.headers.get("Authorization") != "Bearer a token":
            return self.respond(401, {"error": "who are you?"})
        if self.path == "/api/repos/create":
            self.server.created.update(json.loads(body))
            return self.respond(200, {"url": f"{self.server.address}/me/tone"})
        if self.path.startswith("/api/models/me/tone/preupload/"):
            listed = json.loads(body)["files"]
            files = [{**f, "uploadMode": "regular", "shouldIgnore": False} for f in listed]
            return self.respond(200, {"files": files})
        if self.path.startswith("/api/models/me/tone/commit/"):
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    self.server.files[line["value"]["path"]] = content
            url = f"{self.server.address}/me/tone/commit/1"
            return self.respond(200, {"success": True, "commitUrl": url, "commitOid": "1" * 40})
        return self.respond(404, {"error": self.path})

    def do_GET(self):
        self.respond(200, {"id": "me/tone", "sha": "0" * 40, "siblings": []})

    def respond(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.created, server.files = {}, {}
        server.address = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def pushed(hub, folder, tmp_path, *flags, token="a token"):
    """Run the command in a process of its own, whose hub is the one of this test."""
    hub_env = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    env = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}  # noqa: TID251
    if token:
        hub_env["HF_TOKEN"] = token
    command = [Path(sys.executable).with_name("strop"), "push", folder, "me/tone", *flags]
    done = subprocess.run(
        [*map(str, command), "--json"],
        env=env | hub_env,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, json.loads(done.stdout)


@pytest.mark.slow
def test_a_certified_folder_is_uploaded_whole_and_private(hub, folder, tmp_path):
    code, printed = pushed(hub, folder, tmp_path)
    assert code == 0, printed
    assert printed["commit"] == f"{hub.address}/me/tone/commit/1"
    assert sorted(hub.files) == ["certificate.json", "config.json", "model.safetensors"]
    assert hub.files["model.safetensors"] == b"weights"
    assert hub.created.get("private") is True or hub.created.get("visibility") == "private"


@pytest.mark.slow
def test_without_a_token_or_with_a_wrong_one_the_way_out_is_named(hub, folder, tmp_path):
    code, printed = pushed(hub, folder, tmp_path, token="")
    assert code == 1
    assert "needs a token" in printed["error"]
    assert "hf auth login" in printed["error"]
    code, printed = pushed(hub, folder, tmp_path, token="another")
    assert code == 1
    assert f"{hub.address} does not take" in printed["error"]
    assert not hub.files


def test_what_is_not_certified_is_not_pushed(folder, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    (other / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(DataError, match=r"model.safetensors was changed after it was certified"):
        push(other, "me/tone")
    save_certificate(other, faults=("it is transposed",))
    with pytest.raises(DataError, match="merged float32 is not certified: it is transposed"):
        push(other, "me/tone")
    (other / "certificate.json").unlink()
    with pytest.raises(DataError, match=r"has no certificate.json"):
        push(other, "me/tone")
