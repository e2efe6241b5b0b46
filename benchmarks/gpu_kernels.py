"""Record what every Triton kernel needs of every card, compiled for it without one.

Writes benchmarks/results/gpu/kernels.json: for each kernel and card the most any launch needs.
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
OPERATIONS = sorted(p.parent.name for p in (HERE.parent / "src/strop/ops").glob("*/triton.py"))
CARDS = ("sm_75", "sm_80", "sm_89", "sm_90", "sm_100", "gfx942")


def compiled() -> list[dict[str, Any]]:
    """Return a line for each kernel, card and launch."""
    words = ["-W", "ignore", "-m", "strop.core.simulated.fake_cuda", "strop.testing.gpu.launching"]
    words += [",".join(CARDS), *(f"strop.ops.{name}.launches" for name in OPERATIONS)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-4000:])
    return [json.loads(line) for line in done.stdout.splitlines()]


def main() -> None:
    """Compile everything and keep the largest needs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "gpu" / "kernels.json")
    out = parser.parse_args().out
    kernels: dict[str, dict[str, dict[str, int]]] = {}
    for line in compiled():
        most = kernels.setdefault(line["kernel"], {}).setdefault(line["card"], {})
        for need in ("registers", "spilled", "shared"):
            most[need] = max(most.get(need, 0), line[need])
    write_json(out, {"name": "kernels", "kernels": kernels, **circumstances("triton")})


if __name__ == "__main__":
    main()
