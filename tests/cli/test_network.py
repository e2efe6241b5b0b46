"""Nothing is asked of the network, and no file of the folder one stands in runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny.saved import save_chats

KERNELS = """
import os

def get_kernel(*names, **options):
    with open(os.environ["ASKED"], "a") as file:
        print("kernel", names, file=file)
    raise RuntimeError("no kernel here")
"""
SOCKETS = """
import os, socket

connect = socket.socket.connect

def refused(self, address):
    if self.family == socket.AF_UNIX:
        return connect(self, address)
    with open(os.environ["ASKED"], "a") as file:
        print("connect", address, file=file)
    raise OSError("refused")

socket.socket.connect = refused
"""
pytestmark = pytest.mark.slow
SHADOWS = ("numpy", "queue", "tokenizers", "datasets", "types", "json", "strop")


@pytest.fixture
def place(tmp_path, tiny_model):
    """Make a folder with a stand-in for `kernels`, and modules that note when they are imported."""
    (tmp_path / "packages" / "kernels").mkdir(parents=True)
    (tmp_path / "packages" / "kernels" / "__init__.py").write_text(KERNELS)
    (tmp_path / "packages" / "sitecustomize.py").write_text(SOCKETS)
    stand = tmp_path / "stand"
    stand.mkdir()
    for name in SHADOWS:
        text = f"open({str(tmp_path / 'asked')!r}, 'a').write('{name} ran\\n')\n"
        (stand / f"{name}.py").write_text(text)
    save_chats(stand / "rows.jsonl", 12)
    return tmp_path


def strop(place, *words):
    names = {"ASKED": str(place / "asked"), "PYTHONPATH": str(place / "packages")}
    environment = os.environ | names  # noqa: TID251
    done = subprocess.run(
        [Path(sys.executable).parent / "strop", *words],
        cwd=place / "stand", env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_train_eval_and_export_ask_nobody_and_run_nothing_of_the_folder(place, tiny_model):
    settings = ("--max-steps", "1", "--bits", "32", "--held-out", "2", "--batch-size", "4")
    strop(place, "train", "rows.jsonl", "--model", str(tiny_model), "--out", "run", *settings)
    strop(place, "eval", "run", "rows.jsonl", "--limit", "4")
    strop(place, "export", "run", "--to", "adapter")
    assert not (place / "asked").exists(), (place / "asked").read_text()
