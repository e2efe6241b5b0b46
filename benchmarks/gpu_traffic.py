"""Count what a decoder block launches and moves on a GPU: strop, eager PyTorch, torch.compile.

Needs no GPU; writes benchmarks/results/gpu/traffic.json.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from compare import circumstances

from strop.core.files import write_json

HERE = Path(__file__).parent
MODES = ("ours", "eager", "compiled")
FORMULAS = ("rms_norm", "rope", "glu", "block")


def counted(mode: str, formula: str) -> dict[str, int]:
    """Count one formula in a process of its own, which has the fake device."""
    words = ["-W", "ignore", "-m", "strop.core.simulated.fake_cuda", "traffic", mode, formula]
    done = subprocess.run(
        [sys.executable, *words], cwd=HERE, capture_output=True, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{mode} {formula} failed:\n{done.stderr[-4000:]}")
    counts: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return counts


def main() -> None:
    """Count every formula in every mode."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "gpu" / "traffic.json")
    out = parser.parse_args().out
    formulas: dict[str, dict[str, Any]] = {}
    for formula in FORMULAS:
        formulas[formula] = {mode: counted(mode, formula) for mode in MODES}
        print(formula, {mode: counts["bytes"] for mode, counts in formulas[formula].items()})
    write_json(out, {"name": "traffic", "formulas": formulas, **circumstances("triton")})


if __name__ == "__main__":
    main()
