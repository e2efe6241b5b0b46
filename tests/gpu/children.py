"""The processes in which kernels are interpreted and compiled; triton is never imported here."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
OPERATIONS = sorted(p.parent.name for p in (ROOT / "src/strop/ops").glob("*/triton.py"))
CARDS = (("sm_90", "sm_100", "gfx942"), ("sm_75", "sm_80", "sm_89"))
"""Cards by the process that compiles for them; both take about as long."""


class Child:
    """A Python process that runs beside the others, Triton interpreting kernels or compiling them.

    What it prints goes to files: nobody reads the pipes of several at once.
    """

    def __init__(self, words: list[str], folder: Path, *, interpreted: bool = False) -> None:
        environment = dict(os.environ, OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT))  # noqa: TID251
        environment.pop("TRITON_INTERPRET", None)
        if interpreted:
            environment["TRITON_INTERPRET"] = "1"
        self.texts = folder / "printed", folder / "errors"
        with self.texts[0].open("w") as printed, self.texts[1].open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, *words], cwd=ROOT, env=environment, stdout=printed, stderr=errors
            )

    def output(self) -> str:
        """Return what it prints when it is done, which must be a success."""
        code = self.process.wait()
        printed, errors = (text.read_text() for text in self.texts)
        assert code == 0, printed[-4000:] + errors[-4000:]
        return printed

    def lines(self) -> list[dict[str, Any]]:
        """Return what it prints, a JSON object a line."""
        return [json.loads(line) for line in self.output().splitlines()]

    def kill(self) -> None:
        """End it, if it still runs."""
        self.process.kill()
        self.process.wait()


def compiling(cards: tuple[str, ...], modules: list[str], folder: Path) -> Child:
    """Start compiling the launches of some modules for some cards."""
    module = "strop.testing.gpu.launching"
    return Child(
        ["-m", "strop.core.simulated.fake_cuda", module, ",".join(cards), *modules], folder
    )
