"""The processes in which kernels are interpreted and compiled; triton is never imported here."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
OPERATIONS = sorted(p.parent.name for p in (ROOT / "src/strop/ops").glob("*/triton.py"))
CARDS = (("sm_75", "sm_90", "sm_100"), ("sm_80", "sm_89", "gfx942"))
"""Cards by the process that compiles for them; both take about as long."""


def start(words: list[str], *, interpreted: bool) -> subprocess.Popen[str]:
    """Start Python with Triton interpreting kernels, or compiling them."""
    environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT))  # noqa: TID251
    environment.pop("TRITON_INTERPRET", None)
    if interpreted:
        environment["TRITON_INTERPRET"] = "1"
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def output(child: subprocess.Popen[str]) -> str:
    """Return what a process prints, which must succeed."""
    out, errors = child.communicate()
    assert child.returncode == 0, out[-4000:] + errors[-4000:]
    return out


def compiled(cards: tuple[str, ...], modules: list[str]) -> subprocess.Popen[str]:
    """Start compiling the launches of some modules for some cards."""
    module = "strop.testing.gpu.launching"
    words = ["-m", "strop.core.fake_cuda", module, ",".join(cards), *modules]
    return start(words, interpreted=False)


def kernels(child: subprocess.Popen[str]) -> list[dict[str, Any]]:
    """Return what `compiled` found of each kernel."""
    return [json.loads(line) for line in output(child).splitlines()]
